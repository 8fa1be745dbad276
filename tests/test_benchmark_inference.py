"""The inference benchmark: its batches, and its table."""

import json
import os
import sys

import numpy as np
import pytest

import benchmark_inference
import tokenization
from conftest import ROOT, run
from theseus.inputs import input_pipeline, tasks

SCRIPT = os.path.join(ROOT, "scripts", "benchmark_inference.py")


def test_the_published_setting_is_60_and_60_tokens(random_data):
    tokenizer = tokenization.FullTokenizer(str(random_data / "bert" / "vocab.txt"))
    examples = benchmark_inference.random_pairs(tokenizer, 3, 60)
    encoded = input_pipeline.encode_examples(examples, tasks.TASKS["lcqmc_pair"], tokenizer, 128)
    np.testing.assert_array_equal(encoded.lengths, [123] * 3)
    np.testing.assert_array_equal(encoded.lengths_a, [62] * 3)


def test_a_row_for_each_depth_and_batch_size(random_data, tmp_path):
    arguments = ["--bert_pretrained_model=%s" % (random_data / "bert"), "--num_batches=3"]
    arguments += ["--data_dir=%s" % random_data, "--json=rows.json", "--batch_sizes=4,1"]
    status, output, errors = run([sys.executable, SCRIPT] + arguments, tmp_path)
    assert status == 0, errors
    with open(str(tmp_path / "rows.json")) as reader:
        rows = json.load(reader)
    found = [(row["batch_size"], row["layers"]) for row in rows]
    assert found == [(size, layers) for size in (4, 1) for layers in (12, 6, 2)]
    assert len(output.splitlines()) == 1 + len(rows)
    for row in rows:
        assert 0 < row["graph_p50_ms"] <= row["graph_p95_ms"]
        assert 0 < row["text_p50_ms"] <= row["text_p95_ms"]
        assert (row["speed_up"] == 1) == (row["layers"] == 12)


def test_a_batch_larger_than_the_data_is_refused(random_data, tmp_path):
    arguments = ["--bert_pretrained_model=%s" % (random_data / "bert"), "--batch_sizes=500"]
    arguments += ["--data_dir=%s" % random_data]
    status, _, errors = run([sys.executable, SCRIPT] + arguments, tmp_path)
    message = "--batch_sizes: there are fewer than 500 pairs"
    assert (status, errors.splitlines()[-1]) == (1, "benchmark_inference.py: " + message)


def test_benchmarks_are_drawn(tmp_path):
    pytest.importorskip("matplotlib")
    rows = [
        dict(layers=layers, batch_size=size, tokens=tokens, precision="float32", graph_p50_ms=1.0)
        for layers in (12, 2)
        for size in (10, 1)
        for tokens in (33.0, 123.0)
    ]
    (tmp_path / "rows.json").write_text(json.dumps(rows))
    script = os.path.join(ROOT, "scripts", "plot_benchmarks.py")
    status, _, errors = run([sys.executable, script, "rows.json", "rows.png"], tmp_path)
    assert status == 0, errors
    assert (tmp_path / "rows.png").read_bytes().startswith(b"\x89PNG")
