"""Counts the words of a file's texts that are not in the vocabulary, and gives examples."""

from __future__ import annotations

import collections
import itertools
from typing import TYPE_CHECKING, Callable, Iterable

import numpy as np

if TYPE_CHECKING:
    from theseus.inputs.encoding import EncodedExamples
    from theseus.inputs.reading import Example
    from tokenization import FullTokenizer

_UNKNOWN = "[UNK]"

LARGEST_SHARE = 0.03
"""A larger share of [UNK] in a file's tokens causes a warning."""

_SHOWN = 8
# The most examples searched for words in a call: counting tokens is cheap, finding words is not.
_SEARCHED = 2000
# Tokens to compare at a time; the comparisons for a large file would not fit in memory.
_BLOCK = 1 << 22


class UnknownWords(object):
    """Counts [UNK] in encoded examples, part by part of a file."""

    def __init__(self, tokenizer: FullTokenizer) -> None:
        """Takes the tokenization.FullTokenizer that the examples are encoded with."""
        self._tokenizer = tokenizer
        self._unknown = self._all = 0
        self._words: collections.Counter[str] = collections.Counter()
        self._other = tokenizer.in_other_case()
        # The number of unknown words in the searched examples.
        self._in_this_case = self._in_other_case = 0

    def add(self, encoded: EncodedExamples, find_examples: Callable[[], Iterable[Example]]) -> None:
        """Counts the unknown words in a part of the file.

        Args:
          encoded: encoding.EncodedExamples.
          find_examples: function without arguments that returns the same examples as an iterable
            of Example; it is called only if many words are unknown.
        """
        special = self._tokenizer.convert_tokens_to_ids([_UNKNOWN, "[CLS]", "[SEP]"])
        counts = np.zeros(len(special), np.int64)
        for first in range(0, len(encoded.ids), _BLOCK):
            block = encoded.ids[first : first + _BLOCK]
            counts += [np.count_nonzero(block == index) for index in special]
        unknown, count = int(counts[0]), int(len(encoded.ids) - counts[1:].sum())
        self._unknown += unknown
        self._all += count
        if unknown > LARGEST_SHARE * count:
            for example in itertools.islice(find_examples(), _SEARCHED):
                for text in (example.text_a, example.text_b or ""):
                    unknown_words = _unknown_words(self._tokenizer, text)
                    self._words.update(unknown_words)
                    self._in_this_case += len(unknown_words)
                    self._in_other_case += len(_unknown_words(self._other, text))

    def warning(self, name: str) -> str | None:
        """Returns a warning about the file, str; None if few words are unknown.

        Args:
          name: str, the name of the file in the warning.
        """
        if self._unknown <= LARGEST_SHARE * self._all:
            return None
        often = self._words.most_common(_SHOWN)
        return (
            "%s: %.1f%% of its tokens are not in the vocabulary and become [UNK]%s; check "
            "%s--bert_pretrained_model"
            % (
                name,
                100.0 * self._unknown / self._all,
                often and ": most often " + ", ".join(shown(word) for word, _ in often) or "",
                "--do_lower_case and " if self._in_other_case < self._in_this_case else "",
            )
        )


def _unknown_words(tokenizer: FullTokenizer, text: str) -> list[str]:
    pieces = tokenizer.wordpiece_tokenizer.pieces
    words = [word for word, is_added in tokenizer.words(text) if not is_added]
    return [word for word in words if pieces(word) == (_UNKNOWN,)]


def shown(text: str, longest: int = 20) -> str:
    """Returns a text for a log line: shortened, and with invisible characters escaped."""
    short = text if len(text) <= longest else text[:longest] + "..."
    return "".join(c if c.isprintable() else "\\u%04x" % ord(c) for c in short)
