"""Basins, boundaries, fixed points and slices: checked physics."""

from dataclasses import replace

import numpy as np
import pytest

from cliff import NestedLogit, integrate, integrate_ensemble
from cliff.analysis import (
    basin_boundary,
    basin_fractions,
    basin_of,
    basin_paths,
    basins,
    classify,
    fixed_points,
    landscape_slice,
    local_exponents,
    slice_around,
    slow_manifold,
)
from cliff.checks import ArgumentError
from cliff.metrics import FlowMetric
from cliff.sweeps import sweep
from cliff.theory import saddle_rate
from cliff.trajectory import Status
from cliff.valleys import VALLEY_NAMES, valleys

PAPER, WALL = NestedLogit(8, 32), NestedLogit(8, 8)


def test_the_wall_splits_small_starts_by_their_side_of_the_saddle(rng):
    starts = 0.01 * rng.normal(size=(200, 3))
    labels = basin_of(WALL, starts, 1e5)
    names = VALLEY_NAMES
    side = starts[:, 1] + starts[:, 2] > 0.0  # the unstable direction is alpha + xi
    clear = np.abs(starts[:, 1] + starts[:, 2]) > 1e-3
    expected = np.where(side, names.index("induction"), names.index("shunned-match"))
    np.testing.assert_array_equal(labels[clear], expected[clear])
    assert set(labels[clear].tolist()) == {
        names.index("induction"),
        names.index("shunned-match"),
    }


def test_beyond_the_wall_small_starts_all_reach_induction(rng):
    labels = basin_of(PAPER, 0.01 * rng.normal(size=(50, 3)), 1e4)
    assert (labels == VALLEY_NAMES.index("induction")).all()


def test_an_unmoved_start_is_in_no_basin():
    labels = basin_of(PAPER, [[0.0, 1e-3, -1e-3], [0.0, -1e-3, -1e-3]], 1e-6)
    assert labels.tolist() == [-1, -1]


def test_fractions_have_binomial_errors():
    fractions = basin_fractions([0, 0, 0, 1])
    assert fractions[0] == (0.75, pytest.approx(np.sqrt(0.75 * 0.25 / 4)))
    assert sum(share for share, _ in fractions.values()) == 1.0
    with pytest.raises(ArgumentError):
        basin_fractions([])


def test_boundary_runs_through_the_saddle():
    """At L = N the plane alpha = −xi belongs to the saddle's stable manifold, to first order."""
    point = basin_boundary(WALL, [0.0, -0.1, -0.05], [0.0, 0.1, 0.06], 1e5, tolerance=1e-6)
    assert point[1] + point[2] == pytest.approx(0.0, abs=1e-3)
    with pytest.raises(ArgumentError, match="another basin"):
        basin_boundary(WALL, [0.0, 0.1, 0.1], [0.0, 0.2, 0.2], 1e5)


def test_the_saddle_and_its_rate():
    saddle = classify(WALL, np.zeros(3))
    assert saddle.kind == "saddle"
    rate = saddle_rate(WALL)
    np.testing.assert_allclose(saddle.eigenvalues, [-rate, 0.0, rate], atol=1e-15)
    np.testing.assert_allclose(
        np.abs(saddle.eigenvectors[:, -1]), [0.0, np.sqrt(0.5), np.sqrt(0.5)], atol=1e-12
    )
    found = fixed_points(WALL, [[0.0, 1e-4, -1e-4], [0.3, 0.0, 0.0]])
    assert len(found) == 2
    for point in found:
        assert np.abs(WALL.gradient(point.theta)).max() <= 1e-12
        np.testing.assert_allclose(point.theta[1:], 0.0, atol=1e-6)
        assert point.loss == pytest.approx(WALL.plateau)


def test_escape_time_grows_with_the_logarithm_of_the_start():
    sizes = np.array([1e-2, 1e-3, 1e-4, 1e-5])
    starts = sizes[:, None] * np.array([0.0, np.sqrt(0.5), np.sqrt(0.5)])
    times = integrate_ensemble(WALL, starts, 1e5, rtol=1e-9, atol=1e-14).t_transition
    slopes = np.diff(times) / np.log(10.0)
    assert slopes[1:] == pytest.approx(1.0 / saddle_rate(WALL), rel=1e-3)


def test_transition_time_rises_to_the_wall():
    labels = np.array([8, 9, 10, 12, 16, 32])
    times = FlowMetric(t_end=1e5)(labels=labels)["t_transition"]
    assert np.isfinite(times).all()
    assert (np.diff(times) < 0.0).all()
    assert times[0] > 3.0 * times[-1]


