"""``cliff compare``: hold a training run against the landscape's flow."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import typer

from cliff.checks import ArgumentError
from cliff.cli.common import (
    Bar,
    ComputationFailed,
    Json,
    Output,
    Plot,
    Quiet,
    check_outputs,
    print_json,
    say,
)

if TYPE_CHECKING:
    import xarray as xr

T = TypeVar("T")


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

    Mobilities say how fast each logit answers its gradient, which the landscape leaves open. They
    are matched on RUN and then predict the transition times of the --test runs, of the same network
    at other N and L. An example: cliff compare training.nc --test other.nc --plot compare.png
    """
    check_outputs(output, plot)
    from cliff import comparison
    from cliff.mobility_law import MOST_FLOWS
    from cliff.store import open_dataset, save

    used = law and comparison.law_of(_blame("law", law, open_dataset, law, "comparison"))
    trained = _blame("run", run, open_dataset, run, "run")
    tests = [_blame("test", path, open_dataset, path, "run") for path in test or ()]
    curves = _blame("run", run, comparison.comparable, trained, used and used.network)
    for path, dataset in zip(test or (), tests, strict=True):
        _blame("test", path, comparison.comparable, dataset, curves[0].network)
    _warn_of_other_data(trained, quiet)
    with Bar("fitting trajectories", MOST_FLOWS, quiet) as bar:

        def progress(count: int) -> None:
            bar.advance(count)
            bar.stop.raise_if_made()

        options: dict[str, Any] = {"fit": fit, "progress": progress}
        result = _blame("run", run, comparison.compare, trained, tests, used, **options)
    if output is not None:
        save(result, output)
        result = open_dataset(output, "comparison")
    if plot is not None:
        from cliff import plots

        plots.save(plots.draw(result), plot)
    summary = summarise(result)
    if as_json:
        print_json(summary)
    else:
        _print(summary)
    for written in (output, plot):
        if written is not None:
            say(f"wrote {written}", quiet)
    _fail_without_fall(summary, run, test or ())
    return 0


def _blame(option: str, path: Path, function: Callable[..., T], *args: Any, **kwargs: Any) -> T:
    """Call a function; tell its complaint about a file or what it holds as one about an option."""
    try:
        return function(*args, **kwargs)
    except ArgumentError as error:
        blamed = "" if error.argument == "path" else f"{error.value} "
        raise ArgumentError(option, str(path), blamed + error.requirement) from None
    except KeyError as error:
        from cliff.store import damaged

        raise damaged(option, path, error) from error


