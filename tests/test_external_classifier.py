"""Tests of a classifier that was fine-tuned elsewhere, in all places of a trained stage 0."""

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
    assert_refused,
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
from theseus.inputs import tasks
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
    """A copy of the folder, for a test that writes."""
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
    assert model.labels == ("0", "1") and "no file names its labels" in caplog.text
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
    name_labels(copy, "Same", "other")
    rows = "text_a\ttext_b\tlabel\n手机\t电脑\tOther\n我\t我\tsame\n"
    (copy / "data" / "dev.tsv").write_text(rows, encoding="utf-8")
    os.remove(str(copy / "data" / "dev.txt"))
    line = PRE + "--do_eval --task_name=custom --init_checkpoint=named --stage_0_outputdir=res"
    command(line, copy, monkeypatch)
    by_label = read_json(copy, "res", "eval_results.json")["by_label"]
    assert [row["label"] for row in by_label] == ["same", "Other"]


def name_labels(copy, *names, **change):
    """Changes the config of a classifier: the names of its labels, and other values."""
    config = dict(read_json(copy, "named", "config.json"), **change)
    if names:
        config["id2label"] = dict(zip("01", names))
    (copy / "named" / "config.json").write_text(json.dumps(config), encoding="utf-8")


@needs_tensorflow_2
@pytest.mark.parametrize("flags", ["", " --task_name=custom"])
def test_labels_that_are_ids_get_the_classifiers_names(copy, monkeypatch, caplog, flags):
    name_labels(copy, "different", "similar")
    if flags:
        for split in ("train", "dev", "test"):
            file = copy / "data" / (split + ".txt")
            rows = "text_a\ttext_b\tlabel\n" + file.read_text(encoding="utf-8")
            file.write_text(rows, encoding="utf-8")
    line = "--data_dir=data --max_seq_length=32 --do_eval" + flags
    command(
        line + " --finetune_pre --init_checkpoint=named --stage_0_outputdir=res", copy, monkeypatch
    )
    assert "the classifier names the labels: 0 is different, 1 is similar" in caplog.text
    of_start = read_json(copy, "res", "eval_results.json")
    assert [row["label"] for row in of_start["by_label"]] == ["different", "similar"]
    if not flags:  # What follows knows the task by its record.
        return
    line += " --finetune_suc --stage_2_outputdir=small"
    train = " --do_train --num_train_epochs=1 --suc_layers=2 --init_checkpoint=named"
    train += " --distill_from=named --do_export --export_format=onnx,huggingface"
    command(line + train, copy, monkeypatch)
    command(
        line + " --do_predict --predict_file=data/test.txt --compare_with=named", copy, monkeypatch
    )
    with open(str(copy / "small" / "predictions.tsv"), encoding="utf-8", newline="") as reader:
        rows = list(csv.DictReader(reader, dialect="excel-tab"))
    assert {row["predicted_label"] for row in rows} <= {"different", "similar"}
    assert "probability_similar" in rows[0] and {row["label"] for row in rows} == {"0", "1"}
    for name in ("onnx", "huggingface"):
        config = read_json(copy, "small", "export", name, "config.json")
        assert config["id2label"] == {"0": "different", "1": "similar"}
        with Classifier(str(copy / "small" / "export" / name)) as model:
            assert model.labels == ("different", "similar")
    again = "--finetune_pre --init_checkpoint=small/export/huggingface --stage_0_outputdir=res2"
    command(line.replace("--finetune_suc", again), copy, monkeypatch)
    found = [read_json(copy, name, "eval_results.json") for name in ("small", "res2")]
    assert found[0]["confusion"] == found[1]["confusion"]


@pytest.mark.parametrize(
    "change, message",
    [
        ({"problem_type": "multi_label_classification"}, "it predicts several labels at once"),
        ({"architectures": ["BertForMultipleChoice"]}, "it belongs to a BertForMultipleChoice"),
    ],
)
def test_another_kind_of_classifier_is_refused(copy, monkeypatch, change, message):
    name_labels(copy, **change)
    line = PRE + "--do_eval --init_checkpoint=named --stage_0_outputdir=res"
    assert_matches(
        "--init_checkpoint: the classifier of named cannot be used, since " + message,
        refused(line, copy, monkeypatch),
    )
    with pytest.raises(UserError, match=message):
        Classifier(str(copy / "named"))


