"""Vectors of LANES float64 for numba, called packs, for the nested-logit kernel.

A pack is an LLVM vector of LANES doubles. ``+ - * /`` act lane by lane and mix with numbers, so
that a formula for packs reads like the formula for numbers. The same kernel in plain numba, whose
loops are vectorised only where LLVM proves that they can be, was measured to be 2 to 2.6 times
slower.
"""

import math
import operator

from llvmlite import ir
from numba import njit, types
from numba.core import cgutils
from numba.extending import intrinsic, models, overload, register_model

LANES = 4
"""Doubles in a pack: one AVX2 register, half an AVX-512 one, two NEON ones."""

_DOUBLES = ir.VectorType(ir.DoubleType(), LANES)
_INTEGERS = ir.VectorType(ir.IntType(64), LANES)


class PackType(types.Type):
    """numba's type of a pack."""

    def __init__(self):
        super().__init__(name=f"Pack({LANES})")


pack = PackType()


@register_model(PackType)
class _PackModel(models.PrimitiveModel):
    def __init__(self, dmm, fe_type):
        super().__init__(dmm, fe_type, _DOUBLES)


def _constant(value, vector=_DOUBLES):
    return ir.Constant(vector, [value] * LANES)


def _as_doubles(context, builder, kind, value):
    """The LLVM vector of a pack, or of a number copied to every lane."""
    if isinstance(kind, PackType):
        return value
    number = context.cast(builder, value, kind, types.float64)
    zero = ir.Constant(ir.IntType(32), 0)
    first = builder.insert_element(ir.Constant(_DOUBLES, ir.Undefined), number, zero)
    everywhere = ir.Constant(ir.VectorType(ir.IntType(32), LANES), [0] * LANES)
    return builder.shuffle_vector(first, first, everywhere)


def _lanewise(emit, count):
    """A numba function of `count` packs or numbers that emits `emit(builder, *vectors)` as LLVM."""

    def lower(context, builder, signature, arguments):
        pairs = zip(signature.args, arguments, strict=True)
        return emit(builder, *(_as_doubles(context, builder, kind, x) for kind, x in pairs))

    if count == 1:

        @intrinsic
        def operation(typing_context, a):
            return pack(a), lower

    elif count == 2:

        @intrinsic
        def operation(typing_context, a, b):
            return pack(a, b), lower

    else:

        @intrinsic
        def operation(typing_context, a, b, c):
            return pack(a, b, c), lower

    return operation


def _call(name, argument_count):
    def emit(builder, *vectors):
        kind = ir.FunctionType(_DOUBLES, [_DOUBLES] * argument_count)
        function = cgutils.get_or_insert_function(builder.module, kind, f"llvm.{name}.v{LANES}f64")
        return builder.call(function, vectors)

    return emit


def _define_operator(python_operator, emit):
    implementation = _lanewise(emit, 2)

    @overload(python_operator)
    def _overload(a, b):
        packs = isinstance(a, PackType) + isinstance(b, PackType)
        numbers = isinstance(a, types.Number) + isinstance(b, types.Number)
        if packs and packs + numbers == 2:
            return lambda a, b: implementation(a, b)
        return None


_define_operator(operator.add, lambda builder, a, b: builder.fadd(a, b))
_define_operator(operator.sub, lambda builder, a, b: builder.fsub(a, b))
_define_operator(operator.mul, lambda builder, a, b: builder.fmul(a, b))
_define_operator(operator.truediv, lambda builder, a, b: builder.fdiv(a, b))

_negative = _lanewise(lambda builder, a: builder.fneg(a), 1)


@overload(operator.neg)
def _overload_negative(a):
    return (lambda a: _negative(a)) if isinstance(a, PackType) else None


splat = _lanewise(lambda builder, a: a, 1)
"""splat(number): the number in every lane."""

fma = _lanewise(_call("fma", 3), 3)
"""fma(a, b, c): a·b + c with one rounding."""

absolute = _lanewise(_call("fabs", 1), 1)
"""absolute(a): the magnitude of every lane."""


@intrinsic
def load(typing_context, array, row):
    """The pack ``array[row·LANES : (row + 1)·LANES]`` of a contiguous float64 array."""

    def lower(context, builder, signature, arguments):
        pointer = _row_pointer(context, builder, signature, arguments)
        return builder.load(pointer, align=8)

    return pack(array, types.intp), lower


