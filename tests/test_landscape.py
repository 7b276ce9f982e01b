"""Landscapes stated in SymPy: values, derivatives, files, the protocol, and a user's mistakes."""

import copy
import json
import os
import pickle
import subprocess
import sys

import mpmath
import numpy as np
import pytest
import sympy as sp
from numba import njit

from cliff.checks import ArgumentError
from cliff.flow import integrate
from cliff.kernels import generated
from cliff.kernels.simd import LANES
from cliff.landscape import Landscape
from cliff.metrics import METRICS, FlowMetric
from cliff.nested_logit import NestedLogit
from cliff.sweeps import RESERVED, sweep
from cliff.symbolic.data import DEEPEST
from cliff.symbolic.functions import cross_entropy, log_sum_exp, softmax
from cliff.trajectory import Status

BETA1, ALPHA, XI, N, L = sp.symbols("beta1 alpha xi N L")
A, B, S = sp.symbols("a b s")


def mean_field(n=8, labels=32):
    """The mean field with N and L as constants."""
    p1 = softmax([BETA1, 0], 0, weights=[1, N])
    match, other = softmax([ALPHA * p1, 0], weights=[1, N - 1])
    loss = cross_entropy([XI * match, XI * other, 0], 0, weights=[1, N - 1, L - N])
    return Landscape(
        [BETA1, ALPHA, XI],
        loss,
        constants={N: n, L: labels},
        measures={"ila1": p1, "tila2": match},
        events={"fall": sp.Symbol("loss") <= sp.Symbol("plateau") / 2, "leave": XI >= 1},
        plateau=sp.log(N),
    )


def exact_of_three(labels=32):
    """Exact positions at N = 3, with L as a constant: an average over the matching slots."""
    loss = 0
    for s in (1, 2, 3):
        seen = [softmax([BETA1, 0], weights=[1, 2 * n - 1]) for n in (1, 2, 3)]
        label = [seen[n - 1][0] if n == s else seen[n - 1][1] if n > s else 0 for n in (1, 2, 3)]
        item = [softmax([BETA1, 0], 1, weights=[1, 2 * n - 2]) if n >= s else 0 for n in (2, 3)]
        first_item = 1 if s == 1 else 0
        target = 2 * softmax([BETA1, 0], 1, weights=[1, 6])
        overlaps = [*label, first_item, *item, target]
        q = softmax([ALPHA * m for m in overlaps])[:3]
        loss += cross_entropy([*(XI * qn for qn in q), 0], s - 1, weights=[1, 1, 1, L - 3]) / 3
    return Landscape([BETA1, ALPHA, XI], loss, constants={L: labels})


def wild(rng, m=200):
    """theta with components from 1e-2 to 1e3, either sign."""
    return rng.choice([-1.0, 1.0], (m, 3)) * 10.0 ** rng.uniform(-2, 3, (m, 3))


MEAN_FIELD, EXACT = mean_field(), exact_of_three()
KERNELS = [
    *(("mean", MEAN_FIELD, n, labels) for n, labels in [(8, 32), (3, 3), (1, 5), (1, 1), (64, 99)]),
    *(("exact", EXACT, 3, labels) for labels in (3, 4, 32)),
]


@pytest.mark.parametrize(("positions", "landscape", "n", "labels"), KERNELS)
def test_nested_logit_stated_in_sympy_is_the_kernel(positions, landscape, n, labels, rng):
    model = NestedLogit(n, labels, positions)
    changed = {"N": n, "L": labels} if "N" in landscape.constants else {"L": labels}
    stated = landscape.with_constants(**changed)
    theta = np.concatenate([wild(rng), rng.normal(size=(50, 3)), np.zeros((1, 3))])
    loss, gradient = stated.loss_and_gradient(theta)
    loss_0, gradient_0 = model.loss_and_gradient(theta)
    assert np.all(np.abs(loss - loss_0) <= 1e-13 * (1 + np.abs(loss_0)))
    # derivatives: products of up to alpha·xi and of probabilities that carry rounding of the logits
    size = 1 + np.abs(theta).max(axis=1, keepdims=True)
    assert np.all(np.abs(gradient - gradient_0) <= 1e-15 * size**2)
    hessian, hessian_0 = stated.hessian(theta), model.hessian(theta)
    assert np.all(np.abs(hessian - hessian_0) <= 2e-15 * size[:, :, np.newaxis] ** 3)
    assert np.array_equal(hessian, np.swapaxes(hessian, 1, 2))


def test_measures_are_those_of_the_kernel(rng):
    theta = rng.normal(size=(4, 5, 3))
    measured, expected = MEAN_FIELD.measures(theta), NestedLogit(8, 32, "mean").measures(theta)
    assert list(measured) == ["ila1", "tila2", "loss"]
    for name, values in measured.items():
        np.testing.assert_allclose(values, expected[name], rtol=1e-14)


@pytest.mark.parametrize("landscape", [MEAN_FIELD, EXACT, MEAN_FIELD.with_constants(N=32)])
def test_huge_parameters_are_finite(landscape):
    corners = np.array(np.meshgrid(*[[-1e6, -3e2, 0.0, 3e2, 1e6]] * 3)).reshape(3, -1).T
    for values in (*landscape.loss_and_gradient(corners), landscape.hessian(corners)):
        assert np.isfinite(values).all()


