"""The README and the pages with its details: commands and code run, numbers are recomputed.

Whoever edits one of `PAGES` finds here what to adapt. A command that is new is added to `COMMANDS`;
a sentence with a number, to `COMPUTED`, which makes the sentence from what it computes, or to one
of the tables of sentences whose numbers are not computed here.
"""

import configparser
import json
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
from scipy.stats import spearmanr

from cliff import NestedLogit, design_curriculum, integrate
from cliff.cli import main
from cliff.kernels import nested_logit as kernels
from cliff.store import open_dataset
from cliff.trajectory import LEVELS
from figures import (
    WORDS,
    after_the_fall,
    competition,
    curriculum,
    maps,
    noise,
    prediction,
    replacement,
)

ROOT = Path(__file__).parents[1]
PAGES = {
    name: (ROOT / name).read_text(encoding="utf-8")
    for name in (
        "README.md",
        "docs/tour.md",
        "docs/theory_against_network.md",
        "docs/context_against_weights.md",
        "docs/landscapes.md",
        "docs/curriculum.md",
        "docs/code.md",
        "docs/speed.md",
    )
}
README = "\n".join(PAGES.values())


class Elsewhere(NamedTuple):
    """What else runs a command: a file of this repository."""

    file: str


SMALL_RUN = (
    "--pairs 2 --labels 8 --steps 1200 --batch 32 --eval-size 64 --stop-accuracy 0.8 "
    "--stop-delay 100"
)
COMMANDS: dict[str, dict[str, str] | Elsewhere] = {
    # command of the README → {part: what stands in its place here}, in the order in which they run
    "python3 -m venv .venv && .venv/bin/pip install . && .venv/bin/cliff flow --plot cliff.png": {
        "python3 -m venv .venv && .venv/bin/pip install . && .venv/bin/": ""
    },
    "python3 -m venv .venv && .venv/bin/pip install -e '.[test]' && .venv/bin/pytest -n 2 --dist "
    "worksteal": Elsewhere(".ci/run"),
    "pytest -m slow": Elsewhere("setup.cfg"),
    "cliff flow --plot figures/cliff.png": {"figures/": ""},
    "cliff flow --pairs 16 --labels 64 --t-end 400": {},
    "cliff flow --method euler --step 0.05 --json": {},
    "cliff flow --label-bias free --t-end 300": {},
    "cliff flow --landscape causal_attention --set N=16 --t-end 1e3 --plot causal.png": {},
    "cliff flow --landscape product_of_factors --rule momentum --friction 1 --until fall": {},
    "cliff flow --landscape finite_dimension --set dim=31 noise=0.3 --t-end 500": {},
    "cliff phase --landscape memory_and_context --x N=8:128:30:log --y w=0:2:30 --plot "
    "memory.png": {":30": ":4"},
    "cliff derive hessian --landscape product_of_factors --format latex": {},
    "cliff derive gradient --pairs 4 --format latex": {},
    "cliff derive saddle --pairs N --labels N": {},
    "cliff phase --x pairs=2:64:40:log --y labels=2:256:60:log --t-end 2e4 --plot phase.png": {
        ":40:": ":4:", ":60:": ":5:"
    },
    "cliff phase --x alpha=-4:4:200 --y xi=-4:4:200 --metric basin --labels 8 --plot basins.png": {
        ":200": ":8"
    },
    "cliff train --lr 0.1 --steps 10000 --seeds 0:6 --plot training.png --output training.nc": {
        "--steps 10000": SMALL_RUN, "0:6": "0:1"
    },
    "cliff plot training.nc again.pdf": {},
    "cliff train --labels 128 --seeds 0:3 --output other.nc": {
        "--labels 128": SMALL_RUN.replace("--labels 8", "--labels 16"), "0:3": "0:1"
    },
    "cliff curriculum --pairs 16 --labels 64 --output schedule.json": {"16": "4", "64": "8"},
    "cliff train --curriculum schedule.json --steps 2600 --output curriculum.nc": {
        "--steps 2600": "--steps 20 --lr 10 --batch 8 --eval-size 16 --width 8"
    },
    "python -m figures curriculum": {"curriculum": "curriculum --into ."},
    "cliff compare training.nc --test other.nc --plot compare.png": {
        "training.nc": "training.nc --no-fit"
    },
    "cliff plot training.nc other.nc both.png --csv both.csv": {},
    "cliff flow --plot fall.gif": Elsewhere("tests/test_animation.py"),
    "cliff explore training.nc": Elsewhere("tests/test_explore.py"),
    "cliff train --model minimal --seeds 0:3 --eval-every 50 --stop-accuracy 0.9 --stop-delay 500 "
    "--output head.nc": {"--seeds 0:3": SMALL_RUN.partition(" --stop")[0], " 500": " 100"},
    "cliff compare head.nc": {"head.nc": "head.nc --no-fit"},
    "python -m figures prediction": {"prediction": "prediction --into ."},
    "python -m figures noise": {"noise": "noise --into ."},
    "python -m figures after_the_fall": Elsewhere("tests/test_figures.py"),
    "python -m figures competition": Elsewhere("tests/test_figures.py"),
    "python -m figures maps": Elsewhere("tests/test_figures.py"),
    "python -m figures replacement": Elsewhere("tests/test_figures.py"),
    "cliff flow --memory": {},
    "cliff phase --memory": {"--memory": "--memory --x classes=40:80:2 --y noise=0:1:2"},
    "cliff train --labels-drawn replacement": {
        "replacement": "replacement --pairs 2 --labels 2 --steps 20 --batch 8 --eval-size 16"
    },
    "python -m figures scaling": {"scaling": "scaling --into ."},
    "python -m figures all": Elsewhere("tests/test_figures.py"),
    "pip install '.[docs]' && sphinx-build -W -b html docs site": Elsewhere(".ci/run"),
    "pip install -e '.[test,bench]' && pytest tests/benchmarks -s": Elsewhere("tests/benchmarks"),
    "pytest tests/benchmarks/test_network_speed.py -s": Elsewhere("tests/benchmarks"),
    "pytest tests/benchmarks/test_explorer_speed.py -s": Elsewhere("tests/benchmarks"),
    "cliff phase --x alpha=-4:4:1000 --y xi=-4:4:1000 --metric basin --labels 8 --output "
    "basins.nc": {":1000": ":8"},
}  # fmt: skip

