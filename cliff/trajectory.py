"""Results of the flow: read-only arrays with status and provenance, saved as NetCDF."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from enum import StrEnum
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from cliff.checks import ArgumentError, finite_array
from cliff.data import Data
from cliff.nested_logit import NestedLogit
from cliff.protocol import FALL, LEVELS, LandscapeLike
from cliff.store import open_dataset, provenance, save_dataset

if TYPE_CHECKING:
    import xarray as xr

Array = NDArray[np.float64]


class Status(StrEnum):
    """How an integration ended, in the order of the kernel's codes."""

    RUNNING = "interrupted"
    DONE = "done"
    STEP_LIMIT = "step limit"
    STEP_TOO_SMALL = "step too small"
    NOT_FINITE = "not finite"
    MOBILITY = "mobility failed"
    EVENT = "event reached"

    @property
    def explanation(self) -> str:
        """One line for people."""
        return {
            Status.RUNNING: "stopped from outside before the end time",
            Status.DONE: "reached the end time",
            Status.STEP_LIMIT: "took max_steps steps before the end time; what was reached is kept",
            Status.STEP_TOO_SMALL: "the step fell below the resolution of t: loosen the tolerances",
            Status.NOT_FINITE: "theta or the loss left the finite numbers: a smaller step may help",
            Status.MOBILITY: "the mobility raised, or was no finite number of at least 0",
            Status.EVENT: "reached the event that was to end it",
        }[self]


class TransitionStatus(StrEnum):
    """What is known of a transition."""

    REACHED = "reached"
    NOT_COMPLETED = "not completed"  # below 0.5 plateaus, never below 0.1 plateaus: no width
    NOT_REACHED = "not reached"
    STARTED_BELOW = (
        "started below"  # at the start the loss was at most 0.9 plateaus: times count from there
    )
    UNDEFINED = "undefined"  # no plateau above 0, as at N = 1


