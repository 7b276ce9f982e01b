"""Whole training steps, a fresh batch and an update, against JAX, PyTorch and the hardware.

Everyone runs in a process of its own, in turn, because thread pools that share a process get in
each other's way. Everyone has all cores, and `cliff` also runs in one thread. Everyone is taken at
his best, the hardware too: other work on the machine only ever makes things slower.

Run by name on a quiet machine:  pytest tests/benchmarks/test_network_speed.py -s
"""

import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

import cliff.network.train as training
from cliff.network.draws import Draws
from cliff.network.transformer import Transformer
from cliff.parallel import n_cores
from cliff.task import DATA, Task, stream

pytest.importorskip("jax")
pytest.importorskip("torch")

pytestmark = pytest.mark.timeout(1800)  # twenty processes, one after the other

TASK = Task(n_pairs=8, n_labels=32, dim=63, burstiness=1, p_novel=1.0)
SIZE = 128
LR = 0.01


def make_step(who):
    """A function that takes one training step after another."""
    net = Transformer(TASK, seed=0)
    if who not in ("cliff", "one_thread"):
        import network_peers as peers

        make = {"jax": peers.jax_step, "torch": peers.torch_step}[who]
        return make(TASK, dict(net.parameters), SIZE, LR)
    draws = Draws(stream(0, DATA), SIZE)

    def step():
        net.loss_and_gradient(draws.take(TASK))
        training._descend(net, LR, 1e-6)

    return step


def seconds(step, n_steps):
    began = time.perf_counter()
    for _ in range(n_steps):
        step()
    return (time.perf_counter() - began) / n_steps


def multiply_adds(task, size, width):
    """Multiply-adds of one step, with only what the loss needs."""
    n, d, w = task.n_pairs, task.dim, task.width
    t = 2 * n + 1
    seen = t * (t + 1) // 2
    return (
        3 * w**3  # Q1ᵀ K1, and the gradients of Q1 and K1
        + 2
        * (size * (n + 1) + task.n_labels)
        * d
        * w  # queries of items and labels, there and back
        + 2 * size * seen * d  # scores of layer 1, there and back
        + 4 * size * seen  # attention of layer 1 applied to numbers
        + 9 * size * t * d  # overlaps with tokens and mixtures of them
        + 18 * size * w**2  # V1 three times, Q2, K2, V2, each there and twice back
        + 3 * size * (w * width + 2 * width**2 + width * task.n_labels)  # the classifier
    )


def gemm_time(n_multiply_adds):
    """Seconds that as many multiply-adds take in float32 matrix products of BLAS."""
    best = np.inf
    for size in (512, 1024, 1536):
        one, two = np.ones((size, size), np.float32), np.ones((size, size), np.float32)
        out = np.empty_like(one)
        for _ in range(16):
            began = time.perf_counter()
            np.matmul(one, two, out=out)
            best = min(best, (time.perf_counter() - began) / size**3)
    return best * n_multiply_adds


def best_of(measure, n=40):
    return min(measure() for _ in range(n))


def start(code, threads=None):
    """A process that prints "ready", waits for a line, and then prints a number."""
    here = Path(__file__).parent
    environment = {**os.environ, "PYTHONPATH": f"{here.parent.parent}:{here}"}
    environment["JAX_ENABLE_X64"] = "0"  # float32 for everyone
    for name in ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "NUMBA_NUM_THREADS"):
        environment.pop(name, None)
        if threads is not None:
            environment[name] = str(threads)
    preamble = "import sys; from test_network_speed import *\n"
    process = subprocess.Popen(
        [sys.executable, "-c", preamble + code], env=environment, text=True,
        stdin=subprocess.PIPE, stdout=subprocess.PIPE,
    )  # fmt: skip
    assert process.stdout.readline() == "ready\n"
    return process


def results(processes):
    for process in processes:
        process.stdin.write("go\n")
        process.stdin.flush()
    return [float(process.communicate()[0]) for process in processes]


STEP = """
step = make_step({who!r})
seconds(step, 20)
print("ready", flush=True)
sys.stdin.readline()
print(best_of(lambda: seconds(step, 5)))
"""

LONG = """
step = make_step("one_thread")
seconds(step, 20)
print("ready", flush=True)
sys.stdin.readline()
print(best_of(lambda: seconds(step, 40), 12))
"""

