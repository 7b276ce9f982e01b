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
from numpy.typing import NDArray

from cliff.kernels import network as kernels
from cliff.network.layers import Array, Network, softmax, softmax_backward
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


class _Kept(NamedTuple):
    """Intermediate results of a forward pass that the backward pass needs, named as there."""

    batch: Batch
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

    def _features(self, batch: Batch) -> tuple[Array, Array, Array, _Kept]:
        weights, start = self.parameters, batch.start
        contents = self.contents(batch)  # (B, T, D padded)

        # layer 1: who sees whom, and what the target sees
        attention1 = self._attend(batch, contents)  # (B, T, T)
        target = np.zeros(attention1.shape[:2], self.dtype)  # (B, T)
        target[:, -1] = 1
        token, mixed = self._mixtures(contents, start, target, attention1[:, -1])  # (B, W) each
        hidden = token + mixed @ weights["V1"].T  # (B, W)

        # layer 2: the target's scores, on the tokens and on what they saw
        query2 = hidden @ weights["Q2"].T  # (B, W)
        key2 = query2 @ weights["K2"]  # (B, W), the query seen from the tokens' side
        value_key2 = key2 @ weights["V1"]  # (B, W), and from the side of what they saw
        direct, through = self._overlaps(contents, start, key2, value_key2)  # (B, T) each
        if 2 in self.clamp:
            attention2 = self._clamped(2, batch)  # (B, T)
        else:
            attention2 = softmax(direct + _apply(attention1, through))  # (B, T)
        spread = _apply_transposed(attention1, attention2)  # (B, T)
        mean_token, mean_mixed = self._mixtures(contents, start, attention2, spread)  # (B, W) each
        mean_hidden = mean_token + mean_mixed @ weights["V1"].T  # (B, W)
        features = hidden + mean_hidden @ weights["V2"].T  # (B, W)
        kept = _Kept(
            batch, contents, attention1, attention2,
            mixed, hidden, query2, key2, through, mean_mixed, mean_hidden,
        )  # fmt: skip
        return features, attention1, attention2, kept

    def _backward(self, slope: Array, kept: _Kept) -> None:
        # d_x is the gradient with respect to x, in the shape of x
        weights, gradients = self.parameters, self.gradients
        contents, start = kept.contents, kept.batch.start
        attention1, attention2 = kept.attention1, kept.attention2

        # layer 2, values: features = hidden + V2 (mean_token + V1 mean_mixed)
        d_hidden = slope  # (B, W)
        np.matmul(slope.T, kept.mean_hidden, out=gradients["V2"])
        d_mean_hidden = slope @ weights["V2"]  # (B, W)
        d_mean_mixed = d_mean_hidden @ weights["V1"]  # (B, W)
        d_direct, d_spread = self._overlaps(contents, start, d_mean_hidden, d_mean_mixed)  # (B, T)

        # layer 2, scores
        if 2 in self.clamp:
            d_score = np.zeros_like(attention2)  # (B, T)
        else:
            d_attention2 = d_direct + _apply(attention1, d_spread)  # (B, T)
            d_score = softmax_backward(attention2, d_attention2)  # (B, T)
        d_through = _apply_transposed(attention1, d_score)  # (B, T)
        d_key2, d_value_key2 = self._mixtures(contents, start, d_score, d_through)  # (B, W) each
        d_key2 += d_value_key2 @ weights["V1"].T
        np.matmul(kept.query2.T, d_key2, out=gradients["K2"])
        d_query2 = d_key2 @ weights["K2"].T  # (B, W)
        np.matmul(d_query2.T, kept.hidden, out=gradients["Q2"])
        d_hidden = d_hidden + d_query2 @ weights["Q2"]  # (B, W)

        # layer 1, values: V1 appears in the target's stream, the scores and the mean
        np.matmul(
            np.concatenate([d_hidden, kept.key2, d_mean_hidden]).T,  # (W, 3B)
            np.concatenate([kept.mixed, d_value_key2, kept.mean_mixed]),  # (3B, W)
            out=gradients["V1"],
        )
        d_mixed = d_hidden @ weights["V1"]  # (B, W)
        (d_last,) = self._overlaps(contents, start, d_mixed)  # (B, T)

        # layer 1, scores: attention1 appears in the scores, the spread and the target's mixture
        if 1 in self.clamp:
            gradients["Q1"][...] = 0
            gradients["K1"][...] = 0
            return
        d_match1 = self._attend_backward(
            kept,
            np.stack([attention2, d_score]),  # (2, B, T)
            np.stack([d_spread, kept.through]),  # (2, B, T)
            d_last,
        )  # (W, W)
        np.matmul(weights["K1"], d_match1.T, out=gradients["Q1"])
        np.matmul(weights["Q1"], d_match1, out=gradients["K1"])

    def _attend(self, batch: Batch, contents: Array) -> Array:
        """Attention of the first layer, (B, T, T)."""
        if 1 in self.clamp:
            return self._clamped(1, batch)
        size, n_tokens, _ = contents.shape
        window, width = self.task.window, self.task.width
        match1 = self.parameters["Q1"].T @ self.parameters["K1"]  # (W, W)
        items = self._items(batch)  # (B (N+1), D)
        by_item = self._scratch("by_item", (len(items), width))
        np.matmul(items, match1[window:], out=by_item)  # (B (N+1), W)
        attention1 = np.empty((size, n_tokens, n_tokens), self.dtype)
        kernels.scores(
            match1[:window],  # (P, W)
            by_item.reshape(size, -1, width),  # (B, N+1, W)
            self.label_vectors @ match1[window:],  # (L, W)
            batch.labels,
            contents,
            batch.start,
            attention1,
        )
        np.exp(attention1, out=attention1)
        kernels.normalise(attention1)
        return attention1

    def _attend_backward(self, kept: _Kept, left: Array, right: Array, last: Array) -> Array:
        """Gradient with respect to Q1ᵀ K1, (W, W)."""
        labels, start = kept.batch.labels, kept.batch.start
        window, width = self.task.window, self.task.width
        size, n_pairs = labels.shape
        slope = np.empty((width, width), self.dtype)
        by_item = self._scratch("by_item", (size * (n_pairs + 1), width))
        by_label = np.empty((self.task.n_labels, width), self.dtype)
        kernels.scores_backward(
            kept.attention1, left, right, last, labels, kept.contents, start, window,
            by_item.reshape(size, n_pairs + 1, width), slope[:window], by_label,
        )  # fmt: skip
        np.matmul(self._items(kept.batch).T, by_item, out=slope[window:])
        slope[window:] += self.label_vectors.T @ by_label
        return slope

    def _items(self, batch: Batch) -> Array:
        """Items as one matrix, (B (N+1), D)."""
        return batch.items.reshape(-1, self.task.dim).astype(self.dtype, copy=False)

    def _mixtures(self, contents: Array, start: NDArray[np.intp], *weights: Array) -> Array:
        """Sums of the tokens with each of the weights, which are (B, T): (m, B, W)."""
        out = np.empty((len(weights), len(contents), self.task.width), self.dtype)
        kernels.mixtures(np.stack(weights), contents, start, self.task.window, out)
        return out

    def _overlaps(self, contents: Array, start: NDArray[np.intp], *vectors: Array) -> Array:
        """Inner products of the tokens with each of the vectors, which are (B, W): (m, B, T)."""
        out = np.empty((len(vectors), *contents.shape[:2]), self.dtype)
        kernels.overlaps(np.stack(vectors), contents, start, self.task.window, out)
        return out

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
        attention1 = self._attend(batch, self.contents(batch))  # (B, T, T)
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


def _apply(attention: Array, values: Array) -> Array:
    """Average values over what each token sees: (B, T, T), (B, T) -> (B, T)."""
    return np.matmul(attention, values[:, :, None])[:, :, 0]


def _apply_transposed(attention: Array, values: Array) -> Array:
    """Adjoint of `_apply`."""
    return np.matmul(values[:, None, :], attention)[:, 0, :]
