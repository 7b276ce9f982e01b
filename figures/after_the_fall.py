"""After the fall: what finite dimension leaves of the loss, on landscape and network."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import xarray as xr
from matplotlib.figure import Figure

from cliff import NestedLogit, integrate, plots
from cliff.landscapes import finite_dimension
from cliff.landscapes.finite_dimension import IDEAL_WIDTH
from cliff.mobility_law import mobility
from cliff.network import reference
from cliff.network.layers import Network
from cliff.network.logits import effective_logits
from cliff.parallel import one_blas_thread
from cliff.task import Batch
from figures.ensembles import Case, case, gather, train_all
from figures.prediction import fitted_law

CAPTION = """
What finite dimension leaves of the loss after the fall, on transformers trained for three times
their transition time. (a, b) Loss of three seeds (black; {sequences:,} held-out sequences an
evaluation) and the landscapes' loss at the networks' own logits: the nested logit, with the
overlaps of {dim} dimensions and noise {noise}, and with the spread of a learned match operator of
width W = P + D besides. Nothing is fitted. (c) The same with that operator for all settings and
seeds after the fall, against the networks (line: equal; grey: the nested logit). Settings are
{order}. At the end the networks stay at {own} nats, the nested logit at their logits is at
{nested}, with the dimension of the data at {data}, with the operator at {operator}. While the
networks' loss is between {low:g} and {high:g}, the ratio to it is, in the geometric mean,
{nested_ratio} for the nested logit, {data_ratio} with the dimension of the data and
{operator_ratio} with the operator: at D = 63 it accounts for the loss just after the fall; at D =
31 it says too much, and so it does later on, while networks unlearn its noise. (d) Which half of
the network holds it, in that range: with its own attention and ideal logits xi q (chord) a network
keeps {attention} % of the loss, with its own classifier and the attention that its logits and the
overlaps give {classifier} %, with neither {ideal} %. The match operator's effective dimension ends
at {match_dim}, where {expected} is derived. (e, f) Flows from the origin with the mobilities of the
prediction figure: at t = {t_end} the nested logit is at {flow_nested} nats, with the operator
{flow_operator}; networks {flow_own}. The flows fall at {flow_falls} with the operator instead of
{nested_falls}. Settings unless named: D = 63, noise 0.1, three seeds (two with noise 0.3); K = 512,
B = 1, all novel, learning rate {lr}. Command: python -m figures after_the_fall --recompute.
"""

SETTINGS: tuple[dict[str, Any], ...] = (
    {"n_pairs": 8, "n_labels": 32, "dim": 63, "noise": 0.1},
    {"n_pairs": 4, "n_labels": 16, "dim": 63, "noise": 0.1},
    {"n_pairs": 4, "n_labels": 16, "dim": 31, "noise": 0.1},
    {"n_pairs": 4, "n_labels": 16, "dim": 63, "noise": 0.3},
)
SEEDS = (3, 3, 3, 2)
"""Seeds of each setting, from 0."""

N_STEPS = {8: 12_000, 4: 5000}
EVERY = 250
SIZE = 4096
"""Held-out sequences of an evaluation, beside those of `train`."""

CURVES = ("own", "own_attention", "own_classifier", "ideal", "match_dim", "score_noise")


def probe(net: Network, sets: Mapping[str, Batch]) -> dict[str, float]:
    """A network's loss, and what it would be with one of its two halves made ideal.

    ``own``: loss (nats); ``own_attention``: with the logits chord × attention in the place of the
    classifier's; ``own_classifier``: with the attention that the effective logits and the actual
    overlaps give; ``ideal``: with both. ``match_dim``: (tr M)²/tr MᵀM of the match operator M.
    ``score_noise``: variance of the target's scores in layer 2 less those ideal ones.
    """
    task, size = net.task, SIZE if sets["train"].labels.shape[0] >= 512 else 64
    rng = np.random.default_rng(task.seed)
    theta = {name: value.astype(np.float64) for name, value in net.parameters.items()}
    logits = effective_logits(net, sets["train"])
    content = slice(task.window, task.width)
    match = (theta["Q2"].T @ theta["K2"] @ theta["V1"])[content, content]
    rows = [_losses(net, theta, logits, task.sample(rng, 64, "icl")) for _ in range(size // 64)]
    names = (*CURVES[:4], "score_noise")
    return {
        **dict(zip(names, np.mean(rows, axis=0).tolist(), strict=True)),
        "match_dim": float(np.trace(match) ** 2 / (match**2).sum()),
    }


@one_blas_thread()
def _losses(
    net: Network, theta: Mapping[str, Any], logits: Mapping[str, float], batch: Batch
) -> list[float]:
    task, row = net.task, np.arange(len(batch.answer))
    u = reference.tokens(batch, task.label_vectors.astype(np.float64), task.window)
    v, attention1 = reference.attend(u, theta, "1")
    scores = ((v[:, -1] @ theta["Q2"].T)[:, None] @ (v @ theta["K2"].T).transpose(0, 2, 1))[:, 0]
    content = u[:, :, task.window :]
    overlap = np.einsum("bjd,bd->bj", content, content[:, -1])
    label = np.arange(task.n_tokens) % 2
    i, j = np.indices((task.n_tokens, task.n_tokens))
    previous = np.where(j <= i, logits["beta1"] * (j == i - 1), -np.inf)
    known = logits["beta2"] * label
    ideal = logits["alpha"] * overlap @ reference.softmax(previous).T + known
    matched = logits["alpha"] * np.einsum("bij,bj->bi", attention1, overlap) + known

    def loss(scores: Any, classifier: bool) -> float:
        attention = reference.softmax(scores)
        if classifier:
            output = np.einsum("bj,bjw->bw", attention, v) @ theta["V2"].T
            found = reference.classify(v[:, -1] + output, theta)[0]
        else:
            found = np.zeros((len(row), task.n_labels))
            for n in range(task.n_pairs):
                found[row, batch.labels[:, n]] += logits["xi_chord"] * attention[:, 2 * n + 1]
        return reference.cross_entropy(found, batch.answer)[0]

    rest = scores - matched
    noise = (rest - rest.mean(axis=1, keepdims=True)).var()
    return [
        loss(scores, True), loss(scores, False), loss(ideal, True), loss(ideal, False), noise,
    ]  # fmt: skip


def cases(fast: bool = False) -> list[Case]:
    found = []
    for setting, seeds in zip(SETTINGS, SEEDS, strict=True):
        if fast and setting is not SETTINGS[1]:
            continue
        for seed in range(1 if fast else seeds):
            steps, every = (20, 10) if fast else (N_STEPS[setting["n_pairs"]], EVERY)
            options = {"eval_every": every, "eval_size": 64 if fast else 512}
            one = case(**setting, seed=seed, n_steps=steps, options=options)
            found.append(replace(one, run=replace(one.run, probes=(probe,))))
    return found


LANDSCAPES = ("nested", "data", "operator")
"""The nested logit; in D dimensions, with noise; and with a learned match operator besides."""

LOW, HIGH = 0.01, 0.1
"""Losses (nats) between which networks have just fallen."""


def landscape(kind: str, setting: Mapping[str, Any]) -> Any:
    """The landscape of that kind at N, L, D and noise."""
    n_pairs, n_labels, dim = (setting[name] for name in ("n_pairs", "n_labels", "dim"))
    if kind == "nested":
        return NestedLogit(n_pairs, n_labels, label_bias="free")
    width = IDEAL_WIDTH if kind == "data" else case(**setting).run.task.width
    return finite_dimension(n_pairs, n_labels, dim, setting["noise"], width)


def compute(fast: bool = False) -> xr.Dataset:
    chosen = cases(fast)
    runs = train_all("after_the_fall", chosen, fast)
    names = ("loss", "beta1", "alpha", "xi", "beta2", "xi_chord", *CURVES)
    keys = ("n_pairs", "n_labels", "dim", "noise", "seed")
    table = gather(chosen, runs, names, keys)
    theta = np.stack([table[name] for name in ("beta1", "alpha", "xi", "beta2")], axis=-1)
    units = {"units": "nats"}
    for kind in LANDSCAPES:
        found = np.full(theta.shape[:2], np.nan)
        for run, one in enumerate(chosen):
            there = np.isfinite(theta[run, :, 0])
            setting = {key: one.labels[key] for key in keys[:-1]}
            found[run, there] = landscape(kind, setting).loss(theta[run, there].astype(float))
        table[f"at_{kind}"] = (("run", "row"), found, units)
    law, flows, falls = fitted_law(), [], []
    share = np.linspace(0.0, 1.0, 5 if fast else 241)
    for setting in SETTINGS[:2]:
        n_pairs, n_labels = setting["n_pairs"], setting["n_labels"]
        t_end = 0.1 * N_STEPS[n_pairs]
        for kind in LANDSCAPES:
            arguments = law.arguments(n_pairs, n_labels)
            model = landscape(kind, setting)
            flow = integrate(model, np.zeros(4), t_end, mobility=mobility, mobility_args=arguments)
            flows.append(model.loss(flow.path(share * t_end)))
            falls.append(flow.transition().t_transition)
    shape = 2, len(LANDSCAPES)
    time = {"units": "gradient-flow time"}
    return table.assign(
        flow=(("flow_setting", "kind", "share"), np.reshape(flows, (*shape, -1)), units),
        flow_fall=(("flow_setting", "kind"), np.reshape(falls, shape), time),
    ).assign_coords(
        kind=list(LANDSCAPES), share=share,
        flow_end=("flow_setting", [0.1 * N_STEPS[s["n_pairs"]] for s in SETTINGS[:2]], time),
    )  # fmt: skip


def in_setting(data: xr.Dataset) -> Iterator[tuple[dict[str, Any], xr.Dataset]]:
    """The settings of the runs, and the runs of each."""
    for setting in SETTINGS:
        chosen = np.ones(data.sizes["run"], bool)
        for name, value in setting.items():
            chosen &= np.isclose(data[name].values.astype(float), value)
        if chosen.any():
            yield setting, data.isel(run=chosen)


def name_of(setting: Mapping[str, Any]) -> str:
    words = f"({setting['n_pairs']}, {setting['n_labels']})"
    words += f", D = {setting['dim']}" if setting["dim"] != 63 else ""
    return words + (f", noise {setting['noise']:g}" if setting["noise"] != 0.1 else "")


def ends(data: xr.Dataset, name: str) -> list[float]:
    """Mean of a curve over the last quarter of the records and the seeds, for each setting."""
    found = []
    for _, runs in in_setting(data):
        rows = [values[np.isfinite(values)] for values in runs[name].values]
        found.append(float(np.mean([row[3 * len(row) // 4 :].mean() for row in rows])))
    return found


def fallen(runs: xr.Dataset) -> np.ndarray:
    """Records just after the fall, shape (run, row)."""
    loss = runs.own.values
    chosen: np.ndarray = (loss > LOW) & (loss < HIGH)
    return chosen


def ratios(data: xr.Dataset, kind: str) -> list[float]:
    """Landscape's loss over the network's just after the fall, geometric mean of each setting."""
    found = []
    for _, runs in in_setting(data):
        there = fallen(runs)
        logs = np.log(runs[f"at_{kind}"].values[there] / runs.own.values[there])
        found.append(float(np.exp(logs.mean())) if there.any() else np.nan)
    return found


def shares(data: xr.Dataset, name: str) -> list[float]:
    """Loss with a half made ideal, in percent of the network's, just after the fall."""
    found = []
    for _, runs in in_setting(data):
        there = fallen(runs)
        whole = runs.own.values[there].sum()
        found.append(float(100 * runs[name].values[there].sum() / whole) if whole else np.nan)
    return found


