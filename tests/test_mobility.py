"""Mobilities as functions: compiled once, checked at the start, and told where they fail."""

import pickle
import sys
import types

import numba
import numpy as np
import pytest
from scipy.integrate import solve_ivp

from cliff import NestedLogit, integrate, integrate_ensemble
from cliff.checks import ArgumentError
from cliff.mobility import UNIT_MOBILITIES, Mobilities, _compile
from cliff.trajectory import Status

START = (0.01, 0.01, 0.01)
PAPER = NestedLogit(8, 32)
METHODS = ["dopri5", "rk4", "euler", "lsoda", "radau"]

speed = 1.0


def growing(theta, base, slope):
    return 1.0, base, base + slope * theta[2] ** 2


def run(mobility, method="dopri5", t_end=150.0, **options):
    step = 0.05 if method in ("rk4", "euler") else None
    return integrate(PAPER, START, t_end, mobility, method, step=step, **options)


@pytest.mark.parametrize("method", METHODS)
def test_arguments_reach_the_function(method):
    tight = {} if method in ("rk4", "euler") else {"rtol": 1e-9, "atol": 1e-11}
    found = run(growing, method, 60.0, mobility_args=(0.5, 2.0), **tight)

    def field(t, theta):
        return -np.array(growing(theta, 0.5, 2.0)) * PAPER.gradient(theta)

    expected = solve_ivp(field, (0, 60.0), START, "DOP853", rtol=1e-11, atol=1e-13).y[:, -1]
    tolerance = 0.05 if method == "euler" else 1e-5
    np.testing.assert_allclose(found.theta[-1], expected, rtol=tolerance)
    assert found.settings["mobility_args"] == [0.5, 2.0]
    assert found.settings["mobility"] == "function growing"


def test_arguments_may_be_none_and_entries_of_any_type():
    @numba.njit
    def constant(theta):
        return np.array([0.3, 2.0, 0.7])

    def mixed(theta, a):
        return 1, a, theta[0] * 0 + 0.7

    reference = run((0.3, 2.0, 0.7))
    np.testing.assert_array_equal(run(constant).theta, reference.theta)
    reference = run((1.0, 2.0, 0.7))
    np.testing.assert_array_equal(run(mixed, mobility_args=[2]).theta, reference.theta)
    free = NestedLogit(4, 16, label_bias="free")

    def four(theta, a, b):
        return a, b, a + b, theta[3] ** 2

    ends = integrate(free, [*START, 0.2], 30.0, four, mobility_args=(0.5, 0.25))
    field = Mobilities.check(free, four, (0.5, 0.25), ends.theta[0])
    np.testing.assert_allclose(field.at(ends.theta[-1]), [0.5, 0.25, 0.75, ends.theta[-1, 3] ** 2])


def test_it_is_compiled_once_for_all_values():
    before = _compile.cache_info().misses
    falls = [run(growing, mobility_args=(a, 0.1)).transition().t_transition for a in (0.5, 1, 2)]
    assert falls[0] > falls[1] > falls[2]
    assert _compile.cache_info().misses <= before + 1
    assert _compile.cache_info().maxsize == 32


def test_each_trajectory_of_an_ensemble_has_its_own_arguments():
    rows = np.array([[0.5, 0.0], [1.0, 0.2], [2.0, 0.1]])
    ensemble = integrate_ensemble(PAPER, [START] * 3, 150.0, growing, mobility_args=rows)
    for i, row in enumerate(rows):
        alone = run(growing, mobility_args=row)
        np.testing.assert_array_equal(ensemble.theta[i], alone.theta[-1])
    none = integrate_ensemble(PAPER, np.empty((0, 3)), 150.0, growing, mobility_args=rows[1])
    assert none.theta.shape == (0, 3)
    shared = integrate_ensemble(PAPER, [START] * 3, 150.0, growing, mobility_args=rows[1])
    np.testing.assert_array_equal(shared.theta, np.repeat(ensemble.theta[1:2], 3, axis=0))


