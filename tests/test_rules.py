"""Rules of motion against SciPy, their limits and the laws of equilibrium."""

import numpy as np
import pytest
import sympy as sp
from scipy.integrate import solve_ivp
from scipy.stats import kstest

from cliff import NestedLogit, integrate, integrate_ensemble
from cliff.checks import ArgumentError
from cliff.kernels import philox
from cliff.landscape import Landscape
from cliff.landscapes import product_of_factors
from cliff.rules import Adam, Gradient, Langevin, Momentum
from cliff.trajectory import Status

PAPER = NestedLogit(8, 32)
START, MOBILITY = (0.3, 0.8, 1.5), np.array([1.0, 0.5, 2.0])
TIGHT = {"rtol": 1e-11, "atol": 1e-13}
X, Y, K = sp.symbols("x y k", real=True)
WELL = Landscape([X, Y], K * (X**2 + 4 * Y**2) / 2, {K: 2})


def truth(field, state, t):
    return solve_ivp(field, (0.0, t[-1]), state, "DOP853", t_eval=t, rtol=2.3e-14, atol=1e-15).y.T[
        :, :3
    ]


@pytest.mark.parametrize("method", ["dopri5", "rk4"])
def test_momentum_is_its_equation(method):
    def field(t, state):
        theta, v = state[:3], state[3:]
        return np.concatenate([v, 0.7 * (-MOBILITY * PAPER.gradient(theta) - v)])

    t = np.linspace(0.0, 40.0, 41)
    options = {"step": 0.02} if method == "rk4" else TIGHT
    run = integrate(PAPER, START, 40.0, MOBILITY, method, t_eval=t, rule=Momentum(0.7), **options)
    np.testing.assert_allclose(run.theta, truth(field, np.r_[START, 0, 0, 0], t), atol=2e-7)
    assert run.theta.shape == (41, 3)
    assert run.settings["rule"] == "momentum"
    assert run.settings["friction"] == 0.7


@pytest.mark.parametrize("method", ["dopri5", "rk4"])
@pytest.mark.parametrize("lr", [0.1, 2.0])
def test_adam_is_its_equation(method, lr):
    rates = -np.log([0.8, 0.95]) / lr
    rule = Adam(lr, 0.8, 0.95, 1e-3)

    def field(t, state):
        theta, m, s = state.reshape(3, 3)
        g = PAPER.gradient(theta)
        ratio = g / (np.abs(g) + 1e-3)
        if t > 0.0:
            corrected = m / -np.expm1(-rates[0] * t), s / -np.expm1(-rates[1] * t)
            ratio = corrected[0] / (np.sqrt(np.maximum(corrected[1], 0.0)) + 1e-3)
        return np.concatenate([-MOBILITY * ratio, rates[0] * (g - m), rates[1] * (g**2 - s)])

    t = np.linspace(0.0, 3.0, 31)
    options = {"step": 2e-3} if method == "rk4" else {"rtol": 1e-10, "atol": 1e-13}
    run = integrate(PAPER, START, 3.0, MOBILITY, method, t_eval=t, rule=rule, **options)
    expected = truth(field, np.r_[START, np.zeros(6)], t)
    np.testing.assert_allclose(run.theta, expected, atol=1e-6)
    # a negative control: without the correction for the start at zero theta hardly moves at first
    assert np.abs(run.theta[1] - START).min() > 0.03


def test_adam_by_euler_is_the_algorithm_for_small_steps():
    """The algorithm of the paper, with betas per step of length lr; errors are of the order lr."""
    errors = []
    for lr in (0.02, 0.01):
        theta, m, s = np.array(START), np.zeros(3), np.zeros(3)
        betas = 0.9 ** (lr / 0.02), 0.99 ** (lr / 0.02)  # the same rates for both
        for step in range(1, round(2.0 / lr) + 1):
            g = PAPER.gradient(theta)
            m, s = betas[0] * m + (1 - betas[0]) * g, betas[1] * s + (1 - betas[1]) * g**2
            corrected = m / (1 - betas[0] ** step), s / (1 - betas[1] ** step)
            theta = theta - lr * corrected[0] / (np.sqrt(corrected[1]) + 1e-8)
        run = integrate(PAPER, START, 2.0, rule=Adam(lr, *betas), **TIGHT)
        errors.append(np.abs(run.theta[-1] - theta).max())
    assert errors[0] < 0.05
    assert errors[0] / errors[1] == pytest.approx(2.0, rel=0.3)


def test_the_overdamped_limit_of_momentum_is_the_flow():
    flow = integrate(PAPER, START, 30.0, MOBILITY, **TIGHT).theta[-1]
    errors = [
        np.abs(
            integrate(PAPER, START, 30.0, MOBILITY, rule=Momentum(f), **TIGHT).theta[-1] - flow
        ).max()
        for f in (100.0, 200.0, 400.0)
    ]
    assert errors[2] < 0.02
    np.testing.assert_allclose(np.divide(errors[:2], errors[1:]), 2.0, rtol=0.1)  # as 1/friction
    light = integrate(PAPER, START, 30.0, MOBILITY, rule=Momentum(0.05), **TIGHT)
    assert np.abs(light.theta[-1] - flow).max() > 0.5  # a negative control: inertia matters


