"""Pictures show the numbers of a result where they belong, and legends what is on them."""

import json
import os
import subprocess
import sys

import matplotlib as mpl
import numpy as np
import pytest
import sympy as sp
import xarray as xr
from matplotlib.colors import to_hex, to_rgba
from matplotlib.text import Text

import cliff
from cliff import NestedLogit, Task, Transformer, integrate, integrate_ensemble, plots, sweep, train
from cliff.analysis import basin_paths, landscape_slice, slice_around
from cliff.checks import ArgumentError
from cliff.cli import _run
from cliff.comparison import compare
from cliff.metrics import FlowMetric
from cliff.mobility_law import MobilityLaw
from cliff.network.runs import side_by_side
from cliff.plots import ACCURACY_STYLES, LOGIT_COLOURS, MEASURE_STYLES, VALLEY_COLOURS
from cliff.plots.phase import FAILURE_COLOURS, STATE_COLOURS
from cliff.store import save
from cliff.valleys import VALLEY_NAMES, basins, name_of

TASK = Task(n_pairs=2, n_labels=4, n_classes=8, dim=5, window=9)


@pytest.fixture(scope="module")
def runs():
    each = [
        train(Transformer(TASK, seed, width=6), TASK, n, 0.1, 8, eval_every=5, eval_size=16)
        for seed, n in ((0, 20), (1, 10))
    ]
    return side_by_side(each, [0, 1])


@pytest.fixture(scope="module")
def trajectory():
    return integrate(NestedLogit(8, 32), [0.01, 0.02, 0.03], 200.0)


@pytest.fixture(scope="module")
def map_of_valleys():
    side = np.linspace(-4.0, 4.0, 7)
    return sweep(
        FlowMetric("basin", NestedLogit(8, 8), t_end=1e5),
        {"xi": side, "alpha": side[1:]},
        vectorized=True,
    )


@pytest.fixture(scope="module")
def comparison():
    rows = LAW.flow(4, 16, 400.0).sampled(np.linspace(0, 400, 41))
    measures = rows.measures()
    run = xr.Dataset(
        {
            **{name: ("step", rows.theta[:, i]) for i, name in enumerate(LOGIT_COLOURS)},
            **{name: ("step", measures[name]) for name in ("ila1", "tila2", "tla2", "cla")},
            "t": ("step", rows.t),
            "loss": ("step", 1.01 * rows.loss),
            "xi_chord": ("step", 1.1 * rows.theta[:, 2]),
            "xi_residual": ("step", np.full(41, 0.1)),
        },
        coords={"step": np.arange(41), "seed": 3},
        attrs={
            "parameters": json.dumps(
                {"task": {"n_pairs": 4, "n_labels": 16}, "model": "transformer", "seed": 3}
            )
        },
    )
    return compare(run, [run, run.assign(t=1.3 * run.t)], fit=False)


LAW = MobilityLaw(0.05, 0.25, 0.6, 0.8, 20.0, 0.6)


@pytest.fixture
def ax():
    return plots.new_figure(4, 3)[1][0, 0]


def legend(ax):
    return [text.get_text() for text in ax.get_legend().get_texts()]


def by_label(artists):
    return {artist.get_label(): artist for artist in artists}


def colours(ax):
    """What a map of cells shows: the colour of every cell, the last mesh on top."""
    shown = None
    for mesh in ax.collections:
        if not hasattr(mesh, "get_coordinates"):
            continue
        mesh.update_scalarmappable()
        values = mesh.get_array()
        rgba = mesh.to_rgba(values, alpha=1.0)
        shown = np.ones_like(rgba) * np.nan if shown is None else shown
        seen = ~np.ma.getmaskarray(values)
        shown[seen] = rgba[seen]
    return shown


# ---------------------------------------------------------------------------------- trajectories


