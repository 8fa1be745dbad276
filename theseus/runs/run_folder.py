"""The output folder of one run: its lock, its run config, and its result files."""

from __future__ import annotations

import contextlib
import glob
import os
from typing import Any, ContextManager, Iterator, Mapping, TextIO

from theseus import folder_lock, records, stage
from theseus.errors import FolderError, UserError
from theseus.inputs import tasks, tokenizer_settings
from theseus.runs import files

_RUN = "run.json"
STATE_FILE = "state.json"
# Parts of run.json that do not define the run.
_ENVIRONMENT, _PATHS = "environment", "paths"

_LAYERS = records.whole(1, 1 << 10)
_OF_MODEL = {
    "stage": records.choice(known.name for known in stage.STAGES),
    "task_name": records.choice(tasks.TASKS),
    "suc_layers": records.nullable(_LAYERS),
    "max_seq_length": records.whole(3, 1 << 20),
    "do_lower_case": records.boolean,
    "precision": records.choice(["float32", "bfloat16"]),
}
_OPEN = {
    "modules": records.nullable(records.listed(_LAYERS, 1)),
    "labels": records.nullable(records.listed(records.text(), 2)),
    "num_texts": records.nullable(records.whole(1, 2)),
    "metric": records.nullable(records.choice(tasks.METRICS)),
    "keep_predecessor": records.nullable(records.boolean),
    "padded_length": records.nullable(records.whole(1)),
    "tokenizer": tokenizer_settings.RECORD,
    _ENVIRONMENT: records.mapping(records.anything),
    _PATHS: records.mapping(records.text()),
}
RUN = records.table({}, dict(_OF_MODEL, **_OPEN), others=True)
"""The Kind of run.json; every known part may be missing."""
TRAINED_RUN = records.table(_OF_MODEL, _OPEN, others=True)
"""The same with all parts that using a trained model needs."""


class RunFolder(object):
    """A folder that holds one run. Reading needs no lock, writing does."""

    def __init__(self, path: str) -> None:
        """Names the folder, which need not exist."""
        self.path = path
        self._held: folder_lock.FolderLock | None = None
        self._run: dict[str, Any] | None = None
        self._run_is_of: tuple[int, int, int] | None = None

    def file(self, name: str) -> str:
        """Returns the path of a file of the folder."""
        return os.path.join(self.path, name)

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """The context in which this process has locked the folder; see folder_lock.locked."""
        with folder_lock.locked(self.path) as self._held:
            try:
                yield
            finally:
                self._held = None

    def check_moved(self) -> None:
        """Raises FolderError if the locked folder is no longer at its path."""
        if self._held is not None:
            self._held.check()

    # --- What run it holds ---

    def run_config(self) -> dict[str, Any] | None:
        """Returns the run config, a dict; None if the folder holds no run."""
        recorded = self._read_run()
        return recorded and _defining(recorded)

    def environment(self) -> dict[str, Any]:
        """Returns the software and hardware that the run started with; {} if not known."""
        return (self._read_run() or {}).get(_ENVIRONMENT) or {}

    def paths(self) -> dict[str, str]:
        """Returns the paths of the run's files, by the names of their flags; {} if not known."""
        return (self._read_run() or {}).get(_PATHS) or {}

    def trained_run_config(self) -> dict[str, Any]:
        """Returns the run config of a trained model; UserError if a part of it is missing."""
        self.check_moved()
        recorded: dict[str, Any] = records.read(self.file(_RUN), TRAINED_RUN)
        if stage.of_name(recorded["stage"]).has_successor and recorded["suc_layers"] is None:
            raise UserError("%s: is damaged: suc_layers is null" % self.file(_RUN))
        return _defining(recorded)

    def takes_texts(self) -> tuple[int, ...]:
        """Returns the number of texts in an example of the trained model, (1,) or (2,)."""
        return (tasks.recorded(self.trained_run_config()).num_texts,)

    def _read_run(self) -> dict[str, Any] | None:
        """Returns the content of run.json, a dict; it is read again if the file has changed."""
        self.check_moved()
        path = self.file(_RUN)
        is_of = files.identity(path) if os.path.exists(path) else None
        if is_of != self._run_is_of:
            self._run, self._run_is_of = records.read_if_there(path, RUN), is_of
        return self._run

    def claim(
        self,
        run_config: Mapping[str, Any],
        model_files: Mapping[str, str],
        environment: Mapping[str, Any] | None = None,
        paths: Mapping[str, str] | None = None,
    ) -> None:
        """Records a new run; does nothing where the folder holds this run already.

        Args:
          run_config: dict of JSON values that define the run.
          model_files: dict from file name to text, such as bert_config.json.
          environment: dict, as from machine.describe, which defines nothing.
          paths: dict of where its files are, by the names of their flags; it defines nothing.

        Raises:
          FolderError: the folder holds something else that would be written over.
        """
        if self.run_config() is not None:
            return
        _check_foreign_files(self.path, model_files)
        for name, text in model_files.items():
            files.write_text(self.file(name), text)
        beside = {_ENVIRONMENT: environment, _PATHS: paths}
        record = dict(run_config, **{key: value for key, value in beside.items() if value})
        files.write_json(self.file(_RUN), records.sealed(record))

    # --- Its results ---

    def write_json(self, name: str, value: Mapping[str, Any]) -> None:
        """Writes a JSON file in one step."""
        files.write_json(self._new_file(name), value)

    def update_json(self, name: str, **values: Any) -> None:
        """Adds values to a JSON file; they replace older ones of the same names."""
        recorded = records.read_if_there(self.file(name), records.mapping(records.anything))
        self.write_json(name, dict(recorded or {}, **values))

    def writing(self, name: str) -> ContextManager[TextIO]:
        """Returns the context in which a file of the folder is written; see files.writing."""
        return files.writing(self._new_file(name))

    def _new_file(self, name: str) -> str:
        """Returns the path of a file that is to be written, and creates the file's folder."""
        self.check_moved()
        if os.path.dirname(name):
            folder_lock.make_folder(os.path.dirname(self.file(name)))
        return self.file(name)


def _defining(recorded: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in recorded.items() if key not in (_ENVIRONMENT, _PATHS)}


def _check_foreign_files(path: str, model_files: Mapping[str, str]) -> None:
    """Raises FolderError if a folder without a run has files that would be overwritten."""
    foreign: list[str] = []
    for name in (STATE_FILE, "last", "best", "bert_model.ckpt*"):
        foreign += glob.glob(os.path.join(glob.escape(path), name))
    for name, text in model_files.items():
        file = os.path.join(path, name)
        if os.path.exists(file) and files.hash_files([file]) != files.hash_text(text):
            foreign.append(file)
    if foreign:
        raise FolderError("%s: already exists but was not created by this program;" % foreign[0])
