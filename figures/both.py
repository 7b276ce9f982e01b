"""Both ways of learning at once, when the data hold something for each."""

from __future__ import annotations

import numpy as np
import xarray as xr
from matplotlib.figure import Figure

from cliff import plots
from figures.dependence import BASE, N_STEPS, SEEDS
from figures.ensembles import Case, case, gather, train_all

CAPTION = """
Accuracy from the context and from the weights in the transformer when a share of the sequences is
novel and half of the others are bursty (seeds 0, 1, 2; N = 8, L = 32, K = 256, D = 63, noise 0.1,
B = 1, Zipf exponent 0, learning rate 0.1, 8,000 steps). With a quarter novel the weights win
alone, with half of them novel both are learned, to 0.98 and more by t = 800, the weights first;
they give way for a while when the induction head forms. With three quarters novel the context
comes first and the weights, at 0.78 to 0.83, still climb. Command: python -m figures both
--recompute.
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


def draw(data: xr.Dataset) -> Figure:
    figure, axes = plots.new_figure(10.0, 3.6, len(BURSTY), len(NOVEL))
    for row, p_bursty in zip(axes, BURSTY, strict=True):
        for ax, p_novel in zip(row, NOVEL, strict=True):
            chosen = (data.p_bursty == p_bursty) & (data.p_novel == p_novel)
            part = data.isel(run=np.nonzero(chosen.values)[0])
            for measure in ("icl", "iwl"):
                colour, style, label = plots.ACCURACY_STYLES[measure]
                lines = ax.plot(part.t.T, part[measure].T, color=colour, ls=style, lw=1)
                lines[0].set_label(label)
            ax.set_title(
                rf"$p_\mathrm{{bursty}}$ = {p_bursty}, $p_\mathrm{{novel}}$ = {p_novel}",
                fontsize="medium",
            )
            ax.set_ylim(-0.03, 1.03)
        row[0].set_ylabel("accuracy")
    for ax in axes[-1]:
        ax.set_xlabel("time $t$ = learning rate × steps")
    axes[0, 0].legend(frameon=False, fontsize="small", loc="center right")
    return figure
