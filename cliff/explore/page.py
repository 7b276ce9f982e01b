"""The page: sliders, curves and a slice of the landscape, served on this machine alone.

The library is Bokeh. Its server keeps Python and page in step over a websocket, sends arrays as
bytes, reports clicks and drags in data coordinates, and brings its own scripts, so that the page
needs no network. Panel would put a second layer, with five dependencies more, on the same server.
"""

from __future__ import annotations

import base64
import html
import math
import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from bokeh.document import Document
from bokeh.events import Pan, PanStart, Tap
from bokeh.layouts import column, row
from bokeh.models import (
    Button,
    CheckboxGroup,
    ColorBar,
    ColumnDataSource,
    CustomJS,
    CustomJSTickFormatter,
    Div,
    FileInput,
    Label,
    LinearColorMapper,
    Model,
    Range1d,
    Select,
    Slider,
    Span,
    UIElement,
)
from bokeh.plotting import figure as new_bokeh_figure
from bokeh.server.server import Server

from cliff.checks import ArgumentError, shorten
from cliff.data import Data
from cliff.explore.view import Array, NetworkRun, Setting, View, view
from cliff.plots.style import BLUE, COLOURS, GREY, MEASURE_STYLES, PURPLE, RED
from cliff.presentation import plain

HOST = "127.0.0.1"
"""The loopback address: nobody on another machine reaches the page."""

START = (-8.0, 12.0)
"""Range of the sliders of the start."""

DASHES = {"-": "solid", "--": "6 4", ":": "2 3", "-.": "6 4 2 4"}
"""Dashes of a line, as Bokeh and SVG both read them."""

MEASURES = {
    name: (colour, DASHES[dashes], f"{name}: {words}")
    for name, (colour, dashes, words) in {
        "ila1": (*MEASURE_STYLES["ila1"][:2], "layer 1, to the item"),
        "tila2": (*MEASURE_STYLES["tila2"][:2], "layer 2, to the label"),
        "tla2": (*MEASURE_STYLES["tla2"][:2], "layer 2, to all labels"),
        "cla": (*MEASURE_STYLES["cla"][:2], "labels in context"),
        "p_correct": (*MEASURE_STYLES["p_correct"][:2], "the right label"),
        "icl": (PURPLE, "-", "novel classes"),
        "icl_swapped": (BLUE, ":", "swapped labels"),
        "iwl": (GREY, "--", "from the weights"),
    }.items()
}
"""Colour, dashes and label of the measures."""

Change = tuple[Model, dict[str, Any]]
"""A model of the page and its new attributes."""

SIGNS = {"beta_": "β", "beta1": "β₁", "beta2": "β₂", "alpha": "α", "xi": "ξ", "omega": "ω"}
SUBSCRIPTS = str.maketrans("0123456789", "₀₁₂₃₄₅₆₇₈₉")

TEMPLATE = """
{% block preamble %}
<meta name="viewport" content="width=device-width, initial-scale=1">
<style>
  body { margin: 0 auto; max-width: 1500px; font-family: sans-serif; }
</style>
<script>
  const {get, set} = Object.getOwnPropertyDescriptor(Node.prototype, "textContent")
  Object.defineProperty(HTMLStyleElement.prototype, "textContent", {
    get, set(css) { if (get.call(this) !== css) set.call(this, css) },
  })
</script>
{% endblock %}
"""
"""Bokeh sets the style sheet of whatever it draws, nearly always to the text that it has, and the
browser would work out all styles anew each time, in a third of the time of a drawing."""

FOLLOW = """
for (const [model, attributes] of shown.data.changes[0])
  model.setv(attributes, {sync: false})
for (const div of divs)
  for (const element of cb_context.index.find_one(div)?.shadow_el.querySelectorAll("[id]") ?? [])
    element.textContent = shown.data.texts[0][element.id]
"""
"""What the page does with an update.

Bokeh sends a message for each attribute that Python sets, and the page draws in between. One
message with all of them is drawn once; the page keeps them to itself, since Python knows them.
A new text of a Div lays out the whole page, a new text of an element within it does not.
"""

