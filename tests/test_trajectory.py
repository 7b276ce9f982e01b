"""Results on disk: round trips, provenance, refusals, and writes that are all or nothing."""

import dataclasses
import json

import numpy as np
import pytest
import xarray as xr

import cliff
from cliff import NestedLogit, integrate, store, sweep
from cliff.checks import ArgumentError

START = (0.01, 0.01, 0.01)


@pytest.fixture(scope="module")
def run():
    return integrate(NestedLogit(8, 32, label_bias="free"), [*START, 0.1], 150.0)


@pytest.fixture(scope="module")
def saved(run, tmp_path_factory):
    return run.save(tmp_path_factory.mktemp("saved") / "run.nc")


def same(a, b):
    if dataclasses.is_dataclass(a):
        return all(same(getattr(a, f.name), getattr(b, f.name)) for f in dataclasses.fields(a))
    return np.array_equal(a, b, equal_nan=True) if isinstance(a, np.ndarray) else a == b


def test_round_trip(run, saved):
    back = cliff.load(saved)
    bare = dataclasses.replace(back, stored_provenance={})
    assert same(bare, run)
    assert back.transition() == run.transition()
    np.testing.assert_array_equal(back.path(77.7), run.path(77.7))
    assert back.provenance == run.provenance
    assert not same(dataclasses.replace(bare, loss=bare.loss + 1e-12), run)


@pytest.mark.parametrize("method", ["radau", "euler"])
def test_round_trip_of_other_methods(method, tmp_path):
    step = 0.5 if method == "euler" else None
    run = integrate(NestedLogit(4, 4), START, 20.0, (1, 2, 3), method, step=step, t_eval=[1.0, 9.0])
    back = cliff.load(run.save(tmp_path / "run.nc"))
    assert same(dataclasses.replace(back, stored_provenance={}), run)


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
