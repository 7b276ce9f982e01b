"""Evaluations behind an address: what an integrator needs of a landscape, whichever it is.

An evaluation is a C function

    void evaluate(const double *theta, const double *constants, int64_t want, double *work,
                  double *out)

of a point theta (p,) and a row of constants. It writes the loss (nats) to out[0], the gradient (for
a flow without a loss, minus the velocity) to out[1 … p] and the values of the events behind it; an
event is the fall of its value from above 0 to 0 or below. With want = 0 only out[1 … p] need be
written, with want = 1 everything. `work` is scratch of as many float64 as the landscape says. The
function is thread-safe and finite wherever the landscape is.

Source code becomes such a function here. Machine code is kept on disk, under the hash of all that
decides the source.
"""

import ctypes
import hashlib
import json
import math
import os
import platform
import tempfile
from contextlib import suppress
from functools import cache
from pathlib import Path
from threading import RLock

import llvmlite
import numba
import numpy as np
from llvmlite import binding, ir
from numba import carray, cfunc, njit, typeof, types
from numba.core.registry import cpu_target
from numba.core.runtime import rtsys
from numba.extending import intrinsic

from cliff.kernels import simd
from cliff.kernels.cache import _stamp, cache_directory
from cliff.kernels.simd import LANES, pack

_HERE = Path(__file__).parent
_pointer = types.CPointer(types.float64)
SIGNATURE = types.void(_pointer, _pointer, types.int64, _pointer, _pointer)


@intrinsic
def evaluate_at(typing_context, address, theta, constants, want, work, out):
    """Call the evaluation at `address` with pointers or contiguous arrays of float64."""

    def lower(context, builder, signature, arguments):
        data = []
        for kind, value in zip(signature.args[1:], arguments[1:], strict=True):
            if isinstance(kind, types.Array):
                value = context.make_array(kind)(context, builder, value).data
            elif isinstance(kind, types.Integer):
                value = context.cast(builder, value, kind, types.int64)
            data.append(value)
        function = ir.FunctionType(ir.VoidType(), [value.type for value in data])
        builder.call(builder.inttoptr(arguments[0], function.as_pointer()), data)
        return context.get_dummy_value()

    return types.void(types.intp, theta, constants, want, work, out), lower


@intrinsic
def advanced(typing_context, pointer, count):
    """The pointer `count` entries further on."""

    def lower(context, builder, signature, arguments):
        return builder.gep(arguments[0], [arguments[1]])

    return pointer(pointer, types.intp), lower


def _rows(address, theta, constants, want, work, out, m, p, n_out):
    for k in range(m):
        evaluate_at(
            address, advanced(theta, k * p), constants, want, work, advanced(out, k * n_out)
        )


def evaluate_rows(address, theta, constants, want, n_work, out):
    """Evaluate theta (m, p) at one row of constants into out (m, …), all contiguous float64.

    Called through ctypes, which lets go of the interpreter's lock. numba's own way to call a
    function takes it half a second to get ready for in every process.
    """
    work = np.empty(n_work)
    arrays = (array.ctypes.data for array in (theta, constants, work, out))
    theta_at, constants_at, work_at, out_at = arrays
    sizes = (*theta.shape, out.shape[1])
    _c_rows()(address, theta_at, constants_at, want, work_at, out_at, *sizes)


@cache
def _c_rows():
    integer, data = ctypes.c_int64, ctypes.c_void_p
    signature = types.void(types.intp, *SIGNATURE.args, types.int64, types.int64, types.int64)
    address = address_of_kernel(_rows, signature)
    kinds = [integer, data, data, integer, data, data, integer, integer, integer]
    return ctypes.CFUNCTYPE(None, *kinds)(address)


# ---- the names that generated code uses, for numbers and for packs -------------------------------


def _memory(number, vector):
    """Intrinsics that read and write entry i of a pointer: a float64, or LANES of them."""

    def entry_of(context, builder, pointer, index):
        if vector is None:
            return builder.gep(pointer, [index])
        lanes = builder.mul(index, ir.Constant(index.type, LANES))
        return builder.bitcast(builder.gep(pointer, [lanes]), vector.as_pointer())

    @intrinsic
    def load(typing_context, pointer, index):
        def lower(context, builder, signature, arguments):
            return builder.load(entry_of(context, builder, *arguments), align=8)

        return number(pointer, types.intp), lower

    @intrinsic
    def store(typing_context, pointer, index, value):
        def lower(context, builder, signature, arguments):
            pointer, index, value = arguments
            kind = signature.args[2]
            if vector is None:
                value = context.cast(builder, value, kind, types.float64)
            else:
                value = simd._as_doubles(context, builder, kind, value)
            builder.store(value, entry_of(context, builder, pointer, index), align=8)
            return context.get_dummy_value()

        return types.void(pointer, types.intp, value), lower

    return {"load": load, "store": store}


