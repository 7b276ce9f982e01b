"""Sweeps on every executor, and through kills, full disks and rivals."""

import errno
import json
import multiprocessing
import os
import pickle
import resource
import signal
import subprocess
import sys
import time
import types
from concurrent.futures import Future, ProcessPoolExecutor, ThreadPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from fractions import Fraction
from functools import partial

import numba
import numpy as np
import pytest
import xarray as xr

import cliff
from cliff import NestedLogit
from cliff.checks import ArgumentError
from cliff.identity import code_version
from cliff.metrics import FlowMetric
from cliff.store import open_dataset, save_dataset
from cliff.sweeps import SweepBroken, SweepIncomplete, sweep, upgraded

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
    for function, axes, difference in (
        (product, {"x": [1.0], "y": [4.0]}, r"axes.y\[0\] = 3.0, not 4.0"),
        (product, {"x": [1.0], "y": [3.0, 4.0]}, "1 values of axes.y, not 2"),
        (product, {"x": [1.0]}, r"axes.y = \[3.0\], not nothing"),
        (max, {"x": [1.0], "y": [3.0]}, "function = test_sweeps.product, not builtins.max"),
    ):
        with pytest.raises(ArgumentError, match=f"holds a sweep with {difference}: name another"):
            sweep(function, axes, path=path)
    metric = tmp_path / "metric.nc"
    sweep(FlowMetric(t_end=1.0), {"alpha": [1.0]}, path=metric, vectorized=True)
    for other, difference in (
        (FlowMetric(t_end=2.0), "t_end = 1.0, not 2.0"),
        (FlowMetric(t_end=1.0, theta0=(0.01, 0.5, 0.01)), r"theta0\[1\] = 0.01, not 0.5"),
        (FlowMetric(model=NestedLogit(positions="mean"), t_end=1.0), "positions = exact, not mean"),
    ):
        with pytest.raises(ArgumentError, match=f"holds a sweep with {difference}"):
            sweep(other, {"alpha": [1.0]}, path=metric, vectorized=True)
    run = tmp_path / "run.nc"
    cliff.integrate(cliff.NestedLogit(2, 4), [0.1] * 3, 1.0).save(run)
    with pytest.raises(ArgumentError, match="holds a trajectory"):
        sweep(product, {"x": [1.0], "y": [3.0]}, path=run)
    assert path.read_bytes() == before


def test_two_sweeps_on_one_file_refuse_each_other(tmp_path):
    path = tmp_path / "grid.nc"

    def rival(x):
        with pytest.raises(ArgumentError, match="another sweep writes to it"):
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
        return self.a * x + 1.0


def measured(x, data):
    return x + float(data[0])


def labelled(middle):
    """An array whose text leaves out its middle."""
    values = np.zeros(1000)
    values[500] = middle
    return xr.DataArray(values)


class Shortened:
    def __repr__(self):
        return "Shortened(1, 2, ..., 9)"

    def __rmul__(self, x):
        return x

    __mul__ = __rmul__


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
        (partial(measured, data=labelled(0.0)), partial(measured, data=labelled(1.0))),
    ],
)
def test_what_is_bound_to_a_function_identifies_it(tmp_path, first, second):
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


def test_settings_that_json_cannot_hold_are_refused():
    function = local_function()
    function.parameters = {1: 2, "a": 3}
    with pytest.raises(ArgumentError, match="parameters that JSON cannot hold"):
        sweep(function, {"x": [1.0]})


@pytest.mark.parametrize(
    "function",
    [
        lambda x: x,
        local_function(),
        Scale(1),
        Scale(1).method,
        partial(lambda x, a: a * x, a=1),
        partial(scaled, a=object()),
        partial(scaled, a=Shortened()),
    ],
)
def test_a_file_needs_a_function_that_it_can_identify(tmp_path, function):
    path = tmp_path / "grid.nc"
    with pytest.raises(ArgumentError, match="identifies it") as caught:
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


def test_a_masked_axis_is_refused():
    with pytest.raises(ArgumentError, match=r"x=.*must not be a masked array"):
        sweep(product, {"x": np.ma.masked_array([1.0, 2.0], [True, False]), "y": [1.0]})
    with pytest.raises(ArgumentError, match=r"x=.*real numbers"):
        sweep(product, {"x": [1.0, [2.0, 3.0]], "y": [1.0]})


