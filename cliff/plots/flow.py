"""Pictures of trajectories and ensembles."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import cycle
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import PathCollection, QuadMesh
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from numpy.typing import NDArray

from cliff.analysis import Slice
from cliff.plots.style import (
    BLUE,
    GREY,
    LOGIT_COLOURS,
    MEASURE_STYLES,
    ORANGE,
    PURPLE,
    RED,
    ROLES,
    SYMBOLS,
    TIME,
    WIDTH,
    Array,
    legend_below,
    letter_panels,
    new_figure,
    styled,
)
from cliff.protocol import LandscapeLike
from cliff.trajectory import Ensemble, Status, Trajectory
from cliff.valleys import VALLEYS, name_of


def loss(trajectory: Trajectory, ax: Axes) -> list[Any]:
    """Loss against time, with the landscape's reference losses and the transition."""
    model, transition = trajectory.model, trajectory.transition()
    drawn: list[Any] = ax.plot(trajectory.t, trajectory.loss, color="black", lw=1.8, label="loss")
    styles = ((GREY, ":"), (BLUE, "--"), (PURPLE, "-."), (ORANGE, "--"))
    for (label, level), (colour, line) in zip(
        model.reference_losses.items(), cycle(styles), strict=False
    ):
        drawn.append(ax.axhline(level, color=colour, ls=line, lw=1, label=label))
    if np.isfinite(transition.t_transition):
        t, half = transition.t_transition, 0.5 * (model.plateau or np.nan)
        drawn.append(ax.axvline(t, color=RED, lw=1, label=f"transition, $t$ = {t:.1f}"))
        drawn += ax.plot([t], [half], "o", color=RED, ms=4)
        begin, _, end = trajectory.crossings
        if np.isfinite(end):
            label = "0.9 to 0.1 of the plateau"
            drawn.append(ax.axvspan(begin, end, color=RED, alpha=0.15, lw=0, label=label))
    ax.set(xlabel=TIME, ylabel="loss (nats)", ylim=(0.0, 1.06 * np.max(trajectory.loss)))
    legend_below(drawn, ax, 2)
    return drawn


def logits(trajectory: Trajectory, ax: Axes) -> list[Line2D]:
    """The nested logits against time."""
    lines = []
    for name, values in zip(trajectory.model.parameter_names, trajectory.theta.T, strict=True):
        label = f"{SYMBOLS[name]} ({ROLES[name]})"
        lines += ax.plot(trajectory.t, values, color=LOGIT_COLOURS[name], lw=1.5, label=label)
    ax.set(xlabel=TIME, ylabel="logit")
    legend_below(lines, ax, 2)
    return lines


def progress_measures(t: Array, measures: Mapping[str, Array], ax: Axes) -> list[Line2D]:
    """Progress measures against time."""
    lines = []
    for name, (colour, line, label) in MEASURE_STYLES.items():
        lines += ax.plot(t, measures[name], color=colour, ls=line, lw=1.5, label=label)
    ax.set(xlabel=TIME, ylabel="attention or probability", ylim=(-0.02, 1.02))
    legend_below(lines, ax)
    return lines


def landscape_slice(part: Slice, ax: Axes, path: Array | None = None) -> QuadMesh:
    """The loss over a plane, with contours, and a path (n, 2) on it; returns the coloured mesh."""
    mesh = ax.pcolormesh(
        part.x, part.y, part.loss, cmap="cividis", shading="gouraud", rasterized=True
    )
    low, high = float(part.loss.min()), float(part.loss.max())
    levels = np.linspace(low, high, 12)[1:-1]
    if low < high:
        # dark lines on the bright upper half of the colours, bright lines on the dark half
        colours = ["black" if level > 0.5 * (low + high) else "white" for level in levels]
        ax.contour(part.x, part.y, part.loss, levels=levels, colors=colours, linewidths=0.5)
    if path is not None:
        ax.plot(*path.T, color=RED, lw=1.8)
        ax.plot(*path[0], "o", color="white", mec="black", ms=6, label="start")
        ax.plot(*path[-1], "s", color=RED, mec="black", ms=6, label="end")
        ax.legend(frameon=True, loc="lower right")
    x, y = part.names
    fixed = ", ".join(f"{SYMBOLS[name]} = {value:.2f}" for name, value in part.fixed.items())
    ax.set(xlabel=f"{SYMBOLS[x]} ({ROLES[x]})", ylabel=f"{SYMBOLS[y]} ({ROLES[y]})")
    ax.set_title(f"slice at {fixed}")
    return mesh


