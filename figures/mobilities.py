"""How the mobilities of the circuits set when the cliff comes and how sharp it is."""

from __future__ import annotations

import numpy as np
import xarray as xr
from matplotlib.figure import Figure

from cliff import plots, sweep
from cliff.analysis import METRIC_UNITS, FlowMetric

CAPTION = """
Transition time (left) and abruptness (right) over the mobilities of match and classifier, that of
previous-token attention being 1; N = 8, L = 32, start (0.01, 0.01, 0.01). Faster circuits fall
sooner, but the cliff is sharpest in between, at a mobility of 1.3 for the match and 3.9 for the
classifier, where the abruptness is 24.7; it is 12.4 with unit mobilities and 0.9 in the flattest
corner. Command: python -m figures mobilities --recompute.
"""


def compute(fast: bool = False) -> xr.Dataset:
    side = np.geomspace(0.05, 20.0, 5 if fast else 41)
    axes = {"mobility_alpha": side, "mobility_xi": side}
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
