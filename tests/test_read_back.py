"""Tests of exports that are read back: they match the stage's graph, and errors are one line."""

import json
import os
import shutil
import sys

import numpy as np
import pytest

from conftest import EXPORTS, read_json, write_pairs
from theseus.checkpoints import pretrained
from theseus.errors import UserError
from theseus.export import read_back
from theseus.inference import evaluation, predictions, trained_model
from theseus.inputs import encoding, reading, tasks
from theseus.session import new_session

ARRAYS = {
    "input_ids": np.array([[2, 7, 9, 3, 8, 3], [2, 6, 3, 9, 3, 0]], np.int32),
    "input_mask": np.array([[1, 1, 1, 1, 1, 1], [1, 1, 1, 1, 1, 0]], np.int32),
    "segment_ids": np.array([[0, 0, 0, 0, 1, 1], [0, 0, 0, 1, 1, 0]], np.int32),
}


def load(path):
    with new_session() as session:
        return read_back.load(str(path), lambda: session)


@pytest.mark.parametrize("name", EXPORTS)
def test_a_model_gives_the_stages_logits(export, name):
    with trained_model.load(export.stage) as (session, graph, *_):
        expected = evaluation.runner(session, graph)(ARRAYS)
    with new_session() as session:
        read = read_back.load(export(name), lambda: session)
        found = read.run(ARRAYS)
    assert (read.task.name, read.max_seq_length, read.tokenizer.do_lower_case) == (
        "lcqmc_pair",
        32,
        False,
    )
    np.testing.assert_allclose(found, expected, atol=0.2 if name == "onnx_int8" else 2e-5)


@pytest.mark.parametrize("name", EXPORTS)
def test_length_and_case_are_those_that_are_described(copied, name):
    path = copied(name)
    held = read_back.read_description(path)
    with open(os.path.join(path, "export.json"), "w") as writer:
        json.dump(dict(held, max_seq_length=7, do_lower_case=True), writer)
    found = load(path)
    assert (found.max_seq_length, found.tokenizer.do_lower_case) == (7, True)


def assert_same_answers(found, expected, in_8_bits):
    """Compares probabilities from other batches.

    A kernel sums in an order that its shape and the processor decide: a probability may move by
    some float32 roundings, below 1e-5. In 8 bits such a rounding takes a value that lies on the
    border of two whole numbers to the other one, a step of 1/254 of its row's largest. That meets
    few pairs (5 of 100 where each rounding differs); a scale that knows the neighbours meets all.
    """
    change = np.abs(found - expected).max(axis=1)
    if in_8_bits:
        assert np.median(change) < 1e-5 and change.max() < 1e-2
    else:
        assert change.max() < 1e-5


def in_batches(run, encoded, order, size):
    """Returns the probabilities of EncodedExamples that are run in an order, in batches."""
    logits = {}
    for first in range(0, len(order), size):
        rows = order[first : first + size]
        found = run(encoded.batch(rows))
        logits.update(zip(rows, found))
    return predictions.probabilities(np.array([logits[row] for row in range(len(order))]))


@pytest.mark.parametrize("name", EXPORTS)
def test_an_answer_does_not_depend_on_its_batch(export, tmp_path, name):
    task = tasks.TASKS["lcqmc_pair"]
    write_pairs(tmp_path / "pairs.txt", 192, seed=5)
    examples = reading.read_examples(str(tmp_path / "pairs.txt"), task)
    with new_session() as session:
        read = read_back.load(export(name), lambda: session)
        tokenizer = pretrained.read_tokenizer(read.vocab_file, read.tokenizer)
        encoded = encoding.encode_examples(examples, task, tokenizer, 32)
        rows = np.arange(len(encoded))
        alone = in_batches(read.run, encoded, rows, 1)
        for order in (rows, np.random.RandomState(0).permutation(rows)):
            together = in_batches(read.run, encoded, order, 64)
            assert_same_answers(together, alone, in_8_bits=name == "onnx_int8")
    assert np.ptp(alone[:, 1]) > 0.1  # The answers do differ.


@pytest.fixture
def copied(export, tmp_path):
    """A function from a format to a copy of its export."""

    def copy(name):
        return shutil.copytree(export(name), str(tmp_path / name))

    return copy


def forget_sums(path):
    """Makes an export one of a version that listed no files."""
    place = os.path.join(path, "export.json")
    held = read_json(place)
    del held["files"]
    with open(place, "w", encoding="utf-8") as writer:
        json.dump(held, writer)


