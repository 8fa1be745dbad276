"""What a BERT layer does between its products, each operation with its gradient written out.

Differentiated by TensorFlow, the same formulas pass over memory two to three times as often
and make a graph several times as large, since each of their sums and products has to undo a
broadcast that it might have made. The operations over the widest tensors are compiled besides:
XLA makes one loop of each, for every shape that occurs, where TensorFlow has it (not 1.15).

A tensor's dtype, float32 or bfloat16, says how a layer keeps its values; inside an operation
they are float32.

A graph that leaves this program, or meets ever new shapes, is built inside `plain()`: there each
operation is its textbook formula, out of TensorFlow's own operations alone.
"""

import contextlib
import contextvars
import functools
import math

import tensorflow.compat.v1 as tf

_TANH_GELU_SLOPE = 2.0 * math.sqrt(2.0 / math.pi)
_TANH_GELU_CUBE = 0.044715 * _TANH_GELU_SLOPE


_IS_PLAIN = contextvars.ContextVar("is_plain", default=False)


@contextlib.contextmanager
def plain():
    """Inside, this thread's graphs get plain formulas: for inference, on any runtime.

    They are written as the rewriters of TensorFlow (oneDNN) and of ONNX runtimes know them,
    need no compilation for a new shape, and leave their gradients to TensorFlow.
    """
    token = _IS_PLAIN.set(True)
    try:
        yield
    finally:
        _IS_PLAIN.reset(token)


def _with_plain_form(formula):
    """Decorates an operation: inside `plain()` it is `formula`, a function of the same inputs."""

    def decorate(operation):
        @functools.wraps(operation)
        def call(*inputs):
            return (formula if _IS_PLAIN.get() else operation)(*inputs)

        return call

    return decorate


def compiled(function):
    """Decorates a function of tensors: XLA makes one loop over memory of it, where it can."""
    if tf.__version__.startswith("1."):
        return function
    return tf.function(function, jit_compile=True, autograph=False)


def _float(tensor):
    return tf.cast(tensor, tf.float32)


# --- GELU ---


def _plain_gelu_tanh(x):
    dtype, x = x.dtype, _float(x)
    # In another order of the same products TensorFlow 2.21 does not make it part of the matmul.
    cubic = x + 0.044715 * (x * x * x)
    return tf.cast(0.5 * x * (1.0 + tf.tanh(math.sqrt(2.0 / math.pi) * cubic)), dtype)


def _plain_gelu_erf(x):
    dtype, x = x.dtype, _float(x)
    return tf.cast(0.5 * x * (1.0 + tf.erf(x * math.sqrt(0.5))), dtype)


@_with_plain_form(_plain_gelu_tanh)
@tf.custom_gradient
def gelu_tanh(x):
    """0.5 x (1 + tanh(sqrt(2 / pi) (x + 0.044715 x^3))), for a tensor of any shape.

    Source: Hendrycks & Gimpel, arXiv 1606.08415, section 2, the approximation; computed
    as x sigmoid(2 sqrt(2 / pi) (x + 0.044715 x^3)), which is the same.
    """
    return _gelu_tanh(x), lambda dy: _gelu_tanh_gradient(x, dy)


@compiled
def _gelu_tanh(x):
    gate = _float(x)
    gate = tf.sigmoid(gate * (tf.square(gate) * _TANH_GELU_CUBE + _TANH_GELU_SLOPE))
    return tf.cast(_float(x) * gate, x.dtype)


@compiled
def _gelu_tanh_gradient(x, dy):
    dtype, x, dy = x.dtype, _float(x), _float(dy)
    square = tf.square(x)
    gate = tf.sigmoid(x * (square * _TANH_GELU_CUBE + _TANH_GELU_SLOPE))
    slope = square * (3.0 * _TANH_GELU_CUBE) + _TANH_GELU_SLOPE
    return tf.cast(dy * gate * (1.0 + x * (1.0 - gate) * slope), dtype)


@_with_plain_form(_plain_gelu_erf)
@tf.custom_gradient
def gelu_erf(x):
    """x Phi(x), for a tensor of any shape; Phi is the normal distribution's.

    Source: Hendrycks & Gimpel, arXiv 1606.08415, section 2, the definition.
    """
    return _gelu_erf(x), lambda dy: _gelu_erf_gradient(x, dy)


def _phi(x):
    return 0.5 * tf.erf(x * math.sqrt(0.5)) + 0.5


@compiled
def _gelu_erf(x):
    return tf.cast(_float(x) * _phi(_float(x)), x.dtype)


@compiled
def _gelu_erf_gradient(x, dy):
    dtype, x, dy = x.dtype, _float(x), _float(dy)
    density = tf.exp(-0.5 * tf.square(x)) * (1.0 / math.sqrt(2.0 * math.pi))
    return tf.cast(dy * (_phi(x) + x * density), dtype)


