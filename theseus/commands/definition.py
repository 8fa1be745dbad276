"""What defines a run, and how a command is compared with the run that a folder holds."""

import collections
import dataclasses

from theseus.checkpoints import weights as weights_lib
from theseus.errors import FolderError
from theseus.inference.trained_model import hash_vocab
from theseus.runs.files import hash_files

# What a message calls a part of the definition that is not named after its flag.
_WORDS = {
    "stage": "--finetune_pre or --finetune_suc: the stage",
    "padded_length": "--pad_to_max_length: the padded length",
    "num_texts": "--text_b_column: the number of texts",
    "num_replicas": "--distribution: the number of replicas",
    "columns": "--text_a_column, --text_b_column, --label_column",
}
# The parts that are contents of files: the flags that lead to them, and what has changed.
_CONTENTS = {
    "train_data": ("--data_dir", "other training data"),
    "dev_data": ("--data_dir", "other dev data"),
    "weights": ("--init_checkpoint or --bert_pretrained_model", "other starting weights"),
    "bert_config": ("--bert_pretrained_model", "another bert_config.json"),
    "vocab": ("--bert_pretrained_model", "another vocab.txt"),
    "classifier_rows": (
        "--init_checkpoint or --bert_pretrained_model",
        "other names for the labels of the classifier that it started from",
    ),
    "tokenizer": ("--bert_pretrained_model", "another tokenizer: other accents or added tokens"),
    "suc_init": ("--suc_init", "another start of the successor's layers"),
    "distill_from": ("--distill_from", "another teacher, or none"),
}
# What runs of versions before do not record, and does not change them once they have begun.
_NOT_YET_RECORDED = ("classifier_rows",)


def model_definition(context):
    """Returns what a trained model cannot be used without, as a dict of JSON values."""
    options, stage, task = context.options.model, context.stage, context.task
    values = collections.OrderedDict()
    if stage.replaces and options.modules:
        # Else --suc_layers says all that the trained model needs.
        values["modules"] = options.modules
    values["task_name"] = task.name
    values["suc_layers"] = options.suc_layers if stage.has_successor else None
    values["max_seq_length"] = options.max_seq_length
    if options.do_lower_case is not None:
        values["do_lower_case"] = options.do_lower_case
    values["labels"] = (task.takes_columns and list(task.labels)) or None  # None: numbers too.
    values["num_texts"] = task.num_texts if task.takes_columns else None
    return dict(values, stage=stage.name)


def run_definition(context, settings, start, teacher=None):
    """Returns all that defines a run of training, as a dict of JSON values.

    Args:
      context: a Context.
      settings: training.Settings.
      start: a starting_point.Start.
      teacher: a distillation.Teacher, or None.
    """
    options, data = context.options.data, context.data
    # The teacher comes before what is nothing without one, since the first that differs is named.
    definition = {"stage": None, "distill_from": teacher.weights_hash if teacher else None}
    definition.update(dataclasses.asdict(settings))
    if settings.class_weights:
        definition["class_weights"] = list(settings.class_weights)  # As JSON gives it back.
    definition.update(modules=None, suc_init=start.suc_init)
    definition.update(model_definition(context))
    length = context.options.model.max_seq_length
    definition.update(
        do_lower_case=start.tokenizer.do_lower_case,
        tokenizer=start.tokenizer.to_record(),
        padded_length=length if options.pad_to_max_length else None,
        max_train_examples=options.max_train_examples,
        columns=list(context.columns()) if context.task.takes_columns else None,
        format=_format(data),
        delimiter=options.delimiter,
        header=None if options.header == "auto" else options.header,
        encoding=options.encoding,
        skip_bad_lines=options.skip_bad_lines or None,
        metric=context.options.training.metric,
        train_data=data.hash_of("train"),
        dev_data=data.hash_of("dev"),
        bert_config=start.model.config.to_dict(),
        vocab=hash_vocab(start.model),
        weights=hash_files(weights_lib.checkpoint_files(start.weights.prefix)),
        classifier_rows=start.classifier.order,
    )
    return definition


def _format(data):
    """Returns the format of the training data; None for tsv, the one of versions before 0.9."""
    found = data.format_of(data.paths("train")[0])
    return None if found == "tsv" else found


def refuse_contradiction(folder, definition):
    """Compares a command with the run that a folder holds.

    Args:
      folder: a StageFolder.
      definition: dict of what defines the command's run, or a part of it.

    Raises:
      FolderError: names the first flag that differs, and both values or what has changed.
    """
    recorded = folder.definition()
    for key, value in definition.items():
        if recorded is None or recorded.get(key) == value:
            continue
        if key in _NOT_YET_RECORDED and key not in recorded:
            continue
        if key in _CONTENTS:
            flag, other = _CONTENTS[key]
            raise FolderError(
                "%s: %s holds a run with %s; bring that back, or" % (flag, folder.path, other)
            )
        raise FolderError(
            "%s: %s holds a run with %s, this command has %s; give the same value, or"
            % (_WORDS.get(key, "--" + key), folder.path, recorded.get(key), value)
        )
