"""Sweeps: a function over a grid, on any executor, into a file that survives being killed."""

from __future__ import annotations

import json
import math
import os
import time
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Executor, Future, wait
from contextlib import nullcontext
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from cliff.checks import (
    LARGEST_INTEGER,
    ArgumentError,
    check_memory,
    finite_array,
    integer,
    shorten,
)
from cliff.identity import code_version, identity
from cliff.interrupt import StopRequest, deferred
from cliff.store import check_name, locked, open_dataset, provenance, save

if TYPE_CHECKING:
    import xarray as xr

MISSING, DONE = 0, 1
"""Codes of `outcome`: not computed yet, computed; higher ones are failures, named in `outcomes`."""

OTHER_FAILURES = "other failures"
"""Name of failures beyond the first `_MOST_FAILURES` different ones."""

_MOST_FAILURES = 1000

_IN_FLIGHT = 64
"""Blocks handed to an executor at a time, which bounds the memory that waiting ones take."""

_BYTES_PER_CELL = 40
"""Memory of a cell with one result, here, as a dataset and as the bytes of a file."""

RESERVED = ("outcome", "failure", "function_version")
"""Names that neither an axis nor a result can have."""

_TRANSIENT = (MemoryError, OSError)
"""Errors that do not depend on the cell: it may well succeed another time."""


class SweepBroken(RuntimeError):
    """The executor failed. The file holds the cells that are done, and can be resumed."""


class SweepIncomplete(RuntimeWarning):
    """Cells are missing, because memory or files ran out in them; resuming tries them again."""


def sweep(
    function: Callable[..., Any],
    axes: Mapping[str, ArrayLike],
    executor: Executor | None = None,
    path: str | os.PathLike[str] | None = None,
    *,
    vectorized: bool = False,
    block: int | None = None,
    units: Mapping[str, str] | None = None,
    long_names: Mapping[str, str] | None = None,
    mixed_versions: bool = False,
    save_every: float = 10.0,
    progress: Callable[[int], object] | None = None,
) -> xr.Dataset:
    """Evaluate a function over a grid.

    Parameters
    ----------
    function : callable
        Called with one keyword argument an axis. Returns a number, or a dict of numbers. A
        `vectorized` function takes arrays of shape (m,), the cells of a block, and returns arrays
        of shape (m,) or a dict of them; an entry ``"failure"`` (str, '' for success) names the
        cells that failed. If it raises, the block is halved until the cells to blame stand alone.
        An executor of processes needs a function that can be pickled. A file identifies the
        function by its module, its name, the arguments that `functools.partial` binds and its
        attribute ``parameters`` (a mapping for JSON), which instances, bound methods and functions
        without a name in a module need, and by its code (`cliff.identity.code_version`).
    axes : mapping of str to array_like, shape (n,)
        The grid: its axes in order, each with its values.
    executor : concurrent.futures.Executor, optional
        Where blocks are computed: threads, processes (use a context of spawn or forkserver), or
        ``dask.distributed.Client(...).get_executor()``. None computes them here. The data do not
        depend on it.
    path : path-like, optional
        NetCDF file that is rewritten, atomically, as the sweep goes on. An existing file of the
        same sweep is resumed: its cells are found by their coordinates, whatever their order, and
        cells that it lacks are computed.
    vectorized : bool
        Whether `function` takes blocks.
    block : int, optional
        Cells of a block: 1 by default, 1024 for a vectorized function.
    units, long_names : mapping of str to str, optional
        Units (1 by default) and descriptions (the name by default) of axes and results.
    mixed_versions : bool
        Whether to resume a file whose cells were computed by another version of the function's
        code.
    save_every : float
        Seconds between writes.
    progress : callable, optional
        Called with the number of cells done since the last call; a true answer stops the sweep,
        which then returns what it has. Whoever passes it answers Ctrl-C and SIGTERM, too. Without
        it, they stop the sweep after the current block, which is then in the file, and raise.

    Returns
    -------
    xarray.Dataset
        One variable a result, sorted by name, and ``outcome`` with the code of each cell; the
        attribute ``outcomes`` (JSON) lists what the codes mean, and counts what exceeds 1,000
        different failures as "other failures". Results are float64, NaN where the cell failed or is
        missing; those of a vectorized function that are integers in all cells are int64, and −1
        there. The attribute ``function_versions`` (JSON) lists the versions of the function's code,
        '' where a file does not say. If there are several, the variable ``function_version`` has
        the one of each cell as an index into them, −1 for a missing cell.

    Raises
    ------
    ArgumentError
        If an axis is empty, a name cannot be stored or is taken, the grid does not fit into memory,
        the file is of another sweep or of another version of the function, its cells do not lie on
        the grid, another process is sweeping into it, or nothing identifies the function.
    SweepBroken
        If the executor failed for good.
    KeyboardInterrupt
        After Ctrl-C or SIGTERM, without `progress`.

    Warns
    -----
    SweepIncomplete
        If cells are missing because memory or files ran out in them.

    Examples
    --------
    >>> grid = sweep(lambda x, y: x * y, {"x": [1.0, 2.0], "y": [3.0, 4.0, 5.0]})
    >>> float(grid["value"].sel(x=2.0, y=5.0))
    10.0
    """
    if not isinstance(axes, Mapping) or not axes:
        raise ArgumentError("axes", axes, "must map the name of at least one axis to its values")
    grid = {name: _axis(name, values) for name, values in axes.items()}
    size = integer("block", (1024 if vectorized else 1) if block is None else block, 1)
    check_cells({name: len(values) for name, values in grid.items()})
    described = identity(function, path is not None)
    described["axes"] = {name: values.tolist() for name, values in grid.items()}
    attributes = {"units": units or {}, "long_name": long_names or {}}
    table = _Table(grid, described, code_version(function), attributes)
    evaluate = _Block(function, tuple(grid), vectorized)
    with (
        deferred() if progress is None else nullcontext(StopRequest()) as stop,
        locked(path, "path", "sweep"),
    ):
        if path is not None and os.path.exists(path):
            table.resume(path, mixed_versions)
        if progress:
            progress(int((table.outcome != MISSING).sum()))
        try:
            missing = np.flatnonzero(table.outcome == MISSING)
            blocks = (missing[start : start + size] for start in range(0, len(missing), size))
            saved = time.monotonic()
            for cells, parts in _results(table, evaluate, executor, blocks, stop):
                table.put(cells, parts)
                if path is not None and time.monotonic() - saved >= save_every:
                    save(table.to_dataset(), path)
                    saved = time.monotonic()
                if stop or (progress and progress(len(cells))):
                    break
        finally:
            if path is not None and (table.changed or not os.path.exists(path)):
                save(table.to_dataset(), path)
    stop.raise_if_made()
    if table.n_retry:
        warnings.warn(
            f"{table.n_retry} cells are missing ({table.hitch}); sweeping again tries them again",
            SweepIncomplete,
            stacklevel=2,
        )
    return table.to_dataset()


