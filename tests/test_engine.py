"""The engine: one loop for every landscape, alone and in lanes, with events and in files."""

import json
import subprocess
import sys

import numpy as np
import pytest
import sympy as sp

import cliff
from cliff import NestedLogit, integrate, integrate_ensemble
from cliff.checks import ArgumentError
from cliff.kernels import nested_logit as kernels
from cliff.landscape import Landscape
from cliff.landscapes import causal_attention, product_of_factors
from cliff.protocol import FALL
from cliff.rules import Momentum
from cliff.symbolic.functions import cross_entropy, softmax
from cliff.trajectory import Ensemble, Status, Trajectory, TransitionStatus

# n_pairs, n_labels, positions, label_bias, steps; then the end of a flow, its crossings, and the
# end of an ensemble of one by rk4, by the loop that knew NestedLogit alone
BEFORE = [
    (
        1,
        4,
        "exact",
        0.0,
        29,
        """
        -0x1.189c991ad7d3fp+1 -0x1.da3e1fa890e38p+1 0x1.ba13db1221971p+2 nan
        nan nan -0x1.62eb0bd62ad97p+0 -0x1.3b73e0f917ba5p+1
        0x1.6999c9f14329dp+2
    """,
    ),
    (
        3,
        3,
        "exact",
        0.0,
        29,
        """
        0x1.0b52287865ec6p+2 0x1.32b24c19811a8p+2 0x1.bfd76c9fe35ccp+2 0x1.166ca57ff00b0p+6
        0x1.3ca04a165453bp+6 0x1.8ca625589619bp+6 0x1.30acc0a5f1866p+1 -0x1.bfe5db974c212p+1
        -0x1.569680b9ea8a5p+2
    """,
    ),
    (
        8,
        32,
        "exact",
        0.0,
        34,
        """
        0x1.4f1601e818894p+2 0x1.91a6b3723ccbfp+2 0x1.3ea9a844ccda0p+3 0x1.2e0f33e1d91dap+6
        0x1.3274da5afabb2p+6 0x1.4fb95042dbd50p+6 0x1.73334e5b21b07p+0 -0x1.4104e89131101p+0
        -0x1.eeffbf4cf0a31p-2
    """,
    ),
    (
        40,
        100,
        "exact",
        0.0,
        3,
        """
        0x1.10094cff4e8e2p-3 0x1.4c1a7e2043bcdp-2 0x1.cd5f9f02b2fdap+0 nan
        nan nan 0x1.0c47385e1dbbfp+0 -0x1.34d8ca9b60160p-1
        -0x1.a8dc52180768dp+0
    """,
    ),
    (
        1,
        4,
        "exact",
        "free",
        30,
        """
        -0x1.977d5b80386ccp-3 -0x1.88afee15fe270p-1 0x1.a83f4441016d9p+2 0x1.c0072979614b3p+1
        nan nan nan 0x1.000baff30e80fp+0
        -0x1.3155522438a5fp-8 0x1.6601c5333b786p-1 -0x1.1eda862c1730dp+1
    """,
    ),
    (
        3,
        3,
        "exact",
        "free",
        30,
        """
        0x1.b45bbde8483fbp+1 0x1.1b420ab35f6b8p+2 0x1.88488ef06238bp+2 0x1.41358d33e3244p+1
        0x1.9f38563793809p+5 0x1.dbc1066d5aa34p+5 0x1.188af9b74e0a5p+6 0x1.0f32b2d8d74d0p+0
        -0x1.e52015f2349f6p-2 -0x1.1c106d8cc4449p+0 -0x1.e5416633745eap+0
    """,
    ),
    (
        8,
        32,
        "exact",
        "free",
        35,
        """
        0x1.2bb21a72ea006p+2 0x1.722ced56454b1p+2 0x1.1a7d2a90939cfp+3 0x1.727d4f3a8f4d1p+1
        0x1.92796605e89bfp+5 0x1.9b4323f7ca090p+5 0x1.bb67a6bc0f619p+5 0x1.013b46a5a0b21p+0
        -0x1.cdca36311690ep-4 -0x1.26bcf81fe1c88p-1 -0x1.26c4c94eb3165p+1
    """,
    ),
    (
        40,
        100,
        "exact",
        "free",
        6,
        """
        0x1.51fedb64b990ap-3 0x1.a79730735a1f4p-2 0x1.28c4fee1e2694p+1 0x1.36c972cc55237p+0
        nan nan nan 0x1.00051f6d49202p+0
        -0x1.c4404fe4f8791p-7 -0x1.d4a5d76ac6e56p-1 -0x1.0934d2beb04d6p+1
    """,
    ),
    (
        1,
        4,
        "mean",
        0.0,
        22,
        """
        0x1.999999999999ap-4 0x1.999999999999ap-3 0x1.9794604e7f5bcp+2 nan
        nan nan 0x1.0000000000000p+0 -0x1.0000000000000p-1
        0x1.374c050ce70bep+2
    """,
    ),
    (
        3,
        3,
        "mean",
        0.0,
        30,
        """
        0x1.88e7c3df2296cp+1 0x1.1b5277fedbb0fp+2 0x1.8b6d3ec70d971p+2 0x1.6eeed801b8e62p+4
        0x1.df042067adabep+4 0x1.40fc5968ac88ap+5 0x1.717a1a2051a50p+1 -0x1.e1bef0230d226p+1
        -0x1.93b1351aad6edp+2
    """,
    ),
    (
        8,
        32,
        "mean",
        0.0,
        35,
        """
        0x1.23a86af07903ap+2 0x1.6ce3d87f931e3p+2 0x1.1ba659c784b44p+3 0x1.38d45283e3ab2p+5
        0x1.409ab70bea0bep+5 0x1.5ed82b4f2d40ep+5 0x1.38ad73dc1c7f6p+0 -0x1.db242ee79df9bp-1
        0x1.21ddfd3ab925dp+0
    """,
    ),
    (
        40,
        100,
        "mean",
        0.0,
        4,
        """
        0x1.6a6ca08858dbap-3 0x1.c80e138e95391p-2 0x1.a47106981e51ap+1 nan
        nan nan 0x1.110a996be9425p+0 -0x1.40c379befc321p-1
        -0x1.484de02c3d247p+0
    """,
    ),
    (
        1,
        4,
        "mean",
        "free",
        21,
        """
        0x1.999999999999ap-4 0x1.999999999999ap-3 0x1.9794601e8e7efp+2 0x1.999999999999ap-2
        nan nan nan 0x1.0000000000000p+0
        0x0.0p+0 0x1.38d6e9f8585a4p+2 -0x1.0000000000000p+1
    """,
    ),
    (
        3,
        3,
        "mean",
        "free",
        29,
        """
        0x1.88e7c3fac42bbp+1 0x1.1b527795f47ecp+2 0x1.8b6d3e9901b95p+2 0x1.999999999999ap-2
        0x1.6eeed73f0153dp+4 0x1.df040cdd30af1p+4 0x1.40fc5f39ebf3ap+5 0x1.6bbe3cffc2010p+1
        -0x1.d2d5de6b33c60p+1 -0x1.701f34b02f998p+2 -0x1.0000000000000p+1
    """,
    ),
    (
        8,
        32,
        "mean",
        "free",
        34,
        """
        0x1.23a8678d3a404p+2 0x1.6ce3d5e683d02p+2 0x1.1ba658865aee0p+3 0x1.999999999999ap-2
        0x1.38d4523c00793p+5 0x1.409ab6bd9b0f6p+5 0x1.5ed827370f28dp+5 0x1.001e69cf2c179p+2
        0x1.16f665ba07552p+2 0x1.606ee1aeff6eap+2 -0x1.0000000000000p+1
    """,
    ),
    (
        40,
        100,
        "mean",
        "free",
        4,
        """
        0x1.6a6ca0e487ad4p-3 0x1.c80e13a9cb023p-2 0x1.a471069a05a41p+1 0x1.999999999999ap-2
        nan nan nan 0x1.004776f17aa4ap+0
        -0x1.8b5cade55076ep-5 -0x1.fb0ceb3423d7fp-3 -0x1.0000000000000p+1
    """,
    ),
]


