"""The command line: the published lines end to end, results on disk, and users' mistakes."""

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys

import numpy as np
import pytest
import tensorflow.compat.v1 as tf

import forks
from conftest import (
    CASED_VOCABULARY,
    ROOT,
    SCRIPT,
    SMALL_BERT,
    assert_matches,
    assert_refused,
    command,
    contents,
    hugging_face_arrays,
    needs_tensorflow_2,
    read_json,
    refused,
    run,
    write_bert,
    write_pairs,
    write_weights,
)
from theseus import classifier
from theseus.checkpoints import weights
from theseus.commands import train
from theseus.errors import UserError
from theseus.inputs import encoding, parallel_encoding
from theseus.training import curves


def run_script(workspace, line):
    """Runs a command line in a fork; returns (exit status, output, errors)."""
    return forks.run([SCRIPT] + line.split()[2:], workspace)


# --- The published lines ---

SIX = ["python run_classifier.py --do_train --do_eval --suc_layers 6"]
SIX += [SIX[0] + " --finetune_suc"]
TWO = [
    "python run_classifier.py --do_train --do_eval --stage_1_outputdir out_1_2 "
    "--stage_2_outputdir out_2_2 --suc_layers 2"
]
TWO += [TWO[0] + " --finetune_suc"]
THREE = [TWO[0].replace("out_1_2", "out_1_3").replace("out_2_2", "out_2_3")]


@pytest.fixture(scope="module")
def workspace(tmp_path_factory):
    """A folder that has the project's data, and takes the output folders."""
    root = tmp_path_factory.mktemp("workspace")
    (root / "data").symlink_to(os.path.join(ROOT, "data"))
    return root


@pytest.mark.parametrize(
    "lines, folders, layers",
    [
        (SIX, ["out_1_layers_6", "out_2_layers_6"], 6),
        pytest.param(TWO, ["out_1_2", "out_2_2"], 2, marks=pytest.mark.long),
        pytest.param(THREE, ["out_1_3"], 2, marks=pytest.mark.long),
    ],
)
def test_the_published_lines(workspace, monkeypatch, capsys, caplog, lines, folders, layers):
    for line, folder in zip(lines, folders):
        line += " --max_train_examples=128 --num_train_epochs=1"
        if layers == 6:  # As programs of their own; the others like them, in this process.
            status, output, errors = run_script(workspace, line)
            assert status == 0, errors
        else:
            command(" ".join(line.split()[2:]), workspace, monkeypatch)
            output, errors = capsys.readouterr().out, caplog.text
        assert "training " in errors and "step 2/2, loss " in errors
        table = output.splitlines()
        assert table[1].startswith("epoch 1, step 2  best") and table[3].startswith("dev ")
        results = read_json(workspace, folder, "eval_results.json")
        assert results["split"] == "dev" and results["num_examples"] == 1000
        assert results["global_step"] == 2
        assert results["checkpoint"] == "best/model.ckpt-2"
        assert 0 <= results["accuracy"] <= 1 and results["loss"] > 0
        held = tf.train.list_variables(str(workspace / folder / results["checkpoint"]))
        kernels = [name for name, _ in held if name.endswith("intermediate/dense/kernel")]
        assert len(kernels) == layers and all("suc_layer" in name for name in kernels)


# --- In one process, on a BERT of 4 layers ---


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    """A folder with data in TSV, of 2 steps an epoch, and BERTs of 4 layers and, bert_2, of 2."""
    root = tmp_path_factory.mktemp("small")
    (root / "data").mkdir()
    for split, count, seed in [("train", 64, 1), ("dev", 30, 2), ("test", 20, 3)]:
        write_pairs(root / "data" / (split + ".tsv"), count, seed)
    write_bert(root / "bert")
    write_bert(root / "bert_2", dict(SMALL_BERT, num_hidden_layers=2))
    return root


COMMON = "--data_dir=data --bert_pretrained_model=bert --suc_layers=2 --train_batch_size=32 "
COMMON += "--num_train_epochs=1"
OF_2 = COMMON.replace("=bert", "=bert_2")


@pytest.fixture(scope="module")
def trained(small):
    """The folder with all three stages trained: out_0, out_1 and out_2."""
    with pytest.MonkeyPatch.context() as monkeypatch:
        command("--do_train --finetune_pre " + COMMON, small, monkeypatch)
        with open(str(small / "stage_1.txt"), "w") as writer, contextlib.redirect_stdout(writer):
            command("--do_train --do_eval --init_checkpoint=out_0 " + COMMON, small, monkeypatch)
        command("--do_train --finetune_suc " + COMMON, small, monkeypatch)
    return small


def test_each_stage_starts_from_where_it_should(trained):
    definitions = [read_json(trained, "out_%d" % stage, "run.json") for stage in range(3)]
    assert [d["stage"] for d in definitions] == ["predecessor", "replacing", "successor"]
    assert [d["train_scope"] for d in definitions] == ["all", "all", "successor"]
    assert [d["suc_layers"] for d in definitions] == [None, 2, 2]
    assert len({d["weights"] for d in definitions}) == 3
    assert len({d["train_data"] for d in definitions}) == 1


def test_stage_2_without_replacing_starts_from_a_pretrained_bert(trained, monkeypatch):
    """The control: a folder as --bert_pretrained_model takes it, or a stage's."""
    hashes = []
    for number, source in enumerate(["bert", "bert/bert_model.ckpt", "out_0"]):
        folder = "control_%d" % number
        line = "--do_train --finetune_suc --init_checkpoint=%s --stage_2_outputdir=%s "
        command(line % (source, folder) + COMMON, trained, monkeypatch)
        hashes.append(read_json(trained, folder, "run.json")["weights"])
    assert hashes[0] == hashes[1] == read_json(trained, "out_0", "run.json")["weights"]
    assert hashes[2] == read_json(trained, "out_1", "run.json")["weights"]


def test_a_finished_run_trains_nothing_and_prints_the_same_table(trained, monkeypatch, capsys):
    before = contents(trained / "out_1")
    monkeypatch.setattr("theseus.training.graph.build_graph", None)
    capsys.readouterr()
    command("--do_train --do_eval --init_checkpoint=out_0 " + COMMON, trained, monkeypatch)
    first = (trained / "stage_1.txt").read_text()
    assert capsys.readouterr().out == first
    assert "dev " in first and "best" in first
    after = contents(trained / "out_1")
    assert {name for name in before if before[name] != after[name]} <= {
        str(trained / "out_1" / "timing.json")
    }


