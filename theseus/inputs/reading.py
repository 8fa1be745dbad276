"""Reads a file of texts, or of pairs of texts, as examples.

A file (sources.py) is cut into lines (lines.py) and rows (rows.py). layout.py finds its columns,
and this module makes the examples.
"""

from __future__ import annotations

import collections
import itertools
import json
from typing import TYPE_CHECKING, Any, Iterable, Iterator, NamedTuple, Sequence

import numpy as np
from absl import logging

from theseus.errors import UserError, failing
from theseus.inputs import layout, lines, other_formats, rows, second_text, tasks
from theseus.inputs.layout import Layout, Row
from theseus.inputs.sources import ReadOptions, name_of
from theseus.inputs.tasks import Task

if TYPE_CHECKING:
    from numpy.typing import NDArray

# The number of rows that are looked at to find a file's columns.
_SAMPLE_ROWS = 1000
# The number of a list's values that a message shows.
_SHOWN_VALUES = 30


class _Texts(NamedTuple):
    """The fields of an Example that are compared."""

    text_a: str
    text_b: str | None
    label: str | None


class Example(_Texts):
    """A text or a pair of them.

    Fields:
      text_a: the text, or the first of two.
      text_b: the second; None where there is one text.
      label: "" if it is not known, None if its file has no labels.

    Attributes, which are not compared:
      row: the number of its line in its file, from 0, without a header; None if it is not from a
        file.
      others: dict from the names of the other columns to the values of its line: str, or for JSON
        Lines any value; None if they were not asked for.
    """

    row: int | None
    others: dict[str, Any] | None

    def __new__(
        cls,
        text_a: str,
        text_b: str | None,
        label: str | None,
        row: int | None = None,
        others: dict[str, Any] | None = None,
    ) -> Example:
        """Makes an Example."""
        made = super(Example, cls).__new__(cls, text_a, text_b, label)
        made.row, made.others = row, others
        return made


def holds_nothing(text_a: str, text_b: str | None) -> bool:
    """Returns whether an example is empty: a single text, or both texts of a pair."""
    return tasks.is_blank(text_a) and tasks.is_blank(text_b)


def read_examples(
    path: str, task: Task, labels_required: bool = True, form: ReadOptions | None = None
) -> list[Example]:
    """Returns the list of Examples that `iterate_examples` yields."""
    return list(iterate_examples(path, task, labels_required, form))


def iterate_examples(
    path: str,
    task: Task,
    labels_required: bool = True,
    form: ReadOptions | None = None,
    keeps_others: bool = False,
) -> Iterator[Example]:
    """Reads the rows of a file, one after the other.

    Byte-order marks, the line ends of lines.py and, if the task's files may have one, a header are
    recognised. All lines must have as many columns as the first. Blank lines at the end of the file
    are ignored. Before the end, they are skipped and logged in a file whose examples must have
    labels. In other files they are errors, so that there is an example for each line.

    An example must not be empty, see `holds_nothing`. Invisible characters of a label are removed,
    see tasks.clean_label.

    Args:
      path: the file, or `STANDARD_INPUT`.
      task: a tasks.Task.
      labels_required: bool, whether each line must have a label. If not, a file may lack that
        column, and a line may have an unknown label such as -1 (layout.UNKNOWN_LABELS).
      form: a ReadOptions; None: a new one.
      keeps_others: bool, whether an Example also keeps all other columns of its line.

    Yields:
      Example, in the order of the file.

    Raises:
      UserError: it names the file, the line, what was expected and what was found.
    """
    return _Pass(path, task, labels_required, form or ReadOptions(), keeps_others).examples()


