"""Curricula: schedules as data, flows and training along them, and the best one."""

import dataclasses
import json
import math
import pickle
import re
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
from scipy.integrate import solve_ivp
from scipy.optimize import brentq

from cliff import (
    Adaptive,
    NestedLogit,
    Schedule,
    Task,
    Transformer,
    design_curriculum,
    integrate_schedule,
    integrate_schedules,
    load,
    plots,
    train,
)
from cliff.checks import ArgumentError
from cliff.cli import main
from cliff.cli.common import describe
from cliff.curriculum import falls
from cliff.design import COSTS, Rates, cost_of
from cliff.kernels import transformer as passes
from cliff.mobility_law import MEASURED, curves_of, mobility
from cliff.network import cost, reference
from cliff.network.layers import Held
from cliff.network.measures import measures
from cliff.network.runs import Run, run_all
from cliff.network.training import TrainingState
from cliff.protocol import FALL
from cliff.task import EVALUATION, stream
from cliff.trajectory import Status
from figures import HERE, prediction

TARGET = (16, 64)


def along(*stages, target=TARGET):
    """The schedule of some (until, N) that ends at the target."""
    settings = [(until, {"n_pairs": n}) for until, n in stages]
    return Schedule([*settings, (None, {"n_pairs": target[0], "n_labels": target[1]})])


# ---- schedules as data ---------------------------------------------------------------------------


def test_a_schedule_is_data(tmp_path):
    schedule = along((120, 2), (160.5, 4))
    same = Schedule(
        [(120.0, {"n_pairs": np.int64(2)}), (160.5, {"n_pairs": 4}),
         (math.inf, {"n_labels": 64, "n_pairs": 16})]
    )  # fmt: skip
    assert schedule == same
    assert hash(schedule) == hash(same)
    assert schedule != along((120, 2), (160, 4))
    assert schedule != along((120, 3), (160.5, 4))
    assert pickle.loads(pickle.dumps(schedule)) == schedule
    assert eval(repr(schedule), {"Schedule": Schedule, "inf": math.inf}) == schedule
    path = schedule.save(tmp_path / "s.json", about="a test")
    assert Schedule.load(path) == schedule
    assert json.loads(path.read_text())["stages"][-1]["until"] is None
    with pytest.raises(dataclasses.FrozenInstanceError):
        schedule.stages = ()
    schedule.settings[0]["n_pairs"] = 9
    assert schedule.settings[0] == {"n_pairs": 2}
    assert json.loads(path.read_text())["about"] == "a test"


@pytest.mark.parametrize(
    ("stages", "message"),
    [
        ([], "stages=[]: must have at least the target"),
        (3, "stages=3: must be pairs of a time and a setting"),
        ([(1, {"n_pairs": 2}), (1, {}), (None, {})], "until 1: must be later than .* before, 1"),
        ([(1, {"n_pairs": 2}), (2, {})], "until 2: must be None: the last stage is the target"),
        ([(None, {}), (None, {})], "until None: must be a finite number above 0"),
        ([(0, {}), (None, {})], "until 0: must be a finite number above 0"),
        ([(10**400, {}), (None, {})], r"until 10+\.\.\.: must be a finite number above 0"),
        ([(math.nan, {}), (None, {})], "until nan: must be a finite number above 0"),
        ([(True, {}), (None, {})], "until True: must be a finite number above 0"),
        ([(1, {"pairs": 2}), (None, {})], r"stage 1 \(pairs\): must be one of n_pairs, n_labels"),
        ([(1, {"dim": 2}), (None, {})], r"stage 1 \(dim\): must be one of n_pairs, n_labels"),
        ([(1, {"n_pairs": 2.0}), (None, {})], r"n_pairs=2.0\): must be an integer of at least 1"),
        ([(1, {"n_pairs": 0}), (None, {})], r"n_pairs=0\): must be an integer of at least 1"),
        (
            [(1, {"n_pairs": 9}), (None, {"n_pairs": 4, "n_labels": 8})],
            r"stage 1 \(n_labels=8\): must be at least 9, the classes in a bursty context",
        ),
        ([(1, {"p_novel": 2}), (None, {})], r"p_novel=2\): must be a number from 0 to 1"),
        ([(1, {"n_pairs": 3, "burstiness": 2}), (None, {})], "burstiness=2.*must divide the 3"),
    ],
)
def test_mistakes_in_a_schedule_get_one_line(stages, message):
    with pytest.raises(ArgumentError, match=message.replace("[]", r"\[\]")) as caught:
        Schedule(stages)
    assert "\n" not in str(caught.value)


def test_labels_repeated_by_bursts_need_not_be_distinct():
    assert Schedule([(1, {"n_pairs": 8, "burstiness": 2}), (None, {"n_labels": 4, "n_pairs": 4})])


