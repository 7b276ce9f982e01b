"""softmax, log_sum_exp and cross_entropy as SymPy functions that compile to overflow-safe code.

All three take logits z_j and weights w_j, the number of classes that share a logit:

    log_sum_exp      log Σ_j w_j exp(z_j)
    softmax          exp(z_i) / Σ_j w_j exp(z_j), the probability of one of the classes with logit i
    cross_entropy    log_sum_exp − z_c, for one correct class among those with logit c

A weight is a number of at least 0 or an expression, such as N − 1 for a constant N. Where it is 0
its term drops out, even if its logit is the largest or infinite, and the softmax of its index is 0.
Compiled code shifts the logits by the largest that has a weight.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import sympy as sp
from sympy import Expr, Tuple
from sympy.core.cache import cacheit

from cliff.checks import ArgumentError


def log_sum_exp(logits: Iterable[Any], weights: Iterable[Any] | None = None) -> Expr:
    """Logarithm of the weighted sum of exponentials, log Σ_j w_j exp(z_j).

    Parameters
    ----------
    logits : sequence of expressions
    weights : sequence of expressions, optional
        Number of classes with each logit, at least 0; by default 1 each.

    Returns
    -------
    sympy.Expr

    Raises
    ------
    ArgumentError
        If there are no logits, or the weights are not as many, one is negative or all are 0.

    Examples
    --------
    >>> x = sp.Symbol("x")
    >>> log_sum_exp([x, 0]).diff(x)
    Softmax((x, 0), (1, 1), 0)
    """
    return LogSumExp(*_logits(logits, weights))


def softmax(
    logits: Iterable[Any], index: int | None = None, weights: Iterable[Any] | None = None
) -> Any:
    """Probability of one class, exp(z_i) / Σ_j w_j exp(z_j); without an index, a tuple of all.

    Parameters
    ----------
    logits, weights : sequences of expressions
        As for `log_sum_exp`.
    index : int, optional
        Which logit i, from 0.

    Returns
    -------
    sympy.Expr or tuple of sympy.Expr

    Raises
    ------
    ArgumentError
        As `log_sum_exp`, or if there is no such index.
    """
    z, w = _logits(logits, weights)
    if index is None:
        return tuple(Softmax(z, w, i) for i in range(len(z)))
    return Softmax(z, w, _index("index", index, len(z)))


def cross_entropy(
    logits: Iterable[Any], correct: int, weights: Iterable[Any] | None = None
) -> Expr:
    """Negative logarithm of the softmax of the correct class (nats); small losses keep digits.

    Parameters
    ----------
    logits, weights : sequences of expressions
        As for `log_sum_exp`; the weight of the correct logit is at least 1.
    correct : int
        Index of the correct class's logit, from 0.

    Returns
    -------
    sympy.Expr

    Raises
    ------
    ArgumentError
        As `log_sum_exp`, or if there is no such index.

    Examples
    --------
    >>> xi, L = sp.symbols("xi L")
    >>> cross_entropy([xi, 0], 0, weights=[1, L - 1]).doit()
    -xi + log(L + exp(xi) - 1)
    """
    z, w = _logits(logits, weights)
    return CrossEntropy(z, w, _index("correct", correct, len(z)))


def _logits(logits: Any, weights: Any) -> tuple[Tuple, Tuple]:
    z = _expressions("logits", logits)
    w = Tuple(*[1] * len(z)) if weights is None else _expressions("weights", weights)
    if len(w) != len(z):
        raise ArgumentError("weights", weights, f"must be as many as the logits, {len(z)}")
    if any(weight.is_negative for weight in w):
        raise ArgumentError("weights", weights, "must not be negative")
    if all(weight.is_zero for weight in w):
        raise ArgumentError("weights", weights, "must not all be 0")
    return z, w


def _expressions(argument: str, values: Any) -> Tuple:
    """The values as expressions. A string is refused: SymPy would evaluate it as code."""
    if isinstance(values, str) or not isinstance(values, Iterable):
        raise ArgumentError(argument, values, "must be a sequence of expressions")
    values = list(values)
    if not values:
        raise ArgumentError(argument, values, "must not be empty")
    try:
        converted = [sp.sympify(value, strict=True) for value in values]
    except sp.SympifyError:
        converted = [None]
    if not all(isinstance(value, Expr) for value in converted):
        raise ArgumentError(argument, values, "must be expressions or numbers")
    return Tuple(*converted)


def _index(argument: str, value: Any, count: int) -> int:
    if isinstance(value, bool) or not isinstance(value, int | sp.Integer):
        raise ArgumentError(argument, value, "must be an integer")
    if not 0 <= value < count:
        raise ArgumentError(argument, value, f"must be from 0 to {count - 1}")
    return int(value)


class OfLogits(Expr):
    """An expression of logits and weights, args (z, w) or (z, w, index)."""

    def __new__(cls, z: Any, w: Any, *index: Any) -> OfLogits:
        if len(z) != len(w) or not all(0 <= i < len(z) for i in index):
            raise ValueError("as many weights as logits, and an index of one of them")
        return Expr.__new__(cls, Tuple(*z), Tuple(*w), *map(sp.Integer, index))

    @property
    def z(self) -> Tuple:
        return self.args[0]

    @property
    def w(self) -> Tuple:
        return self.args[1]

    def _eval_is_extended_real(self) -> bool | None:
        return True if all(x.is_extended_real for x in (*self.z, *self.w)) else None

    def _eval_evalf(self, prec: int) -> Expr:
        return self.doit()._eval_evalf(prec)

    @cacheit
    def _eval_derivative(self, symbol: sp.Symbol) -> Expr:
        return self.slope(lambda part: part.diff(symbol))

    def slope(self, of: Callable[[Expr], Expr]) -> Expr:
        """Derivative from those of the logits and weights."""
        by_w = [(j, of(w)) for j, w in enumerate(self.w)]
        by_z = self._along([of(z) for z in self.z])
        return by_z + sp.Add(*(self._by_weight(j) * slope for j, slope in by_w if slope != 0))

    def _along(self, slopes: list[Expr]) -> Expr:
        """Derivative if the logits have these derivatives."""
        raise NotImplementedError

    def _by_weight(self, j: int) -> Expr:
        raise NotImplementedError

    def doit(self, **hints: Any) -> Expr:
        """Write out in exp and log."""
        raise NotImplementedError

    def _softmax(self, j: int) -> Softmax:
        return Softmax(self.z, self.w, j)

    def _sum(self) -> Expr:
        return sp.Add(*(w * sp.exp(z) for z, w in zip(self.z, self.w, strict=True)))

    def _mean_difference(self, i: int, slopes: list[Expr]) -> Expr:
        """Σ_j w_j p_j (slope_j − slope_i): nothing cancels where one class has it all."""
        pairs = [(j, slope - slopes[i]) for j, slope in enumerate(slopes) if j != i]
        return sp.Add(*(self.w[j] * self._softmax(j) * d for j, d in pairs if d != 0))


class LogSumExp(OfLogits):
    """`log_sum_exp` as an expression: args are logits, weights."""

    def _along(self, slopes: list[Expr]) -> Expr:
        terms = (self.w[j] * self._softmax(j) * d for j, d in enumerate(slopes) if d != 0)
        return sp.Add(*terms)

    def _by_weight(self, j: int) -> Expr:
        return self._softmax(j)

    def doit(self, **hints: Any) -> Expr:
        return sp.log(self._sum())


class Softmax(OfLogits):
    """`softmax` as an expression: args are logits, weights, index."""

    def _along(self, slopes: list[Expr]) -> Expr:
        return -self * self._mean_difference(int(self.args[2]), slopes)

    def _by_weight(self, j: int) -> Expr:
        return -self * self._softmax(j)

    def doit(self, **hints: Any) -> Expr:
        i = int(self.args[2])
        return sp.S.Zero if self.w[i].is_zero else sp.exp(self.z[i]) / self._sum()


class CrossEntropy(OfLogits):
    """`cross_entropy` as an expression: args are logits, weights, index."""

    def _along(self, slopes: list[Expr]) -> Expr:
        return self._mean_difference(int(self.args[2]), slopes)

    def _by_weight(self, j: int) -> Expr:
        return self._softmax(j)

    def doit(self, **hints: Any) -> Expr:
        return sp.log(self._sum()) - self.z[int(self.args[2])]