class _Rows(object):
    """The rows of a file. Lines that are not rows are skipped and logged, or are errors.

    Attributes:
      name: str, what a message calls the file.
      format: str, one of rows.FORMATS.
      separated: str, see rows.separated_by.
    """

    def __init__(self, path: str, form: ReadOptions, blank_is: str | None) -> None:
        """Names the file.

        Args:
          path: str.
          form: ReadOptions.
          blank_is: str, the error of a blank line before the end; None: it is skipped.
        """
        self.name, self.format = name_of(path), rows.format_of(path, form.format)
        self.separated = rows.separated_by(self.format, form.delimiter)
        self._path, self._form, self._blank_is = path, form, blank_is
        self._blank: list[int] = []
        self._bad: list[tuple[int, str]] = []
        self._num_lines = 0

    def iterate(self) -> Iterator[Row]:
        """Yields the layout.Rows; then logs which blank lines at the end were ignored."""
        blank: list[int] = []
        for row in rows.iterate_rows(self._lines(), self.format, self._form.delimiter):
            if isinstance(row, Row):
                for number in blank:
                    if self._blank_is is None:
                        self._blank.append(number)
                    else:
                        self.leave_out(number, self._blank_is)
                blank = []
                yield row
            elif row.problem is None:
                blank.append(row.number)
            else:
                self.leave_out(row.number, row.problem)
        if blank:
            what = "%s from line %d on" % (_blank_lines(blank), blank[0])
            self.say("%s ignored, at the end of the file" % what)

    def _lines(self) -> Iterator[lines.Line]:
        stream = self._form.open(self._path)
        try:
            for line in lines.iterate_lines(stream, self._form.encoding, self.say):
                self._num_lines = line.number
                yield line
        except lines.Unreadable as error:  # The lines after it cannot be skipped unread.
            raise UserError("%s, about line %d: %s" % (self.name, self._num_lines + 1, error))

    def say(self, message: str, level: int = logging.WARNING) -> None:
        """Logs a line about the file, once."""
        self._form.say(self._path, message, level)

    def leave_out(self, number: int, why: str) -> None:
        """Skips a line that is not an example; raises UserError without --skip_bad_lines."""
        if not self._form.skip_bad_lines:
            raise UserError("%s, line %d: %s" % (self.name, number, why))
        self._bad.append((number, why))

    def no_example(self) -> UserError:
        """Returns the UserError of a file without an example; it quotes the first bad line."""
        first = "; skipped line %d: %s" % self._bad[0] if self._bad else ""
        return UserError("%s: holds no example%s" % (self.name, first))

    def say_left_out(self) -> None:
        """Logs which lines were skipped."""
        if self._blank:
            what = (_blank_lines(self._blank), self._blank[0])
            self.say("%s skipped, the first is line %d" % what)
        for item in sorted(self._bad):
            self.say("skipped line %d: %s" % item)
        if self._bad:
            self.say("skipped %d of %d lines" % (len(self._bad), self._num_lines))


class _Pass(object):
    """One reading of a file."""

    def __init__(
        self, path: str, task: Task, labels_required: bool, form: ReadOptions, keeps_others: bool
    ) -> None:
        self.path, self.task, self.form = path, task, form
        self.labels_required = labels_required
        self.keeps_others = keeps_others
        self._expected = "expected %s, found " % ("a text" if task.num_texts == 1 else "two texts")
        self._rows = _Rows(path, form, None if labels_required else self._expected + "a blank line")

    def examples(self) -> Iterator[Example]:
        """Yields Examples, see `iterate_examples`."""
        is_empty = True
        name = self._rows.name
        with failing(name, "read"):
            stream = self.form.open(self.path)
            other_formats.refuse(stream, name, self._rows.format, self.form.encoding)
            for row, found in self._found_rows():
                try:
                    example = self._example(row, found)
                except UserError as error:
                    self._rows.leave_out(row.number, str(error))
                    continue
                yield example
                is_empty = False
        if is_empty:
            raise self._rows.no_example()
        self._rows.say_left_out()

    def _found_rows(self) -> Iterator[tuple[Row, Layout]]:
        """Yields (layout.Row, the file's layout.Layout) of all rows but the header."""
        all_rows = self._rows.iterate()
        head = list(itertools.islice(all_rows, _SAMPLE_ROWS))
        if head:
            head, found = self._find_layout(head)
            for row in itertools.chain(head, all_rows):
                if row is not found.header:
                    yield row, found

    def _find_layout(self, head: list[Row]) -> tuple[list[Row], Layout]:
        """Finds the file's layout.Layout, and logs what is not certain about it.

        Returns:
          (the rows of `head` from the first one that is not skipped, the Layout).
        """
        if self.form.skip_bad_lines:
            widths = [len(row.cells) for row in head]
            ((width, _),) = collections.Counter(widths).most_common(1)
            first = widths.index(width)
            for row in head[:first]:
                what = (width, len(row.cells))
                why = "expected %d columns, as in most lines, found %d" % what
                self._rows.leave_out(row.number, why)
            head = head[first:]
        try:
            header = self.form.header_of(self.path, layout.names(head[0]))
            separated = self._rows.separated
            found = layout.find_layout(head, self.task, self.labels_required, header, separated)
        except UserError as error:
            number = max(1, head[0].number)  # The names of JSON Lines are those of line 1.
            delimiter = self.form.delimiter
            hint = other_formats.hint(head[0].cells, self._rows.format, delimiter)
            raise UserError("%s, line %d: %s%s" % (self._rows.name, number, error, hint))
        second_text.refuse(head, found, self.task, self._rows.name)
        if found.doubt:
            self._rows.say("line %d: %s" % (head[0].number, found.doubt))
        if found.header and self.task.takes_columns:
            self._rows.say(layout.describe(found.columns, found.header), logging.INFO)
        is_quoted = found.header and found.header.cells[0].startswith('"')
        if is_quoted and self._rows.format == "tsv":
            self._rows.say(
                "the column names are in quotation marks; in the rows such marks stay part of "
                "the texts and labels (--format=csv --delimiter=tab removes them)"
            )
        self.form.remember(self.path, found)
        return head, found

    def _example(self, row: Row, found: Layout) -> Example:
        """Returns the Example of a layout.Row; raises UserError if the row is not one."""
        columns = found.columns
        if len(row.cells) != found.width:
            expected = layout.count(found.width) + self._rows.separated
            what = (expected, layout.count(len(row.cells)))
            raise UserError("expected %s, as in the first line, found %s" % what)
        for index in columns:
            if index is not None and isinstance(row.cells[index], rows.Missing):
                name = found.header.cells[index] if found.header else ""
                raise UserError("lacks %s, which the first object has" % ascii(name))
        if found.header and layout.names(row) == layout.names(found.header):
            raise UserError("repeats the header, as if two files were joined; remove it")
        text_a = row.cells[columns.text_a]
        text_b = None if columns.text_b is None else row.cells[columns.text_b]
        if rows.Nested in (type(text_a), type(text_b)):
            raise UserError(self._expected + "a list or an object")
        if holds_nothing(text_a, text_b):
            raise UserError(self._expected + "nothing")
        label = None if columns.label is None else self._label(row, columns.label, found)
        number = row.number - 1 - (found.header.number if found.header else 0)
        others = _others(row, found) if self.keeps_others else None
        return Example(text_a, text_b, label, number, others)

    def _label(self, row: Row, column: int, found: Layout) -> str:
        if isinstance(row.cells[column], rows.Nested):
            raise UserError("expected a label, found a list or an object")
        label = tasks.clean_label(row.cells[column])
        if layout.is_label(label, self.task):
            return label
        if not self.labels_required and label.lower() in layout.UNKNOWN_LABELS:
            return ""
        expected = "a number" if self.task.is_regression else "a label"
        if self.task.labels:
            expected += " of " + listed(self.task.labels)
        hint = ""
        if label and self.task.labels and self.labels_required and not self.task.takes_columns:
            hint = "; a training with --task_name=custom takes other labels"
        if row.number == 1 and not found.header and self.form.header == "auto":
            hint += "; if the line is a header, give --header=yes"
        raise UserError("expected %s, found %s%s" % (expected, _shown(label), hint))


