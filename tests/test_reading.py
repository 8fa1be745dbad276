"""Tests of reading users' files: headers, columns, labels, and mistakes in them."""

import csv
import dataclasses
import json
import os
import subprocess
import sys
import threading

import pytest

from conftest import ROOT
from theseus.errors import UserError
from theseus.inputs import inferred_task, reading, rows, sources, tasks
from theseus.inputs.reading import Example

TASK = tasks.TASKS["lcqmc_pair"]
PAIRS = [Example("喜欢打篮球", "爱打篮球", "1"), Example("a b", "c", "0")]


@pytest.mark.parametrize(
    "text",
    [
        "喜欢打篮球\t爱打篮球\t1\na b\tc\t0\n",
        "喜欢打篮球\t爱打篮球\t1\na b\tc\t0",
        "喜欢打篮球\t爱打篮球\t1\r\na b\tc\t0\r\n",
        "\ufeff喜欢打篮球\t爱打篮球\t1\na b\tc\t0\n\n",
        "text_a\ttext_b\tlabel\n喜欢打篮球\t爱打篮球\t1\n\na b\tc\t0\n",
        "\ufeff句子一\t句子二\t标签\r\n喜欢打篮球\t爱打篮球\t1\r\na b\tc\t0\r\n",
    ],
)
def test_files_as_users_hold_them(tmp_path, text):
    path = tmp_path / "train.txt"
    path.write_bytes(text.encode("utf-8"))
    assert reading.read_examples(str(path), TASK) == PAIRS


@pytest.mark.parametrize(
    "header", ["", "text_a\ttext_b\n", "Sentence1\tsentence2\n", "问题一\t问题二\n"]
)
def test_files_without_labels(tmp_path, header):
    path = tmp_path / "test.txt"
    path.write_text(header + "喜欢打篮球\t爱打篮球\na b\tc\n", encoding="utf-8")
    found = reading.read_examples(str(path), TASK, labels_required=False)
    assert found == [Example(a, b, None) for a, b, _ in PAIRS]
    with pytest.raises(UserError, match="expected text_a, text_b, label.*found 2 columns"):
        reading.read_examples(str(path), TASK)


@pytest.mark.parametrize(
    "text, message",
    [
        ("a\tb\t1\na\tb\n", "train.txt, line 2: expected .* found 2 columns"),
        ("a\tb\t1\n\na\tb\tc\t1\n", "train.txt, line 3: expected .* found 4 columns"),
        (
            "a\tb\t1\na\tb\t2\n",
            "train.txt, line 2: expected a label of 0, 1, found '2'; a training with --task_n",
        ),
        ("a\t1\nb\t0\n", "line 1: expected .* found 2 columns; a training with --task_name=custom"),
        ("a\tb\t2\na\tb\t1\n", "train.txt, line 1: expected a label"),
        ("a\tb\t1.0\na\tb\t1\n", "train.txt, line 1: expected a label"),
        ("a\tb\tO\na\tb\t1\n", "train.txt, line 1: expected a label"),
        ("a\tb\t\na\tb\t1\n", "train.txt, line 1: expected a label"),
        ("a\tb\tlabel\n", "train.txt: holds no example"),
        ("", "train.txt: holds no example"),
    ],
)
def test_a_mistake_is_named_with_its_line(tmp_path, text, message):
    path = tmp_path / "train.txt"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(UserError, match=message):
        reading.read_examples(str(path), TASK)


@pytest.mark.parametrize(
    "text, format", [("a,b\n", "csv"), ('{"text_a": "a", "text_b": "b"}\n', "jsonl"), ("a\n", None)]
)
def test_a_file_of_another_format_is_refused_and_the_format_named(tmp_path, text, format):
    path = tmp_path / "test.txt"
    path.write_text(text, encoding="utf-8")
    match = "line 1: expected text_a, text_b, sep.*found 1 column%s" % (
        "; --format=%s reads " % format if format else "$"
    )
    with pytest.raises(UserError, match=match):
        reading.read_examples(str(path), TASK, labels_required=False)
    if format:
        form = sources.ReadOptions(format=format)
        found = reading.read_examples(str(path), TASK, labels_required=False, form=form)
        assert found == [Example("a", "b", None)]


def test_a_file_in_another_encoding_is_refused(tmp_path):
    path = tmp_path / "train.txt"
    path.write_bytes("手机\t电脑\t1\n".encode("gbk"))
    with pytest.raises(UserError, match="line 1: is not UTF-8 text; .* give --encoding=gb18030"):
        reading.read_examples(str(path), TASK)
    form = sources.ReadOptions(encoding="gb18030")
    assert reading.read_examples(str(path), TASK, form=form) == [Example("手机", "电脑", "1")]


def test_a_split_has_one_of_the_endings(tmp_path):
    with pytest.raises(
        UserError, match="dev: there is no such file with one of the extensions .txt, .tsv, .csv"
    ):
        sources.find_files(str(tmp_path), TASK, "dev")
    (tmp_path / "dev.tsv").write_text("")
    assert sources.find_files(str(tmp_path), TASK, "dev") == [str(tmp_path / "dev.tsv")]
    (tmp_path / "dev.txt").write_text("")
    with pytest.raises(UserError, match="dev.txt, .*dev.tsv: both exist; keep one$"):
        sources.find_files(str(tmp_path), TASK, "dev")
    (tmp_path / "dev.jsonl").write_text("")
    with pytest.raises(UserError, match="dev.jsonl: all three exist; keep one$"):
        sources.find_files(str(tmp_path), TASK, "dev")


