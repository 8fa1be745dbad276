"""What a stage's training starts from: a BERT's shape and vocabulary, and weights."""

import collections
import os

from absl import logging

import tokenization
from theseus import stage as stages
from theseus.checkpoints import pretrained
from theseus.checkpoints import weights as weights_lib
from theseus.errors import UserError
from theseus.inputs import tasks
from theseus.model import variable_names
from theseus.runs.stage_folder import StageFolder, hash_files, hash_text

Start = collections.namedtuple(
    "Start",
    "model weights do_lower_case suc_init successor_start successor_weights takes_classifier",
    defaults=(None, None, None, True),
)
"""What training starts from.

Fields:
  model: a pretrained.Model.
  weights: as weights.open_weights returns them.
  do_lower_case: bool, as the command says, or as is found where it does not.
  suc_init: str, what the run's definition says of the successor's start; None: layer i
    starts as layer i, or --suc_init has no say.
  successor_start: list of int, the predecessor's layers that the successor's start as; or None.
  successor_weights: the weights of the BERT whose layers the successor's start as; or None.
  takes_classifier: bool, whether the weights' classifier is one of the task's labels.
"""

# In what a BERT must be like the predecessor, for its layers to be the successor's.
_LAYER_SHAPE = ("hidden_size", "intermediate_size", "num_attention_heads", "hidden_act")


def find_start(options, stage, task):
    """Finds what a command's training starts from.

    Args:
      options: the command's flags, see commands.stages.Command.
      stage: a stage.Stage.
      task: the command's tasks.Task.

    Returns:
      A Start; a stage's folder brings the BERT that it was trained with.

    Raises:
      UserError: it is missing, damaged, or does not fit the command.
    """
    source = _starting_stage(options, stage)
    if source is None:
        start = _plain_start(options)
    else:
        start = _stage_start(source, options, stage, task)
    return _start_successor(start, options) if stage.has_successor else start


def _stage_start(source, options, stage, task):
    """Returns the Start from the best checkpoint of a StageFolder."""
    prefix = source.best_checkpoint()
    if not source.state()["is_finished"]:
        logging.info("%s is unfinished; starting from its best so far", source.path)
    held = source.definition()["suc_layers"]
    if stage is stages.SUCCESSOR and held not in (None, options.suc_layers):
        raise UserError(
            "--suc_layers: %s holds a successor of %d layers, this command has %d; give "
            "--suc_layers=%d, or another folder with --%s"
            % (source.path, held, options.suc_layers, held, source.flag)
        )
    model = read_trained_model(source, options)
    return Start(
        model,
        weights_lib.open_weights(prefix),
        _case_of_stage(source, options),
        takes_classifier=_has_same_labels(source, task),
    )


def _case_of_stage(source, options):
    """Returns whether the case is lowered, a bool: as for a StageFolder, unless a flag says."""
    held, given = source.definition()["do_lower_case"], options.do_lower_case
    if given in (None, held):
        return held
    logging.warning(
        "--do_lower_case=%s: %s was trained with %s",
        str(given).lower(),
        source.path,
        str(held).lower(),
    )
    return given


def _has_same_labels(source, task):
    """Returns whether a StageFolder's classifier is one of the task's labels; says so if not.

    Raises:
      UserError: they are the same labels in another order.
    """
    held = tasks.recorded(source.definition()).labels
    if held == task.labels:
        return True
    trained, given = (",".join(labels) or "numbers" for labels in (held, task.labels))
    if sorted(held) == sorted(task.labels):
        raise UserError(
            "--labels: %s was trained on %s, this command has %s; give the same order"
            % (source.path, trained, given)
        )
    logging.warning(
        "%s was trained on the labels %s, the task has %s; a new classifier is trained",
        source.path,
        trained,
        given,
    )
    return False


def _plain_start(options):
    """Returns the Start from a pretrained BERT's folder, or from a checkpoint beside one."""
    folder = options.init_checkpoint
    if not folder or not os.path.isdir(folder):
        folder = pretrained.local_folder(options.bert_pretrained_model)
    model = pretrained.read_model(folder, options.max_seq_length)
    case = pretrained.find_case(folder, options.do_lower_case)
    what = "lowered, and accents are stripped" if case.is_lowered else "kept"
    logging.info("the case is %s: %s", what, case.reason)
    if case.warning:
        logging.warning("%s", case.warning)
    prefix = weights_lib.find_checkpoint(options.init_checkpoint or folder)
    return Start(model, weights_lib.open_weights(prefix), case.is_lowered)


def _start_successor(start, options):
    """Returns the Start with what --suc_init says of the successor's layers."""
    how, num_layers = options.suc_init, options.suc_layers
    if variable_names.holds_successor(start.weights):
        if how:
            held = start.weights.prefix
            logging.info("--suc_init is not used: %s holds a successor's layers", held)
        return start
    if how in (None,) + variable_names.SUCCESSOR_STARTS:
        depth = start.model.config.num_hidden_layers
        layers = variable_names.successor_start_layers(how or "first", num_layers, depth)
        return start._replace(suc_init=None if how == "first" else how, successor_start=layers)
    small = _read_small_bert(how, start.model.config, num_layers)
    digest = hash_files(weights_lib.checkpoint_files(small.prefix))
    return start._replace(suc_init=digest, successor_weights=small)


def _read_small_bert(name, config, num_layers):
    """Opens the weights of a BERT that can lend its layers to a successor of such a config."""
    folder = pretrained.local_folder(name, flag="suc_init")
    found = pretrained.read_config(folder)
    held = found.num_hidden_layers
    if held != num_layers:
        raise UserError(
            "--suc_init: %s has %d layers, the successor %d; give a BERT of %d layers, or "
            "--suc_layers=%d" % (name, held, num_layers, num_layers, held)
        )
    for key in _LAYER_SHAPE:
        theirs, ours = getattr(found, key), getattr(config, key)
        if theirs != ours:
            raise UserError(
                "--suc_init: %s has %s = %s, the predecessor %s; give a BERT of the same"
                % (name, key, theirs, ours)
            )
    return weights_lib.open_weights(weights_lib.find_checkpoint(folder))


def _starting_stage(options, stage):
    """Returns the StageFolder that training starts from; None: it is a plain checkpoint."""
    if options.init_checkpoint:
        folder = StageFolder(options.init_checkpoint, "init_checkpoint")
        return folder if folder.definition() else None
    if stage.start_flag:
        return StageFolder(getattr(options, stage.start_flag), stage.start_flag)
    return None


def read_trained_model(folder, options):
    """Reads the Model of a StageFolder; UserError if the command names another BERT."""
    model = pretrained.read_model(folder.path, options.max_seq_length)
    if options.bert_is_given:
        bert = pretrained.local_folder(options.bert_pretrained_model, needs_weights=False)
        named = pretrained.read_model(bert, options.max_seq_length)
        same_vocab = hash_vocab(named) == hash_vocab(model)
        if not same_vocab or named.config.to_dict() != model.config.to_dict():
            raise UserError(
                "--bert_pretrained_model: %s was trained with another vocabulary or config than %s"
                % (folder.path, options.bert_pretrained_model)
            )
    return model


def hash_vocab(model):
    """Returns the SHA-256, in hex, of the vocabulary of a pretrained.Model."""
    return hash_text(tokenization.read_vocab(model.vocab_file))
