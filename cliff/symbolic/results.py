"""What follows from the loss: origin, saddle, slow phase, valleys and transition."""

from __future__ import annotations

import sympy as sp
from sympy import Expr

from cliff.checks import ArgumentError, choice
from cliff.symbolic.chain import check, gradient, hessian, loss, needed, number
from cliff.symbolic.formula import Assignments, Formula, L, N, WrightOmega
from cliff.valleys import VALLEYS, sink_counts

TARGETS = (
    "loss",
    "gradient",
    "hessian",
    "origin",
    "plateau",
    "saddle",
    "valleys",
    "transition",
)
T, DELTA, REACH = sp.symbols("t delta u_end", positive=True)


def origin(
    n_pairs: int | sp.Symbol = N,
    n_labels: int | sp.Symbol = L,
    positions: str = "exact",
    label_bias: float | str = 0.0,
) -> Formula:
    """Loss, gradient and Hessian at the origin (label bias 0 if free); parameters as `loss`."""
    n, labels, _ = check(n_pairs, n_labels, positions, label_bias, bounded=False)
    free = label_bias == "free"
    q, share = _uniform_attention(n, positions, label_bias), n / labels
    kappa, _ = drives(n, share, positions, label_bias)
    matched = q * (1 - n * q) if positions == "exact" else sp.S.Zero
    size = 4 if free else 3
    curvature = sp.zeros(size)
    curvature[1, 2] = curvature[2, 1] = -kappa
    curvature[2, 2] = q**2 * share * (1 - share)
    if free:
        curvature[2, 3] = curvature[3, 2] = -matched * (1 - share)
    slope = [sp.S.Zero, sp.S.Zero, -(1 - share) * q] + [sp.S.Zero] * (size - 3)
    return Formula(
        "origin",
        {
            "loss": sp.log(labels),
            "gradient": tuple(slope),
            "hessian": tuple(tuple(curvature[i, j] for j in range(size)) for i in range(size)),
        },
        needed(dict(harmonics(n)), list(curvature)),
        _symbols(n, labels),
        takes_theta=False,
        notes=("The origin is critical if and only if L = N.",),
    )


def plateau(
    n_pairs: int | sp.Symbol = N,
    n_labels: int | sp.Symbol = L,
    positions: str = "exact",
    label_bias: float | str = 0.0,
) -> Formula:
    """The slow phase from the origin with alpha = 0, as functions of t; parameters as `loss`.

    Raises
    ------
    ArgumentError
        If L = N, where xi does not move, or the label bias is free and positions are exact.
    """
    n, labels, _ = check(n_pairs, n_labels, positions, label_bias, bounded=False)
    _no_free_bias(positions, label_bias)
    if labels == n:
        raise ArgumentError("n_labels", n_labels, "must exceed the number of pairs: else xi rests")
    q, r, c, w = sp.symbols("q r c W", positive=True)
    return Formula(
        "plateau",
        {"xi": (c - w) / q, "loss": sp.log(n) + sp.log(1 + 1 / w), "plateau": sp.log(n)},
        (
            (q, _uniform_attention(n, positions, label_bias)),
            (r, n / (labels - n)),
            (c, q**2 * T + r),
            (w, WrightOmega(c + sp.log(r))),
        ),
        (T, *_symbols(n, labels)),
        takes_theta=False,
        notes=("Holds while alpha and beta1 are small: up to the transition's estimate.",),
    )


