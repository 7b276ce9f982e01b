"""Pictures: functions of results that draw and never compute.

Every function takes what it shows, and the axes to show it on, and returns what it drew. Colours
are those of Okabe and Ito, which the colour-blind tell apart, and sequential maps that print in
grey.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import BoundaryNorm, ListedColormap, LogNorm
from matplotlib.figure import Figure
from matplotlib.image import AxesImage
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullFormatter
from numpy.typing import NDArray

from cliff.analysis import Slice
from cliff.metrics import FEWER_LABELS, METRICS
from cliff.store import write_atomic
from cliff.sweeps import DONE
from cliff.trajectory import Trajectory
from cliff.valleys import UNDECIDED, name_of

if TYPE_CHECKING:
    import xarray as xr

Array = NDArray[np.float64]

BLUE, ORANGE, GREEN, RED, PURPLE, GREY = (
    "#0072B2",
    "#E69F00",
    "#009E73",
    "#D55E00",
    "#CC79A7",
    "#666666",
)
SYMBOLS = {"beta1": r"$\beta_1$", "alpha": r"$\alpha$", "xi": r"$\xi$", "beta2": r"$\beta_2$"}
ROLES = {
    "beta1": "previous token",
    "alpha": "match",
    "xi": "classifier",
    "beta2": "label bias",
}
LOGIT_COLOURS = {"beta1": BLUE, "alpha": ORANGE, "xi": GREEN, "beta2": PURPLE}
MEASURE_STYLES = {
    "ila1": (BLUE, "-", "ila1: label to its item, layer 1"),
    "tila2": (ORANGE, "-", "tila2: target to the label, layer 2"),
    "tla2": (RED, ":", "tla2: target to labels, layer 2"),
    "cla": (GREEN, "--", "cla: prediction in the context"),
    "accuracy": ("black", "-.", "accuracy"),
}
TIME = "time $t$ (gradient flow)"


def new_figure(width: float, height: float, rows: int = 1, columns: int = 1) -> tuple[Figure, Any]:
    """A figure outside pyplot's registry, and its axes (rows, columns); sizes in inches."""
    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    return figure, figure.subplots(rows, columns, squeeze=False)


def save(figure: Figure, path: str | os.PathLike[str]) -> Path:
    """Write a picture atomically; the ending of the name gives the format."""
    kind = Path(path).suffix.lower().lstrip(".")
    return write_atomic(path, lambda file: figure.savefig(file, format=kind, dpi=160))


def loss(trajectory: Trajectory, ax: Axes) -> list[Line2D]:
    """Loss against time, with the start at log L, the plateau at log N and the transition."""
    model, transition = trajectory.model, trajectory.transition()
    lines = ax.plot(trajectory.t, trajectory.loss, color="black", lw=1.8, label="loss")
    lines.append(
        ax.axhline(
            np.log(model.n_labels), color=GREY, ls=":", lw=1, label=r"$\log L$ (no knowledge)"
        )
    )
    if model.n_pairs > 1:
        lines.append(
            ax.axhline(
                model.plateau, color=BLUE, ls="--", lw=1, label=r"$\log N$ (guess in context)"
            )
        )
    if np.isfinite(transition.t_transition):
        t, half = transition.t_transition, 0.5 * model.plateau
        lines.append(ax.axvline(t, color=RED, lw=1, label=f"transition, $t$ = {t:.1f}"))
        lines += ax.plot([t], [half], "o", color=RED, ms=4)
        begin, _, end = trajectory.crossings
        if np.isfinite(end):
            ax.axvspan(begin, end, color=RED, alpha=0.15, lw=0)
    ax.set(xlabel=TIME, ylabel="loss (nats)", ylim=(0.0, 1.06 * np.max(trajectory.loss)))
    ax.legend(frameon=False, fontsize="small", loc="lower left")
    return lines


