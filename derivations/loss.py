"""The loss from the task: two attention layers, orthonormal contents, three logits.

python derivations/loss.py
"""

import numpy as np
import sympy as sp
from page import N_POINTS, SIZE, Page, size_of, write

from cliff import NestedLogit
from cliff import symbolic as cs

DIGITS = 30


def attention_loss(n: int, labels: int, theta: np.ndarray) -> float:
    """The loss of the two attention layers themselves, on unit vectors as contents."""
    beta1, alpha, xi = theta
    length = 2 * n + 1
    total = 0.0
    for slot in range(n):
        item, label = np.eye(2 * n)[:n], np.eye(2 * n)[n:]
        content = np.empty((length, 2 * n))
        content[0:-1:2], content[1:-1:2], content[-1] = item, label, item[slot]
        i, j = np.indices((length, length))
        first = np.where(j <= i, np.exp(beta1 * (j == i - 1)), 0.0)
        first /= first.sum(axis=1, keepdims=True)
        buffers = first @ content
        second = np.exp(alpha * buffers @ content[-1])
        output = second / second.sum() @ content
        logits = np.concatenate([xi * label @ output, np.zeros(labels - n)])
        total -= logits[slot] - np.log(np.exp(logits).sum())
    return total / n


def derive() -> Page:
    page = Page("loss", "The loss, from the task")
    rng = np.random.default_rng(0)
    beta1, k, n = sp.Symbol("beta1", real=True), sp.Symbol("k", positive=True), cs.N

    page.section("The limit")
    page.say(
        "A sequence is $x_1\\,\\ell_1 \\dots x_N\\,\\ell_N\\,x_t$: N pairs of an item and its",
        "label, then a target item, whose label is to be predicted. Contents are Gaussian vectors",
        "in D dimensions with variance 1/D, so that inner products of different ones vanish as",
        "$1/\\sqrt{D}$. The limit D → ∞ makes them orthonormal.",
        "Every class of a context is distinct, and the target repeats one item, that of slot s.",
    )
    page.say(
        "Dropped with it: the noise of items (a match has overlap 1), burstiness above 1 (one",
        "match, not several), finite D (which after the fall leaves a residual loss that the",
        "landscape does not have), and in the classifier the target's own content and the items'",
        "(they carry no information on the label of a novel class).",
    )

    page.section("First attention: the previous token")
    page.say("Token i sees i tokens, itself included; with $E = e^{\\beta_1}$ its predecessor gets")
    page.show(r"p_{i,i-1} = \frac{E}{E + i - 1}, \qquad p_{i,j} = \frac{1}{E + i - 1}")
    e = sp.exp(beta1)
    page.proved("the weights of a row add up to 1", e / (e + k - 1) + (k - 1) / (e + k - 1) - 1)
    page.say("The first token sees itself only, with weight 1.")

    page.section("Second attention: the match")
    page.say(
        "The buffer of token j is $b_j = \\sum_i p_{ji} c_i$, and its overlap with the target",
        "$m_j = b_j\\cdot c_t$ is the weight that j gives to the matching item (and, for the",
        "target itself, to its own content too). Label n stands at position 2n, item n at 2n − 1:",
    )
    page.show(
        r"m_{\mathrm{label}\ n} = \frac{E}{E+2n-1}\ (n = s),\quad \frac{1}{E+2n-1}\ (n > s),"
        r"\quad 0\ (n < s)",
        r"m_{\mathrm{item}\ n} = \frac{1}{E+2n-2}\ (n \geq s;\ 1\ \mathrm{if}\ n = s = 1),"
        r"\quad 0\ (n < s), \qquad m_{\mathrm{target}} = \frac{2}{E+2N}",
    )
    page.say("The softmax of $\\alpha m$ gives $q$, and $\\xi q$ are the classifier's logits.")

    page.section("The loss")
    page.say("With m, k and i for the overlaps of the match, later labels and later items:")
    page.show(*cs.loss(cs.N, cs.L).latex_lines())
    thetas = rng.normal(0.0, 1.5, (N_POINTS, 3))
    small = (3, 7)
    for size in ((1, 3), (2, 2), small, SIZE):
        page.measured(
            f"two softmax attention layers on unit vectors, {size_of(size)}, {N_POINTS} random θ, "
            "have the loss of the compiled `NestedLogit`",
            NestedLogit(*size).loss(thetas),
            [attention_loss(*size, theta) for theta in thetas],
            1e-12,
        )
    page.measured(
        f"the formula above, its sums written out for {size_of(small)} and evaluated with "
        f"{DIGITS} digits",
        [written_out(*small, theta) for theta in thetas[:3]],
        NestedLogit(*small).loss(thetas[:3]),
        1e-13,
    )

    page.section("Mean field")
    page.say(
        "Confine both attentions to the labels and replace the count of the visible tokens by its",
        "mean over the labels, $\\langle 2n - 1\\rangle = N$. This closed form is this project's",
        "own, in the spirit of the paper's. Attention is confined to labels, so that a bias of the",
        "labels cancels.",
    )
    index = sp.Symbol("n", integer=True, positive=True)
    page.proved("the mean of 2n − 1", sp.summation(2 * index - 1, (index, 1, n)) / n - n)
    page.show(
        r"p_1 = \frac{E}{E+N}, \qquad p_2 = \frac{e^{\alpha p_1}}{e^{\alpha p_1}+N-1}",
        r"\mathrm{loss} = -\log\frac{e^{\xi p_2}}{e^{\xi p_2}"
        r" + (N-1)\,e^{\xi(1-p_2)/(N-1)} + L - N}",
    )
    b, a, x = thetas.T
    pairs, labels = SIZE
    p1 = np.exp(b) / (np.exp(b) + pairs)
    p2 = np.exp(a * p1) / (np.exp(a * p1) + pairs - 1)
    wrong = (pairs - 1) * np.exp(x * (1 - p2) / (pairs - 1))
    stated = np.log(np.exp(x * p2) + wrong + labels - pairs) - x * p2
    page.measured(
        f"`NestedLogit({pairs}, {labels}, positions='mean')` at {N_POINTS} random θ",
        NestedLogit(*SIZE, "mean").loss(thetas),
        stated,
        1e-13,
    )

    page.section("Without overflow")
    page.say(
        "Source code is printed from the same formulas with every exponential divided by the",
        "largest, which changes no value; in the mean field the chain is",
    )
    page.show(*cs.loss(cs.N, cs.L, "mean").latex_lines())
    chain = cs.loss(cs.N, cs.L, "mean")
    scope: dict = {}
    exec(chain.python(), scope)
    page.measured(
        f"this source at {N_POINTS} random θ", scope["loss"](thetas, *SIZE), stated, 1e-13
    )
    return page


def written_out(pairs: int, labels: int, theta: np.ndarray) -> float:
    """The indexed loss with its names substituted and its sums expanded."""
    formula = cs.loss(cs.N, cs.L)
    slot, label = sp.symbols("s n", integer=True, positive=True)
    values = {p: sp.Float(v, DIGITS) for p, v in zip(cs.PARAMETERS, theta.tolist(), strict=False)}
    total = sp.S.Zero
    for s in range(1, pairs + 1):
        expression = formula.results["loss"].args[1].function
        for name, value in reversed(formula.assignments):
            if label in name.free_symbols:  # names of a label occur inside sums only
                expression = expression.xreplace({name: value})
            else:
                expression = expression.subs(name, value)
        expression = expression.subs({slot: s, cs.N: pairs, cs.L: labels}).doit()
        total += expression.subs(values).evalf(DIGITS)
    return float(total / pairs)


if __name__ == "__main__":
    write(derive)
