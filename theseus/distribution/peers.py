"""Whether the other workers are still there, which TensorFlow itself would wait for without end."""

from __future__ import annotations

import contextlib
import os
import threading
import time
from typing import Iterator, NoReturn

from theseus.distribution.cluster import Cluster
from theseus.errors import UserError


class Peers(object):
    """Asks each of the other workers again and again whether its server answers.

    Ask once with `wait_for_all`; then, in the context `watched`, the loss of one ends the process
    with a line, since the main thread waits inside TensorFlow, which cannot be interrupted.
    """

    def __init__(self, cluster: Cluster, timeout: float) -> None:
        """Takes the Cluster, and the seconds after which a silent peer is taken for lost."""
        self._addresses = {
            rank: address for rank, address in enumerate(cluster.addresses) if rank != cluster.rank
        }
        self._timeout = timeout
        self._is_over = threading.Event()

    def wait_for_all(self) -> None:
        """Waits until all have come; UserError where one does not within the timeout."""
        end = time.monotonic() + self._timeout
        for rank, address in self._addresses.items():
            if not answers(address, max(1.0, end - time.monotonic())):
                raise UserError(
                    "worker %d, %s, has not come within %g s; start all workers of TF_CONFIG, or "
                    "give a longer --peer_timeout_s" % (rank, address, self._timeout)
                )

    @contextlib.contextmanager
    def watched(self) -> Iterator[None]:
        """The context in which the loss of a peer ends the process."""
        for rank, address in self._addresses.items():
            threading.Thread(target=self._watch, args=(rank, address), daemon=True).start()
        try:
            yield
        except Exception as error:
            if not isinstance(error, UserError):
                self._leave_if_lost()
            raise
        finally:
            self._is_over.set()

    def _watch(self, rank: int, address: str) -> None:
        pause = min(5.0, self._timeout / 4)
        answered = time.monotonic()
        while not self._is_over.wait(pause):
            if answers(address, pause):
                answered = time.monotonic()
            elif time.monotonic() - answered > self._timeout - pause:
                _leave(rank, address)

    def _leave_if_lost(self) -> None:
        """Ends the process where a peer is lost: an error may tell of it before `_watch`."""
        for rank, address in self._addresses.items():
            if not answers(address, min(5.0, self._timeout / 4)):
                _leave(rank, address)


def _leave(rank: int, address: str) -> NoReturn:
    """Says that a peer is lost, and ends the process, whose main thread may wait for ever."""
    message = (
        "\nrun_classifier.py: worker %d, %s, does not answer any more; start all workers again, "
        "and they go on from worker 0's last checkpoint\n" % (rank, address)
    )
    os.write(2, message.encode("utf-8"))
    os._exit(1)


def answers(address: str, seconds: float) -> bool:
    """Returns whether a gRPC server answers at host:port within so many seconds."""
    import grpc  # TensorFlow's own; only this needs it.

    # A connection of its own each time, and none through a proxy.
    options = [("grpc.use_local_subchannel_pool", 1), ("grpc.enable_http_proxy", 0)]
    options += [("grpc.initial_reconnect_backoff_ms", 200), ("grpc.max_reconnect_backoff_ms", 1000)]
    with grpc.insecure_channel(address, options) as channel:
        try:
            grpc.channel_ready_future(channel).result(seconds)
        except grpc.FutureTimeoutError:
            return False
    return True
