"""Tables and overlays: the numbers of a result, and several results told apart."""

import io

import numpy as np
import pandas as pd
import pytest
import xarray as xr
from matplotlib.colors import to_hex

import cliff
from cliff import NestedLogit, Task, Transformer, integrate, integrate_ensemble, plots, sweep, train
from cliff.checks import ArgumentError
from cliff.cli import _run
from cliff.metrics import FlowMetric
from cliff.network.runs import side_by_side
from cliff.plots.overlay import STYLES, differences
from cliff.tables import joined, table, write_csv

TASK = Task(n_pairs=2, n_labels=4, n_classes=8, dim=5, window=9)
TIME = "gradient-flow time"


def training(lr=0.1, seeds=(0, 1)):
    each = [
        train(Transformer(TASK, seed, width=6), TASK, 20 - 10 * seed, lr, 8, eval_every=5,
              eval_size=16, seed=seed)
        for seed in seeds
    ]  # fmt: skip
    return side_by_side(each, list(seeds)) if len(each) > 1 else each[0]


@pytest.fixture(scope="module")
def runs():
    return [training(0.1), training(0.05, (0,))]


@pytest.fixture(scope="module")
def flows():
    return [
        integrate(NestedLogit(8, 32), [0.01] * 3, 200.0),
        integrate(NestedLogit(8, 64, label_bias="free"), [0.01] * 4, 200.0),
    ]


def read(frame, path):
    """What another program reads of a table."""
    return pd.read_csv(io.BytesIO(write_csv(frame, path).read_bytes()), engine="python")


def test_a_flow_is_a_row_for_each_time(flows, tmp_path):
    frame = read(table(flows[1]), tmp_path / "a.csv")
    t = frame[f"t [{TIME}]"].to_numpy()
    theta = flows[1].path(t)
    assert list(frame.columns[:6]) == [f"t [{TIME}]", "loss [nat]", *flows[1].model.parameter_names]
    np.testing.assert_array_equal(frame[["beta1", "alpha", "xi", "beta2"]], theta)
    np.testing.assert_allclose(frame["loss [nat]"], flows[1].model.loss(theta), rtol=1e-13)
    np.testing.assert_array_equal(frame["cla"], flows[1].model.measures(theta)["cla"])
    assert (t[0], t[-1]) == (0.0, 200.0)


def test_an_ensemble_is_a_row_for_each_trajectory(tmp_path):
    starts = [[0.0, 2.0, 2.0], [0.0, -2.0, -2.0], [-2.0, -2.0, 0.5]]
    ensemble = integrate_ensemble(
        NestedLogit(8, 8), starts, 1e4, constants={"n_labels": [8, 9, 8]}, max_steps=300
    )
    frame = read(table(ensemble), tmp_path / "a.csv")
    np.testing.assert_array_equal(frame[["beta1 at the start", "xi at the start"]],
                                  ensemble.theta0[:, [0, 2]])  # fmt: skip
    np.testing.assert_array_equal(frame["alpha at the end"], ensemble.theta[:, 1])
    np.testing.assert_array_equal(frame[f"t_transition [{TIME}]"], ensemble.t_transition)
    np.testing.assert_array_equal(frame["loss [nat]"], ensemble.loss)
    assert frame["n_labels"].tolist() == [8, 9, 8]
    assert frame["valley"].tolist()[::2] == ["induction", "early-labels"]
    assert set(frame["status"]) == {"done"}


def test_a_phase_diagram_is_a_row_for_each_cell(tmp_path):
    axes = {"pairs": np.array([4, 8]), "labels": np.array([4, 32])}
    grid = sweep(FlowMetric("t_transition", t_end=1e3), axes, vectorized=True)
    frame = read(table(grid), tmp_path / "a.csv")
    assert len(frame) == 4
    for _, row in frame.iterrows():
        cell = grid.sel(pairs=row["pairs"], labels=row["labels"])
        np.testing.assert_equal(row[f"t_transition [{TIME}]"], float(cell["t_transition"]))
    beyond = (frame["pairs"] == 8) & (frame["labels"] == 4)
    assert frame["outcome"][beyond].tolist() == ["fewer labels than pairs"]
    assert set(frame["outcome"][~beyond]) == {"done"}


