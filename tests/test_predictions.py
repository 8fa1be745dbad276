"""Predictions as a user reads them, the logits that they are made of, and what that imports."""

import csv
import io
import json
import subprocess
import sys

import numpy as np
import pytest

from conftest import ROOT, encoded_rows
from theseus.errors import UserError
from theseus.inference import predictions
from theseus.inputs import tasks
from theseus.inputs.reading import Example

predict = predictions.Predictions.of
TASK = tasks.TASKS["lcqmc_pair"]
LOGITS = np.log([[0.25, 0.75], [0.75, 0.25]])


@pytest.mark.parametrize("labels", [["1", "0"], [None, None]])
def test_predictions_keep_texts_labels_and_order(labels):
    examples = [Example("手机", "电脑", labels[0]), Example("a b", "c", labels[1])]
    writer = io.StringIO()
    assert predictions.write_predictions(writer, [(examples, predict(TASK, LOGITS))]) == 2
    header, first, second = [line.split("\t") for line in writer.getvalue().splitlines()]
    label = ["label"] if labels[0] else []
    expected = ["index", "text_a", "text_b"] + label
    expected += ["predicted_label", "probability_0", "probability_1"]
    assert header == expected
    assert first[:3] == ["0", "手机", "电脑"] and second[:3] == ["1", "a b", "c"]
    assert first[-3:] == ["1", "0.25000000", "0.75000000"]
    assert second[-3:] == ["0", "0.75000000", "0.25000000"]
    assert not labels[0] or (first[3], second[3]) == ("1", "0")


def test_predictions_above_a_threshold():
    examples = [Example("a", "b", None), Example("c", "d", None)]
    for threshold, expected in [(0.2, "11"), (0.74, "10"), (0.8, "00")]:
        writer = io.StringIO()
        predictions.write_predictions(writer, [(examples, predict(TASK, LOGITS, threshold))])
        rows = [line.split("\t") for line in writer.getvalue().splitlines()[1:]]
        assert "".join(row[3] for row in rows) == expected


def test_predictions_of_one_text_and_of_a_number():
    writer, single = io.StringIO(), tasks.TASKS["sst-2"]
    pools = [
        ([Example("好", None, "0")], predict(single, np.zeros([1, 2]))),
        ([Example("坏", None, "1")], predict(single, LOGITS[:1])),
    ]
    assert predictions.write_predictions(writer, pools) == 2
    header, first, second = [line.split("\t") for line in writer.getvalue().splitlines()]
    assert header[:4] == ["index", "text_a", "label", "predicted_label"] and len(header) == 6
    assert first[:3] == ["0", "好", "0"]
    assert second == ["1", "坏", "1", "1", "0.25000000", "0.75000000"]
    writer = io.StringIO()
    logits = np.array([[3.5]], np.float32)
    pools = [([Example("a", "b", "4.2")], predict(tasks.TASKS["sts-b"], logits))]
    predictions.write_predictions(writer, pools)
    expected = "index\ttext_a\ttext_b\tlabel\tpredicted_score\n0\ta\tb\t4.2\t3.50000000\n"
    assert writer.getvalue() == expected


# What a reader of tab-separated text may take for something else than a text.
TEXTS = [
    '"手机',
    '"a" b',
    'a"',
    '"',
    '""',
    "a\rb",
    "\r",
    " a ",
    "'a'",
    "a\\",
    "#a",
    "a,b",
    "\u2028a",
]
TEXTS += ["\x85a", "\x0ba\x0c", "\ufeffa", "a\u3000", "\\t", "None of it", "NAN"]


def written_texts(path, texts):
    """Writes predictions for pairs of each text and the next one to a file."""
    pairs = [
        Example(a, b, None, row) for row, (a, b) in enumerate(zip(texts, texts[1:] + texts[:1]))
    ]
    with io.open(str(path), "w", encoding="utf-8", newline="\n") as writer:
        logits = np.zeros([len(pairs), 2])
        assert predictions.write_predictions(writer, [(pairs, predict(TASK, logits))]) == len(texts)
    return pairs


def test_predictions_come_back_whole_through_csv(tmp_path):
    texts = TEXTS + ["NA", "12", ""]
    pairs = written_texts(tmp_path / "predictions.tsv", texts)
    with io.open(str(tmp_path / "predictions.tsv"), encoding="utf-8", newline="") as reader:
        header, *rows = csv.reader(reader, delimiter="\t")
    assert [tuple(row[1:3]) for row in rows] == [tuple(pair[:2]) for pair in pairs]
    assert [row[0] for row in rows] == [str(n) for n in range(len(texts))]
    assert {len(row) for row in rows} == {len(header)}


def test_predictions_come_back_whole_through_pandas(tmp_path):
    pandas = pytest.importorskip("pandas")
    pairs = written_texts(tmp_path / "predictions.tsv", TEXTS)
    table = pandas.read_csv(str(tmp_path / "predictions.tsv"), sep="\t")
    assert list(zip(table.text_a, table.text_b)) == [tuple(pair[:2]) for pair in pairs]
    assert list(table["index"]) == list(range(len(TEXTS)))
    # What pandas by itself takes for a missing value keeps its row, and comes back so.
    texts = TEXTS + ["NA", "null", "12", ""]
    pairs = written_texts(tmp_path / "predictions.tsv", texts)
    path = str(tmp_path / "predictions.tsv")
    assert list(pandas.read_csv(path, sep="\t")["index"]) == list(range(len(texts)))
    table = pandas.read_csv(path, sep="\t", dtype=str, keep_default_na=False)
    assert list(zip(table.text_a, table.text_b)) == [tuple(pair[:2]) for pair in pairs]


