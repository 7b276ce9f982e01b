"""The site's pages: every public name has an entry, commands and code run, versions agree.

The notebooks among the pages run when the site is built (`.ci/run`); the rest is tested here.
"""

import configparser
import inspect
import pydoc
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
import test_readme
import yaml

import cliff
from cliff.cli import main

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
PAGES = sorted(
    page
    for page in DOCS.rglob("*.md")
    if page.parent.name != "derivations" and page.name != "command_line.md"  # written by the build
)
TESTED_ELSEWHERE = {DOCS / "own_landscape.md", *(ROOT / name for name in test_readme.PAGES)}
"""Pages whose commands tests/test_pages.py and tests/test_readme.py run."""


def entries() -> tuple[set[str], set[str]]:
    """What the reference has an entry for: objects by full name, modules with all their members."""
    objects, modules = set(), set()
    for page in (DOCS / "reference").glob("*.md"):
        text = page.read_text(encoding="utf-8")
        modules |= set(re.findall(r"^\.\. automodule:: (\S+)\n   :members:$", text, re.MULTILINE))
        module = ""
        for kind, name in re.findall(r"^\.\. (currentmodule|auto\w+):: (\S+)", text, re.MULTILINE):
            if kind == "currentmodule":
                module = name
            elif kind != "automodule":
                objects.add(name if name.startswith("cliff.") else f"{module}.{name}")
    return objects, modules


def public_names() -> list[str]:
    """The names of `cliff`, and the functions and classes of its public modules."""
    names = []
    for name in cliff.__all__:
        value = getattr(cliff, name)
        if not inspect.ismodule(value):
            names.append(f"cliff.{name}")
            continue
        for member in getattr(value, "__all__", dir(value)):
            found = getattr(value, member)
            own = getattr(found, "__module__", "").startswith(value.__name__)
            if not member.startswith("_") and callable(found) and own:
                names.append(f"cliff.{name}.{member}")
    return names


def test_the_reference_has_every_public_name():
    objects, modules = entries()
    missing = [
        name
        for name in public_names()
        if name not in objects and name.rpartition(".")[0] not in modules
    ]
    assert not missing, f"give these an entry in docs/reference: {missing}"


def test_every_entry_of_the_reference_has_a_docstring():
    objects, modules = entries()
    assert len(objects) > 60
    for name in {*objects, *modules, *public_names()}:
        value = pydoc.locate(name)
        assert value is not None, f"{name} is in the reference, but not in the package"
        text = value.__doc__ or ""  # not an inherited one, nor the signature that a dataclass gets
        assert text, f"{name} has no docstring"
        assert not text.startswith(name.rpartition(".")[2] + "("), f"{name} has no docstring"


SMALLER = {
    # part of a command of a page → what stands in its place here
    r":\d+:log": ":4:log",
    r"=-4:4:60": "=-4:4:4",
    r"--t-end 1e5": "--t-end 1e3",
    r"--lr 0.1 --steps 10000 --seeds 0:6": "--pairs 2 --labels 8 --steps 40 --batch 8 "
    "--eval-every 20 --eval-size 16 --seeds 0:2",
}
ELSEWHERE = {
    # line of a shell block → the file of this repository that runs it
    "python3 -m venv .venv && .venv/bin/pip install .": ".ci/run",
    ". .venv/bin/activate": ".ci/run",
}


def commands(page: Path) -> list[str]:
    blocks = re.findall(r"^```sh\n(.*?)^```", page.read_text(encoding="utf-8"), re.M | re.S)
    return [line for block in blocks for line in block.splitlines() if line]


@pytest.mark.parametrize(
    "page",
    [page for page in PAGES if commands(page) and page not in TESTED_ELSEWHERE],
    ids=lambda page: page.stem,
)
def test_commands_run_in_the_order_of_the_page(page, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for command in commands(page):
        if command in ELSEWHERE:
            assert (ROOT / ELSEWHERE[command]).exists()
            continue
        for part, smaller in SMALLER.items():
            command = re.sub(part, smaller, command)
        words = shlex.split(command)
        assert words[0] == "cliff"
        with pytest.raises(SystemExit) as exit_:
            main(words[1:])
        assert exit_.value.code == 0, command
        for name in re.findall(r"--(?:plot|output) (\S+)", command):
            assert Path(name).stat().st_size > 1000, name


def test_the_code_for_dask_runs(tmp_path):
    (code,) = re.findall(
        r"^```python\n(.*?)^```", (DOCS / "how_to/clusters.md").read_text("utf-8"), re.M | re.S
    )
    (tmp_path / "sweep.py").write_text(code)
    done = subprocess.run(
        [sys.executable, "sweep.py"], cwd=tmp_path, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr
    expected = cliff.integrate(cliff.NestedLogit(8, 32), [0.01] * 3, 200.0).transition()
    assert float(done.stdout) == pytest.approx(expected.t_transition, rel=1e-6)
    assert (tmp_path / "phase.nc").exists()


def test_the_table_of_files_names_what_they_hold():
    model = cliff.NestedLogit()
    task = cliff.Task(n_pairs=2, n_labels=4)
    results = {
        "trajectory": cliff.integrate(model, [0.01] * 3, 1.0).to_dataset(),
        "ensemble": cliff.integrate_ensemble(model, [[0.01] * 3], 1.0).to_dataset(),
        "sweep": cliff.sweep(lambda x: x, {"x": [1.0]}),
        "run": cliff.train(cliff.MinimalHead(task), task, 1, batch=4, eval_size=4),
    }
    page = (DOCS / "how_to/files.md").read_text("utf-8")
    for kind, dataset in results.items():
        (row,) = re.findall(rf"^\| {kind} \|.*", page, re.MULTILINE)
        names = set(re.findall(r"`(\w+)`", row)) - {"seed"}
        assert names
        assert names <= {*dataset.dims, *dataset.variables, *dataset.attrs}, kind


def test_a_notebook_shows_a_picture():
    run = cliff.integrate(cliff.NestedLogit(), [0.01] * 3, 200.0)
    assert cliff.plots.draw(run)._repr_png_().startswith(b"\x89PNG")


def test_the_version_is_the_same_everywhere():
    metadata = configparser.ConfigParser()
    metadata.read(ROOT / "setup.cfg", encoding="utf-8")
    version = metadata["metadata"]["version"]
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text("utf-8"))
    assert citation["version"] == version
    released = f"## {version} — {citation['date-released']}\n"
    assert released in (ROOT / "CHANGELOG.md").read_text("utf-8")
    quoted = (DOCS / "how_to/cite.md").read_text("utf-8")
    assert f"version = {{{version}}}" in quoted
    assert f"year    = {{{citation['date-released'].year}}}" in quoted
    assert citation["title"] in quoted
    assert citation["references"][0]["title"] in quoted


def test_what_the_contributors_page_points_to_exists():
    page = (ROOT / "CONTRIBUTING.md").read_text("utf-8")
    paths = set(re.findall(r"`((?:cliff|docs|tests|figures|derivations|\.ci)/[\w/.]*)`", page))
    assert len(paths) > 15
    for path in paths:
        example = {"cliff": "causal", "figures": "phase", "derivations": "loss"}.get(
            path.partition("/")[0], ""
        )
        assert (ROOT / path.replace("NAME", example)).exists(), path
