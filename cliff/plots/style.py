"""Style of all pictures: colours, symbols, sizes, panel letters, files.

Sizes fit a paper: pictures are 7 inches wide (two columns), with type of 7 points or more. Colours
are from the colour-blind safe palette of Okabe and Ito, and sequential maps that print in grey.
"""

from __future__ import annotations

import io
import os
from collections.abc import Iterable, Sequence
from contextlib import _GeneratorContextManager, suppress
from pathlib import Path
from typing import Any

import numpy as np

# MPLBACKEND, as a notebook leaves it, may name a module that is missing here: importing matplotlib
# would fail
_backend = os.environ.pop("MPLBACKEND", None)
import matplotlib as mpl  # noqa: E402
import matplotlib.style  # noqa: E402
from matplotlib.axes import Axes  # noqa: E402
from matplotlib.backends.backend_agg import FigureCanvasAgg  # noqa: E402
from matplotlib.cbook import is_math_text  # noqa: E402
from matplotlib.figure import Figure  # noqa: E402
from matplotlib.mathtext import MathTextParser  # noqa: E402
from matplotlib.text import Text  # noqa: E402
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter  # noqa: E402
from matplotlib.transforms import ScaledTranslation  # noqa: E402
from numpy.typing import NDArray  # noqa: E402

from cliff.checks import ArgumentError  # noqa: E402
from cliff.store import write_atomic  # noqa: E402

if _backend is not None:
    os.environ["MPLBACKEND"] = _backend
    with suppress(ValueError):
        mpl.rcParams["backend"] = _backend  # for the user's own pyplot

Array = NDArray[np.float64]

WIDTH = 7.0
"""Width of a picture (inches): two columns of a paper."""

BLUE, ORANGE, GREEN = "#0072B2", "#E69F00", "#009E73"
RED, PURPLE, GREY = "#D55E00", "#CC79A7", "#666666"
SYMBOLS = {"beta1": r"$\beta_1$", "alpha": r"$\alpha$", "xi": r"$\xi$", "beta2": r"$\beta_2$"}
ROLES = {"beta1": "previous token", "alpha": "match", "xi": "classifier", "beta2": "label bias"}
COLOURS = (BLUE, ORANGE, GREEN, PURPLE)
"""Colours of the components of theta, in turn."""

LOGIT_COLOURS = dict(zip(SYMBOLS, COLOURS, strict=False))
MEASURE_STYLES = {
    "ila1": (BLUE, "-", "ila1: label to its item, layer 1"),
    "tila2": (ORANGE, "-", "tila2: target to the label, layer 2"),
    "tla2": (RED, ":", "tla2: target to labels, layer 2"),
    "cla": (GREEN, "--", "cla: probability of labels in the context"),
    "p_correct": ("black", "-.", "p_correct: probability of the label"),
}
ANSWER_STYLES = {
    "icl": (PURPLE, "-", "icl: novel classes"),
    "icl_swapped": (PURPLE, ":", "icl_swapped: swapped labels"),
    "iwl": (GREY, "-", "iwl: from the weights"),
}
"""Styles of the measures that a landscape with memory has besides."""

TIME = "time $t$ (gradient flow)"
NETWORKS = {"transformer": "transformer", "minimal": "minimal head"}
TRAINING_TIME = "time $t$ = learning rate × steps"

_PARAMETERS = {
    "font.size": 8.0,
    "axes.titlesize": 8.0,
    "axes.labelsize": 8.0,
    "xtick.labelsize": 7.0,
    "ytick.labelsize": 7.0,
    "legend.fontsize": 7.0,
    "legend.title_fontsize": 7.0,
    "legend.frameon": False,
    "figure.titlesize": 9.0,
    "axes.linewidth": 0.7,
    "lines.linewidth": 1.3,
    "lines.markersize": 4.0,
    "hatch.linewidth": 0.6,
    "text.usetex": False,
}


def style() -> _GeneratorContextManager[None]:
    """Context in which matplotlib has this style, whatever the user's matplotlibrc says."""
    return matplotlib.style.context(["default", _PARAMETERS])


styled = style()
"""Decorator that lets a function that makes a picture work in `style`."""


class _Figure(Figure):
    """A figure that shows text that is no TeX, such as a name ``{``, as it is, without its signs $.

    matplotlib would raise. Texts are whatever a landscape says; only drawing tells what they are.
    Notebooks show the figure, though pyplot does not know it.
    """

    def _repr_png_(self) -> bytes:
        buffer = io.BytesIO()
        self.savefig(buffer, format="png", dpi=200)
        return buffer.getvalue()

    def draw(self, renderer: Any) -> None:
        for text in self.findobj(Text):
            lines = text.get_text().split("\n")
            if not all(map(_is_drawable, lines)):
                text.set_text("\n".join(line.replace("$", "") for line in lines))
        super().draw(renderer)


_MATH = MathTextParser("path")


def _is_drawable(text: str) -> bool:
    try:
        return not is_math_text(text) or bool(_MATH.parse(text))
    except ValueError:
        return False


@styled
def new_figure(width: float, height: float, rows: int = 1, columns: int = 1) -> tuple[Figure, Any]:
    """A figure outside pyplot's registry, and its axes (rows, columns); sizes in inches."""
    figure = _Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    return figure, figure.subplots(rows, columns, squeeze=False)


@styled
def save(figure: Figure, path: str | os.PathLike[str]) -> Path:
    """Write a picture atomically; the ending of the name gives the format.

    Raises
    ------
    ArgumentError
        If there is no such format, or the file cannot be written.
    """
    kind = Path(path).suffix.lower().lstrip(".")
    formats = figure.canvas.get_supported_filetypes()
    if kind not in formats:
        raise ArgumentError("path", str(path), "must end in one of ." + ", .".join(sorted(formats)))
    return write_atomic(path, lambda file: figure.savefig(file, format=kind, dpi=200))


def letter_panels(axes: Iterable[Axes]) -> None:
    """Letter the panels of a figure a, b, … at their upper left."""
    for letter, ax in zip("abcdefghijklmnopqrstuvwxyz", axes, strict=False):
        ax.set_title(letter, loc="left", fontweight="bold")


def labelled(lines: Sequence[Any]) -> list[Any]:
    """The lines that have a label."""
    return [line for line in lines if not line.get_label().startswith("_")]


def legend_below(handles: Sequence[Any], ax: Axes, columns: int = 1) -> None:
    """A legend below the label of the horizontal axis, off the data."""
    below = ax.transAxes + ScaledTranslation(0.0, -28 / 72, ax.figure.dpi_scale_trans)
    ax.legend(
        handles=labelled(handles), ncols=columns, loc="upper center", bbox_to_anchor=(0.5, 0.0),
        bbox_transform=below, columnspacing=1.2, handlelength=1.8,
    )  # fmt: skip


def log_scale(ax: Axes, sides: Iterable[str]) -> None:
    """Logarithmic axes, "x", "y" or both, with ticks at 1, 2, 5, 10, … as plain numbers."""
    for side in sides:
        ax.set(**{f"{side}scale": "log"})
        axis = {"x": ax.xaxis, "y": ax.yaxis}[side]
        axis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
        axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        axis.set_minor_formatter(NullFormatter())