def saddle(
    n_pairs: int | sp.Symbol = N,
    n_labels: int | sp.Symbol = N,
    positions: str = "exact",
    label_bias: float | str = 0.0,
) -> Formula:
    """Hessian and eigenvalues at the origin for L = N, and the time to escape.

    Raises
    ------
    ArgumentError
        If L is not N, or the label bias is free and positions are exact.
    """
    n, labels, _ = check(n_pairs, n_labels, positions, label_bias, bounded=False)
    _no_free_bias(positions, label_bias)
    if labels != n:
        raise ArgumentError("n_labels", str(n_labels), f"must equal the number of pairs, {n}")
    rate, rho = drives(n, sp.S.One, positions, label_bias)[0], sp.Symbol("rho", positive=True)
    zero = sp.S.Zero
    results = {
        "hessian": ((zero, zero, zero), (zero, zero, -rho), (zero, -rho, zero)),
        "eigenvalues": (-rho, zero, rho),
        "escape_time": sp.log(REACH / DELTA) / rho,
    }
    notes = ["u_end/delta: by how much alpha + xi grows. Mobilities multiply rho by √(M_a M_x)."]
    if n is N and label_bias == 0:
        large = "log N/(4 N²)" if positions == "exact" else "1/N²"
        notes.append(f"For large N, rho approaches {large}.")
    return Formula(
        "saddle",
        results,
        (*needed(dict(harmonics(n)), [rate]), (rho, sp.factor(rate))),
        (DELTA, REACH, *_symbols(n)),
        takes_theta=False,
        notes=tuple(notes),
    )


def valleys(
    n_pairs: int | sp.Symbol = N,
    n_labels: int | sp.Symbol = L,
    positions: str = "exact",
    label_bias: float | str = 0.0,
) -> Formula:
    """Losses of the limits at infinity, by name; parameters as `loss`.

    For exact positions they are those of a label bias that stays finite. Where N or L is a symbol,
    a valley that not all N and L have comes with its condition.
    """
    n, labels, _ = check(n_pairs, n_labels, positions, label_bias, bounded=False)
    early = _log_gamma(n + 1) / n
    losses = {
        "induction": sp.S.Zero,
        "shunned-match": sp.log(labels - n + 1),
        "early-labels": early,
        "early-labels-inverted": early,
        "sink": _sink_loss(n, labels),
        "plateau": sp.log(n),
    }
    required = {
        "shunned-match": (n > 1,),
        "early-labels-inverted": (sp.Eq(labels, n),),
        "sink": (labels > n, n > 2),
    }
    conditions = {
        name: tuple(relation for relation in relations if relation != sp.true)
        for name, relations in required.items()
    }
    known = [
        valley
        for valley in VALLEYS
        if positions in valley.positions and sp.false not in conditions.get(valley.name, ())
    ]
    arrow = {1: "+∞", -1: "−∞", 0: "any"}
    notes = [
        f"{v.name}: (beta1, alpha, xi) → ({', '.join(arrow[d] for d in v.direction)}), "
        + ("attracts" if v.attracts else "does not attract")
        for v in known
    ]
    if n is N and positions == "exact":
        notes.append("sink: no closed form is known for a symbolic N; the sum over s is finite.")
    return Formula(
        "valleys",
        {v.name: losses[v.name] for v in known},
        arguments=_symbols(n, labels),
        takes_theta=False,
        notes=tuple(notes),
        conditions={name: left for name, left in conditions.items() if left},
    )


