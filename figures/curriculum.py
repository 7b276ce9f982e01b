"""Curricula: transition times along schedules, predicted by the flow and measured on networks."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import replace
from functools import cache
from typing import Any

import numpy as np
import xarray as xr
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, NullFormatter, ScalarFormatter

from cliff import Adaptive, Schedule, Task, design_curriculum, integrate_schedules, plots
from cliff.curriculum import falls
from cliff.design import COSTS, Design, Rates, cost_of
from cliff.mobility_law import MEASURED
from cliff.network.layers import Network
from cliff.network.measures import accuracy
from cliff.store import open_dataset, provenance
from cliff.task import EVALUATION, Batch, stream
from cliff.trajectory import transition_of
from figures import HERE, span
from figures.ensembles import Case, case, train_all

CAPTION = """
Curricula in the pairs of the context, on transformers. (a) Transition time on the target, predicted
by the flow along the schedule with the mobilities measured at (8, 32) on plain training, against
networks ({schedules} schedules, {runs} runs: seeds 0, 1 and 2, at N = 31 seed 0; lines: 15 %). The
median error over the schedules is {median:.1f} %, and {within} are within 15 %. (b) Predicted time
until (16, 64) is learned, over the number of pairs in the first stage and its end; circles:
networks. Plain training takes {plain:.0f}, the best single switch {one_switch:.0f}. (c) How many
times less the designed schedule costs than plain training at L = 4N, predicted (lines) and measured
(points: mean over seeds; plain times from the figure prediction). At (16, 64) the schedule "{best}"
is learned at t = {times}, where plain training takes {plain_times}: {gain_time:.1f} times fewer
steps, {gain_tokens:.0f} times fewer tokens and {gain_flops:.1f} times fewer floating-point
operations. At N = 31 the designed schedule is learned at t = {largest}. The rule that doubles the
pairs when half of the attention is on the right label needs no law: t = {adaptive} at (16, 64) and
{adaptive_small} at (8, 32). (d) What is lost at (8, 32): share of right answers {delay} steps after
90 %, on novel classes, on swapped labels and with noise {noise}, a point for each seed; the means
differ by at most {lost:.3f}. Schedules that must not help, seed 0, are not learned at (8, 32) while
the designed one is (t = {designed_small}): four labels with two pairs until t = 80 ({bad[0]}), four
labels with four pairs until t = 100 ({bad[1]}), sixteen pairs until t = 100 ({bad[2]}). Plain
training takes {plain_small}. Learning rate {lr}, K = 512, D = 63, noise 0.1, all novel. Command:
python -m figures curriculum --recompute.
"""

EVERY = 50
"""Steps between evaluations, 5 units of time."""
DELAY = 10 * EVERY
"""Steps after the first evaluation with 90 % right answers, at which what is lost is measured."""
NOISE = 0.5
"""Noise of the harder sequences on which what is lost is measured."""
SMALL, TARGET, LARGEST = (8, 32), (16, 64), (31, 124)
LOST = ("icl", "icl_swapped", "icl_noisy")
SIZES = (4, 8, 16, 31)
"""N for which schedules are designed, at L = 4N."""

Stages = Sequence[tuple[float, int] | tuple[float, int, int]]
"""When each stage ends, its pairs and, where they are not the target's, its labels."""

ADAPTIVE = "adaptive"
"""In place of stages: twice the pairs whenever half of the attention is on the right label."""
PLANNED: dict[tuple[int, int], list[Stages]] = {
    SMALL: [[(40, 2)], [(80, 2)], [(120, 2)], [(60, 4)], [(120, 4)], [(80, 2), (110, 4)]],
    TARGET: [
        [(30, 2)], [(60, 2)], [(90, 2)], [(120, 2)], [(160, 2)], [(200, 2)], [(170, 3)],
        [(100, 2), (140, 6)], [(120, 2), (160, 4), (200, 8)],
    ],
}  # fmt: skip
"""Schedules by hand, by target."""
SEEDS = 3
DESIGNED = {(4, 16): SEEDS, SMALL: SEEDS, TARGET: SEEDS, LARGEST: 1}
"""Targets whose designed schedules are trained, and the numbers of seeds."""
WITHOUT_LAW = {SMALL: SEEDS, TARGET: SEEDS}
"""The same for the adaptive rule."""
BAD: list[Stages] = [[(80, 2, 4)], [(100, 4, 4)], [(100, 16)]]
"""Schedules to (8, 32) that must not help networks: few labels, as many labels as pairs, a larger
context first."""


