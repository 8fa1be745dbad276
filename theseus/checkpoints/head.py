"""The classifier among loaded weights: which label each row is for, and which rows a task uses.

Rows are matched by the names of the labels; by their order only if no file names them.
"""

from __future__ import annotations

import dataclasses
import os
from typing import Any, Iterable, Mapping, NamedTuple, Sequence

from absl import logging

from theseus import records
from theseus.inputs import tasks
from theseus.inputs.tasks import Task

CLASSIFIER = ("output_weights", "output_bias")
"""A classifier's variables; each has a row for each label."""

_OBJECT = records.mapping(records.anything)
_EXPORT = records.table({}, {"labels": records.listed(records.text())}, others=True)
_MULTI_LABEL, _REGRESSION = "multi_label_classification", "regression"
# Hugging Face heads for other tasks, whose weights have the same names as a text classifier's.
_OTHER_HEADS = ("ForTokenClassification", "ForMultipleChoice")


class Head(NamedTuple):
    """What the files beside weights tell about their classifier.

    Attributes:
      names: tuple of str, the label of each row; None if no file names them.
      problem: str, Hugging Face's problem_type; "" if it is not known.
      architecture: str, Hugging Face's class; "" if it is not known.
    """

    names: tuple[str, ...] | None = None
    problem: str = ""
    architecture: str = ""

    @property
    def real_names(self) -> tuple[str, ...] | None:
        """The names; None if they are only the placeholders of transformers, such as LABEL_0."""
        return None if self.names is None or _are_placeholders(self.names) else self.names

    @property
    def is_named_classifier(self) -> bool:
        """Whether the files beside the weights declare a text classifier."""
        return self.names is not None or self.architecture.endswith("ForSequenceClassification")


class Rows(NamedTuple):
    """The rows of a classifier that a task uses.

    Attributes:
      order: list of int, the row of each of the task's outputs; None: a new classifier is trained.
      reason: str, why an existing classifier is not used; "" if it is used or there is none.
      note: str, what to log; "" for nothing.
      is_sure: bool, whether the note is only information; False: it is a warning.
    """

    order: list[int] | None = None
    reason: str = ""
    note: str = ""
    is_sure: bool = True


# --- What is known of a classifier ---


def of_task(task: Task) -> Head:
    """Returns the Head of a classifier that was trained on a Task."""
    return Head(problem=_REGRESSION) if task.is_regression else Head(task.known_labels)


def read(folder: str) -> Head:
    """Reads the Head of the weights in a folder: from the BERT's config, or from export.json.

    Raises:
      UserError: one of these files cannot be read.
    """
    config: dict[str, Any] = {}
    for name in ("bert_config.json", "config.json"):
        config.update(records.read_if_there(os.path.join(folder, name), _OBJECT) or {})
    export = records.read_if_there(os.path.join(folder, "export.json"), _EXPORT) or {}
    names, problem = _config_names(config), config.get("problem_type")
    if not names or _are_placeholders(names):
        names = tuple(export.get("labels", ())) or names
    if problem is None and export.get("labels") == []:
        problem = _REGRESSION
    architectures = config.get("architectures")
    first = architectures[0] if isinstance(architectures, list) and architectures else ""
    return Head(names, str(problem or ""), str(first))


def _config_names(config: Mapping[str, Any]) -> tuple[str, ...] | None:
    """Returns a Hugging Face config's names of labels, in the order of their ids, or None."""
    by_id, by_label = config.get("id2label"), config.get("label2id")
    names = _by_number(by_id.items()) if isinstance(by_id, dict) else None
    if isinstance(by_label, dict) and (names is None or _are_placeholders(names)):
        names = _by_number((number, label) for label, number in by_label.items()) or names
    return names


def _by_number(pairs: Iterable[tuple[Any, Any]]) -> tuple[str, ...] | None:
    """Returns the names of (number, name) pairs by number; None if these are not 0, 1, 2 ..."""
    named = {str(number): str(name) for number, name in pairs}
    numbers = tasks.ids(len(named))
    return tuple(named[n] for n in numbers) if named and named.keys() == set(numbers) else None


def _are_placeholders(names: Sequence[str]) -> bool:
    """Returns whether names are the placeholders of transformers: LABEL_0, LABEL_1 ..."""
    return list(names) == ["LABEL_" + number for number in tasks.ids(len(names))]


# --- Which rows a task takes ---


def fit(head: Head, num_rows: int, task: Task, place: str) -> Rows:
    """Returns the Rows of a classifier that a task uses.

    Args:
      head: the Head of the classifier.
      num_rows: int, the number of its outputs.
      task: a tasks.Task, complete.
      place: str, the path of the weights, for the note.
    """
    reason = _unlike(head, num_rows, task)
    if not reason and task.is_regression:
        return Rows([0])
    names = head.names if head.names and len(head.names) == num_rows else None
    rows = None if reason else _matched(names, task.known_labels, place)
    if rows:
        return rows
    reason = reason or "its labels are %s, the task's are %s" % (_list(names or ()), _labels(task))
    note = "%s: its classifier is not used, since %s; a new one starts at random" % (place, reason)
    return Rows(None, reason, note, is_sure=False)


