"""Predictions as a user reads them."""

import io

import numpy as np
import pytest

from theseus.errors import UserError
from theseus.inference import evaluation
from theseus.inputs import input_pipeline, tasks
from theseus.inputs.reading import Example

TASK = tasks.TASKS["lcqmc_pair"]
LOGITS = np.log([[0.25, 0.75], [0.75, 0.25]])


@pytest.mark.parametrize("labels", [["1", "0"], [None, None]])
def test_predictions_keep_texts_labels_and_order(labels):
    examples = [Example("手机", "电脑", labels[0]), Example("a b", "c", labels[1])]
    writer = io.StringIO()
    assert evaluation.write_predictions(writer, TASK, [(examples, LOGITS)]) == 2
    header, first, second = [line.split("\t") for line in writer.getvalue().splitlines()]
    label = ["label"] if labels[0] else []
    expected = ["text_a", "text_b"] + label + ["predicted_label", "probability_0", "probability_1"]
    assert header == expected
    assert first[:2] == ["手机", "电脑"] and second[:2] == ["a b", "c"]
    assert first[-3:] == ["1", "0.25000000", "0.75000000"]
    assert second[-3:] == ["0", "0.75000000", "0.25000000"]
    assert not labels[0] or (first[2], second[2]) == ("1", "0")


def test_predictions_above_a_threshold():
    examples = [Example("a", "b", None), Example("c", "d", None)]
    for threshold, expected in [(0.2, "11"), (0.74, "10"), (0.8, "00")]:
        writer = io.StringIO()
        evaluation.write_predictions(writer, TASK, [(examples, LOGITS)], threshold)
        rows = [line.split("\t") for line in writer.getvalue().splitlines()[1:]]
        assert "".join(row[2] for row in rows) == expected


def test_predictions_of_one_text_and_of_a_number():
    writer = io.StringIO()
    pools = [
        ([Example("好", None, "0")], np.zeros([1, 2])),
        ([Example("坏", None, "1")], LOGITS[:1]),
    ]
    assert evaluation.write_predictions(writer, tasks.TASKS["sst-2"], pools) == 2
    header, first, second = [line.split("\t") for line in writer.getvalue().splitlines()]
    assert header[:3] == ["text_a", "label", "predicted_label"] and len(header) == 5
    assert first[:2] == ["好", "0"] and second == ["坏", "1", "1", "0.25000000", "0.75000000"]
    writer = io.StringIO()
    pools = [([Example("a", "b", "4.2")], np.array([[3.5]], np.float32))]
    evaluation.write_predictions(writer, tasks.TASKS["sts-b"], pools)
    assert writer.getvalue() == "text_a\ttext_b\tlabel\tpredicted_score\na\tb\t4.2\t3.50000000\n"


def encoded_rows(lengths):
    """Rows whose tokens are all the row's number plus 1; of label 1 are the odd ones."""
    ids = np.concatenate([np.full(length, row + 1) for row, length in enumerate(lengths)])
    labels = np.arange(len(lengths)) % 2
    return input_pipeline.EncodedExamples(ids, lengths, lengths, labels)


def of_first_token(arrays):
    """A classifier whose logits are known: those of row n are (0, n)."""
    rows = arrays["input_ids"][:, 0] - 1
    return np.stack([np.zeros(len(rows)), rows], axis=1).astype(np.float32)


@pytest.mark.parametrize("batch_size", [1, 2, 64])
def test_logits_come_in_the_order_of_the_rows(batch_size):
    logits = evaluation.compute_logits(of_first_token, encoded_rows([9, 3, 7, 3, 5]), batch_size)
    assert logits.tolist() == [[0, row] for row in range(5)]


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_a_single_logit_that_is_no_finite_number_is_refused(value):
    def run(arrays):
        logits = of_first_token(arrays)
        return np.where(logits == 3, value, logits)

    with pytest.raises(UserError, match="logits are no finite numbers"):
        evaluation.compute_logits(run, encoded_rows([9, 3, 7, 3, 5]), 2)


def test_an_evaluation_compares_each_rows_logits_with_its_own_label():
    """Row n is predicted as n % 2, which is its label, but for row 4."""

    def run(arrays):
        rows = arrays["input_ids"][:, 0] - 1
        predicted = np.where(rows == 4, 1, rows % 2)
        return np.eye(2, dtype=np.float32)[predicted]

    values, _ = evaluation.evaluate(TASK, run, encoded_rows([9, 3, 7, 3, 5]), 2)
    assert (values["accuracy"], values["num_examples"]) == (4 / 5, 5)


class Encoded(object):
    """Rows of those lengths; a batch's arrays are its row numbers and its padded length."""

    def __init__(self, lengths):
        self.lengths = np.array(lengths)

    def __len__(self):
        return len(self.lengths)

    def batch(self, planned):
        return {"rows": planned.rows, "length": planned.length}


def test_logits_are_in_the_order_of_the_rows_whatever_their_lengths():
    encoded = Encoded([9, 5, 30, 7, 12, 6, 8])
    seen = []

    def run(arrays):
        seen.append((len(arrays["rows"]), arrays["length"]))
        return np.stack([arrays["rows"], -arrays["rows"]], axis=1).astype(np.float32)

    expected = [[row, -row] for row in range(7)]
    assert evaluation.compute_logits(run, encoded, 3).tolist() == expected
    assert seen == [(3, 7), (3, 12), (1, 30)]
    del seen[:]
    assert evaluation.compute_logits(run, encoded, 3, padded_length=40).tolist() == expected
    assert seen == [(3, 40), (3, 40), (1, 40)]


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_a_logit_that_is_no_number_is_refused_in_any_batch(value):
    def run(arrays):
        logits = np.zeros([len(arrays["rows"]), 2], np.float32)
        logits[arrays["rows"] == 4, 1] = value
        return logits

    with pytest.raises(UserError, match="no finite numbers: its training has diverged"):
        evaluation.compute_logits(run, Encoded([9, 5, 30, 7, 12]), 2)
