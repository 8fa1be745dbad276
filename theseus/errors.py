"""The one exception that ends in a line for the user instead of a traceback."""


class UserError(Exception):
    """A mistake in the command, a file or a folder; the message is one line.

    The message names what is wrong (file, line or flag), what was found and how to
    mend it. Only `run_classifier.py` catches it.
    """


def first_line(error):
    """Returns the first line of an exception's message, for use within a UserError's."""
    return str(error).strip().split("\n")[0]
