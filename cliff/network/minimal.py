"""The minimal head: both attention layers reduced to three numbers, then the full classifier."""

from __future__ import annotations

from typing import Literal

import numpy as np
from numpy.random import Generator
from numpy.typing import DTypeLike

from cliff.checks import ArgumentError, real
from cliff.kernels import minimal as kernels
from cliff.network.layers import Array, Network, Parameters
from cliff.task import Task

LARGEST_LOGIT = 1e6
"""Largest attention logit: attention is all or nothing long before, and float32 overflows later."""


class MinimalHead(Network):
    """An induction head with three parameters, then the classifier of the transformer.

    In layer 1 token i attends to j <= i in proportion to exp(beta1 [j = i - 1]) and keeps what it
    sees, b_i, in a buffer. In layer 2 the target attends to token j in proportion to
    exp(alpha b_j . c_t + beta2 [j is a label]). The classifier reads the target's content c_t and
    the attended content. The model, written to be read, is `cliff.network.reference.minimal_head`.

    Parameters
    ----------
    task, seed, width, dtype
        As in `Network`.
    label_bias : "free" or float
        Whether beta2 is learned, from 0, or fixed at a number (0 is the two-parameter model).
    start : pair of float
        beta1 and alpha at the start.

    Notes
    -----
    Positions enter through beta1 alone, so the result does not depend on where the window starts.

    References
    ----------
    Reddy, ICLR 2024, arXiv:2312.03002, section 3.
    """

    model = "minimal"
    _passes = kernels

    def __init__(
        self,
        task: Task,
        seed: int = 0,
        width: int = 128,
        dtype: DTypeLike = np.float32,
        label_bias: float | Literal["free"] = "free",
        start: tuple[float, float] = (0.0, 0.0),
    ) -> None:
        if isinstance(label_bias, str) and label_bias != "free":
            raise ArgumentError("label_bias", label_bias, 'must be a number or "free"')
        self.label_bias = label_bias
        if label_bias != "free":
            self.label_bias = real("label_bias", label_bias, -LARGEST_LOGIT, LARGEST_LOGIT)
        if len(start) != 2:
            raise ArgumentError("start", start, "must be two numbers, beta1 and alpha")
        beta1, alpha = (real("start", logit, -LARGEST_LOGIT, LARGEST_LOGIT) for logit in start)
        self.start = (beta1, alpha)
        super().__init__(task, seed, width, dtype)
        if self.label_bias != "free":
            self.frozen.add("beta2")

    @property
    def n_features(self) -> int:
        return 2 * self.task.dim

    def _attention_shapes(self) -> dict[str, tuple[int, ...]]:
        return {"beta1": (), "alpha": (), "beta2": ()}

    def _initialise_attention(self, rng: Generator) -> None:
        self.parameters["beta1"][...], self.parameters["alpha"][...] = self.start
        self.parameters["beta2"][...] = 0 if self.label_bias == "free" else self.label_bias

    def attention_logits(self) -> tuple[float, float]:
        """On this rung they are parameters."""
        return float(self.parameters["beta1"]), float(self.parameters["alpha"])

    def label_directions(self) -> Array:
        return np.concatenate([np.zeros_like(self.label_vectors), self.label_vectors], axis=1)

    def settings(self) -> dict[str, object]:
        return {**super().settings(), "label_bias": self.label_bias, "start": list(self.start)}

    def _weights(self) -> kernels.Weights:
        return kernels.Weights(**self.parameters)

    def _slopes(self, gradients: Parameters) -> kernels.Weights:
        return kernels.Weights(**gradients)
