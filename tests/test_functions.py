"""Softmax, log-sum-exp and cross entropy: printed code and derivatives against mpmath."""

import math

import mpmath
import numba
import numpy as np
import pytest
import sympy as sp
from sympy.printing.pycode import PythonCodePrinter

from cliff.checks import ArgumentError
from cliff.symbolic.functions import cross_entropy, log_sum_exp, softmax

Z = sp.symbols("z0:3", real=True)
W = sp.symbols("w0:3", nonnegative=True)
CORRECT = 1


def stated(name, z, w):
    """The value with at least 60 digits, from the definition."""
    with mpmath.workdps(max(60, mpmath.mp.dps)):
        z, w = [mpmath.mpf(x) for x in z], [mpmath.mpf(x) for x in w]
        total = mpmath.fsum(v * mpmath.exp(y) for y, v in zip(z, w, strict=True))
        if name == "log_sum_exp":
            return mpmath.log(total)
        if name == "cross_entropy":
            return mpmath.log(total) - z[CORRECT]
        k = int(name[-1])
        return w[k] * mpmath.exp(z[k]) / total


EXPRESSIONS = {
    "log_sum_exp": log_sum_exp(Z, W),
    "cross_entropy": cross_entropy(Z, CORRECT, W),
    **{f"softmax {k}": share for k, share in enumerate(softmax(Z, W))},
}


def slope(name, z, w, i):
    """The derivative with respect to the logit i, with enough digits for 1 less a share."""
    with mpmath.workdps(950):
        z, w = [mpmath.mpf(x) for x in z], [mpmath.mpf(x) for x in w]
        weights = [v * mpmath.exp(y) for y, v in zip(z, w, strict=True)]
        shares = [weight / mpmath.fsum(weights) for weight in weights]
        if name == "log_sum_exp":
            return shares[i]
        if name == "cross_entropy":
            return shares[i] - (i == CORRECT)
        k = int(name[-1])
        return shares[k] * ((i == k) - shares[i])


def arguments():
    """Wild logits, and weights among which some are 0, but not the correct label's."""
    rng = np.random.default_rng(5)
    for _ in range(30):
        scale = 10.0 ** rng.uniform(-2, 3)
        z = rng.normal(0.0, scale, 3).clip(-1e3, 1e3)
        w = rng.choice([0.0, 1.0, 1.0, 24.0, 0.3], 3)
        w[CORRECT] = 1.0
        yield z, w
    for z in np.array(np.meshgrid(*[[-1e3, 0.0, 1e3]] * 3)).reshape(3, -1).T:
        yield z, np.array([1.0, 1.0, 0.0])
        yield z, np.array([3.0, 1.0, 2.0])


def scalar_source(expressions):
    """Python for numbers, with what the expressions share computed once."""
    shared, results = sp.cse(expressions)
    printer = PythonCodePrinter({"fully_qualified_modules": True})
    lines = [f"    {name} = {printer.doprint(value)}" for name, value in shared]
    values = ", ".join(printer.doprint(result) for result in results)
    return "\n".join([f"def f({', '.join(map(str, (*Z, *W)))}):", *lines, f"    return {values},"])


def as_numba(expressions):
    scope: dict = {"math": math}
    exec(scalar_source(expressions), scope)
    return numba.njit(scope["f"])


def as_numpy(expressions):
    return sp.lambdify((*Z, *W), list(expressions), "numpy", cse=True)


@pytest.mark.parametrize("compiled", [as_numpy, as_numba])
def test_values_and_gradients_at_wild_arguments(compiled):
    """1e-12 of the value, or of 1 where a share is tiny beside the exponent's own rounding.

    A logit of 1e3 has a rounding of 1e-13, which every function of it inherits.
    """
    names, expressions = [], []
    for name, expression in EXPRESSIONS.items():
        names.append((name, None))
        expressions.append(expression)
        for i, z in enumerate(Z):
            names.append((name, i))
            expressions.append(sp.diff(expression, z))
    function = compiled(expressions)
    for z, w in arguments():
        with np.errstate(under="ignore"):
            got = function(*z, *w)
        for (name, i), value in zip(names, got, strict=True):
            with mpmath.workdps(950):
                expected = stated(name, z, w) if i is None else slope(name, z, w, i)
            assert math.isfinite(value)
            assert float(value) == pytest.approx(float(expected), rel=2e-12, abs=1e-300), (
                name, i, z, w,
            )  # fmt: skip


def test_second_derivatives():
    """Of shares of order 1, where nothing cancels: 1e-12."""
    expressions = [
        sp.diff(expression, a, b) for expression in EXPRESSIONS.values() for a in Z for b in Z
    ]
    function = as_numpy(expressions)
    z, w = [0.3, -0.8, 1.1], [2.0, 1.0, 0.7]
    with mpmath.workdps(60):
        step = mpmath.mpf(10) ** -15
        expected = []
        for name in EXPRESSIONS:
            for i in range(3):
                for j in range(3):
                    value = mpmath.mpf(0)
                    for a in (1, -1):
                        for b in (1, -1):
                            moved = [mpmath.mpf(x) for x in z]
                            moved[i] += a * step
                            moved[j] += b * step
                            value += a * b * stated(name, moved, w)
                    expected.append(float(value / (4 * step**2)))
    np.testing.assert_allclose(function(*z, *w), expected, rtol=1e-12, atol=1e-14)