def logits(trajectory: Trajectory, ax: Axes) -> list[Line2D]:
    """The nested logits against time."""
    lines = []
    for name, values in zip(trajectory.model.parameter_names, trajectory.theta.T, strict=True):
        label = f"{SYMBOLS[name]} ({ROLES[name]})"
        lines += ax.plot(trajectory.t, values, color=LOGIT_COLOURS[name], lw=1.5, label=label)
    ax.set(xlabel=TIME, ylabel="logit")
    ax.legend(frameon=False, fontsize="small", loc="upper left")
    return lines


def progress_measures(t: Array, measures: Mapping[str, Array], ax: Axes) -> list[Line2D]:
    """Progress measures against time."""
    lines = []
    for name, (colour, style, label) in MEASURE_STYLES.items():
        lines += ax.plot(t, measures[name], color=colour, ls=style, lw=1.5, label=label)
    ax.set(xlabel=TIME, ylabel="attention or probability", ylim=(-0.02, 1.02))
    _legend_below(lines, ax, columns=2)
    return lines


def landscape_slice(part: Slice, ax: Axes, path: Array | None = None) -> Any:
    """The loss over a plane, with contours, and a path (n, 2) on it; returns the coloured mesh."""
    mesh = ax.pcolormesh(
        part.x, part.y, part.loss, cmap="cividis", shading="gouraud", rasterized=True
    )
    ax.contour(part.x, part.y, part.loss, levels=10, colors="white", linewidths=0.5, alpha=0.7)
    if path is not None:
        ax.plot(*path.T, color=RED, lw=1.8)
        ax.plot(*path[0], "o", color="white", mec="black", ms=6, label="start")
        ax.plot(*path[-1], "s", color=RED, mec="black", ms=6, label="end")
        ax.legend(frameon=True, fontsize="small", loc="lower right")
    x, y = part.names
    fixed = ", ".join(f"{SYMBOLS[name]} = {value:.2f}" for name, value in part.fixed.items())
    ax.set(xlabel=f"{SYMBOLS[x]} ({ROLES[x]})", ylabel=f"{SYMBOLS[y]} ({ROLES[y]})")
    ax.set_title(f"slice at {fixed}", fontsize="medium")
    return mesh


def flow_figure(trajectory: Trajectory, measures: Mapping[str, Array], part: Slice) -> Figure:
    """One trajectory in four panels: loss, logits, progress measures, path on the landscape."""
    model = trajectory.model
    figure, axes = new_figure(10.0, 7.2, 2, 2)
    loss(trajectory, axes[0, 0])
    logits(trajectory, axes[0, 1])
    progress_measures(trajectory.t, measures, axes[1, 0])
    columns = [model.parameter_names.index(name) for name in part.names]
    mesh = landscape_slice(part, axes[1, 1], trajectory.theta[:, columns])
    figure.colorbar(mesh, ax=axes[1, 1], label="loss (nats)")
    figure.suptitle(
        f"Gradient flow off the plateau: $N$ = {model.n_pairs}, $L$ = {model.n_labels}, "
        f"{model.positions} positions"
    )
    return figure


AXIS_LABELS = {
    "pairs": "pairs in the context, $N$",
    "labels": "labels, $L$",
    "labels_per_pair": "labels per pair, $L/N$",
    **{name: f"{SYMBOLS[name]} at the start ({ROLES[name]})" for name in SYMBOLS},
    **{f"mobility_{name}": f"mobility of {SYMBOLS[name]} ({ROLES[name]})" for name in SYMBOLS},
}
METRIC_LABELS = {
    "t_transition": "transition time (gradient flow)",
    "width": "width of the fall (gradient-flow time)",
    "abruptness": "abruptness, transition time / width",
    "loss": "loss at the end (nats)",
    "basin": "valley at the end",
}
NEVER, IMPOSSIBLE = "#D9D9D9", "white"
BASIN_COLOURS = dict(
    enumerate((NEVER, BLUE, RED, ORANGE, GREEN, PURPLE, "#000000"), start=UNDECIDED)
)
"""Colours of "undecided" and of `cliff.valleys.VALLEYS`, by label."""


