"""The flow against independent solvers, closed forms and the identities that it must obey."""

import numpy as np
import pytest
from scipy.integrate import quad, solve_ivp
from scipy.special import lambertw

from cliff import NestedLogit, integrate
from cliff.checks import ArgumentError
from cliff.flow import _Batch, _constants, _Flow
from cliff.mobility import Mobilities
from cliff.rules import Gradient
from cliff.scipy_methods import VectorField, locate_crossing
from cliff.steppers import STEPPERS, Numerics
from cliff.trajectory import Status, TransitionStatus

START = (0.01, 0.01, 0.01)
PAPER = NestedLogit(8, 32)


def field_of(model, mobility=(1.0, 1.0, 1.0), args=()):
    """The right-hand side of the flow as SciPy wants it."""
    return VectorField(Mobilities.check(model, mobility, args, np.array(START)))


def batch_at(start, numerics):
    """A flow of the paper's setting, a batch of one trajectory of it, and the scratch for it."""
    mobilities = Mobilities.check(PAPER, (1.0, 1.0, 1.0), (), np.array(start))
    flow = _Flow.check(mobilities, numerics, Gradient(), None)
    constants, levels, n_work = _constants(PAPER)
    return flow, _Batch.at(flow, np.array([start]), constants, levels), n_work


def truth(model, start, t, mobility=(1.0, 1.0, 1.0), method="DOP853"):
    """theta at times t from SciPy near the limit of its tolerance."""
    run = solve_ivp(
        field_of(model, mobility),
        (0.0, t[-1]),
        np.array(start),
        method,
        t_eval=t,
        rtol=2.3e-14,
        atol=1e-15,
    )
    return run.y.T


def test_transition_times_of_the_anchors():
    exact = integrate(PAPER, START, 200.0).transition()
    assert exact.t_transition == pytest.approx(94.249, abs=2e-3)
    assert exact.status is TransitionStatus.REACHED
    mean = integrate(NestedLogit(8, 32, "mean"), np.zeros(3), 200.0).transition()
    assert mean.t_transition == pytest.approx(48.996, abs=2e-3)


@pytest.mark.parametrize("rtol", [1e-4, 1e-6, 1e-9])
@pytest.mark.parametrize("model", [PAPER, NestedLogit(8, 32, "mean"), NestedLogit(3, 3)])
def test_error_stays_within_ten_tolerances(model, rtol):
    start = (0.3, 0.8, 1.5)
    t = np.linspace(0.0, 20.0, 41)  # up to the cliff and down
    path = integrate(model, start, 20.0, rtol=rtol, atol=rtol, t_eval=t)
    expected = truth(model, start, t)
    error = np.abs(path.theta - expected) / (rtol * (1.0 + np.abs(expected)))
    # local errors are amplified by the instability of the path itself
    growth = np.exp(max(0.0, -np.linalg.eigvalsh(model.hessian(expected)).min()) * 5.0)
    assert error.max() <= 10.0 * max(1.0, growth)


@pytest.mark.parametrize(
    ("method", "steps", "order", "tolerance"),
    [
        ("dopri5", np.array([16, 20, 24, 32]), 5.0, 0.15),
        ("rk4", np.array([12, 16, 24, 32, 48]), 4.0, 0.15),
        ("euler", np.array([1000, 2000, 4000, 8000]), 1.0, 0.1),
    ],
)
def test_measured_order(method, steps, order, tolerance):
    """Errors of fixed steps over a stretch of the fall in which all three logits bend.

    The stretch is short: along the whole fall dopri5's leading error term changes its sign, and its
    errors shrink with the sixth power of the step before they do with the fifth.
    """
    start, span = np.array([3.4, 1.1, 2.9]), 4.0
    expected = truth(PAPER, start, [span])[0]
    moved = expected - start
    assert moved.min() > 0.5  # a stretch that is not linear
    errors = []
    for count in steps:
        end = _fixed(method, start, span, int(count))
        errors.append(np.linalg.norm(end - expected))
    assert min(errors) > 1e-11  # above the floor of the yardstick
    measured = np.polyfit(np.log(span / steps), np.log(errors), 1)[0]
    assert measured == pytest.approx(order, abs=tolerance)
    assert STEPPERS[method].order == order