def test_loss_and_its_levels(trajectory, ax):
    drawn = by_label(plots.loss(trajectory, ax))
    np.testing.assert_array_equal(drawn["loss"].get_xdata(), trajectory.t)
    np.testing.assert_array_equal(drawn["loss"].get_ydata(), trajectory.loss)
    (start,) = (line for name, line in drawn.items() if name.startswith("start"))
    (plateau,) = (line for name, line in drawn.items() if name.startswith("plateau"))
    assert set(start.get_ydata()) == {np.log(32)}
    assert set(plateau.get_ydata()) == {np.log(8)}
    begin, middle, end = trajectory.crossings
    assert begin < middle < end
    (line,) = (line for name, line in drawn.items() if name.startswith("transition"))
    assert set(line.get_xdata()) == {middle}
    band = drawn[r"0.9 to 0.1 $\log N$"].get_extents().transformed(ax.transData.inverted())
    assert (band.x0, band.x1) == pytest.approx((begin, end))
    (dot,) = [one for one in ax.lines if one.get_marker() == "o"]
    assert dot.get_xydata().tolist() == [[middle, np.log(8) / 2]]
    assert legend(ax) == [name for name in drawn if not name.startswith("_")]


def test_levels_that_do_not_exist_are_not_in_the_legend(ax):
    plots.loss(integrate(NestedLogit(1, 4), [0.0, 0.0, 0.0], 5.0), ax)
    assert [name.split()[0] for name in legend(ax)] == ["loss", "start"]


def test_logits_and_measures_against_time(trajectory):
    _, axes = plots.new_figure(6, 3, 1, 2)
    for name, line in zip(
        trajectory.model.parameter_names, plots.logits(trajectory, axes[0, 0]), strict=True
    ):
        column = trajectory.model.parameter_names.index(name)
        np.testing.assert_array_equal(line.get_ydata(), trajectory.theta[:, column])
        assert line.get_color() == LOGIT_COLOURS[name]
        assert plots.ROLES[name] in line.get_label()
    measures = trajectory.measures()
    measures = {name: measures[name] for name in trajectory.model.measure_names}
    lines = plots.progress_measures(trajectory.t, measures, axes[0, 1])
    for name, line in zip(MEASURE_STYLES, lines, strict=True):
        np.testing.assert_array_equal(line.get_ydata(), measures[name])
        np.testing.assert_array_equal(line.get_xdata(), trajectory.t)
        assert line.get_label().startswith(name)
    assert "accuracy" not in MEASURE_STYLES  # on the landscape a share of slots, no probability


def test_a_slice_lies_the_right_way_round(ax):
    model = NestedLogit(8, 32)
    part = landscape_slice(model, ("alpha", "xi"), [0.0, 1, 2], [-1.0, 3], {"beta1": 2.0})
    path = np.array([[0.1, 0.2], [1.5, 2.5]])
    mesh = plots.landscape_slice(part, ax, path)
    corners = np.asarray(mesh.get_coordinates()).reshape(-1, 2)
    theta = np.column_stack([np.full(len(corners), 2.0), corners])
    np.testing.assert_allclose(np.asarray(mesh.get_array()).ravel(), model.loss(theta), rtol=1e-12)
    assert "match" in ax.get_xlabel()
    assert "classifier" in ax.get_ylabel()
    assert r"$\beta_1$ = 2.00" in ax.get_title()
    line, first, last = ax.lines
    np.testing.assert_array_equal(line.get_xydata(), path)
    assert first.get_xydata().tolist() == [[0.1, 0.2]]
    assert last.get_xydata().tolist() == [[1.5, 2.5]]
    assert legend(ax) == ["start", "end"]


def test_contours_can_be_seen_on_their_colours(trajectory, ax):
    mesh = plots.landscape_slice(slice_around(trajectory), ax)
    (lines,) = [one for one in ax.collections if hasattr(one, "levels")]
    for level, colour in zip(lines.levels, lines.get_edgecolor(), strict=True):
        behind = np.array(mesh.cmap(mesh.norm(level))[:3])
        assert abs(colour[:3].mean() - behind.mean()) > 0.4, level


def test_the_figure_of_a_flow_puts_everything_in_its_panel(trajectory):
    figure = plots.draw(trajectory)
    loss, logits, measures, plane = figure.axes[:4]
    assert loss.get_ylabel() == "loss (nats)"
    smooth = by_label(loss.lines)["loss"]
    np.testing.assert_allclose(
        smooth.get_ydata(), trajectory.model.loss(trajectory.path(smooth.get_xdata())), rtol=1e-12
    )
    # where the loss falls fast, points stand close: no step is longer than a fortieth of the fall
    assert np.abs(np.diff(smooth.get_ydata())).max() < np.log(32) / 40
    assert len(logits.lines) == 3
    assert len(measures.lines) == len(MEASURE_STYLES)
    np.testing.assert_allclose(
        plane.lines[0].get_xydata(), trajectory.path(smooth.get_xdata())[:, :2], rtol=1e-12
    )
    part = slice_around(trajectory)
    np.testing.assert_allclose(np.asarray(plane.collections[0].get_array()), part.loss)
    title = figure.get_suptitle()
    assert "$N$ = 8, $L$ = 32" in title
    assert "(0.01, 0.02, 0.03)" in title
    assert "stopped" not in title