def name_of(stages: Stages | str) -> str:
    """A schedule in a few letters, such as "2 until 120, 4 until 160"."""
    if isinstance(stages, str):
        return stages
    words = []
    for until, pairs, *labels in stages:
        words.append(f"{pairs}{f' of {labels[0]} labels' if labels else ''} until {until:g}")
    return ", ".join(words) or "plain"


def schedule_of(stages: Stages, target: tuple[int, int]) -> Schedule:
    """The schedule that ends at the target (N, L)."""
    settings = [
        (until, {"n_pairs": pairs, "n_labels": more[0] if more else target[1]})
        for until, pairs, *more in stages
    ]
    return Schedule([*settings, (None, {"n_pairs": target[0], "n_labels": target[1]})])


@cache
def design(target: tuple[int, int]) -> Design:
    """The schedule that is predicted to be the fastest, and its costs."""
    return design_curriculum(target)


def designed(target: tuple[int, int]) -> Stages:
    """The stages of the design before the target."""
    stages = design(target).schedule.stages[:-1]
    return [(until, dict(setting)["n_pairs"]) for until, setting in stages]


@cache
def _noisy(task: Task) -> Batch:
    return replace(task, noise=NOISE).sample(stream(task.seed, EVALUATION), 512, "icl")


def noisy(net: Network, sets: object) -> dict[str, float]:
    """Probe: share of right answers on novel classes whose items are noisier."""
    batch = _noisy(net.task)
    return {"icl_noisy": accuracy(net.forward(batch), batch)}


def planned(
    target: tuple[int, int], stages: Stages | str, seed: int, n_steps: int = 40_000, **options: Any
) -> Case:
    """A run along a schedule, which ends ten evaluations after it answers 90 % rightly."""
    chosen = {"eval_every": EVERY, "stop_accuracy": 0.9, "stop_delay": DELAY, **options}
    if stages == ADAPTIVE:
        chosen["curriculum"] = Adaptive.doubling(Task(*target))
    elif stages:
        chosen["curriculum"] = schedule_of(stages, target)
    one = case(n_pairs=target[0], n_labels=target[1], seed=seed, n_steps=n_steps, options=chosen)
    labels = {"n_pairs": target[0], "n_labels": target[1], "schedule": name_of(stages)}
    return Case(replace(one.run, probes=(noisy,)), {**labels, "seed": seed})


def cases(fast: bool = False) -> dict[str, list[Case]]:
    """The runs of the figure, by what their schedule is."""
    if fast:
        return {
            "plain": [planned((3, 12), [], 0, n_steps=100)],
            "designed": [planned((3, 12), [(5, 2)], 0, n_steps=100)],
            "adaptive": [planned((3, 12), ADAPTIVE, 0, n_steps=100)],
        }
    return {
        "plain": [planned(target, [], seed) for target in (SMALL, TARGET) for seed in range(SEEDS)],
        "designed": [
            planned(target, designed(target), seed, stop_delay=1000 if target == TARGET else DELAY)
            for target, seeds in DESIGNED.items()
            for seed in range(seeds)
        ],
        "adaptive": [
            planned(target, ADAPTIVE, seed)
            for target, seeds in WITHOUT_LAW.items()
            for seed in range(seeds)
        ],
        "planned": [
            planned(target, stages, seed)
            for seed in range(SEEDS)
            for target, all_stages in PLANNED.items()
            for stages in all_stages
        ],
        "bad": [planned(SMALL, stages, 0, n_steps=2000) for stages in BAD],
    }


def settled(run: xr.Dataset, name: str) -> float:
    """A measure some steps after the first evaluation with 90 % right answers, or NaN."""
    right = run.accuracy.values >= 0.9
    at = run.step.values == run.step.values[np.argmax(right)] + DELAY
    return float(run[name].values[at][0]) if right.any() and at.any() else math.nan


