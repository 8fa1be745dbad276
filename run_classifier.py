"""Compresses a BERT classifier by module replacing (BERT-of-Theseus).

  python run_classifier.py --do_train --do_eval --suc_layers 6                   # stage 1
  python run_classifier.py --do_train --do_eval --suc_layers 6 --finetune_suc    # stage 2

--finetune_pre, before both, fine-tunes the predecessor itself (stage 0).
"""

from __future__ import annotations

import os
import re
import signal
import sys
from typing import Any, NoReturn, Sequence

from absl import app, flags, logging

import theseus
from theseus.commands import rules
from theseus.commands.options import from_flags
from theseus.errors import UserError
from theseus.inputs import rows, tasks
from theseus.quiet import importing_tensorflow

FLAGS = flags.FLAGS

# Files.
flags.DEFINE_string(
    "data_dir", "data/sample", "Folder with train, dev and test, each .txt, .tsv, .csv or .jsonl."
)
flags.DEFINE_enum("task_name", "lcqmc_pair", list(tasks.TASKS), "The task.")
flags.DEFINE_string(
    "bert_pretrained_model",
    "data/tiny_bert",
    "A pretrained BERT: a folder as Google ships it, with bert_config.json, vocab.txt and "
    "bert_model.ckpt*; a folder as Hugging Face saves it; or a model of its hub, owner/name.",
)
flags.DEFINE_string(
    "init_checkpoint",
    None,
    "Weights to start from: a checkpoint's prefix, a stage's folder, which means its best, or "
    "a pretrained BERT's folder. "
    "Unset: the pretrained BERT in stages 0 and 1, stage 1's best in stage 2.",
)
flags.DEFINE_string("stage_0_outputdir", "out_0", "Output folder of --finetune_pre.")
flags.DEFINE_string("stage_1_outputdir", "out_1", "Output folder of module replacing.")
flags.DEFINE_string("stage_2_outputdir", "out_2", "Output folder of --finetune_suc.")
flags.DEFINE_list("eval_files", [], "Labelled files that --do_eval evaluates too, each by itself.")
flags.DEFINE_string(
    "predict_file",
    None,
    "File for --do_predict; - is standard input, whose predictions go to standard output. Unset: "
    "data_dir's test.",
)
flags.DEFINE_string(
    "cache_dir",
    ".cache",
    "Folder that keeps encoded training examples for the next start; empty: none.",
)

flags.DEFINE_integer(
    "num_encoding_processes",
    None,
    "Processes that encode training examples. Unset: as many as there are processors.",
    lower_bound=1,
    upper_bound=1024,
)

# How files of examples are written.
flags.DEFINE_enum(
    "format",
    "auto",
    ["auto"] + list(rows.FORMATS),
    "Columns between tabs, CSV, or JSON Lines; auto: by a file's ending, .csv and .jsonl. "
    "Predictions are written in the format of what is predicted.",
)
flags.DEFINE_string(
    "delimiter",
    None,
    "With --format=csv: what separates the columns, a character, or tab. Unset: a comma.",
)
flags.DEFINE_enum(
    "header",
    "auto",
    ["auto", "yes", "no"],
    "Whether the first row of a file is a header; auto: found out, and said where it is not sure.",
)
flags.DEFINE_string(
    "encoding", None, "The files' encoding, such as gb18030, big5 or utf-16. Unset: UTF-8."
)
flags.DEFINE_bool(
    "skip_bad_lines",
    False,
    "Leave out, count and list the lines that hold no example; unset: they are an error.",
)

# Columns of --task_name=tsv and tsv_number, and labels of tsv.
flags.DEFINE_string(
    "text_a_column", None, "The text's column: its name in the header, or its number from 1."
)
flags.DEFINE_string("text_b_column", None, "The second text's column, where there is one.")
flags.DEFINE_string("label_column", None, "The label's column.")
flags.DEFINE_list("labels", [], "The labels, in the order of their ids. Unset: those of train.")

