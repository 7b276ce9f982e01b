"""The landscape with memory: against plain loops over contexts, its SymPy form, and in limits."""

import copy
import math
import pickle
from itertools import product

import mpmath
import numpy as np
import pytest
import reference_memory as reference
import sympy as sp

import cliff
from cliff import Data, NestedLogit, integrate, integrate_ensemble, theory
from cliff.checks import ArgumentError
from cliff.kernels import nested_logit as kernels
from cliff.kernels.generated import evaluate_rows
from cliff.metrics import FlowMetric
from cliff.nested_logit import ANSWERS
from cliff.symbolic.functions import CrossEntropy, LogSumExp, Softmax
from cliff.symbolic.memory import with_memory
from cliff.task import Task
from cliff.valleys import ANSWER_NAMES, UNDECIDED, basins, valleys

MIXED = {"p_novel": 0.3, "p_bursty": 0.6, "noise": 0.7}

SETTINGS = [
    (1, 1, "exact", Data(2, **MIXED)),
    (2, 2, "exact", Data(2, **MIXED)),
    (3, 5, "exact", Data(11, 1.4, **MIXED)),
    (4, 4, "exact", Data(9, **MIXED)),
    (2, 3, "exact", Data(3, burstiness=0, p_novel=0.4)),
    (4, 5, "exact", Data(5, 0.6, burstiness=2, **MIXED)),
    (4, 2, "exact", Data(5, burstiness=2, **MIXED)),
    (4, 4, "exact", Data(5, burstiness=4, **MIXED)),
    (3, 3, "exact", Data(5, 1.0, labels_drawn="replacement", **MIXED)),
    (4, 2, "exact", Data(5, labels_drawn="replacement", **MIXED)),
    (3, 1, "exact", Data(5, labels_drawn="replacement", **MIXED)),
    (4, 3, "exact", Data(5, burstiness=2, labels_drawn="replacement", **MIXED)),
    (3, 4, "mean", Data(5, 2.0, **MIXED)),
    (3, 2, "mean", Data(5, labels_drawn="replacement", **MIXED)),
    (1, 1, "exact", Data(3, dim=2, **MIXED)),
    (2, 3, "exact", Data(3, dim=1, **MIXED)),
    (3, 5, "exact", Data(11, 1.4, dim=4, **MIXED)),
    (4, 3, "exact", Data(5, 0.6, burstiness=2, labels_drawn="replacement", dim=6, **MIXED)),
    (4, 5, "exact", Data(5, burstiness=2, dim=3, **MIXED)),
    (3, 4, "mean", Data(5, 2.0, dim=3, **MIXED)),
]


def names(setting):
    n, labels, positions, data = setting
    memory = f"B={data.burstiness} C={data.n_groups} {data.labels_drawn} D={data.dim}"
    return f"N={n} L={labels} {positions} {memory}"


def model_of(n, labels, positions, data):
    return NestedLogit(n, labels, positions, "free", data)


def wild(rng, p, count):
    """Points from near the origin to deep in the saturated regions."""
    return rng.choice([0.1, 1.0, 4.0, 10.0], size=(count, 1)) * rng.normal(size=(count, p))


# ---- the formula --------------------------------------------------------------------------------


@pytest.mark.parametrize("setting", SETTINGS, ids=names)
def test_loss_and_answers_equal_the_plain_loops(setting, rng):
    model = model_of(*setting)
    theta = wild(rng, model.n_parameters, 2)
    loss, measures = model.loss(theta), model.measures(theta)
    for i, point in enumerate(theta):
        with mpmath.workdps(40):
            expected = reference.values(model, [mpmath.mpf(x) for x in point])
        assert loss[i] == pytest.approx(float(expected["loss"]), rel=2e-13, abs=1e-15), point
        assert measures["loss"][i] == pytest.approx(loss[i], rel=1e-13, abs=1e-15)
        for name in ANSWERS if model.n_labels > 1 else ():
            found = measures[name][i]
            assert found == pytest.approx(float(expected[name]), rel=1e-11, abs=1e-15), name


@pytest.mark.parametrize("setting", SETTINGS, ids=names)
def test_gradient_equals_high_precision_differences(setting, rng):
    model = model_of(*setting)
    theta = wild(rng, model.n_parameters, 1)[0]
    slopes = np.array(reference.gradient(model, theta), dtype=float)
    scale = max(np.abs(slopes).max(), 1e-6 * float(model.loss(theta)), 1e-300)
    np.testing.assert_allclose(model.gradient(theta) / scale, slopes / scale, atol=1e-11)


@pytest.mark.parametrize("setting", SETTINGS, ids=names)
def test_hessian_equals_differences_of_the_gradient(setting, rng):
    model, step = model_of(*setting), 1e-4
    theta = 2.0 * rng.normal(size=(5, model.n_parameters))
    hessian = model.hessian(theta)
    for i in range(model.n_parameters):
        shift = step * np.eye(model.n_parameters)[i]
        near, far = (
            (model.gradient(theta + s * shift) - model.gradient(theta - s * shift)) / (2 * s * step)
            for s in (1, 2)
        )
        np.testing.assert_allclose(hessian[:, i], (4 * near - far) / 3, atol=1e-10)


