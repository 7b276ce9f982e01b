"""Which data favour learning in context, and which learning in the weights."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import xarray as xr
from matplotlib.figure import Figure

from cliff import plots
from figures.ensembles import Case, case, gather, last, train_all

CAPTION = """
Accuracy from the context (novel classes) and from the weights (target's class absent from the
context) at the end of training, against one property of the data at a time; dots are seeds 0, 1
and 2, lines join their means. N = 8, L = 32, D = 63; unless varied K = 1024, B = 1, noise 0.1,
Zipf exponent 0; nothing novel, all sequences bursty; learning rate {lr}; the transformer 8,000
steps (t = 800), the heads 5,000 (t = 500). In the last tenth of a run accuracies below 0.1 or
above 0.9 move by at most {settled:.2f}, the rest, where the ways compete, by up to {moving:.2f}.
More classes, more burstiness and more noise favour the context, in all three networks. Steep
frequencies favour the weights, and an exponent of 1 supports both: in the head without label bias
{unbiased[0]:.2f} from the context and {unbiased[1]:.2f} from the weights, in the transformer
{many[0]:.2f} and {many[1]:.2f} at K = 16384, but only {few[0]:.2f} and {few[1]:.2f} at K = 1024,
where the seeds trade one against the other. Command: python -m figures dependence --recompute.
"""

BASE: dict[str, Any] = {"n_classes": 1024, "burstiness": 1, "noise": 0.1, "zipf_exponent": 0.0}
MANY = {**BASE, "n_classes": 16384}
PANELS: tuple[tuple[str, tuple[float, ...], dict[str, Any], str], ...] = (
    ("n_classes", (64, 256, 1024, 4096, 16384), BASE, "classes $K$"),
    ("burstiness", (1, 2, 4), BASE, "burstiness $B$"),
    ("noise", (0.0, 0.1, 0.3, 1.0), BASE, r"noise $\varepsilon$"),
    ("zipf_exponent", (0.0, 0.5, 1.0, 1.5), BASE, "Zipf exponent"),
    ("zipf_exponent", (0.0, 0.5, 1.0, 1.5), MANY, "Zipf exponent,\n$K$ = 16384"),
)
"""A property, its values, the world in which it is varied, and its name."""

NETWORKS: tuple[tuple[str, dict[str, Any]], ...] = (
    ("transformer", {}),
    ("minimal", {}),
    ("minimal", {"label_bias": 0.0}),
)
SEEDS = 3
N_STEPS = {"transformer": 8000, "minimal": 5000}


def worlds() -> list[dict[str, Any]]:
    """Every world of the panels once."""
    found: list[dict[str, Any]] = []
    for name, values, base, _ in PANELS:
        for value in values:
            world = {**base, name: value}
            if world not in found:
                found.append(world)
    return found


def cases(fast: bool = False) -> list[Case]:
    """All worlds for all networks; nothing is novel, all sequences are bursty."""
    seeds = 1 if fast else SEEDS
    steps = dict.fromkeys(N_STEPS, 20) if fast else N_STEPS
    chosen = worlds()[:: 5 if fast else 1]
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


def numbers(data: xr.Dataset) -> dict[str, Any]:
    moves, settled = [], []
    for measure in ("icl", "iwl"):
        tenth = data[measure].transpose("run", "row").values[:, -(data.sizes["row"] // 10) - 1 :]
        moves.append(np.ptp(tenth, axis=1))
        settled.append((tenth[:, -1] < 0.1) | (tenth[:, -1] > 0.9))
    move, is_settled = np.concatenate(moves), np.concatenate(settled)

    def at_exponent_one(network: str, n_classes: int) -> tuple[float, float]:
        world = {**BASE, "n_classes": n_classes, "zipf_exponent": 1.0}
        chosen = data.network.values == network
        for name, value in world.items():
            chosen = chosen & (data[name].values == value)
        part = data.isel(run=chosen)
        return float(last(part.icl).mean()), float(last(part.iwl).mean())

    return {
        "lr": json.loads(data.attrs["parameters"])["lr"],
        "settled": move[is_settled].max(),
        "moving": move[~is_settled].max(),
        "unbiased": at_exponent_one("minimal head, no label bias", 1024),
        "many": at_exponent_one("transformer", 16384),
        "few": at_exponent_one("transformer", 1024),
    }


def draw(data: xr.Dataset) -> Figure:
    networks = list(dict.fromkeys(data.network.values.tolist()))
    figure, axes = plots.new_figure(plots.WIDTH, 5.6, len(networks), len(PANELS))
    for row, network in zip(axes, networks, strict=True):
        part = data.isel(run=data.network.values == network)
        for ax, (name, values, base, label) in zip(row, PANELS, strict=True):
            _panel(part, name, values, base, ax)
            ax.set_xlabel(label)
        row[0].set_ylabel(network.replace(", ", ",\n") + "\naccuracy")
    handles = axes[0, 0].get_legend_handles_labels()
    figure.legend(*handles, loc="outside lower center", ncols=2)
    plots.letter_panels(axes.flat)
    figure.suptitle(
        "$N$ = 8, $L$ = 32; unless varied $K$ = 1024, $B$ = 1, "
        r"$\varepsilon$ = 0.1, Zipf exponent 0",
        fontsize=8,
    )
    return figure


def _panel(
    part: xr.Dataset, name: str, values: tuple[float, ...], base: dict[str, Any], ax: plots.Axes
) -> None:
    """Final accuracies against one property: a dot a seed, a line through the means."""
    others = [key for key in BASE if key != name]
    chosen = part.isel(run=np.all([part[key].values == base[key] for key in others], axis=0))
    for measure in ("icl", "iwl"):
        colour, dashes, _, label = plots.ACCURACY_STYLES[measure]
        accuracy, given = last(chosen[measure]), chosen[name].values
        places = [place for place, value in enumerate(values) if (given == value).any()]
        means = [accuracy[given == values[place]].mean() for place in places]
        ax.plot(places, means, color=colour, ls=dashes, label=label)
        for place in places:
            seeds = accuracy[given == values[place]]
            ax.plot(np.full(len(seeds), place), seeds, ".", color=colour, alpha=0.7)
    ax.set_xticks(range(len(values)), [_short(value) for value in values])
    ax.set_ylim(-0.03, 1.03)


def _short(value: float) -> str:
    """A number that fits below a narrow panel: 16k for 16384."""
    return f"{value / 1024:g}k" if value >= 1024 else f"{value:g}"
