"""Sweeps on every executor, and through kills, full disks and rivals."""

import json
import multiprocessing
import os
import resource
import signal
import subprocess
import sys
import time
from concurrent.futures import Future, ProcessPoolExecutor, ThreadPoolExecutor
from fractions import Fraction
from functools import partial

import numpy as np
import pytest

import cliff
from cliff.checks import ArgumentError
from cliff.metrics import FlowMetric
from cliff.store import open_dataset, save_dataset
from cliff.sweeps import SweepBroken, SweepIncomplete, sweep

AXES = {"pairs": np.array([2, 3, 5, 8]), "labels_per_pair": np.linspace(0.5, 4.0, 15)}


def product(x, y):
    if x == 2.0 and y == 5.0:
        raise ValueError("two and five do not go together")
    return {"product": x * y, "sum": x + y}


def dies(x):
    os.kill(os.getpid(), signal.SIGKILL)


def data_of(path):
    """Bytes of all variables and coordinates, and what the codes mean."""
    dataset = open_dataset(path, "sweep")
    return {str(name): dataset[name].values.tobytes() for name in dataset.variables} | {
        "outcomes": dataset.attrs["outcomes"]
    }


def test_cells_axes_units_and_failures():
    grid = sweep(product, {"x": [1.0, 2.0], "y": [3.0, 4.0, 5.0]}, units={"product": "nat"})
    assert grid["product"].dims == ("x", "y")
    assert grid["product"].attrs["units"] == "nat"
    assert float(grid["product"].sel(x=1.0, y=5.0)) == 5.0
    assert np.isnan(grid["sum"].sel(x=2.0, y=5.0))
    names = json.loads(grid.attrs["outcomes"])
    failed = names[int(grid["outcome"].sel(x=2.0, y=5.0))]
    assert failed == "ValueError: two and five do not go together"
    assert int((grid["outcome"] == 1).sum()) == 5
    assert json.loads(grid.attrs["parameters"])["function"] == "test_sweeps.product"


def test_executors_give_the_same_data():
    axes = {"x": np.arange(1.0, 5.0), "y": np.arange(3.0, 9.0)}
    here = sweep(product, axes)
    with ThreadPoolExecutor(3) as threads:
        assert sweep(product, axes, threads).identical(here)
    spawn = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(2, mp_context=spawn) as processes:
        assert sweep(product, axes, processes, block=5).identical(here)


def test_vectorized_metric_equals_single_calls():
    grid = sweep(FlowMetric(), AXES, vectorized=True, block=7)
    for n in (3, 8):
        for ratio in (1.5, 4.0):
            cell = grid.sel(pairs=n, labels_per_pair=ratio)
            labels = int(np.rint(ratio * n))
            run = cliff.integrate(cliff.NestedLogit(n, labels), [0.01] * 3, 1000.0)
            assert float(cell["t_transition"]) == run.transition().t_transition
    names = json.loads(grid.attrs["outcomes"])
    assert (
        names[int(grid["outcome"].sel(pairs=8, labels_per_pair=0.5))] == "fewer labels than pairs"
    )


def test_a_finished_file_is_read_and_not_computed(tmp_path):
    path = tmp_path / "grid.nc"
    first = sweep(product, {"x": [1.0, 2.0], "y": [3.0, 5.0]}, path=path)
    calls = []
    again = sweep(product, {"x": [1.0, 2.0], "y": [3.0, 5.0]}, path=path, progress=calls.append)
    assert again.equals(first)
    assert calls == [4]
    assert [entry.name for entry in tmp_path.iterdir()] == ["grid.nc"]


def test_a_stopped_sweep_goes_on(tmp_path):
    path, whole = tmp_path / "part.nc", tmp_path / "whole.nc"
    axes = {"x": np.arange(1.0, 9.0), "y": np.arange(1.0, 9.0)}
    done = []
    part = sweep(product, axes, path=path, progress=lambda n: done.append(n) or sum(done) >= 20)
    assert int((part["outcome"] == 0).sum()) == 64 - 20
    assert np.isnan(part["product"].values).sum() >= 44
    sweep(product, axes, path=path)
    sweep(product, axes, path=whole)
    assert data_of(path) == data_of(whole)


