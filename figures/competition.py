"""Context against weights: the landscape with memory, matched at one setting, against networks."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import numpy as np
import xarray as xr
from matplotlib.figure import Figure

from cliff import Task, plots
from cliff.memory_law import MemoryCurves, MemoryLaw, landscape_of, match_memory, memory_curves_of
from cliff.network.logits import LOGITS
from cliff.store import open_dataset
from cliff.trajectory import transition_of
from figures import HERE
from figures.ensembles import Case, case, gather, last, train_all

CAPTION = """
The flow on the landscape with memory against transformers, from the origin to t = {t_end:.0f}; its
eleven mobility constants are matched at one setting (K = 1024, B = 1, noise 0.1, Zipf exponent 0)
and nothing is fitted elsewhere. (a-e) Accuracy from the context (icl) and from the weights (iwl) at
the end: dots are seeds 0, 1 and 2, lines the landscape's mean probability of the correct label.
Over the {worlds} settings that were not matched the mean error of icl, icl_swapped and iwl is
{icl:.2f}, {swapped:.2f} and {iwl:.2f}, and whether context or weights answer is right in {right}.
What fits worst is {answer} at {at} (off by {off:.2f}). (f) Transition times: median error
{median:.0f} %, largest {largest:.0f} % ({worst}); the matched setting is hollow. (g) Loss at the
networks' own logits, K = 1024: with the derived crosstalk of the memories (nothing fitted) it
follows the networks down to the fall, off by {with_crosstalk:.2f} nats in the root mean square
while the loss exceeds {least}; without it by {without_crosstalk:.2f}. (h) The race at K = 512,
where memory wins, and K = 2048, where the context does. N = 8, L = 32, D = 63, all sequences bursty
and of known classes; learning rate {lr}. Command: python -m figures competition --recompute.
"""

BASE: dict[str, Any] = {
    "n_pairs": 8, "n_labels": 32, "n_classes": 1024, "burstiness": 1, "noise": 0.1,
    "zipf_exponent": 0.0, "p_bursty": 1.0, "p_novel": 0.0,
}  # fmt: skip
SEEDS = 3
N_STEPS = 8000
T_END = 800.0
LEAST = 0.5
"""Losses above this count where the landscape is compared at the networks' own logits (nats)."""
ANSWERS = ("icl", "icl_swapped", "iwl")
FAST = 8
"""Stride through the points of the lines in the fast mode."""

PANELS: tuple[tuple[str, dict[str, Any], np.ndarray, str], ...] = (
    ("n_classes", {}, np.unique(np.geomspace(64, 16384, 25).astype(int)), "classes $K$"),
    ("burstiness", {}, np.array([1, 2, 4]), "burstiness $B$"),
    ("noise", {}, np.linspace(0, 1, 11), r"noise $\varepsilon$"),
    ("zipf_exponent", {}, np.linspace(0, 1.5, 16), "Zipf exponent"),
    ("zipf_exponent", {"n_classes": 16384}, np.linspace(0, 1.5, 16), "Zipf exponent"),
)
"""What is varied, in which world, the values at which the landscape is evaluated, its name."""


def worlds() -> list[dict[str, Any]]:
    """Every setting of the networks once."""
    found = [{}, *({"n_classes": k} for k in (64, 256, 512, 2048, 4096, 16384))]
    found += [{"burstiness": b} for b in (2, 4)]
    found += [{"noise": noise} for noise in (0.0, 0.3, 1.0)]
    found += [{"zipf_exponent": a} for a in (0.5, 1.0, 1.5)]
    found += [{"zipf_exponent": a, "n_classes": 16384} for a in (0.5, 1.0, 1.5)]
    return [{**BASE, **world} for world in found]


