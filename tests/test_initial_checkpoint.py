"""Tests of the weights from which each stage starts, and of refused ones."""

import dataclasses
import json
import logging
import os
import shutil

import numpy as np
import pytest

import modeling_theseus
from conftest import SMALL_BERT, VOCABULARY, make_config, write_start, write_weights
from theseus.checkpoints import head
from theseus.commands import initial_checkpoint
from theseus.errors import UserError
from theseus.inputs import tasks
from theseus.runs.stage_folder import StageFolder
from theseus.stage import PREDECESSOR, REPLACING, SUCCESSOR

LCQMC = tasks.TASKS["lcqmc_pair"]


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    """A folder with bert/, of 4 layers, and out_0 and out_1, whose last is not its best."""
    path = tmp_path_factory.mktemp("initial_checkpoint")
    write_start(path / "bert")
    for number, layer in [(0, "layer_0"), (1, "suc_layer_0")]:
        write_start(path / "source", layer)
        folder = StageFolder(str(path / ("out_%d" % number)))
        with folder.locked():
            names = ("bert_config.json", "vocab.txt")
            texts = {name: (path / "source" / name).read_text(encoding="utf-8") for name in names}
            held = {"suc_layers": 2 * number or None, "do_lower_case": True}
            held.update(task_name="lcqmc_pair", stage=("predecessor", "replacing")[number])
            folder.claim(dict(held, max_seq_length=32, precision="float32"), texts)
            entries = {"last": folder.new_checkpoint("last", 9)}
            entries["best"] = folder.new_checkpoint("best", 7)
            for entry in entries.values():
                for ending in (".index", ".data-00000-of-00001"):
                    source = str(path / "source" / "bert_model.ckpt") + ending
                    shutil.copy(source, folder.file(entry.checkpoint) + ending)
            folder.commit(dataclasses.replace(folder.state(), is_finished=bool(number), **entries))
        shutil.rmtree(str(path / "source"))
    return path


@pytest.fixture
def find(root, monkeypatch):
    """A function from a stage, and flags besides the defaults, to its InitialCheckpoint."""
    monkeypatch.chdir(str(root))

    def get(stage, task=LCQMC, **values):
        chosen = dict(bert_pretrained_model="bert", suc_layers=2, max_seq_length=32)
        chosen.update({"do_lower_case": True}, **values)
        return initial_checkpoint.find_initial_checkpoint(make_config(stage, **chosen), task)

    return get


@pytest.mark.parametrize(
    "stage, init_checkpoint, prefix",
    [
        (PREDECESSOR, None, "bert/bert_model.ckpt"),
        # Stage 0's folder exists but is only used if the flag names it.
        (REPLACING, None, "bert/bert_model.ckpt"),
        (REPLACING, "out_0", "out_0/best/model.ckpt-7"),
        (REPLACING, "out_0/best/model.ckpt-7", "out_0/best/model.ckpt-7"),
        (SUCCESSOR, None, "out_1/best/model.ckpt-7"),
        (SUCCESSOR, "out_0", "out_0/best/model.ckpt-7"),
        (SUCCESSOR, "bert", "bert/bert_model.ckpt"),
    ],
)
def test_each_stage_starts_from_the_best_of_what_it_should(find, stage, init_checkpoint, prefix):
    assert find(stage, init_checkpoint=init_checkpoint).weights.prefix == prefix


def test_a_stages_folder_brings_its_own_bert_and_a_prefix_takes_the_pretrained_ones(find):
    folder = find(REPLACING, init_checkpoint="out_0", bert_pretrained_model="none").model
    assert os.path.dirname(folder.vocab_file) == "out_0"
    prefix = find(REPLACING, init_checkpoint="out_0/best/model.ckpt-7").model
    assert os.path.dirname(prefix.vocab_file) == "bert"


@pytest.mark.parametrize(
    "how, recorded, layers",
    [
        (None, None, [0, 1]),
        ("first", None, [0, 1]),
        ("last", "last", [2, 3]),
        ("spread", "spread", [0, 3]),
        ("1,3", "1,3", [1, 3]),
    ],
)
def test_suc_init_names_the_layers_where_the_start_has_no_successor(find, how, recorded, layers):
    for stage in (REPLACING, SUCCESSOR):
        start = find(stage, init_checkpoint="bert", suc_init=how)
        assert (start.suc_init, start.successor_start) == (recorded, layers)
    held = find(SUCCESSOR, suc_init=how)
    assert modeling_theseus.holds_successor(held.weights)
    assert (held.suc_init, held.successor_start, held.successor_weights) == (None, None, None)
    held = find(PREDECESSOR, suc_init=how)
    assert (held.suc_init, held.successor_start, held.successor_weights) == (None, None, None)


@pytest.mark.parametrize("key, value", [("num_attention_heads", 4), ("hidden_size", 32)])
def test_a_bert_of_another_shape_cannot_lend_its_layers(find, root, key, value):
    folder = root / ("lent_" + key)
    folder.mkdir()
    values = dict(SMALL_BERT, num_hidden_layers=2, **{key: value})
    (folder / "bert_config.json").write_text(json.dumps(values))
    message = "--suc_init: %s has %s = %d, the predecessor" % (folder.name, key, value)
    with pytest.raises(UserError, match=message):
        find(REPLACING, suc_init=folder.name)


def test_another_size_of_successor_is_refused_and_said(find):
    with pytest.raises(UserError, match="--suc_layers: the successor in out_1 has 2 layers, .* 4"):
        find(SUCCESSOR, suc_layers=4)


