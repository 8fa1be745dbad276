"""Tests that each path of a stage 1 with its predecessor equals a BERT of the path's layers."""

import functools
import itertools
import json
import os
import shutil

import numpy as np
import pytest
import tensorflow.compat.v1 as tf

import modeling_theseus
from conftest import (
    SMALL_BERT,
    assert_close,
    assert_matches,
    assert_refused,
    command,
    contents,
    needs_tensorflow_2,
    read_json,
    refused,
    write_pairs,
    write_stage,
)
from theseus import stage as stages
from theseus.checkpoints.weights import CheckpointWeights
from theseus.errors import UserError
from theseus.inference import evaluation, model_folder, trained_model

# By hand: of 4 layers in 2 modules.
LAYERS = {
    "00": ["layer_0", "layer_1", "layer_2", "layer_3"],
    "01": ["layer_0", "layer_1", "suc_layer_1"],
    "10": ["suc_layer_0", "layer_2", "layer_3"],
    "11": ["suc_layer_0", "suc_layer_1"],
}
USED = "--data_dir=data --suc_layers=2 --max_seq_length=32 "


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    """A folder with data, and in out_1 a stage 1 that keeps its predecessor; in plain none."""
    root = tmp_path_factory.mktemp("paths")
    (root / "data").mkdir()
    write_pairs(root / "data" / "dev.txt", 20, seed=1)
    write_stage(root / "out_1", "replacing", keep_predecessor=True)
    write_stage(root / "plain", "replacing")
    write_stage(root / "out_2", "successor")
    return root


@pytest.fixture(scope="module")
def folder(root):
    return model_folder.trained_folder(str(root / "out_1"))


def some_arrays():
    random = np.random.RandomState(3)
    ids = random.randint(5, SMALL_BERT["vocab_size"], [4, 9]).astype(np.int32)
    mask = (np.arange(9) < np.array([[9], [4], [7], [2]])).astype(np.int32)
    segments = (np.arange(9) >= np.array([[5], [2], [3], [1]])).astype(np.int32) * mask
    return {"input_ids": ids * mask, "input_mask": mask, "segment_ids": segments}


@pytest.fixture(scope="module")
def plain_logits(folder):
    """A function from digits to the logits of a BERT of that path's layers, computed once."""
    return functools.lru_cache(None)(lambda digits: logits_of_plain_bert(folder, LAYERS[digits]))


@pytest.fixture(scope="module")
def runner(folder):
    """A function from a path to what runs it, of the graph of all paths."""
    with trained_model.load_all_paths(folder) as (runner, groups):
        assert groups == [[0, 1], [2, 3]]
        yield runner


def logits_of_plain_bert(folder, layers):
    """Returns the logits of a BERT whose layers are those of that name in a stage's checkpoint."""
    config = modeling_theseus.BertConfig.from_dict(
        dict(SMALL_BERT, num_hidden_layers=len(layers), hidden_act="gelu_tanh")
    )
    weights = CheckpointWeights(folder.best_checkpoint())
    with tf.Graph().as_default(), tf.Session() as session:
        graph = evaluation.build_graph(config, 2)
        for variable in graph.variables:
            name = variable.op.name
            for number, layer in enumerate(layers):
                name = name.replace("encoder/layer_%d/" % number, "encoder/=%s/" % layer)
            variable.load(weights[name.replace("=", "")], session)
        return evaluation.runner(session, graph)(some_arrays())


@pytest.mark.parametrize("digits", sorted(LAYERS))
def test_a_path_is_a_bert_of_its_layers(folder, plain_logits, runner, digits):
    path, expected = [digit == "1" for digit in digits], plain_logits(digits)
    with trained_model.load(folder, mask=path) as model:
        assert model.layers == LAYERS[digits] and model.mask == path
        found = evaluation.runner(model.session, model.graph)(some_arrays())
    assert_close(found, expected)
    assert_close(runner(path)(some_arrays()), expected)


def test_the_paths_are_different_models(runner):
    paths = itertools.product([False, True], repeat=2)
    found = [runner(list(path))(some_arrays()) for path in paths]
    for one, other in itertools.combinations(found, 2):
        assert np.abs(one - other).max() > 1e-3


def test_unset_it_is_the_successor(folder):
    with trained_model.load(folder) as model:
        assert model.layers == LAYERS["11"] and model.mask is None


def test_layers_are_named_by_their_place_on_the_path():
    layers = ["suc_layer_0", "layer_2", "layer_10"]
    groups, path = [[0, 1], [2], [10]], [True, False, False]
    assert modeling_theseus.layer_names(groups, path) == layers and stages.digits(path) == "100"
    names = ["bert/encoder/%s/output/dense/kernel" % layer for layer in layers]
    found = [modeling_theseus.plain_name(name, layers) for name in names]
    assert found == ["bert/encoder/layer_%d/output/dense/kernel" % n for n in range(3)]
    assert modeling_theseus.plain_name("bert/pooler/dense/bias", layers) == "bert/pooler/dense/bias"


@pytest.mark.parametrize("name, path", [("plain", [False, True]), ("out_2", [True, True])])
def test_a_stage_without_the_path_is_refused(root, name, path):
    folder = model_folder.trained_folder(str(root / name))
    message = "keep_predecessor" if name == "plain" else "11 is not a mixture of this stage"
    with pytest.raises(UserError, match=message):
        with trained_model.load(folder, mask=path):
            pass
    with pytest.raises(UserError, match="--replaced_modules: "):
        with trained_model.load_all_paths(folder):
            pass


