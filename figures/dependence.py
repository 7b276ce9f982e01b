"""Which data favour learning in context, and which learning in the weights."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import xarray as xr
from matplotlib.figure import Figure

from cliff import plots
from figures.ensembles import Case, case, gather, last, train_all

CAPTION = """
"""

BASE: dict[str, Any] = {"n_classes": 1024, "burstiness": 1, "noise": 0.1, "zipf_exponent": 0.0}
VARIED: dict[str, tuple[float, ...]] = {
    "n_classes": (64, 256, 1024, 4096, 16384),
    "burstiness": (1, 2, 4),
    "noise": (0.0, 0.1, 0.3, 1.0),
    "zipf_exponent": (0.0, 0.5, 1.0, 1.5),
}
AXES = {
    "n_classes": "classes $K$",
    "burstiness": "burstiness $B$",
    "noise": r"noise $\varepsilon$",
    "zipf_exponent": "Zipf exponent",
}
NETWORKS: tuple[tuple[str, dict[str, Any]], ...] = (
    ("transformer", {}),
    ("minimal", {}),
    ("minimal", {"label_bias": 0.0}),
)
SEEDS = 3
N_STEPS = {"transformer": 8000, "minimal": 5000}


def worlds() -> Iterator[dict[str, Any]]:
    """Every world once: the base, and one property changed at a time."""
    yield BASE
    for name, values in VARIED.items():
        yield from ({**BASE, name: value} for value in values if value != BASE[name])


def cases(fast: bool = False) -> list[Case]:
    """All worlds for all networks; nothing is novel, all sequences are bursty."""
    seeds = 1 if fast else SEEDS
    steps = dict.fromkeys(N_STEPS, 20) if fast else N_STEPS
    chosen = list(worlds())[:: 5 if fast else 1]
    return [
        case(
            model, seed, steps[model], network, {"eval_every": max(steps[model] // 40, 1)},
            n_pairs=8, n_labels=32, p_novel=0.0, p_bursty=1.0, **world,
        )
        for model, network in NETWORKS
        for world in chosen
        for seed in range(seeds)
    ]  # fmt: skip


def compute(fast: bool = False) -> xr.Dataset:
    chosen = cases(fast)
    names = ("loss", "icl", "icl_swapped", "iwl")
    return gather(chosen, train_all("dependence", chosen, fast), names, (*BASE, "seed"))


def draw(data: xr.Dataset) -> Figure:
    networks = list(dict.fromkeys(data.network.values.tolist()))
    figure, axes = plots.new_figure(12.0, 8.5, len(networks), len(VARIED))
    for row, network in zip(axes, networks, strict=True):
        part = data.isel(run=data.network.values == network)
        for ax, name in zip(row, VARIED, strict=True):
            _panel(part, name, ax)
            ax.set_xlabel(AXES[name])
        row[0].set_ylabel(f"{network}\naccuracy")
    axes[0, 0].legend(frameon=False, fontsize="small")
    return figure


def _panel(part: xr.Dataset, name: str, ax: Any) -> None:
    """Final accuracies against one property: a dot a seed, a line through the means."""
    others = [key for key in BASE if key != name]
    chosen = part.isel(run=np.all([part[key].values == BASE[key] for key in others], axis=0))
    values = np.unique(chosen[name].values)
    place = np.arange(len(values))
    for measure in ("icl", "iwl"):
        colour, style, label = plots.ACCURACY_STYLES[measure]
        accuracy = last(chosen[measure])
        at = np.searchsorted(values, chosen[name].values)
        ax.plot(at, accuracy, ".", color=colour, alpha=0.7)
        means = [accuracy[at == index].mean() for index in place]
        ax.plot(place, means, color=colour, ls=style, label=label)
    ax.set_xticks(place, [f"{value:g}" for value in values])
    ax.set_ylim(-0.03, 1.03)
