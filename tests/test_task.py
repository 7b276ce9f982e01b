"""The samplers against theory, with negative controls for every statistical test.

All seeds are fixed: a p-value below 1e-3 would be a mistake in the sampler, not bad luck, and the
controls show that the tests have the power to see one.
"""

import copy
import dataclasses
import hashlib
import multiprocessing
import operator
import pickle
import tracemalloc
from concurrent.futures import ProcessPoolExecutor
from itertools import pairwise
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from cliff.checks import ArgumentError
from cliff.kernels import normals as kernels
from cliff.task import BLOCK, DATA, EVALUATION, Task, _Classes, add_normals, normals, stream

SIZE = 4000


def classes_of(task, batch):
    """Class of every item, or -1 of fresh ones: without noise an item is its class's centre."""
    assert task.noise == 0
    items = batch.items.reshape(-1, task.dim)
    distance = np.linalg.norm(items[:, None] - task.centres, axis=2)
    nearest = distance.argmin(axis=1)
    known = distance[np.arange(len(items)), nearest] == 0
    return np.where(known, nearest, -1).reshape(batch.items.shape[:2])


def small(**changes):
    sizes = {"n_pairs": 4, "n_labels": 6, "n_classes": 18, "dim": 8, "window": 12}
    return Task(**{**sizes, "noise": 0.0, "p_novel": 0.0, **changes})


def p_value(counts, expected):
    return stats.chisquare(counts, expected * counts.sum() / expected.sum()).pvalue


def assert_even(counts):
    """With the control that one outcome 40 % more likely than the others would be seen."""
    one_more_likely = np.ones(len(counts))
    one_more_likely[0] = 1.4
    assert p_value(counts, np.ones(len(counts))) > 1e-3
    assert p_value(counts, one_more_likely) < 1e-6


def zipf(n_classes, exponent):
    weights = np.arange(1, n_classes + 1) ** -float(exponent)
    return weights / weights.sum()


def test_shapes_and_types():
    task = Task(n_pairs=3, n_labels=5, dim=7, window=9)
    batch = task.sample(stream(0, DATA), 11)
    assert batch.items.shape == (11, 4, 7)
    assert batch.items.dtype == np.float32
    assert batch.labels.shape == (11, 3)
    assert batch.answer.shape == batch.start.shape == (11,)
    assert task.centres.shape == (512, 7)
    assert task.label_vectors.shape == (5, 7)


def test_world_and_batches_follow_from_the_seeds():
    task, same, other = Task(), Task(), Task(seed=1)
    np.testing.assert_array_equal(task.centres, same.centres)
    assert not np.array_equal(task.centres, other.centres)
    first, again = (task.sample(stream(5, DATA), 20) for _ in range(2))
    for one, two in zip(first, again, strict=True):
        np.testing.assert_array_equal(one, two)
    elsewhere = task.sample(stream(5, EVALUATION), 20)
    assert not np.array_equal(first.items, elsewhere.items)


@pytest.mark.parametrize("exponent", [0.0, 1.0, 1.5])
@pytest.mark.parametrize("question", ["train", "icl_swapped", "iwl"])
def test_target_classes_follow_the_zipf_law(exponent, question):
    task = small(zipf_exponent=exponent)
    target = classes_of(task, task.sample(stream(1, DATA), SIZE, question))[:, -1]
    counts = np.bincount(target, minlength=18)
    assert p_value(counts, zipf(18, exponent)) > 1e-3
    assert p_value(counts, zipf(18, exponent + 0.3)) < 1e-6  # control


@pytest.mark.parametrize("exponent", [0.0, 1.5])
def test_independent_contexts_follow_the_zipf_law(exponent):
    task = small(burstiness=0, zipf_exponent=exponent)
    classes = classes_of(task, task.sample(stream(2, DATA), SIZE))
    for column in classes.T:
        assert p_value(np.bincount(column, minlength=18), zipf(18, exponent)) > 1e-3
    repeated = np.mean([len(set(row)) < 4 for row in classes[:, :4] % 6])
    assert repeated > 0.5  # the control of the test that bursty labels are distinct