@pytest.mark.parametrize(("n", "labels", "positions", "bias", "steps", "digits"), BEFORE)
def test_no_bit_of_nested_logit_has_changed(n, labels, positions, bias, steps, digits):
    model = NestedLogit(n, labels, positions, bias)
    p = model.n_parameters
    run = integrate(model, 0.1 * np.arange(1, p + 1), 200.0)
    ensemble = integrate_ensemble(model, [np.linspace(1, -2, p)], 50.0, method="rk4", step=0.5)
    found = np.concatenate([run.theta[-1], run.crossings, ensemble.theta[0]])
    np.testing.assert_array_equal(found, [float.fromhex(x) for x in digits.split()])
    assert run.n_steps == steps


# ---- events --------------------------------------------------------------------------------------

X, V = sp.symbols("x v", real=True)
OSCILLATOR = Landscape(
    [X, V],
    velocity=[V, -X],
    events={"down": X <= 0, "up": X >= 0, "far": X >= 2},
    measures={"energy": X**2 + V**2},
)
DOWN, UP = np.pi / 2 + 2 * np.pi * np.arange(5), 1.5 * np.pi + 2 * np.pi * np.arange(4)
TIGHT = {"rtol": 1e-10, "atol": 1e-12}


@pytest.mark.parametrize("method", ["dopri5", "rk4", "lsoda", "radau"])
def test_all_crossings_of_an_oscillation_are_found_in_their_direction(method):
    options = {"step": 0.01} if method == "rk4" else TIGHT
    run = integrate(OSCILLATOR, [1.0, 0.1], 29.0, method=method, **options)
    shift = np.arctan(0.1)  # x = sqrt(1.01)·cos(t − shift)
    np.testing.assert_allclose(run.events["down"], DOWN + shift, atol=1e-6)
    # x is above 0 at the start: the event has happened then, and happens again
    np.testing.assert_allclose(run.events["up"], [0.0, *(UP + shift)], atol=1e-6)
    assert run.events["far"].size == 0
    assert list(run.events) == ["down", "up", "far"]
    assert np.isnan(run.loss).all()
    assert run.transition().status is TransitionStatus.UNDEFINED


