"""The commands of run_classifier.py that compress.py runs."""

import json
import os
import re
import shlex
import subprocess
import sys
import time

import run_classifier
from compressing import ENVIRONMENT
from theseus.errors import UserError
from theseus.runs import files


class Commands(object):
    """Commands of run_classifier.py that run only once; a file in OUT records them."""

    def __init__(self, out, content):
        """Reads the record.

        Args:
          out: the folder.
          content: str, a hash of the data and of BERT, on which all commands depend.
        """
        os.makedirs(out, exist_ok=True)
        self._out, self._content = out, content
        self._record, self._log = os.path.join(out, "compress.json"), os.path.join(out, "log.txt")
        self._done = read_json(self._record) or {}

    def run(self, title, name, arguments):
        """Runs a command unless it is done; if it fails, UserError with its last line of output."""
        if self.is_done(name, arguments):
            return
        print("%-48s" % title, end=" ", flush=True)
        begin = time.time()
        with open(self._log, "a", encoding="utf-8") as log:
            log.write("\nrun_classifier.py %s\n" % " ".join(map(shlex.quote, arguments)))
            log.flush()
            command = [sys.executable, run_classifier.__file__] + arguments
            streams = dict(stdout=log, stderr=subprocess.STDOUT)
            status = subprocess.call(command, env=ENVIRONMENT, **streams)
        if status:
            print("failed")
            line = _FOLDER_FLAG.sub("give another OUT", _last_line(self._log))
            raise UserError("%s; the full log is %s" % (line, self._log))
        print("%d:%02d" % divmod(round(time.time() - begin), 60), flush=True)
        self._done[name] = {"flags": arguments, "content": self._content}
        files.write_json(self._record, self._done)

    def is_done(self, name, arguments):
        """Returns whether the same command was run before and its exports exist."""
        exports = [os.path.join(self._out, name, "export", kind) for kind in exported(name)]
        known_by = {"flags": arguments, "content": self._content}
        return self._done.get(name) == known_by and all(map(os.path.isdir, exports))

    def done(self, plan):
        """Returns the flags of a Plan's commands, all of which are done, a dict by name."""
        return {name: self._done[name] for _, name, _ in plan.commands()}


def exported(name):
    """Returns the names of a command's exports that are measured, list of str."""
    return ["onnx"] if name == "predecessor" else ["onnx", "onnx_int8"]


_FOLDER_FLAG = re.compile(r"give another folder with --stage_\d_outputdir")


def _last_line(path):
    with open(path, encoding="utf-8", errors="replace") as reader:
        return ([""] + [line.strip() for line in reader if line.strip()])[-1]


def read_json(path):
    """Returns the content of a JSON file; None if there is no such file."""
    if not os.path.exists(path):
        return None
    with open(path, encoding="utf-8") as reader:
        return json.load(reader)
