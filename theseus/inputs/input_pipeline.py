"""From examples to padded batches.

examples -> token ids -> planned batches (row numbers and a padded length) -> arrays.
A plan depends on the lengths, the seed and the epoch alone, so any step of a run is
reached without replaying the ones before it.
"""

import collections
import contextlib
import itertools
import os
import zipfile

import numpy as np
from tqdm import tqdm

PlannedBatch = collections.namedtuple("PlannedBatch", "rows length")
"""A batch: int64 [B] row numbers, and the int T to which each row is padded."""

# Pools are sorted by length inside. The larger, the less padding; the smaller, the
# nearer to a plain shuffle.
BATCHES_PER_POOL = 50


# --- Token ids ---


def encode_texts(tokens_a, tokens_b, max_seq_length):
    """Puts texts into BERT's form: [CLS] a [SEP], or [CLS] a [SEP] b [SEP].

    Source: google-research/bert, run_classifier.convert_single_example and
    _truncate_seq_pair: the longer text loses its last tokens, b where they are equal.

    Args:
      tokens_a: list of str.
      tokens_b: list of str; None: there is no second text.
      max_seq_length: int, at least 3.

    Returns:
      (tokens, length_a): the list of str, and how many of them are of the first segment.
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


def encode_examples(examples, task, tokenizer, max_seq_length):
    """Returns Examples as EncodedExamples.

    Args:
      examples: list of Example.
      task: a tasks.Task.
      tokenizer: a tokenization.FullTokenizer.
      max_seq_length: int, see `encode_texts`.

    Raises:
      KeyError: the vocabulary lacks one of BERT's own tokens.
    """
    ids, lengths, lengths_a = [], [], []
    # The bar comes after a second: what is encoded within one batch shows none.
    for example in tqdm(examples, "encoding", leave=False, unit="pair", delay=1, disable=None):
        tokens_a = tokenizer.tokenize(example.text_a)
        tokens_b = None if example.text_b is None else tokenizer.tokenize(example.text_b)
        tokens, length_a = encode_texts(tokens_a, tokens_b, max_seq_length)
        ids.extend(tokenizer.convert_tokens_to_ids(tokens))
        lengths.append(len(tokens))
        lengths_a.append(length_a)
    return EncodedExamples(ids, lengths, lengths_a, encode_labels(examples, task))


def encode_labels(examples, task):
    """Returns the labels of Examples as the graph takes them.

    Returns:
      int32 [rows], the places in the task's labels, -1 where the label is not known; for
      regression float32 [rows], NaN where it is not.
    """
    if task.is_regression:
        values = [example.label or np.nan for example in examples]
        return np.array(values, np.float32)
    places = {label: place for place, label in enumerate(task.labels)}
    return np.array([places.get(example.label, -1) for example in examples], np.int32)


class EncodedExamples(object):
    """Examples as token ids, one after the other in one array.

    Attributes:
      ids: int32 [tokens of all rows].
      lengths: int64 [rows], the tokens of each row.
      lengths_a: int64 [rows], how many of them are of the first segment.
      labels: int32 or float32 [rows], as from `encode_labels`.
    """

    def __init__(self, ids, lengths, lengths_a, labels):
        self.ids = np.array(ids, np.int32)
        self.lengths = np.array(lengths, np.int64)
        self.lengths_a = np.array(lengths_a, np.int64)
        self.labels = np.asarray(labels)
        self._starts = np.cumsum(self.lengths) - self.lengths

    def __len__(self):
        return len(self.lengths)

    def batch(self, planned):
        """Returns the padded arrays of a PlannedBatch, by name.

        Returns:
          dict: input_ids, input_mask and segment_ids, each int32 [B, T].
        """
        lengths = self.lengths[planned.rows, np.newaxis]
        columns = np.arange(planned.length)[np.newaxis, :]
        is_token = columns < lengths
        places = np.where(is_token, self._starts[planned.rows, np.newaxis] + columns, 0)
        is_second = is_token & (columns >= self.lengths_a[planned.rows, np.newaxis])
        return {
            "input_ids": np.where(is_token, self.ids[places], 0).astype(np.int32),
            "input_mask": is_token.astype(np.int32),
            "segment_ids": is_second.astype(np.int32),
        }


def through_cache(path, encode):
    """Returns the EncodedExamples that a file keeps, or else those of `encode`, then kept.

    A file that cannot be read or written is done without.

    Args:
      path: str, named after the content of what is encoded.
      encode: function without arguments that returns EncodedExamples.
    """
    names = ("ids", "lengths", "lengths_a", "labels")
    try:
        with np.load(path) as arrays:
            return EncodedExamples(*[arrays[name] for name in names])
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
        encoded = encode()
    temporary = "%s.%d.npz" % (path, os.getpid())
    with contextlib.suppress(OSError):
        os.makedirs(os.path.dirname(path), exist_ok=True)
        np.savez(temporary, **{name: getattr(encoded, name) for name in names})
        os.replace(temporary, path)
    return encoded


# --- The plan of batches ---


def cut_into_pools(examples, batch_size):
    """Yields lists of `BATCHES_PER_POOL` batches of Examples, in their order.

    So a file of any length is encoded, and grouped by length, in bounded memory.

    Args:
      examples: iterable of Example.
      batch_size: int.
    """
    examples = iter(examples)
    while True:
        pool = list(itertools.islice(examples, BATCHES_PER_POOL * batch_size))
        if not pool:
            return
        yield pool


def plan_epoch(lengths, batch_size, seed, epoch, padded_length=None):
    """Plans an epoch of training: each row once, rows of like length together.

    The rows are shuffled and cut into pools of `BATCHES_PER_POOL` batches; each pool is
    sorted by length and cut into batches; the batches are shuffled.

    Args:
      lengths: int64 [rows], the tokens of each row.
      batch_size: int.
      seed: int in [0, 2**31).
      epoch: int, from 0.
      padded_length: int, the length of each batch; None: that of its longest row.

    Returns:
      List of ceil(rows / batch_size) PlannedBatch; one of them may be smaller.
    """
    random = np.random.RandomState([seed, epoch])
    shuffled = random.permutation(len(lengths))
    pool_size = BATCHES_PER_POOL * batch_size
    batches = []
    for first in range(0, len(lengths), pool_size):
        pool = shuffled[first : first + pool_size]
        batches += _cut(pool[np.argsort(lengths[pool], kind="stable")], batch_size)
    order = random.permutation(len(batches))
    return [_planned(batches[place], lengths, padded_length) for place in order]


def cut_batch(planned, count, lengths, padded_length=None):
    """Cuts a batch into micro-batches of about equal size, each padded by itself.

    Args:
      planned: a PlannedBatch.
      count: int, the micro-batches; as many as there are rows where these are fewer.
      lengths, padded_length: see `plan_epoch`.

    Returns:
      List of PlannedBatch.
    """
    parts = np.array_split(planned.rows, min(count, len(planned.rows)))
    return [_planned(rows, lengths, padded_length) for rows in parts]


def plan_in_length_order(lengths, batch_size, padded_length=None):
    """Plans one pass for evaluation: each row once, from the shortest to the longest.

    Args and Returns as for `plan_epoch`; the last batch may be smaller.
    """
    batches = _cut(np.argsort(lengths, kind="stable"), batch_size)
    return [_planned(rows, lengths, padded_length) for rows in batches]


def _cut(rows, batch_size):
    return [rows[first : first + batch_size] for first in range(0, len(rows), batch_size)]


def _planned(rows, lengths, padded_length):
    return PlannedBatch(rows, padded_length or int(lengths[rows].max()))
