"""Loads a stage's best model: its graph with its weights, and its tokenizer."""

import collections
import contextlib

import numpy as np
import tensorflow.compat.v1 as tf
from absl import logging

import modeling_theseus
from theseus import records
from theseus import stage as stages
from theseus.checkpoints import head, pretrained
from theseus.checkpoints import weights as weights_lib
from theseus.errors import UserError
from theseus.inference import evaluation
from theseus.inference.model_folder import ExternalClassifier, check_altered, model_of
from theseus.inputs import tasks, tokenizer_settings
from theseus.model.layers import kernels_kept_in
from theseus.session import check_precision, new_session

TrainedModel = collections.namedtuple(
    "TrainedModel", "session graph tokenizer layers mask temperature run_config best model"
)
"""A model that is ready to be used.

Fields:
  session: a tf.Session that holds the weights.
  graph: an evaluation.EvaluationGraph.
  tokenizer: a tokenization.FullTokenizer.
  layers: list of str, the names of its layers, from the lowest.
  mask: list of bool, whether each module is replaced; None for the mixture that the stage itself
    evaluates.
  temperature: float, by which its logits are divided; 1 if it is not calibrated.
  run_config: dict, what defines its run, as from StageFolder.trained_run_config.
  best: the state.Checkpoint that its weights come from.
  model: the pretrained.Model of its folder.
"""

CALIBRATION = "calibration.json"
_CALIBRATION = records.table(
    {"temperature": records.number(1e-3, 1e3), "checkpoint": records.text()}, others=True
)


_Source = collections.namedtuple("_Source", "weights recorded model groups best")
"""The parts from which a StageFolder's model is built.

Fields:
  weights: CheckpointWeights of its best checkpoint.
  recorded: dict, what defines its run.
  model: a pretrained.Model.
  groups: list of lists of the predecessor's layers, one list a module.
  best: the state.Checkpoint.
"""


@contextlib.contextmanager
def load(folder, precision=None, mask=None, is_calibrated=True):
    """Yields the TrainedModel of a StageFolder's best checkpoint.

    Args:
      folder: a StageFolder.
      precision: "float32" or "bfloat16"; None: that of its training.
      mask: list of bool, whether each module of stage 1 is replaced; None: the mixture that the
        stage itself evaluates.
      is_calibrated: bool, whether its logits are divided by the temperature in the folder, if any.

    Raises:
      UserError: the folder holds no trained model, or a damaged one, or lacks that mixture.
    """
    with new_session(grappler=True) as session:
        yield load_into(session, folder, precision, mask, is_calibrated)


def load_into(session, folder, precision, mask=None, is_calibrated=True):
    """Builds the TrainedModel of a StageFolder in the session's graph, the default; see `load`."""
    source = _read(folder)
    if mask is None:
        taken = stages.of_name(source.recorded["stage"]).evaluated_mask(source.groups)
    else:
        _check_mask(source, mask)
        taken = mask
    graph = _build(session, source, taken, precision)
    temperature = _find_temperature(folder, source.best, mask) if is_calibrated else 1.0
    _divide_logits(session, graph, source.weights, temperature)
    settings = tokenizer_settings.recorded(source.recorded)
    tokenizer = pretrained.make_tokenizer(source.model, settings)
    layers = modeling_theseus.layer_names(source.groups, taken)
    return TrainedModel(
        session,
        graph,
        tokenizer,
        layers,
        mask,
        temperature,
        source.recorded,
        source.best,
        source.model,
    )


def _find_temperature(folder, best, mask):
    """Returns a StageFolder's temperature for its best Checkpoint; 1 if there is none."""
    if isinstance(folder, ExternalClassifier):
        return 1.0
    name = folder.file(stages.result(CALIBRATION, mask))
    recorded = records.read_if_there(name, _CALIBRATION)
    if recorded is None:
        return 1.0
    if recorded["checkpoint"] != best.checkpoint:
        logging.warning(
            "%s: belongs to another checkpoint and is not used; run --calibrate again", name
        )
        return 1.0
    return recorded["temperature"]


def _divide_logits(session, graph, weights, temperature):
    """Divides the classifier's weights, so that every export has the divided logits, too."""
    if temperature != 1:
        variables = [v for v in graph.variables if v.op.name in head.CLASSIFIER]
        divided = {name: weights[name] / np.float32(temperature) for name in head.CLASSIFIER}
        weights_lib.load(session, variables, divided)


@contextlib.contextmanager
def load_all_paths(folder):
    """Yields (runner, groups) for all mixtures of a stage 1 that kept its predecessor.

    Args:
      folder: a StageFolder.

    Yields:
      runner: function from a mask, list of bool, to a function as evaluation.runner returns it.
      groups: list of lists of the predecessor's layers, one list a module.

    Raises:
      UserError: see `load`.
    """
    with new_session(grappler=True) as session:
        source = _read(folder)
        _check_mask(source, [False] * len(source.groups))
        fed = tf.placeholder(tf.bool, [len(source.groups)], "path")
        graph = _build(session, source, fed)

        def runner(mask):
            def run(arrays):
                feed = modeling_theseus.feed_features(graph.features, arrays)
                feed[fed] = mask
                return session.run(graph.logits, feed)

            return run

        yield runner, source.groups


def _read(folder):
    """Returns the _Source of a StageFolder, or of an ExternalClassifier."""
    best, recorded = folder.sound_best(), folder.trained_run_config()
    model = model_of(folder)
    if isinstance(folder, ExternalClassifier):
        weights = folder.weights
    else:
        weights = weights_lib.CheckpointWeights(folder.file(best.checkpoint))
        check_altered(recorded, model)
    depth, stage = model.config.num_hidden_layers, stages.of_name(recorded["stage"])
    groups = modeling_theseus.module_groups(
        stage, depth, recorded["suc_layers"], recorded.get("modules")
    )
    return _Source(weights, recorded, model, groups, best)


def _build(session, source, mask, precision=None):
    """Builds the EvaluationGraph of a _Source with a mask; loads its weights into the session."""
    precision = precision or source.recorded["precision"]
    check_precision(precision)
    config, num_outputs = source.model.config, tasks.recorded(source.recorded).num_outputs
    modules = modeling_theseus.encoder_modules(config, source.groups, mask)
    with kernels_kept_in(precision):
        graph = evaluation.build_graph(config, num_outputs, modules, precision)
    weights_lib.load_all(session, graph.variables, source.weights)
    return graph


def _check_mask(source, mask):
    """Raises UserError if a _Source does not have the mixture `mask`, list of bool."""
    replaces = stages.of_name(source.recorded["stage"]).replaces
    if not replaces or len(mask) != len(source.groups):
        raise UserError(
            "--replaced_modules: %s is not a mixture of this stage" % stages.digits(mask)
        )
    if not (all(mask) or source.recorded.get("keep_predecessor")):
        raise UserError(
            "--replaced_modules: this stage did not keep the predecessor; train it with "
            "--keep_predecessor"
        )