# Actions.
flags.DEFINE_bool("version", False, "Print the version, and do nothing else.")
flags.DEFINE_bool("do_train", False, "Train the stage, or resume it where it was interrupted.")
flags.DEFINE_bool("do_eval", False, "Evaluate the stage's best checkpoint.")
flags.DEFINE_bool("do_predict", False, "Write the best checkpoint's predictions.tsv.")
flags.DEFINE_bool("do_export", False, "Write the best checkpoint's model for other programs.")
flags.DEFINE_enum("eval_split", "dev", ["dev", "test"], "What --do_eval evaluates.")
flags.DEFINE_float(
    "threshold",
    None,
    "For two labels: the probability of the second one from which on it is predicted. Unset: the "
    "more probable one is.",
    lower_bound=0.0,
    upper_bound=1.0,
)
flags.DEFINE_bool(
    "calibrate",
    False,
    "With --do_eval: find on dev the temperature by which logits are to be divided for true "
    "probabilities. It is kept with the model, and holds from then on, in exports too.",
)
flags.DEFINE_float(
    "abstain_below",
    None,
    "Mark predictions whose probability is below this as uncertain, and evaluate the others.",
    lower_bound=0.0,
    upper_bound=1.0,
)
flags.DEFINE_list(
    "compare_with",
    [],
    "With --do_eval: folders of trained stages, such as out_0, whose scores are computed too, and "
    "to whose predictions the loyalty is measured.",
)
flags.DEFINE_list(
    "export_format",
    [],
    "What --do_export writes, one or several of %s." % ", ".join(rules.EXPORT_FORMATS),
)
flags.DEFINE_string(
    "export_dir", None, "Folder of one export. Unset: export/<format> in the stage's folder."
)
flags.DEFINE_enum(
    "quantize", None, ["int8"], "int8 quantization, for onnx; its <format> is onnx_int8."
)

# Stage.
flags.DEFINE_bool("finetune_pre", False, "Stage 0: fine-tune the predecessor.")
flags.DEFINE_bool("finetune_suc", False, "Stage 2: train the successor alone.")

# Method.
flags.DEFINE_integer("suc_layers", 6, "Layers of the successor.", lower_bound=1)
flags.DEFINE_list(
    "modules",
    None,
    "Layers of the predecessor in each module, such as 1,1,2,2,3,3; their number is --suc_layers. "
    "Unset: equal modules.",
)
flags.DEFINE_string(
    "path",
    None,
    "Stage 1: what is evaluated, predicted with and exported, a digit for each module, such as "
    "101011: 1 for the successor's layer, 0 for the predecessor's, which --keep_predecessor has "
    "kept. Unset: the successor's.",
)
flags.DEFINE_string(
    "suc_init",
    None,
    "Which layers the successor's start as, where the starting weights hold none of its own: the "
    "predecessor's first, last, or spread evenly from its first to its last; or those of another "
    "BERT of --suc_layers layers, a folder or name as --bert_pretrained_model takes. Unset: first.",
)
flags.DEFINE_float(
    "replace_rate_prob",
    0.5,
    "Probability that a module is replaced; with a linear rate, that of the first step.",
    lower_bound=0.0,
    upper_bound=1.0,
)
flags.DEFINE_enum(
    "replace_scheduler", "constant", ["constant", "linear"], "How the replacing rate goes."
)
flags.DEFINE_float("replace_linear_k", None, "Rise of a linear rate in each step.", lower_bound=0.0)
flags.DEFINE_float(
    "replace_until",
    None,
    "Fraction of the training at which a linear rate reaches 1.",
    lower_bound=0.0,
    upper_bound=1.0,
)
flags.DEFINE_integer(
    "steps_for_replacing",
    None,
    "Steps after which a constant rate becomes 1. Unset: never.",
    lower_bound=0,
    upper_bound=2**31 - 1,
)
flags.DEFINE_enum(
    "train_scope",
    None,
    ["all", "successor", "successor_layers"],
    "What trains: all; successor: all but the predecessor's encoder; successor_layers: the "
    "successor's encoder alone, as in the paper. Unset: all in stages 0 and 1, successor in 2.",
)

# Distillation, in stages 1 and 2.
flags.DEFINE_string(
    "distill_from",
    None,
    "Folder of a trained stage, such as out_0, from whose logits is learned too. Unset: from the "
    "labels alone.",
)
flags.DEFINE_float(
    "distill_temperature", 1.0, "Temperature of both probabilities that are compared.", 0.0
)
flags.DEFINE_float(
    "distill_weight",
    0.5,
    "Weight of the distance from the teacher's logits in the loss; the labels' is the rest.",
    lower_bound=0.0,
    upper_bound=1.0,
)

