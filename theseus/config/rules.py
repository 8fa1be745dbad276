"""What the flags must fulfil together, and what must be there; without TensorFlow."""

from __future__ import annotations

import os
from typing import Callable, Iterable, NamedTuple, Sequence

from theseus.checkpoints import pretrained
from theseus.config.config import Config
from theseus.distribution.cluster import read_cluster
from theseus.errors import UserError
from theseus.inputs import lines, rows, tasks
from theseus.limits import check_little_memory
from theseus.stage import SUCCESSOR_STARTS


class Rule(NamedTuple):
    """What several flags must fulfil together.

    Attributes:
      is_met: function from a Config to bool.
      message: str, for a command that does not meet it.
    """

    is_met: Callable[[Config], bool]
    message: str


def _given(*names: str) -> Callable[[Config], bool]:
    """Returns a function that says whether a Config has any of some flags."""
    return lambda config: any(config.has(name) for name in names)


def _are_different(values: Sequence[str]) -> bool:
    return all(values) and len(set(values)) == len(values)


def _needs(names: Iterable[str], *needed: str) -> Rule:
    """Returns the Rule that any of some flags needs one of others."""
    names = list(names)
    message = "--%s needs %s" % (" and --".join(names), " or ".join("--" + n for n in needed))
    return Rule(lambda config: not _given(*names)(config) or _given(*needed)(config), message)


def _stage_is(config: Config, *numbers: int) -> bool:
    return config.stage.number in numbers


def _has_one_slope(config: Config) -> bool:
    slopes = [config.replace_linear_k, config.replace_until]
    count = sum(slope is not None for slope in slopes)
    return count == (1 if config.replace_scheduler == "linear" else 0)


