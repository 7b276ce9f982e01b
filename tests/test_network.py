"""Both networks: values and gradients against the reference, symmetries, copies."""

import ast
import copy
import multiprocessing
import os
import pickle
import subprocess
import sys
import threading
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import threadpoolctl
from numba import config

from cliff.checks import ArgumentError
from cliff.network import reference
from cliff.network.layers import PATTERNS, Parameters
from cliff.network.measures import QUESTIONS, attention_maps, evaluate, evaluation_sets, measures
from cliff.network.minimal import MinimalHead
from cliff.network.training import train
from cliff.network.transformer import Transformer
from cliff.parallel import one_blas_thread
from cliff.task import DATA, EVALUATION, Task, stream

SMALL = Task(
    n_pairs=4, n_labels=5, n_classes=10, dim=7, window=13, burstiness=2, p_novel=0.5, p_bursty=0.5
)
TINY = Task(n_pairs=2, n_labels=3, n_classes=6, dim=3, window=7, p_novel=0.5, p_bursty=0.5)
"""For derivatives with respect to every single parameter."""

MODELS = ["transformer", "minimal"]


def make(model, task=SMALL, dtype=np.float64, seed=1, **options):
    if model == "transformer":
        return Transformer(task, seed, dtype=dtype, **options)
    return MinimalHead(task, seed, dtype=dtype, **{"start": (0.5, 1.2), **options})


def batch_of(task=SMALL, size=6, seed=0):
    return task.sample(stream(seed, DATA), size)


def features_and_kept(net, batch):
    """Of the whole batch, which the network itself takes in two parts."""
    items, *others = batch
    # laid out as the parts are, for which the passes are compiled already
    batch = type(batch)(items.astype(net.dtype), *map(np.ascontiguousarray, others))
    return net._features(net._weights(), batch, net._held(batch))


def by_reference(net, batch, parameters=None):
    """Logits, loss and gradient of the model in plain NumPy."""
    tokens = reference.tokens(batch, net.label_vectors, net.task.window)
    theta = dict(net.parameters) if parameters is None else parameters
    if net.model == "transformer":
        return reference.transformer(theta, tokens, batch.answer)
    return reference.minimal_head(theta, tokens[:, :, net.task.window :], batch.answer)


def away_from_the_start(net):
    """Parameters that start at zero would hide mistakes."""
    rng = np.random.default_rng(4)
    for name in ("b1", "b2", "b3"):
        net.parameters[name][:] = 0.2 * rng.standard_normal(net.width)
    if net.model == "minimal":
        net.parameters["beta2"][...] = 0.4
    return net


def numerical_gradient(loss, parameters):
    """Central differences of a function of nothing, by parameters that are changed in place."""
    found = {name: np.zeros_like(parameter) for name, parameter in parameters.items()}
    for name, parameter in parameters.items():
        for index in np.ndindex(parameter.shape):
            kept, values = parameter[index].copy(), []
            for change in (1e-5, -1e-5):
                parameter[index] = kept + change
                values.append(loss())
            parameter[index] = kept
            found[name][index] = (values[0] - values[1]) / 2e-5
    return found


@pytest.mark.parametrize("model", MODELS)
def test_gradients_of_the_reference_equal_central_differences(model):
    net, batch = away_from_the_start(make(model, TINY, width=9)), batch_of(TINY)
    _, _, gradient = by_reference(net, batch)
    numerical = numerical_gradient(lambda: by_reference(net, batch)[1], net.parameters)
    assert gradient.keys() == numerical.keys()
    for name, expected in numerical.items():
        size = np.abs(expected).max()
        assert size > 0
        assert np.abs(gradient[name] - expected).max() <= 1e-6 * size, name


def test_the_reference_writes_the_sequence_out():
    batch = batch_of()
    tokens = reference.tokens(batch, SMALL.label_vectors, SMALL.window)
    for b in range(len(batch.answer)):
        for i in range(SMALL.n_tokens):
            place = np.eye(SMALL.window)[batch.start[b] + i]
            slot = i // 2
            content = SMALL.label_vectors[batch.labels[b, slot]] if i % 2 else batch.items[b, slot]
            np.testing.assert_array_equal(tokens[b, i], [*place, *content])


