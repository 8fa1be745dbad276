"""Infers from the training data whether a task has one text or two, and its labels."""

from __future__ import annotations

import collections
import dataclasses
import unicodedata
from typing import Iterator, Sequence

from theseus.errors import UserError
from theseus.inputs import layout, lines, rows, tasks
from theseus.inputs.reading import iterate_examples, listed
from theseus.inputs.sources import ReadOptions
from theseus.inputs.tasks import Task

# More labels than this cause a log line: the user may have meant another column.
_MANY_LABELS = 30


def infer_task(task: Task, path: str, form: ReadOptions | None = None) -> Task:
    """Returns `task` completed from its training data: one text or two, and the labels.

    Args:
      task: a tasks.Task.
      path: the file with the training data.
      form: a ReadOptions; None: a new one.

    Raises:
      UserError: see `iterate_examples`.
    """
    form = form or ReadOptions()
    if task.header.text_b == tasks.SECOND_OF_TWO:
        if not set(tasks.SECOND_OF_TWO).intersection(first_names(path, form)):
            task = tasks.of_one_text(task)
    if task.labels is not None:
        return task
    labels = (example.label for example in iterate_examples(path, task, form=form))
    counts = collections.Counter(label for label in labels if label is not None)
    if len(counts) < 2:
        raise UserError("%s: expected at least two labels, found only %r" % (path, list(counts)[0]))
    for message in _odd_labels(counts):
        form.say(path, message)
    return dataclasses.replace(task, labels=tasks.in_order(counts))


def first_names(path: str, form: ReadOptions) -> list[str]:
    """Returns the names, list of str, in the first row that is not blank; none if none is read."""
    all_lines = lines.iterate_lines(form.open(path), form.encoding)
    format = rows.format_of(path, form.format)
    try:
        for row in rows.iterate_rows(all_lines, format, form.delimiter):
            if isinstance(row, layout.Row):
                return layout.names(row)
    except lines.Unreadable:  # Whoever reads the examples tells the user.
        pass
    return []


def _fractions(labels: Sequence[str]) -> list[str]:
    """Returns the labels that are not whole numbers, if all are numbers; otherwise none."""
    numbers = {label: label.replace(",", ".") for label in labels}
    if not all(
        layout.is_label(number, tasks.TASKS["custom_number"]) for number in numbers.values()
    ):
        return []
    return [label for label, number in numbers.items() if not float(number).is_integer()]


def _odd_labels(counts: collections.Counter[str]) -> Iterator[str]:
    """Yields a message, str, for each thing that is unusual about the labels in a Counter."""
    if len(counts) > _MANY_LABELS:
        yield "holds %d different labels in %d examples; is --label_column the right column?" % (
            len(counts),
            sum(counts.values()),
        )
    unknown = [label for label in tasks.in_order(counts) if label.lower() in layout.UNKNOWN_LABELS]
    if unknown:
        yield (
            "%s treated like any other label, although such values often stand for an unknown label"
        ) % (listed(map(repr, unknown)) + (" are" if len(unknown) > 1 else " is"))
    fractions = _fractions(tasks.in_order(counts))
    if fractions:
        shown = listed(map(repr, fractions[:3]))
        write = (
            "write them with a decimal point, and "
            if any("," in label for label in fractions)
            else ""
        )
        yield (
            "its labels are fractional numbers (%s), and each counts as a separate class; to "
            "predict a number, %sgive --task_name=custom_number" % (shown, write)
        )
    single = [label for label in tasks.in_order(counts) if counts[label] == 1]
    if single:
        yield "%s: %s; a typing error?" % (
            "one label occurs once" if len(single) == 1 else "%d labels occur once" % len(single),
            listed(map(repr, single)),
        )
    alike: dict[str, list[str]] = collections.defaultdict(list)
    for label in tasks.in_order(counts):
        alike[unicodedata.normalize("NFKC", label).casefold()].append(label)
    for labels in alike.values():
        if len(labels) > 1:
            yield "some labels differ only in case or character width: %s" % listed(
                map(repr, labels)
            )
