"""The landscape with memory, stated once more: plain loops over contexts, in mpmath's numbers.

Written from the task: classes take their slots, tokens see one another, labels are drawn, and every
way to do so is gone through. `exact=True` takes nothing at its mean.
"""

from itertools import combinations, permutations, product

import mpmath
from reference import tokens


def attention(classes, theta, noise, mean_field=False):
    """Layer-2 attention to each label of a context; the target is of class 0."""
    beta1, alpha, _, beta2 = theta[:4]
    n, boost, same = len(classes), mpmath.exp(beta1), 1 / (1 + mpmath.mpf(noise) ** 2)
    if mean_field:
        seen = [boost / (boost + n) * same if c == 0 else 0 for c in classes]
        weights = [mpmath.exp(alpha * m) for m in seen]
        return [w / mpmath.fsum(weights) for w in weights]
    context, logits = tokens(n), []
    for position, is_label, _ in context:
        weights, overlap = mpmath.mpf(0), mpmath.mpf(0)
        for seen in range(1, position + 1):
            weight = boost if seen == position - 1 else mpmath.mpf(1)
            weights += weight
            _, of_label, pair = context[seen - 1]
            if pair is None:
                overlap += weight  # the target itself
            elif not of_label and classes[pair - 1] == 0:
                overlap += weight * same
        logits.append(alpha * overlap / weights + (beta2 if is_label else 0))
    scores = [mpmath.exp(logit) for logit in logits]
    whole = mpmath.fsum(scores)
    return [q / whole for q, (_, is_label, _) in zip(scores, context, strict=True) if is_label]


