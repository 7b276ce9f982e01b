"""Any landscape on the command line, in metrics, sweeps and pictures."""

import itertools
import json
import math
import pickle
import subprocess
import sys

import numpy as np
import pytest
import sympy as sp
from matplotlib.text import Text
from test_cli_flow import run

import cliff
from cliff import Landscape, NestedLogit, integrate, integrate_ensemble, plots, sweep
from cliff.analysis import basin_paths, fixed_points, slice_around, slow_manifold
from cliff.checks import ArgumentError
from cliff.cli.landscapes import components, spread
from cliff.landscapes import GALLERY, product_of_factors
from cliff.metrics import FlowMetric, metrics_of
from cliff.store import open_dataset, save_dataset
from cliff.symbolic import derive_of

A, B, S = sp.symbols("a b s")
WELL = Landscape([A, B], (S - A * B) ** 2 / 2, {S: 2}, events={"half": A * B >= S / 2})
ROTOR = Landscape([A, B], velocity=[B, -A], events={"turn": A <= 0})
LINE = Landscape([A], (A**2 - S) ** 2, {S: 1}, plateau=S**2)

FILE = """
import sympy as sp
from cliff import Landscape, NestedLogit
from beside import S
print("said by the file")
a = sp.Symbol("a")
model = Landscape([a], (S - a) ** 2 / 2, {S: 2}, plateau=S**2 / 2)
made = Landscape.from_functions(
    [a], lambda theta: (theta[0] - 1.0) ** 2, lambda theta: (2.0 * (theta[0] - 1.0),), plateau=1.0
)
nested = NestedLogit(4, 16)
number = 3
"""


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine.py").write_text(FILE)
    (tmp_path / "beside.py").write_text("import sympy\nS = sympy.Symbol('s')\n")
    (tmp_path / "raises.py").write_text("x = 1\ny = 1 / 0\n")
    (tmp_path / "leaves.py").write_text("import sys\nsys.exit('bye')\n")
    (tmp_path / "broken.py").write_text("x = 1\nx = = 2\n")
    return tmp_path


# ------------------------------------------------------------------------------ the command line


@pytest.mark.parametrize("name", GALLERY)
def test_every_landscape_of_the_gallery_flows_and_is_mapped(capsys, tmp_path, name):
    model, picture = GALLERY[name](), tmp_path / "x.png"
    code, out, err = run(
        capsys, "flow", "--landscape", name, "--t-end", "20", "--json", "--plot", str(picture)
    )
    assert code == 0, err
    fields = json.loads(out)
    expected = integrate(model, [0.01] * model.n_parameters, 20.0)
    assert list(fields["theta"].values()) == expected.theta[-1].tolist()
    assert fields["constants"] == dict(model.constants)
    assert set(fields["events"]) == set(expected.events)
    assert picture.read_bytes().startswith(b"\x89PNG")
    x = next((f"{k}={v}:{2 * v}:3" for k, v in model.constants.items()), "mobility_a1=1:2:3")
    result = tmp_path / "x.nc"
    code, out, err = run(
        capsys, "phase", "--landscape", name, "--x", x, "--y",
        f"{model.parameter_names[0]}=0.1:1:2", "--metric", "loss", "--t-end", "20", "-q",
        "-o", str(result), "--plot", str(picture),
    )  # fmt: skip
    assert code == 0, err
    assert "6 of 6 cells done" in out
    assert FlowMetric.from_dataset(open_dataset(result)).model == model
    assert run(capsys, "plot", str(result), str(tmp_path / "y.pdf"), "-q")[0] == 0


def test_constants_starts_mobilities_and_events_reach_the_flow(capsys):
    code, out, _ = run(
        capsys, "flow", "--landscape", "product-of-factors", "--set", "s=2", "--init", "a2=0.5",
        "--mobility", "2", "0.5", "--until", "rise", "--t-end", "50", "--json",
    )  # fmt: skip
    fields = json.loads(out)
    one = integrate(product_of_factors(2, 2), [0.01, 0.5], 50.0, (2.0, 0.5), until="rise")
    assert code == 0
    assert fields["status"] == "event reached"
    assert fields["t_reached"] == one.path.t[-1] == fields["events"]["rise"][0]
    assert one.theta[-1].prod() == pytest.approx(1.0)


