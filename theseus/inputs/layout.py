"""Finds the columns of a file of rows, and whether its first row is a header.

It certainly is one if it contains names of the task's columns, and certainly not if it has a label
in the label's column. Otherwise the rest of the file decides: a header looks like names, and unlike
the rows below it.
"""

from __future__ import annotations

import collections
import re
from typing import List, NamedTuple, Sequence

from theseus.errors import UserError
from theseus.inputs import tasks
from theseus.inputs.tasks import Column, Columns, Task


class Row(NamedTuple):
    """A line's number, from 1, and its columns; for JSON Lines `source` is the line itself."""

    number: int
    cells: list[str]
    source: str = ""


class Layout(NamedTuple):
    """The layout of a file's rows.

    Fields:
      columns: the indices of the task's columns.
      header: the first Row if it is a header, or None.
      width: the number of columns of each row.
      doubt: what the first row was read as, if that is not certain; or None.
    """

    columns: Columns
    header: Row | None
    width: int
    doubt: str | None


UNKNOWN_LABELS = frozenset("-1 ? - none null nan na n/a".split() + [""])
"""The values that mean an unknown label, in lower case."""

# If a larger share of the other rows also looks like a header, the file's texts simply look so.
_MOST_LIKE_NAMES = 0.05
_LONGEST_NAME = 30
# The words of headers: those that name a column, and those that distinguish two columns.
_NAMING = frozenset(
    "text texts sentence sentences sent question questions query queries title comment comments "
    "review reviews content contents body message tweet post document passage paragraph context "
    "premise hypothesis utterance statement claim evidence answer answers reply response string "
    "phrase description summary headline abstract caption label labels sentiment emotion class "
    "category categories polarity stance intent topic domain rating stars score similarity "
    "duplicate quality target id ids qid index idx lang language feedback paraphrase anchor "
    "positive negative candidate keyword src tgt doc docs".split()
)
_TELLING_APART = frozenset(
    "a b c i ii is one two first second third left right gold source original user customer "
    "agent input output raw name no number num pair english chinese".split()
)
_NAMING_IN_CHINESE = (
    "文本|文字|句子|语句|句|问题|问句|评论|评价|内容|标题|正文|标签|类别|类型|分类|情感|情绪|意图|得分|分数|"
    "评分|前提|假设|查询|题目|描述|编号|序号|回答|答案|相似度|是否相似|原文"
)
_CHINESE_NAME = re.compile(
    "(第?[一二三甲乙左右ab12]个?)?(%s)+[ _-]?[一二三甲乙左右ab12]?$" % _NAMING_IN_CHINESE
)
_SNAKE_CASE = re.compile(r"[a-z][a-z0-9]*(_[a-z0-9]+)+$", re.IGNORECASE)
_WORDS = re.compile("[A-Z]+(?![a-z])|[A-Z]?[a-z]+")
# One to three words, without punctuation, of a script that puts spaces between words.
_FEW_WORDS = re.compile(r"[^\W\d_][\w#()-]*( [\w#()-]+){0,2}$")
_WORD = re.compile(r"\W*[A-Za-z]\w*\W*$", re.ASCII)
# The scripts without spaces, in which a character is a large part of a word.
_WITHOUT_SPACES = re.compile("[\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af]")
_LONGEST_NAME_WITHOUT_SPACES = 6

# Names that no column of texts has.
_NO_TEXTS = frozenset(
    "id ids idx index qid no number num 编号 序号".split() + list(tasks.USUAL_LABEL_NAMES)
)
# The names of a label's column that columns of other numbers may also have.
_SCORES = ("similarity", "score")
# float() accepts more: digits of other scripts, and underscores.
_NUMBER = re.compile(r"[-+]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][-+]?[0-9]+)?$")

_Cells = List[str]


def find_layout(
    rows: Sequence[Row],
    task: Task,
    labels_required: bool,
    header: str = "auto",
    separated: str = ", separated by tabs",
) -> Layout:
    """Finds the Layout of a file.

    Args:
      rows: list of Row, the first rows of the file, enough to recognize its content.
      task: a tasks.Task.
      labels_required: bool, whether there must be a column of labels.
      header: "yes" or "no": whether the first row is a header; "auto": detect it.
      separated: str, the part of a message about the separator, see rows.separated_by.

    Returns:
      A Layout.

    Raises:
      UserError: it names what was expected in the first row, and what was found.
    """
    first = rows[0]
    by_name, by_place = _columns_by_name(first.cells, task), _columns_by_place(first.cells, task)
    if header == "auto":
        is_header, doubt = _judge(rows, by_name, by_place, task)
    else:
        is_header, doubt = header == "yes", None
    columns = (by_name if is_header else None) or by_place
    if is_header and by_name is None and columns and not task.takes_columns:
        _check_other_places(names(first), columns)
    if columns and is_header and not labels_required and _is_score(rows, columns, task):
        columns = columns._replace(label=None)
    if columns is None or (labels_required and columns.label is None):
        raise _wrong_first_row(first, task, labels_required, header, separated)
    indices = [index for index in columns if index is not None]
    if len(set(indices)) < len(indices):
        raise UserError(
            "one column is used for two of %s; name different columns"
            % ", ".join(task.column_names(True))
        )
    return Layout(columns, first if is_header else None, len(first.cells), doubt)


