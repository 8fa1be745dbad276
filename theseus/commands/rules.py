"""What a command line must fulfil beyond the type of each flag; without TensorFlow."""

from __future__ import annotations

import os
import re
from typing import Any, Callable, Dict, NamedTuple, Sequence

from absl import flags

from theseus.commands.options import Options
from theseus.distribution.cluster import read_cluster
from theseus.errors import UserError
from theseus.inputs import lines, rows, tasks
from theseus.limits import refuse_little_memory

EXPORT_FORMATS = ("bert", "huggingface", "saved_model", "onnx")
SUC_INITS = ("first", "last", "spread")

# What a variable of the shell that is not set would make empty.
_NAME_SOMETHING = ["data_dir", "predict_file"]
_NAME_SOMETHING += ["stage_0_outputdir", "stage_1_outputdir", "stage_2_outputdir"]

_Values = Dict[str, Any]  # Of flags, by their names.


class Rule(NamedTuple):
    """What several flags must fulfil together.

    Attributes:
      names: list of str, the flags.
      is_met: function of a dict from these names to their values that returns a bool.
      message: str, for a command that does not.
    """

    names: Sequence[str]
    is_met: Callable[[_Values], bool]
    message: str


RULES: list[Rule] = []


def register(module: Any) -> None:
    """Has absl check the rules, and that all numbers are some, of the flags of a module."""
    for flag in flags.FLAGS.get_key_flags_for_module(module):
        if flag.flag_type() in ("int", "float"):
            flags.register_validator(flag.name, _is_in_range, "must be a number below %d" % 2**31)
    for name in _NAME_SOMETHING:
        flags.register_validator(name, _is_not_empty, "is empty; give a name, or leave it out")
    for rule in RULES:
        flags.register_multi_flags_validator(*rule)


def _is_not_empty(value: str | None) -> bool:
    return value != ""


def _is_in_range(value: float | None) -> bool:
    return value is None or abs(value) < 2**31  # Not nan either.


def _rule(names: Sequence[str], message: str) -> Callable[[Callable[[_Values], bool]], Any]:
    """Makes a Rule of the function that it stands above."""

    def add(is_met: Callable[[_Values], bool]) -> Callable[[_Values], bool]:
        RULES.append(Rule(names, is_met, message))
        return is_met

    return add


@_rule(["do_train", "do_eval", "do_predict", "do_export", "version"], "give at least one of them")
def _has_action(values: _Values) -> bool:
    return any(values.values())


@_rule(["finetune_pre", "finetune_suc"], "give one of them at the most")
def _is_one_stage(values: _Values) -> bool:
    return not all(values.values())


@_rule(["modules"], "give a whole number of at least 1 for each module, separated by commas")
def _has_sizes(values: _Values) -> bool:
    sizes = values["modules"]
    return sizes is None or bool(
        sizes and all(re.match("0*[1-9][0-9]{0,4}$", size) for size in sizes)
    )


@_rule(
    ["replace_scheduler", "replace_linear_k", "replace_until"],
    "a linear rate takes exactly one of --replace_linear_k and --replace_until, above 0; "
    "a constant one takes neither",
)
def _has_one_slope(values: _Values) -> bool:
    slopes = [values["replace_linear_k"], values["replace_until"]]
    given = [slope for slope in slopes if slope is not None]
    if values["replace_scheduler"] == "constant":
        return not given
    return len(given) == 1 and given[0] > 0


@_rule(
    ["replace_scheduler", "steps_for_replacing"],
    "--steps_for_replacing is for a constant rate",
)
def _ends_constant_rate(values: _Values) -> bool:
    return values["steps_for_replacing"] is None or values["replace_scheduler"] == "constant"


def _are_different(values: Sequence[str]) -> bool:
    return all(values) and len(set(values)) == len(values)


@_rule(["eval_files", "do_eval"], "--eval_files takes different files, and needs --do_eval")
def _names_files_once(values: _Values) -> bool:
    files = values["eval_files"]
    return not files or (values["do_eval"] and _are_different(files))


@_rule(
    ["task_name", "text_a_column", "text_b_column", "label_column", "labels"],
    "columns and labels are for --task_name=tsv; columns also for tsv_number",
)
def _describes_tsv(values: _Values) -> bool:
    columns = (values[name] for name in ("text_a_column", "text_b_column", "label_column"))
    if any(columns) and not tasks.TASKS[values["task_name"]].takes_columns:
        return False
    return values["task_name"] == "tsv" or not values["labels"]


@_rule(
    ["delimiter", "format"],
    "--delimiter takes one character, or tab, and needs --format=csv",
)
def _separates_csv(values: _Values) -> bool:
    if values["delimiter"] is None:
        return True
    return bool(values["format"] == "csv" and rows.is_delimiter(values["delimiter"]))


