"""Completes a command: takes missing flags from the run that it continues.

If the output folder holds a run, these are all flags that define it, and the paths of its files. If
not, they are the data, task, maximum length and depth of the stage that training starts from.
"""

from __future__ import annotations

import dataclasses
import os
from typing import Any, Mapping

from absl import logging

from theseus.checkpoints import head, pretrained
from theseus.checkpoints.tokenizer_files import TokenizerFiles
from theseus.config.config import Config, all_declarations, fit_mask
from theseus.config.flag import written
from theseus.errors import FolderError, naming
from theseus.runs.stage_folder import StageFolder
from theseus.stage import STAGES, of_name

_COLUMNS = ("text_a_column", "text_b_column", "label_column")
_OF_TASK = ("data_dir", "task_name", "metric", "max_seq_length", *_COLUMNS)
_OF_ONE_TASK = ("labels", "metric", *_COLUMNS)  # They do not apply to another task.
_OF_SUCCESSOR = ("suc_layers", "modules")


def complete(config: Config) -> Config:
    """Returns a Config with missing flags taken from the run that the command continues.

    Raises:
      UserError: run.json is damaged; or the only run there is belongs to another stage.
    """
    folder = StageFolder(config.output_dir)
    with naming(config.stage.output_flag):
        run = folder.run_config()
    if run and run.get("stage", config.stage.name) == config.stage.name:
        config = _filled(config, dict(_flags(run), **_paths(folder, config)), folder.path)
    elif run is None:
        config = _like_start(config) if config.do_train or config.init_checkpoint else config
        config = _with_length_of_classifier(config)
        if not config.do_train:
            _check_other_stage(config)
    return fit_mask(config)


def _paths(folder: StageFolder, config: Config) -> dict[str, str]:
    """Returns the paths of a run's files; keeps a missing one if a message must name it."""
    return {
        name: path
        for name, path in folder.paths().items()
        if name == "data_dir" or config.do_train or os.path.exists(path)
    }


def _like_start(config: Config) -> Config:
    """Returns a Config with the task and the depth of the stage that a training starts from."""
    start = config.init_checkpoint
    if start is None and config.stage.start_flag:
        start = getattr(config, config.stage.start_flag)
    folder = StageFolder(start or "")
    run = folder.run_config()
    if not start or not run:
        return config
    values = dict(_flags(run), **folder.paths())
    names: tuple[str, ...] = _OF_TASK
    if config.stage.has_successor and of_name(run.get("stage", "predecessor")).has_successor:
        names += _OF_SUCCESSOR
    return _filled(config, {name: values[name] for name in names if name in values}, start)


def _with_length_of_classifier(config: Config) -> Config:
    """Returns a Config with the maximum length of the classifier that a command begins with."""
    path = config.init_checkpoint or (None if config.do_train else config.output_dir)
    if path is None or "max_seq_length" in config.given or StageFolder(path).run_config():
        return config
    is_here = os.path.exists(path) or os.path.exists(path + ".index")
    if config.init_checkpoint and not is_here and pretrained.is_hub_id(path):
        path = pretrained.local_folder(path, needs_weights=False, flag="init_checkpoint")
    if not os.path.isdir(path) or not head.read(path).is_named_classifier:
        return config
    positions = pretrained.read_config(path).max_position_embeddings
    length = TokenizerFiles(path).max_length(positions)
    return _filled(config, {"max_seq_length": length}, path)


def _flags(run: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the flags in a run config, a dict with values as in a Config."""
    names = [field.name for field, declared in all_declarations() if declared.defines_run]
    values = {name: run[name] for name in names if run.get(name) is not None}
    values.pop("distill_from", None)  # The record is a hash of its weights, not a path.
    values.update((name, text) for name, text in zip(_COLUMNS, run.get("columns") or ()) if text)
    if run.get("labels") and not run.get("takes_ids"):
        values["labels"] = run["labels"]
    if values.get("delimiter"):
        values["format"] = "csv"
    return {name: tuple(v) if isinstance(v, list) else v for name, v in values.items()}


def _filled(config: Config, values: Mapping[str, Any], place: str) -> Config:
    """Returns a Config with values for flags that are not given; logs those that are changed."""
    given = set(config.given)
    if given.intersection(_OF_SUCCESSOR):  # Each determines the other.
        given.update(_OF_SUCCESSOR)
    if config.task_name != values.get("task_name") and "task_name" in given:
        given.update(_OF_ONE_TASK)
    if "format" in given and config.format != "csv":
        given.add("delimiter")
    if config.do_predict:  # Only the user may allow a row without a prediction.
        given.add("skip_bad_lines")
    taken = {name: value for name, value in values.items() if name not in given}
    changed = {name: value for name, value in taken.items() if value != getattr(config, name)}
    if changed:
        shown = " ".join("--%s=%s" % (name, written(value)) for name, value in changed.items())
        logging.info("flags taken from %s: %s", place, shown)
    return dataclasses.replace(config, **changed)


def _check_other_stage(config: Config) -> None:
    """Raises UserError if the command's stage has no model but another stage has one."""
    if config.init_checkpoint or config.stage.output_flag in config.given:
        return
    for stage in STAGES:
        path = getattr(config, stage.output_flag)
        if stage is not config.stage and StageFolder(path).state().best:
            with naming(config.stage.output_flag):
                raise FolderError(
                    "%s: holds no trained model, but %s holds one of stage %d; give %s, or"
                    % (config.output_dir, path, stage.number, _FLAG_OF_STAGE[stage.number])
                )


_FLAG_OF_STAGE = (
    "--finetune_pre",
    "neither --finetune_pre nor --finetune_suc",
    "--finetune_suc",
)
