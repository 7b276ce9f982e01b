"""Measured transitions: recompute derivations/data/transition.json (a minute or two).

python derivations/transition_data.py
"""

import json
from pathlib import Path

import numpy as np

from cliff import NestedLogit, integrate

DATA = Path(__file__).parent / "data" / "transition.json"
PAIRS = (4, 8, 16, 32, 64, 128, 256)
RATIOS = (1.25, 2, 4, 8, 32)
CLASSIFIERS = (100.0, 1e4, "N^2")  # mobilities of xi, besides 1
CASES = [
    (positions, n, int(ratio * n), 1.0)
    for positions in ("exact", "mean")
    for n in PAIRS
    for ratio in RATIOS
]
CASES += [
    (positions, n, 4 * n, float(n * n) if fast == "N^2" else fast)
    for positions in ("exact", "mean")
    for n in (*PAIRS, 512, 1024)
    for fast in CLASSIFIERS
]
CASES += [(positions, n, 4 * n, 1.0) for positions in ("exact", "mean") for n in (512, 1024)]


def fall(positions: str, n_pairs: int, n_labels: int, mobility_xi: float) -> dict:
    """Transition from the origin, and theta at the transition."""
    model = NestedLogit(n_pairs, n_labels, positions)
    path = integrate(
        model, np.zeros(3), 100.0 * n_pairs**1.5, (1.0, 1.0, mobility_xi), rtol=1e-8, atol=1e-10
    )
    transition = path.transition()
    late = path.theta[:, 0] >= 1.0  # where beta1 has begun to feed on itself
    return {
        "positions": positions,
        "n_pairs": n_pairs,
        "n_labels": n_labels,
        "mobility_xi": mobility_xi,
        "t_transition": float(transition.t_transition),
        "width": float(transition.width),
        "t_beta1_is_1": float(np.interp(1.0, path.theta[:, 0], path.t)),
        "theta": path.path(np.array([transition.t_transition]))[0].tolist(),
        "reached": bool(late.any()),
    }


def compute() -> list[dict]:
    """All rows of the data file."""
    return [fall(*case) for case in CASES]


if __name__ == "__main__":
    DATA.write_text(json.dumps(compute(), indent=1) + "\n", encoding="utf-8")
