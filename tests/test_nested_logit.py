"""The compiled landscape against its definition, and at the ends of its range."""

import copy
import multiprocessing
import time
from concurrent.futures import ProcessPoolExecutor

import mpmath
import numpy as np
import pytest
import reference

from cliff import NestedLogit
from cliff.checks import ArgumentError
from cliff.nested_logit import MEASURES

SIZES = [(1, 1), (1, 4), (2, 2), (3, 5), (4, 16), (8, 32), (9, 9), (16, 17), (17, 170), (40, 60)]


def random_theta(rng, p, count):
    """Points from near the origin to deep in the saturated regions."""
    scale = rng.choice([0.1, 1.0, 4.0, 10.0], size=(count, 1))
    return scale * rng.normal(size=(count, p))


def test_anchors_at_a_point():
    model = NestedLogit(8, 32)
    loss, gradient = model.loss_and_gradient([0.7, 1.3, 2.1])
    # the same digits come out of the plain loops in reference.py
    assert loss == pytest.approx(3.338316011753, abs=1e-12)
    assert loss == pytest.approx(float(reference.exact(8, 32, [0.7, 1.3, 2.1])["loss"]), abs=1e-14)
    np.testing.assert_allclose(gradient, [-0.034620220, -0.030839898, -0.059951421], atol=1e-9)


def test_no_digit_has_changed():
    """Values that the first version computed."""
    theta = np.random.default_rng(5).normal(size=(4, 4)) * 2
    losses = {
        ("exact", 8, 32): [3.4984406303520146, 3.452528061100791],
        ("exact", 40, 40): [3.6888538433347593, 3.687981334842986],
        ("mean", 8, 32): [3.50921772172788, 3.311233834335296],
    }
    slopes = {
        ("exact", 8, 32): [
            -0.010366413521548155, -0.004366940810097956, -0.0242020345569503,
            -0.012132339603545872,
        ],
        ("exact", 40, 40): [
            -0.000879682672665281, -0.00043104965203319434, -0.0016462296286248333,
            -0.0008296340639637284,
        ],
        ("mean", 8, 32): [-0.08824687307392277, -0.04207283025317147, -0.2819787995600477, 0.0],
    }  # fmt: skip
    for (positions, n, labels), expected in losses.items():
        loss, gradient = NestedLogit(n, labels, positions, "free").loss_and_gradient(theta)
        np.testing.assert_allclose(loss[[0, 2]], expected, rtol=1e-15)
        np.testing.assert_allclose(gradient[2], slopes[positions, n, labels], rtol=4e-15)


@pytest.mark.parametrize("positions", ["exact", "mean"])
@pytest.mark.parametrize(("n", "labels"), [(1, 1), (1, 3), (2, 2), (5, 5), (5, 9), (12, 20)])
def test_accuracy_counts_right_answers_and_shares_ties(positions, n, labels):
    """On a grid on which logits, and with them probabilities, are equal in many ways."""
    values = [-3.0, 0.0, 2.0]
    theta = np.array(np.meshgrid(values, values, values)).reshape(3, -1).T
    found = NestedLogit(n, labels, positions).measures(theta)["accuracy"]
    with mpmath.workdps(40):
        for point, accuracy in zip(theta, found, strict=True):
            exact = [mpmath.mpf(x) for x in point]
            expected = float(reference.OF_POSITIONS[positions](n, labels, exact)["accuracy"])
            assert accuracy == pytest.approx(expected, rel=1e-14), point
    assert NestedLogit(n, labels, positions).measures([0, 0, 0])["accuracy"] == 1.0 / labels


def test_accuracy_and_probability_of_the_correct_label_differ():
    """All labels of the context are attended alike but for the match, which is ahead by little."""
    measures = NestedLogit(8, 32).measures([0.01, 0.01, 0.01])
    assert measures["accuracy"] == 1.0
    assert measures["p_correct"] == pytest.approx(1 / 32, rel=1e-2)


@pytest.mark.parametrize("positions", ["exact", "mean"])
@pytest.mark.parametrize(("n", "labels"), SIZES)
def test_no_classifier_knows_nothing(positions, n, labels, rng):
    theta = random_theta(rng, 3, 20)
    theta[:, 2] = 0.0
    model = NestedLogit(n, labels, positions)
    np.testing.assert_allclose(model.loss(theta), np.log(labels), rtol=1e-14)


@pytest.mark.parametrize(("n", "labels"), SIZES)
def test_origin_is_critical_only_without_absent_labels(n, labels):
    gradient = NestedLogit(n, labels).gradient(np.zeros(3))
    expected = [0.0, 0.0, -(1.0 - n / labels) / (2 * n + 1)]
    np.testing.assert_allclose(gradient, expected, atol=1e-16, rtol=1e-14)


