"""Closed forms of the landscape and its flow, as numbers.

`uniform_attention` and `drives` describe the landscape near the origin; `slow_phase`, the flow of
xi before the fall; `saddle_rate` and `escape_time`, the saddle at L = N; `transition_law`,
`transition_time` and `width`, when the loss falls and how fast; `invariant`, the constant of motion
of the mean field.

The worked derivations, each step checked, are in ``derivations/``; the same results as expressions
are in `cliff.symbolic`. Every function raises `ArgumentError` for an argument out of range. This
module does not import sympy.

Throughout, q is the attention to one label while alpha = 0, v = xi·q, r = N/(L − N), and H, H', O,
O' are the sums of 1/n, 1/n², 1/(2n − 1) and 1/(2n − 1)² over n = 1 … N.
"""

from __future__ import annotations

import math
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike, NDArray

from cliff.checks import ArgumentError, finite_array, integer, real
from cliff.trajectory import LEVELS

if TYPE_CHECKING:
    from cliff.nested_logit import NestedLogit

__all__ = [
    "drives",
    "escape_time",
    "invariant",
    "saddle_rate",
    "slow_phase",
    "transition_law",
    "transition_time",
    "uniform_attention",
    "width",
]

Array = NDArray[np.float64]

UNIT_MOBILITIES = (1.0, 1.0, 1.0)

LARGEST_MOBILITY = 1e100
"""Mobilities lie between its inverse and this, so that their products do not overflow."""

LARGEST_LOGIT = 700.0
"""Largest |beta1|, whose exponential does not overflow."""

SPAN = 1e3
"""Length at which the second stage of `transition_time` is given up, in first stages."""


def uniform_attention(model: NestedLogit) -> float:
    """Attention q of the target to each label while alpha = 0.

    Raises
    ------
    ArgumentError
        If exact positions come with a free label bias, on which q depends, or there is memory.
    """
    if model.memory is not None:
        raise ArgumentError("memory", model.memory, "must be None for a closed form")
    n = model.n_pairs
    if model.positions == "mean":
        return 1.0 / n
    if isinstance(model.label_bias, str):
        raise ArgumentError("label_bias", model.label_bias, "must be a number for a closed form")
    return math.exp(-np.logaddexp(0.0, math.log((n + 1.0) / n) - model.label_bias)) / n


