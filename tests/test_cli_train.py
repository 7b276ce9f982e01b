"""``cliff train`` as a user meets it: output, files, exit codes, one line for every mistake."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import xarray as xr

from cliff.cli import main
from cliff.network.runs import Run
from cliff.network.training import train
from cliff.network.transformer import Transformer
from cliff.store import locked, open_dataset
from cliff.task import Task

module = sys.modules["cliff.cli.train"]

SMALL = [
    "--pairs=2", "--labels=4", "--classes=8", "--dim=5", "--window=9", "--width=6", "--batch=8",
    "--eval-every=10", "--eval-size=32", "--steps=20", "--p-novel=0.5",
]  # fmt: skip


@pytest.fixture
def command(capsys):
    def run(*arguments):
        with pytest.raises(SystemExit) as exit_:
            main(["train", *SMALL, *map(str, arguments)])
        return exit_.value.code, *capsys.readouterr()

    return run


def test_prints_where_it_ended(command):
    code, out, _ = command("--quiet")
    assert code == 0
    assert out.startswith("seed 0: done at step 20, loss ")
    assert out.count("\n") == 1


def test_json_is_all_that_standard_output_gets(command):
    code, out, _ = command("--json", "--seed=3", "--lr=0.05")
    assert code == 0
    (summary,) = json.loads(out)["runs"]
    assert summary["seed"] == 3
    assert summary["status"] == "done"
    assert summary["t"] == pytest.approx(1.0)
    task = Task(2, 4, 8, 5, window=9, p_novel=0.5, seed=3)
    run = train(
        Transformer(task, 3, width=6), task, 20, 0.05, 8, seed=3, eval_every=10, eval_size=32
    )
    assert summary["loss"] == run.loss.values[-1]


def test_plain_lines_of_progress_where_there_is_no_terminal(command, monkeypatch):
    monkeypatch.setattr(module, "Progress", partial(module.Progress, every=0))
    _, out, err = command("--seed=3")
    lines = [line for line in err.splitlines() if line.startswith("seed 3")]
    assert len(lines) == 3
    assert re.fullmatch(
        r"seed 3  50%  0:00:\d\d left  step 10  loss \d\.\d\d  icl .*  ila1 .*  tila2 .*", lines[1]
    )
    assert out.count("\n") == 1


def test_quiet_is_silent_on_standard_error(command):
    assert command("--quiet")[2] == ""


def test_output_and_picture(command, tmp_path):
    output, plot = tmp_path / "run.nc", tmp_path / "run.png"
    code, _, err = command("--output", output, "--plot", plot, "--model=minimal", "--label-bias=0")
    assert code == 0
    assert str(output) in err
    assert plot.read_bytes().startswith(b"\x89PNG")
    with xr.open_dataset(output) as run:
        assert run.step.values.tolist() == [0, 10, 20]
        parameters = json.loads(run.attrs["parameters"])
    assert parameters["model"] == "minimal"
    assert parameters["label_bias"] == 0
    assert parameters["task"]["n_classes"] == 8
    assert (tmp_path / "run.checkpoint.npz").is_file()
    with pytest.raises(SystemExit) as exit_:
        main(["plot", str(output), str(tmp_path / "again.png")])
    assert exit_.value.code == 0
    assert (tmp_path / "again.png").read_bytes() == plot.read_bytes()


def test_one_blas_thread_unless_asked_otherwise(tmp_path):
    """The command sets the number before NumPy is loaded, when it still counts."""
    code = (
        "import os, sys; import cliff.cli; loaded = 'numpy' in sys.modules\n"
        "try: cliff.cli.main(['train', '--steps=0', '--eval-size=1', '--quiet'])\n"
        "except SystemExit: print(loaded, os.environ['OPENBLAS_NUM_THREADS'])"
    )
    for given, expected in ((None, "1"), ("2", "2")):
        environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parent.parent)}
        environment.pop("OPENBLAS_NUM_THREADS", None)
        if given:
            environment["OPENBLAS_NUM_THREADS"] = given
        run = subprocess.run(
            [sys.executable, "-c", code], env=environment, capture_output=True, text=True
        )
        assert run.stdout.splitlines()[-1] == f"False {expected}"


def test_several_seeds(command, tmp_path):
    output, plot = tmp_path / "run.nc", tmp_path / "run.svg"
    code, out, _ = command("--seeds=1:3", "--output", output, "--plot", plot, "--json")
    assert code == 0
    assert [run["seed"] for run in json.loads(out)["runs"]] == [1, 2]
    with xr.open_dataset(output) as runs:
        assert runs.loss.dims == ("seed", "step")
        assert (runs.loss[0] != runs.loss[1]).any()
    assert {"run.1.checkpoint.npz", "run.2.checkpoint.npz"} < set(os.listdir(tmp_path))
    assert b"<svg" in plot.read_bytes()


def test_several_seeds_end_where_a_shell_ignores_ctrl_c(tmp_path):
    # as in `nohup cliff train ... &`
    done = subprocess.run(
        [sys.executable, "-m", "cliff", "train", *SMALL, "--seeds=0:2", "--json"],
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_IGN),
        capture_output=True,
        text=True,
        timeout=120,
        cwd=tmp_path,
    )
    assert done.returncode == 0, done.stderr
    assert len(json.loads(done.stdout)["runs"]) == 2


def test_resume_goes_on_where_it_stopped(command, tmp_path):
    first, second = tmp_path / "first.nc", tmp_path / "second.nc"
    assert command("--output", first, "--steps=10")[0] == 0
    code, _, err = command("--output", first)
    assert code == 2
    assert "exists" in err
    assert command("--output", first, "--resume")[0] == 0
    assert command("--output", second)[0] == 0
    with xr.open_dataset(first) as pieces, xr.open_dataset(second) as whole:
        assert whole.identical(pieces.assign_attrs(whole.attrs))
    code, _, err = command("--output", first, "--resume", "--lr=0.3")
    assert code == 2
    assert "lr=0.1, and this run has 0.3" in err


def test_a_finished_training_is_not_overwritten_by_another(command, tmp_path):
    output = tmp_path / "run.nc"
    assert command("--output", output, "--steps=0")[0] == 0
    before = output.read_bytes()
    code, out, err = command("--output", output, "--steps=0", "--seeds=0:2", "--processes=1")
    assert (code, out) == (2, "")
    assert err == f"cliff: --output {output}: exists: add --resume, or name another file\n"
    assert output.read_bytes() == before


def test_resume_needs_a_checkpoint(command, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    options = ["--seeds=0:2", "--processes=1", "--output=run.nc"]
    code, _, err = command("--seed=0", "--output=run.nc", "--resume")
    assert (code, err) == (
        2,
        "cliff: --resume run.checkpoint.npz: nothing to resume from: there is no such file\n",
    )
    assert command(*options, "--resume")[0] == 2
    assert not list(tmp_path.iterdir())
    # a seed that had not begun starts from the beginning, and the command says so
    assert command(*options)[0] == 0
    (tmp_path / "run.1.checkpoint.npz").unlink()
    code, _, err = command(*options, "--steps=30", "--resume")
    assert code == 0
    assert "seed 1 starts from the beginning: there is no run.1.checkpoint.npz\n" in err
    assert "seed 0 starts" not in err


def test_two_commands_at_once_into_one_output_are_refused(command, tmp_path):
    output = tmp_path / "run.nc"
    with locked(output, "output", "training"):
        code, _, err = command("--output", output, "--checkpoint", tmp_path / "other.npz")
    assert code == 2
    assert err.endswith(
        f"cliff: --output {output}: another training writes to it: "
        "wait for its end, or name another file\n"
    )
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("arguments", "option"),
    [
        (["--seeds=0:2", "--seed=0"], "--seed 0"),
        (["--processes=2"], "--processes 2"),
        (["--label-bias=free"], "--label-bias free"),
        (["--p-novel=1", "--classes=8"], "--classes 8"),
        (["--p-novel=1", "--zipf-exponent=0"], "--zipf-exponent 0"),
        (["--p-novel=1", "--p-bursty=1"], "--p-bursty 1"),
        (["--burstiness=0", "--p-bursty=0.5"], "--p-bursty 0.5"),
        (["--p-novel=0", "--novel=4"], "--novel 4"),
        (["--stop-delay=0"], "--stop-delay 0"),
        (["--checkpoint-every=5"], "--checkpoint-every 5"),
    ],
)
def test_an_option_that_would_do_nothing_is_refused(capsys, arguments, option):
    with pytest.raises(SystemExit) as exit_:
        main(["train", "--steps=0", "--eval-size=1", *arguments])
    out, err = capsys.readouterr()
    assert (exit_.value.code, out) == (2, "")
    assert re.match(rf"cliff: {option}(\.0)?: (needs|stands|belongs)", err)
    assert err.count("\n") == 1


def test_more_labels_than_classes_by_default(capsys):
    with pytest.raises(SystemExit) as exit_:
        main(["train", "--steps=0", "--eval-size=1", "--labels=600", "--width=4", "--quiet"])
    assert exit_.value.code == 0


@pytest.mark.parametrize("option", ["--batch", "--eval-size", "--width", "--dim", "--window"])
def test_what_does_not_fit_into_memory_is_refused_first(command, option):
    code, out, err = command(f"{option}=100000000")
    assert (code, out) == (2, "")
    assert re.fullmatch(
        rf"cliff: {option} 100000000: takes about [\d.e+]+ GB of memory, "
        r"and this machine has [\d.]+\n",
        err,
    )


def test_help_has_choices_defaults_an_example_and_the_papers_symbols(capsys):
    with pytest.raises(SystemExit):
        main(["train", "--help"])
    text = " ".join(capsys.readouterr().out.replace("│", " ").split())
    for part in (
        "transformer|minimal", "Example: cliff train", "default: 512, or L", "Spread ε",
        "Exponent α", "p_B", "p_C", "classes K", "Labels L", "pairs N", "Dimension D",
    ):  # fmt: skip
        assert part in text


def test_infinite_loss_fails_and_keeps_the_curves(command, tmp_path):
    output = tmp_path / "run.nc"
    code, out, err = command("--lr=1e4", "--steps=500", "--eval-every=1", "--output", output)
    assert code == 1
    assert f"wrote {output}\n" in err
    with xr.open_dataset(output) as run:
        assert run.status.item() == "not finite"
        assert np.isfinite(run.loss[:-1]).all()
        assert run.last_step == len(run.step) - 1 > 1
        assert f"no longer finite: seed 0 at step {run.last_step.item()}, where" in err
        assert f"not finite at step {run.last_step.item()}, loss" in out


def test_runs_that_differ_in_their_end(command):
    """One loss goes wrong at the first step, before the others are recorded again."""
    code, out, _ = command("--seeds=0:2", "--processes=1", "--lr=1e30", "--json", "--quiet")
    assert code == 1
    for run in json.loads(out)["runs"]:
        assert (run["status"], run["steps"], run["loss"]) == ("not finite", 1, None)
        assert run["t"] == pytest.approx(1e30)


def test_a_divergence_in_the_last_update_fails(command):
    code, out, err = command("--steps=1", "--lr=1e30", "--quiet")
    assert code == 1
    assert "not finite at step 1" in out
    assert "no longer finite: seed 0 at step 1" in err


def test_evaluation_seed_and_delay(command, tmp_path):
    output = tmp_path / "run.nc"
    options = ["--eval-seed=7", "--steps=200", "--p-novel=0", "--lr=0.5"]
    assert command(*options, "--output", tmp_path / "whole.nc")[0] == 0
    with xr.open_dataset(tmp_path / "whole.nc") as whole:
        best = whole.accuracy.max().item()
        reached = whole.step[int(whole.accuracy.values.argmax())].item()
    assert 0 < reached < 190
    stop = [f"--stop-accuracy={best}", "--stop-delay=10"]
    assert command(*options, *stop, "--output", output)[0] == 0
    with xr.open_dataset(output) as run:
        assert json.loads(run.attrs["parameters"])["eval_seed"] == 7
        assert run.last_step == reached + 10
        assert run.status.item() == "accuracy reached"


def test_provenance_of_several_seeds(command, tmp_path):
    output = tmp_path / "run.nc"
    assert command("--seeds=3,1", "--processes=1", "--steps=0", "--output", output)[0] == 0
    with xr.open_dataset(output) as runs:
        parameters = json.loads(runs.attrs["parameters"])
    assert parameters["seed"] == parameters["net_seed"] == parameters["task"]["seed"] == [3, 1]


def test_several_networks_on_one_task(command, tmp_path):
    for seed in (3, 1):
        (tmp_path / str(seed)).mkdir()
    options = ["--seeds=3,1", "--processes=1", "--task-seed=5", "--steps=0"]
    options += ["--output", tmp_path / "run.nc"]
    assert command(*options, "--checkpoint", tmp_path / "{seed}/run.npz")[0] == 0
    with xr.open_dataset(tmp_path / "run.nc") as runs:
        parameters = json.loads(runs.attrs["parameters"])
        assert runs.loss[0] != runs.loss[1]
    assert parameters["task"]["seed"] == 5
    assert parameters["net_seed"] == [3, 1]
    assert (tmp_path / "3/run.npz").is_file()


def test_stops_at_an_accuracy(command):
    code, out, _ = command("--stop-accuracy=0.01", "--json")
    assert code == 0
    assert json.loads(out)["runs"][0]["status"] == "accuracy reached"


@pytest.mark.parametrize(
    ("arguments", "option"),
    [
        (["--pairs=0"], "--pairs"),
        (["--burstiness=3"], "--burstiness"),
        (["--pairs=8", "--window=17"], "--labels"),
        (["--labels=1"], "--labels"),
        (["--classes=3"], "--classes"),
        (["--window=4"], "--window"),
        (["--dim=0"], "--dim"),
        (["--noise=-1"], "--noise"),
        (["--zipf-exponent=nan"], "--zipf-exponent"),
        (["--p-bursty=1.5"], "--p-bursty"),
        (["--p-novel=-0.1"], "--p-novel"),
        (["--novel=1"], "--novel"),
        (["--model=rnn"], "--model"),
        (["--width=0"], "--width"),
        (["--model=minimal", "--label-bias=none"], "--label-bias"),
        (["--steps=-1"], "--steps"),
        (["--lr=-1"], "--lr"),
        (["--batch=0"], "--batch"),
        (["--weight-decay=2"], "--weight-decay"),
        (["--eval-every=0"], "--eval-every"),
        (["--eval-size=0"], "--eval-size"),
        (["--stop-accuracy=2"], "--stop-accuracy"),
        (["--checkpoint-every=0"], "--checkpoint-every"),
        (["--seed=-1"], "--seed"),
        (["--seeds=6:0"], "--seeds"),
        (["--seeds=a"], "--seeds"),
        (["--seeds=1,1"], "--seeds"),
        (["--seeds=0:100000000000"], "--seeds"),
        (["--noise=1e200"], "--noise"),
        (["--eval-seed=-1"], "--eval-seed"),
        (["--checkpoint=run.nc", "--output=run.nc"], "--output"),
        (["--checkpoint=./run.png", "--plot=run.png"], "--plot"),
        (["--checkpoint=./run.nc", "--output=run.nc"], "--output"),
        (["--seeds=0:2", "--checkpoint={seed}.nc", "--output=1.nc"], "--output"),
        (["--seeds=0:2", "--processes=0"], "--processes"),
        (["--resume"], "--resume: needs --checkpoint or --output"),
        (["--seeds=0:2", "--checkpoint=run.npz"], "--checkpoint"),
        (["--checkpoint=/missing/run.npz"], "--checkpoint"),
        (["--output=/missing/run.nc"], "--output"),
        (["--output=/dev/null"], "--output"),
        (["--output="], "--output"),
        (["--output=/"], "--output"),
        (["--model=minimal", "--label-bias=1e39"], "--label-bias"),
        (["--task-seed=-1"], "--task-seed"),
        (["--seeds=0:2", "--checkpoint={seed}/run.npz"], "--checkpoint"),
        (["--plot=run.txt"], "--plot"),
    ],
)
def test_a_mistake_gets_one_line_and_leaves_no_file(
    command, tmp_path, monkeypatch, arguments, option
):
    monkeypatch.chdir(tmp_path)
    code, out, err = command(*arguments)
    assert code == 2
    assert out == ""
    assert err.startswith("cliff: ")
    assert option in err
    assert err.count("\n") == 1
    assert not list(tmp_path.iterdir())


@pytest.fixture
def start(tmp_path):
    started = []

    def run(*arguments):
        root = str(Path(__file__).parent.parent)
        options = [*SMALL, "--steps=1000000", *arguments, f"--checkpoint={tmp_path}/{{seed}}.npz"]
        process = subprocess.Popen(
            [sys.executable, "-m", "cliff", "train", *options],
            env={**os.environ, "PYTHONPATH": root}, stderr=subprocess.PIPE, text=True,
            start_new_session=True,
        )  # fmt: skip
        started.append(process)
        return process

    yield run
    for process in started:
        process.kill()
        process.wait()
        process.stderr.close()


def step_of(path):
    with np.load(path) as content:
        return json.loads(str(content["header"]))["step"]


def test_an_error_without_words_is_named(command, monkeypatch):
    def fail(*_):
        raise MemoryError

    monkeypatch.setattr(sys.modules["cliff.cli.train"], "_train", fail)
    code, _, err = command("--quiet")
    assert (code, err) == (1, "cliff: MemoryError\n")


def wait_for(condition):
    deadline = time.monotonic() + 240
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


@pytest.mark.parametrize(
    ("number", "send", "seeds"),
    [
        (signal.SIGINT, os.killpg, ["--seed=0"]),
        (signal.SIGTERM, os.kill, ["--seed=0"]),
        (signal.SIGINT, os.kill, ["--seeds=0:3", "--processes=2"]),
        (signal.SIGINT, os.killpg, ["--seeds=0:3", "--processes=2"]),
        (signal.SIGTERM, os.killpg, ["--seeds=0:3", "--processes=2"]),
    ],
)
def test_a_signal_keeps_checkpoints_and_records(tmp_path, start, seeds, number, send):
    """Sent to the group of processes, as a terminal and a batch system do, or to one process."""
    expected = len(seeds)
    output = tmp_path / "run.nc"
    process = start("--checkpoint-every=50", *seeds, f"--output={output}")
    wait_for(lambda: sum(step_of(path) > 50 for path in tmp_path.glob("[0-9].npz")) == expected)
    send(process.pid, number)
    _, err = process.communicate(timeout=120)
    assert process.returncode == 128 + number
    assert f"wrote {output}\n" in err
    assert err.endswith("cliff: interrupted, and kept: --resume goes on from here\n")
    assert "Traceback" not in err
    names = [f"{seed}.npz" for seed in range(expected)]
    assert sorted(os.listdir(tmp_path)) == [*names, "run.nc"]
    with open_dataset(output) as run:
        assert run.status.values.tolist() == (
            ["interrupted"] * 2 if expected == 2 else "interrupted"
        )
        assert (run.last_step > 50).all()
        assert run.step[-1] <= run.last_step.max()
    with pytest.raises(SystemExit) as exit_:
        main(["plot", str(output), str(tmp_path / "run.png"), "--quiet"])
    assert exit_.value.code == 0


@pytest.fixture
def kept(command, tmp_path, monkeypatch):
    """Three seeds that are done, and how to resume them with something amid the first of them."""
    options = [f"--checkpoint={tmp_path}/{{seed}}.npz", f"--output={tmp_path}/run.nc"]
    options += ["--seeds=0:3", "--processes=1"]
    train_run = Run.train

    def resume(steps, event):
        def train_with(run, *report, **named):
            if report and run.seed in (0, 1):
                event(run.seed)
            return train_run(run, *report, **named)

        monkeypatch.setattr(Run, "train", train_with)
        return command(*options, f"--steps={steps}", "--resume")

    assert command(*options)[0] == 0
    return resume


def test_a_second_interruption_keeps_the_records_of_all_seeds(kept, tmp_path):
    assert kept(40, lambda _: os.kill(os.getpid(), signal.SIGTERM))[0] == 143
    with open_dataset(tmp_path / "run.nc") as runs:
        assert runs.seed.values.tolist() == [0, 1, 2]
        assert runs.last_step.values.tolist() == [40, 20, 20]
        assert runs.step.values.tolist() == [0, 10, 20, 30, 40]


def test_a_signal_after_the_last_step_does_not_keep_the_results_from_the_file(tmp_path):
    code = (
        "import os, signal, sys, cliff.cli\n"
        "from cliff.cli.progress import Progress\n"
        "Progress.__exit__ = lambda *_: os.kill(os.getpid(), signal.SIGTERM)\n"
        "cliff.cli.main(['train', '-q', '-o', *sys.argv[1:]])\n"
    )
    path = tmp_path / "run.nc"
    done = subprocess.run(
        [sys.executable, "-c", code, str(path), *SMALL], capture_output=True, text=True
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert open_dataset(path).status == "done"


def test_an_output_is_left_alone_where_records_are_lost(kept, tmp_path):
    def press(_):
        (tmp_path / "2.npz").unlink()
        os.kill(os.getpid(), signal.SIGTERM)

    before = (tmp_path / "run.nc").read_bytes()
    code, out, err = kept(40, press)
    assert (code, out.count("\n")) == (143, 2)
    assert "run.nc stays as it was: no records of seed 2 were found\n" in err
    assert (tmp_path / "run.nc").read_bytes() == before


def test_a_run_that_fails_leaves_the_results_of_the_finished(kept, tmp_path):
    def fail_at_the_second(seed):
        if seed == 1:
            raise OSError("disk full")

    code, _, err = kept(40, fail_at_the_second)
    assert code == 1
    assert err.endswith("cliff: disk full; --resume goes on from the checkpoints\n")
    with open_dataset(tmp_path / "run.nc") as runs:
        assert runs.last_step.values.tolist() == [40, 20, 20]


def test_a_killed_parent_leaves_nobody_training(tmp_path, start):
    process = start("--seeds=0:2", "--processes=2", "--checkpoint-every=50")
    paths = [tmp_path / "0.npz", tmp_path / "1.npz"]
    wait_for(lambda: all(path.exists() and step_of(path) > 50 for path in paths))
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    assert len(children) == 3  # the first is multiprocessing's own helper
    process.kill()
    process.wait()
    wait_for(lambda: not any(alive(child) for child in children))
    # they wrote their checkpoints, which come every 50 steps while all is well, and let go
    assert not list(tmp_path.glob(".*"))


def alive(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except FileNotFoundError:
        return False


def test_records_and_progress_go_on_when_nobody_reads_standard_error(tmp_path, start):
    process = start("--steps=200", f"--output={tmp_path}/run.nc")
    process.stderr.close()
    assert process.wait(timeout=240) == 0
    assert (tmp_path / "run.nc").is_file()


@pytest.mark.parametrize("delay", [0.05, 0.6])
def test_ctrl_c_while_the_processes_start(tmp_path, start, delay):
    process = start("--seeds=0:3", "--processes=2")
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children")
    deadline = time.monotonic() + 60
    while len(children.read_text().split()) < 2 and time.monotonic() < deadline:
        time.sleep(0.01)  # the first is multiprocessing's own helper
    time.sleep(delay)
    os.killpg(process.pid, signal.SIGINT)
    _, err = process.communicate(timeout=120)
    assert process.returncode == 130
    assert "Traceback" not in err
    kept = any(tmp_path.glob("*.npz"))  # a child that was ended may leave its lock behind
    assert err.endswith(
        "cliff: interrupted" + kept * ", and kept: --resume goes on from here" + "\n"
    )


HALF_MADE = """
import ctypes
import os
import signal
import sys
import time
from contextlib import suppress

