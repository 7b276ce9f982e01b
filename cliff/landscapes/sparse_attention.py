"""Attention and value that wait for each other: the emergence of sparse attention."""

import math

import sympy as sp

from cliff.landscape import Landscape
from cliff.symbolic.functions import softmax


def attention_and_value(d: float = 256, T: float = 512) -> Landscape:
    """Linear regression on one of T tokens in d dimensions, after Zucchet et al. [1]_.

    A reconstruction: the source was read in its abstract alone. The target is W·x for one of T
    independent Gaussian tokens x and a fixed matrix W of squared norm d; the output is (v/√d)·W
    times the attention's mean of all tokens. The token x has the logit a against T − 1 zeros, hence
    the attention p = e^a/(e^a + T − 1), and v is the length of the value matrix. Per dimension,

        loss = ½ [(1 − v·p/√d)² + (v²/d)·(1 − p)²/(T − 1)].

    From the origin dv/dt = e^a/(T√d) and da/dv = v, so that attention arises at `emergence_time`.

    Parameters
    ----------
    d : float
        Dimensions.
    T : float
        Tokens.

    Returns
    -------
    Landscape
        Of a and v, with the constants d and T, the measure ``attention`` and the event
        ``attend``: attention is 1/2.

    References
    ----------
    .. [1] N. Zucchet, F. d'Angelo, A. K. Lampinen, S. C. Y. Chan, "The emergence of sparse
       attention: impact of data distribution and benefits of repetition", arXiv 2505.17863.
    """
    a, v, dims, tokens = sp.symbols("a v d T", real=True)
    attention = softmax([a, 0], 0, weights=[1, tokens - 1])
    scale = v / sp.sqrt(dims)
    noise = scale**2 * (1 - attention) ** 2 / (tokens - 1)
    return Landscape(
        [a, v],
        ((1 - scale * attention) ** 2 + noise) / 2,
        constants={dims: d, tokens: T},
        measures={"attention": attention},
        events={"attend": attention >= sp.Rational(1, 2)},
        plateau=sp.Rational(1, 2),
    )


def emergence_time(d: float, T: float) -> float:
    """√(π/2)·√d·T, from the origin; relative corrections are of the orders 1/√d and √d/T."""
    return math.sqrt(math.pi / 2 * d) * T