def test_files_of_other_sweeps_are_refused(tmp_path):
    path = tmp_path / "grid.nc"
    sweep(product, {"x": [1.0], "y": [3.0]}, path=path)
    before = path.read_bytes()
    for function, axes in (
        (product, {"x": [1.0], "y": [4.0]}),
        (max, {"x": [1.0], "y": [3.0]}),
        (FlowMetric(), {"alpha": [1.0]}),
    ):
        with pytest.raises(ArgumentError, match="other parameters"):
            sweep(function, axes, path=path)
    run = tmp_path / "run.nc"
    cliff.integrate(cliff.NestedLogit(2, 4), [0.1] * 3, 1.0).save(run)
    with pytest.raises(ArgumentError, match="holds a trajectory"):
        sweep(product, {"x": [1.0], "y": [3.0]}, path=run)
    assert path.read_bytes() == before


def test_two_sweeps_on_one_file_refuse_each_other(tmp_path):
    path = tmp_path / "grid.nc"

    def rival(x):
        with pytest.raises(ArgumentError, match="another sweep is writing"):
            sweep(product, {"x": [1.0], "y": [3.0]}, path=path)
        return x

    rival.parameters = {}
    grid = sweep(rival, {"x": [1.0, 2.0]}, path=path)
    assert (grid["outcome"] == 1).all()


def test_dead_workers_lose_nothing(tmp_path):
    path = tmp_path / "grid.nc"
    spawn = multiprocessing.get_context("spawn")
    with (
        ProcessPoolExecutor(1, mp_context=spawn) as pool,
        pytest.raises(SweepBroken, match="sweeping again"),
    ):
        sweep(dies, {"x": [1.0, 2.0]}, pool, path)
    assert (open_dataset(path)["outcome"] == 0).all()


def scaled(x, a):
    return a * x


class Scale:
    def __init__(self, a):
        self.a = a

    def __call__(self, x):
        return self.a * x

    def method(self, x):
        return self.a * x


class NamedScale(Scale):
    @property
    def parameters(self):
        return {"a": self.a}


@pytest.mark.parametrize(
    ("first", "second"),
    [
        (partial(scaled, a=1), partial(scaled, a=100)),
        (partial(scaled, a=np.arange(2000.0)[1]), partial(scaled, a=2.0)),
        (partial(partial(scaled), a=1), partial(Scale(1).method, 2)),
        (NamedScale(1), NamedScale(100)),
        (partial(NamedScale(1)), partial(NamedScale(100))),
        (partial(scaled, a=Fraction(1)), partial(scaled, a=Fraction(2))),
    ],
)
def test_what_is_bound_to_a_function_tells_its_files_apart(tmp_path, first, second):
    path = tmp_path / "grid.nc"
    axes = {"x": [1.0, 2.0]}
    grid = sweep(first, axes, path=path)
    assert sweep(first, axes, path=path).identical(grid)
    with pytest.raises(ArgumentError):
        sweep(second, axes, path=path)


def local_function():
    def function(x):
        return x

    return function


@pytest.mark.parametrize(
    "function",
    [
        lambda x: x,
        local_function(),
        Scale(1),
        Scale(1).method,
        partial(lambda x, a: a * x, a=1),
        partial(scaled, a=object()),
    ],
)
def test_a_file_needs_a_function_that_can_be_told_from_others(tmp_path, function):
    path = tmp_path / "grid.nc"
    with pytest.raises(ArgumentError, match="tells it from others") as caught:
        sweep(function, {"x": [1.0]}, path=path)
    assert "\n" not in str(caught.value)
    assert not path.exists()
    assert "outcome" in sweep(function, {"x": [1.0]})


def kinds(x):
    """Integers up to x = 2, and numbers of other kinds from there."""
    return {
        "half": x if x[0] < 2 else x + 0.25,
        "large": x.astype(np.int64) << (20 * x[0]),
        "whole": x.astype(np.int64),
        "sometimes": x,
    }


