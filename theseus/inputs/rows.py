"""Turns a file's lines into rows: tab-separated, CSV, or JSON Lines.

tsv    a row is a line, split at its tabs; quotation marks are text
csv    RFC 4180: commas, or another delimiter; quotation marks around cells that contain the
       delimiter or a line end
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
_JSON = ".json"  # JSON Lines, too, unless there are files of `ENDINGS`: then it is something else.
_DELIMITERS = {"tab": "\t", "\\t": "\t"}

_SEPARATED = {"\t": ", separated by tabs", ",": ", separated by commas"}
_OBJECT = records.mapping(records.anything)
csv.field_size_limit(2**31 - 1)  # Python's default limit is too short for some texts.
# If a CSV record of several lines is longer, its quotation mark is assumed not to be closed.
_LONGEST_RECORD = 1 << 20


class Nested(str):
    """A list or an object as the value of a cell, written as JSON."""


class Missing(str):
    """The empty value of a key that a JSON object lacks."""


def existing_files(path: str) -> list[str]:
    """Returns the existing files, list of str, that a path without an ending may mean.

    The case of an ending does not matter; .json only counts if there is no other file.
    """
    files = list(filter(os.path.isfile, named_like(path)))
    for endings in (ENDINGS, (_JSON,)):
        found = [name for end in endings for name in files if name[len(path) :].lower() == end]
        if found:
            return found
    return []


def named_like(path: str) -> list[str]:
    """Returns all files, folders and links, a sorted list of str, of this path and any ending."""
    beside = sorted(glob.glob(glob.escape(path) + "*"))
    return [name for name in beside if name == path or name.startswith(path + ".")]


def _ending(path: str) -> str:
    return os.path.splitext(path)[1].lower()


def format_of(path: str, format: str = "auto") -> str:
    """Returns the format of a file: --format, or by default that of its ending."""
    if format != "auto":
        return format
    return {".csv": "csv", ".jsonl": "jsonl", _JSON: "jsonl"}.get(_ending(path), "tsv")


def delimiter_of(name: str | None) -> str:
    """Returns the character that separates the columns of CSV: --delimiter, or a comma."""
    return "," if name is None else _DELIMITERS.get(name, name)


def is_delimiter(name: str) -> bool:
    """Returns whether a --delimiter can separate columns, a bool."""
    delimiter = delimiter_of(name)
    return len(delimiter) == 1 and delimiter not in '"\r\n ' and not NO_TEXT.match(delimiter)


def separated_by(format: str, delimiter: str) -> str:
    """Returns the end of a message about a number of columns: what separates them, str."""
    if format == "jsonl":
        return ""
    by = "\t" if format == "tsv" else delimiter
    return _SEPARATED.get(by, ", separated by %s" % by)


def iterate_rows(all_lines: Iterable[Line], format: str, delimiter: str) -> Iterator[Row | Line]:
    """Yields the Rows of a file, and the Lines that are not rows: blank ones or with a problem.

    Args:
      all_lines: Lines.
      format: str, one of `FORMATS`; for JSON Lines the names of the columns come first, as row 0.
      delimiter: str, the character that separates the columns of CSV.
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
    """Yields Lines that hold one record each; a quoted cell may contain line ends.

    If a quotation mark is not closed, only its first line gets the problem.
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
            if '"' in line.text:  # Other lines cannot open or close a quoted cell.
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
    """Returns a pattern that matches a CSV record whose quotation marks are closed.

    Only a quotation mark at the beginning of a cell opens a quoted cell; in it, two stand for one.
    """
    rest = "[^%s]*" % re.escape(delimiter)
    cell = r'(?:"[^"]*(?:""[^"]*)*"(?!")|(?!"))' + rest
    return re.compile("%s(?:%s%s)*\\Z" % (cell, re.escape(delimiter), cell))


def _read_csv(line: Line, delimiter: str) -> Row:
    try:
        (cells,) = csv.reader([line.text], strict=True, delimiter=delimiter)
    except csv.Error as error:
        if str(error).startswith("new-line character"):
            remedy = "; remove the carriage return, or put its cell in quotation marks"
            raise ValueError("is not valid CSV: a carriage return outside quotation marks" + remedy)
        remedy = "; a quotation mark within a quoted cell is written twice"
        hint = other_formats.hint([line.text], "csv", delimiter) or remedy
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
        if NO_TEXT.search(value):  # An escape can produce it from a line that is valid text.
            raise ValueError(HOLDS_A_NUL if "\0" in value else HALF_A_CHARACTER)
        return value
    if value is None:
        return ""
    text = json.dumps(value, ensure_ascii=False)
    return Nested(text) if isinstance(value, (list, dict)) else text


# --- Written ---


def write_row(names: list[str], cells: list[Any], format: str, delimiter: str = ",") -> str:
    """Returns a row as a line with its line end, str.

    Args:
      names: the names of the columns; JSON Lines have them in each line.
      cells: str, or numbers; in JSON Lines any values of JSON.
      format: str, one of `FORMATS`. In tsv a cell with a tab, a line end or a quotation mark is
        quoted, as the module csv reads it.
      delimiter: str, the character that separates the columns of CSV.
    """
    if format == "jsonl":
        row = dict(zip(names, cells))
        text = json.dumps(row, ensure_ascii=False)
        # Half of a surrogate pair can only be written as an escape.
        return (json.dumps(row) if NO_TEXT.search(text) else text) + "\n"
    line, by = io.StringIO(newline=""), delimiter if format == "csv" else "\t"
    # With this line end, csv also quotes cells with a carriage return, which some readers need.
    csv.writer(line, delimiter=by, lineterminator="\r\n").writerow(cells)
    return line.getvalue()[: -len("\r\n")] + "\n"
