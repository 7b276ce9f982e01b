"""The best curriculum for a target, as the landscape predicts it."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cliff.checks import ArgumentError, choice, integer, real
from cliff.curriculum import falls, integrate_schedule, integrate_schedules
from cliff.mobility_law import MEASURED, MobilityLaw
from cliff.network import cost as costs
from cliff.schedule import Schedule
from cliff.task import Task
from cliff.trajectory import Status, Trajectory

Array = NDArray[np.float64]

COSTS = ("time", "tokens", "flops")
MOST_STAGES = 4
RESTARTS = 3
GENERATIONS = 60
MEMBERS = 10
"""Schedules of a generation for each of their free numbers."""
ENOUGH = 0.01
"""A stage more has to save at least this share of the cost."""
LATEST = 1e9
"""Gradient-flow time after which a target is taken as never learned."""


@dataclass(frozen=True)
class Design:
    """A schedule, what it is predicted to cost, and how it was found.

    Attributes
    ----------
    schedule : Schedule
    law : MobilityLaw
    cost : str
        What was minimised.
    designed, plain : dict of str to float
        "time" (gradient-flow time), "tokens" and "flops" (floating-point operations) until the
        target is learned along the schedule, and on the target throughout; infinity if that does
        not learn it by t = 1e9.
    restarts : tuple of float
        The least cost that each restart of the search found with this number of stages.
    n_evaluations : int
        Schedules whose flow was integrated.
    seed : int
        Seed of the search.
    """

    schedule: Schedule
    law: MobilityLaw
    cost: str
    designed: dict[str, float]
    plain: dict[str, float]
    restarts: tuple[float, ...]
    n_evaluations: int
    seed: int

    @property
    def gain(self) -> dict[str, float]:
        """Plain over designed, for each cost; infinity if plain training never learns."""
        return {name: self.plain[name] / self.designed[name] for name in COSTS}

    @property
    def spread(self) -> float:
        """By what share the worst restart is above the best."""
        return max(self.restarts) / min(self.restarts) - 1.0

    def trajectories(self) -> tuple[Trajectory, Trajectory]:
        """The flows along the schedule and on the target throughout, past their transitions.

        Where plain training never learns, its flow goes on ten times as long as the other.
        """
        alone = Schedule([(None, self.schedule.settings[-1])])
        t, whole = self.designed["time"], self.plain["time"]
        return (
            integrate_schedule(self.schedule, 1.5 * t, self.law),
            integrate_schedule(alone, 1.5 * whole if math.isfinite(whole) else 15 * t, self.law),
        )


@dataclass(frozen=True)
class Rates:
    """Cost for each unit of gradient-flow time, as a function of N.

    Attributes
    ----------
    target : Task
    lr : float
        Learning rate, which sets the steps for each unit of time.
    batch : int
        Sequences in a batch.
    width : int
        Units in each layer of the classifier.
    """

    target: Task
    lr: float = 0.1
    batch: int = 128
    width: int = 128

    def of(self, cost: str, pairs: NDArray[Any]) -> Array:
        """The rates at numbers of pairs, in the shape of `pairs`."""
        if cost == "time":
            return np.ones(pairs.shape)
        window = max(self.target.window, 2 * int(pairs.max()) + 1)
        table = np.full(int(pairs.max()) + 1, np.nan)
        for n in np.unique(pairs).tolist():
            labels = max(self.target.n_labels, n)
            task = Task(n, labels, labels, self.target.dim, window=window)
            count = costs.tokens(task, self.batch)
            if cost == "flops":
                count = costs.operations(task, self.batch, self.width)
            table[n] = count / self.lr
        return table[pairs]

    def total(self, cost: str, ends: Array, pairs: NDArray[Any], t: Array) -> Array:
        """Cost until times t (m,) along stages that end at `ends` (m, stages)."""
        reached = np.minimum(np.maximum.accumulate(ends, axis=1), t[:, None])
        reached[:, -1] = t
        durations = np.diff(reached, axis=1, prepend=0.0)
        return (durations * self.of(cost, pairs)).sum(axis=1)


def cost_of(schedule: Schedule, t: float, rates: Rates) -> dict[str, float]:
    """Every cost of a schedule until time t."""
    ends = np.array([schedule.times])
    default = schedule.settings[-1]["n_pairs"]
    pairs = np.array([[setting.get("n_pairs", default) for setting in schedule.settings]])
    return {name: float(rates.total(name, ends, pairs, np.array([t]))[0]) for name in COSTS}


def design_curriculum(
    target: Task | tuple[int, int],
    law: MobilityLaw = MEASURED,
    cost: str = "time",
    *,
    n_stages: int = MOST_STAGES,
    vary_labels: bool = False,
    lr: float = 0.1,
    batch: int = 128,
    seed: int = 0,
    progress: Callable[[float], object] | None = None,
) -> Design:
    """Find the stages and switching times that learn a target at the least predicted cost.

    Parameters
    ----------
    target : Task or (int, int)
        The task to be learned, or its N and L.
    law : MobilityLaw
        How fast the circuits learn.
    cost : {"time", "tokens", "flops"}
        Gradient-flow time; tokens seen; floating-point operations of the transformer's steps.
    n_stages : int
        Most stages, from 2 to 4, the target among them.
    vary_labels : bool
        Let stages have fewer labels than the target too. Networks do not follow the landscape
        there: their softmax keeps all labels (`figures/README.md`, curriculum).
    lr : float
        Learning rate, which sets the steps, and with them tokens and operations, for each unit of
        time.
    batch : int
        Sequences in a batch.
    seed : int
        Seed of the search.
    progress : callable, optional
        Called with the share of the search that is done.

    Returns
    -------
    Design
        The schedule with the fewest stages whose cost is within 1 % of the least.

    Raises
    ------
    ArgumentError
        If an argument is out of range, no schedule that was tried learns the target, or it is a
        task of which the landscape knows nothing: of known classes, or of repeated ones.

    Notes
    -----
    For each number of stages, differential evolution [1]_ runs three times over the pairs and the
    durations of the stages, from 2 pairs to one less than the target, in ascending order. It
    searches all over, but proves nothing: the spread over the restarts says how far they agree.
    The longest stage is as long as plain training; where that never learns, as at L = N, it is as
    long as plain training on 4N labels.

    References
    ----------
    .. [1] R. Storn and K. Price, J. Global Optim. 11, 341 (1997); `scipy.optimize`.
    """
    from scipy.optimize import differential_evolution

    task = target if isinstance(target, Task) else _task(target)
    if task.burstiness > 1 or task.p_novel < 1 or task.labels_drawn != "distinct":
        requirement = "must have novel classes alone, each once in a context, and distinct labels"
        raise ArgumentError("target", task, requirement)
    choice("cost", cost, COSTS)
    n_stages, seed = integer("n_stages", n_stages, 2), integer("seed", seed, 0)
    if n_stages > MOST_STAGES:
        raise ArgumentError("n_stages", n_stages, f"must be at most {MOST_STAGES}")
    size = task.n_pairs, task.n_labels
    if task.n_pairs < 3:
        raise ArgumentError("n_pairs", task.n_pairs, "must be at least 3, to have smaller contexts")
    rates = Rates(task, real("lr", lr, 0.0, exclusive=True), integer("batch", batch, 1))
    alone = Schedule([(None, {"n_pairs": size[0], "n_labels": size[1]})])
    whole = _learned(alone, law)
    plain = cost_of(alone, whole, rates)
    if math.isinf(whole):
        whole = _learned(Schedule([(None, {"n_pairs": size[0], "n_labels": 4 * size[0]})]), law)
    if math.isinf(whole):
        requirement = f"is not learned by plain training by t = {LATEST:g}: no time to search in"
        raise ArgumentError("n_pairs", size[0], requirement)
    counter = 0

    def stages(x: Array, k: int) -> tuple[Array, NDArray[Any], NDArray[Any]]:
        """Ends, pairs and labels (m, k + 1) of the search's numbers (m, 2k or 3k)."""
        ends = np.full((len(x), k + 1), 2.0 * whole)
        ends[:, :k] = np.cumsum(whole * np.exp(x[:, :k]), axis=1)
        pairs = np.full((len(x), k + 1), size[0])
        pairs[:, :k] = np.sort(np.rint(x[:, k : 2 * k]), axis=1)
        labels = np.full((len(x), k + 1), size[1])
        if vary_labels:
            shares = x[:, 2 * k :]
            labels[:, :k] = np.rint(pairs[:, :k] * (size[1] / pairs[:, :k]) ** shares)
        return ends, pairs, labels

    def log_cost(x: Array, k: int) -> Array:
        nonlocal counter
        counter += len(x)
        ends, pairs, labels = stages(x, k)
        t = falls(ends, pairs, labels, law, rtol=1e-3).t_transition
        late = np.isnan(t)
        total = rates.total(cost, ends, pairs, np.where(late, ends[:, -1], t))
        return np.log(total) + np.where(late, 1.0, 0.0)

    def report(share: float) -> None:
        if progress:
            progress(share)

    best: dict[int, list[tuple[float, Array]]] = {}
    for k in range(1, n_stages):
        bounds = (
            [(math.log(1e-3), 0.0)] * k + [(2, size[0] - 1)] * k + [(0.0, 1.0)] * k * vary_labels
        )
        whole_numbers = [False] * k + [True] * k + [False] * k * vary_labels
        best[k] = []
        for restart in range(RESTARTS):
            done = RESTARTS * (k - 1) + restart
            found = differential_evolution(
                lambda x, k=k: log_cost(np.atleast_2d(x.T), k),
                bounds,
                callback=lambda _, convergence, done=done: report(
                    (done + min(convergence, 1.0)) / (RESTARTS * (n_stages - 1))
                ), integrality=whole_numbers, vectorized=True, updating="deferred",
                maxiter=GENERATIONS, popsize=MEMBERS, recombination=0.9, polish=False, tol=1e-4,
                rng=np.random.default_rng([seed, k, restart]),
            )  # fmt: skip
            best[k].append((float(np.exp(found.fun)), found.x))
            report((done + 1) / (RESTARTS * (n_stages - 1)))
    least = min(value for runs in best.values() for value, _ in runs)
    k = min(k for k, runs in best.items() if min(runs, key=_first)[0] <= least * (1.0 + ENOUGH))
    x = min(best[k], key=_first)[1]
    ends, pairs, labels = (array[0].tolist() for array in stages(x[None], k))
    schedule = Schedule(
        [
            *(
                (float(f"{end:.3g}"), {"n_pairs": n} | ({"n_labels": count} if vary_labels else {}))
                for end, n, count in zip(ends[:-1], pairs, labels, strict=False)
            ),
            (None, {"n_pairs": size[0], "n_labels": size[1]}),
        ]
    )
    t = float(integrate_schedules([schedule], 2.0 * whole, law).t_transition[0])
    if math.isnan(t):
        requirement = f"is learned by t = {2.0 * whole:.4g} along none of {counter} schedules"
        raise ArgumentError("n_pairs", size[0], requirement)
    return Design(
        schedule, law, cost, cost_of(schedule, t, rates), plain,
        tuple(value for value, _ in best[k]), counter, seed,
    )  # fmt: skip


def _learned(schedule: Schedule, law: MobilityLaw) -> float:
    """When a schedule's target is learned; infinity if not by `LATEST`."""
    horizon = 1.0
    while horizon <= LATEST:
        found = integrate_schedules([schedule], horizon, law)
        if found.status[0] is Status.EVENT:
            return float(found.t_transition[0])
        horizon *= 10.0
    if found.status[0] is not Status.DONE:
        raise ArgumentError("law", law, f"ends the flow early: {found.status[0]}")
    return math.inf


def _first(found: tuple[float, Array]) -> float:
    return found[0]


def _task(target: tuple[int, int]) -> Task:
    pairs, labels = target
    return Task(pairs, labels, max(512, labels), window=max(65, 2 * pairs + 1))
