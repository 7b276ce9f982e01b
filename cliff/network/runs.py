"""Training runs side by side, one process and one thread each.

Every process has a pipe of its own to its parent: runs go out through it, records and results come
back, and a word through it stops the run. A pool of `concurrent.futures` shares its queues and
their locks among the processes: one that is killed can leave a lock held, and all that remain are
then killed before they write their checkpoints. The end of a pipe also tells either side that the
other has died. The processes are spawned, since a fork would copy the locks of running threads.
"""

from __future__ import annotations

import json
import pickle
import signal
import traceback
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext, suppress
from dataclasses import dataclass, field
from functools import partial
from multiprocessing import get_context
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from typing import TYPE_CHECKING, Any

from numba import config

from cliff.checks import choice, integer
from cliff.interrupt import StopRequest, deferred, handled_by
from cliff.network.checkpoint import Checkpoint
from cliff.network.layers import Network
from cliff.network.options import TrainingOptions
from cliff.network.training import (
    MODELS,
    Callback,
    Probe,
    Row,
    make_network,
    run_training,
    settings_of,
)
from cliff.parallel import n_cores, one_blas_thread
from cliff.task import Task

if TYPE_CHECKING:
    import xarray as xr

Report = Callable[[int, Row], object]
"""Called with the seed of a run and each new record."""


