"""Tests of a run's record of software and hardware, and of the warning if a resume differs."""

import io
import json
import types

import numpy as np
import pytest
import tensorflow.compat.v1 as tf

import theseus
from theseus import machine
from theseus.runs.stage_folder import StageFolder

CPU_INFO = """processor\t: 0
model name\t: Some CPU
flags\t\t: fpu sse4_1 avx avx2 fma avx512f amx_bf16

"""


@pytest.fixture
def some_cpu(monkeypatch):
    opened = types.SimpleNamespace(open=lambda *_, **__: io.StringIO(CPU_INFO))
    monkeypatch.setattr(machine, "io", opened)


def test_versions_and_the_features_that_count_are_described(some_cpu):
    found = machine.describe()
    assert found["processor"] == "some cpu"
    assert found["processor_features"] == ["sse4_1", "avx", "avx2", "fma", "avx512f", "amx_bf16"]
    assert (found["tensorflow"], found["numpy"]) == (tf.__version__, np.__version__)
    assert found["program"].split()[0] == theseus.__version__
    assert found["num_processors"] >= 1
    assert json.loads(json.dumps(found)) == found


def test_no_cpuinfo_is_no_error(monkeypatch):
    def refuse(*_, **__):
        raise OSError

    monkeypatch.setattr(machine, "io", types.SimpleNamespace(open=refuse))
    found = machine.describe()
    assert found["processor_features"] == [] and found["processor"]


def test_what_differs_is_said_and_what_an_older_record_lacks_is_not():
    began = {"tensorflow": "2.21.0", "processor_features": ["avx2", "avx512f"]}
    now = {"tensorflow": "2.21.1", "processor_features": ["avx2", "fma"], "numpy": "2.0"}
    said = "tensorflow 2.21.1, not 2.21.0, without avx512f, with fma"
    assert machine.describe_change(began, now) == said
    assert machine.describe_change(now, now) == machine.describe_change({}, now) == ""


def test_the_record_is_beside_what_defines_a_run(tmp_path):
    folder = StageFolder(str(tmp_path / "out"))
    with folder.locked():
        folder.claim({"seed": 1}, {}, {"tensorflow": "2.21.0"})
        folder.claim({"seed": 1}, {}, {"tensorflow": "1.15.5"})  # A resume leaves it as it is.
    assert folder.run_config() == {"seed": 1}
    assert folder.environment() == {"tensorflow": "2.21.0"}


def test_a_folder_without_the_record_began_on_nothing_known(tmp_path):
    (tmp_path / "run.json").write_text('{"seed": 1}')
    folder = StageFolder(str(tmp_path))
    assert folder.run_config() == {"seed": 1} and folder.environment() == {}


@pytest.mark.parametrize(
    "contents, expected",
    [
        (["150000 100000\n"], 2),
        (["50000 100000\n"], 1),
        (["max 100000\n"], 8),
        (["6400000 100000\n"], 8),
        (["250000\n", "100000\n"], 3),
        (["-1\n", "100000\n"], 8),
        ([], 8),
    ],
)
def test_a_containers_limit_counts_as_so_many_processors(tmp_path, monkeypatch, contents, expected):
    paths = [str(tmp_path / str(number)) for number in range(len(contents))]
    for path, content in zip(paths, contents):
        with io.open(path, "w", encoding="utf-8") as writer:
            writer.write(content)
    others = [str(tmp_path / "not there")]
    monkeypatch.setattr(machine, "_LIMITS", (others, paths) if paths else (others,))
    monkeypatch.setattr(machine.os, "sched_getaffinity", lambda _: set(range(8)), raising=False)
    assert machine.num_processors() == expected
    assert machine.is_limited() == (expected < 8)
    assert machine.describe()["num_processors"] == 8  # These share TensorFlow's sums.


def test_without_the_call_of_linux_all_processors_count(monkeypatch):
    monkeypatch.delattr(machine.os, "sched_getaffinity", raising=False)
    monkeypatch.setattr(machine.os, "cpu_count", lambda: 3)
    monkeypatch.setattr(machine, "_LIMITS", ())
    assert machine.num_processors() == 3
