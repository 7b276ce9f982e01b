"""The two-layer transformer, its forward pass and its gradient.

Only what the loss needs is computed, which is exact and a tenth of the full work:

- the target alone is read, so the second layer and the classifier run for the target only;
- scores need Qᵀ K alone: x_iᵀ Q1ᵀ K1 x_j is one product with the items, while labels (L values) and
  positions (one-hot) are rows of a table;
- all that the second layer makes of the tokens is linear in them. With h_j = x_j + V1 m_j and
  m_j = sum over i of p_ji x_i, the scores g . h_j are overlaps g . x_j and (V1ᵀ g) . x_i, and the
  head's output is V2 applied to a mixture of the tokens: V1 is never applied token by token.

In shapes, B is the size of the batch, N the pairs, T = 2N + 1 the tokens, P the window, D the
dimension of a content, W = P + D the width of a token, L the labels.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.random import Generator

from cliff.kernels import compiled
from cliff.kernels import network as kernels
from cliff.kernels.network import softmax
from cliff.kernels.product import multiply, product
from cliff.network.layers import Array, Held, Network, Parameters, loss_and_slope
from cliff.task import Batch


class Trace(NamedTuple):
    """What every token sees and becomes, where `Output` has the target's share only.

    Attributes
    ----------
    attention1, attention2 : ndarray, shape (size, T, T)
        Attention of each token in the two layers.
    stream : ndarray, shape (size, T, W)
        Each token after both layers; the classifier reads the last one.
    """

    attention1: Array
    attention2: Array
    stream: Array


class _Weights(NamedTuple):
    """What the passes read, or the gradients with respect to it.

    Q1 and K1 act through match1 = Q1ᵀ K1 alone.
    """

    match1: Array
    V1: Array
    Q2: Array
    K2: Array
    V2: Array
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
    mixed: Array
    hidden: Array
    query2: Array
    key2: Array
    through: Array
    mean_mixed: Array
    mean_hidden: Array


class Transformer(Network):
    """Two causal attention layers with one head each, then the classifier, read at the target.

    A token is [one-hot position | content]. Each layer adds V x, averaged with softmax weights of
    (Q x_i) . (K x_j), to the residual stream; no layer normalisation, no scaling, no output
    projection. The entries of Q, K and V start as N(0, 1/D).

    Parameters
    ----------
    task, seed, width, dtype
        As in `Network`.

    Examples
    --------
    >>> import numpy as np
    >>> from cliff.task import Task
    >>> task = Task(n_pairs=4, n_labels=8)
    >>> net = Transformer(task, seed=1)
    >>> batch = task.sample(np.random.default_rng(0), 16)
    >>> net.forward(batch).logits.shape
    (16, 8)
    >>> loss = net.loss_and_gradient(batch)
    >>> net.gradients["Q1"].shape
    (128, 128)

    References
    ----------
    Reddy, ICLR 2024, arXiv:2312.03002, section 2.
    """

    model = "transformer"

    @property
    def n_features(self) -> int:
        return self.task.width

    def _attention_shapes(self) -> dict[str, tuple[int, ...]]:
        square = (self.task.width, self.task.width)
        return dict.fromkeys(("Q1", "K1", "V1", "Q2", "K2", "V2"), square)

    def _initialise_attention(self, rng: Generator) -> None:
        for name in self._attention_shapes():
            self._fill(name, rng, self.task.dim**-0.5)

    def _weights(self) -> _Weights:
        queries, keys, *others = self.parameters.values()
        return _Weights(product(queries.T, keys), *others)

    def _slopes(self, gradients: Parameters) -> _Weights:
        queries, _, *others = gradients.values()
        return _Weights(queries, *others)  # match1's where `_complete` puts that of Q1

    def _features(self, weights: _Weights, batch: Batch, held: Held) -> tuple[Array, _Kept]:
        return _features(weights, self.label_vectors, batch, held)

    def _differentiate(
        self, weights: _Weights, batch: Batch, held: Held, slopes: _Weights, size: int
    ) -> float:
        return float(_differentiate(weights, self.label_vectors, batch, held, slopes, size))

    def _complete(self) -> None:
        weights, gradients = self.parameters, self.gradients
        d_match1 = gradients["Q1"].copy()  # (W, W)
        multiply(weights["K1"], d_match1.T, gradients["Q1"])
        multiply(weights["Q1"], d_match1, gradients["K1"])

    def attention_logits(self) -> tuple[float, float]:
        weights, window = self.parameters, self.task.window
        scores = (weights["Q1"].T @ weights["K1"])[:window, :window].astype(np.float64)  # (P, P)
        token, seen = np.indices(scores.shape)
        distance = token - seen
        others = (distance >= 0) & (distance < self.task.n_tokens) & (distance != 1) & (token > 0)
        beta1 = np.diagonal(scores, -1).mean() - scores[others].mean()
        match = weights["Q2"].T @ weights["K2"] @ weights["V1"]  # (W, W)
        return float(beta1), float(np.trace(match[window:, window:]) / self.task.dim)

    def label_directions(self) -> Array:
        return self.label_vectors @ self.parameters["V2"][:, self.task.window :].T  # (L, W)

    def trace(self, batch: Batch) -> Trace:
        """Run all tokens through both layers, plainly."""
        weights = self.parameters
        tokens = self.tokens(batch)  # (B, T, W)
        attention1 = self.forward(batch).attention1  # (B, T, T)
        hidden = tokens + attention1 @ tokens @ weights["V1"].T  # (B, T, W)
        query2, key2 = hidden @ weights["Q2"].T, hidden @ weights["K2"].T  # (B, T, W) each
        scores = query2 @ key2.transpose(0, 2, 1)  # (B, T, T)
        visible = np.tri(scores.shape[-1], dtype=bool)
        attention2 = softmax(np.where(visible, scores, -np.inf))  # (B, T, T)
        if 2 in self.clamp:
            attention2[:, -1] = self._clamped(2, batch)
        return Trace(attention1, attention2, hidden + attention2 @ hidden @ weights["V2"].T)

    def tokens(self, batch: Batch) -> Array:
        """Write out the tokens, shape (size, T, W)."""
        size, n_pairs = batch.labels.shape
        n_tokens, window = 2 * n_pairs + 1, self.task.window
        tokens = np.zeros((size, n_tokens, self.task.width), self.dtype)
        position = batch.start[:, None] + np.arange(n_tokens)
        np.put_along_axis(tokens, position[:, :, None], 1, axis=2)
        tokens[:, 0::2, window:] = batch.items
        tokens[:, 1::2, window:] = self.label_vectors[batch.labels]
        return tokens


@compiled
def _features(
    weights: _Weights, label_vectors: Array, batch: Batch, held: Held
) -> tuple[Array, _Kept]:
    """What the classifier reads, and what `_differentiate` needs."""
    window, dim = len(weights.V1) - label_vectors.shape[1], label_vectors.shape[1]
    start = batch.start
    contents = kernels.lay_out(batch.items, batch.labels, label_vectors)  # (B, T, D padded)

    # layer 1: who sees whom, and what the target sees
    if len(held.attention1):
        attention1 = held.attention1  # (B, T, T)
    else:
        match1 = weights.match1
        n_items = batch.items.shape[1]
        by_item = product(batch.items.reshape(-1, dim), match1[window:])  # (B (N+1), W)
        by_label = product(label_vectors, match1[window:])  # (L, W)
        attention1 = kernels.attend(
            match1[:window], by_item.reshape(len(start), n_items, window + dim), by_label,
            batch.labels, contents, start,
        )  # (B, T, T)  # fmt: skip
    token = kernels.targets(contents, start, window, dim)  # (B, W)
    seen = attention1[:, -1].copy()  # (B, T)
    mixed = kernels.mixtures((seen,), contents, start, window, dim)[0]  # (B, W)
    hidden = token + product(mixed, weights.V1.T)  # (B, W)

    # layer 2: the target's scores, on the tokens and on what they saw
    query2 = product(hidden, weights.Q2.T)  # (B, W)
    key2 = product(query2, weights.K2)  # (B, W), the query seen from the tokens' side
    value_key2 = product(key2, weights.V1)  # (B, W), and from the side of what they saw
    overlaps = kernels.overlaps((key2, value_key2), contents, start, window)  # (2, B, T)
    direct, through = overlaps[0], overlaps[1]  # (B, T) each
    if len(held.attention2):
        attention2 = held.attention2  # (B, T)
    else:
        attention2 = kernels.softmax(direct + kernels.apply(attention1, through))  # (B, T)
    spread = kernels.apply_transposed(attention1, attention2)  # (B, T)
    mixtures = kernels.mixtures((attention2, spread), contents, start, window, dim)  # (2, B, W)
    mean_token, mean_mixed = mixtures[0], mixtures[1]  # (B, W) each
    mean_hidden = mean_token + product(mean_mixed, weights.V1.T)  # (B, W)
    features = hidden + product(mean_hidden, weights.V2.T)  # (B, W)
    kept = _Kept(
        contents, attention1, attention2,
        mixed, hidden, query2, key2, through, mean_mixed, mean_hidden,
    )  # fmt: skip
    return features, kept


@compiled
def _differentiate(
    weights: _Weights, label_vectors: Array, batch: Batch, held: Held, slopes: _Weights, size: int
) -> float:
    """Cross-entropy summed over some sequences and divided by `size`; write its gradient."""
    features, kept = _features(weights, label_vectors, batch, held)
    loss, slope = loss_and_slope(features, batch.answer, size, weights, slopes)

    # d_x is the gradient with respect to x, in the shape of x
    window, dim = len(weights.V1) - label_vectors.shape[1], label_vectors.shape[1]
    contents, start = kept.contents, batch.start
    attention1, attention2 = kept.attention1, kept.attention2

    # layer 2, values: features = hidden + V2 (mean_token + V1 mean_mixed)
    multiply(slope.T, kept.mean_hidden, slopes.V2)
    d_mean_hidden = product(slope, weights.V2)  # (B, W)
    d_mean_mixed = product(d_mean_hidden, weights.V1)  # (B, W)
    overlaps = kernels.overlaps((d_mean_hidden, d_mean_mixed), contents, start, window)  # (2, B, T)
    d_direct, d_spread = overlaps[0], overlaps[1]  # (B, T) each

    # layer 2, scores
    if len(held.attention2):
        d_score = np.zeros_like(attention2)  # (B, T)
    else:
        d_attention2 = d_direct + kernels.apply(attention1, d_spread)  # (B, T)
        d_score = kernels.softmax_backward(attention2, d_attention2)  # (B, T)
    d_through = kernels.apply_transposed(attention1, d_score)  # (B, T)
    mixtures = kernels.mixtures((d_score, d_through), contents, start, window, dim)  # (2, B, W)
    d_key2, d_value_key2 = mixtures[0], mixtures[1]  # (B, W) each
    d_key2 += product(d_value_key2, weights.V1.T)
    multiply(kept.query2.T, d_key2, slopes.K2)
    d_query2 = product(d_key2, weights.K2.T)  # (B, W)
    multiply(d_query2.T, kept.hidden, slopes.Q2)
    d_hidden = slope + product(d_query2, weights.Q2)  # (B, W)

    # layer 1, values: V1 appears in the target's stream, the scores and the mean
    multiply(
        np.concatenate((d_hidden, kept.key2, d_mean_hidden)).T,  # (W, 3B)
        np.concatenate((kept.mixed, d_value_key2, kept.mean_mixed)),  # (3B, W)
        slopes.V1,
    )
    d_mixed = product(d_hidden, weights.V1)  # (B, W)
    d_last = kernels.overlaps((d_mixed,), contents, start, window)[0]  # (B, T)

    # layer 1, scores: attention1 appears in the scores, the spread and the target's mixture
    if len(held.attention1):
        slopes.match1[:] = 0
    else:
        by_position, by_item, by_label = kernels.attend_backward(
            attention1, (attention2, d_score), (d_spread, kept.through), d_last,
            batch.labels, contents, start, window, dim, len(label_vectors),
        )  # (P, W), (B, N+1, W), (L, W)  # fmt: skip
        d_match1 = slopes.match1  # (W, W)
        d_match1[:window] = by_position
        multiply(
            batch.items.reshape(-1, dim).T, by_item.reshape(-1, window + dim), d_match1[window:]
        )
        d_match1[window:] += product(label_vectors.T, by_label)
    return loss