def _fixed(method, start, span, count):
    """The end after `count` equal steps; dopri5 takes them when its error weights are ignored."""
    numerics = Numerics(method, span, 1e-6, 1e-9, 10**6, span / count)
    flow, batch, n_work = batch_at(start, numerics)
    flow.advance(batch, n_work)
    assert batch.column("n_steps") == count
    return batch.column("state")[0]


def test_loss_never_rises():
    for start in (START, (2.0, -3.0, 1.0), (-1.0, 4.0, 5.0)):
        run = integrate(PAPER, start, 500.0)
        assert np.diff(run.loss).max() <= 1e-6 * run.loss[0]


@pytest.mark.parametrize("mobility", [(1.0, 1.0, 1.0), (0.2, 3.0, 0.5)])
def test_dissipation_equals_the_drop_in_loss(mobility):
    run = integrate(PAPER, START, 150.0, mobility, rtol=1e-10, atol=1e-12)

    def dissipation(t):
        return float(np.sum(np.array(mobility) * PAPER.gradient(run.path(t)) ** 2))

    spent = sum(
        quad(dissipation, a, b, epsabs=1e-11)[0]
        for a, b in zip(run.path.t[:-1], run.path.t[1:], strict=True)
    )
    assert spent == pytest.approx(run.loss[0] - run.loss[-1], abs=1e-6)


@pytest.mark.parametrize(("n", "labels"), [(8, 32), (4, 5), (40, 400)])
def test_slow_phase_in_closed_form(n, labels):
    """alpha = beta1 = 0: v = xi·q obeys v + r·exp(v) = q²t + r, v = c − W(r·exp(c))."""
    t = np.linspace(0.0, 40.0 * (2 * n + 1) ** 2 / 17**2, 30)
    run = integrate(
        NestedLogit(n, labels), np.zeros(3), t[-1], (0, 0, 1), rtol=1e-11, atol=1e-13, t_eval=t
    )
    q, r = 1.0 / (2 * n + 1), n / (labels - n)
    c = q**2 * t + r
    v = c - lambertw(r * np.exp(c)).real
    np.testing.assert_allclose(run.theta[:, 2] * q, v, atol=1e-8)
    assert not run.theta[:, :2].any()


@pytest.mark.parametrize("method", ["lsoda", "radau"])
def test_scipy_methods_agree(method):
    t = np.linspace(0.0, 200.0, 101)
    ours = integrate(PAPER, START, 200.0, rtol=1e-9, atol=1e-11, t_eval=t)
    theirs = integrate(PAPER, START, 200.0, method=method, rtol=1e-9, atol=1e-11, t_eval=t)
    np.testing.assert_allclose(theirs.theta, ours.theta, atol=2e-4)
    assert theirs.status is Status.DONE
    np.testing.assert_allclose(theirs.crossings, ours.crossings, rtol=1e-6)
    # the stored polynomials are SciPy's own dense output
    between = 0.5 * (theirs.path.t[1:] + theirs.path.t[:-1])
    np.testing.assert_allclose(theirs.path(between), ours.path(between), atol=2e-4)


def test_gradient_descent_is_euler():
    rate, theta = 0.05, np.array(START)
    run = integrate(PAPER, START, 5.0, method="euler", step=rate)
    for k in range(100):
        np.testing.assert_allclose(run.theta[k], theta, rtol=1e-12)
        theta = theta - rate * PAPER.gradient(theta)
    np.testing.assert_allclose(run.theta[100], theta, rtol=1e-12)
    assert run.n_steps == 100
    np.testing.assert_allclose(run.path(0.125), 0.5 * (run.theta[2] + run.theta[3]), rtol=1e-12)


def test_crossings_lie_on_the_dense_output():
    run = integrate(PAPER, START, 200.0)
    levels = PAPER.plateau * np.array([0.9, 0.5, 0.1])
    np.testing.assert_allclose(PAPER.loss(run.path(run.crossings)), levels, atol=1e-11)
    fine = integrate(PAPER, START, 200.0, rtol=1e-11, atol=1e-13)
    np.testing.assert_allclose(run.crossings, fine.crossings, rtol=1e-5)
    # straight lines between the steps would be far off: the steps are long
    straight = np.interp(-levels[1], -run.loss, run.t)
    assert abs(straight - fine.crossings[1]) > 5 * abs(run.crossings[1] - fine.crossings[1])


