"""Mobilities of a trained transformer that can also learn its classes by heart.

`cliff.mobility_law` knows the four circuits. Here the weights answer, too: each group of classes
has a memory logit, and the classifier's layers, which read context and memory alike, are learned
through both of them.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from cliff.checks import ArgumentError
from cliff.data import Data
from cliff.flow import integrate
from cliff.mobility_law import each_seed
from cliff.nested_logit import NestedLogit
from cliff.network.logits import LOGITS
from cliff.task import Task
from cliff.trajectory import Trajectory

if TYPE_CHECKING:
    import xarray as xr

Array = NDArray[np.float64]

CONSTANTS = (
    "beta1", "alpha", "beta2", "xi_start", "xi_growth", "limit", "limit_growth",
    "memory_start", "memory_context", "memory_growth", "memory_curvature",
)  # fmt: skip
LABEL_GAIN = math.sqrt(128 / 63)
"""Norm of a label vector behind V2, against that of an item: √(W/D) of the usual network."""

WEIGHT = 0.05
"""Weight of a match's distance from its guess, for directions that no record decides."""

SLOW = 1 / 3
"""Records count in a match while the loss exceeds this multiple of log N."""


def mobility(  # type: ignore[no-untyped-def]
    theta, beta1, alpha, beta2, xi_start, xi_growth, limit, limit_growth, start, context, growth,
    curvature, *groups
):  # fmt: skip
    """Mobilities at theta (beta1, alpha, xi, beta2, omega_1 …); `integrate` compiles this.

    The arguments are those of `MemoryLaw.arguments`.
    """
    n_groups = len(theta) - 4
    xi, memory = abs(theta[2]), 0.0
    for c in range(n_groups):
        memory += groups[c] * abs(theta[4 + c])
    bound = limit * (1.0 + limit_growth * memory)
    free = xi_start + xi_growth * (xi + LABEL_GAIN * memory)
    depth = context * xi / (1.0 + xi) + memory
    learned = start + growth * depth + curvature * depth * depth
    speeds = np.empty(4 + n_groups)
    speeds[0], speeds[1], speeds[3] = beta1, alpha, beta2
    speeds[2] = free * bound / (free + bound)
    for c in range(n_groups):
        speeds[4 + c] = learned * bound / (learned + groups[n_groups + c] * bound)
    return speeds


@dataclass(frozen=True)
class MemoryLaw:
    """Mobilities of the circuits and of the memories of a transformer.

    With the mean memory w = Σ_c F_c |omega_c| over the sequences, rho = 1/(1 + noise²), and the
    gain g = √(W/D) of `LABEL_GAIN`::

        M_beta1 = beta1        M_alpha = alpha        M_beta2 = beta2 / (2N + 1)
        bound = limit (1 + limit_growth w)
        1 / M_xi    = L / (xi_start + xi_growth (|xi| + g w)) + 1 / bound
        1 / M_omega = K_c / (rho (memory_start + memory_growth v + memory_curvature v²)) + 1 / bound
        v = memory_context |xi| / (1 + |xi|) + w

    A class is seen in a share of the sequences, which the landscape's force holds; the K_c classes
    of a group share that force, so that its mobility is that of one class over K_c. Its memory is
    a product of layers, and so is xi; the upper ones they share, so that what has grown of one
    makes both faster. Items of a class overlap by rho, which is all that one sequence can teach
    about the next. No memory is learned faster than the features that all labels share.

    Attributes
    ----------
    beta1, alpha, beta2, xi_start, xi_growth, limit, limit_growth, memory_start, memory_context,
    memory_growth, memory_curvature : float
        Constants; logit squared per nat and gradient-flow time, the two growths of memory and that
        of the limit per logit, the curvature per squared logit; `memory_context` is a logit.
    """

    beta1: float
    alpha: float
    beta2: float
    xi_start: float
    xi_growth: float
    limit: float
    limit_growth: float
    memory_start: float
    memory_context: float
    memory_growth: float
    memory_curvature: float

    def arguments(self, model: NestedLogit) -> tuple[float, ...]:
        """Arguments of `mobility` after theta for one landscape with memory."""
        data = memory_of(model)
        rho = 1.0 / (1.0 + data.noise**2)
        labels = model.n_labels
        return (
            self.beta1, self.alpha, self.beta2 / (2 * model.n_pairs + 1),
            self.xi_start / labels, self.xi_growth / labels, self.limit, self.limit_growth,
            rho * self.memory_start, self.memory_context, rho * self.memory_growth,
            rho * self.memory_curvature,
            *data.group_shares.tolist(), *data.group_sizes.tolist(),
        )  # fmt: skip

    def flow(self, model: NestedLogit, t_end: float, **options: Any) -> Trajectory:
        """Gradient flow from the origin under these mobilities; options as of `cliff.integrate`."""
        arguments = self.arguments(model)
        origin = np.zeros(model.n_parameters)
        return integrate(
            model, origin, t_end, mobility=mobility, mobility_args=arguments, **options
        )

    def constants(self) -> dict[str, float]:
        """The constants by name."""
        return {name: getattr(self, name) for name in CONSTANTS}


