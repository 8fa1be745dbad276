"""Compares trained models: layers, parameters, score on dev, and seconds per batch of 10.

    python scripts/compare_models.py out_0 out_2 [...] [--data_dir=data/sample]

The arguments are output folders of stages, or fine-tuned classifiers (a Hugging Face folder,
owner/name of its hub, a TensorFlow checkpoint). All are compared with the first one, usually the
predecessor. The score is the task's, of a folder's best checkpoint on dev; a classifier from
elsewhere is evaluated now. The time is the graph's on tokenized examples of dev; the models take
turns, batch by batch.
"""

import contextlib
import sys
import time

import numpy as np
from absl import app, flags, logging
from tqdm import tqdm

from theseus.errors import UserError
from theseus.quiet import quiet_tensorflow

with quiet_tensorflow():
    import tensorflow.compat.v1 as tf

    from theseus.inference import evaluation, metrics, model_folder, trained_model
    from theseus.inference.model_folder import ExternalClassifier
    from theseus.inputs import batches, encoding, reading, sources, tasks
    from theseus.runs.stage_folder import StageFolder
    from theseus.session import set_up_tensorflow
    from theseus.training import graph as graph_lib

FLAGS = flags.FLAGS
_EVAL_BATCH_SIZE = 128


class TimedModel(object):
    """A folder's model with dev batches that are ready to be fed."""

    def __init__(self, folder, loaded, recorded):
        """Prepares a model.

        Args:
          folder: a StageFolder or an ExternalClassifier.
          loaded: its trained_model.TrainedModel.
          recorded: dict, the run config that tells how dev is read.
        """
        own = loaded.run_config
        self.name = folder.path
        self.forward = evaluation.runner(loaded.session, loaded.graph)
        self.task = task = tasks.recorded(own)
        self.dev_data = own.get("dev_data", recorded.get("dev_data"))
        path = sources.find_files(FLAGS.data_dir, task, "dev")[0]
        dev = reading.read_examples(path, task, form=sources.recorded_options(recorded, path))
        if isinstance(folder, ExternalClassifier):
            encoded = self._encode(dev, loaded)
            values, _ = evaluation.evaluate(
                task, self.forward, encoded, _EVAL_BATCH_SIZE, self.name
            )
        else:
            values = folder.state().best_evaluation()
        self.score = metrics.score(task, values)
        self.encoded = self._encode(reading.sample_examples(dev, num_timed_examples()), loaded)
        variables = loaded.session.graph.get_collection(tf.GraphKeys.TRAINABLE_VARIABLES)
        self.num_parameters = graph_lib.count_parameters(variables)
        self.num_layers = len(loaded.layers)

    def _encode(self, examples, loaded):
        length = loaded.run_config["max_seq_length"]
        return encoding.encode_examples(examples, self.task, loaded.tokenizer, length)

    def run(self, rows):
        """Returns the seconds of one batch."""
        arrays = self.encoded.batch(rows)
        start = time.perf_counter()
        self.forward(arrays)
        return time.perf_counter() - start


def check_different(models):
    """Raises UserError if the scores of TimedModels cannot be compared."""
    first = models[0]
    for model in models[1:]:
        if model.task.name != first.task.name or not model.task.has_labels_of(first.task):
            raise UserError(
                "%s: has another task, or other labels, than %s; compare models of one task"
                % (model.name, first.name)
            )
        if model.task.metrics != first.task.metrics:
            raise UserError(
                "%s: its best epoch was selected by %s, that of %s by %s (--metric); their "
                "scores cannot be compared"
                % (model.name, model.task.score_name, first.name, first.task.score_name)
            )
        if model.dev_data != first.dev_data:
            logging.warning("%s: was trained with other dev data than %s", model.name, first.name)


def num_warmup_batches():
    return FLAGS.num_batches // 4


def num_timed_examples():
    return FLAGS.batch_size * (FLAGS.num_batches + num_warmup_batches())


def median_seconds(models):
    """Returns the median seconds per batch of each model, on the same batches for all."""
    lengths = models[0].encoded.lengths
    plan = batches.plan_epoch(lengths, FLAGS.batch_size, 0, 0)
    num_batches = FLAGS.num_batches + num_warmup_batches()
    plan = (plan * num_batches)[:num_batches]
    seconds = [
        [model.run(rows) for model in models]
        for rows in tqdm(plan, "timing", leave=False, disable=None)
    ]
    return np.median(seconds[num_warmup_batches() :], axis=0)


def format_rows(models, seconds):
    """Returns the table, str."""
    width = max(len(model.name) for model in models)
    score_name = "dev " + models[0].task.score_name
    lines = [
        "%-*s  layers  parameters  %s  retained  seconds per batch of %d  speed-up"
        % (width, "model", score_name, FLAGS.batch_size)
    ]
    for model, spent in zip(models, seconds):
        lines.append(
            "%-*s  %6d  %10s  %*.4f  %8s  %*.4f  %7.2fx"
            % (
                width,
                model.name,
                model.num_layers,
                "{:,}".format(model.num_parameters),
                len(score_name),
                model.score,
                "%.1f%%" % (100 * model.score / models[0].score) if models[0].score > 0 else "-",
                21 + len(str(FLAGS.batch_size)),
                spent,
                seconds[0] / spent,
            )
        )
    return "\n".join(lines)


def find_models(paths):
    """Returns (StageFolders and ExternalClassifiers, the run config that tells how dev is read).

    Raises:
      UserError: there is no such run config, or a path is neither of the two.
    """
    if not paths:
        raise UserError("give the output folders of stages, such as out_0 out_2")
    stages = [folder for folder in map(StageFolder, paths) if folder.run_config()]
    if not stages:
        for path in paths:
            model_folder.trained_folder(path)
        raise UserError(
            "give the output folder of at least one stage besides classifiers from elsewhere"
        )
    recorded = stages[0].trained_run_config()
    task = tasks.recorded(recorded)
    return [model_folder.trained_folder(path, task) for path in paths], recorded


def main(argv):
    set_up_tensorflow()
    try:
        folders, recorded = find_models(argv[1:])
        with contextlib.ExitStack() as stack:
            loaded = [stack.enter_context(trained_model.load(folder)) for folder in folders]
            models = [TimedModel(*pair, recorded) for pair in zip(folders, loaded)]
            check_different(models)
            print(format_rows(models, median_seconds(models)))
    except UserError as error:
        sys.exit("compare_models.py: %s" % error)


if __name__ == "__main__":
    flags.DEFINE_string("data_dir", "data/sample", "Folder with the dev file that is timed.")
    flags.DEFINE_integer("batch_size", 10, "Number of examples in a batch.", lower_bound=1)
    flags.DEFINE_integer(
        "num_batches",
        40,
        "Number of timed batches; a quarter as many run before them, untimed.",
        lower_bound=1,
    )
    app.run(main)
