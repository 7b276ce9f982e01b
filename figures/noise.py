"""Why the classifier of the full network is slow close to L = N: noise."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import numpy as np
import xarray as xr
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import NullFormatter
from scipy.stats import spearmanr

from cliff import plots
from cliff.curriculum import integrate_schedules
from cliff.mobility_law import Curves, MobilityLaw, curves_of, match_noise
from cliff.store import open_dataset, provenance
from cliff.trajectory import transition_of
from figures import HERE, curriculum, prediction
from figures.ensembles import Case, case, train_all, until_the_fall
from figures.measured_mobilities import PALETTE
from figures.prediction import FITTED, SEEDS, TIME, law_in, measured_times, settings_of, time_at

CAPTION = """
Noise holds the gain of the classifier back. (a) Share of the force of the signal, of which labels
the context has, that the rest of the logits takes back (xi_noise), over the first half of the way
to the transition, seed 0, means over {stretches} stretches: at 1 no common gain of signal and rest
lowers the loss any more. Dotted: L below 4N; dashed: above. Shares above 1.6, early on, are cut.
(b) The least of the medians over eighths of that way, seed 0, against 1 - h², which follows from
the one at (8, 32) ({share:.2f}, seeds 0, 1 and 2 together; filled). The rank correlation over the
others is {rank:.2f}; {above} of {others} have more noise than predicted, most of all at
{most[0]}. One variance of the noise for all settings is thus an approximation: taken from each
setting by itself it goes from {variance[0]:.3f} to {variance[1]:.2f}, where the share is below 1.
(c) Predicted over measured transition time, means of three seeds (grey: within 20 %): without
noise the law of the prediction figure is off by {plain[median]:.1f} % in the median and
{plain[worst]:.0f} % at most, with it by {noisy[median]:.1f} % and {noisy[worst]:.0f} %; {better}
of {others} come nearer. Shares of {low[0]} and {high[0]} instead would give {low[1]:.1f} % and
{low[2]:.0f} %, {high[1]:.1f} % and {high[2]:.0f} %. Along the {schedules} schedules of the
curriculum figure the law without noise does better: {along:.1f} % in the median and
{along_plain_worst:.0f} % at most, against {along_noisy:.1f} % and {along_worst:.0f} %. (d) What
the noise of the gradient adds: transition time over that at learning rate 0.1 and batch 128
(line), seed 0. At the least learning rate over batch, (8, 10) falls {gain_near:.0f} % sooner, (16,
20) {gain_large:.0f} % and (8, 32) {gain_far:.0f} %. K = 512, D = 63, noise of the items 0.1, B =
1, all novel; learning rate {lr} and batch 128 but in (d). Command: python -m figures noise
--recompute.
"""

SHOWN = ((4, 16), (8, 32), (8, 128), (16, 64), (8, 10), (16, 20))
"""Settings of panel (a)."""
BATCH = 128
STRETCHES = 16
OTHER_SHARES = (0.4, 0.7)
"""Shares in place of the one that was measured, for how much the predictions depend on it."""
TEMPERATURES = {
    (8, 32): ({"batch": 32}, {"batch": 1024}),
    (8, 10): ({"batch": 32}, {"lr": 0.02}, {"batch": 1024}),
    (16, 20): ({"lr": 0.02},),
}
"""Other learning rates and batches, by setting."""


def cases(fast: bool = False) -> list[Case]:
    """Runs that record the noise up to half of the transition time: three seeds at (8, 32)."""
    data = open_dataset(HERE / "data/prediction.nc", "figure")
    times = dict(zip(settings_of(data), measured_times(data).tolist(), strict=True))
    chosen = [(2, 8), FITTED] if fast else list(times)
    return [
        case(
            n_pairs=n,
            n_labels=count,
            seed=seed,
            n_steps=200 if fast else round(5.0 * times[n, count]),
            options={
                "eval_every": 5 if fast else 10 if n < 4 else 100 if n > 12 else 25,
                # close to L = N the force of the signal is small beside what a sample adds to it
                "eval_size": 64 if fast else 16_384 if count < 2 * n else 2048,
            },
        )
        for n, count in chosen
        for seed in range(SEEDS if (n, count) == FITTED and not fast else 1)
    ]


def warmer(fast: bool = False) -> list[Case]:
    """Runs to the fall at other learning rates and batches."""
    found = []
    for (n, count), all_options in ({} if fast else TEMPERATURES).items():
        for options in all_options:
            slower = round(0.1 / options.get("lr", 0.1))
            one = until_the_fall(case(n_pairs=n, n_labels=count, n_steps=40_000 * slower))
            changed = {
                **one.run.options, **options,
                **{key: slower * one.run.options[key] for key in ("eval_every", "stop_delay")},
            }  # fmt: skip
            labels = {**one.labels, "lr": changed["lr"], "batch": changed.get("batch", BATCH)}
            found.append(Case(replace(one.run, options=changed), labels))
    return found


def compute(fast: bool = False) -> xr.Dataset:
    data = open_dataset(HERE / "data/prediction.nc", "figure")
    chosen, others = cases(fast), warmer(fast)
    runs = train_all("noise", chosen, fast)
    curves = [curves_of(run)[0] for run in runs]
    groups: dict[tuple[int, int], list[Curves]] = {}
    for one in curves:
        groups.setdefault((one.n_pairs, one.n_labels), []).append(one)
    settings, first = list(groups), [group[0] for group in groups.values()]
    shares = [match_noise(group) for group in groups.values()]
    law = replace(law_in(data), setting=FITTED)
    noisy = law.with_noise(0.5 if fast else shares[settings.index(FITTED)])
    horizon = dict(zip(settings_of(data), 10.0 * measured_times(data), strict=True))
    predicted = [time_at(noisy, at, horizon[at]) for at in settings]
    warm = [
        transition_of(run.t, run.loss, one.run.task.n_pairs).t_transition
        for one, run in zip(others, train_all("noise", others, fast), strict=True)
    ]
    on_schedules = [] if fast else _along_schedules(noisy)
    keys = ("n_pairs", "n_labels", "lr", "batch", "seed")
    return xr.Dataset(
        {
            "share": (
                ("setting", "stretch"),
                [[part.mean() for part in np.array_split(one.noise, STRETCHES)] for one in first],
            ),
            "time": (
                ("setting", "stretch"),
                [[part.mean() for part in np.array_split(one.t, STRETCHES)] for one in first],
                TIME,
            ),
            "least": ("setting", shares),
            "predicted_least": ("setting", [1.0 - noisy.gain(*at) ** 2 for at in settings]),
            "predicted": ("setting", predicted, TIME),
            "along_schedules": ("schedule", np.array(on_schedules, float), TIME),
            "other_predicted": (
                ("other_share", "setting"),
                [
                    [time_at(law.with_noise(share), at, horizon[at]) for at in settings]
                    for share in OTHER_SHARES[: 1 if fast else None]
                ],
                TIME,
            ),
            "transition": ("run", np.array(warm, float), TIME),
        },
        coords={
            "other_share": list(OTHER_SHARES[: 1 if fast else None]),
            "setting_pairs": ("setting", [n for n, _ in settings]),
            "setting_labels": ("setting", [count for _, count in settings]),
            **{key: ("run", [one.labels[key] for one in others]) for key in keys},
        },
        attrs=provenance({"lr": 0.1, "noise": noisy.noise, "runs": len(chosen + others)}),
    )


def _along_schedules(law: MobilityLaw) -> list[float]:
    """Times on the schedules of the curriculum figure, in the order of its `compared`."""
    _, _, keys = curriculum.compared(open_dataset(HERE / "data/curriculum.nc", "figure"))
    by_kind = curriculum.cases()
    schedules = {
        (one.run.task.n_pairs, one.run.task.n_labels, one.labels["schedule"]):
        one.run.options["curriculum"]
        for one in by_kind["planned"] + by_kind["designed"]
    }  # fmt: skip
    return [float(integrate_schedules([schedules[key]], 1e4, law).t_transition[0]) for key in keys]


def _predictions(data: xr.Dataset) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Measured times of the prediction figure, and those predicted without and with noise."""
    without = open_dataset(HERE / "data/prediction.nc", "figure")
    rows = [settings_of(without).index(at) for at in settings_of(data)]
    return measured_times(without)[rows], without.predicted.values[rows], data.predicted.values


