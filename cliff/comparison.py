"""A training run and the landscape's flow in the same quantities, with the misfit."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from cliff.checks import ArgumentError
from cliff.mobility_law import (
    CONSTANTS,
    Curves,
    MobilityLaw,
    curves_of,
    each_seed,
    fit_trajectories,
    match_gradients,
    match_noise,
    mobilities,
    set_clock,
)
from cliff.nested_logit import NestedLogit
from cliff.network.logits import LOGITS
from cliff.store import provenance
from cliff.trajectory import Status

if TYPE_CHECKING:
    import xarray as xr

Array = NDArray[np.float64]

MEASURES = ("ila1", "tila2", "tla2", "cla")
LONG_NAMES = {
    "t": "time of the records",
    "loss": "loss",
    "theta": "logits (effective ones of the network)",
    "mobility": "velocity of a logit over -gradient of the landscape",
    "ila1": "layer-1 attention of a label to its item",
    "tila2": "layer-2 attention of the target to the correct label",
    "tla2": "layer-2 attention of the target to labels",
    "cla": "probability of the labels in the context",
    "loss_slope": "landscape's loss at the network's logits, xi the slope",
    "loss_chord": "landscape's loss at the network's logits, xi the chord",
    "loss_crosstalk": "landscape's loss at the network's logits, xi the chord, with crosstalk",
    "slow": "1 before the loss first falls below log N",
    "matched": "constant matched to velocities",
    "matched_error": "standard error of the matched constant, NaN at a bound",
    "identified": "1 unless the matched constant is at a bound",
    "used": "constant of the flow",
    "fitted": "constant fitted to trajectories",
    "clock": "factor on the matched constants that makes flow and networks fall together",
    "noise_share": "share of the signal's force that noise takes back while xi grows",
    "fit_misfit": "root mean square misfit of the fitted logits, as a share of their values",
    "unexplained": "share of the squared velocity that the matched law leaves unexplained",
    "t_transition": "first time with loss <= 0.5 log N",
    "width": "time from loss 0.9 log N to 0.1 log N",
    "abruptness": "transition time over width",
    "measured": "mean transition time of the networks that fall",
    "predicted": "transition time of the flow",
    "predicted_with_noise": "transition time of the flow, the classifier held back by noise",
    "predicted_status": "how the flow ended",
    "calibrated": "1 where the clock was set, so that predicted is no prediction",
    "test_pairs": "N of the test",
    "test_labels": "L of the test",
}
TIME = {"units": "gradient-flow time"}
TRANSITION = {"t_transition": TIME, "width": TIME, "abruptness": {"units": "1"}}


def losses_at(run: xr.Dataset, curves: Curves) -> dict[str, Array]:
    """The landscape's loss at the network's own logits, under three readings of xi.

    Parameters
    ----------
    run : xarray.Dataset
        A training run of one seed.
    curves : Curves
        The curves of the same run.

    Returns
    -------
    dict of ndarray, shape (n,)
        ``slope``: at theta, where xi is the slope of the logits. ``chord``: with the chord in its
        place, since a network of rectified units answers more to what is there than to small
        changes of it. ``crosstalk``: the chord, and the part of the logits that the landscape
        leaves unexplained as Gaussian noise of variance s² on each logit. It raises a cross-entropy
        by s² (1 - sum of p²) / 2 to second order. In D dimensions contents and label vectors
        overlap, so that every token attended to adds some noise.
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
    own, present = there["p_correct"], there["cla"]
    concentration = (
        own**2 + (present - own) ** 2 / max(n - 1, 1) + (1 - present) ** 2 / max(n_labels - n, 1)
    )
    return {
        "slope": model.loss(curves.theta),
        "chord": chord,
        "crosstalk": chord + variance * (1 - concentration) / 2,
    }


def comparable(run: xr.Dataset, network: str | None = None) -> list[Curves]:
    """The curves of a run that `compare` can work with.

    Raises `ArgumentError` as `curves_of`, and if the run is of another network than that on which
    the mobilities were measured.
    """
    curves = curves_of(run)
    if network not in (None, curves[0].network):
        requirement = f"does not match the mobilities, which were measured on the network {network}"
        raise ArgumentError("run", f"network {curves[0].network}", requirement)
    missing = [name for name in (*MEASURES, "xi_chord", "xi_residual") if name not in run]
    if missing:
        raise ArgumentError("run", ", ".join(missing), "must be among what the run has recorded")
    for one in each_seed(run):
        if not np.isfinite(one.xi_chord.values).all():
            raise ArgumentError("run", f"seed {one.seed.item()}", "has an xi that is not finite")
    return curves


