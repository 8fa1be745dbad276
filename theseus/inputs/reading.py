"""From a file of texts or pairs of texts to examples.

bytes -> lines (lines.py) -> rows (rows.py) -> where the columns are (layout.py) -> examples.
"""

from __future__ import annotations

import collections
import dataclasses
import io
import itertools
import os
import shutil
import stat
import tempfile
import unicodedata
from typing import (
    IO,
    TYPE_CHECKING,
    Any,
    BinaryIO,
    Iterable,
    Iterator,
    Mapping,
    NamedTuple,
    Sequence,
)

import numpy as np
from absl import logging

from theseus.errors import UserError
from theseus.inputs import layout, lines, rows, tasks
from theseus.inputs.layout import Layout, Row
from theseus.inputs.tasks import Task

if TYPE_CHECKING:
    from numpy.typing import NDArray

STANDARD_INPUT = "-"
"""The path that means standard input."""

# So many rows tell where a file's columns are.
_SAMPLE_ROWS = 1000
# More labels than so many are worth a line: another column may have been meant.
_MANY_LABELS = 30


class _Texts(NamedTuple):
    """What of an Example is compared."""

    text_a: str
    text_b: str | None
    label: str | None


class Example(_Texts):
    """A text or a pair of them.

    Fields:
      text_a: the text, or the first of two.
      text_b: the second; None where there is one text.
      label: "" where it is not known, None where its file has no labels.

    Attributes:
      row: the place of its line in its file, from 0, where a header does not count; None where
        it is of none. It is no part of what is compared.
    """

    row: int | None

    def __new__(
        cls, text_a: str, text_b: str | None, label: str | None, row: int | None = None
    ) -> Example:
        """Makes an Example."""
        made = super(Example, cls).__new__(cls, text_a, text_b, label)
        made.row = row
        return made


class FileForm(object):
    """How the files of a command are to be read, and what was said of them already."""

    def __init__(
        self,
        header: str = "auto",
        encoding: str | None = None,
        skip_bad_lines: bool = False,
        format: str = "auto",
    ) -> None:
        """Takes what the flags of the same names say.

        Args:
          header: str, see layout.find_layout.
          encoding: str; None: UTF-8.
          skip_bad_lines: bool, whether a line that is not an example is left out, and said, where
            it would otherwise be an error.
          format: str, one of rows.FORMATS; "auto": by the file's ending.
        """
        self.header = header
        self.format = format
        self.encoding = encoding
        self.skip_bad_lines = skip_bad_lines
        self._said: set[str] = set()
        self._decided: dict[str, str] = {}
        self._headers: list[list[str]] = []
        self._copies: dict[str, IO[bytes]] = {}
        self._contents: dict[str, bytes] = {}

    def say(self, path: str, message: str, level: int = logging.WARNING) -> None:
        """Logs a line about a file, the first time that it is to be said."""
        line = "%s: %s" % (name_of(path), message)
        if line not in self._said:
            self._said.add(line)
            logging.log(level, "%s", line)

    def header_of(self, path: str, names: list[str]) -> str:
        """Returns what layout.find_layout is to be told of a file's header, str.

        What was found of a file holds when it is read again. A first row that is another
        file's header is one.

        Args:
          path: str.
          names: list of str, those of the first row as a header.
        """
        if rows.format_of(path, self.format) == "jsonl":
            return "yes"
        if self.header != "auto":
            return self.header
        return "yes" if names in self._headers else self._decided.get(path, "auto")

    def remember(self, path: str, found: Layout) -> None:
        """Notes the layout.Layout that was found for a file."""
        self._decided[path] = "yes" if found.header else "no"
        if found.header:
            self._headers.append(layout.names(found.header))

    def content(self, path: str) -> bytes:
        """Returns what a small file holds, bytes; `open` gives the same from then on.

        Raises:
          UserError: it cannot be read.
        """
        if path not in self._contents:
            with self.open(path) as stream:
                self._contents[path] = _read_all(path, stream)
        return self._contents[path]

    def open(self, path: str) -> BinaryIO:
        """Returns a file, opened to be read as bytes from its start, again and again.

        What can be read but once, standard input or a pipe, is copied to the disk.

        Raises:
          UserError: it cannot be read.
        """
        try:
            if path in self._contents:
                return io.BytesIO(self._contents[path])
            if path not in self._copies:
                stream = io.open(0 if path == STANDARD_INPUT else path, "rb", closefd=path != "-")
                if path != STANDARD_INPUT and stat.S_ISREG(os.fstat(stream.fileno()).st_mode):
                    return stream
                self._copies[path] = _copy(stream)
            copy = io.open(os.dup(self._copies[path].fileno()), "rb")
            copy.seek(0)
            return copy
        except OSError as error:
            raise UserError("%s: cannot be read: %s" % (name_of(path), error.strerror))