def test_the_flow_is_the_default():
    run = integrate(PAPER, START, 30.0, rule=Gradient())
    assert run == integrate(PAPER, START, 30.0)
    assert "rule" not in run.settings


# ---- noise ---------------------------------------------------------------------------------------


def test_the_generator_is_philox():
    generator = np.random.default_rng(3)
    for _ in range(20):
        counter, key = (generator.integers(1, 2**64, n, dtype=np.uint64) for n in (4, 2))
        found = philox.words(tuple(counter), tuple(key))
        below = int(counter[0]) - 1  # NumPy counts on before it draws
        before = np.array([below, *counter[1:].tolist()], dtype=np.uint64)
        numpys = np.random.Philox(counter=before, key=key)
        assert np.array(found, dtype=np.uint64).tolist() == numpys.random_raw(4).tolist()


def test_its_numbers_are_normal_and_independent_along_every_index():
    rows = np.array(
        [
            [philox.normal(np.uint64(7), i, j, c) for c in range(3)]
            for i in range(60)
            for j in range(60)
        ]
    ).reshape(60, 60, 3)
    assert kstest(rows.ravel(), "norm").pvalue > 0.01
    n = rows.size
    for axis in range(3):
        a, b = np.delete(rows, 0, axis), np.delete(rows, -1, axis)
        assert abs((a * b).sum()) < 4 * np.sqrt(n)
        assert abs((a**2 * b**2 - a**2 - b**2 + 1).sum()) < 4 * 2 * np.sqrt(n)
    assert philox.normal(np.uint64(8), 0, 0, 0) != philox.normal(np.uint64(7), 0, 0, 0)
    # a negative control: the test sees a mean that is off by a tenth
    assert kstest(rows.ravel() + 0.1, "norm").pvalue < 1e-6


def langevin(temperature, seed=0, **options):
    return {"method": "euler", "rule": Langevin(temperature, seed), **options}


@pytest.mark.parametrize("step", [0.05, 0.4])
def test_variance_in_a_quadratic_well(step):
    """A step is x' = (1 − M·k·h)·x + √(2·M·T·h)·normal, so that v = (1 − M·k·h)²·v + 2·M·T·h:
    v = T/(k·(1 − M·k·h/2)). The wells have k = 2 and 8."""
    m, t, mobility = 20_000, 0.3, np.array([0.5, 0.25])
    ensemble = integrate_ensemble(WELL, np.zeros((m, 2)), 20.0, mobility, **langevin(t, step=step))
    for i, k in enumerate((2.0, 8.0)):
        expected = t / (k * (1.0 - mobility[i] * k * step / 2.0))
        error = expected * np.sqrt(2.0 / m)
        found = ensemble.theta[:, i].var()
        assert abs(found - expected) < 4.0 * error
        assert abs(ensemble.theta[:, i].mean()) < 4.0 * np.sqrt(expected / m)
        if step == 0.4:  # a negative control: the step's correction is seen
            assert abs(found - t / k) > 8.0 * error
    correlation = np.corrcoef(ensemble.theta.T)[0, 1]
    assert abs(correlation) < 4.0 / np.sqrt(m)
    assert kstest(ensemble.theta[:, 0] / ensemble.theta[:, 0].std(), "norm").pvalue > 1e-3


def test_kramers_rate_in_a_double_well():
    """Loss (x² − 1)²/4: barrier 1/4, curvatures 2 in the well and −1 on the top.

    The mean time to go from one well to the other's bottom is 1/rate, and without asymptotics
    (1/T) ∫_{-1}^{1} dy e^{U(y)/T} ∫_{-∞}^y dz e^{−U(z)/T}; Kramers' formula is its limit for T → 0.
    """
    temperature, m, step = 0.06, 1500, 0.01
    double = Landscape([X], (X**2 - 1) ** 2 / 4, events={"over": X >= 1})
    starts = np.full((m, 1), -1.0)
    ensemble = integrate_ensemble(
        double, starts, 6000.0, until="over", max_steps=10**6, **langevin(temperature, 5, step=step)
    )
    assert (ensemble.status == list(Status).index(Status.EVENT)).mean() > 0.999
    mean = ensemble.t.mean()
    y = np.linspace(-2.5, 1.0, 20_001)
    potential = (y**2 - 1) ** 2 / 4 / temperature
    inner = np.cumsum(np.exp(-potential)) * (y[1] - y[0])
    outer = np.exp(potential) * inner
    expected = outer[y >= -1.0].sum() * (y[1] - y[0]) / temperature
    kramers = 2 * np.pi / np.sqrt(2.0 * 1.0) * np.exp(0.25 / temperature)
    assert abs(expected / kramers - 1.0) < 0.35  # T is not small
    # times are exponential; Euler's error is of the order √step at the event and step elsewhere
    assert abs(mean / expected - 1.0) < 4.0 / np.sqrt(m) + 0.03
    # a negative control: a temperature 10 % higher is seen
    hotter = np.exp(0.25 / temperature - 0.25 / (1.1 * temperature))
    assert hotter - 1.0 > 4.0 / np.sqrt(m) + 0.03