@intrinsic
def store(typing_context, array, row, value):
    """Write a pack, or a number to every lane, to the place that `load` reads."""

    def lower(context, builder, signature, arguments):
        pointer = _row_pointer(context, builder, signature, arguments)
        value = _as_doubles(context, builder, signature.args[2], arguments[2])
        builder.store(value, pointer, align=8)
        return context.get_dummy_value()

    return types.void(array, types.intp, value), lower


def _row_pointer(context, builder, signature, arguments):
    data = context.make_array(signature.args[0])(context, builder, arguments[0]).data
    offset = builder.mul(arguments[1], ir.Constant(arguments[1].type, LANES))
    return builder.bitcast(builder.gep(data, [offset]), _DOUBLES.as_pointer())


@intrinsic
def counting(typing_context):
    """The pack 0, 1, …, LANES − 1."""

    def lower(context, builder, signature, arguments):
        return ir.Constant(_DOUBLES, [float(lane) for lane in range(LANES)])

    return pack(), lower


@intrinsic
def broadcast(typing_context, array, index):
    """``array[index]`` in every lane, for a contiguous float64 array and an index of at least 0."""

    def lower(context, builder, signature, arguments):
        data = context.make_array(signature.args[0])(context, builder, arguments[0]).data
        number = builder.load(builder.gep(data, [arguments[1]]))
        return _as_doubles(context, builder, types.float64, number)

    return pack(array, types.intp), lower


@intrinsic
def powers(typing_context, x):
    """The pack 1, x, …, x^(LANES − 1) of a number."""

    def lower(context, builder, signature, arguments):
        vector, power = _constant(1.0), arguments[0]
        for lane in range(1, LANES):
            vector = builder.insert_element(vector, power, ir.Constant(ir.IntType(32), lane))
            power = builder.fmul(power, arguments[0])
        return vector

    return pack(types.float64), lower


@intrinsic
def any_above(typing_context, a, b):
    """Whether `a` > `b` in any lane."""

    def lower(context, builder, signature, arguments):
        pairs = zip(signature.args, arguments, strict=True)
        a, b = (_as_doubles(context, builder, kind, x) for kind, x in pairs)
        bits = builder.bitcast(builder.fcmp_ordered(">", a, b), ir.IntType(LANES))
        return builder.icmp_unsigned("!=", bits, ir.Constant(ir.IntType(LANES), 0))

    return types.boolean(a, b), lower


@intrinsic
def where_above(typing_context, a, b, yes, no):
    """Lane by lane: `yes` where `a` > `b`, else `no`."""

    def lower(context, builder, signature, arguments):
        pairs = zip(signature.args, arguments, strict=True)
        a, b, yes, no = (_as_doubles(context, builder, kind, x) for kind, x in pairs)
        return builder.select(builder.fcmp_ordered(">", a, b), yes, no)

    return pack(a, b, yes, no), lower


def _move_down(builder, a, distance):
    """Move every lane down by `distance`; the last ones become zero."""
    lanes = [min(lane + distance, LANES) for lane in range(LANES)]  # LANES: first of the zeros
    indices = ir.Constant(ir.VectorType(ir.IntType(32), LANES), lanes)
    return builder.shuffle_vector(a, _constant(0.0), indices)


def _emit_suffix_sums(builder, a):
    distance = 1
    while distance < LANES:
        a = builder.fadd(a, _move_down(builder, a, distance))
        distance *= 2
    return a


def _emit_first(builder, a):
    indices = ir.Constant(ir.VectorType(ir.IntType(32), LANES), [0] * LANES)
    return builder.shuffle_vector(a, a, indices)


suffix_sums = _lanewise(_emit_suffix_sums, 1)
"""suffix_sums(a): lane i is the sum of lanes i, i + 1, … of `a`."""

after = _lanewise(lambda builder, a: _move_down(builder, a, 1), 1)
"""after(a): lane i is lane i + 1 of `a`; the last lane is zero."""

first = _lanewise(_emit_first, 1)
"""first(a): the first lane of `a` in every lane."""


@intrinsic
def total(typing_context, a):
    """Sum over the lanes as a number."""

    def lower(context, builder, signature, arguments):
        sums = _emit_suffix_sums(builder, arguments[0])
        return builder.extract_element(sums, ir.Constant(ir.IntType(32), 0))

    return types.float64(a), lower


# exp and log1p by argument reduction and a polynomial, without branches. The polynomials
# interpolate at Chebyshev nodes; each is given with its remainder. They are evaluated in Estrin's
# scheme, since Horner's is one chain of dependent multiply-adds.

