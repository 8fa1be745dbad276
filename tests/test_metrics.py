"""Metrics against numbers worked out by hand and published formulas."""

import dataclasses
import json

import numpy as np
import pytest
import sklearn.metrics

from theseus.inference import metrics
from theseus.inference.predictions import Predictions
from theseus.inputs import tasks

predict = Predictions.of
TASK = tasks.TASKS["lcqmc_pair"]
# Predicted 1 1 1 0 0, with the probabilities of label 1: 0.75, 0.75, 0.75, 0.25, 0.25.
LOGITS = np.log([[0.25, 0.75]] * 3 + [[0.75, 0.25]] * 2)
LABELS = np.array([1, 1, 0, 1, 0])


def test_two_labels_worked_out_by_hand():
    found = metrics.compute(predict(TASK, LOGITS), LABELS)
    assert found["accuracy"] == pytest.approx(3 / 5)
    assert found["precision"] == pytest.approx(2 / 3)
    assert found["recall"] == pytest.approx(2 / 3)
    assert found["f1"] == pytest.approx(2 / 3)
    # Of 3 x 2 pairs of a 1 and a 0, three are in order (2 x 1 and 1 x 0), ties count half.
    assert found["auc"] == pytest.approx((2 * 1 + 3 * 0.5) / 6)
    # TP 2, TN 1, FP 1, FN 1.
    assert found["matthews"] == pytest.approx((2 * 1 - 1 * 1) / np.sqrt(3 * 3 * 2 * 2))
    assert found["loss"] == pytest.approx(-(3 * np.log(0.75) + 2 * np.log(0.25)) / 5)
    assert found["majority_class_rate"] == pytest.approx(3 / 5)
    assert found["num_examples"] == 5
    assert metrics.confusion(predict(TASK, LOGITS), LABELS) == [[1, 1], [1, 2]]


def test_three_labels_worked_out_by_hand():
    task = tasks.TASKS["mnli"]
    labels, predicted = np.array([0, 0, 1, 1, 2, 2]), [0, 1, 1, 1, 2, 0]
    logits = np.eye(3)[predicted] * 4.0
    found = metrics.compute(predict(task, logits), labels)
    assert found["accuracy"] == pytest.approx(4 / 6)
    assert found["precision"] == pytest.approx((1 / 2 + 2 / 3 + 1) / 3)
    assert found["recall"] == pytest.approx((1 / 2 + 1 + 1 / 2) / 3)
    assert found["f1"] == pytest.approx((1 / 2 + 4 / 5 + 2 / 3) / 3)
    # One label against the rest, ties count half: 0.625, 0.875 and 0.75.
    assert found["auc"] == pytest.approx((0.625 + 0.875 + 0.75) / 3)
    assert metrics.confusion(predict(task, logits), labels) == [[1, 1, 0], [0, 2, 0], [1, 0, 1]]
    lines = metrics.format_confusion(task, metrics.confusion(predict(task, logits), labels)).split(
        "\n"
    )
    assert lines[3].split() == ["true", "contradiction", "1", "0", "1"]
    assert len({len(line) for line in lines}) == 1


def test_labels_that_do_not_occur_are_left_out_of_the_means_as_in_scikit_learn():
    task = tasks.TASKS["mnli"]
    labels, predicted = np.array([0, 0, 1, 1]), np.array([0, 1, 1, 1])
    found = metrics.compute(predict(task, np.eye(3)[predicted] * 4.0), labels)
    assert found["precision"] == pytest.approx((1 + 2 / 3) / 2)
    assert found["recall"] == pytest.approx((1 / 2 + 1) / 2)
    assert found["f1"] == pytest.approx((2 / 3 + 4 / 5) / 2)
    # One that is predicted counts, though it does not occur.
    predicted = np.array([0, 2, 1, 1])
    found = metrics.compute(predict(task, np.eye(3)[predicted] * 4.0), labels)
    assert found["f1"] == pytest.approx((2 / 3 + 1 + 0) / 3)
    assert found["f1"] == pytest.approx(
        sklearn.metrics.f1_score(labels, predicted, average="macro")
    )


