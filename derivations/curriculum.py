"""Curricula: when to switch, from which attention on, and how the time grows with N.

python derivations/curriculum.py
"""

import json
from itertools import pairwise

import numpy as np
import sympy as sp
from curriculum_data import DATA, N_LAWS, THRESHOLDS, doubling, one_switch, plain
from page import Page, percent, size_of, write

from cliff import NestedLogit
from cliff.curriculum import falls
from cliff.flow import integrate
from cliff.mobility_law import MEASURED, mobility
from cliff.schedule import THRESHOLD

TARGET = (16, 64)
NEAR, MEDIAN = 0.3, 0.05
"""How far the threshold may be from the best one."""


def derive() -> Page:
    page = Page("curriculum", "Curricula")
    data = json.loads(DATA.read_text(encoding="utf-8"))
    switching(page)
    threshold(page, data)
    growth(page, data["growth"])
    return page


def switching(page: Page) -> None:
    """The optimal switching time."""
    page.section("When to switch")
    page.say(
        "The logits $\\theta$ are shared by all contexts. Train with a small context, velocity",
        "$v$, until time u, and then with the target, velocity $w$. Let $R(\\theta)$ be the time",
        "that the target still takes from $\\theta$ on, until its loss is ½ log N. Along the",
        "target's own flow it runs down as the clock runs up, and the whole time is stationary:",
    )
    page.show(
        r"w\cdot\nabla R = -1, \qquad T(u) = u + R(\theta(u)), \qquad"
        r" \frac{dT}{du} = 1 + v\cdot\nabla R = (v - w)\cdot\nabla R = 0"
    )
    page.say(
        "Switch when the target's own velocity brings its fall nearer as fast as that of the small",
        "context does: no sooner, and no later. Nothing is approximated here. At the best single",
        f"switch to {size_of(TARGET)}, with the mobilities measured on networks:",
    )
    whole = plain(TARGET, MEASURED, 1e5)
    _, rough, first = one_switch(TARGET, MEASURED, whole)
    t, until = refined(rough, first)
    theta = at(until, first)
    speeds = {n: speed(theta, n) for n in (first, TARGET[0])}
    page.table(
        ["switch at", "from pairs", "learned at", "v · ∇R", "w · ∇R"],
        [[f"{until:.3g}", first, f"{t:.4g}", *(f"{speeds[n]:.2f}" for n in speeds)]],
    )
    page.measured(
        "w · ∇R is −1, by differences of R along the target's velocity",
        speeds[TARGET[0]], -1.0, 0.01,
    )  # fmt: skip
    page.measured("v · ∇R is −1 at the best switch", speeds[first], -1.0, 0.02)
    early, late = (speed(at(factor * until, first), first) for factor in (0.7, 1.3))
    page.holds(
        "before it the small context is faster, v · ∇R < −2, after it slower, v · ∇R > −½",
        early < -2.0 and late > -0.5,
    )


def refined(rough: float, first: int) -> tuple[float, float]:
    """The least time with one switch near a rough one, and when that is."""
    until = rough * np.linspace(0.93, 1.07, 561)
    ends = np.column_stack([until, np.full(len(until), 1000.0)])
    pairs = np.tile([first, TARGET[0]], (len(until), 1))
    labels = np.full_like(pairs, TARGET[1])
    t = falls(ends, pairs, labels, MEASURED, rtol=1e-8).t_transition
    best = int(np.argmin(t))
    return float(t[best]), float(until[best])


def at(until: float, n_pairs: int) -> np.ndarray:
    """theta after plain training with fewer pairs, shape (4,)."""
    return MEASURED.flow(n_pairs, TARGET[1], until).theta[-1]


def speed(theta: np.ndarray, n_pairs: int, h: float = 0.02) -> float:
    """v · ∇R, where v is the velocity with so many pairs."""
    arguments = MEASURED.arguments(n_pairs, TARGET[1])
    model = NestedLogit(n_pairs, TARGET[1], label_bias="free")
    v = -np.array(mobility(theta, *arguments)) * model.gradient(theta)
    ahead, behind = (remaining(theta + sign * h * v) for sign in (1.0, -1.0))
    return (ahead - behind) / (2.0 * h)


def remaining(theta: np.ndarray) -> float:
    """R, the time that the target takes from theta on."""
    model = NestedLogit(*TARGET, label_bias="free")
    path = integrate(
        model, theta, 3000.0, mobility=mobility, mobility_args=MEASURED.arguments(*TARGET),
        rtol=1e-10, atol=1e-12,
    )  # fmt: skip
    return path.transition().t_transition