def test_one_theta_and_batches_of_any_shape(rng):
    theta = rng.normal(size=(5000, 2, 3))  # more than a thread takes at a time
    loss, gradient = MEAN_FIELD.loss_and_gradient(theta)
    assert loss.shape == (5000, 2)
    assert gradient.shape == (5000, 2, 3)
    assert MEAN_FIELD.hessian(theta[0]).shape == (2, 3, 3)
    assert MEAN_FIELD.loss(theta[7, 1]) == loss[7, 1]
    assert np.array_equal(MEAN_FIELD.gradient(theta), gradient)
    assert MEAN_FIELD.loss(np.empty((0, 3))).shape == (0,)


# ---- every function that an expression may have --------------------------------------------------

X, Y = sp.symbols("x y", real=True)
U = sp.sin(X) / 2 + sp.cos(Y) / 4  # within (−1, 1)
CASES = {
    "arithmetic": X**2 * Y - X / 3 + sp.Float("0.1") * Y**3 + sp.pi + sp.E,
    "exp": sp.exp(X * Y),
    "log": sp.log(X**2 + Y**2 + 1),
    "sqrt": sp.sqrt(X**2 + Y**4 + 1),
    "pow": (X**2 + 1) ** (Y / 3) + (X**2 + 2) ** sp.Rational(-5, 3) + 1 / (Y**2 + 1) ** 3,
    "trigonometric": sp.sin(X * Y) + sp.cos(X) * sp.tan(U),
    "inverse": sp.asin(U) + sp.acos(U) * sp.atan(X * Y),
    "hyperbolic": sp.sinh(X) * sp.tanh(Y) + sp.cosh(X * Y),
    "area": sp.asinh(X * Y) + sp.acosh(X**2 + Y**2 + 2) + sp.atanh(U),
    "erf": sp.erf(X * Y) + sp.erfc(X) * Y,
    "max": sp.Max(X * Y, Y, X**3) ** 2 + sp.Min(X, Y**2) * X,
    "abs": sp.Abs(X * Y - 1) ** 3 + sp.Abs(sp.log(X**2)) + sp.sign(X) * Y**2 + X * sp.Heaviside(Y),
    "piecewise": sp.Piecewise(
        (X**2 * Y, X > Y),
        (sp.exp(X), (X < -1) | (Y >= 1)),
        (Y**3, ~((X >= 0) & (Y < 0))),
        (X, True),
    ),
    "softmax": softmax([X * Y, X, 0], 0, weights=[1, 2, 5]) * Y,
    "log_sum_exp": log_sum_exp([X * Y, sp.sin(X), Y], weights=[1, 2, X**2 + 1]),
    "cross_entropy": cross_entropy([X * softmax([Y, X], 0), Y, 0], 0, weights=[2, 3, 4]),
}


@pytest.mark.parametrize("name", CASES)
def test_derivatives_against_mpmath(name, rng):
    expression = CASES[name]
    landscape = Landscape([X, Y], expression)
    plain = expression.replace(
        lambda e: e.func.__module__ == softmax.__module__, lambda e: e.doit()
    )
    with mpmath.workdps(40):
        # numbers that are not exact in floats have to be taken as the floats that they are
        function = sp.lambdify((X, Y), plain, "mpmath")
        for theta in rng.normal(size=(6, 2)):
            at = [mpmath.mpf(x) for x in theta]
            loss, gradient = landscape.loss_and_gradient(theta)
            hessian = landscape.hessian(theta)
            pairs = [(loss, function(*at))]
            for i, order in enumerate([(1, 0), (0, 1)]):
                pairs.append((gradient[i], mpmath.diff(function, at, order)))
            for (i, j), order in {(0, 0): (2, 0), (0, 1): (1, 1), (1, 1): (0, 2)}.items():
                pairs.append((hessian[i, j], mpmath.diff(function, at, order)))
            for value, exact in pairs:
                assert value == pytest.approx(float(exact), rel=5e-13, abs=5e-14)


def test_kinks_count_as_smooth():
    assert Landscape([A], sp.Abs(A)).hessian([0.0]) == 0.0
    assert Landscape([A], sp.Max(A, 0) ** 2).hessian([-1.0]) == 0.0
    assert Landscape([A], sp.Max(A, 0)).gradient([0.0]) == 0.5


def test_what_a_piecewise_does_not_choose_may_be_infinite():
    entropy = Landscape([A], sp.Piecewise((A * sp.log(A), A > 0), (0, True)))
    assert entropy.loss([0.0]) == entropy.gradient([0.0]) == entropy.hessian([0.0]) == 0.0
    assert entropy.hessian([2.0]) == 0.5


@pytest.mark.parametrize(
    "expression",
    [sp.LambertW(A**2), sp.gamma(A), sp.zeta(A), sp.besselj(0, A), sp.Function("f")(A)],
)
def test_what_has_no_compiled_form_is_refused(expression):
    with pytest.raises(ArgumentError, match="has no compiled form"):
        Landscape([A], expression)


# ---- what it is ----------------------------------------------------------------------------------