_RENAMED = {"cliff.analysis.FlowMetric": "cliff.metrics.FlowMetric"}
"""Functions that had another name in files of earlier versions."""

_RENAMED_SETTINGS = {"cliff.metrics.FlowMetric": {"pairs": "n_pairs", "labels": "n_labels"}}
"""Settings of functions that had another name in files of earlier versions."""

_EARLIER_STATUSES = {2: "step limit", 3: "step too small", 4: "not finite"}
"""Codes of flows that stopped early in the variable ``status``, which those functions had."""


def description(dataset: xr.Dataset) -> dict[str, Any]:
    """Function, settings and axes of a sweep's dataset, by their present names."""
    described: dict[str, Any] = json.loads(dataset.attrs["parameters"])
    name = described.get("function", "")
    name = _RENAMED.get(name, name)
    renamed = _RENAMED_SETTINGS.get(name, {})
    settings = {renamed.get(k, k): v for k, v in described.get("settings", {}).items()}
    return described | {"function": name, "settings": settings}


def upgraded(dataset: xr.Dataset) -> xr.Dataset:
    """A sweep's dataset as the present version makes it.

    Earlier versions kept the status of a flow beside its value, also where it had stopped early;
    such a cell has failed. Datasets of the present version are returned as they are.
    """
    function = json.loads(dataset.attrs["parameters"]).get("function")
    if function not in _RENAMED or "status" not in dataset:
        return dataset
    outcomes = json.loads(dataset.attrs["outcomes"])
    outcome, status = dataset["outcome"], dataset["status"]
    for code, name in _EARLIER_STATUSES.items():
        stopped = (outcome == DONE) & (status == code)
        if stopped.any():
            outcome = outcome.where(~stopped, len(outcomes)).astype(outcome.dtype)
            outcomes.append(name)
    present = dataset.drop_vars("status").assign(outcome=outcome)
    return present.assign_attrs(outcomes=json.dumps(outcomes))


