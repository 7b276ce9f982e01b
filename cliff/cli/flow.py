"""``cliff flow``: integrate the flow on a landscape and show the fall."""

from __future__ import annotations

import time
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from cliff.checks import ArgumentError, integer, real
from cliff.cli.common import (
    MOVING,
    Bar,
    ComputationFailed,
    Csv,
    Json,
    Labels,
    Output,
    Pairs,
    Positions,
    Quiet,
    TEnd,
    announce_compiling,
    check_outputs,
    export_csv,
    label_bias_of,
    print_json,
    say,
)
from cliff.cli.landscapes import (
    NESTED_LOGIT,
    Constants,
    Init,
    LandscapeName,
    Mobility,
    chosen_landscape,
    components,
    given,
    is_nested_logit,
    named,
)
from cliff.cli.memory import (
    Burstiness,
    Classes,
    Dim,
    LabelsDrawn,
    Memory,
    Noise,
    PBursty,
    PNovel,
    ZipfExponent,
    data_of,
)
from cliff.interrupt import deferred

if TYPE_CHECKING:
    from cliff import Trajectory
    from cliff.rules import Rule

RuleName = Literal["gradient", "momentum", "adam", "langevin"]
Method = Literal["dopri5", "rk4", "euler", "lsoda", "radau"]


