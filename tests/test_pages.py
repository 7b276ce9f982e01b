"""The pages in docs: their files and commands run as they stand, and print what they say."""

import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from test_cli_flow import run

import cliff

DOCS = Path(__file__).parents[1] / "docs"
SMALLER = {":40": ":4"}
"""What stands in the place of parts of commands here, for the test to be quick."""


def blocks(page, language):
    return re.findall(rf"```{language}\n(.*?)```", page, re.DOTALL)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A directory with the file of the page, as a user has it."""
    folder = tmp_path_factory.mktemp("user")
    page = (DOCS / "own_landscape.md").read_text(encoding="utf-8")
    name = re.search(r"<!-- file: (\S+) -->", page).group(1)
    (source,) = blocks(page, "python")
    (folder / name).write_text(source)
    return folder


def page():
    return (DOCS / "own_landscape.md").read_text(encoding="utf-8")


def test_ten_lines_of_python_print_what_the_page_says(folder):
    (source,), (said,) = blocks(page(), "python"), blocks(page(), "text")
    assert len([line for line in source.splitlines() if line]) <= 10
    done = subprocess.run(
        [sys.executable, "head.py"], cwd=folder, capture_output=True, text=True, check=True
    )
    assert done.stdout == said


def test_two_commands_draw_the_flow_and_the_phase_diagram(folder, capsys, monkeypatch):
    monkeypatch.chdir(folder)
    commands = [line for block in blocks(page(), "sh") for line in block.splitlines()]
    assert len(commands) == 2
    for command in commands:
        for part, smaller in SMALLER.items():
            command = command.replace(part, smaller)
        words = shlex.split(command)
        assert words[0] == "cliff"
        code, out, err = run(capsys, *words[1:])
        assert code == 0, err
        assert "the loss falls" not in out  # what the file prints goes to standard error
    for picture in ("fall.png", "own_landscape.png"):
        assert (folder / picture).read_bytes().startswith(b"\x89PNG")
    assert (DOCS / "own_landscape.png").is_file()


def test_the_commands_in_the_text_work(folder, capsys, monkeypatch):
    """Those between backticks; a result is drawn without the Python file, too."""
    monkeypatch.chdir(folder)
    options = {
        "--set N=64": ["flow"],
        "--init a=1": ["flow"],
        "--until attend": ["flow"],
        "--rule momentum --friction 1": ["flow"],
        "--metric attend": ["phase", "--x", "mobility_a=1:2:2"],
    }
    said = " ".join(page().split())
    for option, command in options.items():
        assert f"`{option}`" in said
        arguments = [*command, "--landscape", "head.py:model", *option.split(), "-q"]
        code, _, err = run(capsys, *arguments)
        assert code == 0, err
    derive = "cliff derive gradient --landscape head.py:model --format latex"
    assert f"`{derive}`" in said
    assert r"\partial_{w} \mathrm{loss}" in run(capsys, *derive.split()[1:])[1]
    assert run(capsys, "flow", "--landscape", "head.py:model", "-o", "head.nc", "-q")[0] == 0
    alone = folder / "alone"
    alone.mkdir()
    shutil.copy(folder / "head.nc", alone)
    plot = [sys.executable, "-m", "cliff", "plot", "head.nc", "p.png"]
    subprocess.run(plot, cwd=alone, capture_output=True, check=True)
    assert cliff.load(alone / "head.nc").model.N == 16