class _Results(NamedTuple):
    """The results of m cells, k of which are done, as a worker sends them back."""

    failures: list[str | None]  # '' for a cell that is done, None for one to be tried again
    values: dict[str, NDArray[Any]]  # int64 or float64, shape (k,)
    hitch: str = ""  # why cells are to be tried again


@dataclass(frozen=True)
class _Block:
    """The function as a worker calls it: evaluates cells and turns exceptions into failures."""

    function: Callable[..., Any]
    names: tuple[str, ...]
    vectorized: bool

    def __call__(self, columns: list[NDArray[Any]]) -> list[_Results]:
        """Results of consecutive parts; a block is halved until the cells to blame stand alone."""
        m = len(columns[0])
        try:
            if self.vectorized or m == 1:
                return [self._evaluate(columns)]
        except Exception as error:
            if m == 1:
                transient = isinstance(error, _TRANSIENT)
                return [_Results([None if transient else _reason(error)], {}, _reason(error))]
        half = m // 2
        return [*self([c[:half] for c in columns]), *self([c[half:] for c in columns])]

    def _evaluate(self, columns: list[NDArray[Any]]) -> _Results:
        # copies, since the halves of a failed block need what the function may have changed
        cells = [c.copy() if self.vectorized else c.item() for c in columns]
        value = self.function(**dict(zip(self.names, cells, strict=True)))
        results = dict(value) if isinstance(value, Mapping) else {"value": value}
        if not self.vectorized:
            return _Results([""], {name: np.array([float(v)]) for name, v in results.items()})
        m = len(columns[0])
        failures = np.broadcast_to(results.pop("failure", ""), (m,)).astype(str)
        values = {
            name: _number(np.broadcast_to(value, (m,))[failures == ""])
            for name, value in results.items()
        }
        return _Results(failures.tolist(), values)


def _number(values: NDArray[Any]) -> NDArray[Any]:
    """As int64 if these are integers that float64 holds exactly, as float64 if not."""
    fits = values.dtype.kind in "iu" and (
        not values.size or -LARGEST_INTEGER <= values.min() <= values.max() <= LARGEST_INTEGER
    )
    return values.astype(np.int64 if fits else np.float64, casting="same_kind")


def _reason(error: Exception) -> str:
    return " ".join(f"{type(error).__name__}: {error}".split())[:200]