def number(expression, known):
    """An expression of softmaxes as a number of mpmath; `known` keeps what has been computed."""
    if expression not in known:
        if expression.is_Rational or expression.is_Float:
            known[expression] = mpmath.mpf(sp.Rational(expression).p) / sp.Rational(expression).q
        elif isinstance(expression, Softmax | CrossEntropy | LogSumExp):
            pairs = zip(expression.z, expression.w, strict=True)
            scores = [mpmath.exp(number(z, known)) * number(w, known) for z, w in pairs]
            whole = mpmath.fsum(scores)
            if isinstance(expression, Softmax):
                own = mpmath.exp(number(expression.z[expression.args[2]], known))
                known[expression] = own / whole if expression.w[expression.args[2]] else 0
            else:
                known[expression] = mpmath.log(whole)
            if isinstance(expression, CrossEntropy):
                known[expression] -= number(expression.z[expression.args[2]], known)
        else:
            of = {sp.Pow: mpmath.power, sp.exp: mpmath.exp, sp.log: mpmath.log}
            of |= {sp.Abs: abs, sp.sign: mpmath.sign, sp.DiracDelta: lambda *x: mpmath.mpf(0)}
            parts = [number(part, known) for part in expression.args]
            if expression.is_Add or expression.is_Mul:
                known[expression] = mpmath.fsum(parts) if expression.is_Add else mpmath.fprod(parts)
            else:
                known[expression] = of[expression.func](*parts)
    return known[expression]


@pytest.mark.parametrize("setting", [s for s in SETTINGS if s[2] == "exact"], ids=names)
def test_everything_equals_the_symbolic_statement(setting, rng):
    model = model_of(*setting)
    written = with_memory(model)
    parameters, loss = written.parameters, sp.sympify(written.expression)
    assert tuple(map(str, parameters)) == model.parameter_names
    entries = [(0, 0), (0, 1), (1, 2), (2, 4), (1, 3), (0, 4), (4, 4)]
    for theta in wild(rng, model.n_parameters, 2):
        with mpmath.workdps(60):
            step = mpmath.mpf(10) ** -15

            def value(*shifts, theta=theta, step=step):
                known = {p: mpmath.mpf(x) for p, x in zip(parameters, theta, strict=True)}
                for i, sign in shifts:
                    known[parameters[i]] += sign * step
                return number(loss, known)

            own = float(value())
            slopes = [
                float((value((i, 1)) - value((i, -1))) / (2 * step)) for i in range(len(theta))
            ]
            signs = list(product((1, -1), repeat=2))
            curves = [
                float(mpmath.fsum(a * b * value((i, a), (j, b)) for a, b in signs) / (4 * step**2))
                for i, j in entries
            ]
        hessian = model.hessian(theta)
        assert model.loss(theta) == pytest.approx(own, rel=1e-12, abs=1e-15)
        np.testing.assert_allclose(model.gradient(theta), slopes, rtol=1e-9, atol=1e-13)
        found = [hessian[entry] for entry in entries]
        np.testing.assert_allclose(found, curves, rtol=1e-8, atol=1e-12)
        np.testing.assert_array_equal(hessian, hessian.T)


@pytest.mark.parametrize("label_bias", [0.7, "free"])
@pytest.mark.parametrize(("n", "labels"), [(1, 1), (2, 2), (8, 32), (17, 20), (40, 60)])
def test_novel_sequences_alone_give_the_landscape_without_memory(n, labels, label_bias, rng):
    plain = NestedLogit(n, labels, label_bias=label_bias)
    model = NestedLogit(n, labels, label_bias=label_bias, memory=Data(n_classes=64, p_novel=1.0))
    p = plain.n_parameters
    theta = wild(rng, p + 1, 200)
    theta[0, :p] = 400.0  # beyond the fast kernel
    loss, gradient = model.loss_and_gradient(theta)
    expected = plain.loss_and_gradient(theta[:, :p])
    np.testing.assert_array_equal(loss, expected[0])
    np.testing.assert_array_equal(gradient[:, :p], expected[1])
    assert not gradient[:, p:].any()
    np.testing.assert_array_equal(model.hessian(theta)[:, :p, :p], plain.hessian(theta[:, :p]))
    measures, own = model.measures(theta), plain.measures(theta[:, :p])
    for name in ("ila1", "tila2", "tla2", "cla", "p_correct", "loss"):
        np.testing.assert_allclose(measures[name], own[name], rtol=1e-13, err_msg=name)
    np.testing.assert_allclose(measures["icl"], own["p_correct"], rtol=1e-13)


