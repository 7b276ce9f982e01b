"""Pictures of trajectories and ensembles."""

from __future__ import annotations

from collections.abc import Mapping
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
    ANSWER_STYLES,
    BLUE,
    COLOURS,
    GREEN,
    GREY,
    MEASURE_STYLES,
    ORANGE,
    PURPLE,
    RED,
    TIME,
    WIDTH,
    Array,
    legend_below,
    letter_panels,
    new_figure,
    styled,
)
from cliff.presentation import axis_label, first_few, shown, symbol_of, valley_name
from cliff.protocol import FALL, LEVELS
from cliff.trajectory import Ensemble, Status, Trajectory

LESSER: dict[str, Any] = {"color": GREY, "ls": ":"}
"""Style of reference losses other than the plateau."""


LINES = (("-", BLUE), ("-", ORANGE), (":", RED), ("--", GREEN), ("-.", "black"), ("-", PURPLE))
"""Styles of measures without a style of their own, in turn."""


def smooth_times(trajectory: Trajectory, n_even: int = 300, n_crowded: int = 900) -> Array:
    """Times at which a curve looks smooth: even ones, and more where the solver's steps crowd."""
    steps = trajectory.path.t
    even = np.linspace(0.0, steps[-1], n_even)
    places = np.linspace(0, len(steps) - 1, n_crowded)
    return np.union1d(even, np.interp(places, np.arange(len(steps)), steps))


def loss(trajectory: Trajectory, ax: Axes) -> list[Any]:
    """Loss against time, with the landscape's reference losses, the transition and the events."""
    model, transition = trajectory.model, trajectory.transition()
    drawn: list[Any] = ax.plot(trajectory.t, trajectory.loss, color="black", lw=1.8, label="loss")
    marks = list(model.reference_losses.items())
    for label, level in marks:
        is_plateau = level == model.plateau and label == marks[-1][0]
        style: dict[str, Any] = {"color": BLUE, "ls": "--"} if is_plateau else LESSER
        drawn.append(ax.axhline(level, lw=1, label=label, **style))
    if model.plateau is not None and np.isfinite(transition.t_transition):
        t, half = transition.t_transition, LEVELS[1] * model.plateau
        drawn.append(ax.axvline(t, color=RED, lw=1, label=f"transition, $t$ = {t:.1f}"))
        drawn += ax.plot([t], [half], "o", color=RED, ms=4)
        if np.isfinite(transition.width):
            label = f"{LEVELS[0]} to {LEVELS[2]} {model.plateau_label}"
            begin, end = (trajectory.events[FALL[i]][0] for i in (0, 2))
            drawn.append(ax.axvspan(begin, end, color=RED, alpha=0.15, lw=0, label=label))
    for i, name in enumerate(name for name in model.event_names if name not in FALL):
        for t in trajectory.events[name][:1].tolist():
            colour = (GREEN, PURPLE, ORANGE)[i % 3]
            drawn.append(ax.axvline(t, color=colour, ls="-.", lw=1, label=f"{name}, $t$ = {t:.4g}"))
    ax.set(xlabel=TIME, ylabel="loss (nats)", ylim=(0.0, 1.06 * np.max(trajectory.loss)))
    legend_below(drawn, ax, 2)
    return drawn