def test_names_and_constants():
    assert MEAN_FIELD.parameter_names == ("beta1", "alpha", "xi")
    assert MEAN_FIELD.n_parameters == 3
    assert MEAN_FIELD.event_names == ("fall", "leave")
    assert MEAN_FIELD.measure_names == ("ila1", "tila2")
    assert MEAN_FIELD.N == 8
    assert dict(MEAN_FIELD.constants) == {"N": 8, "L": 32}
    assert MEAN_FIELD.plateau == np.log(8)
    assert repr(MEAN_FIELD) == "Landscape(beta1, alpha, xi; N=8, L=32)"
    assert Landscape([A], A).plateau is None
    assert Landscape([A], A, plateau=2).plateau == 2.0
    assert {"N", "L", "gradient"} <= set(dir(MEAN_FIELD))


def test_other_constants_give_another_landscape():
    other = MEAN_FIELD.with_constants(N=16)
    assert (other.N, MEAN_FIELD.N) == (16, 8)
    assert other.plateau == np.log(16)
    assert other.address == MEAN_FIELD.address  # nothing is compiled
    assert other != MEAN_FIELD
    assert other.with_constants(N=8) == other.with_constants(N=8.0) == MEAN_FIELD
    assert other.loss([0.0, 0.0, 0.0]) == pytest.approx(np.log(32))
    assert list(other.constants_row) == [16.0, 32.0]


def test_a_landscape_is_a_value():
    same = mean_field()
    assert same == MEAN_FIELD
    assert hash(same) == hash(MEAN_FIELD)
    assert len({same, MEAN_FIELD, EXACT}) == 2
    for other in (pickle.loads(pickle.dumps(same)), copy.copy(same), copy.deepcopy(same)):
        assert other == same
        assert np.array_equal(other.gradient([0.7, 1.3, 2.1]), same.gradient([0.7, 1.3, 2.1]))
    with pytest.raises(AttributeError, match="immutable"):
        same.N = 3
    with pytest.raises(AttributeError, match="immutable"):
        del same.parameters
    with pytest.raises(TypeError):
        same.constants["N"] = 3
    with pytest.raises(ValueError, match="read-only"):
        same.constants_row[0] = 3.0


def test_what_makes_landscapes_differ():
    loss, free = (A - B) ** 2, {"constants": {"s": 1}}
    base = Landscape([A, B], loss, **free)
    others = [
        Landscape([B, A], loss, **free),
        Landscape([A, B], loss + 1, **free),
        Landscape([A, B], loss, {"s": 2}),
        Landscape([A, B], loss, {"u": 1}),
        Landscape([A, B], loss, measures={"m": A}, **free),
        Landscape([A, B], loss, events={"e": B <= A}, **free),
        Landscape([A, B], loss, plateau=1, **free),
        Landscape([A, B], velocity=[A, B], **free),
    ]
    assert len({base, *others}) == 9


def test_the_order_of_the_constants_is_that_of_their_row():
    one = Landscape([A], A * S, {S: 2, "u": 3})
    other = Landscape([A], A * S, {"u": 3, S: 2})
    assert one.loss([1.0]) == other.loss([1.0]) == 2.0


def test_symbols_count_by_name():
    a, s = sp.Symbol("a", positive=True), sp.Symbol("s", integer=True)
    assert Landscape([a], a * s, {s: 2}) == Landscape([A], A * S, {"s": 2})


def test_a_velocity_in_place_of_a_loss():
    rotation = Landscape([A, B], velocity=[-B, A], measures={"r": A**2 + B**2})
    np.testing.assert_array_equal(rotation.gradient([1.0, 2.0]), [2.0, -1.0])
    np.testing.assert_array_equal(rotation.hessian([1.0, 2.0]), [[0.0, 1.0], [-1.0, 0.0]])
    assert rotation.measures([1.0, 2.0]) == {"r": 5.0}
    with pytest.raises(ArgumentError, match="has a velocity and no loss"):
        rotation.loss([1.0, 2.0])
    with pytest.raises(ArgumentError, match="loss is not one of its symbols"):
        Landscape([A], velocity=[A], events={"e": sp.Symbol("loss") <= 1})


# ---- the protocol --------------------------------------------------------------------------------


def evaluate(landscape, theta, want, row=None):
    out = np.full((len(theta), landscape.n_out), np.nan)
    row = landscape.constants_row if row is None else row
    n_work = landscape.n_work(row)
    generated.evaluate_rows(landscape.address, theta, row, want, n_work, out)
    return out


def test_an_evaluation_writes_loss_gradient_and_events(rng):
    theta = 3.0 * rng.normal(size=(50, 3))
    loss, gradient = MEAN_FIELD.loss_and_gradient(theta)
    out = evaluate(MEAN_FIELD, theta, want=1)
    np.testing.assert_array_equal(out[:, 0], loss)
    np.testing.assert_array_equal(out[:, 1:4], gradient)
    np.testing.assert_allclose(out[:, 4], loss - np.log(8) / 2, rtol=0, atol=1e-15)
    np.testing.assert_array_equal(out[:, 5], 1.0 - theta[:, 2])
    slopes = evaluate(MEAN_FIELD, theta, want=0)
    np.testing.assert_array_equal(slopes[:, 1:4], gradient)
    assert np.isnan(slopes[:, [0, 4, 5]]).all()  # not asked for, not computed