@pytest.mark.parametrize("name", ["dev.TSV", "dev.Csv", "dev.json", "dev.JSONL"])
def test_an_ending_may_be_in_capitals_or_json(tmp_path, name):
    for other in ("dev", "dev.tsv.gz", "dev2.tsv", "dev.xlsx"):
        (tmp_path / other).write_text("")
    (tmp_path / "dev.txt").symlink_to(tmp_path / "moved.txt")
    beside = "dev, dev.tsv.gz, dev.txt, dev.xlsx"
    with pytest.raises(
        UserError, match="one of the extensions .*; %s cannot be read; see --data_dir$" % beside
    ):
        sources.find_files(str(tmp_path), TASK, "dev")
    (tmp_path / name).write_text("")
    assert sources.find_files(str(tmp_path), TASK, "dev") == [str(tmp_path / name)]
    assert sources.has_split(str(tmp_path), TASK, "dev")


def test_json_beside_another_file_is_not_meant(tmp_path):
    for name in ("dev.json", "dev.txt"):
        (tmp_path / name).write_text("")
    assert sources.find_files(str(tmp_path), TASK, "dev") == [str(tmp_path / "dev.txt")]


def test_json_lines_under_the_ending_json(tmp_path):
    """As CLUE's AFQMC is given out, and with keys that nothing needs and some lines lack."""
    path = tmp_path / "train.json"
    lines = [
        '{"sentence1": "借呗", "sentence2": "花呗", "label": "0", "note": "x"}',
        '{"label": "1", "sentence2": "b", "sentence1": "a", "id": 7}',
    ]
    path.write_text("\n".join(lines), encoding="utf-8")
    expected = [Example("借呗", "花呗", "0"), Example("a", "b", "1")]
    task = inferred_task.infer_task(tasks.TASKS["custom"], str(path))
    assert task.labels == ("0", "1") and task.num_texts == 2
    assert reading.read_examples(str(path), task) == expected


# --- All other columns of a line ---


def others_of(path, task=TASK):
    found = reading.iterate_examples(str(path), task, labels_required=False, keeps_others=True)
    return [example.others for example in found]


def test_other_columns_are_kept_under_their_names(tmp_path):
    path = tmp_path / "a.tsv"
    path.write_text('\ufeffId\ttext_a\tId\ttext_b\t\n7\ta\t8\tb\t"x\n', encoding="utf-8")
    assert others_of(path) == [{"Id": "7", "column_3": "8", "column_5": '"x'}]
    assert reading.read_examples(str(path), TASK, labels_required=False)[0].others is None
    path.write_text("gj04\t1\t*\tThem ran.\n", encoding="utf-8")
    assert others_of(path, tasks.TASKS["cola"]) == [{"column_1": "gj04", "column_3": "*"}]


def test_other_keys_of_json_are_kept_as_they_are(tmp_path):
    path = tmp_path / "a.json"
    first = {"id": 0, "text_a": "a", "text_b": "b", "weight": 0.25, "tags": ["x", {"y": None}]}
    second = {"text_b": "d", "text_a": "c", "id": "é", "flag": True}
    path.write_text("%s\n%s\n" % (json.dumps(first), json.dumps(second)))
    assert others_of(path) == [
        {"id": 0, "weight": 0.25, "tags": ["x", {"y": None}]},
        {"id": "é", "flag": True},
    ]


def test_a_sample_is_fixed_in_order_and_part_of_a_larger_one():
    examples = [Example(str(n), "", "0") for n in range(100)]
    few, more = (reading.sample_examples(examples, count) for count in (10, 40))
    assert len(few) == 10 and set(few) < set(more) < set(examples)
    assert few == sorted(few, key=examples.index) == reading.sample_examples(examples, 10)
    assert reading.sample_examples(examples, 500) == examples
    assert reading.sample_examples(examples, None) == examples


# --- An example for each line ---


def read_text(path, text, task=TASK, labels_required=False, **form):
    path.write_bytes(text.encode("utf-8"))
    form = sources.ReadOptions(**form)
    return reading.read_examples(str(path), task, labels_required, form)


ONE_TEXT = tasks.with_columns(tasks.TASKS["custom"], tasks.NamedColumns("1", None, None))


@pytest.mark.parametrize(
    "text, expected",
    [
        ("手机\r电脑\r好", ["手机", "电脑", "好"]),
        ("手机\r电\n脑\u2028好\n\x0b\x85x\n", ["手机\r电", "脑\u2028好", "\x0b\x85x"]),
        ('"手机\n电脑"\n" 好 \n', ['"手机', '电脑"', '" 好 ']),
        ("手机\n电脑\n\n \n\t\n", ["手机", "电脑"]),
        ("好\n好\n好\n", ["好", "好", "好"]),
        ("\ufeff手机\n\ufeff电脑\n", ["手机", "\ufeff电脑"]),
    ],
)
def test_each_line_to_be_predicted_is_an_example_in_its_place(tmp_path, text, expected):
    found = read_text(tmp_path / "new.tsv", text, ONE_TEXT)
    assert [example.text_a for example in found] == expected
    assert [example.row for example in found] == list(range(len(expected)))