def metric_of(dataset: xr.Dataset) -> str:
    """The metric that a phase diagram's dataset holds."""
    return next(str(name) for name in METRICS if name in dataset)


def phase_map(dataset: xr.Dataset, ax: Axes) -> Any:
    """A metric over two parameters: colours, "never reached" in grey, impossible cells white.

    The dataset is a sweep of `cliff.analysis.FlowMetric`; returns the coloured mesh.
    """
    metric = metric_of(dataset)
    y, x = (str(name) for name in dataset[metric].dims)
    values = np.asarray(dataset[metric].values, dtype=float)
    values[~np.isfinite(values)] = np.nan
    ax.set_facecolor(NEVER)
    finite = values[np.isfinite(values)]
    wide = finite.size and finite.min() > 0.0 and finite.max() > 20.0 * finite.min()
    mesh = ax.pcolormesh(
        dataset[x].values,
        dataset[y].values,
        np.ma.masked_invalid(values),
        cmap="viridis_r" if metric == "loss" else "viridis",
        norm=LogNorm() if wide else None,
        shading="nearest",
        rasterized=True,
    )
    handles = _mark_cells(dataset, x, y, ax)
    impossible = _impossible(dataset)
    if (np.isnan(values) & ~impossible).any():
        handles.append(Patch(facecolor=NEVER, edgecolor=GREY, label="never reached"))
    handles += _mark_wall(dataset, x, y, ax)
    _finish_phase_axes(dataset, x, y, ax)
    if handles:
        ax.legend(handles=handles, fontsize="small", loc="upper left", framealpha=0.9)
    return mesh


def _impossible(dataset: xr.Dataset) -> NDArray[np.bool_]:
    """Which cells have fewer labels than pairs."""
    names = json.loads(dataset.attrs["outcomes"])
    codes = [code for code, name in enumerate(names) if name == FEWER_LABELS]
    return np.isin(dataset["outcome"].values, codes)


def _mark_cells(dataset: xr.Dataset, x: str, y: str, ax: Axes) -> list[Any]:
    """Blank cells that cannot be; return legend entries for them."""
    impossible = _impossible(dataset)
    if not impossible.any():
        return []
    blank = np.ma.masked_where(~impossible, np.zeros(impossible.shape))
    ax.pcolormesh(
        dataset[x].values,
        dataset[y].values,
        blank,
        cmap=ListedColormap([IMPOSSIBLE]),
        shading="nearest",
        rasterized=True,
    )
    return [Patch(facecolor=IMPOSSIBLE, edgecolor=GREY, label=FEWER_LABELS)]


def _mark_wall(dataset: xr.Dataset, x: str, y: str, ax: Axes) -> list[Line2D]:
    """The line L = N on a map over pairs and labels."""
    if {x, y} != {"pairs", "labels"}:
        return []
    low = max(dataset[x].values.min(), dataset[y].values.min())
    high = min(dataset[x].values.max(), dataset[y].values.max())
    return ax.plot([low, high], [low, high], color=RED, lw=2, label="wall $L$ = $N$")


def _finish_phase_axes(dataset: xr.Dataset, x: str, y: str, ax: Axes) -> None:
    for name, set_scale in ((x, ax.set_xscale), (y, ax.set_yscale)):
        values = np.asarray(dataset[name].values, dtype=float)
        if len(values) > 2 and values.min() > 0.0 and values.max() > 8.0 * values.min():
            steps = np.diff(values)
            if steps.max() > 2.0 * steps.min():
                set_scale("log")
                _plain_ticks(ax.xaxis if name == x else ax.yaxis)
    ax.set(xlabel=AXIS_LABELS[x], ylabel=AXIS_LABELS[y])


