"""What the commands share: options, messages, progress bars, JSON."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from cliff.checks import ArgumentError, shorten
from cliff.cli.progress import Progress, StandardError
from cliff.interrupt import deferred

# Arguments of the library whose option, in error messages, has another name.
OPTION_OF = {
    "n_pairs": "--pairs",
    "n_labels": "--labels",
    "theta0": "--init",
    "theta": "--init",
    "n_classes": "--classes",
    "n_novel": "--novel",
    "n_steps": "--steps",
    "path": "FILE",
    "file": "FILE",
    "picture": "PICTURE",
    "run": "RUN",
    "target": "TARGET",
    "n_stages": "--stages",
}

Pairs = Annotated[int, typer.Option("--pairs", "-N", help="Item-label pairs N in the context.")]
Labels = Annotated[int, typer.Option("--labels", "-L", help="Label classes L, at least N.")]
TEnd = Annotated[float, typer.Option("--t-end", help="End of the flow (gradient-flow time).")]
Positions = Annotated[
    Literal["exact", "mean"],
    typer.Option("--positions", help="exact: average over the slots; mean: mean field."),
]
Seed = Annotated[int, typer.Option("--seed", help="Seed of everything random.")]
Output = Annotated[Path | None, typer.Option("--output", "-o", help="Save the result as NetCDF.")]
Plot = Annotated[Path | None, typer.Option("--plot", help="Draw a picture (png, pdf or svg).")]
Csv = Annotated[
    Path | None, typer.Option("--csv", help="Write the numbers behind the picture as a CSV table.")
]
Json = Annotated[
    bool, typer.Option("--json", help="Print one JSON object on standard output, nothing else.")
]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="No progress and no messages.")]


class ComputationFailed(Exception):
    """The computation ended without a result; the message says how. Exit code 1."""


def label_bias_of(text: str) -> float | str:
    """The argument `label_bias` of NestedLogit: a number, or the word free."""
    if text == "free":
        return text
    try:
        return float(text)
    except ValueError:
        raise ArgumentError("label_bias", text, "must be a number or free") from None


def describe(error: ArgumentError) -> str:
    """One line for a user's mistake, with the option's name where the argument has one."""
    option = OPTION_OF.get(error.argument, "--" + error.argument.replace("_", "-"))
    value: Any = error.value
    if isinstance(value, list | tuple) or getattr(value, "ndim", 0) == 1:
        value = " ".join(map(str, value))  # as it is typed
    shown = "" if value is None or value is True else f" {shorten(value)}"  # not given, or a flag
    return f"{option}{shown}: {error.requirement}"


def say(message: str, quiet: bool = False) -> None:
    """Print a message for people on standard error."""
    if not quiet:
        print(message, file=StandardError(), flush=True)


def print_json(fields: Mapping[str, Any]) -> None:
    """Print one JSON object on standard output; NaN and infinity become null."""
    print(json.dumps(_plain(fields), allow_nan=False))


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(key): _plain(entry) for key, entry in value.items()}
    if hasattr(value, "tolist"):  # NumPy arrays and scalars
        value = value.tolist()
    if isinstance(value, list | tuple):
        return [_plain(entry) for entry in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value if isinstance(value, bool | int | float | str | None) else str(value)


class Bar(ExitStack):
    """Progress of one job on standard error, with the time left.

    Use as a context manager. Ctrl-C and SIGTERM inside it do not interrupt: they make the request
    `stop`, which `update` returns as a bool, so that the job can end in order and keep what is
    done; a second signal interrupts.
    """

    def __init__(self, description: str, total: float, quiet: bool = False) -> None:
        super().__init__()
        self.description, self.total, self.quiet = description, total, quiet
        self._done = 0.0

    def __enter__(self) -> Bar:
        self.stop = self.enter_context(deferred())
        self._progress = self.enter_context(Progress(self.quiet))
        return self

    def advance(self, amount: float) -> bool:
        """Add to what is done; returns whether to stop."""
        return self.update(self._done + amount)

    def update(self, done: float) -> bool:
        """Set what is done; returns whether to stop."""
        self._done = done
        self._progress.update(self.description, min(done, self.total), self.total)
        return bool(self.stop)


def export_csv(result: Any, csv: Path | None, quiet: bool, model: Any = None) -> None:
    """Write the table of a result, if a file is named."""
    if csv is not None:
        from cliff.tables import table, write_csv

        write_csv(table(result, model), csv)
        say(f"wrote {csv}", quiet)


def announce_compiling(quiet: bool = False) -> None:
    """Say "compiling (once)" on standard error if numba finds no compiled kernel on disk."""
    from numba.core import event

    from cliff.kernels.cache import cache_directory

    kept = "once" if cache_directory() else "each time: the cache directory cannot be written to"

    class Announcer(event.Listener):
        said = quiet

        def on_start(self, event: Any) -> None:
            if not self.said:
                self.said = True
                say(f"compiling ({kept}) ...")

        def on_end(self, event: Any) -> None:
            pass

    event.register("numba:compile", Announcer())


PICTURES = (".png", ".pdf", ".svg")
MOVING = (".gif", ".mp4")


def check_outputs(
    output: Path | None,
    plot: Path | None,
    *others: Path,
    csv: Path | None = None,
    moving: bool = False,
) -> None:
    """Refuse, before any work, files that could not be written in the end, or over each other.

    `others` are further files that the command writes, checkpoints; with `moving` the picture may
    move.
    """
    from cliff.store import check_writable

    if output is not None:
        if output.suffix.lower() != ".nc":
            raise ArgumentError("output", str(output), "must end in .nc: results are NetCDF files")
        check_writable(output, "output")
    if plot is not None:
        check_writable(plot, "plot")
        if moving and plot.suffix.lower() in MOVING:
            from cliff.plots.animation import check_kind

            check_kind(plot, "plot")
        elif plot.suffix.lower() not in PICTURES:
            also = " (or .gif, .mp4: the picture moves)" * moving
            raise ArgumentError("plot", str(plot), "must end in .png, .pdf or .svg" + also)
    if csv is not None:
        if csv.suffix.lower() != ".csv":
            raise ArgumentError("csv", str(csv), "must end in .csv")
        check_writable(csv, "csv")
    named = [*(("checkpoint", path) for path in others), ("output", output), ("plot", plot)]
    named.append(("csv", csv))
    taken: dict[str, str] = {}
    for name, path in named:
        other = name if path is None else taken.setdefault(os.path.realpath(path), name)
        if other != name:
            raise ArgumentError(name, str(path), f"must be another file than that of --{other}")