DAMAGES = [
    ("bert", "vocab.txt", None, "bert: expected vocab.txt or tokenizer.json, found neither"),
    (
        "bert",
        "bert_config.json",
        None,
        "bert: expected bert_config.json or config.json, found neither",
    ),
    ("bert", "bert_model.ckpt.index", None, "bert: expected a checkpoint's prefix, or a folder"),
    ("huggingface", "model.safetensors", b"{}", "safetensors: cannot be read as safetensors"),
    ("saved_model", "saved_model.pb", None, "saved_model: cannot be read as a SavedModel: "),
    ("saved_model", "saved_model.pb", b"no", "saved_model: cannot be read as a SavedModel: "),
    ("saved_model", "variables/variables.index", None, "cannot be read as a SavedModel: "),
    ("onnx", "model.onnx", None, "model.onnx: cannot be read as ONNX: "),
    ("onnx", "model.onnx", b"no", "model.onnx: cannot be read as ONNX: "),
    ("bert", "export.json", b"{", "export.json: is damaged: Expecting"),
    ("bert", "export.json", b"[]", "export.json: is damaged: expected an object, found"),
    ("bert", "export.json", b"{}", "export.json: is damaged: expected an object with format"),
]


@pytest.mark.parametrize("name, file, content, message", DAMAGES)
def test_what_is_missing_or_damaged_is_one_line(copied, name, file, content, message):
    path = copied(name)
    forget_sums(path)
    os.remove(os.path.join(path, file))
    if content is not None:
        with open(os.path.join(path, file), "wb") as writer:
            writer.write(content)
    with pytest.raises(UserError, match=message) as caught:
        load(path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "change, message",
    [
        ({"format": "keras"}, "export.json: is damaged: format: expected one of bert, .*'keras'"),
        ({"max_seq_length": None}, "export.json: is damaged: max_seq_length: expected a whole"),
        ({"task_name": "mnli"}, "bert: its model has 2 outputs, but its export.json needs 3"),
    ],
)
def test_a_description_that_does_not_fit_is_refused(copied, change, message):
    path = copied("bert")
    place = os.path.join(path, "export.json")
    held = read_back.read_description(path)
    with open(place, "w") as writer:
        json.dump(dict(held, **change), writer)
    with pytest.raises(UserError, match=message):
        load(path)


def test_a_bert_without_a_classifier_is_refused(copied, random_data):
    path = copied("bert")
    forget_sums(path)
    for source in (random_data / "bert").iterdir():
        shutil.copy(str(source), path)
    with pytest.raises(UserError, match="bert_model.ckpt: holds no output_weights, which"):
        load(path)


def test_an_onnx_model_of_other_inputs_is_one_line(copied):
    onnx = pytest.importorskip("onnx")
    path = copied("onnx")
    forget_sums(path)
    file = os.path.join(path, "model.onnx")
    model = onnx.load(file)
    for node in model.graph.node:
        names = ["input_mask" if name == "attention_mask" else name for name in node.input]
        del node.input[:]
        node.input.extend(names)
    for tensor in model.graph.input:
        tensor.name = tensor.name.replace("attention_mask", "input_mask")
    onnx.save(model, file)
    message = "onnx: expected the inputs input_ids, attention_mask, token_type_ids, found input_"
    with pytest.raises(UserError, match=message):
        load(path)


def test_a_missing_runtime_is_named(copied, monkeypatch):
    path = copied("onnx")
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(UserError, match="onnx: needs the package onnxruntime; pip install onnxr"):
        load(path)


@pytest.mark.parametrize(
    "small, limited, expected", [(1 << 40, True, 1), (0, True, 3), (0, False, 0)]
)
def test_a_small_model_has_one_thread_and_a_large_one_no_more_than_its_container(
    export, monkeypatch, small, limited, expected
):
    onnxruntime = pytest.importorskip("onnxruntime")
    made, real = [], onnxruntime.InferenceSession
    monkeypatch.setattr(read_back, "_SMALL_MODEL", small)
    monkeypatch.setattr(read_back.machine, "is_limited", lambda: limited)
    monkeypatch.setattr(read_back.machine, "num_processors", lambda: 3)
    monkeypatch.setattr(
        onnxruntime,
        "InferenceSession",
        lambda *given, **named: made.append(given) or real(*given, **named),
    )
    load(export("onnx"))
    assert made[0][1].intra_op_num_threads == expected
