"""Tests tasks end to end on the command line: three labels, a number, one text, own columns."""

import json
import re
import shutil

import numpy as np
import pytest
import tensorflow.compat.v1 as tf

import forks
from conftest import (
    CHARACTERS,
    SCRIPT,
    SMALL_BERT,
    assert_close,
    command,
    needs_tensorflow_2,
    read_json,
    refused,
    write_bert,
)
from theseus import classifier
from theseus.checkpoints import weights
from theseus.inputs import tasks
from theseus.session import new_session

FLAGS = "--data_dir=data --bert_pretrained_model=bert --train_batch_size=16 --num_train_epochs=2 "
FLAGS += "--suc_layers=1 "


def sentence(random):
    return "".join(random.choice(list(CHARACTERS), random.randint(3, 9)))


def write_file(path, header, rows):
    lines = ["\t".join(row) for row in [header] + rows]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")


def prepare(root):
    """Puts bert/, of 2 layers, and an empty data/ into a folder; returns it."""
    write_bert(root / "bert", dict(SMALL_BERT, num_hidden_layers=2))
    (root / "data").mkdir()
    return root


def copy(source, target):
    """Copies a folder; returns the copy."""
    shutil.copytree(str(source), str(target))
    return target


@pytest.fixture
def folder(tmp_path):
    return prepare(tmp_path)


def test_three_labels_on_two_dev_files(folder, monkeypatch, capsys):
    labels = tasks.TASKS["mnli"].labels
    random = np.random.RandomState(1)
    for name, count in [("train", 32), ("dev_matched", 12), ("dev_mismatched", 9)]:
        rows = [[sentence(random), sentence(random), labels[n % 3]] for n in range(count)]
        header = ["sentence1", "sentence2", "gold_label"]
        write_file(folder / "data" / (name + ".tsv"), header, rows)
    command("--task_name=mnli --do_train --do_eval " + FLAGS, folder, monkeypatch)
    results = read_json(folder, "out_1", "eval_results.json")
    assert results["split"] == "dev_matched" and results["num_examples"] == 12
    assert results["eval_files"]["dev_mismatched"]["num_examples"] == 9
    assert np.shape(results["confusion"]) == (3, 3) and "best_threshold" not in results
    assert "predicted contradiction" in capsys.readouterr().out
    state = read_json(folder, "out_1", "state.json")
    assert state["evaluations"][-1]["num_examples"] == 12
    weights = dict(tf.train.list_variables(str(folder / "out_1" / results["checkpoint"])))
    assert weights["output_weights"] == [3, 16]
    refusal = refused("--task_name=mnli --do_eval --threshold=0.5 " + FLAGS, folder, monkeypatch)
    assert "--threshold: applies only to tasks with two labels" in refusal


@pytest.fixture(scope="module")
def trained_on_numbers(tmp_path_factory):
    """A folder in which stage 1 was trained on pairs with a number."""
    folder = prepare(tmp_path_factory.mktemp("numbers"))
    random = np.random.RandomState(1)
    header = ["sentence1", "sentence2", "score"]
    for name, count in [("train", 64), ("dev", 12), ("test", 5)]:
        rows = [[sentence(random), sentence(random), "%.1f" % (n % 6)] for n in range(count)]
        write_file(folder / "data" / (name + ".tsv"), header, rows)
    line = "--task_name=sts-b --learning_rate=1e-2 --do_train --do_eval --do_predict "
    with pytest.MonkeyPatch.context() as patch:
        command(line + FLAGS, folder, patch)
    return folder


@pytest.fixture
def numbers(trained_on_numbers, tmp_path):
    """A copy of that folder."""
    return copy(trained_on_numbers, tmp_path / "numbers")