def test_an_event_is_a_fall_to_zero():
    model = Landscape([A], A, {S: 2}, events={"le": A <= S, "lt": A < S, "ge": A >= S, "gt": S < A})
    above, below = evaluate(model, np.array([[5.0], [1.0]]), want=1)[:, 2:]
    assert list(above) == [3.0, 3.0, -3.0, -3.0]
    assert list(below) == [-1.0, -1.0, 1.0, 1.0]


def test_packs_evaluate_as_numbers_do(rng):
    theta = rng.normal(size=(40, LANES, 3)) * 10.0 ** rng.uniform(-2, 3, (40, LANES, 3))
    rows = rng.integers(1, 40, size=(40, LANES, 2)).astype(float)
    rows[:, :, 1] = np.maximum(rows[:, :, 1], rows[:, :, 0])
    n_out = MEAN_FIELD.n_out
    out = np.empty((40, n_out * LANES))
    for k in range(40):
        lanes = np.ascontiguousarray(theta[k].T).reshape(1, -1)
        row = np.ascontiguousarray(rows[k].T).reshape(-1)
        generated.evaluate_rows(MEAN_FIELD.pack_address, lanes, row, 1, 0, out[k : k + 1])
        for lane in range(LANES):
            one = evaluate(MEAN_FIELD, theta[k, lane : lane + 1], 1, rows[k, lane].copy())[0]
            size = 1 + np.abs(theta[k, lane]).max()
            values = out[k].reshape(n_out, LANES)[:, lane]
            np.testing.assert_allclose(values, one, rtol=1e-13, atol=1e-15 * size**2)


@njit
def euler(address, theta, row, n_work, n_out, step, n_steps):
    """What an integrator does with a landscape: no more than this, and the same for all of them."""
    work, out = np.empty(n_work), np.empty(n_out)
    for _ in range(n_steps):
        generated.evaluate_at(address, theta, row, 0, work, out)
        for i in range(theta.size):
            theta[i] -= step * out[1 + i]
    generated.evaluate_at(address, theta, row, 1, work, out)
    return out[0]


def test_one_compiled_loop_serves_all_landscapes():
    made = from_functions()
    for landscape in (MEAN_FIELD, Landscape([A, B], velocity=[-A, -2 * B]), made):
        p = landscape.n_parameters
        start = np.full(p, 0.5)
        theta, row = start.copy(), landscape.constants_row
        sizes = int(landscape.n_work(row[np.newaxis])[0]), landscape.n_out
        loss = euler(landscape.address, theta, row, *sizes, 0.125, 10)
        expected = start.copy()
        for _ in range(10):
            expected -= 0.125 * landscape.gradient(expected)
        np.testing.assert_array_equal(theta, expected)
        assert loss == (0.0 if landscape.velocity else landscape.loss(theta))
    assert len(euler.signatures) == 1


def test_constants_that_differ_between_trajectories():
    rows = MEAN_FIELD.constants_rows({"N": [2, 4, 8]}, 3)
    np.testing.assert_array_equal(rows, [[2, 32], [4, 32], [8, 32]])
    np.testing.assert_array_equal(MEAN_FIELD.constants_rows({"L": 64}, 2), [[8, 64], [8, 64]])
    for values, message in (
        ({"M": [1, 2, 3]}, "M=.*is no constant"),
        ({"N": [1, 2]}, "N=.*must be a number or 3 of them"),
        ({"N": [1, 2, np.nan]}, "N=.*must be finite"),
        ({"N": ["1", "2", "3"]}, "N=.*must be an array of real numbers"),
        ({"N": [8, 33, 8]}, "must not make the weight L - N negative"),
    ):
        with pytest.raises(ArgumentError, match=message):
            MEAN_FIELD.constants_rows(values, 3)


# ---- compiled functions in place of expressions --------------------------------------------------


def loss_of(theta, s):
    return 0.5 * (s - theta[0] * theta[1]) ** 2


def gradient_of(theta, s):
    residual = s - theta[0] * theta[1]
    return -residual * theta[1], -residual * theta[0]


def hessian_of(theta, s):
    off = 2.0 * theta[0] * theta[1] - s
    return np.array([[theta[1] ** 2, off], [off, theta[0] ** 2]])


def product_of(theta, s):
    return theta[0] * theta[1]


def too_short(theta, s):
    return np.zeros(1)


def unknown_name(theta, s):
    return missing(theta)  # noqa: F821


def of_two_types(theta, s):
    v = 1.0
    if theta[0] > 0.0:
        v = "a"
    return v


def of_mixed_entries(theta, s):
    return theta[0], "a"


def sum_of_unlike(theta, s):
    return [theta[0]] + ["a"]  # noqa: RUF005


def unknown_attribute(theta, s):
    return np.nothing(theta)


def one_entry(theta, s):
    return (theta[0],)


def raises_above_two(theta, s):
    if theta[0] > 2.0:
        raise ValueError
    return -1.0


def pushes(theta, s):
    raises_above_two_(theta, s)
    return np.array([-1.0, 0.0])


def steady(theta, s):
    return np.array([-1.0, 0.0])


def no_curvature(theta, s):
    return np.zeros((2, 2))


raises_above_two_ = njit(raises_above_two)


