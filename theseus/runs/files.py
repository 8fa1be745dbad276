"""Files that are complete or absent: written in one step, synced to disk, known by their hash."""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import os
import shutil
from typing import Any, Iterable, Iterator, Mapping, Sequence, TextIO

from theseus.errors import UserError, failing
from theseus.records import table, text, whole


def hash_files(paths: Sequence[str]) -> str:
    """Returns the SHA-256, in hex, of the contents of files, one after the other.

    Raises:
      UserError: a file cannot be read.
    """
    if not paths:
        raise UserError("a checkpoint was removed while it was being read; try again")
    digest = hashlib.sha256()
    for path in paths:
        with failing(path, "read"), io.open(path, "rb") as reader:
            for block in iter(lambda: reader.read(1 << 20), b""):
                digest.update(block)
    return digest.hexdigest()


def sums(path: str) -> dict[str, Any]:
    """Returns the size and the SHA-256 of a file, as JSON; UserError if it cannot be read."""
    digest = hash_files([path])
    return {"bytes": os.path.getsize(path), "sha256": digest}


SUMS = table({"bytes": whole(0, 2**63), "sha256": text("[0-9a-f]{64}")})
"""The Kind of what `sums` returns."""


def identity(path: str) -> tuple[int, int, int]:
    """Returns a key that changes when a file is written again."""
    found = os.stat(path)
    return found.st_ino, found.st_mtime_ns, found.st_size


def hash_bytes(content: bytes) -> str:
    """Returns the SHA-256, in hex, of bytes: the same as of a file with this content."""
    return hashlib.sha256(content).hexdigest()


def hash_text(text: str) -> str:
    """Returns the SHA-256, in hex, of a str in UTF-8: the same as of a file with this content."""
    return hash_bytes(text.encode("utf-8"))


def first_reason(error: Exception) -> str:
    """Returns an OSError's reason without its number and path; for other errors the message."""
    return getattr(error, "strerror", None) or str(error)


@contextlib.contextmanager
def writing(path: str) -> Iterator[TextIO]:
    """Opens a UTF-8 file that takes its name when the block ends without an error."""
    temporary = path + ".tmp"
    try:
        with failing(path, "written"):
            with io.open(temporary, "w", encoding="utf-8", newline="\n") as writer:
                yield writer
                writer.flush()
                os.fsync(writer.fileno())
            os.replace(temporary, path)
            sync([os.path.dirname(path) or "."])
    finally:
        with contextlib.suppress(OSError):
            os.remove(temporary)


def write_text(path: str, text: str) -> None:
    """Writes a UTF-8 file in one step: readers see the old one or the new one."""
    with writing(path) as writer:
        writer.write(text)


def write_json(path: str, value: Mapping[str, Any]) -> None:
    """Writes a JSON file in one step."""
    write_text(path, json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False) + "\n")


def short_name(path: str) -> str:
    """Returns a path's last folder and name, which are enough to tell files apart."""
    return "/".join(path.split(os.sep)[-2:])


def remove(path: str) -> None:
    """Removes a file, or a folder with its content; UserError if that fails."""
    with failing(path, "removed"):
        if os.path.isdir(path):
            shutil.rmtree(path)
        else:
            os.remove(path)


def sync(paths: Iterable[str]) -> None:
    """Waits until files, or a folder's entries, are on disk; UserError if that fails."""
    for path in paths:
        with failing(path, "written"):
            descriptor = os.open(path, os.O_RDONLY)
            try:
                os.fsync(descriptor)
            finally:
                os.close(descriptor)
