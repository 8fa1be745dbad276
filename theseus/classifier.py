"""Classifies from Python with a stage's folder, an export or a fine-tuned BERT."""

import collections.abc
import contextlib
import functools
import importlib.util
import numbers
import os

from theseus.checkpoints import pretrained
from theseus.errors import UserError
from theseus.export import read_back
from theseus.inference import model_folder, predictions
from theseus.inputs import encoding, reading, tasks
from theseus.quiet import quiet_tensorflow


class Classifier(object):
    """A trained model for use from Python; several threads may use it at the same time.

        with Classifier("out_2") as model:
            (label, probabilities), = model.classify([("手机坏了", "手机坏了怎么办")])

    It has a graph of its own, so `set_up_tensorflow` is not needed.
    """

    def __init__(self, path, precision=None):
        """Loads the model of a stage's output folder, or of an export's.

        Args:
          path: the folder.
          precision: "float32" or "bfloat16"; None: the precision of its training. An export's
            precision is fixed, so give None.

        Raises:
          UserError: the folder holds no model, or a damaged one; or a package that the
            export's format needs is missing.
        """
        self._made_of = os.path.abspath(path) if os.path.exists(path) else path, precision
        self._process = os.getpid()
        self._open = contextlib.ExitStack()
        with contextlib.ExitStack() as loading:
            open_session = functools.partial(_open_session, self._open, loading)
            if read_back.is_export(path):
                self._load_export(path, precision, open_session)
            else:
                self._load_trained(path, precision, open_session)

    def _load_export(self, path, precision, open_session):
        if precision is not None:
            raise UserError("%s: the precision of an export is fixed; leave out `precision`" % path)
        export = read_back.load(path, open_session)
        self._task, self._num_texts = export.task, (export.task.num_texts,)
        self._max_seq_length = export.max_seq_length
        self._tokenizer = pretrained.read_tokenizer(export.vocab_file, export.tokenizer)
        self._run = export.run

    def _load_trained(self, path, precision, open_session):
        folder = model_folder.trained_folder(path)
        if isinstance(folder, model_folder.ExternalClassifier):
            folder.log_tokenizer()
        recorded = folder.trained_run_config()
        session = open_session()
        from theseus.inference import evaluation, trained_model

        trained = trained_model.load_into(session, folder, precision)
        self._task, self._num_texts = tasks.recorded(recorded), folder.takes_texts()
        self._max_seq_length = recorded["max_seq_length"]
        self._tokenizer = trained.tokenizer
        self._run = evaluation.runner(trained.session, trained.graph)

    def classify(self, pairs, batch_size=64):
        """Predicts the label of each pair, or of each text if the task has single texts.

        Args:
          pairs: iterable, such as a list, of (text, text), str; or of single texts, str.
          batch_size: int, at least 1, number of pairs to compute at a time.

        Returns:
          List of (label, probabilities), in the order of the pairs: the label, str, and a
          float for each of `labels`. For regression the label is a float, and there are no
          probabilities.

        Raises:
          TypeError: `pairs` is something else, for example a single text; or batch_size is not
            an int.
          ValueError: a pair does not have two texts, an example is empty, or batch_size is below 1.
        """
        _check_batch_size(batch_size)
        rows = self._examples(pairs)
        if not rows:
            return []
        logits = self.compute_logits(rows, batch_size)
        if self._task.is_regression:
            return [(float(score), []) for score in logits[:, 0]]
        found = predictions.probabilities(logits)
        return [(self.labels[row.argmax()], row.tolist()) for row in found]

    def compute_logits(self, examples, batch_size=64):
        """Returns the logits of reading.Examples, float32 [rows, outputs], in their order.

        Args:
          examples: list of reading.Example, one or more.
          batch_size: int, at least 1, number of examples to compute at a time.

        Raises:
          UserError: a logit is infinite or not a number.
          RuntimeError: the classifier is closed, or was loaded before this process was forked.
        """
        if os.getpid() != self._process:
            raise RuntimeError(
                "the Classifier was loaded before this process was forked; load one in each process"
            )
        length = self._max_seq_length
        arrays = encoding.encode_arrays(examples, self._task, self._tokenizer, length)
        encoded = encoding.EncodedExamples(**arrays)
        return predictions.compute_logits(self._run, encoded, batch_size)

    def _examples(self, pairs):
        """Returns the `pairs` of `classify` as a list of reading.Example."""
        kinds = {1: "texts", 2: "(text, text)"}
        takes = "%s: classify takes a list of %s" % (
            self._task.name,
            " or of ".join(kinds[number] for number in self._num_texts),
        )
        # Iterating over a dict gives its keys, and over a set gives no fixed order.
        if isinstance(pairs, _NO_LISTS) or not hasattr(pairs, "__iter__"):
            raise TypeError("%s, not %s" % (takes, _describe(pairs)))
        # A pandas table yields its column names; a 0-dimensional array cannot be iterated over.
        dimensions = getattr(pairs, "ndim", 1)
        if dimensions == 0 or dimensions > max(self._num_texts):
            raise TypeError("%s, not a %s" % (takes, _kind(pairs)))
        examples = [self._example(takes, number, row) for number, row in enumerate(pairs)]
        for number, example in enumerate(examples):
            if reading.holds_nothing(example.text_a, example.text_b):
                raise ValueError("%s; item %d (from 0) is empty" % (takes, number))
        return examples

    def _example(self, takes, number, row):
        is_one = isinstance(row, str) if len(self._num_texts) == 2 else self._num_texts == (1,)
        return (_one_text if is_one else _two_texts)(takes, number, row)

    @property
    def task(self):
        """The tasks.Task that the model was trained for."""
        return self._task

    @property
    def labels(self):
        """The task's labels, a tuple of str."""
        return self._task.labels

    def __reduce__(self):
        """Pickles only the arguments: the process that unpickles them loads the model again."""
        return Classifier, self._made_of

    def close(self):
        """Frees the memory; the classifier cannot be used any more."""
        self._open.close()
        self._run = _run_closed

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()


