"""The evaluated model of a stage, alone, as other programs load it; each export checks itself.

bert          bert_config.json and bert_model.ckpt, for any TF1 BERT code
huggingface   config.json, model.safetensors and tokenizer.json, for transformers
saved_model   a SavedModel, for tf.saved_model.load and TensorFlow Serving
onnx          model.onnx, for ONNX runtimes; onnx_int8 after int8 quantization, see there

Each folder has vocab.txt and export.json too: what a caller must know beside the model. The
model is a plain BERT: layers named `bert/encoder/layer_%d`, its own number of them in its
config, nothing of the optimizer. What another program runs gives `logits`, float32 [B, L];
`probabilities`, float32 [B, L]; and `label`, int32 [B], the label's place in export.json's
`labels`; for int32 [B, T] `input_ids`, `input_mask` and `segment_ids`. For regression it
gives `logits`, float32 [B, 1], and `score`, float32 [B].

A format's packages are imported where they are used: the program runs without them.
"""

import collections
import contextlib
import copy
import importlib.util
import io
import json
import logging as python_logging
import os
import shutil
import time

import numpy as np
import tensorflow.compat.v1 as tf
from absl import logging
from tqdm import tqdm

import modeling_theseus
from theseus.checkpoints import hugging_face_weights, pretrained
from theseus.checkpoints import weights as weights_lib
from theseus.errors import UserError
from theseus.export import exported, hugging_face_tokenizer, quantization
from theseus.inference import evaluation, metrics
from theseus.inputs import input_pipeline, tasks
from theseus.model import variable_names
from theseus.runs.stage_folder import hash_text, move_into_place
from theseus.session import new_session

LARGEST_DIFFERENCE = 1e-4
"""How far an export's logits may be from the graph's; those in 8 bits are not compared so."""

NUM_CHECKED_PAIRS = 64
TIMED_BATCH_SIZES = (10, 1)
# For each batch size: timed runs of a median, at least, and different batches, at most.
_TIMED_RUNS, _TIMED_BATCHES = 30, 5

# A version that runtimes have known for years; 13 is the first with all that the graph needs.
_ONNX_OPSET = 17

PlainClassifier = collections.namedtuple(
    "PlainClassifier", "config weights task vocab_file definition best"
)
"""A stage's evaluated model as a plain BERT with a classifier.

Fields:
  config: modeling_theseus.BertConfig, of the model's own number of layers.
  weights: OrderedDict from name, as in google-research/bert, to float32 array.
  task: the tasks.Task that it was trained on.
  vocab_file: path of vocab.txt.
  definition: dict, what defines the run, as from StageFolder.definition.
  best: dict, where the weights come from, as in StageFolder.state.
"""

Format = collections.namedtuple("Format", "packages write read")
"""How a format is written, and read back to be checked.

Fields:
  packages: names of the packages that it needs.
  write: function (PlainClassifier, path of a folder).
  read: see exported.READERS.
"""

Row = collections.namedtuple("Row", "name difference agreement score megabytes seconds")
"""A line of the table: an export, or the graph that the others are compared with.

Fields:
  name: str.
  difference: float, the largest of a logit; megabytes: float; None where they do not apply.
  agreement: float, the share of dev that gets the graph's label; None where it does not apply.
  score: float, on all of dev, see metrics.score.
  seconds: list of float, the median for a batch of each of `TIMED_BATCH_SIZES`.
"""


# --- The model ---


def read_plain_classifier(folder):
    """Reads the PlainClassifier of a StageFolder's best checkpoint.

    Raises:
      UserError: the folder holds no trained model, or a damaged one.
    """
    weights = weights_lib.CheckpointWeights(folder.best_checkpoint())
    held = folder.definition()
    model = pretrained.read_model(folder.path, held["max_seq_length"])
    config = copy.copy(model.config)
    config.num_hidden_layers = held["suc_layers"] or config.num_hidden_layers
    named = [(variable_names.plain_name(name), weights[name]) for name in weights]
    task = tasks.recorded(held)
    best = folder.state()["best"]
    weights = collections.OrderedDict(named)
    return PlainClassifier(config, weights, task, model.vocab_file, held, best)


@contextlib.contextmanager
def plain_session(config, weights):
    """Yields (session, EvaluationGraph) of a plain BERT, in formulas that any runtime knows.

    Args:
      config: modeling_theseus.BertConfig.
      weights: mapping from variable name to array.
    """
    with new_session(rewrites=True) as session:
        graph = evaluation.build_graph(config, len(weights["output_bias"]))
        weights_lib.load(session, graph.variables, weights)
        yield session, graph


