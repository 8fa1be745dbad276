"""Reads the shape of a BERT from bert_config.json or Hugging Face's config.json.

Without TensorFlow.
"""

import copy
import inspect
import json
import os

from theseus import records
from theseus.errors import UserError

ACTIVATIONS = ("gelu_erf", "gelu_tanh", "linear", "relu", "tanh")
"""The resolved names of activation functions; `layers` has the functions."""
TANH_GELUS = ("gelu", "gelu_new", "gelu_pytorch_tanh")
"""The names of gelu_tanh in configs."""
# Source: google-research/bert, modeling.layer_norm, which uses tf.contrib's default.
LAYER_NORM_EPSILON = 1e-12

# The largest plausible sizes; above them the config is considered wrong.
_SIZES = {
    "vocab_size": 1 << 24,
    "hidden_size": 1 << 16,
    "num_hidden_layers": 1 << 10,
    "num_attention_heads": 1 << 16,
    "intermediate_size": 1 << 20,
    "max_position_embeddings": 1 << 20,
    "type_vocab_size": 1 << 16,
}
# Defaults of a Hugging Face config that differ from google-research/bert's. Source: transformers,
# BertConfig.
_HUGGING_FACE_DEFAULTS = {"vocab_size": 30522, "hidden_act": "gelu", "type_vocab_size": 2}
# Options of Hugging Face's config.json with the only value that this graph supports.
_ONLY = {
    "model_type": "bert",
    "position_embedding_type": "absolute",
    "is_decoder": False,
    "layer_norm_eps": LAYER_NORM_EPSILON,
}


class BertConfig(object):
    """The shape of a BERT, as bert_config.json gives it.

    The attributes are those of google-research/bert's BertConfig. `hidden_act` is stored as a
    resolved name, one of `ACTIVATIONS`. "gelu" means the tanh form, as in google-research/bert; in
    Hugging Face's config.json, which `from_dict` recognizes, it means the erf form.
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
        """Stores the values unchecked; `validate` checks them when a model is built."""
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
        """Raises ValueError if a size is not a positive integer, or values do not fit together."""
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
            raise ValueError(
                "initializer_range = %r is not in [0, 1e6)" % (self.initializer_range,)
            )
        if self.hidden_size % self.num_attention_heads:
            raise ValueError(
                "hidden_size = %d is not a multiple of num_attention_heads = %d"
                % (self.hidden_size, self.num_attention_heads)
            )
        check_activation(self.hidden_act)

    @classmethod
    def from_dict(cls, json_object):
        """Builds a config from a bert_config.json or Hugging Face's config.json.

        Unknown keys are ignored; missing ones get the default of google-research/bert, or of
        Hugging Face. Raises ValueError if a bert_config.json has no vocab_size, the config
        describes another architecture, or `validate` refuses it.
        """
        values = {}
        if isinstance(json_object, dict):
            _check_other_architecture(json_object)
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
        """Reads a config; raises UserError, which names the file, if that fails."""
        try:
            values = records.read(json_file, records.mapping(records.anything))
            is_hugging_face = os.path.basename(json_file) == "config.json"
            if is_hugging_face and "architectures" not in values:
                values.setdefault("model_type", "bert")  # The oldest files lack it.
            return cls.from_dict(values)
        except ValueError as error:
            raise UserError("%s: cannot read the BERT config: %s" % (json_file, error))

    def to_dict(self):
        """Returns the attributes as a dict."""
        return copy.deepcopy(self.__dict__)

    def to_json_string(self):
        """Returns the attributes as indented JSON."""
        return json.dumps(self.to_dict(), indent=2, sort_keys=True) + "\n"


def check_activation(name):
    """Raises ValueError if a name is not in `ACTIVATIONS`."""
    if not isinstance(name, str) or name not in ACTIVATIONS:
        known = ", ".join(sorted(set(ACTIVATIONS).union(TANH_GELUS)))
        raise ValueError("hidden_act = %s is not one of %s" % (name, known))


def _is_number(value):
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _check_other_architecture(values):
    """Raises ValueError if a Hugging Face config describes another graph than BERT's."""
    architectures = values.get("architectures") or ["Bert"]
    if not isinstance(architectures, list) or not isinstance(architectures[0], str):
        raise ValueError("architectures = %s is not a list of names" % ascii(architectures)[:40])
    if "model_type" not in values and not architectures[0].startswith("Bert"):
        raise ValueError("architectures = %s; give a BERT" % architectures[0])
    for key, only in _ONLY.items():
        if values.get(key) not in (None, only):
            raise ValueError("%s = %s; give a BERT with %s" % (key, values[key], only))
