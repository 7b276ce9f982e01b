"""What memory costs the compiled landscape: run on a quiet machine."""

import time

import numpy as np

from cliff import Data, NestedLogit, integrate_ensemble


def test_one_memory_logit_takes_at_most_half_as_long_again():
    """The same number of steps of an ensemble with a memory logit and of one without."""
    models = NestedLogit(8, 32), NestedLogit(8, 32, memory=Data())
    starts = np.random.default_rng(0).normal(0.0, 0.5, size=(500, 4))
    best = [np.inf, np.inf]
    for _ in range(40):
        for i, model in enumerate(models):
            began = time.perf_counter()
            start = starts[:, : model.n_parameters]
            integrate_ensemble(model, start, 20.0, method="rk4", step=0.2, workers=1)
            best[i] = min(best[i], time.perf_counter() - began)
    print(f"\nan ensemble with one memory logit takes {best[1] / best[0]:.2f} times as long")
    assert best[1] / best[0] < 1.5