# --- bert ---


def _write_bert(plain, path):
    config = plain.config.to_dict()
    if config["hidden_act"] == "gelu_tanh":
        config["hidden_act"] = "gelu"  # Which in google-research/bert is this form.
    elif config["hidden_act"] == "gelu_erf":
        logging.warning(
            "bert: hidden_act is gelu_erf, which this program reads and google-research/bert "
            "refuses; its gelu is the tanh form"
        )
    _write_json(path, "bert_config.json", config)
    with plain_session(plain.config, plain.weights) as (session, graph):
        saver = tf.train.Saver(graph.variables)
        prefix = os.path.join(path, "bert_model.ckpt")
        saver.save(session, prefix, write_meta_graph=False, write_state=False)


# --- huggingface ---

_HUGGING_FACE_ACTIVATIONS = {"gelu_tanh": "gelu_new", "gelu_erf": "gelu"}


def _write_hugging_face(plain, path):
    import safetensors.numpy

    arrays = {}
    for name, array in plain.weights.items():
        there, is_transposed = hugging_face_weights.to_hugging_face(name)
        # safetensors writes an array's memory: one that is only viewed transposed comes out wrong.
        arrays[there] = np.ascontiguousarray(array.T if is_transposed else array)
    file = os.path.join(path, "model.safetensors")
    safetensors.numpy.save_file(arrays, file, metadata={"format": "pt"})
    _write_json(path, "config.json", _hugging_face_config(plain))
    shutil.copymode(os.path.join(path, "config.json"), file)  # Else only its owner may read it.
    tokenizer, length = _tokenizer(plain), plain.definition["max_seq_length"]
    # In lines it would be longer than a small model.
    _write_text(
        path, "tokenizer.json", json.dumps(hugging_face_tokenizer.tokenizer_json(tokenizer))
    )
    config = hugging_face_tokenizer.tokenizer_config(tokenizer, length)
    _write_json(path, "tokenizer_config.json", config)


def _hugging_face_config(plain):
    config = plain.config.to_dict()
    activation = config["hidden_act"]
    labels = plain.task.labels or ("LABEL_0",)  # By which transformers calls a number.
    config.update(
        architectures=["BertForSequenceClassification"],
        model_type="bert",
        hidden_act=_HUGGING_FACE_ACTIVATIONS.get(activation, activation),
        id2label={str(index): label for index, label in enumerate(labels)},
        label2id={label: index for index, label in enumerate(labels)},
        layer_norm_eps=modeling_theseus.LAYER_NORM_EPSILON,
        pad_token_id=0,
    )
    if plain.task.is_regression:
        config["problem_type"] = "regression"
    return config


def _tokenizer(plain):
    return pretrained.read_tokenizer(plain.vocab_file, plain.definition["do_lower_case"])


def _check_hugging_face_tokens(plain, path, pairs):
    """Compares the tokens of an export with the program's; says what transformers cuts otherwise.

    Args:
      plain: the PlainClassifier.
      path: folder of the export.
      pairs: list of (text, text), or of (text, None), of dev.

    Raises:
      UserError: they are others.
    """
    length = plain.definition["max_seq_length"]
    checked = hugging_face_tokenizer.check_tokens(path, _tokenizer(plain), pairs, length)
    if checked is None:
        logging.info(
            "huggingface: neither transformers nor tokenizers is installed: its tokens are not "
            "checked"
        )
        return
    count, cut_otherwise = checked
    logging.info("huggingface: the tokens of %d texts or pairs were compared", count)
    if cut_otherwise:
        logging.warning(
            "huggingface: where both texts of a pair are cut to an even --max_seq_length, "
            "transformers keeps one token more of the second and one fewer of the first, if the "
            "first is not the longer one: %d of the %d, such as %s",
            len(cut_otherwise),
            count,
            ascii(cut_otherwise[-1]),
        )


