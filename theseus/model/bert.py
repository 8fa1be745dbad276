"""BERT: embeddings, an encoder that is a list of modules, pooler and classifier.

It follows google-research/bert, modeling.py (Apache-2.0), with its variable names, so that every
TF1 BERT checkpoint loads. A module of the encoder is a function `(hidden, attention_bias) ->
hidden`; in a plain BERT each layer is one.

Shapes: B batch, T sequence length, N attention heads, D size of a head, H hidden size (N * D), M
modules. Inside the encoder `hidden` is [B * T, H], float32 or bfloat16; all operations keep its
dtype. `attention_bias` is float32 [B, 1, 1, T].
"""

import functools
import math

import tensorflow.compat.v1 as tf

from theseus.model import operations
from theseus.model.layers import (
    add_and_norm,
    dense,
    dropout,
    get_activation,
    graph_seed,
    normal_variable,
)
from theseus.model.random_key import RandomKey


class BertModel(object):
    """A BERT whose encoder is a list of modules.

    Without `modules` it is google-research/bert's BertModel. In training, dropout masks are
    drawn with `random_key`.
    """

    def __init__(
        self,
        config,
        is_training,
        input_ids,
        input_mask=None,
        token_type_ids=None,
        use_one_hot_embeddings=False,
        scope=None,
        modules=None,
        random_key=None,
        precision="float32",
    ):
        """Builds the graph; existing variables are reused if `scope` is given.

        Args:
          config: a BertConfig.
          is_training: bool, whether there is dropout.
          input_ids: int32 [B, T].
          input_mask: int32 [B, T], 1 for a token and 0 for padding; None: all are tokens.
          token_type_ids: int32 [B, T], 0 for the first text, 1 for the second; None: all 0.
          use_one_hot_embeddings: bool, whether words are looked up by a product with one-hot
            vectors, which gives the same result.
          scope: name of the variable scope; None: "bert" or, if that is taken, "bert_1" and so on.
          modules: list of functions (hidden, attention_bias) -> hidden; None: one for each layer
            of the config.
          random_key: a RandomKey; None: the graph's seed and its global step.
          precision: "float32", or "bfloat16" for the encoder's products and activations.

        Raises:
          ValueError: the config is invalid, see `BertConfig.validate`.
        """
        config.validate()
        random_key = _dropout_key(is_training, random_key)
        input_mask = tf.ones_like(input_ids) if input_mask is None else input_mask
        if token_type_ids is None:
            token_type_ids = tf.zeros_like(input_ids)
        if modules is None:
            modules = _layers_as_modules(config, random_key)
        self._input_ids = input_ids
        with tf.variable_scope(scope, "bert", reuse=tf.AUTO_REUSE if scope else None):
            with tf.variable_scope("embeddings"):
                self.embedding_table, hidden = _embeddings(
                    input_ids, token_type_ids, config, random_key, use_one_hot_embeddings
                )
            self.embedding_output = _to_3d(hidden, input_ids)
            self._build_encoder(tf.cast(hidden, tf.as_dtype(precision)), input_mask, modules)
            with tf.variable_scope("pooler"):
                pooled = dense(self.sequence_output[:, 0], config.hidden_size, config, "dense")
                self.pooled_output = tf.tanh(pooled)

    def _build_encoder(self, hidden, input_mask, modules):
        with tf.variable_scope("encoder"):
            self._layers = transformer_model(
                hidden, create_attention_bias(input_mask), modules, do_return_all_layers=True
            )
        self.sequence_output = self._to_output(self._layers[-1])

    def get_pooled_output(self):
        """Returns float32 [B, H]: the first token's vector through a tanh layer."""
        return self.pooled_output

    def get_sequence_output(self):
        """Returns float32 [B, T, H]: the encoder's output."""
        return self.sequence_output

    @property
    def all_encoder_layers(self):
        """List of float32 [B, T, H], one for each module; without `modules`, for each layer."""
        return [self._to_output(hidden) for hidden in self._layers[:-1]] + [self.sequence_output]

    def get_all_encoder_layers(self):
        """Returns `all_encoder_layers`, the last of which is the encoder's output."""
        return self.all_encoder_layers

    def _to_output(self, hidden):
        return _to_3d(tf.cast(hidden, tf.float32), self._input_ids)

    def get_embedding_output(self):
        """Returns float32 [B, T, H]: the encoder's input."""
        return self.embedding_output

    def get_embedding_table(self):
        """Returns the word embeddings, a float32 variable [vocab_size, H]."""
        return self.embedding_table