def read_only(array: NDArray[Any]) -> NDArray[Any]:
    """The array, read-only; a copy of it if anyone could still write to it."""
    if array.flags.writeable or array.base is not None:
        array = array.copy()
        array.setflags(write=False)
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
            elif isinstance(value, dict) and any(isinstance(v, np.ndarray) for v in value.values()):
                vars(self)[name] = {k: read_only(v) for k, v in value.items()}

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
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(_equal(one[k], other[k]) for k in one)
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
    """The fall of the loss off the plateau.

    Attributes
    ----------
    t_transition : float
        First time (gradient-flow time) with loss ≤ 0.5 plateaus; NaN if there is none.
    width : float
        First time with loss ≤ 0.1 plateaus less the first with loss ≤ 0.9 plateaus; NaN if either
        is missing.
    abruptness : float
        t_transition / width; NaN if the width is 0 or missing.
    status : TransitionStatus
    """

    t_transition: float
    width: float
    abruptness: float
    status: TransitionStatus

    @classmethod
    def at(cls, crossings: ArrayLike, plateau: float | None, t_start: float = 0.0) -> Transition:
        """The transition whose loss first passes `LEVELS` times the plateau at `crossings` (3,).

        Parameters
        ----------
        crossings : array_like, shape (3,)
            Times; NaN where the loss never gets there.
        plateau : float or None
            Without one above 0 the transition is undefined.
        t_start : float
            First time of the curve.
        """
        begin, middle, end = np.asarray(crossings, dtype=np.float64).tolist()
        if plateau is None or not plateau > 0.0:
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

    Between records the loss is interpolated linearly; records that are NaN are left out.

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
        If the shapes differ, or nothing was recorded.

    Examples
    --------
    >>> round(transition_of([0, 1, 2, 3], [2.0, 2.0, 1.0, 0.0], n_pairs=8).t_transition, 3)
    1.96
    """
    times, values = np.asarray(t, dtype=np.float64), np.asarray(loss, dtype=np.float64)
    if times.ndim != 1 or times.shape != values.shape or np.isnan(values).all():
        raise ArgumentError("loss", loss, f"must be numbers, as many as times, {times.size}")
    times, values = times[~np.isnan(values)], values[~np.isnan(values)]
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
    return Transition.at(crossings, math.log(n_pairs), float(times[0]))


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
    events: dict[str, Array]
    status: Status
    reason: str
    n_rejected: int
    n_evaluations: int


@dataclass(frozen=True, eq=False, repr=False)
class Trajectory(Result):
    """One gradient-flow trajectory.

    Attributes
    ----------
    model : LandscapeLike
        The landscape.
    t : ndarray, shape (n,)
        Gradient-flow times: the accepted steps, or the part of `t_eval` that was reached.
    theta : ndarray, shape (n, p)
        Components in the order of ``model.parameter_names``.
    loss : ndarray, shape (n,)
        Loss (nats).
    status : Status
        How the integration ended.
    reason : str
        Why the mobility failed, if it did.
    events : dict of str to ndarray, shape (k,)
        All times at which each event happened, by name: the built-in events ``fall_begins``,
        ``fall`` and ``fall_ends``, where the loss falls to `LEVELS` times the plateau, and the
        landscape's own.
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

    model: LandscapeLike
    t: Array
    theta: Array
    loss: Array
    status: Status
    events: dict[str, Array]
    path: DensePath
    n_steps: int
    n_rejected: int
    n_evaluations: int
    settings: dict[str, Any]
    reason: str = ""
    stored_provenance: dict[str, str] = field(default_factory=dict, compare=False)

    def __repr__(self) -> str:
        constants = {name: f"{value:g}" for name, value in self.model.constants.items()}
        return (
            f"Trajectory({_described(self.model, constants)}, "
            f"{self.settings['method']}: {self.n_steps} steps to t = {self.path.t[-1]:g}, "
            f"{self.status}, loss = {self.loss[-1] if len(self.loss) else math.nan:.4g}, "
            f"t_transition = {self.crossings[1]:.5g})"
        )

    @cached_property
    def provenance(self) -> dict[str, str]:
        return self.stored_provenance or provenance(self.model.settings() | self.settings)

    @cached_property
    def crossings(self) -> Array:
        """First times of the built-in events, shape (3,); NaN where there is none."""
        none = np.empty(0)
        return read_only(
            np.array([next(iter(self.events.get(name, none)), math.nan) for name in FALL])
        )

    def transition(self) -> Transition:
        """When the loss falls off the plateau, and how abruptly; see `Transition`."""
        return Transition.at(self.crossings, self.model.plateau)

    def measures(self) -> dict[str, Array]:
        """The landscape's measures at the times `t`, each of shape (n,)."""
        return self.model.measures(self.theta)

    def sampled(self, t: ArrayLike) -> Trajectory:
        """The same trajectory reported at other times `t` (n,) within the path."""
        times = within("t", t, self.path.t[0], self.path.t[-1])
        theta = self.path(times)
        loss = self.model.loss(theta) if self.model.has_loss else np.full(len(times), np.nan)
        return replace(self, t=times, theta=theta, loss=loss)

    def to_dataset(self) -> xr.Dataset:
        """The trajectory as a labelled dataset over ``time``, with units and provenance."""
        import xarray as xr

        counts = ("n_steps", "n_rejected", "n_evaluations")
        dense = "dense output: theta − its value at the step by powers of the fraction of the step"
        return xr.Dataset(
            {
                "theta": (("time", "component"), self.theta, _attrs("components of theta", "1")),
                "loss": ("time", self.loss, _attrs("loss", "nat")),
                **self._event_variables(),
                "step_theta": (
                    ("step", "component"),
                    self.path.theta,
                    _attrs("theta at the accepted steps", "1"),
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
                **_coordinates(self.model, self.events),
            },
            attrs={
                **self.provenance,
                "status": str(self.status),
                "reason": self.reason,
                **{name: getattr(self, name) for name in counts},
            },
        ).copy(deep=True)

    def _event_variables(self) -> dict[str, Any]:
        """The times of the events as a table whose rows are filled up with NaN."""
        if not self.events:
            return {}
        length = max(1, *(len(times) for times in self.events.values()))
        table = np.full((len(self.events), length), np.nan)
        for row, times in zip(table, self.events.values(), strict=True):
            row[: len(times)] = times
        return {"events": (("event", "occurrence"), table, _attrs("times of the events", _TIME))}

    @classmethod
    def from_dataset(cls, dataset: xr.Dataset) -> Trajectory:
        """The inverse of `to_dataset`."""
        attrs = dict(dataset.attrs)
        parameters = json.loads(attrs["parameters"])
        model, settings = landscape_and_settings(parameters)
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
            events={k: times[~np.isnan(times)] for k, times in _events(dataset).items()},
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
            If the directory is missing or read-only, or the landscape is made of functions.
        OSError
            If the disk is full; an older file at `path` is then untouched.
        """
        return _save(self, path, "trajectory")

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Trajectory:
        """Read a trajectory; see `cliff.store.open_dataset` for what is refused."""
        return cls.from_dataset(open_dataset(path, "trajectory"))


@dataclass(frozen=True, eq=False, repr=False)
class Ensemble(Result):
    """Where many gradient-flow trajectories ended, and when each fell.

    Attributes
    ----------
    model : LandscapeLike
        The landscape; its constants may differ between trajectories.
    constants : dict of str to ndarray, shape (m,)
        Each constant of the landscape for each trajectory.
    theta0, theta : ndarray, shape (m, p)
        Starts and ends.
    t : ndarray, shape (m,)
        Times that were reached (gradient-flow time).
    loss : ndarray, shape (m,)
        Loss at the end (nats).
    events : dict of str to ndarray, shape (m,)
        First time of each event, as in `Trajectory`; NaN where there was none.
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

    model: LandscapeLike
    constants: dict[str, NDArray[Any]]
    theta0: Array
    theta: Array
    t: Array
    loss: Array
    events: dict[str, Array]
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
        constants = {name: _span(values) for name, values in self.constants.items()}
        size = _described(self.model, constants)
        return f"Ensemble({size}: {', '.join(ends)}; {fell.size} fell{median})"

    @cached_property
    def provenance(self) -> dict[str, str]:
        return self.stored_provenance or provenance(self.model.settings() | self.settings)

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
            "t": _attrs("time that was reached", _TIME),
            "loss": _attrs("loss at the end", "nat"),
            "t_transition": _attrs("first time with loss at most 0.5 plateaus", _TIME),
            "width": _attrs("time from 0.9 to 0.1 plateaus", _TIME),
            "n_steps": _attrs("accepted steps", "count"),
            "n_rejected": _attrs("rejected steps", "count"),
            "status": _attrs("how the integration ended", "1") | flags,
        }
        both, at = ("trajectory", "component"), _attrs("first times of the events", _TIME)
        return xr.Dataset(
            {
                "theta0": (both, self.theta0, _attrs("theta at the start", "1")),
                "theta": (both, self.theta, _attrs("theta at the end", "1")),
                **(
                    {"events": (("trajectory", "event"), np.stack([*self.events.values()], 1), at)}
                    if self.events
                    else {}
                ),
                **{
                    _CONSTANT + k: ("trajectory", v, _attrs(f"constant {k}", "1"))
                    for k, v in self.constants.items()
                },
                **{k: ("trajectory", getattr(self, k), v) for k, v in per_trajectory.items()},
            },
            coords=_coordinates(self.model, self.events),
            attrs={**self.provenance, "reason": self.reason},
        ).copy(deep=True)

    @classmethod
    def from_dataset(cls, dataset: xr.Dataset) -> Ensemble:
        """The inverse of `to_dataset`."""
        model, settings = landscape_and_settings(json.loads(dataset.attrs["parameters"]))
        reals = ("theta0", "theta", "t", "loss", "t_transition", "width")
        counts = ("n_steps", "n_rejected")
        columns: dict[str, Any] = {name: _values(dataset[name]) for name in reals}
        columns |= {name: dataset[name].values.astype(np.int64) for name in counts}
        return cls(
            model=model,
            **columns,
            constants=_constants(dataset, model),
            events=_events(dataset),
            status=dataset["status"].values.astype(np.int8),
            settings=settings,
            reason=str(dataset.attrs.get("reason", "")),
            stored_provenance=_stored_provenance(dataset.attrs),
        )

    def save(self, path: str | os.PathLike[str]) -> Path:
        """Write a NetCDF file, as `Trajectory.save`."""
        return _save(self, path, "ensemble")


