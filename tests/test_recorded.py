"""Tests of the flags that a command leaves out, and of the run that supplies them."""

import os

import pytest

from theseus.config import recorded
from theseus.config.config import Config, all_declarations, resolve
from theseus.errors import UserError
from theseus.runs.stage_folder import StageFolder
from theseus.runs.state import Checkpoint, State

RUN = {
    "stage": "replacing",
    "task_name": "custom",
    "labels": ["b", "a"],
    "columns": ["x", None, "y"],
    "num_texts": 1,
    "suc_layers": 2,
    "modules": None,
    "max_seq_length": 48,
    "do_lower_case": False,
    "precision": "bfloat16",
    "learning_rate": 0.5,
    "delimiter": ";",
    "skip_bad_lines": True,
    "class_weights": [1.0, 2.0],
    "distill_from": "0" * 64,
}


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    """A folder with a run in out_1_layers_2, whose data, BERT and teacher are there."""
    monkeypatch.chdir(str(tmp_path))
    for name in ("my_data", "my_bert", "my_teacher"):
        os.makedirs(name)
    claim("out_1_layers_2", RUN)
    return tmp_path


def claim(path, run):
    stage = StageFolder(path)
    paths = {
        "data_dir": "my_data",
        "bert_pretrained_model": "my_bert",
        "distill_from": "my_teacher",
    }
    with stage.locked():
        stage.claim(run, {}, None, paths)


def finish(path):
    stage, best = StageFolder(path), Checkpoint("best/model.ckpt-1", 1, {})
    with stage.locked():
        stage.commit(State(best=best, is_finished=True))


def completed(**given):
    """Returns the Config of a command with some flags."""
    values = {field.name: field.default for field, _ in all_declarations()}
    return recorded.complete(resolve(dict(values, **given), frozenset(given)))


def test_all_that_defines_the_run_is_the_runs(folder):
    found = completed(do_eval=True, suc_layers=2)
    assert (found.task_name, found.labels) == ("custom", ("b", "a"))
    assert (found.text_a_column, found.text_b_column, found.label_column) == ("x", None, "y")
    assert (found.max_seq_length, found.do_lower_case, found.precision) == (48, False, "bfloat16")
    assert (found.learning_rate, found.class_weights) == (0.5, (1.0, 2.0))
    assert (found.delimiter, found.format, found.skip_bad_lines) == (";", "csv", True)
    assert (found.data_dir, found.distill_from) == ("my_data", "my_teacher")
    assert found.output_dir == "out_1_layers_2"


def test_what_is_given_stays_and_what_is_gone_is_for_a_message_to_name(folder):
    for name in ("my_data", "my_teacher"):
        os.rmdir(name)
    found = completed(do_train=True, suc_layers=2, max_seq_length=64, learning_rate=0.1)
    assert (found.max_seq_length, found.learning_rate) == (64, 0.1)
    assert (found.data_dir, found.distill_from) == ("my_data", "my_teacher")
    found = completed(do_eval=True, suc_layers=2)  # Which needs no teacher.
    assert (found.data_dir, found.distill_from) == ("my_data", None)


def test_a_prediction_skips_no_row_unless_it_is_asked_to():
    assert not completed(do_predict=True, suc_layers=2).skip_bad_lines
    assert completed(do_predict=True, suc_layers=2, skip_bad_lines=True).skip_bad_lines


def test_of_another_task_nothing_is_taken():
    found = completed(do_eval=True, suc_layers=2, task_name="rte")
    assert (found.labels, found.label_column, found.max_seq_length) == ((), None, 48)


def test_a_run_of_another_stage_lends_nothing():
    found = completed(do_eval=True, finetune_suc=True, stage_2_outputdir="out_1_layers_2")
    assert found.max_seq_length == Config.max_seq_length


def test_a_training_has_the_task_and_the_depth_of_what_it_starts_from():
    found = completed(do_train=True, finetune_suc=True, stage_1_outputdir="out_1_layers_2")
    assert (found.suc_layers, found.task_name, found.data_dir) == (2, "custom", "my_data")
    assert (found.max_seq_length, found.learning_rate) == (48, Config.learning_rate)
    started = completed(do_train=True, finetune_pre=True, init_checkpoint="out_1_layers_2")
    assert started.suc_layers == Config.suc_layers and started.max_seq_length == 48


def test_the_stage_that_holds_a_model_is_named():
    finish("out_1_layers_2")
    with pytest.raises(
        UserError, match="holds no trained model, but out_1_layers_2 holds one of stage 1"
    ):
        completed(do_eval=True, finetune_suc=True, suc_layers=2)
    claim("out_2_layers_3", dict(RUN, stage="successor", suc_layers=3))
    finish("out_2_layers_3")
    with pytest.raises(UserError, match="out_2_layers_3 holds one of stage 2; give --finetune_suc"):
        completed(do_eval=True, suc_layers=3)


def test_a_depth_that_is_given_is_not_mixed_with_recorded_modules():
    claim("mixed", dict(RUN, suc_layers=2, modules=[6, 6]))
    found = completed(do_eval=True, stage_1_outputdir="mixed", suc_layers=3)
    assert (found.suc_layers, found.modules) == (3, None)
    found = completed(do_eval=True, stage_1_outputdir="mixed")
    assert (found.suc_layers, found.modules) == (2, (6, 6))
