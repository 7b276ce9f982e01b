"""softmax, log_sum_exp and cross_entropy: derivatives and compiled code against mpmath."""

import mpmath
import numpy as np
import pytest
import sympy as sp

from cliff.checks import ArgumentError
from cliff.kernels import generated
from cliff.kernels.simd import LANES
from cliff.symbolic.functions import cross_entropy, log_sum_exp, softmax
from cliff.symbolic.source import evaluation_source

X = sp.symbols("x0:3", real=True)
W = sp.symbols("w0:3", real=True)

FUNCTIONS = {
    "log_sum_exp": lambda z, w: log_sum_exp(z, weights=w),
    "softmax": lambda z, w: softmax(z, 1, weights=w),
    "cross_entropy": lambda z, w: cross_entropy(z, 1, weights=w),
}


def by_definition(name, z, w):
    """The same from the definition, in mpmath; a term without weight is not even computed."""
    whole = mpmath.fsum(wj * mpmath.exp(zj) for zj, wj in zip(z, w, strict=True) if wj)
    if name == "softmax":
        return mpmath.exp(z[1]) / whole if w[1] else mpmath.mpf(0)
    return mpmath.log(whole) - (z[1] if name == "cross_entropy" else 0)


def compiled(expression, n=3, names=generated.NUMBERS):
    """The expression of n logits and n weights as a function of their rows."""
    source = evaluation_source(X[:n], W[:n], {}, {0: expression}, {})
    address = generated.address_of(source, lambda: source, names)
    width = LANES if names is generated.PACKS else 1

    def function(z, w):
        out = np.empty((len(z), width))
        for k in range(len(z)):
            row = np.ascontiguousarray(w[k], dtype=float)
            generated.evaluate_rows(address, z[k : k + 1], row, 1, 0, out[k : k + 1])
        return out[:, 0] if width == 1 else out

    return function


@pytest.mark.parametrize("name", FUNCTIONS)
@pytest.mark.parametrize("n", [2, 3])
@pytest.mark.parametrize("scale", [1.0, 30.0, 1e3, 1e6])
def test_compiled_code_is_that_of_the_definition(name, n, scale, rng):
    function = compiled(FUNCTIONS[name](X[:n], W[:n]), n)
    z = scale * rng.normal(size=(60, n))
    w = rng.integers(1, 40, size=(60, n)).astype(float)
    w[20:40] *= rng.integers(0, 2, size=(20, n))  # some weights are 0 at run time
    w[:, 1] = np.maximum(w[:, 1], 1.0) if name == "cross_entropy" else w[:, 1]
    keep = w.sum(axis=1) > 0
    z, w = z[keep], w[keep]
    with mpmath.workdps(40):
        exact = np.array(
            [float(by_definition(name, *map(list, row))) for row in zip(z, w, strict=True)]
        )
    values = function(z, w)
    assert np.isfinite(values).all()
    # a logit's own rounding passes on to the result
    rounding = 4e-16 * np.abs(z).max(axis=1)
    assert np.all(np.abs(values - exact) <= 1e-15 * (1 + np.abs(exact)) + rounding)


def test_a_small_cross_entropy_keeps_its_digits():
    function = compiled(cross_entropy(X, 1, weights=W))
    gap = np.array([40.0, 100.0, 300.0, 600.0])
    z = np.stack([np.zeros(4), gap, np.zeros(4)], axis=1)
    exact = 31.0 * np.exp(-gap)
    np.testing.assert_allclose(function(z, np.tile([7.0, 1.0, 24.0], (4, 1))), exact, rtol=1e-13)


@pytest.mark.parametrize("name", FUNCTIONS)
@pytest.mark.parametrize("n", [2, 3])
def test_a_term_without_weight_drops_out(name, n):
    """Even an infinite logit, and also where the weight is known to be 0 from the start."""
    at_run_time = compiled(FUNCTIONS[name](X[:n], W[:n]), n)
    fixed = [0, *W[1:n]]
    ahead = compiled(FUNCTIONS[name](X[:n], fixed), n)
    z, w = np.array([[1e6, 0.5, -0.25]])[:, :n], np.array([[0.0, 1.0, 3.0]])[:, :n]
    expected = float(by_definition(name, list(z[0]), list(w[0])))
    assert at_run_time(z, w)[0] == pytest.approx(expected, rel=1e-14)
    assert ahead(z, w)[0] == pytest.approx(expected, rel=1e-14)


def test_a_softmax_without_weight_is_zero():
    z, w = np.array([[-1e4, 1e4]]), np.array([[1.0, 0.0]])
    assert compiled(softmax(X[:2], 1, weights=W[:2]), 2)(z, w)[0] == 0.0
    assert softmax([X[0], 5], 1, weights=[1, 0]).evalf(subs={X[0]: 1}) == 0


@pytest.mark.parametrize("name", FUNCTIONS)
@pytest.mark.parametrize("wanted", ["value", "first", "second"])
def test_derivatives(name, wanted, rng):
    """By logits and by weights, of logits that depend on a parameter twice over."""
    a, b = sp.symbols("a b", real=True)
    z = [a * b, sp.sin(a), b**2]
    w = [2, 1 + a**2, 5]
    expression = FUNCTIONS[name](z, w)
    point = rng.normal(size=2)
    with mpmath.workdps(60):
        at = [mpmath.mpf(float(x)) for x in point]

        def exact(a, b):
            return by_definition(name, [a * b, mpmath.sin(a), b**2], [2, 1 + a**2, 5])

        orders = {
            "value": [((), (0, 0))],
            "first": [((a,), (1, 0)), ((b,), (0, 1))],
            "second": [((a, a), (2, 0)), ((a, b), (1, 1)), ((b, b), (0, 2))],
        }
        for symbols, order in orders[wanted]:
            derivative = expression.diff(*symbols) if symbols else expression
            value = derivative.evalf(30, subs=dict(zip((a, b), at, strict=True)))
            reference = mpmath.diff(exact, at, order)
            assert abs(mpmath.mpf(str(value)) - reference) <= mpmath.mpf(10) ** -20


