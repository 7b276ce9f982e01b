"""Effective logits: the landscape's coordinates beta1, alpha, xi, beta2, omega on a network.

Each comes with a residual, the share of the variance that it should explain and does not.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from cliff.kernels import network as kernels
from cliff.network.layers import N_HIDDEN, Network, Output
from cliff.task import Batch

LOGITS = ("beta1", "alpha", "xi", "beta2")
"""The effective logits, in the order of the landscape's theta."""

RESIDUALS = {
    "beta1": "beta1_residual",
    "alpha": "match_residual",
    "xi": "xi_residual",
    "beta2": "match_residual",
}
"""Residual of each effective logit, by name."""


def effective_logits(net: Network, batch: Batch) -> dict[str, float]:
    """Effective logits of a network, and their residuals on a batch.

    Parameters
    ----------
    net : Network
    batch : Batch
        Held-out sequences.

    Returns
    -------
    dict of float
        ``beta1``: part of the scores of layer 1 that depends on positions alone: its value for the
        token before, minus its mean over the other visible tokens; mean over the window.
        ``alpha``: derivative of the target's score in layer 2 with respect to the overlap of its
        content with a token's buffer (the content that the token attends to in layer 1); mean over
        the directions of content.
        ``beta2``: score of the target in layer 2 on labels minus that on items, after alpha times
        the overlaps is subtracted; least squares over the batch.
        ``xi``: derivative of a label's logit, minus the mean of the other logits, with respect to
        the attention of layer 2 to that label; mean over the labels and the batch.
        ``xi_chord``: the same as a difference quotient, between no attention to the labels and the
        actual one; least squares over the batch.
        ``xi_noise``: how much of the force of the signal the rest of the logits takes back. The
        signal is what follows from which labels the context has, least squares over the batch; a
        force is the derivative of minus the loss with respect to the size of a part of the logits.
        1 where no common gain of signal and rest lowers the loss any more, near 0 where there is
        no rest.
        ``beta1_residual``, ``match_residual``, ``xi_residual``: share of the variance, within the
        rows, that beta1 leaves unexplained in the scores of layer 1, alpha and beta2 in the scores
        of the target in layer 2, and xi_chord in the logits. Near 0 where the landscape describes
        the network, near 1 in an untrained network, above 1 where the description is wrong. NaN
        where there is no variance, as under a clamped head.

    Notes
    -----
    Assumptions: scores depend on the distance of positions alone; contents are isotropic, so that
    the match operator is its trace over D times the identity; all labels are equivalent. For the
    minimal head beta1, alpha and beta2 are its parameters, and their residuals are rounding errors.
    """
    output = net.forward(batch)
    beta1, alpha = net.attention_logits()
    beta2, match_residual = _label_bias(net, output, batch, alpha)
    xi_chord, xi_residual = _chord(output, batch)
    return {
        "beta1": beta1,
        "alpha": alpha,
        "xi": _slope(net, batch),
        "beta2": beta2,
        "xi_chord": xi_chord,
        "xi_noise": _noise(output, batch),
        "beta1_residual": _previous_residual(output, beta1),
        "match_residual": match_residual,
        "xi_residual": xi_residual,
    }


def effective_memory(net: Network, groups: Sequence[Batch], shares: ArrayLike) -> dict[str, float]:
    """Memory logits of a network: what its weights alone know of the known classes.

    Parameters
    ----------
    net : Network
    groups : sequence of Batch, length C
        Held-out sequences of known classes, with targets of each group of classes
        (`cliff.Task.sample_group`).
    shares : array_like, shape (C,)
        Weights of the groups in the residual, such as `cliff.Task.group_shares`.

    Returns
    -------
    dict of float
        ``omega_1`` ... ``omega_C``: the logit of the correct label minus the mean of the other
        logits, mean over a group's sequences, while layer 2 is cut out, so that no label of the
        context reaches the classifier. ``omega_residual``: share of the variance of the logits,
        within the rows, that this leaves unexplained; near 1 in an untrained network.
    """
    alone = net.copy()
    alone.set_clamp(2, "zero")
    values, rest, whole = {}, 0.0, 0.0
    for number, (batch, share) in enumerate(zip(groups, np.asarray(shares), strict=True), 1):
        logits = _centred(alone.forward(batch).logits.astype(np.float64))
        correct = _centred(np.eye(logits.shape[1])[batch.answer])
        # the logit minus the mean of the others is the centred one times L / (L - 1)
        omega = float((logits * correct).sum() / (correct**2).sum())
        values[f"omega_{number}"] = omega
        rest += share * float(((logits - omega * correct) ** 2).sum(axis=1).mean())
        whole += share * float((logits**2).sum(axis=1).mean())
    return values | {"omega_residual": _share(rest, whole)}


