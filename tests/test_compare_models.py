"""Tests of the table of models: the timed batches and the comparison."""

import dataclasses
import types

import numpy as np
import pytest

import compare_models
from conftest import write_pairs, write_stage
from theseus.errors import UserError
from theseus.inference import trained_model
from theseus.inputs import batches, encoding, tasks


@pytest.fixture(autouse=True)
def options(monkeypatch, tmp_path):
    """The script's flags: 8 timed batches of 2, after 2 others, of a folder with dev alone."""
    write_pairs(tmp_path / "dev.txt", 30, seed=2)
    values = types.SimpleNamespace(data_dir=str(tmp_path), batch_size=2, num_batches=8)
    monkeypatch.setattr(compare_models, "FLAGS", values)


class FakeModel(object):
    """A model whose batches take the seconds given, one after the other."""

    task, dev_data = tasks.TASKS["lcqmc_pair"], "same"

    def __init__(self, name, score, seconds, log=None):
        self.name, self.score, self.num_layers, self.num_parameters = name, score, 3, 1234567
        self.encoded = encoding.EncodedExamples(range(60), [3] * 20, [2] * 20, [0] * 20)
        self._seconds, self._log = iter(seconds), log

    def run(self, rows):
        if self._log is not None:
            self._log.append((self.name, rows.tolist()))
        return next(self._seconds)


def test_the_median_is_of_the_batches_after_the_warm_up():
    one = FakeModel("one", 1, [50, 60] + [1, 9, 2, 9, 3, 9, 1, 4])
    other = FakeModel("other", 1, [70, 80] + [5, 5, 5, 5, 7, 8, 7, 7])
    np.testing.assert_allclose(compare_models.median_seconds([one, other]), [3.5, 6.0])


def test_models_take_turns_on_the_same_batches():
    log = []
    models = [FakeModel(name, 1, [1] * 10, log) for name in ("one", "other")]
    compare_models.median_seconds(models)
    assert [name for name, _ in log] == ["one", "other"] * 10
    assert [rows for _, rows in log[::2]] == [rows for _, rows in log[1::2]]
    assert all(len(rows) == 2 for _, rows in log)


def test_what_is_kept_and_the_speed_up_are_of_the_first_model():
    models = [FakeModel("large", 0.8, []), FakeModel("small", 0.6, [])]
    header, *rows = compare_models.format_rows(models, [0.4, 0.1]).splitlines()
    assert header.split()[3:5] == ["dev", "accuracy"] and "of 2" in header
    cells = [row.split() for row in rows]
    assert cells[0] == ["large", "3", "1,234,567", "0.8000", "100.0%", "0.4000", "1.00x"]
    assert cells[1] == ["small", "3", "1,234,567", "0.6000", "75.0%", "0.1000", "4.00x"]


@pytest.mark.parametrize(
    "other, message",
    [
        (tasks.TASKS["mrpc"], "other: has another task, or other labels, than one"),
        (
            dataclasses.replace(tasks.TASKS["lcqmc_pair"], metrics=("f1",)),
            r"other: its best epoch was selected by f1, that of one by accuracy \(--metric\)",
        ),
    ],
)
def test_scores_that_say_nothing_of_one_another_are_refused(other, message):
    models = [FakeModel("one", 1, []), FakeModel("other", 1, [])]
    compare_models.check_different(models)
    models[1].task = other
    with pytest.raises(UserError, match=message):
        compare_models.check_different(models)


def test_other_dev_data_are_said(caplog):
    models = [FakeModel("one", 1, []), FakeModel("other", 1, [])]
    models[1].dev_data = "other"
    with caplog.at_level("WARNING"):
        compare_models.check_different(models)
    assert "other: was trained with other dev data than one" in caplog.text


@pytest.mark.parametrize("score", [0.0, -0.1])
def test_of_a_score_that_is_not_above_zero_nothing_is_kept(score):
    models = [FakeModel("large", score, []), FakeModel("small", 0.6, [])]
    rows = compare_models.format_rows(models, [0.4, 0.1]).splitlines()[1:]
    assert [row.split()[4] for row in rows] == ["-", "-"]


def test_a_row_is_of_the_best_checkpoints_model(tmp_path):
    folder = write_stage(tmp_path / "out", "replacing")
    evaluations = [{"accuracy": 0.75, "global_step": 7}, {"accuracy": 0.5, "global_step": 9}]
    with folder.locked():
        folder.commit(dataclasses.replace(folder.state(), evaluations=evaluations))
    with trained_model.load(folder) as loaded:
        model = compare_models.TimedModel(folder, loaded, loaded.run_config)
        assert (model.score, model.num_layers) == (0.75, 2)
        variables = loaded.graph.logits.graph.get_collection("trainable_variables")
        assert model.num_parameters == sum(v.shape.num_elements() for v in variables)
        # 2 + 8 batches of 2, of dev.
        assert len(model.encoded) == 20
        rows = batches.plan_in_length_order(model.encoded.lengths, 2)[0]
        assert 0 < model.run(rows) < 60


def test_forming_a_batch_is_not_timed(monkeypatch):
    clock = iter(range(100))
    events = []
    model = types.SimpleNamespace(
        encoded=types.SimpleNamespace(batch=lambda rows: events.append("formed") or rows),
        forward=lambda arrays: events.append("run"),
    )
    monkeypatch.setattr(
        compare_models.time, "perf_counter", lambda: events.append("clock") or next(clock)
    )
    assert compare_models.TimedModel.run(model, None) == 1
    assert events == ["formed", "clock", "run", "clock"]
