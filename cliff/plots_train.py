"""Pictures of training runs: functions of (run, ax) that compute nothing."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    import xarray as xr
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Okabe and Ito's colours, which colour-blind readers can tell apart
COLOURS = {
    "loss": "#000000",
    "icl": "#0072B2",
    "icl_swapped": "#56B4E9",
    "iwl": "#D55E00",
    "ila1": "#009E73",
    "tila2": "#CC79A7",
    "tla2": "#E69F00",
    "cla": "#0072B2",
}
NAMES = {
    "icl": "in context, novel classes",
    "icl_swapped": "in context, swapped labels",
    "iwl": "in weights",
    "ila1": "label to its item (layer 1)",
    "tila2": "target to the right label (layer 2)",
    "tla2": "target to all labels (layer 2)",
    "cla": "prediction on labels in context",
}


def training_figure(run: xr.Dataset) -> Figure:
    """Loss and accuracies; progress measures; attention before and after.

    Parameters
    ----------
    run : xarray.Dataset
        From `train`, or several of them along ``seed``. Attention is that of the first.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(10, 8.5), layout="constrained")
    upper, lower = figure.subfigures(2, 1, height_ratios=[1, 1.25], squeeze=False)[:, 0]
    left, right = upper.subplots(1, 2)
    loss_and_accuracies(run, left)
    progress_measures(run, right)
    first = run.isel(seed=0) if "seed" in run.dims else run
    axes = lower.subplots(2, 2, height_ratios=[2, 1])
    image = attention(first, "attention1", axes[0])
    attention(first, "attention2", axes[1])
    lower.colorbar(image, ax=axes, label="attention", shrink=0.8)
    return figure


def loss_and_accuracies(run: xr.Dataset, ax: Axes) -> list[Any]:
    """Draw the accuracies against time, and the loss on an axis of its own."""
    lines = _curves(run, ("icl", "icl_swapped", "iwl"), ax)
    ax.set(ylabel="accuracy", ylim=(-0.02, 1.02))
    loss_ax = ax.twinx()
    lines += loss_ax.plot(run.t, _along_step(run, "loss"), color=COLOURS["loss"], linewidth=1)
    lines[-1].set_label("loss")
    loss_ax.set(ylabel="loss (nats)", ylim=(0, None))
    ax.legend(handles=_labelled(lines), fontsize="small", loc="center left")
    return lines


def progress_measures(run: xr.Dataset, ax: Axes) -> list[Any]:
    """Draw the progress measures against time."""
    lines = _curves(run, ("ila1", "tila2", "tla2", "cla"), ax)
    ax.set(ylabel="progress measure", ylim=(-0.02, 1.02))
    ax.legend(handles=_labelled(lines), fontsize="small", loc="upper left")
    return lines


def attention(run: xr.Dataset, layer: str, axes: Any) -> Any:
    """Draw a layer's attention before and after training, on two axes; return the last image."""
    title = {
        "attention1": "layer 1: attention of each token",
        "attention2": "layer 2: attention of the target",
    }[layer]
    rows = {"attention1": "token", "attention2": "slot of the match"}[layer]
    n_tokens = run.sizes["seen_token"]
    for ax, moment in zip(axes, run.moment.values, strict=True):
        values = run[layer].sel(moment=moment).values
        extent = (0.5, n_tokens + 0.5, len(values) + 0.5, 0.5)
        image = ax.imshow(values, vmin=0, vmax=1, cmap="cividis", aspect="auto", extent=extent)
        ax.set(title=f"{title}, {moment}", xlabel="token attended to", ylabel=rows)
    return image


def _curves(run: xr.Dataset, names: tuple[str, ...], ax: Axes) -> list[Any]:
    lines: list[Any] = []
    for name in names:
        new = ax.plot(run.t, _along_step(run, name), color=COLOURS[name], linewidth=1.5)
        new[0].set_label(NAMES[name])
        lines += new
    ax.set_xlabel("time t = learning rate × steps")
    return lines


def _along_step(run: xr.Dataset, name: str) -> np.ndarray:
    return run[name].transpose("step", ...).values


def _labelled(lines: list[Any]) -> list[Any]:
    return [line for line in lines if not line.get_label().startswith("_")]