def test_pairs_and_labels_are_not_interchangeable():
    grid = FlowMetric(t_end=1e5)(pairs=np.array([4, 8]), labels=np.array([8, 16]))
    doubled = grid["t_transition"][1] / grid["t_transition"][0]
    assert doubled > 1.5


def test_slow_manifold_draws_small_starts(rng):
    (path,) = slow_manifold(PAPER, 200.0)
    curve = path.path.theta
    dense = path.path(np.linspace(0.0, 200.0, 4000))
    for start in 0.05 * rng.normal(size=(5, 3)):
        run = integrate(PAPER, start, 300.0)
        late = run.theta[run.loss < 0.5 * PAPER.plateau]
        gap = np.min(np.linalg.norm(late[:, None] - dense[None], axis=2), axis=1)
        assert gap[0] < 0.5 < np.linalg.norm(curve[-1] - curve[0])
    up, down = slow_manifold(WALL, 3000.0)
    assert up.loss[-1] < 0.5 * WALL.plateau
    assert down.theta[-1, 2] < 0.0


def test_slice_holds_the_loss():
    x, y = np.linspace(-1, 3, 7), np.linspace(0, 5, 9)
    part = landscape_slice(PAPER, ("beta1", "xi"), x, y, {"alpha": 1.5})
    assert part.loss.shape == (9, 7)
    assert part.loss[4, 2] == PAPER.loss([x[2], 1.5, y[4]])
    gradient = PAPER.gradient([x[2], 1.5, y[4]])
    assert part.slope[4, 2] == pytest.approx(np.hypot(gradient[0], gradient[2]))
    with pytest.raises(ArgumentError, match="alpha"):
        landscape_slice(PAPER, ("beta1", "xi"), x, y, {})
    with pytest.raises(ArgumentError, match="must be one of"):
        landscape_slice(PAPER, ("beta1", "gamma"), x, y, {"alpha": 1.0})


def test_the_edge_is_where_the_loss_falls_below_the_plateau():
    part = slice_around(integrate(PAPER, [0.01] * 3, 200.0))
    edge, level, xi = part.edge(), 0.9 * PAPER.plateau, part.fixed["xi"]
    spacing = part.y[1] - part.y[0]
    assert (part.x > 4.0).sum() > 20
    assert np.isfinite(edge[part.x > 4.0]).all()
    for x, y in zip(part.x, edge, strict=True):
        above = part.y if np.isnan(y) else part.y[part.y < y - 0.5 * spacing]
        assert all(PAPER.loss([x, lower, xi]) > level for lower in above)
        if np.isfinite(y):
            assert PAPER.loss([x, y, xi]) <= level
    assert np.isnan(edge[part.x < 0.0]).all()
    assert (part.edge(0.5)[part.x > 4.0] > edge[part.x > 4.0]).all()


def test_metrics_say_which_cells_cannot_be():
    result = FlowMetric()(pairs=np.array([8, 8]), labels=np.array([4, 32]))
    assert list(result["failure"]) == ["fewer labels than pairs", ""]
    assert np.isnan(result["t_transition"][0])
    assert result["t_transition"][1] == pytest.approx(94.248, abs=1e-3)


@pytest.mark.parametrize(
    ("axes", "reason"),
    [
        ({"mobility_alpha": [-1.0]}, "mobility_alpha below 0"),
        ({"pairs": [0]}, "pairs must be a whole number of at least 1"),
        ({"pairs": [2.5]}, "pairs must be a whole number of at least 1"),
        ({"labels": [32.5]}, "labels must be a whole number of at least 1"),
        ({"labels_per_pair": [1e300]}, "labels must be a whole number of at least 1"),
        ({"xi": [np.nan]}, "xi is not finite"),
    ],
)
@pytest.mark.parametrize("metric", ["loss", "basin"])
def test_a_bad_cell_leaves_the_others_alone(axes, reason, metric):
    ((name, (bad,)),) = axes.items()
    good = {"mobility_alpha": 1.0, "pairs": 8, "labels": 32, "labels_per_pair": 4.0, "xi": 0.01}
    result = FlowMetric(metric, t_end=200.0)(**{name: np.array([bad, good[name]])})
    assert result["failure"][0].startswith(reason)
    assert result["failure"][1] == ""
    alone = FlowMetric(metric, t_end=200.0)(xi=np.array([0.01]))
    assert result[metric][1] == alone[metric][0]


@pytest.mark.parametrize(
    "axes",
    [("beta2",), ("mobility_beta2", "xi"), ("labels", "labels_per_pair"), ("colour",), ()],
)
def test_axes_without_effect_are_refused(axes):
    with pytest.raises(ArgumentError):
        FlowMetric(t_end=1.0)(**{name: np.ones(2) for name in axes})