@pytest.mark.parametrize("dim", [None, 63])
@pytest.mark.parametrize(("n", "labels"), [(1, 2), (5, 9), (17, 17), (64, 100)])
def test_fast_and_direct_kernels_agree(n, labels, dim, rng):
    data = Data(300, 1.1, noise=0.4, p_novel=0.2, p_bursty=0.7, dim=dim)
    model = NestedLogit(n, labels, memory=data)
    theta = wild(rng, model.n_parameters, 30)
    rows, q = model.complete(theta), 4 + model.n_groups
    loss, gradient, hessian = np.empty(30), np.empty((30, q)), np.empty((30, 0, 0))
    measures = np.empty((30, kernels.N_MEASURES))
    outputs = loss, gradient, hessian, measures
    kernels.direct_batch(0, n, float(labels - n), rows, False, *outputs, model.constants_row)
    np.testing.assert_allclose(model.loss(theta), loss, rtol=1e-12)
    kept = [i for i in range(q) if i != 3]
    scale = np.abs(gradient[:, kept]).max(axis=1)[:, None]
    np.testing.assert_allclose(model.gradient(theta) / scale, gradient[:, kept] / scale, atol=1e-12)


@pytest.mark.parametrize("setting", SETTINGS, ids=names)
def test_finite_for_huge_parameters_of_every_sign(setting):
    model = model_of(*setting)
    signs = np.array(list(product([-1.0, 0.0, 1.0], repeat=5)))
    signs = np.concatenate([signs, np.tile(signs[:, 4:], model.n_groups)[:, 1:]], axis=1)
    for size in (1.7e308, 1e200, 1e6, 301.0, 299.0, 51.0, 49.0):
        theta = size * signs
        loss, gradient = model.loss_and_gradient(theta)
        assert np.isfinite(loss).all()
        assert (loss >= 0.0).all()
        assert np.isfinite(gradient).all()
        assert np.isfinite(model.hessian(theta)).all()
        for name, values in model.measures(theta).items():
            assert np.isfinite(values).all(), name
            assert name == "loss" or (values > -1e-12).all(), name
            assert name == "loss" or (values < 1 + 1e-12).all(), name


# ---- what follows from it -----------------------------------------------------------------------


@pytest.mark.parametrize("p_novel", [0.0, 0.4])
@pytest.mark.parametrize(("n", "labels"), [(1, 1), (4, 4), (4, 9), (8, 32), (6, 2)])
def test_the_wall_is_gone_when_labels_are_drawn(n, labels, p_novel):
    """The force on xi at the origin, −∂loss/∂xi."""
    data = {"n_classes": 40, "p_novel": p_novel}
    drawn = NestedLogit(n, labels, memory=Data(**data, labels_drawn="replacement"))
    force = -drawn.gradient(np.zeros(4))
    assert force[2] == pytest.approx((1 - 1 / labels) / (2 * n + 1), rel=1e-13)
    if labels >= n:
        force = -NestedLogit(n, labels, memory=Data(**data)).gradient(np.zeros(4))
        assert force[2] == pytest.approx((1 - n / labels) / (2 * n + 1), rel=1e-13, abs=1e-16)
    assert force[3] == pytest.approx((1 - p_novel) * (1 - 1 / labels), rel=1e-13)


@pytest.mark.parametrize("copies", [2, 4])
def test_copies_pull_as_one_class_that_is_seen_more_often(copies):
    """At the origin all tokens are alike: B of 2N + 1 against (N − B)/(N/B − 1) on each other."""
    n, labels = 8, 32
    model = NestedLogit(n, labels, memory=Data(burstiness=copies))
    distinct = n // copies
    force = copies * (1 - distinct / labels) / (2 * n + 1)
    assert -model.gradient(np.zeros(4))[2] == pytest.approx(force, rel=1e-13)


@pytest.mark.parametrize(("n", "copies"), [(4, 2), (6, 2), (6, 3)])
def test_the_mean_attention_to_other_classes_is_close_to_the_truth(n, copies):
    """Against all ways in which classes take their slots: the error is one of second order."""
    model = NestedLogit(n, 8, label_bias="free", memory=Data(burstiness=copies))
    if n // copies == 2:
        bound = 1e-14  # one other class: its attention is the mean
    for theta in ([0.5, 1.0, 2.0, 0.5, 0.3], [2.0, 4.0, 8.0, 1.0, 0.0], [3.0, -3.0, 8.0, 1.0, 1.0]):
        point = [mpmath.mpf(x) for x in theta]
        exact = float(reference.bursty(model, point, reference.plus(point[4]), exact=True)[0])
        error = exact - float(model.loss(theta))
        if n // copies == 2:
            assert abs(error) < bound
        else:
            assert 0.0 < error < 4e-3  # the logarithm of a mean of exponentials is convex in them


