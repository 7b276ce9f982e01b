"""Effective logits: exact where they can be, and gone where there is nothing to find."""

from types import SimpleNamespace

import numpy as np
import pytest
from scipy.optimize import minimize_scalar

from cliff import MinimalHead, Task, Transformer, train
from cliff.kernels.classifier import classify
from cliff.network.layers import Output
from cliff.network.logits import (
    LOGITS,
    RESIDUALS,
    _chord,
    _noise,
    effective_logits,
    effective_memory,
)
from cliff.network.measures import memory_sets
from cliff.task import DATA, stream

TASK = Task(n_pairs=4, n_labels=8)


def batch_of(size=200, task=TASK):
    return task.sample(stream(5, DATA), size)


def planted(beta1=2.0, alpha=6.0):
    """A transformer whose heads are an induction head by construction."""
    net = Transformer(TASK, dtype=np.float64)
    window = TASK.window
    for name in ("Q1", "K1", "V1", "Q2", "K2", "V2"):
        net.parameters[name][...] = 0
    position, content = np.arange(window), np.arange(window, TASK.width)
    net.parameters["Q1"][position[:-1], position[1:]] = beta1
    net.parameters["K1"][position, position] = 1
    net.parameters["V1"][position[: TASK.dim], content] = 1  # what was seen, kept apart
    net.parameters["Q2"][content, content] = alpha
    net.parameters["K2"][content, position[: TASK.dim]] = 1
    net.parameters["V2"][content, content] = 1
    return net


def shuffled(net):
    """The same numbers in another order within each parameter."""
    rng = np.random.default_rng(0)
    for parameter in net.parameters.values():
        parameter[...] = rng.permuted(parameter.reshape(-1)).reshape(parameter.shape)
    return net


@pytest.mark.parametrize("label_bias", ["free", 1.3])
def test_the_minimal_head_is_read_exactly(label_bias):
    net = MinimalHead(TASK, seed=1, dtype=np.float64, label_bias=label_bias, start=(1.7, 3.1))
    if label_bias == "free":
        net.parameters["beta2"][...] = 0.9
    found = effective_logits(net, batch_of())
    expected = (1.7, 3.1, 0.9 if label_bias == "free" else 1.3)
    assert [found[name] for name in ("beta1", "alpha", "beta2")] == pytest.approx(expected)
    assert found["beta1_residual"] < 1e-12
    assert found["match_residual"] < 1e-12


def test_planted_circuits_are_found_and_shuffled_ones_are_not():
    batch = batch_of()
    found = effective_logits(planted(), batch)
    assert found["beta1"] == pytest.approx(2)
    assert found["alpha"] == pytest.approx(6)
    assert found["beta1_residual"] < 1e-12
    # the positions of what was seen are read as content too, which alpha does not know of
    assert found["match_residual"] < 0.3
    control = effective_logits(shuffled(planted()), batch)
    assert abs(control["beta1"]) < 0.2
    assert abs(control["alpha"]) < 0.6
    assert min(control["beta1_residual"], control["match_residual"]) > 0.9


def test_an_untrained_network_has_no_logits():
    found = effective_logits(Transformer(TASK, seed=3), batch_of())
    assert all(abs(found[name]) < 0.3 for name in LOGITS)
    assert all(found[RESIDUALS[name]] > 0.95 for name in LOGITS)


def test_ablated_attention_leaves_nothing_explained():
    batch, net = batch_of(), planted()
    net.set_clamp(1, "zero")
    assert effective_logits(net, batch)["match_residual"] > 0.999
    net.set_clamp(1, None)
    net.set_clamp(2, "zero")
    found = effective_logits(net, batch)
    assert np.isnan([found["beta2"], found["match_residual"], found["xi_chord"]]).all()
    assert found["beta1"] == pytest.approx(2)


@pytest.mark.parametrize("model", [Transformer, MinimalHead])
def test_the_slope_equals_a_finite_difference(model):
    net, batch, h = model(TASK, seed=2, dtype=np.float64), batch_of(40), 1e-6
    features, label = net.features(batch), np.arange(40) % 8
    step = h * net.label_directions()[label]
    above, below = (classify(features + sign * step, net._weights())[0] for sign in (1, -1))
    change = (above - below) / (2 * h)
    own = change[np.arange(40), label]
    others = (change.sum(axis=1) - own) / 7
    assert effective_logits(net, batch)["xi"] == pytest.approx((own - others).mean(), rel=1e-6)


