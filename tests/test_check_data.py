"""Tests of check_data.py's table and findings, against counts by hand."""

import types

import pytest

import check_data
from conftest import VOCABULARY, write_bert

TRAIN = [
    ("手机不好", "手机好", "1"),  # 3
    ("手机", "电脑", "0"),
    ("手机不好", "手机好", "1"),  # again
    ("手机", "电脑", "1"),  # again, with another label
    ("怎么", "☃", "0"),  # [UNK]
]
DEV = [
    ("手机", "电脑", "1"),  # in train, whose first has another label
    ("手机不好", "手机好", "1"),  # in train
    ("手机不好", "怎么", "0"),  # one text in train
    ("电", "脑", "0"),
]


@pytest.fixture(autouse=True)
def options(monkeypatch, tmp_path):
    """The script's flags, of a folder with train and dev."""
    write_bert(tmp_path / "bert")
    for name, rows in (("train", TRAIN), ("dev", DEV)):
        text = "".join("\t".join(row) + "\n" for row in rows)
        (tmp_path / (name + ".txt")).write_text(text, encoding="utf-8")
    values = types.SimpleNamespace(
        data_dir=str(tmp_path),
        task_name="lcqmc_pair",
        bert_pretrained_model=str(tmp_path / "bert"),
        max_seq_length=9,
        do_lower_case=True,
        header="auto",
        format="auto",
        delimiter=None,
        encoding=None,
        skip_bad_lines=False,
        text_a_column=None,
        text_b_column=None,
        label_column=None,
        labels=[],
        show=3,
    )
    monkeypatch.setattr(check_data, "FLAGS", values)
    return values


def table(capsys):
    """Returns (a dict from what to its cells, the lines after the table)."""
    check_data.main(["check_data.py"])
    lines = capsys.readouterr().out.splitlines()
    cells = {
        line[: -12 * 2].strip(): line[-12 * 2 :].split() for line in lines if " | " not in line
    }
    return cells, [line for line in lines if " | " in line]


def test_what_is_counted(capsys):
    assert set("手机不好电脑怎么") <= set(VOCABULARY) and "☃" not in VOCABULARY
    found, lines = table(capsys)
    assert found["examples"] == ["5", "4"]
    assert found["label 0"] == ["40.0%", "50.0%"] and found["label 1"] == ["60.0%", "50.0%"]
    # With [CLS] and two [SEP]: 10, 7, 10, 7, 6; and 7, 10, 9, 5.
    assert found["tokens, median"] == ["7", "8"] and found["tokens, longest"] == ["10", "10"]
    assert found["longer than --max_seq_length=9"] == ["2", "1"]
    assert found["[UNK]"] == ["4.000%", "0.000%"]  # 1 of 25.
    assert found["occur twice"] == ["2", "0"]
    assert found["occur in train"] == ["-", "2"]
    assert found["have a text that occurs in train"] == ["-", "1"]
    assert lines == [
        "train, example 4: same texts, another label than train, example 2: 手机 | 电脑",
        "train, example 3: same texts as train, example 1: 手机不好 | 手机好",
        "train, example 4: same texts as train, example 2: 手机 | 电脑",
        "dev, example 1: same texts, another label than train, example 2: 手机 | 电脑",
        "dev, example 1: same texts as train, example 2: 手机 | 电脑",
        "dev, example 2: same texts as train, example 1: 手机不好 | 手机好",
    ]


def test_other_labels_of_the_same_texts_are_counted(capsys):
    check_data.main(["check_data.py"])
    lines = capsys.readouterr().out.splitlines()
    again, in_train = [line.split() for line in lines if "  with another label" in line]
    assert again[-2:] == ["1", "0"] and in_train[-2:] == ["-", "1"]


def test_two_texts_in_the_other_order_are_another_pair(options, capsys, tmp_path):
    """Each text occurs in train but no pair does; so there are no contradicting labels."""
    swapped = [(b, a, "0") for a, b, _ in TRAIN[:2]]
    for name, rows in (("train", TRAIN[:2] + swapped[:1]), ("dev", swapped[1:])):
        text = "".join("\t".join(row) + "\n" for row in rows)
        (tmp_path / (name + ".txt")).write_text(text, encoding="utf-8")
    found, lines = table(capsys)
    assert found["occur twice"] == ["0", "0"] and found["occur in train"] == ["-", "0"]
    assert found["with another label"] == ["-", "0"] and lines == []
    assert found["have a text that occurs in train"] == ["-", "1"]


