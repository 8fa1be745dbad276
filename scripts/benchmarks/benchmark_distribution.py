"""Measures what a second worker gains: training by 1 and 2 workers with one core each.

  python scripts/benchmarks/benchmark_distribution.py --data_dir=data/sample

It prints three rows for each shape of BERT: one process with one core, one process with two cores,
and two workers with one core each, which share a batch and exchange gradients over loopback. A step
is a step of stage 0 on pairs of --data_dir's train. Then it prints an estimate for more workers and
a network: the measured step of a worker plus the time for its bytes at the network's speed.
"""

import contextlib
import json
import os
import socket
import subprocess
import sys
import time

import numpy as np
import tensorflow.compat.v1 as tf
from absl import app, flags

import modeling_theseus
from theseus.checkpoints import pretrained
from theseus.config.config import Config
from theseus.distribution.replicas import opened
from theseus.inputs import batches, encoding, reading, sources, tasks
from theseus.inputs.tokenizer_settings import TokenizerSettings
from theseus.runs import files
from theseus.session import set_up_tensorflow
from theseus.stage import PREDECESSOR
from theseus.training import graph as graph_lib
from theseus.training.steps import StepRunner

FLAGS = flags.FLAGS

flags.DEFINE_string("data_dir", "data/sample", "Folder with train.")
flags.DEFINE_string("bert_pretrained_model", "data/tiny_bert", "The BERT whose vocabulary is used.")
flags.DEFINE_list(
    "hidden_sizes", ["128", "768"], "Widths of the BERTs of 12 layers; 768 is base's."
)
flags.DEFINE_list("batch_sizes", ["64", "16"], "Number of examples in a step, for each width.")
flags.DEFINE_integer("max_seq_length", 64, "Maximum length of an example in tokens.", lower_bound=5)
flags.DEFINE_integer("num_steps", 10, "Number of timed steps; two run before them, untimed.", 1)
flags.DEFINE_string("json", None, "JSON file for the figures.")

TASK = tasks.TASKS["lcqmc_pair"]
ROWS = [("one process, one core", 1, 1), ("one process, two cores", 1, 2)]
ROWS += [("two workers, one core each", 2, 1)]
NETWORKS = (10, 25)  # Gbit/s.
WORKERS = (2, 4, 8, 16)


