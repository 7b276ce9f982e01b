"""Training: schedule, exact resumption, interventions, and the science it is for."""

import dataclasses
import doctest
import importlib
import inspect
import json
import multiprocessing
import os
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from functools import partial
from multiprocessing.connection import Connection
from multiprocessing.context import SpawnProcess
from pathlib import Path

import numpy as np
import pytest
from numba import config
from threadpoolctl import threadpool_info

import cliff.network.checkpoint as checkpoint_module
import cliff.network.training as module
from cliff.checks import ArgumentError
from cliff.interrupt import Terminated
from cliff.kernels import network as kernels
from cliff.network.measures import evaluate, evaluation_sets
from cliff.network.minimal import MinimalHead
from cliff.network.options import TrainingOptions
from cliff.network.runs import Run, _picklable, run_all, side_by_side
from cliff.network.training import RunStatus, load_network, run_training, train
from cliff.network.transformer import Transformer
from cliff.store import load, locked, open_dataset, save_dataset
from cliff.task import DATA, Task, stream

TASK = Task(
    n_pairs=2, n_labels=4, n_classes=8, dim=5, window=9, p_novel=0.5, p_bursty=0.5, burstiness=1
)
OPTIONS = {"lr": 0.1, "batch": 8, "eval_every": 10, "eval_size": 32, "checkpoint_every": 7}
MEASURES = ["loss", "accuracy", "icl", "icl_swapped", "iwl", "ila1", "tila2", "tla2", "cla"]


def network(seed=1, **options):
    return Transformer(TASK, seed, width=6, **options)


def assert_same_run(one, two):
    assert one.identical(two.assign_attrs(one.attrs))


def test_records_are_on_schedule():
    run = train(network(), TASK, 25, **OPTIONS)
    assert run.step.values.tolist() == [0, 10, 20, 25]
    np.testing.assert_allclose(run.t, 0.1 * run.step)
    assert set(MEASURES) <= set(run.data_vars)
    assert run.status.item() == "done"
    assert run.last_step == 25
    assert run.attention1.dims == ("moment", "token", "seen_token")
    parameters = json.loads(run.attrs["parameters"])
    assert parameters["task"]["n_pairs"] == 2
    assert parameters["lr"] == 0.1
    assert run.loss.attrs["units"] == "nats"


def test_updates_are_plain_gradient_descent():
    net, by_hand = network(), network()
    run = train(net, TASK, 12, **OPTIONS, weight_decay=1e-3)
    rng = stream(0, DATA)
    for _ in range(12):
        by_hand.loss_and_gradient(TASK.sample(rng, 8))
        vector = by_hand.parameters.vector
        vector[:] = (np.float32(1) - np.float32(1e-3)) * vector
        vector -= np.float32(0.1) * by_hand.gradients.vector
    np.testing.assert_allclose(net.parameters.vector, vector, rtol=0, atol=1e-6)
    recorded = evaluate(net, evaluation_sets(TASK, 0, 32))
    for name in MEASURES:
        assert run[name].values[-1] == recorded[name]


@pytest.mark.parametrize("frozen", [(), ("Q1",)])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_descent_is_in_the_dtype_of_the_network(dtype, frozen, monkeypatch):
    """Numbers of the other precision would have the compiled loop calculate in float64."""
    used, descend = set(), kernels.descend

    def watched(*arguments):
        used.update(np.asarray(argument).dtype for argument in arguments)
        descend(*arguments)

    monkeypatch.setattr(kernels, "descend", watched)
    net = network(dtype=dtype)
    net.freeze(*frozen)
    train(net, TASK, 2, **{**OPTIONS, "lr": np.float64(0.1)})
    assert used == {np.dtype(dtype)}


def test_seeds_of_network_data_and_evaluation_are_separate():
    first = network()
    train(first, TASK, 10, **OPTIONS)
    for change, same in [
        ({}, True),
        ({"eval_every": 3, "eval_size": 64}, True),  # evaluation does not touch the batches
        ({"seed": 1}, False),
    ]:
        second = network()
        train(second, TASK, 10, **{**OPTIONS, **change})
        assert np.array_equal(first.parameters.vector, second.parameters.vector) == same
    other = network(seed=2)
    train(other, TASK, 10, **OPTIONS)
    assert not np.array_equal(first.parameters.vector, other.parameters.vector)


def test_numbers_of_numpy_are_as_good_as_python_s(tmp_path):
    sizes = {name: np.int64(value) for name, value in (("n_pairs", 2), ("n_labels", 4), ("dim", 5))}
    task = Task(**sizes, n_classes=8, window=9, noise=np.float32(0.5), seed=np.int32(3))
    run = train(
        Transformer(task, np.int64(1), width=np.int64(6)), task, np.int64(4), np.float32(0.1),
        np.int64(8), seed=np.int64(2**40), eval_size=np.int64(16), checkpoint=tmp_path / "run.npz",
    )  # fmt: skip
    assert json.loads(run.attrs["parameters"])["task"]["noise"] == 0.5
    save_dataset(run, tmp_path / "run.nc", "run")
    loaded = load(tmp_path / "run.nc")
    assert loaded.step.values.tolist() == [0, 4]
    assert loaded.seed == 2**40