@pytest.mark.parametrize(
    "files", [["bert_model.ckpt.index"], ["bert_model.ckpt.index", "bert_model.ckpt.data-*"]]
)
def test_a_berts_folder_without_its_weights_says_which_it_lacks(copy, monkeypatch, files):
    for pattern in files:
        for path in (copy / "named").glob(pattern):
            path.unlink()
    expected = "named: expected a checkpoint's prefix, or a folder with one .*, found none"
    with pytest.raises(UserError, match=expected):
        Classifier(str(copy / "named"))
    line = PRE + "--do_eval --init_checkpoint=named --stage_0_outputdir=res"
    assert_matches(expected, refused(line, copy, monkeypatch))


def test_a_bert_with_one_segment_takes_no_pairs(copy, monkeypatch):
    config = copy / "named" / "bert_config.json"
    config.write_text(json.dumps(dict(read_json(config), type_vocab_size=1)), encoding="utf-8")
    os.remove(str(copy / "named" / "config.json"))
    held = dict(weights.CheckpointWeights(str(copy / "named" / "bert_model.ckpt")))
    name = "bert/embeddings/token_type_embeddings"
    _save(copy / "named" / "bert_model.ckpt", dict(held, **{name: held[name][:1]}))
    with Classifier(str(copy / "named")) as model:
        assert len(model.classify(["手机"])) == 1
    message = "named: the BERT has type_vocab_size = 1, but the pairs of lcqmc_pair need 2"
    for door in ("evaluated", "teacher", "predicts"):
        assert_matches(message, refused(DOORS[door] % "named", copy, monkeypatch))


def template(segment):
    part = [{"Sequence": {"id": "A", "type_id": 0}}, {"Sequence": {"id": "B", "type_id": segment}}]
    return {"type": "TemplateProcessing", "single": part[:1], "pair": part}


@pytest.mark.parametrize(
    "settings, post_processor, takes_pairs",
    [
        ({}, None, True),
        ({"model_input_names": ["input_ids", "token_type_ids", "attention_mask"]}, None, True),
        ({"model_input_names": ["input_ids", "attention_mask"]}, None, False),
        ({"tokenizer_class": "DistilBertTokenizer"}, None, False),
        ({"tokenizer_class": "RetriBertTokenizer"}, None, False),
        ({}, {"type": "Sequence", "processors": [{"type": "ByteLevel"}, template(0)]}, False),
        ({}, {"type": "RobertaProcessing", "sep": ["[SEP]", 3], "cls": ["[CLS]", 2]}, False),
        ({}, {"type": "TemplateProcessing", "pair": [{"Sequence": None}, 1]}, True),
        ({}, template(0), False),
        ({}, template(1), True),
        ({}, {"type": "BertProcessing", "sep": ["[SEP]", 3], "cls": ["[CLS]", 2]}, True),
    ],
)
def test_one_that_was_trained_on_one_segment_takes_no_pairs(
    copy, monkeypatch, settings, post_processor, takes_pairs
):
    (copy / "named" / "tokenizer_config.json").write_text(json.dumps(settings))
    held = {"post_processor": post_processor}
    (copy / "named" / "tokenizer.json").write_text(json.dumps(held))
    folder = model_folder.trained_folder(str(copy / "named"))
    assert folder.takes_texts() == ((1, 2) if takes_pairs else (1,))
    if takes_pairs:
        model_folder.trained_folder(str(copy / "named"), tasks.TASKS["lcqmc_pair"])
    else:
        message = "named: by its tokenizer's files both texts of a pair are in one segment"
        assert_matches(message, refused(DOORS["teacher"] % "named", copy, monkeypatch))


def test_a_bert_without_a_classifier_is_none(copy):
    held = dict(weights.CheckpointWeights(str(copy / "named" / "bert_model.ckpt")))
    for name in ("output_weights", "output_bias"):
        del held[name]
    _save(copy / "named" / "bert_model.ckpt", held)
    with pytest.raises(UserError, match="holds a BERT without a classifier; fine-tune it first"):
        Classifier(str(copy / "named"))


