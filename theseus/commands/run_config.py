"""Makes the run config, which defines a run, and compares it with the run in a folder."""

import collections

from theseus.checkpoints import weights as weights_lib
from theseus.errors import FolderError
from theseus.inference.model_folder import hash_vocab
from theseus.runs.files import hash_files

# The name in messages of each part of the run config that is not named after its flag.
_WORDS = {
    "stage": "--finetune_pre or --finetune_suc: the stage",
    "padded_length": "--pad_to_max_length: the padded length",
    "num_texts": "--text_b_column: the number of texts",
    "num_replicas": "--distribution: the number of replicas",
    "columns": "--text_a_column, --text_b_column, --label_column",
}
# For parts that are contents of files: their flags, and the text of a message on a change.
_CONTENTS = {
    "train_data": ("--data_dir", "other training data"),
    "dev_data": ("--data_dir", "other dev data"),
    "weights": ("--init_checkpoint or --bert_pretrained_model", "other starting weights"),
    "bert_config": ("--bert_pretrained_model", "another bert_config.json"),
    "vocab": ("--bert_pretrained_model", "another vocab.txt"),
    "classifier_rows": (
        "--init_checkpoint or --bert_pretrained_model",
        "other label names in the classifier that it started from",
    ),
    "tokenizer": ("--bert_pretrained_model", "another tokenizer: other accents or added tokens"),
    "suc_init": ("--suc_init", "other initial weights of the successor's layers"),
    "distill_from": ("--distill_from", "another teacher, or none"),
    "unlabelled_data": ("--unlabelled_file", "other unlabelled examples, or none"),
}


def model_run_config(context):
    """Returns the part of the run config needed to use a trained model, a dict of JSON values."""
    config, task = context.config, context.task
    names = ["stage", "suc_layers", "modules", "task_name", "max_seq_length", "do_lower_case"]
    values = config.run_values()
    values = collections.OrderedDict((name, values[name]) for name in names)
    for name in ("modules", "do_lower_case"):
        if values[name] is None:  # Not given: the trained model's value counts.
            del values[name]
    values.update(task.record())
    return values


def make_run_config(context, start, teacher=None):
    """Returns a training's run config, a dict of JSON values, still without num_replicas.

    Only the first part that differs is reported. So the depth comes first, then data and weights,
    then the flags in the order of their declarations.

    Args:
      context: a Context.
      start: an InitialCheckpoint.
      teacher: an other_model.Teacher, or None.
    """
    config, data = context.config, context.data
    flags = config.run_values()
    run_config = collections.OrderedDict(model_run_config(context))
    run_config.update(
        modules=flags["modules"],
        columns=list(context.columns()) if context.task.takes_columns else None,
        format=data.format_of(data.paths("train")[0]),
        tokenizer=start.tokenizer.to_record(),
        train_data=data.hash_of("train"),
        dev_data=data.hash_of("dev"),
        bert_config=start.model.config.to_dict(),
        vocab=hash_vocab(start.model),
        weights=hash_files(weights_lib.checkpoint_files(start.weights.prefix)),
        classifier_rows=start.classifier.order,
        suc_init=start.suc_init,
        distill_from=teacher.weights_hash if teacher else None,
        unlabelled_data=data.hash_of_unlabelled(),
        padded_length=config.max_seq_length if config.pad_to_max_length else None,
    )
    run_config.update((name, flags[name]) for name in flags if name not in run_config)
    return dict(run_config, do_lower_case=start.tokenizer.do_lower_case)


def check_contradiction(folder, run_config):
    """Compares a command with the run in a folder.

    Args:
      folder: a StageFolder.
      run_config: dict, the command's run config, or a part of it.

    Raises:
      FolderError: the two differ; it names the first such flag, with both values or the change.
    """
    recorded = folder.run_config()
    for key, value in run_config.items():
        if recorded is None or recorded.get(key) == value:
            continue
        if key in _CONTENTS:
            flag, other = _CONTENTS[key]
            raise FolderError(
                "%s: the run in %s was started with %s; restore the original, or"
                % (flag, folder.path, other)
            )
        raise FolderError(
            "%s: the run in %s has %s, this command has %s; give the same value, or"
            % (_WORDS.get(key, "--" + key), folder.path, recorded.get(key), value)
        )
