"""Logits over a set of examples, and what follows from them: metrics and predictions."""

import collections
import time

import numpy as np
import tensorflow.compat.v1 as tf
from absl import logging
from tqdm import tqdm

import modeling_theseus
from theseus.errors import UserError
from theseus.inference import calibration, metrics
from theseus.inputs import batches
from theseus.inputs import rows as rows_lib

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
      given: mapping from a variable's name to the variable, or tensor, that is used in its
        place.
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
    is_padded = encoded.padded_length is not None  # Then all cost the same.
    make_plan = batches.plan_in_length_order if is_padded else batches.plan_with_little_padding
    plan = make_plan(encoded.lengths, batch_size)
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


def evaluate(task, run, encoded, batch_size, name="dev"):
    """Computes a tasks.Task's metrics over labelled examples; see `warn_of_alike`.

    Args:
      task: a tasks.Task.
      run, encoded, batch_size: see `compute_logits`.
      name: str, what the bar and the warning say of.

    Returns:
      (dict as from metrics.compute, seconds that it took).
    """
    start = time.perf_counter()
    with progress_bar(name, len(encoded)) as bar:
        logits = compute_logits(run, encoded, batch_size, bar)
    warn_of_alike(task, logits, encoded.labels, name)
    return metrics.compute(task, logits, encoded.labels), time.perf_counter() - start


def warn_of_alike(task, logits, labels, name):
    """Warns where the predictions of a file, under its name, are alike and its labels are not."""
    warning = metrics.what_is_not_learned(task, logits, labels)
    if warning:
        logging.warning("%s: %s", name, warning)


def write_predictions(
    writer,
    task,
    pools,
    threshold=None,
    abstain_below=None,
    format="tsv",
    like=None,
    delimiter=",",
):
    """Writes predictions as rows with names.

    The columns are index (the row of a reading.Example, or else its place here), text_a,
    text_b (where there is one), label (where the file has labels; empty where one is not
    known), an Example's others, and predicted_label with a probability for each label, and
    is_uncertain, 1 or 0, where there is what to abstain below; for regression predicted_score
    alone. One of the others that bears one of these names is called input_<name>.

    Args:
      writer: a text file that writes line ends as they are.
      task: a tasks.Task.
      pools: iterable of (list of reading.Example, logits of these, float32
        [rows, num_outputs]).
      threshold: see metrics.predicted_ids.
      abstain_below: float, the probability below which a prediction is uncertain; or None.
      format: str, one of rows.FORMATS.
      like: a reading.Example, whose columns there are; None: the first one that is predicted.
      delimiter: see rows.write_row.

    Returns:
      int, the number of predictions.
    """
    predictions = _PredictionWriter(writer, task, threshold, abstain_below, format, delimiter)
    if like is not None:
        predictions.begin(like)
    for examples, logits in pools:
        predictions.add(examples, logits)
    return predictions.count


class _PredictionWriter(object):
    """Writes one pool of predictions after another; see `write_predictions`."""

    def __init__(self, writer, task, threshold, abstain_below, format, delimiter):
        self.count = 0
        self._writer, self._format, self._delimiter = writer, format, delimiter
        self._task, self._threshold, self._abstain_below = task, threshold, abstain_below
        self._known, self._others = None, None

    def add(self, examples, logits):
        """Writes the predictions of Examples, of logits float32 [rows, num_outputs]."""
        if self._known is None:
            self.begin(examples[0])
        for example, predicted in zip(examples, self._predicted(logits)):
            index = self.count if example.row is None else example.row
            others = example.others or {}
            if self._format == "jsonl":  # Whose lines have each their own keys.
                self._others = list(others)
            cells = [index] + [getattr(example, name) for name in self._known]
            cells += [others[name] for name in self._others]
            self._write(cells + predicted)
            self.count += 1

    def begin(self, first):
        """Writes the names of the columns that an Example has."""
        columns = ("text_a", "text_b", "label")
        self._known = [name for name in columns if getattr(first, name) is not None]
        self._others = list(first.others or ())
        if self._format != "jsonl":
            self._write(self._names())

    def _write(self, cells):
        names = self._names()
        self._writer.write(rows_lib.write_row(names, cells, self._format, self._delimiter))

    def _names(self):
        """Returns the names of the columns, list of str, each of them once."""
        own = ["index"] + self._known + self._predicted_names()
        others = []
        for name in self._others:
            while name in own or name in others:
                name = "input_" + name
            others.append(name)
        place = 1 + len(self._known)
        return own[:place] + others + own[place:]

    def _predicted_names(self):
        if self._task.is_regression:
            return ["predicted_score"]
        names = ["predicted_label"] + ["probability_%s" % label for label in self._task.labels]
        return names + (["is_uncertain"] if self._abstain_below is not None else [])

    def _predicted(self, logits):
        """Returns a list of cells for each row."""
        if self._task.is_regression:
            return [[self._number(score)] for score in logits[:, 0]]
        ids = metrics.predicted_ids(logits, self._threshold)
        cells = [
            [self._task.labels[label_id]] + [self._number(p) for p in row]
            for label_id, row in zip(ids, metrics.probabilities(logits))
        ]
        if self._abstain_below is not None:
            confidences = calibration.confidences(logits, self._threshold)
            for row, confidence in zip(cells, confidences):
                row.append(int(confidence < self._abstain_below))
        return cells

    def _number(self, value):
        return round(float(value), 8) if self._format == "jsonl" else "%.8f" % value
