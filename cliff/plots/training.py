"""Pictures of training runs."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.image import AxesImage
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from cliff.plots.style import (
    BLUE,
    MEASURE_STYLES,
    NETWORKS,
    ORANGE,
    RED,
    TRAINING_TIME,
    WIDTH,
    legend_below,
    letter_panels,
    new_figure,
    styled,
)

if TYPE_CHECKING:
    import xarray as xr

ACCURACY_STYLES = {
    # icl and icl_swapped nearly coincide: a wide line with a narrow dashed one on it shows both
    "icl": (BLUE, "-", 2.4, "icl: from the context, novel classes"),
    "icl_swapped": (ORANGE, (0, (3, 2)), 1.0, "icl_swapped: known classes, swapped labels"),
    "iwl": (RED, "-.", 1.0, "iwl: from the weights"),
}
"""Colour, dashes, width and label of the accuracies."""
OLD_ACCURACY = ("black", "-.", "accuracy: share of right answers")
"""In place of p_correct in files of version 0.1, which do not hold it."""
HIDDEN = "#D9D9D9"
"""Colour of tokens that the causal mask hides."""


@styled
def training_figure(run: xr.Dataset) -> Figure:
    """Loss and accuracies, progress measures, attention before and after (of the first run)."""
    figure, axes = new_figure(WIDTH, 8.4, 3, 2)
    loss_and_accuracies(run, axes[0, 0])
    training_measures(run, axes[0, 1])
    first = run.isel(seed=0) if "seed" in run.dims else run
    for row, layer in zip(axes[1:], ("attention1", "attention2"), strict=True):
        for ax, moment in zip(row, run.moment.values, strict=True):
            image = attention(first, layer, moment, ax)
    figure.colorbar(image, ax=axes[1:], label="attention", shrink=0.6)
    letter_panels(axes.flat)
    figure.suptitle(_heading(run))
    return figure


def _heading(run: xr.Dataset) -> str:
    """The settings of the runs that a picture shows, and the seeds that went wrong."""
    made = json.loads(run.attrs["parameters"])
    text = (
        "{model}, $N$ = {n_pairs}, $L$ = {n_labels}, $K$ = {n_classes}, $D$ = {dim}, "
        "learning rate {lr:g}"
    ).format(**made["task"], model=NETWORKS[made["model"]], lr=made["lr"])
    seeds, status = np.atleast_1d(run.seed.values), np.atleast_1d(run.status.values)
    if len(seeds) > 1:
        text += f"\n{len(seeds)} seeds, one line each (attention: seed {seeds[0]})"
    for seed in seeds[status == "not finite"]:
        text += f"\nseed {seed}: loss not finite at the end"
    return text


def loss_and_accuracies(run: xr.Dataset, ax: Axes) -> list[Line2D]:
    """Loss against time, and on an axis of their own the accuracies on the three questions."""
    lines = _bundle(run, "loss", ax, "black", "-", "loss")
    ax.set(xlabel=TRAINING_TIME, ylabel="loss (nats)", ylim=(0, None))
    accuracy_ax = ax.twinx()
    for name, (colour, dashes, width, label) in ACCURACY_STYLES.items():
        lines += _bundle(run, name, accuracy_ax, colour, dashes, label, width)
    accuracy_ax.set(ylabel="accuracy", ylim=(-0.02, 1.02))
    legend_below(lines, ax)
    return lines


def training_measures(run: xr.Dataset, ax: Axes) -> list[Line2D]:
    """Progress measures against time."""
    lines = []
    for name, style in MEASURE_STYLES.items():
        if name in run:
            lines += _bundle(run, name, ax, *style)
        else:
            lines += _bundle(run, "accuracy", ax, *OLD_ACCURACY)
    ax.set(xlabel=TRAINING_TIME, ylabel="attention or probability", ylim=(-0.02, 1.02))
    legend_below(lines, ax)
    return lines


def _bundle(
    run: xr.Dataset, name: str, ax: Axes, colour: str, dashes: object, label: str,
    width: float = 1.4,
) -> list[Line2D]:  # fmt: skip
    """One line a seed; the first carries the label."""
    values = run[name].transpose("step", ...).values
    lines = ax.plot(
        run.t, values, color=colour, ls=dashes, lw=width if values.ndim == 1 else 0.6 * width
    )
    for line in lines:
        if np.isfinite(line.get_ydata()).sum() < 2:  # a point makes no line
            line.set_marker("o")
    lines[0].set_label(label)
    return lines


def attention(run: xr.Dataset, layer: str, moment: str, ax: Axes) -> AxesImage:
    """Mean attention of one layer, "attention1" or "attention2", "before" or "after" training.

    Tokens that the causal mask of layer 1 hides are grey.
    """
    title, row = {
        "attention1": ("layer 1", "token"),
        "attention2": ("layer 2, target", "slot of the matching pair"),
    }[layer]
    values = np.ma.masked_array(run[layer].sel(moment=moment).values)
    rows, columns = values.shape
    if layer == "attention1":
        values[np.triu_indices(rows, 1)] = np.ma.masked
        ax.text(0.95, 0.93, "hidden by the\ncausal mask", ha="right", va="top", fontsize=7,
                transform=ax.transAxes)  # fmt: skip
    ax.set_facecolor(HIDDEN)
    image = ax.imshow(
        values, vmin=0, vmax=1, cmap="cividis", aspect="auto",
        extent=(0.5, columns + 0.5, rows + 0.5, 0.5),
    )  # fmt: skip
    ax.set(title=f"{title}: {moment}", xlabel="token attended to", ylabel=row)
    for axis in (ax.xaxis, ax.yaxis):
        axis.set_major_locator(MaxNLocator(integer=True))
    return image