def compute(fast: bool = False) -> xr.Dataset:
    by_kind = cases(fast)
    chosen = [one for group in by_kind.values() for one in group]
    kinds = [kind for kind, group in by_kind.items() for _ in group]
    runs = train_all("curriculum", chosen, fast, processes=1)
    sizes_of_runs = [(one.run.task.n_pairs, one.run.task.n_labels) for one in chosen]
    schedules = [
        one.run.options.get("curriculum", schedule_of([], size))
        for one, size in zip(chosen, sizes_of_runs, strict=True)
    ]
    measured = [
        transition_of(run.t, run.loss, one.run.task.n_pairs).t_transition
        for one, run in zip(chosen, runs, strict=True)
    ]
    predicted = [
        float(integrate_schedules([each], 1e4).t_transition[0])
        if isinstance(each, Schedule) else math.nan
        for each in schedules
    ]  # fmt: skip
    columns: dict[str, Any] = {
        "measured": ("run", measured, TIME),
        "predicted": ("run", predicted, TIME),
        "stages": ("run", [len(each.stages) for each in schedules]),
        "t_end": ("run", [float(run.t[-1]) for run in runs], TIME),
        **{name: ("run", [settled(run, name) for run in runs]) for name in LOST},
    }
    for name in COSTS:
        columns[f"measured_{name}"] = ("run", [
            cost_of(each, t, Rates(one.run.task))[name]
            if isinstance(each, Schedule) and math.isfinite(t) else math.nan
            for each, t, one in zip(schedules, measured, chosen, strict=True)
        ])  # fmt: skip
    sizes = SIZES[:1] if fast else SIZES
    designs = [design((n, 4 * n)) for n in sizes]
    columns["gain"] = (("size", "cost"), [[each.gain[name] for name in COSTS] for each in designs])
    columns["designed"] = ("size", [each.designed["time"] for each in designs], TIME)
    columns["plain"] = ("size", [each.plain["time"] for each in designs], TIME)
    until, first, times = time_map(fast)
    columns["over_switch"] = (("first", "until"), times, TIME)
    keys = ("n_pairs", "n_labels", "schedule", "seed")
    coords = {key: ("run", [one.labels[key] for one in chosen]) for key in keys}
    coords["kind"] = ("run", kinds)
    coords |= {"size": list(sizes), "cost": list(COSTS), "until": until, "first": first}
    settings = {"runs": len(chosen), "lr": 0.1, "law": MEASURED.constants(), "delay": DELAY}
    settings["best"] = name_of([] if fast else designed(TARGET))
    return xr.Dataset(columns, coords=coords, attrs=provenance(settings))


TIME = {"units": "gradient-flow time"}


