"""The nested-logit loss in compiled code: a fast kernel, and one for every finite theta.

`evaluate` computes loss, gradient and progress measures with plain exponentials and suffix sums, in
a time linear in N. Parameters whose exponentials could overflow go to `evaluate_direct`, which
shifts every softmax by its maximum and also computes the Hessian, in a time quadratic in N. In both

    m_j = overlap of token j's buffer with the target, in layer 1 (beta1),
    q_j = softmax_j(alpha·m_j + beta2·[j is a label]) over all tokens, in layer 2,
    pi  = softmax of xi·q over the labels in the context and the L − N absent ones (logit 0),
    loss = −log pi(correct label), averaged over the slot s of the matching pair.

Derivatives are in the order beta1, alpha, xi, beta2, then the logits e_0 … e_C of memories.

With memory (`cliff.data.Data`) sequences are of three kinds, novel, bursty and by chance, whose
losses are added up by their shares. What the correct label gets from the weights is e_0 in novel
sequences, and e_c for a class of group c; `_effective` makes these of the memories omega_1 …
omega_C, and `_by_omega` derivatives by omega of those by e. What the kernels need to know of the
data is a tuple

    (copies, spread, drawn, elsewhere, bursty, chance, shares, crosstalk),

where a bursty context holds every class `copies` times, in slots S of which the target's are a
random subset; two items of a class overlap by 1/spread, an item with itself by 1; `drawn` says
that labels are drawn with replacement; `elsewhere` is the probability that a label of a context
without the target's class is the correct one; bursty and chance (C + 1,) are the shares of
sequences with the logits e_0 … e_C whose context has the target's class, and has it by chance
(bursty[0] is that of novel ones, chance[0] is 0); `shares` (C,) are those of the groups among known
targets; `crosstalk` (C,) is the standard deviation of the noise that memories of unit strength add
to a label's logit. Overlaps are in units of 1/spread here, and alpha is divided by it instead.
"""

import math

import numpy as np
from numba import carray, njit

from cliff.kernels import entry
from cliff.kernels.generated import address_of_kernel
from cliff.kernels.simd import (
    LANES,
    absolute,
    after,
    any_above,
    broadcast,
    counting,
    exp,
    first,
    fma,
    load,
    log1p,
    powers,
    splat,
    store,
    suffix_sums,
    total,
    where_above,
)

EXACT = 0
MEAN_FIELD = 1

LARGE = 300.0
"""Largest |beta1|, |alpha| + |beta2| and |xi|·q, q any attention to a label, of the fast kernel."""

NEAR = 16
"""Labels up to this slot enter the last softmax one by one; a multiple of LANES."""

TERMS = 12
"""Terms of the series that sums the labels beyond NEAR; a multiple of LANES."""

RADIUS = 0.25
"""Largest argument of the series; its remainder RADIUS^TERMS / TERMS! is then 1.2e-16."""

MODERATE_MEMORY = 50.0
"""Largest |e| of the fast kernel, where e is added to xi·q."""

N_MEASURES = 6
"""ila1, tila2, tla2, cla, p_correct, accuracy."""

N_MEASURES_WITH_MEMORY = 9
"""The same (the accuracy is not computed), then icl, icl_swapped, iwl."""

NO_MEMORY = (1, 1.0, False, 0.0, np.ones(1), np.zeros(1), np.empty(0), np.empty(0))
"""The data of a landscape without memory: novel sequences alone."""

# Rows of the workspace, each with an entry for every slot: exp(alpha·m) of the slot's label when
# an earlier slot matches, the same times m and times dm/dbeta1; overlap m of the label when its own
# slot matches, and its exp(alpha·m + beta2); exp(alpha·m) of the slot's item, times m, times
# dm/dbeta1.
_G, _G_M, _G_SLOPE, _MATCH, _MATCH_FACTOR, _ITEM, _ITEM_M, _ITEM_SLOPE, _ROWS = range(9)

# Columns of the direct kernel's table of tokens for one context. Tokens with the same overlap share
# a row.
_COUNT, _IS_LABEL, _IS_MATCH, _M, _M_1, _M_11, _LOGIT, _Q, _COLUMNS = range(9)

# Columns of its table of labels, whose row 0 is the correct one: how many labels the row stands
# for; the attention q to one of them; the derivatives of xi·q by beta1, alpha, xi, beta2, each less
# its scale; q's second derivatives (11 by alpha, 11, 1a, 1b, aa, ab, bb), less theirs; the logit;
# and the derivative of the loss by it.
_NUMBER, _ATTENTION, _U, _V, _Y, _R, _LABEL_COLUMNS = 0, 1, 2, 6, 13, 14, 15

_SUMS = 32
"""Scratch for sums over labels: slopes (4), second derivatives (7), means (4), moments (16)."""


@njit
def workspace(n, groups=0):
    """Length of the scratch array for n pairs, which Python may give as an array, and C groups."""
    blocks = (n + LANES - 1) // LANES
    fast = LANES * _ROWS * blocks + 3 * TERMS + groups + 1
    return np.maximum(fast, (2 * n + 3) * _COLUMNS + (n + 1) * _LABEL_COLUMNS + _SUMS)


# ---- memories -----------------------------------------------------------------------------------


# inlined down to the loop over slots: as calls, the arrays in their arguments take twice its time
@njit(forceinline=True)
def _unpack(row):
    """The data of a row of constants; see `evaluation_with_memory`."""
    groups = int(row[5])
    bursty, chance, shares, crosstalk = (
        10, 11 + groups, 12 + 2 * groups, 12 + 3 * groups,
    )  # fmt: skip
    return (
        int(row[6]), row[7], row[8] != 0.0, row[9], row[bursty:chance], row[chance:shares],
        row[shares:crosstalk], row[crosstalk : crosstalk + groups],
    )  # fmt: skip


@njit(forceinline=True)
def _effective(omega, crosstalk, logits, slopes):
    """Make the logits e_0 = −A and e_c = omega_c − A of memories that disturb one another.

    With the standard deviation sigma = |crosstalk·omega| of the noise on a label's logit and the
    root |crosstalk| = √v, A = (sigma²/2)/(1 + t), where t = √v·sigma/2. See `cliff.NestedLogit`.

    Parameters
    ----------
    omega, crosstalk : float64 array, shape (C,)
    logits : float64 array, shape (C + 1,), written
        e_0 … e_C. Where there is no crosstalk they are 0 and omega to the last bit.
    slopes : float64 array, shape (C,), written
        Derivatives A_c of A.

    Returns
    -------
    straight, bend : float
        A_cd = bend·A_c·A_d + straight·crosstalk_c²·[c = d]. At omega = 0, where bend diverges as
        1/sigma and the product vanishes as sigma, bend is 0.
    """
    whole, square = 0.0, 0.0
    for k in range(len(omega)):
        whole += crosstalk[k] * crosstalk[k]
    most = 1e100 if whole > 0.0 else 1e290  # whose square, and what it is multiplied by, is finite
    for k in range(len(omega)):
        known = max(-most, min(omega[k], most)) if math.isfinite(omega[k]) else math.nan
        logits[k + 1] = known
        square += (crosstalk[k] * known) * (crosstalk[k] * known)
    root, sigma = math.sqrt(whole), math.sqrt(square)
    t = 0.5 * root * sigma
    left = 1.0 / (1.0 + t)
    straight = (1.0 + 0.5 * t) * left * left
    logits[0] = -0.5 * square * left
    for k in range(len(omega)):
        known = logits[k + 1]
        slopes[k] = crosstalk[k] * crosstalk[k] * known * straight
        # the difference is exactly 0 where one group's memory saturates
        logits[k + 1] = (known + 0.5 * sigma * (root * known - sigma)) * left
    bend = 0.0
    if sigma > 0.0:
        bend = -0.25 * root / sigma * (3.0 + t) * (1.0 + t) / ((1.0 + 0.5 * t) * (1.0 + 0.5 * t))
    return straight, bend


