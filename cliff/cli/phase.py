"""``cliff phase``: a metric of the flow over one or two parameters."""

from __future__ import annotations

import warnings
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cliff.checks import LARGEST_INTEGER, ArgumentError
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
    announce_compiling,
    check_outputs,
    print_json,
    say,
)

if TYPE_CHECKING:
    from collections.abc import Iterator
    from concurrent.futures import Executor

    import numpy as np
    import xarray as xr


CONNECT_SECONDS = 5
INTEGERS = ("pairs", "labels")


def phase(
    x: Annotated[
        str, typer.Option("--x", metavar="NAME=START:STOP:COUNT[:log]", help="Horizontal axis.")
    ],
    y: Annotated[
        str | None,
        typer.Option("--y", metavar="NAME=START:STOP:COUNT[:log]", help="Vertical axis."),
    ] = None,
    metric: Annotated[
        str, typer.Option(help="t_transition, width, abruptness, loss or basin.")
    ] = "t_transition",
    pairs: Pairs = 8,
    labels: Labels = 32,
    init: Annotated[
        tuple[float, float, float],
        typer.Option(metavar="BETA1 ALPHA XI", help="Start where it is no axis."),
    ] = (0.01, 0.01, 0.01),
    mobility: Annotated[
        tuple[float, float, float],
        typer.Option(metavar="M M M", help="Mobilities where they are no axes."),
    ] = (1.0, 1.0, 1.0),
    positions: Positions = "exact",
    label_bias: Annotated[float, typer.Option(help="beta2, the layer-2 bias of the labels.")] = 0.0,
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
    output: Output = None,
    plot: Plot = None,
    as_json: Json = False,
    quiet: Quiet = False,
) -> int:
    """Sweep one or two parameters and map a metric of the flow.

    Axes: pairs, labels, labels_per_pair, the starts beta1, alpha, xi, and mobility_beta1,
    mobility_alpha, mobility_xi. An example: cliff phase --x pairs=2:64:32:log
    --y labels_per_pair=1:16:40:log --t-end 1e4 --plot phase.png
    """
    check_outputs(output, plot)
    axes = dict([parse_axis("x", x)])
    if y is not None:
        axes = dict([parse_axis("y", y)]) | axes  # the vertical axis varies slowest
        if len(axes) == 1:
            raise ArgumentError("y", y, "must name another parameter than --x")
    if workers is not None and workers < 1:
        raise ArgumentError("workers", workers, "must be at least 1")
    if output is not None and output.exists() and not resume:
        raise ArgumentError("output", str(output), "exists: add --resume, or name another file")
    if resume and output is None:
        raise ArgumentError("resume", True, "needs --output, the file to go on with")

    from cliff.metrics import METRIC_UNITS, FlowMetric
    from cliff.sweeps import DONE, SweepBroken, SweepIncomplete, sweep

    function = FlowMetric(
        metric=metric,
        pairs=pairs,
        labels=labels,
        positions=positions,
        label_bias=label_bias,
        theta0=init,
        mobility=mobility,
        t_end=t_end if t_end is not None else 1e5 if metric == "basin" else 1e3,
        rtol=rtol,
        atol=atol,
        max_steps=max_steps,
        workers=workers if scheduler is None else 1,
    )
    try:
        function.check_axes(axes)
    except ArgumentError as error:
        option, text = ("x", x) if x.startswith(f"{error.value}=") else ("y", str(y))
        raise ArgumentError(option, text, error.requirement) from None
    announce_compiling(quiet)
    n_cells = 1
    for values in axes.values():
        n_cells *= len(values)
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
                units=METRIC_UNITS,
                progress=bar.advance,
            )
        except (SweepBroken, SweepIncomplete) as error:
            raise ComputationFailed(str(error)) from None
    if not (dataset["outcome"] == DONE).any():
        bar.stop.raise_if_made()
        raise ComputationFailed(f"no cell could be computed: {_list(_counts(dataset))}")
    if plot is not None:
        from cliff import plots

        plots.save(plots.draw(dataset), plot)
    _report(dataset, metric, as_json)
    for path in (output, plot):
        if path is not None and not as_json:
            say(f"wrote {path}", quiet)
    bar.stop.raise_if_made()
    return 0


def parse_axis(option: str, text: str) -> tuple[str, np.ndarray[Any, Any]]:
    """NAME=START:STOP:COUNT, with :log for even ratios, as a name and its values."""
    import numpy as np

    from cliff.metrics import AXES

    requirement = "must be NAME=START:STOP:COUNT or NAME=START:STOP:COUNT:log"
    name, equals, numbers = text.partition("=")
    parts = numbers.split(":")
    logarithmic = len(parts) == 4 and parts[3] == "log"
    if not equals or not (len(parts) == 3 or logarithmic):
        raise ArgumentError(option, text, requirement)
    if name not in AXES:
        raise ArgumentError(option, text, "NAME must be one of " + ", ".join(AXES))
    try:
        start, stop, count = float(parts[0]), float(parts[1]), int(parts[2])
    except ValueError:
        raise ArgumentError(option, text, requirement) from None
    if not (np.isfinite([start, stop]).all() and start < stop and count >= 2):
        raise ArgumentError(option, text, "needs START below STOP, both finite, and COUNT above 1")
    if logarithmic and start <= 0.0:
        raise ArgumentError(option, text, "a logarithmic axis needs START above 0")
    if name in INTEGERS and not 1.0 <= start < stop <= LARGEST_INTEGER:
        raise ArgumentError(option, text, f"needs START and STOP from 1 to {LARGEST_INTEGER}")
    if name.startswith("mobility_") and start < 0.0:
        raise ArgumentError(option, text, "needs START of at least 0")
    space = np.geomspace if logarithmic else np.linspace
    values = space(start, stop, count)
    if name in INTEGERS:
        values = np.unique(np.rint(values).astype(np.int64))
    return name, values


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
    """How many cells have each outcome."""
    import json

    names = enumerate(json.loads(dataset.attrs["outcomes"]))
    counts = {name: int((dataset["outcome"].values == code).sum()) for code, name in names}
    return {name: count for name, count in counts.items() if count}


def _list(counts: dict[str, int]) -> str:
    return ", ".join(f"{count} cells {name}" for name, count in counts.items())


def _report(dataset: xr.Dataset, metric: str, as_json: bool) -> None:
    import numpy as np

    from cliff.sweeps import DONE

    counts = _counts(dataset)
    values = dataset[metric].values[dataset["outcome"].values == DONE]
    summary: dict[str, Any] = {"metric": metric, "cells": counts}
    if metric == "basin":
        from cliff.analysis import basin_fractions
        from cliff.valleys import name_of

        summary["fractions"] = {
            name_of(label): {"fraction": share, "error": error}
            for label, (share, error) in basin_fractions(values).items()
        }
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
    print(f"{metric}: {_list(counts)}")
    if metric == "basin":
        for name, share in summary["fractions"].items():
            print(f"  {name:22s} {share['fraction']:.4f} ± {share['error']:.4f}")
    elif summary["reached"]:
        print(f"  {summary['reached']} finite, {summary['least']:.4g} to {summary['greatest']:.4g}")
