"""What both networks share: parameters in one vector, the classifier, the loss, clamped heads."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping
from copy import deepcopy
from functools import partial
from typing import Any, NamedTuple, Self

import numpy as np
from numpy.random import Generator
from numpy.typing import DTypeLike, NDArray

from cliff.checks import ArgumentError, check_memory, choice, integer
from cliff.kernels.classifier import classify
from cliff.parallel import aside, one_blas_thread
from cliff.task import INITIAL, Batch, Task, of_arrays, stream

Array = NDArray[Any]
"""float32 or float64, the same throughout a network."""

N_HIDDEN = 3
"""Hidden layers of the classifier."""

PATTERNS = {1: ("previous", "uniform", "zero"), 2: ("match", "uniform", "zero")}
"""Patterns that the attention of each layer can be clamped to."""


@of_arrays
class Output(NamedTuple):
    """Output of a network for a batch.

    Attributes
    ----------
    logits : ndarray, shape (size, L)
        Logits of the target's label.
    attention1 : ndarray, shape (size, T, T)
        Attention of each token in the first layer; rows sum to one.
    attention2 : ndarray, shape (size, T)
        Attention of the target in the second layer.
    """

    logits: Array
    attention1: Array
    attention2: Array


class Held(NamedTuple):
    """Attention of the clamped heads, shaped as in `Output`; empty where a head is not clamped."""

    attention1: Array
    attention2: Array


class Parameters(Mapping[str, Array]):
    """Named arrays that are views into one vector.

    Copies and unpickled ones are independent of the original, and their arrays are views into
    their own vector.

    Parameters
    ----------
    shapes : mapping of str to tuple of int
    dtype : dtype
    vector : ndarray, shape (n,), optional
        Entries to start from; zeros by default.

    Attributes
    ----------
    vector : ndarray, shape (n,)
        All entries, in the order of the names.
    """

    def __init__(
        self, shapes: Mapping[str, tuple[int, ...]], dtype: DTypeLike, vector: Array | None = None
    ) -> None:
        sizes = [int(np.prod(shape)) for shape in shapes.values()]
        self.vector = np.zeros(sum(sizes), dtype)
        if vector is not None:
            self.vector[:] = vector
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

    @property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Shape of each array by name."""
        return {name: view.shape for name, view in self.items()}

    def __reduce__(self) -> tuple[Any, ...]:
        # a view that is pickled or copied by itself becomes an array of its own
        return type(self), (self.shapes, self.vector.dtype, self.vector)

    def __eq__(self, other: object) -> bool:
        return (
            isinstance(other, Parameters)
            and list(self.shapes.items()) == list(other.shapes.items())
            and self.vector.dtype == other.vector.dtype
            and np.array_equal(self.vector, other.vector, equal_nan=True)
        )

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        shapes = ", ".join(f"{name}={shape}" for name, shape in self.shapes.items())
        return f"Parameters({self.vector.size:,} of {self.vector.dtype}: {shapes})"


