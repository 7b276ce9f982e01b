"""Flows on landscapes, d theta_i/dt = −M_i ∂loss/∂theta_i by default, one trajectory or many."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from cliff.checks import ArgumentError, choice, finite_array, integer
from cliff.kernels.integrate import integrate_batch
from cliff.mobility import UNIT_MOBILITIES, Mobilities, Mobility
from cliff.parallel import in_parallel
from cliff.protocol import FALL, LEVELS, LandscapeLike, event_names
from cliff.rules import Gradient, Langevin, Rule, check_rule
from cliff.steppers import METHODS, STEPPERS, Numerics, Stepper
from cliff.trajectory import DensePath, Ensemble, Solution, Status, Trajectory, within

Array = NDArray[np.float64]

STATUS_OF_CODE = tuple(Status)  # in the order of the kernel's codes

RULE = Gradient()
"""The default rule."""


def integrate(
    model: LandscapeLike,
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
    until: str | None = None,
    rule: Rule = RULE,
    progress: Callable[[float], object] | None = None,
) -> Trajectory:
    """Integrate gradient flow, d theta_i/dt = −M_i ∂loss/∂theta_i, from theta0 at t = 0.

    Parameters
    ----------
    model : LandscapeLike
        The landscape: a `NestedLogit`, a `Landscape`, or one of your own.
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
    until : str, optional
        Name of the event that ends the flow, with the status "event reached".
    rule : Rule, optional
        How theta follows the force; see `cliff.rules`. lsoda and radau know gradient flow alone.
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
    An event is the fall of its value from above 0 to 0 or below within a step; one whose value is
    not above 0 at the start happens at t = 0. It is located on the dense output, whose error is of
    the order of the solver's tolerance. An event that happens and is undone in one step is missed.

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
    flow = _Flow.check(mobilities, numerics, rule, until)

    if method in STEPPERS:
        solution = _integrate_compiled(flow, start, progress)
    else:
        from cliff.scipy_methods import integrate_scipy

        if not isinstance(rule, Gradient):
            raise ArgumentError("method", method, "knows gradient flow alone: use dopri5 or rk4")
        solution = integrate_scipy(mobilities, start, numerics, until, progress)
    path = solution.path
    if not model.has_loss:
        solution = replace(solution, loss=np.full(len(path.t), np.nan))
    trajectory = Trajectory(
        model=model,
        t=path.t,
        theta=path.theta,
        n_steps=len(path.t) - 1,
        settings={"theta0": start.tolist(), **flow.settings},
        **vars(solution),
    )
    return trajectory if times is None else trajectory.sampled(times[times <= path.t[-1]])


