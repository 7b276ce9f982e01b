"""Ensembles against diffrax and a loop over SciPy, threads against each other, and the floor."""

import numpy as np
import pytest
from numba import njit
from scipy.integrate import solve_ivp

from cliff import NestedLogit, integrate_ensemble
from cliff.kernels import simd
from cliff.kernels.nested_logit import evaluate_batch
from cliff.mobility import Mobilities
from cliff.scipy_methods import VectorField

jax = pytest.importorskip("jax")
jnp = pytest.importorskip("jax.numpy")
jax_landscape = pytest.importorskip("jax_landscape")

T_END, RTOL, ATOL = 1000.0, 1e-6, 1e-9


def starts(count):
    return 0.1 * np.random.default_rng(7).normal(size=(count, 3))


@pytest.mark.parametrize(
    ("n", "labels", "count", "peer_count", "factor"),
    [(8, 32, 20_000, 20_000, 10.0), (64, 256, 20_000, 500, 30.0)],
)
def test_against_diffrax(benchmark, report, seconds, n, labels, count, peer_count, factor):
    model, theta0 = NestedLogit(n, labels), starts(count)
    integrate_ensemble(model, theta0[:8], T_END)
    solve = jax.jit(jax.vmap(jax_landscape.solver(n, labels, T_END, RTOL, ATOL)))
    on_device = jnp.asarray(theta0[:peer_count])
    ends = jax.block_until_ready(solve(on_device))
    theirs = seconds(lambda: jax.block_until_ready(solve(on_device))) / peer_count
    ensemble = benchmark.pedantic(integrate_ensemble, (model, theta0, T_END), rounds=3)
    ours = min(benchmark.stats.stats.data) / count
    np.testing.assert_allclose(ensemble.theta[:peer_count], ends, rtol=2e-3, atol=2e-3)
    report(f"a trajectory of {count}, N = {n}", "diffrax jit(vmap)", ours, theirs)
    assert theirs / ours >= factor


def test_against_a_loop_over_lsoda(benchmark, report, seconds):
    model, theta0 = NestedLogit(8, 32), starts(20_000)
    field = VectorField(Mobilities.check(model, (1, 1, 1), (), theta0[0]))

    def loop():
        for start in theta0[:100]:
            solve_ivp(field, (0.0, T_END), start, "LSODA", rtol=RTOL, atol=ATOL)

    integrate_ensemble(model, theta0[:8], T_END)
    theirs = seconds(loop) / 100
    benchmark.pedantic(integrate_ensemble, (model, theta0, T_END), rounds=3)
    ours = min(benchmark.stats.stats.data) / len(theta0)
    report("a trajectory of 20000, N = 8", "a loop over SciPy LSODA", ours, theirs)
    assert theirs / ours >= 25.0


def test_two_threads_against_one(benchmark, report, seconds):
    model, theta0 = NestedLogit(8, 32), starts(20_000)
    integrate_ensemble(model, theta0[:8], T_END)
    one = min(seconds(lambda: integrate_ensemble(model, theta0, T_END, workers=1)) for _ in "123")
    two = min(seconds(lambda: integrate_ensemble(model, theta0, T_END, workers=2)) for _ in "123")
    benchmark.pedantic(integrate_ensemble, (model, theta0, T_END), {"workers": 2}, rounds=1)
    report("20000 trajectories on two threads", "on one", two, one)
    assert one / two >= 1.85


@njit(nogil=True)
def _exponentials(x, out):
    for row in range(x.size // simd.LANES):
        simd.store(out, row, simd.exp(simd.load(x, row)))


def test_distance_to_the_floor(benchmark, best_of, capsys):
    """A gradient needs so many exponentials; how long would they take by themselves?"""
    n, m = 8, 4096
    pairs_of_slots = n * (n - 1) // 2
    needed = 3 * n + 2 + n + (n - 1) + pairs_of_slots  # factors, match, before it, after it
    x = np.random.default_rng(1).uniform(0.0, 5.0, 4096)
    out = np.empty_like(x)
    rate = best_of(_exponentials, x, out) / len(x)
    theta, results = np.random.default_rng(2).normal(size=(m, 4)), np.empty((m, 5))
    theta[:, 3] = 0.0
    one = best_of(evaluate_batch, 0, n, 24.0, theta, False, results) / m
    model, theta0 = NestedLogit(n, 32), starts(4096)
    ensemble = integrate_ensemble(model, theta0, T_END, workers=1)
    evaluations = 6 * (ensemble.n_steps + ensemble.n_rejected).sum() + m
    whole = best_of(lambda: integrate_ensemble(model, theta0, T_END, workers=1)) / evaluations
    benchmark(evaluate_batch, 0, n, 24.0, theta, False, results)
    with capsys.disabled():
        print(
            f"\nfloor at N = {n}: {needed} exponentials x {rate * 1e9:.2f} ns = "
            f"{needed * rate * 1e9:.0f} ns; a gradient takes {one * 1e9:.0f} ns "
            f"({one / rate / needed:.1f} floors), an ensemble {whole * 1e9:.0f} ns an evaluation "
            f"({whole / rate / needed:.1f} floors)"
        )
    assert one / rate / needed < 6.0
