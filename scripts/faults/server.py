"""Runs commands in forks of one process that has already imported TensorFlow.

  LD_PRELOAD=shim.so python scripts/faults/server.py < requests > replies

A request is a line of JSON, and so is its reply. One request begins a program, see `_child`; the
reply is its process id. The other waits for a program, see `_wait`; the reply is its exit status.
inject_faults.py and the tests use it, because a new process would import TensorFlow for 4 seconds.
"""

import contextlib
import ctypes
import gc
import itertools
import json
import os
import resource
import runpy
import signal
import sys
import time

HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.dirname(os.path.dirname(HERE))
DEATHS = {
    "none": 0,
    "before": 1,
    "within": 2,
    "after": 3,
    "fail": 4,
    "fail_from": 5,
    "signal": 6,
    "signals": 7,
}
CLOSED_PIPE = "|"
_running = set()


def _open(path, number, flags):
    """Opens a file as descriptor `number`; for the path None closes it, as <&- does in a shell.

    `CLOSED_PIPE` is a pipe that nobody reads.
    """
    if path is None:
        os.close(number)
        return
    if path == CLOSED_PIPE:
        reader, descriptor = os.pipe()
        os.close(reader)
    else:
        descriptor = os.open(path, flags, 0o666)
    os.dup2(descriptor, number)
    os.close(descriptor)


def _child(request):
    """Turns this fork into the command. The fields of its request:

    argv: list of str.
    folder: str, the folder where the command runs, and whose files are watched.
    streams: list of three paths, or None for a closed stream.
    log: path of a file that gets a line for each event, or null.
    event, death, detail: the number of an event, and what happens at it, see shim.c.
    limits: mapping from names such as RLIMIT_NOFILE to numbers.
    clock_step_s: number, the seconds that the clock goes back whenever it is read.
    program: path of the Python program.
    environment: mapping from names to values to add.
    """
    os.setsid()
    os.chdir(request["folder"])
    os.environ.update(request["environment"])
    if request["log"]:
        flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND
        log = os.dup2(os.open(request["log"], flags, 0o666), 1000)
    for number, path in enumerate(request["streams"]):
        _open(path, number, os.O_WRONLY | os.O_CREAT | os.O_TRUNC if number else os.O_RDONLY)
    # As in a new Python, a stream whose descriptor is closed is None.
    encoding = os.environ.get("PYTHONIOENCODING")
    for number, name in enumerate(["stdin", "stdout", "stderr"]):
        is_open = request["streams"][number] is not None
        mode = "w" if number else "r"
        file = open(number, mode, encoding=encoding, closefd=False) if is_open else None
        setattr(sys, name, file)
        setattr(sys, "__%s__" % name, file)
    for name, value in request["limits"].items():
        resource.setrlimit(getattr(resource, name), (value, value))
    _turn_back_clock(request["clock_step_s"])
    folder = os.fsencode(os.path.realpath(request["folder"]))
    shim = ctypes.CDLL(None)
    if hasattr(shim, "faults_arm"):
        death = DEATHS[request["death"]]
        log = log if request["log"] else -1
        shim.faults_arm(folder, ctypes.c_long(request["event"]), death, request["detail"], log)
    sys.argv = [request["program"]] + request["argv"]
    sys.path.insert(0, os.path.dirname(request["program"]))
    runpy.run_path(request["program"], run_name="__main__")


def _turn_back_clock(step_s):
    """Makes the time of day go back by some seconds whenever it is read."""
    if step_s:
        looks, now = itertools.count(), time.time
        time.time = lambda: now() - step_s * next(looks)


def _end_child(request):
    """Runs `_child` and ends the process as Python would."""
    status = 1
    try:
        _child(request)
        status = 0
    except SystemExit as end:
        status = end.code if isinstance(end.code, int) else int(end.code is not None)
        if isinstance(end.code, str):
            with contextlib.suppress(Exception):
                print(end.code, file=sys.stderr)
    except BaseException:
        with contextlib.suppress(Exception):
            sys.excepthook(*sys.exc_info())
    try:
        for stream in (sys.stdout, sys.stderr):
            if stream:
                stream.flush()
    except Exception:
        status = status or 120  # As Python does.
    finally:
        os._exit(status)


def _wait(process, patience_s, kills=True):
    """Waits for a process of `_child`; call it only once for each.

    Args:
      process: its id.
      patience_s: number, the seconds to wait.
      kills: bool, whether it is killed after that.

    Returns:
      Its exit status, negative for a signal; None if it has not ended by itself.
    """
    until = time.monotonic() + patience_s
    while True:
        found, status = os.waitpid(process, os.WNOHANG)
        if found:
            _running.discard(process)
            return -os.WTERMSIG(status) if os.WIFSIGNALED(status) else os.WEXITSTATUS(status)
        if time.monotonic() >= until:
            if kills:
                for kill in (os.kill, os.killpg):  # It may not be the leader of its group yet.
                    with contextlib.suppress(ProcessLookupError):
                        kill(process, signal.SIGKILL)
                os.waitpid(process, 0)
                _running.discard(process)
            return None
        time.sleep(0.01)


def _reply(request):
    """Handles a request; returns its reply."""
    if "process" in request:
        return _wait(**request)
    process = os.fork()
    if not process:
        _end_child(request)
    _running.add(process)
    return process


def main():
    """Imports the commands' modules, serves until its input ends, and then ends all processes."""
    sys.path.insert(0, ROOT)
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    replies = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    from theseus.commands import evaluate, export, predict, train  # noqa: F401

    gc.freeze()  # Otherwise a fork's garbage collection would copy these objects page by page.
    for line in sys.stdin:
        replies.write(json.dumps(_reply(json.loads(line))) + "\n")
        replies.flush()
    for process in list(_running):
        _wait(process, 0)


if __name__ == "__main__":
    main()
