"""Pictures: functions of results that draw and never compute.

Every function takes what it shows, and the axes to show it on, and returns what it drew. Colours
are those of Okabe and Ito, which the colour-blind tell apart, and sequential maps that print in
grey.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from numpy.typing import NDArray

from cliff.analysis import Slice
from cliff.store import write_atomic
from cliff.trajectory import Trajectory

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
    ax.legend(frameon=False, fontsize="small", loc="best")
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
