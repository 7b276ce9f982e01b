"""Gradient flow: d theta_i/dt = −M_i ∂loss/∂theta_i, one trajectory or many."""

from __future__ import annotations

import ctypes
import time
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from cliff.checks import ArgumentError, choice, finite_array, integer, real
from cliff.kernels.integrate import compile_mobility, integrate_batch
from cliff.kernels.nested_logit import evaluate_batch
from cliff.nested_logit import POSITIONS, NestedLogit
from cliff.parallel import in_parallel, split
from cliff.trajectory import (
    LEVELS,
    DensePath,
    Ensemble,
    Status,
    Trajectory,
)

if TYPE_CHECKING:
    from scipy.integrate import OdeSolver

Array = NDArray[np.float64]
Mobility = ArrayLike | Callable[..., Any]

UNIT = (1, 1, 1)
"""Unit mobilities, for a free label bias too."""

STATUS_OF_CODE = tuple(Status)  # in the order of the kernel's codes


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

    @property
    def adaptive(self) -> bool:
        return bool(self.error.any())


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
    # gradient descent: its path is the chain of straight steps
    "euler": Stepper(
        np.array([[0.0, 0.0], [1.0, 0.0]]), np.zeros(2), np.array([[1.0], [0.0]]), order=1
    ),
}
SCIPY_METHODS = {"lsoda": "LSODA", "radau": "Radau"}
METHODS = (*STEPPERS, *SCIPY_METHODS)


def integrate(
    model: NestedLogit,
    theta0: ArrayLike,
    t_end: float,
    mobility: Mobility = UNIT,
    method: str = "dopri5",
    rtol: float = 1e-6,
    atol: float = 1e-9,
    t_eval: ArrayLike | None = None,
    max_steps: int = 100_000,
    *,
    step: float | None = None,
    progress: Callable[[float], object] | None = None,
) -> Trajectory:
    """Integrate gradient flow, d theta_i/dt = −M_i ∂loss/∂theta_i, from theta0 at t = 0.

    Parameters
    ----------
    model : NestedLogit
        The landscape.
    theta0 : array_like, shape (p,)
        Start, in the order of `model.parameter_names`.
    t_end : float
        Last time (gradient-flow time), above 0.
    mobility : array_like, shape (p,), or callable
        Constant M, at least 0, or a function of theta (p,) that numba can compile and that returns
        the p mobilities. Its values are checked at the start only: where it is negative later, the
        flow ascends.
    method : {"dopri5", "rk4", "euler", "lsoda", "radau"}
        dopri5: Dormand–Prince 5(4), adaptive, compiled. rk4, euler: fixed `step`, compiled; Euler
        is full-batch gradient descent with `step` as its learning rate. lsoda, radau: SciPy's
        solvers on the compiled right-hand side and the analytic Jacobian, for stiff flows.
    rtol, atol : float
        Relative and absolute tolerance of theta of the adaptive methods.
    t_eval : array_like, shape (n,), optional
        Increasing times at which to report; the accepted steps by default.
    max_steps : int
        Limit on accepted steps; what has been reached by then is returned.
    step : float, optional
        Step of the methods with a fixed one, gradient-flow time.
    progress : callable, optional
        Called now and then with the time that has been reached; a true answer stops the
        integration, whose status is then "interrupted".

    Returns
    -------
    Trajectory
        Its `status` says how the integration ended; it never raises for numerical trouble.

    Raises
    ------
    ArgumentError
        If an argument is out of range.

    Notes
    -----
    The times at which the loss falls to 0.9, 0.5 and 0.1 log N are located on the dense output,
    whose error is of the order of the solver's tolerance.

    Examples
    --------
    >>> from cliff import NestedLogit
    >>> trajectory = integrate(NestedLogit(8, 32), [0.01, 0.01, 0.01], t_end=200.0)
    >>> round(trajectory.transition().t_transition, 2)
    94.25
    """
    numerics = Numerics.check(method, METHODS, t_end, rtol, atol, max_steps, step)
    start = finite_array("theta0", theta0, model.n_parameters)
    if start.ndim != 1:
        raise ArgumentError("theta0", theta0, f"must have shape ({model.n_parameters},)")
    times = None if t_eval is None else _check_times(t_eval, numerics.t_end)
    field = VectorField.check(model, mobility, start)

    run = _run_compiled if method in STEPPERS else _run_scipy
    recorded = run(field, start, numerics, progress)
    path = recorded.path
    if times is None:
        t, theta, loss = path.t, path.theta, recorded.loss
    else:
        t = times[times <= path.t[-1]]
        theta = path(t)
        loss = model.loss(theta)
    return Trajectory(
        model=model,
        t=t,
        theta=theta,
        loss=loss,
        status=recorded.status,
        crossings=recorded.crossings,
        path=path,
        n_steps=len(path.t) - 1,
        n_rejected=recorded.n_rejected,
        n_evaluations=recorded.n_evaluations,
        settings={"theta0": start.tolist(), "mobility": field.label, **vars(numerics)},
    )