def compare(
    run: xr.Dataset,
    tests: Sequence[xr.Dataset] = (),
    law: MobilityLaw | None = None,
    *,
    fit: bool = True,
    progress: Callable[[int], object] | None = None,
) -> xr.Dataset:
    """Compare a training run with the landscape's flow.

    Parameters
    ----------
    run : xarray.Dataset
        Result of `cliff.train`, or several seeds side by side.
    tests : sequence of xarray.Dataset
        Runs of the same network at other settings, whose transition times are predicted.
    law : MobilityLaw, optional
        Mobilities to use, without noise. By default those matched to `run`, times the one factor
        that makes the flow fall at the networks' mean transition time.
    fit : bool
        Whether to fit trajectories too, as a check on the matching.
    progress : callable, optional
        Called with the number of flows integrated since the last call, of about `MOST_FLOWS`.

    Returns
    -------
    xarray.Dataset
        Over ``seed`` and ``record``: the network's ``t``, ``loss``, ``theta``, measures,
        ``mobility`` and the landscape's losses at its logits. Over ``time``: loss, theta and
        measures of the ``flow`` from the origin. Over ``constant``: the law that was ``matched``
        with its ``matched_error`` and whether it is ``identified``, the one ``used`` (the matched
        one times ``clock``, or `law`), and the one ``fitted``. Over ``test``: transition times
        ``measured`` (mean over the seeds that fall; NaN if none does) and ``predicted``,
        ``predicted_with_noise`` by the same law under the ``noise_share`` of `run` (NaN with a
        `law` of yours, or without a share between 0 and 1; see `MobilityLaw.with_noise`),
        ``predicted_status`` of the flow, and whether the setting was ``calibrated`` on, so that its
        time is no prediction.

    Raises
    ------
    ArgumentError
        If the runs are not comparable with a flow (see `comparable`), `law` has noise, or is not
        given and the matched mobilities are negative.
    """
    import xarray as xr

    if law is not None and law.noise:
        raise ArgumentError("law", law, "must be without noise: a comparison is of one setting")
    curves = comparable(run, None if law is None else law.network)
    setting = curves[0].n_pairs, curves[0].n_labels
    matched = match_gradients(curves)
    if law is None:
        seeds = ", ".join(str(one.seed) for one in curves)
        matched.law.check("run", f"matching seeds {seeds}", matched.error)
        used, clock = set_clock(matched.law, curves)
    else:
        law.check("law", law.network)
        used, clock = law, 1.0
    share = math.nan if law is not None else match_noise(curves)
    held = 0.0 < share < 1.0 and used.setting is not None
    noisy = used.with_noise(share) if held else None
    transitions = [one.transition() for one in curves]
    fitted, misfit = dict.fromkeys(CONSTANTS, math.nan), math.nan
    if fit and np.isfinite([one.t_transition for one in transitions]).all():
        fitted_law, misfit = fit_trajectories(curves, used, progress=progress)
        fitted = fitted_law.constants()

    t_end = 2.0 * max(one.t[-1] for one in curves)
    flow = used.flow(*setting, t_end)
    shown = flow.sampled(np.linspace(0.0, float(min(t_end / 2, flow.path.t[-1])), 400))
    shown_measures = shown.measures()

    single = each_seed(run)
    n_records = max(len(one.t) for one in curves)

    def table(columns: Sequence[Array]) -> Array:
        out = np.full((len(columns), n_records, *np.shape(columns[0])[1:]), np.nan)
        for row, column in zip(out, columns, strict=True):
            row[: len(column)] = column
        return out

    along = ("seed", "record")
    nats = {"units": "nats"}
    rate = {"units": "logit squared per nat and gradient-flow time"}
    losses = [losses_at(part, one) for part, one in zip(single, curves, strict=True)]
    variables: dict[str, Any] = {
        "t": (along, table([one.t for one in curves]), TIME),
        "loss": (along, table([one.loss for one in curves]), nats),
        "theta": ((*along, "logit"), table([one.theta for one in curves])),
        "mobility": ((*along, "logit"), table([mobilities(one) for one in curves]), rate),
        **{name: (along, table([part[name].values for part in single])) for name in MEASURES},
        **{f"loss_{name}": (along, table([at[name] for at in losses]), nats) for name in losses[0]},
        "slow": (along, table([one.slow().astype(float) for one in curves])),
        "flow_loss": ("time", shown.loss, nats),
        "flow_theta": (("time", "logit"), shown.theta),
        **{f"flow_{name}": ("time", shown_measures[name]) for name in MEASURES},
        "matched": ("constant", list(matched.law.constants().values()), rate),
        "matched_error": ("constant", list(matched.error.values()), rate),
        "identified": ("constant", np.array(list(matched.identified.values()), np.int8)),
        "used": ("constant", list(used.constants().values()), rate),
        "fitted": ("constant", list(fitted.values()), rate),
        "clock": ((), clock),
        "noise_share": ((), share),
        "fit_misfit": ((), misfit),
        "unexplained": ("logit", [matched.unexplained[name] for name in LOGITS]),
        **_predictions(tests, used, noisy),
    }
    for key, unit in TRANSITION.items():
        variables[f"network_{key}"] = "seed", [getattr(one, key) for one in transitions], unit
        variables[f"flow_{key}"] = (), getattr(flow.transition(), key), unit
    settings = json.loads(run.attrs["parameters"])
    dataset = xr.Dataset(
        variables,
        coords={
            "seed": [one.seed for one in curves],
            "logit": list(LOGITS),
            "constant": list(CONSTANTS),
            "time": ("time", shown.t, TIME),
        },
        attrs={
            **provenance({"run": settings, "law": used.constants()}, settings["seed"]),
            "cliff_kind": "comparison",
            "model": curves[0].network,
            "n_pairs": setting[0],
            "n_labels": setting[1],
            "flow_status": str(flow.status),
            "calibrated": json.dumps(used.setting),
        },
    )
    for name, variable in dataset.data_vars.items():
        whose, _, rest = str(name).partition("_")
        of_part = whose in ("network", "flow")
        words = LONG_NAMES[rest] + f" ({whose})" if of_part else LONG_NAMES[str(name)]
        variable.attrs = {"units": "1", **variable.attrs, "long_name": words}
    return dataset


