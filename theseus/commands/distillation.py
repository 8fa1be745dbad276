"""--distill_from: a trained stage as the teacher, whose logits are computed once.

Source: Hinton et al., Distilling the Knowledge in a Neural Network, arXiv 1503.02531.
"""

import collections

from theseus.checkpoints import weights as weights_lib
from theseus.commands import other_model
from theseus.errors import UserError
from theseus.inference import evaluation, model_folder, predictions, trained_model
from theseus.inputs import cache, tokenizer_settings
from theseus.runs.files import hash_files

Teacher = collections.namedtuple("Teacher", "folder weights_hash")
"""A StageFolder, and the SHA-256 of its best checkpoint."""


def find_teacher(context, start):
    """Returns the Teacher of a command; None where it names none.

    Raises:
      UserError: it is not a trained stage's folder, or of another task, other labels or another
        vocabulary than the training that starts from `start`.
    """
    path = context.config.distill_from
    if path is None:
        return None
    folder = other_model.find("distill_from", path, context)
    recorded, checkpoint = folder.trained_run_config(), folder.best_checkpoint()
    model = model_folder.model_of(folder)
    same_tokenizer = tokenizer_settings.recorded(recorded) == start.tokenizer
    same_vocab = model_folder.hash_vocab(model) == model_folder.hash_vocab(start.model)
    if not (same_vocab and same_tokenizer):
        raise UserError(
            "--distill_from: %s was trained with another vocabulary, case or tokenizer; give a "
            "teacher of the same" % path
        )
    return Teacher(folder, hash_files(weights_lib.checkpoint_files(checkpoint)))


def teacher_logits(context, teacher, train_data, run_config):
    """Returns the teacher's logits over the training data, float32 [rows, outputs].

    They are kept beside the encoded examples, under a name made of what they depend on.

    Args:
      context: a Context.
      teacher: a Teacher.
      train_data: EncodedExamples.
      run_config: dict, what defines the run.
    """

    def compute():
        with trained_model.load(teacher.folder, is_calibrated=False) as trained:
            run = evaluation.runner(trained.session, trained.graph)
            batch_size = context.config.eval_batch_size
            with predictions.progress_bar("teacher", len(train_data)) as bar:
                return [{"logits": predictions.compute_logits(run, train_data, batch_size, bar)}]

    path = context.data.cache_file(run_config, ["teacher", teacher.weights_hash])
    return cache.through_cache(path, ("logits",), compute)["logits"]
