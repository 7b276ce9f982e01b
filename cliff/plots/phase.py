"""Phase diagrams: a metric of the flow over one or two parameters, and basin maps."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import QuadMesh
from matplotlib.colors import BoundaryNorm, ListedColormap, LogNorm
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from numpy.typing import NDArray

from cliff.metrics import METRICS
from cliff.plots.flow import VALLEY_COLOURS, valley_colour
from cliff.plots.style import (
    BLUE,
    GREY,
    PURPLE,
    RED,
    WIDTH,
    Array,
    legend_below,
    log_scale,
    new_figure,
    styled,
)
from cliff.presentation import axis_label, first_few, symbol_of, valley_name
from cliff.protocol import LandscapeLike
from cliff.sweeps import DONE, MISSING, description
from cliff.trajectory import Status, landscape_and_settings
from cliff.valleys import UNDECIDED

if TYPE_CHECKING:
    import xarray as xr

METRIC_LABELS = {
    "t_transition": "transition time (gradient flow)",
    "width": "width of the fall (gradient-flow time)",
    "abruptness": "abruptness, transition time / width",
    "loss": "loss at the end (nats)",
    "basin": "valley at the end",
    "t_memory": "time of the weights' answer (gradient flow)",
    "icl": "icl at the end (probability)",
    "icl_swapped": "icl_swapped at the end (probability)",
    "iwl": "iwl at the end (probability)",
}
NEVER, MISSING_CELL = "never reached", "not computed"
STATE_COLOURS = {NEVER: "#D9D9D9", MISSING_CELL: "#FBE3EC"}
OUTSIDE_COLOUR = "white"
"""Colour of cells beyond the wall of a landscape."""
FAILURE_COLOURS = (PURPLE, "black", "#8C510A")
"""Colours of failures by name, such as flows that hit the step limit."""


def metric_of(dataset: xr.Dataset) -> str:
    """The metric that a phase diagram's dataset holds."""
    asked = description(dataset)["settings"]["metric"]
    return str(next(name for name in (asked, *METRICS) if name in dataset))


def landscape_of(dataset: xr.Dataset, model: LandscapeLike | None = None) -> LandscapeLike:
    """The landscape whose flow was swept: `model`, or what the dataset holds."""
    return model or landscape_and_settings(description(dataset)["settings"])[0]


def metric_label(metric: str) -> str:
    """How a picture writes a metric; one that is not in `METRIC_LABELS` is an event."""
    return METRIC_LABELS.get(metric, f"time of the event {metric} (gradient flow)")


def cell_states(dataset: xr.Dataset) -> dict[str, NDArray[np.bool_]]:
    """Cells without a value, by the reason that a legend gives.

    Returns
    -------
    dict of ndarray of bool
        In the shape of the metric. Only reasons that some cell has.
    """
    outcome = dataset["outcome"].values
    names = json.loads(dataset.attrs["outcomes"])
    found = {name: outcome == code for code, name in enumerate(names) if code > DONE}
    found[MISSING_CELL] = outcome == MISSING
    done = outcome == DONE
    if "status" in dataset:  # files of version 0.1 keep the values of flows that stopped early
        for code, status in enumerate(Status):
            if status is not Status.DONE:
                stopped = done & (dataset["status"].values == code)
                found[str(status)] = found.get(str(status), False) | stopped
                done &= ~stopped
    metric = metric_of(dataset)
    if metric != "basin":
        found[NEVER] = done & ~np.isfinite(dataset[metric].values.astype(float))
    return {name: cells for name, cells in found.items() if cells.any()}


def phase_map(
    dataset: xr.Dataset,
    ax: Axes,
    *,
    ratio: str = "",
    contours: bool = False,
    model: LandscapeLike | None = None,
) -> QuadMesh:
    """A metric over two parameters in colours; cells without a value as the legend says.

    Parameters
    ----------
    dataset : xarray.Dataset
        A sweep of `cliff.metrics.FlowMetric`.
    ax : Axes
    ratio : str
        Name of an axis, the vertical one divided by the horizontal one, to draw in its place.
    contours : bool
        Draw labelled contours of a metric on a logarithmic scale.
    model : LandscapeLike, optional
        The landscape, if the dataset does not hold it.
    """
    metric, model, states, values = _read(dataset, model)
    y, x = map(str, dataset[metric].dims)
    across, up = dataset[x].values, dataset[y].values
    known, wide = values.compressed(), _is_wide(values.compressed())
    at, edges = _grid(across, up, ratio), _grid(_midpoints(across), _midpoints(up), ratio)
    if ratio:
        states = {k: v for k, v in states.items() if k not in model.outside}  # below the axis
    mesh = ax.pcolormesh(
        *edges, values, cmap="viridis_r" if metric == "loss" else "viridis",
        norm=LogNorm() if wide else None, rasterized=True,
    )  # fmt: skip
    handles = _mark_states(states, edges, ax, model)
    if ratio:
        ax.set_facecolor(STATE_COLOURS[MISSING_CELL])
        label = f"{MISSING_CELL} ({symbol_of(axis_label(model, y))} > {up.max()})"
        handles.append(Patch(fc=STATE_COLOURS[MISSING_CELL], ec=GREY, label=label))
        bottom = 0.97 if (x, y) in model.walls else at[1].min()
        log_scale(ax, "xy")
        ax.set(xlim=edges[0][0, [0, -1]], ylim=(bottom, at[1].max()))
        if (x, y) in model.walls:
            handles.append(ax.axhline(1.0, color=RED, lw=2.5, label=model.walls[x, y]))
        ax.set(xlabel=axis_label(model, x), ylabel=axis_label(model, ratio))
    else:
        wall = model.walls.get((x, y), model.walls.get((y, x)))
        low, high = max(across.min(), up.min()), min(across.max(), up.max())
        if wall is not None and low < high:
            handles += ax.plot([low, high], [low, high], color=RED, lw=2, label=wall)
        _finish_phase_axes(dataset, x, y, ax, model)
    if contours and wide:
        levels = _decades(known.min(), known.max())
        bright = known.min() ** 0.4 * known.max() ** 0.6  # where the colours are
        lines = ax.contour(
            *at, values, levels=levels, linewidths=0.8,
            colors=["black" if level > bright else "white" for level in levels],
        )  # fmt: skip
        ax.clabel(lines, fmt=lambda value: f"{value:g}", fontsize=7)
    if handles:
        legend_below(handles, ax, 2)
    return mesh