def flow(
    context: typer.Context,
    landscape: LandscapeName = NESTED_LOGIT,
    constants: Constants = None,
    pairs: Pairs = 8,
    labels: Labels = 32,
    init: Init = None,
    t_end: TEnd = 200.0,
    until: Annotated[
        str | None, typer.Option(metavar="EVENT", help="End the flow at this event, such as fall.")
    ] = None,
    mobility: Mobility = None,
    positions: Positions = "exact",
    label_bias: Annotated[
        str,
        typer.Option(
            metavar="NUMBER|free", help="beta2, the layer-2 bias of the labels: a number, or free."
        ),
    ] = "0",
    bias_init: Annotated[float, typer.Option(help="Start of a free beta2.")] = 0.0,
    bias_mobility: Annotated[float, typer.Option(help="Mobility of a free beta2.")] = 1.0,
    memory: Memory = False,
    n_classes: Classes = None,
    zipf_exponent: ZipfExponent = None,
    burstiness: Burstiness = None,
    noise: Noise = None,
    p_bursty: PBursty = None,
    p_novel: PNovel = None,
    labels_drawn: LabelsDrawn = None,
    dim: Dim = None,
    jitter: Annotated[
        float, typer.Option(help="Standard deviation of normal noise added to the start.")
    ] = 0.0,
    seed: Annotated[int, typer.Option(help="Seed of the noise.")] = 0,
    rule: Annotated[
        RuleName,
        typer.Option(
            help="How theta follows the force; momentum needs --friction, adam --lr, langevin "
            "--temperature and --method euler."
        ),
    ] = "gradient",
    friction: Annotated[
        float | None, typer.Option(help="Rate at which momentum forgets (1/time).")
    ] = None,
    lr: Annotated[float | None, typer.Option(help="Learning rate of adam.")] = None,
    temperature: Annotated[
        float | None, typer.Option(help="Temperature of langevin (nats).")
    ] = None,
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
        float,
        typer.Option(
            help="Relative tolerance of the logits, for adaptive methods.", show_default="1e-6"
        ),
    ] = 1e-6,
    atol: Annotated[
        float,
        typer.Option(
            help="Absolute tolerance of the logits, for adaptive methods.", show_default="1e-9"
        ),
    ] = 1e-9,
    max_steps: Annotated[int, typer.Option(help="Limit on accepted steps.")] = 100_000,
    output: Output = None,
    plot: Annotated[
        Path | None,
        typer.Option(
            "--plot", help="Draw a picture (png, pdf, svg), or one that moves (gif, mp4)."
        ),
    ] = None,
    csv: Csv = None,
    as_json: Json = False,
    quiet: Quiet = False,
) -> int:
    """Integrate the flow on a landscape and report its fall off the plateau and its events.

    Example: cliff flow --pairs 16 --labels 64 --t-end 400 --plot fall.png
    Example: cliff flow --memory --classes 2048 --p-novel 0.1 --t-end 1000
    Example: cliff flow --landscape causal_attention --set N=16 --t-end 1e3 --until fall
    """
    check_outputs(output, plot, csv=csv, moving=True)
    free, fixed = label_bias == "free", method in ("rk4", "euler")
    nested, require = is_nested_logit(landscape), partial(_require, context)
    if nested:
        require(free, "needs --label-bias free", "bias_init", "bias_mobility")
        mean_field = "has no effect in the mean field, where all tokens are labels"
        require(positions == "exact", mean_field, "label_bias")
    require(jitter != 0.0 or rule == "langevin", "needs --jitter", "seed")
    require(not fixed, f"has no effect on {method}, whose step is fixed", "rtol", "atol")
    motion = _rule(context)
    import numpy as np

    from cliff import NestedLogit, integrate
    from cliff.trajectory import Status

    announce_compiling(quiet)
    model = chosen_landscape(
        context, n_pairs=pairs, n_labels=labels, positions=positions,
        label_bias=label_bias_of(label_bias), memory=data_of(context) if nested else None,
    )  # fmt: skip
    names, p = model.parameter_names, model.n_parameters
    starts, rates = [0.01] * p, [1.0] * p
    if nested and free:
        for option, texts in (("bias_init", init), ("bias_mobility", mobility)):
            require("beta2" not in named(texts), "beta2 is given by name, too", option)
            in_order = memory and texts and not named(texts)
            require(not in_order, "beta2 is given in its place, too", option)
        starts[3], rates[3] = bias_init, bias_mobility
    positional = 3 if nested and not memory else p
    start = np.array(components("init", init, names, starts, positional))
    mobilities = np.array(components("mobility", mobility, names, rates, positional))
    if isinstance(model, NestedLogit) and model.memory is not None:
        if not (mobilities >= 0.0).all():
            shown = " ".join(f"{value:g}" for value in mobilities)
            raise ArgumentError("mobility", shown, f"must be {p} finite numbers of at least 0")
        mobilities[-model.n_groups :] = model.memory.group_mobility(mobilities[-model.n_groups :])
    if real("jitter", jitter, 0.0) > 0.0:
        generator = np.random.default_rng(integer("seed", seed, 0))
        start += jitter * generator.normal(size=start.shape)
    with Bar("flow", real("t_end", t_end, 0.0, exclusive=True), quiet) as bar:
        trajectory = integrate(
            model, start, t_end, mobilities, method, rtol, atol, max_steps=max_steps, step=step,
            until=until, rule=motion, progress=bar.update,
        )  # fmt: skip
    if output is not None:
        with deferred() as late:  # a signal does not keep the result from being written
            trajectory.save(output)
        say(f"wrote {output}", quiet or as_json)
        late.raise_if_made()
    if as_json:
        print_json(_summary(trajectory, landscape))
    else:
        _print_table(trajectory)
    export_csv(trajectory, csv, quiet or as_json)
    if plot is not None:
        from cliff import plots

        _announce_drawing(trajectory, quiet)
        if plot.suffix.lower() in MOVING:
            film(trajectory, plot, "plot", quiet)
        else:
            plots.save(plots.draw(trajectory), plot)
        say(f"wrote {plot}", quiet or as_json)
    bar.stop.raise_if_made()
    if trajectory.status not in (Status.DONE, Status.EVENT):
        raise ComputationFailed(
            f"stopped at t = {trajectory.path.t[-1]:g}: {trajectory.status.explanation}"
        )
    return 0


def _require(context: typer.Context, met: bool, reason: str, *options: str) -> None:
    """Raise ArgumentError for the first option that was given though the condition is not met."""
    for name in options:
        if name in given(context) and not met:
            raise ArgumentError(name, context.params[name], reason)


def _rule(context: typer.Context) -> Rule:
    """The rule of motion, if it has its options and no other's."""
    from cliff.rules import Adam, Gradient, Langevin, Momentum

    values = context.params
    name = values["rule"]
    for rule, option in (("momentum", "friction"), ("adam", "lr"), ("langevin", "temperature")):
        _require(context, rule == name, f"needs --rule {rule}", option)
        if rule == name and values[option] is None:
            raise ArgumentError("rule", name, f"needs --{option}")
    if name == "momentum":
        return Momentum(values["friction"])
    if name == "adam":
        return Adam(values["lr"])
    if name == "langevin":
        return Langevin(values["temperature"], values["seed"])
    return Gradient()


