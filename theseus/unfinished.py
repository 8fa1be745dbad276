"""Folders that are written beside the name they take once they are whole; and what is left of them.

A writer holds its folder locked, so that of one which nobody holds the writer is dead.
"""

from __future__ import annotations

import contextlib
import fcntl
import glob
import os
import re
from typing import Callable, Iterator


@contextlib.contextmanager
def held(folder: str) -> Iterator[bool]:
    """Locks a folder by itself; yields whether that could be done."""
    with contextlib.ExitStack() as stack:
        is_held = True
        try:
            descriptor = os.open(folder, os.O_RDONLY)
            stack.callback(os.close, descriptor)
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:  # It is another's, or is gone, or lies where files alone are locked.
            is_held = False
        yield is_held


def sweep(path: str, ending: str, is_ours: Callable[[str], bool]) -> None:
    """Removes what writers that were killed have left of `path`.

    Args:
      path: str, the name that the folders were to take.
      ending: str, a regular expression of how their names go on.
      is_ours: function of a file's path that returns whether a writer may have written it; a
        folder that holds another file stays, with that file.
    """
    for folder in glob.glob(glob.escape(path) + ".*"):
        if re.match(ending + "\\Z", folder[len(path) :]):
            with held(folder) as is_left:
                if is_left:
                    remove_files(folder, is_ours)


def remove_files(folder: str, is_ours: Callable[[str], bool]) -> None:
    """Removes the files below a folder that are ours, and the folders that are empty then."""
    for place, _, names in os.walk(folder, topdown=False):
        for file in [os.path.join(place, name) for name in names]:
            if is_ours(file):
                with contextlib.suppress(FileNotFoundError):
                    os.remove(file)
        with contextlib.suppress(OSError):  # Somebody's file is there.
            os.rmdir(place)
