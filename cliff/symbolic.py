"""The nested-logit landscape as sympy expressions: the loss stated once, and what follows from it.

A `Formula` is a chain of named assignments that ends in one or more results, like the body of a
function. Derivatives are taken along the chain, name by name, so that every intermediate is written
once and a Hessian stays as readable, and as stable numerically, as the loss it comes from.

The loss is stated twice over, for two readers. `Statement` objects with a concrete number of pairs
(or the mean field, where N may be a symbol) shift every exponential by the largest logit, as the
compiled kernels do, and are what is printed as source code. With exact positions and a symbolic N
the slots and labels are indices of finite sums.

Formulas: Reddy (ICLR 2024, arXiv 2312.03002) for the three nested logits with exact positions; the
mean field is this project's own closed form in the spirit of the paper's.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import sympy as sp
from sympy import Expr
from sympy.codegen.cfunctions import expm1, log1p
from sympy.printing.latex import LatexPrinter
from sympy.printing.numpy import SciPyPrinter

from cliff.checks import ArgumentError, choice, integer, real
from cliff.valleys import VALLEYS, sink_counts

Assignments = tuple[tuple[Expr, Expr], ...]

BETA1, ALPHA, XI, BETA2 = PARAMETERS = sp.symbols("beta1 alpha xi beta2", real=True)
N, L = sp.symbols("N L", integer=True, positive=True)
T, DELTA, REACH = sp.symbols("t delta u_end", positive=True)

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
FORMATS = ("text", "latex", "python", "json")
MOST_PAIRS = 32
"""Largest concrete N for exact positions: the chain has of the order of N² assignments."""

_LETTERS = {BETA1: "b", ALPHA: "a", XI: "x", BETA2: "c"}


@dataclass(frozen=True)
class Formula:
    """Named assignments and the results that they lead to.

    Attributes
    ----------
    name : str
        Name of the function that the source code defines.
    results : mapping of str to expression or nested tuple of expressions
    assignments : tuple of (name, expression)
        In order: each expression uses parameters, arguments and earlier names only.
    arguments : tuple of Symbol
        Free symbols besides theta, such as N and L.
    takes_theta : bool
        Whether the source code's first argument is theta, shape (..., p).
    parameters : tuple of Symbol
        Components of theta.
    notes : tuple of str
        Sentences that belong to the result.
    """

    name: str
    results: Mapping[str, Any]
    assignments: Assignments = ()
    arguments: tuple[sp.Symbol, ...] = ()
    takes_theta: bool = True
    parameters: tuple[sp.Symbol, ...] = PARAMETERS[:3]
    notes: tuple[str, ...] = ()

    @cached_property
    def is_indexed(self) -> bool:
        """Whether names carry free indices, which source code cannot hold."""
        return any(not isinstance(name, sp.Symbol) for name, _ in self.assignments)

    def lines(self) -> list[tuple[str, Any]]:
        """(name, expression) of every assignment and result, in order."""
        return [*((sp.sstr(name), value) for name, value in self.assignments), *self.flat_results()]

    def flat_results(self) -> list[tuple[str, Expr]]:
        """The results with one name an entry, such as ``gradient[0]``."""
        return [
            (name + "".join(f"[{i}]" for i in index), entry)
            for name, value in self.results.items()
            for index, entry in _entries(value)
        ]

    def text(self) -> str:
        """One line ``name = expression`` an assignment, then the results and the notes."""
        lines = [f"{name} = {sp.sstr(value)}" for name, value in self.lines()]
        return "\n".join([*lines, *(f"# {note}" for note in self.notes)])

    def latex_lines(self) -> list[str]:
        """One equation a line, without mathematics delimiters."""
        lines = [f"{latex(name)} = {latex(value)}" for name, value in self.assignments]
        return lines + [f"{_result_latex(n)} = {latex(value)}" for n, value in self.flat_results()]

    def latex(self) -> str:
        """One display formula, $$...$$, a line; the notes stand below as text."""
        return "\n".join([*(f"$${line}$$" for line in self.latex_lines()), *self.notes])

    def json(self) -> str:
        """One JSON object: assignments and results, each as text and as LaTeX."""

        def both(value: Expr) -> dict[str, str]:
            return {"expression": sp.sstr(value), "latex": latex(value)}

        return json.dumps(
            {
                "name": self.name,
                "theta": [str(p) for p in self.parameters] if self.takes_theta else [],
                "arguments": [str(symbol) for symbol in self.arguments],
                "assignments": [
                    {"name": sp.sstr(name), **both(value)} for name, value in self.assignments
                ],
                "results": [{"name": n, **both(value)} for n, value in self.flat_results()],
                "notes": list(self.notes),
            }
        )

    def python(self) -> str:
        """Source of one function, runnable with NumPy (and SciPy where W or log-gamma occurs).

        A formula of theta takes theta, shape (..., p), and returns an array of shape (...) plus
        that of the result. Any other returns a dict of its results.

        Raises
        ------
        ArgumentError
            If slots are indices of a symbolic N.
        """
        if self.is_indexed:
            raise ArgumentError("n_pairs", "N", "must be a number for source code")
        printer = _SourcePrinter({"fully_qualified_modules": True})
        arguments = [str(symbol) for symbol in self.arguments]
        body = []
        if self.takes_theta:
            arguments.insert(0, "theta")
            body.append("theta = numpy.asarray(theta, dtype=numpy.float64)")
            body += [f"{p} = theta[..., {i}]" for i, p in enumerate(self.parameters)]
        body += [f"{name} = {printer.doprint(value)}" for name, value in self.assignments]
        if self.takes_theta:
            (result,) = self.results.values()
            if isinstance(result, tuple):
                shape = _shape(result)
                entries = [printer.doprint(entry) for _, entry in _entries(result)]
                body.append("entries = [")
                body += [f"    {entry}," for entry in entries]
                body.append("]")
                # constant entries have no batch axes of their own
                body.append("entries = [entry + 0 * theta[..., 0] for entry in entries]")
                body.append("stacked = numpy.stack(entries, axis=-1)")
                body.append(f"return stacked.reshape(stacked.shape[:-1] + {shape})")
            else:
                body.append(f"return {printer.doprint(result)} + 0 * theta[..., 0]")
        else:
            body.append("return {")
            body += [f"    {n!r}: {_source(printer, v)}," for n, v in self.results.items()]
            body.append("}")
        modules = sorted({"numpy"} | {m for m in printer.module_imports if m.startswith("scipy")})
        head = [f"import {module}" for module in modules]
        notes = [f"# {note}" for note in self.notes]
        signature = f"def {self.name}({', '.join(arguments)}):"
        return "\n".join([*head, "", "", *notes, signature, *(f"    {line}" for line in body), ""])

    def printed(self, form: str) -> str:
        """The formula in one of `FORMATS`."""
        return str(getattr(self, choice("format", form, FORMATS))())


# -- the statement of the loss ---------------------------------------------------------------------


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
        symbol = self.let(name, sp.Max(*values))
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
    n, labels, bias = _check(n_pairs, n_labels, positions, label_bias)
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
            slopes = {mask: own * sp.diff(logarithm, mask) for mask in back}
        else:
            slopes = {mask: sp.diff(masked, mask) for mask in back}
        partials = (
            (inner, slopes[mask].xreplace(back).xreplace(shown)) for mask, inner in back.items()
        )
        return [(inner, partial) for inner, partial in partials if partial != 0]

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


def _derivative_name(name: Expr, parameter: sp.Symbol) -> Expr:
    """Name of a derivative: two underscores, then a letter for each parameter."""
    stem, _, letters = str(name.base if isinstance(name, sp.Indexed) else name).partition("__")
    text = f"{stem}__{letters}{_LETTERS[parameter]}"
    if isinstance(name, sp.Indexed):
        return sp.IndexedBase(text, real=True)[name.indices]
    return sp.Symbol(text, real=True)


def _needed(assignments: Mapping[Expr, Expr], results: Iterable[Expr]) -> Assignments:
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
    n, labels, _ = _check(n_pairs, n_labels, positions, label_bias)
    if positions == "exact" and n is N:
        return _indexed(target, labels, label_bias)
    return _result(target, statement(n_pairs, n_labels, positions, label_bias), (n, labels))


def _indexed(target: str, labels: Expr, label_bias: float | str) -> Formula:
    """Loss or derivatives for exact positions and a symbolic N: slots s and labels n as indices."""
    bias = BETA2 if label_bias == "free" else _number(float(label_bias))
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
        _needed(table.assignments, [entry for _, entry in _entries(result)]),
        tuple(symbol for symbol in counts if symbol in (N, L)),
        parameters=chain.parameters,
    )


# -- what follows from it --------------------------------------------------------------------------


class WrightOmega(sp.Function):
    """omega(z) = W(e^z), Lambert's function without the overflow of e^z."""

    nargs = 1

    def _eval_rewrite_as_LambertW(self, z: Expr, **_: object) -> Expr:
        return sp.LambertW(sp.exp(z))

    def fdiff(self, argindex: int = 1) -> Expr:
        """omega/(1 + omega)."""
        return self / (1 + self)

    def _latex(self, printer: Any) -> str:
        return rf"\operatorname{{W}}\left(e^{{{printer.doprint(self.args[0])}}}\right)"


