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
        """Takes the session over the default graph, the StageFolder, and what "best" holds.

        Args:
          session: a tf.Session.
          folder: a locked StageFolder.
          kept: list of tf.Variable, those of the evaluated model, at least.
        """
        self._session = session
        self._folder = folder
        self._kept = kept
        self._savers = {}

    def num_bytes(self, keep, steps, epochs):
        """Returns how much disk a training needs at the most, int.

        Any step may save, as the time says. Of the last, and of the best, of which there is one
        for each epoch, there is one more while it is written.

        Args:
          keep: int, how many of the last are kept.
          steps, epochs: int, how long it is.
        """
        last, best = (
            sum(v.shape.num_elements() * v.dtype.size for v in variables)
            for variables in (tf.global_variables(), self._kept)
        )
        return last * min(keep + 1, steps) + best * min(2, epochs)

    def restore(self, prefix):
        """Restores the last checkpoint, and says so; FolderError where it cannot be read."""
        logging.info("resuming from %s", prefix)
        try:
            with plain_path(prefix) as path:
                self._saver("last").restore(self._session, path)
        except (tf.errors.OpError, ValueError) as error:
            raise FolderError("%s: cannot be read: %s;" % (prefix, first_line(error)))

    def save(self, which, step):
        """Saves the "last" or the "best"; returns its Checkpoint, which no state names yet."""
        saved = self._folder.new_checkpoint(which, step)
        path = self._folder.file(saved.checkpoint)
        try:
            self._saver(which).save(self._session, path, write_meta_graph=False, write_state=False)
        except tf.errors.OpError as error:
            raise UserError("%s: cannot be written: %s" % (path, first_line(error)))
        return self._folder.seal(saved)

    def _kept_by_name(self):
        """Returns the variables that the best holds by the names that a BERT's have."""
        ending = re.compile(re.escape(AVERAGE) + "$")
        copies = tf.distribute.get_strategy().experimental_local_results
        # Each replica has a copy of a variable; they are the same.
        return {ending.sub("", v.op.name): copies(v)[0] for v in self._kept}

    def _saver(self, which):
        """Returns the tf.train.Saver of last or best, built when it is first asked for.

        Its operations take most of a second to build, for which no first step should wait.
        """
        if which not in self._savers:
            variables = tf.global_variables() if which == "last" else self._kept_by_name()
            self._savers[which] = tf.train.Saver(variables, max_to_keep=None)
        return self._savers[which]