LARGEST_FILE = 15_000_000
"""Largest file (bytes) that the page takes: a message of 20 MiB of text ends the connection."""

REFUSE = f"""
const take = cb_context.index.find_one(upload).shadow_el
take.addEventListener("change", (event) => {{
  if (event.target.files[0]?.size > {LARGEST_FILE}) {{
    event.stopImmediatePropagation()
    event.target.value = ""
    mistake.text = "<b style='color:{RED}'>a file has at most {LARGEST_FILE // 10**6} MB</b>"
  }}
}}, true)
"""
"""What the page does with a larger file, before it reads it."""

POWER = "return Number(Math.pow(10, tick).toPrecision(3)).toString()"


def sign(name: str) -> str:
    """A component of theta as a slider writes it."""
    base, _, index = name.partition("_")
    return SIGNS.get(base, base) + index.translate(SUBSCRIPTS)


def power(exponent: float) -> float:
    """10^exponent, in the three digits that a logarithmic slider shows."""
    return float(f"{10.0**exponent:.3g}")


class Page:
    """One open page: widgets that make a `Setting`, and figures that show its `View`.

    Parameters
    ----------
    document : bokeh.document.Document
    runs : sequence of NetworkRun
        Networks to lay over the flow.
    """

    def __init__(self, document: Document, runs: Sequence[NetworkRun] = ()) -> None:
        self.runs = list(runs)
        self._make_widgets()
        self._make_figures()
        self._networks_drawn: tuple[object, ...] = ()  # what of them is on the page
        self._held = False  # while several sliders move at once, the page follows once
        self._start_as(runs[0].setting() if runs else Setting())
        follow = CustomJS(args={"shown": self.shown, "divs": [self.said, self.call]}, code=FOLLOW)
        self.shown.js_on_change("data", follow)
        refuse = CustomJS(args={"upload": self.upload, "mistake": self.mistake}, code=REFUSE)
        document.js_on_event("document_ready", follow, refuse)
        document.title = "cliff explore"
        document.template = TEMPLATE
        document.add_root(self._layout())

    def _make_widgets(self) -> None:
        slider = partial(Slider, sizing_mode="stretch_width")
        self.pairs = slider(title="pairs N", start=1, end=64, step=1, value=8)
        self.labels = slider(title="labels L", start=1, end=256, step=1, value=32)
        self.positions = Select(title="positions", options=["exact", "mean"], value="exact",
                                sizing_mode="stretch_width")  # fmt: skip
        # in a group, even of one, a click on the label counts as one on the box
        self.free = CheckboxGroup(labels=["free label bias β₂"])
        self.bias = slider(title="label bias β₂", start=-4, end=6, step=0.1, value=0.0)
        names = ("beta1", "alpha", "xi", "beta2", "omega")
        self.start = {
            name: slider(title=f"start {sign(name)}", start=START[0], end=START[1], step=0.01,
                         value=0.0 if name == "beta2" else 0.01, name=f"start_{name}")
            for name in names
        }  # fmt: skip
        as_power = CustomJSTickFormatter(code=POWER)
        self.mobility = {
            name: slider(title=f"mobility of {sign(name)}", start=-3, end=4, step=0.05, value=0.0,
                         format=as_power, name=f"mobility_{name}")
            for name in names
        }  # fmt: skip
        self.t_end = slider(title="end of the flow, t", start=0, end=6, step=0.05, value=2.0,
                            format=as_power)  # fmt: skip
        self.memory = CheckboxGroup(labels=["memory: the weights can answer"])
        self.classes = slider(title="classes K", start=1, end=12, step=1, value=9,
                              format=CustomJSTickFormatter(code="return 2 ** tick"))  # fmt: skip
        self.noise = slider(title="noise ε", start=0, end=1.5, step=0.05, value=0.0)
        self.zipf = slider(title="Zipf exponent", start=0, end=2, step=0.1, value=0.0)
        self.burstiness = slider(title="burstiness B", start=0, end=4, step=1, value=1)
        self.bursty = slider(title="share of bursty sequences", start=0, end=1, step=0.05, value=1)
        self.plane = Select(title="slice over", value="beta1, alpha", sizing_mode="stretch_width")
        self.of_memory = [self.classes, self.noise, self.zipf, self.burstiness, self.bursty,
                          self.start["omega"], self.mobility["omega"]]  # fmt: skip
        self.upload = FileInput(title="lay a training run over the flow (.nc)", accept=".nc",
                                sizing_mode="stretch_width")  # fmt: skip
        self.upload.on_change("filename", self._uploaded)
        self.remove = Button(label="remove networks", sizing_mode="stretch_width")
        self.remove.on_click(self._remove)
        # names by which a style sheet, or a test, finds them
        for name in ("pairs", "labels", "t_end"):
            getattr(self, name).css_classes = [f"cliff-{name}"]
        valued = [self.pairs, self.labels, self.positions, self.bias, *self.start.values(),
                  *self.mobility.values(), self.t_end, self.classes, self.noise, self.zipf,
                  self.burstiness, self.bursty, self.plane]  # fmt: skip
        for widget, attribute in (*((w, "value") for w in valued), (self.free, "active"),
                                  (self.memory, "active")):  # fmt: skip
            widget.on_change(attribute, self._changed)

    def setting(self) -> Setting:
        """What the widgets say.

        Raises
        ------
        ArgumentError
            If the data of the memory are out of range.
        """
        exact = self.positions.value == "exact"
        memory = None
        if self.memory.active:
            memory = Data(
                n_classes=2 ** int(self.classes.value),
                noise=float(self.noise.value),
                zipf_exponent=float(self.zipf.value),
                burstiness=int(self.burstiness.value),
                p_bursty=float(self.bursty.value),
            )
        bias: float | str = "free" if self.free.active else float(self.bias.value)
        x, y = self.plane.value.split(", ")
        return Setting(
            n_pairs=int(self.pairs.value),
            n_labels=int(self.labels.value),
            positions=self.positions.value,
            label_bias=bias if exact else 0.0,  # without effect in the mean field
            memory=memory,
            start={name: float(widget.value) for name, widget in self.start.items()},
            mobility={name: power(widget.value) for name, widget in self.mobility.items()},
            t_end=power(self.t_end.value),
            plane=(x, y),
        )

    def _make_figures(self) -> None:
        self.said, self.mistake, self.call = (
            Div(sizing_mode="stretch_width", name=name) for name in ("said", "mistake", "call")
        )
        block = "white-space:pre-wrap;overflow-wrap:anywhere;background:#F2F2F2;padding:6px"
        self.call.text = "".join(
            f"<pre id='{key}' style='{block}'></pre>" for key in ("command", "code")
        )
        self.call.stylesheets = [".bk-clearfix { width: 100%; }"]
        source = ColumnDataSource
        self.shown = source({"changes": [[]], "texts": [{}]})
        self.image = source({"image": [], "x": [], "y": [], "w": [], "h": []})
        self.path, self.ends = source({"x": [], "y": []}), source({"x": [], "y": []})
        self.begins, self.edge = source({"x": [], "y": []}), source({"x": [], "y": []})
        self.network_path = source({"xs": [], "ys": []})
        self.curve, self.network_curve = source({"t": [], "loss": []}), source({"xs": [], "ys": []})
        lines: dict[str, list[Any]] = {"xs": [], "ys": [], "colour": [], "dash": []}
        self.logits, self.measures = source(lines), source(lines)
        self.network_logits, self.network_measures = source(lines), source(lines)

        self.map = _figure("", "")
        self.map.css_classes = ["cliff-map"]
        self.colours = LinearColorMapper(palette="Cividis256", low=0.0, high=1.0)
        self.map.image("image", "x", "y", "w", "h", source=self.image, color_mapper=self.colours)
        self.map.line("x", "y", source=self.edge, line_color="black", line_dash=DASHES["--"],
                      line_width=2)  # fmt: skip
        self.map.line("x", "y", source=self.path, line_color=RED, line_width=2.5)
        self.map.multi_line("xs", "ys", source=self.network_path, line_color=PURPLE,
                            line_width=1.5)  # fmt: skip
        self.map.scatter("x", "y", source=self.begins, size=12, fill_color="white",
                         line_color="black", line_width=1.5)  # fmt: skip
        self.map.scatter("x", "y", source=self.ends, size=11, marker="square", fill_color=RED,
                         line_color="black")  # fmt: skip
        self.map.add_layout(ColorBar(color_mapper=self.colours, width=10), "right")
        for event in (Tap, PanStart, Pan):
            self.map.on_event(event, self._start_at)

        self.loss = _figure("time t (gradient flow)", "loss (nats)")
        self.loss.line("t", "loss", source=self.curve, line_color="black", line_width=2.5)
        self.loss.multi_line("xs", "ys", source=self.network_curve, line_color=PURPLE,
                             line_width=1.5)  # fmt: skip
        style = {"dimension": "width", "line_dash": "dashed", "line_color": GREY}
        self.levels = {name: Span(location=0, **style) for name in ("log L", "log N")}
        self.level_names = {
            name: Label(x=4, y=0, x_units="screen", text=name, text_font_size="11px",
                        text_color=GREY)
            for name in self.levels
        }  # fmt: skip
        self.falls = Span(location=math.nan, dimension="height", line_color=RED)
        for thing in (*self.levels.values(), *self.level_names.values(), self.falls):
            self.loss.add_layout(thing)

        self.of_logits = _figure("time t (gradient flow)", "logit")
        self.of_measures = _figure("time t (gradient flow)", "attention or probability")
        self.of_measures.y_range.start, self.of_measures.y_range.end = -0.02, 1.02
        for figure, curves, networks in (
            (self.of_logits, self.logits, self.network_logits),
            (self.of_measures, self.measures, self.network_measures),
        ):
            figure.multi_line("xs", "ys", source=networks, line_color="colour", line_width=1,
                              line_alpha=0.6)  # fmt: skip
            figure.multi_line("xs", "ys", source=curves, line_color="colour", line_width=2,
                              line_dash="dash")  # fmt: skip
        figures = (self.map, self.loss, self.of_logits, self.of_measures)
        # Bokeh's own legends are made anew, and the page laid out, with each new curve
        self.legends = {
            figure: Div(styles={"padding": "0 8px 8px 45px"}, sizing_mode="stretch_width")
            for figure in figures
        }

    def _layout(self) -> UIElement:
        copies = [
            Button(label=f"copy {what}", sizing_mode="stretch_width", name=f"copy_{key}")
            for key, what in (("command", "command line"), ("code", "Python code"))
        ]
        for button, key in zip(copies, ("command", "code"), strict=True):
            code = "navigator.clipboard.writeText(shown.data.texts[0][key])"
            button.js_on_click(CustomJS(args={"shown": self.shown, "key": key}, code=code))
        self.copy_command = copies[0]
        some = ("beta1", "alpha", "xi")
        controls = column(
            Div(text="<h2 style='margin:0'>cliff explore</h2>", sizing_mode="stretch_width"),
            self.said, self.mistake, self.pairs, self.labels,
            *(self.start[name] for name in some), self.t_end,
            *(self.mobility[name] for name in some), self.plane, self.positions, self.bias,
            self.free, self.start["beta2"], self.mobility["beta2"], self.memory, *self.of_memory,
            self.upload, self.remove,
            sizing_mode="stretch_width",
        )  # fmt: skip
        panels = row(
            *(column(*both, sizing_mode="stretch_width") for both in self.legends.items()),
            sizing_mode="stretch_width",
        )
        panels.stylesheets = [_GRID]
        shown = column(panels, self.call, row(*copies, sizing_mode="stretch_width"),
                       sizing_mode="stretch_width")  # fmt: skip
        page = row(controls, shown, sizing_mode="stretch_width")
        page.stylesheets = [_SIDE_BY_SIDE]
        return page

    def _start_as(self, setting: Setting) -> None:
        """Show the landscape and the time of a setting, in which runs differ."""
        self._held = True
        for slider, value in ((self.pairs, setting.n_pairs), (self.labels, setting.n_labels)):
            slider.end = max(slider.end, value)
            slider.value = value
        self.free.active = [0] if setting.label_bias == "free" else []
        self.positions.value = setting.positions
        self.t_end.value = min(max(math.log10(setting.t_end), 0.0), 6.0)
        self._held = False
        self.update()

    def _uploaded(self, attr: str, old: object, name: str) -> None:
        if name:  # empty once the widget is cleared
            self.lay_over(name, base64.b64decode(self.upload.value))
            self.upload.clear()

    def lay_over(self, name: str, content: bytes) -> None:
        """Lay the runs in a file over the flow, and show the landscape that they were trained on.

        A file that holds none is told, and nothing changes.
        """
        try:
            with tempfile.TemporaryDirectory() as folder:
                path = Path(folder) / "run.nc"
                path.write_bytes(content)
                run = NetworkRun.read(path)
            view(run.setting())
        except ArgumentError as error:
            self._tell(f"{shorten(name)}: {error.requirement}")
            return
        self.runs.append(run)
        self._networks_drawn = ()
        self._start_as(run.setting())

    def _remove(self) -> None:
        self.runs.clear()
        self._networks_drawn = ()
        self.update()

    def _tell(self, mistake: str) -> None:
        self.mistake.text = f"<b style='color:{RED}'>{html.escape(mistake)}</b>"

    def _start_at(self, event: Any) -> None:
        """Start the flow at a point of the slice."""
        if event.x is None or event.y is None:
            return
        self._held = True
        for name, value in zip(self.plane.value.split(", "), (event.x, event.y), strict=True):
            widget = self.start[name.partition("_")[0]]
            widget.value = round(min(max(value, START[0]), START[1]), 2)
        self._held = False
        self.update()

    def _changed(self, attr: str, old: object, new: object) -> None:
        self.update()

    def update(self) -> None:
        """Show what the widgets say; a setting without a landscape is told, and nothing moves."""
        if self._held:
            return
        self._held = True
        try:
            self._offer_what_applies()
            setting = self.setting()
            self._show(view(setting), setting)
            self.mistake.text = ""
        except ArgumentError as error:
            self._tell(f"{error.argument} {error.value}: {error.requirement}")
        finally:
            self._held = False

    def _offer_what_applies(self) -> None:
        """Show the widgets that have an effect, and offer the planes that there are."""
        exact, memory = self.positions.value == "exact", bool(self.memory.active)
        free = exact and bool(self.free.active)
        self.free.visible, self.bias.visible = exact, exact and not free
        for widget in (self.start["beta2"], self.mobility["beta2"]):
            widget.visible = free
        for widget in self.of_memory:
            widget.visible = memory
        self.remove.visible = bool(self.runs)
        names = ["beta1", "alpha", "xi", *["beta2"] * free, *["omega_1"] * memory]
        planes = [f"{a}, {b}" for i, a in enumerate(names) for b in names[i + 1 :]]
        options = [(plane, " and ".join(map(sign, plane.split(", ")))) for plane in planes]
        if self.plane.options != options:
            self.plane.options = options
        if self.plane.value not in planes:
            self.plane.value = planes[0]

    def _show(self, shown: View, setting: Setting) -> None:
        lines = {name.replace(" ", "-"): (name, text) for name, text in shown.lines().items()}
        # the same at each update, so that Bokeh sends these once
        rows = "".join(
            f"<tr><td style='color:{GREY};padding-right:8px'>{name}</td><td id='{key}'></td></tr>"
            for key, (name, _) in lines.items()
        )
        self.said.text = f"<table style='font-size:14px'>{rows}</table>"
        self._explain(shown)
        texts = {key: text for key, (_, text) in lines.items()}
        changes = [
            *self._on_map(shown), *self._on_loss(shown, setting), *self._on_curves(shown, setting)
        ]  # fmt: skip
        drawn = (shown.part.names, *shown.measures)
        if drawn != self._networks_drawn:
            changes += self._of_networks(shown)
            self._networks_drawn = drawn
        self.shown.data = {
            "changes": [changes],
            "texts": [texts | {"command": shown.command, "code": shown.code}],
        }

    def _explain(self, shown: View) -> None:
        """The legends below the figures, the same until the landscape or the networks change."""
        network = _entry("networks", PURPLE) if self.runs else ""
        circle = "<circle cx='12' cy='6' r='5' fill='white' stroke='black' stroke-width='1.5'/>"
        square = f"<path d='M7 1h10v10h-10z' fill='{RED}' stroke='black'/>"
        names = shown.model.parameter_names
        for figure, entries in (
            (self.map, (_entry("start (click or drag)", "", mark=circle), _entry("flow", RED),
                        _entry("end", "", mark=square),
                        _entry("edge of the cliff, 0.9 log N", "black", DASHES["--"]), network)),
            (self.loss, (_entry("flow", "black"), network) if self.runs else ()),
            (self.of_logits, (_entry(self._label(shown, name), self._colour(name))
                              for name in names)),
            (self.of_measures, (_entry(label, colour, dash) for colour, dash, label
                                in (MEASURES[name] for name in shown.measures))),
        ):  # fmt: skip
            self.legends[figure].text = "".join(dict.fromkeys(entries))  # groups share a name

    def _on_map(self, shown: View) -> Iterator[Change]:
        part, path = shown.part, shown.path
        (x0, x1), (y0, y1) = ((side[0], side[-1]) for side in (part.x, part.y))
        image = [part.loss.astype(np.float32)]
        yield _fill(self.image, image=image, x=[x0], y=[y0], w=[x1 - x0], h=[y1 - y0])
        # in steps, so that the colours stay while a slider moves
        low, high = math.floor(4 * part.loss.min()) / 4, math.ceil(4 * part.loss.max()) / 4
        yield self.colours, {"low": low, "high": high}
        yield from _span(self.map, x0, x1, y0, y1)
        yield _fill(self.edge, x=part.x, y=shown.edge)
        for source, points in ((self.path, path), (self.begins, path[:1]), (self.ends, path[-1:])):
            yield _fill(source, x=points[:, 0], y=points[:, 1])
        for axis, name in zip((self.map.xaxis, self.map.yaxis), part.names, strict=True):
            yield axis[0], {"axis_label": self._label(shown, name)}
        when = "at the transition" if shown.at_transition else "at the end"
        held = [f"{sign(name)} = {value:.2f}" for name, value in list(part.fixed.items())[:3]]
        more = " …" if len(part.fixed) > 3 else ""
        yield self.map.title, {"text": f"loss (nats) at {', '.join(held)}{more} ({when})"}

    def _on_loss(self, shown: View, setting: Setting) -> Iterator[Change]:
        yield _fill(self.curve, t=shown.t, loss=shown.loss)
        levels = {"log L": math.log(shown.model.n_labels), "log N": shown.model.plateau}
        for name, level in levels.items():
            yield self.levels[name], {"location": level}
            yield self.level_names[name], {"y": level}
        highest = 1.08 * max(float(shown.loss.max()), *levels.values())
        yield from _span(self.loss, 0.0, setting.t_end, 0.0, highest)
        time = shown.transition.t_transition
        yield self.falls, {"location": time}
        yield self.loss.title, {"text": f"t = {time:.4g}" if shown.at_transition else " "}

    def _on_curves(self, shown: View, setting: Setting) -> Iterator[Change]:
        curves = zip(shown.model.parameter_names, shown.theta.T, strict=True)
        yield _draw(self.logits, ((shown.t, y, self._colour(name), "solid") for name, y in curves))
        drawn = [shown.theta, *(values for run in self.runs for values in run.logits.values())]
        low = min(np.fmin.reduce(values, None, initial=np.inf) for values in drawn)
        high = max(np.fmax.reduce(values, None, initial=-np.inf) for values in drawn)
        margin = 0.05 * (high - low) + 1e-3
        yield from _span(self.of_logits, 0.0, setting.t_end, low - margin, high + margin)
        measures = shown.measures.items()
        yield _draw(self.measures, ((shown.t, y, *MEASURES[name][:2]) for name, y in measures))
        yield self.of_measures.x_range, {"end": setting.t_end}

    def _of_networks(self, shown: View) -> Iterator[Change]:
        """Lay the networks' curves over the flow, those of measures that the flow has too."""
        curves = [(run.t, loss) for run in self.runs for loss in run.loss]
        yield _fill(self.network_curve, xs=[t for t, _ in curves], ys=[y for _, y in curves])
        x, y = ("omega" if name.startswith("omega") else name for name in shown.part.names)
        seeds = [
            pair for run in self.runs if {x, y} <= run.logits.keys()
            for pair in zip(run.logits[x], run.logits[y], strict=True)
        ]  # fmt: skip
        yield _fill(self.network_path, xs=[a for a, _ in seeds], ys=[b for _, b in seeds])
        yield _draw(self.network_logits, (
            (run.t, values, self._colour(name), "solid")
            for run in self.runs for name, rows in run.logits.items() for values in rows
        ))  # fmt: skip
        yield _draw(self.network_measures, (
            (run.t, values, *MEASURES[name][:2])
            for run in self.runs for name, rows in run.measures.items()
            if name in shown.measures for values in rows
        ))  # fmt: skip

    @staticmethod
    def _colour(name: str) -> str:
        return dict(zip(("beta1", "alpha", "xi", "beta2"), COLOURS, strict=True)).get(name, RED)

    @staticmethod
    def _label(shown: View, name: str) -> str:
        if name.startswith("omega"):
            return "ω (memory)" if shown.model.n_groups == 1 else "ω (memory of the groups)"
        return sign(name) + " " + plain(shown.model.labels[name]).partition(" ")[2]