@pytest.mark.parametrize(
    ("schedule", "task", "message"),
    [
        (along((9, 31)), Task(16, 64, window=33), "window=33.*at least 63, the tokens"),
        (along((9, 33)), Task(16, 64), "window=65.*at least 67, the tokens"),
        (along((9, 2)), Task(8, 64), "n_pairs=16.*must be the task itself, whose n_pairs is 8"),
        (along((9, 2)), Task(16, 32), "n_labels=64.*must be the task itself, whose n_labels is 32"),
        (
            Schedule([(9, {"n_labels": 32}), (None, {"n_labels": 16, "n_pairs": 2})]),
            Task(2, 16),
            "n_labels=32.*must be at most 16, the labels of the network",
        ),
        (
            Schedule([(9, {"n_labels": 8}), (None, {"p_novel": 0.5})]),
            Task(2, 16, p_novel=0.5),
            "n_labels=8.*must be 16 where known classes are drawn",
        ),
    ],
)
def test_a_schedule_has_to_fit_the_task(schedule, task, message):
    with pytest.raises(ArgumentError, match=message) as caught:
        train(Transformer(task, width=4), task, 1, curriculum=schedule)
    assert re.match("--curriculum (stage|the last stage)", describe(caught.value))


VERSIONS = ("Infinity", "NaN", "1e999", "-3", "0", "1.0", "1.9", '"1"', "true", "null", "[1]")


@pytest.mark.parametrize(
    "content",
    [
        "",
        "[]",
        "{}",
        '{"cliff_schedule": "x"}',
        "\0",
        '{"a": NaN}',
        pytest.param(100_000 * "[", id="deep"),
        *(
            f'{{"cliff_schedule": {version}, "stages": [{{"until": null, "setting": {{}}}}]}}'
            for version in VERSIONS
        ),
    ],
)
def test_files_that_are_no_schedules(content, tmp_path):
    path = tmp_path / "s.json"
    path.write_text(content)
    with pytest.raises(ArgumentError, match="is no schedule"):
        Schedule.load(path)
    with pytest.raises(ArgumentError, match="cannot be read"):
        Schedule.load(tmp_path / "none.json")
    path.write_text('{"cliff_schedule": 2, "stages": []}')
    with pytest.raises(ArgumentError, match="newer version"):
        Schedule.load(path)


def test_a_stage_ends_at_the_first_step_that_reaches_its_time():
    """Products such as 0.29 · 100 = 28.999999999999996 have reached 29."""
    for lr, n_steps in ((0.29, 100), (0.1, 1200), (0.07, 100), (0.3, 7)):
        schedule = along((round(lr * n_steps, 6), 2))
        assert schedule.stage_at(lr * n_steps) == 1
        assert schedule.stage_at(lr * (n_steps - 1)) == 0
    assert [along((1, 2), (2, 4)).stage_at(t) for t in (0, 1, 1.5, 2, 1e9)] == [0, 1, 1, 2, 2]


# ---- flows ---------------------------------------------------------------------------------------


def by_scipy(stages, target, t_end, rtol=1e-9):
    """The same flow by SciPy, and the first time at which the target's loss is ½ log N."""
    theta, begin, level = np.zeros(4), 0.0, 0.5 * math.log(target[0])
    goal = NestedLogit(*target, label_bias="free")
    for until, n, count in [*stages, (t_end, *target)]:
        model, arguments = NestedLogit(n, count, label_bias="free"), MEASURED.arguments(n, count)

        def velocity(_, y, model=model, arguments=arguments):
            return -np.array(mobility(y, *arguments)) * model.gradient(y)

        found = solve_ivp(velocity, (begin, until), theta, "DOP853", rtol=rtol, atol=1e-12,
                          dense_output=True)  # fmt: skip
        for a, b in zip(found.t, found.t[1:], strict=False):
            if goal.loss(found.sol(b)) <= level:
                return brentq(lambda t, s=found.sol: goal.loss(s(t)) - level, a, b), begin
        theta, begin = found.y[:, -1], until
    return math.nan, begin


@pytest.mark.parametrize(
    ("stages", "target"),
    [
        ([], (8, 32)),
        ([(60, 2, 32)], (8, 32)),
        ([(80, 2, 32), (110, 4, 32)], (8, 32)),
        ([(60, 2, 8)], (8, 32)),
        ([(70, 4, 4)], (6, 24)),
        ([(400, 2, 32)], (3, 32)),  # falls before the target begins
        ([(40, 20, 64)], (8, 64)),
    ],
)
def test_the_flow_is_scipy_s(stages, target):
    schedule = Schedule(
        [*((u, {"n_pairs": n, "n_labels": c}) for u, n, c in stages),
         (None, {"n_pairs": target[0], "n_labels": target[1]})]
    )  # fmt: skip
    expected, began = by_scipy(stages, target, 1500.0)
    one = integrate_schedule(schedule, 1500.0)
    assert one.transition().t_transition == pytest.approx(expected, rel=1e-4)
    assert [len(one.events[name]) for name in FALL] == [1, 1, 1]  # not once more at a switch
    many = integrate_schedules([schedule], 1500.0)
    assert many.t_transition[0] == pytest.approx(expected, rel=1e-4)
    assert many.status == [Status.EVENT]
    assert many.stage[0] == sum(until <= began for until, *_ in stages)


