"""Landscapes: a loss, or a velocity, of a few named parameters with named constants.

`cliff.protocol.LandscapeLike` says what a landscape has to have; `Landscape` has it.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import cache, cached_property
from numbers import Integral
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import sympy as sp
from numba.core.errors import NumbaError
from numpy.typing import ArrayLike, NDArray
from sympy import Basic, Expr

from cliff.checks import LARGEST_INTEGER, ArgumentError, finite_array, real
from cliff.kernels import generated
from cliff.kernels.cache import _stamp
from cliff.parallel import in_parallel, split
from cliff.presentation import Presented
from cliff.protocol import Number, check_known, column
from cliff.symbolic.data import NotData, from_table, to_table
from cliff.symbolic.functions import OfLogits
from cliff.symbolic.source import Chain, evaluation_source
from cliff.symbolic.user_input import inequality, real_expression, smooth

Array = NDArray[np.float64]

FORMAT = 1
"""Version of the layout of `Landscape.to_data`; a higher one is refused rather than misread."""

FORMAT_OF_AVERAGES = 2
"""Version of the layout of a landscape that is an average."""

CHUNK = 4096
"""Parameter vectors to a thread at a time: some tenths of a millisecond of work."""

LOSS, PLATEAU = sp.symbols("loss plateau", real=True)
"""In events and measures, symbols of these names stand for the landscape's loss and plateau."""


