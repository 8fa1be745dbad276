"""Metrics against numbers worked out by hand, and predictions as a user reads them."""

import io

import numpy as np
import pytest

import evaluation
import input_pipeline
from input_pipeline import Example

TASK = input_pipeline.TASKS["lcqmc_pair"]
# Predicted 1 1 1 0 0, with the probabilities of label 1: 0.75, 0.75, 0.75, 0.25, 0.25.
LOGITS = np.log([[0.25, 0.75]] * 3 + [[0.75, 0.25]] * 2)
LABELS = np.array([1, 1, 0, 1, 0])


def test_metrics_worked_out_by_hand():
    metrics = evaluation.compute_metrics(LOGITS, LABELS)
    assert metrics["accuracy"] == pytest.approx(3 / 5)
    assert metrics["precision"] == pytest.approx(2 / 3)
    assert metrics["recall"] == pytest.approx(2 / 3)
    assert metrics["f1"] == pytest.approx(2 / 3)
    loss = -(3 * np.log(0.75) + 2 * np.log(0.25)) / 5
    assert metrics["loss"] == pytest.approx(loss)
    assert metrics["majority_class_rate"] == pytest.approx(3 / 5)
    assert metrics["num_examples"] == 5


def test_metrics_where_nothing_is_predicted_positive():
    metrics = evaluation.compute_metrics(np.tile([1.0, 0.0], [5, 1]), LABELS)
    assert metrics["precision"] == metrics["recall"] == metrics["f1"] == 0.0


def test_a_loss_beyond_float64_is_finite():
    metrics = evaluation.compute_metrics(np.array([[2000.0, 0.0]]), np.array([1]))
    assert 700 < metrics["loss"] < 710


def test_a_table_has_a_row_for_each_name():
    metrics = evaluation.compute_metrics(LOGITS, LABELS)
    lines = evaluation.format_table([("dev", metrics), ("business.tsv", metrics)]).split("\n")
    assert lines[0].split() == "examples accuracy majority precision recall f1 loss".split()
    assert lines[2].split()[:3] == ["business.tsv", "5", "0.6000"]
    assert len({len(line) for line in lines}) == 1


@pytest.mark.parametrize("labels", [["1", "0"], [None, None]])
def test_predictions_keep_texts_labels_and_order(labels):
    examples = [Example("手机", "电脑", labels[0]), Example("a b", "c", labels[1])]
    writer = io.StringIO()
    assert evaluation.write_predictions(writer, TASK, [(examples, LOGITS[2:4])]) == 2
    header, first, second = [line.split("\t") for line in writer.getvalue().splitlines()]
    label = ["label"] if labels[0] else []
    expected = ["text_a", "text_b"] + label + ["predicted_label", "probability_0", "probability_1"]
    assert header == expected
    assert first[:2] == ["手机", "电脑"] and second[:2] == ["a b", "c"]
    assert first[-3:] == ["1", "0.25000000", "0.75000000"]
    assert second[-3:] == ["0", "0.75000000", "0.25000000"]
    assert not labels[0] or (first[2], second[2]) == ("1", "0")
