"""Tests of an export's model card, read by the hub's own library."""

import os
import re

import numpy as np
import pytest

import modeling_theseus
from conftest import (
    SMALL_BERT,
    assert_close,
    command,
    make_config,
    needs_tensorflow_2,
    read_json,
    refused,
    write_stage,
)
from theseus import Classifier
from theseus.export import card as card_lib
from theseus.export import exporter, read_back, writers
from theseus.inputs import tasks
from theseus.runs.state import Checkpoint
from theseus.stage import SUCCESSOR

EVALUATE = "--do_eval --data_dir=data --suc_layers=2 --max_seq_length=32 --finetune_suc "
EXPORT = EVALUATE.replace("--do_eval", "--do_export") + "--export_format=bert "

pytestmark = needs_tensorflow_2


@pytest.fixture(autouse=True)
def few_timed_batches(monkeypatch):
    monkeypatch.setattr(exporter, "_TIMED_RUNS", 1)
    monkeypatch.setattr(exporter, "_TIMED_BATCHES", 1)


@pytest.fixture
def root(random_data, tmp_path):
    """A folder with data/, out_0, and out_2, whose stages have their first weights."""
    (tmp_path / "data").symlink_to(random_data)
    write_stage(tmp_path / "out_0", "predecessor")
    write_stage(tmp_path / "out_2", "successor")
    return tmp_path


def card(root):
    return (root / "out_2" / "export" / "bert" / "README.md").read_text(encoding="utf-8")


def rows(text):
    """Returns the cells of all lines of a card's tables."""
    lines = [line for line in text.splitlines() if line.startswith("|")]
    return [tuple(cell.strip() for cell in line.strip("|").split(" | ")) for line in lines]


@pytest.mark.parametrize("name", ["bert", "huggingface", "onnx"])
def test_the_hubs_library_reads_the_card(export, name):
    hub = pytest.importorskip("huggingface_hub")
    with open(os.path.join(export(name), "README.md"), encoding="utf-8") as reader:
        found = hub.ModelCard(reader.read())
    described = read_json(export(name), "export.json")
    libraries = {"bert": None, "huggingface": "transformers", "onnx": "onnx"}
    assert found.data.library_name == libraries[name]
    assert found.data.pipeline_tag == "text-classification"
    (result,) = found.data.eval_results
    assert (result.metric_type, result.metric_value) == ("accuracy", described["dev_score"])
    assert result.dataset_type == "lcqmc_pair"
    assert "compressed from a BERT of 4 layers" in found.text


def test_the_card_has_the_scores_of_the_controls_that_were_evaluated(root, monkeypatch):
    command(
        EVALUATE + "--compare_with=out_0 --eval_files=%s " % (root / "data" / "test.txt") + EXPORT,
        root,
        monkeypatch,
    )
    results = read_json(root, "out_2", "eval_results.json")
    (test,) = results["eval_files"].values()
    other = test["compared"]["out_0"]
    loyal = "%.4f, %.4f" % (other["label_loyalty"], other["probability_loyalty"])
    found, count = rows(card(root)), str(test["num_examples"])
    assert ("data/test.txt", "%.4f" % test["accuracy"], count, "") in found
    compared = "data/test.txt, for comparison: out_0"
    assert (compared, "%.4f" % other["accuracy"], count, loyal) in found
    assert "To add a comparison" not in card(root)
    assert str(root) not in card(root)  # Where it lies is its owner's own.


def test_the_test_split_is_called_so(root, monkeypatch):
    command(EVALUATE + "--eval_split=test", root, monkeypatch)
    command(EXPORT, root, monkeypatch)
    with open(str(root / "data" / "test.txt"), encoding="utf-8") as reader:
        lines = [line.rstrip("\n").split("\t") for line in reader]
    with Classifier(str(root / "out_2")) as model:
        found = model.classify([tuple(line[:2]) for line in lines])
    right = [label == line[2] for (label, _), line in zip(found, lines)]
    of_files = rows(card(root).split("## Scores")[1].split("## Speed")[0])
    assert of_files[4:] == [("test", "%.4f" % np.mean(right), "40")]
    assert [row[0] for row in of_files[2:4]] == ["dev, this export", "dev, before exporting"]


