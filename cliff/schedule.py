"""Curricula as data: which setting of the task comes when."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from functools import partial
from itertools import pairwise
from numbers import Integral
from pathlib import Path
from typing import Any

from cliff.checks import ArgumentError, choice, real, shorten
from cliff.store import write_atomic
from cliff.task import Task

FORMAT = 1
"""Version of the file layout. A file with a higher number is refused rather than misread."""

FIXED = ("n_classes", "dim", "window", "seed")
"""Parameters of the task that make the network and its world, which no stage can change."""

ROUNDING = 1e-12
"""By how much of it a sum of steps may fall short of a time and still have reached it."""

MEASURES = ("tila2", "accuracy")
"""Measures that an adaptive curriculum can wait for."""

THRESHOLD = 0.5
"""Attention to the correct label, tila2, at which a larger context teaches more than the present
one (`derivations/curriculum.md`)."""

Setting = Mapping[str, Any]
"""Parameters of `Task` by name; those that are left out are the target's."""


@dataclass(frozen=True)
class Schedule:
    """A curriculum: settings of the task, each until a time of its own, and the target at last.

    Parameters
    ----------
    stages : iterable of (float, mapping)
        Pairs of a time (gradient-flow time, learning rate × steps) and the setting that holds until
        then: parameters of `Task` by name. The times increase. The last stage is the target and has
        no end: its time is None or infinity. What a setting leaves out is as in the target.

    Attributes
    ----------
    stages : tuple of (float, tuple of (str, number))
        The same, with the settings as sorted pairs, so that nobody can change them; `settings` has
        them as dicts.

    Raises
    ------
    ArgumentError
        If there is no stage, the times do not increase, a name is none of Task's or cannot change
        along a schedule, or a setting is none that a task can have.

    Examples
    --------
    Two pairs until t = 120, then sixteen:

    >>> schedule = Schedule([(120, {"n_pairs": 2}), (None, {"n_pairs": 16, "n_labels": 64})])
    >>> schedule.stage_at(119.9), schedule.stage_at(120.0)
    (0, 1)
    >>> [task.n_pairs for task in schedule.tasks(Task(16, 64))]
    [2, 16]
    """

    stages: tuple[tuple[float, tuple[tuple[str, Any], ...]], ...]

    def __init__(self, stages: Iterable[tuple[float | None, Setting]]) -> None:
        try:
            pairs = [(until, dict(setting)) for until, setting in stages]
        except (TypeError, ValueError):
            requirement = "must be pairs of a time and a setting, (120, {'n_pairs': 2})"
            raise ArgumentError("stages", stages, requirement) from None
        if not pairs:
            raise ArgumentError("stages", [], "must have at least the target")
        times = [_time(until, number == len(pairs)) for number, (until, _) in enumerate(pairs, 1)]
        for before, after in pairwise(times):
            if after <= before:
                requirement = f"must be later than the end of the stage before, {before:g}"
                raise ArgumentError("stages", f"until {after:g}", requirement)
        checked = _checked([setting for _, setting in pairs])
        object.__setattr__(self, "stages", tuple(zip(times, checked, strict=True)))

    def __repr__(self) -> str:
        return f"Schedule({[(until, dict(setting)) for until, setting in self.stages]})"

    @property
    def times(self) -> tuple[float, ...]:
        """When each stage ends (gradient-flow time); the last is infinity."""
        return tuple(until for until, _ in self.stages)

    @property
    def settings(self) -> list[dict[str, Any]]:
        """The setting of each stage."""
        return [dict(setting) for _, setting in self.stages]

    def stage_at(self, t: float) -> int:
        """Number, from 0, of the stage at a time; at the end of a stage it is the next one."""
        return sum(t >= until * (1.0 - ROUNDING) for until in self.times)

    def tasks(self, target: Task) -> list[Task]:
        """The task of each stage, where the last one is `target`.

        Raises
        ------
        ArgumentError
            If the schedule leads to another task, changes nothing, or a stage does not fit into the
            window.
        """
        return _tasks(self.settings, target)

    def check_reached(self, lr: float, n_steps: int) -> None:
        """Raise ArgumentError unless the last of `n_steps` updates is on the target."""
        if len(self.stages) > 1 and self.stage_at(lr * (n_steps - 1)) < len(self.stages) - 1:
            begin = f"before an update of the target, which begins at t = {self.times[-2]:g}"
            raise ArgumentError("n_steps", n_steps, f"ends at t = {lr * n_steps:g}, {begin}")

    def data(self) -> list[dict[str, Any]]:
        """The stages as JSON can hold them: the last time is None."""
        return [
            {"until": until if math.isfinite(until) else None, "setting": dict(setting)}
            for until, setting in self.stages
        ]

    def save(self, path: str | os.PathLike[str], **about: Any) -> Path:
        """Write a JSON file, atomically, with further entries that say what made it."""
        content = {"cliff_schedule": FORMAT, "stages": self.data(), **about}
        text = json.dumps(content, indent=1, allow_nan=False) + "\n"
        return write_atomic(path, lambda file: file.write(text.encode()))

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Schedule:
        """Read a file that `save` wrote.

        Raises
        ------
        ArgumentError
            If the file is missing, is no schedule or of a newer format, or its stages are refused.
        """
        try:
            content = json.loads(Path(path).read_text(encoding="utf-8"))
            version = content["cliff_schedule"]
            stages = [(stage["until"], stage["setting"]) for stage in content["stages"]]
        except OSError as error:
            raise ArgumentError("path", str(path), f"cannot be read: {error.strerror}") from None
        except (ValueError, KeyError, TypeError, RecursionError):  # no text, no JSON, or another's
            version = None
        if type(version) is not int or version < 1:  # True is no version either
            raise ArgumentError("path", str(path), "is no schedule: see cliff curriculum")
        if version > FORMAT:
            raise ArgumentError(
                "path", str(path), "was written by a newer version of cliff: upgrade to read it"
            )
        return cls(stages)


