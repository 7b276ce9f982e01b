"""Pictures of training runs: functions of (run, ax) that draw and never compute.

A run is the dataset that `cliff.train` returns, or several of them along ``seed``, which are drawn
as a bundle.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.image import AxesImage
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from cliff.plots import BLUE, GREEN, MEASURE_STYLES, RED, new_figure

ACCURACY_STYLES = {
    "icl": (BLUE, "-", "icl: from the context, novel classes"),
    "icl_swapped": (GREEN, "--", "icl_swapped: known classes, swapped labels"),
    "iwl": (RED, "-", "iwl: from the weights"),
}
TIME = "time $t$ = learning rate × steps"


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
    return figure


def loss_and_accuracies(run: xr.Dataset, ax: Axes) -> list[Line2D]:
    """Loss against time, and on an axis of their own the accuracies on the three questions."""
    lines = _bundle(run, "loss", ax, "black", "-", "loss")
    ax.set(xlabel=TIME, ylabel="loss (nats)", ylim=(0, None))
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
    ax.set(xlabel=TIME, ylabel="attention or probability", ylim=(-0.02, 1.02))
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


def _bundle(
    run: xr.Dataset, name: str, ax: Axes, colour: str, style: str, label: str
) -> list[Line2D]:
    values = run[name].transpose("step", ...).values
    lines = ax.plot(run.t, values, color=colour, ls=style, lw=1.5 if values.ndim == 1 else 0.9)
    lines[0].set_label(label)
    return lines


def _legend_below(lines: Sequence[Any], ax: Axes) -> None:
    handles = [line for line in lines if not line.get_label().startswith("_")]
    ax.legend(
        handles=handles, frameon=False, fontsize="small",
        loc="upper center", bbox_to_anchor=(0.5, -0.15),
    )  # fmt: skip
