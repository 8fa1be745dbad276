"""Measures onnxruntime's threads on an ONNX export, alone and beside busy processes.

    python scripts/benchmarks/benchmark_threads.py out_compressed/model [--busy=0,1,2]

It prints the median and the 95th percentile of the milliseconds for batches of 1 and of 10 examples
with --tokens tokens. There is a row for each number of busy processes, each number of threads, and
for threads that spin while they wait or do not. The settings take turns.
"""

import contextlib
import itertools
import os
import subprocess
import sys
import time

import numpy as np
from absl import app, flags

from theseus.export import read_back

FLAGS = flags.FLAGS
_WARM_UP = 10  # Runs that are not timed.


def open_sessions(path, threads):
    """Returns a dict from (number of threads, whether they spin) to an InferenceSession."""
    import onnxruntime  # Here, since TensorFlow 1.15.5's environment has none.

    sessions = {}
    for count, spins in itertools.product(threads, (True, False)):
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = count
        options.add_session_config_entry("session.intra_op.allow_spinning", str(int(spins)))
        providers = ["CPUExecutionProvider"]
        sessions[count, spins] = onnxruntime.InferenceSession(path, options, providers=providers)
    return sessions


def measure(sessions, batch_size, num_tokens, num_runs):
    """Returns a dict from the sessions' keys to the milliseconds of each run, list of float."""
    ids = np.ones([batch_size, num_tokens], np.int64)
    arrays = {"input_ids": ids, "input_mask": ids, "segment_ids": np.zeros_like(ids)}
    fed = read_back.as_hugging_face(arrays)
    found = {key: [] for key in sessions}
    for run in range(_WARM_UP + num_runs):
        for key, session in sessions.items():
            begin = time.perf_counter()
            session.run(["logits"], fed)
            if run >= _WARM_UP:
                found[key].append(1000 * (time.perf_counter() - begin))
    return found


@contextlib.contextmanager
def busy_processes(count):
    """Runs that many processes that only compute, in the context."""
    others = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(count)]
    try:
        yield
    finally:
        for other in others:
            other.kill()


def main(argv):
    """Prints a row for each setting."""
    if len(argv) != 2:
        sys.exit("benchmark_threads.py: give one ONNX export, such as out_compressed/model")
    sessions = open_sessions(os.path.join(argv[1], "model.onnx"), list(map(int, FLAGS.threads)))
    print("busy  batch  threads  spin    median       p95")
    for busy in map(int, FLAGS.busy):
        with busy_processes(busy):
            for size in (1, 10):
                for key, times in measure(sessions, size, FLAGS.tokens, FLAGS.runs).items():
                    figures = (np.median(times), np.percentile(times, 95))
                    words = (busy, size, key[0], "yes" if key[1] else "no", *figures)
                    print("%4d  %5d  %7d  %4s  %5.2f ms  %5.2f ms" % words)


if __name__ == "__main__":
    flags.DEFINE_list("busy", ["0", "1", "2"], "Numbers of busy processes.")
    flags.DEFINE_list("threads", ["1", "2"], "Numbers of threads.")
    flags.DEFINE_integer("tokens", 24, "Number of tokens of an example.", 3)
    flags.DEFINE_integer("runs", 200, "Number of timed runs of each setting.", 1)
    app.run(main)