def doubles_in_place(x):
    x *= 2.0
    if (x > 10.0).any():
        raise ValueError("too large")
    return x


def test_a_function_that_changes_its_arguments_is_not_handed_them_again():
    grid = sweep(doubles_in_place, {"x": [1.0, 2.0, 3.0, 100.0]}, vectorized=True)
    assert grid["value"].values[:3].tolist() == [2.0, 4.0, 6.0]
    assert grid["outcome"].values.tolist() == [1, 1, 1, 2]


visited = []


def place(x, y):
    visited.append((x, y))
    return {"place": 10.0 * x + y, "column": x}


GRID = {"x": [1.0, 2.0, 3.0], "y": [1.0, 4.0, 2.0, 3.0]}


@pytest.mark.parametrize(
    ("change", "n_computed"),
    [
        (lambda data: data.transpose("y", "x"), 0),
        (lambda data: data.sortby("x", ascending=False), 0),
        (lambda data: data.sortby("y"), 0),
        (lambda data: data.isel(x=[2, 0, 1], y=[3, 2, 1, 0]).transpose("y", "x"), 0),
        (lambda data: data.isel(y=slice(1, 3)), 6),
        (lambda data: data.isel(x=[1]), 8),
        (lambda data: data.isel(x=[1], y=[2]), 11),
        (lambda data: data.isel(y=[3, 1]).reindex(y=GRID["y"]), 6),
    ],
)
def test_a_file_that_was_reordered_or_cut_is_read_by_its_coordinates(tmp_path, change, n_computed):
    path = tmp_path / "grid.nc"
    whole = sweep(place, GRID, path=path)
    save_dataset(change(open_dataset(path)), path, "sweep")
    visited.clear()
    again = sweep(place, GRID, path=path)
    assert len(visited) == n_computed
    assert again.equals(whole)
    assert open_dataset(path).sel(GRID).transpose("x", "y").equals(whole)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda data: data.isel(x=0), "holds outcome over y, not over x, y"),
        (lambda data: data.isel(x=0, y=0), "holds outcome over no axes, not over x, y"),
        (lambda data: data.assign(place=data["place"].isel(y=0)), "holds place over x, not over"),
        (lambda data: data.expand_dims(z=[1.0]), "holds outcome over z, x, y"),
        (lambda data: data.assign_coords(x=data["x"] + 0.5), "holds x = 1.5, which is not on"),
        (lambda data: data.assign_coords(x=data["x"] + 9.0), "holds x = 10.0, which is not on"),
        (lambda data: data.isel(x=[0, 1, 1]), "holds values of x twice"),
        (lambda data: data.drop_vars("y"), "holds no values of the axis y"),
        (lambda data: data.assign(outcome=data["outcome"] + 7), "holds outcomes without a name"),
    ],
)
def test_a_file_whose_cells_have_no_place_on_the_grid_is_refused(tmp_path, change, reason):
    path = tmp_path / "grid.nc"
    sweep(place, GRID, path=path)
    save_dataset(change(open_dataset(path)), path, "sweep")
    before = path.read_bytes()
    with pytest.raises(ArgumentError, match=reason) as caught:
        sweep(place, GRID, path=path)
    assert "\n" not in str(caught.value)
    assert path.read_bytes() == before


SOURCE = """
SCALE = 2.0


def helper(x):
    return SCALE * x


def outer(y):
    def function(x, offset=0.0):
        \"\"\"Documented.\"\"\"
        return helper(x) + offset + y
    return function


class Metric:
    parameters = {}

    @property
    def slope(self):
        return 1.0

    def __call__(self, x):
        return helper(x) * self.slope


closed = outer(1.0)
closed.parameters = {}
metric = Metric()


def function(x, offset=0.0):
    # adds
    return helper(x) + offset
"""


def module_of(source):
    """The names of a module with the given source, as if it had been imported."""
    module = types.ModuleType("script")
    exec(source, vars(module))  # what a user's edited file is to Python
    return module


