"""A worked derivation: sentences, formulas, tables and checks that make one Markdown page.

A check that fails raises, so that a page that exists is a page whose every step held. What is
printed does not depend on the machine: tolerances, not the errors of one run.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import sympy as sp
from numpy.typing import ArrayLike

from cliff.symbolic import latex

HERE = Path(__file__).parent
KINDS = {"exact": "exact positions", "mean": "mean field"}


class CheckFailed(AssertionError):
    """A step of a derivation does not hold."""


class Page:
    """Collects a derivation; `markdown` renders it and `write` stores it beside its script.

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
        self.blocks.append(" ".join(sentences))

    def show(self, *formulas: str | tuple[sp.Expr, sp.Expr]) -> None:
        """Display formulas, each LaTeX or a pair (left, right) of expressions."""
        for formula in formulas:
            if not isinstance(formula, str):
                formula = f"{latex(formula[0])} = {latex(formula[1])}"
            self.blocks.append(f"$$\n{formula}\n$$")

    def proved(self, claim: str, *differences: sp.Expr) -> None:
        """Check that sympy simplifies every difference to zero."""
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

        `floor` is for entries that come out of a cancellation: as many roundings of its terms as
        there are.
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
        lines = [header, ["---:"] * len(header), *rows]
        self.blocks.append("\n".join("| " + " | ".join(map(str, row)) + " |" for row in lines))

    def _checked(self, how: str, claim: str) -> None:
        self.n_checks += 1
        self.blocks.append(f"> **Checked** ({how}): {claim}")

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


def write(derive: Callable[[], Page]) -> None:
    """Run a derivation and rewrite its page."""
    page = derive()
    page.path.write_text(page.markdown())
    print(f"{page.path.name}: {page.n_checks} steps checked", file=sys.stderr)
