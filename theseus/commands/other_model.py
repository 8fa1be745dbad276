"""A trained stage that a command names beside its own: a teacher, or one to compare with."""

from theseus.errors import UserError, naming
from theseus.inference import model_folder
from theseus.inputs import tasks


def find(flag, path, context):
    """Returns the StageFolder, or the ExternalClassifier, that a flag names.

    Args:
      flag: str, its name.
      path: str, its value.
      context: the command's Context.

    Raises:
      UserError: it is no trained classifier, or of another task, other labels or another
        number of texts.
    """
    task = context.task
    with naming(flag):
        bert = context.config.bert_pretrained_model
        folder = model_folder.trained_folder(path, task, bert, flag)
        folder.best_checkpoint()
    recorded = folder.trained_run_config()
    was = "--%s: %s was trained on" % (flag, path)
    if recorded["task_name"] != task.name:
        raise UserError(
            "%s %s, this command is for %s; give one of the same task"
            % (was, recorded["task_name"], task.name)
        )
    other = tasks.recorded(recorded)
    if other.labels != task.labels:
        raise UserError(
            "%s the labels %s, this command has %s; give one of the same"
            % (was, ",".join(other.labels), ",".join(task.labels))
        )
    if other.num_texts != task.num_texts:
        raise UserError(
            "%s %d text%s an example, this command has %d; give one of as many"
            % (was, other.num_texts, "s"[: other.num_texts - 1], task.num_texts)
        )
    return folder
