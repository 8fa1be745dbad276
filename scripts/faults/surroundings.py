"""Trials of a command's surroundings: streams, limits, signals, clocks, other commands, folders.

Each case is a function (Chain, server, worker) that yields (description, outcome, problem or None).
"""

import os
import shutil
import signal
import subprocess
import sys
import time

from faults import world
from faults.server import CLOSED_PIPE
from faults.trials import Tally, judge
from faults.world import Disturbance

_FULL = "/dev/full"


def _find(chain, name):
    return next(command for command in chain.commands if command.name == name)


def _try(
    chain, server, worker, name, what, is_silent=False, disturbance=world.UNDISTURBED, **others
):
    """Disturbs the command of that name; returns the tuple that a case yields."""
    command = _find(chain, name)
    folder = chain.copy(chain.before[name], worker)
    result = server.run(folder, command.argv, disturbance, **others)
    return ("%s, %s" % (name, what),) + judge(chain, server, command, folder, result, is_silent)


def streams(chain, server, worker):
    """Tries streams that are full, closed, or read by nobody."""
    files = [os.path.join(chain.folder, "%s.%s" % (worker, name)) for name in ("output", "errors")]
    usual = [os.devnull] + files
    for name in ("stage_1", "evaluate", "predict"):
        for number, stream in enumerate(["input", "output", "errors"]):
            for value, how in ((None, "closed"), (_FULL, "full"), (CLOSED_PIPE, "closed pipe")):
                if stream == "input" and value is not None:
                    continue
                given = usual[:number] + [value] + usual[number + 1 :]
                what = "%s %s" % (stream, how)
                # A program that stops reading, such as head, does not expect a message.
                silent = stream == "errors" or value == CLOSED_PIPE
                yield _try(chain, server, worker, name, what, silent, streams=given)
        yield _try(chain, server, worker, name, "all closed", True, streams=[None] * 3)


def limits(chain, server, worker):
    """Tries too few descriptors, a small limit of file sizes, and little address space."""
    for name in ("stage_0", "evaluate", "export_bert"):
        for limit, values in (
            ("RLIMIT_NOFILE", (8, 12, 16, 24, 40)),
            ("RLIMIT_FSIZE", (0, 1000, 5000, 30000)),
            ("RLIMIT_AS", (1 << 30, 3 << 30, 6 << 30)),
        ):
            for value in values:
                what = "%s %d" % (limit, value)
                silent = limit == "RLIMIT_FSIZE"  # It also applies to stderr, which is a file here.
                yield _try(chain, server, worker, name, what, silent, limits={limit: value})


def signals(chain, server, worker):
    """Tries signals, single and repeated: early, within a save, and at the end."""
    for command in chain.commands:
        events = chain.events[command.name]
        saves = [n for n, (_, path) in enumerate(events, 1) if path.endswith("state.json")]
        moments = {1, len(events), *saves[:2]}
        for moment in sorted(moments if events else ()):
            for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
                for death in ("signal", "signals"):
                    disturbance = Disturbance(death, moment, int(number))
                    what = "%s %s at %d of %d" % (death, number.name, moment, len(events))
                    yield _try(chain, server, worker, command.name, what, disturbance=disturbance)


def clocks(chain, server, worker):
    """Tries a clock that goes back whenever it is read."""
    for name in ("stage_1", "evaluate"):
        yield _try(chain, server, worker, name, "clock back", clock_step_s=3600.0)


def others(chain, server, worker):
    """Tries two commands at the same time: with the same folder, cache or export."""
    second = world.Server(server.program)
    for name in ("stage_0", "stage_2", "evaluate", "export_bert"):
        command = _find(chain, name)
        folder = chain.copy(chain.before[name], worker)
        server.start(folder, command.argv)
        second.start(folder, command.argv, suffix=".second")
        found = [world.verdict(one.finish()) for one in (server, second)]
        problem = None
        if not set(found) <= {"done", "line"} or "done" not in found:
            problem = str(found)
        elif chain.compare(command, folder):
            problem = str(chain.compare(command, folder))
        yield "%s twice" % name, " and ".join(sorted(found)), problem
    command = _find(chain, "stage_0")
    folder = chain.copy(chain.before["stage_0"], worker)
    server.start(folder, command.argv)
    second.start(folder, command.argv.replace("out_0", "other_0"), suffix=".second")
    found = [world.verdict(one.finish()) for one in (server, second)]
    shutil.rmtree(os.path.join(folder, "other_0"))
    different = chain.compare(command, folder)
    problem = None if found == ["done", "done"] and not different else str((found, different))
    yield "two on one cache", "done and done", problem
    second.close()


