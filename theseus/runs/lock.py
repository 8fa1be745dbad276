"""A folder's lock: one writer at a time."""

from __future__ import annotations

import contextlib
import fcntl
import io
import os
from typing import IO, Iterator

from theseus.errors import FolderError
from theseus.runs import files

NAME = ".lock"


@contextlib.contextmanager
def locked(folder: str) -> Iterator[None]:
    """Holds a folder, made if need be, against every other writer.

    Raises:
      FolderError: another process holds it, or it cannot be made.
    """
    is_new = not os.path.exists(folder)
    make_folder(folder)
    path = os.path.join(folder, NAME)
    try:
        lock = io.open(path, "a")
    except OSError as error:
        raise FolderError("%s: cannot be written: %s;" % (folder, error.strerror))
    with lock:
        if not _take(lock, path):
            raise FolderError("%s: another run is writing to it; wait for its end, or" % folder)
        try:
            yield
        finally:
            if is_new:
                _remove_if_empty(folder)


def make_folder(path: str) -> None:
    """Makes a folder, and those above it; FolderError where that fails."""
    try:
        os.makedirs(path, exist_ok=True)
    except OSError as error:
        raise FolderError("%s: cannot be made: %s;" % (path, files.first_reason(error)))


def _take(lock: IO[str], path: str) -> bool:
    """Returns whether the open file `lock` is held now, and still the one at `path`."""
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return os.path.samestat(os.fstat(lock.fileno()), os.stat(path))
    except (BlockingIOError, FileNotFoundError):
        return False


def _remove_if_empty(folder: str) -> None:
    """Leaves no trace of a command that was refused before it wrote anything."""
    if os.listdir(folder) == [NAME]:
        os.remove(os.path.join(folder, NAME))
        with contextlib.suppress(OSError):  # Another command may be coming in.
            os.rmdir(folder)
