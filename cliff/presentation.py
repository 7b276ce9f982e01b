"""What a landscape says of itself in titles, tables, pictures and sweeps."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping
from typing import TYPE_CHECKING, Any, ClassVar, Protocol

import numpy as np
from numpy.typing import NDArray

from cliff.checks import ArgumentError

if TYPE_CHECKING:
    from cliff.protocol import LandscapeLike

Array = NDArray[np.float64]


class PresentedLike(Protocol):
    """How a landscape is shown and swept; `Presented` has all of it.

    Attributes
    ----------
    component : str
        What a component of theta is called.
    plateau_label : str
        How pictures write the plateau.
    axes : mapping of str to str
        Axes of sweeps beside starts and mobilities, and the constant that each one sets.
    whole_axes : tuple of str
        Axes whose values are whole numbers of at least 1.
    walls : mapping of (str, str) to str
        Pairs of axes x, y with no landscape below the line y = x, and what a picture calls it.
    outside : tuple of str
        Failures that `constants_at` gives to cells beyond a wall.
    measure_names, reported_measures : tuple of str
        Measures that a picture and a table show.
    """

    @property
    def component(self) -> str: ...
    @property
    def plateau_label(self) -> str: ...
    @property
    def axes(self) -> Mapping[str, str]: ...
    @property
    def whole_axes(self) -> tuple[str, ...]: ...
    @property
    def walls(self) -> Mapping[tuple[str, str], str]: ...
    @property
    def outside(self) -> tuple[str, ...]: ...
    @property
    def measure_names(self) -> tuple[str, ...]: ...
    @property
    def reported_measures(self) -> tuple[str, ...]: ...

    def describe(self, constants: Mapping[str, Any]) -> str:
        """Constants, all or some of them, with their values as a title writes them."""
        ...

    def saddles(self, x: str, y: str) -> list[tuple[float, float]]:
        """Saddles that a map over two components of theta marks."""
        ...

    def check_axes(self, names: Collection[str]) -> None:
        """Raise ArgumentError that names the first axis that has no effect."""
        ...

    def constants_at(
        self, columns: Mapping[str, Array], m: int
    ) -> tuple[dict[str, NDArray[Any]], NDArray[Any]]:
        """The constants of m cells of a sweep, and why a cell can have none.

        Parameters
        ----------
        columns : mapping of str to ndarray, shape (m,)
            Values of some of `axes`.
        m : int

        Returns
        -------
        constants : dict of str to ndarray, shape (m,)
        failure : ndarray of str, shape (m,)
            '' for a cell that has a landscape.
        """
        ...


class Presented:
    """Base class of a landscape that has of `PresentedLike` whatever it does not state itself.

    Constants are axes by their own names, and all measures are shown.
    """

    component: ClassVar[str] = "parameter"
    plateau_label: ClassVar[str] = "plateau"
    whole_axes: ClassVar[tuple[str, ...]] = ()
    outside: ClassVar[tuple[str, ...]] = ()

    @property
    def axes(self: Any) -> Mapping[str, str]:
        return {name: name for name in self.constants}

    @property
    def walls(self) -> Mapping[tuple[str, str], str]:
        return {}

    @property
    def measure_names(self: Any) -> tuple[str, ...]:
        names = self.measures(np.zeros(self.n_parameters))
        return tuple(name for name in names if name != "loss")

    @property
    def reported_measures(self) -> tuple[str, ...]:
        return self.measure_names

    def describe(self: Any, constants: Mapping[str, Any]) -> str:
        return ", ".join(f"{self.labels.get(k, k)} = {shown(v)}" for k, v in constants.items())

    def saddles(self, x: str, y: str) -> list[tuple[float, float]]:
        return []

    def check_axes(self, names: Collection[str]) -> None:
        pass

    def constants_at(
        self: Any, columns: Mapping[str, Array], m: int
    ) -> tuple[dict[str, NDArray[Any]], NDArray[Any]]:
        failure = np.full(m, "", dtype=object)
        try:
            self.constants_rows(columns, m)
        except ArgumentError:
            for cell in range(m):
                try:
                    self.with_constants(**{k: v[cell].item() for k, v in columns.items()})
                except ArgumentError as error:
                    failure[cell] = f"{error.argument} {error.requirement}"
        return dict(columns), failure


def shown(value: Any) -> str:
    """A constant in a title: a number in short, or the text of a range."""
    return f"{value:g}" if isinstance(value, float) else str(value)


def first_few(texts: Iterable[str], most: int = 4) -> str:
    """Texts in a row, those beyond the first `most` as dots."""
    texts = list(texts)
    return ", ".join(texts[:most] + ["…"] * (len(texts) > most))


def plain(label: str) -> str:
    """A label without the signs of LaTeX."""
    return re.sub(r"[$\\{}]", "", label)


def symbol_of(label: str) -> str:
    """The formula in a label, or the whole label if it has none."""
    found = re.search(r"(?<!\\)\$[^$]*(?<!\\)\$", label)
    return found.group() if found else label


def axis_label(model: LandscapeLike, axis: str) -> str:
    """How a picture writes an axis: a component at the start, a mobility, or a constant."""
    component = axis.removeprefix("mobility_")
    label = model.labels.get(component, component)
    if axis in model.axes or component not in model.parameter_names:
        return model.labels.get(axis, axis)
    if axis != component:
        return f"mobility of {label}"
    return label.replace(symbol_of(label), f"{symbol_of(label)} at the start", 1)


def valley_name(model: LandscapeLike, label: int) -> str:
    """The name behind a label of `identify`, or "undecided"."""
    return "undecided" if label < 0 else model.valley_names[label]
