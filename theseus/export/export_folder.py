"""The folder of an export: only an earlier export of the same run is ever replaced.

An export is written under a temporary name and gets its own name when it is complete. Its
export.json lists its files; only the listed files of an earlier export are removed.
"""

import contextlib
import fnmatch
import os

from absl import logging

from theseus import folder_lock
from theseus.errors import UserError
from theseus.export import read_back
from theseus.export.formats import FORMATS
from theseus.runs import files

_UNFINISHED, _REPLACED = ".unfinished_export", ".replaced_export"
# Patterns of the names of all files in exports, finished or not.
_WRITTEN = {read_back.DESCRIPTION, read_back.CARD, "*config.json", "vocab.txt"}
_WRITTEN.update(pattern for form in FORMATS.values() for pattern in form.files)


class ExportFolder(object):
    """The folder of one export.

    Attributes:
      given: str, the path as it was given.
      path: str, the same path without links; all checks and moves use it.
    """

    def __init__(self, path):
        """Names the folder, which need not exist."""
        self.given, self.path = path, os.path.realpath(path)
        self._replaced = self.path + _REPLACED

    def check(self, identity=None):
        """Cleans up after an interrupted export, and refuses a folder that may not be replaced.

        Args:
          identity: dict, the values that export.json has for an export of this run; None: not yet
            known.

        Raises:
          UserError: the path exists and is not an export of this run.
        """
        self._recover()
        folder_lock.sweep(self.path, _UNFINISHED, _is_written)
        if os.path.lexists(self.path) and not _is_empty_folder(self.path):
            _check_foreign(self.path, identity)

    def _recover(self):
        """Finishes a replacement that was interrupted after the earlier export was renamed."""
        if not os.path.lexists(self._replaced):
            return
        _check_foreign(self._replaced)
        try:
            if os.path.lexists(self.path):
                _remove(self._replaced)
                return
            os.rename(self._replaced, self.path)
        except OSError as error:
            reason = files.first_reason(error)
            raise UserError("%s: cannot be removed or renamed: %s" % (self._replaced, reason))
        message = "%s: replacing it was interrupted; the previous export was restored"
        logging.warning(message, self.path)

    @contextlib.contextmanager
    def writing(self, identity):
        """The context in which the export is written, in a temporary folder beside it.

        If the context ends without an error, the folder gets the export's name; otherwise it is
        removed.
        """
        parent = os.path.dirname(self.path)
        try:
            os.makedirs(parent, exist_ok=True)
            with folder_lock.new(self.path, _UNFINISHED) as temporary:
                yield temporary
                self._commit(temporary, identity)
        except OSError as error:
            raise UserError("%s: cannot be written: %s" % (self.path, files.first_reason(error)))

    def _commit(self, temporary, identity):
        for folder, _, names in os.walk(temporary):
            files.sync([os.path.join(folder, name) for name in names] + [folder])
        self.check(identity)  # Another program may have used the path in the meantime.
        is_replaced = os.path.lexists(self.path) and not _is_empty_folder(self.path)
        if is_replaced:
            os.rename(self.path, self._replaced)
        os.rename(temporary, self.path)
        files.sync([os.path.dirname(self.path)])
        if is_replaced:
            _remove(self._replaced)


def _is_empty_folder(path):
    return os.path.isdir(path) and not os.listdir(path)


def _check_foreign(path, identity=None):
    """Raises UserError if a folder holds anything else than an export of that identity."""
    try:
        recorded = read_back.read_description(path)
        listed = read_back.listed_files(path, recorded)
    except UserError:
        raise UserError(
            "--export_dir: %s already exists but is not an export that lists its files; give "
            "another folder, or remove it" % path
        )
    if identity is not None and any(recorded.get(key) != identity[key] for key in identity):
        raise UserError(
            "--export_dir: %s already exists but is not an export of this run as %s; give "
            "another folder, or remove it" % (path, identity["format"])
        )
    card = os.path.join(path, read_back.CARD)
    if os.path.exists(card) and listed.get(read_back.CARD) not in (None, files.sums(card)):
        raise UserError(
            "--export_dir: %s was edited; move it away, or give another folder, then copy your "
            "edits over" % card
        )
    foreign = sorted(set(read_back.all_files(path)) - set(listed) - {read_back.DESCRIPTION})
    if foreign:
        raise UserError(
            "--export_dir: %s holds %s, which is not part of the export; move it, or give "
            "another folder" % (path, foreign[0])
        )


def _is_written(path):
    return any(fnmatch.fnmatch(os.path.basename(path), pattern) for pattern in _WRITTEN)


def _remove(path):
    """Removes an export: the files that it lists, and the folders that then are empty."""
    listed = read_back.listed_files(path, read_back.read_description(path))
    ours = {os.path.join(path, name) for name in list(listed) + [read_back.DESCRIPTION]}
    folder_lock.remove_files(path, ours.__contains__)
