"""Mobilities of a trained network: how fast each circuit answers the landscape's gradient.

The landscape fixes the direction in which the logits move, the mobilities fix the speed. They are
measured by regressing a network's velocities on the landscape's gradient at its own effective
logits (`match_gradients`), and checked by fitting whole trajectories (`fit_trajectories`).
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from cliff.checks import ArgumentError, real
from cliff.flow import integrate
from cliff.nested_logit import NestedLogit
from cliff.network.logits import LOGITS
from cliff.trajectory import Trajectory, Transition, transition_of

if TYPE_CHECKING:
    import xarray as xr

Array = NDArray[np.float64]

CONSTANTS = ("beta1", "alpha", "beta2", "xi_start", "xi_growth", "xi_limit")
N_BLOCKS = 8
"""Stretches of the slow phase for the jackknife."""
MOST_FLOWS = 150
"""About as many flows as a fit with three starts integrates."""


def mobility(theta, beta1, alpha, beta2, start, growth, limit):  # type: ignore[no-untyped-def]
    """Mobilities at theta (4,), in the order of theta; `integrate` compiles this for all laws."""
    free = start + growth * abs(theta[2])
    return beta1, alpha, free * limit / (free + limit), beta2


@dataclass(frozen=True)
class MobilityLaw:
    """Mobilities of the four circuits of a network, for all contexts and along the path.

    A logit that is a function of the weights w moves under gradient flow on w with the mobility
    |∇_w logit|². Depth makes this a function of the weights, and so of the logits::

        M_beta1 = beta1        M_alpha = alpha        M_beta2 = beta2 / (2N + 1)
        1 / M_xi = L / (xi_start + xi_growth |xi|) + 1 / xi_limit

    beta1 and alpha are each a product of a few matrices that hardly moves before the fall. beta2
    needs a direction that all queries share. What the target sees in layer 1 gives one: the mean of
    2N + 1 tokens, whose square shrinks as 1/(2N + 1). xi is a mean over L labels, each of which
    moves its own logits, so that the square of its gradient is of order 1/L. The layers below
    multiply it by what they have learned (xi_growth), up to the speed at which the features that
    all labels share are learned (xi_limit).

    Attributes
    ----------
    beta1, alpha, beta2, xi_start, xi_growth, xi_limit : float
        Constants; logit squared per nat and gradient-flow time.
    noise : float
        Variance b² of the features' noise (nats); 0 by default. See the notes and `with_noise`.
    network : str
        "transformer", or "minimal" for the minimal head, in which beta2 is a parameter, so that its
        mobility does not fall with N.
    setting : tuple of int, optional
        (N, L) of the networks whose transition time the constants reproduce by construction; see
        `set_clock`.

    Notes
    -----
    The layers above a feature amplify its noise too. Let xi = a g, where a is what the features
    know of a label and g what the layers above make of it, and let g amplify noise of variance b².
    Near the start the loss is then, up to constants, -f a g + b² g² / 2, with the landscape's force
    f = (1 - N/L) / (2N + 1) on xi. Gradient flow, a' = f g and g' = f a - b² g up to a factor,
    makes g / a tend to h, and xi_growth becomes xi_growth h::

        h = √(1 + r²/4) - r/2        r = b² / f

    The noise takes back the share b² g / (f a) = 1 - h² of the signal's force on the gain. Close to
    L = N f is small, h is close to f / b², and xi grows many times more slowly. One b² for all
    (N, L) is an assumption: the noise that networks have is not the same everywhere.
    """

    beta1: float
    alpha: float
    beta2: float
    xi_start: float
    xi_growth: float
    xi_limit: float
    noise: float = 0.0
    network: str = "transformer"
    setting: tuple[int, int] | None = None

    def arguments(self, n_pairs: int, n_labels: int) -> tuple[float, ...]:
        """Arguments of `mobility` after theta at one (N, L)."""
        dilution = 2 * n_pairs + 1 if self.network == "transformer" else 1
        return (
            self.beta1, self.alpha, self.beta2 / dilution,
            self.xi_start / n_labels, self.xi_growth * self.gain(n_pairs, n_labels) / n_labels,
            self.xi_limit,
        )  # fmt: skip

    def gain(self, n_pairs: ArrayLike, n_labels: ArrayLike) -> Any:
        """h at one (N, L) or many, from 0 to 1: what is left of xi_growth under the noise."""
        if self.noise == 0.0:
            return 1.0
        with np.errstate(divide="ignore"):  # without force, at L = N, nothing is left
            r = self.noise / _signal_force(n_pairs, n_labels)
        return 2.0 / (r + np.hypot(r, 2.0))

    def with_noise(self, share: float) -> MobilityLaw:
        """The law whose noise takes back a share of the force at the law's own setting.

        At its own setting the flow stays the same; elsewhere h differs.

        Parameters
        ----------
        share : float
            1 - h² at `setting`, at least 0 and less than 1; see `match_noise`.

        Raises
        ------
        ArgumentError
            If the share is out of range, or the law has no setting.
        """
        real("share", share, 0.0)
        if not share < 1.0:
            raise ArgumentError("share", share, "must be less than 1")
        if self.setting is None or self.setting[0] == self.setting[1]:
            requirement = "needs a law with a setting of more labels than pairs; see set_clock"
            raise ArgumentError("share", share, requirement)
        left, gain = self.xi_growth * float(self.gain(*self.setting)), math.sqrt(1.0 - share)
        noise = share / gain * float(_signal_force(*self.setting))  # r = 1/h - h
        return replace(self, xi_growth=left / gain, noise=noise)

    def flow(
        self, n_pairs: int, n_labels: int, t_end: float, theta0: ArrayLike = (0, 0, 0, 0)
    ) -> Trajectory:
        """Gradient flow on the landscape of four logits under these mobilities."""
        model = NestedLogit(n_pairs, n_labels, label_bias="free")
        arguments = self.arguments(n_pairs, n_labels)
        return integrate(model, theta0, t_end, mobility=mobility, mobility_args=arguments)

    def constants(self) -> dict[str, float]:
        """The mobilities' constants by name, and `noise` where there is any."""
        names = (*CONSTANTS, "noise") if self.noise else CONSTANTS
        return {name: getattr(self, name) for name in names}

    def faster(self, factor: float) -> MobilityLaw:
        """All mobilities times a factor: the same path, faster by this factor."""
        scaled: dict[str, Any] = {name: factor * getattr(self, name) for name in CONSTANTS}
        return replace(self, **scaled)

    def check(self, argument: str, value: object, error: Mapping[str, float] | None = None) -> None:
        """Raise ArgumentError unless all constants are finite and at least 0.

        Parameters
        ----------
        argument, value
            The argument to blame; see `ArgumentError`.
        error : mapping of str to float, optional
            Standard errors of the constants, for the message.
        """
        for name, constant in self.constants().items():
            if not 0.0 <= constant < math.inf:
                found = f"{constant:.3g}" + (f" ± {error[name]:.2g}" if error else "")
                raise ArgumentError(
                    argument, value, f"gives {name} = {found}, where a mobility must be at least 0"
                )


