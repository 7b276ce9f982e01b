"""The nested-logit landscape in SymPy: the loss stated once, and what follows from it.

`loss`, `gradient` and `hessian` differentiate the statement; `origin`, `plateau`, `saddle`,
`valleys` and `transition` are results worked out in ``derivations/``, and `derive` gives any of
them by name. Each returns a `Formula`, a chain of named assignments that ends in results, like the
body of a function; it prints itself as text, LaTeX, NumPy source or JSON. `series` is the Taylor
polynomial at the origin; `drives` and `harmonics` are the sums behind the results. The arguments
are those of `NestedLogit`, where N and L may be the symbols `N` and `L` (`Setting`). `derive_of`
gives loss, gradient and Hessian of any `cliff.landscape.Landscape`, such as the one that
`with_memory` writes out for a nested logit with memory.

Derivatives are taken along the chain, assignment by assignment, so that every intermediate is
written once, and a Hessian is as readable and as stable numerically as its loss.

With a concrete number of pairs, and in the mean field, the largest logit is subtracted in every
exponential, as in the compiled kernels (`statement`); this form is printed as source code. With
exact positions and a symbolic N, slots and labels are indices of finite sums.

Formulas: Reddy (ICLR 2024, arXiv 2312.03002) for the three nested logits with exact positions; the
mean field is this project's own closed form in the spirit of the paper's.
"""

from cliff.symbolic.chain import MOST_PAIRS, Statement, gradient, hessian, loss, series, statement
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
from cliff.symbolic.landscape import derive_of
from cliff.symbolic.memory import with_memory
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
    "derive_of",
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
    "with_memory",
]
