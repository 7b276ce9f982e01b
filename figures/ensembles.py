"""Training runs behind the figures: many at a time, each kept, so that a break costs little.

Runs are trained by `cliff.sweep`, one process a core, and kept in figures/runs until they are
gathered into a figure's data.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import nullcontext
from dataclasses import dataclass, replace
from multiprocessing import get_context
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import xarray as xr

from cliff import Task, sweep
from cliff.cli.common import Bar
from cliff.network.runs import Run, one_thread_each
from cliff.parallel import n_cores
from cliff.store import load, provenance, save
from figures import HERE

RUNS = HERE / "runs"


@dataclass(frozen=True)
class Case:
    """A training run and what sets it apart from the others of its ensemble."""

    run: Run
    labels: Mapping[str, Any]

    @property
    def network(self) -> str:
        """The network in a word or two."""
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


@dataclass(frozen=True)
class _Train:
    """Trains one case; what the sweep keeps are its numbers, the curves go to the case's file."""

    cases: tuple[Case, ...]
    folder: Path

    @property
    def parameters(self) -> dict[str, Any]:
        return {"runs": [one.file for one in self.cases]}

    def __call__(self, run: int) -> dict[str, float]:
        one = self.cases[int(run)]
        began = time.perf_counter()
        file = self.folder / one.file
        if not file.exists():
            save(one.run(), file)
        result = load(file)
        last = result.isel(step=-1)
        return {
            "last_step": float(result.last_step),
            "icl": float(last.icl),
            "iwl": float(last.iwl),
            "seconds": time.perf_counter() - began,
        }


def train_all(name: str, cases: Sequence[Case], fast: bool = False) -> list[xr.Dataset]:
    """Train what is not there yet, and return all runs in the order of the cases.

    Fast runs are not kept, and so few that processes would cost more than they save.
    """
    with TemporaryDirectory() as temporary:
        folder = Path(temporary) if fast else RUNS
        folder.mkdir(exist_ok=True)
        with (
            one_thread_each(),
            nullcontext() if fast else ProcessPoolExecutor(n_cores(), get_context("spawn")) as pool,
            Bar(f"{name}: training", len(cases), quiet=fast) as bar,
        ):
            axes = {"run": np.arange(len(cases))}
            train_one = _Train(tuple(cases), folder)
            sweep(train_one, axes, pool, folder / f"{name}.sweep.nc", progress=bar.advance)
            bar.stop.raise_if_made()
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