def test_the_reference_attends_causally_as_the_formula_says():
    """One token after another: v_i = u_i + V sum of p_ij u_j over j <= i."""
    net = make("transformer")
    u, theta = net.tokens(batch_of()), net.parameters
    v, p = reference.attend(u, theta, "1")
    for b, i in np.ndindex(u.shape[:2]):
        scores = [(theta["Q1"] @ u[b, i]) @ (theta["K1"] @ u[b, j]) for j in range(i + 1)]
        weights = np.exp(scores) / np.exp(scores).sum()
        np.testing.assert_allclose(p[b, i], [*weights, *np.zeros(u.shape[1] - i - 1)], atol=1e-13)
        seen = sum(weight * (theta["V1"] @ u[b, j]) for j, weight in enumerate(weights))
        np.testing.assert_allclose(v[b, i], u[b, i] + seen, rtol=0, atol=1e-12)


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize(("dtype", "tolerance"), [(np.float64, 1e-12), (np.float32, 1e-5)])
@pytest.mark.parametrize("task", [SMALL, Task()], ids=["small", "default"])
def test_passes_equal_the_reference(model, dtype, tolerance, task):
    net, batch = away_from_the_start(make(model, task, dtype)), batch_of(task, 31)
    exact = {name: parameter.astype(np.float64) for name, parameter in net.parameters.items()}
    double = make(model, task, np.float64)  # for label vectors in its dtype
    logits, loss, gradient = by_reference(double, batch, exact)
    found = net.forward(batch).logits
    assert found.dtype == dtype
    np.testing.assert_allclose(found, logits, rtol=0, atol=tolerance * np.abs(logits).max())
    assert net.loss_and_gradient(batch) == pytest.approx(loss, rel=tolerance)
    assert net.gradients.keys() == gradient.keys()
    for name, expected in gradient.items():
        assert net.gradients[name].dtype == dtype
        error = np.abs(net.gradients[name] - expected).max()
        assert error <= tolerance * np.abs(expected).max(), name


def test_large_scores_do_not_overflow():
    """Attention of float32 at scores beyond 88, where exp overflows."""
    net, batch = make("minimal", dtype=np.float32, start=(200.0, 300.0)), batch_of()
    logits, loss, _ = by_reference(net, batch)
    np.testing.assert_allclose(net.forward(batch).logits, logits, rtol=0, atol=1e-3)
    assert net.loss_and_gradient(batch) == pytest.approx(loss, rel=1e-3)


@pytest.mark.parametrize("model", MODELS)
def test_training_equals_the_reference(model):
    net = away_from_the_start(make(model, width=9))
    theta, rng = {name: value.copy() for name, value in net.parameters.items()}, stream(5, DATA)
    for _ in range(30):
        _, _, gradient = by_reference(net, SMALL.sample(rng, 16), theta)
        theta = reference.descend(theta, gradient, 0.1, 1e-3)
    train(net, SMALL, 30, lr=0.1, batch=16, weight_decay=1e-3, seed=5, eval_size=4)
    for name, expected in theta.items():
        error = np.abs(net.parameters[name] - expected).max()
        assert error <= 1e-11 * max(np.abs(expected).max(), 1), name


CLAMPS = [{}, *({layer: pattern} for layer in (1, 2) for pattern in PATTERNS[layer])]


@pytest.mark.parametrize("clamp", CLAMPS, ids=str)
@pytest.mark.parametrize("model", MODELS)
def test_gradients_equal_central_differences(model, clamp):
    net, batch = away_from_the_start(make(model, TINY, width=9)), batch_of(TINY)
    for layer, pattern in clamp.items():
        net.set_clamp(layer, pattern)
    net.loss_and_gradient(batch)
    gradients = {name: gradient.copy() for name, gradient in net.gradients.items()}
    still = []
    numerical = numerical_gradient(lambda: net.loss_and_gradient(batch), net.parameters)
    for name, expected in numerical.items():
        size = np.abs(expected).max()
        assert np.abs(gradients[name] - expected).max() <= 1e-6 * size + 1e-12, name
        if size == 0:
            still.append(name)
    if not clamp:
        assert not still
    if clamp.get(1):
        assert {"Q1", "K1"} <= set(still) or "beta1" in still


