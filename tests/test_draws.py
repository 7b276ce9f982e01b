"""Batches drawn ahead against batches drawn when they are asked for."""

import threading
from dataclasses import replace

import numpy as np
import pytest
from numba import config

from cliff.network.draws import Draws
from cliff.network.training import train
from cliff.network.transformer import Transformer
from cliff.task import DATA, Task, stream

TASK = Task(n_pairs=2, n_labels=4, n_classes=8, dim=5, window=9, p_novel=0.5)
OTHER = replace(TASK, p_novel=0.0, zipf_exponent=1.0)


def same(one, two):
    return all(np.array_equal(*pair) for pair in zip(one, two, strict=True))


@pytest.mark.parametrize("n_ahead", [0, 1, 2])
def test_batches_and_state_are_those_of_plain_draws(n_ahead):
    rng, draws = stream(3, DATA), Draws(stream(3, DATA), 16)
    draws.ahead()  # of nothing yet
    assert repr(draws.state) == repr(rng.bit_generator.state)
    batches = []
    # the task changes, goes back, is made anew, and changes at once
    for task in (TASK, TASK, OTHER, TASK, replace(TASK), replace(TASK), OTHER, OTHER):
        batches.append(task.sample(rng, 16))
        assert same(draws.take(task), batches[-1])
        for _ in range(n_ahead):
            draws.ahead()
        assert repr(draws.state) == repr(rng.bit_generator.state)
    assert not any(same(one, two) for one, two in zip(batches[1:], batches, strict=False))


def test_the_next_batch_is_drawn_while_the_second_thread_works(monkeypatch):
    monkeypatch.setattr(config, "NUMBA_NUM_THREADS", 2)
    net, draws = Transformer(TASK, 1, width=6), Draws(stream(0, DATA), 8)
    went_on, events, used = threading.Event(), [], set()
    differentiate = net._differentiate

    def work(*arguments):
        used.add(threading.get_ident())
        if threading.current_thread() is not threading.main_thread():
            assert went_on.wait(60)  # it would be in vain if the draw came later
        return differentiate(*arguments)

    def meanwhile():
        draws.ahead()
        events.append("drawn")
        went_on.set()

    monkeypatch.setattr(net, "_differentiate", work)
    batch = draws.take(TASK)
    loss = net.loss_and_gradient(batch, meanwhile)
    assert events == ["drawn"]
    assert len(used) == 2
    assert loss == Transformer(TASK, 1, width=6).loss_and_gradient(batch)


def test_threads_do_not_change_a_run(monkeypatch, tmp_path):
    def curriculum(state):
        if state.step % 3 == 0:
            state.task = (OTHER, TASK)[state.step // 3 % 2]

    found = []
    for threads in (1, 2):
        monkeypatch.setattr(config, "NUMBA_NUM_THREADS", threads)
        path = tmp_path / f"{threads}.npz"
        options = {"eval_every": 4, "eval_size": 32, "batch": 24, "checkpoint": path}
        for n_steps in (7, 16):  # interrupted where a batch had been drawn ahead
            net = Transformer(TASK, 1, width=6)
            train(net, TASK, n_steps, 0.1, callbacks=[curriculum], resume=path.exists(), **options)
        with np.load(path) as file:
            found.append((net.parameters.vector.tobytes(), str(file["header"])))
    assert found[0] == found[1]
    whole = Transformer(TASK, 1, width=6)
    train(whole, TASK, 16, 0.1, callbacks=[curriculum], eval_every=4, eval_size=32, batch=24)
    assert whole.parameters.vector.tobytes() == found[0][0]
