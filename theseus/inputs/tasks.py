"""The tasks: how their files are laid out, which labels they have, what they are measured by.

A task is an entry of `TASKS`. GLUE's are those of gluebenchmark.com, in the files that are
given out there: https://gluebenchmark.com/tasks, whose table of metrics is the source of
`metrics`.
"""

from __future__ import annotations

import dataclasses
import decimal
import functools
import itertools
import re
import unicodedata
from typing import Any, Iterable, Mapping, NamedTuple, Sequence, Tuple, Union

from theseus.errors import UserError

Column = Union[Tuple[str, ...], int]
"""What a column is known by: the names that it may bear in a header, or its index from 0."""


class Columns(NamedTuple):
    """The indices, from 0, of the columns that count; None: there is none."""

    text_a: int
    text_b: int | None
    label: int | None

    def texts(self) -> list[int]:
        """Returns the indices of the texts, one or two."""
        return [index for index in (self.text_a, self.text_b) if index is not None]


class Header(NamedTuple):
    """What the columns that count are known by; None: there is none."""

    text_a: Column
    text_b: Column | None
    label: Column | None


class NamedColumns(NamedTuple):
    """What a user says of the columns that count: a name in the header, or a number from 1."""

    text_a: str | None
    text_b: str | None
    label: str | None


@dataclasses.dataclass(frozen=True)
class Task:
    """A task over single texts or pairs of them.

    Attributes:
      name: str.
      labels: tuple of str, in the order of their ids; empty where the label is a number, for
        regression; None where the training data tell, see inferred_task.infer_task.
      header: what the columns are known by; names as `clean_name` gives them, the one that is
        preferred first. `text_b` is None where there is one text.
      indices: those of files without a header; None: they must have one.
      metrics: tuple of str, keys of what metrics.compute returns. Their mean is the score
        that the best checkpoint is chosen by.
      dev_files, test_files: tuples of str, names of files without their endings. The first
        dev file is that which the best checkpoint is chosen on.
      takes_ids: bool, whether the data may have a label's id, such as 0, in place of its name.
    """

    name: str
    labels: tuple[str, ...] | None
    header: Header
    indices: Columns | None = None
    metrics: tuple[str, ...] = ("accuracy",)
    dev_files: tuple[str, ...] = ("dev",)
    test_files: tuple[str, ...] = ("test",)
    takes_ids: bool = False
    _label_ids: dict[str, int] = dataclasses.field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        # Once, since there may be many, and each example asks for one.
        ids = {label: number for number, label in enumerate(self.labels or ())}
        if self.takes_ids:
            ids.update({str(number): number for number in ids.values()})
        object.__setattr__(self, "_label_ids", ids)

    @property
    def known_labels(self) -> tuple[str, ...]:
        """`labels`, of a task whose training data were looked at where they tell."""
        if self.labels is None:
            raise ValueError("the labels of %s are not known yet" % self.name)
        return self.labels

    @property
    def label_ids(self) -> dict[str, int]:
        """Dict from each of the `known_labels`, and from its id if `takes_ids`, to its id."""
        return self._label_ids if self.known_labels else {}

    @property
    def is_regression(self) -> bool:
        """Whether the label is a number, not one of `labels`."""
        return self.labels == ()

    @property
    def num_outputs(self) -> int:
        """The size of the classifier's output, an int: a logit a label, or the number itself."""
        return len(self.known_labels) or 1

    @property
    def num_texts(self) -> int:
        """1 or 2."""
        return 1 if self.header.text_b is None else 2

    @property
    def takes_columns(self) -> bool:
        """Whether flags may name its columns."""
        return self.name in ("custom", "custom_number")

    def has_labels_of(self, other: Task) -> bool:
        """Returns whether another Task has the same labels, or their ids, in the same order."""
        pairs = [(self.label_ids, other.known_labels), (other.label_ids, self.known_labels)]
        return any(
            [ids.get(label) for label in labels] == sorted(set(ids.values()))
            for ids, labels in pairs
        )

    def record(self) -> dict[str, Any]:
        """Returns what `recorded` needs beside the name, as JSON; null for what the name says."""
        has_own = self.takes_columns or self.takes_ids
        values: dict[str, Any] = {"labels": (has_own and list(self.known_labels)) or None}
        values["num_texts"] = self.num_texts if self.takes_columns else None
        return dict(values, takes_ids=True) if self.takes_ids else values

    def column_names(self, with_label: bool) -> list[str]:
        """Returns what a message calls the columns, a list of str."""
        return [
            found[0] if isinstance(found, tuple) and len(found) == 1 else column
            for column, found in self.header._asdict().items()
            if found is not None and (with_label or column != "label")
        ]

    @property
    def score_name(self) -> str:
        """What the score is called in a table, str."""
        return "/".join(self.metrics)

    def files(self, split: str) -> tuple[str, ...]:
        """Returns the names of a split's files: "train", "dev" or "test"."""
        return {"train": ("train",), "dev": self.dev_files, "test": self.test_files}[split]


