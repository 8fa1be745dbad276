"""Times inference: a BERT against successors of it, from tokens and from text.

    python scripts/benchmarks/benchmark_inference.py [--bert_pretrained_model=data/tiny_bert] \\
        [--suc_layers=6,2] [--batch_sizes=10,1] [--precisions=float32] [--json=inference.json]

The default is the published setting: both sentences have 60 tokens, which makes 123 with the three
special ones, in batches of 10 and of 1. --sentence_tokens=15,30,60 varies the length, and
scripts/benchmarks/plot_benchmarks.py draws the result. With --data_dir it uses real pairs of dev,
in batches of similar length, as --do_eval and --do_predict form them. The weights are random; speed
does not depend on them. The models take turns, batch by batch, so that the ratios stay right if the
machine's speed changes.

  graph p50, p95   milliseconds of a batch in the graph alone: ids in, logits out
  text p50, p95    the same from text: tokenizing, padding, graph, label
  pairs/s          of the graph, over all batches
  speed-up         of the graph's median over the BERT's
"""

import collections
import contextlib
import itertools
import sys
import time

import numpy as np
import tensorflow.compat.v1 as tf
from absl import app, flags
from tqdm import tqdm

import modeling_theseus
from theseus.checkpoints import pretrained
from theseus.errors import UserError
from theseus.inference import evaluation
from theseus.inputs import batches, encoding, reading, sources, tasks
from theseus.inputs.tokenizer_settings import TokenizerSettings
from theseus.model.layers import kernels_kept_in
from theseus.runs import files
from theseus.session import check_precision, new_session, set_up_tensorflow

FLAGS = flags.FLAGS
TASK = tasks.TASKS["lcqmc_pair"]

TimedModel = collections.namedtuple("TimedModel", "layers session graph")
"""A classifier with its number of layers; `graph` is an evaluation.EvaluationGraph."""

Batch = collections.namedtuple("Batch", "examples rows")
"""A list of reading.Example, and their row numbers among all encoded examples."""


def random_pairs(tokenizer, count, sentence_tokens):
    """Returns `count` Examples of two sentences of that many one-character tokens."""
    # The characters that are a token of their own next to any other.
    words = [token for token in tokenizer.vocab if tokenizer.tokenize(token * 2) == [token] * 2]
    random = np.random.RandomState(0)

    def sentence():
        return "".join(random.choice(words, sentence_tokens))

    return [reading.Example(sentence(), sentence(), None) for _ in range(count)]


def spaced(plan, lengths, batch_size, count):
    """Returns `count` full batches of a plan, evenly spaced in their tokens, in random order."""
    full = [rows for rows in plan if len(rows) == batch_size]
    if not full:
        raise UserError(
            "--batch_sizes: dev has fewer than %d pairs; give smaller ones" % batch_size
        )
    full.sort(key=lambda rows: lengths[rows].sum())
    places = ((np.arange(count) + 0.5) * len(full) / count).astype(int)
    return [full[place] for place in np.random.RandomState(1).permutation(places)]


def make_batches(examples, encoded, batch_size, count):
    """Returns `count` full Batches, evenly spaced by their length, in random order."""
    plan = batches.plan_in_length_order(encoded.lengths, batch_size)
    chosen = spaced(plan, encoded.lengths, batch_size, count)
    return [Batch([examples[row] for row in rows], rows) for rows in chosen]


@contextlib.contextmanager
def open_model(config, num_layers, precision):
    """Yields the TimedModel of the BERT cut to `num_layers` layers, with random weights."""
    groups = modeling_theseus.equal_groups(config.num_hidden_layers, num_layers)
    path = [True] * len(groups)
    with new_session(grappler=True) as session, kernels_kept_in(precision):
        modules = modeling_theseus.encoder_modules(config, groups, path)
        graph = evaluation.build_graph(config, 2, modules, precision)
        session.run(tf.global_variables_initializer())
        yield TimedModel(num_layers, session, graph)


def seconds_of_graph(model, arrays):
    """Returns the seconds of one batch of padded arrays."""
    start = time.perf_counter()
    model.session.run(
        model.graph.logits, modeling_theseus.feed_features(model.graph.features, arrays)
    )
    return time.perf_counter() - start


def seconds_from_text(model, examples, tokenizer, max_seq_length):
    """Returns the seconds of one batch of Examples."""
    start = time.perf_counter()
    encoded = encoding.encode_examples(examples, TASK, tokenizer, max_seq_length)
    feed = modeling_theseus.feed_features(
        model.graph.features, encoded.batch(np.arange(len(examples)))
    )
    model.session.run(model.graph.logits, feed).argmax(axis=1)
    return time.perf_counter() - start