class Landscape(Presented):
    """A landscape stated in SymPy, compiled once and kept on disk.

    Gradient and Hessian follow by symbolic differentiation. Symbols count by their names: those of
    the parameters and constants stand for real numbers, whatever else was assumed of them.

    Parameters
    ----------
    parameters : sequence of sympy.Symbol
        Components of theta, in order.
    loss : sympy.Expr, optional
        The loss in nats, a real expression of the parameters and constants.
    constants : mapping of Symbol or str to number, optional
        Named numbers, which `with_constants` changes without compiling anew.
    measures : mapping of str to Expr, optional
        Quantities to report beside the loss.
    events : mapping of str to relation, optional
        Inequalities such as ``loss <= 0.25``; an event is the moment when one becomes true. A
        symbol named "loss" stands for the loss, one named "plateau" for the plateau.
    plateau : Expr or number, optional
        The loss at which a flow waits, an expression of the constants.
    velocity : sequence of Expr, optional
        d theta/dt of a flow that is no gradient, in place of a loss.
    labels : mapping of str to str, optional
        How pictures write parameters and constants; SymPy's LaTeX by default.
    average : mapping of Symbol to (nodes, weights), optional
        Further symbols, such as the nodes of a quadrature, over whose values the loss is a weighted
        mean, and with it all derivatives, the measures and the two sides of the events. Nodes and
        weights are numbers, and the weights of a symbol add up to 1.

    Attributes
    ----------
    parameters : tuple of sympy.Symbol
    constants : mapping of str to number
        Read-only. Each constant is also an attribute: ``model.N``.
    expression : sympy.Expr or None
        The loss, or what it is the average of.

    Raises
    ------
    ArgumentError
        If names clash, an expression has a symbol that is neither parameter nor constant, is not
        real or has no compiled form, an event is no inequality, or a weight of a softmax is
        negative at these constants.

    Examples
    --------
    >>> a, b, s = sp.symbols("a b s")
    >>> loss = (s - a * b) ** 2 / 2
    >>> model = Landscape([a, b], loss, constants={s: 1}, events={"fall": loss <= 0.125})
    >>> model.gradient([1.0, 0.5])
    array([-0.25, -0.5 ])
    >>> float(model.with_constants(s=2).loss([1.0, 0.0]))
    2.0
    """

    parameters: tuple[sp.Symbol, ...]
    constants: Mapping[str, Number]
    expression: Expr | None
    velocity: tuple[Expr, ...]
    average: Mapping[sp.Symbol, tuple[tuple[float, ...], tuple[float, ...]]] = MappingProxyType({})

    def __init__(
        self,
        parameters: Sequence[sp.Symbol],
        loss: Any = None,
        constants: Mapping[Any, Any] | None = None,
        measures: Mapping[str, Any] | None = None,
        events: Mapping[str, Any] | None = None,
        plateau: Any = None,
        velocity: Sequence[Any] | None = None,
        labels: Mapping[str, str] | None = None,
        average: Mapping[sp.Symbol, tuple[Sequence[float], Sequence[float]]] | None = None,
    ) -> None:
        self._set_names(parameters, constants, measures, events, labels)
        self._keep(average=self._averaged(average or {}))
        if (loss is None) == (velocity is None):
            raise ArgumentError("loss", loss, "must be given, or else a velocity, and not both")
        symbols = (*self.parameters, *self._constants, *self.average)
        everywhere = {symbol.name: symbol for symbol in symbols}
        fixed = {symbol.name: symbol for symbol in self._constants}
        if loss is not None:
            loss = real_expression("loss", loss, everywhere)
            everywhere["loss"] = LOSS
        if plateau is not None:
            plateau = real_expression("plateau", plateau, fixed)
            everywhere["plateau"] = PLATEAU
        if velocity is not None:
            flow = [
                real_expression("velocity", v, everywhere) for v in _sequence("velocity", velocity)
            ]
            if len(flow) != self.n_parameters:
                raise ArgumentError("velocity", velocity, f"must have {self.n_parameters} entries")
        else:
            flow = []
        self._keep(
            expression=loss,
            velocity=tuple(flow),
            _plateau=plateau,
            _measures={k: real_expression(k, v, everywhere) for k, v in (measures or {}).items()},
            _events={k: inequality(k, v, everywhere) for k, v in (events or {}).items()},
        )
        self._structure  # noqa: B018  (refuses what has no compiled form)
        self._check_values()

    # ---- what it is ------------------------------------------------------------------------------

    def _set_names(
        self, parameters: Any, constants: Any, measures: Any, events: Any, labels: Any = None
    ) -> None:
        """Check all names, and keep parameters and constants."""
        symbols = _sequence("parameters", parameters)
        if not symbols or not all(isinstance(symbol, sp.Symbol) for symbol in symbols):
            raise ArgumentError("parameters", parameters, "must be one or more SymPy symbols")
        for argument, value in (
            ("constants", constants),
            ("measures", measures),
            ("events", events),
        ):
            if value is not None and not isinstance(value, Mapping):
                raise ArgumentError(argument, value, "must be a mapping from names")
        values = {getattr(key, "name", key): value for key, value in (constants or {}).items()}
        seen: set[str] = set()
        for argument, names in (
            ("parameters", [symbol.name for symbol in symbols]),
            ("constants", list(values)),
            ("measures", list(measures or {})),
            ("events", list(events or {})),
        ):
            for name in names:
                _check_name(argument, name)
                if name in seen or (argument == "constants" and len(values) < len(constants)):
                    raise ArgumentError(argument, name, "is the name of something else, too")
                seen.add(name)
        for name in [*(symbol.name for symbol in symbols), *values]:
            component = name.removeprefix("mobility_")
            if component != name and component in [symbol.name for symbol in symbols]:
                raise ArgumentError(
                    "parameters", name, f"is the mobility of {component} in a sweep"
                )
        numbers = {name: _constant(name, value) for name, value in values.items()}
        known = [*(symbol.name for symbol in symbols), *numbers]
        for name, text in (labels or {}).items():
            if name not in known or not isinstance(text, str):
                raise ArgumentError("labels", name, "must give text to " + ", ".join(known))
        latex = {
            name: name.replace("$", r"\$") if "$" in name else f"${sp.latex(sp.Symbol(name))}$"
            for name in known
        }
        self._keep(
            labels=MappingProxyType(latex | dict(labels or {})),
            parameters=tuple(sp.Symbol(symbol.name, real=True) for symbol in symbols),
            _constants=tuple(sp.Symbol(name, real=True) for name in numbers),
            constants=MappingProxyType(numbers),
        )

    def _averaged(
        self, average: Mapping[Any, Any]
    ) -> Mapping[sp.Symbol, tuple[tuple[float, ...], tuple[float, ...]]]:
        """The nodes and weights of each symbol, checked."""
        taken = {*self.parameter_names, *self.constants}
        found = {}
        for symbol, grid in average.items():
            if not isinstance(symbol, sp.Symbol) or symbol.name in taken:
                raise ArgumentError("average", symbol, "must be of symbols that are nothing else")
            nodes, weights = (finite_array("average", values) for values in grid)
            if nodes.ndim != 1 or nodes.shape != weights.shape or abs(weights.sum() - 1.0) > 1e-9:
                told = f"must have a weight for each node of {symbol}, which add up to 1"
                raise ArgumentError("average", symbol.name, told)
            taken.add(symbol.name)
            real_symbol = sp.Symbol(symbol.name, real=True)
            found[real_symbol] = tuple(nodes.tolist()), tuple(weights.tolist())
        return MappingProxyType(found)

    def _keep(self, **attributes: Any) -> None:
        self.__dict__.update(attributes)

    def __setattr__(self, name: str, value: object) -> None:
        raise AttributeError("a Landscape is immutable: with_constants gives another one")

    def __delattr__(self, name: str) -> None:
        raise AttributeError("a Landscape is immutable")

    def __getattr__(self, name: str) -> Any:
        constants = self.__dict__.get("constants", {})
        if name in constants:
            return constants[name]
        raise AttributeError(f"Landscape has no attribute or constant {name!r}")

    def __dir__(self) -> list[str]:
        return sorted([*super().__dir__(), *self.constants])

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Landscape) and self._identity == other._identity

    def __hash__(self) -> int:
        return hash(self._identity)

    def __reduce__(self) -> tuple[Any, ...]:
        return Landscape.from_data, (self.to_data(),)

    def __repr__(self) -> str:
        values = ", ".join(f"{name}={value}" for name, value in self.constants.items())
        names = ", ".join(self.parameter_names)
        return f"Landscape({names}{'; ' if values else ''}{values})"

    @property
    def n_parameters(self) -> int:
        """Components p of theta."""
        return len(self.parameters)

    @property
    def parameter_names(self) -> tuple[str, ...]:
        """Names of the components of theta, in order."""
        return tuple(symbol.name for symbol in self.parameters)

    @property
    def measure_names(self) -> tuple[str, ...]:
        """Names of the measures, without the loss."""
        return tuple(self._measures)

    @property
    def event_names(self) -> tuple[str, ...]:
        """Names of the events, in the order of their entries in the evaluation."""
        return tuple(self._events)

    @property
    def default_slice(self) -> tuple[str, str]:
        """The first two parameters, over which a picture shows the loss."""
        return self.parameter_names[0], self.parameter_names[:2][-1]

    @property
    def reference_losses(self) -> dict[str, float]:
        """The plateau, if it is above 0 (nats)."""
        return {"plateau": self.plateau} if self.plateau and self.plateau > 0.0 else {}

    @property
    def valley_names(self) -> tuple[str, ...]:
        """Names behind the labels of `identify`: none."""
        return ()

    def identify(
        self, theta: ArrayLike, loss: ArrayLike, tolerance: float = 0.05
    ) -> NDArray[np.int64]:
        """The valleys of ends (..., p): all −1, undecided, since no valley has a name."""
        return np.full(np.shape(theta)[:-1], -1, dtype=np.int64)

    @property
    def plateau(self) -> float | None:
        """Loss at which a flow waits (nats), or None; NaN where it is no finite real number."""
        if self._plateau is None:
            return None
        return float(self._real_plateaus(self.constants_row[np.newaxis])[0])

    def with_constants(self, **values: Number) -> Landscape:
        """The same landscape with other constants; nothing is compiled.

        Raises
        ------
        ArgumentError
            If there is no constant of that name, or its value is out of range.
        """
        row = self._changed(values)
        other = object.__new__(type(self))
        other._keep(**{k: v for k, v in self.__dict__.items() if k not in _DEPENDS_ON_CONSTANTS})
        other._keep(constants=MappingProxyType(row))
        other._check_values()
        return other

    def _check_values(self) -> None:
        """Refuse constants that are out of the landscape's range."""
        self._check_weights(self.constants_row[np.newaxis])
        if self.plateau is not None and np.isnan(self.plateau):
            raise ArgumentError("constants", dict(self.constants), "must give a finite plateau")

    def _changed(self, values: Mapping[str, Any]) -> dict[str, Number]:
        for name, value in values.items():
            check_known(self.constants, name, value)
        return dict(self.constants) | {k: _constant(k, v) for k, v in values.items()}

    def settings(self) -> dict[str, Any]:
        """`to_data` as an entry of a file's parameters."""
        return {"landscape": self.to_data()}

    def to_data(self) -> dict[str, Any]:
        """The landscape as JSON: expressions are a table of nodes, see `cliff.symbolic.data`."""
        constants = [[k, v] for k, v in self.constants.items()]
        return self._structure | {"constants": constants, "labels": dict(self.labels)}

    @cached_property
    def _structure(self) -> dict[str, Any]:
        """`to_data` without the values of the constants."""
        parts = {
            "loss": [] if self.expression is None else [self.expression],
            "velocity": self.velocity,
            "plateau": [] if self._plateau is None else [self._plateau],
            "measures": self._measures.values(),
            "events": self._events.values(),
        }
        table, roots = to_table([root for part in parts.values() for root in part])
        left = iter(roots)
        numbers: dict[str, list[Any]] = {k: [next(left) for _ in part] for k, part in parts.items()}
        for name, entries in (("measures", self._measures), ("events", self._events)):
            numbers[name] = [list(pair) for pair in zip(entries, numbers[name], strict=True)]
        names = {
            "format": FORMAT_OF_AVERAGES if self.average else FORMAT,
            "parameters": list(self.parameter_names),
        }
        grids = [[s.name, list(x), list(w)] for s, (x, w) in self.average.items()]
        return names | numbers | {"nodes": table} | ({"average": grids} if grids else {})

    @classmethod
    def from_data(cls, data: Mapping[str, Any]) -> Landscape:
        """The landscape that `to_data` wrote. No text is evaluated, whoever wrote it.

        Raises
        ------
        ArgumentError
            If the data has another form, an unknown node, or is from a newer version.
        """
        try:
            if "functions" in data:
                raise NotData("is made of functions, which no file can hold")
            if data["format"] not in (FORMAT, FORMAT_OF_AVERAGES):
                raise NotData(f"format {data['format']!r:.40} is not known: upgrade to read it")
            constants = dict(data["constants"])
            symbols = [sp.Symbol(str(name), real=True) for name in data["parameters"]]
            names = {s.name: s for s in (*symbols, LOSS, PLATEAU)}
            names |= {name: sp.Symbol(str(name), real=True) for name in constants}
            grids = data["average"] if data["format"] == FORMAT_OF_AVERAGES else []
            average = {sp.Symbol(str(name), real=True): (x, w) for name, x, w in grids}
            names |= {symbol.name: symbol for symbol in average}
            entries = {name: dict(data[name]) for name in ("measures", "events")}

            def read(roots: Any) -> list[Basic]:
                return from_table(data["nodes"], list(roots), names)

            loss, plateau = (read(data[name]) or [None] for name in ("loss", "plateau"))
            measures, events = (
                dict(zip(entries[name], read(entries[name].values()), strict=True))
                for name in ("measures", "events")
            )
            velocity = read(data["velocity"]) or None
            labels = dict(data.get("labels", {}))
            return cls(
                symbols, loss[0], constants, measures, events, plateau[0], velocity, labels, average
            )
        except NotData as error:
            raise ArgumentError("landscape", "data", str(error)) from error
        except (KeyError, TypeError, ValueError, RecursionError) as error:
            if isinstance(error, ArgumentError):
                raise
            raise ArgumentError(
                "landscape", "data", "is not a landscape of this package"
            ) from error

    @staticmethod
    def from_functions(
        parameters: Sequence[sp.Symbol],
        loss: Callable[..., Any],
        gradient: Callable[..., Any],
        hessian: Callable[..., Any] | None = None,
        constants: Mapping[Any, Any] | None = None,
        measures: Mapping[str, Callable[..., Any]] | None = None,
        events: Mapping[str, Callable[..., Any]] | None = None,
        plateau: float | None = None,
    ) -> Landscape:
        """A landscape of functions that numba can compile.

        Parameters
        ----------
        parameters : sequence of sympy.Symbol
        loss, gradient : callable
            ``loss(theta, *constants)``, a number in nats, and ``gradient(theta, *constants)``, p
            numbers; theta is an array of shape (p,), the constants are floats in their order.
        hessian : callable, optional
            The same for p rows of p numbers; without it the landscape has no Hessian.
        constants : mapping of Symbol or str to number, optional
        measures, events : mapping of str to callable, optional
            Functions of the same arguments that give a number; an event is the moment when its
            number falls to 0 or below. Where one function raises, all values are NaN, and a flow
            that gets there ends with the status "not finite".
        plateau : float, optional

        Returns
        -------
        Landscape
            It is equal to another one if its functions are the same objects, and has no `to_data`;
            it is pickled if its functions can be.

        Raises
        ------
        ArgumentError
            If names clash or a function is none. What does not compile is refused at its first use.
        """
        return _OfFunctions(
            parameters, loss, gradient, hessian, constants, measures, events, plateau
        )

    @cached_property
    def _identity(self) -> Any:
        return json.dumps(self.to_data())

    @property
    def has_loss(self) -> bool:
        """False for a velocity."""
        return not self.velocity

    # ---- its evaluation --------------------------------------------------------------------------

    @cached_property
    def constants_row(self) -> Array:
        """The constants as a row for the evaluation, float64 (n_constants,)."""
        row = np.array(list(self.constants.values()), dtype=np.float64)
        row.flags.writeable = False
        return row

    def constants_rows(self, values: Mapping[str, ArrayLike], m: int) -> Array:
        """A row of constants for each of m trajectories, shape (m, n_constants).

        Parameters
        ----------
        values : mapping of str to array_like, shape (m,) or ()
            Constants that differ between trajectories; the landscape's own hold for the rest.
        m : int

        Raises
        ------
        ArgumentError
            As `with_constants`, or if a shape is wrong.
        """
        rows = np.tile(self.constants_row, (m, 1))
        for name, value in values.items():
            check_known(self.constants, name, value)
            rows[:, list(self.constants).index(name)] = column(name, value, m)
        self._check_weights(rows)
        return rows

    def plateaus(self, rows: Array) -> Array:
        """The plateau at each row of constants, NaN where it is no positive number: shape (m,)."""
        if self._plateau is None:
            return np.full(len(rows), np.nan)
        found = self._real_plateaus(rows)
        return np.where(found > 0.0, found, np.nan)

    def _real_plateaus(self, rows: Array) -> Array:
        """The plateau at each row of constants, NaN where it is no finite real number.

        It is computed in float64: exact powers of whole numbers could take forever.
        """
        with np.errstate(all="ignore"):
            values = np.asarray(self._plateau_of(*rows.T), dtype=np.complex128)
        found = np.broadcast_to(values, (len(rows),))
        return np.where(np.isfinite(found) & (found.imag == 0.0), found.real, np.nan)

    @cached_property
    def _plateau_of(self) -> Callable[..., Any]:
        return sp.lambdify(self._constants, self._plateau, "numpy")

    def _check_weights(self, rows: Array) -> None:
        """Refuse constants that make a weight of a softmax negative."""
        for weight, function in self._weights:
            values = np.broadcast_to(function(*rows.T), len(rows))
            if not (values >= 0.0).all():
                worst = dict(zip(self.constants, rows[np.argmin(values)].tolist(), strict=True))
                raise ArgumentError(
                    "constants", worst, f"must not make the weight {weight} negative"
                )

    @cached_property
    def _weights(self) -> list[tuple[Expr, Callable[..., Any]]]:
        """Weights that depend on the constants alone, as functions of rows of constants."""
        roots = [self.expression, *self.velocity, *self._measures.values(), *self._events.values()]
        nodes = {n for root in roots if root is not None for n in root.atoms(OfLogits)}
        found = {weight for node in nodes for weight in node.w if weight.free_symbols}
        constant = [w for w in found if w.free_symbols <= set(self._constants)]
        return [(w, sp.lambdify(self._constants, w, "numpy")) for w in sorted(constant, key=str)]

    @property
    def n_out(self) -> int:
        """Entries that the evaluation writes: loss, gradient, events."""
        return 1 + self.n_parameters + len(self._events)

    def n_work(self, rows: Array) -> NDArray[np.int64]:
        """Scratch float64 that the evaluation needs at each row of constants: 0, shape (m,)."""
        return np.zeros(len(rows), dtype=np.int64)

    @property
    def has_hessian(self) -> bool:
        """Whether there is a Hessian."""
        return True

    @property
    def address(self) -> int:
        """Address of the evaluation of one point, see `cliff.kernels.generated`."""
        return self._address("flow")

    @property
    def pack_address(self) -> int:
        """Address of the evaluation of LANES points: theta (p, LANES), constants, out likewise."""
        return self._address("flow", generated.PACKS)

    def _address(self, kind: str, names: dict[str, Any] = generated.NUMBERS) -> int:
        at = kind, names is generated.PACKS
        if at not in self._addresses:
            structure = json.dumps([self._structure, list(self.constants)])
            key = f"{kind} {structure} {_generator()}"
            self._addresses[at] = generated.address_of(key, lambda: self._source(kind), names)
        return self._addresses[at]

    @cached_property
    def _addresses(self) -> dict[tuple[str, bool], int]:
        return {}

    def _source(self, kind: str) -> str:
        """Source of the evaluation "flow", of "hessian" or of "measures"."""
        assignments, first, then = getattr(self, f"_{kind}")()
        return evaluation_source(
            self.parameters, self._constants, assignments, first, then, self.average
        )

    def _flow(self) -> tuple[Any, ...]:
        events = [self._placed(e.lts - e.gts) for e in self._events.values()]
        chain, values = self._chain(events)
        p = self.n_parameters
        then = {0: chain.values[0]} | dict(
            enumerate(chain.values[len(chain.values) - len(events) :], start=1 + p)
        )
        return chain.assignments, dict(enumerate(values, start=1)), then

    def _hessian(self) -> tuple[Any, ...]:
        chain, slopes = self._chain([])
        rows, p = chain.derivatives(slopes, self.parameters), self.n_parameters
        entries: dict[int, Expr] = {}
        for i in range(p):
            for j in range(p):
                mirrored = self.has_loss and j < i  # equal to the last bit
                entries[i * p + j] = rows[j][i] if mirrored else rows[i][j]
        return chain.assignments, entries, {}

    def _measured(self) -> tuple[Any, ...]:
        chain = Chain([self._placed(measure) for measure in self._measures.values()])
        return chain.assignments, dict(enumerate(chain.values)), {}

    def _chain(self, more: Sequence[Expr]) -> tuple[Chain, list[Expr]]:
        """Chain of the loss (0 if there is none) and more values; the gradient or −velocity."""
        if self.velocity:
            forces = [-smooth(v) for v in self.velocity]
            chain = Chain([sp.S.Zero, *forces, *more])
            return chain, chain.values[1 : 1 + len(forces)]
        chain = Chain([smooth(self.expression), *more])
        return chain, chain.derivatives(chain.values[:1], self.parameters)[0]

    def _placed(self, expression: Expr) -> Expr:
        """With the loss and the plateau in the places of their symbols."""
        known = {LOSS: self.expression, PLATEAU: self._plateau}
        return expression.xreplace({k: v for k, v in known.items() if v is not None})

    # ---- values ----------------------------------------------------------------------------------

    def loss(self, theta: ArrayLike) -> Array:
        """Loss in nats.

        Parameters
        ----------
        theta : array_like, shape (..., p)

        Returns
        -------
        ndarray, shape (...,)

        Raises
        ------
        ArgumentError
            If theta is not finite or its last axis is not p long, or there is no loss.
        """
        return self.loss_and_gradient(theta)[0]

    def gradient(self, theta: ArrayLike) -> Array:
        """Derivatives of the loss by theta, or minus the velocity, shape (..., p); see `loss`."""
        rows, shape = self._rows(theta)
        out = self._evaluate("flow", rows, self.n_out, want=0)
        return np.ascontiguousarray(out[:, 1 : 1 + self.n_parameters]).reshape(*shape, -1)

    def loss_and_gradient(self, theta: ArrayLike) -> tuple[Array, Array]:
        """Loss (...,) and gradient (..., p) in one pass, on all cores for large batches."""
        if not self.has_loss:
            raise ArgumentError("landscape", self, "has a velocity and no loss")
        rows, shape = self._rows(theta)
        out = self._evaluate("flow", rows, self.n_out)
        gradient = np.ascontiguousarray(out[:, 1 : 1 + self.n_parameters])
        return out[:, 0].reshape(shape), gradient.reshape(*shape, self.n_parameters)

    def hessian(self, theta: ArrayLike) -> Array:
        """Derivatives of the gradient by theta, shape (..., p, p); kinks count as smooth."""
        rows, shape = self._rows(theta)
        p = self.n_parameters
        return self._evaluate("hessian", rows, p * p).reshape(*shape, p, p)

    def measures(self, theta: ArrayLike) -> dict[str, Array]:
        """The measures by name, and the loss if there is one; each of shape (...,); see `loss`."""
        rows, shape = self._rows(theta)
        found = {}
        if self._measures:
            values = self._evaluate("measured", rows, len(self._measures))
            found = {name: values[:, i].reshape(shape) for i, name in enumerate(self._measures)}
        return found | {"loss": self.loss(theta)} if self.has_loss else found

    def _rows(self, theta: ArrayLike) -> tuple[Array, tuple[int, ...]]:
        array = finite_array("theta", theta, self.n_parameters)
        return array.reshape(-1, self.n_parameters), array.shape[:-1]

    def _evaluate(self, kind: str, rows: Array, n_out: int, want: int = 1) -> Array:
        address, out = self._address(kind), np.empty((len(rows), n_out))
        constants = self.constants_row

        def work(start: int, stop: int) -> None:
            part = slice(start, stop)
            generated.evaluate_rows(address, rows[part], constants, want, 0, out[part])

        in_parallel(work, split(0, len(rows), CHUNK))
        return out