TABLE = np.arange(6, dtype=np.float32).reshape(3, 2) + 0.5


def write_classifier(prefix):
    """Writes a checkpoint with a classifier of three rows, known by their numbers."""
    write_weights(prefix, {"output_weights": TABLE, "output_bias": np.float32([0, 1, 2])})


def open_stage(root, name, labels):
    """A stage's folder as a training of --task_name=custom leaves it, on those labels."""
    path = root / name
    shutil.copytree(str(root / "out_0"), str(path))
    write_classifier(path / "best" / "model.ckpt-7")
    StageFolder(str(path)).update_json("run.json", task_name="custom", labels=labels, num_texts=2)


def of_labels(*labels):
    return dataclasses.replace(tasks.TASKS["custom"], labels=labels)


def assert_rows(start, order):
    assert start.classifier.order == order
    for name, array in [("output_weights", TABLE), ("output_bias", np.float32([0, 1, 2]))]:
        np.testing.assert_array_equal(start.weights[name], array[order])


@pytest.mark.parametrize("form", ["config.json", "export.json", "stage", "part of a stage"])
def test_a_starts_classifier_is_put_into_the_tasks_order(find, root, form):
    """For each form of start that can name its labels."""
    given = form.replace(" ", "_")
    if "stage" in form:
        open_stage(root, given, ["red", "green", "blue"])
    else:
        write_start(root / given)
        write_classifier(root / given / "bert_model.ckpt")
        values = {"labels": ["red", "green", "blue"]}
        if form == "config.json":
            values = {"id2label": {"0": "red", "1": "green", "2": "blue"}}
        (root / given / form).write_text(json.dumps(values))
    given += "/best/model.ckpt-7" if form == "part of a stage" else ""
    for stage in (PREDECESSOR, REPLACING, SUCCESSOR):
        start = find(stage, of_labels("blue", "green", "red"), init_checkpoint=given)
        assert_rows(start, [2, 1, 0])
        assert (
            "its order is red, green, blue, the task's is blue, green, red" in start.classifier.note
        )
        assert start.weights.prefix.startswith(given)
    start = find(SUCCESSOR, of_labels("red", "green", "blue"), init_checkpoint=given)
    assert_rows(start, [0, 1, 2])
    assert not start.classifier.note
    start = find(SUCCESSOR, of_labels("red", "green", "grey"), init_checkpoint=given)
    assert (
        start.classifier.reason
        == "its labels are red, green, blue, the task's are red, green, grey"
    )


def test_a_classifier_that_nobody_has_named_is_taken_in_its_order(find, root):
    write_start(root / "no_names")
    write_classifier(root / "no_names" / "bert_model.ckpt")
    start = find(PREDECESSOR, of_labels("c", "a", "b"), bert_pretrained_model="no_names")
    assert_rows(start, [0, 1, 2])
    assert "no_names/bert_model.ckpt: no file names the labels" in start.classifier.note
    assert "assumed order: c, a, b" in start.classifier.note


def test_a_start_without_a_classifier_says_nothing_of_labels(find):
    for start in (find(PREDECESSOR), find(SUCCESSOR)):
        assert start.classifier == head.Rows()


def test_a_new_classifier_is_refused_where_it_would_stay_as_it_is(find):
    start = find(SUCCESSOR)._replace(classifier=head.Rows(None, "it is another"))
    for scope in (None, "all", "successor"):
        config = make_config(SUCCESSOR, train_scope=scope)
        initial_checkpoint.check_frozen_classifier(start, config)
    config = make_config(SUCCESSOR, train_scope="successor_layers")
    message = (
        "^--train_scope=successor_layers: the classifier of out_1/best/model.ckpt-7 cannot be "
    )
    message += "used, since it is another, .* or give --train_scope=successor$"
    with pytest.raises(UserError, match=message):
        initial_checkpoint.check_frozen_classifier(start, config)
    initial_checkpoint.check_frozen_classifier(find(SUCCESSOR), config)


@pytest.mark.parametrize("what", ["vocab.txt", "bert_config.json"])
def test_a_bert_that_is_named_must_be_the_stages(find, root, what):
    folder = root / ("named_" + what)
    folder.mkdir()
    for file in ("vocab.txt", "bert_config.json"):
        (folder / file).write_bytes((root / "out_1" / file).read_bytes())
    find(SUCCESSOR, bert_pretrained_model=folder.name, given={"bert_pretrained_model"})
    if what == "vocab.txt":
        (folder / what).write_text(VOCABULARY.replace("我\n", "我们\n"), encoding="utf-8")
    else:
        held = json.loads((folder / what).read_text())
        (folder / what).write_text(json.dumps(dict(held, num_attention_heads=4)))
    find(SUCCESSOR, bert_pretrained_model=folder.name)
    with pytest.raises(UserError, match="out_1 was trained with another vocabulary or config than"):
        find(SUCCESSOR, bert_pretrained_model=folder.name, given={"bert_pretrained_model"})


def test_an_unfinished_start_is_said(find, caplog):
    with caplog.at_level(logging.INFO):
        find(REPLACING, init_checkpoint="out_0")
        assert "out_0 has not finished; starting from its best checkpoint so far" in caplog.text
        caplog.clear()
        find(SUCCESSOR)
    assert "unfinished" not in caplog.text


def test_the_starts_positions_must_hold_the_longest_example(find):
    for values in ({}, {"init_checkpoint": "out_0"}):
        with pytest.raises(UserError, match="--max_seq_length=129: .* has 128 positions"):
            find(REPLACING, max_seq_length=129, **values)