def test_a_flow_that_stopped_early_says_so():
    short = integrate(NestedLogit(8, 32), [0.01, 0.01, 0.01], 200.0, max_steps=5)
    assert ": step limit" in plots.draw(short).get_suptitle()


def test_an_ensemble_is_drawn_as_basins():
    starts = [[0.01, alpha, xi] for alpha in (-3.0, 2.5) for xi in (-2.0, 2.0, 3.0)]
    ensemble = integrate_ensemble(NestedLogit(8, 8), starts, 1e4)
    labels = basins(ensemble)
    assert len(set(labels.tolist())) > 2
    figure = plots.draw(ensemble)
    (points,) = figure.axes[0].collections
    np.testing.assert_array_equal(points.get_offsets(), np.array(starts)[:, 1:])
    assert [to_hex(colour).upper() for colour in points.get_facecolor()] == [
        VALLEY_COLOURS[label].upper() for label in labels.tolist()
    ]
    assert legend(figure.axes[0]) == [name_of(label) for label in sorted(set(labels.tolist()))]
    assert "match" in figure.axes[0].get_xlabel()


# -------------------------------------------------------------------------------- phase diagrams


def test_a_phase_map_has_its_values_in_their_cells(ax):
    axes = {"labels": np.array([4, 16, 64]), "pairs": np.array([2, 8])}
    grid = sweep(FlowMetric("t_transition"), axes, vectorized=True)
    mesh = plots.phase_map(grid, ax)
    np.testing.assert_array_equal(mesh.get_array().filled(np.nan), grid.t_transition.values)
    corners = mesh.get_coordinates()
    for row, labels in enumerate((4, 16, 64)):
        for column, pairs in enumerate((2, 8)):
            low, high = corners[row, column], corners[row + 1, column + 1]
            assert low[0] < pairs < high[0]
            assert low[1] < labels < high[1]
    assert "$N$" in ax.get_xlabel()
    assert "$L$" in ax.get_ylabel()
    assert legend(ax) == ["fewer labels than pairs", "wall $L$ = $N$"]
    np.testing.assert_array_equal(ax.lines[0].get_xdata(), ax.lines[0].get_ydata())


def cells_of_all_kinds():
    """A sweep with cells that are done, never reached, impossible, stopped early and missing."""
    axes = {"labels": np.array([2, 8, 32]), "pairs": np.array([4, 8])}
    grid = sweep(FlowMetric("t_transition", t_end=200.0), axes, vectorized=True)
    outcome, value = grid.outcome.values.copy(), grid.t_transition.values.copy()
    outcome[1, 0], value[1, 0] = 0, np.nan
    outcome[2, 0], value[2, 0] = 3, 17.0
    value[1, 1] = np.nan
    names = ["missing", "done", "fewer labels than pairs", "step limit"]
    return grid.assign(
        outcome=grid.outcome.copy(data=outcome), t_transition=grid.t_transition.copy(data=value)
    ).assign_attrs(outcomes=json.dumps(names))


def test_cells_without_a_value_have_a_colour_and_a_name_of_their_own(ax):
    mesh = plots.phase_map(cells_of_all_kinds(), ax)
    shown = [[to_hex(cell).upper() for cell in row] for row in colours(ax)]
    outside = {"fewer labels than pairs": plots.OUTSIDE_COLOUR}
    kinds = {**STATE_COLOURS, **outside, "step limit": FAILURE_COLOURS[0]}
    expected = {
        (0, 0): "fewer labels than pairs",
        (0, 1): "fewer labels than pairs",
        (1, 0): "not computed",
        (1, 1): "never reached",
        (2, 0): "step limit",
    }
    for (row, column), kind in expected.items():
        assert shown[row][column] == to_hex(kinds[kind]).upper(), kind
    assert len({to_hex(colour) for colour in kinds.values()}) == len(kinds)
    assert shown[2][1] == to_hex(mesh.to_rgba(mesh.get_array()[2, 1])).upper()
    assert mesh.get_array().compressed().tolist() == [
        cells_of_all_kinds().t_transition.values[2, 1]
    ]
    assert sorted(legend(ax)) == sorted([*set(expected.values()), "wall $L$ = $N$"])
    patches = dict(zip(legend(ax), ax.get_legend().get_patches(), strict=False))
    for kind in set(expected.values()):
        assert to_hex(patches[kind].get_facecolor()) == to_hex(kinds[kind]), kind