def test_a_number_worked_out_by_hand():
    task = tasks.TASKS["sts-b"]
    found = metrics.compute(
        predict(task, np.array([[1.0], [2.0], [4.0]])), np.array([0.0, 1.0, 5.0])
    )
    # Deviations -4/3, -1/3, 5/3 and -2, -1, 3.
    assert found["pearson"] == pytest.approx((8 / 3 + 1 / 3 + 5) / np.sqrt(42 / 9 * 14))
    assert found["spearman"] == pytest.approx(1.0)
    assert found["loss"] == pytest.approx((1 + 1 + 1) / 3)
    assert metrics.score(task, found) == pytest.approx((found["pearson"] + 1.0) / 2)
    lines = metrics.format_table([("dev", found)]).split("\n")
    assert lines[0].split() == ["examples", "pearson", "spearman", "loss"]


def test_spearman_gives_ties_their_mean_rank():
    """By hand, of ranks 2, 2, 2, 4, 5 and 2.5, 1, 2.5, 5, 4, neither of which is in order."""
    predicted, labels = [[1.5], [1.5], [1.5], [2.0], [9.0]], [1.0, 0.5, 1.0, 5.0, 4.0]
    found = metrics.compute(predict(tasks.TASKS["sts-b"], np.array(predicted)), np.array(labels))
    # Deviations -1, -1, -1, 1, 2 and -0.5, -2, -0.5, 2, 1.
    assert found["spearman"] == pytest.approx(7 / np.sqrt(8 * 9.5))
    # Deviations -1.6, -1.6, -1.6, -1.1, 5.9 and -1.3, -1.8, -1.3, 2.7, 1.7.
    assert found["pearson"] == pytest.approx(14.1 / np.sqrt(43.7 * 16.8))


def test_numbers_that_are_all_the_same_do_not_correlate():
    found = metrics.compute(
        predict(tasks.TASKS["sts-b"], np.ones([3, 1])), np.array([0.0, 1.0, 5.0])
    )
    assert (found["pearson"], found["spearman"]) == (None, None)
    assert np.isnan(metrics.score(tasks.TASKS["sts-b"], found))


def test_one_label_only():
    found = metrics.compute(predict(TASK, np.tile([1.0, 0.0], [5, 1])), np.zeros(5, np.int32))
    undefined = [name for name, value in found.items() if value is None]
    assert undefined == ["precision", "recall", "f1", "auc", "matthews"]
    assert found["accuracy"] == 1.0
    assert metrics.best_threshold(predict(TASK, LOGITS), np.zeros(5, np.int32)) is None
    assert metrics.format_table([("dev", found)]).split("\n")[1].split()[7] == "-"
    json.dumps(found, allow_nan=False)


def test_a_loss_beyond_float64s_exponent_is_finite():
    found = metrics.compute(predict(TASK, np.array([[2000.0, 0.0]])), np.array([1]))
    assert found["loss"] == 2000.0


@pytest.mark.parametrize(
    "name, value",
    [("lcqmc_pair", 0.6), ("mrpc", (0.6 + 2 / 3) / 2), ("cola", 1 / 6)],
)
def test_the_score_is_the_mean_of_the_tasks_metrics(name, value):
    task = tasks.TASKS[name]
    found = metrics.compute(predict(task, LOGITS), LABELS)
    assert metrics.score(task, found) == pytest.approx(value)
    assert metrics.headline(task, found).count("f1") == 1


