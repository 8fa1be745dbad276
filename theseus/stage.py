"""The three stages, and what tells one from another; without TensorFlow.

stage 0  predecessor  fine-tunes all layers of the pretrained BERT
stage 1  replacing    replaces its modules at random by the successor's layers
stage 2  successor    trains the successor alone

A *group* is a list of the predecessor's layers that form one module. A *path* has a bool for
each module: whether the successor's layer stands in its place.
"""

from __future__ import annotations

import dataclasses
import itertools
from typing import Sequence

from theseus.errors import UserError


@dataclasses.dataclass(frozen=True)
class Stage:
    """One of the three stages.

    Attributes:
      number: int, 0 to 2.
      name: str, as run.json has it.
      output_flag: str, the flag that names its output folder.
      default_scope: str, what trains where --train_scope is not given.
      start_flag: str, the flag of the folder that it starts from; None: a pretrained BERT.
      has_successor: bool, whether there is one; then it is what is evaluated.
      replaces: bool, whether its modules are replaced at random.
    """

    number: int
    name: str
    output_flag: str
    default_scope: str
    start_flag: str | None = None
    has_successor: bool = True
    replaces: bool = False

    def groups(
        self, depth: int, suc_layers: int, modules: Sequence[int] | None = None
    ) -> list[list[int]]:
        """Returns the groups of the predecessor's layers; in stage 0 each layer is by itself.

        Args:
          depth: int, the predecessor's layers.
          suc_layers: int, the successor's layers; of no account in stage 0.
          modules: list of int, the size of each group; None: all are equal.

        Raises:
          UserError: the layers cannot be grouped so.
        """
        if not self.has_successor:
            return equal_groups(depth, depth)
        if modules:
            return groups_of_sizes(depth, modules)
        if not self.replaces:
            return [[]] * suc_layers  # On its path no layer of the predecessor is met.
        return equal_groups(depth, suc_layers)

    def evaluated_path(self, groups: Sequence[Sequence[int]]) -> list[bool]:
        """Returns the path that is evaluated, a list of bool: the successor's if there is one."""
        return [self.has_successor] * len(groups)


PREDECESSOR = Stage(0, "predecessor", "stage_0_outputdir", "all", has_successor=False)
REPLACING = Stage(1, "replacing", "stage_1_outputdir", "all", replaces=True)
SUCCESSOR = Stage(2, "successor", "stage_2_outputdir", "successor", "stage_1_outputdir")
STAGES = (PREDECESSOR, REPLACING, SUCCESSOR)


def layers_on(groups: Sequence[Sequence[int]], path: Sequence[bool]) -> list[str]:
    """Returns the names of the layers on a path, from the lowest; `path` has a bool a module."""
    names = []
    for index, (group, is_replaced) in enumerate(zip(groups, path)):
        names += ["suc_layer_%d" % index] if is_replaced else ["layer_%d" % n for n in group]
    return names


def digits(path: Sequence[bool]) -> str:
    """Returns a path as it is written: 1 for a module that is replaced, 0 for one that is not."""
    return "".join(str(int(is_replaced)) for is_replaced in path)


def result(name: str, path: Sequence[bool] | None) -> str:
    """Returns the name, in a stage's folder, of a result: those of a path are below its own."""
    return "path_%s/%s" % (digits(path), name) if path else name


def of_name(name: str) -> Stage:
    """Returns the Stage that run.json calls so; KeyError where there is none."""
    return {stage.name: stage for stage in STAGES}[name]


def equal_groups(num_layers: int, num_modules: int) -> list[list[int]]:
    """Groups layers 0 .. num_layers - 1 into modules of equal size.

    Returns:
      List of `num_modules` lists of layer numbers.

    Raises:
      UserError: the number of modules does not divide the number of layers.
    """
    if num_layers % num_modules:
        divisors = [str(n) for n in range(1, num_layers + 1) if num_layers % n == 0]
        raise UserError(
            "suc_layers = %d does not divide the predecessor's %d layers; choose one of %s, or "
            "give the size of each module with --modules"
            % (num_modules, num_layers, ", ".join(divisors))
        )
    return groups_of_sizes(num_layers, [num_layers // num_modules] * num_modules)


def groups_of_sizes(num_layers: int, sizes: Sequence[int]) -> list[list[int]]:
    """Groups layers 0 .. num_layers - 1 into modules of the sizes given.

    Args:
      num_layers: int.
      sizes: list of int, the layers of each module, at least 1.

    Returns:
      List of lists of layer numbers, one list a module.

    Raises:
      UserError: the sizes do not add up to the number of layers.
    """
    if sum(sizes) != num_layers:
        raise UserError(
            "--modules: the sizes %s add up to %d, the predecessor has %d layers; give sizes that "
            "add up to %d" % (",".join(map(str, sizes)), sum(sizes), num_layers, num_layers)
        )
    ends = list(itertools.accumulate(sizes))
    return [list(range(end - size, end)) for end, size in zip(ends, sizes)]
