"""The minimal head: both attention layers reduced to three numbers, the classifier left whole."""

from __future__ import annotations

from typing import Literal, NamedTuple

import numpy as np
from numpy.random import Generator
from numpy.typing import DTypeLike

from cliff.checks import ArgumentError, real
from cliff.kernels import compiled
from cliff.kernels import network as kernels
from cliff.kernels.product import product
from cliff.network.layers import Array, Held, Network, Parameters, loss_and_slope
from cliff.task import Batch, Task

LARGEST_LOGIT = 1e6
"""Beyond it attention is all or nothing, and float32 soon has no room for scores."""


class _Weights(NamedTuple):
    """The parameters, or the gradients with respect to them."""

    beta1: Array
    alpha: Array
    beta2: Array
    W1: Array
    b1: Array
    W2: Array
    b2: Array
    W3: Array
    b3: Array
    readout: Array


class _Kept(NamedTuple):
    """Intermediate results of a forward pass that the backward pass needs, named as there."""

    contents: Array
    attention1: Array
    attention2: Array
    overlap: Array
    match: Array


class MinimalHead(Network):
    """An induction head with three parameters, then the classifier of the transformer.

    In layer 1 token i attends to j <= i in proportion to exp(beta1 [j = i - 1]) and keeps what it
    sees, b_i, in a buffer. In layer 2 the target attends to token j in proportion to
    exp(alpha b_j . c_t + beta2 [j is a label]). The classifier reads the target's content c_t and
    the attended content.

    Parameters
    ----------
    task, seed, width, dtype
        As in `Network`.
    label_bias : "free" or float
        Whether beta2 is learned, from 0, or fixed at a number (0 is the two-parameter model).
    start : pair of float
        beta1 and alpha at the start.

    Notes
    -----
    Contents alone are attended to, and positions enter through beta1 only, so the place of the
    window does not matter at all.

    References
    ----------
    Reddy, ICLR 2024, arXiv:2312.03002, section 3.
    """

    model = "minimal"

    def __init__(
        self,
        task: Task,
        seed: int = 0,
        width: int = 128,
        dtype: DTypeLike = np.float32,
        label_bias: float | Literal["free"] = "free",
        start: tuple[float, float] = (0.0, 0.0),
    ) -> None:
        if isinstance(label_bias, str) and label_bias != "free":
            raise ArgumentError("label_bias", label_bias, 'must be a number or "free"')
        self.label_bias = label_bias
        if label_bias != "free":
            self.label_bias = real("label_bias", label_bias, -LARGEST_LOGIT, LARGEST_LOGIT)
        if len(start) != 2:
            raise ArgumentError("start", start, "must be two numbers, beta1 and alpha")
        beta1, alpha = (real("start", logit, -LARGEST_LOGIT, LARGEST_LOGIT) for logit in start)
        self.start = (beta1, alpha)
        super().__init__(task, seed, width, dtype)
        if self.label_bias != "free":
            self.frozen.add("beta2")

    @property
    def n_features(self) -> int:
        return 2 * self.task.dim

    def _attention_shapes(self) -> dict[str, tuple[int, ...]]:
        return {"beta1": (), "alpha": (), "beta2": ()}

    def _initialise_attention(self, rng: Generator) -> None:
        self.parameters["beta1"][...], self.parameters["alpha"][...] = self.start
        self.parameters["beta2"][...] = 0 if self.label_bias == "free" else self.label_bias

    def attention_logits(self) -> tuple[float, float]:
        """On this rung they are parameters."""
        return float(self.parameters["beta1"]), float(self.parameters["alpha"])

    def label_directions(self) -> Array:
        return np.concatenate([np.zeros_like(self.label_vectors), self.label_vectors], axis=1)

    def settings(self) -> dict[str, object]:
        return {**super().settings(), "label_bias": self.label_bias, "start": list(self.start)}

    def _weights(self) -> _Weights:
        return _Weights(**self.parameters)

    def _slopes(self, gradients: Parameters) -> _Weights:
        return _Weights(**gradients)

    def _features(self, weights: _Weights, batch: Batch, held: Held) -> tuple[Array, _Kept]:
        return _features(weights, self.label_vectors, batch, held)

    def _differentiate(
        self, weights: _Weights, batch: Batch, held: Held, slopes: _Weights, size: int
    ) -> float:
        return float(_differentiate(weights, self.label_vectors, batch, held, slopes, size))


@compiled
def _features(
    weights: _Weights, label_vectors: Array, batch: Batch, held: Held
) -> tuple[Array, _Kept]:
    """What the classifier reads, and what `_differentiate` needs."""
    contents = kernels.lay_out(batch.items, batch.labels, label_vectors)  # (B, T, D padded)
    size, n_tokens, _ = contents.shape
    if len(held.attention1):
        attention1 = held.attention1[0]  # (T, T), the same in all sequences
    else:
        scores1 = np.zeros((n_tokens, n_tokens), contents.dtype)  # (T, T)
        for i in range(n_tokens):
            scores1[i, i + 1 :] = -np.inf
            if i:
                scores1[i, i - 1] = weights.beta1[()]
        attention1 = kernels.softmax(scores1)  # (T, T)
    target = contents[:, -1].copy()  # (B, D padded)
    overlap = kernels.apply(contents, target)  # (B, T), c_j . c_t
    match = product(overlap, attention1.T)  # (B, T), b_j . c_t
    if len(held.attention2):
        attention2 = held.attention2  # (B, T)
    else:
        scores2 = weights.alpha[()] * match  # (B, T)
        scores2[:, 1::2] += weights.beta2[()]
        attention2 = kernels.softmax(scores2)  # (B, T)
    attended = kernels.apply_transposed(contents, attention2)  # (B, D padded)
    dim = label_vectors.shape[1]
    features = np.empty((size, 2 * dim), contents.dtype)  # (B, 2D)
    features[:, :dim] = target[:, :dim]
    features[:, dim:] = attended[:, :dim]
    return features, _Kept(contents, attention1, attention2, overlap, match)


@compiled
def _differentiate(
    weights: _Weights, label_vectors: Array, batch: Batch, held: Held, slopes: _Weights, size: int
) -> float:
    """Cross-entropy summed over some sequences and divided by `size`; write its gradient."""
    features, kept = _features(weights, label_vectors, batch, held)
    loss, slope = loss_and_slope(features, batch.answer, size, weights, slopes)

    # d_x is the gradient with respect to x, in the shape of x
    dim = slope.shape[1] // 2
    d_attended = np.zeros((len(slope), kept.contents.shape[2]), slope.dtype)  # (B, D padded)
    d_attended[:, :dim] = slope[:, dim:]
    slopes.alpha[()] = 0
    slopes.beta2[()] = 0
    slopes.beta1[()] = 0
    if len(held.attention2):
        return loss
    d_attention2 = kernels.apply(kept.contents, d_attended)  # (B, T)
    d_scores2 = kernels.softmax_backward(kept.attention2, d_attention2)  # (B, T)
    slopes.alpha[()] = (d_scores2 * kept.match).sum()
    slopes.beta2[()] = d_scores2[:, 1::2].sum()
    if len(held.attention1):
        return loss
    d_match = weights.alpha[()] * d_scores2  # (B, T)
    d_attention1 = product(d_match.T, kept.overlap)  # (T, T)
    d_scores1 = kernels.softmax_backward(kept.attention1, d_attention1)  # (T, T)
    slopes.beta1[()] = np.trace(d_scores1[1:])
    return loss
