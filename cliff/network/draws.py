"""Batches drawn ahead: the next one while the second thread works on the one at hand."""

from __future__ import annotations

from typing import Any

from numpy.random import Generator

from cliff.task import Batch, Task


class Draws:
    """The batches of a run, one after another, as if each were drawn when it is asked for.

    Parameters
    ----------
    rng : Generator
        Source of all randomness, from which nobody else may draw.
    size : int
        Sequences in a batch.

    Attributes
    ----------
    state : dict
        State of the generator after the batch that was last asked for.
    """

    def __init__(self, rng: Generator, size: int) -> None:
        self._rng, self._size = rng, size
        self._task: Task | None = None
        self._next: Batch | None = None
        self.state: Any = rng.bit_generator.state

    def take(self, task: Task) -> Batch:
        """The next batch of a task."""
        batch, self._next = self._next, None
        if batch is None or task is not self._task:
            self._rng.bit_generator.state = self.state  # forget what was drawn from another task
            batch = task.sample(self._rng, self._size)
        self._task, self.state = task, self._rng.bit_generator.state
        return batch

    def ahead(self) -> None:
        """Draw the batch after the one that was taken, from the same task."""
        if self._task is not None and self._next is None:
            self._next = self._task.sample(self._rng, self._size)