def _fail_without_fall(summary: dict[str, Any], run: Path, tests: Sequence[Path]) -> None:
    """Exit code 1 if a run never fell, or the flow did not get to an end."""
    never = "never fell to 0.5 log N"
    times = zip(summary["seeds"], summary["network"]["t_transition"], strict=True)
    seeds = [f"seed {seed}" for seed, t in times if math.isnan(t)]
    found = [f"{run}: {', '.join(seeds)} {never}"] if seeds else []
    if math.isnan(summary["flow"]["t_transition"]):
        found.append(f"{run}: the flow {never} ({summary['flow']['status']})")
    for path, entry in zip(tests, summary["tests"], strict=True):
        if math.isnan(entry["measured"]):
            found.append(f"{path}: no seed ever fell to 0.5 log N")
        if math.isnan(entry["predicted"]):
            found.append(f"{path}: the flow {never} ({entry['status']})")
    if found:
        raise ComputationFailed("; ".join(found))


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

    from cliff.comparison import TRANSITION
    from cliff.trajectory import Status

    slow, loss = result.slow.values == 1, result.loss.values
    measured, predicted = result.measured.values, result.predicted.values
    calibrated = result.calibrated.values == 1
    error = np.where(calibrated, np.nan, predicted / measured - 1)
    usable = np.isfinite(error)
    with_noise = result.predicted_with_noise.values
    error_with_noise = np.where(calibrated, np.nan, with_noise / measured - 1)
    summary: dict[str, Any] = {
        "model": result.attrs["model"],
        "n_pairs": int(result.attrs["n_pairs"]),
        "n_labels": int(result.attrs["n_labels"]),
        "seeds": result.seed.values.tolist(),
        "mobilities": {
            str(entry.constant.item()): {
                **{k: float(entry[k]) for k in ("matched", "matched_error", "fitted", "used")},
                "identified": bool(entry.identified),
            }
            for entry in (result.isel(constant=i) for i in range(result.sizes["constant"]))
        },
        "clock": float(result.clock),
        "noise_share": float(result.noise_share),
        "fit_misfit": float(result.fit_misfit),
        "velocity_unexplained": dict(
            zip(result.logit.values.tolist(), result.unexplained.values.tolist(), strict=True)
        ),
        "network": {name: result[f"network_{name}"].values.tolist() for name in TRANSITION},
        "flow": {
            **{name: float(result[f"flow_{name}"]) for name in TRANSITION},
            "status": result.attrs["flow_status"],
        },
        "slow_phase_loss_misfit": {
            name: float(np.abs(result[f"loss_{name}"].values - loss)[slow].mean())
            for name in ("slope", "chord", "crosstalk")
        },
        "end": {
            name: [float(row[np.isfinite(row)][-1]) for row in rows]
            for name, rows in (("loss", loss), ("landscape_loss", result.loss_slope.values))
        },
        "half_way": _half_way(result),
        "tests": [
            {
                "n_pairs": int(result.test_pairs[i]),
                "n_labels": int(result.test_labels[i]),
                "measured": float(measured[i]),
                "predicted": float(predicted[i]),
                "error": float(error[i]),
                "predicted_with_noise": float(with_noise[i]),
                "error_with_noise": float(error_with_noise[i]),
                "calibrated": bool(calibrated[i]),
                "status": str(list(Status)[int(result.predicted_status[i])]),
            }
            for i in range(len(measured))
        ],
    }
    if usable.any():
        summary["median_error"] = float(np.median(np.abs(error[usable])))
    if usable.any() and np.isfinite(error_with_noise[usable]).all():
        summary["median_error_with_noise"] = float(np.median(np.abs(error_with_noise[usable])))
    if len(set(measured[usable])) > 2 and len(set(predicted[usable])) > 1:
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
        if not entry["identified"]:
            print(f"  {name:<16}  not identified (at its bound)")
            continue
        matched = f"{entry['matched']:.4g} ± {entry['matched_error']:.2g}"
        print(
            f"  {name:<16}  {matched:<18} {_number(entry['used']):<10} {_number(entry['fitted'])}"
        )
    print(f"used = matched × {_number(summary['clock'])}, so that the flow falls when networks do")
    print("\nshare of the squared velocity in the slow phase that they leave unexplained")
    print(_pairs(summary["velocity_unexplained"]))
    print("\n                   network" + " " * 22 + "flow")
    for name, unit in (("t_transition", "time"), ("width", "time"), ("abruptness", "")):
        values = ", ".join(map(_number, summary["network"][name]))
        print(f"  {name:<16} {values:<28} {_number(summary['flow'][name])}  {unit}")
    print("\nlogits at half the transition time: network, flow")
    for name, entry in summary["half_way"].items():
        print(f"  {name:<8} {_number(entry['network']):>8} {_number(entry['flow']):>8}")
    print("\nmean misfit of the landscape's loss at the network's logits in the slow phase (nats)")
    print(_pairs(summary["slow_phase_loss_misfit"]))
    ends, floors = (", ".join(map(_number, losses)) for losses in summary["end"].values())
    print(f"loss at the end (nats): network {ends}; landscape there {floors}")
    held = not math.isnan(summary["noise_share"])
    if held:
        print(f"share of the signal's force that noise takes back {summary['noise_share']:.2f}")
    if summary["tests"]:
        print("\npredicted with these mobilities" + ", and under this noise" * held)
        print("   N    L   measured  predicted    error" + " with noise    error" * held)
        for entry in summary["tests"]:
            error = "clock set here" if entry["calibrated"] else _error(entry["error"])
            row = (
                f"{entry['n_pairs']:4d} {entry['n_labels']:4d} {_number(entry['measured']):>10} "
                f"{_number(entry['predicted']):>10} {error:>10}"
            )
            if held and not entry["calibrated"]:
                noisy = _number(entry["predicted_with_noise"])
                row += f" {noisy:>8} {_error(entry['error_with_noise']):>10}"
            print(row)
    if "median_error" in summary:
        print(f"median error {100 * summary['median_error']:.1f} %")
    if "median_error_with_noise" in summary:
        print(f"median error with noise {100 * summary['median_error_with_noise']:.1f} %")
    if "rank_correlation" in summary:
        print(f"rank correlation {summary['rank_correlation']:.3f}")


def _error(value: float) -> str:
    return "none" if math.isnan(value) else f"{100 * value:+7.1f} %"


def _pairs(values: dict[str, float]) -> str:
    return "  " + "   ".join(f"{name} {_number(value)}" for name, value in values.items())


def _number(value: float) -> str:
    return "none" if value != value else f"{value:.4g}"
