"""Training by stochastic gradient descent: the loop, its records and its interventions."""

from __future__ import annotations

import hashlib
import math
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from enum import StrEnum
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from cliff.checks import ArgumentError, check_memory, choice
from cliff.interrupt import StopRequest, deferred
from cliff.kernels import network as kernels
from cliff.network.checkpoint import Checkpoint, reading
from cliff.network.course import Course
from cliff.network.draws import Draws
from cliff.network.layers import Network
from cliff.network.logits import effective_memory
from cliff.network.measures import attention_maps, evaluate, evaluation_sets, memory_sets
from cliff.network.minimal import MinimalHead
from cliff.network.options import TrainingOptions
from cliff.network.transformer import Transformer
from cliff.schedule import Curriculum
from cliff.store import check_name, locked, provenance
from cliff.task import DATA, Batch, Question, Task, stream

if TYPE_CHECKING:
    import xarray as xr

MODELS: dict[str, type[Network]] = {"transformer": Transformer, "minimal": MinimalHead}

Row = dict[str, float]
"""One record: numbers by name."""

Probe = Callable[[Network, Mapping[Question, Batch]], Mapping[str, float]]

LONG_NAMES = {
    "step": "updates made",
    "t": "gradient-flow time, learning rate times steps",
    "loss": "cross-entropy on the training distribution",
    "accuracy": "share of right answers on the training distribution",
    "p_correct": "mean probability of the correct label on the training distribution",
    "icl": "share of right answers, novel classes",
    "icl_swapped": "share of right answers, known classes with permuted labels",
    "iwl": "share of right answers, target's class absent from the context",
    "ila1": "layer-1 attention of a label to the item before it",
    "tila2": "layer-2 attention of the target to the correct labels",
    "tla2": "layer-2 attention of the target to all labels",
    "cla": "probability of the labels present in the context",
    "beta1": "effective logit of attention to the previous token",
    "alpha": "effective logit of attention to matching items",
    "xi": "effective logit of the classifier",
    "beta2": "effective logit of attention to labels",
    "xi_chord": "effective logit of the classifier, as a chord",
    "beta1_residual": "variance of layer-1 scores that beta1 leaves unexplained",
    "match_residual": "variance of layer-2 scores that alpha and beta2 leave unexplained",
    "xi_noise": "share of the force on the signal that the rest of the logits takes back",
    "xi_residual": "variance of the logits that xi_chord leaves unexplained",
    "omega_residual": "variance of the logits without layer 2 that the memory leaves unexplained",
    "stage": "stage of the curriculum, from 0, of the next update",
    "progress": "measure on the stage's own task for which the curriculum waits",
    "attention1": "mean layer-1 attention of each token",
    "attention2": "mean layer-2 attention of the target, by the slot of the correct label",
    "status": "how the run ended",
    "last_step": "updates made when the run ended",
    "moment": "before or after training",
    "seed": "seed of the run",
}
"""What the variables of a run hold. A probe cannot use these names."""

_DIMENSIONS = {"attention1": ("token", "seen_token"), "attention2": ("slot", "seen_token")}
_RESERVED = {*LONG_NAMES, *(name for names in _DIMENSIONS.values() for name in names)}


class RunStatus(StrEnum):
    """How a run ended."""

    DONE = "done"
    ACCURACY = "accuracy reached"
    NOT_FINITE = "not finite"
    INTERRUPTED = "interrupted"


class TrainingState:
    """A run in progress, as callbacks see it.

    Attributes
    ----------
    net : Network
        Its `set_clamp`, `freeze` and parameters are there for interventions. Read-only: callbacks
        change the network, they do not replace it.
    task : Task
        Source of the next batch. It may be replaced by a task with the same classes and labels,
        ``state.task = dataclasses.replace(state.task, p_novel=0.0)``, or by one of novel classes
        alone with fewer labels. A curriculum replaces it where a stage begins.
    step : int
        Updates made so far. Read-only.
    stage : int
        Stage of the curriculum, from 0. Read-only.
    rows : tuple of dict
        The records so far. Read-only.
    """

    def __init__(self, net: Network, task: Task) -> None:
        self._net, self.task = net, task
        self._step, self._stage, self._rows = 0, 0, list[Row]()

    @property
    def net(self) -> Network:
        return self._net

    @property
    def step(self) -> int:
        return self._step

    @property
    def stage(self) -> int:
        return self._stage

    @property
    def rows(self) -> tuple[Row, ...]:
        return tuple(self._rows)


