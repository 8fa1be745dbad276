"""The three stages and how they differ; without TensorFlow.

stage 0  predecessor  fine-tunes all layers of the pretrained BERT
stage 1  replacing    replaces its modules at random by the successor's layers
stage 2  successor    trains the successor alone

A *group* is a list of the predecessor's layers that form one module. A *replacement mask* has a
bool for each module: whether the successor's layer replaces it.
"""

from __future__ import annotations

import dataclasses
import re
from typing import Sequence


@dataclasses.dataclass(frozen=True)
class Stage:
    """One of the three stages.

    Attributes:
      number: int, 0 to 2.
      name: str, as run.json has it.
      output_flag: str, the flag that names its output folder.
      default_scope: str, the train scope if --train_scope is not given.
      start_flag: str, the flag of the folder that it starts from; None: a pretrained BERT.
      has_successor: bool, whether there is a successor; if so, the successor is evaluated.
      replaces: bool, whether modules are replaced at random.
    """

    number: int
    name: str
    output_flag: str
    default_scope: str
    start_flag: str | None = None
    has_successor: bool = True
    replaces: bool = False

    def evaluated_mask(self, groups: Sequence[Sequence[int]]) -> list[bool]:
        """Returns the replacement mask of the evaluated model: the successor, if there is one."""
        return [self.has_successor] * len(groups)


PREDECESSOR = Stage(0, "predecessor", "stage_0_outputdir", "all", has_successor=False)
REPLACING = Stage(1, "replacing", "stage_1_outputdir", "all", replaces=True)
SUCCESSOR = Stage(2, "successor", "stage_2_outputdir", "successor", "stage_1_outputdir")
STAGES = (PREDECESSOR, REPLACING, SUCCESSOR)

SUCCESSOR_STARTS = ("first", "last", "spread")
"""The values of --suc_init that choose the predecessor's layers; it may also list numbers."""


def layer_numbers(how: str) -> list[int] | None:
    """Returns the layers that a --suc_init such as 0,5,11 lists; None for any other value."""
    is_list = re.match("[0-9]{1,4}(,[0-9]{1,4})*$", how)
    return [int(number) for number in how.split(",")] if is_list else None


def digits(mask: Sequence[bool]) -> str:
    """Returns a replacement mask as text: 1 for a module that is replaced, otherwise 0."""
    return "".join(str(int(is_replaced)) for is_replaced in mask)


def result(name: str, mask: Sequence[bool] | None) -> str:
    """Returns the name of a result within a stage's folder; each mixture has its own folder."""
    return "mixture_%s/%s" % (digits(mask), name) if mask else name


def of_name(name: str) -> Stage:
    """Returns the Stage of a name, as run.json has it; KeyError for an unknown name."""
    return {stage.name: stage for stage in STAGES}[name]