def _dropout_key(is_training, random_key):
    """Returns the RandomKey for dropout; None if there is no dropout."""
    if not is_training:
        return None
    return random_key or RandomKey(graph_seed(), tf.train.get_or_create_global_step())


def _layers_as_modules(config, random_key):
    names = ["layer_%d" % number for number in range(config.num_hidden_layers)]
    return [layer_module(name, config, random_key) for name in names]


def layer_module(name, config, random_key=None):
    """Returns the layer of that name in the encoder as a module."""
    return functools.partial(transformer_layer, config=config, random_key=random_key, scope=name)


# --- The encoder ---


def transformer_model(hidden, attention_bias, modules, do_return_all_layers=False):
    """Runs the encoder: one module after the other.

    Args:
      hidden: float32 [B * T, H], the embeddings.
      attention_bias: float32 [B, 1, 1, T], as from `create_attention_bias`.
      modules: list of M modules, functions (hidden, attention_bias) -> hidden.
      do_return_all_layers: bool, whether to return the output of every module.

    Returns:
      float32 [B * T, H], or a list of M of these.
    """
    outputs = []
    for module in modules:
        hidden = module(hidden, attention_bias)
        outputs.append(hidden)
    return outputs if do_return_all_layers else hidden


def transformer_layer(hidden, attention_bias, config, random_key, scope):
    """One layer: self-attention, then a feed-forward network, each added and normed.

    Source: google-research/bert, modeling.transformer_model.

    Args:
      hidden: float32 [B * T, H].
      attention_bias: float32 [B, 1, 1, T].
      config: a BertConfig.
      random_key: a RandomKey for training; None: no dropout.
      scope: name of the layer's variable scope.

    Returns:
      float32 [B * T, H].
    """
    with tf.variable_scope(scope):
        with tf.variable_scope("attention"):
            with tf.variable_scope("self"):
                context = _self_attention(hidden, attention_bias, config, random_key)
            with tf.variable_scope("output"):
                hidden = _add_and_norm(context, hidden, config, random_key)
        with tf.variable_scope("intermediate"):
            activation = get_activation(config.hidden_act, random_key is not None)
            intermediate = activation(dense(hidden, config.intermediate_size, config, "dense"))
        with tf.variable_scope("output"):
            return _add_and_norm(intermediate, hidden, config, random_key)


def _self_attention(hidden, attention_bias, config, random_key):
    """softmax(Q K^T / sqrt(D) + bias) V, for [B * T, H] -> [B * T, H]."""
    batch_size, seq_length = tf.shape(attention_bias)[0], tf.shape(attention_bias)[3]
    num_heads = config.num_attention_heads
    head_size = config.hidden_size // num_heads

    def heads(name):
        projected = dense(hidden, config.hidden_size, config, name)
        split = tf.reshape(projected, [batch_size, seq_length, num_heads, head_size])
        return tf.transpose(split, [0, 2, 1, 3])  # [B, N, T, D]

    query, key, value = heads("query"), heads("key"), heads("value")
    scores = tf.matmul(query, key, transpose_b=True)  # [B, N, T, T]
    softmax = operations.trained_softmax if random_key else operations.softmax
    probs = softmax(scores, 1.0 / math.sqrt(head_size), attention_bias)
    probs = dropout(probs, config.attention_probs_dropout_prob, random_key)
    context = tf.transpose(tf.matmul(probs, value), [0, 2, 1, 3])
    return tf.reshape(context, [-1, config.hidden_size])