def logits(trajectory: Trajectory, ax: Axes) -> list[Line2D]:
    """The components of theta against time."""
    lines, model = [], trajectory.model
    for i, (name, values) in enumerate(zip(model.parameter_names, trajectory.theta.T, strict=True)):
        colour, line = COLOURS[i % len(COLOURS)], ("-", (0, (4, 4)), ":")[i // len(COLOURS) % 3]
        label = model.labels.get(name, name)
        lines += ax.plot(trajectory.t, values, color=colour, ls=line, lw=1.5, label=label)
    ax.set(xlabel=TIME, ylabel=model.component)
    legend_below(lines, ax, 2)
    return lines


def progress_measures(t: Array, measures: Mapping[str, Array], ax: Axes) -> list[Line2D]:
    """Measures against time, in the order of the mapping."""
    lines, styles = [], MEASURE_STYLES | ANSWER_STYLES
    for i, (name, values) in enumerate(measures.items()):
        line, colour = LINES[i % len(LINES)]
        colour, line, label = styles.get(name, (colour, line, name))
        lines += ax.plot(t, values, color=colour, ls=line, lw=1.5, label=label)
    are_shares = all(name in styles for name in measures)
    ax.set(xlabel=TIME, ylabel="attention or probability" if are_shares else "measures")
    if are_shares:
        ax.set(ylim=(-0.02, 1.02))
    legend_below(lines, ax)
    return lines


def landscape_slice(part: Slice, ax: Axes, path: Array | None = None) -> QuadMesh:
    """The loss over a plane, with contours, and a path (n, 2) on it; returns the coloured mesh."""
    plane = part.x, part.y, part.loss
    mesh = ax.pcolormesh(*plane, cmap="cividis", shading="gouraud", rasterized=True)
    low, high = float(part.loss.min()), float(part.loss.max())
    levels = np.linspace(low, high, 12)[1:-1]
    if low < high:
        # dark lines on the bright upper half of the colours, bright lines on the dark half
        colours = ["black" if level > 0.5 * (low + high) else "white" for level in levels]
        ax.contour(*plane, levels=levels, colors=colours, linewidths=0.5)
    if path is not None:
        ax.plot(*path.T, color=RED, lw=1.8)
        ax.plot(*path[0], "o", color="white", mec="black", ms=6, label="start")
        ax.plot(*path[-1], "s", color=RED, mec="black", ms=6, label="end")
        ax.legend(frameon=True, loc="lower right")
    label = {name: part.model.labels.get(name, name) for name in part.model.parameter_names}
    held = [f"{symbol_of(label[name])} = {value:.2f}" for name, value in part.fixed.items()]
    ax.set(xlabel=label[part.names[0]], ylabel=label[part.names[1]])
    if held:
        ax.set_title("slice at " + first_few(held, 2))
    return mesh


@styled
def flow_figure(
    trajectory: Trajectory, measures: Mapping[str, Array], part: Slice | None = None
) -> Figure:
    """One trajectory in up to four panels: loss, theta, measures, and the path on a slice."""
    model = trajectory.model
    drawn = {name: measures[name] for name in model.measure_names if name in measures}
    n_panels = model.has_loss + 1 + bool(drawn) + (part is not None)
    rows = 1 if n_panels < 3 else 2
    figure, axes = new_figure(WIDTH, 3.2 * rows, rows, min(n_panels, 2))
    panels = iter(axes.flat)
    if model.has_loss:
        loss(trajectory, next(panels))
    logits(trajectory, next(panels))
    if drawn:
        progress_measures(trajectory.t, drawn, next(panels))
    if part is not None:
        ax, columns = next(panels), [model.parameter_names.index(name) for name in part.names]
        mesh = landscape_slice(part, ax, trajectory.theta[:, columns])
        figure.colorbar(mesh, ax=ax, label="loss (nats)")
    letter_panels(axes.flat[:n_panels])
    for ax in panels:
        ax.remove()
    start = first_few(f"{value:g}" for value in trajectory.path.theta[0])
    rule = trajectory.settings.get("rule", "gradient")
    kind = f"{rule[0].upper()}{rule[1:]} flow" if rule != "langevin" else "Langevin dynamics"
    parts = [model.describe(model.constants), f"from ({start})"]
    between = ", " if model.n_parameters <= 4 else ",\n"
    text = f"{kind}: " + between.join(part for part in parts if part)
    if trajectory.status is not Status.DONE:
        text += f"\nstopped at $t$ = {trajectory.path.t[-1]:g}: {trajectory.status}"
    figure.suptitle(text)
    return figure


VALLEY_COLOURS = dict(
    enumerate(("#D9D9D9", BLUE, RED, "#E69F00", "#009E73", "#CC79A7", "#000000"), start=-1)
)
"""Colours of the label −1, "undecided", and of the first valleys of a landscape, by label."""


def valley_colour(label: int) -> str:
    """The colour of a label of `identify`; beyond those of `VALLEY_COLOURS` they come again."""
    return VALLEY_COLOURS[label if label < 0 else label % (len(VALLEY_COLOURS) - 1)]


def starts(ensemble: Ensemble, labels: NDArray[Any] | None, ax: Axes) -> PathCollection:
    """The starts of an ensemble over the two components that vary most.

    The colour is the valley in which each trajectory ended, `labels` (m,) as `cliff.valleys.basins`
    gives them; without them, the loss at the end.
    """
    model, p = ensemble.model, ensemble.model.n_parameters
    spread = np.ptp(ensemble.theta0, axis=0) if len(ensemble.theta0) else np.zeros(p)
    columns = sorted(np.argsort(-spread, kind="stable")[:2].tolist())
    x, y = columns[0], columns[-1]
    colours = ensemble.loss if labels is None else [valley_colour(c) for c in labels.tolist()]
    points = ax.scatter(ensemble.theta0[:, x], ensemble.theta0[:, y], s=9, linewidths=0, c=colours)
    x_label, y_label = (axis_label(model, model.parameter_names[column]) for column in (x, y))
    ax.set(xlabel=x_label, ylabel=y_label)
    if labels is not None:
        present = np.unique(labels).tolist()
        handles = [Patch(color=valley_colour(c), label=valley_name(model, c)) for c in present]
        legend_below(handles, ax, 2)
    return points


@styled
def ensemble_figure(ensemble: Ensemble, labels: NDArray[Any] | None = None) -> Figure:
    """Where trajectories start, and in which valley, or at which loss, they end."""
    figure, axes = new_figure(0.6 * WIDTH, 4.4)
    points = starts(ensemble, labels, axes[0, 0])
    if labels is None:
        figure.colorbar(points, ax=axes[0, 0], label="loss at the end (nats)")
    ends = {
        name: dict.fromkeys(shown(end.item()) for end in (values.min(), values.max()))
        for name, values in ensemble.constants.items()
        if values.size
    }
    title = ensemble.model.describe({name: " to ".join(both) for name, both in ends.items()})
    if stopped := int((~ensemble.done).sum()):
        title += f"\n{stopped} of {len(ensemble.t)} trajectories stopped early"
    axes[0, 0].set_title(title)
    return figure
