"""The exceptions that end in a line for the user instead of a traceback."""

from __future__ import annotations

import contextlib
from typing import Iterator


class UserError(Exception):
    """A mistake in the command, a file or a folder; the message is one line.

    The message names what is wrong (file, line or flag), what was found and how to fix it.
    Only `run_classifier.py` catches it.
    """


class FolderError(UserError):
    """What a stage's folder holds stands in the way; another folder would do.

    The message ends so that " with --stage_1_outputdir" can follow: a command knows which flag
    names the folder, a Python caller has none.
    """

    def __init__(self, message: str) -> None:
        """Takes the message without its end, which is the same for all."""
        super().__init__("%s give another folder" % message)


@contextlib.contextmanager
def naming(flag: str) -> Iterator[None]:
    """Says in a FolderError which flag names the folder, and makes a UserError of it."""
    try:
        yield
    except FolderError as error:
        raise UserError("%s with --%s" % (error, flag))


def first_line(error: BaseException) -> str:
    """Returns the first line of an exception's message, for use within a UserError's."""
    return str(error).strip().split("\n")[0]
