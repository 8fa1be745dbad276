"""Prints a command's results, and predictions that are piped to another program."""

from __future__ import annotations

import contextlib
import io
import os
import sys
from typing import Iterator, TextIO

from theseus.errors import UserError


def say(text: str, is_beside_predictions: bool = False) -> None:
    """Prints a line or a table; on standard error if standard output is for predictions."""
    if is_beside_predictions:
        print(text, file=sys.stderr, flush=True)
        return
    with _written():
        print(text, flush=True)


@contextlib.contextmanager
def standard_output() -> Iterator[_Stream]:
    """Yields standard output in UTF-8, for another program to read; see `_written`."""
    if sys.stdout is None:
        raise UserError(
            "standard output: is closed, so predictions cannot be written; redirect it to a file"
        )
    descriptor = sys.stdout.fileno()
    stream = _Stream(io.open(descriptor, "w", encoding="utf-8", newline="\n", closefd=False))
    yield stream
    stream.flush()


class _Stream(object):
    """Standard output as a file to write to; its errors are distinguished from all others."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, text: str) -> None:
        """Writes text; see `_written`."""
        with _written():
            self._stream.write(text)

    def flush(self) -> None:
        """Flushes what was written; see `_written`."""
        with _written():
            self._stream.flush()


@contextlib.contextmanager
def _written() -> Iterator[None]:
    """Raises UserError if standard output cannot be written, BrokenPipeError if nobody reads it."""
    try:
        yield
    except BrokenPipeError:
        raise
    except OSError as error:
        # Python flushes standard output again when it exits; that must not fail a second time.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise UserError("standard output: cannot be written: %s" % error.strerror)