def test_statuses_in_old_files_are_read(ax):
    axes = {"labels": np.array([16, 32]), "pairs": np.array([4, 8])}
    grid = sweep(FlowMetric("loss", t_end=50.0), axes, vectorized=True)
    status = np.array([[1, 1], [2, 1]])  # done, but for a step limit
    mesh = plots.phase_map(grid.assign(status=(grid.loss.dims, status)), ax)
    assert mesh.get_array().mask.tolist() == [[False, False], [True, False]]
    assert "step limit" in legend(ax)
    assert "never reached" not in legend(ax)


def test_a_map_over_labels_per_pair(ax):
    axes = {"labels": np.array([2, 4, 8, 16, 32, 64]), "pairs": np.array([2, 4, 8, 16])}
    grid = sweep(FlowMetric("t_transition", t_end=2e4), axes, vectorized=True)
    mesh = plots.phase_map(grid, ax, ratio="labels_per_pair", contours=True)
    corners = mesh.get_coordinates()
    for row, labels in enumerate(axes["labels"]):
        for column, pairs in enumerate(axes["pairs"]):
            cell = np.asarray(corners[row : row + 2, column : column + 2])
            middle = np.exp(np.log(cell).mean(axis=(0, 1)))
            # cells of a logarithmic axis have their value in the middle, up to rounding of edges
            assert middle == pytest.approx([pairs, labels / pairs], rel=0.25)
    np.testing.assert_array_equal(mesh.get_array().filled(np.nan), grid.t_transition.values)
    assert "$L/N$" in ax.get_ylabel()
    assert (ax.get_xscale(), ax.get_yscale()) == ("log", "log")
    assert legend(ax) == ["not computed ($L$ > 64)", "wall $L$ = $N$"]
    assert "fewer labels than pairs" not in legend(ax)
    (lines,) = [one for one in ax.collections if hasattr(one, "levels")]
    assert lines.levels.tolist() == [100.0, 300.0, 1000.0]
    # the contour of 100 crosses L/N = 4 between N = 8 and 16, whose times are on either side of it
    times = grid.t_transition.sel(labels=32, pairs=8), grid.t_transition.sel(labels=64, pairs=16)
    assert float(times[0]) < 100 < float(times[1])
    vertices = lines.get_paths()[0].vertices
    crossing = vertices[np.abs(vertices[:, 1] - 4) < 1, 0]
    assert len(crossing)
    assert ((crossing > 7) & (crossing < 16)).all()


def test_a_basin_map_colours_every_cell_by_its_valley(map_of_valleys, ax):
    paths, points = basin_paths(map_of_valleys)
    plots.basin_map(map_of_valleys, ax, paths, points)
    labels = map_of_valleys.basin.values
    assert len(np.unique(labels)) >= 4
    for cell, label in zip(colours(ax).reshape(-1, 4), labels.ravel().tolist(), strict=True):
        assert to_hex(cell).upper() == VALLEY_COLOURS[label].upper()
    names = ["undecided", *VALLEY_NAMES]
    expected = [names[label + 1] for label in np.unique(labels).tolist()]
    assert legend(ax) == [*expected, "path from a start", "saddle"]
    for label, patch in zip(np.unique(labels).tolist(), ax.get_legend().get_patches(), strict=True):
        assert to_hex(patch.get_facecolor()).upper() == VALLEY_COLOURS[label].upper()
    lines = [line for line in ax.lines if len(line.get_xdata()) > 1]
    for line, path in zip(lines, paths, strict=True):
        np.testing.assert_array_equal(line.get_xydata(), path)
    assert "match" in ax.get_xlabel()
    assert "classifier" in ax.get_ylabel()


def test_a_basin_map_leaves_out_what_was_not_computed(ax):
    axes = {"labels": np.array([4, 16]), "pairs": np.array([3, 8])}
    grid = sweep(FlowMetric("basin", t_end=1e4), axes, vectorized=True)
    grid.outcome.values[1, 1] = 0
    mesh = plots.basin_map(grid, ax)
    assert mesh.get_array().mask.tolist() == [[False, True], [False, True]]
    assert legend(ax) == ["induction", "fewer labels than pairs", "not computed"]


