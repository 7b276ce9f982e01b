"""Where random starts end: recompute derivations/data/valleys.json (minutes).

python derivations/valleys_data.py
"""

import json
from pathlib import Path

import numpy as np

from cliff import NestedLogit, integrate_ensemble
from cliff.valleys import UNDECIDED, VALLEY_NAMES, identify

DATA = Path(__file__).parent / "data" / "valleys.json"
N_PAIRS, STARTS, SEED = 8, 500, 0
CASES = [
    (positions, n_labels, deviation, 1e6)
    for positions in ("exact", "mean")
    for n_labels in (N_PAIRS, 4 * N_PAIRS)
    for deviation in (0.1, 1.0, 3.0, 10.0)
]
# close to L = N, where the sink attracts more
CASES += [("exact", 9, 3.0, 1e6), ("exact", 9, 10.0, 1e6), ("exact", 12, 10.0, 1e6)]
# what is still on its way to the sink, and on the mean field's plateau, much later
CASES += [("exact", 32, 10.0, 1e8)]
CASES += [("mean", n_labels, 10.0, t_end) for n_labels in (8, 32) for t_end in (1e9, 1e12)]


def starts(
    positions: str, n_labels: int, deviation: float, count: int = STARTS
) -> tuple[NestedLogit, np.ndarray]:
    """A landscape and normal starts, shape (count, 3), the same for every row."""
    start = np.random.default_rng(SEED).normal(0.0, deviation, (count, 3))
    return NestedLogit(N_PAIRS, n_labels, positions), start


def ends(positions: str, n_labels: int, deviation: float, t_end: float) -> dict:
    """Count the valleys in which the starts end; seeded, so that a row can be had alone."""
    model, start = starts(positions, n_labels, deviation)
    ensemble = integrate_ensemble(model, start, t_end)
    labels = identify(model, ensemble.theta, ensemble.loss)
    counts = {name: int((labels == i).sum()) for i, name in enumerate(VALLEY_NAMES)}
    left = np.sort(ensemble.loss[labels == UNDECIDED])
    return {
        "positions": positions,
        "n_labels": n_labels,
        "deviation": deviation,
        "t_end": t_end,
        "starts": STARTS,
        "done": int(ensemble.done.sum()),
        "counts": {name: n for name, n in counts.items() if n},
        "undecided": [round(float(loss), 3) for loss in left],
    }


def compute() -> list[dict]:
    """All rows of the data file."""
    return [ends(*case) for case in CASES]


if __name__ == "__main__":
    DATA.write_text(json.dumps(compute(), indent=1) + "\n", encoding="utf-8")