@pytest.mark.parametrize("blank", ["", " ", "\u3000", "\u200b", "\ufeff"])
def test_a_line_without_a_text_is_named_where_it_is_to_be_predicted(tmp_path, blank):
    text = "手机\n%s\n电脑\n" % blank
    with pytest.raises(UserError, match="new.tsv, line 2: expected a text, found a blank line"):
        read_text(tmp_path / "new.tsv", text, ONE_TEXT)
    found = read_text(tmp_path / "new.tsv", text, ONE_TEXT, skip_bad_lines=True)
    assert [(example.row, example.text_a) for example in found] == [(0, "手机"), (2, "电脑")]


def test_a_pair_needs_one_text_at_least(tmp_path):
    found = read_text(tmp_path / "new.tsv", "手机\t电脑\n\t电脑\n手机\t\n")
    assert found[1:] == [Example("", "电脑", None), Example("手机", "", None)]
    with pytest.raises(UserError, match="line 2: expected two texts, found nothing"):
        read_text(tmp_path / "new.tsv", "手机\t电脑\t1\n\t \t1\n")
    with pytest.raises(UserError, match="line 3: expected a text, found nothing"):
        read_text(tmp_path / "a.tsv", "sentence\tlabel\na\t1\n\t0\n", tasks.TASKS["sst-2"], True)


def test_rows_are_counted_from_below_the_header(tmp_path):
    found = read_text(
        tmp_path / "new.tsv", "text_a\ttext_b\n手机\t电脑\nx\n好\t坏\n", skip_bad_lines=True
    )
    assert [example.row for example in found] == [0, 2]


def test_blank_lines_among_labelled_ones_are_left_out_and_said(tmp_path, caplog):
    found = read_text(tmp_path / "dev.tsv", "a\tb\t1\n\n\t\t\nc\td\t0\n\n", labels_required=True)
    assert found == [Example("a", "b", "1"), Example("c", "d", "0")]
    assert "dev.tsv: 2 blank lines skipped, the first is line 2" in caplog.text
    assert "dev.tsv: 1 blank line from line 5 on ignored, at the end" in caplog.text


def test_bad_lines_are_left_out_counted_and_listed_where_it_is_asked_for(tmp_path, caplog):
    path = tmp_path / "train.tsv"
    bad = ["a\tb", "a\tb\t7", "a\tb\t", "\t\t1", "a\0\tb\t1", "a\tb\tc\t1"]
    path.write_bytes("\n".join(["a\tb\t1"] + bad + ["c\td\t0"]).encode("utf-8") + b"\n\xff\tb\t1\n")
    form = sources.ReadOptions(skip_bad_lines=True)
    for _ in range(2):  # The second time nothing is said again.
        found = reading.read_examples(str(path), TASK, form=form)
        assert found == [Example("a", "b", "1"), Example("c", "d", "0")]
    lines = [record.getMessage() for record in caplog.records]
    skipped = [line.split(": ")[1] for line in lines[:-1]]
    assert skipped == ["skipped line %d" % number for number in [2, 3, 4, 5, 6, 7, 9]]
    assert all(line.startswith("%s: " % path) for line in lines)
    assert lines[-1] == "%s: skipped 7 of 9 lines" % path
    assert "expected a label of 0, 1, found '7'" in lines[1] and "holds a NUL" in lines[4]
    for number in (2, 3, 4, 5, 6, 7, 9):
        content = path.read_bytes().split(b"\n")
        (tmp_path / "one.tsv").write_bytes(b"\n".join([content[0], content[number - 1]]))
        with pytest.raises(UserError, match="one.tsv, line 2: "):
            reading.read_examples(str(tmp_path / "one.tsv"), TASK)


def test_a_bad_first_line_can_be_left_out_too(tmp_path):
    text = "oops\na\tb\t1\nc\td\t0\n"
    found = read_text(tmp_path / "train.tsv", text, labels_required=True, skip_bad_lines=True)
    assert found == [Example("a", "b", "1"), Example("c", "d", "0")]


def test_a_file_of_bad_lines_alone_holds_no_example(tmp_path):
    with pytest.raises(UserError, match="holds no example; skipped line 1: expected a label"):
        read_text(tmp_path / "a.tsv", "a\tb\t5\n", labels_required=True, skip_bad_lines=True)


@pytest.mark.parametrize("unknown", ["-1", "", " ", "?", "None", "nan", "N/A"])
def test_a_file_to_be_predicted_need_not_know_its_labels(tmp_path, unknown):
    text = "手机\t电脑\t%s\n好\t坏\t1\n" % unknown
    found = read_text(tmp_path / "test.tsv", text)
    assert found == [Example("手机", "电脑", ""), Example("好", "坏", "1")]
    with pytest.raises(UserError, match="line 1: expected a label of 0, 1, found"):
        read_text(tmp_path / "test.tsv", text, labels_required=True)
    with pytest.raises(UserError, match="line 1: expected a label of 0, 1, found '坏了'; if"):
        read_text(tmp_path / "test.tsv", "手机\t电脑\t坏了\n好\t坏\t1\n")


def test_a_header_that_comes_again_is_named(tmp_path):
    text = "text_a\ttext_b\tlabel\na\tb\t1\n\ufefftext_a\ttext_b\tlabel\nc\td\t0\n"
    for labels_required in (True, False):
        with pytest.raises(UserError, match="line 3: repeats the header"):
            read_text(tmp_path / "train.tsv", text, labels_required=labels_required)