def test_a_line_of_basins_names_them(ax):
    grid = sweep(FlowMetric("basin", t_end=1e4), {"pairs": np.array([8, 33])}, vectorized=True)
    (line,) = plots.phase_line(grid, ax)
    np.testing.assert_array_equal(line.get_ydata(), [0.0, np.nan])
    assert [text.get_text() for text in ax.get_yticklabels()] == ["undecided", *VALLEY_NAMES]
    (mark,) = [one for one in ax.lines if one is not line]
    assert mark.get_xdata().tolist() == [33]
    assert legend(ax) == ["fewer labels than pairs"]


def test_a_phase_figure_names_what_is_held_fixed(map_of_valleys):
    title = plots.draw(map_of_valleys).axes[0].get_title()
    assert "$N$ = 8, $L$ = 8" in title
    assert r"start $\beta_1$ = 0.01" in title
    assert r"\alpha" not in title
    other = sweep(
        FlowMetric("width", mobility=(1.0, 3.0, 1.0)), {"labels": np.array([16, 32])},
        vectorized=True,
    )  # fmt: skip
    title = plots.draw(other).axes[0].get_title()
    assert r"mobility of $\alpha$ 3" in title
    assert "$L$" not in title


# --------------------------------------------------------------------------------- training runs


@pytest.mark.parametrize(
    ("draw", "names"),
    [
        (plots.loss_and_accuracies, ("loss", *ACCURACY_STYLES)),
        (plots.training_measures, tuple(MEASURE_STYLES)),
    ],
)
def test_curves(runs, ax, draw, names):
    lines = draw(runs, ax)
    if "p_correct" not in runs:
        names = tuple("accuracy" if name == "p_correct" else name for name in names)
    assert len(lines) == 2 * len(names)
    for name, pair in zip(names, zip(lines[::2], lines[1::2], strict=True), strict=True):
        for line, values in zip(pair, runs[name].values, strict=True):
            np.testing.assert_array_equal(line.get_ydata(), values)
            np.testing.assert_array_equal(line.get_xdata(), runs.t)
    assert [text.split(":")[0] for text in legend(ax)] == list(names)
    assert ax.get_xlabel()
    assert ax.get_ylabel()


def test_measures_hold_the_probability_where_it_is_recorded(runs, ax):
    new = runs.assign(p_correct=0.5 * runs.accuracy).drop_vars("accuracy")
    lines = plots.training_measures(new, ax)
    np.testing.assert_array_equal(lines[-1].get_ydata(), new.p_correct.values[-1])
    old = runs.drop_vars("p_correct", errors="ignore")
    lines = plots.training_measures(old, ax)
    np.testing.assert_array_equal(lines[-1].get_ydata(), old.accuracy.values[-1])


def test_coinciding_accuracies_are_both_seen(runs, ax):
    lines = by_label(plots.loss_and_accuracies(runs, ax))
    below, above = (
        next(line for label, line in lines.items() if label.startswith(name + ":"))
        for name in ("icl", "icl_swapped")
    )
    assert below.get_linewidth() > 1.9 * above.get_linewidth()
    assert below.get_zorder() <= above.get_zorder()
    assert above.is_dashed()
    assert not below.is_dashed()
    assert to_rgba(below.get_color()) != to_rgba(above.get_color())


def test_one_run_is_drawn_as_one_curve(runs, ax):
    assert len(plots.training_measures(runs.isel(seed=0), ax)) == len(MEASURE_STYLES)


@pytest.mark.parametrize("layer", ["attention1", "attention2"])
def test_attention(runs, ax, layer):
    one = runs.isel(seed=1)
    image = plots.attention(one, layer, "after", ax)
    values = one[layer].sel(moment="after").values
    np.testing.assert_array_equal(image.get_array().data, values)
    hidden = np.triu(np.ones(values.shape, bool), 1) if layer == "attention1" else values < 0
    np.testing.assert_array_equal(np.ma.getmaskarray(image.get_array()), hidden)
    assert bool(ax.texts) == (layer == "attention1")
    blank = to_rgba(ax.get_facecolor())
    assert np.abs(np.array(image.cmap(np.linspace(0, 1, 9))) - blank).max(axis=1).min() > 0.1
    assert image.get_clim() == (0, 1)
    assert "after" in ax.get_title()