def test_one_stage_is_the_law_s_own_flow():
    whole, parts = MEASURED.flow(8, 32, 500.0), integrate_schedule(along(target=(8, 32)), 500.0)
    np.testing.assert_allclose(parts.theta, whole.theta, rtol=1e-12)
    assert parts.transition() == whole.transition()
    # a switch between equal stages changes nothing
    cut = integrate_schedule(along((100, 8), (390, 8), target=(8, 32)), 500.0)
    assert cut.transition().t_transition == pytest.approx(whole.transition().t_transition, rel=1e-6)
    assert cut.transition().width == pytest.approx(whole.transition().width, rel=1e-5)


def test_a_trajectory_along_a_schedule(tmp_path):
    schedule = along((120, 2), (160, 4))
    run = integrate_schedule(schedule, 400.0)
    assert run.status is Status.DONE
    assert (np.diff(run.t) > 0).all()
    assert {120.0, 160.0, 400.0} <= set(run.t.tolist())
    goal = NestedLogit(*TARGET, label_bias="free")
    np.testing.assert_allclose(run.loss, goal.loss(run.theta), rtol=1e-12)
    np.testing.assert_allclose(run.path(run.t), run.theta, rtol=1e-12)
    # theta moves as its stage says, on both sides of a switch
    for n, t in ((2, 119.99), (4, 120.01)):
        slope = (run.path(t + 1e-3) - run.path(t - 1e-3)) / 2e-3
        force = -NestedLogit(n, 64, label_bias="free").gradient(run.path(t))
        expected = np.array(mobility(run.path(t), *MEASURED.arguments(n, 64))) * force
        np.testing.assert_allclose(slope, expected, rtol=2e-4)
    loaded = load(run.save(tmp_path / "run.nc"))
    assert loaded == run
    assert loaded.settings["schedule"] == schedule.data()
    assert "mobility_args" not in loaded.settings  # which were those of one stage
    plots.save(plots.draw(loaded), tmp_path / "run.png")


def test_an_ensemble_of_schedules_is_the_single_ones():
    rng = np.random.default_rng(3)
    counts = rng.integers(0, 4, 40)
    times = [np.sort(rng.uniform(1, 300, k)).tolist() for k in counts]
    pairs = [rng.integers(2, 17, k).tolist() for k in counts]
    schedules = [along(*zip(*each, strict=True)) for each in zip(times, pairs, strict=True)]
    many = integrate_schedules(schedules, 1000.0)
    single = [integrate_schedule(each, 1000.0).transition().t_transition for each in schedules]
    np.testing.assert_allclose(many.t_transition, single, rtol=1e-5)
    assert np.isnan(single).any()
    assert (np.array(many.status)[np.isnan(single)] == Status.DONE).all()
    assert (many.stage[np.isnan(single)] == -1).all()
    began = time.process_time()
    integrate_schedules([along((t, 2)) for t in np.linspace(1, 300, 2000)], 1500.0)
    assert time.process_time() - began < 20.0


def test_the_known_times():
    """Predicted before any of them was trained."""
    schedules = [along(), along((60, 2)), along((120, 2))]
    np.testing.assert_allclose(
        integrate_schedules(schedules, 3000.0).t_transition, [1180, 668, 169], rtol=2e-3
    )
    many = integrate_schedules([along(target=(32, 128)), along((200, 2), target=(32, 128))], 9e3)
    np.testing.assert_allclose(many.t_transition, [3924, 265], rtol=2e-3)


def test_what_a_flow_refuses():
    noisy = Schedule([(3, {"noise": 0.5}), (None, {"n_pairs": 8, "n_labels": 32})])
    for schedule, message in (
        (noisy, r"stage 1 \(noise\): the landscape has n_pairs and n_labels only"),
        (Schedule([(None, {"n_pairs": 8})]), "the last stage: must name n_labels"),
        (Schedule([(None, {"n_pairs": 1, "n_labels": 8})]), "has nothing to fall"),
    ):
        with pytest.raises(ArgumentError, match=message):
            integrate_schedule(schedule, 10.0)
    with pytest.raises(ArgumentError, match="must have one target"):
        integrate_schedules([along(), along(target=(8, 32))], 10.0)
    with pytest.raises(ArgumentError, match="t_end=0"):
        integrate_schedule(along(), 0)
    assert integrate_schedules([], 10.0).status == []


def test_the_law_in_the_package_is_that_of_the_figure():
    law = prediction.fitted_law()
    assert dataclasses.replace(law, setting=prediction.FITTED) == MEASURED
    assert (HERE / "data/prediction.nc").exists()


# ---- the best schedule ---------------------------------------------------------------------------


@pytest.fixture(scope="module")
def design():
    return design_curriculum(TARGET)


