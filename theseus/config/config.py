"""Every flag, declared once, and the resolved values of a command: the Config.

`run_classifier.py` reads the flags and passes one Config to everything else. --help, docs/flags.md,
run.json and the model card are derived from the same declarations.
"""

from __future__ import annotations

import dataclasses
import math
import re
from typing import Any, Iterator, Mapping

from theseus.config.flag import Declaration, declarations, flag, run_flag
from theseus.config.flag import texts as listed
from theseus.errors import UserError
from theseus.export.formats import EXPORT_FORMATS
from theseus.inputs import rows, tasks
from theseus.stage import PREDECESSOR, REPLACING, SUCCESSOR, Stage

ACTIONS = {
    "do_train": "train",
    "do_eval": "evaluate",
    "do_predict": "predict",
    "do_export": "export",
}
"""Maps the flag of each action to its name, in the order in which a command runs them."""

_PATHS = (
    "data_dir", "bert_pretrained_model", "init_checkpoint", "suc_init", "distill_from",
    "unlabelled_file",
)  # fmt: skip


def _sizes(text: str) -> tuple[int, ...]:
    sizes = listed(text)
    if not sizes or not all(re.match("0*[1-9][0-9]{0,4}$", size) for size in sizes):
        raise ValueError("give a whole number of at least 1 for each module, separated by commas")
    return tuple(map(int, sizes))


def _mask(text: str) -> tuple[bool, ...]:
    if not re.match("[01]+$", text):
        raise ValueError("give a digit for each module: 1 if it is replaced, 0 if it is not")
    return tuple(digit == "1" for digit in text)


def _class_weights(text: str) -> tuple[float, ...] | str:
    if text == "balanced":
        return text
    weights = listed(text)
    if not all(re.match(r"[0-9]{1,9}(\.[0-9]{1,20})?$", weight) for weight in weights):
        raise ValueError(
            "give balanced, or a number of at least 0 for each label, separated by commas"
        )
    numbers = tuple(map(float, weights))
    if numbers and not any(numbers):
        raise ValueError("give at least one label a weight above 0")
    return numbers


@dataclasses.dataclass(frozen=True)
class Actions:
    """Actions: at least one of train, eval, predict, export; they run in this order."""

    do_train: bool = flag(
        False, "Train the stage, or resume an interrupted training.", is_common=True
    )
    do_eval: bool = flag(False, "Evaluate the stage's model.", is_common=True)
    do_predict: bool = flag(False, "Write the predictions of the stage's model.", is_common=True)
    do_export: bool = flag(
        False, "Export the stage's model in the formats of --export_format.", is_common=True
    )
    version: bool = flag(False, "Print the version and exit.")


@dataclasses.dataclass(frozen=True)
class Stages:
    """Stage: 0 with --finetune_pre, 2 with --finetune_suc, otherwise 1, module replacing."""

    finetune_pre: bool = flag(False, "Stage 0: fine-tune the predecessor.", is_common=True)
    finetune_suc: bool = flag(False, "Stage 2: train the successor alone.", is_common=True)
    stage_0_outputdir: str = flag("out_0", "Output folder of stage 0.", must_name=True)
    stage_1_outputdir: str | None = flag(
        None,
        "Output folder of stage 1.",
        "out_1_layers_N, where N is --suc_layers",
        must_name=True,
    )
    stage_2_outputdir: str | None = flag(
        None,
        "Output folder of stage 2.",
        "out_2_layers_N, where N is --suc_layers",
        must_name=True,
    )


