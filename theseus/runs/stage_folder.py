"""A stage's output folder: the run it holds, its lock, its checkpoints and results.

  run.json           what defines the run; a command that contradicts it is refused; and the
                     versions and the processor that it began on
  state.json         the last and the best checkpoint, and the evaluations so far
  last/, best/       checkpoints; last with the optimizer's state, best without
  bert_config.json, vocab.txt, and the results: eval_results.json, predictions.tsv, timing.json

state.json is the one place that says which checkpoint counts. It is replaced in one
step, after the checkpoint that it names is on disk, so a run that is cut off at any
moment finds its last complete state.
"""

import contextlib
import fcntl
import glob
import hashlib
import io
import json
import os
import shutil

from theseus.errors import UserError

_RUN, _STATE, _LOCK = "run.json", "state.json", ".lock"
_BEGAN_ON = "began_on"  # A part of run.json that does not define the run.


def hash_files(paths):
    """Returns the SHA-256, in hex, of what files hold, one after the other.

    Raises:
      UserError: a file cannot be read.
    """
    if not paths:
        raise UserError("a checkpoint has vanished while it was to be read; try again")
    digest = hashlib.sha256()
    for path in paths:
        try:
            with io.open(path, "rb") as reader:
                for block in iter(lambda: reader.read(1 << 20), b""):
                    digest.update(block)
        except OSError as error:
            raise UserError("%s: cannot be read: %s" % (path, error.strerror))
    return digest.hexdigest()


def hash_text(text):
    """Returns the SHA-256, in hex, of a str in UTF-8: that of a file which holds it."""
    return hashlib.sha256(text.encode("utf-8")).hexdigest()


