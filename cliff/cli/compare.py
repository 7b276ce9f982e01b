"""``cliff compare``: hold a training run against the landscape's flow."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cliff.checks import ArgumentError
from cliff.cli.common import Bar, Json, Output, Plot, Quiet, check_outputs, print_json, say

if TYPE_CHECKING:
    import xarray as xr

N_FLOWS = 150
"""About as many flows as the fit integrates."""


def compare(
    run: Annotated[Path, typer.Argument(help="A run that `cliff train --output` wrote.")],
    test: Annotated[
        list[Path] | None,
        typer.Option(help="A run of another setting to predict; may be given several times."),
    ] = None,
    law: Annotated[
        Path | None,
        typer.Option(help="Take the mobilities from this comparison, not from the run itself."),
    ] = None,
    fit: Annotated[
        bool, typer.Option(help="Fit trajectories too, to check the matched mobilities.")
    ] = True,
    output: Output = None,
    plot: Plot = None,
    as_json: Json = False,
    quiet: Quiet = False,
) -> int:
    """Match mobilities to a trained network, flow with them, and print the misfit.

    Mobilities are what the landscape does not know: how fast each logit answers its gradient. They
    are matched on RUN and then predict the transition times of the --test runs.
    """
    check_outputs(output, plot)
    from cliff.comparison import compare as hold_together
    from cliff.comparison import law_of
    from cliff.store import open_dataset, save

    trained = _open(run, "run", "run")
    tests = [_open(path, "run", "test") for path in test or ()]
    used = None if law is None else law_of(_open(law, "comparison", "law"))
    _warn_of_other_data(trained, quiet)
    with Bar("fitting trajectories", N_FLOWS, quiet) as bar:
        done = 0

        def progress(count: int) -> None:
            nonlocal done
            done = min(done + count, N_FLOWS)
            bar.update(done)
            bar.stop.raise_if_made()

        result = hold_together(trained, tests, used, fit=fit, progress=progress)
    if output is not None:
        save(result, output)
        result = open_dataset(output, "comparison")
    if plot is not None:
        draw(result, plot)
    summary = summarise(result)
    if as_json:
        print_json(summary)
    else:
        _print(summary)
    for path in (output, plot):
        if path is not None:
            say(f"wrote {path}", quiet)
    return 0


def draw(result: xr.Dataset, path: Path) -> None:
    """Draw the picture of a comparison."""
    from cliff.plots import comparison_figure, save

    save(comparison_figure(result), path)


def _open(path: Path, kind: str, argument: str) -> xr.Dataset:
    from cliff.store import open_dataset

    try:
        return open_dataset(path, kind)
    except ArgumentError as error:
        raise ArgumentError(argument, error.value, error.requirement) from None


def _warn_of_other_data(run: xr.Dataset, quiet: bool) -> None:
    """Say so if a run was trained on sequences that the landscape does not describe."""
    task = json.loads(run.attrs["parameters"])["task"]
    if task["p_novel"] < 1 or task["burstiness"] > 1:
        say(
            "note: the landscape is that of novel classes, each once in a context; this run has "
            f"p_novel = {task['p_novel']:g}, burstiness = {task['burstiness']}",
            quiet,
        )


def summarise(result: xr.Dataset) -> dict[str, Any]:
    """The numbers of a comparison, as plain values."""
    import numpy as np

    slow, loss = result.slow.values == 1, result.loss.values
    ends = [float(row[np.isfinite(row)][-1]) for row in loss]
    floors = [float(row[np.isfinite(row)][-1]) for row in result.loss_slope.values]
    measured, predicted = result.measured.values, result.predicted.values
    error = predicted / measured - 1
    usable = np.isfinite(error)
    summary: dict[str, Any] = {
        "model": result.attrs["model"],
        "n_pairs": int(result.attrs["n_pairs"]),
        "n_labels": int(result.attrs["n_labels"]),
        "seeds": result.seed.values.tolist(),
        "mobilities": {
            str(entry.constant.item()): {
                name: float(entry[name]) for name in ("matched", "matched_error", "fitted", "used")
            }
            for entry in (result.isel(constant=i) for i in range(result.sizes["constant"]))
        },
        "clock": float(result.clock),
        "fit_misfit": float(result.fit_misfit),
        "velocity_unexplained": dict(
            zip(result.logit.values.tolist(), result.unexplained.values.tolist(), strict=True)
        ),
        "network": {
            name: result[f"network_{name}"].values.tolist()
            for name in ("t_transition", "width", "abruptness")
        },
        "flow": {
            name: float(result[f"flow_{name}"]) for name in ("t_transition", "width", "abruptness")
        },
        "slow_phase_loss_misfit": {
            name: float(np.abs(result[f"loss_{name}"].values - loss)[slow].mean())
            for name in ("slope", "chord", "crosstalk")
        },
        "end": {"loss": ends, "landscape_loss": floors},
        "half_way": _half_way(result),
        "tests": [
            {
                "n_pairs": int(result.test_pairs[i]),
                "n_labels": int(result.test_labels[i]),
                "measured": float(measured[i]),
                "predicted": float(predicted[i]),
                "error": float(error[i]),
            }
            for i in range(len(measured))
        ],
    }
    if usable.sum() > 0:
        summary["median_error"] = float(np.median(np.abs(error[usable])))
    if usable.sum() > 2:
        from scipy.stats import spearmanr

        summary["rank_correlation"] = float(spearmanr(measured[usable], predicted[usable])[0])
    return summary


def _half_way(result: xr.Dataset) -> dict[str, dict[str, float]]:
    """Logits of the network (mean over seeds) and of the flow at half their transition times."""
    import numpy as np

    times = result.network_t_transition.values
    found: dict[str, dict[str, float]] = {}
    for i, name in enumerate(result.logit.values.tolist()):
        values = [
            np.interp(time / 2, row[np.isfinite(row)], theta[np.isfinite(row), i])
            for time, row, theta in zip(times, result.t.values, result.theta.values, strict=True)
        ]
        flow = np.interp(
            float(result.flow_t_transition) / 2, result.time.values, result.flow_theta.values[:, i]
        )
        found[name] = {"network": float(np.mean(values)), "flow": float(flow)}
    return found


def _print(summary: dict[str, Any]) -> None:
    seeds = ", ".join(str(seed) for seed in summary["seeds"])
    print(f"{summary['model']}, N = {summary['n_pairs']}, L = {summary['n_labels']}, seeds {seeds}")
    print("\nmobility constant   matched            used       fitted to trajectories")
    for name, entry in summary["mobilities"].items():
        matched = f"{entry['matched']:.4g} ± {entry['matched_error']:.2g}"
        print(
            f"  {name:<16}  {matched:<18} {_number(entry['used']):<10} {_number(entry['fitted'])}"
        )
    print(f"the matched ones were multiplied by {_number(summary['clock'])}, to fall together")
    print("\nshare of the squared velocity in the slow phase that they leave unexplained")
    print(_pairs(summary["velocity_unexplained"]))
    print("\n                   network" + " " * 22 + "flow")
    for name, unit in (("t_transition", "time"), ("width", "time"), ("abruptness", "")):
        values = ", ".join(_number(value) for value in summary["network"][name])
        print(f"  {name:<16} {values:<28} {_number(summary['flow'][name])}  {unit}")
    print("\nlogits at half the transition time: network, flow")
    for name, entry in summary["half_way"].items():
        print(f"  {name:<8} {_number(entry['network']):>8} {_number(entry['flow']):>8}")
    print("\nmean misfit of the landscape's loss at the network's logits in the slow phase (nats)")
    print(_pairs(summary["slow_phase_loss_misfit"]))
    ends = ", ".join(_number(value) for value in summary["end"]["loss"])
    floors = ", ".join(_number(value) for value in summary["end"]["landscape_loss"])
    print(f"loss at the end (nats): network {ends}; landscape there {floors}")
    if summary["tests"]:
        print("\npredicted with these mobilities\n   N    L   measured  predicted    error")
        for entry in summary["tests"]:
            print(
                f"{entry['n_pairs']:4d} {entry['n_labels']:4d} {_number(entry['measured']):>10} "
                f"{_number(entry['predicted']):>10} {100 * entry['error']:+7.1f} %"
            )
    if "median_error" in summary:
        print(f"median error {100 * summary['median_error']:.1f} %")
    if "rank_correlation" in summary:
        print(f"rank correlation {summary['rank_correlation']:.3f}")


def _pairs(values: dict[str, float]) -> str:
    return "  " + "   ".join(f"{name} {_number(value)}" for name, value in values.items())


def _number(value: float) -> str:
    return "none" if value != value else f"{value:.4g}"
