"""Batches drawn ahead: the next batch is drawn while the second thread works on the current one."""

from __future__ import annotations

from typing import Any

from numpy.random import Generator

from cliff.task import Batch, Task


class Draws:
    """The batches of a run in order, each the same as if it were drawn when it is taken.

    Parameters
    ----------
    rng : Generator
        Source of all randomness; nothing else may draw from it.
    size : int
        Sequences in a batch.

    Attributes
    ----------
    state : dict
        State of the generator after the last batch that was taken.
    """

    def __init__(self, rng: Generator, size: int) -> None:
        self._rng, self._size = rng, size
        self._task: Task | None = None
        self._next: Batch | None = None
        self.state: Any = rng.bit_generator.state

    def take(self, task: Task) -> Batch:
        """The next batch, drawn from `task`."""
        batch, self._next = self._next, None
        if batch is None or task is not self._task:
            self._rng.bit_generator.state = self.state  # drop a batch drawn ahead
            batch = task.sample(self._rng, self._size)
        self._task, self.state = task, self._rng.bit_generator.state
        return batch

    def ahead(self) -> None:
        """Draw the batch that follows the last one taken, from the same task."""
        if self._task is not None and self._next is None:
            self._next = self._task.sample(self._rng, self._size)