def _names(text: str) -> tuple[str, ...]:
    """Returns the names that a str holds, separated by |, in their order."""
    return tuple(text.split("|"))


def _columns(text_a: str, text_b: str | None, label: str) -> Header:
    """Returns a Header of the names that strings hold, see `_names`."""
    return Header(_names(text_a), None if text_b is None else _names(text_b), _names(label))


# Usual names, for data of a user's own.
_TEXT_A = _names(
    "text_a|text1|text_1|sentence1|sentence_1|sentence_a|question1|question_1|question_a|s1|q1|"
    "premise|query|句子1|句子一|问题1|问题一|前提"
)
_TEXT_B = _names(
    "text_b|text2|text_2|sentence2|sentence_2|sentence_b|question2|question_2|question_b|s2|q2|"
    "hypothesis|title|句子2|句子二|问题2|问题二|假设"
)
_OF_ONE = _names("text|sentence|review|content|文本|句子|评论")
USUAL_LABEL_NAMES = _names("label|labels|标签|gold_label|is_duplicate|similarity|score")
_USUAL = Header(_TEXT_A, _TEXT_B, USUAL_LABEL_NAMES)
FIRST_OF_TWO, SECOND_OF_TWO = _TEXT_A, _TEXT_B
"""By which the texts of a pair are known."""
USUAL_NAMES = _USUAL._replace(text_a=_TEXT_A + _OF_ONE)
"""By which a header is known where the columns' indices are."""

_SENTENCES = _columns("sentence1", "sentence2", "label")
_ENTAILMENT = ("entailment", "not_entailment")

_TASKS = [
    Task("lcqmc_pair", labels=("0", "1"), header=_USUAL, indices=Columns(0, 1, 2)),
    # Columns and labels from a file's header and content, or from flags.
    Task("custom", labels=None, header=USUAL_NAMES),
    Task("custom_number", labels=(), header=USUAL_NAMES, metrics=("pearson", "spearman")),
    Task(
        "cola",
        labels=("0", "1"),
        header=_columns("sentence", None, "label"),
        indices=Columns(3, None, 1),
        metrics=("matthews",),
    ),
    Task("sst-2", labels=("0", "1"), header=_columns("sentence", None, "label")),
    Task(
        "mrpc",
        labels=("0", "1"),
        header=_columns("#1 string", "#2 string", "quality"),
        metrics=("f1", "accuracy"),
    ),
    Task(
        "sts-b",
        labels=(),
        header=_columns("sentence1", "sentence2", "score"),
        metrics=("pearson", "spearman"),
    ),
    Task(
        "qqp",
        labels=("0", "1"),
        header=_columns("question1", "question2", "is_duplicate"),
        metrics=("f1", "accuracy"),
    ),
    Task(
        "mnli",
        labels=("entailment", "neutral", "contradiction"),
        header=_columns("sentence1", "sentence2", "gold_label"),
        dev_files=("dev_matched", "dev_mismatched"),
        test_files=("test_matched", "test_mismatched"),
    ),
    Task("qnli", labels=_ENTAILMENT, header=_columns("question", "sentence", "label")),
    Task("rte", labels=_ENTAILMENT, header=_SENTENCES),
    Task("wnli", labels=("0", "1"), header=_SENTENCES),
]
TASKS = {task.name: task for task in _TASKS}
ALIASES = {"tsv": "custom", "tsv_number": "custom_number"}
"""Earlier names of tasks, which commands may go on to use."""


def of_flags(name: str, columns: NamedColumns, labels: Sequence[str]) -> Task:
    """Returns the Task of a name with the columns and the labels that a user names.

    Raises:
      UserError: no file can have them.
    """
    return with_labels(with_columns(TASKS[name], columns), labels)


def with_columns(task: Task, columns: NamedColumns) -> Task:
    """Returns `task` with the columns that a user names.

    Args:
      task: a Task.
      columns: NamedColumns; None: as in `task`, but with a text_a and no text_b there is one text.
        Where each text has a number, files need no header.
    """
    chosen: dict[str, Column] = {}
    for column, text in columns._asdict().items():
        if text is not None and re.match("0*$", text):
            raise UserError("--%s_column: columns are numbered from 1" % column)
        if text:  # isdigit() knows digits of other scripts, which int() does not all take.
            is_number = re.match("[0-9]{1,9}$", text)
            chosen[column] = int(text) - 1 if is_number else (clean_name(text),)
    if columns.text_a and not columns.text_b:
        task = of_one_text(task)
    header = task.header._replace(**chosen)
    text_a, text_b, label = header
    if isinstance(text_a, tuple) or isinstance(text_b, tuple):
        return dataclasses.replace(task, header=header)
    # A label without a number cannot be found there: such a file holds texts alone.
    indices = Columns(text_a, text_b, None if isinstance(label, tuple) else label)
    return dataclasses.replace(task, header=header, indices=indices)