def _plain_ticks(axis: Axis) -> None:
    """Ticks of a logarithmic axis at 1, 2, 5, 10, … as plain numbers."""
    axis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axis.set_minor_formatter(NullFormatter())


def basin_map(
    dataset: xr.Dataset,
    ax: Axes,
    paths: Sequence[Array] = (),
    points: Sequence[tuple[float, float]] = (),
) -> Any:
    """Which valley the flow ends in, over two parameters; cells that were not computed are white.

    Parameters
    ----------
    dataset : xarray.Dataset
        A sweep of the metric "basin".
    ax : Axes
    paths : sequence of ndarray, shape (n, 2)
        Sample paths to draw in.
    points : sequence of (x, y)
        Saddles to mark.
    """
    y, x = (str(name) for name in dataset["basin"].dims)
    labels = np.ma.masked_where(dataset["outcome"].values != DONE, dataset["basin"].values)
    present = np.unique(labels.compressed()).tolist()
    mesh = ax.pcolormesh(
        dataset[x].values,
        dataset[y].values,
        labels,
        cmap=ListedColormap(list(BASIN_COLOURS.values())),
        norm=BoundaryNorm(np.arange(len(BASIN_COLOURS) + 1) - 1.5, len(BASIN_COLOURS)),
        shading="nearest",
        rasterized=True,
        alpha=0.85,
    )
    handles: list[Any] = [
        Patch(
            facecolor=BASIN_COLOURS[code],
            edgecolor=GREY,
            label=name_of(code),
        )
        for code in present
    ]
    handles += _mark_cells(dataset, x, y, ax)
    limits = ax.get_xlim(), ax.get_ylim()
    for path in paths:
        ax.plot(*path.T, color="black", lw=0.9)
        ax.plot(*path[0], ".", color="black", ms=5)
    if paths:
        handles.append(Line2D([], [], color="black", lw=0.9, marker=".", label="path from a start"))
    for point in points:
        ax.plot(*point, "X", color="white", mec="black", ms=10)
    if points:
        handles.append(
            Line2D([], [], ls="", marker="X", color="white", mec="black", ms=9, label="saddle")
        )
    ax.set(xlim=limits[0], ylim=limits[1])
    _finish_phase_axes(dataset, x, y, ax)
    ax.legend(handles=handles, fontsize="small", loc="center left", bbox_to_anchor=(1.02, 0.5))
    return mesh


def phase_figure(
    dataset: xr.Dataset,
    paths: Sequence[Array] = (),
    points: Sequence[tuple[float, float]] = (),
) -> Figure:
    """A phase diagram with its colours explained and the settings in the title."""
    metric = metric_of(dataset)
    settings = json.loads(dataset.attrs["parameters"])["settings"]
    figure, axes = new_figure(7.2, 4.8)
    ax = axes[0, 0]
    if dataset[metric].ndim == 1:
        phase_line(dataset, ax)
    elif metric == "basin":
        basin_map(dataset, ax, paths, points)
    else:
        figure.colorbar(phase_map(dataset, ax), ax=ax, label=METRIC_LABELS[metric])
    held = {"pairs": "$N$", "labels": "$L$"}
    if "labels_per_pair" in dataset.dims:
        del held["labels"]
    fixed = [f"{mark} = {settings[key]}" for key, mark in held.items() if key not in dataset.dims]
    fixed += [f"{settings['positions']} positions", f"to $t$ = {settings['t_end']:g}"]
    ax.set_title(", ".join(fixed), fontsize="medium")
    return figure


def phase_line(dataset: xr.Dataset, ax: Axes) -> list[Line2D]:
    """A metric over one parameter."""
    metric = metric_of(dataset)
    x = str(dataset[metric].dims[0])
    values = dataset[metric].where(dataset["outcome"] == DONE).values.astype(float)
    lines = ax.plot(dataset[x].values, values, "o-", color=BLUE, ms=4)
    _finish_line_axes(np.asarray(dataset[x].values, dtype=float), values, ax)
    if metric == "basin":
        ax.set_yticks(list(BASIN_COLOURS), [name_of(label) for label in BASIN_COLOURS])
    ax.set(xlabel=AXIS_LABELS[x], ylabel=METRIC_LABELS[metric])
    return lines


