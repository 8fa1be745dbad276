"""The metrics of a task, computed from predictions and labels with scikit-learn and scipy.

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

from theseus.inference.predictions import Predictions
from theseus.inputs.tasks import Task

if TYPE_CHECKING:
    from numpy.typing import NDArray

    _Floats = NDArray[np.floating[Any]]
    _Integers = NDArray[np.integer[Any]]
    _Values = collections.OrderedDict[str, Optional[float]]

# The metrics that a table shows, in this order.
_COLUMNS = ["accuracy", "majority_class_rate", "precision", "recall", "f1", "auc", "matthews"]
_COLUMNS += ["pearson", "spearman", "loss", "ece"]
# A confusion table of more labels is too wide to print; eval_results.json has it.
_MOST_LABELS = 12
# A confusion table of more labels has over a million counts, almost all of them 0; it is left out.
_MOST_CONFUSED = 1000
# If a model predicts the same number for all, its scores differ by rounding only. If it has learned
# something, their standard deviation is above this share of the labels'.
_LEAST_SPREAD = 0.05


def what_is_not_learned(predicted: Predictions, labels: NDArray[Any]) -> str | None:
    """Returns a description if the predictions are all alike although the labels are not.

    Args:
      predicted, labels: as for `compute`; a threshold has no effect here.

    Returns:
      str if all get the same label, or numbers whose standard deviation is below a twentieth of
      the labels'; otherwise None.
    """
    if len(labels) < 2:
        return None
    if predicted.task.is_regression:
        scores = predicted.scores
        if scores.std() >= _LEAST_SPREAD * np.std(labels):
            return None
        limits = (scores.min(), scores.max(), labels.min(), labels.max())
        return (
            "all predictions lie between %.4g and %.4g, the labels between %.4g and %.4g; the "
            "scale of the labels is not learned yet, which correlations do not show" % limits
        )
    ids = np.argmax(predicted.logits, axis=1)
    if (ids != ids[0]).any() or (ids == labels).all():
        return None
    label = predicted.task.known_labels[ids[0]]
    return "every example is predicted as %s; nothing is learned yet" % label


def why_undefined(task: Task, labels: NDArray[Any]) -> str | None:
    """Returns why a metric of the task's score is undefined for any predictions.

    Args:
      task: a tasks.Task.
      labels: int or float [rows], the labels of all examples.

    Returns:
      str that names the metric and the missing labels; None if all metrics are defined.
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


def compute(predicted: Predictions, labels: NDArray[Any]) -> _Values:
    """Compares predictions with labels.

    For two labels precision, recall, F1 and AUC are about the second label. For more they are
    means over the labels (macro; AUC of each label against the rest); as in scikit-learn, the
    means of precision, recall and F1 only count labels that occur or are predicted. The loss is
    the training's: mean cross entropy, or for regression mean squared error.

    Args:
      predicted: the Predictions of the rows.
      labels: int or float [rows].

    Returns:
      OrderedDict from name to float; num_examples is an int. A metric that is undefined is None:
      AUC if a label does not occur, Matthews' correlation if only one label occurs, a correlation
      with a constant, and for two labels the values that `by_label` leaves None for the second.
    """
    if predicted.task.is_regression:
        scores = predicted.scores
        return collections.OrderedDict(
            pearson=_correlation(scipy.stats.pearsonr, scores, labels),
            spearman=_correlation(scipy.stats.spearmanr, scores, labels),
            loss=float(np.square(scores - labels).mean()),
            num_examples=len(labels),
        )
    *columns, counts = _of_labels(predicted, labels)
    if len(counts) == 2:
        means, shares = [column[1] for column in columns], predicted.probabilities[:, 1]
    else:
        occurs = ~np.isnan(columns[2])
        means = [np.nan_to_num(column[occurs]).mean() for column in columns]
        shares = predicted.probabilities
    auc = matthews = None
    if counts.all():
        auc = float(sklearn.metrics.roc_auc_score(labels, shares, multi_class="ovr"))
    if counts.max() < len(labels):
        matthews = float(sklearn.metrics.matthews_corrcoef(labels, predicted.ids))
    losses = -scipy.special.log_softmax(np.asarray(predicted.logits, np.float64), axis=1)
    return collections.OrderedDict(
        accuracy=float((predicted.ids == labels).mean()),
        precision=or_none(means[0]),
        recall=or_none(means[1]),
        f1=or_none(means[2]),
        auc=auc,
        matthews=matthews,
        loss=float(losses[np.arange(len(labels)), labels].mean()),
        majority_class_rate=float(counts.max() / len(labels)),
        num_examples=len(labels),
    )


def _of_labels(predicted: Predictions, labels: _Integers) -> list[NDArray[Any]]:
    """Returns four arrays: each label's precision, recall, F1 and number of examples.

    0 / 0 gives nan: the precision of a label that is never predicted, the recall of a label that
    does not occur, and F1 if both are the case. scikit-learn before 1.3 does not return nan here.
    """
    true, guessed, right = (
        np.bincount(ids, minlength=len(predicted.task.known_labels))
        for ids in (labels, predicted.ids, labels[labels == predicted.ids])
    )
    with np.errstate(invalid="ignore"):
        return [right / guessed, right / true, 2 * right / (guessed + true), true]


def or_none(value: Any) -> float | None:
    """Returns a number as a float; None, which JSON writes as null, if it is NaN."""
    return None if np.isnan(value) else float(value)


def _correlation(function: Callable[..., Any], one: _Floats, other: _Floats) -> float | None:
    """Returns a correlation; None if one of the two arrays is constant."""
    if len(one) < 2 or np.ptp(one) == 0 or np.ptp(other) == 0:
        return None
    return float(function(one, other)[0])


