"""Every derivation runs, its checks hold, and its committed page is what it writes."""

import ast
import importlib
import json
import random
import re
import shutil
import subprocess
from pathlib import Path

import pytest
from markdown_it import MarkdownIt
from matplotlib.mathtext import MathTextParser

from cliff import symbolic
from cliff.checks import ArgumentError

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
    assert (FOLDER / "README.md").read_text(encoding="utf-8") == every.index()


@pytest.mark.parametrize("name", PAGES)
def test_page_is_what_its_script_writes(scripts, name):
    page = scripts("all").derive(name)
    assert page.n_checks > 3
    assert page.path.read_text(encoding="utf-8") == page.markdown(), (
        f"run python derivations/{name}.py"
    )


def mathematics(text):
    """(display, formula) of a page, as a Markdown parser finds them, and the text around them."""
    formulas, prose = [], []
    for block in MarkdownIt("commonmark").enable("table").parse(text):
        if block.type == "fence":
            assert block.info == "math"
            formulas.append((True, block.content.strip()))
        before = ""
        for token in block.children or ():
            if token.type == "code_inline" and before.endswith("$"):
                formulas.append((False, token.content))
            elif token.type == "text":
                # what GitHub takes for mathematics stands free of letters and digits
                assert not re.search(r"[\w\\]\$$", token.content)
                assert not re.match(r"\$\w", token.content) or before != "code"
                prose.append(token.content)
            else:
                assert token.type in (
                    "code_inline", "strong_open", "strong_close", "link_open", "link_close",
                )  # fmt: skip
            before = token.content if token.type == "text" else "code"
    return formulas, " ".join(prose)


@pytest.mark.parametrize("name", PAGES)
def test_markdown_leaves_the_mathematics_alone(name, scripts):
    """What the script wrote between dollars arrives whole, and passes the checks of LaTeX."""
    page = scripts("page")
    text = (FOLDER / f"{name}.md").read_text(encoding="utf-8")
    formulas, prose = mathematics(text)
    assert sum(display for display, _ in formulas) == text.count("```math") > 0
    assert sum(not display for display, _ in formulas) == text.count("`$") > 0
    assert prose.count("$") == 2 * text.count("`$")
    assert not re.search(r"[\\*`]|\b_|_\b", prose)
    parser = MathTextParser("path")
    for _, formula in formulas:
        page.check_latex(formula)
        parser.parse(f"${formula}$")


@pytest.mark.parametrize(
    ("formula", "fault"),
    [
        (r"a,\qquadt \to b", r"unknown command \qquadt"),
        (r"\frac{a}{b", "unbalanced braces"),
        (r"\frac{a}}{b", "unbalanced }"),
        (r"\left( a", r"unbalanced \left"),
        (r"a \right)", r"unbalanced \right"),
        (r"\left a \right)", "a as a delimiter"),
        (r"\left(\frac{a}{b}\right", "nothing as a delimiter"),
        (r"a_1_2", "double script _1_"),
        (r"x^{a}^2", "double script ^{a}^"),
        (r"a $ b", "stray '$'"),
        (r"a \\ b", r"unknown command \\"),
        ("a \\", "unknown command"),
        (r"\operatorname{W}", r"unknown command \operatorname"),
    ],
)
def test_a_faulty_formula_is_refused(scripts, formula, fault):
    page = scripts("page")
    with pytest.raises(page.CheckFailed) as caught:
        page.check_latex(formula)
    assert str(caught.value).startswith(fault)
    with pytest.raises(page.CheckFailed):
        page.Page("nothing", "Nothing").show(formula)
    if "$" not in formula:
        with pytest.raises(page.CheckFailed):
            page.Page("nothing", "Nothing").say(f"see ${formula}$")


LATEX_CASES = [
    (target, *sizes, positions, bias)
    for target in symbolic.TARGETS
    for sizes in ((symbolic.N, symbolic.L), (3, 7))
    for positions in ("exact", "mean")
    for bias in (0.0, -0.7, "free")
    if not (target == "hessian" and bias != "free")
]


def printed_latex():
    """Every line that ``cliff derive --format latex`` prints between dollars."""
    for target, pairs, labels, positions, bias in LATEX_CASES:
        try:
            count = pairs if target == "saddle" else labels
            formula = symbolic.derive(target, pairs, count, positions, bias)
        except ArgumentError:  # exact positions with a free bias
            continue
        yield from formula.latex_lines()
        lines = formula.latex().splitlines()
        displayed = [line for line in lines if line.startswith("$$")]
        assert displayed == [f"$${line}$$" for line in formula.latex_lines()]
        assert not any("$" in line or "\\" in line for line in lines if line not in displayed)


