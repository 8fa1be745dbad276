"""The checkpoints of a training: the last, with the optimizer's state, and the best, without."""

import re

import tensorflow.compat.v1 as tf
from absl import logging

from optimization_theseus import AVERAGE
from theseus.checkpoints.weights import plain_path
from theseus.errors import FolderError, UserError, first_line


class Checkpoints(object):
    """Saves and restores the variables of a session in a StageFolder."""

    def __init__(self, session, folder, kept):
        """Takes the session over the default graph, the StageFolder, and the best's variables.

        Args:
          session: a tf.Session.
          folder: a locked StageFolder.
          kept: list of tf.Variable that "best" saves: at least those of the evaluated model.
        """
        self._session = session
        self._folder = folder
        self._kept = kept
        self._savers = {}

    def num_bytes(self, keep, steps, epochs):
        """Returns the largest number of bytes that a training's checkpoints take on disk, int.

        Any step may save a last checkpoint, and each epoch a best one. While a checkpoint is
        written, the one that it replaces is still there.

        Args:
          keep: int, how many of the last checkpoints are kept.
          steps, epochs: int, the length of the training.
        """
        last, best = (
            sum(v.shape.num_elements() * v.dtype.size for v in variables)
            for variables in (tf.global_variables(), self._kept)
        )
        return last * min(keep + 1, steps) + best * min(2, epochs)

    def restore(self, prefix):
        """Restores and logs the last checkpoint; FolderError if it cannot be read."""
        logging.info("resuming from %s", prefix)
        try:
            with plain_path(prefix) as path:
                self._saver("last").restore(self._session, path)
        except (tf.errors.OpError, ValueError) as error:
            raise FolderError("%s: cannot be read: %s;" % (prefix, first_line(error)))

    def save(self, which, step):
        """Saves the "last" or the "best"; returns its Checkpoint, which is not in any state yet."""
        saved = self._folder.new_checkpoint(which, step)
        path = self._folder.file(saved.checkpoint)
        try:
            self._saver(which).save(self._session, path, write_meta_graph=False, write_state=False)
        except tf.errors.OpError as error:
            raise UserError("%s: cannot be written: %s" % (path, first_line(error)))
        return self._folder.seal(saved)

    def _kept_by_name(self):
        """Returns the best checkpoint's variables, by their names in a plain BERT."""
        ending = re.compile(re.escape(AVERAGE) + "$")
        copies = tf.distribute.get_strategy().experimental_local_results
        # Each replica has a copy of each variable; all copies are equal.
        return {ending.sub("", v.op.name): copies(v)[0] for v in self._kept}

    def _saver(self, which):
        """Returns the tf.train.Saver of last or best, which is built when it is first needed.

        Building its operations takes most of a second, and the first step should not wait for it.
        """
        if which not in self._savers:
            variables = tf.global_variables() if which == "last" else self._kept_by_name()
            self._savers[which] = tf.train.Saver(variables, max_to_keep=None)
        return self._savers[which]