def test_the_mean_sum_over_drawn_labels_is_close_to_the_truth():
    """Against draws of the labels one by one, whose logarithms are averaged: Jensen's gap."""
    n, labels, count = 8, 32, 40_000
    model = NestedLogit(n, labels, memory=Data(p_bursty=0.0))
    rng = np.random.default_rng(1)
    drawn = rng.integers(0, labels, (count, n))
    counts = (drawn[:, :, None] == np.arange(labels)).sum(axis=1)
    for theta, bound in (([0.5, 1.0, 2.0, 0.0], 1e-4), ([3.0, 2.0, 30.0, 1.0], 0.1)):
        q = float(model.measures(theta)["tla2"]) / n
        logits = theta[2] * q * counts + np.where(np.arange(labels) == 0, theta[3], 0.0)
        losses = np.log(np.exp(logits).sum(axis=1)) - logits[:, 0]
        mean, error = losses.mean(), losses.std() / math.sqrt(count)
        gap = float(model.loss(theta)) - mean
        assert -4 * error < gap < bound + 4 * error
        # a chance of 2/L instead of 1/L for the correct label would be seen
        assert abs(float(model.loss([*theta[:3], theta[3] + 0.3])) - mean) > 4 * error + bound


def test_labels_of_a_task_are_as_the_landscape_takes_them():
    """Sequences by chance: how many labels of the context are the target's."""
    task = Task(n_pairs=4, n_labels=4, n_classes=400, dim=4, p_novel=0.0, p_bursty=0.0)
    batch = task.sample(np.random.default_rng(0), 20_000)
    found = np.bincount((batch.labels == batch.answer[:, None]).sum(axis=1), minlength=5) / 20_000
    binomial = np.array([math.comb(4, m) * 0.25**m * 0.75 ** (4 - m) for m in range(5)])
    np.testing.assert_allclose(found, binomial, atol=4 * 0.5 / math.sqrt(20_000))


# ---- crosstalk ----------------------------------------------------------------------------------


def memory_alone(memory, n_classes, n_labels, dim, noise=0.0):
    """The landscape's loss without attention to the context, where only the memory answers."""
    model = NestedLogit(2, n_labels, memory=Data(n_classes, noise=noise, dim=dim))
    return float(model.loss([0.0, 0.0, 0.0, memory]))


@pytest.mark.parametrize("zipf", [0.0, 1.1])
def test_an_infinite_dimension_has_no_crosstalk(zipf, rng):
    model = NestedLogit(4, 9, label_bias="free", memory=Data(20, zipf, **MIXED))
    theta = wild(rng, model.n_parameters, 50)
    for dim, bound in ((10**6, 1e-3), (10**12, 1e-9)):
        near = NestedLogit(4, 9, label_bias="free", memory=Data(20, zipf, dim=dim, **MIXED))
        scale = 1.0 + (theta[:, 4:] ** 2).sum(axis=1)
        difference = np.abs(near.loss(theta) - model.loss(theta)) / scale
        assert 0.0 < difference.max() < bound
    assert "dim" not in model.constants
    assert "dim" not in model.axes
    with pytest.raises(ArgumentError, match="dim="):
        model.with_constants(dim=63)


def test_a_memory_saturates_at_its_capacity():
    """omega/(1 + c·omega/2), which tends to 2/c; below 0 the noise makes things worse."""
    classes, labels, dim = 256, 16, 8
    c = classes / labels / dim
    for omega in (0.0, 1e-9, 0.3, 5.0, 1e3, 1e6, 1e12, 1e100, 1e300):
        expected = math.log1p((labels - 1) * math.exp(-omega / (1.0 + c * omega / 2.0)))
        assert memory_alone(omega, classes, labels, dim) == pytest.approx(expected, rel=1e-13)
    assert memory_alone(1e12, classes, labels, dim) == pytest.approx(
        math.log1p((labels - 1) * math.exp(-2.0 / c)), rel=1e-10
    )
    assert memory_alone(-0.3, classes, labels, dim) > memory_alone(-0.3, classes, labels, None)
    # a stranger meets the same noise, whatever the memories' signs
    model = NestedLogit(2, labels, memory=Data(classes, dim=dim, p_novel=1.0))
    plain = float(model.loss(np.zeros(4)))
    for omega in (0.3, -0.3):
        assert float(model.loss([0, 0, 0, omega])) > plain
        assert float(model.measures([0, 0, 0, omega])["icl"]) < 1 / labels


@pytest.mark.parametrize("zipf", [0.0, 1.1])
def test_derivatives_are_continuous_where_nothing_is_remembered(zipf):
    """There A has the Hessian c_c on its diagonal, which differences of the gradient approach."""
    model = NestedLogit(3, 8, memory=Data(20, zipf, dim=10, **MIXED))
    p, data = model.n_parameters, model.memory
    point = np.array([0.3, 0.8, 1.2, *np.zeros(p - 3)])
    hessian = model.hessian(point)
    plain = NestedLogit(3, 8, memory=Data(20, zipf, **MIXED))
    np.testing.assert_array_equal(model.gradient(point), plain.gradient(point))
    # all sequences in which the class is in the context meet the noise alike, novel or not
    alike = NestedLogit(3, 8, memory=Data(20, noise=0.7, p_bursty=sum(data.kinds[:2])))
    pull = -alike.gradient([*point[:3], 0.0])[3]
    expected = plain.hessian(point)
    expected[3:, 3:] += pull * np.diag(data.crosstalk(8))
    np.testing.assert_allclose(hessian, expected, rtol=1e-12, atol=1e-15)
    for size in (1e-3, 1e-6, 1e-12, 1e-170):
        for sign in (1.0, -1.0):
            near = point + np.r_[0, 0, 0, sign * size * np.arange(1, p - 2)]
            close = model.hessian(near)
            np.testing.assert_allclose(close, hessian, atol=30 * size + 1e-15)


