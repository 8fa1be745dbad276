"""A signal to stop, which waits for the end of a step."""

import contextlib
import os
import signal


class Stop(object):
    """Whether a stop is requested, a bool."""

    requested = False


@contextlib.contextmanager
def stop_on_signal():
    """Turns the first signal to end into a request, so that a step is not cut in two."""
    stop = Stop()
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