@njit(forceinline=True)
def _by_omega(slopes, derivatives, at):
    """Replace derivatives by e_0 … e_C, the last ones, from `at` on, by those by omega_1 … omega_C.

    Written in place, where the last entry is left over. Returns the sum of those by e.
    """
    whole = 0.0
    for k in range(len(slopes) + 1):
        whole += derivatives[at + k]
    for k in range(len(slopes)):
        derivatives[at + k] = derivatives[at + k + 1] - whole * slopes[k]
    return whole


# ---- moderate parameters ------------------------------------------------------------------------


@njit(forceinline=True)
def evaluate(
    positions, n, n_absent, beta1, alpha, xi, beta2, with_loss, work, out, measures, memory
):
    """Loss, gradient and, if asked for, the measures that come out of them.

    Parameters
    ----------
    positions : int
        EXACT or MEAN_FIELD.
    n : int
        Pairs N.
    n_absent : float
        Labels L − N that are not in the context; negative where fewer labels are drawn.
    beta1, alpha, xi, beta2 : float
    with_loss : bool
        Whether out[0] is wanted; without it the logarithms are saved.
    work : float64 array
        Scratch of length `workspace(n, C)`.
    out : float64 array, shape (6 + C,), or (5,) without memory, written
        Loss (nats) and its derivatives by beta1, alpha, xi, beta2 and e_0 … e_C.
    measures : float64 array, shape (N_MEASURES,), written, or None
        All but the accuracy; None with memory.
    memory : (tuple, float64 array, shape (C + 1,)) or None
        What is known of the data, and the logits e_0 … e_C. None, here and for the measures, is
        resolved when numba compiles, and costs nothing.
    """
    spread = abs(alpha) + abs(beta2)  # of the layer-2 logits; it bounds q by exp(spread)/N
    moderate = abs(beta1) <= LARGE and spread <= LARGE
    moderate = moderate and (abs(xi) <= LARGE or abs(xi) * math.exp(spread) <= LARGE * n)
    finite = (
        math.isfinite(beta1) and math.isfinite(alpha) and math.isfinite(xi) and math.isfinite(beta2)
    )
    if memory is not None:
        data, logits = memory
        moderate = moderate and positions == EXACT and data[0] == 1 and not data[2]
        for k in range(len(logits)):
            moderate = moderate and abs(logits[k]) <= MODERATE_MEMORY
            finite = finite and math.isfinite(logits[k])
    if moderate and positions == EXACT:
        _evaluate_exact(
            n, n_absent, beta1, alpha, xi, beta2, with_loss, work, out, measures, memory
        )  # fmt: skip
    elif moderate:
        _evaluate_mean_field(n, n_absent, beta1, alpha, xi, out, measures)
    elif finite:
        none = np.empty((0, 0))
        values = np.empty(N_MEASURES) if measures is None else measures
        known = (NO_MEMORY, np.zeros(1)) if memory is None else memory
        gradient = np.empty(4 + len(known[1]))
        out[0] = evaluate_direct(
            positions, n, n_absent, beta1, alpha, xi, beta2, known, False, work, gradient, none,
            values,
        )  # fmt: skip
        out[1:] = gradient[: len(out) - 1]
    else:
        out[:] = math.nan


