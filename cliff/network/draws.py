"""Batches drawn ahead: while the network works on one, the second thread draws the next."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from numpy.random import Generator

from cliff.parallel import aside
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
        self._ahead: Callable[[], Batch] | None = None
        self.state: Any = rng.bit_generator.state

    def take(self, task: Task) -> Batch:
        """Draw the next batch from a task, and start to draw the one after it from the same."""
        batch = self._ahead() if self._ahead else None
        if batch is None or task is not self._task:
            # what was drawn ahead came from another task: go back
            self._rng.bit_generator.state = self.state
            batch = task.sample(self._rng, self._size)
        self.state = self._rng.bit_generator.state
        self._task, self._ahead = task, aside(partial(task.sample, self._rng, self._size))
        return batch