def test_what_is_read_but_once_is_read_as_often_as_needed(tmp_path):
    path = str(tmp_path / "pipe")
    os.mkfifo(path)
    writer = threading.Thread(target=lambda: open(path, "w").write("a\tb\t1\n"))
    writer.start()
    form = sources.ReadOptions()
    found = [reading.read_examples(path, TASK, form=form) for _ in range(3)]
    writer.join()
    assert found == [[Example("a", "b", "1")]] * 3


# --- GLUE's files: the first lines as they are given out, with texts of our own ---

MNLI = ["index", "promptID", "pairID", "genre", "sentence1_binary_parse", "sentence2_binary_parse"]
MNLI += ["sentence1_parse", "sentence2_parse", "sentence1", "sentence2", "label1", "gold_label"]
LAYOUTS = [
    ("cola", None, ["gj04", "0", "*", "Them ran."], ("Them ran.", None, "0")),
    ("cola", ["index", "sentence"], ["0", "They ran."], ("They ran.", None, None)),
    ("sst-2", ["sentence", "label"], ["a good film ", "1"], ("a good film ", None, "1")),
    ("sst-2", ["index", "sentence"], ["0", "a good film"], ("a good film", None, None)),
    (
        "mrpc",
        ["\ufeffQuality", "#1 ID", "#2 ID", "#1 String", "#2 String"],
        ["1", "17", "18", 'He said " no .', "No , he said ."],
        ('He said " no .', "No , he said .", "1"),
    ),
    (
        "qqp",
        ["id", "qid1", "qid2", "question1", "question2", "is_duplicate"],
        ["5", "11", "12", "Why?", "Why not?", "0"],
        ("Why?", "Why not?", "0"),
    ),
    ("qqp", ["id", "question1", "question2"], ["5", "Why?", "So?"], ("Why?", "So?", None)),
    (
        "sts-b",
        "index genre filename year old_index source1 source2 sentence1 sentence2 score".split(),
        ["0", "news", "f", "2012", "1", "none", "none", "A plane.", "An air plane.", "5.000"],
        ("A plane.", "An air plane.", "5.000"),
    ),
    (
        "mnli",
        MNLI,
        [
            "0",
            "1",
            "1n",
            "fiction",
            "( a )",
            "( b )",
            "p",
            "q",
            "A.",
            "B.",
            "neutral",
            "entailment",
        ],
        ("A.", "B.", "entailment"),
    ),
    (
        "qnli",
        ["index", "question", "sentence", "label"],
        ["0", "Who?", "He.", "not_entailment"],
        ("Who?", "He.", "not_entailment"),
    ),
    (
        "rte",
        ["index", "sentence1", "sentence2", "label"],
        ["0", "A.", "B.", "entailment"],
        ("A.", "B.", "entailment"),
    ),
    (
        "wnli",
        ["index", "sentence1", "sentence2", "label"],
        ["0", "A.", "B.", "1"],
        ("A.", "B.", "1"),
    ),
]


@pytest.mark.parametrize("name, header, row, expected", LAYOUTS)
def test_glues_files_are_read_as_they_are_given_out(tmp_path, name, header, row, expected):
    lines = ["\t".join(columns) for columns in (header, row) if columns]
    path = tmp_path / "file.tsv"
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    task, labelled = tasks.TASKS[name], expected[2] is not None
    assert reading.read_examples(str(path), task, labelled) == [Example(*expected)]
    if not labelled:
        with pytest.raises(UserError, match="file.tsv, line 1: expected .*(label|is_dup)"):
            reading.read_examples(str(path), task)


def test_mnlis_dev_and_test_are_two_files_each(tmp_path):
    for name in ("dev_matched", "dev_mismatched", "test_matched"):
        (tmp_path / (name + ".tsv")).write_text("")
    found = sources.find_files(str(tmp_path), tasks.TASKS["mnli"], "dev")
    assert found == [str(tmp_path / "dev_matched.tsv"), str(tmp_path / "dev_mismatched.tsv")]
    with pytest.raises(UserError, match="test_mismatched: there is no such file with"):
        sources.find_files(str(tmp_path), tasks.TASKS["mnli"], "test")


@pytest.mark.parametrize("label", ["", "five", "nan", "inf"])
def test_a_score_is_a_number(tmp_path, label):
    path = tmp_path / "train.tsv"
    path.write_text("sentence1\tsentence2\tscore\na\tb\t%s\n" % label)
    with pytest.raises(UserError, match="line 2: expected a number, found"):
        reading.read_examples(str(path), tasks.TASKS["sts-b"])


# --- Data of a user's own ---


def read_tsv(path, text, columns=(None, None, None), labels=None):
    """Returns (the completed task, the examples) of a file with that text."""
    path.write_text(text, encoding="utf-8")
    task = tasks.with_columns(tasks.TASKS["custom"], tasks.NamedColumns(*columns))
    if labels:
        task = dataclasses.replace(task, labels=labels)
    task = inferred_task.infer_task(task, str(path))
    return task, reading.read_examples(str(path), task)


