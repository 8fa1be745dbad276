"""Tests of what defines a run and a cache, of the resolved flags, and of each action's model."""

import csv
import dataclasses
import glob
import io
import json
import os
import re
import shutil

import numpy as np
import pytest
import tensorflow.compat.v1 as tf

from conftest import (
    ROOT,
    SMALL_BERT,
    VOCABULARY,
    assert_matches,
    command,
    read_json,
    refused,
    write_pairs,
    write_stage,
    write_start,
    write_weights,
)
from theseus.checkpoints import pretrained, weights
from theseus.commands import command as command_lib
from theseus.commands import evaluate, initial_checkpoint, other_model, preparation, train
from theseus.commands.context import Context
from theseus.commands.run_config import make_run_config
from theseus.config import config as config_lib
from theseus.config import help as help_lib
from theseus.errors import UserError
from theseus.inference import evaluation, metrics, predictions, trained_model
from theseus.inference.predictions import Predictions
from theseus.inputs import batches, cache, encoding, reading, rows, tasks
from theseus.runs.stage_folder import StageFolder
from theseus.runs.state import Checkpoint, State
from theseus.session import new_session
from theseus.stage import PREDECESSOR, REPLACING, SUCCESSOR

EVALUATION = metrics.compute(Predictions.of(tasks.TASKS["lcqmc_pair"], np.eye(2)), np.array([0, 1]))
HEADER = "sentence1\tsentence2\tscore\n"


def write_data(folder, counts=(12, 6, 5), header=HEADER):
    """Writes train, dev and test, which lcqmc_pair, custom and sts-b can read."""
    folder.mkdir()
    for seed, (split, count) in enumerate(zip(("train", "dev", "test"), counts)):
        path = folder / (split + ".tsv")
        write_pairs(path, count, seed)
        path.write_text(header + path.read_text(encoding="utf-8"), encoding="utf-8")


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    """A folder with data/ and bert/, and out_2 as training leaves it."""
    path = tmp_path_factory.mktemp("stages")
    write_data(path / "data")
    write_data(path / "data_other_train", counts=(13, 6, 5))
    write_data(path / "data_other_dev", counts=(12, 7, 5))
    write_data(path / "data_other_test", counts=(12, 6, 6))
    write_start(path / "bert")
    write_weights(
        path / "other.ckpt", {"bert/encoder/layer_0/output/dense/kernel": np.ones(1, np.float32)}
    )
    for name, file, text in [
        ("bert_other_vocab", "vocab.txt", VOCABULARY.replace("我\n", "我们\n")),
        (
            "bert_relu",
            "bert_config.json",
            json.dumps(dict(SMALL_BERT, hidden_act="relu")),
        ),
    ]:
        shutil.copytree(str(path / "bert"), str(path / name))
        (path / name / file).write_text(text, encoding="utf-8")
    write_stage(path / "out_2", "successor")
    return path


@pytest.fixture
def make_command(root, monkeypatch):
    """A function from a command line to the Context of its command, in `root`."""

    def make(line):
        made = []
        with monkeypatch.context() as patch:
            patch.setattr(command_lib, "run", lambda config, _: made.append(config))
            command(line, root, patch)
        monkeypatch.chdir(str(root))
        return Context(made[0])

    return make


def define(made):
    """Returns what defines the run of a Context."""
    start = initial_checkpoint.find_initial_checkpoint(made.config, made.task)
    teacher = other_model.find_teacher(made, start)
    return make_run_config(made, start, teacher)


BASE = "--do_train --data_dir=data --bert_pretrained_model=bert --suc_layers=2 --max_seq_length=32 "
BASE += "--stage_1_outputdir=new_1 --stage_0_outputdir=new_0 --stage_2_outputdir=new_2 "
LINEAR = "--replace_scheduler=linear --replace_rate_prob=0.3 "
TSV = "--task_name=custom --label_column=score "

