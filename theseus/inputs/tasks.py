"""The tasks: the layout of their files, their labels and their metrics.

A task is an entry of `TASKS`. GLUE's tasks are those of gluebenchmark.com, with the files that can
be downloaded there; the table of metrics at https://gluebenchmark.com/tasks is the source of
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
"""How a column is found: by the names that it may have in a header, or by its index from 0."""


class Columns(NamedTuple):
    """The indices, from 0, of the task's columns; None if there is no such column."""

    text_a: int
    text_b: int | None
    label: int | None

    def texts(self) -> list[int]:
        """Returns the indices of the texts, one or two."""
        return [index for index in (self.text_a, self.text_b) if index is not None]


class Header(NamedTuple):
    """How the task's columns are found; None if there is no such column."""

    text_a: Column
    text_b: Column | None
    label: Column | None


class NamedColumns(NamedTuple):
    """The user's names of the task's columns: a name in the header, or a number from 1."""

    text_a: str | None
    text_b: str | None
    label: str | None


@dataclasses.dataclass(frozen=True)
class Task:
    """A task over single texts or pairs of them.

    Attributes:
      name: str.
      labels: tuple of str, in the order of their ids; empty for regression, where the label is a
        number; None if the training data determine them, see inferred_task.infer_task.
      header: how the columns are found; names as from `clean_name`, the preferred one first.
        `text_b` is None for single texts.
      indices: the columns of files without a header; None: files must have one.
      metrics: tuple of str, keys of the result of metrics.compute. Their mean is the score that
        selects the best checkpoint.
      dev_files, test_files: tuples of str, names of files without their endings. The first dev
        file selects the best checkpoint.
      takes_ids: bool, whether the data may have a label's id, such as 0, instead of its name.
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
        # Computed once, since there may be many labels, and each example needs one.
        ids = {label: number for number, label in enumerate(self.labels or ())}
        if self.takes_ids:
            ids.update({str(number): number for number in ids.values()})
        object.__setattr__(self, "_label_ids", ids)

    @property
    def known_labels(self) -> tuple[str, ...]:
        """`labels`; the task must be complete, with the labels of the training data."""
        if self.labels is None:
            raise ValueError("the labels of %s are not known yet" % self.name)
        return self.labels

    @property
    def label_ids(self) -> dict[str, int]:
        """Dict from each of the `known_labels`, and from its id if `takes_ids`, to its id."""
        return self._label_ids if self.known_labels else {}

    @property
    def is_regression(self) -> bool:
        """Whether the label is a number instead of one of `labels`."""
        return self.labels == ()

    @property
    def num_outputs(self) -> int:
        """The size of the classifier's output, an int: a logit for each label, or the number."""
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
        """Returns what `recorded` needs besides the name, as JSON; null for the name's defaults."""
        has_own = self.takes_columns or self.takes_ids
        values: dict[str, Any] = {"labels": (has_own and list(self.known_labels)) or None}
        values["num_texts"] = self.num_texts if self.takes_columns else None
        return dict(values, takes_ids=True) if self.takes_ids else values

    def column_names(self, with_label: bool) -> list[str]:
        """Returns the names of the columns in messages, a list of str."""
        return [
            found[0] if isinstance(found, tuple) and len(found) == 1 else column
            for column, found in self.header._asdict().items()
            if found is not None and (with_label or column != "label")
        ]

    @property
    def score_name(self) -> str:
        """The name of the score in a table, str."""
        return "/".join(self.metrics)

    def files(self, split: str) -> tuple[str, ...]:
        """Returns the names of a split's files: "train", "dev" or "test"."""
        return {"train": ("train",), "dev": self.dev_files, "test": self.test_files}[split]


def _names(text: str) -> tuple[str, ...]:
    """Returns the names in a str that are separated by |, in their order."""
    return tuple(text.split("|"))


def _columns(text_a: str, text_b: str | None, label: str) -> Header:
    """Returns the Header whose names are in the strings, see `_names`."""
    return Header(_names(text_a), None if text_b is None else _names(text_b), _names(label))


# Usual names of columns in users' own data.
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
"""Names that identify the two texts of a pair."""
USUAL_NAMES = _USUAL._replace(text_a=_TEXT_A + _OF_ONE)
"""Names that identify a header if the columns are given by index."""

_SENTENCES = _columns("sentence1", "sentence2", "label")
_ENTAILMENT = ("entailment", "not_entailment")

