"""Pictures of training runs show the numbers of the run, and nothing else."""

import numpy as np
import pytest

from cliff import plots
from cliff.metrics import FlowMetric
from cliff.network.runs import side_by_side
from cliff.network.training import train
from cliff.network.transformer import Transformer
from cliff.plots import (
    ACCURACY_STYLES,
    MEASURE_STYLES,
    attention,
    basin_map,
    loss_and_accuracies,
    new_figure,
    phase_line,
    training_figure,
    training_measures,
)
from cliff.sweeps import sweep
from cliff.task import Task
from cliff.valleys import VALLEY_NAMES

TASK = Task(n_pairs=2, n_labels=4, n_classes=8, dim=5, window=9)


@pytest.fixture(scope="module")
def runs():
    each = [
        train(Transformer(TASK, seed, width=6), TASK, n, 0.1, 8, eval_every=5, eval_size=16)
        for seed, n in ((0, 20), (1, 10))
    ]
    return side_by_side(each, [0, 1])


@pytest.fixture
def ax():
    return new_figure(4, 3)[1][0, 0]


@pytest.mark.parametrize(
    ("draw", "names"),
    [(loss_and_accuracies, ("loss", *ACCURACY_STYLES)), (training_measures, MEASURE_STYLES)],
)
def test_curves(runs, ax, draw, names):
    lines = draw(runs, ax)
    assert len(lines) == 2 * len(names)
    for name, pair in zip(names, zip(lines[::2], lines[1::2], strict=True), strict=True):
        for line, values in zip(pair, runs[name].values, strict=True):
            np.testing.assert_array_equal(line.get_ydata(), values)
            np.testing.assert_array_equal(line.get_xdata(), runs.t)
    labels = [text.get_text() for text in ax.get_legend().get_texts()]
    assert len(labels) == len(names) == len(set(labels))
    assert ax.get_xlabel()
    assert ax.get_ylabel()


def test_one_run_is_drawn_as_one_curve(runs, ax):
    assert len(training_measures(runs.isel(seed=0), ax)) == len(MEASURE_STYLES)


@pytest.mark.parametrize("layer", ["attention1", "attention2"])
def test_attention(runs, ax, layer):
    one = runs.isel(seed=1)
    image = attention(one, layer, "after", ax)
    np.testing.assert_array_equal(image.get_array(), one[layer].sel(moment="after"))
    assert image.get_clim() == (0, 1)
    assert "after" in ax.get_title()


def test_whole_figure(runs):
    assert len(training_figure(runs).axes) == 8  # six panels, the accuracies' axis, the colours


def test_a_basin_map_leaves_out_what_was_not_computed(ax):
    axes = {"labels": np.array([4, 16]), "pairs": np.array([3, 8])}
    grid = sweep(FlowMetric("basin", t_end=1e4), axes, vectorized=True)
    mesh = basin_map(grid, ax)
    assert mesh.get_array().mask.tolist() == [[False, True], [False, False]]
    legend = [text.get_text() for text in ax.get_legend().get_texts()]
    assert legend == ["induction", "fewer labels than pairs"]


def test_a_line_of_basins_names_them(ax):
    grid = sweep(FlowMetric("basin", t_end=1e4), {"pairs": np.array([8, 33])}, vectorized=True)
    (line,) = phase_line(grid, ax)
    np.testing.assert_array_equal(line.get_ydata(), [0.0, np.nan])
    assert [text.get_text() for text in ax.get_yticklabels()] == ["undecided", *VALLEY_NAMES]


def test_predictions_of_networks_that_never_fall_leave_an_empty_panel(tmp_path):
    figure, axes = plots.new_figure(4.0, 4.0)
    nothing = np.array([np.nan, np.nan])
    plots.predicted_times(nothing, np.array([1.0, 2.0]), np.array([2, 4]), axes[0, 0])
    assert plots.save(figure, tmp_path / "empty.png").read_bytes().startswith(b"\x89PNG")