def test_a_number(numbers):
    folder = numbers
    state = read_json(folder, "out_1", "state.json")
    scores = [np.mean([e["pearson"], e["spearman"]]) for e in state["evaluations"]]
    assert state["best"]["global_step"] == state["evaluations"][np.argmax(scores)]["global_step"]
    # From 0, where it starts, the prediction goes to the mean of 0 to 5: the loss to 35 / 12.
    assert state["evaluations"][-1]["loss"] < 7.0 < np.mean(np.arange(6.0) ** 2)
    results = read_json(folder, "out_1", "eval_results.json")
    assert "confusion" not in results and results["loss"] > 0
    predictions = (folder / "out_1" / "predictions.tsv").read_text(encoding="utf-8").splitlines()
    assert predictions[0].split("\t")[3:] == ["label", "predicted_score"]
    with classifier.Classifier(str(folder / "out_1")) as model:
        pairs = [tuple(row.split("\t")[1:3]) for row in predictions[1:]]
        found = model.classify(pairs)
    expected = [float(row.split("\t")[4]) for row in predictions[1:]]
    assert_close([score for score, _ in found], expected, 1e-4)
    assert model.labels == () and found[0][1] == []


@needs_tensorflow_2
def test_an_export_of_a_number(numbers, monkeypatch):
    pytest.importorskip("safetensors")
    line = "--task_name=sts-b --do_export --export_format=saved_model,huggingface " + FLAGS
    command(line, numbers, monkeypatch)
    path = str(numbers / "out_1" / "export" / "saved_model")
    with new_session() as session:
        loaded = tf.saved_model.loader.load(session, ["serve"], path)
        signature = loaded.signature_def["serving_default"]
        assert sorted(signature.outputs) == ["logits", "score"]
        feed = {signature.inputs[name].name: [[2, 7, 3]] for name in signature.inputs}
        names = [signature.outputs[name].name for name in ("logits", "score")]
        logits, score = session.run(names, feed)
        assert logits.shape == (1, 1) and score.shape == (1,) and logits[0, 0] == score[0]
    config = read_json(numbers, "out_1", "export", "huggingface", "config.json")
    assert config["problem_type"] == "regression" and config["id2label"] == {"0": "LABEL_0"}
    described = read_json(path, "export.json")
    assert described["labels"] == [] and described["task_name"] == "sts-b"
    with classifier.Classifier(str(numbers / "out_1")) as stage, classifier.Classifier(path) as one:
        ((expected, _),) = stage.classify([("手机", "电脑")])
        assert one.classify([("手机", "电脑")]) == [(pytest.approx(expected, rel=1e-4), [])]


@pytest.fixture(scope="module")
def trained_on_reviews(tmp_path_factory):
    """A folder in which stage 1 was trained on single texts with the labels 好 and 差."""
    folder = prepare(tmp_path_factory.mktemp("reviews"))
    random = np.random.RandomState(1)
    for name, count in [("train", 48), ("dev", 20)]:
        rows = [[str(n), sentence(random), "好差差差"[n % 4]] for n in range(count)]
        write_file(folder / "data" / (name + ".tsv"), ["id", "review", "label"], rows)
    with pytest.MonkeyPatch.context() as patch:
        command("--task_name=custom --do_train " + FLAGS, folder, patch)
    return folder


@pytest.fixture
def reviews(trained_on_reviews, tmp_path):
    """A copy of that folder."""
    return copy(trained_on_reviews, tmp_path / "reviews")


@needs_tensorflow_2
def test_an_export_of_ones_own_labels(reviews, monkeypatch):
    onnxruntime = pytest.importorskip("onnxruntime")
    line = "--task_name=custom --do_export --export_format=onnx,huggingface --suc_layers=1 "
    command(line + "--data_dir=data", reviews, monkeypatch)
    config = read_json(reviews, "out_1", "export", "huggingface", "config.json")
    assert config["label2id"] == {"好": 0, "差": 1}
    folder = reviews / "out_1" / "export" / "onnx"
    described = read_json(folder, "export.json")
    assert (described["labels"], described["num_texts"]) == (["好", "差"], 1)
    session = onnxruntime.InferenceSession(str(folder / "model.onnx"))
    with classifier.Classifier(str(reviews / "out_1")) as model:
        ((label, expected),) = model.classify(["好"])
    with classifier.Classifier(str(folder)) as model:
        assert model.classify(["好"]) == [(label, pytest.approx(expected, abs=1e-4))]
    vocab = (folder / "vocab.txt").read_text(encoding="utf-8").split()
    ids = [[vocab.index(token) for token in ("[CLS]", "好", "[SEP]")]]
    arrays = {"input_ids": ids, "attention_mask": [[1, 1, 1]], "token_type_ids": [[0, 0, 0]]}
    arrays = {name: np.array(array, np.int64) for name, array in arrays.items()}
    assert_close(session.run(["probabilities"], arrays), [[expected]], 1e-4)


