"""Times models as they are served, from text to label: exports of a BERT and of its successors.

    python scripts/benchmarks/benchmark_serving.py [--bert_pretrained_model=data/tiny_bert] \\
        [--suc_layers=6,2] [--data_dir=data/lcqmc] [--batch_sizes=1,10,64] [--json=serving.json]

The BERT's shape, with random weights, on which speed does not depend, is exported at each depth.
The exports are asked by Classifier; beside it, where they are installed, by transformers' pipeline
(with torch) and by OpenVINO. The pairs of a batch are dev's, drawn at random, of mixed lengths. One
model is measured after the other, since the threads of one runtime wait on, at work, for a while
after its answer; its three times take turns, so that ratios hold where the machine's speed drifts.
Medians:

  arrays      milliseconds of the padded arrays of a batch in the model's own runtime
  p95         their 95th percentile
  text        the same from text to label: tokens, arrays, runtime, probabilities
  real        the runtime's milliseconds of as many pairs that all have the mean length: what the
              batch's real tokens need
"""

import collections
import contextlib
import copy
import importlib.util
import itertools
import os
import shutil
import sys
import tempfile
import time

import numpy as np
import tensorflow.compat.v1 as tf
from absl import app, flags
from tqdm import tqdm

from benchmark_server import PipelineModel
from benchmark_threads import busy_processes
from theseus import Classifier
from theseus.checkpoints import pretrained
from theseus.commands import preparation
from theseus.errors import UserError
from theseus.export import formats, read_back, writers
from theseus.inference import evaluation
from theseus.inputs import encoding, reading, sources, tasks
from theseus.inputs.tokenizer_settings import TokenizerSettings
from theseus.runs import files
from theseus.runs.state import Checkpoint
from theseus.session import new_session, set_up_tensorflow

FLAGS = flags.FLAGS
TASK = tasks.TASKS["lcqmc_pair"]

Timed = collections.namedtuple("Timed", "run classify")
"""A model: functions of a batch's arrays, and of a list of (text, text), which may be None."""

HEADER = (
    "busy  layers  model                  batch  tokens  arrays ms      p95  "
    "text ms  ratio  real ms  ratio"
)


# --- The models ---


def write_exports(model, layers, folder, max_seq_length):
    """Exports a pretrained BERT's shape, cut to so many layers; returns the folders by format."""
    config = copy.copy(model.config)
    config.num_hidden_layers = layers
    with new_session() as session:
        graph = evaluation.build_graph(config, TASK.num_outputs)
        session.run(tf.global_variables_initializer())
        values = session.run(graph.variables)
    names = [variable.op.name for variable in graph.variables]
    run_config = {
        "do_lower_case": True,
        "max_seq_length": max_seq_length,
        "task_name": TASK.name,
    }
    plain = writers.PlainClassifier(
        config,
        collections.OrderedDict(zip(names, values)),
        TASK,
        model.vocab_file,
        run_config,
        Checkpoint("random", 0),
        1.0,
    )
    recorded = dict(run_config, labels=TASK.labels, num_texts=TASK.num_texts)
    paths = {}
    for name in ("onnx_int8", "onnx", "huggingface"):
        paths[name] = os.path.join(folder, "%s_%d" % (name, layers))
        os.mkdir(paths[name])
        formats.function(formats.FORMATS[name].write)(plain, paths[name])
        shutil.copyfile(model.vocab_file, os.path.join(paths[name], "vocab.txt"))
        writers.write_json(paths[name], read_back.DESCRIPTION, dict(recorded, format=name))
    return paths


@contextlib.contextmanager
def _exported(path):
    with Classifier(path) as model:
        yield Timed(model._run, model.classify)


@contextlib.contextmanager
def _openvino(path):
    import openvino

    request = openvino.Core().compile_model(os.path.join(path, "model.onnx"), "CPU")
    yield Timed(lambda arrays: request(read_back.as_hugging_face(arrays))["logits"], None)


@contextlib.contextmanager
def _transformers(path):
    pipeline = PipelineModel(path)
    run = writers.read_hugging_face(path, None)
    yield Timed(run, lambda rows: pipeline.classify(rows, len(rows)))


# For each name: the packages that it needs, the export, and what opens that as a Timed model.
MODELS = {
    "onnx int8": ((), "onnx_int8", _exported),
    "onnx float32": ((), "onnx", _exported),
    "OpenVINO float32": (("openvino",), "onnx", _openvino),
    "transformers float32": (("torch", "transformers"), "huggingface", _transformers),
}


def installed_models():
    """Returns the names of the models whose packages are installed."""
    return [name for name, (packages, _, _) in MODELS.items() if all(map(_is_installed, packages))]


def _is_installed(package):
    return importlib.util.find_spec(package) is not None


# --- Time ---


def random_batches(pairs, size, count):
    """Returns `count` lists of `size` pairs, drawn at random."""
    random = np.random.RandomState(size)
    return [[pairs[row] for row in random.choice(len(pairs), size)] for _ in range(count)]