def test_columns_and_labels_are_found_as_for_training(options, capsys, tmp_path):
    train, test = "text\tlabel\n好\tgut\n差\tschlecht\n好\tgut\n", "text\n好\n差\n"
    (tmp_path / "train.tsv").write_text(train, encoding="utf-8")
    (tmp_path / "test.tsv").write_text(test, encoding="utf-8")
    for name in ("train", "dev"):
        (tmp_path / (name + ".txt")).unlink()
    options.task_name, options.text_a_column, options.label_column = "custom", "text", "label"
    found, lines = table(capsys)
    assert found["label gut"] == ["66.7%", "0.0%"] and found["no label"] == ["0.0%", "100.0%"]
    assert found["occur in train"] == ["-", "2"]
    assert "have a text that occurs in train" not in found and lines == []


def test_given_labels_leave_the_number_of_texts_to_the_data(options, capsys, tmp_path):
    for name in ("train", "dev"):
        (tmp_path / (name + ".txt")).unlink()
        (tmp_path / (name + ".tsv")).write_text("text\tlabel\n好\tgut\n差\tschlecht\n")
    options.task_name, options.labels = "custom", ["schlecht", "gut"]
    found, _ = table(capsys)
    assert found["label gut"] == ["50.0%", "50.0%"]
    options.labels = ["gut", "gut"]
    with pytest.raises(
        SystemExit, match="check_data.py: --labels: expected two or more different labels"
    ):
        check_data.main(["check_data.py"])


@pytest.mark.parametrize(
    "values, message",
    [
        (dict(encoding="ansi"), "--encoding: Python knows no such encoding"),
        (dict(delimiter=";"), "--delimiter takes one character, or tab, and needs --format=csv"),
        (dict(format="csv", delimiter=";;"), "--delimiter takes one character"),
        (dict(text_a_column="1"), "--text_a_column, .* apply only to --task_name=custom"),
        (dict(labels=["a", "b"]), "--labels applies only to --task_name=custom"),
    ],
)
def test_flags_that_a_training_refuses_are_refused(options, values, message):
    options.__dict__.update(values)
    with pytest.raises(SystemExit, match="check_data.py: " + message):
        check_data.main(["check_data.py"])


def test_a_text_of_several_lines_is_listed_on_one(options, capsys, tmp_path):
    for name in ("train", "dev"):
        (tmp_path / (name + ".txt")).unlink()
        (tmp_path / (name + ".csv")).write_text('"手机\n不好",手机好,1\n', encoding="utf-8")
    _, (line,) = table(capsys)
    assert line.endswith("train, example 1: 手机 不好 | 手机好")


def test_an_earlier_name_of_a_task_is_taken(options, capsys):
    options.__dict__.update(task_name="tsv", text_a_column="1", text_b_column="2", label_column="3")
    assert table(capsys)[0]["label 0"] == ["40.0%", "50.0%"]


@pytest.mark.parametrize("name", ["train", "bert"])
def test_what_is_missing_is_one_line(options, name):
    if name == "train":
        options.data_dir = options.bert_pretrained_model
    else:
        options.bert_pretrained_model = options.data_dir
    with pytest.raises(SystemExit) as caught:
        check_data.main(["check_data.py"])
    assert caught.value.code.startswith("check_data.py: ") and "\n" not in caught.value.code


def test_a_split_that_is_there_twice_is_one_line(options, tmp_path):
    (tmp_path / "dev.csv").write_text("a,b,1\n")
    with pytest.raises(SystemExit) as caught:
        check_data.main(["check_data.py"])
    assert "both exist" in caught.value.code


def test_bad_lines_can_be_left_out(options, capsys, tmp_path):
    with open(str(tmp_path / "dev.txt"), "a", encoding="utf-8") as writer:
        writer.write("一行\n")
    options.skip_bad_lines = True
    assert table(capsys)[0]["examples"] == ["5", "4"]
