"""The nested-logit loss in compiled code: a fast kernel, and one for every finite theta.

`evaluate` computes loss, gradient and progress measures with plain exponentials and suffix sums, in
a time linear in N. Parameters whose exponentials could overflow go to `evaluate_direct`, which
shifts every softmax by its maximum and also computes the Hessian, in a time quadratic in N. In both

    m_j = overlap of token j's buffer with the target, in layer 1 (beta1),
    q_j = softmax_j(alpha·m_j + beta2·[j is a label]) over all tokens, in layer 2,
    pi  = softmax of xi·q over the labels in the context and the L − N absent ones (logit 0),
    loss = −log pi(correct label), averaged over the slot s of the matching pair.

Derivatives are in the order beta1, alpha, xi, beta2.
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

N_MEASURES = 6
"""ila1, tila2, tla2, cla, p_correct, accuracy."""

# Rows of the workspace, each with an entry for every slot: exp(alpha·m) of the slot's label when
# an earlier slot matches, the same times m and times dm/dbeta1; overlap m of the label when its own
# slot matches, and its exp(alpha·m + beta2); exp(alpha·m) of the slot's item, times m, times
# dm/dbeta1.
_G, _G_M, _G_SLOPE, _MATCH, _MATCH_FACTOR, _ITEM, _ITEM_M, _ITEM_SLOPE, _ROWS = range(9)

# Columns of the direct kernel's table of tokens for one matching slot. Tokens with the same overlap
# share a row.
_COUNT, _IS_LABEL, _M, _M_1, _M_11, _LOGIT, _Q, _Y, _COLUMNS = range(9)


@njit
def workspace(n):
    """Length of the float64 scratch array for n pairs, which Python may give as an array."""
    blocks = (n + LANES - 1) // LANES
    return np.maximum(LANES * _ROWS * blocks + 3 * TERMS, (2 * n + 3) * _COLUMNS)


# ---- moderate parameters ------------------------------------------------------------------------


@njit
def evaluate(positions, n, n_absent, beta1, alpha, xi, beta2, with_loss, work, out, measures):
    """Loss, gradient and, if asked for, the measures that come out of them.

    Parameters
    ----------
    positions : int
        EXACT or MEAN_FIELD.
    n : int
        Pairs N.
    n_absent : float
        Labels L − N that are not in the context.
    beta1, alpha, xi, beta2 : float
    with_loss : bool
        Whether out[0] is wanted; without it the logarithms are saved.
    work : float64 array
        Scratch of length `workspace(n)`.
    out : float64 array, shape (5,), written
        Loss (nats) and its derivatives by beta1, alpha, xi, beta2.
    measures : float64 array, shape (N_MEASURES,), written, or None
        All but the accuracy. None is resolved when numba compiles, and costs nothing.
    """
    spread = abs(alpha) + abs(beta2)  # of the layer-2 logits; it bounds q by exp(spread)/N
    moderate = abs(beta1) <= LARGE and spread <= LARGE
    if moderate and (abs(xi) <= LARGE or abs(xi) * math.exp(spread) <= LARGE * n):
        if positions == EXACT:
            _evaluate_exact(n, n_absent, beta1, alpha, xi, beta2, with_loss, work, out, measures)
        else:
            _evaluate_mean_field(n, n_absent, beta1, alpha, xi, out, measures)
    elif not (
        math.isfinite(beta1) and math.isfinite(alpha) and math.isfinite(xi) and math.isfinite(beta2)
    ):
        out[:] = math.nan
    else:
        hessian = np.empty((4, 4))
        values = np.empty(N_MEASURES) if measures is None else measures
        out[0] = evaluate_direct(
            positions, n, n_absent, beta1, alpha, xi, beta2, False, work, out[1:], hessian, values
        )


@njit
def _evaluate_exact(n, n_absent, beta1, alpha, xi, beta2, with_loss, work, out, measures):
    """Exact positions, for LANES matching slots at a time.

    The factors exp(alpha·m) do not depend on the slot that matches, except for the match's own, so
    that each is computed once. Only the last softmax has a term for every pair of slots.
    """
    blocks = (n + LANES - 1) // LANES
    label_factor = exp(splat(beta2))
    target = 2.0 / (exp(splat(beta1)) + 2.0 * n)
    target_factor = exp(alpha * target)
    target_m = target_factor * target
    target_slope = -target_m * (1.0 - n * target)
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
        inverse_w = 1.0 / (rest + e_match)
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
            sum_loss = sum_loss + log1p(rest / e_match)
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
def evaluate_batch(positions, n, n_absent, theta, with_loss, out):
    """`evaluate` for theta of shape (m, 4) into out of shape (m, 5)."""
    work = np.empty(workspace(n))
    for k in range(theta.shape[0]):
        beta1, alpha, xi, beta2 = theta[k]
        evaluate(positions, n, n_absent, beta1, alpha, xi, beta2, with_loss, work, out[k], None)


@entry
def measure_batch(positions, n, n_absent, theta, out, measures):
    """`evaluate` and all measures for theta (m, 4) into out (m, 5) and measures (m, N_MEASURES)."""
    work = np.empty(workspace(n))
    for k in range(theta.shape[0]):
        beta1, alpha, xi, beta2 = theta[k]
        evaluate(
            positions, n, n_absent, beta1, alpha, xi, beta2, True, work, out[k], measures[k]
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
        carray(work, workspace(n)), carray(out, 5), None,
    )  # fmt: skip


def evaluation_address():
    """Address of `evaluation` as a C function."""
    return address_of_kernel(evaluation)


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
def _set_token(table, row, count, is_label, m, m_1, m_11):
    table[row, _COUNT], table[row, _IS_LABEL] = count, is_label
    table[row, _M], table[row, _M_1], table[row, _M_11] = m, m_1, m_11


@njit
def _exact_tokens(n, s, beta1, table):
    """Write the table of tokens when slot s matches; row 0 is the match. Return its length."""
    seen, _, seen_1, _, seen_11, _ = _shares(beta1, 2.0 * s - 1.0)
    _set_token(table, 0, 1.0, 1.0, seen, seen_1, seen_11)
    row = 1
    if s > 1:  # labels and items before the match
        _set_token(table, 1, s - 1.0, 1.0, 0.0, 0.0, 0.0)
        _set_token(table, 2, s - 1.0, 0.0, 0.0, 0.0, 0.0)
        row = 3
    for k in range(s + 1, n + 1):
        _, other, _, other_1, _, other_11 = _shares(beta1, 2.0 * k - 1.0)
        _set_token(table, row, 1.0, 1.0, other, other_1, other_11)
        row += 1
    for k in range(s, n + 1):
        if k == 1:
            _set_token(table, row, 1.0, 0.0, 1.0, 0.0, 0.0)
        else:
            _, other, _, other_1, _, other_11 = _shares(beta1, 2.0 * k - 2.0)
            _set_token(table, row, 1.0, 0.0, other, other_1, other_11)
        row += 1
    _, other, _, other_1, _, other_11 = _shares(beta1, 2.0 * n)
    _set_token(table, row, 1.0, 0.0, 2.0 * other, 2.0 * other_1, 2.0 * other_11)
    return row + 1


@njit
def _mean_field_tokens(n, beta1, table):
    """Write the table of the mean field: the match, and N − 1 other labels. Return its length."""
    seen, _, seen_1, _, seen_11, _ = _shares(beta1, 1.0 * n)
    _set_token(table, 0, 1.0, 1.0, seen, seen_1, seen_11)
    _set_token(table, 1, n - 1.0, 1.0, 0.0, 0.0, 0.0)
    return min(n, 2)


@njit
def evaluate_direct(
    positions, n, n_absent, beta1, alpha, xi, beta2, with_hessian, work, gradient, hessian, measures
):
    """Loss, gradient, Hessian and progress measures at any finite parameters.

    Parameters
    ----------
    positions, n, n_absent, beta1, alpha, xi, beta2, work
        As `evaluate`.
    with_hessian : bool
    gradient : float64 array, shape (4,), written
    hessian : float64 array, shape (4, 4), written if `with_hessian`
    measures : float64 array, shape (N_MEASURES,), written
        All but the accuracy.

    Returns
    -------
    float
        The loss (nats).
    """
    gradient[:] = 0.0
    hessian[:] = 0.0
    measures[:] = 0.0
    loss = 0.0
    slots = n if positions == EXACT else 1
    table = work[: (2 * n + 2) * _COLUMNS].reshape((2 * n + 2, _COLUMNS))
    for s in range(1, slots + 1):
        if positions == EXACT:
            rows = _exact_tokens(n, s, beta1, table)
        else:
            rows = _mean_field_tokens(n, beta1, table)
        measures[0] += table[0, _M]  # a label's overlap with its item is its attention to it
        own = _slot(
            table, rows, n_absent, alpha, xi, beta2, with_hessian, gradient, hessian, measures
        )
        loss += own / slots
    gradient /= slots
    hessian /= slots
    measures /= slots
    return loss


@njit
def _slot(table, rows, n_absent, alpha, xi, beta2, with_hessian, gradient, hessian, measures):
    """Add one slot's gradient, Hessian and measures; return its loss. See `evaluate_direct`.

    With x_j the layer-2 logits and y_n = xi·q_n, subscripts i for derivatives by parameter i,
        q_i  = q (x_i − <x_i>),                  <·> = mean over tokens weighted by q,
        q_ij = q [(x_i − <x_i>)(x_j − <x_j>) + x_ij − <x_ij> − cov(x_i, x_j)],
        loss_i = Σ r y_i,    r = pi − [correct],
        loss_ij = Σ r y_ij + Σ pi y_i y_j − (Σ pi y_i)(Σ pi y_j).
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
    top = -np.inf if n_absent <= 0.0 else 0.0
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
        if label > 0.0:
            table[row, _Y] = xi * table[row, _Q]
            top = max(top, table[row, _Y])

    rest = n_absent * math.exp(-top) if n_absent > 0.0 else 0.0
    present = 0.0
    for row in range(1, rows):
        if table[row, _IS_LABEL] > 0.0:
            present += table[row, _COUNT] * math.exp(table[row, _Y] - top)
    rest += present
    correct = math.exp(table[0, _Y] - top)
    whole = rest + correct
    loss = (top - table[0, _Y]) + math.log(whole)
    if correct > 0.5 * rest:  # small losses keep their digits
        loss = math.log1p(rest / correct)

    measures[1] += table[0, _Q]
    measures[2] += on_labels
    measures[3] += (present + correct) / whole
    measures[4] += correct / whole

    # y_i = scale_i·u_i over beta1, alpha, xi, beta2: the scales may be huge, and come in last
    # Σ r u_i, Σ pi u_i, Σ pi u_i u_j
    slope, mean, second = np.zeros(4), np.zeros(4), np.zeros((4, 4))
    a_11, b_11, a_1a, a_1b, a_aa, a_ab, a_bb = 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0
    for row in range(rows):
        if table[row, _IS_LABEL] == 0.0:
            continue
        count, q = table[row, _COUNT], table[row, _Q]
        m, m1 = table[row, _M] - m_0, table[row, _M_1] - m1_0
        pi = math.exp(table[row, _Y] - top) / whole
        r = pi if row > 0 else -rest / whole
        dm, dm1, dl = m - mean_m, m1 - mean_m1, off_labels
        u = (q * dm1, q * dm, q, q * dl)
        r *= count
        pi *= count
        for i in range(4):
            slope[i] += r * u[i]
        if with_hessian:
            rq = r * q
            a_11 += rq * (dm1 * dm1 - (m1m1 - mean_m1 * mean_m1))
            b_11 += rq * (table[row, _M_11] - m11_0 - mean_m11)
            a_1a += rq * (dm1 * dm - (mm1 - mean_m * mean_m1))
            a_1b += rq * (dm1 * dl - (lm1 - on_labels * mean_m1))
            a_aa += rq * (dm * dm - (mm - mean_m * mean_m))
            a_ab += rq * (dm * dl - (lm - on_labels * mean_m))
            a_bb += rq * (dl * dl - on_labels * off_labels)
            for i in range(4):
                mean[i] += pi * u[i]
                for j in range(i, 4):
                    second[i, j] += pi * u[i] * u[j]
    both = _bounded(xi * alpha)
    scale = (both, xi, 1.0, xi)
    for i in range(4):
        gradient[i] += _bounded(slope[i] * scale[i])
    if with_hessian:
        for i in range(4):
            for j in range(i, 4):
                covariance = second[i, j] - mean[i] * mean[j]
                hessian[i, j] += _bounded(_bounded(covariance * scale[i]) * scale[j])
        hessian[0, 0] += _bounded(both * (_bounded(alpha * a_11) + b_11))
        hessian[0, 1] += _bounded(xi * (_bounded(alpha * a_1a) + slope[0]))
        hessian[0, 2] += _bounded(alpha * slope[0])
        hessian[0, 3] += _bounded(both * a_1b)
        hessian[1, 1] += _bounded(xi * a_aa)
        hessian[1, 2] += slope[1]
        hessian[1, 3] += _bounded(xi * a_ab)
        hessian[2, 3] += slope[3]
        hessian[3, 3] += _bounded(xi * a_bb)
    return loss


@njit
def _bounded(x):
    """x within ±1e290, so that what is made of huge parameters can be added up."""
    return max(-1e290, min(x, 1e290))


@entry
def direct_batch(positions, n, n_absent, theta, with_hessian, loss, gradient, hessian, measures):
    """`evaluate_direct` for theta of shape (m, 4); the outputs have m in front."""
    work = np.empty(workspace(n))
    for k in range(theta.shape[0]):
        beta1, alpha, xi, beta2 = theta[k]
        loss[k] = evaluate_direct(
            positions, n, n_absent, beta1, alpha, xi, beta2, with_hessian, work,
            gradient[k], hessian[k], measures[k],
        )  # fmt: skip
        for i in range(4):
            for j in range(i):
                hessian[k, i, j] = hessian[k, j, i]
