"""The transition of the full network: loss, accuracies, progress measures, attention."""

from __future__ import annotations

import json

import xarray as xr
from matplotlib.figure import Figure

from cliff import plots
from cliff.network.runs import side_by_side
from cliff.store import provenance
from figures.ensembles import Case, case, train_all

CAPTION = """
Six seeds (0 to 5) of the two-layer transformer: N = 8, L = 32, K = 512, D = 63, noise 0.1, B = 1,
all sequences novel, learning rate 0.1, batch 128, 6,000 steps. The prediction moves into the
context (cla) while accuracy stays near 1/N = 0.125; then, between t = 368 and 416, the loss falls
from 0.9 to 0.1 log N within 29 to 34 units of time while the previous-token head (ila1) and the
match head (tila2) form together. Below: attention of seed 0 before and after, mean over 512
sequences. Command: python -m figures transition --recompute.
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


def draw(data: xr.Dataset) -> Figure:
    return plots.training_figure(data)
