"""A cache of arrays on disk: they are named after what they are made from, and memory-mapped.

A folder holds a file of plain numbers for each array, and arrays.json, sealed, with their types,
shapes and checksums. The folder gets its name once it is complete.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import re
import shutil
import zlib
from typing import TYPE_CHECKING, Any, BinaryIO, Callable, Dict, Iterable

import numpy as np

from theseus import folder_lock, records
from theseus.errors import UserError

if TYPE_CHECKING:
    from numpy.typing import NDArray

Arrays = Dict[str, "NDArray[Any]"]

_RECORD = "arrays.json"
_UNFINISHED = ".tmp"
_TYPES = ("uint16", "int32", "int64", "float32")
_ARRAY = records.table(
    {
        "dtype": records.choice(_TYPES),
        "shape": records.listed(records.whole(0, 2**40), least=1),
        "crc32": records.whole(0, 2**32 - 1),
    }
)
_BLOCK = 1 << 22


def through_cache(
    path: str | None, names: Iterable[str], make: Callable[[], Iterable[Arrays]]
) -> Arrays:
    """Returns the arrays in a folder of the cache; if there are none, makes and stores them.

    If the folder cannot be read or written, nothing is stored. A damaged folder is made again.

    Args:
      path: the folder, named after the content that the arrays depend on; None: no cache.
      names: the names of the arrays.
      make: function without arguments that yields parts, each a dict of arrays by name; the
        parts are concatenated.

    Returns:
      The arrays by name. Cached ones are memory-mapped: they take no memory until used.
    """
    arrays = None
    if path is not None:
        arrays = _read(path, names)
        if arrays is None and _write(path, make):
            arrays = _read(path, names)
    if arrays is None:
        parts = list(make())
        arrays = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
    return arrays


def _read(path: str, names: Iterable[str]) -> Arrays | None:
    """Returns the arrays of a folder; None if one is missing or damaged."""
    try:
        record = records.read(os.path.join(path, _RECORD), records.mapping(_ARRAY))
        return {name: _map(os.path.join(path, name), record[name]) for name in names}
    except (UserError, OSError, ValueError, KeyError):
        return None


def _map(path: str, entry: dict[str, Any]) -> NDArray[Any]:
    """Returns the array in a file; ValueError if the file has changed since it was written."""
    with io.open(path, "rb") as reader:
        checksum = 0
        for block in iter(lambda: reader.read(_BLOCK), b""):
            checksum = zlib.crc32(block, checksum)
        if checksum != entry["crc32"]:
            raise ValueError("not what was written")
        if not entry["shape"][0]:
            return np.zeros(entry["shape"], entry["dtype"])
        # A plain array: indexing an np.memmap makes another np.memmap, which is slower.
        return np.asarray(np.memmap(reader, entry["dtype"], "r", shape=tuple(entry["shape"])))


def _write(path: str, make: Callable[[], Iterable[Arrays]]) -> bool:
    """Makes and stores the arrays; returns whether the folder is in the cache now."""
    try:
        os.makedirs(os.path.dirname(path), exist_ok=True)
        folder_lock.sweep(path, _UNFINISHED, _is_written)
        with folder_lock.new(path, _UNFINISHED) as temporary:
            with _Writer(temporary) as writer:
                for part in make():
                    writer.add(part)
            shutil.rmtree(path, ignore_errors=True)
            os.rename(temporary, path)
    except OSError:
        return os.path.isdir(path)  # Another process may have been first.
    return True


def _is_written(path: str) -> bool:
    """Returns whether a file, judged by its name, may have been written by this cache."""
    is_beside = os.path.dirname(path).endswith(_UNFINISHED)
    return is_beside and re.match(r"\w+(\.json)?\Z", os.path.basename(path)) is not None


class _Writer(object):
    """Writes arrays into a folder, part by part; a context manager, whose end completes them."""

    def __init__(self, folder: str) -> None:
        self._folder = folder
        self._record: dict[str, dict[str, Any]] = {}
        self._files = contextlib.ExitStack()
        self._writers: dict[str, BinaryIO] = {}

    def __enter__(self) -> _Writer:
        return self

    def add(self, part: Arrays) -> None:
        """Appends arrays, by name, to those of the earlier parts."""
        for name, array in part.items():
            if name not in self._record:
                writer = io.open(os.path.join(self._folder, name), "wb")
                self._writers[name] = self._files.enter_context(writer)
                shape = [0] + list(array.shape[1:])
                self._record[name] = {"dtype": array.dtype.name, "shape": shape, "crc32": 0}
            content, entry = array.tobytes(), self._record[name]
            self._writers[name].write(content)
            entry["crc32"] = zlib.crc32(content, entry["crc32"])
            entry["shape"][0] += len(array)

    def __exit__(self, failed: type | None, *_: object) -> None:
        self._files.close()
        if not failed:
            with io.open(os.path.join(self._folder, _RECORD), "w", encoding="utf-8") as writer:
                json.dump(records.sealed(self._record), writer)
