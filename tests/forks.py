"""Runs programs as forks of a process that has imported TensorFlow, which takes 4 seconds.

A fork has no start and no end of an interpreter; what is tested there needs a process.
"""

import functools
import itertools
import os
import shutil
import signal
import tempfile
import time

from faults import world


class _Server(world.Server):
    """The process that forks, with a folder for the streams of its forks."""

    def __init__(self):
        super(_Server, self).__init__(None)
        self.folder = tempfile.mkdtemp()
        self.numbers = itertools.count()
        self.running = []

    def new_file(self, ending):
        """Returns the path of a new file."""
        return os.path.join(self.folder, "%d.%s" % (next(self.numbers), ending))


_server = functools.lru_cache(maxsize=None)(_Server)


class Fork(object):
    """A running program."""

    def __init__(self, arguments, folder, stdin=os.devnull, **environment):
        """Begins it.

        Args:
          arguments: list of str, the path of a Python program, or -c and its text, and what the
            program is given.
          folder: where it runs.
          stdin: path of a file that is its standard input.
          **environment: what is added to the environment, str.
        """
        self._server = _server()
        if arguments[0] == "-c":
            path = self._server.new_file("py")
            with open(path, "w", encoding="utf-8") as writer:
                writer.write(arguments[1])
            arguments = [path] + arguments[2:]
        self._files = [self._server.new_file(name) for name in ("output", "errors")]
        for path in self._files:
            open(path, "w").close()
        request = dict.fromkeys(["log", "death", "event", "detail", "clock_step_s"])
        request.update(limits={}, folder=str(folder), environment=environment)
        request.update(program=arguments[0], argv=[str(argument) for argument in arguments[1:]])
        self.pid = self._server.ask(dict(request, streams=[stdin] + self._files))
        self._status = None
        self._server.running.append(self)

    def poll(self, patience_s=0, kills=False):
        """Returns the exit status, negative of a signal; None while it runs."""
        if self in self._server.running:
            request = {"process": self.pid, "patience_s": patience_s, "kills": kills}
            self._status = self._server.ask(request)
            if self._status is not None or kills:
                self._server.running.remove(self)
        return self._status

    def wait(self, patience_s=1700):
        """Returns the exit status; None if it takes too long and is killed."""
        return self.poll(patience_s, kills=True)

    def wait_for(self, text):
        """Returns its first line that contains a text; fails if the program ends before."""
        while True:
            status, said = self.poll(), self.output() + self.errors()
            for line in said.splitlines(keepends=True):
                if text in line and line.endswith("\n"):
                    return line
            assert status is None, said
            time.sleep(0.02)

    def kill(self, number=signal.SIGKILL):
        """Sends it a signal."""
        os.kill(self.pid, number)

    def _read(self, number):
        with open(self._files[number], encoding="utf-8", newline="") as reader:
            return reader.read()

    def output(self):
        """Returns its standard output so far."""
        return self._read(0)

    def errors(self):
        """Returns its standard error so far."""
        return self._read(1)


def run(arguments, folder, **others):
    """Runs a program, see `Fork`; returns (exit status, output, errors)."""
    fork = Fork(arguments, folder, **others)
    return fork.wait(), fork.output(), fork.errors()


def end_all():
    """Kills the programs that still run."""
    if _server.cache_info().currsize:
        for fork in list(_server().running):
            fork.wait(0)


def close():
    """Ends the process that forks."""
    if _server.cache_info().currsize:
        end_all()
        _server().close()
        shutil.rmtree(_server().folder)
        _server.cache_clear()
