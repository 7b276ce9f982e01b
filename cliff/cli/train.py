"""``cliff train``: train the full network or the minimal head on the task."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cliff.checks import ArgumentError, choice, integer
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
    label_bias_of,
    print_json,
    say,
)
from cliff.interrupt import handled_by

if TYPE_CHECKING:
    import xarray as xr
    from rich.progress import Progress

    from cliff.network.runs import Run

SHOWN = ("loss", "icl", "iwl", "ila1", "tila2")
"""What the line of progress shows."""

MOST_SEEDS = 10_000
"""Runs of one command: each has a line of progress and its curves in memory."""


def train(
    pairs: Pairs = 8,
    labels: Annotated[
        int, typer.Option("--labels", "-L", help="Labels L, at least the classes in a context.")
    ] = 32,
    classes: Annotated[int, typer.Option(help="Classes K, at least L.")] = 512,
    dim: Annotated[int, typer.Option(help="Dimension D of items and label vectors.")] = 63,
    noise: Annotated[
        float, typer.Option(help="Spread of the items of a class, at most 1e6.")
    ] = 0.1,
    zipf_exponent: Annotated[
        float, typer.Option(help="Exponent of the frequencies of the known classes, at most 10.")
    ] = 0.0,
    burstiness: Annotated[
        int,
        typer.Option(
            "--burstiness",
            "-B",
            help="Times a class occurs in a bursty context; 0 makes all known ones independent.",
        ),
    ] = 1,
    p_bursty: Annotated[
        float, typer.Option(help="Bursty share of the sequences that are not novel.")
    ] = 1.0,
    p_novel: Annotated[float, typer.Option(help="Share of sequences with fresh classes.")] = 1.0,
    novel: Annotated[
        int | None,
        typer.Option(help="Fresh classes in a batch; by default each sequence has its own."),
    ] = None,
    window: Annotated[int, typer.Option(help="Positions, at least 2N + 1.")] = 65,
    model: Annotated[str, typer.Option(help="transformer or minimal.")] = "transformer",
    width: Annotated[int, typer.Option(help="Units in each layer of the classifier.")] = 128,
    label_bias: Annotated[
        str, typer.Option(help="beta2 of the minimal head: free, or a number to hold it at.")
    ] = "free",
    steps: Annotated[int, typer.Option(help="Updates to make.")] = 10_000,
    lr: Annotated[float, typer.Option(help="Learning rate; time is t = lr × steps.")] = 0.1,
    batch: Annotated[int, typer.Option(help="Sequences in a batch.")] = 128,
    weight_decay: Annotated[float, typer.Option(help="Shrinkage of parameters a step.")] = 1e-6,
    eval_every: Annotated[int, typer.Option(help="Steps between evaluations.")] = 100,
    eval_size: Annotated[int, typer.Option(help="Held-out sequences for each question.")] = 512,
    stop_accuracy: Annotated[
        float | None, typer.Option(help="Stop at this held-out accuracy.")
    ] = None,
    stop_delay: Annotated[int, typer.Option(help="Steps to go on for after that.")] = 0,
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
        bool, typer.Option("--resume", help="Go on from the checkpoint, where there is one.")
    ] = False,
    output: Output = None,
    plot: Plot = None,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Train a network on the in-context task and record the progress measures.

    The defaults show the transition of an induction head, at about step 4,000.
    With --output RUN.nc the state is kept in RUN.checkpoint.npz unless --checkpoint says otherwise.
    """
    # before NumPy is loaded: these products are too small to be shared out among threads
    for name in ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS"):
        os.environ.setdefault(name, "1")
    chosen = _seeds(seeds) if seeds is not None else [seed]
    if processes is not None and processes < 1:
        raise ArgumentError("processes", processes, "must be at least 1")
    choice("model", model, ("transformer", "minimal"))
    if task_seed is not None:
        integer("task_seed", task_seed, 0)
    keep = _checkpoint(checkpoint, output, resume, len(chosen))
    kept = [None if keep is None else keep.replace("{seed}", str(number)) for number in chosen]
    check_outputs(output, plot, *(Path(name) for name in kept if name))

    from cliff.network.runs import Run
    from cliff.task import Task

    network: dict[str, Any] = {"width": width}
    if model == "minimal":
        network["label_bias"] = label_bias_of(label_bias)
    elif label_bias != "free":
        raise ArgumentError("label_bias", label_bias, "belongs to the minimal head")
    task: dict[str, Any] = {
        "n_pairs": pairs,
        "n_labels": labels,
        "n_classes": classes,
        "dim": dim,
        "noise": noise,
        "zipf_exponent": zipf_exponent,
        "burstiness": burstiness,
        "p_bursty": p_bursty,
        "p_novel": p_novel,
        "n_novel": novel,
        "window": window,
    }
    options = {
        "lr": lr,
        "batch": batch,
        "weight_decay": weight_decay,
        "eval_every": eval_every,
        "eval_size": eval_size,
        "eval_seed": eval_seed,
        "stop_accuracy": stop_accuracy,
        "stop_delay": stop_delay,
        "checkpoint_every": checkpoint_every,
        "resume": resume,
    }
    runs = [
        Run(
            model,
            Task(**task, seed=number if task_seed is None else task_seed),
            number,
            steps,
            network,
            {**options, "checkpoint": name},
        )
        for number, name in zip(chosen, kept, strict=True)
    ]
    announce_compiling(quiet)
    result = _train(runs, processes, quiet)
    if output is not None:
        from cliff.store import save

        save(result, output)
        say(f"wrote {output}", quiet)
    if plot is not None:
        from cliff import plots

        plots.save(plots.draw(result), plot)
        say(f"wrote {plot}", quiet)
    _tell(result, as_json)


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
        raise ArgumentError("resume", "", "needs --checkpoint or --output, to know the file")
    return None


