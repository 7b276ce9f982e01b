"""The valleys: limits at infinity, which of them attract, and where random starts end.

python derivations/valleys.py
"""

import json
import math
from inspect import signature
from itertools import pairwise

import numpy as np
import sympy as sp
from page import KINDS, Page, write
from valleys_data import DATA, N_PAIRS, SEED, STARTS, starts

from cliff import NestedLogit, integrate
from cliff import symbolic as cs
from cliff.valleys import UNDECIDED, VALLEYS, identify, name_of, sink_counts, valleys

TOLERANCE = signature(identify).parameters["tolerance"].default


def derive() -> Page:
    page = Page("valleys", "The valleys")
    n, labels = N_PAIRS, 4 * N_PAIRS

    page.section("What can be a limit")
    page.say(
        "All ends in the last table are on their way to infinity; that no point at finite θ",
        "attracts",
        "is not proved. Which limits have a finite loss? For",
        "$\\xi \\to +\\infty$ the softmax picks the labels with the most attention: the loss stays",
        "finite only if the correct label is among them, for every slot. For $\\xi \\to -\\infty$",
        "it picks those with the least, and the $L - N$ labels that are not in the context have",
        "none: the correct label's attention must vanish as well, $|\\xi| q_s \\to 0$. Whether it",
        "does depends on the overlaps, through the signs of $\\alpha$ and of $\\beta_1$:",
    )
    page.table(
        ["ξ", "α", "needed of the overlaps", "met if"],
        [
            ("+∞", "> 0", "the match has the largest of all labels", "E above a number < 1"),
            ("+∞", "< 0", "the match has the smallest", "E → 0: labels up to s tie at 0"),
            ("−∞", "< 0", "the match has the largest", "as for ξ, α > 0, and α → −∞ if L > N"),
            ("−∞", "> 0", "the match has the smallest", "E → 0: labels up to s tie at 0"),
            ("+∞", "0", "all labels tie", "always: the plateau"),
        ],
    )
    e, s = sp.symbols("E s", positive=True)
    page.say("The first condition is hardest for the next label, n = s + 1:")
    page.show(r"\frac{E}{E+2s-1} > \frac{1}{E+2s+1} \Leftrightarrow E^2 + 2sE - (2s-1) > 0")
    page.proved(
        "the equivalence",
        e * (e + 2 * s + 1) - (e + 2 * s - 1) - (e**2 + 2 * s * e - (2 * s - 1)),
    )
    page.proved(
        "at E = 1 the left side is 2 for every s: from β₁ = 0 on, any α > 0 is enough",
        1 + 2 * s - (2 * s - 1) - 2,
    )

    page.section("Their losses")
    page.say(
        "**induction**: no label ties with the match. **shunned-match**: the classifier votes",
        "against the labels that are attended to, which leaves the match and the $L - N$ absent",
        "labels. **early-labels**: labels 1 … s tie. For $\\xi \\to -\\infty$, $\\alpha > 0$ the",
        "same labels tie if L = N",
        "(**early-labels-inverted**). If L > N, attention has to sink into other tokens",
        "(**sink**), as $q_s \\propto e^{-\\alpha\\,\\mathrm{top}_s}$ with top = 1 for s = 1 (the",
        "first token attends to itself) and max(1/(2s − 2), 1/N) otherwise (the item, or the",
        "target). With $\\xi = -e^{\\kappa\\alpha}$ a later label n is voted down if",
        "$\\kappa > \\mathrm{top}_s - 1/(2n-1)$ and the correct one survives if",
        "$\\kappa < \\mathrm{top}_s$ for all s, so that the best is $\\kappa \\to 1/N$:",
    )
    formula = cs.valleys(cs.N, cs.L)
    page.show(*formula.latex_lines())
    sink = next(v for v in VALLEYS if v.name == "sink")
    sizes = [(3, 4), (8, 9), (8, 32), (33, 40), (100, 400)]
    page.measured(
        f"the sum for a symbolic N against the counts in `cliff.valleys`, (N, L) in {sizes}",
        [float(formula.results["sink"].subs({cs.N: a, cs.L: b}).evalf()) for a, b in sizes],
        [sink.loss(*size) for size in sizes],
        1e-12,
    )
    counts = ", ".join(map(str, sink_counts(n)))
    page.show(
        r"\mathrm{sink} = \frac{1}{N} \sum_s \log(c_s + L - N)"
        + rf",\qquad c_s = {counts}\ \mathrm{{for}}\ N = {n}"
    )
    far = {
        "induction": [(40.0, 60.0, 1e3)],
        "shunned-match": [(40.0, -60.0, -1e6)],
        "early-labels": [(-60.0, -60.0, 1e6)],
        "early-labels-inverted": [(-60.0, 3.0, -1e7)],
        "plateau": [(0.0, 0.0, 1e4)],
    }
    for name in far:
        valley = next(v for v in VALLEYS if v.name == name)
        sizes = [(n, count) for count in (n, labels) if valley.exists(n, count)]
        got = [float(NestedLogit(*size).loss(far[name][0])) for size in sizes]
        page.measured(
            f"{name}: 1 + the compiled loss at θ = {far[name][0]}, L in {[c for _, c in sizes]}",
            1.0 + np.array(got),
            [1.0 + valley.loss(*size) for size in sizes],
            1e-9,
        )
    beta1, alpha, kappas = -60.0, 2000.0, np.linspace(0.05, 0.124, 149)
    scan = [
        float(NestedLogit(n, labels).loss([beta1, alpha, -math.exp(kappa * alpha)]))
        for kappa in kappas
    ]
    page.measured(
        f"sink: the least compiled loss at β₁ = {beta1:g}, α = {alpha:g}, ξ = −exp(κα), "
        f"κ = {kappas[0]:g} … {kappas[-1]:g}",
        min(scan),
        sink.loss(n, labels),
        1e-4,
    )

    page.section("Which attract")
    page.say(
        "The plateau does not: at $\\alpha = 0$ and $\\xi \\to \\infty$ the force on $\\alpha$ is",
        "$\\xi\\rho(\\beta_1)$ with the rate of [the saddle](origin.md), so that $\\alpha$ leaves",
        "on the side of ρ's sign. The last table shows that open sets of starts end in the other",
        "valleys; it is no proof.",
        "In the mean field there is a constant of motion, since $\\beta_1$ and $\\alpha$ enter",
        "through $\\alpha E/(E+N)$ alone:",
    )
    page.show(r"\frac{\alpha^2}{2M_\alpha} - \frac{\beta_1 + E/N}{M_{\beta_1}} = \mathrm{const}")
    beta, alpha, size = sp.Symbol("beta", real=True), sp.Symbol("a", real=True), cs.N
    push, m1, m2 = sp.symbols("g M1 M2", positive=True)
    logit = alpha * sp.exp(beta) / (sp.exp(beta) + size)
    constant = alpha**2 / (2 * m2) - (beta + sp.exp(beta) / size) / m1
    page.proved(
        "its rate of change along any flow that pushes on α·E/(E + N), of strength g",
        sp.diff(constant, beta) * m1 * push * sp.diff(logit, beta)
        + sp.diff(constant, alpha) * m2 * push * sp.diff(logit, alpha),
    )
    page.say(
        "So $\\beta_1 \\to -\\infty$ would need $\\alpha^2 \\to -\\infty$: the mean field has no",
        "valley there. A start with $\\beta_1 \\ll 0$ drifts down to where $\\alpha$ changes sign,",
        "and comes back, in a time of the order of $e^{|\\beta_1|}$ that it spends on the plateau.",
    )

    page.section("Where random starts end")
    rows = json.loads(DATA.read_text(encoding="utf-8"))
    page.say(
        f"N = {n}; {STARTS} normal starts of standard deviation σ each, seed {SEED}, unit",
        "mobilities, until time t. An end counts for a valley if three things hold: α and ξ have",
        "the valley's signs; the loss is within",
        f"{TOLERANCE:g} of the valley's; and both the loss and the mean probability of the correct",
        "label are closer to the valley's values than to those of any other level at which a",
        "trajectory can stay: the start, log L, and for ξ > 0 the plateau, log N",
        "(`cliff.valleys.identify`). `python derivations/valleys_data.py` recomputes the counts.",
    )
    names = [v.name for v in VALLEYS if v.attracts]
    lines = []
    for row in rows:
        left = len(row["undecided"])
        losses = f"{left} at {row['undecided'][0]:.2f} … {row['undecided'][-1]:.2f}" if left else 0
        lines.append(
            (
                row["positions"],
                row["n_labels"],
                f"{row['deviation']:g}",
                f"{row['t_end']:.0e}",
                *(row["counts"].get(name, 0) for name in names),
                losses,
            )
        )
    page.table(["positions", "L", "σ", "t", *names, "undecided"], lines)
    widest = 3.0
    page.holds(
        f"a negative control: of the starts themselves none with σ ≤ {widest:g} counts for a "
        "valley",
        all(
            (identify(model, start, model.loss(start)) == UNDECIDED).all()
            for row in rows
            if row["deviation"] <= widest
            for model, start in [starts(row["positions"], row["n_labels"], row["deviation"])]
        ),
    )
    exact = [row for row in rows if row["positions"] == "exact"]
    mean = [row for row in rows if row["positions"] == "mean"]
    usual, late = sorted({row["t_end"] for row in exact})
    page.holds(
        "exact positions: every end but one lies in a named valley that attracts, and all do in "
        f"the row with t = {late:.0e}",
        [len(row["undecided"]) for row in exact if row["undecided"]] == [1]
        and not any(row["undecided"] for row in exact if row["t_end"] == late)
        and all(row["done"] == row["starts"] for row in rows),
    )
    waiting = sorted(
        (row for row in mean if row["deviation"] == 10.0),
        key=lambda row: (row["n_labels"], row["t_end"]),
    )
    near = 0.01
    page.holds(
        f"mean field: what is undecided has the plateau's loss log N to {near:g}, and becomes less",
        all(abs(loss - math.log(n)) < near for row in mean for loss in row["undecided"])
        and all(
            len(a["undecided"]) > len(b["undecided"])
            for a, b in pairwise(waiting)
            if a["n_labels"] == b["n_labels"]
        ),
    )
    for positions in ("exact", "mean"):
        for count in sorted({row["n_labels"] for row in rows if row["positions"] == positions}):
            expected = {v.name for v in valleys(NestedLogit(n, count, positions)) if v.attracts}
            reached = {
                name
                for row in rows
                if (row["positions"], row["n_labels"]) == (positions, count)
                for name in row["counts"]
            }
            page.holds(
                f"{KINDS[positions]}, (N, L) = ({n}, {count}): each of its {len(expected)} valleys "
                "that are marked as attracting is reached, and no other",
                reached == expected,
            )
    page.say(
        "In the mean field, the trajectories on the plateau are slow, not at rest, in accordance",
        "with the constant of motion: the later the time, the fewer they are. The sink takes few",
        "starts at",
        "L = 4N and many close to L = N. The one end at L = 4N that is undecided at",
        f"t = {usual:.0e} is on its way there, and logarithmically slow:",
        "its $\\kappa = \\log|\\xi|/\\alpha$ has",
        "ruled out some of the later labels only, and rises still. That it goes on to 1/N, and the",
        f"loss to its limit of {sink.loss(n, labels):.4f}, is not shown.",
    )
    model, start = starts("exact", labels, 10.0)
    lines, kappas = [], []
    for t in (1e4, usual, late, 1e12, 1e18):
        path = integrate(model, start[452], t, method="lsoda")
        _, match, classifier = path.theta[-1]
        kappas.append(math.log(-classifier) / match)
        label = int(identify(model, path.theta[-1], path.loss[-1]))
        name = name_of(label)
        size = f"{t:.0e}", f"{match:.1f}", f"{classifier:.3g}", f"{kappas[-1]:.3f}"
        lines.append((*size, f"{path.loss[-1]:.4f}", name))
    page.table(["t", "α", "ξ", "κ", "loss", "counts for"], lines)
    page.holds(
        "κ rises all the time, and stays below 1/N", sorted(kappas) == kappas and kappas[-1] < 1 / n
    )
    page.holds(
        f"the end counts for the sink from t = {late:.0e} on",
        [name for *_, name in lines] == ["undecided"] * 2 + ["sink"] * 3,
    )
    large, start = 16, [-3.0, 3.0, -5.0]
    slow = integrate(NestedLogit(large, large), start, usual, method="lsoda")
    inverted = next(v for v in VALLEYS if v.name == "early-labels-inverted")
    left = slow.loss[-1] - inverted.loss(large, large)
    page.say(
        "Nor does early-labels-inverted approach fast, and less so the larger N. From",
        f"{start} with N = L = {large} the loss at t = {usual:.0e} is still {left:.2f} above its",
        "limit.",
    )
    page.holds(f"this is more than the {TOLERANCE:g} that count", left > TOLERANCE)
    return page


if __name__ == "__main__":
    write(derive)
