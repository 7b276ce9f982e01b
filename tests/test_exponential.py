"""The networks' exponential against NumPy's in float64, alone and where sums may be reordered."""

import numpy as np
import pytest

from cliff.kernels import compiled, entry
from cliff.kernels.exponential import LOWEST, exp


# one function for each rule, since numba's cache on disk does not tell rules apart
@compiled
def reordered(x):
    out = np.empty_like(x)
    for i in range(x.size):
        out[i] = exp(x[i])
    return out


@entry
def as_written(x):
    out = np.empty_like(x)
    for i in range(x.size):
        out[i] = exp(x[i])
    return out


# "reordered" first: what is compiled first would hand its rule for sums down to both
@pytest.fixture(params=[reordered, as_written], ids=["reordered", "as written"])
def each(request):
    return request.param


@pytest.mark.parametrize("scale", [-LOWEST, 1.0, 1e-3, 1e-30])
def test_float32_is_good_to_one_unit(each, scale):
    x = -np.random.default_rng(0).uniform(0, scale, 20_000).astype(np.float32)
    exact = np.exp(x.astype(np.float64))
    error = np.abs(each(x) - exact) / np.spacing(exact.astype(np.float32))
    assert error.max() <= 1


def test_ends_of_float32(each):
    assert LOWEST == -87  # and not a number above which exp(x) is worth having
    below = np.nextafter(np.float32(LOWEST), np.float32(-np.inf))
    x = np.array([0, -0.0, below, -1e30, -np.inf, np.nan], np.float32)
    np.testing.assert_array_equal(each(x), np.array([1, 1, 0, 0, 0, np.nan], np.float32))


def test_float64_is_that_of_numpy(each):
    x = np.append(-np.random.default_rng(1).uniform(0, 800, 2000), [0, -np.inf, np.nan])
    np.testing.assert_allclose(each(x), np.exp(x), rtol=5e-16, atol=5e-324)
