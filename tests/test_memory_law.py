"""Mobilities with memory: the law as stated, and matched where it is planted."""

import dataclasses
import json

import numpy as np
import pytest
import xarray as xr

from cliff import Data, NestedLogit, Task
from cliff.checks import ArgumentError
from cliff.memory_law import (
    LABEL_GAIN,
    MemoryCurves,
    MemoryLaw,
    landscape_of,
    match_memory,
    memory_curves_of,
    mobility,
)

LAW = MemoryLaw(0.05, 0.2, 0.4, 0.3, 30.0, 1.2, 0.2, 0.5, 1.1, 11.0, 2.5)
TASK = Task(n_pairs=4, n_labels=8, n_classes=64, p_novel=0.0)


def curves(task=TASK, law=LAW, t_end=120.0, seed=0):
    """The curves that a network would record that follows the law from near the origin."""
    model = landscape_of(task)
    flow = law.flow(model, t_end, t_eval=np.linspace(0.0, t_end, 400), rtol=1e-9, atol=1e-12)
    return MemoryCurves(model, seed, flow.t, flow.theta, flow.loss)


def stated(law, model, theta):
    """The law as its docstring states it."""
    data, xi, omega = model.memory, abs(theta[2]), np.abs(theta[4:])
    w = float(omega @ data.group_shares)
    bound = law.limit * (1 + law.limit_growth * w)
    v = law.memory_context * xi / (1 + xi) + w
    rho = 1 / (1 + data.noise**2)
    learned = law.memory_start + law.memory_growth * v + law.memory_curvature * v * v
    context = law.xi_start + law.xi_growth * (xi + np.sqrt(128 / 63) * w)
    return [
        law.beta1,
        law.alpha,
        1 / (model.n_labels / context + 1 / bound),
        law.beta2 / (2 * model.n_pairs + 1),
        *(1 / (count / (rho * learned) + 1 / bound) for count in data.group_sizes),
    ]


@pytest.mark.parametrize("zipf_exponent", [0.0, 1.0])
@pytest.mark.parametrize("noise", [0.0, 0.7])
def test_the_law_is_what_it_says(zipf_exponent, noise):
    data = Data(n_classes=100, zipf_exponent=zipf_exponent, noise=noise)
    model = NestedLogit(8, 32, label_bias="free", memory=data)
    rng = np.random.default_rng(3)
    for _ in range(20):
        theta = rng.normal(0, 3, model.n_parameters)
        found = mobility(theta, *LAW.arguments(model))
        np.testing.assert_allclose(found, stated(LAW, model, theta), rtol=1e-12)


def test_a_planted_law_is_found_again():
    found = match_memory([curves(), curves(dataclasses.replace(TASK, n_classes=128), t_end=200.0)])
    for name in ("beta1", "alpha", "beta2"):
        assert getattr(found, name) == pytest.approx(getattr(LAW, name), rel=0.02)
    model = landscape_of(TASK)
    theta = np.array([0.1, 0.3, 1.5, 0.1, 0.8])
    again = mobility(theta, *found.arguments(model))
    np.testing.assert_allclose(again, mobility(theta, *LAW.arguments(model)), rtol=0.03)
    # curves that are taken for those of half as many classes have memories half as slow
    wrong = [one._replace(model=landscape_of(dataclasses.replace(TASK, n_classes=32)))
             for one in [curves()]]  # fmt: skip
    other = mobility(theta, *match_memory(wrong).arguments(model))
    assert other[4] < 0.7 * again[4]


def test_only_the_slow_phase_counts():
    one = curves()
    chosen = one.slow()
    assert not chosen[0]
    assert (one.loss[chosen] > np.log(4) / 3).all()
    assert one.loss[np.flatnonzero(chosen)[-1] + 1] <= np.log(4) / 3
    wild = one.theta.copy()
    wild[np.flatnonzero(chosen)[-1] + 2 :] = 1e3
    same = match_memory([one._replace(theta=wild)])
    assert same.constants() == pytest.approx(match_memory([one]).constants(), rel=1e-9)


def recorded(one, **attributes):
    names = ("beta1", "alpha", "xi", "beta2", *one.model.parameter_names[4:])
    variables = {name: ("step", column) for name, column in zip(names, one.theta.T, strict=True)}
    variables |= {"loss": ("step", one.loss), "t": ("step", one.t)}
    run = xr.Dataset(variables, coords={"step": np.arange(len(one.t)), "seed": 7})
    return run.assign_attrs(parameters=json.dumps({"task": TASK.settings()} | attributes))


def test_curves_come_from_runs():
    one = curves()
    (found,) = memory_curves_of(recorded(one))
    assert found.seed == 7
    assert found.model == one.model
    assert found.model.memory.n_classes == 64
    assert found.model.label_bias == "free"
    np.testing.assert_array_equal(found.theta, one.theta)


def test_what_cannot_be_matched_is_refused():
    one = curves()
    with pytest.raises(ArgumentError, match="omega_1: must be among what the run has recorded"):
        memory_curves_of(recorded(one).drop_vars("omega_1"))
    broken = recorded(one._replace(theta=np.where(one.theta > 1, np.nan, one.theta)))
    with pytest.raises(ArgumentError, match="finite"):
        memory_curves_of(broken)
    several = landscape_of(dataclasses.replace(TASK, zipf_exponent=1.0))
    with pytest.raises(ArgumentError, match="one group"):
        match_memory([one._replace(model=several)])
    with pytest.raises(ArgumentError, match="at least 8 records"):
        match_memory([one._replace(t=one.t[:5], theta=one.theta[:5], loss=one.loss[:5])])
    for model in (NestedLogit(4, 8, label_bias="free"), NestedLogit(4, 8, memory=Data())):
        with pytest.raises(ArgumentError, match="free label bias"):
            LAW.arguments(model)


def test_the_gain_is_that_of_the_usual_network():
    assert pytest.approx((TASK.width / TASK.dim) ** 0.5) == LABEL_GAIN