def test_stops_at_an_accuracy():
    whole = train(network(), TASK, 200, **OPTIONS)
    first = int(whole.accuracy.values.argmax())
    assert 0 < first < len(whole.step) - 1
    run = train(network(), TASK, 200, **OPTIONS, stop_accuracy=whole.accuracy.values[first])
    assert run.status.item() == "accuracy reached"
    assert run.last_step == whole.step[first]
    assert run.loss.identical(whole.loss[: first + 1])


@pytest.mark.parametrize("make", [Transformer, MinimalHead])
def test_infinite_loss_stops_and_keeps_the_curves(make):
    options = {**OPTIONS, "lr": 1e4, "eval_every": 1}
    run = train(make(TASK, 0), TASK, 500, **options)
    last = int(run.last_step)
    assert run.status.item() == "not finite"
    assert 1 < last < 500
    assert run.step.values.tolist() == list(range(last + 1))
    assert np.isfinite(run.loss[:last]).all()
    before = train(make(TASK, 0), TASK, last - 1, **options)
    assert run.loss[:last].identical(before.loss)
    # a divergence between two evaluations is recorded when it comes
    seldom = train(make(TASK, 0), TASK, 500, **{**options, "eval_every": 400})
    assert seldom.step.values.tolist() == [0, last]
    assert seldom.status.item() == "not finite"


def test_a_learning_rate_of_a_hundred_is_too_large():
    task = Task()
    run = train(Transformer(task), task, 100, lr=100, eval_every=1, eval_size=64)
    assert run.status.item() == "not finite"
    assert np.isfinite(run.loss[0])
    assert not np.isfinite(run.loss[-1])


def test_probes_and_reports():
    seen = []
    run = train(
        network(), TASK, 10, **OPTIONS, report=seen.append,
        probes=[lambda net, sets: {"norm": float(np.linalg.norm(net.parameters["Q1"]))}],
    )  # fmt: skip
    assert [row["step"] for row in seen] == [0, 10]
    assert run.norm.values.tolist() == [row["norm"] for row in seen]


def test_a_divergence_in_the_last_update_is_seen():
    run = train(network(), TASK, 1, **{**OPTIONS, "lr": 1e30})
    assert run.status.item() == "not finite"
    assert run.last_step == 1
    assert run.step.values.tolist() == [0, 1]
    assert np.isfinite(run.loss.values[0])
    assert not np.isfinite(run.loss.values[1])


def test_a_divergence_at_an_evaluation_leaves_the_last_good_checkpoint(tmp_path):
    def diverge(state):
        if state.step == 9:
            state.net.parameters.vector[:] = np.float32(1e30)  # finite: only the next loss is not

    path = tmp_path / "run.npz"
    options = {**OPTIONS, "checkpoint": path, "checkpoint_every": 5}
    net = network()
    net.loss_and_gradient = lambda *_: (net.gradients.vector.fill(0), 1.0)[1]
    run = train(net, TASK, 20, **options, callbacks=[diverge])
    assert run.status.item() == "not finite"
    assert run.last_step == 10
    assert step_of(path) == 5


def test_evaluations_have_a_seed_of_their_own(tmp_path):
    one, two, other = network(), network(), network()
    own = train(one, TASK, 10, **OPTIONS, seed=3)
    same = train(two, TASK, 10, **OPTIONS, seed=3, eval_seed=3)
    path = tmp_path / "run.npz"
    elsewhere = train(other, TASK, 10, **OPTIONS, seed=3, eval_seed=4, checkpoint=path)
    assert_same_run(own, same)
    assert np.array_equal(one.parameters.vector, other.parameters.vector)
    assert (own.loss != elsewhere.loss).all()
    assert json.loads(elsewhere.attrs["parameters"])["eval_seed"] == 4
    refused(path, "eval_seed=4, and this run has 5", seed=3, eval_seed=5)


def test_goes_on_for_a_while_after_an_accuracy(tmp_path):
    stop = {"stop_accuracy": 0.3, "stop_delay": 25}
    whole = train(network(), TASK, 1000, **OPTIONS, **stop)
    reached = int(whole.step[int((whole.accuracy.values >= 0.3).argmax())])
    assert whole.last_step == reached + 30  # at the next evaluation
    assert whole.status.item() == "accuracy reached"
    path = tmp_path / "run.npz"
    for n_steps in (reached + 7, reached + 21, 1000, 1000):
        pieces = train(
            network(), TASK, n_steps, **OPTIONS, **stop, checkpoint=path, resume=path.exists()
        )
        assert pieces.status.item() == ("done" if n_steps < 1000 else "accuracy reached")
    assert_same_run(whole, pieces)
    assert_same_run(whole, train(network(), TASK, reached + 30, **OPTIONS, **stop))


def test_numbers_of_probes_may_be_of_any_kind(tmp_path):
    path = tmp_path / "run.npz"

    def probe(net, sets):
        return {"single": net.parameters["Q1"][0, 0], "whole": np.int64(3), "flag": np.True_}

    whole = train(network(), TASK, 20, **OPTIONS, probes=[probe])
    for n_steps in (14, 20):
        pieces = train(
            network(), TASK, n_steps, **OPTIONS, probes=[probe], checkpoint=path,
            resume=path.exists(),
        )  # fmt: skip
    assert_same_run(whole, pieces)