@pytest.mark.parametrize("name", ["function", "closed", "metric"])
@pytest.mark.parametrize(
    ("old", "new", "concerned"),
    [
        ("x) + offset", "x) - offset", {"function", "closed"}),
        ("offset=0.0", "offset=1.0", {"function", "closed"}),
        ("SCALE * x", "SCALE * x * x", {"function", "closed", "metric"}),
        ("SCALE = 2.0", "SCALE = 3.0", {"function", "closed", "metric"}),
        ("outer(1.0)", "outer(5.0)", {"closed"}),
        ("return 1.0", "return 1.5", {"metric"}),
        ("* self.slope", "+ self.slope", {"metric"}),
        ("# adds", "# adds up", set()),
        ("SCALE = 2.0", "SCALE = 2.0\nUNUSED = 1\n\n\ndef unused(): ...\n", set()),
    ],
)
def test_a_function_that_was_edited_has_another_version(name, old, new, concerned):
    versions = []
    for source in (SOURCE, SOURCE.replace(old, new)):
        versions.append(code_version(getattr(module_of(source), name)))
    assert source != SOURCE
    assert (versions[0] != versions[1]) == (name in concerned)
    assert versions[0].startswith(f"{sys.version_info.major}.{sys.version_info.minor}-")


DECORATED = """
from functools import partial, wraps

def twice(function):
    @wraps(function)
    def wrapper(**cells):
        return 2 * function(**cells)
    return wrapper

def power(x, n):
    return x**n

class Settings:
    slope = 3.0

square = partial(power, n=2)

@twice
def f(x, y):
    return square(x) - Settings.slope * y
"""


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (
            "def f(x, y):\n    return square(x) - Settings.slope * y",
            "def f(y, x):\n    return square(y) - Settings.slope * x",
        ),
        ("2 * function", "3 * function"),
        ("slope = 3.0", "slope = 4.0"),
        ("n=2", "n=3"),
        ("x**n", "n**x"),
    ],
)
def test_an_edit_beside_the_code_of_the_function_is_another_version(old, new):
    assert old in DECORATED
    before, after = (module_of(text).f for text in (DECORATED, DECORATED.replace(old, new)))
    assert code_version(before) != code_version(after)
    assert code_version(before) == code_version(module_of(DECORATED).f)


def test_docstrings_partials_and_builtin_functions_in_versions():
    documented = module_of("def f(x):\n    'One.'\n    return x + 'one'").f
    again = module_of("def f(x):\n    'Another.'\n    return x + 'one'").f
    edited = module_of("def f(x):\n    'One.'\n    return x + 'another'").f
    assert code_version(documented) == code_version(again) != code_version(edited)
    assert code_version(partial(partial(scaled, a=1))) == code_version(scaled)
    assert code_version(Scale(1).method) == code_version(Scale(2).method)
    assert code_version(Scale(1).method) != code_version(Scale(1))
    assert code_version(max) == ""
    assert code_version(numba.njit(scaled)) == code_version(scaled)


def test_a_function_that_names_what_comes_later_has_a_version():
    def function(x):
        return later(x)

    before = code_version(function)

    def later(x):
        return x

    assert before != code_version(function)


def versioned(offset):
    """The same function by name, in versions that differ by a constant of its code."""

    def function(x):
        return x + offset

    function.parameters = {}
    return function


def test_a_file_made_by_two_versions_of_a_function_is_refused_or_says_so(tmp_path):
    path, axes = tmp_path / "grid.nc", {"x": [1.0, 2.0, 3.0]}
    old, new = code_version(versioned(0.0)), code_version(versioned(5.0))
    sweep(versioned(0.0), axes, path=path)
    with pytest.raises(ArgumentError, match=f"another version.*{old}, now {new}.: name another"):
        sweep(versioned(5.0), axes, path=path)
    cut = open_dataset(path)
    assert json.loads(cut.attrs["function_versions"]) == [old]
    assert "function_version" not in cut
    save_dataset(cut.isel(x=[1]), path, "sweep")
    with pytest.raises(ArgumentError, match="or allow mixed versions"):
        sweep(versioned(5.0), axes, path=path)
    for _ in range(2):
        mixed = sweep(versioned(5.0), axes, path=path, mixed_versions=True)
        assert mixed["value"].values.tolist() == [6.0, 2.0, 8.0]
        names = json.loads(mixed.attrs["function_versions"])
        assert [names[i] for i in mixed["function_version"].values] == [new, old, new]
        assert open_dataset(path).equals(mixed)
    with pytest.raises(ArgumentError, match="another version"):
        sweep(versioned(5.0), axes, path=path)


