"""The nested-logit landscape: loss, gradient, Hessian and progress measures."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import asdict, dataclass, replace
from types import MappingProxyType
from typing import Any, ClassVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

from cliff.checks import LARGEST_INTEGER, ArgumentError, choice, finite_array, integer, real
from cliff.kernels import nested_logit as kernels
from cliff.parallel import in_parallel, split
from cliff.presentation import Presented
from cliff.protocol import Number, check_known, column

Array = NDArray[np.float64]

POSITIONS = {"exact": kernels.EXACT, "mean": kernels.MEAN_FIELD}
PARAMETERS = ("beta1", "alpha", "xi", "beta2")
MEASURES = ("ila1", "tila2", "tla2", "cla", "p_correct", "accuracy")

LABELS = {
    "beta1": r"$\beta_1$ (previous token)",
    "alpha": r"$\alpha$ (match)",
    "xi": r"$\xi$ (classifier)",
    "beta2": r"$\beta_2$ (label bias)",
    "n_pairs": "pairs $N$",
    "n_labels": "labels $L$",
    "label_bias": r"label bias $\beta_2$",
    "pairs": "pairs in the context, $N$",
    "labels": "labels, $L$",
    "labels_per_pair": "labels per pair, $L/N$",
}
"""How pictures write parameters and constants."""

LARGEST_HESSIAN = 512
"""Largest N whose Hessian, at a cost that grows as N², is worth it to a stiff solver."""

MOST_PAIRS = 10**7
"""Largest N with exact positions: a gradient takes some tenths of a second and 1 GB then."""


FEWER_LABELS = "fewer labels than pairs"
"""Failure of cells of a sweep beyond the wall L = N, where no landscape exists."""


@dataclass(frozen=True)
class NestedLogit(Presented):
    """The loss made of three nested logits.

    The model keeps of a two-layer attention network what decides the loss in the limit of
    orthonormal contents: beta1 makes layer 1 attend to the previous token, alpha makes layer 2
    attend to the label whose buffer matches the target, and xi turns attention to a label into a
    prediction of it, after Reddy (ICLR 2024, arXiv 2312.03002). Write E = exp(beta1). Token j's
    buffer overlaps with the target by m_j, and

        q_j  = softmax_j(alpha·m_j + beta2·[j is a label])   over all 2N + 1 tokens,
        loss = −log softmax(xi·q)[correct label]             over the L labels,

    where a label that is not in the context has the logit 0, averaged over the slot s of the pair
    that matches the target.

    Parameters
    ----------
    n_pairs : int
        Item–label pairs N in the context, at least 1.
    n_labels : int
        Label classes L, at least N.
    positions : {"exact", "mean"}
        "exact": label n stands at position 2n of 2N + 1 and sees its predecessor with weight
        E/(E + 2n − 1); the loss is averaged over the slots s = 1 … N. "mean": attention is confined
        to the labels and the counts are replaced by their mean, E/(E + N), which gives this
        project's own closed form in the spirit of the paper's.
    label_bias : float or "free"
        beta2, added to the layer-2 logit of every label: a number, or "free" for a fourth component
        of theta. In the mean field all tokens are labels, and the loss does not depend on it.

    Raises
    ------
    ArgumentError
        If an argument is out of range.

    Examples
    --------
    >>> model = NestedLogit(n_pairs=8, n_labels=32)
    >>> round(float(model.loss([0.0, 0.0, 0.0])), 6)  # log 32
    3.465736

    References
    ----------
    .. [1] G. Reddy, "The mechanistic basis of data dependence and abrupt learning in an in-context
       classification task", ICLR 2024, arXiv 2312.03002.
    """

    n_pairs: int = 8
    n_labels: int = 32
    positions: str = "exact"
    label_bias: float | str = 0.0

    def __post_init__(self) -> None:
        n_pairs = integer("n_pairs", self.n_pairs, 1)
        choice("positions", self.positions, tuple(POSITIONS))
        if self.positions == "exact" and n_pairs > MOST_PAIRS:
            raise ArgumentError(
                "n_pairs", n_pairs, f"must be at most {MOST_PAIRS} unless positions are mean"
            )
        if self.label_bias != "free":
            if isinstance(self.label_bias, str):
                raise ArgumentError("label_bias", self.label_bias, 'must be a number or "free"')
            object.__setattr__(self, "label_bias", real("label_bias", self.label_bias))
        n_labels = integer("n_labels", self.n_labels, 1)
        if n_labels < n_pairs:
            raise ArgumentError(
                "n_labels", n_labels, f"must be at least the number of pairs, {n_pairs}"
            )
        object.__setattr__(self, "n_pairs", n_pairs)
        object.__setattr__(self, "n_labels", n_labels)

    @property
    def n_parameters(self) -> int:
        """Components p of theta: 3, or 4 with a free label bias."""
        return 4 if self.label_bias == "free" else 3

    @property
    def parameter_names(self) -> tuple[str, ...]:
        """Names of the components of theta, in order."""
        return PARAMETERS[: self.n_parameters]

    @property
    def n_absent(self) -> int:
        """Labels L − N that are not in the context."""
        return self.n_labels - self.n_pairs

    @property
    def constants(self) -> Mapping[str, Number]:
        """N, L and, where it is a number, the label bias, by the names of the fields."""
        values: dict[str, Number] = {"n_pairs": self.n_pairs, "n_labels": self.n_labels}
        if not isinstance(self.label_bias, str):
            values["label_bias"] = self.label_bias
        return MappingProxyType(values)

    def with_constants(self, **values: Any) -> NestedLogit:
        """The landscape with another N, L or label bias.

        Raises
        ------
        ArgumentError
            If there is no constant of that name, or its value is out of range.
        """
        for name, value in values.items():
            check_known(self.constants, name, value)
        return replace(self, **values)

    @property
    def constants_row(self) -> Array:
        """N, L, label bias, kind of positions, whether the label bias is free: shape (5,)."""
        bias = 0.0 if isinstance(self.label_bias, str) else self.label_bias
        free = float(self.label_bias == "free")
        return np.array([self.n_pairs, self.n_labels, bias, POSITIONS[self.positions], free])

    def constants_rows(self, values: Mapping[str, ArrayLike], m: int) -> Array:
        """A row as `constants_row` for each of m trajectories, shape (m, 5).

        Parameters
        ----------
        values : mapping of str to array_like, shape (m,) or ()
            Constants that differ between trajectories; the landscape's own hold for the rest.
        m : int

        Raises
        ------
        ArgumentError
            As `with_constants`.
        """
        rows = np.tile(self.constants_row, (m, 1))
        for name, value in values.items():
            check_known(self.constants, name, value)
            place = tuple(self.constants).index(name)
            rows[:, place] = column(name, value, m, whole=name != "label_bias")
        pairs, labels = rows[:, 0], rows[:, 1]
        if (labels < pairs).any():
            row = int(np.argmax(labels < pairs))
            requirement = f"must be at least the number of pairs, {int(pairs[row])}"
            raise ArgumentError("n_labels", int(labels[row]), f"{requirement} (trajectory {row})")
        if self.positions == "exact" and (pairs > MOST_PAIRS).any():
            row = int(np.argmax(pairs > MOST_PAIRS))
            requirement = f"must be at most {MOST_PAIRS} unless positions are mean"
            raise ArgumentError("n_pairs", int(pairs[row]), f"{requirement} (trajectory {row})")
        return rows

    @property
    def plateau(self) -> float:
        """Loss of a guess among the labels of the context, log N (nats)."""
        return float(np.log(self.n_pairs))

    def plateaus(self, rows: Array) -> Array:
        """The plateau at each row of constants, NaN at N = 1, where it is 0: shape (m,)."""
        plateaus = np.log(rows[:, 0])
        plateaus[rows[:, 0] == 1.0] = np.nan
        return plateaus

    event_names: ClassVar[tuple[str, ...]] = ()
    pack_address: ClassVar[int] = 0
    n_out: ClassVar[int] = 5
    has_loss: ClassVar[bool] = True
    labels: ClassVar[Mapping[str, str]] = MappingProxyType(LABELS)
    default_slice: ClassVar[tuple[str, str]] = ("beta1", "alpha")

    component: ClassVar[str] = "logit"
    plateau_label: ClassVar[str] = r"$\log N$"
    measure_names: ClassVar[tuple[str, ...]] = MEASURES[:5]
    reported_measures: ClassVar[tuple[str, ...]] = ("ila1", "tila2", "p_correct")
    whole_axes: ClassVar[tuple[str, ...]] = ("pairs", "labels")
    walls: ClassVar[Mapping[tuple[str, str], str]] = MappingProxyType(
        {("pairs", "labels"): "wall $L$ = $N$"}
    )
    outside: ClassVar[tuple[str, ...]] = (FEWER_LABELS,)

    @property
    def axes(self) -> Mapping[str, str]:
        """N, L, L/N, which sets L to the nearest integer, and the label bias where it counts."""
        axes = {"pairs": "n_pairs", "labels": "n_labels", "labels_per_pair": "n_labels"}
        has_bias = "label_bias" in self.constants and self.positions == "exact"
        return axes | ({"label_bias": "label_bias"} if has_bias else {})

    def describe(self, constants: Mapping[str, Any]) -> str:
        """N and L, those of them that are given, and the kind of positions."""
        symbols = {"n_pairs": "$N$", "n_labels": "$L$"}
        values = [f"{symbol} = {constants[k]}" for k, symbol in symbols.items() if k in constants]
        return ", ".join([*values, f"{self.positions} positions"])

    def saddles(self, x: str, y: str) -> list[tuple[float, float]]:
        """The origin of a map over alpha and xi at L = N."""
        return [(0.0, 0.0)] if {x, y} == {"alpha", "xi"} and self.n_absent == 0 else []

    def check_axes(self, names: Collection[str]) -> None:
        """Raise ArgumentError that names the first axis that has no effect."""
        for name in names:
            if name.removeprefix("mobility_") == "beta2" and self.label_bias != "free":
                raise ArgumentError("axes", name, "has no effect unless the label bias is free")
            if (
                name.removeprefix("mobility_") in ("beta2", "label_bias")
                and self.positions == "mean"
            ):
                raise ArgumentError("axes", name, "has no effect in the mean field")

    def constants_at(
        self, columns: Mapping[str, Array], m: int
    ) -> tuple[dict[str, NDArray[Any]], NDArray[Any]]:
        """N, L and label bias of m cells of a sweep; see `Presented.constants_at`."""
        counts = {
            "pairs": columns.get("pairs", np.full(m, float(self.n_pairs))),
            "labels": columns.get("labels", np.full(m, float(self.n_labels))),
        }
        if "labels_per_pair" in columns:
            counts["labels"] = np.rint(columns["labels_per_pair"] * counts["pairs"])
        failure = np.full(m, "", dtype=object)
        failure[counts["labels"] < counts["pairs"]] = FEWER_LABELS
        for name, values in counts.items():
            whole = (values == np.rint(values)) & (values >= 1.0) & (values <= LARGEST_INTEGER)
            failure[~whole & (failure == "")] = (
                f"{name} must be a whole number of at least 1 and at most {LARGEST_INTEGER}"
            )
        found: dict[str, NDArray[Any]] = {
            self.axes[name]: np.where(failure == "", values, 1.0).astype(np.int64)
            for name, values in counts.items()
        }
        return found | {k: v for k, v in columns.items() if k == "label_bias"}, failure

    @property
    def address(self) -> int:
        """Address of the evaluation, see `cliff.kernels.generated`."""
        return kernels.evaluation_address()

    def n_work(self, rows: Array) -> NDArray[np.int64]:
        """Scratch float64 that the evaluation needs at each row of constants, shape (m,)."""
        lengths: NDArray[np.int64] = kernels.workspace.py_func(rows[:, 0].astype(np.int64))
        return lengths

    @property
    def has_hessian(self) -> bool:
        """Whether the Hessian is worth its cost to a stiff solver."""
        return self.positions == "mean" or self.n_pairs <= LARGEST_HESSIAN

    @property
    def reference_losses(self) -> dict[str, float]:
        """log L, where a flow starts, and the plateau log N (nats)."""
        levels = {r"start $\log L$ (no knowledge)": float(np.log(self.n_labels))}
        if self.n_pairs > 1:
            levels[r"plateau $\log N$ (guess in context)"] = self.plateau
        return levels

    @property
    def valley_names(self) -> tuple[str, ...]:
        """Names behind the labels of `identify`; see `cliff.valleys`."""
        from cliff.valleys import VALLEY_NAMES

        return VALLEY_NAMES

    def identify(
        self, theta: ArrayLike, loss: ArrayLike, tolerance: float = 0.05
    ) -> NDArray[np.int64]:
        """The valley in which each end of a trajectory lies; see `cliff.valleys.identify`."""
        from cliff.valleys import identify

        return identify(self, theta, loss, tolerance)

    def settings(self) -> dict[str, Any]:
        """The four arguments, for files."""
        return asdict(self)

    def loss(self, theta: ArrayLike) -> Array:
        """Loss in nats.

        Parameters
        ----------
        theta : array_like, shape (..., p)
            Logits beta1, alpha, xi and, with a free label bias, beta2.

        Returns
        -------
        ndarray, shape (...,)

        Raises
        ------
        ArgumentError
            If theta is not finite or its last axis is not p long.
        """
        rows, shape = self._rows(theta)
        return self._evaluate(rows)[:, 0].reshape(shape)

    def gradient(self, theta: ArrayLike) -> Array:
        """Derivatives of the loss by theta, shape (..., p); see `loss`."""
        return self.loss_and_gradient(theta)[1]

    def loss_and_gradient(self, theta: ArrayLike) -> tuple[Array, Array]:
        """Loss (...,) and gradient (..., p) in one pass, on all cores for large batches."""
        rows, shape = self._rows(theta)
        out = self._evaluate(rows)
        gradient = np.ascontiguousarray(out[:, 1 : 1 + self.n_parameters])
        return out[:, 0].reshape(shape), gradient.reshape(*shape, self.n_parameters)

    def hessian(self, theta: ArrayLike) -> Array:
        """Second derivatives of the loss by theta, shape (..., p, p), symmetric; see `loss`.

        With exact positions this takes a time that grows as N², 4 µs at N = 8 and 40 s at N = 1e5;
        loss, gradient and measures take one that grows as N.
        """
        rows, shape = self._rows(theta)
        m, p = len(rows), self.n_parameters
        hessian = np.empty((m, 4, 4))
        others = np.empty(m), np.empty((m, 4)), hessian, np.empty((m, len(MEASURES)))
        self._call(kernels.direct_batch, rows, True, *others)
        return np.ascontiguousarray(hessian[:, :p, :p]).reshape(*shape, p, p)

    def measures(self, theta: ArrayLike) -> dict[str, Array]:
        """Progress measures, means over the slot of the matching pair.

        Parameters
        ----------
        theta : array_like, shape (..., p)

        Returns
        -------
        dict of ndarray, shape (...,)
            ``ila1``, layer-1 attention of a label to the item before it, mean over labels;
            ``tila2``, layer-2 attention of the target to the correct label; ``tla2``, to all
            labels; ``cla``, probability that the prediction puts on labels of the context;
            ``p_correct``, on the correct label; ``accuracy``, share of slots whose most probable
            label is the correct one, where labels that tie for it share the slot evenly (1/L at
            xi = 0); ``loss`` (nats).

        Raises
        ------
        ArgumentError
            As `loss`.
        """
        rows, shape = self._rows(theta)
        out, values = np.empty((len(rows), 5)), np.empty((len(rows), len(MEASURES)))
        self._call(kernels.measure_batch, rows, out, values)
        columns = {name: values[:, i].reshape(shape) for i, name in enumerate(MEASURES)}
        return columns | {"loss": out[:, 0].reshape(shape)}

    def _rows(self, theta: ArrayLike) -> tuple[Array, tuple[int, ...]]:
        """theta as rows (beta1, alpha, xi, beta2), and the shape of the batch."""
        array = finite_array("theta", theta, self.n_parameters)
        shape = array.shape[:-1]
        return self.complete(array.reshape(-1, self.n_parameters)), shape

    def complete(self, theta: Array) -> Array:
        """Append the fixed label bias to theta of shape (m, p), for the kernels: shape (m, 4)."""
        if self.label_bias == "free":
            return theta
        rows = np.empty((len(theta), 4))
        rows[:, :3] = theta
        rows[:, 3] = self.label_bias
        return rows

    def _evaluate(self, rows: Array) -> Array:
        """Loss and its derivatives by beta1, alpha, xi, beta2 for rows (m, 4), shape (m, 5)."""
        out = np.empty((len(rows), 5))
        self._call(kernels.evaluate_batch, rows, True, out)
        return out

    def _call(self, kernel: Callable[..., object], rows: Array, *arguments: bool | Array) -> None:
        """Call a kernel for rows (m, 4) on all cores; its array arguments have m rows too."""

        def work(start: int, stop: int) -> None:
            parts = (x if isinstance(x, bool) else x[start:stop] for x in arguments)
            kernel(
                POSITIONS[self.positions],
                self.n_pairs,
                float(self.n_absent),
                rows[start:stop],
                *parts,
            )

        # some tenths of a millisecond at a time
        cost = self.n_pairs * min(self.n_pairs, 64) if self.positions == "exact" else 1
        in_parallel(work, split(0, len(rows), max(4, 2**16 // cost)))
