"""Context against weights: who wins the race, and the number of classes K* at which they tie.

python derivations/competition.py
"""

import json
from typing import Any

import numpy as np
import sympy as sp
from competition_data import (
    CLAMPED_STEPS,
    DATA,
    DIM,
    EVERY,
    LABELS,
    LENGTH,
    MANY,
    MAPS,
    MEASURED,
    RACES,
    SIZES,
    alone,
    cap,
    crossing,
    enough,
    landscape,
    memory_time,
    race,
    tie,
)
from page import SIZE, Page, percent, size_of, write

from cliff import Data, NestedLogit
from cliff.memory_law import MemoryLaw, mobility
from cliff.store import open_dataset
from cliff.symbolic import with_memory
from figures.competition import BASE, T_END, fitted_law

SYMBOLS = {"burstiness": "B", "noise": "ε"}


def derive() -> Page:
    page = Page("competition", "Context against weights: the race and the tie")
    law = fitted_law()
    page.say(
        "A known class can be answered from the context, by the head, or from the weights, by a",
        "memory ω that adds to the logit of the class's own label. Whoever lowers the loss first",
        "takes the force from the other. Here all sequences are bursty and of K known classes of",
        "equal frequency; mobilities are those of `cliff.memory_law`, measured on networks at one",
        "setting.",
    )
    forces(page)
    weights(page, law)
    capacity(page, law)
    data = json.loads(DATA.read_text(encoding="utf-8"))
    races = [race(law, *one) for one in RACES]
    context(page, law, races)
    ties(page, law, races)
    networks(page, law, data)
    unexplained(page, data)
    return page


def forces(page: Page) -> None:
    """The start of the race."""
    page.section("Forces at the origin")
    page.say(
        "At the origin attention is even, $q = 1/(2N+1)$, and each label has probability 1/L. With",
        "distinct labels and B = 1 the forces are",
    )
    page.show(
        r"-\partial_\xi\ell = \frac{1 - N/L}{2N+1}, \qquad -\partial_\omega\ell = 1 - \frac{1}{L},"
        r" \qquad -\partial_{\alpha}\ell = -\partial_{\beta_1}\ell = -\partial_{\beta_2}\ell = 0"
    )
    small = ((1, 3), (2, 5), (3, 7))
    differences = []
    for n, labels in small:
        model = NestedLogit(n, labels, label_bias="free", memory=Data(64))
        written = with_memory(model)
        loss = sp.nsimplify(written.expression, rational=True)
        zero = dict.fromkeys(written.parameters, 0)
        xi = sp.Rational(labels - n, labels * (2 * n + 1))
        for parameter, force in zip(
            written.parameters, (0, 0, xi, 0, 1 - sp.Rational(1, labels)), strict=True
        ):
            differences.append(sp.diff(loss, parameter).subs(zero) + force)
    page.proved(f"all five, from the loss written out at (N, L) in {small}", *differences)
    page.measured(
        f"all five, from the compiled gradient at (N, L) in {SIZES}, D = {DIM}",
        [landscape(n, labels, 512).gradient(np.zeros(5)) for n, labels in SIZES],
        [[0, 0, -(1 - n / labels) / (2 * n + 1), 0, -(1 - 1 / labels)] for n, labels in SIZES],
        1e-12,
        floor=1e-14,
    )
    page.say(
        "The weights have the larger force, by the factor 2N + 1, and no cliff in front of them.",
        "What holds them back is that a class gets 1/K of the sequences.",
    )