def test_ones_own_labels_and_one_text(reviews, monkeypatch, capsys):
    held = read_json(reviews, "out_1", "run.json")
    assert (held["labels"], held["num_texts"]) == (sorted("好差"), 1)
    command("--task_name=custom --do_eval --finetune_suc --do_train " + FLAGS, reviews, monkeypatch)
    results = read_json(reviews, "out_2", "eval_results.json")
    found = results["best_threshold"]
    assert "--threshold=%s" % found["threshold"] in capsys.readouterr().out
    line = "--task_name=custom --do_eval --finetune_suc --threshold=%r " % found["threshold"]
    command(line + FLAGS, reviews, monkeypatch)
    again = read_json(reviews, "out_2", "eval_results.json")
    assert again["f1"] == pytest.approx(found["f1"]) and again["threshold"] == found["threshold"]
    with classifier.Classifier(str(reviews / "out_2")) as model:
        ((label, chances),) = model.classify(["手机好"])
    assert model.labels == tuple(sorted("好差")) and label in "好差" and len(chances) == 2


@pytest.mark.parametrize(
    "line, message",
    [
        (
            "--task_name=custom --labels=差,好 --do_eval",
            r"--labels: the run in out_1 .*\['好', '差'\].*; give",
        ),
        (
            "--task_name=lcqmc_pair --do_eval",
            "dev.tsv, line 1: .* found a header that calls column 1 id",
        ),
        (
            "--task_name=custom --do_predict --predict_file=new.tsv",
            "line 1: expected a header with",
        ),
        ("--labels=差,好 --do_eval", "--labels: the run in out_1 has"),
        ("--task_name=custom --label_column=0 --do_eval", "columns are numbered from 1"),
    ],
)
def test_another_use_of_ones_own_labels_is_refused(reviews, monkeypatch, line, message):
    (reviews / "new.tsv").write_text("a\tb\n", encoding="utf-8")
    assert re.search(message, refused(line + " " + FLAGS, reviews, monkeypatch))


def pipe(folder, line, text, **environment):
    """Predicts what comes in on standard input; returns (exit status, output, errors)."""
    (folder.parent / "piped").write_text(text, encoding="utf-8")
    arguments = [SCRIPT, "--do_predict", "--predict_file=-"] + line.split()
    return forks.run(arguments, folder, stdin=str(folder.parent / "piped"), **environment)


def test_predictions_from_a_pipe_are_those_of_the_file(reviews, monkeypatch):
    text = "review\tid\n手机好\t1\n电脑怎么办☃\t2\n"
    (reviews / "new.tsv").write_text(text, encoding="utf-8")
    line = "--task_name=custom --suc_layers=1 --stage_1_outputdir=out_1 "
    command(line + "--do_predict --predict_file=new.tsv", reviews, monkeypatch)
    held = {path: path.read_bytes() for path in (reviews / "out_1").iterdir() if path.is_file()}
    status, output, errors = pipe(reviews, line, text)
    assert status == 0, errors
    (warning,) = [line for line in errors.splitlines() if "[UNK]: most often ☃" in line]
    assert "standard input: " in warning
    assert output == (reviews / "out_1" / "predictions.tsv").read_text(encoding="utf-8")
    assert held == {p: p.read_bytes() for p in (reviews / "out_1").iterdir() if p.is_file()}
    # Standard output is UTF-8 whatever the terminal takes.
    assert pipe(reviews, line, text, PYTHONIOENCODING="ascii")[:2] == (0, output)
    status, output, errors = pipe(reviews, line, text + "手机\n")
    assert (status, output) == (1, "")
    assert errors.splitlines()[-1].startswith("run_classifier.py: standard input, line 4: expected")


