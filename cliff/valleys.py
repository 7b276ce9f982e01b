"""The valleys: limits at infinity in which the gradient flow can end, with their losses.

Plain data, for whatever has to say where a trajectory went. How they are found is worked out in
``derivations/``.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike, NDArray

from cliff.checks import finite_array

if TYPE_CHECKING:
    from cliff.nested_logit import NestedLogit

UNDECIDED = -1
"""Label of an end that lies in no valley, or not yet."""


@dataclass(frozen=True)
class Valley:
    """One limit at infinity.

    For every slot of the match the prediction ends as an even guess among some labels, the correct
    one among them. Their numbers give the loss and the mean probability of the correct label.

    Attributes
    ----------
    name : str
    description : str
        What the three circuits do there, and why the loss is what it is.
    direction : tuple of int
        Signs of (beta1, alpha, xi) on the way; 0 where the logit may stay anywhere.
    guesses : callable
        (n_pairs, n_labels) → for each slot the number of labels left to guess among.
    attracts : bool
        Whether an open set of starts ends there.
    positions : tuple of str
        The kinds of positions that have it.
    least_pairs : int
        The smallest N that has it.
    absent : bool or None
        Whether it takes labels that are absent from the context: True for L > N only, False for
        L = N only, None for both.
    """

    name: str
    description: str
    direction: tuple[int, int, int]
    guesses: Callable[[int, int], Sequence[int]]
    attracts: bool
    positions: tuple[str, ...] = ("exact", "mean")
    least_pairs: int = 1
    absent: bool | None = None

    def exists(self, n_pairs: int, n_labels: int) -> bool:
        """Whether a landscape of its kinds of positions has it."""
        return n_pairs >= self.least_pairs and self.absent in (None, n_labels > n_pairs)

    def loss(self, n_pairs: int, n_labels: int) -> float:
        """Loss in the limit (nats)."""
        return sum(math.log(count) for count in self.guesses(n_pairs, n_labels)) / n_pairs

    def p_correct(self, n_pairs: int, n_labels: int) -> float:
        """Mean probability of the correct label in the limit."""
        return sum(1.0 / count for count in self.guesses(n_pairs, n_labels)) / n_pairs


def sink_counts(n_pairs: int) -> list[int]:
    """How many labels of the context stay in play in the sink, for each slot of the match.

    Attention goes to the strongest token of slot s as exp(alpha·top_s), with top_1 = 1 (the first
    token attends to itself) and top_s = max(1/(2s − 2), 1/N) (the item, or the target). With
    xi = −exp(kappa·alpha), a later label n is ruled out if kappa > top_s − 1/(2n − 1), and the
    correct label stays in play if kappa < top_s. The least loss is at kappa → 1/N from below. Up to
    N = 2 nothing is ruled out, and there is no such valley.
    """
    counts = []
    for s in range(1, n_pairs + 1):
        top = Fraction(1) if s == 1 else max(Fraction(1, 2 * s - 2), Fraction(1, n_pairs))
        later = range(s + 1, n_pairs + 1)
        alive = sum(top - Fraction(1, 2 * n - 1) >= Fraction(1, n_pairs) for n in later)
        counts.append(s + alive)
    return counts


VALLEYS = (
    Valley(
        "induction",
        "The induction head: the target attends to the label that follows its item, and the "
        "classifier repeats it.",
        (1, 1, 1),
        lambda n_pairs, n_labels: [1] * n_pairs,
        attracts=True,
    ),
    Valley(
        "shunned-match",
        "The match repels: the correct label alone gets no attention, and the classifier votes "
        "against what is attended. Left are it and the labels that are not in the context.",
        (1, -1, -1),
        lambda n_pairs, n_labels: [n_labels - n_pairs + 1] * n_pairs,
        attracts=True,
        least_pairs=2,
    ),
    Valley(
        "early-labels",
        "Labels attend to anything but their item, and matches repel: tokens after the target's "
        "first copy are shunned, and the guess is even among the labels up to the correct one.",
        (-1, -1, 1),
        lambda n_pairs, n_labels: range(1, n_pairs + 1),
        attracts=True,
        positions=("exact",),
    ),
    Valley(
        "early-labels-inverted",
        "The mirror image of early-labels, where no label is missing from the context: later "
        "labels are attended, and the classifier votes against them.",
        (-1, 1, -1),
        lambda n_pairs, n_labels: range(1, n_pairs + 1),
        attracts=True,
        positions=("exact",),
        absent=False,
    ),
    Valley(
        "sink",
        "Items and the target itself absorb all attention, while xi falls without bound so that "
        "some of the later labels are still voted down; the loss stays near log L for very long.",
        (-1, 1, -1),
        lambda n_pairs, n_labels: [count + n_labels - n_pairs for count in sink_counts(n_pairs)],
        attracts=True,
        positions=("exact",),
        least_pairs=3,
        absent=True,
    ),
    Valley(
        "plateau",
        "Even attention and a sure classifier: the guess among the labels of the context. A ridge "
        "that every trajectory leaves on one side or the other, if slowly where E is small.",
        (0, 0, 1),
        lambda n_pairs, n_labels: [n_pairs] * n_pairs,
        attracts=False,
    ),
)

VALLEY_NAMES = tuple(valley.name for valley in VALLEYS)
"""Names behind the labels of `identify`."""


def name_of(label: int) -> str:
    """The name behind a label of `identify`, or "undecided"."""
    return "undecided" if label == UNDECIDED else VALLEY_NAMES[label]


def valleys(model: NestedLogit) -> tuple[Valley, ...]:
    """The valleys that a landscape has, in a fixed order."""
    return tuple(
        valley
        for valley in VALLEYS
        if model.positions in valley.positions and valley.exists(model.n_pairs, model.n_labels)
    )


def identify(
    model: NestedLogit, theta: ArrayLike, loss: ArrayLike, tolerance: float = 0.05
) -> NDArray[np.int64]:
    """Which attracting valley each end lies in.

    An end belongs to the valley whose direction has its signs of alpha and xi, if its loss and the
    mean probability of the correct label are closer to the valley's than to those of any other
    level at which a trajectory with these signs can stay: the start, log L and 1/L, and, for
    xi > 0, the plateau, log N and 1/N. (For xi < 0 even attention does no better than log L.) At
    these ends alpha and xi are large, since labels have to be ruled out; beta1 may lag far behind
    where it need not be large.

    Parameters
    ----------
    model : NestedLogit
    theta : array_like, shape (..., p)
        Ends of trajectories.
    loss : array_like, shape (...,)
        Their losses (nats).
    tolerance : float
        Largest distance of the loss (nats), where half the way to the next level is more. The
        approach to a valley can be as slow as 1/log t, so this is no rounding error. What is not
        there yet counts as undecided: early-labels-inverted at N = 16 and t = 1e6 (0.16 above its
        limit), or the sink at (N, L) = (8, 32) before t = 1e7 or so.

    Returns
    -------
    ndarray of int, shape (...,)
        Index into `VALLEYS`, which means the same for every N and L, or `UNDECIDED`: at N = 1
        always, as no loss tells the induction head from the plateau there.
    """
    point = finite_array("theta", theta, model.n_parameters)
    size = model.n_pairs, model.n_labels
    signs = np.sign(point[..., 1:3])
    losses = np.asarray(loss, dtype=np.float64)
    p_correct = model.measures(point)["p_correct"]
    known = valleys(model)
    labels = np.full(losses.shape, UNDECIDED, dtype=np.int64)
    for index, valley in enumerate(VALLEYS):
        if valley not in known or not valley.attracts:
            continue
        limit = np.array([valley.loss(*size), valley.p_correct(*size)])
        others = [(math.log(model.n_labels), 1.0 / model.n_labels)]
        others += [
            (other.loss(*size), other.p_correct(*size))
            for other in known
            if other is not valley and _meet(other.direction[1:], valley.direction[1:])
        ]
        half_way = 0.5 * np.abs(np.array(others) - limit).min(axis=0)
        off = np.abs(losses - limit[0])
        near = (off <= tolerance) & (off < half_way[0])
        near &= np.abs(p_correct - limit[1]) < half_way[1]
        labels[near & (signs == valley.direction[1:]).all(axis=-1)] = index
    return labels


def _meet(one: tuple[int, ...], other: tuple[int, ...]) -> bool:
    """Whether some point has the signs of both directions; 0 leaves a sign open."""
    return all(a == b or 0 in (a, b) for a, b in zip(one, other, strict=True))
