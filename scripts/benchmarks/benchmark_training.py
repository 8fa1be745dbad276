"""Times training steps of all stages, and compares them with what the machine can do.

    python scripts/benchmarks/benchmark_training.py --data_dir=data/lcqmc \\
        --bert_pretrained_model=data/chinese_L-12_H-768_A-12 [--json=training.json]

It uses a BERT's shape and vocabulary (not its weights; speed does not depend on them) and real
pairs. Each row of the table is a stage in a process of its own, with the graph that
run_classifier.py builds. It runs `--num_steps` batches of an epoch's plan, evenly spaced by their
length; each of them is run once before it is timed.

  examples/s   of whole steps
  real         share of the computed tokens that are not padding
  loss+grad    median milliseconds of loss and gradients, by which stages are compared
  update       share of a step for the rest: clipping, decay and Adam
  MFU          model FLOPs utilisation: the operations per second of the products that these steps
               need (`step_flops`: real tokens, drawn paths, trained variables), as a share of those
               of one large product of the same precision, timed in the same process
  peak MB      the process's largest resident memory

--profile also prints, for each row, a step's milliseconds by type of operation.
"""

import collections
import itertools
import multiprocessing
import resource
import sys
import time

import numpy as np
import tensorflow.compat.v1 as tf
from absl import app, flags
from tqdm import tqdm

import benchmark_inference
import modeling_theseus
import optimization_theseus
from theseus.checkpoints import pretrained
from theseus.config.config import Config
from theseus.cost import step_flops
from theseus.errors import UserError
from theseus.inputs import batches, encoding, reading, sources, tasks
from theseus.inputs.tokenizer_settings import TokenizerSettings
from theseus.runs import files
from theseus.session import check_precision, new_session, session_config, set_up_tensorflow
from theseus.stage import PREDECESSOR, STAGES, SUCCESSOR, of_name
from theseus.training import graph as graph_lib

FLAGS = flags.FLAGS
TASK = tasks.TASKS["lcqmc_pair"]

REFERENCE_SIZE = 2048
LARGEST_SPREAD = 0.15
"""On a quiet machine, a product's median time exceeds its best time by at most this share."""

Row = collections.namedtuple("Row", "stage suc_layers rate batch_size precision")
"""The setting that one row of the table measures."""


def all_rows():
    """Returns the Rows for the flags; stage 0 has only one, since it has no successor."""
    stages = []
    for stage in map(of_name, FLAGS.stages):
        rates = map(float, FLAGS.rates) if stage.replaces else [None]
        depths = map(int, FLAGS.suc_layers) if stage.has_successor else [None]
        stages += [(stage.name,) + choice for choice in itertools.product(depths, rates)]
    choices = itertools.product(FLAGS.precisions, map(int, FLAGS.batch_sizes), stages)
    return [Row(*stage, batch_size, precision) for precision, batch_size, stage in choices]


def layers_on_path(groups, path, trained):
    """Returns the argument `layers` of `step_flops` for a path, bool [M], and trained variables."""
    names = {v.op.name for v in trained}
    trains_below = any(name.startswith("bert/embeddings/") for name in names)
    layers = []
    for index, group in enumerate(groups):
        scopes = ["suc_layer_%d" % index] if path[index] else ["layer_%d" % n for n in group]
        for scope in scopes:
            trains = "bert/encoder/%s/output/dense/kernel" % scope in names
            layers.append((trains, trains_below))
            trains_below = trains_below or trains
    return layers


