"""What the landscape and its flow say: slices, fixed points, basins, metrics over parameters."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from cliff.checks import ArgumentError, choice, finite_array, integer, real
from cliff.flow import integrate, integrate_ensemble
from cliff.nested_logit import PARAMETERS, NestedLogit
from cliff.trajectory import Ensemble, Trajectory
from cliff.valleys import UNDECIDED, identify

Array = NDArray[np.float64]
Labels = NDArray[np.int64]


@dataclass(frozen=True)
class Slice:
    """The loss over a plane of two parameters, the others held fixed.

    Attributes
    ----------
    model : NestedLogit
    names : tuple of str
        The parameters along x and along y.
    x : ndarray, shape (n_x,)
    y : ndarray, shape (n_y,)
    loss : ndarray, shape (n_y, n_x)
        Loss (nats).
    slope : ndarray, shape (n_y, n_x)
        Length of the gradient within the plane (nats).
    fixed : dict of float
        Values of the other parameters.
    """

    model: NestedLogit
    names: tuple[str, str]
    x: Array
    y: Array
    loss: Array
    slope: Array
    fixed: dict[str, float]

    def ridge(self) -> Array:
        """Where the cliff is steepest: for every x the y of the largest slope, shape (n_x,)."""
        return self.y[np.argmax(self.slope, axis=0)]

    def edge(self, level: float = 0.9) -> Array:
        """The cliff's edge: for every x the least y with loss ≤ level·log N; NaN if none (n_x,)."""
        below = self.loss <= level * self.model.plateau
        return np.where(below.any(axis=0), self.y[np.argmax(below, axis=0)], np.nan)


def landscape_slice(
    model: NestedLogit,
    names: tuple[str, str],
    x: ArrayLike,
    y: ArrayLike,
    fixed: Mapping[str, float],
) -> Slice:
    """The loss and its slope over a plane of two parameters.

    Parameters
    ----------
    model : NestedLogit
    names : tuple of str
        The parameters along x and along y.
    x, y : array_like, shape (n_x,), (n_y,)
        Values along both sides.
    fixed : mapping of str to float
        Values of all other parameters.

    Raises
    ------
    ArgumentError
        If a name is not a parameter of the model, or a value is missing.
    """
    for name in names:
        choice("names", name, model.parameter_names)
    sides = [np.asarray(side, dtype=np.float64) for side in (x, y)]
    theta = np.empty((len(sides[1]), len(sides[0]), model.n_parameters))
    columns = [model.parameter_names.index(name) for name in names]
    for column, name in enumerate(model.parameter_names):
        if name == names[0]:
            theta[..., column] = sides[0][None, :]
        elif name == names[1]:
            theta[..., column] = sides[1][:, None]
        elif name in fixed:
            theta[..., column] = real(name, fixed[name])
        else:
            raise ArgumentError("fixed", dict(fixed), f"must give a value to {name}")
    loss, gradient = model.loss_and_gradient(theta)
    slope = np.linalg.norm(gradient[..., columns], axis=-1)
    others = {k: float(v) for k, v in fixed.items() if k not in names}
    return Slice(model, names, sides[0], sides[1], loss, slope, others)


def slice_through(
    trajectory: Trajectory, names: tuple[str, str] = ("beta1", "alpha"), resolution: int = 121
) -> Slice:
    """The loss over the plane of two parameters around a trajectory.

    The other parameters stand where they are at the transition, or at the end if there is none.

    Parameters
    ----------
    trajectory : Trajectory
    names : tuple of str
        The parameters along x and along y.
    resolution : int
        Points along each side.
    """
    model = trajectory.model
    t = trajectory.transition().t_transition
    point = trajectory.path(trajectory.path.t[-1] if np.isnan(t) else t)
    columns = [model.parameter_names.index(name) for name in names]
    sides = []
    for column in columns:
        low, high = (
            np.min(trajectory.path.theta[:, column]),
            np.max(trajectory.path.theta[:, column]),
        )
        margin = 0.15 * (high - low) + 0.1
        sides.append(np.linspace(low - margin, high + margin, resolution))
    fixed = dict(zip(model.parameter_names, point.tolist(), strict=True))
    others = {name: value for name, value in fixed.items() if name not in names}
    return landscape_slice(model, names, sides[0], sides[1], others)


@dataclass(frozen=True)
class FixedPoint:
    """A zero of the gradient.

    Attributes
    ----------
    theta : ndarray, shape (p,)
    loss : float
        In nats.
    eigenvalues : ndarray, shape (p,)
        Of the flow's Jacobian −Hessian, ascending: positive ones are unstable directions (1/time).
    eigenvectors : ndarray, shape (p, p)
        Their directions, in columns.
    kind : str
        "stable", "saddle" or "unstable"; eigenvalues within 1e-9 of 0 count as neither.
    """

    theta: Array
    loss: float
    eigenvalues: Array
    eigenvectors: Array
    kind: str


