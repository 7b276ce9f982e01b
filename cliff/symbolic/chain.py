"""The loss as a chain of named assignments, and its derivatives along the chain."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import sympy as sp
from sympy import Expr
from sympy.codegen.cfunctions import expm1, log1p

from cliff.checks import ArgumentError, choice, integer, real
from cliff.symbolic.formula import (
    ALPHA,
    BETA1,
    BETA2,
    LETTERS,
    PARAMETERS,
    XI,
    Assignments,
    Formula,
    L,
    N,
    entries,
)

MOST_PAIRS = 32
"""Largest concrete N for exact positions: the chain has of the order of N² assignments. There the
Hessian has 27,000 and takes some 20 s to print."""


@dataclass
class Statement:
    """The loss as a chain of named assignments, with the rules to differentiate it.

    Attributes
    ----------
    parameters : tuple of Symbol
        Components of theta.
    assignments : dict
        Name → expression, in order.
    rules : dict
        Name → its derivative by beta1, where the written-out form keeps digits that the
        quotient rule would cancel.
    shifts : set of Symbol
        Names whose value drops out of the loss: they only keep exponentials finite, and their
        derivative is taken as zero.
    """

    parameters: tuple[sp.Symbol, ...]
    assignments: dict[Expr, Expr] = field(default_factory=dict)
    rules: dict[Expr, Expr] = field(default_factory=dict)
    shifts: set[Expr] = field(default_factory=set)
    loss: Expr = sp.S.Zero

    def let(self, name: str, value: Expr) -> Expr:
        """Name an expression; numbers and bare names stay what they are."""
        if value.is_number or value.is_Symbol:
            return value
        symbol = sp.Symbol(name, real=True)
        self.assignments[symbol] = value
        return symbol

    def shift(self, name: str, values: Iterable[Expr]) -> Expr:
        """Name the largest of some logits."""
        # sympy would compare every pair of them, for minutes at the largest N
        distinct = dict.fromkeys(values)
        largest = sp.Max(*distinct, evaluate=False) if len(distinct) > 1 else next(iter(distinct))
        symbol = self.let(name, largest)
        self.shifts.add(symbol)
        return symbol


def statement(
    n_pairs: int | sp.Symbol,
    n_labels: int | sp.Symbol,
    positions: str = "exact",
    label_bias: float | str = 0.0,
) -> Statement:
    """The loss with every exponential shifted, for concrete N or the mean field.

    Parameters
    ----------
    n_pairs : int or N
        N, symbolic in the mean field only.
    n_labels : int or L
    positions : {"exact", "mean"}
    label_bias : float or "free"
        As `NestedLogit`.

    Raises
    ------
    ArgumentError
        If an argument is out of range.
    """
    n, labels, bias = check(n_pairs, n_labels, positions, label_bias)
    free = label_bias == "free"
    chain = Statement(PARAMETERS[: 4 if free else 3])
    top = chain.shift("M", [BETA1, sp.S.Zero])
    e, one = chain.let("E", sp.exp(BETA1 - top)), chain.let("I", sp.exp(-top))

    def share(k: Expr) -> Expr:  # E/(E + k), of the previous token
        name = chain.let(f"u_{k}", e / (e + k * one))
        chain.rules[name] = k * name * other(k)
        return name

    def other(k: Expr) -> Expr:  # 1/(E + k), of every other token
        symbol = sp.Symbol(f"v_{k}", real=True)
        if symbol not in chain.assignments:
            chain.let(f"v_{k}", one / (e + k * one))
            chain.rules[symbol] = -sp.Symbol(f"u_{k}", real=True) * symbol
            share(k)
        return symbol

    absent = labels - n
    if positions == "mean":
        logit = chain.let("d", -ALPHA * share(n))
        chain.loss = _slot(chain, "", [(n - 1, logit)], [], absent)
        return chain

    losses = []
    for s in range(1, n + 1):
        # logits relative to the correct label's, which has overlap share(2s − 1)
        match = share(2 * s - 1)
        wrong = [(1, ALPHA * (other(2 * k - 1) - match)) for k in range(s + 1, n + 1)]
        rest = [(1, ALPHA * (other(2 * k - 2) - match) - bias) for k in range(max(s, 2), n + 1)]
        if s == 1:  # the first token attends to itself only
            rest.append((1, ALPHA * other(1) - bias))
        else:
            wrong.append((s - 1, -ALPHA * match))
            rest.append((s - 1, -ALPHA * match - bias))
        rest.append((1, ALPHA * (2 * other(2 * n) - match) - bias))
        tag = f"_{s}"
        named = [(count, chain.let(f"d{tag}_{i}", z)) for i, (count, z) in enumerate(wrong + rest)]
        losses.append(_slot(chain, tag, named[: len(wrong)], named[len(wrong) :], absent))
    chain.loss = sp.Add(*losses) / n
    return chain


def _slot(
    chain: Statement,
    tag: str,
    wrong: Sequence[tuple[Expr, Expr]],
    rest: Sequence[tuple[Expr, Expr]],
    absent: Expr,
) -> Expr:
    """−log softmax(xi·q)[correct] of one slot; (count, logit) of the wrong labels and the rest."""
    wrong = [(count, logit) for count, logit in wrong if count != 0]
    top = chain.shift(f"T{tag}", [sp.S.Zero, *(logit for _, logit in [*wrong, *rest])])
    match = chain.let(f"w{tag}", sp.exp(-top))
    weights = [
        (count, chain.let(f"w{tag}_{i}", sp.exp(logit - top)))
        for i, (count, logit) in enumerate([*wrong, *rest])
    ]
    total = chain.let(f"Z{tag}", match + sp.Add(*(count * w for count, w in weights)))
    q = chain.let(f"q{tag}", match / total)
    votes = [
        (count, chain.let(f"y{tag}_{i}", XI * (chain.let(f"q{tag}_{i}", w / total) - q)))
        for i, (count, w) in enumerate(weights[: len(wrong)])
    ]
    if absent != 0:
        votes.append((absent, chain.let(f"y{tag}", -XI * q)))
    most = chain.shift(f"K{tag}", [sp.S.Zero, *(vote for _, vote in votes)])
    sums = [
        count * chain.let(f"p{tag}_{i}", sp.exp(vote - most))
        for i, (count, vote) in enumerate(votes)
    ]
    # log1p keeps the digits of a small loss
    odds = chain.let(f"S{tag}", expm1(-most) + sp.Add(*sums))
    return chain.let(f"l{tag}", most + log1p(odds))


class _Derivatives:
    """Derivatives along a chain, each named once and taken when first asked for."""

    def __init__(self, chain: Statement) -> None:
        self.chain = chain
        self.assignments = dict(chain.assignments)
        self.partials: dict[Expr, list[tuple[Expr, Expr]]] = {}
        self.known: dict[tuple[Expr, sp.Symbol], Expr] = {}

    def of(self, value: Expr, parameter: sp.Symbol, own: Expr | None = None) -> Expr:
        """Total derivative of an expression; `own` is its name, put back where it reappears."""
        if value not in self.partials:
            self.partials[value] = self._partials(value, {} if own is None else {value: own})
        terms = []
        for inner, partial in self.partials[value]:
            if isinstance(inner, sp.Sum):
                slope = self.of(inner.function, parameter)
                slope = slope if slope == 0 else sp.Sum(slope, *inner.limits)
            else:
                slope = self.by_name(inner, parameter)
            terms.append(partial * slope)
        return sp.Add(*terms)

    def _partials(self, value: Expr, shown: Mapping[Expr, Expr]) -> list[tuple[Expr, Expr]]:
        """Partial derivatives by the names and the sums that an expression is made of."""
        masks = {inner: sp.Dummy(real=True) for inner in value.atoms(sp.Sum)}
        outside = value.xreplace(masks)
        names = [
            name
            for name in _names(outside)
            if (name in self.assignments or name in PARAMETERS) and name not in self.chain.shifts
        ]
        # sympy takes indexed names apart when it differentiates by them
        masks |= {name: sp.Dummy(positive=True) for name in names}
        masked = value.xreplace(masks)
        back = {mask: inner for inner, mask in masks.items()}
        own = next(iter(shown.values()), None)
        if isinstance(own, sp.Indexed) and sp.denom(masked) != 1:
            # a share: by its logarithm, the derivative shows the share again
            logarithm = sp.expand_log(sp.log(masked), force=True)
            slopes = {mask: own * slope for mask, slope in _slopes(logarithm).items()}
        else:
            slopes = _slopes(masked)
        return [
            (inner, slopes[mask].xreplace(back).xreplace(shown))
            for mask, inner in back.items()
            if mask in slopes
        ]

    def by_name(self, name: Expr, parameter: sp.Symbol) -> Expr:
        """Derivative of a named assignment, itself a name unless it is a number."""
        if name in PARAMETERS:
            return sp.Integer(name == parameter)
        key = name, parameter
        if key not in self.known:
            if name in self.chain.shifts:
                return sp.S.Zero
            if name in self.chain.rules:
                value = self.chain.rules[name] if parameter == BETA1 else sp.S.Zero
            else:
                value = self.of(self.assignments[name], parameter, name)
            if not (value.is_number or value.is_Symbol):
                symbol = _derivative_name(name, parameter)
                self.assignments[symbol] = value
                value = symbol
            self.known[key] = value
        return self.known[key]


def _slopes(value: Expr) -> dict[sp.Dummy, Expr]:
    """Derivatives by all masks at once; sympy's own, one mask at a time, take most of a minute."""
    if isinstance(value, sp.Dummy):
        return {value: sp.S.One}
    if value.is_Add:
        terms: dict[sp.Dummy, list[Expr]] = {}
        for term in value.args:
            for mask, slope in _slopes(term).items():
                terms.setdefault(mask, []).append(slope)
        return {mask: sp.Add(*slopes) for mask, slopes in terms.items()}
    if value.is_Mul:
        products: dict[sp.Dummy, list[Expr]] = {}
        for i, factor in enumerate(value.args):
            rest = sp.Mul(*value.args[:i], *value.args[i + 1 :])
            for mask, slope in _slopes(factor).items():
                products.setdefault(mask, []).append(rest * slope)
        return {mask: sp.Add(*slopes) for mask, slopes in products.items()}
    if value.is_Pow and value.exp.is_number:
        outer = value.exp * value.base ** (value.exp - 1)
    elif len(value.args) == 1:
        outer = value.fdiff(1)
    else:
        return {mask: sp.diff(value, mask) for mask in value.atoms(sp.Dummy)}
    return {mask: outer * slope for mask, slope in _slopes(value.args[0]).items()}


