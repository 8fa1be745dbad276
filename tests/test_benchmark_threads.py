"""onnxruntime's threads: a row for each setting."""

import types

import pytest

from conftest import needs_tensorflow_2

onnxruntime = pytest.importorskip("onnxruntime")

import benchmark_threads  # noqa: E402


@needs_tensorflow_2
def test_each_setting_has_a_row_beside_each_number_of_busy_processes(export, monkeypatch, capsys):
    values = types.SimpleNamespace(busy=["0", "1"], threads=["1", "2"], tokens=8, runs=3)
    monkeypatch.setattr(benchmark_threads, "FLAGS", values)
    benchmark_threads.main(["benchmark_threads.py", export("onnx")])
    rows = [line.split() for line in capsys.readouterr().out.splitlines()[1:]]
    assert len(rows) == 16 and all(float(row[4]) > 0 for row in rows)
    assert {tuple(row[:4]) for row in rows} == {
        (busy, size, threads, spins)
        for busy in "01"
        for size in ("1", "10")
        for threads in "12"
        for spins in ("yes", "no")
    }
