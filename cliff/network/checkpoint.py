"""Checkpoints: the whole state of a training run in an .npz file, without pickle."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import zip_longest
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cliff.checks import ArgumentError, shorten
from cliff.network.layers import Network
from cliff.store import write_atomic
from cliff.task import DATA, Task, stream

FORMAT = 1
"""Version of the file layout. A file with a higher number is refused rather than misread."""


@dataclass(frozen=True)
class Checkpoint:
    """The state of a run after `step` updates, and the settings that determine its records."""

    settings: Mapping[str, Any]
    generator: Mapping[str, Any]  # state of the generator of the batches
    step: int
    rows: list[dict[str, float]]
    task: Task  # source of the next batch; callbacks may have replaced the run's own
    clamp: dict[int, Any]
    frozen: set[str]
    parameters: NDArray[Any]

    @classmethod
    def read(cls, path: Path) -> Checkpoint:
        """Read a file; ArgumentError if it is truncated, foreign or of a newer format."""
        with reading(path):
            with open(path, "rb") as opened, np.load(opened, allow_pickle=False) as file:
                header, parameters = json.loads(str(file["header"])), file["parameters"]
            version = int(header["cliff_checkpoint"])
        if version > FORMAT:
            requirement = "was written by a newer version of cliff: upgrade to read it"
            raise ArgumentError("checkpoint", str(path), requirement)
        with reading(path):
            stream(0, DATA).bit_generator.state = header["generator"]  # raises if it is not a state
            rows = [dict(row) for row in header["rows"]]
            if not all({"step", "loss", "accuracy"} <= row.keys() for row in rows):
                raise ValueError("records without what every record has")
            return cls(
                settings=dict(header["settings"]),
                generator=header["generator"],
                step=int(header["step"]),
                rows=rows,
                task=Task(**header["task"]),
                clamp=dict(header["clamp"]),
                frozen=set(header["frozen"]),
                parameters=parameters,
            )

    def write(self, path: Path) -> None:
        """Write the file atomically; OSError if it cannot be written."""
        header = {
            "cliff_checkpoint": FORMAT,
            "settings": self.settings,
            "step": self.step,
            "rows": self.rows,
            "generator": self.generator,
            "task": self.task.settings(),
            "clamp": list(self.clamp.items()),
            "frozen": sorted(self.frozen),
        }
        text = np.array(json.dumps(header, default=np.ndarray.tolist))  # the generator has arrays
        try:
            write_atomic(path, lambda file: np.savez(file, header=text, parameters=self.parameters))
        except ArgumentError as error:  # the path was writable when the run began
            raise OSError(f"no checkpoint could be written: {path}: {error.requirement}") from error

    def check(self, path: Path, settings: Mapping[str, Any], n_steps: int) -> None:
        """Raise ArgumentError unless a run of `n_steps` steps with `settings` can go on from it."""
        for name, value in json.loads(json.dumps(settings)).items():  # as they come back from JSON
            found = self.settings.get(name)
            if found != value:
                requirement = f"was made with {_difference(name, found, value)}"
                raise ArgumentError("checkpoint", str(path), requirement)
        if self.step > n_steps:
            requirement = f"must be at least {self.step}, where the checkpoint is"
            raise ArgumentError("n_steps", n_steps, requirement)

    def restore(self, net: Network, path: Path) -> None:
        """Give a network of the same settings the run's parameters, clamps and frozen names."""
        with reading(path):
            net.parameters.vector[:] = self.parameters
        net.clamp, net.frozen = dict(self.clamp), set(self.frozen)


@contextmanager
def reading(path: Path) -> Iterator[None]:
    """Turn any exception into one line that says that the file is not a checkpoint."""
    try:
        yield
    except Exception as error:  # zipfile, numpy, json and Task each raise their own
        requirement = "is not a checkpoint of this package, or is truncated"
        raise ArgumentError("checkpoint", str(path), requirement) from error


def _difference(name: str, saved: Any, value: Any) -> str:
    """Say how two settings differ, down to the entry where they are mappings or lists."""
    if isinstance(saved, dict) and isinstance(value, dict):
        within = f"{name}." if "[" in name else ""  # which entry of a list it is
        pairs = {
            within + key: (saved.get(key, "nothing"), value.get(key, "nothing"))
            for key in saved | value
        }
    elif isinstance(saved, list) and isinstance(value, list):
        entries = zip_longest(saved, value, fillvalue="nothing")
        pairs = {f"{name}[{number}]": pair for number, pair in enumerate(entries)}
    else:
        return f"{name}={shorten(saved)}, and this run has {shorten(value)}"
    return next(_difference(key, *pair) for key, pair in pairs.items() if pair[0] != pair[1])