def changes_theta(theta, s):
    theta[0] += 100.0
    return theta[0]


def from_functions(**changes):
    given = {"loss": loss_of, "gradient": gradient_of, "hessian": hessian_of}
    parts = {"constants": {S: 1.5}, "measures": {"product": product_of}, "plateau": 0.5}
    return Landscape.from_functions([A, B], **(given | parts | changes))


def test_functions_in_place_of_expressions(rng):
    stated = Landscape([A, B], (S - A * B) ** 2 / 2, {S: 1.5}, {"product": A * B}, plateau=0.5)
    made = from_functions(events={"late": product_of})
    theta = rng.normal(size=(30, 2))
    for method in ("loss", "gradient", "hessian"):
        expected = getattr(stated, method)(theta)
        np.testing.assert_allclose(getattr(made, method)(theta), expected, rtol=1e-12, atol=1e-15)
    assert list(made.measures(theta)) == ["product", "loss"]
    np.testing.assert_allclose(evaluate(made, theta, 1)[:, 3], theta.prod(axis=1))
    assert made.plateau == 0.5
    assert made.s == 1.5
    assert made.with_constants(s=3).loss([1.0, 1.0]) == 2.0
    assert made.n_out == 4
    assert isinstance(made, Landscape)


def test_landscapes_of_functions_are_values():
    made = from_functions()
    assert made == from_functions()
    assert hash(made) == hash(from_functions())
    assert made != from_functions(hessian=None)
    assert pickle.loads(pickle.dumps(made)) == made


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: from_functions(loss=3), "loss=3: must be a function"),
        (
            lambda: from_functions(measures={"loss": product_of}),
            "measures=loss: is a reserved name",
        ),
        (
            lambda: from_functions(loss=unknown_name).loss([1, 1]),
            "loss=unknown_name: does not compile: .*missing",
        ),
        (
            lambda: from_functions(loss=of_two_types).loss([1, 1]),
            "loss=of_two_types: does not compile: Cannot unify .* for 'v', ",
        ),
        (
            lambda: from_functions(gradient=of_mixed_entries).loss([1, 1]),
            "gradient=of_mixed_entries: must return p real numbers",
        ),
        (
            lambda: from_functions(gradient=sum_of_unlike).loss([1, 1]),
            r"does not compile: No implementation .* signature: add\(",
        ),
        (
            lambda: from_functions(loss=unknown_attribute).loss([1, 1]),
            "does not compile: module 'numpy' has no attribute 'nothing'",
        ),
        (lambda: from_functions(loss=gradient_of).loss([1, 1]), "must return a real number"),
        (lambda: from_functions(hessian=gradient_of).hessian([1, 1]), "must return p rows of"),
        (lambda: from_functions(gradient=one_entry).loss([1, 1]), "must return 2 numbers"),
        (lambda: from_functions(hessian=None).hessian([1, 1]), "hessian=None: was not given"),
        (lambda: from_functions().to_data(), "is made of functions, which no file can hold"),
    ],
)
def test_mistakes_with_functions(call, message):
    with pytest.raises(ArgumentError, match=message) as caught:
        call()
    assert "\n" not in str(caught.value)


def test_a_gradient_that_is_too_short_is_not_read_beyond_its_end():
    gradient = from_functions(gradient=too_short).gradient([1.0, 1.0])
    assert gradient[0] == 0.0
    assert np.isnan(gradient[1])


@pytest.mark.parametrize("raising", ["loss", "gradient", "event"])
@pytest.mark.parametrize("method", ["dopri5", "euler", "radau"])
def test_a_flow_ends_where_a_function_raises(capfd, raising, method):
    functions = {
        "loss": {"loss": raises_above_two, "gradient": steady},
        "gradient": {"loss": product_of, "gradient": pushes},
        "event": {"loss": product_of, "gradient": steady, "events": {"e": raises_above_two}},
    }[raising]
    model = from_functions(hessian=no_curvature, measures={}, **functions)
    assert np.isnan(np.hstack(model.loss_and_gradient([3.0, 1.0]))).all()
    run = integrate(
        model, [1.0, 1.0], 5.0, method=method, step=0.125 if method == "euler" else None
    )
    assert run.status is Status.NOT_FINITE
    assert 1.0 < run.theta[-1, 0] <= 2.0
    assert np.isfinite(run.loss).all()
    assert capfd.readouterr() == ("", "")


def test_a_function_cannot_change_the_point_of_the_others():
    model = from_functions(loss=changes_theta)
    theta = np.array([1.0, 0.5])
    loss, gradient = model.loss_and_gradient(theta)
    assert loss == 101.0
    assert theta.tolist() == [1.0, 0.5]
    np.testing.assert_array_equal(gradient, from_functions().gradient(theta))