def test_a_basin_map_names_its_valleys(tmp_path):
    side = np.array([-4.0, 4.0])
    grid = sweep(FlowMetric("basin", NestedLogit(8, 8), t_end=1e4),
                 {"xi": side, "alpha": np.array([-4.0, 0.0, 4.0])}, vectorized=True)  # fmt: skip
    frame = read(table(grid), tmp_path / "a.csv").set_index(["xi", "alpha"])
    assert frame.loc[(4.0, 4.0), "valley"] == "induction"
    assert frame.loc[(-4.0, -4.0), "valley"] == "shunned-match"
    assert frame.loc[(4.0, -4.0), "valley"] == "early-labels"


def test_a_training_is_a_row_for_each_seed_and_record(runs, tmp_path):
    frame = read(table(runs[0]), tmp_path / "a.csv")
    assert list(frame.columns[:4]) == ["step", "seed", f"t [{TIME}]", "loss [nat]"]
    assert len(frame) == runs[0]["loss"].size
    for _, row in frame.iterrows():
        cell = runs[0].sel(step=row["step"], seed=row["seed"])
        np.testing.assert_equal(row["loss [nat]"], float(cell["loss"]))
        np.testing.assert_equal(row["iwl"], float(cell["iwl"]))
        assert row["status"] == str(cell["status"].values)
    assert not any("attention" in name for name in frame)
    assert len(table(runs[1])) == runs[1].sizes["step"]


def test_a_comparison_is_a_row_for_each_seed_and_record():
    curve = (("seed", "record"), np.arange(6.0).reshape(2, 3), {"units": "nats"})
    other = (("time",), np.arange(4.0), {"units": "nats"})
    frame = table(
        xr.Dataset(
            {"t": curve[:2], "loss": curve, "loss_slope": curve, "flow_loss": other},
            {"seed": [3, 5]}, {"cliff_kind": "comparison"},
        )
    )  # fmt: skip
    assert list(frame) == ["record", "seed", f"t [{TIME}]", "loss [nat]", "loss_slope [nat]"]
    assert frame.loc[frame["seed"] == 5, "loss [nat]"].tolist() == [3.0, 4.0, 5.0]


def test_tables_below_each_other_say_what_differs(flows):
    frame = joined([table(flow) for flow in flows], flows, ["a.nc", "b.nc"])
    assert frame.columns[0] == "result"
    labels = frame["result"].unique().tolist()
    assert labels[0].startswith("a.nc, label_bias = 0, ")
    assert "n_labels = 64" in labels[1]
    assert frame["beta2"].isna().sum() == (frame["result"] == labels[0]).sum()
    with pytest.raises(ArgumentError, match="must be of one kind"):
        joined([table(flows[0])] * 2, [flows[0], xr.Dataset(attrs={"cliff_kind": "run"})], ["", ""])


def test_what_has_no_table_is_refused():
    with pytest.raises(ArgumentError, match="has no table"):
        table(xr.Dataset(attrs={"cliff_kind": "figure"}))


def test_differences_are_those_of_the_parameters(flows, runs):
    same = integrate(NestedLogit(8, 32), [0.01] * 3, 200.0)
    assert differences([flows[0], same]) == ["", ""]
    other = integrate(NestedLogit(8, 32), [0.01] * 3, 200.0, mobility=[1.0, 0.5, 1.0])
    told = ["mobility = (1, 1, 1)", "mobility = (1, 0.5, 1)"]
    assert differences([flows[0], other]) == told
    one, two = differences(runs)
    assert "lr = 0.1" in one
    assert "lr = 0.05" in two
    assert "initial_parameters" not in one
    assert one.count("seed = (0, 1)") == 2  # of the network, and of the data


def test_flows_over_each_other(flows):
    figure = plots.overlay_figure(flows)
    assert [ax.get_ylabel() for ax in figure.axes] == [
        "loss (nats)", *(flows[1].model.labels[name] for name in flows[1].model.parameter_names)
    ]  # fmt: skip
    for ax, column in zip(figure.axes[1:], range(4), strict=True):
        drawn = [flow for flow in flows if flow.model.n_parameters > column]
        assert len(ax.lines) == len(drawn)
        for line, flow in zip(ax.lines, drawn, strict=True):
            t, values = line.get_data()
            np.testing.assert_array_equal(values, flow.path(t)[:, column])
            assert line.get_color() == STYLES[flows.index(flow)][1]
    (legend,) = figure.legends
    assert [text.get_text() for text in legend.get_texts()] == differences(flows)
    colours = [to_hex(line.get_color()) for line in legend.get_lines()]
    assert colours == [to_hex(STYLES[0][1]), to_hex(STYLES[1][1])]


