"""Tests of hold_out.py: the held-out pairs, none of whose sentences are in train."""

import numpy as np
import pytest

import hold_out
from conftest import CHARACTERS, call_script, contents
from theseus.inputs import reading, rows


def write(folder, **splits):
    """Writes files of lines, each a str with | in the place of its tabs."""
    folder.mkdir()
    for name, lines in splits.items():
        text = "".join(line.replace("|", "\t") + "\n" for line in lines)
        (folder / (name + ".txt")).write_text(text, encoding="utf-8")


def lines_of(folder, name):
    text = (folder / (name + ".txt")).read_text(encoding="utf-8")
    assert text.endswith("\n")
    return [line.replace("\t", "|") for line in text[:-1].split("\n")]


def called(monkeypatch, *arguments):
    return call_script(monkeypatch, hold_out, *arguments)


TRAIN = ["甲一|乙一|0", "甲二|乙二|1", "甲三|乙三|0", "甲四|乙四|1", "甲五|乙五|0"]
DEV = ["丙一|丁一|1", "丙二|丁二|0"]


def test_the_last_pairs_are_held_out_and_the_rest_stays(tmp_path, monkeypatch, capsys):
    write(tmp_path / "source", train=TRAIN, dev=DEV)
    before = contents(tmp_path / "source")
    assert called(monkeypatch, tmp_path / "source", tmp_path / "target", "--pairs=2") is None
    found = {name: lines_of(tmp_path / "target", name) for name in ("train", "dev", "test")}
    assert found == {"train": TRAIN[:3], "dev": DEV, "test": TRAIN[3:]}
    assert capsys.readouterr().out == "train: 3 pairs\ndev: 2 pairs\ntest: 2 pairs\n"
    assert contents(tmp_path / "source") == before


@pytest.mark.parametrize(
    "shared", ["甲一|新|0", "新|甲一|0", "新|乙一|1", "丙一|新|1", "新|丁二|0"]
)
def test_a_pair_with_a_sentence_of_the_rest_or_of_dev_is_in_neither(tmp_path, monkeypatch, shared):
    write(tmp_path / "source", train=TRAIN + [shared, "旧|老|1"], dev=DEV)
    called(monkeypatch, tmp_path / "source", tmp_path / "target", "--pairs=3")
    assert lines_of(tmp_path / "target", "train") == TRAIN[:4]
    assert lines_of(tmp_path / "target", "test") == [TRAIN[4], "旧|老|1"]


def test_a_sentence_that_the_held_out_share_is_no_reason(tmp_path, monkeypatch):
    write(tmp_path / "source", train=TRAIN[:3] + ["新|甲|0", "新|乙|1"], dev=DEV)
    called(monkeypatch, tmp_path / "source", tmp_path / "target", "--pairs=2")
    assert lines_of(tmp_path / "target", "test") == ["新|甲|0", "新|乙|1"]


def test_of_many_pairs_no_held_out_sentence_is_in_the_rest_or_in_dev(tmp_path, monkeypatch):
    """Of few characters, so that sentences recur; by sets of whole cells."""
    random = np.random.RandomState(1)

    def pairs(count):
        texts = [
            "".join(random.choice(list(CHARACTERS[:9]), random.randint(1, 4)))
            for _ in range(2 * count)
        ]
        return ["%s|%s|%d" % (a, b, random.randint(2)) for a, b in zip(texts[::2], texts[1::2])]

    train = pairs(300)
    write(tmp_path / "source", train=train, dev=pairs(40))
    called(monkeypatch, tmp_path / "source", tmp_path / "target", "--pairs=100")
    cells = {
        name: {cell for line in lines_of(tmp_path / "target", name) for cell in line.split("|")[:2]}
        for name in ("train", "dev", "test")
    }
    assert not cells["test"] & (cells["train"] | cells["dev"])
    test = lines_of(tmp_path / "target", "test")
    assert 0 < len(test) < 100 and set(test) <= set(train[200:])
    assert lines_of(tmp_path / "target", "train") == train[:200]
    kept = cells["train"] | cells["dev"]
    left = [line for line in train[200:] if not kept & set(line.split("|")[:2])]
    assert test == left


def test_lines_come_back_whole(tmp_path, monkeypatch):
    """Quotation marks, spaces and odd characters are text."""
    train = ['"甲|乙"|0', " 甲 |乙\u3000|1", "'a' b,c|\\t#|0", "甲\u2028a|\ufeff乙|1"]
    write(tmp_path / "source", train=train, dev=DEV)
    called(monkeypatch, tmp_path / "source", tmp_path / "target", "--pairs=2")
    assert lines_of(tmp_path / "target", "train") == train[:2]
    assert lines_of(tmp_path / "target", "test") == train[2:]
    again = reading.read_examples(str(tmp_path / "target" / "test.txt"), hold_out.TASK)
    expected = reading.read_examples(str(tmp_path / "source" / "train.txt"), hold_out.TASK)[2:]
    assert again == expected


