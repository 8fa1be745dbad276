"""What a task is measured by: numbers from logits and labels, by scikit-learn and scipy.

Everything here is plain Python on arrays. `labels` are as from encoding.encode_labels:
ids, or for regression numbers.
"""

from __future__ import annotations

import collections
from typing import TYPE_CHECKING, Any, Callable, Mapping, Optional, Sequence

import numpy as np
import scipy.special
import scipy.stats
import sklearn.metrics

from theseus.inputs.tasks import Task

if TYPE_CHECKING:
    from numpy.typing import NDArray

    _Floats = NDArray[np.floating[Any]]
    _Integers = NDArray[np.integer[Any]]
    _Values = collections.OrderedDict[str, Optional[float]]

OF_NUMBERS = ("pearson", "spearman")
"""What of `compute` a regression has and a classification has not, and that can be a score."""

# What a table shows of the metrics, in this order.
_COLUMNS = ["accuracy", "majority_class_rate", "precision", "recall", "f1", "auc", "matthews"]
_COLUMNS += ["pearson", "spearman", "loss", "ece"]
# A confusion table of more labels is too wide to be read; eval_results.json has it.
_MOST_LABELS = 12
# Of more than so many it has a million counts, almost all of them 0, and is left out.
_MOST_CONFUSED = 1000


def probabilities(logits: _Floats) -> NDArray[np.float64]:
    """Returns the probability of each label, float64 [rows, labels], of float logits."""
    found: NDArray[np.float64] = scipy.special.softmax(np.asarray(logits, np.float64), axis=1)
    return found


def predicted_ids(logits: _Floats, threshold: float | None = None) -> NDArray[np.int64]:
    """Returns the predicted labels, int [rows]: the label ids of the largest logits.

    Args:
      logits: float [rows, labels].
      threshold: float, the least probability of the second of two labels at which it is the
        predicted one; None: that it is the larger one.
    """
    if threshold is None:
        largest: NDArray[np.int64] = np.asarray(logits).argmax(axis=1)
        return largest
    return (probabilities(logits)[:, 1] >= threshold).astype(np.int64)


def predicts_one_class(task: Task, logits: NDArray[Any]) -> bool:
    """Returns whether several examples, of logits float [rows, outputs], all get one label."""
    if task.is_regression or len(logits) < 2:
        return False
    predicted = predicted_ids(logits)
    return bool((predicted == predicted[0]).all())


def compute(
    task: Task, logits: _Floats, labels: NDArray[Any], threshold: float | None = None
) -> _Values:
    """Compares logits with labels.

    For two labels precision, recall, F1 and AUC are those of the second one; for more they
    are means over the labels (macro; AUC of each against the rest), the first three, as in
    scikit-learn, over those that occur among the labels or the predictions. The loss is that
    of training: the mean cross entropy, for regression the mean squared error.

    Args:
      task: a tasks.Task.
      logits: float [rows, outputs].
      labels: int or float [rows].
      threshold: see `predicted_ids`; for two labels only.

    Returns:
      OrderedDict from name to float, or None for an AUC where a label does not occur; and
      num_examples, an int.
    """
    if task.is_regression:
        return _of_regression(logits[:, 0].astype(np.float64), labels)
    predicted = predicted_ids(logits, threshold)
    of_labels = [1] if len(task.known_labels) == 2 else np.union1d(labels, predicted)
    precision, recall, f1, _ = sklearn.metrics.precision_recall_fscore_support(
        labels, predicted, labels=of_labels, average="macro", zero_division=0
    )
    losses = -scipy.special.log_softmax(np.asarray(logits, np.float64), axis=1)
    return collections.OrderedDict(
        accuracy=float(sklearn.metrics.accuracy_score(labels, predicted)),
        precision=float(precision),
        recall=float(recall),
        f1=float(f1),
        auc=_auc(probabilities(logits), labels),
        matthews=_matthews(labels, predicted),
        loss=float(losses[np.arange(len(labels)), labels].mean()),
        majority_class_rate=float(np.bincount(labels).max() / len(labels)),
        num_examples=len(labels),
    )


