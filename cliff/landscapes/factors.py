"""A product of factors that learns a number: the mode of a deep linear network."""

import sympy as sp
from scipy.integrate import quad

from cliff.checks import ArgumentError, integer, real
from cliff.landscape import Landscape


def product_of_factors(n: int = 2, s: float = 1.0) -> Landscape:
    """Loss (s − a1·a2 ⋯ an)²/2 of n factors, after Saxe et al. [1]_.

    Each singular mode of a linear network with n layers of weights learns its strength s in this
    way. From a small start the product waits near 0 and then rises at once; see `rise_time`.

    Parameters
    ----------
    n : int
        Factors, at least 1.
    s : float
        What the product is to become.

    Returns
    -------
    Landscape
        Of a1 … an, with the constant s, the measure ``product`` and the event ``rise``: half of s.

    References
    ----------
    .. [1] A. M. Saxe, J. L. McClelland, S. Ganguli, "Exact solutions to the nonlinear dynamics of
       learning in deep linear neural networks", ICLR 2014, arXiv 1312.6120.
    """
    factors = sp.symbols(f"a1:{integer('n', n, 1) + 1}", real=True)
    target, product = sp.Symbol("s", real=True), sp.Mul(*factors)
    return Landscape(
        factors,
        (target - product) ** 2 / 2,
        constants={target: s},
        measures={"product": product},
        events={"rise": product >= target / 2},
        plateau=target**2 / 2,
    )


def rise_time(start: float, n: int = 2, s: float = 1.0, share: float = 0.5) -> float:
    """Time from n equal factors of `start` until the product is a share of s.

    Equal factors a stay equal, da/dt = a^(n−1)·(s − a^n), so that t is a quadrature of it. It is
    O(1), (1/2s)·log(…) and about start^(2−n)/((n − 2)·s) for n = 1, n = 2 and n > 2.

    Raises
    ------
    ArgumentError
        If the product starts beyond the share.
    """
    n, s = integer("n", n, 1), real("s", s, 0.0, exclusive=True)
    end = (real("share", share, 0.0, 1.0, exclusive=True) * s) ** (1 / n)
    if not 0.0 < start < end:
        raise ArgumentError("start", start, f"must be between 0 and {end:g}")
    time, _ = quad(lambda a: a ** (1 - n) / (s - a**n), start, end, limit=500, epsrel=1e-10)
    return float(time)
