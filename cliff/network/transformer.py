"""The two-layer transformer."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.random import Generator

from cliff.kernels import transformer as kernels
from cliff.network import reference
from cliff.network.layers import Array, Network, Parameters
from cliff.parallel import one_blas_thread
from cliff.task import Batch, of_arrays


@of_arrays
class Trace(NamedTuple):
    """Attention and residual stream of all tokens, where `Output` has those of the target.

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


class Transformer(Network):
    """Two causal attention layers with one head each, then the classifier, read at the target.

    A token is [one-hot position | content]. Each layer adds V x, averaged with softmax weights of
    (Q x_i) . (K x_j), to the residual stream; no layer normalisation, no scaling, no output
    projection. The entries of Q, K and V start as N(0, 1/D). The model, written to be read, is
    `cliff.network.reference`; the passes here compute the same numbers faster.

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
    _passes = kernels

    @property
    def n_features(self) -> int:
        return self.task.width

    def _attention_shapes(self) -> dict[str, tuple[int, ...]]:
        square = (self.task.width, self.task.width)
        return dict.fromkeys(("Q1", "K1", "V1", "Q2", "K2", "V2"), square)

    def _initialise_attention(self, rng: Generator) -> None:
        for name in self._attention_shapes():
            self._fill(name, rng, self.task.dim**-0.5)

    def _weights(self) -> kernels.Weights:
        queries, keys, *others = self.parameters.values()
        return kernels.Weights(queries.T @ keys, *others)

    def _slopes(self, gradients: Parameters) -> kernels.Weights:
        queries, _, *others = gradients.values()
        return kernels.Weights(queries, *others)  # `_complete` turns match1's into Q1's

    def _complete(self) -> None:
        weights, gradients = self.parameters, self.gradients
        d_match1 = gradients["Q1"].copy()  # (W, W)
        np.matmul(weights["K1"], d_match1.T, out=gradients["Q1"])
        np.matmul(weights["Q1"], d_match1, out=gradients["K1"])

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

    def tokens(self, batch: Batch) -> Array:
        """The tokens as the network reads them, shape (size, T, W)."""
        return reference.tokens(batch, self.label_vectors, self.task.window)

    @one_blas_thread()
    def trace(self, batch: Batch) -> Trace:
        """Attention and residual stream of all tokens, by the plain passes of `reference`."""
        weights = self.parameters
        attention1 = self._clamped(1, batch) if 1 in self.clamp else None
        stream, attention1 = reference.attend(self.tokens(batch), weights, "1", attention1)
        attention2 = reference.attend(stream, weights, "2")[1]  # (B, T, T)
        if 2 in self.clamp:
            attention2[:, -1] = self._clamped(2, batch)
        stream, _ = reference.attend(stream, weights, "2", attention2)
        return Trace(attention1, attention2, stream)
