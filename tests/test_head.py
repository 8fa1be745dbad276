"""Tests which rows of a loaded classifier a task uses, and the log about it."""

import dataclasses
import json

import pytest

from conftest import needs_tensorflow_2
from theseus.checkpoints import head
from theseus.errors import UserError
from theseus.inputs import tasks

NLI = tasks.TASKS["mnli"]
PAIRS = tasks.TASKS["lcqmc_pair"]  # Its labels are 0 and 1.
NUMBERS = tasks.TASKS["sts-b"]


def of_labels(*labels):
    return dataclasses.replace(tasks.TASKS["custom"], labels=labels)


def fit(names, task, **values):
    known = head.Head(names and tuple(names.split()), **values)
    return head.fit(known, len(known.names) if names else task.num_outputs, task, "there")


@pytest.mark.parametrize(
    "names, task, order, note",
    [
        ("entailment neutral contradiction", NLI, [0, 1, 2], ""),
        (
            "contradiction entailment neutral",
            NLI,
            [1, 2, 0],
            "there: the labels of its classifier are matched by name: its order is contradiction, "
            "entailment, neutral, the task's is entailment, neutral, contradiction",
        ),
        (
            "Snow RAIN sun",
            of_labels("rain", "snow", "sun"),
            [1, 0, 2],
            "there: the labels of its classifier are matched by name: RAIN is rain, Snow is snow, "
            "sun is sun; its order is Snow, RAIN, sun, the task's is rain, snow, sun",
        ),
        # Exactly, before the case is left out.
        ("b B", of_labels("B", "b"), [1, 0], "b, B, the task's is B, b"),
        ("1 0", PAIRS, [1, 0], "its order is 1, 0, the task's is 0, 1"),
        # Names that transformers gives are names where the task's are the same.
        (
            "LABEL_0 LABEL_1",
            of_labels("LABEL_1", "LABEL_0"),
            [1, 0],
            "its order is LABEL_0, LABEL_1, the task's is LABEL_1, LABEL_0",
        ),
        (
            "bad good",
            PAIRS,
            [0, 1],
            "there: the labels of its classifier are matched by their ids: 0 is bad, 1 is good",
        ),
        ("bad good", of_labels("1", "0"), [1, 0], "0 is bad, 1 is good"),
    ],
)
def test_rows_are_taken_by_the_labels_names(names, task, order, note):
    rows = fit(names, task)
    assert (rows.order, rows.reason, rows.is_sure) == (order, "", True)
    assert rows.note.endswith(note) and bool(rows.note) == bool(note)


@pytest.mark.parametrize("names", [None, "LABEL_0 LABEL_1 LABEL_2"])
def test_rows_without_names_are_taken_in_their_order_and_the_log_says_which(names):
    rows = fit(names, NLI)
    assert rows.order == [0, 1, 2] and not rows.is_sure
    assert "assumed order: entailment, neutral, contradiction; if that" in rows.note
    by_id = fit(None, of_labels("2", "0", "1"))
    assert by_id.order == [2, 0, 1] and by_id.is_sure
    assert "assumed order: 0, 1, 2; if that" in by_id.note


@pytest.mark.parametrize(
    "names, task, values, reason",
    [
        (
            "happy sad",
            of_labels("sad", "glad"),
            {},
            "its labels are happy, sad, the task's are sad, g",
        ),
        ("yes no maybe", PAIRS, {}, "it has 3 outputs: yes, no, maybe, the task has 2: 0, 1"),
        ("1 2", PAIRS, {}, "its labels are 1, 2, the task's are 0, 1"),
        ("0 yes", PAIRS, {}, "its labels are 0, yes, the task's are 0, 1"),
        ("a A", of_labels("A", "a "), {}, "its labels are a, A, the task's are A, a "),
        ("a a", of_labels("a", "b"), {}, "its labels are a, a, the task's are a, b"),
        ("0 1", of_labels("no", "yes"), {}, "its labels are 0, 1, the task's are no, yes"),
        (
            "0 1",
            PAIRS,
            {"problem": "multi_label_classification"},
            "it predicts several labels at once (problem_type = multi_label_classification)",
        ),
        (
            "0 1",
            PAIRS,
            {"architecture": "BertForTokenClassification"},
            "it belongs to a BertForTokenClassification",
        ),
        ("LABEL_0", PAIRS, {}, "it predicts a number, the task has the labels 0, 1"),
        (
            "0 1",
            PAIRS,
            {"problem": "regression"},
            "it predicts a number, the task has the labels 0",
        ),
        ("no yes", NUMBERS, {}, "it has 2 labels, the task predicts a number"),
        ("x y", NUMBERS, {"problem": "regression"}, "it has 2 outputs: x, y, the task has 1"),
    ],
)
def test_a_classifier_of_something_else_is_not_taken_and_the_log_says_why(
    names, task, values, reason
):
    rows = fit(names, task, **values)
    assert rows.order is None and rows.reason.startswith(reason) and not rows.is_sure
    assert rows.note.startswith("there: its classifier is not used, since " + reason)
    assert rows.note.endswith("; a new one starts at random")