def _derivative_name(name: Expr, parameter: sp.Symbol) -> Expr:
    """Name of a derivative: two underscores, then a letter for each parameter."""
    stem, _, letters = str(name.base if isinstance(name, sp.Indexed) else name).partition("__")
    text = f"{stem}__{letters}{LETTERS[parameter]}"
    if isinstance(name, sp.Indexed):
        return sp.IndexedBase(text, real=True)[name.indices]
    return sp.Symbol(text, real=True)


def needed(assignments: Mapping[Expr, Expr], results: Iterable[Expr]) -> Assignments:
    """The assignments that the results use, each after those that it uses."""
    ordered: dict[Expr, Expr] = {}
    stack = [(symbol, False) for value in results for symbol in _names(value)][::-1]
    while stack:
        symbol, ready = stack.pop()
        if symbol in ordered or symbol not in assignments:
            continue
        if ready:
            ordered[symbol] = assignments[symbol]
        else:
            stack.append((symbol, True))
            stack += [(inner, False) for inner in reversed(_names(assignments[symbol]))]
    return tuple(ordered.items())


def _names(value: Expr) -> list[sp.Symbol]:
    return sorted(value.free_symbols, key=str)


def loss(
    n_pairs: int | sp.Symbol = N,
    n_labels: int | sp.Symbol = L,
    positions: str = "exact",
    label_bias: float | str = 0.0,
) -> Formula:
    """The loss (nats); parameters and errors as `statement`, and N may be symbolic throughout."""
    return _differentiated("loss", n_pairs, n_labels, positions, label_bias)


