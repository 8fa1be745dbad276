"""What a BERT layer does between its products, each operation with its gradient written out.

Differentiated by TensorFlow, the same formulas pass over memory two to three times as often
and make a graph several times as large, since each of their sums and products has to undo a
broadcast that it might have made.
"""

import math

import tensorflow.compat.v1 as tf

_TANH_GELU_SLOPE = 2.0 * math.sqrt(2.0 / math.pi)
_TANH_GELU_CUBE = 0.044715 * _TANH_GELU_SLOPE


@tf.custom_gradient
def gelu_tanh(x):
    """0.5 x (1 + tanh(sqrt(2 / pi) (x + 0.044715 x^3))), for float32 of any shape.

    Source: Hendrycks & Gimpel, arXiv 1606.08415, section 2, the approximation; computed
    as x sigmoid(2 sqrt(2 / pi) (x + 0.044715 x^3)), which is the same.
    """
    gate = tf.sigmoid(x * (tf.square(x) * _TANH_GELU_CUBE + _TANH_GELU_SLOPE))
    y = x * gate

    def gradient(dy):
        slope = tf.square(x) * (3.0 * _TANH_GELU_CUBE) + _TANH_GELU_SLOPE
        return dy * (gate + y * (1.0 - gate) * slope)

    return y, gradient


@tf.custom_gradient
def gelu_erf(x):
    """x Phi(x), for float32 of any shape; Phi is the normal distribution's.

    Source: Hendrycks & Gimpel, arXiv 1606.08415, section 2, the definition.
    """
    gate = 0.5 * tf.erf(x * math.sqrt(0.5)) + 0.5

    def gradient(dy):
        density = tf.exp(-0.5 * tf.square(x)) * (1.0 / math.sqrt(2.0 * math.pi))
        return dy * (gate + x * density)

    return x * gate, gradient


def layer_norm(x, gamma, beta, epsilon):
    """Layer normalization over the last axis.

    Source: Ba et al., arXiv 1607.06450, section 3.

    Args:
      x: float32 [X, H].
      gamma, beta: float32 [H].
      epsilon: float, added to the variance.

    Returns:
      float32 [X, H].
    """

    @tf.custom_gradient
    def function(x, gamma, beta):
        centered = x - _row_mean(x)
        scale = tf.rsqrt(_row_mean(tf.square(centered)) + epsilon)
        normalized = centered * scale

        def gradient(dy):
            dn = dy * gamma
            dx = (dn - _row_mean(dn) - normalized * _row_mean(dn * normalized)) * scale
            return dx, tf.reduce_sum(dy * normalized, 0), tf.reduce_sum(dy, 0)

        return normalized * gamma + beta, gradient

    return function(x, gamma, beta)


def _row_mean(x):
    return tf.reduce_mean(x, axis=-1, keepdims=True)


@tf.custom_gradient
def scale(x, factor):
    """x * factor, for float32 of one shape; the factor, such as a dropout's, is a constant."""
    return x * factor, lambda dy: (dy * factor, None)


@tf.custom_gradient
def add(x, y):
    """x + y, for float32 of one shape."""
    return x + y, lambda dy: (dy, dy)


def softmax(scores, factor, bias):
    """softmax(factor * scores + bias) over the last axis.

    Args:
      scores: float32 [B, N, T, T].
      factor: float.
      bias: float32 [B, 1, 1, T], a constant.

    Returns:
      float32 [B, N, T, T].
    """

    @tf.custom_gradient
    def function(scores):
        probs = tf.nn.softmax(scores * factor + bias)

        def gradient(dy):
            mean = tf.reduce_sum(dy * probs, axis=-1, keepdims=True)
            return (dy - mean) * probs * factor

        return probs, gradient

    return function(scores)