MEASURED = MobilityLaw(
    beta1=0.05368661274720118,
    alpha=0.29802915551624787,
    beta2=0.7516142706349009,
    xi_start=0.5984889445187195,
    xi_growth=20.79354102381353,
    xi_limit=0.7544590727729896,
    setting=(8, 32),
)
"""The law of the default transformer: `python -m figures prediction --recompute` measures it."""


class Curves(NamedTuple):
    """The recorded curves of one training run.

    Attributes
    ----------
    n_pairs, n_labels : int
    network : str
        "transformer" or "minimal".
    seed : int
    t : ndarray, shape (n,)
        Gradient-flow time, learning rate × step.
    theta : ndarray, shape (n, 4)
        Effective logits.
    loss : ndarray, shape (n,)
        Loss (nats).
    noise : ndarray, shape (n,), optional
        Share of the signal's force that the rest of the logits takes back, if it was recorded.
    """

    n_pairs: int
    n_labels: int
    network: str
    seed: int
    t: Array
    theta: Array
    loss: Array
    noise: Array | None = None

    def transition(self) -> Transition:
        """The fall of the loss off the plateau."""
        return transition_of(self.t, self.loss, self.n_pairs)

    def slow(self) -> NDArray[np.bool_]:
        """Records before the loss first falls below the plateau log N, shape (n,)."""
        below = self.loss <= math.log(self.n_pairs)
        return np.arange(len(below)) < max(int(np.argmax(np.append(below, True))), 3)


def each_seed(run: xr.Dataset) -> list[xr.Dataset]:
    """The runs of a dataset of one seed or several, each cut to its own records."""
    parts = [run.isel(seed=i) for i in range(run.sizes["seed"])] if "seed" in run.dims else [run]
    return [part.dropna("step", subset=["loss"]) for part in parts]


