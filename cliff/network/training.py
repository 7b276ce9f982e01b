"""Training that can be watched, interfered with, killed and resumed."""

from __future__ import annotations

import hashlib
import json
import math
import os
import signal
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from cliff.checks import ArgumentError, choice, integer, real
from cliff.kernels import network as kernels
from cliff.network.draws import Draws
from cliff.network.layers import Network
from cliff.network.measures import attention_maps, evaluate, evaluation_sets
from cliff.network.minimal import MinimalHead
from cliff.network.transformer import Transformer
from cliff.store import check_writable, provenance, write_atomic
from cliff.task import DATA, Batch, Question, Task, stream

if TYPE_CHECKING:
    import xarray as xr

MODELS: dict[str, type[Network]] = {"transformer": Transformer, "minimal": MinimalHead}

CHECKPOINT_FORMAT = 1
"""Version of the checkpoints. One with a higher number is refused rather than misread."""

Row = dict[str, float]
"""One record: names and numbers."""

Probe = Callable[[Network, Mapping[Question, Batch]], Mapping[str, float]]


class Status(StrEnum):
    """How a run ended."""

    DONE = "done"
    ACCURACY = "accuracy reached"
    NOT_FINITE = "not finite"


@dataclass
class State:
    """A run in progress, as callbacks see and change it.

    Attributes
    ----------
    net : Network
        Its `set_clamp` and `freeze` are there for interventions.
    task : Task
        Where the next batch comes from. It may be replaced by one with the same classes and labels,
        ``state.task = dataclasses.replace(state.task, p_novel=0.0)``.
    step : int
        Updates made so far.
    rows : list of dict
        What has been recorded so far.
    """

    net: Network
    task: Task
    step: int = 0
    rows: list[Row] = field(default_factory=list)


Callback = Callable[[State], object]