@styled
def flow_figure(trajectory: Trajectory, measures: Mapping[str, Array], part: Slice) -> Figure:
    """One trajectory in four panels: loss, logits, progress measures, path on the landscape."""
    model = trajectory.model
    figure, axes = new_figure(WIDTH, 6.4, 2, 2)
    loss(trajectory, axes[0, 0])
    logits(trajectory, axes[0, 1])
    progress_measures(trajectory.t, measures, axes[1, 0])
    columns = [model.parameter_names.index(name) for name in part.names]
    mesh = landscape_slice(part, axes[1, 1], trajectory.theta[:, columns])
    figure.colorbar(mesh, ax=axes[1, 1], label="loss (nats)")
    letter_panels(axes.flat)
    start = ", ".join(f"{value:g}" for value in trajectory.path.theta[0])
    text = f"Gradient flow: {_constants(model, model.constants)}from ({start})"
    if trajectory.status is not Status.DONE:
        text += f"\nstopped at $t$ = {trajectory.path.t[-1]:g}: {trajectory.status}"
    figure.suptitle(text)
    return figure


def _constants(model: LandscapeLike, constants: Mapping[str, Any]) -> str:
    """The values of the constants, each with a comma behind it."""
    text = ""
    for name, values in constants.items():
        ends = sorted({np.min(values).item(), np.max(values).item()}) if np.size(values) else []
        text += f"{model.labels.get(name, name)} = {' to '.join(f'{end:g}' for end in ends)}, "
    return text


VALLEY_COLOURS = dict(
    enumerate(("#D9D9D9", BLUE, RED, "#E69F00", "#009E73", "#CC79A7", "#000000"), start=-1)
)
"""Colours of the label −1, "undecided", and of `cliff.valleys.VALLEYS`, by label."""
assert len(VALLEY_COLOURS) == len(VALLEYS) + 1


def starts(ensemble: Ensemble, labels: NDArray[Any], ax: Axes) -> PathCollection:
    """The starts of an ensemble over the two components that vary most, coloured by valley.

    Parameters
    ----------
    ensemble : Ensemble
    labels : ndarray of int, shape (m,)
        Valley in which each trajectory ended; see `cliff.valleys.basins`.
    ax : Axes
    """
    spread = np.ptp(ensemble.theta0, axis=0) if len(ensemble.theta0) else np.zeros(3)
    x, y = sorted(np.argsort(-spread, kind="stable")[:2].tolist())
    points = ax.scatter(
        ensemble.theta0[:, x], ensemble.theta0[:, y], s=9, linewidths=0,
        c=[VALLEY_COLOURS[label] for label in labels.tolist()],
    )  # fmt: skip
    names = ensemble.model.parameter_names
    for name, set_label in ((names[x], ax.set_xlabel), (names[y], ax.set_ylabel)):
        set_label(f"{SYMBOLS[name]} at the start ({ROLES[name]})")
    present = np.unique(labels).tolist()
    handles = [Patch(color=VALLEY_COLOURS[code], label=name_of(code)) for code in present]
    legend_below(handles, ax, 2)
    return points


@styled
def ensemble_figure(ensemble: Ensemble, labels: NDArray[Any]) -> Figure:
    """The basins of an ensemble: where its trajectories start, and in which valley they end."""
    figure, axes = new_figure(0.6 * WIDTH, 4.4)
    starts(ensemble, labels, axes[0, 0])
    stopped = int((~ensemble.done).sum())
    axes[0, 0].set_title(
        _constants(ensemble.model, ensemble.constants).rstrip(", ")
        + (f"\n{stopped} of {len(labels)} trajectories stopped early" if stopped else "")
    )
    return figure
