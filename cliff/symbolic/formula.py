"""A formula as a chain of named assignments, and how it is printed."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import sympy as sp
from sympy import Expr
from sympy.core.relational import Relational
from sympy.printing.latex import LatexPrinter
from sympy.printing.numpy import SciPyPrinter

from cliff.checks import ArgumentError, choice

Assignments = tuple[tuple[Expr, Expr], ...]

BETA1, ALPHA, XI, BETA2 = PARAMETERS = sp.symbols("beta1 alpha xi beta2", real=True)
N, L = sp.symbols("N L", integer=True, positive=True)

LETTERS = {BETA1: "b", ALPHA: "a", XI: "x", BETA2: "c"}
"""Letters of the parameters in the names of derivatives: q__ba is the one of q by beta1, alpha."""

FORMATS = ("text", "latex", "python", "json")


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
    conditions : mapping of str to tuple of relations
        Name of a result → what the arguments must meet for there to be such a thing.
    """

    name: str
    results: Mapping[str, Any]
    assignments: Assignments = ()
    arguments: tuple[sp.Symbol, ...] = ()
    takes_theta: bool = True
    parameters: tuple[sp.Symbol, ...] = PARAMETERS[:3]
    notes: tuple[str, ...] = ()
    conditions: Mapping[str, tuple[Relational, ...]] = field(default_factory=dict)

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
            for index, entry in entries(value)
        ]

    def text(self) -> str:
        """One line ``name = expression`` an assignment, then the results and the notes."""
        lines = [
            f"{name} = {sp.sstr(value)}" + self._if(name, "  if ", " and ")
            for name, value in self.lines()
        ]
        return "\n".join([*lines, *(f"# {note}" for note in self.notes)])

    def latex_lines(self) -> list[str]:
        """One equation a line, without mathematics delimiters."""
        lines = [f"{latex(name)} = {latex(value)}" for name, value in self.assignments]
        return lines + [
            f"{_result_latex(name)} = {latex(value)}"
            + self._if(name, r"\quad\mathrm{if}\ ", r",\ ")
            for name, value in self.flat_results()
        ]

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
                "results": [
                    {"name": name, **both(value), "condition": self._if(name, "", " and ")}
                    for name, value in self.flat_results()
                ],
                "notes": list(self.notes),
            }
        )

    def python(self) -> str:
        """Source of one function, runnable with NumPy (and SciPy where W or log-gamma occurs).

        A formula of theta takes theta, shape (..., p), and returns an array of shape (...) plus
        that of the result. Any other returns a dict of its results, those whose condition holds.

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
                printed = [printer.doprint(entry) for _, entry in entries(result)]
                body.append("entries = [")
                body += [f"    {entry}," for entry in printed]
                body.append("]")
                # constant entries have no batch axes of their own
                body.append("entries = [entry + 0 * theta[..., 0] for entry in entries]")
                body.append("stacked = numpy.stack(entries, axis=-1)")
                body.append(f"return stacked.reshape(stacked.shape[:-1] + {shape})")
            else:
                body.append(f"return {printer.doprint(result)} + 0 * theta[..., 0]")
        else:
            body.append("return {")
            for name, value in self.results.items():
                entry = f"{name!r}: {_source(printer, value)}"
                condition = self._if(name, "", " and ", "==")
                if condition:
                    entry = f"**({{{entry}}} if {condition} else {{}})"
                body.append(f"    {entry},")
            body.append("}")
        modules = sorted({"numpy"} | {m for m in printer.module_imports if m.startswith("scipy")})
        head = [f"import {module}" for module in modules]
        notes = [f"# {note}" for note in self.notes]
        signature = f"def {self.name}({', '.join(arguments)}):"
        return "\n".join([*head, "", "", *notes, signature, *(f"    {line}" for line in body), ""])

    def _if(self, name: str, start: str, comma: str, equals: str = "=") -> str:
        """The condition of a result after `start`; nothing where there is none."""
        relations = [
            f"{relation.lhs} {relation.rel_op.replace('==', equals)} {relation.rhs}"
            for relation in self.conditions.get(name, ())
        ]
        return start + comma.join(relations) if relations else ""

    def printed(self, form: str) -> str:
        """The formula in one of `FORMATS`."""
        return str(getattr(self, choice("format", form, FORMATS))())


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


def entries(value: Any, index: tuple[int, ...] = ()) -> list[tuple[tuple[int, ...], Expr]]:
    if isinstance(value, tuple):
        return [pair for i, entry in enumerate(value) for pair in entries(entry, (*index, i))]
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


_PARAMETER_OF = {letter: _GREEK[str(parameter)] for parameter, letter in LETTERS.items()}


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

    def _print_loggamma(self, expr: Expr, exp: str | None = None) -> str:
        return self._print(sp.log(sp.gamma(expr.args[0], evaluate=False), evaluate=False))

    def _print_KroneckerDelta(self, expr: Expr, exp: str | None = None) -> str:
        return rf"[{self._print(expr.args[0])} = {self._print(expr.args[1])}]"


def _name_latex(name: str, indices: Sequence[str] = ()) -> str:
    stem, _, letters = name.partition("__")
    derivatives = "".join(rf"\partial_{{{_PARAMETER_OF[letter]}}} " for letter in letters)
    if stem in _GREEK:
        return derivatives + _GREEK[stem]
    base, *marks = stem.split("_")
    subscript = ",".join([*marks, *indices])
    return derivatives + base + (f"_{{{subscript}}}" if subscript else "")


_LATEX = _LatexPrinter({"ln_notation": False})


def latex(value: Expr) -> str:
    """LaTeX of an expression, with this module's names spelled as in the pages."""
    return str(_LATEX.doprint(value))


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

    def _print_ceiling(self, expr: Expr) -> str:
        above, below = (self._print(part) for part in sp.fraction(sp.together(expr.args[0])))
        return f"-(-({above}) // ({below}))"  # exact for whole numbers

    def _print_log(self, expr: Expr) -> str:
        (value,) = expr.args
        # gamma overflows at 171
        return (
            self._print_loggamma(value) if isinstance(value, sp.gamma) else super()._print_log(expr)
        )

    def _print_loggamma(self, expr: Expr) -> str:
        self.module_imports["scipy.special"].add("gammaln")
        return f"scipy.special.gammaln({self._print(expr.args[0])})"


def _source(printer: _SourcePrinter, value: Any) -> str:
    if isinstance(value, tuple):
        return "[" + ", ".join(_source(printer, entry) for entry in value) + "]"
    return str(printer.doprint(value))