def test_by_default_8000_pairs_are_looked_at(tmp_path, monkeypatch):
    train = ["甲%d|乙%d|%d" % (n, n, n % 2) for n in range(8003)]
    write(tmp_path / "source", train=train, dev=DEV)
    called(monkeypatch, tmp_path / "source", tmp_path / "target")
    assert lines_of(tmp_path / "target", "train") == train[:3]


@pytest.mark.parametrize("pairs", [0, -1, 5, 6])
def test_a_number_of_pairs_that_leaves_nothing_is_one_line(tmp_path, monkeypatch, pairs):
    write(tmp_path / "source", train=TRAIN, dev=DEV)
    found = called(monkeypatch, tmp_path / "source", tmp_path / "target", "--pairs=%d" % pairs)
    assert found == "hold_out.py: --pairs: give a number from 1 to 4"
    assert not (tmp_path / "target").exists()


def test_pairs_that_all_occur_elsewhere_are_one_line(tmp_path, monkeypatch):
    write(tmp_path / "source", train=TRAIN[:3] + ["甲一|新|0"], dev=DEV)
    found = called(monkeypatch, tmp_path / "source", tmp_path / "target", "--pairs=1")
    assert found.startswith("hold_out.py: --pairs: each of the last 1 pairs shares a sentence")
    assert not (tmp_path / "target").exists()


@pytest.mark.parametrize("absent", ["train", "dev"])
def test_a_folder_without_train_or_dev_is_one_line(tmp_path, monkeypatch, absent):
    splits = dict(train=TRAIN, dev=DEV)
    del splits[absent]
    write(tmp_path / "source", **splits)
    found = called(monkeypatch, tmp_path / "source", tmp_path / "target")
    assert found.startswith("hold_out.py: ") and absent in found
    assert not (tmp_path / "target").exists()


def test_a_damaged_line_is_one_line_with_its_number(tmp_path, monkeypatch):
    write(tmp_path / "source", train=TRAIN + ["甲六|乙六"], dev=DEV)
    found = called(monkeypatch, tmp_path / "source", tmp_path / "target")
    assert "train.txt, line 6: expected 3 columns" in found


@pytest.mark.parametrize("name", ["source", "source/../source"])
def test_the_source_is_not_written_over(tmp_path, monkeypatch, name):
    write(tmp_path / "source", train=TRAIN, dev=DEV)
    before = contents(tmp_path / "source")
    found = called(monkeypatch, tmp_path / "source", str(tmp_path / "source" / ".." / name))
    assert "is also the source; give another target folder" in found
    assert contents(tmp_path / "source") == before


def test_a_target_that_cannot_be_made_is_one_line(tmp_path, monkeypatch):
    write(tmp_path / "source", train=TRAIN, dev=DEV)
    (tmp_path / "file").write_text("")
    found = called(monkeypatch, tmp_path / "source", tmp_path / "file" / "target", "--pairs=2")
    assert found.startswith("hold_out.py: ") and "cannot be created" in found


def test_a_folder_that_holds_a_split_is_left_as_it_is(tmp_path, monkeypatch):
    write(tmp_path / "source", train=TRAIN, dev=DEV)
    write(tmp_path / "target", test=["甲|乙|1"])
    before = contents(tmp_path / "target")
    found = called(monkeypatch, tmp_path / "source", tmp_path / "target", "--pairs=2")
    assert found.endswith("target: holds test already; give another folder")
    assert contents(tmp_path / "target") == before


@pytest.mark.parametrize("format", ["csv", "jsonl"])
def test_a_file_keeps_its_format_and_its_texts(tmp_path, monkeypatch, format):
    """Tabs, line ends and quotation marks too."""
    write(tmp_path / "source", dev=DEV)
    names = ["text_a", "text_b", "label"]
    pairs = [
        ["a\tb", 'say "hi"', "0"],
        ["c\nd", "e,f", "1"],
        ["g", "h", "0"],
        ["i\tj\nk", "l", "1"],
    ]
    header = [names] if format == "csv" else []
    lines = [rows.write_row(names, row, format) for row in header + pairs]
    (tmp_path / "source" / ("train." + format)).write_text("".join(lines), encoding="utf-8")
    assert called(monkeypatch, tmp_path / "source", tmp_path / "target", "--pairs=2") is None
    for name, expected in (("train", pairs[:2]), ("test", pairs[2:])):
        path = tmp_path / "target" / ("%s.%s" % (name, format))
        assert [
            list(example) for example in reading.read_examples(str(path), hold_out.TASK)
        ] == expected
    assert lines_of(tmp_path / "target", "dev") == DEV
