"""Flows on landscapes, d theta_i/dt = −M_i ∂loss/∂theta_i by default, one trajectory or many."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import lru_cache
from itertools import accumulate
from typing import Any, TypeVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

from cliff.checks import ArgumentError, choice, finite_array, integer
from cliff.kernels.integrate import COLUMNS, integrate_batch
from cliff.mobility import UNIT_MOBILITIES, Mobilities, Mobility
from cliff.parallel import in_parallel
from cliff.protocol import FALL, LEVELS, LandscapeLike, event_names
from cliff.rules import Gradient, Langevin, Rule, check_rule
from cliff.steppers import METHODS, STEPPERS, Numerics, Stepper
from cliff.trajectory import DensePath, Ensemble, Solution, Status, Trajectory, within

Array = NDArray[np.float64]
T = TypeVar("T")

STATUS_OF_CODE = tuple(Status)  # in the order of the kernel's codes

RULE = Gradient()
"""The default rule."""

NO_RECORD = np.empty((0, 0))
"""A record of no steps."""


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
    batch = _Batch.at(flow, starts, rows, _levels(model, rows))

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
        part = batch[start:stop]
        flow.advance(part, int(costs[order[start]]), side_by_side=side_by_side)

    in_parallel(work, ranges, workers, progress)
    batch = batch[np.argsort(order, kind="stable")]
    column = batch.column
    n_steps, n_rejected, status = (
        column(name)[:, 0].astype(np.int64) for name in ("n_steps", "n_rejected", "status")
    )
    failed = np.flatnonzero(status == STATUS_OF_CODE.index(Status.MOBILITY))[:1]
    at = column("failed_at")
    reasons = [f"trajectory {i}: {mobilities.reason(at[i], i)}" for i in failed]
    events = {name: column("events")[:, i] for name, i in _events(model).items()}
    begin, middle, end = (events.get(name, np.full(m, np.nan)) for name in FALL)
    return Ensemble(
        model=model,
        constants={k: _column(varied.get(k, v), m) for k, v in model.constants.items()},
        theta0=starts,
        theta=column("state")[:, : model.n_parameters],
        t=column("t")[:, 0],
        loss=column("loss")[:, 0] if model.has_loss else np.full(m, np.nan),
        events=events,
        t_transition=middle,
        width=end - begin,
        n_steps=n_steps,
        n_rejected=n_rejected,
        status=status.astype(np.int8),
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
            choice("until", until, tuple(_events(mobilities.model)))
        return cls(mobilities, numerics, check_rule(rule, numerics.method), until)

    @property
    def settings(self) -> dict[str, Any]:
        """Mobility, method, limits and rule, as they are written to a file."""
        until = {} if self.until is None else {"until": self.until}
        return self.mobilities.settings | vars(self.numerics) | self.rule.settings() | until

    @property
    def stepper(self) -> Stepper:
        return STEPPERS[self.numerics.method]

    def advance(
        self,
        batch: _Batch,
        n_work: int,
        budget: int = np.iinfo(np.int64).max,
        record: Array = NO_RECORD,
        side_by_side: bool = False,
    ) -> None:
        """Advance trajectories by at most `budget` attempted steps.

        `n_work` is the scratch that the landscape needs for any of them.
        """
        mobilities, numerics, rule, stepper = (
            self.mobilities,
            self.numerics,
            self.rule,
            self.stepper,
        )
        model = mobilities.model
        until = -1 if self.until is None else _events(model)[self.until]
        pack_address = model.pack_address if side_by_side else 0
        sizes, n_own = (model.n_parameters, model.n_out), len(model.event_names)
        seed = rule.seed if isinstance(rule, Langevin) else 0
        limits = numerics.rtol, numerics.atol, numerics.t_end, numerics.max_steps
        integrate_batch(
            side_by_side,
            (model.address, pack_address, *sizes, n_work, mobilities.address, n_own),
            (rule.code, seed, *rule.numbers, *(0.0,) * (3 - len(rule.numbers))),
            (stepper.tableau, *stepper.dense.shape, stepper.order, numerics.step or 0.0),
            (*limits, budget, until),
            batch.rows,
            batch.edges,
            record,
        )


def _kept(function: Callable[[LandscapeLike], T]) -> Callable[[LandscapeLike], T]:
    """Keep what depends on the landscape alone, for the sake of many short flows on one."""
    return lru_cache(maxsize=64)(function)  # type: ignore[return-value]


@_kept
def _events(model: LandscapeLike) -> dict[str, int]:
    """Names of the events, and the column of each in the compiled loop: of one name the last."""
    columns = {name: i for i, name in enumerate((*FALL, *model.event_names))}
    return {name: columns[name] for name in event_names(model)}


@_kept
def _constants(model: LandscapeLike) -> tuple[Array, Array, int]:
    """The landscape's own constants (1, C), levels (1, 3), and scratch."""
    constants = model.constants_row[None]
    return constants, _levels(model, constants), int(model.n_work(constants)[0])


