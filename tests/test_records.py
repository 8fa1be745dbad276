"""Tests of records: a value of the kind is returned unchanged; others are refused in a line."""

import json
import math

import pytest

from conftest import assert_matches
from theseus import records
from theseus.errors import UserError
from theseus.records import (
    boolean,
    choice,
    listed,
    mapping,
    nullable,
    number,
    parse,
    table,
    text,
    whole,
)

PERSON = table(
    {"name": text(), "age": whole(0, 150)},
    {"size": number(0, 3), "child": nullable(table({"name": text()})), "is_well": boolean},
)


def test_what_is_of_its_kind_is_returned():
    held = '{"name": "\\u624b", "age": 3, "size": 1, "child": {"name": "b"}, "is_well": true}'
    expected = {"name": "手", "age": 3, "size": 1, "child": {"name": "b"}, "is_well": True}
    assert parse(held, PERSON) == expected
    assert parse('{"name": "a", "age": 0, "child": null}', PERSON)["child"] is None
    assert parse("[[1], []]", listed(listed(whole()))) == [[1], []]
    assert parse('{"a": 1.5}', mapping(number())) == {"a": 1.5}
    assert parse('{"a": 1, "b": []}', table({"a": whole()}, others=True)) == {"a": 1, "b": []}


@pytest.mark.parametrize(
    "held, message",
    [
        ("", "Expecting value"),
        ("{", "Expecting property name"),
        ("[]", r"expected an object, found \[\]"),
        ("null", "expected an object, found None"),
        ('{"name": "a"}', r"expected an object with age, found \{'name': 'a'\}"),
        ('{"name": 3, "age": 3}', "name: expected text, found 3"),
        ('{"name": "", "age": 3}', "name: expected text, found ''"),
        ('{"name": "\\ud800", "age": 3}', "name: expected text without unpaired surrogates"),
        ('{"name": "a", "age": true}', "age: expected a whole number from 0 to 150, found True"),
        ('{"name": "a", "age": 1.0}', "age: expected a whole number"),
        ('{"name": "a", "age": "3"}', "age: expected a whole number from 0 to 150, found '3'"),
        ('{"name": "a", "age": -1}', "age: expected a whole number from 0 to 150, found -1"),
        ('{"name": "a", "age": 151}', "found 151"),
        ('{"name": "a", "age": 3, "size": false}', "size: expected a number from 0 to 3"),
        ('{"name": "a", "age": 3, "size": 3.5}', "size: expected a number from 0 to 3, found 3.5"),
        ('{"name": "a", "age": 3, "is_well": 1}', "is_well: expected true or false, found 1"),
        ('{"name": "a", "age": 3, "child": {}}', "child: expected an object with name"),
        ('{"name": "a", "age": 3, "child": {"name": []}}', "child.name: expected text"),
        ('{"name": "a", "age": 3, "\\u624b": 1}', r"\\u624b: expected no such name .*later vers"),
        ('{"name": "a", "name": "b", "age": 3}', "the name 'name' occurs twice"),
        ('{"name": "a", "age": NaN}', "NaN is not a JSON number"),
        ('{"name": "a", "age": -Infinity}', "-Infinity is not a JSON"),
        ('{"name": "a", "age": 1e999}', "the number 1e999 is too large"),
        ('{"name": "a", "age": %s}' % ("9" * 5000), "it contains a number of 5000 digits"),
        ("[" * 100000, "it is nested too deeply"),
        ('{"a":' * 100000, "it is nested too deeply"),
        ('\ufeff{"name": "a", "age": 3}', "it begins with a byte-order mark"),
        ('{"name": "%s", "age": []}' % ("a" * 99), r"age: expected a whole number"),
    ],
)
def test_what_is_not_is_one_line(held, message):
    with pytest.raises(ValueError, match=message) as caught:
        parse(held, PERSON)
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 200


@pytest.mark.parametrize(
    "held, kind, message",
    [
        ("[1, [2]]", listed(whole()), r"\[1\]: expected a whole number"),
        ("[]", listed(whole(), 1), "expected a list of at least 1"),
        ("{}", listed(whole()), r"expected a list, found \{\}"),
        ('{"a\\n": "b"}', mapping(whole()), r"a\\n: expected a whole number"),
        ('{"../a": 1}', mapping(whole(), text(r"\w+", "a name")), "../a: expected a name"),
        ('"c"', choice(["a", "b"]), "expected one of a, b, found 'c'"),
        ("[]", choice(["a", "b"]), "expected one of a, b"),
        ('"ab\\n"', text("ab"), "expected text"),
        ('"nan"', number(), "expected a number, found 'nan'"),
    ],
)
def test_a_place_is_named(held, kind, message):
    with pytest.raises(ValueError, match=message) as caught:
        parse(held, kind)
    assert "\n" not in str(caught.value)


def test_a_file_is_named(tmp_path):
    path = tmp_path / "a.json"
    assert records.read_if_there(str(path), whole()) is None
    path.write_text("3\n")
    assert records.read(str(path), whole()) == records.read_if_there(str(path), whole()) == 3
    cases = [(b"\xff", "a.json: cannot be read: .*utf-8"), (b"-3", "a.json: is damaged: expected")]
    for content, message in cases:
        path.write_bytes(content)
        with pytest.raises(UserError, match=message):
            records.read(str(path), whole())
    with pytest.raises(UserError, match="cannot be read: Is a directory"):
        records.read(str(tmp_path), whole())
    with pytest.raises(UserError, match="no.json: cannot be read: No such file"):
        records.read(str(tmp_path / "no.json"), whole())


def test_numbers_have_no_limits_unless_they_are_given():
    assert parse("1e308", number()) == 1e308
    assert_matches("found inf", str(records._Wrong("", "a number", math.inf)))


@pytest.mark.parametrize("old, new", [("0.75", "0.35"), ("accuracy", "accuracz"), ("7", "8")])
def test_what_is_sealed_and_altered_is_noticed(old, new):
    value = {"accuracy": 0.75, "step": 7, "names": ["é", None]}
    text = json.dumps(records.sealed(value))
    assert records.parse(text, records.anything) == value
    with pytest.raises(ValueError, match="^its checksum does not match its content$"):
        records.parse(text.replace(old, new, 1), records.anything)


def test_what_is_not_sealed_is_taken():
    assert records.parse('{"step": 7}', records.anything) == {"step": 7}
