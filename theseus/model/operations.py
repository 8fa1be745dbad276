"""The operations of a BERT layer between its products, each in two forms.

For inference, an operation is simply its formula. Then shapes may vary, and TensorFlow fuses it
with the product before it if possible.

For training, the gradient is written out. TensorFlow's own gradient of the same formula passes over
memory two to three times as often and makes the graph several times as large, since each sum and
product has to undo a possible broadcast. For wide tensors, value and gradient are also compiled:
XLA makes one loop of each, for every shape that occurs (not on TensorFlow 1.15, which lacks it).

A layer stores its values in the dtype of its input, float32 or bfloat16; inside an operation they
are float32, except in `dropout`.
"""

import functools
import itertools
import math

import tensorflow.compat.v1 as tf

_TANH_GELU_SLOPE = 2.0 * math.sqrt(2.0 / math.pi)
_TANH_GELU_CUBE = 0.044715 * _TANH_GELU_SLOPE


WIDE = 768
"""From this width on, compiling (tenths of a second) and rewriting graphs (seconds) pays off.
Narrower tensors stay in the processor's cache, so fewer passes over memory gain nothing."""


def _compiled(function):
    """Decorates a function of tensors: XLA makes one loop over memory of it, if that pays off.

    The width that decides is the static last axis of the first argument.
    """
    if tf.__version__.startswith("1."):
        return function
    loop = tf.function(function, jit_compile=True, autograph=False)

    @functools.wraps(function)
    def chosen(first, *others):
        is_wide = first.shape.as_list()[-1] >= WIDE
        return (loop if is_wide else function)(first, *others)

    return chosen


_gradient_numbers = itertools.count()


def _with_gradient(function):
    """Decorates a function of tensors that returns its value and the function of its gradient.

    It replaces tf.custom_gradient, which adds a useless operation to the graph when it looks for
    variables that the function might use.

    Args:
      function: takes tensors; returns (tensor, function from the gradient of that tensor to the
        gradients of the arguments, one tensor or a tuple).
    """

    @functools.wraps(function)
    def wrapped(*args):
        args = [tf.convert_to_tensor(arg) for arg in args]
        value, gradient = function(*args)
        name = "TheseusGradient%d" % next(_gradient_numbers)

        @tf.RegisterGradient(name)
        def registered(_, dy, *unused):
            found = gradient(dy)
            return [None] + list(found if isinstance(found, tuple) else [found])

        with tf.get_default_graph().gradient_override_map({"IdentityN": name}):
            return tf.identity_n([value] + args)[0]

    return wrapped


def _float(tensor):
    return tf.cast(tensor, tf.float32)


# --- GELU ---


def gelu_tanh(x):
    """0.5 x (1 + tanh(sqrt(2 / pi) (x + 0.044715 x^3))), for a tensor of any shape.

    Source: Hendrycks & Gimpel, arXiv 1606.08415, section 2, the approximation.
    """
    wide = _float(x)
    # TensorFlow 2.21 fuses it with the product before it only if it is written in this order.
    cubic = wide + 0.044715 * (wide * wide * wide)
    return tf.cast(0.5 * wide * (1.0 + tf.tanh(math.sqrt(2.0 / math.pi) * cubic)), x.dtype)


def gelu_erf(x):
    """x Phi(x), for a tensor of any shape; Phi is the normal distribution's.

    Source: Hendrycks & Gimpel, arXiv 1606.08415, section 2, the definition.
    """
    # TensorFlow fuses this form, without a cast, with the product before it.
    return 0.5 * x * (1.0 + tf.erf(x * math.sqrt(0.5)))


@_with_gradient
def trained_gelu_tanh(x):
    """`gelu_tanh`, for training."""
    return _gelu_tanh(x), lambda dy: _gelu_tanh_gradient(x, dy)


@_with_gradient
def trained_gelu_erf(x):
    """`gelu_erf`, for training."""
    return _gelu_erf(x), lambda dy: _gelu_erf_gradient(x, dy)


@_compiled
def _gelu_tanh(x):
    # 0.5 (1 + tanh(y)) equals sigmoid(2 y), which takes fewer passes over memory.
    wide = _float(x)
    gate = tf.sigmoid(wide * (tf.square(wide) * _TANH_GELU_CUBE + _TANH_GELU_SLOPE))
    return tf.cast(wide * gate, x.dtype)


@_compiled
def _gelu_erf(x):
    return tf.cast(gelu_erf(_float(x)), x.dtype)


@_compiled
def _gelu_tanh_gradient(x, dy):
    dtype, x, dy = x.dtype, _float(x), _float(dy)
    square = tf.square(x)
    gate = tf.sigmoid(x * (square * _TANH_GELU_CUBE + _TANH_GELU_SLOPE))
    slope = square * (3.0 * _TANH_GELU_CUBE) + _TANH_GELU_SLOPE
    return tf.cast(dy * gate * (1.0 + x * (1.0 - gate) * slope), dtype)