def test_a_users_own_files_are_reported_by_name(trained, monkeypatch, capsys):
    for name in ("business.tsv", "test"):
        write_pairs(trained / name, 12, 5)
    line = "--do_eval --eval_split=test --eval_files=business.tsv,test "
    command(line + "--finetune_suc " + COMMON, trained, monkeypatch)
    results = read_json(trained, "out_2", "eval_results.json")
    assert results["split"] == "test" and results["num_examples"] == 20
    assert list(results["eval_files"]) == ["business.tsv", "test"]
    assert results["eval_files"]["business.tsv"]["majority_class_rate"] == 8 / 12
    rows = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert [row[0] for row in rows[:4]] == ["examples", "test", "business.tsv", "test"]
    assert not rows[4] and rows[5] == ["predicted", "0", "predicted", "1"]
    assert [list(map(int, row[2:])) for row in rows[6:8]] == results["confusion"]
    assert np.sum(results["eval_files"]["business.tsv"]["confusion"]) == 12
    timing = read_json(trained, "out_2", "timing.json")
    assert timing["train_seconds"] > 0 and timing["eval_examples_per_second"] > 0


@pytest.mark.parametrize("labelled", [True, False])
def test_predictions_follow_the_file(trained, monkeypatch, labelled):
    path = trained / "data" / "test.tsv"
    if not labelled:
        rows = [line.split("\t") for line in path.read_text(encoding="utf-8").splitlines()]
        path = trained / "unlabelled.tsv"
        text = "".join("%s\t%s\n" % (row[0], row[1]) for row in rows)
        path.write_text(text, encoding="utf-8")
    line = "--do_predict --predict_batch_size=7 --predict_file=%s " % path
    command(line + COMMON, trained, monkeypatch)
    with open(str(trained / "out_1" / "predictions.tsv"), encoding="utf-8") as reader:
        header, *rows = [line.rstrip("\n").split("\t") for line in reader]
    assert [row.pop(0) for row in rows] == [str(n) for n in range(20)]
    assert ("label" in header) == labelled
    expected = [line.split("\t") for line in path.read_text(encoding="utf-8").splitlines()]
    columns = 3 if labelled else 2
    assert [row[:columns] for row in rows] == expected
    for row in rows:
        zero, one = float(row[-2]), float(row[-1])
        assert zero + one == pytest.approx(1.0, abs=1e-7)
        assert row[-3] == ("1" if one > zero else "0")


@pytest.mark.parametrize(
    "change, message",
    [
        ("--learning_rate=1e-3", "--learning_rate: the run in out_1 has 2e-05, .* has 0.001;"),
        ("--seed=7", "--seed: the run in out_1 has 42, this command has 7; .*stage_1_outputdir"),
        ("--pad_to_max_length", "--pad_to_max_length: .* has None, this command has 128"),
        ("--suc_layers=4", "--suc_layers: the run in out_1 has 2, this command has 4"),
        ("--max_train_examples=9", "--max_train_examples: .* has None, this command has 9"),
        (
            "--init_checkpoint=",
            "--init_checkpoint or --bert_pretrained_model: the run in out_1 was started with oth",
        ),
    ],
)
def test_a_contradiction_of_the_run_is_refused(trained, monkeypatch, change, message):
    line = "--do_train --init_checkpoint=out_0 %s %s" % (COMMON, change)
    assert_matches(message, refused(line, trained, monkeypatch))


def test_training_pairs_are_encoded_once_for_each_content(trained, monkeypatch, tmp_path):
    """The training after the first run does not matter here."""

    def stop(*_):
        raise UserError("enough")

    encoded = []

    def watch(place, name):
        encode = getattr(place, name)

        def watched(*arguments):
            encoded.append(len(arguments[name == "encode"]))  # After self.
            return encode(*arguments)

        monkeypatch.setattr(place, name, watched)

    watch(encoding, "encode_examples")
    watch(parallel_encoding.Encoder, "encode")
    line = "--do_train --finetune_pre --cache_dir=%s %s " % (tmp_path / "cache", OF_2)
    for number, more in enumerate(["", "", "--max_train_examples=32"]):
        folder = " --stage_0_outputdir=%s" % (tmp_path / str(number))
        if number:
            assert "enough" in refused(line + more + folder, trained, monkeypatch)
        else:
            command(line + more + folder, trained, monkeypatch)
            monkeypatch.setattr(train, "_train", stop)
    assert encoded == [64, 30, 32]
    # How the files are read is content too.
    for number, more in enumerate(["--header=no", "--skip_bad_lines", "--encoding=utf-8"], start=3):
        folder = " --stage_0_outputdir=%s" % (tmp_path / str(number))
        assert "enough" in refused(line + more + folder, trained, monkeypatch)
    assert encoded[3:] == [64] * 3
    refusal = refused(
        line + " --header=no --stage_0_outputdir=%s" % (tmp_path / "0"), trained, monkeypatch
    )
    assert_matches("--header: the run in .* has auto, this command has no;", refusal)


@pytest.mark.parametrize(
    "line, names, is_tensorflows",
    [
        ("--do_eval", ["--eval_batch_size"], False),
        ("--do_predict", ["--predict_batch_size"], True),
        (
            "--do_train --finetune_suc --stage_2_outputdir=new_memory",
            ["--train_batch_size", "--gradient_accumulation_steps", "--max_seq_length"],
            True,
        ),
    ],
)
def test_too_little_memory_is_one_line(trained, monkeypatch, line, names, is_tensorflows):
    def fail(*_, **__):
        if is_tensorflows:
            raise tf.errors.ResourceExhaustedError(None, None, "OOM when allocating\nmore lines")
        raise MemoryError("Unable to allocate 9 GiB")

    monkeypatch.setattr("theseus.inference.predictions.compute_logits", fail)
    found = refused(line + " " + COMMON, trained, monkeypatch)
    shutil.rmtree(str(trained / "new_memory"), ignore_errors=True)
    assert found.startswith("run_classifier.py: out of memory; give ")
    assert all(name in found for name in names)
    assert "more lines" not in found


def test_changed_training_data_is_refused(trained, monkeypatch):
    path = trained / "data" / "train.tsv"
    held = path.read_bytes()
    try:
        write_pairs(path, 64, seed=9)
        line = "--do_train --init_checkpoint=out_0 " + COMMON
        assert (
            "--data_dir: the run in out_1 was started with other training data; restore"
            in refused(line, trained, monkeypatch)
        )
    finally:
        path.write_bytes(held)


