"""Curricula: transition times along schedules, predicted by the flow and measured on networks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import cache
from typing import Any

from cliff import Adaptive, Schedule, Task
from cliff.design import design_curriculum
from cliff.network.layers import Network
from cliff.network.measures import accuracy
from cliff.task import EVALUATION, Batch, stream
from figures.ensembles import Case, case

SEEDS = 3
EVERY = 50
"""Steps between evaluations, 5 units of time."""
DELAY = 10 * EVERY
"""Steps after the first evaluation with 90 % right answers, at which what is lost is measured."""
NOISE = 0.5
"""Noise of the harder sequences on which what is lost is measured."""

Stages = Sequence[tuple[float, int]] | Sequence[tuple[float, int, int]]
"""When each stage ends, its pairs and, where they are not the target's, its labels."""

PLANNED: dict[tuple[int, int], list[Stages]] = {
    (8, 32): [
        [(40, 2)], [(80, 2)], [(120, 2)], [(60, 4)], [(120, 4)], [(80, 2), (110, 4)],
    ],
    (16, 64): [
        [(30, 2)], [(60, 2)], [(90, 2)], [(120, 2)], [(160, 2)], [(200, 2)],
        [(170, 3)], [(220, 4)], [(280, 4)], [(350, 6)],
        [(100, 2), (140, 6)], [(120, 2), (160, 4), (200, 8)],
    ],
}  # fmt: skip
"""Schedules that were laid down before any was trained, by target."""

BAD: list[Stages] = [[(80, 2, 4)], [(100, 4, 4)], [(100, 16)]]
"""Schedules to (8, 32) that must not help networks: few labels, as many labels as pairs, a larger
context first."""

LONG = ([(30, 2)], [(60, 2)])
"""Schedules that are trained with one seed, for the time that they take."""


def name_of(stages: Stages | str) -> str:
    """A schedule in a few letters, such as "2 until 120, 4 until 160"."""
    if isinstance(stages, str):
        return stages
    words = []
    for until, pairs, *labels in stages:
        words.append(f"{pairs}{f'/{labels[0]}' if labels else ''} until {until:g}")
    return ", ".join(words) or "plain"


ADAPTIVE = "adaptive"
"""In place of stages: twice the pairs whenever half of the attention is on the right label."""


def schedule_of(stages: Stages, target: tuple[int, int]) -> Schedule:
    """The schedule that ends at the target (N, L)."""
    settings = [
        (until, {"n_pairs": pairs, "n_labels": more[0] if more else target[1]})
        for until, pairs, *more in stages
    ]
    return Schedule([*settings, (None, {"n_pairs": target[0], "n_labels": target[1]})])


@cache
def designed(target: tuple[int, int]) -> Stages:
    """The schedule that is predicted to be the fastest."""
    stages = design_curriculum(target).schedule.stages[:-1]
    return [(until, dict(setting)["n_pairs"]) for until, setting in stages]


@cache
def _noisy(task: Task) -> Batch:
    return replace(task, noise=NOISE).sample(stream(task.seed, EVALUATION), 512, "icl")


def noisy(net: Network, sets: object) -> dict[str, float]:
    """Probe: share of right answers on novel classes whose items are noisier."""
    batch = _noisy(net.task)
    return {"icl_noisy": accuracy(net.forward(batch), batch)}


def planned(target: tuple[int, int], stages: Stages | str, seed: int, **options: Any) -> Case:
    """A run along a schedule, which ends ten evaluations after it answers 90 % rightly."""
    until = {"eval_every": EVERY, "stop_accuracy": 0.9, "stop_delay": DELAY, **options}
    until = {key: value for key, value in until.items() if value is not None}
    n_steps = until.pop("n_steps", 40_000)
    if stages == ADAPTIVE:
        until["curriculum"] = Adaptive.doubling(Task(*target))
    elif stages:
        until["curriculum"] = schedule_of(stages, target)
    one = case(n_pairs=target[0], n_labels=target[1], seed=seed, n_steps=n_steps, options=until)
    run = replace(one.run, probes=(noisy,))
    labels = {
        "n_pairs": target[0],
        "n_labels": target[1],
        "schedule": name_of(stages),
    }
    return Case(run, {**labels, "seed": seed})