def _matthews(labels: _Integers, predicted: _Integers) -> float:
    """Returns Matthews' correlation, float; 0, as scikit-learn, where one label is all there is."""
    if len(np.union1d(labels, predicted)) == 1:
        return 0.0  # Where scikit-learn also warns.
    return float(sklearn.metrics.matthews_corrcoef(labels, predicted))


def _auc(scores: _Floats, labels: _Integers) -> float | None:
    """Returns the area under the ROC curve; None where a label does not occur."""
    if len(np.unique(labels)) < scores.shape[1]:
        return None
    if scores.shape[1] == 2:
        return float(sklearn.metrics.roc_auc_score(labels, scores[:, 1]))
    return float(sklearn.metrics.roc_auc_score(labels, scores, multi_class="ovr"))


def _of_regression(predicted: _Floats, labels: _Floats) -> _Values:
    pearson, spearman = (
        _correlation(function, predicted, labels)
        for function in (scipy.stats.pearsonr, scipy.stats.spearmanr)
    )
    return collections.OrderedDict(
        pearson=pearson,
        spearman=spearman,
        loss=float(np.square(predicted - labels).mean()),
        num_examples=len(labels),
    )


def _correlation(function: Callable[..., Any], one: _Floats, other: _Floats) -> float:
    """Returns a correlation, float; 0 where one of the two is constant."""
    if len(one) < 2 or np.ptp(one) == 0 or np.ptp(other) == 0:
        return 0.0
    return float(function(one, other)[0])


def score(task: Task, values: Mapping[str, Any]) -> float:
    """Returns the number by which one model is better than another: the mean of task.metrics.

    Source: gluebenchmark.com, where a task with two metrics counts by their mean. A metric
    that does not apply, see `compute`, counts as 0.

    Args:
      task: a tasks.Task.
      values: as from `compute`.
    """
    return float(np.mean([values[name] or 0.0 for name in task.metrics]))


def confusion(
    task: Task, logits: _Floats, labels: _Integers, threshold: float | None = None
) -> list[list[int]] | None:
    """Counts the examples of each label that were predicted as each: a list of lists of int.

    Args as for `compute`; rows are the true labels, columns the predicted ones. Of more than
    1,000 labels it is None.
    """
    if len(task.known_labels) > _MOST_CONFUSED:
        return None
    counts: list[list[int]] = sklearn.metrics.confusion_matrix(
        labels, predicted_ids(logits, threshold), labels=range(len(task.known_labels))
    ).tolist()
    return counts


def by_label(
    task: Task, logits: _Floats, labels: _Integers, threshold: float | None = None
) -> list[dict[str, Any]]:
    """Returns precision, recall, F1 and the number of examples of each label, a list of dict.

    Args as for `compute`. Where a label does not occur, or is never predicted, what then cannot
    be computed is 0.
    """
    columns = sklearn.metrics.precision_recall_fscore_support(
        labels,
        predicted_ids(logits, threshold),
        labels=range(len(task.known_labels)),
        zero_division=0,
    )
    names = ("precision", "recall", "f1", "num_examples")
    rows = zip(*(np.asarray(column).tolist() for column in columns))
    return [dict(zip(names, row), label=label) for label, row in zip(task.known_labels, rows)]


