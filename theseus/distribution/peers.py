"""Checks that the other workers are still there; TensorFlow itself would wait for ever."""

from __future__ import annotations

import contextlib
import os
import threading
import time
from typing import Iterator, NoReturn

from theseus.distribution.cluster import Cluster
from theseus.errors import UserError


class Peers(object):
    """Repeatedly asks each of the other workers whether its server answers.

    Call `wait_for_all` once. Then, in the context `watched`, the loss of a worker ends the process
    with a message: the main thread waits inside TensorFlow and cannot be interrupted.
    """

    def __init__(self, cluster: Cluster, timeout: float) -> None:
        """Takes the Cluster, and the seconds after which a silent peer counts as lost."""
        self._addresses = {
            rank: address for rank, address in enumerate(cluster.addresses) if rank != cluster.rank
        }
        self._timeout = timeout
        self._is_over = threading.Event()

    def wait_for_all(self) -> None:
        """Waits until all peers answer; UserError if one does not within the timeout."""
        end = time.monotonic() + self._timeout
        for rank, address in self._addresses.items():
            if not answers(address, max(1.0, end - time.monotonic())):
                raise UserError(
                    "worker %d (%s) did not answer within %g s; start all workers of "
                    "TF_CONFIG, or give a larger --peer_timeout_s" % (rank, address, self._timeout)
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
        """Ends the process if a peer is lost: an error may come before `_watch` notices it."""
        for rank, address in self._addresses.items():
            if not answers(address, min(5.0, self._timeout / 4)):
                _leave(rank, address)


def _leave(rank: int, address: str) -> NoReturn:
    """Reports a lost peer and ends the process, whose main thread may wait for ever."""
    message = (
        "\nrun_classifier.py: worker %d (%s) no longer answers; start all workers again to "
        "resume from worker 0's last checkpoint\n" % (rank, address)
    )
    os.write(2, message.encode("utf-8"))
    os._exit(1)


def answers(address: str, seconds: float) -> bool:
    """Returns whether a gRPC server at host:port answers within a number of seconds."""
    import grpc  # TensorFlow brings it; nothing else here needs it.

    # A new connection each time, and never through a proxy.
    options = [("grpc.use_local_subchannel_pool", 1), ("grpc.enable_http_proxy", 0)]
    options += [("grpc.initial_reconnect_backoff_ms", 200), ("grpc.max_reconnect_backoff_ms", 1000)]
    with grpc.insecure_channel(address, options) as channel:
        try:
            grpc.channel_ready_future(channel).result(seconds)
        except grpc.FutureTimeoutError:
            return False
    return True