def _read_hugging_face(path, session):
    """Reads the model by transformers, where that is installed."""
    if not all(map(importlib.util.find_spec, ["torch", "transformers"])):
        logging.info(
            "huggingface: torch and transformers are not installed: its weights are read back "
            "and checked by this program's graph only"
        )
        return exported.READERS["huggingface"](path, session)
    import torch
    import transformers

    transformers.utils.logging.disable_progress_bar()
    model = transformers.AutoModelForSequenceClassification.from_pretrained(path).eval()

    def run(arrays):
        names = {"input_mask": "attention_mask", "segment_ids": "token_type_ids"}
        tensors = {names.get(name, name): torch.tensor(array) for name, array in arrays.items()}
        with torch.no_grad():
            return model(**tensors).logits.numpy()

    return run


# --- saved_model ---


def _outputs(graph, task):
    """Adds what an EvaluationGraph gives to another program; returns the tensors by name."""
    if task.is_regression:
        return collections.OrderedDict(
            logits=tf.identity(graph.logits, "logits"), score=tf.squeeze(graph.logits, 1, "score")
        )
    return collections.OrderedDict(
        logits=tf.identity(graph.logits, "logits"),
        probabilities=tf.nn.softmax(graph.logits, name="probabilities"),
        label=tf.argmax(graph.logits, axis=-1, output_type=tf.int32, name="label"),
    )


def _write_saved_model(plain, path):
    with plain_session(plain.config, plain.weights) as (session, graph):
        signature = tf.saved_model.predict_signature_def(
            graph.features, _outputs(graph, plain.task)
        )
        builder = tf.saved_model.Builder(path)
        builder.add_meta_graph_and_variables(
            session,
            [tf.saved_model.SERVING],
            signature_def_map={tf.saved_model.DEFAULT_SERVING_SIGNATURE_DEF_KEY: signature},
            # So that an older TensorFlow reads attributes that it need not know.
            strip_default_attrs=True,
        )
        builder.save()


# --- onnx ---


def _write_onnx(plain, path):
    import onnx
    import tf2onnx

    python_logging.getLogger("tf2onnx").setLevel(python_logging.ERROR)
    with plain_session(plain.config, plain.weights) as (session, graph):
        inputs = {tensor.name: name for name, tensor in graph.features.items()}
        outputs = collections.OrderedDict(
            (t.name, name) for name, t in _outputs(graph, plain.task).items()
        )
        frozen = tf.graph_util.convert_variables_to_constants(
            session, session.graph.as_graph_def(), list(outputs.values())
        )
    model, _ = tf2onnx.convert.from_graph_def(
        frozen,
        name="classifier",
        input_names=list(inputs),
        output_names=list(outputs),
        tensors_to_rename=dict(inputs, **outputs),
        opset=_ONNX_OPSET,
    )
    _name_axes(model)
    onnx.checker.check_model(model)
    onnx.save(model, os.path.join(path, "model.onnx"))


def _name_axes(model):
    """Calls the free axes of an ONNX model's inputs and outputs batch and length."""
    for tensor in list(model.graph.input) + list(model.graph.output):
        for axis, name in zip(tensor.type.tensor_type.shape.dim, ("batch", "length")):
            if not axis.dim_value:
                axis.dim_param = name


def _write_onnx_int8(plain, path):
    import onnx

    _write_onnx(plain, path)
    file = os.path.join(path, "model.onnx")
    model = onnx.load(file)
    quantization.quantize(model)
    onnx.checker.check_model(model, full_check=True)
    onnx.save(model, file)


_ONNX_PACKAGES = ("tf2onnx", "onnx", "onnxruntime")
FORMATS = {
    "bert": Format((), _write_bert, exported.READERS["bert"]),
    "huggingface": Format(("safetensors",), _write_hugging_face, _read_hugging_face),
    "saved_model": Format((), _write_saved_model, exported.READERS["saved_model"]),
    "onnx": Format(_ONNX_PACKAGES, _write_onnx, exported.READERS["onnx"]),
    "onnx_int8": Format(_ONNX_PACKAGES, _write_onnx_int8, exported.READERS["onnx_int8"]),
}


def refuse_missing_packages(names):
    """Raises UserError where TensorFlow is 1.15, or a package is missing that a format needs."""
    if tf.__version__.startswith("1."):
        raise UserError(
            "--do_export: needs TensorFlow 2.21, this is %s; the same command exports the same "
            "folder there" % tf.__version__
        )
    needed = [(name, package) for name in names for package in FORMATS[name].packages]
    for name, package in needed:
        if importlib.util.find_spec(package) is None:
            raise UserError(
                "--export_format: %s needs the package %s; pip install -r requirements-export.txt"
                % (name, package)
            )


# --- Writing and checking ---


