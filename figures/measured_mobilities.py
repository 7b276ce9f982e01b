"""How fast the circuits of the full network learn, in all settings."""

from __future__ import annotations

from typing import Any

import numpy as np
import xarray as xr
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from cliff import plots
from cliff.mobility_law import Curves, MobilityLaw, initial_mobilities, mobilities, mobility
from cliff.network.logits import LOGITS
from cliff.store import open_dataset, provenance
from figures import HERE, span
from figures.prediction import law_in

CAPTION = """
Mobilities of the transformer's logits, velocity over the landscape's gradient at the network's
own logits, in the slow phase of 18 settings (medians over stretches of the axis and over seeds 0,
1, 2; the runs are those of the prediction figure). (b) M_alpha is universal within a factor of
{factor:.1f}, and flat: its medians over the way go from {least:.2f} at N = {at_least} to
{most:.2f} at N = {at_most}, where {alpha:.3f} is derived for the start. (c) M_xi L rises along
one curve wherever L is at least 4N. (d) M_beta2 (2N + 1) is flat at N = 8 and above, and falls on
the way at N below 8. (a) M_beta1 is {late} close to the fall, where {beta1:.3f} is derived, but
up to {early:.0f} times as large early on: the landscape does not know why beta1 rises so soon.
Close to L = N (dotted) beta2 is faster and xi slower than the law, which is where its predictions
fail. Command: python -m figures measured_mobilities --recompute.
"""

PALETTE = ("#0072B2", "#56B4E9", "#009E73", "#E69F00", "#D55E00", "#CC79A7", "black")


SHARES = np.linspace(0.1, 1.0, 19)
"""Edges of the stretches of the slow phase, as shares of the transition time."""
LEVELS = np.geomspace(0.02, 12.0, 21)
"""Edges of the stretches of xi."""


def compute(fast: bool = False) -> xr.Dataset:
    """Mobilities from the curves that the predictions rest on."""
    data = open_dataset(HERE / "data/prediction.nc", "figure")
    settings = list(zip(data.setting_pairs.values, data.setting_labels.values, strict=True))
    by_share, by_xi = [], []
    for n, count in settings[: 2 if fast else None]:
        chosen = np.nonzero((data.n_pairs.values == n) & (data.n_labels.values == count))[0]
        curves = [_curves(data.isel(run=run)) for run in chosen]
        kept = [one.slow() for one in curves]
        values = np.concatenate(
            [mobilities(one)[rows] for one, rows in zip(curves, kept, strict=True)]
        )
        share = np.concatenate(
            [
                one.t[rows] / one.transition().t_transition
                for one, rows in zip(curves, kept, strict=True)
            ]
        )
        xi = np.concatenate([one.theta[rows, 2] for one, rows in zip(curves, kept, strict=True)])
        by_share.append(_medians(share, values, SHARES))
        by_xi.append(_medians(xi, values[:, 2:3], LEVELS)[:, 0])
    return xr.Dataset(
        {
            "mobility": (("setting", "share", "logit"), np.array(by_share)),
            "xi_mobility": (("setting", "xi"), np.array(by_xi)),
        },
        coords={
            "logit": list(LOGITS),
            "share": (SHARES[1:] + SHARES[:-1]) / 2,
            "xi": np.sqrt(LEVELS[1:] * LEVELS[:-1]),
            "n_pairs": ("setting", [int(n) for n, _ in settings][: len(by_xi)]),
            "n_labels": ("setting", [int(count) for _, count in settings][: len(by_xi)]),
        },
        attrs=provenance({"data": "figures/data/prediction.nc"}),
    )


def _curves(run: xr.Dataset) -> Curves:
    one = run.dropna("row", subset=["loss"])
    theta = np.stack([one[name].values for name in LOGITS], axis=1).astype(np.float64)
    return Curves(
        int(one.n_pairs), int(one.n_labels), "transformer", int(one.seed),
        one.t.values.astype(np.float64), theta, one.loss.values.astype(np.float64),
    )  # fmt: skip


