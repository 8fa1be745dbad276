"""Finds the start of a stage's training: a BERT's config and vocabulary, and weights."""

import collections
import dataclasses
import os

from absl import logging

from theseus import stage as stages
from theseus.checkpoints import head, pretrained
from theseus.checkpoints import weights as weights_lib
from theseus.errors import FolderError, UserError, naming
from theseus.inference.model_folder import check_pairs, hash_vocab, head_of, is_external
from theseus.inputs import tokenizer_settings
from theseus.runs.files import hash_files
from theseus.runs.stage_folder import StageFolder

InitialCheckpoint = collections.namedtuple(
    "InitialCheckpoint",
    "model weights tokenizer suc_init successor_start successor_weights classifier tokenizer_files",
    defaults=(None, None, None, head.Rows(), None),
)
"""The start of a training.

Fields:
  model: a pretrained.Model.
  weights: as weights.open_weights returns them; the classifier's rows are in the task's order.
  tokenizer: a TokenizerSettings; if --do_lower_case is not given, the case is detected.
  suc_init: str, the run config's entry for the successor's start; None: layer i is copied from
    layer i, or --suc_init has no effect.
  successor_start: list of int, the predecessor's layers that the successor's are copied from; or
    None.
  successor_weights: the weights of another BERT that the successor's layers are copied from; or
    None.
  classifier: the head.Rows of the weights' classifier that the task uses.
  tokenizer_files: the TokenizerFiles of a pretrained BERT's folder; None for a stage's folder.
"""

# A BERT whose layers the successor starts from must have these settings of the predecessor.
_LAYER_SHAPE = ("hidden_size", "intermediate_size", "num_attention_heads", "hidden_act")


def find_initial_checkpoint(config, task):
    """Finds the start of a command's training.

    Args:
      config: config.Config.
      task: the command's tasks.Task.

    Returns:
      An InitialCheckpoint. If it is a stage's folder, the BERT is the one of that stage's training.

    Raises:
      UserError: the start is missing, damaged, or does not match the command.
    """
    source, flag = _starting_stage(config)
    if source is None:
        start = _plain_start(config)
    else:
        with naming(flag):
            start = _stage_start(source, config)
    check_pairs(start.model, task)
    start = _start_classifier(start, source, task)
    return _start_successor(start, config) if config.stage.has_successor else start


def _stage_start(source, config):
    """Returns the InitialCheckpoint from the best checkpoint of a StageFolder."""
    prefix = source.best_checkpoint()
    if not source.state().is_finished:
        logging.info("%s has not finished; starting from its best checkpoint so far", source.path)
    run_config = source.trained_run_config()
    recorded, given = run_config["suc_layers"], config.suc_layers
    if config.stage is stages.SUCCESSOR and recorded not in (None, given):
        raise FolderError(
            "--suc_layers: the successor in %s has %d layers, this command asks for %d; give "
            "--suc_layers=%d, or" % (source.path, recorded, given, recorded)
        )
    model = read_trained_model(source, config)
    return InitialCheckpoint(
        model,
        weights_lib.open_weights(prefix),
        _tokenizer_of_stage(source, run_config, config),
    )


def _start_classifier(start, source, task):
    """Returns the InitialCheckpoint with its classifier's rows in the order of a Task's labels.

    Args:
      start: an InitialCheckpoint.
      source: the StageFolder of the weights; None for a plain checkpoint.
      task: the tasks.Task.
    """
    weights, name = start.weights, head.CLASSIFIER[0]
    if name not in weights:
        return start
    known = head_of(os.path.dirname(weights.prefix), source)
    rows = head.fit(known, weights.shapes[name][0], task, weights.prefix)
    if rows.order is not None:
        weights = weights.with_rows(head.CLASSIFIER, rows.order)
    return start._replace(weights=weights, classifier=rows)


def label_names(config):
    """Returns the labels, tuple of str, of the classifier that a command begins with, or None.

    A training begins with its start, another command with the classifier that it evaluates. None if
    no file names its labels, --labels names them, or there is no classifier.

    Args:
      config: config.Config, of a command whose output folder holds no run.
    """
    if config.labels:
        return None
    path, flag = _start(config)
    if not config.init_checkpoint and not config.do_train:
        path, flag = config.output_dir, config.stage.output_flag
    source = StageFolder(path)
    if source.run_config():
        return head_of("", source).real_names
    if flag == config.stage.output_flag and not os.path.isdir(path) or not is_external(path):
        return None
    path = pretrained.local_checkpoint(path, flag)
    return head_of(path if os.path.isdir(path) else os.path.dirname(path)).real_names


def _start(config):
    """Returns (path, its flag) of the weights that a training starts from."""
    flag = config.stage.start_flag or "bert_pretrained_model"
    flag = "init_checkpoint" if config.init_checkpoint else flag
    return getattr(config, flag), flag


