"""How the mobilities of the circuits set when the cliff comes and how sharp it is."""

from __future__ import annotations

import numpy as np
import xarray as xr
from matplotlib.figure import Figure

from figures.diagrams import compute_diagrams, draw_diagrams

CAPTION = """
(a) Transition time and (b) abruptness over the mobilities of match and classifier, with contours.
Previous-token attention has mobility 1; N = 8, L = 32, start (0.01, 0.01, 0.01). Faster circuits
fall sooner, but the cliff is sharpest in between, at a mobility of {match:.1f} for the match and
{classifier:.1f} for the classifier, where the abruptness is {sharpest:.1f}; it is {unit:.1f} with
unit mobilities and {flattest:.1f} in the flattest corner. Command: python -m figures mobilities
--recompute.
"""


def compute(fast: bool = False) -> xr.Dataset:
    side = np.geomspace(0.05, 20.0, 5 if fast else 41)
    return compute_diagrams({"mobility_alpha": side, "mobility_xi": side})


def numbers(data: xr.Dataset) -> dict[str, float]:
    sharpness = data["abruptness"]
    best = sharpness.where(sharpness == sharpness.max(), drop=True)
    unit = sharpness.sel(mobility_alpha=1.0, mobility_xi=1.0, method="nearest")
    return {
        "match": float(best["mobility_alpha"][0]),
        "classifier": float(best["mobility_xi"][0]),
        "sharpest": float(sharpness.max()),
        "unit": float(unit),
        "flattest": float(sharpness.min()),
    }


def draw(data: xr.Dataset) -> Figure:
    return draw_diagrams(data)