class _Table:
    """The cells' results as they come in, in the order of the flattened grid."""

    def __init__(
        self,
        grid: dict[str, NDArray[Any]],
        described: dict[str, Any],
        version: str,
        attributes: Mapping[str, Mapping[str, str]],
    ) -> None:
        self.grid, self.described, self.attributes = grid, described, attributes
        self.shape = tuple(len(values) for values in grid.values())
        self.outcome = np.full(math.prod(self.shape), MISSING, dtype=np.int16)
        self.failures: dict[str, int] = {}  # codes by name
        self.results: dict[str, NDArray[np.float64]] = {}
        self.integers: dict[str, bool] = {}  # whether a result has only been integers so far
        self.versions = [version]  # of the function: this one, then what a file has
        self.version = np.zeros(self.outcome.shape, dtype=np.int16)
        self.changed = False
        self.n_retry, self.hitch = 0, ""

    def columns(self, cells: NDArray[np.int64]) -> list[NDArray[Any]]:
        """Coordinates of cells, one array an axis."""
        places = np.unravel_index(cells, self.shape)
        return [values[place] for values, place in zip(self.grid.values(), places, strict=True)]

    def put(self, cells: NDArray[np.int64], parts: Sequence[_Results]) -> None:
        for failures, results, hitch in parts:
            here, cells = np.split(cells, [len(failures)])
            done = here[np.array(failures) == ""]
            for name, values in results.items():
                if name not in self.results:
                    self._add(name)
                self.results[name][done] = values
                self.integers[name] &= values.dtype == np.int64
            self.version[here] = 0
            # last, for a second Ctrl-C amid this to leave the cells missing
            self.outcome[here] = [self._code(failure) for failure in failures]
            self.n_retry += None in failures
            self.hitch = self.hitch or hitch
        self.changed = True

    def _code(self, failure: str | None) -> int:
        if not failure:
            return MISSING if failure is None else DONE
        if len(self.failures) >= _MOST_FAILURES and failure not in self.failures:
            failure = OTHER_FAILURES
        return self.failures.setdefault(failure, len(self.failures) + DONE + 1)

    def _add(self, name: str) -> None:
        if name in (*RESERVED, *self.grid):
            taken = ", ".join((*RESERVED, *self.grid))
            raise ArgumentError("function", name, f"a result needs a name other than {taken}")
        self.results[check_name("function", name)] = np.full(len(self.outcome), np.nan)
        self.integers[name] = True

    def _column(self, name: str) -> NDArray[Any]:
        values = self.results[name]
        if not self.integers[name] or np.isnan(values[self.outcome == DONE]).any():
            return values
        return np.where(self.outcome == DONE, values, -1.0).astype(np.int64)

    def _function_versions(self) -> tuple[list[str], dict[str, NDArray[np.int16]]]:
        """The versions of the function that computed cells; if several, that of each cell."""
        known = self.outcome != MISSING
        used = np.unique(self.version[known]).tolist() or [0]
        names = sorted(self.versions[index] for index in used)
        if len(names) == 1:
            return names, {}
        numbers = np.array([names.index(v) if v in names else -1 for v in self.versions])
        return names, {"function_version": np.where(known, numbers[self.version], -1)}

    def to_dataset(self) -> xr.Dataset:
        import xarray as xr

        # the order in which failures came in depends on the executor: number them by name
        names = sorted(self.failures)
        codes = np.arange(len(names) + DONE + 1, dtype=np.int16)
        codes[[self.failures[name] for name in names]] = np.arange(DONE + 1, len(codes))
        versions, by_cell = self._function_versions()
        results = {name: self._column(name) for name in sorted(self.results)}
        variables = {"outcome": codes[self.outcome], **by_cell, **results}
        return xr.Dataset(
            {
                name: (tuple(self.grid), values.reshape(self.shape), self._attributes(name))
                for name, values in variables.items()
            },
            coords={
                name: (name, values, self._attributes(name)) for name, values in self.grid.items()
            },
            attrs={
                **provenance(self.described),
                "outcomes": json.dumps(["missing", "done", *names]),
                "function_versions": json.dumps(versions),
                "cliff_kind": "sweep",
            },
        )

    def _attributes(self, name: str) -> dict[str, str]:
        units, long_names = self.attributes["units"], self.attributes["long_name"]
        return {"units": units.get(name, "1"), "long_name": long_names.get(name, name)}

    def resume(self, path: str | os.PathLike[str], mixed_versions: bool) -> None:
        """Take over the cells of a file of the same sweep, by their coordinates."""

        def refuse(requirement: str, way_out: str = "remove this one") -> ArgumentError:
            return ArgumentError(
                "path", str(path), f"{requirement}: name another file, or {way_out}"
            )

        stored = upgraded(open_dataset(path, "sweep"))
        difference = _difference(description(stored), json.loads(json.dumps(self.described)))
        if difference:
            raise refuse(f"holds a sweep with {difference}")
        for name, array in stored.data_vars.items():
            if set(array.dims) != set(self.grid):
                dims = ", ".join(map(str, array.dims)) or "no axes"
                raise refuse(f"holds {name} over {dims}, not over {', '.join(self.grid)}")
        for axis, values in self.grid.items():
            if axis not in stored.coords:
                raise refuse(f"holds no values of the axis {axis}")
            there = stored[axis].values
            strange = there[~np.isin(there, values)]
            if strange.size:
                raise refuse(f"holds {axis} = {strange[0]}, which is not on the axis")
            if len(np.unique(there)) < len(there):
                raise refuse(f"holds values of {axis} twice")
        columns = {
            str(name): array.values.ravel().astype(np.float64)
            for name, array in stored.reindex(self.grid).transpose(*self.grid).items()
        }

        outcomes = json.loads(stored.attrs["outcomes"])
        outcome = np.nan_to_num(columns.pop("outcome"), nan=MISSING)
        if not np.isin(outcome, range(len(outcomes))).all():
            raise refuse("holds outcomes without a name")
        self.failures = {name: code for code, name in enumerate(outcomes) if code > DONE}
        self.outcome[:] = outcome

        versions = json.loads(stored.attrs.get("function_versions", '[""]'))
        others = [version for version in versions if version not in ("", self.versions[0])]
        if others and (outcome != MISSING).any() and not mixed_versions:
            raise refuse(
                f"holds cells that another version of the function's code computed ({others[0]}, "
                f"now {self.versions[0]})",
                "allow mixed versions",
            )
        self.versions += [version for version in versions if version not in self.versions]
        numbers = np.array([self.versions.index(version) for version in versions])
        index = np.nan_to_num(columns.pop("function_version", np.zeros(len(outcome))))
        self.version[:] = numbers[index.astype(np.int64)]

        for name, column in columns.items():
            self._add(name)
            self.results[name][:] = np.where(outcome == DONE, column, np.nan)
            self.integers[name] = stored[name].dtype.kind in "iu"