_TASKS = [
    Task("lcqmc_pair", labels=("0", "1"), header=_USUAL, indices=Columns(0, 1, 2)),
    # Columns and labels come from a file's header and content, or from flags.
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
"""Earlier names of tasks, which commands may still use."""


def of_flags(name: str, columns: NamedColumns, labels: Sequence[str]) -> Task:
    """Returns the Task of that name with the user's columns and labels.

    Raises:
      UserError: no file can have such columns or labels.
    """
    return with_labels(with_columns(TASKS[name], columns), labels)


def with_columns(task: Task, columns: NamedColumns) -> Task:
    """Returns `task` with the user's columns.

    Args:
      task: a Task.
      columns: NamedColumns; a None keeps the task's column, but text_a without text_b means single
        texts. If each text has a number, files do not need a header.
    """
    chosen: dict[str, Column] = {}
    for column, text in columns._asdict().items():
        if text is not None and re.match("0*$", text):
            raise UserError("--%s_column: columns are numbered from 1" % column)
        if text:  # isdigit() accepts digits of other scripts, some of which int() refuses.
            is_number = re.match("[0-9]{1,9}$", text)
            chosen[column] = int(text) - 1 if is_number else (clean_name(text),)
    if columns.text_a and not columns.text_b:
        task = of_one_text(task)
    header = task.header._replace(**chosen)
    text_a, text_b, label = header
    if isinstance(text_a, tuple) or isinstance(text_b, tuple):
        return dataclasses.replace(task, header=header)
    # Without a header a label needs a number; if it has a name, such a file has only texts.
    indices = Columns(text_a, text_b, None if isinstance(label, tuple) else label)
    return dataclasses.replace(task, header=header, indices=indices)


def with_labels(task: Task, labels: Sequence[str]) -> Task:
    """Returns `task` with the user's labels, or unchanged if there are none."""
    cleaned = tuple(map(clean_label, labels))
    if cleaned and (len(set(cleaned)) < max(2, len(cleaned)) or "" in cleaned):
        raise UserError(
            "--labels: expected two or more different labels, found %s" % ",".join(labels)
        )
    return dataclasses.replace(task, labels=cleaned) if cleaned else task


METRICS_OF_NUMBERS = ("pearson", "spearman")
METRICS = ("accuracy", "f1", "auc", "matthews", *METRICS_OF_NUMBERS)
"""The values of --metric; see inference.metrics.compute."""


def of_one_text(task: Task) -> Task:
    """Returns `task` without a second text."""
    indices = task.indices and task.indices._replace(text_b=None)
    return dataclasses.replace(task, header=task.header._replace(text_b=None), indices=indices)


def recorded(run_config: Mapping[str, Any], task: Task | None = None) -> Task:
    """Returns the Task of a run config or of an export.json, a dict.

    Args:
      run_config: dict; if the task leaves them open, its `labels` and `num_texts` are those of the
        training data; its `metric`, if any, selected the best checkpoint.
      task: the Task completed by flags; None: the one in `TASKS`, with the run's columns.
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

# Letters and symbols by category that are nevertheless invisible.
_BLANKS = "\u115f\u1160\u2800\u3164\uffa0"
# These characters join letters and are part of a word's spelling.
_JOINERS = "\u200c\u200d"
_NUMBER = re.compile(r"[-+]?[0-9]+(\.[0-9]+)?$")


def _is_invisible(character: str) -> bool:
    return character in _BLANKS or unicodedata.category(character) in ("Cc", "Cf", "Zs", "Zl", "Zp")


def is_blank(text: str | None) -> bool:
    """Returns whether a str is None or has no visible character."""
    return not text or all(map(_is_invisible, text))


@functools.lru_cache(maxsize=4096)
def clean_label(text: str) -> str:
    """Returns a label, str, without its invisible characters.

    At both ends these are spaces of all kinds, control and format characters. Within it they are
    format characters, such as a byte-order mark, except those that join letters.
    """
    shown = [c for c in text if unicodedata.category(c) != "Cf" or c in _JOINERS]
    for _ in range(2):  # Once for each end.
        shown = list(itertools.dropwhile(_is_invisible, shown))[::-1]
    return "".join(shown)


def clean_name(text: str) -> str:
    """Returns a column's name, str, like `clean_label`, without quotation marks, in lower case."""
    return clean_label(clean_label(text).strip("\"'“”")).lower()


def ids(count: int) -> tuple[str, ...]:
    """Returns the ids of `count` labels, a tuple of str: "0", "1" ..."""
    return tuple(map(str, range(count)))


def is_number(text: str) -> bool:
    """Returns whether a str is a number in decimal notation, a bool."""
    return _NUMBER.match(text) is not None


def in_order(labels: Iterable[str]) -> tuple[str, ...]:
    """Returns labels, an iterable of str, as a tuple in a fixed order.

    If all are numbers, they are in numerical order, and equal ones (1, 01) by their spelling.
    """
    ordered = sorted(labels)
    if all(map(is_number, ordered)):
        ordered.sort(key=decimal.Decimal)
    return tuple(ordered)