def arrangements(n, copies, exact):
    """The classes of the slots, in every way; unless exact, one for each set of the target's."""
    found = []
    for own in combinations(range(n), copies):
        rest = [slot for slot in range(n) if slot not in own]
        orders = set(permutations([1 + i // copies for i in range(len(rest))])) if exact else None
        for order in orders or [tuple(1 + i // copies for i in range(len(rest)))]:
            classes = [0] * n
            for slot, number in zip(rest, order, strict=True):
                classes[slot] = number
            found.append(classes)
    return found


def softmax_loss(logits, n_labels, answer=0):
    """−log softmax of the answer's label; labels without an entry have the logit 0."""
    scores = [mpmath.exp(logits.get(label, 0)) for label in range(n_labels)]
    return -mpmath.log(scores[answer] / mpmath.fsum(scores))


def votes(own, others, xi):
    """Logits of labels 0 (the answer's), 1, 2, … that are all distinct."""
    return {0: xi * own} | {i: xi * q for i, q in enumerate(others, start=1)}


def drawn(own, others, n_labels, xi, add, same=None):
    """−log p of the answer with labels of the others drawn; the sum of the wrong ones at its mean.

    `add` changes the logits of a draw; `same` is the probability of the answer's label if it is
    not that of the others.
    """
    chances, sums = {}, {}
    for labels in product(range(n_labels), repeat=len(others)):
        m = labels.count(0)
        chance = mpmath.mpf(1) / n_labels ** len(labels)
        logits = dict.fromkeys(range(n_labels), mpmath.mpf(0))
        logits[0] += xi * own
        for label, q in zip(labels, others, strict=True):
            logits[label] += xi * q
        for rest, weight in add(logits):
            one, wrong = rest[0], mpmath.fsum(mpmath.exp(rest[i]) for i in range(1, n_labels))
            chances[m] = chances.get(m, 0) + chance * weight
            sums[m] = sums.get(m, 0) + chance * weight * wrong
            own_logit = one  # the same for all draws of one m
            sums.setdefault(("own", m), own_logit)
    total, probability = mpmath.mpf(0), mpmath.mpf(0)
    for m, chance in chances.items():
        loss = mpmath.log1p(sums[m] / chance * mpmath.exp(-sums["own", m]))
        if same is not None:
            n = len(others)
            chance = (
                mpmath.binomial(n, m) * mpmath.mpf(same) ** m * (1 - mpmath.mpf(same)) ** (n - m)
            )
        total += chance * loss
        probability += chance * mpmath.exp(-loss)
    return total, probability


def plus(omega):
    """The memory votes for the answer."""
    return lambda logits: [({**logits, 0: logits[0] + omega}, 1)]


def noisy(change, noise, n_labels):
    """Then crosstalk multiplies the weight of every wrong label by exp(noise)."""
    return lambda logits: [
        ({i: rest.get(i, 0) + (noise if i > 0 else 0) for i in range(n_labels)}, weight)
        for rest, weight in change(logits)
    ]


def crosstalk(model, omegas):
    """The noise of `noisy`, class by class."""
    data = model.memory
    if data.dim is None:
        return mpmath.mpf(0)
    per_class = (1 + mpmath.mpf(data.noise) ** 2) / (model.n_labels * mpmath.mpf(data.dim))
    of_groups = zip(groups(data.n_classes, data.zipf_exponent), omegas, strict=True)
    strengths = [w for (first, last, _), w in of_groups for _ in range(first, last + 1)]
    variance = per_class * mpmath.fsum(w**2 for w in strengths)
    return variance / (2 + mpmath.sqrt(per_class * data.n_classes * variance))


def swapped(omega, n_labels):
    """The memory votes for one of the wrong labels, each with the same chance."""
    share = mpmath.mpf(1) / (n_labels - 1)
    return lambda logits: [
        ({**logits, i: logits.get(i, 0) + omega}, share) for i in range(1, n_labels)
    ]


def per_class(classes, q, copies):
    """Attention to the target's labels together, and to those of each other class."""
    own = mpmath.fsum(x for x, c in zip(q, classes, strict=True) if c == 0)
    numbers = range(1, len(classes) // copies)
    return own, [mpmath.fsum(x for x, c in zip(q, classes, strict=True) if c == i) for i in numbers]


def bursty(model, theta, change, exact=False):
    """Mean loss of bursty contexts and mean probability of the answer."""
    data, n, n_labels = model.memory, model.n_pairs, model.n_labels
    contexts, xi = arrangements(n, data.copies, exact), theta[2]
    losses, probabilities = [], []
    for classes in contexts:
        q = attention(classes, theta, data.noise, model.positions == "mean")
        own, others = per_class(classes, q, data.copies)
        if not exact and others and (data.copies > 1 or data.labels_drawn == "replacement"):
            others = [mpmath.fsum(others) / len(others)] * len(others)
        if data.labels_drawn == "replacement":
            loss, probability = drawn(own, others, n_labels, xi, change)
        else:
            ends = [
                (softmax_loss(logits, n_labels), weight)
                for logits, weight in change(votes(own, others, xi))
            ]
            loss = mpmath.fsum(weight * end for end, weight in ends)
            probability = mpmath.fsum(weight * mpmath.exp(-end) for end, weight in ends)
        losses.append(loss)
        probabilities.append(probability)
    return mpmath.fsum(losses) / len(contexts), mpmath.fsum(probabilities) / len(contexts)


def by_chance(model, theta, change, same=None):
    """Loss and probability of the answer where no class of the context is the target's."""
    n = model.n_pairs
    q = attention([1] * n, theta, model.memory.noise, model.positions == "mean")
    return drawn(mpmath.mpf(0), q, model.n_labels, theta[2], change, same)


def groups(n_classes, exponent):
    """(first rank, last rank, share) of every group."""
    frequencies = [mpmath.mpf(k) ** -exponent for k in range(1, n_classes + 1)]
    whole, found, first = mpmath.fsum(frequencies), [], 1
    while first <= n_classes:
        last = n_classes if exponent == 0 else min(2 * first - 1, n_classes)
        found.append((first, last, mpmath.fsum(frequencies[first - 1 : last]) / whole))
        first = last + 1
    return found


def values(model, theta, answers=True):
    """Loss, and the answers to the three questions, at theta (beta1, alpha, xi, beta2, omega …)."""
    data, omegas, n_labels = model.memory, theta[4:], model.n_labels
    shares = [share for _, _, share in groups(data.n_classes, data.zipf_exponent)]
    p_bursty = data.p_bursty if data.burstiness else 0
    noise = crosstalk(model, omegas)
    loss, icl = bursty(model, theta, noisy(plus(0), noise, n_labels))
    loss *= data.p_novel
    found = {"icl": icl, "icl_swapped": mpmath.mpf(0), "iwl": mpmath.mpf(0)}
    per_label = mpmath.mpf(data.n_classes) / n_labels
    elsewhere = (per_label - 1) / (data.n_classes - 1)
    for omega, share in zip(omegas, shares, strict=True):
        known = (1 - mpmath.mpf(data.p_novel)) * share
        learned = noisy(plus(omega), noise, n_labels)
        loss += known * p_bursty * bursty(model, theta, learned)[0]
        loss += known * (1 - mpmath.mpf(p_bursty)) * by_chance(model, theta, learned)[0]
        if n_labels > 1 and answers:
            wrong = noisy(swapped(omega, n_labels), noise, n_labels)
            found["icl_swapped"] += share * bursty(model, theta, wrong)[1]
        if answers:
            found["iwl"] += share * by_chance(model, theta, learned, elsewhere)[1]
    return {"loss": loss, **found}


def gradient(model, theta):
    """Central differences of the loss in 50 digits."""
    with mpmath.workdps(50):
        step, slopes = mpmath.mpf(10) ** -15, []
        for i in range(len(theta)):
            ends = []
            for sign in (1, -1):
                point = [mpmath.mpf(float(x)) for x in theta]
                point[i] += sign * step
                ends.append(values(model, point, answers=False)["loss"])
            slopes.append((ends[0] - ends[1]) / (2 * step))
        return slopes