def _add_and_norm(update, hidden, config, random_key):
    """LayerNorm(hidden + dropout(dense(update)))."""
    update = dense(update, config.hidden_size, config, "dense")
    return add_and_norm(hidden, update, config.hidden_dropout_prob, random_key)


def _embeddings(input_ids, token_type_ids, config, random_key, by_one_hot):
    """Returns (table of word embeddings, embeddings of the input, float32 [B * T, H])."""

    def table(name, size):
        return normal_variable(name, [size, config.hidden_size], config)

    word_table = table("word_embeddings", config.vocab_size)
    if by_one_hot:
        words = tf.tensordot(tf.one_hot(input_ids, config.vocab_size), word_table, 1)
    else:  # Gather from a value: gathering from the variable would copy it at every read.
        words = tf.gather(tf.convert_to_tensor(word_table), input_ids)
    token_types = tf.one_hot(tf.reshape(token_type_ids, [-1]), config.type_vocab_size)
    token_types = tf.matmul(token_types, table("token_type_embeddings", config.type_vocab_size))
    positions = table("position_embeddings", config.max_position_embeddings)
    positions = tf.slice(positions, [0, 0], [tf.shape(input_ids)[1], -1])
    hidden = tf.reshape(words + positions, [-1, config.hidden_size])
    hidden = add_and_norm(hidden, token_types, 0.0, random_key)
    return word_table, dropout(hidden, config.hidden_dropout_prob, random_key)


def create_attention_bias(input_mask):
    """Returns float32 [B, 1, 1, T]: 0 at tokens, -10000 at padding, for int32 [B, T].

    Source: google-research/bert, modeling.attention_layer. After the softmax, padding
    has a probability of exactly 0.
    """
    return (1.0 - tf.cast(input_mask[:, tf.newaxis, tf.newaxis, :], tf.float32)) * -10000.0


def _to_3d(hidden, input_ids):
    """[B * T, H] -> [B, T, H]."""
    shape = tf.shape(input_ids)
    return tf.reshape(hidden, [shape[0], shape[1], hidden.shape.as_list()[-1]])


# --- The classifier ---

FEATURES = ("input_ids", "input_mask", "segment_ids")
"""The names of the classifier's inputs."""


def feature_placeholders():
    """Returns the classifier's inputs by name: int32 placeholders, each [B, T]."""
    return {name: tf.placeholder(tf.int32, [None, None], name=name) for name in FEATURES}


def feed_features(placeholders, arrays):
    """Returns a feed dict from the placeholders of `feature_placeholders` to arrays by name."""
    return {placeholder: arrays[name] for name, placeholder in placeholders.items()}


def classifier_logits(
    features, config, num_labels, modules=None, random_key=None, precision="float32"
):
    """The logits of a BERT and a linear layer over its pooled output.

    Source: google-research/bert, run_classifier.create_model, with its variable names.

    Args:
      features: dict of int32 [B, T] tensors: input_ids, input_mask, segment_ids.
      config: a BertConfig.
      num_labels: int; 1 for regression, whose logit is the number itself.
      modules, random_key: see `BertModel`; with a key there is dropout.
      precision: see `BertModel`; the pooler and the classifier are float32.

    Returns:
      logits, float32 [B, num_labels].
    """
    model = BertModel(
        config,
        is_training=random_key is not None,
        input_ids=features["input_ids"],
        input_mask=features["input_mask"],
        token_type_ids=features["segment_ids"],
        scope="bert",
        modules=modules,
        random_key=random_key,
        precision=precision,
    )
    with tf.variable_scope("", reuse=tf.AUTO_REUSE):
        weights = normal_variable("output_weights", [num_labels, config.hidden_size], config)
        bias = tf.get_variable("output_bias", [num_labels], initializer=tf.zeros_initializer())
    with tf.variable_scope("loss"):
        pooled = dropout(model.get_pooled_output(), config.hidden_dropout_prob, random_key)
    return tf.nn.bias_add(tf.matmul(pooled, weights, transpose_b=True), bias)
