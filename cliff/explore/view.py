"""Everything that the explorer shows of a setting, as plain data without a browser."""

from __future__ import annotations

import json
import math
import shlex
import time
from collections.abc import Sequence
from dataclasses import dataclass, field, fields
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from cliff.analysis import Slice, landscape_slice
from cliff.checks import ArgumentError, choice, finite_array, real
from cliff.data import Data
from cliff.flow import integrate
from cliff.nested_logit import NestedLogit
from cliff.plots.flow import smooth_times
from cliff.presentation import valley_name
from cliff.store import damaged, open_dataset
from cliff.trajectory import Status, Trajectory, Transition
from cliff.valleys import BASIN_TOLERANCE, UNDECIDED

if TYPE_CHECKING:
    import os

Array = NDArray[np.float64]

STEP_LIMIT = 2000
"""Accepted steps of a flow; with more of them the curves would lag behind the sliders."""

MOST_WORK = 4096
"""Largest N times the sets of slots of the target's class, above which sliders would lag."""

LABELLED_AT = 1e5
"""Time up to which a flow that is still undecided goes on to find its valley."""

SECONDS = 0.008
"""Time for the losses of a slice, and again for the measures along the flow."""

WINDOW = (-4.0, 8.0)
"""The slice along each of its sides; it grows in steps of 2 for a path that leaves it."""


@dataclass(frozen=True)
class Setting:
    """What the sliders say.

    Attributes
    ----------
    n_pairs, n_labels, positions, label_bias, memory
        As in `NestedLogit`.
    start, mobility : dict of str to float
        By component. A component without an entry starts at 0.01, beta2 at 0, and has the mobility
        1. ``omega`` stands for all memory logits, with the mobility of one class; what the
        landscape lacks is ignored.
    t_end : float
        End of the flow (gradient-flow time).
    plane : tuple of str
        The two components of the slice.
    """

    n_pairs: int = 8
    n_labels: int = 32
    positions: str = "exact"
    label_bias: float | str = 0.0
    memory: Data | None = None
    start: dict[str, float] = field(default_factory=dict)
    mobility: dict[str, float] = field(default_factory=dict)
    t_end: float = 200.0
    plane: tuple[str, str] = NestedLogit.default_slice

    def model(self) -> NestedLogit:
        """The landscape.

        Raises
        ------
        ArgumentError
            As `NestedLogit`, or if its evaluation is too slow to follow a slider.
        """
        model = NestedLogit(
            self.n_pairs, self.n_labels, self.positions, self.label_bias, self.memory
        )
        copies = 1 if self.memory is None else self.memory.copies
        if model.n_pairs * math.comb(model.n_pairs, copies) > MOST_WORK:
            requirement = f"with {copies} copies of a class is too slow to follow a slider"
            raise ArgumentError("n_pairs", model.n_pairs, requirement)
        return model

    def starts(self) -> dict[str, float]:
        """Where each component of theta starts."""
        names = self.model().parameter_names
        return {name: self.start.get(_kind(name), _usual_start(name)) for name in names}

    def mobilities(self) -> list[float]:
        """The mobility of each component of theta; a group of classes has that of one of them
        divided by their number."""
        model = self.model()
        values = [self.mobility.get(_kind(name), 1.0) for name in model.parameter_names]
        if self.memory is not None:
            of_memory = self.memory.group_mobility(values[-model.n_groups :])
            values[-model.n_groups :] = of_memory.tolist()
        return values


def _kind(name: str) -> str:
    """A component, or ``omega`` for all memory logits."""
    return name.partition("_")[0]


def _usual_start(name: str) -> float:
    """Where the command line starts a component."""
    return 0.0 if name == "beta2" else 0.01


@dataclass(frozen=True)
class View:
    """Everything that is shown of a setting.

    Attributes
    ----------
    model : NestedLogit
    t : ndarray, shape (n,)
        Gradient-flow times.
    loss : ndarray, shape (n,)
        Loss along the flow (nats).
    theta : ndarray, shape (n, p)
        The logits along the flow.
    measures : dict of str to ndarray, shape (n,)
    part : Slice
        The loss over `Setting.plane`.
    at_transition : bool
        Whether the logits that the slice holds fixed are those at the transition, not at the end.
    edge : ndarray, shape (n_x,)
        The cliff's edge on the slice, where the loss is 0.9 log N; NaN where there is none.
    path : ndarray, shape (n, 2)
        The flow on the slice.
    transition : Transition
    status : Status
        How the integration ended.
    reason : str
        Why, in words, if it did not reach the end time.
    valley : str
        Name of the valley that the flow ends in, or "undecided".
    t_valley : float
        Time at which that was asked.
    command, code : str
        The command line, and the Python code, that make what is shown.
    """

    model: NestedLogit
    t: Array
    loss: Array
    theta: Array
    measures: dict[str, Array]
    part: Slice
    at_transition: bool
    edge: Array
    path: Array
    transition: Transition
    status: Status
    reason: str
    valley: str
    t_valley: float
    command: str
    code: str

    def lines(self) -> dict[str, str]:
        """What is said of the flow, by the name of what it is."""
        fall = self.transition

        def number(value: float) -> str:
            return "none" if math.isnan(value) else f"{value:.5g}"

        ends = f"{self.valley} (at t = {self.t_valley:g})"
        return {
            "transition": f"{fall.status}",
            "transition time": number(fall.t_transition),
            "width": number(fall.width),
            "abruptness": number(fall.abruptness),
            "valley": ends,
            "loss at the end": f"{self.loss[-1]:.4g} nats",
            "flow": f"{self.status}" + (f": {self.reason}" if self.reason else ""),
        }


