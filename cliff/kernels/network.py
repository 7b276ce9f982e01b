"""Compiled loops of the task and the networks, where NumPy would move too many bytes.

Every function is pure: the caller draws the randomness and allocates the outputs. All real arrays
of one call share a dtype, float32 or float64; nothing is promoted in between.
"""

from typing import Any

import numpy as np
from numba import njit

# The sums may be reordered, which is what lets them use vector registers; NaN and infinity still
# behave as they should (no "nnan", no "ninf"), because training relies on seeing them.
_OPTIONS: dict[str, Any] = {
    "fastmath": {"reassoc", "contract", "nsz", "arcp"},
    "cache": True,
    "nogil": True,
}


@njit(**_OPTIONS)
def normals(raw, scale, out):
    """Turn random bits into normal numbers by the Box-Muller transform.

    One word makes two numbers: its upper half the radius, its lower half the direction, as an angle
    within an eighth turn of the axis, a reflection about the diagonal and two signs. The logarithm
    is Cephes' polynomial, sine and cosine are Taylor's; all are as good as float32 allows, and the
    numbers reach 6.6 standard deviations.

    Parameters
    ----------
    raw : ndarray of uint64, shape (n,)
        Independent uniform bits.
    scale : float32
        Standard deviation.
    out : ndarray of float32, shape (2, n), overwritten
    """
    real = np.float32
    for i in range(raw.size):
        word = raw[i]
        uniform = (real(np.int32(word >> np.uint64(33))) + real(0.5)) * real(2.0**-31)
        # uniform = (1 + m) 2^exponent with 1 + m between sqrt(1/2) and sqrt(2)
        image = np.float32(uniform).view(np.int32)
        exponent = (image - np.int32(0x3F3504F3)) >> np.int32(23)
        m = np.int32(image - (exponent << np.int32(23))).view(np.float32) - real(1)
        p = real(7.0376836292e-2)
        p = p * m - real(1.1514610310e-1)
        p = p * m + real(1.1676998740e-1)
        p = p * m - real(1.2420140846e-1)
        p = p * m + real(1.4249322787e-1)
        p = p * m - real(1.6668057665e-1)
        p = p * m + real(2.0000714765e-1)
        p = p * m - real(2.4999993993e-1)
        p = p * m + real(3.3333331174e-1)
        logarithm = real(exponent) * real(0.6931471805599453) + (m + m * m * (p * m - real(0.5)))
        radius = scale * np.sqrt(real(-2) * logarithm)

        low = np.uint32(word & np.uint64(0xFFFFFFFF))
        angle = real(np.int32(low) >> np.int32(3)) * real(np.pi / 4 * 2.0**-28)
        square = angle * angle
        sine = real(-1 / 5040) * square + real(1 / 120)
        sine = angle * ((sine * square - real(1 / 6)) * square + real(1))
        cosine = real(1 / 40320) * square - real(1 / 720)
        cosine = ((cosine * square + real(1 / 24)) * square - real(0.5)) * square + real(1)
        reflected = (low & np.uint32(1)) != 0
        first = sine if reflected else cosine
        second = cosine if reflected else sine
        low >>= np.uint32(1)
        out[0, i] = radius * first * (real(1) - real(2) * real(np.int32(low & np.uint32(1))))
        low >>= np.uint32(1)
        out[1, i] = radius * second * (real(1) - real(2) * real(np.int32(low & np.uint32(1))))


@njit(**_OPTIONS)
def lay_out(items, labels, label_vectors, contents):
    """Write each sequence's contents in the order of its tokens: x1 l1 x2 l2 ... xN lN x_t.

    Parameters
    ----------
    items : ndarray, shape (size, N + 1, D)
    labels : ndarray of integers, shape (size, N)
    label_vectors : ndarray, shape (L, D)
    contents : ndarray, shape (size, 2N + 1, D + padding), overwritten up to column D
    """
    size, n_labels = labels.shape
    dim = items.shape[2]
    for b in range(size):
        for n in range(n_labels):
            contents[b, 2 * n, :dim] = items[b, n]
            contents[b, 2 * n + 1, :dim] = label_vectors[labels[b, n]]
        contents[b, 2 * n_labels, :dim] = items[b, n_labels]


@njit(**_OPTIONS)
def overlaps(vectors, contents, start, window, out):
    """Inner products of vectors with all tokens of their sequence.

    Parameters
    ----------
    vectors : ndarray, shape (m, size, window + D)
    contents : ndarray, shape (size, T, D + padding)
    start : ndarray of integers, shape (size,)
        Position of each sequence's first token.
    window : int
        Length of a token's position block; its content block follows.
    out : ndarray, shape (m, size, T), overwritten
    """
    n_vectors, size, width = vectors.shape
    _, n_tokens, padded = contents.shape
    padded_vector = np.zeros(padded, contents.dtype)
    for m in range(n_vectors):
        for b in range(size):
            vector = vectors[m, b]
            for d in range(width - window):
                padded_vector[d] = vector[window + d]
            for j in range(n_tokens):
                total = contents.dtype.type(0)
                for d in range(padded):
                    total += padded_vector[d] * contents[b, j, d]
                out[m, b, j] = total + vector[start[b] + j]


@njit(**_OPTIONS)
def mixtures(weights, contents, start, window, out):
    """Weighted sums of the tokens of each sequence; the adjoint of `overlaps`.

    Parameters
    ----------
    weights : ndarray, shape (m, size, T)
    contents, start, window
        As in `overlaps`.
    out : ndarray, shape (m, size, window + D), overwritten
    """
    n_weights, size, width = out.shape
    _, n_tokens, padded = contents.shape
    total = np.empty(padded, contents.dtype)
    for m in range(n_weights):
        for b in range(size):
            mixture = out[m, b]
            mixture[:window] = 0
            total[:] = 0
            for j in range(n_tokens):
                weight = weights[m, b, j]
                mixture[start[b] + j] = weight
                for d in range(padded):
                    total[d] += weight * contents[b, j, d]
            for d in range(width - window):
                mixture[window + d] = total[d]


