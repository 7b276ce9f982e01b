"""Loss, gradient and Hessian of a `cliff.landscape.Landscape`, as formulas."""

from __future__ import annotations

import keyword
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import sympy as sp
from sympy import Expr

from cliff.checks import ArgumentError, choice
from cliff.symbolic.formula import Formula, entries
from cliff.symbolic.functions import OfLogits
from cliff.symbolic.user_input import smooth

if TYPE_CHECKING:
    from cliff.landscape import Landscape

DERIVATIVES = ("loss", "gradient", "hessian")


@dataclass(frozen=True)
class LandscapeSetting:
    """The landscape of a formula: its parameters, and its constants as symbols.

    Attributes
    ----------
    parameters : tuple of Symbol
    constants : mapping of Symbol to number
        Their values, which stand beside the formula.
    averaged : tuple of Symbol
        Symbols over whose values the landscape is a mean, and the formula is not.
    """

    parameters: tuple[sp.Symbol, ...]
    constants: Mapping[sp.Symbol, int | float]
    averaged: tuple[sp.Symbol, ...] = ()

    @property
    def symbols(self) -> tuple[sp.Symbol, ...]:
        """The constants, and the symbols of the mean."""
        return (*self.constants, *self.averaged)

    def fields(self) -> dict[str, Any]:
        """The constants by name, for JSON."""
        return {"constants": {str(symbol): value for symbol, value in self.constants.items()}}

    def __str__(self) -> str:
        values = ", ".join(f"{symbol} = {value}" for symbol, value in self.constants.items())
        names = ", ".join(map(str, self.parameters))
        return f"parameters {names}" + (f"; constants {values}" if values else "")


@dataclass(frozen=True)
class LandscapeFormula(Formula):
    """A formula whose names are a user's own."""

    def symbols(self) -> dict[str, str]:
        meanings = {str(p): "component of theta" for p in self.parameters}
        setting = self.setting
        assert isinstance(setting, LandscapeSetting)
        meanings |= {str(symbol): "constant" for symbol in setting.constants}
        return meanings | {str(symbol): "averaged over" for symbol in setting.averaged}

    def latex_of(self, value: Expr) -> str:
        return str(sp.latex(value))

    def result_latex(self, name: str) -> str:
        stem, _, rest = name.partition("[")
        if not rest:
            return rf"\mathrm{{{stem}}}"
        places = [int(index) for index in rest.rstrip("]").split("][")]
        by = [rf"\partial_{{{sp.latex(self.parameters[i])}}} " for i in places]
        return "".join(by) + r"\mathrm{loss}"

    def python(self) -> str:
        """Source of one function of theta and the constants, as `Formula.python`."""
        taken = {"theta", "entries", "stacked", "entry", "numpy", "scipy", self.name}
        fitting: dict[sp.Symbol, sp.Symbol] = {}
        for symbol in (*self.parameters, *self.arguments):
            name = symbol.name
            while not name.isidentifier() or keyword.iskeyword(name) or name in taken:
                name = "x_" + "".join(c for c in name if c.isidentifier() or c.isdigit())
            taken.add(name)
            fitting[symbol] = sp.Symbol(name, real=True)
        setting = self.setting
        assert isinstance(setting, LandscapeSetting)
        renamed = replace(
            self,
            setting=LandscapeSetting(
                tuple(fitting[p] for p in setting.parameters),
                {fitting[symbol]: value for symbol, value in setting.constants.items()},
                tuple(fitting[symbol] for symbol in setting.averaged),
            ),
            results={k: _replaced(value, fitting) for k, value in self.results.items()},
            assignments=tuple((name, value.xreplace(fitting)) for name, value in self.assignments),
        )
        return super(LandscapeFormula, renamed).python()


def derive_of(model: Landscape, target: str) -> Formula:
    """Loss, gradient or Hessian of a landscape that is stated in SymPy.

    Of a landscape that is a mean, it is what the mean is of. Every softmax, `log_sum_exp` and
    `cross_entropy` has a name of its own, p_1, p_2, …; text, LaTeX
    and JSON write them out in exponentials and logarithms, and source code leaves them to SciPy's
    functions, which do not overflow.

    Parameters
    ----------
    model : Landscape
    target : {"loss", "gradient", "hessian"}

    Raises
    ------
    ArgumentError
        If the target is another one, or the landscape is made of functions or, for the loss, has a
        velocity in its place.
    """
    choice("target", target, DERIVATIVES)
    parameters = model.parameters
    if model.expression is None and not model.velocity:
        raise ArgumentError("landscape", model, "is made of functions: there is nothing to derive")
    if model.expression is None:
        if target == "loss":
            raise ArgumentError("target", target, "the landscape has a velocity and no loss")
        slopes = [-smooth(value) for value in model.velocity]
    else:
        loss = smooth(model.expression)
        slopes = [loss.diff(p) for p in parameters]
    results: Any = {
        "loss": lambda: loss,
        "gradient": lambda: tuple(slopes),
        "hessian": lambda: tuple(tuple(s.diff(p) for p in parameters) for s in slopes),
    }[target]()
    numbered = [entry for _, entry in entries(results)]
    taken = {symbol.name for expression in numbered for symbol in expression.free_symbols}
    names: dict[Expr, sp.Symbol] = {}

    def named(expression: Any) -> Any:
        """The expression with a name in place of every function of logits, the inner ones first."""
        if expression.is_Atom:
            return expression
        inner = expression.func(*map(named, expression.args))
        if not isinstance(inner, OfLogits):
            return inner
        if inner not in names:
            number = len(names) + 1
            while f"p_{number}" in taken:
                number += 1
            taken.add(f"p_{number}")
            names[inner] = sp.Symbol(f"p_{number}", real=True)
        return names[inner]

    found = _mapped(results, named)
    setting = LandscapeSetting(
        parameters,
        dict(zip(model._constants, model.constants.values(), strict=True)),
        tuple(model.average),
    )
    notes = [] if model.expression is not None else ["The gradient is minus the velocity."]
    notes += [
        f"The landscape is the mean of this over {symbol} = "
        + ", ".join(f"{x:.4g} ({w:.4g})" for x, w in zip(*grid, strict=True))
        + ", with these weights."
        for symbol, grid in model.average.items()
    ]
    return LandscapeFormula(
        name=target,
        setting=setting,
        results={target: found},
        assignments=tuple((name, value) for value, name in names.items()),
        notes=tuple(notes),
    )


def _mapped(value: Any, function: Any) -> Any:
    if isinstance(value, tuple):
        return tuple(_mapped(entry, function) for entry in value)
    return function(value)


def _replaced(value: Any, names: Mapping[sp.Symbol, sp.Symbol]) -> Any:
    return _mapped(value, lambda entry: entry.xreplace(names))