def _unlike(head: Head, num_rows: int, task: Task) -> str:
    """Returns why a classifier's kind or size does not fit the task; "" if it fits."""
    if head.architecture.endswith(_OTHER_HEADS):
        return "it belongs to a %s" % head.architecture
    if head.problem == _MULTI_LABEL:
        return "it predicts several labels at once (problem_type = %s)" % _MULTI_LABEL
    gives_number = head.problem == _REGRESSION or num_rows == 1
    if gives_number and not task.is_regression:
        return "it predicts a number, the task has the labels %s" % _labels(task)
    if task.is_regression and not gives_number:
        return "it has %d labels, the task predicts a number" % num_rows
    if num_rows != task.num_outputs:
        mine = ": " + _list(head.names) if head.names and len(head.names) == num_rows else ""
        theirs = "" if task.is_regression else ": " + _labels(task)
        return "it has %d outputs%s, the task has %d%s" % (num_rows, mine, task.num_outputs, theirs)
    return ""


def _matched(names: tuple[str, ...] | None, labels: tuple[str, ...], place: str) -> Rows | None:
    """Returns the Rows for equally many labels, matched by name, id or order; None: others."""
    by_name = names and _order_by_name(names, labels)
    if names and by_name:
        return Rows(by_name, note=_note_on_names(names, labels, by_name, place))
    are_ids = set(labels) == set(tasks.ids(len(labels)))
    order = [int(label) for label in labels] if are_ids else list(range(len(labels)))
    if names and not _are_placeholders(names):
        pairs = ", ".join("%s is %s" % (label, name) for label, name in enumerate(names))
        note = "%s: the labels of its classifier are matched by their ids: %s" % (place, pairs)
        return Rows(order, note=note) if are_ids and not set(names) & set(labels) else None
    assumed = [labels[order.index(row)] for row in range(len(labels))]
    note = (
        "%s: no file names the labels of its classifier; assumed order: %s; if that is wrong, "
        "name them in id2label of a config.json there" % (place, _list(assumed))
    )
    return Rows(order, note=note, is_sure=are_ids)


def _order_by_name(names: Sequence[str], labels: Sequence[str]) -> list[int] | None:
    """Returns the index of each label among the names; None if the two sets differ."""
    for spelling in (str, _folded):
        found, wanted = list(map(spelling, names)), list(map(spelling, labels))
        if len(set(wanted)) == len(wanted) and sorted(found) == sorted(wanted):
            return [found.index(name) for name in wanted]
    return None


def _folded(label: str) -> str:
    return tasks.clean_label(label).casefold()


def named_as(names: Sequence[str] | None, task: Task, may_lack: bool = False) -> Task:
    """Returns the Task with the labels of a classifier if they are the same labels.

    Labels that are ids get the classifier's names; the log lists them. Other labels keep the
    spelling of the data and get the classifier's order, unless the task's name defines an order.

    Args:
      names: the classifier's labels; None if no file names them.
      task: a tasks.Task, complete.
      may_lack: bool, whether the data may lack some of the labels, since they are only evaluated.
    """
    numbers, labels = set(tasks.ids(len(names or ()))), set(task.known_labels)
    if not names or not labels or len(set(names)) < len(names):
        return task
    if (labels <= numbers if may_lack else labels == numbers) and not labels & set(names):
        pairs = ", ".join("%d is %s" % pair for pair in enumerate(names))
        logging.info("the classifier names the labels: %s", pairs)
        return dataclasses.replace(task, labels=tuple(names), takes_ids=True)
    spelt = {_folded(label): label for label in task.known_labels}
    folded = [_folded(name) for name in names]
    same = set(spelt) <= set(folded) if may_lack else sorted(spelt) == sorted(folded)
    if not task.takes_columns or not same or len(spelt) != len(task.known_labels):
        return task
    spelt_names = tuple(spelt.get(key, name) for key, name in zip(folded, names))
    return dataclasses.replace(task, labels=spelt_names)


def _note_on_names(
    names: Sequence[str], labels: Sequence[str], order: Sequence[int], place: str
) -> str:
    """Returns the log line about labels matched by name; "" if names and order are the same."""
    parts = []
    taken = [names[row] for row in order]
    if taken != list(labels):
        parts.append(", ".join("%s is %s" % pair for pair in zip(taken, labels)))
    if list(order) != list(range(len(order))):
        parts.append("its order is %s, the task's is %s" % (_list(names), _list(labels)))
    matched = "%s: the labels of its classifier are matched by name: " % place
    return matched + "; ".join(parts) if parts else ""


def _labels(task: Task) -> str:
    return _list(task.known_labels)


def _list(labels: Iterable[str]) -> str:
    return ", ".join(labels)