def test_probes_record_the_same_names_throughout(tmp_path):
    path = tmp_path / "run.npz"
    arguments = {**OPTIONS, "checkpoint": path}
    train(network(), TASK, 10, **arguments, probes=[lambda *_: {"norm": 1.0}])
    for other in ([], [lambda *_: {"norm": 1.0, "more": 1.0}]):
        with pytest.raises(ArgumentError, match="throughout a run"):
            train(network(), TASK, 20, **arguments, resume=True, probes=other)


TAKEN = (
    "step", "t", "loss", "accuracy", "icl", "ila1", "beta1", "xi_chord", "match_residual", "seed",
    "moment", "status", "last_step", "attention1", "token", "seen_token", "slot",
)  # fmt: skip


@pytest.mark.parametrize("name", [*TAKEN, "twice", "a/b", "", " ", "a\nb", "a\0"])
def test_names_that_a_file_cannot_hold_are_refused_before_the_first_step(name):
    def probe(*_):
        return {name: 1.0}

    net = network()
    with pytest.raises(ArgumentError, match=r"is recorded already|must be a name") as caught:
        train(net, TASK, 20, **OPTIONS, probes=[probe] * (1 + (name == "twice")))
    assert (caught.value.argument, caught.value.value) == ("probes", name)
    assert np.array_equal(net.parameters.vector, network().parameters.vector)


@pytest.mark.parametrize(
    ("result", "match"),
    [
        (lambda: 1 / 0, "probes=broken: raised ZeroDivisionError: division by zero"),
        (lambda: 3.0, "probes=broken: raised AttributeError"),
        (lambda: {"name": "text"}, "probes=broken: raised ValueError"),
        (lambda: {"name": np.zeros(3)}, "probes=broken: raised TypeError"),
    ],
)
def test_a_broken_probe_is_named(result, match):
    def broken(*_):
        return result()

    with pytest.raises(ArgumentError, match=match) as caught:
        train(network(), TASK, 20, **OPTIONS, probes=[broken])
    assert caught.value.__cause__ is not None


def test_resuming_with_other_probes_is_refused_before_the_first_step(tmp_path):
    path = tmp_path / "run.npz"
    train(network(), TASK, 11, **OPTIONS, checkpoint=path, probes=[norm_probe])
    steps = []
    with pytest.raises(
        ArgumentError, match="probes=norm, threads: must be recorded throughout a run"
    ):
        train(
            network(), TASK, 40, **OPTIONS, checkpoint=path, resume=True,
            callbacks=[lambda state: steps.append(state.step)],
        )  # fmt: skip
    assert not steps


@pytest.mark.parametrize("name", ["step", "rows", "net"])
def test_callbacks_cannot_move_what_the_run_counts_on(name):
    def meddle(state):
        setattr(state, name, getattr(state, name))

    with pytest.raises(AttributeError, match=name):
        train(network(), TASK, 20, **OPTIONS, callbacks=[meddle])


@pytest.mark.parametrize(
    ("name", "value", "match"),
    [
        ("net.parameters", network(seed=5).parameters, r"net\.parameters: must write into"),
        ("net.dtype", np.dtype(np.float64), r"net\.parameters: must write into"),
        ("task", None, "task=None: must be a Task"),
    ],
)
def test_what_callbacks_replace_has_to_fit(name, value, match):
    def replace(state):
        *owner, attribute = name.split(".")
        setattr(state.net if owner else state, attribute, value)

    with pytest.raises(ArgumentError, match=match):
        train(network(), TASK, 20, **OPTIONS, callbacks=[replace])


def test_two_runs_at_once_into_one_checkpoint_are_refused(tmp_path):
    path = tmp_path / "run.npz"
    caught = []

    def second(state):
        if state.step == 7:
            with pytest.raises(ArgumentError, match="another training writes to it") as error:
                train(network(), TASK, 20, **OPTIONS, checkpoint=path, resume=True)
            caught.append(error)

    train(network(), TASK, 20, **OPTIONS, checkpoint=path, callbacks=[second])
    assert len(caught) == 1
    assert list(tmp_path.iterdir()) == [path]
    # what a killed run leaves behind locks nothing
    with locked(path, "path", "test"):
        (lock,) = (entry for entry in tmp_path.iterdir() if entry != path)
    lock.touch()
    train(network(), TASK, 30, **OPTIONS, checkpoint=path, resume=True)
    with pytest.raises(RuntimeError, match="broken"):
        train(network(), TASK, 40, **OPTIONS, checkpoint=path, resume=True, callbacks=[broken])
    assert train(network(), TASK, 40, **OPTIONS, checkpoint=path, resume=True).last_step == 40
    assert list(tmp_path.iterdir()) == [path]


def broken(_):
    raise RuntimeError("broken")


def test_a_file_system_without_locks_is_no_obstacle(tmp_path, monkeypatch):
    def flock(*_):
        raise OSError(37, "No locks available")

    monkeypatch.setattr("fcntl.flock", flock)
    assert train(network(), TASK, 5, **OPTIONS, checkpoint=tmp_path / "run.npz").last_step == 5


def test_resuming_from_nothing_is_refused(tmp_path):
    path = tmp_path / "run.npz"
    with pytest.raises(ArgumentError, match=rf"resume={path}: nothing to resume from"):
        train(network(), TASK, 5, **OPTIONS, checkpoint=path, resume=True)
    with pytest.raises(ArgumentError, match="resume=True: needs a checkpoint"):
        train(network(), TASK, 5, **OPTIONS, resume=True)