@pytest.mark.parametrize(
    "labels, predicted, expected",
    [
        # Precision, recall, F1 and Matthews' correlation of the second label.
        ([0, 0, 0], [0, 1, 0], (0.0, None, 0.0, None)),
        ([1, 1, 1], [0, 0, 0], (None, 0.0, 0.0, None)),
        ([0, 1, 1], [0, 0, 0], (None, 0.0, 0.0, 0.0)),
        ([0, 1, 1], [1, 0, 0], (0.0, 0.0, 0.0, -1.0)),
        ([1, 1, 1], [1, 1, 1], (1.0, 1.0, 1.0, None)),
    ],
)
def test_what_is_zero_divided_by_zero_is_undefined_and_no_zero(labels, predicted, expected):
    labels = np.array(labels)
    found = metrics.compute(predict(TASK, np.eye(2)[predicted]), labels)
    assert tuple(found[name] for name in ("precision", "recall", "f1", "matthews")) == expected
    second = metrics.by_label(predict(TASK, np.eye(2)[predicted]), labels)[1]
    assert tuple(second[name] for name in ("precision", "recall", "f1")) == expected[:3]
    json.dumps([found, second], allow_nan=False)


def test_a_label_that_is_nowhere_is_a_row_of_dashes():
    task = dataclasses.replace(TASK, labels=("a", "b", "c"))
    rows = metrics.by_label(predict(task, np.eye(3)[[0, 1, 1]]), np.array([0, 0, 1]))
    assert [row["f1"] for row in rows] == [pytest.approx(2 / 3), pytest.approx(2 / 3), None]
    assert metrics.format_by_label(rows).split("\n")[3].split() == ["c", "-", "-", "-", "0"]


@pytest.mark.parametrize(
    "metric, labels, missing",
    [
        ("auc", [0, 2, 2], "b"),
        ("auc", [1, 1], "a, c"),
        ("auc", [0, 1, 2], None),
        ("matthews", [2, 2], "a, b"),
        ("matthews", [2, 0], None),
        ("f1", [2, 2], None),
        ("accuracy", [2, 2], None),
    ],
)
def test_a_score_that_a_file_leaves_undefined_names_the_labels_that_are_missing(
    metric, labels, missing
):
    task = dataclasses.replace(TASK, labels=("a", "b", "c"), metrics=(metric,))
    found = metrics.why_undefined(task, np.array(labels))
    expected = "%s is undefined: no example has the label %s" % (metric, missing)
    assert found == (expected if missing else None)
    # It is undefined for any predictions; otherwise it is defined.
    for predicted in ([0, 1, 2], [2, 1, 0]):
        values = metrics.compute(
            predict(task, np.eye(3)[predicted[: len(labels)]]), np.array(labels)
        )
        assert (values[metric] is None) == (missing is not None)


def test_of_two_labels_f1_needs_the_second_and_a_correlation_needs_two_numbers():
    task = tasks.TASKS["mrpc"]
    assert metrics.why_undefined(task, np.array([0, 0])) == (
        "f1 is undefined: no example has the label 1"
    )
    assert metrics.why_undefined(task, np.array([1, 1])) is None
    task = tasks.TASKS["sts-b"]
    for labels in ([2.5], [2.5, 2.5]):
        assert metrics.why_undefined(task, np.array(labels)) == (
            "pearson/spearman is undefined: all examples have the label 2.5"
        )
    assert metrics.why_undefined(task, np.array([2.5, 3.0])) is None


def test_a_score_with_an_undefined_metric_is_none_itself():
    task = dataclasses.replace(TASK, metrics=("auc", "accuracy"))
    found = metrics.compute(predict(task, LOGITS[:1]), LABELS[:1])  # One label is all there is.
    assert found["auc"] is None
    assert np.isnan(metrics.score(task, found))
    assert metrics.headline(task, found).startswith("auc -, accuracy 1.0000")


def test_the_best_threshold_is_that_of_the_best_f1():
    chances = np.array([0.9, 0.6, 0.4, 0.35, 0.3, 0.1, 0.05, 0.01])
    labels = np.array([1, 0, 1, 1, 0, 0, 0, 0])
    logits = np.log(np.stack([1 - chances, chances], axis=1))
    # From 0.35 on: 3 of 3 found, 3 of 4 right.
    found = metrics.best_threshold(predict(TASK, logits), labels)
    assert found["f1"] == pytest.approx(2 * 0.75 / 1.75)
    assert 0.3 < found["threshold"] < 0.35
    assert (found["precision"], found["recall"]) == (0.75, 1.0)
    again = metrics.compute(predict(TASK, logits, round(found["threshold"], 4)), labels)
    assert again["f1"] == pytest.approx(found["f1"])
    assert metrics.compute(predict(TASK, logits), labels)["f1"] < found["f1"]
    assert metrics.confusion(predict(TASK, logits, found["threshold"]), labels) == [[4, 1], [0, 3]]
    every = [
        metrics.compute(predict(TASK, logits, t), labels)["f1"] for t in np.arange(0, 1, 0.005)
    ]
    assert max(every) == pytest.approx(found["f1"])


