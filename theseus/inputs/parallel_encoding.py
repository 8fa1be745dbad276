"""Encodes examples in several processes, part by part, so that memory use stays small."""

from __future__ import annotations

import collections
import itertools
import multiprocessing
from concurrent import futures
from typing import TYPE_CHECKING, Any, Iterable, Iterator

import numpy as np
from tqdm import tqdm

from theseus import machine
from theseus.inputs.encoding import encode_arrays

if TYPE_CHECKING:
    from theseus.inputs.cache import Arrays
    from theseus.inputs.reading import Example
    from theseus.inputs.tasks import Task
    from tokenization import FullTokenizer

PART = 10000
"""The number of examples in a part."""

# Starting a process takes a second, in which one process encodes this many parts.
_FEW_PARTS = 2

_encoder: Encoder | None = None  # Set only in a process of the pool.


class Encoder(object):
    """Encodes lists of Examples as arrays of EncodedExamples, in the smallest types."""

    def __init__(self, task: Task, tokenizer: FullTokenizer, max_seq_length: int) -> None:
        """Takes the arguments of encoding.encode_examples."""
        self._task, self._tokenizer, self._max_seq_length = task, tokenizer, max_seq_length

    def encode(self, examples: list[Example]) -> Arrays:
        """Returns the arrays by name."""
        arrays = encode_arrays(examples, self._task, self._tokenizer, self._max_seq_length)
        largest = dict(ids=max(self._tokenizer.inv_vocab), lengths=self._max_seq_length)
        largest["lengths_a"] = self._max_seq_length
        for name, number in largest.items():
            if number < 1 << 16:
                arrays[name] = arrays[name].astype(np.uint16)
        return arrays


def encode_parts(
    examples: Iterable[Example], encoder: Encoder, num_processes: int | None = None
) -> Iterator[Arrays]:
    """Yields the arrays of each part, in order; num_processes does not change them.

    Args:
      examples: iterable of Example.
      encoder: an Encoder.
      num_processes: int; None: one for each processor. This process itself encodes a few
        examples.
    """
    count = num_processes or machine.num_processors()
    parts = _cut(iter(examples))
    first = list(itertools.islice(parts, _FEW_PARTS + 1))
    parts = itertools.chain(first, parts)
    is_alone = count == 1 or len(first) <= _FEW_PARTS
    encoded = map(encoder.encode, parts) if is_alone else _by_processes(parts, encoder, count)
    with tqdm(None, "encoding", leave=False, unit="example", delay=1, disable=None) as bar:
        for arrays in encoded:
            yield arrays
            bar.update(len(arrays["lengths"]))


def _cut(examples: Iterator[Example]) -> Iterator[list[Example]]:
    return iter(lambda: list(itertools.islice(examples, PART)), [])


def _by_processes(parts: Iterable[list[Example]], encoder: Encoder, count: int) -> Iterator[Arrays]:
    """Yields the arrays of parts that processes encode; only a few parts are pending at a time."""
    # Spawned, not forked: a copy of a process in which TensorFlow runs may hang.
    context = multiprocessing.get_context("spawn")
    waiting: collections.deque[Any] = collections.deque()
    with futures.ProcessPoolExecutor(count, context, _begin, (encoder,)) as pool:
        for part in parts:
            waiting.append(pool.submit(_encode, part))
            if len(waiting) > 2 * count:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()


def _begin(encoder: Encoder) -> None:
    global _encoder
    _encoder = encoder


def _encode(examples: list[Example]) -> Arrays:
    assert _encoder is not None
    return _encoder.encode(examples)
