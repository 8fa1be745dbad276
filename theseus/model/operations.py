"""What a BERT layer does between its products, in two forms.

For inference, an operation is its formula. Shapes then vary freely, and TensorFlow draws what
it can into the products before it.

For training, its gradient is written out: differentiated by TensorFlow, the same formulas pass
over memory two to three times as often and make a graph several times as large, since each of
their sums and products has to undo a broadcast that it might have made. Over wide tensors value and
gradient are compiled besides: XLA makes one loop of each, for every shape that occurs, where
TensorFlow has it (not 1.15).

A tensor's dtype, float32 or bfloat16, says how a layer keeps its values; inside an operation
they are float32, but for `dropout`.
"""

import functools
import itertools
import math

import tensorflow.compat.v1 as tf

_TANH_GELU_SLOPE = 2.0 * math.sqrt(2.0 / math.pi)
_TANH_GELU_CUBE = 0.044715 * _TANH_GELU_SLOPE


WIDE = 768
"""From this width on it pays to compile and to rewrite graphs, which takes tenths of a second and
seconds: narrower tensors stay in the processor's cache, and gain nothing by fewer passes."""


def _compiled(function):
    """Decorates a function of tensors: XLA makes one loop over memory of it, where that pays.

    The first argument's last axis, static, is the width that decides.
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
    """Decorates a function of tensors that returns its value and its gradient's function.

    As tf.custom_gradient, which also looks for variables that the function might use, and for
    that leaves an operation in the graph that nothing needs.

    Args:
      function: from tensors to (tensor, function from that tensor's gradient to the gradient of
        each argument, one tensor or a tuple).
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
    # TensorFlow 2.21 makes it a part of the product before it in this order alone.
    cubic = wide + 0.044715 * (wide * wide * wide)
    return tf.cast(0.5 * wide * (1.0 + tf.tanh(math.sqrt(2.0 / math.pi) * cubic)), x.dtype)


def gelu_erf(x):
    """x Phi(x), for a tensor of any shape; Phi is the normal distribution's.

    Source: Hendrycks & Gimpel, arXiv 1606.08415, section 2, the definition.
    """
    # In this form, and without a cast, TensorFlow makes it a part of the product before it.
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
    # 0.5 (1 + tanh(y)) is sigmoid(2 y), which takes fewer passes.
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
      keep_mask: bool [X, H], the elements of `update` that dropout leaves; None: all.
      rate: float in [0, 1), the probability that dropout takes one.
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

    The gradients are two functions, since XLA makes a slow loop of both in one: what they share
    it writes down in float32.
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
    """What dropout multiplies with: 0, or 1 / (1 - rate) where `keep_mask` holds."""
    return tf.cast(keep_mask, tf.float32) * (1.0 / (1.0 - rate))


def dropout(x, keep_mask, rate):
    """x where the bool `keep_mask` of its shape holds, divided by 1 - rate; else 0.

    For bfloat16 the factor is rounded to it, by 0.16 % at a rate of 0.1: a product in float32
    takes half as long again.

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
