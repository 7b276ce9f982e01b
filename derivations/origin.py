"""The origin: value, gradient, the saddle at L = N, and the time to escape from it.

python derivations/origin.py
"""

import numpy as np
import sympy as sp
from page import KINDS, ORIGIN, SIZE, Page, write

from cliff import NestedLogit, integrate, theory
from cliff import symbolic as cs


def derive() -> Page:
    page = Page("origin", "The origin, and the saddle at L = N")
    n = cs.N

    page.section("Value and gradient")
    page.say(
        "At $\\xi = 0$ all L labels are equally likely whatever attention does: the loss is",
        "log L, and $\\partial_\\alpha = \\partial_{\\beta_1} = 0$. At $\\alpha = 0$ attention is",
        "even: $q = 1/(2N+1)$ for exact positions, $1/N$ in the mean field. The prediction puts",
        "$N/L$ on the context, and the force on $\\xi$ is what is missing:",
    )
    page.show(r"\nabla\,\mathrm{loss} = \left(0,\ 0,\ -\left(1 - \frac{N}{L}\right) q\right)")
    page.say("The origin is critical if and only if L = N.")
    for positions in ("exact", "mean"):
        cases = [(1, 1), (2, 2), (2, 3), (8, 32), (100, 125)]
        got = [NestedLogit(*case, positions).gradient(ORIGIN) for case in cases]
        formulas = [cs.origin(*case, positions).results["gradient"] for case in cases]
        page.measured(f"{KINDS[positions]}, (N, L) in {cases}", got, formulas, 1e-14)

    page.section("The series")
    page.say("To third order, here for the mean field and symbolic N and L,")
    polynomial = cs.series(cs.N, cs.L, "mean")
    page.show(f"\\mathrm{{loss}} = {cs.latex(polynomial)} + \\dots")
    page.say(
        "The terms $\\xi$, $\\xi\\alpha$ and $\\xi\\alpha\\beta_1$ are the chain along which the",
        "circuits switch each other on; their coefficients $-(1-N/L)q$, $-\\kappa_\\alpha$ and",
        "$-\\kappa_\\beta$ decide [when the cliff comes](transition.md).",
    )
    beta1, alpha, xi = cs.PARAMETERS[:3]
    chain = (xi * alpha, xi * alpha * beta1)
    for positions, size in (("mean", (cs.N, cs.L)), ("exact", (4, 6))):
        terms = sp.Poly(cs.series(*size, positions), beta1, alpha, xi)
        pairs, labels = map(sp.sympify, size)
        sums = dict(cs.harmonics(pairs))
        kappas = [kappa.xreplace(sums) for kappa in cs.drives(pairs, pairs / labels, positions)]
        page.proved(
            f"{KINDS[positions]}: the last two coefficients, (N, L) = ({pairs}, {labels})",
            *(
                terms.coeff_monomial(term) + kappa
                for term, kappa in zip(chain, kappas, strict=True)
            ),
        )
        numbers = SIZE if positions == "mean" else size
        direction = np.array([1.0, 1.0, 1.0])
        values = dict(zip((cs.N, cs.L), numbers, strict=True))
        left = [
            float(
                terms.as_expr()
                .subs(values)
                .subs(dict(zip((beta1, alpha, xi), scale * direction, strict=True)))
            )
            - float(NestedLogit(*numbers, positions).loss(scale * direction))
            for scale in (0.04, 0.02)
        ]
        page.measured(
            f"{KINDS[positions]}, (N, L) = {numbers}: halving θ divides what the series leaves of "
            "the compiled loss by 2⁴, the power of the fourth order",
            np.log2(left[0] / left[1]),
            4.0,
            0.05,
        )

    page.section("The saddle")
    page.say(
        "At $\\xi = 0$ every derivative that does not involve $\\xi$ is 0. At L = N even attention",
        "makes the curvature in $\\xi$ vanish as well. The Hessian at $(\\beta_1, 0, 0)$ then",
        "has one",
        "entry, $\\partial_\\alpha\\partial_\\xi\\,\\mathrm{loss} = -\\rho$:",
    )
    page.show(
        r"\rho = \frac{q}{N}\sum_{s=1}^{N}\left( m_s - \frac{1}{N} \sum_{n\geq s} m_n\right)"
        r"\quad\mathrm{with}\quad m_s = \frac{1}{2s},\ m_n = \frac{1}{2n}\ \mathrm{at}\ \beta_1 = 0"
    )
    page.say("Exchange the order of the double sum: label n is counted by n slots, and")
    page.show(
        r"\sum_{s=1}^N\sum_{n=s}^N \frac{1}{2n} = \sum_{n=1}^N \frac{n}{2n} = \frac{N}{2},"
        r"\qquad \rho = \frac{H - 1}{2N(2N+1)},\quad H = \sum_{k=1}^N\frac{1}{k}"
    )
    largest = 12
    exact = [
        sum(sp.Rational(1, 2 * k) for s in range(1, size + 1) for k in range(s, size + 1))
        - sp.Rational(size, 2)
        for size in range(1, largest + 1)
    ]
    page.proved(f"the double sum, in rational arithmetic for every N up to {largest}", *exact)
    page.say("The same in the mean field, where $p_2$ has slope $p_1 (N-1)/N^2$ in $\\alpha$:")
    rate = cs.drives(n, sp.S.One, "mean")[0]
    page.show(f"\\rho = {cs.latex(sp.factor(rate))}")
    logit, x = sp.symbols("a x", real=True)
    p2 = sp.exp(logit / (n + 1)) / (sp.exp(logit / (n + 1)) + n - 1)
    mean_loss = sp.log(1 + (n - 1) * sp.exp(x * (1 - n * p2) / (n - 1)))
    mixed = sp.diff(mean_loss, logit, x).subs({logit: 0, x: 0})
    page.proved("minus the mixed derivative of the mean-field loss, for symbolic N", mixed + rate)
    rho, eigenvalue = sp.symbols("rho lambda", positive=True)
    matrix = sp.Matrix([[0, 0, 0], [0, 0, -rho], [0, -rho, 0]])
    page.say("The eigenvalues are $-\\rho, 0, +\\rho$:")
    page.show(r"\det(\lambda - H) = \lambda\,(\lambda - \rho)(\lambda + \rho)")
    page.proved(
        "the characteristic polynomial",
        (eigenvalue * sp.eye(3) - matrix).det() - eigenvalue * (eigenvalue**2 - rho**2),
    )
    sizes, line = (2, 3, 8, 64, 512), (-2.0, -0.5, 1.0, 3.0)
    for positions in ("exact", "mean"):
        models = [NestedLogit(size, size, positions) for size in sizes]
        page.measured(
            f"{KINDS[positions]}: ρ is the largest eigenvalue of the compiled Hessian, "
            f"N in {list(sizes)}",
            [np.linalg.eigvalsh(model.hessian(ORIGIN))[-1] for model in models],
            [theory.saddle_rate(model) for model in models],
            1e-12,
        )
        model = models[2]
        page.measured(
            f"{KINDS[positions]}, N = {model.n_pairs}: ρ is minus the mixed derivative along the "
            f"line of saddles (β₁, 0, 0) too, β₁ in {list(line)}",
            [theory.saddle_rate(model, beta1=b) for b in line],
            [-model.hessian([b, 0.0, 0.0])[1, 2] for b in line],
            1e-12,
        )
    model = NestedLogit(8, 8)
    page.holds(
        f"exact positions, N = {model.n_pairs}: ρ changes sign on this line, between "
        f"β₁ = {line[0]:g} and 0; left of the change the unstable direction is α = −ξ",
        theory.saddle_rate(model, beta1=line[0]) < 0 < theory.saddle_rate(model),
    )

    page.section("Large N")
    gamma = sp.EulerGamma
    page.show(
        r"\rho \to \frac{\log N + \gamma - 1}{4N^2}\ \mathrm{(exact)},\qquad"
        r"\rho \to \frac{1}{N^2}\ \mathrm{(mean\ field)}"
    )
    size = sp.Symbol("n", positive=True)
    law = (sp.log(size) + gamma + 1 / (2 * size) - 1) / (2 * size * (2 * size + 1))
    page.proved(
        "the limits of ρ divided by its law, with H = log N + γ + 1/(2N) + …",
        sp.limit(law * 4 * size**2 / (sp.log(size) + gamma - 1), size, sp.oo) - 1,
        sp.limit(rate.subs(n, size) * size**2, size, sp.oo) - 1,
    )

    page.section("Escape")
    reach = 3e-3
    page.say(
        "Near the saddle $u = (\\alpha/\\sqrt{M_\\alpha} + \\xi/\\sqrt{M_\\xi})/\\sqrt{2}$ grows",
        "as $e^{\\rho\\sqrt{M_\\alpha M_\\xi}\\,t}$. From a start of size $\\delta$ it reaches",
        "$u_1$ at",
    )
    page.show(r"t_{\mathrm{escape}} = \frac{\log(u_1/\delta)}{\rho\sqrt{M_\alpha M_\xi}}")
    page.say(
        "Ten times closer to the saddle costs log(10)/ρ more time. The sign of u decides the",
        "side: u > 0 leads to the induction head, u < 0 to the valley where α, ξ → −∞",
        "([the valleys](valleys.md)). Measured on the compiled flow at L = N, with t at",
        f"$u_1 = {reach:g}$ from $(0, \\delta, \\delta)$, that is $u = \\sqrt{{2}}\\,\\delta$:",
    )
    rows, errors = [], []
    for positions in ("exact", "mean"):
        for pairs in (4, 8, 32):
            model = NestedLogit(pairs, pairs, positions)
            for delta in (1e-4, 1e-6):
                start = np.array([0.0, delta, delta])
                expected = theory.escape_time(model, start, reach)
                path = integrate(model, start, 2.0 * expected, rtol=1e-9, atol=1e-14).path
                u = path.theta[:, 1:].sum(axis=1) / np.sqrt(2.0)
                last = int(np.argmax(u > reach))
                fine = np.linspace(path.t[last - 1], path.t[last], 1001)
                u = path(fine)[:, 1:].sum(axis=1) / np.sqrt(2.0)
                measured = float(np.interp(reach, u, fine))
                errors.append(measured / expected - 1.0)
                rows.append((positions, pairs, f"{delta:g}", f"{expected:.5g}", f"{measured:.5g}"))
    page.table(["positions", "N = L", "δ", "log(u₁/(√2 δ))/ρ", "measured t"], rows)
    page.measured("the escape times of the table", 1.0 + np.array(errors), np.ones(12), 2e-3)
    return page


if __name__ == "__main__":
    write(derive)
