"""``cliff phase``: a metric of the flow over one or two parameters."""

from __future__ import annotations

import json
import math
import warnings
from collections.abc import Collection, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from cliff.checks import LARGEST_INTEGER, ArgumentError, shorten
from cliff.cli.common import (
    Bar,
    ComputationFailed,
    Csv,
    Json,
    Labels,
    Output,
    Pairs,
    Plot,
    Positions,
    Quiet,
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

if TYPE_CHECKING:
    from collections.abc import Iterator
    from concurrent.futures import Executor

    import numpy as np
    import xarray as xr

    from cliff.protocol import LandscapeLike

CONNECT_SECONDS = 5


def phase(
    context: typer.Context,
    x: Annotated[
        str, typer.Option("--x", metavar="NAME=START:STOP:COUNT[:log]", help="Horizontal axis.")
    ],
    y: Annotated[
        str | None,
        typer.Option("--y", metavar="NAME=START:STOP:COUNT[:log]", help="Vertical axis."),
    ] = None,
    metric: Annotated[
        str,
        typer.Option(
            metavar="t_transition|width|abruptness|loss|basin|EVENT",
            help="What to map: the fall, the end, or the first time of an event; with --memory "
            "also t_memory and, at the end, icl, icl_swapped or iwl.",
        ),
    ] = "t_transition",
    landscape: LandscapeName = NESTED_LOGIT,
    constants: Constants = None,
    pairs: Pairs = 8,
    labels: Labels = 32,
    init: Init = None,
    mobility: Mobility = None,
    positions: Positions = "exact",
    label_bias: Annotated[
        str, typer.Option(help="beta2, the layer-2 bias of the labels: a number, or free.")
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
    t_end: Annotated[
        float | None,
        typer.Option(help="End of the flow; 1000 by default, 1e5 for basins."),
    ] = None,
    rtol: Annotated[float, typer.Option(help="Relative tolerance of the logits.")] = 1e-6,
    atol: Annotated[float, typer.Option(help="Absolute tolerance of the logits.")] = 1e-9,
    max_steps: Annotated[int, typer.Option(help="Limit on a trajectory's steps.")] = 100_000,
    workers: Annotated[
        int | None, typer.Option(help="Threads; all cores by default.", show_default=False)
    ] = None,
    scheduler: Annotated[
        str | None, typer.Option(help="Address of a Dask scheduler, tcp://HOST:PORT.")
    ] = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on with the sweep in --output.")
    ] = False,
    mixed_versions: Annotated[
        bool,
        typer.Option("--mixed-versions", help="Resume cells of another version of cliff, too."),
    ] = False,
    output: Output = None,
    plot: Plot = None,
    csv: Csv = None,
    as_json: Json = False,
    quiet: Quiet = False,
) -> int:
    """Sweep one or two parameters and map a metric of the flow.

    Axes: the landscape's constants, which for the nested logit are pairs (N), labels (L) and
    labels_per_pair (L/N); the start, by its components (beta1, alpha, xi and, with --label-bias
    free, beta2); mobilities, as mobility_NAME; with --memory also classes (K), zipf, burstiness
    (B), noise, p_bursty, p_novel and omega_1, … A cell whose flow stops before --t-end fails, with
    a reason.

    Example: cliff phase --x pairs=2:64:32:log --y labels_per_pair=1:16:40:log --plot phase.png
    Example: cliff phase --memory --x classes=32:4096:24:log --y p_novel=0:1:20 --metric icl
    --plot memory.png
    Example: cliff phase --landscape attention_and_value --x d=4:256:20:log --y T=8:512:20:log
    --metric attend --t-end 1e5 --plot times.png
    """
    check_outputs(output, plot, csv=csv)
    texts = {"x": x} if y is None else {"y": y, "x": x}  # the vertical axis varies slowest
    names = {text.partition("=")[0] for text in texts.values()}
    model = chosen_landscape(
        context,
        n_pairs=min(pairs, labels) if "pairs" in names else pairs,
        n_labels=max(pairs, labels) if {"labels", "labels_per_pair"} & names else labels,
        positions=positions,
        label_bias=label_bias_of(label_bias),
        memory=data_of(context, names) if is_nested_logit(landscape) else None,
    )
    parsed = [Axis.parse(option, text, model) for option, text in texts.items()]
    axes = {axis.name: axis.values for axis in parsed}
    if len(axes) < len(parsed):
        raise ArgumentError("y", y, "must name another parameter than --x")
    sizes = {axis.name: len(axis.values) for axis in parsed}
    check_size(sizes, parsed[0].option, parsed[0].text)
    if workers is not None and workers < 1:
        raise ArgumentError("workers", workers, "must be at least 1")
    if output is not None and output.exists() and not resume:
        raise ArgumentError("output", str(output), "exists: add --resume, or name another file")
    if resume and output is not None and not output.exists():
        raise ArgumentError("output", str(output), "there is no such file to resume")
    if resume and output is None:
        raise ArgumentError("resume", True, "needs --output, the file to go on with")
    if is_nested_logit(landscape):
        refuse_unused_of_nested_logit(context, axes)
    for name, text in named(constants).items():
        if name in {model.axes.get(axis) for axis in axes}:
            raise ArgumentError("set", text, f"has no effect beside the axis {name}")
    refuse_unused(context)

    from cliff.metrics import FlowMetric
    from cliff.sweeps import DONE, SweepBroken, SweepIncomplete, sweep

    start, rates = (
        components_beside_axes(context, option, model, axes) for option in ("init", "mobility")
    )
    function = FlowMetric(
        metric=metric,
        model=model,
        theta0=tuple(start),
        mobility=tuple(rates),
        t_end=t_end if t_end is not None else 1e5 if metric == "basin" else 1e3,
        rtol=rtol,
        atol=atol,
        max_steps=max_steps,
        workers=workers if scheduler is None else 1,
    )
    try:
        function.check_axes(axes)
    except ArgumentError as error:
        axis = next(axis for axis in parsed if axis.name == error.value)
        raise ArgumentError(axis.option, axis.text, error.requirement) from None
    for axis in parsed:
        if axis.is_rounded:
            whole = shorten(axis.values.tolist())
            say(f"--{axis.option} {axis.text}: rounded to whole numbers, {whole}", quiet)
    announce_compiling(quiet)
    n_cells = math.prod(sizes.values())
    with (
        connected(scheduler) as executor,
        Bar("phase", n_cells, quiet) as bar,
        warnings.catch_warnings(),
    ):
        warnings.simplefilter("error", SweepIncomplete)
        try:
            dataset = sweep(
                function,
                axes,
                executor,
                output,
                vectorized=True,
                units=function.units,
                long_names=function.long_names,
                mixed_versions=mixed_versions,
                progress=bar.advance,
            )
        except (SweepBroken, SweepIncomplete) as error:
            raise ComputationFailed(str(error)) from None
        except ArgumentError as error:
            if error.argument != "path":
                raise
            raise ArgumentError("output", str(output), error.requirement) from None
    counts = _counts(dataset)
    if (dataset["outcome"] == DONE).any():
        _report(dataset, metric, model, as_json)
        if plot is not None:
            from cliff import plots

            plots.save(plots.draw(dataset, model), plot)
        for path in (output, plot):
            if path is not None and not as_json:
                say(f"wrote {path}", quiet)
        export_csv(dataset, csv, quiet or as_json, model)
    elif not bar.stop:
        raise ComputationFailed(f"no cell could be computed: {_list(counts)}")
    if bar.stop and output is not None:
        say(f"{counts.get('done', 0)} of {n_cells} cells are in {output}: --resume", quiet)
    bar.stop.raise_if_made()
    return 0


@dataclass(frozen=True)
class Axis:
    """An axis as the user typed it, with its values."""

    option: str
    text: str
    name: str
    values: np.ndarray[Any, Any]
    is_rounded: bool

    @classmethod
    def parse(cls, option: str, text: str, model: LandscapeLike) -> Axis:
        """Read NAME=START:STOP:COUNT, with :log for values of equal ratios."""
        import numpy as np

        requirement = "must be NAME=START:STOP:COUNT or NAME=START:STOP:COUNT:log"
        name, equals, numbers = text.partition("=")
        parts = numbers.split(":")
        logarithmic = len(parts) == 4 and parts[3] == "log"
        if not equals or not (len(parts) == 3 or logarithmic):
            raise ArgumentError(option, text, requirement)
        component = name.removeprefix("mobility_")
        if name not in model.axes and component not in (*model.parameter_names, "beta2"):
            known = (*model.axes, *model.parameter_names, "mobility_NAME")
            raise ArgumentError(option, text, "NAME must be one of " + ", ".join(known))
        try:
            start, stop, count = float(parts[0]), float(parts[1]), int(parts[2])
        except ValueError:
            raise ArgumentError(option, text, requirement) from None
        if not (np.isfinite([start, stop]).all() and start < stop and count >= 2):
            raise ArgumentError(
                option, text, "needs START below STOP, both finite, and COUNT above 1"
            )
        if logarithmic and start <= 0.0:
            raise ArgumentError(option, text, "a logarithmic axis needs START above 0")
        if name in model.whole_axes and not 1.0 <= start < stop <= LARGEST_INTEGER:
            raise ArgumentError(option, text, f"needs START and STOP from 1 to {LARGEST_INTEGER}")
        if name in model.whole_axes and not (start.is_integer() and stop.is_integer()):
            raise ArgumentError(option, text, "needs START and STOP to be whole numbers")
        if name.startswith("mobility_") and start < 0.0:
            raise ArgumentError(option, text, "needs START of at least 0")
        check_size({name: count}, option, text)
        with np.errstate(over="ignore", invalid="ignore"):
            values = (np.geomspace if logarithmic else np.linspace)(start, stop, count)
        if not (np.diff(values) > 0.0).all():  # also where the difference of the ends overflows
            raise ArgumentError(option, text, "needs START and STOP whose values in between differ")
        if name not in model.whole_axes:
            return cls(option, text, name, values, is_rounded=False)
        whole = np.unique(np.rint(values).astype(np.int64))
        is_rounded = len(whole) < count or bool((np.abs(whole - values) > 1e-9 * values).any())
        return cls(option, text, name, whole, is_rounded)


def check_size(sizes: Mapping[str, int], option: str, text: str) -> None:
    """Refuse a grid that does not fit into memory, before its axes take any."""
    from cliff.sweeps import check_cells

    try:
        check_cells(sizes)
    except ArgumentError as error:
        raise ArgumentError(option, text, error.requirement) from None


def components_beside_axes(
    context: typer.Context,
    option: Literal["init", "mobility"],
    model: LandscapeLike,
    axes: Collection[str],
) -> list[float]:
    """Start or mobilities of the components, of which none may be given that is an axis."""
    names, p = model.parameter_names, model.n_parameters
    prefix, default = {"init": ("", 0.01), "mobility": ("mobility_", 1.0)}[option]
    texts, defaults, positional = context.params[option], [default] * p, p
    if is_nested_logit(context.params["landscape"]):
        positional = p if context.params["memory"] else 3
        if "beta2" in names:
            bias = f"bias_{option}"
            if bias in given(context) and "beta2" in named(texts):
                raise ArgumentError(bias, context.params[bias], "beta2 is given by name, too")
            if bias in given(context) and texts and not named(texts) and positional > 3:
                raise ArgumentError(bias, context.params[bias], "beta2 is given in its place, too")
            defaults[3] = context.params[bias]
    values = components(option, texts, names, defaults, positional)
    for i, (name, value) in enumerate(zip(names, values, strict=True)):
        beside = f"has no effect beside the axis {prefix}{name}"
        if prefix + name in axes and texts:
            if name in named(texts):
                raise ArgumentError(option, named(texts)[name], beside)
            if i < positional and not named(texts) and value != default:
                shown = " ".join(map(str, values[:positional]))
                raise ArgumentError(
                    option, shown, f"{value} {beside}: write {default} in its place"
                )
    return values


def refuse_unused(context: typer.Context) -> None:
    """Refuse options on the command line that have no effect beside each other."""
    values = context.params
    if values["scheduler"] is not None:
        _refuse(context, "workers", "has no effect beside --scheduler")
    if not values["resume"]:
        _refuse(context, "mixed_versions", "has no effect without --resume")


def refuse_unused_of_nested_logit(context: typer.Context, axes: Collection[str]) -> None:
    """Refuse options of the nested logit that have no effect beside the axes and each other."""
    for name, covering in (
        ("pairs", ("pairs",)),
        ("labels", ("labels", "labels_per_pair")),
        ("label_bias", ("label_bias",)),
        ("bias_init", ("beta2",)),
        ("bias_mobility", ("mobility_beta2",)),
    ):
        for axis in covering:
            if axis in axes:
                _refuse(context, name, f"has no effect beside the axis {axis}")
    if context.params["label_bias"] != "free":
        for name in ("bias_init", "bias_mobility"):
            _refuse(context, name, "has no effect without --label-bias free")
    if context.params["positions"] == "mean":
        _refuse(context, "label_bias", "has no effect with --positions mean")


def _refuse(context: typer.Context, name: str, requirement: str) -> None:
    if name in given(context):
        raise ArgumentError(name, context.params[name], requirement)


@contextmanager
def connected(scheduler: str | None) -> Iterator[Executor | None]:
    """The executor of a Dask cluster, or None without one."""
    if scheduler is None:
        yield None
        return
    try:
        from dask.distributed import Client
    except ImportError:
        raise ArgumentError(
            "scheduler", scheduler, "needs the extra dask: pip install 'cliff-icl[dask]'"
        ) from None
    try:
        client = Client(scheduler, timeout=CONNECT_SECONDS)
    except (OSError, ValueError, TimeoutError) as error:
        raise ComputationFailed(
            f"--scheduler {scheduler}: no Dask scheduler answers there ({type(error).__name__})"
        ) from None
    with client:
        yield client.get_executor()


def _counts(dataset: xr.Dataset) -> dict[str, int]:
    """Number of cells by outcome."""
    names = enumerate(json.loads(dataset.attrs["outcomes"]))
    counts = {name: int((dataset["outcome"].values == code).sum()) for code, name in names}
    return {name: count for name, count in counts.items() if count}


def _list(counts: dict[str, int]) -> str:
    return ", ".join(f"{name} in {count}" for name, count in counts.items() if name != "done")


def _report(dataset: xr.Dataset, metric: str, model: LandscapeLike, as_json: bool) -> None:
    import numpy as np

    from cliff.sweeps import DONE

    counts, n_cells = _counts(dataset), dataset["outcome"].size
    values = dataset[metric].values[dataset["outcome"].values == DONE]
    summary: dict[str, Any] = {"metric": metric, "n_cells": n_cells, "cells": counts}
    if metric == "basin":
        from cliff.presentation import valley_name

        found, numbers = np.unique(values, return_counts=True)
        shares = zip(found.tolist(), (numbers / len(values)).tolist(), strict=True)
        summary["fractions"] = {valley_name(model, label): share for label, share in shares}
    else:
        known = values[np.isfinite(values)]
        summary |= {
            "reached": int(known.size),
            "least": float(known.min()) if known.size else None,
            "greatest": float(known.max()) if known.size else None,
        }
    if as_json:
        print_json(summary | {"shape": dict(dataset.sizes)})
        return
    rest = _list(counts)
    print(f"{metric}: {len(values)} of {n_cells} cells done" + (f", {rest}" if rest else ""))
    if metric == "basin":
        if len(values) < n_cells:
            print(f"  shares of the {len(values)} cells:")
        for name, share in summary["fractions"].items():
            print(f"  {name:22s} {share:.4f}")
    elif summary["reached"]:
        print(f"  {summary['reached']} finite, {summary['least']:.4g} to {summary['greatest']:.4g}")
    elif len(values):
        print("  not reached in any of them")