@njit(forceinline=True)
def _evaluate_exact(n, n_absent, beta1, alpha, xi, beta2, with_loss, work, out, measures, memory):
    """Exact positions, for LANES matching slots at a time.

    The factors exp(alpha·m) do not depend on the slot that matches, except for the match's own, so
    that each is computed once. Only the last softmax has a term for every pair of slots. All
    derivatives but those by e_0 … e_C are linear in the inverse of its normaliser, of which these
    have one each.
    """
    blocks = (n + LANES - 1) // LANES
    own = 2.0  # the target sees itself and one of its class
    if memory is not None:
        data, logits = memory
        weights = data[4]
        own = 1.0 + data[1]
        alpha = alpha / data[1]
        factors = LANES * _ROWS * blocks + 3 * TERMS
        for k in range(len(logits)):
            work[factors + k] = math.exp(logits[k])
            out[5 + k] = 0.0
    label_factor = exp(splat(beta2))
    target = own / (exp(splat(beta1)) + 2.0 * n)
    target_factor = exp(alpha * target)
    target_m = target_factor * target
    target_slope = -target_m * (1.0 - (2.0 * n / own) * target)
    _tokens(n, blocks, beta1, alpha, label_factor, work)

    # g is monotonic in the slot, so that slots NEAR + 1 and N bound it
    far = n > NEAR
    labels_row = LANES * _G * blocks
    moments = LANES * _ROWS * blocks
    centre, half_width = 0.0, 1.0
    if far:
        nearest, farthest = work[labels_row + NEAR], work[labels_row + n - 1]
        centre = 0.5 * (nearest + farthest)
        half_width = max(0.5 * abs(nearest - farthest), 1e-300)  # a divisor
        work[moments : moments + 3 * TERMS] = 0.0

    if measures is not None:
        measures[:] = 0.0
    zero = splat(0.0)
    later_labels, later_items, later_m, later_slope = zero, zero, zero, zero
    sum_loss, sum_beta1, sum_alpha, sum_xi, sum_beta2 = zero, zero, zero, zero, zero
    for block in range(blocks - 1, -1, -1):
        start = block * LANES
        slot = counting() + (start + 1.0)
        before = slot - 1.0
        match = load(work, _MATCH * blocks + block)
        match_factor = load(work, _MATCH_FACTOR * blocks + block)
        match_slope = match * (1.0 - match)

        # sums over this slot's item and all later tokens
        labels = suffix_sums(load(work, _G * blocks + block))
        labels_m = suffix_sums(load(work, _G_M * blocks + block))
        labels_slope = suffix_sums(load(work, _G_SLOPE * blocks + block))
        items = suffix_sums(load(work, _ITEM * blocks + block))
        items_m = suffix_sums(load(work, _ITEM_M * blocks + block))
        items_slope = suffix_sums(load(work, _ITEM_SLOPE * blocks + block))
        off_labels = (before + target_factor) + (items + later_items)
        other_labels = label_factor * (before + after(labels) + later_labels)
        others = other_labels + off_labels
        others_m = fma(label_factor, after(labels_m), items_m) + (later_m + target_m)
        others_slope = fma(label_factor, after(labels_slope), items_slope) + (
            later_slope + target_slope
        )
        later_labels = later_labels + first(labels)
        later_items = later_items + first(items)
        later_m = later_m + first(fma(label_factor, labels_m, items_m))
        later_slope = later_slope + first(fma(label_factor, labels_slope, items_slope))

        # layer 2: overlaps relative to the match's, which keeps their digits when it dominates
        inverse_z = 1.0 / (match_factor + others)
        q_match = match_factor * inverse_z
        q_before = label_factor * inverse_z
        lead_m = inverse_z * (match * others - others_m)
        lead_slope = inverse_z * (match_slope * others - others_slope)

        # readout: labels before the match have the logit c, label k after it has c·g_k
        c = xi * q_before
        e_match = exp(xi * q_match)
        # slot 1 has none before it, and there c is unbounded
        e_before = exp(where_above(before, 0.5, c, 0.0)) * before
        sums = zero, zero, zero, zero
        for k in range(start + 1, min(start + LANES, n)):
            e = where_above(k + 1.0, slot, exp(c * broadcast(work, labels_row + k)), 0.0)
            sums = _add_label(k, e, sums, blocks, work)
        stop = n
        if far:
            u = c * half_width
            if not any_above(absolute(u), RADIUS):
                stop = max(start + LANES, NEAR)
                if stop < n:
                    sums = _add_series(c, u, centre, half_width, moments, sums, work)
        for k in range(start + LANES, stop):
            e = exp(c * broadcast(work, labels_row + k))
            sums = _add_label(k, e, sums, blocks, work)
        e_after, e_g, e_m, e_slope = sums

        rest = (e_before + e_after) + n_absent
        if memory is None:
            inverse_w = 1.0 / (rest + e_match)
        else:
            inverse_w = zero
            for k in range(len(logits)):
                if weights[k] > 0.0:
                    part = weights[k] / (rest + e_match * work[factors + k])
                    inverse_w = inverse_w + part
                    out[5 + k] -= total(where_above(n + 0.5, slot, rest * part, 0.0))
        scale = inverse_w * q_before
        e_g = e_g + e_before
        by_xi = scale * e_g - rest * inverse_w * q_match
        by_alpha = fma(by_xi, lead_m, scale * (e_m - match * e_g))
        by_beta1 = fma(by_xi, lead_slope, scale * (e_slope - match_slope * e_g))
        by_beta2 = by_xi * (inverse_z * off_labels)
        if start + LANES > n:  # slots beyond N
            by_xi = where_above(n + 0.5, slot, by_xi, 0.0)
            by_alpha = where_above(n + 0.5, slot, by_alpha, 0.0)
            by_beta1 = where_above(n + 0.5, slot, by_beta1, 0.0)
            by_beta2 = where_above(n + 0.5, slot, by_beta2, 0.0)
            rest = where_above(n + 0.5, slot, rest, 0.0)
        sum_xi, sum_alpha = sum_xi + by_xi, sum_alpha + by_alpha
        sum_beta1, sum_beta2 = sum_beta1 + by_beta1, sum_beta2 + by_beta2
        if with_loss:
            if memory is None:
                sum_loss = sum_loss + log1p(rest / e_match)
            else:
                for k in range(len(logits)):
                    if weights[k] > 0.0:
                        ratio = rest / (e_match * work[factors + k])
                        sum_loss = sum_loss + weights[k] * log1p(ratio)
        if measures is not None:
            p_match = e_match * inverse_w
            _add_measure(measures, 0, n, slot, match)
            _add_measure(measures, 1, n, slot, q_match)
            _add_measure(measures, 2, n, slot, (match_factor + other_labels) * inverse_z)
            _add_measure(measures, 3, n, slot, (e_before + e_after) * inverse_w + p_match)
            _add_measure(measures, 4, n, slot, p_match)
        if start >= NEAR:
            for k in range(start, min(start + LANES, n)):
                _add_to_moments(k, centre, half_width, moments, blocks, work)

    share = 1.0 / n
    out[0] = total(sum_loss) * share
    out[1] = total(sum_beta1) * (xi * alpha * share)
    out[2] = total(sum_alpha) * (xi * share)
    out[3] = total(sum_xi) * share
    out[4] = total(sum_beta2) * (xi * share)
    if memory is not None:
        for k in range(len(logits)):
            out[5 + k] *= share
        if data[5][-1] > 0.0:
            none, values = np.empty((0, 0)), np.empty(N_MEASURES)
            out[0] += _by_chance(
                EXACT, n, n + n_absent, beta1, alpha, xi, beta2, memory, False, work, out[1:],
                none, values,
            )  # fmt: skip
        out[2] /= data[1]


@njit(forceinline=True)
def _add_measure(measures, index, n, slot, values):
    """Add the mean over the slots up to N."""
    measures[index] += total(where_above(n + 0.5, slot, values, 0.0)) / n


@njit(forceinline=True)
def _tokens(n, blocks, beta1, alpha, label_factor, work):
    """Overlaps and attention factors of every label and item."""
    E = exp(splat(beta1))
    for block in range(blocks):
        slot = counting() + (block * LANES + 1.0)
        label = 1.0 / (E + (2.0 * slot - 1.0))
        match = E * label
        item = 1.0 / (E + (2.0 * slot - 2.0))
        item_slope = -item * (1.0 - (2.0 * slot - 2.0) * item)
        if block == 0:  # the first item sees itself alone, whatever beta1
            item = where_above(1.5, slot, 1.0, item)
            item_slope = where_above(1.5, slot, 0.0, item_slope)
        label_weight, item_weight = exp(alpha * label), exp(alpha * item)
        if block == blocks - 1:  # slots beyond N
            label_weight = where_above(n + 0.5, slot, label_weight, 0.0)
            item_weight = where_above(n + 0.5, slot, item_weight, 0.0)
        label_m, item_m = label_weight * label, item_weight * item
        label_slope, item_slope = -label_m * match, item_weight * item_slope
        store(work, _G * blocks + block, label_weight)
        store(work, _G_M * blocks + block, label_m)
        store(work, _G_SLOPE * blocks + block, label_slope)
        store(work, _MATCH * blocks + block, match)
        store(work, _MATCH_FACTOR * blocks + block, label_factor * exp(alpha * match))
        store(work, _ITEM * blocks + block, item_weight)
        store(work, _ITEM_M * blocks + block, item_m)
        store(work, _ITEM_SLOPE * blocks + block, item_slope)


@njit(forceinline=True)
def _add_label(k, e, sums, blocks, work):
    """Add e = exp(c·g_k) times 1, g_k, g_k·m_k and g_k·dm_k/dbeta1."""
    length = LANES * blocks
    return (
        sums[0] + e,
        fma(e, broadcast(work, _G * length + k), sums[1]),
        fma(e, broadcast(work, _G_M * length + k), sums[2]),
        fma(e, broadcast(work, _G_SLOPE * length + k), sums[3]),
    )


_RECIPROCALS = tuple(1.0 / max(j, 1) for j in range(TERMS))


