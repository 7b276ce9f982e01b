"""Ranges on threads: all of them once, failures told, stops obeyed."""

import os
import threading
import time

import pytest

from cliff.parallel import aside, in_parallel, n_cores, split


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


def test_cores_are_those_that_the_process_may_use(monkeypatch):
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: {1, 4, 7}, raising=False)
    assert n_cores() == 3
    monkeypatch.delattr(os, "sched_getaffinity")
    monkeypatch.setattr(os, "cpu_count", lambda: 5)
    assert n_cores() == 5
    monkeypatch.setattr(os, "cpu_count", lambda: None)
    assert n_cores() == 1


def test_by_default_every_core_has_a_thread(monkeypatch):
    monkeypatch.setattr("cliff.parallel.n_cores", lambda: 3)
    meeting = threading.Barrier(3, timeout=20.0)
    threads = set()

    def work(start, stop):
        meeting.wait()
        threads.add(threading.get_ident())

    in_parallel(work, split(0, 3, 1))
    assert len(threads) == 3


def test_aside_runs_in_one_other_thread_in_order():
    order = []

    def note(i):
        order.append(i)
        return threading.get_ident()

    waiting = [aside(lambda i=i: note(i)) for i in range(5)]
    assert len({wait() for wait in waiting} - {threading.get_ident()}) == 1
    assert order == list(range(5))
