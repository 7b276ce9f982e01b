"""``cliff plot``: draw saved files again, alone or over each other."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from cliff.checks import ArgumentError
from cliff.cli.common import MOVING, PICTURES, Csv, Quiet, check_outputs, say
from cliff.cli.flow import film


def plot(
    files: Annotated[
        list[Path],
        typer.Argument(
            metavar="FILE... [PICTURE]",
            help="Results that --output wrote, and the picture to draw (png, pdf or svg; gif or "
            "mp4 of a flow). Only a table needs no picture.",
        ),
    ],
    csv: Csv = None,
    quiet: Quiet = False,
) -> int:
    """Draw the picture of a saved result: a flow, a phase diagram, a training or a comparison.

    Several flows, or several trainings, are drawn over each other; the legend says what differs
    between them. In a table of several results the column "result" says it.

    Example: cliff plot training.nc training.pdf
    Example: cliff plot small.nc large.nc both.png --csv both.csv
    """
    picture = None
    if len(files) > 1 and not _is_result(files[-1]):
        *files, picture = files
    if picture is None and csv is None:
        raise ArgumentError("picture", None, "is missing: name one behind the files, or --csv")
    try:
        check_outputs(None, picture, csv=csv, moving=True)
    except ArgumentError as error:
        if error.argument == "csv":
            raise
        raise ArgumentError("picture", str(picture), error.requirement) from None
    results = [_load(file) for file in files]
    if picture is not None:
        _draw(files, results, picture, quiet)
    if csv is not None:
        _export(files, results, csv)
        say(f"wrote {csv}", quiet)
    return 0


def _is_result(path: Path) -> bool:
    """Whether the last argument is a result rather than a picture."""
    return path.suffix.lower() == ".nc"


def _load(file: Path) -> Any:
    from cliff.store import load

    try:
        return load(file)
    except ArgumentError as error:
        raise _about(file, error) from None


def _about(file: Path, error: ArgumentError) -> ArgumentError:
    """What is wrong with a file, in a sentence about the file."""
    words = {"path": "", "dataset": "", "result": f"holds a {error.value}, which "}
    told = words.get(error.argument, f"{error.argument} ") + error.requirement
    return ArgumentError("file", str(file), told)


def _draw(files: list[Path], results: list[Any], picture: Path, quiet: bool) -> None:
    from cliff import plots
    from cliff.store import damaged

    moving = picture.suffix.lower() in MOVING
    if moving and not (len(results) == 1 and isinstance(results[0], plots.Trajectory)):
        endings = ", ".join(PICTURES)
        raise ArgumentError("picture", str(picture), f"moves for one flow alone: name {endings}")
    if moving:
        film(results[0], picture, "picture", quiet)
    else:
        try:
            if len(results) == 1:
                figure = plots.draw(results[0])
            else:
                figure = plots.overlay_figure(results, [file.name for file in files])
        except ArgumentError as error:
            if error.argument == "results":
                shown = " ".join(map(str, files))
                raise ArgumentError("file", shown, f"{error.value}: {error.requirement}") from None
            raise _about(files[0], error) from None
        except KeyError as error:
            raise damaged("file", files[0], error) from error
        plots.save(figure, picture)
    say(f"wrote {picture}", quiet)


def _export(files: list[Path], results: list[Any], csv: Path) -> None:
    """Write the tables of the results below each other."""
    from cliff.store import damaged
    from cliff.tables import joined, table, write_csv

    tables = []
    for file, result in zip(files, results, strict=True):
        try:
            tables.append(table(result))
        except ArgumentError as error:
            raise _about(file, error) from None
        except KeyError as error:
            raise damaged("file", file, error) from error
    try:
        write_csv(joined(tables, results, [file.name for file in files]), csv)
    except ArgumentError as error:
        if error.argument != "results":
            raise
        shown = " ".join(map(str, files))
        raise ArgumentError("file", shown, f"{error.value}: {error.requirement}") from None