def test_a_table_of_labels_goes_to_an_output_that_is_ascii_only(reviews):
    arguments = [SCRIPT, "--do_eval", "--stage_1_outputdir=out_1"]
    status, output, _ = forks.run(arguments, reviews, PYTHONIOENCODING="ascii")
    assert status == 0 and "true \\u597d" in output
    results = read_json(reviews, "out_1", "eval_results.json")
    assert results["num_examples"] == 20


def test_stage_0_of_other_labels_lends_all_but_its_classifier(folder, monkeypatch, caplog):
    """Single texts of three labels, after pairs of two; the same labels in another order."""
    random = np.random.RandomState(1)
    for name, count in [("train", 32), ("dev", 12)]:
        rows = [[sentence(random), "01"[n % 2]] for n in range(count)]
        write_file(folder / "data" / (name + ".tsv"), ["sentence", "label"], rows)
    command("--task_name=sst-2 --do_train --finetune_pre " + FLAGS, folder, monkeypatch)
    for name, count in [("train", 32), ("dev", 12)]:
        rows = [[sentence(random), "好差中"[n % 3]] for n in range(count)]
        write_file(folder / "data" / (name + ".tsv"), ["text", "label"], rows)
    line = "--task_name=custom --do_train --do_eval --init_checkpoint=out_0 " + FLAGS
    command(line, folder, monkeypatch)
    assert "it has 2 outputs: 0, 1, the task has 3: 中, 好, 差; a new one" in caplog.text
    assert "start at random  output_weights, output_bias" in caplog.text
    results = read_json(folder, "out_1", "eval_results.json")
    assert np.shape(results["confusion"]) == (3, 3)
    line = line.replace("out_0", "out_1") + " --finetune_suc --labels=差,好,中"
    command(line, folder, monkeypatch)
    assert "matched by name: its order is 中, 好, 差, the task's is 差, 好, 中" in caplog.text
    assert read_json(folder, "out_2", "run.json")["classifier_rows"] == [2, 1, 0]


def test_a_file_as_a_spreadsheet_leaves_it_is_trained_on_and_predicted(folder, monkeypatch):
    """Column numbers under unusual names, broken lines, GB 18030, labels that are not known."""
    random = np.random.RandomState(1)
    flags = "--task_name=custom --text_a_column=1 --label_column=2 --encoding=gb18030 "
    for name, count in [("train", 32), ("dev", 12)]:
        rows = ["%s\t%s" % (sentence(random), "好差"[n % 2]) for n in range(count)]
        rows.insert(3, "断了")
        text = "\r\n".join(["comment\tsentiment"] + rows) + "\r\n"
        (folder / "data" / (name + ".tsv")).write_bytes(text.encode("gb18030"))
    assert "train.tsv, line 5: expected 2 columns" in refused(
        "--do_train " + flags + FLAGS, folder, monkeypatch
    )
    command("--do_train --skip_bad_lines " + flags + FLAGS, folder, monkeypatch)
    assert read_json(folder, "out_1", "run.json")["labels"] == ["好", "差"]
    (folder / "new.tsv").write_bytes("comment\tsentiment\n手机\t-1\n断\n电脑\t\n".encode("gb18030"))
    line = "--do_predict --predict_file=new.tsv --suc_layers=1 " + flags
    assert "new.tsv, line 3: expected 2 columns" in refused(line, folder, monkeypatch)
    assert not (folder / "out_1" / "predictions.tsv").exists()
    command(line + "--skip_bad_lines", folder, monkeypatch)
    lines = (folder / "out_1" / "predictions.tsv").read_text(encoding="utf-8").splitlines()
    assert [row.split("\t")[:3] for row in lines[1:]] == [["0", "手机", ""], ["2", "电脑", ""]]


