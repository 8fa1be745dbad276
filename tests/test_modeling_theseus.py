"""The graph against a reference BERT, and module replacing against layers stacked by hand."""

import functools
import itertools

import numpy as np
import pytest
import tensorflow.compat.v1 as tf

import modeling_theseus
import weights
from errors import UserError
from modeling_theseus import BertConfig, RandomKey

# The shape in golden/make_reference_bert.py.
GROUPS = [[0, 1], [2, 3]]
PATHS = list(itertools.product([False, True], repeat=2))


def make_config(hidden_act="gelu_erf", dropout=0.0):
    return BertConfig(
        vocab_size=30,
        hidden_size=16,
        num_hidden_layers=4,
        num_attention_heads=4,
        intermediate_size=24,
        hidden_act=hidden_act,
        hidden_dropout_prob=dropout,
        attention_probs_dropout_prob=dropout,
        max_position_embeddings=12,
        type_vocab_size=2,
    )


def constants(reference):
    """The reference's features as tensors, without the labels."""
    names = ("input_ids", "input_mask", "segment_ids")
    return {name: tf.constant(reference["features/" + name]) for name in names}


def load_reference_weights(session, reference):
    """Gives every variable its reference weight."""
    names = [v.op.name for v in tf.global_variables()]
    held = {n[len("weights/") :]: a for n, a in reference.items() if n.startswith("weights/")}
    weights.load(session, tf.global_variables(), held, {name: name for name in names})


def build_loss(reference, config, path, random_key=None):
    features = constants(reference)
    logits = modeling_theseus.classifier(features, config, 2, GROUPS, path, random_key)
    labels = tf.constant(reference["features/label_ids"])
    return logits, modeling_theseus.classification_loss(logits, labels, 3)


@pytest.mark.parametrize("hidden_act", ["gelu_erf", "gelu_tanh"])
@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("as_tensor", [False, True])
def test_logits_and_gradients_equal_the_reference(session, reference, hidden_act, path, as_tensor):
    given = tf.constant(path) if as_tensor else list(path)
    logits, loss = build_loss(reference, make_config(hidden_act), given)
    variables = tf.trainable_variables()
    gradients = [tf.convert_to_tensor(g) for g in tf.gradients(loss, variables)]
    load_reference_weights(session, reference)

    found = session.run([logits, loss, gradients])
    key = "%s/%s/" % (hidden_act, "".join(str(int(replaced)) for replaced in path))
    np.testing.assert_allclose(found[0], reference[key + "logits"], rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(found[1], reference[key + "loss"], rtol=1e-5)
    on_path = 0
    for variable, gradient in zip(variables, found[2]):
        expected = reference.get(key + "gradients/" + variable.op.name)
        if expected is None:  # Not on the path: a gradient, of zero.
            assert not gradient.any(), variable.op.name
            continue
        on_path += 1
        np.testing.assert_allclose(
            gradient, expected, rtol=1e-4, atol=2e-6, err_msg=variable.op.name
        )
    assert on_path == sum(name.startswith(key + "gradients/") for name in reference)


def test_the_two_gelus_differ(reference):
    assert not np.allclose(reference["gelu_erf/11/logits"], reference["gelu_tanh/11/logits"], 1e-5)
