"""The command ``cliff derive``."""

import json
import math

import numpy as np
import pytest

from cliff import NestedLogit, symbolic
from cliff.cli import main


def call(capsys, *arguments):
    """Exit code, standard output and standard error of one command line."""
    with pytest.raises(SystemExit) as exit_:
        main(["derive", *arguments])
    captured = capsys.readouterr()
    return exit_.value.code, captured.out, captured.err


@pytest.mark.parametrize("form", symbolic.FORMATS)
@pytest.mark.parametrize("target", symbolic.TARGETS)
def test_every_target_prints_in_every_format(capsys, target, form):
    code, out, err = call(capsys, target, "--pairs", "2", "--format", form)
    assert (code, err) == (0, "")
    if form == "json":
        assert json.loads(out)["name"] == target
    elif form == "python":
        compile(out, "printed", "exec")
    else:
        assert ("$$" in out) == (form == "latex")


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
        (["everything"], "TARGET"),
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
        (["loss", "--format", "word"], "--format"),
    ],
)
def test_bad_input_is_one_line_and_code_2(capsys, arguments, named):
    code, out, err = call(capsys, *arguments)
    assert code == 2
    assert out == ""
    assert err.startswith(f"cliff: {named} ")
    assert len(err.splitlines()) == 1