@pytest.mark.parametrize("method", ["dopri5", "rk4", "euler", "lsoda", "radau"])
def test_an_event_ends_the_flow_where_it_happens(method):
    options = {"step": 0.01} if method in ("rk4", "euler") else TIGHT
    whole = integrate(OSCILLATOR, [1.0, 0.0], 20.0, method=method, **options)
    run = integrate(OSCILLATOR, [1.0, 0.0], 20.0, method=method, until="down", **options)
    assert run.status is Status.EVENT == "event reached"
    assert run.t[-1] == whole.events["down"][0] == run.events["down"][0]
    assert run.t[-1] == pytest.approx(np.pi / 2, abs=0.01 if method == "euler" else 1e-6)
    assert run.theta[-1, 0] == pytest.approx(0.0, abs=1e-9)
    assert run.theta[-2, 0] > 0.0
    t = np.append(np.linspace(0.0, run.t[-2], 20), np.linspace(*run.t[-2:], 20))
    np.testing.assert_allclose(run.path(t), whole.path(t), rtol=0.0, atol=1e-9)
    assert run.settings["until"] == "down"
    never = integrate(OSCILLATOR, [1.0, 0.0], 20.0, method=method, until="far", **options)
    assert never.status is Status.DONE
    np.testing.assert_array_equal(never.theta, whole.theta)


def test_what_comes_after_the_end_has_not_happened():
    """Both events lie in the same step, in whichever order they are stated."""
    x = sp.Symbol("x", real=True)
    for names in (("early", "late"), ("late", "early")):
        events = {"early": x >= 0.25, "late": x >= 0.75}
        slope = Landscape([x], velocity=[1], events={name: events[name] for name in names})
        options = {"method": "euler", "step": 1.0, "until": "early"}
        run = integrate(slope, [0.0], 5.0, **options)
        assert run.events["early"].tolist() == [0.25]
        assert run.events["late"].size == 0
        assert run.t.tolist() == [0.0, 0.25]
        ensemble = integrate_ensemble(slope, [[0.0], [0.5], [-2.0]], 5.0, **options)
        assert ensemble.t.tolist() == [0.25, 0.0, 2.25]
        assert set(ensemble.status.tolist()) == {list(Status).index(Status.EVENT)}
        assert np.isnan(ensemble.events["late"]).all()
        np.testing.assert_allclose(ensemble.theta[:, 0], [0.25, 0.5, 0.25], atol=1e-15)


