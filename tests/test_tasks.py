"""Names and labels as they are written in files."""

import itertools

import pytest

from theseus.inputs import tasks


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
    task = tasks.with_columns(tasks.TASKS["tsv"], tasks.Columns(given, None, None))
    assert task.header.text_a == (given,) and task.places is None


def test_a_columns_name_is_without_quotation_marks_and_case():
    assert {
        tasks.clean_name(name) for name in ["Text", '"text"', " text\u3000", "\ufeff“TEXT”"]
    } == {"text"}