def test_the_default_means_one_for_every_component():
    free = NestedLogit(8, 32, label_bias="free")
    default = integrate(free, [*START, 0.0], 50.0)
    np.testing.assert_array_equal(
        default.theta, integrate(free, [*START, 0.0], 50.0, (1, 1, 1, 1)).theta
    )
    copied = pickle.loads(pickle.dumps(UNIT_MOBILITIES))  # equal, not the same object
    np.testing.assert_array_equal(default.theta, integrate(free, [*START, 0.0], 50.0, copied).theta)


def fails_beyond(theta, xi):
    if theta[2] > xi:
        raise ValueError("too far")
    return 1.0, 1.0, 1.0


def negative_beyond(theta, xi):
    return 1.0, 1.0, (1.0 if theta[2] <= xi else -1.0)


def infinite_beyond(theta, xi):
    return 1.0, 1.0, (1.0 if theta[2] <= xi else np.inf)


def divides(theta, xi):
    return 1.0, 1.0, 1.0 / (1.0 if theta[2] <= xi else 0.0)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize(
    ("mobility", "told"),
    [
        (fails_beyond, "raises ValueError at beta1 = "),
        (negative_beyond, "is (1, 1, -1) at beta1 = "),
        (infinite_beyond, "is (1, 1, inf) at beta1 = "),
        (divides, "raises ZeroDivisionError at beta1 = "),
    ],
)
def test_a_failure_on_the_way_ends_the_flow_there(method, mobility, told):
    whole = run(mobility, method, mobility_args=(1e9,))
    assert whole.status is Status.DONE
    assert whole.reason == ""
    found = run(mobility, method, mobility_args=(3.0,))
    assert found.status is Status.MOBILITY
    assert told in found.reason
    assert "\n" not in found.reason
    # what was reached lies on the path of the mobility that does not fail, and ends at xi = 3
    assert 0.0 < found.t[-1] < 93.0
    # (LSODA gives up at once, the others come closer)
    assert (2.5 if method == "lsoda" else 2.9) < found.theta[-1, 2] <= 3.0
    np.testing.assert_allclose(found.theta[-1], whole.path(found.t[-1]), atol=2e-3)


def test_steps_that_try_too_far_are_shortened_and_not_the_end():
    """At xi = 6.5 the mobility is the root of a number that trial steps make negative."""

    def root(theta, limit):
        return 1.0, 1.0, np.sqrt(limit - theta[2])

    found = integrate(PAPER, (4.0, 4.0, 6.0), 1e5, root, mobility_args=(6.5,), rtol=1e-2, atol=1e-2)
    assert found.status is Status.DONE
    assert 6.3 < found.theta[-1, 2] <= 6.5
    assert found.n_rejected > 0


def test_an_ensemble_tells_which_failed():
    rows = np.array([[1e9], [3.0], [1e9], [2.0]])
    ensemble = integrate_ensemble(PAPER, [START] * 4, 150.0, fails_beyond, mobility_args=rows)
    names = [list(Status)[code] for code in ensemble.status]
    assert names == [Status.DONE, Status.MOBILITY, Status.DONE, Status.MOBILITY]
    assert ensemble.reason.startswith("trajectory 1: the mobility raises ValueError at beta1")
    assert integrate_ensemble(PAPER, [START], 150.0).reason == ""
    for i in (1, 3):
        alone = run(fails_beyond, mobility_args=rows[i])
        np.testing.assert_array_equal(ensemble.theta[i], alone.theta[-1])
        assert ensemble.t[i] == alone.t[-1]


@pytest.mark.parametrize("method", METHODS)
def test_theta_is_the_functions_to_read_only(method):
    """Writing is refused at the start, and changes nothing later."""

    def writes(theta):
        theta[0] = 7.0
        return 1.0, 1.0, 1.0

    with pytest.raises(
        ArgumentError, match=r"mobility=writes: raises ValueError at the start.*read"
    ):
        run(writes, method)

    def writes_later(theta, xi):
        if theta[2] > xi:
            theta[:] = 7.0
        return 1.0, 1.0, 1.0

    found = run(writes_later, method, mobility_args=(1.0,))
    np.testing.assert_array_equal(found.theta, run((1.0, 1.0, 1.0), method).theta)


