"""The devices that compute a step together: each its share of the batch, on its own weights."""

import contextlib
import os

import tensorflow.compat.v1 as tf
from absl import logging

from theseus.distribution.cluster import check_used_port, read_cluster
from theseus.distribution.peers import Peers
from theseus.errors import UserError, first_line
from theseus.session import count_gpus, new_session, session_config


class Replicas(object):
    """Devices, each of which holds all weights: a tf.distribute.Strategy, and how to run on it.

    Attributes:
      strategy: the tf.distribute.Strategy; TensorFlow's default one where there is one device.
      count: int, the replicas of all workers.
      rank, num_workers: int, which of the processes this is; 0 is the chief.
      ids: range, which of the replicas are this process's.
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
        """A session on the devices over a new graph, within the strategy's scope.

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
        """Calls a function that builds one replica's part of the graph, once for each.

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
            return values[min(index, len(values) - 1)]  # One stands for all where it is the same.

        return [
            tf.nest.map_structure(lambda value, n=n: part(n, value), built)
            for n in range(len(self.ids))
        ]


@contextlib.contextmanager
def opened(distribution, peer_timeout):
    """The Replicas of a --distribution, at whose end the other workers are not watched any more.

    Args:
      distribution: "none", "mirrored", over the devices of this machine, or "multi_worker", over
        the machines of TF_CONFIG.
      peer_timeout: float, the seconds after which a worker that does not answer is lost.

    Raises:
      UserError: TensorFlow is too old; TF_CONFIG is wrong; its port is in use; a worker does not
        come.
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
    """Returns the Replicas of a Cluster, whose server at this process's address is started."""
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
