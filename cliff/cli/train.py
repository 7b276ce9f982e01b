"""``cliff train``: train the full network or the minimal head on the task."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from cliff.checks import ArgumentError, integer
from cliff.cli.common import (
    ComputationFailed,
    Json,
    Output,
    Pairs,
    Plot,
    Quiet,
    Seed,
    announce_compiling,
    check_outputs,
    describe,
    label_bias_of,
    print_json,
    say,
)
from cliff.cli.progress import Progress

if TYPE_CHECKING:
    import xarray as xr

    from cliff.network.runs import Run
    from cliff.schedule import Schedule

SHOWN = ("loss", "icl", "iwl", "ila1", "tila2")
"""What lines of progress and the summary show."""

MOST_SEEDS = 10_000
"""Most runs of one command, which keeps their curves in memory."""


class Model(StrEnum):
    """The networks."""

    TRANSFORMER = "transformer"
    MINIMAL = "minimal"


def train(
    context: typer.Context,
    pairs: Pairs = 8,
    labels: Annotated[
        int, typer.Option("--labels", "-L", help="Labels L, at least the classes in a context.")
    ] = 32,
    classes: Annotated[
        int | None,
        typer.Option(
            help="Known classes K, at least L (default: 512, or L); needs --p-novel below 1."
        ),
    ] = None,
    dim: Annotated[int, typer.Option(help="Dimension D of items and label vectors.")] = 63,
    noise: Annotated[
        float, typer.Option(help="Spread ε of the items of a class, at most 1e6.")
    ] = 0.1,
    zipf_exponent: Annotated[
        float,
        typer.Option(
            help="Exponent α of the known classes' frequencies, at most 10; "
            "needs --p-novel below 1."
        ),
    ] = 0.0,
    burstiness: Annotated[
        int,
        typer.Option(
            "--burstiness",
            "-B",
            help="Times B a class occurs in a bursty context; 0 makes all known ones independent.",
        ),
    ] = 1,
    p_bursty: Annotated[
        float,
        typer.Option(
            help="Bursty share p_B of the sequences that are not novel; needs --p-novel below 1."
        ),
    ] = 1.0,
    p_novel: Annotated[
        float,
        typer.Option(
            help="Share p_C of sequences with fresh classes. At 1 the known classes, their number "
            "and frequencies, only appear in the accuracies icl_swapped and iwl."
        ),
    ] = 1.0,
    novel: Annotated[
        int | None,
        typer.Option(help="Fresh classes in a batch; by default each sequence has its own."),
    ] = None,
    labels_drawn: Annotated[
        Literal["distinct", "replacement"],
        typer.Option(
            help="Whether the labels of a bursty or novel context are distinct, or drawn with "
            "replacement; N may exceed L then."
        ),
    ] = "distinct",
    window: Annotated[int, typer.Option(help="Positions P, at least 2N + 1.")] = 65,
    model: Annotated[Model, typer.Option(help="Which network to train.")] = Model.TRANSFORMER,
    width: Annotated[int, typer.Option(help="Units in each layer of the classifier.")] = 128,
    label_bias: Annotated[
        str, typer.Option(help="beta2 of the minimal head: free, or a number to hold it at.")
    ] = "free",
    curriculum: Annotated[
        str | None,
        typer.Option(
            metavar="FILE.json|adaptive",
            help="Train on easier settings first: along a file of `cliff curriculum`, whose target "
            "takes the place of --pairs and --labels, or on 2, 4, 8 … pairs, each until the "
            "attention to the correct label passes a threshold. Evaluations are on the target.",
        ),
    ] = None,
    steps: Annotated[int, typer.Option(help="Number of updates.")] = 10_000,
    lr: Annotated[float, typer.Option(help="Learning rate; time is t = lr × steps.")] = 0.1,
    batch: Annotated[int, typer.Option(help="Sequences in a batch.")] = 128,
    weight_decay: Annotated[float, typer.Option(help="Shrinkage of parameters a step.")] = 1e-6,
    eval_every: Annotated[int, typer.Option(help="Steps between evaluations.")] = 100,
    eval_size: Annotated[int, typer.Option(help="Held-out sequences for each question.")] = 512,
    stop_accuracy: Annotated[
        float | None, typer.Option(help="Stop at this held-out accuracy.")
    ] = None,
    stop_delay: Annotated[
        int, typer.Option(help="Steps to continue after --stop-accuracy is reached.")
    ] = 0,
    seed: Seed = 0,
    eval_seed: Annotated[
        int | None, typer.Option(help="Seed of the held-out sequences, if not the run's own.")
    ] = None,
    seeds: Annotated[
        str | None,
        typer.Option(help="Several runs side by side: 0:6, or 1,5,7. In place of --seed."),
    ] = None,
    task_seed: Annotated[
        int | None,
        typer.Option(help="Seed of the centres and label vectors, if not the run's own."),
    ] = None,
    processes: Annotated[
        int | None, typer.Option(help="Runs at a time; by default one on each core.")
    ] = None,
    checkpoint: Annotated[
        Path | None,
        typer.Option(help="Keep the state of the run here; {seed} stands for the seed."),
    ] = None,
    checkpoint_every: Annotated[int, typer.Option(help="Steps between checkpoints.")] = 1000,
    resume: Annotated[
        bool, typer.Option("--resume", help="Continue from the checkpoint, which must exist.")
    ] = False,
    output: Output = None,
    plot: Plot = None,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Train a network on the in-context task and record the progress measures.

    The defaults show the transition of an induction head, at about step 4,000.
    With --output RUN.nc the state is kept in RUN.checkpoint.npz unless --checkpoint says otherwise.
    Ctrl-C (and SIGTERM) writes the checkpoint and the records so far; --resume continues.

    Example: cliff train --seeds 0:6 --output run.nc --plot run.png
    """
    # before NumPy is loaded: these products are too small to be shared out among threads
    for name in ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS"):
        os.environ.setdefault(name, "1")
    schedule = None if curriculum in (None, "adaptive") else _schedule(curriculum)
    if schedule is not None:
        _take_target(context, schedule.settings[-1])
    _refuse_idle_options(context)
    chosen = [seed] if seeds is None else _seeds(seeds)
    if processes is not None:
        integer("processes", processes, 1)
    if task_seed is not None:
        integer("task_seed", task_seed, 0)
    keep = _checkpoint(checkpoint, output, resume, len(chosen))
    kept = [None if keep is None else Path(keep.replace("{seed}", str(each))) for each in chosen]
    check_outputs(output, plot, *(path for path in kept if path))
    if output is not None and output.exists() and not resume:
        raise ArgumentError("output", str(output), "exists: add --resume, or name another file")
    begun = [path for path in kept if resume and path and path.exists()]
    for each, path in zip(chosen, kept, strict=True):
        if begun and path not in begun:
            say(f"seed {each} starts from the beginning: there is no {path}", quiet)

    from cliff.interrupt import deferred
    from cliff.network.runs import Run
    from cliff.parallel import n_cores
    from cliff.schedule import Adaptive
    from cliff.store import locked
    from cliff.task import Task

    network: dict[str, Any] = {"width": width}
    if model is Model.MINIMAL:
        network["label_bias"] = label_bias_of(label_bias)
    of_task = "dim noise zipf_exponent burstiness p_bursty p_novel labels_drawn window"
    task = Task(
        n_pairs=context.params["pairs"],
        n_labels=context.params["labels"],
        n_classes=max(512, context.params["labels"]) if classes is None else classes,
        n_novel=context.params["novel"],
        **{name: context.params[name] for name in of_task.split()},
    )
    of_training = "lr batch weight_decay eval_every eval_size eval_seed stop_accuracy stop_delay"
    options = {name: context.params[name] for name in [*of_training.split(), "checkpoint_every"]}
    options["curriculum"] = Adaptive.doubling(task) if curriculum == "adaptive" else schedule
    if schedule is not None:
        schedule.tasks(task)  # refuses one that leads elsewhere, or nowhere
        if 0 < lr < float("inf") and steps >= 0:  # else refused with the other options
            schedule.check_reached(lr, steps)
    runs = [
        Run(
            model.value,
            replace(task, seed=each if task_seed is None else task_seed),
            each,
            steps,
            network,
            {**options, "checkpoint": path, "resume": resume and (path in begun or not begun)},
        )
        for each, path in zip(chosen, kept, strict=True)
    ]
    at_a_time = min(processes or n_cores(), len(runs))
    announce_compiling(quiet)
    results: dict[int, xr.Dataset] = {}
    # once there are results, a signal does not keep them from being written
    with locked(output, "output", "training"), deferred(when=lambda: bool(results)):
        failure = _train(runs, at_a_time, quiet, results)
        if results:
            lost = _add_records(runs, results) if failure else []
            found = [results[number] for number in sorted(results)]
            if lost:
                seeds = ", ".join(str(each) for each in lost)
                say(f"{output} stays as it was: no records of seed {seeds} were found", quiet)
            _write(found, len(runs) == 1, None if lost else output, plot, quiet)
            ended = _tell(found, as_json)
            failure = failure or ended
    if failure:
        raise failure


