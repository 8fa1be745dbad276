"""An export read back: what export.json says of it, and its model, by the format's own runtime.

bert, huggingface   this program's graph of a plain BERT
saved_model         tf.saved_model.loader
onnx, onnx_int8     onnxruntime

A model is here a function from the int32 [B, T] arrays of a batch, by name, to logits, float32
[B, L]. Several threads may call it at a time.
"""

import collections
import io
import json
import os

import numpy as np
import tensorflow.compat.v1 as tf

import modeling_theseus
from theseus.checkpoints import hugging_face, pretrained
from theseus.checkpoints import weights as weights_lib
from theseus.errors import UserError, first_line
from theseus.inference import evaluation
from theseus.inputs import tasks

DESCRIPTION = "export.json"

Export = collections.namedtuple("Export", "task max_seq_length do_lower_case vocab_file run")
"""An export that is ready to be used.

Fields:
  task: the tasks.Task that it was trained on.
  max_seq_length: int; do_lower_case: bool; vocab_file: a path.
  run: the model, a function as the module's docstring says.
"""


def is_export(path):
    """Returns whether a folder says that it is an export."""
    return os.path.exists(os.path.join(path, DESCRIPTION))


def read_description(path):
    """Returns what an export's export.json holds, a dict; UserError where it cannot be read."""
    path = os.path.join(path, DESCRIPTION)
    try:
        with io.open(path, encoding="utf-8") as reader:
            recorded = json.load(reader)
    except (OSError, ValueError) as error:
        raise UserError("%s: cannot be read: %s" % (path, first_line(error)))
    if not isinstance(recorded, dict):
        raise UserError("%s: is damaged: holds no JSON object" % path)
    return recorded


def load(path, session):
    """Loads the Export of a folder into the default graph, the session's.

    Raises:
      UserError: a file is missing or damaged, or a package is not installed.
    """
    recorded = read_description(path)
    try:
        task, read = tasks.recorded(recorded), READERS[recorded["format"]]
        max_seq_length, do_lower_case = int(recorded["max_seq_length"]), recorded["do_lower_case"]
    except (KeyError, TypeError, ValueError) as error:
        place = os.path.join(path, DESCRIPTION)
        raise UserError("%s: is damaged, or of another version: %r" % (place, error))
    vocab_file = pretrained.find_vocab(path)
    run = read(path, session)
    shortest = {name: np.zeros([1, 1], np.int32) for name in modeling_theseus.FEATURES}
    num_outputs = run(shortest).shape[1]
    if num_outputs != task.num_outputs:
        raise UserError(
            "%s: its model gives %d numbers, its %s asks for %d"
            % (path, num_outputs, DESCRIPTION, task.num_outputs)
        )
    return Export(task, max_seq_length, do_lower_case, vocab_file, run)


# --- A plain BERT ---


def _read_plain(path, session):
    """Reads the weights as --bert_pretrained_model would, but all of them must be there."""
    weights = weights_lib.open_weights(weights_lib.find_checkpoint(path))
    num_outputs = weights.shapes.get("output_bias", [1])[0]
    graph = evaluation.build_graph(pretrained.read_config(path), num_outputs)
    names = [variable.op.name for variable in graph.variables]
    sources = collections.OrderedDict((name, name) for name in names if name in weights)
    absent = weights_lib.match(graph.variables, weights, sources).missing
    if absent:
        raise UserError("%s: holds no %s" % (weights.prefix, ", ".join(absent)))
    weights_lib.load(session, graph.variables, weights)
    return evaluation.runner(session, graph)


# --- Other runtimes ---


def _read_saved_model(path, session):
    try:
        loaded = tf.saved_model.loader.load(session, [tf.saved_model.SERVING], path)
        signature = loaded.signature_def[tf.saved_model.DEFAULT_SERVING_SIGNATURE_DEF_KEY]
        logits = signature.outputs["logits"].name
        inputs = {name: signature.inputs[name].name for name in modeling_theseus.FEATURES}
    except (OSError, RuntimeError, ValueError, KeyError, tf.errors.OpError) as error:
        raise UserError("%s: cannot be read as a SavedModel: %s" % (path, first_line(error)))
    return lambda arrays: session.run(logits, {inputs[name]: arrays[name] for name in inputs})


def _read_onnx(path, _):
    path = os.path.join(path, "model.onnx")
    onnxruntime = hugging_face.import_optional("onnxruntime", path, "pip install onnxruntime")
    try:
        session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    except Exception as error:  # Its own exceptions have no class of their own above them.
        raise UserError("%s: cannot be read as ONNX: %s" % (path, first_line(error)))
    return lambda arrays: session.run(["logits"], arrays)[0]


READERS = {
    "bert": _read_plain,
    "huggingface": _read_plain,
    "saved_model": _read_saved_model,
    "onnx": _read_onnx,
    "onnx_int8": _read_onnx,
}
"""For each format a function (folder, session) that returns its model.

The session's graph is the default one, and takes what a format builds in it.
"""
