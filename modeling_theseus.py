"""BERT's graph, cut into modules that a successor's layers can replace.

BERT-of-Theseus (arXiv 2002.02925) groups the layers of a fine-tuned BERT, the
predecessor, into modules. While training, each module is replaced at random by one
layer of the successor; at last the successor's layers alone are the encoder.

A module is a function `(hidden, attention_bias) -> hidden`. The predecessor's, the
successor's and the mixed encoder are the same loop over such functions; which
function stands at which place is the *path*, a bool for each module.

BERT itself follows google-research/bert, modeling.py (Apache-2.0), with its variable
names, so that every TF1 BERT checkpoint loads.

Shapes: B batch, T sequence length, N attention heads, D size of a head, H hidden size
(N * D), M modules. Inside the encoder `hidden` is [B * T, H], float32 or bfloat16,
as was asked for, whose dtype every operation follows; `attention_bias` is float32
[B, 1, 1, T].
"""

import collections
import copy
import functools
import inspect
import json
import math
import os

import tensorflow.compat.v1 as tf

from theseus import records
from theseus.errors import UserError
from theseus.model import operations, variable_names
from theseus.model.layers import (
    LAYER_NORM_EPSILON,
    TANH_GELUS,
    add_and_norm,
    dense,
    dropout,
    get_activation,
    graph_seed,
    normal_variable,
)
from theseus.model.random_key import RandomKey

# The largest that is still taken for meant.
_SIZES = {
    "vocab_size": 1 << 24,
    "hidden_size": 1 << 16,
    "num_hidden_layers": 1 << 10,
    "num_attention_heads": 1 << 16,
    "intermediate_size": 1 << 20,
    "max_position_embeddings": 1 << 20,
    "type_vocab_size": 1 << 16,
}
# What a Hugging Face config means by what it does not say, where that is another default than
# google-research/bert's. Source: transformers, BertConfig.
_HUGGING_FACE_DEFAULTS = {"vocab_size": 30522, "hidden_act": "gelu", "type_vocab_size": 2}
# What Hugging Face's config.json can ask for, and the one value that this graph has.
_ONLY = {
    "model_type": "bert",
    "position_embedding_type": "absolute",
    "is_decoder": False,
    "layer_norm_eps": LAYER_NORM_EPSILON,
}


class BertConfig(object):
    """The shape of a BERT, as bert_config.json gives it.

    Attributes are those of google-research/bert's BertConfig. `hidden_act` is kept in
    its resolved form, one of `ACTIVATIONS`: "gelu" means the tanh form, as there;
    `from_dict` knows Hugging Face's config.json, in which "gelu" means the erf form.
    """

    def __init__(
        self,
        vocab_size,
        hidden_size=768,
        num_hidden_layers=12,
        num_attention_heads=12,
        intermediate_size=3072,
        hidden_act="gelu",
        hidden_dropout_prob=0.1,
        attention_probs_dropout_prob=0.1,
        max_position_embeddings=512,
        type_vocab_size=16,
        initializer_range=0.02,
    ):
        """Keeps the values as they are; `validate` checks them, when a model is built."""
        self.vocab_size = vocab_size
        self.hidden_size = hidden_size
        self.num_hidden_layers = num_hidden_layers
        self.num_attention_heads = num_attention_heads
        self.intermediate_size = intermediate_size
        self.hidden_act = "gelu_tanh" if hidden_act in TANH_GELUS else hidden_act
        self.hidden_dropout_prob = hidden_dropout_prob
        self.attention_probs_dropout_prob = attention_probs_dropout_prob
        self.max_position_embeddings = max_position_embeddings
        self.type_vocab_size = type_vocab_size
        self.initializer_range = initializer_range

    def validate(self):
        """Raises ValueError where a size is not a positive integer, or values do not fit."""
        for name, largest in _SIZES.items():
            size = getattr(self, name)
            if not isinstance(size, int) or isinstance(size, bool) or size < 1:
                raise ValueError("%s = %r is not a positive integer" % (name, size))
            if size > largest:
                raise ValueError("%s = %.6g is larger than %d" % (name, size, largest))
        for rate in (self.hidden_dropout_prob, self.attention_probs_dropout_prob):
            if not _is_number(rate) or not 0 <= rate < 1:
                raise ValueError("a dropout probability of %r is not in [0, 1)" % (rate,))
        if not _is_number(self.initializer_range) or not 0 <= self.initializer_range < 1e6:
            raise ValueError("initializer_range = %r is no size" % (self.initializer_range,))
        if self.hidden_size % self.num_attention_heads:
            raise ValueError(
                "hidden_size = %d is not a multiple of num_attention_heads = %d"
                % (self.hidden_size, self.num_attention_heads)
            )
        get_activation(self.hidden_act)

    @classmethod
    def from_dict(cls, json_object):
        """Builds a config from a bert_config.json or Hugging Face's config.json.

        Keys that BertConfig does not know are left out; what is not said is the default of
        google-research/bert, or of Hugging Face. Raises ValueError where a bert_config.json has
        no vocab_size, the config is another architecture's, or `validate` refuses it.
        """
        values = {}
        if isinstance(json_object, dict):
            _refuse_other_architecture(json_object)
            from_hugging_face = "model_type" in json_object or "architectures" in json_object
            values = dict(_HUGGING_FACE_DEFAULTS if from_hugging_face else {}, **json_object)
        if "vocab_size" not in values:
            raise ValueError("vocab_size is missing")
        known = inspect.signature(cls).parameters
        values = {key: values[key] for key in known if key in values}
        if from_hugging_face and values["hidden_act"] == "gelu":
            values["hidden_act"] = "gelu_erf"
        config = cls(**values)
        config.validate()
        return config

    @classmethod
    def from_json_file(cls, json_file):
        """Reads a config; raises UserError, naming the file, where that fails."""
        try:
            values = records.read(json_file, records.mapping(records.anything))
            is_hugging_face = os.path.basename(json_file) == "config.json"
            if is_hugging_face and "architectures" not in values:
                values.setdefault("model_type", "bert")  # The oldest do not say it.
            return cls.from_dict(values)
        except ValueError as error:
            raise UserError("%s: cannot read the BERT config: %s" % (json_file, error))

    def to_dict(self):
        """Returns the attributes as a dict."""
        return copy.deepcopy(self.__dict__)

    def to_json_string(self):
        """Returns the attributes as indented JSON."""
        return json.dumps(self.to_dict(), indent=2, sort_keys=True) + "\n"


