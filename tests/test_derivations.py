"""Every derivation runs, its checks hold, and its committed page is what it writes."""

import importlib
import json
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
        page.holds("no", False)
    x = module.sp.Symbol("x")
    with pytest.raises(module.CheckFailed):
        page.proved("x is 0", x)
    assert page.n_checks == 0


def test_tables_of_measured_times_can_be_recomputed(scripts):
    data = scripts("transition_data")
    rows = json.loads(data.DATA.read_text())
    assert len(rows) == len(data.CASES)
    row = data.fall(*data.CASES[1])
    assert row["t_transition"] == pytest.approx(rows[1]["t_transition"], rel=1e-6)
    assert row["width"] == pytest.approx(rows[1]["width"], rel=1e-6)


def test_counts_of_ends_can_be_recomputed(scripts):
    data = scripts("valleys_data")
    rows = json.loads(data.DATA.read_text())
    assert len(rows) == len(data.CASES)
    index = data.CASES.index(("exact", 32, 1.0, 1e6))
    assert data.ends(*data.CASES[index]) == rows[index]
