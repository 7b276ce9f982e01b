"""Every derivation runs, its checks hold, and its committed page is what it writes."""

import importlib
import json
import random
import re
from pathlib import Path

import pytest
from matplotlib.mathtext import MathTextParser

FOLDER = Path(__file__).parents[1] / "derivations"
PAGES = [path.stem for path in sorted(FOLDER.glob("*.md")) if path.stem != "README"]


@pytest.fixture
def scripts(monkeypatch):
    """Import from derivations/ as a script there does."""
    monkeypatch.syspath_prepend(str(FOLDER))
    return importlib.import_module


def test_index_lists_every_page_and_is_fresh(scripts):
    every = scripts("all")
    assert sorted(name for name, *_ in every.RESULTS) == PAGES
    assert (FOLDER / "README.md").read_text() == every.index()


@pytest.mark.parametrize("name", PAGES)
def test_page_is_what_its_script_writes(scripts, name):
    page = scripts("all").derive(name)
    assert page.n_checks > 3
    assert page.path.read_text() == page.markdown(), f"run python derivations/{name}.py"


@pytest.mark.parametrize("name", PAGES)
def test_mathematics_of_the_pages_compiles(name):
    text = (FOLDER / f"{name}.md").read_text()
    blocks = re.findall(r"\$\$\n(.*?)\n\$\$", text, re.DOTALL)
    inline = re.findall(r"(?<!\$)\$([^$\n]+)\$(?!\$)", text)
    assert blocks
    assert inline
    parser = MathTextParser("path")
    for formula in [*blocks, *inline]:
        parser.parse(f"${formula}$")


def test_a_false_step_stops_the_page(scripts):
    module = scripts("page")
    page = module.Page("nothing", "Nothing")
    with pytest.raises(module.CheckFailed):
        page.measured("one is two", 1.0, 2.0, 1e-3)
    with pytest.raises(module.CheckFailed):
        page.measured("not a number", float("nan"), 1.0, 1e-3)
    with pytest.raises(module.CheckFailed):
        page.measured("nothing is something", [1.0, 0.0], [1.0, 1e-6], 1e-3)
    with pytest.raises(module.CheckFailed):
        page.measured("something is nothing", [1.0, 1e-6], [1.0, 0.0], 1e-3, floor=1e-9)
    with pytest.raises(module.CheckFailed):
        page.holds("no", False)
    x = module.sp.Symbol("x")
    with pytest.raises(module.CheckFailed):
        page.proved("x is 0", x)
    assert page.n_checks == 0


def test_tables_of_measured_times_can_be_recomputed(scripts):
    """A handful of rows, drawn anew whenever the table changes; the largest N take too long."""
    data = scripts("transition_data")
    rows = json.loads(data.DATA.read_text())
    assert len(rows) == len(data.CASES)
    short = [i for i, case in enumerate(data.CASES) if case[1] <= 64]
    for index in random.Random(data.DATA.read_text()).sample(short, 8):
        row = data.fall(*data.CASES[index])
        assert {type(value) for value in row.values()} == {str, int, float, list, bool}
        for name, value in row.items():
            if isinstance(value, str | bool | int):
                assert rows[index][name] == value
            else:
                assert rows[index][name] == pytest.approx(value, rel=1e-6)


def test_counts_of_ends_can_be_recomputed(scripts):
    data = scripts("valleys_data")
    rows = json.loads(data.DATA.read_text())
    assert len(rows) == len(data.CASES)
    for index in random.Random(data.DATA.read_text()).sample(range(len(rows)), 4):
        assert data.ends(*data.CASES[index]) == rows[index]
