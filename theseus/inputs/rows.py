"""From a file's lines to its rows: cut at tabs, read as CSV, or as JSON Lines.

tsv    a row is a line, cut at its tabs; quotation marks are text
csv    RFC 4180: commas, and quotation marks around what holds one, or the end of a line
jsonl  a line is an object; the keys of the first one are the names of the columns
"""

from __future__ import annotations

import collections
import csv
import io
import json
import os
from typing import Callable, Iterable, Iterator

from theseus import records
from theseus.inputs import tasks
from theseus.inputs.layout import Row
from theseus.inputs.lines import HALF_A_CHARACTER, HOLDS_A_NUL, NO_TEXT, Line

FORMATS = ("tsv", "csv", "jsonl")
ENDINGS = (".txt", ".tsv", ".csv", ".jsonl")

_SEPARATED = {"tsv": ", separated by tabs", "csv": ", separated by commas", "jsonl": ""}
csv.field_size_limit(2**31 - 1)  # A text may be as long as it is.
# A record of CSV of several lines that is longer has a quotation mark that is not closed.
_LONGEST_RECORD = 1 << 20

OnLine = Callable[[Line], None]


class Nested(str):
    """A value that is no text, number or such, as JSON: a list or an object."""


def existing_files(path: str) -> list[str]:
    """Returns the files, list of str, that a path without its ending may mean."""
    return [path + ending for ending in ENDINGS if os.path.isfile(path + ending)]


def format_of(path: str, given: str = "auto") -> str:
    """Returns the format of a file: what --format says, or else by its name's ending."""
    if given != "auto":
        return given
    ending = os.path.splitext(path)[1].lower()
    return ending[1:] if ending in (".csv", ".jsonl") else "tsv"


def separated_by(format: str) -> str:
    """Returns how a message goes on after so many columns, str."""
    return _SEPARATED[format]


def iterate_rows(
    all_lines: Iterable[Line], format: str, on_blank: OnLine, on_bad: OnLine
) -> Iterator[Row]:
    """Yields the Rows of a file; of JSON Lines first the names, as row 0.

    Args:
      all_lines: Lines.
      format: str, one of `FORMATS`.
      on_blank, on_bad: functions that are given the Lines that are none: what is blank; and
        what has a problem.
    """
    if format == "csv":
        all_lines = _join_quoted(all_lines)
    cut = {"tsv": _cut_at_tabs, "csv": _read_csv, "jsonl": _Objects().read}[format]
    for line in all_lines:
        if line.problem:
            on_bad(line)
        elif tasks.is_blank(line.text):
            on_blank(line)
        else:
            try:
                yield from cut(line)
            except ValueError as error:
                on_bad(line._replace(problem=str(error)))


def _cut_at_tabs(line: Line) -> list[Row]:
    return [Row(line.number, line.text.split("\t"))]


# --- CSV ---


def _join_quoted(all_lines: Iterable[Line]) -> Iterator[Line]:
    """Yields Lines that hold a record each: what is in quotation marks may hold a line's end.

    Of a quotation mark that is not closed the first line has the problem, and no other.
    """
    waiting = iter(all_lines)
    again: collections.deque[Line] = collections.deque()
    begun: list[Line] = []
    text, is_open = "", False
    while True:
        line = again.popleft() if again else next(waiting, None)
        if line is not None:
            text = text + "\n" + line.text if begun else line.text
            begun.append(line)
            if '"' in line.text:  # No other line opens or closes anything.
                is_open = _is_open(text)
        if not begun:
            return
        if not is_open:
            problems = (line.problem for line in begun)
            yield Line(begun[0].number, text, next(filter(None, problems), None))
        elif line is None or len(text) > _LONGEST_RECORD:
            yield begun[0]._replace(problem="a quotation mark is opened, and not closed")
            again.extendleft(reversed(begun[1:]))
        else:
            continue
        begun, text, is_open = [], "", False


def _is_open(text: str) -> bool:
    """Returns whether the last cell of a record began with a quotation mark that is not closed."""
    place = 0
    while True:
        if text.startswith('"', place):
            place = text.find('"', place + 1)
            while place >= 0 and text.startswith('""', place):
                place = text.find('"', place + 2)
            if place < 0:
                return True
        place = text.find(",", place) + 1
        if not place:
            return False


def _read_csv(line: Line) -> list[Row]:
    try:
        (cells,) = csv.reader([line.text], strict=True)
    except csv.Error as error:
        raise ValueError("is no CSV: %s" % error)
    return [Row(line.number, cells)]


# --- JSON Lines ---


class _Objects(object):
    """Reads the objects of a file, which have the keys of the first one, at least."""

    def __init__(self) -> None:
        self._names: list[str] | None = None

    def read(self, line: Line) -> list[Row]:
        """Returns the Row of an object; before the first one that of the names."""
        try:
            found = records.parse(
                line.text, records.mapping(records.anything), parse_float=records.as_written
            )
        except ValueError as error:
            raise ValueError("is no object of JSON: %s" % error)
        rows = []
        if self._names is None:
            self._names = list(found)
            rows.append(Row(0, self._names))
        lacking = [name for name in self._names if name not in found]
        if lacking:
            raise ValueError("lacks %s, which the first object has" % ascii(lacking[0]))
        return rows + [Row(line.number, [_cell(found[name]) for name in self._names])]


def _cell(value: object) -> str:
    if isinstance(value, str):
        if NO_TEXT.search(value):  # As an escape it can stand in a line that is text.
            raise ValueError(HOLDS_A_NUL if "\0" in value else HALF_A_CHARACTER)
        return value
    if value is None:
        return ""
    text = json.dumps(value, ensure_ascii=False)
    return Nested(text) if isinstance(value, (list, dict)) else text


# --- Written ---


def write_row(names: list[str], cells: list[object], format: str) -> str:
    """Returns a row as a line, str, with its end.

    Args:
      names: the columns'; JSON Lines have them in each line.
      cells: str, or numbers.
      format: str, one of `FORMATS`. In tsv what holds a tab or such is in quotation marks, as the
        module csv reads it.
    """
    if format == "jsonl":
        return json.dumps(dict(zip(names, cells)), ensure_ascii=False) + "\n"
    return _csv_line(cells, "," if format == "csv" else "\t")


def _csv_line(cells: list[object], delimiter: str) -> str:
    line = io.StringIO(newline="")
    # With this end csv quotes a cell with a carriage return too, which others take for an end.
    csv.writer(line, delimiter=delimiter, lineterminator="\r\n").writerow(cells)
    return line.getvalue()[: -len("\r\n")] + "\n"
