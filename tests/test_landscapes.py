"""The gallery: every landscape's law of time, to the tolerance that its derivation allows."""

import math

import numpy as np
import pytest
from scipy.integrate import solve_ivp

from cliff.checks import ArgumentError
from cliff.kernels import generated
from cliff.landscape import Landscape
from cliff.landscapes import (
    GALLERY,
    attention_and_value,
    causal_attention,
    memory_and_context,
    product_of_factors,
    product_of_vectors,
)
from cliff.landscapes.causal import emergence_time as causal_time
from cliff.landscapes.factors import rise_time
from cliff.landscapes.memory import acquisition_time
from cliff.landscapes.sparse_attention import emergence_time as attention_time
from cliff.landscapes.vectors import clamped_time


def first_time(landscape, event, start, t_end, mobility=1.0):
    """When a flow's event happens, by SciPy at rtol 1e-9."""
    row = 1 + landscape.n_parameters + landscape.event_names.index(event)

    def level(t, theta):
        out = np.empty((1, landscape.n_out))
        constants = landscape.constants_row
        generated.evaluate_rows(landscape.address, theta[np.newaxis], constants, 1, 0, out)
        return out[0, row]

    level.terminal = True

    def velocity(t, theta):
        return -np.asarray(mobility) * landscape.gradient(theta)

    options = {"method": "LSODA", "rtol": 1e-9, "atol": 1e-12, "events": level}
    solution = solve_ivp(velocity, (0.0, t_end), np.asarray(start, dtype=float), **options)
    assert solution.t_events[0].size, "the event did not happen"
    return solution.t_events[0][0]


@pytest.mark.parametrize("name", GALLERY)
def test_every_landscape_states_itself(name):
    landscape = GALLERY[name]()
    assert landscape.event_names
    assert landscape.plateau > 0
    assert "arXiv" in GALLERY[name].__doc__
    assert Landscape.from_data(landscape.to_data()) == landscape
    waiting = np.zeros(landscape.n_parameters)
    waiting[-1] = 1.0 if name == "causal_attention" else 0.0  # its readout learns first
    # the plateau of the nested logit is not where a flow starts
    start = math.log(landscape.L) if name == "finite_dimension" else landscape.plateau
    assert landscape.loss(waiting) == pytest.approx(start, rel=1e-14)
    assert np.isfinite(landscape.hessian(waiting)).all()


@pytest.mark.parametrize("n", [1, 2, 3, 4])
@pytest.mark.parametrize("s", [0.5, 2.0])
def test_product_of_factors_is_a_quadrature(n, s):
    """Exact: the tolerance is the integrations' own."""
    time = rise_time(0.05, n, s)
    landscape = product_of_factors(n, s)
    assert first_time(landscape, "rise", [0.05] * n, 2 * time) == pytest.approx(time, rel=1e-6)
    if n == 2:  # the closed form of the source
        u = 0.05**2
        assert time == pytest.approx(math.log((s - u) / u) / (2 * s), rel=1e-9)


def test_unequal_factors_do_not_keep_to_the_quadrature():
    """A negative control: the law is of equal factors."""
    time = first_time(product_of_factors(2), "rise", [0.1, 0.025], 50.0)  # the same product
    assert abs(time / rise_time(0.05, 2) - 1) > 0.05


@pytest.mark.parametrize(("d", "T"), [(100, 4000), (400, 8000), (1600, 16000)])
def test_attention_and_value(d, T):
    law = attention_time(d, T)
    time = first_time(attention_and_value(d, T), "attend", [0.0, 0.0], 3 * law)
    assert time == pytest.approx(law, rel=0.25 / math.sqrt(d))


def test_attention_and_value_approaches_its_law():
    errors = [
        first_time(attention_and_value(d, 200 * d), "attend", [0.0, 0.0], 1e9)
        / attention_time(d, 200 * d)
        - 1
        for d in (25, 100, 400)
    ]
    assert errors[0] > 1.8 * errors[1] > 1.8**2 * errors[2] > 0  # as 1/√d


