"""Theory and network in the same quantities: mobilities, the flow they make, and its misfit.

The landscape says which way the logits move, the mobilities how fast. They are read off a network
by matching its velocities with the landscape's gradient at its own effective logits, checked by
fitting whole trajectories, and tested by what they predict for other contexts than the fitted one.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, astuple, dataclass, fields, replace
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from cliff.checks import ArgumentError
from cliff.flow import integrate
from cliff.nested_logit import NestedLogit
from cliff.network.logits import LOGITS
from cliff.store import provenance
from cliff.trajectory import Trajectory

if TYPE_CHECKING:
    import xarray as xr

Array = NDArray[np.float64]

MEASURES = ("ila1", "tila2", "tla2", "cla")
N_BLOCKS = 8


@dataclass(frozen=True)
class MobilityLaw:
    """Mobilities of the four circuits of a network, over all contexts and along the path.

    A logit that is a function of the weights w moves under gradient flow on w with the mobility
    |∇_w logit|², which depth makes a function of the weights and so of the logits::

        M_beta1 = beta1        M_alpha = alpha        M_beta2 = beta2 / (2N + 1)
        1 / M_xi = L / (xi_start + xi_growth |xi|) + 1 / xi_limit

    beta1 and alpha each live in a product of few matrices that hardly moves before the fall. beta2
    needs a direction that all queries share, and what the target sees in layer 1 gives one: the
    mean of 2N + 1 tokens, whose square shrinks as 1/(2N + 1). xi is a mean over L labels, each of
    which moves its own logits, so that its gradient has a square of order 1/L; the layers below
    multiply it by what they have already learned (xi_growth), until the label that a context shows
    is learned as fast as the features that all labels share allow (xi_limit).

    Attributes
    ----------
    beta1, alpha, beta2, xi_start, xi_growth, xi_limit : float
        Constants; logit squared per nat and gradient-flow time.
    diluted : bool
        Whether beta2's mobility falls with N. In the minimal head beta2 is a parameter, and its
        mobility one.
    """

    beta1: float
    alpha: float
    beta2: float
    xi_start: float
    xi_growth: float
    xi_limit: float
    diluted: bool = True

    def at(self, n_pairs: int, n_labels: int) -> Callable[[Any], tuple[float, ...]]:
        """Mobilities as a function of theta (4,) that `cliff.integrate` compiles."""
        beta1, alpha, limit = self.beta1, self.alpha, self.xi_limit
        beta2 = self.beta2 / (2 * n_pairs + 1) if self.diluted else self.beta2
        start, growth = self.xi_start / n_labels, self.xi_growth / n_labels

        def mobility(theta):  # type: ignore[no-untyped-def]
            free = start + growth * abs(theta[2])
            return beta1, alpha, free * limit / (free + limit), beta2

        return mobility

    def flow(
        self, n_pairs: int, n_labels: int, t_end: float, theta0: ArrayLike = (0, 0, 0, 0)
    ) -> Trajectory:
        """Gradient flow on the landscape with four logits under these mobilities."""
        model = NestedLogit(n_pairs, n_labels, label_bias="free")
        start = np.asarray(theta0, dtype=np.float64)
        return integrate(model, start, t_end, mobility=self.at(n_pairs, n_labels))

    def constants(self) -> dict[str, float]:
        """The constants by name."""
        return {name: value for name, value in asdict(self).items() if name != "diluted"}

    def faster(self, factor: float) -> MobilityLaw:
        """All mobilities times a factor: the same path in a time that is shorter by it."""
        scaled = {name: factor * value for name, value in self.constants().items()}
        return MobilityLaw(**scaled, diluted=self.diluted)


class Fall(NamedTuple):
    """Where a recorded loss falls; times in gradient-flow time, NaN if it does not.

    Attributes
    ----------
    t_transition, width, abruptness : float
        As in `cliff.Transition`.
    """

    t_transition: float
    width: float
    abruptness: float


def fall(t: ArrayLike, loss: ArrayLike, n_pairs: int) -> Fall:
    """First times at which a recorded loss is at most 0.9, 0.5 and 0.1 log N, between records.

    Parameters
    ----------
    t, loss : array_like, shape (n,)
    n_pairs : int

    Examples
    --------
    >>> round(fall([0, 1, 2, 3], [2.0, 2.0, 1.0, 0.0], n_pairs=8).t_transition, 3)
    1.96
    """
    times, values = np.asarray(t, float), np.asarray(loss, float)
    found = []
    for level in np.array([0.9, 0.5, 0.1]) * math.log(n_pairs):
        below = np.nonzero(values <= level)[0]
        if n_pairs == 1 or not len(below):
            found.append(math.nan)
        elif below[0] == 0:
            found.append(times[0])
        else:
            after = below[0]
            share = (values[after - 1] - level) / (values[after - 1] - values[after])
            found.append(times[after - 1] + share * (times[after] - times[after - 1]))
    begin, middle, end = (float(value) for value in found)
    width = end - begin
    return Fall(middle, width, middle / width if width > 0 else math.nan)


class Curves(NamedTuple):
    """What a comparison needs of one training run.

    Attributes
    ----------
    n_pairs, n_labels : int
    model : str
        "transformer" or "minimal".
    seed : int
    t : ndarray, shape (n,)
    theta : ndarray, shape (n, 4)
        Effective logits.
    loss : ndarray, shape (n,)
    """

    n_pairs: int
    n_labels: int
    model: str
    seed: int
    t: Array
    theta: Array
    loss: Array

    def fall(self) -> Fall:
        """Where the loss falls."""
        return fall(self.t, self.loss, self.n_pairs)

    def slow(self) -> NDArray[np.bool_]:
        """Records before the loss first falls below the plateau log N, shape (n,)."""
        below = self.loss <= math.log(self.n_pairs)
        end = int(np.argmax(below)) if below.any() else len(below)
        return np.arange(len(below)) < max(end, 3)


def curves_of(run: xr.Dataset) -> list[Curves]:
    """The curves of a training run, or of several side by side.

    Raises
    ------
    ArgumentError
        If the run holds no effective logits or fewer than four records.
    """
    missing = [name for name in (*LOGITS, "loss", "t") if name not in run]
    if missing:
        raise ArgumentError("run", ", ".join(missing), "must be among what the run has recorded")
    settings = json.loads(run.attrs["parameters"])
    task = settings["task"]
    found = []
    for seed in np.atleast_1d(run.seed.values).tolist():
        one = run.sel(seed=seed) if "seed" in run.dims else run
        one = one.dropna("step", subset=["loss"])
        if one.sizes["step"] < 4:
            raise ArgumentError("run", one.sizes["step"], "records must be at least 4")
        theta = np.stack([one[name].values for name in LOGITS], axis=1).astype(np.float64)
        found.append(
            Curves(
                task["n_pairs"], task["n_labels"], settings["model"], seed,
                one.t.values.astype(np.float64), theta, one.loss.values.astype(np.float64),
            )
        )  # fmt: skip
    return found


def velocities(curves: Curves) -> tuple[Array, Array]:
    """Velocity of the logits, and the landscape's −gradient where they are; both (n, 4)."""
    model = NestedLogit(curves.n_pairs, curves.n_labels, label_bias="free")
    return np.gradient(curves.theta, curves.t, axis=0), -model.gradient(curves.theta)