@dataclasses.dataclass(frozen=True)
class Files:
    """Files: the data, and the format of the files."""

    data_dir: str = flag(
        "data/sample",
        "Folder with train, dev and test, each .txt, .tsv, .csv or .jsonl.",
        is_common=True,
        must_name=True,
    )
    eval_files: tuple[str, ...] = flag(
        (), "More labelled files for --do_eval, each evaluated separately."
    )
    predict_file: str | None = flag(
        None,
        "File for --do_predict; - reads standard input and writes to standard output.",
        "data_dir's test",
        must_name=True,
    )
    format: str = flag(
        "auto",
        "Format of the files; auto decides by a file's extension. Predictions are written in "
        "the format of their input file.",
        choices=("auto",) + tuple(rows.FORMATS),
    )
    delimiter: str | None = run_flag(
        None, "Column separator for --format=csv: one character, or tab.", "a comma"
    )
    header: str = run_flag(
        "auto",
        "Whether the first row of a file is a header; auto compares it with the rows below.",
        choices=("auto", "yes", "no"),
    )
    encoding: str | None = run_flag(
        None, "Encoding of the files, such as gb18030, big5 or utf-16.", "UTF-8"
    )
    skip_bad_lines: bool = run_flag(
        False,
        "Skip, count and log lines without a valid example; without this flag they are errors.",
    )
    cache_dir: str = flag(".cache", "Cache folder for encoded training examples; empty: no cache.")
    num_encoding_processes: int | None = flag(
        None,
        "Number of processes that encode training examples; it does not change the result.",
        "one for each processor",
        lower=1,
        upper=1024,
    )


@dataclasses.dataclass(frozen=True)
class TaskFlags:
    """Task: its columns, its labels and its metric."""

    task_name: str = run_flag(
        "lcqmc_pair",
        "Task. custom takes your own columns and labels; custom_number predicts a number.",
        choices=tuple(tasks.TASKS),
        parse=lambda name: tasks.ALIASES.get(name, name),
        is_common=True,
    )
    text_a_column: str | None = flag(
        None,
        "Column of the text, for custom tasks: its name in the header, or its number from 1.",
    )
    text_b_column: str | None = flag(
        None, "Column of the second text, if any; given like --text_a_column."
    )
    label_column: str | None = flag(None, "Column of the label; given like --text_a_column.")
    labels: tuple[str, ...] = flag(
        (), "Labels of a custom task, in the order of their ids.", "the labels in train, sorted"
    )
    metric: str | None = run_flag(
        None, "Dev metric that selects the best epoch.", "the task's", choices=tuple(tasks.METRICS)
    )


@dataclasses.dataclass(frozen=True)
class Model:
    """Model: the BERT to compress, the weights to start from, and how texts become tokens."""

    bert_pretrained_model: str = flag(
        "data/tiny_bert",
        "Pretrained BERT: a Google folder (bert_config.json, vocab.txt, bert_model.ckpt*), a "
        "Hugging Face folder, or a model of the Hugging Face hub (owner/name or "
        "owner/name@revision).",
        is_common=True,
    )
    init_checkpoint: str | None = flag(
        None,
        "Weights to start from: a stage's output folder, a pretrained BERT's folder, or a "
        "checkpoint's prefix.",
        "the pretrained BERT in stages 0 and 1, stage 1's model in stage 2",
        is_common=True,
    )
    max_seq_length: int = run_flag(
        128,
        "Maximum length of an example in tokens, including [CLS] and [SEP]; longer examples "
        "are truncated.",
        lower=5,
        is_common=True,
    )
    do_lower_case: bool | None = run_flag(
        None, "Lower-case the texts and strip accents.", "detected from the model"
    )
    precision: str | None = run_flag(
        None,
        "Precision of matrix products and activations.",
        "float32 for training, otherwise the precision of the training",
        choices=("float32", "bfloat16"),
    )


