"""Expressions as source code: a straight line of assignments, of numbers or of packs of lanes.

The code has arithmetic and the functions listed in `cliff.kernels.generated` alone. Its one choice
is ``where_above(a, b, yes, no)``, which computes both values, as packs must.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from functools import reduce
from typing import Any

import sympy as sp
from sympy import Basic, Expr
from sympy.printing.pycode import PythonCodePrinter

from cliff.symbolic.functions import CrossEntropy, LogSumExp, OfLogits, Softmax

FUNCTIONS: tuple[type[Expr], ...] = (
    sp.exp, sp.log, sp.sin, sp.cos, sp.tan, sp.asin, sp.acos, sp.atan,
    sp.sinh, sp.cosh, sp.tanh, sp.asinh, sp.acosh, sp.atanh, sp.erf, sp.erfc,
)  # fmt: skip
"""Functions of one number that have a compiled form of the same name."""

LARGEST_POWER = 64
"""Up to here powers with whole exponents are products."""


class Chain:
    """Values as a chain of named operations, which derivatives extend; equal ones have one name.

    Parameters
    ----------
    values : sequence of Expr

    Attributes
    ----------
    values : list of Expr
        The names, or symbols and numbers, that hold the values.
    assignments : dict
        Name → its operation on names, symbols and numbers, in order.
    """

    def __init__(self, values: Sequence[Expr]) -> None:
        self.assignments: dict[sp.Dummy, Expr] = {}
        self._names: dict[Basic, Basic] = {}
        pairs, reduced = sp.cse(values, symbols=sp.numbered_symbols(cls=sp.Dummy), order="none")
        for symbol, value in pairs:
            self._names[symbol] = self.name(value)
        self.values = [self.name(value) for value in reduced]

    def name(self, expression: Any) -> Any:
        """The name that holds the value of an expression of names, symbols and numbers."""
        if expression in self._names or expression.is_Atom:
            return self._names.get(expression, expression)
        operation = expression.func(*map(self.name, expression.args))
        if not isinstance(operation, Expr) or operation.is_Atom:  # a tuple or a condition
            return operation
        if operation not in self._names:
            known = {"positive": True} if operation.is_positive else {"real": True}
            name = sp.Dummy(f"s{len(self.assignments)}", **known)
            self.assignments[name], self._names[operation] = operation, name
        self._names[expression] = self._names[operation]
        return self._names[operation]

    def derivatives(self, values: Sequence[Expr], symbols: Sequence[sp.Symbol]) -> list[list[Expr]]:
        """Names of the derivatives of named values: a row a value, an entry a symbol."""
        operations = list(self.assignments.items())
        moving = {*symbols, *self.assignments}
        partial = {
            name: [(n, operation.diff(n)) for n in sorted(operation.free_symbols & moving, key=str)]
            for name, operation in operations
            if not isinstance(operation, OfLogits | sp.Piecewise)
        }
        columns = []
        for symbol in symbols:
            slopes: dict[Basic, Expr] = {symbol: sp.S.One}

            def of(part: Expr, slopes: dict[Basic, Expr] = slopes) -> Expr:
                return slopes.get(part, sp.S.Zero)

            for name, operation in operations:
                if name in partial:
                    slope = sp.Add(*(by * of(n) for n, by in partial[name] if of(n) != 0))
                elif isinstance(operation, sp.Piecewise):  # what is not chosen may be infinite
                    slope = sp.Piecewise(*((of(value), where) for value, where in operation.args))
                else:
                    slope = operation.slope(of)
                if slope != 0:
                    slopes[name] = self.name(slope)
            columns.append([of(value) for value in values])
        return [list(row) for row in zip(*columns, strict=True)]


def evaluation_source(
    parameters: Sequence[sp.Symbol],
    constants: Sequence[sp.Symbol],
    assignments: Mapping[Any, Any],
    first: Mapping[int, Expr],
    then: Mapping[int, Expr],
    average: Mapping[sp.Symbol, tuple[Sequence[float], Sequence[float]]] | None = None,
) -> str:
    """Source of ``evaluate(theta, constants, want, work, out)``; see `cliff.kernels.generated`.

    Parameters
    ----------
    parameters, constants : sequences of Symbol
        Entries of theta and of the row of constants, in order.
    assignments : mapping
        Name → expression, for the names in the entries, as of a `Chain`.
    first, then : mappings of int to Expr
        Entries of out: those that are always written, and those that want = 0 leaves out.
    average : mapping of Symbol to (nodes, weights), optional
        Symbols over whose values every entry is a weighted mean; want is not looked at then.

    Returns
    -------
    str
    """
    names = {symbol: f"load(theta, {i})" for i, symbol in enumerate(parameters)}
    names |= {symbol: f"load(constants, {i})" for i, symbol in enumerate(constants)}
    average = average or {}
    names |= {symbol: f"nodes{i}[node{i}]" for i, symbol in enumerate(average)}
    printer = _Printer(names, assignments)
    lines = ["def evaluate(theta, constants, want, work, out):"]
    if average:
        atoms = {row: printer.atom(value) for row, value in {**first, **then}.items()}
        return _in_loops(printer.lines, atoms, list(average.values()))
    for rows in (first, then):
        printer.lines += ["if want == 0:\n        return"] if rows is then else []
        for row, value in rows.items():
            printer.lines.append(f"store(out, {row}, {printer.atom(value)})")
    return "\n    ".join(lines + printer.lines) + "\n"


def _in_loops(
    lines: Sequence[str],
    rows: Mapping[int, str],
    grids: Sequence[tuple[Sequence[float], Sequence[float]]],
) -> str:
    """Source of means over nested loops, each assignment in the outermost loop that allows it."""
    depth: dict[str, int] = {}
    bodies: list[list[str]] = [[] for _ in range(len(grids) + 1)]
    for line in lines:
        name, code = line.split(" = ", 1)
        words = re.findall(r"[a-z]\w*", code)
        depth[name] = max(
            [0, *(depth.get(word, 0) for word in words)]
            + [1 + int(word[4:]) for word in words if re.fullmatch(r"node\d+", word)]
        )
        bodies[depth[name]].append(line)
    tables = [
        f"{name}{i} = array({[float(x) for x in values]!r})"
        for i, grid in enumerate(grids)
        for name, values in zip(("nodes", "weights"), grid, strict=True)
    ]
    source = [*tables, "def evaluate(theta, constants, want, work, out):"]
    # a zero of the kind that theta's entries are: a number, or a pack
    source += [f"    sum{row} = 0.0 * load(theta, 0)" for row in rows]
    for i, body in enumerate(bodies):
        source += ["    " * (i + 1) + line for line in body]
        if i < len(grids):
            source.append("    " * (i + 1) + f"for node{i} in range({len(grids[i][0])}):")
    inner = "    " * (len(grids) + 1)
    share = " * ".join(f"weights{i}[node{i}]" for i in range(len(grids)))
    source += [f"{inner}share = {share}"]
    source += [f"{inner}sum{row} = sum{row} + share * {value}" for row, value in rows.items()]
    source += [f"    store(out, {row}, sum{row})" for row in rows]
    return "\n".join(source) + "\n"


def _is_number(code: str) -> bool:
    try:
        float(code)
    except ValueError:
        return False
    return True


class _Printer(PythonCodePrinter):
    """Prints an expression as an expression of names, after the assignments in `lines`."""

    def __init__(self, names: Mapping[Any, str], assignments: Mapping[Any, Any]) -> None:
        super().__init__({"fully_qualified_modules": False})
        self.names, self.assignments = names, assignments
        self.lines: list[str] = []
        self._assigned: dict[str, str] = {}
        self._printed: dict[Any, str] = {}

    def _print(self, expr: Any, **settings: Any) -> str:
        if expr not in self._printed:
            self._printed[expr] = super()._print(expr, **settings)
        return self._printed[expr]

    def atom(self, expression: Any) -> str:
        """The name that holds the expression's value."""
        return self.assign(self._print(expression))

    def assign(self, code: str) -> str:
        """The name that holds the code's value; equal code is computed once."""
        if code.isidentifier() or _is_number(code):
            return code
        if code not in self._assigned:
            self._assigned[code] = f"v{len(self._assigned)}"
            self.lines.append(f"{self._assigned[code]} = {code}")
        return self._assigned[code]

    def where_above(self, a: str, b: str, yes: str, no: str) -> str:
        return yes if yes == no else self.assign(f"where_above({a}, {b}, {yes}, {no})")

    def _print_Symbol(self, expr: sp.Symbol) -> str:
        return self.assign(self.names[expr])

    def _print_Dummy(self, expr: sp.Dummy) -> str:
        return self.atom(self.assignments[expr])  # computed where it is first needed

    def _print_Number(self, expr: Expr) -> str:
        return repr(float(expr))

    _print_Integer = _print_Rational = _print_Float = _print_NumberSymbol = _print_Number
    _print_Zero = _print_One = _print_NegativeOne = _print_Half = _print_Number
    _print_Pi = _print_Exp1 = _print_EulerGamma = _print_GoldenRatio = _print_Number
    _print_Catalan = _print_Number

    def _print_Pow(self, expr: sp.Pow, rational: bool = False) -> str:
        base, exponent = expr.args
        if exponent.is_negative and exponent.is_Rational:
            return self.assign(f"1.0 / {self.atom(sp.Pow(base, -exponent, evaluate=False))}")
        if exponent == sp.S.Half:
            return self.assign(f"sqrt({self.atom(base)})")
        if exponent.is_Integer and exponent <= LARGEST_POWER:
            return self._product(self.atom(base), int(exponent))
        return self.assign(f"pow({self.atom(base)}, {self._print(exponent)})")

    def _product(self, base: str, exponent: int) -> str:
        if exponent == 1:
            return base
        half = self._product(base, exponent // 2)
        square = self.assign(f"{half} * {half}")
        return self.assign(f"{square} * {base}") if exponent % 2 else square

    def _print_Function(self, expr: Expr) -> str:
        return self.assign(f"{type(expr).__name__}({self._print(expr.args[0])})")

    # the superclass has its own ways for these
    _print_exp = _print_log = _print_Function
    for _function in FUNCTIONS:
        locals()[f"_print_{_function.__name__}"] = _print_Function
    del _function

    def _print_Abs(self, expr: Expr) -> str:
        return self.assign(f"absolute({self._print(expr.args[0])})")

    def _print_Max(self, expr: Expr) -> str:
        atoms = [self.atom(arg) for arg in expr.args]
        return reduce(lambda a, b: self.where_above(a, b, a, b), atoms)

    def _print_Min(self, expr: Expr) -> str:
        atoms = [self.atom(arg) for arg in expr.args]
        return reduce(lambda a, b: self.where_above(a, b, b, a), atoms)

    def _print_sign(self, expr: Expr) -> str:
        x = self.atom(expr.args[0])
        return self.where_above(x, "0.0", "1.0", self.where_above("0.0", x, "-1.0", "0.0"))

    def _print_Heaviside(self, expr: Expr) -> str:
        x = self.atom(expr.args[0])
        at_zero = self._print(expr.args[1])
        return self.where_above(x, "0.0", "1.0", self.where_above("0.0", x, "0.0", at_zero))

    def _print_DiracDelta(self, expr: Expr) -> str:
        return "0.0"  # second derivatives hold off the kinks

    def _print_Piecewise(self, expr: sp.Piecewise) -> str:
        code = "nan"
        for value, condition in reversed(expr.args):
            code = self._choose(condition, self.atom(value), code)
        return code

    def _choose(self, condition: Any, yes: str, no: str) -> str:
        condition = self.assignments.get(condition, condition)
        if condition in (sp.true, sp.false):
            return yes if condition == sp.true else no
        if isinstance(condition, sp.And):
            return reduce(lambda chosen, c: self._choose(c, chosen, no), condition.args, yes)
        if isinstance(condition, sp.Or):
            return reduce(lambda chosen, c: self._choose(c, yes, chosen), condition.args, no)
        if isinstance(condition, sp.Not):
            return self._choose(condition.args[0], no, yes)
        left, right = self.atom(condition.lhs), self.atom(condition.rhs)
        if isinstance(condition, sp.StrictGreaterThan):
            return self.where_above(left, right, yes, no)
        if isinstance(condition, sp.StrictLessThan):
            return self.where_above(right, left, yes, no)
        if isinstance(condition, sp.GreaterThan):
            return self.where_above(right, left, no, yes)
        return self.where_above(left, right, no, yes)

    # ---- functions of logits: every exponential is of the distance to the largest logit ---------

    def _shift(self, expr: Any) -> str:
        """The largest logit that has a weight."""
        logits = [(self.atom(z), w) for z, w in zip(expr.z, expr.w, strict=True) if not w.is_zero]
        shift = next((z for z, w in logits if w.is_positive), "(-inf)")
        for z, w in logits:
            larger = self.where_above(z, shift, z, shift) if z != shift else z
            shift = larger if w.is_positive else self.with_weight(w, larger, shift)
        return shift

    def with_weight(self, w: Expr, yes: str, no: str) -> str:
        if w.is_positive or w.is_zero:
            return yes if w.is_positive else no
        return self.where_above(self.atom(w), "0.0", yes, no)

    def _factors(self, expr: Any) -> tuple[list[str], list[str]]:
        """Exponential of every logit's distance to the shift, and the same times the weight."""
        logits, weights = [self.atom(z) for z in expr.z], expr.w
        if len(logits) == 2:  # one of the two is exp(0)
            distance = self.assign(f"{logits[1]} - {logits[0]}")
            smaller = self.assign(f"exp(-absolute({distance}))")
            pair = (
                self.where_above(distance, "0.0", smaller, "1.0"),
                self.where_above(distance, "0.0", "1.0", smaller),
            )
            factors = [self.with_weight(weights[1 - j], pair[j], "1.0") for j in (0, 1)]
        else:
            shift = self._shift(expr)
            factors = [self.assign(f"exp({z} - {shift})") for z in logits]
        factors = [self.with_weight(w, f, "0.0") for w, f in zip(weights, factors, strict=True)]
        terms = [
            f if w == 1 or f == "0.0" else self.assign(f"{self.atom(w)} * {f}")
            for w, f in zip(weights, factors, strict=True)
        ]
        return factors, terms

    def _print_Softmax(self, expr: Softmax) -> str:
        factors, terms = self._factors(expr)
        share = self.assign(f"1.0 / {self.assign(' + '.join(terms))}")
        return self.assign(f"{factors[int(expr.args[2])]} * {share}")

    def _print_LogSumExp(self, expr: LogSumExp) -> str:
        shift, (_, terms) = self._shift(expr), self._factors(expr)
        return self.assign(f"{shift} + log1p({self.assign(' + '.join(terms))} - 1.0)")

    def _print_CrossEntropy(self, expr: CrossEntropy) -> str:
        # the correct logit's factor is 1 once it is the largest, and the rest keeps its digits
        c = int(expr.args[2])
        shift, (factors, terms) = self._shift(expr), self._factors(expr)
        rest = [term for j, term in enumerate(terms) if j != c and term != "0.0"]
        if expr.w[c] != 1:
            rest.append(self.assign(f"({self.atom(expr.w[c])} - 1.0) * {factors[c]}"))
        rest.append(f"({factors[c]} - 1.0)")
        return self.assign(f"({shift} - {self.atom(expr.z[c])}) + log1p({' + '.join(rest)})")
