"""The loss of exact positions and of the mean field, stated once more: plain loops over tokens.

Written from the definition of the task alone, for numbers of any kind: floats, or mpmath's of any
precision, which make it the yardstick of the compiled code.
"""

import mpmath


def tokens(n_pairs):
    """(position, is_label, pair) of every token: x1 l1 … xN lN target, positions from 1."""
    listed = []
    for pair in range(1, n_pairs + 1):
        listed.append((2 * pair - 1, False, pair))
        listed.append((2 * pair, True, pair))
    listed.append((2 * n_pairs + 1, False, None))
    return listed


def overlaps(n_pairs, slot, beta1):
    """b_j·c_t of every token when the pair at `slot` matches the target; contents orthonormal."""
    context = tokens(n_pairs)
    boost = mpmath.exp(beta1)
    found = []
    for position, _, _ in context:
        weights = []
        for seen in range(1, position + 1):
            weights.append(boost if seen == position - 1 else mpmath.mpf(1))
        overlap = mpmath.mpf(0)
        for seen in range(1, position + 1):
            _, is_label, pair = context[seen - 1]
            has_target_content = not is_label and (pair == slot or pair is None)
            if has_target_content:
                overlap += weights[seen - 1] / mpmath.fsum(weights)
        found.append(overlap)
    return found


def exact_slot(n_pairs, n_labels, slot, theta):
    """Loss and measures of one slot: dict of loss, ila1, tila2, tla2, cla, p_correct, accuracy."""
    beta1, alpha, xi, beta2 = (*theta, 0)[:4]
    context = tokens(n_pairs)
    logits = []
    for (_, is_label, _), overlap in zip(context, overlaps(n_pairs, slot, beta1), strict=True):
        logits.append(alpha * overlap + (beta2 if is_label else 0))
    whole = mpmath.fsum(mpmath.exp(logit) for logit in logits)
    attention = [mpmath.exp(logit) / whole for logit in logits]
    on_labels = {pair: attention[i] for i, (_, is_label, pair) in enumerate(context) if is_label}
    scores = {pair: mpmath.exp(xi * q) for pair, q in on_labels.items()}
    normaliser = mpmath.fsum(scores.values()) + n_labels - n_pairs
    boost = mpmath.exp(beta1)
    return {
        "loss": -mpmath.log(scores[slot] / normaliser),
        "ila1": boost / (boost + 2 * slot - 1),
        "tila2": on_labels[slot],
        "tla2": mpmath.fsum(on_labels.values()),
        "cla": mpmath.fsum(scores.values()) / normaliser,
        "p_correct": scores[slot] / normaliser,
        "accuracy": chosen(scores.values(), scores[slot], n_labels - n_pairs),
    }


def chosen(scores, correct, n_absent):
    """Chance that a guess of the most probable label, at random where several are, is correct."""
    scores = [*scores, *[mpmath.mpf(1)] * n_absent]
    return mpmath.mpf(correct == max(scores)) / scores.count(max(scores))


def exact(n_pairs, n_labels, theta):
    """Means over the slots of what `exact_slot` gives."""
    slots = [exact_slot(n_pairs, n_labels, s, theta) for s in range(1, n_pairs + 1)]
    return {name: mpmath.fsum(slot[name] for slot in slots) / n_pairs for name in slots[0]}


def mean_field(n_pairs, n_labels, theta):
    """The same for the mean field: counts replaced by their mean, attention on labels alone."""
    beta1, alpha, xi = theta[:3]
    boost = mpmath.exp(beta1)
    p1 = boost / (boost + n_pairs)
    match = mpmath.exp(alpha * p1)
    p2 = match / (match + n_pairs - 1)
    scores = [mpmath.exp(xi * p2)]
    scores += [mpmath.exp(xi * (1 - p2) / (n_pairs - 1)) for _ in range(n_pairs - 1)]
    normaliser = mpmath.fsum(scores) + n_labels - n_pairs
    return {
        "loss": -mpmath.log(scores[0] / normaliser),
        "ila1": p1,
        "tila2": p2,
        "tla2": mpmath.mpf(1),
        "cla": mpmath.fsum(scores) / normaliser,
        "p_correct": scores[0] / normaliser,
        "accuracy": chosen(scores, scores[0], n_labels - n_pairs),
    }


OF_POSITIONS = {"exact": exact, "mean": mean_field}


def gradient(positions, n_pairs, n_labels, theta):
    """Central differences of the loss in 60 digits: good to 1e-20."""
    with mpmath.workdps(60):
        step = mpmath.mpf(10) ** -20
        slopes = []
        for i in range(len(theta)):
            ends = []
            for sign in (1, -1):
                shifted = [mpmath.mpf(x) for x in theta]
                shifted[i] += sign * step
                ends.append(OF_POSITIONS[positions](n_pairs, n_labels, shifted)["loss"])
            slopes.append((ends[0] - ends[1]) / (2 * step))
        return slopes


def hessian(positions, n_pairs, n_labels, theta):
    """Central second differences of the loss in 80 digits: good to 1e-20."""
    with mpmath.workdps(80):
        step = mpmath.mpf(10) ** -20
        p = len(theta)

        def loss(shifts):
            point = [mpmath.mpf(x) for x in theta]
            for i, shift in shifts:
                point[i] += shift * step
            return OF_POSITIONS[positions](n_pairs, n_labels, point)["loss"]

        rows = []
        for i in range(p):
            row = []
            for j in range(p):
                corners = [(a * b, loss([(i, a), (j, b)])) for a in (1, -1) for b in (1, -1)]
                row.append(mpmath.fsum(sign * value for sign, value in corners) / (4 * step**2))
            rows.append(row)
        return rows
