"""The explorer: its numbers are those of the library, and its page shows them in a real browser."""

import json
import re
import shlex
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from types import SimpleNamespace

import numpy as np
import pytest
from browser import WATCH, opened, served

import cliff
from cliff import NestedLogit, Task, Transformer, integrate, train
from cliff.checks import ArgumentError
from cliff.cli import _run
from cliff.data import Data
from cliff.explore.view import LABELLED_AT, NetworkRun, Setting, view
from cliff.network.runs import side_by_side
from cliff.plots.style import RED
from cliff.valleys import VALLEY_NAMES, basins

SETTINGS = {
    "default": Setting(),
    "elsewhere": Setting(4, 16, start={"beta1": -0.5, "xi": 0.7}, mobility={"alpha": 0.3}),
    "mean": Setting(16, 64, positions="mean", t_end=90.0),
    "fixed bias": Setting(8, 32, label_bias=-1.5, t_end=400.0),
    "free bias": Setting(
        8, 32, label_bias="free", start={"beta2": 0.4}, mobility={"beta2": 0.1, "beta1": 2.0}
    ),
    "usual bias": Setting(4, 8, label_bias="free", t_end=100.0),
    "memory": Setting(8, 32, memory=Data(256, 1.0, noise=0.3), mobility={"omega": 4.0}),
    "novel": Setting(8, 32, memory=Data(64, burstiness=0, p_novel=0.2), t_end=300.0),
    "bursty": Setting(8, 32, memory=Data(256, burstiness=2, p_bursty=0.8), start={"omega": 1.0}),
}


def flow_of(setting, **options):
    """The flow of a setting, stated on its own."""
    model = NestedLogit(
        n_pairs=setting.n_pairs, n_labels=setting.n_labels, positions=setting.positions,
        label_bias=setting.label_bias, memory=setting.memory,
    )  # fmt: skip
    starts, rates = [], []
    for name in model.parameter_names:
        kind, _, group = name.partition("_")
        starts.append(setting.start.get(kind, 0.0 if name == "beta2" else 0.01))
        classes = setting.memory.group_sizes[int(group) - 1] if group else 1
        rates.append(setting.mobility.get(kind, 1.0) / classes)
    return integrate(model, starts, setting.t_end, rates, **options)


@pytest.mark.parametrize("name", SETTINGS)
def test_a_view_is_the_flow_of_its_setting(name):
    setting = SETTINGS[name]
    shown, run = view(setting), flow_of(setting)
    assert shown.transition == run.transition()
    assert (shown.status, shown.reason) == (run.status, "")
    np.testing.assert_array_equal(shown.theta, run.path(shown.t))
    np.testing.assert_allclose(shown.loss, run.model.loss(shown.theta), rtol=1e-13)
    expected = run.model.measures(shown.theta)
    assert tuple(shown.measures) == run.model.measure_names
    for measure, values in shown.measures.items():
        np.testing.assert_array_equal(values, expected[measure])
    assert np.abs(np.diff(shown.loss)).max() < 0.1 * np.ptp(shown.loss)  # smooth, in the fall too
    assert (shown.t[0], shown.t[-1]) == (0.0, setting.t_end)


@pytest.mark.parametrize("plane", [("beta1", "alpha"), ("xi", "alpha"), ("alpha", "omega_1")])
def test_the_slice_shows_the_path_at_the_transition(plane):
    setting = Setting(8, 32, memory=Data(64), mobility={"omega": 0.1}, plane=plane)
    shown, run = view(setting), flow_of(setting)
    names = run.model.parameter_names
    columns = [names.index(name) for name in plane]
    np.testing.assert_array_equal(shown.path, shown.theta[:, columns])
    point = run.path(run.transition().t_transition)
    assert shown.at_transition
    assert shown.part.fixed == {
        name: value for name, value in zip(names, point, strict=True) if name not in plane
    }
    row, column = 3, 5
    point[columns] = shown.part.x[column], shown.part.y[row]
    assert shown.part.loss[row, column] == pytest.approx(float(run.model.loss(point)), rel=1e-13)
    for values, side in zip(shown.path.T, (shown.part.x, shown.part.y), strict=True):
        assert side[0] <= values.min()
        assert values.max() <= side[-1]


def test_the_slice_of_a_flow_without_a_fall_is_that_at_its_end():
    shown = view(Setting(t_end=20.0))
    assert not shown.at_transition
    assert shown.part.fixed == {"xi": shown.theta[-1, 2]}
    assert shown.lines()["transition time"] == "none"


