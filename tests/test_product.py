"""The compiled matrix products against NumPy's, for all shapes of their edges and all layouts."""

import numpy as np
import pytest
from numba.core.errors import TypingError

from cliff.kernels.product import COLUMNS, DEPTH, ROWS, multiply, multiply_causal, product

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


def laid_out(rng, shape, layout, dtype):
    values = (rng.random(shape) - 0.5).astype(dtype)
    if layout == "columns":  # contiguous, as in a transposed matrix
        return np.asfortranarray(values)
    if layout == "neither":
        return np.repeat(np.repeat(values, 2, axis=0), 3, axis=1)[::2, ::3]
    return values


@pytest.mark.parametrize(("dtype", "tolerance"), [("f4", 2e-6), ("f8", 1e-14)])
@pytest.mark.parametrize(
    "layouts",
    [("rows", "rows"), ("rows", "columns"), ("columns", "rows"), ("neither", "neither")],
    ids="-".join,
)
@pytest.mark.parametrize("size", SIZES, ids=str)
def test_product_is_that_of_numpy(size, layouts, dtype, tolerance):
    rng = np.random.default_rng(0)
    n_rows, n_inner, n_columns = size
    left = laid_out(rng, (n_rows, n_inner), layouts[0], dtype)
    right = laid_out(rng, (n_inner, n_columns), layouts[1], dtype)
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


@pytest.mark.parametrize("dtypes", [("f4", "f8", "f4"), ("f8", "f8", "f4"), ("f4", "f8", "f8")])
def test_several_dtypes_are_refused(dtypes):
    left, right, out = (np.zeros((20, 20), dtype) for dtype in dtypes)
    with pytest.raises(TypingError, match="all float64"):
        multiply(left, right, out)


def test_sign_of_zero_is_the_same_everywhere():
    """Where a tile is cut off and where it is not."""
    tiny = np.full((ROWS + 1, 1), -1e-30, np.float32)
    assert np.signbit(product(tiny, np.full((1, COLUMNS + 1), 1e-30, np.float32))).all()


def test_rows_do_not_depend_on_their_company():
    """Bit for bit, wherever a row falls in a tile."""
    rng = np.random.default_rng(1)
    left, right = rng.random((20, 30), np.float32), rng.random((30, 40), np.float32)
    whole = product(left, right)
    for first in range(20):
        np.testing.assert_array_equal(product(left[first:], right), whole[first:])


@pytest.mark.parametrize(("dtype", "tolerance"), [("f4", 2e-6), ("f8", 1e-14)])
@pytest.mark.parametrize("n", [1, ROWS - 1, ROWS, 17, 3 * COLUMNS + 1])
def test_product_with_a_triangular_matrix_is_that_of_numpy(n, dtype, tolerance):
    rng = np.random.default_rng(2)
    left = np.tril(rng.random((n, n)) - 0.5).astype(dtype)
    right = (rng.random((n, 2 * COLUMNS)) - 0.5).astype(dtype)
    out = np.full((n + ROWS, 2 * COLUMNS), 7, dtype)
    multiply_causal(left, right, out, np.empty((n, COLUMNS), dtype))
    exact = left.astype("f8") @ right.astype("f8")
    np.testing.assert_allclose(out[:n], exact, rtol=0, atol=tolerance * n**0.5)