@pytest.mark.parametrize(
    "text, columns, labels, expected",
    [
        # By usual names, in any order, one text or two.
        (
            "label\ttext\n差\t贵\n好\t值\n",
            (None,) * 3,
            ("好", "差"),
            [("贵", None, "差"), ("值", None, "好")],
        ),
        (
            "id\tquery\ttitle\tlabel\n7\ta\tb\t0\n8\tc\td\t1\n",
            (None,) * 3,
            ("0", "1"),
            [("a", "b", "0"), ("c", "d", "1")],
        ),
        # By names of the user's.
        (
            "Body\tKind\ttitle\nx\tgood\t-\ny\tbad\t-\n",
            ("body", None, "kind"),
            ("bad", "good"),
            [("x", None, "good"), ("y", None, "bad")],
        ),
        # By number, with and without a header.
        ("1\tx\ty\n0\tz\tw\n", ("2", "3", "1"), ("0", "1"), [("x", "y", "1"), ("z", "w", "0")]),
        (
            "label\ta\tb\n1\tx\ty\n0\tz\tw\n",
            ("2", "3", "1"),
            ("0", "1"),
            [("x", "y", "1"), ("z", "w", "0")],
        ),
        # Name and number.
        (
            "what\tkind\nx\t1\ny\t2\n",
            ("what", None, "2"),
            ("1", "2"),
            [("x", None, "1"), ("y", None, "2")],
        ),
        # Numbers are in the order of numbers.
        (
            "text\tlabel\na\t10\nb\t9\nc\t1\n",
            (None,) * 3,
            ("1", "9", "10"),
            [("a", None, "10"), ("b", None, "9"), ("c", None, "1")],
        ),
    ],
)
def test_a_tsvs_columns_and_labels(tmp_path, text, columns, labels, expected):
    task, found = read_tsv(tmp_path / "train.tsv", text, columns)
    assert found == [Example(*row) for row in expected]
    assert sorted(task.labels) == sorted(labels) and task.num_texts == (2 if found[0][1] else 1)
    if all(label.isdigit() for label in labels):
        assert task.labels == labels


def test_a_tsvs_labels_may_be_given_in_an_order(tmp_path):
    text = "text\tlabel\na\tno\nb\tyes\n"
    assert read_tsv(tmp_path / "a.tsv", text, labels=("yes", "no"))[0].labels == ("yes", "no")
    with pytest.raises(UserError, match="line 3: expected a label of no, maybe, found 'yes'"):
        read_tsv(tmp_path / "a.tsv", text, labels=("no", "maybe"))


def test_labels_are_taken_without_what_is_not_to_be_seen(tmp_path):
    text = "label\ttext\n1\ta\n\ufeff1\tb\n0\u3000\tc\n\u200b0 \td\n"
    task, found = read_tsv(tmp_path / "train.tsv", text)
    assert task.labels == ("0", "1") and [e.label for e in found] == ["1", "1", "0", "0"]
    with pytest.raises(UserError, match="train.tsv, line 3: expected a label, found none"):
        read_tsv(tmp_path / "train.tsv", "label\ttext\n1\ta\n\ufeff \tb\n")


@pytest.mark.parametrize(
    "labels, message",
    [
        (["a", "b"] * 3 + ["c"], "train.tsv: one label occurs once: 'c'; a typing error?"),
        (
            ["1", "2.5", "5"] * 2,
            "train.tsv: its labels are fractional numbers ('2.5'), and each",
        ),
        (
            ["1", "2,5", "5"] * 2,
            "to predict a number, write them with a decimal point, and give --task_n",
        ),
        (["-.5", "0,25", "1"] * 2, "with a decimal point, and give --task_name=custom_number"),
        (["a", "b"] * 3 + ["d", "c"], "train.tsv: 2 labels occur once: 'c', 'd'; a typing error?"),
        ([str(n % 40) for n in range(80)], "train.tsv: holds 40 different labels in 80 examples;"),
        (["No", "no", "yes"] * 2, "some labels differ only in case or character width: 'No', 'no'"),
    ],
)
def test_strange_labels_are_said(tmp_path, caplog, labels, message):
    text = "".join("text %d\t%s\n" % item for item in enumerate(labels))
    read_tsv(tmp_path / "train.tsv", "text\tlabel\n" + text)
    assert message in caplog.text


@pytest.mark.parametrize("labels", [["1.0", "2.0"], ["0.5", "a"], ["1", "2"]])
def test_labels_that_are_no_fractions_are_classes(tmp_path, caplog, labels):
    text = "".join("text %d\t%s\n" % item for item in enumerate(labels * 3))
    read_tsv(tmp_path / "train.tsv", "text\tlabel\n" + text)
    assert "fractions" not in caplog.text


def test_labels_have_one_order_in_all_processes(tmp_path):
    path = tmp_path / "train.tsv"
    labels = ["01", "1", "①", "²", "٣", "a", "b", "10", "9"]
    path.write_text("text\tlabel\n" + "".join("x\t%s\n" % x for x in labels), encoding="utf-8")
    program = "from theseus.inputs import inferred_task, tasks; "
    program += "task = inferred_task.infer_task(tasks.TASKS['custom'], %r); " % str(path)
    program += "print(ascii(task.labels))"
    found = {
        subprocess.check_output(
            [sys.executable, "-c", program],
            cwd=ROOT,
            env=dict(os.environ, PYTHONHASHSEED=seed),
            stderr=subprocess.DEVNULL,
        )
        for seed in "123"
    }
    assert len(found) == 1