def curves_of(run: xr.Dataset) -> list[Curves]:
    """The curves of a training run, or of several side by side.

    Raises
    ------
    ArgumentError
        If a flow cannot be compared with the run: no effective logits, fewer than four records,
        N = 1, a learning rate of 0, or values that are not finite.
    """
    missing = [name for name in (*LOGITS, "loss", "t") if name not in run]
    if missing:
        raise ArgumentError("run", ", ".join(missing), "must be among what the run has recorded")
    settings = json.loads(run.attrs["parameters"])
    counts = settings["task"]["n_pairs"], settings["task"]["n_labels"]
    if settings.get("curriculum"):
        requirement = "changes the landscape on the way: compare a run without one"
        raise ArgumentError("run", "a curriculum", requirement)
    if counts[0] == 1:
        raise ArgumentError("run", "N = 1", "has a plateau at loss 0, so that nothing falls")
    found = []
    for one in each_seed(run):
        name = f"seed {one.seed.item()}"
        if one.sizes["step"] < 4:
            raise ArgumentError(
                "run", name, f"must have at least 4 records, and has {one.sizes['step']}"
            )
        theta = np.stack([one[logit].values for logit in LOGITS], axis=1).astype(np.float64)
        t, loss = one.t.values.astype(np.float64), one.loss.values.astype(np.float64)
        if "status" in one and one.status.item() == "not finite":
            raise ArgumentError("run", name, "has a loss that did not stay finite")
        if not (np.isfinite(theta).all() and np.isfinite(loss).all()):
            raise ArgumentError("run", name, "has effective logits or losses that are not finite")
        if not (np.diff(t) > 0).all():
            raise ArgumentError("run", name, "has a time that does not grow: learning rate 0")
        noise = one.xi_noise.values.astype(np.float64) if "xi_noise" in one else None
        found.append(Curves(*counts, settings["model"], one.seed.item(), t, theta, loss, noise))
    return found


def velocities(curves: Curves) -> tuple[Array, Array]:
    """Velocity of the logits, and −gradient of the landscape at the same points; both (n, 4)."""
    model = NestedLogit(curves.n_pairs, curves.n_labels, label_bias="free")
    return np.gradient(curves.theta, curves.t, axis=0), -model.gradient(curves.theta)


def mobilities(curves: Curves) -> Array:
    """Velocity over −gradient for each record and logit, shape (n, 4)."""
    velocity, force = velocities(curves)
    with np.errstate(divide="ignore", invalid="ignore"):
        return velocity / force


class Matched(NamedTuple):
    """Result of `match_gradients`.

    Attributes
    ----------
    law : MobilityLaw
    error : dict of float
        Standard error of each constant, by a jackknife over eight stretches of the slow phase of
        every run; NaN for a constant that is not identified.
    identified : dict of bool
        False for a constant that ended at a bound of the fit: the runs say no more than that it is
        at least (or at most) so large.
    unexplained : dict of float
        Share of the squared velocity of each logit in the slow phase that the law leaves
        unexplained; NaN for a logit that does not move.
    """

    law: MobilityLaw
    error: dict[str, float]
    identified: dict[str, bool]
    unexplained: dict[str, float]


def match_gradients(runs: Sequence[Curves]) -> Matched:
    """Measure mobilities by regressing the runs' velocities on the landscape's gradient.

    Parameters
    ----------
    runs : sequence of Curves
        Of one network. Several (N, L) are allowed.

    Returns
    -------
    Matched
        Its constants may be negative or NaN, where the network does not follow the landscape's
        gradient: see `MobilityLaw.check`.

    Notes
    -----
    Only the slow phase counts: after the fall the landscape's gradient vanishes, while finite D and
    noise keep the network's above zero. M_beta1, M_alpha and M_beta2 are least squares through the
    origin. The three constants of M_xi minimise the squared error of its logarithm, since M_xi
    grows by more than a factor of ten on the way.
    """
    pieces = []
    for one in runs:
        velocity, force = velocities(one)
        chosen = one.slow()
        force[:, 3] /= 2 * one.n_pairs + 1 if one.network == "transformer" else 1
        counts = np.full(len(one.t), one.n_labels)
        block = np.arange(chosen.sum()) * N_BLOCKS // chosen.sum()
        pieces.append(
            (velocity[chosen], force[chosen], one.theta[chosen, 2], counts[chosen], block)
        )
    velocity, force, xi, n_labels, block = (
        np.concatenate(part) for part in zip(*pieces, strict=True)
    )

    def solve(kept: NDArray[np.bool_]) -> tuple[Array, NDArray[np.bool_]]:
        v, f = velocity[kept], force[kept]
        linear = (v * f).sum(axis=0) / (f * f).sum(axis=0)
        at_xi, identified = _match_xi(v[:, 2] / f[:, 2], xi[kept], n_labels[kept])
        return np.concatenate([linear[[0, 1, 3]], at_xi]), identified

    with np.errstate(divide="ignore", invalid="ignore"):
        constants, xi_identified = solve(np.ones(len(block), bool))
        each = np.array([solve(block != left)[0] for left in range(N_BLOCKS)])
        spread = np.sqrt((N_BLOCKS - 1) * each.var(axis=0))
        at_xi = _xi_mobility(constants[3:], xi, n_labels)
        speeds = np.broadcast_arrays(*constants[:2], at_xi, constants[2])
        unexplained = velocity - force * np.column_stack(speeds)
        rest = (unexplained**2).sum(axis=0) / (velocity**2).sum(axis=0)
    identified = np.append(np.ones(3, bool), xi_identified)
    return Matched(
        MobilityLaw(
            **dict(zip(CONSTANTS, constants.tolist(), strict=True)), network=runs[0].network
        ),
        dict(zip(CONSTANTS, np.where(identified, spread, np.nan).tolist(), strict=True)),
        dict(zip(CONSTANTS, identified.tolist(), strict=True)),
        dict(zip(LOGITS, rest.tolist(), strict=True)),
    )