def test_the_start_of_the_nested_logit_has_names_too(capsys):
    thetas = []
    for init in (["-0.5", "0.1", "2"], ["xi=2", "beta1=-0.5", "alpha=0.1"]):
        out = run(capsys, "flow", "--init", *init, "--t-end", "3", "--json")[1]
        thetas.append(json.loads(out)["theta0"])
    assert thetas == [[-0.5, 0.1, 2.0]] * 2
    free = ["flow", "--label-bias", "free", "--t-end", "1", "--json", "--init", "beta2=0.5"]
    assert json.loads(run(capsys, *free)[1])["theta0"] == [0.01, 0.01, 0.01, 0.5]


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("--init 1 -2 x=3 --t-end 4", "--init 1 --init -2 --init x=3 --t-end 4"),
        ("--set a=1 loss", "--set a=1 loss"),
        ("--init nan inf", "--init nan --init inf"),
        ("--init x 0", "--init x 0"),
        ("--t-end 1 2", "--t-end 1 2"),
        ("--init 1 --init 2 -q", "--init 1 --init 2 -q"),
        ("--init", "--init"),
    ],
)
def test_options_of_several_values_are_spread(given, expected):
    assert spread(given.split()) == expected.split()


def test_components_by_place_and_by_name():
    names, defaults = ("a", "b", "c"), (0.0, 1.0, 2.0)
    assert components("init", ["3", "4", "5"], names, defaults) == [3.0, 4.0, 5.0]
    assert components("init", ["b=7"], names, defaults) == [0.0, 7.0, 2.0]
    assert components("init", ["3", "4"], names, defaults, 2) == [3.0, 4.0, 2.0]
    assert components("init", None, names, defaults) == [0.0, 1.0, 2.0]


def test_rules_reach_the_flow(capsys):
    base = ["flow", "--landscape", "product_of_factors", "--t-end", "5", "--json"]
    noisy = ["--rule", "langevin", "--temperature", "0.1", "--method", "euler", "--step", "0.1"]
    for options, rule in (
        (["--rule", "momentum", "--friction", "2"], cliff.Momentum(2.0)),
        (["--rule", "adam", "--lr", "0.1"], cliff.Adam(0.1)),
        ([*noisy, "--seed", "3"], cliff.Langevin(0.1, 3)),
        (noisy, cliff.Langevin(0.1, 0)),
    ):
        fields = json.loads(run(capsys, *base, *options)[1])
        fixed = {"method": "euler", "step": 0.1} if options[1] == "langevin" else {}
        one = integrate(product_of_factors(), [0.01, 0.01], 5.0, rule=rule, **fixed)
        assert list(fields["theta"].values()) == one.theta[-1].tolist()


def test_a_file_of_ones_own_is_run(capsys, folder):
    code, out, err = run(
        capsys, "flow", "--landscape", "mine.py:model", "--json", "-o", "run.nc", "-q"
    )
    assert code == 0
    assert json.loads(out)["theta"]["a"] == pytest.approx(2.0, abs=1e-6)
    assert err == "said by the file\n"
    (folder / "mine.py").unlink()  # the result needs no file
    assert run(capsys, "plot", "run.nc", "run.png", "-q")[0] == 0
    assert str(folder) not in sys.path


def test_a_landscape_of_functions_flows_but_no_file_holds_it(capsys, folder):
    made = ["--landscape", "mine.py:made", "-q"]
    assert run(capsys, "flow", *made, "--plot", "x.png", "--t-end", "3")[0] == 0
    code, out, _ = run(capsys, "phase", *made, "--x", "a=0:0.5:3", "--plot", "y.png")
    assert code == 0
    assert "3 of 3 cells" in out
    assert (folder / "y.png").exists()
    for command in (["flow"], ["phase", "--x", "a=0:0.5:3"]):
        code, _, err = run(capsys, *command, *made, "-o", "x.nc")
        assert code == 2
        assert "--landscape mine.py:made: is made of functions, which no file can hold" in err
        assert not (folder / "x.nc").exists()