def test_a_header_of_unusual_names_is_known_again_in_the_command(tmp_path, caplog):
    """Also if the labels are known from then on, and in another file."""
    rows = "".join("well said, no %d\t%d\n" % (n, n % 2) for n in range(8))
    task = tasks.with_columns(tasks.TASKS["custom"], tasks.NamedColumns("1", None, "2"))
    form = sources.ReadOptions()
    for name in ("train.tsv", "dev.tsv"):
        (tmp_path / name).write_text("what they said\tangry\n" + rows)
    task = inferred_task.infer_task(task, str(tmp_path / "train.tsv"), form)
    assert task.labels == ("0", "1")
    for name in ("train.tsv", "dev.tsv"):
        assert len(reading.read_examples(str(tmp_path / name), task, form=form)) == 8
    assert caplog.text.count("is read as a header; --header=no reads it as a row") == 1
    for header, count in [("yes", 8), ("no", 9)]:
        form = sources.ReadOptions(header=header)
        path, one = str(tmp_path / "train.tsv"), tasks.of_one_text(ONE_TEXT)
        assert len(reading.read_examples(path, one, False, form)) == count


@pytest.mark.parametrize(
    "text, columns, message",
    [
        (
            "a\tb\t1\n",
            (None,) * 3,
            "line 1: expected a header with text_a, label, found a, b, 1; give",
        ),
        ("text\tkind\na\t1\n", (None,) * 3, "line 1: expected a header with text_a, label"),
        (
            "text\tlabel\na\t1\nb\t0\n",
            ("body", None, None),
            "a header with body, label, found text",
        ),
        ("text\tlabel\na\t1\nb\t0\n", ("text", "other", None), "a header with text, other, label"),
        (
            "a\t1\nb\t0\n",
            ("1", None, "3"),
            r"line 1: expected a column 3 \(--label_column\), found 2 columns",
        ),
        ("text\tlabel\na\t1\nb\t1\n", (None,) * 3, "expected at least two labels, found only '1'"),
        ("", (None,) * 3, "holds no example"),
    ],
)
def test_a_tsv_that_does_not_fit_is_refused(tmp_path, text, columns, message):
    with pytest.raises(UserError, match=message):
        read_tsv(tmp_path / "train.tsv", text, columns)


def test_a_trained_tsv_is_known_again_from_its_record(tmp_path):
    task, _ = read_tsv(tmp_path / "train.tsv", "text\tlabel\na\tno\nb\tyes\n")
    record = {"task_name": "custom", "labels": ["no", "yes"], "num_texts": 1}
    assert tasks.recorded(record) == task
    path = tmp_path / "new.tsv"
    path.write_text("id\ttext\n1\tx\n")
    found = reading.read_examples(str(path), tasks.recorded(record), labels_required=False)
    assert found == [Example("x", None, None)]


def test_texts_alone_are_found_by_number_without_a_header(tmp_path):
    record = {"task_name": "custom", "labels": ["no", "yes"], "num_texts": 1}
    task = tasks.with_columns(tasks.TASKS["custom"], tasks.NamedColumns("1", None, None))
    path = tmp_path / "new.tsv"
    path.write_text("x\ny\n")
    task = tasks.recorded(record, task)
    found = reading.read_examples(str(path), task, labels_required=False)
    assert found == [Example("x", None, None), Example("y", None, None)]
    with pytest.raises(UserError, match="line 1: expected text_a, label, separated by tabs"):
        reading.read_examples(str(path), task)


# --- CSV and JSON Lines ---

CSV = """text_a,text_b,label
"he said ""hi"", then",b,1
"two
lines",,0
"""


def test_csv_has_quotation_marks_and_line_ends_in_its_cells(tmp_path):
    path = tmp_path / "train.csv"
    path.write_text(CSV, encoding="utf-8")
    expected = [Example('he said "hi", then', "b", "1"), Example("two\nlines", "", "0")]
    assert reading.read_examples(str(path), TASK) == expected
    path.write_text(CSV.replace("\n", "\r\n"), encoding="utf-8-sig")
    assert [example.label for example in reading.read_examples(str(path), TASK)] == ["1", "0"]


def test_json_lines_have_their_columns_by_name_in_any_order(tmp_path):
    path = tmp_path / "train.jsonl"
    rows = [
        {"id": 7, "label": 1, "text_b": "b\tc", "text_a": "a", "more": {"x": [1]}},
        {"text_a": "é", "text_b": None, "label": "0", "id": 8, "more": None, "new": 1},
    ]
    path.write_text("".join(json.dumps(row) + "\n\n" for row in rows))
    found = reading.read_examples(str(path), TASK)
    assert found == [Example("a", "b\tc", "1"), Example("é", "", "0")]
    assert [example.row for example in found] == [0, 2]


