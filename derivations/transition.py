"""The cliff: where the fall starts, how wide it is, and when it comes, in closed form.

python derivations/transition.py
"""

import json
import math
from itertools import product

import numpy as np
import sympy as sp
from page import KINDS, ORIGIN, SIZE, Page, percent, write
from transition_data import DATA, PAIRS, RATIOS

from cliff import NestedLogit, integrate_ensemble, theory
from cliff import symbolic as cs
from cliff.trajectory import LEVELS


def derive() -> Page:
    page = Page("transition", "The cliff: when the fall comes")
    law_bound, time_bound, width_bound = 0.15, 0.09, 0.13
    rows = json.loads(DATA.read_text(encoding="utf-8"))
    equal = [row for row in rows if row["mobility_xi"] == 1.0 and row["n_pairs"] <= 256]

    page.section("Three stages that feed one another")
    page.say(
        "Start at the origin, with L > N and unit mobilities. Until the fall, $v = \\xi q$ stays",
        "small (about $N^{-1/2}$, below) and the loss is linear in it. Three things then happen.",
    )
    page.say("**1.** The classifier sees even attention and grows at a constant rate,")
    page.show(r"\xi = q\left(1 - \frac{N}{L}\right) t")
    page.say("**2.** It pulls on the match, to first order in $\\alpha$ at $\\beta_1 = 0$ with")
    page.show(
        r"\dot\alpha = \xi\,\kappa_\alpha, \qquad \kappa_\alpha = q\left[\overline{m_s}"
        r" - \frac{c}{N}\,\overline{\sum_n m_n} - (1-c)\,\overline{\langle m\rangle}\right]"
        r", \qquad c = \frac{N}{L},"
    )
    page.say(
        "where the bars are means over the slot s. From the overlap of the match two means are",
        "subtracted: over the labels of the context, weighted by the prediction, and over all",
        "tokens, weighted by the attention.",
    )
    page.say(
        "**3.** Both pull on $\\beta_1$ with $\\dot\\beta_1 = \\xi\\alpha\\kappa_\\beta$, where",
        "$\\kappa_\\beta$ has $dm/d\\beta_1$ in place of m. The sums are harmonic numbers:",
    )
    formula = cs.transition(cs.N, cs.L)
    page.show(*formula.latex_lines()[:-2])
    for positions in ("exact", "mean"):
        sizes = [(2, 3), (8, 32), (64, 80)]
        models = [NestedLogit(*size, positions) for size in sizes]
        kappas = [theory.drives(model, model.n_pairs / model.n_labels) for model in models]
        page.measured(
            f"{KINDS[positions]}: κ_α against the compiled Hessian at the origin, (N, L) in "
            f"{sizes}",
            [float(kappa) for kappa, _ in kappas],
            [-model.hessian(ORIGIN)[1, 2] for model in models],
            1e-12,
        )
        h = 1e-4
        slopes = [
            (model.hessian([-h, 0.0, 0.0]) - model.hessian([h, 0.0, 0.0]))[1, 2] / (2 * h)
            for model in models
        ]
        page.measured(
            f"{KINDS[positions]}: κ_β against central differences of that Hessian in β₁",
            [float(kappa) for _, kappa in kappas],
            slopes,
            1e-7,
        )
        symbolic = [
            [
                float(value.xreplace(dict(cs.harmonics(sp.Integer(n)))))
                for value in cs.drives(sp.Integer(n), sp.Rational(n, count), positions)
            ]
            for n, count in sizes
        ]
        page.measured(
            f"{KINDS[positions]}: the formulas in `cliff.symbolic` and in `cliff.theory`",
            np.array(symbolic),
            [[float(a), float(b)] for a, b in kappas],
            1e-14,
        )

    page.section("The runaway")
    page.say(
        "While $E = e^{\\beta_1} \\ll N$, the overlap of the match, E/(E + 2s − 1), and its",
        "slope are",
        "proportional to E. (For exact positions the first few slots saturate earlier, which",
        "leaves",
        "an error of order 1/log N.) So both drives grow like E, and the ratio of the speeds of α",
        "and $\\beta_1$ does not depend on time:",
    )
    page.show(
        r"\frac{d\alpha}{d\beta_1} = \frac{\kappa_\alpha}{\alpha\,\kappa_\beta}"
        r"\ \Rightarrow\ \alpha^2 = \frac{2\kappa_\alpha}{\kappa_\beta}\beta_1"
        r"\ \Rightarrow\ \dot\beta_1 = \xi(t)\, e^{\beta_1}"
        r"\sqrt{2\kappa_\alpha\kappa_\beta\,\beta_1}"
    )
    page.say(
        "Separate the variables. The integral over $\\beta_1$ converges: $\\beta_1$ diverges when"
    )
    page.show(
        r"\int_0^\infty \frac{e^{-\beta}}{\sqrt{2\beta}}\,d\beta = \sqrt{\frac{\pi}{2}}"
        r",\qquad \frac{t^2}{2}\, q\left(1-\frac{N}{L}\right)\sqrt{\kappa_\alpha\kappa_\beta}"
        r" = \sqrt{\frac{\pi}{2}}"
    )
    beta = sp.Symbol("beta", positive=True)
    integral = sp.integrate(sp.exp(-beta) / sp.sqrt(2 * beta), (beta, 0, sp.oo))
    page.proved("the integral", integral - sp.sqrt(sp.pi / 2))
    page.show(*formula.latex_lines()[-2:])
    t, p = sp.symbols("t P", positive=True)
    page.proved(
        "this t solves the equation, with P = q(1 − N/L)√(κ_α κ_β)",
        (t**2 / 2 * p - sp.sqrt(sp.pi / 2)).subs(
            t, formula.results["t_transition"].subs(sp.Symbol("P", positive=True), p)
        ),
    )
    page.say(
        "From then on it takes another time of order $1/\\xi$ until the loss has fallen to ½ log",
        "N,",
        "which this law neglects. No number is fitted. (`theory.transition_law`)",
    )
    page.section("The last stage")
    page.say(
        "A fast classifier saturates. With ξ from [the slow phase](slow_phase.md) instead, and the",
        "drives at the context's probability $c = re^v/(1+re^v)$, the same argument says when",
        "$\\beta_1 = b$:",
    )
    page.show(
        r"\int_0^{v_b} \frac{v}{M_\xi q^3}\sqrt{\kappa_\alpha\kappa_\beta}\,(1+re^v)\,dv"
        r" = \sqrt{\frac{\pi}{2 M_{\beta_1}M_\alpha}}\ \mathrm{erf}\sqrt{b}, \qquad"
        r" t_b = \frac{v_b + r e^{v_b} - r}{M_\xi q^2}"
    )
    page.proved(
        "the partial integral over β₁",
        sp.diff(sp.sqrt(sp.pi / 2) * sp.erf(sp.sqrt(beta)), beta)
        - sp.exp(-beta) / sp.sqrt(2 * beta),
    )
    page.say(
        "From there on attention is no longer even, nor E ≪ N. But with the drives as functions",
        "of $\\beta_1$, where $\\kappa_\\beta = d\\kappa_\\alpha/d\\beta_1$, the ratio of the",
        "speeds of α and $\\beta_1$ still has neither ξ nor t in it, to first order in the",
        "attention, so that",
    )
    page.show(
        r"\frac{\alpha^2}{2M_\alpha} - \frac{1}{M_{\beta_1}}"
        r"\int^{\beta_1}\frac{\kappa_\alpha}{\kappa_\beta}\,d\beta = \mathrm{const}"
    )
    for positions in ("exact", "mean"):
        model, points = NestedLogit(*SIZE, positions), (-2.0, 1.0, 3.0)
        context = model.n_pairs / model.n_labels
        page.measured(
            f"{KINDS[positions]}: κ_α against the compiled Hessian at (β₁, 0, 0), β₁ in {points}",
            [float(theory.drives(model, context, point)[0]) for point in points],
            [-model.hessian([point, 0.0, 0.0])[1, 2] for point in points],
            1e-12,
        )
        h = 1e-4
        page.measured(
            f"{KINDS[positions]}: κ_β against central differences of κ_α",
            [float(theory.drives(model, context, point)[1]) for point in points],
            [
                float(np.subtract(*(theory.drives(model, context, point + d)[0] for d in (h, -h))))
                / (2 * h)
                for point in points
            ],
            1e-7,
        )
    overlap = sp.exp(beta) / (sp.exp(beta) + cs.N)
    page.proved(
        "in the mean field the integral is β₁ + E/N: the constant of motion that "
        "[the valleys](valleys.md) have exactly",
        sp.diff(beta + sp.exp(beta) / cs.N, beta) - overlap / sp.diff(overlap, beta),
    )
    page.say(
        "On this curve the flow has two variables, $\\beta_1$ and ξ. `theory.transition_time`",
        "starts it at $b = 1$, where $\\beta_1$ begins to feed on itself, and integrates it",
        "through the levels of the loss: that gives the time to ½ log N and, between",
        f"{LEVELS[0]:g} and {LEVELS[-1]:g} log N, the width.",
        "If the loss at b = 1 has already fallen below the plateau, as with",
        "a fast classifier at small N, where α alone brings it down, the match is at the largest",
        "b = ½, ¼, … where it has not. Nothing is fitted here either.",
    )

    page.section("Against the flow")
    page.say(
        "Relative error of the closed form, and of the two matched stages, against",
        "`integrate` from the origin (rtol 1e-8; `python derivations/transition_data.py`",
        "recomputes the measured times):",
    )
    for positions in ("exact", "mean"):
        lines, worst = [], [0.0, 0.0]
        for n in PAIRS:
            cells = []
            for ratio in RATIOS:
                row = at(equal, positions, n, int(ratio * n))
                model = NestedLogit(n, row["n_labels"], positions)
                estimates = [theory.transition_law(model), theory.transition_time(model)]
                errors = [estimate / row["t_transition"] - 1.0 for estimate in estimates]
                worst = [max(a, abs(b)) for a, b in zip(worst, errors, strict=True)]
                cells.append(f"{row['t_transition']:.4g}: {errors[0]:+.1%}, {errors[1]:+.1%}")
            lines.append((n, *cells))
        page.table([f"{KINDS[positions]}, N", *(f"L/N = {ratio:g}" for ratio in RATIOS)], lines)
        page.holds(
            f"{KINDS[positions]}: every error is below {percent(law_bound)} and "
            f"{percent(time_bound)}; the largest are {worst[0]:.1%} and {worst[1]:.1%}",
            worst[0] < law_bound and worst[1] < time_bound,
        )

    page.section("Where the fall starts")
    page.say(
        "Up to time t the integral has reached $\\mathrm{erf}\\sqrt{\\beta_1}$ of its value, that",
        "is $(t/t_*)^2$. $\\beta_1$ begins to feed on itself at $\\beta_1 = 1$, where",
        "$\\alpha = \\sqrt{2\\kappa_\\alpha/\\kappa_\\beta}$, at",
    )
    share = math.sqrt(math.erf(1.0))
    page.show(rf"\frac{{t}}{{t_*}} = \sqrt{{\mathrm{{erf}}\,1}} = {share:.3f}")
    large = [r for r in equal if r["n_pairs"] in PAIRS[3:]]
    ratios = [r["t_beta1_is_1"] / r["t_transition"] for r in large]
    page.say(
        "Nine tenths of the waiting are over before anything shows in the loss. Measured, for",
        f"N = {PAIRS[3]} … {PAIRS[-1]}: {min(ratios):.3f} … {max(ratios):.3f} of t_transition.",
    )
    close = 0.03
    page.holds(
        f"the measured share is within {close:g} of the derived one",
        max(abs(ratio - share) for ratio in ratios) < close,
    )

    page.section("How wide it is")
    page.say(
        "As a function of $\\int\\xi\\,dt$ the path of $\\alpha$ and $\\beta_1$ does not depend",
        "on ξ.",
        "The last stretch, during which ξ is nearly constant at $\\xi_*$, therefore takes a time",
        "of",
        "order $1/\\xi_*$, with $\\xi_* \\approx q(1-N/L)\\,t_* \\propto N^{1/2}$. The width",
        "shrinks while the wait grows: the abruptness t/width rises about like N². But ξ has to",
        f"grow too before the loss comes down to {LEVELS[-1]:g} log N, as it is never below",
        "$\\log(1 + (L-1)e^{-\\xi})$. `theory.width` has both, from the last stage above. Measured",
        "width, and the error of the estimate:",
    )
    for positions in ("exact", "mean"):
        lines, worst = [], 0.0
        for n in PAIRS:
            cells = []
            for ratio in RATIOS:
                row = at(equal, positions, n, int(ratio * n))
                estimate = theory.width(NestedLogit(n, row["n_labels"], positions))
                error = estimate / row["width"] - 1.0
                worst = max(worst, abs(error))
                cells.append(f"{row['width']:.3g}: {error:+.1%}")
            lines.append((n, *cells))
        page.table([f"{KINDS[positions]}, N", *(f"L/N = {ratio:g}" for ratio in RATIOS)], lines)
        page.holds(
            f"{KINDS[positions]}: every error is below {percent(width_bound)}; the largest is "
            f"{worst:.1%}",
            worst < width_bound,
        )
    page.say("How late the scaling with $1/\\xi_*$ sets in (L = 4N):")
    lines = []
    for positions in ("exact", "mean"):
        for n in PAIRS:
            r = at(equal, positions, n, 4 * n)
            lines.append(
                (
                    positions,
                    n,
                    f"{r['theta'][2]:.3g}",
                    f"{r['width'] * r['theta'][2]:.3g}",
                    f"{r['t_transition'] / r['width']:.4g}",
                )
            )
    page.table(["positions", "N", "ξ at the transition", "width · ξ", "t/width"], lines)

    page.section("Other mobilities")
    speeds, any_bound = (0.1, 1.0, 10.0), 0.35
    mobilities = np.array(list(product(speeds, repeat=3)))
    page.say(
        f"The largest errors over the {len(mobilities)} mobilities with",
        f"{' or '.join(f'{speed:g}' for speed in speeds)} for each circuit, L = 4N, and the",
        "mobilities of β₁, α and ξ at which they occur:",
    )
    lines, largest = [], {}
    for positions in ("exact", "mean"):
        for n in (4, 8, 32):
            model = NestedLogit(n, 4 * n, positions)
            late = 20.0 * max(theory.transition_law(model, m) for m in mobilities)
            flows = integrate_ensemble(model, 0.0 * mobilities, late, mobilities, rtol=1e-8)
            times = [theory.transition_time(model, m) for m in mobilities] / flows.t_transition - 1
            widths = [theory.width(model, m) for m in mobilities] / flows.width - 1
            cells = []
            for kind, errors in (("t", times), ("width", widths)):
                index = int(np.argmax(np.abs(errors)))
                largest[positions, n, kind] = abs(errors[index])
                cells.append(f"{errors[index]:+.0%} at {mobilities[index].tolist()}")
            lines.append((positions, n, *cells))
    page.table(["positions", "N", "error of t", "error of the width"], lines)
    page.holds(
        f"every time is within {percent(any_bound)}, and every width of the mean field within "
        f"{percent(width_bound)}",
        all(
            error < (any_bound if kind == "t" else width_bound)
            for (positions, _, kind), error in largest.items()
            if kind == "t" or positions == "mean"
        ),
    )
    page.say(
        "For exact positions the constant of motion holds to first order in the attention only:",
        "with α 100 times as fast as β₁, at small N, α has left it before the loss is down to",
        f"{LEVELS[-1]:g} log N, and the width that it gives is several times too long.",
    )
    return page


def at(rows: list[dict], positions: str, n_pairs: int, n_labels: int) -> dict:
    """The row of a landscape."""
    wanted = positions, n_pairs, n_labels
    return next(r for r in rows if (r["positions"], r["n_pairs"], r["n_labels"]) == wanted)


if __name__ == "__main__":
    write(derive)
