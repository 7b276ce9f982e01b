"""Sweeps: a function over a grid, on any executor, into a file that survives being killed."""

from __future__ import annotations

import json
import math
import os
import sys
import time
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Executor, Future, wait
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from cliff.checks import LARGEST_INTEGER, ArgumentError, integer
from cliff.store import check_writable, open_dataset, provenance, save

if TYPE_CHECKING:
    import xarray as xr

MISSING, DONE = 0, 1
"""Codes of `outcome`: not computed yet, computed; higher ones are failures, named in `outcomes`."""

_IN_FLIGHT = 64
"""Blocks handed to an executor at a time, which bounds the memory that waiting ones take."""


_RESERVED = ("outcome", "failure")
"""Names that neither an axis nor a result can have."""

_TRANSIENT = (MemoryError, OSError)
"""Errors that say nothing of a cell: it may well succeed another time."""


class SweepBroken(RuntimeError):
    """The executor failed; what had been computed is in the file, to be resumed."""


class SweepIncomplete(RuntimeWarning):
    """Cells ran out of memory or files: they are missing, and sweeping again tries them again."""


def sweep(
    function: Callable[..., Any],
    axes: Mapping[str, ArrayLike],
    executor: Executor | None = None,
    path: str | os.PathLike[str] | None = None,
    *,
    vectorized: bool = False,
    block: int | None = None,
    units: Mapping[str, str] | None = None,
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
        cells that failed. If it raises, the cells of the block are computed one by one. It has to
        be picklable for an executor of processes. What tells it from others in a file are its
        module, its name, the arguments that `functools.partial` binds and its attribute
        ``parameters`` (a mapping for JSON), which instances, bound methods and functions without
        a name in a module need.
    axes : mapping of str to array_like, shape (n,)
        The grid: its axes in order, each with its values.
    executor : concurrent.futures.Executor, optional
        Where blocks are computed: threads, processes (use a context of spawn or forkserver), or
        ``dask.distributed.Client(...).get_executor()``. None computes them here. The data do not
        depend on it.
    path : path-like, optional
        NetCDF file that is rewritten, atomically, as the sweep goes on. An existing file of the
        same sweep is resumed.
    vectorized : bool
        Whether `function` takes blocks.
    block : int, optional
        Cells of a block: 1 by default, 1024 for a vectorized function.
    units : mapping of str to str, optional
        Units of axes and results.
    save_every : float
        Seconds between writes.
    progress : callable, optional
        Called with the number of cells done since the last call; a true answer stops the sweep,
        which then returns what it has.

    Returns
    -------
    xarray.Dataset
        One variable a result, sorted by name, and ``outcome`` with the code of each cell; the
        attribute ``outcomes`` (JSON) lists what the codes mean. Results are float64, NaN where the
        cell failed or is missing; those of a vectorized function that are integers in all cells are
        int64, and −1 there.

    Raises
    ------
    ArgumentError
        If an axis is empty, a result has the name of an axis, the file is of another sweep, another
        process is sweeping into it, or the function cannot be told from others.
    SweepBroken
        If the executor failed for good.

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
    grid = {name: _axis(name, values) for name, values in axes.items()}
    if not grid:
        raise ArgumentError("axes", dict(axes), "must name at least one axis")
    size = integer("block", (1024 if vectorized else 1) if block is None else block, 1)
    table = _Table(grid, _identity(function, grid, path is not None), dict(units or {}))
    evaluate = _Block(function, tuple(grid), vectorized)
    with _locked(path) if path is not None else _nothing():
        if path is not None and Path(path).exists():
            table.resume(path)
        if progress:
            progress(table.n_done)
        try:
            _run(table, evaluate, executor, size, path, save_every, progress)
        finally:
            if path is not None and (table.changed or not Path(path).exists()):
                table.save(path)
    if table.n_retry:
        warnings.warn(
            f"{table.n_retry} cells are missing ({table.hitch}); sweeping again tries them again",
            SweepIncomplete,
            stacklevel=2,
        )
    return table.to_dataset()


_RENAMED = {"cliff.analysis.FlowMetric": "cliff.metrics.FlowMetric"}
"""Functions that had another name in files of earlier versions."""


def description(dataset: xr.Dataset) -> dict[str, Any]:
    """What a sweep's dataset says of its function, settings and axes."""
    described: dict[str, Any] = json.loads(dataset.attrs["parameters"])
    name = described.get("function", "")
    return described | {"function": _RENAMED.get(name, name)}


@dataclass(frozen=True)
class _Results:
    """What a worker sends back of m cells, k of which are done.

    Attributes
    ----------
    failures : list of (str or None), length m
        '' for a cell that is done, None for one to be tried again.
    values : dict of ndarray, shape (k,)
        int64 or float64.
    hitch : str
        Why cells are to be tried again.
    """

    failures: list[str | None]
    values: dict[str, NDArray[Any]]
    hitch: str = ""

    @classmethod
    def join(cls, parts: Sequence[_Results]) -> _Results:
        names = dict.fromkeys(name for part in parts for name in part.values)
        blanks = [np.full(part.failures.count(""), np.nan) for part in parts]
        values: dict[str, NDArray[Any]] = {}
        for name in names:
            # a cell that failed without a word of the result does not make its integers floats
            values[name] = np.concatenate(
                [
                    part.values.get(name, blank)
                    for part, blank in zip(parts, blanks, strict=True)
                    if name in part.values or len(blank)
                ]
            )
        failures = [failure for part in parts for failure in part.failures]
        return cls(failures, values, next((part.hitch for part in parts if part.hitch), ""))


@dataclass(frozen=True)
class _Block:
    """What is sent to a worker: evaluates cells and turns failures into words."""

    function: Callable[..., Any]
    names: tuple[str, ...]
    vectorized: bool

    def __call__(self, columns: list[NDArray[Any]]) -> _Results:
        m = len(columns[0])
        if self.vectorized and m > 1:
            try:
                return self._evaluate(columns)
            except Exception:  # some cell is to blame, and the others must not suffer for it
                pass
        return _Results.join([self._cell([c[i : i + 1] for c in columns]) for i in range(m)])

    def _cell(self, columns: list[NDArray[Any]]) -> _Results:
        try:
            return self._evaluate(columns)
        except _TRANSIENT as error:
            return _Results([None], {}, _reason(error))
        except Exception as error:
            return _Results([_reason(error)], {})

    def _evaluate(self, columns: list[NDArray[Any]]) -> _Results:
        m = len(columns[0])
        if not self.vectorized:
            cell = {name: c.item() for name, c in zip(self.names, columns, strict=True)}
            row = _as_dict(self.function(**cell))
            return _Results([""], {name: np.array([float(value)]) for name, value in row.items()})
        results = _as_dict(self.function(**dict(zip(self.names, columns, strict=True))))
        failures = np.broadcast_to(results.pop("failure", ""), (m,)).astype(str)
        done = failures == ""
        values = {
            name: _number(np.broadcast_to(value, (m,))[done]) for name, value in results.items()
        }
        return _Results(failures.tolist(), values)


def _number(values: NDArray[Any]) -> NDArray[Any]:
    """As int64 if these are integers that float64 holds exactly, as float64 if not."""
    fits = values.dtype.kind in "iu" and (
        not values.size or -LARGEST_INTEGER <= values.min() <= values.max() <= LARGEST_INTEGER
    )
    return values.astype(np.int64 if fits else np.float64, casting="same_kind")


def _as_dict(value: Any) -> dict[str, Any]:
    return dict(value) if isinstance(value, Mapping) else {"value": value}


def _reason(error: Exception) -> str:
    return " ".join(f"{type(error).__name__}: {error}".split())[:200]


class _Table:
    """The cells' results as they come in, in the order of the flattened grid."""

    def __init__(self, grid: dict[str, Any], identity: str, units: dict[str, str]) -> None:
        self.grid, self.identity, self.units = grid, identity, units
        self.shape = tuple(len(values) for values in grid.values())
        self.outcome = np.full(math.prod(self.shape), MISSING, dtype=np.int16)
        self.outcomes = ["missing", "done"]
        self.results: dict[str, NDArray[np.float64]] = {}
        self.integers: dict[str, bool] = {}  # whether a result has only been integers so far
        self.changed = False
        self.n_retry, self.hitch = 0, ""

    @property
    def n_done(self) -> int:
        return int((self.outcome != MISSING).sum())

    def columns(self, cells: NDArray[np.int64]) -> list[NDArray[Any]]:
        """Coordinates of cells, one array an axis."""
        places = np.unravel_index(cells, self.shape)
        return [values[place] for values, place in zip(self.grid.values(), places, strict=True)]

    def put(self, cells: NDArray[np.int64], results: _Results) -> None:
        done = cells[np.array([failure == "" for failure in results.failures])]
        for name, values in results.values.items():
            if name not in self.results:
                self._add(name)
            self.results[name][done] = values
            self.integers[name] &= values.dtype == np.int64
        codes: dict[str | None, int] = {None: MISSING, "": DONE}
        for failure in results.failures:
            if failure is not None and failure not in codes:
                if failure not in self.outcomes[2:]:
                    self.outcomes.append(failure)
                codes[failure] = self.outcomes.index(failure, 2)
        self.outcome[cells] = [codes[failure] for failure in results.failures]
        self.n_retry += results.failures.count(None)
        self.hitch = self.hitch or results.hitch
        self.changed = True

    def _add(self, name: str) -> None:
        if not isinstance(name, str) or name in (*_RESERVED, *self.grid):
            taken = ", ".join((*_RESERVED, *self.grid))
            raise ArgumentError("function", name, f"a result needs a name other than {taken}")
        self.results[name] = np.full(len(self.outcome), np.nan)
        self.integers[name] = True

    def _column(self, name: str) -> NDArray[Any]:
        values = self.results[name]
        if not self.integers[name] or np.isnan(values[self.outcome == DONE]).any():
            return values
        return np.where(self.outcome == DONE, values, -1.0).astype(np.int64)

    def to_dataset(self) -> xr.Dataset:
        import xarray as xr

        # the order in which failures came in depends on the executor: number them by name
        names = self.outcomes[:2] + sorted(self.outcomes[2:])
        numbers = [names.index(name, 2) for name in self.outcomes[2:]]
        codes = np.array([MISSING, DONE, *numbers], dtype=np.int16)
        results = {name: self._column(name) for name in sorted(self.results)}
        variables = {"outcome": codes[self.outcome], **results}
        dimensions = tuple(self.grid)
        return xr.Dataset(
            {
                name: (
                    dimensions,
                    values.reshape(self.shape),
                    {"units": self.units.get(name, "1")},
                )
                for name, values in variables.items()
            },
            coords={
                name: (name, values, {"units": self.units.get(name, "1")})
                for name, values in self.grid.items()
            },
            attrs={
                **provenance(json.loads(self.identity)),
                "outcomes": json.dumps(names),
                "cliff_kind": "sweep",
            },
        )

    def save(self, path: str | os.PathLike[str]) -> None:
        save(self.to_dataset(), path)

    def resume(self, path: str | os.PathLike[str]) -> None:
        """Take over what a file of the same sweep holds."""
        stored = open_dataset(path, "sweep")
        known = description(stored)
        if json.dumps(known, sort_keys=True) != self.identity:
            raise ArgumentError(
                "path", str(path), "holds a sweep with other parameters: remove it, or name another"
            )
        self.outcome[:] = stored["outcome"].values.ravel()
        self.outcomes = json.loads(stored.attrs["outcomes"])
        for name, array in stored.data_vars.items():
            if name != "outcome":
                self._add(str(name))
                values = array.values.ravel().astype(np.float64)
                self.results[str(name)][:] = np.where(self.outcome == DONE, values, np.nan)
                self.integers[str(name)] = array.dtype.kind in "iu"


def _run(
    table: _Table,
    evaluate: _Block,
    executor: Executor | None,
    size: int,
    path: str | os.PathLike[str] | None,
    save_every: float,
    progress: Callable[[int], object] | None,
) -> None:
    missing = np.flatnonzero(table.outcome == MISSING)
    blocks = iter([missing[start : start + size] for start in range(0, len(missing), size)])
    saved = time.monotonic()
    for cells, results in _results(table, evaluate, executor, blocks):
        table.put(cells, results)
        if path is not None and time.monotonic() - saved >= save_every:
            table.save(path)
            saved = time.monotonic()
        if progress and progress(len(cells)):
            return


def _results(
    table: _Table,
    evaluate: _Block,
    executor: Executor | None,
    blocks: Iterator[NDArray[np.int64]],
) -> Iterator[tuple[NDArray[np.int64], _Results]]:
    """Cells and their results, in whatever order the executor brings them."""
    if executor is None:
        for cells in blocks:
            yield cells, evaluate(table.columns(cells))
        return
    flying: dict[Future[Any], NDArray[np.int64]] = {}
    try:
        while True:
            for cells in islice(blocks, _IN_FLIGHT - len(flying)):
                flying[executor.submit(evaluate, table.columns(cells))] = cells
            if not flying:
                return
            done, _ = wait(flying, return_when=FIRST_COMPLETED)
            for future in done:
                cells = flying.pop(future)
                yield cells, future.result()
    except Exception as error:  # the function's own are caught in the worker
        raise SweepBroken(
            f"the workers failed ({_reason(error)}); what they had finished is kept, and sweeping "
            "again goes on"
        ) from error
    finally:
        for future in flying:
            future.cancel()


def _axis(name: str, values: ArrayLike) -> NDArray[Any]:
    if name in _RESERVED:
        raise ArgumentError("axes", name, "is a name that the results need")
    array = np.asarray(values)
    if array.ndim != 1 or not array.size or array.dtype.kind not in "fiu":
        raise ArgumentError(name, values, "an axis must be a list of at least one number")
    if not np.isfinite(array).all() or len(np.unique(array)) != len(array):
        raise ArgumentError(name, values, "the values of an axis must be finite and differ")
    numbers = _number(array)
    if array.dtype.kind in "iu" and numbers.dtype != np.int64:
        raise ArgumentError(name, values, f"integers must not exceed ±{LARGEST_INTEGER}")
    return numbers


def _identity(function: Callable[..., Any], grid: Mapping[str, NDArray[Any]], stored: bool) -> str:
    """JSON of everything that determines the data."""
    axes = {name: values.tolist() for name, values in grid.items()}
    described = _describe(function, stored) | {"axes": axes}
    return json.dumps(described, sort_keys=True, default=partial(_plain, stored=stored))


def _describe(function: Callable[..., Any], stored: bool) -> dict[str, Any]:
    """What tells a function from others; for a file, refuse one of which that is not known."""
    settings = dict(getattr(function, "parameters", {}))
    if isinstance(function, partial):
        bound = {"args": function.args, "keywords": function.keywords}
        settings |= {"partial": _describe(function.func, stored), **bound}
    elif stored and not hasattr(function, "parameters") and not _is_named(function):
        raise ArgumentError(
            "function",
            function,
            "has no name in a module: give it an attribute parameters that tells it from others",
        )
    kind = function if hasattr(function, "__qualname__") else type(function)
    return {"function": f"{kind.__module__}.{kind.__qualname__}", "settings": settings}


def _is_named(function: Callable[..., Any]) -> bool:
    """Whether the function is what its module has under its name."""
    found: Any = sys.modules.get(getattr(function, "__module__", None) or "")
    for part in getattr(function, "__qualname__", "<none>").split("."):
        found = getattr(found, part, None)
    return found is function


def _plain(value: Any, stored: bool) -> Any:
    """What JSON holds of a function's settings."""
    if hasattr(value, "tolist"):
        return value.tolist()
    if callable(value):
        return _describe(value, stored)
    text = repr(value)
    if stored and " at 0x" in text:
        raise ArgumentError(
            "function", text, "is bound to it, and nothing tells it from others in a file"
        )
    return {"repr": text}


@contextmanager
def _nothing() -> Iterator[None]:
    yield


@contextmanager
def _locked(path: str | os.PathLike[str]) -> Iterator[None]:
    """Keep other processes from sweeping into `path`; a killed process lets go by dying."""
    import fcntl

    target = check_writable(path)
    lock = target.with_name(f".{target.name}.lock")
    with lock.open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            # the lock that was opened may be one that its owner has just removed
            mine = os.fstat(file.fileno()).st_ino == lock.stat().st_ino
        except OSError:
            mine = False
        if not mine:
            raise ArgumentError(
                "path", str(path), "another sweep is writing this file; wait for it to end"
            )
        try:
            yield
        finally:
            lock.unlink(missing_ok=True)
