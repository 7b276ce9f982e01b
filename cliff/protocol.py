"""What the flow, and everything that is built on it, needs of a landscape."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from cliff.checks import LARGEST_INTEGER, ArgumentError, finite_array
from cliff.presentation import PresentedLike

Array = NDArray[np.float64]
Number = int | float

LEVELS = (0.9, 0.5, 0.1)
"""Multiples of a landscape's plateau. The fall of the loss to each is a built-in event."""

FALL = ("fall_begins", "fall", "fall_ends")
"""Names of the built-in events, in the order of `LEVELS`."""


class LandscapeLike(PresentedLike, Protocol):
    """A landscape: a loss, or a velocity, of p named parameters with named constants.

    To add a landscape, write these; a class that inherits `cliff.presentation.Presented` has how it
    is shown and swept. `cliff.landscape.Landscape` has them for whatever can be stated
    in SymPy, `cliff.NestedLogit` for a kernel of its own. A landscape is immutable, can be hashed
    and pickled, and is equal to another one if it is the same function with the same constants.

    Attributes
    ----------
    parameter_names : tuple of str
        Names of the components of theta, in order.
    n_parameters : int
        Their number p.
    constants : mapping of str to number
        Constants, which may differ between the trajectories of an ensemble and be swept.
    constants_row : ndarray, shape (C,)
        The constants, and whatever else is fixed, as a row for the evaluation.
    plateau : float or None
        Loss at which a flow waits before it falls (nats). Where it is a positive number, the
        landscape has the built-in events `FALL`.
    event_names : tuple of str
        The landscape's own events, in the order of their entries in the evaluation. One that is
        named as a built-in event takes its place.
    address : int
        Address of the evaluation of one point; see `cliff.kernels.generated`.
    pack_address : int
        Address of the evaluation of LANES points, or 0: ensembles then step one trajectory at a
        time.
    n_out : int
        Entries that the evaluation writes, at least 1 + p + events.
    labels : mapping of str to str
        How a picture writes the name of a parameter or constant; those that are missing are written
        as they are.
    default_slice : tuple of str
        The two parameters over which a picture shows the loss.
    reference_losses : mapping of str to float
        Losses that a picture marks, by label (nats).
    valley_names : tuple of str
        Names behind the labels of `identify`; () if the landscape names none.
    has_loss : bool
        False for a velocity that is no gradient: losses are NaN then.
    has_hessian : bool
        Whether `hessian` is worth its cost to a stiff solver, which takes differences otherwise.
    """

    @property
    def parameter_names(self) -> tuple[str, ...]: ...
    @property
    def n_parameters(self) -> int: ...
    @property
    def constants(self) -> Mapping[str, Number]: ...
    @property
    def constants_row(self) -> Array: ...
    @property
    def plateau(self) -> float | None: ...
    @property
    def event_names(self) -> tuple[str, ...]: ...
    @property
    def address(self) -> int: ...
    @property
    def pack_address(self) -> int: ...
    @property
    def n_out(self) -> int: ...
    @property
    def labels(self) -> Mapping[str, str]: ...
    @property
    def default_slice(self) -> tuple[str, str]: ...
    @property
    def reference_losses(self) -> Mapping[str, float]: ...
    @property
    def valley_names(self) -> tuple[str, ...]: ...
    @property
    def has_loss(self) -> bool: ...
    @property
    def has_hessian(self) -> bool: ...

    def with_constants(self, **values: Any) -> Self:
        """The same landscape with other constants.

        Raises
        ------
        ArgumentError
            If there is no constant of that name, or its value is out of range.
        """
        ...

    def constants_rows(self, values: Mapping[str, ArrayLike], m: int) -> Array:
        """A row for each of m trajectories (m, C), each checked as by `with_constants`.

        `values` holds the constants that differ, as m numbers or one; the others are the
        landscape's own.
        """
        ...

    def plateaus(self, rows: Array) -> Array:
        """The plateau at each row of constants, (m,); NaN where it is no positive number."""
        ...

    def n_work(self, rows: Array) -> NDArray[np.int64]:
        """Scratch float64 that the evaluation needs at each row, (m,).

        It is also taken for the cost of an evaluation, by which trajectories are shared out.
        """
        ...

    def loss(self, theta: ArrayLike) -> Array:
        """Loss (nats), shape (...,) for theta of shape (..., p)."""
        ...

    def gradient(self, theta: ArrayLike) -> Array:
        """Derivatives of the loss, or minus the velocity, shape (..., p)."""
        ...

    def loss_and_gradient(self, theta: ArrayLike) -> tuple[Array, Array]:
        """Both in one pass."""
        ...

    def hessian(self, theta: ArrayLike) -> Array:
        """Derivatives of the gradient, shape (..., p, p)."""
        ...

    def measures(self, theta: ArrayLike) -> dict[str, Array]:
        """What to report along a trajectory by name, each of shape (...,), the loss among it."""
        ...

    def identify(
        self, theta: ArrayLike, loss: ArrayLike, tolerance: float = ...
    ) -> NDArray[np.int64]:
        """The valley in which each end of a trajectory lies: an index, or −1 for none."""
        ...

    def settings(self) -> dict[str, Any]:
        """The landscape as JSON, for files: `cliff.trajectory` reads it back as data."""
        ...


def event_names(model: LandscapeLike) -> tuple[str, ...]:
    """Names of all events of a landscape: the built-in ones, if it has a plateau, and its own."""
    built_in = () if model.plateau is None else FALL
    return (*(name for name in built_in if name not in model.event_names), *model.event_names)


def check_known(constants: Mapping[str, Number], name: str, value: object) -> None:
    """Raise ArgumentError unless `name` is one of a landscape's constants."""
    if name not in constants:
        known = ", ".join(constants) or "it has none"
        raise ArgumentError(name, value, f"is no constant of this landscape: {known}")


def column(name: str, value: ArrayLike, m: int, whole: bool = False) -> NDArray[Any]:
    """A constant's value for each of m trajectories, int64 if it is `whole`, else float64.

    Raises
    ------
    ArgumentError
        If it is neither a number nor m finite numbers; if it is `whole`, integers of at least 1.
    """
    values = finite_array(name, value)
    given = np.asarray(value)
    fits = values.shape in ((), (m,))
    if whole:
        if not (fits and given.dtype.kind in "iu" and (values >= 1.0).all()) or (
            (values > LARGEST_INTEGER).any()
        ):
            raise ArgumentError(name, value, f"must be {m} integers of at least 1")
    elif not fits:
        raise ArgumentError(name, value, f"must be a number or {m} of them")
    return np.broadcast_to(given.astype(np.int64) if whole else values, (m,)).copy()