def test_a_table_has_a_row_for_each_name():
    found = metrics.compute(predict(TASK, LOGITS), LABELS)
    lines = metrics.format_table([("dev", found), ("business.tsv", found)]).split("\n")
    expected = "examples accuracy majority precision recall f1 auc matthews loss"
    assert lines[0].split() == expected.split()
    assert lines[2].split()[:3] == ["business.tsv", "5", "0.6000"]
    assert len({len(line) for line in lines}) == 1


def test_a_probability_at_the_threshold_is_the_second_label():
    """0.5 of two equal logits is exact."""
    assert predict(TASK, np.zeros([1, 2]), 0.5).ids.tolist() == [1]


@pytest.mark.parametrize("count, is_shown", [(12, True), (13, False)])
def test_a_confusion_of_many_labels_is_not_shown(count, is_shown):
    labels = tuple("label %d" % number for number in range(count))
    task = dataclasses.replace(TASK, labels=labels)
    counts = metrics.confusion(predict(task, np.eye(count)), np.arange(count))
    assert counts == np.eye(count).astype(int).tolist()
    assert bool(metrics.format_confusion(task, counts)) == is_shown


def test_two_numbers_correlate_and_one_does_not():
    task = tasks.TASKS["sts-b"]
    found = metrics.compute(predict(task, np.array([[1.0], [2.0]])), np.array([5.0, 3.0]))
    assert (found["pearson"], found["spearman"]) == (pytest.approx(-1.0), pytest.approx(-1.0))
    # Deviations -4/3, -1/3, 5/3 and -2/3, 1/3, 1/3.
    found = metrics.compute(
        predict(task, np.array([[1.0], [2.0], [4.0]])), np.array([0.0, 1.0, 1.0])
    )
    assert found["pearson"] == pytest.approx((8 / 9 - 1 / 9 + 5 / 9) / np.sqrt(42 / 9 * 6 / 9))
    found = metrics.compute(predict(task, np.array([[1.0]])), np.array([5.0]))
    assert (found["pearson"], found["spearman"]) == (None, None)


def test_the_best_threshold_may_be_that_of_the_most_certain_example():
    chances = np.array([0.9, 0.6, 0.4])
    logits = np.log(np.stack([1 - chances, chances], axis=1))
    found = metrics.best_threshold(predict(TASK, logits), np.array([1, 0, 0]))
    assert (found["f1"], found["precision"], found["recall"]) == (1.0, 1.0, 1.0)
    assert found["threshold"] == pytest.approx(0.75)


def test_a_headline_is_the_metrics_and_the_loss_in_words():
    values = {"accuracy": 0.5, "f1": 0.25, "loss": 1.0, "auc": 0.75}
    assert metrics.headline(TASK, values) == "accuracy 0.5000, f1 (label 1) 0.2500, loss 1.0000"
    polar = dataclasses.replace(TASK, labels=("正", "负"))
    assert metrics.headline(polar, values).startswith("accuracy 0.5000, f1 (label 负) 0.2500")
    three = dataclasses.replace(TASK, labels=("a", "b", "c"))
    assert metrics.headline(three, values).startswith("accuracy 0.5000, f1 0.2500")


def test_a_confusion_says_which_labels_are_true_and_which_predicted():
    lines = metrics.format_confusion(TASK, [[10, 2], [3, 4]]).split("\n")
    assert lines == [
        "        predicted 0  predicted 1",
        "true 0           10            2",
        "true 1            3            4",
    ]