def mobilities(curves: Curves) -> Array:
    """Velocity over −gradient, logit by logit and record by record, shape (n, 4)."""
    velocity, force = velocities(curves)
    with np.errstate(divide="ignore", invalid="ignore"):
        return velocity / force


class Matched(NamedTuple):
    """What gradient matching gives.

    Attributes
    ----------
    law : MobilityLaw
    error : dict of float
        Standard error of each constant, from leaving out one of eight stretches of the slow phase
        of every run at a time.
    unexplained : dict of float
        Share of the squared velocity of each logit in the slow phase that the law does not explain.
    """

    law: MobilityLaw
    error: dict[str, float]
    unexplained: dict[str, float]


def match_gradients(runs: Sequence[Curves]) -> Matched:
    """Read the mobilities off training runs, by regressing velocities on the landscape's gradient.

    Parameters
    ----------
    runs : sequence of Curves
        Of one model. Several (N, L) are allowed.

    Returns
    -------
    Matched

    Notes
    -----
    Only the slow phase counts: after the fall the landscape's gradient has vanished where the
    network's, held up by finite D and noise, has not. M_beta1, M_alpha and M_beta2 are least
    squares through the origin. The three constants of M_xi minimise the squared error of its
    logarithm, since it grows by more than a factor of ten on the way.
    """
    diluted = runs[0].model == "transformer"
    pieces = []
    for one in runs:
        velocity, force = velocities(one)
        chosen = one.slow()
        dilution = 2 * one.n_pairs + 1 if diluted else 1
        force[:, 3] /= dilution
        counts = np.full(len(one.t), one.n_labels)
        block = np.arange(chosen.sum()) * N_BLOCKS // chosen.sum()
        pieces.append(
            (velocity[chosen], force[chosen], one.theta[chosen, 2], counts[chosen], block)
        )
    velocity, force, xi, n_labels, block = (
        np.concatenate(part) for part in zip(*pieces, strict=True)
    )

    def solve(kept: NDArray[np.bool_]) -> MobilityLaw:
        v, f = velocity[kept], force[kept]
        linear = (v * f).sum(axis=0) / (f * f).sum(axis=0)
        start, growth, limit = _match_xi(v[:, 2] / f[:, 2], xi[kept], n_labels[kept])
        return MobilityLaw(linear[0], linear[1], linear[3], start, growth, limit, diluted)

    law = solve(np.ones(len(block), bool))
    others = np.array([astuple(solve(block != left))[:-1] for left in range(N_BLOCKS)], float)
    spread = np.sqrt((N_BLOCKS - 1) * others.var(axis=0))
    names = [entry.name for entry in fields(law)][:-1]
    explained = force * np.column_stack(
        [
            np.full(len(xi), law.beta1),
            np.full(len(xi), law.alpha),
            _xi_mobility((law.xi_start, law.xi_growth, law.xi_limit), xi, n_labels),
            np.full(len(xi), law.beta2),
        ]
    )
    rest = ((velocity - explained) ** 2).sum(axis=0) / (velocity**2).sum(axis=0)
    return Matched(
        law,
        dict(zip(names, spread.tolist(), strict=True)),
        dict(zip(LOGITS, rest.tolist(), strict=True)),
    )