@pytest.mark.parametrize(
    "line, message",
    [
        ("--do_eval --suc_layers=4", "--suc_layers: the run in out_1 has 2, this command has 4"),
        ("--do_eval --max_seq_length=64", "--max_seq_length: the run in out_1 has 128"),
        (
            "--do_eval --stage_1_outputdir=none",
            "none: holds no trained model; .* give another folder with --stage_1_outputdir",
        ),
        ("--do_train --suc_layers=4 --finetune_suc", "--suc_layers: the successor in out_1 has 2"),
        ("--do_train --suc_layers=3", "suc_layers = 3 does not divide .* 4 layers; choose one of"),
        ("--do_train --modules=1,2", "--modules: the sizes 1,2 add up to 3, .* has 4 layers; give"),
        ("--do_train --modules=1,1,2", "--suc_layers=2: --modules has 3 sizes, one for each layer"),
        ("--do_train --max_seq_length=129", "--max_seq_length=129: bert has 128 positions"),
        ("--do_train --data_dir=none", "--data_dir: there is no folder none"),
        (
            "--do_train --bert_pretrained_model=none",
            "--bert_pretrained_model: none is not a folder",
        ),
        (
            "--do_train --init_checkpoint=none",
            "--init_checkpoint: there is no none; give a stage's",
        ),
        ("--do_train --init_checkpoint=data", "data: expected a checkpoint.s prefix, or a folder"),
        ("--do_eval --eval_files=none.tsv", "--eval_files: there is no file none.tsv"),
        ("--do_predict --predict_file=none.tsv", "--predict_file: there is no file none.tsv"),
        ("--do_predict --predict_file=data", "data: cannot be read: Is a directory"),
        ("--do_train --train_scope=successor_layers", "bert/bert_model.ckpt holds no trained clas"),
    ],
)
def test_a_mistake_is_one_line_and_nothing_is_written(trained, monkeypatch, line, message):
    if "--do_train" in line and "finetune_suc" not in line:
        line += " --stage_1_outputdir=new"
    assert_refused(COMMON + " " + line, trained, monkeypatch, message)
    assert not (trained / "new").exists()


def test_another_successors_weights_are_refused(trained, monkeypatch):
    line = COMMON.replace("--suc_layers=2", "--suc_layers=1")
    line += " --do_train --finetune_suc --stage_2_outputdir=new"
    found = refused("--init_checkpoint=out_1 " + line, trained, monkeypatch)
    assert_matches(
        "--suc_layers: the successor in out_1 has 2 layers, this command asks for 1", found
    )
    prefix = "out_1/" + read_json(trained, "out_1", "state.json")["best"]["checkpoint"]
    found = refused("--init_checkpoint=%s %s" % (prefix, line), trained, monkeypatch)
    assert_matches(
        "--suc_layers: %s holds a successor of 2 layers, this command has 1" % prefix, found
    )
    line = COMMON.replace("--suc_layers=2", "--suc_layers=4") + " --stage_1_outputdir=new"
    found = refused("--do_train --init_checkpoint=out_1 " + line, trained, monkeypatch)
    assert_matches("holds a successor of 2 layers, this command has 4; start from its", found)
    assert not (trained / "new").exists()


@needs_tensorflow_2
def test_a_float32_model_is_evaluated_in_bfloat16(trained, monkeypatch):
    results = {}
    for precision in ("bfloat16", "float32"):
        command(
            "--do_eval --finetune_suc --precision=%s %s" % (precision, COMMON), trained, monkeypatch
        )
        results[precision] = read_json(trained, "out_2", "eval_results.json")
        assert results[precision]["compute_type"] == precision
    losses = [result["loss"] for result in results.values()]
    assert losses[0] != losses[1] and abs(losses[0] - losses[1]) < 0.01


@needs_tensorflow_2
def test_a_run_in_another_precision_is_a_contradiction(trained, monkeypatch):
    line = "--do_train --init_checkpoint=out_0 --precision=bfloat16 " + COMMON
    assert "--precision: the run in out_1 has float32" in refused(line, trained, monkeypatch)


@pytest.mark.skipif(tf.__version__.startswith("2."), reason="TensorFlow 2 has bfloat16")
def test_bfloat16_is_refused_where_tensorflow_has_none(trained, monkeypatch):
    line = "--do_eval --finetune_suc --precision=bfloat16 " + COMMON
    assert "--precision=bfloat16: needs TensorFlow 2" in refused(line, trained, monkeypatch)


def test_another_bert_than_the_stages_is_refused(trained, monkeypatch):
    if not (trained / "other").exists():
        write_bert(trained / "other", dict(SMALL_BERT, hidden_act="relu"))
    line = COMMON.replace("bert_pretrained_model=bert", "bert_pretrained_model=other")
    found = refused("--do_eval " + line, trained, monkeypatch)
    assert_matches("--bert_pretrained_model: out_1 was trained with another", found)


def write_hugging_face_bert(folder, bert):
    """Writes a TF1 BERT's folder as Hugging Face's, with tokenizer.json for vocab.txt."""
    safetensors_numpy = pytest.importorskip("safetensors.numpy")
    folder.mkdir()
    config = dict(read_json(bert, "bert_config.json"), hidden_act="gelu_new", model_type="bert")
    (folder / "config.json").write_text(json.dumps(config))
    arrays = hugging_face_arrays(dict(weights.CheckpointWeights(str(bert / "bert_model.ckpt"))), 4)
    safetensors_numpy.save_file(arrays, str(folder / "model.safetensors"))
    tokens = (bert / "vocab.txt").read_text(encoding="utf-8").splitlines()
    model = {"type": "WordPiece", "vocab": {token: index for index, token in enumerate(tokens)}}
    (folder / "tokenizer.json").write_text(json.dumps({"model": model}))
    (folder / "tokenizer_config.json").write_text('{"do_lower_case": false}')