# Training.
flags.DEFINE_integer(
    "max_seq_length", 128, "Longest example in tokens, [CLS] and [SEP] included.", lower_bound=5
)
flags.DEFINE_integer("train_batch_size", 64, "Examples in a step.", lower_bound=1)
flags.DEFINE_integer(
    "gradient_accumulation_steps",
    1,
    "Parts that a step's batch is cut into and computed one after the other, to need less memory; "
    "--train_batch_size stays the examples of the whole step.",
    lower_bound=1,
    upper_bound=256,
)
flags.DEFINE_integer("eval_batch_size", 64, "Examples in a batch of --do_eval.", lower_bound=1)
flags.DEFINE_integer(
    "predict_batch_size", 1024, "Examples in a batch of --do_predict.", lower_bound=1
)
flags.DEFINE_float("learning_rate", 2e-5, "Learning rate after the warm-up.", lower_bound=0.0)
flags.DEFINE_float(
    "suc_learning_rate",
    None,
    "Learning rate of the successor's layers, which goes as --learning_rate does. Unset: that.",
    lower_bound=0.0,
)
flags.DEFINE_float(
    "num_train_epochs",
    10,
    "Passes over the training data.",
    lower_bound=0.0,
    upper_bound=1e6,
)
flags.DEFINE_integer(
    "early_stopping_patience",
    None,
    "Stop after so many evaluations, one an epoch, in a row without a better score on dev; the "
    "learning rate goes as without it. Unset: never.",
    lower_bound=1,
)
flags.DEFINE_enum(
    "select_checkpoint",
    "best",
    ["best", "last"],
    "Checkpoint that a training leaves as its model: the best on dev, or the last one, so that "
    "nothing is chosen on dev.",
)
flags.DEFINE_float(
    "ema_decay",
    None,
    "Evaluate and keep a moving average of the weights, with this decay a step, such as 0.999. "
    "Unset: the weights as they are.",
    lower_bound=0.0,
    upper_bound=1.0,
)
flags.DEFINE_list(
    "class_weights",
    [],
    "By what the losses of a label's examples are multiplied: a number for each label, in the "
    "order of their ids; or balanced, by which all labels count alike. Unset: all examples do.",
)
flags.DEFINE_float(
    "label_smoothing",
    0.0,
    "Share of a label's probability that is spread over all labels, such as 0.1.",
    lower_bound=0.0,
    upper_bound=1.0,
)
flags.DEFINE_enum(
    "metric",
    None,
    list(tasks.METRICS),
    "What the best epoch is chosen by, on dev. Unset: what the task is measured by.",
)
flags.DEFINE_float(
    "warmup_proportion",
    0.1,
    "Fraction of the training in which the learning rate rises.",
    lower_bound=0.0,
    upper_bound=1.0,
)
flags.DEFINE_integer(
    "max_train_examples",
    None,
    "Train on a random sample of this size, the same for every seed. Unset: on all.",
    lower_bound=1,
)
flags.DEFINE_integer("seed", 42, "Seed of everything random.", lower_bound=0, upper_bound=2**31 - 1)
flags.DEFINE_enum(
    "precision",
    None,
    ["float32", "bfloat16"],
    "Of the products and the values between layers; weights, layer norm, softmax and loss are "
    "float32. Unset: float32 for training; for the rest, that of training.",
)
flags.DEFINE_bool(
    "do_lower_case",
    None,
    "Lower the case and strip accents. Unset: as the stage's folder says; for a pretrained BERT as "
    "its tokenizer's files say, or its vocabulary.",
)
flags.DEFINE_enum(
    "distribution",
    "none",
    ["none", "mirrored", "multi_worker"],
    "Devices that train together, each on its share of a batch: none, one alone; mirrored, this "
    "machine's GPUs; multi_worker, the machines that TF_CONFIG names.",
)
flags.DEFINE_float(
    "peer_timeout_s",
    120,
    "For multi_worker: seconds after which a worker that has not come, or does not answer any "
    "more, is lost; the others then end too.",
    lower_bound=1.0,
    upper_bound=1e6,
)
flags.DEFINE_integer("log_steps", 50, "Steps between two lines of the log.", lower_bound=1)
flags.DEFINE_integer(
    "save_checkpoints_steps", None, "Save every so many steps too. Unset: not.", lower_bound=1
)
flags.DEFINE_float("save_checkpoints_secs", 600, "Save every so many seconds.", lower_bound=0.0)
flags.DEFINE_integer(
    "keep_checkpoints",
    2,
    "Of the last checkpoints keep so many: where one is damaged, training goes on from the one "
    "before.",
    lower_bound=1,
)
flags.DEFINE_bool(
    "keep_predecessor",
    False,
    "Stage 1: keep the predecessor's layers in the best checkpoint too, for --path.",
)
flags.DEFINE_bool(
    "pad_to_max_length", False, "Pad to max_seq_length, not to the longest example of a batch."
)