@dataclass(frozen=True)
class Adaptive:
    """A curriculum without times: each stage ends when the network has learned enough of it.

    At every evaluation a measure is taken on held-out sequences of the present stage. Once it is at
    least the threshold, the next stage begins.

    Parameters
    ----------
    stages : iterable of mapping
        Settings as in `Schedule`, the target at last.
    measure : {"tila2", "accuracy"}
        Attention of the target to the correct label, or share of right answers.
    threshold : float, optional
        Between 0 and 1. By default ½ for tila2, as the landscape suggests. Accuracy needs one,
        since on the landscape it is a step.

    Raises
    ------
    ArgumentError
        As `Schedule`, or if the measure is unknown or the threshold out of range.
    """

    stages: tuple[tuple[tuple[str, Any], ...], ...]
    measure: str
    threshold: float

    def __init__(
        self,
        stages: Iterable[Setting],
        measure: str = "tila2",
        threshold: float | None = None,
    ) -> None:
        try:
            settings = [dict(stage) for stage in stages]
        except (TypeError, ValueError):
            requirement = "must be settings, {'n_pairs': 2}"
            raise ArgumentError("stages", stages, requirement) from None
        if not settings:
            raise ArgumentError("stages", [], "must have at least the target")
        object.__setattr__(self, "stages", tuple(_checked(settings)))
        object.__setattr__(self, "measure", choice("measure", measure, MEASURES))
        if threshold is None:
            if measure != "tila2":
                raise ArgumentError("threshold", None, f"must be given for {measure}")
            threshold = THRESHOLD
        least = real("threshold", threshold, 0.0, 1.0, exclusive=True)
        object.__setattr__(self, "threshold", least)

    @classmethod
    def doubling(cls, target: Task, **options: Any) -> Adaptive:
        """Two classes in the context, four, eight, and so on up to the target's.

        Raises
        ------
        ArgumentError
            If the target has no more than two classes in a context.

        Examples
        --------
        >>> [dict(stage)["n_pairs"] for stage in Adaptive.doubling(Task(12, 48)).stages]
        [2, 4, 8, 12]
        """
        counts = [2]
        while 2 * counts[-1] < target.n_distinct:
            counts.append(2 * counts[-1])
        if target.n_distinct <= 2:
            raise ArgumentError(
                "n_pairs", target.n_pairs, "leaves no smaller context to begin with"
            )
        settings = [{"n_pairs": count * target.copies} for count in counts]
        return cls([*settings, {"n_pairs": target.n_pairs}], **options)

    def tasks(self, target: Task) -> list[Task]:
        """As `Schedule.tasks`."""
        return _tasks([dict(stage) for stage in self.stages], target)

    def data(self) -> dict[str, Any]:
        """The curriculum as JSON can hold it."""
        stages = [dict(stage) for stage in self.stages]
        return {"stages": stages, "measure": self.measure, "threshold": self.threshold}


