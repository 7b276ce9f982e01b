"""Both networks: gradients, symmetries, and a plain restatement of the forward pass."""

import threading

import numpy as np
import pytest
from numba import config

from cliff.checks import ArgumentError
from cliff.network.layers import PATTERNS
from cliff.network.measures import attention_maps, evaluate, evaluation_sets, measures
from cliff.network.minimal import MinimalHead
from cliff.network.transformer import Transformer
from cliff.task import DATA, Task, stream

SMALL = Task(
    n_pairs=4, n_labels=5, n_classes=10, dim=7, window=13, burstiness=2, p_novel=0.5, p_bursty=0.5
)
MODELS = ["transformer", "minimal"]


def make(model, task=SMALL, dtype=np.float64, seed=1, **options):
    if model == "transformer":
        return Transformer(task, seed, dtype=dtype, **options)
    return MinimalHead(task, seed, dtype=dtype, **{"start": (0.5, 1.2), **options})


def batch_of(task=SMALL, size=6, seed=0):
    return task.sample(stream(seed, DATA), size)


def features_and_kept(net, batch):
    """Of the whole batch, which the network itself takes in two parts."""
    batch = batch._replace(items=batch.items.astype(net.dtype), labels=batch.labels.copy())
    return net._features(net._weights(), batch, net._held(batch))


def softmax(scores):
    weights = np.exp(scores - scores.max())
    return weights / weights.sum()


def plain_forward(net, batch):
    """The forward pass of the paper, one sequence and one token at a time."""
    task, weights = net.task, net.parameters
    everything = []
    for items, labels, start in zip(batch.items, batch.labels, batch.start, strict=True):
        contents = []
        for n in range(task.n_pairs):
            contents += [items[n].astype(np.float64), task.label_vectors[labels[n]]]
        contents = np.array([*contents, items[-1]], dtype=np.float64)
        n_tokens = len(contents)
        if net.model == "transformer":
            stream_ = [np.concatenate([np.eye(task.window)[start + i], contents[i]])
                       for i in range(n_tokens)]  # fmt: skip
            for layer in "12":
                query, key, value = (weights[name + layer] for name in "QKV")
                updated = []
                for i in range(n_tokens):
                    scores = [(query @ stream_[i]) @ (key @ stream_[j]) for j in range(i + 1)]
                    attention = softmax(np.array(scores))
                    seen = sum(p * (value @ stream_[j]) for j, p in enumerate(attention))
                    updated.append(stream_[i] + seen)
                stream_ = updated
            hidden = stream_[-1]
        else:
            buffers = []
            for i in range(n_tokens):
                scores = [float(weights["beta1"]) * (j == i - 1) for j in range(i + 1)]
                buffers.append(softmax(np.array(scores)) @ contents[: i + 1])
            scores = [
                float(weights["alpha"]) * (buffers[j] @ contents[-1])
                + float(weights["beta2"]) * (j % 2 == 1)
                for j in range(n_tokens)
            ]
            attended = softmax(np.array(scores)) @ contents
            hidden = np.concatenate([contents[-1], attended])
        for layer in "123":
            hidden = np.maximum(weights["W" + layer] @ hidden + weights["b" + layer], 0)
        everything.append(weights["readout"] @ hidden)
    return np.array(everything)


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize(("dtype", "tolerance"), [(np.float64, 1e-12), (np.float32, 1e-5)])
def test_forward_equals_the_plain_one(model, dtype, tolerance):
    net, batch = make(model, dtype=dtype), batch_of()
    for name in ("b1", "b2", "b3"):
        net.parameters[name][:] = np.linspace(-0.3, 0.3, net.width)
    if model == "minimal":
        net.parameters["beta2"][...] = 0.4
    expected = plain_forward(net, batch)
    logits = net.forward(batch).logits
    assert logits.dtype == dtype
    np.testing.assert_allclose(logits, expected, rtol=0, atol=tolerance * np.abs(expected).max())


CLAMPS = [{}, *({layer: pattern} for layer in (1, 2) for pattern in PATTERNS[layer])]


@pytest.mark.parametrize("clamp", CLAMPS, ids=str)
@pytest.mark.parametrize("model", MODELS)
def test_gradients_equal_central_differences(model, clamp):
    net, batch = make(model, width=9), batch_of()
    rng = np.random.default_rng(4)
    for name in ("b1", "b2", "b3"):
        net.parameters[name][:] = 0.2 * rng.standard_normal(9)
    for layer, pattern in clamp.items():
        net.set_clamp(layer, pattern)
    net.loss_and_gradient(batch)
    gradients = {name: gradient.copy() for name, gradient in net.gradients.items()}
    still = []
    for name, parameter in net.parameters.items():
        numerical = np.zeros_like(parameter)
        for index in np.ndindex(parameter.shape):
            kept = parameter[index].copy()
            loss = []
            for change in (1e-5, -1e-5):
                parameter[index] = kept + change
                loss.append(net.loss_and_gradient(batch))
            parameter[index] = kept
            numerical[index] = (loss[0] - loss[1]) / 2e-5
        size = np.abs(numerical).max()
        assert np.abs(gradients[name] - numerical).max() <= 1e-6 * size + 1e-12, name
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


@pytest.mark.parametrize("model", MODELS)
def test_float32_gradient_is_close_to_the_exact_one(model):
    task = Task()
    single, double = (make(model, task, dtype) for dtype in (np.float32, np.float64))
    double.parameters.vector[:] = single.parameters.vector
    batch = batch_of(task, 128)
    assert single.loss_and_gradient(batch) == pytest.approx(double.loss_and_gradient(batch), 1e-5)
    for name, gradient in single.gradients.items():
        exact = double.gradients[name]
        assert np.abs(gradient - exact).max() <= 1e-5 * np.abs(exact).max(), name


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
    np.testing.assert_array_equal(trace.attention1, output.attention1)
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
    values = {name: [] for name in ("accuracy", "ila1", "tila2", "tla2", "cla")}
    for b in range(40):
        labels, answer = batch.labels[b], batch.answer[b]
        probability = softmax(output.logits[b])
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


def test_attention_maps_average_over_slots():
    task = Task(n_pairs=3, n_labels=5)
    net, batch = make("transformer", task), task.sample(stream(0, DATA), 60, "icl")
    maps, output = attention_maps(net, batch), net.forward(batch)
    np.testing.assert_allclose(maps["attention1"], output.attention1.mean(axis=0))
    for n in range(3):
        rows = output.attention2[batch.labels[:, n] == batch.answer]
        np.testing.assert_allclose(maps["attention2"][n], rows.mean(axis=0))
