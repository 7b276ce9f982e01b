"""The nested logit with memory in SymPy, for contexts small enough to write out.

The statement is that of `cliff.NestedLogit` with `cliff.Data`, context by context, as a
`cliff.Landscape`: it compiles, flows, and is derived like any other one. Nothing of it is shared
with the kernels, which it checks.
"""

from __future__ import annotations

from itertools import combinations
from typing import TYPE_CHECKING

import sympy as sp
from sympy import Expr

from cliff.checks import ArgumentError
from cliff.symbolic.formula import ALPHA, BETA1, BETA2, XI
from cliff.symbolic.functions import cross_entropy, log_sum_exp, softmax

if TYPE_CHECKING:
    from cliff.data import Data
    from cliff.landscape import Landscape
    from cliff.nested_logit import NestedLogit

MOST_TOKENS = 400
"""Tokens of all contexts together that are written out: the Hessian takes minutes beyond."""


def with_memory(model: NestedLogit) -> Landscape:
    """The landscape of a nested logit with memory and exact positions, written out.

    Parameters
    ----------
    model : NestedLogit

    Returns
    -------
    Landscape
        Its parameters have the names and the order of the model's; it has the event `memory`. With
        finite D its derivatives are 0/0 where all memories are exactly 0.

    Raises
    ------
    ArgumentError
        If the model has no memory, positions are not exact, or there is too much to write.

    Examples
    --------
    >>> from cliff import Data, NestedLogit
    >>> model = NestedLogit(2, 4, memory=Data(n_classes=4))
    >>> written = with_memory(model)
    >>> theta = [0.1, 0.2, 0.3, 0.4]
    >>> float(abs(written.loss(theta) - model.loss(theta))) < 1e-15
    True
    """
    from cliff.landscape import Landscape

    data, n, labels = model.memory, model.n_pairs, model.n_labels
    if data is None or model.positions != "exact":
        raise ArgumentError("model", model, "must have memory and exact positions")
    sets = list(combinations(range(1, n + 1), data.copies))
    if len(sets) * (2 * n + 1) > MOST_TOKENS:
        raise ArgumentError("n_pairs", n, f"must leave at most {MOST_TOKENS} tokens to write out")
    bias = BETA2 if model.label_bias == "free" else sp.Float(model.label_bias)
    omegas = sp.symbols(f"omega_1:{model.n_groups + 1}", real=True)
    rho = 1 / (1 + sp.Float(data.noise) ** 2)

    def bursty(omega: Expr) -> Expr:
        losses = (_bursty(slots, omega, n, labels, rho, bias, data.labels_drawn) for slots in sets)
        return sp.Add(*losses) / len(sets)

    def by_chance(omega: Expr) -> Expr:
        own = ALPHA / (sp.exp(BETA1) + 2 * n)
        x = XI * softmax([bias, 0, own], 0, weights=[n, n, 1])
        return _drawn(omega, x, n, labels)

    novel, known, chance = (sp.Float(share) for share in data.kinds)
    noise = _noise(omegas, data, labels, rho)
    loss = novel * bursty(-noise) if novel else sp.S.Zero
    alone = sp.S.Zero
    for omega, share in zip(omegas, data.group_shares.tolist(), strict=True):
        loss += share * (known * bursty(omega - noise) if known else 0)
        loss += share * (chance * by_chance(omega - noise) if chance else 0)
        alone += share * log_sum_exp([0, noise - omega], [1, labels - 1])
    core = (BETA1, ALPHA, XI, BETA2)[: model.n_parameters - model.n_groups]
    return Landscape(
        [*core, *omegas],
        loss,
        events={"memory": alone < sp.log(labels) / 2},
        plateau=model.plateau or None,
    )


def _noise(omegas: tuple[sp.Symbol, ...], data: Data, labels: int, rho: Expr) -> Expr:
    """What the noise of other memories adds to the logarithm of every wrong label's weight."""
    if data.dim is None:
        return sp.S.Zero
    unit = [sp.Integer(int(size)) / (labels * data.dim) / rho for size in data.group_sizes]
    variance = sp.Add(*(v * omega**2 for v, omega in zip(unit, omegas, strict=True)))
    # not evaluated, since SymPy does not know that the root of one square is real
    sigma = sp.Pow(variance, sp.Rational(1, 2), evaluate=False)
    return variance / 2 / (1 + sp.sqrt(sp.Add(*unit)) * sigma / 2)


def _bursty(
    slots: tuple[int, ...], omega: Expr, n: int, labels: int, rho: Expr, bias: Expr, kind: str
) -> Expr:
    """Loss of a context whose slots are those of the target's class."""
    E, logits = sp.exp(BETA1), []
    for pair in range(1, n + 1):
        before = sum(slot < pair for slot in slots)
        own = E if pair in slots else 0
        logits.append(ALPHA * rho * (own + before) / (E + 2 * pair - 1) + bias)
    for pair in range(1, n + 1):
        seen = sum(slot <= pair for slot in slots)
        logits.append(ALPHA * rho * seen / (E + 2 * pair - 2 if pair > 1 else 1))
    logits.append(ALPHA * (len(slots) * rho + 1) / (E + 2 * n))
    attention = [XI * q for q in softmax(logits)[:n]]
    y = omega + sp.Add(*(attention[slot - 1] for slot in slots))
    others = [a for pair, a in enumerate(attention, start=1) if pair not in slots]
    n_others = n // len(slots) - 1
    x = sp.Add(*others) / n_others if n_others else sp.S.Zero
    if kind == "replacement":
        return _drawn(y, x, n_others, labels)
    if len(slots) == 1:
        return cross_entropy([y, *others, 0], 0, weights=[1] * n + [labels - n])
    return cross_entropy([y, x, 0], 0, weights=[1, n_others, labels - n_others - 1])


def _drawn(y: Expr, x: Expr, n_others: int, labels: int) -> Expr:
    """Loss of an answer of logit y where the labels of other classes, of logits x, are drawn."""
    if labels == 1:
        return sp.S.Zero
    # logarithm of the mean of a wrong label's factor, where a class has it with chance 1/(L − 1)
    wrong = log_sum_exp([0, x], [labels - 2, 1]) - sp.log(labels - 1)
    losses = []
    for m in range(n_others + 1):
        chance = sp.binomial(n_others, m) * sp.Rational(labels - 1, 1) ** (n_others - m)
        loss = cross_entropy([y + m * x, (n_others - m) * wrong], 0, weights=[1, labels - 1])
        losses.append(chance / sp.Integer(labels) ** n_others * loss)
    return sp.Add(*losses)
