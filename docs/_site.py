"""The site beyond Sphinx: pages written from elsewhere, formulas, names in docstrings."""

from __future__ import annotations

import pydoc
import re
from pathlib import Path
from typing import Any

import typer
from docutils import nodes
from latex2mathml.converter import convert
from sphinx.application import Sphinx
from sphinx.util import logging

from cliff.cli import app as command_line

HERE = Path(__file__).parent
DERIVATIONS = HERE.parent / "derivations"
log = logging.getLogger(__name__)


def write_pages() -> None:
    """Write the pages that are made from other files, each only if it has changed."""
    for page in DERIVATIONS.glob("*.md"):
        write(HERE / "derivations" / page.name, derivation(page.read_text(encoding="utf-8")))
    write(HERE / "command_line.md", commands())


def write(path: Path, text: str) -> None:
    path.parent.mkdir(exist_ok=True)
    if not path.exists() or path.read_text(encoding="utf-8") != text:
        path.write_text(text, encoding="utf-8")


def derivation(text: str) -> str:
    """A page of a derivation, its formulas $`…`$ in MyST's form; the index with its contents."""
    text = re.sub(r"\$(`[^`]+`)\$", r"{math}\1", text)
    if pages := re.findall(r"^\|.*?\]\((\w+)\.md\)", text, re.MULTILINE):
        text += "\n```{toctree}\n:hidden:\n" + "\n".join(pages) + "\n```\n"
    return text


def commands() -> str:
    """A page with the help of every command."""
    parts = ["# Command line", "`--json` prints one JSON object on standard output, nothing else."]
    group = typer.main.get_command(command_line)
    for name, command in group.commands.items():
        context = command.context_class(command, info_name=f"cliff {name}")
        text, *examples = command.help.split("Example: ")
        parts += [f"## cliff {name}", text]
        parts += [f"```sh\n{' '.join(example.split())}\n```" for example in examples]
        for parameter in command.get_params(context):
            usage, help_ = parameter.get_help_record(context)
            parts.append(f"`{usage}`\n: {help_}")
    return "\n\n".join(parts) + "\n"


def mathml(node: nodes.math | nodes.math_block, display: str) -> str:
    """A formula as MathML, which browsers show without a script."""
    markup = convert(node.astext(), display=display).replace("&#x02015;", "&#x000AF;")  # stretches
    if unknown := re.findall(r"\\[A-Za-z]+", markup):
        log.warning("no MathML for %s", unknown, location=node)
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
    text: list[str] = []
    heading = False
    for before, line in zip(["", *lines], lines, strict=False):
        heading = heading or line.startswith("---")
        formula = line.startswith("    ") and not heading
        if formula and not before.strip() and not text[-2].endswith("::"):
            text += ["::", ""]
        text.append(line if formula or "``" in line else line.replace("|", r"\|"))
    lines[:] = text


def resolve(app: Sphinx, env: Any, node: Any, content: nodes.Node) -> nodes.Node | None:
    """What a name between single backticks of a docstring stands for, where it is no link yet.

    A public class that is written without its module becomes a link; a name without an entry of its
    own, such as an argument, is left as it is. What is written with ``cliff.`` has to exist.
    """
    target = node["reftarget"]
    if node.get("refdomain") != "py":
        return None
    if target[:1].isupper():
        found = env.domains["py"].find_obj(env, None, None, f".{target}", None, 1)
        if len({entry.node_id for _, entry in found}) == 1:
            entry = found[0][1]
            uri = app.builder.get_relative_uri(node["refdoc"], entry.docname)
            return nodes.reference("", "", content, internal=True, refuri=f"{uri}#{entry.node_id}")
    if node["reftype"] == "obj" and not target.startswith("cliff."):
        return content
    return content if pydoc.locate(target) is not None else None


def check_self_contained(app: Sphinx, error: Exception | None) -> None:
    """Warn of a page that loads something from elsewhere."""
    for page in Path(app.outdir).rglob("*.html"):
        text = page.read_text(encoding="utf-8")
        for loaded in re.findall(
            r'<(?:script|img|link|iframe)\b[^>]*(?:src|href)="(\w+:?//[^"]+)', text
        ):
            log.warning("%s loads %s", page.name, loaded)


def setup(app: Sphinx) -> dict[str, bool]:
    write_pages()
    app.add_html_math_renderer("mathml", (visit_math, None), (visit_math_block, None))
    app.connect("autodoc-process-docstring", read_plainly, priority=100)  # before numpydoc
    app.connect("missing-reference", resolve)
    app.connect("build-finished", check_self_contained)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
