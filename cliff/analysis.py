"""Geometry of the landscape and its flow: slices, fixed points, slow manifolds and basins."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from cliff.checks import ArgumentError, choice, finite_array, real
from cliff.flow import integrate, integrate_ensemble
from cliff.metrics import FlowMetric
from cliff.protocol import LandscapeLike
from cliff.trajectory import DensePath, Trajectory
from cliff.valleys import UNDECIDED, basins

if TYPE_CHECKING:
    import xarray as xr

Array = NDArray[np.float64]
Labels = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Slice:
    """The loss over a plane of two parameters; the remaining ones are fixed.

    Attributes
    ----------
    model : LandscapeLike
    names : tuple of str
        The parameters along x and along y.
    x : ndarray, shape (n_x,)
    y : ndarray, shape (n_y,)
    loss : ndarray, shape (n_y, n_x)
        Loss (nats).
    slope : ndarray, shape (n_y, n_x)
        Length of the gradient within the plane (nats).
    fixed : dict of float
        Values of the remaining parameters.
    """

    model: LandscapeLike
    names: tuple[str, str]
    x: Array
    y: Array
    loss: Array
    slope: Array
    fixed: dict[str, float]

    def edge(self, level: float = 0.9) -> Array:
        """The cliff's edge: the least y with loss ≤ level·plateau at each x, NaN if none, (n_x,).

        Raises
        ------
        ArgumentError
            If the landscape has no plateau.
        """
        if self.model.plateau is None:
            raise ArgumentError("model", self.model, "has no plateau, and so no edge")
        below = self.loss <= level * self.model.plateau
        return np.where(below.any(axis=0), self.y[np.argmax(below, axis=0)], np.nan)


def landscape_slice(
    model: LandscapeLike,
    names: tuple[str, str],
    x: ArrayLike,
    y: ArrayLike,
    fixed: Mapping[str, float],
) -> Slice:
    """The loss and its slope over a plane of two parameters.

    Parameters
    ----------
    model : LandscapeLike
    names : tuple of str
        The parameters along x and along y.
    x, y : array_like, shape (n_x,), (n_y,)
        Values of the two parameters.
    fixed : mapping of str to float
        Values of the remaining parameters.

    Raises
    ------
    ArgumentError
        If a name is not a parameter of the model, both are the same, or a value is missing.
    """
    for name in names:
        choice("names", name, model.parameter_names)
    if names[0] == names[1]:
        raise ArgumentError("names", names, "must be two different parameters")
    across, up = (np.asarray(side, dtype=np.float64) for side in (x, y))
    others = {name: real(name, value) for name, value in fixed.items() if name not in names}
    values: dict[str, Any] = {**others, names[0]: across, names[1]: up[:, None]}
    for name in model.parameter_names:
        if name not in values:
            raise ArgumentError("fixed", dict(fixed), f"must give a value to {name}")
    grids = np.broadcast_arrays(*(values[name] for name in model.parameter_names))
    loss, gradient = model.loss_and_gradient(np.stack(grids, axis=-1))
    columns = [model.parameter_names.index(name) for name in names]
    slope = np.linalg.norm(gradient[..., columns], axis=-1)
    return Slice(model, names, across, up, loss, slope, others)


def slice_around(
    trajectory: Trajectory, names: tuple[str, str] | None = None, resolution: int = 121
) -> Slice:
    """The loss over the plane of two parameters around a trajectory.

    Parameters
    ----------
    trajectory : Trajectory
    names : tuple of str, optional
        The parameters along x and along y; the landscape's default slice otherwise.
    resolution : int
        Points along each side.

    Returns
    -------
    Slice
        A little larger than the path in the plane. The remaining parameters have their values at
        the transition, or at the end of a trajectory without one.
    """
    model, path = trajectory.model, trajectory.path
    names = names or model.default_slice
    t = trajectory.transition().t_transition
    point = path(path.t[-1] if np.isnan(t) else t)
    fixed = dict(zip(model.parameter_names, point.tolist(), strict=True))
    sides = []
    for name in names:
        choice("names", name, model.parameter_names)
        values = path.theta[:, model.parameter_names.index(name)]
        margin = 0.15 * np.ptp(values) + 0.1
        sides.append(np.linspace(values.min() - margin, values.max() + margin, resolution))
    return landscape_slice(model, names, sides[0], sides[1], fixed)


@dataclass(frozen=True, eq=False)
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
        "saddle" with eigenvalues of both signs, "unstable" with positive ones only, "stable" if all
        are negative, and "degenerate" if some are zero and none is positive: then the Jacobian does
        not decide. Eigenvalues within 1e-9 of 0 count as zero.
    """

    theta: Array
    loss: float
    eigenvalues: Array
    eigenvectors: Array
    kind: str


