"""What the networks share: parameters in one vector, the classifier, the loss, clamped heads."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import numpy as np
from numpy.random import Generator
from numpy.typing import DTypeLike, NDArray

from cliff.checks import ArgumentError, choice, integer
from cliff.kernels import network as kernels
from cliff.task import INITIAL, Batch, Task, stream

Array = NDArray[Any]
"""float32 or float64, the same throughout a network."""

N_HIDDEN = 3
"""Hidden layers of the classifier."""

PADDING = 8
"""Contents are padded with zeros to a multiple of this many numbers, for vector registers."""

PATTERNS = {1: ("previous", "uniform", "zero"), 2: ("match", "uniform", "zero")}
"""Patterns that the attention of each layer can be held at."""


class Output(NamedTuple):
    """What a network makes of a batch.

    Attributes
    ----------
    logits : ndarray, shape (size, L)
        Of the target's label.
    attention1 : ndarray, shape (size, T, T)
        Attention of each token in the first layer; rows sum to one.
    attention2 : ndarray, shape (size, T)
        Attention of the target in the second layer.
    """

    logits: Array
    attention1: Array
    attention2: Array


class Parameters(Mapping[str, Array]):
    """Named arrays that are views into one vector.

    Parameters
    ----------
    shapes : mapping of str to tuple of int
    dtype : dtype

    Attributes
    ----------
    vector : ndarray, shape (n,)
        All entries, in the order of the names.
    """

    def __init__(self, shapes: Mapping[str, tuple[int, ...]], dtype: DTypeLike) -> None:
        sizes = [int(np.prod(shape)) for shape in shapes.values()]
        self.vector = np.zeros(sum(sizes), dtype)
        pieces = np.split(self.vector, np.cumsum(sizes)[:-1])
        self._views = {
            name: piece.reshape(shape)
            for (name, shape), piece in zip(shapes.items(), pieces, strict=True)
        }

    def __getitem__(self, name: str) -> Array:
        return self._views[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._views)

    def __len__(self) -> int:
        return len(self._views)


class Network(ABC):
    """Two attention layers that gather features of the target, and a classifier that reads them.

    The classifier is the paper's: three layers of rectified linear units (He initialisation, a bias
    for each unit that starts at 0), a linear readout, cross-entropy. All matrices act on column
    vectors, z = W h, and are stored in that orientation.

    Parameters
    ----------
    task : Task
        Fixes the sizes and the label vectors.
    seed : int
        Seed of the initial parameters.
    width : int
        Units in each layer of the classifier.
    dtype : dtype
        float32 to train, float64 to check.

    Attributes
    ----------
    parameters, gradients : Parameters
        Arrays by name; `gradients` holds those of the latest `loss_and_gradient`.
    clamp : dict of int to str
        Head (layer 1 or 2) to the pattern that its attention is held at, one of `PATTERNS`. No
        gradient flows through a clamped head's scores.
    frozen : set of str
        Parameters that training leaves as they are.
    """

    model: str

    def __init__(
        self, task: Task, seed: int = 0, width: int = 128, dtype: DTypeLike = np.float32
    ) -> None:
        self.dtype: np.dtype[Any] = np.dtype(dtype)
        if self.dtype not in (np.float32, np.float64):
            raise ArgumentError("dtype", str(self.dtype), "must be float32 or float64")
        self.task = task
        self.seed = integer("seed", seed, 0)
        self.width = integer("width", width, 1)
        self.label_vectors = task.label_vectors.astype(self.dtype)
        n_features = self.n_features
        shapes = self._attention_shapes()
        for layer in range(1, N_HIDDEN + 1):
            shapes[f"W{layer}"] = (width, n_features if layer == 1 else width)
            shapes[f"b{layer}"] = (width,)
        shapes["readout"] = (task.n_labels, width)
        self.parameters = Parameters(shapes, self.dtype)
        self.gradients = Parameters(shapes, self.dtype)
        self.clamp: dict[int, str] = {}
        self.frozen: set[str] = set()
        self._workspace: dict[tuple[Any, ...], Array] = {}

        rng = stream(seed, INITIAL)
        self._initialise_attention(rng)
        for layer in range(1, N_HIDDEN + 1):
            self._fill(f"W{layer}", rng, (2 / shapes[f"W{layer}"][1]) ** 0.5)
        self._fill("readout", rng, width**-0.5)

    def _fill(self, name: str, rng: Generator, scale: float) -> None:
        parameter = self.parameters[name]
        # float64 whatever the dtype, so that both start from the same numbers
        parameter[...] = scale * rng.standard_normal(parameter.shape)

    def _scratch(self, name: str, shape: tuple[int, ...]) -> Array:
        """An array of zeros that is made once and then kept; its contents survive until reuse."""
        if (name, shape) not in self._workspace:
            self._workspace[name, shape] = np.zeros(shape, self.dtype)
        return self._workspace[name, shape]

    @property
    @abstractmethod
    def n_features(self) -> int:
        """Number of features that the classifier reads."""

    @abstractmethod
    def _attention_shapes(self) -> dict[str, tuple[int, ...]]:
        """Shapes of the parameters of the attention layers."""

    @abstractmethod
    def _initialise_attention(self, rng: Generator) -> None:
        """Draw the parameters of the attention layers."""

    @abstractmethod
    def _features(self, batch: Batch) -> tuple[Array, Array, Array, Any]:
        """Features (size, n_features), attention1, attention2, and what `_backward` needs."""

    @abstractmethod
    def _backward(self, slope: Array, kept: Any) -> None:
        """Write the gradients of the attention layers, given that of the features."""

    def contents(self, batch: Batch) -> Array:
        """Contents in the order of the tokens, padded with zeros: (B, T, D padded)."""
        size, n_items, dim = batch.items.shape
        padded = -(-dim // PADDING) * PADDING
        contents = self._scratch("contents", (size, 2 * n_items - 1, padded))
        kernels.lay_out(batch.items, batch.labels, self.label_vectors, contents)
        return contents

    @abstractmethod
    def attention_logits(self) -> tuple[float, float]:
        """Effective beta1 and alpha, see `cliff.network.logits`."""

    @abstractmethod
    def label_directions(self) -> Array:
        """How full attention on each label changes the features, shape (L, n_features)."""

    def hidden_layers(self, batch: Batch) -> list[Array]:
        """What the classifier reads and its hidden layers: (B, n_features), then (B, width)."""
        return self._classify(self._features(batch)[0])[1]

    def settings(self) -> dict[str, Any]:
        """What determines the network before training, apart from its task."""
        return {
            "model": self.model,
            "net_seed": self.seed,
            "width": self.width,
            "dtype": self.dtype.name,
        }

    def forward(self, batch: Batch) -> Output:
        """Logits and attention for a batch."""
        features, attention1, attention2, _ = self._features(batch)
        return Output(self._classify(features)[0], attention1, attention2)

    def loss_and_gradient(self, batch: Batch) -> float:
        """Mean cross-entropy over a batch, in nats; its gradient goes to `gradients`."""
        features, _, _, kept = self._features(batch)
        logits, layers = self._classify(features)
        loss, slope = cross_entropy(logits, batch.answer)
        self._backward(self._classify_backward(slope, layers), kept)
        return loss

    def _classify(self, features: Array) -> tuple[Array, list[Array]]:
        weights = self.parameters
        layers = [features]  # (size, n_features), then (size, width) three times
        for layer in range(1, N_HIDDEN + 1):
            hidden = layers[-1] @ weights[f"W{layer}"].T  # (size, width)
            hidden += weights[f"b{layer}"]
            layers.append(np.maximum(hidden, 0, out=hidden))
        return layers[-1] @ weights["readout"].T, layers  # (size, L)

    def _classify_backward(self, slope: Array, layers: list[Array]) -> Array:
        weights, gradients = self.parameters, self.gradients
        np.matmul(slope.T, layers[-1], out=gradients["readout"])
        slope = slope @ weights["readout"]  # (size, width)
        for layer in range(N_HIDDEN, 0, -1):
            slope *= layers[layer] > 0
            np.matmul(slope.T, layers[layer - 1], out=gradients[f"W{layer}"])
            np.sum(slope, axis=0, out=gradients[f"b{layer}"])
            slope = slope @ weights[f"W{layer}"]  # (size, width), at last (size, n_features)
        return slope

    def set_clamp(self, layer: int, pattern: str | None) -> None:
        """Hold a head's attention at a pattern, or let it go with None.

        Parameters
        ----------
        layer : int
            1 or 2.
        pattern : str or None
            One of `PATTERNS`: ``"previous"`` (each token attends to the one before it, the first to
            itself), ``"match"`` (the target attends to the labels that are right, evenly; if there
            is none, to nothing), ``"uniform"`` (evenly to everything visible) or ``"zero"`` (the
            head writes nothing: it is cut out).

        Raises
        ------
        ArgumentError
            If there is no such layer or pattern, or if the pattern is not one of that layer.
        """
        if layer not in PATTERNS:
            raise ArgumentError("layer", layer, "must be 1 or 2")
        if pattern is None:
            self.clamp.pop(layer, None)
        else:
            self.clamp[layer] = choice("pattern", pattern, PATTERNS[layer])

    def freeze(self, *names: str) -> None:
        """Keep training from changing parameters.

        Raises
        ------
        ArgumentError
            If there is no parameter of a name.
        """
        for name in names:
            self.frozen.add(choice("names", name, list(self.parameters)))

    def _clamped(self, layer: int, batch: Batch) -> Array:
        """Attention of a clamped head: (B, T, T) in layer 1, the target's (B, T) in layer 2."""
        size, n_pairs = batch.labels.shape
        n_tokens = 2 * n_pairs + 1
        pattern = self.clamp[layer]
        if layer == 1:
            attention = np.zeros((size, n_tokens, n_tokens), self.dtype)
            if pattern == "previous":
                token = np.arange(n_tokens)
                attention[:, token, np.maximum(token - 1, 0)] = 1
            elif pattern == "uniform":
                visible = np.tri(n_tokens, dtype=self.dtype)
                attention[:] = visible / visible.sum(axis=1, keepdims=True)
            return attention
        row = np.zeros((size, n_tokens), self.dtype)
        if pattern == "match":
            right = batch.labels == batch.answer[:, None]
            row[:, 1::2] = right / np.maximum(right.sum(axis=1, keepdims=True), 1)
        elif pattern == "uniform":
            row[:] = 1 / n_tokens
        return row


def softmax(scores: Array) -> Array:
    """Softmax over the last axis, shifted by the maximum."""
    weights = np.exp(scores - scores.max(axis=-1, keepdims=True))
    weights /= weights.sum(axis=-1, keepdims=True)
    return weights


def softmax_backward(weights: Array, slope: Array) -> Array:
    """Gradient with respect to the scores, given their softmax and its gradient."""
    return weights * (slope - (weights * slope).sum(axis=-1, keepdims=True))


def cross_entropy(logits: Array, answer: NDArray[np.intp]) -> tuple[float, Array]:
    """Mean cross-entropy in nats, and its gradient with respect to the logits.

    Parameters
    ----------
    logits : ndarray, shape (size, L)
    answer : ndarray of int, shape (size,)

    Returns
    -------
    loss : float
    slope : ndarray, shape (size, L)
    """
    size = len(answer)
    rows = np.arange(size)
    shifted = logits - logits.max(axis=1, keepdims=True)
    slope = np.exp(shifted)
    total = slope.sum(axis=1, keepdims=True)
    loss = float(np.mean(np.log(total[:, 0]) - shifted[rows, answer]))
    slope /= total * size
    slope[rows, answer] -= 1 / size
    return loss, slope
