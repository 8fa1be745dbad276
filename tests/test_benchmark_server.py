"""Tests of the server benchmark: its requests, and its counts."""

import json
import types

import pytest

import benchmark_server
from conftest import needs_tensorflow_2, write_pairs

pytest.importorskip("uvicorn")
pytest.importorskip("fastapi")


@needs_tensorflow_2
def test_a_row_counts_the_answers_of_a_real_server(export, tmp_path, monkeypatch, capsys):
    write_pairs(tmp_path / "dev.txt", 30, seed=2)
    load = benchmark_server.load

    def brief(*arguments):  # Of the second that is not counted, too.
        return load(*arguments[:-1], min(arguments[-1], 0.5))

    monkeypatch.setattr(benchmark_server, "load", brief)
    values = dict(text_file=str(tmp_path / "dev.txt"), clients=["1", "3"], seconds=0.5)
    flags = types.SimpleNamespace(transformers=False, **values)
    monkeypatch.setattr(benchmark_server, "FLAGS", flags)
    one, three = benchmark_server.run([export("onnx")])
    assert (one["clients"], three["clients"]) == (1, 3) and one["batch_size"] == 1
    for row in (one, three):
        assert row["p50_ms"] <= row["p95_ms"] <= row["p99_ms"]
        assert 1 <= row["batch_size"] <= row["clients"]
        # The mean time of a request: simultaneous requests, divided by requests per second.
        mean = row["clients"] / row["requests_per_second"] * 1000
        assert row["p50_ms"] < 2 * mean and mean < 2 * row["p99_ms"]
    assert len(capsys.readouterr().out.splitlines()) == 3


def test_all_lines_are_asked_for(tmp_path):
    write_pairs(tmp_path / "dev.txt", 30, seed=2)
    lines = (tmp_path / "dev.txt").read_text(encoding="utf-8").splitlines()
    asked = [json.loads(body) for body in benchmark_server.read_bodies(str(tmp_path / "dev.txt"))]
    found = sorted((one["text_a"], one["text_b"]) for one in asked)
    assert found == sorted(tuple(line.split("\t")[:2]) for line in lines)
