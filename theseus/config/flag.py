"""Declares flags as fields of a dataclass: parser, bounds and line of help.

A group of flags is a frozen dataclass whose fields are made by `flag`. The field's name, annotation
and default are the flag's name, type and default. Without TensorFlow.
"""

from __future__ import annotations

import dataclasses
import functools
import math
import re
from typing import Any, Callable, Iterable, Iterator

from absl import flags

MAX_NUMBER = 2**31


@dataclasses.dataclass(frozen=True)
class Declaration:
    """The declaration of a flag, apart from its name, type and default.

    Attributes:
      help: str, a noun phrase without the default.
      default_help: str, describes a default whose value is not self-explanatory; or "".
      choices: tuple of str, the allowed values; () if any is allowed.
      lower, upper: bounds, inclusive; None: no bound.
      above, below: bounds, exclusive; None: no bound.
      parse: function from text to the value, which raises ValueError; None: chosen by the type.
      defines_run: bool, whether a result depends on the flag, so that run.json records it.
      stages: tuple of int, the stages that use it.
      is_common: bool, whether --help shows it.
      must_name: bool, whether an empty text, as from an unset shell variable, is refused.
    """

    help: str
    default_help: str = ""
    choices: tuple[str, ...] = ()
    lower: float | None = None
    upper: float | None = None
    above: float | None = None
    below: float | None = None
    parse: Callable[[str], Any] | None = None
    defines_run: bool = False
    stages: tuple[int, ...] = (0, 1, 2)
    is_common: bool = False
    must_name: bool = False


def flag(default: Any, help: str, default_help: str = "", **declared: Any) -> Any:
    """Returns the dataclass field of a flag; all arguments but `default` go to its Declaration."""
    declaration = Declaration(help, default_help, **declared)
    return dataclasses.field(default=default, metadata={"flag": declaration})


run_flag = functools.partial(flag, defines_run=True)
"""Returns the field of a flag that a result depends on; see `flag`."""


def declarations(group: type) -> Iterator[tuple[dataclasses.Field[Any], Declaration]]:
    """Yields (field, Declaration) of a dataclass's flags, without those of its base classes."""
    own = group.__dict__.get("__annotations__", {})
    for field in dataclasses.fields(group):
        if field.name in own and "flag" in field.metadata:
            yield field, field.metadata["flag"]


def define(groups: Iterable[type], module_name: str) -> None:
    """Defines the flags of all groups with absl, as flags of a module."""
    for group in groups:
        for field, declared in declarations(group):
            _define(field, declared, module_name)


def _define(field: dataclasses.Field[Any], declared: Declaration, module_name: str) -> None:
    kind, text = str(field.type).replace(" | None", ""), sentence(field, declared)
    made: Any
    if kind == "bool":
        made = flags.BooleanFlag(field.name, field.default, text)  # type: ignore[arg-type]
    else:
        parser = _Parser(kind, declared)
        made = flags.Flag(parser, _Serializer(), field.name, field.default, text)
    flags.DEFINE_flag(made, module_name=module_name)


class _Parser(flags.ArgumentParser):  # type: ignore[type-arg]
    """Parses a flag's text, and checks its bounds."""

    def __init__(self, kind: str, declared: Declaration) -> None:
        self._declared = declared
        self._read = declared.parse or _READERS[kind]

    def parse(self, argument: Any) -> Any:
        """Returns the value of a flag's text; a default that is not text is returned unchanged."""
        if not isinstance(argument, str):
            return argument
        if self._declared.must_name and not argument:
            raise ValueError("is empty; give a name, or leave it out")
        value = self._read(argument)
        if isinstance(value, (int, float)):
            self._check_bounds(value)
        elif self._declared.choices:
            self._check_choices(value)
        return value

    def _check_bounds(self, value: float) -> None:
        declared = self._declared
        if not (math.isfinite(value) and abs(value) < MAX_NUMBER):
            raise ValueError("must be finite and less than %d in magnitude" % MAX_NUMBER)
        if declared.above is not None and not value > declared.above:
            raise ValueError("must be above %g" % declared.above)
        if declared.below is not None and not value < declared.below:
            raise ValueError("must be below %g" % declared.below)
        if declared.lower is not None and value < declared.lower:
            raise ValueError("must be at least %g" % declared.lower)
        if declared.upper is not None and value > declared.upper:
            raise ValueError("must be at most %g" % declared.upper)

    def _check_choices(self, value: str | tuple[str, ...]) -> None:
        choices = ", ".join(self._declared.choices)
        if isinstance(value, str):
            if value not in self._declared.choices:
                raise ValueError("must be one of %s" % choices)
        elif len(set(value)) != len(value) or not set(value) <= set(self._declared.choices):
            raise ValueError(
                "give one or several different values of %s, separated by commas" % choices
            )


class _Serializer(flags.ArgumentSerializer):  # type: ignore[type-arg]
    """Converts a value to the text that a command line has for it."""

    def serialize(self, value: Any) -> str:
        """Returns the text of a value."""
        return written(value)


def written(value: Any) -> str:
    """Returns a flag's value as text for the command line, str."""
    if isinstance(value, tuple):
        return ",".join(map(written, value))
    if isinstance(value, bool):
        return str(value).lower()
    return "%g" % value if isinstance(value, float) else str(value)


def _whole(text: str) -> int:
    if not re.match(r"\s*[+-]?[0-9]{1,20}\s*$", text):
        raise ValueError("must be a whole number")
    return int(text)


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise ValueError("must be a number")


def texts(text: str) -> tuple[str, ...]:
    """Returns the members of a comma-separated list, a tuple of str."""
    return tuple(flags.ListParser().parse(text))


_READERS: dict[str, Callable[[str], Any]] = {
    "str": str,
    "int": _whole,
    "float": _number,
    "tuple[str, ...]": texts,
}


# --- In words ---


def default_of(field: dataclasses.Field[Any]) -> str:
    """Returns a flag's default as text for the command line; "" if there is none."""
    return "" if field.default in (None, ()) else written(field.default)


def sentence(field: dataclasses.Field[Any], declared: Declaration) -> str:
    """Returns a flag's help with its choices, its stages and its default."""
    said = [declared.help]
    if declared.choices:
        said.append("One of %s." % ", ".join(declared.choices))
        if str(field.type).startswith("tuple"):
            said[-1] = "One or several of %s." % ", ".join(declared.choices)
    default = declared.default_help or default_of(field)
    if default and str(field.type) != "bool":
        said.append("Default: %s." % default)
    return " ".join(said)