@pytest.mark.parametrize("model", MODELS)
def test_loss_is_the_mean_cross_entropy_of_the_logits(model):
    net, batch = make(model), batch_of(size=20)
    logits = net.forward(batch).logits
    expected = np.mean(
        [np.log(np.exp(row).sum()) - row[k] for row, k in zip(logits, batch.answer, strict=True)]
    )
    assert net.loss_and_gradient(batch) == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("model", MODELS)
def test_float32_stays_float32(model):
    task = Task(n_pairs=4, n_labels=8)
    net, batch = make(model, task, np.float32), batch_of(task)
    features, kept = features_and_kept(net, batch)
    arrays = (*net.forward(batch), features, *kept)
    assert {array.dtype for array in arrays} == {np.dtype(np.float32)}


@pytest.mark.parametrize("size", [1, 2, 7])
@pytest.mark.parametrize("model", MODELS)
def test_batch_is_the_mean_of_its_sequences(model, size):
    net, batch = make(model), batch_of(size=size)
    loss, gradient = net.loss_and_gradient(batch), net.gradients.vector.copy()
    losses, gradients = [], []
    for b in range(size):
        losses.append(net.loss_and_gradient(type(batch)(*(column[[b]] for column in batch))))
        gradients.append(net.gradients.vector.copy())
    assert loss == pytest.approx(np.mean(losses), rel=1e-12)
    np.testing.assert_allclose(gradient, np.mean(gradients, axis=0), rtol=0, atol=1e-13)


@pytest.mark.parametrize("model", MODELS)
def test_number_of_threads_does_not_change_a_bit(model, monkeypatch):
    task = Task()
    batch, found, used = batch_of(task, 65), [], set()
    for threads in (1, 2):
        monkeypatch.setattr(config, "NUMBA_NUM_THREADS", threads)
        net = make(model, task, np.float32)
        differentiate = net._differentiate
        monkeypatch.setattr(
            net,
            "_differentiate",
            lambda *a, go=differentiate: (used.add(threading.get_ident()), go(*a))[1],
        )
        loss, output = net.loss_and_gradient(batch), net.forward(batch)
        found.append([loss, *(array.tobytes() for array in (net.gradients.vector, *output))])
        assert len(used) == threads
    assert found[0] == found[1]


@pytest.mark.parametrize("model", MODELS)
def test_order_of_the_batch_does_not_matter(model):
    net, batch = make(model), batch_of(size=30)
    order = np.random.default_rng(0).permutation(30)
    shuffled = type(batch)(*(column[order] for column in batch))
    np.testing.assert_allclose(
        net.forward(batch).logits[order], net.forward(shuffled).logits, rtol=0, atol=1e-12
    )
    loss = net.loss_and_gradient(batch)
    gradient = net.gradients.vector.copy()
    assert net.loss_and_gradient(shuffled) == pytest.approx(loss, rel=1e-12)
    np.testing.assert_allclose(net.gradients.vector, gradient, rtol=0, atol=1e-12)


def test_place_of_the_window_does_not_matter_to_the_minimal_head():
    net, batch = make("minimal"), batch_of()
    moved = batch._replace(start=(batch.start + 2) % 5)
    np.testing.assert_array_equal(net.forward(batch).logits, net.forward(moved).logits)


def test_place_of_the_window_is_a_relabelling_to_the_transformer():
    """Windows that move together with the positions' coordinates leave everything as it was."""
    net, moved_net, window = make("transformer"), make("transformer"), SMALL.window
    coordinate = np.concatenate(
        [(np.arange(window) - 3) % window, np.arange(window, SMALL.width)]
    )  # where the coordinates of the moved network come from
    for name in ("Q1", "K1", "Q2", "K2", "W1"):
        moved_net.parameters[name][...] = net.parameters[name][:, coordinate]
    for name in ("V1", "V2"):
        moved_net.parameters[name][...] = net.parameters[name][np.ix_(coordinate, coordinate)]
    batch = batch_of()._replace(start=np.zeros(6, np.intp))
    moved = batch._replace(start=batch.start + 3)
    logits = net.forward(batch).logits
    np.testing.assert_allclose(moved_net.forward(moved).logits, logits, rtol=0, atol=1e-12)
    assert np.abs(net.forward(moved).logits - logits).max() > 1e-3  # positions do matter