rules.register(sys.modules[__name__])


def parse_flags(argv: list[str]) -> list[str]:
    """Parses the command line; a mistake in it is one line and exit status 1."""
    try:
        argv = argv[:1] + FLAGS.read_flags_from_files(argv[1:], force_gnu=False)
        for argument in argv[1:]:
            if argument.startswith("\ufeff"):
                fail("--flagfile: begins with a byte-order mark; save it as UTF-8 without one")
            if re.search("[\ud800-\udfff]", argument):  # TensorFlow can open no such file.
                fail("%s: holds bytes that are not UTF-8; name it otherwise" % ascii(argument))
        return FLAGS(argv)
    except UnicodeDecodeError as error:
        fail("--flagfile: holds bytes that are not UTF-8: %s" % error)
    except flags.Error as error:
        if argv[1:] and not argv[1].startswith("-"):
            refuse_positional(argv[1:])
        fail(error)


def refuse_positional(arguments: Sequence[str]) -> NoReturn:
    """Exits with the flag that was meant, as in `suc_layers = 6` without its dashes."""
    tokens = [token for token in re.split(r"(=)|\s", " ".join(arguments[:3])) if token]
    name = tokens[0]
    if name not in FLAGS:
        fail("%r is not a flag; flags begin with --, see --help" % arguments[0])
    value = next((token for token in tokens[1:] if token != "="), None)
    meant = name if FLAGS[name].boolean or value is None else "%s=%s" % (name, value)
    fail("%r is not a flag; did you mean --%s?" % (name, meant))


def fail(message: object) -> NoReturn:
    """Exits with status 1 and one line on standard error."""
    sys.exit("run_classifier.py: %s" % " ".join(str(message).split()))


def main(argv: list[str]) -> None:
    """Runs the command; what the user can fix ends in one line."""
    if len(argv) > 1:
        refuse_positional(argv[1:])
    if hasattr(sys.stdout, "reconfigure"):
        # A table names what it is told to, also where the output takes ASCII alone.
        sys.stdout.reconfigure(errors="backslashreplace")
    if FLAGS.version:
        print("bert-theseus %s" % theseus.__version__)
        return
    values = dict(FLAGS.flag_values_dict())
    values["bert_is_given"] = bool(FLAGS["bert_pretrained_model"].present)
    logging.set_verbosity(logging.INFO)
    logging.get_absl_handler().setFormatter(None)
    try:
        # TensorFlow takes seconds to import; a mistake in the flags does not wait for it.
        rules.refuse_columns_and_labels(values)
        rules.resolve_modules(values)
        rules.resolve_path(values)
        options = from_flags(values)
        rules.refuse_what_is_missing(options)
    except UserError as error:
        fail(error)
    with importing_tensorflow():
        from theseus.commands import command
        from theseus.session import set_up_tensorflow

    set_up_tensorflow()
    on_signals(signal.default_int_handler, was=leave)
    try:
        command.run(options)
    except UserError as error:
        fail(error)
    except BrokenPipeError:  # Who reads the predictions, such as head, has had enough.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
    except KeyboardInterrupt:
        fail("interrupted; the same command resumes from the last checkpoint")


def leave(*_: object) -> NoReturn:
    """Ends the process at once: while TensorFlow is imported, nothing is to be put in order."""
    os.write(2, b"run_classifier.py: interrupted; nothing was begun\n")
    os._exit(1)


def on_signals(handler: Any, was: Any) -> None:
    """Has a handler for what asks a process to end, where `was` has been there before."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) == was:
            signal.signal(number, handler)


def run() -> None:
    """Runs the command line; the entry point of `bert-theseus`."""
    on_signals(leave, was=signal.SIG_DFL)  # Not what nohup ignores.
    on_signals(leave, was=signal.default_int_handler)
    app.run(main, flags_parser=parse_flags)


if __name__ == "__main__":
    run()
