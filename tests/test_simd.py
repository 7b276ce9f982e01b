"""The packs' own exponential and logarithm against mpmath, and their lane operations."""

import mpmath
import numpy as np
import pytest
from numba import njit

from cliff.kernels import simd
from cliff.kernels.simd import LANES, load, store


@njit
def _exp(x, out):
    for row in range(x.size // LANES):
        store(out, row, simd.exp(load(x, row)))


@njit
def _log1p(x, out):
    for row in range(x.size // LANES):
        store(out, row, simd.log1p(load(x, row)))


@njit
def _suffix_after_first(x, out):
    sums = simd.suffix_sums(load(x, 0))
    store(out, 0, sums)
    store(out, 1, simd.after(sums))
    store(out, 2, simd.first(sums))
    store(out, 3, simd.powers(x[0]))
    return simd.total(load(x, 0))


def units_in_last_place(function, reference, x):
    out = np.empty_like(x)
    function(x, out)
    with mpmath.workdps(40):
        exact = np.array([float(reference(mpmath.mpf(value))) for value in x])
    return np.max(np.abs(out - exact) / np.spacing(np.abs(exact)))


def test_exp_is_good_to_one_unit(rng):
    assert units_in_last_place(_exp, mpmath.exp, rng.uniform(-708, 709, 4000)) <= 1.0
    assert units_in_last_place(_exp, mpmath.exp, rng.normal(size=4000) * 1e-3) <= 1.0


@pytest.mark.parametrize("scale", [1e-18, 1e-6, 1.0, 1e6, 1e100, 1e300])
def test_log1p_is_good_to_two_units(rng, scale):
    assert units_in_last_place(_log1p, mpmath.log1p, scale * rng.exponential(size=2000)) <= 2.0


def test_log1p_of_zero_is_zero():
    out = np.empty(LANES)
    _log1p(np.zeros(LANES), out)
    assert not out.any()


def test_lane_operations(rng):
    x = rng.normal(size=LANES)
    out = np.empty(4 * LANES)
    total = _suffix_after_first(x, out)
    suffix = np.cumsum(x[::-1])[::-1]
    np.testing.assert_allclose(out[:LANES], suffix, rtol=1e-14)
    np.testing.assert_allclose(out[LANES : 2 * LANES], [*suffix[1:], 0.0], rtol=1e-14)
    np.testing.assert_allclose(out[2 * LANES : 3 * LANES], suffix[0], rtol=1e-14)
    np.testing.assert_allclose(out[3 * LANES :], x[0] ** np.arange(LANES), rtol=1e-14)
    assert total == pytest.approx(x.sum(), rel=1e-14)