@pytest.mark.parametrize("label_bias", [0.0, 1.9, "free"])
@pytest.mark.parametrize("positions", ["exact", "mean"])
@pytest.mark.parametrize(("n", "labels"), SIZES)
def test_loss_and_measures_equal_the_plain_loops(positions, n, labels, label_bias, rng):
    model = NestedLogit(n, labels, positions, label_bias)
    theta = random_theta(rng, model.n_parameters, 6)
    loss, measures = model.loss(theta), model.measures(theta)
    for i, point in enumerate(theta):
        complete = point if label_bias == "free" else [*point, label_bias]
        with mpmath.workdps(30):  # scores + L − N cancels digits
            expected = reference.OF_POSITIONS[positions](n, labels, complete)
        for name, value in expected.items():
            found = measures[name][i]
            assert found == pytest.approx(float(value), rel=1e-12, abs=1e-15), (name, point)
        assert loss[i] == pytest.approx(float(expected["loss"]), rel=1e-12, abs=1e-15)


def test_loss_equals_the_plain_loops_for_every_n(rng):
    for n in range(1, 41):
        labels = int(rng.integers(n, 10 * n + 1))
        theta = random_theta(rng, 3, 1)[0]
        expected = float(reference.exact(n, labels, theta)["loss"])
        assert NestedLogit(n, labels).loss(theta) == pytest.approx(
            expected, rel=1e-12, abs=1e-15
        ), (
            n,
            labels,
        )


@pytest.mark.parametrize("positions", ["exact", "mean"])
@pytest.mark.parametrize(("n", "labels"), [(2, 2), (3, 5), (8, 32), (9, 9), (18, 40)])
def test_gradient_and_hessian_equal_high_precision_differences(positions, n, labels, rng):
    model = NestedLogit(n, labels, positions, "free")
    for theta in random_theta(rng, 4, 3):
        slopes = np.array(reference.gradient(positions, n, labels, theta), dtype=float)
        # relative to the largest component, or to the loss where the gradient has all but vanished
        scale = max(np.abs(slopes).max(), 1e-6 * float(model.loss(theta)))
        np.testing.assert_allclose(model.gradient(theta) / scale, slopes / scale, atol=1e-11)
        if n <= 9:
            curves = np.array(reference.hessian(positions, n, labels, theta), dtype=float)
            np.testing.assert_allclose(model.hessian(theta), curves, atol=1e-8, rtol=1e-8)


def test_gradient_is_the_slope_of_the_loss_at_large_n(rng):
    """Beyond NEAR labels are summed by a series: check it against the kernel without one."""
    from cliff.kernels import nested_logit as kernels

    for n, labels in [(33, 50), (64, 256), (300, 1200), (1024, 1024)]:
        model = NestedLogit(n, labels, label_bias="free")
        theta = random_theta(rng, 4, 12)
        loss, gradient = np.empty(12), np.empty((12, 4))
        hessian, measures = np.empty((12, 4, 4)), np.empty((12, kernels.N_MEASURES))
        outputs = loss, gradient, hessian, measures
        kernels.direct_batch(0, n, float(model.n_absent), theta, False, *outputs)
        fast_loss, fast_gradient = model.loss_and_gradient(theta)
        np.testing.assert_allclose(fast_loss, loss, rtol=1e-12)
        for i, name in enumerate(MEASURES[:5]):
            np.testing.assert_allclose(
                model.measures(theta)[name], measures[:, i], rtol=1e-12, err_msg=name
            )
        scale = np.maximum(np.abs(gradient).max(axis=1), 1e-6 * loss)[:, None]
        np.testing.assert_allclose(fast_gradient / scale, gradient / scale, atol=1e-11)


@pytest.mark.parametrize("positions", ["exact", "mean"])
@pytest.mark.parametrize(("n", "labels"), [(1, 1), (1, 2), (2, 2), (8, 8), (8, 32), (40, 400)])
def test_finite_for_huge_parameters_of_every_sign(positions, n, labels):
    signs = np.array(np.meshgrid(*[[-1.0, 0.0, 1.0]] * 4)).reshape(4, -1).T
    model = NestedLogit(n, labels, positions, "free")
    for size in (1.7e308, 1e290, 1e200, 1e155, 1e120, 1e6, 299.0, 301.0, 50.0):
        loss, gradient = model.loss_and_gradient(size * signs)
        assert np.isfinite(loss).all()
        assert np.isfinite(gradient).all()
        assert (loss >= 0.0).all()
        assert np.isfinite(model.hessian(size * signs)).all()
        assert all(np.isfinite(values).all() for values in model.measures(size * signs).values())


def test_a_large_xi_stays_linear_while_attention_is_spread(rng):
    """The fast kernel's range: xi·q matters, and q is small where the context is long."""
    from cliff.kernels import nested_logit as kernels

    n, labels = 300, 1200
    model, theta = NestedLogit(n, labels), rng.normal(size=(20, 3))
    theta[:, 2] = rng.uniform(300.0, 10_000.0, 20)
    loss, gradient = np.empty(20), np.empty((20, 4))
    others = np.empty((20, 4, 4)), np.empty((20, kernels.N_MEASURES))
    rows = model.complete(theta)
    outputs = loss, gradient, *others
    kernels.direct_batch(0, n, float(labels - n), rows, False, *outputs)
    np.testing.assert_allclose(model.loss(theta), loss, rtol=1e-12)
    scale = np.abs(gradient).max(axis=1)[:, None]
    np.testing.assert_allclose(model.gradient(theta) / scale, gradient[:, :3] / scale, atol=1e-11)


