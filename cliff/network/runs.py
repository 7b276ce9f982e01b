"""Several training runs side by side, one process and one thread each."""

from __future__ import annotations

import json
import multiprocessing
import os
import signal
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from multiprocessing.connection import Connection, wait
from multiprocessing.resource_tracker import ensure_running
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cliff.checks import choice, integer
from cliff.network.layers import Network
from cliff.network.training import (
    MODELS,
    Callback,
    Probe,
    Row,
    check_options,
    make_network,
    read_checkpoint,
    settings_of,
    train,
)
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
    callbacks, probes : sequence of callable
        Those of `train`. Functions of a module, and objects made of plain values, reach other
        processes; lambdas do not.
    """

    model: str
    task: Task
    seed: int
    n_steps: int
    network: Mapping[str, Any] = field(default_factory=dict)
    options: Mapping[str, Any] = field(default_factory=dict)
    callbacks: Sequence[Callback] = ()
    probes: Sequence[Probe] = ()

    def __post_init__(self) -> None:
        choice("model", self.model, list(MODELS))
        integer("width", self.network.get("width", 1), 1)
        check_options(self.n_steps, seed=self.seed, **self.options)

    def __call__(self, report: Callable[[int, Row], object] | None = None) -> xr.Dataset:
        """Train; `report` is called with the seed and each new record."""
        each = None if report is None else lambda row: report(self.seed, row)
        return train(
            self._network(), self.task, self.n_steps, seed=self.seed, report=each,
            callbacks=self.callbacks, probes=self.probes, **self.options,
        )  # fmt: skip

    def check_checkpoint(self) -> None:
        """Raise ArgumentError if there is a checkpoint that `train` would not go on from."""
        path = self.options.get("checkpoint")
        if path is not None and Path(path).exists():
            settings = settings_of(self._network(), self.task, seed=self.seed, **self.options)
            read_checkpoint(Path(path), settings, self.n_steps)

    def _network(self) -> Network:
        return make_network(self.model, self.task, self.seed, **self.network)


def run_all(
    runs: Sequence[Run],
    processes: int | None = None,
    report: Callable[[int, Row], object] | None = None,
) -> list[xr.Dataset]:
    """Train side by side.

    When anything ends this early, every run that is under way writes its checkpoint and stops.

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
    ArgumentError
        If one of the checkpoints is not one to go on from; before any training.
    KeyboardInterrupt
        On Ctrl-C.
    ChildProcessError
        If a process dies.
    """
    for run in runs:
        run.check_checkpoint()
    results: dict[int, xr.Dataset] = {}
    waiting = iter(enumerate(runs))
    workers: list[_Worker] = []
    try:
        with one_thread_each(), _without_interrupt():
            for _ in range(min(processes or n_cores(), len(runs))):
                workers.append(_Worker())
        # a run is handed out only to a process that is free, so that none is begun after Ctrl-C
        busy: dict[Any, _Worker] = {}
        for worker, (number, run) in zip(workers, waiting, strict=False):
            worker.begin(number, run)
            busy[worker.line] = worker
        while busy:
            for line in wait(list(busy)):
                worker = busy[line]
                kind, content = worker.receive()
                if kind == "row" and report:
                    report(worker.run.seed, content)
                elif kind == "error":
                    raise content
                elif kind == "result":
                    results[worker.number] = content
                    following = next(waiting, None)
                    if following is None:
                        del busy[line]
                    else:
                        worker.begin(*following)
    finally:
        for worker in workers:
            worker.interrupt()
        for worker in workers:
            worker.join()
    return [results[number] for number in range(len(runs))]


def side_by_side(results: Sequence[xr.Dataset], seeds: Sequence[int]) -> xr.Dataset:
    """Lay results of runs that differ in their seed only along a dimension ``seed``.

    Runs that stopped early are filled up with NaN. In the attribute ``parameters``, what differs is
    a list with an entry for each run.
    """
    import xarray as xr

    joined = xr.concat(
        list(results), dim="seed", join="outer", combine_attrs="override", coords="minimal",
        data_vars="all", compat="equals",
    )  # fmt: skip
    joined["t"] = joined.t.max("seed")  # the same in all, where they have it
    parameters = _merged([json.loads(result.attrs["parameters"]) for result in results])
    parameters["seed"] = list(seeds)
    return joined.assign_coords(seed=list(seeds)).assign_attrs(
        parameters=json.dumps(parameters, sort_keys=True), seed=json.dumps(list(seeds))
    )


def _merged(each: Sequence[Any]) -> Any:
    """One value for all where they agree, else the list of them; entry by entry in mappings."""
    if all(isinstance(value, dict) for value in each):
        names = dict.fromkeys(name for value in each for name in value)
        return {name: _merged([value.get(name) for value in each]) for name in names}
    return each[0] if all(value == each[0] for value in each) else list(each)


class _Worker:
    """Another process, which trains one run at a time, and the line to it."""

    def __init__(self) -> None:
        # spawned, because a forked process would inherit the locks of threads that it does not have
        context = multiprocessing.get_context("spawn")
        self.line, its_end = context.Pipe()
        self.process = context.Process(target=_work, args=(its_end,), daemon=True)
        self.process.start()
        its_end.close()  # the process alone holds it: when it dies, the line ends

    def begin(self, number: int, run: Run) -> None:
        self.number, self.run = number, run
        try:
            self.line.send(run)
        except OSError:
            raise self._death() from None

    def receive(self) -> tuple[str, Any]:
        try:
            message: tuple[str, Any] = self.line.recv()
        except (EOFError, OSError):
            raise self._death() from None
        return message

    def _death(self) -> ChildProcessError:
        self.process.join()
        code = self.process.exitcode
        return ChildProcessError(f"the process that trained seed {self.run.seed} ended with {code}")

    def interrupt(self) -> None:
        if self.process.is_alive() and self.process.pid is not None:
            os.kill(self.process.pid, signal.SIGINT)

    def join(self) -> None:
        with suppress(ConnectionError):
            # what it still has to say, lest it wait for that; Ctrl-C may have cut a message in two
            while os.read(self.line.fileno(), 1 << 16):
                pass
        self.process.join()


def _work(line: Connection) -> None:
    """Train what comes along the line, until a SIGINT, which `train` answers with a checkpoint."""
    # Ctrl-C reaches the whole group of processes: out of it, one hears of it once, from the parent
    os.setpgrp()
    # Outside `train`'s steps there is nothing to keep, and a SIGINT ends the process on the spot.
    # As an exception it would cut the compiler in two, which complains of that with a traceback.
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
    try:
        while True:
            run = line.recv()
            try:
                message = "result", run(lambda _, row: line.send(("row", row)))
            except Exception as error:
                error.add_note(traceback.format_exc())
                message = "error", error
            line.send(message)
    except (KeyboardInterrupt, EOFError, OSError):  # or the parent was killed
        pass


@contextmanager
def _without_interrupt() -> Iterator[None]:
    """Hold Ctrl-C back from here, and from the processes started meanwhile till they ask for it."""
    ensure_running()  # multiprocessing's own helper, whose start would let Ctrl-C through again
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


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
