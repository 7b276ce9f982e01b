"""Two layers of attention and a readout that arise one after the other."""

import math

import sympy as sp

from cliff.landscape import Landscape
from cliff.symbolic.functions import softmax


def causal_attention(N: float = 32) -> Landscape:
    """An induction head of three parameters with a squared loss, after Musat et al. [1]_.

    A reconstruction: the source was read in its abstract alone, and this is the simplest statement
    with its order of emergence and its time quadratic in the length of the context. A label attends
    to the token before it among N tokens that it sees on average, p = e^alpha/(e^alpha + N); the
    target attends to the matching one of N labels with the logit beta·p against zeros,
    q = e^(beta·p)/(e^(beta·p) + N − 1); gamma reads out the label attended to. For orthonormal
    labels,

        loss = ½ [(1 − gamma·q)² + gamma²·(1 − q)²/(N − 1)].

    From the origin gamma reaches 1 in a time of order N; then beta and alpha grow, by
    d beta/dt = p/N and d alpha/d beta = beta. See `emergence_time`.

    Parameters
    ----------
    N : float
        Labels in the context, above 1.

    Returns
    -------
    Landscape
        Of alpha, beta and gamma, with the constant N, the measures ``previous`` (p) and ``match``
        (q), and the events ``alpha_up``, ``beta_up``, ``gamma_up`` (each at 1/2) and ``fall``.

    References
    ----------
    .. [1] T. Musat, T. Pimentel, L. Noci, A. Stolfo, M. Sachan, T. Hofmann, "On the emergence of
       induction heads for in-context learning", arXiv 2511.01033.
    """
    alpha, beta, gamma, labels = sp.symbols("alpha beta gamma N", real=True)
    half = sp.Rational(1, 2)
    previous = softmax([alpha, 0], 0, weights=[1, labels])
    match = softmax([beta * previous, 0], 0, weights=[1, labels - 1])
    wrong = gamma**2 * (1 - match) ** 2 / (labels - 1)
    return Landscape(
        [alpha, beta, gamma],
        ((1 - gamma * match) ** 2 + wrong) / 2,
        constants={labels: N},
        measures={"previous": previous, "match": match},
        events={
            "alpha_up": alpha >= half,
            "beta_up": beta >= half,
            "gamma_up": gamma >= half,
            "fall": sp.Symbol("loss") <= sp.Symbol("plateau") / 2,
        },
        plateau=(1 - 1 / labels) / 2,
    )


def emergence_time(N: float) -> float:
    """√(π/2)·N², from the origin; relative corrections are of the order log N/N."""
    return math.sqrt(math.pi / 2) * N**2
