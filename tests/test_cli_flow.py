"""The command as a user meets it: what it prints, writes, refuses and returns."""

import json
import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

import cliff
from cliff.cli import main


def run(capsys, *arguments):
    """Exit code, standard output and standard error of one call in this process."""
    with pytest.raises(SystemExit) as caught:
        main(list(arguments))
    captured = capsys.readouterr()
    return caught.value.code, captured.out, captured.err


def command(*arguments, **options):
    return subprocess.run(
        [sys.executable, "-m", "cliff", *arguments], capture_output=True, text=True, **options
    )


def test_paper_setting(capsys):
    code, out, _ = run(capsys, "flow")
    assert code == 0
    assert "transition (reached): t = 94.2" in out


def test_json_is_alone_on_standard_output():
    done = command("flow", "--json", "--pairs", "4", "--labels", "16")
    assert done.returncode == 0
    fields = json.loads(done.stdout)
    expected = cliff.integrate(cliff.NestedLogit(4, 16), [0.01] * 3, 200.0)
    assert fields["t_transition"] == expected.transition().t_transition
    assert fields["status"] == "done"
    assert fields["theta"]["xi"] == expected.theta[-1, 2]


def test_json_has_null_for_what_is_not_there(capsys):
    code, out, _ = run(capsys, "flow", "--json", "--t-end", "10")
    assert code == 0
    fields = json.loads(out)
    assert fields["t_transition"] is None
    assert fields["transition_status"] == "not reached"


def test_writes_a_result_and_a_picture(capsys, tmp_path):
    result, picture = tmp_path / "run.nc", tmp_path / "run.png"
    code, _, _ = run(capsys, "flow", "--output", str(result), "--plot", str(picture), "-q")
    assert code == 0
    assert cliff.load(result).model == cliff.NestedLogit(8, 32)
    assert picture.read_bytes().startswith(b"\x89PNG")
    for kind, start in (("pdf", b"%PDF"), ("svg", b"<?xml")):
        other = tmp_path / f"run.{kind}"
        assert run(capsys, "flow", "--plot", str(other), "-q")[0] == 0
        assert other.read_bytes().startswith(start)


@pytest.mark.parametrize("method", ["rk4", "euler", "lsoda", "radau"])
def test_every_method(capsys, method):
    step = ["--step", "0.02"] if method in ("rk4", "euler") else []
    code, out, _ = run(capsys, "flow", "--json", "--method", method, *step)
    assert code == 0
    assert json.loads(out)["t_transition"] == pytest.approx(94.249, abs=0.05)


def test_options_reach_the_model(capsys):
    code, out, _ = run(
        capsys, "flow", "--json", "--pairs", "4", "--labels", "8", "--positions", "mean",
        "--mobility", "1", "2", "0.5", "--label-bias", "free", "--bias-init", "0.25",
        "--bias-mobility", "0", "--init", "-0.5", "0.1", "2", "--t-end", "3",
    )  # fmt: skip
    fields = json.loads(out)
    assert code == 0
    assert fields["mobility"] == [1.0, 2.0, 0.5, 0.0]
    assert fields["theta0"] == [-0.5, 0.1, 2.0, 0.25]
    assert fields["theta"]["beta2"] == 0.25
    assert fields["positions"] == "mean"


