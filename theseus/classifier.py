"""A trained classifier, as a stage's folder or an export holds it: its model and tokenizer."""

import collections
import collections.abc
import contextlib
import io
import numbers
import os

import tensorflow.compat.v1 as tf
from absl import logging

import modeling_theseus
import tokenization
from theseus.checkpoints import pretrained
from theseus.checkpoints import weights as weights_lib
from theseus.errors import UserError
from theseus.export import exported
from theseus.inference import evaluation, metrics
from theseus.inputs import input_pipeline, reading, tasks
from theseus.runs.stage_folder import StageFolder
from theseus.training import training

Model = collections.namedtuple("Model", "config vocab_file")
"""A BERT's shape and vocabulary: a modeling_theseus.BertConfig, and the path of vocab.txt,
or of a tokenizer.json in its place."""

TrainedClassifier = collections.namedtuple("TrainedClassifier", "session graph tokenizer")
"""A classifier that is ready to be used.

Fields:
  session: a tf.Session that holds the weights.
  graph: an evaluation.EvaluationGraph.
  tokenizer: a tokenization.FullTokenizer.
"""

# What Linux calls bfloat16 instructions, of x86 and of ARM.
_BFLOAT16_FEATURES = ("avx512_bf16", "amx_bf16", "avx_ne_convert", "bf16")


def set_up_tensorflow():
    """Makes TensorFlow build graphs, with resource variables, and keeps its log to errors."""
    tf.get_logger().setLevel("ERROR")
    tf.disable_v2_behavior()
    tf.enable_resource_variables()


def check_precision(precision):
    """Warns where the processor has no instructions for a precision.

    Raises:
      UserError: this TensorFlow cannot compute in it.
    """
    if precision == "bfloat16" and tf.__version__.startswith("1."):
        raise UserError(
            "--precision=bfloat16: needs TensorFlow 2, this is %s; give --precision=float32, "
            "which also runs what was trained in bfloat16" % tf.__version__
        )
    features = _processor_features()
    if precision == "bfloat16" and features and not features.intersection(_BFLOAT16_FEATURES):
        logging.warning(
            "--precision=bfloat16: this processor has no bfloat16 instructions; it will be slower "
            "than float32"
        )


def _processor_features():
    """Returns the names of the processor's features, a set of str; empty where not known."""
    try:
        with io.open("/proc/cpuinfo", encoding="utf-8", errors="replace") as reader:
            lines = [line.lower().split(":", 1) for line in reader if ":" in line]
    except OSError:
        return set()
    return {
        feature
        for name, values in lines
        if name.strip() in ("flags", "features")
        for feature in values.split()
    }


@contextlib.contextmanager
def load(folder, precision=None):
    """Yields the TrainedClassifier of a StageFolder's best checkpoint.

    Args:
      folder: a StageFolder.
      precision: "float32" or "bfloat16"; None: that of its training.

    Raises:
      UserError: the folder holds no trained model, or a damaged one.
    """
    with new_session(rewrites=True) as session:
        yield _load_into(session, folder, precision)


def _load_into(session, folder, precision):
    """Builds the TrainedClassifier of a StageFolder in the default graph, the session's."""
    weights = weights_lib.CheckpointWeights(folder.best_checkpoint())
    held = folder.definition()
    model = read_model(folder.path, held["max_seq_length"])
    groups = training.module_groups(
        held["stage"], model.config, held["suc_layers"], held.get("modules")
    )
    num_outputs = tasks.recorded(held).num_outputs
    path = training.evaluated_path(held["stage"], groups)
    precision = precision or held["precision"]
    check_precision(precision)
    compute_type = tf.as_dtype(precision)
    with modeling_theseus.kernels_kept_as(compute_type):
        graph = evaluation.build_graph(model.config, num_outputs, groups, path, compute_type)
    variables = tf.trainable_variables()
    weights_lib.load(session, variables, weights, {v.op.name: v.op.name for v in variables})
    return TrainedClassifier(session, graph, make_tokenizer(model, held["do_lower_case"]))