def test_a_file_without_cells_or_without_versions_can_be_resumed(tmp_path):
    path, axes = tmp_path / "grid.nc", {"x": [1.0, 2.0]}
    nothing = sweep(versioned(0.0), axes, path=path, progress=lambda n: True, block=1)
    save_dataset(nothing.assign(outcome=0 * nothing["outcome"]), path, "sweep")
    grid = sweep(versioned(5.0), axes, path=path)
    assert grid["value"].values.tolist() == [6.0, 7.0]
    assert json.loads(grid.attrs["function_versions"]) == [code_version(versioned(5.0))]
    part = grid.isel(x=[0])
    del part.attrs["function_versions"]  # as in files of format 1
    save_dataset(part, path, "sweep")
    mixed = sweep(versioned(0.0), axes, path=path)
    assert mixed["value"].values.tolist() == [6.0, 2.0]
    names = json.loads(mixed.attrs["function_versions"])
    assert [names[i] for i in mixed["function_version"].values] == [
        "",
        code_version(versioned(0.0)),
    ]


calls = []


def one_bad(x):
    calls.append(len(x))
    if (x == 700.0).any():
        raise ValueError("seven hundred")
    return x


def test_one_bad_cell_of_a_block_costs_few_calls():
    calls.clear()
    grid = sweep(one_bad, {"x": np.arange(1024.0)}, vectorized=True)
    assert np.flatnonzero(grid["outcome"].values != 1).tolist() == [700]
    assert np.isnan(grid["value"].values[700])
    assert np.delete(grid["value"].values, 700).tolist() == np.delete(np.arange(1024), 700).tolist()
    assert len(calls) <= 21


def failing(x):
    return {"value": x, "failure": np.array([f"failure {int(number)}" for number in x])}


def test_failures_beyond_a_thousand_are_summed_up():
    grid = sweep(failing, {"x": np.arange(40_000.0)}, vectorized=True)
    names = json.loads(grid.attrs["outcomes"])
    assert len(names) == 1003
    of_cell = [names[code] for code in grid["outcome"].values]
    assert of_cell[0] == "failure 0"
    assert of_cell[999] == "failure 999"
    assert set(of_cell[1000:]) == {"other failures"}


def test_a_grid_beyond_memory_is_refused_at_once(monkeypatch):
    pages = {"SC_PHYS_PAGES": 40, "SC_PAGE_SIZE": 1000}
    monkeypatch.setattr(os, "sysconf", pages.__getitem__)
    sweep(place, {"x": np.arange(10.0), "y": np.arange(100.0)}, progress=lambda n: True)
    with pytest.raises(ArgumentError, match=r"axes=11 x × 100 y: takes about 4.*e-05 GB of memory"):
        sweep(place, {"x": np.arange(11.0), "y": np.arange(100.0)})


def test_names_and_failures_are_kept_in_any_script(tmp_path):
    path = tmp_path / "grid.nc"

    def function(β):
        if β == 2.0:
            raise ValueError("失敗")
        return {"потери": β}

    function.parameters = {"имя": "α"}
    grid = sweep(function, {"β": [1.0, 2.0]}, path=path)
    stored = open_dataset(path, "sweep")
    assert stored.equals(grid)
    assert json.loads(stored.attrs["outcomes"])[2] == "ValueError: 失敗"
    function.parameters = {"имя": "ω"}
    with pytest.raises(ArgumentError, match="имя = α, not ω"):
        sweep(function, {"β": [1.0, 2.0]}, path=path)


@pytest.mark.parametrize("axes", [[("x", [1.0]), ("x", [2.0])], {"a/b": [1.0]}, {1: [1.0]}])
def test_axes_need_names_that_a_file_can_hold(axes):
    with pytest.raises(ArgumentError, match="axes="):
        sweep(lambda **_: 1.0, axes)


def test_units_and_descriptions():
    grid = sweep(
        product, {"x": [1.0], "y": [3.0]}, units={"x": "m"}, long_names={"product": "x times y"}
    )
    assert grid["x"].attrs == {"units": "m", "long_name": "x"}
    assert grid["product"].attrs == {"units": "1", "long_name": "x times y"}
    assert grid["outcome"].attrs["long_name"]