def _open_session(stack, loading):
    """Imports TensorFlow, and returns a session whose graph is the default while the model loads.

    Args:
      stack: contextlib.ExitStack that closes the session at its end.
      loading: contextlib.ExitStack until whose end the graph is the default.
    """
    if importlib.util.find_spec("tensorflow") is None:
        raise UserError(
            "opening this folder needs TensorFlow (pip install tensorflow); an ONNX export does not"
        )
    with quiet_tensorflow():
        import tensorflow.compat.v1 as tf

        from theseus.session import session_config

        graph = tf.Graph()
        session = tf.Session(graph=graph, config=session_config(grappler=True))
    stack.enter_context(contextlib.closing(session))
    loading.enter_context(graph.as_default())
    return session


_NO_LISTS = (str, bytes, bytearray, collections.abc.Mapping, collections.abc.Set)


def _one_text(takes, number, row):
    """Returns the Example of an item that must be a text; TypeError if it is not."""
    if not isinstance(row, str):
        raise TypeError("%s; item %d (from 0) is %s" % (takes, number, _describe(row)))
    return reading.Example(str(row), None, None)


def _two_texts(takes, number, row):
    """Returns the Example of an item that must be a pair of texts; see Classifier.classify."""
    place = "%s; item %d (from 0) is" % (takes, number)
    if isinstance(row, _NO_LISTS) or not hasattr(row, "__len__") or getattr(row, "ndim", 1) != 1:
        raise TypeError("%s %s" % (place, _describe(row)))
    texts = list(row)
    if len(texts) != 2:
        raise ValueError("%s a %s with %d members" % (place, type(row).__name__, len(texts)))
    for text in texts:
        if not isinstance(text, str):
            raise TypeError("%s a pair with %s" % (place, _describe(text)))
    return reading.Example(str(texts[0]), str(texts[1]), None)


def _check_batch_size(batch_size):
    if isinstance(batch_size, bool) or not isinstance(batch_size, numbers.Integral):
        raise TypeError("batch_size must be an int of at least 1, not %s" % _describe(batch_size))
    if batch_size < 1:
        raise ValueError("batch_size must be an int of at least 1, not %d" % batch_size)


def _kind(value):
    dimensions = getattr(value, "ndim", None)
    name = type(value).__name__
    return name if dimensions is None else "%s of %d dimensions" % (name, dimensions)


def _describe(value):
    """Returns the description of an unexpected value for a message: its type and its text."""
    text = " ".join(repr(value).split())
    return "%s %s" % (type(value).__name__, text if len(text) <= 40 else text[:40] + "...")


def _run_closed(_):
    raise RuntimeError("the Classifier is closed")
