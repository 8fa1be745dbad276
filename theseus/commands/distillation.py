"""--distill_from: a trained stage as the teacher, whose logits are computed once.

Source: Hinton et al., Distilling the Knowledge in a Neural Network, arXiv 1503.02531.
"""

from theseus.inference import evaluation, predictions, trained_model
from theseus.inputs import cache


def teacher_logits(context, teacher, train_data, run_config):
    """Returns the teacher's logits over the training data, float32 [rows, outputs].

    The logits are cached beside the encoded examples; their name is a hash of what they depend on.

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