def recorded_form(definition: Mapping[str, Any], path: str) -> FileForm:
    """Returns the FileForm of a file beside those of a run, by its definition, a dict."""
    is_named = os.path.splitext(path)[1].lower() != ".txt"  # After its format.
    return FileForm(
        definition.get("header") or "auto",
        definition.get("encoding"),
        bool(definition.get("skip_bad_lines")),
        "auto" if is_named else definition.get("format") or "auto",
    )


def _read_all(path: str, stream: BinaryIO) -> bytes:
    try:
        return stream.read()
    except OSError as error:
        raise UserError("%s: cannot be read: %s" % (name_of(path), error.strerror))


def _copy(stream: BinaryIO) -> IO[bytes]:
    """Returns a temporary file with what a binary stream holds, which is closed."""
    copy = tempfile.TemporaryFile()
    with stream:
        shutil.copyfileobj(stream, copy)
    copy.flush()
    return copy


def name_of(path: str) -> str:
    """Returns what a message calls a file, str."""
    return "standard input" if path == STANDARD_INPUT else path


def has_split(data_dir: str, task: Task, split: str) -> bool:
    """Returns whether a folder holds any of a split's files, see `find_files`."""
    return any(rows.existing_files(os.path.join(data_dir, name)) for name in task.files(split))


def find_files(data_dir: str, task: Task, split: str) -> list[str]:
    """Returns the paths of a split's files, each with one of rows.ENDINGS.

    Args:
      data_dir: the folder.
      task: a tasks.Task.
      split: "train", "dev" or "test".

    Raises:
      UserError: one of them is not there, or is there with several endings.
    """
    return [_find_file(os.path.join(data_dir, name)) for name in task.files(split)]


_COUNTS = {2: "both", 3: "all three", 4: "all four"}


def _find_file(path: str) -> str:
    found = rows.existing_files(path)
    if len(found) > 1:
        raise UserError("%s: %s exist; keep one" % (", ".join(found), _COUNTS[len(found)]))
    if not found:
        endings = ", ".join(rows.ENDINGS)
        raise UserError("%s: there is none with an ending of %s; see --data_dir" % (path, endings))
    return found[0]


def read_examples(
    path: str, task: Task, labels_required: bool = True, form: FileForm | None = None
) -> list[Example]:
    """Returns the list of Examples that `iterate_examples` yields."""
    return list(iterate_examples(path, task, labels_required, form))


def iterate_examples(
    path: str, task: Task, labels_required: bool = True, form: FileForm | None = None
) -> Iterator[Example]:
    """Reads the rows of a file, one after the other.

    Byte-order marks and the line ends of lines.py are understood, and a header where the task's
    files may have one. All lines have as many columns as the first. Blank lines at the end are
    the end of the file. Before it, in a file whose examples must have labels, they are left out,
    and said; elsewhere they are a mistake, so that there is an example for each line.

    A pair has a text at least, a single text is not empty. A label is taken without what is not
    to be seen of it, see tasks.clean_label.

    Args:
      path: the file, or `STANDARD_INPUT`.
      task: a tasks.Task.
      labels_required: bool, whether each line must have a label. If not, a file need not have
        that column, nor a line a label in it: nothing, -1 and such (layout.UNKNOWN_LABELS).
      form: a FileForm; None: a new one.

    Yields:
      Example, in the order of the file.

    Raises:
      UserError: names the file, the line, what was expected and what was found.
    """
    return _Pass(path, task, labels_required, form or FileForm()).examples()


