"""What the networks share: parameters in one vector, the classifier, the loss, clamped heads."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import Any, NamedTuple

import numpy as np
from numpy.random import Generator
from numpy.typing import DTypeLike, NDArray

from cliff.checks import ArgumentError, choice, integer
from cliff.kernels import compiled
from cliff.kernels import network as kernels
from cliff.kernels.network import rectify, rectify_backward
from cliff.kernels.product import multiply, product
from cliff.parallel import aside
from cliff.task import INITIAL, Batch, Indices, Task, stream

Array = NDArray[Any]
"""float32 or float64, the same throughout a network."""

N_HIDDEN = 3
"""Hidden layers of the classifier."""

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


class Held(NamedTuple):
    """Attention of clamped heads for a batch, as in `Output`; empty where a head is free."""

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
        self._other_gradients = Parameters(shapes, self.dtype)

        rng = stream(seed, INITIAL)
        self._initialise_attention(rng)
        for layer in range(1, N_HIDDEN + 1):
            self._fill(f"W{layer}", rng, (2 / shapes[f"W{layer}"][1]) ** 0.5)
        self._fill("readout", rng, width**-0.5)

    def _fill(self, name: str, rng: Generator, scale: float) -> None:
        parameter = self.parameters[name]
        # float64 whatever the dtype, so that both start from the same numbers
        parameter[...] = scale * rng.standard_normal(parameter.shape)

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
    def _weights(self) -> Any:
        """The parameters as the compiled passes read them."""

    @abstractmethod
    def _slopes(self, gradients: Parameters) -> Any:
        """Where the passes write the gradients with respect to `_weights`."""

    @abstractmethod
    def _features(self, weights: Any, batch: Batch, held: Held) -> tuple[Array, Any]:
        """Features, (B, n_features), and what the way back needs, of part of a batch."""

    @abstractmethod
    def _differentiate(
        self, weights: Any, batch: Batch, held: Held, slopes: Any, size: int
    ) -> float:
        """Cross-entropy summed over part of a batch and divided by `size`; write its gradient.

        In one compiled call, since threads that ask for the interpreter's lock wait for each other.
        """

    def _complete(self) -> None:  # noqa: B027, most have nothing to do
        """Bring `gradients` from the terms of `_slopes` to those of the parameters."""

    @abstractmethod
    def attention_logits(self) -> tuple[float, float]:
        """Effective beta1 and alpha, see `cliff.network.logits`."""

    @abstractmethod
    def label_directions(self) -> Array:
        """How full attention on each label changes the features, shape (L, n_features)."""

    def features(self, batch: Batch) -> Array:
        """What the classifier reads, shape (B, n_features)."""
        weights = self._weights()
        parts = [self._features(weights, part, self._held(part))[0] for part in self._parts(batch)]
        return np.concatenate(parts)

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
        weights = self._weights()
        first, second = (partial(self._output, weights, part) for part in self._parts(batch))
        other = aside(second)
        return Output(*(np.concatenate(arrays) for arrays in zip(first(), other(), strict=True)))

    def _output(self, weights: Any, batch: Batch) -> Output:
        features, kept = self._features(weights, batch, self._held(batch))
        attention1 = np.broadcast_to(kept.attention1, (len(features), *kept.attention1.shape[-2:]))
        return Output(classify(features, weights)[0], attention1, kept.attention2)

    def loss_and_gradient(
        self, batch: Batch, meanwhile: Callable[[], object] | None = None
    ) -> float:
        """Mean cross-entropy over a batch, in nats; its gradient goes to `gradients`.

        The batch is cut into two parts, whose gradients are added. They are worked on side by side
        where numba may have two threads (``NUMBA_NUM_THREADS``), and in turn where it may not: the
        result is the same, bit for bit.

        Parameters
        ----------
        batch : Batch
        meanwhile : callable, optional
            Called in this thread when it has done its part, as drawing the next batch. Not before:
            it needs the interpreter's lock, which the second thread waits for to begin.

        Returns
        -------
        float
        """
        weights, gradients = self._weights(), (self.gradients, self._other_gradients)
        first, second = (
            partial(
                self._differentiate,
                weights, part, self._held(part), self._slopes(slopes), len(batch.answer),
            )
            for part, slopes in zip(self._parts(batch), gradients, strict=True)
        )  # fmt: skip
        other = aside(second)
        loss = first()
        if meanwhile is not None:
            meanwhile()
        loss += other()
        kernels.add(self.gradients.vector, self._other_gradients.vector)
        self._complete()
        return loss

    def _parts(self, batch: Batch) -> tuple[Batch, Batch]:
        """Both parts in the network's dtype and in contiguous arrays, as the passes take them.

        The first is the smaller one, since its thread draws the next batch as well.
        """
        middle = -(-2 * len(batch.answer) // 5)
        first, second = (
            Batch(
                np.ascontiguousarray(batch.items[rows], self.dtype),
                np.ascontiguousarray(batch.labels[rows]),
                np.ascontiguousarray(batch.answer[rows]),
                np.ascontiguousarray(batch.start[rows]),
            )
            for rows in (slice(0, middle), slice(middle, None))
        )
        return first, second

    def _held(self, batch: Batch) -> Held:
        """Attention of the clamped heads for a batch."""
        none = {1: np.empty((0, 0, 0), self.dtype), 2: np.empty((0, 0), self.dtype)}
        return Held(*(self._clamped(k, batch) if k in self.clamp else none[k] for k in (1, 2)))

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
        pattern = choice("pattern", self.clamp[layer], PATTERNS[layer])
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


@compiled
def classify(features: Array, weights: Any) -> tuple[Array, tuple[Array, Array, Array]]:
    """Logits, and what each hidden layer of the classifier makes of the features."""
    layer1 = rectify(product(features, weights.W1.T), weights.b1)  # (B, width)
    layer2 = rectify(product(layer1, weights.W2.T), weights.b2)  # (B, width)
    layer3 = rectify(product(layer2, weights.W3.T), weights.b3)  # (B, width)
    return product(layer3, weights.readout.T), (layer1, layer2, layer3)  # (B, L)


@compiled
def loss_and_slope(
    features: Array, answer: Indices, size: int, weights: Any, slopes: Any
) -> tuple[float, Array]:
    """Cross-entropy summed over some sequences and divided by `size`, and its gradient.

    That with respect to the features is returned; those of the classifier go to `slopes`.
    """
    logits, (layer1, layer2, layer3) = classify(features, weights)
    loss, slope = kernels.cross_entropy(logits, answer, size)  # (B, L)
    multiply(slope.T, layer3, slopes.readout)
    slope = rectify_backward(product(slope, weights.readout), layer3, slopes.b3)  # (B, width)
    multiply(slope.T, layer2, slopes.W3)
    slope = rectify_backward(product(slope, weights.W3), layer2, slopes.b2)  # (B, width)
    multiply(slope.T, layer1, slopes.W2)
    slope = rectify_backward(product(slope, weights.W2), layer1, slopes.b1)  # (B, width)
    multiply(slope.T, features, slopes.W1)
    return loss, product(slope, weights.W1)  # (B, features)
