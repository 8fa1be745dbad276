"""Prepares all actions of a command before the first one begins; without TensorFlow.

Each function returns the `prepared` of its action's `run`, and raises UserError if something is
missing or does not fit: before TensorFlow is imported and a training of hours begins.
"""

import collections
import importlib.util
import os
import sys

from absl import logging

from theseus.commands import initial_checkpoint, other_model
from theseus.commands.run_config import check_contradiction, make_run_config
from theseus.errors import UserError
from theseus.export import formats
from theseus.export.export_folder import ExportFolder
from theseus.inputs import encoding, reading
from theseus.quiet import import_tensorflow

_EXPORTS = sys.version_info >= (3, 8)  # Python 3.7 has TensorFlow 1.15.


def train(context):
    """Returns (InitialCheckpoint, Teacher or None, what defines the run except the devices)."""
    _check_label_flags(context.config, context.task)
    _check_undefined_score(context)  # An error in dev is found before anything is written.
    start = initial_checkpoint.find_initial_checkpoint(context.config, context.task)
    if context.folder.state().last is None:  # A resumed training has its classifier.
        initial_checkpoint.check_frozen_classifier(start, context.config)
    teacher = other_model.find_teacher(context, start)
    run_config = make_run_config(context, start, teacher)
    if context.config.distribution != "multi_worker":  # Only the first worker has the folder.
        check_contradiction(context.folder, run_config)
    return start, teacher, run_config


def _check_label_flags(config, task):
    """Raises UserError for a flag that does not fit the task's labels."""
    if task.is_regression and (config.class_weights or config.label_smoothing):
        name = "class_weights" if config.class_weights else "label_smoothing"
        raise UserError(
            "--%s: applies only to tasks with labels, this task predicts a number; leave it out"
            % name
        )
    if config.class_weights not in ((), "balanced"):
        if len(config.class_weights) != len(task.labels):
            raise UserError(
                "--class_weights: found %d numbers, the task has the labels %s; give one "
                "number for each label" % (len(config.class_weights), ",".join(task.labels))
            )


def _check_undefined_score(context):
    """Raises UserError if the score that selects the best epoch is undefined on dev."""
    from theseus.inference import metrics  # Imports scikit-learn, which takes a second.

    dev, task = context.data.dev(), context.task
    labels = encoding.encode_labels([example.label for example in dev.examples], task)
    reason = metrics.why_undefined(task, labels)
    if reason and context.config.select_checkpoint == "best":
        raise UserError(
            "%s: %s, but this score selects the best epoch; give another dev file, another "
            "--metric, or --select_checkpoint=last" % (dev.path, reason)
        )
    if reason:
        logging.warning("%s: %s", dev.path, reason)


def evaluate(context):
    """Returns (ExampleFiles: of the split, then each of --eval_files; StageFolders to compare)."""
    _check_task_flags(context)
    config = context.config
    if config.calibrate and not config.do_train and context.folder.run_config() is None:
        raise UserError(
            "--calibrate: applies only to a stage that this program trained; leave it out"
        )
    split = config.eval_split
    named = list(zip(context.task.files(split), context.data.paths(split)))
    named += [(path, path) for path in config.eval_files]
    logging.info("evaluating on %s", ", ".join(path for _, path in named))
    others = [other_model.find("compare_with", path, context) for path in config.compare_with]
    return [context.data.labelled(path, name) for name, path in named], others


def _check_task_flags(context):
    """Raises UserError for a flag that does not apply to the task's kind of labels."""
    config, task = context.config, context.task
    if config.threshold is not None and len(task.labels) != 2:
        raise UserError("--threshold: applies only to tasks with two labels; leave it out")
    for name in ("calibrate", "abstain_below", "compare_with"):
        if task.is_regression and config.has(name):
            raise UserError(
                "--%s: applies only to tasks with labels, this task predicts a number; leave "
                "it out" % name
            )


def predict(context):
    """Returns (path, number of examples); reads the whole file, which may be larger than memory."""
    _check_task_flags(context)
    path = context.config.predict_file or context.data.paths("test")[0]
    return path, sum(1 for _ in examples_of(context, path))


def examples_of(context, path):
    """Yields the Examples of a file, labelled or not, with all of its columns."""
    data = context.data
    return reading.iterate_examples(
        path, data.task, labels_required=False, form=data.form, keeps_others=True
    )


def export(context):
    """Returns (the ExportFolders by format, the ExampleFile of dev to compare exports on)."""
    places = _export_folders(context)
    check_missing_packages(places)
    for place in places.values():
        place.check()
    return places, context.data.dev()


def _export_folders(context):
    """Returns the export_folder.ExportFolder of each export by the name of its format."""
    config, places = context.config, collections.OrderedDict()
    for name in _formats(config):
        place = context.result(os.path.join("export", name))
        path = config.export_dir or context.folder.file(place)
        places[name] = ExportFolder(path)
    return places


def _formats(config):
    """Yields the names in formats.FORMATS that --export_format and --quantize ask for."""
    for name in config.export_format:
        if name == "onnx":
            yield from ["onnx" if kind == "none" else "onnx_" + kind for kind in config.quantize]
        else:
            yield name


def check_missing_packages(names):
    """Raises UserError if TensorFlow is 1.15, or a package that a format needs is missing."""
    if not _EXPORTS:
        raise UserError(
            "--do_export: needs TensorFlow 2.21, this is %s; run the same command on the same "
            "folder with TensorFlow 2.21" % import_tensorflow().__version__
        )
    for name in names:
        packages = formats.FORMATS[name].packages
        missing = [package for package in packages if importlib.util.find_spec(package) is None]
        if missing:
            raise UserError(
                "--export_format: %s needs the package %s; pip install %s"
                % (name, " and ".join(missing), " ".join(missing))
            )


ACTIONS = {"train": train, "evaluate": evaluate, "predict": predict, "export": export}
"""The function of each action, by its name."""
