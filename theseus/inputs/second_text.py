"""Finds a second text that would be ignored, in a file that is read as single texts.

The rows decide. A column of texts holds mostly words. Its cells are sentences, or together they
hold more different words than a category, whose few values occur again and again.
"""

from __future__ import annotations

import re
from typing import Sequence

from theseus.errors import UserError
from theseus.inputs import layout, rows, tasks
from theseus.inputs.layout import Layout, Row
from theseus.inputs.tasks import Task

# A word has only letters. In a script without spaces, about two characters are a word.
_WORD = re.compile(r"[\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af]{1,2}|[^\W\d_]+")
# An ASCII part that contains one of these is an identifier, not a word, even if it has letters.
_IDENTIFYING = re.compile(r"[0-9_/\\@:#=]")
# A column of texts has more words than this for each row; equal cells count once. Search queries
# have a new word in every other row, and documents have 50 words in every hundredth row.
_WORDS_OF_ROW = 0.5
# Cells with this many words on average are sentences, however often each of them occurs.
_WORDS_OF_SENTENCE = 5
_NAMES_OF_TEXTS = {
    name
    for task in tasks.TASKS.values()
    for column in (task.header.text_a, task.header.text_b)
    if isinstance(column, tuple)
    for name in column
}


def refuse(head: Sequence[Row], found: Layout, task: Task, name: str) -> None:
    """Raises UserError if a file's rows have a second text that the task does not read.

    If the user named the column of the one text, no other column is checked.

    Args:
      head: list of Row, the first rows of the file.
      found: the file's Layout.
      task: a tasks.Task.
      name: str, the file's name in messages.
    """
    is_left_open = task.takes_columns and task.header.text_a == tasks.USUAL_NAMES.text_a
    if not (is_left_open and task.num_texts == 1 and found.header):
        return
    names = layout.names(found.header)
    first = names[found.columns.text_a]
    unclaimed = [n for n in range(len(names)) if n not in found.columns]
    second = next((n for n in unclaimed if names[n] in tasks.SECOND_OF_TWO), None)
    if second is None:
        if first not in tasks.FIRST_OF_TWO:
            unclaimed = [n for n in unclaimed if names[n] in _NAMES_OF_TEXTS]
        cells = [row.cells for row in head if row is not found.header]
        cells = [row for row in cells if len(row) == found.width]
        second = next((n for n in unclaimed if _holds_texts(cells, n, found.columns.label)), None)
    if second is not None:
        shown_a, shown_b = (found.header.cells[n].strip() for n in (found.columns.text_a, second))
        raise UserError(
            "%s: only %s would be read, but column %d, %s, holds a second text; for pairs give "
            "--text_b_column=%s (in training too), for single texts --text_a_column=%s"
            % (name, shown_a, second + 1, shown_b, shown_b, shown_a)
        )


def _holds_texts(cells: Sequence[list[str]], column: int, label: int | None) -> bool:
    """Returns whether a column holds texts, given the cells of rows, lists of str."""
    values = [row[column] for row in cells]
    different = set(values)
    if any(isinstance(value, rows.Nested) for value in values):
        return False
    if label is not None:
        labels = {row[label] for row in cells}
        pairs = {(row[label], row[column]) for row in cells}
        if len(pairs) == len(labels) < len(cells):
            return False  # Each label has one value: it is the label under another name.
    num_words = sum(len(_WORD.findall(_without_identifiers(value))) for value in different)
    num_parts = sum(len(value.split()) for value in different)
    if len(different) < 2 or 2 * num_words < num_parts:  # Dates, for example, are mostly digits.
        return False
    are_sentences = num_words >= _WORDS_OF_SENTENCE * len(different)
    return are_sentences or num_words > _WORDS_OF_ROW * len(values)


def _without_identifiers(cell: str) -> str:
    parts = (part.rstrip(":") for part in cell.split())
    return " ".join(part for part in parts if not (part.isascii() and _IDENTIFYING.search(part)))
