"""``cliff flow``: integrate gradient flow and show the fall."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from cliff.checks import ArgumentError, integer, real
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
    TEnd,
    announce_compiling,
    check_outputs,
    label_bias_of,
    print_json,
    say,
)

if TYPE_CHECKING:
    from cliff import Trajectory

Method = Literal["dopri5", "rk4", "euler", "lsoda", "radau"]


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
        str | None,
        typer.Option(
            metavar="NUMBER|free",
            help="beta2, the layer-2 bias of the labels: a number, or free.",
            show_default="0",
        ),
    ] = None,
    bias_init: Annotated[
        float | None, typer.Option(help="Start of a free beta2.", show_default="0")
    ] = None,
    bias_mobility: Annotated[
        float | None, typer.Option(help="Mobility of a free beta2.", show_default="1")
    ] = None,
    jitter: Annotated[
        float, typer.Option(help="Standard deviation of normal noise added to the start.")
    ] = 0.0,
    seed: Annotated[int | None, typer.Option(help="Seed of the noise.", show_default="0")] = None,
    method: Annotated[
        Method,
        typer.Option(
            help="dopri5: adaptive; rk4, euler (gradient descent): fixed step; lsoda, radau: for "
            "stiff flows."
        ),
    ] = "dopri5",
    step: Annotated[
        float | None, typer.Option(help="Step of rk4 and euler: the learning rate.")
    ] = None,
    rtol: Annotated[
        float | None,
        typer.Option(
            help="Relative tolerance of the logits, for adaptive methods.", show_default="1e-6"
        ),
    ] = None,
    atol: Annotated[
        float | None,
        typer.Option(
            help="Absolute tolerance of the logits, for adaptive methods.", show_default="1e-9"
        ),
    ] = None,
    max_steps: Annotated[int, typer.Option(help="Limit on accepted steps.")] = 100_000,
    output: Output = None,
    plot: Plot = None,
    as_json: Json = False,
    quiet: Quiet = False,
) -> int:
    """Integrate gradient flow on the nested-logit landscape and report the fall off the plateau.

    Example: cliff flow --pairs 16 --labels 64 --t-end 400 --plot fall.png
    """
    check_outputs(output, plot)
    free, fixed = label_bias == "free", method in ("rk4", "euler")
    _require(free, "needs --label-bias free", bias_init=bias_init, bias_mobility=bias_mobility)
    mean_field = "has no effect in the mean field, where all tokens are labels"
    _require(positions == "exact", mean_field, label_bias=label_bias)
    _require(jitter != 0.0, "needs --jitter", seed=seed)
    _require(not fixed, f"has no effect on {method}, whose step is fixed", rtol=rtol, atol=atol)
    import numpy as np

    from cliff import NestedLogit, integrate
    from cliff.trajectory import Status

    announce_compiling(quiet)
    model = NestedLogit(pairs, labels, positions, label_bias_of(label_bias or "0"))
    start, mobilities = np.array(init), np.array(mobility)
    if model.n_parameters == 4:
        start = np.append(start, _default(bias_init, 0.0))
        mobilities = np.append(mobilities, _default(bias_mobility, 1.0))
    if real("jitter", jitter, 0.0) > 0.0:
        generator = np.random.default_rng(integer("seed", _default(seed, 0), 0))
        start += jitter * generator.normal(size=start.shape)
    with Bar("flow", real("t_end", t_end, 0.0, exclusive=True), quiet) as bar:
        trajectory = integrate(
            model,
            start,
            t_end,
            mobilities,
            method,
            _default(rtol, 1e-6),
            _default(atol, 1e-9),
            max_steps=max_steps,
            step=step,
            progress=bar.update,
        )
    if output is not None:
        trajectory.save(output)
        say(f"wrote {output}", quiet or as_json)
    if as_json:
        print_json(_summary(trajectory))
    else:
        _print_table(trajectory)
    if plot is not None:
        from cliff import plots

        _announce_drawing(trajectory, quiet)
        plots.save(plots.draw(trajectory), plot)
        say(f"wrote {plot}", quiet or as_json)
    bar.stop.raise_if_made()
    if trajectory.status is not Status.DONE:
        raise ComputationFailed(
            f"stopped at t = {trajectory.path.t[-1]:g}: {trajectory.status.explanation}"
        )
    return 0


def _require(met: bool, reason: str, **options: object) -> None:
    """Raise ArgumentError for the first option that was given though the condition is not met."""
    for name, value in options.items():
        if value is not None and not met:
            raise ArgumentError(name, value, reason)


def _default(given: Any, value: Any) -> Any:
    return value if given is None else given


def _summary(trajectory: Trajectory) -> dict[str, Any]:
    model, transition = trajectory.model, trajectory.transition()
    return {
        **model.settings(),
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
    landscape = model.settings()
    size = f"N = {landscape['n_pairs']}, L = {landscape['n_labels']}"
    size += f", {landscape['positions']} positions"
    table = Table(title=f"{size}, {trajectory.settings['method']}: {trajectory.n_steps} steps")
    columns = ["loss", "ila1", "tila2", "p_correct"]
    table.add_column("loss is", no_wrap=True)
    for column in ("t", *model.parameter_names, *columns):
        table.add_column(column, justify="right", no_wrap=True)
    rows = zip(np.array(names)[shown], times[shown], theta, strict=True)
    for i, (name, t, point) in enumerate(rows):
        values = [*point, *(measures[column][i] for column in columns)]
        table.add_row(name, f"{t:.6g}", *(f"{value:.3g}" for value in values))
    console = Console()
    # in a terminal that is too narrow lines break; no digit is cut off
    console.width = max(console.width, Console(width=10**4).measure(table).maximum)
    console.print(table)
    if np.isnan(transition.t_transition):
        line = f"transition: {transition.status}"
    else:
        line = (
            f"transition ({transition.status}): t = {transition.t_transition:.6g}, "
            f"width = {transition.width:.5g}, abruptness = {transition.abruptness:.3g}"
        )
    console.print(line, highlight=False)


def _announce_drawing(trajectory: Trajectory, quiet: bool) -> None:
    """Say how long the picture takes if that is long: its slice has 121 × 121 losses."""
    began = time.perf_counter()
    trajectory.model.loss(trajectory.theta[:1])
    seconds = 121**2 * (time.perf_counter() - began)
    if seconds > 20.0:
        say(f"drawing takes some {seconds:.0f} s on one core ...", quiet)