def train(
    net: Network,
    task: Task,
    n_steps: int,
    lr: float = 0.01,
    batch: int = 128,
    weight_decay: float = 1e-6,
    seed: int = 0,
    *,
    eval_every: int = 100,
    eval_size: int = 512,
    eval_seed: int | None = None,
    stop_accuracy: float | None = None,
    stop_delay: int = 0,
    checkpoint: str | os.PathLike[str] | None = None,
    checkpoint_every: int = 1000,
    resume: bool = False,
    callbacks: Sequence[Callback] = (),
    probes: Sequence[Probe] = (),
    report: Callable[[Row], object] | None = None,
) -> xr.Dataset:
    """Train a network on a task by stochastic gradient descent, in place.

    The network's own seed draws its initial parameters; `seed` draws the batches and `eval_seed`,
    from a stream of its own even where it is the same number, the held-out sequences. Neither
    evaluations nor the network change which batches are seen.

    Parameters
    ----------
    net : Transformer or MinimalHead
    task : Task
        The one that the network was made for, or one with the same classes and labels.
    n_steps : int
        Updates to make.
    lr : float
        Learning rate; a step advances the time t of gradient flow by as much.
    batch : int
        Fresh sequences for each update.
    weight_decay : float
        Each update first multiplies every parameter by 1 - weight_decay.
    seed : int
        Seed of the batches.
    eval_every : int
        Steps from one evaluation to the next. The first and the last step are evaluated too.
    eval_size : int
        Held-out sequences for each question.
    eval_seed : int, optional
        Seed of the held-out sequences; `seed` by default.
    stop_accuracy : float, optional
        Stop at the first evaluation with at least this held-out accuracy.
    stop_delay : int
        Go on for this many steps after that evaluation, up to the next one that is due: what
        follows a transition is recorded without waiting for `n_steps`.
    checkpoint : path-like, optional
        File that holds the whole state of the run, written every `checkpoint_every` steps, at the
        end, and on Ctrl-C.
    resume : bool
        Go on from the checkpoint, if there is one. The result is, bit for bit, that of a run that
        was never interrupted (with the same number of BLAS threads).
    callbacks : sequence of callable
        Each is called with the `State` before every update, and may change it: clamp a head, freeze
        parameters, replace the task. Checkpoints hold such changes; the functions themselves must
        be given again on resuming.
    probes : sequence of callable
        Each is called with the network and the evaluation sets at every evaluation, and returns
        named numbers to record, always the same names. Give the same ones again on resuming.
    report : callable, optional
        Called with each new record.

    Returns
    -------
    xarray.Dataset
        Over ``step``: ``t`` = lr step; ``loss`` (nats), ``accuracy``, ``ila1``, ``tila2``,
        ``tla2``, ``cla`` on the training distribution; accuracies ``icl``, ``icl_swapped``,
        ``iwl`` on the three questions; the `effective_logits` and the probes' numbers. Over
        ``moment`` (before, after): ``attention1`` and ``attention2`` as `attention_maps` gives
        them. The scalar ``status`` is "done", "accuracy reached" or "not finite" (the loss, of a
        batch or of an evaluation; the last record is of that moment), and ``last_step`` the number
        of updates made. The training distribution is that of `task`, whatever callbacks make of it.

    Raises
    ------
    ArgumentError
        If an argument is out of range, the network does not fit the task, a probe's names are
        taken or not those of the records before, or the checkpoint is truncated, foreign, of other
        settings, or there although `resume` is False.
    KeyboardInterrupt
        On Ctrl-C, after the current step and the checkpoint.

    Examples
    --------
    >>> from cliff.task import Task
    >>> task = Task(n_pairs=4, n_labels=8)
    >>> run = train(Transformer(task), task, n_steps=20, lr=0.1, eval_every=10, eval_size=64)
    >>> run.step.values.tolist(), run.status.item()
    ([0, 10, 20], 'done')

    A causal experiment: from step 10 on, every token attends to the one before it.

    >>> def intervene(state):
    ...     if state.step == 10:
    ...         state.net.set_clamp(1, "previous")
    >>> run = train(Transformer(task), task, 20, eval_every=10, callbacks=[intervene])
    >>> run.ila1.values[-1].item()
    1.0

    References
    ----------
    Reddy, ICLR 2024, arXiv:2312.03002, section 2 (batches of 128, learning rate 0.01).
    """
    check_options(
        n_steps, lr, batch, weight_decay, seed,
        eval_every=eval_every, eval_size=eval_size, eval_seed=eval_seed,
        stop_accuracy=stop_accuracy, stop_delay=stop_delay,
        checkpoint=checkpoint, checkpoint_every=checkpoint_every, resume=resume,
    )  # fmt: skip
    _check_same_world(net, task)

    settings = settings_of(
        net, task, lr, batch, weight_decay, seed,
        eval_every=eval_every, eval_size=eval_size, eval_seed=eval_seed,
    )  # fmt: skip
    state = State(net, task)
    rng = stream(seed, DATA)
    sets = evaluation_sets(task, seed if eval_seed is None else eval_seed, eval_size)
    before = attention_maps(net, sets["icl"])
    file = None if checkpoint is None else Path(checkpoint)
    if file and file.exists():
        saved = read_checkpoint(file, settings, n_steps)
        with _reading(file):
            before = saved.restore(state, rng)

    def due(step: float) -> bool:
        return step % eval_every == 0 or step == n_steps

    def record() -> None:
        if state.rows and state.rows[-1]["step"] == state.step:
            return
        row = {"step": state.step, "t": float(lr * state.step), **evaluate(net, sets)}
        for probe in probes:
            numbers = {name: float(number) for name, number in probe(net, sets).items()}
            if taken := sorted(numbers.keys() & row.keys()):
                raise ArgumentError("probes", ", ".join(taken), "is recorded already")
            row.update(numbers)
        if state.rows and (odd := sorted(state.rows[0].keys() ^ row.keys())):
            requirement = "must be recorded from the start of a run to its end, or not at all"
            raise ArgumentError("probes", ", ".join(odd), requirement)
        state.rows.append(row)
        if report:
            report(row)

    # a checkpoint from the end of a shorter run holds an evaluation that this one does not make
    state.rows = [row for row in state.rows if due(row["step"])]
    status = Status.DONE
    draws = Draws(rng, batch)
    # divergence is looked for in the loss; the warnings on its way there would say less
    with np.errstate(all="ignore"), _deferred_interrupt() as interrupted:
        while True:
            if due(state.step):
                record()
                status = _status(state.rows, stop_accuracy, stop_delay)
                if status == Status.NOT_FINITE:
                    break
            finished = status == Status.ACCURACY or state.step == n_steps
            if file and (finished or interrupted or state.step % checkpoint_every == 0):
                _save_checkpoint(file, settings, state, draws.state, before)
            if interrupted:
                raise KeyboardInterrupt
            if finished:
                break
            for callback in callbacks:
                callback(state)
            _check_same_world(net, state.task)
            if not math.isfinite(net.loss_and_gradient(draws.take(state.task), draws.ahead)):
                status = Status.NOT_FINITE
                record()
                break
            _descend(net, lr, weight_decay)
            state.step += 1
        after = attention_maps(net, sets["icl"])
    return _dataset(state, status, before, after, settings)


