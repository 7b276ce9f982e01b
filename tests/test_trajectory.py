"""Results on disk: round trips, provenance, refusals, and writes that are all or nothing."""

import copy
import dataclasses
import json
import multiprocessing
import pickle
from concurrent.futures import ProcessPoolExecutor

import numpy as np
import pytest
import xarray as xr

import cliff
from cliff import NestedLogit, integrate, integrate_ensemble, store, sweep
from cliff.checks import ArgumentError
from cliff.trajectory import TransitionStatus, transition_of

START = (0.01, 0.01, 0.01)


@pytest.fixture(scope="module")
def run():
    return integrate(NestedLogit(8, 32, label_bias="free"), [*START, 0.1], 150.0)


@pytest.fixture(scope="module")
def saved(run, tmp_path_factory):
    return run.save(tmp_path_factory.mktemp("saved") / "run.nc")


def test_round_trip(run, saved):
    back = cliff.load(saved)
    assert back == run
    assert hash(back) == hash(run)
    assert back.transition() == run.transition()
    np.testing.assert_array_equal(back.path(77.7), run.path(77.7))
    assert back.provenance == run.provenance
    assert back != dataclasses.replace(run, loss=run.loss + 1e-12)


@pytest.mark.parametrize("method", ["radau", "euler"])
def test_round_trip_of_other_methods(method, tmp_path):
    step = 0.5 if method == "euler" else None
    run = integrate(NestedLogit(4, 4), START, 20.0, (1, 2, 3), method, step=step, t_eval=[1.0, 9.0])
    assert cliff.load(run.save(tmp_path / "run.nc")) == run


def falling(theta, speed, limit):
    return 1.0, 1.0, speed if theta[2] <= limit else -1.0


def test_a_failed_mobility_is_told_by_the_file(tmp_path):
    run = integrate(NestedLogit(8, 32), START, 150.0, falling, mobility_args=(1.0, 3.0))
    back = cliff.load(run.save(tmp_path / "run.nc"))
    assert back == run
    assert back.status == "mobility failed"
    assert back.reason == run.reason != ""
    assert json.loads(back.provenance["parameters"])["mobility_args"] == [1.0, 3.0]


def flow_of(method):
    """A result of a mobility function, made in whatever process calls this."""
    return integrate(NestedLogit(8, 32), START, 20.0, falling, method, mobility_args=(2.0, 1e9))


def ensemble_of(count):
    starts = np.linspace(0.0, 0.1, 3 * count).reshape(count, 3)
    return integrate_ensemble(NestedLogit(8, 32), starts, 150.0, falling, mobility_args=(1.0, 3.0))


@pytest.mark.parametrize(("make", "argument"), [(flow_of, "radau"), (ensemble_of, 5)])
def test_results_survive_copies_and_processes(make, argument, monkeypatch):
    result = make(argument)
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
        sent = pool.submit(make, argument).result()
    others = [copy.copy(result), copy.deepcopy(result), pickle.loads(pickle.dumps(result)), sent]
    for other in others:
        assert other == result
        assert hash(other) == hash(result)
        assert {other: 1}[result] == 1
        for entry in dataclasses.fields(other):
            value = getattr(other, entry.name)
            if isinstance(value, np.ndarray):
                assert not value.flags.writeable, entry.name
    assert result != make({"radau": "lsoda"}.get(argument, 4))
    assert result != "a result"
    monkeypatch.setattr(store, "environment", lambda: {"versions": "other"})
    for other in others[1:]:
        assert other.provenance["versions"] != "other"  # of the process that made it


def test_results_are_read_only_and_leave_a_strangers_arrays_alone(run):
    with pytest.raises(ValueError, match="read-only"):
        run.theta[0] = 0.0
    with pytest.raises(ValueError, match="read-only"):
        run.path.coefficients[:] = 0.0
    with pytest.raises(ValueError, match="read-only"):
        ensemble_of(3).status[0] = 0
    mine = run.loss.copy()
    changed = dataclasses.replace(run, loss=mine)
    mine[0] = 99.0
    assert changed.loss[0] == run.loss[0]
    window = mine[1:]
    window.flags.writeable = False
    changed = dataclasses.replace(run, loss=window)
    mine[1] = 99.0
    assert changed.loss[0] == run.loss[1]
    before = run.loss[0]
    run.to_dataset()["loss"].values[0] = 99.0  # a dataset of one's own
    assert run.loss[0] == before


def test_equality_looks_at_every_entry_and_at_nan(run):
    never = integrate(NestedLogit(8, 32), START, 1.0)
    assert np.isnan(never.crossings).all()
    assert never == integrate(NestedLogit(8, 32), START, 1.0)
    assert never.transition() == integrate(NestedLogit(8, 32), START, 2.0).transition()
    assert hash(never.transition()) == hash(integrate(NestedLogit(8, 32), START, 2.0).transition())
    assert never != integrate(NestedLogit(8, 33), START, 1.0)
    assert never.path != run.path
    assert never.transition() != run.transition()


