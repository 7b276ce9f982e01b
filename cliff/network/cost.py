"""What a training step of the transformer costs."""

from __future__ import annotations

from cliff.task import Task


def tokens(task: Task, batch: int = 128) -> int:
    """Tokens that a step sees."""
    return batch * task.n_tokens


def operations(task: Task, batch: int = 128, width: int = 128) -> int:
    """Floating-point operations of the products of a step, two for each multiply-add.

    They are those of the compiled passes, which leave out what the loss does not need; see
    `cliff.kernels.transformer`. Exponentials and sums beside them are of lower order.
    """
    n, d, w, labels = task.n_pairs, task.dim, task.width, task.n_labels
    t = task.n_tokens
    seen = t * (t + 1) // 2
    multiply_adds = (
        3 * w**3  # Q1ᵀ K1, and the gradients of Q1 and K1
        + 2 * (batch * (n + 1) + labels) * d * w  # queries of items and labels, there and back
        + batch * (seen + t * t) * d  # scores of layer 1, there and, with zeros, back
        + 4 * batch * t * t  # attention of layer 1 applied to numbers
        + 11 * batch * t * d  # overlaps with tokens and mixtures of them
        + 18 * batch * w**2  # V1 three times, Q2, K2, V2, each there and twice back
        + 3 * batch * (w * width + 2 * width**2 + width * labels)  # the classifier
    )
    return 2 * multiply_adds


def operations_in_full(task: Task, batch: int = 128, width: int = 128) -> int:
    """The same of the model as `cliff.network.reference` states it: all tokens, both layers."""
    w, t = task.width, task.n_tokens
    per_layer = (
        11 * t * w**2  # queries and keys twice, values; and back, by input and by parameters
        + 7 * t * t * w  # scores and mixtures, there and back, and mixtures once more
    )
    classifier = 3 * (w * width + 2 * width**2 + width * task.n_labels)
    return 2 * batch * (2 * per_layer + classifier)