def weights(page: Page, law: MemoryLaw) -> None:
    """Memory alone."""
    page.section("Weights alone")
    page.say(
        "With $\\xi = 0$ there is one variable. As long as memories do not disturb each other,"
    )
    page.show(
        r"\dot\omega = F M_\omega, \qquad F = \frac{L-1}{L-1+e^{\omega}}, \qquad"
        r" \frac{1}{M_\omega} = \frac{K}{\rho\,(m_0 + m_1\omega + m_2\omega^2)}"
        r" + \frac{1}{b\,(1 + g\omega)}, \qquad \rho = \frac{1}{1+\mathrm{noise}^2}"
    )
    page.say(
        "where $m_0, m_1, m_2$ are the constants `memory_start`, `memory_growth` and",
        "`memory_curvature` of the law, b is `limit` and g `limit_growth`.",
    )
    model = landscape(*SIZE, 512, None)
    omegas = np.array([0.0, 0.5, 2.0, 6.0])
    thetas = np.stack([np.array([0.3, -0.2, 0.0, 0.4, omega]) for omega in omegas])
    labels = SIZE[1]
    page.measured(
        "F is the compiled force, whatever the other logits",
        -model.gradient(thetas)[:, 4], (labels - 1) / (labels - 1 + np.exp(omegas)), 1e-12,
    )  # fmt: skip
    rho = 1.0 / (1.0 + model.memory.noise**2)
    polynomial = law.memory_start + law.memory_growth * omegas + law.memory_curvature * omegas**2
    page.measured(
        "M is the mobility that the flow uses",
        [mobility(theta, *law.arguments(model))[4] for theta in thetas],
        1 / (512 / (rho * polynomial) + 1 / (law.limit * (1 + law.limit_growth * omegas))), 1e-12,
    )  # fmt: skip
    page.say(
        "Say that the weights have answered when they alone have halved the loss of a guess,",
        "log L. That takes the memory",
    )
    page.show(r"\log\left(1 + (L-1)e^{-\omega_h}\right) = \frac{\log L}{2}, \qquad"
              r" \omega_h = \log(1 + \sqrt{L})")  # fmt: skip
    count = sp.Symbol("L", positive=True)
    page.proved(
        "this memory halves the loss",
        1 + (count - 1) / (1 + sp.sqrt(count)) - sp.sqrt(count),
    )
    page.say(
        "On the way the force falls only from $1 - 1/L$ to $1 - 1/\\sqrt{L}$. With a flat force",
        "the time is an elementary integral, with $s^2 = m_1^2 - 4m_0m_2$:",
    )
    page.show(
        r"t_\mathrm{memory} = \frac{1}{1-1/L}\left[\frac{K}{\rho}\int_0^{\omega_h}"
        r"\frac{d\omega}{m_0 + m_1\omega + m_2\omega^2} + \frac{\log(1 + g\omega_h)}{bg}\right]",
        r"\int_0^{\omega}\frac{d\omega}{m_0 + m_1\omega + m_2\omega^2} = \frac{1}{s}"
        r"\log\frac{(2m_2\omega + m_1 - s)(m_1 + s)}{(2m_2\omega + m_1 + s)(m_1 - s)}",
    )
    w, m0, m1, m2, b, g = sp.symbols("w m0 m1 m2 b g", positive=True)
    s = sp.sqrt(m1**2 - 4 * m0 * m2)
    up, down = 2 * m2 * w + m1 + s, 2 * m2 * w + m1 - s
    integral = sp.log(down * (m1 + s) / (up * (m1 - s))) / s
    limit = sp.log(1 + g * w) / (b * g)
    page.proved(
        "both integrals, by their derivatives and their value at 0",
        sp.diff(integral, w) - 1 / (m0 + m1 * w + m2 * w**2),
        integral.subs(w, 0),
        sp.diff(limit, w) - 1 / (b * (1 + g * w)),
        limit.subs(w, 0),
    )
    constants = {m0: law.memory_start, m1: law.memory_growth, m2: law.memory_curvature}
    constants |= {b: law.limit, g: law.limit_growth}
    rows, measured, flat = [], [], []
    sizes = (256, 1024, 4096)
    for labels in (16, 32, 128):
        at = constants | {w: enough(labels)}
        for classes in sizes:
            terms = [classes / rho * integral.subs(at), limit.subs(at)]
            slow, floor = (float(term) / (1 - 1 / labels) for term in terms)
            flow = alone(law).flow(landscape(8, labels, classes, None), 1e5, until="memory")
            measured.append(flow.events["memory"][0])
            flat.append(slow + floor)
            ratio = measured[-1] / flat[-1]
            rows.append([labels, classes, f"{measured[-1]:.4g}", f"{flat[-1]:.4g}",
                         f"{floor:.2g}", f"{ratio:.2f}"])  # fmt: skip
    page.table(["L", "K", "t, integrated", "flat force", "of which the limit", "ratio"], rows)
    page.measured(
        "the quadrature with the true force is the integrated time",
        [memory_time(law, landscape(8, n, k, None)) for n in (16, 32, 128) for k in sizes],
        measured,
        1e-4,
    )
    t = np.reshape(measured, (3, -1))
    ratios = t / np.reshape(flat, (3, -1))
    most = np.array([[(1 - 1 / n) / (1 - n**-0.5)] for n in (16, 32, 128)])
    page.holds(
        "the flat force errs to the early side, by less than the force falls, "
        f"at most {percent(0.05)}: the ratio lies between 1 and (1 − 1/L)/(1 − 1/√L)",
        bool((ratios > 1).all() and (ratios < most).all() and (ratios < 1.05).all()),
    )
    exponents = np.diff(np.log(t), axis=1) / np.diff(np.log(sizes))
    page.holds(
        f"the time is proportional to K, local exponents {exponents.min():.3f} to "
        f"{exponents.max():.3f}",
        bool((exponents > 0.95).all() and (exponents <= 1).all()),
    )


