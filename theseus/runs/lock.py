"""A folder's lock: one writer at a time."""

from __future__ import annotations

import contextlib
import fcntl
import io
import os
from typing import Iterator

from theseus.errors import FolderError
from theseus.runs import files

NAME = ".lock"
"""A file that is locked in the folder's place where its file system locks files alone."""


class FolderLock(object):
    """A folder that is held against every other writer; see `locked`."""

    def __init__(self, folder: str, descriptor: int) -> None:
        """Takes the path, and the descriptor of the folder that was there when it was locked."""
        self._folder, self._descriptor = folder, descriptor

    def check(self) -> None:
        """Raises FolderError where the folder's name is no longer that of what is held."""
        if not self.is_there():
            raise FolderError(
                "%s: was moved or removed while this run was writing to it; bring it back, or"
                % self._folder
            )

    def is_there(self) -> bool:
        """Returns whether the folder at the path is still the one that is held."""
        try:
            return os.path.samestat(os.fstat(self._descriptor), os.stat(self._folder))
        except OSError:
            return False


@contextlib.contextmanager
def locked(folder: str) -> Iterator[FolderLock]:
    """Holds a folder, made if need be, against every other writer.

    The folder itself is locked, which is not undone by removing a file.

    Raises:
      FolderError: another process holds it, or it cannot be made.
    """
    is_new = not os.path.exists(folder)
    make_folder(folder)
    with contextlib.ExitStack() as stack:
        try:
            descriptor = _open(folder, stack)
            is_held = _take(folder, descriptor, stack)
        except OSError as error:
            raise FolderError("%s: cannot be locked: %s;" % (folder, error.strerror))
        held = FolderLock(folder, descriptor)
        if not (is_held and held.is_there()):
            raise FolderError("%s: another run is writing to it; wait for its end, or" % folder)
        try:
            yield held
        finally:
            if is_new:
                _remove_if_empty(folder)


def make_folder(path: str) -> None:
    """Makes a folder, and those above it; FolderError where that fails."""
    try:
        os.makedirs(path, exist_ok=True)
    except OSError as error:
        raise FolderError("%s: cannot be made: %s;" % (path, files.first_reason(error)))


def _open(folder: str, stack: contextlib.ExitStack) -> int:
    descriptor = os.open(folder, os.O_RDONLY)
    stack.callback(os.close, descriptor)
    return descriptor


def _take(folder: str, descriptor: int, stack: contextlib.ExitStack) -> bool:
    """Returns whether the folder of a descriptor is locked now."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return True
    except BlockingIOError:
        return False
    except OSError:  # NFS locks only what is open for writing, which a folder never is.
        path = os.path.join(folder, NAME)
        file = stack.enter_context(io.open(path, "a"))
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return os.path.samestat(os.fstat(file.fileno()), os.stat(path))
        except (BlockingIOError, FileNotFoundError):
            return False


def _remove_if_empty(folder: str) -> None:
    """Leaves no trace of a command that was refused before it wrote anything."""
    with contextlib.suppress(OSError):  # Another command may be coming in.
        if os.listdir(folder) == [NAME]:
            os.remove(os.path.join(folder, NAME))
        os.rmdir(folder)