@pytest.mark.parametrize("method", ["dopri5", "lsoda", "radau"])
def test_nor_has_what_comes_just_after_it(method):
    x = sp.Symbol("x", real=True)
    slope = Landscape([x], velocity=[1], events={"late": x >= 0.5 + 1e-7, "early": x >= 0.5})
    whole = integrate(slope, [0.0], 5.0, method=method)
    assert whole.events["late"][0] > whole.events["early"][0]
    assert not ((whole.t > 0.5) & (whole.t < 0.5 + 1e-7)).any()  # both lie in one step
    run = integrate(slope, [0.0], 5.0, method=method, until="early")
    assert run.events["early"].size == 1
    assert run.events["late"].size == 0


@pytest.mark.parametrize("method", ["dopri5", "lsoda"])
def test_an_event_that_holds_at_the_start_ends_the_flow_there(method):
    run = integrate(OSCILLATOR, [-1.0, 0.0], 20.0, method=method, until="down")
    assert run.status is Status.EVENT
    assert run.t.tolist() == run.events["down"].tolist() == [0.0]
    np.testing.assert_array_equal(run.path(0.0), [-1.0, 0.0])


def test_the_fall_is_an_event_of_every_landscape_with_a_plateau():
    model = NestedLogit(8, 32)
    whole = integrate(model, [0.01] * 3, 200.0)
    assert tuple(whole.events) == FALL
    for name, level in zip(FALL, (0.9, 0.5, 0.1), strict=True):
        run = integrate(model, [0.01] * 3, 200.0, until=name)
        assert run.loss[-1] == pytest.approx(level * model.plateau, rel=1e-12)
        assert run.t[-1] == whole.events[name][0]
    ensemble = integrate_ensemble(model, [[0.01] * 3], 200.0, until="fall")
    assert ensemble.t[0] == ensemble.t_transition[0] == whole.transition().t_transition
    assert np.isnan(ensemble.width[0])
    factors = product_of_factors(2, 2.0)
    run = integrate(factors, [0.1, 0.1], 50.0, **TIGHT)
    assert list(run.events) == [*FALL, "rise"]
    products = [np.prod(run.path(times[0])) for times in run.events.values()]
    expected = [2.0 * (1.0 - np.sqrt(share)) for share in (0.9, 0.5, 0.1)]
    np.testing.assert_allclose(products, [*expected, 1.0], atol=1e-7)
    assert run.transition().status is TransitionStatus.REACHED
    assert run.transition().t_transition == run.events["fall"][0]


def test_an_event_of_ones_own_takes_the_place_of_a_built_in_one():
    x, loss = sp.symbols("x loss", real=True)
    own = Landscape([x], x**2 / 2, events={"fall": loss <= sp.Rational(1, 50)}, plateau=2)
    run = integrate(own, [2.0], 20.0, **TIGHT)
    assert list(run.events) == ["fall_begins", "fall_ends", "fall"]
    assert run.events["fall"][0] == pytest.approx(np.log(10.0), abs=1e-7)
    assert integrate(own, [2.0], 20.0, until="fall", **TIGHT).t[-1] == run.events["fall"][0]


def test_events_by_another_name_are_refused():
    for call in (integrate, integrate_ensemble):
        start = [1.0, 0.0] if call is integrate else [[1.0, 0.0]]
        with pytest.raises(ArgumentError, match="until=fall: must be one of down, up, far"):
            call(OSCILLATOR, start, 1.0, until="fall")


# ---- lanes ---------------------------------------------------------------------------------------


def mean_field():
    """NestedLogit(positions="mean") stated in SymPy."""
    b, a, xi, n, labels = sp.symbols("beta1 alpha xi N L", real=True)
    seen = softmax([b, 0], 0, weights=[1, n])
    q = softmax([a * seen, 0], 0, weights=[1, n - 1])
    logits = [xi * q, xi * (1 - q) / (n - 1), 0]
    loss = cross_entropy(logits, 0, weights=[1, n - 1, labels - n])
    return Landscape([b, a, xi], loss, {n: 8, labels: 32}, plateau=sp.log(n))


STATED = mean_field()