FLOOR = """
print("ready", flush=True)
sys.stdin.readline()
print(gemm_time(multiply_adds(TASK, SIZE, 128)))
"""

THREADS = {"cliff": None, "one_thread": 1, "jax": None, "torch": None}


@pytest.mark.parametrize("who", ["cliff", "jax", "torch"])
def test_step(benchmark, who):
    benchmark.group = "training step"
    benchmark.pedantic(make_step(who), rounds=60, warmup_rounds=10)


@pytest.fixture(scope="module")
def taken():
    """Seconds a step: of each, of two runs at once, and of what it needs at the rate of BLAS."""
    times = {name: [] for name in (*THREADS, "pair", "one_core", "all_cores")}
    for _ in range(3):
        for who, threads in THREADS.items():
            times[who] += results([start(STEP.format(who=who), threads)])
        pair = results([start(LONG, 1), start(LONG, 1)])
        times["pair"].append(1 / sum(1 / time for time in pair))
        times["one_core"] += results([start(FLOOR, 1)])
        times["all_cores"] += results([start(FLOOR)])
    best = {name: min(values) for name, values in times.items()}
    needed = multiply_adds(TASK, SIZE, 128)
    print(f"\n{n_cores()} cores, {needed / 1e6:.1f} M multiply-adds a step")
    for name, value in best.items():
        print(f"{name:10s} {1e3 * value:6.2f} ms a step, {value / best['cliff']:5.2f} of cliff's")
    return best


def test_step_against_peers(taken):
    assert taken["jax"] >= 5 * taken["cliff"]
    assert taken["torch"] >= 3 * taken["cliff"]


def test_step_against_the_rate_of_one_core(taken):
    assert taken["one_thread"] <= 2.5 * taken["one_core"]


def test_step_against_the_rate_of_all_cores(taken):
    assert taken["cliff"] <= 2.5 * taken["all_cores"]


@pytest.mark.skipif(n_cores() < 2, reason="needs two cores")
def test_two_runs_side_by_side(taken):
    """Two runs of one thread each against one alone, and against the rate of both cores."""
    assert taken["one_thread"] >= 1.6 * taken["pair"]
    assert taken["pair"] <= 2.5 * taken["all_cores"]


def test_peers_compute_the_same():
    """Loss and every gradient, in float32, to 1e-5."""
    import jax
    import network_peers as peers
    import torch

    net = Transformer(TASK, seed=3)
    batch = TASK.sample(stream(1, DATA), SIZE)
    loss = net.loss_and_gradient(batch)
    tokens, answer = net.tokens(batch), batch.answer

    module = peers.TorchTransformer(dict(net.parameters))
    logits = module(torch.from_numpy(tokens))
    torch_loss = torch.nn.functional.cross_entropy(logits, torch.from_numpy(answer))
    torch_loss.backward()
    by_torch = {name: value.grad.numpy() for name, value in module.named_parameters()}

    jax_loss, by_jax = jax.value_and_grad(peers.jax_loss)(dict(net.parameters), tokens, answer)
    for other_loss, gradients in ((torch_loss.item(), by_torch), (float(jax_loss), by_jax)):
        assert loss == pytest.approx(other_loss, rel=1e-5)
        for name, gradient in net.gradients.items():
            other = np.asarray(gradients[name])
            assert np.abs(gradient - other).max() <= 1e-5 * np.abs(other).max(), name


def test_peers_draw_the_same_task():
    """Their sequences have the statistics of ours: overlaps, answers, windows."""
    import network_peers as peers

    tokens, answer = peers.draw_tokens(TASK, np.random.default_rng(0), 4000)
    items, target = tokens[:, 0:-1:2, 65:], tokens[:, -1, 65:]
    batch = TASK.sample(stream(0, DATA), 4000)
    overlap = np.einsum("bnd,bd->bn", items, target).max(axis=1)
    ours = np.einsum("bnd,bd->bn", batch.items[:, :-1], batch.items[:, -1]).max(axis=1)
    error = (overlap.var() / 4000 + ours.var() / 4000) ** 0.5
    assert abs(overlap.mean() - ours.mean()) < 4 * error
    closest = np.einsum("bnd,bd->bn", items, target).argmax(axis=1)
    labels = tokens[np.arange(4000), 2 * closest + 1, 65:]
    assert np.mean((labels == TASK.label_vectors[answer]).all(axis=1)) > 0.98
    assert (tokens[:, :, :65].sum(axis=2) == 1).all()