def test_the_design_beats_a_grid(design):
    grid = [
        along((first, n), *([(first + more, k)] if more else []))
        for n in (2, 3, 4, 6) for first in np.arange(60.0, 240.0, 10.0)
        for k in (4, 6, 8) for more in (0.0, 10.0, 20.0, 40.0)
    ]  # fmt: skip
    best = np.nanmin(integrate_schedules(grid, 1500.0).t_transition)
    assert design.designed["time"] < best
    assert design.designed["time"] > 0.9 * best  # the grid is not far
    assert design.gain["time"] > 6
    assert design.gain["flops"] > 10
    assert design.spread < 0.02
    times = [design.schedule, along()]
    found = integrate_schedules(times, 2000.0).t_transition
    np.testing.assert_allclose(found, [design.designed["time"], design.plain["time"]], rtol=1e-9)


def test_a_design_is_of_its_seed_and_its_cost():
    again = [design_curriculum((6, 24), cost=cost) for cost in ("time", "time", "tokens")]
    assert again[0] == again[1]
    assert again[2].designed["tokens"] < again[0].designed["tokens"]
    assert again[2].designed["time"] > again[0].designed["time"]
    two = design_curriculum((6, 24), n_stages=2, seed=5)
    assert len(two.schedule.stages) == 2
    assert two.designed["time"] >= 0.99 * again[0].designed["time"]


def test_fewer_labels_are_searched_too():
    """On the landscape they help; the figure says that they do not in networks."""
    free = design_curriculum((6, 24), n_stages=2, vary_labels=True)
    held = design_curriculum((6, 24), n_stages=2)
    assert free.designed["time"] < held.designed["time"]
    assert free.schedule.settings[0]["n_labels"] < 24


def test_a_target_that_plain_training_never_learns_has_a_design(command, tmp_path):
    """At L = N the labels of a context are all labels, and to guess among them gains nothing."""
    file, picture = tmp_path / "s.json", tmp_path / "s.png"
    arguments = ["curriculum", "-N4", "-L4", "--stages=2", "--quiet", "--output", file]
    code, out, _ = command(*arguments, "--json", "--plot", picture)
    assert code == 0
    told = json.loads(out)
    assert told["gain"] == told["plain"] == dict.fromkeys(COSTS)
    assert json.loads(file.read_text())["designed"]["plain"]["time"] is None
    assert told["curriculum"]["time"] < by_scipy([(100, 2, 4)], (4, 4), 1000.0)[0]
    assert math.isnan(by_scipy([], (4, 4), 1000.0)[0])
    assert picture.exists()
    assert command(*arguments)[1].count("never") == 3


def test_a_design_needs_no_known_classes():
    """Only the dimension of the target's world counts, and its memory is not taken."""
    assert len(design_curriculum(Task(6, 24, 512, dim=4000), n_stages=2).schedule.stages) == 2


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"target": (2, 8)}, "n_pairs=2: must be at least 3"),
        ({"target": (8, 4)}, "n_labels=4: must be at least 8"),
        ({"cost": "money"}, "cost=money: must be one of time, tokens, flops"),
        ({"n_stages": 1}, "n_stages=1: must be an integer of at least 2"),
        ({"n_stages": 5}, "n_stages=5: must be at most 4"),
        ({"law": MEASURED.faster(1e-10)}, "n_pairs=8: is not learned by plain training by t = "),
        ({"seed": -1}, "seed=-1"),
        ({"target": Task(8, 32, burstiness=2)}, "must have novel classes alone, each once"),
        ({"target": Task(8, 32, p_novel=0.5)}, "must have novel classes alone, each once"),
        ({"lr": 0}, "lr=0"),
    ],
)
def test_what_a_design_refuses(arguments, message):
    with pytest.raises(ArgumentError, match=message):
        design_curriculum(**{"target": (8, 32), **arguments})


def test_costs_add_up_over_stages():
    schedule, rates = along((100, 2), (150, 4)), Rates(Task(*TARGET), lr=0.1, batch=128)
    for t, stays in ((60, (60, 0, 0)), (120, (100, 20, 0)), (190, (100, 50, 40))):
        found = cost_of(schedule, t, rates)
        steps = [10 * stay for stay in stays]
        tasks = [Task(n, 64) for n in (2, 4, 16)]
        assert found["time"] == pytest.approx(t)
        assert found["tokens"] == pytest.approx(
            sum(k * 128 * (2 * task.n_pairs + 1) for k, task in zip(steps, tasks, strict=True))
        )
        assert found["flops"] == pytest.approx(
            sum(k * cost.operations(task) for k, task in zip(steps, tasks, strict=True))
        )
    assert set(found) == set(COSTS)


class Counting(np.ndarray):
    """An array that counts the multiply-adds of its products."""

    total = 0

    def __array_ufunc__(self, ufunc, method, *inputs, out=None, **options):
        plain = [np.asarray(x) if isinstance(x, Counting) else x for x in inputs]
        if ufunc is np.matmul:
            a, b = plain
            Counting.total += int(np.prod(np.matmul(a, b).shape)) * a.shape[-1]
        result = getattr(ufunc, method)(*plain, **options)
        return result.view(Counting) if isinstance(result, np.ndarray) else result


