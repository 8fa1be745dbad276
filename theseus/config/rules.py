"""Checks combinations of flags, and paths that must exist; without TensorFlow."""

from __future__ import annotations

import os
from typing import Iterator

from theseus.checkpoints import pretrained
from theseus.config.config import Config
from theseus.distribution.cluster import read_cluster
from theseus.errors import UserError
from theseus.inputs import lines, rows, tasks
from theseus.limits import check_little_memory
from theseus.stage import SUCCESSOR_STARTS, layer_numbers

_NEEDED = {
    "eval_files": ("do_eval",),
    "compare_with": ("do_eval",),
    "predict_file": ("do_predict",),
    "threshold": ("do_eval", "do_predict"),
    "abstain_below": ("do_eval", "do_predict"),
    "replaced_modules": ("do_eval", "do_predict", "do_export"),
    "do_export": ("export_format",),
    "export_format": ("do_export",),
}
"""Maps a flag to a list of flags; it needs at least one of them."""


def _broken(config: Config) -> Iterator[str]:
    """Yields a message for each broken rule on combining flags."""
    yield from _broken_by_actions(config)
    yield from _broken_by_files(config)
    yield from _broken_by_training(config)


def _broken_by_actions(config: Config) -> Iterator[str]:
    if not (config.actions or config.version):
        yield "give at least one of --do_train, --do_eval, --do_predict and --do_export"
    if config.finetune_pre and config.finetune_suc:
        yield "--finetune_pre is stage 0 and --finetune_suc stage 2; give only one of them"
    for name, kind in (("eval_files", "file"), ("compare_with", "folder")):
        values = getattr(config, name)
        if len(set(filter(None, values))) < len(values):
            yield "--%s: a %s is named twice, or a name is empty" % (name, kind)
    for name, needed in _NEEDED.items():
        if config.has(name) and not any(map(config.has, needed)):
            yield "--%s needs %s" % (name, " or ".join("--" + other for other in needed))
    if config.eval_split != "dev" and not config.do_eval:
        yield "--eval_split=test needs --do_eval"
    if config.calibrate and not (config.do_eval and config.eval_split == "dev"):
        yield "--calibrate needs --do_eval with --eval_split=dev"
    if config.export_dir is not None and len(config.export_format + config.quantize) != 2:
        yield "--export_dir needs exactly one --export_format, and one --quantize"
    if config.quantize != ("none",) and "onnx" not in config.export_format:
        yield "--quantize needs --export_format=onnx"
    if config.replaced_modules is not None and not config.stage.replaces:
        yield "--replaced_modules applies only to stage 1"


def _broken_by_files(config: Config) -> Iterator[str]:
    columns = (config.text_a_column, config.text_b_column, config.label_column)
    if columns != (None, None, None) and not tasks.TASKS[config.task_name].takes_columns:
        yield (
            "--text_a_column, --text_b_column and --label_column apply only to "
            "--task_name=custom and custom_number"
        )
    if config.labels and config.task_name != "custom":
        yield "--labels applies only to --task_name=custom"
    if config.delimiter is not None:
        if config.format != "csv" or not rows.is_delimiter(config.delimiter):
            yield "--delimiter takes one character, or tab, and needs --format=csv"
    if config.encoding is not None and not lines.is_encoding(config.encoding):
        yield (
            "--encoding: Python knows no such encoding; give one such as gb18030, big5 or utf-16"
        )


