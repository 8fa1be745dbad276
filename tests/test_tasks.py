"""Tests of the published tasks, and of their completion by flags and folders."""

import dataclasses
import itertools

import pytest

from theseus.errors import UserError
from theseus.inputs import tasks
from theseus.inputs.tasks import Columns, NamedColumns

PAIR = ("entailment", "not_entailment")
# Source: gluebenchmark.com/tasks, and the GLUE paper (arXiv 1804.07461), table 1. The order of
# the labels is that of transformers' and datasets' "glue".
PUBLISHED = [
    ("lcqmc_pair", ("0", "1"), ("accuracy",), 2, ("dev",)),
    ("cola", ("0", "1"), ("matthews",), 1, ("dev",)),
    ("sst-2", ("0", "1"), ("accuracy",), 1, ("dev",)),
    ("mrpc", ("0", "1"), ("f1", "accuracy"), 2, ("dev",)),
    ("sts-b", (), ("pearson", "spearman"), 2, ("dev",)),
    ("qqp", ("0", "1"), ("f1", "accuracy"), 2, ("dev",)),
    (
        "mnli",
        ("entailment", "neutral", "contradiction"),
        ("accuracy",),
        2,
        ("dev_matched", "dev_mismatched"),
    ),
    ("qnli", PAIR, ("accuracy",), 2, ("dev",)),
    ("rte", PAIR, ("accuracy",), 2, ("dev",)),
    ("wnli", ("0", "1"), ("accuracy",), 2, ("dev",)),
]


@pytest.mark.parametrize("name, labels, measures, num_texts, dev_files", PUBLISHED)
def test_a_task_is_as_it_was_published(name, labels, measures, num_texts, dev_files):
    task = tasks.TASKS[name]
    assert (task.name, task.labels, task.metrics) == (name, labels, measures)
    assert (task.num_texts, task.is_regression) == (num_texts, name == "sts-b")
    assert task.num_outputs == max(1, len(labels))
    assert task.score_name == "/".join(measures)
    assert task.files("train") == ("train",) and task.files("dev") == dev_files
    assert task.files("test") == tuple(file.replace("dev", "test") for file in dev_files)
    assert not task.takes_columns


def test_no_task_but_ones_own_is_left_out():
    assert set(tasks.TASKS) == {row[0] for row in PUBLISHED} | {"custom", "custom_number"}
    assert tasks.TASKS["custom"].labels is None and tasks.TASKS["custom"].takes_columns


def test_a_number_of_ones_own_is_measured_as_sts_b_and_read_as_tsv():
    task, tsv = tasks.TASKS["custom_number"], tasks.TASKS["custom"]
    assert task.is_regression and task.takes_columns and task.metrics == ("pearson", "spearman")
    assert task.header == tsv.header and task.indices is None


TSV = tasks.TASKS["custom"]


@pytest.mark.parametrize(
    "given, header, indices",
    [
        (NamedColumns("1", "3", "2"), (0, 2, 1), (0, 2, 1)),
        # A label without a number is not found in a file without a header.
        (NamedColumns("2", "1", None), (1, 0, TSV.header.label), (1, 0, None)),
        (NamedColumns("2", None, None), (1, None, TSV.header.label), (1, None, None)),
        (NamedColumns("Text", "3", "2"), (("text",), 2, 1), None),
        (NamedColumns(None, None, "10"), TSV.header[:2] + (9,), None),
    ],
)
def test_columns_are_numbered_from_1_or_named(given, header, indices):
    task = tasks.with_columns(TSV, given)
    assert tuple(task.header) == header
    assert task.indices == (indices and Columns(*indices))


def test_one_text_is_named_alone_and_two_by_their_second():
    assert tasks.with_columns(TSV, NamedColumns("a", None, None)).num_texts == 1
    assert tasks.with_columns(TSV, NamedColumns("a", "b", None)).num_texts == 2
    assert tasks.with_columns(TSV, NamedColumns(None, None, "c")).num_texts == 2


def test_a_model_of_one_text_reads_no_second_one_by_its_number_either():
    given = tasks.with_columns(TSV, NamedColumns("1", "2", "3"))
    run_config = {"task_name": "custom", "labels": ["x", "y"], "num_texts": 1}
    task = tasks.recorded(run_config, given)
    assert task.num_texts == 1 and task.indices == Columns(0, None, 2)


def test_labels_that_only_the_training_data_tell_are_not_known_before():
    with pytest.raises(ValueError, match="custom are not known"):
        TSV.num_outputs  # noqa: B018