class _BadLine(Exception):
    """A line that is not an example; the message says why."""


class _Rows(object):
    """The rows of a file; and the lines that are none, which are left out, said, or an error.

    Attributes:
      format: str, one of rows.FORMATS.
    """

    def __init__(self, path: str, form: FileForm, blank_is: str | None) -> None:
        """Names the file.

        Args:
          path: str.
          form: FileForm.
          blank_is: str, what is wrong with a blank line before another; None: it is left out.
        """
        self._path, self._form, self._blank_is = path, form, blank_is
        self.format = rows.format_of(path, form.format)
        self._blank: list[int] = []
        self._bad: list[tuple[int, str]] = []
        self._num_lines = 0

    def iterate(self) -> Iterator[Row]:
        """Yields the layout.Rows; at the end says what was left out."""
        blank: list[int] = []

        def leave_out(line: lines.Line) -> None:
            self.leave_out(line.number, line.problem or "")

        for row in rows.iterate_rows(
            self._lines(), self.format, lambda line: blank.append(line.number), leave_out
        ):
            self._judge_blank(blank)
            blank.clear()
            yield row
        if blank:
            what = "%s from line %d on" % (_blank_lines(blank), blank[0])
            self.say("%s, at the end, counted as the end of the file" % what)

    def _lines(self) -> Iterator[lines.Line]:
        stream = self._form.open(self._path)
        try:
            for line in lines.iterate_lines(stream, self._form.encoding, self.say):
                self._num_lines = line.number
                yield line
        except lines.Unreadable as error:  # What comes after it cannot be left out unseen.
            number = self._num_lines + 1
            raise UserError("%s, about line %d: %s" % (name_of(self._path), number, error))

    def _judge_blank(self, numbers: list[int]) -> None:
        """Notes, or refuses, blank lines after which another line comes."""
        if self._blank_is is None:
            self._blank += numbers
            return
        for number in numbers:
            self.leave_out(number, self._blank_is)

    def say(self, message: str, level: int = logging.WARNING) -> None:
        """Logs a line about the file, once."""
        self._form.say(self._path, message, level)

    def leave_out(self, number: int, why: str) -> None:
        """Notes a line that is not an example; raises UserError where none may be left out."""
        if not self._form.skip_bad_lines:
            raise UserError("%s, line %d: %s" % (name_of(self._path), number, why))
        self._bad.append((number, why))

    def first_left_out(self) -> str:
        """Returns the end of a message that tells of the first bad line; "" where none is."""
        return "; left out: line %d: %s" % self._bad[0] if self._bad else ""

    def say_left_out(self) -> None:
        """Says which lines were left out."""
        if self._blank:
            what = (_blank_lines(self._blank), self._blank[0])
            self.say("%s left out, the first of them line %d" % what)
        for item in sorted(self._bad):
            self.say("line %d left out: %s" % item)
        if self._bad:
            self.say("%d of %d lines left out" % (len(self._bad), self._num_lines))