def test_a_path_of_another_length_is_refused(folder):
    with pytest.raises(UserError, match="--replaced_modules: 101 is not a mixture of this stage"):
        with trained_model.load(folder, mask=[True, False, True]):
            pass


def test_its_results_have_a_folder_of_their_own(root, monkeypatch):
    line = "--do_eval --do_predict --predict_file=data/dev.txt " + USED
    command(line, root, monkeypatch)
    of_successor = contents(root / "out_1")
    command(line + "--replaced_modules=10", root, monkeypatch)
    command(line + "--replaced_modules=11", root, monkeypatch)  # The successor, by its name.
    assert sorted(os.listdir(str(root / "out_1" / "mixture_10"))) == [
        "errors.tsv",
        "eval_results.json",
        "predictions.tsv",
        "timing.json",
    ]
    found = {
        name: data for name, data in contents(root / "out_1").items() if "mixture_10" not in name
    }
    timing = str(root / "out_1" / "timing.json")
    found.pop(timing), of_successor.pop(timing)
    assert found == of_successor
    results = [read_json(root, "out_1", part, "eval_results.json") for part in ("mixture_10", "")]
    assert results[0]["loss"] != results[1]["loss"]


def test_its_temperature_is_its_own(plain_logits, root, tmp_path):
    shutil.copytree(str(root / "out_1"), str(tmp_path / "out_1"))
    copied = model_folder.trained_folder(str(tmp_path / "out_1"))
    temperatures = {None: 2.0, "01": 4.0}  # None: the stage's, on the path it is evaluated on.
    for digits, temperature in temperatures.items():
        place = tmp_path / "out_1" / ("mixture_%s" % digits if digits else "")
        place.mkdir(exist_ok=True)
        held = {"temperature": temperature, "checkpoint": "best/model.ckpt-7"}
        (place / "calibration.json").write_text(json.dumps(held))
    for digits in (None, "00", "01", "10"):
        path = [digit == "1" for digit in digits] if digits else None
        temperature = temperatures.get(digits, 1.0)
        with trained_model.load(copied, mask=path) as model:
            assert model.temperature == temperature
            found = evaluation.runner(model.session, model.graph)(some_arrays())
        assert_close(found, plain_logits(digits or "11") / temperature)


def test_a_path_is_calibrated_for_itself(root, tmp_path, monkeypatch):
    shutil.copytree(str(root), str(tmp_path / "all"))
    line = "--do_eval --calibrate --data_dir=data --suc_layers=2 --max_seq_length=32 "
    command(line + "--replaced_modules=01", tmp_path / "all", monkeypatch)
    out_1 = tmp_path / "all" / "out_1"
    assert not (out_1 / "calibration.json").exists()
    of_path = read_json(out_1, "mixture_01", "calibration.json")["temperature"]
    command(line, tmp_path / "all", monkeypatch)
    of_stage = read_json(out_1, "calibration.json")["temperature"]
    assert len({1.0, of_path, of_stage}) == 3
    assert read_json(out_1, "mixture_01", "calibration.json")["temperature"] == of_path
    for digits, expected in [("01", of_path), ("11", of_stage), ("10", 1.0)]:
        command(
            "--do_eval --replaced_modules=%s %s" % (digits, USED), tmp_path / "all", monkeypatch
        )
        place = "" if digits == "11" else "mixture_" + digits
        assert read_json(out_1, place, "eval_results.json")["temperature"] == expected


@needs_tensorflow_2
def test_its_export_is_one_of_the_path(root, monkeypatch):
    line = "--do_export --export_format=bert " + USED
    command(line + "--replaced_modules=01", root, monkeypatch)
    path = root / "out_1" / "mixture_01" / "export" / "bert"
    assert read_json(path, "export.json")["replaced_modules"] == "01"
    assert read_json(path, "bert_config.json")["num_hidden_layers"] == 3
    held = CheckpointWeights(model_folder.trained_folder("out_1").best_checkpoint())
    exported = CheckpointWeights(str(path / "bert_model.ckpt"))
    for number, layer in enumerate(LAYERS["01"]):
        for name in ("bert/encoder/%s/output/dense/kernel", "bert/encoder/%s/output/dense/bias"):
            np.testing.assert_array_equal(
                exported[name % ("layer_%d" % number)], held[name % layer]
            )
    line += "--export_dir=%s " % path
    message = refused(line + "--replaced_modules=10", root, monkeypatch)
    assert_matches("--export_dir: .* is not an export of this run as bert", message)
    command(line + "--replaced_modules=01", root, monkeypatch)  # Its own may be written anew.


@pytest.mark.parametrize(
    "line, message",
    [
        (
            "--do_eval --replaced_modules=1",
            "has 1 digits; give one for each of the 2 modules",
        ),
        ("--do_eval --replaced_modules=12", "=12: give a digit for each module"),
        ("--do_eval --replaced_modules=", "=: give a digit for each module"),
        ("--do_train --replaced_modules=10 --keep_predecessor", "needs --do_eval or --do_predict"),
        (
            "--do_eval --replaced_modules=10 --finetune_suc",
            "--replaced_modules applies only to stage 1",
        ),
        (
            "--do_train --do_eval --replaced_modules=10 --stage_1_outputdir=plain",
            ": add --keep_predecessor to the training",
        ),
        (
            "--do_train --finetune_suc --keep_predecessor",
            "--keep_predecessor applies only to stage 1",
        ),
        (
            "--do_eval --replaced_modules=10 --stage_1_outputdir=plain",
            "train it with --keep_pre",
        ),
    ],
)
def test_a_mistake_is_one_line(root, monkeypatch, line, message):
    assert_refused(USED + line, root, monkeypatch, message)