def view(setting: Setting) -> View:
    """Compute everything that is shown of a setting, in some milliseconds.

    Raises
    ------
    ArgumentError
        If the setting is no landscape, or one whose evaluation is too slow to follow a slider.
    """
    model = setting.model()
    for name in setting.plane:
        choice("plane", name, model.parameter_names)
    start = finite_array("start", list(setting.starts().values()))
    mobility = setting.mobilities()
    trajectory = integrate(model, start, setting.t_end, mobility, max_steps=STEP_LIMIT)
    resolution, n_times = _budget(model)
    smooth = trajectory.sampled(smooth_times(trajectory, n_times // 2, n_times // 2))
    measures, transition = smooth.measures(), trajectory.transition()
    at_transition = not math.isnan(transition.t_transition)
    held = trajectory.path(transition.t_transition if at_transition else trajectory.path.t[-1])
    columns = [model.parameter_names.index(name) for name in setting.plane]
    path = smooth.theta[:, columns]
    x, y = (np.linspace(*_window(values), resolution) for values in path.T)
    fixed = dict(zip(model.parameter_names, held.tolist(), strict=True))
    part = landscape_slice(model, setting.plane, x, y, fixed)
    valley, t_valley = _valley(trajectory, mobility)
    return View(
        model=model,
        t=smooth.t,
        loss=smooth.loss,
        theta=smooth.theta,
        measures={name: measures[name] for name in model.measure_names},
        part=part,
        at_transition=at_transition,
        edge=part.edge() if model.n_pairs > 1 else np.full(resolution, np.nan),
        path=path,
        transition=transition,
        status=trajectory.status,
        reason="" if trajectory.status is Status.DONE else trajectory.status.explanation,
        valley=valley,
        t_valley=t_valley,
        command=command_of(setting),
        code=code_of(setting),
    )


@lru_cache(maxsize=64)
def _budget(model: NestedLogit) -> tuple[int, int]:
    """Points along a side of the slice, and along the flow, that take `SECONDS` each."""
    theta = np.linspace(0.0, 3.0, 16 * model.n_parameters).reshape(16, -1)

    def points_in_time(evaluate: Any) -> float:
        evaluate(theta)  # may have to compile
        took = []
        for _ in range(3):
            began = time.perf_counter()
            evaluate(theta)
            took.append(time.perf_counter() - began)
        return SECONDS * len(theta) / min(took)

    side = int(math.sqrt(points_in_time(model.loss_and_gradient)))
    along = int(points_in_time(model.measures))
    return min(max(side, 15), 81), min(max(along, 60), 600)


def _window(values: Array) -> tuple[float, float]:
    """The window along a side of the slice, grown in steps of 2 up to the path's ends."""
    low, high = 2.0 * math.floor(values.min() / 2.0), 2.0 * math.ceil(values.max() / 2.0)
    return min(low, WINDOW[0]), max(high, WINDOW[1])


def _valley(trajectory: Trajectory, mobility: Sequence[float]) -> tuple[str, float]:
    """The name of the valley that a flow ends in, and when that was asked."""
    model, t = trajectory.model, float(trajectory.path.t[-1])
    if trajectory.status is not Status.DONE:
        return valley_name(model, UNDECIDED), t
    theta = trajectory.path.theta[-1]
    label = int(model.identify(theta, model.loss(theta), BASIN_TOLERANCE))
    if label == UNDECIDED and t < LABELLED_AT:
        rest = integrate(model, theta, LABELLED_AT - t, mobility, max_steps=STEP_LIMIT)
        if rest.status is Status.DONE:
            theta, t = rest.path.theta[-1], LABELLED_AT
            label = int(model.identify(theta, model.loss(theta), BASIN_TOLERANCE))
    return valley_name(model, label), t


def command_of(setting: Setting) -> str:
    """The command line that makes the same flow."""
    parts = ["cliff", "flow", "--pairs", str(setting.n_pairs), "--labels", str(setting.n_labels)]
    if setting.positions != "exact":
        parts += ["--positions", setting.positions]
    elif setting.label_bias != 0.0:
        parts += ["--label-bias", _short(setting.label_bias)]
    if setting.memory is not None:
        parts += ["--memory", "--classes", str(setting.memory.n_classes)]
        for name, value in _unusual(setting.memory).items():
            if name != "p_bursty" or setting.memory.burstiness:  # without effect at B = 0
                parts += ["--" + name.replace("_", "-"), _short(value)]
    names = setting.model().parameter_names
    of_a_class = {name: setting.mobility.get(_kind(name), 1.0) for name in names}
    for option, values, usual in (
        ("--init", setting.starts(), _usual_start),
        ("--mobility", of_a_class, lambda _: 1.0),
    ):
        moved = [f"{k}={_short(v)}" for k, v in values.items() if v != usual(k)]
        parts += [option, *moved] if moved else []
    return shlex.join([*parts, "--t-end", _short(setting.t_end), "--plot", "flow.png"])


def code_of(setting: Setting) -> str:
    """The Python code that makes the same flow and its picture."""
    arguments = [f"n_pairs={setting.n_pairs}", f"n_labels={setting.n_labels}"]
    if setting.positions != "exact":
        arguments.append(f"positions={json.dumps(setting.positions)}")
    if setting.label_bias != 0.0:
        arguments.append(f"label_bias={json.dumps(setting.label_bias)}")
    if setting.memory is not None:
        data = {"n_classes": setting.memory.n_classes} | _unusual(setting.memory)
        given = ", ".join(f"{name}={json.dumps(value)}" for name, value in data.items())
        arguments.append(f"memory=cliff.Data({given})")
    start = ", ".join(map(_short, setting.starts().values()))
    mobility = ", ".join(map(_short, setting.mobilities()))
    return (
        "import cliff\n\n"
        f"model = cliff.NestedLogit({', '.join(arguments)})\n"
        f"run = cliff.integrate(model, [{start}], t_end={_short(setting.t_end)}, "
        f"mobility=[{mobility}])\n"
        "print(run.transition())\n"
        'cliff.plots.save(cliff.plots.draw(run), "flow.png")\n'
    )


def _unusual(data: Data) -> dict[str, Any]:
    """What of the data is not the default, but for the number of classes."""
    values = {each.name: getattr(data, each.name) for each in fields(Data)}
    usual = {each.name: each.default for each in fields(Data)}
    return {k: v for k, v in values.items() if v != usual[k] and k != "n_classes"}


def _short(value: float | str) -> str:
    """A number as people write it, to the last bit."""
    return value if isinstance(value, str) else repr(float(value)).removesuffix(".0")


@dataclass(frozen=True)
class NetworkRun:
    """The curves of the training runs in one file, to lay over a flow.

    Attributes
    ----------
    name : str
        Of the file.
    n_pairs, n_labels : int
    t : ndarray, shape (n,)
        Learning rate × step.
    loss : ndarray, shape (seeds, n)
        Loss (nats), NaN behind the end of a run.
    logits : dict of str to ndarray, shape (seeds, n)
        Effective logits, as far as the file has them.
    measures : dict of str to ndarray, shape (seeds, n)
        Progress measures.
    """

    name: str
    n_pairs: int
    n_labels: int
    t: Array
    loss: Array
    logits: dict[str, Array]
    measures: dict[str, Array]

    @classmethod
    def read(cls, path: str | os.PathLike[str]) -> NetworkRun:
        """Read a file that ``cliff train --output`` wrote.

        Raises
        ------
        ArgumentError
            If it is none.
        """
        try:
            dataset = open_dataset(path, "run")

            def curves(name: str) -> Array:
                values = np.atleast_2d(dataset[name].transpose(..., "step").values)
                if values.ndim > 2:
                    raise ValueError(f"{name} has {values.ndim} axes")
                return np.where(np.isfinite(values), values, np.nan).astype(np.float64)

            t = dataset["t"]
            if t.dims != ("step",) or not np.isfinite(t).any():
                raise ValueError("t has no times")
            task = json.loads(dataset.attrs["parameters"])["task"]
            logits = {name: curves(name) for name in ("beta1", "alpha", "xi", "beta2", "omega")
                      if name in dataset}  # fmt: skip
            measures = {name: curves(name) for name in ("ila1", "tila2", "tla2", "cla", "icl",
                        "icl_swapped", "iwl") if name in dataset}  # fmt: skip
            return cls(
                Path(path).name,
                int(task["n_pairs"]),
                int(task["n_labels"]),
                t.values.astype(np.float64),
                curves("loss"),
                logits,
                measures,
            )
        except ArgumentError:
            raise
        except (ArithmeticError, LookupError, TypeError, ValueError) as error:
            raise damaged("path", path, error) from error

    def setting(self) -> Setting:
        """A setting of its N and L, with a free label bias, that ends when the run does."""
        t_end = real("t_end", float(np.nanmax(self.t)), 0.0, exclusive=True)
        return Setting(self.n_pairs, self.n_labels, label_bias="free", t_end=t_end)