@pytest.mark.slow
def test_operations_in_full_are_the_products_of_the_reference_model(monkeypatch):
    def einsum(subscripts, a, b):
        assert subscripts == "btv,btw->vw"
        Counting.total += a.shape[0] * a.shape[1] * a.shape[2] * b.shape[2]
        return np.asarray(np.tensordot(np.asarray(a), np.asarray(b), ((0, 1), (0, 1))))

    numpy = type("numpy", (), {**vars(np), "einsum": staticmethod(einsum)})
    monkeypatch.setattr(reference, "np", numpy)
    for n, batch, width in ((2, 3, 6), (3, 5, 4)):
        task = Task(n, 8, dim=5, window=9)
        net = Transformer(task, width=width, dtype=np.float64)
        theta = {name: value.view(Counting) for name, value in net.parameters.items()}
        sample = task.sample(np.random.default_rng(0), batch)
        u = reference.tokens(sample, net.label_vectors, task.window).view(Counting)
        Counting.total = 0
        loss = reference.transformer(theta, u, sample.answer)[1]
        assert loss == pytest.approx(net.loss_and_gradient(sample), rel=1e-9)
        assert 2 * Counting.total == cost.operations_in_full(task, batch, width)


def test_operations_are_the_products_of_the_compiled_passes(monkeypatch):
    total = 0

    def count(name, formula):
        original = getattr(passes.loops, name)

        def counted(*arguments):
            nonlocal total
            total += formula(*arguments)
            return original(*arguments)

        monkeypatch.setattr(passes.loops, name, counted)

    def dot(a, b, out=None):
        nonlocal total
        total += a.shape[0] * a.shape[1] * b.shape[1]
        return np.dot(a, b, out) if out is not None else np.dot(a, b)

    task, batch = Task(3, 8, dim=16, window=9), 5  # contents without padding
    t, d, w = task.n_tokens, task.dim, task.width
    net = Transformer(task, width=6, dtype=np.float64)
    sample = task.sample(np.random.default_rng(0), batch)
    sample = sample._replace(items=sample.items.astype(float))
    slopes = net._slopes(net.gradients)
    expected = passes.differentiate(
        net._weights(), net.label_vectors, sample, net._held(sample), slopes, batch
    )
    before = net.gradients.vector.copy()
    count("overlaps", lambda vectors, *_: len(vectors) * batch * t * d)
    count("mixtures", lambda weights, *_: len(weights) * batch * t * d)
    count("apply", lambda *_: batch * t * t)
    count("apply_transposed", lambda *_: batch * t * t)
    count("attend", lambda *_: batch * t * (t + 1) // 2 * d)
    count("attend_backward", lambda *_: batch * t * t * d)
    numpy = type("numpy", (), {**vars(np), "dot": staticmethod(dot)})
    monkeypatch.setattr(passes, "np", numpy)
    monkeypatch.setattr(passes, "forward", passes.forward.py_func)
    classifier = sys.modules["cliff.kernels.classifier"]
    monkeypatch.setattr(classifier, "np", numpy)
    monkeypatch.setattr(classifier, "classify", classifier.classify.py_func)
    monkeypatch.setattr(passes, "loss_and_slope", classifier.loss_and_slope.py_func)
    loss = passes.differentiate.py_func(
        net._weights(), net.label_vectors, sample, Held(*net._held(sample)), slopes, batch
    )
    assert loss == pytest.approx(expected)
    np.testing.assert_allclose(net.gradients.vector, before, rtol=1e-9, atol=1e-12)
    total += 3 * w**3  # Q1ᵀ K1 before, and the gradients of Q1 and K1 after the passes
    assert 2 * total == cost.operations(task, batch, 6)
    assert cost.operations(task, batch, 6) < cost.operations_in_full(task, batch, 6)


# ---- training along a schedule -------------------------------------------------------------------

SMALL = Task(n_pairs=4, n_labels=8, n_classes=8, dim=5, window=9)
OPTIONS = {"lr": 0.1, "batch": 8, "eval_every": 10, "eval_size": 32, "checkpoint_every": 7}
STAGES = Schedule(
    [(0.7, {"n_pairs": 1, "n_labels": 4}), (1.9, {"n_pairs": 2, "noise": 0.3}),
     (3.05, {"n_pairs": 2, "p_novel": 0.5, "burstiness": 2}), (None, {"n_pairs": 4})]
)  # fmt: skip
WAITING = Adaptive([{"n_pairs": 1}, {"n_pairs": 2}, {"n_pairs": 4}], "accuracy", 0.18)
"""A threshold low enough for chance to pass it."""


def network():
    return Transformer(SMALL, 1, width=6)


def assert_same_run(one, two):
    assert one.identical(two.assign_attrs(one.attrs))


def test_training_goes_along_the_schedule():
    """The updates and the switches, by hand."""
    tasks, begins = STAGES.tasks(SMALL), [0, 7, 19, 31]
    assert [(t.n_pairs, t.n_labels, t.noise, t.p_novel) for t in tasks] == [
        (1, 4, 0.1, 1), (2, 8, 0.3, 1), (2, 8, 0.1, 0.5), (4, 8, 0.1, 1)
    ]  # fmt: skip
    used = []

    def intervene(state):
        wanted = tasks[sum(state.step >= begin for begin in begins) - 1]
        if state.task != wanted:
            state.task = wanted

    def watch(state: TrainingState):
        used.append((state.step, state.stage, state.task))

    nets = network(), network()
    run = train(nets[0], SMALL, 40, **OPTIONS, curriculum=STAGES, callbacks=[watch])
    by_hand = train(nets[1], SMALL, 40, **OPTIONS, callbacks=[intervene])
    np.testing.assert_array_equal(nets[0].parameters.vector, nets[1].parameters.vector)
    assert run.drop_vars("stage").identical(by_hand.assign_attrs(run.attrs))
    assert run.stage.values.tolist() == [0, 1, 2, 2, 3]
    assert [(n, k) for n, k, _ in used] == [(n, sum(n >= b for b in begins) - 1) for n in range(40)]
    assert all(task == tasks[k] for _, k, task in used)
    parameters = json.loads(run.attrs["parameters"])
    assert parameters["curriculum"] == STAGES.data()
    assert parameters["task"] == SMALL.settings()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"curriculum": Schedule([(None, {})])}, "must have a stage that is not the target"),
        ({"curriculum": along((1, 4), target=(4, 8))}, "must have a stage that is not the target"),
        ({"curriculum": Adaptive([{}, {"n_pairs": 4}])}, "must have a stage that is not the"),
        ({"lr": 0.0}, "lr=0.0: must be above 0 to leave"),
        ({"lr": 0.0, "curriculum": WAITING}, "lr=0.0: must be above 0 to leave"),
        ({"n_steps": 10}, "n_steps=10: ends at t = 1, before an update of the target, which "
         "begins at t = 3.05"),
        ({"n_steps": 31}, "n_steps=31: ends at t = 3.1"),
        ({"n_steps": 0}, "n_steps=0: ends at t = 0"),
    ],
)  # fmt: skip
def test_a_curriculum_that_changes_nothing_or_never_ends_is_refused(changes, message):
    with pytest.raises(ArgumentError, match=message):
        train(network(), SMALL, **{"n_steps": 32, "curriculum": STAGES, **OPTIONS, **changes})


