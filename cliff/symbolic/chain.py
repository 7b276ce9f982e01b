"""The loss as a chain of named assignments, and its derivatives along the chain."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import combinations_with_replacement
from typing import Any

import sympy as sp
from sympy import Expr
from sympy.codegen.cfunctions import expm1, log1p

from cliff.checks import ArgumentError, integer
from cliff.symbolic.formula import (
    ALPHA,
    BETA1,
    LETTERS,
    PARAMETERS,
    XI,
    Assignments,
    Formula,
    L,
    N,
    Setting,
    entries,
    of_setting,
)

MOST_PAIRS = 32
"""Largest concrete N for exact positions. The chain grows like N²: here the Hessian has 27,000
assignments and takes some 20 s to print."""

SHIFTED = {
    "M": "the larger of beta1 and 0; M, T and K only keep exponentials from overflowing",
    "E": "exp(beta1 - M)",
    "I": "exp(-M)",
    "u": "u_k: layer-1 attention to the previous token, beside k others",
    "v": "v_k: layer-1 attention to each of those k others",
    "d": "layer-2 logit of token i less the correct label's: d_s_i if slot s is the match",
    "T": "largest of 0 and all d",
    "w": "exp(d - T); w_s belongs to the correct label, whose d is 0",
    "Z": "sum of all w",
    "q": "layer-2 attention: q_s to the correct label, q_s_i to the wrong label i",
    "y": "classifier's logit less the correct label's: y_s_i of wrong label i, y_s if absent",
    "K": "largest of 0 and all y",
    "p": "exp(y - K)",
    "S": "sum of exp(-K) and of p over all labels, less 1",
    "l": "loss of slot s",
}
"""Names of the shifted chain. In the mean field there is one slot, whose tag _s is left out."""

INDEXED = {
    "s": "slot of the pair that matches the target",
    "n": "pair of a label or an item",
    "E": "exp(beta1)",
    "m": "overlap of the correct label's buffer with the target if slot s is the match",
    "k": "overlap of a later label n",
    "i": "overlap of item n, at or after the match",
    "Z": "normaliser of layer 2's attention",
    "q": "layer-2 attention to the correct label",
    "e": "layer-2 attention to each label before the match",
    "f": "layer-2 attention to the label n after the match",
    "R": "normaliser of the prediction",
}
"""Names of the chain with slots s and labels n as indices of sums."""


@dataclass
class Statement:
    """The loss as a chain of named assignments, with the rules to differentiate it.

    Attributes
    ----------
    setting : Setting
        The landscape.
    assignments : dict
        Name → expression, in order.
    rules : dict
        Name → its derivative by beta1, written out where the quotient rule would lose digits to
        cancellation.
    shifts : set of Symbol
        Names that keep exponentials from overflowing and cancel in the loss: their derivative is
        taken as zero.
    loss : Expr
        The loss in terms of the names.
    """

    setting: Setting
    assignments: dict[Expr, Expr] = field(default_factory=dict)
    rules: dict[Expr, Expr] = field(default_factory=dict)
    shifts: set[Expr] = field(default_factory=set)
    loss: Expr = sp.S.Zero

    def let(self, name: str, value: Expr) -> Expr:
        """Assign an expression to a name and return the name; numbers and names are returned."""
        if value.is_number or value.is_Symbol:
            return value
        symbol = sp.Symbol(name, real=True)
        self.assignments[symbol] = value
        return symbol

    def shift(self, name: str, values: Iterable[Expr]) -> Expr:
        """Assign the largest of some logits to a name and return the name."""
        # evaluate=False: sympy would compare every pair, for minutes at the largest N
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
    """The loss with the largest logit subtracted in every exponential, so that none overflows.

    Parameters
    ----------
    n_pairs, n_labels, positions, label_bias
        As `Setting`; N may be a symbol in the mean field only.

    Raises
    ------
    ArgumentError
        If an argument is out of range.
    """
    return _shifted(_bounded(Setting(n_pairs, n_labels, positions, label_bias), symbol=False))


def _bounded(setting: Setting, symbol: bool = True) -> Setting:
    """Refuse what is too long, with exact positions: N > `MOST_PAIRS` and, unless allowed, N."""
    if setting.positions == "mean":
        return setting
    if setting.n == N and not symbol:
        raise ArgumentError("n_pairs", "N", "must be a number with exact positions")
    if setting.n != N and setting.n > MOST_PAIRS:
        raise ArgumentError(
            "n_pairs", setting.n_pairs, f"must be at most {MOST_PAIRS} with exact positions, or N"
        )
    return setting


def _shifted(setting: Setting) -> Statement:
    n, bias = setting.n, setting.bias
    chain = Statement(setting)
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

    absent = setting.labels - n
    if setting.positions == "mean":
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
    """−log softmax(xi·q)[correct] of one slot.

    `wrong` and `rest` list (count, layer-2 logit) of the wrong labels and of all other tokens;
    `absent` labels are not in the context.
    """
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
    """Derivatives along a chain: each is computed at its first use and gets a name."""

    def __init__(self, chain: Statement) -> None:
        self.chain = chain
        self.assignments = dict(chain.assignments)
        self.partials: dict[Expr, list[tuple[Expr, Expr]]] = {}
        self.known: dict[tuple[Expr, sp.Symbol], Expr] = {}

    def of(self, value: Expr, parameter: sp.Symbol, own: Expr | None = None) -> Expr:
        """Total derivative of an expression; `own` names the expression where it reappears."""
        if value not in self.partials:
            self.partials[value] = self._partials(value, own)
        terms = []
        for inner, partial in self.partials[value]:
            if isinstance(inner, sp.Sum):
                slope = self.of(inner.function, parameter)
                slope = slope if slope == 0 else sp.Sum(slope, *inner.limits)
            else:
                slope = self.by_name(inner, parameter)
            terms.append(partial * slope)
        return sp.Add(*terms)

    def _partials(self, value: Expr, own: Expr | None) -> list[tuple[Expr, Expr]]:
        """Partial derivatives of an expression with respect to the names and sums in it."""
        masks = {inner: sp.Dummy(real=True) for inner in value.atoms(sp.Sum)}
        outside = value.xreplace(masks)
        names = [
            name
            for name in _names(outside)
            if (name in self.assignments or name in PARAMETERS) and name not in self.chain.shifts
        ]
        # masked, since sympy does not differentiate with respect to indexed names as a whole
        masks |= {name: sp.Dummy(positive=True) for name in names}
        masked = value.xreplace(masks)
        back = {mask: inner for inner, mask in masks.items()}
        if isinstance(own, sp.Indexed) and sp.denom(masked) != 1:
            # a share: the derivative of its logarithm leaves the share itself as a factor
            logarithm = sp.expand_log(sp.log(masked), force=True)
            slopes = {mask: own * slope for mask, slope in _slopes(logarithm).items()}
        else:
            slopes = _slopes(masked)
        return [
            (inner, slopes[mask].xreplace(back).xreplace({} if own is None else {value: own}))
            for mask, inner in back.items()
            if mask in slopes
        ]

    def by_name(self, name: Expr, parameter: sp.Symbol) -> Expr:
        """Derivative of a named assignment; a name in turn, unless it is a number."""
        if name in PARAMETERS:
            return sp.Integer(name == parameter)
        key = name, parameter
        if key not in self.known:
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
    """Derivatives with respect to all masks in one pass; one `sp.diff` a mask takes a minute."""
    if isinstance(value, sp.Dummy):
        return {value: sp.S.One}
    if value.is_Add or value.is_Mul:
        terms: dict[sp.Dummy, list[Expr]] = {}
        for i, part in enumerate(value.args):
            factors = () if value.is_Add else (*value.args[:i], *value.args[i + 1 :])
            for mask, slope in _slopes(part).items():
                terms.setdefault(mask, []).append(sp.Mul(*factors) * slope)
        return {mask: sp.Add(*slopes) for mask, slopes in terms.items()}
    if value.is_Pow and value.exp.is_number:
        outer = value.exp * value.base ** (value.exp - 1)
    elif len(value.args) == 1:
        outer = value.fdiff(1)
    else:
        return {mask: sp.diff(value, mask) for mask in value.atoms(sp.Dummy)}
    return {mask: outer * slope for mask, slope in _slopes(value.args[0]).items()}


def _derivative_name(name: Expr, parameter: sp.Symbol) -> Expr:
    """Name of a derivative: two underscores, then one of `LETTERS` for each parameter."""
    stem, _, letters = str(name.base if isinstance(name, sp.Indexed) else name).partition("__")
    text = f"{stem}__{letters}{LETTERS[parameter]}"
    if isinstance(name, sp.Indexed):
        return sp.IndexedBase(text, real=True)[name.indices]
    return sp.Symbol(text, real=True)


def needed(assignments: Mapping[Expr, Expr], results: Iterable[Expr]) -> Assignments:
    """The assignments on which the results depend, in an order in which they can be computed."""
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


@of_setting
def loss(setting: Setting) -> Formula:
    """The loss (nats); with exact positions N is a symbol or at most `MOST_PAIRS`."""
    return _differentiated("loss", setting)


@of_setting
def gradient(setting: Setting) -> Formula:
    """Gradient of the loss with respect to theta, shape (p,); see `loss`."""
    return _differentiated("gradient", setting)


@of_setting
def hessian(setting: Setting) -> Formula:
    """Hessian of the loss with respect to theta, shape (p, p); see `loss`."""
    return _differentiated("hessian", setting)


def _differentiated(target: str, setting: Setting) -> Formula:
    is_indexed = setting.positions == "exact" and setting.n == N
    chain = _indexed(setting) if is_indexed else _shifted(_bounded(setting))
    table = _Derivatives(chain)
    parameters = setting.parameters
    result: Any = chain.loss
    if target != "loss":
        result = tuple(table.of(chain.loss, p) for p in parameters)
    if target == "hessian":
        size = range(len(parameters))
        result = tuple(
            tuple(table.of(result[min(i, j)], parameters[max(i, j)]) for j in size) for i in size
        )
    assignments = needed(table.assignments, [entry for _, entry in entries(result)])
    meanings = INDEXED if is_indexed else SHIFTED
    return Formula(target, setting, {target: result}, assignments, meanings=meanings)


def _indexed(setting: Setting) -> Statement:
    """The loss for exact positions and a symbolic N: slots s and labels n as indices of sums."""
    bias, labels = setting.bias, setting.labels
    s, n = sp.symbols("s n", integer=True, positive=True)
    m, k, i, z, q, e, f, r = (sp.IndexedBase(name, real=True) for name in "mkiZqefR")
    big = sp.Symbol("E", positive=True)
    later, items = (n, s + 1, N), (n, sp.Max(s, 2), N)
    chain = Statement(setting)
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
    return chain


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
        Highest total degree, at least 0. Each degree costs a derivative of every assignment.

    Raises
    ------
    ArgumentError
        If an argument is out of range.
    """
    highest = integer("degree", degree, 0)
    chain = statement(n_pairs, n_labels, positions, label_bias)
    table = _Derivatives(chain)
    known: dict[Expr, Expr] = dict.fromkeys(PARAMETERS, sp.S.Zero)

    def value(expression: Expr) -> Expr:
        for name, content in needed(table.assignments, [expression]):
            if name not in known:
                known[name] = sp.factor(content.xreplace(known))
        return sp.factor(expression.xreplace(known).rewrite(sp.log))

    slopes: dict[tuple[sp.Symbol, ...], Expr] = {(): chain.loss}
    polynomial = value(chain.loss)
    for order in range(1, highest + 1):
        for by in combinations_with_replacement(chain.setting.parameters, order):
            slopes[by] = table.of(slopes[by[:-1]], by[-1])
            powers = Counter(by).items()
            polynomial += value(slopes[by]) * sp.Mul(*(p**k / sp.factorial(k) for p, k in powers))
    return polynomial