# The flags that a result may depend on: the other flags of the command, and another value.
DEFINING = {
    "data_dir": ("", "data_other_train"),
    "task_name": ("", "sts-b"),
    "bert_pretrained_model": ("", "bert_other_vocab"),
    "init_checkpoint": ("", "other.ckpt"),
    "text_a_column": (TSV + "--text_a_column=sentence1 --text_b_column=sentence2 ", "1"),
    "text_b_column": (TSV + "--text_a_column=sentence1 --text_b_column=sentence2 ", "2"),
    "label_column": ("--task_name=custom --label_column=3 ", "score"),
    "labels": (TSV + "--labels=0,1 ", "1,0"),
    "finetune_pre": ("", "true"),
    "finetune_suc": ("--init_checkpoint=bert ", "true"),
    "suc_layers": ("", "4"),
    "modules": ("", "1,3"),
    "keep_predecessor": ("", "true"),
    "suc_init": ("", "spread"),
    "replace_rate_prob": ("", "0.6"),
    "replace_scheduler": ("", "linear --replace_until=0.5"),
    "replace_linear_k": (LINEAR + "--replace_linear_k=0.1 ", "0.2"),
    "replace_until": (LINEAR + "--replace_until=0.5 ", "0.6"),
    "steps_for_replacing": ("", "3"),
    "train_scope": ("", "successor"),
    "distill_from": ("", "out_2"),
    "class_weights": ("", "balanced"),
    "label_smoothing": ("", "0.1"),
    "metric": ("", "f1"),
    "distill_temperature": ("--distill_from=out_2 ", "3"),
    "distill_weight": ("--distill_from=out_2 ", "0.25"),
    "unlabelled_file": ("--distill_from=out_2 ", "data/dev.tsv"),
    "max_seq_length": ("", "31"),
    "train_batch_size": ("", "63"),
    "gradient_accumulation_steps": ("", "2"),
    "learning_rate": ("", "1e-3"),
    "suc_learning_rate": ("", "1e-3"),
    "num_train_epochs": ("", "9"),
    "early_stopping_patience": ("", "2"),
    "ema_decay": ("", "0.5"),
    "select_checkpoint": ("", "last"),
    "warmup_proportion": ("", "0.2"),
    "max_train_examples": ("", "7"),
    "seed": ("", "7"),
    "precision": ("", "bfloat16"),
    "do_lower_case": ("", "false"),
    "format": ("", "csv"),
    "delimiter": ("--format=csv ", "tab"),
    "header": ("", "yes"),
    "encoding": ("", "gb18030"),
    "skip_bad_lines": ("", "true"),
    "pad_to_max_length": ("", "true"),
}
# The other flags: uses of a model, the frequency of saves and log lines, and folders.
OTHERS = {
    "stage_0_outputdir": "a",
    "stage_1_outputdir": "a",
    "stage_2_outputdir": "a",
    "eval_files": "data/test.tsv --do_eval",
    "calibrate": "true --do_eval",
    "abstain_below": "0.5 --do_eval",
    "compare_with": "out_2 --do_eval",
    "replaced_modules": "10 --do_eval --nodo_train",
    "predict_file": "data/test.tsv --do_predict",
    "cache_dir": "a",
    "num_encoding_processes": "3",
    "distribution": "mirrored",
    "peer_timeout_s": "9",
    "xla": "true",
    "version": "false",
    "do_train": "true",
    "do_eval": "true",
    "do_predict": "true",
    "do_export": "true --export_format=bert",
    "eval_split": "test --do_eval",
    "threshold": "0.3 --do_eval",
    "export_format": "bert --do_export",
    "export_dir": "a --export_format=bert --do_export",
    "quantize": "int8 --export_format=onnx --do_export",
    "eval_batch_size": "3",
    "predict_batch_size": "3",
    "log_steps": "3",
    "save_checkpoints_steps": "3",
    "save_checkpoints_secs": "3",
    "keep_checkpoints": "3",
}


def test_every_flag_is_said_to_define_a_run_or_not():
    """A new flag belongs into one of the two; if into the first, into the run config too."""
    names = {field.name for field, _ in config_lib.all_declarations()}
    assert names == set(DEFINING) | set(OTHERS)
    assert not set(DEFINING) & set(OTHERS)


def test_the_page_of_flags_is_written_from_their_declarations():
    with open(os.path.join(ROOT, "docs", "flags.md"), encoding="utf-8") as reader:
        page = reader.read()
    assert help_lib.markdown() in page, "run scripts/dev/make_flags_page.py"


