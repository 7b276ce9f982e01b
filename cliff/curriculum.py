"""Flows along curricula, and the best curriculum for a target, as the landscape predicts it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from cliff.checks import ArgumentError, real
from cliff.flow import integrate, integrate_ensemble
from cliff.kernels import curriculum as kernels
from cliff.mobility_law import MEASURED, MobilityLaw, mobility
from cliff.nested_logit import NestedLogit
from cliff.schedule import Schedule
from cliff.trajectory import DensePath, Status, Trajectory

Array = NDArray[np.float64]
Integers = NDArray[np.int64]

DONE, EVENT = (list(Status).index(status) for status in (Status.DONE, Status.EVENT))


@dataclass(frozen=True)
class _Stage(NestedLogit):
    """The landscape of a stage, with the loss, and so the fall, of the target."""

    target_pairs: int = 8
    target_labels: int = 32

    @property
    def target(self) -> NestedLogit:
        return NestedLogit(self.target_pairs, self.target_labels, label_bias=self.label_bias)

    @property
    def constants_row(self) -> Array:
        return self.constants_rows({}, 1)[0]

    def constants_rows(self, values: Mapping[str, ArrayLike], m: int) -> Array:
        row = self.target.constants_row
        head = np.concatenate([[float(super().address), float(len(row))], row])
        own = NestedLogit(self.n_pairs, self.n_labels, label_bias=self.label_bias)
        return np.hstack([np.tile(head, (m, 1)), own.constants_rows(values, m)])

    def with_constants(self, **values: Any) -> _Stage:
        return replace(self, **values)

    @property
    def plateau(self) -> float:
        return self.target.plateau

    def plateaus(self, rows: Array) -> Array:
        return np.full(len(rows), self.plateau)

    @property
    def address(self) -> int:
        return kernels.stage_address()

    def n_work(self, rows: Array) -> Integers:
        target, own = rows[:, 2:], rows[:, 2 + int(rows[0, 1]) :]
        return kernels.N_OUT + np.maximum(super().n_work(target), super().n_work(own))


def _stage(size: tuple[int, int], target: tuple[int, int]) -> _Stage:
    """The landscape of four logits for a stage (N, L) on the way to a target (N, L)."""
    pairs, labels = target
    return _Stage(*size, label_bias="free", target_pairs=pairs, target_labels=labels)


class Falls(NamedTuple):
    """When the target is learned along each of m schedules.

    Attributes
    ----------
    t_transition : ndarray, shape (m,)
        First time (gradient-flow time) at which the target's loss is at most ½ log N; NaN if there
        is none.
    stage : ndarray of int, shape (m,)
        Stage of that time, from 0; −1 if there is none.
    status : list of Status
        "event reached" if the target is learned, "done" if the flow came to its end before, else
        why it failed.
    """

    t_transition: Array
    stage: Integers
    status: list[Status]


def integrate_schedule(
    schedule: Schedule, t_end: float, law: MobilityLaw = MEASURED, theta0: ArrayLike = (0, 0, 0, 0)
) -> Trajectory:
    """Gradient flow along a schedule: theta goes on, the landscape and the mobilities change.

    Parameters
    ----------
    schedule : Schedule
        Its settings name nothing but n_pairs and n_labels, and the last one both.
    t_end : float
        Last time (gradient-flow time).
    law : MobilityLaw
        Mobilities at every N and L.
    theta0 : array_like, shape (4,)
        Start.

    Returns
    -------
    Trajectory
        On the landscape of the target, whose loss it has all the way: its `transition` says when
        the target is learned, whichever stage is on. Its settings hold schedule and law.

    Raises
    ------
    ArgumentError
        If an argument is out of range, or the schedule changes what the landscape does not have.

    Examples
    --------
    >>> late = Schedule([(120, {"n_pairs": 2}), (None, {"n_pairs": 16, "n_labels": 64})])
    >>> round(integrate_schedule(late, 400.0).transition().t_transition)
    169
    """
    t_end = real("t_end", t_end, 0.0, exclusive=True)
    sizes = _sizes(schedule)
    target = NestedLogit(*sizes[-1], label_bias="free")
    begin, theta, parts = 0.0, theta0, list[Trajectory]()
    for until, (pairs, labels) in zip(schedule.times, sizes, strict=True):
        end = min(until, t_end)
        model = _stage((pairs, labels), sizes[-1])
        part = integrate(
            model, theta, end - begin, mobility, mobility_args=law.arguments(pairs, labels)
        )
        path = DensePath(begin + part.path.t, part.path.theta, part.path.coefficients)
        # what holds as a stage begins has happened in the one before
        events = {
            name: begin + t[t > 0.0 if parts else t >= 0.0] for name, t in part.events.items()
        }
        parts.append(replace(part, t=path.t, path=path, events=events))
        begin, theta = end, part.theta[-1]
        if end == t_end or part.status is not Status.DONE:
            break

    def joined(values: Sequence[NDArray[Any]]) -> NDArray[Any]:
        return np.concatenate([values[0], *(each[1:] for each in values[1:])])

    t, theta = joined([part.t for part in parts]), joined([part.theta for part in parts])
    coefficients = np.concatenate([part.path.coefficients for part in parts])
    about = {"schedule": schedule.data(), "law": law.constants(), "network": law.network}
    # each stage had arguments of its own, which follow from the law
    common = {name: each for name, each in parts[0].settings.items() if name != "mobility_args"}
    return replace(
        parts[-1],
        model=target,
        t=t,
        theta=theta,
        loss=joined([part.loss for part in parts]),
        path=DensePath(t, theta, coefficients),
        events={
            name: np.concatenate([part.events[name] for part in parts]) for name in parts[0].events
        },
        n_steps=sum(part.n_steps for part in parts),
        n_rejected=sum(part.n_rejected for part in parts),
        n_evaluations=sum(part.n_evaluations for part in parts),
        settings={**common, "t_end": t_end, **about},
    )


def integrate_schedules(
    schedules: Sequence[Schedule], t_end: float, law: MobilityLaw = MEASURED
) -> Falls:
    """When the target is learned along each of many schedules of one target, on all cores.

    Parameters, errors and start are those of `integrate_schedule`.
    """
    t_end = real("t_end", t_end, 0.0, exclusive=True)
    sizes = [_sizes(schedule) for schedule in schedules]
    if len({each[-1] for each in sizes}) > 1:
        raise ArgumentError("schedules", [each[-1] for each in sizes], "must have one target")
    longest = max((len(each) for each in sizes), default=1)
    shape = len(sizes), longest
    ends, counts = np.full(shape, t_end), np.empty((*shape, 2), np.int64)
    for row, (schedule, each) in enumerate(zip(schedules, sizes, strict=True)):
        ends[row, : len(each)] = np.minimum(schedule.times, t_end)
        counts[row] = [*each, *[each[-1]] * (longest - len(each))]
    return falls(ends, counts[..., 0], counts[..., 1], law)


def falls(
    ends: Array, pairs: Integers, labels: Integers, law: MobilityLaw, rtol: float = 1e-6
) -> Falls:
    """`integrate_schedules` for stages as arrays of shape (m, stages), the target at last.

    A stage that ends no later than the one before is left out.
    """
    m = len(ends)
    theta, begin = np.zeros((m, 4)), np.zeros(m)
    t_transition, stage = np.full(m, np.nan), np.full(m, -1)
    status = np.full(m, DONE, np.int64)
    for number in range(ends.shape[1]):
        duration = ends[:, number] - begin
        chosen = np.flatnonzero((status == DONE) & (duration > 0.0))
        if not chosen.size:
            continue
        n, count = pairs[chosen, number], labels[chosen, number]
        # a flow for a time d is the flow for a time 1 with mobilities d times as large
        arguments = np.column_stack(np.broadcast_arrays(*law.arguments(n, count)))
        target = int(pairs[0, -1]), int(labels[0, -1])
        part = integrate_ensemble(
            _stage(target, target), theta[chosen], 1.0, mobility,
            rtol=rtol, atol=1e-3 * rtol, until="fall",
            mobility_args=arguments * duration[chosen, None],
            constants={"n_pairs": n, "n_labels": count},
        )  # fmt: skip
        theta[chosen], status[chosen] = part.theta, part.status
        fell = part.status == EVENT
        stage[chosen[fell]] = number
        t_transition[chosen] = begin[chosen] + duration[chosen] * part.t_transition
        begin = np.maximum(begin, ends[:, number])
    return Falls(t_transition, stage, [list(Status)[code] for code in status])


def _sizes(schedule: Schedule) -> list[tuple[int, int]]:
    """(N, L) of each stage."""
    settings = schedule.settings
    names = {"n_pairs", "n_labels"}
    for number, setting in enumerate(settings, 1):
        if odd := sorted(setting.keys() - names):
            value = f"stage {number} ({', '.join(odd)})"
            raise ArgumentError("schedule", value, "the landscape has n_pairs and n_labels only")
    if missing := sorted(names - settings[-1].keys()):
        raise ArgumentError("schedule", "the last stage", f"must name {' and '.join(missing)}")
    merged = [settings[-1] | setting for setting in settings]
    if merged[-1]["n_pairs"] == 1:
        raise ArgumentError("schedule", "the last stage (n_pairs=1)", "has nothing to fall")
    return [(each["n_pairs"], each["n_labels"]) for each in merged]