def set_clock(law: MobilityLaw, runs: Sequence[Curves]) -> tuple[MobilityLaw, float]:
    """Make the flow of a law fall when the networks of one setting do, on the mean.

    Parameters
    ----------
    law : MobilityLaw
    runs : sequence of Curves
        Of one (N, L).

    Returns
    -------
    law : MobilityLaw
    factor : float
        By which all mobilities were multiplied; NaN, and the law as it was, if a network or the
        flow does not fall.
    """
    measured = float(np.mean([one.fall().t_transition for one in runs]))
    if not math.isfinite(measured):
        return law, math.nan
    flow = law.flow(runs[0].n_pairs, runs[0].n_labels, 20.0 * measured)
    factor = flow.transition().t_transition / measured
    return (law.faster(factor), factor) if math.isfinite(factor) else (law, math.nan)


def _xi_mobility(constants: Sequence[float] | Array, xi: Array, n_labels: NDArray[Any]) -> Array:
    start, growth, limit = constants
    free = (start + growth * np.abs(xi)) / n_labels
    return free * limit / (free + limit)


def _match_xi(ratio: Array, xi: Array, n_labels: NDArray[Any]) -> tuple[float, float, float]:
    from scipy.optimize import least_squares

    usable = np.isfinite(ratio) & (ratio > 0)
    if usable.sum() < 3:
        return math.nan, math.nan, math.nan
    target, at, counts = np.log(ratio[usable]), xi[usable], n_labels[usable]

    def misfit(logarithms: Array) -> Array:
        return np.log(_xi_mobility(np.exp(logarithms), at, counts)) - target

    guess = np.log([1.0, 20.0, 0.5])
    found = least_squares(misfit, guess, bounds=(guess - 7, guess + 7), loss="soft_l1")
    start, growth, limit = np.exp(found.x).tolist()
    return start, growth, limit


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
        Where to start, such as from `match_gradients`. Each constant may move by a factor of ten.
    n_starts : int
        Fits, of which the best counts: the first from `law`, the others from constants that are
        off by random factors.
    seed : int
        Of those factors.
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
        If no run falls, or they are of different settings.
    """
    from scipy.optimize import least_squares

    settings = {(one.n_pairs, one.n_labels) for one in runs}
    if len(settings) != 1:
        raise ArgumentError("runs", sorted(settings), "must be of one N and L")
    (n_pairs, n_labels) = settings.pop()
    times = [one.fall().t_transition for one in runs]
    if not np.isfinite(times).all():
        raise ArgumentError("runs", times, "must all fall, to be fitted")
    free = [name for name in law.constants() if law.diluted or name.startswith("xi")]
    t_end = 2.0 * max(times)
    grid = np.linspace(0.05, 1.0, 20)
    measured = [
        np.array([np.interp(time * grid, one.t, column) for column in one.theta.T])
        for one, time in zip(runs, times, strict=True)
    ]

    def misfits(logarithms: Array) -> Array:
        trial = replace(law, **dict(zip(free, np.exp(logarithms).tolist(), strict=True)))
        flow = trial.flow(n_pairs, n_labels, t_end)
        t = flow.transition().t_transition
        reached = t_end if math.isnan(t) else t
        entries = []
        for time, rows in zip(times, measured, strict=True):
            scale = np.abs(rows).max(axis=1, keepdims=True)
            path = flow.path(np.minimum(time * grid, flow.path.t[-1])).T
            entries.append(np.clip((path - rows) / scale, -1, 1).ravel())
            # the time of the fall is what the fit is for: it counts as much as all the rest
            entries.append(np.full(rows.size // 4, 2 * math.log(reached / time)))
        if progress:
            progress(1)
        return np.concatenate(entries)

    center = np.log([law.constants()[name] for name in free])
    rng = np.random.default_rng(seed)
    best = None
    for number in range(n_starts):
        first = center + (rng.uniform(-0.7, 0.7, len(free)) if number else 0.0)
        found = least_squares(
            misfits, first, bounds=(center - 2.3, center + 2.3), diff_step=1e-3, max_nfev=12
        )
        if best is None or found.cost < best.cost:
            best = found
    assert best is not None
    fitted = replace(law, **dict(zip(free, np.exp(best.x).tolist(), strict=True)))
    size = 4 * len(grid) + len(grid)
    logits = best.fun.reshape(len(runs), size)[:, : 4 * len(grid)]
    return fitted, float(np.sqrt(np.mean(logits**2)))


def initial_mobilities(dim: int, window: int) -> dict[str, float]:
    """Mobilities of alpha and beta1 in a freshly drawn transformer, in closed form.

    alpha is the mean of the D diagonal entries of the contents' block of Q2ᵀ K2 V1, and beta1, up
    to the mean over the other positions, that of P - 1 entries of the positions' block of Q1ᵀ K1.
    With W = P + D and entries N(0, 1/D), the mean square of their gradients is

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