def gradient(
    n_pairs: int | sp.Symbol = N,
    n_labels: int | sp.Symbol = L,
    positions: str = "exact",
    label_bias: float | str = 0.0,
) -> Formula:
    """Derivatives of the loss by theta, shape (p,); see `loss`."""
    return _differentiated("gradient", n_pairs, n_labels, positions, label_bias)


def hessian(
    n_pairs: int | sp.Symbol = N,
    n_labels: int | sp.Symbol = L,
    positions: str = "exact",
    label_bias: float | str = 0.0,
) -> Formula:
    """Second derivatives of the loss by theta, shape (p, p); see `loss`."""
    return _differentiated("hessian", n_pairs, n_labels, positions, label_bias)


def _differentiated(
    target: str,
    n_pairs: int | sp.Symbol,
    n_labels: int | sp.Symbol,
    positions: str,
    label_bias: float | str,
) -> Formula:
    n, labels, _ = check(n_pairs, n_labels, positions, label_bias)
    if positions == "exact" and n is N:
        return _indexed(target, labels, label_bias)
    return _result(target, statement(n_pairs, n_labels, positions, label_bias), (n, labels))


def _indexed(target: str, labels: Expr, label_bias: float | str) -> Formula:
    """Loss or derivatives for exact positions and a symbolic N: slots s and labels n as indices."""
    bias = BETA2 if label_bias == "free" else number(float(label_bias))
    s, n = sp.symbols("s n", integer=True, positive=True)
    m, k, i, z, q, e, f, r = (sp.IndexedBase(name, real=True) for name in "mkiZqefR")
    big = sp.Symbol("E", positive=True)
    later, items = (n, s + 1, N), (n, sp.Max(s, 2), N)
    chain = Statement(PARAMETERS[: 4 if label_bias == "free" else 3])
    chain.assignments = {
        big: sp.exp(BETA1),
        m[s]: big / (big + 2 * s - 1),
        k[n]: 1 / (big + 2 * n - 1),
        i[n]: 1 / (big + 2 * n - 2),
        z[s]: sp.exp(ALPHA * m[s] + bias)
        + (s - 1) * (sp.exp(bias) + 1)
        + sp.Sum(sp.exp(ALPHA * k[n] + bias), later)
        + sp.Sum(sp.exp(ALPHA * i[n]), items)
        + sp.KroneckerDelta(s, 1) * sp.exp(ALPHA)
        + sp.exp(2 * ALPHA / (big + 2 * N)),
        q[s]: sp.exp(ALPHA * m[s] + bias) / z[s],
        e[s]: sp.exp(bias) / z[s],
        f[s, n]: sp.exp(ALPHA * k[n] + bias) / z[s],
        r[s]: sp.exp(XI * q[s])
        + (s - 1) * sp.exp(XI * e[s])
        + sp.Sum(sp.exp(XI * f[s, n]), later)
        + (labels - N),
    }
    chain.loss = sp.Sum(sp.log(r[s]) - XI * q[s], (s, 1, N)) / N
    return _result(target, chain, (N, labels))