class Network(ABC):
    """Two attention layers that gather features of the target, and a classifier that reads them.

    Networks are equal if they agree in everything that determines their further training: task,
    settings, parameters, clamped heads and frozen parameters.

    The classifier is the paper's: three layers of rectified linear units (He initialisation, a bias
    for each unit that starts at 0), a linear readout, cross-entropy. All matrices act on column
    vectors, z = W h, and are stored in that orientation. `cliff.network.reference` states both
    networks plainly.

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
        Arrays by name; `gradients` holds the result of the latest `loss_and_gradient`.
    clamp : dict of int to str
        Layer (1 or 2) of each clamped head to its pattern, one of `PATTERNS`. Its attention is
        fixed, so that no gradient flows through its scores.
    frozen : set of str
        Names of the parameters that training does not change.

    Raises
    ------
    ArgumentError
        If an argument is out of range, or the parameters do not fit into the machine's memory.
    """

    model: str
    _passes: Any
    """Module of `cliff.kernels` with the compiled passes, `forward` and `differentiate`."""

    def __init__(
        self, task: Task, seed: int = 0, width: int = 128, dtype: DTypeLike = np.float32
    ) -> None:
        self.dtype: np.dtype[Any] = np.dtype(dtype)
        if self.dtype not in (np.float32, np.float64):
            raise ArgumentError("dtype", str(self.dtype), "must be float32 or float64")
        self.task = task
        self.seed = integer("seed", seed, 0)
        self.width = integer("width", width, 1)
        n_features = self.n_features
        shapes = self._attention_shapes()
        for layer in range(1, N_HIDDEN + 1):
            shapes[f"W{layer}"] = (width, n_features if layer == 1 else width)
            shapes[f"b{layer}"] = (width,)
        shapes["readout"] = (task.n_labels, width)
        # parameters, two gradients, and as much again to draw them
        n_bytes = sum(4 * self.dtype.itemsize * int(np.prod(shape)) for shape in shapes.values())
        sizes = {"width": width, "window": task.window, "dim": task.dim, "n_labels": task.n_labels}
        largest = max(sizes, key=lambda name: sizes[name])
        check_memory(largest, sizes[largest], n_bytes)
        self.label_vectors = task.label_vectors.astype(self.dtype)
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
        # drawn in float64, so that networks of either dtype start from the same numbers
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
        """Arrays that the passes write the gradients with respect to `_weights` to."""

    def _features(self, weights: Any, batch: Batch, held: Held) -> tuple[Array, Any]:
        """Features, (B, n_features), and intermediate results, for part of a batch."""
        features: tuple[Array, Any] = self._passes.forward(weights, self.label_vectors, batch, held)
        return features

    def _differentiate(
        self, weights: Any, batch: Batch, held: Held, slopes: Any, size: int
    ) -> float:
        """Cross-entropy summed over part of a batch and divided by `size`; write its gradient.

        One compiled call, because threads that return to the interpreter wait for its lock.
        """
        return float(
            self._passes.differentiate(weights, self.label_vectors, batch, held, slopes, size)
        )

    def _complete(self) -> None:  # noqa: B027, nothing to do where `_weights` are the parameters
        """Turn gradients with respect to `_weights` into gradients with respect to parameters."""

    @abstractmethod
    def attention_logits(self) -> tuple[float, float]:
        """Effective beta1 and alpha, see `cliff.network.logits`."""

    @abstractmethod
    def label_directions(self) -> Array:
        """Change of the features by full attention to each label in layer 2, (L, n_features)."""

    @one_blas_thread()
    def features(self, batch: Batch) -> Array:
        """Features that the classifier reads, shape (B, n_features)."""
        weights = self._weights()
        parts = [self._features(weights, part, self._held(part))[0] for part in self._parts(batch)]
        return np.concatenate(parts)

    def settings(self) -> dict[str, Any]:
        """Everything that determines the untrained network, apart from its task."""
        return {
            "model": self.model,
            "net_seed": self.seed,
            "width": self.width,
            "dtype": self.dtype.name,
        }

    @one_blas_thread()
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

    @one_blas_thread()
    def loss_and_gradient(
        self, batch: Batch, meanwhile: Callable[[], object] | None = None
    ) -> float:
        """Mean cross-entropy over a batch, in nats; its gradient goes to `gradients`.

        The batch is cut into two parts, whose gradients are added. With two threads
        (``NUMBA_NUM_THREADS``) both are worked on at the same time, with one in turn. On one
        machine, with the same libraries, the result is the same bit for bit. BLAS has one thread
        meanwhile.

        Parameters
        ----------
        batch : Batch
        meanwhile : callable, optional
            Called in this thread when it has done its part, for example to draw the next batch. Not
            earlier, because the second thread needs the interpreter's lock to begin.

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
        self.gradients.vector += self._other_gradients.vector
        self._complete()
        return loss

    def _parts(self, batch: Batch) -> tuple[Batch, Batch]:
        """Both parts as contiguous arrays of the network's dtype, which the passes require.

        The first part is the smaller one, because its thread also draws the next batch.
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

    def copy(self) -> Self:
        """An independent network that trains on exactly as this one would.

        Examples
        --------
        Branch an experiment, for example at the context plateau:

        >>> from cliff import Task, Transformer
        >>> net = Transformer(Task(n_pairs=4, n_labels=8))
        >>> branch = net.copy()
        >>> branch.set_clamp(1, "uniform")
        >>> net.clamp, branch.clamp
        ({}, {1: 'uniform'})
        """
        return deepcopy(self)

    def __copy__(self) -> Self:
        return self.copy()  # two networks that share some arrays and not others would be of no use

    def __eq__(self, other: object) -> bool:
        return (
            type(self) is type(other)
            and isinstance(other, Network)
            and (self.task, self.settings()) == (other.task, other.settings())
            and (self.clamp, self.frozen) == (other.clamp, other.frozen)
            and self.parameters == other.parameters
        )

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        numbers = [f"{k}={float(v):.4g}" for k, v in self.parameters.items() if v.ndim == 0]
        held = {"clamp": self.clamp, "frozen": sorted(self.frozen)}
        parts = [
            repr(self.task), f"seed={self.seed}", f"width={self.width}", *numbers,
            f"{self.parameters.vector.size:,} parameters in {self.dtype}",
            *(f"{name}={value}" for name, value in held.items() if value),
        ]  # fmt: skip
        return f"{type(self).__name__}({', '.join(parts)})"

    def memory(self, size: int) -> int:
        """Bytes that a training step on `size` sequences takes, to within a factor of two."""
        n_tokens, n_labels = self.task.n_tokens, self.task.n_labels
        numbers = n_tokens * (self.task.dim + n_tokens) + 6 * (self.n_features + self.width)
        return self.task.memory(size) + self.dtype.itemsize * size * (numbers + 2 * n_labels)

    def set_clamp(self, layer: int, pattern: str | None) -> None:
        """Clamp a head's attention to a pattern, or release it with None.

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
        """Exclude parameters from training.

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
