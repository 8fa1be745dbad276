"""Tests whether a file's first row is recognized as a header, and the log about it."""

import pytest

from theseus.errors import UserError
from theseus.inputs import layout, tasks
from theseus.inputs.layout import Row

PAIR = tasks.TASKS["lcqmc_pair"]
TSV = tasks.TASKS["custom"]
REVIEW = tasks.with_columns(TSV, tasks.NamedColumns("1", None, "2"))
CHINESE = [
    "手机坏了怎么办呢\t手机坏了应该怎么修",
    "想买一台新的电脑\t哪里可以买到电脑",
    "您好\t您好吗",
]
ENGLISH = [
    "How do I get there by bus?\tWhich bus goes there?",
    "Music is on.\tThey play it, I think.",
]
SHORT = ["good morning\thello", "thanks\tthank you", "bye bye\tsee you"]
REVIEWS = ["It was good, really!\tpos", "Never again, I say.\tneg"] * 3


def find(first, rest, task=PAIR, header="auto", labels_required=False):
    rows = [Row(n, text.split("\t")) for n, text in enumerate([first] + rest, start=1)]
    return layout.find_layout(rows, task, labels_required, header)


@pytest.mark.parametrize(
    "first",
    [
        "premise\thypothesis",
        "question_a\tquestion_b",
        '"text_a"\t"text_b"',
        "Text A\tText B",
        "sentenceA\tsentenceB",
        "utterance\treply",
        "src\ttgt",
        "my_left\tmy_right",
        "句子A\t句子B",
        "前提\t假设",
        "foo\tbar",
    ],
)
@pytest.mark.parametrize("rest", [CHINESE, ENGLISH])
def test_names_over_unlabelled_pairs_are_a_header(first, rest):
    found = find(first, rest)
    assert found.header is not None and found.columns == tasks.Columns(0, 1, None)
    usual = all(tasks.clean_name(first.split("\t")[n]) in tasks.USUAL_NAMES[n] for n in (0, 1))
    assert usual or "is read as a header; --header=no reads it as a row" in found.doubt
    assert find(first, rest, header="no").header is None


@pytest.mark.parametrize(
    "first, rest, is_sure",
    [
        (CHINESE[0], CHINESE[1:], True),
        ("您好\t您好吗", CHINESE, True),
        ("问\t答", ENGLISH, False),
        (ENGLISH[0], ENGLISH[1:], True),
        ("hello\thi", SHORT, True),
        ("hello there\thi", ENGLISH, False),
        ("what is the title?\tthe title", SHORT, True),
        ("hello\thi", [], False),
        ("质量如何\t1", CHINESE, True),
    ],
)
def test_a_row_of_unlabelled_pairs_is_no_header(first, rest, is_sure):
    found = find(first, rest)
    assert found.header is None
    assert is_sure == (found.doubt is None)
    assert is_sure or "is read as a row; --header=yes reads it as a header" in found.doubt
    assert find(first, rest, header="yes").header is not None


@pytest.mark.parametrize(
    "first, rest, is_sure",
    [
        ("comment\tsentiment", REVIEWS, False),
        ("body\tmood", REVIEWS, False),
        ("评论\t情感", REVIEWS, False),
        ("客户的话\t投诉", REVIEWS, False),
        ("what they said\tlabel", REVIEWS, True),
        (
            "what they said\tmood",
            [r.replace("pos", "1").replace("neg", "0") for r in REVIEWS],
            False,
        ),
    ],
)
def test_a_header_over_free_labels_is_known_by_the_labels_below(first, rest, is_sure):
    found = find(first, rest, REVIEW, labels_required=True)
    assert found.header is not None and is_sure == (found.doubt is None)


@pytest.mark.parametrize(
    "first, rest, is_sure",
    [
        ("nice\tpos", REVIEWS, True),
        ("I did not like it.\tbad", REVIEWS, True),
        ("Great!\t5", ["Never.\t1", "Good.\t4"], True),
        ("nice\tgood", ["awful\tbad"], False),
    ],
)
def test_a_row_with_a_free_label_is_no_header(first, rest, is_sure):
    found = find(first, rest, REVIEW, labels_required=True)
    assert found.header is None and is_sure == (found.doubt is None)


def test_a_label_of_the_task_makes_the_first_row_an_example():
    labelled = [row + "\t1" for row in CHINESE]
    assert find("query\ttitle\t1", labelled).header is None
    assert find("query\ttitle\t标签", labelled).header is not None
    assert find("premise one\thypothesis one\tgold", labelled).header is not None
    assert find("手机坏了怎么办呀\t怎么修\tO", labelled).header is None


def test_the_name_label_goes_before_others_that_a_label_may_have():
    rest = ["0.5\t好\ta", "0.7\t差\tb"]
    found = find("score\ttext\tLabel", rest, tasks.of_one_text(TSV), labels_required=True)
    assert found.columns == tasks.Columns(1, None, 2)
    found = find("score\ttext\tother", rest, tasks.of_one_text(TSV), labels_required=True)
    assert found.columns == tasks.Columns(1, None, 0)


@pytest.mark.parametrize(
    "cells, required, label", [("0.83 0.2", False, None), ("0 -1", False, 2), ("0.83 1", True, 2)]
)
def test_a_column_of_scores_is_no_label_where_none_is_needed(cells, required, label):
    rest = ["好的东西\t坏的东西\t" + cell for cell in cells.split()]
    for name in ("score", "Similarity"):
        found = find("text_a\ttext_b\t" + name, rest, labels_required=required)
        assert found.columns == tasks.Columns(0, 1, label)
    found = find("text_a\ttext_b\tlabel", rest, labels_required=required)
    assert found.columns.label == 2


@pytest.mark.parametrize(
    "first, columns, message",
    [
        ("a\tb\t1", ("1", "2", "5"), r"expected a column 5 \(--label_column\), found 3 columns"),
        (
            "text\tlabel",
            ("text", None, "7"),
            r"expected a column 7 \(--label_column\), found 2 col",
        ),
        (
            "a\tb\t1",
            ("1", "1", "3"),
            "one column is used for two of text_a, text_b, label; name different columns",
        ),
        (
            "text\ttext\tlabel",
            ("text", None, None),
            "2 columns are called text; give them different names",
        ),
        ("a\tb\t1", ("²", None, "3"), "expected a header with ², label, found a, b, 1"),
    ],
)
def test_columns_that_are_not_there_are_named(first, columns, message):
    task = tasks.with_columns(TSV, tasks.NamedColumns(*columns))
    with pytest.raises(UserError, match=message):
        find(first, [first], task, labels_required=True)


def test_no_header_is_refused_where_columns_have_names_alone():
    with pytest.raises(UserError, match="--header=no, which needs columns given by number"):
        find("sentence\tlabel", ["a\t1"], tasks.TASKS["sst-2"], header="no")
