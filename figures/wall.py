"""The wall at L = N: who learns in context, and how long it takes."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import xarray as xr
from matplotlib.figure import Figure
from matplotlib.legend_handler import HandlerTuple

from cliff import plots
from cliff.trajectory import transition_of
from figures import WORDS
from figures.ensembles import Case, case, gather, train_all, until_the_fall
from figures.prediction import fitted_law

CAPTION = """
Who learns in context, and when: (a to c) share of six seeds (0 to 5) whose loss falls below 0.5
log N, and (d to f) the time at which it does, for the transformer, the minimal head, and the flow
on the landscape from starts drawn with a spread of {spread} and the mobilities of the prediction
figure. K = 512, D = 63, noise 0.1, B = 1, all novel, learning rate {lr}, up to t = 1000 at L = N
and t = 2000 beyond. With two labels a pair or more, {beyond} fall. At L = N the origin is a
saddle: of {seeds} transformers {transformer} fall at N = 2, 4 and 8; of {seeds} heads {head}; of
{seeds} flows {landscape}. That none of the networks learns at N = L = 8 and few transformers at N
= L = 2 is as published for the full network; the few at N = L = 4 are not reproduced within
10,000 steps. Command: python -m figures wall --recompute.
"""

PAIRS, LABELS_PER_PAIR, SEEDS = (2, 4, 8), (1, 2, 4, 8), 6
LANDSCAPE = "landscape"
START_SPREAD = 0.02
"""Standard deviation of the landscape's starts: that of an untrained network's effective logits."""


def cases(fast: bool = False) -> list[Case]:
    """Both networks over the grid."""
    pairs, seeds = ((2,), 1) if fast else (PAIRS, SEEDS)
    return [
        until_the_fall(
            case(
                model,
                n_pairs=n,
                n_labels=n * ratio,
                seed=seed,
                # runs that never fall cost the most
                n_steps=100 if fast else 10_000 if ratio == 1 else 20_000,
            )
        )
        for model in ("transformer", "minimal")
        for n in pairs
        for ratio in LABELS_PER_PAIR
        for seed in range(seeds)
    ]


def compute(fast: bool = False) -> xr.Dataset:
    chosen = cases(fast)
    table = gather(
        chosen, train_all("wall", chosen, fast), ("loss",), ("n_pairs", "n_labels", "seed")
    )
    rows = [
        (one.network, one.run.task.n_pairs, one.run.task.n_labels, one.run.seed) for one in chosen
    ]
    times = []
    for (_, n, _, _), t, loss in zip(rows, table.t.values, table.loss.values, strict=True):
        kept = np.isfinite(loss)
        times.append(transition_of(t[kept], loss[kept], n).t_transition)
    law, rng = fitted_law(), np.random.default_rng(0)
    for n in PAIRS:
        for ratio in LABELS_PER_PAIR:
            for seed in range(2 if fast else SEEDS):
                start = rng.normal(0, START_SPREAD, 4)
                flow = law.flow(n, n * ratio, 1000.0 if ratio == 1 else 2000.0, start)
                rows.append((LANDSCAPE, n, n * ratio, seed))
                times.append(flow.transition().t_transition)
    columns = [list(column) for column in zip(*rows, strict=True)]
    return xr.Dataset(
        {"t_transition": ("run", times, {"units": "gradient-flow time"})},
        coords={
            name: ("run", column)
            for name, column in zip(
                ("network", "n_pairs", "n_labels", "seed"), columns, strict=True
            )
        },
        attrs={**table.attrs},
    )


def numbers(data: xr.Dataset) -> dict[str, Any]:
    falls = np.isfinite(data.t_transition.values)
    on_wall = data.n_labels.values == data.n_pairs.values

    def at_wall(network: str) -> str:
        chosen = on_wall & (data.network.values == network)
        counts = [WORDS[int(falls[chosen & (data.n_pairs.values == n)].sum())] for n in PAIRS]
        return "{}, {} and {}".format(*counts)

    return {
        "spread": START_SPREAD,
        "lr": json.loads(data.attrs["parameters"])["lr"],
        "seeds": WORDS[len(np.unique(data.seed.values))],
        "beyond": "all" if falls[~on_wall].all() else f"{100 * falls[~on_wall].mean():.0f} %",
        "transformer": at_wall("transformer"),
        "head": at_wall("minimal head"),
        "landscape": at_wall(LANDSCAPE),
    }


def draw(data: xr.Dataset) -> Figure:
    networks = list(dict.fromkeys(data.network.values.tolist()))
    figure, axes = plots.new_figure(plots.WIDTH, 4.4, 2, len(networks))
    colours = dict(zip(PAIRS, (plots.BLUE, plots.ORANGE, plots.GREEN), strict=True))
    for column, network in zip(axes.T, networks, strict=True):
        for offset, (n, marker) in enumerate(zip(PAIRS, "os^", strict=True)):
            chosen = (data.network.values == network) & (data.n_pairs.values == n)
            if not chosen.any():
                continue
            ratio = data.n_labels.values[chosen] // n
            time = data.t_transition.values[chosen]
            place = np.searchsorted(LABELS_PER_PAIR, ratio) + 0.15 * (offset - 1)
            shares = [
                np.isfinite(time[ratio == value]).mean() if (ratio == value).any() else np.nan
                for value in LABELS_PER_PAIR
            ]
            where = np.arange(len(LABELS_PER_PAIR)) + 0.15 * (offset - 1)
            column[0].bar(where, shares, 0.14, color=colours[n], label=f"$N$ = {n}")
            column[1].semilogy(
                place, time, marker, color=colours[n], mfc="none", label=f"$N$ = {n}"
            )
        for ax in column:
            ax.set_xticks(range(len(LABELS_PER_PAIR)), [f"{value}" for value in LABELS_PER_PAIR])
            ax.set_xlim(-0.5, len(LABELS_PER_PAIR) - 0.5)
        column[0].set(title=network, ylim=(0, 1.05))
        column[1].set(xlabel="labels per pair, $L/N$", ylim=(15, 3000))
    axes[0, 0].set_ylabel("share of runs that fall")
    axes[1, 0].set_ylabel("transition time $t$")
    both = zip(*(ax.get_legend_handles_labels()[0] for ax in axes[:, 0]), strict=True)
    names = axes[0, 0].get_legend_handles_labels()[1]
    figure.legend(
        list(both), names, loc="outside lower center", ncols=3,
        handler_map={tuple: HandlerTuple(ndivide=None)},
    )  # fmt: skip
    plots.letter_panels(axes.flat)
    return figure
