"""Plans the batches of a training epoch, and of a pass of evaluation.

A plan depends only on the lengths, the seed and the epoch, so a run can begin at any step
without replaying the steps before it. A batch is an array of row numbers, int64 [B].
"""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, Iterable, Iterator

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from theseus.inputs.reading import Example

# Each pool is sorted by length. Larger pools have less padding; smaller pools are
# closer to a plain shuffle.
BATCHES_PER_POOL = 50

BATCH_COST = 64
"""The fixed cost of a batch, in tokens: a batch is cut if the cut saves more padding than this.

Measured with two-layer ONNX models on an AMD EPYC (AVX2): 0 at width 768, 30 at width 128. More
is counted since small matrix products are slower, too. So 64 mixed pairs of LCQMC become 4 batches,
in which one token in ten is padding; in one batch, four in ten are.
"""


def cut_into_pools(examples: Iterable[Example], batch_size: int) -> Iterator[list[Example]]:
    """Cuts Examples, in their order, into pools: lists of up to `BATCHES_PER_POOL` batches.

    With pools, a file of any size is encoded, and grouped by length, in bounded memory.

    Args:
      examples: iterable of Example.
      batch_size: int.
    """
    waiting, size = iter(examples), BATCHES_PER_POOL * batch_size
    return iter(lambda: list(itertools.islice(waiting, size)), [])


def plan_epoch(
    lengths: NDArray[np.int64], batch_size: int, seed: int, epoch: int
) -> list[NDArray[np.int64]]:
    """Plans an epoch of training: each row once, rows of similar length together.

    The rows are shuffled and cut into pools of `BATCHES_PER_POOL` batches; each pool is
    sorted by length and cut into batches; the batches are shuffled.

    Args:
      lengths: int64 [rows], the tokens of each row.
      batch_size: int.
      seed: int in [0, 2**31).
      epoch: int, from 0.

    Returns:
      List of ceil(rows / batch_size) batches; one of them may be smaller.
    """
    random = np.random.RandomState([seed, epoch])
    shuffled = random.permutation(len(lengths))
    pool_size = BATCHES_PER_POOL * batch_size
    batches: list[NDArray[np.int64]] = []
    for first in range(0, len(lengths), pool_size):
        pool = shuffled[first : first + pool_size]
        batches += _cut(pool[np.argsort(lengths[pool], kind="stable")], batch_size)
    return [batches[index] for index in random.permutation(len(batches))]


def plan_in_length_order(lengths: NDArray[np.int64], batch_size: int) -> list[NDArray[np.int64]]:
    """Plans one pass for evaluation: each row once, from the shortest to the longest.

    Args and Returns as for `plan_epoch`; the last batch may be smaller.
    """
    return _cut(np.argsort(lengths, kind="stable"), batch_size)


def plan_with_little_padding(
    lengths: NDArray[np.int64], batch_size: int
) -> list[NDArray[np.int64]]:
    """Plans one pass like `plan_in_length_order`, and cuts each batch if that makes it cheaper.

    A batch of n rows whose longest has T tokens costs n T + `BATCH_COST`; the cuts are optimal.
    """
    plan: list[NDArray[np.int64]] = []
    for rows in plan_in_length_order(lengths, batch_size):
        plan += np.split(rows, _cheapest_cuts(lengths[rows]))
    return plan


def _cheapest_cuts(lengths: NDArray[np.int64]) -> list[int]:
    """Returns the places, int, at which to cut a batch with these lengths, in ascending order."""
    count = len(lengths)
    if count * lengths[-1] - lengths.sum() <= BATCH_COST:
        return []  # No cut saves more than it costs.
    cheapest, begins = np.zeros(count + 1), [0] * (count + 1)  # Indexed by the number of rows.
    for end in range(1, count + 1):
        costs = cheapest[:end] + np.arange(end, 0, -1) * lengths[end - 1] + BATCH_COST
        begins[end] = int(costs.argmin())
        cheapest[end] = costs[begins[end]]
    cuts = [begins[count]]
    while cuts[-1]:
        cuts.append(begins[cuts[-1]])
    return cuts[-2::-1]


def cut_batch(rows: NDArray[np.int64], count: int) -> list[NDArray[np.int64]]:
    """Cuts a batch into `count` micro-batches of about equal size; fewer if it has fewer rows.

    Each micro-batch is padded to its own longest row.
    """
    return np.array_split(rows, min(count, len(rows)))


def share_batch(rows: NDArray[np.int64], count: int) -> list[NDArray[np.int64]]:
    """Shares a batch among `count` replicas, in about equal parts; some may be empty."""
    return np.array_split(rows, count)


def _cut(rows: NDArray[np.int64], batch_size: int) -> list[NDArray[np.int64]]:
    return [rows[first : first + batch_size] for first in range(0, len(rows), batch_size)]
