"""The files that are read: which they are, and in which form.

A split's files are found by their names; what a command knows of their form, and has said of them
already, is its ReadOptions.
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
    """Returns what a message calls a file, str."""
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
      UserError: one of them is not there, or is there with several endings.
    """
    return [_find_file(os.path.join(data_dir, name)) for name in task.files(split)]


_COUNTS = {2: "both", 3: "all three", 4: "all four"}


def _find_file(path: str) -> str:
    found = rows.existing_files(path)
    if len(found) > 1:
        all_of_them = _COUNTS.get(len(found), "all")
        raise UserError("%s: %s exist; keep one" % (", ".join(found), all_of_them))
    if not found:
        others = ", ".join(os.path.basename(name) for name in rows.files_beside(path))
        beside = "; %s will not do" % others if others else ""
        raise UserError(
            "%s: there is none with an ending of %s, .json%s; see --data_dir"
            % (path, ", ".join(rows.ENDINGS), beside)
        )
    return found[0]


# --- In which form ---


class ReadOptions(object):
    """How the files of a command are to be read, and what was said of them already."""

    def __init__(
        self,
        header: str = "auto",
        encoding: str | None = None,
        skip_bad_lines: bool = False,
        format: str = "auto",
        delimiter: str | None = None,
    ) -> None:
        """Takes what the flags of the same names say.

        Args:
          header: str, see layout.find_layout.
          encoding: str; None: UTF-8.
          skip_bad_lines: bool, whether a line that is not an example is left out, and said, where
            it would otherwise be an error.
          format: str, one of rows.FORMATS; "auto": by the file's ending.
          delimiter: str, what separates the columns of CSV; see rows.delimiter_of.
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
        """Logs a line about a file, the first time that it is to be said."""
        line = "%s: %s" % (name_of(path), message)
        if line not in self._said:
            self._said.add(line)
            logging.log(level, "%s", line)

    def header_of(self, path: str, names: list[str]) -> str:
        """Returns what layout.find_layout is to be told of a file's header, str.

        What was found of a file holds when it is read again. A first row that is another
        file's header is one.

        Args:
          path: str.
          names: list of str, those of the first row as a header.
        """
        if rows.format_of(path, self.format) == "jsonl":
            return "yes"
        if self.header != "auto":
            return self.header
        return "yes" if names in self._headers else self._decided.get(path, "auto")

    def remember(self, path: str, found: Layout) -> None:
        """Notes the layout.Layout that was found for a file."""
        self._decided[path] = "yes" if found.header else "no"
        if found.header:
            self._headers.append(layout.names(found.header))

    def content(self, path: str) -> bytes:
        """Returns what a small file holds, bytes; `open` gives the same from then on.

        Raises:
          UserError: it cannot be read.
        """
        if path not in self._contents:
            with failing(name_of(path), "read"), self.open(path) as stream:
                self._contents[path] = stream.read()
        return self._contents[path]

    def open(self, path: str) -> BinaryIO:
        """Returns a file, opened to be read as bytes from its start, again and again.

        What can be read but once, standard input or a pipe, is copied to the disk.

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


def recorded_options(run_config: Mapping[str, Any], path: str) -> ReadOptions:
    """Returns the ReadOptions of a file beside those of a run, by its run_config, a dict."""
    is_named = os.path.splitext(path)[1].lower() != ".txt"  # After its format.
    return ReadOptions(
        run_config.get("header") or "auto",
        run_config.get("encoding"),
        bool(run_config.get("skip_bad_lines")),
        "auto" if is_named else run_config.get("format") or "auto",
        run_config.get("delimiter"),
    )
