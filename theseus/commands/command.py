"""A command: what may be missing is looked for first, then its actions are carried out."""

import contextlib
import os
from typing import Any

import tensorflow.compat.v1 as tf

from theseus.commands import evaluate, export, predict, train
from theseus.commands.context import Context
from theseus.distribution.cluster import read_cluster
from theseus.errors import UserError, first_line, naming
from theseus.inputs import sources

_ACTIONS = {"train": train, "evaluate": evaluate, "predict": predict, "export": export}
"""Each has prepare(context), run(context, what prepare returned) and a MEMORY_REMEDY."""


def run(config: Any) -> None:
    """Carries out the actions of a config.Config, in their order.

    Raises:
      UserError: a mistake of the user's, in one line.
    """
    # Of several workers the first alone writes; the others train with it, and do no more.
    follows = config.distribution == "multi_worker" and read_cluster(os.environ).rank
    if follows:
        config = config.with_only("train")
    with Context(config) as context, naming(context.stage.output_flag):
        # Before a training that may take hours.
        prepared = [(_ACTIONS[name], _ACTIONS[name].prepare(context)) for name in config.actions]
        if "train" not in config.actions:
            context.trained_folder().best_checkpoint()
        is_written = writes(config) and not follows
        with context.folder.locked() if is_written else contextlib.nullcontext():
            for action, found in prepared:
                with _in_memory(action.MEMORY_REMEDY):
                    action.run(context, found)


def writes(config: Any) -> bool:
    """Returns whether a command writes to the folder, a bool: predicting from a pipe does not."""
    is_pipe = config.predict_file == sources.STANDARD_INPUT
    return not (is_pipe and config.actions == ("predict",))


@contextlib.contextmanager
def _in_memory(remedy):
    """Makes a UserError, which says what to give, of an error for want of memory."""
    try:
        yield
    except (MemoryError, tf.errors.ResourceExhaustedError) as error:
        raise UserError("out of memory; give %s (%s)" % (remedy, first_line(error)))