def test_a_nested_logit_from_a_file_is_one_landscape_among_others(capsys, folder):
    made = ["flow", "--landscape", "mine.py:nested", "--set", "n_labels=8", "--json", "-q"]
    assert json.loads(run(capsys, *made)[1])["n_labels"] == 8


OF = ["--landscape", "causal_attention"]


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (
            ["--landscape", "nope"],
            "--landscape nope: must be FILE.py:OBJECT or one of nested-logit",
        ),
        (["--landscape", "mine.py"], "--landscape mine.py: must name an object: FILE.py:OBJECT"),
        (["--landscape", "mine.py:"], "must name an object"),
        (["--landscape", "none.py:x"], "--landscape none.py:x: there is no file none.py"),
        (["--landscape", "mine.py:absent"], "mine.py has no object absent"),
        (["--landscape", "mine.py:number"], "number is no landscape but of the type int"),
        (["--landscape", "mine.py:Landscape"], "Landscape is no landscape but of the type type"),
        (["--landscape", "raises.py:x"], "line 2 raised ZeroDivisionError: division by zero"),
        (["--landscape", "leaves.py:x"], "line 2 raised SystemExit: bye"),
        (["--landscape", "broken.py:x"], "line 2 raised SyntaxError"),
        ([*OF, "--set", "N"], "--set N: must be NAME=VALUE"),
        ([*OF, "--set", "N=x"], "--set N=x: must be a number"),
        ([*OF, "--set", "M=2"], "--set M=2: is no constant of this landscape: N"),
        ([*OF, "--set", "N=2", "N=3"], "--set N: is given twice"),
        ([*OF, "--set", "N=0.5"], "--set N=0.5: must not make the weight N - 1 negative"),
        ([*OF, "--set", "N=nan"], "--set N=nan: must be a finite number"),
        (["--set", "N=2"], "--set N=2: the nested logit has --pairs"),
        ([*OF, "--init", "1", "2"], "--init 1 2: needs 3 numbers, alpha beta gamma"),
        ([*OF, "--init", "x=1"], "--init x=1: NAME must be one of alpha, beta, gamma"),
        ([*OF, "--init", "alpha=1", "alpha=2"], "--init alpha: is given twice"),
        ([*OF, "--init", "1", "alpha=2"], "--init 1: must be NAME=VALUE"),
        ([*OF, "--mobility", "alpha=-1"], "--mobility"),
        ([*OF, "--pairs", "4"], "--pairs 4: is an option of the nested logit, not of causal"),
        ([*OF, "--labels", "4"], "--labels 4: is an option of the nested logit"),
        ([*OF, "--positions", "mean"], "--positions mean: is an option of the nested logit"),
        ([*OF, "--label-bias", "free"], "--label-bias free: is an option of the nested logit"),
    ],
)
@pytest.mark.parametrize("command", ["flow", "phase"])
def test_mistakes_get_one_line(capsys, folder, command, arguments, told):
    more = ["--x", "mobility_alpha=1:2:2"] if command == "phase" else []
    if command == "phase" and "--landscape" in arguments and arguments[1] == "nope":
        more = ["--x", "alpha=1:2:2"]
    code, out, err = run(capsys, command, *arguments, *more)
    assert (code, out) == (2, "")
    assert told in err
    assert [line for line in err.splitlines() if line != "said by the file"] == [
        err.splitlines()[-1]
    ]
    assert not list(folder.glob("*.nc"))


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["flow", "--until", "never"], "--until never: must be one of fall_begins, fall, fall_"),
        (["flow", *OF, "--until", "rise"], "--until rise: must be one of fall_begins"),
        (["flow", "--friction", "1"], "--friction 1.0: needs --rule momentum"),
        (["flow", "--rule", "adam"], "--rule adam: needs --lr"),
        (["flow", "--rule", "langevin", "--temperature", "1"], "--method dopri5: must be euler"),
        (["flow", "--rule", "momentum", "--friction", "1", "--method", "radau"], "--method radau"),
        (["flow", "--label-bias", "free", "--bias-init", "1", "--init", "beta2=1"], "--bias-init"),
        (["phase", *OF, "--x", "M=1:2:2"], "--x M=1:2:2: NAME must be one of N, alpha"),
        (["phase", *OF, "--x", "mobility_N=1:2:2"], "NAME must be one of N, alpha"),
        (["phase", *OF, "--x", "pairs=1:2:2"], "NAME must be one of N, alpha"),
        (["phase", *OF, "--x", "N=2:3:2", "--metric", "basin"], "--metric basin: must be one of"),
        (
            ["phase", *OF, "--x", "alpha=0:1:2", "--init", "alpha=2"],
            "--init alpha=2: has no effect beside the axis alpha",
        ),
        (
            ["phase", *OF, "--x", "N=2:3:2", "--set", "N=4"],
            "--set N=4: has no effect beside the axis N",
        ),
        (["derive", "plateau", *OF], "TARGET plateau: must be one of loss, gradient, hessian"),
        (["derive", "loss", *OF, "--pairs", "3"], "--pairs 3: is an option of the nested logit"),
        (["derive", "loss", "--landscape", "mine.py:made"], "is made of functions"),
        (["derive", "loss", "--landscape", "mine.py:nested"], "is not stated in SymPy"),
        (["derive", "loss", "--set", "N=1"], "--set N=1: the nested logit has --pairs"),
    ],
)
def test_mistakes_of_one_command_get_one_line(capsys, folder, arguments, told):
    code, out, err = run(capsys, *arguments)
    assert (code, out) == (2, "")
    assert told in err.splitlines()[-1]
    assert len([line for line in err.splitlines() if line != "said by the file"]) == 1