def _schedule(path: str) -> Schedule:
    """The schedule of a file, or ArgumentError that names the option."""
    from cliff.schedule import Schedule

    try:
        return Schedule.load(path)
    except ArgumentError as error:
        told = "" if error.argument == "path" else f"{error.value}: "
        raise ArgumentError("curriculum", path or "''", told + error.requirement) from None


def _take_target(context: typer.Context, target: Mapping[str, Any]) -> None:
    """Let the target of a schedule stand for the options of the task that are not given."""
    names = {"n_pairs": "pairs", "n_labels": "labels", "n_novel": "novel"}
    for name, value in target.items():
        option = names.get(name, name)
        if option not in _given(context):
            context.params[option] = value


def _given(context: typer.Context) -> set[str]:
    """Names of the options on the command line."""
    return {
        name
        for name in context.params
        if getattr(context.get_parameter_source(name), "name", "") == "COMMANDLINE"
    }


def _refuse_idle_options(context: typer.Context) -> None:
    """Raise ArgumentError if an option is given that would change nothing."""
    given = _given(context)
    value = context.params
    unknown = value["p_novel"] == 1 and "needs sequences that are not novel: set --p-novel below 1"
    idle = {
        "seed": "seeds" in given and "stands for one run: leave it out beside --seeds",
        "processes": "seeds" not in given and "needs several runs: give --seeds",
        "label_bias": value["model"] != Model.MINIMAL and "belongs to --model minimal",
        "classes": unknown,
        "zipf_exponent": unknown,
        "p_bursty": unknown or (not value["burstiness"] and "needs --burstiness of at least 1"),
        "novel": not value["p_novel"] and "needs novel sequences: set --p-novel above 0",
        "stop_delay": value["stop_accuracy"] is None and "needs --stop-accuracy",
        "checkpoint_every": not given & {"checkpoint", "output"}
        and "needs --checkpoint or --output",
    }
    for name, reason in idle.items():
        if reason and name in given:
            raise ArgumentError(name, value[name], reason)