def _sink_loss(n: Expr, labels: Expr) -> Expr:
    """Loss of the valley "sink": for a symbolic N as a finite sum, where no closed form is known.

    The counts are those of `cliff.valleys.sink_counts`. For slots s > N/2 the strongest token is
    the target, and no later label stays in play: their sum is a difference of log-gammas. In the
    first slot all do.
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
    """Its logarithm written out where the gamma function is a number that 64 bits can hold."""
    return sp.loggamma(value, evaluate=not value.is_Integer or value <= 21)


def transition(
    n_pairs: int | sp.Symbol = N,
    n_labels: int | sp.Symbol = L,
    positions: str = "exact",
    label_bias: float | str = 0.0,
) -> Formula:
    """The closed-form estimate of t_transition from the origin, for unit mobilities.

    Raises
    ------
    ArgumentError
        If L = N or N = 1, or the label bias is free and positions are exact.
    """
    n, labels, _ = check(n_pairs, n_labels, positions, label_bias, bounded=False)
    _no_free_bias(positions, label_bias)
    if labels == n:
        raise ArgumentError("n_labels", n_labels, "must exceed the number of pairs")
    if n == 1:
        raise ArgumentError("n_pairs", n_pairs, "must be at least 2")
    q, kappa_alpha, kappa_beta, pull = sp.symbols("q kappa_alpha kappa_beta P", positive=True)
    alpha, beta = drives(n, n / labels, positions, label_bias)
    return Formula(
        "transition",
        {"t_transition": sp.sqrt(sp.sqrt(2 * sp.pi) / pull)},
        (
            *needed(dict(harmonics(n)), [alpha, beta]),
            (q, _uniform_attention(n, positions, label_bias)),
            (kappa_alpha, alpha),
            (kappa_beta, beta),
            (pull, q * (1 - n / labels) * sp.sqrt(kappa_alpha * kappa_beta)),
        ),
        _symbols(n, labels),
        takes_theta=False,
        notes=("From the origin, unit mobilities; nothing is fitted.",),
    )


HARMONICS = sp.symbols("H H_2 O O_2", positive=True)
"""Sums over k = 1 … N of 1/k, 1/k², 1/(2k − 1) and 1/(2k − 1)²."""


def harmonics(n: Expr) -> Assignments:
    """`HARMONICS` as finite sums, or as numbers for a concrete N."""
    k = sp.Symbol("k", integer=True, positive=True)
    terms = (1 / k, 1 / k**2, 1 / (2 * k - 1), 1 / (2 * k - 1) ** 2)
    sums = [sp.Sum(term, (k, 1, n)) for term in terms]
    return tuple(zip(HARMONICS, [v.doit() if n.is_Integer else v for v in sums], strict=True))


def drives(
    n: Expr, context: Expr, positions: str = "exact", label_bias: float | str = 0.0
) -> tuple[Expr, Expr]:
    """kappa_alpha and kappa_beta, as `cliff.theory.drives`, with `HARMONICS` as names.

    A free label bias counts as 0.
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
    """Any of `TARGETS` by name."""
    functions = {
        "loss": loss,
        "gradient": gradient,
        "hessian": hessian,
        "origin": origin,
        "plateau": plateau,
        "saddle": saddle,
        "valleys": valleys,
        "transition": transition,
    }
    return functions[choice("target", target, TARGETS)](n_pairs, n_labels, positions, label_bias)


def count(argument: str, text: str, symbol: sp.Symbol) -> int | sp.Symbol:
    """A count as a user writes it: decimal digits, or exactly the symbol's name.

    Raises
    ------
    ArgumentError
        If it is anything else; the text is compared, never evaluated.
    """
    if text == str(symbol):
        return symbol
    if text.isascii() and text.isdigit() and len(text) <= 9 and int(text) >= 1:
        return int(text)
    raise ArgumentError(argument, text, f"must be a whole number of at least 1, or {symbol}")


def _no_free_bias(positions: str, label_bias: object) -> None:
    if positions == "exact" and label_bias == "free":
        raise ArgumentError("label_bias", "free", "must be a number for this result")


def _symbols(*counts: Expr) -> tuple[sp.Symbol, ...]:
    return tuple(dict.fromkeys(symbol for symbol in counts if symbol in (N, L)))


def _uniform_attention(n: Expr, positions: str, label_bias: float | str) -> Expr:
    if positions == "mean":
        return 1 / n
    bias = number(0.0 if label_bias == "free" else float(label_bias))
    # of the two forms the one whose exponential cannot overflow; as a number where it is so small
    # that sympy would take e^1000 for a polynomial of that degree
    weight = sp.exp(-abs(bias))
    if abs(bias) > 20:
        weight = weight.evalf(17)
    return 1 / (n + (n + 1) * weight) if bias > 0 else weight / (n * weight + n + 1)
