"""Several training runs side by side, one process and one thread each."""

from __future__ import annotations

import json
import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from cliff.checks import choice, integer
from cliff.network.train import MODELS, Row, check_options, make_network, train
from cliff.parallel import n_cores
from cliff.task import Task

if TYPE_CHECKING:
    import xarray as xr


@dataclass(frozen=True)
class Run:
    """One training run as plain values, which another process can be told.

    Attributes
    ----------
    model : str
        "transformer" or "minimal".
    task : Task
    seed : int
        Of the network and of `train`.
    n_steps : int
    network : mapping
        Further arguments of the network.
    options : mapping
        Further arguments of `train`.
    """

    model: str
    task: Task
    seed: int
    n_steps: int
    network: Mapping[str, Any] = field(default_factory=dict)
    options: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        choice("model", self.model, list(MODELS))
        integer("width", self.network.get("width", 1), 1)
        check_options(self.n_steps, seed=self.seed, **self.options)

    def __call__(self, report: Callable[[int, Row], object] | None = None) -> xr.Dataset:
        """Train; `report` is called with the seed and each new record."""
        net = make_network(self.model, self.task, self.seed, **self.network)
        each = None if report is None else lambda row: report(self.seed, row)
        return train(net, self.task, self.n_steps, seed=self.seed, report=each, **self.options)


def run_all(
    runs: Sequence[Run],
    processes: int | None = None,
    report: Callable[[int, Row], object] | None = None,
) -> list[xr.Dataset]:
    """Train side by side.

    Parameters
    ----------
    runs : sequence of Run
    processes : int, optional
        How many at a time; as many as there are cores by default.
    report : callable, optional
        Called, in this process, with the seed and each new record of any run.

    Returns
    -------
    list of xarray.Dataset
        In the order of `runs`.

    Raises
    ------
    KeyboardInterrupt
        On Ctrl-C, when every run that was under way has written its checkpoint.
    concurrent.futures.process.BrokenProcessPool
        If a process dies.
    """
    # spawned, because a forked process would inherit the locks of threads that it does not have
    context = multiprocessing.get_context("spawn")
    reports = context.SimpleQueue()
    count = min(processes or n_cores(), len(runs))
    listener = threading.Thread(target=_listen, args=(reports, report), daemon=True)
    listener.start()
    with one_thread_each():
        pool = ProcessPoolExecutor(count, context, _ready, (reports,))
        try:
            futures = [pool.submit(_train, run) for run in runs]
            return [future.result() for future in futures]
        finally:
            pool.shutdown(wait=True, cancel_futures=True)
            reports.put(None)
            listener.join()


def side_by_side(results: Sequence[xr.Dataset], seeds: Sequence[int]) -> xr.Dataset:
    """Lay results of runs that differ in their seed only along a dimension ``seed``.

    Runs that stopped early are filled up with NaN.
    """
    import xarray as xr

    joined = xr.concat(
        list(results), dim="seed", join="outer", combine_attrs="override", coords="minimal",
        data_vars="all", compat="equals",
    )  # fmt: skip
    joined["t"] = joined.t.max("seed")  # the same in all, where they have it
    parameters = json.loads(joined.attrs["parameters"])
    parameters["seed"] = list(seeds)
    return joined.assign_coords(seed=list(seeds)).assign_attrs(
        parameters=json.dumps(parameters, sort_keys=True), seed=json.dumps(list(seeds))
    )


_reports: Any = None  # of this process, when it is one of the pool's


def _ready(reports: Any) -> None:
    global _reports
    _reports = reports
    # Ctrl-C reaches the whole group: `train` takes it while it runs, and an idle process ignores it
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def _train(run: Run) -> xr.Dataset:
    return run(lambda seed, row: _reports.put((seed, row)))


def _listen(reports: Any, report: Callable[[int, Row], object] | None) -> None:
    while (message := reports.get()) is not None:
        if report:
            report(*message)


@contextmanager
def one_thread_each() -> Iterator[None]:
    """Let the processes that are started meanwhile have one thread in BLAS and in numba."""
    names = ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS")
    before = {name: os.environ.get(name) for name in names}
    os.environ.update(dict.fromkeys(names, "1"))
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value