def _predictions(
    tests: Sequence[xr.Dataset], law: MobilityLaw, noisy: MobilityLaw | None
) -> dict[str, Any]:
    """Measured and predicted transition times of runs, as variables over ``test``."""
    rows = []
    for test in tests:
        curves = comparable(test, law.network)
        setting = curves[0].n_pairs, curves[0].n_labels
        times = [one.transition().t_transition for one in curves]
        reached = [t for t in times if math.isfinite(t)]
        measured = float(np.mean(reached)) if reached else math.nan
        horizon = 10.0 * (measured if reached else max(c.t[-1] for c in curves))
        flow = law.flow(*setting, horizon)
        predicted, status = flow.transition().t_transition, list(Status).index(flow.status)
        slower = noisy.flow(*setting, horizon).transition().t_transition if noisy else math.nan
        rows.append((*setting, measured, predicted, slower, status, setting == law.setting))
    pairs, labels, measured_, predicted_, with_noise, codes, calibrated = (
        np.array(rows, float).reshape(-1, 7).T
    )
    flags = {"flag_meanings": " ".join(str(status).replace(" ", "_") for status in Status)}
    return {
        "test_pairs": ("test", pairs.astype(np.int64)),
        "test_labels": ("test", labels.astype(np.int64)),
        "measured": ("test", measured_, TIME),
        "predicted": ("test", predicted_, TIME),
        "predicted_with_noise": ("test", with_noise, TIME),
        "predicted_status": ("test", codes.astype(np.int8), flags),
        "calibrated": ("test", calibrated.astype(np.int8)),
    }


def law_of(comparison: xr.Dataset) -> MobilityLaw:
    """The law that a comparison used."""
    names, values = comparison.constant.values.tolist(), comparison.used.values.tolist()
    setting = json.loads(comparison.attrs.get("calibrated", "null"))
    return MobilityLaw(
        **dict(zip(names, values, strict=True)),
        network=comparison.attrs["model"],
        setting=tuple(setting) if setting else None,
    )
