"""``cliff phase`` and ``cliff plot`` as a user meets them."""

import json
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
import xarray as xr
from test_cli_flow import run
from test_sweeps import data_of

import cliff
from cliff import NestedLogit
from cliff.checks import ArgumentError, shorten
from cliff.metrics import FlowMetric
from cliff.plots import basin_map, new_figure
from cliff.store import open_dataset
from cliff.sweeps import sweep
from cliff.valleys import name_of


def test_transition_time_over_pairs_and_labels(capsys, tmp_path):
    result, picture = tmp_path / "phase.nc", tmp_path / "phase.png"
    code, out, _ = run(
        capsys, "phase", "--x", "pairs=2:16:6:log", "--y", "labels=2:32:8:log", "--t-end", "2000",
        "-o", str(result), "--plot", str(picture), "-q",
    )  # fmt: skip
    assert code == 0
    assert "fewer labels than pairs" in out
    grid = open_dataset(result, "sweep")
    assert grid["t_transition"].dims == ("labels", "pairs")
    assert grid["t_transition"].attrs["units"] == "gradient-flow time"
    n, labels = int(grid["pairs"][1]), int(grid["labels"][-1])
    single = cliff.integrate(cliff.NestedLogit(n, labels), [0.01] * 3, 2000.0)
    cell = float(grid["t_transition"].sel(pairs=n, labels=labels))
    assert cell == single.transition().t_transition
    assert picture.read_bytes().startswith(b"\x89PNG")
    again = tmp_path / "again.pdf"
    assert run(capsys, "plot", str(result), str(again), "-q")[0] == 0
    assert again.read_bytes().startswith(b"%PDF")


@pytest.mark.parametrize("metric", ["width", "abruptness", "loss"])
def test_metrics_over_mobilities(capsys, tmp_path, metric):
    picture = tmp_path / "phase.png"
    code, out, _ = run(
        capsys, "phase", "--x", "mobility_alpha=0.1:10:4:log", "--y", "mobility_xi=0.1:10:3:log",
        "--metric", metric, "--plot", str(picture), "--json",
    )  # fmt: skip
    assert code == 0
    fields = json.loads(out)
    assert fields["cells"] == {"done": 12}
    assert fields["least"] < fields["greatest"]
    assert picture.exists()


def test_one_axis_makes_a_line(capsys, tmp_path):
    picture = tmp_path / "line.png"
    code, out, _ = run(
        capsys, "phase", "--x", "pairs=2:32:6:log", "--labels", "64", "--plot", str(picture), "-q"
    )
    assert code == 0
    assert picture.exists()
    assert "finite" in out


def test_basin_map_with_saddle_and_paths(capsys, tmp_path):
    picture = tmp_path / "basins.png"
    code, out, _ = run(
        capsys, "phase", "--x", "alpha=-3:3:12", "--y", "xi=-3:3:12", "--metric", "basin",
        "--labels", "8", "--plot", str(picture), "--json",
    )  # fmt: skip
    assert code == 0
    fractions = json.loads(out)["fractions"]
    assert {"induction", "shunned-match"} <= set(fractions)
    assert sum(fractions.values()) == pytest.approx(1.0)
    assert picture.exists()


def test_basins_have_the_names_of_each_cells_own_valleys(capsys, tmp_path):
    result, picture = tmp_path / "basins.nc", tmp_path / "basins.png"
    code, out, _ = run(
        capsys, "phase", "--metric", "basin", "--x", "pairs=3:4:2", "--y", "labels_per_pair=1:2:2",
        "--init", "-4", "4", "-4", "--json", "-o", str(result), "--plot", str(picture),
    )  # fmt: skip
    assert code == 0
    assert "early-labels-inverted" in json.loads(out)["fractions"]
    wall = open_dataset(result)["basin"].sel(labels_per_pair=1.0).values
    assert [name_of(label) for label in wall.tolist()] == ["early-labels-inverted"] * 2
    axes = new_figure(4, 3)[1][0, 0]
    basin_map(open_dataset(result), axes)
    legend = [text.get_text() for text in axes.get_legend().get_texts()]
    assert "early-labels-inverted" in legend
    assert picture.exists()


