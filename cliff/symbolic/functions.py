"""Softmax, log-sum-exp and cross entropy as SymPy functions that print to overflow-safe code.

Each takes logits z and, optionally, weights w: numbers of labels or tokens that share a logit.

    log_sum_exp(z, w)       log Σ w_i e^(z_i)
    softmax(z, w)           the shares w_i e^(z_i) / Σ w_j e^(z_j), which add up to 1
    cross_entropy(z, c, w)  log Σ w_i e^(z_i) − z_c

They stay one symbol each under differentiation, whose results are shares again, and print as NumPy
(`sympy.lambdify`) and as Python for numbers, which numba compiles: the largest logit is subtracted
in every exponential, a weight of 0 drops its term whatever its logit, and a small cross entropy
keeps its digits.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import sympy as sp
from sympy import Expr
from sympy.codegen.cfunctions import expm1, log1p
from sympy.core.function import ArgumentIndexError

from cliff.checks import ArgumentError, integer

__all__ = ["CrossEntropy", "LogSumExp", "Softmax", "cross_entropy", "log_sum_exp", "softmax"]


def log_sum_exp(logits: Sequence[Any], weights: Sequence[Any] | None = None) -> Expr:
    """log Σ w_i e^(z_i).

    Parameters
    ----------
    logits : sequence of expressions
    weights : sequence of expressions, optional
        At least 0, not all 0; 1 by default.

    Raises
    ------
    ArgumentError
        If there are no logits, or not as many weights as logits.

    Examples
    --------
    >>> x = sp.Symbol("x")
    >>> float(sp.lambdify(x, log_sum_exp([x, 0], [1, 7]))(1000.0))
    1000.0
    """
    return LogSumExp(*_interleaved(logits, weights))


def softmax(logits: Sequence[Any], weights: Sequence[Any] | None = None) -> tuple[Expr, ...]:
    """The shares w_i e^(z_i) / Σ w_j e^(z_j); parameters and errors as `log_sum_exp`."""
    terms = _interleaved(logits, weights)
    return tuple(Softmax(i, *terms) for i in range(len(terms) // 2))


def cross_entropy(
    logits: Sequence[Any], correct: int, weights: Sequence[Any] | None = None
) -> Expr:
    """log Σ w_i e^(z_i) − z_correct, in nats.

    Parameters
    ----------
    logits, weights
        As `log_sum_exp`.
    correct : int
        Index of the correct label's logit.

    Raises
    ------
    ArgumentError
        As `log_sum_exp`, or if no logit has the index.
    """
    terms = _interleaved(logits, weights)
    if integer("correct", correct, 0) >= len(terms) // 2:
        raise ArgumentError("correct", correct, f"must be below {len(terms) // 2}, the logits")
    return CrossEntropy(correct, *terms)


def _interleaved(logits: Sequence[Any], weights: Sequence[Any] | None) -> list[Expr]:
    """z_0, w_0, z_1, w_1, …: SymPy's functions take no lists."""
    given = [1] * len(logits) if weights is None else weights
    if not logits:
        raise ArgumentError("logits", logits, "must be at least one")
    if len(given) != len(logits):
        raise ArgumentError("weights", weights, f"must be {len(logits)}, one for each logit")
    return [sp.sympify(x, strict=True) for pair in zip(logits, given, strict=True) for x in pair]


class _Weighted(sp.Function):
    """A function of logits and weights, in turn; `n_leading` arguments stand before them."""

    n_leading = 0

    @property
    def terms(self) -> list[tuple[Expr, Expr]]:
        """(logit, weight) of every term."""
        rest = self.args[self.n_leading :]
        return list(zip(rest[::2], rest[1::2], strict=True))

    @property
    def flat(self) -> tuple[Expr, ...]:
        return tuple(self.args[self.n_leading :])

    def share(self, i: int) -> Expr:
        return Softmax(i, *self.flat)

    def others(self, k: int) -> Expr:
        """1 less a share, without cancellation: the sum of all other shares."""
        return sp.Add(*(self.share(i) for i in range(len(self.terms)) if i != k))

    def per_weight(self, i: int) -> Expr:
        """e^(z_i) / Σ w_j e^(z_j), the derivative of the log-sum-exp with respect to w_i."""
        return sp.exp(self.terms[i][0] - LogSumExp(*self.flat))

    def place(self, argindex: int) -> tuple[int, bool]:
        """Index of the term that an argument belongs to, and whether it is a logit."""
        place = argindex - 1 - self.n_leading
        if not 0 <= place < len(self.flat):
            raise ArgumentIndexError(self, argindex)
        return place // 2, place % 2 == 0

    def plain(self) -> Expr:
        """The definition, which overflows."""
        raise NotImplementedError

    def safe(self) -> Expr:
        """The same value in terms of `_Shift` and `_Term`."""
        raise NotImplementedError

    def _eval_evalf(self, precision: int) -> Expr:
        return self.plain()._eval_evalf(precision)

    def _latex(self, printer: Any, exp: str | None = None) -> str:
        text = printer._print(self.plain())
        return text if exp is None else rf"\left({text}\right)^{{{exp}}}"

    def _numpycode(self, printer: Any) -> str:
        return f"({printer._print(self.safe())})"

    _pythoncode = _numpycode