@pytest.mark.parametrize("dim", [None, 7])
def test_the_flow_has_the_same_gradient(dim, rng):
    """What flows evaluate, against the gradient, and the event against its formula."""
    for label_bias in (0.3, "free"):
        data = Data(20, 1.1, dim=dim, **MIXED)
        model = NestedLogit(3, 8, label_bias=label_bias, memory=data)
        theta = rng.normal(size=(4, model.n_parameters))
        row, out = model.constants_row, np.zeros((4, model.n_out))
        evaluate_rows(model.address, theta, row, 1, int(model.n_work(row[None])[0]), out)
        loss, gradient = model.loss_and_gradient(theta)
        np.testing.assert_allclose(out[:, 0], loss, rtol=1e-13)
        np.testing.assert_allclose(out[:, 1:-1], gradient, rtol=1e-12, atol=1e-15)
        omega = theta[:, -data.n_groups :]
        noise = [float(reference.crosstalk(model, [mpmath.mpf(w) for w in row])) for row in omega]
        alone = np.log1p(7 * np.exp(np.array(noise)[:, None] - omega)) @ data.group_shares
        np.testing.assert_allclose(out[:, -1], alone - 0.5 * math.log(8), rtol=1e-12)


def test_the_dimension_is_a_constant_of_sweeps_and_files(tmp_path):
    model = NestedLogit(4, 8, memory=Data(64, dim=16))
    assert model.constants["dim"] == 16
    assert model.axes["dim"] == "dim"
    starts = np.full((2, 4), 0.01)
    ensemble = integrate_ensemble(model, starts, 30.0, constants={"dim": [4, 64]})
    for i, dim in enumerate((4, 64)):
        run = integrate(model.with_constants(dim=dim), starts[i], 30.0)
        np.testing.assert_allclose(ensemble.theta[i], run.theta[-1], rtol=1e-12)
    assert ensemble.loss[0] > ensemble.loss[1]
    ensemble.save(tmp_path / "ensemble.nc")
    assert cliff.load(tmp_path / "ensemble.nc") == ensemble
    failure = FlowMetric("loss", model, t_end=1.0)(dim=np.array([4.0, 4.5, 0.0]))["failure"]
    assert failure[0] == ""
    assert all("dim must be a whole number" in text for text in failure[1:])
    assert "$D$ = 16" in model.describe(model.constants)


def noisy_losses(sigma, margin, n_labels, count=100_000):
    """Losses where every wrong label has Gaussian noise, and their standard error."""
    noise = sigma * np.random.default_rng(5).normal(size=(count, n_labels - 1))
    losses = np.log1p(np.exp(noise - margin).sum(axis=1))
    return losses.mean(), losses.std() / math.sqrt(count)


def test_small_noise_is_averaged_to_second_order():
    """Neglected: √c·sigma³/4 by A itself, and of the logarithm's mean sigma²/(2(L − 1))."""
    classes, labels, dim = 512, 32, 63
    c = classes / (labels * dim)
    for sigma in (0.1, 0.2, 0.3):
        omega = sigma / math.sqrt(c)
        mean, error = noisy_losses(sigma, omega, labels)
        bound = math.sqrt(c) * sigma**3 / 4 + sigma**2 / (2 * (labels - 1)) + 4 * error
        assert abs(memory_alone(omega, classes, labels, dim) - mean) < bound
        # without the noise, or with twice its variance, the landscape would be seen to be wrong
        for other in (None, 31):
            wrong = memory_alone(omega, classes, labels, other)
            assert sigma < 0.2 or abs(wrong - mean) > bound


@pytest.mark.parametrize(
    ("sigma", "off", "plain_off"), [(1.0, -0.05, 0.03), (2.0, -0.26, 0.26), (3.0, -0.48, 1.08)]
)
def test_how_far_the_interpolation_is_off(sigma, off, plain_off):
    """Strangers, c = 1/8: A is too small from the start, but does not run away as sigma²/2."""
    classes, labels, dim = 256, 32, 64
    model = NestedLogit(2, labels, memory=Data(classes, dim=dim, p_novel=1.0))
    omega = sigma / math.sqrt(classes / (labels * dim))
    mean, error = noisy_losses(sigma, 0.0, labels)
    plain = math.log1p((labels - 1) * math.exp(sigma**2 / 2))
    assert float(model.loss([0, 0, 0, omega])) - mean == pytest.approx(off, abs=0.006 + 4 * error)
    assert plain - mean == pytest.approx(plain_off, abs=0.006 + 4 * error)