def test_whole_figure_of_a_run(runs):
    figure = plots.draw(runs)
    assert len(figure.axes) == 8  # six panels, the accuracies' axis, the colours
    moments = [ax.get_title() for ax in figure.axes[2:6]]
    assert [title.split(": ")[1] for title in moments] == ["before", "after"] * 2
    for ax, layer, moment in zip(
        figure.axes[2:6], ("attention1", "attention1", "attention2", "attention2"),
        ("before", "after") * 2, strict=True,
    ):  # fmt: skip
        np.testing.assert_array_equal(
            ax.images[0].get_array().data, runs[layer].isel(seed=0).sel(moment=moment)
        )
    title = figure.get_suptitle()
    for words in ("transformer", "$N$ = 2, $L$ = 4, $K$ = 8, $D$ = 5", "2 seeds", "seed 0"):
        assert words in title
    lost = runs.assign(status=("seed", ["done", "not finite"]))
    assert "seed 1: loss not finite" in plots.draw(lost).get_suptitle()


# ----------------------------------------------------------------------------------- comparisons


def test_a_comparison_draws_network_thin_and_flow_thick(comparison):
    _, axes = plots.new_figure(6, 6, 2, 2)
    thin, thick, plateau = plots.compared_losses(comparison, axes[0, 0])
    np.testing.assert_array_equal(thin.get_ydata(), comparison.loss.values[0])
    np.testing.assert_array_equal(thin.get_xdata(), comparison.t.values[0])
    np.testing.assert_array_equal(thick.get_ydata(), comparison.flow_loss)
    np.testing.assert_array_equal(thick.get_xdata(), comparison.time)
    assert set(plateau.get_ydata()) == {np.log(4)}
    assert legend(axes[0, 0]) == ["network", "flow", "plateau log $N$"]
    lines = plots.compared_measures(comparison, axes[0, 1])
    for name, (network, flow) in zip(
        ("ila1", "tila2", "tla2", "cla"), zip(lines[::2], lines[1::2], strict=True), strict=True
    ):
        np.testing.assert_array_equal(network.get_ydata(), comparison[name].values[0])
        np.testing.assert_array_equal(flow.get_ydata(), comparison[f"flow_{name}"])
        assert flow.get_linewidth() > 2 * network.get_linewidth()
    lines = plots.compared_logits(comparison, ("alpha", "beta2"), axes[1, 0])
    for name, (network, flow) in zip(
        ("alpha", "beta2"), zip(lines[::2], lines[1::2], strict=True), strict=True
    ):
        np.testing.assert_array_equal(
            network.get_ydata(), comparison.theta.sel(logit=name).values[0]
        )
        np.testing.assert_array_equal(flow.get_ydata(), comparison.flow_theta.sel(logit=name))
    title = plots.draw(comparison).get_suptitle()
    assert "thin: network, 1 seed; thick: flow" in title
    assert "transformer, $N$ = 4, $L$ = 16" in title


def test_mobilities_and_losses_of_a_comparison(comparison):
    _, axes = plots.new_figure(6, 6, 1, 2)
    lines = plots.matched_mobilities(comparison, axes[0, 0])
    slow = comparison.slow.values[0] == 1
    assert 0 < slow.sum() < len(slow)
    for i, line in enumerate(lines):
        values = comparison.mobility.values[0, :, i]
        shown = slow & (values > 0)
        np.testing.assert_array_equal(line.get_ydata(), np.where(shown, values, np.nan))
    lines = plots.landscape_losses(comparison, axes[0, 1])
    for name, line in zip(("", "_slope", "_chord", "_crosstalk"), lines, strict=True):
        np.testing.assert_array_equal(line.get_ydata(), comparison[f"loss{name}"].values[0])


