"""Wall and no wall: labels of a context distinct, and drawn with replacement, at L = N."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import xarray as xr
from matplotlib.figure import Figure
from numba import njit

from cliff import Data, NestedLogit, integrate, plots
from cliff.mobility_law import MobilityLaw, mobility
from cliff.trajectory import transition_of
from figures.ensembles import Case, case, gather, train_all, until_the_fall
from figures.prediction import fitted_law

CAPTION = """
The wall at L = N is made by distinct labels. With as many labels as pairs, a context of distinct
labels holds each of them once, attention to labels says nothing about the answer, and the force on
xi vanishes at the origin; with labels drawn with replacement it is (1 - 1/L)/(2N + 1). (a)
Transformers at N = L = 8: with distinct labels (seed 0) the loss stays at log L up to t =
{longest:.0f}; with replacement (seeds 0, 1, 2) it falls, and so does the landscape (thick;
mobilities of the prediction figure, matched at N = 8, L = 32 with distinct labels). (b) Transition
times at L = N, labels with replacement: predicted {predicted}, measured {measured} at N = {pairs}
(means of three seeds; errors {errors} %: too late for few pairs, too soon for many). All novel,
noise 0.1, D = 63, learning rate {lr}. Command: python -m figures replacement --recompute.
"""

PAIRS = (2, 4, 8, 16)
SEEDS = 3
SHOWN = 8


def cases(fast: bool = False) -> list[Case]:
    """Labels with replacement at L = N, and one run with distinct labels beside them."""
    steps = {n: 50 if fast else 10_000 if n < 16 else 20_000 for n in PAIRS}
    drawn = [
        until_the_fall_of(n, seed, "replacement", steps[n])
        for seed in range(1 if fast else SEEDS)
        for n in (PAIRS[:1] if fast else PAIRS)
    ]
    return [*drawn, until_the_fall_of(SHOWN, 0, "distinct", steps[SHOWN])]


def until_the_fall_of(n: int, seed: int, labels_drawn: str, n_steps: int) -> Case:
    return until_the_fall(
        case(n_pairs=n, n_labels=n, labels_drawn=labels_drawn, seed=seed, n_steps=n_steps)
    )


_mobility = njit(mobility)


@njit
def with_idle_memory(theta, *arguments):  # type: ignore[no-untyped-def]
    """The mobilities of four circuits, and of a memory that novel sequences do not move."""
    beta1, alpha, xi, beta2 = _mobility(theta, *arguments)
    return beta1, alpha, xi, beta2, 0.0


def flow(law: MobilityLaw, n: int, t_end: float) -> Any:
    """The flow at L = N with labels drawn with replacement, all sequences novel."""
    data = Data(n_classes=512, p_novel=1.0, noise=0.1, labels_drawn="replacement")
    model = NestedLogit(n, n, label_bias="free", memory=data)
    arguments = law.arguments(n, n)
    return integrate(model, np.zeros(5), t_end, mobility=with_idle_memory, mobility_args=arguments)


def compute(fast: bool = False) -> xr.Dataset:
    chosen = cases(fast)
    runs = train_all("replacement", chosen, fast)
    table = gather(chosen, runs, ("loss",), ("n_pairs", "labels_drawn", "seed"))
    time = {"units": "gradient-flow time"}
    ends = [
        transition_of(run.t.values, run.loss.values, one.run.task.n_pairs).t_transition
        for one, run in zip(chosen, runs, strict=True)
    ]
    law = fitted_law()
    predicted = [flow(law, n, 3000.0).transition().t_transition for n in PAIRS]
    return table.assign(
        measured=("run", ends, time), predicted=("setting", predicted, time)
    ).assign_coords(setting=list(PAIRS))


def _times(data: xr.Dataset) -> list[np.ndarray]:
    drawn = data.labels_drawn.values == "replacement"
    return [data.measured.values[drawn & (data.n_pairs.values == n)] for n in PAIRS]


def means(data: xr.Dataset) -> np.ndarray:
    """Mean measured time of the seeds for each of `PAIRS`, NaN where there is no run."""
    return np.array([times.mean() if len(times) else np.nan for times in _times(data)])


def numbers(data: xr.Dataset) -> dict[str, Any]:
    errors = 100 * (data.predicted.values / means(data) - 1)
    distinct = data.isel(run=data.labels_drawn.values == "distinct")
    return {
        "longest": float(distinct.t.max()),
        "pairs": ", ".join(str(n) for n in PAIRS),
        "predicted": ", ".join(f"{t:.0f}" for t in data.predicted.values),
        "measured": ", ".join(f"{t:.0f}" for t in means(data)),
        "errors": ", ".join(f"{e:+.0f}" for e in errors),
        "lr": json.loads(data.attrs["parameters"])["lr"],
    }


def draw(data: xr.Dataset) -> Figure:
    figure, ((left, right),) = plots.new_figure(plots.WIDTH, 2.8, 1, 2)
    styles = (
        ("distinct", plots.ORANGE, "distinct"),
        ("replacement", plots.BLUE, "with replacement"),
    )
    for kind, colour, label in styles:
        chosen = (data.labels_drawn.values == kind) & (data.n_pairs.values == SHOWN)
        for number, run in enumerate(np.nonzero(chosen)[0]):
            part = data.isel(run=run)
            left.plot(part.t, part.loss, color=colour, lw=0.9, label="" if number else label)
    line = flow(fitted_law(), SHOWN, 600.0)
    left.plot(line.t, line.loss, color=plots.BLUE, lw=2.4, alpha=0.6, label="landscape")
    left.axhline(np.log(SHOWN), color="black", lw=0.6, ls=":", label="log $N$ = log $L$")
    left.set(
        xlabel=plots.TIME, ylabel="loss (nats)", title="$N$ = $L$ = 8, labels of a context",
        xlim=(0, 1000), ylim=(0, None),
    )  # fmt: skip
    left.legend()
    right.loglog(PAIRS, data.predicted, color=plots.RED, label="landscape")
    for n, times in zip(PAIRS, _times(data), strict=True):
        right.plot(
            np.full(len(times), n), times, "o", color="black", mfc="none", ms=4,
            label="networks, each seed" if n == PAIRS[0] else "",
        )  # fmt: skip
    right.set(xlabel="pairs $N$ = labels $L$, with replacement", ylabel="transition time $t$")
    right.set_xticks(PAIRS, [str(n) for n in PAIRS])
    right.minorticks_off()
    right.legend()
    plots.letter_panels([left, right])
    return figure