def test_noise_does_not_depend_on_companions_threads_or_lanes(rng, monkeypatch):
    starts = rng.normal(size=(37, 2))
    options = langevin(0.1, 3, step=0.1)
    whole = integrate_ensemble(WELL, starts, 5.0, **options)
    monkeypatch.setattr("cliff.flow.CHUNK", 160)  # ten trajectories to a thread at a time
    for workers in (1, 2, 7):
        assert whole == integrate_ensemble(WELL, starts, 5.0, workers=workers, **options)
    for m in (1, 4, 9):
        part = integrate_ensemble(WELL, starts[:m], 5.0, **options)
        np.testing.assert_array_equal(part.theta, whole.theta[:m])
    run = integrate(WELL, starts[0], 5.0, **options)
    np.testing.assert_array_equal(run.theta[-1], whole.theta[0])
    # each trajectory, seed and component has noise of its own
    same = integrate_ensemble(WELL, starts[:1].repeat(3, axis=0), 5.0, **options)
    assert len(np.unique(same.theta)) == 6
    other = integrate_ensemble(WELL, starts, 5.0, **langevin(0.1, 4, step=0.1))
    assert not (other.theta == whole.theta).any()
    cold = integrate_ensemble(WELL, starts, 5.0, **langevin(0.0, 3, step=0.1))
    descent = integrate_ensemble(WELL, starts, 5.0, method="euler", step=0.1)
    np.testing.assert_array_equal(cold.theta, descent.theta)


def test_noise_goes_on_where_a_report_was_made():
    """A run that is reported often takes its steps in several calls."""
    run = integrate(PAPER, START, 50.0, **langevin(0.01, 1, step=0.01))
    seen = []
    again = integrate(PAPER, START, 50.0, progress=seen.append, **langevin(0.01, 1, step=0.01))
    assert len(seen) > 1
    assert again == run
    assert np.ptp(np.diff(run.theta, axis=0)) > 0.0


@pytest.mark.parametrize("rule", [Momentum(2.0), Adam(0.1)])
def test_rules_hold_in_lanes_as_alone(rule, rng):
    model = product_of_factors(3)
    starts = 0.1 + rng.uniform(0.0, 0.3, (11, 3))
    whole = integrate_ensemble(model, starts, 20.0, rule=rule)
    for i in (0, 4, 10):
        run = integrate(model, starts[i], 20.0, rule=rule)
        np.testing.assert_allclose(whole.theta[i], run.theta[-1], rtol=1e-9)
        assert whole.n_steps[i] == run.n_steps
        assert whole.events["rise"][i] == pytest.approx(run.events["rise"][0], rel=1e-9)


@pytest.mark.parametrize("rule", [Momentum(2.0), Adam(0.1)])
def test_a_flow_by_rule_goes_on_exactly_where_a_report_was_made(rule):
    seen = []
    options = {"method": "rk4", "step": 0.002, "rule": rule}
    run = integrate(PAPER, START, 5.0, progress=seen.append, **options)
    assert len(seen) > 1
    ensemble = integrate_ensemble(PAPER, [START], 5.0, **options)
    np.testing.assert_array_equal(run.theta[-1], ensemble.theta[0])


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: Momentum(0.0), "friction=0.0: must be a finite number above 0"),
        (lambda: Adam(0.0), "lr=0.0: must be a finite number above 0"),
        (lambda: Adam(0.1, 1.0), "beta1=1.0: must be a number strictly between 0 and 1"),
        (lambda: Adam(0.1, 0.9, 0.0), "beta2=0.0: must be a number strictly between 0 and 1"),
        (lambda: Adam(0.1, epsilon=-1.0), "epsilon=-1.0: must be a finite number of at least 0"),
        (lambda: Langevin(-1.0), "temperature=-1.0: must be a finite number of at least 0"),
        (lambda: Langevin(1.0, 1.5), "seed=1.5: must be an integer of at least 0"),
        (lambda: integrate(PAPER, START, 1.0, rule="adam"), r"rule=adam: must be Gradient\(\), "),
        (lambda: integrate(PAPER, START, 1.0, rule=Langevin(1.0)), "method=dopri5: must be euler"),
        (
            lambda: integrate(PAPER, START, 1.0, method="radau", rule=Momentum(1.0)),
            "method=radau: knows gradient flow alone",
        ),
    ],
)
def test_mistakes_are_named(call, message):
    with pytest.raises(ArgumentError, match=message) as caught:
        call()
    assert "\n" not in str(caught.value)