def score(task: Task, values: Mapping[str, Any]) -> float:
    """Returns the score by which models are compared: the mean of task.metrics.

    Source: gluebenchmark.com, which uses the mean for a task with two metrics. The score is nan if
    one of the metrics is undefined, see `compute`.

    Args:
      task: a tasks.Task.
      values: as from `compute`.
    """
    each = [values[name] for name in task.metrics]
    return float("nan") if None in each else float(np.mean(each))


def confusion(predicted: Predictions, labels: _Integers) -> list[list[int]] | None:
    """Returns the confusion table, a list of lists of int: counts by true and predicted label.

    Args as for `compute`; rows are the true labels, columns the predicted ones. For more than
    1,000 labels it is None.
    """
    num_labels = len(predicted.task.known_labels)
    if num_labels > _MOST_CONFUSED:
        return None
    counts: list[list[int]] = sklearn.metrics.confusion_matrix(
        labels, predicted.ids, labels=range(num_labels)
    ).tolist()
    return counts


def by_label(predicted: Predictions, labels: _Integers) -> list[dict[str, Any]]:
    """Returns precision, recall, F1 and the number of examples of each label, a list of dict.

    Args as for `compute`. A value is None if it cannot be computed because the label does not
    occur or is never predicted.
    """
    names = ("precision", "recall", "f1")
    return [
        dict(zip(names, map(or_none, row)), num_examples=int(row[3]), label=label)
        for label, row in zip(predicted.task.known_labels, zip(*_of_labels(predicted, labels)))
    ]


def best_threshold(
    predicted: Predictions, labels: _Integers
) -> collections.OrderedDict[str, float] | None:
    """Finds the threshold of the second label's probability that gives the best F1.

    Args:
      predicted: Predictions of two labels.
      labels: int [rows].

    Returns:
      OrderedDict of threshold, f1, precision and recall, each a float; None if the second label
      does not occur.
    """
    if not np.any(labels == 1):
        return None
    of_second = predicted.probabilities[:, 1]
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
    """Returns a number with few digits near the middle: above `low` and at most `high`."""
    for digits in range(4, 18):
        middle = float("%.*g" % (digits, (low + high) / 2))
        if low < middle <= high:
            return middle
    return high


# --- In words ---


def headline(task: Task, values: Mapping[str, Any]) -> str:
    """Returns the task's metrics, F1 and the loss as a part of a log line, str."""
    names = [name for name in task.metrics + ("f1", "loss") if name in values]
    shown = {"f1": "f1 (label %s)" % positive_label(task)} if positive_label(task) else {}
    parts = ((shown.get(name, name), _cell(values[name])) for name in dict.fromkeys(names))
    return ", ".join("%s %s" % part for part in parts)


def positive_label(task: Task) -> str | None:
    """Returns the label that precision, recall, F1 and AUC are about; None if they are means."""
    return task.known_labels[1] if len(task.known_labels) == 2 else None


def markdown_table(header: Sequence[Any], rows: Sequence[Sequence[Any]]) -> str:
    """Returns a table in Markdown; in cells | is escaped and line ends become spaces."""
    lines = [header, ["---"] * len(header), *rows]
    cells = [[str(v).replace("|", "\\|").replace("\n", " ") for v in line] for line in lines]
    return "\n".join("| %s |" % " | ".join(line) for line in cells)


def aligned(rows: Sequence[Sequence[str]], width: int) -> str:
    """Returns rows of cells as lines: the first column flush left, the others flush right."""
    first = max(len(row[0]) for row in rows)
    return "\n".join(
        row[0].ljust(first) + "".join(cell.rjust(width) for cell in row[1:]) for row in rows
    )


def format_table(rows: Sequence[tuple[str, Mapping[str, Any]]]) -> str:
    """Returns metrics as a table, str.

    Args:
      rows: list of (str, metrics as from `compute`).
    """
    columns = [name for name in _COLUMNS if name in rows[0][1]]
    lines = [["", "examples"] + [column.split("_")[0] for column in columns]]
    for name, values in rows:
        cells = [_cell(values.get(column)) for column in columns]
        lines.append([name, str(values["num_examples"])] + cells)
    return aligned(lines, 10)


def _cell(value: float | None) -> str:
    return "-" if value is None else "%.4f" % value


def format_confusion(task: Task, counts: Sequence[Sequence[int]] | None) -> str:
    """Returns the counts of `confusion` as a table, str; "" if there are too many labels."""
    labels = task.known_labels
    if counts is None or len(labels) > _MOST_LABELS:
        return ""
    header = ["predicted " + label for label in labels]
    lines = [["true " + label, *map(str, row)] for label, row in zip(labels, counts)]
    return aligned([["", *header], *lines], 2 + max(map(len, header)))


def format_by_label(rows: Sequence[Mapping[str, Any]]) -> str:
    """Returns the result of `by_label` as a table, str; "" if there are too many labels."""
    if len(rows) > _MOST_LABELS:
        return ""
    names = ["precision", "recall", "f1"]
    lines = [["label ", *names, "examples"]]
    for row in rows:
        cells = [_cell(row[name]) for name in names]
        lines.append([row["label"] + " ", *cells, str(row["num_examples"])])
    return aligned(lines, 10)


def format_threshold(task: Task, best: Mapping[str, float]) -> str:
    """Returns the result of `best_threshold` as a line, str."""
    line = "best F1 of label {} on dev: {f1:.4f} (precision {precision:.4f}, recall {recall:.4f})"
    return (line + ", with --threshold={threshold}").format(positive_label(task), **best)