CODE = {"n_steps=10_000": "n_steps=20"}
"""Parts of the Python block → what stands in their place here."""


def fenced(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", README, re.MULTILINE | re.DOTALL)


def commands() -> Iterator[str]:
    """Every command of the README: the lines of its shell blocks, and what stands in code spans.

    A span counts if it has arguments; ``cliff train`` alone is a name.
    """
    for block in fenced("sh"):
        for line in block.replace("\\\n", " ").splitlines():
            if command := re.sub(r"(^|\s)#.*", "", line).strip():
                yield command
    for span in re.findall(r"`([^`]+)`", re.sub(r"^```.*?^```", "", README, flags=re.M | re.S)):
        text = " ".join(span.split())
        if re.match(r"cliff \S+ \S|(python|pip|pytest)\d? \S", text) and "HOST" not in text:
            yield text


def shortened(command: str) -> str:
    parts = COMMANDS[command]
    assert isinstance(parts, dict)
    for part, short in parts.items():
        assert part in command
        command = command.replace(part, short)
    return command


def test_every_command_of_the_readme_is_run():
    assert set(commands()) == set(COMMANDS), "adapt COMMANDS"
    for entry in COMMANDS.values():
        if isinstance(entry, Elsewhere):
            assert (ROOT / entry.file).exists()


def run_here(words: list[str]) -> object:
    """A ``cliff`` command in this process, which has the compiled kernels."""
    with pytest.raises(SystemExit) as exit_:
        main(words[1:])
    return exit_.value.code


def run_apart(words: list[str]) -> int:
    """A ``python`` command in a process of its own, which finds the figures of this checkout."""
    return subprocess.run(
        [sys.executable, *words[1:]],
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        stdout=subprocess.DEVNULL,
    ).returncode


BEGINNINGS = {
    ".png": b"\x89PNG", ".pdf": b"%PDF", ".nc": b"\x89HDF", ".json": b"{", ".csv": b"result,step,"
}  # fmt: skip
"""Ending of a file → its first bytes."""


@pytest.mark.timeout(600)
def test_commands_run_in_order_and_write_what_they_name(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for command in [c for c, e in COMMANDS.items() if isinstance(e, dict)]:
        words = shlex.split(shortened(command))
        assert (run_here if words[0] == "cliff" else run_apart)(words) == 0, command
        files = r"(?:--plot|--output|--csv|cliff plot(?: \w+\.nc)+) (\S+)"
        for name in re.findall(files, shortened(command)):
            content = Path(name).read_bytes()
            assert content.startswith(BEGINNINGS[Path(name).suffix]), (command, name)


def test_python_blocks_run_and_their_comments_hold(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    sources = fenced("python")
    assert len(sources) == 2
    for part in CODE:
        assert any(part in source for source in sources)
    for source in sources:
        for part, short in CODE.items():
            source = source.replace(part, short)
        scope: dict = {}
        exec(compile(source, "README.md", "exec"), scope)
        quoted = re.findall(r"^(\S.*?)  # (-?\d+(?:\.(\d+))?)\b", source, re.MULTILINE)
        assert quoted
        for expression, number, decimals in quoted:
            assert f"{float(eval(expression, scope)):.{len(decimals)}f}" == number
    assert {path.name for path in tmp_path.iterdir()} == {"run.nc", "run.png", "training.nc"}


def test_exit_codes(tmp_path, monkeypatch, capsys):
    """0 is what every command above ends with; tests/test_interrupt.py has Ctrl-C."""
    monkeypatch.chdir(tmp_path)
    assert run_here(["cliff", "flow", "--max-steps", "5"]) == 1
    assert run_here(["cliff", "flow", "--pairs", "-1"]) == 2
    assert capsys.readouterr().err.count("cliff: ") == 2


def test_links_and_paths_lead_somewhere():
    targets = re.findall(r"`((?:cliff|tests|figures|derivations)/[\w/.]*)`", README)
    for name, text in PAGES.items():
        folder = Path(name).parent
        links = re.findall(r"\]\((?!http)([^)#]+)\)", text)
        # the build writes the derivations' pages there
        targets += [re.sub("^docs/derivations", "derivations", f"{folder / x}") for x in links]
    assert len(targets) > 30
    for target in targets:
        assert (ROOT / target).exists(), target


def prose() -> str:
    """The README's text on one line, without its blocks, commands and the targets of its links."""
    text = re.sub(r"^```.*?^```", "", README, flags=re.MULTILINE | re.DOTALL)
    text = " ".join(re.sub(r"\]\([^)]*\)", "]", text).split())
    for command in sorted(COMMANDS, key=len, reverse=True):
        text = text.replace(f"`{command}`", "")
    return text


def predictions() -> Iterator[str]:
    data = open_dataset(ROOT / "figures/data/prediction.nc", "figure")
    held = open_dataset(ROOT / "figures/data/noise.nc", "figure")
    yield from noise.table(held)[2:]
    told = noise.numbers(held)
    yield f"at {prediction.FITTED} a share of {told['share']:.2f} while"
    yield (
        f"the median error comes down to {told['noisy']['median']:.1f} %, the worst one to "
        f"{told['noisy']['worst']:.0f} %"
    )
    worst = noise.settings_of(held).index((16, 20))
    measured, _, predicted = noise._predictions(held)
    assert np.argmax(np.abs(predicted / measured - 1)) == worst
    assert held.least[worst] < held.predicted_least[worst]
    yield "At (16, 20), the worst, noise is not what is missing: it takes back less"
    (low, low_median, _), (high, high_median, _) = told["low"], told["high"]
    yield (
        f"a share of {low} or {high} in place of the measured one the median error would be "
        f"{low_median:.1f} or {high_median:.1f} %"
    )
    assert set(held.seed.values.tolist()) == {0}
    yield f"as seed 0 of {WORDS[len(noise.TEMPERATURES)]} settings shows"
    assert {"batch": 8 * noise.BATCH} in noise.TEMPERATURES[8, 10]
    yield f"(8, 10) falls {told['gain_near']:.0f} % sooner and (8, 32) {told['gain_far']:.0f} %"
    assert noise.TEMPERATURES[16, 20] == ({"lr": 0.1 / 5},)
    yield f"at a fifth of the learning rate (16, 20) falls {told['gain_large']:.0f} % sooner"
    yield (
        f"({told['along']:.1f} % in the median and {told['along_plain_worst']:.0f} % at most, "
        f"against {told['along_noisy']:.1f} % and {told['along_worst']:.0f} %)"
    )
    pairs, labels = prediction.FITTED
    fitted = (data.setting_pairs.values == pairs) & (data.setting_labels.values == labels)
    measured = prediction.measured_times(data)[~fitted]
    predicted = data.predicted.values[~fitted]
    error = 100.0 * np.median(np.abs(predicted / measured - 1.0))
    rank = float(spearmanr(measured, predicted)[0])
    assert prediction.SEEDS == 3
    yield "measured (seeds 0, 1, 2)"
    yield f"matched at (N, L) = ({pairs}, {labels})"
    yield (
        f"Over the {len(measured)} settings that were not fitted the median error is {error:.1f} % "
        f"and the rank correlation {rank:.3f}"
    )
    numbers = prediction.numbers(data)
    yield (
        f"The flow is too abrupt: at {prediction.FITTED} it falls from {LEVELS[0]} to {LEVELS[-1]} "
        f"log N within {numbers['flow_width']:.1f} units of time, the networks within "
        f"{numbers['network_width']}"
    )


def afterwards() -> Iterator[str]:
    data = open_dataset(ROOT / "figures/data/after_the_fall.nc", "figure")
    settings = [setting for setting, _ in after_the_fall.in_setting(data)]
    wide = np.array([setting["dim"] == 63 for setting in settings])
    assert after_the_fall.name_of(settings[0]) == "(8, 32)"
    assert 1000.0 < 1.0 / after_the_fall.ratios(data, "nested")[0] < 10_000.0
    yield "(8, 32) its loss at a network's own logits is thousands of times too low"
    ratio = np.array(after_the_fall.ratios(data, "operator"))
    factor = np.maximum(ratio, 1.0 / ratio)[wide].max()
    yield f"within a factor of {factor:.1f} of networks at D = 63"
    yield f"while their loss is between {after_the_fall.LOW} and {after_the_fall.HIGH} nats"
    late = np.divide(*(after_the_fall.ends(data, name) for name in ("at_operator", "own")))
    both = [*late, *ratio[~wide]]
    yield (
        f"at D = {settings[int(np.argmin(wide))]['dim']}, and at the end of training, it is too "
        f"pessimistic, by a factor of {min(both):.0f} to {max(both):.0f}"
    )
    yield "1/(1/D + 1/W)"


def fall() -> Iterator[str]:
    model = NestedLogit()
    path = integrate(model, [0.01, 0.01, 0.01], 200.0)
    yield f"N = {model.n_pairs} pairs, L = {model.n_labels} labels"
    yield f"falls off the cliff at t = {path.transition().t_transition:.1f}"


def findings() -> Iterator[str]:
    model, share = NestedLogit(), 0.9
    path = integrate(model, [0.01, 0.01, 0.01], 200.0)
    loss = float(model.loss(path.path(share * path.transition().t_transition)))
    lost = 1.0 - loss / path.loss[0]
    yield f"After {share:.0%} of the wait the loss has come down by {lost:.0%}".replace("%", " %")
    race = competition.numbers(open_dataset(ROOT / "figures/data/competition.nc", "figure"))
    assert race["right"] == race["worlds"]
    yield f"say in all {race['worlds']} others whether a network will answer from the context"
    data = open_dataset(ROOT / "figures/data/prediction.nc", "figure")
    pairs, labels = prediction.FITTED
    fitted = (data.setting_pairs.values == pairs) & (data.setting_labels.values == labels)
    errors = data.predicted.values[~fitted] / prediction.measured_times(data)[~fitted] - 1.0
    held = noise.numbers(open_dataset(ROOT / "figures/data/noise.nc", "figure"))["noisy"]
    yield (
        f"they predict when networks of {len(errors)} others fall, with a median error of "
        f"{100.0 * np.median(np.abs(errors)):.1f} %; a seventh, the noise of the "
        f"classifier, makes it {held['median']:.1f} %"
    )


def race() -> Iterator[str]:
    data = open_dataset(ROOT / "figures/data/competition.nc", "figure")
    yield from competition.table(data)[2:]
    told = competition.numbers(data)
    base = competition.BASE
    yield f"(K = {base['n_classes']} classes, B = {base['burstiness']}, noise {base['noise']},"
    yield f"at t = {competition.T_END:.0f} from the context"
    assert competition.SEEDS == 3
    yield f"means of three seeds at N = {base['n_pairs']}, L = {base['n_labels']}."
    yield f"right in {told['right']} of the {told['worlds']} settings that were not matched"
    yield (
        f"off by {told['icl']:.2f} (icl), {told['swapped']:.2f} (icl_swapped) and "
        f"{told['iwl']:.2f} (iwl) in the mean, the transition times by {told['median']:.0f} % in "
        f"the median and at most {told['largest']:.0f} %"
    )
    yield (
        f"own logits is off by {told['with_crosstalk']:.2f} nats while it exceeds {told['least']}, "
        f"without it by {told['without_crosstalk']:.2f}"
    )
    told = maps.numbers(open_dataset(ROOT / "figures/data/maps.nc", "figure"))
    yield f"{told['right']} of {told['settings']} settings of networks lie on the predicted side"
    yield f"by heart (iwl = {told['learned']}), the landscape only in part"
    yield f"(iwl = {told['predicted']})"
    drawn = open_dataset(ROOT / "figures/data/replacement.nc", "figure")
    told = replacement.numbers(drawn)
    yield (
        f"predicted t = {told['predicted']}, measured {told['measured']} at N = {told['pairs']} "
    )
    distinct = drawn.measured.values[drawn.labels_drawn.values == "distinct"]
    assert np.isnan(distinct).all()
    yield f"none at N = L = {replacement.SHOWN} falls by t = {told['longest']:.0f}"
    table = {world["zipf_exponent"]: (world, measured, predicted)
             for world, measured, predicted, *_ in competition.compared(data)
             if world["n_classes"] == 1024}  # fmt: skip
    world, measured, predicted = table[1.0]
    assert measured[2] > predicted[2]
    yield f"at a Zipf exponent of {world['zipf_exponent']:.0f} the weights answer more often than"
    yield "predicted at K = 1024, and less often at K = 16384"
    yield "the seeds differ most at K = 1024 itself"
    means = replacement.means(drawn)
    assert drawn.predicted.values[0] > means[0]
    assert drawn.predicted.values[-1] < means[-1]
    yield f"networks of {replacement.PAIRS[0]} pairs fall sooner than predicted, those of "
    yield f"{replacement.PAIRS[-1]} later"


def installation() -> Iterator[str]:
    metadata = configparser.ConfigParser()
    metadata.read(ROOT / "setup.cfg", encoding="utf-8")
    yield f"Python {metadata['options']['python_requires'].removeprefix('>=')} or newer"


def cost() -> Iterator[str]:
    data = open_dataset(ROOT / "figures/data/scaling.nc", "figure")
    first, last = 16, int(data.pairs[-1])
    costs = data.cost.sel(pairs=slice(first, None)).values
    exponents = np.log2(costs[1:] / costs[:-1])
    low, high = exponents.min(), exponents.max()
    yield f"local exponents {low:.2f} to {high:.2f} from N = {first} to {last}"
    yield f"beyond the {kernels.NEAR}th"


def curricula() -> Iterator[str]:
    (command,) = (command for command in COMMANDS if command.startswith("cliff curriculum"))
    pairs, labels = (int(count) for count in re.findall(r"--(?:pairs|labels) (\d+)", command))
    design = design_curriculum((pairs, labels))
    *stages, _ = zip(design.schedule.times, design.schedule.settings, strict=True)
    first, *others = [f"{setting['n_pairs']} until t = {until:g}" for until, setting in stages]
    yield f"finds {first.replace(' ', ' pairs ', 1)}, {', '.join(others)}, and predicts"
    yield (
        f"learned at t = {design.designed['time']:.0f} in place of {design.plain['time']:.0f}, "
        f"with {design.gain['flops']:.1f} times fewer floating-point operations"
    )
    told = curriculum.numbers(open_dataset(ROOT / "figures/data/curriculum.nc", "figure"))
    yield f"learn it at t = {told['times']}"
    yield f"where plain training takes {told['plain_times'].replace(',', '')}"


def sizes() -> Iterator[str]:
    (command,) = (command for command in COMMANDS if command.endswith("basins.nc"))
    counts = [int(count) for count in re.findall(r":(\d+)(?= )", command)]
    yield f"A basin map of {np.prod(counts):,} starts"


COMPUTED: tuple[Callable[[], Iterator[str]], ...] = (
    findings, predictions, afterwards, race, fall, installation, cost, curricula, sizes
)  # fmt: skip
"""Each yields sentences of the README with numbers that it computes."""

SLOW = {
    # slow test → sentence, whose groups are the numbers that it recomputes: the first below, the
    # second in tests/test_comparison.py
    "the_slow_phase": (
        r"is off by ([\d.]+) nats in the slow phase at \((\d+), (\d+)\), instead of ([\d.]+)"
    ),
    "the_minimal_head": (
        r"matching finds ([\d.]+) ± ([\d.]+), ([\d.]+) ± ([\d.]+) and ([\d.]+) ± ([\d.]+), and the "
        r"flow falls at t = (\d+) where three seeds fall at (\d+), (\d+) and (\d+)"
    ),
}

SPEED = (
    # measured once, on the machine that the README names
    "float64, rtol 1e-6 and atol 1e-9",
    "One integration at N = 8 takes 0.09 ms",
    "a step took 3.6 times as long as its 87 million multiply-adds do",
    "in one thread 2.9 times as long",
    "made 2.0 times the steps of one",
    "A gradient at N = 8 needs 69 exponentials; it takes 3.3 times as long",
    "4.1 times as long within an ensemble",
    "took 4 minutes",
    "has the answer to a slider's move after 19 ms",
    "has drawn its four figures after 50 ms",
)

NAMES = (
    # names and settings that are no results
    "ICLR 2024",
    "arXiv:2312.03002",
    "`kill -9`",
    "while layer 2 is cut out",
    "exits with 0 when it is done, 1 when the computation failed (and says how), 2 for a mistake "
    "in the call, 130 after Ctrl-C and 143 after SIGTERM",
    "`--scheduler tcp://HOST:PORT`",
    "BSD-3-Clause",
    "arXiv:2404.07129 | by what is clamped: 1/ε, log 1/ε or constant",
    "arXiv:2505.17863 | √(π/2)·√d·T",
    "arXiv:2412.00104 | √(π/2)·e^(w²/2)·erfc(w/√2)·N·e^(−β)/c",
    "arXiv:2511.01033 | √(π/2)·N²",
)


def test_every_number_of_the_readme_is_computed_or_listed():
    text = prose()
    for compute in COMPUTED:
        for sentence in compute():
            assert sentence in text, f"{compute.__name__}: the README should say: {sentence}"
            text = text.replace(sentence, " ", 1)
    for sentence in (*SPEED, *NAMES):
        assert sentence in text, f"not in the README any more: {sentence}"
        text = text.replace(sentence, " ")
    for pattern in SLOW.values():
        assert re.search(pattern, text), f"not in the README any more: {pattern}"
        text = re.sub(pattern, " ", text)
    text = re.sub(r"\| (job|loss|one|20,000|training)[^|]*\|[^|]*\| [\w. ]+ \|", " ", text)  # speed
    left = re.findall(r".{0,40}\d.{0,40}", text)
    assert not left, f"numbers that no test knows: {left}"


def quoted(name: str) -> list[float]:
    found = re.search(SLOW[name], prose())
    assert found
    return [float(number) for number in found.groups()]


def summary_of(command: str, capsys) -> dict:
    """What a comparison prints as JSON."""
    capsys.readouterr()
    assert run_here([*shlex.split(command), "--json"]) == 0
    return json.loads(capsys.readouterr().out)


def command_with(*parts: str) -> str:
    (command,) = (command for command in COMMANDS if all(part in command for part in parts))
    return command


@pytest.mark.slow
@pytest.mark.timeout(7200)
def test_misfits_of_the_slow_phase(tmp_path, monkeypatch, capsys):
    """Networks differ by some percent from machine to machine."""
    monkeypatch.chdir(tmp_path)
    assert run_here(shlex.split(command_with("cliff train", "training.nc"))) == 0
    misfit = summary_of("cliff compare training.nc --no-fit", capsys)["slow_phase_loss_misfit"]
    noise, pairs, labels, slope = quoted("the_slow_phase")
    assert (pairs, labels) == (8, 32)
    assert misfit["crosstalk"] == pytest.approx(noise, abs=0.01)
    assert misfit["slope"] == pytest.approx(slope, abs=0.01)