def without_padding(encoded):
    """Returns the arrays of as many rows of EncodedExamples that all have the mean length."""
    count, length = len(encoded), int(round(encoded.lengths.mean()))
    ids = np.resize(encoded.ids, [count, length]).astype(np.int32)
    return {
        "input_ids": ids,
        "input_mask": np.ones_like(ids),
        "segment_ids": np.zeros_like(ids),
    }


def seconds_of(function, argument):
    """Returns the seconds of one call; NaN where there is no function."""
    if function is None:
        return float("nan")
    start = time.perf_counter()
    function(argument)
    return time.perf_counter() - start


def measure(model, batches, encode):
    """Returns (tokens, seconds) of a Timed model's batches.

    These are the mean of a pair's tokens, and float [batches, 3], see the columns.
    """
    tokens, times = [], []
    for pairs in tqdm(batches + batches, leave=False, disable=None):
        encoded = encode(pairs)
        tokens.append(encoded.lengths.mean())
        arrays, real = encoded.batch(np.arange(len(encoded))), without_padding(encoded)
        times.append(
            [
                seconds_of(model.run, arrays),
                seconds_of(model.classify, pairs),
                seconds_of(model.run, real),
            ]
        )
    # The first time, each shape is new.
    return float(np.mean(tokens)), np.array(times[len(batches) :])


def summarize(name, busy, layers, batch_size, tokens, seconds):
    """Returns the figures of a row, a dict; the ratios are medians of the batches' ratios."""
    arrays, text, real = 1000 * seconds.T
    return dict(
        busy=busy,
        layers=layers,
        model=name,
        batch_size=batch_size,
        tokens=tokens,
        arrays_ms=median(arrays),
        arrays_p95_ms=float(np.percentile(arrays, 95)),
        text_ms=median(text),
        text_to_arrays=median(text / arrays),
        real_ms=median(real),
        text_to_real=median(text / real),
    )


def median(values):
    """Returns the median, float; None, as JSON knows no NaN, where there is none."""
    return None if np.isnan(values).any() else float(np.median(values))


def format_row(figures):
    """Returns a row of the table, str."""
    shown = {name: np.nan if value is None else value for name, value in figures.items()}
    row = (
        "%(busy)4d  %(layers)6d  %(model)-21s  %(batch_size)5d  %(tokens)6.1f  %(arrays_ms)9.2f  "
        "%(arrays_p95_ms)7.2f  %(text_ms)7.2f  %(text_to_arrays)5.2f  %(real_ms)7.2f  "
        "%(text_to_real)5.2f" % shown
    )
    return row.replace("nan", "  -")


def run():
    """Measures all rows and prints them; returns them."""
    length = FLAGS.max_seq_length
    model = pretrained.read_model(FLAGS.bert_pretrained_model, length)
    tokenizer = pretrained.make_tokenizer(model, TokenizerSettings())
    examples = reading.read_examples(sources.find_files(FLAGS.data_dir, TASK, "dev")[0], TASK)
    pairs = [(example.text_a, example.text_b) for example in examples]

    def encode(batch):
        rows = [reading.Example(first, second, None) for first, second in batch]
        return encoding.encode_examples(rows, TASK, tokenizer, length)

    sizes = [int(size) for size in FLAGS.batch_sizes]
    asked = {size: random_batches(pairs, size, FLAGS.num_batches) for size in sizes}
    results = []
    print(HEADER, flush=True)
    for layers in [model.config.num_hidden_layers] + [int(one) for one in FLAGS.suc_layers]:
        with tempfile.TemporaryDirectory() as folder:
            paths = write_exports(model, layers, folder, length)
            for name in installed_models():
                _, kind, open_model = MODELS[name]
                with open_model(paths[kind]) as timed:
                    for busy, (size, batches) in itertools.product(FLAGS.busy, asked.items()):
                        with busy_processes(int(busy)):
                            tokens, seconds = measure(timed, batches, encode)
                        row = summarize(name, int(busy), layers, size, tokens, seconds)
                        results.append(row)
                        print(format_row(row), flush=True)
    return results


def main(argv):
    del argv
    set_up_tensorflow()
    try:
        preparation.check_missing_packages(["onnx", "huggingface"])
        results = run()
    except UserError as error:
        sys.exit("benchmark_serving.py: %s" % error)
    if FLAGS.json:
        files.write_json(FLAGS.json, results)


if __name__ == "__main__":
    flags.DEFINE_string(
        "data_dir", "data/sample", "Folder with the dev file whose pairs are classified."
    )
    flags.DEFINE_string(
        "bert_pretrained_model", "data/tiny_bert", "Folder with the config of a BERT."
    )
    flags.DEFINE_list("busy", ["0"], "Numbers of busy processes beside it, a row for each.")
    flags.DEFINE_list("suc_layers", ["6", "2"], "Numbers of layers of the successors.")
    flags.DEFINE_list(
        "batch_sizes", ["1", "10", "64"], "Numbers of pairs in a batch, a row for each."
    )
    flags.DEFINE_integer(
        "max_seq_length", 128, "Maximum length of a pair in tokens.", lower_bound=5
    )
    flags.DEFINE_integer("num_batches", 20, "Number of timed batches.", lower_bound=1)
    flags.DEFINE_string("json", None, "JSON file for the rows.")
    app.run(main)