def cases(fast: bool = False) -> list[Case]:
    """Every setting for every seed."""
    steps = 60 if fast else N_STEPS
    options = {"eval_every": 5, "eval_size": 32} if fast else {"eval_every": steps // 80}
    return [
        case(seed=seed, n_steps=steps, options=options, **world)
        for seed in range(1 if fast else SEEDS)
        for world in worlds()[:: 9 if fast else 1]
    ]


def compute(fast: bool = False) -> xr.Dataset:
    chosen = cases(fast)
    runs = train_all("competition", chosen, fast)
    keys = (*BASE, "seed")
    curves = [memory_curves_of(run)[0] for run in runs]
    memory = [_mean_memory(one) for one in curves]
    runs = [run.assign(omega=("step", values)) for run, values in zip(runs, memory, strict=True)]
    table = gather(chosen, runs, ("loss", *ANSWERS, *LOGITS, "omega"), keys)
    at = [one for one, each in zip(curves, chosen, strict=True) if _is(each.labels, BASE)]
    law = fitted_law() if fast else match_memory(at)
    settings = [one for one in worlds() if any(_is(each.labels, one) for each in chosen)]
    predicted = [predict(law, one) for one in settings]
    lines = [
        predict(law, {**BASE, **world, name: value.item()})
        for name, world, values, _ in PANELS
        for value in values[:: FAST if fast else 1]
    ]
    ends = [transition_of(one.t, one.loss, one.model.n_pairs).t_transition for one in curves]
    own = at[0].model
    assert own.memory is not None
    without = replace(own, memory=replace(own.memory, dim=None))
    both = [[model.loss(one.theta) for model in (own, without)] for one in at]
    names = list(law.constants())
    time = {"units": "gradient-flow time"}
    return table.assign(
        measured=("run", ends, time),
        predicted=("setting", [one["t_transition"] for one in predicted], time),
        answer=(("setting", "question"), [[one[name] for name in ANSWERS] for one in predicted]),
        line=(("point", "question"), [[one[name] for name in ANSWERS] for one in lines]),
        own_loss=(("seed_at", "row", "crosstalk"), np.moveaxis(both, 1, 2), {"units": "nats"}),
        law=("constant", list(law.constants().values())),
    ).assign_coords(
        question=list(ANSWERS),
        constant=names,
        crosstalk=["with", "without"],
        world=("setting", [json.dumps(one) for one in settings]),
    )


def _is(labels: Any, world: dict[str, Any]) -> bool:
    return all(labels[name] == value for name, value in world.items())


def _mean_memory(one: MemoryCurves) -> np.ndarray:
    """Mean memory over the sequences, (n,)."""
    assert one.model.memory is not None
    return one.theta[:, 4:] @ one.model.memory.group_shares


def predict(law: MemoryLaw, world: dict[str, Any], t_end: float = T_END) -> dict[str, float]:
    """Transition time, and the answers at the end, of the flow in one world."""
    model = landscape_of(Task(**world))
    flow = law.flow(model, t_end)
    measures = model.measures(flow.theta[-1])
    answers = {name: float(measures[name]) for name in ANSWERS}
    return answers | {"t_transition": flow.transition().t_transition}


def fitted_law() -> MemoryLaw:
    """The law of the committed data."""
    data = open_dataset(HERE / "data/competition.nc", "figure")
    return MemoryLaw(
        **dict(zip(data.constant.values.tolist(), data.law.values.tolist(), strict=True))
    )


def compared(data: xr.Dataset) -> list[tuple[dict[str, Any], np.ndarray, np.ndarray, float, float]]:
    """Of every setting: the world, measured and predicted answers, measured and predicted time."""
    found = []
    for number, text in enumerate(data.world.values.tolist()):
        world = json.loads(text)
        part = data.isel(run=_at(data, world))
        measured = np.array([last(part[name]).mean() for name in ANSWERS])
        predicted = data.answer.values[number]
        found.append(
            (world, measured, predicted, part.measured.values.mean(), data.predicted.values[number])
        )
    return found


def short(world: dict[str, Any]) -> str:
    """What a setting differs in from the one that was matched."""
    names = {
        "n_classes": "K",
        "burstiness": "B",
        "noise": "noise",
        "zipf_exponent": "Zipf exponent",
        "p_bursty": "bursty share",
        "p_novel": "novel share",
    }
    parts = [f"{names[k]} = {world[k]:g}" for k in names if world[k] != BASE[k]]
    return ", ".join(parts) or "matched"


def numbers(data: xr.Dataset) -> dict[str, Any]:
    rows = [one for one in compared(data) if short(one[0]) != "matched"]
    worlds = [short(one[0]) for one in rows]
    measured, predicted = (np.array([one[k] for one in rows]) for k in (1, 2))
    each = np.abs(predicted - measured)
    errors, (row, column) = each.mean(axis=0), np.unravel_index(each.argmax(), each.shape)
    right = (measured[:, 0] > measured[:, 2]) == (predicted[:, 0] > predicted[:, 2])
    times = np.array([100 * abs(one[4] / one[3] - 1) for one in rows])
    own = data.isel(run=_at(data, BASE))
    loss = own.loss.values[:, :, None]
    squares = np.where(loss > LEAST, (data.own_loss.values - loss) ** 2, 0.0)
    off = np.sqrt(squares.sum(axis=(0, 1)) / (loss > LEAST).sum())
    return {
        "t_end": T_END, "worlds": len(rows), "right": right.sum(),
        "icl": errors[0], "swapped": errors[1], "iwl": errors[2],
        "median": np.median(times), "largest": times.max(), "worst": worlds[times.argmax()],
        "answer": ANSWERS[column], "at": worlds[row], "off": each.max(),
        "with_crosstalk": off[0], "without_crosstalk": off[1], "least": LEAST,
        "lr": json.loads(data.attrs["parameters"])["lr"],
    }  # fmt: skip


def _at(data: xr.Dataset, world: dict[str, Any]) -> np.ndarray:
    """Numbers of the runs in one world."""
    return np.nonzero(np.all([data[name].values == world[name] for name in BASE], axis=0))[0]


def draw(data: xr.Dataset) -> Figure:
    figure, axes = plots.new_figure(plots.WIDTH, 5.4, 2, 4)
    first = 0
    for ax, (name, world, values, label) in zip(axes.flat, PANELS, strict=False):
        step = 1 if data.sizes["point"] > 40 else FAST
        rows = data.line.values[first : first + len(values[::step])]
        first += len(rows)
        _accuracies(data, name, {**BASE, **world}, values[::step], rows, ax)
        ax.set(xlabel=label, ylim=(-0.03, 1.03))
    for ax in axes[:, 0]:
        ax.set_ylabel("accuracy")
    axes[0, 3].set_title("$K$ = 1024", fontsize=8)
    axes[1, 0].set_title("$K$ = 16384", fontsize=8)
    _times(data, axes[1, 1])
    _own_loss(data, axes[1, 2])
    _race(data, axes[1, 3])
    handles, labels = axes[0, 0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=4)
    plots.letter_panels(axes.flat)
    return figure


def _times(data: xr.Dataset, ax: plots.Axes) -> None:
    """Predicted against measured transition times; the setting that was matched is hollow."""
    for world, _, _, measured, predicted in compared(data):
        face = "none" if short(world) == "matched" else plots.BLUE
        ax.loglog(measured, predicted, "o", ms=4, mfc=face, color=plots.BLUE)
    ends = np.array([10.0, 1000.0])
    ax.plot(ends, ends, color="grey", lw=0.8)
    ax.set(xlabel="measured transition time $t$", ylabel="predicted $t$", xlim=ends, ylim=ends)


def _accuracies(
    data: xr.Dataset, name: str, world: dict[str, Any], values: np.ndarray, rows: np.ndarray,
    ax: plots.Axes,
) -> None:  # fmt: skip
    others = [key for key in BASE if key != name]
    chosen = np.all([data[key].values == world[key] for key in others], axis=0)
    part = data.isel(run=np.nonzero(chosen)[0])
    for measure, column in (("icl", 0), ("iwl", 2)):
        colour, dashes, *_ = plots.ACCURACY_STYLES[measure]
        ax.plot(values, rows[:, column], color=colour, ls=dashes, label=f"{measure}, landscape")
        ax.plot(
            part[name].values,
            last(part[measure]),
            ".",
            color=colour,
            alpha=0.7,
            label=f"{measure}, network",
        )
    if name in ("n_classes", "burstiness"):
        ax.set_xscale("log", base=2)
        ticks = (64, 256, 1024, 4096, 16384) if name == "n_classes" else (1, 2, 4)
        ax.set_xticks(ticks, [f"{x // 1024}k" if x >= 1024 else f"{x}" for x in ticks])


def _own_loss(data: xr.Dataset, ax: plots.Axes) -> None:
    part = data.isel(run=_at(data, BASE))
    ax.plot(part.t.values.T, part.loss.values.T, color="black", lw=0.8, label="network")
    for kind, colour, dashes in (("with", plots.BLUE, "-"), ("without", plots.ORANGE, "--")):
        loss = data.own_loss.sel(crosstalk=kind).values[0]
        ax.plot(part.t.values[0], loss, color=colour, ls=dashes, label=f"{kind} crosstalk")
    # room for the legend above the curves
    ax.set(xlim=(0, 450), ylim=(-0.2, 5.4), xlabel=plots.TIME, ylabel="loss (nats)")
    handles, labels = ax.get_legend_handles_labels()
    kept = dict(zip(labels, handles, strict=True))
    ax.legend(kept.values(), kept.keys(), loc="upper right", fontsize=7, handlelength=1.2)


def _race(data: xr.Dataset, ax: plots.Axes) -> None:
    law = fitted_law()
    for count, colour in ((512, plots.ORANGE), (2048, plots.BLUE)):
        part = data.isel(run=_at(data, {**BASE, "n_classes": count}))
        ax.plot(part.xi.values.T, part.omega.values.T, color=colour, lw=0.7)
        flow = law.flow(landscape_of(Task(**{**BASE, "n_classes": count})), T_END)
        ax.plot(flow.theta[:, 2], flow.theta[:, 4], color=colour, lw=2.2, label=f"$K$ = {count}")
    ax.set(xlabel=r"$\xi$ (classifier)", ylabel=r"$\omega$ (memory)", ylim=(None, 20))
    ax.legend(loc="upper left", fontsize=7, handlelength=1.2)


def table(data: xr.Dataset) -> list[str]:
    """Predicted and measured answers and times as rows of a Markdown table."""
    rows = [
        "| setting | icl | predicted | icl_swapped | predicted | iwl | predicted | t | predicted |",
        "|--|--|--|--|--|--|--|--|--|",
    ]
    for world, measured, predicted, time, at in compared(data):
        cells = [f"{a:.2f} | {b:.2f}" for a, b in zip(measured, predicted, strict=True)]
        rows.append(f"| {short(world)} | {' | '.join(cells)} | {time:.0f} | {at:.0f} |")
    return rows