class StageFolder(object):
    """A folder such as out_1. Reading needs no lock, writing does."""

    def __init__(self, path, flag):
        """Names the folder, and the flag that a message about it should name."""
        self.path = path
        self.flag = flag

    def file(self, name):
        """Returns the path of a file of the folder."""
        return os.path.join(self.path, name)

    # --- What run it holds ---

    def definition(self):
        """Returns what defines the run, a dict; None where there is no run."""
        held = self._read_json(_RUN)
        return held and {key: value for key, value in held.items() if key != _BEGAN_ON}

    def began_on(self):
        """Returns what the run began on, as from machine.describe; {} where it is not known."""
        return (self._read_json(_RUN) or {}).get(_BEGAN_ON) or {}

    def refuse_contradiction(self, definition, words, contents):
        """Compares a command with the run that the folder holds.

        Args:
          definition: dict of what defines the command's run, or a part of it.
          words: dict from a key of `definition` to what a message calls it; by default
            it is called --key.
          contents: dict from a key whose value says nothing to a reader, such as a
            hash, to the flag, and to what a message says in the place of both values.

        Raises:
          UserError: names the first flag that differs, and both values or `contents`.
        """
        held = self.definition()
        for key, value in definition.items():
            if held is None or held.get(key) == value:
                continue
            if key in contents:
                flag, other = contents[key]
                raise UserError(
                    "%s: %s holds a run with %s; bring that back, or give another folder with --%s"
                    % (flag, self.path, other, self.flag)
                )
            raise UserError(
                "%s: %s holds a run with %s, this command has %s; "
                "give the same value, or another folder with --%s"
                % (words.get(key, "--" + key), self.path, held.get(key), value, self.flag)
            )

    def claim(self, definition, model_files, began_on=None):
        """Records a new run; does nothing where the folder holds this run already.

        Args:
          definition: dict of JSON values that define the run.
          model_files: dict from file name to text, such as bert_config.json.
          began_on: dict, as from machine.describe, which defines nothing.

        Raises:
          UserError: the folder holds something else that would be written over.
        """
        if self.definition() is not None:
            return
        self._refuse_foreign_files(model_files)
        for name, text in model_files.items():
            self.write_text(name, text)
        record = dict(definition, **{_BEGAN_ON: began_on}) if began_on else definition
        self.write_json(_RUN, record)

    def _refuse_foreign_files(self, model_files):
        """Refuses a folder without a run in which something would be lost."""
        foreign = []
        for name in (_STATE, "last", "best", "bert_model.ckpt*"):
            foreign += glob.glob(os.path.join(glob.escape(self.path), name))
        for name, text in model_files.items():
            if os.path.exists(self.file(name)) and self._read_text(name) != text:
                foreign.append(self.file(name))
        if foreign:
            raise UserError(
                "--%s: %s is there, but no run of this program; give another folder"
                % (self.flag, foreign[0])
            )

    # --- Its lock ---

    @contextlib.contextmanager
    def locked(self):
        """Holds the folder, made if need be, against every other writer.

        Raises:
          UserError: another process holds it, or it cannot be made.
        """
        is_new = not os.path.exists(self.path)
        self._make(self.path)
        try:
            lock = io.open(self.file(_LOCK), "a")
        except OSError as error:
            raise UserError(
                "--%s: %s: cannot be written: %s" % (self.flag, self.path, error.strerror)
            )
        with lock:
            if not self._take(lock):
                raise UserError("--%s: another run is writing to %s" % (self.flag, self.path))
            try:
                yield self
            finally:
                if is_new:
                    self._remove_if_empty()

    def _take(self, lock):
        """Returns whether the open file `lock` is held now, and still the folder's."""
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return os.path.samestat(os.fstat(lock.fileno()), os.stat(self.file(_LOCK)))
        except (BlockingIOError, FileNotFoundError):
            return False

    def _remove_if_empty(self):
        """Leaves no trace of a command that was refused before it wrote anything."""
        if os.listdir(self.path) == [_LOCK]:
            os.remove(self.file(_LOCK))
            with contextlib.suppress(OSError):  # Another command may be coming in.
                os.rmdir(self.path)

    # --- Its checkpoints ---

    def state(self):
        """Returns the state, a dict; that of a run not yet begun where there is none.

        Keys: last and best, each a dict of checkpoint (relative to the folder) and
        global_step, or None; evaluations, a list of dicts; train_seconds, a float;
        is_finished, a bool.

        Raises:
          UserError: state.json is damaged, or run.json is missing beside it.
        """
        new = {
            "last": None,
            "best": None,
            "evaluations": [],
            "train_seconds": 0.0,
            "is_finished": False,
        }
        held = self._read_json(_STATE)
        if held is None:
            return new
        if sorted(held) != sorted(new) or self.definition() is None:
            raise UserError(
                "%s: is damaged, or %s is missing beside it; give another folder with --%s"
                % (self.file(_STATE), _RUN, self.flag)
            )
        return held

    def is_evaluated(self, global_step):
        """Returns whether the state holds an evaluation of that step."""
        return any(entry["global_step"] == global_step for entry in self.state()["evaluations"])

    def checkpoint(self, which):
        """Returns the path of the checkpoint "last" or "best"; None where there is none."""
        entry = self.state()[which]
        return self.file(entry["checkpoint"]) if entry else None

    def best_checkpoint(self):
        """Returns the path of the best checkpoint; raises UserError where there is none."""
        best = self.checkpoint("best")
        if best is None:
            raise UserError(
                "--%s: %s holds no trained model; train it first" % (self.flag, self.path)
            )
        return best

    def new_checkpoint(self, which, global_step):
        """Returns the entry of a checkpoint to be written, its folder made."""
        self._make(self.file(which))
        return {"checkpoint": "%s/model.ckpt-%d" % (which, global_step), "global_step": global_step}

    def commit(self, state):
        """Makes `state` the folder's state, and removes checkpoints that it does not name."""
        for entry in (state["last"], state["best"]):
            if entry:
                path = self.file(entry["checkpoint"])
                sync(glob.glob(glob.escape(path) + ".*") + [os.path.dirname(path), self.path])
        self.write_json(_STATE, state)
        self.sweep()

    def sweep(self):
        """Removes checkpoints that the state does not name: older or half-written ones."""
        state = self.state()
        for which in ("last", "best"):
            name = state[which]["checkpoint"] + "." if state[which] else None
            for path in glob.glob(os.path.join(glob.escape(self.file(which)), "model.ckpt-*")):
                if name is None or not path.startswith(self.file(name)):
                    _remove(path)

    # --- Its files ---

    def write_json(self, name, value):
        """Writes a JSON file in one step."""
        text = json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False)
        self.write_text(name, text + "\n")

    def update_json(self, name, **values):
        """Adds values to a JSON file, or puts them in the place of older ones."""
        self.write_json(name, dict(self._read_json(name) or {}, **values))

    def write_text(self, name, text):
        """Writes a UTF-8 file in one step: readers see the old one or the new one."""
        with self.writing(name) as writer:
            writer.write(text)

    @contextlib.contextmanager
    def writing(self, name):
        """Opens a UTF-8 file that takes its name when the block ends without an error."""
        temporary = self.file(name + ".tmp")
        try:
            with io.open(temporary, "w", encoding="utf-8", newline="\n") as writer:
                yield writer
                writer.flush()
                os.fsync(writer.fileno())
            os.replace(temporary, self.file(name))
            sync([self.path])
        except OSError as error:
            raise UserError("%s: cannot be written: %s" % (self.file(name), error.strerror))
        finally:
            with contextlib.suppress(OSError):
                os.remove(temporary)

    def _make(self, path):
        try:
            os.makedirs(path, exist_ok=True)
        except OSError as error:
            raise UserError("--%s: %s: cannot be made: %s" % (self.flag, path, error.strerror))

    def _read_json(self, name):
        if not os.path.exists(self.file(name)):
            return None
        try:
            value = json.loads(self._read_text(name))
        except ValueError as error:
            raise UserError("%s: is damaged: %s" % (self.file(name), error))
        if not isinstance(value, dict):
            raise UserError("%s: is damaged: holds no JSON object" % self.file(name))
        return value

    def _read_text(self, name):
        try:
            with io.open(self.file(name), encoding="utf-8", newline="\n") as reader:
                return reader.read()
        except OSError as error:
            raise UserError("%s: cannot be read: %s" % (self.file(name), error.strerror))


def move_into_place(new, path):
    """Gives a complete export its name; one that bore it before is removed then.

    Args:
      new: path of the export's folder.
      path: its name, on the same file system.

    Raises:
      UserError: it cannot be moved.
    """
    path = os.path.realpath(path)
    old = path + ".replaced_export"
    try:
        for folder, _, names in os.walk(new):
            sync([os.path.join(folder, name) for name in names] + [folder])
        if os.path.exists(path):
            shutil.rmtree(old, ignore_errors=True)
            os.rename(path, old)
        os.rename(new, path)
        sync([os.path.dirname(path)])
    except OSError as error:
        raise UserError("%s: cannot be written: %s" % (path, error.strerror))
    shutil.rmtree(old, ignore_errors=True)


def _remove(path):
    """Removes a file or a folder."""
    if os.path.isdir(path):
        shutil.rmtree(path)
    else:
        os.remove(path)


def sync(paths):
    """Waits until files, or a folder's entries, are on disk."""
    for path in paths:
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
