"""One answer to Ctrl-C and SIGTERM.

SIGINT (Ctrl-C) and SIGTERM (a cluster's time limit, ``kill``) mean the same: stop, and keep what is
done. Code that has something to keep runs inside `deferred` and asks the request whether one of the
signals has arrived; a second signal does not wait. Code that has nothing to keep installs no
handler: the command line ends the process there and then (`handled_by`), since an exception raised
in the middle of compiling or importing can be lost.

A signal that the parent process ignores stays ignored, as in ``nohup`` and in the background jobs
of a shell. Only the main thread can install handlers; elsewhere `deferred` changes nothing.
"""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

SIGNALS = (signal.SIGINT, signal.SIGTERM)
"""The signals that ask a computation to stop."""


class Terminated(KeyboardInterrupt):
    """SIGTERM, raised as what Ctrl-C raises, so that one ``except`` answers both."""


class StopRequest:
    """Whether a signal has asked to stop; false until one arrives."""

    def __init__(self) -> None:
        self.number: int | None = None  # of the signal

    def __bool__(self) -> bool:
        return self.number is not None

    def receive(self, number: int, _frame: FrameType | None = None) -> None:
        """Note the first signal; raise at the second."""
        if self:
            raise _exception(number)
        self.number = number

    def raise_if_made(self) -> None:
        """Raise what the signal would have raised: KeyboardInterrupt, or `Terminated`."""
        if self.number is not None:
            raise _exception(self.number)


def exit_code(error: KeyboardInterrupt) -> int:
    """Exit code of a process that a signal ended, 128 + signal: 130 for SIGINT, 143 for SIGTERM."""
    return 128 + (signal.SIGTERM if isinstance(error, Terminated) else signal.SIGINT)


@contextmanager
def deferred(when: Callable[[], bool] = lambda: True) -> Iterator[StopRequest]:
    """Note the signals instead of raising them, for a computation that stops between two steps.

    Until `when` answers True, a signal goes to the handler that was there before.
    """
    request = StopRequest()
    before = {number: signal.getsignal(number) for number in SIGNALS}

    def answer(number: int, frame: FrameType | None) -> None:
        old = before[signal.Signals(number)]
        if callable(old) and not when():
            old(number, frame)
        else:
            request.receive(number, frame)

    with handled_by(answer):
        yield request


@contextmanager
def handled_by(
    handler: Callable[[int, FrameType | None], object] | signal.Handlers,
) -> Iterator[None]:
    """Call `handler` for the signals that are not ignored; in the main thread only."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.getsignal(number) for number in SIGNALS}
    # None is a handler that was not installed from Python and could not be put back
    kept = {number: old for number, old in before.items() if old not in (signal.SIG_IGN, None)}
    for number in kept:
        signal.signal(number, handler)
    try:
        yield
    finally:
        for number, old in kept.items():
            signal.signal(number, old)


def _exception(number: int) -> KeyboardInterrupt:
    return Terminated() if number == signal.SIGTERM else KeyboardInterrupt()
