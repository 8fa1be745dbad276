"""Runs a command: prepares all its actions, so that errors are found early, then runs them."""

from __future__ import annotations

import contextlib
import importlib.util
import os
from typing import Any, Callable, Iterable

from theseus.commands import preparation
from theseus.commands.context import Context
from theseus.distribution.cluster import read_cluster
from theseus.errors import UserError, first_line, naming
from theseus.inputs import sources
from theseus.quiet import import_tensorflow, quiet_tensorflow


def run(config: Any, begin: Callable[[], None] = lambda: None) -> None:
    """Carries out the actions of a config.Config, in their order.

    Args:
      config: the config.Config.
      begin: called once TensorFlow is imported, before anything is written.

    Raises:
      UserError: a mistake of the user, in one line.
    """
    if importlib.util.find_spec("tensorflow") is None:
        raise UserError(
            "needs TensorFlow, since only ONNX exports run without it; pip install tensorflow "
            "scikit-learn scipy safetensors huggingface_hub"
        )
    # If there are several workers, only the first writes; the others just train with it.
    follows = config.distribution == "multi_worker" and read_cluster(os.environ).rank
    if follows:
        config = config.with_only("train")
    with Context(config) as context, naming(context.stage.output_flag):
        # An error here is found before a training that may take hours.
        prepared = [preparation.ACTIONS[name](context) for name in config.actions]
        if "train" not in config.actions:
            context.check_trained_folder()
        actions = _import_actions(config.actions)
        begin()
        is_written = writes(config) and not follows
        with context.folder.locked() if is_written else contextlib.nullcontext():
            for action, found in zip(actions, prepared):
                with _in_memory(action.MEMORY_REMEDY):
                    action.run(context, found)


def _import_actions(names: Iterable[str]) -> list[Any]:
    """Imports the modules of actions, and TensorFlow, which takes seconds.

    Each module has a function run(context, prepared), where `prepared` is what the function of
    `preparation` returned, and a MEMORY_REMEDY.
    """
    with quiet_tensorflow():
        actions = [importlib.import_module("theseus.commands." + name) for name in names]
        importlib.import_module("theseus.session").set_up_tensorflow()
    return actions


def writes(config: Any) -> bool:
    """Returns whether a command writes to the folder, a bool; predicting from a pipe does not."""
    is_pipe = config.predict_file == sources.STANDARD_INPUT
    return not (is_pipe and config.actions == ("predict",))


@contextlib.contextmanager
def _in_memory(remedy):
    """Turns an out-of-memory error into a UserError that names the remedy."""
    try:
        yield
    except (MemoryError, import_tensorflow().errors.ResourceExhaustedError) as error:
        raise UserError("out of memory; give %s (%s)" % (remedy, first_line(error)))
