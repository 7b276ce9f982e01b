"""Maps of context against weights, predicted, with networks on them."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import xarray as xr
from matplotlib.figure import Figure

from cliff import plots
from cliff.store import open_dataset
from figures import HERE, span
from figures.competition import BASE, fitted_law, predict, short
from figures.ensembles import Case, case, gather, last, train_all

CAPTION = """
Where context and where weights answer at t = {t_end:.0f}, on the landscape with memory (colour:
predicted icl - iwl; lines: icl = 0.5 and, dashed, iwl = 0.5; dots where both are above) and in
transformers (circles: measured icl - iwl, mean of the seeds). Mobilities of the competition figure,
matched at K = 1024, B = 1, all bursty and known. (a) Classes K and Zipf exponent, B = 1. (b) K and
burstiness B. (c) Shares of bursty and of novel sequences, K = 1024, B = 1. Of the {settings}
settings of networks on the maps {right} are on the predicted side of icl = iwl; not so {wrong}.
Where some sequences are not bursty, networks learn the classes by heart (iwl = {learned}), the
landscape only in part (iwl = {predicted}). N = 8, L = 32, noise 0.1, D = 63, learning rate {lr};
seeds 0, 1, 2 of the competition figure, seed 0 elsewhere. Command: python -m figures maps
--recompute.
"""

N_STEPS = 8000
T_END = 800.0
CLASSES = np.unique(np.geomspace(64, 16384, 17).astype(int))
MAPS: tuple[tuple[str, np.ndarray, str, np.ndarray], ...] = (
    ("n_classes", CLASSES, "zipf_exponent", np.linspace(0, 1.5, 13)),
    ("n_classes", CLASSES, "burstiness", np.array([1, 2, 4, 8])),
    ("p_bursty", np.linspace(0, 1, 13), "p_novel", np.array([0, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5])),
)
LABELS = {
    "n_classes": "classes $K$", "zipf_exponent": "Zipf exponent", "burstiness": "burstiness $B$",
    "p_bursty": "share of bursty sequences", "p_novel": "share of novel sequences",
}  # fmt: skip


def worlds() -> list[dict[str, Any]]:
    """Settings of networks beside those of the competition figure."""
    found: list[dict[str, Any]] = [
        {"burstiness": b, "n_classes": k} for b in (2, 4) for k in (128, 256, 512)
    ]
    shares = ((0.5, 0.0), (0.8, 0.0), (0.5, 0.1), (1.0, 0.02), (1.0, 0.1), (0.2, 0.1))
    found += [{"p_bursty": p, "p_novel": q} for p, q in shares]
    return [{**BASE, **world} for world in found]


def cases(fast: bool = False) -> list[Case]:
    steps = 20 if fast else N_STEPS
    options = {"eval_every": 10 if fast else 100, **({"eval_size": 32} if fast else {})}
    return [
        case(seed=0, n_steps=steps, options=options, **world)
        for world in worlds()[: 1 if fast else None]
    ]


def compute(fast: bool = False) -> xr.Dataset:
    chosen = cases(fast)
    runs = train_all("maps", chosen, fast)
    ends = gather(chosen, runs, ("icl", "iwl"), (*BASE, "seed"))
    settings = [one.labels for one in chosen]
    rows = [[float(last(ends[name])[i]) for name in ("icl", "iwl")] for i in range(len(settings))]
    other = open_dataset(HERE / "data/competition.nc", "figure")
    values = np.stack([last(other[name]) for name in ("icl", "iwl")], axis=1)
    keys = [json.dumps({k: other[k].values[i].item() for k in BASE}) for i in range(len(values))]
    for key in dict.fromkeys(keys):
        settings.append(json.loads(key))
        rows.append(values[[each == key for each in keys]].mean(axis=0).tolist())
    law = fitted_law()
    step = 6 if fast else 1
    grids = {}
    for number, (x, xs, y, ys) in enumerate(MAPS):
        cells = [
            [predict(law, {**BASE, x: a.item(), y: b.item()}, T_END) for a in xs[::step]]
            for b in ys[::step]
        ]
        for name in ("icl", "iwl"):
            grids[f"{name}_{number}"] = (
                (f"y_{number}", f"x_{number}"), [[cell[name] for cell in row] for row in cells]
            )  # fmt: skip
        grids |= {f"x_{number}": xs[::step], f"y_{number}": ys[::step]}
    if fast:
        settings, rows = settings[:4], rows[:4]
    own = [predict(law, {k: one[k] for k in BASE}, T_END) for one in settings]
    return xr.Dataset(
        {
            "measured": (("setting", "question"), rows),
            "predicted": (("setting", "question"), [[o["icl"], o["iwl"]] for o in own]),
            **grids,
        },
        coords={
            "question": ["icl", "iwl"],
            "world": ("setting", [json.dumps({k: one[k] for k in BASE}) for one in settings]),
        },
        attrs=ends.attrs,
    )


def on_maps(data: xr.Dataset) -> xr.Dataset:
    """The settings of networks that some map shows."""
    shown = [
        any(all(world[k] == BASE[k] for k in BASE if k not in (x, y)) for x, _, y, _ in MAPS)
        for world in map(json.loads, data.world.values.tolist())
    ]
    return data.isel(setting=np.nonzero(shown)[0])


def numbers(data: xr.Dataset) -> dict[str, Any]:
    shown = on_maps(data)
    measured, predicted = shown.measured.values, shown.predicted.values
    worlds = [json.loads(world) for world in shown.world.values.tolist()]
    right = (measured[:, 0] > measured[:, 1]) == (predicted[:, 0] > predicted[:, 1])
    mixed = np.array([world["p_bursty"] < 1 for world in worlds])
    wrong = [short(world) for world, ok in zip(worlds, right, strict=True) if not ok]
    return {
        "t_end": T_END, "settings": len(right), "right": right.sum(),
        "wrong": "; ".join(wrong) or "none",
        "learned": span(measured[mixed, 1], 2), "predicted": span(predicted[mixed, 1], 2),
        "lr": json.loads(data.attrs["parameters"])["lr"],
    }  # fmt: skip


def draw(data: xr.Dataset) -> Figure:
    figure, (axes,) = plots.new_figure(plots.WIDTH, 2.9, 1, 3)
    figure.get_layout_engine().set(wspace=0.06)
    for number, ((x, _, y, _), ax) in enumerate(zip(MAPS, axes, strict=True)):
        icl, iwl = data[f"icl_{number}"].values, data[f"iwl_{number}"].values
        xs, ys = data[f"x_{number}"].values, data[f"y_{number}"].values
        drawn_y = np.arange(len(ys)) if y in ("burstiness", "p_novel") else ys
        mesh = ax.pcolormesh(xs, drawn_y, icl - iwl, cmap="RdBu", vmin=-1, vmax=1, rasterized=True)
        if min(icl.shape) > 1:
            ax.contour(xs, drawn_y, icl, [0.5], colors="black", linewidths=1.2)
            ax.contour(xs, drawn_y, iwl, [0.5], colors="black", linewidths=1.2, linestyles="--")
        rows, columns = np.nonzero((icl > 0.5) & (iwl > 0.5))
        ax.plot(xs[columns], drawn_y[rows], ".", color="black", ms=2)
        _networks(data, x, y, ys, drawn_y, ax)
        if x == "n_classes":
            ax.set_xscale("log", base=2)
            ax.set_xticks([64, 1024, 16384], ["64", "1024", "16384"])
        if len(drawn_y) == len(ys) and drawn_y is not ys:
            ax.set_yticks(drawn_y, [f"{value:g}" for value in ys])
        ax.set(xlabel=LABELS[x], ylabel=LABELS[y])
    figure.colorbar(mesh, ax=axes, label="icl $-$ iwl", shrink=0.8)
    plots.letter_panels(axes)
    return figure


def _networks(
    data: xr.Dataset, x: str, y: str, ys: np.ndarray, drawn_y: np.ndarray, ax: plots.Axes
) -> None:
    for text, (icl, iwl) in zip(data.world.values.tolist(), data.measured.values, strict=True):
        world = json.loads(text)
        if any(world[name] != BASE[name] for name in BASE if name not in (x, y)):
            continue
        at = np.interp(world[y], ys, drawn_y)
        ax.scatter(
            world[x], at, c=[icl - iwl], cmap="RdBu", vmin=-1, vmax=1, edgecolors="black", s=28,
            zorder=3, clip_on=False,
        )  # fmt: skip