@pytest.mark.parametrize(
    "name, text, message",
    [
        ("a.csv", 'a,b,1\n"c,d,0\n', "line 2: a quotation mark is opened but never closed"),
        ("a.csv", "a,b,1\nc\rd,e,0\n", "line 2: is not valid CSV: a carriage return outside"),
        (
            "a.csv",
            'a,b,1\n"c \\"d\\"",e,0\n',
            "line 2: is not valid CSV: .* is written twice",
        ),
        ("a.csv", "a,b,1\nc,d\n", "line 2: expected 3 columns, separated by commas, as in the fi"),
        ("a.csv", 'a,b,1\n"c"x,"d",0\n', "line 2: is not valid CSV: "),
        ("a.jsonl", '{"text_a": "a"}\n', "line 1: expected .*text_b.*, found"),
        ("a.jsonl", "{}\n", "line 1: expected "),
        ("a.jsonl", "5\n", "line 1: is not a JSON object: expected an object, found"),
        (
            "a.jsonl",
            '{\n"text_a": "a"\n}\n',
            "line 1: is not a JSON object.*; convert the file with jq -c . old.json > new.jsonl",
        ),
        ("a.jsonl", '{"text_a": "a", \n', "line 1: is not a JSON object: "),
        (
            "a.jsonl",
            '{"text_a": "a", "text_b": "b", "label": 1}\n{"text_a": "a", "text_b": "b"}\n',
            "line 2: lacks 'label', which the first object has",
        ),
        (
            "a.jsonl",
            '{"text_a": "a", "text_b": "", "label": 1}\n{"text_a": "a", "label": 1}\n',
            "line 2: lacks 'text_b', which the first object has",
        ),
        (
            "a.jsonl",
            '{"text_a": "a", "text_b": "b", "label": 1}\n{"text_a": [], "text_b": "", "label": 1}',
            "line 2: expected two texts, found a list or an object",
        ),
        (
            "a.jsonl",
            '{"text_a": "a", "text_b": "b", "label": 1}\n{"text_a": NaN, "text_b": "", "label": 1}',
            "line 2: is not a JSON object: NaN is not a JSON number",
        ),
    ],
)
def test_a_mistake_in_them_is_named(tmp_path, name, text, message):
    path = tmp_path / name
    path.write_text(text, encoding="utf-8")
    with pytest.raises(UserError, match="%s, %s" % (name, message)):
        reading.read_examples(str(path), TASK)


def test_bad_lines_of_them_can_be_left_out(tmp_path):
    good = '{"text_a": "a", "text_b": "b", "label": 1}\n'
    path = tmp_path / "a.jsonl"
    path.write_text(good + "{\n" + good)
    form = sources.ReadOptions(skip_bad_lines=True)
    assert len(reading.read_examples(str(path), TASK, form=form)) == 2
    path = tmp_path / "a.csv"
    path.write_text('a,b,1\n"c"x,d,0\ne,f,0\n')
    form = sources.ReadOptions(skip_bad_lines=True)
    assert [example.text_a for example in reading.read_examples(str(path), TASK, form=form)] == [
        "a",
        "e",
    ]


def test_a_quotation_mark_that_is_not_closed_does_not_take_the_memory(tmp_path):
    path = tmp_path / "a.csv"
    path.write_text('a,b,1\n"c,d,0\n' + "e,f,1\n" * 400000)
    with pytest.raises(UserError, match="line 2: a quotation mark is opened but never closed"):
        reading.read_examples(str(path), TASK)


@pytest.mark.parametrize("format", rows.FORMATS)
def test_what_is_written_is_read_back(tmp_path, format):
    texts = ["plain", "a\ttab", 'quo"tes, and commas', "  spaces ", "一\u2028二", "1"]
    names = ["text_a", "text_b", "label"]
    path = tmp_path / "file"
    lines = [rows.write_row(names, [text, text[::-1], "1"], format) for text in texts]
    head = [] if format == "jsonl" else [rows.write_row(names, names, format)]
    path.write_text("".join(head + lines), encoding="utf-8")
    if format == "tsv":  # As the module csv reads it; this program's own rows have no quotes.
        with open(str(path), encoding="utf-8", newline="") as reader:
            found = [row[:2] for row in csv.reader(reader, delimiter="\t")][1:]
    else:
        form = sources.ReadOptions(format=format)
        found = [
            [example.text_a, example.text_b]
            for example in reading.read_examples(str(path), TASK, form=form)
        ]
    assert found == [[text, text[::-1]] for text in texts]


@pytest.mark.parametrize(
    "name, text, message",
    [
        ("a.txt", "id\ttext\tlabel\n1\ta\t0\n2\tb\t1\n", "found a header that calls column 1 id"),
        (
            "a.txt",
            "text\tlabel\tsource\na\t1\tx\nb\t0\ty\n",
            "found a header that calls column 2 label",
        ),
        ("a.csv", "编号,标题,标签\n1,a,0\n2,b,1\n", "found a header that calls column 1 编号"),
        (
            "a.jsonl",
            '{"id": 1, "text": "a", "label": 1}\n',
            "line 1: .* found a header that calls column 1",
        ),
    ],
)
def test_a_header_that_says_otherwise_than_the_places_is_refused(tmp_path, name, text, message):
    path = tmp_path / name
    path.write_text(text, encoding="utf-8")
    with pytest.raises(UserError, match=message + ".*name the columns text_a, text_b and label"):
        reading.read_examples(str(path), TASK, labels_required=False)


def test_a_header_of_other_names_in_the_usual_places_is_one(tmp_path):
    path = tmp_path / "a.txt"
    path.write_text("question\tanswer\tlabel\na b\tc d\t1\ne f\tg h\t0\n")
    assert reading.read_examples(str(path), TASK) == [
        Example("a b", "c d", "1"),
        Example("e f", "g h", "0"),
    ]


def read_leniently(path):
    return reading.read_examples(str(path), TASK, form=sources.ReadOptions(skip_bad_lines=True))


@pytest.mark.parametrize("after", [5, 500])
def test_a_stray_quotation_mark_takes_no_line_but_its_own(tmp_path, after, caplog):
    good = ["%d,x,1" % n for n in range(after)]
    path = tmp_path / "a.csv"
    path.write_text("\n".join(["a,b,1", '"c,d,0'] + good) + "\n")
    with caplog.at_level("WARNING"):
        found = read_leniently(path)
    assert [example.text_a for example in found] == ["a"] + [str(n) for n in range(after)]
    assert "skipped 1 of %d lines" % (after + 2) in caplog.text


