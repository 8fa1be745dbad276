"""The benchmark from text to label: its rows, its ratios, and the batch without padding."""

import json
import os

import numpy as np
import pytest

import benchmark_serving
import forks
from conftest import ROOT, needs_tensorflow_2
from theseus.inputs import encoding

SCRIPT = os.path.join(ROOT, "scripts", "benchmarks", "benchmark_serving.py")


@needs_tensorflow_2
def test_a_row_for_each_depth_model_and_batch_size(random_data, tmp_path):
    pytest.importorskip("tf2onnx")
    arguments = ["--bert_pretrained_model=%s" % (random_data / "bert"), "--num_batches=2"]
    arguments += ["--data_dir=%s" % random_data, "--json=rows.json", "--batch_sizes=1,8"]
    status, output, errors = forks.run([SCRIPT, "--suc_layers=1"] + arguments, tmp_path)
    assert status == 0, errors
    with open(str(tmp_path / "rows.json")) as reader:
        rows = json.load(reader)
    ours = [row for row in rows if row["model"].startswith("onnx")]
    assert [(row["layers"], row["model"], row["batch_size"]) for row in ours] == [
        (layers, "onnx " + kind, size)
        for layers in (4, 1)
        for kind in ("int8", "float32")
        for size in (1, 8)
    ]
    assert len(output.splitlines()) == 1 + len(rows)
    assert all(min(row["arrays_ms"], row["text_ms"], row["real_ms"]) > 0 for row in rows)


def test_the_ratios_are_those_of_each_batch():
    seconds = np.array([[1.0, 2.0, 1.0], [10.0, 30.0, 5.0], [2.0, 5.0, 5.0]]) / 1000
    found = benchmark_serving.summarize("one", 0, 2, 64, 25.0, seconds)
    assert (found["arrays_ms"], found["text_ms"], found["real_ms"]) == (2.0, 5.0, 5.0)
    assert found["arrays_p95_ms"] == pytest.approx(9.2)  # Nine tenths of the way from 2 to 10.
    assert found["text_to_arrays"] == 2.5 and found["text_to_real"] == 2.0
    no_text = np.array([[1.0, np.nan, 1.0]]) / 1000
    row = benchmark_serving.format_row(
        benchmark_serving.summarize("OpenVINO float32", 1, 2, 1, 25.0, no_text)
    )
    assert row.split()[-4:] == ["-", "-", "1.00", "-"] and "nan" not in row


def test_without_padding_are_as_many_rows_of_the_mean_length():
    encoded = encoding.EncodedExamples(np.arange(12), [2, 3, 7], [1, 1, 1], [0, 0, 0])
    arrays = benchmark_serving.without_padding(encoded)
    assert {array.shape for array in arrays.values()} == {(3, 4)}
    assert arrays["input_mask"].all() and arrays["input_ids"].tolist()[0] == [0, 1, 2, 3]