@pytest.mark.parametrize("number", [errno.ENOSYS, errno.ENOLCK, errno.ENOTSUP])
def test_a_file_system_without_locks_is_no_rival(tmp_path, monkeypatch, number):
    def flock(*_):
        raise OSError(number, "no locks here")

    monkeypatch.setattr("fcntl.flock", flock)
    path = tmp_path / "grid.nc"

    def rival(x):
        with pytest.raises(ArgumentError, match="another sweep writes to it"):
            sweep(product, {"x": [1.0], "y": [3.0]}, path=path)
        return x

    rival.parameters = {}
    assert sweep(rival, {"x": [1.0]}, path=path)["outcome"].values.tolist() == [1]
    assert [entry.name for entry in tmp_path.iterdir()] == ["grid.nc"]


STOPPED = """
import sys, time
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
import numpy as np
from cliff.sweeps import sweep

def slow(x):
    if x == 3.0:
        print("third", flush=True)
    time.sleep(0.05)
    return x

if __name__ == "__main__":
    pool = ProcessPoolExecutor(2, get_context("spawn")) if sys.argv[2] == "pool" else None
    sweep(slow, {"x": np.arange(1000.0)}, pool, sys.argv[1], save_every=1e9)
"""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("where", ["here", "pool"])
def test_a_signal_stops_a_sweep_and_keeps_what_is_done(tmp_path, number, where):
    script, path = tmp_path / "script.py", tmp_path / "grid.nc"
    script.write_text(STOPPED)
    process = subprocess.Popen(
        [sys.executable, str(script), str(path), where], stdout=subprocess.PIPE,
        stderr=subprocess.PIPE, text=True, start_new_session=True,
    )  # fmt: skip
    assert process.stdout.readline() == "third\n"
    if number == signal.SIGINT:  # a terminal's Ctrl-C reaches the workers as well
        os.killpg(process.pid, number)
    else:
        process.send_signal(number)
    _, said = process.communicate(timeout=120)
    assert process.returncode != 0
    assert "KeyboardInterrupt" in said or "Terminated" in said
    assert "SweepBroken" not in said
    done = open_dataset(path, "sweep")["outcome"].values == 1
    assert 0 < done.sum() < 1000


class Interrupted(ThreadPoolExecutor):
    """A pool whose workers die of the Ctrl-C that the sweep notes."""

    def submit(self, function, /, *args):
        os.kill(os.getpid(), signal.SIGINT)
        future = Future()
        future.set_exception(BrokenProcessPool("a worker died"))
        return future


def test_workers_that_die_of_a_signal_do_not_break_the_sweep(tmp_path):
    path = tmp_path / "grid.nc"
    with Interrupted() as pool, pytest.raises(KeyboardInterrupt):
        sweep(partial(scaled, a=1.0), {"x": np.arange(100.0)}, pool, path, block=100)
    assert (open_dataset(path)["outcome"] == 0).all()


def test_a_sweep_of_the_flow_survives_a_process_pool(tmp_path):
    axes = {"alpha": np.linspace(-1.0, 1.0, 5), "labels": [8, 16]}
    function = pickle.loads(pickle.dumps(FlowMetric("loss", t_end=50.0, workers=1)))
    assert function == FlowMetric("loss", t_end=50.0, workers=1)
    here = sweep(function, axes, vectorized=True)
    spawn = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(2, mp_context=spawn) as pool:
        assert sweep(function, axes, pool, vectorized=True, block=3).identical(here)


def test_phase_diagrams_of_earlier_versions_are_resumed(tmp_path):
    """Format 1: the metric's old name, a status a cell, no versions of the function."""
    path, axes = tmp_path / "grid.nc", {"alpha": np.linspace(0.0, 1.0, 4)}
    function = FlowMetric("loss", t_end=50.0)
    now = sweep(function, axes, vectorized=True)
    old = now.assign(
        status=("alpha", np.array([1, 2, 4, -1], np.int32)),
        outcome=("alpha", np.array([1, 1, 1, 0], np.int16)),
    )
    del old.attrs["function_versions"]
    old.attrs["parameters"] = old.attrs["parameters"].replace("cliff.metrics.", "cliff.analysis.")
    save_dataset(old, path, "sweep")
    grid = sweep(function, axes, path=path, vectorized=True)
    names = json.loads(grid.attrs["outcomes"])
    assert [names[c] for c in grid["outcome"].values] == [
        "done",
        "step limit",
        "not finite",
        "done",
    ]
    assert np.isnan(grid["loss"].values).tolist() == [False, True, True, False]
    assert "status" not in grid
    assert upgraded(now) is now


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
