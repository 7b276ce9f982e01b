"""Causal experiments: which circuit waits for which."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import xarray as xr
from matplotlib.figure import Figure

from cliff import plots
from cliff.network.training import TrainingState, make_network, train
from cliff.trajectory import transition_of
from figures import WORDS, span
from figures.ensembles import Case, case, gather, train_all, until_the_fall

CAPTION = """
Loss against time when one circuit is given or withheld (seeds 0, 1, 2, a line each; N = 8, L =
32, K = 512, D = 63, noise 0.1, B = 1, all novel, learning rate {lr}; dotted: the plateau log N).
(a) Transformer, (b) minimal head, (c) minimal head without label bias. With layer 1 held at the
token before from the start the fall comes at {held} of its time: what remains is the wait for the
match and the classifier. With the classifier frozen as drawn {frozen} of {n_frozen} networks fall
by t = {t_end:.0f}. With a classifier taken from another seed's trained head (and frozen), the
slow phase is gone: the minimal head falls at t = {given}, or {given_unbiased} without a label
bias, instead of {free} and {free_unbiased}. Without a label bias (beta2 held at 0) the same fall
comes {later:.0f} % later. At L = N there is no slow phase to go through and no fall: see the wall
figure. Command: python -m figures causal --recompute.
"""

CLASSIFIER = ("W1", "b1", "W2", "b2", "W3", "b3", "readout")


def previous_token_attention(state: TrainingState) -> None:
    """Every token attends to the one before it from the start."""
    if state.step == 0:
        state.net.set_clamp(1, "previous")


def frozen_classifier(state: TrainingState) -> None:
    """The classifier stays as it was drawn."""
    if state.step == 0:
        state.net.freeze(*CLASSIFIER)


def trained_classifier(state: TrainingState) -> None:
    """The classifier comes from another seed's trained network, and stays so."""
    if state.step == 0:
        donor = make_network(state.net.model, state.task, state.net.seed + 100)
        train(donor, state.task, 8000, lr=0.1, seed=donor.seed, eval_every=8000)
        for name in CLASSIFIER:
            state.net.parameters[name][...] = donor.parameters[name]
        state.net.freeze(*CLASSIFIER)


EXPERIMENTS: Mapping[str, Callable[[TrainingState], None] | None] = {
    "untouched": None,
    "layer 1 held at the token before": previous_token_attention,
    "classifier frozen as drawn": frozen_classifier,
    "classifier trained beforehand": trained_classifier,
}
NETWORKS: Sequence[tuple[str, dict[str, Any]]] = (
    ("transformer", {}),
    ("minimal", {}),
    ("minimal", {"label_bias": 0.0}),
)
SEEDS = 3


def cases(fast: bool = False) -> list[Case]:
    """Every experiment on every network; a transformer's classifier fits its own layers only."""
    seeds, n_steps = (1, 20) if fast else (SEEDS, 10_000)
    found = []
    for model, network in NETWORKS:
        for name, callback in EXPERIMENTS.items():
            if callback is trained_classifier and (fast or model == "transformer"):
                continue
            for seed in range(seeds):
                one = until_the_fall(case(model, seed, n_steps, network, n_pairs=8, n_labels=32))
                run = replace(one.run, callbacks=(callback,) if callback else ())
                labels = {**one.labels, "experiment": name}
                found.append(Case(run, labels))
    return found


def compute(fast: bool = False) -> xr.Dataset:
    chosen = cases(fast)
    names = ("loss", "accuracy", "cla", "ila1", "tila2")
    return gather(chosen, train_all("causal", chosen, fast), names, ("experiment", "seed"))


def transition_times(data: xr.Dataset) -> np.ndarray:
    """Transition time of every run, shape (runs,); NaN for one that does not fall."""
    each = [data.isel(run=run).dropna("row", subset=["loss"]) for run in range(data.sizes["run"])]
    return np.array([transition_of(one.t, one.loss, 8).t_transition for one in each])


def numbers(data: xr.Dataset) -> dict[str, Any]:
    times = transition_times(data)
    free, previous, frozen, trained = EXPERIMENTS
    transformer, head, unbiased = dict.fromkeys(data.network.values.tolist())

    def of(network: str, experiment: str) -> np.ndarray:
        return times[(data.network.values == network) & (data.experiment.values == experiment)]

    held = [of(network, previous) / of(network, free) for network in (transformer, head, unbiased)]
    never = times[data.experiment.values == frozen]
    return {
        "lr": json.loads(data.attrs["parameters"])["lr"],
        "held": span(np.concatenate(held), 2),
        "frozen": WORDS[int(np.isfinite(never).sum())], "n_frozen": len(never),
        "t_end": float(data.t.max()),
        "given": span(of(head, trained)), "given_unbiased": span(of(unbiased, trained)),
        "free": span(of(head, free)), "free_unbiased": span(of(unbiased, free)),
        "later": 100 * (of(unbiased, free).mean() / of(head, free).mean() - 1),
    }  # fmt: skip


def draw(data: xr.Dataset) -> Figure:
    networks = list(dict.fromkeys(data.network.values.tolist()))
    figure, axes = plots.new_figure(plots.WIDTH, 3.0, 1, len(networks))
    colours = (plots.GREY, plots.BLUE, plots.RED, plots.GREEN)
    for ax, network in zip(axes[0], networks, strict=True):
        for (name, colour), style in zip(
            zip(EXPERIMENTS, colours, strict=True), ("-", "--", ":", "-."), strict=True
        ):
            chosen = (data.network.values == network) & (data.experiment.values == name)
            if chosen.any():
                part = data.isel(run=np.nonzero(chosen)[0])
                lines = ax.plot(part.t.T, part.loss.T, color=colour, ls=style, lw=1.2)
                lines[0].set_label(name)
        plateau = ax.axhline(np.log(8), color="black", lw=0.8, ls=(0, (1, 3)))
        ax.set(title=network, xlabel=plots.TRAINING_TIME, ylim=(0, 1.05 * float(data.loss.max())))
    plateau.set_label("plateau log $N$")
    axes[0, 0].set_ylabel("loss (nats)")
    handles = {
        label: handle
        for ax in axes[0]
        for handle, label in zip(*ax.get_legend_handles_labels(), strict=True)
    }
    figure.legend(handles.values(), handles, loc="outside lower center", ncols=3)
    plots.letter_panels(axes.flat)
    figure.suptitle("$N$ = 8, $L$ = 32, a line a seed", fontsize=8)
    return figure
