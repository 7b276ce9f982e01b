"""What trajectories and the landscape say: slices, and what they show."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cliff.landscape import NestedLogit
from cliff.trajectory import Trajectory

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Slice:
    """The loss over a plane of two parameters, the others held fixed.

    Attributes
    ----------
    model : NestedLogit
    names : tuple of str
        The parameters along x and along y.
    x : ndarray, shape (n_x,)
    y : ndarray, shape (n_y,)
    loss : ndarray, shape (n_y, n_x)
        Loss (nats).
    fixed : dict of float
        Values of the other parameters.
    """

    model: NestedLogit
    names: tuple[str, str]
    x: Array
    y: Array
    loss: Array
    fixed: dict[str, float]


def slice_through(
    trajectory: Trajectory, names: tuple[str, str] = ("beta1", "alpha"), resolution: int = 121
) -> Slice:
    """The loss over the plane of two parameters around a trajectory.

    The other parameters stand where they are at the transition, or at the end if there is none.

    Parameters
    ----------
    trajectory : Trajectory
    names : tuple of str
        The parameters along x and along y.
    resolution : int
        Points along each side.
    """
    model = trajectory.model
    t = trajectory.transition().t_transition
    point = trajectory.path(trajectory.path.t[-1] if np.isnan(t) else t)
    columns = [model.parameter_names.index(name) for name in names]
    sides = []
    for column in columns:
        low, high = (
            np.min(trajectory.path.theta[:, column]),
            np.max(trajectory.path.theta[:, column]),
        )
        margin = 0.15 * (high - low) + 0.1
        sides.append(np.linspace(low - margin, high + margin, resolution))
    theta = np.tile(point, (resolution, resolution, 1))
    theta[..., columns[0]] = sides[0][None, :]
    theta[..., columns[1]] = sides[1][:, None]
    fixed = {
        name: float(value)
        for name, value in zip(model.parameter_names, point, strict=True)
        if name not in names
    }
    return Slice(model, names, sides[0], sides[1], model.loss(theta), fixed)