def test_every_figure_stands_at_its_name():
    """By figures that are written down here, all of them different."""
    config = modeling_theseus.BertConfig.from_dict(dict(SMALL_BERT, num_hidden_layers=2))
    run_config = {
        "stage": "successor",
        "max_seq_length": 48,
        "do_lower_case": False,
        "bert_config": {"num_hidden_layers": 6},
        "learning_rate": 0.25,
        "suc_learning_rate": 0.5,
        "seed": 3,
        "train_data": "11aa",
        "dev_data": "22bb",
        "weights": "33cc",
    }
    weights = {"one": np.zeros([30, 50]), "other": np.zeros([7])}
    task = tasks.TASKS["lcqmc_pair"]
    best = Checkpoint("best/model.ckpt-7", 7)
    plain = writers.PlainClassifier(config, weights, task, None, run_config, best, 2.5)
    other = {
        "accuracy": 0.8125,
        "num_examples": 40,
        "label_loyalty": 0.9,
        "probability_loyalty": 0.85,
    }
    results = {
        "split": "test",
        "threshold": None,
        "accuracy": 0.75,
        "num_examples": 40,
        "compared": {"runs/out_0": other},
        "eval_files": {"/home/me/moods/dev.txt": {"accuracy": 0.125, "num_examples": 8}},
    }
    row = exporter.Row("here", 0.1, 0.9, 0.5, 12.5, [0.02, 0.004])
    graph_row = exporter.Row("the graph", None, None, 0.625, None, [0.05, 0.007])
    text = card_lib.text(card_lib.Facts("onnx_int8", plain, row, graph_row, (10, 1), results))
    nothing = card_lib.Facts("onnx", plain, row, graph_row, (10, 1), None)._replace(
        paths={"data_dir": "/my/data/moods/", "distill_from": "out/predecessor"}
    )
    assert '"name": "moods", "type": "moods"' in card_lib.text(nothing)
    assert "BERT of 2 layers, 16 wide, for moods" in card_lib.text(nothing)
    assert "`--do_eval --compare_with=out/predecessor` before" in card_lib.text(nothing)
    alone = rows(card_lib.text(nothing).split("## Scores")[1])
    assert alone[:2] == [("file", "accuracy"), ("---", "---")]

    head, what, how, scores, speed, use, limits = re.split("\n# |\n## ", text)
    assert what.startswith("BERT of 2 layers, 16 wide, int8, for lcqmc_pair")
    assert "compare_with" not in scores
    assert '"value": 0.5,' in head and '"name": "dev accuracy"' in head
    assert "Predicts one of the labels `0`, `1` for pairs of texts. 1,507 parameters" in what
    assert "compressed from a BERT of 6 layers" in what and what.startswith("BERT of 2 layers, 16")
    assert "(stage 2 of " in how and rows(how)[2:] == [
        ("learning_rate", "0.25"),
        ("suc_learning_rate", "0.5"),
        ("seed", "3"),
        ("SHA-256 of train_data", "11aa"),
        ("SHA-256 of dev_data", "22bb"),
        ("SHA-256 of weights", "33cc"),
        ("steps up to the best on dev", "7"),
    ]
    assert rows(scores) == [
        ("file", "accuracy", "examples", "label loyalty, probability loyalty"),
        ("---", "---", "---", "---"),
        ("dev, this export", "0.5000", "", ""),
        ("dev, before exporting", "0.6250", "", ""),
        ("test", "0.7500", "40", ""),
        ("test, for comparison: runs/out_0", "0.8125", "40", "0.9000, 0.8500"),
        ("moods/dev.txt", "0.1250", "8", ""),
    ]
    assert speed.startswith("Speed\n\n12.5 MB. Median milliseconds")
    assert rows(speed) == [
        ("batch", "this export", "before exporting"),
        ("---", "---", "---"),
        ("10", "20.00", "50.00"),
        ("1", "4.00", "7.00"),
    ]
    assert "enable_truncation(48)" in use and "longer than 48 tokens" in limits
    assert "divided by 2.5," in limits and "Case and accents" not in limits


# --- What a card shows can be run ---

CALLS = {
    "onnx": ["tokenizers", "optimum", "theseus"],
    "huggingface": ["transformers", "theseus"],
}
CALLS["onnx_int8"] = CALLS["onnx"]
TEXTS = ("手机怎么办" * 8, "电脑坏了吗")  # The first one is truncated.


def calls(text):
    """Returns the blocks of Python in a card."""
    return re.findall("```python\n(.*?)```", text, re.DOTALL)


@pytest.mark.parametrize(
    "name, place", [(n, p) for n in sorted(CALLS) for p in range(len(CALLS[n]))]
)
def test_a_call_in_the_card_says_what_the_classifier_says(
    export, tmp_path, monkeypatch, name, place
):
    for package in CALLS[name][place], "torch" if CALLS[name][place] == "optimum" else "numpy":
        pytest.importorskip(package)
    path = export(name)
    with open(os.path.join(path, "README.md"), encoding="utf-8") as reader:
        found = calls(reader.read())
    assert len(found) == len(CALLS[name]) and CALLS[name][place] in found[place]
    code = found[place].replace("text a", TEXTS[0]).replace("text b", TEXTS[1])
    (tmp_path / "this_folder").symlink_to(path)
    monkeypatch.chdir(tmp_path)
    printed = []
    exec(code, {"print": printed.append})
    with Classifier(path) as model:
        ((label, expected),) = model.classify([TEXTS])
    (answer,) = printed
    if CALLS[name][place] == "theseus":
        answer = answer[0][1]
    elif CALLS[name][place] in ("transformers", "optimum"):
        answer = answer[0] if isinstance(answer[0], list) else answer
        scores = {one["label"]: one["score"] for one in answer}
        answer = [scores[label] for label in model.labels]
    assert_close(np.ravel(answer), expected, 1e-5)