@pytest.mark.parametrize("method", ["dopri5", "rk4", "lsoda"])
def test_dense_output_between_steps(method):
    step = 0.5 if method == "rk4" else None
    run = integrate(PAPER, (0.3, 0.8, 1.5), 20.0, method=method, step=step, rtol=1e-8, atol=1e-10)
    t = np.linspace(0.0, 20.0, 77)
    np.testing.assert_allclose(run.path(t), truth(PAPER, (0.3, 0.8, 1.5), t), atol=2e-3)
    np.testing.assert_array_equal(run.path(run.t), run.theta)
    with pytest.raises(ArgumentError, match=r"t=20\.5: must be times from 0 to 20"):
        run.path(20.5)


def test_no_digit_has_changed():
    """Values that the first version computed."""
    run = integrate(PAPER, START, 150.0)
    assert (run.n_steps, run.n_rejected, run.n_evaluations) == (34, 0, 205)
    np.testing.assert_allclose(
        run.theta[-1], [4.9915860888396075, 5.998645451054357, 8.763071859867367], rtol=1e-13
    )
    np.testing.assert_allclose(
        run.crossings, [93.22321273333202, 94.2481026829941, 100.83045204498184], rtol=1e-13
    )
    np.testing.assert_allclose(
        run.path(93.1), [2.893751483105815, 3.166240199723883, 4.914831611708667], rtol=1e-13
    )


@pytest.mark.parametrize(("method", "stages"), [("euler", 1), ("rk4", 4), ("dopri5", 6)])
def test_evaluations_are_counted(method, stages):
    """All stages of every attempted step but the first, which the step before has evaluated."""
    step = None if method == "dopri5" else 0.7
    run = integrate(PAPER, (2.0, -3.0, 30.0), 100.0, method=method, step=step)
    assert run.n_steps == len(run.t) - 1 == len(run.path.t) - 1
    assert (run.n_rejected > 0) == (method == "dopri5")
    assert run.n_evaluations == 1 + stages * (run.n_steps + run.n_rejected)
    if step:
        assert run.n_steps == 143  # 100 / 0.7
        np.testing.assert_allclose(np.diff(run.t)[:-1], step, rtol=1e-12)
    assert run.t[-1] == 100.0


def test_a_time_beyond_the_end_by_rounding_is_the_end():
    t = np.arange(0.0, 0.35, 0.1)
    assert t[-1] > 0.3
    run = integrate(PAPER, START, 0.3, t_eval=t)
    assert run.t[-1] == 0.3
    np.testing.assert_array_equal(run.theta[-1], run.path.theta[-1])
    np.testing.assert_array_equal(run.path(t), run.theta)
    np.testing.assert_array_equal(run.sampled(t).t, run.t)
    with pytest.raises(ArgumentError, match=r"t_eval=.*must be times from 0 to 0\.3"):
        integrate(PAPER, START, 0.3, t_eval=[0.0, 0.3000001])


@pytest.mark.parametrize("argument", ["theta0", "mobility", "t_eval"])
def test_masked_arrays_are_refused(argument):
    masked = np.ma.masked_array([0.0, 1.0, 2.0], mask=[False, True, False])
    arguments = {"theta0": START, "t_end": 5.0} | {argument: masked}
    with pytest.raises(ArgumentError, match=f"{argument}=.*must not be a masked array"):
        integrate(PAPER, **arguments)


def test_memory_is_reserved_for_the_steps_taken(monkeypatch):
    lengths = []
    advance = _Flow.advance

    def seen(flow, batch, n_work, budget, record):
        lengths.append(len(record) - 1)
        advance(flow, batch, n_work, budget, record)

    monkeypatch.setattr(_Flow, "advance", seen)
    integrate(PAPER, START, 200.0, max_steps=10**9)
    assert max(lengths) <= 1000
    lengths.clear()
    run = integrate(PAPER, START, 1000.0, method="rk4", step=0.01, max_steps=20_000)
    assert run.n_steps == 20_000
    assert max(lengths) <= 20_000


def test_reports_at_chosen_times():
    t = [0.0, 1.5, 90.0, 150.0]
    run = integrate(PAPER, START, 150.0, t_eval=t)
    np.testing.assert_array_equal(run.t, t)
    np.testing.assert_array_equal(run.loss, PAPER.loss(run.theta))
    steps = integrate(PAPER, START, 150.0)
    np.testing.assert_array_equal(run.crossings, steps.crossings)
    np.testing.assert_array_equal(run.theta, steps.sampled(t).theta)


