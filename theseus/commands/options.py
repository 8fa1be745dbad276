"""A command line as values, by what they are about; without TensorFlow.

A field's name is its flag's, and run_classifier.py documents it there.
"""

from __future__ import annotations

import dataclasses
from typing import Any, Mapping, TypeVar

from theseus.stage import PREDECESSOR, REPLACING, SUCCESSOR, Stage

ACTIONS = ("train", "evaluate", "predict", "export")
"""What a command can do, in the order in which it does it."""

_ACTION_FLAGS = ("do_train", "do_eval", "do_predict", "do_export")


@dataclasses.dataclass(frozen=True)
class DataOptions:
    """The files of examples, and how they are read."""

    data_dir: str
    task_name: str
    text_a_column: str | None
    text_b_column: str | None
    label_column: str | None
    labels: list[str]
    format: str
    delimiter: str | None
    header: str
    encoding: str | None
    skip_bad_lines: bool
    max_train_examples: int | None
    pad_to_max_length: bool
    cache_dir: str
    num_encoding_processes: int | None


@dataclasses.dataclass(frozen=True)
class ModelOptions:
    """The model, and what it takes its texts as."""

    suc_layers: int
    modules: list[int] | None
    max_seq_length: int
    do_lower_case: bool | None
    precision: str | None


@dataclasses.dataclass(frozen=True)
class StartOptions:
    """What training starts from; `bert_is_given` says whether the flag was, or is the default."""

    bert_pretrained_model: str
    bert_is_given: bool
    init_checkpoint: str | None
    stage_1_outputdir: str
    suc_init: str | None
    distill_from: str | None


@dataclasses.dataclass(frozen=True)
class TrainingOptions:
    """How a stage is trained, how often that is reported, and how often it is saved."""

    train_scope: str | None
    learning_rate: float
    suc_learning_rate: float | None
    num_train_epochs: float
    warmup_proportion: float
    train_batch_size: int
    gradient_accumulation_steps: int
    early_stopping_patience: int | None
    seed: int
    replace_rate_prob: float
    replace_linear_k: float | None
    replace_until: float | None
    steps_for_replacing: int | None
    distill_temperature: float
    distill_weight: float
    ema_decay: float | None
    class_weights: list[str]
    label_smoothing: float
    metric: str | None
    distribution: str
    peer_timeout_s: float
    log_steps: int
    save_checkpoints_steps: int | None
    save_checkpoints_secs: float
    keep_checkpoints: int
    keep_predecessor: bool
    select_checkpoint: str


@dataclasses.dataclass(frozen=True)
class InferenceOptions:
    """What is evaluated and predicted, and with which of stage 1's paths; None: the successor."""

    path: list[bool] | None
    eval_split: str
    eval_files: list[str]
    eval_batch_size: int
    predict_file: str | None
    predict_batch_size: int
    threshold: float | None
    calibrate: bool
    abstain_below: float | None
    compare_with: list[str]


@dataclasses.dataclass(frozen=True)
class ExportOptions:
    """What is exported, and where to."""

    export_format: list[str]
    export_dir: str | None
    quantize: str | None


_Group = TypeVar(
    "_Group",
    DataOptions,
    ModelOptions,
    StartOptions,
    TrainingOptions,
    InferenceOptions,
    ExportOptions,
)


@dataclasses.dataclass(frozen=True)
class Options:
    """A command.

    Attributes:
      stage: the Stage that it is about.
      output_dir: str, the folder of that stage.
      actions: tuple of str, some of `ACTIONS`, in their order.
    """

    stage: Stage
    output_dir: str
    actions: tuple[str, ...]
    data: DataOptions
    model: ModelOptions
    start: StartOptions
    training: TrainingOptions
    inference: InferenceOptions
    export: ExportOptions


def from_flags(values: Mapping[str, Any]) -> Options:
    """Returns the Options of a dict from the name of a flag, or `bert_is_given`, to its value."""

    def group(made: type[_Group]) -> _Group:
        return made(**{field.name: values[field.name] for field in dataclasses.fields(made)})

    stage = REPLACING
    if values["finetune_pre"]:
        stage = PREDECESSOR
    if values["finetune_suc"]:
        stage = SUCCESSOR
    return Options(
        stage,
        values[stage.output_flag],
        tuple(action for action, flag in zip(ACTIONS, _ACTION_FLAGS) if values[flag]),
        data=group(DataOptions),
        model=group(ModelOptions),
        start=group(StartOptions),
        training=group(TrainingOptions),
        inference=group(InferenceOptions),
        export=group(ExportOptions),
    )
