"""Finite dimension: random overlaps, item noise and a learned match operator.

python derivations/finite_dimension.py
"""

import json

import numpy as np
import sympy as sp
from finite_dimension_data import CASES, DATA, REDUCED, SIZE, THETAS, WIDTH
from page import Page, percent, size_of, write

from cliff import NestedLogit
from cliff.landscapes import finite_dimension
from cliff.landscapes.finite_dimension import IDEAL_WIDTH

SIGMAS = 4.5
"""Standard errors that the largest of some tens of differences may have."""

STAGES = ("before", "at", "after")
CLOSE, LARGE = 0.1, 63
"""From this D on the closed form is this close to what it approximates, for the data alone."""

ROUGH = 0.25
"""So far off it may be in smaller dimensions, or with a learned operator, at all points."""

NODES = 0.08
"""So far off three nodes in place of the slots are."""


def derive() -> Page:
    page = Page("finite_dimension", "Finite dimension: what is left after the fall")
    rows = json.loads(DATA.read_text(encoding="utf-8"))
    page.say(
        "[The loss](loss.md) takes contents for orthonormal. In D dimensions they are not:",
        "overlaps fluctuate from sequence to sequence, and once the head has formed the loss",
        "is made by the",
        "rare sequences in which a wrong token matches better than the right one. Contents are",
        "vectors of independent entries $N(0, 1/D)$; items of a class overlap by",
        "$\\rho = 1/(1 + \\mathrm{noise}^2)$ in the mean.",
    )
    overlaps(page, rows)
    operator(page)
    averages(page)
    limits(page)
    against_monte_carlo(page, rows)
    classifier(page, rows)
    return page


def overlaps(page: Page, rows: list[dict]) -> None:
    page.section("Overlaps, exactly")
    page.say(
        "Given the target $x$ of squared length $T$, the overlap of any other content with it is a",
        "normal number $\\sqrt{T/D}\\,g_j$, exactly and independently, and that of the matching",
        "item $\\rho T + \\sqrt{1-\\rho^2}\\sqrt{T/D}\\,g_s$. T is a gamma variable of mean 1 and",
        "variance 2/D, which all overlaps share. The matching overlap has the variance",
    )
    page.show(r"\frac{2\rho^2}{D} + \frac{1-\rho^2}{D} = \frac{1+\rho^2}{D}")
    rho, D = sp.symbols("rho D", positive=True)
    second = rho**2 * (1 + 2 / D) + (1 - rho**2) / D
    page.proved("the variance of the matching overlap", second - rho**2 - (1 + rho**2) / D)
    page.say(
        "Layer 1 is linear in the contents, so that these $2N + 1$ numbers give all scores of the",
        "target in layer 2: the loss of ideal logits is a mean over T and 2N normal numbers. Of",
        f"each of {len(CASES)} cases {SIZE:,} sequences of real vectors are drawn, with two layers",
        f"of attention and the landscape's theta, and {REDUCED:,} sequences of overlaps alone:",
    )
    alone = [row for row in rows if row["width"] == 0]
    page.holds(
        f"in all {len(alone)} cases without a learned operator the two agree within {SIGMAS:g} "
        "standard errors",
        max(_deviation(row) for row in alone) < SIGMAS,
    )


def _deviation(row: dict) -> float:
    error = np.hypot(row["ideal_error"], row["reduced_error"])
    return float(abs(row["ideal"] - row["reduced"]) / error)


def operator(page: Page) -> None:
    page.section("A learned match operator")
    page.say(
        "A network's score is $x \\cdot M b_j$, and what it learns is not $M = \\alpha$. The match",
        "operator is a product of layers, $M = Q^T K V$; where the layers have grown along each",
        "other, queries and keys are the values' own transpose, so that M is proportional to",
        "$\\Gamma = V^T V$, with V as random as it was drawn, of width W. Two moments of it count:",
        "the mean of its eigenvalues, which is alpha, and their spread. Its effective dimension is",
    )
    page.show(
        r"D_M = \frac{(\mathrm{tr}\,\Gamma)^2}{\mathrm{tr}\,\Gamma^2}, \qquad"
        r"\frac{1}{D_M} \to \frac{1}{D} + \frac{1}{W}"
    )
    D, W = sp.symbols("D W", positive=True)
    # entries of variance 1: E tr = W·D, E tr² = W·D·(W + D + 1)
    exact = (W * D) ** 2 / (W * D * (W + D + 1))
    scale = sp.Symbol("k", positive=True)
    at_scale = (1 / exact - (1 / D + 1 / W)).subs({D: scale * D, W: scale * W})
    page.proved("the limit for large D and W", sp.limit(at_scale * scale, scale, sp.oo))
    rng = np.random.default_rng(0)
    found, derived = [], []
    for dim, width in ((63, 128), (31, 96), (255, 320)):
        square = rng.standard_normal((width, dim))
        square = square.T @ square
        found.append(np.trace(square) ** 2 / (square**2).sum())
        derived.append(1 / (1 / dim + 1 / width))
    page.measured("the effective dimension of three drawn operators", found, derived, 0.03)
    page.say(
        "Under it $T = x \\cdot \\Gamma x$ is a gamma variable times a gamma variable, of variance",
        "near $2/D_M$, and the overlap of another content has the variance $T/D_M$. Two more parts",
        "of a score come with it, both random: one-hot positions in the buffer, $T/W$ times the",
        "sum of squares of the weights of layer 1; and the token itself, its content and its",
        "position,",
        "$TD/W^2$ each. W to infinity leaves the data alone. What an untrained network's scores",
        "have of their own is left out.",
    )