@pytest.mark.parametrize("method", ["dopri5", "lsoda"])
def test_step_limit_keeps_what_was_reached(method):
    run = integrate(PAPER, START, 200.0, method=method, max_steps=7)
    assert run.status is Status.STEP_LIMIT
    assert run.n_steps == 7
    assert 0.0 < run.t[-1] < 200.0
    assert np.isnan(run.transition().t_transition)
    assert run.transition().status is TransitionStatus.NOT_REACHED
    at = integrate(PAPER, START, 200.0, method=method, max_steps=7, t_eval=[0.0, 1.0, 199.0])
    np.testing.assert_array_equal(at.t, [0.0, 1.0])


def test_interrupting_keeps_what_was_reached_and_changes_nothing():
    """Stopped at its second report, a run is the beginning of the whole one; so is its record,
    which has grown meanwhile."""
    model, seen = NestedLogit(8, 32), []
    options = {"method": "rk4", "step": 0.01}
    whole = integrate(model, START, 200.0, **options)
    stopped = integrate(
        model, START, 200.0, **options, progress=lambda t: bool(seen.append(t)) or len(seen) == 2
    )
    assert whole.status is Status.DONE
    assert whole.n_steps == 20_000
    assert stopped.status is Status.RUNNING
    assert 1000 < stopped.n_steps < 20_000
    assert stopped.t[-1] == seen[-1]
    n = len(stopped.t)
    for name in ("t", "theta", "loss"):
        np.testing.assert_array_equal(getattr(stopped, name), getattr(whole, name)[:n])
    inside = np.linspace(0.0, stopped.t[-1], 777)
    np.testing.assert_array_equal(stopped.path(inside), whole.path(inside))


def test_the_loop_goes_on_exactly_where_its_budget_ended():
    numerics = Numerics("dopri5", 200.0, 1e-6, 1e-9, 10**6, None)
    ends = []
    for budget in (1, 3, 10**6):
        flow, batch, n_work = batch_at(START, numerics)
        while batch.column("status") == 0:
            flow.advance(batch, n_work, budget)
        ends.append(batch)
    for other in ends[:2]:
        np.testing.assert_array_equal(other.rows, ends[2].rows)


def test_diverging_descent_says_so():
    run = integrate(PAPER, (0.7, 1.3, 2.1), 1e10, (1e308, 1e308, 1e308), "euler", step=1e9)
    assert run.status is Status.NOT_FINITE
    assert np.isfinite(run.theta).all()

    def explosive(theta):
        return 1e308 * (1.0 + theta[2]), 1e308, 1e308

    run = integrate(PAPER, START, 1e6, explosive, "euler", step=1e3)
    assert run.status is Status.NOT_FINITE
    assert np.isfinite(run.theta).all()


@pytest.mark.parametrize(
    ("above", "found"),
    [
        (lambda t: 1.5 - t, 1.5),
        (lambda t: 1.0 - t, 1.0),
        (lambda t: 0.9 - t, 1.0),  # below the level already
        (lambda t: 2.1 - t, 2.0),  # not below it yet
    ],
)
def test_a_crossing_lies_within_its_step(above, found):
    assert locate_crossing(above, 1.0, 2.0) == pytest.approx(found, abs=1e-12)


@pytest.mark.parametrize("method", ["dopri5", "lsoda", "radau"])
@pytest.mark.parametrize("size", [1e155, 1e200, 1e300])
@pytest.mark.parametrize("signs", [(1, 1, 1), (1, -1, 1), (-1, -1, -1), (1, 1, -1), (0, 1, 1)])
def test_a_start_as_far_as_numbers_go_does_not_move(method, size, signs):
    """Squares of such logits are infinite; the gradient is finite, and moves no digit of them."""
    start = size * np.array(signs)
    run = integrate(PAPER, start, 100.0, method=method)
    assert run.status is Status.DONE
    np.testing.assert_allclose(run.theta[-1], start, rtol=1e-14)


@pytest.mark.parametrize("method", ["lsoda", "radau"])
def test_mobilities_beyond_the_numbers_raise_nothing(method):
    run = integrate(PAPER, START, 100.0, (1e160, 1.0, 1.0), method, max_steps=200)
    assert run.status in (Status.STEP_LIMIT, Status.STEP_TOO_SMALL, Status.NOT_FINITE)
    assert np.isfinite(run.theta).all()