@njit(forceinline=True)
def _add_series(c, u, centre, half_width, moments, sums, work):
    """Add all labels in the moments to `sums`, as `_add_label` does one by one.

    With g_k = centre + half_width·rho_k, |rho_k| ≤ 1, and u = c·half_width, exp(c·g_k) is
    exp(c·centre)·Σ_j (u·rho_k)^j / j!, so that its sums over k are the moments, Σ w_k·rho_k^j.
    """
    by_m, by_slope = moments + TERMS, moments + 2 * TERMS
    top = TERMS - 1
    s_after = broadcast(work, moments + top)
    s_m, s_slope = broadcast(work, by_m + top), broadcast(work, by_slope + top)
    s_rho = s_after  # Σ rho_k·exp(u·rho_k), the derivative of the first series
    for j in range(top, 0, -1):
        v = u * _RECIPROCALS[j]
        if j < top:
            s_rho = fma(s_rho, v, broadcast(work, moments + j))
        s_after = fma(s_after, v, broadcast(work, moments + j - 1))
        s_m = fma(s_m, v, broadcast(work, by_m + j - 1))
        s_slope = fma(s_slope, v, broadcast(work, by_slope + j - 1))
    factor = exp(c * centre)
    return (
        fma(factor, s_after, sums[0]),
        fma(factor, fma(s_after, centre, s_rho * half_width), sums[1]),
        fma(factor, s_m, sums[2]),
        fma(factor, s_slope, sums[3]),
    )


