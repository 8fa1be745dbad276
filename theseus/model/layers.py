"""What a layer of BERT is made of: products, dropout, normalization, and their variables."""

import re

import tensorflow.compat.v1 as tf

from theseus.model import operations
from theseus.model.bert_config import LAYER_NORM_EPSILON, check_activation
from theseus.model.random_key import RandomKey, outside_xla

_ACTIVATIONS = {
    "gelu_tanh": operations.gelu_tanh,
    "gelu_erf": operations.gelu_erf,
    "relu": tf.nn.relu,
    "tanh": tf.tanh,
    "linear": tf.identity,
}
_TRAINED_ACTIVATIONS = {
    "gelu_tanh": operations.trained_gelu_tanh,
    "gelu_erf": operations.trained_gelu_erf,
}


def dropout(tensor, rate, random_key):
    """Zeroes elements of `tensor` with probability `rate`, and scales the others.

    The mask belongs to `random_key` and to the current variable scope, so that a layer
    has the same one on whichever path it is reached.

    Args:
      tensor: float32, any shape.
      rate: float in [0, 1).
      random_key: a RandomKey; None returns `tensor` as it is.
    """
    keep_mask = draw_keep_mask(tensor, rate, random_key)
    return tensor if keep_mask is None else operations.dropout(tensor, keep_mask, rate)


def draw_keep_mask(tensor, rate, random_key):
    """Draws which elements of `tensor` dropout leaves, a bool of its shape; None: all."""
    if random_key is None or not rate:
        return None
    key = random_key.at(tf.get_variable_scope().name + "/dropout")
    # An element takes 16 random bits: the rate is rounded to a multiple of 1 / 65536.
    shape = tf.shape(tensor)
    size = tf.reduce_prod(shape)
    with outside_xla():
        pairs = tf.random.stateless_uniform(
            [(size + 1) // 2], key, minval=-(2**31), maxval=2**31 - 1, dtype=tf.int32
        )
    numbers = tf.reshape(tf.bitcast(pairs, tf.int16), [-1])[:size]
    return tf.reshape(numbers >= int(round(rate * (1 << 16))) - (1 << 15), shape)


def get_activation(name, is_training=False):
    """Returns the activation function of that resolved name; ValueError if unknown."""
    check_activation(name)
    return _TRAINED_ACTIVATIONS.get(name, _ACTIVATIONS[name]) if is_training else _ACTIVATIONS[name]


def dense(tensor, units, config, name):
    """A linear layer: tensor @ kernel + bias, for [X, Y] -> [X, units], in the tensor's dtype."""
    with tf.variable_scope(name):
        kernel = normal_variable("kernel", [tensor.shape.as_list()[-1], units], config)
        bias = tf.get_variable("bias", [units], initializer=tf.zeros_initializer())
        kernel, bias = tf.cast(kernel, tensor.dtype), tf.cast(bias, tensor.dtype)
        return tf.nn.bias_add(tf.matmul(tensor, kernel), bias)


def kernels_kept_in(precision):
    """Returns a scope in which the encoder's kernels are variables of `precision`, a str.

    For inference in bfloat16: in float32 each of them would be converted for every batch.
    """

    def custom_getter(getter, name, *args, **kwargs):
        if re.search(r"^bert/encoder/.*/kernel$", name):
            kwargs["dtype"] = tf.as_dtype(precision)
        return getter(name, *args, **kwargs)

    return tf.variable_scope("", custom_getter=custom_getter)


def layer_norm(tensor):
    """Layer normalization over the last axis, epsilon as in BERT (1e-12)."""
    return operations.layer_norm(tensor, *norm_variables(tensor), epsilon=LAYER_NORM_EPSILON)


def add_and_norm(hidden, update, dropout_rate, random_key):
    """layer_norm(hidden + dropout(update)), for two [X, H]; for training, in one operation."""
    if random_key is None:
        return layer_norm(hidden + update)
    keep_mask = draw_keep_mask(update, dropout_rate, random_key)
    return operations.trained_add_and_norm(
        update, hidden, keep_mask, dropout_rate, *norm_variables(hidden), epsilon=LAYER_NORM_EPSILON
    )


def norm_variables(tensor):
    """Returns (gamma, beta) of the layer normalization of `tensor`."""
    with tf.variable_scope("LayerNorm"):
        size = tensor.shape.as_list()[-1]
        beta = tf.get_variable("beta", [size], initializer=tf.zeros_initializer())
        gamma = tf.get_variable("gamma", [size], initializer=tf.ones_initializer())
    return gamma, beta


def normal_variable(name, shape, config):
    """A float32 variable, by default truncated normal from the graph's seed and its name."""
    key = RandomKey(graph_seed(), 0)
    place = "%s/%s" % (tf.get_variable_scope().name, name)

    def initializer(shape, dtype, partition_info=None):
        with outside_xla():
            return tf.random.stateless_truncated_normal(
                shape, seed=key.at(place), stddev=config.initializer_range, dtype=dtype
            )

    return tf.get_variable(name, shape, initializer=initializer)


def graph_seed():
    return tf.get_default_graph().seed or 0
