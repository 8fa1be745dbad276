"""A stage's best model, ready to compute: its graph with its weights, and its tokenizer."""

import collections
import contextlib
import os

import tensorflow.compat.v1 as tf

import modeling_theseus
import tokenization
from theseus import stage as stages
from theseus.checkpoints import pretrained
from theseus.checkpoints import weights as weights_lib
from theseus.errors import UserError
from theseus.inference import evaluation
from theseus.inputs import tasks
from theseus.model.layers import kernels_kept_in
from theseus.runs.files import hash_text
from theseus.runs.stage_folder import StageFolder
from theseus.session import check_precision, new_session

TrainedModel = collections.namedtuple("TrainedModel", "session graph tokenizer layers path")
"""A model that is ready to be used.

Fields:
  session: a tf.Session that holds the weights.
  graph: an evaluation.EvaluationGraph.
  tokenizer: a tokenization.FullTokenizer.
  layers: list of str, the names of its layers, from the lowest.
  path: list of bool, whether each module is replaced, where it is another path than the stage is
    evaluated on; else None.
"""


_Source = collections.namedtuple("_Source", "weights recorded model groups")
"""What a StageFolder's model is built from.

Fields:
  weights: CheckpointWeights of its best checkpoint.
  recorded: dict, what defines its run.
  model: a pretrained.Model.
  groups: list of lists of the predecessor's layers, one list a module.
"""


@contextlib.contextmanager
def load(folder, precision=None, path=None):
    """Yields the TrainedModel of a StageFolder's best checkpoint.

    Args:
      folder: a StageFolder.
      precision: "float32" or "bfloat16"; None: that of its training.
      path: list of bool, whether each module of stage 1 is replaced; None: as it is evaluated.

    Raises:
      UserError: the folder holds no trained model, or a damaged one, or none with that path.
    """
    with new_session(rewrites=True) as session:
        yield load_into(session, folder, precision, path)


def load_into(session, folder, precision, path=None):
    """Builds the TrainedModel of a StageFolder in the default graph, the session's; see `load`."""
    source = _read(folder)
    if path is None:
        taken = stages.of_name(source.recorded["stage"]).evaluated_path(source.groups)
    else:
        _refuse_path(source, path)
        taken = path
    graph = _build(session, source, taken, precision)
    tokenizer = pretrained.make_tokenizer(source.model, source.recorded["do_lower_case"])
    return TrainedModel(session, graph, tokenizer, stages.layers_on(source.groups, taken), path)


@contextlib.contextmanager
def load_all_paths(folder):
    """Yields (runner, groups) of a stage 1 that keeps its predecessor, in one graph.

    Args:
      folder: a StageFolder.

    Yields:
      runner: function from a path, list of bool, to what evaluation.runner returns.
      groups: list of lists of the predecessor's layers, one list a module.

    Raises:
      UserError: see `load`.
    """
    with new_session(rewrites=True) as session:
        source = _read(folder)
        _refuse_path(source, [False] * len(source.groups))
        fed = tf.placeholder(tf.bool, [len(source.groups)], "path")
        graph = _build(session, source, fed)

        def runner(path):
            def run(arrays):
                feed = modeling_theseus.feed_features(graph.features, arrays)
                feed[fed] = path
                return session.run(graph.logits, feed)

            return run

        yield runner, source.groups


def _read(folder):
    """Returns the _Source of a StageFolder."""
    weights = weights_lib.CheckpointWeights(folder.best_checkpoint())
    recorded = folder.trained_definition()
    model = pretrained.read_model(folder.path, recorded["max_seq_length"])
    _refuse_altered(recorded, model)
    depth, stage = model.config.num_hidden_layers, stages.of_name(recorded["stage"])
    groups = stage.groups(depth, recorded["suc_layers"], recorded.get("modules"))
    return _Source(weights, recorded, model, groups)


def _build(session, source, path, precision=None):
    """Returns the EvaluationGraph of a _Source on a path, with its weights in the session."""
    precision = precision or source.recorded["precision"]
    check_precision(precision)
    config, num_outputs = source.model.config, tasks.recorded(source.recorded).num_outputs
    modules = modeling_theseus.encoder_modules(config, source.groups, path)
    with kernels_kept_in(precision):
        graph = evaluation.build_graph(config, num_outputs, modules, precision)
    weights_lib.load_all(session, graph.variables, source.weights)
    return graph


def _refuse_path(source, path):
    """Raises UserError where a _Source has no such path, list of bool."""
    replaces = stages.of_name(source.recorded["stage"]).replaces
    if not replaces or len(path) != len(source.groups):
        raise UserError("--path: %s is no path of this stage" % stages.digits(path))
    if not (all(path) or source.recorded.get("keep_predecessor")):
        raise UserError(
            "--path: the predecessor is not kept here; train the stage with --keep_predecessor"
        )


def hash_vocab(model):
    """Returns the SHA-256, in hex, of the vocabulary of a pretrained.Model."""
    return hash_text(tokenization.read_vocab(model.vocab_file))


def _refuse_altered(recorded, model):
    """Raises UserError where a stage's vocabulary or config is not that of its run's definition."""
    vocab = hash_vocab(model)
    if recorded.get("vocab", vocab) != vocab:
        raise UserError("%s: is damaged: it is not what the run began with" % model.vocab_file)
    config = model.config.to_dict()
    if recorded.get("bert_config", config) != config:
        folder = os.path.dirname(model.vocab_file)
        raise UserError("%s: its bert_config.json is not what the run began with" % folder)


def trained_folder(path, expected="a stage's output folder"):
    """Returns the StageFolder at `path`; UserError, with what is `expected`, where it is none."""
    folder = StageFolder(path)
    if not folder.definition() or not folder.state().best:
        raise UserError("%s: holds no trained model; give %s" % (path, expected))
    return folder
