"""The exceptions that the user sees as one line instead of a traceback."""

from __future__ import annotations

import contextlib
from typing import Iterator

_LONGEST = 1500


class UserError(Exception):
    """A mistake in the command, a file or a folder; the message is one line.

    The message names what is wrong (file, line or flag), what was found and how to fix it.
    Only `run_classifier.py` catches it.
    """

    def __init__(self, message: str) -> None:
        """Takes the message; if it is very long, its middle is left out."""
        if len(message) > _LONGEST:
            message = "%s ... %s" % (message[: _LONGEST // 2], message[-_LONGEST // 2 :])
        super(UserError, self).__init__(message)


class FolderError(UserError):
    """The content of a stage's folder does not fit the command; another folder would.

    The message ends with "give another folder", and `naming` adds " with --stage_1_outputdir": a
    command knows which flag names the folder, a Python caller has no flag.
    """

    def __init__(self, message: str) -> None:
        """Takes the message without its last words, which are always the same."""
        super(FolderError, self).__init__("%s give another folder" % message)


@contextlib.contextmanager
def naming(flag: str) -> Iterator[None]:
    """Turns a FolderError into a UserError that also names the flag of the folder."""
    try:
        yield
    except FolderError as error:
        raise UserError("%s with --%s" % (error, flag))


@contextlib.contextmanager
def failing(path: str, done: str) -> Iterator[None]:
    """Turns an OSError, or a decoder's error, into a UserError about the path.

    Args:
      path: what the message calls the file.
      done: what failed: "read", "written" or "removed".
    """
    try:
        yield
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or error
        raise UserError("%s: cannot be %s: %s" % (path, done, reason))


def first_line(error: BaseException) -> str:
    """Returns the first line of an exception's message, to be quoted in a UserError.

    For an error within TensorFlow's graph it is the line that names the cause, which comes after
    the places where the operation was built.
    """
    lines = str(error).strip().split("\n")
    nodes = [number for number, line in enumerate(lines) if line.startswith("Node: ")]
    if lines[0].startswith("Graph execution error") and nodes:
        lines = lines[nodes[-1] + 1 :] or lines
    if lines[0].endswith("root error(s) found."):
        lines = lines[1:] or lines
    return lines[0].strip()