def numbers(data: xr.Dataset) -> dict[str, Any]:
    def listed(values: Any, form: str = ".2g") -> str:
        return ", ".join(f"{value:{form}}" for value in values)

    settings = [setting for setting, _ in in_setting(data)]
    derived = [1 / (1 / s["dim"] + 1 / case(**s).run.task.width) for s in settings]
    flows = data.flow.values
    return {
        "sequences": SIZE, "dim": SETTINGS[0]["dim"], "noise": SETTINGS[0]["noise"],
        "own": listed(ends(data, "own")), "low": LOW, "high": HIGH,
        **{kind: listed(ends(data, f"at_{kind}")) for kind in LANDSCAPES},
        **{f"{kind}_ratio": listed(ratios(data, kind)) for kind in LANDSCAPES},
        "order": "; ".join(name_of(setting) for setting in settings),
        "attention": listed(shares(data, "own_attention"), ".0f"),
        "classifier": listed(shares(data, "own_classifier"), ".0f"),
        "ideal": listed(shares(data, "ideal"), ".1f"),
        "match_dim": listed(ends(data, "match_dim"), ".0f"), "expected": listed(derived, ".0f"),
        "t_end": listed(data.flow_end.values, ".0f"),
        "flow_nested": listed(flows[:, 0, -1]), "flow_operator": listed(flows[:, 2, -1]),
        "flow_own": listed(ends(data, "own")[:2]),
        "flow_falls": listed(data.flow_fall.values[:, 2], ".0f"),
        "nested_falls": listed(data.flow_fall.values[:, 0], ".0f"),
        "lr": json.loads(data.attrs["parameters"])["lr"],
    }  # fmt: skip


