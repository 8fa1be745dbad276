"""What a user chooses of a stage's training; without TensorFlow."""

from __future__ import annotations

import dataclasses
import math

from theseus.stage import Stage


@dataclasses.dataclass(frozen=True)
class Settings:
    """What the weights at a training's end depend on, beside its data and its start.

    A field's name is its flag's, but for `stage`. `train_scope` is resolved. With
    `replace_linear_k` or `replace_until` the replacing rate is linear, else constant.
    `gradient_accumulation_steps` is at least 2; None: a step's batch is computed at once.
    `suc_learning_rate` None: the successor's layers train at `learning_rate`. Where
    `distill_weight` is None no teacher is learned from; where `ema_decay` is, the weights of
    the last step are evaluated, not their average. `num_replicas` is at least 2, the devices
    that compute a step together; None: it is one. With `keep_predecessor` the best checkpoint
    of stage 1 holds the predecessor's layers too; else it is None. With `selects_last` the last
    evaluated weights are the model, which the folder calls its best; else it is None.
    `class_weights` is ("balanced",), or a number for each label, or None: all count alike.
    """

    stage: Stage
    train_scope: str
    learning_rate: float
    num_train_epochs: float
    warmup_proportion: float
    train_batch_size: int
    seed: int
    precision: str = "float32"
    replace_rate_prob: float = 0.5
    replace_linear_k: float | None = None
    replace_until: float | None = None
    steps_for_replacing: int | None = None
    early_stopping_patience: int | None = None
    gradient_accumulation_steps: int | None = None
    suc_learning_rate: float | None = None
    distill_temperature: float | None = None
    distill_weight: float | None = None
    ema_decay: float | None = None
    num_replicas: int | None = None
    keep_predecessor: bool | None = None
    class_weights: tuple[str, ...] | None = None
    label_smoothing: float | None = None
    selects_last: bool | None = None

    def num_steps(self, num_examples: int) -> tuple[int, int]:
        """Returns (steps in an epoch, steps in all); a part of an epoch counts as such."""
        steps_per_epoch = int(math.ceil(num_examples / self.train_batch_size))
        return steps_per_epoch, max(1, int(round(steps_per_epoch * self.num_train_epochs)))


@dataclasses.dataclass(frozen=True)
class Reporting:
    """How often to report and to save, on which no weight depends."""

    eval_batch_size: int = 64
    log_steps: int = 50
    save_checkpoints_steps: int | None = None
    save_checkpoints_secs: float = 600
    keep_checkpoints: int = 2
