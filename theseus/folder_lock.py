"""Locks a folder for one writer at a time; makes folders that get their name once complete.

The folder itself is locked, by its descriptor, so removing a file does not unlock it. A new folder
is written, and locked, under a temporary name beside its final one. If such a temporary folder is
not locked, its writer was killed.
"""

from __future__ import annotations

import contextlib
import fcntl
import glob
import io
import os
import re
import shutil
import uuid
from typing import Callable, Iterator, NamedTuple

from theseus.errors import FolderError

NAME = ".lock"
"""A file that is locked instead of the folder if the file system can only lock files."""


class FolderLock(NamedTuple):
    """A locked folder; see `locked`.

    Fields:
      folder: its path.
      descriptor: the descriptor of the folder that was locked.
    """

    folder: str
    descriptor: int

    def check(self) -> None:
        """Raises FolderError if the path no longer leads to the locked folder."""
        if not self.is_there():
            raise FolderError(
                "%s: was moved or removed while this run was writing to it; move it back, or"
                % self.folder
            )

    def is_there(self) -> bool:
        """Returns whether the folder at the path is still the locked one."""
        try:
            return os.path.samestat(os.fstat(self.descriptor), os.stat(self.folder))
        except OSError:
            return False


@contextlib.contextmanager
def locked(folder: str) -> Iterator[FolderLock]:
    """Locks a folder against every other writer, and creates it if it is missing.

    Raises:
      FolderError: another process has locked the folder, or it cannot be created.
    """
    is_new = not os.path.exists(folder)
    make_folder(folder)
    with contextlib.ExitStack() as stack:
        try:
            descriptor = _open(folder, os.O_RDONLY, stack)
            is_held = _take(folder, descriptor, stack)
        except OSError as error:
            raise FolderError("%s: cannot be locked: %s;" % (folder, error.strerror))
        held = FolderLock(folder, descriptor)
        if not (is_held and held.is_there()):
            raise FolderError("%s: another run is writing to it; wait until it ends, or" % folder)
        try:
            yield held
        finally:
            if is_new:
                _remove_if_empty(folder)


def make_folder(path: str) -> None:
    """Creates a folder and its parents; FolderError if that fails."""
    try:
        os.makedirs(path, exist_ok=True)
    except OSError as error:
        raise FolderError("%s: cannot be created: %s;" % (path, error.strerror or error))


def _open(folder: str, flags: int, stack: contextlib.ExitStack) -> int:
    descriptor = os.open(folder, flags)
    stack.callback(os.close, descriptor)
    return descriptor


def _take(folder: str, descriptor: int, stack: contextlib.ExitStack) -> bool:
    """Locks the folder of a descriptor without waiting; returns whether that succeeded."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return True
    except BlockingIOError:
        return False
    except OSError:  # NFS locks only files open for writing; a folder never is.
        path = os.path.join(folder, NAME)
        file = stack.enter_context(io.open(path, "a"))
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return os.path.samestat(os.fstat(file.fileno()), os.stat(path))
        except (BlockingIOError, FileNotFoundError):
            return False


def _remove_if_empty(folder: str) -> None:
    """Removes the folder of a command that was refused before it wrote anything."""
    with contextlib.suppress(OSError):  # Another command may just have begun.
        if os.listdir(folder) == [NAME]:
            os.remove(os.path.join(folder, NAME))
        os.rmdir(folder)


# --- Folders that are not complete yet ---


@contextlib.contextmanager
def new(path: str, ending: str) -> Iterator[str]:
    """Creates a folder `path`.<8 letters>`ending`, and locks it while it is written.

    When the context ends, the folder is removed, unless it was renamed to its final name.

    Raises:
      OSError: it cannot be created.
    """
    while True:
        folder = "%s.%s%s" % (path, uuid.uuid4().hex[:8], ending)
        os.mkdir(folder)
        with _held(folder, waits=True):
            if os.path.isdir(folder):  # It may have been swept before it was locked.
                try:
                    yield folder
                finally:
                    shutil.rmtree(folder, ignore_errors=True)
                return


@contextlib.contextmanager
def _held(folder: str, waits: bool) -> Iterator[bool]:
    """Locks a folder, never a file in it; yields whether that succeeded."""
    with contextlib.ExitStack() as stack:
        is_held = True
        try:
            descriptor = _open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW, stack)
            fcntl.flock(descriptor, fcntl.LOCK_EX | (0 if waits else fcntl.LOCK_NB))
        except OSError:  # It is locked, or gone, or its file system locks only files.
            is_held = False
        yield is_held


def sweep(path: str, ending: str, is_ours: Callable[[str], bool]) -> None:
    """Removes the unfinished folders of `path` whose writers were killed, as far as possible.

    Args:
      path: str, the final name of the folders.
      ending: str, as for `new`.
      is_ours: function of a file's path that returns whether a writer may have written it; if
        a folder holds other files, these and the folder stay.
    """
    for folder in glob.glob(glob.escape(path) + ".*" + glob.escape(ending)):
        if re.match(r"\.\w{8}\Z", folder[len(path) : -len(ending)]):
            with _held(folder, waits=False) as is_left, contextlib.suppress(OSError):
                if is_left:
                    remove_files(folder, is_ours)


def remove_files(folder: str, is_ours: Callable[[str], bool]) -> None:
    """Removes this program's files below a folder, and then the folders that are empty."""
    for place, _, names in os.walk(folder, topdown=False):
        for file in [os.path.join(place, name) for name in names]:
            if is_ours(file):
                with contextlib.suppress(FileNotFoundError):
                    os.remove(file)
        with contextlib.suppress(OSError):  # It holds a file of somebody else.
            os.rmdir(place)
