"""What names a random draw, so that none depends on what was drawn before."""

import collections
import zlib

import tensorflow.compat.v1 as tf


def outside_xla():
    """Returns a scope that XLA does not compile: it would draw other numbers from a seed."""
    return tf.xla.experimental.jit_scope(compile_ops=False)


class RandomKey(collections.namedtuple("RandomKey", "seed when")):
    """Names a random draw, so that it does not depend on what was drawn before.

    Fields:
      seed: int in [0, 2**31).
      when: int64 scalar tensor or int, made of the step, the micro-batch and the replica.
    """

    __slots__ = ()

    def __new__(cls, seed, step, micro_batch=0, replica=0):
        """Makes a key.

        Args:
          seed: int in [0, 2**31).
          step: number of updates done, int64 scalar tensor or int in [0, 2**47).
          micro_batch: int in [0, 256), or int64 scalar tensor of one, which part of the
            step's batch.
          replica: int in [0, 256), which device.
        """
        if not isinstance(step, int):
            step = tf.cast(step, tf.int64)
        return super(RandomKey, cls).__new__(
            cls, seed, step * (1 << 16) + micro_batch * (1 << 8) + replica
        )

    def at(self, place):
        """Returns the seed, int64 [2], of tf.random.stateless_* at `place`.

        Args:
          place: str that tells one draw of a step from another. Its crc32 counts, so
            that the order in which the graph is built does not.
        """
        where = (self.seed << 32) | (zlib.crc32(place.encode("utf-8")) & 0xFFFFFFFF)
        if isinstance(self.when, int):
            return tf.constant([where, self.when], tf.int64)
        return tf.stack([tf.constant(where, tf.int64), self.when])
