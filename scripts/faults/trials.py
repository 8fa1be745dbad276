"""The trials: each disturbs one command in one way, runs it again, and judges both results."""

import collections
import errno
import os
import random
import re
import shutil

from faults import world
from faults.world import Disturbance

KILLED = ("before", "within", "after")
ERRORS = ("ENOSPC", "EIO", "EDQUOT", "EROFS")


class Chain(object):
    """The commands of the chain, each with the folder before it and the folder after it."""

    def __init__(self, folder, server, commands, is_quick=False):
        """Runs all commands undisturbed; raises RuntimeError if one fails.

        Args:
          folder: path of a folder to create.
          server: world.Server.
          commands: list of world.Command.
          is_quick: bool, whether they are run only once. Then files that differ from run to run, as
            those of some exports do, count as differences.
        """
        self.folder = folder
        self.commands = commands
        self.before, self.expected, self.events = {}, {}, {}
        current = os.path.join(folder, "before_stage_0")
        world.make_data(current, server)
        for command in self.commands:
            self.before[command.name] = current
            after = os.path.join(folder, "after_%s" % command.name)
            shutil.copytree(current, after)
            result = server.run(after, command.argv)
            if world.verdict(result) != "done":
                raise RuntimeError("%s: %s" % (command.name, result.errors))
            self.expected[command.name] = world.fingerprint(after)
            self.events[command.name] = result.events
            current = after
        if not is_quick:
            self._drop_unstable(server)

    def _drop_unstable(self, server):
        """Excludes files from the comparison that differ between two undisturbed runs."""
        for command in self.commands:
            folder = self.copy(self.before[command.name], "again")
            server.run(folder, command.argv)
            again = world.fingerprint(folder)
            unstable = world.differences(again, self.expected[command.name])
            for path in unstable:
                self.expected[command.name][path] = again[path] = None
            shutil.rmtree(folder)

    def copy(self, source, name):
        """Returns a new copy of a folder, in which a command can be tried."""
        target = os.path.join(self.folder, name)
        shutil.rmtree(target, ignore_errors=True)
        shutil.copytree(source, target)
        return target

    def compare(self, command, folder):
        """Returns the files that differ between a folder and the undisturbed command's result."""
        expected, found = self.expected[command.name], world.fingerprint(folder)
        for path, digest in expected.items():
            if digest is None and path in found:
                found[path] = None
        return world.differences(found, expected)


class Tally(object):
    """The outcomes of the trials of one kind."""

    def __init__(self, kind):
        """Names the kind."""
        self.kind = kind
        self.counts = collections.Counter()
        self.lost = collections.Counter()
        self.problems = []

    def add(self, outcome, problem=None):
        """Counts a trial; `problem` is a line that tells how to reproduce it."""
        self.counts[outcome] += 1
        if problem:
            self.problems.append("%s: %s" % (outcome, problem))
            print(self.problems[-1], flush=True)

    def to_json(self):
        """Returns the outcomes as JSON."""
        return {
            "trials": sum(self.counts.values()),
            "outcomes": dict(self.counts),
            "steps_lost": {str(steps): count for steps, count in sorted(self.lost.items())},
            "problems": self.problems,
        }


def choose_events(events, count, source):
    """Returns numbers of events, from 1, that cover all operations on all kinds of files.

    Args:
      events: list of (kind, path).
      count: int, the largest number of events.
      source: random.Random.
    """
    groups = collections.defaultdict(list)
    for number, (kind, path) in enumerate(events, 1):
        groups[kind, re.sub(r"\d+", "#", os.path.basename(path))].append(number)
    for numbers in groups.values():
        source.shuffle(numbers)
    chosen, keys = [], sorted(groups)
    source.shuffle(keys)
    while len(chosen) < min(count, len(events)):
        for key in keys:
            if groups[key]:
                chosen.append(groups[key].pop())
    return chosen[:count]


def shares(chain, count, limited=False):
    """Divides `count` trials among the commands, list of (Command, int).

    Args:
      limited: bool, whether a command gets at most as many as it has events; others get the rest.
    """
    given = {command: 0 for command in chain.commands if command.is_tried}
    while count > 0:
        takers = [c for c in given if not limited or given[c] < len(chain.events[c.name])]
        if not takers:
            break
        for command in takers[:count]:
            given[command] += 1
        count -= len(takers)
    return list(given.items())


# --- Kills ---