def test_the_flags_of_every_script_are_those_of_its_row_in_the_documentation():
    with open(os.path.join(ROOT, "docs", "flags.md"), encoding="utf-8") as reader:
        rows = dict(re.findall(r"^\| `(\w+\.py)` \| (.*) \|$", reader.read(), re.M))
    documented = {name: set(re.findall(r"`--(\w+)`", row)) for name, row in rows.items()}
    defining, found = re.compile(r'(?:DEFINE_\w+\(|add_argument\()\s*"(--)?(\w+)"'), {}
    paths = glob.glob(os.path.join(ROOT, "scripts", "**", "*.py"), recursive=True)
    for path in paths + glob.glob(os.path.join(ROOT, "data", "*.py")):
        with open(path, encoding="utf-8") as reader:
            text = reader.read()
        named = {name for dashes, name in defining.findall(text) if dashes or "DEFINE_" in text}
        found[os.path.basename(path)] = named - {"serve_pipeline"}  # For the script itself.
    assert documented == {name: found[name] for name in documented}
    assert all(name in documented for name, names in found.items() if names)


@pytest.mark.parametrize("name", sorted(DEFINING))
def test_a_flag_that_changes_a_result_defines_the_run(make_command, name):
    more, value = DEFINING[name]
    one = define(make_command(BASE + more))
    other = define(make_command(BASE + more + "--%s=%s" % (name, value)))
    assert json.dumps(one) != json.dumps(other)


def test_no_other_flag_defines_the_run(make_command):
    expected = define(make_command(BASE))
    for name, value in OTHERS.items():
        assert define(make_command(BASE + "--%s=%s" % (name, value))) == expected, name


@pytest.mark.parametrize(
    "key, more",
    [
        ("train_data", "--data_dir=data_other_train"),
        ("dev_data", "--data_dir=data_other_dev"),
        (None, "--data_dir=data_other_test"),
        ("vocab", "--bert_pretrained_model=bert_other_vocab"),
        ("bert_config", "--bert_pretrained_model=bert_relu"),
        ("weights", "--init_checkpoint=other.ckpt"),
    ],
)
def test_a_run_is_defined_by_what_its_files_hold(make_command, key, more):
    one, other = define(make_command(BASE)), define(make_command(BASE + more))
    assert [name for name in one if one[name] != other[name]] == ([key] if key else [])


@pytest.mark.parametrize("stage", ["--finetune_pre ", "--finetune_suc --init_checkpoint=bert "])
def test_what_a_stage_has_no_use_for_does_not_define_its_run(make_command, stage):
    more = LINEAR + "--replace_until=0.5"
    run_config = define(make_command(BASE + stage))
    assert define(make_command(BASE + stage + more)) == run_config
    assert define(make_command(BASE + stage + "--steps_for_replacing=3")) == run_config
    replacing = [key for key in run_config if key.startswith(("replace_", "steps_"))]
    assert len(replacing) == 5 and not any(run_config[key] for key in replacing)
    if "pre" in stage:
        assert run_config["suc_layers"] is None
        assert define(make_command(BASE + stage + "--suc_layers=4")) == run_config


def test_what_run_json_gives_back_is_the_same(make_command):
    made = make_command(BASE + "--class_weights=0.5,2 --label_smoothing=0.25 --metric=f1")
    assert made.task.metrics == ("f1",)
    run_config = define(made)
    assert json.loads(json.dumps(run_config)) == run_config
    assert run_config["class_weights"] == [0.5, 2.0]
    assert tasks.recorded(run_config).metrics == ("f1",)


def test_a_run_is_first_told_apart_by_its_depth_then_its_data_then_its_rates(make_command):
    one = list(define(make_command(BASE)))
    order = ["stage", "suc_layers", "train_data", "weights", "distill_from", "learning_rate"]
    assert sorted(order, key=one.index) == order


def test_the_weights_of_labels_reach_the_training(make_command):
    made = make_command(BASE + "--class_weights=0.5,2")
    assert train._class_weights(made.config, made.task, None) == (0.5, 2.0)
    made = make_command(BASE + "--class_weights=balanced")
    weights = train._class_weights(made.config, made.task, np.array([0, 0, 0, 1]))
    np.testing.assert_allclose(weights, [4 / 6, 4 / 2])
    made = make_command(BASE)
    assert train._class_weights(made.config, made.task, None) is None