def test_the_mean_field_through_sympy_flows_as_the_kernel_does(rng):
    kernel = NestedLogit(8, 32, "mean")
    for start in ([0.0, 0.0, 0.0], [0.7, 1.3, 2.1], [-1.0, 2.0, -3.0]):
        one, other = integrate(kernel, start, 100.0), integrate(STATED, start, 100.0)
        assert one.n_steps == other.n_steps
        # rounding enters by the steps' widths, and the steps' error by rtol = 1e-6
        np.testing.assert_allclose(other.theta, one.theta, rtol=1e-8, atol=1e-8)
        np.testing.assert_allclose(other.crossings, one.crossings, rtol=1e-8)
    pairs = rng.integers(2, 20, 101)
    labels = pairs + rng.integers(0, 20, 101)
    starts = rng.normal(size=(101, 3))
    one = integrate_ensemble(
        kernel, starts, 100.0, constants={"n_pairs": pairs, "n_labels": labels}
    )
    other = integrate_ensemble(STATED, starts, 100.0, constants={"N": pairs, "L": labels})
    np.testing.assert_allclose(other.theta, one.theta, rtol=1e-7, atol=1e-7)
    np.testing.assert_allclose(other.t_transition, one.t_transition, rtol=1e-7)
    np.testing.assert_array_equal(other.n_steps, one.n_steps)
    assert STATED.pack_address
    assert not kernel.pack_address


@pytest.fixture(scope="module")
def together():
    """Trajectories in lanes, of very different lengths."""
    rng = np.random.default_rng(5)
    starts = rng.normal(size=(101, 3)) * 10.0 ** rng.uniform(-2, 1, (101, 1))
    counts = {"N": rng.integers(2, 40, 101), "L": rng.integers(40, 80, 101)}
    mobility = rng.uniform(0.1, 2.0, (101, 3))
    return (
        starts,
        counts,
        mobility,
        integrate_ensemble(STATED, starts, 50.0, mobility, constants=counts),
    )


@pytest.mark.parametrize("m", [1, 2, 3, 4, 5, 7, 8, 9, 100])
def test_a_trajectory_does_not_know_its_companions(together, m):
    starts, counts, mobility, whole = together
    for chosen in (np.arange(m), np.random.default_rng(m).permutation(101)[:m]):
        part = integrate_ensemble(
            STATED,
            starts[chosen],
            50.0,
            mobility[chosen],
            constants={name: values[chosen] for name, values in counts.items()},
        )
        for name in ("theta", "loss", "t", "n_steps", "n_rejected", "t_transition", "width"):
            np.testing.assert_array_equal(getattr(part, name), getattr(whole, name)[chosen])


@pytest.mark.parametrize("workers", [1, 2, 5])
def test_nor_the_threads(together, workers, monkeypatch):
    starts, counts, mobility, whole = together
    monkeypatch.setattr("cliff.flow.CHUNK", 160)  # ten trajectories to a thread at a time
    assert whole == integrate_ensemble(
        STATED, starts, 50.0, mobility, constants=counts, workers=workers
    )


def test_in_lanes_as_alone(together):
    """Up to rounding, since packs have an exponential of their own."""
    starts, counts, mobility, whole = together
    for i in range(0, 101, 7):
        model = STATED.with_constants(**{name: values[i].item() for name, values in counts.items()})
        run = integrate(model, starts[i], 50.0, mobility[i])
        np.testing.assert_allclose(whole.theta[i], run.theta[-1], rtol=1e-8, atol=1e-9)
        assert whole.n_steps[i] == run.n_steps
        assert whole.loss[i] == pytest.approx(run.loss[-1], abs=1e-9)


def speed(theta, factor):
    return factor, factor * theta[0] ** 2 + 1.0, 1.0


def fails(theta, limit):
    if theta[2] > limit:
        raise ValueError
    return 1.0, 1.0, 1.0


def test_mobility_functions_and_limits_hold_for_each_lane(rng):
    starts = 0.3 * rng.normal(size=(30, 3))
    arguments = rng.uniform(0.1, 2.0, (30, 1))
    whole = integrate_ensemble(STATED, starts, 80.0, speed, mobility_args=arguments)
    limited = integrate_ensemble(STATED, starts, 80.0, speed, mobility_args=arguments, max_steps=12)
    ended = integrate_ensemble(STATED, starts, 80.0, fails, mobility_args=5.0 * arguments)
    for i in (0, 5, 17, 29):
        run = integrate(STATED, starts[i], 80.0, speed, mobility_args=arguments[i])
        np.testing.assert_allclose(whole.theta[i], run.theta[-1], rtol=1e-8, atol=1e-9)
        run = integrate(STATED, starts[i], 80.0, fails, mobility_args=5.0 * arguments[i])
        assert list(Status)[ended.status[i]] is run.status
        np.testing.assert_allclose(ended.theta[i], run.theta[-1], rtol=1e-6, atol=1e-6)
    assert (limited.n_steps <= 12).all()
    stopped = limited.status == list(Status).index(Status.STEP_LIMIT)
    np.testing.assert_array_equal(stopped, whole.n_steps > 12)
    assert {"done", "mobility failed"} == {str(list(Status)[code]) for code in ended.status}


