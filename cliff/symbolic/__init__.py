"""The nested-logit landscape as sympy expressions: the loss stated once, and what follows from it.

A `Formula` is a chain of named assignments that ends in one or more results, like the body of a
function. Derivatives are taken along the chain, name by name, so that every intermediate is written
once and a Hessian stays as readable, and as stable numerically, as the loss it comes from.

The loss is stated twice over, for two readers. `Statement` objects with a concrete number of pairs
(or the mean field, where N may be a symbol) shift every exponential by the largest logit, as the
compiled kernels do, and are what is printed as source code. With exact positions and a symbolic N
the slots and labels are indices of finite sums.

Formulas: Reddy (ICLR 2024, arXiv 2312.03002) for the three nested logits with exact positions; the
mean field is this project's own closed form in the spirit of the paper's.
"""

from cliff.symbolic.chain import (
    MOST_PAIRS,
    Statement,
    gradient,
    hessian,
    loss,
    series,
    statement,
)
from cliff.symbolic.formula import (
    ALPHA,
    BETA1,
    BETA2,
    FORMATS,
    PARAMETERS,
    XI,
    Formula,
    L,
    N,
    Setting,
    WrightOmega,
    latex,
)
from cliff.symbolic.results import (
    HARMONICS,
    TARGETS,
    count,
    derive,
    drives,
    harmonics,
    origin,
    plateau,
    saddle,
    transition,
    valleys,
)

__all__ = [
    "ALPHA",
    "BETA1",
    "BETA2",
    "FORMATS",
    "HARMONICS",
    "MOST_PAIRS",
    "PARAMETERS",
    "TARGETS",
    "XI",
    "Formula",
    "L",
    "N",
    "Setting",
    "Statement",
    "WrightOmega",
    "count",
    "derive",
    "drives",
    "gradient",
    "harmonics",
    "hessian",
    "latex",
    "loss",
    "origin",
    "plateau",
    "saddle",
    "series",
    "statement",
    "transition",
    "valleys",
]
