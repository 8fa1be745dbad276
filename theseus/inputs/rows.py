"""From a file's lines to its rows: cut at tabs, read as CSV, or as JSON Lines.

tsv    a row is a line, cut at its tabs; quotation marks are text
csv    RFC 4180: commas, or another delimiter, and quotation marks around what holds one, or the
       end of a line
jsonl  a line is an object; the keys of the first one are the names of the columns
"""

from __future__ import annotations

import collections
import csv
import glob
import io
import json
import os
import re
from typing import Any, Iterable, Iterator

from theseus import records
from theseus.inputs import other_formats, tasks
from theseus.inputs.layout import Row
from theseus.inputs.lines import HALF_A_CHARACTER, HOLDS_A_NUL, NO_TEXT, Line

FORMATS = ("tsv", "csv", "jsonl")
ENDINGS = (".txt", ".tsv", ".csv", ".jsonl")
_JSON = ".json"  # Of JSON Lines too, but beside files of `ENDINGS` of something else.
_DELIMITERS = {"tab": "\t", "\\t": "\t"}

_SEPARATED = {"\t": ", separated by tabs", ",": ", separated by commas"}
_OBJECT = records.mapping(records.anything)
csv.field_size_limit(2**31 - 1)  # A text may be as long as it is.
# A record of CSV of several lines that is longer has a quotation mark that is not closed.
_LONGEST_RECORD = 1 << 20


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
    beside = sorted(glob.glob(glob.escape(path) + "*"))
    return [name for name in beside if os.path.splitext(name)[0] == path and os.path.isfile(name)]


def _ending(path: str) -> str:
    return os.path.splitext(path)[1].lower()


def format_of(path: str, format: str = "auto") -> str:
    """Returns the format of a file: what --format says, or else by its name's ending."""
    if format != "auto":
        return format
    return {".csv": "csv", ".jsonl": "jsonl", _JSON: "jsonl"}.get(_ending(path), "tsv")


def delimiter_of(name: str | None) -> str:
    """Returns what separates the columns of CSV, one character: a --delimiter, or a comma."""
    return "," if name is None else _DELIMITERS.get(name, name)


def is_delimiter(name: str) -> bool:
    """Returns whether a --delimiter is a character that can separate columns, a bool."""
    delimiter = delimiter_of(name)
    return len(delimiter) == 1 and delimiter not in '"\r\n ' and not NO_TEXT.match(delimiter)


def separated_by(format: str, delimiter: str) -> str:
    """Returns how a message goes on after so many columns, str."""
    if format == "jsonl":
        return ""
    by = "\t" if format == "tsv" else delimiter
    return _SEPARATED.get(by, ", separated by %s" % by)


def iterate_rows(all_lines: Iterable[Line], format: str, delimiter: str) -> Iterator[Row | Line]:
    """Yields the Rows of a file, and the Lines that are none, which are blank or have a problem.

    Args:
      all_lines: Lines.
      format: str, one of `FORMATS`; of JSON Lines first come the names, as row 0.
      delimiter: str, one character, what separates the columns of CSV.
    """
    names: list[str] | None = None
    for line in _join_quoted(all_lines, delimiter) if format == "csv" else all_lines:
        if line.problem or tasks.is_blank(line.text):
            yield line
            continue
        try:
            if format == "jsonl":
                value = _read_object(line, names is None)
                if names is None:
                    names = list(value)
                    yield Row(0, names)
                cells = [_cell(value[name]) if name in value else Missing() for name in names]
                yield Row(line.number, cells, line.text)
            elif format == "csv":
                yield _read_csv(line, delimiter)
            else:
                yield Row(line.number, line.text.split("\t"))
        except ValueError as error:
            yield line._replace(problem=str(error))


# --- CSV ---


def _join_quoted(all_lines: Iterable[Line], delimiter: str) -> Iterator[Line]:
    """Yields Lines that hold a record each: what is in quotation marks may hold a line's end.

    Of a quotation mark that is not closed the first line has the problem, and no other.
    """
    waiting, is_whole = iter(all_lines), _record_of(delimiter).match
    again: collections.deque[Line] = collections.deque()
    begun: list[Line] = []
    text, is_open = "", False
    while True:
        line = again.popleft() if again else next(waiting, None)
        if line is not None:
            if begun:
                text += "\n" + line.text  # In place: a sum of three would copy all of it.
            else:
                text = line.text
            begun.append(line)
            if '"' in line.text:  # No other line opens or closes anything.
                is_open = not is_whole(text)
        if not begun:
            return
        if not is_open:
            problems = (line.problem for line in begun)
            yield Line(begun[0].number, text, next(filter(None, problems), None))
        elif line is None or len(text) > _LONGEST_RECORD:
            yield begun[0]._replace(problem="a quotation mark is opened but never closed")
            again.extendleft(reversed(begun[1:]))
        else:
            continue
        begun, text, is_open = [], "", False


def _record_of(delimiter: str) -> re.Pattern[str]:
    """Returns what matches a record of CSV whose quotation marks are closed.

    Only one at the beginning of a cell opens anything; two within what it opens are one of a text.
    """
    rest = "[^%s]*" % re.escape(delimiter)
    cell = r'(?:"[^"]*(?:""[^"]*)*"(?!")|(?!"))' + rest
    return re.compile("%s(?:%s%s)*\\Z" % (cell, re.escape(delimiter), cell))


def _read_csv(line: Line, delimiter: str) -> Row:
    try:
        (cells,) = csv.reader([line.text], strict=True, delimiter=delimiter)
    except csv.Error as error:
        hint = other_formats.hint([line.text], "csv", delimiter)
        raise ValueError("is not valid CSV: %s%s" % (error, hint))
    return Row(line.number, cells)


# --- JSON Lines ---


def _read_object(line: Line, is_first: bool) -> dict[str, Any]:
    try:
        value: dict[str, Any] = records.parse(line.text, _OBJECT, records.as_written)
        return value
    except ValueError as error:
        is_begun = is_first and line.text.strip() == "{"
        how = "; convert the file with jq -c . old.json > new.jsonl" if is_begun else ""
        raise ValueError("is not a JSON object: %s%s" % (error, how))


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
        row = dict(zip(names, cells))
        text = json.dumps(row, ensure_ascii=False)
        # Half a character can be written as an escape alone.
        return (json.dumps(row) if NO_TEXT.search(text) else text) + "\n"
    line, by = io.StringIO(newline=""), delimiter if format == "csv" else "\t"
    # With this end csv quotes a cell with a carriage return too, which others take for an end.
    csv.writer(line, delimiter=by, lineterminator="\r\n").writerow(cells)
    return line.getvalue()[: -len("\r\n")] + "\n"
