"""Results of the flow: read-only arrays with status and provenance, saved as NetCDF."""

from __future__ import annotations

import json
import math
import os
from dataclasses import dataclass, field, fields, replace
from enum import StrEnum
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from cliff.checks import ArgumentError, finite_array
from cliff.nested_logit import NestedLogit
from cliff.store import open_dataset, provenance, save_dataset

if TYPE_CHECKING:
    import xarray as xr

Array = NDArray[np.float64]

LEVELS = (0.9, 0.5, 0.1)
"""Multiples of the plateau log N whose first crossings by the loss define the transition."""


class Status(StrEnum):
    """How an integration ended, in the order of the kernel's codes."""

    RUNNING = "interrupted"
    DONE = "done"
    STEP_LIMIT = "step limit"
    STEP_TOO_SMALL = "step too small"
    NOT_FINITE = "not finite"
    MOBILITY = "mobility failed"

    @property
    def explanation(self) -> str:
        """One line for people."""
        return {
            Status.RUNNING: "stopped from outside before the end time",
            Status.DONE: "reached the end time",
            Status.STEP_LIMIT: "took max_steps steps before the end time; what was reached is kept",
            Status.STEP_TOO_SMALL: "the step fell below the resolution of t: loosen the tolerances",
            Status.NOT_FINITE: "theta left the finite numbers: a smaller step may help",
            Status.MOBILITY: "the mobility raised, or was no finite number of at least 0",
        }[self]


class TransitionStatus(StrEnum):
    """What is known of a transition."""

    REACHED = "reached"
    NOT_COMPLETED = "not completed"  # below 0.5 log N, never below 0.1 log N: no width
    NOT_REACHED = "not reached"
    STARTED_BELOW = (
        "started below"  # at t = 0 the loss was at most 0.9 log N: times count from there
    )
    UNDEFINED = "undefined"  # N = 1: the plateau log N is zero


def read_only(array: NDArray[Any]) -> NDArray[Any]:
    """The array, read-only; a copy of it if anyone could still write to it."""
    if array.flags.writeable or array.base is not None:
        array = array.copy()
        array.flags.writeable = False
    return array


@dataclass(frozen=True, eq=False)
class Result:
    """A frozen dataclass with arrays: they are read-only, through copy and pickle too.

    Two results are equal if all their fields are, arrays entry by entry with NaN equal to NaN; what
    made them (the provenance) does not count.
    """

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            if isinstance(value, np.ndarray):
                vars(self)[name] = read_only(value)

    def __getstate__(self) -> dict[str, Any]:
        state = dict(vars(self))
        if "stored_provenance" in state:  # of the process that computed the result
            state["stored_provenance"] = self.provenance  # type: ignore[attr-defined]
        return state

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state)
        self.__post_init__()

    def _compared(self) -> list[Any]:
        return [getattr(self, entry.name) for entry in fields(self) if entry.compare]

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Result) or type(other) is not type(self):
            return NotImplemented
        return all(map(_equal, self._compared(), other._compared()))

    def __hash__(self) -> int:
        return hash(tuple(_key(value) for value in self._compared()))


def _equal(one: Any, other: Any) -> bool:
    if isinstance(one, np.ndarray | float):
        return np.array_equal(one, other, equal_nan=True)
    return bool(one == other)


def _key(value: Any) -> Any:
    """Something hashable that equal values share."""
    if isinstance(value, np.ndarray):
        return value.shape
    return None if isinstance(value, dict | float) else value  # floats: NaN may equal NaN


