"""Tests of one-line messages: causes, lengths, limits of a process, and standard output."""

import io
import resource
import sys

import pytest

from theseus import errors, limits
from theseus.commands import output

DETECTED = (
    "Graph execution error:\n\nDetected at node 'save/SaveV2' defined at (most recent call):\n"
)


@pytest.mark.parametrize(
    "message, line",
    [
        ("one line", "one line"),
        ("\n first \n second", "first"),
        (DETECTED + "    File x\nNode: 'a'\n/b; No space left\n\t [[node]]", "/b; No space left"),
        (DETECTED + "Node: 'a'\nNode: 'b'\n2 root error(s) found.\n  (0) C: d", "(0) C: d"),
        ("2 root error(s) found.\n  (0) OOM: d", "(0) OOM: d"),
        ("Graph execution error:", "Graph execution error:"),
    ],
)  # fmt: skip
def test_the_line_of_an_error_holds_its_cause(message, line):
    assert errors.first_line(ValueError(message)) == line


def test_a_message_that_quotes_something_long_loses_its_middle():
    line = str(errors.UserError("file: holds %s, which is wrong" % ("x" * 100000)))
    assert len(line) < 2000 and line.startswith("file: holds xx") and line.endswith("is wrong")
    assert str(errors.UserError("short")) == "short"


@pytest.mark.parametrize("allowed, is_refused", [(1 << 30, True), (1 << 33, False), (-1, False)])
def test_too_little_address_space_is_said_before_tensorflow_aborts(
    monkeypatch, allowed, is_refused
):
    monkeypatch.setattr(resource, "getrlimit", lambda _: (allowed, allowed))
    if is_refused:
        with pytest.raises(errors.UserError, match="allows 1.1 GB of address space.*ulimit -v"):
            limits.check_little_memory()
    else:
        limits.check_little_memory()


def test_standard_output_that_takes_nothing_is_said_once(monkeypatch):
    with io.open("/dev/full", "w") as full:
        monkeypatch.setattr(sys, "stdout", full)
        with pytest.raises(errors.UserError, match="standard output: cannot be written: No space"):
            output.say("results")
        output.say("what follows goes nowhere, as what Python has left of it does")


def test_closed_standard_output_takes_tables_and_no_predictions(monkeypatch):
    monkeypatch.setattr(sys, "stdout", None)
    output.say("results")
    with pytest.raises(errors.UserError, match="standard output: is closed"):
        with output.standard_output():
            pass
