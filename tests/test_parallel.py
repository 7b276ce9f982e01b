"""Ranges on threads: all of them once, failures told, stops obeyed."""

import threading
import time

import pytest

from cliff.parallel import in_parallel, n_cores, split


def test_split_covers_the_range_once():
    assert split(3, 10, 4) == [(3, 7), (7, 10)]
    assert split(0, 0, 4) == []


@pytest.mark.parametrize("workers", [None, 1, 2, 5])
def test_every_range_is_worked_on_once(workers):
    seen, progress = [], []
    in_parallel(lambda a, b: seen.extend(range(a, b)), split(0, 100, 7), workers, progress.append)
    assert sorted(seen) == list(range(100))
    assert sum(progress) == 100


@pytest.mark.parametrize("workers", [1, 3])
def test_a_failure_is_raised_and_nothing_more_is_started(workers):
    started = []

    def work(start, stop):
        started.append(start)
        time.sleep(1e-3)
        if start == 2:
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        in_parallel(work, split(0, 10_000, 1), workers)
    assert len(started) < 10_000


@pytest.mark.parametrize("workers", [1, 3])
def test_stopping_drops_what_has_not_been_started(workers):
    started = []

    def work(start, stop):
        started.append(start)
        time.sleep(1e-3)

    in_parallel(work, split(0, 10_000, 1), workers, lambda n: True)
    assert 1 <= len(started) < 10_000


def test_ranges_run_side_by_side():
    meeting = threading.Barrier(2, timeout=20.0)
    in_parallel(lambda a, b: meeting.wait(), split(0, 2, 1), 2)


def test_there_is_a_core():
    assert n_cores() >= 1
