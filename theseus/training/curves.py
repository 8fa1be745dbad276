"""The curves of a training: a file of events such as TensorBoard shows, and the same as JSON lines.

A stage's folder has one of each: events.out.tfevents.<time> and metrics.jsonl. A line of the latter
is one event: {"step": 1, "time": seconds since 1970, "loss": 0.69, ...}. A step's number is the
number of steps done, as in the log: the loss, the learning rate and the replacing rate of the first
step have the number 1, and an evaluation after n steps has the number n.

An interrupted run has events of steps after its last checkpoint, and the resumed run trains these
steps again. Therefore a run first copies the events that still count into a new file, removes the
old file once the new one has its name, and appends to the new one. The new name is later in
alphabetical order, because a TensorBoard that is watching would not open the old name again.
metrics.jsonl is written anew from the events; it is never read.
"""

import contextlib
import glob
import json
import math
import os
import re
import time

import numpy as np
import tensorflow.compat.v1 as tf
from absl import logging

from theseus.errors import UserError, first_line
from theseus.runs.files import sync

EVALUATION = "dev/"
"""The beginning of the names of an evaluation's scalars."""

_LOSS_BY_REPLACED = "loss_by_replaced/%d"
_NAME = "events.out.tfevents.%010d"
_PATTERN = "events.out.tfevents." + 10 * "[0-9]"
_LINES = "metrics.jsonl"
# The files' names until they are complete; TensorBoard does not read such names.
_TEMPORARY, _TEMPORARY_LINES = "events.tmp", "metrics.tmp"


def step_scalars(values, is_replacing, examples_per_second=None):
    """Returns the scalars of a step, a dict from name to number.

    Args:
      values: its StepValues.
      is_replacing: bool, whether modules are replaced.
      examples_per_second: float, see Progress.update, or None.
    """
    scalars = values._asdict()
    mask, rate = scalars.pop("mask"), scalars.pop("replacing_rate")
    if is_replacing:
        scalars.update(replacing_rate=rate, modules_replaced=mask.sum())
        scalars[_LOSS_BY_REPLACED % mask.sum()] = values.loss
    if examples_per_second:
        scalars["examples_per_second"] = examples_per_second
    return scalars


def read_events(folder):
    """Yields the tf.Events in a stage's folder; a file that is cut off is read as far as possible.

    Raises:
      tf.errors.OpError: the file cannot be read.
    """
    # There are two files if a run was interrupted while it replaced one; the later is complete.
    for path in _event_files(folder)[-1:]:
        with contextlib.suppress(tf.errors.DataLossError):
            for event in tf.train.summary_iterator(path):
                yield event


def read_scalars(folder):
    """Returns a dict from a scalar's name to its points, a list of (step, value)."""
    scalars = {}
    for event in read_events(folder):
        for value in event.summary.value:
            scalars.setdefault(value.tag, []).append((event.step, value.simple_value))
    return scalars


def _event_files(folder):
    """Returns the paths of the event files, those of this program only, the latest last."""
    return sorted(glob.glob(os.path.join(glob.escape(folder), _PATTERN)))


class EventWriter(object):
    """Writes the curves of a run; a context manager.

    An error in writing the curves does not end the training: the curves end, with a warning. Every
    step is handed to the operating system at once, so that a viewer sees it and a killed process
    loses nothing.
    """

    def __init__(self, folder, step, evaluated_steps):
        """Begins the folder's event file.

        Args:
          folder: path of a stage's folder, locked.
          step: int, the number of steps done; events of later steps are dropped.
          evaluated_steps: list of int, the steps whose evaluations count; others are dropped.
        """
        self._folder = folder
        self._path = os.path.join(folder, _TEMPORARY)
        self._writer = self._lines = None
        with self._or_warn():
            self._begin(step, set(evaluated_steps))

    def _begin(self, step, evaluated_steps):
        old = _event_files(self._folder)
        self._writer = tf.python_io.TFRecordWriter(self._path)
        self._lines = open(self._file(_TEMPORARY_LINES), "w", encoding="utf-8")
        self._write(tf.Event(wall_time=time.time(), file_version="brain.Event:2"))
        for event in read_events(self._folder):
            if _counts(event, step, evaluated_steps):
                self._write(event)
        self._flush_to_disk()
        last = int(re.search(r"\d+$", old[-1]).group()) if old else 0
        path = self._file(_NAME % max(last + 1, time.time()))
        os.rename(self._path, path)  # The writer's file stays open, under its new name.
        self._path = path
        os.rename(self._lines.name, self._file(_LINES))
        sync([self._folder])
        for path in old:
            os.remove(path)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        with self._or_warn():
            if self._writer:
                self._writer.close()
                self._lines.close()

    def add(self, step, scalars):
        """Writes scalars, a dict from name to number, at a step."""
        values = [tf.Summary.Value(tag=name, simple_value=v) for name, v in scalars.items()]
        event = tf.Event(wall_time=time.time(), step=step, summary=tf.Summary(value=values))
        with self._or_warn():
            if self._writer:
                self._write(event)
                self._writer.flush()
                self._lines.flush()

    def _write(self, event):
        self._writer.write(event.SerializeToString())
        if event.summary.value:
            self._lines.write(_line(event))

    def sync(self):
        """Waits until the events are on disk, before the checkpoint of these steps is."""
        with self._or_warn():
            if self._writer:
                self._flush_to_disk()

    def _flush_to_disk(self):
        self._writer.flush()
        self._lines.flush()
        sync([self._path])

    def _file(self, name):
        return os.path.join(self._folder, name)

    @contextlib.contextmanager
    def _or_warn(self):
        try:
            yield
        except (OSError, UserError, tf.errors.OpError) as error:
            self._writer = None
            with contextlib.suppress(OSError):  # Its buffer may not fit on the disk either.
                if self._lines:
                    self._lines.close()
            for name in (_TEMPORARY, _TEMPORARY_LINES):
                with contextlib.suppress(OSError):
                    os.remove(self._file(name))
            message = "%s: the curves can no longer be written; training continues without them: %s"
            logging.warning(message, self._path, first_line(error))


def _counts(event, step, evaluated_steps):
    """Returns whether an event belongs to a run that has reached `step`, a bool."""
    values = event.summary.value
    if values and values[0].tag.startswith(EVALUATION):
        return event.step in evaluated_steps
    return bool(values) and event.step <= step


def _line(event):
    """Returns an event of scalars as a line of JSON; a value that is not finite is null."""
    line = {"step": event.step, "time": round(event.wall_time, 3)}
    for value in event.summary.value:
        number = float(str(np.float32(value.simple_value)))  # As many digits as float32 has.
        line[value.tag] = number if math.isfinite(number) else None
    return json.dumps(line) + "\n"
