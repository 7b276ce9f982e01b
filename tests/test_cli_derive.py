"""The command ``cliff derive``."""

import json
import math
import re
from typing import get_args

import numpy as np
import pytest

from cliff import NestedLogit, symbolic
from cliff.cli import main
from cliff.cli.derive import Format, Target


def call(capsys, *arguments):
    """Exit code, standard output and standard error of one command line."""
    with pytest.raises(SystemExit) as exit_:
        main(["derive", *arguments])
    captured = capsys.readouterr()
    return exit_.value.code, captured.out, captured.err


LOSSES = ("loss", "gradient", "hessian")
CLOSED_FORMS = ("plateau", "saddle", "transition")


def refused(target, form, counts, positions, bias):
    """The option that a combination is refused for, or None: what has no formula of this form."""
    if positions == "mean":
        return None
    if target in LOSSES and form == "python" and counts == "N":
        return "--pairs"
    return "--label-bias" if target in CLOSED_FORMS and bias == "free" else None


@pytest.mark.parametrize("bias", ["0", "-0.7", "free"])
@pytest.mark.parametrize("positions", ["exact", "mean"])
@pytest.mark.parametrize("counts", ["2", "N"])
@pytest.mark.parametrize("target", symbolic.TARGETS)
def test_every_combination_prints_or_is_refused_in_one_line(
    capsys, target, counts, positions, bias
):
    for form in symbolic.FORMATS:
        code, out, err = call(
            capsys, target, "--pairs", counts, "--positions", positions, "--label-bias", bias,
            "--format", form,
        )  # fmt: skip
        option = refused(target, form, counts, positions, bias)
        if option is not None:
            assert (code, out) == (2, "")
            assert err.startswith(f"cliff: {option} ")
            assert err.count("\n") == 1
            continue
        assert (code, err) == (0, "")
        assert out.isascii()
        assert "nan" not in out
        assert "zoo" not in out
        if form == "json":
            assert json.loads(out)["name"] == target
        elif form == "python":
            compile(out, "printed", "exec")
        else:
            assert ("$$" in out) == (form == "latex")


FUNCTIONS = {
    "exp", "log", "expm1", "log1p", "sqrt", "Max", "Sum", "KroneckerDelta", "gamma", "loggamma",
    "ceiling", "WrightOmega", "pi",
}  # fmt: skip


@pytest.mark.parametrize("positions", ["exact", "mean"])
@pytest.mark.parametrize("counts", ["3", "N"])
@pytest.mark.parametrize("target", symbolic.TARGETS)
def test_text_and_json_say_which_landscape_and_explain_every_symbol(
    capsys, target, counts, positions
):
    labels = {"3": "12", "N": "L"}[counts] if target != "saddle" else counts
    arguments = [target, "-N", counts, "--positions", positions, "--label-bias", "0.5"]
    _, out, _ = call(capsys, *arguments)
    lines = out.splitlines()
    size = f"N = 3 pairs, L = {labels} labels" if counts == "3" else f"N pairs, {labels} labels"
    kind = "exact positions" if positions == "exact" else "mean field"
    assert lines[0] == f"# {size}, {kind}, label bias 0.5"
    formulas = [line for line in lines if not line.startswith("#")]
    explained = {line[2:].split(": ")[0] for line in lines[1:] if line.startswith("# ")}
    used = set()
    for line in formulas:
        name, _, value = line.partition(" = ")
        sums = set(re.findall(r"\(([a-z]), ", value))
        names = set(re.findall(r"[A-Za-z]\w*", value.split("  if ")[0]))
        used |= names - FUNCTIONS - sums - {name}
    results = {line.split(" = ")[0].split("[")[0] for line in formulas}
    assert used or counts == "3"
    stems = {name if name in explained else re.split("__|_", name)[0] for name in used}
    assert stems <= explained | results
    data = json.loads(call(capsys, *arguments, "--format", "json")[1])
    number = {"3": 3, "12": 12, "N": "N", "L": "L"}
    assert (data["n_pairs"], data["n_labels"]) == (number[counts], number[labels])
    assert (data["positions"], data["label_bias"]) == (positions, 0.5)
    assert set(data["symbols"]) <= explained


@pytest.mark.parametrize("target", symbolic.TARGETS)
@pytest.mark.parametrize("labels", ["3", "2", "N", "L"])
@pytest.mark.parametrize("pairs", ["2", "N"])
def test_labels_may_be_a_number_or_l_or_as_many_as_pairs(capsys, target, pairs, labels):
    code, out, err = call(capsys, target, "--pairs", pairs, "--labels", labels)
    as_many = labels in ("N", pairs)
    if target == "saddle" and not as_many:
        assert err == f"cliff: --labels {labels}: must be N, the number of pairs: {NO_SADDLE}\n"
    elif target in ("plateau", "transition") and as_many:
        assert err.startswith(f"cliff: --labels {labels}: must exceed the number of pairs")
        assert err.count("\n") == 1
    else:
        assert (code, err) == (0, "")
        found = pairs if labels == "N" else labels
        assert f"{found} labels" in out.splitlines()[0]
    if err:
        assert (code, out) == (2, "")


