r"""A worked derivation: sentences, formulas, tables and checks that make one Markdown page.

A check that fails raises, so that a page is written only if every step of it holds. A page does not
depend on the machine that writes it: it states the tolerances of its checks, not their errors.

Mathematics is written between dollars, as in LaTeX. On the page it stands in code spans and code
blocks marked as mathematics, which GitHub renders: between bare dollars Markdown would take ``_``,
``*`` and ``\,`` for its own.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import sympy as sp
from numpy.typing import ArrayLike

HERE = Path(__file__).parent
KINDS = {"exact": "exact positions", "mean": "mean field"}
SIZE = (8, 32)
"""N and L of most examples."""

N_POINTS = 40
"""Random points of a comparison."""

ORIGIN = np.zeros(3)

COMMANDS = set(
    re.findall(
        r"\w+",
        """
        alpha beta gamma delta theta kappa lambda xi omega pi rho Gamma ell nabla partial infty
        frac sqrt sum int log max det mathrm overline dot
        left right langle rangle lceil rceil
        to Rightarrow Leftrightarrow approx propto geq ll gg cdot dots quad qquad
        """,
    )
)
"""The LaTeX commands that formulas use. One that is new is added here."""


def size_of(size: tuple[int, int]) -> str:
    """N and L in words."""
    return f"N = {size[0]}, L = {size[1]}"


def percent(share: float) -> str:
    return f"{100.0 * share:g} %"


class CheckFailed(AssertionError):
    """A step of a derivation does not hold."""


def check_latex(formula: str) -> None:
    r"""Check what can be checked of a formula without TeX.

    Commands have to be in `COMMANDS`, so that none is glued to the letter that follows it; braces
    and \left … \right have to pair; no base has two subscripts or two superscripts.

    Raises
    ------
    CheckFailed
        With the first fault.
    """

    def refuse(fault: str) -> None:
        raise CheckFailed(f"{fault} in {formula}")

    depth, pairs = 0, 0
    for token in re.findall(r"\\[A-Za-z]+|\\.|\\$|.", formula, re.DOTALL):
        depth += {"{": 1, "}": -1}.get(token, 0)
        pairs += {r"\left": 1, r"\right": -1}.get(token, 0)
        if depth < 0 or pairs < 0:
            refuse(f"unbalanced {token}")
        if token[0] == "\\" and token[1:] not in COMMANDS | set(" ,;"):
            refuse(f"unknown command {token}")
        if token in "$`\n":
            refuse(f"stray {token!r}")
    if depth or pairs:
        refuse("unbalanced braces" if depth else r"unbalanced \left")
    for side in re.findall(r"\\(?:left|right)\b *(\\[a-z]+|.)?", formula):
        if not re.fullmatch(r"[][().|]|\\[lr](angle|ceil)", side):
            refuse(f"{side or 'nothing'} as a delimiter")
    group = r"(?:\{(?:[^{}]|\{[^{}]*\})*\}|\\[A-Za-z]+|[^\\{}])"
    if double := re.search(rf"_{group}\s*_|\^{group}\s*\^", formula):
        refuse(f"double script {double[0]}")


class Page:
    """Collects a derivation, which `markdown` renders.

    Parameters
    ----------
    name : str
        File name of the script and the page, without suffix.
    title : str
    """

    def __init__(self, name: str, title: str) -> None:
        self.name = name
        self.title = title
        self.blocks: list[str] = []
        self.n_checks = 0

    def section(self, title: str) -> None:
        self.blocks.append(f"## {title}")

    def say(self, *sentences: str) -> None:
        """Add a paragraph."""
        self.blocks.append(_with_mathematics(" ".join(sentences)))

    def show(self, *formulas: str) -> None:
        """Add display formulas, each in LaTeX."""
        for formula in formulas:
            check_latex(formula)
            self.blocks.append(f"```math\n{formula}\n```")

    def code(self, *lines: str) -> None:
        """Add lines of Python."""
        self.blocks.append("\n".join(f"    {line}" for line in lines))

    def proved(self, claim: str, *differences: sp.Expr) -> None:
        """Check that sympy simplifies every difference to 0."""
        for difference in differences:
            if sp.simplify(difference) != 0:
                raise CheckFailed(f"{self.name}: {claim}: {difference} is not 0")
        self._checked("sympy proves", claim)

    def measured(
        self,
        claim: str,
        got: ArrayLike,
        expected: ArrayLike,
        tolerance: float,
        floor: float = 0.0,
    ) -> None:
        """Check numbers: |got − expected| ≤ tolerance · |expected| + floor, entry by entry.

        `floor` allows for the rounding of larger terms that cancel in an entry.
        """
        a, b = np.asarray(got, dtype=float), np.asarray(expected, dtype=float)
        excess = np.abs(a - b) - tolerance * np.abs(b) - floor
        if not (excess <= 0.0).all():
            worst = np.unravel_index(int(np.argmax(np.nan_to_num(excess, nan=np.inf))), b.shape)
            raise CheckFailed(f"{self.name}: {claim}: {a[worst]:.17g} is not {b[worst]:.17g}")
        also = f", or to {floor:g} where entries cancel" if floor else ""
        self._checked(f"numbers agree to {tolerance:g}{also}", claim)

    def holds(self, claim: str, condition: bool) -> None:
        """Check a statement about numbers, such as an inequality."""
        if not condition:
            raise CheckFailed(f"{self.name}: {claim}")
        self._checked("numbers show", claim)

    def table(self, header: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
        """Add a table; a cell holds no ``|``."""
        lines = [header, ["---:"] * len(header), *rows]
        self.blocks.append("\n".join("| " + " | ".join(map(str, row)) + " |" for row in lines))

    def _checked(self, how: str, claim: str) -> None:
        self.n_checks += 1
        self.blocks.append(_with_mathematics(f"> **Checked** ({how}): {claim}"))

    def markdown(self) -> str:
        head = (
            f"<!-- written by derivations/{self.name}.py: edit that file, and run it -->\n\n"
            f"# {self.title}\n\n"
            f"[All derivations](README.md) · {self.n_checks} checked steps · "
            f"run `python derivations/{self.name}.py` to check them and to rewrite this page\n"
        )
        return head + "\n" + "\n\n".join(self.blocks) + "\n"

    @property
    def path(self) -> Path:
        return HERE / f"{self.name}.md"

    def write(self) -> None:
        """Write the page beside its script."""
        self.path.write_text(self.markdown(), encoding="utf-8")


def _with_mathematics(text: str) -> str:
    """Text with each $formula$ checked and put into a code span."""

    def span(match: re.Match[str]) -> str:
        check_latex(match[1])
        return f"$`{match[1]}`$"

    return re.sub(r"\$([^$]+)\$", span, text)


def write(derive: Callable[[], Page]) -> None:
    """Run a derivation and rewrite its page."""
    page = derive()
    page.write()
    print(f"{page.path.name}: {page.n_checks} steps checked", file=sys.stderr)