# --------------------------------------------------------------------------- metrics and sweeps


def test_constants_are_axes_of_a_metric():
    values = FlowMetric("half", WELL, (0.1, 0.2), t_end=50.0)(s=np.array([1.0, 2.0, 3.0]))
    for s, time in zip((1, 2, 3), values["half"], strict=True):
        one = integrate(WELL.with_constants(s=s), [0.1, 0.2], 50.0)
        assert time == pytest.approx(one.events["half"][0], rel=1e-12)
    assert values["failure"].tolist() == ["", "", ""]


def test_a_bad_constant_fails_alone():
    result = FlowMetric("fall", GALLERY["causal_attention"](), t_end=1e3)(N=np.array([8.0, 0.5]))
    assert result["failure"].tolist() == [
        "", "constants must not make the weight N - 1 negative"
    ]  # fmt: skip
    assert np.isfinite(result["fall"][0])


def test_metrics_are_those_that_a_landscape_has():
    assert metrics_of(WELL) == ("loss", "half")
    assert metrics_of(ROTOR) == ("turn",)
    falls = ("fall_begins", "fall", "fall_ends")
    assert metrics_of(LINE) == ("t_transition", "width", "abruptness", "loss", *falls)
    assert metrics_of(NestedLogit())[:5] == (*metrics_of(LINE)[:4], "basin")
    with pytest.raises(ArgumentError, match="metric=basin: must be one of loss, half"):
        FlowMetric("basin", WELL)


def test_a_sweep_holds_its_landscape_as_data(tmp_path):
    path, axes = tmp_path / "grid.nc", {"s": [1.0, 2.0], "a": [0.1, 0.5]}
    function = FlowMetric("half", WELL, t_end=50.0)
    grid = sweep(function, axes, path=path, vectorized=True, long_names=function.long_names)
    assert FlowMetric.from_dataset(open_dataset(path)) == function
    assert grid["a"].attrs["long_name"] == "a at the start"
    other = FlowMetric("half", WELL.with_constants(s=3), t_end=50.0)
    with pytest.raises(ArgumentError, match="holds a sweep with landscape"):
        sweep(other, axes, path=path, vectorized=True)
    assert pickle.loads(pickle.dumps(function)) == function