def origin(
    n_pairs: int | sp.Symbol = N,
    n_labels: int | sp.Symbol = L,
    positions: str = "exact",
    label_bias: float | str = 0.0,
) -> Formula:
    """Loss, gradient and Hessian at the origin (label bias 0 if free); parameters as `loss`."""
    n, labels, _ = _check(n_pairs, n_labels, positions, label_bias, bounded=False)
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
        _needed(dict(harmonics(n)), list(curvature)),
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
    n, labels, _ = _check(n_pairs, n_labels, positions, label_bias, bounded=False)
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
    n, labels, _ = _check(n_pairs, n_labels, positions, label_bias, bounded=False)
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
        (*_needed(dict(harmonics(n)), [rate]), (rho, sp.factor(rate))),
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

    For exact positions they are those of a label bias that stays finite.
    """
    n, labels, _ = _check(n_pairs, n_labels, positions, label_bias, bounded=False)
    losses = {
        "induction": sp.S.Zero,
        "shunned-match": sp.log(labels - n + 1),
        "early-labels": sp.loggamma(n + 1) / n,
        "early-labels-inverted": sp.loggamma(n + 1) / n,
        "plateau": sp.log(n),
    }
    if n is not N:
        terms = [sp.log(count + labels - n) for count in sink_counts(int(n))]
        losses["sink"] = sp.Add(*terms) / n
    known = [v for v in VALLEYS if positions in v.positions and v.name in losses]
    if n is not N and labels is not L:
        known = [v for v in known if v.exists(int(n), int(labels))]
    arrow = {1: "+∞", -1: "−∞", 0: "any"}
    notes = [
        f"{v.name}: (beta1, alpha, xi) → ({', '.join(arrow[d] for d in v.direction)}), "
        + ("attracts" if v.attracts else "does not attract")
        for v in known
    ]
    return Formula(
        "valleys",
        {v.name: losses[v.name] for v in known},
        arguments=_symbols(n, labels),
        takes_theta=False,
        notes=tuple(notes),
    )


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
    n, labels, _ = _check(n_pairs, n_labels, positions, label_bias, bounded=False)
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
            *_needed(dict(harmonics(n)), [alpha, beta]),
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


# -- arguments and printing ------------------------------------------------------------------------


def _check(
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
    return n, labels, _number(real("label_bias", label_bias))


def _no_free_bias(positions: str, label_bias: object) -> None:
    if positions == "exact" and label_bias == "free":
        raise ArgumentError("label_bias", "free", "must be a number for this result")


def _number(value: float) -> Expr:
    return sp.Integer(int(value)) if value.is_integer() else sp.Float(repr(value), 17)


def _symbols(*counts: Expr) -> tuple[sp.Symbol, ...]:
    return tuple(dict.fromkeys(symbol for symbol in counts if symbol in (N, L)))


def _uniform_attention(n: Expr, positions: str, label_bias: float | str) -> Expr:
    if positions == "mean":
        return 1 / n
    bias = sp.exp(_number(0.0 if label_bias == "free" else float(label_bias)))
    return bias / (n * bias + n + 1)


def _entries(value: Any, index: tuple[int, ...] = ()) -> list[tuple[tuple[int, ...], Expr]]:
    if isinstance(value, tuple):
        return [pair for i, entry in enumerate(value) for pair in _entries(entry, (*index, i))]
    return [(index, value)]


def _shape(value: Any) -> tuple[int, ...]:
    return (len(value), *_shape(value[0])) if isinstance(value, tuple) else ()


_GREEK = {
    "beta1": r"\beta_1",
    "alpha": r"\alpha",
    "xi": r"\xi",
    "beta2": r"\beta_2",
    "rho": r"\rho",
    "delta": r"\delta",
    "u_end": r"u_{\mathrm{end}}",
    "kappa_alpha": r"\kappa_\alpha",
    "kappa_beta": r"\kappa_\beta",
    "t_transition": r"t_{\mathrm{transition}}",
}


class _LatexPrinter(LatexPrinter):
    """Names with derivatives, q_3_5__ba, as ∂β₁ ∂α q₃,₅."""

    def _print_Symbol(self, expr: sp.Symbol, style: str = "plain") -> str:
        return _name_latex(expr.name)

    def _print_Indexed(self, expr: sp.Indexed) -> str:
        return _name_latex(str(expr.base), [self._print(index) for index in expr.indices])

    def _print_expm1(self, expr: Expr) -> str:
        return rf"\left(e^{{{self._print(expr.args[0])}}} - 1\right)"

    def _print_log1p(self, expr: Expr) -> str:
        return self._print(sp.log(1 + expr.args[0], evaluate=False))

    def _print_KroneckerDelta(self, expr: Expr, exp: str | None = None) -> str:
        return rf"[{self._print(expr.args[0])} = {self._print(expr.args[1])}]"


def _name_latex(name: str, indices: Sequence[str] = ()) -> str:
    stem, _, letters = name.partition("__")
    named = {letter: _GREEK[str(parameter)] for parameter, letter in _LETTERS.items()}
    derivatives = "".join(rf"\partial_{{{named[letter]}}} " for letter in letters)
    if stem in _GREEK:
        return derivatives + _GREEK[stem]
    base, *marks = stem.split("_")
    subscript = ",".join([*marks, *indices])
    return derivatives + base + (f"_{{{subscript}}}" if subscript else "")


def latex(value: Expr) -> str:
    """LaTeX of an expression, with this module's names spelled as in the pages."""
    return str(_LatexPrinter({"ln_notation": False}).doprint(value))


