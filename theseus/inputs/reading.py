"""From a file of texts or pairs of texts to examples."""

import collections
import dataclasses
import io
import itertools
import math
import os
import sys

import numpy as np

from theseus.errors import UserError
from theseus.inputs import tasks

Example = collections.namedtuple("Example", "text_a text_b label")
"""A text or a pair of them (str; text_b None) and the label (str; None where it is not known)."""

STANDARD_INPUT = "-"
"""The path that means standard input."""


def find_files(data_dir, task, split):
    """Returns the paths of a split's files, each with the ending .txt or .tsv.

    Args:
      data_dir: the folder.
      task: a tasks.Task.
      split: "train", "dev" or "test".

    Raises:
      UserError: one of them is not there, or is there with both endings.
    """
    return [_find_file(os.path.join(data_dir, name)) for name in task.files(split)]


def _find_file(path):
    candidates = [path + ending for ending in (".txt", ".tsv")]
    found = list(filter(os.path.isfile, candidates))
    if len(found) != 1:
        problem = "both exist; keep one" if found else "neither exists; see --data_dir"
        raise UserError("%s, %s: %s" % (candidates[0], candidates[1], problem))
    return found[0]


def read_examples(path, task, labels_required=True):
    """Returns the list of Examples that `iterate_examples` yields."""
    return list(iterate_examples(path, task, labels_required))


def iterate_examples(path, task, labels_required=True):
    """Reads tab-separated lines, UTF-8, one after the other.

    A byte-order mark, CRLF line ends and empty lines are understood, and a header where the
    task's files may have one. All lines have as many columns as the first.

    Args:
      path: the file, or `STANDARD_INPUT`.
      task: a tasks.Task.
      labels_required: whether each line must have a label; if not, a file has it in all
        lines or in none.

    Yields:
      Example, in the order of the file.

    Raises:
      UserError: names the file, the line, what was expected and what was found.
    """
    rows = _rows(path)
    path = "standard input" if path == STANDARD_INPUT else path
    first = next(rows, None)
    if first is None:
        raise UserError("%s: holds no example" % path)
    columns, is_header = _find_columns(path, first, task, labels_required)
    is_empty = True
    for number, row in rows if is_header else itertools.chain([first], rows):
        if len(row) != len(first[1]):
            raise UserError(
                "%s, line %d: expected %s, separated by tabs, as in the first line; found %s"
                % (path, number, _count(first[1]), _count(row))
            )
        yield _example(path, number, row, columns, task)
        is_empty = False
    if is_empty:
        raise UserError("%s: holds no example" % path)


def complete_task(task, path):
    """Returns `task` with what only its training data can tell: one text or two, and the labels.

    Args:
      task: a tasks.Task.
      path: the file with the training data.

    Raises:
      UserError: see `iterate_examples`.
    """
    _, header = next(_rows(path), (0, []))
    second = task.header.text_b
    if second == tasks.USUAL_NAMES.text_b and not second.intersection(_names(header)):
        task = tasks.of_one_text(task)
    if task.labels is None:
        labels = {example.label for example in iterate_examples(path, task)}
        if len(labels) < 2:
            raise UserError("%s: holds no label but %r; it takes two" % (path, labels.pop()))
        in_order = sorted(labels, key=int if all(map(str.isdigit, labels)) else None)
        task = dataclasses.replace(task, labels=tuple(in_order))
    return task


def _rows(path):
    """Yields (line's number, list of its columns) of each line that is not empty."""
    try:
        with _open(path) as reader:
            for number, line in enumerate(reader, start=1):
                line = line.rstrip("\r\n")
                if line:
                    yield number, line.split("\t")
    except OSError as error:
        raise UserError("%s: cannot be read: %s" % (path, error.strerror))
    except UnicodeDecodeError as error:
        raise UserError("%s: cannot be read as UTF-8 text: %s" % (path, error))


def _open(path):
    source = sys.stdin.fileno() if path == STANDARD_INPUT else path
    return io.open(source, encoding="utf-8-sig", newline="\n", closefd=path != STANDARD_INPUT)


def _find_columns(path, first, task, labels_required):
    """Returns (tasks.Columns of places, whether the first row is a header)."""
    row = first[1]
    columns, is_header = _columns_by_name(row, task), True
    if columns is None:
        columns = _columns_by_place(row, task)
        is_header = columns is not None and _bears_usual_names(row, columns)
    if columns is None or (labels_required and columns.label is None):
        raise _wrong_first_row(path, first, task, labels_required)
    return columns, is_header


def _columns_by_name(row, task):
    """Returns the Columns of a header; None where the row is none."""
    names = _names(row)

    def place(column):
        if not isinstance(column, frozenset):
            return column
        return next((place for place, name in enumerate(names) if name in column), None)

    columns = tasks.Columns(*map(place, task.header))
    are_named = any(isinstance(column, frozenset) for column in task.header[: task.num_texts])
    is_header = are_named and None not in columns[: task.num_texts] and not _has_label(row, task)
    return columns if is_header else None


def _columns_by_place(row, task):
    """Returns the Columns of a file without names in a header; None where they do not fit."""
    if not task.places or max(task.places[: task.num_texts]) >= len(row):
        return None
    label = task.places.label
    return task.places._replace(label=label if label is not None and label < len(row) else None)


def _has_label(row, task):
    """Returns whether one of the task's labels is where it is in files without a header."""
    places = _columns_by_place(row, task)
    return bool(places and places.label is not None and row[places.label] in (task.labels or ()))


def _bears_usual_names(row, columns):
    """Returns whether the first row of a file whose columns have fixed places is a header."""
    names = _names(row)
    found = [
        place is None or names[place] in usual for place, usual in zip(columns, tasks.USUAL_NAMES)
    ]
    return found[2] if columns.label is not None else all(found)


def _names(row):
    return [column.strip().lower() for column in row]


def _wrong_first_row(path, first, task, with_label):
    """Returns the UserError for a first row in which the task's columns are not found."""
    number, row = first
    expected = ", ".join(task.column_names(with_label))
    if task.places:
        expected, found = expected + ", separated by tabs", _count(row)
    else:
        expected, found = "a header with " + expected, ", ".join(row)
    hint = ""
    if task.takes_columns:
        hint = "; name them by --text_a_column, --text_b_column and --label_column"
    return UserError("%s, line %d: expected %s; found %s%s" % (path, number, expected, found, hint))


def _count(row):
    return "%d column%s" % (len(row), "s" if len(row) != 1 else "")


def _example(path, number, row, columns, task):
    label = None if columns.label is None else row[columns.label]
    if label is not None and not _fits(label, task):
        expected = "a number" if task.is_regression else "a label of " + ", ".join(task.labels)
        raise UserError("%s, line %d: expected %s; found %r" % (path, number, expected, label))
    text_b = None if columns.text_b is None else row[columns.text_b]
    return Example(row[columns.text_a], text_b, label)


def _fits(label, task):
    """Returns whether `label`, str, is one that the task can have."""
    if task.is_regression:
        try:
            return math.isfinite(float(label))
        except ValueError:
            return False
    return task.labels is None or label in task.labels


def sample_examples(examples, count):
    """Returns `count` random examples in the order of the file, always the same ones.

    A smaller sample is part of a larger one. None, or more than there are: all.
    """
    if count is None or count >= len(examples):
        return examples
    rows = np.random.RandomState(0).permutation(len(examples))[:count]
    return [examples[row] for row in sorted(rows)]