def test_a_frozen_global_is_refused(monkeypatch):
    def reads(theta):
        return 1.0, 1.0, speed

    assert run(reads, t_end=1.0).status is Status.DONE
    monkeypatch.setitem(globals(), "speed", 2.0)
    with pytest.raises(ArgumentError, match=r"mobility=reads: .*pass them as mobility_args"):
        run(reads, t_end=1.0)
    monkeypatch.setitem(globals(), "speed", 1.0)
    assert run(reads, t_end=1.0).status is Status.DONE


@numba.njit
def helper(theta):
    return RATE if theta[1] > 0.5 else 1.0


def through_a_helper(theta):
    return helper(theta), 1.0, 1.0


def by_a_word(theta):
    return (0.01 if MODE == "slow" and theta[1] > 0.5 else 1.0), 1.0, 1.0


def from_a_module(theta):
    return (settings.rate if theta[1] > 0.5 else 1.0), 1.0, 1.0


RATE, MODE = 1.0, "fast"
settings = types.ModuleType("settings")
settings.rate = 1.0


@pytest.mark.parametrize(
    ("mobility", "where", "name", "value"),
    [
        (through_a_helper, sys.modules[__name__], "RATE", 0.01),
        (by_a_word, sys.modules[__name__], "MODE", "slow"),
        (from_a_module, settings, "rate", 0.01),
    ],
)
def test_what_is_frozen_on_the_way_is_refused_too(monkeypatch, mobility, where, name, value):
    assert run(mobility).status is Status.DONE
    monkeypatch.setattr(where, name, value)
    with pytest.raises(ArgumentError, match="pass them as mobility_args"):
        run(mobility)


def test_an_array_that_becomes_too_short_fails():
    flow = run(lambda theta: np.ones(3) if theta[1] < 0.5 else np.ones(1))
    assert flow.status is Status.MOBILITY
    assert flow.theta[-1, 1] == pytest.approx(0.5, abs=1e-3)


def test_what_is_not_a_number_is_equal_to_itself():
    missing = float("nan")
    flow = run(lambda theta: (1.0, 1.0, missing if theta[0] > 1e9 else 1.0))
    assert flow.status is Status.DONE


def test_a_frozen_variable_that_matters_later_is_refused():
    """At the start both functions agree; only the value that was compiled tells."""
    late = np.array([2.0])

    def reads(theta):
        return 1.0, 1.0, (late[0] if theta[2] > 3.0 else 1.0)

    assert run(reads, t_end=1.0).status is Status.DONE
    late[0] = 5.0
    with pytest.raises(ArgumentError, match="pass them as mobility_args"):
        run(reads, t_end=1.0)


def test_a_function_that_was_compiled_before_with_another_value_is_refused(monkeypatch):
    @numba.njit
    def reads(theta):
        return 1.0, 1.0, speed

    reads(np.zeros(3))
    monkeypatch.setitem(globals(), "speed", 2.0)
    with pytest.raises(ArgumentError, match=r"mobility=reads: .*pass them as mobility_args"):
        run(reads, t_end=1.0)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"mobility_args": (1.0,)}, "mobility_args=.*needs a mobility that is a function"),
        ({"mobility": growing, "mobility_args": (1.0,)}, "mobility=growing: raises TypeError"),
        ({"mobility": growing, "mobility_args": (1.0, np.nan)}, "mobility_args=.*finite"),
        ({"mobility": growing, "mobility_args": ("a", "b")}, "mobility_args=.*real numbers"),
        ({"mobility": growing, "mobility_args": np.ones((2, 2))}, "mobility_args=.*one row"),
        ({"mobility": growing, "mobility_args": (-1.0, 1.0)}, "mobility=growing: must be 3 finite"),
        ({"mobility": lambda theta: theta[:2]}, "mobility=<lambda>: must be 3 finite"),
        ({"mobility": lambda theta: (1.0, 1.0, 1.0, 1.0)}, "mobility=<lambda>: must be 3 finite"),
        ({"mobility": lambda theta: [{}, 1, 2]}, "mobility=<lambda>: raises TypeError"),
        ({"mobility": lambda theta: eval("1.0, 1.0, 1.0")}, "mobility=<lambda>: must compile"),
    ],
)
def test_mistakes_are_named_before_any_step(change, message):
    with pytest.raises(ArgumentError, match=message) as caught:
        integrate(PAPER, START, 1.0, **change)
    assert "\n" not in str(caught.value)
    assert not str(caught.value).endswith(": ")
