"""Tests of the benchmark of the first answer: a row, from its own process, for each export."""

import sys

import pytest

import benchmark_start
from conftest import needs_tensorflow_2


@needs_tensorflow_2
def test_each_export_has_a_row_and_onnx_imports_no_tensorflow(export, monkeypatch, capsys):
    fewer = benchmark_start._MEASURED.replace("range(1000)", "range(10)")
    assert fewer != benchmark_start._MEASURED
    monkeypatch.setattr(benchmark_start, "_MEASURED", fewer)
    benchmark_start.main([export("onnx"), export("bert")])
    lines = capsys.readouterr().out.splitlines()
    rows = [line.split() for line in lines if "Classifier" in line]
    assert [row[4] for row in rows] == ["-", "tensorflow"]
    assert all(float(row[0]) > 0 and float(row[2]) > 10 for row in rows)


def test_without_a_folder_a_line_says_so(capsys):
    with pytest.raises(SystemExit):
        benchmark_start.main([])
    assert "required: folders" in capsys.readouterr().err


def test_peers_are_asked_by_their_own_python(tmp_path, monkeypatch):
    peer = tmp_path / "python"
    peer.write_text('#!/bin/sh\necho "$2" | grep -q "import optimum"\n')
    peer.chmod(0o755)
    (tmp_path / "model.onnx").write_bytes(b"")
    found = [row[:2] for row in benchmark_start.contenders(str(tmp_path), str(peer))]
    assert found == [("Classifier", sys.executable), ("optimum", str(peer))]
    (tmp_path / "model.onnx").unlink()
    assert len(list(benchmark_start.contenders(str(tmp_path), str(peer)))) == 1