_SHIFTER = 1.5 * 2.0**52  # adding it leaves the nearest integer in the low bits of the mantissa
_LOG2_E = 1.0 / math.log(2.0)
_LN2_HIGH = float.fromhex("0x1.62e42fee00000p-1")  # 33 bits, so that k·_LN2_HIGH is exact
_LN2_LOW = float.fromhex("0x1.a39ef35793c76p-33")  # ln 2 − _LN2_HIGH


def _emit_power_of_two(builder, shifted):
    bits = builder.shl(builder.bitcast(shifted, _INTEGERS), _constant(52, _INTEGERS))
    return builder.bitcast(builder.add(bits, builder.bitcast(_constant(1.0), _INTEGERS)), _DOUBLES)


_power_of_two = _lanewise(_emit_power_of_two, 1)
"""_power_of_two(k + _SHIFTER): 2**k for integers −1022 ≤ k ≤ 1023."""


@njit(forceinline=True)
def exp(x):
    """exp of every lane, to one unit in the last place, for −708 ≤ x ≤ 709 (not checked)."""
    shifted = fma(x, _LOG2_E, _SHIFTER)
    k = shifted - _SHIFTER
    r = fma(k, -_LN2_LOW, fma(k, -_LN2_HIGH, x))  # |r| ≤ ln(2)/2
    r2 = r * r
    r4 = r2 * r2
    # (exp(r) − 1 − r)/r² up to r⁹; remainder of exp(r) below 1.3e-17
    p01 = fma(r, 0.16666666666666669, 0.5000000000000001)
    p23 = fma(r, 0.008333333333330062, 0.04166666666662413)
    p45 = fma(r, 0.00019841269863053618, 0.0013888888917213717)
    p67 = fma(r, 2.7557268459997064e-06, 2.4801521295954376e-05)
    p89 = fma(r, 2.510038549551032e-08, 2.7620088445409746e-07)
    p03 = fma(r2, p23, p01)
    p49 = fma(r4, p89, fma(r2, p67, p45))
    return (fma(r2, fma(r4, p49, p03), r) + 1.0) * _power_of_two(shifted)


_SQRT_HALF_BITS = 0x3FE6A09E667F3BCD
_SHIFTER_BITS = 0x4338000000000000


def _exponent_bits(builder, u):
    bits = builder.sub(builder.bitcast(u, _INTEGERS), _constant(_SQRT_HALF_BITS, _INTEGERS))
    return builder.ashr(bits, _constant(52, _INTEGERS))


def _emit_exponent(builder, u):
    k = builder.add(_exponent_bits(builder, u), _constant(_SHIFTER_BITS, _INTEGERS))
    return builder.fsub(builder.bitcast(k, _DOUBLES), _constant(_SHIFTER))


def _emit_mantissa(builder, u):
    power = builder.shl(_exponent_bits(builder, u), _constant(52, _INTEGERS))
    return builder.bitcast(builder.sub(builder.bitcast(u, _INTEGERS), power), _DOUBLES)


_exponent = _lanewise(_emit_exponent, 1)
_mantissa = _lanewise(_emit_mantissa, 1)
"""u = _mantissa(u)·2**_exponent(u) with the mantissa in [√½, √2), for normal u > 0."""


@njit(forceinline=True)
def log1p(x):
    """log(1 + x) of every lane, to two units in the last place, for finite x ≥ 0 (not checked)."""
    u = x + 1.0
    lost = (x - (u - 1.0)) / u  # rounding error of 1 + x, relative
    k = _exponent(u)
    f = _mantissa(u) - 1.0
    s = f / (f + 2.0)  # log(1 + f) = 2 artanh(s), |s| ≤ 0.1716
    z = s * s
    z2 = z * z
    # (artanh(s)/s − 1)/z up to z⁶; remainder of artanh(s)/s below 4.6e-18
    p01 = fma(z, 0.19999999999949722, 0.3333333333333335)
    p23 = fma(z, 0.11111105565129939, 0.14285714313001635)
    p45 = fma(z, 0.07665855309105386, 0.09091444727837474)
    p46 = fma(z2, 0.07308292712444311, p45)
    p = fma(z2, fma(z2, p46, p23), p01)
    s2 = s + s
    return fma(k, _LN2_HIGH, s2 + fma(s2 * z, p, fma(k, _LN2_LOW, lost)))