def _result(target: str, chain: Statement, counts: Sequence[Expr]) -> Formula:
    table = _Derivatives(chain)
    size = range(len(chain.parameters))
    result: Any = chain.loss
    if target != "loss":
        first = [table.of(chain.loss, p) for p in chain.parameters]
        result = tuple(first)
    if target == "hessian":
        upper = {
            (i, j): table.of(first[i], chain.parameters[j]) for i in size for j in size if j >= i
        }
        result = tuple(tuple(upper[min(i, j), max(i, j)] for j in size) for i in size)
    return Formula(
        target,
        {target: result},
        needed(table.assignments, [entry for _, entry in entries(result)]),
        tuple(symbol for symbol in counts if symbol in (N, L)),
        parameters=chain.parameters,
    )


def check(
    n_pairs: Any, n_labels: Any, positions: str, label_bias: Any, bounded: bool = True
) -> tuple[Expr, Expr, Expr]:
    """N, L and the label bias as expressions; `bounded` limits a concrete N for exact positions."""
    choice("positions", positions, ("exact", "mean"))
    n = N if n_pairs is N else sp.Integer(integer("n_pairs", n_pairs, 1))
    if n_labels is L or n_labels is N:
        labels = n_labels
    else:
        labels = sp.Integer(integer("n_labels", n_labels, 1))
        if n is not N and int(labels) < int(n):
            raise ArgumentError("n_labels", n_labels, f"must be at least the number of pairs, {n}")
    if bounded and positions == "exact" and n is not N and n > MOST_PAIRS:
        raise ArgumentError(
            "n_pairs", n_pairs, f"must be at most {MOST_PAIRS} with exact positions, or N"
        )
    if label_bias == "free":
        return n, labels, BETA2
    if isinstance(label_bias, str):
        raise ArgumentError("label_bias", label_bias, 'must be a number or "free"')
    return n, labels, number(real("label_bias", label_bias))


