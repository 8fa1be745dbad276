"""A classifier that was fine-tuned elsewhere, wherever a trained stage 0 is taken."""

import csv
import json
import os
import shutil
import subprocess
import sys
import types

import numpy as np
import pytest

import compare_models
from conftest import (
    assert_close,
    assert_matches,
    command,
    needs_tensorflow_2,
    read_json,
    refused,
    write_pairs,
    write_stage,
)
from theseus.checkpoints import weights
from theseus.classifier import Classifier
from theseus.commands import command as command_lib
from theseus.commands.context import Context
from theseus.errors import UserError
from theseus.inference import model_folder, trained_model
from theseus.runs.stage_folder import StageFolder

PAIRS = [("手机坏了", "手机坏了怎么办"), ("我要买", "卖")]


def reorder(arrays, order):
    """Returns weights with the classifier's rows in another order."""
    rows = {name: arrays[name][order] for name in ("output_weights", "output_bias")}
    return dict(arrays, **rows)


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    """A folder with data, and one model as stage 0 and as google-research/bert saves it.

    In google/ and named/ the classifier's rows are those of the labels 1, 0; named/ says so.
    """
    path = tmp_path_factory.mktemp("external")
    (path / "data").mkdir()
    for seed, split in enumerate(("train", "dev", "test")):
        write_pairs(path / "data" / (split + ".txt"), 20, seed)
    folder = write_stage(path / "out_0", "predecessor")
    for name in ("google", "named"):
        os.makedirs(str(path / name))
        for file in ("bert_config.json", "vocab.txt"):
            shutil.copy(folder.file(file), str(path / name))
    held = reorder(dict(weights.CheckpointWeights(folder.best_checkpoint())), [1, 0])
    _save(path / "google" / "model.ckpt-9", held)
    _save(path / "named" / "bert_model.ckpt", held)
    config = read_json(path, "named", "bert_config.json")
    config.update(id2label={"0": "1", "1": "0"})
    (path / "named" / "config.json").write_text(json.dumps(config), encoding="utf-8")
    (path / "google" / "checkpoint").write_text('model_checkpoint_path: "model.ckpt-9"\n')
    return path


def _save(prefix, arrays):
    from conftest import write_weights

    write_weights(prefix, arrays)


@pytest.fixture
def copy(root, tmp_path):
    """The same, for a test that writes."""
    shutil.copytree(str(root), str(tmp_path / "root"))
    return tmp_path / "root"


def probabilities(path, column):
    with open(str(path), encoding="utf-8", newline="") as reader:
        return [float(row[column]) for row in csv.DictReader(reader, dialect="excel-tab")]


PRE = "--finetune_pre --data_dir=data --max_seq_length=32 "


def test_it_is_evaluated_and_predicts_as_the_stage_that_it_was(copy, monkeypatch):
    line = PRE + "--do_eval --do_predict --predict_file=data/test.txt "
    command(line + "--stage_0_outputdir=out_0", copy, monkeypatch)
    command(line + "--init_checkpoint=named --stage_0_outputdir=res", copy, monkeypatch)
    expected = read_json(copy, "out_0", "eval_results.json")
    found = read_json(copy, "res", "eval_results.json")
    assert {k: found[k] for k in ("accuracy", "confusion")} == {
        k: expected[k] for k in ("accuracy", "confusion")
    }
    of_one = [
        probabilities(copy / name / "predictions.tsv", "probability_1") for name in ("out_0", "res")
    ]
    assert_close(of_one[1], of_one[0], 1e-5)
    assert sorted(os.listdir(str(copy / "named"))) == sorted(os.listdir(str(copy / "named")))


def test_in_its_own_folder_results_lie_beside_it(copy, monkeypatch):
    command(PRE + "--do_eval --stage_0_outputdir=named", copy, monkeypatch)
    assert read_json(copy, "named", "eval_results.json")["num_examples"] == 20
    assert not (copy / "named" / "run.json").exists()


def test_a_folder_of_googles_has_its_latest_checkpoint_in_the_order_that_is_said(copy, caplog):
    with caplog.at_level("INFO"), Classifier(str(copy / "google")) as model:
        found = model.classify(PAIRS)
    assert model.labels == ("0", "1") and "nothing names its labels" in caplog.text
    with Classifier(str(copy / "out_0")) as stage:
        expected = [list(reversed(row)) for _, row in stage.classify(PAIRS)]
    assert_close([row for _, row in found], expected, 1e-5)


