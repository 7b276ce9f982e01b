"""The way of a training run along its curriculum."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from cliff.network.layers import Network
from cliff.network.measures import measures
from cliff.network.options import TrainingOptions
from cliff.schedule import Schedule
from cliff.task import EVALUATION, Batch, Task, stream


class Course:
    """Which stage a run is in, from its step and its records alone, so that it can be resumed.

    Attributes
    ----------
    tasks : sequence of Task
        The task of each stage; the last one is the target.
    """

    def __init__(self, task: Task, options: TrainingOptions) -> None:
        self.curriculum, self._options = options.curriculum, options
        self.tasks = [task] if self.curriculum is None else self.curriculum.tasks(task)
        if isinstance(self.curriculum, Schedule) and options.file is None:
            # with a checkpoint a run may be trained in pieces
            self.curriculum.check_reached(options.lr, options.n_steps)
        self._held_out: dict[int, Batch] = {}

    def stage(self, step: int, rows: Sequence[dict[str, Any]]) -> int:
        """The stage of the update after `step` updates."""
        if isinstance(self.curriculum, Schedule):
            return self.curriculum.stage_at(self._options.lr * step)
        return int(rows[-1]["stage"]) if rows and self.curriculum else 0

    def record(self, net: Network, step: int, rows: Sequence[dict[str, Any]]) -> dict[str, Any]:
        """What a record says of the curriculum; nothing without one.

        The stage is that of the update that follows. An adaptive curriculum decides here, at
        regular evaluations only: a run that ends between two of them can be resumed.
        """
        if self.curriculum is None:
            return {}
        stage = self.stage(step, rows)
        if isinstance(self.curriculum, Schedule):
            return {"stage": stage}
        if stage not in self._held_out:
            seed = self._options.seed_of_evaluations
            rng = stream(seed, EVALUATION)
            self._held_out[stage] = self.tasks[stage].sample(rng, self._options.eval_size)
        batch = self._held_out[stage]
        progress = measures(net.forward(batch), batch)[self.curriculum.measure]
        passed = step % self._options.eval_every == 0 and progress >= self.curriculum.threshold
        last = len(self.tasks) - 1
        return {"stage": min(stage + passed, last), "progress": progress}
