"""A trained classifier, as a stage's folder holds it: its BERT, tokenizer, graph and weights."""

import collections
import contextlib
import io
import os

import tensorflow.compat.v1 as tf
from absl import logging

import evaluation
import input_pipeline
import modeling_theseus
import pretrained
import tokenization
import training
import weights as weights_lib
from errors import UserError

Model = collections.namedtuple("Model", "config vocab_file")
"""A BERT's shape and vocabulary: a modeling_theseus.BertConfig, and the path of vocab.txt,
or of a tokenizer.json in its place."""

TrainedClassifier = collections.namedtuple("TrainedClassifier", "session graph tokenizer")
"""A classifier that is ready to be used.

Fields:
  session: a tf.Session that holds the weights.
  graph: an evaluation.EvaluationGraph.
  tokenizer: a tokenization.FullTokenizer.
"""

# What Linux calls bfloat16 instructions, of x86 and of ARM.
_BFLOAT16_FEATURES = ("avx512_bf16", "amx_bf16", "avx_ne_convert", "bf16")


def set_up_tensorflow():
    """Makes TensorFlow build graphs, with resource variables, and keeps its log to errors."""
    tf.get_logger().setLevel("ERROR")
    tf.disable_v2_behavior()
    tf.enable_resource_variables()


def check_precision(precision):
    """Warns where the processor has no instructions for a precision.

    Raises:
      UserError: this TensorFlow cannot compute in it.
    """
    if precision == "bfloat16" and tf.__version__.startswith("1."):
        raise UserError(
            "--precision=bfloat16: needs TensorFlow 2, this is %s; leave it out" % tf.__version__
        )
    features = _processor_features()
    if precision == "bfloat16" and features and not features.intersection(_BFLOAT16_FEATURES):
        logging.warning(
            "--precision=bfloat16: this processor has no bfloat16 instructions; it will be slower "
            "than float32"
        )


def _processor_features():
    """Returns the names of the processor's features, a set of str; empty where not known."""
    try:
        with io.open("/proc/cpuinfo", encoding="utf-8", errors="replace") as reader:
            lines = [line.lower().split(":", 1) for line in reader if ":" in line]
    except OSError:
        return set()
    return {
        feature
        for name, values in lines
        if name.strip() in ("flags", "features")
        for feature in values.split()
    }


@contextlib.contextmanager
def load(folder, precision=None):
    """Yields the TrainedClassifier of a StageFolder's best checkpoint.

    Args:
      folder: a StageFolder.
      precision: "float32" or "bfloat16"; None: that of its training.

    Raises:
      UserError: the folder holds no trained model, or a damaged one.
    """
    weights = weights_lib.CheckpointWeights(folder.best_checkpoint())
    held = folder.definition()
    model = read_model(folder.path, held["max_seq_length"])
    groups = training.module_groups(held["stage"], model.config, held["suc_layers"])
    num_labels = len(input_pipeline.TASKS[held["task_name"]].labels)
    with new_session(rewrites=True) as session:
        path = training.evaluated_path(held["stage"], groups)
        compute_type = tf.as_dtype(precision or held["precision"])
        with modeling_theseus.kernels_kept_as(compute_type):
            graph = evaluation.build_graph(model.config, num_labels, groups, path, compute_type)
        variables = tf.trainable_variables()
        weights_lib.load(session, variables, weights, {v.op.name: v.op.name for v in variables})
        yield TrainedClassifier(session, graph, make_tokenizer(model, held["do_lower_case"]))


def read_model(folder, max_seq_length):
    """Reads the Model that a pretrained BERT's or a stage's folder holds."""
    if not os.path.isdir(folder):
        raise UserError("--bert_pretrained_model: %s is no folder" % folder)
    config = pretrained.read_config(folder)
    if max_seq_length > config.max_position_embeddings:
        raise UserError(
            "--max_seq_length=%d: %s has %d positions; give at most that"
            % (max_seq_length, folder, config.max_position_embeddings)
        )
    return Model(config, pretrained.find_vocab(folder))


def make_tokenizer(model, do_lower_case):
    """Returns the FullTokenizer of a Model; UserError where the vocabulary does not fit."""
    tokenizer = tokenization.FullTokenizer(model.vocab_file, do_lower_case)
    absent = [token for token in ("[CLS]", "[SEP]", "[UNK]") if token not in tokenizer.vocab]
    if absent:
        raise UserError("%s: holds no %s" % (model.vocab_file, ", ".join(absent)))
    if max(tokenizer.inv_vocab) >= model.config.vocab_size:
        raise UserError(
            "%s: holds %d tokens, the BERT's config says %d"
            % (model.vocab_file, max(tokenizer.inv_vocab) + 1, model.config.vocab_size)
        )
    return tokenizer


@contextlib.contextmanager
def new_session(rewrites=False):
    """A session over a new graph, which is the default one inside.

    Args:
      rewrites: bool, whether TensorFlow may rewrite the graph before it runs it. For
        inference it joins operations so. The large graph of a training gains nothing, and
        waits seconds for it; and a module's branch might be rewritten, and so rounded,
        otherwise than the same module outside of a branch.
    """
    config = tf.ConfigProto()
    config.gpu_options.allow_growth = True
    config.graph_options.rewrite_options.disable_meta_optimizer = not rewrites
    with tf.Graph().as_default(), tf.Session(config=config) as session:
        yield session