@pytest.mark.parametrize(
    "value, message",
    [
        (np.nan, "pooler/dense/bias: holds NaN or infinite numbers"),
        (1, "bias has dtype int64, expected one"),
    ],
)
def test_weights_that_are_none_are_refused_before_anything_is_written(
    random_data, tmp_path, monkeypatch, value, message
):
    shutil.copytree(str(random_data / "bert"), str(tmp_path / "bert"))
    held = weights.CheckpointWeights(str(tmp_path / "bert" / "bert_model.ckpt"))
    arrays = {name: held[name] for name in held}
    bias = arrays["bert/pooler/dense/bias"]
    arrays["bert/pooler/dense/bias"] = bias.astype(np.array(value).dtype) + value
    with tf.Graph().as_default(), tf.Session() as session:
        variables = [tf.get_variable(name, initializer=array) for name, array in arrays.items()]
        session.run(tf.global_variables_initializer())
        prefix = str(tmp_path / "bert" / "bert_model.ckpt")
        tf.train.Saver(variables).save(session, prefix, write_meta_graph=False, write_state=False)
    line = (
        "--do_train --finetune_pre --data_dir=%s --bert_pretrained_model=bert --max_seq_length=24"
    )
    assert message in refused(line % random_data, tmp_path, monkeypatch)
    assert not (tmp_path / "out_0").exists()


RATED = "--task_name=custom_number --text_a_column=says --label_column=stars --format=csv "
RATED += "--delimiter=; --learning_rate=1e-2 " + FLAGS


def test_a_number_in_columns_of_ones_own(folder, monkeypatch):
    """Of single texts, as a spreadsheet writes them; dev is mended before anything is written."""
    random = np.random.RandomState(1)
    for name, count in [("train", 48), ("dev", 9)]:
        lines = ["%d;%s;%.2f" % (n, sentence(random), n % 5 / 4) for n in range(count)]
        lines.insert(0, "no;says;stars")
        (folder / "data" / (name + ".CSV")).write_text("\n".join(lines), encoding="utf-8")
    dev = folder / "data" / "dev.CSV"
    whole = dev.read_text(encoding="utf-8")
    dev.write_text(whole + "\n9;一;many\n", encoding="utf-8")
    refusal = refused(RATED + "--do_train", folder, monkeypatch)
    assert "dev.CSV, line 11: expected a number, found 'many'" in refusal
    assert not (folder / "out_1").exists()
    dev.write_text(whole, encoding="utf-8")
    line = RATED + "--do_train --do_predict --predict_file=data/dev.CSV"
    command(line, folder, monkeypatch)
    command(line, folder, monkeypatch)  # It is finished, and the same run.

    state = read_json(folder, "out_1", "state.json")
    assert state["evaluations"][-1]["num_examples"] == 9
    # The labels' mean square distance from their mean is 1/8, from 0 three times that.
    assert state["evaluations"][-1]["loss"] < 0.25
    run_config = read_json(folder, "out_1", "run.json")
    assert (run_config["labels"], run_config["num_texts"], run_config["delimiter"]) == (
        None,
        1,
        ";",
    )
    header, *rows = (folder / "out_1" / "predictions.csv").read_text(encoding="utf-8").splitlines()
    assert header == "index;text_a;label;no;predicted_score"
    assert [row.split(";")[3] for row in rows] == [str(n) for n in range(9)]
    with classifier.Classifier(str(folder / "out_1")) as model:
        ((score, probabilities),) = model.classify([rows[4].split(";")[1]])
    assert probabilities == [] and abs(score - float(rows[4].split(";")[4])) < 1e-4


def test_what_is_predicted_keeps_its_id(reviews, monkeypatch):
    """As CLUE's test files are given out, and with a key that some lines lack."""
    lines = ['{"id": 3, "review": "手机好"}', '{"review": "电脑", "id": "x", "note": [1]}']
    (reviews / "test.json").write_text("\n".join(lines), encoding="utf-8")
    line = "--task_name=custom --do_predict --suc_layers=1 --predict_file=test.json"
    command(line, reviews, monkeypatch)
    found = (reviews / "out_1" / "predictions.jsonl").read_text(encoding="utf-8").splitlines()
    first, second = map(json.loads, found)
    assert list(first)[:4] == ["index", "text_a", "id", "predicted_label"]
    assert (first["text_a"], first["id"]) == ("手机好", 3)
    assert (second["text_a"], second["id"], second["note"]) == ("电脑", "x", [1])
