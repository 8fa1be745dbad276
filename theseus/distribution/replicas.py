"""The devices that share a step: each computes its part of the batch with its own weights."""

import contextlib
import os

import tensorflow.compat.v1 as tf
from absl import logging

from theseus.distribution.cluster import check_used_port, read_cluster
from theseus.distribution.peers import Peers
from theseus.errors import UserError, first_line
from theseus.session import count_gpus, new_session, session_config


class Replicas(object):
    """Devices that each hold all weights, and the tf.distribute.Strategy that runs on them.

    Attributes:
      strategy: the tf.distribute.Strategy; TensorFlow's default one for one device.
      count: int, the number of replicas of all workers together.
      rank: int, the number of this process; 0 is the chief.
      num_workers: int, the number of processes.
      ids: range, the numbers of this process's replicas.
    """

    def __init__(self, strategy=None, cluster=None, server=None, num_cpus=0):
        """Takes the parts; see `opened`."""
        self.strategy = strategy or tf.distribute.get_strategy()
        self.count = self.strategy.num_replicas_in_sync
        self.rank = cluster.rank if cluster else 0
        self.num_workers = len(cluster.addresses) if cluster else 1
        local = self.count // self.num_workers
        self.ids = range(self.rank * local, (self.rank + 1) * local)
        self._server = server
        self._num_cpus = num_cpus

    @property
    def is_chief(self):
        """Whether this process evaluates and writes."""
        return self.rank == 0

    @contextlib.contextmanager
    def session(self, grappler, xla=False):
        """Yields a session on the devices over a new graph, within the strategy's scope.

        Args:
          grappler, xla: bool, see session.session_config.
        """
        config, target = session_config(grappler, xla), ""
        if self._server:
            config.MergeFrom(self.strategy.update_config_proto(config))
            target = self._server.target
        if self._num_cpus:
            config.device_count["CPU"] = self._num_cpus
        with new_session(target=target, config=config) as session, self.strategy.scope():
            yield session

    def build(self, function):
        """Builds each replica's part of the graph by calling a function for each replica.

        Args:
          function: takes the replica's number, an int or an int64 scalar; returns a structure of
            tensors and operations.

        Returns:
          list of these structures, one for each replica of this process.
        """
        if self.count == 1:
            return [function(0)]

        def numbered():
            number = tf.distribute.get_replica_context().replica_id_in_sync_group
            return function(tf.cast(number, tf.int64))

        built = self.strategy.run(tf.autograph.experimental.do_not_convert(numbered))

        def part(index, value):
            values = self.strategy.experimental_local_results(value)
            return values[min(index, len(values) - 1)]  # A single value is the same for all.

        return [
            tf.nest.map_structure(lambda value, n=n: part(n, value), built)
            for n in range(len(self.ids))
        ]


@contextlib.contextmanager
def opened(distribution, peer_timeout):
    """Yields the Replicas of a --distribution; until the end the other workers are watched.

    Args:
      distribution: "none", "mirrored" (the devices of this machine), or "multi_worker" (the
        machines of TF_CONFIG).
      peer_timeout: float, the seconds after which a worker that does not answer counts as lost.

    Raises:
      UserError: TensorFlow is too old; TF_CONFIG is wrong; its port is in use; a worker does not
        answer in time.
    """
    if distribution == "none":
        yield Replicas()
        return
    if tf.__version__.startswith("1."):
        raise UserError(
            "--distribution=%s: needs TensorFlow 2, this is %s; give --distribution=none"
            % (distribution, tf.__version__)
        )
    if distribution == "mirrored":
        yield _mirrored()
        return
    cluster = read_cluster(os.environ)
    check_used_port(cluster)
    peers = Peers(cluster, peer_timeout)
    replicas = _multi_worker(cluster)
    peers.wait_for_all()
    with peers.watched():
        yield replicas


def _mirrored():
    """Returns the Replicas of this machine's GPUs, or else of its CPU devices."""
    num_gpus = count_gpus()
    num_cpus = 0 if num_gpus else len(tf.config.list_logical_devices("CPU"))
    names = ["/GPU:%d" % n for n in range(num_gpus)] + ["/CPU:%d" % n for n in range(num_cpus)]
    logging.info("mirrored on %d devices: %s", len(names), " ".join(names))
    return Replicas(tf.distribute.MirroredStrategy(names), num_cpus=num_cpus)


def _multi_worker(cluster):
    """Starts the server at this process's address; returns the Replicas of the Cluster."""
    resolver = tf.distribute.cluster_resolver.TFConfigClusterResolver()
    strategy = tf.distribute.experimental.MultiWorkerMirroredStrategy(cluster_resolver=resolver)
    config = strategy.update_config_proto(tf.ConfigProto())
    try:
        server = tf.train.Server(
            resolver.cluster_spec(), cluster.role, cluster.index, config=config, protocol="grpc"
        )
    except tf.errors.OpError as error:
        address = cluster.addresses[cluster.rank]
        raise UserError("TF_CONFIG: cannot start a server at %s: %s" % (address, first_line(error)))
    return Replicas(strategy, cluster, server)
