"""Writes a stage's evaluated model, without its predecessor, in the formats of other programs.

bert          bert_config.json and bert_model.ckpt, for any TF1 BERT code
huggingface   config.json, model.safetensors and tokenizer.json, for transformers
saved_model   a SavedModel, for tf.saved_model.load and TensorFlow Serving
onnx          model.onnx, for ONNX runtimes, with config.json and tokenizer.json, for optimum;
              onnx_int8: the same after int8 quantization, see quantization.py

Each folder also has vocab.txt and export.json, which a caller needs beside the model. The model is
a plain BERT: its layers are named `bert/encoder/layer_%d`, its config has their number, and the
optimizer's variables are left out.

A graph takes int32 [B, T] `input_ids`, `input_mask` and `segment_ids`; in ONNX int64 arrays with
the names of transformers' tokenizers. It returns `logits` and `probabilities`, float32 [B, L], and
`label`, int32 [B], an index into export.json's `labels`. For regression it returns `logits`,
float32 [B, 1], and `score`, float32 [B].

A format's packages are imported when they are used: the program runs without them.
"""

import collections
import contextlib
import copy
import importlib.util
import io
import json
import logging as python_logging
import os
import shutil

import numpy as np
import tensorflow.compat.v1 as tf
from absl import logging

import modeling_theseus
from theseus import stage as stages
from theseus.checkpoints import hugging_face, pretrained
from theseus.checkpoints import weights as weights_lib
from theseus.errors import first_line
from theseus.export import hugging_face_tokenizer, read_back
from theseus.inference import evaluation
from theseus.inputs import tasks, tokenizer_settings, unknown_words
from theseus.model.bert_config import LAYER_NORM_EPSILON
from theseus.quiet import quiet_tensorflow
from theseus.session import new_session

# A version that runtimes have supported for years; the graph needs at least 13.
_ONNX_OPSET = 17
# More than the rows of any table.
_FAR = np.int64(1 << 31)

TOKENIZER = "tokenizer.json"

PlainClassifier = collections.namedtuple(
    "PlainClassifier", "config weights task vocab_file run_config best temperature"
)
"""A stage's evaluated model as a plain BERT with a classifier.

Fields:
  config: modeling_theseus.BertConfig, with the model's own number of layers.
  weights: OrderedDict from name, as in google-research/bert, to float32 array.
  task: the tasks.Task that it was trained on.
  vocab_file: path of vocab.txt.
  run_config: dict, as from `exported_run_config`.
  best: the state.Checkpoint that the weights come from.
  temperature: float, by which the logits were divided; it is part of the weights already.
"""


# --- The model ---


def exported_run_config(run_config, mask):
    """Returns the dict that defines an exported model: its run config and its mixture.

    Args:
      run_config: dict, as from StageFolder.trained_run_config.
      mask: see TrainedModel.
    """
    return dict(run_config, replaced_modules=stages.digits(mask)) if mask else run_config


def plain_classifier(trained):
    """Returns the PlainClassifier of a TrainedModel in float32."""
    recorded = exported_run_config(trained.run_config, trained.mask)
    config = copy.copy(trained.model.config)
    config.num_hidden_layers = len(trained.layers)
    variables = sorted(trained.graph.variables, key=lambda variable: variable.op.name)
    names = [modeling_theseus.plain_name(v.op.name, trained.layers) for v in variables]
    weights = collections.OrderedDict(zip(names, trained.session.run(variables)))
    return PlainClassifier(
        config,
        weights,
        tasks.recorded(recorded),
        trained.model.vocab_file,
        recorded,
        trained.best,
        trained.temperature,
    )


@contextlib.contextmanager
def plain_session(config, weights):
    """Yields (session, EvaluationGraph) of a plain BERT, built of operations that runtimes know.

    Args:
      config: modeling_theseus.BertConfig.
      weights: mapping from variable name to array.
    """
    with new_session(grappler=True) as session:
        graph = evaluation.build_graph(config, len(weights["output_bias"]))
        weights_lib.load(session, graph.variables, weights)
        yield session, graph


# --- bert ---


def write_bert(plain, path):
    config = plain.config.to_dict()
    if config["hidden_act"] == "gelu_tanh":
        config["hidden_act"] = "gelu"  # In google-research/bert this means the tanh form.
    elif config["hidden_act"] == "gelu_erf":
        logging.warning(
            "bert: hidden_act is gelu_erf, which this program reads but google-research/bert "
            "does not, since its gelu is the tanh form"
        )
    write_json(path, "bert_config.json", config)
    settings = tokenizer_settings.recorded(plain.run_config)
    if settings.to_record():
        write_json(path, "tokenizer_config.json", hugging_face_tokenizer.bert_config(settings))
        logging.warning(
            "bert: google-research/bert's tokenizer has no strip_accents, "
            "tokenize_chinese_chars or added tokens, so its tokens differ from this model's; "
            "transformers and this program read these settings from tokenizer_config.json"
        )
    with plain_session(plain.config, plain.weights) as (session, graph):
        saver = tf.train.Saver(graph.variables)
        prefix = os.path.join(path, "bert_model.ckpt")
        saver.save(session, prefix, write_meta_graph=False, write_state=False)


