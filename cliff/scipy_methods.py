"""The flow by SciPy's LSODA and Radau, for stiff stretches: compiled field, analytic Jacobian."""

from __future__ import annotations

import ctypes
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from cliff.mobility import Mobilities, MobilityError
from cliff.protocol import FALL, LEVELS, event_names
from cliff.steppers import SCIPY_METHODS, Numerics
from cliff.trajectory import DensePath, Solution, Status

if TYPE_CHECKING:
    from scipy.integrate import OdeSolver

Array = NDArray[np.float64]

DEGREE = 12
"""Largest degree of LSODA's dense output, as a polynomial between two steps."""


@dataclass(frozen=True)
class VectorField:
    """Right-hand side of the flow, −M grad loss, as SciPy's solvers call it."""

    mobilities: Mobilities

    @cached_property
    def _evaluation(self) -> tuple[Callable[[int], None], Array, Array]:
        """A call of the landscape's evaluation, where it reads theta and where it writes."""
        model = self.mobilities.model
        row, point, out = model.constants_row, np.empty(model.n_parameters), np.zeros(model.n_out)
        work = np.empty(int(model.n_work(row[None])[0]))
        data, integer = ctypes.c_void_p, ctypes.c_int64
        function = ctypes.CFUNCTYPE(None, data, data, integer, data, data)(model.address)
        theta_at, row_at, work_at, out_at = (x.ctypes.data for x in (point, row, work, out))

        def call(want: int, kept: tuple[Array, ...] = (row, work)) -> None:
            function(theta_at, row_at, want, work_at, out_at)

        return call, point, out

    def evaluate(self, theta: Array, want: int) -> Array:
        """What the landscape's evaluation writes at theta (p,): shape (n_out,)."""
        call, point, out = self._evaluation
        point[:] = theta
        call(want)
        return out.copy()

    @cached_property
    def _levels(self) -> Array:
        model = self.mobilities.model
        return np.asarray(LEVELS) * model.plateaus(model.constants_row[None])

    def events(self, out: Array) -> Array:
        """Values of the events in the order of `event_names`, from an evaluation."""
        model = self.mobilities.model
        values = dict(zip(FALL, out[0] - self._levels, strict=True))
        values |= dict(zip(model.event_names, out[1 + model.n_parameters :], strict=False))
        return np.array([values[name] for name in event_names(model)])

    def __call__(self, t: float, theta: Array) -> Array:
        """d theta/dt (p,) at theta (p,), on which alone it depends; raises as `Mobilities.at`."""
        gradient = self.evaluate(theta, 0)[1 : 1 + len(theta)]
        return -self.mobilities.at(theta) * gradient

    def jacobian(self, t: float, theta: Array) -> Array:
        """d(d theta_i/dt)/d theta_j (p, p), analytic except for the slope of a mobility function.

        Raises as `Mobilities.at`.
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
    until: str | None,
    progress: Callable[[float], object] | None,
) -> Solution:
    """One trajectory from start (p,) with SciPy's solver; see `cliff.integrate`."""
    import scipy.integrate

    model, field = mobilities.model, VectorField(mobilities)
    failures: list[MobilityError] = []
    undefined: list[float] = []  # times of trials where the landscape has no finite value

    def guarded(function: Callable[[float, Array], Array], shape: tuple[int, ...]) -> Any:
        """NaN where the mobility fails: the solver then tries a shorter step, or gives up."""

        def call(t: float, theta: Array) -> Array:
            try:
                values = function(t, theta)
            except MobilityError as error:
                failures.append(error)
                return np.full(shape, np.nan)
            if not np.isfinite(values).all():
                undefined.append(t)
            return values

        return call

    p = len(start)
    # the dense output is a polynomial of degree ≤ DEGREE that vanishes at the step's start
    nodes = 0.5 * (1.0 - np.cos(np.pi * (np.arange(DEGREE) + 1.0) / DEGREE))
    to_powers = np.linalg.inv(nodes[:, None] ** np.arange(1, DEGREE + 1))
    t, theta, coefficients = [0.0], [start], []
    names, out = event_names(model), field.evaluate(start, 1)
    losses, before = [float(out[0])], field.events(out)
    events = {name: [0.0] * int(value <= 0.0) for name, value in zip(names, before, strict=True)}
    status = Status.EVENT if until is not None and events[until] else Status.DONE
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
            jac=guarded(field.jacobian, (p, p)) if model.has_hessian else None,
        )
        while solver.status == "running" and status is Status.DONE:
            if len(t) > numerics.max_steps:
                status = Status.STEP_LIMIT
                break
            failures.clear()
            undefined.clear()
            try:
                solver.step()
            except ValueError:  # Radau's linear algebra refuses what is not finite
                undefined.append(solver.t)
            out = field.evaluate(solver.y, 1)
            finite = bool(np.isfinite([*solver.y, *out[: 1 + p]]).all())
            if not finite or solver.status == "failed" or solver.t == t[-1]:
                stuck = Status.NOT_FINITE if undefined or not finite else Status.STEP_TOO_SMALL
                status = Status.MOBILITY if failures else stuck
                break
            output, last, now = solver.dense_output(), t[-1], float(solver.t)
            after = field.events(out)
            times = {}
            for i in np.flatnonzero((before > 0.0) & (after <= 0.0)).tolist():

                def above(time: float, i: int = i, path: Any = output) -> float:
                    return float(field.events(field.evaluate(path(time), 1))[i])

                times[names[i]] = locate_crossing(above, last, now)
            before = after
            if until in times:
                status, now = Status.EVENT, times[until]
            for name, time in times.items():
                if time <= now:
                    events[name].append(time)
            end = output(now) if status is Status.EVENT else solver.y.copy()
            losses.append(float(field.evaluate(end, 1)[0] if status is Status.EVENT else out[0]))
            samples = output(last + nodes * (now - last)) - theta[-1][:, None]
            coefficients.append(samples @ to_powers.T)
            t.append(now)
            theta.append(end)
            if progress and progress(now):
                status = Status.RUNNING
                break
    return Solution(
        path=DensePath(np.array(t), np.array(theta), np.array(coefficients).reshape(-1, p, DEGREE)),
        loss=np.array(losses),
        events={name: np.array(times) for name, times in events.items()},
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