class _OfFunctions(Landscape):
    """A landscape of compiled functions in place of expressions; see `from_functions`."""

    expression = None
    velocity = ()

    def __init__(
        self,
        parameters: Sequence[sp.Symbol],
        loss: Callable[..., Any],
        gradient: Callable[..., Any],
        hessian: Callable[..., Any] | None,
        constants: Mapping[Any, Any] | None,
        measures: Mapping[str, Callable[..., Any]] | None,
        events: Mapping[str, Callable[..., Any]] | None,
        plateau: float | None,
    ) -> None:
        self._set_names(parameters, constants, measures, events)
        functions = {"loss": loss, "gradient": gradient, **(measures or {}), **(events or {})}
        if hessian is not None:
            functions["hessian"] = hessian
        for name, function in functions.items():
            if not callable(function):
                raise ArgumentError(name, function, "must be a function of theta and the constants")
        if plateau is not None:
            plateau = real("plateau", plateau)
        self._keep(
            _functions=functions,
            _measures=dict.fromkeys(measures or {}),
            _events=dict.fromkeys(events or {}),
            _plateau=None if plateau is None else sp.Float(plateau),
            _weights=[],
        )

    def __reduce__(self) -> tuple[Any, ...]:
        f = self._functions
        measures, events = ({k: f[k] for k in names} for names in (self._measures, self._events))
        arguments = (f["loss"], f["gradient"], f.get("hessian"), dict(self.constants))
        return _OfFunctions, (self.parameters, *arguments, measures, events, self.plateau)

    def to_data(self) -> dict[str, Any]:
        raise ArgumentError("landscape", self, "is made of functions, which no file can hold")

    def settings(self) -> dict[str, Any]:
        """Names of the functions, from which the landscape cannot be read back."""
        return {"landscape": {"functions": list(self._functions)}}

    @property
    def has_hessian(self) -> bool:
        """Whether a Hessian was given."""
        return "hessian" in self._functions

    @cached_property
    def _identity(self) -> Any:
        functions = tuple(self._functions.items())
        return (self.parameter_names, tuple(self.constants.items()), functions, self._plateau)

    def hessian(self, theta: ArrayLike) -> Array:
        if "hessian" not in self._functions:
            raise ArgumentError("hessian", None, "was not given to from_functions")
        return super().hessian(theta)

    @property
    def pack_address(self) -> int:
        return 0  # numba compiles a user's function for numbers alone

    def _address(self, kind: str, names: dict[str, Any] = generated.NUMBERS) -> int:
        first, then = getattr(self, f"_{kind}")()
        used = {name: len(entry) for name, entry in (*first.values(), *then.values())}
        for name, depth in used.items():
            self._check_function(name, depth)
        try:
            address = generated.address_of_functions(
                self._functions, self.n_parameters, len(self.constants), first, then
            )
        except NumbaError as error:
            told = f"must return {self.n_parameters} numbers in each row"
            raise ArgumentError("functions", ", ".join(used), told) from error
        return int(address)

    def _check_function(self, name: str, depth: int) -> None:
        """Refuse a function that does not compile, or whose values are no numbers, rows, …"""
        function = self._functions[name]
        shown = getattr(function, "__name__", function)
        try:
            found = generated.depth_of_value(function, len(self.constants))
        except Exception as error:  # numba lets errors of Python through
            raise ArgumentError(name, shown, f"does not compile: {_told(error)}") from error
        if found != depth:
            wanted = ("a real number", "p real numbers", "p rows of p real numbers")[depth]
            raise ArgumentError(name, shown, f"must return {wanted}")

    def _flow(self) -> tuple[Any, ...]:
        p = self.n_parameters
        scalars = ["loss", *[""] * p, *self._events]
        then = {row: (name, ()) for row, name in enumerate(scalars) if name}
        return {1 + i: ("gradient", (i,)) for i in range(p)}, then

    def _hessian(self) -> tuple[Any, ...]:
        p = self.n_parameters
        return {i * p + j: ("hessian", (i, j)) for i in range(p) for j in range(p)}, {}

    def _measured(self) -> tuple[Any, ...]:
        return {i: (name, ()) for i, name in enumerate(self._measures)}, {}


