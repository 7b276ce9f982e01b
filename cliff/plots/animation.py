"""A flow as a moving picture: the ball that rolls over the edge, with the loss beside it."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.animation import FFMpegWriter, PillowWriter
from matplotlib.figure import Figure

from cliff.analysis import Slice, slice_around
from cliff.checks import ArgumentError, integer
from cliff.plots.flow import landscape_slice, smooth_times
from cliff.plots.flow import loss as draw_loss
from cliff.plots.style import RED, WIDTH, Array, new_figure, styled
from cliff.store import check_writable, write_atomic
from cliff.trajectory import Trajectory

KINDS = (".gif", ".mp4")
"""Endings of moving pictures."""

FRAMES, RATE, DPI = 120, 24, 100
"""Frames, frames a second, and pixels an inch: five seconds in less than a megabyte."""

REST = 24
"""Frames for which the last one stays."""


def check_kind(path: str | os.PathLike[str], argument: str = "path") -> None:
    """Raise ArgumentError unless a moving picture can be written to `path` on this machine."""
    kind = Path(path).suffix.lower()
    if kind not in KINDS:
        raise ArgumentError(argument, str(path), "must end in .gif or .mp4")
    if kind == ".mp4" and shutil.which("ffmpeg") is None:
        raise ArgumentError(argument, str(path), "needs ffmpeg, which is missing: .gif does not")
    check_writable(path, argument)


def frame_times(trajectory: Trajectory, part: Slice, n_frames: int) -> Array:
    """Times between which the ball on the slice and the point on the loss move evenly.

    What is even is the length of both drawn curves together, each in units of its panel's sides:
    evenly spaced times would show a flow at rest and one frame of the fall.

    Returns
    -------
    ndarray, shape (n_frames,)
        From 0 to the end of the flow.
    """
    smooth = trajectory.sampled(smooth_times(trajectory))
    columns = [trajectory.model.parameter_names.index(name) for name in part.names]
    scales = [np.ptp(part.x), np.ptp(part.y), smooth.t[-1], np.ptp(smooth.loss) or 1.0]
    drawn = np.column_stack([smooth.theta[:, columns], smooth.t, smooth.loss]) / scales
    moves = np.diff(drawn, axis=0)
    lengths = np.hypot(*moves[:, :2].T) + np.hypot(*moves[:, 2:].T)
    length = np.append(0.0, np.cumsum(lengths))
    times = np.interp(np.linspace(0.0, length[-1], n_frames), length, smooth.t)
    times[[0, -1]] = smooth.t[[0, -1]]
    return times


@styled
def animate(
    trajectory: Trajectory,
    path: str | os.PathLike[str],
    part: Slice | None = None,
    n_frames: int | None = None,
    progress: Callable[[int], object] | None = None,
) -> Path:
    """Write a flow as a moving picture, atomically; the ending .gif or .mp4 gives the format.

    Parameters
    ----------
    trajectory : Trajectory
        A flow on a landscape with a loss and at least two parameters.
    path : path-like
    part : Slice, optional
        The plane on which the ball rolls; that of `cliff.analysis.slice_around` by default.
    n_frames : int, optional
        Frames, at least 2, `FRAMES` by default; see `frame_times`.
    progress : callable, optional
        Called with the number of frames that are drawn. If it returns something true, nothing is
        written.

    Returns
    -------
    Path

    Raises
    ------
    ArgumentError
        If there is no such format, .mp4 without ffmpeg, the file cannot be written, or the
        landscape has no slice.
    """
    check_kind(path)
    if not (trajectory.model.has_loss and trajectory.model.n_parameters > 1):
        needed = "needs a landscape with a loss and two parameters, on which a ball can roll"
        raise ArgumentError("trajectory", trajectory.model, needed)
    part = part or slice_around(trajectory)
    times = frame_times(
        trajectory, part, integer("n_frames", FRAMES if n_frames is None else n_frames, 2)
    )
    figure, move = _scene(trajectory, part, times)
    kind = Path(path).suffix.lower()
    with tempfile.TemporaryDirectory() as folder:  # the writers want the name of a file
        file = Path(folder) / f"frames{kind}"
        writer: Any = (PillowWriter if kind == ".gif" else FFMpegWriter)(fps=RATE)
        with writer.saving(figure, str(file), DPI):
            for number in (*range(len(times)), *[len(times) - 1] * REST):
                move(number)
                writer.grab_frame()
                if progress and progress(number + 1):
                    return Path(path)
        return write_atomic(path, lambda out: out.write(file.read_bytes()))


def _scene(
    trajectory: Trajectory, part: Slice, times: Array
) -> tuple[Figure, Callable[[int], None]]:
    """The figure, and a function that moves what is in it to a frame."""
    model, frames = trajectory.model, trajectory.sampled(times)
    smooth = trajectory.sampled(smooth_times(trajectory))
    columns = [model.parameter_names.index(name) for name in part.names]
    figure, axes = new_figure(WIDTH, 3.4, 1, 2)
    on_slice, beside = axes[0]
    mesh = landscape_slice(part, on_slice)
    figure.colorbar(mesh, ax=on_slice, label="loss (nats)")
    mesh.set_visible(False)  # drawing it takes a second, an image of it a hundredth, every frame
    limits = (part.x[0], part.x[-1], part.y[0], part.y[-1])
    on_slice.imshow(part.loss, cmap=mesh.cmap, norm=mesh.norm, extent=limits, origin="lower",
                    aspect="auto", interpolation="bilinear", zorder=0)  # fmt: skip
    (trail,) = on_slice.plot([], [], color=RED, lw=1.8)
    (ball,) = on_slice.plot([], [], "o", color="white", mec="black", ms=9)
    curve, *_ = draw_loss(smooth, beside)
    (point,) = beside.plot([], [], "o", color="white", mec="black", ms=7)
    clock = beside.set_title(" ", loc="right")
    figure.suptitle(model.describe(model.constants))
    figure.canvas.draw()
    figure.set_layout_engine("none")  # every frame in its place

    def move(number: int) -> None:
        t = times[number]
        until = smooth.t <= t
        trail.set_data(*np.vstack([smooth.theta[until], frames.theta[number]])[:, columns].T)
        ball.set_data(*frames.theta[[number]][:, columns].T)
        curve.set_data(
            np.append(smooth.t[until], t), np.append(smooth.loss[until], frames.loss[number])
        )
        point.set_data([t], [frames.loss[number]])
        clock.set_text(f"$t$ = {t:.4g}")

    return figure, move
