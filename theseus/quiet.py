"""Imports TensorFlow without Keras, and hides the log lines of its C++ code on standard error."""

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

# The hidden lines: information and warnings in absl's form; absl's note about lines before it is
# initialized; and that no GPU driver was found, which is no error on a machine without a GPU.
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
    """Hides the lines that match `_LINES` in this context; import TensorFlow inside it.

    If TF_CPP_MIN_LOG_LEVEL, TensorFlow's log level, is unset, it is set to errors only. If it asks
    for information or warnings, no line is hidden. Only one thread at a time is inside, since all
    threads share standard error.
    """
    if os.environ.setdefault(LOG_LEVEL, "2") in ("0", "1"):
        with _without_keras():
            yield
        return
    with _lock, _without_keras():
        # A separate process filters the lines, so the last lines of this process get through,
        # however it ends. Control-C does not stop the filter; the end of its input does.
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
    """Makes TensorFlow, if it is imported in this context, import Keras only when it is used.

    Keras imports scikit-learn, pandas and matplotlib, which take two of five seconds and 170 MB.
    TF_USE_LEGACY_KERAS chooses the package to import; TensorFlow does without a missing package.
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
    """Sends standard error through a process; at the end, to the descriptor `before` again."""
    assert sieve.stdin is not None
    with sieve.stdin as pipe:
        os.dup2(pipe.fileno(), 2)
    try:
        yield
    finally:
        os.dup2(before, 2)  # Closes the pipe; the filter prints what is left in it.
        os.close(before)
        sieve.wait()