@dataclass(frozen=True)
class Run:
    """A training run as plain values, which can be sent to another process.

    `network` and `options` are further arguments of the network and of `train`, which share the
    seed. Other processes can be sent callbacks and probes that are functions of a module or objects
    made of plain values, but not lambdas.
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
        self._options()

    def train(
        self, report: Report | None = None, asked_to_stop: Callable[[], bool] = lambda: False
    ) -> tuple[xr.Dataset, StopRequest]:
        """Train as `run_training` does."""
        return run_training(
            self._network(), self.task, self._options(), self.callbacks, self.probes,
            report and partial(report, self.seed), asked_to_stop,
        )  # fmt: skip

    def check_checkpoint(self) -> None:
        """Raise ArgumentError if training cannot resume from the checkpoint that it should."""
        options = self._options()
        if options.file and options.resume:
            settings = settings_of(self._network(), self.task, options)
            Checkpoint.read(options.file).check(options.file, settings, self.n_steps)

    def _options(self) -> TrainingOptions:
        return TrainingOptions(self.n_steps, seed=self.seed, **self.options)

    def _network(self) -> Network:
        return make_network(self.model, self.task, self.seed, **self.network)


def run_all(
    runs: Sequence[Run],
    processes: int | None = None,
    report: Report | None = None,
    finished: Callable[[int, xr.Dataset], object] | None = None,
) -> list[xr.Dataset]:
    """Train side by side.

    Whatever ends this early, every run under way writes its checkpoint and stops. Only a second
    Ctrl-C or SIGTERM does not wait for that.

    Parameters
    ----------
    runs : sequence of Run
    processes : int, optional
        Runs at a time; one on each core by default. One run at a time is trained in this process.
    report : callable, optional
        Called, in this process, with the seed and each new record of any run.
    finished : callable, optional
        Called, in this process, with the index and the result of each run as it ends, also when it
        was interrupted (its status says so).

    Returns
    -------
    list of xarray.Dataset
        In the order of `runs`.

    Raises
    ------
    ArgumentError
        If a checkpoint cannot be resumed from; before any training.
    KeyboardInterrupt
        On Ctrl-C or SIGTERM.
    ChildProcessError
        If a process dies.
    """
    for run in runs:
        run.check_checkpoint()
    results: dict[int, xr.Dataset] = {}

    def keep(number: int, result: xr.Dataset) -> None:
        results[number] = result
        if finished:
            finished(number, result)

    at_a_time = min(processes or n_cores(), len(runs))
    # a single run listens to signals itself, from its first step on
    with nullcontext(StopRequest()) if len(runs) == 1 else deferred() as stop:
        if at_a_time > 1:
            _train_in_processes(runs, at_a_time, report, keep, stop)
        else:
            for number, run in enumerate(runs):
                if not stop:
                    result, own = run.train(report)
                    keep(number, result)
                    own.raise_if_made()
        stop.raise_if_made()
    return [results[number] for number in range(len(runs))]


def side_by_side(results: Sequence[xr.Dataset], seeds: Sequence[int]) -> xr.Dataset:
    """Concatenate the results of runs that differ in their seed along a dimension ``seed``.

    Runs that stopped early are filled up with NaN. In the attribute ``parameters``, what differs is
    a list with an entry for each run.
    """
    import xarray as xr

    joined = xr.concat(
        list(results), dim="seed", join="outer", combine_attrs="override", coords="minimal",
        data_vars="all", compat="equals",
    )  # fmt: skip
    joined["t"] = joined.t.max("seed", keep_attrs=True)  # equal in all runs that have the step
    joined = joined.assign_coords(seed=("seed", list(seeds), results[0].seed.attrs))
    parameters = _merged([json.loads(result.attrs["parameters"]) for result in results])
    text = json.dumps(parameters | {"seed": list(seeds)}, sort_keys=True)
    return joined.assign_attrs(parameters=text, seed=json.dumps(list(seeds)))


def _merged(each: Sequence[Any]) -> Any:
    """The common value, or the list of values that differ; entry by entry in mappings."""
    if all(isinstance(value, dict) for value in each):
        names = dict.fromkeys(name for value in each for name in value)
        return {name: _merged([value.get(name) for value in each]) for name in names}
    return each[0] if all(value == each[0] for value in each) else list(each)


def _train_in_processes(
    runs: Sequence[Run],
    at_a_time: int,
    report: Report | None,
    keep: Callable[[int, xr.Dataset], None],
    stop: StopRequest,
) -> None:
    context = get_context("spawn")
    waiting = deque(range(len(runs)))
    workers: dict[Any, BaseProcess] = {}  # by the parent's end of the pipe
    busy: dict[Any, int] = {}
    begun: set[Any] = set()
    told: set[Any] = set()
    line: Any

    def hand_out(line: Any) -> None:
        busy.pop(line, None)
        begun.discard(line)
        if waiting:
            busy[line] = waiting.popleft()
            line.send(runs[busy[line]])

    def end() -> None:
        waiting.clear()
        for line, process in workers.items():
            if line in busy.keys() - begun:  # it may be compiling, and has nothing to write
                process.kill()
                del busy[line]
            if line not in told:  # words to one that does not listen would fill its pipe
                told.add(line)
                with suppress(OSError):
                    line.send(None)

    try:
        # the processes inherit that these signals are ignored, and hear of them from here alone
        with handled_by(signal.SIG_IGN):
            for _ in range(at_a_time):
                line, its_end = context.Pipe()
                child = context.Process(target=_work, args=(its_end,), daemon=True)
                try:
                    child.start()
                finally:
                    its_end.close()  # nobody else holds it, so that it ends with the process
                workers[line] = child
        for line in workers:
            hand_out(line)
        while busy:
            if stop:
                end()
            for line in wait(list(busy), timeout=0.1):
                number = busy[line]
                try:
                    kind, content = line.recv()
                except (EOFError, OSError):
                    workers[line].join()
                    code = workers[line].exitcode
                    message = f"the process that trained seed {runs[number].seed} ended with {code}"
                    if code == 1:  # Python's own, before the first line of `_work`
                        message += ": does the script lack `if __name__ == '__main__':`?"
                    raise ChildProcessError(message) from None
                begun.add(line)
                if kind == "error":
                    raise content
                if kind == "result":
                    keep(number, content)
                    hand_out(line)
                elif report:
                    report(runs[number].seed, content)
    except KeyboardInterrupt:  # a second signal
        for process in workers.values():
            process.kill()
        raise
    finally:
        end()
        ended = []
        for line, process in workers.items():
            with suppress(EOFError, OSError):
                while True:  # what it still sends, so that it need not wait
                    kind, content = line.recv()
                    if kind == "result" and line in busy:
                        ended.append((busy[line], content))
            process.join()
        for number, result in ended:
            keep(number, result)


def _work(line: Connection) -> None:
    """Train the runs that come through the pipe, until the parent stops it or has gone."""

    def send(kind: str, content: object) -> None:
        with suppress(OSError):  # the parent has gone, which ends the run in order
            line.send((kind, content))

    def asked_to_stop() -> bool:
        try:
            return line.poll()
        except OSError:
            return True

    config.NUMBA_NUM_THREADS = 1  # type: ignore[attr-defined]
    with one_blas_thread(), handled_by(lambda *_: None), suppress(EOFError, OSError):
        while (run := line.recv()) is not None:
            try:
                send("result", run.train(lambda _, row: send("row", row), asked_to_stop)[0])
            except Exception as error:
                error.add_note(traceback.format_exc())
                send("error", _picklable(error))


def _picklable(error: Exception) -> Exception:
    try:
        pickle.loads(pickle.dumps(error))
    except Exception:
        return RuntimeError(f"{type(error).__name__}: {error}")
    return error
