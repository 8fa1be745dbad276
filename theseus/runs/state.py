"""The progress of a run, as state.json records it; without TensorFlow."""

from __future__ import annotations

import dataclasses
from typing import Any, Mapping

from theseus.records import boolean, both, listed, mapping, nullable, number, table, text, whole
from theseus.runs.files import SUMS


@dataclasses.dataclass(frozen=True)
class Checkpoint:
    """A checkpoint of a stage's folder.

    Attributes:
      checkpoint: str, its prefix, relative to the folder.
      global_step: int, the steps done.
      files: dict from the name of each of its files to its size and SHA-256; None where these
        are not known yet, see StageFolder.seal.
      unreplaced_losses: list of float, see replaced_losses.ReplacedLosses; None: none were kept.
    """

    checkpoint: str
    global_step: int
    files: dict[str, Any] | None = None
    unreplaced_losses: list[float] | None = None


@dataclasses.dataclass
class State:
    """The progress of a run; by default of one that has not begun.

    Attributes:
      last: the Checkpoint that training resumes from, or None.
      previous: list of Checkpoints that were the last before, the latest first.
      best: the Checkpoint that is the model, or None.
      evaluations: list of dicts of dev metrics, each with its global_step.
      train_seconds: float, spent in steps.
      is_finished: bool.
    """

    last: Checkpoint | None = None
    best: Checkpoint | None = None
    evaluations: list[dict[str, Any]] = dataclasses.field(default_factory=list)
    train_seconds: float = 0.0
    is_finished: bool = False
    previous: list[Checkpoint] = dataclasses.field(default_factory=list)

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> State:
        """Builds a State from what `to_json` returned, which is of the Kind `STATE`."""
        values = dict(values)
        for which in ("last", "best"):
            if values[which] is not None:
                values[which] = Checkpoint(**values[which])
        values["previous"] = [Checkpoint(**entry) for entry in values.get("previous", [])]
        return cls(**values)

    def checkpoints(self) -> list[Checkpoint]:
        """Returns all Checkpoints that are kept."""
        return [entry for entry in (self.last, self.best, *self.previous) if entry]

    def unreplaced_losses(self) -> list[float]:
        """Returns the unreplaced losses of the last checkpoint."""
        return (self.last and self.last.unreplaced_losses) or []

    def renew_last(self, saved: Checkpoint, num_kept: int) -> None:
        """Makes a Checkpoint the last one; the latest `num_kept` last checkpoints are kept."""
        before = [self.last] if self.last else []
        self.previous = (before + self.previous)[: num_kept - 1]
        self.last = saved

    def before_last(self) -> State:
        """Returns the State in which training resumes from the checkpoint before the last.

        The best stays, even if it is of a later step, since training will reach that step again.
        """
        last, *previous = self.previous
        kept = [entry for entry in self.evaluations if entry["global_step"] <= last.global_step]
        return dataclasses.replace(
            self, last=last, previous=previous, evaluations=kept, is_finished=False
        )

    def to_json(self) -> dict[str, Any]:
        """Returns the state as a dict of JSON values."""
        return dataclasses.asdict(self)

    def is_evaluated(self, global_step: int) -> bool:
        """Returns whether a step was evaluated."""
        return any(entry["global_step"] == global_step for entry in self.evaluations)

    def best_evaluation(self) -> dict[str, Any] | None:
        """Returns the dev metrics of the best checkpoint, a dict; None if there is none."""
        step = self.best and self.best.global_step
        return next((e for e in self.evaluations if e["global_step"] == step), None)

    def stale_evaluations(self) -> int:
        """Returns the number of evaluations after the best one; all if there is no best."""
        best_step = self.best.global_step if self.best else -1
        return sum(entry["global_step"] > best_step for entry in self.evaluations)


def _checkpoint(which: str) -> Any:
    """Returns the Kind of a Checkpoint, which is in the folder of its own name."""
    place = text(which + r"/model\.ckpt-[0-9]{1,10}", "the path of a checkpoint in %s/" % which)
    name = text(r"model\.ckpt-[0-9]{1,10}\.[a-z0-9-]+", "the name of a checkpoint's file")
    files, losses = nullable(mapping(SUMS, name)), nullable(listed(number()))
    return table(  # What comes second is not in the folders of versions before 0.15.
        {"checkpoint": place, "global_step": whole(), "files": files},
        {"unreplaced_losses": losses},
    )


STATE = table(
    {
        "last": nullable(_checkpoint("last")),
        "best": nullable(_checkpoint("best")),
        "evaluations": listed(
            both(mapping(nullable(number())), table({"global_step": whole()}, others=True))
        ),
        "train_seconds": number(0),
        "is_finished": boolean,
    },
    {"previous": listed(_checkpoint("last"))},
)
"""The Kind of state.json."""
