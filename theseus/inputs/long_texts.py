"""Counts the examples of a file that are too long for the model, and which text is cut."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from theseus.inputs.encoding import EncodedExamples

LEAST_SHARE = 0.01
"""The share of cut examples in a file from which on there is a warning."""


class LongTexts(object):
    """Counts the encoded examples that lost tokens at their ends, part by part of a file."""

    def __init__(self, max_seq_length: int) -> None:
        """Takes the length, in tokens, that the examples are cut to."""
        self._max_seq_length = max_seq_length
        self._count = self._long = self._longest = 0
        self._long_texts = np.zeros(2, np.int64)  # First texts, second texts.
        self._are_pairs = False

    def add(self, encoded: EncodedExamples) -> None:
        """Counts the cut examples in a part of the file, EncodedExamples whose `lost` is known."""
        assert encoded.lost is not None
        self._are_pairs = self._are_pairs or bool((encoded.lengths_a < encoded.lengths).any())
        is_long = encoded.lost.any(axis=1)
        lost = encoded.lost[is_long].astype(np.int64)
        self._count += len(encoded)
        self._long += len(lost)
        self._long_texts += np.count_nonzero(lost, axis=0)
        lengths = encoded.lengths[is_long] + lost.sum(axis=1)
        self._longest = max(self._longest, int(lengths.max(initial=0)))

    def warning(self, name: str) -> str | None:
        """Returns a warning about the file, str; None if few of its examples are too long.

        Args:
          name: str, the name of the file in the warning.
        """
        if not self._long or self._long < LEAST_SHARE * self._count:
            return None
        numbers = self._long, self._count, self._max_seq_length
        return (
            "%s: %d of %d examples are longer than --max_seq_length=%d tokens and lose %s; the "
            "longest has %d" % (name, *numbers, self._what_is_lost(), self._longest)
        )

    def _what_is_lost(self) -> str:
        if not self._are_pairs:
            return "their end"
        first, second = self._long_texts.tolist()
        if first and second:
            return "the end of a text (the first in %d, the second in %d)" % (first, second)
        return "the end of the %s text" % ("first" if first else "second")