def time_map(fast: bool) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Ends of the first stage, its pairs, and the predicted time until the target is learned."""
    until = np.linspace(2.5, 497.5, 12 if fast else 100)
    first = np.arange(2, TARGET[0] + 1)
    times, counts = np.meshgrid(until, first)
    ends = np.column_stack([times.ravel(), np.full(times.size, 3000.0)])
    pairs = np.column_stack([counts.ravel(), np.full(times.size, TARGET[0])])
    found = falls(ends, pairs, np.full_like(pairs, TARGET[1]), MEASURED)
    return until, first, found.t_transition.reshape(times.shape)


def groups(data: xr.Dataset, *kinds: str) -> dict[tuple[int, int, str], np.ndarray]:
    """The runs of each schedule of some kinds, by target and name."""
    found: dict[tuple[int, int, str], list[int]] = {}
    columns = (data[name].values.tolist() for name in ("n_pairs", "n_labels", "schedule", "kind"))
    for row, (n, count, name, kind) in enumerate(zip(*columns, strict=True)):
        if kind in kinds:
            found.setdefault((n, count, name), []).append(row)
    return {key: np.array(rows) for key, rows in found.items()}


def of_target(data: xr.Dataset, kind: str, target: tuple[int, int]) -> xr.Dataset:
    """The runs of a kind to a target."""
    chosen = (data.kind == kind) & (data.n_pairs == target[0]) & (data.n_labels == target[1])
    return data.isel(run=np.flatnonzero(chosen.values))


def plain_times(target: tuple[int, int]) -> np.ndarray:
    """Measured transition times of plain training, from the figure prediction."""
    data = open_dataset(HERE / "data/prediction.nc", "figure")
    chosen = (data.n_pairs.values == target[0]) & (data.n_labels.values == target[1])
    return data.measured.values[chosen]


def measured_gains(data: xr.Dataset, target: tuple[int, int]) -> dict[str, float]:
    """Mean cost of plain training over that of the designed schedule, by networks."""
    rates, runs = Rates(Task(*target)), of_target(data, "designed", target)
    plain = [cost_of(schedule_of([], target), t, rates) for t in plain_times(target)]
    return {
        name: float(np.mean([each[name] for each in plain]) / runs[f"measured_{name}"].mean())
        for name in COSTS
    }


def compared(data: xr.Dataset) -> tuple[np.ndarray, np.ndarray, list[tuple[int, int, str]]]:
    """Mean measured and predicted times of the schedules with switches, and their keys."""
    chosen = groups(data, "planned", "designed")
    measured = np.array([data.measured.values[rows].mean() for rows in chosen.values()])
    predicted = np.array([data.predicted.values[rows[0]] for rows in chosen.values()])
    return measured, predicted, list(chosen)


def numbers(data: xr.Dataset) -> dict[str, Any]:
    settings = json.loads(data.attrs["parameters"])
    measured, predicted, _ = compared(data)
    errors = 100 * np.abs(predicted / measured - 1)
    lost = [
        np.array([of_target(data, kind, SMALL)[name].mean() for name in LOST])
        for kind in ("plain", "designed")
    ]
    bad = data.isel(run=np.flatnonzero(data.kind.values == "bad"))
    gains = measured_gains(data, TARGET)
    return {
        "schedules": len(measured),
        "runs": sum(len(rows) for rows in groups(data, "planned", "designed").values()),
        "median": float(np.median(errors)),
        "within": int((errors <= 15).sum()),
        "plain": float(data.plain.sel(size=TARGET[0])),
        "one_switch": float(np.nanmin(data.over_switch.values)),
        "best": settings["best"],
        "times": span(of_target(data, "designed", TARGET).measured.values),
        "plain_times": span(plain_times(TARGET)),
        **{f"gain_{name}": value for name, value in gains.items()},
        "largest": span(of_target(data, "designed", LARGEST).measured.values),
        "adaptive": span(of_target(data, "adaptive", TARGET).measured.values),
        "adaptive_small": span(of_target(data, "adaptive", SMALL).measured.values),
        "delay": settings["delay"],
        "noise": NOISE,
        "lost": float(np.abs(lost[0] - lost[1]).max()),
        "bad": [
            f"{t:.0f}" if math.isfinite(t) else f"not by {end:.0f}"
            for t, end in zip(bad.measured.values, bad.t_end.values, strict=True)
        ],
        "designed_small": span(of_target(data, "designed", SMALL).measured.values),
        "plain_small": span(of_target(data, "plain", SMALL).measured.values),
        "lr": settings["lr"],
    }


def draw(data: xr.Dataset) -> Figure:
    figure, axes = plots.new_figure(plots.WIDTH, 6.4, 2, 2)
    _predicted(data, axes[0, 0])
    mesh = _map(data, axes[0, 1])
    bar = figure.colorbar(mesh, ax=axes[0, 1], label="time until learned")
    bar.set_ticks([150, 300, 600, 1200], labels=["150", "300", "600", "1200"])
    bar.ax.yaxis.set_minor_formatter(NullFormatter())
    _gains(data, axes[1, 0])
    _lost(data, axes[1, 1])
    plots.letter_panels(axes.flat)
    return figure


def _predicted(data: xr.Dataset, ax: plots.Axes) -> None:
    """Predicted against measured time, a point for each schedule."""
    measured, predicted, keys = compared(data)
    ends = np.array([0.8 * np.nanmin(predicted), 1.25 * np.nanmax(predicted)])
    ax.loglog(ends, ends, color="black", lw=1)
    for factor in (0.85, 1.15):
        ax.loglog(ends, factor * ends, color=plots.GREY, lw=0.8, ls=":")
    styles = ((plots.GREEN, "s"), (plots.BLUE, "o"), (plots.RED, "^"), (plots.PURPLE, "D"))
    targets = list(dict.fromkeys(key[:2] for key in keys))
    for target, (colour, marker) in zip(sorted(targets), styles, strict=False):
        chosen = [key[:2] == target for key in keys]
        ax.plot(
            measured[chosen], predicted[chosen], marker, color=colour, ms=5, mew=0, alpha=0.8,
            label=f"$N$ = {target[0]}, $L$ = {target[1]}",
        )  # fmt: skip
    ax.set(xlabel="measured time until learned", ylabel="predicted time until learned")
    for axis in (ax.xaxis, ax.yaxis):
        axis.set_major_locator(FixedLocator([100, 200, 400, 800]))
        axis.set_major_formatter(ScalarFormatter())
        axis.set_minor_formatter(NullFormatter())
    ax.legend(loc="upper left")


def _map(data: xr.Dataset, ax: plots.Axes) -> Any:
    """Predicted time over the first stage, and networks on it in the same colours."""
    norm = LogNorm(140, 1200)
    mesh = ax.pcolormesh(
        data.until, data["first"], data.over_switch, cmap="cividis_r", norm=norm, shading="nearest",
        rasterized=True,
    )  # fmt: skip
    for stages in PLANNED[TARGET]:
        rows = groups(data, "planned").get((*TARGET, name_of(stages)))
        if len(stages) == 1 and rows is not None:
            until, first = stages[0][:2]
            ax.scatter(
                [until], [first], c=[data.measured.values[rows].mean()],
                cmap="cividis_r", norm=norm, edgecolors="white", s=42, lw=1.2,
            )  # fmt: skip
    ax.set(xlabel="end of the first stage, $t$", ylabel="pairs in the first stage")
    ax.set_title("then $N$ = 16, $L$ = 64", fontsize=8)
    return mesh


def _gains(data: xr.Dataset, ax: plots.Axes) -> None:
    """Plain over designed cost against N."""
    words = {"time": "steps", "tokens": "tokens", "flops": "operations"}
    colours = dict(zip(COSTS, (plots.BLUE, plots.ORANGE, plots.RED), strict=True))
    for name in COSTS:
        ax.loglog(
            data["size"], data.gain.sel(cost=name), color=colours[name],
            label=f"{words[name]}, predicted",
        )  # fmt: skip
    for target in DESIGNED:
        if len(plain_times(target)) and of_target(data, "designed", target).sizes["run"]:
            gains = measured_gains(data, target)
            for name in COSTS:
                label = "networks" if (target, name) == (TARGET, "time") else None
                ax.plot(
                    [target[0]], gains[name], "o", color=colours[name], mec="black", label=label
                )
    ax.set(xlabel="pairs of the target, $N$ ($L$ = 4$N$)", ylabel="plain / curriculum")
    ax.set_xticks([4, 8, 16, 31], ["4", "8", "16", "31"])
    ax.xaxis.set_minor_formatter(NullFormatter())
    ax.set_yticks([2, 5, 10, 20, 50, 100], ["2", "5", "10", "20", "50", "100"])
    ax.yaxis.set_minor_formatter(NullFormatter())
    ax.legend(loc="upper left")


def _lost(data: xr.Dataset, ax: plots.Axes) -> None:
    """Accuracies of plain training and of the designed schedule, a point for each seed."""
    words = {"icl": "novel", "icl_swapped": "swapped", "icl_noisy": f"noise {NOISE}"}
    styles = (
        ("plain", "plain", "black", "o", -0.12),
        ("designed", "curriculum", plots.RED, "^", 0.12),
    )
    for kind, label, colour, marker, shift in styles:
        runs = of_target(data, kind, SMALL)
        for place, name in enumerate(LOST):
            values = runs[name].values
            ax.plot(
                place + shift + np.zeros(len(values)), values, marker, color=colour, mfc="none",
                label=None if place else label,
            )  # fmt: skip
    ax.set_xticks(range(len(LOST)), [words[name] for name in LOST])
    ax.set(xlim=(-0.5, len(LOST) - 0.5), ylim=(0.85, 1.005))
    ax.set(xlabel="sequences", ylabel="share of right answers")
    ax.set_title(f"$N$ = {SMALL[0]}, $L$ = {SMALL[1]}", fontsize=8)
    ax.legend(loc="lower left")