def integrate_ensemble(
    model: NestedLogit,
    theta0: ArrayLike,
    t_end: float,
    mobility: Mobility = UNIT,
    method: str = "dopri5",
    rtol: float = 1e-6,
    atol: float = 1e-9,
    max_steps: int = 100_000,
    *,
    step: float | None = None,
    n_pairs: ArrayLike | None = None,
    n_labels: ArrayLike | None = None,
    workers: int | None = None,
    progress: Callable[[int], object] | None = None,
) -> Ensemble:
    """Integrate gradient flow from many starts, each with its own steps, on all cores.

    Parameters
    ----------
    model : NestedLogit
        The landscape.
    theta0 : array_like, shape (m, p)
        Starts.
    t_end : float
        Last time of every trajectory.
    mobility : array_like, shape (p,) or (m, p), or callable
        As in `integrate`; a row a trajectory if there are m.
    method : {"dopri5", "rk4", "euler"}
        A compiled method.
    rtol, atol, max_steps, step
        As in `integrate`.
    n_pairs, n_labels : array_like of int, shape (m,), optional
        N and L of every trajectory, in place of the model's.
    workers : int, optional
        Threads; all cores by default. The result does not depend on it.
    progress : callable, optional
        Called with the number of trajectories done since the last call; a true answer stops the
        ensemble, and the status of those that have not been started is "interrupted".

    Returns
    -------
    Ensemble
        Ends, transitions and statuses; in memory of the order of the number of trajectories.

    Raises
    ------
    ArgumentError
        If an argument is out of range.
    """
    numerics = Numerics.check(method, tuple(STEPPERS), t_end, rtol, atol, max_steps, step)
    starts = finite_array("theta0", theta0, model.n_parameters)
    if starts.ndim != 2:
        raise ArgumentError("theta0", starts.shape, f"must have shape (m, {model.n_parameters})")
    field = VectorField.check(model, mobility, starts)
    if workers is not None:
        workers = integer("workers", workers, 1)
    pairs = _check_counts("n_pairs", model.n_pairs if n_pairs is None else n_pairs, len(starts))
    labels = _check_counts(
        "n_labels", model.n_labels if n_labels is None else n_labels, len(starts)
    )
    if (labels < pairs).any():
        worst = int(np.argmax(pairs - labels))
        raise ArgumentError(
            "n_labels", int(labels[worst]), f"must be at least the number of pairs, {pairs[worst]}"
        )

    # trajectories of one N stand together, the most expensive first
    order = np.argsort(-pairs, kind="stable")
    state = _State.at(model.complete(starts), pairs, labels, field.mobility)[order]
    edges = np.flatnonzero(np.diff(state.pairs, prepend=-1, append=-1))
    ranges = [
        chunk
        for first, last in pairwise(edges.tolist())
        for chunk in split(first, last, max(4, 1024 // int(state.pairs[first])))
    ]

    def work(start: int, stop: int) -> None:
        _advance(field, numerics, state[start:stop])

    in_parallel(work, ranges, workers, progress)
    state = state[np.argsort(order, kind="stable")]
    return Ensemble(
        model=model,
        n_pairs=pairs,
        n_labels=labels,
        theta0=starts,
        theta=np.ascontiguousarray(state.theta[:, : model.n_parameters]),
        t=state.t,
        loss=state.loss,
        crossings=state.crossings,
        t_transition=state.crossings[:, 1],
        width=state.crossings[:, 2] - state.crossings[:, 0],
        n_steps=state.n_steps,
        n_rejected=state.n_rejected,
        status=state.status.astype(np.int8),
        settings={"mobility": field.label, **vars(numerics)},
    )


MOST_STEPS = 10**9
"""Largest limit on the steps of a trajectory: their record would take 200 GB."""


@dataclass(frozen=True)
class Numerics:
    """Numerical options of an integration, checked; see `integrate`."""

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
        # SciPy's own methods raise a smaller rtol to this, so that it would not be the one used
        least = 0.0 if method in STEPPERS else 100 * np.finfo(np.float64).eps
        return cls(
            method,
            real("t_end", t_end, 0.0, exclusive=True),
            real("rtol", rtol, least, exclusive=True),
            real("atol", atol, 0.0, exclusive=True),
            int(max_steps),
            step,
        )


@dataclass(frozen=True)
class VectorField:
    """Right-hand side of the flow, −M grad loss, checked; callable as SciPy's solvers want it.

    Attributes
    ----------
    model : NestedLogit
    mobility : ndarray, shape (m, 4) or (1, 4)
        Constant mobilities; the last one is 0 where the label bias is fixed.
    function : compiled C function or None
        Mobility as a function of theta, in place of the constants.
    label : list or str
        The mobility, for a file's attributes.
    """

    model: NestedLogit
    mobility: Array
    function: Any
    label: Any

    @classmethod
    def check(cls, model: NestedLogit, mobility: Mobility, starts: Array) -> VectorField:
        p = model.n_parameters
        rows = np.zeros((1, 4))
        if callable(mobility):
            name = getattr(mobility, "__name__", repr(mobility))
            try:
                function = compile_mobility(mobility, p)
                rates = np.array([mobility(theta) for theta in np.atleast_2d(starts)], float)
            except Exception as error:
                reason = str(error).strip().split("\n")[0]
                raise ArgumentError(
                    "mobility", name, f"must be a function of theta that compiles: {reason}"
                ) from error
            _check_mobility(rates, name, p)
            return cls(model, rows, function, f"function {name}")
        if mobility is UNIT:
            rows[:, :p] = 1.0
            return cls(model, rows, None, [1.0] * p)
        values = finite_array("mobility", mobility, p)
        if values.ndim > 1 and (starts.ndim == 1 or values.shape != starts.shape):
            raise ArgumentError(
                "mobility", values.shape, f"must have shape ({p},) or one row a start"
            )
        _check_mobility(values, mobility, p)
        rows = np.zeros((len(np.atleast_2d(values)), 4))
        rows[:, :p] = values
        return cls(model, rows, None, values.tolist())

    @property
    def address(self) -> int:
        return 0 if self.function is None else int(self.function.address)

    def mobilities(self, theta: Array) -> Array:
        """Mobilities (p,) at theta (p,)."""
        p = self.model.n_parameters
        if self.function is None:
            return self.mobility[0, :p]
        values = np.empty(p)
        pointer = ctypes.POINTER(ctypes.c_double)
        self.function.ctypes(theta.ctypes.data_as(pointer), values.ctypes.data_as(pointer))
        return values

    def __call__(self, t: float, theta: Array) -> Array:
        """d theta/dt (p,) at theta (p,); the flow does not depend on t."""
        model, out = self.model, np.empty((1, 5))
        excess = float(model.n_labels - model.n_pairs)
        rows = model.complete(theta[None])
        evaluate_batch(POSITIONS[model.positions], model.n_pairs, excess, rows, False, out)
        return -self.mobilities(theta) * out[0, 1 : 1 + model.n_parameters]

    def jacobian(self, t: float, theta: Array) -> Array:
        """d(d theta_i/dt)/d theta_j (p, p), analytic but for the slope of a mobility function."""
        jacobian = -self.mobilities(theta)[:, None] * self.model.hessian(theta)
        if self.function is not None:
            gradient = self.model.gradient(theta)
            for j in range(len(theta)):
                shift = np.zeros_like(theta)
                shift[j] = 1e-6 * max(1.0, abs(theta[j]))
                slope = self.mobilities(theta + shift) - self.mobilities(theta - shift)
                jacobian[:, j] -= gradient * slope / (2.0 * shift[j])
        return jacobian


def _check_mobility(values: Array, given: object, p: int) -> None:
    if values.shape[-1] != p or not (np.isfinite(values).all() and (values >= 0.0).all()):
        raise ArgumentError("mobility", given, f"must be {p} finite numbers of at least 0")


def _check_times(t_eval: ArrayLike, t_end: float) -> Array:
    try:
        times = np.atleast_1d(np.asarray(t_eval, dtype=np.float64))
    except (TypeError, ValueError):
        times = np.array([np.nan])
    inside = np.isfinite(times).all() and (times >= 0.0).all() and (times <= t_end).all()
    if times.ndim != 1 or not inside or (np.diff(times) <= 0.0).any():
        raise ArgumentError("t_eval", t_eval, f"must be increasing times from 0 to {t_end:g}")
    return times


def _check_counts(argument: str, value: ArrayLike, m: int) -> NDArray[np.int64]:
    counts = np.asarray(value)
    if counts.dtype.kind not in "iu" or counts.shape not in ((), (m,)) or (counts < 1).any():
        raise ArgumentError(argument, value, f"must be {m} integers of at least 1")
    return np.broadcast_to(counts.astype(np.int64), (m,)).copy()


@dataclass(frozen=True)
class _State:
    """Where trajectories stand: what the compiled loop reads and writes, arrays of length m."""

    pairs: NDArray[np.int64]
    excess: Array
    mobility: Array
    levels: Array
    theta: Array
    t: Array
    h: Array
    crossings: Array
    loss: Array
    n_steps: NDArray[np.int64]
    n_rejected: NDArray[np.int64]
    status: NDArray[np.int64]

    @classmethod
    def at(cls, theta: Array, pairs: Any, labels: Any, mobility: Array) -> _State:
        m = len(theta)
        levels = np.log(pairs)[:, None] * LEVELS
        levels[pairs == 1] = np.nan  # never crossed
        zeros, counts = np.zeros((3, m)), np.zeros((3, m), np.int64)
        return cls(
            pairs=pairs,
            excess=(labels - pairs).astype(np.float64),
            mobility=np.broadcast_to(mobility, (m, 4)),
            levels=levels,
            theta=theta.copy(),
            t=zeros[0],
            h=zeros[1],
            crossings=np.full((m, len(LEVELS)), np.nan),
            loss=zeros[2],
            n_steps=counts[0],
            n_rejected=counts[1],
            status=counts[2],
        )

    def __getitem__(self, index: Any) -> _State:
        return _State(*(getattr(self, entry.name)[index] for entry in fields(self)))


@dataclass(frozen=True)
class _Record:
    """Where the compiled loop writes the steps of one trajectory; empty to write none."""

    t: Array
    theta: Array
    loss: Array
    dense: Array

    @classmethod
    def of_length(cls, steps: int, degree: int) -> _Record:
        rows = steps + 1 if steps else 0
        return cls(
            np.empty(rows), np.empty((rows, 4)), np.empty(rows), np.empty((steps, 4, degree))
        )

    def with_room(self, steps: int) -> _Record:
        """This record, or a longer one that begins with it."""
        if len(self.dense) >= steps:
            return self
        longer = _Record.of_length(max(steps, 2 * len(self.dense)), self.dense.shape[2])
        for entry in fields(self):
            old = getattr(self, entry.name)
            getattr(longer, entry.name)[: len(old)] = old
        return longer


def _advance(
    field: VectorField,
    numerics: Numerics,
    state: _State,
    budget: int = np.iinfo(np.int64).max,
    record: _Record | None = None,
) -> None:
    """Advance trajectories of one N by at most `budget` attempted steps."""
    stepper = STEPPERS[numerics.method]
    record = record or _Record.of_length(0, stepper.dense.shape[1])
    integrate_batch(
        POSITIONS[field.model.positions],
        int(state.pairs[0]),
        field.model.n_parameters,
        state.excess,
        np.ascontiguousarray(state.mobility),
        field.address,
        state.levels,
        (stepper.a, stepper.error, stepper.dense),
        stepper.order,
        numerics.step or 0.0,
        numerics.rtol,
        numerics.atol,
        numerics.t_end,
        numerics.max_steps,
        budget,
        state.theta,
        state.t,
        state.h,
        state.crossings,
        state.loss,
        state.n_steps,
        state.n_rejected,
        state.status,
        record.t,
        record.theta,
        record.loss,
        record.dense,
    )


@dataclass(frozen=True)
class _Recorded:
    """What one integration leaves, whatever the method."""

    path: DensePath
    loss: Array
    crossings: Array
    status: Status
    n_rejected: int
    n_evaluations: int


def _run_compiled(
    field: VectorField,
    start: Array,
    numerics: Numerics,
    progress: Callable[[float], object] | None,
) -> _Recorded:
    model = field.model
    stepper = STEPPERS[numerics.method]
    pairs, labels = np.array([model.n_pairs]), np.array([model.n_labels])
    state = _State.at(model.complete(start[None]), pairs, labels, field.mobility)
    budget = 1000
    record = _Record.of_length(budget, stepper.dense.shape[1])
    while STATUS_OF_CODE[state.status[0]] is Status.RUNNING:
        began = time.perf_counter()
        record = record.with_room(int(state.n_steps[0]) + budget)
        _advance(field, numerics, state, budget, record)
        if time.perf_counter() - began < 0.1:  # long enough to be efficient, short for Ctrl-C
            budget *= 2
        if progress and progress(float(state.t[0])):
            break
    n, p = int(state.n_steps[0]), model.n_parameters
    attempts = n + int(state.n_rejected[0])
    return _Recorded(
        path=DensePath(
            record.t[: n + 1].copy(), record.theta[: n + 1, :p].copy(), record.dense[:n, :p].copy()
        ),
        loss=record.loss[: n + 1].copy(),
        crossings=state.crossings[0],
        status=STATUS_OF_CODE[state.status[0]],
        n_rejected=int(state.n_rejected[0]),
        n_evaluations=1 + attempts * (len(stepper.a) - 1),
    )


_DEGREE = 12
"""Largest degree of LSODA's dense output, as a polynomial between two steps."""


def _crossing(above: Callable[[float], float], before: float, now: float) -> float:
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


def _run_scipy(
    field: VectorField,
    start: Array,
    numerics: Numerics,
    progress: Callable[[float], object] | None,
) -> _Recorded:
    import scipy.integrate

    model = field.model
    # the dense output is a polynomial of degree ≤ _DEGREE that vanishes at the step's start
    nodes = 0.5 * (1.0 - np.cos(np.pi * (np.arange(_DEGREE) + 1.0) / _DEGREE))
    to_powers = np.linalg.inv(nodes[:, None] ** np.arange(1, _DEGREE + 1))
    levels = np.array(LEVELS) * model.plateau if model.n_pairs > 1 else np.full(len(LEVELS), np.nan)
    t, theta, coefficients = [0.0], [start], []
    losses = [float(model.loss(start))]
    crossings = np.where(losses[0] <= levels, 0.0, np.nan)
    status = Status.DONE
    # the status says what LSODA and overflowing sums would warn of
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore", UserWarning)
        solver: OdeSolver = getattr(scipy.integrate, SCIPY_METHODS[numerics.method])(
            field,
            0.0,
            start,
            numerics.t_end,
            rtol=numerics.rtol,
            atol=numerics.atol,
            jac=field.jacobian,
        )
        while solver.status == "running":
            if len(t) > numerics.max_steps:
                status = Status.STEP_LIMIT
                break
            try:
                solver.step()
            except ValueError:  # Radau's linear algebra refuses what is not finite
                status = Status.NOT_FINITE
                break
            if solver.status == "failed":
                status = Status.STEP_TOO_SMALL
                break
            if not np.isfinite(solver.y).all():
                status = Status.NOT_FINITE
                break
            output, before, now = solver.dense_output(), t[-1], float(solver.t)
            losses.append(float(model.loss(solver.y)))
            for i in np.flatnonzero(np.isnan(crossings) & (losses[-1] <= levels)):

                def above(time: float, level: float = levels[i], path: Any = output) -> float:
                    return float(model.loss(path(time))) - level

                crossings[i] = _crossing(above, before, now)
            samples = output(before + nodes * (now - before)) - theta[-1][:, None]
            coefficients.append(samples @ to_powers.T)
            t.append(now)
            theta.append(solver.y.copy())
            if progress and progress(now):
                status = Status.RUNNING
                break
    return _Recorded(
        path=DensePath(
            np.array(t),
            np.array(theta),
            np.array(coefficients).reshape(-1, len(start), _DEGREE),
        ),
        loss=np.array(losses),
        crossings=crossings,
        status=status,
        n_rejected=0,
        n_evaluations=int(solver.nfev),
    )
