"""Encodes examples as token ids, and pads them batch by batch."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Iterable, Sequence

import numpy as np
from tqdm import tqdm

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

    from theseus.inputs.reading import Example
    from theseus.inputs.tasks import Task
    from tokenization import FullTokenizer


def encode_texts(
    tokens_a: list[str], tokens_b: list[str] | None, max_seq_length: int
) -> tuple[list[str], int]:
    """Puts texts into BERT's form: [CLS] a [SEP], or [CLS] a [SEP] b [SEP].

    Source: google-research/bert, run_classifier.convert_single_example and
    _truncate_seq_pair: the longer text loses its last tokens; if they are equally long, b does.

    Args:
      tokens_a: list of str.
      tokens_b: list of str; None: there is no second text.
      max_seq_length: int, at least 3.

    Returns:
      (tokens, length_a): the list of str, and how many of them are in the first segment.
    """
    if tokens_b is None:
        tokens = ["[CLS]"] + tokens_a[: max_seq_length - 2] + ["[SEP]"]
        return tokens, len(tokens)
    length_a, length_b = len(tokens_a), len(tokens_b)
    while length_a + length_b > max_seq_length - 3:
        if length_a > length_b:
            length_a -= 1
        else:
            length_b -= 1
    first = ["[CLS]"] + tokens_a[:length_a] + ["[SEP]"]
    return first + tokens_b[:length_b] + ["[SEP]"], len(first)


def encode_examples(
    examples: Sequence[Example], task: Task, tokenizer: FullTokenizer, max_seq_length: int
) -> EncodedExamples:
    """Encodes Examples as EncodedExamples.

    Args:
      examples: list of Example.
      task: a tasks.Task.
      tokenizer: a tokenization.FullTokenizer.
      max_seq_length: int, see `encode_texts`.

    Raises:
      KeyError: the vocabulary lacks a special token of BERT.
    """
    # The bar appears after a second, so encoding a single batch shows none.
    bar = tqdm(examples, "encoding", leave=False, unit="example", delay=1, disable=None)
    return EncodedExamples(**encode_arrays(bar, task, tokenizer, max_seq_length))


def encode_arrays(
    examples: Iterable[Example], task: Task, tokenizer: FullTokenizer, max_seq_length: int
) -> dict[str, NDArray[Any]]:
    """Returns the arrays of EncodedExamples by name; see `encode_examples`.

    The arrays of several parts of the examples can be concatenated.
    """
    ids: list[int] = []
    lengths: list[int] = []
    lengths_a: list[int] = []
    lost: list[tuple[int, int]] = []
    labels: list[str | None] = []
    for example in examples:
        tokens_a = tokenizer.tokenize(example.text_a)
        tokens_b = None if example.text_b is None else tokenizer.tokenize(example.text_b)
        tokens, length_a = encode_texts(tokens_a, tokens_b, max_seq_length)
        ids.extend(tokenizer.convert_tokens_to_ids(tokens))
        lengths.append(len(tokens))
        lengths_a.append(length_a)
        kept_b = len(tokens) - length_a - 1  # Not the last [SEP].
        lost.append((len(tokens_a) - length_a + 2, len(tokens_b) - kept_b if tokens_b else 0))
        labels.append(example.label)
    return {
        "ids": np.array(ids, np.int32),
        "lengths": np.array(lengths, np.int32),
        "lengths_a": np.array(lengths_a, np.int32),
        "lost": np.array(lost, np.int32).reshape(-1, 2),
        "labels": encode_labels(labels, task),
    }


def encode_labels(labels: Sequence[str | None], task: Task) -> NDArray[Any]:
    """Returns the labels of Examples in the form that the graph takes.

    Returns:
      int32 [rows], the label ids, -1 for an unknown label; for regression float32 [rows], NaN
      for an unknown label.
    """
    if task.is_regression:
        return np.array([label or np.nan for label in labels], np.float32)
    ids = task.label_ids
    return np.array([-1 if label is None else ids.get(label, -1) for label in labels], np.int32)


def few_lengths(longest: int, step: int = 16) -> tuple[int, ...]:
    """Returns the multiples of `step` and `longest`: few, as XLA compiles once for each length."""
    return (*range(step, longest, step), longest)


class EncodedExamples(object):
    """Examples as token ids, one after the other in one array.

    Attributes:
      ids: integers [tokens of all rows].
      lengths: integers [rows], the tokens of each row.
      lengths_a: integers [rows], the tokens of each row in its first segment.
      lost: int32 [rows, 2], the tokens that each row's first and second text lost at their ends,
        because the row was too long; None: not known.
      labels: int32 or float32 [rows], as from `encode_labels`.
      padded_lengths: tuple of int, ascending, the lengths that a batch may be padded to; it gets
        the shortest that holds its longest row. (): exactly the length of its longest row.
      teacher_logits: float32 [rows, outputs] of a teacher; None: there is none.
    """

    ARRAYS = ("ids", "lengths", "lengths_a", "lost", "labels")
    """The attributes that the constructor takes and a cache stores."""

    def __init__(
        self,
        ids: ArrayLike,
        lengths: ArrayLike,
        lengths_a: ArrayLike,
        labels: ArrayLike,
        lost: ArrayLike | None = None,
    ) -> None:
        self.ids: NDArray[Any] = np.asarray(ids)
        self.lengths: NDArray[Any] = np.asarray(lengths)
        self.lengths_a: NDArray[Any] = np.asarray(lengths_a)
        self.labels: NDArray[Any] = np.asarray(labels)
        self.lost: NDArray[Any] | None = None if lost is None else np.reshape(lost, [-1, 2])
        self.padded_lengths: tuple[int, ...] = ()
        self.teacher_logits: NDArray[np.float32] | None = None
        self._starts = np.cumsum(self.lengths, dtype=np.int64) - self.lengths

    def __len__(self) -> int:
        return len(self.lengths)

    @property
    def num_unlabelled(self) -> int:
        """How many rows have no label."""
        is_number = self.labels.dtype.kind == "f"
        return int(np.count_nonzero(np.isnan(self.labels) if is_number else self.labels < 0))

    def batch_length(self, rows: NDArray[np.int64]) -> int:
        """Returns the length T, int, to which a batch of these rows is padded; 1 for no rows."""
        longest = int(self.lengths[rows].max(initial=1))
        return next((length for length in self.padded_lengths if length >= longest), longest)

    def batch(self, rows: NDArray[np.int64]) -> dict[str, NDArray[np.int32]]:
        """Returns the padded arrays of a batch, by name.

        Args:
          rows: int64 [B], the numbers of its rows.

        Returns:
          dict: input_ids, input_mask and segment_ids, each int32 [B, T].
        """
        columns = np.arange(self.batch_length(rows))[np.newaxis, :]
        is_token = columns < self.lengths[rows, np.newaxis]
        indices = np.where(is_token, self._starts[rows, np.newaxis] + columns, 0)
        is_second = is_token & (columns >= self.lengths_a[rows, np.newaxis])
        return {
            "input_ids": np.where(is_token, self.ids[indices], 0).astype(np.int32),
            "input_mask": is_token.astype(np.int32),
            "segment_ids": is_second.astype(np.int32),
        }