def test_evaluations_are_on_the_target():
    net = network()
    run = train(net, SMALL, 10, **OPTIONS, curriculum=along((0.5, 2), target=(4, 8)))
    rng = stream(0, EVALUATION)
    batch = SMALL.sample(rng, 32)
    assert run.loss.values[-1] == measures(net.forward(batch), batch)["loss"]


EAGER = Adaptive([{"n_pairs": 1}, {"n_pairs": 2}, {"n_pairs": 4}], threshold=1e-3)
"""Goes on at every evaluation, but for the last one of a run that ends between two of them."""


@pytest.mark.parametrize("curriculum", [STAGES, WAITING, EAGER])
def test_a_run_resumed_within_its_stages_is_the_same_run(curriculum, tmp_path):
    path = tmp_path / "run.npz"
    whole = train(network(), SMALL, 150, **OPTIONS, curriculum=curriculum)
    assert whole.stage.values[-1] == whole.stage.values.max() > 0
    for n_steps in (5, 7, 10, 13, 19, 25, 31, 63, 101, 150):
        pieces = train(
            network(), SMALL, n_steps, **OPTIONS, curriculum=curriculum,
            checkpoint=path, resume=path.exists(),
        )  # fmt: skip
    assert_same_run(whole, pieces)
    for other in (None, along((0.7, 2), target=(4, 8)), Adaptive.doubling(SMALL)):
        with pytest.raises(ArgumentError, match=r"was made with (curriculum|stages|measure)"):
            train(network(), SMALL, 200, **OPTIONS, curriculum=other, checkpoint=path, resume=True)


@pytest.mark.parametrize(
    ("stages", "message"),
    [
        ([(0.8, STAGES.settings[0]), *STAGES.stages[1:]], r"[0].until=0.7, and this run has 0.8"),
        ([(0.7, {"n_pairs": 2, "n_labels": 4}), *STAGES.stages[1:]],
         r"[0].setting.n_pairs=1, and this run has 2"),
        ([*STAGES.stages[:2], STAGES.stages[3]], r"[2].until=3.05, and this run has None"),
    ],
)  # fmt: skip
def test_what_differs_is_told_on_resuming(stages, message, tmp_path):
    path = tmp_path / "run.npz"
    train(network(), SMALL, 40, **OPTIONS, curriculum=STAGES, checkpoint=path)
    with pytest.raises(ArgumentError, match=re.escape(f"was made with curriculum{message}") + "$"):
        train(network(), SMALL, 50, **OPTIONS, curriculum=Schedule(stages), checkpoint=path,
              resume=True)  # fmt: skip


def killable(path):
    return train(
        network(), SMALL, 250, **{**OPTIONS, "checkpoint_every": 1}, checkpoint=path,
        resume=path.exists(), curriculum=Schedule(
            [(4, {"n_pairs": 1}), (12, {"n_pairs": 2, "n_labels": 4}), (None, {"n_pairs": 4})]
        ),
        callbacks=[lambda state: time.sleep(0.004)],
    )  # fmt: skip


