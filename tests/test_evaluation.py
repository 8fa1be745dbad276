"""Tests of metrics over labelled examples, and of the warnings about them."""

import numpy as np
import pytest
from absl import logging

from conftest import encoded_rows
from theseus.inference import evaluation
from theseus.inputs import tasks

TASK = tasks.TASKS["lcqmc_pair"]


def test_an_evaluation_compares_each_rows_logits_with_its_own_label():
    """Row n is predicted as n % 2, which is its label except in row 4."""

    def run(arrays):
        rows = arrays["input_ids"][:, 0] - 1
        predicted = np.where(rows == 4, 1, rows % 2)
        return np.eye(2, dtype=np.float32)[predicted]

    values, _ = evaluation.evaluate(TASK, run, encoded_rows([9, 3, 7, 3, 5]), 2)
    assert (values["accuracy"], values["num_examples"]) == (4 / 5, 5)


@pytest.mark.parametrize("label", ["0", "1", None])
def test_dev_that_all_gets_one_label_is_warned_of(monkeypatch, label):
    warnings = []
    monkeypatch.setattr(logging, "warning", lambda form, *values: warnings.append(form % values))

    def run(arrays):
        rows = arrays["input_ids"][:, 0] - 1
        return np.eye(2, dtype=np.float32)[rows % 2 if label is None else rows * 0 + int(label)]

    evaluation.evaluate(TASK, run, encoded_rows([9, 3, 7, 3, 5]), 2)
    expected = "dev: every example is predicted as %s; nothing is learned yet" % label
    assert warnings == ([expected] if label else [])


def test_dev_of_one_label_that_is_all_right_has_nothing_to_be_warned_of(caplog):
    encoded = encoded_rows([9, 3, 7])
    encoded.labels = np.ones(3, np.int32)
    values, _ = evaluation.evaluate(TASK, lambda arrays: np.float32([[0, 1]] * 3), encoded, 3)
    assert values["accuracy"] == 1.0 and caplog.text == ""