def check_options(
    n_steps: int,
    lr: float = 0.01,
    batch: int = 128,
    weight_decay: float = 1e-6,
    seed: int = 0,
    *,
    eval_every: int = 100,
    eval_size: int = 512,
    eval_seed: int | None = None,
    stop_accuracy: float | None = None,
    stop_delay: int = 0,
    checkpoint: str | os.PathLike[str] | None = None,
    checkpoint_every: int = 1000,
    resume: bool = False,
) -> None:
    """Raise ArgumentError if `train` would refuse the arguments, whatever the network and task."""
    integer("n_steps", n_steps, 0)
    real("lr", lr, 0)
    integer("batch", batch, 1)
    real("weight_decay", weight_decay, 0, 1)
    integer("seed", seed, 0)
    integer("eval_every", eval_every, 1)
    integer("eval_size", eval_size, 1)
    if eval_seed is not None:
        integer("eval_seed", eval_seed, 0)
    if stop_accuracy is not None:
        real("stop_accuracy", stop_accuracy, 0, 1)
    if integer("stop_delay", stop_delay, 0) and stop_accuracy is None:
        raise ArgumentError("stop_delay", stop_delay, "needs an accuracy to stop at")
    integer("checkpoint_every", checkpoint_every, 1)
    if checkpoint is not None and check_writable(checkpoint, "checkpoint").exists() and not resume:
        raise ArgumentError(
            "checkpoint", str(checkpoint), "exists: resume from it, or remove it first"
        )


def settings_of(
    net: Network,
    task: Task,
    lr: float = 0.01,
    batch: int = 128,
    weight_decay: float = 1e-6,
    seed: int = 0,
    *,
    eval_every: int = 100,
    eval_size: int = 512,
    eval_seed: int | None = None,
    **_: object,
) -> dict[str, Any]:
    """Everything that determines the records of `train`, callbacks and probes aside.

    The arguments are those of `train`, with the same defaults; the rest of them, which only say
    when it ends and what it keeps, are passed over. The network is untrained.
    """
    return {
        "task": task.settings(),
        **net.settings(),
        "clamp": {str(layer): pattern for layer, pattern in sorted(net.clamp.items())},
        "frozen": sorted(net.frozen),
        "initial_parameters": hashlib.sha256(net.parameters.vector.tobytes()).hexdigest()[:16],
        "lr": float(lr),
        "batch": int(batch),
        "weight_decay": float(weight_decay),
        "seed": int(seed),
        "eval_every": int(eval_every),
        "eval_size": int(eval_size),
        "eval_seed": None if eval_seed is None else int(eval_seed),
    }


def _status(rows: Sequence[Row], stop_accuracy: float | None, stop_delay: int) -> Status:
    """What the records say, so that a resumed run ends where an undisturbed one does."""
    if not math.isfinite(rows[-1]["loss"]):
        return Status.NOT_FINITE
    if stop_accuracy is not None:
        for row in rows:
            if row["accuracy"] >= stop_accuracy:
                delay = rows[-1]["step"] - row["step"]
                return Status.ACCURACY if delay >= stop_delay else Status.DONE
    return Status.DONE


