"""Prints statistics and problems of a task's files before the first training.

    python scripts/check_data.py [--data_dir=data/sample] [--task_name=lcqmc_pair] [...]

The table has a column for each existing file (train, dev, test). Its rows are the number of
examples and the share of each label; lengths in tokens, and the number of examples longer than
--max_seq_length; the share of [UNK]; examples that occur twice, and those of them with another
label; examples and single texts that occur in train. The first duplicates, contradictions and
overlaps with train are listed. The flags are those of run_classifier.py. It needs about 200 bytes
of memory for each example of train.
"""

import collections
import sys

import numpy as np
from absl import app, flags

from theseus.errors import UserError
from theseus.quiet import quiet_tensorflow

with quiet_tensorflow():
    from theseus.checkpoints import pretrained
    from theseus.config import rules
    from theseus.inputs import batches, encoding, inferred_task, reading, rows, sources, tasks
    from theseus.session import set_up_tensorflow

FLAGS = flags.FLAGS

_POOL = 10000
_UNCUT = 1 << 20  # More tokens than any example has.

# The words for each kind of finding, and for the other example.
_KINDS = collections.OrderedDict(
    again="occur twice",
    contradicting="  with another label",
    in_train="occur in train",
    contradicting_train="  with another label",
    text_in_train="have a text that occurs in train",
)

_Seen = collections.namedtuple("_Seen", "label row")
"""The label and the row of the first example with certain texts."""


class Split(object):
    """The findings about one file.

    Attributes:
      name: str, "train", "dev" or "test"; path: str.
      labels: Counter of the labels; None counts unknown ones.
      lengths: list of int, the length of each example in tokens, before truncation.
      unknown, tokens: int, the number of [UNK], and of all tokens except BERT's own.
      counts: Counter of the kinds of `_KINDS`.
      found: dict from a kind to the first (row, the other's row or None, texts).
      seen: dict from the hash of an example's texts to its _Seen.
      texts: set of the hashes of all single texts.
    """

    def __init__(self, name, path):
        """Begins without findings."""
        self.name, self.path = name, path
        self.labels, self.counts = collections.Counter(), collections.Counter()
        self.lengths, self.unknown, self.tokens = [], 0, 0
        self.found = collections.defaultdict(list)
        self.seen, self.texts = {}, set()

    def add(self, examples, task, tokenizer, train):
        """Adds some examples; `train` is the Split to compare them with, or None."""
        arrays = encoding.encode_arrays(examples, task, tokenizer, _UNCUT)
        own = len(examples) * (2 if examples[0].text_b is None else 3)
        self.lengths += arrays["lengths"].tolist()
        self.unknown += int((arrays["ids"] == tokenizer.vocab["[UNK]"]).sum())
        self.tokens += len(arrays["ids"]) - own
        for example in examples:
            self._add(example, train)

    def _add(self, example, train):
        texts = [text for text in (example.text_a, example.text_b) if text is not None]
        key, label = hash(tuple(texts)), example.label or None
        self.labels[label] += 1
        self._compare(example, self.seen.get(key), "again", "contradicting")
        self.seen.setdefault(key, _Seen(label, example.row))
        if train is None:
            self.texts.update(map(hash, texts))
            return
        in_train = train.seen.get(key)
        self._compare(example, in_train, "in_train", "contradicting_train")
        if not in_train and any(hash(text) in train.texts for text in texts):
            self._count("text_in_train", example, None)

    def _compare(self, example, seen, kind, contradicting):
        if seen:
            self._count(kind, example, seen.row)
            if seen.label and example.label and seen.label != example.label:
                self._count(contradicting, example, seen.row)

    def _count(self, kind, example, other):
        self.counts[kind] += 1
        if len(self.found[kind]) < FLAGS.show:
            texts = [text for text in (example.text_a, example.text_b) if text is not None]
            self.found[kind].append((example.row, other, texts))


def find_task(form):
    """Returns the Task of the flags, completed from train."""
    columns = tasks.NamedColumns(FLAGS.text_a_column, FLAGS.text_b_column, FLAGS.label_column)
    task = tasks.of_flags(FLAGS.task_name, columns, FLAGS.labels)
    if not task.takes_columns:
        return task
    train = sources.find_files(FLAGS.data_dir, task, "train")[0]
    return inferred_task.infer_task(task, train, form)


