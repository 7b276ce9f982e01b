"""The command as a user meets it: what it prints, writes, refuses and returns."""

import json
import os
import signal
import subprocess
import sys
import time
import typing
from pathlib import Path

import numpy as np
import pytest

import cliff
from cliff.cli import main
from cliff.plots import new_figure


def run(capsys, *arguments):
    """Exit code, standard output and standard error of one call in this process."""
    with pytest.raises(SystemExit) as caught:
        main(list(arguments))
    captured = capsys.readouterr()
    return caught.value.code, captured.out, captured.err


def wait_for_work(process, seconds):
    """Until a process has used so much of a processor's time, however busy the machine is."""
    used = 0.0
    while used < seconds:
        assert process.poll() is None
        time.sleep(0.05)
        fields = Path(f"/proc/{process.pid}/stat").read_text().rpartition(")")[2].split()
        used = (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


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
        capsys, "flow", "--json", "--pairs", "4", "--labels", "8",
        "--mobility", "1", "2", "0.5", "--label-bias", "free", "--bias-init", "0.25",
        "--bias-mobility", "0", "--init", "-0.5", "0.1", "2", "--t-end", "3",
    )  # fmt: skip
    fields = json.loads(out)
    assert code == 0
    assert fields["mobility"] == [1.0, 2.0, 0.5, 0.0]
    assert fields["theta0"] == [-0.5, 0.1, 2.0, 0.25]
    assert fields["theta"]["beta2"] == 0.25
    assert fields["positions"] == "exact"
    out = run(capsys, "flow", "--json", "--positions", "mean", "--t-end", "3")[1]
    assert json.loads(out)["positions"] == "mean"


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
        (["--init", "nan", "0", "0"], "--init nan 0.0 0.0: must be finite"),
        (["--init", "0", "0"], "--init"),
        (["--init", "inf", "0", "0"], "--init"),
        (["--mobility", "1", "-1", "1"], "--mobility"),
        (["--mobility", "1", "nan", "1"], "--mobility"),
        (["--memory", "--mobility", "omega_1=-1"], "--mobility 1 1 1 -1: must be 4 finite numbers"),
        (["--t-end", "0"], "--t-end 0"),
        (["--t-end", "nan"], "--t-end nan"),
        (["--rtol", "0"], "--rtol 0"),
        (["--atol", "-1"], "--atol -1"),
        (["--method", "leapfrog"], "--method leapfrog: must be one of dopri5, rk4"),
        (["--method", "rk4"], "--step: "),
        (["--positions", "sinusoidal"], "--positions sinusoidal: must be one of exact, mean"),
        (["--label-bias", "__import__('os')"], "--label-bias"),
        (["--output", "nowhere/run.nc"], "--output nowhere/run.nc: the directory nowhere does not"),
        (["--plot", "picture.docx"], "--plot picture.docx: must end in .png, .pdf or .svg"),
        (["--jitter", "-1"], "--jitter"),
        (["--frequency", "3"], "--frequency"),
        (["--max-steps", "0"], "--max-steps 0"),
        (["--max-steps", str(10**19)], "--max-steps"),
        (["--pairs", str(10**9), "--labels", str(10**9)], "--pairs 1000000000: must be at most"),
        (["--labels", str(10**17)], "--labels 100000000000000000: must be at most"),
        (["--bias-init", "0"], "--bias-init 0.0: needs --label-bias free"),
        (["--label-bias", "1", "--bias-mobility", "2"], "--bias-mobility 2.0: needs --label-bias"),
        (["--positions", "mean", "--label-bias", "1"], "--label-bias 1: has no effect in the mean"),
        (["--seed", "0"], "--seed 0: needs --jitter"),
        (["--step", "0.1"], "--step 0.1: the method dopri5 chooses its own steps"),
        (
            ["--method", "rk4", "--step", "1", "--rtol", "1e-3"],
            "--rtol 0.001: has no effect on rk4",
        ),
        (["--method", "euler", "--step", "1", "--atol", "1"], "--atol 1.0: has no effect on euler"),
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


