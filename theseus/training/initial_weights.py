"""The initial weights of a training: finds, checks, logs and loads them."""

import collections

import tensorflow.compat.v1 as tf
from absl import logging

import modeling_theseus
from theseus.checkpoints import head
from theseus.checkpoints import weights as weights_lib
from theseus.errors import UserError

InitialWeights = collections.namedtuple(
    "InitialWeights",
    "source match successor_source successor_match classifier",
    defaults=(None, None, head.Rows()),
)
"""Weights that were matched with the variables of a graph.

Fields:
  source: as weights.open_weights returns them.
  match: their weights.Match with the graph.
  successor_source, successor_match: the same for the successor's layers if they are copied from
    another BERT; otherwise None.
  classifier: the head.Rows of the weights' classifier that the task uses.
"""


def match_start(train_scope, start, graph_variables):
    """Matches the weights that training starts from with the graph.

    Args:
      train_scope: str, resolved.
      start: a commands.initial_checkpoint.InitialCheckpoint; `weights`, `successor_weights`,
        `successor_start` and `classifier` are read.
      graph_variables: list of tf.Variable.

    Returns:
      InitialWeights.

    Raises:
      UserError: they do not match, see `match_weights`; or a weight of the small BERT that the
        successor's layers are copied from is missing or has another shape.
    """
    small, of_small = start.successor_weights, None
    if small is not None:
        layers = modeling_theseus.trained_variables("successor_layers", graph_variables)
        sources = modeling_theseus.assign_sources([v.op.name for v in layers], small)
        of_small = weights_lib.match(layers, small, sources)
        graph_variables = [v for v in graph_variables if v.op.name not in of_small.sources]
    match = match_weights(
        train_scope,
        start.weights,
        graph_variables,
        start.successor_start,
        takes_classifier=start.classifier.order is not None,
    )
    return InitialWeights(start.weights, match, small, of_small, start.classifier)


def check_fits(initial):
    """Raises UserError if one of the InitialWeights has a value that no weight can have."""
    weights_lib.check_unfit_values(initial.match, initial.source)
    if initial.successor_match is not None:
        weights_lib.check_unfit_values(initial.successor_match, initial.successor_source)


def start(initial, session, workers, is_new=True):
    """Initializes the variables of the default graph; a new training gets the InitialWeights.

    If there are several workers, all load the InitialWeights, even if the chief resumes a training:
    all of them must run the same operations, since they wait for one another.
    """
    session.run([variable.initializer for variable in tf.local_variables()])
    if is_new or workers.count > 1:
        load(initial, session)


def load(initial, session):
    """Loads the InitialWeights into all variables of the default graph, and logs them."""
    sources = initial.match.sources
    logging.info("%s", weights_lib.report(initial.match, initial.source))
    if initial.classifier.note:
        level = logging.INFO if initial.classifier.is_sure else logging.WARNING
        logging.log(level, "%s", initial.classifier.note)
    started = modeling_theseus.successor_layers_started(sources)
    if started:
        pairs = ", ".join("%d from %d" % pair for pair in started)
        logging.info("successor layers start from predecessor layers: %s", pairs)
    weights_lib.load(session, tf.global_variables(), initial.source, sources)
    if initial.successor_source is not None:
        report = weights_lib.report(initial.successor_match, initial.successor_source)
        logging.info("the successor's layers: %s", report)
        sources = initial.successor_match.sources
        variables = [v for v in tf.global_variables() if v.op.name in sources]
        weights_lib.load(session, variables, initial.successor_source, sources)


def match_weights(
    train_scope, source, graph_variables, successor_start=None, takes_classifier=True
):
    """Matches the starting weights with the graph.

    Args:
      train_scope: str, see config.Method.
      source: as weights.open_weights returns them.
      graph_variables: list of tf.Variable.
      successor_start: see modeling_theseus.assign_sources.
      takes_classifier: bool, whether the weights' classifier is used, if they have one.

    Returns:
      A weights.Match.

    Raises:
      UserError: see weights.match; or the weights are those of a successor of another depth; or the
        classifier would stay random since only the successor's layers train.
    """
    names = [v.op.name for v in graph_variables]
    depth, found = modeling_theseus.successor_depth(names), modeling_theseus.successor_depth(source)
    if depth and found not in (0, depth):  # Each layer was trained to replace another module.
        raise UserError(
            "--suc_layers: %s holds a successor of %d layers, this command has %d; start from its "
            "predecessor, or give --suc_layers=%d" % (source.prefix, found, depth, found)
        )
    sources = modeling_theseus.assign_sources(names, source, successor_start)
    is_untrained = "output_weights" not in sources
    for name in () if takes_classifier else head.CLASSIFIER:
        sources.pop(name, None)
    match = weights_lib.match(graph_variables, source, sources)
    if train_scope == "successor_layers" and is_untrained:
        raise UserError(
            "--train_scope=successor_layers: %s holds no trained classifier, and a new one "
            "would not be trained; set --init_checkpoint to a fine-tuned predecessor, such as "
            "the output folder of --finetune_pre" % source.prefix
        )
    return match
