"""The gradient as a chain of three nested softmaxes, and the order of learning that it implies.

python derivations/gradient.py
"""

import numpy as np
import sympy as sp
from page import KINDS, N_POINTS, ORIGIN, SIZE, Page, size_of, write

from cliff import NestedLogit, integrate
from cliff import symbolic as cs


def derive() -> Page:
    page = Page("gradient", "The gradient: three nested softmaxes")
    alpha, beta, xi = sp.symbols("alpha beta xi", real=True)

    page.section("One softmax in the next")
    page.say(
        "Write $\\pi$ for the prediction, $r_n = \\pi_n - [n = s]$ for its error, and",
        "$\\langle\\cdot\\rangle$ for the mean over tokens weighted by the attention $q$. The",
        "derivative of a softmax is a deviation from its own mean; each of the three softmaxes",
        "contributes one such factor:",
    )
    page.show(
        r"\partial_\xi\,\mathrm{loss} = \left\langle \sum_n r_n\, q_n \right\rangle_s",
        r"\partial_\alpha\,\mathrm{loss} = \xi\, \left\langle \sum_n r_n\, q_n\,"
        r"(m_n - \langle m\rangle) \right\rangle_s",
        r"\partial_{\beta_1}\mathrm{loss} = \xi\,\alpha\, \left\langle \sum_n r_n\, q_n\,"
        r"(m_n' - \langle m'\rangle) \right\rangle_s",
        r"m_s' = \frac{(2s-1)\,E}{(E+2s-1)^2}, \qquad m_n' = -\frac{E}{(E+2n-1)^2}\ (n > s)",
    )
    slopes = sp.symbols("g1:4", real=True)
    overlaps = [sp.Symbol(f"m{i}", real=True) + slope * beta for i, slope in enumerate(slopes, 1)]
    weights = [sp.exp(alpha * m) for m in overlaps]
    q = [w / sum(weights) for w in weights]  # two labels and one more token
    scores = [sp.exp(xi * q[0]), sp.exp(xi * q[1]), sp.Symbol("K", positive=True)]
    loss = -sp.log(scores[0] / sum(scores))
    r = [scores[0] / sum(scores) - 1, scores[1] / sum(scores)]
    mean = sum(a * b for a, b in zip(q, overlaps, strict=True))
    mean_slope = sum(a * b for a, b in zip(q, slopes, strict=True))
    at = {
        symbol: sp.Rational(i * i + 3, 7 + i)
        for i, symbol in enumerate(sorted(loss.free_symbols, key=str))
    }

    def vanishes(expression: sp.Expr) -> float:
        return float(abs(expression.subs(at).evalf(40)))

    differences = [
        sp.diff(loss, xi) - sum(r[n] * q[n] for n in (0, 1)),
        sp.diff(loss, alpha) - xi * sum(r[n] * q[n] * (overlaps[n] - mean) for n in (0, 1)),
        sp.diff(loss, beta)
        - xi * alpha * sum(r[n] * q[n] * (slopes[n] - mean_slope) for n in (0, 1)),
    ]
    page.holds(
        "for two labels and one more token, the three lines differ from sympy's derivatives of "
        "the loss by less than 1e-35 at a rational point, with 40 digits",
        max(map(vanishes, differences)) < 1e-35,
    )
    e, k = sp.Symbol("E", positive=True), sp.Symbol("k", positive=True)
    page.proved(
        "dm/dβ₁ = E·dm/dE of both kinds of label",
        e * sp.diff(e / (e + k), e) - k * e / (e + k) ** 2,
        e * sp.diff(1 / (e + k), e) + e / (e + k) ** 2,
    )

    page.section("The gates")
    page.say(
        "Every outer logit multiplies the gradients of the inner ones. The match cannot learn",
        "while $\\xi = 0$, and the previous-token circuit cannot while $\\xi\\alpha = 0$:",
    )
    for positions in ("exact", "mean"):
        thetas = np.random.default_rng(0).normal(size=(N_POINTS, 3))
        model = NestedLogit(*SIZE, positions)
        page.holds(
            f"{KINDS[positions]}: at ξ = 0 the gradients of α and β₁ are 0, and at α = 0 that "
            f"of β₁ is 0, at {N_POINTS} random points",
            not model.gradient(thetas * [1, 1, 0])[:, :2].any()
            and not model.gradient(thetas * [1, 0, 1])[:, 0].any(),
        )
    page.say(
        "Only $\\xi$ has a force at the origin. It therefore grows first, like t; $\\alpha$,",
        "pulled by $\\xi$, like t²; $\\beta_1$, pulled by $\\xi\\alpha$, like t⁴. This is the",
        "order $\\xi \\to \\alpha \\to \\beta_1$. The feedback closes through $E = e^{\\beta_1}$,",
        "which multiplies both $m_s$ and $m_s'$: once $\\beta_1$ is of order 1, it speeds up",
        "itself and $\\alpha$, and both raise the attention to the match that drives $\\xi$. So",
        "the three rise together in the end ([the cliff](transition.md)).",
    )
    early, powers = 0.1, (4, 2, 1)
    for positions in ("exact", "mean"):
        model = NestedLogit(*SIZE, positions)
        path = integrate(model, ORIGIN, 2.0 * early, rtol=1e-11, atol=1e-22).path
        page.measured(
            f"{KINDS[positions]}, {size_of(SIZE)}: between t = {early:g} and {2.0 * early:g} the "
            f"growth exponents of β₁, α and ξ are {', '.join(map(str, powers))}",
            np.log2(path(2.0 * early) / path(early)),
            powers,
            1e-2,
        )

    page.section("In full")
    page.say("Along the names of [the loss](loss.md), with slots and labels as indices:")
    page.show(*cs.gradient(cs.N, cs.L).latex_lines())
    thetas = np.random.default_rng(1).normal(0.0, 2.0, (25 * N_POINTS, 3))
    for positions in ("exact", "mean"):
        for target, formula in (("gradient", cs.gradient), ("hessian", cs.hessian)):
            scope: dict = {}
            exec(formula(*SIZE, positions).python(), scope)
            page.measured(
                f"the printed NumPy source of the {target}, {KINDS[positions]}, {size_of(SIZE)}, "
                f"against the compiled kernel at {len(thetas):,} random θ, entry by entry",
                scope[target](thetas),
                getattr(NestedLogit(*SIZE, positions), target)(thetas),
                1e-12,
                floor=1e-15,  # a few roundings of the terms, which are of order 1
            )
    return page


if __name__ == "__main__":
    write(derive)
