"""Results as tidy tables, for spreadsheets and other languages: CSV files."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from cliff.checks import ArgumentError
from cliff.metrics import METRIC_UNITS, FlowMetric
from cliff.plots.flow import smooth_times
from cliff.plots.overlay import differences, kind_of
from cliff.presentation import valley_name
from cliff.protocol import LandscapeLike
from cliff.store import write_atomic
from cliff.trajectory import Ensemble, Status, Trajectory
from cliff.valleys import basins

if TYPE_CHECKING:
    import pandas as pd
    import xarray as xr

TIME = "gradient-flow time"


def table(
    result: Trajectory | Ensemble | xr.Dataset, model: LandscapeLike | None = None
) -> pd.DataFrame:
    """The numbers behind the picture of a result, one row for each point of a curve or diagram.

    Parameters
    ----------
    result : Trajectory, Ensemble or xarray.Dataset
        As `cliff.plots.draw`.
    model : LandscapeLike, optional
        The landscape of a sweep, where it is made of functions.

    Returns
    -------
    pandas.DataFrame
        A flow has a row for each time at which its picture is drawn; an ensemble one for each
        trajectory; a phase diagram one for each cell; a training, and the networks of a comparison,
        one for each seed and record. Columns whose numbers have a unit say it, as in
        ``loss [nat]``; shares and logits have none.

    Raises
    ------
    ArgumentError
        If the result is none of these.
    """
    import pandas as pd

    if isinstance(result, Trajectory):
        smooth = result.sampled(smooth_times(result))
        columns: dict[str, Any] = {f"t [{TIME}]": smooth.t}
        if result.model.has_loss:
            columns["loss [nat]"] = smooth.loss
        columns |= dict(zip(result.model.parameter_names, smooth.theta.T, strict=True))
        measures = smooth.measures()
        return pd.DataFrame(columns | {name: measures[name] for name in result.model.measure_names})
    if isinstance(result, Ensemble):
        return pd.DataFrame(_of_ensemble(result))
    kind = getattr(result, "attrs", {}).get("cliff_kind")
    if kind == "sweep":
        return _of_sweep(result, model)
    if kind in ("run", "comparison"):
        return _of_curves(result)
    raise ArgumentError("result", kind or type(result).__name__, "has no table")


def _of_ensemble(ensemble: Ensemble) -> Mapping[str, Any]:
    names = ensemble.model.parameter_names
    columns: dict[str, Any] = dict(ensemble.constants)
    columns |= {f"{name} at the start": v for name, v in zip(names, ensemble.theta0.T, strict=True)}
    columns |= {f"{name} at the end": v for name, v in zip(names, ensemble.theta.T, strict=True)}
    times = {"t": ensemble.t, **ensemble.events, "t_transition": ensemble.t_transition}
    times["width"] = ensemble.width
    columns |= {f"{name} [{TIME}]": values for name, values in times.items()}
    columns["loss [nat]"] = ensemble.loss
    if ensemble.model.valley_names:
        columns["valley"] = [valley_name(ensemble.model, c) for c in basins(ensemble).tolist()]
    columns["status"] = [str(list(Status)[code]) for code in ensemble.status.tolist()]
    return columns


def _of_sweep(dataset: xr.Dataset, model: LandscapeLike | None) -> pd.DataFrame:
    """One row a cell, with the outcome in words and, on a basin map, the valley."""
    frame = _named(dataset, [str(name) for name in dataset["outcome"].dims])
    outcomes = np.array(json.loads(dataset.attrs["outcomes"]))
    frame["outcome"] = outcomes[dataset["outcome"].values.ravel()]
    if "basin" in dataset:
        model = FlowMetric.from_dataset(dataset, model).model
        labels = dataset["basin"].transpose(*dataset["outcome"].dims).values.ravel().astype(int)
        done = frame["outcome"] == "done"
        frame["valley"] = [
            valley_name(model, label) if is_done else ""
            for label, is_done in zip(labels.tolist(), done, strict=True)
        ]
    return frame


def _of_curves(dataset: xr.Dataset) -> pd.DataFrame:
    """The variables that are curves, over the dimensions of the loss."""
    return _named(dataset, [str(name) for name in dataset["loss"].dims[::-1]])


def _named(dataset: xr.Dataset, dims: list[str]) -> pd.DataFrame:
    """Variables over some of the dimensions, whose names say their units."""
    kept = [name for name in dataset.data_vars if set(dataset[name].dims) <= set(dims)]
    kept = [name for name in kept if dataset[name].dims]
    frame = dataset[kept].to_dataframe(dim_order=dims).reset_index()
    units = {name: _unit(str(name), dataset[name].attrs.get("units", "1")) for name in kept}
    return frame.rename(columns={n: f"{n} [{unit}]" for n, unit in units.items() if unit})


def _unit(name: str, unit: str) -> str:
    """The unit as a header writes it, "" for none: the same for one quantity in all tables."""
    unit = TIME if name == "t" else METRIC_UNITS.get(name, unit)
    return {"1": "", "label": "", "nats": "nat", "count": ""}.get(unit, unit)


def joined(
    tables: Sequence[pd.DataFrame], results: Sequence[Any], names: Sequence[str]
) -> pd.DataFrame:
    """Tables of results of one kind below each other, with a first column that tells them apart.

    Parameters
    ----------
    tables : sequence of pandas.DataFrame
        One is returned as it is.
    results : sequence of Trajectory, Ensemble or xarray.Dataset
    names : sequence of str
        What the results are called, such as their files.

    Raises
    ------
    ArgumentError
        If the kinds differ.
    """
    import pandas as pd

    if len(tables) == 1:
        return tables[0]
    kinds = dict.fromkeys(map(kind_of, results))
    if len(kinds) > 1:
        raise ArgumentError("results", ", ".join(kinds), "must be of one kind for one table")
    keys = [", ".join(filter(None, pair)) for pair in zip(names, differences(results), strict=True)]
    marked = [frame.assign(result=key) for frame, key in zip(tables, keys, strict=True)]
    together = pd.concat(marked, ignore_index=True)
    return together[["result", *(name for name in together if name != "result")]]


def write_csv(frame: pd.DataFrame, path: str | os.PathLike[str]) -> Path:
    """Write a table as CSV, atomically; numbers are read back bit for bit, and NaN is empty."""
    text = frame.to_csv(index=False, lineterminator="\n")
    return write_atomic(path, lambda file: file.write(text.encode()))