def test_a_lane_that_leaves_the_numbers_harms_no_other():
    x = sp.Symbol("x", real=True)
    wild = Landscape([x], velocity=[x**3])  # infinite after 1/(2x²)
    starts = np.array([[0.1], [5.0], [-0.2], [1e200], [0.05], [0.0]])
    ensemble = integrate_ensemble(wild, starts, 1.0)
    quiet = [0, 2, 4, 5]
    exact = starts[quiet] / np.sqrt(1.0 - 2.0 * starts[quiet] ** 2)
    np.testing.assert_allclose(ensemble.theta[quiet], exact, rtol=1e-6)
    assert ensemble.done.tolist() == [True, False, True, False, True, True]
    assert np.isfinite(ensemble.theta).all()


def test_constants_are_checked_by_the_landscape():
    model, starts = NestedLogit(8, 32), np.zeros((3, 3))
    for constants, message in (
        ({"n_pairs": [4, 40, 8]}, r"n_labels=32: must be at least .* 40 \(trajectory 1\)"),
        ({"n_pairs": [4, 5]}, "n_pairs=.*must be 3 integers of at least 1"),
        ({"depth": 2}, "depth=2: is no constant of this landscape: n_pairs, n_labels, label_bias"),
        ({"label_bias": [0.0, np.inf, 1.0]}, "label_bias=.*must be finite"),
        ({"n_pairs": 10**8, "n_labels": 10**9}, r"n_pairs=100000000: .*\(trajectory 0\)"),
    ):
        with pytest.raises(ArgumentError, match=message):
            integrate_ensemble(model, starts, 1.0, constants=constants)
    biased = integrate_ensemble(model, starts, 50.0, constants={"label_bias": [0.0, 1.0, 2.0]})
    for i, bias in enumerate((0.0, 1.0, 2.0)):
        run = integrate(NestedLogit(8, 32, label_bias=bias), starts[i], 50.0)
        np.testing.assert_array_equal(biased.theta[i], run.theta[-1])
    with pytest.raises(ArgumentError, match=r"label_bias=1\.0: is no constant"):
        NestedLogit(label_bias="free").with_constants(label_bias=1.0)
    assert model.with_constants(n_pairs=4) == NestedLogit(4, 32)


# ---- a landscape of one's own --------------------------------------------------------------------


def bowl(theta, k):
    return 0.5 * k * (theta[0] ** 2 + 4.0 * theta[1] ** 2)


def bowl_gradient(theta, k):
    return k * theta[0], 4.0 * k * theta[1]


def low(theta, k):
    return theta[0] - 0.5


def test_functions_flow_in_single_lanes():
    made = Landscape.from_functions(
        sp.symbols("a b"), bowl, bowl_gradient, None, {"k": 2.0}, events={"low": low}, plateau=5.0
    )
    run = integrate(made, [1.0, 1.0], 3.0, **TIGHT)
    np.testing.assert_allclose(run.theta[-1], np.exp([-6.0, -24.0]), atol=1e-9)
    assert run.events["low"][0] == pytest.approx(np.log(2.0) / 2.0, abs=1e-8)
    assert run.events["fall_begins"][0] == pytest.approx(
        integrate(made, [1.0, 1.0], 3.0, method="radau", **TIGHT).events["fall_begins"][0], abs=1e-6
    )
    ensemble = integrate_ensemble(made, [[1.0, 1.0]] * 3, 1.0, constants={"k": [1.0, 2.0, 3.0]})
    np.testing.assert_allclose(ensemble.theta[:, 0], np.exp([-1.0, -2.0, -3.0]), rtol=1e-5)


