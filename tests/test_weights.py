"""Tests of reading checkpoints, matching them with a graph, and reporting the rest."""

import shutil

import numpy as np
import pytest
import tensorflow.compat.v1 as tf

from conftest import write_weights
from theseus.checkpoints import weights
from theseus.errors import UserError

VALUES = {
    "bert/encoder/layer_0/kernel": np.linspace(0, 1, 6, dtype=np.float32).reshape(2, 3),
    "bert/embeddings/word_embeddings": np.full([4, 2], 0.5, np.float32),
    "cls/predictions/output_bias": np.zeros([4], np.float32),
    "bert/encoder/layer_0/kernel/adam_m": np.zeros([2, 3], np.float32),
    "bert/encoder/layer_0/kernel/average": np.zeros([2, 3], np.float32),
    "global_step": np.array(7, np.int64),
}


@pytest.fixture
def prefix(tmp_path):
    with tf.Graph().as_default(), tf.Session() as session:
        for name, value in VALUES.items():
            tf.get_variable(name, initializer=value)
        session.run(tf.global_variables_initializer())
        path = str(tmp_path / "bert_model.ckpt")
        return tf.train.Saver().save(session, path, write_state=False)


def variables_of(shapes):
    return [tf.get_variable(name, shape) for name, shape in shapes.items()]


def same_names(variables, source):
    return {v.op.name: v.op.name for v in variables if v.op.name in source}


def test_a_checkpoint_is_a_mapping_of_its_weights(prefix):
    held = weights.CheckpointWeights(prefix)
    assert dict(held).keys() == VALUES.keys() and len(held) == len(VALUES)
    for name, value in VALUES.items():
        np.testing.assert_array_equal(held[name], value)
    assert "absent" not in held
    with pytest.raises(KeyError):
        held["absent"]


def test_what_is_not_filled_and_what_is_not_used_is_reported(session, prefix):
    held = weights.CheckpointWeights(prefix)
    variables = variables_of({"bert/encoder/layer_0/kernel": [2, 3], "output_weights": [2, 2]})
    fit = weights.match(variables, held, same_names(variables, held))
    assert fit.missing == ["output_weights"]
    assert fit.unused == ["bert/embeddings/word_embeddings", "cls/predictions/output_bias"]
    report = weights.report(fit, held)
    assert "filled           1 variables" in report
    assert "start at random  output_weights" in report
    assert "not used         bert/embeddings/word_embeddings (1), cls/predictions/" in report


@pytest.mark.parametrize("name", ["bert/encoder/layer_1/kernel", "bert/embeddings/position"])
def test_a_missing_encoder_or_embedding_weight_is_an_error_that_names_it(session, prefix, name):
    held = weights.CheckpointWeights(prefix)
    variables = variables_of({name: [2, 3]})
    with pytest.raises(UserError, match="bert_model.ckpt: holds no %s" % name):
        weights.match(variables, held, {})


@pytest.fixture
def prefixed(tmp_path):
    """Writes the checkpoint with something before the names, and others beside it."""

    def write(before, **others):
        arrays = {before + name: value for name, value in VALUES.items() if "bert/" in name}
        write_weights(tmp_path / "other.ckpt", dict(arrays, **others))
        return weights.open_weights(str(tmp_path / "other.ckpt"))

    return write


@pytest.mark.parametrize("before", ["model/", "tower_0/net/"])
def test_what_stands_before_all_names_is_left_out(session, prefixed, before):
    head = np.float32([[1, 2], [3, 4]])
    found = prefixed(before, **{before + "output_weights": head, "global_step": np.int64(3)})
    assert found.stripped == before
    assert found.originals["output_weights"] == before + "output_weights"
    assert sorted(found) == sorted([n for n in VALUES if "bert/" in n]) + [
        "global_step",
        "output_weights",
    ]
    np.testing.assert_array_equal(found["output_weights"], head)
    name = "bert/encoder/layer_0/kernel"
    np.testing.assert_array_equal(found[name], VALUES[name])
    fit = weights.match([], found, {})
    assert "prefix           %s, removed" % before in weights.report(fit, found)
    message = "other.ckpt: model/output_weights and output_weights both name output_weights; remove"
    with pytest.raises(UserError, match=message):
        prefixed("model/", **{"model/output_weights": head, "output_weights": head})


def test_without_a_bert_three_names_are_given(session, tmp_path):
    write_weights(tmp_path / "gpt.ckpt", ["wte", "h0/attn/c_attn/w", "h0/ln_1/b", "ln_f/g"])
    held = weights.CheckpointWeights(str(tmp_path / "gpt.ckpt"))
    message = (
        "gpt.ckpt: holds no BERT with .*; it holds names such as h0/attn/c_attn/w, ln_f/g, wte; a"
    )
    with pytest.raises(UserError, match=message):
        weights.match(variables_of({"bert/embeddings/word_embeddings": [2]}), held, {})


def test_rows_are_given_in_another_order_of_the_weights_that_are_named(prefix):
    held = weights.CheckpointWeights(prefix)
    name, other = "bert/encoder/layer_0/kernel", "bert/embeddings/word_embeddings"
    turned = held.with_rows([name], [1, 0])
    np.testing.assert_array_equal(turned[name], VALUES[name][::-1])
    for weight in (turned[other], held[other]):
        np.testing.assert_array_equal(weight, VALUES[other])
    np.testing.assert_array_equal(held[name], VALUES[name])


