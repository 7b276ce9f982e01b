"""The transition of the full network: loss, accuracies, progress measures, attention."""

from __future__ import annotations

import json
from typing import Any

import xarray as xr
from matplotlib.figure import Figure

from cliff import plots
from cliff.network.runs import side_by_side
from cliff.store import provenance
from cliff.trajectory import transition_of
from figures import WORDS, span
from figures.ensembles import Case, case, train_all

CAPTION = """
{seeds} seeds of the two-layer transformer, a line each: N = {n_pairs}, L = {n_labels}, K =
{n_classes}, D = {dim}, noise {noise}, B = {burstiness}, all sequences novel, learning rate {lr},
batch {batch}, {steps:,} steps. (a) Loss and accuracies, (b) progress measures: the prediction
moves into the context (cla) while accuracy stays near 1/N = {chance:.3f}; then, at t = {t} (half
of log N), the loss falls from 0.9 to 0.1 log N within {width} units of time while the
previous-token head (ila1) and the match head (tila2) form together. (c to f) Attention of seed 0
before and after, mean over {eval_size} sequences. Command: python -m figures transition
--recompute.
"""


def cases(fast: bool = False) -> list[Case]:
    """Six seeds of the paper's setting."""
    seeds, n_steps = (2, 100) if fast else (6, 6000)
    return [
        case(n_pairs=8, n_labels=32, seed=seed, n_steps=n_steps, options={"eval_every": 50})
        for seed in range(seeds)
    ]


def compute(fast: bool = False) -> xr.Dataset:
    chosen = cases(fast)
    runs = train_all("transition", chosen, fast)
    seeds = [one.run.seed for one in chosen]
    joined = side_by_side(runs, seeds)
    small = joined.map(lambda values: values.astype("f4") if values.dtype == "f8" else values)
    return small.assign_attrs(provenance(json.loads(joined.attrs["parameters"]), seeds))


def numbers(data: xr.Dataset) -> dict[str, Any]:
    made = json.loads(data.attrs["parameters"])
    n_pairs = made["task"]["n_pairs"]
    falls = [transition_of(data.t, row, n_pairs) for row in data.loss.transpose("seed", "step")]
    return {
        **made, **made["task"],
        "seeds": WORDS[data.sizes["seed"]].capitalize(), "chance": 1 / n_pairs,
        "steps": data.step.values.max(), "t": span(one.t_transition for one in falls),
        "width": span(one.width for one in falls),
    }  # fmt: skip


def draw(data: xr.Dataset) -> Figure:
    return plots.training_figure(data)
