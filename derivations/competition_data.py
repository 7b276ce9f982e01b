"""Races of context and weights, on the flow and in networks: recompute data/competition.json.

python derivations/competition_data.py

It trains a network with each of `SETTINGS` (a few minutes a run; finished ones stay in
figures/runs), and one whose match is cut. The races on the flow are fast: the page runs them.
"""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from typing import Any

import numpy as np
import xarray as xr
from page import HERE, SIZE
from scipy.integrate import quad
from scipy.optimize import brentq

sys.path.append(str(HERE.parent))  # figures/ is no part of the package

from cliff import Data, NestedLogit, Task, Transformer, train
from cliff.memory_law import MemoryLaw, mobility
from figures.competition import BASE, N_STEPS
from figures.ensembles import case, train_all

DATA = HERE / "data" / "competition.json"
MAPS = HERE.parent / "figures" / "data" / "maps.nc"
DIM = 63
SETTINGS = [
    *({"n_pairs": 4, "n_labels": 32, "n_classes": k} for k in (64, 128, 256, 512)),
    *({"n_pairs": 8, "n_labels": 16, "n_classes": k} for k in (256, 512)),
]
SIZES = ((4, 16), (8, 32), (16, 64), (32, 128))
LABELS = ((8, 16), (8, 32), (8, 64), (8, 128))
RACES: list[tuple[tuple[int, int], dict[str, Any]]] = [
    *((size, {}) for size in dict.fromkeys((*SIZES, *LABELS))),
    *((SIZE, {"burstiness": copies}) for copies in (2, 4)),
    *((SIZE, {"noise": noise}) for noise in (0.0, 0.3, 1.0)),
]
MEASURED = (((8, 32), 1), ((8, 32), 2), ((8, 32), 4), ((4, 32), 1), ((8, 16), 1))
"""N and L, and B, of the ties that networks have shown."""

CLAMPED_STEPS, EVERY = 3000, 1000

MANY = 2**20
"""Classes enough that the weights take no part."""

LENGTH = 2.0
"""Length of a race in units of the time that context alone takes; 800 in the networks' setting."""


def landscape(
    n_pairs: int, n_labels: int, n_classes: int, dim: int | None = DIM, burstiness: int = 1,
    noise: float = 0.1,
) -> NestedLogit:  # fmt: skip
    """The landscape of bursty sequences of known classes, all equally frequent."""
    data = Data(n_classes, burstiness=burstiness, noise=noise, dim=dim)
    return NestedLogit(n_pairs, n_labels, label_bias="free", memory=data)


def lead(law: MemoryLaw, t_end: float, model: NestedLogit) -> float:
    """icl − iwl where the flow from the origin is at time `t_end`."""
    answers = model.measures(law.flow(model, t_end, max_steps=10**6).theta[-1])
    return float(answers["icl"] - answers["iwl"])


def head_time(law: MemoryLaw, n_pairs: int, n_labels: int, **data: Any) -> float:
    """Transition time of the context alone."""
    model = landscape(n_pairs, n_labels, MANY, **data)
    return law.flow(model, 1e6, max_steps=10**6).transition().t_transition


