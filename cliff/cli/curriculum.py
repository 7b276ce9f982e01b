"""``cliff curriculum``: the schedule that learns a large context at the least predicted cost."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from cliff.checks import ArgumentError
from cliff.cli.common import (
    Json,
    Pairs,
    Plot,
    Quiet,
    Seed,
    announce_compiling,
    check_outputs,
    print_json,
    say,
)
from cliff.cli.progress import Progress

if TYPE_CHECKING:
    from cliff.design import Design
    from cliff.mobility_law import MobilityLaw

UNITS = {
    "time": "gradient-flow time",
    "tokens": "tokens seen",
    "flops": "floating-point operations",
}


def curriculum(
    pairs: Pairs = 16,
    labels: Annotated[int, typer.Option("--labels", "-L", help="Labels L, at least N.")] = 64,
    cost: Annotated[
        Literal["time", "tokens", "flops"],
        typer.Option(help="What to save: time, tokens seen, or operations of the network's steps."),
    ] = "time",
    stages: Annotated[int, typer.Option(help="Most stages, 2 to 4, the target among them.")] = 4,
    law: Annotated[
        Path | None,
        typer.Option(help="Take the mobilities from this file of `cliff compare --output`."),
    ] = None,
    lr: Annotated[float, typer.Option(help="Learning rate of the steps that are counted.")] = 0.1,
    batch: Annotated[int, typer.Option(help="Sequences in a batch.")] = 128,
    seed: Seed = 0,
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", help="Save the schedule, for `cliff train --curriculum`."),
    ] = None,
    plot: Plot = None,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Find the stages and switching times that learn a target soonest.

    The flow along a schedule goes on from stage to stage on changing landscapes; the target is
    learned when its own loss falls to half of log N.

    Example: cliff curriculum --pairs 16 --labels 64 --output s.json, then
    cliff train --curriculum s.json
    """
    check_outputs(None, plot)
    if output is not None:
        from cliff.store import check_writable

        if output.suffix != ".json":
            raise ArgumentError("output", str(output), "must end in .json")
        check_writable(output, "output")
    announce_compiling(quiet)
    used = _law(law)
    from cliff.design import design_curriculum

    with Progress(quiet) as progress:
        design = design_curriculum(
            (pairs, labels), used, cost, n_stages=stages, lr=lr, batch=batch, seed=seed,
            progress=lambda share: progress.update("search", share, 1.0),
        )  # fmt: skip
    about = _about(design, law)
    if output is not None:
        from cliff.store import environment

        design.schedule.save(output, designed=about, **environment())
        say(f"wrote {output}", quiet)
    if as_json:
        print_json({"schedule": design.schedule.data(), **about})
    else:
        _print(design, about["law"]["source"])
    if plot is not None:
        from cliff import plots

        plots.save(plots.draw_curriculum(*design.trajectories(), design.schedule), plot)
        say(f"wrote {plot}", quiet)


def _law(path: Path | None) -> MobilityLaw:
    from cliff.mobility_law import MEASURED

    if path is None:
        return MEASURED
    from cliff.comparison import law_of
    from cliff.store import open_dataset

    try:
        found = law_of(open_dataset(path, "comparison"))
    except ArgumentError as error:
        raise ArgumentError("law", str(path), error.requirement) from None
    found.check("law", str(path))
    return found


def _about(design: Design, law: Path | None) -> dict[str, Any]:
    """The design as JSON, apart from the schedule."""
    source = "python -m figures prediction" if law is None else str(law)
    setting = design.law.setting
    return {
        "cost": design.cost,
        "plain": _finite(design.plain),
        "curriculum": design.designed,
        "gain": _finite(design.gain),
        "law": {
            "source": source,
            "matched_at": setting and list(setting),
            **design.law.constants(),
        },
        "search": {
            "method": "differential evolution",
            "restarts": list(design.restarts),
            "n_evaluations": design.n_evaluations,
            "seed": design.seed,
        },
    }


def _finite(values: dict[str, float]) -> dict[str, float | None]:
    """None, as JSON has no infinity, where plain training never learns."""
    return {name: value if math.isfinite(value) else None for name, value in values.items()}


def _print(design: Design, source: str) -> None:
    """The stages, the three costs, and where they come from."""
    from rich.console import Console
    from rich.table import Table

    target = design.schedule.settings[-1]
    table = Table(title="N = {n_pairs}, L = {n_labels}".format(**target))
    for name in ("until t", "pairs"):
        table.add_column(name, justify="right")
    for until, setting in zip(design.schedule.times, design.schedule.settings, strict=True):
        table.add_row("the end" if until == float("inf") else f"{until:g}", str(setting["n_pairs"]))
    costs = Table()
    costs.add_column("until learned")
    for name in ("plain", "curriculum", "times less"):
        costs.add_column(name, justify="right")
    for name, words in UNITS.items():
        plain, designed = design.plain[name], design.designed[name]
        if math.isfinite(plain):
            costs.add_row(words, f"{plain:.4g}", f"{designed:.4g}", f"{design.gain[name]:.1f}")
        else:
            costs.add_row(words, "never", f"{designed:.4g}", "–")
    console = Console()
    console.width = max(console.width, 80)
    console.print(table, costs)
    print(f"law: the mobilities of {source}")
    print(
        f"search: differential evolution for the least {UNITS[design.cost]}, "
        f"{design.n_evaluations:,} schedules;\n"
        f"{len(design.restarts)} restarts agree within {100 * design.spread:.2g} %"
    )
