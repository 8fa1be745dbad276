"""What a command prints: its results, of which files keep all but the predictions of a pipe."""

from __future__ import annotations

import contextlib
import io
import os
import sys
from typing import Iterator, TextIO

from theseus.errors import UserError


def say(text: str, is_beside_predictions: bool = False) -> None:
    """Prints a line or a table; see `_written`. Beside predictions for a pipe, on stderr."""
    if is_beside_predictions:
        print(text, file=sys.stderr, flush=True)
        return
    with _written():
        print(text, flush=True)


@contextlib.contextmanager
def standard_output() -> Iterator[_Stream]:
    """Standard output in UTF-8, for what another program reads; see `_written`."""
    if sys.stdout is None:
        raise UserError("standard output: is closed; predictions have nowhere to go")
    descriptor = sys.stdout.fileno()
    stream = _Stream(io.open(descriptor, "w", encoding="utf-8", newline="\n", closefd=False))
    yield stream
    stream.flush()


class _Stream(object):
    """As much of a stream as is written to, which alone is to blame for its errors."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, text: str) -> None:
        """Writes text; see `_written`."""
        with _written():
            self._stream.write(text)

    def flush(self) -> None:
        """Hands on what was written; see `_written`."""
        with _written():
            self._stream.flush()


@contextlib.contextmanager
def _written() -> Iterator[None]:
    """Raises UserError where standard output takes no more; BrokenPipeError if nobody reads it."""
    try:
        yield
    except BrokenPipeError:
        raise
    except OSError as error:
        # Python writes what is left of it again when it ends.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise UserError("standard output: cannot be written: %s" % error.strerror)
