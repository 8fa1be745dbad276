"""Tests of the fault injection: the commands pass it, and a careless program fails it."""

import os
import shutil
import sys

import pytest

from conftest import ROOT, needs_tensorflow_2, read_json, run

pytestmark = [
    needs_tensorflow_2,
    pytest.mark.skipif(not shutil.which("cc"), reason="needs a C compiler"),
]
SCRIPT = os.path.join(ROOT, "scripts", "faults", "inject_faults.py")

# A program that resumes with other batches than an undisturbed run.
CARELESS = """
import os, runpy, sys
sys.path.insert(0, %r)
from theseus.inputs import batches

drawn = batches.plan_epoch
if os.path.exists("out_0/state.json"):
    batches.plan_epoch = lambda lengths, size, seed, epoch: drawn(lengths, size, seed + 1, epoch)
runpy.run_path(%r, run_name="__main__")
"""


@pytest.mark.parametrize(
    "more, count",
    [
        (["--commands=stage_0", "--kills=3", "--torn=3", "--failing_disk=3"], 3),
        pytest.param([], 5, marks=pytest.mark.long),
    ],
)
def test_commands_that_are_killed_torn_and_starved_end_as_undisturbed_ones(tmp_path, more, count):
    out = str(tmp_path / "report.json")
    arguments = ["--quick", "--workers=1", "--out=" + out] + more
    status, output, errors = run([sys.executable, SCRIPT] + arguments, tmp_path)
    assert status == 0, output + errors
    report = read_json(out)
    for kind in ("kills", "torn", "failing_disk"):
        assert report[kind]["trials"] >= count and report[kind]["problems"] == []


def test_a_command_that_goes_on_otherwise_is_found_out(tmp_path):
    program = tmp_path / "careless.py"
    program.write_text(CARELESS % (ROOT, os.path.join(ROOT, "run_classifier.py")))
    arguments = ["--quick", "--workers=1", "--commands=stage_0", "--program=%s" % program]
    arguments += ["--kills=3", "--torn=0", "--failing_disk=0"]
    status, output, errors = run([sys.executable, SCRIPT] + arguments, tmp_path)
    assert status == 1 and "differs: stage_0 " in output, output + errors
