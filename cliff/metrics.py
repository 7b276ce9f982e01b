"""Metrics of the flow as functions of its parameters, for sweeps and phase diagrams."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from cliff.checks import ArgumentError, choice, finite_array, integer, real
from cliff.flow import integrate_ensemble
from cliff.nested_logit import ANSWERS, NestedLogit
from cliff.presentation import axis_label, plain
from cliff.protocol import LandscapeLike, event_names
from cliff.sweeps import DONE, RESERVED, description
from cliff.trajectory import Status, landscape_and_settings
from cliff.valleys import UNDECIDED, basins, by_constants

if TYPE_CHECKING:
    import xarray as xr

Array = NDArray[np.float64]

START = 0.01
"""Where a component of theta starts by default."""

_STATUS_NAMES = np.array([str(status) for status in Status])
"""Names by the codes in `Ensemble.status`: the failures of cells whose flow stopped early."""

METRICS = ("t_transition", "width", "abruptness", "loss", "basin")
"""Metrics of a landscape with a plateau, a loss and named valleys, beside its events."""

MEMORY_METRICS = ("t_memory", *ANSWERS)
"""Metrics of a nested logit with memory beside these: when the weights alone answer, and what is
answered of the three questions at the end."""

METRIC_UNITS = {
    **dict.fromkeys(ANSWERS, "1"),
    "t_memory": "gradient-flow time",
    "t_transition": "gradient-flow time",
    "width": "gradient-flow time",
    "abruptness": "1",
    "loss": "nat",
    "basin": "label",
}

_LONG_NAMES = {
    "t_memory": "first time at which the weights alone halve the loss of a guess",
    "icl": "mean probability of the answer for novel classes",
    "icl_swapped": "mean probability of the context's answer with permuted labels",
    "iwl": "mean probability of the answer without the target's class in the context",
    "t_transition": "first time with loss ≤ 0.5 plateaus",
    "width": "time between the loss levels of 0.9 and 0.1 plateaus",
    "abruptness": "t_transition / width",
    "loss": "loss at the end time",
    "basin": "index into the landscape's valleys; −1 is undecided",
}


def metrics_of(model: LandscapeLike) -> tuple[str, ...]:
    """The metrics that a landscape has: those of `METRICS` that apply, and its events' times."""
    applies = {
        "t_transition": model.plateau is not None,
        "width": model.plateau is not None,
        "abruptness": model.plateau is not None,
        "loss": model.has_loss,
        "basin": bool(model.valley_names),
    }
    memory = MEMORY_METRICS if isinstance(model, NestedLogit) and model.memory else ()
    names = (*(name for name in METRICS if applies[name]), *memory, *event_names(model))
    return tuple(dict.fromkeys(names))