def _seeds(text: str) -> list[int]:
    """Seeds of "first:end" (without the end) or of "a,b,c"."""
    try:
        if ":" in text:
            first, end = (int(part) for part in text.split(":"))
            chosen = list(range(first, min(end, first + MOST_SEEDS + 1)))
        else:
            chosen = [int(part) for part in text.split(",")]
    except ValueError:
        chosen = []
    if not chosen or min(chosen) < 0 or len(set(chosen)) < len(chosen):
        raise ArgumentError("seeds", text, "must be a range such as 0:6, or a list such as 1,5,7")
    if len(chosen) > MOST_SEEDS:
        raise ArgumentError("seeds", text, f"must be {MOST_SEEDS} at most")
    return chosen


def _checkpoint(given: Path | None, output: Path | None, resume: bool, n_runs: int) -> str | None:
    """Name of the checkpoints, in which {seed} stands for the seed."""
    if given is not None:
        if n_runs > 1 and "{seed}" not in str(given):
            raise ArgumentError("checkpoint", str(given), "must contain {seed}, one for each run")
        return str(given)
    if output is not None:
        middle = ".{seed}" if n_runs > 1 else ""
        return str(output.parent / f"{output.stem}{middle}.checkpoint.npz")
    if resume:
        raise ArgumentError("resume", True, "needs --checkpoint or --output, to know the file")
    return None