class ReferenceProducts(object):
    """Matrix products as a reference, timed between the steps that are compared with them.

    On a shared machine, products timed before or after the steps might get another share of the
    processor than the steps.
    """

    def __init__(self, precision, tokens, config):
        """Makes a session with a large product, and with a layer's products for `tokens` tokens."""
        hidden, intermediate = config.hidden_size, config.intermediate_size
        self.sizes = [(REFERENCE_SIZE,) * 3, (tokens, hidden, hidden)]
        self.sizes += [(tokens, hidden, intermediate), (tokens, intermediate, hidden)]
        self.times = [[] for _ in self.sizes]
        self._session = tf.Session(graph=tf.Graph())
        with self._session.graph.as_default():
            self._products = [self._product(size, tf.as_dtype(precision)) for size in self.sizes]
            self._session.run(tf.global_variables_initializer())

    def _product(self, size, dtype):
        rows, inner, columns = size
        with tf.variable_scope(None, "product"):
            left = tf.get_variable("left", [rows, inner], dtype)
            return tf.matmul(left, tf.get_variable("right", [inner, columns], dtype)).op

    def sample(self):
        """Times each product once."""
        for product, times in zip(self._products, self.times):
            times.append(timed(self._session, product)[1])

    def rate(self):
        """Returns the operations per second of the fastest product, a float."""
        return best_rate(self.sizes, self.times)

    def spread(self):
        """Returns the share by which the large product's median time exceeds its best time."""
        return float(np.median(self.times[0]) / min(self.times[0]) - 1)


def best_rate(sizes, times):
    """Returns the largest number of operations per second, a float.

    Args:
      sizes: list of (M, K, N), for products [M, K] x [K, N].
      times: list of lists: the seconds of each product.
    """
    return max(2.0 * m * k * n / min(taken) for (m, k, n), taken in zip(sizes, times))


def timed(session, fetches, feed=None):
    """Returns (values of the fetches, seconds)."""
    start = time.perf_counter()
    values = session.run(fetches, feed)
    return values, time.perf_counter() - start


# --- One row, in a process of its own ---


def measure(row, options):
    """Measures a Row in this process; returns its figures, a dict of JSON values.

    Args:
      row: a Row.
      options: dict of the flags' values.
    """
    set_up_tensorflow()
    model = pretrained.read_model(options["bert_pretrained_model"], options["max_seq_length"])
    encoded = read_pairs(model, options)
    if options["xla"]:
        encoded.padded_lengths = encoding.few_lengths(options["max_seq_length"])
    if options["pad_to_max_length"]:
        encoded.padded_lengths = (options["max_seq_length"],)
    plan = batches.plan_epoch(encoded.lengths, row.batch_size, 1, 0)
    plan = benchmark_inference.spaced(plan, encoded.lengths, row.batch_size, options["num_steps"])
    groups = modeling_theseus.module_groups(
        of_name(row.stage), model.config.num_hidden_layers, row.suc_layers
    )
    grappler = graph_lib.benefits_from_grappler(model.config)
    with new_session(config=session_config(grappler, options["xla"])) as session:
        check_precision(row.precision)
        chosen = make_config(row, options["train_scope"])
        graph = graph_lib.build_graph(chosen, model.config, TASK, groups, num_train_steps=10**6)
        tokens = int(np.median([_num_tokens(encoded, rows) for rows in plan]))
        reference = ReferenceProducts(row.precision, tokens, model.config)
        steps = time_steps(session, graph, encoded, plan, reference)
        profile = profile_step(session, graph, encoded, plan) if options["profile"] else None
    flops = [
        step_flops(step.lengths, model.config, layers_on_path(groups, step.path, graph.trained))
        for step in steps
    ]
    peak_mb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024.0
    computed = sum(_num_tokens(encoded, rows) for rows in plan)
    figures = summarize(steps, flops, computed, reference.rate(), reference.spread())
    return dict(row._asdict(), peak_mb=peak_mb, profile=profile, **figures)


def _num_tokens(encoded, rows):
    """Returns the number of tokens of a batch, including padding."""
    return len(rows) * encoded.batch_length(rows)


def read_pairs(model, options):
    """Returns training pairs as EncodedExamples."""
    path = sources.find_files(options["data_dir"], TASK, "train")[0]
    examples = reading.read_examples(path, TASK)
    examples = reading.sample_examples(examples, options["max_train_examples"])
    tokenizer = pretrained.make_tokenizer(model, TokenizerSettings())
    return encoding.encode_examples(examples, TASK, tokenizer, options["max_seq_length"])