def test_a_classifier_takes_texts_and_pairs_and_its_own_labels(copy):
    with Classifier(str(copy / "named")) as model, Classifier(str(copy / "out_0")) as stage:
        assert model.labels == ("1", "0")
        found = model.classify(PAIRS + ["手机"])
        for (label, row), (expected, of_stage) in zip(found, stage.classify(PAIRS)):
            assert label == expected
            assert_close(row, list(reversed(of_stage)), 1e-5)
        assert len(found) == 3
        with pytest.raises(ValueError, match="list of texts or of .text, text.*3 members"):
            model.classify([("一", "二", "三")])


def test_it_teaches_and_is_compared_with(copy, monkeypatch, capsys):
    line = "--do_train --do_eval --suc_layers=2 --max_seq_length=32 --data_dir=data "
    line += "--finetune_suc --stage_2_outputdir=%s --train_batch_size=10 --num_train_epochs=1 "
    line += "--init_checkpoint=out_0 --distill_from=%s --compare_with=%s"
    found = {}
    for teacher in ("out_0", "named"):
        command(line % (("of_" + teacher,) + (teacher,) * 2), copy, monkeypatch)
        folder = StageFolder(str(copy / ("of_" + teacher)))
        found[teacher] = dict(weights.CheckpointWeights(folder.best_checkpoint()))
        assert "%s: accuracy" % teacher in capsys.readouterr().out
    for name, value in found["out_0"].items():
        assert_close(found["named"][name], value, 1e-3, name=name)


def test_a_stage_starts_from_it(copy, monkeypatch, caplog):
    line = "--do_train --finetune_suc --suc_layers=2 --data_dir=data --num_train_epochs=1 "
    line += "--init_checkpoint=%s --stage_2_outputdir=%s --learning_rate=0 --max_seq_length=32"
    for start in ("out_0", "named"):
        command(line % (start, "of_" + start), copy, monkeypatch)
    found = [
        dict(weights.CheckpointWeights(StageFolder(str(copy / name)).best_checkpoint()))
        for name in ("of_out_0", "of_named")
    ]
    for name, value in found[0].items():
        np.testing.assert_array_equal(found[1][name], value, err_msg=name)


def test_models_are_compared_with_it(copy, monkeypatch, capsys):
    command(PRE + "--do_eval --stage_0_outputdir=out_0", copy, monkeypatch)
    accuracy = read_json(copy, "out_0", "eval_results.json")["accuracy"]
    capsys.readouterr()
    values = types.SimpleNamespace(data_dir="data", batch_size=2, num_batches=1)
    monkeypatch.setattr(compare_models, "FLAGS", values)
    compare_models.main(["compare_models.py", "named", "out_0"])
    table = capsys.readouterr().out.splitlines()
    assert table[1].split()[:2] == ["named", "4"]
    assert float(table[1].split()[3]) == pytest.approx(accuracy, abs=1e-4)


@needs_tensorflow_2
def test_it_is_exported_without_training(copy, monkeypatch):
    line = PRE + "--do_export --export_format=bert --init_checkpoint=named --stage_0_outputdir=res"
    command(line, copy, monkeypatch)
    with Classifier(str(copy / "res" / "export" / "bert")) as model:
        found = model.classify(PAIRS)
    with Classifier(str(copy / "out_0")) as stage:
        assert_close([row for _, row in found], [row for _, row in stage.classify(PAIRS)], 1e-4)
    card = (copy / "res" / "export" / "bert" / "README.md").read_text(encoding="utf-8")
    assert "fine-tuned elsewhere" in card and "best one on dev" not in card