def test_bursty_contexts_are_those_of_successive_draws():
    """Against plain loops: draw a class, pass over it if its label is taken, go on."""
    task = small(zipf_exponent=1.0)
    classes = classes_of(task, task.sample(stream(3, DATA), SIZE))
    rng = np.random.default_rng(0)
    frequency = zipf(18, 1.0)
    loops = np.zeros(18)
    for _ in range(SIZE):
        chosen = []
        while len(chosen) < 4:
            candidate = rng.choice(18, p=frequency)
            if candidate % 6 not in [other % 6 for other in chosen]:
                chosen.append(candidate)
        loops[chosen] += 1
    counts = np.bincount(classes[:, :4].ravel(), minlength=18)
    assert stats.chi2_contingency([counts, loops]).pvalue > 1e-3
    independent = np.random.default_rng(1).choice(18, 4 * SIZE, p=frequency)
    control = stats.chi2_contingency([np.bincount(independent, minlength=18), loops])
    assert control.pvalue < 1e-6


@pytest.mark.parametrize("changes", [{"p_novel": 1.0}, {"p_novel": 1.0, "burstiness": 2}, {}])
def test_labels_drawn_with_replacement_coincide_as_often_as_they_should(changes):
    """Two classes of a context share a label: 1/L among fresh ones, (K/L − 1)/(K − 1) of known."""
    task = small(labels_drawn="replacement", **changes)
    labels = task.sample(stream(4, DATA), SIZE).labels
    ordered = np.sort(labels, axis=1)[:, :: task.copies]  # one of each class
    assert ordered.shape == (SIZE, task.n_distinct)
    share = 2 / 17 if task.p_novel == 0 else 1 / 6
    n_pairs = task.n_distinct * (task.n_distinct - 1) / 2
    equal = sum((ordered == np.roll(ordered, k, axis=1)).sum() for k in range(1, task.n_distinct))
    found = stats.binomtest(int(equal) // 2, int(n_pairs * SIZE), share).pvalue
    assert found > 1e-3
    assert stats.binomtest(int(equal) // 2, int(n_pairs * SIZE), 1.2 * share).pvalue < 1e-6
    assert_even(np.bincount(labels[:, 0], minlength=6))


def test_known_classes_drawn_with_replacement_of_labels_are_those_of_successive_draws():
    """Against plain loops: draw a class, pass over it if it is taken, go on."""
    task = small(zipf_exponent=1.0, labels_drawn="replacement")
    classes = classes_of(task, task.sample(stream(3, DATA), SIZE))
    assert all(len(set(row)) == 4 for row in classes[:, :4])
    assert (classes[:, 4:] == classes[:, :4]).any(axis=1).all()
    rng = np.random.default_rng(0)
    frequency = zipf(18, 1.0)
    loops = np.zeros(18)
    for _ in range(SIZE):
        chosen = []
        while len(chosen) < 4:
            candidate = rng.choice(18, p=frequency)
            if candidate not in chosen:
                chosen.append(candidate)
        loops[chosen] += 1
    counts = np.bincount(classes[:, :4].ravel(), minlength=18)
    assert stats.chi2_contingency([counts, loops]).pvalue > 1e-3
    distinct = dataclasses.replace(task, labels_drawn="distinct")
    control = classes_of(distinct, distinct.sample(stream(3, DATA), SIZE))
    others = np.bincount(control[:, :4].ravel(), minlength=18)
    assert stats.chi2_contingency([others, loops]).pvalue < 1e-6
    target = p_value(np.bincount(classes[:, 4], minlength=18), frequency)
    assert target > 1e-3


def test_labels_drawn_with_replacement_may_be_fewer_than_the_pairs():
    task = small(n_labels=2, labels_drawn="replacement")
    for question in ("train", "icl", "icl_swapped"):
        batch = task.sample(stream(2, DATA), 50, question)
        assert (batch.labels == batch.answer[:, None]).any(axis=1).all()


@pytest.mark.parametrize(("n_classes", "exponent"), [(18, 0.0), (18, 1.0), (16, 1.0), (1, 0.5)])
def test_groups_are_octaves_of_rank_with_their_shares(n_classes, exponent):
    task = small(n_pairs=1, n_labels=2, n_classes=max(n_classes, 2), zipf_exponent=exponent)
    edges, frequency = task.group_edges.tolist(), zipf(task.n_classes, exponent)
    octave = np.zeros(task.n_classes) if exponent == 0 else np.log2(1 + np.arange(task.n_classes))
    for group, (first, end) in enumerate(pairwise(edges)):
        assert (octave[first:end].astype(int) == group).all()
        assert task.group_shares[group] == pytest.approx(frequency[first:end].sum())
    assert edges[0] == 0
    assert edges[-1] == task.n_classes


def test_targets_of_a_group_are_of_its_classes_and_absent_from_the_context():
    task = small(zipf_exponent=1.0)
    classes = classes_of(task, task.sample_group(stream(6, DATA), SIZE, 2))  # ranks 4 to 7
    assert not (classes[:, 4:] == classes[:, :4]).any()
    counts = np.bincount(classes[:, 4], minlength=18)
    assert counts[3:7].sum() == SIZE
    assert p_value(counts[3:7], zipf(18, 1.0)[3:7]) > 1e-3
    assert p_value(counts[3:7], np.ones(4)) < 1e-6


@pytest.mark.parametrize("copies", [1, 2, 4])
@pytest.mark.parametrize("p_novel", [0.0, 1.0])
def test_each_class_occurs_as_often_as_burstiness_says(copies, p_novel):
    task = small(burstiness=copies, p_novel=p_novel)
    batch = task.sample(stream(4, DATA), SIZE)
    for row, answer in zip(batch.labels, batch.answer, strict=True):
        labels, counts = np.unique(row, return_counts=True)
        assert len(labels) == 4 // copies
        assert set(counts) == {copies}
        assert answer in labels
    # without noise, items of one label are equal, and different from those of all others
    for items, row in zip(batch.items[:50], batch.labels[:50], strict=True):
        same_item = (items[:-1, None] == items[None, :-1]).all(axis=2)
        np.testing.assert_array_equal(same_item, row[:, None] == row)


@pytest.mark.parametrize("question", ["train", "icl", "icl_swapped"])
def test_match_is_in_every_slot_equally_often(question):
    batch = small().sample(stream(5, DATA), SIZE, question)
    slot = (batch.labels == batch.answer[:, None]).argmax(axis=1)
    assert_even(np.bincount(slot, minlength=4))


def test_target_is_another_item_of_a_class_in_the_context():
    task = small(noise=0.1, dim=63)
    for question in ("train", "icl", "icl_swapped"):
        batch = task.sample(stream(6, DATA), 500, question)
        closest = np.einsum("bnd,bd->bn", batch.items[:, :-1], batch.items[:, -1]).argmax(axis=1)
        assert np.mean(batch.labels[np.arange(500), closest] == batch.answer) > 0.98
        assert (batch.items[:, :-1] != batch.items[:, -1:]).any(axis=2).all()


def test_known_classes_carry_their_labels_and_novel_ones_any():
    task = small(n_pairs=3, n_labels=6)
    batch = task.sample(stream(7, DATA), SIZE)
    classes = classes_of(task, batch)
    np.testing.assert_array_equal(classes[:, :3] % 6, batch.labels)
    np.testing.assert_array_equal(classes[:, 3] % 6, batch.answer)
    novel = task.sample(stream(7, DATA), SIZE, "icl")
    assert (classes_of(task, novel) == -1).all()
    assert_even(np.bincount(novel.answer, minlength=6))


def test_swapped_labels_are_wrong_everywhere_and_consistent():
    task = small(burstiness=2)
    batch = task.sample(stream(8, DATA), SIZE, "icl_swapped")
    own = classes_of(task, batch) % 6
    shift = (batch.labels - own[:, :-1]) % 6
    assert (shift == shift[:, :1]).all()
    assert (shift > 0).all()
    np.testing.assert_array_equal(batch.answer, (own[:, -1] + shift[:, 0]) % 6)
    assert_even(np.bincount(shift[:, 0], minlength=6)[1:])


@pytest.mark.parametrize("exponent", [0.0, 1.5])
def test_in_weights_contexts_lack_the_class_of_the_target(exponent):
    task = small(zipf_exponent=exponent)
    batch = task.sample(stream(9, DATA), SIZE, "iwl")
    classes = classes_of(task, batch)
    assert (classes[:, :-1] != classes[:, -1:]).all()
    np.testing.assert_array_equal(classes[:, -1] % 6, batch.answer)
    # given the target's class, the others keep their proportions
    frequency = zipf(18, exponent)
    chosen = classes[classes[:, -1] == 0][:, :-1]
    counts = np.bincount(chosen.ravel(), minlength=18)
    assert p_value(counts[1:], frequency[1:]) > 1e-3


@pytest.mark.parametrize(
    ("n_classes", "n_labels", "exponent"),
    [(18, 6, 0.0), (18, 6, 1.5), (64, 32, 1.0), (100, 7, 0.3)],
)
def test_no_rounding_brings_the_excluded_class_back(n_classes, n_labels, exponent):
    """Uniform numbers on the edge of the excluded class, and the next ones on either side."""
    classes, own = _Classes(n_classes, n_labels, exponent), np.arange(n_classes)
    begin, end = (classes.edges[classes.place[own] + step] for step in (0, 1))
    points = [begin / (1 - (end - begin))]
    for direction in (0, 1):
        point = points[0]
        for _ in range(3):
            point = np.nextafter(point, direction)
            points.append(point)
    uniform = np.clip(points, 0, np.nextafter(1, 0)).T
    rng = SimpleNamespace(random=lambda shape: uniform)
    assert (classes.draw_other(rng, own, 7) != own[:, None]).all()


@pytest.mark.parametrize("noise", [0.0, 0.1, 1.0])
def test_items_overlap_with_their_centres_as_theory_says(noise):
    task = Task(n_pairs=4, n_labels=8, n_classes=16, noise=noise, p_novel=0.0)
    batch = task.sample(stream(10, DATA), SIZE)
    centres = task.centres[[np.flatnonzero(np.arange(16) % 8 == label) for label in range(8)]]
    # of the two classes that carry a label, the item's is the closer one
    candidates = centres[batch.labels]  # (size, N, 2, D)
    overlap = np.einsum("bnd,bncd->bnc", batch.items[:, :-1], candidates)
    overlap = (overlap / (candidates**2).sum(axis=3)).max(axis=2).ravel()
    expected = (1 + noise**2) ** -0.5
    error = overlap.std() / len(overlap) ** 0.5 + 1e-6
    assert abs(overlap.mean() - expected) < 4 * error
    assert abs(overlap.mean() - (1 + (noise + 0.1) ** 2) ** -0.5) > 4 * error  # control


@pytest.mark.parametrize("noise", [0.0, 0.1, 1.0])
def test_items_of_a_novel_class_overlap_as_theory_says(noise):
    task = Task(n_pairs=4, n_labels=8, noise=noise)
    batch = task.sample(stream(11, DATA), SIZE)
    overlap = np.einsum("bnd,bd->bn", batch.items[:, :-1], batch.items[:, -1])
    match = batch.labels == batch.answer[:, None]
    for values, expected in ((overlap[match], 1 / (1 + noise**2)), (overlap[~match], 0.0)):
        error = values.std() / len(values) ** 0.5
        assert abs(values.mean() - expected) < 4 * error
        assert abs(values.mean() - expected - 0.05) > 4 * error  # control
    norms = (batch.items**2).sum(axis=2).ravel()
    assert abs(norms.mean() - 1) < 4 * norms.std() / len(norms) ** 0.5


def test_shares_of_novel_and_bursty_sequences():
    task = small(p_novel=0.3, p_bursty=0.25)
    batch = task.sample(stream(12, DATA), SIZE)
    classes = classes_of(task, batch)
    novel = (classes == -1).any(axis=1)
    assert (novel == (classes == -1).all(axis=1)).all()
    bursty = np.array([len(set(row)) == 4 and row_target in row for row, row_target in
                       zip(batch.labels, batch.answer, strict=True)])  # fmt: skip
    assert stats.binomtest(int(novel.sum()), SIZE, 0.3).pvalue > 1e-3
    assert stats.binomtest(int(novel.sum()), SIZE, 0.35).pvalue < 1e-6  # control
    # an independent sequence looks bursty with probability (6 5 4 3 / 6^4) (4 / 6)
    known, by_chance = ~novel, (360 / 1296) * (4 / 6)
    for share, found in ((0.25, True), (0.35, False)):  # the second is the control
        looks = share + (1 - share) * by_chance
        test = stats.binomtest(int(bursty[known].sum()), int(known.sum()), looks)
        assert test.pvalue > 1e-3 if found else test.pvalue < 1e-6
    assert bursty[novel].all()


def test_fresh_classes_of_a_batch_are_as_many_as_asked_for():
    own = small(p_novel=1.0).sample(stream(13, DATA), 100)
    shared = small(p_novel=1.0, n_novel=7).sample(stream(13, DATA), 100)
    assert len(np.unique(own.items[:, :-1].reshape(-1, 8), axis=0)) == 400
    rows = shared.items[:, :-1].reshape(-1, 8)
    classes, inverse = np.unique(rows, axis=0, return_inverse=True)
    assert len(classes) == 7
    for number in range(7):  # each of them keeps its label throughout the batch
        assert len(set(shared.labels.ravel()[inverse.ravel() == number])) == 1


@pytest.mark.parametrize("n_novel", [4, 5, 6, 7, 18])
def test_shared_classes_carry_every_label_equally_often(n_novel):
    task = small(p_novel=1.0, n_novel=n_novel)
    rng = stream(18, DATA)
    batches = [task.sample(rng, 1) for _ in range(SIZE)]  # one sequence of each: independent
    labels = np.array([batch.labels[0] for batch in batches])
    for column in (*labels.T, np.array([batch.answer[0] for batch in batches])):
        assert p_value(np.bincount(column, minlength=6), np.ones(6)) > 1e-3
    # control: if class k carried the label k mod L
    fixed = np.bincount(np.arange(n_novel) % 6, minlength=6)
    if n_novel % 6:
        drawn = np.random.default_rng(0).choice(6, SIZE, p=fixed / n_novel)
        assert p_value(np.bincount(drawn, minlength=6), np.ones(6)) < 1e-6


@pytest.mark.parametrize("n_novel", [4, 6, 16])
def test_labels_of_shared_classes_are_balanced_in_a_batch(n_novel):
    batch = small(p_novel=1.0, n_novel=n_novel).sample(stream(19, DATA), SIZE)
    classes, number = np.unique(batch.items[:, :-1].reshape(-1, 8), axis=0, return_inverse=True)
    label_of = dict(zip(number.ravel(), batch.labels.ravel(), strict=True))
    carried = np.bincount(list(label_of.values()), minlength=6)
    assert len(classes) == n_novel
    assert carried.max() - carried.min() <= 1


def test_in_weights_contexts_hold_the_right_label_as_often_as_stated():
    task = Task(n_pairs=8, n_labels=32, n_classes=64, dim=2)
    batch = task.sample(stream(20, DATA), 4 * SIZE, "iwl")
    held = int((batch.labels == batch.answer[:, None]).any(axis=1).sum())
    stated = 1 - ((64 - 64 / 32) / (64 - 1)) ** 8
    assert stated == pytest.approx(0.12, abs=5e-3)
    assert stats.binomtest(held, 4 * SIZE, stated).pvalue > 1e-3
    assert stats.binomtest(held, 4 * SIZE, stated + 0.02).pvalue < 1e-6  # control


MIXED = Task(
    n_pairs=4, n_labels=8, n_classes=24, dim=7, window=13,
    burstiness=2, zipf_exponent=1.0, p_bursty=0.5, p_novel=0.5,
)  # fmt: skip
"""All kinds of sequences, and an odd number of normal numbers in a batch of odd size."""


@pytest.mark.parametrize(
    ("task", "expected", "items"),
    [
        (Task(), "bdd1c80eb826fea8", 12.550988937859731),
        (MIXED, "57c0c7224cc6004b", -13.964641466839652),
        (dataclasses.replace(MIXED, n_novel=10, noise=0.5), "5e8697f21bcf805d", -16.94111899874489),
        (dataclasses.replace(MIXED, burstiness=0, noise=0), "d88f78df7036a940", 30.825859917086117),
    ],
    ids=["default", "mixed", "shared", "independent"],
)
def test_batches_stay_what_they_are(task, expected, items):
    """Trainings are resumed, and compared with older ones: the streams must not move."""
    rng, digest, total = stream(0, DATA), hashlib.sha256(), 0.0
    for question in ("train", "icl", "icl_swapped", "iwl"):
        batch = task.sample(rng, 65, question)
        for column in (batch.labels, batch.answer, batch.start):
            digest.update(column.astype("<i8").tobytes())
        weights = np.cos(np.arange(batch.items.size)).reshape(batch.items.shape)
        total += (weights * batch.items).sum()
    digest.update(rng.bytes(32))  # and the generator goes on from where it did
    assert digest.hexdigest()[:16] == expected
    # the items follow from the same words; their last bits may depend on the processor
    assert total == pytest.approx(items, abs=1e-5)


def test_window_starts_anywhere_with_equal_probability():
    task = small(window=12)
    start = task.sample(stream(14, DATA), SIZE).start
    assert_even(np.bincount(start, minlength=4))
    assert (small(window=9).sample(stream(14, DATA), 50).start == 0).all()


def test_normals_are_normal():
    numbers = normals(stream(15, DATA), (2, 300_000), 2.0).astype(np.float64) / 2.0
    for half in numbers:
        assert stats.kstest(half, "norm").pvalue > 1e-3
    assert stats.kstest(1.02 * numbers[0], "norm").pvalue < 1e-3  # control
    assert stats.kstest(numbers[0] + 0.02, "norm").pvalue < 1e-3  # control
    # both numbers of a pair come from one word: they must not know each other
    for power in (1, 2):
        correlation = np.corrcoef(numbers[0] ** power, numbers[1] ** power)[0, 1]
        assert abs(correlation) < 4 / 300_000**0.5
    tail = np.mean(np.abs(numbers) > 4)
    assert 4 < tail * numbers.size < 4 * 6.334e-5 * numbers.size
    quadrant = np.bincount(2 * (numbers[0] > 0) + (numbers[1] > 0), minlength=4)
    assert p_value(quadrant, np.ones(4)) > 1e-3
    octant = np.bincount((np.abs(numbers[0]) > np.abs(numbers[1])).astype(int), minlength=2)
    assert p_value(octant, np.ones(2)) > 1e-3


def test_normals_come_from_any_generator():
    """A generator of 32-bit words, too, has to fill both halves of each word."""
    rng = np.random.Generator(np.random.MT19937(0))
    assert stats.kstest(normals(rng, (50_000,), 1.0), "norm").pvalue > 1e-3


def test_normals_of_known_bits():
    """Radius and direction, worked out in double precision."""
    words = np.random.default_rng(3).integers(0, 2**32, (1000, 2), dtype=np.uint32)
    both = np.zeros((2, 1000), np.float32)
    kernels.add_normals(words.reshape(-1), np.float32(1), *both)
    first, second = both.astype(np.float64)
    low, high = words.T
    square = -2 * np.log(((high >> 1) + 0.5) / 2**31)
    # the uniform number is rounded to 24 bits, the results again
    np.testing.assert_allclose(first**2 + second**2, square, 1e-6, 2**-22)
    radius = np.sqrt(square)
    angle = (low.astype(np.int32) >> 3) * (np.pi / 4 * 2.0**-28)
    angle = np.where(low & 1, np.pi / 2 - angle, angle)
    along, across = np.cos(angle), np.sin(angle)
    first_sign, second_sign = 1 - 2.0 * (low >> 1 & 1), 1 - 2.0 * (low >> 2 & 1)
    np.testing.assert_allclose(first, radius * along * first_sign, 0, 4e-6)
    np.testing.assert_allclose(second, radius * across * second_sign, 0, 4e-6)


@pytest.mark.parametrize("source", [np.random.SFC64, np.random.PCG64])
@pytest.mark.parametrize("count", [1, 2, 15, BLOCK, 2 * BLOCK, 2 * BLOCK + 1, 4 * BLOCK - 1])
def test_normals_fill_arrays_of_any_size(count, source):
    """Each word makes two numbers that lie half the array apart, however many are drawn at once."""
    half = (count + 1) // 2
    one, two, three = (np.random.Generator(source(16)) for _ in range(3))
    words = one.integers(0, 2**64 - 1, half, dtype=np.uint64, endpoint=True)
    expected = np.zeros((2, half), np.float32)
    kernels.add_normals(words.view(np.uint32), np.float32(0.5), *expected)
    found = normals(two, (count,), 0.5)
    np.testing.assert_array_equal(found, expected.reshape(-1)[:count])
    assert (found != 0).all()
    assert repr(one.bit_generator.state) == repr(two.bit_generator.state)
    added = add_normals(three, np.full(count, 8, np.float32), 0.5)
    np.testing.assert_allclose(added - 8, found, 0, 1e-6)


@pytest.mark.parametrize(
    ("changes", "argument"),
    [
        ({"n_pairs": 0}, "n_pairs"),
        ({"n_pairs": 2.5}, "n_pairs"),
        ({"seed": 2**53 + 1}, "seed"),
        ({"n_labels": 1}, "n_labels"),
        ({"n_labels": 4}, "n_labels"),
        ({"n_classes": 31}, "n_classes"),
        ({"dim": 0}, "dim"),
        ({"noise": -0.1}, "noise"),
        ({"noise": float("nan")}, "noise"),
        ({"noise": 1e200}, "noise"),
        ({"zipf_exponent": -1.0}, "zipf_exponent"),
        ({"zipf_exponent": 11.0}, "zipf_exponent"),
        ({"burstiness": 3}, "burstiness"),
        ({"burstiness": -1}, "burstiness"),
        ({"p_bursty": 1.1}, "p_bursty"),
        ({"p_novel": -0.1}, "p_novel"),
        ({"n_novel": 7}, "n_novel"),
        ({"labels_drawn": "independent"}, "labels_drawn"),
        ({"labels_drawn": "replacement", "n_pairs": 9, "n_labels": 2, "n_classes": 8}, "n_classes"),
        ({"window": 16}, "window"),
        ({"seed": -1}, "seed"),
        ({"n_classes": 10**12}, "n_classes"),
        ({"dim": 10**12}, "dim"),
        ({"n_pairs": 10**12, "burstiness": 10**12, "window": 10**13}, "n_pairs"),
    ],
)
def test_bad_settings_name_the_argument(changes, argument):
    with pytest.raises(ArgumentError) as caught:
        Task(**changes)
    assert caught.value.argument == argument
    assert "\n" not in str(caught.value)
    assert isinstance(caught.value, ValueError)


@pytest.mark.parametrize(
    ("arguments", "argument"),
    [
        ((0,), "size"),
        ((2.5,), "size"),
        ((-1, "iwl"), "size"),
        ((10**11,), "size"),
        ((5, "other"), "question"),
    ],
)
def test_bad_questions_name_the_argument(arguments, argument):
    with pytest.raises(ArgumentError) as caught:
        small().sample(stream(0, DATA), *arguments)
    assert caught.value.argument == argument


@settings(max_examples=40, deadline=None)
@given(
    copies=st.integers(0, 3),
    distinct=st.integers(1, 5),
    extra_labels=st.integers(1, 4),
    extra_classes=st.integers(0, 9),
    p_novel=st.sampled_from([0.0, 0.4, 1.0]),
    p_bursty=st.sampled_from([0.0, 0.5, 1.0]),
    exponent=st.sampled_from([0.0, 1.0, 10.0]),
    labels_drawn=st.sampled_from(["distinct", "replacement"]),
    size=st.integers(1, 9),
)
def test_any_mix_gives_sound_batches(
    copies, distinct, extra_labels, extra_classes, p_novel, p_bursty, exponent, labels_drawn, size
):
    n_pairs = max(copies, 1) * distinct
    n_labels = n_pairs + extra_labels
    task = Task(
        n_pairs=n_pairs, n_labels=n_labels, n_classes=n_labels + extra_classes, dim=5,
        zipf_exponent=exponent, burstiness=copies, p_bursty=p_bursty, p_novel=p_novel, window=40,
        labels_drawn=labels_drawn,
    )  # fmt: skip
    for question in ("train", "icl", "icl_swapped", "iwl"):
        batch = task.sample(stream(0, DATA), size, question)
        assert batch.items.shape == (size, n_pairs + 1, 5)
        assert np.isfinite(batch.items).all()
        for labels in (batch.labels, batch.answer):
            assert labels.min() >= 0
            assert labels.max() < n_labels
        assert batch.start.min() >= 0
        assert batch.start.max() + 2 * n_pairs + 1 <= 40


def test_too_much_memory_is_refused_with_what_it_would_take():
    with pytest.raises(ArgumentError, match=r"takes about [\d.e+]+ GB of memory, and this machine"):
        Task().sample(stream(0, DATA), 10**11)
    with pytest.raises(ArgumentError, match=r"n_classes=1000000000000: takes about 5\.68e\+05 GB"):
        Task(n_classes=10**12)


@pytest.mark.parametrize("task", [Task(), dataclasses.replace(MIXED, n_novel=4000)])
def test_memory_is_about_what_drawing_takes(task):
    task.sample(stream(0, DATA), 10)
    tracemalloc.start()
    task.sample(stream(0, DATA), 2000)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert 0.5 < peak / task.memory(2000) < 2


@pytest.mark.parametrize("question", ["train", "icl", "icl_swapped", "iwl"])
@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"p_novel": 1.0},
        {"p_novel": 0.0},
        {"p_novel": 0.0, "p_bursty": 0.0},
        {"burstiness": 0},
        {"n_novel": 9},
        {"p_novel": 1.0, "n_novel": 9},
    ],
    ids=str,
)
def test_parameters_without_effect_are_those_that_change_nothing(changes, question):
    task = dataclasses.replace(MIXED, **changes)

    def drawn(task):
        batch = task.sample(stream(21, DATA), 200, question)
        return [*map(np.ndarray.tolist, batch), task.label_vectors[batch.labels].tolist()]

    other = {
        "n_pairs": 2, "n_labels": 9, "n_classes": 25, "dim": 6, "noise": 0.2, "zipf_exponent": 2.0,
        "burstiness": 4, "p_bursty": 0.9, "p_novel": 0.25, "n_novel": 7,
        "labels_drawn": "replacement", "window": 14, "seed": 1,
    }  # fmt: skip
    before = drawn(task)
    same = [name for name, value in other.items()
            if drawn(dataclasses.replace(task, **{name: value})) == before]  # fmt: skip
    assert task.without_effect(question) == same


