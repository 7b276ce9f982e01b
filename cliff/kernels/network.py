"""Compiled loops of the networks, for everything that is not a product of two large matrices.

NumPy would write and read large intermediate arrays here. All real arrays of one call share a
dtype, float32 or float64, which the results have too. In shapes, B is the size of the batch, N the
pairs, T = 2N + 1 the tokens, P the window, D the dimension of a content, W = P + D the width of a
token, L the labels. All functions share these arguments: `contents`, (B, T, D padded), from
`lay_out`; `start`, (B,), the position of each sequence's first token; `window`, P, after which a
token's content follows; `dim`, D; `labels`, (B, N); `label_vectors`, (L, D).
"""

import numpy as np

from cliff.kernels import compiled

PADDING = 16
"""Contents are padded with zeros to a multiple of this, so that loops over them fill registers."""


@compiled
def lay_out(items, labels, label_vectors):
    """Contents x1 l1 x2 l2 ... xN lN x_t, (B, T, D padded), of a batch's items and labels."""
    size, n_pairs = labels.shape
    dim = items.shape[2]
    contents = np.empty((size, 2 * n_pairs + 1, -(-dim // PADDING) * PADDING), items.dtype)
    for b in range(size):
        for i in range(2 * n_pairs + 1):
            content = label_vectors[labels[b, i // 2]] if i % 2 else items[b, i // 2]
            token = contents[b, i]
            token[dim:] = 0
            for d in range(dim):
                token[d] = content[d]
    return contents


@compiled
def inner_products(vector, rows, count, out):
    """Inner products of a vector with the first `count` rows, four at a time."""
    zero = vector.dtype.type(0)
    j = 0
    while j + 4 <= count:
        first, second, third, fourth = zero, zero, zero, zero
        for d in range(vector.size):
            first += vector[d] * rows[j, d]
            second += vector[d] * rows[j + 1, d]
            third += vector[d] * rows[j + 2, d]
            fourth += vector[d] * rows[j + 3, d]
        out[j], out[j + 1], out[j + 2], out[j + 3] = first, second, third, fourth
        j += 4
    while j < count:
        first = zero
        for d in range(vector.size):
            first += vector[d] * rows[j, d]
        out[j] = first
        j += 1


@compiled
def weighted_sum(weights, rows, count, out):
    """Sum of the first `count` rows with weights, four at a time."""
    out[:] = 0
    j = 0
    while j + 4 <= count:
        first, second, third, fourth = weights[j], weights[j + 1], weights[j + 2], weights[j + 3]
        for d in range(out.size):
            out[d] += (first * rows[j, d] + second * rows[j + 1, d]) + (
                third * rows[j + 2, d] + fourth * rows[j + 3, d]
            )
        j += 4
    while j < count:
        for d in range(out.size):
            out[d] += weights[j] * rows[j, d]
        j += 1


@compiled
def softmax(scores):
    """Softmax over the last axis; a new array."""
    out = scores.copy()
    rows = out.reshape(-1, scores.shape[-1])
    for i in range(len(rows)):
        softmax_row(rows[i])
    return out


@compiled
def softmax_row(scores):
    """Softmax of a vector in place, shifted by the maximum so that nothing overflows."""
    largest = scores[0]
    for j in range(1, scores.size):
        largest = scores[j] if scores[j] > largest else largest
    total = scores.dtype.type(0)
    for j in range(scores.size):
        scores[j] = np.exp(scores[j] - largest)
        total += scores[j]
    scale = scores.dtype.type(1) / total
    for j in range(scores.size):
        scores[j] *= scale


@compiled
def softmax_backward(weights, slope):
    """Gradient with respect to the scores of each row's softmax, all of shape (n, m)."""
    out = np.empty_like(weights)
    for row in range(len(weights)):
        mean = weights.dtype.type(0)
        for j in range(weights.shape[1]):
            mean += weights[row, j] * slope[row, j]
        for j in range(weights.shape[1]):
            out[row, j] = weights[row, j] * (slope[row, j] - mean)
    return out


@compiled
def cross_entropy(logits, answer, count):
    """Cross-entropy of logits, (B, L), summed and divided by `count`, in nats; its gradient."""
    size, n_labels = logits.shape
    slope = np.empty_like(logits)
    loss = 0.0
    for b in range(size):
        largest = logits[b].max()
        total = logits.dtype.type(0)
        for k in range(n_labels):
            slope[b, k] = np.exp(logits[b, k] - largest)
            total += slope[b, k]
        loss += np.log(total) + largest - logits[b, answer[b]]
        total *= count
        for k in range(n_labels):
            slope[b, k] /= total
        slope[b, answer[b]] -= 1 / count
    return loss / count, slope


@compiled
def rectify(hidden, bias):
    """max(0, hidden + bias) with a bias for each column, in place and returned."""
    zero = hidden.dtype.type(0)
    for b in range(len(hidden)):
        for unit in range(bias.size):
            value = hidden[b, unit] + bias[unit]
            hidden[b, unit] = zero if value < 0 else value  # NaN stays
    return hidden


@compiled
def rectify_backward(slope, rectified, bias_slope):
    """Turn the gradient with respect to the output of `rectify`, (B, n), into the one of its input.

    In place and returned; `bias_slope`, (n,), is overwritten with the gradient of the bias.
    """
    zero = slope.dtype.type(0)
    bias_slope[:] = 0
    for b in range(len(slope)):
        for unit in range(bias_slope.size):
            slope[b, unit] = slope[b, unit] if rectified[b, unit] > 0 else zero
            bias_slope[unit] += slope[b, unit]
    return slope


@compiled
def apply(matrices, vectors):
    """Each sequence's matrix times its vector: (B, T, n), (B, n) -> (B, T)."""
    size, n_tokens, _ = matrices.shape
    out = np.empty((size, n_tokens), matrices.dtype)
    for b in range(size):
        inner_products(vectors[b], matrices[b], n_tokens, out[b])
    return out


@compiled
def apply_transposed(matrices, vectors):
    """Each sequence's transposed matrix times its vector: (B, T, n), (B, T) -> (B, n)."""
    size, n_tokens, n_columns = matrices.shape
    out = np.empty((size, n_columns), matrices.dtype)
    for b in range(size):
        weighted_sum(vectors[b], matrices[b], n_tokens, out[b])
    return out


@compiled
def overlaps(vectors, contents, start, window):
    """Inner products of m vectors, (B, W) each, with all tokens of their sequence: (m, B, T)."""
    size, n_tokens, padded = contents.shape
    dim = vectors[0].shape[1] - window
    out = np.empty((len(vectors), size, n_tokens), contents.dtype)
    vector = np.zeros(padded, contents.dtype)
    for b in range(size):
        for m in range(len(vectors)):
            for d in range(dim):
                vector[d] = vectors[m][b, window + d]
            inner_products(vector, contents[b], n_tokens, out[m, b])
            for j in range(n_tokens):
                out[m, b, j] += vectors[m][b, start[b] + j]
    return out


@compiled
def mixtures(weights, contents, start, window, dim):
    """Sums of the tokens of each sequence with m weights, (B, T) each: (m, B, W)."""
    size, n_tokens, padded = contents.shape
    out = np.zeros((len(weights), size, window + dim), contents.dtype)
    total = np.empty(padded, contents.dtype)
    for b in range(size):
        for m in range(len(weights)):
            weighted_sum(weights[m][b], contents[b], n_tokens, total)
            for d in range(dim):
                out[m, b, window + d] = total[d]
            for j in range(n_tokens):
                out[m, b, start[b] + j] = weights[m][b, j]
    return out


@compiled
def attend(by_position, by_item, by_label, labels, contents, start):
    """Attention of every token to itself and the tokens before it.

    The score of token i on token j is y_i . x_j with y_i = K1ᵀ Q1 x_i, which is the sum of a part
    `by_position`, (P, W), and one that depends on the content, `by_item`, (B, N + 1, W), or
    `by_label`, (L, W). Returns the attention, (B, T, T).
    """
    window, width = by_position.shape
    size, n_tokens, padded = contents.shape
    attention = np.zeros((size, n_tokens, n_tokens), contents.dtype)
    content = np.zeros(padded, contents.dtype)
    for b in range(size):
        first = start[b]
        for i in range(n_tokens):
            by_place = by_position[first + i]
            by_content = by_label[labels[b, i // 2]] if i % 2 else by_item[b, i // 2]
            place_part, content_part = by_place[window:], by_content[window:]
            for d in range(width - window):
                content[d] = place_part[d] + content_part[d]
            row = attention[b, i]
            inner_products(content, contents[b], i + 1, row)
            place_part, content_part = by_place[first:], by_content[first:]
            for j in range(i + 1):
                row[j] += place_part[j] + content_part[j]
            softmax_row(row[: i + 1])
    return attention


@compiled
def attend_backward(attention, left, right, last, labels, contents, start, by_position, n_labels):
    """Gradient with respect to the y of `attend`.

    The gradient with respect to the attention of token i to token j is
    left[0][i] right[0][j] + left[1][i] right[1][j], plus last[j] if i is the target. Returns the
    gradient with respect to the parts of y by items and by labels, summed over the batch for
    labels; the one by positions, summed over the batch, overwrites `by_position`, (P, W).
    """
    size, n_tokens, padded = contents.shape
    window, width = by_position.shape
    dim = width - window
    by_position[:] = 0
    by_item = np.zeros((size, n_tokens // 2 + 1, width), contents.dtype)
    by_label = np.zeros((n_labels, width), contents.dtype)
    slopes = np.zeros((n_tokens, n_tokens), contents.dtype)  # above the diagonal it stays zero
    mixed = np.empty((n_tokens, padded), contents.dtype)
    nothing = np.zeros(n_tokens, contents.dtype)
    for b in range(size):
        first = start[b]
        for i in range(n_tokens):
            row, slope = attention[b, i], slopes[i]
            own = last[b] if i == n_tokens - 1 else nothing
            first_factor, second_factor = left[0][b, i], left[1][b, i]
            mean = contents.dtype.type(0)
            for j in range(i + 1):
                slope[j] = first_factor * right[0][b, j] + second_factor * right[1][b, j] + own[j]
                mean += row[j] * slope[j]
            for j in range(i + 1):
                slope[j] = row[j] * (slope[j] - mean)
        np.dot(slopes, contents[b], mixed)
        for i in range(n_tokens):
            slope, content = slopes[i], mixed[i]
            by_place = by_position[first + i]
            by_content = by_label[labels[b, i // 2]] if i % 2 else by_item[b, i // 2]
            place_part, content_part = by_place[first:], by_content[first:]
            for j in range(i + 1):
                place_part[j] += slope[j]
                content_part[j] += slope[j]
            place_part, content_part = by_place[window:], by_content[window:]
            for d in range(dim):
                place_part[d] += content[d]
                content_part[d] += content[d]
    return by_item, by_label


@compiled
def descend(parameter, gradient, rate, decay):
    """One step of gradient descent in place: parameter <- (1 - decay) parameter - rate gradient."""
    keep = parameter.dtype.type(1) - decay
    for i in range(parameter.size):
        parameter[i] = keep * parameter[i] - rate * gradient[i]
