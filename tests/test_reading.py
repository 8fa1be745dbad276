"""Files as users hold them: headers, columns, labels, and mistakes in them."""

import dataclasses

import pytest

from theseus.errors import UserError
from theseus.inputs import reading, tasks
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
        ("a\tb\t1\na\tb\t2\n", "train.txt, line 2: expected a label of 0, 1; found '2'"),
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


def test_a_file_with_commas_is_refused(tmp_path):
    path = tmp_path / "test.csv"
    path.write_text("a,b\n", encoding="utf-8")
    with pytest.raises(UserError, match="line 1: expected text_a, text_b, sep.*found 1 column$"):
        reading.read_examples(str(path), TASK, labels_required=False)


def test_a_file_in_another_encoding_is_refused(tmp_path):
    path = tmp_path / "train.txt"
    path.write_bytes("手机\t电脑\t1\n".encode("gbk"))
    with pytest.raises(UserError, match="cannot be read as UTF-8"):
        reading.read_examples(str(path), TASK)


def test_a_split_is_a_txt_or_a_tsv(tmp_path):
    with pytest.raises(UserError, match="neither exists"):
        reading.find_files(str(tmp_path), TASK, "dev")
    (tmp_path / "dev.tsv").write_text("")
    assert reading.find_files(str(tmp_path), TASK, "dev") == [str(tmp_path / "dev.tsv")]
    (tmp_path / "dev.txt").write_text("")
    with pytest.raises(UserError, match="both exist"):
        reading.find_files(str(tmp_path), TASK, "dev")


def test_a_sample_is_fixed_in_order_and_part_of_a_larger_one():
    examples = [Example(str(n), "", "0") for n in range(100)]
    few, more = (reading.sample_examples(examples, count) for count in (10, 40))
    assert len(few) == 10 and set(few) < set(more) < set(examples)
    assert few == sorted(few, key=examples.index) == reading.sample_examples(examples, 10)
    assert reading.sample_examples(examples, 500) == examples
    assert reading.sample_examples(examples, None) == examples


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
    found = reading.find_files(str(tmp_path), tasks.TASKS["mnli"], "dev")
    assert found == [str(tmp_path / "dev_matched.tsv"), str(tmp_path / "dev_mismatched.tsv")]
    with pytest.raises(UserError, match="test_mismatched.tsv: neither exists"):
        reading.find_files(str(tmp_path), tasks.TASKS["mnli"], "test")


@pytest.mark.parametrize("label", ["", "five", "nan", "inf"])
def test_a_score_is_a_number(tmp_path, label):
    path = tmp_path / "train.tsv"
    path.write_text("sentence1\tsentence2\tscore\na\tb\t%s\n" % label)
    with pytest.raises(UserError, match="line 2: expected a number; found"):
        reading.read_examples(str(path), tasks.TASKS["sts-b"])


# --- Data of a user's own ---


def read_tsv(path, text, columns=(None, None, None), labels=None):
    """Returns (the completed task, the examples) of a file with that text."""
    path.write_text(text, encoding="utf-8")
    task = tasks.with_columns(tasks.TASKS["tsv"], tasks.Columns(*columns))
    if labels:
        task = dataclasses.replace(task, labels=labels)
    task = reading.complete_task(task, str(path))
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
    with pytest.raises(UserError, match="line 3: expected a label of no, maybe; found 'yes'"):
        read_tsv(tmp_path / "a.tsv", text, labels=("no", "maybe"))


@pytest.mark.parametrize(
    "text, columns, message",
    [
        (
            "a\tb\t1\n",
            (None,) * 3,
            "line 1: expected a header with text_a, label; found a, b, 1; name",
        ),
        ("text\tkind\na\t1\n", (None,) * 3, "line 1: expected a header with text_a, label"),
        (
            "text\tlabel\na\t1\nb\t0\n",
            ("body", None, None),
            "a header with body, label; found text",
        ),
        ("text\tlabel\na\t1\nb\t0\n", ("text", "other", None), "a header with text, other, label"),
        (
            "a\t1\nb\t0\n",
            ("1", None, "3"),
            "line 1: expected text_a, label, separated by tabs; found 2",
        ),
        ("text\tlabel\na\t1\nb\t1\n", (None,) * 3, "holds no label but '1'"),
        ("", (None,) * 3, "holds no example"),
    ],
)
def test_a_tsv_that_does_not_fit_is_refused(tmp_path, text, columns, message):
    with pytest.raises(UserError, match=message):
        read_tsv(tmp_path / "train.tsv", text, columns)


def test_a_trained_tsv_is_known_again_from_its_record(tmp_path):
    task, _ = read_tsv(tmp_path / "train.tsv", "text\tlabel\na\tno\nb\tyes\n")
    record = {"task_name": "tsv", "labels": ["no", "yes"], "num_texts": 1}
    assert tasks.recorded(record) == task
    path = tmp_path / "new.tsv"
    path.write_text("id\ttext\n1\tx\n")
    found = reading.read_examples(str(path), tasks.recorded(record), labels_required=False)
    assert found == [Example("x", None, None)]


def test_texts_alone_are_found_by_number_without_a_header(tmp_path):
    record = {"task_name": "tsv", "labels": ["no", "yes"], "num_texts": 1}
    task = tasks.with_columns(tasks.TASKS["tsv"], tasks.Columns("1", None, None))
    path = tmp_path / "new.tsv"
    path.write_text("x\ny\n")
    task = tasks.recorded(record, task)
    found = reading.read_examples(str(path), task, labels_required=False)
    assert found == [Example("x", None, None), Example("y", None, None)]
    with pytest.raises(UserError, match="line 1: expected text_a, label, separated by tabs"):
        reading.read_examples(str(path), task)