# ---- mistakes ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: Landscape([A], A * S), "loss=a\\*s: s is not one of its symbols, a$"),
        (lambda: Landscape([A], A, plateau=A), "plateau=a: a is not one of its symbols, none"),
        (lambda: Landscape([A], sp.I * A), "is not real"),
        (lambda: Landscape([A], sp.log(-1) * A), "is not real"),
        (lambda: Landscape([A], sp.sqrt(-(A**2) - 1), {}), "is not real|has no compiled form"),
        (lambda: Landscape([A], A + sp.oo), "is not a finite float64"),
        (lambda: Landscape([A], A * sp.nan), "is not a finite float64"),
        (lambda: Landscape([A], A + sp.Integer(10) ** 400), "is not a finite float64"),
        (lambda: Landscape([A], "a**2"), "loss=a\\*\\*2: must be a SymPy expression"),
        (lambda: Landscape([A], sp.Matrix([A])), "loss=.*must be a SymPy expression"),
        (lambda: Landscape([A], A > 0), "loss=a > 0: must be a SymPy expression"),
        (lambda: Landscape([A], lambda a: a), "must be a SymPy expression"),
        (lambda: Landscape([A]), "loss=None: must be given"),
        (
            lambda: Landscape([A], A, velocity=[A]),
            "must be given, or else a velocity, and not both",
        ),
        (lambda: Landscape([A], velocity=[A, A]), "velocity=.*must have 1 entries"),
        (lambda: Landscape([A], velocity=A), "velocity=a: must be a sequence"),
        (lambda: Landscape(A, A), "parameters=a: must be a sequence"),
        (lambda: Landscape("ab", A), "parameters=ab: must be a sequence"),
        (lambda: Landscape([], A), "must be one or more SymPy symbols"),
        (lambda: Landscape(["a"], A), "must be one or more SymPy symbols"),
        (lambda: Landscape([A, A], A), "parameters=a: is the name of something else"),
        (lambda: Landscape([A], A, {A: 1}), "constants=a: is the name of something else"),
        (lambda: Landscape([A], A, {S: 1, "s": 2}), "constants=s: is the name of something else"),
        (lambda: Landscape([A], A, {S: 1}, {"s": A}), "measures=s: is the name of something else"),
        (lambda: Landscape([A], A, {}, {"m": A}, {"m": A <= 0}), "events=m: is the name of"),
        (lambda: Landscape([A], A, {"loss": 1}), "constants=loss: is a reserved name"),
        (lambda: Landscape([A], A, {"gradient": 1}), "constants=gradient: is a reserved name"),
        (lambda: Landscape([A], A, {"expression": 1}), "constants=expression: is a reserved name"),
        (lambda: Landscape([A], A, {"_events": 1}), "constants=_events: is a reserved name"),
        (lambda: Landscape([A], A, {}, {"loss": A}), "measures=loss: is a reserved name"),
        (lambda: Landscape([sp.Symbol("t")], A), "parameters=t: is a reserved name"),
        (lambda: Landscape([A], A, {"my s": 1}), "must be a name without blanks"),
        (lambda: Landscape([A], A, {1: 1}), "constants=1: must be a name"),
        (lambda: Landscape([A], A, {S: "1"}), "s='1': must be a finite number"),
        (lambda: Landscape([A], A, {S: np.inf}), "s=inf: must be a finite number"),
        (lambda: Landscape([A], A, {S: True}), "s=True: must be a finite number"),
        (lambda: Landscape([A], A, {S: 10**400}), "s=1000.*must be a finite number"),
        (lambda: Landscape([A], A, {S: 1j}), "s=1j: must be a finite number"),
        (lambda: Landscape([A], A, [S]), "constants=.*must be a mapping from names"),
        (lambda: Landscape([A], A, {}, [A]), "measures=.*must be a mapping from names"),
        (lambda: Landscape([A], A, {}, {"m": A <= 0}), "m=a <= 0: must be a SymPy expression"),
        (lambda: Landscape([A], A, events={"e": A}), "e=a: must be an inequality"),
        (lambda: Landscape([A], A, events={"e": sp.Eq(A, 1)}), "e=Eq.*must be an inequality"),
        (lambda: Landscape([A], A, events={"e": X**2 >= 0}), "e=True: must be an inequality"),
        (lambda: Landscape([A], A, events={"e": "a <= 0"}), "must be an inequality"),
        (lambda: Landscape([A], A, events={"e": A**2 <= -1}), "is so or not whatever theta"),
        (lambda: Landscape([A], A, events={"e": B <= 0}), "e=b <= 0: b is not one of its symbols"),
        (lambda: MEAN_FIELD.with_constants(M=1), "M=1: is no constant of this landscape: N, L"),
        (lambda: MEAN_FIELD.with_constants(N="8"), "N='8': must be a finite number"),
        (lambda: MEAN_FIELD.with_constants(N=33), "must not make the weight L - N negative"),
        (lambda: Landscape([A], A, {S: -1}, plateau=sp.log(S)), "must give a finite plateau"),
        (lambda: Landscape([A], A, {S: 0}, plateau=sp.log(S)), "must give a finite plateau"),
        (lambda: Landscape([A], A, events={"e": np.ones(2)}), "must be an inequality"),
        (lambda: mean_field(n=0.5), "must not make the weight N - 1 negative"),
        (lambda: MEAN_FIELD.loss([1.0, 2.0]), "theta=.*must have a last axis of length 3"),
        (lambda: MEAN_FIELD.loss([1.0, 2.0, np.nan]), "theta=.*must be finite"),
        (lambda: MEAN_FIELD.gradient("abc"), "theta=abc: must be an array of real numbers"),
    ],
)
def test_mistakes_are_named_in_one_line(call, message):
    with pytest.raises(ArgumentError, match=message) as caught:
        call()
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 200