@njit(**_OPTIONS)
def scores(by_position, by_item, by_label, labels, contents, start, out):
    """Scores of every token on itself and the tokens before it, less the largest of each token.

    The score of token i on token j is y_i . x_j, where y_i, the query seen from the tokens' side,
    is the sum of a row that depends on the position and one that depends on the content.

    Parameters
    ----------
    by_position : ndarray, shape (P, P + D)
        Part of y from each position.
    by_item : ndarray, shape (size, N + 1, P + D)
        Part of y from each item.
    by_label : ndarray, shape (L, P + D)
        Part of y from each label vector.
    labels : ndarray of integers, shape (size, N)
    contents : ndarray, shape (size, 2N + 1, D + padding)
    start : ndarray of integers, shape (size,)
    out : ndarray, shape (size, 2N + 1, 2N + 1), overwritten
        Minus infinity above the diagonal.
    """
    window, width = by_position.shape
    size, n_tokens, padded = contents.shape
    unseen = contents.dtype.type(-np.inf)
    query = np.zeros(padded, contents.dtype)
    for b in range(size):
        first = start[b]
        for i in range(n_tokens):
            position_row = by_position[first + i]
            content_row = by_label[labels[b, i // 2]] if i % 2 else by_item[b, i // 2]
            for d in range(width - window):
                query[d] = position_row[window + d] + content_row[window + d]
            row = out[b, i]
            largest = unseen
            for j in range(i + 1):
                score = contents.dtype.type(0)
                for d in range(padded):
                    score += query[d] * contents[b, j, d]
                row[j] = score + position_row[first + j] + content_row[first + j]
                largest = max(largest, row[j])
            for j in range(i + 1):
                row[j] -= largest
            for j in range(i + 1, n_tokens):
                row[j] = unseen


@njit(**_OPTIONS)
def normalise(weights):
    """Divide each row by its sum, in place; shape (size, T, T)."""
    size, n_rows, n_columns = weights.shape
    for b in range(size):
        for i in range(n_rows):
            total = weights.dtype.type(0)
            for j in range(n_columns):
                total += weights[b, i, j]
            for j in range(n_columns):
                weights[b, i, j] /= total


@njit(**_OPTIONS)
def scores_backward(
    attention, left, right, last, labels, contents, start, window, by_item, by_position, by_label
):
    """Gradient with respect to the y of `scores`, through the softmax of the scores.

    The gradient with respect to the attention of token i on token j comes in the form in which the
    second layer makes it: sum over k of left[k, i] right[k, j], plus last[j] where i is the target.

    Parameters
    ----------
    attention : ndarray, shape (size, T, T)
    left, right : ndarray, shape (m, size, T)
    last : ndarray, shape (size, T)
    labels : ndarray of integers, shape (size, N)
    contents, start, window
        As in `overlaps`.
    by_item : ndarray, shape (size, N + 1, P + D), overwritten
        Gradient for each item.
    by_position : ndarray, shape (P, P + D), overwritten
        Gradient for each position, summed over the batch.
    by_label : ndarray, shape (L, P + D), overwritten
        Gradient for each label, summed over the batch.
    """
    n_terms, size, n_tokens = left.shape
    width = by_item.shape[2]
    padded = contents.shape[2]
    slope = np.empty(n_tokens, contents.dtype)
    total = np.empty(padded, contents.dtype)
    position_total = np.zeros((len(by_position), padded), contents.dtype)
    label_total = np.zeros((len(by_label), padded), contents.dtype)
    by_position[:] = 0
    by_label[:] = 0
    for b in range(size):
        first = start[b]
        for i in range(n_tokens):
            for j in range(i + 1):
                slope[j] = last[b, j] if i == n_tokens - 1 else contents.dtype.type(0)
            for k in range(n_terms):
                for j in range(i + 1):
                    slope[j] += left[k, b, i] * right[k, b, j]
            mean = contents.dtype.type(0)
            for j in range(i + 1):
                mean += attention[b, i, j] * slope[j]
            total[:] = 0
            for j in range(i + 1):
                slope[j] = attention[b, i, j] * (slope[j] - mean)
                for d in range(padded):
                    total[d] += slope[j] * contents[b, j, d]
            for d in range(padded):
                position_total[first + i, d] += total[d]
            for j in range(i + 1):
                by_position[first + i, first + j] += slope[j]
            if i % 2:
                label = labels[b, i // 2]
                for d in range(padded):
                    label_total[label, d] += total[d]
                for j in range(i + 1):
                    by_label[label, first + j] += slope[j]
            else:
                row = by_item[b, i // 2]
                row[:window] = 0
                for j in range(i + 1):
                    row[first + j] = slope[j]
                for d in range(width - window):
                    row[window + d] = total[d]
    by_position[:, window:] = position_total[:, : width - window]
    by_label[:, window:] = label_total[:, : width - window]


@njit(**_OPTIONS)
def descend(parameter, gradient, rate, decay):
    """One step of gradient descent in place: parameter <- (1 - decay) parameter - rate gradient.

    Parameters
    ----------
    parameter, gradient : ndarray, shape (n,)
    rate, decay : float
        Of the dtype of the arrays.
    """
    keep = parameter.dtype.type(1) - decay
    for i in range(parameter.size):
        parameter[i] = keep * parameter[i] - rate * gradient[i]