@dataclass(frozen=True, eq=False)
class Transition(Result):
    """The fall of the loss off the plateau log N.

    Attributes
    ----------
    t_transition : float
        First time (gradient-flow time) at which loss ≤ 0.5 log N; NaN if there is none.
    width : float
        First time with loss ≤ 0.1 log N less the first with loss ≤ 0.9 log N; NaN if either is
        missing.
    abruptness : float
        t_transition / width; NaN if the width is 0 or missing.
    status : TransitionStatus
    """

    t_transition: float
    width: float
    abruptness: float
    status: TransitionStatus

    @classmethod
    def at(cls, crossings: ArrayLike, n_pairs: int, t_start: float = 0.0) -> Transition:
        """The transition whose loss first passes `LEVELS` times log N at `crossings` (3,).

        Parameters
        ----------
        crossings : array_like, shape (3,)
            Times; NaN where the loss never gets there.
        n_pairs : int
        t_start : float
            First time of the curve.
        """
        begin, middle, end = np.asarray(crossings, dtype=np.float64).tolist()
        if n_pairs == 1:
            return cls(math.nan, math.nan, math.nan, TransitionStatus.UNDEFINED)
        if math.isnan(middle):
            status = TransitionStatus.NOT_REACHED
        elif math.isnan(end):
            status = TransitionStatus.NOT_COMPLETED
        elif begin == t_start:
            status = TransitionStatus.STARTED_BELOW
        else:
            status = TransitionStatus.REACHED
        width = end - begin
        return cls(middle, width, middle / width if width > 0.0 else math.nan, status)


def transition_of(t: ArrayLike, loss: ArrayLike, n_pairs: int) -> Transition:
    """The transition of a loss that was recorded now and then, as that of a network.

    Between records the loss is interpolated linearly.

    Parameters
    ----------
    t, loss : array_like, shape (n,)
        Increasing times, and the loss (nats) at each.
    n_pairs : int
        N, which sets the levels.

    Returns
    -------
    Transition

    Raises
    ------
    ArgumentError
        If the shapes differ.

    Examples
    --------
    >>> round(transition_of([0, 1, 2, 3], [2.0, 2.0, 1.0, 0.0], n_pairs=8).t_transition, 3)
    1.96
    """
    times, values = np.asarray(t, dtype=np.float64), np.asarray(loss, dtype=np.float64)
    if times.ndim != 1 or times.shape != values.shape or not times.size:
        raise ArgumentError("loss", values.shape, f"must have the shape of t, {times.shape}")
    crossings = []
    for level in np.array(LEVELS) * math.log(n_pairs):
        first = int(np.argmax(values <= level))
        if not values[first] <= level:
            crossings.append(math.nan)
        elif first == 0:
            crossings.append(times[0])
        else:
            ends = slice(first - 1, first + 1)
            crossings.append(np.interp(-level, -values[ends], times[ends]))
    return Transition.at(crossings, n_pairs, float(times[0]))


ROUNDING = 1e-12
"""By how much of it a time may lie beyond the last one and still mean it, as in sums of steps."""


@dataclass(frozen=True, eq=False, repr=False)
class DensePath(Result):
    """The path of theta at all times: a polynomial between neighbouring steps (dense output).

    Attributes
    ----------
    t : ndarray, shape (n,)
        Times of the steps (gradient-flow time).
    theta : ndarray, shape (n, p)
        theta at these times.
    coefficients : ndarray, shape (n − 1, p, degree)
        theta − theta[i] by powers 1 … degree of (t − t[i])/(t[i + 1] − t[i]).
    """

    t: Array
    theta: Array
    coefficients: Array

    def __repr__(self) -> str:
        return f"DensePath({len(self.t) - 1} steps, t = {self.t[0]:g} to {self.t[-1]:g})"

    def __call__(self, t: ArrayLike) -> Array:
        """theta at times t within the path: shape (..., p) for t of shape (...,).

        Raises
        ------
        ArgumentError
            If a time lies outside the path, by more than rounding.
        """
        times = within("t", t, self.t[0], self.t[-1])
        if len(self.t) == 1:
            return np.broadcast_to(self.theta[0], (*times.shape, self.theta.shape[1])).copy()
        step = np.clip(np.searchsorted(self.t, times, side="right") - 1, 0, len(self.t) - 2)
        sigma = (times - self.t[step]) / (self.t[step + 1] - self.t[step])
        value = np.zeros((*times.shape, self.theta.shape[1]))
        for d in range(self.coefficients.shape[2] - 1, -1, -1):
            value = (value + self.coefficients[step, :, d]) * sigma[..., None]
        at_end = (times == self.t[-1])[..., None]  # not one rounding beside the last step
        return np.where(at_end, self.theta[-1], self.theta[step] + value)


def within(argument: str, t: ArrayLike, first: float, last: float) -> Array:
    """Times t as float64, those beyond the last one by rounding moved to it, or ArgumentError."""
    times = finite_array(argument, t)
    if times.size and not (times.min() >= first and times.max() <= last * (1.0 + ROUNDING)):
        raise ArgumentError(argument, t, f"must be times from {first:g} to {last:g}")
    return np.minimum(times, last)