def _train(runs: list[Run], processes: int | None, quiet: bool) -> xr.Dataset:
    """Train, with words for what can end it early."""
    kept = [Path(run.options["checkpoint"]) for run in runs if run.options["checkpoint"]]
    try:
        return _show_and_train(runs, processes, quiet)
    except ChildProcessError as error:
        advice = "; --resume goes on from the checkpoints" * any(path.exists() for path in kept)
        raise ComputationFailed(f"{error}{advice}") from error
    except KeyboardInterrupt as error:
        # Ctrl-C before the first step leaves nothing to go on from
        advice = ", and kept: --resume goes on from here" * any(path.exists() for path in kept)
        raise type(error)(f"interrupted{advice}") from error


def _show_and_train(runs: list[Run], processes: int | None, quiet: bool) -> xr.Dataset:
    """Run them all behind a line of progress each, and lay the results side by side."""
    from cliff.network.runs import run_all, side_by_side

    progress = _lines(quiet)
    lines = {run.seed: progress.add_task("", total=run.n_steps) for run in runs}

    def report(seed: int, row: dict[str, float]) -> None:
        # with the time that is left, in 80 columns
        values = " ".join(f"{name} {row[name]:.2f}" for name in SHOWN)
        text = f"seed {seed}  {row['step']}/{runs[0].n_steps}  {values}"
        progress.start()
        progress.update(lines[seed], completed=row["step"], description=text)

    try:
        if len(runs) == 1:
            return runs[0](report)
        # raised, for the other processes to be told of it, and waited for
        with handled_by(signal.default_int_handler):
            results = run_all(runs, processes, report)
        return side_by_side(results, [run.seed for run in runs])
    finally:
        if progress.live.is_started:
            progress.stop()


def _lines(quiet: bool) -> Progress:
    """Live lines on standard error."""
    from rich.console import Console
    from rich.progress import Progress, TextColumn, TimeRemainingColumn
    from rich.table import Column

    columns = (
        TextColumn("{task.description}", table_column=Column(no_wrap=True)),
        TimeRemainingColumn(compact=True),
    )
    return Progress(*columns, console=Console(stderr=True), disable=quiet)


def _tell(result: xr.Dataset, as_json: bool) -> None:
    """Print where the runs ended, and fail if the loss of one did not stay finite."""
    from cliff.network.training import Status

    each = [result.sel(seed=seed) for seed in result.seed] if "seed" in result.dims else [result]
    summaries = []
    for run in each:
        last = run.sel(step=slice(None, run.last_step.item())).isel(step=-1)
        summaries.append(
            {
                "seed": int(run.seed),
                "status": str(run.status.item()),
                "steps": int(run.last_step),
                "t": float(last.t),
                **{name: float(last[name]) for name in (*SHOWN, "accuracy", "icl_swapped", "cla")},
            }
        )
    if as_json:
        print_json({"runs": summaries})
    else:
        for summary in summaries:
            values = "  ".join(f"{name} {summary[name]:.3f}" for name in SHOWN)
            print("seed {seed}: {status} at step {steps}, ".format(**summary) + values)
    failed = [summary for summary in summaries if summary["status"] == Status.NOT_FINITE]
    if failed:
        where = ", ".join("seed {seed} at step {steps}".format(**summary) for summary in failed)
        raise ComputationFailed(f"the loss was no longer finite: {where}, where the curves end")
