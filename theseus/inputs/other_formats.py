"""Recognizes a file in another format than expected, and tells how to read it."""

from __future__ import annotations

import re
import zipfile
from typing import BinaryIO, Sequence

from theseus.errors import UserError

_SAVE_AS_CSV = "open it there and save it as CSV UTF-8"
_BEGINNINGS = {
    b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1": "an Excel workbook (.xls); " + _SAVE_AS_CSV,
    b"PAR1": "a Parquet file; convert it to CSV or JSON Lines, for example with pandas",
    b"\x1f\x8b": "a gzip file; decompress it first",
    b"BZh": "a bzip2 file; decompress it first",
    b"\xfd7zXZ\0": "an xz file; decompress it first",
    b"\x28\xb5\x2f\xfd": "a zstd file; decompress it first",
}
# The kind of a zip archive, by the beginning of the name of one of its members.
_ARCHIVES = {
    "xl/": "an Excel workbook (.xlsx); " + _SAVE_AS_CSV,
    "content.xml": "an OpenDocument file (.ods); " + _SAVE_AS_CSV,
    "": "a zip archive; unpack it first",
}
_JSON_ARRAY = (
    "a JSON array, not JSON Lines (one object per line); convert it with jq -c '.[]' old.json "
    "> new.jsonl"
)
_SEPARATOR_LINE = re.compile(r"sep=([^\r\n])?[\r\n]")
_READ_BY = {
    ",": "--format=csv reads columns separated by commas",
    "\t": "--format=tsv reads columns separated by tabs",
    ";": '--format=csv --delimiter=";" reads columns separated by semicolons',
    "|": '--format=csv --delimiter="|" reads columns separated by bars',
}
_HEAD = 1 << 12


def refuse(stream: BinaryIO, name: str, format: str, encoding: str | None) -> None:
    """Raises UserError if the beginning of a file shows that it has another format.

    Args:
      stream: the file, at its start; it is closed at the end.
      name: str, the file's name in messages.
      format: str, the expected format, one of rows.FORMATS.
      encoding: str; None: UTF-8.
    """
    with stream:
        head = stream.read(_HEAD)
        found = next((_BEGINNINGS[mark] for mark in _BEGINNINGS if head.startswith(mark)), None)
        if head.startswith(b"PK\3\4"):
            found = _of_archive(stream)
    if found:
        raise UserError("%s: is %s" % (name, found))
    text = head.decode(encoding or "utf-8", "replace").lstrip("\ufeff")
    if format == "jsonl" and text.lstrip().startswith("["):
        raise UserError("%s: is %s" % (name, _JSON_ARRAY))
    separator_line = _SEPARATOR_LINE.match(text)
    if format != "jsonl" and separator_line:
        separator = separator_line.group(1) or ","
        how = "" if (format, separator) == ("csv", ",") else "; " + _READ_BY.get(separator, "")
        raise UserError(
            '%s, line 1: "sep=%s" is a note of Excel, not a row; delete the line%s'
            % (name, separator, how)
        )


def _of_archive(stream: BinaryIO) -> str:
    """Returns the kind of a zip archive and what to do with it, str."""
    try:
        names = zipfile.ZipFile(stream).namelist()
    except (zipfile.BadZipFile, OSError):
        names = []
    return next(
        found
        for beginning, found in _ARCHIVES.items()
        if not beginning or any(name.startswith(beginning) for name in names)
    )


def hint(cells: Sequence[str], format: str, delimiter: str) -> str:
    """Returns the end of a message about an unexpected first line: the flags that may read it.

    Args:
      cells: list of str, the cells that the line was split into.
      format: str, one of rows.FORMATS, in which the line was read.
      delimiter: str, the separator of the columns of CSV.
    """
    if format == "jsonl":
        return ""
    current = "\t" if format == "tsv" else delimiter
    line = current.join(cells)
    if line.lstrip().startswith("{"):
        return "; --format=jsonl reads JSON Lines"
    if line.lstrip().startswith("[{"):
        return "; it may be " + _JSON_ARRAY
    others = [separator for separator in _READ_BY if separator != current]
    likeliest = max(others, key=line.count)
    if line.count(likeliest) <= line.count(current):
        return ""
    if likeliest == "\t" and '"' in line:
        return "; --format=csv --delimiter=tab reads columns separated by tabs"
    return "; " + _READ_BY[likeliest]