def test_later_tokens_do_not_change_earlier_ones():
    net, batch = make("transformer"), batch_of()
    trace = net.trace(batch)
    for pair in range(SMALL.n_pairs):
        changed = batch._replace(items=batch.items.copy(), labels=batch.labels.copy())
        changed.items[:, pair:] += 1.0
        changed.labels[:, pair:] = (batch.labels[:, pair:] + 1) % SMALL.n_labels
        other = net.trace(changed)
        for before, after in zip(trace, other, strict=True):
            np.testing.assert_array_equal(before[:, : 2 * pair], after[:, : 2 * pair])
            assert (before[:, 2 * pair :] != after[:, 2 * pair :]).any()


@pytest.mark.parametrize("clamp", CLAMPS, ids=str)
def test_trace_agrees_with_the_path_that_computes_the_target_only(clamp):
    net, batch = make("transformer"), batch_of()
    for layer, pattern in clamp.items():
        net.set_clamp(layer, pattern)
    trace, output = net.trace(batch), net.forward(batch)
    features, _ = features_and_kept(net, batch)
    np.testing.assert_allclose(trace.attention1, output.attention1, rtol=0, atol=1e-12)
    np.testing.assert_allclose(trace.attention2[:, -1], output.attention2, rtol=0, atol=1e-12)
    np.testing.assert_allclose(trace.stream[:, -1], features, rtol=0, atol=1e-12)


@pytest.mark.parametrize("model", MODELS)
def test_attention_is_causal_and_sums_to_one(model):
    output = make(model).forward(batch_of())
    assert (np.triu(output.attention1, 1) == 0).all()
    np.testing.assert_allclose(output.attention1.sum(axis=2), 1, rtol=1e-12)
    np.testing.assert_allclose(output.attention2.sum(axis=1), 1, rtol=1e-12)
    assert (output.attention1.min() >= 0) & (output.attention2.min() >= 0)


@pytest.mark.parametrize("model", MODELS)
def test_clamps_set_the_progress_measures(model):
    task = Task(n_pairs=4, n_labels=8)
    net, batch = make(model, task), batch_of(task, 50)
    net.set_clamp(1, "previous")
    net.set_clamp(2, "match")
    held = measures(net.forward(batch), batch)
    assert held["ila1"] == held["tila2"] == held["tla2"] == 1
    net.set_clamp(1, "uniform")
    net.set_clamp(2, "uniform")
    held = measures(net.forward(batch), batch)
    assert held["ila1"] == pytest.approx(np.mean([1 / 2, 1 / 4, 1 / 6, 1 / 8]))
    assert held["tila2"] == pytest.approx(1 / 9)
    assert held["tla2"] == pytest.approx(4 / 9)
    net.set_clamp(1, "zero")
    net.set_clamp(2, "zero")
    held = measures(net.forward(batch), batch)
    assert held["ila1"] == held["tla2"] == 0
    for layer in (1, 2):
        net.set_clamp(layer, None)
    assert not net.clamp


def test_a_head_that_is_cut_out_writes_nothing():
    net, batch = make("transformer"), batch_of()
    net.set_clamp(1, "zero")
    net.set_clamp(2, "zero")
    np.testing.assert_array_equal(features_and_kept(net, batch)[0], net.tokens(batch)[:, -1])


@pytest.mark.parametrize(
    ("layer", "pattern"), [(3, "zero"), (1, "match"), (2, "previous"), (1, 1.0)]
)
def test_bad_clamps_are_refused(layer, pattern):
    net = make("minimal")
    with pytest.raises(ArgumentError):
        net.set_clamp(layer, pattern)
    if layer in PATTERNS:
        net.clamp[layer] = pattern  # past that check
        with pytest.raises(ArgumentError):
            net.forward(batch_of())


def test_bad_networks_are_refused():
    with pytest.raises(ArgumentError, match="dtype"):
        Transformer(SMALL, dtype=np.float16)
    for label_bias in ("fixed", -1e39):
        with pytest.raises(ArgumentError, match="label_bias"):
            MinimalHead(SMALL, label_bias=label_bias)
    for start in ((1.0,), (0.0, 1e39)):
        with pytest.raises(ArgumentError, match="start"):
            MinimalHead(SMALL, start=start)
    with pytest.raises(ArgumentError, match="names"):
        Transformer(SMALL).freeze("Q3")


