"""The model: both networks, their loss, its gradient and descent, in plain NumPy, to be read.

The notation is that of the paper [1]_: u are the tokens, v and w the residual stream after the
first and the second attention layer, p1 and p2 the attention of the two layers, Q, K and V their
queries, keys and values. z are the layers of the classifier. Every matrix acts on column vectors,
so that a whole batch of rows h becomes h @ W.T. d_x is the gradient of the loss with respect to x
and has its shape. In shapes, B is the size of the batch, N the pairs, T = 2 N + 1 the tokens,
P the positions, D the dimension of a content, W = P + D the width of a token, L the labels, H the
units of a layer of the classifier, F the features that the classifier reads: W or 2 D.

Training uses the compiled passes of `cliff.kernels`, which leave out what the loss does not need.
They are tested against this page.

References
----------
.. [1] G. Reddy, "The mechanistic basis of data dependence and abrupt learning in an in-context
   classification task", ICLR 2024, arXiv:2312.03002.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cliff.task import Batch

Array = NDArray[Any]
Arrays = Mapping[str, Array]
"""Parameters, or gradients with respect to them, by name."""


def tokens(batch: Batch, label_vectors: Array, window: int) -> Array:
    """u, shape (B, T, W): x1 l1 x2 l2 … xN lN x_t, each one as [one-hot position | content]."""
    n_tokens = 2 * batch.labels.shape[1] + 1
    position = batch.start[:, None] + np.arange(n_tokens)  # (B, T)
    u = np.zeros((*position.shape, window + label_vectors.shape[1]), label_vectors.dtype)
    np.put_along_axis(u, position[:, :, None], 1, axis=2)  # (B, T, W)
    u[:, 0::2, window:] = batch.items  # (B, N + 1, D)
    u[:, 1::2, window:] = label_vectors[batch.labels]  # (B, N, D)
    return u


def softmax(s: Array) -> Array:
    """Softmax over the last axis."""
    e = np.exp(s - s.max(axis=-1, keepdims=True))  # shape of s
    return e / e.sum(axis=-1, keepdims=True)  # shape of s


def softmax_backward(p: Array, d_p: Array) -> Array:
    """d_s of p = softmax(s)."""
    return p * (d_p - (p * d_p).sum(axis=-1, keepdims=True))  # shape of p


def attend(u: Array, theta: Arrays, layer: str, p: Array | None = None) -> tuple[Array, Array]:
    """v_i = u_i + V Σ_j p_ij u_j, shape (B, T, W), and p, shape (B, T, T), unless that is given."""
    if p is None:
        q, k = u @ theta["Q" + layer].T, u @ theta["K" + layer].T  # (B, T, W) each
        s = q @ k.transpose(0, 2, 1)  # (B, T, T), s_ij = q_i · k_j
        p = softmax(np.where(np.tri(s.shape[1], dtype=bool), s, -np.inf))  # (B, T, T), j ≤ i
    return u + p @ u @ theta["V" + layer].T, p  # (B, T, W), (B, T, T)


def attend_backward(
    u: Array, p: Array, theta: Arrays, layer: str, d_v: Array
) -> tuple[Array, Arrays]:
    """d_u of v = attend(u), and the gradients with respect to Q, K and V."""
    Q, K, V = (theta[name + layer] for name in "QKV")  # (W, W) each
    q, k, d_m = u @ Q.T, u @ K.T, d_v @ V  # (B, T, W) each; m_i = Σ_j p_ij u_j
    d_s = softmax_backward(p, d_m @ u.transpose(0, 2, 1))  # (B, T, T)
    d_q, d_k = d_s @ k, d_s.transpose(0, 2, 1) @ q  # (B, T, W) each
    d_u = d_v + p.transpose(0, 2, 1) @ d_m + d_q @ Q + d_k @ K  # (B, T, W)
    pairs = {"Q": (d_q, u), "K": (d_k, u), "V": (d_v, p @ u)}  # (B, T, W) each
    return d_u, {
        name + layer: np.einsum("btv,btw->vw", d_y, x)  # (W, W)
        for name, (d_y, x) in pairs.items()
    }


def classify(features: Array, theta: Arrays) -> tuple[Array, list[Array]]:
    """Logits, shape (B, L), and what each matrix of the classifier acts on: z0 … z3."""
    z = [features]  # (B, F)
    for n in "123":
        z.append(np.maximum(z[-1] @ theta["W" + n].T + theta["b" + n], 0))  # (B, H)
    return z[-1] @ theta["readout"].T, z  # (B, L)


def classify_backward(z: list[Array], theta: Arrays, d_logits: Array) -> tuple[Array, Arrays]:
    """d_features, shape (B, F), and the gradients with respect to the classifier's parameters."""
    gradient = {"readout": d_logits.T @ z[3]}  # (L, H)
    d_z = d_logits @ theta["readout"]  # (B, H)
    for n in (3, 2, 1):
        d_y = d_z * (z[n] > 0)  # (B, H), before the rectification
        gradient[f"W{n}"], gradient[f"b{n}"] = d_y.T @ z[n - 1], d_y.sum(axis=0)  # (H, F or H), (H)
        d_z = d_y @ theta[f"W{n}"]  # (B, H), in the end (B, F)
    return d_z, gradient


