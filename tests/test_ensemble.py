"""Ensembles: the same trajectories as alone, whatever the threads, the order and the company."""

import numpy as np
import pytest

import cliff
from cliff import NestedLogit, integrate, integrate_ensemble
from cliff.checks import ArgumentError

PAPER = NestedLogit(8, 32)


@pytest.fixture(scope="module")
def starts():
    return 0.1 * np.random.default_rng(3).normal(size=(400, 3))


def test_equals_single_calls_bit_for_bit(starts):
    ensemble = integrate_ensemble(PAPER, starts[:20], 300.0)
    for i in range(20):
        run = integrate(PAPER, starts[i], 300.0)
        np.testing.assert_array_equal(ensemble.theta[i], run.theta[-1])
        for name, times in ensemble.events.items():
            assert [times[i]] == run.events[name][:1].tolist() or np.isnan(times[i])
        assert ensemble.loss[i] == run.loss[-1]
        assert ensemble.n_steps[i] == run.n_steps
        assert ensemble.t_transition[i] == run.transition().t_transition
        assert ensemble.width[i] == run.transition().width
        assert ensemble.abruptness[i] == run.transition().abruptness


def test_does_not_depend_on_threads_or_order(starts):
    one = integrate_ensemble(PAPER, starts, 300.0, workers=1)
    assert one == integrate_ensemble(PAPER, starts, 300.0, workers=2)
    assert one == integrate_ensemble(PAPER, starts, 300.0, workers=7)
    shuffle = np.random.default_rng(4).permutation(len(starts))
    mixed = integrate_ensemble(PAPER, starts[shuffle], 300.0)
    np.testing.assert_array_equal(mixed.theta, one.theta[shuffle])
    for name, times in one.events.items():
        np.testing.assert_array_equal(mixed.events[name], times[shuffle])


def test_parameters_may_differ_per_trajectory(rng):
    m = 60
    pairs = rng.integers(1, 20, m)
    labels = pairs + rng.integers(0, 40, m)
    mobility = rng.uniform(0.2, 2.0, (m, 3))
    starts = 0.3 * rng.normal(size=(m, 3))
    counts = {"n_pairs": pairs, "n_labels": labels}
    ensemble = integrate_ensemble(PAPER, starts, 200.0, mobility, constants=counts)
    np.testing.assert_array_equal(ensemble.constants["n_pairs"], pairs)
    np.testing.assert_array_equal(ensemble.constants["label_bias"], np.zeros(m))
    for i in range(m):
        model = NestedLogit(int(pairs[i]), int(labels[i]))
        run = integrate(model, starts[i], 200.0, mobility[i])
        np.testing.assert_array_equal(ensemble.theta[i], run.theta[-1])
        for name, times in ensemble.events.items():
            assert [times[i]] == run.events[name][:1].tolist() or np.isnan(times[i])


def test_free_label_bias_and_mean_field(rng):
    free = NestedLogit(4, 16, label_bias="free")
    starts = 0.1 * rng.normal(size=(5, 4))
    ensemble = integrate_ensemble(free, starts, 100.0)
    assert ensemble.theta.shape == (5, 4)
    np.testing.assert_array_equal(ensemble.theta[3], integrate(free, starts[3], 100.0).theta[-1])
    mean = NestedLogit(8, 32, "mean")
    both = integrate_ensemble(mean, starts[:, :3], 100.0, constants={"n_pairs": [8, 8, 4, 4, 2]})
    np.testing.assert_array_equal(
        both.theta[2], integrate(NestedLogit(4, 32, "mean"), starts[2, :3], 100.0).theta[-1]
    )


def test_each_trajectory_has_its_own_status():
    starts = np.array([[0.01, 0.01, 0.01], [6.0, 8.0, 30.0]])
    ensemble = integrate_ensemble(PAPER, starts, 300.0, max_steps=20)
    assert ensemble.done.tolist() == [False, True]
    assert ensemble.t[0] < 300.0
    assert ensemble.n_steps[0] == 20


def test_stopping_leaves_the_rest_marked(starts):
    seen = []
    ensemble = integrate_ensemble(
        PAPER, starts, 300.0, workers=1, progress=lambda n: bool(seen.append(n)) or len(seen) == 2
    )
    assert ensemble.done.sum() == sum(seen) < len(starts)
    np.testing.assert_array_equal(ensemble.theta[~ensemble.done], starts[~ensemble.done])


def test_progress_adds_up(starts):
    seen = []
    integrate_ensemble(PAPER, starts, 10.0, progress=seen.append)
    assert sum(seen) == len(starts)


def test_round_trip(starts, tmp_path):
    ensemble = integrate_ensemble(PAPER, starts[:7], 300.0)
    back = cliff.load(ensemble.save(tmp_path / "ensemble.nc"))
    assert back == ensemble
    np.testing.assert_array_equal(back.theta0, starts[:7])
    assert back.model == PAPER
    assert back.provenance == ensemble.provenance


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"theta0": [0.0, 0.0, 0.0]}, "theta0"),
        ({"method": "lsoda"}, "method"),
        ({"workers": 0}, "workers"),
        ({"constants": {"n_pairs": [2, 3]}}, "n_pairs"),
        ({"constants": {"n_pairs": [2.0] * 400}}, "n_pairs"),
        ({"constants": {"n_labels": 7}}, "n_labels"),
        ({"constants": {"n_labels": 2**60}}, "n_labels"),
        ({"constants": {"n_pairs": np.ma.masked_array([8] * 400, mask=[True] * 400)}}, "n_pairs"),
        ({"mobility": np.ones((3, 3))}, "mobility"),
        ({"mobility": -np.ones((400, 3))}, "mobility"),
    ],
)
def test_bad_arguments_are_named(starts, change, named):
    arguments = {"theta0": starts, "t_end": 10.0} | change
    with pytest.raises(ArgumentError) as caught:
        integrate_ensemble(PAPER, **arguments)
    assert str(caught.value).startswith(f"{named}=")
    assert "\n" not in str(caught.value)
