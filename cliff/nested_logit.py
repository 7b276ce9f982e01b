"""The nested-logit landscape: loss, gradient, Hessian and progress measures."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Mapping
from dataclasses import asdict, dataclass, fields, replace
from types import MappingProxyType
from typing import Any, ClassVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

from cliff.checks import LARGEST_INTEGER, ArgumentError, choice, finite_array, integer, real
from cliff.data import Data
from cliff.kernels import nested_logit as kernels
from cliff.parallel import in_parallel, split
from cliff.presentation import Presented, shown
from cliff.protocol import Number, check_known, column

Array = NDArray[np.float64]

POSITIONS = {"exact": kernels.EXACT, "mean": kernels.MEAN_FIELD}
PARAMETERS = ("beta1", "alpha", "xi", "beta2")
MEASURES = ("ila1", "tila2", "tla2", "cla", "p_correct", "accuracy")
ANSWERS = ("icl", "icl_swapped", "iwl")
"""Measures that a landscape with memory has in place of the accuracy."""

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
    "n_classes": "classes $K$",
    "dim": "dimension $D$",
    "zipf_exponent": "Zipf exponent",
    "burstiness": "burstiness $B$",
    "noise": r"noise $\varepsilon$",
    "p_bursty": "share of bursty sequences",
    "p_novel": "share of novel sequences",
    "classes": "known classes, $K$",
    "zipf": "exponent of the class frequencies",
}
"""How pictures write parameters and constants."""

LARGEST_HESSIAN = 512
"""Largest N whose Hessian, at a cost that grows as N², is worth it to a stiff solver."""

MOST_PAIRS = 10**7
"""Largest N with exact positions: a gradient takes some tenths of a second and 1 GB then."""


MOST_SUBSETS = 20_000
"""Most sets of slots of the target's class over which a landscape with memory averages."""

MEMORY_AXES = {
    "classes": "n_classes",
    "zipf": "zipf_exponent",
    **{name: name for name in ("burstiness", "noise", "p_bursty", "p_novel", "dim")},
}
"""Axes of sweeps that a landscape with memory has besides, and the constant that each one sets.

`dim` is one where the data have a dimension."""