def _descend(net: Network, lr: float, weight_decay: float) -> None:
    rate, decay = net.dtype.type(lr), net.dtype.type(weight_decay)
    if not net.frozen:
        kernels.descend(net.parameters.vector, net.gradients.vector, rate, decay)
        return
    for name, parameter in net.parameters.items():
        if name not in net.frozen:
            gradient = net.gradients[name].reshape(-1)
            kernels.descend(parameter.reshape(-1), gradient, rate, decay)


def _check_same_world(net: Network, task: Task) -> None:
    names = ("n_labels", "n_classes", "dim", "window", "seed")
    if task is not net.task:
        for name in names:
            own, other = getattr(net.task, name), getattr(task, name)
            if own != other:
                raise ArgumentError("task", f"({name}={other})", f"the network has {name}={own}")


def _dataset(
    state: State,
    status: Status,
    before: Mapping[str, Any],
    after: Mapping[str, Any],
    settings: Mapping[str, Any],
) -> xr.Dataset:
    import xarray as xr

    units = {"loss": "nats", "t": "learning rate times steps"}
    step = [row["step"] for row in state.rows]
    names = [name for name in state.rows[0] if name != "step"]
    variables: dict[str, Any] = {
        name: ("step", [row[name] for row in state.rows], {"units": units.get(name, "1")})
        for name in names
    }
    dims = {"attention1": ("token", "seen_token"), "attention2": ("slot", "seen_token")}
    for name, axes in dims.items():
        variables[name] = (("moment", *axes), np.stack([before[name], after[name]]), {"units": "1"})
    variables["status"] = ((), str(status))
    variables["last_step"] = ((), state.step, {"units": "1"})
    return xr.Dataset(
        variables,
        coords={
            "step": np.array(step, np.int64),
            "moment": ["before", "after"],
            "seed": settings["seed"],
        },
        attrs={**provenance(settings, settings["seed"]), "cliff_kind": "run"},
    )


@contextmanager
def _deferred_interrupt() -> Iterator[list[int]]:
    """Collect Ctrl-C in a list, so that a step is never cut in two; a second one cuts through."""
    received: list[int] = []
    if threading.current_thread() is not threading.main_thread():
        yield received  # signals go to the main thread only
        return

    def note(number: int, _frame: object) -> None:
        if received:
            raise KeyboardInterrupt
        received.append(number)

    previous = signal.signal(signal.SIGINT, note)
    try:
        yield received
    finally:
        signal.signal(signal.SIGINT, previous)
    if received:  # since it was last looked for
        raise KeyboardInterrupt


@dataclass(frozen=True)
class _Checkpoint:
    """The whole state of a run, and the settings that it was made with."""

    settings: dict[str, Any]
    state_of_generator: dict[str, Any]
    step: int
    rows: list[Row]
    task: Task
    clamp: dict[int, Any]
    frozen: set[str]
    parameters: NDArray[Any]
    before: dict[str, NDArray[Any]]

    def restore(self, state: State, rng: Generator) -> dict[str, NDArray[Any]]:
        """Bring a fresh state and generator to where the run was; return its first maps."""
        state.step, state.rows, state.task = self.step, list(self.rows), self.task
        self.restore_network(state.net)
        rng.bit_generator.state = self.state_of_generator
        return self.before

    def restore_network(self, net: Network) -> None:
        """Give a network of the same settings the run's parameters, clamps and frozen ones."""
        net.parameters.vector[:] = self.parameters
        net.clamp, net.frozen = dict(self.clamp), set(self.frozen)


def _save_checkpoint(
    path: Path,
    settings: Mapping[str, Any],
    state: State,
    state_of_generator: Mapping[str, Any],
    before: Mapping[str, NDArray[Any]],
) -> None:
    header = {
        "cliff_checkpoint": CHECKPOINT_FORMAT,
        "settings": settings,
        "step": state.step,
        "rows": state.rows,
        "generator": _plain(state_of_generator),
        "task": state.task.settings(),
        "clamp": list(state.net.clamp.items()),
        "frozen": sorted(state.net.frozen),
    }
    arrays: dict[str, Any] = {f"before_{name}": array for name, array in before.items()}
    parameters = state.net.parameters.vector
    try:
        write_atomic(
            path,
            lambda file: np.savez(
                file, header=np.array(json.dumps(header)), parameters=parameters, **arrays
            ),
        )
    except ArgumentError as error:  # it was writable when the run began: no mistake in the call
        raise OSError(f"no checkpoint could be written: {path}: {error.requirement}") from error