Callback = Callable[[TrainingState], object]


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
    curriculum: Curriculum | None = None,
    callbacks: Sequence[Callback] = (),
    probes: Sequence[Probe] = (),
    report: Callable[[Row], object] | None = None,
) -> xr.Dataset:
    """Train a network on a task by stochastic gradient descent, in place.

    The network's own seed draws its initial parameters, `seed` draws the batches, and `eval_seed`
    draws the held-out sequences, from a separate stream even where both seeds are equal. Which
    batches are seen depends on `seed`, the task and the curriculum alone.

    Parameters
    ----------
    net : Transformer or MinimalHead
    task : Task
        The network's own task, or one with the same classes and labels.
    n_steps : int
        Number of updates.
    lr : float
        Learning rate. A step advances the gradient-flow time t by `lr`.
    batch : int
        Fresh sequences for each update.
    weight_decay : float
        Each update first multiplies every parameter by 1 - weight_decay.
    seed : int
        Seed of the batches.
    eval_every : int
        Steps between evaluations. The first and the last step are evaluated too.
    eval_size : int
        Held-out sequences for each question.
    eval_seed : int, optional
        Seed of the held-out sequences; `seed` by default.
    stop_accuracy : float, optional
        Stop at the first evaluation with at least this held-out accuracy.
    stop_delay : int
        Continue for this many steps after that evaluation, and up to the next evaluation, so that
        the records show what follows a transition.
    checkpoint : path-like, optional
        File for the whole state of the run, written every `checkpoint_every` steps, at the end, and
        on Ctrl-C or SIGTERM. One run at a time may write to it.
    checkpoint_every : int
        Steps between checkpoints.
    resume : bool
        Continue from the checkpoint, which must exist. On the same machine with the same libraries
        the result is identical, bit for bit, to the result of an uninterrupted run.
    curriculum : Schedule or Adaptive, optional
        Settings of the task on which to train before `task`, the target. A stage of a schedule
        begins with the first update at which lr × step has reached the end of the stage before. All
        evaluations, and so `stop_accuracy`, are on the target.
    callbacks : sequence of callable
        Each is called with the `TrainingState` before every update, and may intervene: clamp a
        head, freeze or overwrite parameters, replace the task. Checkpoints hold such changes, but
        not the functions, which must be given again on resuming.
    probes : sequence of callable
        Each is called with the network and the evaluation sets at every evaluation, and returns
        numbers to record by name, always under the same names. They must be given again on
        resuming.
    report : callable, optional
        Called with each new record and, on resuming, with the last record of the checkpoint.

    Returns
    -------
    xarray.Dataset
        Over ``step``: ``t`` = lr step; the `measures` on the training distribution (``loss`` in
        nats, ``accuracy``, ``ila1``, ``tila2``, ``tla2``, ``cla``); the accuracies ``icl``,
        ``icl_swapped``, ``iwl`` on the three questions; the `effective_logits` and, unless all
        sequences are novel, the `effective_memory`; the numbers of the probes; with a curriculum
        the ``stage`` of the next update, and with an adaptive one its ``progress``, the measure on
        held-out sequences of the stage that it was in. Over ``moment`` (before, after): the
        `attention_maps` ``attention1`` and ``attention2``. The scalar ``status`` is "done",
        "accuracy reached" or "not finite" (the loss of a batch or of an evaluation; the last record
        is of that moment); ``last_step`` is the number of updates made. All evaluations but
        ``progress`` are on `task`, also where a curriculum or callbacks replace it.

    Raises
    ------
    ArgumentError
        If an argument is out of range; the network does not fit the task; the curriculum does not
        lead to the task; a probe raises, or its
        names are taken or change; a callback replaces the network's arrays; the checkpoint is
        truncated, foreign, of other settings, in use by another run, missing although `resume` is
        True, or there although it is False.
    KeyboardInterrupt
        On Ctrl-C (or, as its subclass `cliff.interrupt.Terminated`, on SIGTERM), after the current
        step and the checkpoint.

    Examples
    --------
    >>> from cliff.task import Task
    >>> task = Task(n_pairs=4, n_labels=8)
    >>> run = train(Transformer(task), task, n_steps=20, lr=0.1, eval_every=10, eval_size=64)
    >>> run.step.values.tolist(), run.status.item()
    ([0, 10, 20], 'done')

    A causal experiment: from step 10 on, every token attends to the previous token.

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
    options = TrainingOptions(
        n_steps, lr, batch, weight_decay, seed, eval_every, eval_size, eval_seed,
        stop_accuracy, stop_delay, checkpoint, checkpoint_every, resume, curriculum,
    )  # fmt: skip
    run, stop = run_training(net, task, options, callbacks, probes, report)
    stop.raise_if_made()
    return run


def run_training(
    net: Network,
    task: Task,
    options: TrainingOptions,
    callbacks: Sequence[Callback] = (),
    probes: Sequence[Probe] = (),
    report: Callable[[Row], object] | None = None,
    asked_to_stop: Callable[[], bool] = lambda: False,
) -> tuple[xr.Dataset, StopRequest]:
    """Train as `train` does, and return what there is when a signal interrupts.

    `asked_to_stop` is called before every update; a true answer interrupts like a signal. The
    status of the run that is returned may then also be "interrupted".
    """
    check_fits(net, task)
    course = Course(task, options)
    check_memory("batch", options.batch, net.memory(options.batch))
    check_memory("eval_size", options.eval_size, 4 * net.memory(options.eval_size))
    settings = settings_of(net, task, options)
    rng = stream(options.seed, DATA)
    sets = evaluation_sets(task, options.seed_of_evaluations, options.eval_size)
    memory = memory_sets(task, options.seed_of_evaluations, options.eval_size)
    before = attention_maps(net, sets["icl"])
    state = TrainingState(net, course.tasks[0])
    rows, file, arrays, status = state._rows, options.file, net.parameters, RunStatus.DONE
    attributes = {**provenance(settings, options.seed), "cliff_kind": "run"}

    def measured() -> Row:
        row = {"step": state.step, "t": float(options.lr * state.step), **evaluate(net, sets)}
        row |= effective_memory(net, memory, task.group_shares) if memory else {}
        row |= course.record(net, state.step, rows)
        for probe in probes:
            row |= _probed(probe, net, sets, row)
        if odd := sorted(row.keys() ^ rows[0].keys()) if rows else []:
            names = ", ".join(odd)
            if any(name in LONG_NAMES or name.startswith("omega_") for name in odd):
                requirement = f"is of another version of cliff, whose records differ in {names}"
                raise ArgumentError("checkpoint", str(file), requirement)
            raise ArgumentError("probes", names, "must be recorded throughout a run, or not at all")
        return row

    def record() -> None:
        if not rows or rows[-1]["step"] != state.step:
            rows.append(measured())
            if report:
                report(rows[-1])

    def go_on() -> None:
        stage = course.stage(state.step, rows)
        if stage != state.stage:
            state._stage, state.task = stage, course.tasks[stage]

    # divergence shows in the loss; floating-point warnings before it would say less
    with locked(file, "checkpoint", "training"), np.errstate(all="ignore"):
        if file and options.resume:
            saved = Checkpoint.read(file)
            saved.check(file, settings, options.n_steps)
            saved.restore(net, file)
            # without the evaluation at the end of a shorter run, which this run does not make
            rows += [row for row in saved.rows if options.due(row["step"])]
            state._step, state.task = saved.step, saved.task
            state._stage = course.stage(state.step, rows)
            rng.bit_generator.state = saved.generator
            measured()  # refuses probes that are not those of the checkpoint
            if report:
                report(rows[-1])
        draws = Draws(rng, options.batch)
        with deferred() as stop:
            while True:
                go_on()
                if options.due(state.step):
                    record()
                    go_on()
                    status = _status(rows, options)
                    if status == RunStatus.NOT_FINITE:
                        break
                finished = status == RunStatus.ACCURACY or state.step == options.n_steps
                interrupted = asked_to_stop() or bool(stop)
                if file and (finished or interrupted or state.step % options.checkpoint_every == 0):
                    Checkpoint(
                        settings, draws.state, state.step, rows, state.task,
                        net.clamp, net.frozen, net.parameters.vector,
                    ).write(file)  # fmt: skip
                if finished:
                    break
                if interrupted:
                    status = RunStatus.INTERRUPTED
                    break
                for callback in callbacks:
                    callback(state)
                check_fits(net, state.task, for_batches=True)
                if net.parameters is not arrays or net.dtype != arrays.vector.dtype:
                    requirement = "must write into the network's arrays, not replace them"
                    raise ArgumentError("callbacks", "net.parameters", requirement)
                if not math.isfinite(net.loss_and_gradient(draws.take(state.task), draws.ahead)):
                    status = RunStatus.NOT_FINITE
                    record()
                    break
                descend(net, options.lr, options.weight_decay)
                state._step += 1
            maps = before, attention_maps(net, sets["icl"])
            return _dataset(state, status, maps, options.seed).assign_attrs(attributes), stop


def settings_of(net: Network, task: Task, options: TrainingOptions) -> dict[str, Any]:
    """Everything that determines the records of `train`, apart from callbacks and probes.

    The network must be untrained.
    """
    return {
        "task": task.settings(),
        **net.settings(),
        "clamp": {str(layer): pattern for layer, pattern in sorted(net.clamp.items())},
        "frozen": sorted(net.frozen),
        "initial_parameters": hashlib.sha256(net.parameters.vector.tobytes()).hexdigest()[:16],
        **options.settings(),
    }


def descend(net: Network, lr: float, weight_decay: float) -> None:
    """One update of the parameters that are not frozen, along the latest gradient."""
    rate, decay = net.dtype.type(lr), net.dtype.type(weight_decay)
    if not net.frozen:
        kernels.descend(net.parameters.vector, net.gradients.vector, rate, decay)
        return
    for name, parameter in net.parameters.items():
        if name not in net.frozen:
            gradient = net.gradients[name].reshape(-1)
            kernels.descend(parameter.reshape(-1), gradient, rate, decay)


def check_fits(net: Network, task: Task, for_batches: bool = False) -> None:
    """Raise ArgumentError unless `task` has the classes, labels and sizes of the network's task.

    Where it only draws batches, of novel classes alone, fewer labels will do: the first ones.
    """
    if not isinstance(task, Task):
        raise ArgumentError("task", task, "must be a Task")
    if task is not net.task:
        for name in ("n_labels", "n_classes", "dim", "window", "seed"):
            own, other = getattr(net.task, name), getattr(task, name)
            fewer = name == "n_labels" and for_batches and task.p_novel == 1 and other < own
            if own != other and not fewer:
                raise ArgumentError("task", f"({name}={other})", f"the network has {name}={own}")


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
    file = Path(path)
    saved = Checkpoint.read(file)
    settings = saved.settings
    with reading(file):
        names = settings.keys() & {"width", "dtype", "label_bias", "start"}
        options = {name: settings[name] for name in names}
        task = Task(**settings["task"])
        net = make_network(settings["model"], task, settings["net_seed"], **options)
    saved.restore(net, file)
    return net


def _probed(
    probe: Probe, net: Network, sets: Mapping[Question, Batch], taken: Iterable[str]
) -> Row:
    """The numbers of a probe."""
    try:
        numbers = {name: float(number) for name, number in probe(net, sets).items()}
    except Exception as error:
        called = getattr(probe, "__name__", type(probe).__name__)
        requirement = f"raised {type(error).__name__}: {error}"
        raise ArgumentError("probes", called, requirement) from error
    for name in numbers:
        if name in taken or name in _RESERVED:
            raise ArgumentError("probes", name, "is recorded already")
        check_name("probes", name)
    return numbers


def _status(rows: Sequence[Row], options: TrainingOptions) -> RunStatus:
    """The status that the records imply, the same for a resumed and an uninterrupted run."""
    if not math.isfinite(rows[-1]["loss"]):
        return RunStatus.NOT_FINITE
    if options.stop_accuracy is not None:
        for row in rows:
            if row["accuracy"] >= options.stop_accuracy:
                if rows[-1]["step"] - row["step"] >= options.stop_delay:
                    return RunStatus.ACCURACY
                break
    return RunStatus.DONE


def _dataset(
    state: TrainingState, status: RunStatus, maps: Sequence[Mapping[str, Any]], seed: int
) -> xr.Dataset:
    """The records and the attention maps before and after, with their names and units."""
    import xarray as xr

    columns = {name: ("step", [row[name] for row in state.rows]) for name in state.rows[0]}
    variables: dict[str, Any] = columns | {
        name: (("moment", *axes), np.stack([each[name] for each in maps]))
        for name, axes in _DIMENSIONS.items()
    }
    variables |= {
        "step": ("step", np.array(columns.pop("step")[1], np.int64)),
        "moment": ("moment", ["before", "after"]),
        "seed": ((), seed),
        "status": ((), str(status)),
        "last_step": ((), state.step),
    }
    run = xr.Dataset(variables).set_coords("seed")
    edges = state.net.task.group_edges
    groups = {
        f"omega_{number}": f"memory logit of the classes of rank {first + 1} to {end}"
        for number, (first, end) in enumerate(pairwise(edges), 1)
        if "omega_residual" in run
    }
    names = LONG_NAMES | groups
    for name, variable in run.variables.items():
        variable.attrs["long_name"] = names.get(str(name), f"{name}, recorded by a probe")
        variable.attrs["units"] = "nats" if name == "loss" else "1"
    return run
