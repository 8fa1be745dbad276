"""JSON that is read back, or that others wrote: checked before anything is made of it.

What a record holds is declared as a `Kind`, by the functions below; `read` is the one way to read.
"""

from __future__ import annotations

import hashlib
import io
import json
import math
import os
import re
from typing import Any, Callable, Iterable, Mapping

from theseus.errors import UserError

Kind = Callable[[Any, str], None]
"""A check of a value at a place of its record; raises _Wrong where it is something else."""

_SEAL = "sha256_of_the_rest"
_LONGEST_NUMBER = 40  # In digits. Of more, Python itself takes long, or refuses.
_SHOWN = 40


class _Wrong(Exception):
    """A value that is not what was expected."""

    def __init__(self, place: str, expected: str, value: Any) -> None:
        found = ascii(value)
        found = found if len(found) <= _SHOWN else found[:_SHOWN] + "..."
        message = "expected %s, found %s" % (expected, found)
        super(_Wrong, self).__init__("%s: %s" % (place, message) if place else message)


def read(path: str, kind: Kind) -> Any:
    """Returns what a JSON file holds, once it is of a Kind.

    Raises:
      UserError: in one line, with the file: it cannot be read, or is damaged, and how.
    """
    try:
        with io.open(path, encoding="utf-8", newline="\n") as reader:
            return parse(reader.read(), kind)
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(
            "%s: cannot be read: %s" % (path, getattr(error, "strerror", None) or error)
        )
    except ValueError as error:
        raise UserError("%s: is damaged: %s" % (path, error))


def read_if_there(path: str, kind: Kind) -> Any:
    """As `read`; returns None where there is no such file."""
    return read(path, kind) if os.path.lexists(path) else None


def parse(text: str, kind: Kind, parse_float: Callable[[str], Any] | None = None) -> Any:
    """Returns the value of JSON text, once it is of a Kind; ValueError, in one line, if not.

    Args:
      text, kind: as said.
      parse_float: what makes a value of a number that is not whole, such as `as_written`; None:
        a float.
    """
    if text.startswith("\ufeff"):
        raise ValueError("it begins with a byte-order mark; save it as UTF-8 without one")
    try:
        value = json.loads(
            text,
            object_pairs_hook=_object,
            parse_constant=_check_constant,
            parse_int=_whole,
            parse_float=parse_float or _finite,
        )
    except RecursionError:
        raise ValueError("it is nested too deeply")
    value = _unsealed(value)
    check(value, kind)
    return value


def sealed(value: Mapping[str, Any]) -> dict[str, Any]:
    """Returns a JSON object with a sum of itself, by which `parse` notices what was altered."""
    return dict(value, **{_SEAL: _sum(value)})


def _unsealed(value: Any) -> Any:
    """Returns what was `sealed`; ValueError where it was altered. All else is as it was."""
    if not isinstance(value, dict) or _SEAL not in value:
        return value
    rest = {key: member for key, member in value.items() if key != _SEAL}
    if value[_SEAL] != _sum(rest):
        raise ValueError("it is not what was written")
    return rest


def _sum(value: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode("utf-8")).hexdigest()


def check(value: Any, kind: Kind) -> None:
    """Raises ValueError, in one line, where a value is not of a Kind."""
    try:
        kind(value, "")
    except _Wrong as wrong:
        raise ValueError(str(wrong))


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        keys = [key for key, _ in pairs]
        twice = next(key for number, key in enumerate(keys) if key in keys[:number])
        raise ValueError("it holds %s twice" % ascii(twice))
    return found


def _check_constant(name: str) -> None:
    raise ValueError("it holds %s, which is no number of JSON" % name)


def _whole(digits: str) -> int:
    if len(digits) > _LONGEST_NUMBER:
        raise ValueError("it holds a number of %d digits" % len(digits))
    return int(digits)


def _finite(digits: str) -> float:
    value = float(digits)
    if not math.isfinite(value):
        raise ValueError("it holds %s, which is too large a number" % digits[:_SHOWN])
    return value