STYLES = {
    "nested": (plots.GREY, ":", "nested logit"),
    "data": (plots.BLUE, "--", "finite dimension and noise"),
    "operator": (plots.RED, "-", "and a learned match operator"),
}


def draw(data: xr.Dataset) -> Figure:
    figure, axes = plots.new_figure(plots.WIDTH, 5.2, 2, 3)
    (first, second, scatter), (halves, *of_flow) = axes
    settings = list(in_setting(data))
    for ax, (setting, runs) in zip((first, second), settings[:2], strict=False):
        for kind, (colour, style, label) in STYLES.items():
            mean = np.exp(np.log(runs[f"at_{kind}"]).mean("run"))
            ax.semilogy(runs.t[0], mean, color=colour, ls=style, label=label)
        ax.semilogy(runs.t.T, runs.own.T, color="black", lw=0.7)
        ax.set(title=f"{name_of(setting)}, own logits")
    markers = ("o", "s", "^", "D")
    colours = (plots.RED, plots.BLUE, plots.GREEN, plots.ORANGE)
    for (setting, runs), marker, colour in zip(settings, markers, colours, strict=False):
        below = runs.own.values < 0.5 * np.log(setting["n_pairs"])
        own = runs.own.values[below]
        scatter.loglog(own, runs.at_nested.values[below], marker, color=plots.GREY, ms=2, alpha=0.5)
        scatter.loglog(
            own, runs.at_operator.values[below], marker, color=colour, ms=3, mfc="none"
        )  # fmt: skip
    scatter.plot([1e-3, 1], [1e-3, 1], color="black", lw=0.6)
    scatter.set(
        xlabel="network (nats)", ylabel="landscape, own logits (nats)", title="after the fall"
    )
    names = ("own_attention", "own_classifier", "ideal")
    for number, marker, colour in zip(range(len(settings)), markers, colours, strict=False):
        kept = [shares(data, name)[number] for name in names]
        halves.semilogy(
            kept, marker, color=colour, mfc="none", label=name_of(settings[number][0])
        )  # fmt: skip
    halves.set_xticks(range(3), ["own\nattention", "own\nclassifier", "both\nideal"])
    halves.set(ylabel="% of the network's loss", title="which half", xlim=(-0.5, 2.5))
    halves.set_ylim(0.1, 1000)
    halves.legend(fontsize=7, loc="lower left")
    for ax, (setting, runs), number in zip(of_flow, settings[:2], range(2), strict=False):
        t = data.share * float(data.flow_end[number])
        for kind, (colour, style, _) in STYLES.items():
            ax.semilogy(t, data.flow.sel(kind=kind)[number], color=colour, ls=style)
        ax.semilogy(runs.t.T, runs.own.T, color="black", lw=0.7)
        ax.set(title=f"{name_of(setting)}, flows")
    for ax in (first, second, *of_flow):
        ax.set(xlabel=plots.TIME, ylabel="loss (nats)", ylim=(1e-6, 10), xlim=(0, None))
    first.plot([], [], color="black", lw=0.7, label="networks, each seed")
    figure.legend(*first.get_legend_handles_labels(), loc="outside lower center", ncol=2)
    plots.letter_panels([first, second, scatter, halves, *of_flow])
    return figure
