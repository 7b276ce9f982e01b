"""Where random starts end: recompute derivations/data/valleys.json (minutes).

python derivations/valleys_data.py
"""

import json
from pathlib import Path

import numpy as np

from cliff import NestedLogit, integrate_ensemble
from cliff.valleys import UNDECIDED, identify, valleys

DATA = Path(__file__).parent / "data" / "valleys.json"
N_PAIRS, T_END, STARTS = 8, 1e6, 500
CASES = [
    (positions, n_labels, deviation)
    for positions in ("exact", "mean")
    for n_labels in (N_PAIRS, 4 * N_PAIRS)
    for deviation in (0.1, 1.0, 3.0, 10.0)
]


def ends(positions: str, n_labels: int, deviation: float, starts: int = STARTS) -> dict:
    """Count the valleys in which normal starts end; seeded, so that a row can be had alone."""
    model = NestedLogit(N_PAIRS, n_labels, positions)
    start = np.random.default_rng(0).normal(0.0, deviation, (starts, 3))
    ensemble = integrate_ensemble(model, start, T_END)
    labels = identify(model, ensemble.theta, ensemble.loss)
    names = [valley.name for valley in valleys(model)]
    counts = {name: int((labels == i).sum()) for i, name in enumerate(names)}
    left = ensemble.loss[labels == UNDECIDED]
    return {
        "positions": positions,
        "n_labels": n_labels,
        "deviation": deviation,
        "starts": starts,
        "done": int(ensemble.done.sum()),
        "counts": {name: n for name, n in counts.items() if n},
        "undecided": [round(float(loss), 3) for loss in np.sort(left)],
        "undecided_theta": ensemble.theta[labels == UNDECIDED].round(2).tolist(),
    }


if __name__ == "__main__":
    DATA.write_text(json.dumps([ends(*case) for case in CASES], indent=1) + "\n")