def test_a_hugging_face_folder_trains_to_the_same_as_googles(trained, monkeypatch, capsys, caplog):
    write_hugging_face_bert(trained / "hugging_face", trained / "bert")
    line = "--do_train --finetune_pre --stage_0_outputdir=out_hf --do_lower_case " + COMMON
    line = line.replace("bert_pretrained_model=bert", "bert_pretrained_model=hugging_face")
    command(line, trained, monkeypatch)
    assert "weights from hugging_face/model.safetensors" in caplog.text
    assert "tokenizer_config.json says do_lower_case = false, but 0.0% of the words" in caplog.text
    for name in ("bert_config.json", "vocab.txt", "best", "last"):
        held, expected = trained / "out_hf" / name, trained / "out_0" / name
        if held.is_dir():
            held, expected = [next(folder.glob("*.data-*")) for folder in (held, expected)]
        assert held.read_bytes() == expected.read_bytes(), name

    monkeypatch.setattr("theseus.training.graph.build_graph", None)
    first = capsys.readouterr().out
    command(line, trained, monkeypatch)
    assert capsys.readouterr().out == first


def test_init_checkpoint_takes_a_hugging_face_folder(trained, monkeypatch):
    if not (trained / "hugging_face_0").exists():
        write_hugging_face_bert(trained / "hugging_face_0", trained / "bert")
    line = (
        "--do_train --finetune_suc --init_checkpoint=hugging_face_0 --stage_2_outputdir=out_hf_2 "
    )
    command(line + COMMON.replace("--bert_pretrained_model=bert", ""), trained, monkeypatch)
    assert read_json(trained, "out_hf_2", "bert_config.json")["hidden_act"] == "gelu_tanh"


# --- A classifier that is loaded ---

ROWS = np.arange(32, dtype=np.float32).reshape(2, 16) / 64


@pytest.fixture
def named(small, tmp_path):
    """A function from the names of two rows to a BERT with a classifier, in the folder `named`."""
    (tmp_path / "data").symlink_to(small / "data")
    arrays = dict(weights.CheckpointWeights(str(small / "bert_2" / "bert_model.ckpt")))
    arrays.update(output_weights=ROWS, output_bias=np.float32([5, 7]))
    (tmp_path / "named").mkdir()
    write_weights(tmp_path / "named" / "bert_model.ckpt", arrays)
    shutil.copy(str(small / "bert" / "vocab.txt"), str(tmp_path / "named"))

    def name(*names):
        id2label = {str(number): name for number, name in enumerate(names)}
        values = dict(SMALL_BERT, num_hidden_layers=2, id2label=id2label)
        (tmp_path / "named" / "bert_config.json").write_text(json.dumps(values))
        return tmp_path

    return name


STILL = "--do_train --learning_rate=0 " + COMMON.replace("=bert", "=named")


@pytest.mark.parametrize("stage, folder", [("--finetune_pre", "out_0"), ("", "out_1")])
def test_a_classifier_keeps_its_labels_whatever_their_order(
    named, monkeypatch, caplog, stage, folder
):
    root = named("1", "0")
    scope = "" if stage else " --train_scope=successor_layers"
    line = STILL + scope + " " + stage
    command(line, root, monkeypatch)
    assert "by name: its order is 1, 0, the task's is 0, 1" in caplog.text
    best = root / folder / read_json(root, folder, "state.json")["best"]["checkpoint"]
    held = weights.CheckpointWeights(str(best))
    np.testing.assert_array_equal(held["output_weights"], ROWS[::-1])
    np.testing.assert_array_equal(held["output_bias"], [7, 5])
    run_json = read_json(root, folder, "run.json")
    assert run_json["classifier_rows"] == [1, 0]

    caplog.clear()
    command(line, root, monkeypatch)
    assert "by name" not in caplog.text
    message = (
        "--init_checkpoint or --bert_pretrained_model: the run in %s was started with other label "
        "names in"
    )
    assert_refused(line, named("0", "1"), monkeypatch, message % folder)


def test_a_classifier_of_other_labels_starts_anew_and_is_refused_where_it_is_frozen(
    named, monkeypatch, caplog
):
    root = named("0", "yes")
    reason = "since its labels are 0, yes, the task's are 0, 1"
    message = "--train_scope=successor_layers: the classifier of named/bert_model.ckpt cannot be us"
    message += "ed, %s, and a new one would not be trained; set" % reason
    line = STILL + " --train_scope=successor_layers"
    for stage in ("", " --finetune_suc --init_checkpoint=named"):
        assert_refused(line + stage, root, monkeypatch, message)
    command(STILL + " --finetune_suc --init_checkpoint=named", root, monkeypatch)
    assert "named/bert_model.ckpt: its classifier is not used, " + reason in caplog.text
    assert "start at random  output_weights, output_bias" in caplog.text
    assert read_json(root, "out_2", "run.json")["classifier_rows"] is None


# --- Freedom of the method ---

ANY = COMMON.replace("--suc_layers=2 ", "") + " --cache_dir= "


def layers_of(prefix, names="suc_layer"):
    """Returns the arrays of a checkpoint's layers of those names, by name."""
    held = weights.CheckpointWeights(str(prefix))
    return {name: held[name] for name in held if "/%s_" % names in name}


def assert_starts_as(folder, bert, layers):
    """Compares a successor trained at a learning rate of 0 with layers of a BERT."""
    best = folder / read_json(folder, "state.json")["best"]["checkpoint"]
    held = weights.CheckpointWeights(str(bert / "bert_model.ckpt"))
    found = layers_of(best)
    assert len(found) == 16 * len(layers)
    for name, value in found.items():
        number, rest = name.split("suc_layer_")[1].split("/", 1)
        source = "bert/encoder/layer_%d/%s" % (layers[int(number)], rest)
        np.testing.assert_array_equal(value, held[source], err_msg=name)


MODULES = "--stage_1_outputdir=out_m --stage_2_outputdir=out_m_2 " + ANY


@pytest.fixture(scope="module")
def of_modules(trained):
    """The folder with a stage 1 of unequal modules, out_m."""
    with pytest.MonkeyPatch.context() as patch:
        line = "--do_train --modules=1,1,2 --init_checkpoint=out_0 " + MODULES
        command(line, trained, patch)
    return trained