class _Pass(object):
    """One reading of a file."""

    def __init__(self, path: str, task: Task, labels_required: bool, form: FileForm) -> None:
        self.path, self.task, self.form = path, task, form
        self.labels_required = labels_required
        self._expected = "expected %s; found " % ("a text" if task.num_texts == 1 else "two texts")
        self._rows = _Rows(path, form, None if labels_required else self._expected + "a blank line")

    def examples(self) -> Iterator[Example]:
        """Yields Examples, see `iterate_examples`."""
        try:
            for example in self._examples():
                yield example
        except OSError as error:
            raise UserError("%s: cannot be read: %s" % (name_of(self.path), error.strerror))

    def _examples(self) -> Iterator[Example]:
        is_empty = True
        for example in self._examples_of(self._rows.iterate()):
            yield example
            is_empty = False
        if is_empty:
            first = self._rows.first_left_out()
            raise UserError("%s: holds no example%s" % (name_of(self.path), first))
        self._rows.say_left_out()

    def _examples_of(self, found_rows: Iterator[Row]) -> Iterator[Example]:
        """Yields the Example of each layout.Row that is one."""
        head = list(itertools.islice(found_rows, _SAMPLE_ROWS))
        if not head:
            return
        head, found = self._find_layout(head)
        for row in itertools.chain(head, found_rows):
            if row is found.header:
                continue
            try:
                example = self._example(row, found)
            except _BadLine as error:
                self._rows.leave_out(row.number, str(error))
                continue
            yield example

    def _find_layout(self, head: list[Row]) -> tuple[list[Row], Layout]:
        """Finds the file's layout.Layout, and says what of it may be another.

        Returns:
          (the rows of `head` from the first one on that is not left out, the Layout).
        """
        if self.form.skip_bad_lines:
            widths = collections.Counter(len(row.cells) for row in head)
            width = widths.most_common(1)[0][0]
            while len(head[0].cells) != width:
                found_width = len(head[0].cells)
                why = "expected %d columns, as in most lines; found %d" % (width, found_width)
                self._rows.leave_out(head[0].number, why)
                head = head[1:]
        try:
            header = self.form.header_of(self.path, layout.names(head[0]))
            found = layout.find_layout(head, self.task, self.labels_required, header)
        except UserError as error:
            number = max(1, head[0].number)  # The names of JSON Lines are those of line 1.
            hint = self._hint(head[0].cells)
            raise UserError("%s, line %d: %s%s" % (name_of(self.path), number, error, hint))
        if found.doubt:
            self._rows.say("line %d: %s" % (head[0].number, found.doubt))
        if found.header and self.task.takes_columns:
            self._rows.say(layout.describe(found.columns, found.header), logging.INFO)
        if found.header and found.header.cells[0].startswith('"'):
            self._rows.say(
                "the names are in quotation marks; in the rows these are part of the texts "
                "(--format=csv reads what commas separate)"
            )
        self.form.remember(self.path, found)
        return head, found

    def _hint(self, cells: list[str]) -> str:
        """Returns the end of a message about a first row: which format it may be of."""
        if self._rows.format != "tsv" or len(cells) > 1:
            return ""
        if cells[0].lstrip().startswith("{"):
            return "; --format=jsonl reads JSON Lines"
        return "; --format=csv reads what commas separate" if "," in cells[0] else ""

    # --- Examples ---

    def _example(self, row: Row, found: Layout) -> Example:
        """Returns a layout.Row as an Example; raises _BadLine where it is none."""
        columns = found.columns
        if len(row.cells) != found.width:
            raise _BadLine(
                "expected %s%s, as in the first line; found %s"
                % (
                    layout.count([None] * found.width),
                    rows.separated_by(self._rows.format),
                    layout.count(row.cells),
                )
            )
        if found.header and layout.names(row) == layout.names(found.header):
            raise _BadLine("holds the header again, as where two files were put together")
        text_a = row.cells[columns.text_a]
        text_b = None if columns.text_b is None else row.cells[columns.text_b]
        if isinstance(text_a, rows.Nested) or isinstance(text_b, rows.Nested):
            raise _BadLine(self._expected + "a list or an object")
        if tasks.is_blank(text_a) and tasks.is_blank(text_b):
            raise _BadLine(self._expected + "nothing")
        label = None if columns.label is None else self._label(row, columns.label, found)
        number = row.number - 1 - (found.header.number if found.header else 0)
        return Example(text_a, text_b, label, number)

    def _label(self, row: Row, column: int, found: Layout) -> str:
        if isinstance(row.cells[column], rows.Nested):
            raise _BadLine("expected a label; found a list or an object")
        label = tasks.clean_label(row.cells[column])
        if layout.is_label(label, self.task):
            return label
        if not self.labels_required and label.lower() in layout.UNKNOWN_LABELS:
            return ""
        expected = "a number" if self.task.is_regression else "a label"
        if self.task.labels:
            expected += " of " + _listed(self.task.labels)
        hint = ""
        if row.number == 1 and not found.header and self.form.header == "auto":
            hint = "; if the line is a header, give --header=yes"
        raise _BadLine("expected %s; found %s%s" % (expected, _shown(label), hint))


