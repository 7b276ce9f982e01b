"""The nested logit in a finite dimension, with noisy items, under a match operator that is learned.

The derivation, its checks and its limits are in derivations/finite_dimension.md.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import sympy as sp

from cliff.landscape import Landscape
from cliff.symbolic.functions import cross_entropy, log_sum_exp, softmax

N_SLOTS, N_MATCHES, N_SCORES = 3, 5, 6
"""Nodes of the quadratures over the slot of the match, over the match, and over the score."""

IDEAL_WIDTH = 1e12
"""A width at which the match operator is the identity, to 1 part in 10¹⁰."""

FLOOR = sp.Float(1e-12)
"""Added to the variance of a score, whose root has no derivative at 0."""


def finite_dimension(
    N: float = 8, L: float = 32, dim: float = 63, noise: float = 0.1, width: float = 128
) -> Landscape:
    """The landscape of novel sequences in D dimensions, after Reddy [1]_; a project's own form.

    In layer 2 the target's score on a token is alpha times a random overlap. The overlap with the
    matching item is a gamma variable T/(1 + noise²) of mean 1/(1 + noise²), that with any other
    content has mean 0 and variance T·(1/D + 1/W); a width W is due to a learned match operator
    VᵀV, of Gaussian weights V from W units. The loss is a mean over the slot of the matching pair,
    over T, and over the logit of the attention to the right label, whose competitors are summed
    as if their sum were lognormal. Wrong attention is shared among as many labels as have it.

    D and W to infinity at noise 0 give `cliff.NestedLogit` with exact positions, to the accuracy of
    three nodes in place of N slots. At W = 10¹² what remains is due to the data alone.

    Parameters
    ----------
    N : float
        Pairs, at least 2.
    L : float
        Labels, at least N.
    dim : float
        Dimension D of the contents, at least 4.
    noise : float
        Spread of the items of a class.
    width : float
        Length W of a token in the network, D and the number of positions.

    Returns
    -------
    Landscape
        Of beta1, alpha, xi and beta2, with the constants N, L, dim, noise and width, the measures
        ``tila2`` (attention to the right label) and ``p_correct``, and the event ``attend`` (half
        of the attention is right). The plateau is log N.

    References
    ----------
    .. [1] G. Reddy, "The mechanistic basis of data dependence and abrupt learning in an in-context
       classification task", ICLR 2024, arXiv 2312.03002.
    """
    beta1, alpha, xi, beta2 = theta = sp.symbols("beta1 alpha xi beta2", real=True)
    pairs, labels, dims, spread, units = sp.symbols("N L dim noise width", real=True)
    slot, match, score = sp.symbols("s u z", real=True)
    overlap = 1 / (1 + spread**2)
    variance = 1 / dims + 1 / units

    def attention(x: Any) -> tuple[Any, Any, Any]:
        """In layer 1, of the label at slot N·x: to its item, to another token, sum of squares."""
        p, c = (softmax([beta1, 0], index, weights=[1, 2 * pairs * x]) for index in (0, 1))
        return p, c, p**2 + 2 * pairs * x * c**2

    # Wilson and Hilferty's cube of a normal number for the gamma variable T
    cube = 2 * variance / 9
    T = (1 - cube + sp.sqrt(cube) * match) ** 3
    first, second, shares = [], [], []
    for x, share in zip(*_legendre(), strict=True):
        _, c, squares = attention(x)
        mean = alpha * overlap * T * c * sp.Heaviside(x - slot, sp.S.Half)
        v = alpha**2 * T * (squares * (variance + 1 / units) + 2 * dims / units**2)
        first.append(mean + v / 2)
        second.append(2 * mean + 2 * v)
        shares.append(share)
    # of exp(score), averaged over the positions: log of the mean, and of what its square lacks
    log_mean = log_sum_exp(first, shares)
    excess = log_sum_exp(second, shares) - 2 * log_mean
    # N - 1 wrong labels with the bias beta2, N + 1 items without it
    counts = {"logits": [beta2, 0], "weights": [pairs - 1, pairs + 1]}
    of_label, of_item = softmax(**counts)
    concentration = (pairs - 1) * of_label**2 + (pairs + 1) * of_item**2
    log_sum = log_sum_exp(**counts) + log_mean
    spread_of_sum = log_sum_exp([0, excess], [1 - concentration, concentration])

    p, c, squares = attention(slot)
    others = (1 - overlap**2) * p**2 + 2 * pairs * slot * c**2
    own = alpha**2 * T * (others * variance + squares / units + 2 * dims / units**2)
    # others counts 1 - overlap² of the match, which the operator multiplies like any overlap
    logit = alpha * overlap * T * p + beta2 - log_sum + spread_of_sum / 2
    logit += sp.sqrt(own + spread_of_sum + FLOOR) * score
    q = softmax([logit, 0], 0)
    # labels among which a unit of wrong attention finds the rest of it, from 1 to N - 1
    more, y = pairs - 2, sp.exp(-excess)
    competitors = (1 + 3 * more * y**2 + more * (more - 1) * y**3) / (1 + more * y**2)
    wrong = (pairs - 1) * of_label * (1 - q) / competitors
    loss = cross_entropy(
        [xi * q, xi * wrong, 0, 0],
        0,
        weights=[1, competitors, labels - pairs, pairs - 1 - competitors],
    )
    return Landscape(
        theta,
        loss,
        constants={pairs: N, labels: L, dims: dim, spread: noise, units: width},
        measures={"tila2": q, "p_correct": sp.exp(-loss)},
        events={"attend": q >= sp.S.Half},
        plateau=sp.log(pairs),
        average={slot: _legendre(), match: _hermite(N_MATCHES), score: _hermite(N_SCORES)},
    )


def _legendre() -> tuple[list[float], list[float]]:
    """Nodes and weights of Gauss and Legendre for a mean over (0, 1)."""
    x, weights = np.polynomial.legendre.leggauss(N_SLOTS)
    return ((1 + x) / 2).tolist(), (weights / 2).tolist()


def _hermite(n: int) -> tuple[list[float], list[float]]:
    """Nodes and weights of Gauss and Hermite for a mean over a standard normal variable."""
    x, weights = np.polynomial.hermite_e.hermegauss(n)
    return x.tolist(), (weights / weights.sum()).tolist()