# ---- files ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "landscape", [MEAN_FIELD, EXACT, *(Landscape([X, Y], e) for e in CASES.values())]
)
def test_to_data_and_back(landscape):
    text = json.dumps(landscape.to_data(), sort_keys=True)
    back = Landscape.from_data(json.loads(text))
    assert back == landscape
    assert back.expression == landscape.expression
    assert list(back.constants.items()) == list(landscape.constants.items())


def test_numbers_are_kept_exactly():
    tenth, third = sp.Float("0.1", 30), sp.Rational(1, 3)
    landscape = Landscape(
        [A], tenth * A + third + sp.pi * sp.EulerGamma, {S: 0.1, "big": 2**53 + 1}
    )
    back = Landscape.from_data(json.loads(json.dumps(landscape.to_data())))
    assert back.expression == landscape.expression
    assert back.expression.atoms(sp.Float) == {tenth}
    assert dict(back.constants) == {"s": 0.1, "big": 2**53 + 1}


def test_velocity_and_its_names_come_back():
    landscape = Landscape([A, B], velocity=[-B, A], measures={"r": A}, events={"e": A <= 0})
    assert Landscape.from_data(json.loads(json.dumps(landscape.to_data()))) == landscape


def hostile(**changes):
    data = Landscape([A, B], A * B, {S: 1}, {"m": A}, {"e": A <= 0}).to_data()
    return data | changes


HOSTILE_NODES = [
    ["__import__('os').system('touch hacked')"],
    [["Symbol", "x"]],
    [["Lambda", 0, 0]],
    ["a", ["Function", 0]],
    ["a", ["__import__", 0]],
    ["a", ["gamma", 0]],  # SymPy's, but not on the list
    ["a", ["sympify", 0]],
    ["a", ["lambdify", 0, 0]],
    ["a", ["Add", 0, 1]],  # itself
    ["a", ["Add", 0, -1]],
    ["a", ["Add", 0, True]],
    ["a", ["Add", "a"]],
    ["a", ["Add", [0]]],
    ["a", ["exp", 0, 0]],
    ["a", ["Pow", 0]],
    ["a", ["Softmax", 0, 0, 0]],
    ["a", ["Tuple", 0], ["LogSumExp", 1]],
    ["a", ["Tuple", 0, 0], ["Tuple", 0], ["LogSumExp", 1, 2]],
    ["a", 5, ["Tuple", 0], ["Softmax", 2, 2, 1]],
    [["Float", 1, 10**9, 53]],
    [["Float", "1", 0, 53]],
    [["Rational", 1, 0]],
    [["Rational", "1", 2]],
    [10**4000],
    [1.5],
    [None],
    [{}],
    [[]],
    [[["Add"]]],
    [10, ["Pow", 0, 0], ["Pow", 1, 1], ["Pow", 2, 2]],  # would fill the memory
    ["a", *(["Add", k, k] for k in range(60))],  # 2^60 terms written out
    ["a", *(["sin", k] for k in range(900))],  # deeper than SymPy can walk
]


@pytest.mark.parametrize("nodes", HOSTILE_NODES)
def test_a_strangers_nodes_are_refused(nodes, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    data = hostile(nodes=nodes, loss=[len(nodes) - 1], measures=[], events=[])
    with pytest.raises(ArgumentError, match="landscape=data: ") as caught:
        Landscape.from_data(data)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 200
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    "data",
    [
        {},
        None,
        [],
        "a",
        hostile(format=99),
        hostile(parameters=None),
        hostile(parameters=["a", "a"]),
        hostile(parameters=[["a"], "b"]),
        hostile(constants=[["s"]]),
        hostile(constants=[["s", "1"]]),
        hostile(constants=5),
        hostile(loss=[99]),
        hostile(loss=None),
        hostile(nodes="a"),
        hostile(events=[["e", 0]]),  # no relation
        hostile(measures=[["m"]]),
        {k: v for k, v in hostile().items() if k != "events"},
    ],
)
def test_damaged_data_is_refused_in_one_line(data):
    with pytest.raises(ArgumentError) as caught:
        Landscape.from_data(data)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 200


def test_an_expression_may_be_nested_as_deep_as_the_limit():
    nodes = ["a", *(["sin", k] for k in range(DEEPEST - 1))]
    data = hostile(nodes=nodes, loss=[len(nodes) - 1], measures=[], events=[])
    assert Landscape.from_data(data).to_data()["nodes"] == nodes
    deeper = data | {"nodes": [*nodes, ["sin", len(nodes) - 1]]}
    with pytest.raises(ArgumentError, match="an expression is nested too deeply"):
        Landscape.from_data(deeper)


# ---- the cache on disk ---------------------------------------------------------------------------

