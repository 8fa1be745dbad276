"""What a first answer costs: a row for each export, by a process of its own."""

import pytest

import benchmark_start
from conftest import needs_tensorflow_2


@needs_tensorflow_2
def test_each_export_has_a_row_and_onnx_imports_no_tensorflow(export, capsys):
    benchmark_start.main([export("onnx"), export("bert")])
    lines = capsys.readouterr().out.splitlines()
    rows = [line.split() for line in lines if "Classifier" in line]
    assert [row[4] for row in rows] == ["-", "tensorflow"]
    assert all(float(row[0]) > 0 and float(row[2]) > 10 for row in rows)


def test_without_a_folder_a_line_says_so():
    with pytest.raises(SystemExit, match="give one or several exports"):
        benchmark_start.main([])