def _relative(data: xr.Dataset) -> dict[tuple[int, int], tuple[np.ndarray, np.ndarray]]:
    """By setting: learning rate over batch, and the time over that at 0.1 / 128.

    Each run is compared with the run of its own seed in the prediction figure.
    """
    usual = open_dataset(HERE / "data/prediction.nc", "figure")
    found = {}
    for n, count in TEMPERATURES:
        chosen = (data.n_pairs.values == n) & (data.n_labels.values == count)
        heat = (data.lr.values / data.batch.values)[chosen]
        same = (usual.n_pairs.values == n) & (usual.n_labels.values == count)
        own = [
            usual.measured.values[same & (usual.seed.values == seed)].item()
            for seed in data.seed.values[chosen]
        ]
        ratio = data.transition.values[chosen] / own
        heat, ratio = np.append(heat, 0.1 / BATCH), np.append(ratio, 1.0)
        order = np.argsort(heat)
        found[n, count] = heat[order], ratio[order]
    return found


def numbers(data: xr.Dataset) -> dict[str, Any]:
    settings = settings_of(data)
    others = np.array([at != FITTED for at in settings])
    measured, plain, noisy = _predictions(data)

    def errors(predicted: np.ndarray) -> dict[str, float]:
        off = 100 * np.abs(predicted / measured - 1)[others]
        return {"median": float(np.median(off)), "worst": float(off.max())}

    taken, usual, _ = curriculum.compared(open_dataset(HERE / "data/curriculum.nc", "figure"))
    coolest = {at: 100 * (1 - float(ratio[0])) for at, (_, ratio) in _relative(data).items()}
    least, expected = data.least.values, data.predicted_least.values
    excess = np.where(others, least - expected, -np.inf)
    law = law_in(open_dataset(HERE / "data/prediction.nc", "figure"))
    variances = [
        replace(law, setting=at).with_noise(share).noise
        for at, share in zip(settings, least.tolist(), strict=True)
        if at != FITTED and share < 1
    ]
    ends = zip(data.other_share.values, data.other_predicted.values, strict=True)
    low, *_, high = [(float(share), *errors(times).values()) for share, times in ends]
    along = np.abs(np.array([usual, data.along_schedules.values]) / taken - 1)
    return {
        "stretches": STRETCHES,
        "share": float(least[settings.index(FITTED)]),
        "rank": spearmanr(least[others], expected[others])[0],
        "others": int(others.sum()),
        "above": int((excess > 0).sum()),
        "most": [settings[int(np.argmax(excess))]],
        "variance": [min(variances), max(variances)],
        "plain": errors(plain),
        "noisy": errors(noisy),
        "better": int((np.abs(noisy / measured - 1) < np.abs(plain / measured - 1))[others].sum()),
        "low": low,
        "high": high,
        "schedules": len(taken),
        "along": 100 * float(np.median(along[0])),
        "along_plain_worst": 100 * float(along[0].max()),
        "along_noisy": 100 * float(np.median(along[1])),
        "along_worst": 100 * float(along[1].max()),
        "gain_near": coolest[8, 10],
        "gain_large": coolest[16, 20],
        "gain_far": coolest[8, 32],
        "lr": json.loads(data.attrs["parameters"])["lr"],
    }


