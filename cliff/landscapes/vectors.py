"""Three vectors that learn a rank-one tensor: which part of a circuit to clamp."""

import sympy as sp

from cliff.checks import integer
from cliff.landscape import Landscape
from cliff.landscapes.factors import rise_time


def product_of_vectors() -> Landscape:
    """Half the squared distance of a⊗b⊗c to e⊗e⊗e, in the plane, after Singh et al. [1]_.

    A reconstruction: the source was read in its abstract alone. With e the first axis,

        loss = ½ (1 − 2·a1·b1·c1 + |a|²·|b|²·|c|²).

    The vectors are parts of a circuit that is of use as a whole. A part is clamped by a mobility of
    0 and a start at e; see `clamped_time`.

    Returns
    -------
    Landscape
        Of a1, a2, b1, b2, c1 and c2, with the measure ``overlap``, a1·b1·c1, and the event
        ``rise``: the overlap is 1/2.

    References
    ----------
    .. [1] A. K. Singh, T. Moskovitz, F. Hill, S. C. Y. Chan, A. M. Saxe, "What needs to go right
       for an induction head? A mechanistic study of in-context learning circuits and their
       formation", ICML 2024, arXiv 2404.07129.
    """
    parameters = sp.symbols("a1 a2 b1 b2 c1 c2", real=True)
    a1, a2, b1, b2, c1, c2 = parameters
    overlap = a1 * b1 * c1
    norms = (a1**2 + a2**2) * (b1**2 + b2**2) * (c1**2 + c2**2)
    return Landscape(
        parameters,
        (1 - 2 * overlap + norms) / 2,
        measures={"overlap": overlap},
        events={"rise": overlap >= sp.Rational(1, 2)},
        plateau=sp.Rational(1, 2),
    )


def clamped_time(start: float, n_clamped: int) -> float:
    """Time until the overlap is 1/2, from `start`·e for each vector that is not clamped.

    With k = 3 − n_clamped vectors left it is that of k equal factors: about 1/start, log(1/start)
    and log 2 for none, one and two clamped.
    """
    return rise_time(start, 3 - integer("n_clamped", n_clamped, 0))
