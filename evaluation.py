"""Logits over a set of examples, and what follows from them: metrics and predictions."""

import collections
import time

import numpy as np
import tensorflow.compat.v1 as tf
from sklearn import metrics as sklearn_metrics
from tqdm import tqdm

import input_pipeline
import modeling_theseus
from errors import UserError

TABLE_COLUMNS = ("accuracy", "majority_class_rate", "precision", "recall", "f1", "loss")

EvaluationGraph = collections.namedtuple("EvaluationGraph", "features logits")
"""A classifier without dropout.

Fields:
  features: dict of placeholders, as from modeling_theseus.feature_placeholders.
  logits: float32 [B, num_labels].
"""


def build_graph(config, num_labels, groups, path, compute_type=tf.float32):
    """Builds an EvaluationGraph in the default graph; see modeling_theseus.classifier."""
    features = modeling_theseus.feature_placeholders()
    logits = modeling_theseus.classifier(
        features, config, num_labels, groups, path, compute_type=compute_type
    )
    return EvaluationGraph(features, logits)


def progress_bar(description, num_examples):
    """Returns a bar on a terminal that counts examples, for `compute_logits`."""
    return tqdm(None, description, num_examples, leave=False, unit="pair", disable=None)


def compute_logits(session, graph, encoded, batch_size, padded_length=None, bar=None):
    """Runs the classifier over all rows.

    Args:
      session: a tf.Session whose variables hold the weights.
      graph: an EvaluationGraph.
      encoded: input_pipeline.EncodedExamples.
      batch_size: int.
      padded_length: int, the length of each batch; None: that of its longest row.
      bar: a `progress_bar`; None: there is none.

    Returns:
      float32 [rows, num_labels], in the order of the rows.

    Raises:
      UserError: a logit is infinite or no number.
    """
    logits = np.zeros([len(encoded), graph.logits.shape.as_list()[-1]], np.float32)
    for planned in input_pipeline.plan_in_length_order(encoded.lengths, batch_size, padded_length):
        feed = modeling_theseus.feed_features(graph.features, encoded.batch(planned))
        logits[planned.rows] = session.run(graph.logits, feed)
        if bar:
            bar.update(len(planned.rows))
    if not np.isfinite(logits).all():
        raise UserError("the model's logits are no finite numbers: its training has diverged")
    return logits


def compute_metrics(logits, label_ids):
    """Compares logits with labels.

    Precision, recall and F1 are those of label 1; the loss is the mean cross entropy.

    Args:
      logits: float [rows, 2].
      label_ids: int [rows].

    Returns:
      OrderedDict from name to float, and num_examples, an int.
    """
    probabilities = softmax(logits)
    predicted = probabilities.argmax(axis=1)
    precision, recall, f1, _ = sklearn_metrics.precision_recall_fscore_support(
        label_ids, predicted, average="binary", zero_division=0
    )
    of_label = probabilities[np.arange(len(label_ids)), label_ids]
    # A probability of 0 in float64 is a loss above 700; we stop there.
    losses = -np.log(np.maximum(of_label, np.finfo(np.float64).tiny))
    return collections.OrderedDict(
        accuracy=float(sklearn_metrics.accuracy_score(label_ids, predicted)),
        precision=float(precision),
        recall=float(recall),
        f1=float(f1),
        loss=float(losses.mean()),
        majority_class_rate=float(np.bincount(label_ids).max() / len(label_ids)),
        num_examples=len(label_ids),
    )


def softmax(logits):
    """Returns the probabilities, float64 [rows, num_labels], of float logits."""
    logits = np.asarray(logits, np.float64)
    powers = np.exp(logits - logits.max(axis=1, keepdims=True))
    return powers / powers.sum(axis=1, keepdims=True)


def evaluate(session, graph, encoded, batch_size, padded_length=None, description="dev"):
    """Computes the metrics over labelled examples that are encoded already.

    Returns:
      (metrics, seconds): as from `compute_metrics`, and how long it took.
    """
    start = time.perf_counter()
    with progress_bar(description, len(encoded)) as bar:
        logits = compute_logits(session, graph, encoded, batch_size, padded_length, bar)
    return compute_metrics(logits, encoded.label_ids), time.perf_counter() - start


def format_table(rows):
    """Returns metrics as a table, str.

    Args:
      rows: list of (str, metrics as from `compute_metrics`).
    """
    width = max(len(name) for name, _ in rows)
    lines = [" " * width + "  examples" + "".join("%11s" % c.split("_")[0] for c in TABLE_COLUMNS)]
    for name, metrics in rows:
        cells = "".join("%11.4f" % metrics[column] for column in TABLE_COLUMNS)
        lines.append("%-*s  %8d%s" % (width, name, metrics["num_examples"], cells))
    return "\n".join(lines)


def write_predictions(writer, task, pools):
    """Writes predictions as tab-separated text with a header.

    The columns are text_a, text_b, label (where it is known), predicted_label and a
    probability for each label.

    Args:
      writer: a text file.
      task: an input_pipeline.Task.
      pools: iterable of (list of input_pipeline.Example, logits of these, float32
        [rows, num_labels]).

    Returns:
      int, the number of predictions.
    """
    count = 0
    for examples, logits in pools:
        has_labels = examples[0].label is not None
        if not count:
            header = ["text_a", "text_b"] + ["label"] * has_labels + ["predicted_label"]
            header += ["probability_%s" % label for label in task.labels]
            writer.write("\t".join(header) + "\n")
        for example, probabilities in zip(examples, softmax(logits)):
            known = [example.label] if has_labels else []
            row = [example.text_a, example.text_b] + known + [task.labels[probabilities.argmax()]]
            writer.write("\t".join(row + ["%.8f" % p for p in probabilities]) + "\n")
        count += len(examples)
    return count
