"""From a file of sentence pairs to padded batches.

file -> examples -> token ids -> planned batches (row numbers and a padded length) ->
arrays. A plan depends on the lengths, the seed and the epoch alone, so any step of a
run is reached without replaying the ones before it.
"""

import collections
import contextlib
import io
import itertools
import os
import zipfile

import numpy as np
from tqdm import tqdm

from errors import UserError

Example = collections.namedtuple("Example", "text_a text_b label")
"""A pair of texts (str) and its label (str, or None where it is not known)."""

Task = collections.namedtuple("Task", "name labels")
"""A classification task over sentence pairs: its name and its labels, in the order of ids."""

PlannedBatch = collections.namedtuple("PlannedBatch", "rows length")
"""A batch: int64 [B] row numbers, and the int T to which each row is padded."""

TASKS = {task.name: task for task in [Task("lcqmc_pair", labels=("0", "1"))]}

# Pools are sorted by length inside. The larger, the less padding; the smaller, the
# nearer to a plain shuffle.
BATCHES_PER_POOL = 50

_TEXT_COLUMNS = {"text_a", "text_b", "text1", "text2", "sentence1", "sentence2"}
_TEXT_COLUMNS |= {"question1", "question2", "s1", "s2", "q1", "q2", "query", "title"}
_TEXT_COLUMNS |= {"句子1", "句子2", "句子一", "句子二", "问题1", "问题2", "问题一", "问题二"}
_LABEL_COLUMNS = {"label", "labels", "gold_label", "score", "similarity", "is_duplicate", "标签"}


# --- Files and examples ---


def find_split(data_dir, split):
    """Returns the path of a split: `data_dir`/`split` with the ending .txt or .tsv.

    Raises:
      UserError: there is none, or both.
    """
    candidates = [os.path.join(data_dir, split + ending) for ending in (".txt", ".tsv")]
    found = [path for path in candidates if os.path.isfile(path)]
    if len(found) != 1:
        problem = "both exist; keep one" if found else "neither exists; see --data_dir"
        raise UserError("%s, %s: %s" % (candidates[0], candidates[1], problem))
    return found[0]


def read_examples(path, task, labels_required=True):
    """Returns the list of Examples that `iterate_examples` yields."""
    return list(iterate_examples(path, task, labels_required))


def iterate_examples(path, task, labels_required=True):
    """Reads tab-separated lines `text_a text_b label`, UTF-8, one after the other.

    A byte-order mark, CRLF line ends, empty lines and a header are understood. The
    first line is a header if its third column, or without one its first two, bear a
    usual name for a column: `_LABEL_COLUMNS`, `_TEXT_COLUMNS`.

    Args:
      path: the file.
      task: a Task.
      labels_required: whether each line must have a label; if not, a file has it in all
        lines or in none.

    Yields:
      Example, in the order of the file.

    Raises:
      UserError: names the file, the line, what was expected and what was found.
    """
    rows = _rows(path)
    first = next(rows, None)
    if first and _is_header(first[1]):
        first = next(rows, None)
    if not first:
        raise UserError("%s: holds no example" % path)
    columns = 3 if labels_required else len(first[1])
    for number, row in itertools.chain([first], rows):
        yield _example(path, number, row, columns, task)


def _rows(path):
    """Yields (line's number, list of its columns) of each line that is not empty."""
    try:
        with io.open(path, encoding="utf-8-sig", newline="\n") as reader:
            for number, line in enumerate(reader, start=1):
                line = line.rstrip("\r\n")
                if line:
                    yield number, line.split("\t")
    except OSError as error:
        raise UserError("%s: cannot be read: %s" % (path, error.strerror))
    except UnicodeDecodeError as error:
        raise UserError("%s: cannot be read as UTF-8 text: %s" % (path, error))


def _is_header(row):
    names = [column.strip().lower() for column in row]
    if len(names) == 3:
        return names[2] in _LABEL_COLUMNS
    return len(names) == 2 and _TEXT_COLUMNS.issuperset(names)


def _example(path, number, row, columns, task):
    if len(row) != columns or columns not in (2, 3):
        raise UserError(
            "%s, line %d: expected %s, separated by tabs; found %d column%s"
            % (
                path,
                number,
                "text_a, text_b" + (", label" if columns == 3 else ""),
                len(row),
                "s" if len(row) != 1 else "",
            )
        )
    if columns == 2:
        return Example(row[0], row[1], None)
    if row[2] not in task.labels:
        raise UserError(
            "%s, line %d: expected a label of %s; found %r"
            % (path, number, ", ".join(task.labels), row[2])
        )
    return Example(*row)


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


def sample_examples(examples, count):
    """Returns `count` random examples in the order of the file, always the same ones.

    A smaller sample is part of a larger one. None, or more than there are: all.
    """
    if count is None or count >= len(examples):
        return examples
    rows = np.random.RandomState(0).permutation(len(examples))[:count]
    return [examples[row] for row in sorted(rows)]


# --- Token ids ---


def encode_pair(tokens_a, tokens_b, max_seq_length):
    """Puts two texts into BERT's form: [CLS] a [SEP] b [SEP].

    Source: google-research/bert, run_classifier.convert_single_example and
    _truncate_seq_pair: the longer text loses its last tokens, b where they are equal.

    Args:
      tokens_a, tokens_b: lists of str.
      max_seq_length: int, at least 3.

    Returns:
      (tokens, length_a): the list of str, and how many of them are of the first segment.
    """
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
      task: a Task.
      tokenizer: a tokenization.FullTokenizer.
      max_seq_length: int, see `encode_pair`.

    Raises:
      KeyError: the vocabulary lacks one of BERT's own tokens.
    """
    ids, lengths, lengths_a = [], [], []
    # The bar comes after a second: what is encoded within one batch shows none.
    for example in tqdm(examples, "encoding", leave=False, unit="pair", delay=1, disable=None):
        tokens_a = tokenizer.tokenize(example.text_a)
        tokens_b = tokenizer.tokenize(example.text_b)
        tokens, length_a = encode_pair(tokens_a, tokens_b, max_seq_length)
        ids.extend(tokenizer.convert_tokens_to_ids(tokens))
        lengths.append(len(tokens))
        lengths_a.append(length_a)
    label_ids = {label: index for index, label in enumerate(task.labels)}
    label_ids = [label_ids.get(example.label, -1) for example in examples]
    return EncodedExamples(ids, lengths, lengths_a, label_ids)


class EncodedExamples(object):
    """Examples as token ids, one after the other in one array.

    Attributes:
      ids: int32 [tokens of all rows].
      lengths: int64 [rows], the tokens of each row.
      lengths_a: int64 [rows], how many of them are of the first segment.
      label_ids: int32 [rows]; -1 where the label is not known.
    """

    def __init__(self, ids, lengths, lengths_a, label_ids):
        self.ids = np.array(ids, np.int32)
        self.lengths = np.array(lengths, np.int64)
        self.lengths_a = np.array(lengths_a, np.int64)
        self.label_ids = np.array(label_ids, np.int32)
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
    names = ("ids", "lengths", "lengths_a", "label_ids")
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