def _read(
    dataset: xr.Dataset, model: LandscapeLike | None
) -> tuple[str, LandscapeLike, dict[str, NDArray[np.bool_]], np.ma.MaskedArray[Any, Any]]:
    """Metric, landscape, `cell_states`, and the metric's values, masked where there is none."""
    metric, states = metric_of(dataset), cell_states(dataset)
    values = np.ma.masked_array(dataset[metric].values.astype(float))
    for cells in states.values():
        values[cells] = np.ma.masked
    return metric, landscape_of(dataset, model), states, values


def _grid(across: Array, up: Array, ratio: str = "") -> tuple[Array, Array]:
    """Points of a grid, for a ratio with the vertical values divided by the horizontal ones."""
    x, y = np.meshgrid(across, up)
    return x, y / x if ratio else y


def _is_wide(known: Array) -> bool:
    """Whether values are drawn on a logarithmic scale."""
    return bool(known.size and known.min() > 0.0 and known.max() > 20.0 * known.min())


def _decades(low: float, high: float) -> Array:
    """1, 3, 10, 30, … between two numbers."""
    powers = 10.0 ** np.arange(np.floor(np.log10(low)), np.ceil(np.log10(high)) + 1)
    levels = np.sort(np.concatenate([powers, 3.0 * powers]))
    return levels[(levels > low) & (levels < high)]


def _midpoints(grid: NDArray[Any]) -> Array:
    """Edges of cells around values: geometric means on an axis that is drawn logarithmically."""
    values = np.asarray(grid, dtype=float)
    if len(values) == 1:
        return values + np.array([-0.5, 0.5])
    warp, back = (np.log, np.exp) if _logarithmic(values) else (np.asarray, np.asarray)
    places = warp(values)
    middle = 0.5 * (places[1:] + places[:-1])
    ends = 1.5 * places[[0, -1]] - 0.5 * places[[1, -2]]
    return np.asarray(back(np.concatenate([ends[:1], middle, ends[1:]])))


def _logarithmic(values: NDArray[Any]) -> bool:
    """Whether an axis is drawn logarithmically: wide, and sampled more densely where it is low."""
    if len(values) < 3 or values.min() <= 0.0 or values.max() <= 8.0 * values.min():
        return False
    steps = np.abs(np.diff(values))
    return bool(steps.max() > 2.0 * steps.min())


def _mark_states(
    states: dict[str, NDArray[np.bool_]],
    edges: tuple[Array, Array],
    ax: Axes,
    model: LandscapeLike,
) -> list[Any]:
    """Colour cells without a value; return legend entries for them."""
    known = STATE_COLOURS | dict.fromkeys(model.outside, OUTSIDE_COLOUR)
    failures = [name for name in states if name not in known]
    colours = known | {
        name: FAILURE_COLOURS[i % len(FAILURE_COLOURS)] for i, name in enumerate(failures)
    }
    for name, cells in states.items():
        blank = np.ma.masked_where(~cells, np.zeros(cells.shape))
        ax.pcolormesh(*edges, blank, cmap=ListedColormap([colours[name]]), rasterized=True)
    return [Patch(facecolor=colours[name], edgecolor=GREY, label=name) for name in states]


def _finish_phase_axes(dataset: xr.Dataset, x: str, y: str, ax: Axes, model: LandscapeLike) -> None:
    sides = zip("xy", (x, y), strict=True)
    log_scale(ax, [side for side, name in sides if _logarithmic(dataset[name].values)])
    ax.set(xlabel=axis_label(model, x), ylabel=axis_label(model, y))


