"""Mobilities: how fast each logit follows the gradient, as numbers or as a function of theta."""

from __future__ import annotations

import ctypes
import inspect
from collections.abc import Callable
from copy import copy
from dataclasses import dataclass
from functools import lru_cache
from numbers import Number
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from cliff.checks import ArgumentError, finite_array
from cliff.kernels.integrate import compile_mobility
from cliff.protocol import LandscapeLike

Array = NDArray[np.float64]
Mobility = ArrayLike | Callable[..., Any]

UNIT_MOBILITIES = (1, 1, 1)
"""The default: 1 for every component of theta, a free label bias included."""

COMPARED = 16
"""Starts of an ensemble at which a compiled function is compared with the Python function."""


class MobilityError(ArithmeticError):
    """A mobility function raised, or returned what is not a mobility; the message says where."""


@dataclass(frozen=True)
class Mobilities:
    """Mobilities of a flow or an ensemble, checked.

    Attributes
    ----------
    model : LandscapeLike
    constants : ndarray, shape (m, p) or (1, p)
        Constant mobilities.
    arguments : ndarray, shape (m, k) or (1, k)
        Further arguments of the function.
    function : callable or None
        The function of theta and its arguments that takes the place of the constants.
    compiled : compiled C function or None
        The same for the kernels.
    settings : dict
        Both, as they are written to a file.
    """

    model: LandscapeLike
    constants: Array
    arguments: Array
    function: Callable[..., Any] | None
    compiled: Any
    settings: dict[str, Any]

    @classmethod
    def check(
        cls, model: LandscapeLike, mobility: Mobility, arguments: ArrayLike, starts: Array
    ) -> Mobilities:
        """Check the mobility of a flow from starts (p,), or of an ensemble from starts (m, p).

        Raises
        ------
        ArgumentError
            If constants are negative or of another shape, if a function does not compile, does not
            return p finite numbers of at least 0 at the start, or has frozen a global variable.
        """
        p = model.n_parameters
        if callable(mobility):
            rows = finite_array("mobility_args", arguments)
            _check_rows("mobility_args", rows, starts)
            function = getattr(mobility, "py_func", mobility)
            name = getattr(function, "__name__", repr(function))
            settings = {"mobility": f"function {name}", "mobility_args": rows.tolist()}
            rows = np.atleast_2d(rows)
            compiled = _compile_as_python(name, mobility, function, p, rows, starts)
            return cls(model, np.zeros((1, p)), rows, function, compiled, settings)
        if np.asarray(arguments).size:  # several times as fast as np.size
            raise ArgumentError("mobility_args", arguments, "needs a mobility that is a function")
        if isinstance(mobility, tuple) and mobility == UNIT_MOBILITIES:
            values = np.ones(p)
        else:
            values = finite_array("mobility", mobility, p)
            _check_rows("mobility", values, starts)
            if not _valid(values, p):
                raise ArgumentError("mobility", mobility, _REQUIREMENT.format(p))
        settings = {"mobility": values.tolist()}
        return cls(model, values.reshape(-1, p), np.zeros((1, 0)), None, None, settings)

    @property
    def address(self) -> int:
        """Address of the compiled function, or 0 for constant mobilities."""
        return 0 if self.compiled is None else int(self.compiled.address)

    def at(self, theta: Array) -> Array:
        """Mobilities (p,) at theta (p,) of a flow, as the compiled loop gets them.

        Raises
        ------
        MobilityError
            If the function raises there, or returns what is not a mobility.
        """
        if self.compiled is None:
            return self.constants[0]
        values = _call(self.compiled, theta, self.arguments[0])
        if np.isnan(values).any():
            raise MobilityError(self.reason(theta))
        return values

    def reason(self, theta: Array, index: int = 0) -> str:
        """What the function does at theta (p,) where it fails, in one line."""
        assert self.function is not None
        names = zip(self.model.parameter_names, theta, strict=False)
        place = ", ".join(f"{name} = {value:.6g}" for name, value in names)
        try:
            values = self.function(theta.copy(), *self.arguments[index % len(self.arguments)])
            shown = "(" + ", ".join(f"{float(value):.6g}" for value in values) + ")"
        except Exception as error:
            return f"the mobility raises {type(error).__name__} at {place}: {_first_line(error)}"
        return f"the mobility is {shown} at {place}"


_REQUIREMENT = "must be {} finite numbers of at least 0"