_GRID = """
:host {
  display: grid;
  grid-template-columns: repeat(auto-fit, minmax(min(340px, 100%), 1fr));
}
"""
_SIDE_BY_SIDE = """
:host {
  display: grid;
  grid-template-columns: minmax(260px, 320px) minmax(0, 1fr);
  gap: 12px;
  padding: 0 10px;
  box-sizing: border-box;
}
@media (max-width: 800px) { :host { grid-template-columns: minmax(0, 1fr); } }
"""


def _figure(x: str, y: str) -> Any:
    return new_bokeh_figure(
        height=280, min_width=300, sizing_mode="stretch_width", tools="", toolbar_location=None,
        x_axis_label=x, y_axis_label=y, x_range=Range1d(0, 1), y_range=Range1d(0, 1), title=" ",
        output_backend="canvas",
    )  # fmt: skip


def _entry(label: str, colour: str, dash: str = "solid", mark: str = "") -> str:
    """An entry of a legend as HTML: a line, or another mark, and its label."""
    line = f"<path d='M0 6H24' stroke='{colour}' stroke-width='2' stroke-dasharray='{dash}'/>"
    return (
        "<span style='display:inline-block;margin-right:14px'>"
        f"<svg width='24' height='12' style='vertical-align:-2px'>{mark or line}</svg> "
        f"{html.escape(label)}</span>"
    )


