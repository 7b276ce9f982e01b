"""Pictures of a comparison of networks with the flow."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from numpy.typing import NDArray

from cliff.plots.style import (
    BLUE,
    GREEN,
    GREY,
    LOGIT_COLOURS,
    MEASURE_STYLES,
    NETWORKS,
    ORANGE,
    PURPLE,
    RED,
    ROLES,
    SYMBOLS,
    TIME,
    WIDTH,
    Array,
    labelled,
    legend_below,
    letter_panels,
    log_scale,
    new_figure,
    styled,
)

if TYPE_CHECKING:
    import xarray as xr


@styled
def comparison_figure(comparison: xr.Dataset) -> Figure:
    """Network (thin) and flow (thick): loss, measures, logits; mobilities; losses; predictions."""
    figure, axes = new_figure(WIDTH, 8.6, 3, 2)
    compared_losses(comparison, axes[0, 0])
    compared_measures(comparison, axes[0, 1])
    compared_logits(comparison, ("beta1", "alpha", "beta2"), axes[1, 0])
    compared_logits(comparison, ("xi",), axes[1, 1])
    matched_mobilities(comparison, axes[2, 0])
    if comparison.sizes["test"]:
        measured, predicted = comparison.measured.values, comparison.predicted.values
        calibrated = comparison.calibrated.values if "calibrated" in comparison else None
        predicted_times(measured, predicted, comparison.test_pairs.values, axes[2, 1], calibrated)
    else:
        landscape_losses(comparison, axes[2, 1])
    letter_panels(axes.flat)
    made, count = comparison.attrs, comparison.sizes["seed"]
    name, n_pairs, n_labels = NETWORKS[made["model"]], made["n_pairs"], made["n_labels"]
    text = (
        f"{name}, $N$ = {n_pairs}, $L$ = {n_labels}; thin: network, "
        f"{count} seed{'s' if count > 1 else ''}; thick: flow from the origin"
    )
    if made.get("flow_status", "done") != "done":
        text += f" ({made['flow_status']})"
    figure.suptitle(text)
    return figure


def compared_losses(comparison: xr.Dataset, ax: Axes) -> list[Line2D]:
    """Loss of the network and of the flow against time, and the plateau log N."""
    lines = _seeds(comparison, comparison.loss, ax, "black", "network")
    lines += ax.plot(comparison.time, comparison.flow_loss, color=RED, lw=2.2, label="flow")
    plateau = np.log(comparison.attrs["n_pairs"])
    lines.append(ax.axhline(plateau, color=GREY, ls=":", lw=1, label="plateau log $N$"))
    ax.set(xlabel=TIME, ylabel="loss (nats)", ylim=(0, None))
    ax.legend(handles=labelled(lines))
    return lines


def compared_measures(comparison: xr.Dataset, ax: Axes) -> list[Line2D]:
    """Progress measures of the network (thin) and of the flow (thick) against time."""
    lines = []
    for name in ("ila1", "tila2", "tla2", "cla"):
        colour, style, label = MEASURE_STYLES[name]
        lines += _seeds(comparison, comparison[name], ax, colour, None, style)
        flow = comparison[f"flow_{name}"]
        lines += ax.plot(comparison.time, flow, color=colour, ls=style, lw=2.2, label=label)
    ax.set(xlabel=TIME, ylabel="attention or probability", ylim=(-0.02, 1.02))
    legend_below(lines, ax)
    return lines


def compared_logits(comparison: xr.Dataset, names: Sequence[str], ax: Axes) -> list[Line2D]:
    """Effective logits of the network (thin) and logits of the flow (thick) against time."""
    lines = []
    for name in names:
        colour = LOGIT_COLOURS[name]
        lines += _seeds(comparison, comparison.theta.sel(logit=name), ax, colour, None)
        flow = comparison.flow_theta.sel(logit=name)
        label = f"{SYMBOLS[name]} {ROLES[name]}"
        lines += ax.plot(comparison.time, flow, color=colour, lw=2.2, label=label)
    top = 1.15 * float(comparison.theta.sel(logit=list(names)).max())
    ax.set(xlabel=TIME, ylabel="logit", ylim=(min(-0.05 * top, -0.05), top))
    ax.legend(handles=labelled(lines))
    return lines


def matched_mobilities(comparison: xr.Dataset, ax: Axes) -> list[Line2D]:
    """Velocity over −gradient of each logit, as far as the slow phase goes, against time."""
    lines = []
    ratio = comparison.mobility.where((comparison.slow == 1) & (comparison.mobility > 0))
    for name in comparison.logit.values.tolist():
        colour, label = LOGIT_COLOURS[name], f"{SYMBOLS[name]} {ROLES[name]}"
        lines += _seeds(comparison, ratio.sel(logit=name), ax, colour, label)
    ax.set(xlabel=TIME, ylabel="mobility (logit² per nat and time)", yscale="log")
    legend_below(lines, ax, 2)
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
    ax.legend()
    return lines


def predicted_times(
    measured: Array,
    predicted: Array,
    pairs: NDArray[Any],
    ax: Axes,
    calibrated: NDArray[Any] | None = None,
) -> list[Line2D]:
    """Predicted against measured transition times, coloured by the number of pairs.

    All have the shape (n,). Where there is no time, it is NaN. `calibrated` are the settings whose
    time is no prediction, since the flow's clock was set there: open markers.
    """
    usable = np.isfinite(measured) & np.isfinite(predicted)
    here = np.zeros(len(pairs), bool) if calibrated is None else np.asarray(calibrated, bool)
    lines = []
    palette = (BLUE, ORANGE, GREEN, RED, PURPLE, "black", GREY)
    for i, n in enumerate(np.unique(pairs)):
        marker, colour = "osD^vPX"[i % 7], palette[i % 7]
        for chosen, face in ((usable & ~here, colour), (usable & here, "none")):
            at = chosen & (pairs == n)
            if at.any():
                lines += ax.plot(measured[at], predicted[at], marker, color=colour, mfc=face)
                lines[-1].set_label(f"$N$ = {n}" + ", clock set here" * (face == "none"))
    if usable.any():
        both = np.concatenate([measured[usable], predicted[usable]])
        ends = np.array([0.8 * both.min(), 1.25 * both.max()])
        ax.plot(ends, ends, color=GREY, lw=1)
        band = ax.fill_between(ends, 0.85 * ends, 1.15 * ends, color=GREY, alpha=0.15, lw=0)
        band.set_label("within 15 %")
        if ends[1] > 8.0 * ends[0]:
            log_scale(ax, "xy")
        ax.legend()
    ax.set(xlabel="measured transition time $t$", ylabel="predicted transition time $t$")
    return lines


def _seeds(
    comparison: xr.Dataset, values: xr.DataArray, ax: Axes, colour: str,
    label: str | None, style: str = "-",
) -> list[Line2D]:  # fmt: skip
    """One thin line a seed; the first carries the label."""
    times, along = (v.transpose("record", "seed").values for v in (comparison.t, values))
    lines = ax.plot(times, along, color=colour, ls=style, lw=0.7)
    if label:
        lines[0].set_label(label)
    return lines