def test_basin_fractions_are_those_of_cells_that_can_be(capsys, tmp_path):
    """Half of the cells have fewer labels than pairs: they are in no basin, not even undecided."""
    code, out, _ = run(
        capsys, "phase", "--metric", "basin", "--pairs", "8", "--x", "labels=7:12:2",
        "--json", "--plot", str(tmp_path / "line.png"),
    )  # fmt: skip
    assert code == 0
    assert json.loads(out)["cells"] == {"done": 1, "fewer labels than pairs": 1}
    assert json.loads(out)["fractions"] == {"induction": 1.0}
    code, out, _ = run(capsys, "phase", "--metric", "basin", "--x", "pairs=1:2:2", "--json")
    assert code == 0
    assert json.loads(out)["fractions"].keys() <= {"induction", "undecided"}


def test_nothing_but_failures_is_a_failure(capsys, tmp_path):
    picture = tmp_path / "x.png"
    code, out, err = run(
        capsys, "phase", "--x", "labels_per_pair=0.1:0.5:3", "--plot", str(picture), "-q"
    )
    assert (code, out) == (1, "")
    assert err == "cliff: no cell could be computed: fewer labels than pairs in 3\n"
    assert not picture.exists()


@pytest.mark.parametrize("metric", ["t_transition", "width", "abruptness", "loss", "basin"])
def test_flows_that_stop_early_are_failures(capsys, tmp_path, metric):
    result, picture = tmp_path / "phase.nc", tmp_path / "x.png"
    code, out, err = run(
        capsys, "phase", "--x", "alpha=0:1:2", "--y", "xi=0:1:2", "--metric", metric,
        "--max-steps", "5", "-o", str(result), "--plot", str(picture), "-q",
    )  # fmt: skip
    assert (code, out) == (1, "")
    assert err == "cliff: no cell could be computed: step limit in 4\n"
    assert not picture.exists()
    assert (open_dataset(result)["outcome"] == 2).all()


def test_failures_are_counted_beside_what_is_done(capsys):
    """Of three starts the one next to the valley is there within 15 steps."""
    arguments = ["phase", "--x", "xi=0.01:25.01:3", "--init", "5", "8", "0.01", "--max-steps", "9"]
    arguments += ["--t-end", "1000"]
    code, out, _ = run(capsys, *arguments, "--metric", "loss", "-q")
    assert code == 0
    assert out.startswith("loss: 2 of 3 cells done, step limit in 1\n  2 finite, ")
    code, out, _ = run(capsys, *arguments, "--metric", "basin", "-q")
    assert out == (
        "basin: 2 of 3 cells done, step limit in 1\n  shares of the 2 cells:\n"
        "  induction              1.0000\n"
    )
    code, out, _ = run(capsys, *arguments, "--metric", "basin", "--json")
    assert json.loads(out)["cells"] == {"done": 2, "step limit": 1}
    assert json.loads(out)["n_cells"] == 3


def test_an_interrupted_basin_sweep_gives_shares_of_what_it_did(capsys, tmp_path, monkeypatch):
    """Stopped after the first 1,024 of 1,600 cells."""
    result, picture = tmp_path / "basins.nc", tmp_path / "basins.png"

    def advance(bar, amount):
        if amount > 0:
            bar.stop.receive(signal.SIGINT)
        return bool(bar.stop)

    arguments = [
        "phase", "--x", "alpha=-3:3:40", "--y", "xi=-3:3:40", "--metric", "basin", "--labels", "8",
        "-o", str(result),
    ]  # fmt: skip
    with monkeypatch.context() as patch:
        patch.setattr("cliff.cli.common.Bar.advance", advance)
        code, out, err = run(capsys, *arguments, "--plot", str(picture))
    assert code == 130
    lines = out.splitlines()
    assert lines[0].startswith("basin: 1024 of 1600 cells done, missing in 576")
    assert lines[1] == "  shares of the 1024 cells:"
    shares = [float(line.split()[1]) for line in lines[2:]]
    assert sum(shares) == pytest.approx(1.0, abs=1e-3)
    assert "±" not in out
    done = open_dataset(result)
    induction = (done["basin"].values == 0)[done["outcome"].values == 1]
    assert shares[0] == pytest.approx(induction.mean(), abs=1e-4)
    assert f"1024 of 1600 cells are in {result}: --resume" in err
    assert picture.exists()
    code, out, _ = run(capsys, *arguments, "--resume", "-q")
    assert code == 0
    assert out.startswith("basin: 1600 of 1600 cells done\n  induction")