def capacity(page: Page, law: MemoryLaw) -> None:
    """What crosstalk does to memory."""
    page.section("What the weights can hold")
    page.say(
        "In D dimensions K memories disturb one another. On this landscape a memory ω counts as",
    )
    page.show(
        r"u = \frac{\omega}{1 + v\omega/2}, \qquad v = \frac{K}{LD\rho}, \qquad"
        r" \omega = \frac{u}{1 - vu/2}, \qquad \frac{du}{d\omega} = \left(1 - \frac{vu}{2}\right)^2"
    )
    omega, u, v = sp.symbols("omega u v", positive=True)
    effective = omega / (1 + v * omega / 2)
    page.proved(
        "the inverse and the slope",
        effective.subs(omega, u / (1 - v * u / 2)) - u,
        sp.diff(effective, omega) - (1 - v * effective / 2) ** 2,
    )
    page.say(
        "so that however long it learns, it counts as no more than $2/v = 2LD\\rho/K$. The loss",
        "needs $\\omega_h$. Above",
    )
    page.show(r"K_\mathrm{cap} = \frac{2LD\rho}{\log(1 + \sqrt{L})}")
    page.say("classes the weights alone never halve the loss of a guess, whatever the time.")
    losses = []
    for size in SIZES:
        bound = cap(size[1])
        for factor in (0.99, 1.01):
            model = landscape(*size, round(factor * bound))
            losses.append(float(model.loss([0, 0, 0, 0, 1e7])) / np.log(size[1]))
    below, above = losses[::2], losses[1::2]
    page.holds(
        f"at ω → ∞ the compiled loss is below ½ log L at {percent(0.99)} of it, and above at "
        f"{percent(1.01)}, for (N, L) in {SIZES}",
        max(below) < 0.5 < min(above),
    )
    chosen = [(size, round(share * cap(size[1]))) for size in SIZES for share in (0.2, 0.6, 0.9)]
    models = [landscape(*size, k) for size, k in chosen]
    page.measured(
        "below it the time is the quadrature of du / (F M (du/dω)²), against integration",
        [memory_time(law, model) for model in models],
        [alone(law).flow(model, 1e7, until="memory").events["memory"][0] for model in models],
        1e-4,
    )
    page.say(
        "The crosstalk stretches the time. Counted in u, the velocity is $FM(1 - vu/2)^4$. Once",
        "the mobility grows as ω² it gives two of the four powers back, and with the rest of the",
        "integrand even in u the stretch is",
    )
    page.show(r"\int_0^1 \frac{dy}{(1 - \kappa y)^2} = \frac{1}{1-\kappa}, \qquad"
              r" \kappa = \frac{K}{K_\mathrm{cap}}")  # fmt: skip
    y, share = sp.symbols("y kappa", positive=True)
    primitive = 1 / (share * (1 - share * y))
    page.proved(
        "the integral",
        sp.diff(primitive, y) - 1 / (1 - share * y) ** 2,
        primitive.subs(y, 1) - primitive.subs(y, 0) - 1 / (1 - share),
    )
    page.say(
        "If rates alone set the tie at $K_\\mathrm{rate} \\propto t_\\mathrm{head}$, where",
        "$t_\\mathrm{head}$ is the time that the context takes, then with crosstalk",
    )
    page.show(
        r"\frac{K_*}{K_\mathrm{rate}}\,\frac{1}{1 - K_*/K_\mathrm{cap}} = 1 \ \Rightarrow\ "
        r"\frac{1}{K_*} \approx \frac{1}{K_\mathrm{rate}} + \frac{1}{K_\mathrm{cap}}"
    )
    page.say("The two bounds add, and the smaller counts most.")


