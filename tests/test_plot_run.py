"""Tests of the picture of a run, and of the message if there is nothing to draw."""

import os
import sys
import types

import numpy as np
import pytest

import forks
import plot_run
from conftest import ROOT, write_stage
from theseus.inputs import tasks
from theseus.runs.state import Checkpoint, State
from theseus.training import curves

SCRIPT = os.path.join(ROOT, "scripts", "plot_run.py")


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    """A folder with a stage 0 and a stage 1, each with the curves of 7 steps."""
    path = tmp_path_factory.mktemp("plot_run")
    for name, stage in [("out_0", "predecessor"), ("out_1", "replacing")]:
        write_stage(path / name, stage)
        with curves.EventWriter(str(path / name), 0, []) as writer:
            for step in range(1, 8):
                rates = dict(replacing_rate=0.5, modules_replaced=1) if stage[0] == "r" else {}
                writer.add(step, dict(loss=1 / step, **rates))
            writer.add(7, {"dev/loss": 0.25, "dev/accuracy": 0.5})
    return path


def test_stages_become_one_picture_of_loss_metric_and_rates(root, monkeypatch, capsys):
    pytest.importorskip("matplotlib")
    status, output, errors = forks.run([SCRIPT, "out_1"], root)
    assert (status, output) == (0, "out_1/run.png\n"), errors
    monkeypatch.chdir(str(root))
    monkeypatch.setattr(sys, "argv", ["plot_run.py", "out_0", "out_1", "--output=both.png"])
    plot_run.main()
    assert capsys.readouterr().out == "both.png\n"
    for name, size in [("out_1/run.png", (7, 6)), ("both.png", (14, 6))]:
        header = (root / name).read_bytes()[:24]
        assert header.startswith(b"\x89PNG")
        found = [int.from_bytes(header[place : place + 4], "big") for place in (16, 20)]
        assert found == [90 * side for side in size]


def test_the_score_drawn_is_the_one_that_the_best_is_chosen_by():
    scalars = {"dev/accuracy": [(7, 0.5), (9, 0.7)], "dev/f1": [(7, 0.6), (9, 0.9)]}
    assert plot_run.score_points(tasks.TASKS["rte"], scalars) == [(7, 0.5), (9, 0.7)]
    found = plot_run.score_points(tasks.TASKS["mrpc"], scalars)
    assert found == [(7, pytest.approx(0.55)), (9, pytest.approx(0.8))]
    assert plot_run.score_points(tasks.TASKS["rte"], {"loss": [(1, 0.5)]}) == []


def test_a_smoothed_value_is_the_mean_of_those_around_it():
    values = np.random.RandomState(1).rand(100)
    found = plot_run.smooth(values)
    assert len(found) == 100
    np.testing.assert_allclose(
        found[[0, 50, 99]], [m.mean() for m in (values[:3], values[48:53], values[97:])]
    )
    np.testing.assert_allclose(plot_run.smooth([3.0, 1.0]), [3.0, 1.0])


@pytest.mark.parametrize(
    "folder, message",
    [
        ("missing", "missing: is not the output folder of a stage"),
        ("silent", "silent: holds no events of a training; train the stage first"),
    ],
)
def test_a_folder_without_a_run_or_curves_is_one_line(root, monkeypatch, folder, message):
    pytest.importorskip("matplotlib")
    if folder == "silent" and not (root / "silent").exists():
        write_stage(root / "silent", "replacing")
    assert refusal(root, monkeypatch, folder) == message


def refusal(root, monkeypatch, folder):
    """Returns the line that the script ends with, without its own name."""
    monkeypatch.chdir(str(root))
    monkeypatch.setattr(sys, "argv", ["plot_run.py", folder])
    with pytest.raises(SystemExit) as caught:
        plot_run.main()
    name, message = caught.value.code.split(": ", 1)
    assert name == "plot_run.py" and "\n" not in message
    return message


def test_a_missing_matplotlib_is_one_line(root, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    assert refusal(root, monkeypatch, "out_1") == "needs matplotlib; pip install matplotlib"


# --- What is drawn, without a picture ---


@pytest.fixture
def panel():
    figure = pytest.importorskip("matplotlib.figure")
    return figure.Figure().add_subplot(1, 1, 1)


def points_of(line):
    return list(zip(*[values.tolist() for values in line.get_data()]))


def test_the_best_is_circled_and_the_score_stands_at_its_steps(panel):
    scalars = {
        "loss": [(step, 1.0 / step) for step in range(1, 5)],
        "dev/f1": [(2, 0.5), (4, 0.25)],
        "dev/accuracy": [(2, 0.75), (4, 0.5)],
        "replacing_rate": [(step, 0.5) for step in range(1, 5)],
    }
    best = {"global_step": 2, "f1": 0.5, "accuracy": 0.75}
    state = State(best=Checkpoint("best/model.ckpt-2", 2), evaluations=[best])
    plot_run.draw_loss(panel, tasks.TASKS["mrpc"], state, scalars)
    assert points_of(panel.get_lines()[0]) == scalars["loss"]
    second = [axes for axes in panel.figure.axes if axes is not panel][0]
    score, circle = second.get_lines()
    assert points_of(score) == [(2, 0.625), (4, 0.375)] and points_of(circle) == [(2, 0.625)]
    assert second.get_ylabel() == "dev f1/accuracy (circled: best)"


def test_a_best_after_the_end_of_the_curves_is_circled_too(panel):
    scalars = {"loss": [(1, 1.0), (2, 0.5)], "dev/accuracy": [(2, 0.75)]}
    best = {"global_step": 4, "accuracy": 0.875}
    state = State(best=Checkpoint("best/model.ckpt-4", 4), evaluations=[best])
    plot_run.draw_loss(panel, tasks.TASKS["lcqmc_pair"], state, scalars)
    second = [axes for axes in panel.figure.axes if axes is not panel][0]
    assert points_of(second.get_lines()[1]) == [(4, 0.875)]


def test_the_modules_replaced_are_a_share_and_the_rate_is_as_it_was(panel):
    scalars = {
        "modules_replaced": [(1, 1), (2, 3), (3, 4)],
        "replacing_rate": [(1, 0.25), (2, 0.5), (3, 1.0)],
    }
    plot_run.draw_replacing(panel, 4, scalars)
    share, _, rate = panel.get_lines()
    assert points_of(share) == [(1, 0.25), (2, 0.75), (3, 1.0)]
    assert points_of(rate) == scalars["replacing_rate"]


def test_each_column_is_its_own_run(tmp_path, monkeypatch):
    figure = pytest.importorskip("matplotlib.figure")
    pytest.importorskip("matplotlib.backends.backend_agg")
    drawn = []
    monkeypatch.setattr(
        plot_run, "draw_loss", lambda panel, task, *values: drawn.append((task.name,) + values)
    )
    runs = {
        name: ({"task_name": name, "stage": "predecessor"}, name + "'s state", {"loss": [name]})
        for name in ("rte", "mrpc")
    }
    plot_run.draw(types.SimpleNamespace(figure=figure.Figure), runs, str(tmp_path / "a.png"))
    assert drawn == [(name, name + "'s state", {"loss": [name]}) for name in ("rte", "mrpc")]
