"""Checks of arguments: one line that names the argument, its value and what would be right."""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from numbers import Integral, Real
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import ArrayLike, NDArray


class ArgumentError(ValueError):
    """A value that a caller can put right.

    The command line prints the same sentence with the option's name in place of the argument's.

    Attributes
    ----------
    argument : str
        Name of the argument, as in the signature of the public function.
    value : object
        What was given.
    requirement : str
        What would be right, as the end of the sentence "argument=value: ...". There a string that
        reads as a number has quotes, since nothing else would be wrong with it.
    """

    def __init__(self, argument: str, value: object, requirement: str) -> None:
        self.argument = argument
        self.value = value
        self.requirement = requirement
        shown = repr(value) if _reads_as_number(value) else value
        super().__init__(f"{argument}={shorten(shown)}: {requirement}")

    def __reduce__(self) -> tuple[Any, ...]:
        # an exception that crosses a process pool is rebuilt from its constructor's arguments
        return type(self), (self.argument, self.value, self.requirement)


def _reads_as_number(value: object) -> bool:
    try:
        return isinstance(value, str) and math.isfinite(float(value))
    except ValueError:
        return False


def shorten(value: object) -> str:
    """A value on one line of at most 80 characters, for messages."""
    text = " ".join((value if isinstance(value, str) else repr(value)).split())
    return text if len(text) <= 80 else text[:77] + "..."


LARGEST_INTEGER = 2**53
"""Up to here float64 holds every whole number, so that none is changed in arithmetic or files."""


def integer(argument: str, value: object, minimum: int) -> int:
    """Return `value` as an int, or raise ArgumentError.

    It has to be a whole number from `minimum` to `LARGEST_INTEGER`.
    """
    if type(value) is int:  # the usual case, without the cost of an abstract base class
        number = value
    elif isinstance(value, Integral) and not isinstance(value, bool):
        number = int(value)
    else:
        number = minimum - 1
    if number < minimum:
        raise ArgumentError(argument, value, f"must be an integer of at least {minimum}")
    if number > LARGEST_INTEGER:
        raise ArgumentError(argument, value, f"must be at most {LARGEST_INTEGER}")
    return number


def real(
    argument: str,
    value: object,
    minimum: float = -math.inf,
    maximum: float = math.inf,
    *,
    exclusive: bool = False,
) -> float:
    """Return `value` as a finite float in [minimum, maximum], or raise ArgumentError.

    With `exclusive` the ends themselves are not allowed.
    """
    if type(value) is float:  # the usual case, without the cost of an abstract base class
        number = value
    elif isinstance(value, Real) and not isinstance(value, bool):
        try:
            number = float(value)
        except OverflowError:  # an integer beyond the largest float
            number = math.inf
    else:
        number = math.nan
    inside = minimum < number < maximum if exclusive else minimum <= number <= maximum
    if not (math.isfinite(number) and inside):
        if minimum == -math.inf and maximum == math.inf:
            requirement = "must be a finite number"
        elif maximum == math.inf:
            requirement = f"must be a finite number {'above' if exclusive else 'of at least'} "
            requirement += f"{minimum:g}"
        else:
            between = "strictly between" if exclusive else "from"
            requirement = f"must be a number {between} {minimum:g} {'and' if exclusive else 'to'} "
            requirement += f"{maximum:g}"
        raise ArgumentError(argument, value, requirement)
    return number


def choice(argument: str, value: object, allowed: Sequence[str]) -> str:
    """Return `value` if it is one of `allowed`, or raise ArgumentError that lists them."""
    if not isinstance(value, str) or value not in allowed:
        raise ArgumentError(argument, value, "must be one of " + ", ".join(allowed))
    return value


def finite_array(
    argument: str, value: ArrayLike, last_axis: int | None = None
) -> NDArray[np.float64]:
    """Return `value` as float64, C-contiguous, all finite, or raise ArgumentError.

    Its last axis has the length `last_axis`, if one is given. A masked array is refused, since
    what is masked would be used like the rest.
    """
    import numpy as np  # here, for the command line to start without it

    if isinstance(value, np.ma.MaskedArray):
        raise ArgumentError(argument, value, "must not be a masked array")
    try:
        array = np.asarray(value)
    except ValueError:  # ragged
        array = np.empty(0, dtype=object)
    if array.dtype.kind not in "fiu":
        raise ArgumentError(argument, value, "must be an array of real numbers")
    if last_axis is not None and array.shape[-1:] != (last_axis,):
        raise ArgumentError(
            argument, value, f"must have a last axis of length {last_axis}, not shape {array.shape}"
        )
    if not np.isfinite(array).all():
        raise ArgumentError(argument, value, "must be finite")
    return np.asarray(array, dtype=np.float64, order="C")


def check_memory(argument: str, value: object, n_bytes: float) -> None:
    """Raise ArgumentError if an argument asks for more memory than the machine has.

    Where the system does not say how much there is (Windows), nothing is refused.
    """
    if not hasattr(os, "sysconf"):
        return
    available = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    if n_bytes > available:
        takes, has = n_bytes / 1e9, available / 1e9
        raise ArgumentError(
            argument, value, f"takes about {takes:.3g} GB of memory, and this machine has {has:.3g}"
        )
