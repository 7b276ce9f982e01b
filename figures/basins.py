"""Which valley the flow ends in, on the wall L = N and beyond it."""

from __future__ import annotations

import numpy as np
import xarray as xr
from matplotlib.figure import Figure

from cliff import NestedLogit, plots, sweep
from cliff.analysis import basin_paths
from cliff.metrics import METRIC_UNITS, FlowMetric

CAPTION = """
The valley in which the flow from (0.01, alpha, xi) ends, at (a) L = N = 8 and (b) N = 8, L = 32,
by t = 100,000, with sample paths from the dots. The saddle itself stays undecided. At L = N the
line alpha = -xi through the saddle parts the starts that reach the induction head from those that
do not; more labels than pairs push that boundary away from the origin. Command: python -m figures
basins --recompute.
"""

LABELS = (8, 32)


def compute(fast: bool = False) -> xr.Dataset:
    side = np.linspace(-4.0, 4.0, 13 if fast else 121)
    both = []
    for labels in LABELS:
        function = FlowMetric("basin", NestedLogit(8, labels), t_end=1e5)
        axes = {"xi": side, "alpha": side}
        grid = sweep(function, axes, vectorized=True, units=METRIC_UNITS)
        paths, _ = basin_paths(grid)
        both.append(grid.assign(paths=(("start", "point", "component"), np.stack(paths))))
    return xr.concat(both, dim=xr.DataArray(list(LABELS), dims="n_labels", name="n_labels"))


def draw(data: xr.Dataset) -> Figure:
    figure, axes = plots.new_figure(plots.WIDTH, 3.8, 1, 2)
    for ax, labels in zip(axes[0], LABELS, strict=True):
        part = data.sel(n_labels=labels)
        points = [(0.0, 0.0)] if labels == 8 else []
        plots.basin_map(part, ax, list(part["paths"].values), points)
        ax.set_title(rf"$N$ = 8, $L$ = {labels}, start $\beta_1$ = 0.01")
    plots.letter_panels(axes.flat)
    return figure
