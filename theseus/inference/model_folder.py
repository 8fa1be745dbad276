"""Opens the folder of a trained model: a stage's, or a classifier that was fine-tuned elsewhere.

The latter is a Hugging Face folder of BertForSequenceClassification, or owner/name of the hub; a
checkpoint of google-research/bert's run_classifier.py; or one of this program's exports that has a
BERT's weights. It is treated as the trained stage 0 of a run. Only reading a TensorFlow checkpoint
needs TensorFlow.
"""

import dataclasses
import os

from absl import logging

import tokenization
from theseus.checkpoints import head, pretrained
from theseus.checkpoints import weights as weights_lib
from theseus.checkpoints.tokenizer_files import SHORTEST, has_segments
from theseus.errors import UserError
from theseus.inputs import tasks
from theseus.runs.files import hash_text
from theseus.runs.stage_folder import StageFolder
from theseus.runs.state import Checkpoint
from theseus.stage import PREDECESSOR


class ExternalClassifier(object):
    """A classifier's folder, with the methods of a StageFolder that trained models need.

    Attributes:
      path: str, its folder, or the checkpoint's prefix.
      task: the tasks.Task with the labels of its outputs.
      model: the pretrained.Model of its folder.
      weights: its weights, with the classifier's rows in the order of the task's labels.
    """

    def __init__(
        self,
        path,
        task=None,
        bert=None,
        flag="init_checkpoint",
        max_seq_length=None,
        do_lower_case=None,
    ):
        """Reads everything except the weights themselves.

        Args:
          path: a folder, a checkpoint's prefix, or owner/name of the hub.
          task: the tasks.Task whose labels it should predict; None: the labels that its files name.
          bert: str, a folder or owner/name with the config and the vocabulary that a
            google-research/bert checkpoint lacks; or None.
          flag: str, the flag that a message names.
          max_seq_length: int, the tokens of an input; None: from its tokenizer's files.
          do_lower_case: bool, whether texts are lower-cased; None: from the same files.

        Raises:
          UserError: it holds no classifier, or its kind, labels or number of texts are not the
            task's; or a file is missing or damaged.
        """
        self.path = pretrained.local_checkpoint(path, flag)
        self._folder = pretrained.folder_of_files(self.path, bert)
        self.weights = weights_lib.open_weights(weights_lib.find_checkpoint(self.path))
        self.model = pretrained.read_model(self._folder, max_seq_length or SHORTEST)
        self._settings, self._case, files = pretrained.find_tokenizer(self._folder, do_lower_case)
        if head.CLASSIFIER[0] not in self.weights:
            raise UserError(
                "%s: holds a BERT without a classifier; fine-tune it first (--finetune_pre)"
                % self.weights.prefix
            )
        self._has_segments = has_segments(files)
        self._check_texts(task)
        known = head_of(os.path.dirname(self.weights.prefix))
        num_rows = self.weights.shapes[head.CLASSIFIER[0]][0]
        self.task = task or _own_task(known, num_rows, self.path)
        positions = self.model.config.max_position_embeddings
        self._max_seq_length = max_seq_length or files.max_length(positions)
        rows = head.fit(known, num_rows, self.task, self.path)
        if rows.order is None:
            raise UserError(
                "--%s: the classifier of %s cannot be used, since %s" % (flag, path, rows.reason)
            )
        if rows.note:
            logging.log(logging.INFO if rows.is_sure else logging.WARNING, "%s", rows.note)
        self.weights = self.weights.with_rows(head.CLASSIFIER, rows.order)

    def _check_texts(self, task):
        """Raises UserError if a task has pairs of texts, but the classifier takes none."""
        if task is None or task.num_texts < 2:
            return
        check_pairs(self.model, task)
        if not self._has_segments:
            raise UserError(
                "%s: by its tokenizer's files both texts of a pair are in one segment (no "
                "token_type_ids of 1), but this program puts the second text into another, which "
                "would change its answers; fine-tune it here first (--do_train --finetune_pre)"
                % self._folder
            )

    def log_tokenizer(self):
        """Logs how texts are treated."""
        pretrained.log_tokenizer(self._folder, self._settings, self._case)

    def trained_run_config(self):
        """Returns the settings that using a trained model needs; see RunFolder."""
        task = self.task
        return {
            "stage": PREDECESSOR.name,
            "is_external": True,
            "task_name": task.name,
            "suc_layers": None,
            "modules": None,
            "metric": None,
            "max_seq_length": self._max_seq_length,
            "do_lower_case": self._settings.do_lower_case,
            "tokenizer": self._settings.to_record(),
            "precision": "float32",
            **task.record(),
        }

    def takes_texts(self):
        """Returns the possible numbers of texts in an example, a tuple of int; no file tells it."""
        takes_pairs = self._has_segments and self.model.config.type_vocab_size > 1
        return (1, 2) if takes_pairs else (1,)

    def sound_best(self):
        """Returns a Checkpoint that stands for its weights."""
        return Checkpoint(os.path.basename(self.weights.prefix), 0)

    def best_checkpoint(self):
        """Returns the prefix or the path of its weights."""
        return self.weights.prefix


