"""The in-context classification task and its samplers.

A sequence is x1 l1 x2 l2 ... xN lN x_t: N item-label pairs, then a target item whose label is to be
predicted. The task is that of Reddy [1]_, after Chan et al. [2]_.

References
----------
.. [1] G. Reddy, "The mechanistic basis of data dependence and abrupt learning in an in-context
   classification task", ICLR 2024, arXiv:2312.03002.
.. [2] S. Chan et al., "Data distributional properties drive emergent in-context learning in
   transformers", NeurIPS 2022, arXiv:2205.05055.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass, fields
from functools import cached_property, partial
from typing import Any, Literal, NamedTuple, TypeVar, get_args

import numpy as np
from numpy.random import SFC64, Generator, SeedSequence
from numpy.typing import NDArray

from cliff.checks import ArgumentError, check_memory, choice, integer, real
from cliff.data import octaves
from cliff.kernels import normals as kernels

Float32 = NDArray[np.float32]
Indices = NDArray[np.intp]
Question = Literal["train", "icl", "icl_swapped", "iwl"]

# Purposes of the random numbers under one seed, each of which has a stream of its own.
WORLD, INITIAL, DATA, EVALUATION, MEMORY = range(5)


BLOCK = 12288
"""Random words drawn at a time: 96 KiB, which the allocator reuses and does not map anew."""


def stream(seed: int, purpose: int) -> Generator:
    """Random generator for one purpose, such as DATA, under a seed."""
    return Generator(SFC64(SeedSequence(seed, spawn_key=(purpose,))))


def normals(rng: Generator, shape: tuple[int, ...], scale: float) -> Float32:
    """Independent normal numbers of mean 0 and standard deviation `scale`, in float32."""
    return add_normals(rng, np.zeros(shape, np.float32), scale)


def add_normals(rng: Generator, array: Float32, scale: float) -> Float32:
    """Add independent normal numbers to a contiguous array, in place and returned."""
    flat = array.reshape(-1)
    pairs = np.append(flat, np.float32(0)) if flat.size % 2 else flat  # a word makes two numbers
    first, second = pairs.reshape(2, -1)
    for begin in range(0, len(first), BLOCK):
        block = slice(begin, begin + BLOCK)
        count = len(first[block])
        words = rng.integers(0, 2**64 - 1, count, dtype=np.uint64, endpoint=True).view(np.uint32)
        kernels.add_normals(words, np.float32(scale), first[block], second[block])
    if pairs is not flat:
        flat[:] = pairs[:-1]
    return array


Arrays = TypeVar("Arrays", bound=tuple[Any, ...])


def of_arrays(cls: type[Arrays]) -> type[Arrays]:
    """Let a named tuple of arrays be compared as a whole, and show shapes in place of entries."""

    def equal(self: Arrays, other: object) -> bool:
        return type(self) is type(other) and all(
            np.array_equal(one, two, equal_nan=True) for one, two in zip(self, other, strict=True)
        )

    def show(self: Any) -> str:
        shapes = (f"{name}: {array.shape}" for name, array in self._asdict().items())
        return f"{cls.__name__}({', '.join(shapes)})"

    methods = {"__eq__": equal, "__ne__": lambda *pair: not equal(*pair), "__repr__": show}
    for name, method in methods.items():
        setattr(cls, name, method)
    return cls


@of_arrays
class Batch(NamedTuple):
    """Sequences, in any order.

    Attributes
    ----------
    items : ndarray of float32, shape (size, N + 1, D)
        The items of the context, then the target.
    labels : ndarray of int, shape (size, N)
        Label of each item of the context.
    answer : ndarray of int, shape (size,)
        Label of the target.
    start : ndarray of int, shape (size,)
        Position of the first token in the window.
    """

    items: Float32
    labels: Indices
    answer: Indices
    start: Indices


class _Classes:
    """Classes 0, 1, ... with frequencies proportional to (1 + class)^-exponent.

    Class k carries the label k mod L. The classes are lined up on the unit interval label by label,
    so that one uniform number draws a class, among all or among those of one label.
    """

    def __init__(self, n_classes: int, n_labels: int, exponent: float) -> None:
        frequency = np.arange(1, n_classes + 1, dtype=np.float64) ** -exponent
        frequency /= frequency.sum()
        self.frequency = frequency
        label = np.arange(n_classes) % n_labels
        self.in_line = np.argsort(label, kind="stable")
        self.place = np.argsort(self.in_line)
        self.edges = np.concatenate([[0.0], np.cumsum(frequency[self.in_line])])
        self.label_edges = np.concatenate([[0], np.cumsum(np.bincount(label))])
        self.label_mass = np.bincount(label, frequency)

    def _place_at(self, point: NDArray[np.float64]) -> Indices:
        place = np.searchsorted(self.edges, point, side="right") - 1
        return np.minimum(place, len(self.in_line) - 1)

    def draw(self, rng: Generator, shape: tuple[int, ...]) -> Indices:
        """Independent classes."""
        return self.in_line[self._place_at(rng.random(shape))]

    def draw_other(self, rng: Generator, classes: Indices, n_columns: int) -> Indices:
        """Independent classes, `n_columns` a row, conditioned on not being the row's own class."""
        own = self.place[classes][:, None]
        begin, gap = self.edges[own], self.edges[own + 1] - self.edges[own]
        point = rng.random((len(classes), n_columns)) * (1 - gap)
        place = self._place_at(np.where(point < begin, point, point + gap))
        # a point on the edge of the gap may be rounded into it
        return self.in_line[np.where(place == own, (own + 1) % len(self.in_line), place)]

    def draw_distinct(self, rng: Generator, n_rows: int, n_columns: int) -> Indices:
        """Classes with distinct labels in each row.

        The first class of a row is distributed as in `draw`, the next ones as in successive draws
        that are repeated while they give a label already taken.
        """
        label = race(rng, self.label_mass, n_rows, n_columns)
        first, end = self.label_edges[label], self.label_edges[label + 1]
        begin = self.edges[first]
        point = begin + rng.random(label.shape) * (self.edges[end] - begin)
        return self.in_line[np.clip(self._place_at(point), first, end - 1)]


