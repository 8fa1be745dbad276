"""Disturbs commands on a tiny model (kills, damaged files, full disks) and checks the results.

  python scripts/faults/inject_faults.py --quick                        # a minute or two
  python scripts/faults/inject_faults.py --kills=500 --torn=2000 --out=faults.json

Each trial disturbs one command of a chain (stages 0, 1 and 2, evaluation, prediction, exports) in
one way and runs it again. The result must be bit-identical to an undisturbed run, or one line that
says what is wrong. Everything else is a defect; it is printed and makes the exit status 1. The same
--seed gives the same trials. A small library, made by a C compiler (cc), intercepts file events.
"""

import json
import os
import platform
import random
import sys
import tempfile
import threading
import time
import traceback

from absl import app, flags

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
from faults import surroundings, trials, world

FLAGS = flags.FLAGS

flags.DEFINE_bool("quick", False, "Run only a few trials of each kind.")
flags.DEFINE_integer("kills", 500, "Number of kills, at file events and at random moments.", 0)
flags.DEFINE_integer("torn", 2000, "Number of files truncated, altered or removed.", 0)
flags.DEFINE_integer(
    "failing_disk", 300, "Number of failing writes: no space, no quota, read-only.", 0
)
flags.DEFINE_list(
    "surroundings", surroundings.NAMES, "Names of trials with streams, limits and signals."
)
flags.DEFINE_integer(
    "fuzz", 10000, "Number of altered files, given to each function that reads such a file.", 0
)
flags.DEFINE_integer("seed", 1, "Random seed of the trials.")
flags.DEFINE_integer("workers", 2, "Number of trials that run at the same time.", 1)
flags.DEFINE_list("commands", None, "Names of the commands to disturb. Default: all.")
flags.DEFINE_string("out", None, "JSON file for the report.")
flags.DEFINE_string("program", os.path.join(world.ROOT, "run_classifier.py"), "Program to disturb.")

QUICK = {"kills": 6, "torn": 6, "failing_disk": 6, "surroundings": [], "fuzz": 0}
KINDS = {
    "kills": trials.kills,
    "torn": trials.torn,
    "failing_disk": trials.failing_disk,
    "surroundings": surroundings.surroundings,
}


def commands():
    """Returns the chain of world.Commands, up to the last one that is tried."""
    found = world.commands(["bert"] if FLAGS.quick else list(world.FORMATS))
    if FLAGS.commands:
        names = [command.name for command in found]
        last = max(map(names.index, FLAGS.commands))
        return [c._replace(is_tried=c.name in FLAGS.commands) for c in found[: last + 1]]
    return found


def run_kind(chain, server, kind, count, seed, worker, tallies):
    """Runs the trials of one kind, and adds their Tally to the list `tallies`."""
    try:
        tally = KINDS[kind](chain, server, count, random.Random(seed), worker)
    except Exception:  # Such as a server that has ended: it counts as a defect.
        tally = trials.Tally(kind)
        tally.add("not tried", traceback.format_exc())
    tallies.append(tally)
    print("%s: %s" % (worker, json.dumps(tallies[-1].to_json()["outcomes"])), flush=True)


def fuzz(folder, count):
    """Returns the report of altered files: the numbers of accepted, refused and unhandled ones."""
    from faults import fuzz  # This imports TensorFlow, which nothing else here does.

    tally = trials.Tally("fuzz")
    readers = fuzz.readers() + fuzz.checkpoint_readers(folder)
    for reader in readers:
        is_checkpoint = reader.name.startswith("ckpt")  # Its files need each other.
        place = folder if is_checkpoint else os.path.join(folder, reader.name + ".d")
        os.makedirs(place, exist_ok=True)
        try:
            taken, refused = fuzz.fuzz(reader, place, count // len(readers), is_fixed=False)
            tally.counts["taken"] += taken
            tally.counts["one line"] += refused
        except Exception as error:
            tally.add("neither", "%s: %s: %s" % (reader.name, type(error).__name__, error))
    return tally.to_json()


def merge(tallies):
    """Returns the Tallies of all workers merged by kind."""
    merged = trials.Tally(tallies[0].kind)
    for tally in tallies:
        merged.counts.update(tally.counts)
        merged.lost.update(tally.lost)
        merged.problems += tally.problems
    return merged


def run_all(folder, shim):
    """Runs all kinds of trials; returns the report."""
    servers = [world.Server(FLAGS.program, shim) for _ in range(FLAGS.workers)]
    report = {}
    chains = [
        trials.Chain(os.path.join(folder, "worker_%d" % number), server, commands(), FLAGS.quick)
        for number, server in enumerate(servers)
    ]
    for kind in KINDS:
        count = getattr(FLAGS, kind)
        tallies, threads = [], []
        for number, server in enumerate(servers):
            if kind == "surroundings":
                share = count[number :: len(servers)]
            else:
                share = (count + number) // len(servers)
            seed = "%d %s %d" % (FLAGS.seed, kind, number)
            arguments = (chains[number], server, kind, share, seed, "%s_%d" % (kind, number))
            threads.append(threading.Thread(target=run_kind, args=arguments + (tallies,)))
            threads[-1].start()
        for thread in threads:
            thread.join()
        report[kind] = merge(tallies).to_json()
    for server in servers:
        server.close()
    if FLAGS.fuzz:
        report["fuzz"] = fuzz(folder, FLAGS.fuzz)
    return report


def main(_):
    """Runs the trials, prints the counts and the defects, and writes the report."""
    began = time.time()
    if FLAGS.quick:
        for name, value in QUICK.items():
            if FLAGS[name].using_default_value:
                setattr(FLAGS, name, value)
    with tempfile.TemporaryDirectory() as folder:
        shim = world.compile_shim(folder)
        if shim is None:
            sys.exit("inject_faults.py: needs a C compiler, cc, to intercept file events")
        report = run_all(folder, shim)
    problems = [problem for kind in report.values() for problem in kind["problems"]]
    print(json.dumps({kind: found["outcomes"] for kind, found in report.items()}, indent=2))
    if FLAGS.out:
        report["seconds"] = round(time.time() - began)
        report["on"] = "%s, Python %s" % (platform.machine(), platform.python_version())
        with open(FLAGS.out, "w") as writer:
            json.dump(report, writer, indent=2)
    sys.exit(1 if problems else 0)


if __name__ == "__main__":
    app.run(main)