def threshold(page: Page, data: dict) -> None:
    """The attention at which a larger context teaches more."""
    page.section("From which attention on")
    page.say(
        "Without a law of mobility $R$ is unknown, but what delays the fall is the match. Let the",
        "attention to the right label be $q = r/(1+r)$, with r its odds. The force on whatever",
        "raises log r by one is $\\xi(1-p)\\,q(1-q)$, where p is the probability of the right",
        "answer. Twice the pairs have twice the rivals, so the odds are halved. With p aside, the",
        "forces are equal at",
    )
    r = sp.Symbol("r", positive=True)
    q = r / (1 + r)
    halved = q.subs(r, r / 2)
    (odds,) = sp.solve(q * (1 - q) - halved * (1 - halved), r)
    page.show(r"\frac{r}{(1+r)^2} = \frac{r/2}{(1+r/2)^2}, \qquad r = \sqrt{2}, \qquad q = 0.586")
    page.proved("the solution", odds - sp.sqrt(2))
    page.measured("its attention", float(q.subs(r, odds)), 0.586, 1e-3)
    page.proved(
        "the present force is largest at even odds, q = ½",
        sp.diff(q * (1 - q), r).subs(r, 1),
        (q * (1 - q)).subs(r, 1) - sp.Rational(1, 4),
    )
    page.say(
        "The larger context also has the larger error 1 − p, which asks for the switch still",
        "sooner. So the rule is: go on when half of the attention is on the right label. The time",
        "until the target is learned, with pairs doubling from 2 at an attention of",
    )
    rows, shortfalls = [], []
    for row in data["thresholds"]:
        times = np.array(row["times"], float)
        here = times[THRESHOLDS.index(THRESHOLD)]
        shortfalls.append(here / np.nanmin(times) - 1.0)
        cells = ["never" if np.isnan(t) else f"{t:.4g}" for t in times]
        rows.append([size_of(row["target"]), *cells, f"{row['plain']:.4g}"])
    page.table(["target", *map(str, THRESHOLDS), "plain"], rows)
    page.holds(
        f"at {THRESHOLD} the time is within {percent(MEDIAN)} of the best of these thresholds",
        max(shortfalls) <= MEDIAN,
    )
    others = np.array([row["times"] for row in data["others"]], float)
    best = np.nanmin(others, axis=1)
    here = others[:, THRESHOLDS.index(THRESHOLD)] / best - 1.0
    gain = np.array([row["plain"] for row in data["others"]]) / (best * (1.0 + here))
    page.say(
        f"The rule does not know the mobilities. With {N_LAWS} other laws, each constant off by a",
        "random factor of up to 3 either way, the targets' times with it are still",
        f"{gain.min():.1f} to {gain.max():.1f} times less than plain at {size_of(TARGET)}.",
    )
    page.holds(
        f"the time at {THRESHOLD} is within {percent(MEDIAN)} of the best threshold in the median,"
        f" and within {percent(NEAR)} for every law",
        bool(np.median(here) <= MEDIAN and here.max() <= NEAR),
    )
    first = data["thresholds"][0]
    page.measured(
        f"an entry of the table, computed anew: {size_of(first['target'])}",
        doubling(tuple(first["target"]), THRESHOLD, MEASURED, first["plain"]),
        first["times"][THRESHOLDS.index(THRESHOLD)],
        1e-3,
    )


def growth(page: Page, rows: list[dict]) -> None:
    """How the time grows with N."""
    page.section("Large N")
    page.say(
        "Plain training waits for $N^{3/2}$, up to logarithms ([the cliff](transition.md)), since",
        "it begins with an attention of 1/(2N + 1), and everything that feeds the match is small",
        "with it. Along doubling contexts the attention is never small. In",
        "the mean field, with $E = e^{\\beta_1}$, layer 1 and the odds of the match are",
    )
    page.show(r"p_1 = \frac{E}{E+N}, \qquad r = \frac{e^{\alpha p_1}}{N-1}")
    e, n, alpha = sp.symbols("E N alpha", positive=True)
    p1 = e / (e + n)
    page.proved(
        "E doubles with N, β₁ + log 2, and p₁ is as before",
        p1.subs({e: 2 * e, n: 2 * n}, simultaneous=True) - p1,
    )
    later = p1.subs({e: 2 * e, n: 2 * n}, simultaneous=True)
    page.proved(
        "with α + log 2/p₁ besides, αp₁ grows by log 2: the odds are as before, up to a factor "
        "(2N − 2)/(2N − 1)",
        (alpha + sp.log(2) / p1) * later - alpha * p1 - sp.log(2),
    )
    page.say(
        "So each doubling asks for a fixed step of $\\beta_1$ and of $\\alpha$. The forces on both",
        "have $q(1-q)$ in front, about ¼ at the threshold, and no N. Each doubling takes a time of",
        "order one, and the whole time grows as log N. A single switch has to make the way from a",
        "small context at once, where the forces are either past (the small context is learned) or",
        "yet to come (the target's attention is of order 1/N). Unit mobilities, exact positions,",
        "three logits, L = 4N; the pairs double at an attention of ½:",
    )
    page.table(
        ["N", "plain", "one switch", "at", "from pairs", "doubling"],
        [
            [
                row["n_pairs"],
                *(f"{row[k]:.4g}" for k in ("plain", "one_switch", "until")),
                row["first"],
                f"{row['doubling']:.4g}",
            ]
            for row in rows
        ],
    )
    columns = {key: np.array([row[key] for row in rows]) for key in rows[0]}
    local = np.diff(np.log2(columns["plain"]))
    page.holds(
        f"plain training grows with local exponents {local.min():.2f} to {local.max():.2f}",
        bool(local.min() > 1.1 and local.max() < 1.5),
    )
    steps = [later - before for before, later in pairwise(columns["doubling"].tolist())]
    page.holds(
        "from sixteen pairs on, each doubling of the target costs the doubling curriculum less "
        "than half a unit of time, while plain training takes more than twice as long",
        bool(max(steps[1:]) < 0.5 and (columns["plain"][1:] > 2 * columns["plain"][:-1]).all()),
    )
    excess = np.diff(columns["one_switch"])
    ratios = np.log2(excess[1:] / excess[:-1])
    page.holds(
        "what a doubling costs a single switch grows as a power of N, local exponents "
        f"{ratios.min():.2f} to {ratios.max():.2f}: between the two",
        bool(ratios.min() > 0.5 and ratios.max() < 1.1),
    )


if __name__ == "__main__":
    write(derive)
