"""From a file's lines to its rows: cut at tabs, read as CSV, or as JSON Lines.

tsv    a row is a line, cut at its tabs; quotation marks are text
csv    RFC 4180: commas, or another delimiter, and quotation marks around what holds one, or the
       end of a line
jsonl  a line is an object; the keys of the first one are the names of the columns
"""

from __future__ import annotations

import collections
import csv
import functools
import io
import json
import os
from typing import Any, Callable, Iterable, Iterator

from theseus import records
from theseus.inputs import other_formats, tasks
from theseus.inputs.layout import Row
from theseus.inputs.lines import HALF_A_CHARACTER, HOLDS_A_NUL, NO_TEXT, Line

FORMATS = ("tsv", "csv", "jsonl")
ENDINGS = (".txt", ".tsv", ".csv", ".jsonl")
_JSON = ".json"  # Of JSON Lines too, but beside files of `ENDINGS` of something else.
_DELIMITERS = {"tab": "\t", "\\t": "\t"}

_SEPARATED = {"\t": ", separated by tabs", ",": ", separated by commas"}
csv.field_size_limit(2**31 - 1)  # A text may be as long as it is.
# A record of CSV of several lines that is longer has a quotation mark that is not closed.
_LONGEST_RECORD = 1 << 20

OnLine = Callable[[Line], None]


class Nested(str):
    """A value that is no text, number or such, as JSON: a list or an object."""


class Missing(str):
    """The value of a key that an object of JSON lacks; empty."""


def existing_files(path: str) -> list[str]:
    """Returns the files, list of str, that a path without its ending may mean.

    An ending may be in capitals; .json is one where there is no other.
    """
    beside = files_beside(path)
    for endings in (ENDINGS, (_JSON,)):
        found = [name for ending in endings for name in beside if _ending(name) == ending]
        if found:
            return found
    return []


def files_beside(path: str) -> list[str]:
    """Returns the files, list of str in their order, that a path and any ending name."""
    try:
        names = sorted(os.listdir(os.path.dirname(path) or "."))
    except OSError:
        return []
    beside = [os.path.join(os.path.dirname(path), name) for name in names]
    return [name for name in beside if os.path.splitext(name)[0] == path and os.path.isfile(name)]


def _ending(path: str) -> str:
    return os.path.splitext(path)[1].lower()


def format_of(path: str, given: str = "auto") -> str:
    """Returns the format of a file: what --format says, or else by its name's ending."""
    if given != "auto":
        return given
    return {".csv": "csv", ".jsonl": "jsonl", _JSON: "jsonl"}.get(_ending(path), "tsv")


def delimiter_of(given: str | None) -> str:
    """Returns what separates the columns of CSV, one character: a --delimiter, or a comma."""
    return "," if given is None else _DELIMITERS.get(given, given)


def is_delimiter(given: str) -> bool:
    """Returns whether a --delimiter is a character that can separate columns, a bool."""
    delimiter = delimiter_of(given)
    return len(delimiter) == 1 and delimiter not in '"\r\n ' and not NO_TEXT.match(delimiter)


def separated_by(format: str, delimiter: str) -> str:
    """Returns how a message goes on after so many columns, str."""
    if format == "jsonl":
        return ""
    by = "\t" if format == "tsv" else delimiter
    return _SEPARATED.get(by, ", separated by %s" % by)


def iterate_rows(
    all_lines: Iterable[Line],
    format: str,
    on_blank: OnLine,
    on_bad: OnLine,
    delimiter: str = ",",
) -> Iterator[Row]:
    """Yields the Rows of a file; of JSON Lines first the names, as row 0.

    Args:
      all_lines: Lines.
      format: str, one of `FORMATS`.
      on_blank, on_bad: functions that are given the Lines that are none: what is blank; and
        what has a problem.
      delimiter: str, one character, what separates the columns of CSV.
    """
    cut: Callable[[Line], list[Row]] = _cut_at_tabs
    if format == "csv":
        all_lines = _join_quoted(all_lines, delimiter)
        cut = functools.partial(_read_csv, delimiter=delimiter)
    elif format == "jsonl":
        cut = _Objects().read
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


def _join_quoted(all_lines: Iterable[Line], delimiter: str) -> Iterator[Line]:
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
                is_open = _is_open(text, delimiter)
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


def _is_open(text: str, delimiter: str) -> bool:
    """Returns whether the last cell of a record began with a quotation mark that is not closed."""
    place = 0
    while True:
        if text.startswith('"', place):
            place = text.find('"', place + 1)
            while place >= 0 and text.startswith('""', place):
                place = text.find('"', place + 2)
            if place < 0:
                return True
        place = text.find(delimiter, place) + 1
        if not place:
            return False


def _read_csv(line: Line, delimiter: str) -> list[Row]:
    try:
        (cells,) = csv.reader([line.text], strict=True, delimiter=delimiter)
    except csv.Error as error:
        hint = other_formats.hint(line.text, "csv", delimiter)
        raise ValueError("is no CSV: %s%s" % (error, hint))
    return [Row(line.number, cells)]


# --- JSON Lines ---


class _Objects(object):
    """Reads the objects of a file, whose columns are the keys of the first one."""

    def __init__(self) -> None:
        self._names: list[str] | None = None

    def read(self, line: Line) -> list[Row]:
        """Returns the Row of an object; before the first one that of the names."""
        try:
            found = records.parse(
                line.text, records.mapping(records.anything), parse_float=records.as_written
            )
        except ValueError as error:
            is_begun = self._names is None and line.text.strip() == "{"
            how = "; jq -c . old.json > new.jsonl writes an object on each line" if is_begun else ""
            raise ValueError("is no object of JSON: %s%s" % (error, how))
        rows = []
        if self._names is None:
            self._names = list(found)
            rows.append(Row(0, self._names))
        cells = [_cell(found[name]) if name in found else Missing() for name in self._names]
        return rows + [Row(line.number, cells, line.text)]


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


def write_row(names: list[str], cells: list[Any], format: str, delimiter: str = ",") -> str:
    """Returns a row as a line, str, with its end.

    Args:
      names: the columns'; JSON Lines have them in each line.
      cells: str, or numbers; in JSON Lines any values of JSON.
      format: str, one of `FORMATS`. In tsv what holds a tab or such is in quotation marks, as the
        module csv reads it.
      delimiter: str, one character, what separates the columns of CSV.
    """
    if format == "jsonl":
        found = dict(zip(names, cells))
        text = json.dumps(found, ensure_ascii=False)
        # Half a character can be written as an escape alone.
        return (json.dumps(found) if NO_TEXT.search(text) else text) + "\n"
    return _csv_line(cells, delimiter if format == "csv" else "\t")


def _csv_line(cells: list[Any], delimiter: str) -> str:
    line = io.StringIO(newline="")
    # With this end csv quotes a cell with a carriage return too, which others take for an end.
    csv.writer(line, delimiter=delimiter, lineterminator="\r\n").writerow(cells)
    return line.getvalue()[: -len("\r\n")] + "\n"