def test_a_free_label_bias_can_be_an_axis():
    function = FlowMetric("loss", NestedLogit(label_bias="free"), t_end=50.0)
    losses = function(beta2=np.array([0.0, 1.0]))["loss"]
    assert losses[0] != losses[1]


def test_basin_labels_mean_the_same_in_every_cell():
    """At L = N, above it, and at N = 2 the valleys that exist differ."""
    function = FlowMetric("basin", theta0=(-4.0, 4.0, -4.0), t_end=1e5)
    pairs, labels = np.array([3, 4, 4, 2]), np.array([3, 4, 8, 2])
    result = function(pairs=pairs, labels=labels)["basin"]
    for n, count, label in zip(pairs.tolist(), labels.tolist(), result.tolist(), strict=True):
        model = NestedLogit(n, count)
        if label >= 0:
            assert VALLEY_NAMES[label] in [valley.name for valley in valleys(model)]
    assert [VALLEY_NAMES[label] for label in result[:2]] == ["early-labels-inverted"] * 2
    assert (basin_of(NestedLogit(4, 4), [[-4.0, 4.0, -4.0]]) == result[1]).all()


def test_local_exponents():
    np.testing.assert_allclose(local_exponents([1, 2, 4], [3, 24, 192]), [3.0, 3.0])


@pytest.mark.parametrize("mobility", [(1.0, 1.0, 1.0), (1.0, 100.0, 1.0), (0.2, 3.0, 0.5)])
def test_the_slow_manifold_starts_along_an_eigenvector_of_the_flow(mobility):
    model = NestedLogit(4, 4)
    up, down = slow_manifold(model, 1.0, offset=1e-3, mobility=mobility)
    start = up.theta[0]
    pushed = -np.array(mobility) * (model.hessian(np.zeros(3)) @ start)
    rate = pushed @ start / (start @ start)
    assert rate > 0
    np.testing.assert_allclose(pushed, rate * start, atol=1e-9 * np.abs(pushed).max())
    np.testing.assert_array_equal(down.theta[0], -start)


def test_a_boundary_with_undecided_surroundings_is_refused():
    """At t = 4,000 both ends have arrived, and what starts next to the boundary has not."""
    model, ends = NestedLogit(8, 8), ([0.0, -1.0, -0.5], [0.0, 1.0, 0.6])
    with pytest.raises(ArgumentError, match=r"t_end=4000\.0: must be larger"):
        basin_boundary(model, *ends, t_end=4000.0, tolerance=1e-12)
    point = basin_boundary(model, *ends, t_end=1e5, tolerance=1e-3)
    assert point[1] < 0.0 < point[2]


@pytest.mark.parametrize("tolerance", [0.0, float("nan"), -1.0, 2.0])
def test_a_boundary_cannot_be_found_to_every_tolerance(tolerance):
    with pytest.raises(ArgumentError, match="tolerance"):
        basin_boundary(NestedLogit(4, 4), [0, 1, 1], [0, -1, -1], tolerance=tolerance)


def basin_sweep(axes, labels=8):
    return sweep(FlowMetric("basin", NestedLogit(8, labels), t_end=1e5), axes, vectorized=True)


def test_sample_paths_are_even_and_stay_on_their_map():
    """Width 3 and height 2, alpha to the right: the paths are those of the flow, without kinks."""
    axes = {"xi": np.linspace(-1.0, 1.0, 3), "alpha": np.linspace(-1.0, 2.0, 4)}
    paths, saddles = basin_paths(basin_sweep(axes))
    assert saddles == [(0.0, 0.0)]
    assert len(paths) == 5
    np.testing.assert_allclose(paths[0][0], [-0.4, -0.5], atol=1e-12)
    run = integrate(WALL, [0.01, *paths[0][0]], 1e5)
    dense = run.path(np.geomspace(1e-4, 1e5, 200_000))[:, 1:]
    for x, y in paths[0][::60]:
        assert np.min(np.hypot(dense[:, 0] - x, dense[:, 1] - y)) < 1e-3
    for path in paths:
        steps = np.hypot(*(np.diff(path, axis=0) / [3.0, 2.0]).T)
        assert steps.max() < 1.1 * steps.min()
        outside = (path < [-1.0, -1.0]) | (path > [2.0, 1.0])
        assert outside[-1].any()
        assert not outside[: int(0.9 * len(path))].any()


