"""Folders that are written beside the name they take once they are whole; and what is left of them.

A writer holds its folder locked, so that of one which nobody holds the writer is dead.
"""

from __future__ import annotations

import contextlib
import fcntl
import glob
import os
import re
import shutil
import tempfile
from typing import Callable, Iterator


@contextlib.contextmanager
def new(path: str, ending: str) -> Iterator[str]:
    """Makes a folder `path`.<8 letters>`ending`, and holds it for as long as it is written.

    When the context ends it is removed, unless it has taken its name.

    Raises:
      OSError: it cannot be made.
    """
    parent, name = os.path.split(path)
    while True:
        folder = tempfile.mkdtemp(ending, name + ".", parent)
        with _held(folder, waits=True):
            if os.path.isdir(folder):  # Else it was swept away in the instant before.
                try:
                    os.chmod(folder, 0o777 & ~_umask())
                    yield folder
                finally:
                    shutil.rmtree(folder, ignore_errors=True)
                return


@contextlib.contextmanager
def _held(folder: str, waits: bool) -> Iterator[bool]:
    """Locks a folder by itself; yields whether that could be done."""
    with contextlib.ExitStack() as stack:
        is_held = True
        try:
            descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
            stack.callback(os.close, descriptor)
            fcntl.flock(descriptor, fcntl.LOCK_EX | (0 if waits else fcntl.LOCK_NB))
        except OSError:  # It is another's, or is gone, or lies where files alone are locked.
            is_held = False
        yield is_held


def sweep(path: str, ending: str, is_ours: Callable[[str], bool]) -> None:
    """Removes what writers that were killed have left of `path`, as far as that can be done.

    Args:
      path: str, the name that the folders were to take.
      ending: str, as for `new`.
      is_ours: function of a file's path that returns whether a writer may have written it; a
        folder that holds another file stays, with that file.
    """
    for folder in glob.glob(glob.escape(path) + ".*" + glob.escape(ending)):
        if re.match(r"\.\w{8}\Z", folder[len(path) : -len(ending)]):
            with _held(folder, waits=False) as is_left, contextlib.suppress(OSError):
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


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
