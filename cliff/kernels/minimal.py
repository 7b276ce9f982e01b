"""The minimal head's passes; its attention depends on three numbers.

`cliff.network.reference` states the same network plainly. For the letters in the shapes see
`cliff.kernels.network`.
"""

from collections import namedtuple

import numpy as np

from cliff.kernels import compiled
from cliff.kernels import network as loops
from cliff.kernels.classifier import loss_and_slope

Weights = namedtuple("Weights", "beta1 alpha beta2 W1 b1 W2 b2 W3 b3 readout")
"""The parameters, or the gradients with respect to them."""

Kept = namedtuple("Kept", "contents attention1 attention2 overlap match")
"""Intermediate results of `forward`, named as there."""


@compiled
def forward(weights, label_vectors, batch, held):
    """Features that the classifier reads, (B, 2 D), and what `differentiate` needs; see `Held`."""
    contents = loops.lay_out(batch.items, batch.labels, label_vectors)  # (B, T, D padded)
    n_tokens = contents.shape[1]
    if len(held.attention1):
        attention1 = held.attention1[0]  # (T, T), the same in all sequences
    else:
        scores1 = np.zeros((n_tokens, n_tokens), contents.dtype)  # (T, T)
        for i in range(n_tokens):
            scores1[i, i + 1 :] = -np.inf
            if i:
                scores1[i, i - 1] = weights.beta1[()]
        attention1 = loops.softmax(scores1)  # (T, T)
    target = contents[:, -1].copy()  # (B, D padded)
    overlap = loops.apply(contents, target)  # (B, T), c_j . c_t
    match = np.dot(overlap, attention1.T)  # (B, T), b_j . c_t
    if len(held.attention2):
        attention2 = held.attention2  # (B, T)
    else:
        scores2 = weights.alpha[()] * match  # (B, T)
        of_labels = scores2[:, 1::2]
        of_labels += weights.beta2[()]
        attention2 = loops.softmax(scores2)  # (B, T)
    attended = loops.apply_transposed(contents, attention2)  # (B, D padded)
    dim = label_vectors.shape[1]
    features = np.concatenate((target[:, :dim], attended[:, :dim]), axis=1)  # (B, 2D)
    return features, Kept(contents, attention1, attention2, overlap, match)


@compiled
def differentiate(weights, label_vectors, batch, held, slopes, size):
    """Cross-entropy summed and divided by `size`; writes its gradient to `slopes`, a `Weights`."""
    features, kept = forward(weights, label_vectors, batch, held)
    loss, slope = loss_and_slope(features, batch.answer, size, weights, slopes)

    # d_x is the gradient with respect to x, in the shape of x
    dim = slope.shape[1] // 2
    d_attended = np.zeros((len(slope), kept.contents.shape[2]), slope.dtype)  # (B, D padded)
    without_padding = d_attended[:, :dim]
    without_padding += slope[:, dim:]
    slopes.alpha[()] = 0
    slopes.beta2[()] = 0
    slopes.beta1[()] = 0
    if len(held.attention2):
        return loss
    d_attention2 = loops.apply(kept.contents, d_attended)  # (B, T)
    d_scores2 = loops.softmax_backward(kept.attention2, d_attention2)  # (B, T)
    slopes.alpha[()] = (d_scores2 * kept.match).sum()
    slopes.beta2[()] = d_scores2[:, 1::2].sum()
    if len(held.attention1):
        return loss
    d_match = weights.alpha[()] * d_scores2  # (B, T)
    d_attention1 = np.dot(d_match.T, kept.overlap)  # (T, T)
    d_scores1 = loops.softmax_backward(kept.attention1, d_attention1)  # (T, T)
    slopes.beta1[()] = np.trace(d_scores1[1:])
    return loss