def test_quotation_marks_of_a_tsv_are_said_with_the_flags_that_remove_them(tmp_path, caplog):
    text = '"text"\t"label"\n"a"\t"1"\n"b"\t"0"\n'
    task, _ = read_tsv(tmp_path / "train.tsv", text)
    assert task.labels == ('"0"', '"1"')
    assert "(--format=csv --delimiter=tab removes them)" in caplog.text
    form = sources.ReadOptions(format="csv", delimiter="tab")
    path = str(tmp_path / "train.tsv")
    assert inferred_task.infer_task(tasks.TASKS["custom"], path, form).labels == ("0", "1")


def test_a_quotation_mark_within_a_cell_of_csv_is_text(tmp_path):
    path = tmp_path / "a.csv"
    path.write_text('5" pipe,b,1\n6,7" x,0\n"a ""b"" c","d\ne",1\n')
    assert reading.read_examples(str(path), TASK) == [
        Example('5" pipe', "b", "1"),
        Example("6", '7" x', "0"),
        Example('a "b" c', "d\ne", "1"),
    ]


def test_a_bad_line_within_quotation_marks_takes_its_record_alone(tmp_path):
    path = tmp_path / "a.csv"
    path.write_text('a,b,1\n"c\n\0\nd",e,0\nf,g,1\n')
    assert [example.text_a for example in read_leniently(path)] == ["a", "f"]


def test_a_cell_of_csv_may_be_as_long_as_it_is(tmp_path):
    path = tmp_path / "a.csv"
    path.write_text("%s,b,1\nc,d,0\n" % ("a" * 200000))
    assert len(reading.read_examples(str(path), TASK)[0].text_a) == 200000


@pytest.mark.parametrize(
    "text, message",
    [("\\ud83d", "holds half a character"), ("\\u0000", "holds a NUL")],
)
def test_what_json_escapes_must_be_text(tmp_path, text, message):
    path = tmp_path / "a.jsonl"
    good = '{"text_a": "\\ud83d\\ude00", "text_b": "b", "label": 1}\n'
    path.write_text(good + good.replace("b", text, 2).replace("text_" + text, "text_b"))
    with pytest.raises(UserError, match="line 2: " + message):
        reading.read_examples(str(path), TASK)
    path.write_text(good)
    assert reading.read_examples(str(path), TASK)[0].text_a == "😀"


def test_numbers_of_json_are_texts_as_they_are_written(tmp_path):
    path = tmp_path / "a.jsonl"
    path.write_text('{"text_a": 0.10, "text_b": 1e3, "label": 1}\n')
    assert reading.read_examples(str(path), TASK) == [Example("0.10", "1e3", "1")]


def test_labels_of_json_are_no_lists(tmp_path):
    with pytest.raises(UserError, match="line 2: expected a label, found a list or an object"):
        path = tmp_path / "a.jsonl"
        path.write_text('{"text": "a", "label": 1}\n{"text": "b", "label": [1]}\n')
        inferred_task.infer_task(tasks.TASKS["custom"], str(path))


def test_labels_that_often_stand_for_none_are_said(tmp_path, caplog):
    with caplog.at_level("WARNING"):
        read_tsv(tmp_path / "train.tsv", "text\tlabel\na\tnan\nb\tyes\nc\tnan\nd\tyes\n")
    assert "'nan' is treated like any other label" in caplog.text


@pytest.mark.parametrize("text", ["1_000", "１", "3e38", "0x1", "1e", "nan", "."])
def test_what_is_no_number_for_a_loss_is_refused(tmp_path, text):
    path = tmp_path / "a.tsv"
    path.write_text("sentence1\tsentence2\tscore\na\tb\t%s\n" % text, encoding="utf-8")
    with pytest.raises(UserError, match="line 2: expected a number"):
        reading.read_examples(str(path), tasks.TASKS["sts-b"])


def test_a_runs_record_tells_how_its_files_are_read(tmp_path):
    path = tmp_path / "dev.txt"
    path.write_bytes("手机,电脑,1\n坏,了,0\n".encode("gb18030"))
    held = {"header": "no", "encoding": "gb18030", "format": "csv", "skip_bad_lines": None}
    found = reading.read_examples(str(path), TASK, form=sources.recorded_options(held, str(path)))
    assert found == [Example("手机", "电脑", "1"), Example("坏", "了", "0")]
    form = sources.recorded_options(held, "dev.jsonl")
    assert (form.format, form.header, form.skip_bad_lines) == ("auto", "no", False)


def test_what_cannot_be_read_on_is_one_line_and_never_left_out(tmp_path):
    path = tmp_path / "a.txt"
    path.write_bytes(b"a\tb\t1\n")
    for skips in (False, True):
        form = sources.ReadOptions(encoding="utf-16", skip_bad_lines=skips)
        with pytest.raises(UserError, match="a.txt, about line 1: cannot be read as utf-16 from"):
            reading.read_examples(str(path), TASK, form=form)
        with pytest.raises(UserError, match="a.txt, about line 1: cannot be read as utf-16 from"):
            inferred_task.infer_task(tasks.TASKS["custom"], str(path), form)