@pytest.mark.parametrize("values", [{}, {"problem": "regression"}])
def test_a_regressions_one_row_is_taken_for_a_number(values):
    assert fit("LABEL_0", NUMBERS, **values) == head.Rows([0])
    assert head.of_task(NUMBERS) == head.Head(problem="regression")
    assert fit(None, NUMBERS, problem=head.of_task(NUMBERS).problem).order == [0]


@pytest.mark.parametrize(
    "files, names, problem",
    [
        ({}, None, ""),
        ({"config": {"id2label": {"1": "b", "0": "a"}}}, ("a", "b"), ""),
        ({"config": {"id2label": {"1": "b", "2": "a"}}}, None, ""),
        ({"config": {"id2label": {"0": "LABEL_0", "1": "LABEL_1"}}}, ("LABEL_0", "LABEL_1"), ""),
        (
            {
                "config": {
                    "id2label": {"0": "LABEL_0", "1": "LABEL_1"},
                    "label2id": {"a": 1, "b": 0},
                }
            },
            ("b", "a"),
            "",
        ),
        ({"bert_config": {"id2label": {"0": 7, "1": 5}}}, ("7", "5"), ""),
        ({"export": {"labels": ["x", "y"]}, "bert_config": {"vocab_size": 9}}, ("x", "y"), ""),
        ({"export": {"labels": []}}, None, "regression"),
        # The config is beside the weights whenever these are written anew.
        ({"export": {"labels": ["x", "y"]}, "config": {"id2label": {"0": "a"}}}, ("a",), ""),
        ({"config": {"problem_type": "multi_label_classification"}}, None, "multi_label_cl"),
    ],
)
def test_names_are_read_from_the_files_beside_the_weights(tmp_path, files, names, problem):
    for name, values in files.items():
        (tmp_path / (name + ".json")).write_text(json.dumps(values))
    found = head.read(str(tmp_path))
    assert found.names == names
    assert found.problem.startswith(problem) and bool(found.problem) == bool(problem)


@needs_tensorflow_2
@pytest.mark.parametrize("name", ["bert", "huggingface"])
def test_our_own_exports_name_their_labels(export, name):
    assert head.read(export(name)) == head.Head(
        ("0", "1"), architecture="BertForSequenceClassification" if name == "huggingface" else ""
    )


def test_a_damaged_file_of_names_is_refused(tmp_path):
    (tmp_path / "export.json").write_text('{"labels": [1, 2]}')
    with pytest.raises(UserError, match="export.json: is damaged: labels.0.: expected text"):
        head.read(str(tmp_path))


@pytest.mark.parametrize(
    "names, labels, may_lack, expected",
    [
        (("no", "yes"), ("0", "1"), False, ("no", "yes")),
        (("no", "yes"), ("1", "2"), False, ("1", "2")),
        (("no", "yes", "both"), ("0", "1"), False, ("0", "1")),
        (("no", "yes", "both"), ("0", "1"), True, ("no", "yes", "both")),
        (("1", "0"), ("0", "1"), False, ("1", "0")),
        (("no", "no"), ("0", "1"), False, ("0", "1")),
        (("no",), (), True, ()),
        (None, ("0", "1"), False, ("0", "1")),
    ],
)
def test_labels_that_are_ids_take_a_classifiers_names(names, labels, may_lack, expected):
    task = of_labels(*labels)
    named = head.named_as(names, task, may_lack)
    assert named.labels == expected and named.takes_ids == ("yes" in expected)
    if named.takes_ids:
        assert named.label_ids["1"] == named.label_ids[expected[1]] == 1
        assert named.has_labels_of(task) == task.has_labels_of(named) == (not may_lack)
        assert tasks.recorded(dict(named.record(), task_name="custom")) == named