def test_short_descriptions(run):
    assert repr(run) == (
        "Trajectory(n_pairs = 8, n_labels = 32, dopri5: "
        f"{run.n_steps} steps to t = 150, done, loss = {run.loss[-1]:.4g}, "
        f"t_transition = {run.transition().t_transition:.5g})"
    )
    assert repr(run.path) == f"DensePath({run.n_steps} steps, t = 0 to 150)"
    starts = np.full((4, 3), 0.01)
    ensemble = integrate_ensemble(
        NestedLogit(8, 32), starts, 150.0, constants={"n_labels": [8, 16, 32, 32]}
    )
    assert repr(ensemble) == (
        "Ensemble(n_pairs = 8, n_labels = 8 to 32, label_bias = 0: 4 done; "
        "3 fell, median t_transition = 94.248)"
    )
    assert repr(ensemble_of(2)) == (
        "Ensemble(n_pairs = 8, n_labels = 32, label_bias = 0: 2 mobility failed; 0 fell)"
    )
    assert "0 fell" in repr(integrate_ensemble(NestedLogit(8, 32), np.empty((0, 3)), 1.0))


def test_a_recorded_curve_falls_as_its_trajectory():
    run = integrate(NestedLogit(8, 32), START, 200.0)
    fine = run.sampled(np.linspace(0.0, 200.0, 20_001))
    found, expected = transition_of(fine.t, fine.loss, 8), run.transition()
    assert found.status is expected.status is TransitionStatus.REACHED
    for name in ("t_transition", "width", "abruptness"):
        assert getattr(found, name) == pytest.approx(getattr(expected, name), rel=1e-5)


@pytest.mark.parametrize(
    ("loss", "times", "status"),
    [  # the levels at N = 8 are 1.871, 1.040, 0.208
        ([2.0, 2.0, 1.0, 0.0], (1.960279, 1.663553), "reached"),
        ([2.0, 1.5, 1.9, 1.0, 0.5], (2.955864, np.nan), "not completed"),
        ([2.0, 1.9, 1.8, 1.1], (np.nan, np.nan), "not reached"),
        ([1.5, 1.0, 0.2], (0.920558, 1.990070), "started below"),
        ([2.0, np.nan, 1.0, 0.0], (1.920558, 2.535051), "reached"),  # nothing was recorded at 1
        ([2.0, np.nan, np.nan], (np.nan, np.nan), "not reached"),
    ],
)
def test_transitions_of_curves(loss, times, status):
    found = transition_of(np.arange(len(loss)), loss, 8)
    assert found.status == status
    np.testing.assert_allclose([found.t_transition, found.width], times, atol=2e-6)


def test_curves_without_a_plateau_or_of_other_lengths():
    assert transition_of([0, 1], [1.0, 0.0], 1).status is TransitionStatus.UNDEFINED
    for t, loss in (([0, 1], [1.0]), ([], []), ([0], [np.nan]), ([[0, 1]], [[2.0, 1.0]])):
        with pytest.raises(ArgumentError, match="loss="):
            transition_of(t, loss, 8)
    late = transition_of([5.0, 6.0], [1.5, 0.0], 8)  # a run that is resumed does not start at 0
    assert late.status is TransitionStatus.STARTED_BELOW


def test_a_plain_session_reads_it(run, saved):
    with xr.open_dataset(saved) as dataset:
        assert dataset["loss"].attrs["units"] == "nat"
        assert dataset["time"].attrs["units"] == "gradient-flow time"
        assert list(dataset["component"].values) == ["beta1", "alpha", "xi", "beta2"]
        np.testing.assert_array_equal(dataset["theta"].values, run.theta)
        parameters = json.loads(dataset.attrs["parameters"])
        assert parameters["n_pairs"] == 8
        assert parameters["theta0"] == [0.01, 0.01, 0.01, 0.1]
        assert parameters["rtol"] == 1e-6
        assert {"numpy", "numba", "python"} <= set(json.loads(dataset.attrs["versions"]))
        assert {"git_commit", "command", "seed"} <= set(dataset.attrs)


def test_every_variable_says_what_it_is(run):
    for dataset in (run.to_dataset(), ensemble_of(2).to_dataset()):
        for name, variable in dataset.variables.items():
            assert variable.attrs["long_name"], name
            assert name == "component" or variable.attrs["units"], name


