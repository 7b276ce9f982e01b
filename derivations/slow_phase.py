"""The slow phase: the classifier alone, in closed form, and the plateau that it runs into.

python derivations/slow_phase.py
"""

import sympy as sp
from page import KINDS, ORIGIN, SIZE, Page, percent, size_of, write

from cliff import NestedLogit, integrate, theory
from cliff import symbolic as cs


def derive() -> Page:
    page = Page("slow_phase", "The slow phase and the plateau")
    q, r, c, v = sp.symbols("q r c v", positive=True)
    n, labels = sp.symbols("N L", positive=True)

    page.section("The flow of xi alone")
    page.say(
        "With $\\alpha = 0$ attention stays even, and the loss depends on $v = \\xi q$ alone.",
        "Write $r = N/(L-N)$:",
    )
    page.show(
        r"\mathrm{loss} = \log\left(N + (L-N)\,e^{-v}\right), \qquad"
        r"\dot v = \frac{q^2}{1 + r e^{v}}"
    )
    loss = -v + sp.log(n * sp.exp(v) + labels - n)
    ratio = n / (labels - n)
    page.proved(
        "the loss, and −q² d loss/dv",
        sp.exp(loss) - (n + (labels - n) * sp.exp(-v)),
        -(q**2) * sp.diff(loss, v) - q**2 / (1 + ratio * sp.exp(v)),
    )
    page.say("Separate the variables and solve with Lambert's function, W(z) e^W(z) = z:")
    page.show(
        r"v + r e^{v} = q^2 t + v_0 + r e^{v_0} =: c, \qquad v(t) = c - W(r e^{c})"
        r",\qquad \mathrm{loss}(t) = \log N + \log\left(1 + \frac{1}{W(r e^c)}\right)"
    )
    w = sp.LambertW(r * sp.exp(c))
    omega = cs.WrightOmega(c + sp.log(r))
    page.proved(
        "dv/dt (1 + W) = q², with W = W(r e^c) and dc/dt = q²",
        q**2 * sp.diff(c - omega, c) * (1 + omega) - q**2,
        q**2 * (1 - w / (1 + w)) * (1 + w) - q**2,
    )
    values = [
        abs(float((w - r * sp.exp(c - w)).subs({r: r0, c: c0}).evalf(40)))
        for r0, c0 in ((sp.Rational(1, 31), 2), (sp.Rational(1, 3), 5), (4, 9))
    ]
    page.holds("r e^v = W to 1e-30 at three rational points, with 40 digits", max(values) < 1e-30)
    page.say(
        "It starts at log L and ends at the plateau log N, the guess among the labels of the",
        "context, which it approaches like $\\log N + 1/(q^2 t)$.",
    )
    times, mobility, xi0 = [10**k for k in range(5)], (0, 0, 1), 0.3
    for positions in ("exact", "mean"):
        model = NestedLogit(*SIZE, positions)
        path = integrate(
            model, [0.0, 0.0, xi0], times[-1], mobility, rtol=1e-12, atol=1e-13, t_eval=times
        )
        page.measured(
            f"{KINDS[positions]}, {size_of(SIZE)}: ξ and the loss of the compiled flow from "
            f"ξ = {xi0:g} with mobilities {mobility} at t in {times}",
            [path.theta[:, 2], path.loss],
            theory.slow_phase(model, times, xi0),
            1e-8,
        )

    page.section("How long it is valid")
    page.say(
        "$\\alpha$ follows at $\\dot\\alpha = \\xi\\,\\kappa_\\alpha$ and changes attention once",
        "$\\alpha m_s$ and $\\beta_1$ are of order 1, which takes the time of",
        "[the transition](transition.md), of order $N^{3/2}$; $v$ becomes of order 1 after",
        "$1/q^2 \\approx 4N^2$. With equal mobilities the cliff comes first: the loss falls from",
        "near log L, and the plateau log N is never seen. It takes a classifier with a mobility",
        "well above N (for exact positions, N log N; see $v_*$ in [the law](transition.md)) to",
        "reach the plateau before the fall. The closed form against the flow at half the",
        "transition",
        "time:",
    )
    rows, worst = [], 0.0
    for positions in ("exact", "mean"):
        for pairs, fast in ((8, 1.0), (64, 1.0), (8, 1000.0), (64, 1000.0)):
            model = NestedLogit(pairs, 4 * pairs, positions)
            mobility = (1.0, 1.0, fast)
            half = theory.transition_time(model, mobility) / 2.0
            path = integrate(model, ORIGIN, half, mobility, rtol=1e-9)
            xi, value = theory.slow_phase(model, half, mobility_xi=fast)
            error = float(value / path.loss[-1] - 1.0)
            if fast == 1.0:
                worst = max(worst, abs(error))
            v_half = theory.uniform_attention(model) * float(xi)
            rows.append(
                (
                    positions,
                    pairs,
                    f"{fast:g}",
                    f"{half:.4g}",
                    f"{v_half:.3f}",
                    f"{path.loss[-1]:.3f}",
                    f"{value:.3f}",
                    f"{model.plateau:.3f}",
                )
            )
    page.table(
        ["positions", "N (L = 4N)", "M_ξ", "t", "v", "loss of the flow", "closed form", "log N"],
        rows,
    )
    bound = 0.01
    page.holds(
        f"with equal mobilities the closed form's loss is right to {percent(bound)} at half time",
        worst < bound,
    )
    return page


if __name__ == "__main__":
    write(derive)