@cache
def _generator() -> str:
    """Hash of the files that decide, with the kernels, what the machine code of a landscape is."""
    own = hashlib.sha256(Path(__file__).read_bytes()).hexdigest()
    return own + _stamp(Path(evaluation_source.__code__.co_filename).parent)


_DEPENDS_ON_CONSTANTS = {"constants", "constants_row", "_identity"}


_FORBIDDEN = {"loss", "plateau", "t", "theta", "status"}
"""Names that results and placeholders have already."""

_OF_SWEEPS = {
    *("t_transition", "width", "abruptness", "basin"),
    *("outcome", "failure", "function_version"),
}
"""Names of other metrics and of a sweep's own variables, beside which an event has to be named."""


def _check_name(argument: str, name: Any) -> None:
    if not isinstance(name, str) or not name or any(c.isspace() or c in "=," for c in name):
        raise ArgumentError(argument, name, "must be a name without blanks, commas and =")
    taken = hasattr(Landscape, name) or name in Landscape.__annotations__ or name[0] == "_"
    taken = (argument == "constants" and taken) or (argument == "events" and name in _OF_SWEEPS)
    if name in _FORBIDDEN or taken:
        raise ArgumentError(argument, name, "is a reserved name")


def _told(error: Exception) -> str:
    """What numba says of a user's function, in a line, without the names that numba gives."""
    lines = [line.strip(" >") for line in str(error).splitlines()]
    lines = [s for s in lines if s and not s.startswith("Failed in")] or [type(error).__name__]
    line = " ".join(lines[: 2 if lines[0].endswith(":") else 1])
    line = re.sub(r"'\$[\w.$]+'", "a value", line)
    return re.sub(r"'(\w+)(\.\d+)+'", r"'\1'", line)


def _constant(name: str, value: Any) -> Number:
    """A finite number; one that is whole as an int, so that 8 and 8.0 are the same constant."""
    try:
        number = real(name, value)
    except OverflowError as error:
        raise ArgumentError(name, value, "must be a finite number") from error
    if isinstance(value, Integral):
        return int(value)
    return int(number) if number.is_integer() and abs(number) <= LARGEST_INTEGER else number


def _sequence(argument: str, value: Any) -> list[Any]:
    if isinstance(value, str) or not isinstance(value, Iterable):
        raise ArgumentError(argument, value, "must be a sequence")
    return list(value)