def fixed_points(
    model: NestedLogit, starts: ArrayLike, tolerance: float = 1e-12
) -> list[FixedPoint]:
    """Fixed points of the flow that Newton's method finds from given starts.

    Parameters
    ----------
    model : NestedLogit
    starts : array_like, shape (m, p)
    tolerance : float
        Largest component of the gradient at a fixed point (nats).

    Returns
    -------
    list of FixedPoint
        Each once, by ascending loss. Points that run away to infinity, where the gradient vanishes
        too, are valleys and not fixed points: they are left out beyond |theta| = 50.
    """
    from scipy.optimize import root

    found: list[FixedPoint] = []
    for start in np.atleast_2d(finite_array("starts", starts, model.n_parameters)):
        solution = root(model.gradient, start, jac=model.hessian, method="hybr", tol=1e-15)
        theta = solution.x
        near = np.isfinite(theta).all() and np.abs(theta).max() < 50.0
        if not near or np.abs(model.gradient(theta)).max() > tolerance:
            continue
        if any(np.linalg.norm(theta - other.theta) < 1e-5 for other in found):
            continue
        found.append(classify(model, theta))
    return sorted(found, key=lambda point: point.loss)


def classify(model: NestedLogit, theta: ArrayLike) -> FixedPoint:
    """The stability of the flow at a point, from the analytic Hessian."""
    point = finite_array("theta", theta, model.n_parameters)
    eigenvalues, eigenvectors = np.linalg.eigh(-model.hessian(point))
    up, down = (eigenvalues > 1e-9).any(), (eigenvalues < -1e-9).any()
    kind = "saddle" if up and down else "unstable" if up else "stable"
    return FixedPoint(point, float(model.loss(point)), eigenvalues, eigenvectors, kind)


def slow_manifold(
    model: NestedLogit, t_end: float, offset: float = 1e-3, **options: Any
) -> list[Trajectory]:
    """The curve along which trajectories from small starts leave the plateau.

    At L = N the origin is a saddle, and the curve is its unstable manifold: one branch on either
    side. For L > N the origin moves by itself, and the curve is the trajectory through it.

    Parameters
    ----------
    model : NestedLogit
    t_end : float
        End of the trajectories (gradient-flow time).
    offset : float
        Distance from the saddle at which a branch starts.
    **options
        Further arguments of `integrate`.
    """
    origin = np.zeros(model.n_parameters)
    if model.n_labels > model.n_pairs:
        return [integrate(model, origin, t_end, **options)]
    mobility = options.get("mobility", np.ones(model.n_parameters))
    rates = np.asarray(mobility(origin) if callable(mobility) else mobility, dtype=np.float64)
    # the flow's linear part, −M·H, has the eigenvalues of the symmetric −√M·H·√M
    root = np.sqrt(rates)
    unstable = root * np.linalg.eigh(root[:, None] * model.hessian(origin) * root)[1][:, 0]
    unstable *= np.sign(unstable[2]) / np.linalg.norm(unstable)
    return [integrate(model, sign * offset * unstable, t_end, **options) for sign in (1.0, -1.0)]


BASIN_TOLERANCE = 0.2
"""Distance from a valley's loss that counts as in it (nats), if it is less than half the way to the
next level: at t = 1e5 early-labels-inverted at L = N = 8 is still 0.16 above its limit, which it
nears by 1e7."""


def basins(ensemble: Ensemble, tolerance: float = BASIN_TOLERANCE) -> Labels:
    """The valley that each trajectory ended in.

    Parameters
    ----------
    ensemble : Ensemble
        Trajectories of one landscape.
    tolerance : float
        See `BASIN_TOLERANCE`.

    Returns
    -------
    ndarray of int, shape (m,)
        Index into `cliff.valleys.VALLEYS`; −1 where no valley fits, or the flow did not reach its
        end.
    """
    if not ensemble.done.any():
        return np.full(len(ensemble.loss), UNDECIDED)
    labels = identify(ensemble.model, ensemble.theta, ensemble.loss, tolerance)
    return np.where(ensemble.done, labels, UNDECIDED)


def basin_of(model: NestedLogit, starts: ArrayLike, t_end: float = 1e5, **options: Any) -> Labels:
    """The valley that the flow from each start ends in: the map from starts to labels.

    Parameters
    ----------
    model : NestedLogit
    starts : array_like, shape (m, p)
    t_end : float
        Time at which an end is looked at (gradient-flow time).
    **options
        Further arguments of `integrate_ensemble`.

    Returns
    -------
    ndarray of int, shape (m,)
        As `basins`.
    """
    return basins(integrate_ensemble(model, np.atleast_2d(starts), t_end, **options))


