"""A formula as a chain of named assignments, and how it is printed."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import reduce, wraps
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import sympy as sp
from sympy import Expr
from sympy.logic.boolalg import Boolean
from sympy.printing.latex import LatexPrinter
from sympy.printing.numpy import SciPyPrinter

from cliff.checks import ArgumentError, choice, integer, real
from cliff.symbolic.functions import CrossEntropy, LogSumExp, OfLogits, Softmax

if TYPE_CHECKING:
    from cliff.symbolic.landscape import LandscapeSetting

Assignments = tuple[tuple[Expr, Expr], ...]
"""(name, expression) pairs, in the order in which they can be computed."""

BETA1, ALPHA, XI, BETA2 = PARAMETERS = sp.symbols("beta1 alpha xi beta2", real=True)
N, L = sp.symbols("N L", integer=True, positive=True)

LETTERS = {BETA1: "b", ALPHA: "a", XI: "x", BETA2: "c"}
"""Letter of each parameter in the names of derivatives: q__ba is ∂²q/∂beta1 ∂alpha."""

MEANINGS = {
    "beta1": "previous-token logit of layer 1",
    "alpha": "match logit of layer 2",
    "xi": "classifier logit",
    "beta2": "label bias of layer 2",
    "N": "item-label pairs in the context",
    "L": "label classes",
}
"""What the parameters and the counts are."""

DERIVATIVES = "derivative of NAME, one letter a parameter: " + ", ".join(
    f"{letter} {parameter}" for parameter, letter in LETTERS.items()
)

FORMATS = ("text", "latex", "python", "json")


@dataclass(frozen=True)
class Setting:
    """The landscape of a formula, checked: `NestedLogit`'s arguments as expressions.

    Parameters
    ----------
    n_pairs : int or N
    n_labels : int, L or N
        N means as many labels as pairs, whether `n_pairs` is a number or N.
    positions : {"exact", "mean"}
    label_bias : float or "free"

    Attributes
    ----------
    n, labels, bias : Expr
        N, L and beta2.

    Raises
    ------
    ArgumentError
        If an argument is out of range.
    """

    n_pairs: int | sp.Symbol = N
    n_labels: int | sp.Symbol = L
    positions: str = "exact"
    label_bias: float | str = 0.0
    n: Expr = field(init=False)
    labels: Expr = field(init=False)
    bias: Expr = field(init=False)

    def __post_init__(self) -> None:
        choice("positions", self.positions, ("exact", "mean"))
        n = N if _is(self.n_pairs, N) else sp.Integer(integer("n_pairs", self.n_pairs, 1))
        if _is(self.n_labels, N):
            labels = n
        elif _is(self.n_labels, L):
            labels = L
        else:
            labels = sp.Integer(integer("n_labels", self.n_labels, 1))
            if n != N and labels < n:
                requirement = f"must be at least the number of pairs, {n}"
                raise ArgumentError("n_labels", labels, requirement)
        if isinstance(self.label_bias, str) and not self.is_free:
            raise ArgumentError("label_bias", self.label_bias, 'must be a number or "free"')
        bias = BETA2 if self.is_free else as_expression(real("label_bias", self.label_bias))
        for name, value in (("n", n), ("labels", labels), ("bias", bias)):
            object.__setattr__(self, name, value)

    @property
    def is_free(self) -> bool:
        """Whether beta2 is a component of theta."""
        return self.label_bias == "free"

    @property
    def parameters(self) -> tuple[sp.Symbol, ...]:
        """Components of theta."""
        return PARAMETERS[: 4 if self.is_free else 3]

    @property
    def symbols(self) -> tuple[sp.Symbol, ...]:
        """Those of N and L that are no numbers."""
        return tuple(symbol for symbol in (N, L) if symbol in (self.n, self.labels))

    def fields(self) -> dict[str, int | float | str]:
        """The arguments as numbers and words, for JSON."""
        n, labels = (str(v) if v.is_Symbol else int(v) for v in (self.n, self.labels))
        return {
            "n_pairs": n,
            "n_labels": labels,
            "positions": self.positions,
            "label_bias": self.label_bias,
        }

    def __str__(self) -> str:
        pairs = "N pairs" if self.n == N else f"N = {self.n} pairs"
        labels = f"{self.labels} labels" if self.labels.is_Symbol else f"L = {self.labels} labels"
        kind = "exact positions" if self.positions == "exact" else "mean field"
        bias = self.label_bias if self.is_free else f"{self.label_bias:g}"
        return f"{pairs}, {labels}, {kind}, label bias {bias}"


def _is(value: object, symbol: sp.Symbol) -> bool:
    return isinstance(value, sp.Symbol) and value == symbol


def as_expression(value: float) -> Expr:
    """A float as sympy's exact integer where it is one, and with its 17 digits otherwise."""
    return sp.Integer(int(value)) if float(value).is_integer() else sp.Float(repr(value), 17)