@pytest.mark.parametrize(
    "line, message",
    [
        (
            "--class_weights=1,2,3",
            "--class_weights: found 3 numbers, the task has the labels 0,1; g",
        ),
        ("--class_weights=1,-2", "give balanced, or a number of at least 0 for each label"),
        ("--class_weights=0,0", "give at least one label a weight above 0"),
        ("--class_weights=balanced,1", "give balanced, or a number of at least 0 for each label"),
        ("--class_weights=nan,1", "give balanced, or a number of at least 0 for each label"),
        ("--label_smoothing=1", "--label_smoothing=1.0: must be below 1|must be below 1"),
        ("--metric=loss", "metric"),
        ("--metric=pearson", "--metric: pearson does not apply to predicted labels"),
        (
            "--task_name=sts-b --metric=f1",
            "--metric: f1 does not apply to predicted numbers",
        ),
        (
            "--task_name=sts-b --class_weights=balanced",
            "--class_weights: applies only to tasks with labels, this task",
        ),
        (
            "--task_name=sts-b --label_smoothing=0.1",
            "--label_smoothing: applies only to tasks with labels, this task",
        ),
    ],
)
def test_what_does_not_fit_the_labels_is_one_line(root, monkeypatch, line, message):
    assert_matches(message, refused(BASE + line + " --do_train", root, monkeypatch))


@pytest.mark.parametrize(
    "line, label, missing",
    [
        ("--metric=auc", "1", "auc is undefined: no example has the label 0"),
        ("--metric=f1", "0", "f1 is undefined: no example has the label 1"),
        ("--metric=f1", "1", None),
        ("--metric=matthews", "1", "matthews is undefined: no example has the label 0"),
        ("--metric=accuracy", "1", None),
        ("--task_name=sts-b", "1", "pearson/spearman is undefined: all examples have the label 1"),
    ],
)
def test_a_dev_that_leaves_the_score_undefined_is_refused_before_training(
    root, make_command, monkeypatch, caplog, tmp_path, line, label, missing
):
    write_data(tmp_path / "data")
    rows = ["我\t%s\t%s\n" % (text, label) for text in "你他的"]
    (tmp_path / "data" / "dev.tsv").write_text(HEADER + "".join(rows), encoding="utf-8")
    line = BASE + "--do_train --data_dir=%s " % (tmp_path / "data") + line
    if not missing:
        preparation.train(make_command(line))
        return
    refusal = refused(line, root, monkeypatch)
    assert "dev.tsv: %s, but this score selects the best epoch; give" % missing in refusal
    preparation.train(make_command(line + " --select_checkpoint=last"))
    assert "dev.tsv: " + missing in caplog.text


def test_of_two_labels_it_is_said_which_one_precision_recall_and_f1_are_of():
    assert train._describe_labels(("正", "负")) == (
        "正, 负; precision, recall and F1 are those of label 负 (give --labels=负,正 for those "
        "of 正)"
    )
    assert train._describe_labels(("a", "b", "c")) == "a, b, c"


@pytest.mark.parametrize("labels, is_said", [([0, 0], True), ([0, 1], False)])
def test_a_label_without_an_example_is_said(make_command, caplog, labels, is_said):
    made = make_command(BASE)
    examples = encoding.EncodedExamples(ids=[1, 1], lengths=[1, 1], lengths_a=[1, 1], labels=labels)
    with caplog.at_level("WARNING"):
        train._say_what_is_trained(made, examples)
    said = "no training example has label 1; it cannot be learned"
    assert (said in caplog.text) == is_said and "label 0" not in caplog.text


@pytest.mark.parametrize(
    "flag, stage, scope, folder",
    [
        ("--finetune_pre", PREDECESSOR, "all", "new_0"),
        ("", REPLACING, "all", "new_1"),
        ("--finetune_suc", SUCCESSOR, "successor", "new_2"),
    ],
)
def test_each_stage_has_its_scope_and_its_folder(make_command, flag, stage, scope, folder):
    made = make_command(BASE + flag)
    assert (made.config.stage, made.config.scope) == (stage, scope)
    assert made.config.training_precision == "float32"
    assert made.folder.path == folder


# --- The cache ---