def _finish_line_axes(x: Array, y: Array, ax: Axes) -> None:
    for values, set_scale, axis in (
        (x, ax.set_xscale, ax.xaxis),
        (y, ax.set_yscale, ax.yaxis),
    ):
        known = values[np.isfinite(values)]
        if known.size and known.min() > 0.0 and known.max() > 20.0 * known.min():
            set_scale("log")
            _plain_ticks(axis)


ACCURACY_STYLES = {
    "icl": (BLUE, "-", "icl: from the context, novel classes"),
    "icl_swapped": (GREEN, "--", "icl_swapped: known classes, swapped labels"),
    "iwl": (RED, "-", "iwl: from the weights"),
}
TRAINING_TIME = "time $t$ = learning rate × steps"


def training_figure(run: xr.Dataset) -> Figure:
    """Loss and accuracies, progress measures, attention before and after (of the first run)."""
    figure, axes = new_figure(10.0, 11.0, 3, 2)
    loss_and_accuracies(run, axes[0, 0])
    training_measures(run, axes[0, 1])
    first = run.isel(seed=0) if "seed" in run.dims else run
    for row, layer in zip(axes[1:], ("attention1", "attention2"), strict=True):
        for ax, moment in zip(row, run.moment.values, strict=True):
            image = attention(first, layer, moment, ax)
    figure.colorbar(image, ax=axes[1:], label="attention", shrink=0.6)
    figure.suptitle(_heading(run), fontsize="medium")
    return figure


def _heading(run: xr.Dataset) -> str:
    """Which runs a picture shows, and those that went wrong."""
    made = json.loads(run.attrs["parameters"])
    text = "{model}, N = {n_pairs}, L = {n_labels}, learning rate {lr:g}".format(
        **made["task"], **{name: made[name] for name in ("model", "lr")}
    )
    seeds, status = np.atleast_1d(run.seed.values), np.atleast_1d(run.status.values)
    if len(seeds) > 1:
        text += f", {len(seeds)} seeds (attention: seed {seeds[0]})"
    for seed in seeds[status == "not finite"]:
        text += f"\nseed {seed}: loss not finite at the end"
    return text


def loss_and_accuracies(run: xr.Dataset, ax: Axes) -> list[Line2D]:
    """Loss against time, and on an axis of their own the accuracies on the three questions."""
    lines = _bundle(run, "loss", ax, "black", "-", "loss")
    ax.set(xlabel=TRAINING_TIME, ylabel="loss (nats)", ylim=(0, None))
    accuracy_ax = ax.twinx()
    for name, style in ACCURACY_STYLES.items():
        lines += _bundle(run, name, accuracy_ax, *style)
    accuracy_ax.set(ylabel="accuracy", ylim=(-0.02, 1.02))
    _legend_below(lines, ax)
    return lines


def training_measures(run: xr.Dataset, ax: Axes) -> list[Line2D]:
    """Progress measures against time."""
    lines = []
    for name, style in MEASURE_STYLES.items():
        lines += _bundle(run, name, ax, *style)
    ax.set(xlabel=TRAINING_TIME, ylabel="attention or probability", ylim=(-0.02, 1.02))
    _legend_below(lines, ax)
    return lines