@intrinsic
def _where_above(typing_context, a, b, yes, no):
    def lower(context, builder, signature, arguments):
        a, b, yes, no = (
            context.cast(builder, value, kind, types.float64)
            for kind, value in zip(signature.args, arguments, strict=True)
        )
        return builder.select(builder.fcmp_ordered(">", a, b), yes, no)

    return types.float64(a, b, yes, no), lower


_MATH = [
    *("exp", "log", "log1p", "sqrt", "sin", "cos", "tan", "asin", "acos", "atan"),
    *("sinh", "cosh", "tanh", "asinh", "acosh", "atanh", "erf", "erfc"),
]

NUMBERS = {
    **_memory(types.float64, None),
    **{name: getattr(math, name) for name in _MATH},
    "pow": math.pow,
    "absolute": math.fabs,
    "where_above": _where_above,
    "nan": math.nan,
    "inf": math.inf,
    "array": np.array,
}
"""For numbers: theta, constants and out are rows of float64."""


@intrinsic
def _lane(typing_context, a, index):
    def lower(context, builder, signature, arguments):
        return builder.extract_element(arguments[0], arguments[1])

    return types.float64(pack, types.intp), lower


@intrinsic
def _with_lane(typing_context, a, index, value):
    def lower(context, builder, signature, arguments):
        a, index, value = arguments
        return builder.insert_element(a, value, index)

    return pack(pack, types.intp, types.float64), lower


def _lane_by_lane(function):
    @njit
    def of_pack(a):
        result = a
        for lane in range(LANES):
            result = _with_lane(result, lane, function(_lane(a, lane)))
        return result

    return of_pack


@njit
def _pack_exp(x):
    """exp of every lane, for any x: below −708 the smallest number that the kernel gives."""
    clamped = simd.where_above(x, 709.0, 709.0, simd.where_above(-708.0, x, -708.0, x))
    return simd.where_above(x, 709.0, math.inf, simd.exp(clamped))


@njit
def _pack_pow(a, b):
    base, exponent = simd.splat(a), simd.splat(b)
    result = base
    for lane in range(LANES):
        result = _with_lane(result, lane, math.pow(_lane(base, lane), _lane(exponent, lane)))
    return result


PACKS = {
    **_memory(pack, simd._DOUBLES),
    **{name: _lane_by_lane(getattr(math, name)) for name in _MATH},
    "exp": _pack_exp,
    "log1p": simd.log1p,
    "sqrt": simd._lanewise(simd._call("sqrt", 1), 1),
    "pow": _pack_pow,
    "absolute": simd.absolute,
    "where_above": simd.where_above,
    "nan": math.nan,
    "inf": math.inf,
    "array": np.array,
}
"""For packs: theta is (p, LANES), and so are the constants and out, LANES points at a time."""


# ---- from source to an address -------------------------------------------------------------------

_lock = RLock()
_loaded: dict = {}  # key → the owner of the machine code, and its address


def address_of(key, source, names=NUMBERS):
    """Address of a C function ``evaluate``, compiled at most once for a key.

    Parameters
    ----------
    key : str
        All that decides the source.
    source : callable
        Gives the source; called only if the machine code is not on disk.
    names : dict
        `NUMBERS`, or `PACKS` for a function of LANES points at a time.
    """

    def compiled():
        scope = dict(names)
        exec(compile(source(), "<landscape>", "exec"), scope)  # printed from expressions, not read
        return cfunc(SIGNATURE, error_model="numpy")(scope["evaluate"])

    return _address_of(f"{names is PACKS} {key} {_stamp(_HERE)}", compiled)


@cache
def address_of_kernel(function, signature=SIGNATURE):
    """Address of a function of the kernels, compiled to a C function and kept on disk."""
    key = f"{function.__module__}.{function.__name__} {_stamp(_HERE)}"
    return _address_of(key, lambda: cfunc(signature)(function))