from cliff.cli import main
from cliff.network.runs import Run, run_all
from cliff.task import Task


def wait():
    os.write(1, b"begun\\n")  # at once, where two processes share the pipe
    time.sleep(60)


class Half:
    def __init__(self):
        if sys.argv[1] == "announce_compiling":
            ctypes.CFUNCTYPE(None)(wait)()  # which swallows exceptions, as LLVM's callbacks do
        if sys.argv[1] == "_train":
            signal.signal(signal.SIGINT, signal.default_int_handler)  # as for a second Ctrl-C
        wait()

    def __del__(self):
        raise AttributeError("cannot be destroyed")


class Made:
    def __reduce__(self):
        return Half, ()


if __name__ == "__main__" and sys.argv[1] != "another process":
    setattr(sys.modules["cliff.cli.train"], sys.argv[1], lambda *_: Half())
    main(["train"])
if __name__ == "__main__":
    task = Task(n_pairs=2, n_labels=4)
    with suppress(KeyboardInterrupt):
        run_all([Run("minimal", task, seed, 1, callbacks=[Made()]) for seed in range(2)], 2)
"""


@pytest.mark.parametrize(
    ("where", "said", "expected"),
    [
        ("announce_compiling", "cliff: interrupted\n", 130),
        ("_train", "cliff: interrupted\n", 130),
        ("another process", "", 0),
    ],
)
def test_ctrl_c_that_leaves_an_object_half_made(tmp_path, where, said, expected):
    """As the compiler's, whose destructor then raises: nobody hears of that."""
    script = tmp_path / "script.py"
    script.write_text(HALF_MADE)
    process = subprocess.Popen(
        [sys.executable, str(script), where], stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        text=True, env={**os.environ, "PYTHONPATH": str(Path(__file__).parent.parent)},
    )  # fmt: skip
    assert process.stdout.readline() == "begun\n"
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=120)
    assert (err, process.returncode) == (said, expected)
