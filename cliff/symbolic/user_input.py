"""What a user states about a landscape: expressions and relations, checked before anything else."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import sympy as sp
from sympy import Basic, Expr
from sympy.core.relational import _Inequality
from sympy.logic.boolalg import BooleanAtom

from cliff.checks import ArgumentError
from cliff.symbolic.data import NotData, to_table


def real_expression(argument: str, value: Any, symbols: Mapping[str, sp.Symbol]) -> Expr:
    """A real expression of the symbols, which are put in the place of others of their names."""
    try:
        expression = sp.sympify(value, strict=True)  # strict: text is refused, not evaluated
    except sp.SympifyError:
        expression = None
    if not isinstance(expression, Expr) or expression.is_Matrix:
        raise ArgumentError(argument, value, "must be a SymPy expression or a number")
    placed = _named(argument, expression, symbols)
    if placed.is_extended_real is False:
        raise ArgumentError(argument, value, "is not real")
    _check_heads(argument, placed)
    return placed


def inequality(name: str, value: Any, symbols: Mapping[str, sp.Symbol]) -> Basic:
    """An inequality between real expressions, as `real_expression`; its truth depends on theta."""
    if not isinstance(value, _Inequality):
        decided = (
            ", and this is so or not whatever theta"
            if isinstance(value, bool | BooleanAtom)
            else ""
        )
        raise ArgumentError(name, value, f"must be an inequality such as loss <= 0.25{decided}")
    placed = _named(name, value, symbols)
    if not isinstance(placed, _Inequality):
        raise ArgumentError(name, value, "is so or not whatever theta")
    _check_heads(name, placed)
    return placed


def _named(argument: str, expression: Basic, symbols: Mapping[str, sp.Symbol]) -> Any:
    unknown = sorted(
        {s.name for s in expression.free_symbols if getattr(s, "name", s) not in symbols}
    )
    if unknown:
        known = ", ".join(symbols) or "none"
        raise ArgumentError(
            argument, expression, f"{unknown[0]} is not one of its symbols, {known}"
        )
    return expression.xreplace(
        {s: symbols[s.name] for s in expression.free_symbols if s != symbols[s.name]}
    )


def _check_heads(argument: str, expression: Basic) -> None:
    try:
        to_table([expression])
    except NotData as error:
        raise ArgumentError(argument, expression, str(error)) from error


def smooth(expression: Expr) -> Expr:
    """Put |f| and sign(f) in terms that SymPy differentiates without knowing that f is real."""
    x = sp.Dummy(real=True)
    return expression.replace(
        lambda e: isinstance(e, sp.Abs | sp.sign) and not e.args[0].is_extended_real,
        lambda e: (
            sp.Max(x, -x, evaluate=False) if isinstance(e, sp.Abs) else 2 * sp.Heaviside(x) - 1
        ).subs(x, e.args[0]),
    )
