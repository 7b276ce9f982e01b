"""The options of a training run."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cliff.checks import ArgumentError, integer, real
from cliff.schedule import Adaptive, Curriculum, Schedule
from cliff.store import check_writable


@dataclass(frozen=True)
class TrainingOptions:
    """The options of `cliff.train`, which documents them, checked and with their defaults.

    Raises
    ------
    ArgumentError
        If an option is out of range, the checkpoint cannot be written, it exists although `resume`
        is False, or it does not exist although `resume` is True.
    """

    n_steps: int
    lr: float = 0.01
    batch: int = 128
    weight_decay: float = 1e-6
    seed: int = 0
    eval_every: int = 100
    eval_size: int = 512
    eval_seed: int | None = None
    stop_accuracy: float | None = None
    stop_delay: int = 0
    checkpoint: str | os.PathLike[str] | None = None
    checkpoint_every: int = 1000
    resume: bool = False
    curriculum: Curriculum | None = None

    def __post_init__(self) -> None:
        least = {"n_steps": 0, "batch": 1, "seed": 0, "eval_every": 1, "eval_size": 1}
        least |= {"eval_seed": 0, "stop_delay": 0, "checkpoint_every": 1}
        most = {"lr": float("inf"), "weight_decay": 1.0, "stop_accuracy": 1.0}
        for name in (*least, *most):
            value = getattr(self, name)
            if value is not None or name not in ("eval_seed", "stop_accuracy"):
                number = (
                    integer(name, value, least[name])
                    if name in least
                    else real(name, value, 0, most[name])
                )
                object.__setattr__(self, name, number)
        if not isinstance(self.curriculum, Schedule | Adaptive | None):
            raise ArgumentError("curriculum", self.curriculum, "must be a Schedule or an Adaptive")
        if self.curriculum is not None and not self.lr:
            raise ArgumentError("lr", self.lr, "must be above 0 to leave the curriculum's stages")
        if self.stop_delay and self.stop_accuracy is None:
            raise ArgumentError("stop_delay", self.stop_delay, "needs an accuracy to stop at")
        if self.file is None:
            if self.resume:
                raise ArgumentError("resume", True, "needs a checkpoint")
            return
        exists, name = check_writable(self.file, "checkpoint").exists(), str(self.file)
        if exists and not self.resume:
            raise ArgumentError("checkpoint", name, "exists: resume from it, or remove it first")
        if self.resume and not exists:
            raise ArgumentError("resume", name, "nothing to resume from: there is no such file")

    @property
    def file(self) -> Path | None:
        """The checkpoint's path."""
        return None if self.checkpoint is None else Path(self.checkpoint)

    @property
    def seed_of_evaluations(self) -> int:
        """Seed of the held-out sequences."""
        return self.seed if self.eval_seed is None else self.eval_seed

    def due(self, step: float) -> bool:
        """Whether the network is evaluated after so many updates."""
        return step % self.eval_every == 0 or step == self.n_steps

    def settings(self) -> dict[str, Any]:
        """The options that determine the records, without those that say when a run ends."""
        names = ("lr", "batch", "weight_decay", "seed", "eval_every", "eval_size", "eval_seed")
        curriculum = None if self.curriculum is None else self.curriculum.data()
        return {name: getattr(self, name) for name in names} | {"curriculum": curriculum}
