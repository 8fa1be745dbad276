"""--xla: a compiled training is the same training, but for rounding. XLA compiles for GPUs; here
TensorFlow is told to compile for the processor too, in processes of their own."""

import json
import os

import pytest

import forks
from conftest import ROOT, assert_close, needs_tensorflow_2, write_bert, write_pairs
from theseus.session import session_config

LINE = (
    "--do_train --data_dir=data --bert_pretrained_model=bert --suc_layers=2 --stage_1_outputdir=%s "
    "--train_batch_size=16 --num_train_epochs=1 --learning_rate=1e-3 --max_seq_length=24 --xla "
    "--log_steps=1"
)
ON_PROCESSORS = "--tf_xla_cpu_global_jit --tf_xla_clustering_debug"


def test_only_xla_asks_tensorflow_to_compile():
    plain, compiled = session_config(False), session_config(False, xla=True)
    assert plain.graph_options.optimizer_options.global_jit_level == 0
    assert compiled.graph_options.optimizer_options.global_jit_level == 1


@pytest.mark.long
@needs_tensorflow_2
def test_a_compiled_training_draws_the_same_paths_and_has_the_same_losses(tmp_path):
    write_bert(tmp_path / "bert")
    (tmp_path / "data").mkdir()
    for name, count in (("train", 64), ("dev", 16), ("test", 16)):
        write_pairs(tmp_path / "data" / (name + ".txt"), count, 3)
    steps = {}
    for name, flags in (("plain", ""), ("compiled", ON_PROCESSORS)):
        dump = tmp_path / ("dump_" + name)
        dump.mkdir()
        environment = dict(TF_XLA_FLAGS=flags, TF_DUMP_GRAPH_PREFIX=str(dump))
        program = [os.path.join(ROOT, "run_classifier.py")] + (LINE % name).split()
        status, _, errors = forks.run(program, tmp_path, **environment)
        assert status == 0 and "--xla: there is no GPU" in errors, errors
        assert bool(os.listdir(str(dump))) == (name == "compiled")  # Only XLA dumps graphs.
        with open(str(tmp_path / name / "metrics.jsonl"), encoding="utf-8") as reader:
            rows = [json.loads(line) for line in reader]
        steps[name] = [row for row in rows if "gradient_norm" in row]
    paths = [[row["modules_replaced"] for row in rows] for rows in steps.values()]
    assert len(set(paths[0])) > 1 and paths[0] == paths[1]
    for key in ("loss", "gradient_norm"):
        assert_close(*[[row[key] for row in rows] for rows in steps.values()], 1e-3)
