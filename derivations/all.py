"""Run every derivation, in reading order, and rewrite the pages and their index.

python derivations/all.py
"""

from __future__ import annotations

import runpy
from pathlib import Path

from page import HERE, Page

RESULTS = (
    # page, result, cliff.symbolic, numbers, kernel
    ("loss", "The loss from the task", "loss", "NestedLogit.loss", "_evaluate_exact"),
    ("gradient", "Three nested softmaxes", "gradient, hessian", "NestedLogit.gradient", "_slot"),
    (
        "origin",
        "The origin and the saddle",
        "origin, saddle, series",
        "theory.saddle_rate, escape_time",
        "_slot",
    ),
    (
        "slow_phase",
        "The slow phase and the plateau",
        "plateau",
        "theory.slow_phase",
        "integrate_batch",
    ),
    ("valleys", "The valleys", "valleys", "cliff.valleys", "integrate_batch"),
    (
        "transition",
        "The cliff",
        "transition, drives",
        "theory.transition_law, transition_time, width",
        "integrate_batch",
    ),
    ("large_n", "Large N", "transition", "theory.transition_time", "integrate_batch"),
    ("curriculum", "Curricula", "", "integrate_schedules, design_curriculum", "stage"),
    (
        "competition",
        "Context against weights",
        "with_memory",
        "memory_law.MemoryLaw, NestedLogit.measures",
        "evaluation_with_memory",
    ),
    (
        "finite_dimension",
        "Finite dimension",
        "",
        "landscapes.finite_dimension",
        "",
    ),
)


def derive(name: str) -> Page:
    """Run one derivation and return its page, unwritten."""
    return runpy.run_path(str(HERE / f"{name}.py"))["derive"]()


def index() -> str:
    """The index page."""
    lines = [
        "<!-- written by derivations/all.py -->",
        "",
        "# Worked derivations",
        "",
        "Everything that the theory of `cliff` claims, derived step by step from one statement of",
        "the loss. Every step is checked when its script runs: by sympy, where it can prove it, or",
        "against numbers, to the tolerance that the page states; a page is written only if all of",
        "its steps hold. `python derivations/all.py` runs them all; the expensive tables are read",
        "from `data/`, which `valleys_data.py`, `transition_data.py`, `curriculum_data.py`,",
        "`competition_data.py` and `finite_dimension_data.py` recompute.",
        "",
        "| | result | in `cliff.symbolic` | as numbers | compiled kernel |",
        "| ---: | :--- | :--- | :--- | :--- |",
    ]
    for number, (name, result, symbols, numbers, kernel) in enumerate(RESULTS, 1):
        code = ", ".join(f"`{symbol}`" for symbol in symbols.split(", ") if symbol)
        values = ", ".join(f"`{value}`" for value in numbers.split(", "))
        compiled = f"`{kernel}`" if kernel else ""
        lines.append(f"| {number} | [{result}]({name}.md) | {code} | {values} | {compiled} |")
    return "\n".join([*lines, ""])


if __name__ == "__main__":
    for name, *_ in RESULTS:
        page = derive(name)
        page.write()
        print(f"{page.path.name}: {page.n_checks} steps checked")
    Path(HERE / "README.md").write_text(index(), encoding="utf-8")
