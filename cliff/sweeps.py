"""Sweeps: a function over a grid, on any executor, into a file that survives being killed."""

from __future__ import annotations

import json
import math
import os
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import FIRST_COMPLETED, BrokenExecutor, Executor, Future, wait
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from cliff.checks import ArgumentError, integer
from cliff.store import check_writable, open_dataset, provenance, save_dataset

if TYPE_CHECKING:
    import xarray as xr

MISSING, DONE = 0, 1
"""Codes of `outcome`: not computed yet, computed; higher ones are failures, named in `outcomes`."""

_IN_FLIGHT = 64
"""Blocks handed to an executor at a time, which bounds the memory that waiting ones take."""


class SweepBroken(RuntimeError):
    """The executor lost its workers; what had been computed is in the file, to be resumed."""


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
        cells that failed. It has to be picklable for an executor of processes. Its attribute
        ``parameters`` (a mapping for JSON), if it has one, becomes part of the file's identity.
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
        One variable a result, NaN where it failed or is missing, and ``outcome`` with the code of
        each cell; the attribute ``outcomes`` (JSON) lists what the codes mean.

    Raises
    ------
    ArgumentError
        If an axis is empty, the file is of another sweep, or another process is sweeping into it.
    SweepBroken
        If the executor lost its workers for good.

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
    table = _Table(grid, _identity(function, grid), dict(units or {}))
    evaluate = _Block(function, tuple(grid), vectorized)
    with _locked(path) if path is not None else _nothing():
        if path is not None and Path(path).exists():
            table.resume(path)
        if progress:
            progress(table.n_done)
        try:
            _run(table, evaluate, executor, size, path, save_every, progress)
        finally:
            if path is not None:
                table.save(path)
    return table.to_dataset()


@dataclass(frozen=True)
class _Block:
    """What is sent to a worker: evaluates cells and turns failures into words."""

    function: Callable[..., Any]
    names: tuple[str, ...]
    vectorized: bool

    def __call__(self, columns: list[NDArray[Any]]) -> dict[str, Any]:
        """Results of the cells: arrays of shape (m,), and "failure" as a list of str."""
        if self.vectorized:
            m = len(columns[0])
            try:
                results = _as_dict(self.function(**dict(zip(self.names, columns, strict=True))))
            except Exception as error:
                return {"failure": [_reason(error)] * m}
            failures = [str(text) for text in results.pop("failure", [""] * m)]
            return {name: np.asarray(value) for name, value in results.items()} | {
                "failure": failures
            }
        rows = []
        for cell in zip(*(column.tolist() for column in columns), strict=True):
            try:
                row = _as_dict(self.function(**dict(zip(self.names, cell, strict=True))))
                rows.append({name: float(value) for name, value in row.items()} | {"failure": ""})
            except Exception as error:
                rows.append({"failure": _reason(error)})
        names = {name: None for row in rows for name in row}  # in order of appearance
        return {
            name: [row.get(name, math.nan) for row in rows]
            if name == "failure"
            else np.array([row.get(name, math.nan) for row in rows])
            for name in names
        }


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
        self.results: dict[str, NDArray[Any]] = {}

    @property
    def n_done(self) -> int:
        return int((self.outcome != MISSING).sum())

    def columns(self, cells: NDArray[np.int64]) -> list[NDArray[Any]]:
        """Coordinates of cells, one array an axis."""
        places = np.unravel_index(cells, self.shape)
        return [values[place] for values, place in zip(self.grid.values(), places, strict=True)]

    def put(self, cells: NDArray[np.int64], results: dict[str, Any]) -> None:
        failures = results.pop("failure")
        for name, values in results.items():
            if name not in self.results:
                whole = values.dtype.kind in "iu"
                blank: Any = -1 if whole else np.nan
                kind = np.int32 if whole else np.float64
                self.results[name] = np.full(len(self.outcome), blank, dtype=kind)
            self.results[name][cells] = values
        for failure in dict.fromkeys(failures):
            if failure and failure not in self.outcomes:
                self.outcomes.append(failure)
        codes = {failure: self.outcomes.index(failure) if failure else DONE for failure in failures}
        self.outcome[cells] = [codes[failure] for failure in failures]

    def to_dataset(self) -> xr.Dataset:
        import xarray as xr

        # the order in which failures came in depends on the executor: number them by name
        names = self.outcomes[:2] + sorted(self.outcomes[2:])
        codes = np.array([names.index(name) for name in self.outcomes], dtype=np.int16)
        variables = {"outcome": codes[self.outcome], **self.results}
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
            attrs={**provenance(json.loads(self.identity)), "outcomes": json.dumps(names)},
        )

    def save(self, path: str | os.PathLike[str]) -> None:
        save_dataset(self.to_dataset(), path, "sweep")

    def resume(self, path: str | os.PathLike[str]) -> None:
        """Take over what a file of the same sweep holds."""
        stored = open_dataset(path, "sweep")
        same = json.loads(stored.attrs["parameters"]) == json.loads(self.identity)
        if not same:
            raise ArgumentError(
                "path", str(path), "holds a sweep with other parameters: remove it, or name another"
            )
        self.outcome[:] = stored["outcome"].values.ravel()
        self.outcomes = json.loads(stored.attrs["outcomes"])
        for name, array in stored.data_vars.items():
            if name != "outcome":
                kind = np.int32 if array.dtype.kind in "iu" else np.float64
                self.results[str(name)] = array.values.ravel().astype(kind)


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
) -> Iterator[tuple[NDArray[np.int64], dict[str, Any]]]:
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
    except BrokenExecutor as error:
        raise SweepBroken(
            "the workers died; what they had finished is kept, and sweeping again goes on"
        ) from error
    finally:
        for future in flying:
            future.cancel()


def _axis(name: str, values: ArrayLike) -> NDArray[Any]:
    array = np.asarray(values)
    if array.ndim != 1 or not array.size or array.dtype.kind not in "fiu":
        raise ArgumentError(name, values, "an axis must be a list of at least one number")
    if not np.isfinite(array).all() or len(np.unique(array)) != len(array):
        raise ArgumentError(name, values, "the values of an axis must be finite and differ")
    return array.astype(np.int32 if array.dtype.kind in "iu" else np.float64)


def _identity(function: Callable[..., Any], grid: Mapping[str, NDArray[Any]]) -> str:
    """JSON of everything that determines the data."""
    kind = function if hasattr(function, "__qualname__") else type(function)
    return json.dumps(
        {
            "function": f"{kind.__module__}.{kind.__qualname__}",
            "settings": dict(getattr(function, "parameters", {})),
            "axes": {name: values.tolist() for name, values in grid.items()},
        }
    )


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