def test_every_variable_has_a_name_and_a_unit(tmp_path):
    runs = [train(network(seed), TASK, 10, **OPTIONS, probes=[norm_probe]) for seed in (1, 2)]
    for run in (runs[0], side_by_side(runs, [1, 2])):
        for name, variable in run.variables.items():
            assert len(variable.attrs["long_name"]) > 5, name
            assert variable.attrs["units"] == ("nats" if name == "loss" else "1")
        assert "probe" in run.norm.attrs["long_name"]
        assert "probe" not in "".join(
            variable.attrs["long_name"]
            for name, variable in run.variables.items()
            if name not in ("norm", "threads")
        )


def test_defaults_are_the_same_everywhere():
    options = inspect.signature(TrainingOptions).parameters
    for name, parameter in inspect.signature(train).parameters.items():
        if name not in ("net", "task", "callbacks", "probes", "report"):
            assert parameter.default == options[name].default, name
    assert options.keys() <= inspect.signature(train).parameters.keys()


def test_a_directory_that_goes_away_ends_the_run_as_an_error(tmp_path):
    place = tmp_path / "place"
    place.mkdir()

    def remove(state):
        if state.step == 5:
            shutil.rmtree(place)

    with pytest.raises(OSError, match=r"run\.npz: the directory .* does not exist"):
        train(network(), TASK, 20, **OPTIONS, checkpoint=place / "run.npz", callbacks=[remove])


def test_minimal_head_records_its_parameters():
    run = train(MinimalHead(TASK, 0), TASK, 30, **OPTIONS)
    assert run.beta2.values[0] == pytest.approx(0, abs=1e-12)
    assert run.beta2.values[-1] != 0
    held = train(MinimalHead(TASK, 0, label_bias=0.5), TASK, 30, **OPTIONS)
    np.testing.assert_allclose(held.beta2, 0.5, atol=1e-6)  # read off float32 attention


def test_interventions():
    """Freeze, clamp and change the task in the middle of a run, each in a line."""
    history = []

    def intervene(state):
        if state.step == 4:
            state.net.freeze("Q1", "b2")
            history.append({name: value.copy() for name, value in state.net.parameters.items()})
        if state.step == 8:
            state.net.set_clamp(1, "previous")
            state.task = dataclasses.replace(state.task, n_pairs=3, p_novel=0.0, p_bursty=0.0)

    net = network()
    run = train(net, TASK, 12, **OPTIONS, callbacks=[intervene])
    for name, value in net.parameters.items():
        assert np.array_equal(value, history[0][name]) == (name in ("Q1", "b2")), name
    assert run.ila1.values[-1] == 1
    assert run.ila1.values[0] < 1


def test_a_task_of_another_world_is_refused():
    for change in ({"seed": 1}, {"n_labels": 5}, {"dim": 6}):
        with pytest.raises(ArgumentError, match=next(iter(change))):
            train(network(), dataclasses.replace(TASK, **change), 3, **OPTIONS)

    def leave(state):
        state.task = dataclasses.replace(state.task, seed=3)

    with pytest.raises(ArgumentError, match="seed"):
        train(network(), TASK, 3, **OPTIONS, callbacks=[leave])


def intervene_late(state):
    if state.step == 9:
        state.net.set_clamp(2, "uniform")
        state.net.freeze("W2")
        state.task = dataclasses.replace(state.task, p_novel=1.0)


@pytest.mark.parametrize("make", [Transformer, MinimalHead])
def test_a_run_in_pieces_equals_a_run_in_one(tmp_path, make):
    whole_net = make(TASK, 1)
    whole = train(whole_net, TASK, 40, **OPTIONS, callbacks=[intervene_late])
    path = tmp_path / "run.npz"
    for n_steps in (5, 12, 13, 40):
        net = make(TASK, 1)
        pieces = train(
            net, TASK, n_steps, **OPTIONS, checkpoint=path, resume=path.exists(),
            callbacks=[intervene_late],
        )  # fmt: skip
    assert np.array_equal(net.parameters.vector, whole_net.parameters.vector)
    assert_same_run(whole, pieces)
    rebuilt = load_network(path)
    assert np.array_equal(rebuilt.parameters.vector, net.parameters.vector)
    assert rebuilt.clamp == {2: "uniform"}
    assert rebuilt.frozen == {"W2"}
    again = train(make(TASK, 1), TASK, 40, **OPTIONS, checkpoint=path, resume=True)
    assert_same_run(pieces, again)


@pytest.fixture
def checkpoint(tmp_path):
    path = tmp_path / "run.npz"
    train(network(), TASK, 14, **OPTIONS, checkpoint=path)
    return path


def refused(path, match, net=None, task=TASK, n_steps=20, resume=True, **changes):
    before = path.read_bytes()
    with pytest.raises(ArgumentError, match=match) as caught:
        train(
            net or network(), task, n_steps, **{**OPTIONS, **changes},
            checkpoint=path, resume=resume,
        )  # fmt: skip
    assert "\n" not in str(caught.value)
    assert path.read_bytes() == before


