"""Builds the graph for evaluating a classifier, and computes metrics over labelled examples."""

import collections
import time

import tensorflow.compat.v1 as tf
from absl import logging

import modeling_theseus
from theseus.inference import metrics, predictions

EvaluationGraph = collections.namedtuple("EvaluationGraph", "features logits variables")
"""A BERT with its classifier, without dropout.

Fields:
  features: dict of placeholders, as from modeling_theseus.feature_placeholders.
  logits: float32 [B, num_outputs].
  variables: list of the tf.Variable that the logits are computed from.
"""


def build_graph(config, num_outputs, modules=None, precision="float32", given=(), features=None):
    """Builds an EvaluationGraph in the default graph; see modeling_theseus.classifier_logits.

    Args:
      config, num_outputs, modules, precision: see there.
      given: mapping from a variable's name to the variable or tensor that replaces it.
      features: dict as from modeling_theseus.feature_placeholders; None: new ones.
    """
    features = features or modeling_theseus.feature_placeholders()
    variables = []

    def noting(getter, name, *args, **kwargs):
        used = given[name] if name in given else getter(name, *args, **kwargs)
        variables.append(used)
        return used

    with tf.variable_scope("", custom_getter=noting):
        logits = modeling_theseus.classifier_logits(
            features, config, num_outputs, modules, precision=precision
        )
    return EvaluationGraph(features, logits, variables)


def runner(session, graph):
    """Returns a function that runs an EvaluationGraph: from a batch's arrays by name to logits."""
    return lambda arrays: session.run(
        graph.logits, modeling_theseus.feed_features(graph.features, arrays)
    )


def evaluate(task, run, encoded, batch_size, name="dev"):
    """Computes a tasks.Task's metrics over labelled examples; see `warn_of_alike`.

    Args:
      task: a tasks.Task.
      run, encoded, batch_size: see predictions.compute_logits.
      name: str, the name of the examples on the progress bar and in the warning.

    Returns:
      (dict as from metrics.compute, seconds that it took).
    """
    start = time.perf_counter()
    with predictions.progress_bar(name, len(encoded)) as bar:
        logits = predictions.compute_logits(run, encoded, batch_size, bar)
    predicted = predictions.Predictions.of(task, logits)
    warn_of_alike(predicted, encoded.labels, name)
    return metrics.compute(predicted, encoded.labels), time.perf_counter() - start


def warn_of_alike(predicted, labels, name):
    """Warns if the Predictions for the file `name` are all alike although its labels are not."""
    warning = metrics.what_is_not_learned(predicted, labels)
    if warning:
        logging.warning("%s: %s", name, warning)
