"""``cliff plot``: draw any saved file again."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from cliff.checks import ArgumentError
from cliff.cli.common import Quiet, check_outputs, say


def plot(
    file: Annotated[Path, typer.Argument(help="A result that --output wrote.")],
    picture: Annotated[Path, typer.Argument(help="The picture to draw (png, pdf or svg).")],
    quiet: Quiet = False,
) -> int:
    """Draw the picture of a saved result: a flow, a phase diagram, a training or a comparison.

    An example: cliff plot training.nc training.pdf
    """
    try:
        check_outputs(None, picture)
    except ArgumentError as error:
        raise ArgumentError("picture", str(picture), error.requirement) from None
    from cliff import plots
    from cliff.store import damaged, load

    try:
        figure = plots.draw(load(file))
    except ArgumentError as error:
        words = {"path": "", "dataset": "", "result": f"holds a {error.value}, which "}
        told = words.get(error.argument, f"{error.argument} ") + error.requirement
        raise ArgumentError("file", str(file), told) from None
    except KeyError as error:
        raise damaged("file", file, error) from error
    plots.save(figure, picture)
    say(f"wrote {picture}", quiet)
    return 0