def averages(page: Page) -> None:
    page.section("Averages in closed form")
    h, u = sp.symbols("h u", positive=True)
    page.say(
        "The loss of rare failures is no series in 1/D: $\\alpha^2/D$ is of order one. T is",
        "averaged by a quadrature, as the cube of a normal number (Wilson and Hilferty), with",
        "$h = 2/(9D_M)$:",
    )
    page.show(r"T = \left(1 - h + \sqrt{h}\,u\right)^3")
    normal = {2: 1, 4: 3, 6: 15}
    cube = sp.Poly(sp.expand((1 - h + sp.sqrt(h) * u) ** 3), u)
    square = sp.Poly(cube.as_expr() ** 2, u)

    def mean(polynomial: sp.Poly) -> sp.Expr:
        terms = polynomial.terms()
        return sp.Add(*(c * normal.get(k, 1 if k == 0 else 0) for (k,), c in terms))

    page.proved("its mean is 1 up to h³", mean(cube) - (1 - h**3))
    variance = sp.expand(mean(square) - mean(cube) ** 2)
    page.proved("its variance is 2/D up to h²", sp.limit(variance / h, h, 0) - 9)
    page.say(
        "Given T, the exponentials of the wrong scores are lognormal, of the mean",
        "$e^{m + v/2}$ and the mean square $e^{2m + 2v}$. Their sum S is taken for a lognormal",
        "number with the same two moments (Fenton and Wilkinson), so that the logit of the",
        "attention to the right label is normal, with one more quadrature. S has the variance of",
        "the logarithm $\\log(1 + \\kappa(e^v - 1))$, where $\\kappa$ is the sum of squares of the",
        "tokens' shares. This is exact as v goes to 0. Positions in the sum, and the slot of the",
        "match from the second on, are three nodes of Gauss and Legendre. The first slot is apart:",
        "its item sees itself alone in layer 1, so that it matches as well as its label.",
        "Wrong attention is not spread evenly. A unit of it finds the rest of it on",
    )
    page.show(r"n = \frac{1 + 3(N-2)y^2 + (N-2)(N-3)y^3}{1 + (N-2)y^2}, \qquad y = e^{-v}")
    page.say("labels: $n = E[S^3] / E[S \\sum_j e_j^2]$ over the N − 1 wrong labels.")
    N, y = sp.symbols("N y", positive=True)
    more = N - 2
    count = (1 + 3 * more * y**2 + more * (more - 1) * y**3) / (1 + more * y**2)
    page.proved(
        "n is N − 1 at v = 0, and 1 at large v", count.subs(y, 1) - (N - 1), count.subs(y, 0) - 1
    )
    v = 0.7
    x, w = np.polynomial.hermite_e.hermegauss(40)
    w /= w.sum()
    e = np.exp(np.sqrt(v) * np.array(np.meshgrid(x, x, x)))
    weight = w[:, None, None] * w[None, :, None] * w[None, None, :]
    S = e.sum(axis=0)
    by_grid = (weight * S**3).sum() / (weight * S * (e**2).sum(axis=0)).sum()
    page.measured(
        "n of three labels, by a quadrature over all three",
        by_grid, float(count.subs({N: 4, y: np.exp(-v)})), 1e-9,
    )  # fmt: skip


