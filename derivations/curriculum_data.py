"""Times along curricula, in ascending N: plain, with one switch, and doubling.

python derivations/curriculum_data.py
"""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
from page import HERE

from cliff import NestedLogit, Schedule, integrate, integrate_schedules
from cliff.curriculum import falls
from cliff.mobility_law import MEASURED, MobilityLaw, mobility

DATA = HERE / "data" / "curriculum.json"
UNIT = MobilityLaw(1.0, 1.0, 0.0, 1e12, 0.0, 1.0, network="minimal")
"""The landscape of three logits with unit mobilities: the label bias does not move."""
PAIRS = (8, 16, 32, 64, 128, 256)
THRESHOLDS = (0.3, 0.4, 0.5, 0.6, 0.7, 0.8)
TARGETS = ((8, 32), (16, 64), (32, 128))
N_LAWS = 30
SPREAD = np.log(3.0)
"""The constants of other laws are off by up to this factor, either way."""


def until_threshold(
    counts: list[int], n_labels: int, threshold: float, law: MobilityLaw, t_end: float
) -> list[float] | None:
    """When the attention to the right label reaches the threshold on each context but the last."""
    theta, begin, ends = np.zeros(4), 0.0, []
    for n in counts[:-1]:
        model = NestedLogit(n, n_labels, label_bias="free")
        path = integrate(
            model, theta, t_end, mobility=mobility, mobility_args=law.arguments(n, n_labels)
        ).path
        t = np.union1d(np.linspace(0.0, t_end, 4000), np.linspace(0.0, 0.05 * t_end, 4000))
        attention = model.measures(path(t))["tila2"]
        if not (attention >= threshold).any():
            return None
        first = float(t[np.argmax(attention >= threshold)])
        theta = path(np.array([first]))[0]
        begin += max(first, 1e-9 * t_end)
        ends.append(begin)
    return ends


def doubling(target: tuple[int, int], threshold: float, law: MobilityLaw, t_end: float) -> float:
    """Time until the target is learned where the pairs double at the threshold."""
    counts = [2]
    while counts[-1] < target[0]:
        counts.append(min(2 * counts[-1], target[0]))
    ends = until_threshold(counts, target[1], threshold, law, t_end)
    if ends is None:
        return float("nan")
    stages = [(end, {"n_pairs": n}) for end, n in zip(ends, counts, strict=False)]
    last = {"n_pairs": target[0], "n_labels": target[1]}
    schedule = Schedule([*stages, (None, last)])
    return float(integrate_schedules([schedule], t_end, law).t_transition[0])


def plain(target: tuple[int, int], law: MobilityLaw, t_end: float) -> float:
    last = {"n_pairs": target[0], "n_labels": target[1]}
    return float(integrate_schedules([Schedule([(None, last)])], t_end, law).t_transition[0])


def one_switch(target: tuple[int, int], law: MobilityLaw, whole: float) -> tuple[float, float, int]:
    """The least time with one switch, when it is, and from how many pairs."""
    firsts = np.unique(np.geomspace(2, target[0] - 1, 12).astype(int))
    times = whole * np.geomspace(2e-3, 1.0, 150)
    until, first = (grid.ravel() for grid in np.meshgrid(times, firsts))
    ends = np.column_stack([until, np.full(len(until), 2.0 * whole)])
    pairs = np.column_stack([first, np.full(len(first), target[0])])
    t = falls(ends, pairs, np.full_like(pairs, target[1]), law).t_transition
    best = int(np.nanargmin(t))
    return float(t[best]), float(until[best]), int(first[best])


def compute() -> dict:
    """All numbers of the data file."""
    growth = []
    for n in PAIRS:
        target = n, 4 * n
        whole = plain(target, UNIT, 100.0 * n**1.5)
        t, until, first = one_switch(target, UNIT, whole)
        row = {"n_pairs": n, "plain": whole, "one_switch": t, "until": until, "first": first}
        growth.append(row | {"doubling": doubling(target, 0.5, UNIT, whole)})
    thresholds = [
        {
            "target": list(target),
            "plain": (whole := plain(target, MEASURED, 1e5)),
            "times": [doubling(target, threshold, MEASURED, whole) for threshold in THRESHOLDS],
        }
        for target in TARGETS
    ]
    rng = np.random.default_rng(0)
    others = []
    for _ in range(N_LAWS):
        factors = np.exp(rng.uniform(-SPREAD, SPREAD, 6))
        constants = MEASURED.constants()
        values = {k: float(v * f) for (k, v), f in zip(constants.items(), factors, strict=True)}
        law = replace(MEASURED, **values)
        whole = plain((16, 64), law, 1e5)
        others.append(
            {
                "constants": values,
                "plain": whole,
                "times": [doubling((16, 64), threshold, law, whole) for threshold in THRESHOLDS],
            }
        )
    return {"growth": growth, "thresholds": thresholds, "others": others}


if __name__ == "__main__":
    DATA.write_text(json.dumps(compute(), indent=1) + "\n", encoding="utf-8")