def test_jitter_follows_the_seed(capsys):
    starts = []
    for seed in ("1", "1", "2"):
        out = run(capsys, "flow", "--json", "--jitter", "0.1", "--seed", seed, "--t-end", "1")[1]
        starts.append(json.loads(out)["theta0"])
    assert starts[0] == starts[1] != starts[2]


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (["--labels", "4"], "--labels 4: must be at least the number of pairs, 8"),
        (["--pairs", "0"], "--pairs 0"),
        (["--pairs", "2.5"], "--pairs"),
        (["--init", "nan", "0", "0"], "--init"),
        (["--init", "0", "0"], "--init"),
        (["--init", "inf", "0", "0"], "--init"),
        (["--mobility", "1", "-1", "1"], "--mobility"),
        (["--mobility", "1", "nan", "1"], "--mobility"),
        (["--t-end", "0"], "--t-end 0"),
        (["--t-end", "nan"], "--t-end nan"),
        (["--rtol", "0"], "--rtol 0"),
        (["--atol", "-1"], "--atol -1"),
        (["--method", "leapfrog"], "--method leapfrog: must be one of dopri5"),
        (["--method", "rk4"], "--step"),
        (["--positions", "sinusoidal"], "--positions sinusoidal: must be one of exact, mean"),
        (["--label-bias", "__import__('os')"], "--label-bias"),
        (["--output", "nowhere/run.nc"], "--output nowhere/run.nc: the directory nowhere does not"),
        (["--plot", "picture.docx"], "--plot picture.docx: must end in .png, .pdf or .svg"),
        (["--jitter", "-1"], "--jitter"),
        (["--frequency", "3"], "--frequency"),
        (["--max-steps", "0"], "--max-steps 0"),
    ],
)
def test_mistakes_get_one_line_and_touch_no_file(capsys, tmp_path, monkeypatch, arguments, named):
    monkeypatch.chdir(tmp_path)
    files = [] if "--output" in arguments else ["--output", "run.nc"]
    code, out, err = run(capsys, "flow", *arguments, *files)
    assert code == 2
    assert out == ""
    assert err.count("\n") == 1
    assert named in err
    assert not list(tmp_path.iterdir())


def test_an_unknown_command_gets_one_line(capsys):
    code, out, err = run(capsys, "fly")
    assert (code, out) == (2, "")
    assert err.count("\n") == 1


def test_a_failed_computation_has_its_own_code(capsys, tmp_path):
    path = tmp_path / "run.nc"
    code, _, err = run(capsys, "flow", "--max-steps", "5", "--output", str(path), "-q")
    assert code == 1
    assert "max_steps" in err
    assert cliff.load(path).n_steps == 5


def test_more_steps_than_fit_anywhere_are_refused(capsys):
    code, out, err = run(capsys, "flow", "--max-steps", str(10**19), "-q")
    assert (code, out) == (2, "")
    assert err.count("\n") == 1
    assert "--max-steps" in err


def test_a_read_only_directory_is_named(tmp_path):
    if os.geteuid() == 0:
        pytest.skip("root may write anywhere")
    tmp_path.chmod(0o500)
    done = command("flow", "--output", str(tmp_path / "run.nc"))
    assert done.returncode == 2
    assert "read-only" in done.stderr


def test_interrupting_saves_what_was_reached(tmp_path):
    path = tmp_path / "run.nc"
    slow = [
        sys.executable, "-m", "cliff", "flow", "--pairs", "2000", "--labels", "8000", "--method",
        "rk4", "--step", "0.01", "--t-end", "1e5", "--max-steps", "10000000", "-o", str(path),
    ]  # fmt: skip
    process = subprocess.Popen(slow, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    time.sleep(6.0)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=120)
    assert process.returncode == 130, err
    assert "Traceback" not in err
    partial = cliff.load(path)
    assert partial.status == "interrupted"
    assert 0.0 < partial.path.t[-1] < 1e5
    assert np.isfinite(partial.theta).all()
    assert [entry.name for entry in tmp_path.iterdir()] == ["run.nc"]


def test_heavy_libraries_are_imported_only_when_needed():
    check = (
        "import sys; sys.argv = ['cliff', {}]\n"
        "from cliff.cli import main\n"
        "try:\n    main()\nexcept SystemExit: pass\n"
        "print([m for m in {} if m in sys.modules], file=sys.stderr)"
    )
    for arguments, absent in (
        ("'--help'", ["numba", "scipy", "sympy", "matplotlib", "xarray"]),
        ("'flow', '--json'", ["sympy", "matplotlib", "xarray"]),
    ):
        done = subprocess.run(
            [sys.executable, "-c", check.format(arguments, absent)], capture_output=True, text=True
        )
        assert done.stderr.splitlines()[-1] == "[]"


def test_module_and_function_are_the_same_command():
    done = command("--help")
    assert done.returncode == 0
    assert "flow" in done.stdout
