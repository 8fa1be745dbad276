"""Stopping on a signal: after the current step, and on all workers after the same step."""

import contextlib
import os
import signal


class Stop(object):
    """Tells whether a training is to end; all workers ask at the same moments and get one answer.

    Attributes:
      requested: bool, whether a stop was requested, as far as this worker knows.
    """

    def __init__(self, workers):
        """Takes the Workers that agree."""
        self.requested = False
        self._workers = workers

    def is_requested(self):
        """Returns whether any worker is to stop, a bool; called after a step."""
        self.requested = self._workers.any(self.requested)
        return self.requested

    def ends_training(self, is_finished=False):
        """Returns whether the chief is finished or is to stop, a bool; called before an epoch."""
        return self._workers.ask_chief(is_finished or self.requested)


@contextlib.contextmanager
def stop_on_signal(workers):
    """Yields a Stop; the first signal requests it, so that the current step can finish."""
    stop = Stop(workers)
    previous = {}

    def request(number, _):
        stop.requested = True
        signal.signal(number, previous[number])
        # print is not safe here, because the signal may have interrupted another print.
        os.write(2, b"\nstopping after this step; press again to stop immediately\n")

    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) != signal.SIG_IGN:  # As under nohup.
            previous[number] = signal.signal(number, request)
    try:
        yield stop
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