def keep_case_without_capitals(copy):
    """Gives named/ a tokenizer that keeps the case, and a vocabulary without capitals."""
    path = copy / "named" / "vocab.txt"
    words = path.read_text(encoding="utf-8").split("\n")
    assert "a" in words and "A" not in words
    (copy / "named" / "tokenizer_config.json").write_text('{"do_lower_case": false}')


def test_how_its_texts_are_treated_is_logged(copy, caplog):
    keep_case_without_capitals(copy)
    with caplog.at_level("INFO"):
        Classifier(str(copy / "named")).close()
    assert "texts are lower-cased, and their accents are stripped" in caplog.text
    warnings = [entry.getMessage() for entry in caplog.records if entry.levelname == "WARNING"]
    assert len(warnings) == 1 and "says do_lower_case = false, but 0.0% of the words" in warnings[0]


def test_a_command_may_give_the_case(copy, monkeypatch):
    keep_case_without_capitals(copy)
    (copy / "data" / "dev.txt").write_text("a\tb\t0\nA\tB\t1\n", encoding="utf-8")
    line = PRE + "--do_predict --predict_file=data/dev.txt --init_checkpoint=named "
    for value, same in (("true", True), ("false", False)):
        command(
            line + "--stage_0_outputdir=%s --do_lower_case=%s" % (value, value), copy, monkeypatch
        )
        found = probabilities(copy / value / "predictions.tsv", "probability_1")
        assert (abs(found[0] - found[1]) < 1e-6) == same


def test_the_case_that_a_command_gives_is_the_teachers_too(copy, monkeypatch):
    keep_case_without_capitals(copy)
    line = SMALL + "--do_train --init_checkpoint=named --distill_from=named "
    command(line + "--stage_2_outputdir=res --do_lower_case=false", copy, monkeypatch)


def test_its_length_is_that_of_its_tokenizer(copy):
    for length, expected in ((16, 16), (10**30, 128), (None, 128), (0, 128), (-1, 128)):
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


# --- What is none ---

SMALL = "--data_dir=data --max_seq_length=32 --finetune_suc --suc_layers=2 "
DOORS = {
    "start": PRE + "--do_train --init_checkpoint=%s --stage_0_outputdir=res",
    "bert": PRE + "--do_train --bert_pretrained_model=%s --stage_0_outputdir=res",
    "teacher": SMALL + "--do_train --init_checkpoint=out_0 --distill_from=%s",
    "beside": PRE + "--do_eval --stage_0_outputdir=out_0 --compare_with=%s",
    "evaluated": PRE + "--do_eval --init_checkpoint=%s --stage_0_outputdir=res",
    "predicts": PRE + "--do_predict --init_checkpoint=%s --stage_0_outputdir=res",
    "exported": PRE
    + "--do_export --export_format=bert --init_checkpoint=%s --stage_0_outputdir=res",
    "folder": PRE + "--do_eval --stage_0_outputdir=%s",
}


@needs_tensorflow_2
@pytest.mark.parametrize("door", sorted(DOORS))
@pytest.mark.parametrize(
    "kind, message",
    [
        ("onnx", "only answers .model.onnx.; give the folder that it was exported from, or its ex"),
        ("roberta", "roberta/config.json: .*model_type = roberta; give a BERT with bert"),
        ("words", "words: expected vocab.txt or tokenizer.json, found neither"),
        ("empty", "give|expected a checkpoint's prefix, or a folder"),
        ("gone", "give"),
    ],
)
def test_what_is_no_classifier_is_one_line_and_nothing_is_written(
    copy, monkeypatch, kind, door, message
):
    shutil.copytree(str(copy / "named"), str(copy / kind))
    if kind == "roberta":
        name_labels(copy, model_type="roberta", architectures=["RobertaForSequenceClassification"])
        os.replace(str(copy / "named" / "config.json"), str(copy / kind / "config.json"))
        os.remove(str(copy / kind / "bert_config.json"))
    elif kind == "words":
        os.remove(str(copy / kind / "vocab.txt"))
    elif kind == "onnx":
        for path in (copy / kind).glob("bert_model*"):
            path.unlink()
        (copy / kind / "model.onnx").write_bytes(b"")
    else:
        shutil.rmtree(str(copy / kind))
        if kind == "empty":
            (copy / kind).mkdir()
    assert_refused(DOORS[door] % kind, copy, monkeypatch, message)


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