# --- Layer normalization ---


def _plain_add_and_norm(update, hidden, kept, rate, gamma, beta, epsilon):
    if kept is not None:
        update = dropout(update, kept, rate)
    total = _float(hidden) + _float(update)
    mean, variance = tf.nn.moments(total, axes=[-1], keep_dims=True)
    normalized = tf.nn.batch_normalization(total, mean, variance, beta, gamma, epsilon)
    return tf.cast(normalized, hidden.dtype)


@_with_plain_form(_plain_add_and_norm)
def add_and_norm(update, hidden, kept, rate, gamma, beta, epsilon):
    """LayerNorm(hidden + dropout(update)) over the last axis.

    Source: Ba et al., arXiv 1607.06450, section 3.

    Args:
      update, hidden: float32 or bfloat16 [X, H].
      kept: bool [X, H], the elements of `update` that dropout leaves; None: all.
      rate: float in [0, 1), the probability that dropout takes one.
      gamma, beta: float32 [H].
      epsilon: float, added to the variance.

    Returns:
      [X, H] of the dtype of `hidden`.
    """
    forward, backward = _add_and_norm_functions(rate, epsilon)

    @tf.custom_gradient
    def function(update, hidden, gamma, beta):
        mask = () if kept is None else (kept,)
        y, mean, scale = forward(update, hidden, gamma, beta, *mask)
        return y, lambda dy: backward(dy, update, hidden, gamma, mean, scale, *mask)

    return function(update, hidden, gamma, beta)


@functools.lru_cache(maxsize=None)
def _add_and_norm_functions(rate, epsilon):
    """Returns (forward, backward) of `add_and_norm`."""

    def drop(update, mask):
        return update * _factor(mask[0], rate) if mask else update

    @compiled
    def forward(update, hidden, gamma, beta, *mask):
        total = _float(hidden) + drop(_float(update), mask)
        mean = _row_mean(total)
        centered = total - mean
        scale = tf.rsqrt(_row_mean(tf.square(centered)) + epsilon)
        return tf.cast(centered * scale * gamma + beta, hidden.dtype), mean, scale

    @compiled
    def backward(dy, update, hidden, gamma, mean, scale, *mask):
        dtypes, dy = (update.dtype, hidden.dtype), _float(dy)
        normalized = (_float(hidden) + drop(_float(update), mask) - mean) * scale
        dn = dy * gamma
        dx = (dn - _row_mean(dn) - normalized * _row_mean(dn * normalized)) * scale
        return (
            tf.cast(drop(dx, mask), dtypes[0]),
            tf.cast(dx, dtypes[1]),
            tf.reduce_sum(dy * normalized, 0),
            tf.reduce_sum(dy, 0),
        )

    return forward, backward


def _row_mean(x):
    return tf.reduce_mean(x, axis=-1, keepdims=True)


# --- Dropout and softmax ---


def _factor(kept, rate):
    """What dropout multiplies with: 0, or 1 / (1 - rate) where `kept` holds."""
    # Not a product, which TensorFlow may draw into the next one where it is part of a graph.
    factor = tf.fill(tf.shape(kept), 1.0 / (1.0 - rate))
    return tf.where(kept, factor, tf.zeros_like(factor))


def _plain_dropout(x, kept, rate):
    return x * tf.cast(_factor(kept, rate), x.dtype)


@_with_plain_form(_plain_dropout)
def dropout(x, kept, rate):
    """x where the bool `kept` of its shape holds, divided by 1 - rate; else 0.

    Source: Srivastava et al., JMLR 15 (2014), section 10, the inverted form.
    """

    @tf.custom_gradient
    def function(x):
        factor = tf.cast(_factor(kept, rate), x.dtype)
        return x * factor, lambda dy: dy * factor

    return function(x)


def _plain_softmax(scores, factor, bias):
    return tf.cast(tf.nn.softmax(_float(scores) * factor + bias), scores.dtype)


@_with_plain_form(_plain_softmax)
def softmax(scores, factor, bias):
    """softmax(factor * scores + bias) over the last axis.

    Args:
      scores: float32 or bfloat16 [B, N, T, T].
      factor: float.
      bias: float32 [B, 1, 1, T], a constant.

    Returns:
      [B, N, T, T] of the dtype of `scores`.
    """

    @tf.custom_gradient
    def function(scores):
        probs = tf.nn.softmax(_float(scores) * factor + bias)

        def gradient(dy):
            dy = _float(dy)
            mean = tf.reduce_sum(dy * probs, axis=-1, keepdims=True)
            return tf.cast((dy - mean) * probs * factor, scores.dtype)

        return tf.cast(probs, scores.dtype), gradient

    return function(scores)
