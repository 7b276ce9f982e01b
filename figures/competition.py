"""Context against weights: the race of the landscape with memory, and of the network."""

from __future__ import annotations

from typing import Any

from figures.ensembles import Case, case

BASE: dict[str, Any] = {
    "n_pairs": 8,
    "n_labels": 32,
    "n_classes": 1024,
    "burstiness": 1,
    "noise": 0.1,
    "zipf_exponent": 0.0,
    "p_bursty": 1.0,
    "p_novel": 0.0,
}
SEEDS = 3
N_STEPS = 8000
EVERY = 100


def worlds() -> list[dict[str, Any]]:
    """What is varied, the most informative worlds first."""
    found = [{}, *({"n_classes": k} for k in (64, 256, 512, 2048, 4096, 16384))]
    found += [{"burstiness": b} for b in (2, 4)]
    found += [{"noise": noise} for noise in (0.0, 0.3, 1.0)]
    found += [{"zipf_exponent": a} for a in (0.5, 1.0, 1.5)]
    found += [{"zipf_exponent": a, "n_classes": 16384} for a in (0.5, 1.0, 1.5)]
    return [{**BASE, **world} for world in found]


def extra_worlds() -> list[dict[str, Any]]:
    """Points of the maps and of the law of K*, one seed each."""
    found = [{"burstiness": b, "n_classes": k} for b in (2, 4) for k in (128, 256, 512)]
    found += [
        {"p_bursty": p, "p_novel": q}
        for p, q in ((0.5, 0.0), (0.8, 0.0), (0.5, 0.1), (1.0, 0.02), (1.0, 0.1), (0.2, 0.1))
    ]
    found += [{"n_pairs": 4, "n_classes": k} for k in (64, 128, 256, 512)]
    found += [{"n_labels": 16, "n_classes": k} for k in (256, 512, 1024, 2048)]
    found += [{"n_labels": 64, "n_classes": k} for k in (256, 512, 1024, 2048)]
    return [{**BASE, **world} for world in found]


def cases(fast: bool = False) -> list[Case]:
    """Every world for every seed."""
    steps = 20 if fast else N_STEPS
    options = {"eval_every": max(steps // 80, 1)}
    return [
        case(seed=seed, n_steps=steps, options=options, **world)
        for seed in range(1 if fast else SEEDS)
        for world in worlds()[:: 9 if fast else 1]
    ]


def extra_cases() -> list[Case]:
    options = {"eval_every": 100}
    return [
        case(seed=seed, n_steps=8000, options=options, **world)
        for seed in range(2)
        for world in extra_worlds()
    ]