def _blank_lines(numbers: Sequence[int]) -> str:
    return "1 blank line" if len(numbers) == 1 else "%d blank lines" % len(numbers)


def _shown(text: str) -> str:
    """Returns a str as a message shows it: so much of it that it can be found."""
    return "none" if not text else repr(text if len(text) <= 40 else text[:40] + "...")


def _listed(values: Iterable[str]) -> str:
    """Returns the first of some str as a list in words."""
    values = list(values)
    more = len(values) - _MANY_LABELS
    return ", ".join(values[:_MANY_LABELS]) + (" and %d more" % more if more > 0 else "")


# --- What the training data tell of a task ---


def complete_task(task: Task, path: str, form: FileForm | None = None) -> Task:
    """Returns `task` with what only its training data can tell: one text or two, and the labels.

    Args:
      task: a tasks.Task.
      path: the file with the training data.
      form: a FileForm; None: a new one.

    Raises:
      UserError: see `iterate_examples`.
    """
    form = form or FileForm()
    second = task.header.text_b
    if isinstance(second, tuple) and second == tasks.USUAL_NAMES.text_b:
        if not set(second).intersection(_first_names(path, form)):
            task = tasks.of_one_text(task)
    if task.labels is not None:
        return task
    labels = (example.label for example in iterate_examples(path, task, form=form))
    counts = collections.Counter(label for label in labels if label is not None)
    if len(counts) < 2:
        raise UserError("%s: holds no label but %r; it takes two" % (path, list(counts)[0]))
    for message in _odd_labels(counts):
        form.say(path, message)
    return dataclasses.replace(task, labels=tasks.in_order(counts))


def _first_names(path: str, form: FileForm) -> list[str]:
    """Returns the names, list of str, that the first row which is not blank holds."""
    all_lines = lines.iterate_lines(form.open(path), form.encoding)
    format = rows.format_of(path, form.format)
    for row in rows.iterate_rows(all_lines, format, lambda _: None, lambda _: None):
        return layout.names(row)
    return []


def _odd_labels(counts: collections.Counter[str]) -> Iterator[str]:
    """Yields what is strange about the labels of a Counter, each a str."""
    if len(counts) > _MANY_LABELS:
        yield "holds %d different labels in %d examples; is it the right column?" % (
            len(counts),
            sum(counts.values()),
        )
    unknown = [label for label in tasks.in_order(counts) if label.lower() in layout.UNKNOWN_LABELS]
    if unknown:
        yield "%s taken for labels, which often stand for one that is not known" % (
            _listed(map(repr, unknown)) + (" are" if len(unknown) > 1 else " is")
        )
    single = [label for label in tasks.in_order(counts) if counts[label] == 1]
    if single:
        yield "%s: %s; a slip?" % (
            "one label occurs once" if len(single) == 1 else "%d labels occur once" % len(single),
            _listed(map(repr, single)),
        )
    alike: dict[str, list[str]] = collections.defaultdict(list)
    for label in tasks.in_order(counts):
        alike[unicodedata.normalize("NFKC", label).casefold()].append(label)
    for labels in alike.values():
        if len(labels) > 1:
            yield "labels that differ in case or width alone: %s" % _listed(map(repr, labels))


def sample_examples(examples: list[Example], count: int | None) -> list[Example]:
    """Returns `count` random examples in the order of the file, always the same ones.

    A smaller sample is part of a larger one. None, or more than there are: all.
    """
    if count is None or count >= len(examples):
        return examples
    return list(itertools.compress(examples, _sampled_rows(len(examples), count)))


def iterate_sample(
    path: str, task: Task, count: int | None, form: FileForm | None = None
) -> Iterator[Example]:
    """Yields what `sample_examples` returns of a file's labelled examples, without a list of them.

    Args:
      count: as there.
      others: see `iterate_examples`.
    """
    form = form or FileForm()
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
