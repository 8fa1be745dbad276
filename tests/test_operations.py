"""The operations and their written gradients, against TensorFlow's own of the formulas."""

import math

import numpy as np
import pytest
import tensorflow.compat.v1 as tf

from conftest import assert_close
from theseus.model import operations

RANDOM = np.random.RandomState(0)
WIDE = operations.WIDE
X = RANDOM.normal(0, 2, [6, WIDE]).astype(np.float32)
DY = RANDOM.normal(0, 1, [6, WIDE]).astype(np.float32)
GAMMA, BETA = RANDOM.normal(1, 0.3, [2, WIDE]).astype(np.float32)
SCORES = RANDOM.normal(0, 2, [2, 3, 4, 4]).astype(np.float32)
KEPT = RANDOM.uniform(size=[6, WIDE]) >= 0.25
BIAS = np.float32([0, 0, 0, -1e4]).reshape([1, 1, 1, 4])


def gelu_tanh(x):
    return 0.5 * x * (1.0 + tf.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x * x * x)))


def gelu_erf(x):
    return 0.5 * x * (1.0 + tf.erf(x / math.sqrt(2.0)))


def add_and_norm(update, hidden, gamma, beta, kept=1.0):
    total = hidden + update * kept / 0.75
    mean, variance = tf.nn.moments(total, axes=[-1], keep_dims=True)
    return tf.nn.batch_normalization(total, mean, variance, beta, gamma, 1e-12)


def softmax(scores):
    return tf.nn.softmax(scores / 2.0 + BIAS)


CASES = {
    "gelu_tanh": (operations.gelu_tanh, gelu_tanh, [X]),
    "gelu_erf": (operations.gelu_erf, gelu_erf, [X]),
    "trained_gelu_tanh": (operations.trained_gelu_tanh, gelu_tanh, [X]),
    "trained_gelu_erf": (operations.trained_gelu_erf, gelu_erf, [X]),
    "layer_norm": (
        lambda x, gamma, beta: operations.layer_norm(x, gamma, beta, 1e-12),
        lambda x, gamma, beta: add_and_norm(0.0, x, gamma, beta),
        [X, GAMMA, BETA],
    ),
    "trained_add_and_norm": (
        lambda x, h, *norm: operations.trained_add_and_norm(x, h, None, 0.25, *norm, 1e-12),
        lambda x, h, gamma, beta: add_and_norm(x * 0.75, h, gamma, beta),
        [X, DY, GAMMA, BETA],
    ),
    "trained_add_and_norm_with_dropout": (
        lambda x, h, *norm: operations.trained_add_and_norm(x, h, KEPT, 0.25, *norm, 1e-12),
        lambda x, h, gamma, beta: add_and_norm(x, h, gamma, beta, KEPT.astype(np.float32)),
        [X, DY, GAMMA, BETA],
    ),
    "dropout": (lambda x: operations.dropout(x, KEPT, 0.25), lambda x: x * KEPT / 0.75, [X]),
    "softmax": (lambda scores: operations.softmax(scores, 0.5, BIAS), softmax, [SCORES]),
    "trained_softmax": (
        lambda scores: operations.trained_softmax(scores, 0.5, BIAS),
        softmax,
        [SCORES],
    ),
}


def value_and_gradients(session, function, inputs):
    """The value, and the gradients for a certain gradient of it, as float32 arrays."""
    y = function(*inputs)
    dy = np.cos(np.arange(y.shape.num_elements())).reshape(y.shape.as_list())
    found = [y] + tf.gradients(y, inputs, tf.constant(dy, y.dtype))
    return session.run([tf.cast(tensor, tf.float32) for tensor in found])


@pytest.fixture(params=["compiled", "not compiled"])
def form(request, monkeypatch):
    """Whether the operations of training are compiled for arrays as wide as these."""
    if request.param == "not compiled":
        monkeypatch.setattr(operations, "WIDE", WIDE + 1)


@pytest.mark.parametrize("name", sorted(CASES))
def test_value_and_gradient_are_those_of_the_formula(session, name, form):
    operation, formula, arrays = CASES[name]
    inputs = [tf.constant(array) for array in arrays]
    found = value_and_gradients(session, operation, inputs)
    for one, other in zip(found, value_and_gradients(session, formula, inputs)):
        assert_close(one, other, 5e-5)


@pytest.mark.parametrize("name", sorted(CASES))
def test_bfloat16_rounds_values_and_gradients_and_no_more(session, name, form):
    operation, formula, arrays = CASES[name]
    inputs = [tf.constant(array) for array in arrays]
    narrow = [x if x.shape.ndims == 1 else tf.cast(x, tf.bfloat16) for x in inputs]
    y = operation(*narrow)
    assert y.dtype == tf.bfloat16 and [g.dtype for g in tf.gradients(y, narrow)] == [
        x.dtype for x in narrow
    ]
    found = value_and_gradients(session, operation, narrow)
    rounded = [tf.cast(x, tf.float32) for x in narrow]
    for one, other in zip(found, value_and_gradients(session, formula, rounded)):
        assert_close(one, other, 2.0**-6)


@pytest.mark.parametrize("value", [-1e4, -40.0, 40.0, 1e4])
def test_a_gelu_of_a_large_number_is_finite(session, value, form):
    for function in (operations.trained_gelu_tanh, operations.trained_gelu_erf):
        x = tf.fill([1, WIDE], value)
        y = function(x)
        found = session.run([y, tf.gradients(y, x)[0]])
        assert_close(found[0], np.full([1, WIDE], max(value, 0)), 1e-6, abs(value))
        assert_close(found[1], np.full([1, WIDE], value > 0, np.float32), 1e-6, 1.0)