def test_a_recorded_task_keeps_the_order_of_its_labels_and_its_texts():
    held = {"task_name": "custom", "labels": ["b", "a", "c"], "num_texts": 1}
    task = tasks.recorded(held)
    assert (task.labels, task.num_texts, task.num_outputs) == (("b", "a", "c"), 1, 3)
    assert tasks.recorded(dict(held, num_texts=2)).num_texts == 2
    given = dataclasses.replace(TSV, labels=("c", "b", "a"))
    assert tasks.recorded(held, given).labels == ("c", "b", "a")
    assert tasks.recorded({"task_name": "rte", "labels": None}) is tasks.TASKS["rte"]


def test_a_message_calls_a_column_by_its_name_where_it_has_one():
    assert tasks.TASKS["qnli"].column_names(True) == ["question", "sentence", "label"]
    assert tasks.TASKS["sst-2"].column_names(True) == ["sentence", "label"]
    assert tasks.TASKS["sst-2"].column_names(False) == ["sentence"]
    assert TSV.column_names(True) == ["text_a", "text_b", "label"]


# --- Names and labels as they are written in files ---


@pytest.mark.parametrize(
    "written",
    [
        "1",
        " 1",
        "1\u3000",
        "\ufeff1",
        "\u200b1\u200b",
        "\u00a01\u2003",
        "1\r",
        "\u20601\u00ad",
        "1\x00",
    ],
)
def test_what_is_not_to_be_seen_of_a_label_is_no_part_of_it(written):
    assert tasks.clean_label(written) == "1"


def test_what_is_to_be_seen_of_a_label_stays():
    for label in ["差 评", "a\u200cb", "-1", "①", "b\u0301", "👍🏽", "A"]:
        assert tasks.clean_label(label) == label
    assert tasks.clean_label("差\ufeff评") == "差评"
    for blank in ["", " \u3000", "\ufeff", "\u200b\u2028", "\u3164", "\u2800"]:
        assert tasks.clean_label(blank) == "" and tasks.is_blank(blank)


@pytest.mark.parametrize(
    "labels",
    [
        ("01", "1", "2"),
        ("-1", "0", "1"),
        ("9", "10", "100"),
        ("0.5", "1", "10.0"),
        ("10", "9", "²", "٣", "①"),
        ("10", "9", "a"),
        ("中", "好", "差"),
    ],
)
def test_labels_have_one_order_however_they_come(labels):
    for given in itertools.permutations(labels):
        assert tasks.in_order(given) == labels


@pytest.mark.parametrize("given", ["²", "٣", "①", "-1", "1.0"])
def test_what_is_no_number_from_1_is_a_columns_name(given):
    task = tasks.with_columns(tasks.TASKS["custom"], tasks.NamedColumns(given, None, None))
    assert task.header.text_a == (given,) and task.indices is None


def test_a_columns_name_is_without_quotation_marks_and_case():
    assert {
        tasks.clean_name(name) for name in ["Text", '"text"', " text\u3000", "\ufeff“TEXT”"]
    } == {"text"}


def test_a_recorded_task_reads_the_columns_that_its_run_was_told(tmp_path):
    held = {"task_name": "custom", "labels": ["a", "b"], "num_texts": 1}
    task = tasks.recorded(dict(held, columns=["title", None, "kind"]))
    assert (task.header.text_a, task.header.label) == (("title",), ("kind",))
    task = tasks.recorded(dict(held, columns=["3", None, "1"]))
    assert task.indices == Columns(2, None, 0)
    given = tasks.with_columns(TSV, NamedColumns("other", None, None))
    assert tasks.recorded(dict(held, columns=["title", None, None]), given).header == given.header


def test_columns_are_numbered_from_1():
    with pytest.raises(UserError, match="--text_b_column: columns are numbered from 1"):
        tasks.with_columns(TSV, NamedColumns("1", "0", "3"))


@pytest.mark.parametrize("given", [["1", "1"], ["1", " 1 "], ["1"], ["1", ""]])
def test_labels_are_different_ones_two_at_least(given):
    with pytest.raises(UserError, match="--labels: expected two or more different labels"):
        tasks.with_labels(TSV, given)


def test_labels_are_taken_in_the_order_in_which_they_are_given():
    assert tasks.with_labels(TSV, ["b", "\u3000a"]).labels == ("b", "a")
    assert tasks.with_labels(TSV, []).labels is None