def match_noise(runs: Sequence[Curves]) -> float:
    """Measure the share of the signal's force that noise takes back while xi grows fastest.

    Under the noise of a `MobilityLaw` the share falls to 1 - h² while xi grows exponentially. It
    is larger before, by what is left of the initial logits, and after, as the growth ends. The
    least of eight medians is taken for 1 - h²: those of the records of all runs in each eighth of
    the first half of the way to the transition, without the first eighth, in which the signal may
    have no force yet.

    Parameters
    ----------
    runs : sequence of Curves
        Of one network and one (N, L). A run without a transition counts as the first half.

    Returns
    -------
    float
        NaN where a run has not recorded it, or has fewer than sixteen records there.
    """
    parts: list[list[Array]] = []
    for one in runs:
        end = 0.5 * one.transition().t_transition
        rows = one.t <= (end if math.isfinite(end) else math.inf)
        if one.noise is None or rows.sum() < 2 * N_BLOCKS or not np.isfinite(one.noise[rows]).all():
            return math.nan
        parts.append(np.array_split(one.noise[rows], N_BLOCKS))
    medians = [float(np.median(np.concatenate(part))) for part in zip(*parts, strict=True)]
    return min(medians[1:])


def set_clock(law: MobilityLaw, runs: Sequence[Curves]) -> tuple[MobilityLaw, float]:
    """Scale a law so that its flow falls at the mean transition time of networks of one setting.

    Parameters
    ----------
    law : MobilityLaw
    runs : sequence of Curves
        Of one (N, L).

    Returns
    -------
    law : MobilityLaw
    factor : float
        Factor on all mobilities; NaN, with the law unchanged, if a network or the flow does not
        fall.
    """
    measured = float(np.mean([one.transition().t_transition for one in runs]))
    if not math.isfinite(measured):
        return law, math.nan
    setting = runs[0].n_pairs, runs[0].n_labels
    factor = law.flow(*setting, 20.0 * measured).transition().t_transition / measured
    if not math.isfinite(factor):
        return law, math.nan
    return replace(law.faster(factor), setting=setting), factor


def _signal_force(n_pairs: ArrayLike, n_labels: ArrayLike) -> Array:
    """Force on xi near the start, minus the landscape's gradient at the origin."""
    pairs, labels = np.asarray(n_pairs, np.float64), np.asarray(n_labels, np.float64)
    return (1.0 - pairs / labels) / (2.0 * pairs + 1.0)


def _xi_mobility(constants: Sequence[float] | Array, xi: Array, n_labels: NDArray[Any]) -> Array:
    start, growth, limit = constants
    free = (start + growth * np.abs(xi)) / n_labels
    return free * limit / (free + limit)


def _match_xi(ratio: Array, xi: Array, n_labels: NDArray[Any]) -> tuple[Array, NDArray[np.bool_]]:
    """The constants of M_xi (3,), NaN with fewer than three usable records, and which are found."""
    from scipy.optimize import least_squares

    usable = np.isfinite(ratio) & (ratio > 0)
    if usable.sum() < 3:
        return np.full(3, np.nan), np.ones(3, bool)
    target, at, counts = np.log(ratio[usable]), xi[usable], n_labels[usable]

    def misfit(logarithms: Array) -> Array:
        return np.log(_xi_mobility(np.exp(logarithms), at, counts)) - target

    guess, reach = np.log([1.0, 20.0, 0.5]), 7.0
    found = least_squares(misfit, guess, bounds=(guess - reach, guess + reach), loss="soft_l1")
    return np.exp(found.x), np.abs(found.x - guess) < reach - 0.01


