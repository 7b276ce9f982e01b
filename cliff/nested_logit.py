"""The nested-logit landscape: loss, gradient, Hessian and progress measures."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from cliff.checks import ArgumentError, choice, finite_array, integer, real
from cliff.kernels import nested_logit as kernels
from cliff.parallel import in_parallel, split

Array = NDArray[np.float64]

POSITIONS = {"exact": kernels.EXACT, "mean": kernels.MEAN_FIELD}
PARAMETERS = ("beta1", "alpha", "xi", "beta2")
MEASURES = ("ila1", "tila2", "tla2", "cla", "accuracy")


@dataclass(frozen=True)
class NestedLogit:
    """The loss made of three nested logits.

    The model keeps of a two-layer attention network what decides the loss in the limit of
    orthonormal contents: beta1 makes layer 1 attend to the previous token, alpha makes layer 2
    attend to the label whose buffer matches the target, and xi turns attention to a label into a
    prediction of it, after Reddy (ICLR 2024, arXiv 2312.03002). Write E = exp(beta1). Token j's
    buffer overlaps with the target by m_j, and

        q_j  = softmax_j(alpha·m_j + beta2·[j is a label])   over all 2N + 1 tokens,
        loss = −log softmax(xi·q)[correct label]             over the L labels,

    where a label that is not in the context has the logit 0, averaged over the slot s of the pair
    that matches the target.

    Parameters
    ----------
    n_pairs : int
        Item–label pairs N in the context, at least 1.
    n_labels : int
        Label classes L, at least N.
    positions : {"exact", "mean"}
        "exact": label n stands at position 2n of 2N + 1 and sees its predecessor with weight
        E/(E + 2n − 1); the loss is averaged over the slots s = 1 … N. "mean": attention is confined
        to the labels and the counts are replaced by their mean, E/(E + N), which gives this
        project's own closed form in the spirit of the paper's.
    label_bias : float or "free"
        beta2, added to the layer-2 logit of every label: a number, or "free" for a fourth component
        of theta. In the mean field all tokens are labels, and the loss does not depend on it.

    Raises
    ------
    ArgumentError
        If an argument is out of range.

    Examples
    --------
    >>> model = NestedLogit(n_pairs=8, n_labels=32)
    >>> round(float(model.loss([0.0, 0.0, 0.0])), 6)  # log 32
    3.465736

    References
    ----------
    .. [1] G. Reddy, "The mechanistic basis of data dependence and abrupt learning in an in-context
       classification task", ICLR 2024, arXiv 2312.03002.
    """

    n_pairs: int = 8
    n_labels: int = 32
    positions: str = "exact"
    label_bias: float | str = 0.0

    def __post_init__(self) -> None:
        n_pairs = integer("n_pairs", self.n_pairs, 1)
        choice("positions", self.positions, tuple(POSITIONS))
        if self.label_bias != "free":
            if isinstance(self.label_bias, str):
                raise ArgumentError("label_bias", self.label_bias, 'must be a number or "free"')
            object.__setattr__(self, "label_bias", real("label_bias", self.label_bias))
        n_labels = integer("n_labels", self.n_labels, 1)
        if n_labels < n_pairs:
            raise ArgumentError(
                "n_labels", n_labels, f"must be at least the number of pairs, {n_pairs}"
            )
        object.__setattr__(self, "n_pairs", n_pairs)
        object.__setattr__(self, "n_labels", n_labels)

    @property
    def n_parameters(self) -> int:
        """Components p of theta: 3, or 4 with a free label bias."""
        return 4 if self.label_bias == "free" else 3

    @property
    def parameter_names(self) -> tuple[str, ...]:
        """Names of the components of theta, in order."""
        return PARAMETERS[: self.n_parameters]

    @property
    def plateau(self) -> float:
        """Loss of a guess among the labels of the context, log N (nats)."""
        return float(np.log(self.n_pairs))

    def loss(self, theta: ArrayLike) -> Array:
        """Loss in nats.

        Parameters
        ----------
        theta : array_like, shape (..., p)
            Logits beta1, alpha, xi and, with a free label bias, beta2.

        Returns
        -------
        ndarray, shape (...,)

        Raises
        ------
        ArgumentError
            If theta is not finite or its last axis is not p long.
        """
        rows, shape = self._rows(theta)
        return self._evaluate(rows)[:, 0].reshape(shape)

    def gradient(self, theta: ArrayLike) -> Array:
        """Derivatives of the loss by theta, shape (..., p); see `loss`."""
        return self.loss_and_gradient(theta)[1]

    def loss_and_gradient(self, theta: ArrayLike) -> tuple[Array, Array]:
        """Loss (...,) and gradient (..., p) in one pass, on all cores for large batches."""
        rows, shape = self._rows(theta)
        out = self._evaluate(rows)
        gradient = np.ascontiguousarray(out[:, 1 : 1 + self.n_parameters])
        return out[:, 0].reshape(shape), gradient.reshape(*shape, self.n_parameters)

    def hessian(self, theta: ArrayLike) -> Array:
        """Second derivatives of the loss by theta, shape (..., p, p), symmetric; see `loss`."""
        rows, shape = self._rows(theta)
        p = self.n_parameters
        _, _, hessian, _ = self._evaluate_direct(rows, with_hessian=True)
        return np.ascontiguousarray(hessian[:, :p, :p]).reshape(*shape, p, p)

    def measures(self, theta: ArrayLike) -> dict[str, Array]:
        """Progress measures, means over the slot of the matching pair.

        Parameters
        ----------
        theta : array_like, shape (..., p)

        Returns
        -------
        dict of ndarray, shape (...,)
            ``ila1``, layer-1 attention of a label to the item before it, mean over labels;
            ``tila2``, layer-2 attention of the target to the correct label; ``tla2``, to all
            labels; ``cla``, probability that the prediction puts on labels of the context;
            ``accuracy``, the mean probability of the correct label; ``loss`` (nats).

        Raises
        ------
        ArgumentError
            As `loss`.
        """
        rows, shape = self._rows(theta)
        loss, _, _, values = self._evaluate_direct(rows, with_hessian=False)
        columns = {name: values[:, i].reshape(shape) for i, name in enumerate(MEASURES)}
        return columns | {"p_correct": columns["accuracy"], "loss": loss.reshape(shape)}

    def _rows(self, theta: ArrayLike) -> tuple[Array, tuple[int, ...]]:
        """theta as rows (beta1, alpha, xi, beta2), and the shape of the batch."""
        array = finite_array("theta", theta, self.n_parameters)
        shape = array.shape[:-1]
        return self.complete(array.reshape(-1, self.n_parameters)), shape

    def complete(self, theta: Array) -> Array:
        """Append the fixed label bias to theta of shape (m, p), for the kernels: shape (m, 4)."""
        if self.label_bias == "free":
            return theta
        rows = np.empty((len(theta), 4))
        rows[:, :3] = theta
        rows[:, 3] = self.label_bias
        return rows

    @property
    def _chunk(self) -> int:
        """Parameter vectors to a thread at a time: some tenths of a millisecond of work."""
        exact = self.positions == "exact"
        return max(4, 2**16 // (self.n_pairs * min(self.n_pairs, 64) if exact else 1))

    def _evaluate(self, rows: Array) -> Array:
        n, excess = self.n_pairs, float(self.n_labels - self.n_pairs)
        out = np.empty((len(rows), 5))

        def work(start: int, stop: int) -> None:
            kernels.evaluate_batch(
                POSITIONS[self.positions], n, excess, rows[start:stop], True, out[start:stop]
            )

        in_parallel(work, split(0, len(rows), self._chunk))
        return out

    def _evaluate_direct(self, rows: Array, with_hessian: bool) -> tuple[Any, ...]:
        m, excess = len(rows), float(self.n_labels - self.n_pairs)
        outputs = np.empty(m), np.empty((m, 4)), np.empty((m, 4, 4)), np.empty((m, len(MEASURES)))

        def work(start: int, stop: int) -> None:
            kernels.direct_batch(
                POSITIONS[self.positions],
                self.n_pairs,
                excess,
                rows[start:stop],
                with_hessian,
                *(output[start:stop] for output in outputs),
            )

        in_parallel(work, split(0, m, self._chunk))
        return outputs