def losses_at(run: xr.Dataset, curves: Curves) -> dict[str, Array]:
    """The landscape's loss at the network's own logits, told in three ways.

    Parameters
    ----------
    run : xarray.Dataset
        Of one seed.
    curves : Curves
        The same run's.

    Returns
    -------
    dict of ndarray, shape (n,)
        ``slope``: at theta, where xi is the slope of the logits. ``chord``: with the chord in its
        place, since a network of rectified units answers more to what is there than to small
        changes of it. ``crosstalk``: that, and what the logits hold beyond the landscape's picture
        as Gaussian noise of variance s² on each, which raises a cross-entropy by
        s² (1 - sum of p²) / 2 to second order. In D dimensions contents and label vectors overlap,
        so that every token attended to makes some.
    """
    model = NestedLogit(curves.n_pairs, curves.n_labels, label_bias="free")
    n, n_labels = curves.n_pairs, curves.n_labels
    at_chord = curves.theta.copy()
    at_chord[:, 2] = run["xi_chord"].values
    chord = model.loss(at_chord)
    right, labels = run["tila2"].values, run["tla2"].values
    squares = right**2 + (labels - right) ** 2 / max(n - 1, 1)  # the other labels alike
    spread = squares / n_labels - (labels / n_labels) ** 2
    share = run["xi_residual"].values
    variance = at_chord[:, 2] ** 2 * spread * share / np.maximum(1 - share, 1e-9)
    there = model.measures(at_chord)
    own, present = there["accuracy"], there["cla"]
    concentration = (
        own**2 + (present - own) ** 2 / max(n - 1, 1) + (1 - present) ** 2 / max(n_labels - n, 1)
    )
    return {
        "slope": model.loss(curves.theta),
        "chord": chord,
        "crosstalk": chord + variance * (1 - concentration) / 2,
    }