SCRIPT = """
import hashlib, sympy as sp
from cliff.flow import integrate
from cliff.kernels import generated
from cliff.landscape import Landscape
names = "exp log log1p sqrt sin cos tan asin acos atan sinh cosh tanh asinh acosh atanh erf erfc"
x, y = sp.symbols("x y", real=True)
u = sp.sin(x) / 2
loss = sum(getattr(sp, n)(u) for n in names.split() if n not in ("log", "log1p", "sqrt", "acosh"))
loss += sp.log(y**2 + 1) + sp.sqrt(y**2 + 1) + sp.acosh(y**2 + 2) + (y**2 + 1)**x
compiled = []
original = generated.cfunc
generated.cfunc = lambda *a, **k: compiled.append(0) or original(*a, **k)
model = Landscape([x, y], loss)
source = hashlib.sha256(model._source("hessian").encode()).hexdigest()
print(model.gradient([0.3, 0.4]).tolist(), source, len(compiled))
"""


def run(cache, environment):
    result = subprocess.run(
        [sys.executable, "-c", SCRIPT],
        env=environment | {"NUMBA_CACHE_DIR": str(cache)},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert result.returncode == 0, result.stderr
    gradient, compiled = result.stdout.rsplit(" ", 1)
    return gradient, int(compiled)


def test_machine_code_is_kept_on_disk_and_damage_does_no_harm(tmp_path):
    environment = os.environ | {"PYTHONHASHSEED": "1"}
    first, compiled = run(tmp_path, environment)
    assert compiled == 2  # the evaluation, and the loop over rows
    files = sorted(tmp_path.glob("landscape-*.bin"))
    assert len(files) == 2
    assert run(tmp_path, environment) == (first, 0)
    for file, damage in zip(files, (b"", files[1].read_bytes()[:-7]), strict=True):
        file.write_bytes(damage)
    environment["PYTHONHASHSEED"] = "2"  # the source does not depend on the order of sets
    assert run(tmp_path, environment) == (first, 2)
    assert run(tmp_path, environment) == (first, 0)


def test_a_cache_without_room_costs_a_compilation(tmp_path):
    first, compiled = run(tmp_path / "missing" / "file", dict(os.environ))
    assert compiled == 2
    (tmp_path / "file").write_text("not a directory")
    assert run(tmp_path / "file" / "cache", dict(os.environ)) == (first, 2)


@pytest.mark.parametrize("n", [1000, 3])
def test_a_huge_plateau_is_told_at_once(n):
    x, n_symbol = sp.symbols("x N")
    tower = n_symbol ** (n_symbol**n_symbol)
    if n == 3:
        assert Landscape([x], x**2, {"N": n}, plateau=tower).plateau == 3.0**27
    else:
        with pytest.raises(ArgumentError, match="must give a finite plateau"):
            Landscape([x], x**2, {"N": n}, plateau=tower)


def test_a_negative_plateau_is_kept_and_has_no_levels():
    x, n = sp.symbols("x N")
    model = Landscape([x], x**2, {"N": 2}, plateau=-n)
    assert model.plateau == -2.0
    assert np.isnan(model.plateaus(np.array([[2.0], [3.0]]))).all()
    np.testing.assert_array_equal(model.plateaus(np.array([[-2.0]])), [2.0])


def test_events_are_not_named_as_what_a_sweep_returns():
    x = sp.Symbol("x")
    for name in {*METRICS, *RESERVED}:
        with pytest.raises(ArgumentError, match=f"{name}: is a reserved name"):
            Landscape([x], x**2, events={name: x <= 0.5})


@pytest.mark.parametrize("name", [*METRICS, *RESERVED])
def test_a_constant_or_parameter_named_as_a_result_confuses_no_sweep(name):
    x = sp.Symbol("x")
    if name == "loss":
        with pytest.raises(ArgumentError, match="loss: is a reserved name"):
            Landscape([x], x**2, {name: 1.0})
        return
    named = sp.Symbol(name)
    for model in (
        Landscape([x], (x - 1) ** 2 * named, {name: 1.0}, plateau=0.5),
        Landscape([named], (named - 1) ** 2, plateau=0.5),
    ):
        own = FlowMetric("t_transition", model)
        if name in ("t_transition", *RESERVED):
            with pytest.raises(ArgumentError, match=f"axes={name}: is the name of a result"):
                own.check_axes([name])
            continue
        found = sweep(
            own, {name: [0.25]}, vectorized=True, units=own.units, long_names=own.long_names
        )
        assert np.isfinite(found["t_transition"]).all()
        assert found[name].attrs == {"units": "1", "long_name": own.long_names[name]}
        assert "plateau" not in found[name].long_name


def test_no_name_is_that_of_a_mobility_in_sweeps():
    x, other = sp.symbols("x mobility_x")
    for arguments in (([x, other], x**2 + other**2), ([x], x**2 * other, {"mobility_x": 1.0})):
        with pytest.raises(ArgumentError, match="mobility_x: is the mobility of x in a sweep"):
            Landscape(*arguments)


def test_a_constant_that_is_named_like_a_mobility_may_be_negative_in_a_sweep():
    x, a = sp.symbols("x mobility_a")
    model = Landscape([x], x**2 + a, {"mobility_a": 1.0})
    found = FlowMetric("loss", model, t_end=1.0)(mobility_a=np.array([-1.0]))
    assert found["failure"].tolist() == [""]


def test_what_is_no_python_function_is_refused_in_one_line():
    x = sp.Symbol("x")
    for function in (len, np.sum, int):
        model = Landscape.from_functions([x], function, lambda theta: theta)
        with pytest.raises(ArgumentError, match="does not compile: The decorated object"):
            model.loss([1.0])