RULES = (
    Rule(
        lambda config: bool(config.actions or config.version),
        "give at least one of --do_train, --do_eval, --do_predict and --do_export",
    ),
    Rule(
        lambda config: not (config.finetune_pre and config.finetune_suc),
        "--finetune_pre is stage 0 and --finetune_suc stage 2; give only one of them",
    ),
    Rule(
        _has_one_slope,
        "--replace_scheduler: linear takes exactly one of --replace_linear_k and --replace_until; "
        "constant takes neither",
    ),
    Rule(
        lambda config: config.steps_for_replacing is None or config.replace_scheduler == "constant",
        "--steps_for_replacing is for a constant rate; leave it out",
    ),
    Rule(
        lambda config: not config.eval_files or _are_different(config.eval_files),
        "--eval_files: names a file twice, or an empty name",
    ),
    Rule(
        lambda config: not config.compare_with or _are_different(config.compare_with),
        "--compare_with: names a folder twice, or an empty name",
    ),
    _needs(["eval_files"], "do_eval"),
    _needs(["compare_with"], "do_eval"),
    _needs(["predict_file"], "do_predict"),
    _needs(["threshold"], "do_eval", "do_predict"),
    _needs(["abstain_below"], "do_eval", "do_predict"),
    _needs(["replaced_modules"], "do_eval", "do_predict", "do_export"),
    _needs(["do_export"], "export_format"),
    _needs(["export_format"], "do_export"),
    Rule(
        lambda config: config.eval_split == "dev" or config.do_eval,
        "--eval_split=test is for --do_eval",
    ),
    Rule(
        lambda config: not config.calibrate or (config.do_eval and config.eval_split == "dev"),
        "--calibrate needs --do_eval with --eval_split=dev",
    ),
    Rule(
        lambda config: config.export_dir is None or len(config.export_format) == 1,
        "--export_dir takes one --export_format",
    ),
    Rule(
        lambda config: config.quantize is None or "onnx" in config.export_format,
        "--quantize is for --export_format=onnx",
    ),
    Rule(
        lambda config: (
            tasks.TASKS[config.task_name].takes_columns
            or not _given("text_a_column", "text_b_column", "label_column")(config)
        ),
        "columns are for --task_name=tsv and tsv_number",
    ),
    Rule(
        lambda config: config.task_name == "tsv" or not config.labels,
        "--labels is for --task_name=tsv",
    ),
    Rule(
        lambda config: (
            config.delimiter is None
            or (config.format == "csv" and rows.is_delimiter(config.delimiter))
        ),
        "--delimiter takes one character, or tab, and needs --format=csv",
    ),
    Rule(
        lambda config: config.encoding is None or lines.is_encoding(config.encoding),
        "--encoding: unknown to Python; give one such as gb18030, big5 or utf-16",
    ),
    Rule(
        lambda config: config.gradient_accumulation_steps <= config.train_batch_size,
        "--gradient_accumulation_steps: a step's batch cannot be cut into more parts than its "
        "--train_batch_size examples",
    ),
    Rule(
        lambda config: (
            config.distill_from is not None
            or not config.given & {"distill_temperature", "distill_weight"}
        ),
        "--distill_temperature and --distill_weight are for --distill_from",
    ),
    Rule(
        lambda config: config.distill_from is None or _stage_is(config, 1, 2),
        "--distill_from is for stages 1 and 2",
    ),
    Rule(
        lambda config: config.select_checkpoint == "best" or config.early_stopping_patience is None,
        "--early_stopping_patience goes back to the best checkpoint; leave out "
        "--select_checkpoint=last, or the patience",
    ),
    Rule(
        lambda config: (
            config.suc_learning_rate is None
            or (_stage_is(config, 1, 2) and config.learning_rate > 0)
        ),
        "--suc_learning_rate: stage 0 has no successor; --learning_rate, of which it is a "
        "multiple, must be above 0",
    ),
    Rule(
        lambda config: config.distribution == "none" or config.do_train,
        "--distribution is for --do_train",
    ),
    Rule(
        lambda config: config.replaced_modules is None or _stage_is(config, 1),
        "--replaced_modules is for stage 1",
    ),
    Rule(
        lambda config: not config.keep_predecessor or _stage_is(config, 1),
        "--keep_predecessor is for stage 1",
    ),
    Rule(
        lambda config: config.train_scope in (None, "all") or _stage_is(config, 1, 2),
        "--train_scope: stage 0 trains all; it has no successor",
    ),
)


def check(config: Config) -> None:
    """Checks everything about a command that needs no TensorFlow.

    Raises:
      UserError: flags contradict each other, or a file, memory or TF_CONFIG is missing.
    """
    for rule in RULES:
        if not rule.is_met(config):
            raise UserError(rule.message)
    if config.version:
        return
    check_columns_and_labels(config)
    _check_paths(config)
    _check_suc_init(config)
    check_little_memory()
    if config.distribution == "multi_worker":
        read_cluster(os.environ)


def check_columns_and_labels(config: Config) -> None:
    """Raises UserError for columns or labels that no file can have."""
    columns = tasks.NamedColumns(config.text_a_column, config.text_b_column, config.label_column)
    tasks.with_labels(tasks.with_columns(tasks.TASKS["tsv"], columns), list(config.labels))


def _check_paths(config: Config) -> None:
    """Raises UserError for a path that does not exist."""
    paths = [("eval_files", path) for path in config.eval_files]
    paths += [("predict_file", config.predict_file)] if config.predict_file else []
    for name, path in paths:
        if path != "-" and not os.path.exists(path):
            raise UserError("--%s: there is no file %s" % (name, path))
    reads_splits = config.actions != ("predict",)
    if (reads_splits or not config.predict_file) and not os.path.isdir(config.data_dir):
        raise UserError("--data_dir: there is no folder %s" % config.data_dir)
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
    if start is not None and start not in SUCCESSOR_STARTS and "/" not in start:
        if config.do_train and not os.path.isdir(start):
            choices = ", ".join(SUCCESSOR_STARTS)
            raise UserError("--suc_init: %r is none of %s, nor a folder" % (start, choices))