def attention(run: xr.Dataset, layer: str, moment: str, ax: Axes) -> AxesImage:
    """Mean attention of one layer, "attention1" or "attention2", "before" or "after" training."""
    title, row = {
        "attention1": ("layer 1", "token"),
        "attention2": ("layer 2, target", "slot of the matching pair"),
    }[layer]
    values = run[layer].sel(moment=moment).values
    rows, columns = values.shape
    image = ax.imshow(
        values, vmin=0, vmax=1, cmap="cividis", aspect="auto",
        extent=(0.5, columns + 0.5, rows + 0.5, 0.5),
    )  # fmt: skip
    ax.set(title=f"{title}: {moment}", xlabel="token attended to", ylabel=row)
    for axis in (ax.xaxis, ax.yaxis):
        axis.set_major_locator(MaxNLocator(integer=True))
    return image


def comparison_figure(comparison: xr.Dataset) -> Figure:
    """Network (thin) and flow (thick): loss, measures, logits; mobilities; losses; predictions."""
    figure, axes = new_figure(10.0, 11.5, 3, 2)
    compared_losses(comparison, axes[0, 0])
    compared_measures(comparison, axes[0, 1])
    compared_logits(comparison, ("beta1", "alpha", "beta2"), axes[1, 0])
    compared_logits(comparison, ("xi",), axes[1, 1])
    matched_mobilities(comparison, axes[2, 0])
    if comparison.sizes["test"]:
        measured, predicted = comparison.measured.values, comparison.predicted.values
        predicted_times(measured, predicted, comparison.test_pairs.values, axes[2, 1])
    else:
        landscape_losses(comparison, axes[2, 1])
    return figure


def compared_losses(comparison: xr.Dataset, ax: Axes) -> list[Line2D]:
    """Loss of the network and of the flow against time, and the plateau log N."""
    lines = _seeds(comparison, comparison.loss, ax, "black", "network")
    lines += ax.plot(comparison.time, comparison.flow_loss, color=RED, lw=2.5, label="flow")
    plateau = np.log(comparison.attrs["n_pairs"])
    lines.append(ax.axhline(plateau, color=GREY, ls=":", lw=1, label="plateau log $N$"))
    ax.set(xlabel=TIME, ylabel="loss (nats)", ylim=(0, None))
    ax.legend(handles=_labelled(lines), frameon=False, fontsize="small")
    return lines


def compared_measures(comparison: xr.Dataset, ax: Axes) -> list[Line2D]:
    """Progress measures of the network (thin) and of the flow (thick) against time."""
    lines = []
    for name in ("ila1", "tila2", "tla2", "cla"):
        colour, style, label = MEASURE_STYLES[name]
        lines += _seeds(comparison, comparison[name], ax, colour, None, style)
        flow = comparison[f"flow_{name}"]
        lines += ax.plot(comparison.time, flow, color=colour, ls=style, lw=2.5, label=label)
    ax.set(xlabel=TIME, ylabel="attention or probability", ylim=(-0.02, 1.02))
    _legend_below(lines, ax)
    return lines


def compared_logits(comparison: xr.Dataset, names: Sequence[str], ax: Axes) -> list[Line2D]:
    """Effective logits of the network (thin) and logits of the flow (thick) against time."""
    lines = []
    for name in names:
        colour = LOGIT_COLOURS[name]
        lines += _seeds(comparison, comparison.theta.sel(logit=name), ax, colour, None)
        flow = comparison.flow_theta.sel(logit=name)
        label = f"{SYMBOLS[name]} {ROLES[name]}"
        lines += ax.plot(comparison.time, flow, color=colour, lw=2.5, label=label)
    top = 1.15 * float(comparison.theta.sel(logit=list(names)).max())
    ax.set(xlabel=TIME, ylabel="logit", ylim=(min(-0.05 * top, -0.05), top))
    ax.legend(handles=_labelled(lines), frameon=False, fontsize="small")
    return lines


