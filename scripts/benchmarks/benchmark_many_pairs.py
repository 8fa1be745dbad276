"""Measures encoding many pairs, starting from the cache, and training on them: time and memory.

  python scripts/benchmarks/benchmark_many_pairs.py --num_pairs=10000000

The pairs are those of --data_dir's train, repeated and shuffled. Each row is a process of its own;
its memory is the largest resident set. The memory of its encoding processes is printed beside it.
"""

import json
import os
import resource
import subprocess
import sys
import tempfile
import time

import numpy as np
from absl import app, flags

from theseus.inputs import batches, cache, parallel_encoding, reading, sources, tasks
from theseus.inputs.encoding import EncodedExamples
from theseus.runs import files
from theseus.runs.files import hash_files
from tokenization import FullTokenizer

FLAGS = flags.FLAGS

flags.DEFINE_string("data_dir", "data/sample", "Folder with train.")
flags.DEFINE_string("bert_pretrained_model", "data/tiny_bert", "BERT whose vocab.txt is read.")
flags.DEFINE_integer("num_pairs", 1000000, "Number of pairs to encode.", lower_bound=1)
flags.DEFINE_integer("num_few_pairs", 100000, "Number of pairs of the training that is compared.")
flags.DEFINE_list(
    "num_encoding_processes", ["1", "2"], "Numbers of encoding processes, a row for each."
)
flags.DEFINE_integer("max_seq_length", 64, "As for training.", lower_bound=5)
flags.DEFINE_string("json", None, "JSON file for the figures.")

TASK = tasks.TASKS["lcqmc_pair"]


def write_pairs(path, source, count):
    """Writes `count` lines: those of a file, repeated, each time in another order."""
    with open(source, "rb") as reader:
        lines = reader.read().splitlines()
    random = np.random.RandomState(0)
    with open(path, "wb") as writer:
        while count:
            order = random.permutation(len(lines))[:count]
            writer.writelines(lines[row] + b"\n" for row in order)
            count -= len(order)


def measure(what, folder, options):
    """Returns the seconds that `what` takes in this process, which has done nothing else.

    Args:
      what: "encode", "start" or "epoch".
      folder: str, with train.txt, and the cache.
      options: dict of the flags' values; num_encoding_processes is an int.
    """
    tokenizer = FullTokenizer(os.path.join(options["bert_pretrained_model"], "vocab.txt"))
    path = os.path.join(folder, "train.txt")

    def encode():
        assert what == "encode", "not in the cache"
        encoder = parallel_encoding.Encoder(TASK, tokenizer, options["max_seq_length"])
        examples = reading.iterate_sample(path, TASK, None)
        return parallel_encoding.encode_parts(examples, encoder, options["num_encoding_processes"])

    start = time.perf_counter()
    hash_files([path])
    kept = os.path.join(folder, "cache_%d" % options["num_encoding_processes"])
    encoded = EncodedExamples(**cache.through_cache(kept, EncodedExamples.ARRAYS, encode))
    if what == "epoch":
        for rows in batches.plan_epoch(encoded.lengths, 64, 1, 0):
            encoded.batch(rows)
    return time.perf_counter() - start


def run_row(what, folder, options):
    """Returns the figures of `measure` in a process of its own, a dict."""
    call = json.dumps([what, folder, options])
    output = subprocess.check_output([sys.executable, os.path.abspath(__file__), "--", call])
    return json.loads(output.decode("utf-8").splitlines()[-1])


def print_figures(what, folder, options):
    """Measures in this process, and prints the figures as JSON."""
    seconds = measure(what, folder, options)
    mib = [
        resource.getrusage(who).ru_maxrss / 1024.0
        for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)
    ]
    print(json.dumps({"seconds": seconds, "mib": mib[0], "mib_of_each_encoder": mib[1]}))


def main(argv):
    """Writes the pairs, measures each row and prints it."""
    if len(argv) > 1:
        print_figures(*json.loads(argv[1]))
        return
    options = FLAGS.flag_values_dict()
    options = {name: options[name] for name in ("bert_pretrained_model", "max_seq_length")}
    source = sources.find_files(FLAGS.data_dir, TASK, "train")[0]
    rows = []
    with tempfile.TemporaryDirectory() as root:
        for count in (FLAGS.num_few_pairs, FLAGS.num_pairs):
            folder = os.path.join(root, str(count))
            os.mkdir(folder)
            write_pairs(os.path.join(folder, "train.txt"), source, count)
            for number in map(int, FLAGS.num_encoding_processes):
                given = dict(options, num_encoding_processes=number)
                for what in ("encode", "start", "epoch"):
                    row = dict(run_row(what, folder, given), what=what, pairs=count)
                    rows.append(dict(row, num_encoding_processes=number))
                    print(
                        "%-6s %9d pairs, %d processes: %7.1f s, %5.0f MiB, each encoder %5.0f MiB"
                        % (
                            what,
                            count,
                            number,
                            row["seconds"],
                            row["mib"],
                            row["mib_of_each_encoder"],
                        ),
                        flush=True,
                    )
    if FLAGS.json:
        files.write_json(FLAGS.json, rows)


if __name__ == "__main__":
    app.run(main)
