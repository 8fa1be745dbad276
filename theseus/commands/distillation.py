"""--distill_from: a trained stage as the teacher, whose logits are computed once.

Source: Hinton et al., Distilling the Knowledge in a Neural Network, arXiv 1503.02531.
"""

import collections

from theseus.checkpoints import pretrained
from theseus.checkpoints import weights as weights_lib
from theseus.errors import UserError, naming
from theseus.inference import evaluation, trained_model
from theseus.inputs import cache, tasks
from theseus.runs.files import hash_files

Teacher = collections.namedtuple("Teacher", "folder weights_hash")
"""A StageFolder, and the SHA-256 of its best checkpoint."""


def find_teacher(context, start):
    """Returns the Teacher of a command; None where it names none.

    Raises:
      UserError: it is not a trained stage's folder, or of another task, other labels or another
        vocabulary than the training that starts from `start`.
    """
    path = context.options.start.distill_from
    if path is None:
        return None
    with naming("distill_from"):
        folder = trained_model.trained_folder(path, "the output folder of a trained stage")
        checkpoint = folder.best_checkpoint()
    recorded, task = folder.trained_definition(), context.task
    if recorded["task_name"] != task.name:
        raise UserError(
            "--distill_from: %s was trained on %s, this command is for %s; give a teacher of the "
            "same task" % (path, recorded["task_name"], task.name)
        )
    taught = tasks.recorded(recorded)
    labels = taught.labels
    if labels != task.labels:
        raise UserError(
            "--distill_from: %s was trained on the labels %s, this command has %s; give a teacher "
            "of the same" % (path, ",".join(labels), ",".join(task.labels))
        )
    if taught.num_texts != task.num_texts:
        raise UserError(
            "--distill_from: %s was trained on %d text%s an example, this command has %d; give a "
            "teacher of as many"
            % (path, taught.num_texts, "s"[: taught.num_texts - 1], task.num_texts)
        )
    model = pretrained.read_model(path, context.options.model.max_seq_length)
    same_case = recorded["do_lower_case"] == start.do_lower_case
    if trained_model.hash_vocab(model) != trained_model.hash_vocab(start.model) or not same_case:
        raise UserError(
            "--distill_from: %s was trained with another vocabulary or case; give a teacher of the "
            "same" % path
        )
    return Teacher(folder, hash_files(weights_lib.checkpoint_files(checkpoint)))


def teacher_logits(context, teacher, train_data, definition):
    """Returns the teacher's logits over the training data, float32 [rows, outputs].

    They are kept beside the encoded examples, under a name made of what they depend on.

    Args:
      context: a Context.
      teacher: a Teacher.
      train_data: EncodedExamples.
      definition: dict, what defines the run.
    """

    def compute():
        with trained_model.load(teacher.folder) as trained:
            run = evaluation.runner(trained.session, trained.graph)
            batch_size = context.options.inference.eval_batch_size
            with evaluation.progress_bar("teacher", len(train_data)) as bar:
                return [{"logits": evaluation.compute_logits(run, train_data, batch_size, bar)}]

    path = context.data.cache_file(definition, ["teacher", teacher.weights_hash])
    return cache.through_cache(path, ("logits",), compute)["logits"]