def _span(figure: Any, x0: float, x1: float, y0: float, y1: float) -> Iterator[Change]:
    yield figure.x_range, {"start": float(x0), "end": float(x1)}
    yield figure.y_range, {"start": float(y0), "end": float(y1)}


def _fill(source: ColumnDataSource, **columns: Any) -> Change:
    return source, {"data": columns}


def _draw(source: ColumnDataSource, lines: Iterable[tuple[Array, Array, str, str]]) -> Change:
    """Lines as a source has them: from x, y, colour and dashes of each."""
    columns = list(zip(*lines, strict=True)) or [()] * 4
    names = ("xs", "ys", "colour", "dash")
    return _fill(source, **dict(zip(names, map(list, columns), strict=True)))


def serve(port: int, runs: Sequence[NetworkRun], ready: Callable[[str], object]) -> None:
    """Serve the page on the loopback address until the process is interrupted.

    Parameters
    ----------
    port : int
        Port; 0 for any that is free.
    runs : sequence of NetworkRun
    ready : callable
        Called with the address of the page once it is served.

    Raises
    ------
    OSError
        If the port is taken.
    """
    # Bokeh answers pages of localhost and this port alone: a page from elsewhere, to whose name
    # somebody gave this address, gets nothing
    server = Server({"/": partial(Page, runs=runs)}, address=HOST, port=port)
    server.start()
    ready(f"http://localhost:{server.port}/")
    server.io_loop.start()