def basin_fractions(labels: ArrayLike) -> dict[int, tuple[float, float]]:
    """Share of each label, and the standard error of a binomial count.

    Parameters
    ----------
    labels : array_like of int, shape (m,)

    Returns
    -------
    dict of int to (fraction, error)
    """
    values = np.asarray(labels).ravel()
    if not values.size:
        raise ArgumentError("labels", labels, "must not be empty")
    found, counts = np.unique(values, return_counts=True)
    shares = counts / values.size
    errors = np.sqrt(shares * (1.0 - shares) / values.size)
    rows = zip(found.tolist(), shares.tolist(), errors.tolist(), strict=True)
    return {label: (share, error) for label, share, error in rows}


def basin_boundary(
    model: NestedLogit,
    start: ArrayLike,
    end: ArrayLike,
    t_end: float = 1e5,
    tolerance: float = 1e-9,
    **options: Any,
) -> Array:
    """The point of a segment at which the basin changes, by bisection.

    Parameters
    ----------
    model : NestedLogit
    start, end : array_like, shape (p,)
        Ends of the segment, in different basins.
    t_end : float
        As in `basin_of`. It has to grow with the logarithm of 1/tolerance, since trajectories next
        to a boundary linger at its saddle.
    tolerance : float
        Length of the last bracket as a share of the segment, at least 1e-14.

    Returns
    -------
    ndarray, shape (p,)

    Raises
    ------
    ArgumentError
        If both ends lie in one basin, an end is undecided, the tolerance is out of range, or points
        next to the boundary are still undecided at `t_end`.
    """
    a, b = (finite_array("start", point, model.n_parameters) for point in (start, end))
    tolerance = real("tolerance", tolerance, 1e-14, 1.0)
    first, last = basin_of(model, np.stack([a, b]), t_end, **options).tolist()
    if first == last or UNDECIDED in (first, last):
        raise ArgumentError("end", b.tolist(), f"must lie in another basin: {first} and {last}")
    low, high, beyond = 0.0, 1.0, last
    n_points = 15  # a round of the ensemble costs hardly more than one trajectory a core
    while high - low > tolerance:
        shares = np.linspace(low, high, n_points + 2)
        labels = basin_of(model, a + shares[1:-1, None] * (b - a), t_end, **options)
        labels = np.append(labels, beyond)
        place = int(np.argmax(labels != first))
        low, high, beyond = float(shares[place]), float(shares[place + 1]), int(labels[place])
    if beyond == UNDECIDED:
        raise ArgumentError("t_end", t_end, "must be larger: next to the boundary all is undecided")
    return a + 0.5 * (low + high) * (b - a)


def local_exponents(x: ArrayLike, y: ArrayLike) -> Array:
    """Slopes d log y/d log x between neighbours, shape (n − 1,)."""
    return np.diff(np.log(np.asarray(y, dtype=float))) / np.diff(np.log(np.asarray(x, dtype=float)))


AXES = (
    "pairs",
    "labels",
    "labels_per_pair",
    *PARAMETERS,
    *(f"mobility_{name}" for name in PARAMETERS),
)
"""Parameters that a phase diagram can have on its axes."""

FEWER_LABELS = "fewer labels than pairs"
"""Why cells beyond the wall L = N cannot be."""

LARGEST_COUNT = 2**31 - 1
"""The largest N or L of a cell: the largest integer that NetCDF 3 has."""

METRICS = ("t_transition", "width", "abruptness", "loss", "basin")

METRIC_UNITS = {
    "t_transition": "gradient-flow time",
    "width": "gradient-flow time",
    "abruptness": "1",
    "loss": "nat",
    "basin": "label",
}


