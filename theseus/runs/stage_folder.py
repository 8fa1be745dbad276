"""A stage's output folder: the run it holds, its checkpoints and results.

  run.json           the run config, which a command must not contradict; and the software and
                     hardware that the run started with
  state.json         the last and the best checkpoint, and the evaluations so far
  last/, best/       checkpoints; last with the optimizer's state, best without
  bert_config.json, vocab.txt, and the results: eval_results.json, predictions.tsv, timing.json

Only state.json says which checkpoints count. It is replaced in one step, after the checkpoint that
it names is on disk. So a run that is interrupted at any moment finds its last complete state.
"""

from __future__ import annotations

import dataclasses
import glob
import os
import re
import shutil

from absl import logging

from theseus import folder_lock, records
from theseus.errors import FolderError, UserError
from theseus.runs import files
from theseus.runs.run_folder import STATE_FILE, RunFolder
from theseus.runs.state import STATE, Checkpoint, State


class StageFolder(RunFolder):
    """A folder such as out_1: one run, its state and its checkpoints."""

    def __init__(self, path: str) -> None:
        """Names the folder, which need not exist."""
        super(StageFolder, self).__init__(path)
        self._sound: dict[str, list[tuple[int, int, int]]] = {}

    def state(self) -> State:
        """Returns the State; if there is none, that of a run that has not begun.

        Raises:
          FolderError: state.json is damaged, or run.json is missing beside it; or the folder that
            is locked is no longer there.
        """
        self.check_moved()
        try:
            recorded = records.read_if_there(self.file(STATE_FILE), STATE)
        except UserError as error:
            raise FolderError("%s;" % error)
        if recorded is None:
            return State()
        if self.run_config() is None:
            raise FolderError("%s: run.json is missing beside it;" % self.file(STATE_FILE))
        return State.from_json(recorded)

    def checkpoint(self, which: str) -> str | None:
        """Returns the path of the checkpoint "last" or "best"; None if there is none."""
        entry = getattr(self.state(), which)
        return self.file(entry.checkpoint) if entry else None

    def best_checkpoint(self) -> str:
        """Returns the path of the `sound_best`."""
        return self.file(self.sound_best().checkpoint)

    def sound_best(self) -> Checkpoint:
        """Returns the best Checkpoint; UserError if there is none, or it is damaged."""
        best = self.state().best
        if best is None:
            raise FolderError("%s: holds no trained model; train it first, or" % self.path)
        self.check_damaged(best)
        return best

    def check_full_disk(self, needed: int) -> None:
        """Raises FolderError if the disk has no room for a number of bytes of checkpoints.

        The space of the existing checkpoints counts as free, since they will be replaced.
        """
        places = [glob.escape(self.file(which)) for which in ("last", "best")]
        there = [path for place in places for path in glob.glob(place + "/model.ckpt-*")]
        free = shutil.disk_usage(self.path).free
        lacking = needed - free - sum(map(os.path.getsize, filter(os.path.isfile, there)))
        if lacking > 0:
            raise FolderError(
                "%s: its disk has %.0f MB free, but the checkpoints need %.0f MB more; free "
                "space, give a smaller --keep_checkpoints, or"
                % (self.path, free / 1e6, lacking / 1e6)
            )

    def new_checkpoint(self, which: str, global_step: int) -> Checkpoint:
        """Returns the Checkpoint that is to be written, and creates its folder."""
        self.check_moved()
        folder_lock.make_folder(self.file(which))
        return Checkpoint("%s/model.ckpt-%d" % (which, global_step), global_step)

    def seal(self, entry: Checkpoint) -> Checkpoint:
        """Syncs a written Checkpoint to disk; returns it with the checksums of its files."""
        parts = self._parts(entry)
        files.sync(parts + [os.path.dirname(self.file(entry.checkpoint)), self.path])
        return dataclasses.replace(entry, files={os.path.basename(p): files.sums(p) for p in parts})

    def _parts(self, entry: Checkpoint) -> list[str]:
        """Returns the paths of a Checkpoint's files, without what a failed write has left."""
        beside = glob.glob(glob.escape(self.file(entry.checkpoint)) + ".*")
        return sorted(path for path in beside if re.search(r"\.(index|data-\d+-of-\d+)$", path))

    def check_damaged(self, entry: Checkpoint) -> None:
        """Raises UserError if a file of a Checkpoint is missing, or differs from what was written.

        Files that were checked before and have not changed are not read again.
        """
        folder = os.path.dirname(self.file(entry.checkpoint))
        paths = {name: os.path.join(folder, name) for name in entry.files or {}}
        found = [files.identity(path) for path in paths.values() if os.path.exists(path)]
        if found == self._sound.get(entry.checkpoint):
            return
        for name, path in paths.items():
            if files.sums(path) != (entry.files or {})[name]:
                raise UserError("%s: is damaged: it differs from what was written" % path)
        self._sound[entry.checkpoint] = found

    def sound_state(self) -> State:
        """Returns the State with the last checkpoint that is not damaged; logs damaged ones.

        Raises:
          FolderError: there is none.
        """
        state = self.state()
        while state.last:
            try:
                self.check_damaged(state.last)
                break
            except UserError as error:
                if not state.previous:
                    raise FolderError("%s; no earlier checkpoint was kept; to start again," % error)
                state = state.before_last()
                logging.warning("%s; resuming from the checkpoint before", error)
        return state

    def commit(self, state: State) -> None:
        """Makes `state` the folder's state, and removes checkpoints that it does not name."""
        self.check_moved()
        files.write_json(self.file(STATE_FILE), records.sealed(state.to_json()))
        self.sweep(state)

    def sweep(self, state: State) -> None:
        """Removes checkpoints that the state does not name: older or half-written ones."""
        kept = {path for entry in state.checkpoints() for path in self._parts(entry)}
        for which in ("last", "best"):
            for path in glob.glob(os.path.join(glob.escape(self.file(which)), "model.ckpt-*")):
                if path not in kept:
                    files.remove(path)
