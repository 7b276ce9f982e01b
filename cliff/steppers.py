"""Methods of integration: Runge-Kutta tableaux as data, and the numerical options of a flow."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from cliff.checks import ArgumentError, choice, integer, real

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Stepper:
    """A Runge-Kutta method as data for the compiled loop.

    Attributes
    ----------
    a : ndarray, shape (S, S)
        Lower triangle of the Butcher tableau. The last row holds the weights of the new point, so
        that the last stage is the first of the next step.
    error : ndarray, shape (S,)
        Weights of the error estimate; all zero for a fixed step.
    dense : ndarray, shape (S, D)
        Weights of the dense output by powers 1 … D of the fraction of the step.
    order : int
        Order of the method.
    """

    a: Array
    error: Array
    dense: Array
    order: int

    @cached_property
    def adaptive(self) -> bool:
        return bool(self.error.any())

    @cached_property
    def tableau(self) -> bytes:
        """For the compiled loop: a, error weights, times of the stages, dense output as float64."""
        return np.concatenate(
            [x.ravel() for x in (self.a, self.error, self.a.sum(axis=1), self.dense)]
        ).tobytes()


def _stepper(
    order: int,
    rows: Sequence[Sequence[float]],
    error: Sequence[float] | None = None,
    quartic: Sequence[float] | None = None,
) -> Stepper:
    """A stepper whose dense output has the values and slopes of both ends.

    The dense output is the cubic Hermite polynomial plus σ²(1 − σ)² Σ quartic_j k_j.
    """
    stages = len(rows)
    a = np.zeros((stages, stages))
    for i, row in enumerate(rows):
        a[i, : len(row)] = row
    zero = np.zeros(stages)
    fourth = zero if quartic is None else np.array(quartic)
    end, first, last = a[-1], np.eye(stages)[0], np.eye(stages)[-1]
    bend = 2.0 * end - first - last
    dense = np.stack([first, end - first + bend + fourth, -bend - 2.0 * fourth, fourth], axis=1)
    return Stepper(a, zero if error is None else np.array(error), dense, order)


STEPPERS = {
    # Dormand & Prince (1980); error weights and dense output as in Hairer, Nørsett & Wanner,
    # Solving Ordinary Differential Equations I, 2nd ed., section II.6.
    "dopri5": _stepper(
        5,
        [
            [],
            [1 / 5],
            [3 / 40, 9 / 40],
            [44 / 45, -56 / 15, 32 / 9],
            [19372 / 6561, -25360 / 2187, 64448 / 6561, -212 / 729],
            [9017 / 3168, -355 / 33, 46732 / 5247, 49 / 176, -5103 / 18656],
            [35 / 384, 0, 500 / 1113, 125 / 192, -2187 / 6784, 11 / 84],
        ],
        error=[71 / 57600, 0, -71 / 16695, 71 / 1920, -17253 / 339200, 22 / 525, -1 / 40],
        quartic=[
            -12715105075 / 11282082432,
            0,
            87487479700 / 32700410799,
            -10690763975 / 1880347072,
            701980252875 / 199316789632,
            -1453857185 / 822651844,
            69997945 / 29380423,
        ],
    ),
    "rk4": _stepper(4, [[], [1 / 2], [0, 1 / 2], [0, 0, 1], [1 / 6, 1 / 3, 1 / 3, 1 / 6]]),
    # gradient descent: its path is the polygon through its points
    "euler": Stepper(
        np.array([[0.0, 0.0], [1.0, 0.0]]), np.zeros(2), np.array([[1.0], [0.0]]), order=1
    ),
}
SCIPY_METHODS = {"lsoda": "LSODA", "radau": "Radau"}
METHODS = (*STEPPERS, *SCIPY_METHODS)

MOST_STEPS = 10**9
"""Largest limit on the steps of a trajectory: their record would take 200 GB."""


@dataclass(frozen=True)
class Numerics:
    """Numerical options of an integration, checked; see `cliff.integrate`."""

    method: str
    t_end: float
    rtol: float
    atol: float
    max_steps: int
    step: float | None

    @classmethod
    def check(
        cls,
        method: str,
        allowed: Sequence[str],
        t_end: float,
        rtol: float,
        atol: float,
        max_steps: int,
        step: float | None,
    ) -> Numerics:
        """The options, or an ArgumentError that names the first that is out of range."""
        choice("method", method, allowed)
        fixed = method in STEPPERS and not STEPPERS[method].adaptive
        if fixed and step is None:
            raise ArgumentError("step", step, f"the method {method} needs a step above 0")
        if step is not None:
            if not fixed:
                raise ArgumentError("step", step, f"the method {method} chooses its own steps")
            step = real("step", step, 0.0, exclusive=True)
        if integer("max_steps", max_steps, 1) > MOST_STEPS:
            raise ArgumentError("max_steps", max_steps, f"must be at most {MOST_STEPS}")
        # SciPy raises a smaller rtol to this, so that it would not be the one that is used
        least = 0.0 if method in STEPPERS else 100 * np.finfo(np.float64).eps
        return cls(
            method,
            real("t_end", t_end, 0.0, exclusive=True),
            real("rtol", rtol, least, exclusive=True),
            real("atol", atol, 0.0, exclusive=True),
            int(max_steps),
            step,
        )