def measure(models, batches, encoded, tokenizer):
    """Returns a dict from a model's layers to its (graph, text) seconds, float [2, batches]."""
    times = {model.layers: [] for model in models}
    for number, batch in enumerate(tqdm(batches + batches, leave=False, disable=None)):
        arrays = encoded.batch(batch.rows)
        for model in models:
            seconds = (
                seconds_of_graph(model, arrays),
                seconds_from_text(model, batch.examples, tokenizer, FLAGS.max_seq_length),
            )
            if number >= len(batches):  # The first round does not count: all shapes are new.
                times[model.layers].append(seconds)
    return {layers: np.transpose(seconds) for layers, seconds in times.items()}


def summarize(times, layers, batch_size, precision, tokens):
    """Returns the figures of a row of the table, a dict; `tokens` is a pair's mean number."""
    graph, text = 1000 * times[layers]
    return dict(
        layers=layers,
        precision=precision,
        batch_size=batch_size,
        tokens=tokens,
        graph_p50_ms=float(np.median(graph)),
        graph_p95_ms=float(np.percentile(graph, 95)),
        text_p50_ms=float(np.median(text)),
        text_p95_ms=float(np.percentile(text, 95)),
        pairs_per_second=1000 * batch_size * len(graph) / float(graph.sum()),
        speed_up=float(np.median(1000 * times[max(times)][0]) / np.median(graph)),
    )


HEADER = "layers  precision  batch  tokens  graph p50     p95  text p50     p95   pairs/s  speed-up"


def format_row(figures):
    """Returns a row of the table, str."""
    return "%6d  %-9s  %5d  %6.1f  %9.1f  %6.1f  %8.1f  %6.1f  %8.1f  %7.2fx" % (
        figures["layers"],
        figures["precision"],
        figures["batch_size"],
        figures["tokens"],
        figures["graph_p50_ms"],
        figures["graph_p95_ms"],
        figures["text_p50_ms"],
        figures["text_p95_ms"],
        figures["pairs_per_second"],
        figures["speed_up"],
    )


def run():
    """Measures all rows and prints them; returns them."""
    model = pretrained.read_model(FLAGS.bert_pretrained_model, FLAGS.max_seq_length)
    tokenizer = pretrained.make_tokenizer(model, TokenizerSettings())
    sizes = [int(size) for size in FLAGS.batch_sizes]
    depths = [model.config.num_hidden_layers] + [int(layers) for layers in FLAGS.suc_layers]
    results = []
    print(HEADER, flush=True)
    for examples in example_sets(tokenizer, max(sizes)):
        encoded = encoding.encode_examples(examples, TASK, tokenizer, FLAGS.max_seq_length)
        for precision, batch_size in itertools.product(FLAGS.precisions, sizes):
            check_precision(precision)
            batches = make_batches(examples, encoded, batch_size, FLAGS.num_batches)
            tokens = float(np.mean([encoded.lengths[b.rows].mean() for b in batches]))
            with contextlib.ExitStack() as stack:
                opened = [open_model(model.config, depth, precision) for depth in depths]
                models = [stack.enter_context(manager) for manager in opened]
                times = measure(models, batches, encoded, tokenizer)
            for depth in depths:
                results.append(summarize(times, depth, batch_size, precision, tokens))
                print(format_row(results[-1]), flush=True)
    return results


def example_sets(tokenizer, largest_batch):
    """Yields lists of Examples: dev of --data_dir, or random pairs of each length."""
    if FLAGS.data_dir:
        yield reading.read_examples(sources.find_files(FLAGS.data_dir, TASK, "dev")[0], TASK)
        return
    for sentence_tokens in map(int, FLAGS.sentence_tokens):
        yield random_pairs(tokenizer, 4 * largest_batch, sentence_tokens)


def main(argv):
    del argv
    set_up_tensorflow()
    try:
        results = run()
    except UserError as error:
        sys.exit("benchmark_inference.py: %s" % error)
    if FLAGS.json:
        files.write_json(FLAGS.json, results)


if __name__ == "__main__":
    flags.DEFINE_string(
        "data_dir", None, "Folder with the dev file that is timed. Default: random pairs."
    )
    flags.DEFINE_list("sentence_tokens", ["60"], "Tokens of each sentence of random pairs.")
    flags.DEFINE_string(
        "bert_pretrained_model", "data/tiny_bert", "Folder with the config of a BERT."
    )
    flags.DEFINE_list("suc_layers", ["6", "2"], "Numbers of layers of the successors.")
    flags.DEFINE_list("batch_sizes", ["10", "1"], "Numbers of pairs in a batch, a row for each.")
    flags.DEFINE_list("precisions", ["float32"], "float32, bfloat16, or both.")
    flags.DEFINE_integer(
        "max_seq_length", 128, "Maximum length of a pair in tokens.", lower_bound=5
    )
    flags.DEFINE_integer("num_batches", 20, "Number of timed batches.", lower_bound=1)
    flags.DEFINE_string("json", None, "JSON file for the rows.")
    app.run(main)