@dataclass(frozen=True)
class Solution:
    """What an integration returns, whatever its method; see the same fields of `Trajectory`.

    Here `loss` is that of the steps, shape (len(path.t),).
    """

    path: DensePath
    loss: Array
    crossings: Array
    status: Status
    reason: str
    n_rejected: int
    n_evaluations: int


@dataclass(frozen=True, eq=False, repr=False)
class Trajectory(Result):
    """One gradient-flow trajectory.

    Attributes
    ----------
    model : NestedLogit
        The landscape.
    t : ndarray, shape (n,)
        Gradient-flow times: the accepted steps, or the part of `t_eval` that was reached.
    theta : ndarray, shape (n, p)
        Logits beta1, alpha, xi and, with a free label bias, beta2.
    loss : ndarray, shape (n,)
        Loss (nats).
    status : Status
        How the integration ended.
    reason : str
        Why the mobility failed, if it did.
    crossings : ndarray, shape (3,)
        First times with loss ≤ LEVELS times log N; NaN where there was none.
    path : DensePath
        theta at every time: ``trajectory.path(t)``.
    n_steps, n_rejected, n_evaluations : int
        Accepted and rejected steps, and evaluations of the gradient.
    settings : dict
        Start, mobility, method, tolerances and limits of the integration.
    provenance : dict of str
        What made this result: parameters, versions, git commit, command line.

    Notes
    -----
    The arrays are read-only: copy them to change them.
    """

    model: NestedLogit
    t: Array
    theta: Array
    loss: Array
    status: Status
    crossings: Array
    path: DensePath
    n_steps: int
    n_rejected: int
    n_evaluations: int
    settings: dict[str, Any]
    reason: str = ""
    stored_provenance: dict[str, str] = field(default_factory=dict, compare=False)

    def __repr__(self) -> str:
        return (
            f"Trajectory({_size(self.model.n_pairs, self.model.n_labels)}, "
            f"{self.settings['method']}: {self.n_steps} steps to t = {self.path.t[-1]:g}, "
            f"{self.status}, loss = {self.loss[-1] if len(self.loss) else math.nan:.4g}, "
            f"t_transition = {self.crossings[1]:.5g})"
        )

    @cached_property
    def provenance(self) -> dict[str, str]:
        return self.stored_provenance or provenance(_parameters(self.model) | self.settings)

    def transition(self) -> Transition:
        """When the loss falls off the plateau, and how abruptly; see `Transition`."""
        return Transition.at(self.crossings, self.model.n_pairs)

    def measures(self) -> dict[str, Array]:
        """Progress measures at the times `t`; see `NestedLogit.measures`."""
        return self.model.measures(self.theta)

    def sampled(self, t: ArrayLike) -> Trajectory:
        """The same trajectory reported at other times `t` (n,) within the path."""
        times = within("t", t, self.path.t[0], self.path.t[-1])
        theta = self.path(times)
        return replace(self, t=times, theta=theta, loss=self.model.loss(theta))

    def to_dataset(self) -> xr.Dataset:
        """The trajectory as a labelled dataset over ``time``, with units and provenance."""
        import xarray as xr

        counts = ("n_steps", "n_rejected", "n_evaluations")
        dense = "dense output: theta − its value at the step by powers of the fraction of the step"
        return xr.Dataset(
            {
                "theta": (("time", "component"), self.theta, _attrs("logits", "1")),
                "loss": ("time", self.loss, _attrs("loss", "nat")),
                "crossings": ("level", self.crossings, _attrs(_CROSSINGS, _TIME)),
                "step_theta": (
                    ("step", "component"),
                    self.path.theta,
                    _attrs("logits at the accepted steps", "1"),
                ),
                "step_coefficients": (
                    ("interval", "component", "power"),
                    self.path.coefficients,
                    _attrs(dense, "1"),
                ),
            },
            coords={
                "time": ("time", self.t, _attrs("time", _TIME)),
                "step": ("step", self.path.t, _attrs("time of the accepted steps", _TIME)),
                **_coordinates(self.model),
            },
            attrs={
                **self.provenance,
                "status": str(self.status),
                "reason": self.reason,
                **{name: getattr(self, name) for name in counts},
            },
        ).copy(deep=True)

    @classmethod
    def from_dataset(cls, dataset: xr.Dataset) -> Trajectory:
        """The inverse of `to_dataset`."""
        attrs = dict(dataset.attrs)
        parameters = json.loads(attrs["parameters"])
        model, settings = _split_parameters(parameters)
        path = DensePath(
            *(_values(dataset[k]) for k in ("step", "step_theta", "step_coefficients"))
        )
        return cls(
            model=model,
            t=_values(dataset["time"]),
            theta=_values(dataset["theta"]),
            loss=_values(dataset["loss"]),
            status=Status(attrs["status"]),
            reason=str(attrs.get("reason", "")),
            crossings=_values(dataset["crossings"]),
            path=path,
            n_steps=int(attrs["n_steps"]),
            n_rejected=int(attrs["n_rejected"]),
            n_evaluations=int(attrs["n_evaluations"]),
            settings=settings,
            stored_provenance=_stored_provenance(attrs),
        )

    def save(self, path: str | os.PathLike[str]) -> Path:
        """Write a NetCDF file, atomically; `cliff.load` reads it back.

        Raises
        ------
        ArgumentError
            If the directory is missing or read-only.
        OSError
            If the disk is full; an older file at `path` is then untouched.
        """
        return save_dataset(self.to_dataset(), path, "trajectory")

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Trajectory:
        """Read a trajectory; see `cliff.store.open_dataset` for what is refused."""
        return cls.from_dataset(open_dataset(path, "trajectory"))