def test_unequal_modules_train_and_are_used_with_their_number_alone(of_modules, monkeypatch):
    trained, line = of_modules, MODULES
    held = read_json(trained, "out_m", "run.json")
    assert (held["modules"], held["suc_layers"]) == ([1, 1, 2], 3)
    for how, actions in (
        ("--suc_layers=3 ", "--do_eval --do_predict "),
        ("--suc_layers=3 --modules=1,1,2 ", "--do_eval "),
    ):
        command(actions + how + line, trained, monkeypatch)
        command("--do_train --finetune_suc " + how + line, trained, monkeypatch)
        command(actions + "--finetune_suc " + how + line, trained, monkeypatch)
    held = read_json(trained, "out_m_2", "run.json")
    assert (held["modules"], held["suc_layers"]) == (None, 3)
    for folder in ("out_m", "out_m_2"):
        with classifier.Classifier(str(trained / folder)) as model:
            assert len(model.classify([("手机", "电脑")])) == 1
    for how, message in [
        ("--do_eval --modules=2,1,1", r"--modules: the run in out_m has \[1, 1, 2\], this comm"),
        ("--do_eval --modules=2,2", "--suc_layers: the run in out_m has 3, this command has 2"),
        ("--do_eval --suc_layers=2", "--suc_layers: the run in out_m has 3, this command has 2"),
        (
            "--do_train --init_checkpoint=out_0 --suc_layers=2",
            "--suc_layers: the run in out_m has 3, this command has 2",
        ),
        (
            "--do_train --init_checkpoint=out_0 --suc_layers=3 --modules=2,1,1",
            r"--modules: the run in out_m has \[1, 1, 2\], this command has \[2, 1, 1\]",
        ),
    ]:
        assert_matches(message, refused(how + " " + line, trained, monkeypatch))

    status, output, errors = compare_models(trained, "--data_dir=data", "out_m", "out_m_2")
    assert status == 0, errors
    assert [row.split()[1] for row in output.splitlines()[1:]] == ["3", "3"]


@needs_tensorflow_2
def test_a_successor_of_unequal_modules_is_exported(of_modules, monkeypatch):
    line = "--do_export --export_format=bert --modules=1,1,2 "
    command(line + MODULES, of_modules, monkeypatch)
    written = of_modules / "out_m" / "export" / "bert"
    assert read_json(written, "bert_config.json")["num_hidden_layers"] == 3
    assert len(layers_of(written / "bert_model.ckpt", "layer")) == 3 * 16


@pytest.mark.parametrize(
    "how, layers, recorded",
    [
        ("first", [0, 1], None),
        ("last", [2, 3], "last"),
        ("spread", [0, 3], "spread"),
        ("3,1", [3, 1], "3,1"),
    ],
)
def test_a_successor_starts_as_the_layers_asked_for(
    trained, monkeypatch, caplog, how, layers, recorded
):
    line = "--do_train --finetune_suc --init_checkpoint=bert --suc_init=%s --learning_rate=0 "
    line = line % how + "--stage_2_outputdir=out_%s " % how
    command(line + COMMON, trained, monkeypatch)
    assert_starts_as(trained / ("out_" + how), trained / "bert", layers)
    assert read_json(trained, "out_" + how, "run.json")["suc_init"] == recorded
    assert "start from predecessor layers: 0 from %d, 1 from %d" % tuple(layers) in caplog.text
    if recorded:
        found = refused(line.replace(how, "first", 1) + COMMON, trained, monkeypatch)
        assert_matches(
            "--suc_init: the run in out_%s was started with other initial weights of the suc" % how,
            found,
        )


@pytest.fixture(scope="module")
def lent(trained):
    """The folder with other BERTs, to lend their layers to a successor."""
    shapes = [("lent", {}), ("lent_3", dict(num_hidden_layers=3))]
    shapes += [("lent_relu", dict(hidden_act="relu")), ("lent_8", dict(intermediate_size=8))]
    for name, changes in shapes:
        values = dict(SMALL_BERT, num_hidden_layers=2, initializer_range=0.05)
        write_bert(trained / name, dict(values, **changes))
    return trained


def test_a_successor_starts_as_another_berts_layers_alone(lent, monkeypatch, caplog):
    line = "--do_train --learning_rate=0 --finetune_suc --init_checkpoint=bert "
    line += "--stage_2_outputdir=out_lent --suc_init=lent " + COMMON
    command(line, lent, monkeypatch)
    assert_starts_as(lent / "out_lent", lent / "lent", [0, 1])
    best = lent / "out_lent" / read_json(lent, "out_lent", "state.json")["best"]["checkpoint"]
    table = "bert/embeddings/word_embeddings"
    np.testing.assert_array_equal(
        weights.CheckpointWeights(str(best))[table],
        weights.CheckpointWeights(str(lent / "bert" / "bert_model.ckpt"))[table],
    )
    report = "the successor's layers: weights from lent/bert_model.ckpt\n  filled           32 vari"
    assert report in caplog.text
    assert "bert/embeddings/word_embeddings (1), bert/pooler/dense (2)" in caplog.text
    assert "start from predecessor layers" not in caplog.text

    # It is known by what it holds, not by where it is.
    (lent / "lent").rename(lent / "moved")
    try:
        command(line.replace("=lent ", "=./moved "), lent, monkeypatch)
    finally:
        (lent / "moved").rename(lent / "lent")
    found = refused(line.replace("--suc_init=lent ", "--suc_init=last "), lent, monkeypatch)
    assert_matches(
        "--suc_init: the run in out_lent was started with other initial weights of the successor",
        found,
    )


@pytest.mark.parametrize(
    "name, message",
    [
        ("lent_3", "lent_3 has 3 layers, the successor 2; give a BERT of 2 layers, or --suc_lay"),
        (
            "lent_relu",
            "lent_relu has hidden_act = relu, the predecessor gelu_tanh; give a BERT with",
        ),
        ("lent_8", "lent_8 has intermediate_size = 8, the predecessor 32; give a BERT with the sa"),
        ("./none", "./none is not a folder"),
        ("lats", "expected one of first, last, spread, layers such as 0,5,11, or a BERT's fol"),
        ("0,1,2", "expected 2 layer numbers from 0 to 3, one for each of --suc_layers"),
        ("0,4", "expected 2 layer numbers from 0 to 3, one for each of --suc_layers"),
    ],
)
def test_a_bert_that_cannot_lend_its_layers_is_refused(lent, monkeypatch, name, message):
    line = "--do_train --stage_1_outputdir=new --suc_init=%s %s" % (name, COMMON)
    found = refused(line, lent, monkeypatch)
    place = "--suc_init=%s: " % name if message.startswith("expected") else "--suc_init: "
    assert_matches(place + message, found)
    assert not (lent / "new").exists()