@dataclasses.dataclass(frozen=True)
class Method:
    """Method: modules, replacing rate, train scope, the successor's start, distillation."""

    suc_layers: int = run_flag(
        6, "Number of layers of the successor.", lower=1, stages=(1, 2), is_common=True
    )
    modules: tuple[int, ...] | None = run_flag(
        None,
        "Number of the predecessor's layers in each module, such as 1,1,2,2,3,3: one number "
        "for each layer of the successor.",
        "modules of equal size",
        parse=_sizes,
        stages=(1,),
    )
    replace_rate_prob: float = run_flag(
        0.5,
        "Probability that a module is replaced in a step; with --replace_scheduler=linear, the "
        "probability in the first step.",
        lower=0.0,
        upper=1.0,
        stages=(1,),
        is_common=True,
    )
    replace_scheduler: str = run_flag(
        "constant", "Schedule of the replacing rate.", choices=("constant", "linear"), stages=(1,)
    )
    replace_linear_k: float | None = run_flag(
        None, "Increase of a linear replacing rate per step.", above=0.0, stages=(1,)
    )
    replace_until: float | None = run_flag(
        None,
        "Fraction of the training at which a linear replacing rate reaches 1.",
        above=0.0,
        upper=1.0,
        stages=(1,),
    )
    steps_for_replacing: int | None = run_flag(
        None,
        "Number of steps after which a constant replacing rate becomes 1.",
        "never",
        lower=0,
        stages=(1,),
    )
    train_scope: str | None = run_flag(
        None,
        "Which part of the model trains: all; successor (all but the predecessor's layers); or "
        "successor_layers (only the successor's layers, as in the paper).",
        "all in stages 0 and 1, successor in stage 2",
        choices=("all", "successor", "successor_layers"),
    )
    suc_init: str | None = flag(
        None,
        "Initial weights of the successor's layers, unless the starting weights hold them "
        "already: the predecessor's first or last layers; spread, layers at equal distances "
        "from its first to its last; layer numbers from 0, such as 0,5,11; or another BERT (a "
        "folder or a name as in --bert_pretrained_model).",
        "first",
        stages=(1, 2),
    )
    distill_from: str | None = flag(
        None,
        "Distillation teacher: a trained stage, such as out_0, or a fine-tuned classifier.",
        stages=(1, 2),
    )
    distill_temperature: float = run_flag(
        1.0, "Temperature of distillation.", above=0.0, stages=(1, 2)
    )
    distill_weight: float = run_flag(
        0.5,
        "Weight of the distillation loss; the loss on the labels gets the rest.",
        lower=0.0,
        upper=1.0,
        stages=(1, 2),
    )
    unlabelled_file: str | None = flag(
        None,
        "File of additional training examples, learned only from the teacher of "
        "--distill_from; labels in it are ignored.",
        stages=(1, 2),
    )


@dataclasses.dataclass(frozen=True)
class Training:
    """Training: batches, learning rate, loss and stopping."""

    train_batch_size: int = run_flag(64, "Number of examples per training step.", lower=1)
    gradient_accumulation_steps: int = run_flag(
        1,
        "Number of micro-batches that each step's batch is split into, to save memory; "
        "--train_batch_size is still the size of the whole batch.",
        lower=1,
        upper=256,
    )
    learning_rate: float = run_flag(
        2e-5, "Learning rate after the warm-up.", lower=0.0, is_common=True
    )
    suc_learning_rate: float | None = run_flag(
        None,
        "Learning rate of the successor's layers (same schedule).",
        "--learning_rate",
        lower=0.0,
    )
    warmup_proportion: float = run_flag(
        0.1, "Fraction of the training that is learning rate warm-up.", lower=0.0, upper=1.0
    )
    num_train_epochs: float = run_flag(
        10.0,
        "Number of passes over the training data; may be fractional.",
        above=0.0,
        upper=1e6,
        is_common=True,
    )
    early_stopping_patience: int | None = run_flag(
        None,
        "Stop after this many epochs in a row without a better score on dev; the learning rate "
        "schedule is still that of --num_train_epochs.",
        "never",
        lower=1,
    )
    select_checkpoint: str = run_flag(
        "best",
        "Checkpoint that becomes the model: the best on dev, or the last (nothing is selected "
        "on dev).",
        choices=("best", "last"),
    )
    ema_decay: float | None = run_flag(
        None,
        "Decay per step of a moving average of the weights, such as 0.999; the averaged "
        "weights are evaluated and saved.",
        "no average",
        lower=0.0,
        below=1.0,
    )
    class_weights: tuple[float, ...] | str = run_flag(
        (),
        "Loss weight of each label, in the order of their ids, or balanced.",
        "all 1",
        parse=_class_weights,
    )
    label_smoothing: float = run_flag(
        0.0,
        "Share of the target probability that is spread evenly over all labels, such as 0.1.",
        lower=0.0,
        below=1.0,
    )
    max_train_examples: int | None = run_flag(
        None,
        "Number of training examples, sampled at random (the same sample for every seed).",
        "all",
        lower=1,
    )
    seed: int = run_flag(42, "Random seed.", lower=0)
    pad_to_max_length: bool = flag(
        False, "Pad every batch to --max_seq_length, not just to its longest example."
    )
    xla: bool = flag(
        False,
        "Compile the training steps with XLA, for a GPU. Batches are padded to multiples of 16 "
        "tokens, since each length is compiled for itself.",
    )
    distribution: str = flag(
        "none",
        "Devices that share each batch: none (one device), mirrored (the GPUs of this machine) "
        "or multi_worker (the machines that TF_CONFIG lists).",
        choices=("none", "mirrored", "multi_worker"),
    )
    peer_timeout_s: float = flag(
        120.0,
        "With multi_worker: seconds without an answer after which a worker counts as lost and "
        "the others exit.",
        lower=1.0,
        upper=1e6,
    )