def with_labels(task: Task, labels: Sequence[str]) -> Task:
    """Returns `task` with the labels that a user gives; none: as they are in `task`."""
    cleaned = tuple(map(clean_label, labels))
    if cleaned and (len(set(cleaned)) < max(2, len(cleaned)) or "" in cleaned):
        raise UserError(
            "--labels: expected two or more different labels, found %s" % ",".join(labels)
        )
    return dataclasses.replace(task, labels=cleaned) if cleaned else task


METRICS_OF_NUMBERS = ("pearson", "spearman")
METRICS = ("accuracy", "f1", "auc", "matthews", *METRICS_OF_NUMBERS)
"""What a --metric can be: see inference.metrics.compute."""


def of_one_text(task: Task) -> Task:
    """Returns `task` without a second text."""
    indices = task.indices and task.indices._replace(text_b=None)
    return dataclasses.replace(task, header=task.header._replace(text_b=None), indices=indices)


def recorded(run_config: Mapping[str, Any], task: Task | None = None) -> Task:
    """Returns the Task of a run config, or of an export's, a dict.

    Args:
      run_config: dict; its `labels` and `num_texts` are those of the training data where the
        task leaves them open; its `metric`, if there is one, is what the best was chosen by.
      task: the Task with what flags say of it; None: as in `TASKS`, with the run's columns.
    """
    if task is None:
        task = TASKS[run_config["task_name"]]
        if task.takes_columns and run_config.get("columns"):
            task = with_columns(task, NamedColumns(*run_config["columns"]))
    labels, takes_ids = tuple(run_config.get("labels") or ()), run_config.get("takes_ids") is True
    if task.labels is None and not labels:
        raise UserError("the record of a run of task %s holds no labels" % task.name)
    if task.labels is None or (takes_ids and task.labels in (labels, ids(len(labels)))):
        task = dataclasses.replace(task, labels=labels, takes_ids=takes_ids)
    if task.takes_columns and run_config.get("num_texts") == 1:
        task = of_one_text(task)
    if run_config.get("metric"):
        task = dataclasses.replace(task, metrics=(run_config["metric"],))
    return task


# --- Names and labels as they are written ---

# Letters and symbols by their category, but nothing is to be seen of them.
_BLANKS = "\u115f\u1160\u2800\u3164\uffa0"
# They join letters, and are part of how a word is spelt.
_JOINERS = "\u200c\u200d"
_NUMBER = re.compile(r"[-+]?[0-9]+(\.[0-9]+)?$")


def _is_invisible(character: str) -> bool:
    return character in _BLANKS or unicodedata.category(character) in ("Cc", "Cf", "Zs", "Zl", "Zp")


def is_blank(text: str | None) -> bool:
    """Returns whether nothing is to be seen of a str, or there is none."""
    return not text or all(map(_is_invisible, text))


@functools.lru_cache(maxsize=4096)
def clean_label(text: str) -> str:
    """Returns a label, str, without what is not to be seen of it.

    At its ends: spaces of all kinds, control and format characters. Within it: format
    characters, such as a byte-order mark, but for those that join letters.
    """
    shown = [c for c in text if unicodedata.category(c) != "Cf" or c in _JOINERS]
    for _ in range(2):  # From either end.
        shown = list(itertools.dropwhile(_is_invisible, shown))[::-1]
    return "".join(shown)


def clean_name(text: str) -> str:
    """Returns a column's name, str: as `clean_label`, without quotation marks, in lower case."""
    return clean_label(clean_label(text).strip("\"'“”")).lower()


def ids(count: int) -> tuple[str, ...]:
    """Returns the ids of so many labels as they are written, a tuple of str."""
    return tuple(map(str, range(count)))


def is_number(text: str) -> bool:
    """Returns whether a str is a number as people write it, a bool."""
    return _NUMBER.match(text) is not None


def in_order(labels: Iterable[str]) -> tuple[str, ...]:
    """Returns labels, an iterable of str, as a tuple in their order: one and the same always.

    Where all are numbers it is the order of these, equal ones (1, 01) by their spelling.
    """
    ordered = sorted(labels)
    if all(map(is_number, ordered)):
        ordered.sort(key=decimal.Decimal)
    return tuple(ordered)