@pytest.fixture
def cache_path(make_command, monkeypatch):
    """A function from a command line to the file that keeps its encoded training data."""

    def get(line):
        paths = []

        def through_cache(path, names, _):
            paths.append(path)
            return {name: np.zeros([0], np.int32) for name in names}

        monkeypatch.setattr(cache, "through_cache", through_cache)
        made = make_command(BASE + line)
        start = initial_checkpoint.find_initial_checkpoint(made.config, made.task)
        tokenizer = pretrained.make_tokenizer(start.model, start.tokenizer)
        made.data.encode_train(tokenizer, define(made))
        return paths[0]

    return get


@pytest.mark.parametrize(
    "more, change",
    [
        ("", "--data_dir=data_other_train"),
        ("", "--max_train_examples=7"),
        ("", "--bert_pretrained_model=bert_other_vocab"),
        ("", "--task_name=sts-b"),
        ("", "--max_seq_length=31"),
        ("", "--do_lower_case=false"),
        ("", "--header=yes"),
        ("", "--encoding=gb18030"),
        ("", "--skip_bad_lines"),
        (TSV + "--labels=0,1 ", "--labels=1,0"),
        (TSV + "--text_a_column=sentence1 ", "--text_a_column=sentence2"),
    ],
)
def test_a_cache_is_of_all_that_the_encoding_depends_on(cache_path, more, change):
    assert cache_path(more) != cache_path(more + change)


def test_runs_that_encode_the_same_share_a_cache(cache_path):
    expected = cache_path("")
    assert os.path.dirname(expected) == ".cache"
    for more in ("--seed=3", "--learning_rate=1", "--finetune_pre", "--data_dir=data_other_dev"):
        assert cache_path(more) == expected, more
    assert cache_path("--finetune_suc --init_checkpoint=bert --pad_to_max_length") == expected
    assert cache_path("--cache_dir=a") == os.path.join("a", os.path.basename(expected))


def test_without_a_cache_the_sample_is_encoded(make_command, root, monkeypatch):
    monkeypatch.chdir(str(root))
    before = sorted(os.listdir("."))
    made = make_command(BASE + "--cache_dir= --max_train_examples=7")
    start = initial_checkpoint.find_initial_checkpoint(made.config, made.task)
    tokenizer = pretrained.make_tokenizer(start.model, start.tokenizer)
    assert len(made.data.encode_train(tokenizer, None)) == 7
    assert sorted(os.listdir(".")) == before


def test_a_cached_encoding_says_the_same_of_long_texts(make_command, tmp_path, caplog):
    said = []
    for _ in range(2):
        made = make_command(BASE + "--max_seq_length=13 --cache_dir=%s" % (tmp_path / "cache"))
        start = initial_checkpoint.find_initial_checkpoint(made.config, made.task)
        tokenizer = pretrained.make_tokenizer(start.model, start.tokenizer)
        caplog.clear()
        encoded = made.data.encode_train(tokenizer, define(made))
        assert [len(os.listdir(str(tmp_path / "cache")))] == [1]
        said.append([line for line in caplog.messages if "are longer than" in line])
    examples = reading.read_examples(made.data.paths("train")[0], made.task)
    texts = [(example.text_a, example.text_b) for example in examples]
    lengths = [sum(len(tokenizer.tokenize(text)) for text in pair) + 3 for pair in texts]
    num_long = sum(length > 13 for length in lengths)
    (line,) = said[0]
    assert said[1] == said[0] and 0 < num_long < len(encoded) == 12
    assert line.startswith("train: %d of 12 examples are longer than --max_seq_l" % num_long)
    assert line.endswith("the longest has %d" % max(lengths))


# --- The actions ---

USED = "--data_dir=data --suc_layers=2 --max_seq_length=32 --finetune_suc "


@pytest.fixture(scope="module")
def with_last(root):
    """out_2 with a last checkpoint too, of other weights than its best."""
    folder = StageFolder(str(root / "out_2"))
    best = weights.CheckpointWeights(folder.best_checkpoint())
    with folder.locked(), new_session() as session:
        entry = folder.new_checkpoint("last", 9)
        for name in best:
            tf.get_variable(name, initializer=best[name] * np.float32(1.5))
        session.run(tf.global_variables_initializer())
        path = folder.file(entry.checkpoint)
        tf.train.Saver().save(session, path, write_meta_graph=False, write_state=False)
        evaluations = [{"accuracy": 0.75, "global_step": 7}, {"accuracy": 0.5, "global_step": 9}]
        folder.commit(dataclasses.replace(folder.state(), last=entry, evaluations=evaluations))
    return folder