def test_sweeps_of_the_nested_logit_by_its_earlier_names_are_resumed(tmp_path):
    """Formats 1 and 2 call the settings n_pairs and n_labels pairs and labels."""
    path, axes = tmp_path / "grid.nc", {"alpha": np.linspace(0.0, 1.0, 3)}
    function = FlowMetric("loss", NestedLogit(4, 16), t_end=5.0)
    now = sweep(function, axes, vectorized=True)
    old = now.copy()
    text = old.attrs["parameters"].replace('"n_pairs"', '"pairs"')
    old.attrs["parameters"] = text.replace('"n_labels"', '"labels"')
    save_dataset(old.isel(alpha=[0, 2]), path, "sweep")
    assert FlowMetric.from_dataset(open_dataset(path)) == function
    resumed = sweep(function, axes, path=path, vectorized=True)
    assert resumed["loss"].equals(now["loss"])
    with pytest.raises(ArgumentError, match="n_labels = 16, not 32"):
        sweep(FlowMetric("loss", NestedLogit(4, 32), t_end=5.0), axes, path=path, vectorized=True)


# ------------------------------------------------------------------------- pictures and analysis


def words(figure):
    return " ".join(text.get_text() for text in figure.findobj(Text))


def test_pictures_of_flows_have_the_panels_that_there_are():
    for model, start, panels in (
        (WELL, [0.1, 0.2], ["loss (nats)", "parameter", "$b$", "loss (nats)"]),
        (ROTOR, [1.0, 0.0], ["parameter"]),
        (LINE, [0.1], ["loss (nats)", "parameter"]),
        (
            product_of_factors(4),
            [0.5] * 4,
            ["loss (nats)", "parameter", "measures", "$a_{2}$", "loss (nats)"],
        ),
    ):
        figure = plots.draw(integrate(model, start, 20.0))
        assert [ax.get_ylabel() for ax in figure.axes] == panels
        figure.draw_without_rendering()


def test_the_picture_of_a_flow_shows_events_and_constants():
    shown = words(plots.draw(integrate(WELL, [0.1, 0.2], 20.0)))
    assert "half, $t$ =" in shown
    assert "$s$ = 2, from (0.1, 0.2)" in shown
    assert "log N" not in shown
    assert "plateau" not in shown


def test_ensembles_without_valleys_are_coloured_by_their_losses():
    ensemble = integrate_ensemble(WELL, [[0.1, 0.2], [0.3, -0.4], [0.0, 0.0]], 20.0)
    figure = plots.draw(ensemble)
    (points,) = figure.axes[0].collections
    np.testing.assert_array_equal(points.get_array(), ensemble.loss)
    assert figure.axes[1].get_ylabel() == "loss at the end (nats)"
    plots.draw(integrate_ensemble(LINE, [[0.1], [0.2]], 2.0)).draw_without_rendering()


def test_a_phase_diagram_has_the_labels_of_its_landscape():
    grid = sweep(
        FlowMetric("half", WELL, mobility=(1.0, 3.0), t_end=50.0),
        {"s": [1.0, 2.0], "mobility_a": [1.0, 2.0]},
        vectorized=True,
    )
    ax = plots.draw(grid).axes[0]
    assert (ax.get_xlabel(), ax.get_ylabel()) == ("mobility of $a$", "$s$")
    assert ax.get_title() == (
        "to $t$ = 50\nstart $a$ = 0.01, $b$ = 0.01, mobility of $b$ 3"
    )  # fmt: skip
    assert "wall" not in words(ax.figure)


def test_analysis_of_a_landscape_without_a_plateau():
    trajectory = integrate(WELL, [0.1, 0.2], 20.0)
    part = slice_around(trajectory)
    assert part.names == ("a", "b")
    with pytest.raises(ArgumentError, match="has no plateau"):
        part.edge()
    (saddle,) = fixed_points(WELL, [[0.01, -0.02]])
    assert saddle.kind == "saddle"
    up, down = slow_manifold(WELL, 1.0)
    np.testing.assert_allclose(up.theta[0], [1e-3 * np.sqrt(0.5)] * 2)
    np.testing.assert_allclose(down.theta[0], -up.theta[0])