def test_killed_on_the_way_and_resumed_it_is_the_same_run(tmp_path):
    whole = killable(tmp_path / "whole.npz")
    path, killed = tmp_path / "killed.npz", []
    code = (
        "import sys; from pathlib import Path; from tests.test_curriculum import killable; "
        f"killable(Path({str(path)!r}))"
    )
    for wanted in (45, 130):
        process = subprocess.Popen([sys.executable, "-c", code], cwd=HERE.parent)
        step = 0
        while step < wanted and process.poll() is None:
            time.sleep(0.01)
            if path.exists():
                step = json.loads(str(np.load(path)["header"]))["step"]
        process.send_signal(signal.SIGKILL)
        process.wait()
        killed.append(json.loads(str(np.load(path)["header"]))["step"])
    assert 40 < killed[0] < 120 < killed[1] < 250  # within the second and the last stage
    assert_same_run(whole, killable(path))


def test_an_adaptive_run_goes_on_when_it_has_learned():
    seen = []
    run = train(
        network(), SMALL, 200, **OPTIONS, curriculum=WAITING,
        callbacks=[lambda state: seen.append((state.stage, state.task.n_pairs))],
    )  # fmt: skip
    stage, progress = run.stage.values, run.progress.values
    for i in range(len(stage)):
        before = stage[i - 1] if i else 0
        assert stage[i] == min(before + (progress[i] >= 0.18), 2)
    assert (np.diff(stage) >= 0).all()
    assert stage[-1] == 2
    assert all(pairs == (1, 2, 4)[k] for k, pairs in seen)
    assert [k for k, _ in seen] == [stage[step // 10] for step in range(200)]
    assert (progress > 0).all()
    # a threshold out of reach keeps the first stage
    never = Adaptive([{"n_pairs": 1}, {"n_pairs": 4}], threshold=0.999)
    held = train(network(), SMALL, 30, **OPTIONS, curriculum=never)
    assert held.stage.values.tolist() == [0, 0, 0, 0]


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Adaptive([3]), r"stages=\[3\]: must be settings, {'n_pairs': 2}"),
        (lambda: Adaptive(None), "stages=None: must be settings"),
        (lambda: Adaptive(["ab"]), r"stages=\['ab'\]: must be settings"),
        (lambda: Adaptive([]), "must have at least the target"),
        (lambda: Adaptive([{}], "loss"), "measure=loss: must be one of tila2, accuracy"),
        (lambda: Adaptive([{}], "accuracy"), "threshold=None: must be given for accuracy"),
        (lambda: Adaptive([{}], threshold=1.0), "threshold=1.0"),
        (lambda: Adaptive([{"pairs": 3}]), r"stage 1 \(pairs\)"),
        (lambda: Adaptive.doubling(Task(2, 8)), "n_pairs=2: leaves no smaller context"),
        (lambda: train(network(), SMALL, 1, curriculum="adaptive"), "must be a Schedule or"),
        (
            lambda: train(
                network(), SMALL, 1, curriculum=Schedule([(1, {"p_bursty": 0.5}), (None, {})])
            ),
            r"stage 1 \(p_bursty=0.5\): has no effect on what is trained",
        ),
    ],
)
def test_mistakes_with_curricula_get_one_line(make, message):
    with pytest.raises(ArgumentError, match=message):
        make()


def test_doubling_fits_bursts():
    counts = [
        dict(stage)["n_pairs"] for stage in Adaptive.doubling(Task(24, 32, burstiness=2)).stages
    ]
    assert counts == [4, 8, 16, 24]


def test_runs_side_by_side_along_a_schedule():
    runs = [
        Run("transformer", dataclasses.replace(SMALL, seed=seed), seed, 32, {"width": 6},
            {**OPTIONS, "curriculum": STAGES})
        for seed in (1, 2)
    ]  # fmt: skip
    for one, two in zip(run_all(runs, 2), run_all(runs, 1), strict=True):
        assert_same_run(one, two)
        assert one.stage.values.tolist() == [0, 1, 2, 2, 3]


def test_a_run_along_a_schedule_is_not_compared_with_one_landscape():
    run = train(network(), SMALL, 40, **OPTIONS, curriculum=STAGES)
    with pytest.raises(ArgumentError, match="a curriculum: changes the landscape"):
        curves_of(run)


# ---- the command line ----------------------------------------------------------------------------


@pytest.fixture
def command(capsys):
    def run(*arguments):
        with pytest.raises(SystemExit) as exit_:
            main([*map(str, arguments)])
        return exit_.value.code, *capsys.readouterr()

    return run