@pytest.mark.parametrize(
    ("axes", "labels"),
    [
        ({"xi": [-1.0, 1.0], "alpha": [-1.0, 1.0]}, 9),
        ({"xi": [0.5, 1.0], "alpha": [-1.0, 1.0]}, 8),
        ({"beta1": [-1.0, 1.0], "alpha": [-1.0, 1.0]}, 8),
    ],
)
def test_a_saddle_is_marked_where_there_is_one(axes, labels):
    paths, saddles = basin_paths(basin_sweep(axes, labels))
    assert len(paths) == 5
    assert saddles == []


@pytest.mark.parametrize("axes", [{"alpha": [0.1, 0.2]}, {"alpha": [0.1, 0.2], "labels": [8, 9]}])
def test_maps_over_other_axes_have_no_paths(axes):
    assert basin_paths(basin_sweep(axes)) == ([], [])


@pytest.mark.parametrize(
    "slicing",
    [
        lambda names: slice_around(integrate(PAPER, [0.01] * 3, 1.0), names),
        lambda names: landscape_slice(PAPER, names, [0, 1], [0, 1], {"beta1": 0, "alpha": 0}),
    ],
)
def test_a_slice_needs_two_different_parameters(slicing):
    with pytest.raises(ArgumentError, match="must be two different parameters"):
        slicing(("xi", "xi"))


@pytest.mark.parametrize(("t_end", "where"), [(200.0, 94.2485), (50.0, 50.0)])
def test_the_slice_around_a_path_lies_where_the_transition_is(t_end, where):
    run = integrate(PAPER, [0.01] * 3, t_end)
    part = slice_around(run, ("xi", "beta1"), resolution=5)
    point, path = run.path(where), run.path.theta
    assert part.names == ("xi", "beta1")
    assert part.fixed == {"alpha": pytest.approx(point[1], rel=1e-4)}
    for side, column in ((part.x, 2), (part.y, 0)):
        assert len(side) == 5
        low, high = path[:, column].min(), path[:, column].max()
        assert 0.1 < low - side[0] < 0.1 + 0.2 * (high - low)
        assert 0.1 < side[-1] - high < 0.1 + 0.2 * (high - low)
    assert part.loss[1, 3] == PAPER.loss([part.y[1], part.fixed["alpha"], part.x[3]])


@pytest.mark.parametrize(
    ("theta", "kind"),
    [
        ((0.0, 0.0, 0.0), "saddle"),
        ((-43.8, -15.9, 38.7), "degenerate"),  # in a valley: all eigenvalues are zero
        ((50.0, 60.0, 400.0), "degenerate"),
    ],
)
def test_zero_eigenvalues_do_not_make_a_point_stable(theta, kind):
    assert classify(NestedLogit(2, 2), theta).kind == kind


class Quadratic:
    """A loss with a given Hessian, which is all that `classify` asks for."""

    n_parameters = 3

    def __init__(self, *curvatures):
        self.curvatures = np.array(curvatures)

    def loss(self, theta):
        return 0.5 * np.sum(self.curvatures * theta**2)

    def hessian(self, theta):
        return np.diag(self.curvatures)


@pytest.mark.parametrize(
    ("curvatures", "kind"),
    [
        ((1.0, 2.0, 3.0), "stable"),
        ((1.0, 0.0, 3.0), "degenerate"),
        ((1.0, 1e-12, -1e-12), "degenerate"),
        ((-1.0, 0.0, 1.0), "saddle"),
        ((-1.0, -2.0, 0.0), "unstable"),
        ((-1.0, -2.0, -3.0), "unstable"),
    ],
)
def test_kinds_of_fixed_points(curvatures, kind):
    point = classify(Quadratic(*curvatures), np.zeros(3))
    assert point.kind == kind
    np.testing.assert_array_equal(point.eigenvalues, sorted(-np.array(curvatures)))


def test_each_fixed_point_is_found_once_and_far_ones_are_left_out():
    """At L = N every (beta1, 0, 0) is one: the starts themselves, apart from repetitions."""
    along = np.array([0.3, 0.3, 0.3 + 1e-8, 0.3 + 1e-3, 1.0, 0.3, 60.0])
    found = fixed_points(WALL, along[:, None] * [1.0, 0.0, 0.0])
    assert sorted(point.theta[0] for point in found) == pytest.approx([0.3, 0.301, 1.0], abs=1e-7)
    assert {point.kind for point in found} == {"saddle"}
    # a saddle at log N and a point in a valley at half of it
    two = fixed_points(NestedLogit(2, 2), [[0.3, 0.0, 0.0], [-43.8, -15.9, 38.7]])
    assert [point.loss for point in two] == pytest.approx([np.log(2) / 2, np.log(2)])
    assert fixed_points(PAPER, [[60.0, 60.0, 1e3]]) == []