def test_a_free_label_bias_has_axes_and_options_of_its_own(capsys, tmp_path):
    result = tmp_path / "phase.nc"
    free = ["phase", "--metric", "loss", "--label-bias", "free", "--t-end", "50", "-q"]
    code, _, _ = run(
        capsys, *free, "--x", "beta2=0:1:2", "--y", "mobility_beta2=0.5:2:2", "-o", str(result)
    )
    assert code == 0
    model = cliff.NestedLogit(8, 32, label_bias="free")
    run_of_cell = cliff.integrate(model, [0.01, 0.01, 0.01, 1.0], 50.0, (1, 1, 1, 0.5))
    cell = open_dataset(result)["loss"].sel(beta2=1.0, mobility_beta2=0.5)
    assert float(cell) == run_of_cell.loss[-1]
    other = tmp_path / "other.nc"
    code, _, _ = run(
        capsys, *free, "--x", "alpha=0:1:2", "--bias-init", "1", "--bias-mobility", "0.5",
        "-o", str(other),
    )  # fmt: skip
    assert code == 0
    assert float(open_dataset(other)["loss"].sel(alpha=0.0)) == pytest.approx(
        cliff.integrate(model, [0.01, 0.0, 0.01, 1.0], 50.0, (1, 1, 1, 0.5)).loss[-1], rel=1e-12
    )


def test_numbers_that_are_rounded_are_said(capsys):
    code, _, err = run(capsys, "phase", "--x", "pairs=2:9:6", "--metric", "loss", "--t-end", "1")
    assert code == 0
    assert err.splitlines()[0] == ("--x pairs=2:9:6: rounded to whole numbers, [2, 3, 5, 6, 8, 9]")
    code, _, err = run(
        capsys, "phase", "--x", "pairs=2:8:3:log", "--y", "labels=8:9:2", "--metric", "loss",
        "--t-end", "1",
    )  # fmt: skip
    assert code == 0
    assert "rounded" not in err


def test_axes_need_no_fitting_defaults(capsys):
    """The defaults N = 8 and L = 32 do not matter where they are axes."""
    for arguments in (
        ["--x", "pairs=2:4:3", "--labels", "4"],
        ["--pairs", "64", "--x", "labels=64:66:2"],
        ["--pairs", "64", "--x", "labels_per_pair=1:2:2"],
    ):
        code, out, _ = run(capsys, "phase", *arguments, "--metric", "loss", "--t-end", "1", "-q")
        assert code == 0
        assert "failed" not in out


def test_cells_of_another_version_are_resumed_when_asked(capsys, tmp_path, monkeypatch):
    result = tmp_path / "phase.nc"
    arguments = ["phase", "--x", "alpha=0:1:2", "--t-end", "5", "-o", str(result), "-q"]
    with monkeypatch.context() as patch:
        patch.setattr("cliff.sweeps.code_version", lambda function: "3.11-earlier")
        assert run(capsys, *arguments)[0] == 0
    code, _, err = run(capsys, *arguments, "--resume")
    assert code == 2
    assert "holds cells that another version of the function's code computed (3.11-earlier" in err
    assert err.endswith(": name another file, or allow mixed versions\n")
    assert run(capsys, *arguments, "--resume", "--mixed-versions")[0] == 0


def test_cells_without_memory_are_told(capsys, tmp_path, monkeypatch):
    def full(*_, **__):
        raise MemoryError("full")

    result = tmp_path / "phase.nc"
    arguments = ["phase", "--x", "alpha=0:1:3", "--t-end", "5", "-o", str(result), "-q"]
    with monkeypatch.context() as patch:
        patch.setattr("cliff.metrics.integrate_ensemble", full)
        code, _, err = run(capsys, *arguments)
    assert code == 1
    assert err.count("\n") == 1
    assert "3 cells are missing (MemoryError: full)" in err
    assert run(capsys, *arguments, "--resume")[0] == 0
    assert (open_dataset(result)["outcome"] == 1).all()


