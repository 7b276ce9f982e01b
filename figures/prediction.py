"""Transition times of the full network, predicted by a flow that was fitted at one setting."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import xarray as xr
from matplotlib.figure import Figure
from matplotlib.ticker import NullFormatter
from scipy.stats import spearmanr

from cliff import plots
from cliff.mobility_law import MobilityLaw, curves_of, match_gradients, mobility, set_clock
from cliff.network.logits import LOGITS
from cliff.store import open_dataset
from cliff.trajectory import transition_of
from figures import HERE, span
from figures.ensembles import Case, case, gather, train_all, until_the_fall

CAPTION = """
The flow on the landscape with four logits, its six mobility constants matched on three seeds at
(N, L) = (8, 32) and its clock set there, against the transformer elsewhere. (a, b) Loss and
effective logits of three seeds (thin) and the flow from the origin (thick) at two settings that
were not fitted. (c) Predicted against measured transition time (mean of seeds 0, 1, 2) at
{settings} settings; over the {others} that were not fitted the median error is {median:.1f} %,
{within} are within 15 %, and the rank correlation is {rank:.3f}. What fails is the neighbourhood
of L = N: at (8, 10) and (16, 20) the network takes {near[0]:.1f} and {near[1]:.1f} times as long
as predicted. With four constant mobilities in place of the law the median error is
{constants:.0f} %, and {chord:.0f} % with xi read as a chord instead of a slope. (d) The same
against N at L = 4N. The flow is too abrupt: at (8, 32) it falls from 0.9 to 0.1 log N within
{flow_width:.1f} units of time, the networks within {network_width}. K = 512, D = 63, noise 0.1, B
= 1, all novel, learning rate {lr}; trained until ten evaluations after 90 % accuracy. Command:
python -m figures prediction --recompute.
"""

SETTINGS = (
    (2, 8), (2, 32), (3, 12), (4, 5), (4, 8), (4, 16), (4, 64), (6, 24), (8, 10), (8, 16), (8, 32),
    (8, 64), (8, 128), (12, 48), (16, 20), (16, 32), (16, 64), (16, 256),
)  # fmt: skip
FITTED = (8, 32)
SEEDS = 3


def cases(fast: bool = False) -> list[Case]:
    """Three seeds of each setting."""
    settings, seeds = (((2, 8), (8, 32)), 1) if fast else (SETTINGS, SEEDS)
    return [
        until_the_fall(
            case(
                n_pairs=n,
                n_labels=count,
                seed=seed,
                n_steps=400 if fast else 20_000 if n < 12 else 40_000,
            )
        )
        for n, count in settings
        for seed in range(seeds)
    ]


def compute(fast: bool = False) -> xr.Dataset:
    chosen = cases(fast)
    runs = train_all("prediction", chosen, fast)
    keys = ("n_pairs", "n_labels", "seed")
    curves = [curves_of(run)[0] for run in runs]
    settings = list(dict.fromkeys((one.n_pairs, one.n_labels) for one in curves))
    groups = [[one for one in curves if (one.n_pairs, one.n_labels) == pair] for pair in settings]
    matched = [match_gradients(group) for group in groups]
    at = settings.index(FITTED)
    law = fitted_law() if fast else set_clock(matched[at].law, groups[at])[0]
    chords = [
        one._replace(theta=np.column_stack([one.theta[:, :2], run.xi_chord, one.theta[:, 3]]))
        for one, run in zip(curves, runs, strict=True)
        if (one.n_pairs, one.n_labels) == FITTED
    ]
    by_chord = law if fast else set_clock(match_gradients(chords).law, chords)[0]
    constant = at_fitted(law)
    names = list(law.constants())
    table = gather(chosen, runs, ("loss", *LOGITS), keys)
    ends = [transition_of(one.t, one.loss, one.n_pairs) for one in curves]
    horizon = [10.0 * max(one.t[-1] for one in group) for group in groups]
    return table.assign(
        measured=("run", [end.t_transition for end in ends], TIME),
        width=("run", [end.width for end in ends], TIME),
        **{
            name: (
                "setting",
                [time_at(by, *pair) for pair in zip(settings, horizon, strict=True)],
                TIME,
            )
            for name, by in (
                ("predicted", law),
                ("predicted_by_constants", constant),
                ("predicted_by_chord", by_chord),
            )
        },
        law=("constant", [law.constants()[name] for name in names]),
        constants=(
            ("setting", "constant"),
            [list(entry.law.constants().values()) for entry in matched],
        ),
        errors=(
            ("setting", "constant"),
            [[entry.error[name] for name in names] for entry in matched],
        ),
    ).assign_coords(
        constant=names,
        setting_pairs=("setting", [n for n, _ in settings]),
        setting_labels=("setting", [count for _, count in settings]),
    )


TIME = {"units": "gradient-flow time"}


def at_fitted(law: MobilityLaw) -> MobilityLaw:
    """Four constant mobilities, those of the law at the fitted setting while xi is about one."""
    _, _, beta2, start, growth, limit = law.arguments(*FITTED)
    xi = mobility((0.0, 0.0, 1.0, 0.0), law.beta1, law.alpha, beta2, start, growth, limit)[2]
    # of a network whose beta2 does not slow down with N, and whose xi has the one speed `limit`
    return MobilityLaw(law.beta1, law.alpha, beta2, 1e12, 0.0, xi, network="minimal")


def settings_of(data: xr.Dataset) -> list[tuple[int, int]]:
    """The settings (N, L) of the data."""
    pairs, labels = data.setting_pairs.values.tolist(), data.setting_labels.values.tolist()
    return list(zip(pairs, labels, strict=True))


def time_at(law: MobilityLaw, setting: tuple[int, int], t_end: float) -> float:
    """Transition time of the flow at a setting."""
    return law.flow(*setting, t_end).transition().t_transition


def fitted_law() -> MobilityLaw:
    """The law of the committed data."""
    return law_in(open_dataset(HERE / "data/prediction.nc", "figure"))


def law_in(data: xr.Dataset) -> MobilityLaw:
    """The law that was matched at the fitted setting."""
    return MobilityLaw(
        **dict(zip(data.constant.values.tolist(), data.law.values.tolist(), strict=True))
    )


def measured_times(data: xr.Dataset) -> np.ndarray:
    """Mean over the seeds of each setting, (settings,); NaN where one does not fall."""
    return np.array(
        [
            data.measured.values[
                (data.n_pairs.values == n) & (data.n_labels.values == count)
            ].mean()
            for n, count in zip(data.setting_pairs.values, data.setting_labels.values, strict=True)
        ]
    )


def numbers(data: xr.Dataset) -> dict[str, Any]:
    pairs = settings_of(data)
    others = np.array([pair != FITTED for pair in pairs])
    measured, predicted = measured_times(data), data.predicted.values

    def median(times: xr.DataArray) -> float:
        return 100 * float(np.median(np.abs(times.values / measured - 1)[others]))

    fitted = (data.n_pairs.values == FITTED[0]) & (data.n_labels.values == FITTED[1])
    return {
        "settings": len(pairs), "others": others.sum(),
        "median": median(data.predicted),
        "within": (np.abs(predicted / measured - 1)[others] <= 0.15).sum(),
        "rank": spearmanr(measured[others], predicted[others])[0],
        "near": [(measured / predicted)[pairs.index(pair)] for pair in ((8, 10), (16, 20))],
        "constants": median(data.predicted_by_constants),
        "chord": median(data.predicted_by_chord),
        "flow_width": law_in(data).flow(*FITTED, 2000.0).transition().width,
        "network_width": span(data.width.values[fitted]),
        "lr": json.loads(data.attrs["parameters"])["lr"],
    }  # fmt: skip


def draw(data: xr.Dataset) -> Figure:
    figure, axes = plots.new_figure(plots.WIDTH, 6.2, 2, 2)
    law = law_in(data)
    for ax, setting in zip(axes[0], ((4, 16), (8, 128)), strict=True):
        _overlay(data, law, setting, ax)
    measured = measured_times(data)
    times, pairs = data.predicted.values, data.setting_pairs.values
    calibrated = (pairs == FITTED[0]) & (data.setting_labels.values == FITTED[1])
    plots.predicted_times(measured, times, pairs, axes[1, 0], calibrated)
    _against_pairs(data, law, measured, axes[1, 1])
    plots.letter_panels(axes.flat)
    figure.suptitle("transformer (thin lines: a seed each) and flow (thick)", fontsize=8)
    return figure


def _overlay(data: xr.Dataset, law: MobilityLaw, setting: tuple[int, int], ax: plots.Axes) -> None:
    """Loss and logits of the network (thin) and of the flow (thick), each on its scale."""
    chosen = (data.n_pairs.values == setting[0]) & (data.n_labels.values == setting[1])
    if not chosen.any():
        return  # not among the fast ones
    part = data.isel(run=np.nonzero(chosen)[0])
    t_end = float(part.t.max())
    flow = law.flow(*setting, t_end).sampled(np.linspace(0, t_end, 300))
    styles = {"loss": ("black", "loss / log $L$"), **{
        name: (plots.LOGIT_COLOURS[name], plots.SYMBOLS[name]) for name in LOGITS
    }}  # fmt: skip
    for name, (colour, label) in styles.items():
        values = flow.loss if name == "loss" else flow.theta[:, LOGITS.index(name)]
        scale = np.log(setting[1]) if name == "loss" else float(part[name].max())
        ax.plot(part.t.T, part[name].T / scale, color=colour, lw=0.7)
        ax.plot(flow.t, values / scale, color=colour, lw=2.2, label=label)
    ax.set(title=f"$N$ = {setting[0]}, $L$ = {setting[1]} (not fitted)", ylim=(-0.05, 1.3))
    ax.set(xlabel=plots.TIME, ylabel="share of log $L$, or of the largest value")
    ax.legend(ncols=5, loc="upper center", columnspacing=0.9, handlelength=1.2)


def _against_pairs(
    data: xr.Dataset, law: MobilityLaw, measured: np.ndarray, ax: plots.Axes
) -> None:
    """Transition time against N at L = 4N: the networks, and the line of the flow."""
    pairs, labels = data.setting_pairs.values, data.setting_labels.values
    at = labels == 4 * pairs
    grid = [2, 3, 4, 6, 8, 12, 16, 24, 32]
    ax.loglog(
        grid, [time_at(law, (n, 4 * n), 1e5) for n in grid], color=plots.RED, label="flow"
    )  # fmt: skip
    chosen = np.isin(data.n_pairs.values * 4, data.n_labels.values) & (
        data.n_labels.values == 4 * data.n_pairs.values
    )
    ax.plot(
        data.n_pairs.values[chosen], data.measured.values[chosen], "o", color="black", ms=4,
        mfc="none", label="networks, each seed",
    )  # fmt: skip
    ax.plot(pairs[at], measured[at], "_", color="black", ms=14, label="mean of the seeds")
    ax.set(xlabel="pairs in the context, $N$ ($L$ = 4$N$)", ylabel="transition time $t$")
    ax.set_xticks([2, 4, 8, 16, 32], ["2", "4", "8", "16", "32"])
    ax.xaxis.set_minor_formatter(NullFormatter())
    ax.legend()


def table(data: xr.Dataset) -> list[str]:
    """Predicted and measured transition times as rows of a Markdown table."""
    rows = [
        "| N | L | measured (seeds 0, 1, 2) | mean | predicted | error |",
        "|--|--|--|--|--|--|",
    ]
    settings = zip(data.setting_pairs.values, data.setting_labels.values, strict=True)
    triples = zip(settings, measured_times(data), data.predicted.values, strict=True)
    for (n, count), mean, predicted in triples:
        chosen = (data.n_pairs.values == n) & (data.n_labels.values == count)
        seeds = ", ".join(f"{t:.0f}" for t in data.measured.values[chosen])
        error = "fitted" if (n, count) == FITTED else f"{100 * (predicted / mean - 1):+.0f} %"
        rows.append(f"| {n} | {count} | {seeds} | {mean:.0f} | {predicted:.0f} | {error} |")
    return rows
