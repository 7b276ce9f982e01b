"""The named valleys: their losses far out, and what ends in them."""

import math
import subprocess
import sys

import numpy as np
import pytest

from cliff import NestedLogit, integrate
from cliff.valleys import UNDECIDED, VALLEY_NAMES, VALLEYS, identify, valleys

FAR = {
    "induction": (40.0, 60.0, 1e3),
    "shunned-match": (40.0, -60.0, -1e6),
    "early-labels": (-60.0, -60.0, 1e6),
    "early-labels-inverted": (-60.0, 3.0, -1e7),
    "plateau": (0.0, 0.0, 1e4),
}


@pytest.mark.parametrize("positions", ["exact", "mean"])
@pytest.mark.parametrize(("n_pairs", "n_labels"), [(8, 8), (8, 32), (5, 6), (20, 20)])
def test_losses_are_the_limits_of_the_landscape(positions, n_pairs, n_labels):
    model = NestedLogit(n_pairs, n_labels, positions)
    for valley in valleys(model):
        if valley.name in FAR:
            limit = valley.loss(n_pairs, n_labels)
            assert float(model.loss(FAR[valley.name])) == pytest.approx(limit, abs=1e-9)
            p_correct = float(model.measures(FAR[valley.name])["p_correct"])
            assert p_correct == pytest.approx(valley.p_correct(n_pairs, n_labels), abs=1e-9)


def test_sink_loss_is_the_least_along_its_family():
    sink = next(valley for valley in VALLEYS if valley.name == "sink")
    for n_pairs, n_labels in ((6, 12), (8, 32)):
        model = NestedLogit(n_pairs, n_labels)
        scan = [
            float(model.loss([-60.0, 3000.0, -math.exp(kappa * 3000.0)]))
            for kappa in np.linspace(0.02, 1.0 / n_pairs, 200)
        ]
        assert min(scan) == pytest.approx(sink.loss(n_pairs, n_labels), abs=1e-4)


def test_which_exist():
    names = [v.name for v in valleys(NestedLogit(8, 32))]
    assert names == ["induction", "shunned-match", "early-labels", "sink", "plateau"]
    names = [v.name for v in valleys(NestedLogit(8, 8))]
    assert names == [
        "induction", "shunned-match", "early-labels", "early-labels-inverted", "plateau",
    ]  # fmt: skip
    assert [v.name for v in valleys(NestedLogit(8, 32, "mean"))] == [
        "induction", "shunned-match", "plateau",
    ]  # fmt: skip
    for n_pairs in (1, 2):  # too few slots for a sink that gains on a guess among all labels
        assert "sink" not in [v.name for v in valleys(NestedLogit(n_pairs, 5))]


@pytest.mark.parametrize(
    ("start", "n_labels", "name"),
    [
        ((0.0, 0.0, 0.0), 32, "induction"),
        ((0.0, 0.1, 0.1), 8, "induction"),
        ((0.0, -0.1, -0.1), 8, "shunned-match"),
        ((-2.0, -2.0, 3.0), 32, "early-labels"),
        ((-2.0, 2.0, -3.0), 8, "early-labels-inverted"),
    ],
)
def test_flows_end_in_the_valley_that_they_head_for(start, n_labels, name):
    model = NestedLogit(8, n_labels)
    path = integrate(model, start, 1e6, method="lsoda")
    label = int(identify(model, path.theta[-1], path.loss[-1]))
    assert label != UNDECIDED
    assert VALLEYS[label].name == name


def test_identify_leaves_the_plateau_and_strange_ends_undecided():
    model = NestedLogit(8, 32)
    theta = np.array([[0.0, 1.0, 90.0], [5.0, 8.0, 25.0], [5.0, 8.0, 25.0]])
    labels = identify(model, theta, [math.log(8), 1e-4, 0.2])
    assert labels.tolist() == [UNDECIDED, 0, UNDECIDED]


@pytest.mark.parametrize("positions", ["exact", "mean"])
@pytest.mark.parametrize("tolerance", [0.05, 0.2])
@pytest.mark.parametrize("size", [(1, 4), (2, 5), (8, 8), (8, 9), (8, 32), (8, 320), (64, 256)])
def test_what_has_not_moved_is_in_no_valley(size, tolerance, positions):
    """Whatever its signs, and however close a valley's loss is to log L."""
    model = NestedLogit(*size, positions)
    theta = 1e-3 * np.array([[0.0, i, j] for i in (-1, 1) for j in (-1, 1)])
    labels = identify(model, theta, model.loss(theta), tolerance)
    assert labels.tolist() == [UNDECIDED] * 4


def test_a_loss_without_its_accuracy_is_no_evidence():
    """A point with the sink's loss that does not rule out any label, and one in the sink."""
    model = NestedLogit(8, 9)
    sink = VALLEY_NAMES.index("sink")
    inside = np.array([-13.06, 46.6, -151.4])  # where random starts are at t = 1e6
    theta = np.stack([inside, inside / 100.0])
    assert identify(model, theta, [model.loss(inside)] * 2).tolist() == [sink, UNDECIDED]


def test_the_sink_is_reached_slowly():
    model = NestedLogit(8, 32)
    start = (-21.26, 16.9, -19.4)
    labels = []
    for t in (1e4, 1e6, 1e8):
        path = integrate(model, start, t, method="lsoda")
        labels.append(int(identify(model, path.theta[-1], path.loss[-1])))
    assert labels[:2] == [UNDECIDED] * 2
    assert VALLEYS[labels[2]].name == "sink"


def test_names_are_unique_and_data_needs_no_sympy():
    assert len({valley.name for valley in VALLEYS}) == len(VALLEYS)
    code = "import sys, cliff.valleys, cliff.theory; sys.exit('sympy' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], timeout=60).returncode == 0