Curriculum = Schedule | Adaptive


def _time(until: object, is_last: bool) -> float:
    """The end of a stage as a float."""
    if is_last:
        if until is not None and until != math.inf:
            requirement = "must be None: the last stage is the target, which goes on to the end"
            raise ArgumentError("stages", f"until {shorten(until)}", requirement)
        return math.inf
    try:
        return real("until", until, 0.0, exclusive=True)
    except ArgumentError as error:
        raise ArgumentError("stages", f"until {shorten(until)}", error.requirement) from None


def _checked(settings: Sequence[dict[str, Any]]) -> list[tuple[tuple[str, Any], ...]]:
    """The settings as sorted pairs, if a task can have each of them."""
    known = [entry.name for entry in fields(Task) if entry.name not in FIXED]
    checked = []
    for number, setting in enumerate(settings, 1):
        for name in setting:
            if name not in known:
                requirement = "must be one of " + ", ".join(known)
                raise ArgumentError("stages", f"stage {number} ({name})", requirement)
        merged = settings[-1] | setting
        pairs = _whole(merged.get("n_pairs"), max(1, _whole(merged.get("burstiness"), 1)))
        labels = _whole(merged.get("n_labels"), max(2, pairs))
        # whatever the target has of what no setting names, it is not what is wrong here
        fitting = {"n_pairs": pairs, "n_labels": labels, "n_classes": max(2, labels)}
        merged = {**fitting, "window": 2 * pairs + 1, **merged}
        task = _made(number, "stages", Task, merged)
        checked.append(tuple((name, getattr(task, name)) for name in sorted(setting)))
    return checked


def _whole(value: object, default: int) -> int:
    return int(value) if isinstance(value, Integral) else default


def _tasks(settings: Sequence[Setting], target: Task) -> list[Task]:
    """The task of each stage; ArgumentError unless the last one is `target`."""
    for name, value in settings[-1].items():
        if value != getattr(target, name):
            requirement = f"must be the task itself, whose {name} is {getattr(target, name)}"
            raise ArgumentError("curriculum", f"the last stage ({name}={value})", requirement)
    tasks = []
    for number, setting in enumerate(settings, 1):
        task = _made(number, "curriculum", partial(replace, target), setting)
        idle = sorted(setting.keys() & set(task.without_effect("train")))
        if idle and number < len(settings):
            value = f"stage {number} ({idle[0]}={setting[idle[0]]})"
            raise ArgumentError("curriculum", value, "has no effect on what is trained")
        value = f"stage {number} (n_labels={task.n_labels})"
        if task.n_labels > target.n_labels:
            requirement = f"must be at most {target.n_labels}, the labels of the network"
            raise ArgumentError("curriculum", value, requirement)
        if task.n_labels < target.n_labels and task.p_novel < 1:
            requirement = f"must be {target.n_labels} where known classes are drawn: p_novel < 1"
            raise ArgumentError("curriculum", value, requirement)
        tasks.append(task)
    if all(task == target for task in tasks):
        raise ArgumentError("curriculum", settings, "must have a stage that is not the target")
    return tasks


def _made(number: int, argument: str, make: Any, values: Setting) -> Task:
    """A task, or an error that names the stage."""
    try:
        task: Task = make(**values)
    except ArgumentError as error:
        value = f"stage {number} ({error.argument}={error.value})"
        raise ArgumentError(argument, value, error.requirement) from None
    return task