def test_a_trained_successor_comes_before_suc_init(trained, monkeypatch, caplog):
    line = "--do_train --finetune_suc --suc_init=last " + COMMON
    command(line, trained, monkeypatch)
    assert_matches(
        "--suc_init has no effect: out_1/best/model.ckpt-[0-9]+ already holds the successor's "
        "layers",
        caplog.text,
    )


def test_a_run_that_stops_early_is_finished(trained, monkeypatch, capsys):
    line = "--do_train --finetune_pre --learning_rate=0 --early_stopping_patience=2 "
    line += "--stage_0_outputdir=out_early " + OF_2.replace("epochs=1", "epochs=9")
    capsys.readouterr()
    command(line, trained, monkeypatch)
    first = capsys.readouterr().out
    assert [row.split(",")[0] for row in first.splitlines()[1:]] == [
        "epoch 1",
        "epoch 2",
        "epoch 3",
    ]
    timing = read_json(trained, "out_early", "timing.json")
    trained_pairs = timing["train_examples_per_second"] * timing["train_seconds"]
    assert trained_pairs == pytest.approx(3 * 64)
    monkeypatch.setattr("theseus.training.graph.build_graph", None)
    command(line, trained, monkeypatch)
    assert capsys.readouterr().out == first
    found = refused(line.replace("patience=2", "patience=3"), trained, monkeypatch)
    assert_matches("--early_stopping_patience: the run in out_early has 2, .* has 3", found)


def test_gradients_are_accumulated(trained, monkeypatch):
    line = "--do_train --do_eval --finetune_pre --stage_0_outputdir=out_parts " + OF_2
    command(line + " --gradient_accumulation_steps=4", trained, monkeypatch)
    assert read_json(trained, "out_parts", "eval_results.json")["global_step"] == 2
    command(line, trained, monkeypatch)  # What it leaves out is the run's.
    found = refused(line + " --gradient_accumulation_steps=1", trained, monkeypatch)
    assert_matches("--gradient_accumulation_steps: the run in out_parts has 4", found)


def test_a_flagfile_is_read(trained, monkeypatch):
    (trained / "my.flags").write_text("--do_eval\n--data_dir=data\n--suc_layers=4\n")
    found = refused("--flagfile=my.flags", trained, monkeypatch)
    assert_matches("--suc_layers: the run in out_1 has 2, this command has 4", found)


@pytest.mark.parametrize(
    "content, message",
    [
        (b"--do_eval\n\xff", "is not valid UTF-8"),
        (b"\xef\xbb\xbf--do_eval", "byte-order"),
    ],
)
def test_a_flagfile_that_is_no_plain_text_is_one_line(tmp_path, monkeypatch, content, message):
    (tmp_path / "my.flags").write_bytes(content)
    found = refused("--flagfile=my.flags", tmp_path, monkeypatch)
    assert found.startswith("run_classifier.py: --flagfile: ") and message in found


def test_a_folder_without_a_model_is_that_also_where_only_train_tells_the_labels(
    trained, monkeypatch
):
    (trained / "x.tsv").write_text("手机\t电脑\n", encoding="utf-8")
    line = (
        "--do_predict --predict_file=x.tsv --task_name=custom --data_dir=bert --stage_1_outputdir="
    )
    assert_matches("out_9: holds no trained model", refused(line + "out_9", trained, monkeypatch))


def test_a_metric_of_another_task_is_not_taken_over(trained, monkeypatch):
    path = trained / "out_0" / "run.json"
    held = path.read_bytes()
    run = json.loads(held.decode("utf-8"))
    run.pop("sha256_of_the_rest", None)
    try:
        path.write_text(json.dumps(dict(run, task_name="sts-b", metric="pearson", labels=None)))
        line = "--do_eval --finetune_pre --task_name=lcqmc_pair " + COMMON
        found = refused(line, trained, monkeypatch)
    finally:
        path.write_bytes(held)
    assert "--metric" not in found and "task_name" in found


def test_a_start_that_lacks_a_part_is_one_line(trained, monkeypatch):
    path = trained / "out_0" / "run.json"
    held = path.read_bytes()
    run = json.loads(held.decode("utf-8"))
    del run["do_lower_case"]
    run.pop("sha256_of_the_rest", None)
    try:
        path.write_text(json.dumps(run))
        line = "--do_train --init_checkpoint=out_0 --stage_1_outputdir=new " + COMMON
        found = refused(line, trained, monkeypatch)
    finally:
        path.write_bytes(held)
    assert_matches("out_0/run.json: is damaged: .*do_lower_case", found)
    assert not (trained / "new").exists()


def test_a_kill_and_the_same_command_equal_no_interruption(small):
    """A process is killed at some moment of its training, and run again."""
    line = "python run_classifier.py --do_train --do_eval --finetune_pre --log_steps=1 "
    line += OF_2.replace("epochs=1", "epochs=6") + " --save_checkpoints_steps=1 "
    assert run_script(small, line + "--stage_0_outputdir=straight")[0] == 0

    arguments = (line + "--stage_0_outputdir=killed").split()[2:]
    process = forks.Fork([SCRIPT] + arguments, small)
    process.wait_for("step 4/12")
    process.kill()
    assert process.wait() == -signal.SIGKILL
    status, _, errors = run_script(small, line + "--stage_0_outputdir=killed")
    assert status == 0 and "resuming from killed/last/model.ckpt-" in errors
    killed, straight = small / "killed", small / "straight"
    assert read_json(killed, "eval_results.json") == read_json(straight, "eval_results.json")
    for which in ("last", "best"):
        found, expected = contents(killed / which), contents(straight / which)
        assert [p.replace("killed", "straight") for p in found] == list(expected)
        assert list(found.values()) == list(expected.values())
    found, expected = (curves.read_scalars(str(path)) for path in (killed, straight))
    found["examples_per_second"] = expected["examples_per_second"]
    assert found == expected


