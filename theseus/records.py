"""Reads JSON files, and checks them before they are used.

The functions below declare the content of a record as a `Kind`; `read` reads every file.
"""

from __future__ import annotations

import hashlib
import io
import json
import math
import os
import re
from typing import Any, Callable, Iterable, Mapping

from theseus.errors import UserError, failing

Kind = Callable[[Any, str], None]
"""A function that checks a value at a place of its record; raises _Wrong if it does not fit."""

_SEAL = "sha256_of_the_rest"
_LONGEST_NUMBER = 40  # In digits; Python is slow with longer numbers, or refuses them.
_SHOWN = 40
_HALF_A_CHARACTER = re.compile("[\ud800-\udfff]")


class _Wrong(ValueError):
    """A value that is not what was expected."""

    def __init__(self, place: str, expected: str, value: Any) -> None:
        found = ascii(value)
        found = found if len(found) <= _SHOWN else found[:_SHOWN] + "..."
        message = "expected %s, found %s" % (expected, found)
        super(_Wrong, self).__init__("%s: %s" % (place, message) if place else message)


def read(path: str, kind: Kind) -> Any:
    """Returns the content of a JSON file, checked against a Kind.

    Raises:
      UserError: the file cannot be read or is damaged; the message names the cause.
    """
    try:
        with failing(path, "read"), io.open(path, encoding="utf-8", newline="\n") as reader:
            return parse(reader.read(), kind)
    except ValueError as error:
        raise UserError("%s: is damaged: %s" % (path, error))


def read_if_there(path: str, kind: Kind) -> Any:
    """As `read`, but returns None if there is no such file."""
    return read(path, kind) if os.path.lexists(path) else None


def parse(text: str, kind: Kind, parse_float: Callable[[str], Any] | None = None) -> Any:
    """Returns the value of JSON text, checked against a Kind; ValueError, in one line, if it fails.

    The checksum of an object that was `sealed` is checked and removed.

    Args:
      text: str.
      kind: the Kind.
      parse_float: function from the text of a number that is not whole to its value, such as
        `as_written`; None: float.
    """
    if text.startswith("\ufeff"):
        raise ValueError("it begins with a byte-order mark; save it as UTF-8 without one")
    try:
        value = json.loads(
            text,
            object_pairs_hook=_without_doubles,
            parse_constant=_refuse_constant,
            parse_int=_whole,
            parse_float=parse_float or _finite,
        )
    except RecursionError:
        raise ValueError("it is nested too deeply")
    if isinstance(value, dict) and _SEAL in value:
        found = value.pop(_SEAL)
        if found != _sum(value):
            raise ValueError("its checksum does not match its content")
    kind(value, "")
    return value


def sealed(value: Mapping[str, Any]) -> dict[str, Any]:
    """Returns a JSON object with its checksum, by which `parse` notices changes."""
    return dict(value, **{_SEAL: _sum(value)})


def _sum(value: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode("utf-8")).hexdigest()


def _without_doubles(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    value = dict(pairs)
    if len(value) < len(pairs):
        names = [name for name, _ in pairs]
        raise ValueError(
            "the name %s occurs twice" % ascii(next(n for n in names if names.count(n) > 1))
        )
    return value


def _refuse_constant(name: str) -> None:
    raise ValueError("%s is not a JSON number" % name)


def _whole(digits: str) -> int:
    if len(digits) > _LONGEST_NUMBER:
        raise ValueError("it contains a number of %d digits" % len(digits))
    return int(digits)


def _finite(digits: str) -> float:
    value = float(digits)
    if not math.isfinite(value):
        raise ValueError("the number %s is too large" % digits[:_SHOWN])
    return value


def as_written(digits: str) -> str:
    """Returns a number's text unchanged, if the number is finite."""
    _finite(digits)
    return digits


# --- Kinds ---


def _kind(expected: str, fits: Callable[[Any], Any]) -> Kind:
    """Returns the Kind of the values for which a function is true."""

    def check(value: Any, place: str) -> None:
        if not fits(value):
            raise _Wrong(place, expected, value)

    return check


anything = _kind("anything", lambda value: True)
boolean = _kind("true or false", lambda value: isinstance(value, bool))
_an_object = _kind("an object", lambda value: isinstance(value, dict))


def whole(low: int = 0, high: int = 2**31 - 1) -> Kind:
    """Whole numbers from `low` to `high`; true and 1.0 are not whole numbers."""
    return _kind(
        "a whole number from %d to %d" % (low, high),
        lambda value: type(value) is int and low <= value <= high,
    )


def number(low: float = -math.inf, high: float = math.inf) -> Kind:
    """Numbers from `low` to `high`."""
    limits = "" if math.isinf(low) and math.isinf(high) else " from %g to %g" % (low, high)
    return _kind(
        "a number" + limits, lambda value: type(value) in (int, float) and low <= value <= high
    )


def text(pattern: str = ".+", expected: str = "text") -> Kind:
    """Text that a regular expression matches completely; by default any text that is not empty."""
    matches = re.compile("(?s:%s)\\Z" % pattern).match
    return both(
        _kind(expected, lambda value: isinstance(value, str) and matches(value)),
        _kind(
            "text without unpaired surrogates (half characters)",
            lambda value: not _HALF_A_CHARACTER.search(value),
        ),
    )


def choice(values: Iterable[Any]) -> Kind:
    """One of the given texts."""
    known = list(values)
    return _kind("one of " + ", ".join(known), lambda value: value in known)


def nullable(kind: Kind) -> Kind:
    """null, or a value of a Kind."""
    return lambda value, place: None if value is None else kind(value, place)


def both(first: Kind, second: Kind) -> Kind:
    """Values that are of both Kinds."""

    def check(value: Any, place: str) -> None:
        first(value, place)
        second(value, place)

    return check


def listed(kind: Kind, least: int = 0) -> Kind:
    """Lists whose members are of a Kind."""
    expected = "a list of at least %d" % least if least else "a list"
    a_list = _kind(expected, lambda value: isinstance(value, list) and len(value) >= least)

    def check(value: Any, place: str) -> None:
        a_list(value, place)
        for position, member in enumerate(value):
            kind(member, "%s[%d]" % (place, position))

    return check


def mapping(kind: Kind, names: Kind = anything) -> Kind:
    """Objects whose values are of one Kind, and whose names are of another."""

    def check(value: Any, place: str) -> None:
        _an_object(value, place)
        for name, member in value.items():
            names(name, _at(place, name))
            kind(member, _at(place, name))

    return check


def table(
    fields: Mapping[str, Kind],
    optional: Mapping[str, Kind] | None = None,
    others: bool = False,
) -> Kind:
    """Objects with declared fields.

    Args:
      fields: the required fields.
      optional: fields that may be missing.
      others: whether other fields are allowed; if not, the error suggests a later version.
    """
    known = dict(fields, **(optional or {}))
    another = _kind(
        "no such name (a later version of this program may have written it)", lambda _: others
    )

    def check(value: Any, place: str) -> None:
        _an_object(value, place)
        for name in fields:
            if name not in value:
                raise _Wrong(place, "an object with %s" % name, value)
        for name, member in value.items():
            known.get(name, another)(member, _at(place, name))

    return check


def _at(place: str, name: str) -> str:
    """Returns the place of an object's member; the name is escaped, since it may be any text."""
    name = ascii(name)[1:-1]
    return "%s.%s" % (place, name) if place else name
