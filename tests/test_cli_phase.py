"""``cliff phase`` and ``cliff plot`` as a user meets them."""

import json
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
from test_cli_flow import run
from test_sweeps import data_of

import cliff
from cliff.store import open_dataset


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
    assert sum(entry["fraction"] for entry in fractions.values()) == pytest.approx(1.0)
    assert picture.exists()


def test_an_existing_file_is_resumed_only_when_asked(capsys, tmp_path):
    result = tmp_path / "phase.nc"
    arguments = ["phase", "--x", "pairs=2:8:4", "-o", str(result), "-q"]
    assert run(capsys, *arguments)[0] == 0
    before = result.read_bytes()
    code, _, err = run(capsys, *arguments)
    assert code == 2
    assert "--resume" in err
    assert run(capsys, *arguments, "--resume")[0] == 0
    code, _, err = run(capsys, *arguments, "--resume", "--t-end", "7")
    assert code == 2
    assert "other parameters" in err
    assert data_of(result) == data_of(result)
    assert len(result.read_bytes()) == len(before)


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
        (["--x", "alpha=1:2:3", "--resume"], "--resume"),
        (["--x", "alpha=1:2:3", "-o", "nowhere/x.nc"], "--output nowhere/x.nc"),
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
    ensemble = cliff.integrate_ensemble(cliff.NestedLogit(2, 4), np.zeros((2, 3)), 1.0)
    path = ensemble.save(tmp_path / "ensemble.nc")
    code, _, err = run(capsys, "plot", str(path), str(tmp_path / "x.png"))
    assert code == 2
    assert "has no picture" in err
    assert run(capsys, "plot", str(tmp_path / "absent.nc"), str(tmp_path / "x.png"))[0] == 2


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
from cliff.analysis import FlowMetric
from cliff.sweeps import sweep

address, victim, path = sys.argv[1], int(sys.argv[2]), sys.argv[3]
function = FlowMetric("loss", pairs=16, labels=64, t_end=3000.0, workers=1)
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
