"""Measures a model under load: a Classifier used by many threads, and --do_predict on large files.

  python scripts/benchmarks/benchmark_load.py --model=out_2

The texts are those of --text_file, repeated. It prints the number of answers that differ between
threads, spawned processes and a single thread, which should be 0; the memory before and after all
texts; and for each --do_predict, in a process of its own, seconds and the largest resident set.
"""

import io
import itertools
import json
import multiprocessing
import os
import resource
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
from absl import app, flags

from theseus.classifier import Classifier
from theseus.runs import files
from theseus.session import set_up_tensorflow

FLAGS = flags.FLAGS

flags.DEFINE_string("model", "out_2", "A stage's output folder.")
flags.DEFINE_string(
    "text_file", "data/sample/dev.txt", "File of pairs of texts, separated by tabs."
)
flags.DEFINE_string(
    "predict_flags",
    "--finetune_suc --suc_layers=2",
    "Flags of run_classifier.py that name the model.",
)
flags.DEFINE_integer("texts", 100000, "Number of pairs that the Classifier answers.", 1)
flags.DEFINE_integer("threads", 8, "Number of threads that ask at the same time.", 1)
flags.DEFINE_list(
    "rows", ["1000", "10000", "100000", "1000000"], "Numbers of rows of the predicted files."
)
flags.DEFINE_list("line_mb", ["1", "100"], "Sizes in megabytes of files that are a single line.")
flags.DEFINE_string("json", None, "JSON file for the figures.")

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
BATCH = 500  # Pairs in a call.


def read_pairs(path):
    """Returns the first two columns of a file's lines, list of (str, str)."""
    with io.open(path, encoding="utf-8") as reader:
        return [tuple(line.rstrip("\n").split("\t")[:2]) for line in reader]


def resident_mb():
    """Returns the memory that this process holds now, in MB."""
    with open("/proc/self/statm") as reader:
        return int(reader.read().split()[1]) * resource.getpagesize() / 1e6


def ask(model, pairs):
    """Returns the probabilities of pairs as one array, float64 [pairs, labels]."""
    return np.array([probabilities for _, probabilities in model.classify(pairs)])


def _ask_in_process(path, pairs):
    with Classifier(path) as model:
        return ask(model, pairs)


def measure_threads(path, pairs, count):
    """Asks a Classifier for `count` pairs, from many threads; returns the figures, a dict."""
    with Classifier(path) as model:
        expected = ask(model, pairs)
        before, start = resident_mb(), time.perf_counter()
        calls, wrong = -(-count // len(pairs)), 0
        with ThreadPoolExecutor(FLAGS.threads) as pool:
            for found in pool.map(lambda _: ask(model, pairs), range(calls)):
                wrong += int((np.abs(found - expected) > 1e-5).any(axis=1).sum())
        seconds = time.perf_counter() - start
        after = resident_mb()
    spawned = multiprocessing.get_context("spawn").Pool(2)
    with spawned as processes:
        found = processes.starmap(_ask_in_process, [(path, pairs[:50])] * 2)
    wrong_there = sum(int((np.abs(f - expected[:50]) > 1e-5).any(axis=1).sum()) for f in found)
    return {
        "pairs": calls * len(pairs),
        "pairs_per_second": calls * len(pairs) / seconds,
        "wrong_in_threads": wrong,
        "wrong_in_processes": wrong_there,
        "mb_before": before,
        "mb_after": after,
    }


def predict(folder, file):
    """Runs --do_predict on a file in a process; returns (exit status, seconds, MB, last line)."""
    command = [sys.executable, os.path.join(ROOT, "run_classifier.py"), "--do_predict"]
    command += FLAGS.predict_flags.split()
    command += ["--stage_2_outputdir=" + FLAGS.model, "--predict_file=" + file]
    start = time.perf_counter()
    errors = os.path.join(folder, "errors")
    with open(errors, "w") as writer:
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=writer)
        _, status, usage = os.wait4(process.pid, 0)
    with io.open(errors, encoding="utf-8", errors="replace") as reader:
        lines = [line for line in reader.read().splitlines() if line.strip()]
    seconds = time.perf_counter() - start
    status = -os.WTERMSIG(status) if os.WIFSIGNALED(status) else os.WEXITSTATUS(status)
    return status, seconds, usage.ru_maxrss * 1024 / 1e6, lines[-1:]


def predict_rows(folder, pairs, count):
    """Returns the figures of --do_predict on `count` rows, a dict."""
    path = os.path.join(folder, "rows.txt")
    with io.open(path, "w", encoding="utf-8") as writer:
        for a, b in itertools.islice(itertools.cycle(pairs), count):
            writer.write("%s\t%s\n" % (a, b))
    status, seconds, megabytes, _ = predict(folder, path)
    return {"rows": count, "status": status, "seconds": seconds, "mb": megabytes}


def predict_line(folder, size_mb):
    """Returns the figures of --do_predict on one line of `size_mb` megabytes, a dict."""
    path = os.path.join(folder, "line.txt")
    with io.open(path, "w", encoding="utf-8") as writer:
        writer.write("手" * (int(size_mb) * 1000000 // 3) + "\t手机\n")
    status, seconds, megabytes, line = predict(folder, path)
    return {"line_mb": size_mb, "status": status, "seconds": seconds, "mb": megabytes, "says": line}


def main(_):
    """Measures all rows and prints each one at once."""
    set_up_tensorflow()
    pairs = read_pairs(FLAGS.text_file)[:BATCH]
    rows = [measure_threads(FLAGS.model, pairs, FLAGS.texts)]
    print(json.dumps(rows[-1], ensure_ascii=False), flush=True)
    with tempfile.TemporaryDirectory() as folder:
        jobs = [(predict_rows, pairs, int(count)) for count in FLAGS.rows]
        jobs += [(predict_line, size) for size in FLAGS.line_mb]
        for job in jobs:
            rows.append(job[0](folder, *job[1:]))
            print(json.dumps(rows[-1], ensure_ascii=False), flush=True)
    if FLAGS.json:
        files.write_json(FLAGS.json, rows)


if __name__ == "__main__":
    app.run(main)