class Exporter(object):
    """Exports one stage's model, and compares each export with the stage's own graph."""

    def __init__(self, folder, trained, dev_data, batch_size, dev_pairs=()):
        """Runs the graph over the pairs that the exports are compared on.

        Args:
          folder: a StageFolder.
          trained: its trained_model.TrainedModel.
          dev_data: labelled input_pipeline.EncodedExamples.
          batch_size: int, pairs in a batch where all of dev is evaluated.
          dev_pairs: list of reading.Example of dev, by whose texts an export's own tokenizer is
            checked.
        """
        self._plain = read_plain_classifier(folder)
        self._dev_data = dev_data
        self._graph = evaluation.runner(trained.session, trained.graph)
        self._batch_size = batch_size
        longest = sorted(dev_pairs, key=_num_characters)[-NUM_CHECKED_PAIRS:]
        self._checked_texts = [(pair.text_a, pair.text_b) for pair in longest]
        self._timed = [self._batches(size)[:_TIMED_BATCHES] for size in TIMED_BATCH_SIZES]
        self._checked = self._batches(TIMED_BATCH_SIZES[0])
        self._logits = _all_logits(self._graph, self._checked)
        self._dev_logits = self._all_of_dev(self._graph)
        score = self._score(self._dev_logits)
        self.graph_row = Row("the graph", None, None, score, None, self._seconds(self._graph))

    def _batches(self, batch_size):
        """Returns the arrays of some pairs, spread over dev, in batches of mixed lengths."""
        count = min(NUM_CHECKED_PAIRS, len(self._dev_data))
        rows = np.linspace(0, len(self._dev_data) - 1, count).astype(np.int64)
        parts = [rows[first : first + batch_size] for first in range(0, count, batch_size)]
        lengths = self._dev_data.lengths
        plan = [input_pipeline.PlannedBatch(part, int(lengths[part].max())) for part in parts]
        return [self._dev_data.batch(planned) for planned in plan]

    def export(self, name, path):
        """Writes one export, checks it, and moves it to `path` when it is complete.

        Args:
          name: str, one of `FORMATS`.
          path: the folder; what it holds is replaced, see `refuse_foreign`.

        Returns:
          A Row.

        Raises:
          UserError: `path` cannot be written; or the export differs from the graph, and is
            left out.
        """
        with _temporary_folder(path) as temporary:
            try:
                FORMATS[name].write(self._plain, temporary)
                shutil.copyfile(self._plain.vocab_file, os.path.join(temporary, "vocab.txt"))
            except (OSError, tf.errors.OpError) as error:
                raise UserError("--export_dir: %s: cannot be written: %s" % (path, error))
            row = self._check(name, path, temporary)
            _write_json(temporary, exported.DESCRIPTION, self._describe(name, row))
            move_into_place(temporary, path)
        return row

    def _check(self, name, path, temporary):
        """Returns the Row of an export in `temporary`; UserError where it is too far off."""
        with new_session(rewrites=True) as session:
            run = _refuse_not_finite(FORMATS[name].read(temporary, session), path)
            difference = float(np.abs(_all_logits(run, self._checked) - self._logits).max())
            is_float = name != "onnx_int8"
            if is_float and not difference <= LARGEST_DIFFERENCE:  # Nor if it is no number.
                raise UserError(
                    "%s: its logits differ from the graph's by up to %.2g, more than %g; it is "
                    "left out" % (path, difference, LARGEST_DIFFERENCE)
                )
            if name == "huggingface":
                _check_hugging_face_tokens(self._plain, temporary, self._checked_texts)
            logits = self._all_of_dev(run)
            agreement, score = self._agreement(logits), self._score(logits)
            size, seconds = _megabytes(temporary), self._seconds(run)
            return Row(path, difference, agreement, score, size, seconds)

    def _all_of_dev(self, run):
        """Returns the logits of a model, as exported.READERS give it."""
        with evaluation.progress_bar("dev", len(self._dev_data)) as bar:
            return evaluation.compute_logits(run, self._dev_data, self._batch_size, bar=bar)

    def _score(self, logits):
        task = self._plain.task
        return metrics.score(task, metrics.compute(task, logits, self._dev_data.labels))

    def _agreement(self, logits):
        """Returns the share of dev that gets the graph's label; None for regression."""
        if self._plain.task.is_regression:
            return None
        return float(np.mean(logits.argmax(axis=1) == self._dev_logits.argmax(axis=1)))

    def _seconds(self, run):
        return [_median_seconds(run, batches) for batches in self._timed]

    def _describe(self, name, row):
        """Returns the content of export.json, a dict."""
        held = self._plain.definition
        task = self._plain.task
        description = dict(_identity(name, held), labels=list(task.labels))
        description["num_texts"] = task.num_texts
        for key in ("task_name", "max_seq_length", "do_lower_case"):
            description[key] = held[key]
        description["global_step"] = self._plain.best["global_step"]
        description["largest_difference"] = row.difference
        description["agreement"] = row.agreement
        description["dev_score"] = row.score
        return description