def limits(page: Page) -> None:
    page.section("Back to the nested logit")
    page.say(
        "With D and W to infinity and no noise, what differs is three nodes in place of slots:"
    )
    lines, errors = [], []
    for (n_pairs, n_labels), thetas in THETAS.items():
        model = finite_dimension(n_pairs, n_labels, IDEAL_WIDTH, 0, IDEAL_WIDTH)
        nested = NestedLogit(n_pairs, n_labels, label_bias="free")
        for stage, theta in zip(STAGES, thetas, strict=True):
            values = float(nested.loss(theta)), float(model.loss(theta))
            lines.append(
                (size_of((n_pairs, n_labels)), f"{stage} the fall", *(f"{x:.4g}" for x in values))
            )
            errors.append(abs(values[1] / values[0] - 1))
    page.table(("", "", "nested logit (nats)", "three slots (nats)"), lines)
    page.holds(
        f"they differ by less than {percent(NODES)}",
        max(errors) < NODES,
    )


def against_monte_carlo(page: Page, rows: list[dict]) -> None:
    page.section("Against Monte Carlo")
    page.say(
        "Loss in nats, of drawn overlaps (± standard error) and in closed form; W = 0 stands for",
        "the data alone:",
    )
    lines, alone, other, nested_off = [], [], [], []
    for row in rows:
        size = row["n_pairs"], row["n_labels"]
        stage = STAGES[THETAS[size].index(tuple(row["theta"]))]
        width = row["width"] or IDEAL_WIDTH
        model = finite_dimension(*size, row["dim"], row["noise"], width)
        closed = float(model.loss(row["theta"]))
        nested = float(NestedLogit(*size, label_bias="free").loss(row["theta"]))
        drawn, error = row["reduced"], row["reduced_error"]
        off = max(abs(closed - drawn) - SIGMAS * error, 0.0) / drawn
        (alone if row["width"] == 0 and row["dim"] >= LARGE else other).append(off)
        if stage != "before" and row["dim"] <= LARGE:
            nested_off.append(abs(nested - drawn) / error)
        lines.append(
            (
                *size, row["dim"], f"{row['noise']:g}", row["width"], stage, f"{nested:.3g}",
                f"{drawn:.3g} ± {error:.1g}", f"{closed:.3g}",
            )
        )  # fmt: skip
    header = ("N", "L", "D", "noise", "W", "fall", "nested logit", "drawn", "closed form")
    page.table(header, lines)
    page.holds(
        f"from D = {LARGE} on, for the data alone, the closed form is within {percent(CLOSE)} "
        f"and {SIGMAS:g} standard errors",
        max(alone) < CLOSE,
    )
    page.holds(
        f"elsewhere it is within {percent(ROUGH)} and as many errors",
        max(other) < ROUGH,
    )
    page.holds(
        f"up to D = {LARGE} the nested logit is off by more than {SIGMAS:g} errors at and after "
        "the fall",
        min(nested_off) > SIGMAS,
    )
    learned = [row for row in rows if row["width"]]
    page.holds(
        f"with real matrices V of width {WIDTH} drawn overlaps agree with real vectors within "
        f"{SIGMAS:g} standard errors",
        max(_deviation(row) for row in learned) < SIGMAS,
    )
    page.say(
        "The closed form fails where single tokens rule the sum S: at $\\alpha^2/D_M$ above about",
        "2 its lognormal stand-in has too thin a tail, or the count of competitors is too small.",
    )


def classifier(page: Page, rows: list[dict]) -> None:
    page.section("Overlaps in the classifier")
    page.say(
        "The landscape's logits are ideal, $\\xi q_k$. A classifier that reads",
        "$\\xi\\,l_k \\cdot o$ off the output $o = \\sum_j q_j c_j$ also sees the labels'",
        "overlaps with each other, and with the items that are still attended to. The",
        "labels' own overlaps are fixed, and for L",
        "up to D a trained classifier can undo them, by vectors dual to the labels'. Loss after",
        "the fall, of real vectors, noise as above:",
    )
    after = [
        row for row in rows
        if row["width"] == 0 and tuple(row["theta"]) == THETAS[row["n_pairs"], row["n_labels"]][-1]
    ]  # fmt: skip
    page.table(
        ("N", "L", "D", "noise", "ideal", "overlaps", "undone"),
        [
            (
                row["n_pairs"], row["n_labels"], row["dim"], f"{row['noise']:g}",
                *(f"{row[name]:.3g}" for name in ("ideal", "overlaps", "undone")),
            )
            for row in after
        ],
    )  # fmt: skip
    page.holds(
        "overlaps cost more than ideal logits, and most of it is undone wherever D is above L",
        all(
            row["overlaps"] > row["ideal"]
            and (row["undone"] - row["ideal"] < row["overlaps"] - row["undone"])
            for row in after
            if row["dim"] > row["n_labels"]
        ),
    )


if __name__ == "__main__":
    write(derive)
