"""Logits over a set of examples, and what follows from them: metrics and predictions."""

import collections
import csv
import io
import time

import numpy as np
import tensorflow.compat.v1 as tf
from absl import logging
from tqdm import tqdm

import modeling_theseus
from theseus.errors import UserError
from theseus.inference import calibration, metrics
from theseus.inputs import batches

EvaluationGraph = collections.namedtuple("EvaluationGraph", "features logits variables")
"""A BERT with its classifier, without dropout.

Fields:
  features: dict of placeholders, as from modeling_theseus.feature_placeholders.
  logits: float32 [B, num_outputs].
  variables: list of the tf.Variable that the logits are computed from.
"""


def build_graph(config, num_outputs, modules=None, precision="float32", averages=()):
    """Builds an EvaluationGraph in the default graph; see modeling_theseus.classifier_logits.

    Args:
      config, num_outputs, modules, precision: see there.
      averages: mapping from a variable's name to the variable that is used in its place.
    """
    features = modeling_theseus.feature_placeholders()
    variables = []

    def noting(getter, name, *args, **kwargs):
        used = averages[name] if name in averages else getter(name, *args, **kwargs)
        variables.append(used)
        return used

    with tf.variable_scope("", custom_getter=noting):
        logits = modeling_theseus.classifier_logits(
            features, config, num_outputs, modules, precision=precision
        )
    return EvaluationGraph(features, logits, variables)


def progress_bar(description, num_examples):
    """Returns a bar on a terminal that counts examples, for `compute_logits`."""
    return tqdm(None, description, num_examples, leave=False, unit="example", disable=None)


def runner(session, graph):
    """Returns an EvaluationGraph as a function from a batch's arrays, by name, to its logits."""
    return lambda arrays: session.run(
        graph.logits, modeling_theseus.feed_features(graph.features, arrays)
    )


def compute_logits(run, encoded, batch_size, bar=None):
    """Runs a classifier over all rows.

    Args:
      run: function from a batch's arrays, as from EncodedExamples.batch, to logits, float32
        [B, num_outputs], such as `runner` returns.
      encoded: encoding.EncodedExamples, of one row or more.
      batch_size: int.
      bar: a `progress_bar`; None: there is none.

    Returns:
      float32 [rows, num_outputs], in the order of the rows.

    Raises:
      UserError: a logit is infinite or not a number.
    """
    plan = batches.plan_in_length_order(encoded.lengths, batch_size)
    parts = []
    for rows in plan:
        parts.append(run(encoded.batch(rows)))
        if bar is not None:
            bar.update(len(rows))
    logits = np.empty([len(encoded), parts[0].shape[1]], np.float32)
    logits[np.concatenate(plan)] = np.concatenate(parts)
    if not np.isfinite(logits).all():
        raise UserError("the model's logits are not finite numbers: its training has diverged")
    return logits


def evaluate(task, run, encoded, batch_size):
    """Computes a tasks.Task's metrics over dev, whose examples are encoded already.

    Args:
      task: a tasks.Task.
      run, encoded, batch_size: see `compute_logits`.

    Returns:
      (dict as from metrics.compute, seconds that it took).
    """
    start = time.perf_counter()
    with progress_bar("dev", len(encoded)) as bar:
        logits = compute_logits(run, encoded, batch_size, bar)
    if metrics.predicts_one_class(task, logits):
        label = task.labels[int(logits[0].argmax())]
        logging.warning("dev: all examples get the label %s; nothing is learned yet", label)
    return metrics.compute(task, logits, encoded.labels), time.perf_counter() - start


def write_predictions(writer, task, pools, threshold=None, abstain_below=None):
    """Writes predictions as tab-separated text with a header, as the module csv reads it.

    The columns are index (the row of a reading.Example, or else its place here), text_a,
    text_b (where there is one), label (where the file has labels; empty where one is not
    known), and predicted_label with a probability for each label, and is_uncertain, 1 or 0, where
    there is what to abstain below; for regression predicted_score alone.

    Args:
      writer: a text file that writes line ends as they are.
      task: a tasks.Task.
      pools: iterable of (list of reading.Example, logits of these, float32
        [rows, num_outputs]).
      threshold: see metrics.predicted_ids.
      abstain_below: float, the probability below which a prediction is uncertain; or None.

    Returns:
      int, the number of predictions.
    """
    count = 0
    for rows, logits in pools:
        known = [
            name for name in ("text_a", "text_b", "label") if getattr(rows[0], name) is not None
        ]
        if not count:
            columns = _predicted_columns(task, abstain_below)
            writer.write(_csv_line(["index"] + known + columns))
        cells_of_all = _predicted_cells(task, logits, threshold, abstain_below)
        for example, predicted in zip(rows, cells_of_all):
            index = count if example.row is None else example.row
            cells = [getattr(example, name) for name in known]
            writer.write(_csv_line([index] + cells + predicted))
            count += 1
    return count


def _csv_line(cells):
    """Returns cells as a line, str, in quotation marks those that need them."""
    line = io.StringIO(newline="")
    # With this end csv quotes a cell with a carriage return too, which others take for an end.
    csv.writer(line, delimiter="\t", lineterminator="\r\n").writerow(cells)
    return line.getvalue()[: -len("\r\n")] + "\n"


def _predicted_columns(task, abstain_below):
    if task.is_regression:
        return ["predicted_score"]
    columns = ["predicted_label"] + ["probability_%s" % label for label in task.labels]
    return columns + (["is_uncertain"] if abstain_below is not None else [])


def _predicted_cells(task, logits, threshold, abstain_below):
    """Returns a list of str for each row."""
    if task.is_regression:
        return [["%.8f" % score] for score in logits[:, 0]]
    ids, probabilities = metrics.predicted_ids(logits, threshold), metrics.probabilities(logits)
    cells = [
        [task.labels[label_id]] + ["%.8f" % p for p in row]
        for label_id, row in zip(ids, probabilities)
    ]
    if abstain_below is not None:
        confidences = calibration.confidences(logits, threshold)
        for row, confidence in zip(cells, confidences):
            row.append(str(int(confidence < abstain_below)))
    return cells
