"""Memory against context: two ways to the answer, of which the first takes the other's force."""

import math

import sympy as sp

from cliff.landscape import Landscape
from cliff.symbolic.functions import cross_entropy, softmax


def memory_and_context(N: float = 64, K: float = 1e4) -> Landscape:
    """Binary labels from the context or from memory, after Nguyen & Reddy [1]_.

    A reconstruction: the source was read in its abstract alone. The attention to the matching one
    of N items, p = e^beta/(e^beta + N − 1), and a readout w give the right label the logit w·p. A
    memory of K classes adds the logit m/√K: each class is seen in a share 1/K of the sequences, so
    that its logit learns K times more slowly.

        loss = log(1 + exp(−w·p − m/√K)).

    The force on w and beta has the residual c = 1/(1 + exp(m/√K)) in front, which falls as memory
    grows; see `acquisition_time`.

    Parameters
    ----------
    N : float
        Items in the context.
    K : float
        Classes to be memorised.

    Returns
    -------
    Landscape
        Of w, beta and m, with the constants N and K, the measures ``attention`` and ``memory`` (its
        logit) and the event ``acquire``: attention is 1/2.

    References
    ----------
    .. [1] A. Nguyen, G. Reddy, "Differential learning kinetics govern the transition from
       memorization to generalization during in-context learning", ICLR 2025, arXiv 2412.00104.
    """
    w, beta, m, items, classes = sp.symbols("w beta m N K", real=True)
    attention = softmax([beta, 0], 0, weights=[1, items - 1])
    memory = m / sp.sqrt(classes)
    return Landscape(
        [w, beta, m],
        cross_entropy([w * attention + memory, 0], 0),
        constants={items: N, classes: K},
        measures={"attention": attention, "memory": memory},
        events={"acquire": attention >= sp.Rational(1, 2)},
        plateau=sp.log(2),
    )


def acquisition_time(N: float, K: float = math.inf, w: float = 0.0, beta: float = 0.0) -> float:
    """Time until the context is used, from w, beta and an empty memory, up to O(log N).

    While attention is small, d beta/dw = w, and the integral of the residual c over time has to
    reach R = √(π/2)·e^(w²/2)·erfc(w/√2)·N·e^(−beta). With a memory that stands still (K = ∞) c is
    1/2 and the time R/c. Else the memory's logit u obeys du/dt = c/K, has to reach R/K, and gets
    there at K·(u + e^u − 1): exponentially late once K is below R.
    """
    reach = math.sqrt(math.pi / 2) * math.exp(w * w / 2 - beta) * math.erfc(w / math.sqrt(2)) * N
    u = reach / K
    return 2 * reach if u == 0.0 else K * (u + math.expm1(u))