def test_full_attention_moves_the_features_as_the_directions_say():
    net, batch = Transformer(TASK, dtype=np.float64), batch_of(30)
    for name in ("Q1", "K1", "V1"):
        net.parameters[name][...] = 0  # so that the second layer writes V2 (position + content)
    net.set_clamp(2, "match")
    net.parameters["V2"][:, : TASK.window] = 0
    moved = net.features(batch)
    net.set_clamp(2, "zero")
    moved -= net.features(batch)
    np.testing.assert_allclose(moved, net.label_directions()[batch.answer], atol=1e-12)


def test_the_chord_of_linear_logits_is_their_slope():
    batch, rng = batch_of(), np.random.default_rng(1)
    attention2 = rng.dirichlet(np.ones(9), 200)
    attended = np.zeros((200, 8))
    for n in range(4):
        attended[np.arange(200), batch.labels[:, n]] += attention2[:, 2 * n + 1]
    linear = Output(3 * attended + rng.normal(size=(200, 1)), np.zeros((200, 9, 9)), attention2)
    chord, residual = _chord(linear, batch)
    assert chord == pytest.approx(3)
    assert residual < 1e-12
    noise = linear._replace(logits=rng.normal(size=(200, 8)))
    assert _chord(noise, batch)[1] > 0.95


def split(batch, logits):
    """The signal in some logits and the rest, by least squares with a constant for each row."""
    size, labels = logits.shape
    present = np.array([[np.sum(row == k) for k in range(labels)] for row in batch.labels])
    design = np.column_stack([present.ravel(), np.repeat(np.eye(size), labels, axis=0)])
    found = np.linalg.lstsq(design, logits.ravel(), rcond=None)[0]
    signal = found[0] * (present - present.mean(axis=1, keepdims=True))
    return signal, logits - logits.mean(axis=1, keepdims=True) - signal


def loss_of(logits, batch):
    right = logits[np.arange(len(logits)), batch.answer]
    return (np.log(np.exp(logits).sum(axis=1)) - right).mean()


@pytest.mark.parametrize("drawn", ["distinct", "replacement"])
def test_the_noise_takes_back_the_derivative_by_the_size_of_the_rest(drawn):
    task = Task(n_pairs=4, n_labels=8, labels_drawn=drawn)
    rng, h = np.random.default_rng(2), 1e-5
    batch = batch_of(60, task)
    logits = rng.normal(0, 0.7, (60, 8)) + rng.normal(size=(60, 1))
    signal, rest = split(batch, logits + 0.8 * split(batch, np.eye(8)[batch.answer])[0])
    found = _noise(SimpleNamespace(logits=signal + rest + 3.0), batch)

    def force(part):
        return loss_of(signal + rest - h * part, batch) - loss_of(signal + rest + h * part, batch)

    assert found == pytest.approx(-force(rest) / force(signal), rel=1e-6)


def test_logits_of_the_best_size_have_noise_that_takes_all_back():
    batch, rng = batch_of(300), np.random.default_rng(3)
    present = np.zeros((300, 8))
    np.put_along_axis(present, batch.labels, 1.0, axis=1)
    noisy = present + 0.6 * rng.normal(size=present.shape)
    best = minimize_scalar(lambda size: loss_of(size * noisy, batch), bounds=(0, 9)).x
    assert _noise(SimpleNamespace(logits=best * noisy), batch) == pytest.approx(1.0, abs=1e-4)
    assert _noise(SimpleNamespace(logits=best * present), batch) == pytest.approx(0.0, abs=1e-12)
    assert _noise(SimpleNamespace(logits=0.2 * best * noisy), batch) < 0.5
    assert _noise(SimpleNamespace(logits=3.0 * best * noisy), batch) > 1.5


def test_where_all_labels_are_in_the_context_there_is_no_signal():
    task = Task(n_pairs=4, n_labels=4)
    assert np.isnan(effective_logits(Transformer(task), batch_of(20, task))["xi_noise"])