def test_the_table_shows_the_fall(capsys, monkeypatch):
    """Also in a terminal that is narrower than the table, and for times of 300 digits."""
    for columns in ("200", "40", "0"):
        monkeypatch.setenv("COLUMNS", columns)
        code, out, _ = run(capsys, "flow", "--t-end", "1e300")
        assert code == 0
        rows = [line.split("│") for line in out.splitlines() if line.startswith("│")]
        names = ["start", "0.9 log N", "0.5 log N", "0.1 log N", "end"]
        assert [row[1].strip() for row in rows] == names
        assert [row[2].strip() for row in rows] == ["0", "93.2232", "94.2481", "100.83", "1e+300"]
        assert rows[2][9].strip() == "0.367"  # p_correct
        assert "…" not in out


def test_a_large_context_answers_in_seconds(capsys):
    run(capsys, "flow", "--t-end", "1")  # compile first
    began = time.process_time()
    code, out, _ = run(capsys, "flow", "--pairs", "100000", "--labels", "400000", "--t-end", "1e8")
    assert code == 0
    assert "transition (reached): t = 4.78" in out
    assert time.process_time() - began < 20.0


def test_the_result_is_written_before_the_picture(capsys, tmp_path, monkeypatch):
    def fail(*_):
        raise OSError("no fonts here")

    monkeypatch.setattr("cliff.plots.draw", fail)
    result, picture = tmp_path / "run.nc", tmp_path / "run.png"
    code, out, err = run(capsys, "flow", "--output", str(result), "--plot", str(picture))
    assert code == 1
    assert "no fonts here" in err
    assert "transition (reached)" in out
    assert cliff.load(result).status == "done"


def test_compiling_is_not_taken_for_a_long_drawing(capsys, tmp_path, monkeypatch):
    loss, slow = cliff.NestedLogit.loss, [True]

    def first_call_compiles(model, theta):
        if slow:
            time.sleep(0.1 * slow.pop())
        return loss(model, theta)

    monkeypatch.setattr(cliff.NestedLogit, "loss", first_call_compiles)
    monkeypatch.setattr("cliff.plots.draw", lambda trajectory: new_figure(1, 1)[0])
    assert "drawing" not in run(capsys, "flow", "--plot", str(tmp_path / "p.png"))[2]
    assert not slow


def test_a_long_drawing_is_announced(capsys, tmp_path, monkeypatch):
    monkeypatch.setattr("cliff.plots.draw", lambda trajectory: new_figure(1, 1)[0])
    big = ["--pairs", "1000000", "--labels", "1000000", "--t-end", "1"]
    assert "drawing takes some" in run(capsys, "flow", *big, "--plot", str(tmp_path / "p.png"))[2]
    assert "drawing takes" not in run(capsys, "flow", "--plot", str(tmp_path / "p.png"))[2]


def test_the_methods_offered_are_those_of_the_library():
    from cliff.cli.flow import Method
    from cliff.steppers import METHODS

    assert typing.get_args(Method) == METHODS


def test_the_help_shows_choices_and_an_example():
    out = command("flow", "--help", env={**os.environ, "COLUMNS": "160"}).stdout
    assert "dopri5|rk4|euler|lsoda|radau" in out
    assert "exact|mean" in out
    assert "1e-6" in out
    assert "Example: cliff flow --pairs 16" in out


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
    wait_for_work(process, 6.0)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=120)
    assert process.returncode == 130, err
    assert "Traceback" not in err
    partial = cliff.load(path)
    assert partial.status == "interrupted"
    assert 0.0 < partial.path.t[-1] < 1e5
    assert np.isfinite(partial.theta).all()
    assert [entry.name for entry in tmp_path.iterdir()] == ["run.nc"]


