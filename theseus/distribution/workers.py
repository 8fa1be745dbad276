"""Exchanges numbers and weights between the workers of a training, apart from gradients."""

import itertools

import numpy as np
import tensorflow.compat.v1 as tf

from optimization_theseus import sum_over_replicas
from theseus.errors import UserError


class Workers(object):
    """The workers of a session over the default graph; all must make the same calls in turn.

    Attributes:
      count: int, the number of workers.
    """

    def __init__(self, replicas, session):
        """Builds the operations of the exchange; call it after all variables were created.

        Args:
          replicas: Replicas.
          session: a tf.Session on them.
        """
        self.count, self._rank = replicas.num_workers, replicas.rank
        self._session = session
        if self.count > 1:
            built = replicas.build(self._build_exchange)
            self._given, self._all = [given for given, _ in built], built[0][1]
            self._take_over = replicas.build(_build_take_over)[0]

    def _build_exchange(self, _):
        given = tf.placeholder(tf.float64, [self.count])
        return given, sum_over_replicas([given])[0]

    def exchange(self, number):
        """Gives all workers this number, a float; returns the list of all workers' numbers."""
        if self.count == 1:
            return [number]
        values = [np.zeros(self.count) for _ in self._given]
        values[0][self._rank] = number
        return self._session.run(self._all, dict(zip(self._given, values))).tolist()

    def any(self, fact):
        """Returns whether a bool is true for any of the workers."""
        return any(self.exchange(float(fact)))

    def ask_chief(self, fact=False):
        """Returns the chief's bool."""
        return bool(self.exchange(float(fact))[0])

    def check_same_run(self, run_config_hash):
        """Raises UserError if a worker's training differs from the chief's.

        Args:
          run_config_hash: str of hexadecimal digits, the hash of this worker's run config.
        """
        found = self.exchange(float(int(run_config_hash[:12], 16)))
        for rank, number in enumerate(found):
            if number != found[0]:
                raise UserError(
                    "worker %d has other data, weights or flags than worker 0; give all "
                    "workers the same" % rank
                )

    def take_over_weights(self):
        """Sets all variables to the chief's values."""
        if self.count > 1:
            self._session.run(self._take_over)


def _build_take_over(number):
    """Returns an operation that sets all variables to the values that replica 0 has."""
    variables = sorted(tf.global_variables(), key=lambda variable: variable.dtype.name)
    values = []
    for _, of_type in itertools.groupby(variables, lambda variable: variable.dtype):
        own = [variable.read_value() for variable in of_type]
        of_first = [tf.where(tf.equal(number, 0), value, tf.zeros_like(value)) for value in own]
        values += sum_over_replicas(of_first)  # All have one dtype, as it requires.

    def assign(strategy, *values):
        update = strategy.extended.update
        return tf.group(
            *[update(v, lambda v, new: v.assign(new), (new,)) for v, new in zip(variables, values)]
        )

    return tf.distribute.get_replica_context().merge_call(assign, args=values)