def memory_of(model: NestedLogit) -> Data:
    """The data of a landscape on which these laws hold.

    Raises
    ------
    ArgumentError
        If it has no memory, or its label bias is not free.
    """
    if model.memory is None or model.label_bias != "free":
        raise ArgumentError("model", model, "must have memory and a free label bias")
    return model.memory


def landscape_of(task: Task) -> NestedLogit:
    """The landscape with memory and a free label bias that a task's networks descend."""
    return NestedLogit(task.n_pairs, task.n_labels, label_bias="free", memory=Data.of(task))


class MemoryCurves(NamedTuple):
    """The recorded curves of one training run with memory.

    Attributes
    ----------
    model : NestedLogit
        The landscape of its task.
    seed : int
    t : ndarray, shape (n,)
        Gradient-flow time, learning rate × step.
    theta : ndarray, shape (n, 4 + C)
        Effective logits and memory logits.
    loss : ndarray, shape (n,)
        Loss (nats).
    """

    model: NestedLogit
    seed: int
    t: Array
    theta: Array
    loss: Array

    def slow(self) -> NDArray[np.bool_]:
        """Records that count in a match: all but the first, before the loss has fallen, (n,)."""
        above = self.loss > SLOW * math.log(self.model.n_pairs)
        chosen = np.logical_and.accumulate(above)
        chosen[0] = False
        return chosen


def memory_curves_of(run: xr.Dataset) -> list[MemoryCurves]:
    """The curves of a training run whose sequences are not all novel, or of several side by side.

    Raises
    ------
    ArgumentError
        If the run has not recorded its memory, or is not finite.
    """
    model = landscape_of(Task(**json.loads(run.attrs["parameters"])["task"]))
    names = (*LOGITS, *model.parameter_names[4:])
    if missing := [name for name in (*names, "loss", "t") if name not in run]:
        raise ArgumentError("run", ", ".join(missing), "must be among what the run has recorded")
    found = []
    for one in each_seed(run):
        theta = np.stack([one[name].values for name in names], axis=1).astype(np.float64)
        t, loss = one.t.values.astype(np.float64), one.loss.values.astype(np.float64)
        if len(t) < 4 or not (np.isfinite(theta).all() and (np.diff(t) > 0).all()):
            raise ArgumentError("run", one.seed.item(), "must have four finite records in time")
        found.append(MemoryCurves(model, one.seed.item(), t, theta, loss))
    return found


def match_memory(runs: Sequence[MemoryCurves]) -> MemoryLaw:
    """Measure a `MemoryLaw` by regressing the runs' velocities on the landscape's gradient.

    Parameters
    ----------
    runs : sequence of MemoryCurves
        Of one group of classes (a Zipf exponent of 0).

    Returns
    -------
    MemoryLaw

    Raises
    ------
    ArgumentError
        If a run has several groups, or too few records before its loss falls.

    Notes
    -----
    M_beta1, M_alpha and M_beta2 are least squares through the origin. The constants of M_xi and
    M_omega minimise the squared error of their logarithms (soft absolute value), since both grow
    by a factor of thirty on the way. Along the runs of one setting xi and omega rise together; what
    their shares in the growth are is decided by the form of the law.
    """
    from scipy.optimize import least_squares

    velocity, force, theta, models = [], [], [], list[NestedLogit]()
    for one in runs:
        if one.model.n_groups != 1:
            raise ArgumentError("runs", one.model.n_groups, "must have one group of classes each")
        chosen = one.slow()
        velocity.append(np.gradient(one.theta, one.t, axis=0)[chosen])
        force.append(-one.model.gradient(one.theta)[chosen])
        theta.append(one.theta[chosen])
        models += [one.model] * int(chosen.sum())
    v, f, at = (np.concatenate(part) for part in (velocity, force, theta))
    if len(v) < 8:
        raise ArgumentError("runs", len(v), "must have at least 8 records before the loss falls")
    dilution = np.array([2 * model.n_pairs + 1 for model in models])
    f[:, 3] /= dilution
    linear = (v * f).sum(axis=0) / (f * f).sum(axis=0)
    measured = np.log(np.maximum(v[:, [2, 4]] / f[:, [2, 4]], 1e-12))

    def law_at(logarithms: Array) -> MemoryLaw:
        return MemoryLaw(linear[0], linear[1], linear[3], *np.exp(logarithms).tolist())

    def misfit(logarithms: Array) -> Array:
        law = law_at(logarithms)
        rows = [
            mobility(one, *law.arguments(model))[[2, 4]]
            for one, model in zip(at, models, strict=True)
        ]
        return np.append(np.log(rows) - measured, WEIGHT * (logarithms - guess))

    guess = np.log([0.5, 20.0, 0.6, 0.5, 0.5, 1.0, 10.0, 3.0])
    return law_at(least_squares(misfit, guess, loss="soft_l1").x)
