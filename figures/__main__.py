"""``python -m figures NAME|all [--recompute] [--fast]``."""

from __future__ import annotations

import tempfile
from importlib import import_module
from pathlib import Path
from typing import Annotated

import typer

from cliff import plots
from cliff.store import open_dataset, save_dataset
from figures import HERE, NAMES, caption, captions


def main(
    name: Annotated[str, typer.Argument(help="A figure, or all: " + ", ".join(NAMES))],
    recompute: Annotated[bool, typer.Option(help="Compute the data anew.")] = False,
    fast: Annotated[
        bool, typer.Option(help="Small data, into --into; touches nothing that is committed.")
    ] = False,
    into: Annotated[
        Path | None, typer.Option(help="Directory of the pictures, and of fast data.")
    ] = None,
) -> None:
    """Draw figures from their data, or compute the data first."""
    if name != "all" and name not in NAMES:
        raise typer.BadParameter(f"{name} is no figure; there are {', '.join(NAMES)} and all")
    if fast and into is None:
        into = Path(tempfile.mkdtemp(prefix="figures-"))
    pictures = into or HERE
    pictures.mkdir(parents=True, exist_ok=True)
    data = pictures if fast else HERE / "data"
    for figure in NAMES if name == "all" else (name,):
        module = import_module(f"figures.{figure}")
        file = data / f"{figure}.nc"
        if recompute or fast:
            save_dataset(module.compute(fast), file, "figure")
        with plots.style():
            drawn = module.draw(open_dataset(file, "figure"))
        picture = plots.save(drawn, pictures / f"{figure}.png")
        typer.echo(f"{picture}\n  {caption(figure)}")
        if hasattr(module, "table") and not fast:
            typer.echo("\n".join(module.table(open_dataset(file, "figure"))))
    if into is None:
        (HERE / "README.md").write_text(captions(), encoding="utf-8")


if __name__ == "__main__":
    typer.run(main)