_TIME = "gradient-flow time"
_CONSTANT = "constant_"
"""What the names of constants have in front in a file."""


def _save(result: Trajectory | Ensemble, path: str | os.PathLike[str], kind: str) -> Path:
    landscape_and_settings(
        result.model.settings()
    )  # refuses a landscape that could not be read back
    return save_dataset(result.to_dataset(), path, kind)


def _attrs(long_name: str, units: str) -> dict[str, Any]:
    return {"long_name": long_name, "units": units}


def _coordinates(model: LandscapeLike, events: dict[str, Array]) -> dict[str, Any]:
    names = list(model.parameter_names)
    coordinates = {"component": ("component", names, {"long_name": "component of theta"})}
    if events:
        coordinates["event"] = ("event", list(events), _attrs("name of the event", "1"))
    return coordinates


def _events(dataset: xr.Dataset) -> dict[str, Array]:
    """The rows of a trajectory's events, or the columns of an ensemble's, by name."""
    if "crossings" in dataset:  # up to format 2: the first times of the built-in events
        table = _values(dataset["crossings"].transpose("level", ...))
        return dict(zip(FALL, table.reshape(len(FALL), -1), strict=True))
    if "events" not in dataset:
        return {}
    table = _values(dataset["events"].transpose("event", ...))
    return dict(zip(dataset["event"].values.tolist(), table, strict=True))


