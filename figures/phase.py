"""When the cliff comes and how sharp it is, over pairs and labels."""

from __future__ import annotations

import numpy as np
import xarray as xr
from matplotlib.figure import Figure

from cliff import plots, sweep
from cliff.analysis import METRIC_UNITS, FlowMetric

CAPTION = """
Transition time (left) and abruptness, transition time over width (right), of the flow from (0.01,
0.01, 0.01) with unit mobilities, exact positions, up to t = 20,000. Both depend on N far more
than on L until L comes close to N: at the wall the time rises steeply, since there the start is a
saddle. Command: python -m figures phase --recompute.
"""


def compute(fast: bool = False) -> xr.Dataset:
    count = 6 if fast else 40
    axes = {
        "labels": np.unique(np.rint(np.geomspace(2, 256, count + count // 2)).astype(int)),
        "pairs": np.unique(np.rint(np.geomspace(2, 64, count)).astype(int)),
    }
    grids = [
        sweep(FlowMetric(metric, t_end=2e4), axes, vectorized=True, units=METRIC_UNITS)
        for metric in ("t_transition", "abruptness")
    ]
    grids[0]["abruptness"] = grids[1]["abruptness"]
    return grids[0]


def draw(data: xr.Dataset) -> Figure:
    figure, axes = plots.new_figure(10.0, 4.0, 1, 2)
    for ax, metric in zip(axes[0], ("t_transition", "abruptness"), strict=True):
        mesh = plots.phase_map(data[[metric, "outcome"]].assign_attrs(data.attrs), ax)
        figure.colorbar(mesh, ax=ax, label=plots.METRIC_LABELS[metric])
    return figure
