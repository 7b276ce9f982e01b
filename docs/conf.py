"""The site: ``sphinx-build -W -b html docs site``. It needs the extra ``docs`` and no network."""

from __future__ import annotations

import pydoc
import re
from importlib import metadata
from pathlib import Path
from typing import Any

from docutils import nodes
from latex2mathml.converter import convert
from sphinx.application import Sphinx
from sphinx.util import logging

ROOT = Path(__file__).parents[1]

project = "cliff"
author = "The cliff developers"
copyright = "2026, the cliff developers"
release = metadata.version("cliff-icl")

extensions = ["myst_nb", "sphinx.ext.autodoc", "numpydoc", "sphinx_copybutton"]
exclude_patterns = ["_*"]
nitpicky = True
suppress_warnings = ["myst.xref_missing.external"]

html_theme = "furo"
html_title = f"cliff {release}"
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_show_sourcelink = False
html_math_renderer = "mathml"
pygments_style = "tango"

myst_enable_extensions = ["dollarmath", "deflist"]
myst_fence_as_directive = ["math"]
myst_heading_anchors = 3

# Notebooks run whenever the site is built: a cell that raises breaks the build, and the numbers in
# the text, {eval}`…`, are those of that run.
nb_execution_mode = "inline"
nb_execution_raise_on_error = True
nb_execution_in_temp = True
nb_execution_timeout = 300
nb_eval_name_regex = r".+"
nb_merge_streams = True

# Types stand in the docstrings, in words, with shapes and units: numpydoc prints them as they are,
# where napoleon would look each of their words up.
autodoc_typehints = "none"
autodoc_member_order = "bysource"
autodoc_default_options = {"show-inheritance": False}
numpydoc_show_class_members = False
default_role = "py:obj"

copybutton_exclude = ".linenos, .gp, .go"


def write_derivations() -> None:
    """Copy the derivations' pages, their formulas $`…`$ in the form that MyST reads."""
    target = ROOT / "docs/derivations"
    target.mkdir(exist_ok=True)
    pages = sorted((ROOT / "derivations").glob("*.md"))
    for page in pages:
        text = re.sub(r"\$(`[^`]+`)\$", r"{math}\1", page.read_text(encoding="utf-8"))
        if page.name == "README.md":
            names = re.findall(r"\]\((\w+)\.md\)", text)
            text += "\n```{toctree}\n:hidden:\n" + "\n".join(names) + "\n```\n"
        copy = target / page.name
        if not copy.exists() or copy.read_text(encoding="utf-8") != text:
            copy.write_text(text, encoding="utf-8")


def mathml(node: nodes.math | nodes.math_block, display: str) -> str:
    """A formula as MathML, which browsers show without a script or a font from elsewhere."""
    markup = convert(node.astext(), display=display)
    if unknown := re.findall(r"\\[A-Za-z]+", markup):
        logging.getLogger(__name__).warning("no MathML for %s", unknown, location=node)
    return markup


def visit_math(self: Any, node: nodes.math) -> None:
    self.body.append(mathml(node, "inline"))
    raise nodes.SkipNode


def visit_math_block(self: Any, node: nodes.math_block) -> None:
    self.body.append(f'<div class="math">{mathml(node, "block")}</div>')
    raise nodes.SkipNode


def read_plainly(app: Sphinx, what: str, name: str, obj: object, _: Any, lines: list[str]) -> None:
    """Prepare a docstring, which is written to be read as it stands.

    Indented formulas above the first section keep their lines, and a bar is a bar.
    """
    text, heading = [], False
    for before, line in zip(["", *lines], lines, strict=False):
        heading = heading or line.startswith("---")
        formula = line.startswith("    ") and not heading
        if formula and not before.strip() and not text[-2].endswith("::"):
            text += ["::", ""]
        text.append(line if formula or "``" in line else line.replace("|", r"\|"))
    lines[:] = text


def resolve(app: Sphinx, env: Any, node: Any, content: nodes.Node) -> nodes.Node | None:
    """What a name between single backticks of a docstring stands for, where it is no link yet.

    A public name that is written without its module becomes a link; a name that exists but has no
    entry of its own, such as an argument, is left as it is. What is written with ``cliff.`` has to
    exist.
    """
    target = node["reftarget"]
    if node.get("refdomain") != "py":
        return None
    if target[:1].isupper():
        found = env.domains["py"].find_obj(env, None, None, f".{target}", None, 1)
        if len({entry.node_id for _, entry in found}) == 1:
            name, entry = found[0]
            uri = app.builder.get_relative_uri(node["refdoc"], entry.docname)
            return nodes.reference("", "", content, internal=True, refuri=f"{uri}#{entry.node_id}")
    if node["reftype"] == "obj" and not target.startswith("cliff."):
        return content
    return content if pydoc.locate(target) is not None else None


def setup(app: Sphinx) -> None:
    write_derivations()
    app.add_html_math_renderer("mathml", (visit_math, None), (visit_math_block, None))
    app.connect("autodoc-process-docstring", read_plainly, priority=100)  # before numpydoc
    app.connect("missing-reference", resolve)