def test_predicted_against_measured_times(comparison, ax):
    measured, predicted = comparison.measured.values, comparison.predicted.values
    pairs, calibrated = comparison.test_pairs.values, comparison.calibrated.values
    assert calibrated.tolist() == [1, 1]  # of one setting both
    plots.predicted_times(
        np.array([100.0, 50.0, 1000.0]), np.array([110.0, 60.0, 900.0]), np.array([8, 4, 8]), ax,
        np.array([True, False, False]),
    )  # fmt: skip
    assert legend(ax) == ["$N$ = 4", "$N$ = 8", "$N$ = 8, clock set here", "within 15 %"]
    four, eight, here, line = ax.lines
    assert four.get_xydata().tolist() == [[50, 60]]
    assert eight.get_xydata().tolist() == [[1000, 900]]
    assert here.get_xydata().tolist() == [[100, 110]]
    assert here.get_markerfacecolor() == "none"
    np.testing.assert_array_equal(line.get_xdata(), line.get_ydata())
    low, high = ax.collections[0].get_datalim(ax.transData).intervaly
    assert (low / 40, high / 1250) == pytest.approx((0.85, 1.15))
    figure = plots.draw(comparison)
    panel = figure.axes[-1]
    assert legend(panel)[0].endswith("clock set here")
    assert panel.lines[0].get_xydata().tolist() == np.column_stack([measured, predicted]).tolist()
    assert set(pairs) == {4}


def test_predictions_of_networks_that_never_fall_leave_an_empty_panel(ax):
    nothing = np.array([np.nan, np.nan])
    assert plots.predicted_times(nothing, np.array([1.0, 2.0]), np.array([2, 4]), ax) == []
    assert ax.get_legend() is None


def test_old_comparisons_are_drawn(comparison):
    old = comparison.drop_vars(["calibrated", "identified", "predicted_status"])
    del old.attrs["flow_status"], old.attrs["calibrated"]
    assert legend(plots.draw(old).axes[-1])[0] == "$N$ = 4"


# ------------------------------------------------------------------------------- style and files


@pytest.mark.parametrize("kind", ["trajectory", "map_of_valleys", "runs", "comparison"])
def test_pictures_fit_a_paper(kind, request):
    figure = plots.draw(request.getfixturevalue(kind))
    assert figure.get_figwidth() <= 7.0
    figure.canvas.draw()
    texts = [text for text in figure.findobj(Text) if text.get_text() and text.get_visible()]
    assert min(text.get_fontsize() for text in texts) >= 7.0
    assert all(text.get_usetex() is False for text in texts)
    letters = [ax.get_title(loc="left") for ax in figure.axes]
    if kind != "map_of_valleys":  # a single panel needs none
        assert [letter for letter in letters if letter] == list("abcdef")[: len(letters) // 2 * 2][
            : sum(map(bool, letters))
        ]
        assert sum(map(bool, letters)) >= 4


def test_drawing_leaves_the_users_style_alone(trajectory, tmp_path):
    with mpl.rc_context({"font.size": 33.0, "text.usetex": True, "axes.facecolor": "red"}):
        figure = plots.draw(trajectory)
        plots.save(figure, tmp_path / "flow.png")
        assert mpl.rcParams["font.size"] == 33.0
        assert mpl.rcParams["text.usetex"] is True
    assert to_hex(figure.axes[0].get_facecolor()) == "#ffffff"
    assert figure.axes[0].xaxis.label.get_fontsize() == 8.0