def test_an_existing_file_is_resumed_only_when_asked(capsys, tmp_path):
    result = tmp_path / "phase.nc"
    arguments = ["phase", "--x", "pairs=2:8:4", "-o", str(result), "-q"]
    assert run(capsys, *arguments)[0] == 0
    before, data = result.read_bytes(), data_of(result)
    code, _, err = run(capsys, *arguments)
    assert code == 2
    assert "--resume" in err
    assert run(capsys, *arguments, "--resume")[0] == 0
    assert result.read_bytes() == before
    code, _, err = run(capsys, *arguments, "--resume", "--t-end", "7")
    assert code == 2
    assert err == (
        f"cliff: --output {shorten(str(result))}: holds a sweep with t_end = 1000.0, not 7.0: "
        "name another file, or remove this one\n"
    )
    assert result.read_bytes() == before
    part = tmp_path / "part.nc"
    sweep(
        FlowMetric(workers=1), {"pairs": np.array([2, 4, 6, 8])}, path=part, vectorized=True,
        block=1, progress=lambda n: n == 1,
    )  # fmt: skip
    assert (open_dataset(part)["outcome"] == 0).any()
    assert run(capsys, *arguments[:3], "-o", str(part), "-q", "--resume")[0] == 0
    assert data_of(part) == data


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (["--x", "pairs=8:2:4"], "--x pairs=8:2:4: needs START below STOP"),
        (["--x", "pairs=2:8:0"], "--x pairs=2:8:0"),
        (["--x", "pairs=2:8"], "must be NAME=START:STOP:COUNT"),
        (["--x", "pairs"], "must be NAME=START:STOP:COUNT"),
        (["--x", "colour=2:8:3"], "NAME must be one of pairs, labels"),
        (["--x", "alpha=-1:8:3:log"], "logarithmic"),
        (["--x", "alpha=nan:8:3"], "finite"),
        (["--x", "alpha=__import__('os'):8:3"], "--x"),
        (["--x", "alpha=1:2:3", "--y", "alpha=1:2:3"], "--y alpha=1:2:3"),
        (["--x", "alpha=1:2:3", "--metric", "beauty"], "--metric beauty: must be one of"),
        (["--x", "alpha=1:2:3", "--workers", "0"], "--workers 0: must be at least 1"),
        (["--x", "alpha=1:2:3", "--labels", "2"], "--labels 2"),
        (["--x", "alpha=1:2:3", "--init", "nan", "0", "0"], "--init"),
        (["--x", "alpha=1:2:3", "--mobility", "1", "-1", "1"], "--mobility"),
        (["--x", "alpha=1:2:3", "--resume"], "--resume: needs --output"),
        (
            ["--x", "alpha=1:2:3", "--resume", "-o", "mistyped.nc"],
            "--output mistyped.nc: there is no such file to resume",
        ),
        (["--x", "alpha=-1e308:1e308:3"], "--x alpha=-1e308:1e308:3: needs START and STOP whose"),
        (["--x", "alpha=1:1.0000000000000002:5"], "--x alpha=1:1.0000000000000002:5: needs START"),
        (["--x", "beta2=0:3:3"], "--x beta2=0:3:3: has no effect"),
        (["--x", "xi=0:3:3", "--y", "mobility_beta2=0:3:3"], "--y mobility_beta2=0:3:3: has no"),
        (["--x", "labels=8:16:3", "--y", "labels_per_pair=1:2:3"], "--x labels=8:16:3: has no"),
        (["--x", "mobility_alpha=-1:1:5"], "--x mobility_alpha=-1:1:5: needs START of at least 0"),
        (["--x", "pairs=1:1e16:3"], "--x pairs=1:1e16:3: needs START and STOP from 1 to"),
        (["--x", "labels=0:9:3"], "--x labels=0:9:3: needs START and STOP from 1 to"),
        (["--x", "alpha=1:2:3", "-o", "nowhere/x.nc"], "--output nowhere/x.nc"),
        (["--x", "pairs=2.5:9.5:6"], "--x pairs=2.5:9.5:6: needs START and STOP to be whole"),
        (["--x", "alpha=0:1:10000000000"], "--x alpha=0:1:10000000000: takes about 400 GB"),
        (
            ["--x", "alpha=0:1:9", "--y", "xi=0:1:9000000000"],
            "--y xi=0:1:9000000000: takes about 36",
        ),
        (["--x", "pairs=2:4:3", "--pairs", "8"], "--pairs 8: has no effect beside the axis pairs"),
        (["--x", "labels=9:16:3", "--labels", "32"], "--labels 32: has no effect beside the axis"),
        (
            ["--x", "labels_per_pair=1:2:3", "-L", "9"],
            "--labels 9: has no effect beside the axis labels_per_pair",
        ),
        (
            ["--x", "alpha=1:2:3", "--init", "0", "2", "0"],
            "--init 0.0 2.0 0.0: 2.0 has no effect beside the axis alpha: write 0.01",
        ),
        (
            ["--x", "alpha=1:2:3", "--y", "mobility_xi=1:2:3", "--mobility", "2", "2", "2"],
            "--mobility 2.0 2.0 2.0: 2.0 has no effect beside the axis mobility_xi: write 1.0",
        ),
        (["--x", "alpha=1:2:3", "--bias-init", "0"], "--bias-init 0.0: has no effect without --la"),
        (["--x", "alpha=1:2:3", "--bias-mobility", "1"], "--bias-mobility 1.0: has no effect with"),
        (
            ["--x", "beta2=1:2:3", "--label-bias", "free", "--bias-init", "1"],
            "--bias-init 1.0: has no effect beside the axis beta2",
        ),
        (
            ["--x", "mobility_beta2=1:2:3", "--label-bias", "free", "--bias-mobility", "1"],
            "--bias-mobility 1.0: has no effect beside the axis mobility_beta2",
        ),
        (
            ["--x", "xi=1:2:3", "--positions", "mean", "--label-bias", "free"],
            "--label-bias free: has no effect with --positions mean",
        ),
        (["--x", "alpha=1:2:3", "--label-bias", "none"], "--label-bias none: must be a number or"),
        (
            ["--x", "alpha=1:2:3", "--workers", "1", "--scheduler", "tcp://h:1"],
            "--workers 1: has no effect beside --scheduler",
        ),
        (
            ["--x", "alpha=1:2:3", "--mixed-versions"],
            "--mixed-versions: has no effect without",
        ),
    ],
)
def test_mistakes_get_one_line(capsys, tmp_path, monkeypatch, arguments, named):
    monkeypatch.chdir(tmp_path)
    code, out, err = run(capsys, "phase", *arguments)
    assert (code, out) == (2, "")
    assert err.count("\n") == 1
    assert named in err
    assert not list(tmp_path.iterdir())