def read_splits():
    """Returns (Task, list of Split) of the existing files; UserError if there is no train."""
    FLAGS.task_name = tasks.ALIASES.get(FLAGS.task_name, FLAGS.task_name)
    rules.check_files(FLAGS)
    form = sources.options_of(FLAGS)
    task = find_task(form)
    folder = pretrained.local_folder(FLAGS.bert_pretrained_model, needs_weights=False)
    model = pretrained.read_model(folder, FLAGS.max_seq_length)
    settings, _, _ = pretrained.find_tokenizer(folder, FLAGS.do_lower_case)
    tokenizer = pretrained.make_tokenizer(model, settings)
    splits = []
    for name in ("train", "dev", "test"):
        if name != "train" and not sources.has_split(FLAGS.data_dir, task, name):
            continue
        path = sources.find_files(FLAGS.data_dir, task, name)[0]
        split = Split(name, path)
        examples = reading.iterate_examples(path, task, name != "test", form)
        for pool in batches.cut_into_pools(examples, _POOL):
            split.add(pool, task, tokenizer, splits[0] if splits else None)
        splits.append(split)
    return task, splits


def rows_of(task, splits):
    """Yields the rows of the table, (title, a cell for each Split)."""
    yield "examples", ["%d" % len(split.lengths) for split in splits]
    if not task.is_regression:
        for label in task.known_labels:
            yield "label %s" % label, [_share(s.labels[label], len(s.lengths)) for s in splits]
        if any(split.labels[None] for split in splits):
            yield "no label", [_share(s.labels[None], len(s.lengths)) for s in splits]
    for name, share in (("median", 50), ("95 %", 95), ("longest", 100)):
        yield "tokens, " + name, ["%d" % np.percentile(s.lengths, share) for s in splits]
    longer = [(np.array(split.lengths) > FLAGS.max_seq_length).sum() for split in splits]
    name = "longer than --max_seq_length=%d" % FLAGS.max_seq_length
    yield name, ["%d" % count for count in longer]
    yield "[UNK]", [_share(split.unknown, split.tokens, 3) for split in splits]
    for kind, name in _KINDS.items():
        if kind == "text_in_train" and task.num_texts == 1:
            continue
        cells = ["%d" % split.counts[kind] for split in splits]
        yield name, ["-"] + cells[1:] if kind.endswith("train") else cells


def _share(count, total, digits=1):
    return "%.*f%%" % (digits, 100 * count / total) if total else "-"


def format_table(task, splits):
    """Returns the table, str."""
    rows = [("", [split.name for split in splits])] + list(rows_of(task, splits))
    width = max(len(name) for name, _ in rows)
    return "\n".join(
        "%-*s" % (width, name) + "".join("%12s" % cell for cell in cells) for name, cells in rows
    )


def describe_found(splits):
    """Yields a line for each of the first findings; rows count from 1, without a header."""
    for split in splits:
        for kind in ("contradicting", "again", "contradicting_train", "in_train"):
            place = splits[0].name if kind.endswith("train") else split.name
            for row, other, texts in split.found[kind]:
                what = (
                    "same texts, another label than"
                    if kind.startswith("contra")
                    else "same texts as"
                )
                shown = " | ".join(" ".join(text.split()) for text in texts)
                yield "%s, example %d: %s %s, example %d: %s" % (
                    (split.name, row + 1, what, place, other + 1, shown)
                )


def main(argv):
    """Prints the table, then the first findings."""
    set_up_tensorflow()
    try:
        if len(argv) > 1:
            raise UserError("%r is not a flag; flags begin with --, see --help" % argv[1])
        task, splits = read_splits()
    except UserError as error:
        sys.exit("check_data.py: %s" % error)
    print(format_table(task, splits))
    for line in describe_found(splits):
        print(line)


if __name__ == "__main__":
    flags.DEFINE_string(
        "data_dir", "data/sample", "Folder with train, and with dev and test if there are any."
    )
    flags.DEFINE_enum(
        "task_name", "lcqmc_pair", [*tasks.TASKS, *tasks.ALIASES], "Task, as for training."
    )
    flags.DEFINE_string(
        "bert_pretrained_model", "data/tiny_bert", "BERT whose vocabulary is used, as for training."
    )
    flags.DEFINE_integer("max_seq_length", 128, "As for training.", lower_bound=5)
    flags.DEFINE_bool("do_lower_case", None, "As for training.")
    flags.DEFINE_enum("header", "auto", ["auto", "yes", "no"], "As for training.")
    flags.DEFINE_string("encoding", None, "As for training.")
    flags.DEFINE_bool("skip_bad_lines", False, "As for training.")
    flags.DEFINE_enum("format", "auto", ["auto"] + list(rows.FORMATS), "As for training.")
    flags.DEFINE_string("delimiter", None, "As for training.")
    flags.DEFINE_string("text_a_column", None, "As for training.")
    flags.DEFINE_string("text_b_column", None, "As for training.")
    flags.DEFINE_string("label_column", None, "As for training.")
    flags.DEFINE_list("labels", [], "As for training.")
    flags.DEFINE_integer("show", 3, "Number of findings of each kind to list.", lower_bound=0)
    app.run(main)
