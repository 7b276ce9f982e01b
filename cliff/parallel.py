"""Work on all cores: compiled kernels that let go of the interpreter's lock, in threads."""

import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import cache
from queue import SimpleQueue
from threading import Lock
from typing import Any, TypeVar

from numba import config
from threadpoolctl import ThreadpoolController

Range = tuple[int, int]

T = TypeVar("T")


def n_cores() -> int:
    """Cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def split(first: int, last: int, chunk: int) -> list[Range]:
    """Consecutive ranges of at most `chunk` entries that cover ``range(first, last)``."""
    return [(start, min(start + chunk, last)) for start in range(first, last, chunk)]


def in_parallel(
    work: Callable[[int, int], object],
    ranges: Sequence[Range],
    workers: int | None = None,
    progress: Callable[[int], object] | None = None,
) -> None:
    """Call ``work(start, stop)`` for every range.

    Parameters
    ----------
    work : callable
        Fills its range of arrays that the caller made. It has to let go of the interpreter's lock
        for the threads to run side by side.
    ranges : sequence of (start, stop)
        Ranges that do not overlap, in the order in which to start them.
    workers : int, optional
        Threads; all cores by default.
    progress : callable, optional
        Called in this thread with the number of entries that have been done since the last call; a
        true answer drops the ranges that have not been started.

    Raises
    ------
    Exception
        The first that a range raises; ranges that have not been started are dropped.
    """
    workers = min(n_cores() if workers is None else workers, len(ranges))
    if workers <= 1:
        for start, stop in ranges:
            work(start, stop)
            if progress and progress(stop - start):
                return
        return
    todo = iter(ranges)  # shared: taking the next range is atomic
    finished: SimpleQueue[int | BaseException] = SimpleQueue()

    def take_turns() -> None:
        for start, stop in todo:
            try:
                work(start, stop)
            except BaseException as error:
                finished.put(error)
                return
            finished.put(stop - start)

    with ThreadPoolExecutor(workers) as pool:
        try:
            for _ in range(workers):
                pool.submit(take_turns)
            for _ in ranges:
                result = finished.get()
                if isinstance(result, BaseException):
                    raise result
                if progress and progress(result):
                    return
        finally:
            for _ in todo:  # nothing more is started
                pass


def aside(work: Callable[[], T]) -> Callable[[], T]:
    """Start a call in a second thread, after those that were started there before.

    Not for use within such a call: it would wait for itself.

    Returns
    -------
    callable
        Waits for the call and returns its result. Where numba may have one thread only
        (``NUMBA_NUM_THREADS``), nothing was started, and this is `work` itself.
    """
    if config.NUMBA_NUM_THREADS == 1:  # type: ignore[attr-defined]
        return work
    return _second_thread(os.getpid()).submit(work).result


@cache
def _second_thread(process: int) -> ThreadPoolExecutor:
    """The thread of `aside`; a forked process needs its own."""
    return ThreadPoolExecutor(1, "cliff")


@contextmanager
def one_blas_thread() -> Iterator[None]:
    """Limit BLAS to one thread in the whole process, then restore its number of threads.

    Products of about a hundred rows gain nothing from more threads, and each thread waits in a busy
    loop for those that another program has preempted. May be nested, entered by several threads,
    and used as a decorator: the limit holds from the first to enter until the last to leave. It
    costs ten microseconds, and applies to OpenBLAS, MKL and BLIS, but not to Accelerate of macOS.
    """
    with _BLAS.lock:
        if not _BLAS.users:
            _BLAS.limit = _blas_libraries().limit(limits=1, user_api="blas")
        _BLAS.users += 1
    try:
        yield
    finally:
        with _BLAS.lock:
            _BLAS.users -= 1
            if not _BLAS.users:
                _BLAS.limit.restore_original_limits()


class _BLAS:
    lock = Lock()
    users = 0
    limit: Any


@cache
def _blas_libraries() -> ThreadpoolController:
    """The BLAS of NumPy and the one of SciPy, which numba calls."""
    import scipy.linalg.cython_blas  # noqa: F401, or it would be loaded later than looked for

    return ThreadpoolController()