def address_of_functions(functions, p, n_constants, first, then):
    """Address of a C function ``evaluate`` made of functions of (theta, *constants).

    Each function gets a copy of theta. Where one of them raises, all of out becomes NaN.

    Parameters
    ----------
    functions : dict of str to callable
        Compiled by numba or to be so, of values of the right depth; see `depth_of_value`.
    p, n_constants : int
        Lengths of theta and of the row of constants.
    first, then : dict of int to (str, tuple of int)
        Which function, and which entry of its value, each entry of out is; `then` is left out with
        want = 0.

    Raises
    ------
    numba.core.errors.NumbaError
        If a function returns a tuple of fewer entries.
    """
    names = list(dict.fromkeys(name for name, _ in (*first.values(), *then.values())))
    arguments = ", ".join(["point.copy()", *(f"constants[{i}]" for i in range(n_constants))])
    lines = ["def write(point, constants, want, out):"]
    for rows in (first, then):
        lines += ["if want == 0:\n        return"] if rows is then else []
        for name in dict.fromkeys(name for name, _ in rows.values()):
            lines.append(f"value{names.index(name)} = function{names.index(name)}({arguments})")
        for row, (name, entry) in rows.items():
            value = f"value{names.index(name)}"
            enough = []  # an array may turn out to be too short
            for i in entry:
                enough.append(f"len({value}) > {i}")
                value += f"[{i}]"
            guard = f" if {' and '.join(enough)} else nan" if enough else ""
            lines.append(f"out[{row}] = {value}{guard}")
    source, n_out = "\n    ".join(lines), len(first) + len(then)
    with _lock:
        key = (source, p, *(functions[name] for name in names))
        if key not in _loaded:
            scope = {"nan": math.nan}
            scope |= {f"function{i}": _jitted(functions[name]) for i, name in enumerate(names)}
            exec(compile(source, "<landscape>", "exec"), scope)
            write = njit(error_model="numpy")(scope["write"])

            def evaluate(theta, constants, want, work, out):
                try:
                    write(carray(theta, p), constants, want, out)
                except Exception:
                    for i in range(n_out):
                        out[i] = math.nan

            compiled = cfunc(SIGNATURE, error_model="numpy")(evaluate)
            _loaded[key] = compiled, compiled.address
        return _loaded[key][1]


def depth_of_value(function, n_constants):
    """How many indices a function's value has before it is a real number; None if it never is.

    The function is one of (theta, *constants).

    Raises
    ------
    Exception
        If it does not compile: as a rule, but not always, a NumbaError.
    """
    kinds = types.Array(types.float64, 1, "C"), *(types.float64,) * n_constants
    resolve = cpu_target.typing_context.resolve_function_type
    return _depth(resolve(typeof(_jitted(function)), kinds, {}).return_type)


def _depth(kind):
    kind = types.unliteral(kind)
    if isinstance(kind, types.Integer | types.Float | types.Boolean):
        return 0
    if isinstance(kind, types.Optional):  # a None raises
        return _depth(kind.type)
    depths = {None}
    if isinstance(kind, types.Array):
        return None if _depth(kind.dtype) is None else kind.ndim
    if isinstance(kind, types.BaseTuple):
        depths = {_depth(entry) for entry in kind}
    elif isinstance(kind, types.List):
        depths = {_depth(kind.dtype)}
    (depth,) = depths if len(depths) == 1 else (None,)
    return None if depth is None else 1 + depth


@cache
def _jitted(function):
    return function if hasattr(function, "py_func") else njit(error_model="numpy")(function)


def _address_of(key, compiled):
    with _lock:
        if key not in _loaded:
            found = _from_disk(key)
            if found is None:
                function = compiled()
                found = function._library, function.address
                _to_disk(key, function)
            _loaded[key] = found
        return _loaded[key][1]


@cache
def _machine():
    """What machine code is good for besides its source."""
    features = binding.get_host_cpu_features().flatten()
    versions = platform.python_version(), numba.__version__, llvmlite.__version__
    return f"{versions} {binding.get_host_cpu_name()} {features}"


def _path(key):
    directory = cache_directory()
    name = hashlib.sha256(f"{key} {_machine()}".encode()).hexdigest()
    return directory and directory / f"landscape-{name[:40]}.bin"


def _to_disk(key, function):
    """Write hash, header and machine code, or nothing where there is no room."""
    path = _path(key)
    if path is None:
        return
    name, kind, parts = function._library.serialize_using_object_code()
    symbol, lengths = function._wrapper_name, [len(part) for part in parts]
    header = json.dumps([name, kind, symbol, lengths]).encode()
    content = b"\n".join([header, b"".join(parts)])
    with suppress(OSError):
        handle, temporary = tempfile.mkstemp(prefix=".landscape-", dir=path.parent)
        try:
            with os.fdopen(handle, "wb") as file:
                file.write(hashlib.sha256(content).digest() + content)
            os.replace(temporary, path)
        except OSError:
            os.unlink(temporary)
            raise


def _from_disk(key):
    path = _path(key)
    try:
        stored = path.read_bytes()
    except (OSError, AttributeError):
        return None
    digest, content = stored[:32], stored[32:]
    if hashlib.sha256(content).digest() != digest:  # truncated
        return None
    header, _, body = content.partition(b"\n")
    name, kind, symbol, (length, _) = json.loads(header)
    code = name, kind, (body[:length], body[length:])
    rtsys.initialize(cpu_target.target_context)  # defines symbols that machine code may refer to
    library = cpu_target.target_context.codegen().unserialize_library(code)
    return library, library.get_pointer_to_function(symbol)
