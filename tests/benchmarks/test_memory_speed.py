"""What memory costs the compiled landscape: run on a quiet machine."""

import time

import numpy as np

from cliff import Data, NestedLogit, integrate_ensemble


def test_one_memory_logit_takes_at_most_half_as_long_again():
    """Time for each attempted step of an ensemble with its memory logit, against one without."""
    plain, model = NestedLogit(8, 32), NestedLogit(8, 32, memory=Data())
    starts = np.random.default_rng(0).normal(0.0, 0.5, size=(4000, 4))
    best = {plain: np.inf, model: np.inf}
    for _ in range(20):
        for each in best:
            began = time.perf_counter()
            ends = integrate_ensemble(each, starts[:, : each.n_parameters], 20.0, workers=1)
            seconds = time.perf_counter() - began
            steps = int((ends.n_steps + ends.n_rejected).sum())
            best[each] = min(best[each], seconds / steps)
    ratio = best[model] / best[plain]
    print(f"\na step with one memory logit takes {ratio:.2f} times as long")
    assert ratio < 1.5
