"""Pictures of results.

`draw` makes the picture of any result; the functions below it draw a panel each: they take a result
and the axes to draw on, return what they drew, and compute nothing.
"""

# ruff: noqa: I001 (one block of re-exports a module, and style first)

from __future__ import annotations

from typing import TYPE_CHECKING

from cliff.plots.style import (  # first, since it guards the import of matplotlib
    BLUE as BLUE,
    GREEN as GREEN,
    GREY as GREY,
    LOGIT_COLOURS as LOGIT_COLOURS,
    MEASURE_STYLES as MEASURE_STYLES,
    ORANGE as ORANGE,
    PURPLE as PURPLE,
    RED as RED,
    ROLES as ROLES,
    SYMBOLS as SYMBOLS,
    TIME as TIME,
    TRAINING_TIME as TRAINING_TIME,
    WIDTH as WIDTH,
    Axes as Axes,
    Figure as Figure,
    legend_below as legend_below,
    letter_panels as letter_panels,
    new_figure as new_figure,
    save as save,
    style as style,
    styled as styled,
)

from cliff.checks import ArgumentError
from cliff.plots.animation import animate as animate
from cliff.plots.comparison import (
    compared_logits as compared_logits,
    compared_losses as compared_losses,
    compared_measures as compared_measures,
    comparison_figure as comparison_figure,
    landscape_losses as landscape_losses,
    matched_mobilities as matched_mobilities,
    predicted_times as predicted_times,
)
from cliff.plots.curriculum import draw_curriculum as draw_curriculum
from cliff.plots.flow import (
    VALLEY_COLOURS as VALLEY_COLOURS,
    ensemble_figure as ensemble_figure,
    flow_figure as flow_figure,
    landscape_slice as landscape_slice,
    logits as logits,
    loss as loss,
    progress_measures as progress_measures,
    smooth_times as smooth_times,
    starts as starts,
)
from cliff.plots.overlay import overlay_figure as overlay_figure
from cliff.plots.phase import (
    METRIC_LABELS as METRIC_LABELS,
    OUTSIDE_COLOUR as OUTSIDE_COLOUR,
    basin_map as basin_map,
    phase_figure as phase_figure,
    phase_line as phase_line,
    phase_map as phase_map,
    settings_title as settings_title,
)
from cliff.plots.training import (
    ACCURACY_STYLES as ACCURACY_STYLES,
    attention as attention,
    loss_and_accuracies as loss_and_accuracies,
    training_figure as training_figure,
    training_measures as training_measures,
)
from cliff.protocol import LandscapeLike
from cliff.trajectory import Ensemble, Trajectory

if TYPE_CHECKING:
    import xarray as xr


def draw(result: Trajectory | Ensemble | xr.Dataset, model: LandscapeLike | None = None) -> Figure:
    """The picture of any result, as the commands draw it.

    Parameters
    ----------
    result : Trajectory, Ensemble or xarray.Dataset
        A Dataset is one that `train`, `sweep`, `compare` or `load` returned. An ensemble is drawn
        as the basins of its starts, or as their losses at the end.
    model : LandscapeLike, optional
        The landscape of a sweep, where it is made of functions, which no dataset can hold.

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

        smooth = result.sampled(smooth_times(result))
        has_slice = result.model.has_loss and result.model.n_parameters > 1
        return flow_figure(smooth, smooth.measures(), slice_around(result) if has_slice else None)
    if isinstance(result, Ensemble):
        from cliff.valleys import basins

        return ensemble_figure(result, basins(result) if result.model.valley_names else None)
    kind = getattr(result, "attrs", {}).get("cliff_kind")
    if kind == "run":
        return training_figure(result)
    if kind == "comparison":
        return comparison_figure(result)
    if kind == "sweep":
        from cliff.analysis import basin_paths
        from cliff.metrics import FlowMetric

        is_basin = FlowMetric.from_dataset(result, model).metric == "basin"
        paths, points = basin_paths(result) if is_basin else ([], [])
        return phase_figure(result, paths, points, model)
    if kind == "figure":
        raise ArgumentError("result", kind, "is drawn by `python -m figures NAME`")
    raise ArgumentError("result", kind or type(result).__name__, "has no picture")
