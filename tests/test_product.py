"""The compiled matrix product against NumPy's, for all shapes of its edges and both layouts."""

import numpy as np
import pytest

from cliff.kernels.product import COLUMNS, DEPTH, ROWS, multiply, product

SIZES = [
    (1, 1, 1),
    (ROWS, 3, COLUMNS),
    (ROWS - 1, 7, COLUMNS - 1),
    (2 * ROWS + 1, DEPTH, 2 * COLUMNS + 1),
    (ROWS + 2, 2 * DEPTH + 3, COLUMNS + 5),
    (5, 0, 4),
    (0, 5, 4),
    (5, 4, 0),
]


def laid_out(rng, shape, transposed, dtype):
    return (rng.random(shape[::-1]).T if transposed else rng.random(shape)).astype(dtype) - 0.5


@pytest.mark.parametrize(("dtype", "tolerance"), [("f4", 2e-6), ("f8", 1e-14)])
@pytest.mark.parametrize("transposed", [(False, False), (False, True), (True, False)], ids=str)
@pytest.mark.parametrize("size", SIZES, ids=str)
def test_product_is_that_of_numpy(size, transposed, dtype, tolerance):
    rng = np.random.default_rng(0)
    n_rows, n_inner, n_columns = size
    left = laid_out(rng, (n_rows, n_inner), transposed[0], dtype)
    right = laid_out(rng, (n_inner, n_columns), transposed[1], dtype)
    around = np.full((n_rows + 2, n_columns), 7, dtype)
    out = multiply(left, right, around[1:-1])
    exact = left.astype("f8") @ right.astype("f8")
    assert out.dtype == dtype
    np.testing.assert_allclose(out, exact, rtol=0, atol=tolerance * max(n_inner, 1) ** 0.5)
    assert (around[[0, -1]] == 7).all()  # nothing is written beside the result


def test_what_is_not_finite_stays_in_its_row_and_column():
    left, right = np.ones((9, 20)), np.ones((20, 19))
    left[8, 3], right[2, 18] = np.nan, np.inf
    out = product(left, right)
    assert np.isnan(out[8]).all()
    assert np.isinf(out[:8, 18]).all()
    assert (out[:8, :18] == 20).all()


def test_rows_do_not_depend_on_their_company():
    """Bit for bit, wherever a row falls in a tile."""
    rng = np.random.default_rng(1)
    left, right = rng.random((20, 30), np.float32), rng.random((30, 40), np.float32)
    whole = product(left, right)
    for first in range(20):
        np.testing.assert_array_equal(product(left[first:], right), whole[first:])
