"""Pictures of results.

`draw` makes the picture of any result; the functions below it draw a panel each: they take a result
and the axes to draw on, return what they drew, and compute nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from cliff.plots.style import (  # first, since it guards the import of matplotlib
    BLUE,
    GREEN,
    GREY,
    LOGIT_COLOURS,
    MEASURE_STYLES,
    ORANGE,
    PURPLE,
    RED,
    ROLES,
    SYMBOLS,
    TIME,
    TRAINING_TIME,
    WIDTH,
    Axes,
    Figure,
    legend_below,
    letter_panels,
    new_figure,
    save,
    style,
    styled,
)

# isort: split
from cliff.checks import ArgumentError
from cliff.plots.comparison import (
    compared_logits,
    compared_losses,
    compared_measures,
    comparison_figure,
    landscape_losses,
    matched_mobilities,
    predicted_times,
)
from cliff.plots.flow import (
    VALLEY_COLOURS,
    ensemble_figure,
    flow_figure,
    landscape_slice,
    logits,
    loss,
    progress_measures,
    starts,
)
from cliff.plots.phase import (
    METRIC_LABELS,
    basin_map,
    phase_figure,
    phase_line,
    phase_map,
    settings_title,
)
from cliff.plots.training import (
    ACCURACY_STYLES,
    attention,
    loss_and_accuracies,
    training_figure,
    training_measures,
)
from cliff.trajectory import Ensemble, Trajectory

if TYPE_CHECKING:
    import xarray as xr

__all__ = [
    "ACCURACY_STYLES",
    "BLUE",
    "GREEN",
    "GREY",
    "LOGIT_COLOURS",
    "MEASURE_STYLES",
    "METRIC_LABELS",
    "ORANGE",
    "PURPLE",
    "RED",
    "ROLES",
    "SYMBOLS",
    "TIME",
    "TRAINING_TIME",
    "VALLEY_COLOURS",
    "WIDTH",
    "Axes",
    "Figure",
    "attention",
    "basin_map",
    "compared_logits",
    "compared_losses",
    "compared_measures",
    "comparison_figure",
    "draw",
    "ensemble_figure",
    "flow_figure",
    "landscape_losses",
    "landscape_slice",
    "legend_below",
    "letter_panels",
    "logits",
    "loss",
    "loss_and_accuracies",
    "matched_mobilities",
    "new_figure",
    "phase_figure",
    "phase_line",
    "phase_map",
    "predicted_times",
    "progress_measures",
    "save",
    "settings_title",
    "starts",
    "style",
    "styled",
    "training_figure",
    "training_measures",
]


def draw(result: Trajectory | Ensemble | xr.Dataset) -> Figure:
    """The picture of any result, as the commands draw it.

    Parameters
    ----------
    result : Trajectory, Ensemble or xarray.Dataset
        A Dataset is one that `train`, `sweep`, `compare` or `load` returned. An ensemble is drawn
        as the basins of its starts.

    Returns
    -------
    Figure
        Outside pyplot's registry; `save` writes it.

    Raises
    ------
    ArgumentError
        If the result has no picture: data from elsewhere, sweeps of other functions than
        `FlowMetric`, sweeps without a cell that is done.
    """
    if isinstance(result, Trajectory):
        from cliff.analysis import slice_around

        smooth = result.sampled(_times(result))
        return flow_figure(smooth, smooth.measures(), slice_around(result))
    if isinstance(result, Ensemble):
        from cliff.valleys import basins

        return ensemble_figure(result, basins(result))
    kind = getattr(result, "attrs", {}).get("cliff_kind")
    if kind == "run":
        return training_figure(result)
    if kind == "comparison":
        return comparison_figure(result)
    if kind == "sweep":
        from cliff.analysis import basin_paths
        from cliff.metrics import FlowMetric

        is_basin = FlowMetric.from_dataset(result).metric == "basin"
        return phase_figure(result, *(basin_paths(result) if is_basin else ()))
    if kind == "figure":
        raise ArgumentError("result", kind, "is drawn by `python -m figures NAME`")
    raise ArgumentError("result", kind or type(result).__name__, "has no picture")


def _times(trajectory: Trajectory) -> np.ndarray[Any, Any]:
    """Times at which a curve looks smooth: even ones, and more where the solver's steps crowd."""
    steps = trajectory.path.t
    even = np.linspace(0.0, steps[-1], 300)
    crowded = np.interp(np.linspace(0, len(steps) - 1, 900), np.arange(len(steps)), steps)
    return np.union1d(even, crowded)