_ZERO_RATE = 1e-9
"""Eigenvalues of the Jacobian up to this size count as zero (1/time)."""

_ZERO_GRADIENT = 1e-14
"""A gradient whose components are up to this size counts as zero (nats)."""

_SAME_POINT = 1e-5
"""Distance up to which two solutions of Newton's method are one fixed point."""

_FAR = 50.0
"""Component of theta from which on a vanishing gradient is a valley's and no fixed point's."""


def fixed_points(
    model: LandscapeLike, starts: ArrayLike, tolerance: float = 1e-12
) -> list[FixedPoint]:
    """Fixed points of the flow that Newton's method finds from given starts.

    Parameters
    ----------
    model : LandscapeLike
    starts : array_like, shape (m, p)
    tolerance : float
        Largest component of the gradient at a fixed point (nats).

    Returns
    -------
    list of FixedPoint
        Each once, by ascending loss. The gradient vanishes at infinity too, in the valleys: points
        with a component beyond 50 are left out, and nearer ones in a valley are "degenerate".
    """
    from scipy.optimize import root

    found: list[FixedPoint] = []
    for start in np.atleast_2d(finite_array("starts", starts, model.n_parameters)):
        solution = root(model.gradient, start, jac=model.hessian, method="hybr", tol=1e-15)
        theta = solution.x
        near = np.isfinite(theta).all() and np.abs(theta).max() < _FAR
        if not near or np.abs(model.gradient(theta)).max() > tolerance:
            continue
        if any(np.linalg.norm(theta - other.theta) < _SAME_POINT for other in found):
            continue
        found.append(classify(model, theta))
    return sorted(found, key=lambda point: point.loss)


def classify(model: LandscapeLike, theta: ArrayLike) -> FixedPoint:
    """The stability of the flow at a fixed point theta (p,), from the analytic Hessian."""
    point = finite_array("theta", theta, model.n_parameters)
    eigenvalues, eigenvectors = np.linalg.eigh(-model.hessian(point))
    up, down = eigenvalues > _ZERO_RATE, eigenvalues < -_ZERO_RATE
    if up.any():
        kind = "saddle" if down.any() else "unstable"
    else:
        kind = "stable" if down.all() else "degenerate"
    return FixedPoint(point, float(model.loss(point)), eigenvalues, eigenvectors, kind)


def slow_manifold(
    model: LandscapeLike, t_end: float, offset: float = 1e-3, **options: Any
) -> list[Trajectory]:
    """The curve along which trajectories from small starts leave the origin.

    Where the origin is a saddle, as in the nested logit at L = N, the curve is its unstable
    manifold, with one branch on either side. Where it is no fixed point, as for L > N, the curve is
    the trajectory through it.

    Parameters
    ----------
    model : LandscapeLike
    t_end : float
        End of the trajectories (gradient-flow time).
    offset : float
        Distance from the saddle at which a branch starts.
    **options
        Further arguments of `integrate`.

    Returns
    -------
    list of Trajectory
        Two branches of a saddle, the one whose largest component grows first; otherwise one.

    Raises
    ------
    ArgumentError
        If the mobilities leave the saddle without an unstable direction.
    """
    origin = np.zeros(model.n_parameters)
    if np.abs(model.gradient(origin)).max() > _ZERO_GRADIENT:
        return [integrate(model, origin, t_end, **options)]
    mobility = options.get("mobility", np.ones(model.n_parameters))
    if callable(mobility):
        mobility = mobility(origin, *options.get("mobility_args", ()))
    rates = np.asarray(mobility, dtype=np.float64)
    # the flow's linear part, −M·H, has the eigenvalues of the symmetric −√M·H·√M
    root = np.sqrt(rates)
    eigenvalues, eigenvectors = np.linalg.eigh(root[:, None] * model.hessian(origin) * root)
    if eigenvalues[0] > -_ZERO_RATE:
        requirement = "leaves no unstable direction at the saddle"
        raise ArgumentError("mobility", rates.tolist(), requirement)
    unstable = root * eigenvectors[:, 0]
    unstable *= np.sign(unstable[np.argmax(np.abs(unstable))]) / np.linalg.norm(unstable)
    return [integrate(model, sign * offset * unstable, t_end, **options) for sign in (1.0, -1.0)]


