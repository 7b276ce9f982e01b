"""The landscape and the path of the flow, beyond the wall L = N and on it."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import xarray as xr
from matplotlib.figure import Figure

from cliff import NestedLogit, integrate, plots
from cliff.analysis import Slice, landscape_slice, slow_manifold
from cliff.store import provenance

CAPTION = """
(a) The loss over previous-token attention beta1 and match attention alpha, at the classifier xi =
{xi:.2f} of the transition, for N = {n_pairs} pairs and L = {n_labels} labels, with the
gradient-flow path from {start}: the path leaves the start, where the loss is close to log L, and
runs over a curved edge. (b) At L = N = {wall} the origin is a saddle; both branches of its
unstable manifold over alpha and xi at beta1 = 0, one of which falls. Lines are levels of the
loss. Command: python -m figures landscape --recompute.
"""

SETTINGS = {"n_pairs": 8, "n_labels": 32, "theta0": [0.01, 0.01, 0.01], "t_end": 200.0}
WALL_SETTINGS = {"n_pairs": 8, "n_labels": 8, "t_end": 4000.0}


def compute(fast: bool = False) -> xr.Dataset:
    resolution = 31 if fast else 141
    model = NestedLogit(SETTINGS["n_pairs"], SETTINGS["n_labels"])
    run = integrate(model, SETTINGS["theta0"], SETTINGS["t_end"])
    xi = float(run.path(run.transition().t_transition)[2])
    side = np.linspace(-1.0, 6.5, resolution)
    part = landscape_slice(model, ("beta1", "alpha"), side, side, {"xi": xi})
    path = run.path(np.linspace(0.0, SETTINGS["t_end"], 400))

    wall = NestedLogit(WALL_SETTINGS["n_pairs"], WALL_SETTINGS["n_labels"])
    near = np.linspace(-6.0, 6.0, resolution)
    saddle = landscape_slice(wall, ("alpha", "xi"), near, near, {"beta1": 0.0})
    times = np.linspace(0.0, WALL_SETTINGS["t_end"], 2000)
    branches = [branch.path(times) for branch in slow_manifold(wall, WALL_SETTINGS["t_end"])]
    component = list(model.parameter_names)
    return xr.Dataset(
        {
            "loss": (("alpha", "beta1"), part.loss, {"units": "nat"}),
            "path": (("point", "component"), path),
            "wall_loss": (("wall_xi", "wall_alpha"), saddle.loss, {"units": "nat"}),
            "branches": (("branch", "moment", "component"), np.stack(branches)),
        },
        coords={
            "beta1": side,
            "alpha": side,
            "wall_alpha": near,
            "wall_xi": near,
            "component": component,
        },
        attrs=provenance({"paper": SETTINGS, "wall": WALL_SETTINGS}) | {"xi": xi},
    )


def numbers(data: xr.Dataset) -> dict[str, Any]:
    made = json.loads(data.attrs["parameters"])
    start = ", ".join(f"{value:g}" for value in made["paper"]["theta0"])
    return {
        **made["paper"], "wall": made["wall"]["n_pairs"], "start": f"({start})",
        "xi": float(data.attrs["xi"]),
    }  # fmt: skip


def draw(data: xr.Dataset) -> Figure:
    figure, axes = plots.new_figure(plots.WIDTH, 3.3, 1, 2)
    left, right = axes[0]
    model, wall = NestedLogit(8, 32), NestedLogit(8, 8)
    blank = np.zeros_like(data["loss"].values)
    part = Slice(
        model,
        ("beta1", "alpha"),
        data["beta1"].values,
        data["alpha"].values,
        data["loss"].values,
        blank,
        {"xi": float(data.attrs["xi"])},
    )
    mesh = plots.landscape_slice(part, left, data["path"].values[:, :2])
    figure.colorbar(mesh, ax=left, label="loss (nats)")
    saddle = Slice(
        wall,
        ("alpha", "xi"),
        data["wall_alpha"].values,
        data["wall_xi"].values,
        data["wall_loss"].values,
        blank,
        {"beta1": 0.0},
    )
    mesh = plots.landscape_slice(saddle, right)
    for branch, style, label in zip(
        data["branches"].values, ("-", "--"), ("falls", "does not fall"), strict=True
    ):
        right.plot(*branch[:, 1:3].T, style, color=plots.RED, lw=1.8, label=label)
    right.plot(0.0, 0.0, "X", color="white", mec="black", ms=9, label="saddle")
    right.set(xlim=(-6, 6), ylim=(-6, 6))
    right.legend(frameon=True, loc="upper left")
    figure.colorbar(mesh, ax=right, label="loss (nats)")
    xi = plots.SYMBOLS["xi"]
    left.set_title(f"$N$ = 8, $L$ = 32, {xi} = {data.attrs['xi']:.2f}")
    right.set_title(r"$L$ = $N$ = 8, $\beta_1$ = 0")
    plots.letter_panels(axes.flat)
    return figure