def head_of(folder, source=None):
    """Returns the head.Head of the weights in a folder.

    Args:
      folder: the folder of the weights, which may be inside a stage's folder.
      source: the StageFolder that they belong to; None if it is not known.
    """
    if source is None and os.path.basename(folder) in ("best", "last"):
        source = StageFolder(os.path.dirname(folder))
    if source is not None and source.run_config():
        return head.of_task(tasks.recorded(source.trained_run_config()))
    return head.read(folder)


def _own_task(known, num_rows, path):
    """Returns the Task of a classifier whose user gives none, by its files and number of rows."""
    if known.problem == "regression" or num_rows == 1:
        return tasks.TASKS["custom_number"]
    names = known.names
    if not names or len(names) != num_rows:
        names = tuple(map(str, range(num_rows)))
        logging.info("%s: no file names its labels; they are called %s", path, ", ".join(names))
    return dataclasses.replace(tasks.TASKS["custom"], labels=names)


def check_pairs(model, task):
    """Raises UserError if a task has pairs of texts but a Model has no second segment."""
    if task.num_texts == 2 and model.config.type_vocab_size < 2:
        raise UserError(
            "%s: the BERT has type_vocab_size = %d, but the pairs of %s need 2; give a BERT "
            "with 2, or a task of single texts"
            % (os.path.dirname(model.vocab_file), model.config.type_vocab_size, task.name)
        )


def is_external(path):
    """Returns whether a path is not a stage's: a BERT's folder, a checkpoint, or owner/name."""
    if not os.path.exists(path):
        return os.path.exists(path + ".index") or pretrained.is_hub_id(path)
    return weights_lib.holds_checkpoint(path)


def hash_vocab(model):
    """Returns the SHA-256, in hex, of the vocabulary of a pretrained.Model."""
    return hash_text(tokenization.read_vocab(model.vocab_file))


def check_altered(recorded, model):
    """Raises UserError if a stage's vocabulary or config differs from its run config's."""
    vocab = hash_vocab(model)
    if recorded.get("vocab", vocab) != vocab:
        raise UserError(
            "%s: is damaged: it differs from the file that the run started with" % model.vocab_file
        )
    config = model.config.to_dict()
    if recorded.get("bert_config", config) != config:
        folder = os.path.dirname(model.vocab_file)
        raise UserError(
            "%s: its bert_config.json differs from the one that the run started with" % folder
        )


def model_of(folder):
    """Returns the pretrained.Model of a StageFolder, or of an ExternalClassifier."""
    if isinstance(folder, ExternalClassifier):
        return folder.model
    return pretrained.read_model(folder.path, folder.trained_run_config()["max_seq_length"])


def task_of(folder):
    """Returns the tasks.Task of a StageFolder with a model, or of an ExternalClassifier."""
    return tasks.recorded(folder.trained_run_config())


def trained_folder(path, *args, **kwargs):
    """Returns the StageFolder at a path, or ExternalClassifier(path, *args, **kwargs).

    Raises:
      UserError: it is neither.
    """
    folder = StageFolder(path)
    if folder.run_config() and folder.state().best:
        return folder
    if not folder.run_config() and is_external(path):
        return ExternalClassifier(path, *args, **kwargs)
    if not folder.run_config() and pretrained.holds_config(path):
        weights_lib.find_checkpoint(path)  # Raises UserError: a BERT's config without weights.
    weights_lib.refuse_answering(path)
    raise UserError(
        "%s: holds no trained model; give the output folder of a trained stage, or a fine-tuned "
        "BERT (a Hugging Face folder, owner/name of its hub, or a checkpoint)" % path
    )