@njit(forceinline=True)
def _add_to_moments(k, centre, half_width, moments, blocks, work):
    """Add label k to the moments Σ w_k·rho_k^j, w = 1, g·m and g·dm/dbeta1; see `_add_series`."""
    length = LANES * blocks
    rho = (work[_G * length + k] - centre) / half_width
    g_m, g_slope = broadcast(work, _G_M * length + k), broadcast(work, _G_SLOPE * length + k)
    rho_to_j = powers(rho)
    step = rho**LANES
    for j in range(TERMS // LANES):
        row = moments // LANES + j
        by_m, by_slope = row + TERMS // LANES, row + 2 * TERMS // LANES
        store(work, row, load(work, row) + rho_to_j)
        store(work, by_m, fma(rho_to_j, g_m, load(work, by_m)))
        store(work, by_slope, fma(rho_to_j, g_slope, load(work, by_slope)))
        rho_to_j = rho_to_j * step


@njit(forceinline=True)
def _evaluate_mean_field(n, n_absent, beta1, alpha, xi, out, measures):
    """Mean field: the match against N − 1 equal labels; beta2 shifts all logits, to no effect."""
    others = n - 1.0
    E = math.exp(beta1)
    p1 = E / (E + n)
    factor = math.exp(alpha * p1)
    inverse_z = 1.0 / (factor + others)  # attention to each other label
    p2 = factor * inverse_z
    e_match = math.exp(xi * p2)
    e_others = others * math.exp(xi * inverse_z) if n > 1 else 0.0
    rest = e_others + n_absent
    inverse_w = 1.0 / (rest + e_match)
    pull, push = -rest * inverse_w, e_others * inverse_w
    by_match = xi * p2 * inverse_z * (pull * others - push)  # derivative by the logit alpha·p1
    out[0] = math.log1p(rest / e_match)
    out[1] = by_match * alpha * p1 * (n / (E + n))
    out[2] = by_match * p1
    out[3] = push * inverse_z + pull * p2
    out[4] = 0.0
    if measures is not None:
        measures[0], measures[1], measures[2] = p1, p2, 1.0
        measures[4] = e_match * inverse_w
        measures[3] = push + measures[4]


@entry
def evaluate_batch(positions, n, n_absent, theta, with_loss, out, row=None):
    """`evaluate` for theta of shape (m, 4 + C) into out of shape (m, 5 + C), by omega.

    `row` is that of `evaluation_with_memory`, or None.
    """
    groups = theta.shape[1] - 4
    work, values = np.empty(workspace(n, groups)), np.empty(6 + groups)
    logits, slopes = np.empty(1 + groups), np.empty(groups)
    data = NO_MEMORY if row is None else _unpack(row)
    for k in range(theta.shape[0]):
        beta1, alpha, xi, beta2 = theta[k, 0], theta[k, 1], theta[k, 2], theta[k, 3]
        if row is None:
            evaluate(
                positions, n, n_absent, beta1, alpha, xi, beta2, with_loss, work, out[k], None, None
            )  # fmt: skip
        else:
            _effective(theta[k, 4:], data[7], logits, slopes)
            evaluate(
                positions, n, n_absent, beta1, alpha, xi, beta2, with_loss, work, values, None,
                (data, logits),
            )  # fmt: skip
            _by_omega(slopes, values, 5)
            for i in range(5 + groups):
                out[k, i] = values[i]


@entry
def measure_batch(positions, n, n_absent, theta, out, measures):
    """`evaluate` and all measures for theta (m, 4) into out (m, 5) and measures (m, N_MEASURES)."""
    work = np.empty(workspace(n, 0))
    for k in range(theta.shape[0]):
        beta1, alpha, xi, beta2 = theta[k]
        evaluate(
            positions, n, n_absent, beta1, alpha, xi, beta2, True, work, out[k], measures[k], None
        )  # fmt: skip
        measures[k, 5] = _accuracy(positions, n, n_absent, beta1, alpha, xi)


@njit
def _accuracy(positions, n, n_absent, beta1, alpha, xi):
    """Share of slots whose most probable label is the correct one; ties count 1/(labels tied).

    The order of the probabilities is that of xi·q, and the order of q within the context is that of
    alpha·m: the match against 0 (labels before it) and 1/(E + 2k − 1) (label k after it). Absent
    labels have the logit 0.
    """
    if xi == 0.0:
        return 1.0 / (n + n_absent)
    if xi < 0.0 and n_absent > 0.0:
        return 0.0
    strength = alpha if xi > 0.0 else -alpha
    if positions != EXACT:
        overlap = strength * _shares(beta1, 1.0 * n)[0]
        return 1.0 if n == 1 or overlap > 0.0 else 1.0 / n if overlap == 0.0 else 0.0
    correct = 0.0
    best_after, tied = -np.inf, 0.0  # the largest after the match, and how many labels have it
    for s in range(n, 0, -1):
        seen, other = _shares(beta1, 2.0 * s - 1.0)[:2]
        match, here = strength * seen, strength * other
        best = max(best_after, 0.0) if s > 1 else best_after
        if match > best:
            correct += 1.0
        elif match == best:
            rivals = tied if best_after == best else 0.0
            rivals += s - 1.0 if best == 0.0 else 0.0
            correct += 1.0 / (1.0 + rivals)
        if here > best_after:
            best_after, tied = here, 1.0
        elif here == best_after:
            tied += 1.0
    return correct / n


def evaluation(theta, constants, want, work, out):
    """`evaluate` as `cliff.kernels.generated` wants it.

    The row of constants is N, L, the label bias, positions, and whether the label bias is the last
    component of theta instead. out[4] is written in any case.
    """
    n = int(constants[0])
    evaluate(
        int(constants[3]), n, constants[1] - constants[0], theta[0], theta[1], theta[2],
        theta[3] if constants[4] != 0.0 else constants[2], want != 0,
        carray(work, workspace(n, 0)), carray(out, 5), None, None,
    )  # fmt: skip


def evaluation_with_memory(theta, constants, want, work, out):
    """`evaluation` with memory logits behind the other components of theta.

    In the row of constants follow C, the copies, the spread, whether labels are drawn, the
    probability of the correct label elsewhere, then the arrays bursty, chance, shares and crosstalk
    of the data. The event `memory` comes last.
    """
    n, groups = int(constants[0]), int(constants[5])
    core = 4 if constants[4] != 0.0 else 3
    row = carray(constants, 12 + 4 * groups)
    data = _unpack(row)
    scratch = carray(work, 7 + 3 * groups + workspace(n, groups))
    values, logits = scratch[: 6 + groups], scratch[6 + groups : 7 + 2 * groups]
    slopes = scratch[7 + 2 * groups : 7 + 3 * groups]
    _effective(carray(theta, core + groups)[core:], data[7], logits, slopes)
    evaluate(
        int(constants[3]), n, constants[1] - constants[0], theta[0], theta[1], theta[2],
        theta[3] if core == 4 else constants[2], want != 0, scratch[7 + 3 * groups :], values, None,
        (data, logits),
    )  # fmt: skip
    _by_omega(slopes, values, 5)
    for i in range(1 + core):
        out[i] = values[i]
    for k in range(groups):
        out[1 + core + k] = values[5 + k]
    if want != 0:
        out[1 + core + groups] = _memory_alone(logits, data[6], row[1])


@njit(forceinline=True)
def _memory_alone(logits, shares, n_labels):
    """Loss of an answer from the weights alone, less half of that of a guess (nats)."""
    value = -0.5 * math.log(n_labels)
    if n_labels > 1.0:
        for k in range(len(shares)):
            value += shares[k] * _softplus(math.log(n_labels - 1.0) - logits[k + 1])[0]
    return value


def evaluation_address(with_memory):
    """Address of the evaluation as a C function."""
    return address_of_kernel(evaluation_with_memory if with_memory else evaluation)


# ---- any finite parameters, one slot at a time --------------------------------------------------


@njit
def _shares(beta1, k):
    """(E, 1)/(E + k) and their first two derivatives by beta1, for any beta1 and k ≥ 0."""
    small = math.exp(-abs(beta1))
    up, one = (1.0, small) if beta1 >= 0.0 else (small, 1.0)
    whole = up + k * one
    seen, other = up / whole, one / whole
    rest = k * other  # 1 − seen
    return (
        seen,
        other,
        seen * rest,
        -seen * other,
        seen * rest * (rest - seen),
        -seen * other * (rest - seen),
    )


@njit
def _set_token(table, row, count, is_label, is_match, m, m_1, m_11):
    table[row, _COUNT], table[row, _IS_LABEL], table[row, _IS_MATCH] = count, is_label, is_match
    table[row, _M], table[row, _M_1], table[row, _M_11] = m, m_1, m_11


@njit
def _exact_tokens(n, chosen, beta1, spread, table):
    """Write the table of tokens when the chosen slots match; row 0 is a match. Return its length.

    A token overlaps with the target by what it sees of the matching items.
    """
    copies = len(chosen)
    for row in range(copies):  # a match sees its own item, and those before it
        seen, other, seen_1, other_1, seen_11, other_11 = _shares(beta1, 2.0 * chosen[row] - 1.0)
        _set_token(
            table, row, 1.0, 1.0, 1.0, seen + row * other, seen_1 + row * other_1,
            seen_11 + row * other_11,
        )  # fmt: skip
    row, before = copies, chosen[0] - 1
    if before > 0:  # labels and items before the first match
        _set_token(table, row, 1.0 * before, 1.0, 0.0, 0.0, 0.0, 0.0)
        _set_token(table, row + 1, 1.0 * before, 0.0, 0.0, 0.0, 0.0, 0.0)
        row += 2
    for offset in (1.0, 2.0):  # labels, then items
        passed = 0
        for k in range(before + 1, n + 1):
            is_match = passed < copies and chosen[passed] == k
            passed += is_match
            if offset == 1.0 and is_match:
                continue
            other, other_1, other_11 = 1.0, 0.0, 0.0  # the first item sees itself alone
            if k > 1 or offset == 1.0:
                _, other, _, other_1, _, other_11 = _shares(beta1, 2.0 * k - offset)
            _set_token(
                table, row, 1.0, 2.0 - offset, 0.0, passed * other, passed * other_1,
                passed * other_11,
            )  # fmt: skip
            row += 1
    return _add_target(n, copies + spread, beta1, table, row)


@njit
def _add_target(n, own, beta1, table, row):
    """The target, which sees itself and its copies."""
    _, other, _, other_1, _, other_11 = _shares(beta1, 2.0 * n)
    _set_token(table, row, 1.0, 0.0, 0.0, own * other, own * other_1, own * other_11)
    return row + 1


@njit
def _mean_field_tokens(n, beta1, table):
    """Write the table of the mean field: the match, and N − 1 other labels. Return its length."""
    seen, _, seen_1, _, seen_11, _ = _shares(beta1, 1.0 * n)
    _set_token(table, 0, 1.0, 1.0, 1.0, seen, seen_1, seen_11)
    _set_token(table, 1, n - 1.0, 1.0, 0.0, 0.0, 0.0, 0.0)
    return min(n, 2)


@njit
def _tokens_by_chance(positions, n, beta1, spread, table):
    """Write the table of a context without the target's class. Return its length."""
    _set_token(table, 0, 1.0 * n, 1.0, 0.0, 0.0, 0.0, 0.0)
    if positions != EXACT:
        return 1
    _set_token(table, 1, 1.0 * n, 0.0, 0.0, 0.0, 0.0, 0.0)
    return _add_target(n, spread, beta1, table, 2)


@njit
def _next_subset(chosen, n):
    """Replace an increasing tuple of 1 … n by the next one, if there is one."""
    size = len(chosen)
    for i in range(size - 1, -1, -1):
        if chosen[i] < n - size + 1 + i:
            chosen[i] += 1
            for j in range(i + 1, size):
                chosen[j] = chosen[j - 1] + 1
            return


@njit
def _tables(n, work):
    """The table of tokens, that of labels, and room for sums over labels."""
    tokens, labels = (2 * n + 3) * _COLUMNS, (n + 1) * _LABEL_COLUMNS
    return (
        work[:tokens].reshape((2 * n + 3, _COLUMNS)),
        work[tokens : tokens + labels].reshape((n + 1, _LABEL_COLUMNS)),
        work[tokens + labels : tokens + labels + _SUMS],
    )


@njit
def evaluate_direct(
    positions, n, n_absent, beta1, alpha, xi, beta2, memory, with_hessian, work, gradient, hessian,
    measures,
):  # fmt: skip
    """Loss, gradient, Hessian and progress measures at any finite parameters.

    Parameters
    ----------
    positions, n, n_absent, beta1, alpha, xi, beta2, work
        As `evaluate`.
    memory : (tuple, float64 array, shape (C + 1,))
        As `evaluate`; `NO_MEMORY` and a zero without memory.
    with_hessian : bool
    gradient : float64 array, shape (5 + C,), written
    hessian : float64 array, shape (5 + C, 5 + C), whose upper triangle is written if `with_hessian`
    measures : float64 array, shape (N_MEASURES,) or (N_MEASURES_WITH_MEMORY,), written
        All but the accuracy.

    Returns
    -------
    float
        The loss (nats).
    """
    data, logits = memory
    copies, spread, drawn, _, bursty, chance, shares, _ = data
    gradient[:] = 0.0
    hessian[:] = 0.0
    measures[:] = 0.0
    loss, slots, n_labels = 0.0, 1, n + n_absent
    table, labels, sums = _tables(n, work)
    others, merged = n // copies - 1, drawn or copies > 1
    vote = drawn, others, 1.0 * n_labels
    alpha = alpha / spread
    xi = max(-1e300, min(xi, 1e300))  # sums over slots stay finite
    chosen = np.arange(1, copies + 1)
    if positions == EXACT:
        for i in range(copies):
            slots = slots * (n - i) // (i + 1)
    for _ in range(slots):
        if positions == EXACT:
            rows = _exact_tokens(n, chosen, beta1, spread, table)
        else:
            rows = _mean_field_tokens(n, beta1, table)
        length, on_labels = _attend(
            table, rows, alpha, beta2, merged, others, with_hessian, labels, sums
        )  # fmt: skip
        own = _answer(
            labels, length, on_labels, vote, alpha, xi, logits, bursty, with_hessian, sums,
            gradient, hessian, measures,
        )  # fmt: skip
        loss += own / slots
        if len(measures) > N_MEASURES:
            _add_answers(labels, length, vote, xi, logits, shares, measures)
        _next_subset(chosen, n)
    gradient /= slots
    hessian /= slots
    measures /= slots
    for k in range(1, n + 1):  # a label's attention to the item before it
        measures[0] += _shares(beta1, 2.0 * k - 1.0 if positions == EXACT else 1.0 * n)[0] / n
    if chance[-1] > 0.0 or len(measures) > N_MEASURES:
        loss += _by_chance(
            positions, n, n_labels, beta1, alpha, xi, beta2, memory, with_hessian, work, gradient,
            hessian, measures,
        )  # fmt: skip
    gradient[1] /= spread
    if with_hessian:
        hessian[1] /= spread
        hessian[:, 1] /= spread
    return loss


@njit
def _by_chance(
    positions, n, n_labels, beta1, alpha, xi, beta2, memory, with_hessian, work, gradient, hessian,
    measures,
):  # fmt: skip
    """Add what sequences give whose context has the target's class by chance alone.

    Parameters are as of `evaluate_direct`, alpha in units of the spread.
    """
    (_, spread, _, elsewhere, _, chance, shares, _), logits = memory
    table, labels, sums = _tables(n, work)
    rows = _tokens_by_chance(positions, n, beta1, spread, table)
    length, on_labels = _attend(
        table, rows, alpha, beta2, True, n, with_hessian, labels, sums
    )  # fmt: skip
    if len(measures) > N_MEASURES:
        x, log_wrong = xi * labels[1, _ATTENTION], math.log(max(n_labels - 1.0, 1.0))
        for k in range(len(shares)):
            answer = _drawn(x, logits[k + 1], n, n_labels, elsewhere, log_wrong, False)
            measures[8] += shares[k] * answer[7]
    vote = True, n, 1.0 * n_labels
    return _answer(
        labels, length, on_labels, vote, alpha, xi, logits, chance, with_hessian, sums, gradient,
        hessian, measures,
    )  # fmt: skip


@njit
def _attend(table, rows, alpha, beta2, merged, others, with_hessian, labels, sums):
    """Write the table of labels from that of tokens: layer 2.

    With x_j the logits, subscripts i for derivatives by parameter i, and <·> for means over tokens
    weighted by q,
        q_i  = q (x_i − <x_i>),
        q_ij = q [(x_i − <x_i>)(x_j − <x_j>) + x_ij − <x_ij> − cov(x_i, x_j)].

    Parameters
    ----------
    table, rows
        The table of tokens and its length.
    alpha, beta2 : float
    merged : bool
        Whether all labels but the match share row 1, with the mean of their attention.
    others : int
        How many labels row 1 stands for then.
    with_hessian : bool
    labels : float64 array, written
    sums : float64 array
        Scratch.

    Returns
    -------
    length : int
        Rows of the table of labels.
    on_labels : float
        Attention to all labels.
    """
    largest = -np.inf
    for row in range(rows):
        # halved, which is exact: the sum could overflow
        table[row, _LOGIT] = 0.5 * alpha * table[row, _M] + 0.5 * beta2 * table[row, _IS_LABEL]
        largest = max(largest, table[row, _LOGIT])
    z = 0.0
    for row in range(rows):
        table[row, _Q] = math.exp(2.0 * (table[row, _LOGIT] - largest))
        z += table[row, _COUNT] * table[row, _Q]

    # means over tokens of x_i (beta1, alpha, beta2) and of the second derivatives; overlaps are
    # relative to the match's, which keeps the digits of differences when it dominates
    m_0, m1_0, m11_0 = table[0, _M], table[0, _M_1], table[0, _M_11]
    mean_m, mean_m1, mean_m11, on_labels, off_labels = 0.0, 0.0, 0.0, 0.0, 0.0
    mm, mm1, m1m1, lm, lm1 = 0.0, 0.0, 0.0, 0.0, 0.0
    for row in range(rows):
        table[row, _Q] /= z
        q = table[row, _COUNT] * table[row, _Q]
        m, m1, label = table[row, _M] - m_0, table[row, _M_1] - m1_0, table[row, _IS_LABEL]
        mean_m += q * m
        mean_m1 += q * m1
        mean_m11 += q * (table[row, _M_11] - m11_0)
        on_labels += q * label
        off_labels += q * (1.0 - label)
        mm += q * m * m
        mm1 += q * m * m1
        m1m1 += q * m1 * m1
        lm += q * label * m
        lm1 += q * label * m1

    length = 2 if merged and others > 0 else 1
    labels[:2] = 0.0
    labels[0, _NUMBER], labels[1, _NUMBER] = 1.0, others
    for row in range(rows):
        if table[row, _IS_LABEL] == 0.0:
            continue
        at, share = 0, 1.0
        if table[row, _IS_MATCH] == 0.0:
            if merged:
                at, share = 1, table[row, _COUNT] / others
            else:
                at = length
                length += 1
                labels[at] = 0.0
                labels[at, _NUMBER] = table[row, _COUNT]
        q = share * table[row, _Q]
        m, m1 = table[row, _M] - m_0, table[row, _M_1] - m1_0
        dm, dm1, dl = m - mean_m, m1 - mean_m1, off_labels
        labels[at, _ATTENTION] += q
        labels[at, _U] += q * dm1
        labels[at, _U + 1] += q * dm
        labels[at, _U + 2] += q
        labels[at, _U + 3] += q * dl
        if with_hessian:
            labels[at, _V] += q * (dm1 * dm1 - (m1m1 - mean_m1 * mean_m1))
            labels[at, _V + 1] += q * (table[row, _M_11] - m11_0 - mean_m11)
            labels[at, _V + 2] += q * (dm1 * dm - (mm1 - mean_m * mean_m1))
            labels[at, _V + 3] += q * (dm1 * dl - (lm1 - on_labels * mean_m1))
            labels[at, _V + 4] += q * (dm * dm - (mm - mean_m * mean_m))
            labels[at, _V + 5] += q * (dm * dl - (lm - on_labels * mean_m))
            labels[at, _V + 6] += q * (dl * dl - on_labels * off_labels)
    return length, on_labels


@njit
def _answer(
    labels, length, on_labels, vote, alpha, xi, logits, weights, with_hessian, sums, gradient,
    hessian, measures,
):  # fmt: skip
    """Add one context's gradient, Hessian and measures; return its loss. See `evaluate_direct`.

    With the logits y_n = xi·q_n, the correct one's plus e_0 … e_C in turn, and f the loss as their
    function,
        loss_i  = Σ f_n y_n,i,
        loss_ij = Σ f_n y_n,ij + Σ f_nk y_n,i y_k,j.

    Parameters
    ----------
    labels, length, on_labels
        Of `_attend`.
    vote : (bool, int, float)
        Whether labels are drawn, how many of the context are not the match's, and L.
    alpha, xi : float
    logits, weights : float64 array, shape (C + 1,)
        e_0 … e_C, and the weights of the losses with them.
    with_hessian : bool
    sums : float64 array
        Scratch.
    gradient, hessian, measures
        As `evaluate_direct`, added to.
    """
    drawn, others, n_labels = vote
    slope, curve, cross = sums[:4], sums[4:11], sums[11:15]
    second = sums[16:32].reshape((4, 4))  # Σ f_nk u_n,i u_k,j
    sums[:] = 0.0
    both = _bounded(xi * alpha)
    scale = (both, xi, 1.0, xi)  # of u over beta1, alpha, xi, beta2: they may be huge
    loss, on_match = 0.0, labels[0, _ATTENTION]
    if drawn and length > 1:
        on_match += labels[1, _ATTENTION] * others / n_labels
    for k in range(len(logits)):
        memory, weight = logits[k], weights[k]
        if weight == 0.0:
            continue
        if drawn:
            own, pull, own_curve, present, correct = _vote_drawn(
                labels, length, others, n_labels, xi, memory, weight, with_hessian, cross, second
            )  # fmt: skip
        else:
            own, pull, own_curve, present, correct = _vote_distinct(
                labels, length, n_labels - others - 1, xi, memory, weight, with_hessian, cross,
                second,
            )  # fmt: skip
        loss += weight * own
        measures[1] += weight * on_match
        measures[2] += weight * on_labels
        measures[3] += weight * present
        measures[4] += weight * correct
        gradient[4 + k] -= weight * pull
        if with_hessian:
            hessian[4 + k, 4 + k] += weight * own_curve
            for i in range(4):
                hessian[i, 4 + k] += _bounded(weight * cross[i] * scale[i])

    for at in range(length):
        r = labels[at, _R]
        for i in range(4):
            slope[i] += r * labels[at, _U + i]
        if with_hessian:
            for i in range(7):
                curve[i] += r * labels[at, _V + i]
    for i in range(4):
        gradient[i] += _bounded(slope[i] * scale[i])
    if with_hessian:
        for i in range(4):
            for j in range(i, 4):
                hessian[i, j] += _bounded(_bounded(second[i, j] * scale[i]) * scale[j])
        hessian[0, 0] += _bounded(both * (_bounded(alpha * curve[0]) + curve[1]))
        hessian[0, 1] += _bounded(xi * (_bounded(alpha * curve[2]) + slope[0]))
        hessian[0, 2] += _bounded(alpha * slope[0])
        hessian[0, 3] += _bounded(both * curve[3])
        hessian[1, 1] += _bounded(xi * curve[4])
        hessian[1, 2] += slope[1]
        hessian[1, 3] += _bounded(xi * curve[5])
        hessian[2, 3] += slope[3]
        hessian[3, 3] += _bounded(xi * curve[6])
    return loss


@njit
def _vote_distinct(labels, length, n_absent, xi, memory, weight, with_hessian, cross, second):
    """Every label of the table against the correct one, and the absent ones.

    With pi the probabilities, f_n = pi_n − [correct] and f_nk = pi_n [n = k] − pi_n pi_k.

    Returns
    -------
    loss, pull, curve, present, correct : float
        f; −f and f's second derivative by the logit of the correct label; the probabilities of the
        context's labels and of the correct one. Written: f_n, added with the weight to the table of
        labels; Σ f_nk u_n,i u_k,j with the weight, added to `second`; the sums of f_nk u_n,i with
        the correct k, to `cross`.
    """
    top = -np.inf if n_absent <= 0.0 else 0.0
    for at in range(length):
        labels[at, _Y] = xi * labels[at, _ATTENTION] + (memory if at == 0 else 0.0)
        top = max(top, labels[at, _Y])
    rest = n_absent * math.exp(-top) if n_absent > 0.0 else 0.0
    present = 0.0
    for at in range(1, length):
        present += labels[at, _NUMBER] * math.exp(labels[at, _Y] - top)
    rest += present
    correct = math.exp(labels[0, _Y] - top)
    whole = rest + correct
    loss = (top - labels[0, _Y]) + math.log(whole)
    if correct > 0.5 * rest:  # small losses keep their digits
        loss = math.log1p(rest / correct)
    pull, p_correct = rest / whole, correct / whole

    cross[:] = 0.0  # at first the mean of u
    for at in range(length):
        pi = math.exp(labels[at, _Y] - top) / whole
        r = pi if at > 0 else -pull
        labels[at, _R] += weight * (r * labels[at, _NUMBER])
        if with_hessian:
            pi *= labels[at, _NUMBER]
            for i in range(4):
                cross[i] += pi * labels[at, _U + i]
                for j in range(i, 4):
                    second[i, j] += weight * (pi * labels[at, _U + i] * labels[at, _U + j])
    if with_hessian:
        for i in range(4):
            for j in range(i, 4):
                second[i, j] -= weight * (cross[i] * cross[j])
        for i in range(4):
            cross[i] = p_correct * (labels[0, _U + i] - cross[i])
    return loss, pull, p_correct * pull, (present + correct) / whole, p_correct


@njit
def _vote_drawn(labels, length, others, n_labels, xi, memory, weight, with_hessian, cross, second):
    """`_vote_distinct` where the labels beside the match's are drawn; see `_drawn`."""
    x = xi * labels[1, _ATTENTION]
    y = xi * labels[0, _ATTENTION] + memory
    f, f_x, f_y, f_xx, f_xy, f_yy, present, correct = _drawn(
        x, y, others, n_labels, 1.0 / n_labels, math.log(max(n_labels - 1.0, 1.0)),
        labels[0, _ATTENTION] > 0.0,
    )  # fmt: skip
    labels[0, _R] += weight * f_y
    labels[1, _R] += weight * f_x
    if with_hessian:
        for i in range(4):
            u, v = labels[1, _U + i], labels[0, _U + i]
            cross[i] = f_xy * u + f_yy * v
            for j in range(i, 4):
                u_j, v_j = labels[1, _U + j], labels[0, _U + j]
                second[i, j] += weight * (f_xx * u * u_j + f_xy * (u * v_j + v * u_j))
                second[i, j] += weight * f_yy * v * v_j
    return f, -f_y, f_yy, present, correct


@njit
def _drawn(x, y, others, n_labels, same, log_wrong, has_match):
    """Loss of an answer of logit y where other labels, with logits x, carry labels drawn at random.

    Each of the others carries the correct label with probability `same`, or one of the wrong ones.
    If m of them are correct, the answer's logit is y + m·x, and the L − 1 wrong labels enter by
    the mean over their draws of the sum of their exponentials,
    (L − 1)·(1 + (exp(x) − 1)/(L − 1))^(others − m).

    Parameters
    ----------
    x, y : float
    others : int
    n_labels : float
    same : float
    log_wrong : float
        Logarithm of what stands for the factor L − 1.
    has_match : bool
        Whether the correct label is in the context with m = 0, too.

    Returns
    -------
    f, f_x, f_y, f_xx, f_xy, f_yy, present, correct : float
        Loss, its derivatives, and the probabilities of the context's labels and of the correct one.
    """
    if n_labels <= 1.0:
        return 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 1.0, 1.0
    # psi, logarithm of the mean of a wrong label's factor, and its derivatives by x
    psi, slope, curve = x, 1.0, 0.0
    if n_labels > 2.0:
        small = math.exp(-abs(x))
        up, base = (1.0, (n_labels - 2.0) * small) if x >= 0.0 else (small, n_labels - 2.0)
        psi = max(x, 0.0) + math.log((up + base) / (n_labels - 1.0))
        slope, curve = up / (up + base), up / (up + base) * (base / (up + base))
    f, f_x, f_y, f_xx, f_xy, f_yy, present, correct = 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0
    log_p = others * math.log1p(-same)
    for m in range(others + 1):
        p, wrong = math.exp(log_p), others - m
        loss, up, curved = _softplus(log_wrong + wrong * psi - y - m * x)
        along = wrong * slope - m
        f += p * loss
        f_x += p * up * along
        f_y -= p * up
        f_xx += p * (up * wrong * curve + curved * along * along)
        f_xy -= p * curved * along
        f_yy += p * curved
        correct += p * (1.0 - up)
        present += p * (1.0 - up * (1.0 - slope) ** wrong)
        if m == 0 and not has_match:
            present -= p * (1.0 - up)
        if same == 0.0:
            break
        if m < others:
            log_p += math.log((others - m) / (m + 1.0) * same / (1.0 - same))
    return f, f_x, f_y, f_xx, f_xy, f_yy, present, correct


@njit
def _softplus(z):
    """log(1 + exp(z)) and its first two derivatives."""
    small = math.exp(-abs(z))
    inverse = 1.0 / (1.0 + small)
    up = inverse if z >= 0.0 else small * inverse
    return max(z, 0.0) + math.log1p(small), up, small * inverse * inverse


@njit
def _add_answers(labels, length, vote, xi, logits, shares, measures):
    """Add to icl and icl_swapped the probability of the context's label for the target.

    icl has no memory but its noise, e_0. In icl_swapped the memory votes for the label that the
    weights know, one of the L − 1 wrong ones with equal chances, be it in the context or not. The
    noise multiplies every wrong label by exp(A), so that the memory's own is ahead of the others by
    omega_c = e_c − e_0.
    """
    drawn, others, n_labels = vote
    x, y = xi * labels[1, _ATTENTION], xi * labels[0, _ATTENTION] + logits[0]
    wrong = n_labels - 1.0
    for k in range(len(logits)):
        memory, at, weight = logits[k] - logits[0], 6, 1.0
        if k > 0:
            at, weight = 7, shares[k - 1]
        if wrong == 0.0:
            measures[at] += weight
        elif drawn:  # exp(omega) takes the place of 1 for one of the wrong labels
            log_wrong = memory
            if wrong > 1.0:
                top = max(memory, 0.0)
                log_wrong = top + math.log(math.exp(memory - top) + (wrong - 1.0) * math.exp(-top))
            measures[at] += weight * _drawn(
                x, y, others, n_labels, 1.0 / n_labels, log_wrong, True
            )[7]  # fmt: skip
        else:
            absent = wrong - others
            for chosen in range(1, length + 1):
                number = labels[chosen, _NUMBER] if chosen < length else absent
                if number > 0.0:
                    log_rest = _log_sum_with(labels, length, absent, chosen, xi, memory)
                    measures[at] += weight * number / wrong * _softplus(y - log_rest)[1]


@njit
def _log_sum_with(labels, length, absent, chosen, xi, memory):
    """log Σ exp(logit) over the wrong labels, one of which, of row `chosen`, has the memory's vote.

    The row behind the last stands for the absent labels, whose logit is 0 without it.
    """
    top, total = -np.inf, 0.0
    for step in range(2):
        for at in range(1, length + 1):
            number = labels[at, _NUMBER] if at < length else absent
            logit = xi * labels[at, _ATTENTION] if at < length else 0.0
            if at == chosen:
                number -= 1.0
                if step == 0:
                    top = max(top, logit + memory)
                else:
                    total += math.exp(logit + memory - top)
            if number > 0.0:
                if step == 0:
                    top = max(top, logit)
                else:
                    total += number * math.exp(logit - top)
    return top + math.log(total)


@njit
def _bounded(x):
    """x within ±1e290, so that what is made of huge parameters can be added up."""
    return max(-1e290, min(x, 1e290))


@entry
def direct_batch(
    positions, n, n_absent, theta, with_hessian, loss, gradient, hessian, measures, row=None
):
    """`evaluate_direct` for theta of shape (m, 4 + C), by omega; the outputs have m in front."""
    groups = theta.shape[1] - 4
    data, size = NO_MEMORY if row is None else _unpack(row), 5 + groups if with_hessian else 0
    work, first, second = np.empty(workspace(n, 0)), np.empty(5 + groups), np.empty((size, size))
    logits, slopes = np.empty(1 + groups), np.empty(groups)
    for k in range(theta.shape[0]):
        beta1, alpha, xi, beta2 = theta[k, 0], theta[k, 1], theta[k, 2], theta[k, 3]
        straight, bend = _effective(theta[k, 4:], data[7], logits, slopes)
        loss[k] = evaluate_direct(
            positions, n, n_absent, beta1, alpha, xi, beta2, (data, logits), with_hessian, work,
            first, second, measures[k],
        )  # fmt: skip
        pull = _by_omega(slopes, first, 4)
        gradient[k] = first[:-1]
        if not with_hessian:
            continue
        curves = np.diag(second)[4:]
        both = curves.sum() - pull * bend
        for i in range(4):
            _by_omega(slopes, second[i], 4)
            hessian[k, i] = second[i, :-1]
        for i in range(groups):
            for j in range(i, groups):
                cross = slopes[i] * curves[j + 1] + slopes[j] * curves[i + 1]
                hessian[k, 4 + i, 4 + j] = both * slopes[i] * slopes[j] - cross
            hessian[k, 4 + i, 4 + i] += curves[i + 1] - pull * straight * data[7][i] ** 2
        for i in range(4 + groups):
            for j in range(i):
                hessian[k, i, j] = hessian[k, j, i]