def test_printed_latex_passes_the_checks_of_the_pages(scripts):
    lines = list(printed_latex())
    assert len(lines) > 1000
    for line in lines:
        scripts("page").check_latex(line)


def katex():
    """A node command line that has KaTeX, or None."""
    node = shutil.which("node")
    found = node and subprocess.run([node, "-e", "require('katex')"], capture_output=True)
    return node if found and found.returncode == 0 else None


@pytest.mark.skipif(katex() is None, reason="needs node with katex, on NODE_PATH")
def test_katex_reads_every_formula():
    formulas = [(True, line) for line in printed_latex()]
    for name in PAGES:
        formulas += mathematics((FOLDER / f"{name}.md").read_text(encoding="utf-8"))[0]
    script = """
        const katex = require('katex');
        const formulas = JSON.parse(require('fs').readFileSync(0, 'utf8'));
        for (const [displayMode, formula] of formulas)
            katex.renderToString(formula, {displayMode, strict: 'error', throwOnError: true});
    """
    for faulty, extra in ((False, []), (True, [(False, r"\qquadt")])):
        done = subprocess.run(
            [katex(), "-e", script],
            input=json.dumps(formulas + extra),
            capture_output=True,
            text=True,
            encoding="utf-8",
        )
        assert (done.returncode != 0) == faulty, done.stderr


MEASURED = re.compile(
    r"\d\.\d|\d ?%|\b[NL] = \d+(?![\dN])|\d,\d\d\d|10[⁰-⁹]|\d (random|normal)|\bt = \d"
)


@pytest.mark.parametrize("name", PAGES)
def test_numbers_of_the_pages_are_made_by_their_scripts(name):
    """No literal that reaches a page holds a bound, a size or a measured number."""
    tree = ast.parse((FOLDER / f"{name}.py").read_text(encoding="utf-8"))
    methods = ("say", "holds", "measured", "proved", "table")
    calls = [
        node
        for node in ast.walk(tree)
        if isinstance(node, ast.Call) and getattr(node.func, "attr", None) in methods
    ]
    assert calls
    for call in calls:
        formats = {
            id(part)
            for value in ast.walk(call)
            if isinstance(value, ast.FormattedValue) and value.format_spec is not None
            for part in ast.walk(value.format_spec)
        }
        for node in ast.walk(call):
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                text = re.sub(r"\$[^$]*\$|`[^`]*`|arXiv [\d.]+", "", node.value)
                assert id(node) in formats or not MEASURED.search(text), node.value


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
    rows = json.loads(data.DATA.read_text(encoding="utf-8"))
    assert len(rows) == len(data.CASES)
    short = [i for i, case in enumerate(data.CASES) if case[1] <= 64]
    for index in random.Random(data.DATA.read_text(encoding="utf-8")).sample(short, 8):
        row = data.fall(*data.CASES[index])
        assert {type(value) for value in row.values()} == {str, int, float, list, bool}
        for name, value in row.items():
            if isinstance(value, str | bool | int):
                assert rows[index][name] == value
            else:
                assert rows[index][name] == pytest.approx(value, rel=1e-6)


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("name", ["transition", "valleys"])
def test_data_files_are_what_their_commands_write(scripts, name):
    """All rows; numbers to 1e-6, which is far above the rounding of another machine."""
    data = scripts(f"{name}_data")
    stored, anew = json.loads(data.DATA.read_text(encoding="utf-8")), data.compute()
    assert len(stored) == len(anew)
    for old, new in zip(stored, anew, strict=True):
        assert list(old) == list(new)
        for key, value in new.items():
            numeric = isinstance(value, float) or key == "theta"
            assert old[key] == (pytest.approx(value, rel=1e-6) if numeric else value), (old, key)


def test_counts_of_ends_can_be_recomputed(scripts):
    data = scripts("valleys_data")
    rows = json.loads(data.DATA.read_text(encoding="utf-8"))
    assert len(rows) == len(data.CASES)
    for index in random.Random(data.DATA.read_text(encoding="utf-8")).sample(range(len(rows)), 4):
        assert data.ends(*data.CASES[index]) == rows[index]
