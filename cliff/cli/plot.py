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
    """Draw the picture of a saved result."""
    check_outputs(None, picture)
    from cliff.store import load, open_dataset

    kind = open_dataset(file).attrs["cliff_kind"]
    if kind == "trajectory":
        from cliff.cli.flow import draw as draw_trajectory

        draw_trajectory(load(file), picture)
    elif kind == "sweep":
        from cliff.cli.phase import draw as draw_phase

        try:
            draw_phase(load(file), picture)
        except ArgumentError as error:
            if error.argument != "dataset":
                raise
            raise ArgumentError("path", str(file), error.requirement) from None
    elif kind == "run":
        from cliff.cli.train import draw as draw_run

        draw_run(load(file), picture)
    elif kind == "comparison":
        from cliff.cli.compare import draw as draw_comparison

        draw_comparison(load(file), picture)
    else:
        raise ArgumentError("path", str(file), f"holds a {kind}, which has no picture")
    say(f"wrote {picture}", quiet)
    return 0
