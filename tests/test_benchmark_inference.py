"""The inference benchmark: its batches, and its table."""

import json
import os
import types

import numpy as np
import pytest

import benchmark_inference
import forks
import tokenization
from conftest import ROOT
from theseus.inputs import batches, encoding, reading, tasks

SCRIPT = os.path.join(ROOT, "scripts", "benchmarks", "benchmark_inference.py")


def test_the_published_setting_is_60_and_60_tokens(random_data):
    tokenizer = tokenization.FullTokenizer(str(random_data / "bert" / "vocab.txt"))
    examples = benchmark_inference.random_pairs(tokenizer, 3, 60)
    encoded = encoding.encode_examples(examples, tasks.TASKS["lcqmc_pair"], tokenizer, 128)
    np.testing.assert_array_equal(encoded.lengths, [123] * 3)
    np.testing.assert_array_equal(encoded.lengths_a, [62] * 3)


def test_a_row_for_each_depth_and_batch_size(random_data, tmp_path):
    arguments = ["--bert_pretrained_model=%s" % (random_data / "bert"), "--num_batches=3"]
    arguments += ["--data_dir=%s" % random_data, "--json=rows.json"]
    arguments += ["--batch_sizes=4,1", "--suc_layers=2,1"]
    status, output, errors = forks.run([SCRIPT] + arguments, tmp_path)
    assert status == 0, errors
    with open(str(tmp_path / "rows.json")) as reader:
        rows = json.load(reader)
    found = [(row["batch_size"], row["layers"]) for row in rows]
    assert found == [(size, layers) for size in (4, 1) for layers in (4, 2, 1)]
    assert len(output.splitlines()) == 1 + len(rows)
    for row in rows:
        assert 0 < row["graph_p50_ms"] <= row["graph_p95_ms"]
        assert 0 < row["text_p50_ms"] <= row["text_p95_ms"]
        assert (row["speed_up"] == 1) == (row["layers"] == 4)


def test_a_batch_larger_than_the_data_is_refused(random_data, tmp_path):
    arguments = ["--bert_pretrained_model=%s" % (random_data / "bert"), "--batch_sizes=500"]
    arguments += ["--data_dir=%s" % random_data]
    status, _, errors = forks.run([SCRIPT] + arguments, tmp_path)
    message = "--batch_sizes: dev has fewer than 500 pairs; give smaller ones"
    assert status == 1 and "benchmark_inference.py: " + message in errors.splitlines()


def test_benchmarks_are_drawn(tmp_path):
    pytest.importorskip("matplotlib")
    rows = [
        dict(layers=layers, batch_size=size, tokens=tokens, precision="float32", graph_p50_ms=1.0)
        for layers in (12, 2)
        for size in (10, 1)
        for tokens in (33.0, 123.0)
    ]
    (tmp_path / "rows.json").write_text(json.dumps(rows))
    script = os.path.join(ROOT, "scripts", "benchmarks", "plot_benchmarks.py")
    status, _, errors = forks.run([script, "rows.json", "rows.png"], tmp_path)
    assert status == 0, errors
    assert (tmp_path / "rows.png").read_bytes().startswith(b"\x89PNG")


# --- The figures ---


def test_a_rows_figures_are_of_its_own_times():
    graph, text = np.arange(1, 101) / 1000.0, np.arange(101, 201) / 1000.0
    times = {12: np.array([graph, text]), 2: np.array([graph / 4, text / 2])}
    row = benchmark_inference.summarize(times, 2, 10, "float32", 33.0)
    assert (row["layers"], row["batch_size"], row["tokens"]) == (2, 10, 33.0)
    found = [row[name] for name in ("graph_p50_ms", "graph_p95_ms", "text_p50_ms", "text_p95_ms")]
    np.testing.assert_allclose(found, [50.5 / 4, 95.05 / 4, 150.5 / 2, 195.05 / 2])
    # 100 batches of 10 in 5.05 / 4 seconds.
    np.testing.assert_allclose(row["pairs_per_second"], 1000 / (5.05 / 4))
    np.testing.assert_allclose(row["speed_up"], 4.0)


def test_the_first_round_is_not_timed_and_models_take_turns(monkeypatch):
    log, clock = [], iter(range(100))

    def seconds(model, *_):
        log.append(model.layers)
        return next(clock)

    monkeypatch.setattr(benchmark_inference, "FLAGS", types.SimpleNamespace(max_seq_length=8))
    monkeypatch.setattr(benchmark_inference, "seconds_of_graph", seconds)
    monkeypatch.setattr(benchmark_inference, "seconds_from_text", seconds)
    models = [benchmark_inference.TimedModel(layers, None, None) for layers in (12, 2)]
    batches = [benchmark_inference.Batch(None, None)] * 2
    encoded = types.SimpleNamespace(batch=lambda rows: None)
    times = benchmark_inference.measure(models, batches, encoded, None)
    assert log == [12, 12, 2, 2] * 4
    np.testing.assert_array_equal(times[12], [[8, 12], [9, 13]])
    np.testing.assert_array_equal(times[2], [[10, 14], [11, 15]])


def test_timed_batches_are_full_and_of_all_lengths():
    lengths = np.arange(10, 10 + 43)
    plan = batches.plan_in_length_order(lengths, 4)
    chosen = benchmark_inference.spaced(plan, lengths, 4, 5)
    assert all(len(rows) == 4 for rows in chosen)
    assert sorted(lengths[rows].max() for rows in chosen) == [17, 25, 33, 41, 49]
    assert [lengths[rows].max() for rows in chosen] != [17, 25, 33, 41, 49]
    assert len(benchmark_inference.spaced(plan, lengths, 4, 30)) == 30


def test_from_text_all_is_timed_from_the_text_to_the_label(monkeypatch):
    events = []
    tokenizer = types.SimpleNamespace(
        tokenize=lambda text: events.append("tokenized") or list(text),
        convert_tokens_to_ids=lambda tokens: [7] * len(tokens),
    )

    def run(fetches, feed):
        events.append("run")
        return np.zeros([1, 2])

    features = {name: name for name in ("input_ids", "input_mask", "segment_ids")}
    model = benchmark_inference.TimedModel(
        2, types.SimpleNamespace(run=run), types.SimpleNamespace(features=features, logits=None)
    )
    times = iter([5.0, 7.5])
    monkeypatch.setattr(
        benchmark_inference.time, "perf_counter", lambda: events.append("clock") or next(times)
    )
    examples = [reading.Example("ab", "c", None)]
    assert benchmark_inference.seconds_from_text(model, examples, tokenizer, 16) == 2.5
    assert [e for e in events if e != "tokenized"][0] == "clock" == events[0] == events[-1]
    assert "tokenized" in events and "run" in events


def test_a_panel_holds_the_other_axis_at_its_largest():
    pytest.importorskip("matplotlib")
    import plot_benchmarks

    rows = [
        dict(layers=n, batch_size=size, tokens=tokens, precision="float32", graph_p50_ms=n * tokens)
        for n in (12, 2, 6)
        for size in (10, 1)
        for tokens in (33, 123)
    ]
    lines = plot_benchmarks.lines_of(rows, "layers", "tokens", "batch_size")
    points = [(2, 246), (6, 738), (12, 1476)]
    assert dict(lines) == {
        "batch size = 10, float32": points,
        "batch size = 1, float32": points,
    }
