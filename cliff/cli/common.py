"""What the commands share: options, messages, progress bars, JSON."""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from rich.progress import Progress

from cliff.checks import ArgumentError

# The option behind each argument of the library, for error messages.
OPTION_OF = {
    "n_pairs": "--pairs",
    "n_labels": "--labels",
    "theta0": "--init",
    "theta": "--init",
    "t_end": "--t-end",
    "mobility": "--mobility",
    "positions": "--positions",
    "label_bias": "--label-bias",
    "n_classes": "--classes",
    "n_novel": "--novel",
    "n_steps": "--steps",
    "path": "FILE",
}

Pairs = Annotated[int, typer.Option("--pairs", "-N", help="Item-label pairs N in the context.")]
Labels = Annotated[int, typer.Option("--labels", "-L", help="Label classes L, at least N.")]
TEnd = Annotated[float, typer.Option("--t-end", help="End of the flow (gradient-flow time).")]
Positions = Annotated[
    str, typer.Option("--positions", help="exact (average over the slots) or mean (mean field).")
]
Seed = Annotated[int, typer.Option("--seed", help="Seed of everything random.")]
Output = Annotated[Path | None, typer.Option("--output", "-o", help="Save the result as NetCDF.")]
Plot = Annotated[Path | None, typer.Option("--plot", help="Draw a picture (png, pdf or svg).")]
Json = Annotated[
    bool, typer.Option("--json", help="Print one JSON object on standard output, nothing else.")
]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="No progress and no messages.")]


class ComputationFailed(Exception):
    """The computation ended without a result; the message says how. Exit code 1."""


def describe(error: ArgumentError) -> str:
    """One line for a user's mistake, with the option's name where the argument has one."""
    option = OPTION_OF.get(error.argument, "--" + error.argument.replace("_", "-"))
    return f"{option} {error.value}: {error.requirement}"


def say(message: str, quiet: bool = False) -> None:
    """Print a message for people on standard error."""
    if not quiet:
        print(message, file=sys.stderr, flush=True)


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


def progress_bar(quiet: bool = False) -> Progress:
    """A rich progress bar on standard error, with the time left; a context manager."""
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("elapsed"),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
        console=Console(stderr=True),
        disable=quiet,
    )


def check_outputs(output: Path | None, plot: Path | None) -> None:
    """Refuse, before any work, files that could not be written in the end."""
    from cliff.store import check_writable

    if output is not None:
        check_writable(output, "output")
    if plot is not None:
        check_writable(plot, "plot")
        if plot.suffix.lower() not in (".png", ".pdf", ".svg"):
            raise ArgumentError("plot", str(plot), "must end in .png, .pdf or .svg")
