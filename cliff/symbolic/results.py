"""What follows from the loss: origin, saddle, slow phase, valleys and transition."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

import sympy as sp
from sympy import Expr

from cliff.checks import ArgumentError, choice
from cliff.symbolic.chain import gradient, hessian, loss, needed
from cliff.symbolic.formula import (
    XI,
    Assignments,
    Formula,
    N,
    Setting,
    WrightOmega,
    as_expression,
    of_setting,
)
from cliff.valleys import VALLEYS, sink_counts

TARGETS = ("loss", "gradient", "hessian", "origin", "plateau", "saddle", "valleys", "transition")
T, DELTA, REACH = sp.symbols("t delta u_end", positive=True)

HARMONICS = sp.symbols("H H_2 O O_2", positive=True)
"""Sums over k = 1 … N of 1/k, 1/k², 1/(2k − 1) and 1/(2k − 1)²."""

RESULT_MEANINGS = {
    "t": "gradient-flow time",
    "delta": "size of alpha + xi at the start",
    "u_end": "size of alpha + xi that counts as escaped",
    "q": "attention to each label while alpha = 0",
    "r": "N/(L - N)",
    "c": "q^2 t + r",
    "W": "Lambert's function of r e^c",
    "rho": "rate at which the unstable direction of the saddle grows",
    "kappa_alpha": "force on alpha over xi, at the origin",
    "kappa_beta": "force on beta1 over xi alpha, at the origin",
    "P": "q (1 - N/L) sqrt(kappa_alpha kappa_beta)",
    "H": "sum of 1/k over k = 1 ... N",
    "H_2": "sum of 1/k^2",
    "O": "sum of 1/(2k - 1)",
    "O_2": "sum of 1/(2k - 1)^2",
}
"""Names in the results below."""


def _result(name: str, setting: Setting, results: Mapping[str, Any], **options: Any) -> Formula:
    return Formula(name, setting, results, takes_theta=False, meanings=RESULT_MEANINGS, **options)


def _order(setting: Setting) -> str:
    return f"Components: {', '.join(map(str, setting.parameters))}."


@of_setting
def origin(setting: Setting) -> Formula:
    """Loss, gradient and Hessian at theta = 0, where a free label bias is 0 too."""
    n, labels = setting.n, setting.labels
    q, share = _uniform_attention(n, setting.positions, setting.label_bias), n / labels
    kappa, _ = drives(n, share, setting.positions, setting.label_bias)
    parameters = setting.parameters
    curvature = sp.zeros(len(parameters))
    curvature[1, 2] = curvature[2, 1] = -kappa
    curvature[2, 2] = q**2 * share * (1 - share)
    if setting.is_free and setting.positions == "exact":
        curvature[2, 3] = curvature[3, 2] = -q * (1 - n * q) * (1 - share)
    return _result(
        "origin",
        setting,
        {
            "loss": sp.log(labels),
            "gradient": tuple(-(1 - share) * q if p == XI else sp.S.Zero for p in parameters),
            "hessian": tuple(map(tuple, curvature.tolist())),
        },
        assignments=needed(dict(harmonics(n)), list(curvature)),
        notes=("The origin is critical if and only if L = N.", _order(setting)),
    )


@of_setting
def plateau(setting: Setting) -> Formula:
    """The slow phase: xi and the loss as functions of t while alpha = 0, from the origin.

    The loss falls from log L towards the plateau log N.

    Raises
    ------
    ArgumentError
        If L = N, where xi does not move, or if the label bias is free and positions are exact.
    """
    n, labels = setting.n, setting.labels
    _refuse_free_bias(setting)
    if labels == n:
        raise ArgumentError(
            "n_labels", setting.n_labels, "must exceed the number of pairs: else xi does not move"
        )
    q, r, c, w = sp.symbols("q r c W", positive=True)
    return _result(
        "plateau",
        setting,
        {"xi": (c - w) / q, "loss": sp.log(n) + sp.log(1 + 1 / w), "plateau": sp.log(n)},
        assignments=(
            (q, _uniform_attention(n, setting.positions, setting.label_bias)),
            (r, n / (labels - n)),
            (c, q**2 * T + r),
            (w, WrightOmega(c + sp.log(r))),
        ),
        variables=(T,),
        notes=(
            *(["Holds for L > N."] if setting.symbols else []),
            "Holds while alpha and beta1 are small: up to the transition's estimate.",
        ),
    )


@partial(of_setting, default_labels=N)
def saddle(setting: Setting) -> Formula:
    """Hessian and eigenvalues at the origin for L = N, and the time to escape.

    Raises
    ------
    ArgumentError
        If L is not N, if N = 1, where the loss is 0 everywhere, or if the label bias is free
        and positions are exact.
    """
    n = setting.n
    if setting.labels != n:
        raise ArgumentError(
            "n_labels", setting.n_labels, "must be N, the number of pairs: else there is no saddle"
        )
    if n == 1:
        raise ArgumentError("n_pairs", 1, "must be at least 2: else the loss is 0 everywhere")
    _refuse_free_bias(setting)
    rate, _ = drives(n, sp.S.One, setting.positions, setting.label_bias)
    rho, zero = sp.Symbol("rho", positive=True), sp.S.Zero
    notes = ["Mobilities multiply rho by sqrt(M_alpha M_xi).", _order(setting)]
    if n == N and setting.label_bias == 0:
        large = "log N/(4 N^2)" if setting.positions == "exact" else "1/N^2"
        notes.append(f"For large N, rho approaches {large}.")
    return _result(
        "saddle",
        setting,
        {
            "hessian": ((zero, zero, zero), (zero, zero, -rho), (zero, -rho, zero)),
            "eigenvalues": (-rho, zero, rho),
            "escape_time": sp.log(REACH / DELTA) / rho,
        },
        assignments=(*needed(dict(harmonics(n)), [rate]), (rho, sp.factor(rate))),
        variables=(DELTA, REACH),
        notes=tuple(notes),
        conditions={"escape_time": (n > 1,)},
    )


@of_setting
def valleys(setting: Setting) -> Formula:
    """Losses of the limits at infinity, by the names in `cliff.valleys.VALLEYS`.

    With exact positions a free label bias is taken to stay finite. Where N or L is a symbol, a
    valley that only some N and L have comes with its condition.
    """
    n, labels = setting.n, setting.labels
    early = _log_gamma(n + 1) / n
    losses = {
        "induction": sp.S.Zero,
        "shunned-match": sp.log(labels - n + 1),
        "early-labels": early,
        "early-labels-inverted": early,
        "sink": _sink_loss(n, labels),
        "plateau": sp.log(n),
    }
    count = {None: sp.true, True: labels > n, False: sp.Eq(labels, n)}
    required = {v.name: (count[v.absent], n > v.least_pairs - 1) for v in VALLEYS}
    known = [
        v for v in VALLEYS if setting.positions in v.positions and sp.false not in required[v.name]
    ]
    arrow = {1: "+oo", -1: "-oo", 0: "any"}
    notes = [
        f"{v.name}: (beta1, alpha, xi) -> ({', '.join(arrow[d] for d in v.direction)}), "
        + ("attracts" if v.attracts else "does not attract")
        for v in known
    ]
    if n == N and setting.positions == "exact":
        notes.append("sink: no closed form is known for a symbolic N; the sum over s is finite.")
    return _result(
        "valleys",
        setting,
        {v.name: losses[v.name] for v in known},
        notes=tuple(notes),
        conditions=required,
    )


def _sink_loss(n: Expr, labels: Expr) -> Expr:
    """Loss of the valley "sink"; for a symbolic N a finite sum, as no closed form is known.

    Each slot s adds the logarithm of the number of labels in play, `cliff.valleys.sink_counts`
    plus L − N. In slot 1 all labels are in play. For s > N/2 no later label is, and the logarithms
    add up to a difference of log-gammas.
    """
    if n is not N:
        return sp.Add(*(sp.log(count + labels - n) for count in sink_counts(int(n)))) / n
    s = sp.Symbol("s", integer=True, positive=True)
    half = sp.ceiling(n / 2)
    # the least label n with 1/(2n − 1) ≤ 1/(2s − 2) − 1/N
    first = sp.ceiling(sp.Rational(1, 2) + n * (s - 1) / (n + 2 - 2 * s))
    alive = sp.Max(0, n + 1 - sp.Max(s + 1, first))
    early = sp.Sum(sp.log(labels - n + s + alive), (s, 2, half))
    late = _log_gamma(labels + 1) - _log_gamma(labels - n + half + 1)
    return (sp.log(labels) + early + late) / n


def _log_gamma(value: Expr) -> Expr:
    """log Γ(value); for a number up to 21 the logarithm of the factorial, which 64 bits hold."""
    return sp.loggamma(value, evaluate=not value.is_Integer or value <= 21)


@of_setting
def transition(setting: Setting) -> Formula:
    """Estimate of t_transition from the origin in closed form, for unit mobilities.

    Raises
    ------
    ArgumentError
        If L = N or N = 1, or if the label bias is free and positions are exact.
    """
    n, labels = setting.n, setting.labels
    _refuse_free_bias(setting)
    if labels == n:
        raise ArgumentError("n_labels", setting.n_labels, "must exceed the number of pairs")
    if n == 1:
        raise ArgumentError("n_pairs", 1, "must be at least 2")
    q, kappa_alpha, kappa_beta, pull = sp.symbols("q kappa_alpha kappa_beta P", positive=True)
    alpha, beta = drives(n, n / labels, setting.positions, setting.label_bias)
    return _result(
        "transition",
        setting,
        {"t_transition": sp.sqrt(sp.sqrt(2 * sp.pi) / pull)},
        assignments=(
            *needed(dict(harmonics(n)), [alpha, beta]),
            (q, _uniform_attention(n, setting.positions, setting.label_bias)),
            (kappa_alpha, alpha),
            (kappa_beta, beta),
            (pull, q * (1 - n / labels) * sp.sqrt(kappa_alpha * kappa_beta)),
        ),
        notes=("From the origin, unit mobilities; nothing is fitted.",),
        conditions={"t_transition": (labels > n, n > 1)},
    )


def harmonics(n: Expr) -> Assignments:
    """`HARMONICS` with their values: finite sums, or numbers for a concrete N."""
    k = sp.Symbol("k", integer=True, positive=True)
    terms = (1 / k, 1 / k**2, 1 / (2 * k - 1), 1 / (2 * k - 1) ** 2)
    sums = [sp.Sum(term, (k, 1, n)) for term in terms]
    return tuple(zip(HARMONICS, [v.doit() if n.is_Integer else v for v in sums], strict=True))


def drives(
    n: Expr, context: Expr, positions: str = "exact", label_bias: float | str = 0.0
) -> tuple[Expr, Expr]:
    """kappa_alpha and kappa_beta at beta1 = 0, as `cliff.theory.drives`, in terms of `HARMONICS`.

    `context` is the probability that the prediction puts on the labels of the context, N/L at
    xi = 0. A free label bias counts as 0.
    """
    if positions == "mean":
        spread = (1 - 1 / n) / n
        return spread / (n + 1), spread * n / (n + 1) ** 2
    q = _uniform_attention(n, positions, label_bias)

    def pull(match: Expr, labels: Expr, others: Expr) -> Expr:
        even = q * labels + sp.cancel((1 - n * q) / (n + 1)) * others
        return q * (match - context / n * labels - (1 - context) * even)

    h, h2, o, o2 = HARMONICS
    half, size = sp.Rational(1, 2), 2 * n + 1
    return (
        pull(h / (2 * n), half, half + o / (2 * n) + 2 / size),
        pull((h - h2 / 2) / (2 * n), h / (4 * n), -(o + o2 - 2) / (2 * n) - 2 / size**2),
    )


def derive(
    target: str,
    n_pairs: int | sp.Symbol = 8,
    n_labels: int | sp.Symbol = 32,
    positions: str = "exact",
    label_bias: float | str = 0.0,
) -> Formula:
    """The formula of one of `TARGETS`, for a landscape as in `Setting`.

    Raises
    ------
    ArgumentError
        If the target has another name, or as the function of that name.
    """
    functions = (loss, gradient, hessian, origin, plateau, saddle, valleys, transition)
    function = functions[TARGETS.index(choice("target", target, TARGETS))]
    return function(n_pairs, n_labels, positions, label_bias)


def count(argument: str, text: str, *symbols: sp.Symbol) -> int | sp.Symbol:
    """A count as a user writes it: decimal digits, or the name of one of the symbols.

    Raises
    ------
    ArgumentError
        If it is anything else; the text is compared, never evaluated.
    """
    for symbol in symbols:
        if text == str(symbol):
            return symbol
    if text.isascii() and text.isdigit() and len(text) <= 9 and int(text) >= 1:
        return int(text)
    names = " or ".join(map(str, symbols))
    raise ArgumentError(argument, text, f"must be a whole number of at least 1, or {names}")


def _refuse_free_bias(setting: Setting) -> None:
    if setting.positions == "exact" and setting.is_free:
        raise ArgumentError("label_bias", "free", "must be a number for this result")


def _uniform_attention(n: Expr, positions: str, label_bias: float | str) -> Expr:
    if positions == "mean":
        return 1 / n
    bias = as_expression(0.0 if label_bias == "free" else float(label_bias))
    # of two equal forms the one whose exponential cannot overflow; evaluated where it is small,
    # since sympy would treat e^1000 as a polynomial of degree 1000
    weight = sp.exp(-abs(bias))
    if abs(bias) > 20:
        weight = weight.evalf(17)
    return 1 / (n + (n + 1) * weight) if bias > 0 else weight / (n * weight + n + 1)