def kill(chain, server, tally, command, disturbances, name, begin=None):
    """Kills a command once or several times, then runs it to its end and compares the result.

    Args:
      disturbances: list with an entry for each killed run: a Disturbance, or the float of seconds
        after which the run is killed.
      name: str, the trial's folder.
      begin: function that damages the folder before the last killed run; or None.
    """
    folder = chain.copy(chain.before[command.name], name)
    killed, damaged = None, None
    for number, disturbance in enumerate(disturbances):
        if begin and number == len(disturbances) - 1:
            damaged = begin(os.path.join(folder, command.name.replace("stage", "out")))
        if isinstance(disturbance, float):
            killed = server.run(folder, command.argv, patience_s=disturbance)
        else:
            killed = server.run(folder, command.argv, disturbance)
        if world.verdict(killed) in ("traceback", "silent"):
            tally.add("error", "%s %s: %s" % (command.name, disturbances, killed.errors[-300:]))
            return
    resumed = server.run(folder, command.argv)
    place = "%s %s" % (command.name, ", ".join(map(describe, disturbances)))
    if world.verdict(resumed) != "done":
        tally.add("error", "%s: %s" % (place, world.last_line(resumed)))
        return
    # A finished training does not read its last checkpoint again.
    different = [path for path in chain.compare(command, folder) if path != damaged]
    tally.add("differs" if different else "identical", different and "%s: %s" % (place, different))
    lost = world.steps_lost(killed, resumed)
    if lost is not None:
        tally.lost[lost] += 1


def describe(disturbance):
    """Returns the description of a Disturbance, or of a number of seconds, in a report."""
    if isinstance(disturbance, float):
        return "after %.2f s" % disturbance
    detail = " %s" % disturbance.detail if disturbance.detail else ""
    return "%s event %d%s" % (disturbance.death, disturbance.event, detail)