def exponents(values: list[float], sizes: list[int]) -> np.ndarray:
    """Local exponents of values in sizes."""
    return np.diff(np.log(values)) / np.diff(np.log(sizes))


def spoken(values: np.ndarray) -> str:
    return ", ".join(f"{value:.2f}" for value in np.round(values, 2) + 0.0)


def column(races: list[dict[str, float]], sizes: tuple[tuple[int, int], ...], name: str) -> list:
    """One number of the races at some sizes."""
    known = {size: one for (size, data), one in zip(RACES, races, strict=True) if not data}
    return [known[size][name] for size in sizes]


def context(page: Page, law: MemoryLaw, races: list[dict[str, float]]) -> None:
    """The head alone."""
    page.section("Context alone")
    page.say(
        "With very many classes the weights stand still, and the context is alone. The flow from",
        f"the origin under the same law, at K = {MANY}, halves the plateau log N at",
    )
    rows = [
        [*size, f"{one['t']:.4g}"] for (size, data), one in zip(RACES, races, strict=True)
        if not data
    ]  # fmt: skip
    page.table(["N", "L", "t_head"], rows)
    page.measured(
        "with four times the classes it is the same time",
        law.flow(landscape(*SIZE, 4 * MANY), 1e4).transition().t_transition,
        column(races, (SIZE,), "t")[0],
        1e-3,
    )
    local = exponents(column(races, SIZES, "t"), [n for n, _ in SIZES])
    page.holds(
        f"at L = 4N it grows with local exponents {spoken(local)} in N, which rise and are above 1",
        bool((local > 1.2).all() and (np.diff(local) > 0).all() and (local < 2).all()),
    )


def ties(page: Page, law: MemoryLaw, races: list[dict[str, float]]) -> None:
    """The tie."""
    page.section("The tie")
    page.say(
        "$K_*$ is the number of classes at which the flow answers as well from the context (`icl`)",
        f"as from the weights (`iwl`) at the time {LENGTH:g} t_head, found by bisection.",
        "$K_\\mathrm{rate}$ is the same at infinite D. The last column solves",
        "$t_\\mathrm{memory}(K) = t_\\mathrm{head}$: each runs alone, and the first to halve its",
        "loss wins. Nothing is fitted in it.",
    )
    rows = []
    for ((n, labels), data), one in zip(RACES, races, strict=True):
        world = ", ".join(f"{SYMBOLS[key]} = {value:g}" for key, value in data.items())
        values = [f"{one[name]:.0f}" for name in ("t", "rate", "cap")]
        first = "rates" if one["rate"] < one["cap"] else "capacity"
        both = f"{1 / (1 / one['rate'] + 1 / one['cap']):.0f}"
        rows.append([n, labels, world, *values, first, both, one["tie"], f"{one['times']:.0f}"])
    header = ["N", "L", "else", "t_head", "K_rate", "K_cap", "smaller", "both", "tie", "by times"]
    page.table(header, rows)
    here = races[RACES.index((SIZE, {}))]
    model = landscape(*SIZE, here["tie"])
    answers = model.measures(law.flow(model, LENGTH * here["t"]).theta[-1])
    close = 0.01
    page.holds(
        f"at the tie of {size_of(SIZE)} the two answers are equal to {close:g}",
        bool(abs(answers["icl"] - answers["iwl"]) < close),
    )
    found, rate, bound, times = (
        np.array([one[name] for one in races]) for name in ("tie", "rate", "cap", "times")
    )
    both = found * (1 / rate + 1 / bound)
    page.holds(
        "$K_*$ is below both bounds, and "
        f"{both.min():.2f} to {both.max():.2f} times what their sum of inverses says",
        bool((found < np.minimum(rate, bound)).all() and (both > 0.6).all() and (both < 1.1).all()),
    )
    off = times / found
    page.holds(
        f"the times of the two alone give $K_*$ up to a factor of 2: {off.min():.2f} to "
        f"{off.max():.2f} times it",
        bool((off > 0.5).all() and (off < 2).all()),
    )
    lines = []
    for name, sizes, of in (("N, L = 4N", SIZES, 0), (f"L, N = {SIZE[0]}", LABELS, 1)):
        numbers = [size[of] for size in sizes]
        local = {
            k: exponents(column(races, sizes, k), numbers) for k in ("t", "rate", "cap", "tie")
        }
        lines.append([name, *(spoken(values) for values in local.values())])
        if of == 0:
            page.holds(
                "at L = 4N the exponents of $K_*$ in N lie between those of K_cap and K_rate",
                bool(((local["cap"] < local["tie"]) & (local["tie"] < local["rate"])).all()),
            )
    page.say("Local exponents, from one row to the next:")
    page.table(["in", "t_head", "K_rate", "K_cap", "tie"], lines)
    t = np.array([one["t"] for one in races])
    page.say(
        "With crosstalk $K_*$ is not proportional to t_head: $K_*/t_\\mathrm{head}$ falls from",
        f"{found[0] / t[0]:.1f} at N = {SIZES[0][0]} to {found[3] / t[3]:.2f} at N =",
        f"{SIZES[-1][0]} (L = 4N), where t_head grows {t[3] / t[0]:.0f} fold and $K_*$",
        f"{found[3] / found[0]:.0f} fold. $K_\\mathrm{{rate}}/t_\\mathrm{{head}}$ falls from",
        f"{rate[0] / t[0]:.1f} to {rate[3] / t[3]:.1f} only.",
    )
    ratio = rate / t
    page.holds(
        "K_rate is proportional to t_head within a factor of "
        f"{ratio.max() / ratio.min():.1f} over all rows, while t_head differs "
        f"{t.max() / t.min():.0f} fold",
        bool(ratio.max() / ratio.min() < 2.5),
    )
    is_rate = rate < bound
    page.holds(
        "rates are the smaller bound at the smallest N and with repeated classes, capacity at "
        "every larger N with L = 4N",
        bool(is_rate[0] and is_rate[-5:-3].all() and not is_rate[1:4].any()),
    )
    lengths = (2, 10, 100)
    head = column(races, (SIZE,), "t")[0]
    during = tie(law, head, *SIZE)
    later = [tie(law, length * head, *SIZE) for length in lengths]
    page.say(
        "The race has no sharp end. Weights that won leave a loss where their capacity is short,",
        f"which feeds the context for ever: at {size_of(SIZE)}, read at",
        f"{', '.join(map(str, lengths))} times t_head, $K_*$ is {', '.join(map(str, later))}.",
        f"Read at t_head itself, in the middle of the fall, it is {during}.",
    )
    page.holds(
        f"from {lengths[0]} to {lengths[-1]} times t_head $K_*$ falls, by less than {percent(0.3)}",
        bool(later[0] > later[1] > later[2] > 0.7 * later[0]),
    )


