"""The formula for the products that a step needs, and the benchmark's table."""

import json
import os
import pickle
import types

import numpy as np
import pytest
import tensorflow.compat.v1 as tf

import benchmark_training
import forks
import modeling_theseus
import optimization_theseus
from conftest import ROOT, SMALL_BERT, write_bert
from theseus.errors import UserError
from theseus.stage import STAGES

CONFIG = modeling_theseus.BertConfig.from_dict(SMALL_BERT)
GROUPS = [[0, 1], [2, 3]]
PATH = [True, False]
TOKENS, HIDDEN, LAYERS = 3 * 7, 16, 3
DENSE = 2 * TOKENS * (4 * HIDDEN**2 + 2 * HIDDEN * 32)


def flops(trains):
    """Returns `step_flops` for 3 rows of 7 tokens; `trains` tells by name which variables train."""
    variables = [v for v in tf.trainable_variables() if trains(v.op.name)]
    layers = benchmark_training.layers_on_path(GROUPS, PATH, variables)
    return benchmark_training.step_flops([7, 7, 7], CONFIG, layers)


def count_products(node):
    """Sums the operations of the products below a node of TensorFlow's profiler."""
    own = node.float_ops if "MatMul" in node.name else 0
    return own + sum(count_products(child) for child in node.children)


def test_the_formula_counts_what_tensorflow_counts(session):
    input_ids = tf.ones([3, 7], tf.int32)
    model = modeling_theseus.BertModel(
        CONFIG, False, input_ids, modules=modeling_theseus.encoder_modules(CONFIG, GROUPS, PATH)
    )
    variables = [v for v in tf.trainable_variables() if "pooler" not in v.op.name]
    gradients = optimization_theseus.compute_gradients(
        tf.reduce_sum(tf.square(model.get_sequence_output())), variables
    )
    session.run(tf.global_variables_initializer())
    metadata = tf.RunMetadata()
    options = tf.RunOptions(trace_level=tf.RunOptions.FULL_TRACE)
    session.run(gradients, options=options, run_metadata=metadata)
    builder = tf.profiler.ProfileOptionBuilder
    options = builder(builder.float_operation()).with_empty_output().build()
    counted = count_products(
        tf.profiler.profile(session.graph, metadata, cmd="op", options=options)
    )
    # The encoder's alone: without the token types, forward and back, and the pooler, forward.
    counted -= 3 * 2 * TOKENS * 2 * HIDDEN + 2 * 3 * HIDDEN**2
    attention = 3 * LAYERS * 4 * 3 * 7**2 * HIDDEN
    if tf.__version__.startswith("1."):  # It does not count the products of attention.
        counted += attention
    assert flops(lambda name: True) == counted == 3 * LAYERS * DENSE + attention


def test_a_frozen_layer_needs_no_gradient_of_its_kernels(session):
    input_ids = tf.placeholder(tf.int32, [None, None])
    modeling_theseus.BertModel(
        CONFIG, False, input_ids, modules=modeling_theseus.encoder_modules(CONFIG, GROUPS, PATH)
    )
    everything = flops(lambda name: True)
    assert everything - flops(lambda name: "/layer_" not in name) == 2 * DENSE
    # With the embeddings frozen too, the lowest layer's input needs no gradient.
    saved = 2 * DENSE + 6 * TOKENS * HIDDEN**2
    assert everything - flops(lambda name: "/suc_layer_" in name) == saved


def test_a_row_is_measured_in_a_process_of_its_own(random_data, tmp_path):
    script = os.path.join(ROOT, "scripts", "benchmarks", "benchmark_training.py")
    write_bert(tmp_path / "bert", dict(SMALL_BERT, num_hidden_layers=1))
    arguments = ["--bert_pretrained_model=bert", "--num_steps=1"]
    arguments += ["--data_dir=%s" % random_data, "--json=rows.json", "--rates=1"]
    arguments += ["--batch_sizes=8", "--suc_layers=1", "--stages=replacing", "--profile"]
    status, output, errors = forks.run([script] + arguments, tmp_path)
    assert status == 0, errors
    with open(str(tmp_path / "rows.json")) as reader:
        rows = json.load(reader)
    assert [(row["stage"], row["rate"]) for row in rows] == [("replacing", 1)]
    lines = [line.split() for line in output.splitlines()]
    assert [line[0] for line in lines].count("replacing") == 1
    assert ["ms", "ResourceApplyAdam"] in [line[1:] for line in lines]
    for row in rows:
        assert row["batch_size"] == 8 and 0 < row["real_share"] <= 1
        assert row["examples_per_second"] > 0 and row["peak_mb"] > 100
        assert row["profile"]["ResourceApplyAdam"] > 0
        assert row["utilisation"] is None or 0 < row["utilisation"] <= 1
        assert row["update_share"] < 1 and row["product_spread"] >= 0