def basin_of(model: LandscapeLike, starts: ArrayLike, t_end: float = 1e5, **options: Any) -> Labels:
    """Label the valley that the flow from each start ends in, shape (m,), as `basins` does.

    Parameters
    ----------
    model : LandscapeLike
    starts : array_like, shape (m, p)
    t_end : float
        Time at which the ends are labelled (gradient-flow time).
    **options
        Further arguments of `integrate_ensemble`.
    """
    return basins(integrate_ensemble(model, np.atleast_2d(starts), t_end, **options))


def basin_fractions(labels: ArrayLike) -> dict[int, tuple[float, float]]:
    """Share of each label among random starts, and its standard error.

    Parameters
    ----------
    labels : array_like of int, shape (m,)
        Labels of independent random starts. On a grid the binomial error has no meaning.

    Returns
    -------
    dict of int to (float, float)
        Share and binomial standard error, by label.
    """
    found, counts = np.unique(np.asarray(labels), return_counts=True)
    if not found.size:
        raise ArgumentError("labels", labels, "must not be empty")
    shares = counts / counts.sum()
    errors = np.sqrt(shares * (1.0 - shares) / counts.sum())
    pairs = zip(shares.tolist(), errors.tolist(), strict=True)
    return dict(zip(found.tolist(), pairs, strict=True))


def basin_boundary(
    model: LandscapeLike,
    start: ArrayLike,
    end: ArrayLike,
    t_end: float = 1e5,
    tolerance: float = 1e-9,
    **options: Any,
) -> Array:
    """The point (p,) of a segment at which the basin changes first, by bisection.

    Parameters
    ----------
    model : LandscapeLike
    start, end : array_like, shape (p,)
        Ends of the segment, in different basins.
    t_end : float
        As in `basin_of`. Trajectories next to a boundary linger at its saddle: the time has to grow
        with the logarithm of 1/tolerance.
    tolerance : float
        Length of the last bracket as a share of the segment, at least 1e-14.
    **options
        Further arguments of `integrate_ensemble`.

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
    """Slopes d log y/d log x between neighbouring points, shape (n − 1,)."""
    return np.diff(np.log(np.asarray(y, dtype=float))) / np.diff(np.log(np.asarray(x, dtype=float)))


SAMPLE_STARTS = ((0.2, 0.25), (0.2, 0.75), (0.8, 0.25), (0.8, 0.75), (0.45, 0.55))
"""Starts of the sample paths over a basin map, as shares of its width and height."""


def basin_paths(dataset: xr.Dataset) -> tuple[list[Array], list[tuple[float, float]]]:
    """Sample paths and saddles to draw over a basin map.

    Parameters
    ----------
    dataset : xarray.Dataset
        A sweep of the metric "basin".

    Returns
    -------
    paths : list of ndarray, shape (n, 2)
        Points (x, y) of trajectories, evenly spaced along each and cut where it leaves the map for
        good. Empty unless the axes are two components of the start.
    saddles : list of (x, y)
        Those that the landscape names, if they lie on the map.
    """
    metric = FlowMetric.from_dataset(dataset)
    model, names = metric.model, metric.model.parameter_names
    dims = [str(name) for name in dataset["basin"].dims[::-1]]  # x, y
    if len(dims) != 2 or not set(dims) <= set(names):
        return [], []
    columns = [names.index(name) for name in dims]
    sides = [dataset[name].values for name in dims]
    low, high = (np.array([end(side) for side in sides]) for end in (np.min, np.max))
    paths = []
    numerics = {name: getattr(metric, name) for name in ("rtol", "atol", "max_steps")}
    for share in SAMPLE_STARTS:
        start = np.array(metric.theta0)
        start[columns] = low + share * (high - low)
        run = integrate(model, start, metric.t_end, metric.mobility, **numerics)
        paths.append(_even_path(run.path, columns, low, high))
    saddles = [p for p in model.saddles(*dims) if (low <= p).all() and (high >= p).all()]
    return paths, saddles


def _even_path(
    path: DensePath, columns: list[int], low: Array, high: Array, n_points: int = 300
) -> Array:
    """A path within the box [low, high] by arc length, shape (n_points, 2).

    Lengths are in units of the box's sides. The path ends where it leaves the box for good.
    """
    parts = np.linspace(0.0, 1.0, 8, endpoint=False)
    t = np.append((path.t[:-1, None] + np.diff(path.t)[:, None] * parts).ravel(), path.t[-1])
    points = path(t)[:, columns]
    inside = np.all((points >= low) & (points <= high), axis=1)
    n_drawn = int(np.flatnonzero(inside)[-1]) + 2
    steps = np.linalg.norm(np.diff(points[:n_drawn], axis=0) / (high - low), axis=1)
    length = np.append(0.0, np.cumsum(steps))
    return path(np.interp(np.linspace(0.0, length[-1], n_points), length, t[:n_drawn]))[:, columns]