def test_items_add_noise_of_the_stated_variance_to_each_other():
    """A linear memory of the mean item of each class, asked with a new item of one of them.

    A memory of one noisy item of each class would have a variance 1 + noise² times as large.
    """
    classes, labels, dim, draws, omega = 64, 8, 32, 3000, 2.0
    rng = np.random.default_rng(6)
    for noise in (0.0, 0.7):
        rho = 1.0 / (1.0 + noise**2)
        expected = Data(classes, noise=noise, dim=dim).crosstalk(labels)[0] * omega**2
        assert expected == pytest.approx(classes / (labels * dim * rho) * omega**2)
        squares, singles, own = [], [], []
        for _ in range(draws):
            centres, spread = (rng.normal(0, dim**-0.5, (classes, dim)) for _ in range(2))
            single = math.sqrt(rho) * (centres + noise * spread)
            item = math.sqrt(rho) * (centres[0] + noise * rng.normal(0, dim**-0.5, dim))
            overlaps = omega / rho * math.sqrt(rho) * (centres @ item)
            logits = overlaps.reshape(-1, labels).sum(axis=0)  # class k has the label k mod L
            own.append(overlaps[0])
            squares.append((logits[1:] ** 2).mean())
            alone = omega / rho * (single @ item)
            singles.append((alone.reshape(-1, labels).sum(axis=0)[1:] ** 2).mean())
        error = np.std(squares) / math.sqrt(draws)
        assert abs(np.mean(own) - omega) < 4 * np.std(own) / math.sqrt(draws)
        assert abs(np.mean(squares) - expected) < 4 * error
        assert abs(np.mean(squares) - expected / 2) > 4 * error
        assert abs(np.mean(singles) - expected / rho) < 4 * error / rho


# ---- data ---------------------------------------------------------------------------------------


def test_groups_are_octaves_of_rank():
    data = Data(n_classes=10, zipf_exponent=1.2)
    assert data.first_ranks.tolist() == [1, 2, 4, 8]
    assert data.group_sizes.tolist() == [1, 2, 4, 3]
    expected = [float(share) for _, _, share in reference.groups(10, 1.2)]
    np.testing.assert_allclose(data.group_shares, expected, rtol=1e-14)
    even = Data(n_classes=10)
    assert (even.first_ranks, even.group_sizes, even.group_shares) == ([1], [10], [1.0])
    for classes in (2, 3, 4, 7, 8, 9, 512):  # as the task has them
        task = Task(n_pairs=2, n_labels=2, n_classes=classes, zipf_exponent=0.8, dim=1)
        data = Data.of(task)
        assert np.diff(task.group_edges).tolist() == data.group_sizes.tolist()
        np.testing.assert_allclose(data.group_shares, task.group_shares, rtol=1e-13)
    with pytest.raises(ValueError, match="read-only"):
        data.group_shares[0] = 1.0


def test_data_of_a_task():
    task = Task(n_pairs=4, n_labels=8, n_classes=32, zipf_exponent=1.0, burstiness=2, p_novel=0.25)
    data = Data.of(task)
    assert data == Data(32, 1.0, 2, 0.1, 1.0, 0.25, "distinct", 63)
    assert data.kinds == (0.25, 0.75, 0.0)
    assert Data(burstiness=0, p_novel=0.25).kinds == (0.25, 0.0, 0.75)


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        ({"n_classes": 1}, "n_classes=1: must be an integer of at least 2"),
        ({"n_classes": 2.5}, "n_classes=2.5"),
        ({"zipf_exponent": -1}, "zipf_exponent=-1: must be a number from 0 to 10"),
        ({"burstiness": -1}, "burstiness=-1"),
        ({"noise": math.nan}, "noise=nan"),
        ({"p_bursty": 1.5}, "p_bursty=1.5: must be a number from 0 to 1"),
        ({"p_novel": "all"}, "p_novel=all"),
        ({"labels_drawn": "drawn"}, "labels_drawn=drawn: must be one of distinct, replacement"),
        ({"dim": 0}, "dim=0: must be an integer of at least 1"),
        ({"dim": 1.5}, "dim=1.5"),
        ({"n_classes": 10**8, "zipf_exponent": 1}, "n_classes=100000000: must be at most 10000000"),
    ],
)
def test_bad_data_are_named(arguments, named):
    with pytest.raises(ArgumentError) as caught:
        Data(**arguments)
    assert named in str(caught.value)


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        ({"memory": 512}, "memory=512: must be a cliff.Data"),
        ({"memory": Data(burstiness=3)}, "burstiness=3: must divide the 8 pairs"),
        ({"n_labels": 7, "memory": Data()}, "n_labels=7: must be at least 8, the classes in a"),
        ({"memory": Data(31)}, "n_classes=31: must be at least 32, one for each label"),
        (
            {"n_labels": 2, "memory": Data(7, labels_drawn="replacement")},
            "n_classes=7: must be at least 8, the classes in a bursty context",
        ),
        (
            {"n_pairs": 32, "memory": Data(burstiness=4)},
            "burstiness=4: has more than 20000 ways to take its slots among 32",
        ),
        (
            {"n_pairs": 202, "n_labels": 202, "memory": Data(burstiness=2)},
            "burstiness=2: has more than 20000 ways to take its slots among 202",
        ),
        (
            {"positions": "mean", "memory": Data(burstiness=2)},
            "burstiness=2: must be 1 unless positions are exact",
        ),
    ],
)
def test_bad_models_are_named(arguments, named):
    with pytest.raises(ArgumentError) as caught:
        NestedLogit(**arguments)
    assert named in str(caught.value)
    assert "\n" not in str(caught.value)


