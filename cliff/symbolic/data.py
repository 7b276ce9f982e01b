"""Expressions as data: a table of nodes that JSON can hold, read back without evaluating text.

A node is the name of a symbol, a whole number, or a list of a head and its arguments. Arguments are
the numbers of earlier nodes, so that a subexpression stands in the table once; those of "Rational"
and "Float" are whole numbers, and exact. Only the heads in `HEADS` are written or read.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import sympy as sp
from sympy import Basic

from cliff.checks import shorten
from cliff.symbolic.functions import CrossEntropy, LogSumExp, Softmax
from cliff.symbolic.source import FUNCTIONS

_CONSTANTS = {"pi": sp.pi, "E": sp.E, "EulerGamma": sp.EulerGamma, "true": sp.true}
_OPERATIONS: tuple[type[Basic], ...] = (
    sp.Add, sp.Mul, sp.Pow, sp.Abs, sp.sign, sp.Max, sp.Min, sp.Heaviside, sp.Piecewise,
    sp.StrictGreaterThan, sp.StrictLessThan, sp.GreaterThan, sp.LessThan, sp.And, sp.Or, sp.Not,
)  # fmt: skip
_PLAIN = (
    sp.functions.elementary.piecewise.ExprCondPair,
    sp.Tuple,
    LogSumExp,
    Softmax,
    CrossEntropy,
)
HEADS = {head.__name__: head for head in (*FUNCTIONS, *_OPERATIONS, *_PLAIN)}
"""Everything that an expression may be made of, besides symbols, numbers, pi, E and EulerGamma."""

LARGEST = 100_000
"""Limit on the size of a read expression written out, and on the bits of a number within it."""


DEEPEST = 250
"""Limit on the nesting of a read expression, which SymPy walks recursively."""


class NotData(ValueError):
    """An expression or table with a part that is not on the list; the message names it."""


def to_table(roots: Sequence[Basic]) -> tuple[list[Any], list[int]]:
    """Nodes of the expressions, and the number of each expression's own node.

    Raises
    ------
    NotData
        If a part of an expression is not on the list.
    """
    table: list[Any] = []
    numbers: dict[Basic, int] = {}

    def number(expression: Basic) -> int:
        if expression not in numbers:
            node = _leaf(expression)
            if node is None:
                head = type(expression).__name__
                if HEADS.get(head) is not type(expression):
                    raise NotData(f"{head} has no compiled form")
                node = [head, *map(number, expression.args)]
            table.append(node)
            numbers[expression] = len(table) - 1
        return numbers[expression]

    return table, [number(root) for root in roots]


def _leaf(expression: Basic) -> Any:
    """The node of an expression without arguments; None if it has some."""
    if isinstance(expression, sp.Symbol):
        return expression.name
    for name, constant in _CONSTANTS.items():
        if expression is constant:
            return [name]
    if isinstance(expression, sp.Number):
        if not expression.is_finite or _too_large(expression):
            raise NotData(f"{shorten(expression)} is not a finite float64")
        if isinstance(expression, sp.Float):
            sign, mantissa, exponent, _ = expression._mpf_
            return ["Float", int(-mantissa if sign else mantissa), int(exponent), expression._prec]
        p, q = expression.as_numer_denom()
        return int(p) if q == 1 else ["Rational", int(p), int(q)]
    if expression is sp.I:
        raise NotData("it is not real")
    if not expression.args:
        raise NotData(f"{shorten(expression)} has no compiled form")
    return None


def _too_large(number: sp.Number) -> bool:
    try:
        return math.isinf(float(number))
    except OverflowError:
        return True


def from_table(table: Any, roots: Any, symbols: Mapping[str, sp.Symbol]) -> list[Basic]:
    """Expressions of a table, as they were: nothing is evaluated, and no name is looked up.

    Parameters
    ----------
    table, roots : lists
        As from `to_table`.
    symbols : mapping of str to Symbol
        The symbols that the expressions may have.

    Raises
    ------
    NotData
        If a node is not of the form above, unknown, or stands for too large an expression.
    """
    if not isinstance(table, list) or not isinstance(roots, list):
        raise NotData("expressions must be a table of nodes")
    built: list[tuple[Basic, int, int]] = []  # expression, its size, bits if it is a number
    depths: list[int] = []
    for node in table:
        built.append(_read(node, built, symbols))
        if max(built[-1][1:]) > LARGEST:
            raise NotData("an expression is too large")
        # the numbers in leaves are others than those of nodes
        inner = node[1:] if isinstance(node, list) and node[0] in HEADS else []
        depths.append(1 + max((depths[index] for index in inner), default=0))
        if depths[-1] > DEEPEST:
            raise NotData("an expression is nested too deeply")
    return [built[_earlier(root, built)][0] for root in roots]


def _earlier(index: Any, built: Sequence[Any]) -> int:
    if type(index) is not int or not 0 <= index < len(built):
        raise NotData(f"{index!r:.40} is not the number of an earlier node")
    return index


def _read(
    node: Any, built: Sequence[tuple[Basic, int, int]], symbols: Mapping[str, sp.Symbol]
) -> tuple[Basic, int, int]:
    if isinstance(node, str) and node in symbols:
        return symbols[node], 1, 0
    if type(node) is int:
        return _number(sp.Integer(node))
    if not (isinstance(node, list) and node and isinstance(node[0], str)):
        raise NotData(f"unknown node {node!r:.40}")
    head, *arguments = node
    if head in _CONSTANTS and not arguments:
        return _CONSTANTS[head], 1, 1
    if head in ("Rational", "Float"):
        return _number(_read_number(head, arguments))
    if head not in HEADS:
        raise NotData(f"unknown node {node!r:.40}")
    parts = [built[_earlier(index, built)] for index in arguments]
    expressions = [part[0] for part in parts]
    bits = sum(part[2] for part in parts) if all(part[2] for part in parts) else 0
    if head == "Pow" and bits:  # a power of numbers, which SymPy would multiply out
        exponent, exponent_bits = parts[-1][0], parts[-1][2]
        growth = abs(float(exponent)) if exponent.is_Number else 2.0 ** min(exponent_bits, 64)
        bits = math.ceil(parts[0][2] * max(growth, 1.0))
    evaluate = {} if HEADS[head] in _PLAIN else {"evaluate": False}
    try:
        expression = HEADS[head](*expressions, **evaluate)
        if expression.args != tuple(expressions) and head not in ("Max", "Min", "And", "Or"):
            raise TypeError
    except Exception as error:  # SymPy raises anything for arguments of the wrong kind
        raise NotData(f"wrong arguments in node {node!r:.40}") from error
    return expression, 1 + sum(part[1] for part in parts), bits


def _number(value: sp.Number) -> tuple[Basic, int, int]:
    if _too_large(value):
        raise NotData("a number is not a finite float64")
    return value, 1, 64


def _read_number(head: str, arguments: list[Any]) -> sp.Number:
    counts = {"Rational": 2, "Float": 3}
    if len(arguments) != counts[head] or not all(type(a) is int for a in arguments):
        raise NotData(f"wrong arguments in node {[head, *arguments]!r:.40}")
    if head == "Rational":
        p, q = arguments
        if q < 2:
            raise NotData(f"wrong arguments in node {[head, *arguments]!r:.40}")
        return sp.Rational(p, q)
    mantissa, exponent, precision = arguments
    if not (abs(exponent) < 2000 and 1 <= precision <= 4000):
        raise NotData(f"wrong arguments in node {[head, *arguments]!r:.40}")
    return sp.Float._new(
        (int(mantissa < 0), abs(mantissa), exponent, abs(mantissa).bit_length()), precision
    )