def test_sigterm_saves_and_exits_with_1_and_a_line(small):
    line = "python run_classifier.py --do_train --do_eval --finetune_pre --log_steps=1 "
    line += OF_2.replace("epochs=1", "epochs=500") + " --stage_0_outputdir=stopped"
    process = forks.Fork([SCRIPT] + line.split()[2:], small)
    process.wait_for("step 3/1000")
    process.kill(signal.SIGTERM)
    assert process.wait() == 1
    last = process.errors().splitlines()[-1]
    assert last == "run_classifier.py: stopped; the same command resumes the training"
    assert read_json(small, "stopped", "state.json")["last"]["global_step"] >= 3
    assert not (small / "stopped" / "eval_results.json").exists()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_while_tensorflow_is_imported_is_one_line(workspace, number):
    """The first module that is imported waits for the signal."""
    waiting = workspace / ("waiting_%d" % number)
    (waiting / "tensorflow").mkdir(parents=True)
    (waiting / "tensorflow" / "__init__.py").write_text(
        "import sys, time\nprint('importing', flush=True)\ntime.sleep(60)\n"
    )
    process = subprocess.Popen(
        [sys.executable, SCRIPT, "--do_train", "--finetune_pre", "--stage_0_outputdir=never"],
        cwd=str(workspace),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=dict(os.environ, PYTHONPATH="%s:%s" % (waiting, ROOT)),
        # What runs these tests may ignore them, which a process inherits.
        preexec_fn=lambda: signal.signal(number, signal.SIG_DFL),
    )
    assert process.stdout.readline() == b"importing\n"
    process.send_signal(number)
    output, errors = process.communicate()
    assert (process.returncode, output) == (1, b"")
    assert (
        errors.splitlines()[-1]
        == b"run_classifier.py: interrupted during start-up; nothing was written"
    )


# --- The table of models ---


def compare_models(trained, *arguments):
    """Runs scripts/compare_models.py; returns (exit status, output, errors)."""
    script = os.path.join(ROOT, "scripts", "compare_models.py")
    return forks.run([script, "--num_batches=4"] + list(arguments), trained)


def test_models_are_compared_with_the_first_one(trained):
    status, output, errors = compare_models(trained, "--data_dir=data", "out_0", "out_2")
    assert status == 0, errors
    header, *rows = [line.split() for line in output.splitlines()]
    assert header[:4] == ["model", "layers", "parameters", "dev"]
    assert [row[:2] for row in rows] == [["out_0", "4"], ["out_2", "2"]]
    states = [read_json(trained, row[0], "state.json") for row in rows]
    best = [state["best"] for state in states]
    accuracy = {row[0]: state["evaluations"][0]["accuracy"] for row, state in zip(rows, states)}
    for row, entry in zip(rows, best):
        held = tf.train.list_variables(str(trained / row[0] / entry["checkpoint"]))
        assert int(row[2].replace(",", "")) == sum(int(np.prod(shape)) for _, shape in held)
        assert float(row[3]) == pytest.approx(accuracy[row[0]], abs=5e-5)
        retained = 100 * accuracy[row[0]] / accuracy["out_0"]
        assert row[4] == "%.1f%%" % retained
        assert float(row[6].rstrip("x")) > 0
    assert rows[0][4:7:2] == ["100.0%", "1.00x"]


@pytest.mark.parametrize(
    "arguments, message",
    [
        ([], "give the output folders of stages, such as out_0 out_2"),
        (["data"], "data: holds no trained model; give the output folder of a trained stage"),
    ],
)
def test_a_mistake_in_comparing_is_one_line(trained, arguments, message):
    status, output, errors = compare_models(trained, *arguments)
    assert (status, output) == (1, "")
    # TensorFlow's own lines may come before.
    assert errors.splitlines()[-1].startswith("compare_models.py: %s" % message)


# --- Mistakes in the flags ---


