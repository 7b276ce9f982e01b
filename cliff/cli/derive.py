"""``cliff derive``: print the loss, its derivatives and what follows from it."""

from __future__ import annotations

from typing import Annotated

import typer

from cliff.cli.common import Positions, label_bias_of


def derive(
    target: Annotated[
        str,
        typer.Argument(
            help="loss, gradient, hessian, origin, plateau, saddle, valleys or transition."
        ),
    ],
    pairs: Annotated[
        str, typer.Option("--pairs", "-N", help="Item-label pairs: a number, or N.")
    ] = "8",
    labels: Annotated[
        str | None,
        typer.Option(
            "--labels", "-L", help="Label classes: a number, or L. [default: 4N, or N for saddle]"
        ),
    ] = None,
    positions: Positions = "exact",
    label_bias: Annotated[
        str, typer.Option(help="beta2, the layer-2 bias of the labels: a number, or free.")
    ] = "0",
    form: Annotated[
        str, typer.Option("--format", help="text, latex, python (NumPy source) or json.")
    ] = "text",
) -> int:
    """Print the loss, its gradient or Hessian, or a result that follows, as a formula."""
    from cliff import symbolic
    from cliff.checks import choice

    choice("target", target, symbolic.TARGETS)
    choice("format", form, symbolic.FORMATS)
    n_pairs = symbolic.count("n_pairs", pairs, symbolic.N)
    if labels is not None:
        n_labels = symbolic.count("n_labels", labels, symbolic.L)
    elif target == "saddle":
        n_labels = n_pairs
    else:
        n_labels = symbolic.L if n_pairs is symbolic.N else 4 * n_pairs
    bias = label_bias_of(label_bias)
    print(symbolic.derive(target, n_pairs, n_labels, positions, bias).printed(form))
    return 0