class LogSumExp(_Weighted):
    """log Σ w_i e^(z_i); see `log_sum_exp`."""

    def fdiff(self, argindex: int = 1) -> Expr:
        i, is_logit = self.place(argindex)
        return self.share(i) if is_logit else self.per_weight(i)

    def plain(self) -> Expr:
        return sp.log(sp.Add(*(w * sp.exp(z) for z, w in self.terms)))

    def safe(self) -> Expr:
        top = _shift(self.terms)
        return top + sp.log(_total(self.terms, top))


class Softmax(_Weighted):
    """The share of the term whose index is the first argument; see `softmax`."""

    n_leading = 1

    def fdiff(self, argindex: int = 2) -> Expr:
        (i, is_logit), k = self.place(argindex), int(self.args[0])
        if is_logit:
            return self * (self.others(k) if i == k else -self.share(i))
        own = self.per_weight(k) if i == k else 0
        return own - self * self.per_weight(i)

    def plain(self) -> Expr:
        z, w = self.terms[int(self.args[0])]
        return w * sp.exp(z) / sp.Add(*(v * sp.exp(y) for y, v in self.terms))

    def safe(self) -> Expr:
        z, w = self.terms[int(self.args[0])]
        top = _shift(self.terms)
        return _Term(w, z - top) / _total(self.terms, top)


class CrossEntropy(_Weighted):
    """Cross entropy of the label whose index is the first argument; see `cross_entropy`."""

    n_leading = 1

    def fdiff(self, argindex: int = 2) -> Expr:
        (i, is_logit), c = self.place(argindex), int(self.args[0])
        if is_logit:
            return -self.others(c) if i == c else self.share(i)
        return self.per_weight(i)

    def plain(self) -> Expr:
        z, _ = self.terms[int(self.args[0])]
        return sp.log(sp.Add(*(w * sp.exp(y - z) for y, w in self.terms)))

    def safe(self) -> Expr:
        c = int(self.args[0])
        correct, weight = self.terms[c]
        wrong = [(z - correct, w) for i, (z, w) in enumerate(self.terms) if i != c]
        top = _shift([(sp.S.Zero, sp.S.One), *wrong])
        extra = (weight - 1) * sp.exp(-top)
        return top + log1p(expm1(-top) + extra + _total(wrong, top))


def _shift(terms: Sequence[tuple[Expr, Expr]]) -> Expr:
    return _Shift(*(x for z, w in terms if w != 0 for x in (z, w)))


def _total(terms: Sequence[tuple[Expr, Expr]], top: Expr) -> Expr:
    return sp.Add(*(_Term(w, z - top) for z, w in terms))


class _Shift(_Weighted):
    """The largest logit whose weight is not 0; printed, never differentiated."""

    def _numpycode(self, printer: Any) -> str:
        return self._printed(
            printer, "numpy.maximum({}, {})", "numpy.where({} != 0, {}, -numpy.inf)"
        )

    def _pythoncode(self, printer: Any) -> str:
        return self._printed(printer, "max({}, {})", "({1} if {0} != 0 else -1e400)")

    def _printed(self, printer: Any, largest: str, guarded: str) -> str:
        found = None
        for z, w in self.terms:
            text = printer._print(z)
            if not w.is_nonzero:
                text = guarded.format(printer._print(w), text)
            found = text if found is None else largest.format(found, text)
        return found or "0"


class _Term(sp.Function):
    """w e^x, and 0 where w = 0; printed, never differentiated."""

    @classmethod
    def eval(cls, w: Expr, x: Expr) -> Expr | None:
        if w == 0:
            return sp.S.Zero
        return w * sp.exp(x) if w.is_nonzero else None

    def _numpycode(self, printer: Any) -> str:
        w, x = map(printer._print, self.args)
        return f"({w})*numpy.exp(numpy.where({w} != 0, {x}, -numpy.inf))"

    def _pythoncode(self, printer: Any) -> str:
        w, x = map(printer._print, self.args)
        return f"(({w})*math.exp({x}) if {w} != 0 else 0.0)"