def _levels(model: LandscapeLike, constants: Array) -> Array:
    """Losses whose falls are the built-in events, (m, 3) for rows of constants (m, C)."""
    return model.plateaus(constants)[:, None] * LEVELS


@dataclass(frozen=True)
class _Batch:
    """m trajectories under way: what the compiled loop reads and writes of each stands in a row.

    Attributes
    ----------
    rows : ndarray, shape (m, …)
        The columns `COLUMNS`.
    edges : tuple of int
        Where the columns begin, and where the last one ends.
    """

    rows: Array
    edges: tuple[int, ...]

    @classmethod
    def at(cls, flow: _Flow, starts: Array, constants: Array, levels: Array) -> _Batch:
        """Trajectories at their starts (m, p), each with its row of constants and of levels."""
        mobilities, (m, p) = flow.mobilities, starts.shape
        given = constants, mobilities.constants, mobilities.arguments, levels, starts
        *widths, _ = [values.shape[1] for values in given]
        n_events = len(FALL) + len(mobilities.model.event_names)
        more = p * flow.rule.copies, *(1,) * 7, n_events, p
        edges = tuple(accumulate((*widths, *more), initial=0))
        rows = np.zeros((m, edges[-1]))
        for begin, values in zip(edges, given, strict=False):
            rows[:, begin : begin + values.shape[1]] = values
        rows[:, edges[COLUMNS.index("events")] :] = np.nan
        rows[:, edges[COLUMNS.index("number")]] = np.arange(m)
        return cls(rows, edges)

    def column(self, name: str) -> Array:
        """A column of `rows`, shape (m, …)."""
        i = COLUMNS.index(name)
        return self.rows[:, self.edges[i] : self.edges[i + 1]]

    def __getitem__(self, index: Any) -> _Batch:
        return _Batch(self.rows[index], self.edges)


def _with_room(record: Array, steps: int, most: int) -> Array:
    """The record, or one for at least twice the steps, at most `most`, that begins with it."""
    length = len(record) - 1
    if length >= min(steps, most):
        return record
    longer = np.empty((1 + min(max(steps, 2 * length), most), record.shape[1]))
    longer[: len(record)] = record
    return longer


def _integrate_compiled(
    flow: _Flow, start: Array, progress: Callable[[float], object] | None
) -> Solution:
    """One trajectory from start (p,) with a compiled method, whose steps are all kept."""
    mobilities, model, numerics = flow.mobilities, flow.mobilities.model, flow.numerics
    constants, levels, cost = _constants(model)
    batch = _Batch.at(flow, start[None], constants, levels)
    budget = max(1, min(1000, 2**21 // max(cost, 1)))  # attempted steps between two reports
    (stages, degree), p = flow.stepper.dense.shape, model.n_parameters
    path = (
        2 + p + len(FALL) + len(model.event_names)
    )  # the column of the record where its coefficients begin
    record, n, status = np.empty((budget + 1, path + p * degree)), 0, Status.RUNNING
    while status is Status.RUNNING:
        began = time.perf_counter()
        record = _with_room(record, n + budget, numerics.max_steps)
        flow.advance(batch, cost, min(budget, len(record) - 1 - n), record)
        n, n_rejected, code = map(int, batch.rows[0, batch.edges[9] : batch.edges[12]].tolist())
        status = STATUS_OF_CODE[code]
        if time.perf_counter() - began < 0.1:  # long enough to be efficient, short for Ctrl-C
            budget *= 2
        if progress and progress(record[n, 0].item()):
            break
    record = record[: n + 1]
    # copies whose rows are contiguous, which is several times as fast to work with
    times, coefficients = record[:, 2 + p : path].T.copy(), record[1:, path:].copy()
    happened = ~np.isnan(times)
    failed = status is Status.MOBILITY
    return Solution(
        path=DensePath(record[:, 0], record[:, 2 : 2 + p], coefficients.reshape(n, p, degree)),
        loss=record[:, 1],
        events={name: times[i][happened[i]] for name, i in _events(model).items()},
        status=status,
        reason=mobilities.reason(batch.column("failed_at")[0]) if failed else "",
        n_rejected=n_rejected,
        n_evaluations=1 + (n + n_rejected) * (stages - 1),
    )