@dataclass(frozen=True)
class FlowMetric:
    """A metric of the flow as a function of the parameters in `AXES`, for `sweep`.

    Call it with arrays of shape (m,), one an axis; parameters without an axis have the values given
    here. Cells that cannot be, as those with fewer labels than pairs, are reported as such, not
    computed.

    Attributes
    ----------
    metric : str
        One of `METRICS`; "basin" is an index into `cliff.valleys.VALLEYS`.
    pairs, labels : int
        N and L. An axis `labels_per_pair` makes L the nearest integer to that multiple of N.
    positions, label_bias
        As in `NestedLogit`.
    theta0, mobility : tuple of float
        Start and mobilities, of length 3 or, with a free label bias, 4.
    t_end, rtol, atol, max_steps
        As in `integrate_ensemble`.
    workers : int or None
        Threads of a block; all cores for None. Not part of what determines the data.
    """

    metric: str = "t_transition"
    pairs: int = 8
    labels: int = 32
    positions: str = "exact"
    label_bias: float | str = 0.0
    theta0: tuple[float, ...] = (0.01, 0.01, 0.01)
    mobility: tuple[float, ...] = (1.0, 1.0, 1.0)
    t_end: float = 1000.0
    rtol: float = 1e-6
    atol: float = 1e-9
    max_steps: int = 100_000
    workers: int | None = None

    def __post_init__(self) -> None:
        choice("metric", self.metric, METRICS)
        finite_array("theta0", self.theta0, self.model.n_parameters)
        if finite_array("mobility", self.mobility, self.model.n_parameters).min() < 0.0:
            raise ArgumentError("mobility", self.mobility, "must be at least 0")
        real("t_end", self.t_end, 0.0, exclusive=True)
        real("rtol", self.rtol, 0.0, exclusive=True)
        real("atol", self.atol, 0.0, exclusive=True)
        integer("max_steps", self.max_steps, 1)

    @property
    def model(self) -> NestedLogit:
        return NestedLogit(self.pairs, self.labels, self.positions, self.label_bias)

    @property
    def parameters(self) -> dict[str, Any]:
        """What determines the data, for a sweep's file."""
        return {name: value for name, value in asdict(self).items() if name != "workers"}

    def check_axes(self, names: Collection[str]) -> None:
        """Raise ArgumentError that names the first axis that is unknown or has no effect."""
        if not names:
            raise ArgumentError("axes", list(names), "must name at least one axis")
        for name in names:
            choice("axes", name, AXES)
            component = name.removeprefix("mobility_")
            if component in PARAMETERS and component not in self.model.parameter_names:
                raise ArgumentError("axes", name, "has no effect unless the label bias is free")
            if name == "labels" and "labels_per_pair" in names:
                raise ArgumentError("axes", name, "has no effect next to labels_per_pair")

    def __call__(self, **axes: NDArray[Any]) -> dict[str, Any]:
        self.check_axes(axes)
        m = len(next(iter(axes.values())))
        columns = {name: np.asarray(values, dtype=np.float64) for name, values in axes.items()}
        counts = {
            "pairs": columns.get("pairs", np.full(m, float(self.pairs))),
            "labels": columns.get("labels", np.full(m, float(self.labels))),
        }
        if "labels_per_pair" in columns:
            counts["labels"] = np.rint(columns["labels_per_pair"] * counts["pairs"])
        failure = _failures(columns, counts)
        valid = failure == ""
        pairs, labels = (values[valid].astype(np.int64) for values in counts.values())
        theta0, mobility = np.tile(self.theta0, (m, 1)), np.tile(self.mobility, (m, 1))
        for column, name in enumerate(self.model.parameter_names):
            theta0[:, column] = columns.get(name, theta0[:, column])
            mobility[:, column] = columns.get(f"mobility_{name}", mobility[:, column])
        value = np.full(m, UNDECIDED if self.metric == "basin" else np.nan)
        status = np.full(m, -1, dtype=np.int32)
        if valid.any():
            ensemble = integrate_ensemble(
                self.model,
                theta0[valid],
                self.t_end,
                mobility[valid],
                rtol=self.rtol,
                atol=self.atol,
                max_steps=self.max_steps,
                n_pairs=pairs,
                n_labels=labels,
                workers=self.workers,
            )
            value[valid] = self._values(ensemble, pairs, labels)
            status[valid] = ensemble.status
        if self.metric == "basin":
            value = value.astype(np.int32)
        return {self.metric: value, "status": status, "failure": failure}

    def _values(self, ensemble: Ensemble, pairs: Labels, labels: Labels) -> NDArray[Any]:
        if self.metric != "basin":
            return np.asarray(getattr(ensemble, self.metric))
        # valleys depend on N and L, so that each landscape labels its own ends
        value = np.full(len(pairs), UNDECIDED)
        for n, count in np.unique(np.stack([pairs, labels], axis=1), axis=0).tolist():
            here = (pairs == n) & (labels == count)
            model = NestedLogit(n, count, self.positions, self.label_bias)
            value[here] = identify(
                model, ensemble.theta[here], ensemble.loss[here], BASIN_TOLERANCE
            )
        return np.where(ensemble.done, value, UNDECIDED)


def _failures(columns: Mapping[str, Array], counts: Mapping[str, Array]) -> NDArray[Any]:
    """Why each cell cannot be, shape (m,); '' where it can."""
    failure = np.full(len(counts["pairs"]), "", dtype=object)

    def fail(where: NDArray[np.bool_], reason: str) -> None:
        failure[where & (failure == "")] = reason

    for name, values in columns.items():
        fail(~np.isfinite(values), f"{name} is not finite")
        if name.startswith("mobility_"):
            fail(values < 0.0, f"{name} below 0")
    fail(counts["labels"] < counts["pairs"], FEWER_LABELS)
    for name, values in counts.items():
        whole = (values == np.rint(values)) & (values >= 1.0) & (values <= LARGEST_COUNT)
        fail(~whole, f"{name} must be a whole number of at least 1 and at most {LARGEST_COUNT}")
    return failure