def make_config(row, train_scope):
    """Returns the Config of a Row; `train_scope` is that of stage 1."""
    stage = of_name(row.stage)
    return Config(
        finetune_pre=stage is PREDECESSOR,
        finetune_suc=stage is SUCCESSOR,
        train_scope=train_scope if stage.replaces else None,
        learning_rate=1e-5,
        num_train_epochs=1,
        train_batch_size=row.batch_size,
        seed=1,
        precision=row.precision,
        replace_rate_prob=row.rate,
    )


TimedStep = collections.namedtuple("TimedStep", "lengths path gradient_seconds seconds")
"""A step: int64 [B] tokens, bool [M] path, seconds of loss and gradients, seconds of all."""


def time_steps(session, graph, encoded, plan, reference):
    """Returns a TimedStep for each batch of the plan; each is run once before."""
    gradients = optimization_theseus.compute_gradients(graph.loss, graph.trained)
    # Fetch operations, not tensors: no value is copied, and none is optimized away.
    gradients = [graph.loss.op] + [
        getattr(gradient, "values", gradient).op for gradient in gradients
    ]
    session.run(tf.global_variables_initializer())
    steps = []
    for rows in tqdm(plan + plan, leave=False, disable=None):
        feed = make_feed(graph, encoded, rows)
        # Both runs have the same global step and therefore the same path.
        _, gradient_seconds = timed(session, gradients, feed)
        (path, _), seconds = timed(session, [graph.mask, graph.train_op], feed)
        steps.append(TimedStep(encoded.lengths[rows], path, gradient_seconds, seconds))
        reference.sample()
    return steps[len(plan) :]


def make_feed(graph, encoded, rows):
    """Returns the feed of a batch."""
    (inputs,) = graph.inputs
    feed = modeling_theseus.feed_features(inputs.features, encoded.batch(rows))
    feed[inputs.labels] = encoded.labels[rows]
    return feed


def profile_step(session, graph, encoded, plan):
    """Returns a dict from type of operation to the milliseconds of a step, the longest first.

    They are sums over the processor's threads, so operations that run at the same time both count;
    the mean over the batches of the plan.
    """
    options = tf.RunOptions(trace_level=tf.RunOptions.FULL_TRACE)
    spent = collections.Counter()
    for rows in plan:
        metadata = tf.RunMetadata()
        feed = make_feed(graph, encoded, rows)
        session.run(graph.train_op, feed, options=options, run_metadata=metadata)
        for device in metadata.step_stats.dev_stats:
            for node in device.node_stats:
                # "name = Type(inputs)", or only a name.
                kind = node.timeline_label.split(" = ")[-1].split("(")[0] or node.node_name
                microseconds = node.op_end_rel_micros - node.op_start_rel_micros
                spent[kind] += microseconds / 1000.0 / len(plan)
    return dict(spent.most_common())


def summarize(steps, flops, computed_tokens, product, spread):
    """Returns a row's figures, a dict.

    Args:
      steps: list of TimedStep.
      flops: list of float, the operations that each step needs.
      computed_tokens: int, the tokens of all batches, including padding.
      product: float, operations per second of the fastest product.
      spread: float, see `ReferenceProducts.spread`. If it is above `LARGEST_SPREAD`, or the steps
        seem faster than the products, the utilisation is None.
    """
    seconds = np.array([step.seconds for step in steps])
    gradient_seconds = np.array([step.gradient_seconds for step in steps])
    utilisation = sum(flops) / seconds.sum() / product
    is_quiet = spread <= LARGEST_SPREAD and utilisation <= 1
    return dict(
        examples_per_second=sum(len(step.lengths) for step in steps) / seconds.sum(),
        real_share=float(sum(step.lengths.sum() for step in steps)) / computed_tokens,
        gradients_ms=1000 * float(np.median(gradient_seconds)),
        update_share=1 - float(np.median(gradient_seconds / seconds)),
        utilisation=utilisation if is_quiet else None,
        product_gflops=product / 1e9,
        product_spread=spread,
    )


# --- The table ---


