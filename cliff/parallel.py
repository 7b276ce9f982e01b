"""Threads for compiled kernels, which release Python's global interpreter lock (GIL)."""

import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import contextmanager
from functools import cache
from threading import Lock
from typing import Any, TypeVar

from numba import config
from threadpoolctl import ThreadpoolController

Range = tuple[int, int]

T = TypeVar("T")


def n_cores() -> int:
    """Number of cores that this process may use."""
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
    """Call ``work(start, stop)`` for every range, in `workers` threads, by default one a core.

    `work` writes to arrays that the caller allocated. It has to release the GIL, or the threads
    take turns. `progress` is called in this thread with the number of entries done since the last
    call. No further range is started once it returns something true, or a range has raised an
    exception, which is raised here.
    """
    workers = min(n_cores() if workers is None else workers, len(ranges))
    if workers <= 1:
        for start, stop in ranges:
            work(start, stop)
            if progress and progress(stop - start):
                return
        return
    with ThreadPoolExecutor(workers) as pool:
        try:
            sizes = {pool.submit(work, start, stop): stop - start for start, stop in ranges}
            for future in as_completed(sizes):
                future.result()
                if progress and progress(sizes[future]):
                    return
        finally:
            pool.shutdown(cancel_futures=True)


def aside(work: Callable[[], T]) -> Callable[[], T]:
    """Start a call in a second thread, where calls run one after the other.

    What is returned waits for the call to end and returns its result. A call that itself uses
    `aside` would wait for itself for good. With ``NUMBA_NUM_THREADS=1`` no thread is started: what
    is returned is `work` itself.
    """
    if config.NUMBA_NUM_THREADS == 1:  # type: ignore[attr-defined]
        return work
    return _second_thread(os.getpid()).submit(work).result


@cache
def _second_thread(process: int) -> ThreadPoolExecutor:
    """The thread of `aside`, one for each process: a forked process has no threads."""
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