def test_an_absent_scheduler_is_told_soon(tmp_path):
    began = time.monotonic()
    done = subprocess.run(
        [sys.executable, "-m", "cliff", "phase", "--x", "alpha=1:2:3", "-q",
         "--scheduler", "tcp://127.0.0.1:9"],
        capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1].startswith("cliff: --scheduler tcp://127.0.0.1:9: no Dask")
    assert "Traceback" not in done.stderr
    assert time.monotonic() - began < 30.0


def test_plot_refuses_what_it_cannot_draw(capsys, tmp_path):
    path = cliff.store.save_dataset(xr.Dataset({"x": 1.0}), tmp_path / "other.nc", "thing")
    code, _, err = run(capsys, "plot", str(path), str(tmp_path / "x.png"))
    assert code == 2
    assert "has no picture" in err
    assert run(capsys, "plot", str(tmp_path / "absent.nc"), str(tmp_path / "x.png"))[0] == 2


@pytest.mark.parametrize(
    "damage",
    [
        lambda data: data.drop_vars("loss"),
        lambda data: data.assign_attrs(parameters='{"n_pairs": '),
        lambda data: data.assign_attrs(status="bored"),
    ],
)
def test_a_damaged_file_is_told_in_one_line(capsys, tmp_path, damage):
    path = tmp_path / "flow.nc"
    assert run(capsys, "flow", "--t-end", "1", "-o", str(path), "-q")[0] == 0
    data = cliff.store.open_dataset(path)
    cliff.store.save_dataset(damage(data), path, "trajectory")
    with pytest.raises(ArgumentError, match=r"flow\.nc: is damaged: "):
        cliff.load(path)
    code, _, err = run(capsys, "plot", str(path), str(tmp_path / "x.png"))
    assert (code, err.count("\n")) == (2, 1)
    assert "flow.nc: is damaged: " in err


@pytest.mark.parametrize("name", ["outcome", "t_transition"])
def test_a_sweep_that_lacks_a_variable_is_told_in_one_line(capsys, tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)  # a long path is told in part
    assert run(capsys, "phase", "--x", "pairs=2:8:4", "-o", "phase.nc", "-q")[0] == 0
    data = cliff.store.open_dataset("phase.nc").drop_vars(name)
    cliff.store.save_dataset(data, "phase.nc", "sweep")
    code, _, err = run(capsys, "plot", "phase.nc", "x.png")
    assert (code, err.count("\n")) == (2, 1)
    assert "FILE phase.nc: is damaged: it lacks" in err


