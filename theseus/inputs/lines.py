"""Splits a file's bytes into lines: encodings, line ends, and content that is not text.

A line ends with a line feed, or with a carriage return and a line feed. In a file without any line
feed, as old spreadsheets export it, each carriage return ends a line. Nothing else does: a carriage
return within a line, U+2028, U+0085 and a form feed are characters of a text.
"""

from __future__ import annotations

import codecs
import io
import itertools
import re
from typing import BinaryIO, Callable, Iterator, NamedTuple, Sequence, TextIO


class Line(NamedTuple):
    """A line: its number from 1, its text, and the problem if it is not text, or None."""

    number: int
    text: str
    problem: str | None


class Unreadable(ValueError):
    """The rest of a stream cannot be decoded; the message says why."""


Say = Callable[[str], None]
"""A function that logs a line."""

HOLDS_A_NUL = "holds a NUL character, which is not text"
HALF_A_CHARACTER = "holds half a character (an unpaired surrogate), which is not text"
# The number of lines before and after a line that is not text that tell the encoding.
_SAMPLE_LINES = 200
# The characters that Python puts for bytes that are invalid in the encoding (PEP 383).
_UNDECODED = re.compile("[\udc80-\udcff]")
NO_TEXT = re.compile("[\0\ud800-\udfff]")
_HALF = re.compile("[\ud800-\udc7f\udd00-\udfff]")
_NOT_ASCII = re.compile("[^\0-\x7f]+")

_UTF8 = "utf-8-sig"  # Skips a byte-order mark at the start.
_WIDE = ("utf-16", "utf-16-le", "utf-16-be", "utf-32", "utf-32-le", "utf-32-be")
_OTHERS = ("gb18030", "big5", "shift_jis", "euc_kr", "cp1252", "utf-16", "utf-32")
"""Possible encodings, the likelier ones first, for content with and without a NUL."""


def is_encoding(name: str) -> bool:
    """Returns whether Python knows a text encoding of that name, a bool."""
    try:
        io.TextIOWrapper(io.BytesIO(), encoding=name)
    except (LookupError, ValueError):
        return False
    return True


def iterate_lines(
    stream: BinaryIO, encoding: str | None = None, say: Say | None = None
) -> Iterator[Line]:
    """Reads the lines of a binary stream, one after the other.

    A byte-order mark at the start is no part of the first line.

    Args:
      stream: a binary file, which is closed at the end.
      encoding: str, the name of an encoding that Python knows; None: UTF-8.
      say: function that logs a str: how line ends were interpreted, if that is ambiguous.

    Yields:
      Line. A Line with a problem holds the part of its text that can be read.

    Raises:
      Unreadable: the encoding cannot be decoded any further after an error.
    """
    if encoding is None or codecs.lookup(encoding).name == "utf-8":
        encoding = _UTF8
    say = say or (lambda _: None)
    # After an invalid byte of a wide encoding, the bytes that follow may be cut in the middle.
    errors = "strict" if codecs.lookup(encoding).name in _WIDE else "surrogateescape"
    with io.TextIOWrapper(stream, encoding, errors=errors, newline="\n") as reader:
        for line in _number(_decoded(_cut(reader, say), encoding), encoding, say):
            yield line


def _cut(reader: TextIO, say: Say) -> Iterator[str]:
    """Yields the lines of a text file, each with its line end."""
    first = next(reader, "")
    if first and not first.endswith("\n") and "\r" in first.rstrip("\r"):
        say("it holds no line feeds; each carriage return counts as the end of a line")
        yield from re.findall("[^\r]*\r|[^\r]+$", first)
        return
    if first:
        yield first
    yield from reader


def _decoded(texts: Iterator[str], encoding: str) -> Iterator[str]:
    """Yields the texts of an iterator that decodes them."""
    try:
        yield from texts
    except UnicodeError as error:
        what = "cannot be read as %s from here on: %s; see --encoding"
        raise Unreadable(what % (_shown(encoding), error))


def _number(texts: Iterator[str], encoding: str, say: Say) -> Iterator[Line]:
    """Yields the Lines of an iterator of str that include their line ends."""
    head: list[str] = []
    likely: str | None = None
    has_said = False
    for number in itertools.count(1):
        try:
            text = next(texts)
        except StopIteration:
            return
        if number == 1:
            text = text.lstrip("\ufeff")
        problem = None
        if _HALF.search(text):
            problem = HALF_A_CHARACTER
        elif NO_TEXT.search(text):
            if likely is None:
                following = list(itertools.islice(texts, _SAMPLE_LINES))
                texts = itertools.chain(following, texts)
                likely = _likely_encoding(head, [text] + following, encoding)
            problem = _describe(text, encoding, likely)
        elif len(head) < _SAMPLE_LINES:
            head.append(text)
        if not (has_said or problem) and "\r" in text.rstrip("\r\n"):
            say("line %d holds a carriage return, which is kept as part of its text" % number)
            has_said = True
        yield Line(number, text.rstrip("\r\n"), problem)


def _describe(text: str, encoding: str, likely: str) -> str:
    problem = "is not %s text" % _shown(encoding)
    if not _UNDECODED.search(text):
        problem = HOLDS_A_NUL
    if likely:
        problem += "; the file is probably %s; give --encoding=%s" % (likely, likely)
    return problem


def _shown(encoding: str) -> str:
    return "UTF-8" if encoding == _UTF8 else encoding


def _likely_encoding(head: list[str], lines: list[str], encoding: str) -> str:
    """Returns the name of the likely encoding of a file, str; "" if none is likely.

    Args:
      head: list of str, the lines of text from the start of the file.
      lines: list of str, the first line that is not text, and the lines after it.
      encoding: str, the encoding with which they were read.
    """
    content = "".join(head + lines).encode(encoding, "surrogateescape")
    if encoding == _UTF8:
        content = content[len(codecs.BOM_UTF8) :]
    if b"\0" in content:  # A wide encoding: its line feed has several bytes, cut after one.
        return _detect(content[: len(content) // 4 * 4], _WIDE)
    if encoding != _UTF8:
        return "utf-8" if "\ufffd" not in content.decode("utf-8", "replace") else ""
    if any(map(_NOT_ASCII.search, head)):
        return ""  # The encoding was right; the line is damaged.
    first = lines[0].encode("utf-8", "surrogateescape")  # Other lines may be damaged.
    return _detect(content, _OTHERS) or _detect(first, _OTHERS)


def _detect(content: bytes, names: Sequence[str]) -> str:
    """Returns the most likely of some encodings for the bytes, str; "" if none is likely."""
    import charset_normalizer  # The import takes 0.1 s, and few files need it.

    known = {name.replace("-", "_"): name for name in names}
    # A few characters of a text also contain the byte of a line feed.
    least = content.count(b"\n") / 2
    likely = [
        (found.chaos, list(known).index(found.encoding))
        for found in charset_normalizer.from_bytes(content, cp_isolation=list(known))
        if found.encoding in known and str(found).count("\n") >= least
    ]
    return names[min(likely)[1]] if likely else ""
