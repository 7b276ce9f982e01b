"""The pictures of the README and of papers: one module a figure.

A figure's module has ``CAPTION`` (what it shows, with its settings and its finding),
``compute(fast=False)``, which returns an xarray.Dataset, and ``draw(data)``, which returns a
matplotlib Figure. ``python -m figures NAME`` draws from the data committed in ``figures/data``;
``--recompute`` makes them anew.
"""

from pathlib import Path

HERE = Path(__file__).parent
NAMES = (
    "landscape",
    "phase",
    "basins",
    "mobilities",
    "scaling",
    "transition",
    "dependence",
    "both",
    "causal",
    "prediction",
    "measured_mobilities",
    "wall",
)