def test_a_signal_while_the_result_is_written_waits_for_it(tmp_path):
    code = (
        "import os, signal, sys, cliff.cli\n"
        "from cliff import Trajectory\n"
        "save = Trajectory.save\n"
        "def interrupted(*arguments):\n"
        "    os.kill(os.getpid(), signal.SIGTERM)\n"
        "    return save(*arguments)\n"
        "Trajectory.save = interrupted\n"
        "cliff.cli.main(['flow', '--t-end=1', '-o', sys.argv[1], '-q'])\n"
    )
    path = tmp_path / "run.nc"
    done = subprocess.run([sys.executable, "-c", code, str(path)], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (143, "cliff: interrupted\n")
    assert cliff.load(path).status == "done"


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


def test_flow_with_memory(capsys, tmp_path):
    """The mobility of a memory logit is that of one class, of which a group has many."""
    drawn = {"labels_drawn": "replacement", "dim": 63}
    data = cliff.Data(n_classes=40, zipf_exponent=1.0, p_novel=0.2, **drawn)
    model = cliff.NestedLogit(4, 8, memory=data)
    result, picture = tmp_path / "run.nc", tmp_path / "run.png"
    code, out, _ = run(
        capsys, "flow", "--memory", "-N", "4", "-L", "8", "--classes", "40", "--zipf", "1",
        "--p-novel", "0.2", "--labels-drawn", "replacement", "--dim", "63",
        "--t-end", "50", "--mobility", "omega_2=3", "--json", "-o", str(result), "--plot",
        str(picture),
    )  # fmt: skip
    assert code == 0
    rates = [1.0, 1.0, 1.0, *(np.array([1, 3, 1, 1, 1, 1]) / [1, 2, 4, 8, 16, 9])]
    expected = cliff.integrate(model, np.full(9, 0.01), 50.0, rates)
    fields = json.loads(out)
    assert list(fields["theta"].values()) == expected.theta[-1].tolist()
    assert fields["events"]["memory"] == expected.events["memory"].tolist()
    assert fields["memory"] == {
        "n_classes": 40, "zipf_exponent": 1.0, "burstiness": 1, "noise": 0.0, "p_bursty": 1.0,
        "p_novel": 0.2, "labels_drawn": "replacement", "dim": 63,
    }  # fmt: skip
    assert cliff.load(result).model == model
    assert picture.read_bytes().startswith(b"\x89PNG")
    code, out, _ = run(
        capsys, "flow", "--memory", "-N", "4", "--init", "0.1", "0.1", "0.1", "2", "--t-end", "5",
        "--until", "memory",
    )  # fmt: skip
    assert code == 0
    assert "omega_1" in out
    assert "iwl" in out


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--classes", "64"], "--classes 64: needs --memory"),
        (["--labels-drawn", "replacement"], "--labels-drawn replacement: needs --memory"),
        (["--memory", "--classes", "31"], "--classes 31: must be at least 32, one for each label"),
        (["--memory", "--zipf", "11"], "--zipf-exponent 11.0: must be a number from 0 to 10"),
        (["--memory", "-B", "3"], "--burstiness 3: must divide the 8 pairs"),
        (
            ["--memory", "--p-novel", "1", "--p-bursty", "0.5"],
            "--p-bursty 0.5: needs --p-novel below 1",
        ),
        (
            ["--memory", "-B", "0", "--p-bursty", "0.5"],
            "--p-bursty 0.5: needs --burstiness of at least 1",
        ),
        (
            ["--memory", "--init", "1", "1", "1"],
            "--init 1 1 1: needs 4 numbers, beta1 alpha xi omega_1",
        ),
        (
            ["--memory", "--label-bias", "free", "--bias-init", "1", "--init", *"11111"],
            "--bias-init 1.0: beta2 is given in its place, too",
        ),
        (
            ["--landscape", "causal_attention", "--memory"],
            "--memory: is an option of the nested logit, not of causal_attention",
        ),
        (
            ["--memory", "--positions", "mean", "-B", "2"],
            "--burstiness 2: must be 1 unless positions are exact",
        ),
    ],
)
def test_wrong_options_of_memory_are_named(capsys, options, message):
    code, out, err = run(capsys, "flow", *options)
    assert (code, out) == (2, "")
    assert err == f"cliff: {message}\n"