@pytest.mark.parametrize(
    "arguments, message",
    [
        (
            "--do_train --do_eval suc_layers = 6",
            "'suc_layers' is not a flag; .* --suc_layers=6[?]$",
        ),
        ("--do_train suc_layers=6", "'suc_layers' is not a flag; did you mean --suc_layers=6[?]$"),
        ("suc_layers 6 --do_train", "'suc_layers' is not a flag; did you mean --suc_layers=6[?]$"),
        ("--do_train suc_layers=6 seed=3", "did you mean --suc_layers=6[?]$"),
        ("do_train suc_layers=6", "'do_train' is not a flag; did you mean --do_train[?]$"),
        ("--do_train lcqmc", "'lcqmc' is not a flag; flags begin with --"),
        (
            "",
            ": give at least one of --do_train, --do_eval, --do_predict and --do_export$",
        ),
        ("--nonsense", "unknown flag --nonsense; see --help$"),
        (
            "--do_train --suc_layer=6",
            "unknown flag --suc_layer; did you mean --suc_layers[?] See --help$",
        ),
        ("--text_column=a", "did you mean --text_a_column, --text_b_column[?] See --help$"),
        ("--do_train --suc_layers=0", "--suc_layers=0: must be at least 1"),
        ("--do_train --replace_rate_prob=1.5", "--replace_rate_prob=1.5: must be at most 1"),
        ("--do_train --num_train_epochs=0", "--num_train_epochs=0: must be above 0"),
        (
            "--do_train --learning_rate=nan",
            "--learning_rate=nan: must be finite and less than 2147483648",
        ),
        ("--do_eval --eval_files=a,a", "--eval_files: a file is named twice, or a name is empty"),
        ("--do_train --eval_files=a", "--eval_files needs --do_eval"),
        ("--do_eval --predict_file=a", "--predict_file needs --do_predict"),
        (
            "--do_eval --encoding=no-such",
            "--encoding: Python knows no such encoding; give one such as gb18030",
        ),
        ("--do_eval --task_name=custom --text_a_column=00", "columns are numbered from 1"),
        (
            "--do_eval --task_name=custom --labels=a,a\u200b",
            "--labels: expected two or more different labels",
        ),
        ("--do_eval --header=perhaps", "--header=perhaps"),
        (
            "--do_eval --delimiter=;",
            "--delimiter takes one character, or tab, and needs --format=csv",
        ),
        ("--do_eval --format=csv --delimiter=ab", "--delimiter takes one character"),
        ("--do_eval --format=csv --delimiter=", "--delimiter takes one character"),
        (
            "--do_eval --task_name=custom_number --labels=1,2",
            "--labels applies only to --task_name=custom",
        ),
        (
            "--do_eval --task_name=sts-b --label_column=x",
            "--label_column apply only to --task_name=custom and custom_number",
        ),
        (
            "--do_train --finetune_pre --finetune_suc",
            "--finetune_pre is stage 0 and .*; give only",
        ),
        (
            "--do_train --replace_scheduler=linear",
            "linear takes exactly one of --replace_linear_k and --replace_until",
        ),
        ("--do_train --replace_linear_k=0.1", "constant takes neither"),
        (
            "--do_train --replace_scheduler=linear --replace_until=0.5 --replace_linear_k=0.1",
            "linear takes exactly one of --replace_linear_k and --replace_until",
        ),
        (
            "--do_train --replace_scheduler=linear --replace_until=0.5 --steps_for_replacing=3",
            "--steps_for_replacing applies only to a constant rate",
        ),
        (
            "--do_train --finetune_pre --train_scope=successor",
            "stage 0 has no successor and always trains all",
        ),
        ("--do_train --modules=1,0,2", "modules=.*: give a whole number of at least 1 for each"),
        ("--do_train --modules=1,b", "modules=.*: give a whole number of at least 1 for each"),
        ("--do_train --modules=", "modules=.*: give a whole number of at least 1 for each"),
        (
            "--do_train --early_stopping_patience=0",
            "--early_stopping_patience=0: must be at least 1",
        ),
        (
            "--do_train --train_batch_size=4 --gradient_accumulation_steps=5",
            "--gradient_accumulation_steps: must be at most --train_batch_size",
        ),
        (
            "--do_train --finetune_pre --distill_from=out_0",
            "--distill_from applies only to stages 1 and 2",
        ),
        ("--do_train --distill_temperature=4", "--distill_weight need --distill_from"),
        ("--do_train --distill_weight=0.5", "--distill_weight need --distill_from"),
        ("--do_predict --eval_split=test", "--eval_split=test needs --do_eval"),
        ("--do_train --data_dir=\udccd\udce2", "is not valid UTF-8; rename the file or folder"),
        ("--do_train --distill_temperature=0", "--distill_temperature=0: must be above 0"),
        ("--do_train --distill_temperature=inf", "=inf: must be finite and less than 2147483648"),
        ("--do_train --distill_weight=1.5", "--distill_weight=1.5: must be at most 1"),
        (
            "--do_train --select_checkpoint=last --early_stopping_patience=2",
            "--early_stopping_patience returns to the best checkpoint",
        ),
        ("--do_train --ema_decay=1", "--ema_decay=1: must be below 1"),
        ("--do_train --ema_decay=-0.5", "--ema_decay=-0.5: must be at least 0"),
        ("--do_train --threshold=0", "--threshold needs --do_eval or --do_predict"),
        (
            "--do_export --export_format=bert --abstain_below=0",
            "--abstain_below needs --do_eval or --do_predict",
        ),
        ("--do_train --ema_decay=nan", "--ema_decay=nan: must be finite and less than 2147483648"),
        ("--do_eval --threshold=nan", "--threshold=nan: must be finite and less than 2147483648"),
        ("--do_predict --predict_file=", "--predict_file=: is empty; give a name, or leave it out"),
        ("--do_train --stage_1_outputdir=", "--stage_1_outputdir=: is empty; give a name"),
        ("--do_eval --eval_batch_size=%d" % 10**18, "0: must be finite and less than 2147483648"),
        (
            "--do_train --num_train_epochs=nan",
            "--num_train_epochs=nan: must be finite and",
        ),
        ("--do_train --save_checkpoints_secs=inf", "--save_checkpoints_secs=inf: must be finite"),
        ("--do_train --modules=%s" % ("9" * 5000), "give a whole number of at least 1 for each"),
        ("--do_train --peer_timeout_s=0", "--peer_timeout_s=0: must be at least 1"),
        ("--do_train --distill_weight=nan", "=nan: must be finite and less than 2147483648"),
        ("--do_train --suc_learning_rate=nan", "=nan: must be finite and less than 2147483648"),
        ("--do_train --finetune_pre --suc_learning_rate=1", "needs stage 1 or 2, and a "),
        ("--do_train --suc_learning_rate=1 --learning_rate=0", "and a --learning_rate above 0"),
    ],
)
def test_a_mistake_in_the_flags_is_one_line(tmp_path, monkeypatch, arguments, message):
    found = refused(arguments, tmp_path, monkeypatch)
    assert found.startswith("run_classifier.py: ")
    assert_matches(message, found)


def test_a_mistake_in_the_flags_exits_with_1_and_one_line_on_standard_error(workspace):
    line = "--do_train --do_eval suc_layers = 6 --finetune_suc"
    status, output, errors = run([sys.executable, SCRIPT] + line.split(), workspace)
    assert (status, output) == (1, "")
    meant = "run_classifier.py: 'suc_layers' is not a flag; did you mean --suc_layers=6?\n"
    assert errors == meant


def test_a_stages_case_is_found_recorded_and_kept(small, tmp_path, monkeypatch, caplog):
    bert = tmp_path / "cased"
    shutil.copytree(str(small / "bert_2"), str(bert))
    (bert / "vocab.txt").write_text(CASED_VOCABULARY, encoding="utf-8")
    (bert / "tokenizer_config.json").write_text('{"do_lower_case": false}')
    common = COMMON.replace("bert_pretrained_model=bert", "bert_pretrained_model=%s" % bert)
    common = common.replace("data_dir=data", "data_dir=%s" % (small / "data"))
    common += " --max_train_examples=32 "
    command("--do_train --finetune_pre " + common, tmp_path, monkeypatch)
    assert "texts are not lower-cased: " in caplog.text
    assert read_json(tmp_path, "out_0", "run.json")["do_lower_case"] is False

    (tmp_path / "x.txt").write_text("Apple Paris\tLondon\n", encoding="utf-8")
    (bert / "tokenizer_config.json").write_text('{"do_lower_case": true}')
    line = "--finetune_pre --do_predict --predict_file=x.txt " + common
    command(line, tmp_path, monkeypatch)
    assert "x.txt: 100.0% of its tokens are not in the vocabulary and become [UNK]" in caplog.text
    assert "Apple, Paris, London" in caplog.text
    assert "--do_lower_case: the run in out_0 has False, this command has True" in refused(
        line + " --do_lower_case", tmp_path, monkeypatch
    )

    line = "--do_train --finetune_suc --init_checkpoint=out_0 " + common
    command(line + " --stage_2_outputdir=a", tmp_path, monkeypatch)
    assert read_json(tmp_path, "a", "run.json")["do_lower_case"] is False
    command(line + " --stage_2_outputdir=b --do_lower_case", tmp_path, monkeypatch)
    assert read_json(tmp_path, "b", "run.json")["do_lower_case"] is True
    assert "--do_lower_case=true: out_0 was trained with false" in caplog.text
