"""The flow by SciPy's LSODA and Radau, for stiff stretches: compiled field, analytic Jacobian."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from cliff.kernels.nested_logit import evaluate_batch
from cliff.mobility import Mobilities, MobilityError
from cliff.nested_logit import POSITIONS
from cliff.steppers import SCIPY_METHODS, Numerics
from cliff.trajectory import LEVELS, DensePath, Solution, Status

if TYPE_CHECKING:
    from scipy.integrate import OdeSolver

Array = NDArray[np.float64]

DEGREE = 12
"""Largest degree of LSODA's dense output, as a polynomial between two steps."""

LARGEST_HESSIAN = 512
"""Largest N for which the Hessian, whose cost grows as N², is worth it; SciPy takes differences of
the velocity beyond it."""


@dataclass(frozen=True)
class VectorField:
    """Right-hand side of the flow, −M grad loss, as SciPy's solvers call it."""

    mobilities: Mobilities

    def __call__(self, t: float, theta: Array) -> Array:
        """d theta/dt (p,) at theta (p,), on which alone it depends.

        Raises
        ------
        MobilityError
            As `Mobilities.at`.
        """
        model, out = self.mobilities.model, np.empty((1, 5))
        rows = model.complete(theta[None])
        evaluate_batch(
            POSITIONS[model.positions], model.n_pairs, float(model.n_absent), rows, False, out
        )
        return -self.mobilities.at(theta) * out[0, 1 : 1 + model.n_parameters]

    def jacobian(self, t: float, theta: Array) -> Array:
        """d(d theta_i/dt)/d theta_j (p, p), analytic except for the slope of a mobility function.

        Raises
        ------
        MobilityError
            As `Mobilities.at`.
        """
        at, model = self.mobilities.at, self.mobilities.model
        jacobian = -at(theta)[:, None] * model.hessian(theta)
        if self.mobilities.compiled is not None:
            gradient = model.gradient(theta)
            for j in range(len(theta)):
                shift = np.zeros_like(theta)
                shift[j] = 1e-6 * max(1.0, abs(theta[j]))
                slope = at(theta + shift) - at(theta - shift)
                jacobian[:, j] -= gradient * slope / (2.0 * shift[j])
        return jacobian


def integrate_scipy(
    mobilities: Mobilities,
    start: Array,
    numerics: Numerics,
    progress: Callable[[float], object] | None,
) -> Solution:
    """One trajectory from start (p,) with SciPy's solver; see `cliff.integrate`."""
    import scipy.integrate

    model, field = mobilities.model, VectorField(mobilities)
    failures: list[MobilityError] = []

    def guarded(function: Callable[[float, Array], Array], shape: tuple[int, ...]) -> Any:
        """NaN where the mobility fails: the solver then tries a shorter step, or gives up."""

        def call(t: float, theta: Array) -> Array:
            try:
                return function(t, theta)
            except MobilityError as error:
                failures.append(error)
                return np.full(shape, np.nan)

        return call

    p = len(start)
    small = model.positions == "mean" or model.n_pairs <= LARGEST_HESSIAN
    # the dense output is a polynomial of degree ≤ DEGREE that vanishes at the step's start
    nodes = 0.5 * (1.0 - np.cos(np.pi * (np.arange(DEGREE) + 1.0) / DEGREE))
    to_powers = np.linalg.inv(nodes[:, None] ** np.arange(1, DEGREE + 1))
    levels = np.array(LEVELS) * model.plateau if model.n_pairs > 1 else np.full(len(LEVELS), np.nan)
    t, theta, coefficients = [0.0], [start], []
    losses = [float(model.loss(start))]
    crossings = np.where(losses[0] <= levels, 0.0, np.nan)
    status = Status.DONE
    # the status says what LSODA and overflowing sums would warn of
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore", UserWarning)
        solver: OdeSolver = getattr(scipy.integrate, SCIPY_METHODS[numerics.method])(
            guarded(field, (p,)),
            0.0,
            start,
            numerics.t_end,
            rtol=numerics.rtol,
            atol=numerics.atol,
            jac=guarded(field.jacobian, (p, p)) if small else None,
        )
        while solver.status == "running":
            if len(t) > numerics.max_steps:
                status = Status.STEP_LIMIT
                break
            failures.clear()
            try:
                solver.step()
                finite = bool(np.isfinite(solver.y).all())
            except ValueError:  # Radau's linear algebra refuses what is not finite
                finite = False
            if not finite:
                status = Status.MOBILITY if failures else Status.NOT_FINITE
                break
            if solver.status == "failed":
                status = Status.MOBILITY if failures else Status.STEP_TOO_SMALL
                break
            output, before, now = solver.dense_output(), t[-1], float(solver.t)
            losses.append(float(model.loss(solver.y)))
            for i in np.flatnonzero(np.isnan(crossings) & (losses[-1] <= levels)):

                def above(time: float, level: float = levels[i], path: Any = output) -> float:
                    return float(model.loss(path(time))) - level

                crossings[i] = locate_crossing(above, before, now)
            samples = output(before + nodes * (now - before)) - theta[-1][:, None]
            coefficients.append(samples @ to_powers.T)
            t.append(now)
            theta.append(solver.y.copy())
            if progress and progress(now):
                status = Status.RUNNING
                break
    return Solution(
        path=DensePath(np.array(t), np.array(theta), np.array(coefficients).reshape(-1, p, DEGREE)),
        loss=np.array(losses),
        crossings=crossings,
        status=status,
        reason=str(failures[0]) if status is Status.MOBILITY else "",
        n_rejected=0,
        n_evaluations=int(solver.nfev),
    )


def locate_crossing(above: Callable[[float], float], before: float, now: float) -> float:
    """Time at which `above`, positive at first, is zero.

    At both ends the dense output may differ from the steps by its own error. Where that leaves no
    change of sign, the crossing is the end that has the wrong sign.
    """
    from scipy.optimize import brentq

    if above(before) <= 0.0:
        return before
    if above(now) >= 0.0:
        return now
    return float(brentq(above, before, now, xtol=1e-13 * now))