def check_frozen_classifier(start, config):
    """Raises UserError if a new, random classifier would be frozen."""
    if config.train_scope == "successor_layers" and start.classifier.reason:
        raise UserError(
            "--train_scope=successor_layers: the classifier of %s cannot be used, since %s, "
            "and a new one would not be trained; set --init_checkpoint to a predecessor "
            "fine-tuned on this task, such as the output folder of --finetune_pre, or give "
            "--train_scope=successor" % (start.weights.prefix, start.classifier.reason)
        )


def _tokenizer_of_stage(source, run_config, config):
    """Returns the TokenizerSettings of a StageFolder, with --do_lower_case if that is given."""
    settings = tokenizer_settings.recorded(run_config)
    recorded, given = settings.do_lower_case, config.do_lower_case
    if given in (None, recorded):
        return settings
    logging.warning(
        "--do_lower_case=%s: %s was trained with %s",
        str(given).lower(),
        source.path,
        str(recorded).lower(),
    )
    return dataclasses.replace(settings, do_lower_case=given)


def _plain_start(config):
    """Returns the InitialCheckpoint of a pretrained BERT, or of a checkpoint beside its files."""
    place = config.init_checkpoint and pretrained.local_checkpoint(
        config.init_checkpoint, "init_checkpoint"
    )
    if place:
        weights_lib.find_checkpoint(place)  # Reports missing weights before other missing files.
        folder = pretrained.folder_of_files(place, config.bert_pretrained_model)
    else:
        folder = pretrained.local_folder(config.bert_pretrained_model)
    model = pretrained.read_model(folder, config.max_seq_length)
    settings, case, files = pretrained.find_tokenizer(folder, config.do_lower_case)
    pretrained.log_tokenizer(folder, settings, case)
    for warning in pretrained.vocab_warnings(model, settings.added_tokens):
        logging.warning("%s", warning)
    prefix = weights_lib.find_checkpoint(place or folder)
    return InitialCheckpoint(
        model, weights_lib.open_weights(prefix), settings, tokenizer_files=files
    )


def _start_successor(start, config):
    """Returns the InitialCheckpoint with the successor's start that --suc_init chooses."""
    import modeling_theseus  # Imports TensorFlow.

    how, num_layers = config.suc_init, config.suc_layers
    if modeling_theseus.holds_successor(start.weights):
        if how:
            prefix = start.weights.prefix
            logging.info(
                "--suc_init has no effect: %s already holds the successor's layers", prefix
            )
        return start
    if how in (None,) + stages.SUCCESSOR_STARTS or stages.layer_numbers(how):
        depth = start.model.config.num_hidden_layers
        layers = modeling_theseus.successor_start_layers(how or "first", num_layers, depth)
        return start._replace(suc_init=None if how == "first" else how, successor_start=layers)
    small = _read_small_bert(how, start.model.config, num_layers)
    digest = hash_files(weights_lib.checkpoint_files(small.prefix))
    return start._replace(suc_init=digest, successor_weights=small)


def _read_small_bert(name, config, num_layers):
    """Opens the weights of a small BERT whose layers fit a successor of a predecessor's config."""
    folder = pretrained.local_folder(name, flag="suc_init")
    found = pretrained.read_config(folder)
    depth = found.num_hidden_layers
    if depth != num_layers:
        raise UserError(
            "--suc_init: %s has %d layers, the successor %d; give a BERT of %d layers, or "
            "--suc_layers=%d" % (name, depth, num_layers, num_layers, depth)
        )
    for key in _LAYER_SHAPE:
        theirs, ours = getattr(found, key), getattr(config, key)
        if theirs != ours:
            raise UserError(
                "--suc_init: %s has %s = %s, the predecessor %s; give a BERT with the same value"
                % (name, key, theirs, ours)
            )
    return weights_lib.open_weights(weights_lib.find_checkpoint(folder))


def _starting_stage(config):
    """Returns the StageFolder that training starts from, and its flag; None: a plain checkpoint."""
    path, flag = _start(config)
    folder = StageFolder(path)
    is_stage = flag == config.stage.start_flag or folder.run_config() is not None
    return (folder, flag) if is_stage and flag != "bert_pretrained_model" else (None, flag)


def read_trained_model(folder, config):
    """Reads the Model of a StageFolder; UserError if the command names another BERT."""
    length = config.max_seq_length
    model = pretrained.read_model(folder.path, length)
    if "bert_pretrained_model" in config.given:
        bert = pretrained.local_folder(config.bert_pretrained_model, needs_weights=False)
        named = pretrained.read_model(bert, length)
        same_vocab = hash_vocab(named) == hash_vocab(model)
        if not same_vocab or named.config.to_dict() != model.config.to_dict():
            raise UserError(
                "--bert_pretrained_model: %s was trained with another vocabulary or config "
                "than %s has; leave the flag out" % (folder.path, config.bert_pretrained_model)
            )
    return model
