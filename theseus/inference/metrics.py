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
# Scores of one prediction for all differ by rounding, those of a model that has learned by more.
_LEAST_SPREAD = 0.05


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


def what_is_not_learned(task: Task, logits: _Floats, labels: NDArray[Any]) -> str | None:
    """Returns how the predictions of several examples are alike where their labels are not.

    Args:
      task, logits, labels: as for `compute`.

    Returns:
      str, if all get one label, or numbers whose standard deviation is below a twentieth of that
      of the labels; None if not.
    """
    if len(logits) < 2:
        return None
    if task.is_regression:
        scores = np.asarray(logits[:, 0], np.float64)
        if scores.std() >= _LEAST_SPREAD * np.std(labels):
            return None
        limits = (scores.min(), scores.max(), labels.min(), labels.max())
        return (
            "all predictions lie between %.4g and %.4g, the labels between %.4g and %.4g; their "
            "size is not learned yet, which no correlation tells" % limits
        )
    predicted = predicted_ids(logits)
    if (predicted != predicted[0]).any() or (predicted == labels).all():
        return None
    label = task.known_labels[predicted[0]]
    return "all examples get the label %s; nothing is learned yet" % label


def why_undefined(task: Task, labels: NDArray[Any]) -> str | None:
    """Returns why a metric of the task's score is undefined, whatever is predicted.

    Args:
      task: a tasks.Task.
      labels: int or float [rows], those of all examples.

    Returns:
      str, that names the metric and the labels that are missing; None: all are defined.
    """
    if task.is_regression:
        if len(labels) > 1 and np.ptp(labels) > 0:
            return None
        return "%s is undefined: all examples have the label %g" % (task.score_name, labels[0])
    present = set(np.unique(labels).tolist())
    missing = [label for label, number in task.label_ids.items() if number not in present]
    for name in task.metrics:
        is_f1_of_none = name == "f1" and len(task.known_labels) == 2 and 1 not in present
        is_matthews_of_one = name == "matthews" and len(present) == 1
        if (name == "auc" and missing) or is_f1_of_none or is_matthews_of_one:
            return "%s is undefined: no example has the label %s" % (name, ", ".join(missing))
    return None


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
      OrderedDict from name to float, or None for a metric that is undefined: AUC where a label
      does not occur, Matthews' correlation where one alone does, a correlation with what is
      constant, and of two labels what `by_label` says of the second one; and num_examples, an
      int.
    """
    if task.is_regression:
        return _of_regression(logits[:, 0].astype(np.float64), labels)
    predicted = predicted_ids(logits, threshold)
    if len(task.known_labels) == 2:
        precision, recall, f1 = (column[0] for column in _of_labels(labels, predicted, [1])[:3])
    else:
        precision, recall, f1, _ = sklearn.metrics.precision_recall_fscore_support(
            labels, predicted, average="macro", zero_division=0
        )
    losses = -scipy.special.log_softmax(np.asarray(logits, np.float64), axis=1)
    return collections.OrderedDict(
        accuracy=float(sklearn.metrics.accuracy_score(labels, predicted)),
        precision=or_none(precision),
        recall=or_none(recall),
        f1=or_none(f1),
        auc=_auc(probabilities(logits), labels),
        matthews=_matthews(labels, predicted),
        loss=float(losses[np.arange(len(labels)), labels].mean()),
        majority_class_rate=float(np.bincount(labels).max() / len(labels)),
        num_examples=len(labels),
    )


def _of_labels(
    labels: _Integers, predicted: _Integers, of_labels: Sequence[int]
) -> tuple[_Floats, _Floats, _Floats, _Integers]:
    """Returns precision, recall, F1 and the number of examples of labels, arrays.

    What is 0 / 0 is nan: the precision of a label that is never predicted, the recall of one
    that does not occur, and F1 where both are so.
    """
    precision, recall, f1, true = sklearn.metrics.precision_recall_fscore_support(
        labels, predicted, labels=of_labels, zero_division=0
    )
    guessed = np.bincount(predicted, minlength=max(of_labels) + 1)[list(of_labels)]
    precision[guessed == 0] = recall[true == 0] = f1[guessed + true == 0] = np.nan
    return precision, recall, f1, true


def or_none(value: Any) -> float | None:
    """Returns a number as a float; None, as JSON writes it, if it is not a number."""
    return None if np.isnan(value) else float(value)


def _matthews(labels: _Integers, predicted: _Integers) -> float | None:
    """Returns Matthews' correlation; None where the labels are one, 0 where the predicted are."""
    if len(np.unique(labels)) == 1:
        return None
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


def _correlation(function: Callable[..., Any], one: _Floats, other: _Floats) -> float | None:
    """Returns a correlation; None where one of the two is constant."""
    if len(one) < 2 or np.ptp(one) == 0 or np.ptp(other) == 0:
        return None
    return float(function(one, other)[0])


def score(task: Task, values: Mapping[str, Any]) -> float:
    """Returns the number by which one model is better than another: the mean of task.metrics.

    Source: gluebenchmark.com, where a task with two metrics counts by their mean. It is nan if
    one of them is undefined, see `compute`.

    Args:
      task: a tasks.Task.
      values: as from `compute`.
    """
    found = [values[name] for name in task.metrics]
    return float("nan") if None in found else float(np.mean(found))


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
    be computed is None.
    """
    predicted = predicted_ids(logits, threshold)
    columns = _of_labels(labels, predicted, range(len(task.known_labels)))
    names = ("precision", "recall", "f1")
    return [
        dict(zip(names, map(or_none, row)), num_examples=int(row[3]), label=label)
        for label, row in zip(task.known_labels, zip(*columns))
    ]


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
    shown = {"f1": "f1 (label %s)" % positive_label(task)} if positive_label(task) else {}
    parts = ((shown.get(name, name), _cell(values[name])) for name in dict.fromkeys(names))
    return ", ".join("%s %s" % part for part in parts)


def positive_label(task: Task) -> str | None:
    """Returns the label of which precision, recall, F1 and AUC are; None: they are of all."""
    return task.known_labels[1] if len(task.known_labels) == 2 else None


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
        cells = "%11s%10s%10s" % tuple(_cell(row[name]) for name in ("precision", "recall", "f1"))
        lines.append("%-*s%s%10d" % (width, row["label"], cells, row["num_examples"]))
    return "\n".join(lines)


def format_threshold(task: Task, found: Mapping[str, float]) -> str:
    """Returns what `best_threshold` has found as a line, str."""
    line = "best F1 of label %s on dev: %.4f (precision %.4f, recall %.4f), with --threshold=%s"
    return line % (
        positive_label(task),
        found["f1"],
        found["precision"],
        found["recall"],
        found["threshold"],
    )