def test_initial_parameters_have_the_stated_spread():
    net = Transformer(Task(), seed=3, dtype=np.float64)
    spread = {"Q1": 1 / 63, "V2": 1 / 63, "W1": 2 / 128, "W3": 2 / 128, "readout": 1 / 128}
    for name, variance in spread.items():
        entries = net.parameters[name].ravel()
        error = variance * (2 / entries.size) ** 0.5
        assert abs(np.mean(entries**2) - variance) < 4 * error, name
        assert abs(np.mean(entries**2) - 1.2 * variance) > 4 * error, name  # control
    assert not any(net.parameters[name].any() for name in ("b1", "b2", "b3"))
    single = Transformer(Task(), seed=3)
    np.testing.assert_array_equal(single.parameters.vector, net.parameters.vector.astype("f4"))
    assert not np.array_equal(Transformer(Task(), seed=4).parameters["Q1"], single.parameters["Q1"])


def test_label_bias_of_the_minimal_head():
    free, held = MinimalHead(SMALL), MinimalHead(SMALL, label_bias=0.7)
    assert not free.frozen
    assert held.frozen == {"beta2"}
    assert float(held.parameters["beta2"]) == pytest.approx(0.7)


def test_measures_equal_plain_loops():
    net, batch = make("transformer"), batch_of(size=40)
    output = net.forward(batch)
    values = {name: [] for name in ("accuracy", "p_correct", "ila1", "tila2", "tla2", "cla")}
    for b in range(40):
        labels, answer = batch.labels[b], batch.answer[b]
        probability = np.exp(output.logits[b]) / np.exp(output.logits[b]).sum()
        values["p_correct"].append(probability[answer])
        values["accuracy"].append(probability.argmax() == answer)
        values["ila1"] += [output.attention1[b, 2 * n + 1, 2 * n] for n in range(4)]
        to_labels = [output.attention2[b, 2 * n + 1] for n in range(4)]
        values["tla2"].append(sum(to_labels))
        pairs = zip(to_labels, labels, strict=True)
        values["tila2"].append(sum(a for a, k in pairs if k == answer))
        values["cla"].append(sum(probability[k] for k in set(labels)))
    found = measures(output, batch)
    for name, entries in values.items():
        assert found[name] == pytest.approx(np.mean(entries), rel=1e-12), name


def test_evaluation_asks_all_questions():
    sets = evaluation_sets(SMALL, seed=0, size=30)
    assert set(sets) == {"train", "icl", "icl_swapped", "iwl"}
    found = evaluate(make("minimal"), sets)
    assert {"loss", "icl", "icl_swapped", "iwl", "beta1", "alpha", "beta2"} <= set(found)


def test_evaluation_sequences_have_a_stream_of_their_own():
    held_out = evaluation_sets(SMALL, seed=0, size=30)["train"]
    assert held_out == SMALL.sample(stream(0, EVALUATION), 30)
    assert held_out != SMALL.sample(stream(0, DATA), 30)  # what training with this seed sees


def test_attention_maps_average_over_slots():
    task = Task(n_pairs=3, n_labels=5)
    net, batch = make("transformer", task), task.sample(stream(0, DATA), 60, "icl")
    maps, output = attention_maps(net, batch), net.forward(batch)
    np.testing.assert_allclose(maps["attention1"], output.attention1.mean(axis=0))
    for n in range(3):
        rows = output.attention2[batch.labels[:, n] == batch.answer]
        np.testing.assert_allclose(maps["attention2"][n], rows.mean(axis=0))


@pytest.fixture(params=MODELS)
def trained(request):
    """A network in the middle of its training, with everything about it changed."""
    net = make(request.param, dtype=np.float32, seed=2, width=9)
    train(net, SMALL, 5, lr=0.1, batch=8, eval_size=4)
    net.set_clamp(1, "uniform")
    net.freeze("b2")
    return net