class Classifier(object):
    """A stage's best model, or an export, for use from Python and several threads at a time.

        with Classifier("out_2") as model:
            (label, probabilities), = model.classify([("手机坏了", "手机坏了怎么办")])

    It needs no `set_up_tensorflow`: its graph is its own.
    """

    def __init__(self, path, precision=None):
        """Loads the model of a stage's output folder, or of an export's.

        Args:
          path: the folder.
          precision: "float32" or "bfloat16"; None: that of its training. An export has its
            own and takes none.

        Raises:
          UserError: the folder holds no model, or a damaged one; or a package is missing that
            an export's format needs.
        """
        graph = tf.Graph()
        self._session = tf.Session(graph=graph, config=_session_config(rewrites=True))
        with graph.as_default():
            if exported.is_export(path):
                self._load_export(path, precision)
            else:
                self._load_stage(path, precision)

    def _load_stage(self, path, precision):
        folder = trained_folder(path, "a stage's output folder, or an export's")
        held = folder.definition()
        self._task = tasks.recorded(held)
        self._max_seq_length = held["max_seq_length"]
        trained = _load_into(self._session, folder, precision)
        self._tokenizer = trained.tokenizer
        self._run = evaluation.runner(trained.session, trained.graph)

    def _load_export(self, path, precision):
        if precision is not None:
            raise UserError("%s: is an export, which has its own precision; give none" % path)
        export = exported.load(path, self._session)
        self._task = export.task
        self._max_seq_length = export.max_seq_length
        self._tokenizer = read_tokenizer(export.vocab_file, export.do_lower_case)
        self._run = export.run

    def classify(self, pairs, batch_size=64):
        """Predicts the label of each pair, or of each text where the task is over single ones.

        Args:
          pairs: iterable, such as a list, of (text, text), str; or of a text, str.
          batch_size: int, at least 1, pairs that are computed at a time.

        Returns:
          List of (label, probabilities), in the order of the pairs: the label, str, and a
          float for each of `labels`. For regression the label is a float, and there are no
          probabilities.

        Raises:
          TypeError: `pairs` is none of them, such as one text alone; or batch_size no int.
          ValueError: a pair has not two texts; or batch_size is below 1.
        """
        _refuse_batch_size(batch_size)
        rows = self._examples(pairs)
        if not rows:
            return []
        encoded = input_pipeline.encode_examples(
            rows, self._task, self._tokenizer, self._max_seq_length
        )
        logits = evaluation.compute_logits(self._run, encoded, batch_size)
        if self._task.is_regression:
            return [(float(score), []) for score in logits[:, 0]]
        found = metrics.probabilities(logits)
        return [(self.labels[row.argmax()], row.tolist()) for row in found]

    def _examples(self, pairs):
        """Returns what `classify` was given as a list of reading.Example."""
        takes = "%s: classify takes a list of %s" % (
            self._task.name,
            "texts" if self._task.num_texts == 1 else "(text, text)",
        )
        # A dict or a set has members too, but in no order, or not these.
        if isinstance(pairs, _NO_LISTS) or not hasattr(pairs, "__iter__"):
            raise TypeError("%s, not %s" % (takes, _describe(pairs)))
        # A table of pandas gives the names of its columns, an array of no dimension nothing.
        dimensions = getattr(pairs, "ndim", 1)
        if dimensions == 0 or dimensions > self._task.num_texts:
            raise TypeError("%s, not a %s" % (takes, _kind(pairs)))
        check = _one_text if self._task.num_texts == 1 else _two_texts
        return [check(takes, number, row) for number, row in enumerate(pairs)]

    @property
    def labels(self):
        """The task's labels, a tuple of str."""
        return self._task.labels

    def close(self):
        """Frees the memory; the classifier cannot be used any more."""
        self._session.close()
        self._run = _run_closed

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()


_NO_LISTS = (str, bytes, bytearray, collections.abc.Mapping, collections.abc.Set)


def _one_text(takes, number, row):
    """Returns the Example of what is to be a text; TypeError where it is none."""
    if not isinstance(row, str):
        raise TypeError("%s; number %d, from 0, is %s" % (takes, number, _describe(row)))
    return reading.Example(str(row), None, None)