def tie(law: MemoryLaw, t_end: float, n_pairs: int, n_labels: int, **data: Any) -> int:
    """K*: the least K, to a thousandth, at which context leads at time `t_end`."""
    low, high = n_labels, MANY
    while high - low > max(1, low // 1000):
        middle = round((low * high) ** 0.5) if high > 2 * low else (low + high) // 2
        if lead(law, t_end, landscape(n_pairs, n_labels, middle, **data)) > 0.0:
            high = middle
        else:
            low = middle
    return high


def alone(law: MemoryLaw) -> MemoryLaw:
    """The law under which the memories move, and nothing else."""
    return replace(law, beta1=0.0, alpha=0.0, beta2=0.0, xi_start=0.0, xi_growth=0.0)


def enough(n_labels: int) -> float:
    """The effective memory with which the weights alone halve the loss of a guess."""
    return float(np.log1p(np.sqrt(n_labels)))


def memory_time(law: MemoryLaw, model: NestedLogit) -> float:
    """The time at which memory alone halves the loss of a guess, by quadrature; may be infinite."""
    (v,) = model.memory.crosstalk(model.n_labels)
    need, arguments = enough(model.n_labels), alone(law).arguments(model)
    if v * need >= 2.0:
        return np.inf

    def pace(effective: float) -> float:
        slope = (1.0 - v * effective / 2.0) ** 2
        omega = effective / (1.0 - v * effective / 2.0)
        theta = np.array([0.0, 0.0, 0.0, 0.0, omega])
        force = (model.n_labels - 1) / (model.n_labels - 1 + np.exp(effective)) * slope
        return 1.0 / (force * slope * mobility(theta, *arguments)[4])

    return quad(pace, 0.0, need, limit=500)[0]


def tie_of_times(law: MemoryLaw, t: float, n_pairs: int, n_labels: int, **data: Any) -> float:
    """The K at which memory alone takes the time t; K is continued between whole numbers."""
    one = landscape(n_pairs, n_labels, MANY, **data)

    def late(log_k: float) -> float:
        # whole numbers are dense enough for the digits that are shown
        time = memory_time(law, one.with_constants(n_classes=round(np.exp(log_k))))
        return min(time, 1e12) - t

    return float(np.exp(brentq(late, np.log(n_labels), np.log(MANY), xtol=1e-4)))


def cap(n_labels: int, noise: float = 0.1, **_: Any) -> float:
    """K_cap of the landscape."""
    return 2 * n_labels * DIM / (1 + noise**2) / enough(n_labels)


def race(law: MemoryLaw, size: tuple[int, int], data: dict[str, Any]) -> dict[str, float]:
    """The time of the context alone, and the ties that follow from it."""
    t = head_time(law, *size, **data)
    return {
        "t": t,
        "tie": tie(law, LENGTH * t, *size, **data),
        "rate": tie(law, LENGTH * t, *size, dim=None, **data),
        "cap": cap(size[1], **data),
        "times": tie_of_times(law, t, *size, **data),
    }


def crossing(classes: np.ndarray, leads: np.ndarray) -> float:
    """Where icl − iwl changes sign in log K; NaN if it does not."""
    if not leads[0] < 0.0 < leads[-1]:
        return float("nan")
    after = int(np.argmax(leads > 0.0))
    near = slice(after - 1, after + 1)
    return float(np.exp(np.interp(0.0, leads[near], np.log(classes[near]))))


def rising(clamp: str | None) -> list[dict[str, float]]:
    """beta1 and alpha of a transformer, with its second layer's attention clamped or not."""
    task = Task(n_pairs=8, n_labels=32)
    net = Transformer(task, seed=0)
    net.set_clamp(2, clamp)
    run = train(net, task, n_steps=CLAMPED_STEPS, lr=0.1, seed=0, eval_every=EVERY)
    return [{name: row[name].item() for name in ("t", "beta1", "alpha")} for row in rows_of(run)]


def rows_of(run: xr.Dataset) -> list[xr.Dataset]:
    return [run.isel(step=i) for i in range(run.sizes["step"])]


def compute() -> dict[str, Any]:
    """All numbers of the data file."""
    options = {"eval_every": N_STEPS // 80}
    cases = [case(seed=0, n_steps=N_STEPS, options=options, **{**BASE, **s}) for s in SETTINGS]
    networks = [
        {**setting, "seed": 0, **{name: run[name][-1].item() for name in ("icl", "iwl")}}
        for setting, run in zip(SETTINGS, train_all("competition", cases), strict=True)
    ]
    return {"networks": networks, "free": rising(None), "uniform": rising("uniform")}


if __name__ == "__main__":
    DATA.write_text(json.dumps(compute(), indent=1) + "\n", encoding="utf-8")
