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
    three nodes in place of the slots from the second on. At W = 10¹² what remains is due to the
    data alone.

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
        ``tila2`` (attention to the right label) and ``p_correct``, and the event ``attend``: half
        of the attention is right, in all slots but the first. The plateau is log N.

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

    def score_variance(squares: Any, overlaps: Any) -> Any:
        """Of a token's score: of the overlaps in its buffer, of positions there, and its own."""
        return alpha**2 * T * (overlaps * variance + squares / units + 2 * dims / units**2)

    def right_and_wrong(x: Any, is_first: bool) -> tuple[Any, Any, Any]:
        """Attention to the right label in slot N·x, to wrong ones, and their effective number."""
        # N - 1 wrong labels with the bias beta2; items without it, less one that is apart below
        items = pairs - 1 if is_first else pairs
        counts = [beta2, 0], [pairs - 1, items]
        of_label, of_item = softmax(counts[0], weights=counts[1])
        concentration = (pairs - 1) * of_label**2 + items * of_item**2
        first, second = [], []
        positions, shares = _legendre()
        for place in positions:
            _, c, squares = attention(place)
            seen = 1 if is_first else sp.Heaviside(place - x, sp.S.Half)
            mean, v = alpha * overlap * T * c * seen, score_variance(squares, squares)
            first.append(mean + v / 2)
            second.append(2 * mean + 2 * v)
        # of exp(score), averaged over positions: log of the mean, and of the mean square beyond
        log_mean = log_sum_exp(first, shares)
        excess = log_sum_exp(second, shares) - 2 * log_mean
        spread_of_sum = log_sum_exp([0, excess], [1 - concentration, concentration])
        typical = log_sum_exp(*counts) + log_mean - spread_of_sum / 2
        p, c, squares = attention(x)
        # 1 - overlap² of the match is noise, which the operator multiplies like any overlap
        own = score_variance(squares, (1 - overlap**2) * p**2 + 2 * pairs * x * c**2)
        logit = alpha * overlap * T * p + beta2 - typical
        logit += sp.sqrt(own + spread_of_sum + FLOOR) * score
        _, c, squares = attention(1)  # the target sees as many tokens as a label behind the last
        target = alpha * (1 + overlap) * T * c + score_variance(squares, squares) / 2 - typical
        # the first item sees itself alone, and so matches as a whole in its own slot
        rest = [0, target, *[alpha * overlap * T - typical] * is_first]
        right, wrong = (softmax([logit, *rest], index) for index in (0, 1))
        # labels among which a unit of wrong attention finds the rest of it, from 1 to N - 1
        more, y = pairs - 2, sp.exp(-excess)
        number = (1 + 3 * more * y**2 + more * (more - 1) * y**3) / (1 + more * y**2)
        return right, (pairs - 1) * of_label * wrong, number

    def loss_of(right: Any, wrong: Any, number: Any) -> Any:
        return cross_entropy(
            [xi * right, xi * wrong / number, 0, 0],
            0,
            weights=[1, number, labels - pairs, pairs - 1 - number],
        )

    one, all_but_one = 1 / pairs, 1 - 1 / pairs
    in_first = right_and_wrong(one / 2, True)
    in_later = right_and_wrong(one + all_but_one * slot, False)
    losses = loss_of(*in_first), loss_of(*in_later)

    def mean(first: Any, later: Any) -> Any:
        # x = log exp(x): SymPy loses track of what is real in a long sum, and not in this function
        return log_sum_exp([one * first + all_but_one * later])

    return Landscape(
        theta,
        mean(*losses),
        constants={pairs: N, labels: L, dims: dim, spread: noise, units: width},
        measures={
            "tila2": mean(in_first[0], in_later[0]),
            "p_correct": mean(*(sp.exp(-each) for each in losses)),
        },
        events={"attend": in_later[0] >= sp.S.Half},
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