def names(row: Row) -> list[str]:
    """Returns the names, list of str, in the cells of a header's Row."""
    return [tasks.clean_name(cell) for cell in row.cells]


def describe(columns: Columns, header: Row) -> str:
    """Returns a description of the columns that are used, with their names in the header."""
    return ", ".join(
        "%s is column %d, %s" % (name, index + 1, header.cells[index].strip())
        for name, index in columns._asdict().items()
        if index is not None
    )


LARGEST_NUMBER = 1e18
"""The bound of a label that is a number: float32 can represent its square, which the loss needs."""


def is_label(label: str, task: Task) -> bool:
    """Returns whether `label`, a str as from tasks.clean_label, is a possible label of the task."""
    if task.is_regression:
        return bool(_NUMBER.match(label)) and abs(float(label)) <= LARGEST_NUMBER
    return bool(label) if task.labels is None else label in task.label_ids


# --- Columns ---


def _columns_by_name(cells: _Cells, task: Task) -> Columns | None:
    """Returns the Columns that a header names; None if the cells do not name them."""
    found = [tasks.clean_name(cell) for cell in cells]
    text_a, text_b, label = (_place(column, found) for column in task.header)
    texts = (text_a, text_b)[: task.num_texts]
    if isinstance(task.header.label, tuple) and label in texts:
        label = None
    are_named = [
        isinstance(column, tuple) and index is not None
        for column, index in zip(task.header, (text_a, text_b, label))
    ]
    if text_a is None or None in texts or not any(are_named):
        return None
    return Columns(text_a, text_b, label)


def _place(column: Column | None, found: list[str]) -> int | None:
    """Returns the index of one of Task.header's columns among the names found, or None."""
    if not isinstance(column, tuple):
        return column if column is None or column < len(found) else None
    name = next((name for name in column if name in found), None)
    if name is not None and found.count(name) > 1:
        raise UserError(
            "%d columns are called %s; give them different names" % (found.count(name), name)
        )
    return None if name is None else found.index(name)


def _columns_by_place(cells: _Cells, task: Task) -> Columns | None:
    """Returns the Columns of a file whose header does not name them; None if they do not fit."""
    if not task.indices or max(task.indices.texts()) >= len(cells):
        return None
    label = task.indices.label
    return task.indices._replace(label=label if label is not None and label < len(cells) else None)


def _is_score(rows: Sequence[Row], columns: Columns, task: Task) -> bool:
    """Returns whether the column taken for the label holds other scores, such as similarities."""
    place = columns.label
    if place is None or task.header.label != tasks.USUAL_LABEL_NAMES:
        return False
    if names(rows[0])[place] not in _SCORES:
        return False
    cells = [tasks.clean_label(row.cells[place]) for row in rows[1:] if len(row.cells) > place]
    return not all(is_label(cell, task) or cell.lower() in UNKNOWN_LABELS for cell in cells)


def _check_other_places(found: list[str], columns: Columns) -> None:
    """Raises UserError if a header's names, list of str, contradict the places of the columns.

    They do if a text's column is named like a label or a row number, or the label's name is in
    another column.
    """
    wrong = [index for index in columns.texts() if found[index] in _NO_TEXTS]
    if columns.label is not None and found[columns.label] not in tasks.USUAL_LABEL_NAMES:
        wrong += [n for n, name in enumerate(found) if name in tasks.USUAL_LABEL_NAMES]
    if wrong:
        raise UserError(
            "expected the texts first, then the label, found a header that calls column %d %s; "
            "name the columns text_a, text_b and label, or give --task_name=custom, with "
            "--text_a_column, --text_b_column and --label_column" % (wrong[0] + 1, found[wrong[0]])
        )


def _wrong_first_row(
    first: Row, task: Task, with_label: bool, header: str, separated: str
) -> UserError:
    """Returns the UserError for a first row that lacks the task's columns."""
    for name, column in task.header._asdict().items():
        if isinstance(column, int) and column >= len(first.cells) and task.takes_columns:
            return UserError(
                "expected a column %d (--%s_column), found %s%s"
                % (column + 1, name, count(len(first.cells)), separated)
            )
    expected = ", ".join(task.column_names(with_label))
    if task.indices:
        expected, found = expected + separated, count(len(first.cells))
    else:
        expected, found = "a header with " + expected, ", ".join(first.cells)
        if header == "no":
            found = "--header=no, which needs columns given by number"
    hint = ""
    if task.takes_columns:
        hint = "; give their names or numbers: --text_a_column, --text_b_column, --label_column"
    elif with_label and len(first.cells) > 1:
        hint = "; a training with --task_name=custom takes other columns"
    return UserError("expected %s, found %s%s" % (expected, found, hint))


