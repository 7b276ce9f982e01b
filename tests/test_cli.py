"""What all commands share: help, version, surroundings that are not as one would wish, signals."""

import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from test_cli_flow import wait_for_work

import cliff
from cliff.cli import app
from cliff.cli.common import OPTION_OF

COMMANDS = [command.callback.__name__ for command in app.registered_commands]
SHORT = ("flow", "--t-end", "1", "--quiet")


def start(*arguments, **environment):
    return subprocess.Popen(
        [sys.executable, "-m", "cliff", *arguments],
        env={**os.environ, "PYTHONPATH": str(Path(cliff.__file__).parent.parent), **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )


def command(*arguments, **environment):
    process = start(*arguments, **environment)
    out, err = process.communicate(timeout=120)
    assert b"Traceback" not in err, err.decode()
    return process.returncode, out, err


def test_version():
    assert command("--version") == (0, f"cliff {cliff.__version__}\n".encode(), b"")


@pytest.mark.parametrize("name", ["", *COMMANDS])
def test_help_has_a_short_flag_and_no_type_behind_flags(name):
    code, text, err = command(*name.split(), "-h")
    assert (code, err) == (0, b"")
    shown = text.decode()
    assert "--help" in shown
    assert "bool" not in shown
    assert command(*name.split(), "--help")[1] == text


@pytest.mark.parametrize(
    "surroundings",
    [
        {"COLUMNS": "0"},
        {"COLUMNS": "40"},
        {"PYTHONIOENCODING": "ascii", "PYTHONUTF8": "0", "LC_ALL": "C"},
        {"TERM": "dumb"},
        {"MPLBACKEND": "module://matplotlib_inline.backend_inline"},
        {"MPLBACKEND": "QtAgg"},
    ],
)
def test_surroundings_change_nothing(surroundings, tmp_path):
    for arguments in (("-h",), (*SHORT, "--plot", str(tmp_path / "ä.png"))):
        code, out, _ = command(*arguments, **surroundings)
        assert code == 0
        assert out
    assert (tmp_path / "ä.png").stat().st_size > 10_000


def test_a_file_name_need_not_be_text(tmp_path):
    if sys.platform == "darwin":
        pytest.skip("the file system holds UTF-8 only")
    path = os.path.join(os.fsencode(tmp_path), b"r\xffn.nc")
    code, _, err = command("flow", "--t-end", "1", "--output", os.fsdecode(path))
    assert code == 0
    assert b"wrote" in err
    assert cliff.load(os.fsdecode(path)).status == "done"


@pytest.mark.parametrize("stream", ["stdout", "stderr"])
def test_a_reader_that_has_gone_ends_nothing_by_a_traceback(stream, tmp_path):
    path = tmp_path / "run.nc"
    with start("flow", "--t-end", "1", "--output", str(path)) as process:
        getattr(process, stream).close()
        other = process.stderr if stream == "stdout" else process.stdout
        assert b"Traceback" not in other.read()
        assert process.wait(60) == (1 if stream == "stdout" else 0)
    assert cliff.load(path).status == "done"


@pytest.mark.parametrize("closed", ["stdout", "stderr"])
def test_streams_that_are_closed_from_the_start_break_nothing(closed, tmp_path):
    path = tmp_path / "run.nc"
    number = {"stdout": 1, "stderr": 2}[closed]
    program = f"import os, sys; os.close({number}); os.execv(sys.executable, sys.argv[1:])"
    words = [sys.executable, "-m", "cliff", "flow", "--t-end", "1", "--output", str(path)]
    done = subprocess.run([sys.executable, "-c", program, *words], capture_output=True)
    assert done.returncode == 0, done.stderr
    assert b"Traceback" not in done.stderr
    assert bool(done.stdout) == (closed == "stderr")
    assert cliff.load(path).status == "done"


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_the_command_in_one_line(number):
    process = start(
        "flow", "--pairs", "2000", "--labels", "8000", "--method", "rk4", "--step", "0.01",
        "--t-end", "1e5", "--max-steps", "10000000",
    )  # fmt: skip
    wait_for_work(process, 3.0)
    process.send_signal(number)
    _, err = process.communicate(timeout=120)
    assert process.returncode == 128 + number
    assert err.splitlines()[-1] == b"cliff: interrupted"
    assert b"Traceback" not in err


def test_an_unknown_command_and_option_get_one_line():
    for arguments in (("fly",), ("flow", "--frequency", "3"), ("flow", "--pairs", "2.5")):
        code, out, err = command(*arguments)
        assert (code, out) == (2, b"")
        assert err.count(b"\n") == 1


def test_every_argument_that_is_renamed_for_messages_is_an_option_or_argument_of_a_command():
    shown = b"".join(command(name, "-h")[1] for name in COMMANDS).decode()
    for option in OPTION_OF.values():
        assert re.search(rf"(?<![\w-]){re.escape(option)}(?![\w-])", shown, re.IGNORECASE), option


def test_public_names_have_types_for_a_strict_checker(tmp_path):
    program = tmp_path / "program.py"
    names = [name for name in dir(cliff) if not name.startswith("_")]
    assert {"NestedLogit", "integrate", "train", "Task", "analysis", "theory"} <= set(names)
    program.write_text(
        "import cliff\n" + "".join(f"reveal_type(cliff.{name})\n" for name in names)
        + "run = cliff.integrate(cliff.NestedLogit(8, 32), [0.0, 0.0, 0.0], 1.0)\n"
        + "reveal_type(run.transition().width)\n"
    )  # fmt: skip
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "mypy",
            "--strict",
            "--follow-imports=silent",
            "--no-site-packages",  # other libraries have no part in what the names of this one are
            "--cache-dir",
            str(tmp_path),
            str(program),
        ],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env=os.environ | {"MYPYPATH": str(Path(cliff.__file__).parent.parent)},
    )
    assert done.stdout.count("Revealed type") == len(names) + 1, done.stdout
    assert 'Revealed type is "Any"' not in done.stdout
    assert 'Revealed type is "float"' in done.stdout
    assert " error: " not in done.stdout