def _centred(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Minus the mean of each row, which a softmax does not depend on."""
    return values - values.mean(axis=-1, keepdims=True)


def _log(attention: NDArray[np.floating]) -> NDArray[np.float64]:
    """Scores, up to a constant for each row; not finite where attention is clamped to zero."""
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.log(attention.astype(np.float64))


def _share(rest: float, whole: float) -> float:
    return rest / whole if whole != 0 and np.isfinite(whole) else np.nan


def _previous_residual(output: Output, beta1: float) -> float:
    attention = output.attention1
    rest = whole = 0.0
    with np.errstate(invalid="ignore"):
        for i in range(1, attention.shape[1]):
            scores = _centred(_log(attention[:, i, : i + 1]))
            previous = _centred((np.arange(i + 1) == i - 1).astype(np.float64))
            rest += float(((scores - beta1 * previous) ** 2).sum())
            whole += float((scores**2).sum())
    return _share(rest, whole)


def _label_bias(net: Network, output: Output, batch: Batch, alpha: float) -> tuple[float, float]:
    contents = kernels.lay_out(batch.items, batch.labels, net.task.label_vectors)
    contents = contents.astype(np.float64)  # (B, T, D padded)
    overlap = np.einsum("bjd,bd->bj", contents, contents[:, -1])
    match = np.einsum("bij,bj->bi", output.attention1.astype(np.float64), overlap)
    label = _centred((np.arange(match.shape[1]) % 2).astype(np.float64))
    with np.errstate(invalid="ignore"):
        scores = _centred(_log(output.attention2))
        left = scores - alpha * _centred(match)
        beta2 = float((left * label).sum() / (len(left) * (label**2).sum()))
        rest = float(((left - beta2 * label) ** 2).sum())
    return beta2, _share(rest, float((scores**2).sum()))


def _chord(output: Output, batch: Batch) -> tuple[float, float]:
    attended = np.zeros(output.logits.shape)  # (B, L), attention on each label
    row = np.arange(len(attended))
    for n in range(batch.labels.shape[1]):
        attended[row, batch.labels[:, n]] += output.attention2[:, 2 * n + 1]
    attended, logits = _centred(attended), _centred(output.logits.astype(np.float64))
    square = float((attended**2).sum())
    chord = _share(float((attended * logits).sum()), square)
    if np.isnan(chord):
        return chord, np.nan
    return chord, _share(float(((logits - chord * attended) ** 2).sum()), float((logits**2).sum()))


def _noise(output: Output, batch: Batch) -> float:
    logits = _centred(output.logits.astype(np.float64))
    row = np.arange(len(logits))
    present = np.zeros(logits.shape)
    np.add.at(present, (row[:, None], batch.labels), 1.0)
    present = _centred(present)
    signal = _share(float((present * logits).sum()), float((present**2).sum())) * present
    error = np.exp(logits - logits.max(axis=1, keepdims=True))
    error /= -error.sum(axis=1, keepdims=True)
    error[row, batch.answer] += 1.0  # minus the gradient of the loss with respect to the logits
    return -_share(float((error * (logits - signal)).sum()), float((error * signal).sum()))


def _slope(net: Network, batch: Batch) -> float:
    directions = net.label_directions()  # (L, n_features)
    label = np.arange(len(batch.answer)) % len(directions)
    hidden, change = net.features(batch), directions[label]
    for number in range(1, N_HIDDEN + 1):
        weight, bias = net.parameters[f"W{number}"], net.parameters[f"b{number}"]
        hidden = np.maximum(hidden @ weight.T + bias, 0)
        change = (hidden > 0) * (change @ weight.T)
    logits = (change @ net.parameters["readout"].T).astype(np.float64)
    own = logits[np.arange(len(label)), label]
    others = (logits.sum(axis=1) - own) / (logits.shape[1] - 1)
    return float((own - others).mean())
