"""From a file's bytes to its lines: encodings, line ends, and what is no text.

A line ends with a line feed, or with a carriage return and a line feed. Where a file holds no
line feed at all, as old spreadsheets export it, each carriage return ends a line. Nothing else
does: a carriage return in a line, U+2028, U+0085 or a form feed are characters of a text.
"""

from __future__ import annotations

import codecs
import io
import itertools
import math
import re
from typing import BinaryIO, Callable, Iterable, Iterator, NamedTuple, TextIO


class Line(NamedTuple):
    """A line: its number from 1, its text, and what makes it no text, or None."""

    number: int
    text: str
    problem: str | None


class Unreadable(ValueError):
    """From somewhere on a stream cannot be read in its encoding; the message says why."""


Say = Callable[[str], None]
"""Takes a line of the log."""

HOLDS_A_NUL = "holds a NUL, which no text does"
HALF_A_CHARACTER = "holds half a character (a surrogate), which no text does"
# How many lines before and after one that is no text are looked at for the encoding.
_SAMPLE_LINES = 200
# What Python makes of a byte that the encoding does not know (PEP 383).
_UNDECODED = re.compile("[\udc80-\udcff]")
NO_TEXT = re.compile("[\0\ud800-\udfff]")
_HALF = re.compile("[\ud800-\udc7f\udd00-\udfff]")
_GZIP = "\x1f\udc8b"  # Its first bytes, read as UTF-8.
_NOT_ASCII = re.compile("[^\0-\x7f]+")

_UTF8 = "utf-8-sig"  # Whose first byte-order mark is none of the text's characters.
_WIDE = (("utf-16-le", 2), ("utf-16-be", 2), ("utf-32-le", 4), ("utf-32-be", 4))
_BYTE_ORDER_MARKS = (
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
_LEGACY = (
    ("gb18030", "gb2312", 0xB0, 0xD7, 3755),
    ("big5", "big5", 0xA4, 0xC6, 5401),
    ("gb18030", "big5", 0xA4, 0xC6, 5401),  # Traditional characters in it.
    ("shift_jis", "shift_jis", 0x82, 0x97, 3134),
    ("euc_kr", "euc_kr", 0xB0, 0xC8, 2350),
    ("cp1252", "cp1252", 0xC0, 0xFF, 64),
)
"""Encodings, the likeliest first: its name; the character set in which its everyday characters
begin with a byte from one bound to the other; and how many of these there are. Source: GB 2312's
level 1, Big5's level 1, JIS X 0208's kana and level 1, KS X 1001's hangul, Latin-1's letters."""
_CHARACTERS = 20000  # Of each set about so many, the rare ones included.
# So much likelier is each encoding than the next, before anything was read, as a logarithm.
_PRIOR = 1.0
# What ordinary texts consist of.
_ORDINARY = re.compile(
    "[\t\r\n -~\u00a0-\u04ff\u2010-\u2026\u3000-\u30ff\u4e00-\u9fff\uac00-\ud7a3\uff00-\uffef]"
)


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
      stream: a binary file, which is closed then.
      encoding: str, the name of one that Python knows; None: UTF-8.
      say: function that takes a str: how the lines' ends were understood, where that can be
        another way.

    Yields:
      Line. One with a problem holds what can be read of it.

    Raises:
      Unreadable: the encoding cannot go on after a mistake.
    """
    if encoding is None or codecs.lookup(encoding).name == "utf-8":
        encoding = _UTF8
    say = say or (lambda _: None)
    with io.TextIOWrapper(stream, encoding, errors="surrogateescape", newline="\n") as reader:
        for line in _number(_cut(reader, say), encoding, say):
            yield line


def _cut(reader: TextIO, say: Say) -> Iterator[str]:
    """Yields the lines of a text file, each with its end."""
    first = next(reader, "")
    if first and not first.endswith("\n") and "\r" in first.rstrip("\r"):
        say("it holds no line feed: each carriage return is taken for the end of a line")
        yield from re.findall("[^\r]*\r|[^\r]+$", first)
        return
    if first:
        yield first
    yield from reader


def _number(texts: Iterator[str], encoding: str, say: Say) -> Iterator[Line]:
    """Yields the Lines of an iterator of str, of which each has its line's end."""
    head: list[str] = []
    likely: str | None = None
    has_said = False
    for number in itertools.count(1):
        try:
            text = next(texts)
        except StopIteration:
            return
        except UnicodeError as error:
            what = "cannot be read as %s from here on: %s; see --encoding"
            raise Unreadable(what % (_shown(encoding), error))
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
            say("line %d holds a carriage return, taken for a character of its text" % number)
            has_said = True
        yield Line(number, text.rstrip("\r\n"), problem)


def _describe(text: str, encoding: str, likely: str) -> str:
    if text.startswith(_GZIP):
        return "is no text: the file is packed by gzip; unpack it first"
    problem = "is not %s text" % _shown(encoding)
    if not _UNDECODED.search(text):
        problem = HOLDS_A_NUL
    if likely:
        problem += "; the file is likely %s: --encoding=%s reads it" % (likely, likely)
    return problem


def _shown(encoding: str) -> str:
    return "UTF-8" if encoding == _UTF8 else encoding


def _likely_encoding(head: list[str], lines: list[str], encoding: str) -> str:
    """Returns the name of the encoding that a file likely has, str; "" where none is likely.

    Args:
      head: list of str, lines from the start of the file that are text.
      lines: list of str, the first that is none, and what comes after it.
      encoding: str, that in which they were read.
    """
    content = _undecoded(head + lines, encoding)
    for mark, name in _BYTE_ORDER_MARKS:
        if content.startswith(mark):
            return name
    if b"\0" in content:
        return _likely_wide_encoding(content)
    if encoding != _UTF8:
        is_utf8 = "\ufffd" not in content.decode("utf-8", "replace")
        return "utf-8" if is_utf8 else ""
    if any(map(_NOT_ASCII.search, head)):
        return ""  # The file is what it was read as; the line is damaged.
    wrong = _undecoded(filter(_UNDECODED.search, lines), encoding)
    scores = [_score(wrong, index) for index in range(len(_LEGACY))]
    best = max(scores)
    return _LEGACY[scores.index(best)][0] if best > -math.inf else ""


def _undecoded(texts: Iterable[str], encoding: str) -> bytes:
    """Returns the bytes that texts were read from."""
    content = "".join(texts).encode(encoding, "surrogateescape")
    return content[len(codecs.BOM_UTF8) :] if encoding == _UTF8 else content


def _likely_wide_encoding(content: bytes) -> str:
    """Returns the form of UTF-16 or UTF-32 in which bytes are ordinary text, str, or ""."""
    for name, size in _WIDE:
        text = content.decode(name, "replace")
        is_ordinary = len(_ORDINARY.findall(text)) * size > 0.9 * len(content)
        # Some characters of a text hold the byte of a line feed too, but few.
        if is_ordinary and 2 * text.count("\n") >= content.count(b"\n"):
            return name
    return ""


def _score(content: bytes, index: int) -> float:
    """Returns how likely bytes are in an encoding of `_LEGACY`, a logarithm; -inf where not."""
    codec, charset, first, last, count = _LEGACY[index]
    characters = "".join(_NOT_ASCII.findall(content.decode(codec, "replace")))
    usual = sum(1 for c in characters if first <= c.encode(charset, "replace")[0] <= last)
    if usual < len(characters) / 2 or characters.count("\ufffd") > len(characters) / 100:
        return -math.inf
    rare = len(characters) - usual
    return -usual * math.log(count) - rare * math.log(_CHARACTERS) - index * _PRIOR