def test_a_checkpoint_of_other_settings_is_refused(checkpoint):
    refused(checkpoint, "lr=0.1, and this run has 0.2", lr=0.2)
    refused(checkpoint, "batch=8, and this run has 9", batch=9)
    refused(checkpoint, "seed=0, and this run has 5", seed=5)
    refused(
        checkpoint, "p_novel=0.5, and this run has 1.0", task=dataclasses.replace(TASK, p_novel=1.0)
    )
    refused(checkpoint, "net_seed", net=network(seed=2))
    refused(checkpoint, "model=transformer", net=MinimalHead(TASK, 1, width=6))
    refused(checkpoint, "width", net=Transformer(TASK, 1, width=7))
    clamped = network()
    clamped.set_clamp(1, "zero")
    refused(checkpoint, "1=nothing, and this run has zero", net=clamped)
    touched = network()
    touched.parameters["Q1"][0, 0] = 0
    refused(checkpoint, "initial_parameters", net=touched)
    refused(checkpoint, "at least 14", n_steps=13)
    refused(checkpoint, "exists", resume=False)


def test_a_damaged_or_foreign_checkpoint_is_refused(checkpoint):
    content = checkpoint.read_bytes()
    for size in (0, 1, 100, len(content) // 2, len(content) - 1):
        checkpoint.write_bytes(content[:size])
        refused(checkpoint, "not a checkpoint of this package, or is truncated")
    flipped = bytearray(content)
    flipped[int(0.7 * len(content))] ^= 0xFF  # in the middle of the parameters
    checkpoint.write_bytes(flipped)
    refused(checkpoint, "not a checkpoint")
    np.savez(checkpoint, something=np.arange(3))
    refused(checkpoint, "not a checkpoint")
    checkpoint.write_text("hello")
    refused(checkpoint, "not a checkpoint")
    with np.load(_written(checkpoint, content)) as file:
        arrays = dict(file)
    whole = json.loads(str(arrays["header"]))
    for name in whole:
        for header in (
            {key: value for key, value in whole.items() if key != name},
            {**whole, name: None},
        ):
            np.savez(checkpoint, **{**arrays, "header": np.array(json.dumps(header))})
            refused(checkpoint, "not a checkpoint")
            with pytest.raises(ArgumentError, match="not a checkpoint"):
                load_network(checkpoint)
    np.savez(checkpoint, header=arrays["header"])
    refused(checkpoint, "not a checkpoint")
    np.savez(checkpoint, **{**arrays, "parameters": arrays["parameters"][:-1]})
    refused(checkpoint, "not a checkpoint")
    settings = {**whole["settings"], "task": {"n_pairs": 2}, "extra": 1}
    del settings["net_seed"]
    header = {**whole, "settings": settings}
    np.savez(checkpoint, **{**arrays, "header": np.array(json.dumps(header))})
    refused(checkpoint, "n_labels=nothing, and this run has 4")
    with pytest.raises(ArgumentError, match="not a checkpoint"):
        load_network(checkpoint)
    rows = [{name: row[name] for name in row if name != "cla"} for row in whole["rows"]]
    header = {**whole, "rows": rows}
    np.savez(checkpoint, **{**arrays, "header": np.array(json.dumps(header))})
    refused(checkpoint, "another version of cliff, whose records differ in cla")
    header = {**whole, "cliff_checkpoint": 99}
    np.savez(checkpoint, **{**arrays, "header": np.array(json.dumps(header))})
    refused(checkpoint, "newer version")


def _written(path, content):
    path.write_bytes(content)
    return path


def test_an_interrupted_write_leaves_the_previous_checkpoint(checkpoint, monkeypatch):
    before = checkpoint.read_bytes()

    def fail_halfway(file, **arrays):
        file.write(b"half of it")
        raise OSError("disk full")

    monkeypatch.setattr(checkpoint_module.np, "savez", fail_halfway)
    with pytest.raises(OSError, match="disk full"):
        train(network(), TASK, 40, **OPTIONS, checkpoint=checkpoint, resume=True)
    assert checkpoint.read_bytes() == before
    assert list(checkpoint.parent.iterdir()) == [checkpoint]


@pytest.mark.parametrize(
    ("number", "raised"), [(signal.SIGINT, KeyboardInterrupt), (signal.SIGTERM, Terminated)]
)
def test_a_signal_keeps_what_is_done(tmp_path, number, raised):
    path = tmp_path / "run.npz"

    def press(state):
        if state.step == 17:
            os.kill(os.getpid(), number)

    before = signal.getsignal(number)
    with pytest.raises(KeyboardInterrupt) as caught:
        train(network(), TASK, 40, **OPTIONS, checkpoint=path, callbacks=[press])
    assert caught.type is raised
    assert step_of(path) == 18
    net, whole_net = network(), network()
    pieces = train(net, TASK, 40, **OPTIONS, checkpoint=path, resume=True)
    assert_same_run(train(whole_net, TASK, 40, **OPTIONS), pieces)
    assert np.array_equal(net.parameters.vector, whole_net.parameters.vector)
    assert signal.getsignal(number) is before


def test_an_interrupted_run_has_its_records_and_says_so(tmp_path):
    path = tmp_path / "run.npz"
    answers = iter([False] * 17 + [True])
    options = TrainingOptions(40, **OPTIONS, checkpoint=path)
    run, stop = run_training(network(), TASK, options, asked_to_stop=lambda: next(answers))
    assert run.status.item() == RunStatus.INTERRUPTED == "interrupted"
    assert (run.last_step, step_of(path), bool(stop)) == (17, 17, False)
    assert_same_run(
        run.drop_vars(["status", "last_step", "attention1", "attention2"]),
        train(network(), TASK, 10, **OPTIONS).drop_vars(
            ["status", "last_step", "attention1", "attention2"]
        ),
    )


@pytest.mark.parametrize("moment", ["after", "not finite"])
def test_ctrl_c_at_the_end_is_not_lost(tmp_path, monkeypatch, moment):
    """Or a process that is told to go while it ends a run would wait for the next for good."""
    maps, calls = module.attention_maps, []

    def press(*arguments):
        calls.append(arguments)
        if len(calls) == 2:
            os.kill(os.getpid(), signal.SIGINT)
        return maps(*arguments)

    monkeypatch.setattr(module, "attention_maps", press)
    path = tmp_path / "run.npz"
    options = {**OPTIONS, "lr": 1e30} if moment == "not finite" else OPTIONS
    with pytest.raises(KeyboardInterrupt):
        train(network(), TASK, 20, **options, checkpoint=path)
    assert len(calls) == 2
    assert step_of(path) == (0 if moment == "not finite" else 20)


KILLABLE = Task(n_pairs=4, n_labels=8, n_classes=16, dim=15, window=17)


def killable(path):
    return train(
        Transformer(KILLABLE, seed=2, width=16), KILLABLE, 300, lr=0.1, batch=32, eval_every=20,
        eval_size=32, checkpoint_every=3, seed=4, checkpoint=path, resume=os.path.exists(path),
    )  # fmt: skip


def test_killed_at_random_moments_and_resumed_it_is_the_same_run(tmp_path):
    whole = killable(tmp_path / "whole.npz")
    rng = np.random.default_rng(int.from_bytes(os.urandom(4)))
    killed_at = [0]
    checkpoint = tmp_path / "killed.npz"
    code = f"import sys; from tests.test_training import killable; killable({str(checkpoint)!r})"
    for _ in range(4):
        process = subprocess.Popen([sys.executable, "-c", code], cwd=Path(__file__).parent.parent)
        wanted = killed_at[-1] + int(rng.integers(10, 60))
        while process.poll() is None and step_of(checkpoint) < wanted:
            time.sleep(0.001)
        time.sleep(rng.uniform(0, 0.01))
        process.kill()
        process.wait()
        killed_at.append(step_of(checkpoint))
    assert 0 < killed_at[1] < killed_at[-1] < 300  # the kills did hit a running run
    killed = killable(checkpoint)
    with np.load(tmp_path / "whole.npz") as one, np.load(checkpoint) as two:
        assert one.files == two.files
        for name in one.files:
            assert np.array_equal(one[name], two[name]), (name, killed_at)
    assert_same_run(whole, killed)


def step_of(path):
    try:
        with np.load(path) as file:
            return json.loads(str(file["header"]))["step"]
    except FileNotFoundError:
        return 0


def test_runs_side_by_side_equal_runs_alone(tmp_path):
    runs = [Run("transformer", TASK, seed, 20, {"width": 6}, OPTIONS) for seed in (3, 1)]
    seen = []
    results = run_all(runs, processes=2, report=lambda seed, row: seen.append((seed, row["step"])))
    joined = side_by_side(results, [3, 1])
    assert joined.seed.values.tolist() == [3, 1]
    assert sorted(seen) == [(seed, step) for seed in (1, 3) for step in (0, 10, 20)]
    for seed in (3, 1):
        alone = train(Transformer(TASK, seed, width=6), TASK, 20, seed=seed, **OPTIONS)
        for name in MEASURES:
            np.testing.assert_allclose(joined[name].sel(seed=seed), alone[name], atol=1e-6)
    path = save_dataset(joined, tmp_path / "runs.nc", "run")
    assert open_dataset(path, "run").loss.shape == (2, 3)
    parameters = json.loads(joined.attrs["parameters"])
    assert parameters["seed"] == parameters["net_seed"] == [3, 1]
    assert parameters["task"]["seed"] == 0
    assert len(set(parameters["initial_parameters"])) == 2
    assert parameters["lr"] == 0.1


def norm_probe(net, sets):
    threads = [library["num_threads"] for library in threadpool_info()]
    return {
        "norm": np.linalg.norm(net.parameters["Q1"]),
        "threads": max(*threads, config.NUMBA_NUM_THREADS),
    }


def clamp_at_once(state):
    state.net.set_clamp(1, "previous")


@pytest.mark.parametrize("processes", [1, 2])
def test_results_come_in_the_order_of_the_runs(processes):
    """Whatever the order of their ends; probes and callbacks reach other processes."""
    runs = [
        Run("transformer", TASK, seed, n, {"width": 6}, OPTIONS, [clamp_at_once], [norm_probe])
        for seed, n in ((3, 60), (1, 0), (2, 20))
    ]
    ended = []
    results = run_all(runs, processes, finished=lambda *pair: ended.append(pair))
    assert [(int(run.seed), int(run.last_step)) for run in results] == [(3, 60), (1, 0), (2, 20)]
    assert sorted(number for number, _ in ended) == [0, 1, 2]
    assert all(results[number] is run for number, run in ended)
    assert results[2].ila1.values[-1] == 1
    alone = runs[2].train()[0]
    np.testing.assert_allclose(results[2].norm, alone.norm, rtol=1e-6)
    if processes == 2:
        assert set(results[2].threads.values) == {1}
    assert run_all([]) == []


def test_an_exception_that_cannot_be_sent_is_told():
    class Private(Exception):
        pass

    told = _picklable(Private("no pickle knows me"))
    assert (type(told), str(told)) == (RuntimeError, "Private: no pickle knows me")
    assert _picklable(mistake := ArgumentError("a", 1, "no")) is mistake


def endless(tmp_path, seeds, **options):
    return [
        Run(
            "transformer", TASK, seed, 10**9, {"width": 6},
            {**OPTIONS, **options, "checkpoint": str(tmp_path / f"{seed}.npz")},
        )
        for seed in seeds
    ]  # fmt: skip


def test_an_error_in_a_report_surfaces_and_the_runs_are_kept(tmp_path):
    def report(seed, row):
        if row["step"] > 50:
            raise RuntimeError("no room on the screen")

    with pytest.raises(RuntimeError, match="no room"):
        run_all(endless(tmp_path, (0, 1, 2)), 2, report)
    assert step_of(tmp_path / "0.npz") + step_of(tmp_path / "1.npz") > 50
    assert not (tmp_path / "2.npz").exists()


def test_a_killed_process_ends_the_others_in_order(tmp_path):
    def report(seed, row):
        if row["step"] == 50 and seed == 0:
            multiprocessing.active_children()[0].kill()

    with pytest.raises(ChildProcessError, match=r"seed . ended with -9"):
        run_all(endless(tmp_path, (0, 1), checkpoint_every=10), 2, report)
    assert not multiprocessing.active_children()


def test_a_process_that_cannot_be_started_is_told(monkeypatch):
    start = SpawnProcess.start

    def fail_at_the_second(process):
        if multiprocessing.active_children():
            raise OSError("no more processes")
        start(process)

    monkeypatch.setattr(SpawnProcess, "start", fail_at_the_second)
    runs = [Run("transformer", TASK, seed, 5, {"width": 6}, OPTIONS) for seed in (0, 1)]
    with pytest.raises(OSError, match="no more processes"):
        run_all(runs, 2)
    assert not multiprocessing.active_children()


def test_a_script_without_a_main_guard_ends_with_one_error(tmp_path):
    script = tmp_path / "script.py"
    script.write_text(
        "from cliff.network.runs import Run, run_all\n"
        "from cliff.task import Task\n"
        "task = Task(n_pairs=2, n_labels=4)\n"
        "run_all([Run('minimal', task, seed, 1) for seed in range(2)], 2)\n"
    )
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parent.parent)}
    run = subprocess.run(
        [sys.executable, str(script)], env=environment, capture_output=True, text=True, timeout=240
    )
    assert run.returncode == 1
    assert run.stderr.endswith("ended with 1: does the script lack `if __name__ == '__main__':`?\n")