def count(width: int) -> str:
    """Returns the number of columns in words, str."""
    return "%d column%s" % (width, "s" if width != 1 else "")


# --- Whether the first row is a header ---


def _judge(
    rows: Sequence[Row], by_name: Columns | None, by_place: Columns | None, task: Task
) -> tuple[bool, str | None]:
    """Returns (whether the first row is a header, a Layout's doubt)."""
    first = rows[0].cells
    if by_place is None:
        return by_name is not None, None
    label = None if by_place.label is None else tasks.clean_label(first[by_place.label])
    is_labelled = bool(task.labels) and label in task.label_ids
    if by_name is not None:
        # Its texts may happen to be names of columns; a label shows that it is not a header.
        return not is_labelled, None
    if label is not None and not is_labelled:
        if tasks.clean_name(label) in tasks.USUAL_LABEL_NAMES:
            return True, None
    rest = [row.cells for row in rows[1:] if len(row.cells) == len(first)]
    is_header, is_sure = _compare(first, rest, by_place, task)
    if is_sure:
        return is_header, None
    shown = ", ".join(repr(cell if len(cell) < 30 else cell[:27] + "...") for cell in first[:4])
    taken, other, value = ("a header", "a row", "no") if is_header else ("a row", "a header", "yes")
    doubt = "%s is read as %s; --header=%s reads it as %s" % (shown, taken, value, other)
    return is_header, doubt


def _compare(first: _Cells, rest: list[_Cells], columns: Columns, task: Task) -> tuple[bool, bool]:
    """Compares the first row with the others; returns (whether it is a header, whether surely)."""
    indices = columns.texts()
    likeness = _row_likeness(first, indices)
    if likeness == 2:  # If files were concatenated, the header may occur again.
        rest = [cells for cells in rest if cells != first]
    if any(first[index] == cells[index] for cells in rest for index in indices):
        likeness = 0  # A column's name does not occur among the texts.
    if columns.label is None:
        if likeness == 0 or _are_like_names(first, rest, indices, likeness):
            return False, True
        # Two names are usually one word each; longer texts are as often an ordinary row.
        are_words = len(indices) == 2 and all(_WORD.match(first[index]) for index in indices)
        return bool(rest) and (likeness == 2 or are_words), False
    label = tasks.clean_label(first[columns.label])
    others = collections.Counter(tasks.clean_label(cells[columns.label]) for cells in rest)
    is_known = label in others if task.labels is None else is_label(label, task)
    if is_known or label.lower() in UNKNOWN_LABELS:
        return False, likeness < 2
    if tasks.is_number(label) or len(label) > _LONGEST_NAME or not others:
        return False, likeness == 0
    is_header = 2 in (likeness, _likeness(label))
    if task.labels is None and all(map(tasks.is_number, others)):
        is_header = True
    elif task.labels is not None or min(others.values()) > 1:
        may_be = min(likeness, _likeness(label)) == 1
        is_header |= may_be and not _are_like_names(first, rest, indices, likeness)
    return is_header, not is_header and likeness == 0


def _are_like_names(
    first: _Cells, rest: list[_Cells], indices: Sequence[int], likeness: int
) -> bool:
    """Returns whether more than a few of the other rows look as much like names as the first.

    Args:
      first, rest: the cells of the first row, and of each other row.
      indices: the texts' indices.
      likeness: that of the first row, see `_likeness`.
    """

    def has_spaces(cells: _Cells) -> bool:
        return not any(_WITHOUT_SPACES.search(cells[index]) for index in indices)

    alike = sum(
        has_spaces(cells) == has_spaces(first) and _row_likeness(cells, indices) >= likeness
        for cells in rest
    )
    return alike > _MOST_LIKE_NAMES * len(rest)


def _row_likeness(cells: _Cells, indices: Sequence[int]) -> int:
    """Returns how much a row's texts look like names: the least `_likeness` of its cells.

    If all cells may be names and one surely is, the row is surely one of names.
    """
    found = [_likeness(cells[index]) for index in indices]
    return max(found) if min(found) > 0 else 0


def _likeness(cell: str) -> int:
    """Returns how much a cell looks like a column's name, int: 2 surely, 1 perhaps, 0 not."""
    text = tasks.clean_label(tasks.clean_label(cell).strip("\"'“”"))
    words = [word.lower() for word in _WORDS.findall(text)]
    if _CHINESE_NAME.match(text.lower()):
        return 2
    longest = _LONGEST_NAME_WITHOUT_SPACES if _WITHOUT_SPACES.search(text) else _LONGEST_NAME
    if len(text) > longest or not _FEW_WORDS.match(text.lstrip("#")):
        return 0
    is_naming = _NAMING.intersection(words) and set(words) <= _NAMING | _TELLING_APART
    return 2 if is_naming or _SNAKE_CASE.match(text) else 1