def test_models_survive_copies_and_have_names():
    model = NestedLogit(4, 8, label_bias="free", memory=Data(20, 1.0, labels_drawn="replacement"))
    for other in (copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
        assert other == model
        assert hash(other) == hash(model)
        assert other.loss(np.ones(9)) == model.loss(np.ones(9))
    assert model.parameter_names[3:6] == ("beta2", "omega_1", "omega_2")
    assert "memory=Data(n_classes=20" in repr(model)
    assert "(ranks 16–20)" in model.labels["omega_5"]
    assert model.with_constants(n_pairs=2, p_novel=0.5).memory.p_novel == 0.5
    assert NestedLogit().settings() == {
        "n_pairs": 8,
        "n_labels": 32,
        "positions": "exact",
        "label_bias": 0.0,
    }


# ---- the flow -----------------------------------------------------------------------------------


def test_memory_alone_is_learned_at_a_known_time():
    """With xi held at 0: exp(omega)/(L − 1) + omega = t + 1/(L − 1), up to exp(omega) = √L + 1."""
    labels = 16
    run = integrate(
        NestedLogit(4, labels, memory=Data(n_classes=16)), np.zeros(4), 20.0, [0, 0, 0, 1]
    )
    root = math.sqrt(labels)
    expected = root / (labels - 1) + math.log(root + 1)
    assert run.events["memory"] == pytest.approx([expected], rel=1e-6)
    assert run.theta[-1, :3].tolist() == [0.0, 0.0, 0.0]


def test_the_event_is_where_the_weights_halve_the_loss_of_a_guess():
    data = Data(30, 1.3, p_novel=0.2)
    run = integrate(NestedLogit(4, 16, memory=data), np.full(8, 0.01), 200.0)
    omega = run.path(run.events["memory"][0])[3:]
    alone = data.group_shares @ np.log1p(15.0 * np.exp(-omega))
    assert alone == pytest.approx(0.5 * math.log(16), rel=1e-9)


def test_saved_flows_come_back(tmp_path):
    model = NestedLogit(4, 8, memory=Data(20, 1.0, p_novel=0.5, labels_drawn="replacement"))
    run = integrate(model, np.full(8, 0.01), 30.0)
    run.save(tmp_path / "run.nc")
    back = cliff.load(tmp_path / "run.nc")
    assert back == run
    assert back.model == model
    ensemble = integrate_ensemble(model, np.full((3, 8), 0.01), 30.0)
    ensemble.save(tmp_path / "ensemble.nc")
    assert cliff.load(tmp_path / "ensemble.nc") == ensemble
    assert ensemble.events["memory"][0] == pytest.approx(run.events["memory"][0], rel=1e-9)
    np.testing.assert_allclose(ensemble.theta[0], run.theta[-1], rtol=1e-9)


def test_constants_of_an_ensemble_differ_where_the_number_of_memories_does_not():
    model = NestedLogit(8, 32, memory=Data())
    constants = {
        "n_pairs": [4, 8, 8],
        "burstiness": [1, 2, 4],
        "noise": [0.0, 0.5, 1.0],
        "p_novel": [0.0, 0.3, 0.9],
        "n_classes": [32, 64, 128],
    }
    ensemble = integrate_ensemble(model, np.full((3, 4), 0.01), 50.0, constants=constants)
    for i in range(3):
        own = model.with_constants(**{name: values[i] for name, values in constants.items()})
        run = integrate(own, np.full(4, 0.01), 50.0)
        np.testing.assert_allclose(ensemble.theta[i], run.theta[-1], rtol=1e-12)
        assert ensemble.events["memory"][i] == pytest.approx(run.events["memory"][0], rel=1e-12)
    zipf = NestedLogit(8, 32, memory=Data(500, 1.0))
    start = np.full((2, zipf.n_parameters), 0.01)
    shares = integrate_ensemble(zipf, start, 5.0, constants={"zipf_exponent": [0.5, 2.0]})
    assert shares.theta[0, -1] > shares.theta[1, -1]  # rare classes are seen more often
    for constants, named in (
        ({"n_classes": [500, 512]}, "n_classes=512: must leave the number of memory logits 9"),
        ({"zipf_exponent": [0.0, 1.0]}, "zipf_exponent=0.0: must leave the number of memory"),
        ({"burstiness": [1, 3]}, "burstiness=3: must divide the 8 pairs (trajectory 1)"),
        ({"labels_drawn": [1, 2]}, "labels_drawn="),
    ):
        with pytest.raises(ArgumentError) as caught:
            integrate_ensemble(zipf, start, 5.0, constants=constants)
        assert named in str(caught.value)


def test_ends_are_named_by_who_answers():
    model = NestedLogit(4, 16, memory=Data(n_classes=16))
    context, weights, race = [10, 10, 10, 0], [0, 0, 0, 1], [10, 10, 10, 0.01]
    ensemble = integrate_ensemble(
        model, np.full((3, 4), 0.01), 1e4, mobility=np.array([context, weights, race], dtype=float)
    )
    ends = [ANSWER_NAMES[label] for label in basins(ensemble)]
    assert ends == ["induction", "memory", "induction"]
    assert (ensemble.loss < 0.01).all()
    # both are asked for
    mixed = NestedLogit(4, 16, memory=Data(n_classes=16, p_novel=0.5, p_bursty=0.5))
    end = integrate(mixed, np.full(4, 0.01), 1e4)
    assert ANSWER_NAMES[mixed.identify(end.theta[-1], end.loss[-1])] == "both"
    assert mixed.identify(end.theta[0], end.loss[0]) == UNDECIDED
    assert mixed.identify([0.0, 0.0, 0.0, 20.0], 0.9) == UNDECIDED
    with pytest.raises(ArgumentError, match="memory="):
        valleys(mixed)


def test_permuted_labels_tell_who_has_the_vote():
    model = NestedLogit(4, 16, memory=Data(n_classes=16))
    head, weights = [8.0, 30.0, 40.0, 0.0], [0.0, 0.0, 0.0, 20.0]
    found = model.measures([head, weights, [8.0, 30.0, 40.0, 60.0]])
    np.testing.assert_allclose(found["icl"], [1, 1 / 16, 1], atol=1e-3)
    np.testing.assert_allclose(found["iwl"], [1 / 16, 1, 1], atol=0.1)
    np.testing.assert_allclose(found["icl_swapped"], [1, 0, 0], atol=1e-3)


@pytest.mark.parametrize("metric", ["icl", "icl_swapped", "iwl", "t_memory", "memory", "basin"])
def test_metrics_of_sweeps(metric):
    model = NestedLogit(4, 16, memory=Data(n_classes=16))
    function = FlowMetric(metric, model, t_end=100.0)
    p_novel = np.array([0.0, 0.5, 0.9])
    found = function(p_novel=p_novel)
    assert (found["failure"] == "").all()
    assert np.isfinite(found[metric]).any()
    for share, value in zip(p_novel, found[metric], strict=True):
        own = model.with_constants(p_novel=float(share))
        run = integrate(own, np.full(4, 0.01), 100.0, [1, 1, 1, 1 / 16])  # 16 classes share it
        if metric in ("t_memory", "memory"):
            first = [*run.events["memory"], math.nan][0]
            assert value == pytest.approx(first, rel=1e-9, nan_ok=True)
        elif metric == "basin":
            assert value == run.model.identify(run.theta[-1], run.loss[-1], 0.2)
        else:
            assert value == pytest.approx(float(run.measures()[metric][-1]), rel=1e-9)


def test_cells_without_a_landscape_say_why():
    function = FlowMetric("loss", NestedLogit(8, 32, memory=Data(500, 1.0)), t_end=1.0)
    failure = function(classes=np.array([16.0, 300.0, 600.0]))["failure"]
    assert failure[0].startswith("n_classes must be at least 32")
    assert failure[1] == ""
    assert failure[2].startswith("n_classes must leave the number of memory logits 9: from 256 to")
    failure = function(burstiness=np.array([1.0, 2.0, 3.0]))["failure"]
    assert failure.tolist() == ["", "", "burstiness must divide the 8 pairs"]
    assert function(labels=np.array([7.0, 8.0]))["failure"].tolist() == [
        "fewer labels than pairs",
        "",
    ]


def test_closed_forms_that_know_no_memory_refuse_it():
    with pytest.raises(ArgumentError, match="memory="):
        theory.slow_phase(NestedLogit(memory=Data()), [1.0])
    with pytest.raises(ArgumentError, match="must have memory"):
        with_memory(NestedLogit())
    with pytest.raises(ArgumentError, match="at most 400 tokens"):
        with_memory(NestedLogit(memory=Data(burstiness=2)))


def test_the_levels_of_a_picture_are_what_their_names_say():
    """A guess among the labels of the context, at a classifier that knows labels and no match."""
    for copies in (1, 2, 4):
        model = NestedLogit(8, 32, memory=Data(64, burstiness=copies, p_novel=1.0))
        levels = model.reference_losses
        (guess,) = (value for name, value in levels.items() if "guess in context" in name)
        assert model.loss([0.0, 0.0, 400.0, 0.0]) == pytest.approx(guess, abs=1e-3)
        assert math.log(8) in levels.values()
    for data in (Data(64, burstiness=8), Data(64, labels_drawn="replacement")):
        assert not any("guess" in name for name in NestedLogit(8, 32, memory=data).reference_losses)


def test_titles_tell_labels_that_are_drawn():
    model = NestedLogit(8, 4, memory=Data(64, labels_drawn="replacement"))
    assert "labels with replacement" in model.describe(model.constants)
    assert "replacement" not in NestedLogit(memory=Data(64)).describe({})