def cross_entropy(logits: Array, answer: Array) -> tuple[float, Array]:
    """Mean cross-entropy in nats, and d_logits, shape (B, L)."""
    p, row = softmax(logits), np.arange(len(answer))  # (B, L), (B)
    top = logits.max(axis=1)  # (B)
    log_sum = top + np.log(np.exp(logits - top[:, None]).sum(axis=1))  # (B)
    p[row, answer] -= 1
    return float((log_sum - logits[row, answer]).mean()), p / len(answer)  # (), (B, L)


def transformer(theta: Arrays, u: Array, answer: Array) -> tuple[Array, float, Arrays]:
    """Logits of the target's label, loss and gradient of the transformer."""
    v, p1 = attend(u, theta, "1")  # (B, T, W), (B, T, T)
    w, p2 = attend(v, theta, "2")  # (B, T, W), (B, T, T)
    logits, z = classify(w[:, -1], theta)  # (B, L); the target is the last token
    loss, d_logits = cross_entropy(logits, answer)  # (), (B, L)

    d_w = np.zeros_like(w)  # (B, T, W)
    d_w[:, -1], by_classifier = classify_backward(z, theta, d_logits)  # (B, W)
    d_v, by_layer2 = attend_backward(v, p2, theta, "2", d_w)  # (B, T, W)
    _, by_layer1 = attend_backward(u, p1, theta, "1", d_v)
    return logits, loss, {**by_layer1, **by_layer2, **by_classifier}


def minimal_head(theta: Arrays, c: Array, answer: Array) -> tuple[Array, float, Arrays]:
    """Logits, loss and gradient of the minimal head; c are the contents, shape (B, T, D)."""
    beta1, alpha, beta2 = (theta[name] for name in ("beta1", "alpha", "beta2"))  # () each
    i, j = np.indices((c.shape[1], c.shape[1]))  # (T, T) each
    p1 = softmax(np.where(j <= i, beta1 * (j == i - 1), -np.inf))  # (T, T)
    overlap = (c @ c[:, -1, :, None])[..., 0]  # (B, T), c_j · c_t
    match = overlap @ p1.T  # (B, T), b_j · c_t with the buffer b_i = Σ_j p1_ij c_j
    p2 = softmax(alpha * match + beta2 * (j[0] % 2))  # (B, T); labels are the odd tokens
    output = (p2[:, None] @ c)[:, 0]  # (B, D)
    logits, z = classify(np.hstack([c[:, -1], output]), theta)  # (B, L)
    loss, d_logits = cross_entropy(logits, answer)  # (), (B, L)

    d_features, gradient = classify_backward(z, theta, d_logits)  # (B, 2 D)
    d_p2 = (c @ d_features[:, c.shape[2] :, None])[..., 0]  # (B, T)
    d_s2 = softmax_backward(p2, d_p2)  # (B, T)
    d_s1 = softmax_backward(p1, alpha * d_s2.T @ overlap)  # (T, T)
    head = {
        "beta1": d_s1[j == i - 1].sum(),  # ()
        "alpha": (d_s2 * match).sum(),  # ()
        "beta2": d_s2[:, 1::2].sum(),  # ()
    }
    return logits, loss, {**head, **gradient}


def descend(theta: Arrays, gradient: Arrays, lr: float, weight_decay: float) -> dict[str, Array]:
    """θ ← (1 − weight_decay) θ − lr ∂loss/∂θ, as new arrays."""
    return {name: (1 - weight_decay) * theta[name] - lr * gradient[name] for name in theta}
