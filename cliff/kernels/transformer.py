"""The transformer's passes: only what the loss needs, which is exact and a tenth of the full work.

- The classifier reads the target alone, so the second layer and the classifier run for the target
  only.
- Scores depend on Qᵀ K alone. x_iᵀ Q1ᵀ K1 x_j is one matrix product for the items; labels take L
  values and positions are one-hot, so that their parts are rows of a table.
- Everything that the second layer computes is linear in the tokens. With h_j = x_j + V1 m_j and
  m_j = sum over i of p_ji x_i, a score g . h_j is the sum of g . x_j and (V1ᵀ g) . m_j, and the
  output of the head is V2 times a weighted sum of tokens: no V1 x_j is ever needed token by token.

`cliff.network.reference` states the same network plainly. For the letters in the shapes see
`cliff.kernels.network`.
"""

from collections import namedtuple

import numpy as np

from cliff.kernels import compiled
from cliff.kernels import network as loops
from cliff.kernels.classifier import loss_and_slope

Weights = namedtuple("Weights", "match1 V1 Q2 K2 V2 W1 b1 W2 b2 W3 b3 readout")
"""The parameters, or the gradients with respect to them; match1 is Q1ᵀ K1, shape (W, W)."""

Kept = namedtuple(
    "Kept",
    "contents attention1 attention2 mixed hidden query2 key2 through mean_mixed mean_hidden",
)
"""Intermediate results of `forward`, named as there."""


@compiled
def forward(weights, label_vectors, batch, held):
    """Features that the classifier reads, (B, W), and what `differentiate` needs; see `Held`."""
    window, dim = len(weights.V1) - label_vectors.shape[1], label_vectors.shape[1]
    start = batch.start
    contents = loops.lay_out(batch.items, batch.labels, label_vectors)  # (B, T, D padded)

    # layer 1: attention of all tokens, and the target's residual stream
    if len(held.attention1):
        attention1 = held.attention1  # (B, T, T)
    else:
        match1 = weights.match1
        n_items = batch.items.shape[1]
        by_item = np.dot(batch.items.reshape(-1, dim), match1[window:])  # (B (N+1), W)
        by_label = np.dot(label_vectors, match1[window:])  # (L, W)
        attention1 = loops.attend(
            match1[:window], by_item.reshape(len(start), n_items, window + dim), by_label,
            batch.labels, contents, start,
        )  # (B, T, T)  # fmt: skip
    seen = attention1[:, -1].copy()  # (B, T)
    last = np.zeros_like(seen)  # (B, T)
    last[:, -1] = 1
    mixtures = loops.mixtures((last, seen), contents, start, window, dim)  # (2, B, W)
    token, mixed = mixtures[0], mixtures[1]  # (B, W) each
    hidden = token + np.dot(mixed, weights.V1.T)  # (B, W)

    # layer 2: scores of the target on h_j = x_j + V1 m_j, term by term
    query2 = np.dot(hidden, weights.Q2.T)  # (B, W)
    key2 = np.dot(query2, weights.K2)  # (B, W), K2ᵀ query2: scores are key2 . h_j
    value_key2 = np.dot(key2, weights.V1)  # (B, W), V1ᵀ key2: key2 . V1 m_j = value_key2 . m_j
    overlaps = loops.overlaps((key2, value_key2), contents, start, window)  # (2, B, T)
    direct, through = overlaps[0], overlaps[1]  # (B, T) each
    if len(held.attention2):
        attention2 = held.attention2  # (B, T)
    else:
        attention2 = loops.softmax(direct + loops.apply(attention1, through))  # (B, T)
    spread = loops.apply_transposed(attention1, attention2)  # (B, T)
    mixtures = loops.mixtures((attention2, spread), contents, start, window, dim)  # (2, B, W)
    mean_token, mean_mixed = mixtures[0], mixtures[1]  # (B, W) each
    mean_hidden = mean_token + np.dot(mean_mixed, weights.V1.T)  # (B, W)
    features = hidden + np.dot(mean_hidden, weights.V2.T)  # (B, W)
    kept = Kept(
        contents, attention1, attention2,
        mixed, hidden, query2, key2, through, mean_mixed, mean_hidden,
    )  # fmt: skip
    return features, kept


@compiled
def differentiate(weights, label_vectors, batch, held, slopes, size):
    """Cross-entropy summed and divided by `size`; writes its gradient to `slopes`, a `Weights`."""
    features, kept = forward(weights, label_vectors, batch, held)
    loss, slope = loss_and_slope(features, batch.answer, size, weights, slopes)

    # d_x is the gradient with respect to x, in the shape of x
    window, dim = len(weights.V1) - label_vectors.shape[1], label_vectors.shape[1]
    contents, start = kept.contents, batch.start
    attention1, attention2 = kept.attention1, kept.attention2

    # layer 2, values: features = hidden + V2 (mean_token + V1 mean_mixed)
    np.dot(slope.T, kept.mean_hidden, slopes.V2)
    d_mean_hidden = np.dot(slope, weights.V2)  # (B, W)
    d_mean_mixed = np.dot(d_mean_hidden, weights.V1)  # (B, W)
    overlaps = loops.overlaps((d_mean_hidden, d_mean_mixed), contents, start, window)  # (2, B, T)
    d_direct, d_spread = overlaps[0], overlaps[1]  # (B, T) each

    # layer 2, scores
    if len(held.attention2):
        d_score = np.zeros_like(attention2)  # (B, T)
    else:
        d_attention2 = d_direct + loops.apply(attention1, d_spread)  # (B, T)
        d_score = loops.softmax_backward(attention2, d_attention2)  # (B, T)
    d_through = loops.apply_transposed(attention1, d_score)  # (B, T)
    mixtures = loops.mixtures((d_score, d_through), contents, start, window, dim)  # (2, B, W)
    d_key2, d_value_key2 = mixtures[0], mixtures[1]  # (B, W) each
    d_key2 += np.dot(d_value_key2, weights.V1.T)
    np.dot(kept.query2.T, d_key2, slopes.K2)
    d_query2 = np.dot(d_key2, weights.K2.T)  # (B, W)
    np.dot(d_query2.T, kept.hidden, slopes.Q2)
    d_hidden = slope + np.dot(d_query2, weights.Q2)  # (B, W)

    # layer 1, values: V1 appears in the target's stream, the scores and the mean
    np.dot(
        np.concatenate((d_hidden, kept.key2, d_mean_hidden)).T,  # (W, 3B)
        np.concatenate((kept.mixed, d_value_key2, kept.mean_mixed)),  # (3B, W)
        slopes.V1,
    )
    d_mixed = np.dot(d_hidden, weights.V1)  # (B, W)
    d_last = loops.overlaps((d_mixed,), contents, start, window)[0]  # (B, T)

    # layer 1, scores: attention1 appears in the scores, the spread and the target's mixture
    if len(held.attention1):
        slopes.match1[:] = 0
    else:
        d_positions, d_contents = slopes.match1[:window], slopes.match1[window:]
        by_item, by_label = loops.attend_backward(
            attention1, (attention2, d_score), (d_spread, kept.through), d_last,
            batch.labels, contents, start, d_positions, len(label_vectors),
        )  # (B, N+1, W), (L, W)  # fmt: skip
        np.dot(batch.items.reshape(-1, dim).T, by_item.reshape(-1, window + dim), d_contents)
        d_contents += np.dot(label_vectors.T, by_label)
    return loss