def test_labels_of_the_data_are_in_its_order_and_it_may_know_more(copy, monkeypatch):
    config = read_json(copy, "named", "config.json")
    config.update(id2label={"0": "Same", "1": "other"})
    (copy / "named" / "config.json").write_text(json.dumps(config), encoding="utf-8")
    rows = "text_a\ttext_b\tlabel\n手机\t电脑\tOther\n我\t我\tsame\n"
    (copy / "data" / "dev.tsv").write_text(rows, encoding="utf-8")
    os.remove(str(copy / "data" / "dev.txt"))
    line = PRE + "--do_eval --task_name=custom --init_checkpoint=named --stage_0_outputdir=res"
    command(line, copy, monkeypatch)
    by_label = read_json(copy, "res", "eval_results.json")["by_label"]
    assert [row["label"] for row in by_label] == ["same", "Other"]


@pytest.mark.parametrize(
    "change, message",
    [
        ({"problem_type": "multi_label_classification"}, "it gives several labels at once"),
        ({"id2label": {"0": "a", "1": "b"}}, "taken by their ids: 0 is a, 1 is b"),
        ({"architectures": ["BertForMultipleChoice"]}, "it is that of a BertForMultipleChoice"),
    ],
)
def test_another_kind_of_classifier_is_refused_and_other_names_are_said(
    copy, monkeypatch, caplog, change, message
):
    config = dict(read_json(copy, "named", "config.json"), **change)
    (copy / "named" / "config.json").write_text(json.dumps(config), encoding="utf-8")
    line = PRE + "--do_eval --init_checkpoint=named --stage_0_outputdir=res"
    if "id2label" in change:
        command(line, copy, monkeypatch)
        assert message in caplog.text
        return
    assert_matches(
        "--init_checkpoint: the classifier of named cannot be used, since " + message,
        refused(line, copy, monkeypatch),
    )
    with pytest.raises(UserError, match=message):
        Classifier(str(copy / "named"))


def test_a_bert_without_a_classifier_is_none(copy):
    held = dict(weights.CheckpointWeights(str(copy / "named" / "bert_model.ckpt")))
    for name in ("output_weights", "output_bias"):
        del held[name]
    _save(copy / "named" / "bert_model.ckpt", held)
    with pytest.raises(UserError, match="holds a BERT without a classifier; fine-tune it first"):
        Classifier(str(copy / "named"))


def test_its_length_is_that_of_its_tokenizer(copy):
    for length, expected in ((16, 16), (10**30, 128), (None, 128)):
        settings = {} if length is None else {"model_max_length": length}
        (copy / "named" / "tokenizer_config.json").write_text(json.dumps(settings))
        recorded = model_folder.trained_folder(str(copy / "named")).trained_run_config()
        assert recorded["max_seq_length"] == expected


def test_a_command_has_its_length_unless_it_gives_one(copy, monkeypatch):
    (copy / "named" / "tokenizer_config.json").write_text('{"model_max_length": 24}')
    line = "--finetune_pre --data_dir=data --do_eval --init_checkpoint=named --stage_0_outputdir="
    with monkeypatch.context() as patch:
        made = []
        patch.setattr(command_lib, "run", lambda config, _: made.append(config))
        command(line + "res", copy, patch)
        command(line + "res --max_seq_length=16", copy, patch)
        command(line.replace("named", "google") + "res", copy, patch)  # Whose files say nothing.
    assert [config.max_seq_length for config in made] == [24, 16, 128]
    monkeypatch.chdir(str(copy))
    for config, expected in zip(made, (24, 16)):
        with Context(config) as context:
            recorded = context.trained_folder().trained_run_config()
            assert recorded["max_seq_length"] == expected


# --- What an answer needs ---


@needs_tensorflow_2
def test_an_onnx_export_answers_without_tensorflow(export):
    program = """
import sys
from theseus import Classifier
with Classifier(sys.argv[1]) as model:
    print(model.classify([("手机坏了", "手机坏了怎么办")]))
print(sorted({"tensorflow", "sklearn", "scipy", "modeling_theseus"}.intersection(sys.modules)))
"""
    for name in ("onnx", "onnx_int8"):
        output = subprocess.check_output([sys.executable, "-c", program, str(export(name))])
        assert output.decode("utf-8").splitlines()[1] == "[]"


def test_a_stages_folder_is_no_external_classifier(root):
    with trained_model.load(StageFolder(str(root / "out_0"))) as trained:
        assert trained.run_config["stage"] == "predecessor"
    assert not model_folder.is_external(str(root / "out_0"))
