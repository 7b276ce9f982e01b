"""``cliff flow``: integrate gradient flow and show the fall."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from cliff.cli.common import (
    Bar,
    ComputationFailed,
    Json,
    Labels,
    Output,
    Pairs,
    Plot,
    Positions,
    Quiet,
    Seed,
    TEnd,
    announce_compiling,
    check_outputs,
    label_bias_of,
    print_json,
    say,
)

if TYPE_CHECKING:
    from cliff import Trajectory


def flow(
    pairs: Pairs = 8,
    labels: Labels = 32,
    init: Annotated[
        tuple[float, float, float],
        typer.Option(metavar="BETA1 ALPHA XI", help="Start of the three logits."),
    ] = (0.01, 0.01, 0.01),
    t_end: TEnd = 200.0,
    mobility: Annotated[
        tuple[float, float, float],
        typer.Option(metavar="M M M", help="Mobilities of beta1, alpha and xi, at least 0."),
    ] = (1.0, 1.0, 1.0),
    positions: Positions = "exact",
    label_bias: Annotated[
        str, typer.Option(help="beta2, the layer-2 bias of the labels: a number, or free.")
    ] = "0",
    bias_init: Annotated[float, typer.Option(help="Start of a free beta2.")] = 0.0,
    bias_mobility: Annotated[float, typer.Option(help="Mobility of a free beta2.")] = 1.0,
    jitter: Annotated[
        float, typer.Option(help="Standard deviation of normal noise added to the start.")
    ] = 0.0,
    seed: Seed = 0,
    method: Annotated[
        str, typer.Option(help="dopri5, rk4, euler (gradient descent), lsoda or radau.")
    ] = "dopri5",
    step: Annotated[
        float | None, typer.Option(help="Step of rk4 and euler: the learning rate.")
    ] = None,
    rtol: Annotated[float, typer.Option(help="Relative tolerance of the logits.")] = 1e-6,
    atol: Annotated[float, typer.Option(help="Absolute tolerance of the logits.")] = 1e-9,
    max_steps: Annotated[int, typer.Option(help="Limit on accepted steps.")] = 100_000,
    output: Output = None,
    plot: Plot = None,
    as_json: Json = False,
    quiet: Quiet = False,
) -> int:
    """Integrate gradient flow on the nested-logit landscape and report the fall off the plateau."""
    check_outputs(output, plot)
    import numpy as np

    from cliff import NestedLogit, integrate
    from cliff.checks import integer, real
    from cliff.trajectory import Status

    announce_compiling(quiet)
    model = NestedLogit(pairs, labels, positions, label_bias_of(label_bias))
    start, mobilities = np.array(init), np.array(mobility)
    if model.n_parameters == 4:
        start, mobilities = np.append(start, bias_init), np.append(mobilities, bias_mobility)
    if real("jitter", jitter, 0.0) > 0.0:
        start += jitter * np.random.default_rng(integer("seed", seed, 0)).normal(size=start.shape)
    with Bar("flow", real("t_end", t_end, 0.0, exclusive=True), quiet) as bar:
        trajectory = integrate(
            model,
            start,
            t_end,
            mobilities,
            method,
            rtol,
            atol,
            max_steps=max_steps,
            step=step,
            progress=bar.update,
        )
    if output is not None:
        trajectory.save(output)
    if plot is not None:
        from cliff import plots

        plots.save(plots.draw(trajectory), plot)
    if as_json:
        print_json(_summary(trajectory))
    else:
        _print_table(trajectory)
        for path in (output, plot):
            if path is not None:
                say(f"wrote {path}", quiet)
    bar.stop.raise_if_made()
    if trajectory.status is not Status.DONE:
        raise ComputationFailed(
            f"stopped at t = {trajectory.path.t[-1]:g}: {trajectory.status.explanation}"
        )
    return 0


def _summary(trajectory: Trajectory) -> dict[str, Any]:
    model, transition = trajectory.model, trajectory.transition()
    return {
        "n_pairs": model.n_pairs,
        "n_labels": model.n_labels,
        "positions": model.positions,
        "label_bias": model.label_bias,
        **trajectory.settings,
        "status": trajectory.status,
        "n_steps": trajectory.n_steps,
        "n_rejected": trajectory.n_rejected,
        "n_evaluations": trajectory.n_evaluations,
        "t_reached": trajectory.path.t[-1],
        "theta": dict(zip(model.parameter_names, trajectory.theta[-1], strict=True)),
        "loss": trajectory.loss[-1],
        "plateau": model.plateau,
        "t_transition": transition.t_transition,
        "width": transition.width,
        "abruptness": transition.abruptness,
        "transition_status": transition.status,
    }


def _print_table(trajectory: Trajectory) -> None:
    import numpy as np
    from rich.console import Console
    from rich.table import Table

    from cliff.trajectory import LEVELS

    model, transition = trajectory.model, trajectory.transition()
    names = ["start", *(f"{level} log N" for level in LEVELS), "end"]
    times = np.array([0.0, *trajectory.crossings, trajectory.path.t[-1]])
    shown = ~np.isnan(times)
    theta = trajectory.path(times[shown])
    measures = model.measures(theta)
    table = Table(
        title=f"N = {model.n_pairs}, L = {model.n_labels}, {model.positions} positions, "
        f"{trajectory.settings['method']}: {trajectory.n_steps} steps"
    )
    columns = ["ila1", "tila2", "accuracy"]
    table.add_column("loss is", no_wrap=True)
    for column in ("t", *model.parameter_names, *columns):
        table.add_column(column, justify="right", no_wrap=True)
    rows = zip(np.array(names)[shown], times[shown], theta, strict=True)
    for i, (name, t, point) in enumerate(rows):
        values = [*point, *(measures[column][i] for column in columns)]
        table.add_row(name, f"{t:.2f}", *(f"{value:.3g}" for value in values))
    console = Console()
    console.print(table)
    if np.isnan(transition.t_transition):
        console.print(f"transition: {transition.status}", highlight=False)
    else:
        console.print(
            f"transition ({transition.status}): t = {transition.t_transition:.3f}, "
            f"width = {transition.width:.3f}, abruptness = {transition.abruptness:.2f}",
            highlight=False,
        )
