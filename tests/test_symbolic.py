"""The printed formulas against the compiled kernels, and the closed forms against numbers."""

import json
import math
import time
from functools import cache

import numpy as np
import pytest
import sympy as sp
from matplotlib.mathtext import MathTextParser

from cliff import NestedLogit, integrate, symbolic, theory, valleys
from cliff.checks import ArgumentError

BIASES = (0.0, 0.7, "free")


def run(source: str, name: str):
    """Execute printed source in a bare namespace and return its function."""
    scope: dict = {"__builtins__": {"__import__": __import__, "range": range, "sum": sum}}
    exec(compile(source, "printed", "exec"), scope)
    return scope[name]


ROUNDINGS = 1e-15
"""Floor for entries near a change of sign, or identically 0: a few roundings of terms of order 1,
which is all that a relative error can ask of them."""


def relative(got, expected):
    """Largest relative error, entry by entry, of what exceeds `ROUNDINGS`."""
    error = np.maximum(np.abs(got - expected) - ROUNDINGS, 0.0)
    return np.divide(error, np.abs(expected), out=1e300 * error, where=expected != 0.0).max()


def test_relative_errors_count_for_every_entry():
    assert relative(np.array([1.0, 2e-6]), np.array([1.0, 1e-6])) == pytest.approx(1.0)
    assert relative(np.array([1.0, 1e-9]), np.array([1.0, 0.0])) > 1.0
    assert relative(np.array([1.0, 1e-16]), np.array([1.0, 0.0])) == 0.0


@pytest.mark.parametrize("target", ["loss", "gradient", "hessian"])
@pytest.mark.parametrize("label_bias", BIASES)
@pytest.mark.parametrize("positions", ["exact", "mean"])
def test_printed_source_equals_the_compiled_kernel(target, positions, label_bias):
    """1e-12 of every entry, some 1e4 roundings: a Hessian's smallest entries have 1e-13."""
    model = NestedLogit(8, 32, positions, label_bias)
    theta = np.random.default_rng(0).normal(0.0, 2.0, (1000, model.n_parameters))
    began = time.process_time()
    source = symbolic.derive(target, 8, 32, positions, label_bias).python()
    assert time.process_time() - began < 6.0  # "within seconds": 0.6 to 1.5 on a quiet core
    imports = [line for line in source.splitlines() if line.startswith("import")]
    assert imports == ["import numpy"]
    got = run(source, target)(theta)
    expected = getattr(model, target)(theta)
    assert got.shape == expected.shape
    assert relative(got, expected) < 1e-12