def as_written(digits: str) -> str:
    """Returns a number of JSON text as it is written there, once it is finite."""
    _finite(digits)
    return digits


# --- Kinds ---


def anything(value: Any, place: str) -> None:
    """The Kind of all values."""


def whole(low: int = 0, high: int = 2**31 - 1) -> Kind:
    """Whole numbers from `low` to `high`, neither true nor 1.0."""

    def check(value: Any, place: str) -> None:
        is_whole = isinstance(value, int) and not isinstance(value, bool)
        if not (is_whole and low <= value <= high):
            raise _Wrong(place, "a whole number from %d to %d" % (low, high), value)

    return check


def number(low: float = -math.inf, high: float = math.inf) -> Kind:
    """Numbers from `low` to `high`."""

    def check(value: Any, place: str) -> None:
        is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
        if not (is_number and low <= value <= high):
            limits = "" if math.isinf(low) and math.isinf(high) else " from %g to %g" % (low, high)
            raise _Wrong(place, "a number" + limits, value)

    return check


def boolean(value: Any, place: str) -> None:
    """The Kind of true and false."""
    if not isinstance(value, bool):
        raise _Wrong(place, "true or false", value)


def text(pattern: str = "", expected: str = "text") -> Kind:
    """Text that a regular expression matches from end to end; without one any, but not empty."""

    def check(value: Any, place: str) -> None:
        if not isinstance(value, str) or not re.match("(?s:%s)\\Z" % (pattern or ".+"), value):
            raise _Wrong(place, expected, value)
        try:
            value.encode("utf-8")
        except UnicodeEncodeError:
            raise _Wrong(place, "text of whole characters", value)

    return check


def choice(values: Iterable[Any]) -> Kind:
    """One of some texts."""
    known = list(values)

    def check(value: Any, place: str) -> None:
        if not isinstance(value, str) or value not in known:
            raise _Wrong(place, "one of " + ", ".join(known), value)

    return check


def nullable(kind: Kind) -> Kind:
    """null, or what is of a Kind."""

    def check(value: Any, place: str) -> None:
        if value is not None:
            kind(value, place)

    return check


def listed(kind: Kind, least: int = 0) -> Kind:
    """A list, each member of which is of a Kind."""

    def check(value: Any, place: str) -> None:
        if not isinstance(value, list) or len(value) < least:
            raise _Wrong(place, "a list of %d or more" % least if least else "a list", value)
        for position, member in enumerate(value):
            kind(member, "%s[%d]" % (place, position))

    return check


def mapping(kind: Kind, names: Kind = anything) -> Kind:
    """An object, each value of which is of a Kind, and each name of another."""

    def check(value: Any, place: str) -> None:
        _check_no_object(value, place)
        for name, member in value.items():
            names(name, _at(place, ascii(name)[1:-1]))
            kind(member, _at(place, ascii(name)[1:-1]))

    return check


def table(
    fields: Mapping[str, Kind],
    optional: Mapping[str, Kind] | None = None,
    others: bool = False,
) -> Kind:
    """An object with declared fields.

    Args:
      fields: those that must be there.
      optional: those that may be there.
      others: whether there may be more; if not, such a record may be of a later version.
    """
    known = dict(fields, **(optional or {}))

    def check(value: Any, place: str) -> None:
        _check_no_object(value, place)
        for name in fields:
            if name not in value:
                raise _Wrong(place, "an object with %s" % name, value)
        for name, member in value.items():
            if name in known:
                known[name](member, _at(place, name))
            elif not others:
                message = "nothing else; it may be of a later version of this program"
                raise _Wrong(_at(place, ascii(name)[1:-1]), message, member)

    return check


def both(first: Kind, second: Kind) -> Kind:
    """What is of two Kinds."""

    def check(value: Any, place: str) -> None:
        first(value, place)
        second(value, place)

    return check


def _check_no_object(value: Any, place: str) -> None:
    if not isinstance(value, dict):
        raise _Wrong(place, "an object", value)


def _at(place: str, name: str) -> str:
    return "%s.%s" % (place, name) if place else name