def networks(page: Page, law: MemoryLaw, data: dict[str, Any]) -> None:
    """Measured ties."""
    page.section("Against networks")
    page.say(
        f"Transformers, trained until t = {T_END:g}: $K_*$ where icl − iwl changes sign,",
        "interpolated in log K, and on the flow at the same time. The law was matched at",
        f"K = {BASE['n_classes']}, {size_of(SIZE)}, on a landscape with crosstalk: the row of that",
        "setting is no free prediction, and the column at infinite D shows what crosstalk does,",
        "but is no rival fit.",
    )
    maps = open_dataset(MAPS, "figure")
    worlds = [json.loads(text) for text in maps.world.values.tolist()]
    answers = maps.measured.values
    rows, factors, inside = [], [], []
    for size, copies in MEASURED:
        predicted, without = (
            tie(law, T_END, *size, burstiness=copies, dim=dim) for dim in (DIM, None)
        )
        if size == SIZE:
            alike = BASE | {"burstiness": copies}
            points = [
                (world["n_classes"], *answer)
                for world, answer in zip(worlds, answers, strict=True)
                if {**world, "n_classes": 0} == {**alike, "n_classes": 0}
            ]
            seeds = "three seeds" if copies == 1 else f"one seed, three at K = {BASE['n_classes']}"
        else:
            points = [
                (one["n_classes"], one["icl"], one["iwl"])
                for one in data["networks"] if (one["n_pairs"], one["n_labels"]) == size
            ]  # fmt: skip
            seeds = "one seed"
        classes, icl, iwl = np.array(sorted(points)).T
        leads = icl - iwl
        if leads[-1] < 0:
            measured = f"above {classes[-1]:.0f}"
            page.holds(
                f"at {size_of(size)} the weights win up to K = {classes[-1]:.0f} in networks, "
                f"and the prediction, {predicted}, is above it",
                bool((leads < 0).all() and predicted > classes[-1]),
            )
            ratio = ""
        else:
            value = crossing(classes, leads)
            after = int(np.argmax(leads > 0))
            inside.append(classes[after - 1] < value < classes[after])
            measured = f"{value:.0f} ({classes[after - 1]:.0f} to {classes[after]:.0f})"
            factors.append(predicted / value)
            ratio = f"{factors[-1]:.2f}"
        rows.append([*size, copies, seeds, measured, predicted, ratio, without])
    page.table(
        ["N", "L", "B", "networks", "tie measured", "predicted", "ratio", "at infinite D"], rows
    )
    page.holds("each measured tie lies between the two K beside it", all(inside))
    page.holds(
        "predicted and measured ties agree up to a factor of 2: ratios "
        f"{spoken(np.array(factors))}",
        bool(min(factors) > 0.5 and max(factors) < 2),
    )
    known = landscape(*SIZE, BASE["n_classes"])
    ceiling = float(known.measures([0, 0, 0, 0, 1e7])["iwl"])
    shares = [
        (world["p_bursty"], answer[1]) for world, answer in zip(worlds, answers, strict=True)
        if world["n_classes"] == BASE["n_classes"] and world["p_bursty"] < 1
    ]  # fmt: skip
    page.say(
        "But networks are not held to this capacity for good. On the landscape no memory of",
        f"{BASE['n_classes']} classes answers more than {ceiling:.2f} of the questions to the",
        f"weights (L = {SIZE[1]}, D = {DIM}). Networks that see fewer bursty sequences, whose",
        "context helps less, answer nearly all of them, as if their weights had learned to undo",
        "the crosstalk. So $K_\\mathrm{cap}$ is a bound of the landscape, which describes the race",
        "until the loss falls, and no bound of what a network can hold. $K_*$ at larger N has not",
        "been measured.",
    )
    page.holds(
        f"with a share of bursty sequences of {max(p for p, _ in shares):g} or less the "
        f"{len(shares)} measured networks have an iwl of {min(iwl for _, iwl in shares):.3f} or "
        "more, above the landscape's ceiling",
        bool(shares) and min(iwl for _, iwl in shares) > ceiling + 0.2,
    )
    page.say(
        "Nguyen & Reddy (arXiv 2412.00104) say in their abstract that the relative rates of",
        "largely independent sub-circuits, rather than capacity, set the threshold, with a",
        "memorization scaling law: this page agrees in that rates decide, with",
        "$t_\\mathrm{memory} \\propto K$. It differs in that on this landscape the crosstalk of",
        "memories, at finite D, bounds $K_*$ at large N.",
    )