def test_sample_paths_mark_the_saddle_of_the_nested_logit_alone():
    axes = {"xi": [-1.0, 1.0], "alpha": [-1.0, 1.0]}
    grids = [
        sweep(FlowMetric("basin", NestedLogit(4, n), t_end=10.0), axes, vectorized=True)
        for n in (4, 5)
    ]
    assert [basin_paths(grid)[1] for grid in grids] == [[(0.0, 0.0)], []]


# --------------------------------------------------------------------------------------- formulas


LONG = pytest.param(
    "finite_dimension", "hessian", marks=(pytest.mark.slow, pytest.mark.timeout(1200))
)


@pytest.mark.parametrize(
    ("name", "target"),
    [
        LONG if (name, target) == LONG.values else (name, target)
        for name in GALLERY
        for target in ("loss", "gradient", "hessian")
    ],
)
def test_derived_source_is_the_compiled_evaluation(name, target, rng):
    model = GALLERY[name]()
    formula = derive_of(model, target)
    scope = {}
    exec(formula.printed("python"), scope)
    theta = rng.normal(size=(2, 5, model.n_parameters)) * 3.0
    grids = [list(zip(*grid, strict=True)) for grid in model.average.values()]
    values = sum(
        math.prod(weight for _, weight in nodes)
        * np.asarray(scope[target](theta, *model.constants.values(), *(x for x, _ in nodes)))
        for nodes in itertools.product(*grids)
    )
    np.testing.assert_allclose(values, getattr(model, target)(theta), rtol=1e-9, atol=1e-13)
    data = json.loads(formula.printed("json"))
    assert data["constants"] == dict(model.constants)
    assert "Softmax" not in formula.printed("text") + formula.printed("latex")


def test_written_formulas_are_the_loss():
    model = GALLERY["memory_and_context"]()
    data = json.loads(derive_of(model, "loss").printed("json"))
    local = {**dict(zip(model.parameter_names, (0.3, 0.4, 0.5), strict=True)), **model.constants}
    local |= {"exp": np.exp, "log": np.log, "sqrt": np.sqrt}
    for line in (*data["assignments"], *data["results"]):
        local[line["name"]] = eval(line["expression"], {}, local)
    assert local["loss"] == pytest.approx(float(model.loss([0.3, 0.4, 0.5])), rel=1e-12)


def test_source_has_names_that_python_can_have():
    keyword, dotted = sp.symbols("lambda x'")
    model = Landscape([keyword, dotted], (keyword - dotted) ** 2, {"theta_": 1, "numpy": 2})
    scope = {}
    exec(derive_of(model, "gradient").printed("python"), scope)
    np.testing.assert_allclose(scope["gradient"]([3.0, 1.0], 1, 2), [4.0, -4.0])


def test_source_does_not_overflow():
    model = GALLERY["causal_attention"]()
    scope = {}
    exec(derive_of(model, "loss").printed("python"), scope)
    theta = np.array([[1e3, -1e3, 1.0], [-1e3, 1e3, 2.0], [1e3, 1e3, 1.0]])
    np.testing.assert_allclose(scope["loss"](theta, 32), model.loss(theta), rtol=1e-12)


def test_a_velocity_is_derived_as_minus_the_gradient():
    assert "gradient[0] = -b" in derive_of(ROTOR, "gradient").printed("text")
    with pytest.raises(ArgumentError, match="velocity and no loss"):
        derive_of(ROTOR, "loss")


def test_importing_cliff_starts_no_sympy():
    code = "import sys, cliff; cliff.NestedLogit; print('sympy' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"
    assert {"Landscape", "landscapes", "softmax", "log_sum_exp", "cross_entropy"} <= set(dir(cliff))