def copies(net):
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
        far = pool.submit(copy.copy, net).result()
    return {
        "copy": net.copy(),
        "shallow": copy.copy(net),
        "deep": copy.deepcopy(net),
        "pickle": pickle.loads(pickle.dumps(net)),
        "process": far,
    }


def train_on(net):
    train(net, SMALL, 20, lr=0.1, batch=8, seed=7, eval_size=4)
    return net


def test_copies_train_as_the_original_does(trained):
    start = trained.parameters.vector.copy()
    others = copies(trained)
    train_on(trained)
    for name, other in others.items():
        assert np.array_equal(other.parameters.vector, start), name  # still at the branch
        assert (other.clamp, other.frozen) == (trained.clamp, trained.frozen)
        train_on(other)
        assert np.array_equal(other.parameters.vector, trained.parameters.vector), name
        assert other.gradients == trained.gradients
    assert np.abs(trained.parameters.vector - start).max() > 1e-3


def test_copies_are_equal_and_independent(trained):
    for name, other in copies(trained).items():
        assert other == trained, name
        for array in other.parameters.values():
            assert np.shares_memory(array, other.parameters.vector)
            assert not np.shares_memory(array, trained.parameters.vector)
        other.parameters["readout"][0, 0] += 1
        assert other.parameters.vector[-5 * 9] == other.parameters["readout"][0, 0]
        assert other != trained
    for change in (
        lambda net: net.set_clamp(2, "zero"),
        lambda net: net.freeze("b1"),
        lambda net: setattr(net, "task", replace(SMALL, noise=0.2)),
    ):
        other = trained.copy()
        change(other)
        assert other != trained
    assert make("minimal") != make("transformer")
    trained.parameters.vector[:] = np.nan  # a network that diverged equals itself too
    assert trained == trained.copy()


def test_parameters_are_compared_by_name_shape_type_and_entry():
    one = Parameters({"a": (2, 3), "b": ()}, np.float64)
    assert one == copy.copy(one)
    assert not np.shares_memory(copy.copy(one).vector, one.vector)
    for shapes, dtype in (
        ({"a": (3, 2), "b": ()}, "f8"),
        ({"b": (), "a": (2, 3)}, "f8"),
        ({"a": (2, 3), "b": ()}, "f4"),
    ):
        assert one != Parameters(shapes, dtype)
    assert one != dict(one)
    assert repr(one) == "Parameters(7 of float64: a=(2, 3), b=())"


def test_outputs_and_traces_are_compared_as_a_whole():
    net, batch = make("transformer"), batch_of()
    for result in (net.forward, net.trace):
        assert result(batch) == result(batch)
        assert result(batch) == pickle.loads(pickle.dumps(result(batch)))
        assert result(batch) != result(batch_of(seed=1))
    assert repr(net.forward(batch)).startswith("Output(logits: (6, 5), attention1: (6, 9, 9)")


def test_reprs_say_what_matters():
    net = Transformer(SMALL, 3, width=9)
    expected = f"Transformer({SMALL!r}, seed=3, width=9, 2,814 parameters in float32)"
    assert repr(net) == expected
    net.set_clamp(1, "zero")
    net.freeze("V1", "Q1")
    assert repr(net) == f"{expected[:-1]}, clamp={{1: 'zero'}}, frozen=['Q1', 'V1'])"
    head = repr(make("minimal", width=9))
    assert "seed=1, width=9, beta1=0.5, alpha=1.2, beta2=0, " in head


@pytest.mark.parametrize(
    ("changes", "width", "argument"),
    [
        ({}, 10**8, "width"),
        ({"window": 10**8}, 128, "window"),
        ({"dim": 10**6}, 128, "dim"),
        ({"n_labels": 10**7, "n_classes": 10**7, "dim": 8}, 10**6, "n_labels"),
    ],
)
def test_networks_beyond_the_memory_are_refused(changes, width, argument, monkeypatch):
    monkeypatch.setattr(os, "sysconf", {"SC_PHYS_PAGES": 10**6, "SC_PAGE_SIZE": 8192}.get)
    with pytest.raises(ArgumentError, match=r"GB of memory, and this machine has 8\.19") as caught:
        Transformer(Task(**changes), width=width)
    assert caught.value.argument == argument


