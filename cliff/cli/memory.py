"""Options of a nested logit with memory, which ``cliff flow`` and ``cliff phase`` share."""

from __future__ import annotations

from collections.abc import Collection
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from cliff.checks import ArgumentError
from cliff.cli.landscapes import given

if TYPE_CHECKING:
    from cliff.data import Data

Memory = Annotated[
    bool,
    typer.Option(
        "--memory",
        help="Let the weights answer, too. --init and --mobility then take a number for each "
        "component, the memory logits omega_1, omega_2, … of the groups of classes last; the "
        "mobility of a memory logit is that of one class, and is divided by the group's classes.",
    ),
]
Classes = Annotated[
    int | None,
    typer.Option("--classes", help="Known classes K, at least L.", show_default="512, or L"),
]
ZipfExponent = Annotated[
    float | None,
    typer.Option(
        "--zipf-exponent", "--zipf", help="Exponent of the classes' frequencies.", show_default="0"
    ),
]
Burstiness = Annotated[
    int | None,
    typer.Option(
        "--burstiness", "-B", help="Times B a class occurs in a bursty context.", show_default="1"
    ),
]
Noise = Annotated[
    float | None, typer.Option(help="Spread ε of the items of a class.", show_default="0")
]
PBursty = Annotated[
    float | None,
    typer.Option(help="Bursty share of the sequences that are not novel.", show_default="1"),
]
PNovel = Annotated[
    float | None, typer.Option(help="Share of sequences with fresh classes.", show_default="0")
]
LabelsDrawn = Annotated[
    Literal["distinct", "replacement"] | None,
    typer.Option(help="How the labels of a context are drawn.", show_default="distinct"),
]
Dim = Annotated[
    int | None,
    typer.Option(
        help="Dimension D of the items, in which memories disturb one another.",
        show_default="infinite",
    ),
]

OF_DATA = (
    *("n_classes", "zipf_exponent", "burstiness", "noise", "p_bursty", "p_novel", "labels_drawn"),
    "dim",
)
"""Parameters of the options, which are the arguments of `cliff.Data`."""


def data_of(context: typer.Context, axes: Collection[str] = ()) -> Data | None:
    """The data that the options describe; None without --memory.

    Parameters
    ----------
    context : typer.Context
    axes : collection of str
        Names of a sweep's axes, which take the place of options.

    Raises
    ------
    ArgumentError
        If an option lacks --memory, has no effect, or is out of range.
    """
    values = {name: context.params[name] for name in OF_DATA if name in given(context)}
    if not context.params["memory"]:
        for name, value in values.items():
            raise ArgumentError(name, value, "needs --memory")
        return None
    from cliff.data import Data
    from cliff.nested_logit import MEMORY_AXES

    by_axis = {MEMORY_AXES[axis]: axis for axis in axes if axis in MEMORY_AXES}
    for name, value in values.items():
        if name in by_axis:
            told = f"has no effect beside the axis {by_axis[name]}"
            raise ArgumentError(name, value, told)
    arguments = {"n_classes": max(512, context.params["labels"])}
    if "zipf_exponent" in by_axis:
        arguments["zipf_exponent"] = 1.0  # a landscape with a logit for each octave of classes
    if "dim" in by_axis:
        arguments["dim"] = 1  # a landscape that has a dimension
    data = Data(**arguments | values)
    if "p_bursty" in values:
        if data.p_novel == 1.0 and "p_novel" not in by_axis:
            raise ArgumentError("p_bursty", data.p_bursty, "needs --p-novel below 1")
        if data.burstiness == 0 and "burstiness" not in by_axis:
            raise ArgumentError("p_bursty", data.p_bursty, "needs --burstiness of at least 1")
    return data