def test_basins_of_an_ensemble_are_those_of_each_trajectory():
    """L = 8 and L = 9 differ in their valleys, and neither is the model's own L."""
    start = [-4.0, 4.0, -4.0]
    ensemble = integrate_ensemble(
        NestedLogit(4, 32),
        [start] * 3,
        1e5,
        constants={"n_pairs": [4, 4, 3], "n_labels": [4, 8, 3]},
    )
    alone = [int(basin_of(NestedLogit(n, m), [start])[0]) for n, m in ((4, 4), (4, 8), (3, 3))]
    assert basins(ensemble).tolist() == alone
    assert VALLEY_NAMES[alone[0]] == "early-labels-inverted"
    assert len(set(alone)) > 1


def test_a_trajectory_that_stopped_early_is_in_no_basin():
    ensemble = integrate_ensemble(PAPER, [[5.0, 8.0, 25.0]] * 2, 1e4, max_steps=1)
    assert not ensemble.done.any()
    assert basins(ensemble).tolist() == [-1, -1]
    assert basins(replace(ensemble, status=np.array([1, 2], np.int8))).tolist() == [0, -1]


def test_labels_per_pair_are_rounded_to_the_nearest_label():
    ratios = np.array([1.2, 1.3, 1.4, 1.5])  # times 8: 9.6, 10.4, 11.2, 12
    losses = FlowMetric("loss", t_end=50.0)(labels_per_pair=ratios)["loss"]
    expected = FlowMetric("loss", t_end=50.0)(labels=np.array([10, 10, 11, 12]))["loss"]
    np.testing.assert_array_equal(losses, expected)


def test_a_saddle_without_an_unstable_direction_has_no_manifold():
    with pytest.raises(ArgumentError, match="leaves no unstable direction"):
        slow_manifold(WALL, 1.0, mobility=(1.0, 0.0, 1.0))


@pytest.mark.parametrize("metric", ["t_transition", "width", "abruptness", "loss", "basin"])
@pytest.mark.parametrize(("max_steps", "failures"), [(5, 3), (30, 1), (1000, 0)])
def test_a_flow_that_stops_early_is_a_failure(metric, max_steps, failures):
    """The starts need 13, 27 and 53 steps or so to reach the end."""
    starts = np.array([[0.0, 4.0, 20.0], [0.0, 2.0, 5.0], [0.01, 0.01, 0.01]])
    axes = dict(zip(("beta1", "alpha", "xi"), starts.T, strict=True))
    n_steps = integrate_ensemble(PAPER, starts, 200.0).n_steps
    result = FlowMetric(metric, t_end=200.0, max_steps=max_steps)(**axes)
    expected = np.where(n_steps > max_steps, "step limit", "")
    assert (expected != "").sum() == failures
    assert result["failure"].tolist() == expected.tolist()


@pytest.mark.parametrize("metric", ["loss", "basin"])
def test_failures_have_the_names_of_the_statuses(monkeypatch, metric):
    codes = np.arange(len(Status), dtype=np.int8)

    def stopped(*arguments, **options):
        return replace(integrate_ensemble(*arguments, **options), status=codes)

    monkeypatch.setattr("cliff.metrics.integrate_ensemble", stopped)
    result = FlowMetric(metric, t_end=1.0)(alpha=np.linspace(0.0, 1.0, len(codes)))
    names = [str(status).replace("done", "") for status in Status]
    assert result["failure"].tolist() == names
    assert "step too small" in names


@pytest.mark.parametrize(
    "option", ["rtol", "atol", "max_steps", "t_end", "positions", "label_bias"]
)
def test_every_option_of_a_metric_reaches_the_flow(option):
    value = {"positions": "mean", "label_bias": 0.5, "max_steps": 40, "t_end": 300.0}.get(
        option, 0.1
    )
    options = {"t_end": 200.0, "rtol": 1e-6, "atol": 1e-9, "max_steps": 1000} | {option: value}
    model = {name: options.pop(name) for name in ("positions", "label_bias") if name in options}
    run = integrate(NestedLogit(8, 32, **model), [0.01, 0.02, 0.03], mobility=(1, 2, 3), **options)
    landscape = NestedLogit(8, 32, **model)
    metric = FlowMetric(
        "loss", landscape, theta0=[0.01, 0.02, 0.03], mobility=np.array([1, 2, 3]), **options
    )
    result = metric(labels=np.array([32]))
    assert result["failure"].tolist() == [str(run.status).replace("done", "")]
    assert result["loss"][0] == run.loss[-1]
    assert metric == FlowMetric("loss", landscape, metric.theta0, metric.mobility, **options)