def test_numbers_are_kept_whatever_the_first_block_was(tmp_path):
    path = tmp_path / "grid.nc"
    axes = {"x": np.arange(4)}
    stop = sweep(kinds, axes, path=path, vectorized=True, block=1, progress=lambda n: n == 1)
    assert stop["half"].dtype == np.int64
    assert stop["half"].values.tolist() == [0, -1, -1, -1]
    grid = sweep(kinds, axes, path=path, vectorized=True, block=1)
    assert grid["half"].values.tolist() == [0.0, 1.0, 2.25, 3.25]
    assert grid["large"].values.tolist() == [0.0, 2.0**20, 2.0**41, 3.0 * 2.0**60]
    assert grid["whole"].dtype == np.int64
    assert list(grid.data_vars) == ["outcome", "half", "large", "sometimes", "whole"]


def picky(x):
    if (x == 2).any():
        raise ValueError("no twos")
    return {"b": x, "a": 0.5 * x}


@pytest.mark.parametrize("block", [1, 2, 3, 5])
def test_a_cell_that_raises_fails_alone_in_any_block(block):
    grid = sweep(picky, {"x": np.arange(5)}, vectorized=True, block=block)
    assert grid.identical(sweep(picky, {"x": np.arange(5)}, vectorized=True, block=1))
    assert grid["outcome"].values.tolist() == [1, 1, 2, 1, 1]
    assert json.loads(grid.attrs["outcomes"])[2] == "ValueError: no twos"
    assert grid["b"].values.tolist() == [0, 1, -1, 3, 4]
    assert grid["b"].dtype == np.int64


def in_other_order(x):
    return {"a": x, "b": x} if x < 2.0 else {"b": x, "a": x}


def test_variables_do_not_follow_the_order_of_completion():
    axes = {"x": [2.0, 1.0]}
    assert list(sweep(in_other_order, axes).data_vars) == ["outcome", "a", "b"]
    assert list(sweep(in_other_order, {"x": [1.0, 2.0]}).data_vars) == ["outcome", "a", "b"]


@pytest.mark.parametrize("name", ["outcome", "x", "failure"])
def test_a_result_cannot_have_the_name_of_something_else(name):
    cells = []
    with pytest.raises(ArgumentError, match="needs a name other than"):
        sweep(lambda x: cells.append(x) or {name: x}, {"x": [1.0, 2.0, 3.0]})
    assert len(cells) == 1
    with pytest.raises(ArgumentError, match="name that the results need"):
        sweep(product, {"outcome": [1.0]})


def test_cells_that_ran_out_of_memory_are_tried_again(tmp_path):
    path = tmp_path / "grid.nc"
    short = [MemoryError("full"), OSError("too many files")]

    def function(x):
        if x == 2.0 and short:
            raise short.pop()
        return x

    function.parameters = {}
    for reason in ("OSError: too many files", "MemoryError: full"):
        with pytest.warns(SweepIncomplete, match=f"1 cells are missing .{reason}"):
            grid = sweep(function, {"x": [1.0, 2.0, 3.0]}, path=path)
        assert grid["outcome"].values.tolist() == [1, 0, 1]
    grid = sweep(function, {"x": [1.0, 2.0, 3.0]}, path=path)
    assert grid["value"].values.tolist() == [1.0, 2.0, 3.0]


def test_a_finished_file_is_left_alone(tmp_path, monkeypatch):
    path = tmp_path / "grid.nc"
    sweep(product, {"x": [1.0], "y": [3.0]}, path=path)
    before = path.stat()
    content = path.read_bytes()
    monkeypatch.setattr(
        "cliff.store.environment",
        lambda: {"versions": "{}", "git_commit": "", "command": "another"},
    )
    sweep(product, {"x": [1.0], "y": [3.0]}, path=path)
    assert path.stat().st_mtime_ns == before.st_mtime_ns
    assert path.read_bytes() == content