def doubled(x):
    return 2.0 * x


def strange(value, settings=None):
    def function(**axes):
        return value

    function.parameters = settings or {}
    return function


@pytest.mark.parametrize(
    ("function", "axes"),
    [
        (doubled, {"x": [1.0, 2.0]}),
        (strange({"loss": 1.0}), {"colour": [1.0, 2.0]}),
        (strange({"loss": 1.0}, {"metric": "loss"}), {"alpha": [1.0, 2.0]}),
        (strange({"loss": 1.0}, {"metric": "beauty", "size": 3}), {"alpha": [1.0, 2.0]}),
        (FlowMetric("loss", t_end=1.0), {"alpha": [0.0], "xi": [0.0], "beta1": [0.0]}),
        (FlowMetric("loss", NestedLogit(8, 8), t_end=1.0), {"pairs": [9, 10]}),
    ],
)
def test_plot_refuses_sweeps_that_are_no_phase_diagram(capsys, tmp_path, function, axes):
    path, picture = tmp_path / "grid.nc", tmp_path / "x.png"
    sweep(function, axes, path=path, vectorized=isinstance(function, FlowMetric))
    code, out, err = run(capsys, "plot", str(path), str(picture))
    assert (code, out) == (2, "")
    assert err.count("\n") == 1
    assert err.startswith(f"cliff: FILE {shorten(str(path))}: ")
    assert not picture.exists()


def dask(*arguments):
    command = [sys.executable, "-m", *arguments, "--no-dashboard"]
    return subprocess.Popen(command, stderr=subprocess.DEVNULL)


@pytest.fixture
def cluster(tmp_path):
    """A Dask scheduler and two worker processes on loopback TCP: address and worker processes."""
    pytest.importorskip("distributed")
    contact = tmp_path / "scheduler.json"
    shared = ("--scheduler-file", str(contact))
    processes = [
        dask("distributed.cli.dask_scheduler", "--host", "127.0.0.1", "--port", "0", *shared)
    ]
    deadline = time.monotonic() + 60.0
    while not (contact.exists() and contact.stat().st_size) and time.monotonic() < deadline:
        time.sleep(0.05)
    for index in range(2):
        place = ("--local-directory", str(tmp_path / f"worker{index}"))
        one_thread = ("--nthreads", "1", "--no-nanny")
        processes.append(dask("distributed.cli.dask_worker", *shared, *one_thread, *place))
    yield json.loads(contact.read_text())["address"], processes[1:]
    for process in processes:
        process.kill()
        process.wait()


def test_a_dask_cluster_gives_the_same_bytes(cluster, tmp_path):
    address, _ = cluster
    here, there = tmp_path / "here.nc", tmp_path / "there.nc"
    sides = ["--x", "alpha=-3:3:70", "--y", "xi=-3:3:70", "--metric", "loss", "-q"]
    phase = [sys.executable, "-m", "cliff", "phase", *sides]
    subprocess.run([*phase, "-o", str(here)], check=True, capture_output=True)
    distributed = [*phase, "-o", str(there), "--scheduler", address]
    subprocess.run(distributed, check=True, capture_output=True)
    assert data_of(there) == data_of(here)


SWEEP_AND_KILL = """
import os, signal, sys
import numpy as np
from distributed import Client
from cliff import NestedLogit
from cliff.metrics import FlowMetric
from cliff.sweeps import sweep

address, victim, path = sys.argv[1], int(sys.argv[2]), sys.argv[3]
function = FlowMetric("loss", NestedLogit(16, 64), t_end=3000.0, workers=1)
axes = {"alpha": np.linspace(-3.0, 3.0, 40), "xi": np.linspace(-3.0, 3.0, 40)}
done = []

def progress(n):
    if sum(done) < 800 <= sum(done) + n:
        os.kill(victim, signal.SIGKILL)
    done.append(n)

with Client(address) as client:
    sweep(function, axes, client.get_executor(), path, vectorized=True, block=20, progress=progress)
sweep(function, axes, None, path + ".local", vectorized=True)
"""