def test_no_backend_and_no_latex_of_the_user_can_lose_a_picture(tmp_path):
    (tmp_path / "matplotlibrc").write_text("text.usetex: True\nfont.size: 30\n")
    surroundings = {
        **os.environ, "MPLBACKEND": "module://of.a.notebook", "PATH": "",
        "MATPLOTLIBRC": str(tmp_path),
    }  # fmt: skip
    for name in ("flow.png", "flow.pdf"):
        done = subprocess.run(
            [sys.executable, "-m", "cliff", "flow", "-N", "2", "-L", "4", "--plot", name],
            env=surroundings, cwd=tmp_path, capture_output=True, text=True,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        assert (tmp_path / name).stat().st_size > 10_000
    code = (
        "import os, sys, cliff.plots; "
        "print(os.environ['MPLBACKEND'], 'matplotlib.pyplot' in sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], env=surroundings, capture_output=True, text=True
    )
    assert done.stdout.split() == ["module://of.a.notebook", "False"], done.stderr


def test_results_without_a_picture_are_named(trajectory):
    with pytest.raises(ArgumentError, match="int: has no picture"):
        plots.draw(3)
    with pytest.raises(ArgumentError, match="figure: is drawn by"):
        plots.draw(xr.Dataset(attrs={"cliff_kind": "figure"}))
    other = sweep(lambda pairs: float(pairs), {"pairs": np.array([2, 3])})
    with pytest.raises(ArgumentError, match="no phase diagram"):
        plots.draw(other)


def test_the_command_draws_every_kind_of_file(
    trajectory, map_of_valleys, runs, comparison, tmp_path, capsys
):
    """New files, and those of version 0.1, which are NetCDF 3."""
    for kind, result in (
        ("flow", trajectory), ("sweep", map_of_valleys), ("run", runs), ("comparison", comparison),
    ):  # fmt: skip
        file, old = tmp_path / f"{kind}.nc", tmp_path / f"{kind}_old.nc"
        save(result, file)
        opened = cliff.store.open_dataset(file)
        narrow = opened.map(lambda v: v.astype("i4") if v.dtype == "i8" else v, keep_attrs=True)
        for name in narrow.coords:
            if narrow[name].dtype == "i8":
                narrow = narrow.assign_coords({name: narrow[name].astype("i4")})
        narrow.attrs["cliff_format"] = 1
        narrow.to_netcdf(old, engine="scipy", format="NETCDF3_64BIT")
        assert old.read_bytes().startswith(b"CDF")
        for source in (file, old):
            picture = source.with_suffix(".png")
            assert _run(["plot", str(source), str(picture)]) == 0, capsys.readouterr()
            assert capsys.readouterr().err == f"wrote {picture}\n"
            assert picture.read_bytes().startswith(b"\x89PNG")
        assert file.with_suffix(".png").read_bytes() == old.with_suffix(".png").read_bytes()


def test_an_ensemble_saved_is_drawn(tmp_path):
    save(
        integrate_ensemble(NestedLogit(8, 8), [[0.0, 2.0, 2.0], [0.0, -2.0, -2.0]], 1e3),
        tmp_path / "ensemble.nc",
    )
    assert _run(["plot", str(tmp_path / "ensemble.nc"), str(tmp_path / "e.png"), "-q"]) == 0


def test_mistakes_name_file_and_picture_as_typed(trajectory, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    save(trajectory, "flow.nc")
    save(sweep(lambda pairs: float(pairs), {"pairs": np.array([2, 3])}), "other.nc")
    cliff.store.save_dataset(xr.Dataset({"x": 1.0}), "figure.nc", "figure")
    (tmp_path / "text.nc").write_text("no data")
    for file, picture, told in (
        ("none.nc", "x.png", "cliff: FILE none.nc: no such file"),
        ("text.nc", "x.png", "cliff: FILE text.nc: is not a NetCDF file"),
        ("other.nc", "x.png", "cliff: FILE other.nc: is no phase diagram"),
        ("figure.nc", "x.png", "cliff: FILE figure.nc: holds a figure, which is drawn by"),
        ("flow.nc", "x.bmp", "cliff: PICTURE x.bmp: must end in .png, .pdf or .svg"),
        ("flow.nc", "none/x.png", "cliff: PICTURE none/x.png: the directory"),
    ):
        assert _run(["plot", file, picture]) == 2
        err = capsys.readouterr().err
        assert err.startswith(told), err
        assert err.count("\n") == 1


def test_a_picture_of_a_format_that_there_is_not_is_refused(tmp_path):
    figure, _ = plots.new_figure(3.0, 2.0)
    for name in ("x.xyz", "x"):
        with pytest.raises(ArgumentError, match=r"must end in one of .*png"):
            plots.save(figure, tmp_path / name)
    assert not list(tmp_path.iterdir())


def test_text_that_is_no_tex_is_drawn_as_it_is(tmp_path):
    brace, dollar, c = sp.symbols("{ b$ c")
    model = cliff.Landscape(
        [brace, dollar], (c - brace * dollar) ** 2 / 2, {c: 1}, {r"$\frac{$": brace * dollar},
        {r"$\frac{$again": sp.Symbol("loss") <= 0.1}, plateau=0.5, labels={"c": r"$\sqrt{$"},
    )  # fmt: skip
    figure = plots.draw(cliff.integrate(model, [0.1, 0.2], 5.0))
    for ending in ("png", "pdf"):
        plots.save(figure, tmp_path / f"flow.{ending}")
    texts = {text.get_text() for text in figure.findobj(Text)}
    assert {"{", r"b\$", r"\frac{", r"\frac{again, t = 1.99"} <= texts
    assert any(text.startswith(r"Gradient flow: \sqrt{ = 1") for text in texts)
    assert r"time $t$ (gradient flow)" in texts  # TeX stays TeX
