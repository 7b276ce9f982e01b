"""The explorer: its numbers are those of the library, and its page shows them in a real browser."""

import json
import re
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from contextlib import contextmanager
from types import SimpleNamespace

import numpy as np
import pytest

import cliff
from cliff import NestedLogit, Task, Transformer, integrate, train
from cliff.checks import ArgumentError
from cliff.cli import _run
from cliff.data import Data
from cliff.explore.view import LABELLED_AT, NetworkRun, Setting, view
from cliff.network.runs import side_by_side
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


def test_widgets_say_a_setting_and_figures_show_it(page):
    page.start["alpha"].value = 0.75
    page.mobility["xi"].value = -1.0
    page.t_end.value = 2.5
    assert page.setting().start["alpha"] == 0.75
    assert (page.setting().mobility["xi"], page.setting().t_end) == (0.1, 316.0)
    shown = view(page.setting())
    np.testing.assert_array_equal(page.curve.data["loss"], shown.loss)
    np.testing.assert_array_equal(page.path.data["y"], shown.path[:, 1])
    np.testing.assert_array_equal(page.logits.data["ys"][2], shown.theta[:, 2])
    np.testing.assert_array_equal(page.measures.data["ys"][0], shown.measures["ila1"])
    assert page.falls.location == shown.transition.t_transition
    assert f">{shown.transition.t_transition:.5g}<" in page.said.text
    assert page.text.data["command"] == [shown.command]


def test_a_click_starts_the_flow_there(page):
    page.plane.value = "alpha, xi"
    page._start_at(SimpleNamespace(x=-1.2345, y=99.0))
    assert (page.start["alpha"].value, page.start["xi"].value) == (-1.23, 12.0)
    assert page.begins.data["x"] == [-1.23]
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
    before = page.said.text
    page.labels.value = 4
    assert "n_labels 4: must be at least the number of pairs, 8" in page.mistake.text
    assert page.said.text == before
    page.labels.value = 16
    assert page.mistake.text == ""
    assert page.said.text != before


def test_widgets_without_effect_are_away(page):
    def visible(*widgets):
        return [widget.visible for widget in widgets]

    bias = page.bias, page.free, page.start["beta2"], page.mobility["beta2"]
    assert visible(*bias) == [True, True, False, False]
    page.free.active = True
    assert visible(*bias) == [False, True, True, True]
    page.plane.value = "xi, beta2"
    page.positions.value = "mean"
    assert visible(*bias) == [False, False, False, False]
    assert page.plane.value == "beta1, alpha"
    assert visible(*page.of_memory) == [False] * 7
    page.memory.active = True
    assert visible(*page.of_memory) == [True] * 7
    assert "--memory --classes 512" in page.text.data["command"][0]
    assert ("xi, omega_1", "ξ and ω₁") in page.plane.options


def test_networks_lie_over_the_flow(run_file):
    pytest.importorskip("bokeh")
    from bokeh.document import Document

    from cliff.explore.page import Page

    run = NetworkRun.read(run_file)
    page = Page(Document(), [run])
    assert page.setting().label_bias == "free"
    assert (page.pairs.value, page.labels.value, page.setting().t_end) == (2, 4, 2.0)
    np.testing.assert_array_equal(page.network_curve.data["ys"], run.loss)
    np.testing.assert_array_equal(page.network_path.data["ys"], run.logits["alpha"])
    assert page.network_logits.data["label"] == [n for n in run.logits for _ in range(2)]
    drawn = page.network_measures.data["label"]
    assert drawn[0].startswith("ila1")
    assert not any(label.startswith("iwl") for label in drawn)  # the flow knows none


def test_a_slider_is_followed_within_50_ms(page):
    """The best of several: other processes share the machine."""
    took = []
    for value in np.linspace(0.0, 1.0, 12).tolist():
        began = time.perf_counter()
        page.start["beta1"].value = value
        took.append(time.perf_counter() - began)
    assert min(took) < 0.05, took


FLAGS = (
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync",
)  # fmt: skip


@contextmanager
def served(*arguments):
    """The process of ``cliff explore`` and the address that it told."""
    process = subprocess.Popen(
        [sys.executable, "-m", "cliff", "explore", "--no-browser", "--port", "0", *arguments],
        stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    try:
        line = process.stderr.readline()
        while "serving" not in line and line:  # "compiling"
            line = process.stderr.readline()
        yield process, re.search(r"http://localhost:\d+/", line).group()
    finally:
        process.kill()
        process.wait()
        process.stderr.close()


def test_the_page_in_a_browser(run_file, tmp_path):
    playwright = pytest.importorskip("playwright.sync_api")
    pytest.importorskip("bokeh")
    chromium = shutil.which("chromium")
    if chromium is None:
        pytest.skip("there is no chromium")
    with served(str(run_file)) as (process, address), playwright.sync_playwright() as driver:
        browser = driver.chromium.launch_persistent_context(
            tmp_path, executable_path=chromium, args=FLAGS, viewport={"width": 1280, "height": 900}
        )
        browser.grant_permissions(["clipboard-read", "clipboard-write"])
        wrong, tab = [], browser.pages[0]
        tab.on(
            "console", lambda said: said.type in ("error", "warning") and wrong.append(said.text)
        )
        tab.on("pageerror", lambda error: wrong.append(error))
        tab.goto(address)

        def number():
            return float(tab.inner_text("#transition-time"))

        def follows(setting):
            expected = f"{view(setting).transition.t_transition:.5g}"
            tab.wait_for_function(
                "text => Bokeh.documents[0].roots()[0].document.get_model_by_name('said')"
                ".text.includes('>' + text + '<')", arg=expected, timeout=5000,
            )  # fmt: skip
            assert tab.inner_text("#transition-time") == expected

        first = Setting(2, 4, label_bias="free", t_end=2.0)
        tab.wait_for_selector("#transition-time")
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
        for width in (1280, 420):
            tab.set_viewport_size({"width": width, "height": 900})
            tab.wait_for_timeout(200)
            assert tab.evaluate("document.documentElement.scrollWidth") == width
        assert wrong == []
        browser.close()
        process.send_signal(signal.SIGINT)
        assert process.wait(10) == 130
        assert process.stderr.read() == "cliff: interrupted\n"


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
        assert process.wait(10) == 143


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