@pytest.mark.parametrize("method", ["dopri5", "radau"])
def test_a_landscape_comes_back_with_its_results(method, tmp_path):
    model = causal_attention(32)
    run = integrate(model, [0.0, 0.0, 0.0], 5000.0, method=method)
    assert len(run.events["fall"]) == 1
    back = cliff.load(run.save(tmp_path / "run.nc"))
    assert back == run
    assert back.model == model
    assert back.transition() == run.transition()
    back = cliff.load(
        integrate(OSCILLATOR, [1.0, 0.0], 29.0, rule=Momentum(50.0)).save(tmp_path / "o.nc")
    )
    assert json.loads(back.provenance["parameters"])["rule"] == "momentum"
    assert len(back.events["down"]) > 3
    assert back.events["far"].size == 0
    ensemble = integrate_ensemble(model, np.zeros((3, 3)), 5000.0, constants={"N": [8, 16, 32]})
    back = cliff.load(ensemble.save(tmp_path / "ensemble.nc"))
    assert back == ensemble
    assert back.constants["N"].tolist() == [8, 16, 32]
    assert back.constants["N"].dtype == np.int64
    plain = integrate(Landscape([X], X**2), [1.0], 2.0)
    assert plain.events == {}
    assert cliff.load(plain.save(tmp_path / "plain.nc")) == plain
    plain = integrate_ensemble(Landscape([X], X**2), [[1.0], [2.0]], 2.0)
    assert cliff.load(plain.save(tmp_path / "plain.nc")) == plain


def test_functions_cannot_be_saved(tmp_path):
    made = Landscape.from_functions(sp.symbols("a b"), bowl, bowl_gradient, None, {"k": 2.0})
    run, ensemble = integrate(made, [1.0, 1.0], 1.0), integrate_ensemble(made, [[1.0, 1.0]], 1.0)
    for result in (run, ensemble):
        with pytest.raises(ArgumentError, match="is made of functions"):
            result.save(tmp_path / "run.nc")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("layout", [1, 2])
def test_files_of_earlier_layouts_are_read(layout, tmp_path):
    model = NestedLogit(8, 32)
    run = integrate(model, [0.01] * 3, 150.0)
    ensemble = integrate_ensemble(
        model, [[0.01] * 3] * 2, 150.0, constants={"n_labels": [16, 2**40]}
    )
    for result, kind in ((run, "trajectory"), (ensemble, "ensemble")):
        data = result.to_dataset()
        crossings = data["events"].values
        crossings = crossings[:, 0] if kind == "trajectory" else crossings
        dims = ("level",) if kind == "trajectory" else ("trajectory", "level")
        data = data.drop_vars(["events", "event"]).assign(crossings=(dims, crossings))
        if kind == "ensemble":
            names = {f"constant_{k}": k for k in ("n_pairs", "n_labels")}
            data = data.rename(names).drop_vars("constant_label_bias")
        data = data.assign_attrs(cliff_kind=kind, cliff_format=layout)
        path = tmp_path / f"{kind}.nc"
        if layout == 1:
            wide = ["n_labels"] if kind == "ensemble" else []
            for name in wide:
                data[name] = data[name].astype(float).assign_attrs(cliff_integers="int64")
            data.to_netcdf(path, engine="scipy")
        else:
            data.to_netcdf(path, engine="h5netcdf")
        back = cliff.load(path)
        assert isinstance(back, Trajectory | Ensemble)
        assert back == result


def test_the_kernel_keeps_to_its_scratch():
    """`evaluate_direct` has a row for every token: 2N + 1 and two that stand for none at slot 1."""
    for n in range(1, 12):
        size = kernels.workspace.py_func(n)
        work = np.full(size + 64, -7.0)
        gradient, hessian, measures = np.empty(5), np.empty((5, 5)), np.empty(6)
        memory = kernels.NO_MEMORY, np.zeros(1)
        kernels.evaluate_direct(
            kernels.EXACT, n, 3.0, 400.0, 1.0, 2.0, 0.0, memory, True, work, gradient, hessian,
            measures,
        )  # fmt: skip
        assert (work[size:] == -7.0).all()
        assert (work[:size] != -7.0).any()


def test_a_flow_of_nested_logit_starts_without_sympy():
    code = (
        "import sys; from cliff import NestedLogit, integrate, integrate_ensemble; "
        "integrate(NestedLogit(), [0.0] * 3, 1.0); "
        "integrate_ensemble(NestedLogit(), [[0.0] * 3], 1.0); "
        "print('sympy' in sys.modules)"
    )
    found = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=300
    )
    assert found.stdout.strip() == "False", found.stderr