KNOWN = Task(n_pairs=2, n_labels=4, n_classes=8, p_novel=0.0)


def remembering(logits):
    """What stands for a network: its logits if layer 2 is cut out, and nonsense otherwise."""
    clamped = {}

    def forward(batch):
        assert clamped == {2: "zero"}
        return SimpleNamespace(logits=logits(batch))

    alone = SimpleNamespace(set_clamp=clamped.__setitem__, forward=forward)
    return SimpleNamespace(copy=lambda: alone)


def test_memory_is_read_exactly_and_group_by_group():
    task = Task(n_pairs=2, n_labels=4, n_classes=8, p_novel=0.0, zipf_exponent=1.0)
    groups = [task.sample_group(stream(group, DATA), 3000, group) for group in range(4)]
    sizes = {id(batch): size for batch, size in zip(groups, (4.0, 3.0, 1.0, -2.0), strict=True)}

    def logits(batch):
        return 7.0 + sizes[id(batch)] * np.eye(4)[batch.answer]

    found = effective_memory(remembering(logits), groups, task.group_shares)
    assert [found[f"omega_{k}"] for k in (1, 2, 3, 4)] == pytest.approx([4.0, 3.0, 1.0, -2.0])
    assert found["omega_residual"] < 1e-12
    noise = np.random.default_rng(0).normal(size=(3000, 4))
    half = effective_memory(remembering(lambda b: logits(b) + noise), groups, [0, 0, 1, 0])
    # centred: noise 3 of each row's 4, signal 3/4
    assert half["omega_residual"] == pytest.approx(3 / (3 + 0.75), abs=0.02)


@pytest.mark.parametrize("model", [Transformer, MinimalHead])
def test_memory_grows_where_it_is_trained_and_not_without(model):
    net = model(KNOWN, seed=1)
    sets = memory_sets(KNOWN, 3, 200)
    before = effective_memory(net, sets, KNOWN.group_shares)
    train(net, KNOWN, 600, lr=0.1)
    learned = effective_memory(net, sets, KNOWN.group_shares)
    assert abs(before["omega_1"]) < 0.3
    assert before["omega_residual"] > 0.75  # eight classes overlap with what any network draws
    assert learned["omega_1"] > 2
    assert learned["omega_residual"] < 0.6
    control = effective_memory(shuffled(net), sets, KNOWN.group_shares)
    assert abs(control["omega_1"]) < 0.5
    assert control["omega_residual"] > 0.9
    other = Task(n_pairs=2, n_labels=4, n_classes=8, p_novel=0.0, seed=9)
    unknown = effective_memory(net, memory_sets(other, 3, 200), other.group_shares)
    assert abs(unknown["omega_1"]) < 1


def test_memory_does_not_read_the_context():
    net = Transformer(KNOWN, seed=1, dtype=np.float64)
    for name in ("Q1", "K1", "V1"):
        net.parameters[name][...] = 0  # nor does layer 1
    (batch,) = memory_sets(KNOWN, 3, 100)
    other = batch._replace(labels=(batch.labels + 1) % 4)
    one, two = (effective_memory(net, [each], [1.0])["omega_1"] for each in (batch, other))
    assert one == pytest.approx(two, abs=1e-12)
    net.parameters["readout"][...] *= 2
    assert effective_memory(net, [batch], [1.0])["omega_1"] == pytest.approx(2 * one, rel=1e-9)


def test_memory_is_recorded_where_classes_are_known():
    options = {"eval_every": 5, "eval_size": 100}
    zipf = Task(n_pairs=2, n_labels=4, n_classes=8, p_novel=0.5, zipf_exponent=1.0)
    names = ["omega_1", "omega_2", "omega_3", "omega_4", "omega_residual"]
    run = train(Transformer(zipf), zipf, 5, **options)
    assert [name for name in run if "omega" in name] == names
    assert run.omega_3.attrs["long_name"] == "memory logit of the classes of rank 4 to 7"
    assert np.isfinite(run[names].to_array()).all()
    assert not [name for name in train(Transformer(TASK), TASK, 5, **options) if "omega" in name]