@dataclasses.dataclass(frozen=True)
class Saving:
    """Log and checkpoints."""

    log_steps: int = flag(50, "Number of steps between two log lines.", lower=1)
    save_checkpoints_steps: int | None = flag(None, "Also save every N steps.", "off", lower=1)
    save_checkpoints_secs: float = flag(
        600.0, "Seconds between two saves; each epoch's end is always saved.", lower=0.0
    )
    keep_checkpoints: int = flag(
        2,
        "Number of recent checkpoints to keep; if one is damaged, training resumes from the one "
        "before.",
        lower=1,
    )
    keep_predecessor: bool = run_flag(
        False,
        "Also keep the predecessor's layers in the model, for --replaced_modules.",
        stages=(1,),
    )


@dataclasses.dataclass(frozen=True)
class Inference:
    """Evaluation, prediction and export."""

    eval_split: str = flag("dev", "Split that --do_eval evaluates.", choices=("dev", "test"))
    eval_batch_size: int = flag(64, "Batch size of --do_eval.", lower=1)
    predict_batch_size: int = flag(1024, "Batch size of --do_predict.", lower=1)
    threshold: float | None = flag(
        None,
        "For two labels: predict the second label if its probability is at least this.",
        "the most probable label",
        lower=0.0,
        upper=1.0,
    )
    calibrate: bool = flag(
        False,
        "With --do_eval: find on dev the temperature that calibrates the probabilities, and "
        "store it with the model and its exports.",
    )
    abstain_below: float | None = flag(
        None,
        "Mark predictions with a probability below this as uncertain; --do_eval reports the share "
        "and the accuracy of the others.",
        "off",
        lower=0.0,
        upper=1.0,
    )
    compare_with: tuple[str, ...] = flag(
        (),
        "With --do_eval: trained stages to evaluate as well, such as out_0; the loyalty to "
        "their predictions is reported.",
    )
    replaced_modules: tuple[bool, ...] | None = flag(
        None,
        "Stage 1: the mixture to evaluate, predict with and export: a digit for each module, "
        "such as 101011, where 1 is the successor's layer and 0 the predecessor's layers. The "
        "training needs --keep_predecessor.",
        "the successor",
        parse=_mask,
    )
    export_format: tuple[str, ...] = flag(
        (), "Formats that --do_export writes.", choices=EXPORT_FORMATS, is_common=True
    )
    export_dir: str | None = flag(
        None,
        "Folder of the export, if there is only one.",
        "export/<format> in the stage's folder",
        must_name=True,
    )
    quantize: tuple[str, ...] = flag(
        ("none",),
        "Number types of the onnx export's weights: none is float32; the <format> of int8 is "
        "onnx_int8.",
        choices=("none", "int8"),
    )


GROUPS = (
    Actions, Stages, Files, TaskFlags, Model, Method, Training, Saving, Inference,
)  # fmt: skip
"""The groups of flags, in the order of --help and docs/flags.md; a docstring is its heading."""