class InThisProcess(object):
    """A pool of processes that is none; what is raised comes as from another process."""

    def __init__(self, _):
        pass

    def __enter__(self):
        return self

    def __exit__(self, *_):
        pass

    def apply(self, function, arguments):
        try:
            return function(*arguments)
        except UserError as error:
            raise pickle.loads(pickle.dumps(error))

    def close(self):
        pass

    join = close


def run_main(monkeypatch, random_data, **values):
    """Runs the benchmark in this process."""
    options = dict(bert_pretrained_model=str(random_data / "bert"), data_dir=str(random_data))
    options.update(stages=["predecessor", "replacing"], suc_layers=["2"], rates=["0", "1"])
    options.update(precisions=["float32"], max_seq_length=32, max_train_examples=300)
    options.update(
        pad_to_max_length=False, xla=False, num_steps=1, profile=False, json=None, **values
    )
    flags = types.SimpleNamespace(flag_values_dict=lambda: options, **options)
    monkeypatch.setattr(benchmark_training, "FLAGS", flags)
    context = types.SimpleNamespace(Pool=InThisProcess)
    monkeypatch.setattr(benchmark_training.multiprocessing, "get_context", lambda _: context)
    benchmark_training.main([])


def test_the_table_has_all_rows(random_data, monkeypatch, capsys):
    figures = dict(examples_per_second=1.0, real_share=1.0, gradients_ms=1.0, update_share=0.5)
    figures.update(utilisation=None, product_gflops=1.0, product_spread=0.5, peak_mb=1.0)

    def measure(row, options):
        assert options["num_steps"] == 1
        return dict(row._asdict(), **figures)

    monkeypatch.setattr(benchmark_training, "measure", measure)
    run_main(monkeypatch, random_data, batch_sizes=["8", "9"])
    lines = capsys.readouterr().out.splitlines()
    found = [line.split()[0] for line in lines[1:-1]]
    assert found == ["predecessor", "replacing", "replacing"] * 2
    assert lines[-1].startswith("the fastest float32 product: 1 to 1 GFLOP/s")


def test_a_batch_larger_than_the_data_is_refused(random_data, monkeypatch):
    with pytest.raises(SystemExit) as caught:
        run_main(monkeypatch, random_data, batch_sizes=["500"])
    message = "--batch_sizes: dev has fewer than 500 pairs; give smaller ones"
    assert caught.value.code == "benchmark_training.py: " + message


# --- What a row measures ---


def test_rows_are_each_stage_once_and_replacing_for_each_rate(monkeypatch):
    values = dict(stages=[stage.name for stage in STAGES], suc_layers=["6", "2"], rates=["0", "1"])
    values.update(precisions=["float32"], batch_sizes=["8"])
    monkeypatch.setattr(benchmark_training, "FLAGS", types.SimpleNamespace(**values))
    rows = benchmark_training.all_rows()
    assert [row[:3] for row in rows] == [
        ("predecessor", None, None),
        ("replacing", 6, 0.0),
        ("replacing", 6, 1.0),
        ("replacing", 2, 0.0),
        ("replacing", 2, 1.0),
        ("successor", 6, None),
        ("successor", 2, None),
    ]
    assert {row[3:] for row in rows} == {(8, "float32")}


def test_a_rows_settings_are_those_of_its_stage():
    for stage, scope in zip(STAGES, ("all", "successor_layers", "successor")):
        row = benchmark_training.Row(stage.name, 6, 0.75, 8, "bfloat16")
        config = benchmark_training.make_config(row, "successor_layers")
        found = (config.stage, config.scope, config.training_precision)
        assert found == (stage, scope, "bfloat16")
        assert (config.train_batch_size, config.replace_rate_prob) == (8, 0.75)


def test_the_reference_is_the_best_of_all_products_and_times():
    sizes = [(10, 10, 10), (2, 5, 10)]
    assert benchmark_training.best_rate(sizes, [[4.0, 2.0], [1.0]]) == 1000.0
    assert benchmark_training.best_rate(sizes, [[4.0, 2.0], [0.1, 1.0]]) == 2000.0


@pytest.mark.parametrize(
    "product, spread, expected", [(100.0, 0.05, 0.5), (100.0, 0.5, None), (40.0, 0.05, None)]
)
def test_a_utilisation_is_never_above_1_nor_that_of_a_noisy_machine(product, spread, expected):
    step = benchmark_training.TimedStep(np.array([3, 4]), [True], 1.0, 2.0)
    found = benchmark_training.summarize([step], [100.0], 8, product, spread)
    assert found["utilisation"] == expected
    words = benchmark_training.format_row(
        dict(found, stage="a", precision="b", suc_layers=6, rate=0.5, batch_size=2, peak_mb=1.0)
    ).split()
    assert ("noisy" in words) == (expected is None)
