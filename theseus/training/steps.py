"""The steps of a training: feeds each batch, perhaps in parts, and updates the weights."""

import collections

import numpy as np
import tensorflow.compat.v1 as tf

import modeling_theseus
from theseus.errors import UserError
from theseus.inputs import batches

StepValues = collections.namedtuple(
    "StepValues", "loss replacing_rate mask learning_rate gradient_norm"
)
"""The results of a step: floats, and `mask`, whether each module was replaced, bool [M]."""


class StepRunner(object):
    """Runs the steps of a TrainingGraph."""

    def __init__(self, session, graph, data, num_parts=1, replicas=None):
        """Keeps its arguments.

        Args:
          session: a tf.Session over the graph.
          graph: a TrainingGraph.
          data: labelled encoding.EncodedExamples.
          num_parts: int, the number of micro-batches that a step's batch is cut into. If above 1,
            the graph must have an accumulate_op.
          replicas: the Replicas that the graph was built for; None: one device.
        """
        self._session = session
        self._graph = graph
        self._data = data
        self._num_parts = num_parts
        self._count, self._ids = (replicas.count, replicas.ids) if replicas else (1, range(1))

    def run(self, rows):
        """Trains on the rows of a batch, int64 [B]; returns the StepValues."""
        graph = self._graph
        parts = batches.cut_batch(rows, self._num_parts)
        for number, part in enumerate(parts[:-1]):
            self._session.run(graph.accumulate_op, self.feed(part, number, len(rows)))
        fetches = StepValues(*[getattr(graph, name) for name in StepValues._fields])
        feed = self.feed(parts[-1], len(parts) - 1, len(rows))
        return self._session.run([fetches, graph.train_op], feed)[0]

    def feed(self, rows, micro_batch=0, batch_size=None):
        """Returns the feed of a micro-batch, or of a whole batch as the only one."""
        feed = {}
        shares = batches.share_batch(rows, self._count)
        for inputs, replica in zip(self._graph.inputs, self._ids):
            share = shares[replica]
            feed.update(modeling_theseus.feed_features(inputs.features, self._data.batch(share)))
            feed[inputs.labels] = self._data.labels[share]
            if inputs.teacher_logits is not None:
                feed[inputs.teacher_logits] = self._data.teacher_logits[share]
            if self._graph.accumulate_op is not None:
                feed[inputs.micro_batch] = micro_batch
            if self._graph.accumulate_op is not None or self._count > 1:
                feed[inputs.batch_size] = len(rows) if batch_size is None else batch_size
        return feed


class Steps(object):
    """The steps of a training in their order, epoch by epoch.

    Attributes:
      per_epoch, in_all: int, the number of steps in an epoch, and in the whole training.
      epochs: float, the length in epochs: --num_train_epochs, rounded to whole steps.
      runner: the StepRunner.
    """

    def __init__(self, config, lengths, runner):
        """Takes the Config, the number of tokens of each row, int64 [rows], and a StepRunner."""
        self._config = config
        self._lengths = lengths
        self.runner = runner
        self.per_epoch, self.in_all = config.num_steps(len(lengths))
        self.epochs = self.in_all / self.per_epoch

    def epoch_of(self, done):
        """Returns (the epoch, from 0, of the next step; the number of steps done at its end)."""
        epoch = done // self.per_epoch
        return epoch, min((epoch + 1) * self.per_epoch, self.in_all)

    def ends_epoch(self, done):
        """Returns whether an epoch, or the training, ends after `done` steps."""
        return done > 0 and (done % self.per_epoch == 0 or done == self.in_all)

    def rest_of_epoch(self, done):
        """Returns the batches of the epoch that are left after `done` steps, list of int64 [B]."""
        epoch, end = self.epoch_of(done)
        size, seed = self._config.train_batch_size, self._config.seed
        plan = batches.plan_epoch(self._lengths, size, seed, epoch)
        return plan[done - epoch * self.per_epoch :][: end - done]

    def train_step(self, rows, done):
        """Trains the step after `done` steps on the rows of a batch; returns its StepValues.

        Raises:
          UserError: the loss is no longer a finite number.
        """
        values = self.runner.run(rows)
        if not np.isfinite(values.loss):
            message = (
                "the loss is %s in step %d; start again in another folder with a lower "
                "--learning_rate"
            )
            raise UserError(message % (values.loss, done + 1))
        return values


def steps_done(session):
    """Returns the number of steps that the session's variables were trained for, int."""
    return int(session.run(tf.train.get_global_step()))
