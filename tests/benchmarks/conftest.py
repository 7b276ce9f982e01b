"""Peers measured side by side with this package, in one run. They need the extra "bench"."""

import os

# before NumPy or JAX starts its threads
os.environ.setdefault("JAX_PLATFORMS", "cpu")
os.environ.setdefault("JAX_ENABLE_X64", "1")

import time

import pytest


@pytest.fixture
def best_of():
    """Call a function until a second has passed and five calls; return the shortest time."""

    def measure(function, *arguments):
        function(*arguments)  # compile and warm up
        times = []
        began = time.perf_counter()
        while len(times) < 5 or time.perf_counter() - began < 1.0:
            start = time.perf_counter()
            function(*arguments)
            times.append(time.perf_counter() - start)
        return min(times)

    return measure


@pytest.fixture
def seconds():
    """Time one call."""

    def measure(function):
        start = time.perf_counter()
        function()
        return time.perf_counter() - start

    return measure


@pytest.fixture
def report(capsys):
    """Print a ratio whatever pytest captures."""

    def say(job, peer, ours, theirs):
        with capsys.disabled():
            print(f"\n{job}: {theirs / ours:.1f}x faster than {peer} "
                  f"({ours * 1e3:.3g} ms against {theirs * 1e3:.3g} ms)")  # fmt: skip

    return say
