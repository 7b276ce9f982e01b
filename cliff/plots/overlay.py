"""Several results of one kind in one picture, told apart by what differs between them."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from itertools import product
from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from cliff.checks import ArgumentError
from cliff.plots.flow import smooth_times
from cliff.plots.style import (
    BLUE,
    GREEN,
    ORANGE,
    PURPLE,
    RED,
    TIME,
    TRAINING_TIME,
    WIDTH,
    letter_panels,
    new_figure,
    styled,
)
from cliff.presentation import shown
from cliff.trajectory import Trajectory

if TYPE_CHECKING:
    import xarray as xr

STYLES = tuple(product(("-", "--", ":"), (BLUE, RED, GREEN, ORANGE, PURPLE, "black")))
"""Dashes and colour of each result, in turn."""

TRAINING_PANELS = {
    "loss": "loss (nats)",
    "icl": "icl: accuracy from the context",
    "iwl": "iwl: accuracy from the weights",
    "ila1": "ila1: layer-1 attention",
    "tila2": "tila2: layer-2 attention",
    "cla": "cla: probability in the context",
}
"""Panels of training runs, and their vertical axes."""


def kind_of(result: Any) -> str:
    """The kind of a result, as files name it."""
    if hasattr(result, "to_dataset"):
        return type(result).__name__.lower()
    return str(getattr(result, "attrs", {}).get("cliff_kind", type(result).__name__))


def parameters_of(result: Trajectory | xr.Dataset) -> dict[str, Any]:
    """The parameters that a result was made with; those within others as ``outer.inner``."""
    attributes = getattr(result, "provenance", None) or getattr(result, "attrs", {})
    flat: dict[str, Any] = {}

    def flatten(values: Mapping[str, Any], before: str = "") -> None:
        for name, value in values.items():
            if isinstance(value, dict):
                flatten(value, f"{before}{name}.")
            else:
                flat[before + name] = value

    flatten(json.loads(attributes["parameters"]))
    return flat


def differences(results: Sequence[Trajectory | xr.Dataset]) -> list[str]:
    """What differs between results, one label for each; '' where nothing does.

    What follows from a seed, the hash of a network's first parameters, is left out.
    """
    all_parameters = [parameters_of(result) for result in results]
    names = list(dict.fromkeys(name for one in all_parameters for name in one))
    varying = [
        name for name in names
        if name != "initial_parameters"
        and any(one.get(name) != all_parameters[0].get(name) for one in all_parameters)
    ]  # fmt: skip
    return [
        # once, where a task and its training have a parameter of one name
        ", ".join({f"{n.rpartition('.')[2]} = {_value(one.get(n))}": None for n in varying})
        for one in all_parameters
    ]


def _value(value: Any) -> str:
    if isinstance(value, list) and len(value) > 6:
        return f"{len(value)} values"
    if isinstance(value, list):
        return "(" + ", ".join(map(_value, value)) + ")"
    return "none" if value is None else shown(value)


@styled
def overlay_figure(results: Sequence[Trajectory | xr.Dataset], names: Sequence[str] = ()) -> Figure:
    """Flows, or trainings, over each other: a panel for each quantity, a line for each result.

    Parameters
    ----------
    results : sequence of Trajectory, or of xarray.Dataset
        At least two, of one kind; trainings are Datasets that `cliff.train` returned. Seeds of one
        training share a style.
    names : sequence of str
        What results are called that were made with the same parameters, such as their files.

    Returns
    -------
    Figure

    Raises
    ------
    ArgumentError
        If the kinds differ or cannot be overlaid, or there are more results than styles.
    """
    kinds = {kind_of(result): None for result in results}
    if len(kinds) > 1:
        raise ArgumentError("results", ", ".join(kinds), "must be of one kind to be overlaid")
    if (kind := next(iter(kinds), "")) not in ("trajectory", "run"):
        raise ArgumentError("results", kind, "cannot be overlaid: flows and trainings can")
    if not 2 <= len(results) <= len(STYLES):
        raise ArgumentError("results", len(results), f"must be 2 to {len(STYLES)}")
    labels = differences(results)
    if len(set(labels)) < len(labels):
        called = list(names) or [f"result {number}" for number in range(1, len(labels) + 1)]
        labels = [", ".join(filter(None, pair)) for pair in zip(called, labels, strict=True)]
    panels = _flow_panels(results) if kind == "trajectory" else TRAINING_PANELS
    rows = -(-len(panels) // 2)
    height = 2.3 * rows + 0.2 * len(results) + 0.3
    figure, axes = new_figure(WIDTH, height, rows, 2)
    handles: list[Line2D] = []
    for (name, label), ax in zip(panels.items(), axes.flat, strict=False):
        lines = [
            _lines(result, name, ax, *style)
            for result, style in zip(results, STYLES, strict=False)
        ]  # fmt: skip
        handles = handles or [line for line in lines if line is not None]
        ax.set(ylabel=label, xlabel=TIME if kind == "trajectory" else TRAINING_TIME)
        if name == "loss":
            ax.set_ylim(bottom=0.0)
        elif kind == "run":
            ax.set_ylim(-0.02, 1.02)
    letter_panels(axes.flat[: len(panels)])
    for ax in axes.flat[len(panels) :]:
        ax.remove()
    figure.legend(handles, labels, loc="outside lower center", ncols=1)
    return figure


def _flow_panels(flows: Sequence[Any]) -> dict[str, str]:
    """The loss, and every component of theta that one of the landscapes has."""
    panels = {"loss": "loss (nats)"} if any(flow.model.has_loss for flow in flows) else {}
    for flow in flows:
        for name in flow.model.parameter_names:
            panels.setdefault(name, flow.model.labels.get(name, name))
    return panels


def _lines(result: Any, name: str, ax: Axes, dashes: str, colour: str) -> Line2D | None:
    """Draw one quantity of a result, if it has it; returns a line for the legend."""
    if isinstance(result, Trajectory):
        smooth, names = result.sampled(smooth_times(result)), result.model.parameter_names
        values = smooth.loss if name == "loss" else None
        if name in names:
            values = smooth.theta[:, names.index(name)]
        t = smooth.t
    else:
        values = result[name].transpose("step", ...).values if name in result else None
        t = result["t"].values
    style: dict[str, Any] = {"color": colour, "ls": dashes, "lw": 1.2}
    if values is None:
        return Line2D([], [], **style)
    lines = ax.plot(t, values, **style)
    for line in lines:
        if np.isfinite(line.get_ydata()).sum() < 2:  # a point makes no line
            line.set_marker("o")
    return lines[0]