def format_row(figures):
    """Returns a row of the table, str."""
    return "%-11s  %-8s  %6s  %4s  %5d  %10.2f  %5.1f%%  %9.0f  %5.1f%%  %5s  %7.0f" % (
        figures["stage"],
        figures["precision"],
        figures["suc_layers"] or "",
        "" if figures["rate"] is None else "%.2g" % figures["rate"],
        figures["batch_size"],
        figures["examples_per_second"],
        100 * figures["real_share"],
        figures["gradients_ms"],
        100 * figures["update_share"],
        "noisy" if figures["utilisation"] is None else "%.2f" % figures["utilisation"],
        figures["peak_mb"],
    )


def format_profile(profile, lines=16):
    """Returns the lines for the types of operation that take longest, str."""
    return "\n".join(
        "    %8.1f ms  %s" % (milliseconds, kind)
        for kind, milliseconds in list(profile.items())[:lines]
    )


HEADER = "stage        precision layers  rate  batch  examples/s    real"
HEADER += "  loss+grad  update    MFU  peak MB"


def main(argv):
    del argv
    options, results = FLAGS.flag_values_dict(), []
    print(HEADER, flush=True)
    for row in all_rows():
        # Each row has a new process, so that its peak memory is its own.
        with multiprocessing.get_context("spawn").Pool(1) as pool:
            try:
                results.append(pool.apply(measure, (row, options)))
            except UserError as error:
                sys.exit("benchmark_training.py: %s" % error)
            finally:  # Killed processes leave the locks of progress bars behind, with a warning.
                pool.close()
                pool.join()
        print(format_row(results[-1]), flush=True)
        if FLAGS.profile:
            print(format_profile(results[-1]["profile"]), flush=True)
    for precision in sorted({figures["precision"] for figures in results}):
        held = [figures for figures in results if figures["precision"] == precision]
        rates = [figures["product_gflops"] for figures in held]
        spread = max(figures["product_spread"] for figures in held)
        print(
            "the fastest %s product: %.0f to %.0f GFLOP/s; the large one took up to %.0f %% longer "
            "than at best%s"
            % (
                precision,
                min(rates),
                max(rates),
                100 * spread,
                ": other programs use this machine" if spread > LARGEST_SPREAD else "",
            )
        )
    if FLAGS.json:
        files.write_json(FLAGS.json, results)


if __name__ == "__main__":
    flags.DEFINE_string("data_dir", "data/sample", "Folder with train.")
    flags.DEFINE_string(
        "bert_pretrained_model", "data/tiny_bert", "Folder with the config of a BERT."
    )
    flags.DEFINE_list("suc_layers", ["6"], "Numbers of layers of the successor, a row for each.")
    flags.DEFINE_list("precisions", ["float32"], "float32, bfloat16, or both.")
    flags.DEFINE_list("batch_sizes", ["64"], "Numbers of pairs in a step, a row for each.")
    flags.DEFINE_list("rates", ["0", "0.5", "1"], "Replacing rates of stage 1.")
    flags.DEFINE_list("stages", [stage.name for stage in STAGES], "Stages to time.")
    flags.DEFINE_enum(
        "train_scope",
        "successor",
        ["all", "successor", "successor_layers"],
        "Value of --train_scope in stage 1.",
    )
    flags.DEFINE_integer(
        "max_seq_length", 128, "Maximum length of a pair in tokens.", lower_bound=5
    )
    flags.DEFINE_integer(
        "max_train_examples",
        20000,
        "Number of pairs from which the batches are planned.",
        lower_bound=1,
    )
    flags.DEFINE_integer("num_steps", 12, "Number of timed steps.", lower_bound=1)
    flags.DEFINE_bool("profile", False, "Also print the time of each operation of a step.")
    flags.DEFINE_bool("pad_to_max_length", False, "Pad every batch to --max_seq_length.")
    flags.DEFINE_bool("xla", False, "Compile the steps with XLA, for a GPU.")
    flags.DEFINE_string("json", None, "JSON file for the rows.")
    app.run(main)