@dataclass(frozen=True, eq=False, repr=False)
class Ensemble(Result):
    """Where many gradient-flow trajectories ended, and when each fell.

    Attributes
    ----------
    model : NestedLogit
        The landscape; `n_pairs` and `n_labels` hold the N and L of each trajectory.
    n_pairs, n_labels : ndarray of int, shape (m,)
    theta0, theta : ndarray, shape (m, p)
        Starts and ends.
    t : ndarray, shape (m,)
        Times that were reached (gradient-flow time).
    loss : ndarray, shape (m,)
        Loss at the end (nats).
    crossings : ndarray, shape (m, 3)
        First times with loss ≤ LEVELS times log N; NaN where there was none.
    t_transition, width : ndarray, shape (m,)
        As in `Transition`; NaN where there is none.
    n_steps, n_rejected : ndarray of int, shape (m,)
    status : ndarray of int8, shape (m,)
        Codes in the order of `Status`; see `done`.
    settings : dict
        Mobility, method, tolerances and limits of the integration.
    reason : str
        Why the mobility of the first trajectory failed whose mobility did.
    provenance : dict of str
        What made this result.

    Notes
    -----
    The arrays are read-only: copy them to change them.
    """

    model: NestedLogit
    n_pairs: NDArray[np.int64]
    n_labels: NDArray[np.int64]
    theta0: Array
    theta: Array
    t: Array
    loss: Array
    crossings: Array
    t_transition: Array
    width: Array
    n_steps: NDArray[np.int64]
    n_rejected: NDArray[np.int64]
    status: NDArray[np.int8]
    settings: dict[str, Any]
    reason: str = ""
    stored_provenance: dict[str, str] = field(default_factory=dict, compare=False)

    def __repr__(self) -> str:
        codes, counts = np.unique(self.status, return_counts=True)
        names = [str(status) for status in Status]
        ends = [f"{count} {names[code]}" for code, count in zip(codes, counts, strict=True)]
        fell = self.t_transition[~np.isnan(self.t_transition)]
        median = f", median t_transition = {np.median(fell):.5g}" if fell.size else ""
        size = _size(*(_span(counts) for counts in (self.n_pairs, self.n_labels)))
        return f"Ensemble({size}: {', '.join(ends)}; {fell.size} fell{median})"

    @cached_property
    def provenance(self) -> dict[str, str]:
        return self.stored_provenance or provenance(_parameters(self.model) | self.settings)

    @property
    def done(self) -> NDArray[np.bool_]:
        """Which trajectories reached the end time, shape (m,)."""
        return self.status == list(Status).index(Status.DONE)

    @property
    def abruptness(self) -> Array:
        """t_transition / width, shape (m,)."""
        return self.t_transition / np.where(self.width > 0.0, self.width, np.nan)

    def to_dataset(self) -> xr.Dataset:
        """The ensemble as a labelled dataset over ``trajectory``, with units and provenance."""
        import xarray as xr

        flags = {
            "flag_values": np.arange(len(Status), dtype=np.int8),
            "flag_meanings": " ".join(str(status).replace(" ", "_") for status in Status),
        }
        per_trajectory = {
            "n_pairs": _attrs("pairs in the context, N", "count"),
            "n_labels": _attrs("labels, L", "count"),
            "t": _attrs("time that was reached", _TIME),
            "loss": _attrs("loss at the end", "nat"),
            "t_transition": _attrs("first time with loss at most 0.5 log N", _TIME),
            "width": _attrs("time from 0.9 log N to 0.1 log N", _TIME),
            "n_steps": _attrs("accepted steps", "count"),
            "n_rejected": _attrs("rejected steps", "count"),
            "status": _attrs("how the integration ended", "1") | flags,
        }
        both = ("trajectory", "component")
        return xr.Dataset(
            {
                "theta0": (both, self.theta0, _attrs("logits at the start", "1")),
                "theta": (both, self.theta, _attrs("logits at the end", "1")),
                "crossings": (
                    ("trajectory", "level"),
                    self.crossings,
                    _attrs(_CROSSINGS, _TIME),
                ),
                **{k: ("trajectory", getattr(self, k), v) for k, v in per_trajectory.items()},
            },
            coords=_coordinates(self.model),
            attrs={**self.provenance, "reason": self.reason},
        ).copy(deep=True)

    @classmethod
    def from_dataset(cls, dataset: xr.Dataset) -> Ensemble:
        """The inverse of `to_dataset`."""
        model, settings = _split_parameters(json.loads(dataset.attrs["parameters"]))
        reals = ("theta0", "theta", "t", "loss", "crossings", "t_transition", "width")
        counts = ("n_pairs", "n_labels", "n_steps", "n_rejected")
        columns: dict[str, Any] = {name: _values(dataset[name]) for name in reals}
        columns |= {name: dataset[name].values.astype(np.int64) for name in counts}
        return cls(
            model=model,
            **columns,
            status=dataset["status"].values.astype(np.int8),
            settings=settings,
            reason=str(dataset.attrs.get("reason", "")),
            stored_provenance=_stored_provenance(dataset.attrs),
        )

    def save(self, path: str | os.PathLike[str]) -> Path:
        """Write a NetCDF file, as `Trajectory.save`."""
        return save_dataset(self.to_dataset(), path, "ensemble")