def test_the_longest_formula_takes_seconds():
    """The Hessian at half the largest N: 6 s on a quiet core, and four times that at the largest.

    Twice 6 s, for a core that others use too.
    """
    began = time.process_time()
    text = symbolic.hessian(symbolic.MOST_PAIRS // 2, 64).latex()
    assert time.process_time() - began < 12.0
    assert text.count("\n") > 7000


@pytest.mark.parametrize(("n_pairs", "n_labels"), [(5, 5), (3, 5), (1, 4), (1, 1)])
@pytest.mark.parametrize("positions", ["exact", "mean"])
def test_printed_source_at_the_edges_of_the_counts(n_pairs, n_labels, positions):
    """At L = N small losses lose digits in both; the errors stay below 1e-11."""
    model = NestedLogit(n_pairs, n_labels, positions, "free")
    theta = np.random.default_rng(1).normal(0.0, 1.0, (200, 4))
    for target in ("loss", "gradient", "hessian"):
        got = run(symbolic.derive(target, n_pairs, n_labels, positions, "free").python(), target)
        expected = getattr(model, target)(theta)
        if n_labels == 1:
            assert not got(theta).any()
            assert not expected.any()
        else:
            assert relative(got(theta), expected) < 1e-11


@pytest.mark.parametrize("positions", ["exact", "mean"])
def test_printed_source_is_finite_far_out(positions):
    theta = 1e4 * np.array([[i, j, k] for i in (-1, 1) for j in (-1, 1) for k in (-1, 1)])
    model = NestedLogit(4, 9, positions)
    for target in ("loss", "gradient"):
        got = run(symbolic.derive(target, 4, 9, positions).python(), target)(theta)
        assert np.isfinite(got).all()
        # the losses reach 1e4, their gradients 1
        np.testing.assert_allclose(got, getattr(model, target)(theta), rtol=1e-12, atol=1e-12)


def test_source_accepts_one_point_and_any_batch():
    loss = run(symbolic.loss(3, 7).python(), "loss")
    gradient = run(symbolic.gradient(3, 7).python(), "gradient")
    assert loss([0.0, 0.0, 0.0]) == pytest.approx(math.log(7), rel=1e-15)
    assert gradient([0.1, 0.2, 0.3]).shape == (3,)
    assert gradient(np.zeros((2, 5, 3))).shape == (2, 5, 3)


def test_mean_field_source_takes_the_counts():
    gradient = run(symbolic.gradient(positions="mean").python(), "gradient")
    theta = np.random.default_rng(2).normal(size=(50, 3))
    expected = NestedLogit(11, 40, "mean").gradient(theta)
    assert relative(gradient(theta, 11, 40), expected) < 1e-13


def expand(formula, n_pairs, n_labels, theta):
    """The entries of an indexed result at numbers: sums written out, names looked up."""
    values = {p: sp.Float(v, 30) for p, v in zip(symbolic.PARAMETERS, theta, strict=False)}
    counts = {symbolic.N: n_pairs, symbolic.L: n_labels}
    known = dict(formula.assignments)

    @cache
    def value(name, index):
        return number(known[name], dict(index))

    def number(expression, index):
        for total in expression.atoms(sp.Sum):
            ((variable, first, last),) = total.limits
            first, last = (int(end.subs(counts).subs(index)) for end in (first, last))
            inner = [number(total.function, {**index, variable: k}) for k in range(first, last + 1)]
            expression = expression.xreplace({total: sp.Add(*inner)})
        names = [atom for atom in expression.free_symbols if atom in known]
        key = tuple(index.items())
        expression = expression.xreplace({name: value(name, key) for name in names})
        return expression.subs(counts).subs(index).subs(values).evalf(25)

    return [float(number(entry, {})) for _, entry in formula.flat_results()]


def test_indexed_formulas_agree_with_the_kernels():
    """Symbolic N: slots and labels as indices of sums, here written out for N = 3."""
    theta = [0.4, -0.9, 1.7, 0.3]
    model = NestedLogit(3, 7, label_bias="free")
    for target in ("loss", "gradient", "hessian"):
        formula = symbolic.derive(target, symbolic.N, symbolic.L, "exact", "free")
        got = expand(formula, 3, 7, theta)
        expected = getattr(model, target)(theta)
        np.testing.assert_allclose(got, expected.ravel(), rtol=1e-12, atol=1e-14)


def test_the_rules_for_shares_are_their_derivatives():
    chain = symbolic.statement(3, 5)
    checked = 0
    for name, rule in chain.rules.items():
        values = {name: chain.assignments[name] for name in chain.assignments}
        values = {k: v.subs(sp.Symbol("M", real=True), 0) for k, v in values.items()}

        def full(expression, values=values):
            for _ in range(3):
                expression = expression.xreplace(values)
            return expression

        difference = sp.diff(full(name), symbolic.BETA1) - full(rule)
        assert sp.simplify(difference) == 0
        checked += 1
    assert checked == 12


@pytest.mark.parametrize("positions", ["exact", "mean"])
@pytest.mark.parametrize("target", symbolic.TARGETS)
def test_latex_compiles_and_json_parses(target, positions):
    parser = MathTextParser("path")
    n_labels = symbolic.N if target == "saddle" else symbolic.L
    sizes = [(symbolic.N, n_labels), (2, 2 if target == "saddle" else 5)]
    for n_pairs, count in sizes:
        formula = symbolic.derive(target, n_pairs, count, positions)
        lines = formula.latex_lines()
        for line in lines:
            parser.parse(f"${line}$")
        assert formula.latex().count("$$") == 2 * len(lines)
        data = json.loads(formula.json())
        assert len(data["assignments"]) == len(formula.assignments)
        assert [entry["name"] for entry in data["results"]] == [
            name for name, _ in formula.flat_results()
        ]
    with pytest.raises(ValueError, match="Unknown symbol"):
        parser.parse(r"$\nonsense$")


@pytest.mark.parametrize("positions", ["exact", "mean"])
@pytest.mark.parametrize("label_bias", BIASES)
def test_origin_matches_the_compiled_derivatives(positions, label_bias):
    for n_pairs, n_labels in ((8, 32), (5, 5), (2, 3)):
        model = NestedLogit(n_pairs, n_labels, positions, label_bias)
        result = symbolic.origin(n_pairs, n_labels, positions, label_bias)
        values = run(result.python(), "origin")()
        zero = np.zeros(model.n_parameters)
        np.testing.assert_allclose(values["loss"], model.loss(zero), rtol=1e-14)
        np.testing.assert_allclose(values["gradient"], model.gradient(zero), atol=1e-16)
        np.testing.assert_allclose(values["hessian"], model.hessian(zero), atol=1e-15)
        assert (n_labels == n_pairs) == (not np.any(values["gradient"]))


@pytest.mark.parametrize("positions", ["exact", "mean"])
def test_symbols_and_numbers_tell_the_same(positions):
    """The expressions of `symbolic` and the floats of `theory`, for every shared result."""
    model, square = NestedLogit(8, 32, positions, 0.4), NestedLogit(8, 8, positions, 0.4)
    time_ = run(symbolic.transition(8, 32, positions, 0.4).python(), "transition")()
    assert time_["t_transition"] == pytest.approx(theory.transition_law(model), rel=1e-13)
    saddle = run(symbolic.saddle(8, 8, positions, 0.4).python(), "saddle")(1e-4, 1e-2)
    assert saddle["eigenvalues"][2] == pytest.approx(theory.saddle_rate(square), rel=1e-13)
    assert saddle["escape_time"] == pytest.approx(
        theory.escape_time(square, [0.0, 1e-4 / math.sqrt(2), 1e-4 / math.sqrt(2)], 1e-2)
    )
    plateau = run(symbolic.plateau(8, 32, positions, 0.4).python(), "plateau")(321.0)
    xi, loss = theory.slow_phase(model, 321.0)
    assert plateau["xi"] == pytest.approx(float(xi), rel=1e-12)
    assert plateau["loss"] == pytest.approx(float(loss), rel=1e-13)
    general = run(symbolic.transition(positions=positions).python(), "transition")(8, 32)
    plain = theory.transition_law(NestedLogit(8, 32, positions))
    assert general["t_transition"] == pytest.approx(plain, rel=1e-13)


@pytest.mark.parametrize("positions", ["exact", "mean"])
def test_printed_valleys_are_those_that_exist(positions):
    """With N and L as numbers or as arguments: the same names, and the same losses."""
    sizes = [(n, labels) for n in range(1, 6) for labels in range(n, 8)] + [(8, 9), (33, 40)]
    for n, labels in [*sizes, (300, 900)]:
        known = valleys.valleys(NestedLogit(n, labels, positions))
        expected = {valley.name: valley.loss(n, labels) for valley in known}
        for n_pairs in (n, symbolic.N):
            for n_labels in (labels, symbolic.L):
                formula = symbolic.valleys(n_pairs, n_labels, positions)
                arguments = [{"N": n, "L": labels}[str(symbol)] for symbol in formula.arguments]
                got = run(formula.python(), "valleys")(*arguments)
                assert list(got) == list(expected)
                assert got == pytest.approx(expected, rel=1e-12, abs=1e-12)


def test_every_format_says_when_a_valley_exists():
    formula = symbolic.valleys()
    lines = formula.text().splitlines()
    assert any(line.startswith("sink = ") and "if L > N and N > 2" in line for line in lines)
    assert "early-labels-inverted = log(gamma(N + 1))/N  if L = N" in lines
    assert sum(r"\mathrm{if}\ L = N$$" in line for line in formula.latex().splitlines()) == 1
    conditions = {r["name"]: r["condition"] for r in json.loads(formula.json())["results"]}
    assert conditions == {
        "induction": "",
        "shunned-match": "N > 1",
        "early-labels": "",
        "early-labels-inverted": "L = N",
        "sink": "L > N and N > 2",
        "plateau": "",
    }
    assert "no closed form is known" in formula.text()
    assert "  if " not in symbolic.valleys(8, 32).text()


def test_sizes_that_are_numbers_or_symbols_of_one_landscape_agree():
    """N as the number of labels means as many as pairs, in every kind of formula."""
    for target in symbolic.TARGETS:
        if target in ("plateau", "transition"):
            continue
        for positions in ("exact", "mean"):
            by_symbol = symbolic.derive(target, 3, symbolic.N, positions)
            assert by_symbol.text() == symbolic.derive(target, 3, 3, positions).text()
            general = symbolic.derive(target, symbolic.N, symbolic.N, positions)
            assert general.arguments[-1:] == (symbolic.N,)
            assert symbolic.L not in general.arguments


def test_extreme_mobilities_scale_the_law_without_overflow():
    """All mobilities times c make every time 1/c as long."""
    for mobility in (1e-100, 1e-60, 1e60, 1e100):
        for model in (NestedLogit(8, 32), NestedLogit(8, 32, "mean")):
            speeds = (mobility,) * 3
            assert theory.transition_law(model, speeds) * mobility == pytest.approx(
                theory.transition_law(model), rel=1e-12
            )
            assert theory.transition_time(model, speeds) * mobility == pytest.approx(
                theory.transition_time(model), rel=1e-6
            )
        square = NestedLogit(8, 8)
        assert theory.saddle_rate(square, (7, mobility, 9)) == pytest.approx(
            3 * math.sqrt(mobility) * theory.saddle_rate(square), rel=1e-12
        )


def test_the_invariant_overflows_in_silence():
    values = theory.invariant(8, [[1e6, 0.0, 0.0], [0.0, 1e300, 0.0], [0.0, 2.0, 1.0]])
    assert np.isfinite(values).tolist() == [False, False, True]
    assert values[2] == 2.0 - 1.0 / 8.0


@pytest.mark.parametrize("positions", ["exact", "mean"])
def test_results_that_some_sizes_lack_are_left_out_there(positions):
    """The source of a general formula, at sizes without the result, and at a size with it."""
    saddle = run(symbolic.saddle(positions=positions).python(), "saddle")
    assert "escape_time" not in saddle(1e-4, 1e-2, 1)
    assert saddle(1e-4, 1e-2, 2)["escape_time"] == pytest.approx(
        math.log(100) / theory.saddle_rate(NestedLogit(2, 2, positions))
    )
    transition = run(symbolic.transition(positions=positions).python(), "transition")
    assert transition(8, 8) == {}
    assert set(transition(2, 3)) == {"t_transition"}
    assert "escape_time = log(u_end/delta)/rho  if N > 1\n" in symbolic.saddle().text()


def test_saddle_rate_for_symbolic_n():
    formula = symbolic.saddle()
    (_, rate) = formula.assignments[-1]
    h = symbolic.HARMONICS[0]
    n = symbolic.N
    assert sp.simplify(rate - (h - 1) / (2 * n * (2 * n + 1))) == 0


@pytest.mark.parametrize("positions", ["exact", "mean"])
@pytest.mark.parametrize("degree", [1, 2, 3])
def test_series_leaves_the_next_order(positions, degree):
    """Its error falls with the power degree + 1 of the distance."""
    polynomial = symbolic.series(3, 5, positions, "free", degree)
    loss = sp.lambdify(symbolic.PARAMETERS, polynomial)
    direction = np.array([0.6, -0.8, 1.1, 0.3])
    model = NestedLogit(3, 5, positions, "free")
    left = [loss(*(h * direction)) - float(model.loss(h * direction)) for h in (0.1, 0.05)]
    assert math.log2(left[0] / left[1]) == pytest.approx(degree + 1, abs=0.2)


@pytest.mark.parametrize("positions", ["exact", "mean"])
def test_slow_phase_is_the_flow_of_xi_alone(positions):
    """1e-8 relative with a solver at 1e-12."""
    model = NestedLogit(8, 10, positions, -0.6)
    t = np.array([0.5, 20.0, 3000.0])
    path = integrate(model, [0.0, 0.0, -0.4], 3000.0, (0, 0, 2.5), rtol=1e-12, atol=1e-13, t_eval=t)
    xi, loss = theory.slow_phase(model, t, -0.4, 2.5)
    np.testing.assert_allclose(xi, path.theta[:, 2], rtol=1e-8)
    np.testing.assert_allclose(loss, path.loss, rtol=1e-8)


def test_slow_phase_solves_its_equation_everywhere():
    """v + r e^v = q² t + v0 + r e^v0 to 1e-14, on a grid across every change of the growth."""
    for n_labels in (9, 32, 4000):
        model = NestedLogit(8, n_labels)
        q, r = theory.uniform_attention(model), 8 / (n_labels - 8)
        for v0 in (-3.0, 0.0, 0.7):
            t = np.geomspace(1e-3, 1e6, 200) / q**2
            v = theory.slow_phase(model, t, v0 / q)[0] * q
            expected = q**2 * t + v0 + r * math.exp(v0)
            np.testing.assert_allclose(v + r * np.exp(v), expected, rtol=1e-14)


def test_names_of_derivatives_tell_by_what():
    """Overlaps depend on beta1 only, the normaliser of attention on alpha too, never on xi."""
    names = {line.split(" = ")[0] for line in symbolic.gradient().text().splitlines()}
    assert {"m__b[s]", "k__b[n]", "Z__b[s]", "Z__a[s]", "R__x[s]"} <= names
    assert not names & {"m__a[s]", "k__a[n]", "Z__x[s]", "m__x[s]"}
    note = "b beta1, a alpha, x xi, c beta2"
    assert symbolic.gradient().symbols()["NAME__ba"].endswith(note)


def test_slow_phase_rests_at_the_saddle():
    xi, loss = theory.slow_phase(NestedLogit(8, 8), [0.0, 1e6], 0.7)
    assert xi.tolist() == [0.7, 0.7]
    assert loss == pytest.approx([math.log(8)] * 2)


def test_transition_estimates_meet_their_bound():
    """15 and 9 % of t_transition, 13 % of the width, as the page states.

    Negative control: not for swapped positions.
    """
    for positions in ("exact", "mean"):
        for n_pairs, n_labels in ((4, 128), (8, 10), (64, 128)):
            model = NestedLogit(n_pairs, n_labels, positions)
            end = 100.0 * n_pairs**1.5
            transition = integrate(model, np.zeros(3), end).transition()
            measured = transition.t_transition
            assert abs(theory.transition_law(model) / measured - 1.0) < 0.15
            assert abs(theory.transition_time(model) / measured - 1.0) < 0.09
            assert abs(theory.width(model) / transition.width - 1.0) < 0.13
            other = NestedLogit(n_pairs, n_labels, "mean" if positions == "exact" else "exact")
            assert abs(theory.transition_law(other) / measured - 1.0) > 0.2
            assert abs(theory.transition_time(other) / measured - 1.0) > 0.2
            assert abs(theory.width(other) / transition.width - 1.0) > 0.13


@pytest.mark.parametrize("mobility", [(1.0, 1.0, 1e4), (20.0, 1.0, 1.0)])
@pytest.mark.parametrize("positions", ["exact", "mean"])
def test_estimates_hold_for_fast_circuits(positions, mobility):
    """A fast classifier at small N has no runaway: alpha alone brings the loss down."""
    for n_pairs in (4, 16):
        model = NestedLogit(n_pairs, 4 * n_pairs, positions)
        end = 20.0 * theory.transition_law(model, mobility)
        transition = integrate(model, np.zeros(3), end, mobility).transition()
        assert abs(theory.transition_time(model, mobility) / transition.t_transition - 1.0) < 0.09
        assert abs(theory.width(model, mobility) / transition.width - 1.0) < 0.13


def test_closed_forms_stand_any_label_bias():
    for bias in (-2000.0, -800.0, 1000.0):
        model = NestedLogit(8, 32, label_bias=bias)
        assert theory.uniform_attention(model) == (0.125 if bias > 0.0 else 0.0)
        times = [theory.transition_law(model), theory.transition_time(model)]
        if bias > 0.0:
            sharp = NestedLogit(8, 32, label_bias=50.0)
            assert times == pytest.approx(
                [theory.transition_law(sharp), theory.transition_time(sharp)], rel=1e-9
            )
        else:
            assert times == [math.inf] * 2
            assert math.isnan(theory.width(model))
        xi, loss = theory.slow_phase(model, [0.0, 5.0])
        assert np.isfinite([xi, loss]).all()
        for target in ("origin", "plateau", "transition", "saddle"):
            labels = 8 if target == "saddle" else 32
            source = symbolic.derive(target, 8, labels, "exact", bias).python()
            assert "exp(1000)" not in source
    values = run(symbolic.origin(8, 32, "exact", 1000.0).python(), "origin")()
    assert values["gradient"][2] == pytest.approx(-0.75 / 8)


def test_slow_phase_far_out():
    """Where W(r e^c) overflows, cancels or underflows: v + r e^v = c holds to the last digits."""
    model = NestedLogit(8, 32)
    q, r = theory.uniform_attention(model), 8 / 24
    for xi0 in (-1e5, -40.0, 0.0, 40.0, 1e5):
        xi, loss = theory.slow_phase(model, [0.0, 1e-8, 1.0, 1e6, 1e100], xi0)
        assert xi[0] == xi0
        assert (np.diff(xi) >= 0.0).all()
        assert (np.diff(loss) <= 0.0).all()
    t = 1e-8
    xi, _ = theory.slow_phase(model, t, -2.0)
    assert xi + 2.0 == pytest.approx(t * q / (1.0 + r * math.exp(-2.0 * q)), rel=1e-6)
    xi, loss = theory.slow_phase(model, 1e100)
    assert xi * q == pytest.approx(math.log(q * q * 1e100 / r))
    assert loss == pytest.approx(math.log(8))
    _, loss = theory.slow_phase(model, 0.0, -1e5)
    assert loss == pytest.approx(1e5 * q + math.log(24))


def test_mean_field_invariant_is_conserved_and_the_exact_flow_breaks_it():
    start, mobility = [0.3, -0.4, 2.0], (0.5, 2.0, 1.0)
    changes = {}
    for positions in ("exact", "mean"):
        path = integrate(NestedLogit(8, 32, positions), start, 200.0, mobility, rtol=1e-10)
        values = theory.invariant(8, path.theta, mobility)
        changes[positions] = np.ptp(values)
    assert changes["mean"] < 1e-7
    assert changes["exact"] > 1e-2


@pytest.mark.parametrize(
    ("call", "argument"),
    [
        (lambda: symbolic.loss(0, 4), "n_pairs"),
        (lambda: symbolic.loss(2.5, 4), "n_pairs"),
        (lambda: symbolic.loss("N", 4), "n_pairs"),
        (lambda: symbolic.loss(8, 4), "n_labels"),
        (lambda: symbolic.loss(33, 40), "n_pairs"),
        (lambda: symbolic.loss(2, 4, "middle"), "positions"),
        (lambda: symbolic.loss(2, 4, label_bias="open"), "label_bias"),
        (lambda: symbolic.loss(2, 4, label_bias=math.nan), "label_bias"),
        (lambda: symbolic.loss().python(), "n_pairs"),
        (lambda: symbolic.loss().printed("word"), "format"),
        (lambda: symbolic.derive("everything"), "target"),
        (lambda: symbolic.saddle(4, 5), "n_labels"),
        (lambda: symbolic.series(), "n_pairs"),
        (lambda: symbolic.series(2, 4, degree=-1), "degree"),
        (lambda: symbolic.saddle(4, 4, label_bias="free"), "label_bias"),
        (lambda: symbolic.plateau(4, 4), "n_labels"),
        (lambda: symbolic.transition(4, 4), "n_labels"),
        (lambda: symbolic.transition(1, 4), "n_pairs"),
        (lambda: theory.saddle_rate(NestedLogit(4, 5)), "n_labels"),
        (lambda: theory.transition_law(NestedLogit(4, 4)), "n_labels"),
        (lambda: theory.transition_time(NestedLogit(1, 4)), "n_labels"),
        (lambda: theory.transition_law(NestedLogit(4, 8), (1, 0, 1)), "mobility"),
        (lambda: theory.transition_law(NestedLogit(4, 8), (1, 1)), "mobility"),
        (lambda: theory.slow_phase(NestedLogit(4, 8, label_bias="free"), 1.0), "label_bias"),
        (lambda: theory.slow_phase(NestedLogit(4, 8), math.nan), "t"),
        (lambda: theory.slow_phase(NestedLogit(4, 8), [0.0, math.inf]), "t"),
        (lambda: theory.slow_phase(NestedLogit(4, 8), 1.0, math.nan), "xi0"),
        (lambda: theory.width(NestedLogit(4, 4)), "n_labels"),
        (lambda: theory.width(NestedLogit(4, 8), (1, 1, 0)), "mobility"),
        (lambda: theory.escape_time(NestedLogit(4, 4), [0, 1, 1], 0.0), "reach"),
        (lambda: theory.escape_time(NestedLogit(4, 4), [[0, 1, 1]], 1.0), "start"),
        (lambda: theory.escape_time(NestedLogit(1, 1), [0, 1, 1], 1.0), "n_pairs"),
        (lambda: theory.saddle_rate(NestedLogit(1, 1)), "n_pairs"),
        (lambda: theory.saddle_rate(NestedLogit(4, 4), beta1=701.0), "beta1"),
        (lambda: theory.saddle_rate(NestedLogit(4, 4), (1, 1, 1e101)), "mobility"),
        (lambda: theory.transition_law(NestedLogit(4, 8), (1e-300, 1, 1)), "mobility"),
        (lambda: theory.transition_law(NestedLogit(4, 8), "fast"), "mobility"),
        (lambda: theory.drives(NestedLogit(4, 8), "x"), "context"),
        (lambda: theory.drives(NestedLogit(4, 8), 1.1), "context"),
        (lambda: theory.drives(NestedLogit(4, 8), {}), "context"),
        (lambda: theory.drives(NestedLogit(4, 8), 0.5, 1e3), "beta1"),
        (lambda: theory.drives(NestedLogit(4, 8), 0.5, [0.0, math.inf]), "beta1"),
        (lambda: theory.invariant(0, [0, 0, 0]), "n_pairs"),
        (lambda: theory.invariant("x", [0, 0, 0]), "n_pairs"),
        (lambda: symbolic.saddle(1, 1), "n_pairs"),
        (lambda: symbolic.saddle(4, symbolic.L), "n_labels"),
        (lambda: symbolic.saddle(symbolic.N, 4), "n_labels"),
        (lambda: symbolic.plateau(symbolic.N, symbolic.N), "n_labels"),
        (lambda: symbolic.loss(symbolic.L, 4), "n_pairs"),
        (lambda: symbolic.loss(np.array([1, 2]), 4), "n_pairs"),
        (lambda: symbolic.loss(2, None), "n_labels"),
    ],
)
def test_bad_arguments_are_named(call, argument):
    with pytest.raises(ArgumentError) as caught:
        call()
    assert caught.value.argument == argument


def test_a_start_on_the_stable_side_never_escapes():
    assert math.isnan(theory.escape_time(NestedLogit(4, 4), [0.0, 0.1, -0.1], 1.0))
