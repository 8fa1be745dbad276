"""A trained model for use from Python, as a stage's folder or an export holds it."""

import tensorflow.compat.v1 as tf

from theseus.checkpoints import pretrained
from theseus.errors import UserError
from theseus.export import exported
from theseus.inference import evaluation, metrics, trained_model
from theseus.inputs import input_pipeline, reading, tasks
from theseus.session import session_config


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
        self._session = tf.Session(graph=graph, config=session_config(rewrites=True))
        with graph.as_default():
            if exported.is_export(path):
                self._load_export(path, precision)
            else:
                self._load_stage(path, precision)

    def _load_stage(self, path, precision):
        folder = trained_model.trained_folder(path, "a stage's output folder, or an export's")
        held = folder.definition()
        self._task = tasks.recorded(held)
        self._max_seq_length = held["max_seq_length"]
        trained = trained_model.load_into(self._session, folder, precision)
        self._tokenizer = trained.tokenizer
        self._run = evaluation.runner(trained.session, trained.graph)

    def _load_export(self, path, precision):
        if precision is not None:
            raise UserError("%s: is an export, which has its own precision; give none" % path)
        export = exported.load(path, self._session)
        self._task = export.task
        self._max_seq_length = export.max_seq_length
        self._tokenizer = pretrained.read_tokenizer(export.vocab_file, export.do_lower_case)
        self._run = export.run

    def classify(self, pairs, batch_size=64):
        """Predicts the label of each pair, or of each text where the task is over single ones.

        Args:
          pairs: list of (text, text), str; or of a text, str.
          batch_size: int, pairs that are computed at a time.

        Returns:
          List of (label, probabilities), in the order of the pairs: the label, str, and a
          float for each of `labels`. For regression the label is a float, and there are no
          probabilities.
        """
        if not pairs:
            return []
        rows = [self._example(pair) for pair in pairs]
        encoded = input_pipeline.encode_examples(
            rows, self._task, self._tokenizer, self._max_seq_length
        )
        logits = evaluation.compute_logits(self._run, encoded, batch_size)
        if self._task.is_regression:
            return [(float(score), []) for score in logits[:, 0]]
        found = metrics.probabilities(logits)
        return [(self.labels[row.argmax()], row.tolist()) for row in found]

    def _example(self, pair):
        if self._task.num_texts == 1:
            return reading.Example(pair, None, None)
        text_a, text_b = pair
        return reading.Example(text_a, text_b, None)

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


def _run_closed(_):
    raise RuntimeError("the Classifier is closed")