def test_parameters_without_effect_on_several_questions():
    assert Task().without_effect("train") == ["n_classes", "zipf_exponent", "p_bursty"]
    assert Task().without_effect("icl", "iwl") == ["p_bursty", "p_novel", "n_novel"]
    assert Task().without_effect() == ["p_bursty"]
    assert Task(p_novel=0.5).without_effect() == []


def test_tasks_are_values():
    assert Task() == Task()
    assert dataclasses.replace(Task(), p_novel=0.0) != Task()
    assert Task(**Task(n_pairs=4).settings()) == Task(n_pairs=4)


def test_tasks_survive_copies_and_other_processes():
    task = dataclasses.replace(MIXED, seed=3)
    batch = task.sample(stream(0, DATA), 20)  # which makes centres and frequencies
    assert len(pickle.dumps(task)) < 500  # and these are not taken along
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
        far = pool.submit(copy.copy, task).result()
        far_batch = pool.submit(task.sample, stream(0, DATA), 20).result()
    assert far_batch == batch
    for other in (copy.copy(task), copy.deepcopy(task), pickle.loads(pickle.dumps(task)), far):
        assert other == task
        assert hash(other) == hash(task)
        assert other.sample(stream(0, DATA), 20) == batch


def test_batches_are_equal_if_all_their_arrays_are():
    batch, other = (small().sample(stream(0, DATA), 5) for _ in range(2))
    assert batch == other
    assert not operator.ne(batch, other)
    assert batch == copy.deepcopy(batch) == pickle.loads(pickle.dumps(batch))
    for name, column in batch._asdict().items():
        changed = column.copy()
        changed.flat[-1] += 1
        assert operator.ne(batch, batch._replace(**{name: changed}))
        assert not operator.eq(batch, batch._replace(**{name: changed}))
    assert batch != tuple(batch)


def test_reprs_are_short_and_say_what_matters():
    assert repr(Task()) == "Task(n_pairs=8, n_labels=32)"
    assert repr(MIXED).startswith("Task(n_pairs=4, n_labels=8, n_classes=24, dim=7, zipf_exponent=")
    for task in (Task(), MIXED, dataclasses.replace(MIXED, n_novel=5, seed=2)):
        assert eval(repr(task)) == task
    batch = small().sample(stream(0, DATA), 5)
    assert repr(batch) == "Batch(items: (5, 5, 8), labels: (5, 4), answer: (5,), start: (5,))"