@_rule(["encoding"], "give an encoding that Python knows, such as gb18030, big5 or utf-16")
def _knows_encoding(values: _Values) -> bool:
    return values["encoding"] is None or lines.is_encoding(values["encoding"])


@_rule(["threshold", "do_eval", "do_predict"], "--threshold needs --do_eval or --do_predict")
def _applies_threshold(values: _Values) -> bool:
    return values["threshold"] is None or values["do_eval"] or values["do_predict"]


@_rule(["eval_split", "do_eval"], "--eval_split=test is for --do_eval")
def _evaluates_split(values: _Values) -> bool:
    return bool(values["eval_split"] == "dev" or values["do_eval"])


@_rule(["calibrate", "do_eval", "eval_split"], "--calibrate needs --do_eval, and --eval_split=dev")
def _calibrates_on_dev(values: _Values) -> bool:
    return not values["calibrate"] or (values["do_eval"] and values["eval_split"] == "dev")


@_rule(
    ["abstain_below", "do_eval", "do_predict"], "--abstain_below needs --do_eval or --do_predict"
)
def _abstains(values: _Values) -> bool:
    return values["abstain_below"] is None or values["do_eval"] or values["do_predict"]


@_rule(["compare_with", "do_eval"], "--compare_with takes different folders, and needs --do_eval")
def _compares(values: _Values) -> bool:
    folders = values["compare_with"]
    return not folders or (values["do_eval"] and _are_different(folders))


@_rule(["predict_file", "do_predict"], "--predict_file needs --do_predict")
def _predicts_file(values: _Values) -> bool:
    return values["predict_file"] is None or values["do_predict"]


@_rule(
    ["do_export", "export_format"],
    "--do_export and --export_format need each other; the format is one or several different "
    "ones of %s, separated by commas" % ", ".join(EXPORT_FORMATS),
)
def _names_formats_once(values: _Values) -> bool:
    formats = values["export_format"]
    known = len(set(formats).intersection(EXPORT_FORMATS)) == len(formats)
    return known and bool(formats) == values["do_export"]


@_rule(["export_dir", "export_format"], "--export_dir takes one --export_format")
def _exports_to_one_folder(values: _Values) -> bool:
    return values["export_dir"] is None or (
        bool(values["export_dir"]) and len(values["export_format"]) == 1
    )


@_rule(["quantize", "export_format"], "--quantize is for --export_format=onnx")
def _quantizes_onnx(values: _Values) -> bool:
    return values["quantize"] is None or "onnx" in values["export_format"]


@_rule(
    ["gradient_accumulation_steps", "train_batch_size"],
    "a step's batch cannot be cut into more parts than it has examples",
)
def _cuts_batch(values: _Values) -> bool:
    return bool(values["gradient_accumulation_steps"] <= values["train_batch_size"])


@_rule(["distill_temperature"], "must be above 0")
def _has_temperature(values: _Values) -> bool:
    return bool(values["distill_temperature"] > 0)


@_rule(
    ["distill_from", "distill_temperature", "distill_weight"],
    "--distill_temperature and --distill_weight are for --distill_from",
)
def _has_teacher(values: _Values) -> bool:
    is_given = any(flags.FLAGS[name].present for name in ("distill_temperature", "distill_weight"))
    return values["distill_from"] is not None or not is_given


@_rule(["class_weights"], "takes balanced, or a number from 0 for each label, separated by commas")
def _weighs(values: _Values) -> bool:
    weights = values["class_weights"]
    are_numbers = all(re.match(r"[0-9]{1,9}(\.[0-9]{1,20})?$", weight) for weight in weights)
    return weights == ["balanced"] or (are_numbers and (not weights or any(map(float, weights))))


@_rule(["label_smoothing"], "must be below 1")
def _smooths(values: _Values) -> bool:
    return bool(values["label_smoothing"] < 1)


@_rule(
    ["select_checkpoint", "early_stopping_patience"],
    "--early_stopping_patience goes back to the best checkpoint; leave out "
    "--select_checkpoint=last, or the patience",
)
def _selects_what_is_trained(values: _Values) -> bool:
    return values["select_checkpoint"] == "best" or values["early_stopping_patience"] is None


@_rule(["ema_decay"], "must be below 1")
def _forgets(values: _Values) -> bool:
    return values["ema_decay"] is None or bool(values["ema_decay"] < 1)


@_rule(
    ["suc_learning_rate", "finetune_pre", "learning_rate"],
    "stage 0 has no successor; --learning_rate, of which it is a multiple, must be above 0",
)
def _has_successor_rate(values: _Values) -> bool:
    is_free = not values["finetune_pre"] and values["learning_rate"] > 0
    return values["suc_learning_rate"] is None or is_free


@_rule(["distribution", "do_train"], "--distribution is for --do_train")
def _distributes_training(values: _Values) -> bool:
    return bool(values["distribution"] == "none" or values["do_train"])


