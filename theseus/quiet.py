"""The import of TensorFlow: without Keras, and without the lines of its C++ on standard error."""

from __future__ import annotations

import contextlib
import importlib
import os
import subprocess
import sys
import threading
from typing import Any, Iterator

LOG_LEVEL = "TF_CPP_MIN_LOG_LEVEL"
_LEGACY_KERAS = "TF_USE_LEGACY_KERAS"
_lock = threading.RLock()

# Information and warnings by absl's form, and the line about the time before it is set up.
# And that no driver of a GPU is found, which is no error where there is none.
_LINES = (
    r"^([IW][0-9]{4} [0-9:.]+ +[0-9]+ [A-Za-z0-9_]+\.(cc|h):[0-9]+\]"
    r"|E[0-9]{4} [0-9:.]+ +[0-9]+ cuda_platform\.cc:[0-9]+\] failed call to cuInit"
    r"|WARNING: All log messages before absl::InitializeLog\(\))"
)


def import_tensorflow() -> Any:
    """Imports tensorflow.compat.v1 when it is first needed, and returns it."""
    if "tensorflow" in sys.modules:
        return importlib.import_module("tensorflow.compat.v1")
    with quiet_tensorflow():
        return importlib.import_module("tensorflow.compat.v1")


@contextlib.contextmanager
def quiet_tensorflow() -> Iterator[None]:
    """Has those lines stay off standard error while the context lasts; import TensorFlow inside.

    Its log level, TF_CPP_MIN_LOG_LEVEL, is set to errors alone if it is not set. If it asks for
    information or warnings, every line stays. Only one thread at a time is inside, since all share
    standard error.
    """
    if os.environ.setdefault(LOG_LEVEL, "2") in ("0", "1"):
        with _without_keras():
            yield
        return
    with _lock, _without_keras():
        # A process of its own takes the lines out, so that what this one writes at its end comes
        # through, whatever ends it. Control-C does not end that process, but the end of its input.
        command = ["grep", "--line-buffered", "-avE", _LINES]
        try:
            before = os.dup(2)
            sieve = subprocess.Popen(
                command, stdin=subprocess.PIPE, stdout=before, start_new_session=True
            )
        except OSError:  # There is no grep, or standard error is closed.
            yield
            return
        with _through(sieve, before):
            yield


@contextlib.contextmanager
def _without_keras() -> Iterator[None]:
    """Has TensorFlow, if it is imported inside, not import Keras at once, but when it is used.

    Keras brings scikit-learn, pandas and matplotlib: two of five seconds, and 170 MB. TensorFlow
    imports the package that this variable chooses, and does without one that is not installed.
    """
    if _LEGACY_KERAS in os.environ or "tensorflow" in sys.modules:
        yield
        return
    os.environ[_LEGACY_KERAS] = "1"
    try:
        yield
    finally:
        del os.environ[_LEGACY_KERAS]


@contextlib.contextmanager
def _through(sieve: subprocess.Popen[bytes], before: int) -> Iterator[None]:
    """Has standard error go through a process, and then again to the descriptor `before`."""
    assert sieve.stdin is not None
    with sieve.stdin as pipe:
        os.dup2(pipe.fileno(), 2)
    try:
        yield
    finally:
        os.dup2(before, 2)  # Which closes the pipe: what is in it comes before what follows.
        os.close(before)
        sieve.wait()