# --- huggingface ---

_HUGGING_FACE_ACTIVATIONS = {"gelu_tanh": "gelu_new", "gelu_erf": "gelu"}


def write_hugging_face(plain, path):
    import safetensors.numpy

    arrays = {}
    for name, array in plain.weights.items():
        there, is_transposed = hugging_face.to_hugging_face(name)
        # safetensors writes an array's memory as it is, so a transposed view would come out wrong.
        arrays[there] = np.ascontiguousarray(array.T if is_transposed else array)
    file = os.path.join(path, "model.safetensors")
    try:
        safetensors.numpy.save_file(arrays, file, metadata={"format": "pt"})
    except safetensors.SafetensorError as error:  # Also raised if the disk is full.
        raise OSError(first_line(error))
    _write_config_and_tokenizer(plain, path)
    # Without this only its owner could read the file.
    shutil.copymode(os.path.join(path, "config.json"), file)


def _write_config_and_tokenizer(plain, path):
    """Writes the files that transformers and optimum read beside a model."""
    write_json(path, "config.json", _hugging_face_config(plain))
    tokenizer, length = _tokenizer(plain), plain.run_config["max_seq_length"]
    # With a line for each token the file would be larger than a small model.
    write_text(path, TOKENIZER, json.dumps(hugging_face_tokenizer.tokenizer_json(tokenizer)))
    config = hugging_face_tokenizer.tokenizer_config(tokenizer, length)
    write_json(path, "tokenizer_config.json", config)


def _hugging_face_config(plain):
    config = plain.config.to_dict()
    activation = config["hidden_act"]
    labels = plain.task.labels or ("LABEL_0",)  # transformers' name for a number.
    config.update(
        architectures=["BertForSequenceClassification"],
        model_type="bert",
        hidden_act=_HUGGING_FACE_ACTIVATIONS.get(activation, activation),
        id2label={str(index): label for index, label in enumerate(labels)},
        label2id={label: index for index, label in enumerate(labels)},
        layer_norm_eps=LAYER_NORM_EPSILON,
        pad_token_id=0,
    )
    if plain.task.is_regression:
        config["problem_type"] = "regression"
    return config


def _tokenizer(plain):
    return pretrained.read_tokenizer(
        plain.vocab_file, tokenizer_settings.recorded(plain.run_config)
    )


def check_hugging_face_tokens(plain, path, pairs):
    """Compares an export's tokens with the program's; logs pairs that are truncated differently.

    Args:
      plain: the PlainClassifier.
      path: folder of the export.
      pairs: list of (text, text) or (text, None), from dev.

    Raises:
      UserError: the tokens differ.
    """
    length = plain.run_config["max_seq_length"]
    count, cut_otherwise = hugging_face_tokenizer.check_tokens(
        path, _tokenizer(plain), pairs, length
    )
    logging.info("%s: the tokens of %d texts or pairs were compared", TOKENIZER, count)
    if cut_otherwise:
        logging.warning(
            "%s: transformers truncates some pairs differently: if --max_seq_length is even, "
            "both texts are cut and the first is not the longer one, it keeps one token more "
            "of the second and one fewer of the first: %d of the %d of dev, such as %s",
            TOKENIZER,
            len(cut_otherwise),
            len(pairs),
            " / ".join('"%s"' % unknown_words.shown(text, 60) for text in cut_otherwise[-1]),
        )


def read_hugging_face(path, open_session):
    """Reads the model with transformers if that is installed, else with this program."""
    if not all(map(importlib.util.find_spec, ["torch", "transformers"])):
        logging.info(
            "huggingface: torch and transformers are not installed, so its weights were "
            "checked only with this program's graph"
        )
        return read_back.read_plain(path, open_session)
    import torch
    import transformers

    transformers.utils.logging.disable_progress_bar()
    model = transformers.AutoModelForSequenceClassification.from_pretrained(path).eval()

    def run(arrays):
        named = read_back.as_hugging_face(arrays)
        tensors = {name: torch.tensor(array) for name, array in named.items()}
        with torch.no_grad():
            return model(**tensors).logits.numpy()

    return run


# --- saved_model ---


def _outputs(graph, task):
    """Adds the outputs for other programs to an EvaluationGraph; returns the tensors by name."""
    logits = tf.identity(graph.logits, "logits")
    if task.is_regression:
        return dict(logits=logits, score=tf.squeeze(logits, 1, "score"))
    return dict(
        logits=logits,
        probabilities=tf.nn.softmax(logits, name="probabilities"),
        label=tf.argmax(logits, axis=-1, output_type=tf.int32, name="label"),
    )