def test_each_process_is_told_to_stop_once(tmp_path, monkeypatch):
    """Or the word fills the pipe of one that does not listen, and both sides wait for good."""
    send, told, pressed = Connection.send, Counter(), []

    def count(line, content):
        told[line] += content is None
        send(line, content)

    def press(*_):
        if not pressed:
            pressed.append(True)
            os.kill(os.getpid(), signal.SIGINT)

    monkeypatch.setattr(Connection, "send", count)
    runs = [dataclasses.replace(run, callbacks=[linger]) for run in endless(tmp_path, (0, 1))]
    with pytest.raises(KeyboardInterrupt):
        run_all(runs, 2, press)
    assert list(told.values()) == [1, 1]


def linger(_):
    time.sleep(0.5)


def test_a_mistake_in_another_process_comes_back_as_it_is():
    runs = [Run("transformer", TASK, 0, 5, {"width": 6}, OPTIONS, [leave_the_world])] * 2
    with pytest.raises(ArgumentError, match="seed=3"):
        run_all(runs, 2)


def test_a_run_beside_one_that_fails_hands_in_its_records(tmp_path):
    first, second = endless(tmp_path, (0, 1))
    ended = {}
    failing = dataclasses.replace(first, callbacks=[partial(leave_late, tmp_path / "1.npz")])
    with pytest.raises(ArgumentError, match="seed=3"):
        run_all([failing, second], 2, finished=ended.__setitem__)
    assert ended[1].status.item() == "interrupted"


