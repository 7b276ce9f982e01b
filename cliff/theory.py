"""Closed forms of the landscape and its flow, as numbers.

The worked derivations of these results, each step checked, are in ``derivations/``; the same
results as expressions are in `cliff.symbolic`. This module needs no sympy: whatever compares a
computed flow with the theory (tables, pictures, basin maps) imports it.

Throughout, q is the attention to one label while alpha = 0, v = xi·q, r = N/(L − N), and H, H', O,
O' are the sums of 1/n, 1/n², 1/(2n − 1) and 1/(2n − 1)² over n = 1 … N.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike, NDArray

from cliff.checks import ArgumentError, finite_array, real

if TYPE_CHECKING:
    from cliff.landscape import NestedLogit

Array = NDArray[np.float64]

UNIT = (1.0, 1.0, 1.0)


def uniform_attention(model: NestedLogit) -> float:
    """Attention q of the target to each label while alpha = 0.

    Raises
    ------
    ArgumentError
        If exact positions come with a free label bias, on which q depends.
    """
    n = model.n_pairs
    if model.positions == "mean":
        return 1.0 / n
    if isinstance(model.label_bias, str):
        raise ArgumentError("label_bias", model.label_bias, "must be a number for a closed form")
    return 1.0 / (n + (n + 1.0) * math.exp(-model.label_bias))


def slow_phase(
    model: NestedLogit, t: ArrayLike, xi0: float = 0.0, mobility_xi: float = 1.0
) -> tuple[Array, Array]:
    """The classifier's solo: the flow of xi with alpha = 0, in closed form.

    With attention spread evenly, dv/dt = M q²/(1 + r e^v), whose solution is
    v = c − W(r e^c), c = M q² t + v0 + r (e^v0 − 1) + r, with W Lambert's function, and the loss is
    log N + log(1 + 1/W): it decays from log L to the plateau log N.

    Parameters
    ----------
    model : NestedLogit
        Its label bias must be a number.
    t : array_like, shape (...,)
        Gradient-flow time.
    xi0 : float
        xi at t = 0.
    mobility_xi : float
        Mobility of xi.

    Returns
    -------
    xi : ndarray, shape (...,)
    loss : ndarray, shape (...,)
        In nats.

    Raises
    ------
    ArgumentError
        If an argument is not finite, or the label bias is free.
    """
    from scipy.special import wrightomega

    time = np.asarray(t, dtype=np.float64)
    q = uniform_attention(model)
    v0 = q * real("xi0", xi0)
    excess = model.n_labels - model.n_pairs
    if excess == 0:
        return np.full(time.shape, float(xi0)), np.full(time.shape, math.log(model.n_pairs))
    r = model.n_pairs / excess
    c = real("mobility_xi", mobility_xi, 0.0) * q * q * time + v0 + r * math.exp(v0)
    w = wrightomega(c + math.log(r))  # W(r e^c) without the overflow of e^c
    return (c - w) / q, math.log(model.n_pairs) + np.log1p(1.0 / w)


def saddle_rate(model: NestedLogit, mobility: ArrayLike = UNIT, beta1: float = 0.0) -> float:
    """Growth rate rho of the unstable direction at the origin's saddle, which exists at L = N.

    The Hessian at (beta1, 0, 0) couples alpha and xi only, by −rho:
    for exact positions rho = (H − 1) / (2N(2N + 1)) at beta1 = 0, near log N / (4N²) for large N;
    in the mean field rho = (N − 1) / (N²(N + 1)). Mobilities multiply it by √(M_alpha M_xi).

    Parameters
    ----------
    model : NestedLogit
        With L = N and a label bias that is a number.
    mobility : array_like, shape (3,)
        Mobilities of beta1, alpha and xi.
    beta1 : float
        Point on the line of saddles (beta1, 0, 0). There rho may be negative: the unstable
        direction is then alpha = −xi.

    Raises
    ------
    ArgumentError
        If L is not N, or an argument is out of range.
    """
    n = model.n_pairs
    if model.n_labels != n:
        raise ArgumentError(
            "n_labels", model.n_labels, f"must equal the number of pairs, {n}: else no saddle"
        )
    q = uniform_attention(model)
    odds = math.exp(-real("beta1", beta1, -700.0, 700.0))
    if model.positions == "mean":
        rate = (n - 1) / (n * n) / (1.0 + n * odds)
    else:
        k = 2.0 * np.arange(1, n + 1) - 1.0
        share = 1.0 / (1.0 + k * odds)
        other = odds * share
        wrong = (np.arange(n) * other).sum() / n
        rate = q / n * ((1.0 - 1.0 / n) * share.sum() - wrong)
    _, match, classifier = _mobilities(mobility)
    return float(rate * math.sqrt(match * classifier))


def escape_time(
    model: NestedLogit, start: ArrayLike, reach: float, mobility: ArrayLike = UNIT
) -> float:
    """Time for the unstable coordinate of the saddle to grow from `start` to `reach`.

    To first order u = (alpha/√M_alpha + xi/√M_xi)/√2 grows as e^(rho t); a start of size delta
    escapes after log(reach/delta)/rho.

    Parameters
    ----------
    model : NestedLogit
        With L = N.
    start : array_like, shape (3,)
        Start close to the origin.
    reach : float
        Value of |u| that counts as escaped, small enough for the linear law.
    mobility : array_like, shape (3,)

    Returns
    -------
    float
        NaN if u = 0 at the start: then the flow runs into the saddle.

    Raises
    ------
    ArgumentError
        If L is not N, or an argument is out of range.
    """
    _, alpha, xi = finite_array("start", start, 3)
    _, match, classifier = _mobilities(mobility)
    size = abs(alpha / math.sqrt(match) + xi / math.sqrt(classifier)) / math.sqrt(2.0)
    if size == 0.0:
        return math.nan
    ratio = real("reach", reach, 0.0, exclusive=True) / size
    return math.log(ratio) / saddle_rate(model, mobility)


def drives(model: NestedLogit, context: ArrayLike) -> tuple[Array, Array]:
    """How strongly attention that is still even pulls on alpha and beta1.

    To first order in alpha, at beta1 = 0, −∂loss/∂alpha = xi·kappa_alpha and
    −∂loss/∂beta1 = xi·alpha·kappa_beta.

    Parameters
    ----------
    model : NestedLogit
        Its label bias must be a number.
    context : array_like, shape (...,)
        Probability c that the prediction puts on the labels of the context: N/L at xi = 0.

    Returns
    -------
    kappa_alpha, kappa_beta : ndarray, shape (...,)
    """
    n, c = model.n_pairs, np.asarray(context, dtype=np.float64)
    if model.positions == "mean":
        spread = np.full(c.shape, (1.0 - 1.0 / n) / n)
        return spread / (n + 1.0), spread * n / (n + 1.0) ** 2
    q = uniform_attention(model)
    k = np.arange(1, n + 1)
    odd = 2.0 * k - 1.0
    h, h2, o, o2 = (1.0 / k).sum(), (1.0 / k**2).sum(), (1.0 / odd).sum(), (1.0 / odd**2).sum()
    size = 2 * n + 1

    def pull(match: float, labels: float, others: float) -> Array:
        even = q * labels + (1.0 - n * q) / (n + 1.0) * others
        return q * (match - c / n * labels - (1.0 - c) * even)

    kappa_alpha = pull(h / (2 * n), 0.5, 0.5 + o / (2 * n) + 2.0 / size)
    kappa_beta = pull(
        (h - h2 / 2) / (2 * n), h / (4 * n), -(o + o2 - 2.0) / (2 * n) - 2.0 / size**2
    )
    return kappa_alpha, kappa_beta


def transition_law(model: NestedLogit, mobility: ArrayLike = UNIT) -> float:
    """Estimate of t_transition from the origin in closed form, for L > N.

    Three stages feed one another while the loss is still near log L: xi = M_xi q (1 − N/L) t grows
    at a constant rate; the match follows, and with it E = exp(beta1) multiplies both of their
    drives. Along the way alpha² is proportional to beta1, which leaves
    d beta1/dt ∝ t e^beta1 √beta1. It blows up at

        t² = 2 √(π/2) / (q (1 − N/L) M_xi √(M_beta1 kappa_beta M_alpha kappa_alpha)),

    of order N^(3/2) in the mean field and N^(3/2)/√log N for exact positions. Nothing is fitted.

    Parameters
    ----------
    model : NestedLogit
        With L > N and a label bias that is a number.
    mobility : array_like, shape (3,)
        Above 0. For a fast classifier use `transition_time`, which lets xi saturate.

    Raises
    ------
    ArgumentError
        If L = N, where the flow from the origin does not move, or an argument is out of range.
    """
    previous, match, classifier = _mobilities(mobility)
    _check_moves(model)
    share = model.n_pairs / model.n_labels
    kappa_alpha, kappa_beta = drives(model, share)
    pull = classifier * uniform_attention(model) * (1.0 - share)
    pull *= math.sqrt(previous * kappa_beta * match * kappa_alpha)
    return math.sqrt(math.sqrt(2.0 * math.pi) / pull)


def transition_time(model: NestedLogit, mobility: ArrayLike = UNIT) -> float:
    """Estimate of t_transition from the origin that lets the classifier saturate, for L > N.

    As `transition_law`, with xi from `slow_phase` and the drives at the context's probability
    c = r e^v/(1 + r e^v). The blow-up is at the v where

        ∫ v √(kappa_beta kappa_alpha) (1 + r e^v)/(M_xi q³) dv = √(π/2)/√(M_beta1 M_alpha),

    and t = (v + r e^v − r)/(M_xi q²).

    Parameters
    ----------
    model : NestedLogit
        With L > N and a label bias that is a number.
    mobility : array_like, shape (3,)
        Above 0.

    Raises
    ------
    ArgumentError
        As `transition_law`.
    """
    from scipy.integrate import quad
    from scipy.optimize import brentq

    previous, match, classifier = _mobilities(mobility)
    _check_moves(model)
    q, r = uniform_attention(model), model.n_pairs / (model.n_labels - model.n_pairs)
    need = math.sqrt(math.pi / 2.0 / (previous * match)) * classifier * q**3

    def integrand(v: float) -> float:
        present = r * math.exp(v)
        kappa_alpha, kappa_beta = drives(model, present / (1.0 + present))
        return v * math.sqrt(kappa_alpha * kappa_beta) * (1.0 + present)

    def missing(v: float) -> float:
        return float(quad(integrand, 0.0, v)[0]) - need

    upper = 1e-3
    while missing(upper) < 0.0:
        upper *= 2.0
    v = float(brentq(missing, 0.0, upper, xtol=1e-14))
    return (v + r * math.expm1(v)) / (classifier * q * q)


def invariant(n_pairs: int, theta: ArrayLike, mobility: ArrayLike = UNIT) -> Array:
    """The mean field's constant of motion, alpha²/(2 M_alpha) − (beta1 + E/N)/M_beta1.

    beta1 and alpha enter the mean-field loss through alpha·E/(E + N) alone, so that their speeds
    have a ratio that does not depend on the loss.

    Parameters
    ----------
    n_pairs : int
    theta : array_like, shape (..., 3)
    mobility : array_like, shape (3,)

    Returns
    -------
    ndarray, shape (...,)
    """
    point = finite_array("theta", theta, 3)
    previous, match, _ = _mobilities(mobility)
    beta1, alpha = point[..., 0], point[..., 1]
    return alpha**2 / (2.0 * match) - (beta1 + np.exp(beta1) / n_pairs) / previous


def _mobilities(mobility: ArrayLike) -> tuple[float, float, float]:
    values = finite_array("mobility", mobility, 3)
    if values.shape != (3,) or not (values > 0.0).all():
        raise ArgumentError("mobility", mobility, "must be three numbers above 0")
    previous, match, classifier = values.tolist()
    return previous, match, classifier


def _check_moves(model: NestedLogit) -> None:
    if not model.n_labels > model.n_pairs > 1:
        raise ArgumentError(
            "n_labels",
            model.n_labels,
            f"must exceed the number of pairs, {model.n_pairs}, which must be at least 2: "
            "else the flow from the origin has no transition",
        )