@pytest.mark.parametrize("format", ["onnx", "huggingface"])
def test_calls_for_single_texts_and_for_numbers(format):
    config = modeling_theseus.BertConfig.from_dict(SMALL_BERT)
    best = Checkpoint("best/model.ckpt-7", 7)
    row = exporter.Row("here", 0.1, 0.9, 0.5, 12.5, [0.02, 0.004])

    def shown(task):
        held = {"stage": "successor", "max_seq_length": 48, "do_lower_case": True}
        plain = writers.PlainClassifier(config, {}, task, None, held, best, 1.0)
        facts = card_lib.Facts(format, plain, row, row, (10, 1), None)
        return "\n".join(calls(card_lib.text(facts)))

    of_one, of_numbers = shown(tasks.TASKS["sst-2"]), shown(tasks.TASKS["sts-b"])
    assert 'classify("text", truncation=True' in of_one and '(["text"])' in of_one
    assert 'classify({"text": "text a", "text_pair": "text b"}, truncation=True' in of_numbers
    if format == "onnx":
        assert 'run(["probabilities"]' in of_one and 'run(["score"]' in of_numbers


def test_a_score_at_a_threshold_is_said_to_be(root, monkeypatch):
    command(EVALUATE + "--threshold=0.95 " + EXPORT, root, monkeypatch)
    score = "%.4f" % read_json(root, "out_2", "eval_results.json")["accuracy"]
    assert ("dev, --threshold=0.95", score) in [row[:2] for row in rows(card(root))]


def test_the_scores_of_another_checkpoint_are_not_its_own(root, monkeypatch):
    command(EVALUATE + "--compare_with=out_0", root, monkeypatch)
    path = root / "out_2" / "eval_results.json"
    results = read_json(str(path))
    text = path.read_text().replace(results["checkpoint"], "best/model.ckpt-999")
    path.write_text(text)
    command(EXPORT, root, monkeypatch)
    assert "out_0" not in card(root).split("## Scores")[1].split("To add a comparison")[0]


def test_a_damaged_result_is_named_before_anything_is_exported(root, monkeypatch):
    (root / "out_2" / "eval_results.json").write_text('{"checkpoint": 3}')
    assert "eval_results.json" in refused(EXPORT, root, monkeypatch)
    assert not (root / "out_2" / "export").exists()


def test_the_card_may_be_edited_and_is_not_replaced(root, monkeypatch):
    command(EXPORT, root, monkeypatch)
    path = str(root / "out_2" / "export" / "bert")
    command(EXPORT, root, monkeypatch)  # Replaces the card that was not edited.
    with open(os.path.join(path, "README.md"), "a") as writer:
        writer.write("license: mine\n")
    read_back.check_altered(path, read_back.read_description(path))
    assert "README.md was edited; move it away" in refused(EXPORT, root, monkeypatch)
    assert card(root).endswith("license: mine\n")
    os.remove(os.path.join(path, "README.md"))
    command(EXPORT, root, monkeypatch)
    assert "license: mine" not in card(root)


@pytest.mark.parametrize(
    "chosen, said, missing",
    [
        ({}, "best one on dev", ["distill_", "class_weights", "label_smoothing", "gradient_acc"]),
        ({"select_checkpoint": "last"}, "nothing was selected on dev", ["best one on dev"]),
        ({"label_smoothing": 0.125, "class_weights": (1.0, 3.0)}, "| 0.125 |", ["distill_"]),
        ({"distill_from": "out_0"}, "| distill_temperature | 1.0 |", ["label_smoothing"]),
    ],
)
def test_a_card_names_the_settings_that_say_something(chosen, said, missing):
    """Of a run config as a command records it."""
    config = modeling_theseus.BertConfig.from_dict(dict(SMALL_BERT, num_hidden_layers=2))
    values = make_config(SUCCESSOR, do_lower_case=True, **chosen).run_values()
    run_config = dict(values, distill_from="44dd" if "distill_from" in chosen else None)
    run_config.update(labels=None, num_texts=None, bert_config=config.to_dict())
    best, task = Checkpoint("best/model.ckpt-7", 7), tasks.TASKS["lcqmc_pair"]
    plain = writers.PlainClassifier(config, {}, task, None, run_config, best, 1.0)
    row = exporter.Row("bert", 0.1, 1.0, 0.5, 1.0, [0.1])
    text = card_lib.text(card_lib.Facts("bert", plain, row, row, (1,), None))
    assert said in text and not any(word in text for word in missing)
