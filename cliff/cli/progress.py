"""Progress on standard error: live lines on a terminal, a plain line now and then elsewhere."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.live import Live
    from rich.text import Text


class StandardError:
    """The stream ``sys.stderr``, which goes silent when its reader has gone.

    A closed pipe or terminal is no reason to end a computation: the first write that fails sends
    everything after it, from any part of the process, to nowhere.
    """

    def __init__(self) -> None:
        self._stream = sys.stderr

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def write(self, text: str) -> int:
        try:
            return self._stream.write(text)
        except OSError:
            return self._silence()

    def flush(self) -> None:
        try:
            self._stream.flush()
        except OSError:
            self._silence()

    def _silence(self) -> int:
        # in place of the file descriptor, so that what is buffered can be flushed at exit
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, self._stream.fileno())
        os.close(nowhere)
        return 0


@dataclass
class _Task:
    """One line: how far a task is and what it says of itself."""

    name: str
    total: float
    began: float
    first: float
    printed: float
    done: float = 0.0
    updated: float = 0.0
    words: Sequence[str] = ()

    @property
    def finished(self) -> bool:
        return self.done >= self.total

    def line(self, width: int) -> str:
        """The parts of the line that fit into `width` columns, from the left; none is cut."""
        share = self.done / self.total if self.total else 1.0
        parts = [self.name, f"{share:.0%}", *self._left(), *self.words]
        text = parts[0]
        for part in parts[1:]:
            if len(text) + 2 + len(part) > width:
                break
            text += "  " + part
        return text

    def _left(self) -> list[str]:
        """Time left at the mean speed so far, which is unknown before the second update."""
        if self.finished or self.done <= self.first or self.updated <= self.began:
            return []
        speed = (self.done - self.first) / (self.updated - self.began)
        seconds = (self.total - self.done) / speed - (time.monotonic() - self.updated)
        if seconds > 1e9:
            return ["years left"]
        return [f"{timedelta(seconds=max(int(seconds), 0))} left"]


class Progress:
    """Lines of progress on standard error, one for each task, with the time left.

    Use as a context manager. On a terminal the lines are live, after `after` seconds, so that short
    work stays silent; in a narrow one they lose their last parts. Elsewhere (a file, a pipe, the
    log of a batch system) a task prints a plain line every `every` seconds.
    """

    def __init__(self, quiet: bool = False, after: float = 1.0, every: float = 10.0) -> None:
        self._quiet, self._after, self._every = quiet or sys.stderr is None, after, every
        self._tasks: dict[str, _Task] = {}
        self._live: Live | None = None

    def __enter__(self) -> Progress:
        self._began = time.monotonic()
        return self

    def __exit__(self, *exception: object) -> None:
        if self._live:
            self._live.stop()

    def update(self, name: str, done: float, total: float, words: Sequence[str] = ()) -> None:
        """Set how far a task is, in any unit; its first update adds its line and starts its clock.

        `words` are further parts of the line, the most important one first.
        """
        if self._quiet:
            return
        now = time.monotonic()
        task = self._tasks.setdefault(name, _Task(name, total, now, done, now))
        task.done, task.total, task.updated, task.words = done, total, now, tuple(words)
        if sys.stderr.isatty() and os.environ.get("TERM") not in ("dumb", "unknown"):
            if self._live is None and now - self._began >= self._after:
                self._start()
        elif now - task.printed >= self._every:
            task.printed = now
            print(task.line(width=120), file=StandardError(), flush=True)

    def _start(self) -> None:
        from rich.console import Console
        from rich.live import Live

        # some job systems say that the size of the terminal is zero
        unknown = {name for name in ("COLUMNS", "LINES") if os.environ.get(name) == "0"}
        known = {name: text for name, text in os.environ.items() if name not in unknown}
        console = Console(file=StandardError(), force_terminal=True, _environ=known)  # type: ignore[arg-type]
        self._live = Live(
            get_renderable=lambda: self._lines(*console.size), console=console, refresh_per_second=4
        )
        self._live.start()

    def _lines(self, width: int, height: int) -> Text:
        from rich.text import Text

        tasks = list(self._tasks.values())
        if len(tasks) >= height:
            tasks = [task for task in tasks if not task.finished][: max(height - 1, 1)]
        return Text("\n".join(task.line(width) for task in tasks), no_wrap=True, overflow="crop")