def _broken_by_training(config: Config) -> Iterator[str]:
    num_slopes = sum(map(config.has, ["replace_linear_k", "replace_until"]))
    if num_slopes != (config.replace_scheduler == "linear"):
        yield (
            "--replace_scheduler: linear takes exactly one of --replace_linear_k and "
            "--replace_until; constant takes neither"
        )
    if config.steps_for_replacing is not None and config.replace_scheduler != "constant":
        yield "--steps_for_replacing applies only to a constant rate; leave it out"
    if config.gradient_accumulation_steps > config.train_batch_size:
        yield (
            "--gradient_accumulation_steps: must be at most --train_batch_size, so that each "
            "micro-batch has an example"
        )
    if config.distill_from is None and config.given & {"distill_temperature", "distill_weight"}:
        yield "--distill_temperature and --distill_weight need --distill_from"
    if config.distill_from is None and config.unlabelled_file is not None:
        yield "--unlabelled_file needs --distill_from: its examples have only a teacher's answers"
    if config.distill_from is not None and not config.stage.has_successor:
        yield "--distill_from applies only to stages 1 and 2"
    if config.select_checkpoint != "best" and config.early_stopping_patience is not None:
        yield (
            "--early_stopping_patience returns to the best checkpoint; leave out either this "
            "flag or --select_checkpoint=last"
        )
    if config.suc_learning_rate is not None:
        if not config.stage.has_successor or config.learning_rate <= 0:
            yield ("--suc_learning_rate: needs stage 1 or 2, and a --learning_rate above 0")
    if config.distribution != "none" and not config.do_train:
        yield "--distribution needs --do_train"
    if config.keep_predecessor and not config.stage.replaces:
        yield "--keep_predecessor applies only to stage 1"
    if config.train_scope not in (None, "all") and not config.stage.has_successor:
        yield "--train_scope: stage 0 has no successor and always trains all; leave the flag out"


def check(config: Config) -> None:
    """Checks everything in a command that can be checked without TensorFlow.

    Raises:
      UserError: flags contradict each other; the columns or labels are impossible; a file or
        TF_CONFIG is missing; or the memory limit is too low.
    """
    for message in _broken(config):
        raise UserError(message)
    if config.version:
        return
    columns = tasks.NamedColumns(config.text_a_column, config.text_b_column, config.label_column)
    tasks.of_flags("custom", columns, config.labels)
    _check_paths(config)
    _check_suc_init(config)
    check_little_memory()
    if config.distribution == "multi_worker":
        read_cluster(os.environ)


def check_files(config: Config) -> None:
    """Checks only the flags about how files are read.

    Args:
      config: a Config, or absl's FLAGS of a script that has them.

    Raises:
      UserError: they contradict each other, or there is no such encoding.
    """
    for message in _broken_by_files(config):
        raise UserError(message)


def _check_paths(config: Config) -> None:
    """Raises UserError for a path that does not exist."""
    paths = [("eval_files", path) for path in config.eval_files]
    paths += [(name, getattr(config, name) or "-") for name in ("predict_file", "unlabelled_file")]
    for name, path in paths:
        if path != "-" and not os.path.exists(path):
            raise UserError("--%s: there is no file %s" % (name, path))
    reads_splits = config.actions != ("predict",)
    if (reads_splits or not config.predict_file) and not os.path.isdir(config.data_dir):
        raise UserError(
            "--data_dir: there is no folder %s; give one with train and dev" % config.data_dir
        )
    start = config.init_checkpoint
    if start:
        is_there = any(map(os.path.exists, [start, start + ".index"]))
        if not is_there and not pretrained.is_hub_id(start):
            raise UserError(
                "--init_checkpoint: there is no %s; give a stage's output folder, a BERT's folder, "
                "a checkpoint's prefix, or owner/name of the Hugging Face hub" % start
            )


def _check_suc_init(config: Config) -> None:
    """Raises UserError for a --suc_init that is not a choice, a folder or a name of the hub."""
    start = config.suc_init
    if start is None or start in SUCCESSOR_STARTS or "/" in start or layer_numbers(start):
        return
    if config.do_train and not os.path.isdir(start):
        choices = ", ".join(SUCCESSOR_STARTS)
        raise UserError(
            "--suc_init=%s: expected one of %s, layers such as 0,5,11, or a BERT's folder"
            % (start, choices)
        )
