"""Training runs behind the figures: many at a time, each kept, so that a break costs little.

Each finished run is kept in figures/runs until all are gathered into a figure's data.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import xarray as xr

from cliff import Task
from cliff.cli.progress import Progress
from cliff.network.runs import Run, run_all
from cliff.network.training import RunStatus
from cliff.store import load, provenance, save
from figures import HERE

RUNS = HERE / "runs"


@dataclass(frozen=True)
class Case:
    """A training run, and the labels that distinguish it within its ensemble."""

    run: Run
    labels: Mapping[str, Any]

    @property
    def network(self) -> str:
        """Name of the network in a legend."""
        words = {"": "transformer", "free": "minimal head"}
        bias = self.run.network.get("label_bias", "free" if self.run.model == "minimal" else "")
        return words.get(bias, "minimal head, no label bias")

    @property
    def file(self) -> str:
        """Name of the file in which the finished run is kept."""
        words = [f"{name}={value}".replace(" ", "-") for name, value in self.labels.items()]
        return "_".join([*words, f"steps={self.run.n_steps}"]) + ".nc"


def case(
    model: str = "transformer",
    seed: int = 0,
    n_steps: int = 20_000,
    network: Mapping[str, Any] | None = None,
    options: Mapping[str, Any] | None = None,
    **task: Any,
) -> Case:
    """A run at learning rate 0.1 whose seed draws the task, the network and the batches."""
    labels = {"model": model, **task, **(network or {}), "seed": seed}
    run = Run(
        model, Task(**task, seed=seed), seed, n_steps, network or {}, {"lr": 0.1, **(options or {})}
    )
    return Case(run, labels)


def until_the_fall(one: Case) -> Case:
    """End a run ten evaluations after it first answers 90 % of the sequences rightly."""
    every = 25 if one.run.task.n_pairs < 4 else 50
    options = {
        **one.run.options,
        "eval_every": every,
        "stop_accuracy": 0.9,
        "stop_delay": 10 * every,
    }
    return replace(one, run=replace(one.run, options=options))


def train_all(
    name: str, cases: Sequence[Case], fast: bool = False, processes: int | None = None
) -> list[xr.Dataset]:
    """Train the cases that are not kept yet, and return all runs in the order of the cases.

    So many processes train at a time, by default one on each core. Fast runs are not kept, and are
    so few that processes would cost more than they save.
    """
    with TemporaryDirectory() as temporary, Progress(quiet=fast) as progress:
        folder = Path(temporary) if fast else RUNS
        folder.mkdir(exist_ok=True)
        files = {folder / one.file: one.run for one in cases}
        missing = [file for file in files if not file.exists()]
        done = len(files) - len(missing)

        def keep(number: int, run: xr.Dataset) -> None:
            nonlocal done
            if run.status != RunStatus.INTERRUPTED:
                save(run, missing[number])
                done += 1
                progress.update(f"{name}: training", done, len(files))

        progress.update(f"{name}: training", done, len(files))
        run_all([files[file] for file in missing], 1 if fast else processes, finished=keep)
        return [load(folder / one.file) for one in cases]


def gather(
    cases: Sequence[Case], runs: Sequence[xr.Dataset], names: Sequence[str], keys: Sequence[str]
) -> xr.Dataset:
    """Lay curves side by side.

    Parameters
    ----------
    cases : sequence of Case
    runs : sequence of xarray.Dataset
    names : sequence of str
        Curves to keep.
    keys : sequence of str
        Labels that set the runs apart.

    Returns
    -------
    xarray.Dataset
        ``step``, ``t`` and each of `names` over ``run`` and ``row``, filled up with NaN where a run
        has fewer rows; ``network`` and each of `keys` along ``run``.
    """
    n_rows = max(run.sizes["step"] for run in runs)
    variables = {}
    for name in ("step", "t", *names):
        table = np.full((len(runs), n_rows), np.nan, np.float32)
        for row, run in zip(table, runs, strict=True):
            row[: run.sizes["step"]] = run[name]
        variables[name] = (("run", "row"), table, {"units": runs[0][name].attrs.get("units", "1")})
    coords = {key: ("run", [one.labels[key] for one in cases]) for key in keys}
    coords["network"] = ("run", [one.network for one in cases])
    first = cases[0].run
    settings = {
        "runs": len(cases),
        "n_steps": first.n_steps,
        **first.options,
    }
    return xr.Dataset(variables, coords=coords, attrs=provenance(settings))


def last(values: xr.DataArray) -> np.ndarray:
    """The last entry of every run, shape (runs,)."""
    rows = values.transpose("run", "row").values
    count = np.isfinite(rows).sum(axis=1)
    return rows[np.arange(len(rows)), np.maximum(count - 1, 0)]
