"""The valleys: limits at infinity in which the gradient flow can end, with their losses.

The valleys are data: names, directions, losses and the N and L that have them. ``derivations/``
works out how they are found.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike, NDArray

from cliff.checks import ArgumentError, finite_array

if TYPE_CHECKING:
    from cliff.nested_logit import NestedLogit
    from cliff.protocol import LandscapeLike
    from cliff.trajectory import Ensemble

UNDECIDED = -1
"""Label of a trajectory's end that has reached no valley."""


@dataclass(frozen=True)
class Valley:
    """One limit at infinity.

    For every slot of the match the prediction ends as an even guess among some labels, the correct
    one among them: their number gives the loss and the probability of the correct label.

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

    def __reduce__(self) -> tuple[Callable[[str], Valley], tuple[str]]:
        return _named, (self.name,)  # functions without a name cannot be pickled


def _named(name: str) -> Valley:
    return VALLEYS[VALLEY_NAMES.index(name)]


def sink_counts(n_pairs: int) -> list[int]:
    """Number of the context's labels that the sink leaves to guess among, for each slot.

    Attention goes to the strongest token of slot s as exp(alpha·top_s), with top_1 = 1 (the first
    token attends to itself) and top_s = max(1/(2s − 2), 1/N) (the item, or the target). With
    xi = −exp(kappa·alpha), a later label n is ruled out if kappa > top_s − 1/(2n − 1), and the
    correct label is not if kappa < top_s. The loss is least for kappa → 1/N from below. Up to N = 2
    nothing is ruled out, and the valley does not exist.
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
        "Items and the target itself absorb all attention, while xi falls without bound and still "
        "votes down some of the later labels; the loss stays near log L for very long.",
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
    """The valleys that a landscape without memory has, in a fixed order.

    Raises
    ------
    ArgumentError
        If it has memory, through which every loss of known classes can fall.
    """
    if model.memory is not None:
        raise ArgumentError("memory", model.memory, "must be None for the valleys to be known")
    return tuple(
        valley
        for valley in VALLEYS
        if model.positions in valley.positions and valley.exists(model.n_pairs, model.n_labels)
    )


def identify(
    model: NestedLogit, theta: ArrayLike, loss: ArrayLike, tolerance: float = 0.05
) -> NDArray[np.int64]:
    """Label the attracting valley that each end of a trajectory lies in.

    An end belongs to a valley if alpha and xi have the valley's signs, and if its loss and its
    probability of the correct label are closer to the valley's than to any other level at which a
    trajectory with these signs can stay. Such levels are the guess among all labels, log L and 1/L,
    with which every flow from a small start begins, and, for xi > 0, the plateau, log N and 1/N.
    (For xi < 0, even attention does no better than log L.) Only large alpha and xi reach a valley's
    loss, since they have to rule labels out; beta1 may be small where the loss does not need it.

    Parameters
    ----------
    model : NestedLogit
    theta : array_like, shape (..., p)
        Ends of trajectories.
    loss : array_like, shape (...,)
        Their losses (nats).
    tolerance : float
        Largest distance of the loss from the valley's (nats); half the distance to the next level,
        if that is less. The approach can be as slow as 1/log t, so that ends are still undecided in
        early-labels-inverted at N = 16 and t = 1e6 (0.16 above its limit), or in the sink at
        (N, L) = (8, 32) before t = 1e7 or so.

    Returns
    -------
    ndarray of int, shape (...,)
        Index into `VALLEYS`, the same for every N and L, or `UNDECIDED`. At N = 1 all ends are
        undecided, since induction head and plateau have one loss.
    """
    point = finite_array("theta", theta, model.n_parameters)
    size = model.n_pairs, model.n_labels
    signs = np.sign(point[..., 1:3])
    losses = np.asarray(loss, dtype=np.float64)
    probabilities = model.measures(point)["p_correct"]
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
        near &= np.abs(probabilities - limit[1]) < half_way[1]
        labels[near & (signs == valley.direction[1:]).all(axis=-1)] = index
    return labels


ANSWER_NAMES = ("induction", "memory", "both")
"""Names behind the labels of `who_answers`: the context answers, the weights do, or each can."""


def who_answers(
    model: NestedLogit, theta: ArrayLike, loss: ArrayLike, tolerance: float = 0.05
) -> NDArray[np.int64]:
    """Label the ends of trajectories with memory whose loss is near 0, by who has the answer.

    The context has it if novel classes are answered (the measure `icl` is above one half), the
    weights have it if targets are whose class is absent from the context (`iwl`).

    Parameters
    ----------
    model : NestedLogit
        A landscape with memory.
    theta : array_like, shape (..., p)
        Ends of trajectories.
    loss : array_like, shape (...,)
        Their losses (nats).
    tolerance : float
        Largest loss of an end that is labelled (nats).

    Returns
    -------
    ndarray of int, shape (...,)
        Index into `ANSWER_NAMES`, or `UNDECIDED` where the loss is larger, or it takes both to
        answer.
    """
    measures = model.measures(theta)
    context, weights = measures["icl"] > 0.5, measures["iwl"] > 0.5
    labels = np.select([context & weights, context, weights], [2, 0, 1], UNDECIDED)
    return np.where(np.asarray(loss) <= tolerance, labels, UNDECIDED).astype(np.int64)


BASIN_TOLERANCE = 0.2
"""Distance from a valley's loss up to which an end counts as in it (nats): wide enough for
early-labels-inverted at L = N = 8, which is still 0.16 above its limit at t = 1e5."""


def basins(ensemble: Ensemble, tolerance: float = BASIN_TOLERANCE) -> NDArray[np.int64]:
    """The valley that each trajectory of an ensemble ended in.

    Parameters
    ----------
    ensemble : Ensemble
        Trajectories, each with its own constants.
    tolerance : float
        See `BASIN_TOLERANCE`.

    Returns
    -------
    ndarray of int, shape (m,)
        Index into `VALLEYS`; `UNDECIDED` where no valley fits, or the flow did not reach its end
        time.
    """
    labels = np.full(len(ensemble.loss), UNDECIDED, dtype=np.int64)
    for model, here in by_constants(ensemble):
        labels[here] = model.identify(ensemble.theta[here], ensemble.loss[here], tolerance)
    return labels


def by_constants(ensemble: Ensemble) -> Iterator[tuple[LandscapeLike, NDArray[np.intp]]]:
    """Each landscape of an ensemble, and which of the trajectories that are done have it."""
    done = np.flatnonzero(ensemble.done)
    columns = [column[done] for column in ensemble.constants.values()]
    kinds = np.stack([np.zeros(len(done)), *columns], axis=1).astype(np.float64)
    _, first, kind = np.unique(kinds, axis=0, return_index=True, return_inverse=True)
    for number, one in enumerate(done[first].tolist()):
        values = {name: column[one].item() for name, column in ensemble.constants.items()}
        here = done[kind.reshape(-1) == number]
        yield ensemble.model.with_constants(**values), here


def _meet(one: tuple[int, ...], other: tuple[int, ...]) -> bool:
    """Whether some point has the signs of both directions, where 0 is any sign."""
    return all(a == b or 0 in (a, b) for a, b in zip(one, other, strict=True))
