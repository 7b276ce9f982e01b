"""The pictures of the README and of papers: one module a figure.

A figure's module has ``CAPTION`` (what it shows, with its settings and its finding),
``compute(fast=False)``, which returns an xarray.Dataset, and ``draw(data)``, which returns a
matplotlib Figure. If the caption quotes results, they are fields in braces, and ``numbers(data)``
returns their values. ``python -m figures NAME`` draws from the data committed in ``figures/data``;
``--recompute`` computes them anew. The captions are collected in ``figures/README.md``.
"""

from collections.abc import Iterable
from importlib import import_module
from pathlib import Path

import numpy as np

from cliff.store import open_dataset

HERE = Path(__file__).parent
NAMES = (
    "landscape",
    "phase",
    "basins",
    "mobilities",
    "scaling",
    "transition",
    "dependence",
    "both",
    "causal",
    "prediction",
    "after_the_fall",
    "measured_mobilities",
    "noise",
    "wall",
    "curriculum",
    "competition",
    "maps",
    "replacement",
)


def caption(name: str) -> str:
    """The caption of a figure on one line, its numbers from the committed data."""
    module = import_module(f"figures.{name}")
    values = {}
    if hasattr(module, "numbers"):
        values = module.numbers(open_dataset(HERE / f"data/{name}.nc", "figure"))
    return " ".join(module.CAPTION.format(**values).split())


def captions() -> str:
    """All captions as the page ``figures/README.md``."""
    parts = [
        "# Figures\n\n`python -m figures all` draws these from the data in `figures/data`, and "
        "writes this page.\n"
    ]
    for name in NAMES:
        parts.append(f"## {name}\n\n![{name}]({name}.png)\n\n{caption(name)}\n")
    return "\n".join(parts)


def span(values: Iterable[float], digits: int = 0) -> str:
    """The range of some numbers, as "3 to 5", or "3" if it rounds to one number."""
    finite = [value for value in np.ravel(list(values)) if np.isfinite(value)]
    ends = [f"{end(finite):,.{digits}f}" for end in (min, max)] if finite else ["none"]
    return " to ".join(dict.fromkeys(ends))


WORDS = ("none", "one", "two", "three", "four", "five", "six")