def test_trainings_over_each_other(runs):
    figure = plots.overlay_figure(runs)
    loss = figure.axes[0]
    assert len(loss.lines) == 3  # two seeds of the first
    np.testing.assert_array_equal(loss.lines[1].get_ydata(), runs[0]["loss"].sel(seed=1))
    np.testing.assert_array_equal(loss.lines[2].get_data(), [runs[1]["t"], runs[1]["loss"]])
    assert len({line.get_color() for line in loss.lines[:2]}) == 1
    assert [ax.get_ylim() for ax in figure.axes[1:]] == [(-0.02, 1.02)] * 5


def test_results_that_are_alike_are_told_apart_by_their_names(flows):
    figure = plots.overlay_figure([flows[0], flows[0]], ["a.nc", "b.nc"])
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["a.nc", "b.nc"]


def test_the_command_overlays_and_exports(flows, runs, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    for number, result in enumerate((*flows, *runs)):
        cliff.save(result, f"{number}.nc")
    assert _run(["plot", "0.nc", "1.nc", "x.png", "--csv", "x.csv"]) == 0
    assert capsys.readouterr().err == "wrote x.png\nwrote x.csv\n"
    assert (tmp_path / "x.png").read_bytes().startswith(b"\x89PNG")
    assert pd.read_csv("x.csv")["result"].nunique() == 2
    assert _run(["plot", "2.nc", "3.nc", "y.pdf", "-q"]) == 0
    assert _run(["plot", "2.nc", "--csv", "y.csv", "-q"]) == 0
    assert len(pd.read_csv("y.csv")) == runs[0]["loss"].size
    (tmp_path / "x.png").unlink()
    for arguments, told in (
        (["0.nc", "2.nc", "x.png"], "FILE 0.nc 2.nc: trajectory, run: must be of one kind"),
        (["0.nc", "2.nc", "--csv", "z.csv"], "FILE 0.nc 2.nc: trajectory, run: must be of one"),
        (["0.nc"], "PICTURE: is missing"),
        (["0.nc", "1.nc"], "PICTURE: is missing"),
        (["0.nc", "1.nc", "x.gif"], "PICTURE x.gif: moves for one flow alone"),
        (["2.nc", "x.gif"], "PICTURE x.gif: moves for one flow alone"),
        (["0.nc", "none.nc", "x.png"], "FILE none.nc: no such file"),
        (["0.nc", "x.png", "--csv", "x.txt"], "--csv x.txt: must end in .csv"),
        (["0.nc", "--csv", "none/x.csv"], "--csv none/x.csv: the directory"),
    ):
        assert _run(["plot", *arguments]) == 2, arguments
        err = capsys.readouterr().err
        assert err.startswith(f"cliff: {told}"), err
        assert err.count("\n") == 1
    assert not (tmp_path / "x.png").exists()


def test_flow_and_phase_export_what_they_save(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert _run(["flow", "-N", "2", "-L", "4", "-o", "a.nc", "--csv", "a.csv", "--json"]) == 0
    assert capsys.readouterr().err == ""
    frame = pd.read_csv("a.csv", engine="python")
    pd.testing.assert_frame_equal(frame, table(cliff.load("a.nc")))
    assert _run(["phase", "--x", "pairs=2:4:3", "-o", "b.nc", "--csv", "b.csv", "-q"]) == 0
    frame = pd.read_csv("b.csv", engine="python")
    expected = table(cliff.load("b.nc"))
    pd.testing.assert_frame_equal(frame, expected, check_dtype=False)
    assert f"t_transition [{TIME}]" in frame
    for command in (["flow"], ["phase", "--x", "pairs=2:4:3"]):
        assert _run([*command, "--csv", "a.nc"]) == 2
        assert "--csv a.nc: must end in .csv" in capsys.readouterr().err