def test_the_command_s_schedule_trains(command, tmp_path):
    file, picture = tmp_path / "s.json", tmp_path / "s.png"
    code, out, _ = command(
        "curriculum", "--pairs=4", "--labels=8", "--stages=2", "--cost=tokens",
        "--output", file, "--plot", picture, "--json",
    )  # fmt: skip
    assert code == 0
    told = json.loads(out)
    design = design_curriculum((4, 8), cost="tokens", n_stages=2)
    assert told["schedule"] == design.schedule.data()
    assert told["gain"] == design.gain
    assert told["law"]["source"] == "python -m figures prediction"
    assert told["law"]["alpha"] == MEASURED.alpha
    assert told["search"]["restarts"] == list(design.restarts)
    assert Schedule.load(file) == design.schedule
    assert json.loads(file.read_text())["designed"]["gain"] == design.gain
    assert picture.read_bytes().startswith(b"\x89PNG")
    small = [
        "--steps=20",
        "--lr=10",
        "--batch=8",
        "--eval-every=10",
        "--eval-size=16",
        "--width=4",
        "--quiet",
    ]
    code, out, _ = command("train", *small, "--curriculum", file, "--json", "--seeds=0:2")
    assert code == 0
    assert [run["stage"] for run in json.loads(out)["runs"]] == [1, 1]
    code, _, err = command(
        "train", *small, "--curriculum", file, "--steps=2", f"--output={tmp_path}/r.nc"
    )
    assert code == 2
    assert err.startswith("cliff: --steps 2: ends at t = 20, before an update of the target")
    code, _, err = command("train", *small, "--curriculum", file, "--pairs=8")
    assert code == 2
    assert err == (
        "cliff: --curriculum the last stage (n_pairs=4): must be the task itself, whose n_pairs is "
        "8\n"
    )
    code, out, _ = command("train", *small, "--pairs=4", "--curriculum=adaptive", "--json")
    assert json.loads(out)["runs"][0]["progress"] > 0


def test_the_command_says_what_it_found(command):
    code, out, _ = command("curriculum", "-N", 4, "-L", 8, "--stages", 2, "--quiet")
    assert code == 0
    for words in ("until t", "tokens seen", "gradient-flow time", "floating-point", "restarts"):
        assert words in out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["curriculum", "--pairs=2"], "--pairs 2: must be at least 3, to have smaller contexts"),
        (["curriculum", "--pairs=80"], "--labels 64: must be at least 80"),
        (["curriculum", "--stages=9"], "--stages 9: must be at most 4"),
        (["curriculum", "--output=s.nc"], "--output s.nc: must end in .json"),
        (["curriculum", "--law=none.nc"], "--law none.nc: "),
        (["curriculum", "--cost=money"], "--cost money: must be one of time, tokens, flops"),
        (["train", "--curriculum=none.json"], "--curriculum none.json: cannot be read"),
        (["train", "--curriculum="], "--curriculum '': cannot be read"),
        (["train", "--curriculum=adaptive", "--pairs=2"], "--pairs 2: leaves no smaller context"),
    ],
)
def test_mistakes_on_the_command_line(command, arguments, message):
    code, out, err = command(*arguments)
    assert code == 2
    assert out == ""
    assert err.startswith("cliff: " + message)
    assert err.count("\n") == 1


def test_a_task_that_a_callback_replaced_is_kept_on_resuming(tmp_path):
    """Until the next stage begins."""
    path, noises = tmp_path / "run.npz", []

    def intervene(state):
        noises.append(state.task.noise)
        if state.step == 8:
            state.task = dataclasses.replace(state.task, noise=0.7)

    whole = train(network(), SMALL, 32, **OPTIONS, curriculum=STAGES, callbacks=[intervene])
    assert noises == [0.1] * 7 + [0.3] * 2 + [0.7] * 10 + [0.1] * 13
    for n_steps in (15, 32):
        pieces = train(
            network(), SMALL, n_steps, **OPTIONS, curriculum=STAGES, callbacks=[intervene],
            checkpoint=path, resume=path.exists(),
        )  # fmt: skip
    assert_same_run(whole, pieces)


def test_a_callback_cannot_ask_for_more_labels_than_there_are():
    def intervene(state):
        state.task = dataclasses.replace(state.task, n_labels=16, n_classes=16)

    with pytest.raises(ArgumentError, match=r"n_classes=16|n_labels=16"):
        train(network(), SMALL, 3, **OPTIONS, callbacks=[intervene])
    wide = Task(4, 8, 32, 5, window=9)
    with pytest.raises(ArgumentError, match="n_labels=16"):
        train(
            Transformer(wide, width=4), wide, 3, **OPTIONS,
            callbacks=[lambda s: setattr(s, "task", dataclasses.replace(s.task, n_labels=16))],
        )  # fmt: skip


def test_a_stage_that_ends_before_it_begins_is_left_out():
    ends = np.array([[100.0, 50.0, 1500.0], [50.0, 100.0, 1500.0]])
    pairs, labels = np.array([[2, 8, 16]] * 2), np.full((2, 3), 64)
    schedules = [along((100, 2)), along((50, 2), (100, 8))]
    expected = integrate_schedules(schedules, 1500.0).t_transition
    found = falls(ends, pairs, labels, MEASURED).t_transition
    np.testing.assert_allclose(found, expected, rtol=1e-12)