def test_the_best_threshold_in_words_is_its_flag():
    found = {"threshold": 0.375, "f1": 0.5, "precision": 0.25, "recall": 0.75}
    task = dataclasses.replace(TASK, labels=("no", "yes"))
    assert metrics.format_threshold(task, found) == (
        "best F1 of label yes on dev: 0.5000 (precision 0.2500, recall 0.7500), with "
        "--threshold=0.375"
    )


def test_one_class_is_one_label_of_several_examples_that_have_others():
    pair, three = (tasks.TASKS[name] for name in ("lcqmc_pair", "mnli"))
    alike, other = [[0.5, 0.25], [3.0, -3.0]], [[-1.0, 2.0]]
    for task, logits, labels, expected in [
        (pair, alike, [0, 1], "0"),
        (pair, alike, [1, 1], "0"),
        (pair, alike, [0, 0], None),  # All are right.
        (pair, alike + other, [0, 0, 0], None),
        (pair, other + alike, [0, 1, 0], None),
        (pair, alike[:1], [1], None),
        (pair, other * 2, [1, 0], "1"),
        (three, [[0, 0, 1], [1, 0, 2]], [0, 2], "contradiction"),
        (three, [[0, 0, 1], [0, 2, 1]], [0, 0], None),
    ]:
        found = metrics.what_is_not_learned(predict(task, np.array(logits)), np.array(labels))
        line = "every example is predicted as %s; nothing is learned yet" % expected
        assert found == (line if expected else None)


def test_numbers_are_alike_if_their_spread_is_tiny_against_that_of_the_labels():
    """However well they correlate."""
    task, labels = tasks.TASKS["sts-b"], np.float32([0.0, 1.0, 5.0])
    found = metrics.what_is_not_learned(predict(task, 3 + 0.001 * labels[:, np.newaxis]), labels)
    assert found.startswith("all predictions lie between 3 and 3.005, the labels between 0 and 5;")
    for share, is_said in [(-0.049, True), (0.051, False), (1.0, False), (0.0, True)]:
        found = metrics.what_is_not_learned(
            predict(task, 3 + share * labels[:, np.newaxis]), labels
        )
        assert (found is not None) == is_said
    assert metrics.what_is_not_learned(predict(task, np.ones([2, 1])), np.ones(2)) is None
    assert metrics.what_is_not_learned(predict(task, np.ones([1, 1])), np.ones(1)) is None


def test_of_very_many_labels_there_is_no_confusion_table():
    """It would hold 80 GB for 100,000 labels."""
    labels = tuple(map(str, range(100000)))
    task = dataclasses.replace(tasks.TASKS["lcqmc_pair"], labels=labels)
    logits = np.zeros([2, 100000], np.float32)
    logits[0, 7] = 1
    ids = np.array([7, 99999])
    assert metrics.confusion(predict(task, logits), ids) is None
    assert metrics.format_confusion(task, None) == ""
    rows = metrics.by_label(predict(task, logits), ids)
    assert (rows[7]["recall"], rows[99999]["recall"], len(rows)) == (1.0, 0.0, 100000)
    assert rows[5]["recall"] is None
    assert metrics.format_by_label(rows) == ""
    assert metrics.compute(predict(task, logits), ids)["accuracy"] == 0.5


@pytest.mark.parametrize("gap", [1e-2, 1e-4, 1e-5, 1e-7])
def test_the_best_threshold_in_words_parts_the_same_examples(gap):
    chances = np.array([1 - gap, 1 - 2 * gap, 0.5])
    logits = np.log(np.stack([1 - chances, chances], axis=1))
    labels = np.array([1, 0, 0])
    found = metrics.best_threshold(predict(TASK, logits), labels)
    said = float(metrics.format_threshold(TASK, found).split("--threshold=")[1])
    assert metrics.compute(predict(TASK, logits, said), labels)["f1"] == 1.0


def test_a_threshold_between_is_short_where_it_may_be():
    assert metrics._shortest_between(0.25, 0.75) == 0.5
    assert metrics._shortest_between(0.30001, 0.30004) == 0.30002
    assert metrics._shortest_between(0.0, 5e-324) == 5e-324