def logits_of(prefix, root):
    """Returns the logits over dev of a successor's checkpoint, computed beside the actions."""
    folder = StageFolder(str(root / "out_2"))
    task = tasks.TASKS["lcqmc_pair"]
    examples = reading.read_examples(str(root / "data" / "dev.tsv"), task)
    with trained_model.load(folder) as trained:
        variables = tf.trainable_variables()
        weights.load(trained.session, variables, weights.CheckpointWeights(prefix))
        encoded = encoding.encode_examples(examples, task, trained.tokenizer, 32)
        run = evaluation.runner(trained.session, trained.graph)
        return predictions.compute_logits(run, encoded, 64), encoded.labels


def test_the_best_checkpoint_is_evaluated_and_predicted_with(with_last, root, monkeypatch, capsys):
    best, labels = logits_of(with_last.best_checkpoint(), root)
    last, _ = logits_of(with_last.checkpoint("last"), root)
    probabilities = predictions.probabilities(best)[:, 1]
    assert np.abs(probabilities - predictions.probabilities(last)[:, 1]).max() > 1e-3
    seen = []
    compute_logits = predictions.compute_logits
    monkeypatch.setattr(
        predictions,
        "compute_logits",
        lambda *given: seen.append((given[2], given[1].padded_lengths)) or compute_logits(*given),
    )
    line = "--do_eval --do_predict --predict_file=data/dev.tsv --eval_files=data/test.tsv "
    line += "--threshold=0 --pad_to_max_length --eval_batch_size=4 --predict_batch_size=5 "
    command(line + USED, root, monkeypatch)
    assert seen == [(4, (32,)), (4, (32,)), (5, (32,))]

    results = read_json(root, "out_2", "eval_results.json")
    assert (results["global_step"], results["checkpoint"]) == (7, "best/model.ckpt-7")
    right = -np.log(predictions.probabilities(best)[range(6), labels]).mean()
    assert results["loss"] == pytest.approx(right, rel=1e-4)
    # With a threshold of 0 all are predicted to be of label 1.
    assert results["threshold"] == 0 and results["accuracy"] == labels.mean()
    assert results["confusion"] == [[0, 4], [0, 2]]
    assert results["eval_files"]["data/test.tsv"]["confusion"] == [[0, 3], [0, 2]]

    with open(str(root / "out_2" / "predictions.tsv"), encoding="utf-8") as reader:
        rows = list(csv.DictReader(reader, delimiter="\t"))
    assert [row["predicted_label"] for row in rows] == ["1"] * 6
    found = [float(row["probability_1"]) for row in rows]
    np.testing.assert_allclose(found, probabilities, rtol=1e-4)

    timing = read_json(root, "out_2", "timing.json")
    assert timing["eval_examples_per_second"] * timing["eval_seconds"] == pytest.approx(6 + 5)
    assert timing["predict_examples_per_second"] * timing["predict_seconds"] == pytest.approx(6)


@pytest.mark.parametrize("format", ["csv", "jsonl"])
def test_predictions_are_in_the_format_of_what_is_predicted(root, monkeypatch, capfd, format):
    pairs = [("手机, 坏", 'say "hi"'), ("电脑", "买\n卖")]
    names = ["text_a", "text_b"]
    path = root / ("asked." + format)
    head = [rows.write_row(names, names, format)] if format == "csv" else []
    lines = head + [rows.write_row(names, list(pair), format) for pair in pairs]
    path.write_text("".join(lines), encoding="utf-8")
    command("--do_predict --predict_file=%s " % path + USED, root, monkeypatch)
    written = (root / "out_2" / ("predictions." + format)).read_text(encoding="utf-8")
    if format == "csv":
        found = list(csv.DictReader(io.StringIO(written, newline="")))
    else:
        found = list(map(json.loads, written.splitlines()))
    assert [(row["text_a"], row["text_b"]) for row in found] == pairs
    for row in found:
        assert float(row["probability_0"]) + float(row["probability_1"]) == pytest.approx(1)
        assert row["predicted_label"] == "01"[float(row["probability_1"]) > 0.5]
    assert "2 predictions in out_2/predictions." + format in capfd.readouterr().out