def kills(chain, server, count, source, worker):
    """Returns the Tally of kills at file events, once or twice in a row, and at random moments."""
    tally, number = Tally("kills"), 0
    for command, share in shares(chain, count, limited=True):
        events = chain.events[command.name]
        for event in choose_events(events, share, source):
            number += 1
            how = source.choice(KILLED)
            disturbances = [Disturbance(how, event)]
            if number % 8 == 5:  # Kill the resumed run, too.
                disturbances.append(Disturbance("before", source.randint(1, len(events) // 2)))
            elif number % 8 == 6:
                disturbances = [source.uniform(0.02, 2.0)]
            begin = None
            if number % 8 == 7 and command.name.startswith("stage"):
                disturbances.append(Disturbance("before", source.randint(1, len(events) // 2)))
                begin = damage_last
            kill(chain, server, tally, command, disturbances, worker, begin)
    return tally


def damage_last(folder):
    """Flips a bit of the last checkpoint in a stage's folder, if there is an older one.

    Returns:
      The file's path relative to the folder above; None if nothing was damaged.
    """
    last = os.path.join(folder, "last")
    names = os.listdir(last) if os.path.isdir(last) else []
    paths = [os.path.join(last, name) for name in names if ".data-" in name]
    if len(paths) < 2:
        return None
    newest = max(paths, key=lambda path: int(re.search(r"ckpt-(\d+)", path).group(1)))
    flip_bit(newest, random.Random(0))
    return os.path.relpath(newest, os.path.dirname(folder))


# --- Torn files ---


def flip_bit(path, source):
    """Flips a random bit of a file that is not empty."""
    with open(path, "r+b") as file:
        place = source.randrange(os.path.getsize(path))
        file.seek(place)
        byte = file.read(1)[0]
        file.seek(place)
        file.write(bytes([byte ^ (1 << source.randrange(8))]))


def tear(path, how, source):
    """Damages a file: leaves 0 bytes, 1 byte, half, or all but 1; flips a bit; or removes it."""
    size = os.path.getsize(path)
    if how == "flip":
        flip_bit(path, source)
    elif how == "remove":
        os.remove(path)
    else:
        sizes = {"empty": 0, "one": 1, "half": size // 2, "all but one": size - 1}
        os.truncate(path, min(size, sizes[how]))


TEARS = ("flip", "empty", "one", "half", "all but one", "flip", "remove", "flip")
# The folders, written by earlier commands, that each command reads.
READS = {
    "stage_0": ("out_0", "cache"),
    "stage_1": ("out_1", "cache"),
    "stage_2": ("out_0", "out_1", "out_2", "cache"),
    "evaluate": ("out_2",),
    "predict": ("out_2",),
}


def torn(chain, server, count, source, worker):
    """Returns the Tally of files that are damaged after a command ended, or was killed half-way.

    Then the command runs again. It must give the result of an undisturbed run, or one line that
    names the damage.
    """
    tally = Tally("torn")
    for command, share in shares(chain, count):
        half_done = _half_done(chain, server, command)
        paths = _read(chain, command, half_done)
        for number in range(share):
            path, how = paths[number % len(paths)], source.choice(TEARS)
            folder = chain.copy(half_done, worker)
            tear(os.path.join(folder, path), how, source)
            _judge_torn(chain, server, tally, command, folder, path, how)
        shutil.rmtree(half_done)
    return tally


def _half_done(chain, server, command):
    """Returns a folder in which a command was killed late, when all files that it reads existed."""
    folder = chain.copy(chain.before[command.name], "half_%s" % command.name)
    events = chain.events[command.name]
    renames = [n for n, (kind, path) in enumerate(events, 1) if path.endswith("state.json")]
    if command.name.startswith("stage"):
        server.run(folder, command.argv, Disturbance("after", renames[-3]))
    elif command.name.startswith("export"):
        server.run(folder, command.argv)
    return folder


def _read(chain, command, folder):
    """Returns the files that a command reads and an earlier one wrote, sorted relative paths.

    The curves are not included.
    """
    inside = READS.get(command.name, ("out_2", command.name))
    found = []
    for place, _, names in os.walk(folder):
        relative = os.path.relpath(place, folder)
        if relative.split(os.sep)[0] in inside:
            names = [name for name in names if not re.search(r"\.tfevents\.|metrics\.jsonl", name)]
            found += [os.path.join(relative, name) for name in names]
    return sorted(path for path in found if os.path.getsize(os.path.join(folder, path)))


def _judge_torn(chain, server, tally, command, folder, path, how):
    """Runs a command in a folder with a damaged file, and counts the outcome."""
    result = server.run(folder, command.argv)
    found = world.verdict(result)
    place = "%s, %s: %s" % (command.name, path, how)
    if found == "line":
        tally.add("one line")
    elif found != "done":
        tally.add(found, "%s: %s" % (place, result.errors[-300:]))
    else:
        different = [other for other in chain.compare(command, folder) if other != path]
        tally.add("used" if different else "identical", different and "%s: %s" % (place, different))


# --- Disks that fail ---


def failing_disk(chain, server, count, source, worker):
    """Returns the Tally of write errors, either one or all from some event on.

    The command must end undisturbed or in a line with the cause. The same command, run again on a
    sound disk, must give the undisturbed result.
    """
    tally, number = Tally("failing_disk"), 0
    for command, share in shares(chain, count, limited=True):
        for event in choose_events(chain.events[command.name], share, source):
            number += 1
            name = ERRORS[number % len(ERRORS)]
            death = "fail_from" if source.random() < 0.7 else "fail"
            disturbance = Disturbance(death, event, getattr(errno, name))
            folder = chain.copy(chain.before[command.name], worker)
            result = server.run(folder, command.argv, disturbance)
            found = world.verdict(result)
            kind, path = chain.events[command.name][event - 1]
            place = "%s %s %s, %s %s" % (command.name, describe(disturbance), name, kind, path)
            outcome, problem = judge(chain, server, command, folder, result)
            is_told = os.strerror(getattr(errno, name)) in world.last_line(result)
            if found in ("line", "killed") and not is_told:
                outcome, problem = "no cause", world.last_line(result)
            tally.add(outcome, problem and "%s: %s" % (place, problem))
    return tally


def judge(chain, server, command, folder, result, is_silent=False):
    """Runs a disturbed command again; returns (outcome, problem or None) of both runs.

    Args:
      is_silent: bool, whether the disturbed command had no standard error for a message.
    """
    found = world.verdict(result)
    if found == "silent" and is_silent:
        found = "line"
    if found not in ("done", "line", "killed"):
        return found, result.errors[-400:]
    again = server.run(folder, command.argv)
    if world.verdict(again) != "done":
        return "error", world.last_line(again)
    different = chain.compare(command, folder)
    if different:
        return "differs", str(different)
    return found + ", then identical", None
