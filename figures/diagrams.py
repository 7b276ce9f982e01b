"""Two phase diagrams side by side: when the cliff comes, and how sharp it is."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import xarray as xr
from matplotlib.figure import Figure

from cliff import plots, sweep
from cliff.metrics import METRIC_UNITS, FlowMetric

METRICS = ("t_transition", "abruptness")
T_END = 2e4


def compute_diagrams(axes: Mapping[str, np.ndarray]) -> xr.Dataset:
    """Transition time and abruptness over two parameters, up to t = T_END."""
    first, second = (
        sweep(FlowMetric(metric, t_end=T_END), axes, vectorized=True, units=METRIC_UNITS)
        for metric in METRICS
    )
    return first.assign(abruptness=second["abruptness"])


def draw_diagrams(data: xr.Dataset, **options: Any) -> Figure:
    """One panel a metric, with contours; options go to `cliff.plots.phase_map`."""
    figure, axes = plots.new_figure(plots.WIDTH, 3.4, 1, 2)
    for ax, metric in zip(axes[0], METRICS, strict=True):
        rest = [other for other in METRICS if other != metric]
        mesh = plots.phase_map(data.drop_vars(rest), ax, contours=True, **options)
        figure.colorbar(mesh, ax=ax, label=plots.METRIC_LABELS[metric])
    plots.letter_panels(axes.flat)
    figure.suptitle(plots.settings_title(data).replace("\n", ", "), fontsize=8)
    return figure
