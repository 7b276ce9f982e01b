"""Pictures of curricula."""

from __future__ import annotations

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from cliff.plots.flow import logits
from cliff.plots.style import (
    BLUE,
    GREY,
    RED,
    TIME,
    WIDTH,
    legend_below,
    letter_panels,
    new_figure,
    styled,
)  # fmt: skip
from cliff.schedule import Schedule
from cliff.trajectory import Trajectory


@styled
def draw_curriculum(designed: Trajectory, plain: Trajectory, schedule: Schedule) -> Figure:
    """The target's loss and the logits along a schedule, and the loss of plain training.

    Parameters
    ----------
    designed, plain : Trajectory
        From `cliff.integrate_schedule`: along the schedule, and on the target throughout.
    schedule : Schedule
    """
    figure, axes = new_figure(WIDTH, 3.4, 1, 2)
    ax = axes[0, 0]
    learned = [run.transition().t_transition for run in (designed, plain)]
    words = [
        f"{name}, " + ("never" if np.isnan(t) else f"$t$ = {t:.0f}")
        for name, t in zip(("curriculum", "plain"), learned, strict=True)
    ]
    lines = []
    for run, colour, label in zip((designed, plain), (RED, "black"), words, strict=True):
        t = np.geomspace(1.0, run.t[-1], 600)
        lines += ax.plot(t, run.sampled(t).loss, color=colour, lw=1.8, label=label)
    assert plain.model.plateau is not None
    lines.append(
        ax.axhline(
            0.5 * plain.model.plateau,
            color=BLUE,
            ls="--",
            lw=1,
            label=r"$\frac{1}{2}\log N$: learned",
        )
    )
    ax.set(xscale="log", xlabel=TIME, ylabel="loss on the target (nats)", ylim=(0.0, None))
    legend_below(lines, ax, 2)
    shown = designed.sampled(np.linspace(0.0, designed.t[-1], 600))
    logits(shown, axes[0, 1])
    _stages(schedule, axes[0, 1])
    letter_panels(axes.flat)
    figure.suptitle(f"{plain.model.describe(plain.model.constants)}: curriculum in the pairs $N$")
    return figure


def _stages(schedule: Schedule, ax: Axes) -> None:
    """A line where each stage ends, with the number of pairs before it."""
    for until, setting in zip(schedule.times[:-1], schedule.settings, strict=False):
        ax.axvline(until, color=GREY, ls=":", lw=1)
        ax.annotate(
            str(setting["n_pairs"]), (until, 1.0), (-2, 2), xycoords=("data", "axes fraction"),
            textcoords="offset points", ha="right", fontsize=7, color=GREY,
        )  # fmt: skip
