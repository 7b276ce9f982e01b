"""When the cliff comes and how sharp it is, over pairs and labels."""

from __future__ import annotations

import numpy as np
import xarray as xr
from matplotlib.figure import Figure

from figures.diagrams import compute_diagrams, draw_diagrams

CAPTION = """
(a) Transition time and (b) abruptness, transition time over width, of the flow from (0.01, 0.01,
0.01) with unit mobilities, exact positions, up to t = 20,000, with contours. Both depend on N far
more than on L/N until L comes close to N: at the wall the time rises steeply, since there the
origin is a saddle. Command: python -m figures phase --recompute.
"""


def compute(fast: bool = False) -> xr.Dataset:
    count = 6 if fast else 40
    labels = np.geomspace(2, 256, count + count // 2)
    pairs = np.geomspace(2, 64, count)
    axes = {"labels": labels, "pairs": pairs}
    return compute_diagrams({k: np.unique(np.rint(v).astype(int)) for k, v in axes.items()})


def draw(data: xr.Dataset) -> Figure:
    return draw_diagrams(data, ratio="labels_per_pair")