def leave_late(checkpoint, state):
    if checkpoint.exists():  # the other one has begun
        leave_the_world(state)


def leave_the_world(state):
    state.task = dataclasses.replace(state.task, seed=3)


def test_bad_checkpoints_are_refused_before_any_training(tmp_path):
    (tmp_path / "1.npz").write_text("hello")
    runs = [*endless(tmp_path, [0]), *endless(tmp_path, [1], resume=True)]
    with pytest.raises(ArgumentError, match=r"1\.npz: is not a checkpoint"):
        run_all(runs, 1)
    train(network(), TASK, 5, **{**OPTIONS, "lr": 0.3}, checkpoint=tmp_path / "good.npz")
    (tmp_path / "good.npz").replace(tmp_path / "1.npz")
    with pytest.raises(ArgumentError, match=r"lr=0\.3"):
        run_all(runs, 1)
    assert not (tmp_path / "0.npz").exists()


def test_side_by_side_fills_up_runs_that_stopped_early():
    long, short = (train(network(), TASK, n, **OPTIONS) for n in (30, 10))
    joined = side_by_side([long, short], [0, 1])
    assert joined.loss.shape == (2, 4)
    assert np.isnan(joined.loss.values[1, 2:]).all()
    np.testing.assert_allclose(joined.t, [0, 1, 2, 3])


