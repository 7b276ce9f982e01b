"""Gradient flow: d theta_i/dt = −M_i ∂loss/∂theta_i, one trajectory or many."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, fields
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from cliff.checks import LARGEST_INTEGER, ArgumentError, finite_array, integer
from cliff.kernels.integrate import integrate_batch
from cliff.mobility import UNIT_MOBILITIES, Mobilities, Mobility
from cliff.nested_logit import POSITIONS, NestedLogit
from cliff.parallel import in_parallel, split
from cliff.steppers import METHODS, STEPPERS, Numerics
from cliff.trajectory import LEVELS, DensePath, Ensemble, Solution, Status, Trajectory, within

Array = NDArray[np.float64]

STATUS_OF_CODE = tuple(Status)  # in the order of the kernel's codes


def integrate(
    model: NestedLogit,
    theta0: ArrayLike,
    t_end: float,
    mobility: Mobility = UNIT_MOBILITIES,
    method: str = "dopri5",
    rtol: float = 1e-6,
    atol: float = 1e-9,
    t_eval: ArrayLike | None = None,
    max_steps: int = 100_000,
    *,
    mobility_args: ArrayLike = (),
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
        Constant M, at least 0, or a function ``mobility(theta, *mobility_args)`` that numba can
        compile and that returns the p mobilities. It is compiled once for all values of its
        arguments. numba keeps the values that global variables have when it compiles: pass what
        varies through `mobility_args`. A function that raises on the way, or returns what is
        negative or not finite, ends the flow with the status "mobility failed".
    method : {"dopri5", "rk4", "euler", "lsoda", "radau"}
        dopri5: Dormand–Prince 5(4), adaptive, compiled. rk4, euler: fixed `step`, compiled; Euler
        is full-batch gradient descent with `step` as its learning rate. lsoda, radau: SciPy's
        solvers on the compiled right-hand side and the analytic Jacobian, for stiff flows.
    rtol, atol : float
        Relative and absolute tolerance of theta of the adaptive methods.
    t_eval : array_like, shape (n,), optional
        Increasing times at which to report; the accepted steps by default. A time that lies beyond
        `t_end` by rounding is taken for it.
    max_steps : int
        Limit on accepted steps. A flow that meets it is returned as far as it got.
    mobility_args : array_like of float, shape (k,)
        Arguments of a mobility function beside theta.
    step : float, optional
        Step of rk4 and euler (gradient-flow time).
    progress : callable, optional
        Called now and then with the time that has been reached. If it returns something true, the
        integration stops with the status "interrupted".

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
    mobilities = Mobilities.check(model, mobility, mobility_args, start)

    if method in STEPPERS:
        solution = _integrate_compiled(mobilities, start, numerics, progress)
    else:
        from cliff.scipy_methods import integrate_scipy

        solution = integrate_scipy(mobilities, start, numerics, progress)
    path = solution.path
    trajectory = Trajectory(
        model=model,
        t=path.t,
        theta=path.theta,
        n_steps=len(path.t) - 1,
        settings={"theta0": start.tolist(), **mobilities.settings, **vars(numerics)},
        **vars(solution),
    )
    return trajectory if times is None else trajectory.sampled(times[times <= path.t[-1]])


def integrate_ensemble(
    model: NestedLogit,
    theta0: ArrayLike,
    t_end: float,
    mobility: Mobility = UNIT_MOBILITIES,
    method: str = "dopri5",
    rtol: float = 1e-6,
    atol: float = 1e-9,
    max_steps: int = 100_000,
    *,
    mobility_args: ArrayLike = (),
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
        As in `integrate`; with m rows, one for each trajectory.
    method : {"dopri5", "rk4", "euler"}
        A compiled method.
    rtol, atol, max_steps, step
        As in `integrate`.
    mobility_args : array_like of float, shape (k,) or (m, k)
        As in `integrate`; with m rows, one for each trajectory.
    n_pairs, n_labels : array_like of int, shape (m,), optional
        N and L of every trajectory, in place of the model's.
    workers : int, optional
        Threads; all cores by default. The result does not depend on it.
    progress : callable, optional
        Called with the number of trajectories that have ended since the last call. If it returns
        something true, no more are started; the status of the rest is "interrupted".

    Returns
    -------
    Ensemble
        Ends, transitions and statuses. Paths are not kept.

    Raises
    ------
    ArgumentError
        If an argument is out of range.
    """
    numerics = Numerics.check(method, tuple(STEPPERS), t_end, rtol, atol, max_steps, step)
    starts = finite_array("theta0", theta0, model.n_parameters)
    if starts.ndim != 2:
        raise ArgumentError("theta0", starts.shape, f"must have shape (m, {model.n_parameters})")
    mobilities = Mobilities.check(model, mobility, mobility_args, starts)
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
    batch = _Batch.at(mobilities, starts, pairs, labels)[order]
    edges = np.flatnonzero(np.diff(batch.pairs, prepend=-1, append=-1))
    ranges = [
        chunk
        for first, last in pairwise(edges.tolist())
        for chunk in split(first, last, max(4, 1024 // int(batch.pairs[first])))
    ]

    def work(start: int, stop: int) -> None:
        _advance(mobilities, numerics, batch[start:stop])

    in_parallel(work, ranges, workers, progress)
    batch = batch[np.argsort(order, kind="stable")]
    failed = np.flatnonzero(batch.status == STATUS_OF_CODE.index(Status.MOBILITY))[:1]
    reasons = [f"trajectory {i}: {mobilities.reason(batch.failed_at[i], i)}" for i in failed]
    return Ensemble(
        model=model,
        n_pairs=pairs,
        n_labels=labels,
        theta0=starts,
        theta=batch.theta[:, : model.n_parameters],
        t=batch.t,
        loss=batch.loss,
        crossings=batch.crossings,
        t_transition=batch.crossings[:, 1],
        width=batch.crossings[:, 2] - batch.crossings[:, 0],
        n_steps=batch.n_steps,
        n_rejected=batch.n_rejected,
        status=batch.status.astype(np.int8),
        settings={**mobilities.settings, **vars(numerics)},
        reason="".join(reasons),
    )


def _check_times(t_eval: ArrayLike, t_end: float) -> Array:
    times = np.atleast_1d(finite_array("t_eval", t_eval))
    if times.ndim != 1 or (np.diff(times) <= 0.0).any():
        raise ArgumentError("t_eval", t_eval, "must be increasing")
    return within("t_eval", times, 0.0, t_end)


def _check_counts(argument: str, value: ArrayLike, m: int) -> NDArray[np.int64]:
    counts = np.asarray(finite_array(argument, value))
    whole = np.asarray(value).dtype.kind in "iu" and counts.shape in ((), (m,))
    if not whole or (counts < 1).any() or (counts > LARGEST_INTEGER).any():
        raise ArgumentError(argument, value, f"must be {m} integers of at least 1")
    return np.broadcast_to(np.asarray(value, dtype=np.int64), (m,)).copy()


def _rows(values: Array, m: int) -> Array:
    """The m rows of values, or m times the only one."""
    return values if len(values) == m else np.broadcast_to(values, (m, values.shape[1]))


@dataclass(frozen=True)
class _Batch:
    """m trajectories under way: the arrays that the compiled loop reads and writes."""

    pairs: NDArray[np.int64]
    n_absent: Array
    mobility: Array
    arguments: Array
    levels: Array
    theta: Array
    t: Array
    h: Array
    crossings: Array
    loss: Array
    n_steps: NDArray[np.int64]
    n_rejected: NDArray[np.int64]
    status: NDArray[np.int64]
    failed_at: Array

    @classmethod
    def at(cls, mobilities: Mobilities, starts: Array, pairs: Any, labels: Any) -> _Batch:
        """Trajectories at their starts (m, p), each with its N and L (m,)."""
        m = len(starts)
        levels = np.log(pairs)[:, None] * LEVELS
        levels[pairs == 1] = np.nan  # never crossed
        zeros, counts = np.zeros((3, m)), np.zeros((3, m), np.int64)
        return cls(
            pairs=pairs,
            n_absent=(labels - pairs).astype(np.float64),
            mobility=_rows(mobilities.constants, m),
            arguments=_rows(mobilities.arguments, m),
            levels=levels,
            theta=mobilities.model.complete(starts).copy(),
            t=zeros[0],
            h=zeros[1],
            crossings=np.full((m, len(LEVELS)), np.nan),
            loss=zeros[2],
            n_steps=counts[0],
            n_rejected=counts[1],
            status=counts[2],
            failed_at=np.full((m, 4), np.nan),
        )

    def __getitem__(self, index: Any) -> _Batch:
        return _Batch(*(getattr(self, entry.name)[index] for entry in fields(self)))


@dataclass(frozen=True)
class _Log:
    """The steps of one trajectory, as the compiled loop writes them; empty to write none."""

    t: Array
    theta: Array
    loss: Array
    dense: Array

    @classmethod
    def of_length(cls, steps: int, degree: int) -> _Log:
        rows = steps + 1 if steps else 0
        return cls(
            np.empty(rows), np.empty((rows, 4)), np.empty(rows), np.empty((steps, 4, degree))
        )

    def with_room(self, steps: int, most: int) -> _Log:
        """This log, or one of twice the length, at most `most`, that begins with it."""
        length = len(self.dense)
        if length >= min(steps, most):
            return self
        longer = _Log.of_length(min(max(steps, 2 * length), most), self.dense.shape[2])
        for entry in fields(self):
            old = getattr(self, entry.name)
            getattr(longer, entry.name)[: len(old)] = old
        return longer


def _advance(
    mobilities: Mobilities,
    numerics: Numerics,
    batch: _Batch,
    budget: int = np.iinfo(np.int64).max,
    log: _Log | None = None,
) -> None:
    """Advance trajectories of one N by at most `budget` attempted steps."""
    stepper = STEPPERS[numerics.method]
    log = log or _Log.of_length(0, stepper.dense.shape[1])
    integrate_batch(
        POSITIONS[mobilities.model.positions],
        int(batch.pairs[0]),
        mobilities.model.n_parameters,
        batch.n_absent,
        np.ascontiguousarray(batch.mobility),
        mobilities.address,
        np.ascontiguousarray(batch.arguments),
        batch.levels,
        (stepper.a, stepper.error, stepper.dense),
        stepper.order,
        numerics.step or 0.0,
        numerics.rtol,
        numerics.atol,
        numerics.t_end,
        numerics.max_steps,
        budget,
        batch.theta,
        batch.t,
        batch.h,
        batch.crossings,
        batch.loss,
        batch.n_steps,
        batch.n_rejected,
        batch.status,
        batch.failed_at,
        log.t,
        log.theta,
        log.loss,
        log.dense,
    )


def _integrate_compiled(
    mobilities: Mobilities,
    start: Array,
    numerics: Numerics,
    progress: Callable[[float], object] | None,
) -> Solution:
    """One trajectory from start (p,) with a compiled method, whose steps are all kept."""
    model, stepper = mobilities.model, STEPPERS[numerics.method]
    batch = _Batch.at(
        mobilities, start[None], np.array([model.n_pairs]), np.array([model.n_labels])
    )
    budget = max(1, min(1000, 2**17 // model.n_pairs))  # attempted steps between two reports
    log = _Log.of_length(budget, stepper.dense.shape[1])
    while STATUS_OF_CODE[batch.status[0]] is Status.RUNNING:
        began = time.perf_counter()
        n = int(batch.n_steps[0])
        log = log.with_room(n + budget, numerics.max_steps)
        _advance(mobilities, numerics, batch, min(budget, len(log.dense) - n), log)
        if time.perf_counter() - began < 0.1:  # long enough to be efficient, short for Ctrl-C
            budget *= 2
        if progress and progress(float(batch.t[0])):
            break
    n, p = int(batch.n_steps[0]), model.n_parameters
    attempts = n + int(batch.n_rejected[0])
    status = STATUS_OF_CODE[batch.status[0]]
    return Solution(
        path=DensePath(log.t[: n + 1], log.theta[: n + 1, :p], log.dense[:n, :p]),
        loss=log.loss[: n + 1],
        crossings=batch.crossings[0],
        status=status,
        reason=mobilities.reason(batch.failed_at[0]) if status is Status.MOBILITY else "",
        n_rejected=int(batch.n_rejected[0]),
        n_evaluations=1 + attempts * (len(stepper.a) - 1),
    )