def test_evaluation_in_any_precision():
    value = cross_entropy([sp.Integer(1000), 0], 1, weights=[1, 7]).evalf(40)
    with mpmath.workdps(45):
        exact = mpmath.log(mpmath.exp(1000) + 7)
        assert abs(mpmath.mpf(str(value)) - exact) < mpmath.mpf(10) ** -36
    assert cross_entropy([X[0], 0], 0).evalf(subs={X[0]: 10**6}) == pytest.approx(0.0, abs=1e-15)


def test_symbols_are_put_in():
    n = sp.Symbol("N")
    expression = softmax([X[0], 0], 0, weights=[1, n])
    assert expression.subs(n, 4) == softmax([X[0], 0], 0, weights=[1, 4])
    assert expression.func(*expression.args) == expression
    assert float(expression.subs({n: 4, X[0]: 0})) == pytest.approx(0.2)
    assert expression.free_symbols == {X[0], n}


def test_without_an_index_all_of_a_softmax():
    everything = softmax(X, weights=[1, 2, 3])
    assert everything == tuple(softmax(X, i, weights=[1, 2, 3]) for i in range(3))
    whole = everything[0] + 2 * everything[1] + 3 * everything[2]
    assert sp.simplify(whole.doit()) == 1


@pytest.mark.parametrize("name", FUNCTIONS)
def test_packs_run_the_same_code(name, rng):
    expression = FUNCTIONS[name](X, W)
    slopes = sp.Add(*(expression.diff(x) for x in X[:2]))
    for part in (expression, slopes):
        z = 5.0 * rng.normal(size=(20, 3, LANES))
        w = rng.integers(0, 9, size=(20, 3, LANES)).astype(float)
        w[:, 1] = np.maximum(w[:, 1], 1.0)
        packed = compiled(part, names=generated.PACKS)(z.reshape(20, -1), w.reshape(20, -1))
        one = compiled(part)
        for lane in range(LANES):
            expected = one(np.ascontiguousarray(z[:, :, lane]), w[:, :, lane])
            np.testing.assert_allclose(packed[:, lane], expected, rtol=1e-13, atol=1e-14)


def test_every_function_runs_on_packs(rng):
    """All that generated code may call: within two units in the last place of the number's."""
    x, y = X[0], X[1]
    inside = sp.sin(x) / 2
    cases = [
        sp.exp(x), sp.log(x**2 + 1), sp.sqrt(x**2 + 2), (x**2 + 1) ** y, x**7, 1 / x**3,
        sp.sin(x), sp.cos(x), sp.tan(x), sp.asin(inside), sp.acos(inside), sp.atan(x),
        sp.sinh(x), sp.cosh(x), sp.tanh(x), sp.asinh(x), sp.acosh(x**2 + 2), sp.atanh(inside),
        sp.erf(x), sp.erfc(x), sp.Max(x, y, 0), sp.Min(x, y), sp.Abs(x), sp.sign(x),
        sp.Heaviside(x), sp.Piecewise((x, x > y), (y**2, (x >= 0) & (y < 1)), (3, True)),
    ]  # fmt: skip
    rows = dict(enumerate(cases))
    source = evaluation_source(X[:2], (), {}, rows, {})
    z = rng.normal(size=(30, 2, LANES))
    packed = np.empty((30, len(cases) * LANES))
    empty = np.empty(0)
    address = generated.address_of(source, lambda: source, generated.PACKS)
    generated.evaluate_rows(address, z.reshape(30, -1), empty, 1, 0, packed)
    address = generated.address_of(source, lambda: source)
    packed = packed.reshape(30, len(cases), LANES)
    for lane in range(LANES):
        one = np.empty((30, len(cases)))
        generated.evaluate_rows(address, np.ascontiguousarray(z[:, :, lane]), empty, 1, 0, one)
        np.testing.assert_allclose(packed[:, :, lane], one, rtol=1e-14, atol=1e-15)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: log_sum_exp([]), "logits=.*must not be empty"),
        (lambda: log_sum_exp("x0"), "must be a sequence of expressions"),
        (lambda: log_sum_exp(["x0"]), "must be expressions or numbers"),
        (lambda: log_sum_exp(X, weights=[1, 2]), "weights=.*must be as many as the logits, 3"),
        (lambda: log_sum_exp(X, weights=[1, 2, -3]), "must not be negative"),
        (lambda: log_sum_exp(X, weights=[0, 0, 0]), "must not all be 0"),
        (lambda: softmax(X, 3), "index=3: must be from 0 to 2"),
        (lambda: softmax(X, -1), "index=-1: must be from 0 to 2"),
        (lambda: cross_entropy(X, 0.5), "correct=0.5: must be an integer"),
        (lambda: cross_entropy(X, True), "correct=True: must be an integer"),
    ],
)
def test_mistakes_are_named_in_one_line(call, message):
    with pytest.raises(ArgumentError, match=message) as caught:
        call()
    assert "\n" not in str(caught.value)
