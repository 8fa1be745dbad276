"""The picture of a run, and what is said where there is none to draw."""

import os
import sys

import numpy as np
import pytest

import plot_run
from conftest import ROOT, run, write_stage
from theseus.inputs import tasks
from theseus.training import summaries

SCRIPT = os.path.join(ROOT, "scripts", "plot_run.py")


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    """A folder with a stage 0 and a stage 1, each with the curves of 7 steps."""
    path = tmp_path_factory.mktemp("plot_run")
    for name, stage in [("out_0", "predecessor"), ("out_1", "replacing")]:
        write_stage(path / name, stage)
        with summaries.EventWriter(str(path / name), 0, []) as writer:
            for step in range(1, 8):
                rates = dict(replacing_rate=0.5, modules_replaced=1) if stage[0] == "r" else {}
                writer.add(step, dict(loss=1 / step, **rates))
            writer.add(7, {"dev/loss": 0.25, "dev/accuracy": 0.5})
    return path


def test_stages_become_one_picture_of_loss_metric_and_rates(root):
    pytest.importorskip("matplotlib")
    status, output, errors = run([sys.executable, SCRIPT, "out_1"], root)
    assert (status, output) == (0, "out_1/run.png\n"), errors
    arguments = [sys.executable, SCRIPT, "out_0", "out_1", "--output=both.png"]
    assert run(arguments, root)[:2] == (0, "both.png\n")
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
        ("missing", "missing: is no output folder of a stage"),
        ("silent", "silent: holds no events of a training"),
    ],
)
def test_a_folder_without_a_run_or_curves_is_one_line(root, folder, message):
    pytest.importorskip("matplotlib")
    if folder == "silent" and not (root / "silent").exists():
        write_stage(root / "silent", "replacing")
    status, output, errors = run([sys.executable, SCRIPT, folder], root)
    assert (status, output) == (1, "") and errors.splitlines()[-1] == "plot_run.py: " + message
    assert "Traceback" not in errors


def test_a_missing_matplotlib_is_one_line(root, tmp_path, monkeypatch):
    (tmp_path / "matplotlib.py").write_text("raise ImportError")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    status, _, errors = run([sys.executable, SCRIPT, "out_1"], root)
    message = "plot_run.py: needs matplotlib; pip install matplotlib"
    assert (status, errors.splitlines()[-1]) == (1, message)