def test_a_killed_dask_worker_loses_nothing(cluster, tmp_path):
    address, workers = cluster
    path = tmp_path / "there.nc"
    done = subprocess.run(
        [sys.executable, "-c", SWEEP_AND_KILL, address, str(workers[0].pid), str(path)],
        capture_output=True,
        text=True,
        timeout=240,
    )
    assert done.returncode == 0, done.stderr
    assert workers[0].wait(timeout=10) == -signal.SIGKILL
    assert workers[1].poll() is None
    assert data_of(path) == data_of(tmp_path / "there.nc.local")


def test_maps_of_memory(capsys, tmp_path):
    """Classes and novelty: the mobility of a memory is divided by the classes that share it."""
    result, picture = tmp_path / "memory.nc", tmp_path / "memory.png"
    axes = "--x", "classes=16:64:3:log", "--y", "p_novel=0:1:3"
    code, out, _ = run(
        capsys, "phase", "--memory", "-N", "4", "-L", "16", *axes, "--metric", "icl", "--t-end",
        "40", "--mobility", "omega_1=4", "-o", str(result), "--plot", str(picture), "--json", "-q",
    )  # fmt: skip
    assert code == 0
    assert json.loads(out)["cells"] == {"done": 9}
    grid = open_dataset(result, "sweep")
    assert grid["icl"].attrs["units"] == "1"
    for classes in (16, 32, 64):
        for p_novel in (0.0, 0.5):
            model = NestedLogit(4, 16, memory=cliff.Data(n_classes=classes, p_novel=p_novel))
            rates = [1.0, 1.0, 1.0, 4.0 / classes]
            end = cliff.integrate(model, [0.01] * 4, 40.0, rates).theta[-1]
            cell = float(grid["icl"].sel(classes=classes, p_novel=p_novel))
            assert cell == pytest.approx(float(model.measures(end)["icl"]), rel=1e-12)
    assert float(grid["icl"][0, 0]) < float(grid["icl"][-1, 0])  # novel classes need the context
    assert picture.read_bytes().startswith(b"\x89PNG")
    assert run(capsys, "plot", str(result), str(tmp_path / "again.pdf"), "-q")[0] == 0


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (["--x", "burstiness=1:4:4", "--metric", "basin"], "burstiness must divide the 4 pairs"),
        (["--x", "zipf=0:2:3", "--metric", "t_memory"], "must leave the number of memory logits"),
        (["--x", "noise=0:2:3", "--metric", "iwl"], "3 of 3 cells done"),
        (["--x", "noise=0:1:2", "--metric", "t_memory"], "not reached in any"),
        (["--x", "p_bursty=0:1:3", "--metric", "icl_swapped"], "3 of 3 cells done"),
        (["--x", "omega_1=0:4:3", "--metric", "memory"], "3 of 3 cells done"),
    ],
)
def test_axes_and_metrics_of_memory(capsys, tmp_path, options, told):
    picture = tmp_path / "memory.png"
    code, out, _ = run(
        capsys, "phase", "--memory", "-N", "4", "-L", "16", *options, "--t-end", "20", "--plot",
        str(picture), "-q",
    )  # fmt: skip
    assert code == 0
    assert told in out
    assert picture.exists()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--x", "classes=32:64:3"], "--x classes=32:64:3: NAME must be one of pairs, labels"),
        (
            ["--memory", "--classes", "64", "--x", "classes=32:64:3"],
            "--classes 64: has no effect beside the axis classes",
        ),
        (
            ["--memory", "--zipf", "1", "--x", "zipf=0.5:2:3"],
            "--zipf-exponent 1.0: has no effect beside the axis zipf",
        ),
        (
            ["--memory", "--p-novel", "1", "--x", "p_bursty=0:1:3"],
            "--x p_bursty=0:1:3: has no effect where all are novel",
        ),
        (
            ["--memory", "-B", "0", "--x", "p_bursty=0:1:3"],
            "--x p_bursty=0:1:3: has no effect with a burstiness of 0",
        ),
        (["--x", "alpha=0:1:3", "--metric", "icl"], "--metric icl: must be one of t_transition"),
    ],
)
def test_wrong_axes_of_memory_are_named(capsys, options, message):
    code, out, err = run(capsys, "phase", *options)
    assert (code, out) == (2, "")
    assert err.startswith(f"cliff: {message}")
    assert err.count("\n") == 1