def test_derivatives_with_respect_to_the_weights():
    function = as_numpy([sp.diff(e, w) for e in EXPRESSIONS.values() for w in W])
    z, w = [0.3, -0.8, 1.1], [2.0, 1.0, 0.7]
    expected = []
    with mpmath.workdps(60):
        step = mpmath.mpf(10) ** -20
        for name in EXPRESSIONS:
            for i in range(3):
                ends = []
                for sign in (1, -1):
                    moved = [mpmath.mpf(x) for x in w]
                    moved[i] += sign * step
                    ends.append(stated(name, z, moved))
                expected.append(float((ends[0] - ends[1]) / (2 * step)))
    np.testing.assert_allclose(function(*z, *w), expected, rtol=1e-13)


def test_a_weight_of_zero_drops_its_term_whatever_its_logit():
    z = [0.1, 0.2, 1e308]
    for compiled in (as_numpy, as_numba):
        function = compiled(
            [*EXPRESSIONS.values(), *(sp.diff(EXPRESSIONS["log_sum_exp"], x) for x in Z)]
        )
        got = function(*z, 1.0, 1.0, 0.0)
        both = math.exp(0.1) / (math.exp(0.1) + math.exp(0.2))
        expected = [
            math.log(math.exp(0.1) + math.exp(0.2)), math.log(1 + math.exp(-0.1)),
            both, 1 - both, 0.0, both, 1 - both, 0.0,
        ]  # fmt: skip
        assert [float(x) for x in got] == pytest.approx(expected, rel=1e-14)
    # as a number it is gone from the expression
    assert Z[2] not in cross_entropy(Z, 0, [1, 1, 0]).safe().free_symbols


def test_a_small_cross_entropy_keeps_its_digits():
    (value,) = as_numba([cross_entropy([*Z], 0, W)])(60.0, 0.0, 0.0, 1.0, 1.0, 24.0)
    assert value == pytest.approx(25.0 * math.exp(-60.0), rel=1e-14)
    (slope_,) = as_numba([sp.diff(cross_entropy([*Z], 0, W), Z[0])])(60.0, 0.0, 0.0, 1.0, 1.0, 24.0)
    assert slope_ == pytest.approx(-25.0 * math.exp(-60.0), rel=1e-14)


def test_batches_broadcast():
    x = sp.Symbol("x")
    function = sp.lambdify(x, [log_sum_exp([x, 0], [1, 7]), *softmax([x, -x])])
    x_values = np.linspace(-800.0, 800.0, 7).reshape(7, 1)
    for value in function(x_values):
        assert value.shape == (7, 1)
        assert np.isfinite(value).all()


def test_the_mean_field_can_be_stated_with_them():
    """The project's own landscape in four lines, against its compiled kernel."""
    from cliff import NestedLogit

    beta1, alpha, xi = sp.symbols("beta1 alpha xi", real=True)
    n, labels = 8, 32
    p1 = softmax([beta1, 0], [1, n])[0]
    p2, rest = softmax([alpha * p1, 0], [1, n - 1])
    loss = cross_entropy([xi * p2, xi * rest / (n - 1), 0], 0, [1, n - 1, labels - n])
    theta = np.random.default_rng(1).normal(0.0, 3.0, (200, 3))
    outputs = [loss, *(sp.diff(loss, parameter) for parameter in (beta1, alpha, xi))]
    got = sp.lambdify((beta1, alpha, xi), outputs, "numpy", cse=True)(*theta.T)
    model = NestedLogit(n, labels, "mean")
    np.testing.assert_allclose(got[0], model.loss(theta), rtol=1e-13, atol=1e-14)
    np.testing.assert_allclose(np.transpose(got[1:]), model.gradient(theta), rtol=1e-11, atol=1e-15)
    wild = 1e3 * np.random.default_rng(2).uniform(-1, 1, (200, 3))
    with np.errstate(under="ignore"):
        got = sp.lambdify((beta1, alpha, xi), outputs, "numpy", cse=True)(*wild.T)
    error = np.abs(got[0] - model.loss(wild)) / (1.0 + model.loss(wild))
    assert error.max() < 1e-13


def test_evaluation_and_latex_show_the_definition():
    shares = softmax([sp.Integer(3000), sp.Integer(2999)])
    assert float(shares[0].evalf(30)) == pytest.approx(1 / (1 + math.exp(-1)), rel=1e-15)
    assert sp.latex(log_sum_exp(Z[:2])) == r"\log{\left(e^{z_{0}} + e^{z_{1}} \right)}"
    assert "frac" in sp.latex(softmax(Z)[0] ** 2)


@pytest.mark.parametrize(
    ("call", "argument"),
    [
        (lambda: log_sum_exp([]), "logits"),
        (lambda: softmax(Z, [1]), "weights"),
        (lambda: cross_entropy(Z, 3), "correct"),
        (lambda: cross_entropy(Z, -1), "correct"),
    ],
)
def test_bad_arguments_are_named(call, argument):
    with pytest.raises(ArgumentError) as caught:
        call()
    assert caught.value.argument == argument