NO_SADDLE = "else there is no saddle"


@pytest.mark.parametrize("positions", ["exact", "mean"])
@pytest.mark.parametrize("target", LOSSES)
def test_as_many_labels_as_pairs_is_one_argument(capsys, target, positions):
    """The same numbers as with both counts written out."""
    theta = np.random.default_rng(3).normal(size=(20, 3))
    pairs = "N" if positions == "mean" else "5"
    _, out, _ = call(
        capsys, target, "-N", pairs, "-L", "N", "--positions", positions, "--format", "python"
    )
    scope: dict = {}
    exec(out, scope)
    got = scope[target](theta, *([5] if pairs == "N" else []))
    expected = getattr(NestedLogit(5, 5, positions), target)(theta)
    np.testing.assert_allclose(got, expected, rtol=1e-9, atol=1e-13)


def test_help_says_choices_defaults_and_an_example(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "250")
    code, out, _ = call(capsys, "--help")
    text = " ".join(re.sub("[│╭╮╰╯─]", " ", out).split())
    assert code == 0
    assert get_args(Target) == symbolic.TARGETS
    assert get_args(Format) == symbolic.FORMATS
    assert "|".join(symbolic.FORMATS) in text
    assert "|".join(symbolic.TARGETS) in text
    assert "By default N for saddle, and four times the pairs otherwise" in text
    (example,) = re.findall(r"Example: cliff derive ([\w -]+?--format \w+)", text)
    assert call(capsys, *example.split())[0] == 0


def test_printed_gradient_runs(capsys):
    code, out, _ = call(
        capsys, "gradient", "-N", "3", "-L", "5", "--format", "python", "--label-bias", "free"
    )
    assert code == 0
    scope: dict = {}
    exec(out, scope)
    theta = np.array([[0.1, -0.2, 0.3, 0.4], [1.0, 2.0, 3.0, -1.0]])
    expected = NestedLogit(3, 5, label_bias="free").gradient(theta)
    np.testing.assert_allclose(scope["gradient"](theta), expected, rtol=1e-12)


def test_defaults(capsys):
    _, out, _ = call(capsys, "origin")
    assert "loss = log(32)" in out
    _, out, _ = call(capsys, "saddle", "-N", "5")
    assert "H = 137/60" in out
    _, out, _ = call(capsys, "loss", "-N", "N", "--positions", "mean")
    assert "L - N" in out
    _, out, _ = call(capsys, "valleys")
    assert "early-labels = log(40320)/8" in out
    assert math.isclose(math.lgamma(9), math.log(40320))


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (["everything"], "TARGET everything: must be one of loss,"),
        (["loss", "--pairs", "__import__('os')"], "--pairs"),
        (["loss", "--pairs", "0"], "--pairs"),
        (["loss", "--pairs", "-3"], "--pairs"),
        (["loss", "--pairs", "2.5"], "--pairs"),
        (["loss", "--pairs", "٣"], "--pairs"),
        (["loss", "--pairs", "n"], "--pairs"),
        (["loss", "--pairs", "L"], "--pairs"),
        (["loss", "--pairs", "1" * 5000], "--pairs"),
        (["loss", "--pairs", "33"], "--pairs"),
        (["loss", "--labels", "4"], "--labels"),
        (["loss", "--labels", "exp(L)"], "--labels"),
        (["gradient", "--pairs", "N", "--format", "python"], "--pairs"),
        (["saddle", "--labels", "9"], "--labels"),
        (["plateau", "--labels", "8"], "--labels"),
        (["transition", "--labels", "8"], "--labels"),
        (["transition", "--label-bias", "free"], "--label-bias"),
        (["loss", "--label-bias", "nan"], "--label-bias"),
        (["loss", "--label-bias", "x"], "--label-bias"),
        (["loss", "--positions", "middle"], "--positions"),
        (["loss", "--format", "word"], "--format word: must be one of text,"),
        (["saddle", "--pairs", "1"], "--pairs"),
        (["transition", "--pairs", "1"], "--pairs"),
    ],
)
def test_bad_input_is_one_line_and_code_2(capsys, arguments, named):
    code, out, err = call(capsys, *arguments)
    assert code == 2
    assert out == ""
    assert err.startswith(f"cliff: {named} ")
    assert len(err.splitlines()) == 1