def _result_latex(name: str) -> str:
    stem, bracket, rest = name.partition("[")
    indices = rest.rstrip("]").split("][") if bracket else []
    if stem in ("gradient", "hessian"):
        by = [_GREEK[str(PARAMETERS[int(index)])] for index in indices]
        return "".join(rf"\partial_{{{parameter}}} " for parameter in by) + r"\mathrm{loss}"
    known = _GREEK.get(stem) or r"\mathrm{" + re.sub("[-_]", r"\\ ", stem) + "}"
    return known + (f"_{{{','.join(indices)}}}" if bracket else "")


class _SourcePrinter(SciPyPrinter):
    """NumPy source in which constants and batches mix."""

    def _print_Max(self, expr: Expr) -> str:
        first, *others = (self._print(argument) for argument in expr.args)
        for argument in others:
            first = f"numpy.maximum({first}, {argument})"
        return first

    def _print_Sum(self, expr: sp.Sum) -> str:
        ((index, first, last),) = expr.limits
        return (
            f"sum({self._print(expr.function)} "
            f"for {index} in range({self._print(first)}, {self._print(last)} + 1))"
        )

    def _print_Pi(self, expr: Expr) -> str:
        return "numpy.pi"

    def _print_WrightOmega(self, expr: Expr) -> str:
        self.module_imports["scipy.special"].add("wrightomega")
        return f"scipy.special.wrightomega({self._print(expr.args[0])})"

    def _print_loggamma(self, expr: Expr) -> str:
        self.module_imports["scipy.special"].add("gammaln")
        return f"scipy.special.gammaln({self._print(expr.args[0])})"


def _source(printer: _SourcePrinter, value: Any) -> str:
    if isinstance(value, tuple):
        return "[" + ", ".join(_source(printer, entry) for entry in value) + "]"
    return str(printer.doprint(value))