def fit_trajectories(
    runs: Sequence[Curves],
    law: MobilityLaw,
    *,
    n_starts: int = 3,
    seed: int = 0,
    progress: Callable[[int], object] | None = None,
) -> tuple[MobilityLaw, float]:
    """Fit the constants of a law to whole trajectories of one setting.

    Parameters
    ----------
    runs : sequence of Curves
        Of one (N, L).
    law : MobilityLaw
        Where to start, such as from `match_gradients`. Each constant may move by a factor of ten;
        constants that are 0, and those that the minimal head has as parameters, stay.
    n_starts : int
        Fits, of which the best counts. The first starts from `law`, the rest from constants that
        are off by random factors.
    seed : int
        Seed of these factors.
    progress : callable, optional
        Called with the number of flows integrated since the last call.

    Returns
    -------
    law : MobilityLaw
    misfit : float
        Root mean square misfit of the logits up to the fall, as shares of their values there.

    Raises
    ------
    ArgumentError
        If a run never falls, or the runs are of different settings.
    """
    from scipy.optimize import least_squares

    settings = {(one.n_pairs, one.n_labels) for one in runs}
    if len(settings) != 1:
        raise ArgumentError("runs", sorted(settings), "must be of one N and L")
    (setting,) = settings
    times = [one.transition().t_transition for one in runs]
    if not np.isfinite(times).all():
        raise ArgumentError("runs", times, "must all fall, to be fitted")
    free = [
        name
        for name in CONSTANTS
        if getattr(law, name) > 0 and (law.network == "transformer" or name.startswith("xi"))
    ]
    t_end = 2.0 * max(times)
    grid = np.linspace(0.05, 1.0, 20)
    measured = [
        np.array([np.interp(time * grid, one.t, column) for column in one.theta.T])
        for one, time in zip(runs, times, strict=True)
    ]

    def with_constants(logarithms: Array) -> MobilityLaw:
        constants: dict[str, Any] = dict(zip(free, np.exp(logarithms).tolist(), strict=True))
        return replace(law, **constants)

    def misfits(logarithms: Array) -> Array:
        flow = with_constants(logarithms).flow(*setting, t_end)
        t = flow.transition().t_transition
        reached = t_end if math.isnan(t) else t
        entries = []
        for time, rows in zip(times, measured, strict=True):
            scale = np.maximum(np.abs(rows).max(axis=1, keepdims=True), 1e-300)
            path = flow.path(np.minimum(time * grid, flow.path.t[-1])).T
            entries.append(np.clip((path - rows) / scale, -1, 1).ravel())
            # the time of the fall is the purpose of the fit: it counts as much as all logits
            entries.append(np.full(rows.size // 4, 2 * math.log(reached / time)))
        if progress:
            progress(1)
        return np.concatenate(entries)

    center = np.log([law.constants()[name] for name in free])
    rng = np.random.default_rng(seed)
    shifts = np.zeros((n_starts, len(free)))
    shifts[1:] = rng.uniform(-0.7, 0.7, shifts[1:].shape)
    bounds = center - 2.3, center + 2.3
    fits = [
        least_squares(misfits, center + shift, bounds=bounds, diff_step=1e-3, max_nfev=12)
        for shift in shifts
    ]
    best = min(fits, key=lambda fit: fit.cost)
    logits = best.fun.reshape(len(runs), -1)[:, : 4 * len(grid)]
    return with_constants(best.x), float(np.sqrt(np.mean(logits**2)))


def initial_mobilities(dim: int, window: int) -> dict[str, float]:
    """Mobilities of alpha and beta1 in a freshly drawn transformer, in closed form.

    alpha is the mean of the D diagonal entries of the contents' block of Q2ᵀ K2 V1, and beta1, up
    to the mean over the other positions, the mean of P - 1 entries of the positions' block of
    Q1ᵀ K1. With W = P + D and entries N(0, 1/D), the mean square of their gradients is

        M_alpha = 3 W² / D³        M_beta1 = 2 W / (D (P - 1))

    Parameters
    ----------
    dim : int
        Dimension D of the contents.
    window : int
        Number P of positions.

    Examples
    --------
    >>> {name: round(value, 3) for name, value in initial_mobilities(63, 65).items()}
    {'beta1': 0.063, 'alpha': 0.197}
    """
    width = window + dim
    return {"beta1": 2 * width / (dim * (window - 1)), "alpha": 3 * width**2 / dim**3}