def compare(
    run: xr.Dataset,
    tests: Sequence[xr.Dataset] = (),
    law: MobilityLaw | None = None,
    *,
    fit: bool = True,
    progress: Callable[[int], object] | None = None,
) -> xr.Dataset:
    """Hold a training run against the landscape's flow.

    Parameters
    ----------
    run : xarray.Dataset
        What `cliff.train` returned, or several seeds side by side.
    tests : sequence of xarray.Dataset
        Runs of other settings, whose transition times are predicted.
    law : MobilityLaw, optional
        Mobilities to use. By default those matched to `run`, times the one factor that makes the
        flow fall when the networks do.
    fit : bool
        Whether to fit trajectories too, as a check on the matching.
    progress : callable, optional
        Called with the number of flows integrated since the last call, of about 150.

    Returns
    -------
    xarray.Dataset
        Over ``seed`` and ``record``: the network's ``t``, ``loss``, ``theta``, measures,
        ``mobility`` and the landscape's losses at its logits. Over ``time``: those of the ``flow``
        from the origin. Over ``constant``: the law, ``matched`` with its ``matched_error``,
        ``used`` (the matched one times ``clock``, or the given one), and ``fitted``. Over ``test``:
        transition times ``measured`` (mean over the seeds that fall; NaN if none does) and
        ``predicted``.

    Raises
    ------
    ArgumentError
        If the run has not recorded its effective logits, or they are not finite.
    """
    import xarray as xr

    curves = curves_of(run)
    for one in curves:
        if not np.isfinite(one.theta).all():
            raise ArgumentError(
                "run", f"seed {one.seed}", "has effective logits that are not finite"
            )
    n_pairs, n_labels = curves[0].n_pairs, curves[0].n_labels
    matched = match_gradients(curves)
    used, clock = set_clock(matched.law, curves) if law is None else (law, 1.0)
    falls = [one.fall() for one in curves]
    fitted, misfit = None, math.nan
    if fit and np.isfinite([one.t_transition for one in falls]).all():
        fitted, misfit = fit_trajectories(curves, used, progress=progress)

    t_end = 2.0 * max(one.t[-1] for one in curves)
    flow = used.flow(n_pairs, n_labels, t_end)
    shown = flow.sampled(np.linspace(0.0, float(min(t_end / 2, flow.path.t[-1])), 400))
    fallen = flow.transition()

    single = [run.sel(seed=one.seed) if "seed" in run.dims else run for one in curves]
    single = [part.dropna("step", subset=["loss"]) for part in single]
    n_records = max(len(one.t) for one in curves)

    def table(columns: Sequence[Array]) -> Array:
        out = np.full((len(columns), n_records, *np.shape(columns[0])[1:]), np.nan)
        for row, column in zip(out, columns, strict=True):
            row[: len(column)] = column
        return out

    along = ("seed", "record")
    time = {"units": "gradient-flow time"}
    losses = [losses_at(part, one) for part, one in zip(single, curves, strict=True)]
    names = list(used.constants())
    blank = dict.fromkeys(names, math.nan)
    variables: dict[str, Any] = {
        "t": (along, table([one.t for one in curves]), time),
        "loss": (along, table([one.loss for one in curves]), {"units": "nats"}),
        "theta": ((*along, "logit"), table([one.theta for one in curves]), {"units": "1"}),
        "mobility": ((*along, "logit"), table([mobilities(one) for one in curves])),
        **{name: (along, table([part[name].values for part in single])) for name in MEASURES},
        **{
            f"loss_{name}": (along, table([entry[name] for entry in losses]), {"units": "nats"})
            for name in losses[0]
        },
        "slow": (along, table([one.slow().astype(float) for one in curves])),
        "flow_loss": ("time", shown.loss, {"units": "nats"}),
        "flow_theta": (("time", "logit"), shown.theta, {"units": "1"}),
        **{f"flow_{name}": ("time", shown.measures()[name]) for name in MEASURES},
        "matched": ("constant", list(matched.law.constants().values())),
        "matched_error": ("constant", [matched.error[name] for name in names]),
        "used": ("constant", list(used.constants().values())),
        "fitted": ("constant", list((fitted.constants() if fitted else blank).values())),
        "clock": ((), clock),
        "fit_misfit": ((), misfit),
        "unexplained": ("logit", [matched.unexplained[name] for name in LOGITS]),
    }
    for name in Fall._fields:
        variables[f"network_{name}"] = ("seed", [getattr(one, name) for one in falls])
        variables[f"flow_{name}"] = ((), getattr(fallen, name))
    measured, predicted, where = [], [], []
    for test in tests:
        others = curves_of(test)
        found = [one.fall().t_transition for one in others]
        reached = [t for t in found if math.isfinite(t)]
        measured.append(float(np.mean(reached)) if reached else math.nan)
        where.append((others[0].n_pairs, others[0].n_labels))
        horizon = 10.0 * (measured[-1] if reached else max(one.t[-1] for one in others))
        predicted.append(used.flow(*where[-1], horizon).transition().t_transition)
    variables["measured"] = ("test", np.array(measured), time)
    variables["predicted"] = ("test", np.array(predicted), time)
    settings = json.loads(run.attrs["parameters"])
    return xr.Dataset(
        variables,
        coords={
            "seed": [one.seed for one in curves],
            "logit": list(LOGITS),
            "constant": names,
            "time": ("time", shown.t, time),
            "test_pairs": ("test", np.array([n for n, _ in where], np.int64)),
            "test_labels": ("test", np.array([count for _, count in where], np.int64)),
        },
        attrs={
            **provenance({"run": settings, "law": asdict(used)}, settings["seed"]),
            "cliff_kind": "comparison",
            "model": curves[0].model,
            "n_pairs": n_pairs,
            "n_labels": n_labels,
        },
    )


def law_of(comparison: xr.Dataset) -> MobilityLaw:
    """The law that a comparison used."""
    values = dict(zip(comparison.constant.values.tolist(), comparison.used.values, strict=True))
    return MobilityLaw(
        **{name: float(value) for name, value in values.items()},
        diluted=comparison.attrs["model"] == "transformer",
    )