def test_the_index_is_the_row_of_the_file_and_an_unknown_label_is_empty():
    writer = io.StringIO()
    examples = [Example("a", None, "", 0), Example("b", None, "1", 4)]
    pools = [(examples, predict(tasks.TASKS["sst-2"], LOGITS))]
    predictions.write_predictions(writer, pools)
    rows = [line.split("\t") for line in writer.getvalue().splitlines()]
    assert rows[0][:3] == ["index", "text_a", "label"]
    assert [row[:3] for row in rows[1:]] == [["0", "a", ""], ["4", "b", "1"]]


@pytest.mark.parametrize("format, delimiter", [("tsv", "\t"), ("csv", ";"), ("csv", ",")])
def test_other_columns_stand_behind_the_label(format, delimiter):
    """One that bears the name of another column is told apart from it."""
    others = [
        {"id": "7", "index": "x", "probability_1": 'a;b,"c"', "input_index": "\t"},
        {"id": "007", "index": "", "probability_1": "", "input_index": "é"},
    ]
    examples = [Example("a", "b", "0", n, other) for n, other in enumerate(others)]
    writer = io.StringIO()
    predictions.write_predictions(
        writer, [(examples, predict(TASK, LOGITS))], format=format, delimiter=delimiter
    )
    header, *rows = csv.reader(io.StringIO(writer.getvalue()), delimiter=delimiter)
    expected = "index text_a text_b label id input_index input_probability_1 input_input_index "
    expected += "predicted_label probability_0 probability_1"
    assert header == expected.split()
    assert [row[4:8] for row in rows] == [list(other.values()) for other in others]
    assert [row[:4] for row in rows] == [["0", "a", "b", "0"], ["1", "a", "b", "0"]]
    assert [row[8] for row in rows] == ["1", "0"]


def test_other_keys_of_json_lines_are_written_as_they_came():
    others = [{"id": 0, "tags": ["é", 1.5]}, {"new": None, "text_a": "\ud800"}]
    examples = [Example("手", None, None, n, other) for n, other in enumerate(others)]
    writer = io.StringIO()
    task = tasks.TASKS["sst-2"]
    predictions.write_predictions(writer, [(examples, predict(task, LOGITS))], format="jsonl")
    first, second = writer.getvalue().splitlines()
    assert first.startswith(
        '{"index": 0, "text_a": "手", "id": 0, "tags": ["é", 1.5], "predicted_la'
    )
    found = json.loads(second)
    assert list(found)[:5] == ["index", "text_a", "new", "input_text_a", "predicted_label"]
    assert found["new"] is None and found["input_text_a"] == "\ud800" and found["text_a"] == "手"
    writer.getvalue().encode("utf-8")  # Half a character can be written as an escape alone.


def of_first_token(arrays):
    """A classifier whose logits are known: those of row n are (0, n)."""
    rows = arrays["input_ids"][:, 0] - 1
    return np.stack([np.zeros(len(rows)), rows], axis=1).astype(np.float32)


@pytest.mark.parametrize("batch_size", [1, 2, 64])
def test_logits_come_in_the_order_of_the_rows(batch_size):
    logits = predictions.compute_logits(of_first_token, encoded_rows([9, 3, 7, 3, 5]), batch_size)
    assert logits.tolist() == [[0, row] for row in range(5)]


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_a_single_logit_that_is_no_finite_number_is_refused(value):
    def run(arrays):
        logits = of_first_token(arrays)
        return np.where(logits == 3, value, logits)

    with pytest.raises(UserError, match="logits are not finite numbers"):
        predictions.compute_logits(run, encoded_rows([9, 3, 7, 3, 5]), 2)


class Encoded(object):
    """Rows of those lengths; a batch's arrays are its row numbers."""

    padded_lengths = ()

    def __init__(self, lengths):
        self.lengths = np.array(lengths)

    def __len__(self):
        return len(self.lengths)

    def batch(self, rows):
        return {"rows": rows}


def test_logits_are_in_the_order_of_the_rows_whatever_their_lengths():
    encoded = Encoded([9, 5, 30, 7, 12, 6, 8])
    seen = []

    def run(arrays):
        seen.append(arrays["rows"].tolist())
        return np.stack([arrays["rows"], -arrays["rows"]], axis=1).astype(np.float32)

    expected = [[row, -row] for row in range(7)]
    assert predictions.compute_logits(run, encoded, 3).tolist() == expected
    assert seen == [[1, 5, 3], [6, 0, 4], [2]]


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_a_logit_that_is_not_a_number_is_refused_in_any_batch(value):
    def run(arrays):
        logits = np.zeros([len(arrays["rows"]), 2], np.float32)
        logits[arrays["rows"] == 4, 1] = value
        return logits

    with pytest.raises(UserError, match="not finite numbers: its training has diverged"):
        predictions.compute_logits(run, Encoded([9, 5, 30, 7, 12]), 2)


@pytest.mark.parametrize(
    "name",
    [
        "theseus.inference.predictions",
        "theseus.inputs.reading",
        "theseus.inputs.tokenizer_settings",
        "theseus.inputs.encoding",
        "theseus.records",
        "tokenization",
    ],
)
def test_what_reads_encodes_and_predicts_imports_neither_tensorflow_nor_scikit_learn(name):
    code = "import sys, %s; print(sorted({'tensorflow', 'sklearn', 'scipy'} & set(sys.modules)))"
    found = subprocess.check_output([sys.executable, "-c", code % name], cwd=ROOT)
    assert found.decode().strip() == "[]"