@dataclass(frozen=True)
class FlowMetric:
    """A metric of the flow as a function of its parameters, for a vectorized `sweep`.

    The parameters, axes of a phase diagram, are the components of the start by their names, the
    mobilities as ``mobility_NAME``, and the landscape's `axes`, which set its constants. Called
    with arrays of shape (m,), one an axis, it returns the metric of m cells and the failure of
    each: '' for a flow that reached its end time, otherwise how it ended ("step limit") or why
    there is none ("fewer labels than pairs"). Parameters without an axis have the values given
    here.

    Attributes
    ----------
    metric : str
        One of `metrics_of` the landscape: "basin" is an index into its valleys, the name of an
        event that event's first time.
    model : LandscapeLike
    theta0, mobility : tuple of float, shape (p,)
        Start and mobilities; () for a start of 0.01 and mobilities of 1 in all components. The
        mobility of a memory logit is that of one class, and is divided by the group's classes.
    t_end, rtol, atol, max_steps
        As in `integrate_ensemble`.
    workers : int or None
        Threads of a block; all cores for None. The data do not depend on it.
    """

    metric: str = "t_transition"
    model: LandscapeLike = field(default_factory=NestedLogit)
    theta0: tuple[float, ...] = ()
    mobility: tuple[float, ...] = ()
    t_end: float = 1000.0
    rtol: float = 1e-6
    atol: float = 1e-9
    max_steps: int = 100_000
    workers: int | None = None

    def __post_init__(self) -> None:
        choice("metric", self.metric, metrics_of(self.model))
        for name, default in (("theta0", START), ("mobility", 1.0)):
            given, p = getattr(self, name), self.model.n_parameters
            values = finite_array(name, given if np.size(given) else (default,) * p, p)
            object.__setattr__(self, name, tuple(values.tolist()))
        if min(self.mobility) < 0.0:
            raise ArgumentError("mobility", self.mobility, "must be at least 0")
        real("t_end", self.t_end, 0.0, exclusive=True)
        real("rtol", self.rtol, 0.0, exclusive=True)
        real("atol", self.atol, 0.0, exclusive=True)
        integer("max_steps", self.max_steps, 1)

    @property
    def parameters(self) -> dict[str, Any]:
        """Settings that determine the data, for a sweep's file: the landscape as data, and ours."""
        names = ("metric", "theta0", "mobility", "t_end", "rtol", "atol", "max_steps")
        return {**self.model.settings(), **{name: getattr(self, name) for name in names}}

    @property
    def axes(self) -> tuple[str, ...]:
        """Names of all parameters that can be axes."""
        names = self.model.parameter_names
        return (*self.model.axes, *names, *(f"mobility_{name}" for name in names))

    @property
    def units(self) -> dict[str, str]:
        """Unit of the metric, for `sweep`."""
        return {self.metric: METRIC_UNITS.get(self.metric, "gradient-flow time")}

    @property
    def long_names(self) -> dict[str, str]:
        """Descriptions of the metric and the axes, for `sweep`."""
        metric = _LONG_NAMES.get(self.metric, f"first time of the event {self.metric}")
        axes = {k: plain(axis_label(self.model, k)) for k in self.axes}
        return axes | {self.metric: metric}

    def check_axes(self, names: Collection[str]) -> None:
        """Raise ArgumentError that names the first axis that is unknown or has no effect.

        Nor can an axis have the name of the metric, or of a variable that every sweep has.
        """
        if not names:
            raise ArgumentError("axes", list(names), "must name at least one axis")
        for name in names:
            if name in (self.metric, *RESERVED):
                raise ArgumentError("axes", name, "is the name of a result: rename it to sweep it")
        self.model.check_axes(names)
        set_by: dict[str, str] = {}
        for name in sorted(names, key=lambda name: (*self.axes, name).index(name)):
            constant = self.model.axes.get(choice("axes", name, self.axes), name)
            other = set_by.setdefault(constant, name)
            if other != name:
                raise ArgumentError("axes", other, f"has no effect next to {name}")

    def __call__(self, **axes: NDArray[Any]) -> dict[str, Any]:
        self.check_axes(axes)
        columns = {name: np.asarray(values, dtype=np.float64) for name, values in axes.items()}
        m = len(next(iter(columns.values())))
        failure = np.full(m, "", dtype=object)
        for name, values in columns.items():
            failure[~np.isfinite(values) & (failure == "")] = f"{name} is not finite"
            if name not in self.model.axes and name.startswith("mobility_"):
                failure[(values < 0.0) & (failure == "")] = f"{name} below 0"
        of_model = {name: values for name, values in columns.items() if name in self.model.axes}
        constants, refused = self.model.constants_at(of_model, m)
        failure = np.where(failure == "", refused, failure)
        valid = failure == ""
        theta0, mobility = (np.tile(row, (m, 1)) for row in (self.theta0, self.mobility))
        for column, name in enumerate(self.model.parameter_names):
            theta0[:, column] = columns.get(name, theta0[:, column])
            mobility[:, column] = columns.get(f"mobility_{name}", mobility[:, column])
        if isinstance(self.model, NestedLogit) and self.model.memory is not None:
            data, groups = self.model.memory, self.model.n_groups
            sizes = np.tile(data.group_sizes, (m, 1))
            sizes[:, -1] = constants.get("n_classes", data.n_classes) + 1 - data.first_ranks[-1]
            mobility[:, -groups:] /= np.maximum(sizes, 1)  # 0 or less in cells that have failed
        is_basin = self.metric == "basin"
        value = np.full(m, UNDECIDED if is_basin else np.nan)
        if valid.any():
            ensemble = integrate_ensemble(
                self.model,
                theta0[valid],
                self.t_end,
                mobility[valid],
                rtol=self.rtol,
                atol=self.atol,
                max_steps=self.max_steps,
                constants={name: values[valid] for name, values in constants.items()},
                workers=self.workers,
            )
            if is_basin:
                value[valid] = basins(ensemble)
            elif self.metric in ANSWERS:
                ends = np.full(len(ensemble.loss), np.nan)
                for model, here in by_constants(ensemble):
                    ends[here] = model.measures(ensemble.theta[here])[self.metric]
                value[valid] = ends
            elif self.metric == "t_memory":
                value[valid] = ensemble.events["memory"]
            elif self.metric in METRICS:
                value[valid] = getattr(ensemble, self.metric)
            else:
                value[valid] = ensemble.events[self.metric]
            failure[valid] = np.where(ensemble.done, "", _STATUS_NAMES[ensemble.status])
        return {self.metric: value, "failure": failure}

    @classmethod
    def from_dataset(cls, dataset: xr.Dataset, model: LandscapeLike | None = None) -> FlowMetric:
        """The metric that a sweep over one or two axes holds.

        Parameters
        ----------
        dataset : xarray.Dataset
        model : LandscapeLike, optional
            The landscape, where it is made of functions, which no dataset can hold.

        Raises
        ------
        ArgumentError
            If the dataset is no such sweep, or none of its cells is done.
        """
        described = description(dataset)
        is_flow = described.get("function") == f"{cls.__module__}.{cls.__qualname__}"
        metric = None
        if is_flow and len(described["axes"]) <= 2:
            try:
                if model is None:
                    model, settings = landscape_and_settings(described["settings"])
                else:
                    own = model.settings()
                    settings = {k: v for k, v in described["settings"].items() if k not in own}
                metric = cls(model=model, **settings)
                metric.check_axes(described["axes"])
            except (ArgumentError, KeyError, TypeError):
                metric = None
        if metric is None:
            raise ArgumentError(
                "dataset", "sweep", "is no phase diagram, of a metric over one or two axes"
            )
        if not (dataset["outcome"] == DONE).any():
            raise ArgumentError("dataset", "sweep", "has no cell that is done")
        if metric.metric not in dataset:
            raise ArgumentError("dataset", "sweep", f"is damaged: it lacks {metric.metric}")
        return metric