@dataclass(frozen=True)
class Formula:
    """Named assignments and the results that they lead to.

    Attributes
    ----------
    name : str
        Name of the function that the source code defines.
    setting : Setting or LandscapeSetting
        The landscape.
    results : mapping of str to expression or nested tuple of expressions
    assignments : tuple of (name, expression)
        In order: each expression uses parameters, arguments and earlier names only.
    variables : tuple of Symbol
        Free symbols besides theta, N and L, such as the time.
    takes_theta : bool
        Whether the source code's first argument is theta, shape (..., p).
    notes : tuple of str
        Sentences that belong to the result.
    conditions : mapping of str to tuple of relations
        Name of a result → what N and L must meet for the result to exist; relations that always
        hold are not printed.
    meanings : mapping of str to str
        Name of an assignment or a variable, up to its first underscore → what it is.
    """

    name: str
    setting: Setting | LandscapeSetting
    results: Mapping[str, Any]
    assignments: Assignments = ()
    variables: tuple[sp.Symbol, ...] = ()
    takes_theta: bool = True
    notes: tuple[str, ...] = ()
    conditions: Mapping[str, tuple[Boolean, ...]] = field(default_factory=dict)
    meanings: Mapping[str, str] = field(default_factory=dict)

    @property
    def arguments(self) -> tuple[sp.Symbol, ...]:
        """Arguments of the source code after theta: variables, then N and L if they are symbols."""
        return (*self.variables, *self.setting.symbols)

    @property
    def parameters(self) -> tuple[sp.Symbol, ...]:
        """Components of theta, if the formula takes it."""
        return self.setting.parameters if self.takes_theta else ()

    def symbols(self) -> dict[str, str]:
        """What each name in the formula stands for; indexed names without their indices."""
        names = [str(symbol) for symbol in (*self.parameters, *self.arguments)]
        for name, _ in self.assignments:
            names += [str(index) for index in getattr(name, "indices", ())]
            names.append(str(getattr(name, "base", name)))
        known = MEANINGS | dict(self.meanings)
        found: dict[str, str] = {}
        for name in names:
            whole = name.partition("__")[0]
            stem = whole if whole in known else whole.split("_")[0]
            found.setdefault(stem, known[stem])
        if any("__" in name for name in names):
            found["NAME__ba"] = DERIVATIVES
        return found

    def flat_results(self) -> list[tuple[str, Expr]]:
        """The results with one name an entry, such as ``gradient[0]``."""
        return [
            (name + "".join(f"[{i}]" for i in index), entry)
            for name, value in self.results.items()
            for index, entry in entries(value)
        ]

    def text(self) -> str:
        """The setting, then a line ``name = expression`` for each assignment and result.

        Notes and the meaning of each symbol stand below, as comments.
        """
        named = [(sp.sstr(name), value) for name, value in self.assignments]
        lines = [
            f"{name} = {sp.sstr(written(value))}" + self._if(name, "  if ", " and ")
            for name, value in [*named, *self.flat_results()]
        ]
        remarks = [*self.notes, *(f"{name}: {meaning}" for name, meaning in self.symbols().items())]
        return "\n".join([f"# {self.setting}", *lines, *(f"# {remark}" for remark in remarks)])

    def latex_of(self, value: Expr) -> str:
        """LaTeX of an expression."""
        return latex(value)

    def result_latex(self, name: str) -> str:
        """LaTeX of the name of a result."""
        stem, bracket, rest = name.partition("[")
        indices = rest.rstrip("]").split("][") if bracket else []
        if stem in ("gradient", "hessian"):
            by = [_GREEK[str(PARAMETERS[int(index)])] for index in indices]
            return "".join(rf"\partial_{{{parameter}}} " for parameter in by) + r"\mathrm{loss}"
        known = _GREEK.get(stem) or r"\mathrm{" + re.sub("[-_]", r"\\ ", stem) + "}"
        return known + (f"_{{{','.join(indices)}}}" if bracket else "")

    def latex_lines(self) -> list[str]:
        """One equation a line, without mathematics delimiters."""
        lines = [
            f"{self.latex_of(name)} = {self.latex_of(written(value))}"
            for name, value in self.assignments
        ]
        return lines + [
            f"{self.result_latex(name)} = {self.latex_of(value)}"
            + self._if(name, r"\quad\mathrm{if}\ ", r",\ ")
            for name, value in self.flat_results()
        ]

    def latex(self) -> str:
        """One display formula, $$...$$, a line; the notes and the setting stand below as text."""
        lines = (f"$${line}$$" for line in self.latex_lines())
        return "\n".join([*lines, *self.notes, f"{self.setting}."])

    def json(self) -> str:
        """One JSON object: setting, symbols, assignments and results as text and as LaTeX."""

        def both(value: Expr) -> dict[str, str]:
            value = written(value)
            return {"expression": sp.sstr(value), "latex": self.latex_of(value)}

        fields = {
            "name": self.name,
            **self.setting.fields(),
            "theta": [str(p) for p in self.parameters],
            "arguments": [str(symbol) for symbol in self.arguments],
            "assignments": [
                {"name": sp.sstr(name), **both(value)} for name, value in self.assignments
            ],
            "results": [
                {"name": name, **both(value), "condition": self._if(name, "", " and ")}
                for name, value in self.flat_results()
            ],
            "notes": self.notes,
            "symbols": self.symbols(),
        }
        return json.dumps(fields)

    def python(self) -> str:
        """Source of one function, runnable with NumPy (and SciPy where W or log-gamma occurs).

        A function of theta takes an array of shape (..., p) and returns the loss, shape (...), the
        gradient, shape (..., p), or the Hessian, shape (..., p, p). A function without theta
        returns a dict of those results whose condition holds.

        Raises
        ------
        ArgumentError
            If positions are exact and N is a symbol: slots are then indices of sums.
        """
        if any(not isinstance(name, sp.Symbol) for name, _ in self.assignments):  # with indices
            requirement = "must be a number for source code with exact positions"
            raise ArgumentError("n_pairs", "N", requirement)
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
                body += [
                    "entries = [",
                    *(f"    {printer.doprint(entry)}," for _, entry in entries(result)),
                    "]",
                    # constant entries have no batch axes of their own
                    "entries = [entry + 0 * theta[..., 0] for entry in entries]",
                    "stacked = numpy.stack(entries, axis=-1)",
                    f"return stacked.reshape(stacked.shape[:-1] + {np.shape(result)})",
                ]
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
        notes = [f"# {note}" for note in (f"{self.setting}.", *self.notes)]
        signature = f"def {self.name}({', '.join(arguments)}):"
        return "\n".join([*head, "", "", *notes, signature, *(f"    {line}" for line in body), ""])

    def _if(self, name: str, start: str, comma: str, equals: str = "=") -> str:
        """The condition of a result after `start`; an empty string where there is none."""
        relations = [
            f"{relation.lhs} {relation.rel_op.replace('==', equals)} {relation.rhs}"
            for relation in self.conditions.get(name, ())
            if relation != sp.true
        ]
        return start + comma.join(relations) if relations else ""

    def printed(self, form: str) -> str:
        """The formula in one of `FORMATS`."""
        return str(getattr(self, choice("format", form, FORMATS))())


