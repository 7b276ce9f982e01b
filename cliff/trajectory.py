"""Results of the flow: frozen, with status and provenance, saved as NetCDF."""

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

from cliff.checks import ArgumentError
from cliff.nested_logit import NestedLogit
from cliff.store import open_dataset, provenance, save_dataset

if TYPE_CHECKING:
    import xarray as xr

Array = NDArray[np.float64]

LEVELS = (0.9, 0.5, 0.1)
"""Multiples of the plateau log N whose first crossings by the loss define the transition."""


class Status(StrEnum):
    """How an integration ended."""

    RUNNING = "interrupted"
    DONE = "done"
    STEP_LIMIT = "step limit"
    STEP_TOO_SMALL = "step too small"
    NOT_FINITE = "not finite"

    @property
    def explanation(self) -> str:
        """One line for people."""
        return {
            Status.RUNNING: "stopped from outside before the end time",
            Status.DONE: "reached the end time",
            Status.STEP_LIMIT: "took max_steps steps before the end time; what was reached is kept",
            Status.STEP_TOO_SMALL: "the step fell below the resolution of t: loosen the tolerances",
            Status.NOT_FINITE: "theta left the finite numbers: a smaller step may help",
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


@dataclass(frozen=True)
class Transition:
    """The fall of the loss off the plateau log N.

    Attributes
    ----------
    t_transition : float
        First time (gradient-flow time) at which loss ≤ 0.5 log N; NaN if there is none.
    width : float
        First time with loss ≤ 0.1 log N less the first with loss ≤ 0.9 log N; NaN if either is
        missing.
    abruptness : float
        t_transition / width.
    status : TransitionStatus
    """

    t_transition: float
    width: float
    abruptness: float
    status: TransitionStatus


@dataclass(frozen=True)
class DensePath:
    """Continuous path of theta: a polynomial between each two steps (dense output).

    Attributes
    ----------
    t : ndarray, shape (n,)
        Times of the steps.
    theta : ndarray, shape (n, p)
        Where they stand.
    coefficients : ndarray, shape (n − 1, p, degree)
        theta − theta[i] by powers 1 … degree of (t − t[i])/(t[i + 1] − t[i]).
    """

    t: Array
    theta: Array
    coefficients: Array

    def __call__(self, t: ArrayLike) -> Array:
        """theta at times t within the path: shape (..., p) for t of shape (...,).

        Raises
        ------
        ArgumentError
            If a time lies outside the path.
        """
        times = np.asarray(t, dtype=np.float64)
        if times.size and not (times.min() >= self.t[0] and times.max() <= self.t[-1]):
            raise ArgumentError("t", t, f"must lie within the path, 0 to {self.t[-1]:g}")
        if len(self.t) == 1:
            return np.broadcast_to(self.theta[0], (*times.shape, self.theta.shape[1])).copy()
        step = np.clip(np.searchsorted(self.t, times, side="right") - 1, 0, len(self.t) - 2)
        sigma = (times - self.t[step]) / (self.t[step + 1] - self.t[step])
        value = np.zeros((*times.shape, self.theta.shape[1]))
        for d in range(self.coefficients.shape[2] - 1, -1, -1):
            value = (value + self.coefficients[step, :, d]) * sigma[..., None]
        at_end = (times == self.t[-1])[..., None]  # not one rounding beside the last step
        return np.where(at_end, self.theta[-1], self.theta[step] + value)


@dataclass(frozen=True)
class Trajectory:
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
    crossings : ndarray, shape (3,)
        First times with loss ≤ LEVELS times log N; NaN where there was none.
    path : DensePath
        theta at any time: ``trajectory.path(t)``.
    n_steps, n_rejected, n_evaluations : int
        Accepted and rejected steps, and evaluations of the gradient.
    settings : dict
        Mobility, method, tolerances and limits of the integration.
    provenance : dict of str
        What made this result: parameters, versions, git commit, command line.
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
    stored_provenance: dict[str, str] = field(default_factory=dict, repr=False)

    @cached_property
    def provenance(self) -> dict[str, str]:
        return self.stored_provenance or provenance(_parameters(self.model) | self.settings)

    def transition(self) -> Transition:
        """When the loss falls off the plateau, and how abruptly; see `Transition`."""
        begin, middle, end = (float(t) for t in self.crossings)
        if self.model.n_pairs == 1:
            status = TransitionStatus.UNDEFINED
        elif math.isnan(middle):
            status = TransitionStatus.NOT_REACHED
        elif math.isnan(end):
            status = TransitionStatus.NOT_COMPLETED
        elif begin == 0.0:
            status = TransitionStatus.STARTED_BELOW
        else:
            status = TransitionStatus.REACHED
        width = end - begin
        return Transition(middle, width, middle / width if width > 0.0 else math.nan, status)

    def measures(self) -> dict[str, Array]:
        """Progress measures at the times `t`; see `NestedLogit.measures`."""
        return self.model.measures(self.theta)

    def sampled(self, t: ArrayLike) -> Trajectory:
        """The same trajectory reported at other times `t` (n,) within the path."""
        times = np.asarray(t, dtype=np.float64)
        theta = self.path(times)
        return replace(self, t=times, theta=theta, loss=self.model.loss(theta))

    def to_dataset(self) -> xr.Dataset:
        """The trajectory as a labelled dataset over ``time``, with units and provenance."""
        import xarray as xr

        names = list(self.model.parameter_names)
        counts = ("n_steps", "n_rejected", "n_evaluations")
        return xr.Dataset(
            {
                "theta": (("time", "component"), self.theta, {"units": "1"}),
                "loss": ("time", self.loss, {"units": "nat"}),
                "crossings": ("level", self.crossings, {"units": "gradient-flow time"}),
                "step_theta": (("step", "component"), self.path.theta, {"units": "1"}),
                "step_coefficients": (
                    ("interval", "component", "power"),
                    self.path.coefficients,
                    {"units": "1", "long_name": "dense output between the steps"},
                ),
            },
            coords={
                "time": ("time", self.t, {"units": "gradient-flow time"}),
                "step": ("step", self.path.t, {"units": "gradient-flow time"}),
                "component": names,
                "level": ("level", np.array(LEVELS), {"units": "log N"}),
            },
            attrs={
                **self.provenance,
                "status": str(self.status),
                **{name: getattr(self, name) for name in counts},
            },
        )

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


@dataclass(frozen=True)
class Ensemble:
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
        Codes in the order of `Status`; see `failed`.
    settings : dict
        Mobility, method, tolerances and limits of the integration.
    provenance : dict of str
        What made this result.
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
    stored_provenance: dict[str, str] = field(default_factory=dict, repr=False)

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

        time, one, count = {"units": "gradient-flow time"}, {"units": "1"}, {"units": "count"}
        flags = {
            "flag_values": np.arange(len(Status), dtype=np.int8),
            "flag_meanings": " ".join(str(status).replace(" ", "_") for status in Status),
        }
        per_trajectory = {
            "n_pairs": count,
            "n_labels": count,
            "t": time,
            "loss": {"units": "nat"},
            "t_transition": time,
            "width": time,
            "n_steps": count,
            "n_rejected": count,
            "status": flags,
        }
        both = ("trajectory", "component")
        return xr.Dataset(
            {
                "theta0": (both, self.theta0, one),
                "theta": (both, self.theta, one),
                "crossings": (("trajectory", "level"), self.crossings, time),
                **{k: ("trajectory", getattr(self, k), unit) for k, unit in per_trajectory.items()},
            },
            coords={
                "component": list(self.model.parameter_names),
                "level": ("level", np.array(LEVELS), {"units": "log N"}),
            },
            attrs=self.provenance,
        )

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
            stored_provenance=_stored_provenance(dataset.attrs),
        )

    def save(self, path: str | os.PathLike[str]) -> Path:
        """Write a NetCDF file, as `Trajectory.save`."""
        return save_dataset(self.to_dataset(), path, "ensemble")


def _parameters(model: NestedLogit) -> dict[str, Any]:
    return {entry.name: getattr(model, entry.name) for entry in fields(model)}


def _split_parameters(parameters: dict[str, Any]) -> tuple[NestedLogit, dict[str, Any]]:
    names = {entry.name for entry in fields(NestedLogit)}
    model = NestedLogit(**{name: parameters[name] for name in names})
    return model, {name: value for name, value in parameters.items() if name not in names}


def _values(array: xr.DataArray) -> Array:
    """float64 in this machine's byte order (NetCDF 3 is big-endian)."""
    return np.ascontiguousarray(array.values, dtype=np.float64)


def _stored_provenance(attrs: dict[str, Any]) -> dict[str, str]:
    names = ("parameters", "seed", "versions", "git_commit", "command")
    return {name: str(attrs.get(name, "")) for name in names}
