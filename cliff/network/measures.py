"""Measures of a network: progress measures and accuracies, named as on the landscape."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from cliff.kernels.network import cross_entropy, softmax
from cliff.network.layers import Network, Output
from cliff.network.logits import effective_logits
from cliff.parallel import one_blas_thread
from cliff.task import EVALUATION, MEMORY, Batch, Question, Task, stream

QUESTIONS: tuple[Question, ...] = ("train", "icl", "icl_swapped", "iwl")
"""Evaluation sets: the training distribution itself, and the three questions."""

LEAST_OF_GROUP = 64
"""Sequences for each group of classes at least, if an evaluation has as many."""


def evaluation_sets(task: Task, seed: int, size: int) -> dict[Question, Batch]:
    """Draw one held-out batch of `size` sequences for each of `QUESTIONS`."""
    rng = stream(seed, EVALUATION)
    return {question: task.sample(rng, size, question) for question in QUESTIONS}


def memory_sets(task: Task, seed: int, size: int) -> list[Batch]:
    """Draw held-out sequences for `effective_memory`, about `size` of them over all groups.

    None where all sequences are novel, so that nothing can be learned about known classes.
    """
    if task.p_novel == 1:
        return []
    rng, n_groups = stream(seed, MEMORY), len(task.group_shares)
    each = max(-(-size // n_groups), min(size, LEAST_OF_GROUP))
    return [task.sample_group(rng, each, group) for group in range(n_groups)]


def measures(output: Output, batch: Batch) -> dict[str, float]:
    """Progress measures of a network on a batch, as means over its sequences.

    Parameters
    ----------
    output : Output
        Of the network's `forward`.
    batch : Batch

    Returns
    -------
    dict of float
        ``loss``: cross-entropy in nats;
        ``accuracy``: share of sequences whose most probable label is the correct one;
        ``p_correct``: probability of the correct label;
        ``ila1``: attention in layer 1 of a label to the item before it, mean over labels;
        ``tila2``: attention in layer 2 of the target to its own label (0 in a sequence whose
        context lacks it);
        ``tla2``: attention in layer 2 of the target to all labels;
        ``cla``: probability that the prediction puts on the labels present in the context.
    """
    loss, _ = cross_entropy(output.logits, batch.answer, len(batch.answer))
    probability = softmax(output.logits)
    present = np.zeros(output.logits.shape, bool)
    np.put_along_axis(present, batch.labels, True, axis=1)
    label = np.arange(1, output.attention1.shape[1], 2)
    to_labels = output.attention2[:, label]
    right = batch.labels == batch.answer[:, None]
    return {
        "loss": loss,
        "accuracy": accuracy(output, batch),
        "p_correct": float(probability[np.arange(len(probability)), batch.answer].mean()),
        "ila1": float(output.attention1[:, label, label - 1].mean()),
        "tila2": float((to_labels * right).sum(axis=1).mean()),
        "tla2": float(to_labels.sum(axis=1).mean()),
        "cla": float((probability * present).sum(axis=1).mean()),
    }


def accuracy(output: Output, batch: Batch) -> float:
    """Share of sequences whose most probable label is the correct one."""
    return float((output.logits.argmax(axis=1) == batch.answer).mean())


@one_blas_thread()
def evaluate(net: Network, sets: Mapping[Question, Batch]) -> dict[str, float]:
    """All measures on held-out sequences, and the effective logits.

    Parameters
    ----------
    net : Network
    sets : mapping
        From `evaluation_sets`.

    Returns
    -------
    dict of float
        The `measures` and the `effective_logits` on the training distribution; the accuracies
        ``icl``, ``icl_swapped`` and ``iwl`` on the three questions.
    """
    values = measures(net.forward(sets["train"]), sets["train"])
    for question in QUESTIONS[1:]:
        values[question] = accuracy(net.forward(sets[question]), sets[question])
    return {**values, **effective_logits(net, sets["train"])}


def attention_maps(net: Network, batch: Batch) -> dict[str, NDArray[np.float64]]:
    """Mean attention of both layers.

    Parameters
    ----------
    net : Network
    batch : Batch
        Sequences whose answer is in the context.

    Returns
    -------
    dict of ndarray
        ``attention1``, shape (T, T): of each token, mean over the batch;
        ``attention2``, shape (N, T): of the target, mean over the sequences whose (first) right
        label is in slot n; NaN where there is none.
    """
    output = net.forward(batch)
    slot = (batch.labels == batch.answer[:, None]).argmax(axis=1)
    members = np.eye(batch.labels.shape[1])[slot]
    with np.errstate(invalid="ignore"):
        attention2 = members.T @ output.attention2 / members.sum(axis=0)[:, None]
    attention1 = output.attention1.mean(axis=0, dtype=np.float64)
    return {"attention1": attention1, "attention2": attention2}