@pytest.mark.parametrize(("w", "beta"), [(0.0, 0.0), (1.0, 0.5), (-0.5, -1.0)])
def test_memory_and_context_with_a_memory_that_stands_still(w, beta):
    N = 4000
    law = acquisition_time(N, math.inf, w, beta)
    landscape = memory_and_context(N, 1e15)
    time = first_time(landscape, "acquire", [w, beta, 0.0], 2 * law)
    assert 0 < time - law < 4 * math.log(N)  # while attention is neither small nor all
    formula = math.sqrt(math.pi / 2) * math.exp(w**2 / 2) * math.erfc(w / math.sqrt(2))
    assert law == pytest.approx(formula * N * math.exp(-beta) / 0.5, rel=1e-12)


@pytest.mark.parametrize("share", [0.2, 1.0, 4.0])
def test_memory_takes_the_force_away(share):
    """The race: K from five times to a quarter of what the context needs."""
    N = 4000
    K = acquisition_time(N) / 2 / share
    law = acquisition_time(N, K)
    time = first_time(memory_and_context(N, K), "acquire", [0.0, 0.0, 0.0], 2 * law)
    # the time above, which passes more slowly by the residual
    assert 0 < time - law < 5 * math.log(N) * (1 + math.exp(share)) / 2
    assert law > acquisition_time(N)


@pytest.mark.parametrize("n_clamped", [0, 1, 2])
@pytest.mark.parametrize("start", [1e-2, 1e-3])
def test_product_of_vectors_with_some_clamped(n_clamped, start):
    """Exact: the tolerance is the integrations' own."""
    theta, mobility = np.zeros(6), np.ones(6)
    theta[::2] = start
    theta[: 2 * n_clamped : 2] = 1.0
    mobility[: 2 * n_clamped] = 0.0
    law = clamped_time(start, n_clamped)
    time = first_time(product_of_vectors(), "rise", theta, 2 * law, mobility)
    assert time == pytest.approx(law, rel=1e-5)


def test_the_orders_of_clamping():
    """1/ε, ln 1/ε, O(1), to the next order in ε."""
    for start in (1e-3, 1e-4):
        assert clamped_time(start, 0) * start == pytest.approx(1.0, rel=3 * start)
        assert clamped_time(start, 1) == pytest.approx(math.log(1 / start), rel=1e-3)
        assert clamped_time(start, 2) == pytest.approx(math.log(2), rel=2 * start)


def test_what_points_elsewhere_dies_out():
    theta = [0.05, 0.02, 0.05, -0.02, 0.05, 0.01]
    landscape = product_of_vectors()
    time = first_time(landscape, "rise", theta, 1e3)
    assert time > clamped_time(0.05, 0)  # the same overlap, with detours
    path = solve_ivp(lambda t, y: -landscape.gradient(y), (0, 5 * time), theta, rtol=1e-8)
    final = path.y[:, -1]
    assert landscape.loss(final) < 1e-3
    assert np.abs(final[1::2]).max() < 0.1


@pytest.mark.parametrize("N", [64, 256, 1024])
def test_causal_attention_takes_a_time_quadratic_in_the_context(N):
    law = causal_time(N)
    time = first_time(causal_attention(N), "fall", [0.0, 0.0, 0.0], 3 * law)
    assert time == pytest.approx(law, rel=math.log(N) / (2 * N))


def test_the_exponent_of_causal_attention():
    sizes = np.array([128, 512, 2048])
    times = [
        first_time(causal_attention(N), "fall", np.zeros(3), 3 * causal_time(N)) for N in sizes
    ]
    assert np.polyfit(np.log(sizes), np.log(times), 1)[0] == pytest.approx(2.0, abs=0.02)


def test_readout_then_match_then_previous_token():
    landscape = causal_attention(64)
    times = [
        first_time(landscape, event, np.zeros(3), 3 * causal_time(64))
        for event in ("gamma_up", "beta_up", "alpha_up")
    ]
    assert times[0] < 64 < times[1] < times[2] < causal_time(64)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: product_of_factors(0), "n=0: must be an integer of at least 1"),
        (lambda: product_of_factors(2, "1"), "s='1': must be a finite number"),
        (lambda: rise_time(0.9, 2), "start=0.9: must be between 0 and 0.707107"),
        (lambda: rise_time(0.1, 2, -1.0), "s=-1.0: must be a finite number above 0"),
        (lambda: clamped_time(0.1, 3), "n=0: must be an integer"),
        (lambda: memory_and_context(N=0.5), "must not make the weight N - 1 negative"),
    ],
)
def test_mistakes_are_named(call, message):
    with pytest.raises(ArgumentError, match=message):
        call()