def memory_taken(net, size):
    """Growth of the resident set in a training step, in bytes, watched from another thread."""

    def resident():
        return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")

    def watch():
        while not done.wait(0.001):
            sizes.append(resident())

    rng = stream(0, DATA)
    net.loss_and_gradient(net.task.sample(rng, 10))
    sizes, done = [resident()], threading.Event()
    watcher = threading.Thread(target=watch)
    watcher.start()
    net.loss_and_gradient(net.task.sample(rng, size), lambda: net.task.sample(rng, size))
    done.set()
    watcher.join()
    return max(sizes) - sizes[0]


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="needs Linux")
@pytest.mark.parametrize("model", MODELS)
def test_memory_is_about_what_a_step_takes(model):
    net = make(model, Task(), np.float32)
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
        found = pool.submit(memory_taken, net, 20_000).result()
    assert 0.5 < found / net.memory(20_000) < 2


def blas_threads():
    return {lib["filepath"]: lib["num_threads"] for lib in threadpoolctl.threadpool_info()
            if lib["user_api"] == "blas"}  # fmt: skip


@pytest.fixture
def two_threads():
    """BLAS with two threads, also on a machine with one core."""
    import scipy.linalg.cython_blas  # noqa: F401, the one that numba calls

    with threadpoolctl.threadpool_limits(2, "blas"):
        yield
        assert set(blas_threads().values()) == {2}


@pytest.mark.parametrize("model", MODELS)
def test_blas_has_one_thread_in_a_step_and_what_it_had_afterwards(model, two_threads, monkeypatch):
    net, batch, seen = make(model), batch_of(), []
    for name in ("_differentiate", "_features", "_weights", "_complete", "attention_logits"):
        method = getattr(net, name)
        monkeypatch.setattr(
            net, name, lambda *a, go=method: (seen.extend(blas_threads().values()), go(*a))[1]
        )
    works = [net.loss_and_gradient, net.forward, net.features]
    works.append(lambda batch: evaluate(net, dict.fromkeys(QUESTIONS, batch)))
    if model == "transformer":
        monkeypatch.setattr(reference, "attend", lambda *a, go=reference.attend: (
            seen.extend(blas_threads().values()), go(*a))[1])  # fmt: skip
        works.append(net.trace)
    for work in works:
        seen.clear()
        work(batch)
        assert set(seen) == {1}
        assert set(blas_threads().values()) == {2}


FIRST_STEP = """
import numpy as np
from threadpoolctl import threadpool_info
from cliff import MinimalHead, Task

def show():
    print([lib["filepath"].split("/")[-2:] + [lib["num_threads"]] for lib in threadpool_info()])

task = Task(n_pairs=2, n_labels=4)
show()
MinimalHead(task).loss_and_gradient(task.sample(np.random.default_rng(0), 8), show)
show()
"""


def test_the_first_step_of_a_process_limits_the_blas_that_numba_loads_for_it():
    environment = {**os.environ, "OPENBLAS_NUM_THREADS": "2"}
    run = [sys.executable, "-c", FIRST_STEP]
    lines = subprocess.run(run, env=environment, capture_output=True, check=True).stdout
    before, within, afterwards = map(ast.literal_eval, lines.decode().splitlines())
    assert len(before) == 1  # NumPy's BLAS
    assert [threads for *_, threads in within] == [1, 1]
    assert [threads for *_, threads in afterwards] == [2, 2]


def test_blas_gets_its_threads_back_after_an_exception(two_threads):
    def fail():
        assert set(blas_threads().values()) == {1}
        raise RuntimeError("in the middle")

    with pytest.raises(RuntimeError):
        make("minimal").loss_and_gradient(batch_of(), fail)
    assert set(blas_threads().values()) == {2}


def test_blas_is_limited_until_the_last_of_several_threads_is_done(two_threads):
    """Each of them enters and leaves in turn, the first one last and the first one first."""
    for first_to_leave in (0, 1):
        limits = [one_blas_thread(), one_blas_thread()]
        for limit in limits:
            limit.__enter__()
        limits.pop(first_to_leave).__exit__(None, None, None)
        assert set(blas_threads().values()) == {1}
        limits.pop().__exit__(None, None, None)
        assert set(blas_threads().values()) == {2}