def matched_mobilities(comparison: xr.Dataset, ax: Axes) -> list[Line2D]:
    """Velocity over −gradient of each logit, as far as the slow phase goes, against time."""
    lines = []
    ratio = comparison.mobility.where((comparison.slow == 1) & (comparison.mobility > 0))
    for name in comparison.logit.values.tolist():
        colour, label = LOGIT_COLOURS[name], f"{SYMBOLS[name]} {ROLES[name]}"
        lines += _seeds(comparison, ratio.sel(logit=name), ax, colour, label)
    ax.set(xlabel=TIME, ylabel="mobility (logit² per nat and time)", yscale="log")
    _legend_below(lines, ax, 2)
    return lines


def landscape_losses(comparison: xr.Dataset, ax: Axes) -> list[Line2D]:
    """Loss of the first run, and the landscape's at its logits, against time."""
    first = comparison.isel(seed=0)
    styles = {
        "loss": ("black", "-", "network"),
        "loss_slope": (BLUE, "--", r"landscape, $\xi$ the slope"),
        "loss_chord": (ORANGE, "-.", r"landscape, $\xi$ the chord"),
        "loss_crosstalk": (GREEN, ":", "the latter with crosstalk"),
    }
    lines = []
    for name, (colour, style, label) in styles.items():
        lines += ax.plot(first.t, first[name], color=colour, ls=style, label=label)
    ax.set(xlabel=TIME, ylabel="loss (nats)", ylim=(0, None))
    ax.legend(frameon=False, fontsize="small")
    return lines


def predicted_times(measured: Array, predicted: Array, pairs: Array, ax: Axes) -> list[Line2D]:
    """Predicted against measured transition times, coloured by the number of pairs."""
    usable = np.isfinite(measured) & np.isfinite(predicted)
    lines = []
    palette = (BLUE, ORANGE, GREEN, RED, PURPLE, "black", GREY)
    for i, n in enumerate(np.unique(pairs)):
        chosen = usable & (pairs == n)
        marker, colour = "osD^vPX"[i % 7], palette[i % 7]
        lines += ax.plot(
            measured[chosen], predicted[chosen], marker, color=colour, label=f"$N$ = {n}"
        )
    if usable.any():
        both = np.concatenate([measured[usable], predicted[usable]])
        ends = np.array([0.8 * both.min(), 1.25 * both.max()])
        ax.plot(ends, ends, color=GREY, lw=1)
        ax.fill_between(ends, 0.85 * ends, 1.15 * ends, color=GREY, alpha=0.15, lw=0)
        ax.set(xscale="log", yscale="log")
    ax.set(xlabel="measured transition time $t$", ylabel="predicted transition time $t$")
    ax.legend(frameon=False, fontsize="small", title="band: 15 %", title_fontsize="small")
    return lines


def _seeds(
    comparison: xr.Dataset, values: xr.DataArray, ax: Axes, colour: str,
    label: str | None, style: str = "-",
) -> list[Line2D]:  # fmt: skip
    """One thin line a seed; the first carries the label."""
    times = comparison.t.transpose("record", "seed").values
    lines = ax.plot(
        times, values.transpose("record", "seed").values, color=colour, ls=style, lw=0.8
    )
    if label:
        lines[0].set_label(label)
    return lines


def _labelled(lines: Sequence[Any]) -> list[Any]:
    return [line for line in lines if not line.get_label().startswith("_")]


def _bundle(
    run: xr.Dataset, name: str, ax: Axes, colour: str, style: str, label: str
) -> list[Line2D]:
    values = run[name].transpose("step", ...).values
    lines = ax.plot(run.t, values, color=colour, ls=style, lw=1.5 if values.ndim == 1 else 0.9)
    for line in lines:
        if np.isfinite(line.get_ydata()).sum() < 2:  # a point makes no line
            line.set_marker("o")
    lines[0].set_label(label)
    return lines


def _legend_below(lines: Sequence[Any], ax: Axes, columns: int = 1) -> None:
    ax.legend(
        handles=_labelled(lines), frameon=False, fontsize="small", ncols=columns,
        loc="upper center", bbox_to_anchor=(0.5, -0.16),
    )  # fmt: skip