def test_measures_of_long_contexts_take_no_time():
    model = NestedLogit(100_000, 400_000)
    model.measures([0.01, 0.01, 0.01])
    began = time.process_time()
    for theta in ([0.01, 0.01, 0.01], [0.5, 1.0, 250.0], [2.0, 6.0, 100.0], [0.1, 0.1, 3e5]):
        measures = model.measures(theta)
        assert 0.0 < measures["p_correct"] <= measures["cla"] <= 1.0
    assert time.process_time() - began < 2.0  # minutes if it were quadratic


def test_models_survive_copies_and_processes():
    model = NestedLogit(np.int64(4), 16, "mean", "free")
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
        sent = pool.submit(copy.copy, model).result()
    for other in (copy.copy(model), copy.deepcopy(model), sent):
        assert other == model
        assert hash(other) == hash(model)
        assert other.loss([0.1, 0.2, 0.3, 0.4]) == model.loss([0.1, 0.2, 0.3, 0.4])
    assert model != NestedLogit(4, 16)
    assert repr(NestedLogit(4, 16)) == (
        "NestedLogit(n_pairs=4, n_labels=16, positions='exact', label_bias=0.0)"
    )


def test_fast_and_direct_kernels_meet_at_their_border():
    model = NestedLogit(8, 32)
    inside, outside = np.array([2.0, 299.999999, 3.0]), np.array([2.0, 300.000001, 3.0])
    below, above = model.loss_and_gradient(inside), model.loss_and_gradient(outside)
    np.testing.assert_allclose(below[0], above[0], rtol=1e-6)
    np.testing.assert_allclose(below[1], above[1], rtol=1e-6, atol=1e-12)


def test_mean_field_does_not_feel_the_label_bias(rng):
    theta = random_theta(rng, 4, 30)
    model = NestedLogit(8, 32, "mean", "free")
    np.testing.assert_array_equal(model.loss(theta), NestedLogit(8, 32, "mean").loss(theta[:, :3]))
    assert not model.gradient(theta)[:, 3].any()
    np.testing.assert_allclose(model.hessian(theta)[:, 3], 0.0, atol=1e-15)


def test_any_batch_shape(rng):
    model = NestedLogit(5, 9)
    theta = rng.normal(size=(3, 1, 4, 3))
    assert model.loss(theta).shape == (3, 1, 4)
    assert model.gradient(theta).shape == (3, 1, 4, 3)
    assert model.hessian(theta).shape == (3, 1, 4, 3, 3)
    assert model.measures(theta)["cla"].shape == (3, 1, 4)
    assert model.loss(theta[0, 0, 0]).shape == ()
    assert model.loss(np.empty((0, 3))).shape == (0,)
    assert model.loss(theta[2, 0, 3]) == model.loss(theta)[2, 0, 3]
    assert model.loss([1, 2, 3]) == model.loss(np.array([1.0, 2.0, 3.0]))
    assert model.loss(theta.astype(np.float32)).dtype == np.float64


def test_large_batches_do_not_depend_on_how_they_are_cut(rng):
    model = NestedLogit(8, 32)
    theta = random_theta(rng, 3, 20_001)
    loss, gradient = model.loss_and_gradient(theta)
    for i in (0, 1, 4095, 4096, 20_000):
        assert model.loss(theta[i]) == loss[i]
        np.testing.assert_array_equal(model.gradient(theta[i]), gradient[i])


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        ({"n_pairs": 0}, "n_pairs=0"),
        ({"n_pairs": 2.5}, "n_pairs=2.5"),
        ({"n_pairs": True}, "n_pairs=True"),
        ({"n_pairs": 8, "n_labels": 7}, "n_labels=7: must be at least the number of pairs, 8"),
        ({"n_pairs": "8"}, "n_pairs='8': must be an integer"),
        ({"n_labels": "32"}, "n_labels='32': must be an integer"),
        ({"label_bias": "1"}, "label_bias='1': must be a number"),
        ({"n_pairs": 10**8, "n_labels": 10**8}, "n_pairs=100000000: must be at most 10000000"),
        ({"positions": "sinusoidal"}, "positions=sinusoidal: must be one of exact, mean"),
        ({"label_bias": "loose"}, "label_bias=loose"),
        ({"label_bias": np.nan}, "label_bias=nan"),
    ],
)
def test_bad_models_are_named(arguments, named):
    with pytest.raises(ArgumentError) as caught:
        NestedLogit(**arguments)
    assert named in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "theta",
    [
        [1.0, 2.0],
        3.0,
        [[0.0, 0.0, np.nan]],
        [np.inf, 0.0, 0.0],
        ["a", "b", "c"],
        [1j, 0, 0],
        [[1], []],
        np.ma.masked_array([1.0, 2.0, 3.0], mask=[False, True, False]),
    ],
)
def test_bad_theta_is_named(theta):
    model = NestedLogit(8, 32)
    for method in (model.loss, model.gradient, model.hessian, model.measures):
        with pytest.raises(ArgumentError, match="theta="):
            method(theta)
