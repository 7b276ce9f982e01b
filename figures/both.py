"""Both ways of learning at once, when the data hold something for each."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import xarray as xr
from matplotlib.figure import Figure

from cliff import plots
from figures import span
from figures.dependence import BASE, N_STEPS, SEEDS
from figures.ensembles import Case, case, gather, last, train_all

CAPTION = """
Accuracy from the context and from the weights in the transformer when a share of the sequences is
novel and half of the others are bursty (seeds 0, 1, 2, a line each; N = 8, L = 32, K = 256, D =
63, noise 0.1, B = 1, Zipf exponent 0, learning rate {lr}, {n_steps:,} steps). (a) With a quarter
novel the weights win alone, at {alone}, with {chance} from the context; (b) with half of them
novel both are learned, to {both} by t = {t:.0f}, the weights first; they give way for a while
when the induction head forms. (c) With three quarters novel the context comes first, with {first}
at the end, and the weights, at {later}, still climb. Command: python -m figures both --recompute.
"""

BURSTY, NOVEL = (0.5,), (0.25, 0.5, 0.75)


def cases(fast: bool = False) -> list[Case]:
    """Mixtures of novel, bursty and independent sequences."""
    seeds, n_steps = (1, 20) if fast else (SEEDS, N_STEPS["transformer"])
    return [
        case(
            "transformer", seed, n_steps, None, {"eval_every": max(n_steps // 40, 1)},
            n_pairs=8, n_labels=32, p_novel=p_novel, p_bursty=p_bursty,
            **{**BASE, "n_classes": 256},
        )
        for p_bursty in BURSTY
        for p_novel in NOVEL
        for seed in range(seeds)
    ]  # fmt: skip


def compute(fast: bool = False) -> xr.Dataset:
    chosen = cases(fast)
    names = ("loss", "icl", "icl_swapped", "iwl")
    return gather(chosen, train_all("both", chosen, fast), names, ("p_bursty", "p_novel", "seed"))


def numbers(data: xr.Dataset) -> dict[str, Any]:
    quarter, half, most = (data.isel(run=data.p_novel.values == share) for share in NOVEL)
    return {
        **json.loads(data.attrs["parameters"]),
        "alone": span(last(quarter.iwl), 2),
        "chance": span(last(quarter.icl), 2),
        "both": span([*last(half.icl), *last(half.iwl)], 2),
        "t": float(data.t.max()),
        "first": span(last(most.icl), 2),
        "later": span(last(most.iwl), 2),
    }


def draw(data: xr.Dataset) -> Figure:
    figure, axes = plots.new_figure(plots.WIDTH, 2.7, len(BURSTY), len(NOVEL))
    for row, p_bursty in zip(axes, BURSTY, strict=True):
        for ax, p_novel in zip(row, NOVEL, strict=True):
            chosen = (data.p_bursty == p_bursty) & (data.p_novel == p_novel)
            part = data.isel(run=np.nonzero(chosen.values)[0])
            for measure in ("icl", "iwl"):
                colour, dashes, _, label = plots.ACCURACY_STYLES[measure]
                lines = ax.plot(part.t.T, part[measure].T, color=colour, ls=dashes, lw=1)
                lines[0].set_label(label)
            ax.set_title(
                rf"$p_\mathrm{{bursty}}$ = {p_bursty}, $p_\mathrm{{novel}}$ = {p_novel}",
            )
            ax.set_ylim(-0.03, 1.03)
        row[0].set_ylabel("accuracy")
    for ax in axes[-1]:
        ax.set_xlabel(plots.TRAINING_TIME)
    figure.legend(*axes[0, 0].get_legend_handles_labels(), loc="outside lower center", ncols=2)
    plots.letter_panels(axes.flat)
    figure.suptitle("transformer, $N$ = 8, $L$ = 32, $K$ = 256, a line a seed", fontsize=8)
    return figure
