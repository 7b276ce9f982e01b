"""Transition time and cost against the number of pairs."""

from __future__ import annotations

import json
import time
from typing import Any

import numpy as np
import xarray as xr
from matplotlib.figure import Figure

from cliff import NestedLogit, integrate, plots
from cliff.analysis import local_exponents
from cliff.kernels.nested_logit import EXACT, evaluate_batch
from cliff.store import provenance
from cliff.theory import transition_time
from figures import span

CAPTION = """
(a) Transition time of the flow from the origin at L = {ratio}N, unit mobilities, exact positions,
with the theory's estimate, in which nothing is fitted: it is off by {first:.0f} % at N = {least}
and by {last:.1f} % at N = {most}. (c) The local exponent d log t / d log N, with a line at 3/2.
(b) Time of one loss and gradient, measured on one core (it differs from machine to machine and is
not reproducible to the digit), with (d) the local exponents, {slopes} from N = 16 on, and a line
at 1: labels beyond the 16th enter the last softmax by a series, so that the cost grows linearly
with N and not quadratically. Command: python -m figures scaling --recompute.
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


def numbers(data: xr.Dataset) -> dict[str, Any]:
    off = 100 * np.abs(data.estimate.values / data.t_transition.values - 1)
    slopes = local_exponents(data.pairs.values, data.cost.values)[data.pairs.values[:-1] >= 16]
    return {
        "ratio": json.loads(data.attrs["parameters"])["labels_per_pair"],
        "least": data.pairs.values.min(), "most": data.pairs.values.max(),
        "first": off[0], "last": off[-1], "slopes": span(slopes, 2),
    }  # fmt: skip


def draw(data: xr.Dataset) -> Figure:
    figure, axes = plots.new_figure(plots.WIDTH, 4.0, 2, 2)
    pairs = data["pairs"].values.astype(float)
    middles = np.sqrt(pairs[1:] * pairs[:-1])
    top = axes[0, 0]
    top.loglog(pairs, data["t_transition"], "o", color=plots.BLUE, label="flow")
    top.loglog(pairs, data["estimate"], "-", color=plots.RED, label="theory, not fitted")
    top.set_ylabel("transition time\n(gradient flow)")
    top.legend()
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
    for ax, value in ((axes[1, 0], "3/2"), (axes[1, 1], "1")):
        ax.plot([], [], color=plots.GREY, ls=":", lw=1, label=value)
        ax.legend(loc="lower right")
    plots.letter_panels(axes.flat)
    return figure