def _constants(dataset: xr.Dataset, model: LandscapeLike) -> dict[str, NDArray[Any]]:
    """The constants of an ensemble's trajectories by name."""
    found = {}
    for name, value in model.constants.items():
        key = _CONSTANT + name if _CONSTANT + name in dataset else name
        if key in dataset:
            values = dataset[key].values
            kind = np.float64 if values.dtype.kind == "f" else np.int64
            found[name] = np.ascontiguousarray(values, dtype=kind)
        else:  # up to format 2 there were n_pairs and n_labels alone
            found[name] = np.full(dataset.sizes["trajectory"], value)
    return found


def _described(model: LandscapeLike, constants: Mapping[str, object]) -> str:
    values = ", ".join(f"{name} = {value}" for name, value in constants.items())
    return values or type(model).__name__


def _span(values: NDArray[Any]) -> str:
    ends = {values.min().item(), values.max().item()} if values.size else ()
    return " to ".join(f"{end:g}" for end in sorted(ends))


def landscape_and_settings(parameters: dict[str, Any]) -> tuple[LandscapeLike, dict[str, Any]]:
    """The landscape that `LandscapeLike.settings` describes, and the other settings."""
    if "landscape" in parameters:
        from cliff.landscape import Landscape  # starts SymPy

        others = {name: value for name, value in parameters.items() if name != "landscape"}
        return Landscape.from_data(parameters["landscape"]), others
    names = {entry.name for entry in fields(NestedLogit)}
    own = {name: parameters[name] for name in names - {"memory"}}
    memory = Data(**parameters["memory"]) if "memory" in parameters else None
    model = NestedLogit(**own, memory=memory)
    return model, {name: value for name, value in parameters.items() if name not in names}


def _values(array: xr.DataArray) -> Array:
    """float64 in the byte order of this machine: older files are big-endian."""
    return np.ascontiguousarray(array.values, dtype=np.float64)


def _stored_provenance(attrs: dict[str, Any]) -> dict[str, str]:
    names = ("parameters", "seed", "versions", "git_commit", "command")
    return {name: str(attrs.get(name, "")) for name in names}