@_compiled
def _gelu_erf_gradient(x, dy):
    dtype, x, dy = x.dtype, _float(x), _float(dy)
    density = tf.exp(-0.5 * tf.square(x)) * (1.0 / math.sqrt(2.0 * math.pi))
    return tf.cast(dy * (0.5 * tf.erf(x * math.sqrt(0.5)) + 0.5 + x * density), dtype)


# --- Layer normalization ---


def layer_norm(x, gamma, beta, epsilon):
    """Layer normalization over the last axis.

    Source: Ba et al., arXiv 1607.06450, section 3.

    Args:
      x: float32 or bfloat16 [X, H].
      gamma, beta: float32 [H].
      epsilon: float, added to the variance.

    Returns:
      [X, H] of the dtype of `x`.
    """
    centered = _float(x) - _row_mean(_float(x))
    scale = tf.rsqrt(_row_mean(tf.square(centered)) + epsilon)
    return tf.cast(centered * scale * gamma + beta, x.dtype)


def trained_add_and_norm(update, hidden, keep_mask, rate, gamma, beta, epsilon):
    """layer_norm(hidden + dropout(update)), for training.

    Args:
      update, hidden: float32 or bfloat16 [X, H].
      keep_mask: bool [X, H], the elements of `update` that dropout keeps; None: all.
      rate: float in [0, 1), the probability that dropout drops one.
      gamma, beta, epsilon: see `layer_norm`.

    Returns:
      [X, H] of the dtype of `hidden`.
    """
    forward, input_gradients, norm_gradients = _add_and_norm_functions(rate, epsilon)

    @_with_gradient
    def function(update, hidden, gamma, beta):
        mask = () if keep_mask is None else (keep_mask,)
        y, normalized, scale = forward(update, hidden, gamma, beta, *mask)
        return y, lambda dy: (
            *input_gradients(dy, normalized, scale, gamma, *mask),
            *norm_gradients(dy, normalized),
        )

    return function(update, hidden, gamma, beta)


@functools.lru_cache(maxsize=None)
def _add_and_norm_functions(rate, epsilon):
    """Returns (forward, input_gradients, norm_gradients) of `trained_add_and_norm`.

    The gradients are two functions: if they were one, XLA would store the values that they share
    in float32, which makes a slow loop.
    """

    def drop(update, mask):
        return update * _factor(mask[0], rate) if mask else update

    @_compiled
    def forward(update, hidden, gamma, beta, *mask):
        total = _float(hidden) + drop(_float(update), mask)
        centered = total - _row_mean(total)
        scale = tf.rsqrt(_row_mean(tf.square(centered)) + epsilon)
        normalized = centered * scale
        dtype = hidden.dtype
        return tf.cast(normalized * gamma + beta, dtype), tf.cast(normalized, dtype), scale

    @_compiled
    def input_gradients(dy, normalized, scale, gamma, *mask):
        dtype, normalized = dy.dtype, _float(normalized)
        dn = _float(dy) * gamma
        dx = (dn - _row_mean(dn) - normalized * _row_mean(dn * normalized)) * scale
        return tf.cast(drop(dx, mask), dtype), tf.cast(dx, dtype)

    @_compiled
    def norm_gradients(dy, normalized):
        dy = _float(dy)
        return tf.reduce_sum(dy * _float(normalized), 0), tf.reduce_sum(dy, 0)

    return forward, input_gradients, norm_gradients


def _row_mean(x):
    return tf.reduce_mean(x, axis=-1, keepdims=True)


# --- Dropout and softmax ---


def _factor(keep_mask, rate):
    """Returns dropout's factor: 1 / (1 - rate) where `keep_mask` is true, else 0."""
    return tf.cast(keep_mask, tf.float32) * (1.0 / (1.0 - rate))


def dropout(x, keep_mask, rate):
    """x / (1 - rate) where the bool `keep_mask`, of the same shape, is true; else 0.

    With bfloat16 the factor is rounded to bfloat16, by 0.16 % at a rate of 0.1, since a product in
    float32 would take 50 % longer.

    Source: Srivastava et al., JMLR 15 (2014), section 10, the inverted form.
    """

    @_with_gradient
    def function(x):
        factor = tf.cast(_factor(keep_mask, rate), x.dtype)
        return x * factor, lambda dy: dy * factor

    return function(x)


def softmax(scores, factor, bias):
    """softmax(factor * scores + bias) over the last axis.

    Args:
      scores: float32 or bfloat16 [B, N, T, T].
      factor: float.
      bias: float32 [B, 1, 1, T], a constant.

    Returns:
      [B, N, T, T] of the dtype of `scores`.
    """
    return tf.cast(_float_softmax(scores, factor, bias), scores.dtype)


def trained_softmax(scores, factor, bias):
    """`softmax`, for training."""

    @_with_gradient
    def function(scores):
        probs = _float_softmax(scores, factor, bias)

        def gradient(dy):
            dy = _float(dy)
            mean = tf.reduce_sum(dy * probs, axis=-1, keepdims=True)
            return tf.cast((dy - mean) * probs * factor, scores.dtype)

        return tf.cast(probs, scores.dtype), gradient

    return function(scores)


def _float_softmax(scores, factor, bias):
    return tf.nn.softmax(_float(scores) * factor + bias)