def write_saved_model(plain, path):
    with plain_session(plain.config, plain.weights) as (session, graph):
        signature = tf.saved_model.predict_signature_def(
            graph.features, _outputs(graph, plain.task)
        )
        builder = tf.saved_model.Builder(path)
        builder.add_meta_graph_and_variables(
            session,
            [tf.saved_model.SERVING],
            signature_def_map={tf.saved_model.DEFAULT_SERVING_SIGNATURE_DEF_KEY: signature},
            # An older TensorFlow refuses unknown attributes, even with their default values.
            strip_default_attrs=True,
        )
        builder.save()


# --- onnx ---


def write_onnx(plain, path, change=lambda model: None):
    """Writes the model and the files beside it; `change` alters the ModelProto in place."""
    import onnx
    import tf2onnx

    python_logging.getLogger("tf2onnx").setLevel(python_logging.ERROR)
    graph_def, inputs, outputs = _graph_without_weights(plain)
    with quiet_tensorflow():  # TensorFlow's optimizer reports the devices that it looks for.
        model, _ = tf2onnx.convert.from_graph_def(
            graph_def,
            name="classifier",
            input_names=list(inputs),
            output_names=list(outputs),
            tensors_to_rename=dict(inputs, **outputs),
            opset=_ONNX_OPSET,
        )
    _fill_in(model, plain.weights)
    _name_axes(model)
    change(model)
    onnx.checker.check_model(model, full_check=True)
    onnx.save(model, os.path.join(path, "model.onnx"))
    _write_config_and_tokenizer(plain, path)


def write_onnx_int8(plain, path):
    from theseus.export import quantization

    write_onnx(plain, path, quantization.quantize)


def _graph_without_weights(plain):
    """Returns a PlainClassifier's graph in which the weights are inputs, as the features are.

    tf2onnx makes a dozen copies of a graph's constants and keeps them: BERT-base took more than
    20 GB.

    Returns:
      (GraphDef, mapping from an input's tensor to its name, and the same for the outputs).
    """
    with tf.Graph().as_default() as tf_graph:
        weights = {
            name: tf.placeholder(tf.float32, array.shape, "weights/" + name)
            for name, array in plain.weights.items()
        }
        tokens = {
            name: tf.placeholder(tf.int64, [None, None], name)
            for name in read_back.HUGGING_FACE_NAMES.values()
        }
        features = _refusing_features(tokens, plain.config)
        num_outputs = len(plain.weights["output_bias"])
        graph = evaluation.build_graph(plain.config, num_outputs, given=weights, features=features)
        inputs = dict(tokens, **weights)
        outputs = _outputs(graph, plain.task)
        return tf_graph.as_graph_def(), _names_by_tensor(inputs), _names_by_tensor(outputs)


def _refusing_features(tokens, config):
    """Returns a graph's features from int64 tensors; with them ONNX runtimes refuse invalid ids.

    ONNX's Gather refuses ids beyond its table but reads -1 as the last row; OneHot accepts all.

    Args:
      tokens: dict from the names in read_back.HUGGING_FACE_NAMES to tensors.
      config: modeling_theseus.BertConfig.
    """
    features = {ours: tokens[theirs] for ours, theirs in read_back.HUGGING_FACE_NAMES.items()}
    for name in ("input_ids", "segment_ids"):
        ids = features[name]
        features[name] = ids + tf.minimum(ids, np.int64(0)) * _FAR
    segments = np.arange(config.type_vocab_size, dtype=np.int64)
    features["segment_ids"] = tf.gather(segments, features["segment_ids"], name="token_types")
    return features


def _names_by_tensor(tensors):
    return {tensor.name: name for name, tensor in tensors.items()}


def _fill_in(model, weights):
    """Turns the inputs of an ONNX model for which `weights` has an array into constants."""
    from onnx import numpy_helper

    kept = [tensor for tensor in model.graph.input if tensor.name not in weights]
    del model.graph.input[:]
    model.graph.input.extend(kept)
    constants = [numpy_helper.from_array(array, name) for name, array in weights.items()]
    model.graph.initializer.extend(constants)


def _name_axes(model):
    """Names the free axes of an ONNX model's inputs and outputs: batch and length."""
    for tensor in list(model.graph.input) + list(model.graph.output):
        for axis, name in zip(tensor.type.tensor_type.shape.dim, ("batch", "length")):
            if not axis.dim_value:
                axis.dim_param = name


# --- Files ---


def write_json(path, name, value):
    write_text(path, name, json.dumps(value, indent=2, sort_keys=True, ensure_ascii=False))


def write_text(path, name, text):
    """Writes a text and a line end to a file of a folder."""
    with io.open(os.path.join(path, name), "w", encoding="utf-8", newline="\n") as writer:
        writer.write(text + "\n")