def unexplained(page: Page, data: dict[str, Any]) -> None:
    """What no theory here says."""
    page.section("A finding without a theory yet")
    free, uniform = data["free"], data["uniform"]
    page.say(
        "$\\beta_1$ begins to rise before any match can be made. Clamp the attention of layer 2 to",
        "uniform, so that no match exists, and train on novel classes:",
    )
    page.code(
        "task = cliff.Task(n_pairs=8, n_labels=32)",
        "net = cliff.Transformer(task, seed=0)",
        'net.set_clamp(2, "uniform")',
        f"run = cliff.train(net, task, n_steps={CLAMPED_STEPS}, lr=0.1, eval_every={EVERY})",
        "run.beta1, run.alpha",
    )
    page.table(
        ["t", "β₁, clamped", "β₁, free", "α, clamped", "α, free"],
        [
            [f"{a['t']:g}", *(f"{one[name]:.3f}" for name in ("beta1", "alpha") for one in (a, b))]
            for a, b in zip(uniform, free, strict=True)
        ],
    )
    small = 0.03
    gains = [one[-1]["beta1"] - one[0]["beta1"] for one in (uniform, free)]
    page.holds(
        f"with the clamp α stays within ±{small:g}, and β₁ still rises by {gains[0]:.2f}, "
        f"{percent(round(gains[0] / gains[1], 2))} of what it does without",
        bool(max(abs(one["alpha"]) for one in uniform) < small and gains[0] > 0.5 * gains[1]),
    )
    page.say(
        "A measured value of one seed. The landscape has a force on $\\beta_1$ only through the",
        "match, so the route is another one.",
    )


if __name__ == "__main__":
    write(derive)