def read_checkpoint(path: Path, settings: Mapping[str, Any], n_steps: int) -> _Checkpoint:
    """Read the checkpoint of a run of `n_steps` steps with `settings`.

    Raises
    ------
    ArgumentError
        If it is truncated, foreign, of other settings or of a later step.
    """
    saved = _read_checkpoint(path)
    for name, value in json.loads(json.dumps(settings)).items():  # as they come back from a file
        found = saved.settings.get(name)
        if found != value:
            raise ArgumentError(
                "checkpoint", str(path), f"was made with {_difference(name, found, value)}"
            )
    if saved.step > n_steps:
        raise ArgumentError(
            "n_steps", n_steps, f"must be at least {saved.step}, where the checkpoint is"
        )
    return saved


def _difference(name: str, saved: Any, value: Any) -> str:
    """Say how two settings differ, down to the entry where they are mappings."""
    if isinstance(saved, dict) and isinstance(value, dict):
        pairs = {
            key: (saved.get(key, "nothing"), value.get(key, "nothing")) for key in saved | value
        }
        return next(_difference(key, *pair) for key, pair in pairs.items() if pair[0] != pair[1])
    return f"{name}={saved}, and this run has {value}"


def _plain(value: Any) -> Any:
    """A generator's state as values that JSON can hold exactly."""
    if isinstance(value, Mapping):
        return {key: _plain(entry) for key, entry in value.items()}
    return value.tolist() if isinstance(value, np.ndarray) else value


@contextmanager
def _reading(path: Path) -> Iterator[None]:
    """Say in one line that a file is no checkpoint, whatever goes wrong in reading it as one."""
    try:
        yield
    except Exception as error:  # zipfile, numpy, json and what is made of the entries: each its own
        raise ArgumentError(
            "checkpoint", str(path), "is not a checkpoint of this package, or is truncated"
        ) from error


def _read_checkpoint(path: Path) -> _Checkpoint:
    with _reading(path):
        with open(path, "rb") as opened, np.load(opened, allow_pickle=False) as file:
            arrays = {name: file[name] for name in file.files}
        header = json.loads(str(arrays.pop("header")))
        version = int(header["cliff_checkpoint"])
    if version > CHECKPOINT_FORMAT:
        raise ArgumentError(
            "checkpoint", str(path), "was written by a newer version of cliff: upgrade to read it"
        )
    with _reading(path):
        stream(0, DATA).bit_generator.state = header["generator"]  # raises if it is not a state
        rows = [dict(row) for row in header["rows"]]
        if not all({"step", "loss", "accuracy"} <= row.keys() for row in rows):
            raise ValueError("records without what every record has")
        return _Checkpoint(
            settings=dict(header["settings"]),
            state_of_generator=header["generator"],
            step=int(header["step"]),
            rows=rows,
            task=Task(**header["task"]),
            clamp=dict(header["clamp"]),
            frozen=set(header["frozen"]),
            parameters=arrays.pop("parameters"),
            before={name: arrays[f"before_{name}"] for name in ("attention1", "attention2")},
        )


def make_network(model: str, task: Task, seed: int = 0, **options: Any) -> Network:
    """Make a network by the name of its model, "transformer" or "minimal"."""
    return MODELS[choice("model", model, list(MODELS))](task, seed, **options)


def load_network(path: str | os.PathLike[str]) -> Network:
    """Rebuild the network of a checkpoint, with its parameters, clamps and frozen parameters.

    Raises
    ------
    ArgumentError
        If the file is missing, truncated or foreign.
    """
    saved = _read_checkpoint(Path(path))
    settings = saved.settings
    with _reading(Path(path)):
        options = {
            name: settings[name]
            for name in ("width", "dtype", "label_bias", "start")
            if name in settings
        }
        task = Task(**settings["task"])
        net = make_network(settings["model"], task, settings["net_seed"], **options)
        saved.restore_network(net)
    return net