def basin_map(
    dataset: xr.Dataset,
    ax: Axes,
    paths: Sequence[Array] = (),
    points: Sequence[tuple[float, float]] = (),
) -> QuadMesh:
    """The valley that the flow ends in, over two parameters.

    Parameters
    ----------
    dataset : xarray.Dataset
        A sweep of the metric "basin".
    ax : Axes
    paths : sequence of ndarray, shape (n, 2)
        Sample paths to draw in; see `cliff.analysis.basin_paths`.
    points : sequence of (x, y)
        Saddles to mark.
    """
    _, model, states, values = _read(dataset, None)
    y, x = map(str, dataset["basin"].dims)
    edges = _grid(_midpoints(dataset[x].values), _midpoints(dataset[y].values))
    labels: Any = np.ma.masked_array(values.filled(UNDECIDED).astype(int), values.mask)
    count = max(len(VALLEY_COLOURS), len(model.valley_names) + 1)
    colours = ListedColormap([valley_colour(label) for label in range(-1, count - 1)])
    norm = BoundaryNorm(np.arange(count + 1) - 1.5, count)
    mesh = ax.pcolormesh(*edges, labels, cmap=colours, norm=norm, rasterized=True, alpha=0.85)
    handles: list[Any] = [
        Patch(facecolor=valley_colour(code), edgecolor=GREY, label=valley_name(model, code))
        for code in np.unique(labels.compressed()).tolist()
    ]
    handles += _mark_states(states, edges, ax, model)
    limits = ax.get_xlim(), ax.get_ylim()
    for path in paths:
        ax.plot(*path.T, color="black", lw=0.9)
        ax.plot(*path[0], ".", color="black", ms=5)
    if len(paths):
        handles.append(Line2D([], [], color="black", lw=0.9, marker=".", label="path from a start"))
    saddle: dict[str, Any] = {"ls": "", "marker": "X", "color": "white", "mec": "black", "ms": 7}
    for point in points:
        ax.plot(*point, **saddle)
    if points:
        handles.append(Line2D([], [], label="saddle", **saddle))
    ax.set(xlim=limits[0], ylim=limits[1])
    _finish_phase_axes(dataset, x, y, ax, model)
    legend_below(handles, ax, 2)
    return mesh


@styled
def phase_figure(
    dataset: xr.Dataset,
    paths: Sequence[Array] = (),
    points: Sequence[tuple[float, float]] = (),
    model: LandscapeLike | None = None,
) -> Figure:
    """A phase diagram with its colours explained, and what is held fixed in the title."""
    metric = metric_of(dataset)
    figure, axes = new_figure(0.75 * WIDTH, 4.4)
    ax = axes[0, 0]
    if dataset[metric].ndim == 1:
        phase_line(dataset, ax, model)
    elif metric == "basin":
        basin_map(dataset, ax, paths, points)
    else:
        figure.colorbar(phase_map(dataset, ax, model=model), ax=ax, label=metric_label(metric))
    ax.set_title(settings_title(dataset, model))
    return figure


def settings_title(dataset: xr.Dataset, model: LandscapeLike | None = None) -> str:
    """What a sweep held fixed: constants, end, starts, and mobilities that are not 1."""
    model, settings = landscape_of(dataset, model), description(dataset)["settings"]
    dims = [str(name) for name in dataset.dims]
    swept = {model.axes.get(name) for name in dims}
    held = model.describe({k: v for k, v in model.constants.items() if k not in swept})
    first = [*filter(None, [held]), f"to $t$ = {settings['t_end']:g}"]
    second = []
    for name, start, rate in zip(
        model.parameter_names, settings["theta0"], settings["mobility"], strict=True
    ):
        symbol = symbol_of(model.labels.get(name, name))
        if name not in dims:
            second.append(f"{symbol} = {start:g}")
        if rate != 1.0 and f"mobility_{name}" not in dims:
            second.append(f"mobility of {symbol} {rate:g}")
    starts = ["start " + first_few(second, 8 if model.n_parameters <= 4 else 5)] if second else []
    return "\n".join([", ".join(first), *starts])


def phase_line(dataset: xr.Dataset, ax: Axes, model: LandscapeLike | None = None) -> list[Line2D]:
    """A metric over one parameter; cells without a value are marked at the bottom."""
    metric, model, states, values = _read(dataset, model)
    x = str(dataset[metric].dims[0])
    across = np.asarray(dataset[x].values, dtype=float)
    lines = ax.plot(across, values.filled(np.nan), "o-", color=BLUE, ms=4)
    sides = ("x", across), ("y", values.compressed())
    log_scale(ax, [side for side, known in sides if _is_wide(known)])
    if metric == "basin":
        codes = range(-1, len(model.valley_names))
        ax.set_yticks(codes, [valley_name(model, label) for label in codes])
    marks = []
    for marker, (name, cells) in zip("x+1234v^", states.items(), strict=False):
        # at the bottom of the axes, whatever the scale
        where, bottom = across[cells], ax.get_xaxis_transform()
        height = np.full(len(where), 0.02)
        marks += ax.plot(where, height, marker, color=GREY, ms=5, label=name, transform=bottom)
    ax.set(xlabel=axis_label(model, x), ylabel=metric_label(metric))
    if marks:
        legend_below(marks, ax, 2)
    return lines