def _difference(held: Any, wanted: Any, name: str = "") -> str:
    """Where two values of JSON first differ, as "name = value, not value"; '' if they do not."""
    if json.dumps(held, sort_keys=True) == json.dumps(wanted, sort_keys=True):  # NaN equals NaN
        return ""
    if isinstance(held, dict) and isinstance(wanted, dict):
        prefix = f"{name}." if name and name != "settings" else ""
        keys = sorted({*held, *wanted}, key=lambda key: (key == "axes", key))
        texts = (_difference(held.get(k), wanted.get(k), f"{prefix}{k}") for k in keys)
        return next(text for text in texts if text)
    if isinstance(held, list) and isinstance(wanted, list):
        if len(held) != len(wanted):
            return f"{len(held)} values of {name}, not {len(wanted)}"
        pairs = enumerate(zip(held, wanted, strict=True))
        texts = (_difference(a, b, f"{name}[{i}]") for i, (a, b) in pairs)
        return next(text for text in texts if text)
    a, b = ("nothing" if value is None else shorten(value) for value in (held, wanted))
    return f"{name} = {a}, not {b}"


def _results(
    table: _Table,
    evaluate: _Block,
    executor: Executor | None,
    blocks: Iterator[NDArray[np.int64]],
    stop: StopRequest,
) -> Iterator[tuple[NDArray[np.int64], list[_Results]]]:
    """Cells and the results of their parts, in whatever order the executor brings them."""
    if executor is None:
        for cells in blocks:
            yield cells, evaluate(table.columns(cells))
        return
    flying: dict[Future[Any], NDArray[np.int64]] = {}
    try:
        while not stop:
            for cells in islice(blocks, _IN_FLIGHT - len(flying)):
                flying[executor.submit(evaluate, table.columns(cells))] = cells
            if not flying:
                return
            done, _ = wait(flying, timeout=0.5, return_when=FIRST_COMPLETED)
            for future in done:
                cells = flying.pop(future)
                yield cells, future.result()
    except Exception as error:  # the function's own are caught in the worker
        if stop:  # Ctrl-C reached the workers as well
            return
        raise SweepBroken(
            f"the workers failed ({_reason(error)}); what they had finished is kept, and sweeping "
            "again goes on"
        ) from error
    finally:
        for future in flying:
            future.cancel()


def _axis(name: str, values: ArrayLike) -> NDArray[Any]:
    if check_name("axes", name) in RESERVED:
        raise ArgumentError("axes", name, "is a name that the results need")
    finite_array(name, values)
    array = np.asarray(values)
    if array.ndim != 1 or not array.size:
        raise ArgumentError(name, values, "an axis must be a list of at least one number")
    if len(np.unique(array)) != len(array):
        raise ArgumentError(name, values, "the values of an axis must differ")
    numbers = _number(array)
    if array.dtype.kind in "iu" and numbers.dtype != np.int64:
        raise ArgumentError(name, values, f"integers must not exceed ±{LARGEST_INTEGER}")
    return numbers


def check_cells(sizes: Mapping[str, int]) -> None:
    """Raise ArgumentError if a grid, of so many values an axis, exceeds this machine's memory."""
    grid = " × ".join(f"{size} {name}" for name, size in sizes.items())
    check_memory("axes", grid, math.prod(sizes.values()) * _BYTES_PER_CELL)
