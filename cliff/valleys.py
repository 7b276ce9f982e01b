"""The valleys: limits at infinity in which the gradient flow can end, with their losses.

Plain data, for whatever has to say where a trajectory went. How they are found is worked out in
``derivations/``.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike, NDArray

from cliff.checks import finite_array

if TYPE_CHECKING:
    from cliff.landscape import NestedLogit

UNDECIDED = -1
"""Label of an end that lies in no valley, or not yet."""


@dataclass(frozen=True)
class Valley:
    """One limit at infinity.

    Attributes
    ----------
    name : str
    description : str
        What the three circuits do there, and why the loss is what it is.
    direction : tuple of int
        Signs of (beta1, alpha, xi) on the way; 0 where the logit may stay anywhere.
    loss : callable
        (n_pairs, n_labels) → loss in the limit (nats).
    attracts : bool
        Whether an open set of starts ends there.
    positions : tuple of str
        The kinds of positions that have it.
    exists : callable
        (n_pairs, n_labels) → bool.
    """

    name: str
    description: str
    direction: tuple[int, int, int]
    loss: Callable[[int, int], float]
    attracts: bool
    positions: tuple[str, ...] = ("exact", "mean")
    exists: Callable[[int, int], bool] = lambda n_pairs, n_labels: True


def early_labels_loss(n_pairs: int, n_labels: int) -> float:
    """(1/N) log N!: the guess among the labels up to the correct one, averaged over its slot."""
    return math.lgamma(n_pairs + 1) / n_pairs


def shunned_match_loss(n_pairs: int, n_labels: int) -> float:
    """log(L − N + 1): the guess among the correct label and those that are not in the context."""
    return math.log(n_labels - n_pairs + 1)


def sink_counts(n_pairs: int) -> list[int]:
    """How many labels of the context stay in play in the sink, for each slot of the match.

    Attention goes to the strongest token of slot s as exp(alpha·top_s), with top_1 = 1 (the first
    token attends to itself) and top_s = max(1/(2s − 2), 1/N) (the item, or the target). With
    xi = −exp(kappa·alpha), a later label n is ruled out if kappa > top_s − 1/(2n − 1), and the
    correct label stays in play if kappa < top_s. The least loss is at kappa → 1/N from below.
    """
    counts = []
    for s in range(1, n_pairs + 1):
        top = Fraction(1) if s == 1 else max(Fraction(1, 2 * s - 2), Fraction(1, n_pairs))
        later = range(s + 1, n_pairs + 1)
        alive = sum(top - Fraction(1, 2 * n - 1) >= Fraction(1, n_pairs) for n in later)
        counts.append(s + alive)
    return counts


def sink_loss(n_pairs: int, n_labels: int) -> float:
    """Limit of the loss in the sink: the guess among the labels that `sink_counts` leaves."""
    absent = n_labels - n_pairs
    return sum(math.log(count + absent) for count in sink_counts(n_pairs)) / n_pairs


VALLEYS = (
    Valley(
        "induction",
        "The induction head: the target attends to the label that follows its item, and the "
        "classifier repeats it.",
        (1, 1, 1),
        lambda n_pairs, n_labels: 0.0,
        attracts=True,
    ),
    Valley(
        "shunned-match",
        "The match repels: the correct label alone gets no attention, and the classifier votes "
        "against what is attended. Left are it and the labels that are not in the context.",
        (1, -1, -1),
        shunned_match_loss,
        attracts=True,
    ),
    Valley(
        "early-labels",
        "Labels attend to anything but their item, and matches repel: tokens after the target's "
        "first copy are shunned, and the guess is even among the labels up to the correct one.",
        (-1, -1, 1),
        early_labels_loss,
        attracts=True,
        positions=("exact",),
    ),
    Valley(
        "early-labels-inverted",
        "The mirror image of early-labels, where no label is missing from the context: later "
        "labels are attended, and the classifier votes against them.",
        (-1, 1, -1),
        early_labels_loss,
        attracts=True,
        positions=("exact",),
        exists=lambda n_pairs, n_labels: n_labels == n_pairs,
    ),
    Valley(
        "sink",
        "Items and the target itself absorb all attention, while xi falls without bound so that "
        "some of the later labels are still voted down; the loss stays near log L for very long.",
        (-1, 1, -1),
        sink_loss,
        attracts=True,
        positions=("exact",),
        exists=lambda n_pairs, n_labels: n_labels > n_pairs,
    ),
    Valley(
        "plateau",
        "Even attention and a sure classifier: the guess among the labels of the context. A ridge "
        "that every trajectory leaves on one side or the other, if slowly where E is small.",
        (0, 0, 1),
        lambda n_pairs, n_labels: math.log(n_pairs),
        attracts=False,
    ),
)


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

    An end belongs to the valley whose direction has its signs of alpha and xi, if its loss is
    within `tolerance` of the valley's; beta1 may lag far behind.

    Parameters
    ----------
    model : NestedLogit
    theta : array_like, shape (..., p)
        Ends of trajectories.
    loss : array_like, shape (...,)
        Their losses (nats).
    tolerance : float
        In nats; the approach to a valley can be as slow as 1/log t, so this is no rounding error.
        Where it is not enough, as for early-labels-inverted at N = 16 and t = 1e6 (0.16 above its
        limit), the end counts as undecided.

    Returns
    -------
    ndarray of int, shape (...,)
        Index into `valleys(model)`, or `UNDECIDED`.
    """
    signs = np.sign(finite_array("theta", theta, model.n_parameters)[..., 1:3])
    losses = np.asarray(loss, dtype=np.float64)
    labels = np.full(losses.shape, UNDECIDED, dtype=np.int64)
    for index, valley in enumerate(valleys(model)):
        if valley.attracts:
            inside = (signs == valley.direction[1:]).all(axis=-1)
            limit = valley.loss(model.n_pairs, model.n_labels)
            labels[inside & (np.abs(losses - limit) <= tolerance)] = index
    return labels
