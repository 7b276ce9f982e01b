"""Moving pictures of a flow: frames where the ball is, at times at which the fall is seen."""

import os
import shutil
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from cliff import Landscape, NestedLogit, integrate, plots
from cliff.analysis import slice_around
from cliff.checks import ArgumentError
from cliff.cli import _run
from cliff.plots.animation import FRAMES, RATE, _scene, frame_times

N_FRAMES, REST = 6, 3


@pytest.fixture(scope="module")
def trajectory():
    return integrate(NestedLogit(8, 32), [0.01, 0.01, 0.01], 200.0)


@pytest.fixture(scope="module")
def part(trajectory):
    return slice_around(trajectory, resolution=31)


@pytest.fixture(autouse=True, scope="module")
def few_frames():
    """Moving pictures of few frames, which take a tenth of a second each."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(plots.animation, "FRAMES", N_FRAMES)
        patch.setattr(plots.animation, "REST", REST)
        yield


@pytest.fixture(scope="module")
def gif(few_frames, trajectory, part, tmp_path_factory):
    path = tmp_path_factory.mktemp("gif") / "fall.gif"
    told = []
    assert plots.animate(trajectory, path, part, progress=told.append) == path
    assert told == [*range(1, N_FRAMES + 1), *[N_FRAMES] * REST]
    return path


def test_frames_see_the_fall(trajectory, part):
    times, fall = frame_times(trajectory, part, FRAMES), trajectory.transition()
    assert len(times) == FRAMES
    assert (times[0], times[-1]) == (0.0, 200.0)
    assert (np.diff(times) > 0.0).all()
    during = np.abs(times - fall.t_transition) < fall.width
    assert during.mean() > 0.3  # a seventh of the time
    moved = np.diff(trajectory.path(times)[:, :2], axis=0) / [np.ptp(part.x), np.ptp(part.y)]
    assert np.hypot(*moved.T).max() < 0.03  # no jump on the slice


def test_a_scene_shows_the_moment(trajectory, part):
    times = frame_times(trajectory, part, 9)
    figure, move = _scene(trajectory, part, times)
    on_slice, beside = figure.axes[:2]
    for number in (4, 8):
        move(number)
        theta = trajectory.path(times[number])
        trail, ball = on_slice.lines[-2:]
        np.testing.assert_allclose(np.concatenate(ball.get_data()), theta[:2])
        np.testing.assert_allclose(trail.get_xydata()[-1], theta[:2])
        np.testing.assert_allclose(trail.get_xydata()[0], 0.01)
        point, curve = beside.lines[-1], beside.lines[0]
        expected = [times[number], float(trajectory.model.loss(theta))]
        np.testing.assert_allclose(np.concatenate(point.get_data()), expected)
        np.testing.assert_allclose(curve.get_xydata()[-1], expected)
        assert beside.get_title("right") == f"$t$ = {times[number]:.4g}"
    (image,) = on_slice.images
    np.testing.assert_array_equal(image.get_array(), part.loss)


def test_a_gif_moves_and_is_small(gif):
    with Image.open(gif) as image:
        assert image.n_frames == N_FRAMES  # the last one stays, as one long frame
        assert image.info["loop"] == 0
        pixels = []
        for number in (0, N_FRAMES - 1):
            image.seek(number)
            pixels.append(np.asarray(image.convert("RGB"), dtype=int))
        assert image.info["duration"] > (REST + 0.5) * 1000 / RATE
    assert (np.abs(pixels[1] - pixels[0]).sum(axis=2) > 100).sum() > 500
    assert gif.stat().st_size < 2e5


@pytest.mark.slow
def test_a_whole_gif_is_small(trajectory, tmp_path):
    assert plots.animate(trajectory, tmp_path / "fall.gif", n_frames=FRAMES).stat().st_size < 2e6


def test_the_command_writes_a_gif_and_plot_draws_it_again(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(plots.animation, "FRAMES", 2)
    assert _run(["flow", "-N", "2", "-L", "4", "--plot", "a.gif", "-o", "a.nc", "--json"]) == 0
    assert _run(["plot", "a.nc", "b.gif"]) == 0
    assert "wrote b.gif" in capsys.readouterr().err
    assert (tmp_path / "a.gif").read_bytes() == (tmp_path / "b.gif").read_bytes()
    assert sorted(file.name for file in tmp_path.iterdir()) == ["a.gif", "a.nc", "b.gif"]


def test_stopping_leaves_the_older_file(trajectory, part, tmp_path):
    path = tmp_path / "fall.gif"
    path.write_bytes(b"older")
    plots.animate(trajectory, path, part, 5, lambda done: done == 2)
    assert path.read_bytes() == b"older"
    assert list(tmp_path.iterdir()) == [path]


def test_an_mp4_needs_ffmpeg(trajectory, part, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ArgumentError, match="needs ffmpeg, which is missing"):
        plots.animate(trajectory, tmp_path / "fall.mp4", part)
    assert _run(["flow", "--plot", str(tmp_path / "fall.mp4")]) == 2
    err = capsys.readouterr().err
    assert "--plot" in err
    assert err.endswith("fall.mp4: needs ffmpeg, which is missing: .gif does not\n")


@pytest.mark.skipif(shutil.which("ffmpeg") is None, reason="there is no ffmpeg")
def test_an_mp4_is_written(trajectory, part, tmp_path):
    plots.animate(trajectory, tmp_path / "fall.mp4", part, 5)
    assert (tmp_path / "fall.mp4").read_bytes()[4:8] == b"ftyp"


def test_landscapes_without_a_slice_and_other_endings_are_refused(
    trajectory, part, tmp_path, capsys
):
    from sympy import Symbol

    x = Symbol("x")
    flat = integrate(Landscape([x], loss=(x - 1) ** 2), [0.0], 1.0)
    with pytest.raises(ArgumentError, match="a loss and two parameters"):
        plots.animate(flat, tmp_path / "x.gif")
    with pytest.raises(ArgumentError, match=r"must end in \.gif or \.mp4"):
        plots.animate(trajectory, tmp_path / "x.png", part)
    with pytest.raises(ArgumentError, match="at least 2"):
        plots.animate(trajectory, tmp_path / "x.gif", part, 1)
    assert _run(["flow", "--plot", str(tmp_path / "x.bmp")]) == 2
    assert ".svg (or .gif, .mp4: the picture moves)" in capsys.readouterr().err
    flat.save(tmp_path / "flat.nc")
    assert _run(["plot", str(tmp_path / "flat.nc"), str(tmp_path / "x.gif")]) == 2
    assert "x.gif: needs a landscape with a loss and two parameters" in capsys.readouterr().err
    assert [file.name for file in tmp_path.iterdir()] == ["flat.nc"]


def test_a_phase_diagram_does_not_move(tmp_path, capsys):
    assert _run(["phase", "--x", "alpha=1:2:2", "--plot", str(tmp_path / "x.gif")]) == 2
    assert "must end in .png, .pdf or .svg\n" in capsys.readouterr().err


def test_ctrl_c_while_filming_leaves_no_file(tmp_path):
    code = (
        "import os, signal\n"
        "from cliff import plots\n"
        "from cliff.cli import main\n"
        "animate = plots.animate\n"
        "def interrupted(*args, progress, **kw):\n"
        "    os.kill(os.getpid(), signal.SIGINT)\n"
        "    return animate(*args, progress=progress, **kw)\n"
        "plots.animate = interrupted\n"
        "main(['flow', '-N', '2', '-L', '4', '--plot', 'x.gif'])\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True,
        env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)},
    )  # fmt: skip
    assert done.returncode == 130, done.stderr
    assert "Traceback" not in done.stderr
    assert "wrote" not in done.stderr
    assert list(tmp_path.iterdir()) == []