def _others(row: Row, found: Layout) -> dict[str, Any]:
    """Returns a dict of a layout.Row's other columns, from their names to their values."""
    if row.source and found.header:  # An object may have keys that the first one lacks.
        taken = {found.header.cells[index] for index in found.columns if index is not None}
        values = json.loads(row.source)
        return {name: value for name, value in values.items() if name not in taken}
    others: dict[str, Any] = {}
    for index, cell in enumerate(row.cells):
        if index not in found.columns:
            name = tasks.clean_label(found.header.cells[index]) if found.header else ""
            number = "column_%d" % (index + 1)
            others[number if not name or name in others else name] = cell
    return others


def _blank_lines(numbers: Sequence[int]) -> str:
    return "1 blank line" if len(numbers) == 1 else "%d blank lines" % len(numbers)


def _shown(text: str) -> str:
    """Returns a str as a message quotes it: shortened, but long enough to be found."""
    return "none" if not text else repr(text if len(text) <= 40 else text[:40] + "...")


def listed(values: Iterable[str]) -> str:
    """Returns the first of some str, separated by commas, and the number of the others."""
    values = list(values)
    more = len(values) - _SHOWN_VALUES
    return ", ".join(values[:_SHOWN_VALUES]) + (" and %d more" % more if more > 0 else "")


# --- Samples ---


def sample_examples(examples: list[Example], count: int | None) -> list[Example]:
    """Returns `count` random examples in the order of the file; the same ones at every call.

    A smaller sample is part of a larger one. If `count` is None or too large, all are returned.
    """
    if count is None or count >= len(examples):
        return examples
    return list(itertools.compress(examples, _sampled_rows(len(examples), count)))


def iterate_sample(
    path: str, task: Task, count: int | None, form: ReadOptions | None = None
) -> Iterator[Example]:
    """Yields a sample of a file's labelled examples, as `sample_examples`, without a list of all.

    Args:
      count: as there.
      others: see `iterate_examples`.
    """
    form = form or ReadOptions()
    examples = iterate_examples(path, task, form=form)
    if count is None:
        return examples
    total = sum(1 for _ in examples)
    examples = iterate_examples(path, task, form=form)
    return itertools.compress(examples, _sampled_rows(total, min(count, total)))


def _sampled_rows(total: int, count: int) -> NDArray[np.bool_]:
    """Returns which of `total` rows are in a sample of `count`, bool [total]."""
    is_in = np.zeros(total, bool)
    is_in[np.random.RandomState(0).permutation(total)[:count]] = True
    return is_in