def slow_phase(
    model: NestedLogit, t: ArrayLike, xi0: float = 0.0, mobility_xi: float = 1.0
) -> tuple[Array, Array]:
    """The flow of xi while alpha = 0, in closed form.

    Attention is then even, and dv/dt = M q²/(1 + r e^v). The solution is v = c − W(r e^c) with
    c = M q² t + v0 + r e^v0 and W Lambert's function. The loss, log N + log(1 + 1/W), decays from
    log L towards the plateau log N.

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
    time = _finite("t", t)
    n, n_absent = model.n_pairs, model.n_labels - model.n_pairs
    q, start = uniform_attention(model), real("xi0", xi0)
    pull = real("mobility_xi", mobility_xi, 0.0) * q * q * time
    if n_absent == 0:
        return np.full(time.shape, start), np.full(time.shape, math.log(n))
    # W(r e^c) may overflow, and the difference with c may cancel. Instead, solve
    # u + R expm1(u) = pull, divided by 1 + R, for u = v - v0, where R = r e^v0. The equation is
    # convex and both bounds lie above its solution, the lesser one close to it, so that Newton's
    # method converges from there.
    log_ratio = q * start + math.log(n / n_absent)
    log_rest, log_present = (-float(np.logaddexp(0.0, z)) for z in (log_ratio, -log_ratio))
    rest, present = math.exp(log_rest), math.exp(log_present)
    u = rest * pull
    with np.errstate(divide="ignore"):
        bound = np.logaddexp(0.0, np.log(np.maximum(pull, 0.0)) - log_ratio)
    u = np.where(pull > 0.0, np.minimum(u, bound), u)
    for _ in range(8):
        growing = np.exp(log_present + u)
        grown = np.where(u < 1.0, present * np.expm1(np.minimum(u, 1.0)), growing - present)
        u = u - (rest * (u - pull) + grown) / (rest + growing)
    xi = start + np.divide(u, q, out=np.zeros_like(u), where=q > 0.0)  # 0 where it underflows
    return xi, np.logaddexp(math.log(n), math.log(n_absent) - q * start - u)


def saddle_rate(
    model: NestedLogit, mobility: ArrayLike = UNIT_MOBILITIES, beta1: float = 0.0
) -> float:
    """Growth rate rho of the unstable direction of the saddle that the origin is at L = N.

    The only entry of the Hessian at (beta1, 0, 0) is ∂²loss/∂alpha ∂xi = −rho. For exact positions
    rho = (H − 1) / (2N(2N + 1)) at beta1 = 0, near log N / (4N²) for large N; in the mean field
    rho = (N − 1) / (N²(N + 1)). Mobilities multiply it by √(M_alpha M_xi).

    Parameters
    ----------
    model : NestedLogit
        With L = N ≥ 2 and a label bias that is a number.
    mobility : array_like, shape (3,)
        Mobilities of beta1, alpha and xi.
    beta1 : float
        Where on the line of saddles (beta1, 0, 0). If rho is negative there, the unstable direction
        is alpha = −xi.

    Raises
    ------
    ArgumentError
        If L is not N, if N = 1, where the loss is 0 everywhere, or if an argument is out of range.
    """
    n = model.n_pairs
    if model.n_labels != n:
        raise ArgumentError(
            "n_labels", model.n_labels, f"must equal the number of pairs, {n}: else no saddle"
        )
    if n == 1:
        raise ArgumentError("n_pairs", 1, "must be at least 2: else the loss is 0 everywhere")
    rate, _ = drives(model, 1.0, real("beta1", beta1, -LARGEST_LOGIT, LARGEST_LOGIT))
    _, match, classifier = _mobilities(mobility)
    return float(rate) * math.sqrt(match) * math.sqrt(classifier)


def escape_time(
    model: NestedLogit, start: ArrayLike, reach: float, mobility: ArrayLike = UNIT_MOBILITIES
) -> float:
    """Time for the unstable coordinate of the saddle to grow from `start` to `reach`.

    To first order u = (alpha/√M_alpha + xi/√M_xi)/√2 grows as e^(rho t): from |u| = delta it takes
    log(reach/delta)/rho.

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
        NaN if u = 0 at the start: then the flow runs into the saddle. Infinite if a label bias
        below −700 or so makes q, and with it rho, vanish.

    Raises
    ------
    ArgumentError
        As `saddle_rate`.
    """
    rate = saddle_rate(model, mobility)
    point = finite_array("start", start, 3)
    if point.ndim != 1:
        raise ArgumentError("start", start, "must be three numbers")
    _, alpha, xi = point.tolist()
    _, match, classifier = _mobilities(mobility)
    size = abs(alpha / math.sqrt(match) + xi / math.sqrt(classifier)) / math.sqrt(2.0)
    growth = math.log(real("reach", reach, 0.0, exclusive=True))
    if size == 0.0:
        return math.nan
    return _ratio(growth - math.log(size), rate)


def drives(model: NestedLogit, context: ArrayLike, beta1: ArrayLike = 0.0) -> tuple[Array, Array]:
    """Forces on alpha and beta1 while attention is even, per unit of xi and of xi·alpha.

    To first order in alpha, −∂loss/∂alpha = xi·kappa_alpha and −∂loss/∂beta1 = xi·alpha·kappa_beta,
    where kappa_beta = d kappa_alpha/d beta1.

    Parameters
    ----------
    model : NestedLogit
        Its label bias must be a number.
    context : array_like, shape (...,)
        Probability c that the prediction puts on the labels of the context: N/L at xi = 0.
    beta1 : array_like, shape (...,)
        From −700 to 700.

    Returns
    -------
    kappa_alpha, kappa_beta : ndarray, shape (...,)

    Raises
    ------
    ArgumentError
        If `context` is no probability, `beta1` is out of range or the label bias is free.
    """
    q, c, b = uniform_attention(model), _finite("context", context), _finite("beta1", beta1)
    if not ((c >= 0.0) & (c <= 1.0)).all():
        raise ArgumentError("context", context, "must be a probability, from 0 to 1")
    if not (np.abs(b) <= LARGEST_LOGIT).all():
        raise ArgumentError("beta1", beta1, f"must lie within ±{LARGEST_LOGIT:g}")
    gain_alpha, gain_beta = _gains(model, c, b)
    return q * gain_alpha, q * gain_beta


def _gains(model: NestedLogit, context: ArrayLike, beta1: ArrayLike = 0.0) -> tuple[Array, Array]:
    """`drives` divided by q, finite where a large negative label bias makes q vanish."""
    n, c = model.n_pairs, np.asarray(context, dtype=np.float64)
    e = np.exp(np.asarray(beta1, dtype=np.float64))
    if model.positions == "mean":
        share = e / (e + n) + 0.0 * c
        return (1.0 - 1.0 / n) * share, (1.0 - 1.0 / n) * share * (1.0 - share)
    q, k = uniform_attention(model), np.arange(1, n + 1)
    previous, other = e[..., None] / (e[..., None] + 2 * k - 1), 1.0 / (e[..., None] + 2 * k - 1)
    item, target = k[1:] / (e[..., None] + 2 * k[1:] - 2), 2.0 / (e + 2 * n)

    def pull(match: Array, later: Array, others: Array) -> Array:
        """Mean force on an overlap.

        `match` and `later` are the overlaps of each slot's correct label and of each label when a
        match comes before it; `others`, the sum over slots of the overlaps of items and target.
        """
        labels = match.sum(axis=-1) + ((k - 1) * later).sum(axis=-1)
        even = q * labels + (1.0 - n * q) / (n + 1.0) * others
        return (match.sum(axis=-1) - c / n * labels - (1.0 - c) * even) / n

    # the first token attends to itself
    gain_alpha = pull(previous, other, 1.0 + item.sum(axis=-1) + n * target)
    slope = -(e[..., None] * item**2 / k[1:]).sum(axis=-1) - n * e * target**2 / 2.0
    return gain_alpha, pull(previous * (1.0 - previous), -previous * other, slope)


def transition_law(model: NestedLogit, mobility: ArrayLike = UNIT_MOBILITIES) -> float:
    """Estimate of t_transition from the origin in closed form, for L > N.

    While the loss is still near log L, xi = M_xi q (1 − N/L) t grows at a constant rate, xi drives
    alpha, and both drive beta1. The two drives grow like exp(beta1), which makes alpha²
    proportional to beta1 and d beta1/dt ∝ t e^beta1 √beta1. The solution diverges at

        t² = 2 √(π/2) / (q (1 − N/L) M_xi √(M_beta1 kappa_beta M_alpha kappa_alpha)),

    of order N^(3/2) in the mean field and N^(3/2)/√log N for exact positions. Nothing is fitted.

    Parameters
    ----------
    model : NestedLogit
        With L > N and a label bias that is a number.
    mobility : array_like, shape (3,)
        From 1e-100 to 1e100. For a fast classifier use `transition_time`: the law leaves out that
        xi saturates.

    Returns
    -------
    float
        Infinity where a label bias below −700 or so makes q vanish.

    Raises
    ------
    ArgumentError
        If L = N, where the flow from the origin does not move, or an argument is out of range.
    """
    previous, match, classifier = _mobilities(mobility)
    _check_moves(model)
    share = model.n_pairs / model.n_labels
    gain_alpha, gain_beta = _gains(model, share)
    pull = classifier * (1.0 - share) * math.sqrt(previous * gain_beta)
    pull *= math.sqrt(match * gain_alpha)
    return _ratio(math.sqrt(math.sqrt(2.0 * math.pi) / pull), uniform_attention(model))


def transition_time(model: NestedLogit, mobility: ArrayLike = UNIT_MOBILITIES) -> float:
    """Estimate of t_transition from the origin, for L > N and any speed of the classifier.

    Two stages are matched at beta1 = b. The first is the runaway of `transition_law`, with the xi
    of `slow_phase`, which saturates, and the drives at the context's probability
    c = r e^v/(1 + r e^v). It reaches beta1 = b at the v where

        ∫ v √(kappa_beta kappa_alpha) (1 + r e^v)/(M_xi q³) dv = √(π/2)/√(M_beta1 M_alpha) erf(√b)

    and at the time t = (v + r e^v − r)/(M_xi q²). In the second stage attention is no longer even.
    To first order in the attention, the ratio of the drives of alpha and beta1 does not depend on
    xi or t, which gives a constant of motion,

        alpha²/(2 M_alpha) − 1/M_beta1 ∫ kappa_alpha/kappa_beta dbeta1 = const;

    in the mean field it is exact, `invariant`. It makes alpha a function of beta1, and the flow in
    the two variables beta1 and xi is integrated numerically. The stages are matched at b = 1, where
    beta1 begins to accelerate itself; if the loss is below log N there, as with a fast classifier,
    at the largest b = 1/2, 1/4, … where it is not. Nothing is fitted. The error is at most 9 % for
    unit mobilities and a faster classifier, and 35 % for mobilities between 0.1 and 10.

    Arguments, errors and what is infinite are those of `transition_law`.
    """
    return _fall(model, mobility)[1]


def width(model: NestedLogit, mobility: ArrayLike = UNIT_MOBILITIES) -> float:
    """Estimate of the width, from loss 0.9 log N to 0.1 log N, for L > N from the origin.

    It is the time between these levels in the second stage of `transition_time`. The error is at
    most 13 % for unit mobilities and, in the mean field, for mobilities between 0.1 and 10. With
    exact positions at N = 4 or 8, alpha that is 100 times faster than beta1 breaks the constant of
    motion, and the estimate can be several times too long.

    Arguments and errors are those of `transition_law`.

    Returns
    -------
    float
        NaN where `transition_time` is infinite, or where the second stage takes more than 1,000
        times as long as the first.
    """
    start, _, end = _fall(model, mobility)
    return end - start


def _fall(model: NestedLogit, mobility: ArrayLike) -> tuple[float, ...]:
    """Estimated times at which the loss falls below each of `LEVELS` times log N."""
    from scipy.integrate import quad, solve_ivp

    speeds = previous, match, classifier = _mobilities(mobility)
    _check_moves(model)

    def ratio(beta1: float) -> float:
        gain_alpha, gain_beta = _gains(model, context, beta1)
        return float(match * gain_alpha / (previous * gain_beta))

    def motion(_: float, state: Array) -> Array:  # in units of the first stage's time
        beta1, half_square, xi, _ = state
        alpha = math.sqrt(2.0 * half_square)
        slope = model.gradient([beta1, alpha, xi])
        speed = -previous * slope[0]
        half_speed = ratio(beta1) * speed
        theta_speed = np.array([speed, half_speed / alpha, -classifier * slope[2]])
        return t * np.array([speed, half_speed, theta_speed[2], slope @ theta_speed])

    def above(_: float, state: Array, share: float) -> float:
        return float(state[3]) - share * model.plateau

    beta1 = 1.0
    while True:
        xi, t, context = _runaway(model, speeds, math.erf(math.sqrt(beta1)))
        half_square = quad(ratio, 0.0, beta1)[0]
        loss = float(model.loss([beta1, math.sqrt(2.0 * half_square), xi]))
        if loss > model.plateau:
            break
        beta1 /= 2.0
    if math.isinf(t):
        return (t,) * len(LEVELS)
    state = beta1, half_square, xi, loss
    events = [partial(above, share=share) for share in LEVELS]
    events[-1].terminal = True  # type: ignore[attr-defined]
    path = solve_ivp(motion, (0.0, SPAN), state, "RK45", events=events, rtol=1e-5, atol=1e-8)
    return tuple(t * (1.0 + float(times[0])) if times.size else math.nan for times in path.t_events)


def _runaway(
    model: NestedLogit, mobility: tuple[float, float, float], share: float
) -> tuple[float, float, float]:
    """xi, t and the context's probability when the first stage has done a share of its integral."""
    from scipy.integrate import quad
    from scipy.optimize import brentq
    from scipy.special import exprel

    previous, match, classifier = mobility
    q, r = uniform_attention(model), model.n_pairs / (model.n_labels - model.n_pairs)
    need = share * classifier * math.sqrt(math.pi / 2.0 / (previous * match))

    def integrand(xi: float) -> float:
        present = r * math.exp(q * xi)
        gain_alpha, gain_beta = _gains(model, present / (1.0 + present))
        return xi * math.sqrt(gain_alpha * gain_beta) * (1.0 + present)

    def missing(xi: float) -> float:
        return float(quad(integrand, 0.0, xi)[0]) - need

    upper = 1e-3
    while missing(upper) < 0.0:
        upper *= 2.0
    xi = float(brentq(missing, 0.0, upper, xtol=1e-14))
    present = r * math.exp(q * xi)
    t = _ratio(xi * (1.0 + r * float(exprel(q * xi))), classifier * q)
    return xi, t, present / (1.0 + present)