class FormulaOf(Protocol):
    """A function that gives a formula for a landscape, by the arguments of `Setting`."""

    def __call__(
        self,
        n_pairs: int | sp.Symbol = N,
        n_labels: int | sp.Symbol = L,
        positions: str = "exact",
        label_bias: float | str = 0.0,
    ) -> Formula: ...


def of_setting(function: Callable[[Setting], Formula], default_labels: sp.Symbol = L) -> FormulaOf:
    """Make a function of a `Setting` one of its arguments.

    Every such function raises `ArgumentError` if an argument is out of range.
    """

    @wraps(function, assigned=("__module__", "__name__", "__qualname__", "__doc__"))
    def formula(
        n_pairs: int | sp.Symbol = N,
        n_labels: int | sp.Symbol = default_labels,
        positions: str = "exact",
        label_bias: float | str = 0.0,
    ) -> Formula:
        return function(Setting(n_pairs, n_labels, positions, label_bias))

    del formula.__wrapped__  # else help() shows the signature of `function`
    return formula


class WrightOmega(sp.Function):
    """omega(z) = W(e^z), Lambert's function without the overflow of e^z."""

    nargs = 1

    def _eval_rewrite_as_LambertW(self, z: Expr, **_: object) -> Expr:
        return sp.LambertW(sp.exp(z))

    def fdiff(self, argindex: int = 1) -> Expr:
        """omega/(1 + omega)."""
        return self / (1 + self)

    def _latex(self, printer: Any) -> str:
        return rf"\mathrm{{W}}\left(e^{{{printer.doprint(self.args[0])}}}\right)"