def _is_number(value):
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _refuse_other_architecture(values):
    """Raises ValueError where a config of Hugging Face's asks for another graph than BERT's."""
    architectures = values.get("architectures") or ["Bert"]
    if not isinstance(architectures, list) or not isinstance(architectures[0], str):
        raise ValueError("architectures = %s is no list of names" % ascii(architectures)[:40])
    if "model_type" not in values and not architectures[0].startswith("Bert"):
        raise ValueError("architectures = %s: only BERT's can be used" % architectures[0])
    for key, only in _ONLY.items():
        if values.get(key) not in (None, only):
            raise ValueError("%s = %s: only %s can be used" % (key, values[key], only))


class BertModel(object):
    """A BERT whose encoder is a list of modules.

    Without `modules` it is google-research/bert's BertModel. For training, the dropout's
    masks are drawn from `random_key`.
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
        """Builds the graph; variables that exist in a scope given by name are used again.

        Args:
          config: a BertConfig.
          is_training: bool, whether there is dropout.
          input_ids: int32 [B, T].
          input_mask: int32 [B, T], 1 for a token and 0 for padding; None: all are tokens.
          token_type_ids: int32 [B, T], 0 for the first text, 1 for the second; None: all 0.
          use_one_hot_embeddings: bool, whether words are looked up by a product with one-hot
            vectors, which has the same result.
          scope: name of the variable scope; None: "bert", or the next one free, "bert_1".
          modules: as from `encoder_modules`; None: each layer of the config is one.
          random_key: a RandomKey; None: the graph's seed and its global step.
          precision: "float32"; or "bfloat16" for products and values of the encoder.

        Raises:
          ValueError: the config is invalid, see `BertConfig.validate`.
        """
        config.validate()
        random_key = _dropout_key(is_training, random_key)
        if input_mask is None:
            input_mask = tf.ones_like(input_ids)
        if token_type_ids is None:
            token_type_ids = tf.zeros_like(input_ids)
        if modules is None:
            modules = _one_module_a_layer(config, random_key)
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
            self._layers = transformer_model_theseus(
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
    """Returns the RandomKey that dropout draws from; None: there is no dropout."""
    if not is_training:
        return None
    return random_key or RandomKey(graph_seed(), tf.train.get_or_create_global_step())


def _one_module_a_layer(config, random_key):
    numbers = [[number] for number in range(config.num_hidden_layers)]
    return encoder_modules(config, numbers, [False] * len(numbers), random_key)


# --- Modules and the path through them ---


def draw_path(seed, step, replacing_rate, num_modules):
    """Draws which modules are replaced in a step, each one independently.

    Source: BERT-of-Theseus, section 3.1, eq. 1: r_{i+1} ~ Bernoulli(p).

    Args:
      seed: int in [0, 2**31).
      step: number of updates done, int64 scalar.
      replacing_rate: float32 scalar in [0, 1], the probability p.
      num_modules: int.

    Returns:
      bool [M].
    """
    key = RandomKey(seed, step).at("path")
    return tf.random.stateless_uniform([num_modules], seed=key) < replacing_rate


def encoder_modules(config, groups, path, random_key=None):
    """Returns the modules of an encoder, each replaced or not.

    Source: BERT-of-Theseus, section 3.1, eq. 2: y_{i+1} is r * scc_i(y_i) +
    (1 - r) * prd_i(y_i); here only the chosen one is computed.

    Args:
      config: a BertConfig.
      groups: list of lists of the predecessor's layers, one list a module.
      path: bool tensor [M], or a list of M Python bools; where a list is given only
        the chosen layers, and their variables, enter the graph.
      random_key: a RandomKey for training; None: no dropout.

    Returns:
      List of M modules, functions (hidden, attention_bias) -> hidden.
    """

    def layer(name):
        return functools.partial(
            transformer_layer, config=config, random_key=random_key, scope=name
        )

    replaced = path if isinstance(path, list) else tf.unstack(path, num=len(groups))
    return [
        replaceable(
            predecessor=sequential([layer("layer_%d" % number) for number in group]),
            successor=layer("suc_layer_%d" % index),
            replaced=replaced[index],
        )
        for index, group in enumerate(groups)
    ]


def transformer_model_theseus(hidden, attention_bias, modules, do_return_all_layers=False):
    """Runs the encoder: one module after the other.

    Args:
      hidden: float32 [B * T, H], the embeddings.
      attention_bias: float32 [B, 1, 1, T], as from `create_attention_bias`.
      modules: list of M modules, as from `encoder_modules`.
      do_return_all_layers: bool, whether to return the output of every module.

    Returns:
      float32 [B * T, H], or a list of M of these.
    """
    outputs = []
    for module in modules:
        hidden = module(hidden, attention_bias)
        outputs.append(hidden)
    return outputs if do_return_all_layers else hidden


def sequential(modules):
    """Returns the module that runs `modules` one after the other."""

    def module(hidden, attention_bias):
        for inner in modules:
            hidden = inner(hidden, attention_bias)
        return hidden

    return module


def replaceable(predecessor, successor, replaced):
    """Returns the module that is `successor` where `replaced` holds, else `predecessor`.

    Args:
      predecessor: a module.
      successor: a module.
      replaced: bool scalar tensor, or a Python bool, which chooses at once.
    """
    if isinstance(replaced, bool):
        return successor if replaced else predecessor

    def module(hidden, attention_bias):
        # Both are called inside tf.cond: what is made outside of it runs in any case.
        return tf.cond(
            replaced,
            lambda: successor(hidden, attention_bias),
            lambda: predecessor(hidden, attention_bias),
        )

    return module


# --- One layer of BERT ---


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
    """Returns the table of word embeddings and the embeddings, float32 [B * T, H]."""

    def table(name, size):
        return normal_variable(name, [size, config.hidden_size], config)

    word_table = table("word_embeddings", config.vocab_size)
    if by_one_hot:
        words = tf.tensordot(tf.one_hot(input_ids, config.vocab_size), word_table, 1)
    else:  # From a value, since gathering from a variable makes TensorFlow copy it at every read.
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
      modules, random_key: see `BertModel`; there is dropout where there is a key.
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


# --- Checkpoints ---


def get_assignment_map_from_checkpoint(tvars, init_checkpoint):
    """Maps a checkpoint's weights to the variables of the same name.

    Source: google-research/bert, modeling.get_assignment_map_from_checkpoint.

    Args:
      tvars: list of tf.Variable.
      init_checkpoint: prefix of a TF1 checkpoint.

    Returns:
      (assignment_map, initialized_variable_names): the first, for
      tf.train.init_from_checkpoint, maps names in the checkpoint to names of variables;
      the second maps each filled variable's name, with and without ":0", to 1.
    """
    in_checkpoint = {name for name, _ in tf.train.list_variables(init_checkpoint)}
    filled = [v.op.name for v in tvars if v.op.name in in_checkpoint]
    return collections.OrderedDict((name, name) for name in filled), _initialized_names(filled)


def get_assignment_map_from_checkpoint_for_theseus(tvars, init_checkpoint, successor_start=None):
    """Maps one checkpoint's weights to the predecessor and to the successor.

    Source: the published project, modeling_theseus.

    Args:
      tvars: list of tf.Variable.
      init_checkpoint: prefix of a TF1 checkpoint.
      successor_start: see variable_names.assign_sources.

    Returns:
      (assignment_map, suc_assignment_map, initialized_variable_names); the maps are as in
      `get_assignment_map_from_checkpoint`, one to be given to
      tf.train.init_from_checkpoint after the other: the first for all but the
      successor's layers, the second for these.
    """
    in_checkpoint = {name for name, _ in tf.train.list_variables(init_checkpoint)}
    names = [v.op.name for v in tvars]
    sources = variable_names.assign_sources(names, in_checkpoint, successor_start)
    assignment_map, suc_assignment_map = collections.OrderedDict(), collections.OrderedDict()
    for name, source in sources.items():
        is_successor = variable_names.is_of_successor(name)
        (suc_assignment_map if is_successor else assignment_map)[source] = name
    return assignment_map, suc_assignment_map, _initialized_names(sources)


def _initialized_names(names):
    return {form: 1 for name in names for form in (name, name + ":0")}
