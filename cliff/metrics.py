"""Metrics of the gradient flow as functions of its parameters, for sweeps and phase diagrams."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from cliff.checks import LARGEST_INTEGER, ArgumentError, choice, finite_array, integer, real
from cliff.flow import integrate_ensemble
from cliff.nested_logit import PARAMETERS, NestedLogit
from cliff.sweeps import DONE, description
from cliff.trajectory import Status
from cliff.valleys import UNDECIDED, basins

if TYPE_CHECKING:
    import xarray as xr

Array = NDArray[np.float64]

AXES = (
    "pairs",
    "labels",
    "labels_per_pair",
    *PARAMETERS,
    *(f"mobility_{name}" for name in PARAMETERS),
)
"""Parameters that a phase diagram can have on its axes."""

FEWER_LABELS = "fewer labels than pairs"
"""Failure of cells beyond the wall L = N, where no landscape exists."""

_STATUS_NAMES = np.array([str(status) for status in Status])
"""Names by the codes in `Ensemble.status`: the failures of cells whose flow stopped early."""

METRICS = ("t_transition", "width", "abruptness", "loss", "basin")

METRIC_UNITS = {
    "t_transition": "gradient-flow time",
    "width": "gradient-flow time",
    "abruptness": "1",
    "loss": "nat",
    "basin": "label",
}

LONG_NAMES = {
    "t_transition": "first time with loss ≤ 0.5 log N",
    "width": "time between the loss levels 0.9 log N and 0.1 log N",
    "abruptness": "t_transition / width",
    "loss": "loss at the end time",
    "basin": "index into cliff.valleys.VALLEYS; −1 is undecided",
    "pairs": "item–label pairs N",
    "labels": "labels L",
    "labels_per_pair": "labels per pair L/N",
    **{name: f"{name} at the start" for name in PARAMETERS},
    **{f"mobility_{name}": f"mobility of {name}" for name in PARAMETERS},
}
"""Descriptions of the metrics and axes."""


@dataclass(frozen=True)
class FlowMetric:
    """A metric of the flow as a function of the parameters in `AXES`, for a vectorized `sweep`.

    Called with arrays of shape (m,), one an axis, it returns the metric of m cells and the failure
    of each: '' for a flow that reached its end time, otherwise how it ended ("step limit") or why
    there is none ("fewer labels than pairs"). Parameters without an axis have the values given
    here.

    Attributes
    ----------
    metric : str
        One of `METRICS`; "basin" is an index into `cliff.valleys.VALLEYS`.
    pairs, labels : int
        N and L. An axis `labels_per_pair` makes L the nearest integer to that multiple of N.
    positions, label_bias
        As in `NestedLogit`.
    theta0, mobility : tuple of float
        Start and mobilities, of length 3 or, with a free label bias, 4.
    t_end, rtol, atol, max_steps
        As in `integrate_ensemble`.
    workers : int or None
        Threads of a block; all cores for None. The data do not depend on it.
    """

    metric: str = "t_transition"
    pairs: int = 8
    labels: int = 32
    positions: str = "exact"
    label_bias: float | str = 0.0
    theta0: tuple[float, ...] = (0.01, 0.01, 0.01)
    mobility: tuple[float, ...] = (1.0, 1.0, 1.0)
    t_end: float = 1000.0
    rtol: float = 1e-6
    atol: float = 1e-9
    max_steps: int = 100_000
    workers: int | None = None

    def __post_init__(self) -> None:
        choice("metric", self.metric, METRICS)
        for name in ("theta0", "mobility"):
            values = finite_array(name, getattr(self, name), self.model.n_parameters)
            object.__setattr__(self, name, tuple(values.tolist()))
        if min(self.mobility) < 0.0:
            raise ArgumentError("mobility", self.mobility, "must be at least 0")
        real("t_end", self.t_end, 0.0, exclusive=True)
        real("rtol", self.rtol, 0.0, exclusive=True)
        real("atol", self.atol, 0.0, exclusive=True)
        integer("max_steps", self.max_steps, 1)

    @property
    def model(self) -> NestedLogit:
        return NestedLogit(self.pairs, self.labels, self.positions, self.label_bias)

    @property
    def parameters(self) -> dict[str, Any]:
        """Settings that determine the data, for a sweep's file."""
        return {name: value for name, value in asdict(self).items() if name != "workers"}

    def check_axes(self, names: Collection[str]) -> None:
        """Raise ArgumentError that names the first axis that is unknown or has no effect."""
        if not names:
            raise ArgumentError("axes", list(names), "must name at least one axis")
        for name in names:
            choice("axes", name, AXES)
            component = name.removeprefix("mobility_")
            if component == "beta2" and self.label_bias != "free":
                raise ArgumentError("axes", name, "has no effect unless the label bias is free")
            if component == "beta2" and self.positions == "mean":
                raise ArgumentError("axes", name, "has no effect in the mean field")
            if name == "labels" and "labels_per_pair" in names:
                raise ArgumentError("axes", name, "has no effect next to labels_per_pair")

    def __call__(self, **axes: NDArray[Any]) -> dict[str, Any]:
        self.check_axes(axes)
        m = len(next(iter(axes.values())))
        columns = {name: np.asarray(values, dtype=np.float64) for name, values in axes.items()}
        counts = {
            "pairs": columns.get("pairs", np.full(m, float(self.pairs))),
            "labels": columns.get("labels", np.full(m, float(self.labels))),
        }
        if "labels_per_pair" in columns:
            counts["labels"] = np.rint(columns["labels_per_pair"] * counts["pairs"])
        failure = _failures(columns, counts)
        valid = failure == ""
        pairs, labels = (values[valid].astype(np.int64) for values in counts.values())
        theta0, mobility = np.tile(self.theta0, (m, 1)), np.tile(self.mobility, (m, 1))
        for column, name in enumerate(self.model.parameter_names):
            theta0[:, column] = columns.get(name, theta0[:, column])
            mobility[:, column] = columns.get(f"mobility_{name}", mobility[:, column])
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
                constants={"n_pairs": pairs, "n_labels": labels},
                workers=self.workers,
            )
            value[valid] = basins(ensemble) if is_basin else getattr(ensemble, self.metric)
            failure[valid] = np.where(ensemble.done, "", _STATUS_NAMES[ensemble.status])
        return {self.metric: value, "failure": failure}

    @classmethod
    def from_dataset(cls, dataset: xr.Dataset) -> FlowMetric:
        """The metric that a sweep over one or two axes holds.

        Raises
        ------
        ArgumentError
            If the dataset is no such sweep, or none of its cells is done.
        """
        described = description(dataset)
        try:
            metric = cls(**described["settings"])
            metric.check_axes(described["axes"])
        except (ArgumentError, KeyError, TypeError):
            metric = None
        is_flow = described.get("function") == f"{cls.__module__}.{cls.__qualname__}"
        if metric is None or not is_flow or len(described["axes"]) > 2:
            raise ArgumentError(
                "dataset", "sweep", "is no phase diagram, of a metric over one or two axes"
            )
        if metric.metric not in dataset or not (dataset["outcome"] == DONE).any():
            raise ArgumentError("dataset", "sweep", "has no cell that is done")
        return metric


def _failures(columns: Mapping[str, Array], counts: Mapping[str, Array]) -> NDArray[Any]:
    """Why a cell has no flow, shape (m,); '' where it has one."""
    failure = np.full(len(counts["pairs"]), "", dtype=object)

    def fail(where: NDArray[np.bool_], reason: str) -> None:
        failure[where & (failure == "")] = reason

    for name, values in columns.items():
        fail(~np.isfinite(values), f"{name} is not finite")
        if name.startswith("mobility_"):
            fail(values < 0.0, f"{name} below 0")
    fail(counts["labels"] < counts["pairs"], FEWER_LABELS)
    for name, values in counts.items():
        whole = (values == np.rint(values)) & (values >= 1.0) & (values <= LARGEST_INTEGER)
        fail(~whole, f"{name} must be a whole number of at least 1 and at most {LARGEST_INTEGER}")
    return failure