@dataclasses.dataclass(frozen=True)
class Config(Actions, Stages, Files, TaskFlags, Model, Method, Training, Saving, Inference):
    """The resolved flags of a command, under their names.

    Attributes:
      given: frozenset of str, the names of the flags that the command line gives.
    """

    given: frozenset[str] = frozenset()

    @property
    def stage(self) -> Stage:
        """The Stage of the command."""
        if self.finetune_pre:
            return PREDECESSOR
        return SUCCESSOR if self.finetune_suc else REPLACING

    @property
    def output_dir(self) -> str:
        """The output folder of the stage."""
        folder: str = getattr(self, self.stage.output_flag)
        return folder

    @property
    def actions(self) -> tuple[str, ...]:
        """The names of the command's actions, in the order in which they run."""
        return tuple(name for flag_name, name in ACTIONS.items() if getattr(self, flag_name))

    @property
    def scope(self) -> str:
        """The train scope: --train_scope, or the stage's default."""
        return self.train_scope or self.stage.default_scope

    def has(self, name: str) -> bool:
        """Returns whether a flag has a value; 0 counts as a value."""
        value = getattr(self, name)
        return value is not None and value is not False and value != ()

    @property
    def training_precision(self) -> str:
        """The precision of a training."""
        return self.precision or "float32"

    def num_steps(self, num_examples: int) -> tuple[int, int]:
        """Returns (steps in an epoch, total steps) of a training on a number of examples."""
        per_epoch = int(math.ceil(num_examples / self.train_batch_size))
        return per_epoch, max(1, int(round(per_epoch * self.num_train_epochs)))

    def run_values(self) -> dict[str, Any]:
        """Returns the flags that define a run, as JSON values; None if the stage ignores one."""
        values: dict[str, Any] = {"stage": self.stage.name}
        for field, declared in all_declarations():
            if declared.defines_run:
                is_used = self.stage.number in declared.stages
                value = getattr(self, field.name) if is_used else None
                values[field.name] = list(value) if isinstance(value, tuple) else value
        return dict(values, train_scope=self.scope, precision=self.training_precision)

    def paths(self) -> dict[str, str]:
        """Returns the paths of a run's files, a dict by flag name."""
        values = {name: getattr(self, name) for name in _PATHS}
        return {name: value for name, value in values.items() if value}

    def with_only(self, action: str) -> Config:
        """Returns the Config with only the named action."""
        values: dict[str, Any] = {name: done == action for name, done in ACTIONS.items()}
        return dataclasses.replace(self, **values)


def all_declarations() -> Iterator[tuple[dataclasses.Field[Any], Declaration]]:
    """Yields (field, Declaration) of every flag."""
    for group in GROUPS:
        yield from declarations(group)


def resolve(values: Mapping[str, Any], given: frozenset[str]) -> Config:
    """Returns the Config of parsed flags.

    Args:
      values: dict from the name of a flag to its value.
      given: the names of the flags that the command line gives.

    Raises:
      UserError: --modules does not fit --suc_layers.
    """
    config = Config(**{field.name: values[field.name] for field, _ in all_declarations()})
    config = dataclasses.replace(config, given=given)
    if config.modules is not None:
        config = _with_modules(config, config.modules)
    folders: dict[str, Any] = {
        stage.output_flag: "out_%d_layers_%d" % (stage.number, config.suc_layers)
        for stage in (REPLACING, SUCCESSOR)
        if getattr(config, stage.output_flag) is None
    }
    return dataclasses.replace(config, **folders)


def _with_modules(config: Config, sizes: tuple[int, ...]) -> Config:
    """Returns a Config whose --suc_layers is the number of sizes in --modules."""
    count = len(sizes)
    if "suc_layers" in config.given and config.suc_layers != count:
        raise UserError(
            "--suc_layers=%d: --modules has %d sizes, one for each layer of the successor; give "
            "--suc_layers=%d, or leave it out" % (config.suc_layers, count, count)
        )
    return dataclasses.replace(config, suc_layers=count)


def fit_mask(config: Config) -> Config:
    """Returns a Config with checked --replaced_modules; None means the successor.

    Raises:
      UserError: the modules do not fit --suc_layers, or the training discards the predecessor.
    """
    mask = config.replaced_modules
    if mask is None:
        return config
    if len(mask) != config.suc_layers:
        raise UserError(
            "--replaced_modules: has %d digits; give one for each of the %d modules of "
            "--suc_layers or --modules" % (len(mask), config.suc_layers)
        )
    if all(mask):
        return dataclasses.replace(config, replaced_modules=None)
    if config.do_train and not config.keep_predecessor:
        raise UserError("--replaced_modules: add --keep_predecessor to the training")
    return config