def _medians(at: np.ndarray, values: np.ndarray, edges: np.ndarray) -> np.ndarray:
    """Median of each column between each two edges, NaN where there is nothing."""
    stretch = np.digitize(at, edges) - 1
    rows = [values[stretch == index] for index in range(len(edges) - 1)]
    nothing = np.full(values.shape[1], np.nan)
    return np.array([np.median(part, axis=0) if len(part) else nothing for part in rows])


def numbers(data: xr.Dataset) -> dict[str, Any]:
    medians = np.nanmedian(data.mobility.sel(logit="alpha").values, axis=1)
    low, high = int(np.argmin(medians)), int(np.argmax(medians))
    beta1 = data.mobility.sel(logit="beta1").values
    ends = [row[np.isfinite(row)][-2:] for row in beta1]
    derived = initial_mobilities(63, 65)
    return {
        **derived, "least": medians[low], "most": medians[high],
        "factor": medians[high] / medians[low],
        "at_least": int(data.n_pairs[low]), "at_most": int(data.n_pairs[high]),
        "late": span(np.concatenate(ends), 2), "early": np.nanmax(beta1) / derived["beta1"],
    }  # fmt: skip


def draw(data: xr.Dataset) -> Figure:
    figure, axes = plots.new_figure(plots.WIDTH, 6.0, 2, 2)
    pairs, labels = data.n_pairs.values, data.n_labels.values
    sizes = np.unique(pairs)
    palette = dict(zip(sizes.tolist(), PALETTE, strict=False))
    law = law_in(open_dataset(HERE / "data/prediction.nc", "figure"))
    derived = initial_mobilities(63, 65)
    panels = {
        "beta1": (r"$M_{\beta_1}$", np.ones(len(pairs))),
        "alpha": (r"$M_\alpha$", np.ones(len(pairs))),
        "xi": (r"$M_\xi \, L$", labels),
        "beta2": (r"$M_{\beta_2} \, (2N + 1)$", 2 * pairs + 1),
    }
    for ax, (name, (label, factor)) in zip(axes.flat, panels.items(), strict=True):
        values = data.xi_mobility if name == "xi" else data.mobility.sel(logit=name)
        across = data.xi.values if name == "xi" else data.share.values
        for row, n, count, scale in zip(values.values, pairs, labels, factor, strict=True):
            style = "-" if count >= 4 * n else ":"
            shown = np.where(row > 0, row * scale, np.nan)
            ax.plot(across, shown, ls=style, lw=1.1, color=palette[int(n)])
        ax.set(yscale="log", ylabel=f"{label} (logit² per nat and time)")
        if name == "xi":
            _draw_law(law, ax)
        else:
            middle = getattr(law, name)
            ax.axhline(middle, color="black", ls="--", lw=1.5)
            if name in derived:
                ax.axhline(derived[name], color="black", ls="-.", lw=1.5)
            ax.set(ylim=(middle / 10, middle * (160 if name == "beta1" else 10)))
            ax.set(xlim=(0.1, 1), xlabel="time over transition time")
    handles = [Line2D([], [], color=palette[int(n)], label=f"$N$ = {n}") for n in sizes]
    handles += [
        Line2D([], [], color=plots.GREY, ls="-", label=r"$L \geq 4N$"),
        Line2D([], [], color=plots.GREY, ls=":", label="$L < 4N$"),
        Line2D([], [], color="black", ls="--", label="law, set at (8, 32)"),
        Line2D([], [], color="black", ls="-.", label="derived for the start"),
    ]
    plots.letter_panels(axes.flat)
    figure.legend(handles=handles, loc="outside lower center", ncols=6)
    return figure


def _draw_law(law: MobilityLaw, ax: plots.Axes) -> None:
    grid = np.geomspace(0.02, 8, 60)
    for count in (8, 32, 128):
        constants = law.arguments(8, count)
        line = count * np.array([mobility((0.0, 0.0, xi, 0.0), *constants)[2] for xi in grid])
        ax.plot(grid, line, color="black", ls="--", lw=1.5)
        ax.annotate(f"$L$ = {count}", (1.1 * grid[-1], line[-1]), fontsize=7, va="center")
    ax.set(xscale="log", xlim=(0.02, 20), ylim=(0.1, 500), xlabel=r"$\xi$")
