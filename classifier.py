"""A trained classifier, as a stage's folder holds it: its BERT, tokenizer, graph and weights."""

import collections
import contextlib
import os

import tensorflow.compat.v1 as tf

import evaluation
import input_pipeline
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


def set_up_tensorflow():
    """Makes TensorFlow build graphs, with resource variables, and keeps its log to errors."""
    tf.get_logger().setLevel("ERROR")
    tf.disable_v2_behavior()
    tf.enable_resource_variables()


@contextlib.contextmanager
def load(folder):
    """Yields the TrainedClassifier of a StageFolder's best checkpoint.

    Raises:
      UserError: the folder holds no trained model, or a damaged one.
    """
    weights = weights_lib.CheckpointWeights(folder.best_checkpoint())
    held = folder.definition()
    model = read_model(folder.path, held["max_seq_length"])
    groups = training.module_groups(held["stage"], model.config, held["suc_layers"])
    num_labels = len(input_pipeline.TASKS[held["task_name"]].labels)
    with new_session() as session:
        path = training.evaluated_path(held["stage"], groups)
        graph = evaluation.build_graph(model.config, num_labels, groups, path)
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
def new_session():
    """A session over a new graph, which is the default one inside."""
    config = tf.ConfigProto()
    config.gpu_options.allow_growth = True
    if tf.__version__.startswith("1."):
        # It would rewrite sums, and so round, in a module's branch otherwise than outside of one.
        rewriting = config.graph_options.rewrite_options
        rewriting.arithmetic_optimization = rewriting.OFF
    with tf.Graph().as_default(), tf.Session(config=config) as session:
        yield session