def _ratio(a: float, b: float) -> float:
    return a / b if b > 0.0 else math.inf


def invariant(n_pairs: int, theta: ArrayLike, mobility: ArrayLike = UNIT_MOBILITIES) -> Array:
    """The mean field's constant of motion, alpha²/(2 M_alpha) − (beta1 + E/N)/M_beta1.

    The mean-field loss depends on beta1 and alpha only through alpha·E/(E + N), so that the ratio
    of their speeds does not depend on the loss.

    Parameters
    ----------
    n_pairs : int
        N.
    theta : array_like, shape (..., 3)
    mobility : array_like, shape (3,)

    Returns
    -------
    ndarray, shape (...,)
        Not finite where exp(beta1) or alpha² overflow.

    Raises
    ------
    ArgumentError
        If an argument is out of range.
    """
    n, point = integer("n_pairs", n_pairs, 1), finite_array("theta", theta, 3)
    previous, match, _ = _mobilities(mobility)
    beta1, alpha, _ = np.moveaxis(point, -1, 0)
    with np.errstate(over="ignore", invalid="ignore"):
        return np.asarray(alpha**2 / (2.0 * match) - (beta1 + np.exp(beta1) / n) / previous)


def _finite(argument: str, value: ArrayLike) -> Array:
    """The value as an array of finite numbers, of any shape."""
    return finite_array(argument, np.asarray(value)[..., None], 1)[..., 0]


def _mobilities(mobility: ArrayLike) -> tuple[float, float, float]:
    values = finite_array("mobility", mobility, 3)
    inside = (values >= 1.0 / LARGEST_MOBILITY) & (values <= LARGEST_MOBILITY)
    if values.shape != (3,) or not inside.all():
        ends = f"from {1 / LARGEST_MOBILITY:g} to {LARGEST_MOBILITY:g}"
        raise ArgumentError("mobility", mobility, f"must be three numbers {ends}")
    previous, match, classifier = values.tolist()
    return previous, match, classifier


def _check_moves(model: NestedLogit) -> None:
    if not model.n_labels > model.n_pairs > 1:
        needed = f"must exceed the number of pairs, {model.n_pairs}, which must be at least 2"
        requirement = f"{needed}: else the flow from the origin has no transition"
        raise ArgumentError("n_labels", model.n_labels, requirement)