def table(data: xr.Dataset) -> list[str]:
    """The table of the prediction figure, with the times predicted with noise beside it."""
    title, rule, *rows = prediction.table(open_dataset(HERE / "data/prediction.nc", "figure"))
    found = [f"{title} with noise | error |", f"{rule}--|--|"]
    for at, row, mean, _, noisy in zip(settings_of(data), rows, *_predictions(data), strict=True):
        error = "fitted" if at == FITTED else f"{100 * (noisy / mean - 1):+.0f} %"
        found.append(f"{row} {noisy:.0f} | {error} |")
    return found


def draw(data: xr.Dataset) -> Figure:
    figure, axes = plots.new_figure(plots.WIDTH, 6.0, 2, 2)
    settings = settings_of(data)
    sizes = sorted({n for n, _ in settings})
    palette = dict(zip(sizes, PALETTE, strict=False))
    measured, plain, noisy = _predictions(data)
    for at in SHOWN:
        if at in settings:
            row = settings.index(at)
            time = data.time.values[row] / measured[row]
            style = ":" if at[1] < 4 * at[0] else "-" if at[1] == 4 * at[0] else "--"
            axes[0, 0].plot(time, data.share.values[row], style, color=palette[at[0]],
                            label=f"({at[0]}, {at[1]})")  # fmt: skip
    axes[0, 0].axhline(1.0, color="black", lw=0.8)
    axes[0, 0].set(ylim=(0, 1.6), xlabel="time over transition time",
                   ylabel="force taken back by noise (share)")  # fmt: skip
    axes[0, 0].legend(ncols=3, title="$(N, L)$", loc="lower center")
    colours = [palette[n] for n, _ in settings]
    fitted = np.array([at == FITTED for at in settings])
    ax = axes[0, 1]
    ax.axline((0, 0), slope=1, color="black", lw=0.8)
    ax.scatter(data.predicted_least, data.least, s=26, facecolors="none", edgecolors=colours)
    ax.scatter(data.predicted_least[fitted], data.least[fitted], s=26, color=palette[FITTED[0]])
    ax.set(xlim=(0, 1.05), ylim=(0, 1.25), xlabel="predicted, $1 - h^2$",
           ylabel="least share, measured")  # fmt: skip
    ax = axes[1, 0]
    ratio = np.array([count / n for n, count in settings])
    for predicted, marker, size in ((plain, "x", 20), (noisy, "s", 22)):
        drawn = {"facecolors": "none", "edgecolors": colours} if marker == "s" else {"c": colours}
        ax.scatter(ratio, predicted / measured, s=size, marker=marker, linewidths=1, **drawn)
    for marker, label in (("x", "without noise"), ("s", "with noise")):
        ax.plot([], [], marker, color="black", mfc="none", ms=5, label=label)
    ax.axhline(1.0, color="black", lw=0.8)
    ax.axhspan(0.8, 1.2, color="black", alpha=0.07, lw=0)
    ax.set(xscale="log", yscale="log", xlabel="labels per pair, $L/N$",
           ylabel="predicted over measured time")  # fmt: skip
    ax.set_xticks([1.25, 2, 4, 8, 16], ["1.25", "2", "4", "8", "16"])
    ax.set_yticks([0.5, 0.6, 0.8, 1, 1.2], ["0.5", "0.6", "0.8", "1", "1.2"])
    for axis in (ax.xaxis, ax.yaxis):
        axis.set_minor_formatter(NullFormatter())
    ax.legend(loc="lower right")
    ax = axes[1, 1]
    for (at, (heat, times)), marker in zip(_relative(data).items(), "os^", strict=True):
        if len(heat) > 1:
            ax.plot(1e3 * heat, times, marker=marker, color=palette[at[0]], mfc="none",
                    ls="-" if at[1] >= 4 * at[0] else ":", label=f"({at[0]}, {at[1]})")  # fmt: skip
    ax.axvline(100 / BATCH, color="black", lw=0.8)
    ax.set(xlim=(0, None), xlabel="learning rate / batch (10$^{-3}$)",
           ylabel="transition time over the usual one")  # fmt: skip
    if ax.get_legend_handles_labels()[0]:
        ax.legend(title="$(N, L)$")
    figure.legend(
        handles=[
            Line2D([], [], color=palette[n], marker="o", mfc="none", ls="", label=f"$N$ = {n}")
            for n in sizes
        ],
        loc="outside lower center", ncols=7,
    )  # fmt: skip
    plots.letter_panels(axes.flat)
    return figure