def race(rng: Generator, rates: NDArray[Any], n_rows: int, n_columns: int) -> Indices:
    """Draw `n_columns` indices for each row without replacement, with probabilities ∝ `rates`.

    Each index gets an exponential waiting time; the order of these is distributed as successive
    draws without replacement.
    """
    times = rng.standard_exponential((n_rows, len(rates))) / rates
    return np.argsort(times, axis=1)[:, :n_columns]


@dataclass(frozen=True)
class Task:
    """The in-context classification task.

    K classes have centres mu_k ~ N(0, 1/D) in R^D; an item of class k is
    (mu_k + noise eta) / sqrt(1 + noise^2) with eta ~ N(0, 1/D). L label vectors are N(0, 1/D) too,
    and class k carries the label k mod L.

    A *bursty* sequence holds N/B classes with distinct labels, B times each, in random order, and
    its target is another item of one of them. The target's class is distributed as
    (1 + k)^-zipf_exponent, and the further classes as in successive draws that are repeated while
    they give a label already taken. In a sequence that is not bursty, the N classes of the context
    and the target's class are independent. A *novel* sequence is a bursty one whose classes are
    fresh, with fresh centres, so that only the context tells their labels; each label is equally
    likely. With `n_novel` the sequences of a batch share that many fresh classes; their labels
    follow a random order of all labels, drawn for each batch and repeated after L classes.

    By default all training sequences are novel: the pure in-context task, in which the loss cannot
    be lowered from the weights and which the nested logits describe. The classes then matter for
    the evaluation alone (see `without_effect`). The paper's competition between in-context and
    in-weights learning needs known classes, p_novel < 1; its first experiments have p_novel = 0.

    Parameters
    ----------
    n_pairs : int
        Item-label pairs N in the context.
    n_labels : int
        Labels L.
    n_classes : int
        Known classes K, at least L.
    dim : int
        Dimension D of items and label vectors.
    noise : float
        Spread ε of the items of a class, at most 1e6. The mean overlap of an item with its
        centre is 1 / sqrt(1 + noise^2), of two items of a class 1 / (1 + noise^2).
    zipf_exponent : float
        Exponent α of the class frequencies, at most 10; 0 makes all classes equally frequent.
    burstiness : int
        Occurrences B of each class in a bursty context, a divisor of N. With B = 0 no known
        sequence is bursty, whatever `p_bursty`, and B = 1 in the novel ones.
    p_bursty : float
        Share p_B of bursty sequences among the sequences of known classes.
    p_novel : float
        Share p_C of novel sequences.
    n_novel : int, optional
        Number of fresh classes that the novel sequences of one batch share, at least N/B. Every
        sequence has its own classes by default.
    labels_drawn : {"distinct", "replacement"}
        How the labels of the classes in a bursty or novel context are drawn: all distinct, or with
        replacement, so that classes may share a label and N/B may exceed L. Known classes, and
        those that a batch shares, then are successive draws that are repeated while they give a
        class already taken.
    window : int
        Number P of positions. A sequence occupies 2N + 1 consecutive ones, which start anywhere.
    seed : int
        Seed of the centres and the label vectors.

    Raises
    ------
    ArgumentError
        If a parameter is out of range, N is not a multiple of B, N/B > L with distinct labels,
        N/B > K, L > K, 2N + 1 > P, or the centres do not fit into the machine's memory.

    Examples
    --------
    >>> import numpy as np
    >>> task = Task(n_pairs=4, n_labels=8)
    >>> batch = task.sample(np.random.default_rng(0), 100)
    >>> batch.items.shape, batch.labels.shape, batch.answer.shape
    ((100, 5, 63), (100, 4), (100,))

    References
    ----------
    Reddy, ICLR 2024, arXiv:2312.03002, section 2.
    """

    n_pairs: int = 8
    n_labels: int = 32
    n_classes: int = 512
    dim: int = 63
    noise: float = 0.1
    zipf_exponent: float = 0.0
    burstiness: int = 1
    p_bursty: float = 1.0
    p_novel: float = 1.0
    n_novel: int | None = None
    labels_drawn: str = "distinct"
    window: int = 65
    seed: int = 0

    def __post_init__(self) -> None:
        least = {
            "n_pairs": 1,
            "n_labels": 2,
            "n_classes": 2,
            "dim": 1,
            "burstiness": 0,
            "window": 1,
        }
        for name, minimum in {**least, "seed": 0}.items():
            object.__setattr__(self, name, integer(name, getattr(self, name), minimum))
        # beyond this noise, items hold nothing of their class that float32 could tell
        most = {"noise": 1e6, "zipf_exponent": 10, "p_bursty": 1, "p_novel": 1}
        for name, maximum in most.items():
            object.__setattr__(self, name, real(name, getattr(self, name), 0, maximum))
        if self.n_pairs % self.copies:
            raise ArgumentError(
                "burstiness", self.burstiness, f"must divide the {self.n_pairs} pairs"
            )
        choice("labels_drawn", self.labels_drawn, ("distinct", "replacement"))
        distinct = self.labels_drawn == "distinct"
        for name, minimum, what in (
            ("n_labels", self.n_distinct if distinct else 1, "the classes in a bursty context"),
            ("n_classes", self.n_labels, "one for each label"),
            ("n_classes", self.n_distinct, "the classes in a bursty context"),
            ("window", self.n_tokens, "the tokens of a sequence"),
        ):
            if (value := getattr(self, name)) < minimum:
                raise ArgumentError(name, value, f"must be at least {minimum}, {what}")
        if self.n_novel is not None:
            object.__setattr__(self, "n_novel", integer("n_novel", self.n_novel, self.n_distinct))
        name = "n_classes" if self.n_classes > self.dim else "dim"
        check_memory(name, getattr(self, name), self.n_classes * (8 * self.dim + 64))
        check_memory("n_pairs", self.n_pairs, self.memory(1))

    def __repr__(self) -> str:
        always = ("n_pairs", "n_labels")
        values = [(each.name, getattr(self, each.name), each.default) for each in fields(self)]
        shown = [f"{k}={v!r}" for k, v, default in values if k in always or v != default]
        return f"Task({', '.join(shown)})"

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), tuple(self.settings().values())  # without the arrays that follow from it

    @property
    def copies(self) -> int:
        """Occurrences of each class in a bursty context."""
        return max(self.burstiness, 1)

    @property
    def n_distinct(self) -> int:
        """Classes in a bursty context."""
        return self.n_pairs // self.copies

    @property
    def n_tokens(self) -> int:
        """Tokens of a sequence."""
        return 2 * self.n_pairs + 1

    @property
    def width(self) -> int:
        """Length of a token, W = P + D: one-hot position, then content."""
        return self.window + self.dim

    def settings(self) -> dict[str, Any]:
        """All parameters by name."""
        return asdict(self)

    def without_effect(self, *questions: Question) -> list[str]:
        """Names of the parameters on which no sequence drawn for these questions depends.

        Parameters
        ----------
        *questions : str
            As in `sample`; all of them by default.

        Examples
        --------
        With novel classes only, the known classes do not matter for training, and the share of
        bursty sequences among the known ones for nothing at all:

        >>> Task(p_novel=1).without_effect("train")
        ['n_classes', 'zipf_exponent', 'p_bursty']
        >>> Task(p_novel=1).without_effect()
        ['p_bursty']
        """
        always = {"n_pairs", "n_labels", "dim", "noise", "window", "seed"}
        known = {"n_classes", "zipf_exponent"}
        context = {"burstiness", "labels_drawn"}
        train = {"p_novel"}
        if self.p_novel > 0:
            train |= {"n_novel", *context}
        if self.p_novel < 1:
            train |= known
            train |= {"p_bursty"} if self.burstiness else set()
            train |= {"burstiness"} if self.p_bursty else set()
            train |= {"labels_drawn"} if self.p_bursty and self.burstiness else set()
        used: dict[Question, set[str]] = {
            "train": train,
            "icl": context,
            "icl_swapped": {*context, *known},
            "iwl": known,
        }
        some = always.union(*(used[question] for question in questions or get_args(Question)))
        return [each.name for each in fields(self) if each.name not in some]

    def memory(self, size: int) -> int:
        """Bytes that drawing `size` sequences takes, to within a factor of two."""
        contents = self.n_pairs + 1 + self.n_distinct
        raced = self.n_labels if self.labels_drawn == "distinct" else self.n_classes
        each = 4 * self.dim * contents + 16 * raced + 40 * self.n_pairs
        return size * each + 4 * self.dim * (self.n_novel or 0)

    @cached_property
    def _world(self) -> tuple[Float32, Float32]:
        rng = stream(self.seed, WORLD)
        scale = self.dim**-0.5
        label_vectors = normals(rng, (self.n_labels, self.dim), scale)
        return label_vectors, normals(rng, (self.n_classes, self.dim), scale)

    @property
    def label_vectors(self) -> Float32:
        """Label vectors, shape (L, D)."""
        return self._world[0]

    @property
    def centres(self) -> Float32:
        """Centres of the classes, shape (K, D)."""
        return self._world[1]

    @cached_property
    def _known(self) -> _Classes:
        return _Classes(self.n_classes, self.n_labels, self.zipf_exponent)

    def sample(self, rng: Generator, size: int, question: Question = "train") -> Batch:
        """Draw sequences.

        Parameters
        ----------
        rng : numpy.random.Generator
            Source of all randomness.
        size : int
            Number of sequences.
        question : str
            ``"train"``: the mix that `p_novel` and `p_bursty` ask for;
            ``"icl"``: novel sequences, every one with its own classes;
            ``"icl_swapped"``: bursty sequences of known classes, the labels shifted all alike (by
            1 to L - 1, modulo L), so that only the context gives the answer;
            ``"iwl"``: known classes, independent, the target's class absent from the context, so
            that only the weights give the answer. With K > L another class of the target's label
            may be there: given the target's class k, of frequency f, the right label is in the
            context with probability 1 - ((1 - F) / (1 - f))^N, where F is the frequency of all
            classes of k's label. With equal frequencies and K a multiple of L, that is
            1 - ((K - K/L) / (K - 1))^N: 12 % with N = 8, L = 32 and K = 64.

        Returns
        -------
        Batch

        Raises
        ------
        ArgumentError
            If the size is below one or more than fits into the machine's memory, or the question
            is none of these.
        """
        size = integer("size", size, 1)
        check_memory("size", size, self.memory(size))
        choice("question", question, get_args(Question))
        if question == "icl":
            return self._novel(rng, size, None)
        if question == "icl_swapped":
            batch = self._bursty(rng, size)
            shift = rng.integers(1, self.n_labels, size)
            return batch._replace(
                labels=(batch.labels + shift[:, None]) % self.n_labels,
                answer=(batch.answer + shift) % self.n_labels,
            )
        if question == "iwl":
            return self._from_weights(rng, self._known.draw(rng, (size,)))
        p_bursty = self.p_bursty if self.burstiness else 0.0
        shares = [self.p_novel, (1 - self.p_novel) * p_bursty, (1 - self.p_novel) * (1 - p_bursty)]
        novel = partial(self._novel, n_shared=self.n_novel)
        draws: list[Callable[..., Batch]] = [novel, self._bursty, self._independent]
        counts = rng.multinomial(size, shares)
        parts = [draw(rng, n) for draw, n in zip(draws, counts, strict=True) if n]
        if len(parts) == 1:
            return parts[0]
        return Batch(*(np.concatenate(columns) for columns in zip(*parts, strict=True)))

    @cached_property
    def group_edges(self) -> Indices:
        """First class of each group of classes of like frequency, then K: shape (C + 1,).

        A group is an octave of ranks, 1, 2 to 3, 4 to 7 and so on; where all classes are equally
        frequent there is one.
        """
        first = octaves(self.n_classes, self.zipf_exponent) - 1
        return np.append(first, self.n_classes)

    @property
    def group_shares(self) -> NDArray[np.float64]:
        """Share of the draws of a known class that each group gets, shape (C,)."""
        return np.add.reduceat(self._known.frequency, self.group_edges[:-1])

    def sample_group(self, rng: Generator, size: int, group: int) -> Batch:
        """Sequences as of the question "iwl", with targets of one group of `group_edges`."""
        first, end = self.group_edges[group : group + 2]
        frequency = self._known.frequency[first:end]
        target = first + rng.choice(end - first, size, p=frequency / frequency.sum())
        return self._from_weights(rng, target)

    def _novel(self, rng: Generator, size: int, n_shared: int | None) -> Batch:
        scale = self.dim**-0.5
        slots = self._slots(rng, size)
        if n_shared is None:
            if self.labels_drawn == "distinct":
                label = race(rng, np.ones(self.n_labels), size, self.n_distinct)
            else:
                label = rng.integers(self.n_labels, size=(size, self.n_distinct))
            fresh = normals(rng, (size * self.n_distinct, self.dim), scale)
            classes = np.arange(size)[:, None] * self.n_distinct + slots
        else:
            shared = _Classes(n_shared, self.n_labels, 0.0)
            classes = self._draw_context(shared, rng, size)
            label = rng.permutation(self.n_labels)[classes % self.n_labels]
            fresh = normals(rng, (n_shared, self.dim), scale)
            classes = np.take_along_axis(classes, slots, axis=1)
        label = np.take_along_axis(label, slots, axis=1)
        return self._batch(rng, fresh.take(classes, axis=0), label)

    def _bursty(self, rng: Generator, size: int) -> Batch:
        context = self._draw_context(self._known, rng, size)
        classes = np.take_along_axis(context, self._slots(rng, size), axis=1)
        return self._of_known(rng, classes[:, :-1], classes[:, -1])

    def _draw_context(self, classes: _Classes, rng: Generator, size: int) -> Indices:
        """The classes of bursty contexts, shape (size, N/B)."""
        if self.labels_drawn == "distinct":
            return classes.draw_distinct(rng, size, self.n_distinct)
        return race(rng, classes.frequency, size, self.n_distinct)

    def _independent(self, rng: Generator, size: int) -> Batch:
        classes = self._known.draw(rng, (size, self.n_pairs + 1))
        return self._of_known(rng, classes[:, :-1], classes[:, -1])

    def _from_weights(self, rng: Generator, target: Indices) -> Batch:
        """Independent contexts without the class of the target, shape (size,)."""
        return self._of_known(rng, self._known.draw_other(rng, target, self.n_pairs), target)

    def _of_known(self, rng: Generator, context: Indices, target: Indices) -> Batch:
        classes = np.column_stack([context, target])
        return self._batch(rng, self.centres.take(classes, axis=0), classes % self.n_labels)

    def _slots(self, rng: Generator, size: int) -> Indices:
        """Which of a bursty sequence's classes each item belongs to; the target to the first."""
        slots = np.zeros((size, self.n_pairs + 1), np.intp)
        order = np.argsort(rng.random((size, self.n_pairs), dtype=np.float32), axis=1)
        slots[:, :-1] = order % self.n_distinct
        return slots

    def _batch(self, rng: Generator, items: Float32, label: Indices) -> Batch:
        """Add the items' noise to their centres, in place, and a place in the window."""
        if self.noise:
            spread = (1 + self.noise**2) ** -0.5
            items *= np.float32(spread)
            add_normals(rng, items, spread * self.noise * self.dim**-0.5)
        start = rng.integers(0, self.window - self.n_tokens + 1, len(items))
        return Batch(items, label[:, :-1], label[:, -1], start)
