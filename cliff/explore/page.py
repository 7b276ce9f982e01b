"""The page: sliders, curves and a slice of the landscape, served on this machine alone.

The library is Bokeh. Its server keeps Python and page in step over a websocket, sends arrays as
bytes, reports clicks and drags in data coordinates, and brings its own scripts, so that the page
needs no network. Panel would put a second layer, with five dependencies more, on the same server.
"""

from __future__ import annotations

import html
import math
from collections.abc import Callable, Iterator, Sequence
from functools import partial
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

from cliff.checks import ArgumentError
from cliff.data import Data
from cliff.explore.view import NetworkRun, Setting, View, view
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
{% endblock %}
"""

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
        self.runs = runs
        first = runs[0].setting() if runs else Setting()
        self._make_widgets(first)
        self._make_figures()
        self._networks_drawn: tuple[str, ...] = ()  # what of them is on the page
        self._held = False  # while a click moves two sliders, the page follows once
        self.update()
        follow = CustomJS(args={"shown": self.shown, "divs": [self.said, self.call]}, code=FOLLOW)
        self.shown.js_on_change("data", follow)
        document.js_on_event("document_ready", follow)
        document.title = "cliff explore"
        document.template = TEMPLATE
        document.add_root(self._layout())

    def _make_widgets(self, first: Setting) -> None:
        slider = partial(Slider, sizing_mode="stretch_width")
        self.pairs = slider(title="pairs N", start=1, end=max(64, first.n_pairs), step=1,
                            value=first.n_pairs)  # fmt: skip
        self.labels = slider(title="labels L", start=1, end=max(256, first.n_labels), step=1,
                             value=first.n_labels)  # fmt: skip
        self.positions = Select(title="positions", options=["exact", "mean"], value="exact",
                                sizing_mode="stretch_width")  # fmt: skip
        free = [0] if first.label_bias == "free" else []
        self.free = CheckboxGroup(labels=["free label bias β₂"], active=free)
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
        end = min(max(math.log10(first.t_end), 0.0), 6.0)
        self.t_end = slider(title="end of the flow, t", start=0, end=6, step=0.05, value=end,
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
        self.map.line("x", "y", source=self.edge, line_color="black", line_dash="dashed",
                             line_width=2)  # fmt: skip
        self.map.line("x", "y", source=self.path, line_color=RED, line_width=2.5)
        self.map.multi_line("xs", "ys", source=self.network_path, line_color=PURPLE,
                                      line_width=1.5)  # fmt: skip
        self.map.scatter("x", "y", source=self.begins, size=12, fill_color="white",
                                 line_color="black", line_width=1.5)  # fmt: skip
        self.map.scatter("x", "y", source=self.ends, size=11, marker="square",
                               fill_color=RED, line_color="black")  # fmt: skip
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
            words = f"{error.argument} {error.value}: {error.requirement}"
            self.mistake.text = f"<b style='color:{RED}'>{html.escape(words)}</b>"
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
                        _entry("edge of the cliff, 0.9 log N", "black", "6 4"), network)),
            (self.loss, (_entry("flow", "black"), network) if self.runs else ()),
            (self.of_logits, (_entry(self._label(shown, name), self._colour(name))
                              for name in names)),
            (self.of_measures, (_entry(label, colour, dash)
                                for colour, dash, label in map(MEASURES.get, shown.measures))),
        ):  # fmt: skip
            self.legends[figure].text = "".join(entries)

    def _on_map(self, shown: View) -> Iterator[Change]:
        part, path = shown.part, shown.path
        (x0, x1), (y0, y1) = ((side[0], side[-1]) for side in (part.x, part.y))
        yield (
            self.image,
            _data(image=[part.loss.astype(np.float32)], x=[x0], y=[y0], w=[x1 - x0], h=[y1 - y0]),
        )
        # in steps, so that the colours stay while a slider moves
        low, high = math.floor(2 * part.loss.min()) / 2, math.ceil(2 * part.loss.max()) / 2
        yield self.colours, {"low": low, "high": high}
        yield from _span(self.map, x0, x1, y0, y1)
        yield self.edge, _data(x=part.x, y=shown.edge)
        for source, points in ((self.path, path), (self.begins, path[:1]), (self.ends, path[-1:])):
            yield source, _data(**dict(zip("xy", points.T, strict=True)))
        for axis, name in zip((self.map.xaxis, self.map.yaxis), part.names, strict=True):
            yield axis[0], {"axis_label": self._label(shown, name)}
        when = "at the transition" if shown.at_transition else "at the end"
        held = [f"{sign(name)} = {value:.2f}" for name, value in list(part.fixed.items())[:3]]
        more = " …" if len(part.fixed) > 3 else ""
        yield self.map.title, {"text": f"loss (nats) at {', '.join(held)}{more} ({when})"}

    def _on_loss(self, shown: View, setting: Setting) -> Iterator[Change]:
        yield self.curve, _data(t=shown.t, loss=shown.loss)
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
        names = shown.model.parameter_names
        yield (
            self.logits,
            _table(
                (shown.t, values, self._colour(name), "solid")
                for name, values in zip(names, shown.theta.T, strict=True)
            ),
        )
        low, high = float(shown.theta.min()), float(shown.theta.max())
        for values in (values for run in self.runs for values in run.logits.values()):
            low, high = min(low, float(np.nanmin(values))), max(high, float(np.nanmax(values)))
        margin = 0.05 * (high - low) + 1e-3
        yield from _span(self.of_logits, 0.0, setting.t_end, low - margin, high + margin)
        yield (
            self.measures,
            _table(
                (shown.t, values, *MEASURES[name][:2]) for name, values in shown.measures.items()
            ),
        )
        yield self.of_measures.x_range, {"end": setting.t_end}

    def _of_networks(self, shown: View) -> Iterator[Change]:
        """Lay the networks' curves over the flow, those of measures that the flow has too."""
        curves = [(run.t, loss) for run in self.runs for loss in run.loss]
        yield self.network_curve, _data(xs=[t for t, _ in curves], ys=[y for _, y in curves])
        x, y = ("omega" if name.startswith("omega") else name for name in shown.part.names)
        seeds = [
            pair for run in self.runs if {x, y} <= run.logits.keys()
            for pair in zip(run.logits[x], run.logits[y], strict=True)
        ]  # fmt: skip
        yield self.network_path, _data(xs=[a for a, _ in seeds], ys=[b for _, b in seeds])
        yield self.network_logits, _table(
            (run.t, values, self._colour(name), "solid")
            for run in self.runs for name, rows in run.logits.items() for values in rows
        )  # fmt: skip
        yield self.network_measures, _table(
            (run.t, values, *MEASURES[name][:2])
            for run in self.runs for name, rows in run.measures.items()
            if name in shown.measures for values in rows
        )  # fmt: skip

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


def _data(**columns: Any) -> dict[str, Any]:
    """The change of a source's data."""
    return {"data": columns}


def _table(rows: Any) -> dict[str, Any]:
    """The change of a source of lines."""
    columns = list(zip(*rows, strict=True)) or [()] * 4
    names = ("xs", "ys", "colour", "dash")
    return _data(**dict(zip(names, map(list, columns), strict=True)))


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