class LostScheduler(ThreadPoolExecutor):
    """Loses its second task as other libraries do, with an error of their own."""

    class KilledWorker(Exception):
        pass

    def submit(self, function, /, *args):
        future = Future()
        if args[0][0][0] == 1.0:
            future.set_result(function(*args))
        else:
            future.set_exception(self.KilledWorker("attempted on 4 workers"))
        return future


def test_any_failure_of_an_executor_is_a_broken_sweep(tmp_path):
    path = tmp_path / "grid.nc"
    with LostScheduler() as pool, pytest.raises(SweepBroken, match="KilledWorker: attempted on 4"):
        sweep(partial(scaled, a=1.0), {"x": [1.0, 2.0]}, pool, path)


@pytest.mark.parametrize(
    "axes",
    [
        {},
        {"x": []},
        {"x": [1.0, np.nan]},
        {"x": [1.0, 1.0]},
        {"x": [[1.0]]},
        {"x": ["a"]},
        {"x": [1, 2**53 + 1]},
        {"x": [-(2**53) - 1, 0]},
        {"x": np.array([2**63], dtype=np.uint64)},
    ],
)
def test_bad_axes_are_named(axes):
    with pytest.raises(ArgumentError):
        sweep(product, axes)


def phase_command(path, *more):
    return [
        sys.executable, "-m", "cliff", "phase", "--x", "alpha=-3:3:60", "--y", "xi=-3:3:60",
        "--metric", "loss", "--t-end", "3000", "--labels", "9", "-q", "-o", str(path), *more,
    ]  # fmt: skip


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_kill_at_ten_random_moments(tmp_path, rng):
    """SIGKILL of a phase diagram that writes its file all the time; then resumed to the end."""
    whole, killed = tmp_path / "whole.nc", tmp_path / "killed.nc"
    subprocess.run(phase_command(whole), check=True, capture_output=True)
    began = time.monotonic()  # the first run may have had to compile
    subprocess.run(phase_command(killed), check=True, capture_output=True)
    duration = time.monotonic() - began
    killed.unlink()
    script = (
        "import sys, cliff.sweeps, functools\n"
        "cliff.sweeps.sweep = functools.partial(cliff.sweeps.sweep, save_every=0.0, block=16)\n"
        "from cliff.cli import main\nmain(sys.argv[1:])\n"
    )
    arguments = phase_command(killed, "--resume")[3:]
    kills = 0
    while kills < 10:
        process = subprocess.Popen([sys.executable, "-c", script, *arguments])
        time.sleep(rng.uniform(0.2, 0.9) * duration)
        if process.poll() is None:
            process.kill()
            kills += 1
        if process.wait() == 0:  # it was done before its time came: start over
            killed.unlink()
            duration *= 0.8
    subprocess.run(phase_command(killed, "--resume"), check=True, capture_output=True)
    assert data_of(killed) == data_of(whole)
    assert sorted(entry.name for entry in tmp_path.iterdir() if entry.suffix == ".nc") == [
        "killed.nc",
        "whole.nc",
    ]


def limited(path, size):
    """The sweep in a process whose files may not outgrow `size` bytes."""

    def limit():
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))

    # kernels are compiled by now: a limit on files would hit numba's cache too
    return subprocess.run(
        phase_command(path, "--resume"), preexec_fn=limit, capture_output=True, text=True
    )


@pytest.mark.slow
def test_a_full_disk_is_told_and_survived(tmp_path):
    path, whole = tmp_path / "grid.nc", tmp_path / "whole.nc"
    subprocess.run(phase_command(whole), check=True, capture_output=True)
    done = limited(path, 20_000)
    assert done.returncode == 1
    assert done.stderr.count("\n") == 1
    assert "File too large" in done.stderr
    assert not path.exists()
    subprocess.run(phase_command(path, "--resume"), check=True, capture_output=True)
    assert data_of(path) == data_of(whole)
    part = open_dataset(path)
    part["outcome"][30:] = 0
    save_dataset(part, path, "sweep")
    before = path.read_bytes()
    assert limited(path, 20_000).returncode == 1
    assert path.read_bytes() == before
