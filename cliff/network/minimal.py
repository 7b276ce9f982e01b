"""The minimal head: both attention layers reduced to three numbers, the classifier left whole."""

from __future__ import annotations

from typing import Literal, NamedTuple

import numpy as np
from numpy.random import Generator
from numpy.typing import DTypeLike

from cliff.checks import ArgumentError, real
from cliff.network.layers import Array, Network, softmax, softmax_backward
from cliff.task import Batch, Task


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
        self.label_bias = label_bias if label_bias == "free" else real("label_bias", label_bias)
        if len(start) != 2:
            raise ArgumentError("start", start, "must be two numbers, beta1 and alpha")
        self.start = (real("start", start[0]), real("start", start[1]))
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

    def _features(self, batch: Batch) -> tuple[Array, Array, Array, _Kept]:
        weights = self.parameters
        contents = self.contents(batch)  # (B, T, D padded)
        size, n_tokens, _ = contents.shape

        if 1 in self.clamp:
            attention1 = self._clamped(1, batch)[0]  # (T, T), the same in all sequences
        else:
            previous = np.eye(n_tokens, k=-1, dtype=bool)
            visible = np.tri(n_tokens, dtype=bool)
            scores1 = np.where(visible, previous * weights["beta1"], -np.inf)
            attention1 = softmax(scores1.astype(self.dtype))  # (T, T)
        overlap = _overlaps(contents, contents[:, -1])  # (B, T), c_j . c_t
        match = overlap @ attention1.T  # (B, T), b_j . c_t
        if 2 in self.clamp:
            attention2 = self._clamped(2, batch)  # (B, T)
        else:
            scores2 = weights["alpha"] * match  # (B, T)
            scores2[:, 1::2] += weights["beta2"]
            attention2 = softmax(scores2)  # (B, T)
        attended = np.matmul(attention2[:, None, :], contents)[:, 0]  # (B, D padded)
        dim = self.task.dim
        features = np.concatenate([contents[:, -1, :dim], attended[:, :dim]], axis=1)  # (B, 2D)
        shared = np.broadcast_to(attention1, (size, n_tokens, n_tokens))
        kept = _Kept(contents, attention1, attention2, overlap, match)
        return features, shared, attention2, kept

    def _backward(self, slope: Array, kept: _Kept) -> None:
        # d_x is the gradient with respect to x, in the shape of x
        gradients, dim = self.gradients, self.task.dim
        d_attended = np.zeros_like(kept.contents[:, 0])  # (B, D padded)
        d_attended[:, :dim] = slope[:, dim:]
        for name in self._attention_shapes():
            gradients[name][...] = 0
        if 2 in self.clamp:
            return
        d_attention2 = _overlaps(kept.contents, d_attended)  # (B, T)
        d_scores2 = softmax_backward(kept.attention2, d_attention2)  # (B, T)
        gradients["alpha"][...] = (d_scores2 * kept.match).sum()
        gradients["beta2"][...] = d_scores2[:, 1::2].sum()
        if 1 in self.clamp:
            return
        d_match = self.parameters["alpha"] * d_scores2  # (B, T)
        d_scores1 = softmax_backward(kept.attention1, d_match.T @ kept.overlap)  # (T, T)
        gradients["beta1"][...] = np.trace(d_scores1, offset=-1)


def _overlaps(contents: Array, vectors: Array) -> Array:
    """Inner product of each token's content with its sequence's vector: (B, T)."""
    return np.matmul(contents, vectors[:, :, None])[:, :, 0]
