"""Transition time and cost against the number of pairs."""

from __future__ import annotations

import time

import numpy as np
import xarray as xr
from matplotlib.figure import Figure

from cliff import NestedLogit, integrate, plots
from cliff.analysis import local_exponents
from cliff.kernels.nested_logit import EXACT, evaluate_batch
from cliff.store import provenance
from cliff.theory import transition_time

CAPTION = """
Left: transition time of the flow from the origin at L = 4N, unit mobilities, exact positions,
with the theory's estimate, in which nothing is fitted; below, the local exponent d log t / d log
N. Right: time of one loss and gradient, measured on one core (it differs from machine to machine
and is not reproducible to the digit), with the local exponents: labels beyond the 16th enter the
last softmax by a series, so that the cost grows linearly with N and not quadratically. Command:
python -m figures scaling --recompute.
"""


def compute(fast: bool = False) -> xr.Dataset:
    pairs = 2 ** np.arange(1, 6 if fast else 13)
    found, estimate, steps, cost = [], [], [], []
    for n in pairs.tolist():
        model = NestedLogit(n, 4 * n)
        estimate.append(transition_time(model))
        run = integrate(model, np.zeros(3), 10.0 * estimate[-1])
        found.append(run.transition().t_transition)
        steps.append(run.n_steps)
        cost.append(_seconds(model, run.path(np.linspace(0.0, found[-1], 64))) / 64)
    time_unit = {"units": "gradient-flow time"}
    return xr.Dataset(
        {
            "t_transition": ("pairs", np.array(found), time_unit),
            "estimate": ("pairs", np.array(estimate), time_unit),
            "n_steps": ("pairs", np.array(steps), {"units": "count"}),
            "cost": ("pairs", np.array(cost), {"units": "s"}),
        },
        coords={"pairs": pairs},
        attrs=provenance({"labels_per_pair": 4, "theta0": [0.0, 0.0, 0.0]}),
    )


def _seconds(model: NestedLogit, theta: np.ndarray) -> float:
    """Shortest time of the compiled batch in one thread."""
    rows, out = model.complete(theta), np.empty((len(theta), 5))
    times = []
    for _ in range(20):
        began = time.perf_counter()
        evaluate_batch(EXACT, model.n_pairs, float(model.n_labels - model.n_pairs), rows, True, out)
        times.append(time.perf_counter() - began)
    return min(times)


def draw(data: xr.Dataset) -> Figure:
    figure, axes = plots.new_figure(10.0, 5.0, 2, 2)
    pairs = data["pairs"].values.astype(float)
    middles = np.sqrt(pairs[1:] * pairs[:-1])
    top = axes[0, 0]
    top.loglog(pairs, data["t_transition"], "o", color=plots.BLUE, label="flow")
    top.loglog(pairs, data["estimate"], "-", color=plots.RED, label="theory, not fitted")
    top.set_ylabel("transition time\n(gradient flow)")
    top.legend(frameon=False)
    axes[0, 1].loglog(pairs, 1e6 * data["cost"], "s-", color=plots.GREEN)
    axes[0, 1].set_ylabel("loss and gradient\n(microseconds)")
    for column, values, name in (
        (0, data["t_transition"], "time"),
        (1, data["cost"], "cost"),
    ):
        below = axes[1, column]
        below.semilogx(middles, local_exponents(pairs, values.values), ".-", color="black")
        below.set_ylabel(f"local exponent\nof the {name}")
        below.grid(alpha=0.3)
        below.set_xlabel("pairs in the context, $N$ ($L$ = 4$N$)")
    axes[1, 0].axhline(1.5, color=plots.GREY, ls=":", lw=1)
    axes[1, 1].axhline(1.0, color=plots.GREY, ls=":", lw=1)
    return figure
