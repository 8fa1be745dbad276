"""How far a run has come, as state.json has it; without TensorFlow."""

from __future__ import annotations

import dataclasses
from typing import Any, Mapping

from theseus.records import boolean, both, listed, mapping, nullable, number, table, text, whole


@dataclasses.dataclass(frozen=True)
class Checkpoint:
    """A checkpoint of a stage's folder.

    Attributes:
      checkpoint: str, its prefix, relative to the folder.
      global_step: int, the steps done.
    """

    checkpoint: str
    global_step: int


@dataclasses.dataclass
class State:
    """How far a run has come; by default one that has not begun.

    Attributes:
      last: the Checkpoint that training resumes from, or None.
      best: the Checkpoint that is evaluated, or None.
      evaluations: list of dicts of dev metrics, each with its global_step.
      train_seconds: float, spent in steps.
      is_finished: bool.
    """

    last: Checkpoint | None = None
    best: Checkpoint | None = None
    evaluations: list[dict[str, Any]] = dataclasses.field(default_factory=list)
    train_seconds: float = 0.0
    is_finished: bool = False

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> State:
        """Builds a State from what `to_json` returned, which is of the Kind `STATE`."""
        values = dict(values)
        for which in ("last", "best"):
            if values[which] is not None:
                values[which] = Checkpoint(**values[which])
        return cls(**values)

    def to_json(self) -> dict[str, Any]:
        """Returns the state as a dict of JSON values."""
        return dataclasses.asdict(self)

    def is_evaluated(self, global_step: int) -> bool:
        """Returns whether there is an evaluation of that step."""
        return any(entry["global_step"] == global_step for entry in self.evaluations)

    def best_evaluation(self) -> dict[str, Any] | None:
        """Returns the dev metrics of the best checkpoint, a dict; None where there is none."""
        step = self.best and self.best.global_step
        return next((e for e in self.evaluations if e["global_step"] == step), None)

    def stale_evaluations(self) -> int:
        """Returns how many evaluations came after the best one; all where there is none."""
        best_step = self.best.global_step if self.best else -1
        return sum(entry["global_step"] > best_step for entry in self.evaluations)


def _checkpoint(which: str) -> Any:
    """Returns the Kind of a Checkpoint, which is in the folder of its own name."""
    place = text(which + r"/model\.ckpt-[0-9]{1,10}", "the path of a checkpoint in %s/" % which)
    return nullable(table({"checkpoint": place, "global_step": whole()}))


STATE = table(
    {
        "last": _checkpoint("last"),
        "best": _checkpoint("best"),
        "evaluations": listed(
            both(mapping(nullable(number())), table({"global_step": whole()}, others=True))
        ),
        "train_seconds": number(0),
        "is_finished": boolean,
    }
)
"""The Kind of state.json."""