@_rule(["distill_from", "finetune_pre"], "--distill_from is for stages 1 and 2")
def _distills_a_successor(values: _Values) -> bool:
    return values["distill_from"] is None or not values["finetune_pre"]


@_rule(
    ["path", "do_eval", "do_predict", "do_export", "finetune_pre", "finetune_suc"],
    "--path takes a digit for each module of stage 1, 1 for the successor's layer, 0 for the "
    "predecessor's, and needs --do_eval, --do_predict or --do_export",
)
def _has_path_for_stage_1(values: _Values) -> bool:
    path, is_stage_1 = values["path"], not (values["finetune_pre"] or values["finetune_suc"])
    is_used = values["do_eval"] or values["do_predict"] or values["do_export"]
    return path is None or bool(re.match("[01]+$", path) and is_stage_1 and is_used)


@_rule(["keep_predecessor", "finetune_pre", "finetune_suc"], "--keep_predecessor is for stage 1")
def _keeps_in_stage_1(values: _Values) -> bool:
    return not (values["keep_predecessor"] and (values["finetune_pre"] or values["finetune_suc"]))


@_rule(["num_train_epochs"], "must be above 0")
def _trains(values: _Values) -> bool:
    return bool(values["num_train_epochs"] > 0)  # False for nan too.


@_rule(["finetune_pre", "train_scope"], "stage 0 trains all; it has no successor")
def _fits_stage_0(values: _Values) -> bool:
    return not values["finetune_pre"] or values["train_scope"] in (None, "all")


# --- What needs more than the values: files, memory ---


def refuse_columns_and_labels(values: _Values) -> None:
    """Raises UserError for columns or labels that no file can have."""
    columns = (values[name] for name in ("text_a_column", "text_b_column", "label_column"))
    task = tasks.with_columns(tasks.TASKS["tsv"], tasks.NamedColumns(*columns))
    tasks.with_labels(task, values["labels"])


def resolve_modules(values: _Values) -> None:
    """Turns --modules into numbers, of which there are as many as --suc_layers says."""
    if not values["modules"]:
        return
    values["modules"] = [int(size) for size in values["modules"]]
    count = len(values["modules"])
    if flags.FLAGS["suc_layers"].present and values["suc_layers"] != count:
        raise UserError(
            "--suc_layers=%d: --modules has %d sizes, one for each layer of the successor; give "
            "--suc_layers=%d, or leave it out" % (values["suc_layers"], count, count)
        )
    values["suc_layers"] = count


def resolve_path(values: _Values) -> None:
    """Turns --path into a bool for each module; that of the successor into None."""
    digits, count = values["path"], values["suc_layers"]
    if digits is None:
        return
    if len(digits) != count:
        raise UserError(
            "--path: %s has %d digits, one is needed for each of the %d modules that --suc_layers "
            "or --modules says" % (digits, len(digits), count)
        )
    values["path"] = None if "0" not in digits else [digit == "1" for digit in digits]
    if values["path"] and values["do_train"] and not values["keep_predecessor"]:
        raise UserError("--path: needs --keep_predecessor where the stage is trained")


def refuse_what_is_missing(options: Options) -> None:
    """Raises UserError for files, memory or a TF_CONFIG that a command needs and lacks."""
    _refuse_missing_paths(options)
    _refuse_unknown_start(options)
    refuse_little_memory()
    if options.training.distribution == "multi_worker":
        read_cluster(os.environ)


def _refuse_missing_paths(options: Options) -> None:
    """Raises UserError for a path that does not exist."""
    given = options.inference
    paths = [("eval_files", path) for path in given.eval_files]
    paths += [("predict_file", given.predict_file)] if given.predict_file else []
    for name, path in paths:
        if path != "-" and not os.path.exists(path):
            raise UserError("--%s: there is no file %s" % (name, path))
    reads_splits = options.actions != ("predict",)
    if (reads_splits or not given.predict_file) and not os.path.isdir(options.data.data_dir):
        raise UserError("--data_dir: there is no folder %s" % options.data.data_dir)
    start = options.start.init_checkpoint
    if "train" in options.actions and start:
        if not any(map(os.path.exists, [start, start + ".index"])):
            raise UserError(
                "--init_checkpoint: there is no %s; give a stage's output folder, a pretrained "
                "BERT's folder or a checkpoint's prefix" % start
            )


def _refuse_unknown_start(options: Options) -> None:
    """Raises UserError for a --suc_init that is not a choice, a folder or a name of the hub."""
    start = options.start.suc_init
    if start is not None and start not in SUC_INITS and "/" not in start:
        if "train" in options.actions and not os.path.isdir(start):
            choices = ", ".join(SUC_INITS)
            raise UserError("--suc_init: %r is none of %s, nor a folder" % (start, choices))