def _two_texts(takes, number, row):
    """Returns the Example of what is to be a pair of texts; see Classifier.classify."""
    place = "%s; number %d, from 0, is" % (takes, number)
    if isinstance(row, _NO_LISTS) or not hasattr(row, "__len__") or getattr(row, "ndim", 1) != 1:
        raise TypeError("%s %s" % (place, _describe(row)))
    texts = list(row)
    if len(texts) != 2:
        raise ValueError("%s %s with %d members" % (place, type(row).__name__, len(texts)))
    for text in texts:
        if not isinstance(text, str):
            raise TypeError("%s a pair with %s" % (place, _describe(text)))
    return reading.Example(str(texts[0]), str(texts[1]), None)


def _refuse_batch_size(batch_size):
    if isinstance(batch_size, bool) or not isinstance(batch_size, numbers.Integral):
        raise TypeError("batch_size is an int of at least 1, not %s" % _describe(batch_size))
    if batch_size < 1:
        raise ValueError("batch_size is an int of at least 1, not %d" % batch_size)


def _kind(value):
    dimensions = getattr(value, "ndim", None)
    name = type(value).__name__
    return name if dimensions is None else "%s of %d dimensions" % (name, dimensions)


def _describe(value):
    """Returns what a message says of a value that is none of what is taken."""
    text = " ".join(repr(value).split())
    return "%s %s" % (type(value).__name__, text if len(text) <= 40 else text[:40] + "...")


def _run_closed(_):
    raise RuntimeError("the Classifier is closed")


def trained_folder(path, expected="a stage's output folder"):
    """Returns the StageFolder at `path`; UserError, with what is `expected`, where it is none."""
    folder = StageFolder(path, "stage_2_outputdir")
    if not folder.definition() or not folder.state()["best"]:
        raise UserError("%s: holds no trained model; give %s" % (path, expected))
    return folder


def read_model(folder, max_seq_length):
    """Reads the Model that a pretrained BERT's or a stage's folder holds."""
    if not os.path.isdir(folder):
        raise UserError("--bert_pretrained_model: %s is no folder" % folder)
    config = pretrained.read_config(folder)
    if max_seq_length > config.max_position_embeddings:
        raise UserError(
            "--max_seq_length=%d: %s has %d positions; give at most that"
            % (max_seq_length, folder, config.max_position_embeddings)
        )
    return Model(config, pretrained.find_vocab(folder))


def read_tokenizer(vocab_file, do_lower_case):
    """Returns the FullTokenizer of a vocabulary; UserError where it is none of a BERT."""
    tokenizer = tokenization.FullTokenizer(vocab_file, do_lower_case)
    absent = [token for token in ("[CLS]", "[SEP]", "[UNK]") if token not in tokenizer.vocab]
    if absent:
        raise UserError("%s: holds no %s" % (vocab_file, ", ".join(absent)))
    return tokenizer


def make_tokenizer(model, do_lower_case):
    """Returns the FullTokenizer of a Model; UserError where the vocabulary does not fit."""
    tokenizer = read_tokenizer(model.vocab_file, do_lower_case)
    if max(tokenizer.inv_vocab) >= model.config.vocab_size:
        raise UserError(
            "%s: holds %d tokens, the BERT's config says %d"
            % (model.vocab_file, max(tokenizer.inv_vocab) + 1, model.config.vocab_size)
        )
    return tokenizer


@contextlib.contextmanager
def new_session(rewrites=False):
    """A session over a new graph, which is the default one inside.

    Args:
      rewrites: bool, whether TensorFlow may rewrite the graph before it runs it, to join
        operations. A training's large graph waits seconds for that.
    """
    with tf.Graph().as_default(), tf.Session(config=_session_config(rewrites)) as session:
        yield session


def _session_config(rewrites):
    config = tf.ConfigProto()
    config.gpu_options.allow_growth = True
    config.graph_options.rewrite_options.disable_meta_optimizer = not rewrites
    return config