def test_a_table_of_another_size_names_the_configs_key(session, prefix):
    held = weights.CheckpointWeights(prefix)
    name = "bert/embeddings/word_embeddings"
    for shape, is_named in [([16, 2], True), ([4, 3], False)]:
        with tf.Graph().as_default(), pytest.raises(UserError) as caught:
            weights.match(variables_of({name: shape}), held, {name: name})
        assert "has the shape [4, 2], the model needs %s" % shape in str(caught.value)
        assert (
            "; its config, or a default, has another vocab_size" in str(caught.value)
        ) == is_named


def test_a_shape_that_differs_is_an_error_that_names_it(session, prefix):
    held = weights.CheckpointWeights(prefix)
    variables = variables_of({"bert/encoder/layer_0/kernel": [3, 3]})
    with pytest.raises(UserError, match=r"layer_0/kernel has the shape \[2, 3\].*\[3, 3\]"):
        weights.match(variables, held, same_names(variables, held))


def test_variables_get_their_weights_and_the_others_their_initial_values(session, prefix):
    variables = variables_of({"bert/encoder/layer_0/kernel": [2, 3]})
    variables.append(tf.get_variable("output_bias", [2], initializer=tf.ones_initializer()))
    held = weights.CheckpointWeights(prefix)
    weights.load(session, variables, held, same_names(variables, held))
    found = session.run(variables)
    np.testing.assert_array_equal(found[0], VALUES["bert/encoder/layer_0/kernel"])
    np.testing.assert_array_equal(found[1], [1.0, 1.0])


def test_a_checkpoint_is_found_by_prefix_or_folder(prefix, tmp_path):
    assert weights.find_checkpoint(prefix) == prefix
    assert weights.find_checkpoint(str(tmp_path)) == prefix
    assert len(weights.checkpoint_files(prefix)) == 2
    for path in weights.checkpoint_files(prefix):
        shutil.copy(path, path.replace("bert_model.ckpt", "bert_model.ckpt-9"))
    with pytest.raises(UserError, match="found 2 checkpoints"):
        weights.find_checkpoint(str(tmp_path))
    with pytest.raises(UserError, match="absent: expected .* found none"):
        weights.find_checkpoint(str(tmp_path / "absent"))


def test_a_damaged_checkpoint_is_refused_by_name(prefix):
    index, data = weights.checkpoint_files(prefix)
    with open(data, "r+b") as file:
        file.truncate(10)
    with pytest.raises(UserError, match="bert_model.ckpt: cannot (be )?read"):
        dict(weights.CheckpointWeights(prefix))
    with open(index, "r+b") as file:
        file.truncate(10)
    with pytest.raises(UserError, match="bert_model.ckpt: cannot be read as a checkpoint"):
        weights.CheckpointWeights(prefix)


def test_only_what_is_left_over_of_the_model_is_called_unused(session, prefix):
    held = weights.CheckpointWeights(prefix)
    shapes = {"bert/encoder/layer_0/kernel": [2, 3], "bert/embeddings/word_embeddings": [4, 2]}
    variables = variables_of(dict(shapes, output_bias=[2], output_weights=[2, 2]))
    fit = weights.match(variables, held, same_names(variables, held))
    assert set(fit.sources) == set(shapes)
    assert fit.missing == ["output_bias", "output_weights"]
    assert fit.unused == ["cls/predictions/output_bias"]
    assert "filled           2 variables" in weights.report(fit, held)


@pytest.mark.parametrize("shape", [[3, 2], [6], [2, 3, 1], [1, 3]])
def test_a_shape_of_as_many_numbers_or_axes_does_not_fit(session, prefix, shape):
    held = weights.CheckpointWeights(prefix)
    variables = variables_of({"bert/encoder/layer_0/kernel": shape})
    with pytest.raises(UserError, match=r"has the shape \[2, 3\], the model needs"):
        weights.match(variables, held, same_names(variables, held))


def test_a_successors_layer_takes_the_weight_of_another_name(session, prefix):
    held = weights.CheckpointWeights(prefix)
    variables = variables_of({"bert/encoder/suc_layer_0/kernel": [2, 3]})
    sources = {"bert/encoder/suc_layer_0/kernel": "bert/encoder/layer_0/kernel"}
    fit = weights.match(variables, held, sources)
    assert not fit.missing and "bert/encoder/layer_0/kernel" not in fit.unused
    weights.load(session, variables, held, sources)
    (found,) = session.run(variables)
    np.testing.assert_array_equal(found, VALUES["bert/encoder/layer_0/kernel"])


def test_every_variable_of_a_trained_model_must_be_there_and_fit(session, prefix):
    held = weights.CheckpointWeights(prefix)
    good = {"cls/predictions/output_bias": [4], "bert/embeddings/word_embeddings": [4, 2]}
    variables = variables_of(good)
    weights.load_all(session, variables, held)
    np.testing.assert_array_equal(session.run(variables[1]), np.full([4, 2], 0.5))
    with pytest.raises(UserError, match="holds no output_bias, which the model needs"):
        weights.load_all(session, variables_of({"output_bias": [2]}), held)
    with pytest.raises(UserError, match="global_step has dtype int64, expected one of float32"):
        weights.load_all(session, variables_of({"global_step": []}), held)
