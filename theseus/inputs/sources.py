"""Finds the files of a split by their names, and keeps a command's options for reading files.

A command's ReadOptions also remember what was already logged about its files.
"""

from __future__ import annotations

import io
import os
import shutil
import stat
import tempfile
from typing import IO, Any, BinaryIO, Mapping

from absl import logging

from theseus.errors import UserError, failing
from theseus.inputs import layout, rows
from theseus.inputs.layout import Layout
from theseus.inputs.tasks import Task

STANDARD_INPUT = "-"
"""The path that means standard input."""


def name_of(path: str) -> str:
    """Returns the name of a file in messages, str."""
    return "standard input" if path == STANDARD_INPUT else path


# --- Which files ---


def has_split(data_dir: str, task: Task, split: str) -> bool:
    """Returns whether a folder holds any of a split's files, see `find_files`."""
    return any(rows.existing_files(os.path.join(data_dir, name)) for name in task.files(split))


def find_files(data_dir: str, task: Task, split: str) -> list[str]:
    """Returns the paths of a split's files, each with one of rows.ENDINGS.

    Args:
      data_dir: the folder.
      task: a tasks.Task.
      split: "train", "dev" or "test".

    Raises:
      UserError: one of them does not exist, or exists with several endings.
    """
    return [_find_file(os.path.join(data_dir, name)) for name in task.files(split)]


_COUNTS = {2: "both", 3: "all three", 4: "all four"}


def _find_file(path: str) -> str:
    found = rows.existing_files(path)
    if len(found) > 1:
        all_of_them = _COUNTS.get(len(found), "all")
        raise UserError("%s: %s exist; keep one" % (", ".join(found), all_of_them))
    if not found:
        others = ", ".join(os.path.basename(name) for name in rows.named_like(path))
        beside = "; %s cannot be read" % others if others else ""
        raise UserError(
            "%s: there is no such file with one of the extensions %s, .json%s; see --data_dir"
            % (path, ", ".join(rows.ENDINGS), beside)
        )
    return found[0]


# --- In which form ---


class ReadOptions(object):
    """The options with which a command reads its files, and the log lines about them so far."""

    def __init__(
        self,
        header: str = "auto",
        encoding: str | None = None,
        skip_bad_lines: bool = False,
        format: str = "auto",
        delimiter: str | None = None,
    ) -> None:
        """Takes the values of the flags with the same names.

        Args:
          header: str, see layout.find_layout.
          encoding: str; None: UTF-8.
          skip_bad_lines: bool, whether a line without a valid example is skipped and logged; if
            not, it is an error.
          format: str, one of rows.FORMATS; "auto": by the file's ending.
          delimiter: str, the separator of the columns of CSV; see rows.delimiter_of.
        """
        self.header = header
        self.delimiter = rows.delimiter_of(delimiter)
        self.format = format
        self.encoding = encoding
        self.skip_bad_lines = skip_bad_lines
        self._said: set[str] = set()
        self._decided: dict[str, str] = {}
        self._headers: list[list[str]] = []
        self._copies: dict[str, IO[bytes]] = {}
        self._contents: dict[str, bytes] = {}

    def say(self, path: str, message: str, level: int = logging.WARNING) -> None:
        """Logs a line about a file, but never the same line twice."""
        line = "%s: %s" % (name_of(path), message)
        if line not in self._said:
            self._said.add(line)
            logging.log(level, "%s", line)

    def header_of(self, path: str, names: list[str]) -> str:
        """Returns the argument `header` of layout.find_layout for a file, str.

        When a file is read again, the earlier decision counts. A first row that equals another
        file's header is a header.

        Args:
          path: str.
          names: list of str, the names in the first row if it is a header.
        """
        if rows.format_of(path, self.format) == "jsonl":
            return "yes"
        if self.header != "auto":
            return self.header
        return "yes" if names in self._headers else self._decided.get(path, "auto")

    def remember(self, path: str, found: Layout) -> None:
        """Remembers the layout.Layout that was found for a file."""
        self._decided[path] = "yes" if found.header else "no"
        if found.header:
            self._headers.append(layout.names(found.header))

    def content(self, path: str) -> bytes:
        """Returns the content of a small file, bytes; later calls of `open` read these bytes.

        Raises:
          UserError: it cannot be read.
        """
        if path not in self._contents:
            with failing(name_of(path), "read"), self.open(path) as stream:
                self._contents[path] = stream.read()
        return self._contents[path]

    def open(self, path: str) -> BinaryIO:
        """Opens a file for reading bytes from its start; it can be called several times.

        Standard input and pipes, which can be read only once, are copied to the disk.

        Raises:
          UserError: it cannot be read.
        """
        if path in self._contents:
            return io.BytesIO(self._contents[path])
        with failing(name_of(path), "read"):
            if path not in self._copies:
                stream = io.open(0 if path == STANDARD_INPUT else path, "rb", closefd=path != "-")
                if path != STANDARD_INPUT and stat.S_ISREG(os.fstat(stream.fileno()).st_mode):
                    return stream
                copy = tempfile.TemporaryFile()
                with stream:
                    shutil.copyfileobj(stream, copy)
                copy.flush()
                self._copies[path] = copy
            again = io.open(os.dup(self._copies[path].fileno()), "rb")
            again.seek(0)
            return again


def options_of(flags: Any) -> ReadOptions:
    """Returns the ReadOptions of a command's flags, a Config or absl's FLAGS."""
    return ReadOptions(
        flags.header, flags.encoding, flags.skip_bad_lines, flags.format, flags.delimiter
    )


def recorded_options(run_config: Mapping[str, Any], path: str) -> ReadOptions:
    """Returns the ReadOptions for another file of a run, from its run config, a dict."""
    is_named = os.path.splitext(path)[1].lower() != ".txt"  # Its ending names its format.
    return ReadOptions(
        run_config.get("header") or "auto",
        run_config.get("encoding"),
        bool(run_config.get("skip_bad_lines")),
        "auto" if is_named else run_config.get("format") or "auto",
        run_config.get("delimiter"),
    )
