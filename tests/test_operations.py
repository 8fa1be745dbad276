"""The operations and their written gradients, against TensorFlow's own of the formulas."""

import math

import numpy as np
import pytest
import tensorflow.compat.v1 as tf

import operations

RANDOM = np.random.RandomState(0)
X = RANDOM.normal(0, 2, [6, 5]).astype(np.float32)
DY = RANDOM.normal(0, 1, [6, 5]).astype(np.float32)
GAMMA, BETA = RANDOM.normal(1, 0.3, [2, 5]).astype(np.float32)
SCORES = RANDOM.normal(0, 2, [2, 3, 4, 4]).astype(np.float32)
BIAS = np.float32([0, 0, 0, -1e4]).reshape([1, 1, 1, 4])


def gelu_tanh(x):
    return 0.5 * x * (1.0 + tf.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x * x * x)))


def gelu_erf(x):
    return 0.5 * x * (1.0 + tf.erf(x / math.sqrt(2.0)))


def layer_norm(x, gamma, beta):
    mean, variance = tf.nn.moments(x, axes=[-1], keep_dims=True)
    return tf.nn.batch_normalization(x, mean, variance, beta, gamma, 1e-12)


CASES = {
    "gelu_tanh": (operations.gelu_tanh, gelu_tanh, [X]),
    "gelu_erf": (operations.gelu_erf, gelu_erf, [X]),
    "layer_norm": (
        lambda x, gamma, beta: operations.layer_norm(x, gamma, beta, 1e-12),
        layer_norm,
        [X, GAMMA, BETA],
    ),
    "scale": (lambda x: operations.scale(x, DY), lambda x: x * DY, [X]),
    "add": (operations.add, lambda x, y: x + y, [X, DY]),
    "softmax": (
        lambda scores: operations.softmax(scores, 0.5, BIAS),
        lambda scores: tf.nn.softmax(scores / 2.0 + BIAS),
        [SCORES],
    ),
}


@pytest.mark.parametrize("name", sorted(CASES))
def test_value_and_gradient_are_those_of_the_formula(session, name):
    operation, formula, arrays = CASES[name]
    inputs = [tf.constant(array) for array in arrays]

    def value_and_gradients(function):
        y = function(*inputs)
        dy = np.cos(np.arange(y.shape.num_elements())).reshape(y.shape.as_list())
        return session.run([y] + tf.gradients(y, inputs, tf.constant(dy, tf.float32)))

    for one, other in zip(value_and_gradients(operation), value_and_gradients(formula)):
        np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("value", [-1e4, -40.0, 40.0, 1e4])
def test_a_gelu_of_a_large_number_is_finite(session, value):
    for function in (operations.gelu_tanh, operations.gelu_erf):
        x = tf.constant([value])
        y = function(x)
        found = session.run([y, tf.gradients(y, x)[0]])
        assert found[0] == max(value, 0) and found[1] == float(value > 0)