def test_files_hold_counts_beyond_32_bits(tmp_path):
    labels = [2**31, 2**40 + 1]
    ensemble = integrate_ensemble(
        NestedLogit(8, 32), np.zeros((2, 3)), 1.0, constants={"n_labels": labels}
    )
    back = cliff.load(ensemble.save(tmp_path / "e.nc"))
    assert back.constants["n_labels"].tolist() == labels
    assert back == ensemble
    run = integrate(NestedLogit(8, 2**40 + 1), START, 1.0)
    assert cliff.load(run.save(tmp_path / "r.nc")) == run


def test_loading_does_not_overwrite_the_provenance(saved, monkeypatch, tmp_path):
    monkeypatch.setattr(store, "environment", lambda: {"versions": "other"})
    again = cliff.load(cliff.load(saved).save(tmp_path / "again.nc"))
    assert again.provenance == cliff.load(saved).provenance
    assert again.provenance["versions"] != "other"


def test_every_truncation_is_refused(saved, tmp_path):
    data = saved.read_bytes()
    for length in [*range(0, 400, 7), *np.linspace(400, len(data) - 1, 60).astype(int)]:
        short = tmp_path / "short.nc"
        short.write_bytes(data[:length])
        with pytest.raises(ArgumentError, match=r"truncated|not one of this package"):
            cliff.load(short)


def test_foreign_and_newer_files_are_refused(saved, tmp_path):
    (tmp_path / "text.nc").write_text("not a NetCDF file\n")
    with pytest.raises(ArgumentError, match="not a NetCDF file"):
        cliff.load(tmp_path / "text.nc")
    foreign = xr.Dataset({"x": ("n", np.arange(3.0))})
    foreign.to_netcdf(tmp_path / "foreign.nc", engine="scipy")
    with pytest.raises(ArgumentError, match="not one of this package"):
        cliff.load(tmp_path / "foreign.nc")
    newer = xr.load_dataset(saved, engine="h5netcdf").assign_attrs(cliff_format=store.FORMAT + 1)
    newer.to_netcdf(tmp_path / "newer.nc", engine="h5netcdf")
    with pytest.raises(ArgumentError, match="newer version"):
        cliff.load(tmp_path / "newer.nc")
    with pytest.raises(ArgumentError, match="no such file"):
        cliff.load(tmp_path / "absent.nc")
    other = xr.load_dataset(saved, engine="h5netcdf").assign_attrs(cliff_kind="ensemble")
    other.to_netcdf(tmp_path / "other.nc", engine="h5netcdf")
    with pytest.raises(ArgumentError, match="holds a ensemble"):
        cliff.Trajectory.load(tmp_path / "other.nc")


def test_whatever_is_a_result_is_saved(run, tmp_path):
    path = tmp_path / "file.nc"
    store.save(run, path)
    assert (store.load(path).theta == run.theta).all()
    grid = sweep(abs, {"x": [-1.0, 2.0]})
    store.save(grid, path)
    assert store.load(path).equals(grid)
    store.save(store.load(path), path)
    for other in (xr.Dataset({"n": 1}), 3):
        with pytest.raises(ArgumentError, match="not a result"):
            store.save(other, path)
    assert store.load(path).equals(grid)


def test_missing_directory_is_named(run, tmp_path):
    with pytest.raises(ArgumentError, match="does not exist"):
        run.save(tmp_path / "nowhere" / "run.nc")


def test_an_interrupted_write_leaves_the_old_file(tmp_path):
    target = tmp_path / "data.bin"
    store.write_atomic(target, lambda file: file.write(b"old"))

    def fails(file):
        file.write(b"half of the new")
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        store.write_atomic(target, fails)
    assert target.read_bytes() == b"old"
    assert [entry.name for entry in tmp_path.iterdir()] == ["data.bin"]
    store.write_atomic(target, lambda file: file.write(b"new"))
    assert target.read_bytes() == b"new"


def test_a_full_disk_leaves_the_old_file(tmp_path):
    def full(file):
        raise OSError(28, "No space left on device")

    target = tmp_path / "data.bin"
    target.write_bytes(b"old")
    with pytest.raises(OSError, match=r"No space left.*data\.bin"):
        store.write_atomic(target, full)
    assert target.read_bytes() == b"old"
    assert len(list(tmp_path.iterdir())) == 1


def test_parameters_nested_too_deeply_are_damage(run, tmp_path):
    path = run.save(tmp_path / "run.nc")
    with xr.open_dataset(path) as dataset:
        stored = dataset.load()
    stored.attrs["parameters"] = "[" * 100_000 + "]" * 100_000
    stored.to_netcdf(tmp_path / "deep.nc", engine="h5netcdf")
    with pytest.raises(ArgumentError, match=r"deep\.nc: is damaged: maximum recursion depth"):
        cliff.load(tmp_path / "deep.nc")