def _valid(values: Array, p: int) -> bool:
    finite = values.shape[-1:] == (p,) and np.isfinite(values).all()
    return bool(finite and (values >= 0.0).all())


def _check_rows(argument: str, values: Array, starts: Array) -> None:
    """Raise ArgumentError unless there is one row for all starts, or one for each."""
    if values.ndim == 0 or values.shape[:-1] not in ((), starts.shape[:-1]):
        raise ArgumentError(argument, values.shape, "must have one row, or one for each start")


def _compile_as_python(
    name: str,
    mobility: Callable[..., Any],
    function: Callable[..., Any],
    p: int,
    arguments: Array,
    starts: Array,
) -> Any:
    """The compiled function, if it does what the Python function does at the starts."""
    if not starts.size:
        return _compile(mobility, p, arguments.shape[1])[0]
    points = np.atleast_2d(starts)
    chosen = np.unique(np.linspace(0, len(points) - 1, COMPARED).astype(int))
    rows = arguments[chosen % len(arguments)]
    given = points[chosen].copy()
    given.flags.writeable = False
    try:
        expected = np.array(
            [function(*pair, *row) for pair, row in zip(given[:, None], rows, strict=True)], float
        )
    except Exception as error:
        kind = type(error).__name__
        raise ArgumentError(
            "mobility", name, f"raises {kind} at the start: {_first_line(error)}"
        ) from error
    if not _valid(expected, p):
        raise ArgumentError("mobility", name, _REQUIREMENT.format(p))
    try:
        compiled, frozen = _compile(mobility, p, arguments.shape[1])
    except Exception as error:
        raise ArgumentError("mobility", name, f"must compile: {_first_line(error)}") from error
    found = np.array([_call(compiled, *pair) for pair in zip(given, rows, strict=True)])
    read = _variables(function)
    same = all(_same(frozen[key], read[key]) for key in frozen.keys() & read.keys())
    if not same or not np.allclose(found, expected, rtol=1e-9, atol=0.0):
        raise ArgumentError(
            "mobility",
            name,
            "was compiled with other values of its global variables: pass them as mobility_args",
        )
    return compiled


@lru_cache(maxsize=32)
def _compile(mobility: Callable[..., Any], p: int, n_arguments: int) -> tuple[Any, dict[str, Any]]:
    """The compiled function, and the variables whose values numba has compiled into it."""
    frozen = _variables(getattr(mobility, "py_func", mobility))
    return compile_mobility(mobility, p, n_arguments), frozen


def _variables(function: Any, path: str = "") -> dict[str, Any]:
    """Values outside a function that it, or a function that it calls, reads, by name."""
    function = getattr(function, "py_func", function)
    if not inspect.isfunction(function) or path.count(".") > 8:  # functions that call each other
        return {}
    found = inspect.getclosurevars(function)
    variables: dict[str, Any] = {}
    for name, value in {**found.globals, **found.nonlocals}.items():
        if isinstance(value, _FROZEN):
            variables[path + name] = copy(value)
        elif inspect.ismodule(value):
            read = {entry: getattr(value, entry, None) for entry in function.__code__.co_names}
            constants = {entry: v for entry, v in read.items() if isinstance(v, _FROZEN)}
            variables |= {f"{path}{name}.{entry}": copy(v) for entry, v in constants.items()}
        else:
            variables |= _variables(value, f"{path}{name}.")
    return variables


_FROZEN = (Number, np.ndarray, tuple, str)
"""Kinds of variables whose values numba compiles into a function."""


def _same(one: Any, other: Any) -> bool:
    """Whether two values are equal, entry by entry, NaN to NaN."""
    try:
        np.testing.assert_equal(one, other)
    except AssertionError:
        return False
    return True


def _call(compiled: Any, theta: Array, arguments: Array) -> Array:
    """The p mobilities from the compiled function, NaN where it fails."""
    values = np.empty(2 * len(theta))
    pointer = ctypes.POINTER(ctypes.c_double)
    arrays = np.ascontiguousarray(theta), np.ascontiguousarray(arguments), values
    compiled.ctypes(*(array.ctypes.data_as(pointer) for array in arrays))
    return values[: len(theta)]


def _first_line(error: Exception) -> str:
    """The first line of a message that says something: numba begins with where it failed."""
    lines = [line.strip() for line in str(error).splitlines()]
    return next((line for line in lines if line and not line.startswith("Failed in")), "")
