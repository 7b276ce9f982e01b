"""After the fall: what finite dimension leaves of the loss, on landscape and network."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import xarray as xr

from cliff.network import reference
from cliff.network.layers import Network
from cliff.network.logits import effective_logits
from cliff.parallel import one_blas_thread
from cliff.task import Batch
from figures.ensembles import Case, case, gather, train_all

SEEDS = 3
SETTINGS: tuple[dict[str, Any], ...] = (
    {"n_pairs": 8, "n_labels": 32, "dim": 63, "noise": 0.1},
    {"n_pairs": 4, "n_labels": 16, "dim": 63, "noise": 0.1},
    {"n_pairs": 4, "n_labels": 16, "dim": 31, "noise": 0.1},
    {"n_pairs": 4, "n_labels": 16, "dim": 63, "noise": 0.3},
)
N_STEPS = {8: 12_000, 4: 5000}
EVERY = 250
SIZE = 4096
"""Held-out sequences of an evaluation, beside those of `train`."""

CURVES = ("own", "own_attention", "own_classifier", "ideal", "match_dim", "score_noise")


def probe(net: Network, sets: Mapping[str, Batch]) -> dict[str, float]:
    """A network's loss, and what it would be with one of its two halves made ideal.

    ``own``: loss (nats); ``own_attention``: with the logits chord × attention in the place of the
    classifier's; ``own_classifier``: with the attention that the effective logits and the actual
    overlaps give; ``ideal``: with both. ``match_dim``: (tr M)²/tr MᵀM of the match operator M.
    ``score_noise``: variance of the target's scores in layer 2 less those ideal ones.
    """
    task, size = net.task, SIZE if sets["train"].labels.shape[0] >= 512 else 64
    rng = np.random.default_rng(task.seed)
    theta = {name: value.astype(np.float64) for name, value in net.parameters.items()}
    logits = effective_logits(net, sets["train"])
    content = slice(task.window, task.width)
    match = (theta["Q2"].T @ theta["K2"] @ theta["V1"])[content, content]
    rows = [_losses(net, theta, logits, task.sample(rng, 64, "icl")) for _ in range(size // 64)]
    names = (*CURVES[:4], "score_noise")
    return {
        **dict(zip(names, np.mean(rows, axis=0).tolist(), strict=True)),
        "match_dim": float(np.trace(match) ** 2 / (match**2).sum()),
    }


@one_blas_thread()
def _losses(
    net: Network, theta: Mapping[str, Any], logits: Mapping[str, float], batch: Batch
) -> list[float]:
    task, row = net.task, np.arange(len(batch.answer))
    u = reference.tokens(batch, task.label_vectors.astype(np.float64), task.window)
    v, attention1 = reference.attend(u, theta, "1")
    scores = ((v[:, -1] @ theta["Q2"].T)[:, None] @ (v @ theta["K2"].T).transpose(0, 2, 1))[:, 0]
    content = u[:, :, task.window :]
    overlap = np.einsum("bjd,bd->bj", content, content[:, -1])
    label = np.arange(task.n_tokens) % 2
    i, j = np.indices((task.n_tokens, task.n_tokens))
    previous = np.where(j <= i, logits["beta1"] * (j == i - 1), -np.inf)
    known = logits["beta2"] * label
    ideal = logits["alpha"] * overlap @ reference.softmax(previous).T + known
    matched = logits["alpha"] * np.einsum("bij,bj->bi", attention1, overlap) + known

    def loss(scores: Any, classifier: bool) -> float:
        attention = reference.softmax(scores)
        if classifier:
            output = np.einsum("bj,bjw->bw", attention, v) @ theta["V2"].T
            found = reference.classify(v[:, -1] + output, theta)[0]
        else:
            found = np.zeros((len(row), task.n_labels))
            for n in range(task.n_pairs):
                found[row, batch.labels[:, n]] += logits["xi_chord"] * attention[:, 2 * n + 1]
        return reference.cross_entropy(found, batch.answer)[0]

    rest = scores - matched
    noise = (rest - rest.mean(axis=1, keepdims=True)).var()
    return [
        loss(scores, True), loss(scores, False), loss(ideal, True), loss(ideal, False), noise,
    ]  # fmt: skip


def cases(fast: bool = False) -> list[Case]:
    found = []
    for setting in SETTINGS[1:2] if fast else SETTINGS:
        for seed in range(1 if fast else SEEDS):
            steps, every = (20, 10) if fast else (N_STEPS[setting["n_pairs"]], EVERY)
            options = {"eval_every": every, "eval_size": 64 if fast else 512}
            one = case(**setting, seed=seed, n_steps=steps, options=options)
            found.append(replace(one, run=replace(one.run, probes=(probe,))))
    return found


def compute(fast: bool = False) -> xr.Dataset:
    chosen = cases(fast)
    runs = train_all("after_the_fall", chosen, fast)
    names = ("loss", "beta1", "alpha", "xi", "beta2", "xi_chord", *CURVES)
    return gather(chosen, runs, names, ("n_pairs", "n_labels", "dim", "noise", "seed"))