def number(value: float) -> Expr:
    return sp.Integer(int(value)) if value.is_integer() else sp.Float(repr(value), 17)


def series(
    n_pairs: int | sp.Symbol = N,
    n_labels: int | sp.Symbol = L,
    positions: str = "exact",
    label_bias: float | str = 0.0,
    degree: int = 3,
) -> Expr:
    """Taylor polynomial of the loss at the origin, with exact coefficients.

    Parameters
    ----------
    n_pairs, n_labels, positions, label_bias
        As `statement`: N may be symbolic in the mean field only.
    degree : int
        Highest total degree, at least 0; each one costs a derivative of every name.

    Raises
    ------
    ArgumentError
        If an argument is out of range.
    """
    highest = integer("degree", degree, 0)
    n, _, _ = check(n_pairs, n_labels, positions, label_bias)
    if positions == "exact" and n is N:
        raise ArgumentError("n_pairs", "N", "must be a number for a series with exact positions")
    chain = statement(n_pairs, n_labels, positions, label_bias)
    table = _Derivatives(chain)
    known: dict[Expr, Expr] = dict.fromkeys(PARAMETERS, sp.S.Zero)

    def value(expression: Expr) -> Expr:
        for name, content in needed(table.assignments, [expression]):
            if name not in known:
                known[name] = sp.factor(content.xreplace(known))
        return sp.factor(expression.xreplace(known).rewrite(sp.log))

    polynomial = value(chain.loss)
    level: dict[tuple[sp.Symbol, ...], Expr] = {(): chain.loss}
    for _ in range(highest):
        level = {
            (*by, parameter): table.of(slope, parameter)
            for by, slope in level.items()
            for parameter in chain.parameters
            # each mixed derivative once: the parameters in their order
            if not by or chain.parameters.index(parameter) >= chain.parameters.index(by[-1])
        }
        for by, slope in level.items():
            powers = Counter(by)
            weight = sp.Mul(*(p**k / sp.factorial(k) for p, k in powers.items()))
            polynomial += value(slope) * weight
    return polynomial
