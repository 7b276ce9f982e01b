"""Lines of progress: on terminals wide and narrow, in files, and for a reader that has gone."""

import io
import os
import re
import subprocess
import sys

import pytest

from cliff.cli import progress as module
from cliff.cli.progress import Progress


class Clock:
    """A clock that is set by hand."""

    def __init__(self, monkeypatch):
        self.now = 100.0
        monkeypatch.setattr(module.time, "monotonic", lambda: self.now)


class Stream(io.TextIOWrapper):
    """Standard error with an encoding, a terminal or not."""

    def __init__(self, terminal, encoding="utf-8"):
        super().__init__(io.BytesIO(), encoding, "backslashreplace", write_through=True)
        self.terminal = terminal

    def isatty(self):
        return self.terminal

    @property
    def text(self):
        return self.buffer.getvalue().decode()


@pytest.fixture
def watch(monkeypatch):
    return Clock(monkeypatch)


@pytest.fixture
def stream(monkeypatch):
    def make(*arguments):
        made = Stream(*arguments)
        monkeypatch.setattr(sys, "stderr", made)
        monkeypatch.setenv("TERM", "xterm")
        return made

    return make


def test_a_file_gets_a_plain_line_of_each_task_every_ten_seconds(watch, stream):
    stderr = stream(False)
    with Progress() as progress:
        for step in range(0, 101, 20):
            progress.update("seed 0", step, 200, (f"step {step}", "loss 3.14"))
            progress.update("seed 1", step / 2, 200)
            watch.now += 4
    assert stderr.text.splitlines() == [
        "seed 0  30%  0:00:28 left  step 60  loss 3.14",
        "seed 1  15%  0:01:08 left",
    ]


def test_the_time_left_of_resumed_work_is_that_of_the_rest(watch, stream):
    stderr = stream(False)
    with Progress() as progress:
        progress.update("run", 900, 1000)
        watch.now += 30
        progress.update("run", 950, 1000)
        watch.now += 30
        progress.update("run", 1000, 1000)
    assert stderr.text.splitlines() == ["run  95%  0:00:30 left", "run  100%"]


def test_two_updates_at_one_moment_have_no_speed(watch, stream):
    stderr = stream(False)
    with Progress(every=0) as progress:
        progress.update("run", 0, 10)
        progress.update("run", 5, 10)
    assert stderr.text.splitlines() == ["run  0%", "run  50%"]


def test_short_work_and_quiet_work_are_silent(watch, stream):
    for terminal in (False, True):
        stderr = stream(terminal)
        with Progress() as progress:
            progress.update("short", 0, 2)
            watch.now += 0.9
            progress.update("short", 1, 2)
        with Progress(quiet=True) as progress:
            progress.update("long", 0, 2)
            watch.now += 100
            progress.update("long", 1, 2)
        assert stderr.text == ""


def last_lines(text):
    """What the last drawing on a terminal left there."""
    plain = re.sub(r"\x1b\[[0-9?]*[A-Za-z]", "\x00", text)
    return [line.rsplit("\x00", 1)[-1] for line in plain.rstrip("\x00\r\n").split("\n")]


@pytest.mark.parametrize(
    ("columns", "shown"),
    [
        ("40", "seed 0  50%  0:00:02 left  loss 3.14"),
        ("28", "seed 0  50%  0:00:02 left"),
        ("7", "seed 0"),
        ("80", "seed 0  50%  0:00:02 left  loss 3.14  a long word"),
        ("0", "seed 0  50%  0:00:02 left  loss 3.14  a long word"),
    ],
)
def test_a_terminal_shows_as_many_whole_parts_as_fit(watch, stream, monkeypatch, columns, shown):
    stderr = stream(True)
    monkeypatch.setenv("COLUMNS", columns)
    with Progress() as progress:
        progress.update("seed 0", 0, 10)
        watch.now += 2
        progress.update("seed 0", 5, 10, ("loss 3.14", "a long word"))
    assert last_lines(stderr.text)[-1].strip("\r") == shown


def test_an_ascii_terminal(watch, stream):
    stderr = stream(True, "ascii")
    with Progress() as progress:
        progress.update("α", 0, 10)
        watch.now += 2
        progress.update("α", 5, 10)
    assert last_lines(stderr.text)[-1].startswith(r"\u03b1  50%")


def test_more_tasks_than_rows_show_those_under_way(watch, stream, monkeypatch):
    stderr = stream(True)
    monkeypatch.setenv("LINES", "5")
    with Progress() as progress:
        for task in range(20):
            progress.update(f"task {task}", 10 if task < 18 else 5, 10)
        watch.now += 2
        progress.update("task 19", 7, 10)
    assert "task 0 " not in stderr.text
    assert "task 18  50%" in stderr.text
    assert "task 19  70%" in stderr.text


def test_huge_totals_and_none(watch, stream):
    stderr = stream(False)
    with Progress(every=0) as progress:
        progress.update("flow", 0, 1e300)
        watch.now += 1
        progress.update("flow", 1, 1e300)
        progress.update("nothing", 0, 0)
    assert stderr.text.splitlines()[1:] == ["flow  0%  years left", "nothing  100%"]


GONE = """
import os, sys
from cliff.cli.progress import Progress, StandardError
os.read(0, 1)
with Progress(every=0) as progress:
    for done in range(5):
        progress.update("work", done, 5)
sys.stderr.write("more")
print("all done")
"""


def test_a_reader_that_has_gone_does_not_end_the_work():
    process = subprocess.Popen(
        [sys.executable, "-c", GONE],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, cwd=os.getcwd(),
    )  # fmt: skip
    process.stderr.close()
    process.stdin.write(b"\n")
    process.stdin.close()
    assert process.stdout.read() == b"all done\n"
    process.stdout.close()
    assert process.wait() == 0