def _summary(trajectory: Trajectory, landscape: str) -> dict[str, Any]:
    model, transition = trajectory.model, trajectory.transition()
    stated = {k: v for k, v in model.settings().items() if k != "landscape"}
    return {
        "landscape": landscape,
        "constants": dict(model.constants),
        **stated,
        **trajectory.settings,
        "status": trajectory.status,
        "n_steps": trajectory.n_steps,
        "n_rejected": trajectory.n_rejected,
        "n_evaluations": trajectory.n_evaluations,
        "t_reached": trajectory.path.t[-1],
        "theta": dict(zip(model.parameter_names, trajectory.theta[-1], strict=True)),
        "loss": trajectory.loss[-1],
        "plateau": model.plateau,
        "events": trajectory.events,
        "t_transition": transition.t_transition,
        "width": transition.width,
        "abruptness": transition.abruptness,
        "transition_status": transition.status,
    }


def _moments(trajectory: Trajectory) -> list[tuple[str, float]]:
    """Start, first time of every event, and end, in order of time."""
    from cliff.presentation import plain
    from cliff.protocol import FALL, LEVELS

    level = plain(trajectory.model.plateau_label)
    words = {name: f"{share} {level}" for name, share in zip(FALL, LEVELS, strict=True)}
    words = {k: v for k, v in words.items() if k not in trajectory.model.event_names}
    first = [(words.get(k, k), t) for k, times in trajectory.events.items() for t in times[:1]]
    ends = [("start", 0.0), *sorted(first, key=lambda pair: pair[1])]
    return [*ends, ("end", trajectory.path.t[-1])]


def _print_table(trajectory: Trajectory) -> None:
    import numpy as np
    from rich.console import Console
    from rich.table import Table

    from cliff.presentation import plain

    model, transition = trajectory.model, trajectory.transition()
    moments = _moments(trajectory)
    theta = trajectory.path(np.array([t for _, t in moments]))
    measures = model.measures(theta)
    title = plain(model.describe(model.constants))
    table = Table(
        title=(title and f"{title}, ")
        + f"{trajectory.settings['method']}: {trajectory.n_steps} steps"
    )
    columns = ["loss"] * model.has_loss + [*model.reported_measures]
    table.add_column("loss is" if not model.event_names else "", no_wrap=True)
    for column in ("t", *model.parameter_names, *columns):
        table.add_column(column, justify="right", no_wrap=True)
    for i, ((name, t), point) in enumerate(zip(moments, theta, strict=True)):
        values = [*point, *(measures[column][i] for column in columns)]
        table.add_row(name, f"{t:.6g}", *(f"{value:.3g}" for value in values))
    console = Console()
    # in a terminal that is too narrow lines break; no digit is cut off
    console.width = max(console.width, Console(width=10**4).measure(table).maximum)
    console.print(table)
    if model.plateau is None:
        return
    if np.isnan(transition.t_transition):
        line = f"transition: {transition.status}"
    else:
        line = (
            f"transition ({transition.status}): t = {transition.t_transition:.6g}, "
            f"width = {transition.width:.5g}, abruptness = {transition.abruptness:.3g}"
        )
    console.print(line, highlight=False)


def film(trajectory: Trajectory, path: Path, argument: str, quiet: bool) -> None:
    """Write the moving picture of a flow, with a progress bar; Ctrl-C leaves no file."""
    from cliff import plots

    with Bar("frames", plots.animation.FRAMES, quiet) as bar:
        try:
            plots.animate(trajectory, path, progress=bar.update)
        except ArgumentError as error:
            if error.argument != "trajectory":
                raise
            raise ArgumentError(argument, str(path), error.requirement) from None
    bar.stop.raise_if_made()


def _announce_drawing(trajectory: Trajectory, quiet: bool) -> None:
    """Say how long the picture takes if that is long: its slice has 121 × 121 losses."""
    if not trajectory.model.has_loss:
        return
    trajectory.model.loss(trajectory.theta[:1])  # may have to compile
    began = time.perf_counter()
    trajectory.model.loss(trajectory.theta[:1])
    seconds = 121**2 * (time.perf_counter() - began)
    if seconds > 20.0:
        say(f"drawing takes some {seconds:.0f} s on one core ...", quiet)