WHOLE = {"n_pairs", "n_labels", "n_classes", "burstiness", "dim"}
"""Constants that are whole numbers."""

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
    memory : Data, optional
        The data that the weights can learn by heart, which adds the memory logits omega_1 …
        omega_C to theta, one for each group of classes; see the notes.

    Raises
    ------
    ArgumentError
        If an argument is out of range, or B copies of each class have more than `MOST_SUBSETS` ways
        to take their slots.

    Notes
    -----
    With memory the weights answer, too: omega_c is added to the logit of the correct label if the
    target is of a class of group c. The loss is a mean over the kinds of sequences,

        p_novel·l(0) + (1 − p_novel)·Σ_c F_c·l_known(omega_c),
        l_known = p_bursty·l + (1 − p_bursty)·l_chance,

    with the groups' shares F_c (`Data.group_shares`). l is the loss of a bursty context, which for
    one copy of each class and distinct labels is the loss above with omega_c added. Otherwise:

    - B copies: the correct label is attended to by the sum of q over its B slots, averaged over all
      sets of slots. The attention to the labels of the other N/B − 1 classes is taken at its mean.
    - Labels drawn with replacement, which allows N/B > L: the number m of other classes that carry
      the correct label is binomial. Attention to their labels is taken at its mean, and the wrong
      labels enter the normalisation by its mean over their draws: the mean is taken of the sum in
      the logarithm, not of the logarithm.
    - l_chance is the same with no match at all: N classes drawn independently of the target's, of
      which K is taken to be large.
    - Noise: two items of a class overlap by 1/(1 + noise²), an item with itself by 1.

    In finite dimension D memories disturb one another. Those of other classes add noise of variance
    sigma² = Σ_c v_c·omega_c² to each logit, v_c = K_c·(1 + noise²)/(L·D) (`Data.crosstalk`). The
    mean over it of the sum in the logarithm multiplies the weight of every wrong label by
    exp(sigma²/2). For large sigma that mean is made by deviations that do not occur among L − 1
    labels. Instead of sigma²/2, which the factor's logarithm is for small sigma, stands

        A = (sigma²/2) / (1 + √v·sigma/2),   v = Σ_c v_c,

    by which the logit of the correct label is lower: the memory omega_c counts as omega_c − A, and
    novel classes have −A, since unfamiliar items meet the same noise. With one group, omega − A is
    omega/(1 + v·omega/2) for omega ≥ 0, which saturates at the capacity 2/v. The shape is an
    interpolation, no expansion: for novel classes with v = 1/8 and L = 32 the loss is too small by
    0.05, 0.26 and 0.48 nats at sigma = 1, 2 and 3, where sigma²/2 makes it too large by 0.03, 0.26
    and 1.08. A has a continuous Hessian, which at omega = 0 is diagonal, v_c; its third derivatives
    jump there.

    The plateau, by which transitions are defined, is log N throughout. B = 1 with distinct labels
    takes little more time than without memory; the rest takes a time that grows as N² and with the
    number of sets of slots.

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
    memory: Data | None = None

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
        if self.memory is not None:
            _check_memory(self.memory, n_pairs, n_labels, self.positions)
        elif n_labels < n_pairs:
            raise ArgumentError(
                "n_labels", n_labels, f"must be at least the number of pairs, {n_pairs}"
            )
        object.__setattr__(self, "n_pairs", n_pairs)
        object.__setattr__(self, "n_labels", n_labels)

    def __repr__(self) -> str:
        values = ((each.name, getattr(self, each.name)) for each in fields(self))
        shown = ", ".join(f"{k}={v!r}" for k, v in values if k != "memory" or v is not None)
        return f"NestedLogit({shown})"

    @property
    def n_groups(self) -> int:
        """Memory logits C."""
        return 0 if self.memory is None else self.memory.n_groups

    @property
    def n_parameters(self) -> int:
        """Components p of theta: 3, one more with a free label bias, and the memory logits."""
        return (4 if self.label_bias == "free" else 3) + self.n_groups

    @property
    def parameter_names(self) -> tuple[str, ...]:
        """Names of the components of theta, in order."""
        memories = (f"omega_{c}" for c in range(1, self.n_groups + 1))
        return (*PARAMETERS[: self.n_parameters - self.n_groups], *memories)

    @property
    def n_absent(self) -> int:
        """Labels L − N that are not in the context."""
        return self.n_labels - self.n_pairs

    @property
    def constants(self) -> Mapping[str, Number]:
        """N, L, the label bias and the numbers of the memory's data, by the names of the fields."""
        values: dict[str, Number] = {"n_pairs": self.n_pairs, "n_labels": self.n_labels}
        if not isinstance(self.label_bias, str):
            values["label_bias"] = self.label_bias
        if self.memory is not None:
            of_data = {name: getattr(self.memory, name) for name in MEMORY_AXES.values()}
            values |= {name: value for name, value in of_data.items() if value is not None}
        return MappingProxyType(values)

    def with_constants(self, **values: Any) -> NestedLogit:
        """The landscape with other constants.

        Raises
        ------
        ArgumentError
            If there is no constant of that name, or its value is out of range.
        """
        for name, value in values.items():
            check_known(self.constants, name, value)
        own = {name: value for name, value in values.items() if hasattr(self, name)}
        if self.memory is not None:
            of_data = {name: value for name, value in values.items() if name not in own}
            own["memory"] = replace(self.memory, **of_data)
        return replace(self, **own)

    @property
    def constants_row(self) -> Array:
        """N, L, label bias, kind of positions, whether the label bias is free: shape (5,).

        Behind them what the kernels need of the memory, together (12 + 4C,); see
        `cliff.kernels.nested_logit.evaluation_with_memory`.
        """
        bias = 0.0 if isinstance(self.label_bias, str) else self.label_bias
        free = float(self.label_bias == "free")
        row = [self.n_pairs, self.n_labels, bias, POSITIONS[self.positions], free]
        if (data := self.memory) is not None:
            elsewhere = (data.n_classes / self.n_labels - 1.0) / (data.n_classes - 1.0)
            row += [data.n_groups, data.copies, 1.0 + data.noise**2]
            row += [data.labels_drawn == "replacement", elsewhere]
            novel, bursty, chance = data.kinds
            row += [novel, *(bursty * data.group_shares), 0.0, *(chance * data.group_shares)]
            row += [*data.group_shares, *np.sqrt(data.crosstalk(self.n_labels))]
        return np.array(row, dtype=np.float64)

    def constants_rows(self, values: Mapping[str, ArrayLike], m: int) -> Array:
        """A row as `constants_row` for each of m trajectories, shape (m, 5) or (m, 12 + 4C).

        Parameters
        ----------
        values : mapping of str to array_like, shape (m,) or ()
            Constants that differ between trajectories; the landscape's own hold for the rest.
        m : int

        Raises
        ------
        ArgumentError
            As `with_constants`, or if the number of memory logits would differ.
        """
        columns = {}
        for name, value in values.items():
            check_known(self.constants, name, value)
            columns[name] = column(name, value, m, whole=name in WHOLE)
        if self.memory is not None:
            return self._rows_of_models(columns, m)[0]
        rows = np.tile(self.constants_row, (m, 1))
        for name, values_of_name in columns.items():
            rows[:, tuple(self.constants).index(name)] = values_of_name
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

    def _rows_of_models(
        self, columns: Mapping[str, NDArray[Any]], m: int, failure: NDArray[Any] | None = None
    ) -> tuple[Array, NDArray[Any]]:
        """Rows of constants, each from a landscape; if given, `failure` says why there is none."""
        rows = np.tile(self.constants_row, (m, 1))
        table = np.stack([np.zeros(m), *columns.values()]).astype(np.float64)
        _, first, kind = np.unique(table, axis=1, return_index=True, return_inverse=True)
        for number, one in enumerate(first.tolist()):
            here = kind.reshape(-1) == number
            values = {k: v[one].item() for k, v in columns.items()}
            whole = {k: int(v) for k, v in values.items() if k in WHOLE and v == int(v)}
            try:
                rows[here] = self._alike(values | whole).constants_row
            except ArgumentError as error:
                if failure is None:
                    requirement = f"{error.requirement} (trajectory {one})"
                    raise ArgumentError(error.argument, error.value, requirement) from error
                failure[here] = f"{error.argument} {error.requirement}"
        return rows, failure if failure is not None else np.full(m, "", dtype=object)

    def _alike(self, values: Mapping[str, Any]) -> NestedLogit:
        """`with_constants`, with as many memory logits."""
        model = self.with_constants(**values)
        if model.n_groups != self.n_groups:
            exponents = self.constants["zipf_exponent"], model.constants["zipf_exponent"]
            name = "n_classes" if all(exponents) else "zipf_exponent"
            requirement = f"must leave the number of memory logits {self.n_groups}"
            if name == "n_classes":
                least = 2 ** (self.n_groups - 1)
                requirement += f": from {least} to {2 * least - 1} classes"
            else:
                requirement += ", which an exponent of 0 changes"
            raise ArgumentError(name, model.constants[name], requirement)
        return model

    @property
    def plateau(self) -> float:
        """log N (nats), by which the fall is defined.

        It is the loss of a guess among the labels of the context where these are N distinct ones.
        """
        return float(np.log(self.n_pairs))

    def plateaus(self, rows: Array) -> Array:
        """The plateau at each row of constants, NaN at N = 1, where it is 0: shape (m,)."""
        plateaus = np.log(rows[:, 0])
        plateaus[rows[:, 0] == 1.0] = np.nan
        return plateaus

    pack_address: ClassVar[int] = 0
    has_loss: ClassVar[bool] = True
    default_slice: ClassVar[tuple[str, str]] = ("beta1", "alpha")

    component: ClassVar[str] = "logit"
    plateau_label: ClassVar[str] = r"$\log N$"
    whole_axes: ClassVar[tuple[str, ...]] = ("pairs", "labels", "classes", "burstiness", "dim")
    outside: ClassVar[tuple[str, ...]] = (FEWER_LABELS,)

    @property
    def event_names(self) -> tuple[str, ...]:
        """With memory, the event `memory`: the weights alone halve the loss of a guess, log L.

        Its value is Σ_c F_c·log(1 + (L − 1)·exp(−omega_c)) − ½ log L, with omega_c − A for omega_c
        where D is finite: the noise of the other memories is there whoever answers.
        """
        return () if self.memory is None else ("memory",)

    @property
    def n_out(self) -> int:
        """Loss and derivatives, by beta2 in any case; with memory by theta alone, and an event."""
        return 5 if self.memory is None else 2 + self.n_parameters

    @property
    def labels(self) -> Mapping[str, str]:
        """How pictures write parameters and constants."""
        if self.memory is None:
            return MappingProxyType(LABELS)
        names = {"omega_1": r"$\omega$ (memory)"}
        if self.n_groups > 1:
            first = self.memory.first_ranks
            last = first + self.memory.group_sizes - 1
            ends = zip(first, last, strict=True)
            ranks = [f"rank {a}" if a == b else f"ranks {a}–{b}" for a, b in ends]
            names = {
                f"omega_{c}": rf"$\omega_{{{c}}}$ ({of})" for c, of in enumerate(ranks, start=1)
            }
        return MappingProxyType(LABELS | names)

    @property
    def measure_names(self) -> tuple[str, ...]:
        """The measures but for the accuracy."""
        return MEASURES[:5] if self.memory is None else (*MEASURES[:5], *ANSWERS)

    @property
    def reported_measures(self) -> tuple[str, ...]:
        """Those of a table."""
        own = ("ila1", "tila2", "p_correct")
        return own if self.memory is None else (*own, "icl", "iwl")

    @property
    def walls(self) -> Mapping[tuple[str, str], str]:
        """L = N, unless classes come in copies or labels are drawn."""
        data = self.memory
        has_wall = data is None or (data.copies == 1 and data.labels_drawn == "distinct")
        return {("pairs", "labels"): "wall $L$ = $N$"} if has_wall else {}

    @property
    def axes(self) -> Mapping[str, str]:
        """N, L, L/N, which sets L to the nearest integer, the label bias where it counts; data."""
        axes = {"pairs": "n_pairs", "labels": "n_labels", "labels_per_pair": "n_labels"}
        has_bias = "label_bias" in self.constants and self.positions == "exact"
        axes |= {"label_bias": "label_bias"} if has_bias else {}
        return axes | {name: of for name, of in MEMORY_AXES.items() if of in self.constants}

    def describe(self, constants: Mapping[str, Any]) -> str:
        """N, L and the data, those of them that are given and not usual, and the positions."""
        symbols = {"n_pairs": "$N$", "n_labels": "$L$"}
        if self.memory is not None:
            symbols |= {"n_classes": "$K$", "zipf_exponent": "Zipf", "burstiness": "$B$"}
            symbols |= {"noise": r"$\varepsilon$", "p_bursty": "bursty", "p_novel": "novel"}
            symbols |= {"dim": "$D$"}
        usual = {each.name: each.default for each in fields(Data) if each.name != "n_classes"}
        shown_constants = {
            k: v for k, v in constants.items() if k in symbols and (k, v) not in usual.items()
        }
        values = [f"{symbols[k]} = {shown(v)}" for k, v in shown_constants.items()]
        if self.memory is not None and self.memory.labels_drawn == "replacement":
            values.append("labels with replacement")
        return ", ".join([*values, f"{self.positions} positions"])

    def saddles(self, x: str, y: str) -> list[tuple[float, float]]:
        """The origin of a map over alpha and xi at L = N."""
        return [(0.0, 0.0)] if {x, y} == {"alpha", "xi"} and self.n_absent == 0 else []

    def check_axes(self, names: Collection[str]) -> None:
        """Raise ArgumentError that names the first axis that has no effect."""
        if self.memory is not None and "p_bursty" in names:
            if self.memory.p_novel == 1.0 and "p_novel" not in names:
                raise ArgumentError("axes", "p_bursty", "has no effect where all are novel")
            if self.memory.burstiness == 0 and "burstiness" not in names:
                raise ArgumentError("axes", "p_bursty", "has no effect with a burstiness of 0")
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
        others = {k: v for k, v in columns.items() if k not in counts and k != "labels_per_pair"}
        failure = np.full(m, "", dtype=object)
        if self.walls:
            failure[counts["labels"] < counts["pairs"]] = FEWER_LABELS
        counts |= {name: others.pop(name) for name in ("classes", "dim") if name in others}
        for name, values in counts.items():
            whole = (values == np.rint(values)) & (values >= 1.0) & (values <= LARGEST_INTEGER)
            failure[~whole & (failure == "")] = (
                f"{name} must be a whole number of at least 1 and at most {LARGEST_INTEGER}"
            )
        found: dict[str, NDArray[Any]] = {
            self.axes[name]: np.where(failure == "", values, 1.0).astype(np.int64)
            for name, values in counts.items()
        }
        found |= {self.axes[name]: values for name, values in others.items()}
        if self.memory is not None:
            valid = failure == ""
            some = {name: values[valid] for name, values in found.items()}
            _, failure[valid] = self._rows_of_models(some, int(valid.sum()), failure[valid])
        if "burstiness" in found:
            found["burstiness"] = np.where(failure == "", others["burstiness"], 1).astype(np.int64)
        return found, failure

    @property
    def address(self) -> int:
        """Address of the evaluation, see `cliff.kernels.generated`."""
        return kernels.evaluation_address(self.memory is not None)

    def n_work(self, rows: Array) -> NDArray[np.int64]:
        """Scratch float64 that the evaluation needs at each row of constants, shape (m,)."""
        lengths: NDArray[np.int64] = kernels.workspace.py_func(
            rows[:, 0].astype(np.int64), self.n_groups
        )
        return lengths if self.memory is None else lengths + 7 + 3 * self.n_groups

    @property
    def has_hessian(self) -> bool:
        """Whether the Hessian is worth its cost to a stiff solver."""
        return self.positions == "mean" or self.n_pairs <= LARGEST_HESSIAN

    @property
    def reference_losses(self) -> dict[str, float]:
        """log L, where a flow starts, and the plateau log N (nats).

        With B copies of each class a guess among the labels of the context costs log(N/B) instead,
        and with labels drawn it depends on the draw.
        """
        levels = {r"start $\log L$ (no knowledge)": float(np.log(self.n_labels))}
        data = self.memory
        if data is not None and data.labels_drawn == "replacement":
            levels[r"$\log N$"] = self.plateau
        elif data is not None and data.copies > 1:
            levels[r"$\log N$"] = self.plateau
            if self.n_pairs > data.copies:
                guess = float(np.log(self.n_pairs / data.copies))
                levels[r"plateau $\log\,N/B$ (guess in context)"] = guess
        elif self.n_pairs > 1:
            levels[r"plateau $\log N$ (guess in context)"] = self.plateau
        return levels

    @property
    def valley_names(self) -> tuple[str, ...]:
        """Names behind the labels of `identify`; see `cliff.valleys`."""
        from cliff.valleys import ANSWER_NAMES, VALLEY_NAMES

        return VALLEY_NAMES if self.memory is None else ANSWER_NAMES

    def identify(
        self, theta: ArrayLike, loss: ArrayLike, tolerance: float = 0.05
    ) -> NDArray[np.int64]:
        """The valley in which each end of a trajectory lies; see `cliff.valleys.identify`.

        With memory the ends are those of `cliff.valleys.who_answers`.
        """
        from cliff.valleys import identify, who_answers

        return (identify if self.memory is None else who_answers)(self, theta, loss, tolerance)

    def settings(self) -> dict[str, Any]:
        """The arguments, for files; without memory they are four."""
        return {k: v for k, v in asdict(self).items() if k != "memory" or v is not None}

    def loss(self, theta: ArrayLike) -> Array:
        """Loss in nats.

        Parameters
        ----------
        theta : array_like, shape (..., p)
            Logits beta1, alpha, xi, with a free label bias beta2, and the memory logits.

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
        gradient = out[:, 1:][:, self._components].copy()
        return out[:, 0].reshape(shape), gradient.reshape(*shape, self.n_parameters)

    def hessian(self, theta: ArrayLike) -> Array:
        """Second derivatives of the loss by theta, shape (..., p, p), symmetric; see `loss`.

        With exact positions this takes a time that grows as N², 4 µs at N = 8 and 40 s at N = 1e5;
        loss, gradient and measures take one that grows as N.
        """
        rows, shape = self._rows(theta)
        hessian = self._direct(rows, True, len(MEASURES))[1]
        p, kept = self.n_parameters, self._components
        return hessian[:, kept][:, :, kept].reshape(*shape, p, p)

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

            With memory these are means over the training sequences of all kinds. There is no
            accuracy, since most probable labels have no closed form where labels are drawn. Instead
            there are the answers to the questions that a trained network is evaluated on, each the
            mean probability of the correct label (a most probable one would call the plateau
            solved): ``icl``, novel classes, l with omega = 0; ``icl_swapped``, known classes with
            permuted labels, where omega_c is the vote for another label, each of the L − 1 wrong
            ones with equal chances; ``iwl``, the target's class absent, l_chance with omega_c,
            where a label of the context is the correct one with probability (K/L − 1)/(K − 1).
            With finite D the noise exp(A) multiplies all wrong labels, the one that the memory
            votes for among them.

        Raises
        ------
        ArgumentError
            As `loss`.
        """
        rows, shape = self._rows(theta)
        if self.memory is not None:
            loss, _, values = self._direct(rows, False, kernels.N_MEASURES_WITH_MEMORY)
            names = dict(enumerate((*MEASURES, *ANSWERS)))
            del names[MEASURES.index("accuracy")]
        else:
            out, values = np.empty((len(rows), 5)), np.empty((len(rows), len(MEASURES)))
            self._call(kernels.measure_batch, rows, out, values)
            loss, names = out[:, 0], dict(enumerate(MEASURES))
        columns = {name: values[:, i].reshape(shape) for i, name in names.items()}
        return columns | {"loss": loss.reshape(shape)}

    @property
    def _components(self) -> list[int]:
        """Places of theta's components among beta1, alpha, xi, beta2, omega_1 … omega_C."""
        return [i for i in range(4 + self.n_groups) if i != 3 or self.label_bias == "free"]

    def _rows(self, theta: ArrayLike) -> tuple[Array, tuple[int, ...]]:
        """theta as rows (beta1, alpha, xi, beta2, omega …), and the shape of the batch."""
        array = finite_array("theta", theta, self.n_parameters)
        shape = array.shape[:-1]
        return self.complete(array.reshape(-1, self.n_parameters)), shape

    def complete(self, theta: Array) -> Array:
        """Insert the fixed label bias into theta of shape (m, p), for the kernels: (m, 4 + C)."""
        if self.label_bias == "free":
            return theta
        rows = np.empty((len(theta), 4 + self.n_groups))
        rows[:, self._components] = theta
        rows[:, 3] = self.label_bias
        return rows

    def _evaluate(self, rows: Array) -> Array:
        """Loss and its derivatives for rows (m, 4 + C), shape (m, 5 + C)."""
        out = np.empty((len(rows), 5 + self.n_groups))
        self._call(kernels.evaluate_batch, rows, True, out)
        return out

    def _direct(self, rows: Array, with_hessian: bool, n_measures: int) -> tuple[Array, ...]:
        """Loss (m,), Hessian (m, 4 + C, 4 + C) and measures (m, n_measures) at rows (m, 4 + C)."""
        (m, p), q = rows.shape, rows.shape[1] if with_hessian else 0
        loss, hessian, measures = np.empty(m), np.empty((m, q, q)), np.empty((m, n_measures))
        outputs = loss, np.empty((m, p)), hessian, measures
        self._call(kernels.direct_batch, rows, with_hessian, *outputs)
        return loss, hessian, measures

    def _call(self, kernel: Callable[..., object], rows: Array, *arguments: Any) -> None:
        """Call a kernel for rows (m, 4 + C) on all cores; its array arguments have m rows too."""
        memory = () if self.memory is None else (self.constants_row,)

        def work(start: int, stop: int) -> None:
            parts = (x[start:stop] if isinstance(x, np.ndarray) else x for x in arguments)
            kernel(
                POSITIONS[self.positions],
                self.n_pairs,
                float(self.n_absent),
                rows[start:stop],
                *parts,
                *memory,
            )

        # some tenths of a millisecond at a time
        cost = self.n_pairs * min(self.n_pairs, 64) if self.positions == "exact" else 1
        if self.memory is not None:
            cost *= math.comb(self.n_pairs, self.memory.copies)
        in_parallel(work, split(0, len(rows), max(4, 2**16 // cost)))


def _check_memory(memory: Data, n_pairs: int, n_labels: int, positions: str) -> None:
    """Raise ArgumentError unless the data go with the sizes."""
    if not isinstance(memory, Data):
        raise ArgumentError("memory", memory, "must be a cliff.Data")
    copies, classes = memory.copies, memory.n_classes
    if n_pairs % copies:
        raise ArgumentError("burstiness", copies, f"must divide the {n_pairs} pairs")
    if copies > 1 and positions == "mean":
        raise ArgumentError("burstiness", copies, "must be 1 unless positions are exact")
    if copies > 1 and math.comb(n_pairs, copies) > MOST_SUBSETS:
        requirement = f"has more than {MOST_SUBSETS} ways to take its slots among {n_pairs}"
        raise ArgumentError("burstiness", copies, requirement)
    n_distinct = n_pairs // copies
    if memory.labels_drawn == "distinct" and n_labels < n_distinct:
        requirement = f"must be at least {n_distinct}, the classes in a bursty context"
        raise ArgumentError("n_labels", n_labels, requirement)
    if classes < max(n_labels, n_distinct):
        what = "one for each label" if classes < n_labels else "the classes in a bursty context"
        raise ArgumentError(
            "n_classes", classes, f"must be at least {max(n_labels, n_distinct)}, {what}"
        )