@pytest.mark.parametrize(
    ("start", "labels", "valley"),
    [
        ({}, 32, "induction"),
        ({"beta1": -2.0, "alpha": -2.0, "xi": 0.5}, 32, "early-labels"),
        ({"beta1": 1.0, "alpha": -2.0, "xi": -2.0}, 8, "shunned-match"),
    ],
)
def test_the_valley_is_the_basin_of_the_start(start, labels, valley):
    setting = Setting(8, labels, start=start, t_end=200.0)
    shown = view(setting)
    long = cliff.integrate_ensemble(shown.model, [list(setting.starts().values())], LABELLED_AT)
    assert VALLEY_NAMES[basins(long)[0]] == valley == shown.valley
    assert shown.t_valley in (200.0, LABELLED_AT)
    assert valley in shown.lines()["valley"]


def test_a_valley_that_memory_makes_has_its_name():
    assert view(Setting(memory=Data(64), mobility={"omega": 100.0})).valley == "memory"


@pytest.mark.parametrize("name", SETTINGS)
def test_command_and_code_make_what_is_shown(name, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    shown = view(SETTINGS[name])
    made = {}
    exec(shown.code.partition("cliff.plots.save")[0], made)
    assert made["run"].transition() == shown.transition
    assert made["run"].model == shown.model
    np.testing.assert_array_equal(made["run"].path.theta[-1], shown.theta[-1])
    capsys.readouterr()
    words = shlex.split(shown.command)
    assert words[0] == "cliff"
    assert words[-2:] == ["--plot", "flow.png"]
    assert _run([*words[1:-2], "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["theta"] == dict(
        zip(shown.model.parameter_names, shown.theta[-1].tolist(), strict=True)
    )


def test_settings_that_are_none_are_told():
    for setting, argument in (
        (Setting(8, 4), "n_labels"),
        (Setting(8, 32, memory=Data(64, burstiness=3)), "burstiness"),
        (Setting(32, 64, memory=Data(64, burstiness=2)), "n_pairs"),  # too slow for sliders
        (Setting(plane=("beta1", "omega_1")), "plane"),
    ):
        with pytest.raises(ArgumentError) as told:
            view(setting)
        assert told.value.argument == argument


def test_a_flow_with_too_many_steps_says_so(monkeypatch):
    monkeypatch.setattr("cliff.explore.view.STEP_LIMIT", 5)
    shown = view(Setting())
    assert shown.status == "step limit"
    assert "step limit: took max_steps" in shown.lines()["flow"]
    assert shown.valley == "undecided"


@pytest.fixture(scope="module")
def run_file(tmp_path_factory):
    task = Task(n_pairs=2, n_labels=4, n_classes=8, dim=5, window=9)
    each = [
        train(Transformer(task, seed, width=6), task, n, 0.1, 8, eval_every=5, eval_size=16)
        for seed, n in ((0, 20), (1, 10))
    ]
    path = tmp_path_factory.mktemp("runs") / "runs.nc"
    cliff.save(side_by_side(each, [0, 1]), path)
    return path


def test_a_network_is_read_with_its_gaps(run_file):
    run, data = NetworkRun.read(run_file), cliff.load(run_file)
    assert (run.name, run.n_pairs, run.n_labels) == ("runs.nc", 2, 4)
    np.testing.assert_array_equal(run.t, data.t)
    np.testing.assert_array_equal(run.loss, data.loss.transpose("seed", "step"))
    np.testing.assert_array_equal(run.logits["xi"], data.xi.transpose("seed", "step"))
    assert np.isnan(run.loss[1]).any()  # the shorter run
    assert run.setting() == Setting(2, 4, label_bias="free", t_end=2.0)


@pytest.fixture
def page():
    pytest.importorskip("bokeh")
    from bokeh.document import Document

    from cliff.explore.page import Page

    return Page(Document())


def sent(page, model):
    """What the last update makes of a model of the page."""
    return dict(page.shown.data["changes"][0])[model]


def said(page):
    return page.shown.data["texts"][0]


def test_widgets_say_a_setting_and_figures_show_it(page):
    page.start["alpha"].value = 0.75
    page.mobility["xi"].value = -1.0
    page.t_end.value = 2.5
    assert page.setting().start["alpha"] == 0.75
    assert (page.setting().mobility["xi"], page.setting().t_end) == (0.1, 316.0)
    shown = view(page.setting())
    np.testing.assert_array_equal(sent(page, page.curve)["data"]["loss"], shown.loss)
    np.testing.assert_array_equal(sent(page, page.path)["data"]["y"], shown.path[:, 1])
    np.testing.assert_array_equal(sent(page, page.logits)["data"]["ys"][2], shown.theta[:, 2])
    measured = sent(page, page.measures)["data"]["ys"][0]
    np.testing.assert_array_equal(measured, shown.measures["ila1"])
    assert sent(page, page.falls) == {"location": shown.transition.t_transition}
    assert sent(page, page.of_measures.x_range) == {"end": 316.0}
    np.testing.assert_allclose(sent(page, page.image)["data"]["image"][0], shown.part.loss, 1e-6)
    colours = sent(page, page.colours)
    assert 0.0 <= shown.part.loss.min() - colours["low"] < 0.25
    assert 0.0 <= colours["high"] - shown.part.loss.max() < 0.25
    page.start["alpha"].value = 0.751
    assert sent(page, page.colours) == colours
    page.start["alpha"].value = 0.75
    assert said(page)["transition-time"] == f"{shown.transition.t_transition:.5g}"
    assert said(page)["command"] == shown.command
    assert said(page)["code"] == shown.code
    lines = shown.lines()
    assert re.findall(r"id='(.*?)'", page.said.text) == [name.replace(" ", "-") for name in lines]
    assert {said(page)[name.replace(" ", "-")] for name in lines} == set(lines.values())


def test_legends_name_what_is_drawn(page):
    def legend(figure):
        return re.findall(r"stroke='(.*?)'[^>]*></svg> (.*?)<", page.legends[figure].text)

    drawn = sent(page, page.measures)["data"]
    assert [colour for colour, _ in legend(page.of_measures)] == drawn["colour"]
    assert [label.partition(":")[0] for _, label in legend(page.of_measures)] == [
        *view(page.setting()).measures
    ]
    drawn = sent(page, page.logits)["data"]
    assert [colour for colour, _ in legend(page.of_logits)] == drawn["colour"]
    assert "networks" not in page.legends[page.map].text
    page.memory.active = [0]
    page.zipf.value = 1.0
    assert len(sent(page, page.logits)["data"]["ys"]) > 4
    assert legend(page.of_logits)[3:] == [(RED, "ω (memory of the groups)")]


def test_a_click_starts_the_flow_there(page):
    page.plane.value = "alpha, xi"
    page._start_at(SimpleNamespace(x=-1.2345, y=99.0))
    assert (page.start["alpha"].value, page.start["xi"].value) == (-1.23, 12.0)
    assert sent(page, page.begins)["data"]["x"] == [-1.23]
    page._start_at(SimpleNamespace(x=None, y=1.0))  # outside of the axes
    assert page.start["alpha"].value == -1.23


def test_a_click_moves_the_page_once(page, monkeypatch):
    shown = []
    monkeypatch.setattr(
        "cliff.explore.page.view", lambda setting: shown.append(setting) or view(setting)
    )
    page._start_at(SimpleNamespace(x=1.0, y=2.0))
    assert [setting.start["alpha"] for setting in shown] == [2.0]


def test_a_mistake_is_told_and_what_was_shown_stays(page):
    before = said(page)
    page.labels.value = 4
    assert "n_labels 4: must be at least the number of pairs, 8" in page.mistake.text
    assert said(page) == before
    page.labels.value = 16
    assert page.mistake.text == ""
    assert said(page) != before


def test_widgets_without_effect_are_away(page):
    def visible(*widgets):
        return [widget.visible for widget in widgets]

    bias = page.bias, page.free, page.start["beta2"], page.mobility["beta2"]
    assert visible(*bias) == [True, True, False, False]
    page.free.active = [0]
    assert visible(*bias) == [False, True, True, True]
    page.plane.value = "xi, beta2"
    page.positions.value = "mean"
    assert visible(*bias) == [False, False, False, False]
    assert page.plane.value == "beta1, alpha"
    assert visible(*page.of_memory) == [False] * 7
    page.memory.active = [0]
    assert visible(*page.of_memory) == [True] * 7
    assert "--memory --classes 512" in said(page)["command"]
    assert ("xi, omega_1", "ξ and ω₁") in page.plane.options


def test_networks_lie_over_the_flow(run_file):
    pytest.importorskip("bokeh")
    from bokeh.document import Document

    from cliff.explore.page import Page

    run = NetworkRun.read(run_file)
    page = Page(Document(), [run])
    assert page.setting().label_bias == "free"
    assert (page.pairs.value, page.labels.value, page.setting().t_end) == (2, 4, 2.0)
    np.testing.assert_array_equal(sent(page, page.network_curve)["data"]["ys"], run.loss)
    np.testing.assert_array_equal(sent(page, page.network_path)["data"]["ys"], run.logits["alpha"])
    drawn = sent(page, page.network_logits)["data"]
    np.testing.assert_array_equal(drawn["ys"], np.concatenate([*run.logits.values()]))
    drawn = sent(page, page.network_measures)["data"]
    measures = [name for name in run.measures if name in view(page.setting()).measures]
    assert "iwl" in run.measures  # the flow knows none
    np.testing.assert_array_equal(
        drawn["ys"], np.concatenate([run.measures[name] for name in measures])
    )
    span = sent(page, page.of_logits.y_range)
    assert span["start"] < min(np.nanmin(values) for values in run.logits.values())
    assert span["end"] > max(np.nanmax(values) for values in run.logits.values())
    assert page.legends[page.loss].text.count("networks") == 1

    # they are sent again only where they differ
    page.start["xi"].value = 0.5
    assert page.network_curve not in dict(page.shown.data["changes"][0])
    page.plane.value = "alpha, xi"
    np.testing.assert_array_equal(sent(page, page.network_path)["data"]["ys"], run.logits["xi"])


def test_values_that_are_not_finite_are_gaps(run_file, tmp_path):
    loss = cliff.load(run_file).loss.copy()
    loss[{"step": slice(2)}] = np.inf
    (tmp_path / "run.nc").write_bytes(spoiled(run_file, tmp_path / "spoiled.nc", loss=loss))
    np.testing.assert_array_equal(
        NetworkRun.read(tmp_path / "run.nc").loss,
        loss.where(np.isfinite(loss)).transpose("seed", "step"),
    )


def test_a_network_is_laid_over_and_removed(page, run_file):
    page.positions.value = "mean"
    page.lay_over("mine.nc", run_file.read_bytes())
    assert page.mistake.text == ""
    assert page.setting() == Setting(
        2, 4, label_bias="free", t_end=2.0, start=page.setting().start,
        mobility=page.setting().mobility,
    )  # fmt: skip
    assert len(sent(page, page.network_curve)["data"]["ys"]) == 2
    assert page.remove.visible
    page.lay_over("again.nc", run_file.read_bytes())
    assert len(sent(page, page.network_curve)["data"]["ys"]) == 4
    page._remove()
    assert sent(page, page.network_curve)["data"] == {"xs": [], "ys": []}
    assert sent(page, page.network_measures)["data"]["ys"] == []
    assert not page.remove.visible
    assert "networks" not in page.legends[page.map].text


def test_one_page_keeps_its_networks_from_the_others(run_file):
    pytest.importorskip("bokeh")
    from bokeh.document import Document

    from cliff.explore.page import Page

    runs = [NetworkRun.read(run_file)]
    Page(Document(), runs)._remove()
    assert len(runs) == 1


def spoiled(run_file, path, **changes):
    """The bytes of a run file with some variables or attributes changed, or taken away by None."""
    dataset = cliff.load(run_file)
    for name, value in changes.items():
        holder = dataset if name in dataset else dataset.attrs
        if value is None:
            del holder[name]
        else:
            holder[name] = value
    dataset.to_netcdf(path, engine="h5netcdf")
    return path.read_bytes()


@pytest.mark.parametrize(
    "changes",
    [
        {"loss": None},
        {"t": ("step", np.full(5, np.nan))},
        {"t": ("other", np.arange(3.0))},
        {"loss": (("seed", "other", "step"), np.zeros((2, 2, 5)))},
        {"xi": (("seed", "step"), np.full((2, 5), "a"))},
        {"parameters": None},
        {"parameters": "[1]"},
        {"parameters": '{"task": 3}'},
        {"parameters": '{"task": {"n_pairs": Infinity, "n_labels": 4}}'},
        {"parameters": '{"task": {"n_pairs": -2, "n_labels": 4}}'},
        {"parameters": '{"task": {"n_pairs": 4, "n_labels": 2}}'},
        {"parameters": '{"task": {"n_pairs": 4000, "n_labels": 5000000}}'},
        {"parameters": 5},
        {"cliff_kind": "trajectory"},
        {"cliff_kind": None},
        {"cliff_format": 10**6},
    ],
    ids=lambda changes: f"{changes}"[:50],
)
def test_a_spoiled_network_is_told_and_nothing_changes(page, run_file, tmp_path, changes):
    before = page.shown.data
    content = spoiled(run_file, tmp_path / "spoiled.nc", **changes)
    page.lay_over("spoiled <i>.nc", content)
    assert "spoiled &lt;i&gt;.nc: " in page.mistake.text
    assert page.runs == []
    assert page.shown.data is before


@pytest.mark.parametrize("keep", [0, 3, 100, 4000])
def test_a_truncated_network_is_told(page, run_file, keep):
    page.lay_over("cut.nc", run_file.read_bytes()[:keep])
    assert "cut.nc: is not a NetCDF file of this package, or is truncated" in page.mistake.text
    page.start["xi"].value = 0.3
    assert page.mistake.text == ""


def test_a_slider_is_followed_within_50_ms(page):
    """The best of several: other processes share the machine."""
    took = []
    for value in np.linspace(0.0, 1.0, 12).tolist():
        began = time.perf_counter()
        page.start["beta1"].value = value
        took.append(time.perf_counter() - began)
    assert min(took) < 0.05, took


def test_the_page_in_a_browser(run_file, tmp_path):
    with opened(tmp_path, str(run_file)) as (process, tab):

        def number():
            return float(tab.inner_text("#transition-time"))

        def follows(setting):
            expected = f"{view(setting).transition.t_transition:.5g}"
            tab.wait_for_selector(f"#transition-time:text-is('{expected}')", timeout=60_000)

        first = Setting(2, 4, label_bias="free", t_end=2.0)
        assert tab.inner_text("#transition") == str(view(first).transition.status)

        def press(slider, key, times=1):
            handle = tab.locator(f".cliff-{slider} .noUi-handle")
            handle.focus()
            for _ in range(times):
                handle.press(key)

        press("t_end", "End")
        moved = Setting(2, 4, label_bias="free", t_end=1e6)
        follows(moved)
        before = number()
        press("labels", "ArrowRight", 4)
        moved = Setting(2, 8, label_bias="free", t_end=1e6)
        follows(moved)
        assert number() != before

        box = tab.locator(".cliff-map").bounding_box()
        tab.mouse.click(box["x"] + 0.5 * box["width"], box["y"] + 0.3 * box["height"])
        started = "() => Bokeh.documents[0].get_model_by_name('start_beta1').value"
        tab.wait_for_function(f"({started})() != 0.01")
        clicked = tab.evaluate(started)
        alpha = tab.evaluate(started.replace("beta1", "alpha"))
        assert (clicked, alpha) != (0.01, 0.01)
        start = {"beta1": clicked, "alpha": alpha}
        follows(Setting(2, 8, label_bias="free", start=start, t_end=1e6))

        tab.mouse.move(box["x"] + 0.5 * box["width"], box["y"] + 0.3 * box["height"])
        tab.mouse.down()
        tab.mouse.move(box["x"] + 0.6 * box["width"], box["y"] + 0.5 * box["height"], steps=5)
        tab.mouse.up()
        tab.wait_for_function(f"({started})() > {clicked}")

        tab.get_by_text("copy command line").click()
        copied = tab.evaluate("navigator.clipboard.readText()")
        assert copied.startswith("cliff flow --pairs 2 --labels 8 --label-bias free --init beta1=")

        bias = tab.get_by_text("label bias β₂: 0")  # the slider's title
        for state in ("visible", "hidden"):
            tab.get_by_text("free label bias β₂").click()  # the label, not the box
            bias.wait_for(state=state)

        for width in (1280, 420):
            tab.set_viewport_size({"width": width, "height": 900})
            tab.wait_for_timeout(200)
            assert tab.evaluate("document.documentElement.scrollWidth") == width
        process.send_signal(signal.SIGINT)
        assert process.wait(60) == 130
        assert process.stderr.read() == "cliff: interrupted\n"


def test_a_network_is_loaded_from_the_page(run_file, tmp_path):
    spoiled = tmp_path / "spoiled.nc"
    spoiled.write_bytes(run_file.read_bytes()[:4000])
    with opened(tmp_path / "browser") as (_, tab):
        file, legends = tab.locator("input[type=file]"), tab.get_by_text("networks", exact=True)
        remove = tab.get_by_text("remove networks")

        def told(words):
            tab.locator("b", has_text=words).wait_for()
            assert legends.count() == 0

        file.set_input_files(spoiled)
        told("spoiled.nc: is not a NetCDF file of this package, or is truncated")
        from cliff.explore.page import LARGEST_FILE

        large = tmp_path / "large.nc"
        large.write_bytes(bytes(LARGEST_FILE + 1))
        file.set_input_files(large)
        told("a file has at most 15 MB")
        for _ in range(2):  # the same file again, once the networks are away
            file.set_input_files(run_file)
            remove.wait_for()
            assert legends.count() == 2
            first = Setting(2, 4, label_bias="free", t_end=2.0)
            loss = f"{view(first).loss[-1]:.4g} nats"
            tab.wait_for_selector(f"#loss-at-the-end:text-is('{loss}')")
            remove.click()
            remove.wait_for(state="hidden")
            assert legends.count() == 0


def test_an_update_is_one_message_and_is_painted_once(tmp_path):
    """What takes the time: a message a change, and a layout of the page, would be twice as slow."""
    with opened(tmp_path) as (_, tab):
        tab.wait_for_timeout(500)
        tab.evaluate(WATCH)
        moves = 5
        for i in range(moves):
            tab.evaluate("value => move(value)", 0.1 * i + 0.1)
        done = tab.evaluate("done")
        assert done["messages"] == moves
        assert done["sent"] == 3 * moves  # Bokeh sends a message in three parts
        assert done["renders"] == 0
        assert done["layouts"] == 0
        assert done["paints"] <= 4 * moves + 2
        assert "--init xi=0.5 " in tab.inner_text("#command")
        # a style sheet is left alone where its text stays, and else follows
        assert tab.evaluate(
            """() => {
              const sheet = document.createElement("style")
              const nodes = ["a {}", "a {}", "b {}"].map((css) => {
                sheet.textContent = css
                return sheet.firstChild
              })
              return [nodes[0] === nodes[1], nodes[1] === nodes[2], sheet.textContent]
            }"""
        ) == [True, False, "b {}"]


def test_only_this_machine_is_served():
    pytest.importorskip("bokeh")
    with served() as (process, address):
        port = int(address.rstrip("/").rpartition(":")[2])
        assert urllib.request.urlopen(address, timeout=20).status == 200
        for other in sorted(
            {info[4][0] for info in socket.getaddrinfo(socket.gethostname(), port)}
        ):
            if not other.startswith("127.") and other != "::1":
                with pytest.raises(OSError, match=r"refused|unreachable"):
                    socket.create_connection((other, port), timeout=5)
        for origin, answer in ((address.rstrip("/"), b"101"), ("http://elsewhere.example", b"403")):
            with socket.create_connection(("127.0.0.1", port), timeout=20) as connection:
                connection.sendall(
                    f"GET /ws HTTP/1.1\r\nHost: localhost:{port}\r\nUpgrade: websocket\r\n"
                    "Connection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
                    f"Sec-WebSocket-Key: {'A' * 22}==\r\nSec-WebSocket-Protocol: bokeh, none\r\n"
                    f"Origin: {origin}\r\n\r\n".encode()
                )
                assert connection.recv(4096).split()[1] == answer
        taken = subprocess.run(
            [sys.executable, "-m", "cliff", "explore", "--no-browser", "--port", str(port)],
            capture_output=True, text=True, timeout=60,
        )  # fmt: skip
        assert taken.returncode == 2
        assert re.match(rf"cliff: --port {port}: cannot be served: .*in use", taken.stderr)
        process.send_signal(signal.SIGTERM)
        assert process.wait(60) == 143


def test_mistakes_are_told_in_a_line(tmp_path, capsys, monkeypatch):
    pytest.importorskip("bokeh")
    integrate(NestedLogit(2, 4), [0.1] * 3, 1.0).save(tmp_path / "flow.nc")
    assert _run(["explore", str(tmp_path / "flow.nc")]) == 2
    told = capsys.readouterr().err
    assert re.fullmatch(r"cliff: RUN \S+flow.nc: holds a trajectory, and a run is needed\n", told)
    monkeypatch.setitem(sys.modules, "bokeh", None)
    assert _run(["explore"]) == 1
    assert capsys.readouterr().err == (
        "cliff: explore needs the extra explore: pip install 'cliff-icl[explore]'\n"
    )