def test_predictions_that_end_early_leave_those_of_before_as_they_were(root, monkeypatch):
    folder = root / "out_2"
    (folder / "predictions.tsv").write_text("of before", encoding="utf-8")
    before, compute_logits, pools = sorted(os.listdir(str(folder))), predictions.compute_logits, []

    def fail_at_second(*given):
        pools.append(given)
        if len(pools) == 2:
            raise UserError("enough")
        return compute_logits(*given)

    monkeypatch.setattr(batches, "BATCHES_PER_POOL", 1)
    monkeypatch.setattr(predictions, "compute_logits", fail_at_second)
    line = "--do_predict --predict_file=data/dev.tsv --predict_batch_size=2 "
    assert "enough" in refused(line + USED, root, monkeypatch)
    assert (folder / "predictions.tsv").read_text(encoding="utf-8") == "of before"
    assert sorted(os.listdir(str(folder))) == before


@pytest.mark.parametrize("split", ["dev", "test"])
def test_a_threshold_is_offered_where_dev_found_it_and_not_for_test(make_command, split):
    made = make_command("--do_eval --eval_split=%s " % split + USED)
    (found,), _ = preparation.evaluate(made)
    assert (found.name, found.path) == (split, "data/%s.tsv" % split)
    assert len(found.examples) == {"dev": 6, "test": 5}[split]
    predicted = Predictions.of(made.task, np.eye(2))
    evaluated = evaluate._Evaluated(found, predicted, np.array([0, 1]), {}, 1.0)
    values = evaluate._measure(made, evaluated)
    said = "\n".join(evaluate.describe_results(made, [(split, values)]))
    assert ("--threshold=" in said) == (split == "dev")


def test_what_cannot_be_read_is_found_before_anything_is_computed(root, monkeypatch):
    (root / "bad.tsv").write_text(HEADER + "手机\t电脑\t1\n手机\n", encoding="utf-8")
    monkeypatch.setattr(trained_model, "load", None)
    for line in (
        "--do_eval --do_predict --predict_file=bad.tsv ",
        "--do_eval --eval_files=bad.tsv ",
    ):
        assert "bad.tsv, line 3: expected 3 columns" in refused(line + USED, root, monkeypatch)


def test_the_first_of_several_test_files_is_predicted(root, make_command):
    line = "--do_predict --task_name=mnli --suc_layers=2 --data_dir=two"
    (root / "two").mkdir()
    for name in ("test_matched", "test_mismatched"):
        text = "sentence1\tsentence2\n手机\t电脑\n"
        (root / "two" / (name + ".tsv")).write_text(text, encoding="utf-8")
    assert preparation.predict(make_command(line)) == ("two/test_matched.tsv", 1)


def test_all_but_a_prediction_from_a_pipe_holds_the_folders_lock(make_command):
    writes = {
        "--do_predict": True,
        "--do_predict --predict_file=-": False,
        "--do_predict --predict_file=- --do_eval": True,
        "--do_eval": True,
        "--do_train": True,
        "--do_export --export_format=bert": True,
    }
    for line, expected in writes.items():
        assert (
            command_lib.writes(
                make_command(line + " --data_dir=data --bert_pretrained_model=bert").config
            )
            == expected
        ), line


def test_speed_is_of_the_steps_that_were_taken(root, monkeypatch):
    """A run of 9 epochs that stopped early, after 2: 13 examples in 3 steps an epoch."""
    line = BASE + "--data_dir=data_other_train --num_train_epochs=9 --train_batch_size=5 "
    line += "--stage_1_outputdir=timed"
    made = []
    monkeypatch.setattr(train, "_train", lambda training, *_: made.append(training))
    state = State(last=Checkpoint("last/model.ckpt-6", 6), train_seconds=4.0)
    state.best, state.evaluations = state.last, [dict(EVALUATION, global_step=6)]
    monkeypatch.setattr(StageFolder, "state", lambda self: state)
    command(line, root, monkeypatch)
    assert made[0].context.folder.path == "timed"
    timing = read_json(root, "timed", "timing.json")
    assert timing == {"train_seconds": 4.0, "train_examples_per_second": 6.5}
