"""A signal to stop, which waits for the end of a step, and on which all workers agree."""

import contextlib
import os
import signal


class Stop(object):
    """What ends a training; several workers ask at the same moments, and get the same answers.

    Attributes:
      requested: bool, whether a stop is requested, as far as this worker knows.
    """

    def __init__(self, workers):
        """Takes the Workers that agree."""
        self.requested = False
        self._workers = workers

    def is_requested(self):
        """Returns, after a step, whether any worker is to stop, a bool."""
        self.requested = self._workers.any(self.requested)
        return self.requested

    def ends_training(self, is_finished=False):
        """Returns, before an epoch, whether the chief's training is finished or to stop."""
        return self._workers.ask_chief(is_finished or self.requested)


@contextlib.contextmanager
def stop_on_signal(workers):
    """Yields a Stop that the first signal to end requests, so that a step is not cut in two."""
    stop = Stop(workers)
    previous = {}

    def request(number, _):
        stop.requested = True
        signal.signal(number, previous[number])
        # print is not safe here: the signal may have come in the middle of one.
        os.write(2, b"\nstopping after this step; once more to stop at once\n")

    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) != signal.SIG_IGN:  # As nohup has it.
            previous[number] = signal.signal(number, request)
    try:
        yield stop
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
