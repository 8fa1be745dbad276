"""Finds a trained model that a command names beside its own: a teacher, or one to compare."""

import collections

from theseus.checkpoints import weights as weights_lib
from theseus.errors import UserError, naming
from theseus.inference import model_folder
from theseus.inputs import tasks, tokenizer_settings
from theseus.runs.files import hash_files


def find(flag, path, context):
    """Returns the StageFolder, or the ExternalClassifier, that a flag names.

    Args:
      flag: str, its name.
      path: str, the flag's value.
      context: the command's Context.

    Raises:
      UserError: the model is not a trained classifier, or has another task, other labels or
        another number of texts.
    """
    task = context.task
    with naming(flag):
        config = context.config
        bert, case = config.bert_pretrained_model, config.do_lower_case
        folder = model_folder.trained_folder(path, task, bert, flag, do_lower_case=case)
        folder.best_checkpoint()
    recorded = folder.trained_run_config()
    was = "--%s: %s was trained on" % (flag, path)
    if recorded["task_name"] != task.name:
        raise UserError(
            "%s %s, this command is for %s; give one trained on the same task"
            % (was, recorded["task_name"], task.name)
        )
    other = tasks.recorded(recorded)
    if not other.has_labels_of(task):
        raise UserError(
            "%s the labels %s, this command has %s; give one with the same labels"
            % (was, ",".join(other.labels), ",".join(task.labels))
        )
    if other.num_texts != task.num_texts:
        raise UserError(
            "%s %d text%s per example, this command has %d; give one with the same number"
            % (was, other.num_texts, "s"[: other.num_texts - 1], task.num_texts)
        )
    return folder


Teacher = collections.namedtuple("Teacher", "folder weights_hash")
"""A StageFolder, and the SHA-256 of its best checkpoint."""


def find_teacher(context, start):
    """Returns the Teacher of a command; None if --distill_from is not given.

    Raises:
      UserError: the teacher is not a trained classifier, or has another task, labels or
        vocabulary than the training that starts from `start`.
    """
    path = context.config.distill_from
    if path is None:
        return None
    folder = find("distill_from", path, context)
    recorded, checkpoint = folder.trained_run_config(), folder.best_checkpoint()
    model = model_folder.model_of(folder)
    same_tokenizer = tokenizer_settings.recorded(recorded) == start.tokenizer
    same_vocab = model_folder.hash_vocab(model) == model_folder.hash_vocab(start.model)
    if not (same_vocab and same_tokenizer):
        raise UserError(
            "--distill_from: %s was trained with another vocabulary, case or tokenizer; give a "
            "teacher that has the same ones" % path
        )
    return Teacher(folder, hash_files(weights_lib.checkpoint_files(checkpoint)))