def integrate_ensemble(
    model: LandscapeLike,
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
    constants: Mapping[str, ArrayLike] | None = None,
    until: str | None = None,
    rule: Rule = RULE,
    workers: int | None = None,
    progress: Callable[[int], object] | None = None,
) -> Ensemble:
    """Integrate gradient flow from many starts, each with its own steps, on all cores.

    Parameters
    ----------
    model : LandscapeLike
        The landscape: a `NestedLogit`, a `Landscape`, or one of your own.
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
    constants : mapping of str to array_like, shape (m,), optional
        Constants of the landscape that differ between trajectories, such as
        ``{"n_pairs": [4, 8], "n_labels": [16, 32]}``.
    until, rule
        As in `integrate`.
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
    m, varied = len(starts), dict(constants or {})
    rows = model.constants_rows(varied, m)
    flow = _Flow.check(mobilities, numerics, rule, until)
    batch = _Batch.at(flow, starts, rows)

    # the most expensive trajectories first; those of one cost in their order
    costs = model.n_work(rows)
    order = np.argsort(-costs, kind="stable")
    batch, ranges, start = batch[order], [], 0
    while start < m:
        stop = min(m, start + max(4, CHUNK // max(int(costs[order[start]]), 16)))
        ranges.append((start, stop))
        start = stop
    side_by_side = bool(model.pack_address)

    def work(start: int, stop: int) -> None:
        _advance(flow, batch[start:stop], side_by_side=side_by_side)

    in_parallel(work, ranges, workers, progress)
    batch = batch[np.argsort(order, kind="stable")]
    failed = np.flatnonzero(batch.status == STATUS_OF_CODE.index(Status.MOBILITY))[:1]
    reasons = [f"trajectory {i}: {mobilities.reason(batch.failed_at[i], i)}" for i in failed]
    events = flow.by_name(batch.events.T)
    begin, middle, end = (events.get(name, np.full(m, np.nan)) for name in FALL)
    return Ensemble(
        model=model,
        constants={k: _column(varied.get(k, v), m) for k, v in model.constants.items()},
        theta0=starts,
        theta=batch.theta[:, : model.n_parameters],
        t=batch.t,
        loss=batch.loss if model.has_loss else np.full(m, np.nan),
        events=events,
        t_transition=middle,
        width=end - begin,
        n_steps=batch.n_steps,
        n_rejected=batch.n_rejected,
        status=batch.status.astype(np.int8),
        settings=flow.settings,
        reason="".join(reasons),
    )


CHUNK = 2**14
"""Cost of the trajectories that a thread takes at a time; see `LandscapeLike.n_work`."""


def _column(value: ArrayLike, m: int) -> NDArray[Any]:
    """A constant that has been checked, for each of m trajectories: int64 or float64."""
    array = np.asarray(value)
    kind = np.int64 if array.dtype.kind in "iu" else np.float64
    return np.broadcast_to(array.astype(kind), (m,)).copy()


def _check_times(t_eval: ArrayLike, t_end: float) -> Array:
    times = np.atleast_1d(finite_array("t_eval", t_eval))
    if times.ndim != 1 or (np.diff(times) <= 0.0).any():
        raise ArgumentError("t_eval", t_eval, "must be increasing")
    return within("t_eval", times, 0.0, t_end)


@dataclass(frozen=True)
class _Flow:
    """What all trajectories of a call share, checked."""

    mobilities: Mobilities
    numerics: Numerics
    rule: Rule
    until: str | None

    @classmethod
    def check(
        cls, mobilities: Mobilities, numerics: Numerics, rule: Rule, until: str | None
    ) -> _Flow:
        if until is not None:
            choice("until", until, event_names(mobilities.model))
        return cls(mobilities, numerics, check_rule(rule, numerics.method), until)

    @property
    def settings(self) -> dict[str, Any]:
        """Mobility, method, limits and rule, as they are written to a file."""
        until = {} if self.until is None else {"until": self.until}
        return self.mobilities.settings | vars(self.numerics) | self.rule.settings() | until

    @property
    def columns(self) -> list[str]:
        """Names of the events of the compiled loop; of two of one name the second one counts."""
        return [*FALL, *self.mobilities.model.event_names]

    def by_name(self, columns: Array) -> dict[str, Array]:
        """The rows of an array that has one for every event of the compiled loop, by name."""
        found = dict(zip(self.columns, columns, strict=True))
        return {name: found[name] for name in event_names(self.mobilities.model)}

    def arguments(self, side_by_side: bool) -> tuple[Any, ...]:
        """Landscape, rule, method and limits for the compiled loop, without its budget."""
        model, stepper, numerics = self.mobilities.model, self.stepper, self.numerics
        seed = self.rule.seed if isinstance(self.rule, Langevin) else 0
        until = -1
        if self.until is not None:
            until = len(self.columns) - 1 - self.columns[::-1].index(self.until)
        return (
            (model.address, model.pack_address if side_by_side else 0),
            (model.n_parameters, model.n_out),
            (self.mobilities.address, len(model.event_names)),
            (self.rule.code, np.array(self.rule.numbers, dtype=np.float64), seed),
            (stepper.a, stepper.error, stepper.dense, stepper.stage_times),
            (stepper.order, numerics.step or 0.0),
            (numerics.rtol, numerics.atol, numerics.t_end, numerics.max_steps),
            until,
        )

    @property
    def stepper(self) -> Stepper:
        return STEPPERS[self.numerics.method]


@dataclass(frozen=True)
class _Batch:
    """m trajectories under way: the arrays that the compiled loop reads and writes."""

    constants: Array
    mobility: Array
    arguments: Array
    levels: Array
    numbers: NDArray[np.int64]
    theta: Array
    t: Array
    h: Array
    events: Array
    loss: Array
    n_steps: NDArray[np.int64]
    n_rejected: NDArray[np.int64]
    status: NDArray[np.int64]
    failed_at: Array

    @classmethod
    def at(cls, flow: _Flow, starts: Array, rows: Array) -> _Batch:
        """Trajectories at their starts (m, p), each with its row of constants (m, C)."""
        mobilities, m, p = flow.mobilities, *starts.shape
        zeros, counts = np.zeros((3, m)), np.zeros((3, m), np.int64)
        theta = np.zeros((m, p * flow.rule.copies))
        theta[:, :p] = starts
        return cls(
            constants=rows,
            mobility=np.broadcast_to(mobilities.constants, (m, p)),
            arguments=np.broadcast_to(mobilities.arguments, (m, mobilities.arguments.shape[1])),
            levels=mobilities.model.plateaus(rows)[:, None] * LEVELS,
            numbers=np.arange(m),
            theta=theta,
            t=zeros[0],
            h=zeros[1],
            events=np.full((m, len(flow.columns)), np.nan),
            loss=zeros[2],
            n_steps=counts[0],
            n_rejected=counts[1],
            status=counts[2],
            failed_at=np.full((m, p), np.nan),
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
    events: Array

    @classmethod
    def of_length(cls, steps: int, degree: int, p: int = 0, n_events: int = 0) -> _Log:
        rows = steps + 1 if steps else 0
        return cls(
            np.empty(rows),
            np.empty((rows, p)),
            np.empty(rows),
            np.empty((steps, p, degree)),
            np.empty((rows, n_events)),
        )

    def with_room(self, steps: int, most: int) -> _Log:
        """This log, or one of twice the length, at most `most`, that begins with it."""
        length, p, degree = self.dense.shape
        if length >= min(steps, most):
            return self
        size = min(max(steps, 2 * length), most)
        longer = _Log.of_length(size, degree, p, self.events.shape[1])
        for entry in fields(self):
            old = getattr(self, entry.name)
            getattr(longer, entry.name)[: len(old)] = old
        return longer


def _advance(
    flow: _Flow,
    batch: _Batch,
    budget: int = np.iinfo(np.int64).max,
    log: _Log | None = None,
    side_by_side: bool = False,
) -> None:
    """Advance trajectories by at most `budget` attempted steps."""
    log = log or _Log.of_length(0, flow.stepper.dense.shape[1])
    n_work = int(flow.mobilities.model.n_work(batch.constants).max(initial=0))
    addresses, sizes, more, rule, tableau, order_and_step, limits, until = flow.arguments(
        side_by_side
    )
    integrate_batch(
        side_by_side,
        (*addresses, *sizes, n_work, *more),
        rule,
        (*tableau, *order_and_step),
        (*limits, budget, until),
        (
            np.ascontiguousarray(batch.constants),
            np.ascontiguousarray(batch.mobility),
            np.ascontiguousarray(batch.arguments),
            batch.levels,
            batch.numbers,
        ),
        (
            batch.theta,
            batch.t,
            batch.h,
            batch.events,
            batch.loss,
            batch.n_steps,
            batch.n_rejected,
            batch.status,
            batch.failed_at,
        ),
        (log.t, log.theta, log.loss, log.dense, log.events),
    )


def _integrate_compiled(
    flow: _Flow, start: Array, progress: Callable[[float], object] | None
) -> Solution:
    """One trajectory from start (p,) with a compiled method, whose steps are all kept."""
    mobilities, model, stepper = flow.mobilities, flow.mobilities.model, flow.stepper
    batch = _Batch.at(flow, start[None], model.constants_row[None])
    cost = int(model.n_work(batch.constants)[0])
    budget = max(1, min(1000, 2**21 // max(cost, 1)))  # attempted steps between two reports
    p, n_events = model.n_parameters, len(flow.columns)
    log = _Log.of_length(budget, stepper.dense.shape[1], p, n_events)
    while STATUS_OF_CODE[batch.status[0]] is Status.RUNNING:
        began = time.perf_counter()
        n = int(batch.n_steps[0])
        log = log.with_room(n + budget, flow.numerics.max_steps)
        _advance(flow, batch, min(budget, len(log.dense) - n), log)
        if time.perf_counter() - began < 0.1:  # long enough to be efficient, short for Ctrl-C
            budget *= 2
        if progress and progress(float(batch.t[0])):
            break
    n = int(batch.n_steps[0])
    attempts = n + int(batch.n_rejected[0])
    status = STATUS_OF_CODE[batch.status[0]]
    times = flow.by_name(log.events[: n + 1].T)
    return Solution(
        path=DensePath(log.t[: n + 1], log.theta[: n + 1], log.dense[:n]),
        loss=log.loss[: n + 1],
        events={name: row[~np.isnan(row)] for name, row in times.items()},
        status=status,
        reason=mobilities.reason(batch.failed_at[0]) if status is Status.MOBILITY else "",
        n_rejected=int(batch.n_rejected[0]),
        n_evaluations=1 + attempts * (len(stepper.a) - 1),
    )