def _add_records(runs: Sequence[Run], results: dict[int, xr.Dataset]) -> list[int]:
    """Add what the checkpoints hold of resumed runs without a result; the seeds that have none."""
    lost = []
    for number, run in enumerate(runs):
        if number not in results and run.options["resume"]:
            try:
                results[number] = run.train(asked_to_stop=lambda: True)[0]
            except (OSError, ArgumentError):
                lost.append(run.seed)
    return lost


def _train(
    runs: Sequence[Run], at_a_time: int, quiet: bool, results: dict[int, xr.Dataset]
) -> BaseException | None:
    """Train into `results` behind lines of progress; returns what ended it early."""
    from cliff.network.runs import run_all

    def report(seed: int, row: dict[str, float]) -> None:
        words = [f"{name} {row[name]:.2f}" for name in SHOWN]
        if "stage" in row:
            words.insert(0, f"stage {row['stage']:.0f}")
        total = runs[0].n_steps
        progress.update(f"seed {seed}", row["step"], total, (f"step {row['step']:.0f}", *words))

    def advice(text: str) -> str:
        """The text, if there is something to resume from."""
        kept = [run.options["checkpoint"] for run in runs]
        return text if any(path and path.exists() for path in kept) else ""

    failure: BaseException | None = None
    try:
        with Progress(quiet) as progress:
            run_all(runs, at_a_time, report, results.__setitem__)
    except ChildProcessError as error:
        failure = ComputationFailed(f"{error}{advice('; --resume goes on from the checkpoints')}")
        failure.__cause__ = error
    except KeyboardInterrupt as error:
        failure = type(error)(f"interrupted{advice(', and kept: --resume goes on from here')}")
    except (OSError, ArgumentError) as error:
        if not results:
            raise
        told = describe(error) if isinstance(error, ArgumentError) else error
        failure = ComputationFailed(f"{told}{advice('; --resume goes on from the checkpoints')}")
        failure.__cause__ = error
    return failure


def _write(
    runs: Sequence[xr.Dataset], alone: bool, output: Path | None, plot: Path | None, quiet: bool
) -> None:
    """Write the results, side by side unless one run was all, and draw them."""
    from cliff.network.runs import side_by_side
    from cliff.store import save

    result = runs[0] if alone else side_by_side(runs, [int(run.seed) for run in runs])
    if output is not None:
        save(result, output)
        say(f"wrote {output}", quiet)
    if plot is not None:
        from cliff import plots

        plots.save(plots.draw(result), plot)
        say(f"wrote {plot}", quiet)


def _tell(runs: Sequence[xr.Dataset], as_json: bool) -> Exception | None:
    """Print where the runs ended; the failure is that the loss of one did not stay finite."""
    from cliff.network.training import RunStatus

    summaries = []
    for run in runs:
        last = run.isel(step=-1)
        numbers = {
            str(name): float(last[name]) for name, each in run.items() if "step" in each.dims
        }
        ended = {"seed": int(run.seed), "status": run.status.item(), "steps": int(run.last_step)}
        summaries.append({**ended, **numbers})
    if as_json:
        print_json({"runs": summaries})
    else:
        for summary in summaries:
            values = "  ".join(f"{name} {summary[name]:.3f}" for name in SHOWN)
            print("seed {seed}: {status} at step {steps}, ".format(**summary) + values)
    failed = [summary for summary in summaries if summary["status"] == RunStatus.NOT_FINITE]
    if not failed:
        return None
    where = ", ".join("seed {seed} at step {steps}".format(**summary) for summary in failed)
    return ComputationFailed(f"the loss was no longer finite: {where}, where the curves end")