def shape(hidden_size, vocab_size):
    """Returns the BertConfig of 12 layers of that width, with 64-wide heads as in BERT-base."""
    return modeling_theseus.BertConfig(
        vocab_size=vocab_size,
        hidden_size=hidden_size,
        num_attention_heads=max(1, hidden_size // 64),
        intermediate_size=4 * hidden_size,
    )


def all_reduce_bytes(num_parameters, num_workers):
    """Returns the bytes that each worker sends in a step of a ring all-reduce of the gradients.

    Source: Patarasu and Yuan, Bandwidth optimal all-reduce algorithms, 2009, section 4.
    """
    return 2.0 * (num_workers - 1) / num_workers * 4 * num_parameters


def expected_efficiency(seconds, num_parameters, num_workers, gigabits):
    """Returns the expected speed of N workers, as a share of N times one worker's speed.

    Each worker has a batch as large as that of one worker alone.

    Args:
      seconds: float, a step of one worker alone.
      num_parameters: int.
      num_workers: int, N.
      gigabits: float, the network's Gbit/s, which is assumed to be reached.
    """
    sent = all_reduce_bytes(num_parameters, num_workers) * 8 / (gigabits * 1e9)
    return seconds / (seconds + sent)


# --- One worker, in a process of its own ---


def work(options):
    """Trains some steps; prints the median of their seconds, the parameters and the bytes sent."""
    os.sched_setaffinity(0, options["cores"])
    set_up_tensorflow()
    model = pretrained.read_model(options["bert"], options["max_seq_length"])
    tokenizer = pretrained.make_tokenizer(model, TokenizerSettings())
    examples = reading.read_examples(
        sources.find_files(options["data_dir"], TASK, "train")[0], TASK
    )
    encoded = encoding.encode_examples(examples, TASK, tokenizer, options["max_seq_length"])
    config = shape(options["hidden_size"], max(tokenizer.inv_vocab) + 1)
    plan = batches.plan_epoch(encoded.lengths, options["batch_size"], 1, 0)
    is_alone = "TF_CONFIG" not in os.environ
    with contextlib.ExitStack() as stack:
        replicas = stack.enter_context(opened("none" if is_alone else "multi_worker", 120.0))
        session = stack.enter_context(replicas.session(graph_lib.benefits_from_grappler(config)))
        chosen = Config(finetune_pre=True, train_batch_size=options["batch_size"], seed=1)
        groups = modeling_theseus.module_groups(PREDECESSOR, config.num_hidden_layers, 6)
        graph = graph_lib.build_graph(chosen, config, TASK, groups, 10**6, replicas)
        session.run([tf.global_variables_initializer(), tf.local_variables_initializer()])
        runner = StepRunner(session, graph, encoded, 1, replicas)
        for rows in plan[:2]:
            runner.run(rows)
        seconds, sent = [], _loopback_bytes()
        for rows in plan[2 : 2 + options["num_steps"]]:
            start = time.perf_counter()
            runner.run(rows)
            seconds.append(time.perf_counter() - start)
        sent = None if sent is None else (_loopback_bytes() - sent) / len(seconds)
    parameters = graph_lib.count_parameters(graph.trained)
    print(json.dumps({"seconds": np.median(seconds), "parameters": parameters, "sent": sent}))


def _loopback_bytes():
    """Returns the bytes sent over this machine's loopback, int; None if they are not counted."""
    with contextlib.suppress(OSError), open("/proc/net/dev") as reader:
        for line in reader:
            name, _, counts = line.partition(":")
            if name.strip() == "lo":
                return int(counts.split()[0])
    return None


# --- All rows ---


def measure(name, num_workers, num_cores, options):
    """Returns the figures of a row's slowest worker, a dict."""
    ports = _free_ports(num_workers)
    workers = []
    for rank in range(num_workers):
        cores = list(range(rank * num_cores, (rank + 1) * num_cores))
        environment = dict(os.environ, TF_CPP_MIN_LOG_LEVEL="2")
        if num_workers > 1:
            cluster = {"worker": ["localhost:%d" % port for port in ports]}
            task = {"type": "worker", "index": rank}
            environment["TF_CONFIG"] = json.dumps({"cluster": cluster, "task": task})
        call = [sys.executable, os.path.abspath(__file__), "--"]
        call.append(json.dumps(dict(options, cores=cores)))
        workers.append(subprocess.Popen(call, env=environment, stdout=subprocess.PIPE))
    outputs = [worker.communicate()[0].decode("utf-8") for worker in workers]
    if any(worker.returncode for worker in workers):
        sys.exit("benchmark_distribution.py: %s: a worker failed" % name)
    found = [json.loads(output.splitlines()[-1]) for output in outputs]
    slowest = max(found, key=lambda figures: figures["seconds"])
    rate = options["batch_size"] / slowest["seconds"]
    return dict(slowest, row=name, examples_per_second=rate, **options)


def _free_ports(count):
    probes = [socket.socket() for _ in range(count)]
    for probe in probes:
        probe.bind(("", 0))
    ports = [probe.getsockname()[1] for probe in probes]
    for probe in probes:
        probe.close()
    return ports


def print_expected(alone):
    """Prints the estimated efficiencies from the figures of one process."""
    parameters, seconds = alone["parameters"], alone["seconds"]
    sent = all_reduce_bytes(parameters, 2) / 1e6
    print(
        "  %.1f million parameters; each of 2 workers sends %.0f MB a step"
        % (parameters / 1e6, sent)
    )
    for gigabits in NETWORKS:
        shares = [expected_efficiency(seconds, parameters, count, gigabits) for count in WORKERS]
        shares = ", ".join("%d: %.0f%%" % (n, 100 * share) for n, share in zip(WORKERS, shares))
        print("  expected over %d Gbit/s, efficiency by workers: %s" % (gigabits, shares))


def main(argv):
    """Measures and prints each shape's rows."""
    if len(argv) > 1:
        work(json.loads(argv[1]))
        return
    results = []
    for hidden_size, batch_size in zip(FLAGS.hidden_sizes, FLAGS.batch_sizes):
        options = dict(hidden_size=int(hidden_size), batch_size=int(batch_size))
        options.update(data_dir=FLAGS.data_dir, bert=FLAGS.bert_pretrained_model)
        options.update(max_seq_length=FLAGS.max_seq_length, num_steps=FLAGS.num_steps)
        print("12 layers, %s wide, batches of %s" % (hidden_size, batch_size))
        rows = []
        for name, num_workers, num_cores in ROWS:
            rows.append(measure(name, num_workers, num_cores, options))
            rate = rows[-1]["examples_per_second"]
            ratio = rate / rows[0]["examples_per_second"]
            print("  %-27s %7.1f examples/s, %.2f times" % (name, rate, ratio), flush=True)
        if rows[-1]["sent"]:
            print("  over loopback, both workers: %.0f MB a step" % (rows[-1]["sent"] / 1e6))
        print_expected(rows[1])
        results += rows
    if FLAGS.json:
        files.write_json(FLAGS.json, results)


if __name__ == "__main__":
    app.run(main)