_TIME = "gradient-flow time"
_CROSSINGS = "first time with loss at most the level"


def _attrs(long_name: str, units: str) -> dict[str, Any]:
    return {"long_name": long_name, "units": units}


def _coordinates(model: NestedLogit) -> dict[str, Any]:
    names = list(model.parameter_names)
    return {
        "component": ("component", names, {"long_name": "component of theta"}),
        "level": ("level", np.array(LEVELS), _attrs("level of the loss", "log N")),
    }


def _size(n_pairs: object, n_labels: object) -> str:
    return f"N = {n_pairs}, L = {n_labels}"


def _span(counts: NDArray[np.int64]) -> str:
    ends = {int(counts.min()), int(counts.max())} if counts.size else ()
    return " to ".join(map(str, sorted(ends)))


def _parameters(model: NestedLogit) -> dict[str, Any]:
    return {entry.name: getattr(model, entry.name) for entry in fields(model)}


def _split_parameters(parameters: dict[str, Any]) -> tuple[NestedLogit, dict[str, Any]]:
    names = {entry.name for entry in fields(NestedLogit)}
    model = NestedLogit(**{name: parameters[name] for name in names})
    return model, {name: value for name, value in parameters.items() if name not in names}


def _values(array: xr.DataArray) -> Array:
    """float64 in the byte order of this machine: older files are big-endian."""
    return np.ascontiguousarray(array.values, dtype=np.float64)


def _stored_provenance(attrs: dict[str, Any]) -> dict[str, str]:
    names = ("parameters", "seed", "versions", "git_commit", "command")
    return {name: str(attrs.get(name, "")) for name in names}
