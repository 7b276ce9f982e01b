"""Recompute data/finite_dimension.json: sequences of real vectors through two attention layers.

python derivations/finite_dimension_data.py
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

DATA = Path(__file__).parent / "data" / "finite_dimension.json"

Array = NDArray[np.float64]

THETAS = {
    (8, 32): ((0.7, 2.1, 6.8, 0.8), (1.7, 4.6, 13.3, 1.15), (2.6, 6.7, 18.6, 1.25)),
    (4, 16): ((0.4, 1.0, 5.4, 0.8), (1.0, 2.7, 11.1, 1.25), (1.7, 4.7, 18.1, 1.6)),
}
"""Before, at and after the fall, by N and L: beta1, alpha, xi, beta2."""

DIMS = (15, 31, 63, 255)
WIDTH = 128
NOISES = {63: (0.0, 0.1, 0.3), 31: (0.1,), 15: (0.1,), 255: (0.1,)}

CASES = [
    (*size, dim, noise, 0, theta)
    for size, thetas in THETAS.items()
    for dim in DIMS
    for noise in NOISES[dim]
    for theta in thetas
] + [(*size, 63, 0.1, WIDTH, theta) for size, thetas in THETAS.items() for theta in thetas]
"""N, L, D, noise, width W (0 for a match operator that is the identity) and theta."""

SIZE, CHUNK = 6000, 1000
"""Sequences drawn in full, and how many of them share their label vectors and V."""

REDUCED = 100_000
"""Sequences of which the overlaps alone are drawn."""


def scores(
    n_pairs: int,
    dim: int,
    noise: float,
    width: int,
    theta: tuple[float, ...],
    labels: Array,
    slot: NDArray[np.int64],
    rng: np.random.Generator,
) -> tuple[Array, Array]:
    """Scores of the target in layer 2, and the contents c (size, 2N + 1, D), all drawn in full.

    Parameters
    ----------
    labels : ndarray, shape (size, N, D)
        Label vectors of the context.
    slot : ndarray, shape (size,)
        Which pair matches, from 0.

    Returns
    -------
    scores : ndarray, shape (size, 2N + 1)
    contents : ndarray, shape (size, 2N + 1, D)
    """
    beta1, alpha, _, beta2 = theta
    size, tokens, row = len(slot), 2 * n_pairs + 1, np.arange(len(slot))

    def normal(*shape: int) -> Array:
        return rng.standard_normal(shape) / np.sqrt(dim)

    centres = normal(size, n_pairs, dim)
    centres = np.concatenate([centres, centres[row, slot][:, None]], axis=1)
    items = (centres + noise * normal(size, n_pairs + 1, dim)) / np.sqrt(1 + noise**2)
    contents = np.empty((size, tokens, dim))
    contents[:, ::2], contents[:, 1::2] = items, labels
    target = contents[:, -1]

    i, j = np.indices((tokens, tokens))
    weight = np.where(j <= i, np.exp(beta1 * (j == i - 1)), 0.0)
    weight /= weight.sum(axis=1, keepdims=True)
    if width == 0:
        match = np.einsum("bjd,bd->bj", np.einsum("ij,bjd->bid", weight, contents), target)
    else:  # tokens [one-hot position | content], values V, and queries and keys that are V, too
        value = normal(width, width)
        token = np.zeros((size, tokens, width))
        token[:, :, width - dim :] = contents
        start = rng.integers(width - dim - tokens + 1, size=size)
        token[row[:, None], np.arange(tokens), start[:, None] + np.arange(tokens)] = 1.0
        buffered = token + np.einsum("ij,bjw->biw", weight, token) @ value.T
        content = value[:, width - dim :]
        query = target @ content.T * (dim / (content**2).sum())
        match = np.einsum("bjw,bw->bj", buffered, query)
    return alpha * match + beta2 * (np.arange(tokens) % 2), contents


def simulate(
    n_pairs: int,
    n_labels: int,
    dim: int,
    noise: float,
    width: int,
    theta: tuple[float, ...],
    rng: np.random.Generator,
    size: int = CHUNK,
) -> dict[str, Array]:
    """Cross-entropies (nats) of sequences that share their label vectors and V, each (size,).

    ``ideal``: logits xi·q of the labels of the context and 0 of the others. ``overlaps``: logits
    xi·l_k·o with the output o = Σ q_j c_j. ``undone``: the same with vectors dual to the labels'
    in the place of l_k, which undo the labels' own overlaps (in the least squares if L > D).
    """
    vectors = rng.standard_normal((n_labels, dim)) / np.sqrt(dim)
    present = np.argsort(rng.random((size, n_labels)), axis=1)[:, :n_pairs]
    slot, row = rng.integers(n_pairs, size=size), np.arange(size)
    score, contents = scores(
        n_pairs, dim, noise, width, theta, vectors[present], slot, rng
    )  # fmt: skip
    q = np.exp(score - score.max(axis=1, keepdims=True))
    q /= q.sum(axis=1, keepdims=True)
    ideal = np.zeros((size, n_labels))
    np.put_along_axis(ideal, present, q[:, 1::2], axis=1)
    output = np.einsum("bj,bjd->bd", q, contents)
    answer = present[row, slot]

    def loss(logits: Array) -> Array:
        top = logits.max(axis=1)
        rest = np.log(np.exp(logits - top[:, None]).sum(axis=1))
        found: Array = top + rest - logits[row, answer]
        return found

    xi = theta[2]
    return {
        "ideal": loss(xi * ideal),
        "overlaps": loss(xi * output @ vectors.T),
        "undone": loss(xi * output @ np.linalg.pinv(vectors)),
    }


def reduced(
    n_pairs: int,
    n_labels: int,
    dim: int,
    noise: float,
    width: int,
    theta: tuple[float, ...],
    rng: np.random.Generator,
    size: int = CHUNK,
) -> Array:
    """Cross-entropies of ideal logits, from overlaps drawn by their laws; shape (size,).

    T is the squared length of the target (with V: its overlap with itself under the operator), a
    gamma variable. Given T all overlaps are normal.
    """
    beta1, alpha, xi, beta2 = theta
    variance = 1 / dim + (1 / width if width else 0.0)
    tokens, row, slot = 2 * n_pairs + 1, np.arange(size), rng.integers(n_pairs, size=size)
    T = rng.gamma(0.5 / variance, 2 * variance, size)[:, None]
    overlap = np.sqrt(T * variance) * rng.standard_normal((size, tokens))
    own, rho = 2 * slot, 1 / (1 + noise**2)
    overlap[row, own] = rho * T[:, 0] + np.sqrt(1 - rho**2) * overlap[row, own]
    overlap[:, -1] = T[:, 0]
    if width:  # one-hot positions in the buffer
        overlap += np.sqrt(T / width) * rng.standard_normal(overlap.shape)
    i, j = np.indices((tokens, tokens))
    weight = np.where(j <= i, np.exp(beta1 * (j == i - 1)), 0.0)
    match = overlap @ (weight / weight.sum(axis=1, keepdims=True)).T
    if width:  # the token itself, its content and its position
        match += np.sqrt(2 * dim / width**2 * T) * rng.standard_normal(overlap.shape)
    score = alpha * match + beta2 * (np.arange(tokens) % 2)
    q = np.exp(score - score.max(axis=1, keepdims=True))
    q /= q.sum(axis=1, keepdims=True)
    logits = xi * q[:, 1::2]
    partition = np.exp(logits).sum(axis=1) + n_labels - n_pairs
    found: Array = np.log(partition) - logits[row, slot]
    return found


def losses(index: int) -> dict[str, Any]:
    """The row of a case: means over the sequences, with their standard errors."""
    case, rng = CASES[index], np.random.default_rng(index)
    names = "n_pairs", "n_labels", "dim", "noise", "width", "theta"
    row: dict[str, Any] = dict(zip(names, case, strict=True))
    parts = [simulate(*case, rng) for _ in range(SIZE // CHUNK)]
    for name in parts[0]:
        means = np.array([part[name].mean() for part in parts])
        row[name] = float(means.mean())
        row[f"{name}_error"] = float(means.std(ddof=1) / np.sqrt(len(means)))
    short = reduced(*case, rng, size=REDUCED)
    return row | {
        "reduced": float(short.mean()),
        "reduced_error": float(short.std() / np.sqrt(REDUCED)),
    }


def compute() -> list[dict[str, Any]]:
    return [losses(index) for index in range(len(CASES))]


if __name__ == "__main__":
    text = ",\n".join(json.dumps(row) for row in compute())
    DATA.write_text(f"[\n{text}\n]\n", encoding="utf-8")