def best_threshold(
    logits: _Floats, labels: _Integers
) -> collections.OrderedDict[str, float] | None:
    """Finds the threshold of the second label's probability with the best F1.

    Args:
      logits: float [rows, 2].
      labels: int [rows].

    Returns:
      OrderedDict of threshold, f1, precision and recall, each a float; None where the second
      label does not occur.
    """
    if not np.any(labels == 1):
        return None
    of_second = probabilities(logits)[:, 1]
    precision, recall, thresholds = sklearn.metrics.precision_recall_curve(labels, of_second)
    f1 = 2 * precision * recall / np.maximum(precision + recall, np.finfo(np.float64).tiny)
    best = int(f1[:-1].argmax())
    below = of_second[of_second < thresholds[best]].max(initial=0.0)
    return collections.OrderedDict(
        threshold=_shortest_between(float(below), float(thresholds[best])),
        f1=float(f1[best]),
        precision=float(precision[best]),
        recall=float(recall[best]),
    )


def _shortest_between(low: float, high: float) -> float:
    """Returns about the middle of two numbers, in few digits: above `low`, and at most `high`."""
    for digits in range(4, 18):
        found = float("%.*g" % (digits, (low + high) / 2))
        if low < found <= high:
            return found
    return high


# --- In words ---


def headline(task: Task, values: Mapping[str, Any]) -> str:
    """Returns the task's metrics, F1 and the loss as words for a line of the log, str."""
    names = [name for name in task.metrics + ("f1", "loss") if name in values]
    return ", ".join("%s %s" % (name, _cell(values[name])) for name in dict.fromkeys(names))


def markdown_table(header: Sequence[Any], rows: Sequence[Sequence[Any]]) -> str:
    """Returns a table in Markdown, in whose cells no | and no line's end divides."""
    lines = [header, ["---"] * len(header), *rows]
    cells = [[str(v).replace("|", "\\|").replace("\n", " ") for v in line] for line in lines]
    return "\n".join("| %s |" % " | ".join(line) for line in cells)


def format_table(rows: Sequence[tuple[str, Mapping[str, Any]]]) -> str:
    """Returns metrics as a table, str.

    Args:
      rows: list of (str, metrics as from `compute`).
    """
    columns = [name for name in _COLUMNS if name in rows[0][1]]
    width = max(len(name) for name, _ in rows)
    lines = [" " * width + "  examples" + "".join("%10s" % c.split("_")[0] for c in columns)]
    for name, values in rows:
        cells = "".join("%10s" % _cell(values.get(column)) for column in columns)
        lines.append("%-*s  %8d%s" % (width, name, values["num_examples"], cells))
    return "\n".join(lines)


def _cell(value: float | None) -> str:
    return "-" if value is None else "%.4f" % value


def format_confusion(task: Task, counts: Sequence[Sequence[int]] | None) -> str:
    """Returns a confusion table, str, of the counts of `confusion`; "" for many labels."""
    labels = task.known_labels
    if counts is None or len(labels) > _MOST_LABELS:
        return ""
    headers = ["predicted " + label for label in labels]
    names = ["true " + label for label in labels]
    first, width = max(map(len, names)), 2 + max(map(len, headers))
    lines = [" " * first + "".join(header.rjust(width) for header in headers)]
    for name, row in zip(names, counts):
        lines.append(name.ljust(first) + "".join(str(count).rjust(width) for count in row))
    return "\n".join(lines)


def format_by_label(task: Task, rows: Sequence[Mapping[str, Any]]) -> str:
    """Returns what `by_label` has found as a table, str; "" for many labels."""
    if len(rows) > _MOST_LABELS:
        return ""
    width = max(len("label"), *(len(row["label"]) for row in rows))
    lines = ["%-*s  precision    recall        f1  examples" % (width, "label")]
    for row in rows:
        cells = "%11.4f%10.4f%10.4f" % (row["precision"], row["recall"], row["f1"])
        lines.append("%-*s%s%10d" % (width, row["label"], cells, row["num_examples"]))
    return "\n".join(lines)


def format_threshold(found: Mapping[str, float]) -> str:
    """Returns what `best_threshold` has found as a line, str."""
    return "best F1 on dev: %.4f (precision %.4f, recall %.4f), with --threshold=%s" % (
        found["f1"],
        found["precision"],
        found["recall"],
        found["threshold"],
    )
