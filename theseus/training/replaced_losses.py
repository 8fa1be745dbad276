"""The loss by the number of modules replaced: shows if training damages the predecessor.

A learning rate that suits the successor may damage the predecessor. The batches with no module
replaced show it; the mean over all batches hides it.
"""

import collections

import numpy as np
from absl import logging

# The number of batches in each of the two means, the first batches and the last ones.
_BATCHES = 20
# The loss has risen if it is higher by this share, by this many standard errors and by this amount.
# The amount matters for a predecessor that is its own teacher: its loss is near 0 at first, so any
# change is a large share of it.
_SHARE, _ERRORS, _LEAST = 0.2, 3.0, 0.05


class ReplacedLosses(object):
    """Collects the losses of steps by the number of replaced modules."""

    def __init__(self, unreplaced=()):
        """Begins with the losses of an earlier part of the run; see `unreplaced`."""
        unreplaced = list(unreplaced)
        self._first = unreplaced[:_BATCHES]
        self._last = collections.deque(unreplaced[_BATCHES:], maxlen=_BATCHES)
        self._epoch = collections.defaultdict(list)
        self._has_warned = False

    def unreplaced(self):
        """Returns the losses of the first and the last steps with nothing replaced, list."""
        return self._first + list(self._last)

    def add(self, num_replaced, loss):
        """Adds a step: the number of replaced modules, int, and its loss, float."""
        self._epoch[num_replaced].append(loss)
        if num_replaced == 0:
            (self._first if len(self._first) < _BATCHES else self._last).append(loss)

    def log_epoch(self):
        """Logs the epoch's means, and a warning if the predecessor gets worse."""
        if self._epoch:  # A stop may come before its first step.
            logging.info("%s", self.describe_epoch())
        warning = self.warning()
        if warning:
            logging.warning("%s", warning)

    def describe_epoch(self):
        """Returns a line about the steps since the last call, str: number replaced, mean, steps."""
        parts = [
            "%d: %.4f (%d)" % (count, np.mean(losses), len(losses))
            for count, losses in sorted(self._epoch.items())
        ]
        self._epoch.clear()
        return "loss by modules replaced (steps): " + ", ".join(parts)

    def warning(self):
        """Returns a warning, str, the first time that the predecessor gets worse; else None."""
        if self._has_warned or len(self._last) < _BATCHES:
            return None
        first, last = np.mean(self._first), np.mean(self._last)
        error = np.sqrt((np.var(self._first) + np.var(self._last)) / _BATCHES)
        if last - first <= max(_SHARE * first, _ERRORS * error, _LEAST):
            return None
        self._has_warned = True
        return (
            "the loss without replaced modules has risen from %.3f to %.3f: the predecessor is "
            "being damaged; lower --learning_rate (--suc_learning_rate can keep the "
            "successor's), or give --train_scope=successor_layers" % (first, last)
        )