def _num_characters(example):
    return len(example.text_a) + len(example.text_b or "")


def _refuse_not_finite(run, path):
    """Returns the model of an export to `path`, which raises UserError for such logits."""

    def checked(arrays):
        logits = run(arrays)
        if not np.isfinite(logits).all():
            raise UserError("%s: its logits are no finite numbers; it is left out" % path)
        return logits

    return checked


def _all_logits(run, batches):
    return np.concatenate([run(arrays) for arrays in batches])


def _median_seconds(run, batches):
    """Returns the median seconds per batch, after one round that may still compile."""
    for arrays in batches:
        run(arrays)
    seconds = []
    with tqdm(None, "timing", _TIMED_RUNS, leave=False, disable=None) as bar:
        while len(seconds) < _TIMED_RUNS:
            for arrays in batches:
                start = time.perf_counter()
                run(arrays)
                seconds.append(time.perf_counter() - start)
                bar.update()
    return float(np.median(seconds))


def format_rows(rows, task):
    """Returns the Rows of a tasks.Task as a table, str; the first one is the graph's."""
    width = max(len(row.name) for row in rows)
    score_name = "dev " + task.score_name
    lines = [
        "%-*s  difference  same label  %s      MB  seconds per batch of %d   of %d"
        % ((width, "", score_name) + TIMED_BATCH_SIZES)
    ]
    for row in rows:
        cells = [
            "%12s" % _cell("%.1e", row.difference),
            "%12s" % _cell("%.4f", row.agreement),
            "  %*.4f" % (len(score_name), row.score),
            "%8s" % _cell("%.1f", row.megabytes),
            "%25.4f%8.4f" % tuple(row.seconds),
        ]
        lines.append("%-*s" % (width, row.name) + "".join(cells))
    return "\n".join(lines)


def _cell(form, value):
    return "-" if value is None else form % value


# --- The folder ---


def refuse_foreign(folder, paths):
    """Raises UserError where anything but an export of the same run would be replaced.

    Args:
      folder: the StageFolder of the run.
      paths: dict from the name of a format to the folder that is to be written.
    """
    for name, path in paths.items():
        is_free = not os.path.lexists(path) or (os.path.isdir(path) and not os.listdir(path))
        if not is_free and not _holds(path, _identity(name, folder.definition())):
            raise UserError(
                "--export_dir: %s is there, and is no export of this run as %s; give another "
                "folder, or remove it" % (path, name)
            )


def _identity(name, definition):
    """Returns the part of export.json by which an export is known again, a dict."""
    return {"format": name, "run": hash_text(json.dumps(definition, sort_keys=True))}


def _holds(path, identity):
    try:
        held = exported.read_description(path)
    except UserError:
        return False
    return all(held.get(key) == identity[key] for key in identity)


@contextlib.contextmanager
def _temporary_folder(path):
    """A new folder beside `path`, which is gone at the end, whether it was moved or not."""
    temporary = os.path.realpath(path) + ".unfinished_export"
    try:
        shutil.rmtree(temporary, ignore_errors=True)  # A command that was killed left it.
        os.makedirs(temporary)
    except OSError as error:
        raise UserError("--export_dir: %s: cannot be made: %s" % (temporary, error.strerror))
    try:
        yield temporary
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _megabytes(path):
    files = [os.path.join(folder, name) for folder, _, names in os.walk(path) for name in names]
    return sum(map(os.path.getsize, files)) / 1e6


def _write_json(path, name, value):
    _write_text(path, name, json.dumps(value, indent=2, sort_keys=True, ensure_ascii=False))


def _write_text(path, name, text):
    """Writes a file of one folder, with a line's end after its text."""
    with io.open(os.path.join(path, name), "w", encoding="utf-8", newline="\n") as writer:
        writer.write(text + "\n")