def test_jacobian_is_the_slope_of_the_field():
    def growing(theta):
        return 1.0 + theta[0] ** 2, 1.0, 1.0 + theta[2] ** 2

    theta = np.array([0.7, 1.3, 2.1])
    for mobility in ((1.0, 0.5, 2.0), growing):
        field = field_of(PAPER, mobility)
        jacobian = field.jacobian(0.0, theta)
        for j in range(3):
            shift = 1e-5 * np.eye(3)[j]
            slope = (field(0.0, theta + shift) - field(0.0, theta - shift)) / 2e-5
            np.testing.assert_allclose(jacobian[:, j], slope, atol=1e-8)


def test_free_label_bias_flows():
    model = NestedLogit(8, 32, label_bias="free")
    run = integrate(model, [*START, 0.0], 200.0)
    assert run.theta.shape[1] == 4
    assert run.theta[-1, 3] > 0.1  # labels gain attention
    frozen = integrate(model, [*START, 0.5], 200.0, (1, 1, 1, 0))
    fixed = integrate(NestedLogit(8, 32, label_bias=0.5), START, 200.0)
    assert frozen.transition().t_transition == pytest.approx(
        fixed.transition().t_transition, rel=1e-4
    )


def test_one_pair_has_no_plateau():
    run = integrate(NestedLogit(1, 4), START, 50.0)
    assert run.status is Status.DONE
    assert np.isnan(run.transition().t_transition)
    assert run.transition().status is TransitionStatus.UNDEFINED


def test_starts_below_the_plateau_are_told():
    transition = integrate(PAPER, (3.0, 4.0, 8.0), 100.0).transition()
    assert transition.status is TransitionStatus.STARTED_BELOW
    assert transition.t_transition == 0.0


def test_stiff_end_of_a_long_flow():
    run = integrate(PAPER, START, 1e6)
    assert run.status is Status.DONE
    assert run.loss[-1] < 1e-4


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"theta0": [0.0, np.nan, 0.0]}, "theta0"),
        ({"theta0": [0.0, 0.0]}, "theta0"),
        ({"theta0": np.zeros((2, 3))}, "theta0"),
        ({"t_end": 0.0}, "t_end"),
        ({"t_end": np.inf}, "t_end"),
        ({"t_end": "long"}, "t_end"),
        ({"mobility": (1.0, 1.0)}, "mobility"),
        ({"mobility": (1.0, -1.0, 1.0)}, "mobility"),
        ({"mobility": (1.0, np.nan, 1.0)}, "mobility"),
        ({"mobility": lambda theta: -1.0 * theta}, "mobility"),
        ({"mobility": lambda theta: undefined_name}, "mobility"),  # noqa: F821
        ({"rtol": 0.0}, "rtol"),
        ({"atol": -1.0}, "atol"),
        ({"method": "leapfrog"}, "method"),
        ({"method": "euler"}, "step"),
        ({"method": "dopri5", "step": 0.1}, "step"),
        ({"method": "rk4", "step": 0.0}, "step"),
        ({"max_steps": 0}, "max_steps"),
        ({"max_steps": 10.5}, "max_steps"),
        ({"t_eval": [3.0, 1.0]}, "t_eval"),
        ({"t_eval": [0.0, 201.0]}, "t_eval"),
        ({"t_eval": [-1.0, 1.0]}, "t_eval"),
        ({"t_eval": [[0.0, 1.0]]}, "t_eval"),
    ],
)
def test_bad_arguments_are_named(change, named):
    arguments = {"theta0": START, "t_end": 200.0} | change
    with pytest.raises(ArgumentError) as caught:
        integrate(PAPER, **arguments)
    assert str(caught.value).startswith(f"{named}=")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("options", "argument"),
    [
        ({"max_steps": 2**64}, "max_steps"),
        ({"t_eval": "abc"}, "t_eval"),
        ({"method": "lsoda", "rtol": 1e-15}, "rtol"),
    ],
)
def test_what_cannot_be_done_is_refused(options, argument):
    with pytest.raises(ArgumentError, match=argument):
        integrate(NestedLogit(8, 32), [0.1, 0.1, 0.1], 10.0, **options)


def test_more_fixed_steps_than_the_limit_end_at_it():
    run = integrate(
        NestedLogit(8, 32), [0.1, 0.1, 0.1], 1e308, method="rk4", step=1e-10, max_steps=5
    )
    assert run.n_steps == 5
    assert run.status is Status.STEP_LIMIT
