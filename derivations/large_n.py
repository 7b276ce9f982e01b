"""The large-N law of the transition time, for equal mobilities and for a fast classifier.

python derivations/large_n.py
"""

import json
import math
from itertools import pairwise

import numpy as np
import sympy as sp
from page import Page, percent, write
from transition_data import CLASSIFIERS, DATA, PAIRS

from cliff import NestedLogit, integrate, theory
from cliff import symbolic as cs

SIZES = (*PAIRS, 512, 1024)
FROM, CLOSE = 64, 0.005
"""From this N on, measured and derived exponents are this close."""


def derive() -> Page:
    page = Page("large_n", "Large N: how long the wait grows")
    rows = {
        (r["positions"], r["n_pairs"], r["mobility_xi"]): r["t_transition"]
        for r in json.loads(DATA.read_text(encoding="utf-8"))
        if r["n_labels"] == 4 * r["n_pairs"]
    }

    page.section("Equal mobilities")
    page.say(
        "Put the large-N forms of the drives into [the law](transition.md), with L/N fixed. For",
        "exact positions $\\overline{m_s} \\to H/(2N)$, and so does its slope, so that",
        "$\\kappa_\\alpha \\approx \\kappa_\\beta \\approx \\log N/(4N^2)$; in the mean field both",
        "are $1/N^2$:",
    )
    page.show(
        r"t \to \sqrt{\frac{16\sqrt{\pi/2}}{1 - N/L}}\; \frac{N^{3/2}}{\sqrt{\log N}}"
        r"\ \mathrm{(exact)},\qquad "
        r"t \to \sqrt{\frac{2\sqrt{\pi/2}}{1-N/L}}\; N^{3/2}\ \mathrm{(mean\ field)}"
    )
    n, share = sp.Symbol("n", positive=True), sp.Symbol("c", positive=True)
    kappa_a, kappa_b = cs.drives(n, share, "mean")
    t2 = sp.sqrt(2 * sp.pi) / ((1 - share) / n * sp.sqrt(kappa_a * kappa_b))
    page.proved(
        "the limit of t²/N³ in the mean field",
        sp.limit(t2 / n**3, n, sp.oo) * (1 - share) - 2 * sp.sqrt(sp.pi / 2),
    )
    kappa_a, kappa_b = cs.drives(n, share, "exact")
    log = sp.log(n)
    leading = (log, sp.pi**2 / 6, log / 2, sp.pi**2 / 8)
    asymptotic = dict(zip(cs.HARMONICS, leading, strict=True))
    page.proved(
        "the limits of κ_α and κ_β over log N/(4N²), with the leading orders of the four sums",
        *(
            sp.limit(sp.expand(kappa.xreplace(asymptotic) * 4 * n**2 / log), n, sp.oo) - 1
            for kappa in (kappa_a, kappa_b)
        ),
    )
    page.say(
        "All of it happens at $v = \\xi q \\approx N^{-1/2}$: at large N the classifier has hardly",
        "begun to tell labels apart by itself when the attention falls into place.",
        "Measured times (L = 4N) and local exponents, log₂ of the ratio of neighbours:",
    )
    lines, differences = [], []
    for positions in ("exact", "mean"):
        for small, large in pairwise(SIZES):
            exponent = math.log2(rows[positions, large, 1.0] / rows[positions, small, 1.0])
            estimates = [
                theory.transition_law(NestedLogit(size, 4 * size, positions))
                for size in (small, large)
            ]
            derived = math.log2(estimates[1] / estimates[0])
            error = estimates[1] / rows[positions, large, 1.0] - 1.0
            lines.append(
                (
                    positions,
                    large,
                    f"{rows[positions, large, 1.0]:.5g}",
                    f"{error:+.1%}",
                    f"{exponent:.3f}",
                    f"{derived:.3f}",
                )
            )
            if small >= FROM:
                differences.append(abs(exponent - derived))
    page.table(
        ["positions", "N", "t_transition", "error of the law", "local exponent", "of the law"],
        lines,
    )
    page.holds(
        f"from N = {FROM} on, measured and derived exponents differ by less than {CLOSE:g}",
        max(differences) < CLOSE,
    )
    last = [rows["mean", size, 1.0] for size in SIZES[-2:]]
    page.measured(
        "mean field: the last local exponent is 3/2", math.log2(last[1] / last[0]), 1.5, 3e-3
    )
    last = [rows["exact", size, 1.0] for size in SIZES[-2:]]
    page.measured(
        f"exact positions: the local exponent at N = {SIZES[-1]} is 3/2 less the logarithm's "
        "1/(2(log N + γ − 1))",
        math.log2(last[1] / last[0]),
        1.5 - 0.5 / (math.log(SIZES[-1]) + np.euler_gamma - 1.0),
        1e-2,
    )

    page.section("A fast classifier")
    page.say(
        "With $M_\\xi$ so large that ξ saturates at once, $v = \\xi q$ creeps like",
        "$\\log(M_\\xi q^2 t/r)$ and the runaway needs $\\int v\\,dt$ of order N only:",
    )
    page.show(
        r"v\,t \to \sqrt{\frac{\pi}{2 M_{\beta_1} M_\alpha}}\; \frac{q}{\sqrt{\kappa_\alpha"
        r"\kappa_\beta}} \approx \sqrt{\frac{\pi}{2 M_{\beta_1} M_\alpha}}"
        r"\ \frac{2N}{\log N}\ \mathrm{(exact)}\ \ \mathrm{or}\ \ N\ \mathrm{(mean\ field)}",
    )
    page.say(
        "The two regimes meet where v reaches order 1 at the fall, at $M_\\xi$ of order N: at",
        "any fixed mobility the 3/2 law returns for large enough N. Measured at L = 4N, with",
        "the error of `theory.transition_time`:",
    )
    lines, errors = [], []
    for positions in ("exact", "mean"):
        for large in SIZES:
            cells: list[object] = [positions, large]
            for fast in CLASSIFIERS:
                mobility = float(large**2) if fast == "N^2" else fast
                t = rows[positions, large, mobility]
                model = NestedLogit(large, 4 * large, positions)
                error = theory.transition_time(model, (1.0, 1.0, mobility)) / t - 1.0
                errors.append(error)
                cells.append(f"{t:.4g} ({error:+.1%})")
                if large > SIZES[0]:
                    before = large // 2
                    old = float(before**2) if fast == "N^2" else fast
                    cells.append(f"{math.log2(t / rows[positions, before, old]):.2f}")
                else:
                    cells.append("")
            lines.append(cells)
    shown = [fast if fast == "N^2" else f"{fast:g}" for fast in CLASSIFIERS]
    names = [name for fast in shown for name in (f"M_ξ = {fast}", "exponent")]
    page.table(["positions", "N", *names], lines)
    page.holds(
        f"with M_ξ = N² the exponents at N = {SIZES[-1]} are below 1: N over logarithms",
        all(
            rows[p, SIZES[-1], float(SIZES[-1] ** 2)]
            < 2.0 * rows[p, SIZES[-2], float(SIZES[-2] ** 2)]
            for p in ("exact", "mean")
        ),
    )
    bound = 0.04
    page.holds(
        f"every error of the estimate is below {percent(bound)}", max(map(abs, errors)) < bound
    )
    page.say(
        "Where $M_\\xi \\gg N$ at small N (the upper rows) the loss passes ½ log N through",
        "$\\alpha$ alone, before $\\beta_1$ has any part in it: there is no runaway to wait for,",
        "and the law's N over logarithms is not seen before N is large.",
    )

    page.section("Beside the quadratic law")
    page.say(
        "Musat et al. (arXiv 2511.01033) prove for their two-layer attention-only model, whose",
        "dynamics also come down to three numbers, that classifier, match and previous-token",
        "attention form in this order in times Θ(N), Θ(N²) and Θ(N²). The order is the same here.",
        "The powers are not:",
    )
    page.table(
        ["", "classifier", "match and previous token"],
        [
            ("Musat et al.", "Θ(N)", "Θ(N²)"),
            ("here, equal mobilities", "v = 1 would take Θ(N²)", "Θ(N^(3/2)), /√log N if exact"),
            ("here, M_ξ = Θ(N)", "Θ(N)", "Θ(N), /√log N … /log N if exact"),
            ("here, M_ξ = Θ(N), M_α = M_β₁ = Θ(1/N)", "Θ(N)", "Θ(N²), up to logarithms"),
        ],
    )
    page.say(
        "Here the force on ξ is proportional to one label's share of the attention,",
        "$q \\approx 1/(2N)$, and the prediction depends on $\\xi q$: two factors of 1/N, so",
        "that the",
        "classifier alone takes Θ(N²). But it does not have to form first. The three circuits grow",
        "together while all are small, which is faster than one after the other. Times of Θ(N) for",
        "the classifier and Θ(N²) for the attention follow from this landscape if the classifier's",
        "mobility is N and the attention's 1/N. Which mobilities a network has depends on its",
        "parametrisation and initialisation, in which the two models differ; this page compares",
        "exponents, not the models' derivations.",
    )
    lines, compared = [], (128, 256)
    for positions in ("exact", "mean"):
        measured, estimated = [], []
        for size in compared:
            model, mobility = NestedLogit(size, 4 * size, positions), (1 / size, 1 / size, size)
            estimated.append(theory.transition_time(model, mobility))
            path = integrate(model, [0.0, 0.0, 0.0], 2.0 * estimated[-1], mobility)
            measured.append(path.transition().t_transition)
        exponents = [math.log2(large / small) for small, large in (measured, estimated)]
        lines.append((positions, *(f"{exponent:.2f}" for exponent in exponents)))
    page.say(
        f"Local exponents of the last row from N = {compared[0]} to {compared[1]}, short of 2 by",
        "the logarithms:",
    )
    page.table(["positions", "measured", "by `theory.transition_time`"], lines)
    return page


if __name__ == "__main__":
    write(derive)