def written(value: Expr) -> Expr:
    """A softmax and its like in exponentials and logarithms; anything else as it is."""
    return value.doit() if isinstance(value, OfLogits) else value


def entries(value: Any) -> list[tuple[tuple[int, ...], Expr]]:
    """(index, expression) of every entry of a nested tuple; the index is () for an expression."""
    return list(np.ndenumerate(np.array(value, dtype=object)))


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


class _SourcePrinter(SciPyPrinter):
    """NumPy source in which constants and batches mix."""

    def _print_Max(self, expr: Expr) -> str:
        return reduce(lambda a, b: f"numpy.maximum({a}, {b})", map(self._print, expr.args))

    def _print_Sum(self, expr: sp.Sum) -> str:
        ((index, first, last),) = expr.limits
        return (
            f"sum({self._print(expr.function)} "
            f"for {index} in range({self._print(first)}, {self._print(last)} + 1))"
        )

    def _print_Pi(self, expr: Expr) -> str:
        return "numpy.pi"

    def _print_WrightOmega(self, expr: Expr) -> str:
        return f"{self._module_format('scipy.special.wrightomega')}({self._print(expr.args[0])})"

    def _print_ceiling(self, expr: Expr) -> str:
        above, below = (self._print(part) for part in sp.fraction(sp.together(expr.args[0])))
        return f"-(-({above}) // ({below}))"  # exact for whole numbers

    def _print_log(self, expr: Expr) -> str:
        (value,) = expr.args
        if isinstance(value, sp.gamma):  # which overflows at 171
            return str(self._print(sp.loggamma(value.args[0], evaluate=False)))
        return str(super()._print_log(expr))

    def _print_LogSumExp(self, expr: LogSumExp) -> str:
        self.module_imports["scipy.special"].add("logsumexp")

        def stacked(values: Sequence[Expr]) -> str:
            printed = ", ".join(map(self._print, values))
            return f"numpy.stack(numpy.broadcast_arrays({printed}), axis=-1)"

        weights = "" if all(w == 1 for w in expr.w) else f"b={stacked(expr.w)}, "
        return f"scipy.special.logsumexp({stacked(expr.z)}, {weights}axis=-1)"

    def _print_CrossEntropy(self, expr: CrossEntropy) -> str:
        total = self._print_LogSumExp(expr)
        return f"({total} - ({self._print(expr.z[int(expr.args[2])])}))"

    def _print_Softmax(self, expr: Softmax) -> str:
        logit, weight = (part[int(expr.args[2])] for part in (expr.z, expr.w))
        distance = f"{self._print(logit)} - {self._print_LogSumExp(expr)}"
        if weight.is_positive:
            return f"numpy.exp({distance})"
        # without a weight the probability is 0, and the distance may be large
        safe = f"numpy.exp(numpy.minimum({distance}, 700.0))"
        return f"numpy.where({self._print(weight)} == 0, 0.0, {safe})"


def _source(printer: _SourcePrinter, value: Any) -> str:
    if isinstance(value, tuple):
        return "[" + ", ".join(_source(printer, entry) for entry in value) + "]"
    return str(printer.doprint(value))