@pytest.mark.parametrize(
    ("changes", "argument"),
    [
        ({"n_steps": -1}, "n_steps"),
        ({"lr": -0.1}, "lr"),
        ({"lr": np.inf}, "lr"),
        ({"batch": 0}, "batch"),
        ({"weight_decay": 1.5}, "weight_decay"),
        ({"seed": -1}, "seed"),
        ({"eval_every": 0}, "eval_every"),
        ({"eval_size": 0}, "eval_size"),
        ({"eval_seed": -1}, "eval_seed"),
        ({"stop_accuracy": 1.5}, "stop_accuracy"),
        ({"stop_accuracy": 0.5, "stop_delay": -1}, "stop_delay"),
        ({"stop_delay": 5}, "stop_delay"),
        ({"checkpoint_every": 0}, "checkpoint_every"),
        ({"checkpoint": "/missing/directory/run.npz"}, "checkpoint"),
    ],
)
def test_bad_arguments_are_named(changes, argument):
    with pytest.raises(ArgumentError) as caught:
        train(network(), TASK, **{"n_steps": 5, **changes})
    assert caught.value.argument == argument


def test_examples_in_the_docstrings():
    for name in ("cliff.task", "cliff.network.transformer", "cliff.network.training"):
        result = doctest.testmod(importlib.import_module(name))
        assert result.attempted > 2
        assert result.failed == 0


# The science. Every run of these tests is of the paper's size and takes a minute.


def slow(test):
    return pytest.mark.slow(pytest.mark.timeout(3600)(test))


PAPER = Task(n_pairs=8, n_labels=32, dim=63, burstiness=1, p_bursty=1.0, p_novel=1.0)


def runs_of(model, task, seeds, n_steps, network=None, **options):
    runs = [Run(model, task, seed, n_steps, network or {}, options) for seed in seeds]
    return side_by_side(run_all(runs), seeds)


def first_time(run, name, level):
    reached = run[name].values >= level
    assert reached.any(), f"{name} does not reach {level}"
    return float(run.t[int(reached.argmax())])


@pytest.fixture(scope="module")
def runs():
    return runs_of("transformer", PAPER, range(6), 10_000, lr=0.1)


@slow
def test_every_seed_reaches_the_induction_head(runs):
    assert (runs.accuracy.isel(step=-1) > 0.97).all()
    assert (runs.icl.isel(step=-1) > 0.97).all()
    assert (runs.icl_swapped.isel(step=-1) > 0.97).all()


@slow
def test_slow_phase_then_fall(runs):
    for seed in runs.seed:
        run = runs.sel(seed=seed)
        fall = first_time(run, "accuracy", 0.5)
        slow = run.isel(step=(run.t <= 0.75 * fall).values)
        # the head start: predictions move to the context's labels, at random among them
        assert slow.accuracy.max() < 1.5 / 8
        assert slow.cla.values[-1] > 1.5 * slow.cla.values[0]
        assert slow.loss.values[-1] > np.log(8)
        # the fall takes a small part of the time that it took to come
        duration = first_time(run, "accuracy", 0.9) - first_time(run, "accuracy", 0.25)
        assert duration < 0.2 * fall


@slow
def test_both_heads_jump_with_the_accuracy(runs):
    for seed in runs.seed:
        run = runs.sel(seed=seed)
        jump = {name: int(np.diff(run[name]).argmax()) for name in ("accuracy", "ila1", "tila2")}
        assert max(jump.values()) - min(jump.values()) <= 2  # records, of 100 steps each
        for name in ("ila1", "tila2"):
            assert run[name].values[-1] > run[name].values[0] + 0.5


@slow
def test_time_of_gradient_flow_is_what_counts(runs):
    slower = runs_of("transformer", PAPER, range(3), 33_000, lr=0.03, stop_accuracy=0.6)
    times = {
        rate: [first_time(some.sel(seed=seed), "accuracy", 0.5) for seed in range(3)]
        for rate, some in ((0.1, runs), (0.03, slower))
    }
    assert np.mean(times[0.03]) == pytest.approx(np.mean(times[0.1]), rel=0.1)


@slow
def test_weights_learn_what_the_context_does_not_hold():
    task = dataclasses.replace(PAPER, p_novel=0.0, p_bursty=0.0, n_classes=64)
    runs = runs_of("transformer", task, range(3), 10_000, lr=0.1)
    assert (runs.iwl.isel(step=-1) > 0.95).all()
    assert (runs.icl.isel(step=-1) < 1 / 8).all()  # what guessing among the context gives


@slow
@pytest.mark.parametrize("label_bias", ["free", 0.0])
def test_minimal_head_shows_the_same_transition(label_bias):
    runs = runs_of("minimal", PAPER, range(3), 10_000, {"label_bias": label_bias}, lr=0.1)
    for seed in runs.seed:
        run = runs.sel(seed=seed)
        assert run.icl.values[-1] > 0.97
        fall = first_time(run, "accuracy", 0.5)
        slow = run.isel(step=(run.t <= 0.6 * fall).values)
        assert slow.accuracy.max() < 1.5 / 8
        assert run.beta1.values[-1] > 2
        assert run.alpha.values[-1] > 2
        assert (abs(run.beta2.values[-1]) > 1e-6) == (label_bias == "free")
