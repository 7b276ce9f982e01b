"""``cliff derive``: print the loss, its derivatives and what follows from it."""

from __future__ import annotations

from typing import Annotated, Literal

import typer

from cliff.checks import ArgumentError
from cliff.cli.common import Positions, label_bias_of
from cliff.cli.landscapes import (
    NESTED_LOGIT,
    Constants,
    LandscapeName,
    chosen_landscape,
    is_nested_logit,
)

# the same words as cliff.symbolic.TARGETS and FORMATS, which would have to import sympy
Target = Literal[
    "loss", "gradient", "hessian", "origin", "plateau", "saddle", "valleys", "transition"
]
Format = Literal["text", "latex", "python", "json"]


def derive(
    context: typer.Context,
    target: Annotated[Target, typer.Argument(help="What to derive.", show_default=False)],
    landscape: LandscapeName = NESTED_LOGIT,
    constants: Constants = None,
    pairs: Annotated[
        str, typer.Option("--pairs", "-N", help="Item-label pairs: a number, or N.")
    ] = "8",
    labels: Annotated[
        str | None,
        typer.Option(
            "--labels",
            "-L",
            help="Label classes: a number, L, or N for as many as pairs. By default N for saddle, "
            "and four times the pairs otherwise.",
        ),
    ] = None,
    positions: Positions = "exact",
    label_bias: Annotated[
        str, typer.Option(help="beta2, the layer-2 bias of the labels: a number, or free.")
    ] = "0",
    form: Annotated[
        Format, typer.Option("--format", help="python is NumPy source of a function.")
    ] = "text",
) -> int:
    """Print the loss, its gradient or Hessian, or a result that follows, as a formula.

    Loss, gradient and hessian are there for every landscape that is stated in SymPy, the rest for
    the nested logit: plateau is the slow phase before the fall, in closed form; saddle, the origin
    at L = N; valleys, the limits in which the flow ends; transition, an estimate of when the loss
    falls.

    Example: cliff derive gradient --pairs 4 --format latex
    """
    from cliff import symbolic

    if not is_nested_logit(landscape):
        from cliff.landscape import Landscape

        model = chosen_landscape(context)
        if not isinstance(model, Landscape):
            raise ArgumentError("landscape", landscape, "is not stated in SymPy")
        print(symbolic.derive_of(model, target).printed(form))
        return 0
    if constants:
        chosen_landscape(context)  # refuses them

    n_pairs = symbolic.count("n_pairs", pairs, symbolic.N)
    if labels is not None:
        n_labels = symbolic.count("n_labels", labels, symbolic.L, symbolic.N)
    elif target == "saddle":
        n_labels = n_pairs
    else:
        n_labels = 4 * n_pairs if isinstance(n_pairs, int) else symbolic.L
    bias = label_bias_of(label_bias)
    print(symbolic.derive(target, n_pairs, n_labels, positions, bias).printed(form))
    return 0