def removed(chain, server, worker):
    """Tries folders, or parts of them, that are removed or renamed before or during a command."""
    for name in ("stage_0", "evaluate", "predict"):
        output = "out_0" if name == "stage_0" else "out_2"
        for moment in (0.3, 0.8, 1.5):
            for how in ("removed", "renamed"):
                command = _find(chain, name)
                folder = chain.copy(chain.before[name], worker)
                server.start(folder, command.argv)
                time.sleep(moment)
                path = os.path.join(folder, output)
                if os.path.isdir(path):
                    shutil.move(path, os.path.join(folder, "moved"))
                    if how == "removed":
                        shutil.rmtree(os.path.join(folder, "moved"), ignore_errors=True)
                result = server.finish()
                found = world.verdict(result)
                problem = None if found in ("done", "line") else result.errors[-400:]
                yield "%s, %s %s after %.1f s" % (name, output, how, moment), found, problem
    for name, part in [
        ("evaluate", "out_2/best"),
        ("predict", "out_2/best"),
        ("stage_2", "out_1/best"),
        ("export_bert", "out_2/best"),
        ("evaluate", "out_2/state.json"),
        ("evaluate", "out_2/run.json"),
        ("evaluate", "out_2/vocab.txt"),
        ("evaluate", "out_2/bert_config.json"),
        ("evaluate", "out_2"),
        ("stage_2", "out_1"),
        ("stage_0", "bert"),
        ("stage_0", "train.txt"),
        ("predict", "test.txt"),
    ]:
        folder = chain.copy(chain.before[name], worker)
        path = os.path.join(folder, part)
        shutil.move(path, os.path.join(folder, "moved"))
        result = server.run(folder, _find(chain, name).argv)
        found = world.verdict(result)
        problem = None if found == "line" else result.errors[-300:]
        yield "%s without %s" % (name, part), found, problem


def disks(chain, server, worker):
    """Tries a small disk that is full of bytes or of files; needs the right to mount one."""
    place = os.path.join(chain.folder, "%s_disk" % worker)
    os.makedirs(place, exist_ok=True)
    for name in ("stage_0", "stage_1", "stage_2", "predict", "export_bert"):
        command = _find(chain, name)
        folder = chain.copy(chain.before[name], worker)
        (size, files), result = _usage(folder), server.run(folder, command.argv)
        more_size, more_files = _usage(folder)
        assert world.verdict(result) == "done"
        for share in (0.0, 0.1, 0.3, 0.5, 0.7, 0.9, 1.0):
            bytes_there = size + int(share * (more_size - size))
            files_there = files + int(share * (more_files - files))
            for option, what in (
                ("size=%d" % bytes_there, "%d bytes" % bytes_there),
                ("nr_inodes=%d" % files_there, "%d files" % files_there),
            ):
                if not _mount(option, place):
                    yield "%s on a disk of %s" % (name, what), "cannot be mounted here", None
                    return
                try:
                    shutil.copytree(chain.before[name], place, dirs_exist_ok=True)
                    result = server.run(place, command.argv)
                    _mount("remount,size=1g,nr_inodes=100000", place)
                    found = _judge_full(chain, server, command, place, result)
                finally:
                    subprocess.check_call(["umount", place])
                yield ("%s on a disk of %s" % (name, what),) + found


def _judge_full(chain, server, command, folder, result):
    """Returns the result of `judge`; "no cause" if the line does not say that the disk is full."""
    outcome, problem = judge(chain, server, command, folder, result)
    if world.verdict(result) == "line" and problem is None:
        line = world.last_line(result)
        if "No space left on device" not in line and "its disk has" not in line:
            return "no cause", line
    return outcome, problem


def _usage(folder):
    """Returns a folder's (bytes in whole pages, files and folders), as a tmpfs counts them."""
    size = count = 0
    for place, _, names in os.walk(folder):
        count += 1 + len(names)
        sizes = [os.path.getsize(os.path.join(place, name)) for name in names]
        size += sum(-(-one // 4096) * 4096 for one in sizes)
    return size, count + 2


def _mount(option, place):
    """Mounts or remounts a tmpfs; returns whether that was possible."""
    command = ["mount", "-t", "tmpfs", "-o", option, "tmpfs", place]
    return subprocess.run(command, stderr=subprocess.DEVNULL).returncode == 0


def imports(chain, server, worker):
    """Tries a signal in the first seconds, while TensorFlow is imported, in a new process."""
    folder = chain.copy(chain.before["stage_0"], worker)
    arguments = [sys.executable, server.program] + _find(chain, "stage_0").argv.split()
    for number in range(6):
        process = subprocess.Popen(
            arguments,
            cwd=folder,
            stderr=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            universal_newlines=True,
        )
        time.sleep(0.3 + 0.7 * number)
        process.send_signal((signal.SIGINT, signal.SIGTERM)[number % 2])
        errors = process.communicate()[1]
        result = world.Result(process.returncode, "", errors, [])
        # The signal may come before Python has run the first line of the program.
        found = world.verdict(result)
        problem = None if found in ("line", "killed") else errors[-300:]
        yield "import interrupted after %.1f s" % (0.3 + 0.7 * number), found, problem


CASES = {
    case.__name__: case
    for case in (streams, limits, signals, clocks, others, removed, disks, imports)
}
NAMES = sorted(CASES)


def surroundings(chain, server, names, source, worker):
    """Returns the Tally of the cases with these names; all are tried, so `source` is unused."""
    tally = Tally("surroundings")
    for name in names:
        for what, outcome, problem in CASES[name](chain, server, worker):
            tally.add("%s: %s" % (name, outcome), problem and "%s: %s" % (what, problem))
    return tally
