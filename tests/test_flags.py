"""Every flag reaches the result, not the settings alone.

Four trainings are prepared by the command line, each with other values of nearly all flags; what
their graphs compute is compared with numpy. Of what is trained and saved one step is real, the
others compute nothing.
"""

import ast
import collections
import csv
import functools
import json
import os
import types

import numpy as np
import pytest
import scipy.special
import tensorflow.compat.v1 as tf
from absl import logging

import theseus
import tokenization
from conftest import (
    CASED_VOCABULARY,
    ROOT,
    SMALL_BERT,
    assert_close,
    command,
    needs_tensorflow_2,
    read_json,
    refused,
    write_bert,
    write_pairs,
    write_stage,
)
from theseus.checkpoints import weights
from theseus.commands import command as command_lib
from theseus.commands.context import Context
from theseus.config.config import all_declarations
from theseus.distribution import replicas
from theseus.errors import UserError
from theseus.inference import calibration, evaluation, predictions, trained_model
from theseus.inputs import batches, encoding, parallel_encoding, reading, tasks
from theseus.runs.stage_folder import StageFolder
from theseus.training import trainer as trainer_lib
from theseus.training.steps import StepValues

TASK = tasks.TASKS["lcqmc_pair"]
IS_TF_2 = not tf.__version__.startswith("1.")

# The test in which two values of a flag give two different, right results; of this file where no
# other is named.
SHOWN_BY = {
    "data_dir": "test_examples_are_those_of_the_folder_and_of_a_sample_of_it",
    "task_name": "test_a_file_is_read_as_the_flags_say",
    "bert_pretrained_model": "test_weights_start_as_those_that_are_named",
    "init_checkpoint": "test_weights_start_as_those_that_are_named",
    "stage_0_outputdir": "test_command.py::test_each_stage_has_its_scope_and_its_folder",
    "stage_1_outputdir": "test_command.py::test_each_stage_has_its_scope_and_its_folder",
    "stage_2_outputdir": "test_command.py::test_each_stage_has_its_scope_and_its_folder",
    "eval_files": "test_a_threshold_holds_for_all_that_is_written",
    "predict_file": "test_what_is_evaluated_and_predicted_are_the_files_that_are_named",
    "cache_dir": "test_command.py::test_runs_that_encode_the_same_share_a_cache",
    "num_encoding_processes": "test_so_many_processes_encode",
    "format": "test_a_file_is_read_as_the_flags_say",
    "delimiter": "test_a_file_is_read_as_the_flags_say",
    "header": "test_a_file_is_read_as_the_flags_say",
    "encoding": "test_a_file_is_read_as_the_flags_say",
    "skip_bad_lines": "test_a_file_is_read_as_the_flags_say",
    "text_a_column": "test_a_file_is_read_as_the_flags_say",
    "text_b_column": "test_a_file_is_read_as_the_flags_say",
    "label_column": "test_a_file_is_read_as_the_flags_say",
    "labels": "test_a_file_is_read_as_the_flags_say",
    "version": "test_the_version_is_all_that_is_printed",
    "do_train": "test_saves_logs_and_ends_are_those_of_the_flags",
    "do_eval": "test_a_threshold_holds_for_all_that_is_written",
    "do_predict": "test_a_threshold_holds_for_all_that_is_written",
    "do_export": "test_exporter.py::test_several_formats_are_written_with_what_a_caller_must_know",
    "eval_split": "test_what_is_evaluated_and_predicted_are_the_files_that_are_named",
    "threshold": "test_a_threshold_holds_for_all_that_is_written",
    "calibrate": "test_paths_are_evaluated_predicted_with_and_calibrated_each_by_itself",
    "abstain_below": "test_a_threshold_holds_for_all_that_is_written",
    "compare_with": "test_a_threshold_holds_for_all_that_is_written",
    "export_format": "test_exporter.py::"
    "test_several_formats_are_written_with_what_a_caller_must_know",
    "export_dir": "test_exporter.py::test_an_export_is_replaced_by_the_same_runs_and_no_other",
    "quantize": "test_exporter.py::test_onnx_in_8_bits_is_smaller_and_says_what_it_scores",
    "finetune_pre": "test_command.py::test_each_stage_has_its_scope_and_its_folder",
    "finetune_suc": "test_command.py::test_each_stage_has_its_scope_and_its_folder",
    "suc_layers": "test_what_trains_is_what_the_flags_say",
    "modules": "test_what_trains_is_what_the_flags_say",
    "replaced_modules": "test_paths_are_evaluated_predicted_with_and_calibrated_each_by_itself",
    "suc_init": "test_weights_start_as_those_that_are_named",
    "replace_rate_prob": "test_rates_go_as_the_flags_say",
    "replace_scheduler": "test_rates_go_as_the_flags_say",
    "replace_linear_k": "test_rates_go_as_the_flags_say",
    "replace_until": "test_rates_go_as_the_flags_say",
    "steps_for_replacing": "test_rates_go_as_the_flags_say",
    "train_scope": "test_what_trains_is_what_the_flags_say",
    "distill_from": "test_the_loss_is_the_one_of_the_flags",
    "distill_temperature": "test_the_loss_is_the_one_of_the_flags",
    "unlabelled_file": "test_distillation.py::"
    "test_examples_without_labels_are_learned_from_the_teacher_alone",
    "distill_weight": "test_the_loss_is_the_one_of_the_flags",
    "max_seq_length": "test_examples_are_cut_padded_and_lowered_as_the_flags_say",
    "train_batch_size": "test_batches_are_those_of_size_seed_and_parts",
    "gradient_accumulation_steps": "test_batches_are_those_of_size_seed_and_parts",
    "eval_batch_size": "test_command.py::test_the_best_checkpoint_is_evaluated_and_predicted_with",
    "predict_batch_size": "test_command.py::"
    "test_the_best_checkpoint_is_evaluated_and_predicted_with",
    "learning_rate": "test_rates_go_as_the_flags_say",
    "suc_learning_rate": "test_a_step_is_as_long_as_the_rates_of_its_layers",
    "num_train_epochs": "test_rates_go_as_the_flags_say",
    "early_stopping_patience": "test_saves_logs_and_ends_are_those_of_the_flags",
    "select_checkpoint": "test_saves_logs_and_ends_are_those_of_the_flags",
    "ema_decay": "test_what_is_kept_are_the_weights_or_their_averages",
    "class_weights": "test_the_loss_is_the_one_of_the_flags",
    "label_smoothing": "test_the_loss_is_the_one_of_the_flags",
    "metric": "test_saves_logs_and_ends_are_those_of_the_flags",
    "warmup_proportion": "test_rates_go_as_the_flags_say",
    "max_train_examples": "test_examples_are_those_of_the_folder_and_of_a_sample_of_it",
    "seed": "test_batches_are_those_of_size_seed_and_parts",
    "precision": "test_values_between_layers_are_of_the_precision",
    "do_lower_case": "test_examples_are_cut_padded_and_lowered_as_the_flags_say",
    "distribution": "test_devices_are_asked_for_as_the_flags_say",
    "peer_timeout_s": "test_devices_are_asked_for_as_the_flags_say",
    "log_steps": "test_saves_logs_and_ends_are_those_of_the_flags",
    "save_checkpoints_steps": "test_saves_logs_and_ends_are_those_of_the_flags",
    "save_checkpoints_secs": "test_saves_logs_and_ends_are_those_of_the_flags",
    "keep_checkpoints": "test_saves_logs_and_ends_are_those_of_the_flags",
    "keep_predecessor": "test_what_is_kept_are_the_weights_or_their_averages",
    "xla": "test_xla.py::test_a_compiled_training_draws_the_same_paths_and_has_the_same_losses",
    "pad_to_max_length": "test_examples_are_cut_padded_and_lowered_as_the_flags_say",
}


@functools.lru_cache(maxsize=None)
def read_tests(name):
    """Returns the names of the tests of a file of tests/, and its text."""
    with open(os.path.join(ROOT, "tests", name), encoding="utf-8") as reader:
        source = reader.read()
    functions = [node for node in ast.parse(source).body if isinstance(node, ast.FunctionDef)]
    return {function.name for function in functions if function.name.startswith("test_")}, source


def test_each_flag_is_shown_to_reach_the_result():
    """A new flag comes with a test of two values of it, whose right results differ."""
    assert {field.name for field, _ in all_declarations()} == set(SHOWN_BY)
    for name, place in SHOWN_BY.items():
        file, _, test = place.rpartition("::")
        tests, source = read_tests(file or os.path.basename(__file__))
        assert test in tests, "%s: there is no %s" % (name, place)
        assert "--%s" % name in source or "--no%s" % name in source, "%s: not in %s" % (name, file)


# --- Four trainings ---

PREPARED = "--do_train --cache_dir= "
LINES = {
    "constant": "--data_dir=data --bert_pretrained_model=cased --suc_layers=1 --max_seq_length=12 "
    "--max_train_examples=13 --train_batch_size=5 --num_train_epochs=2 --learning_rate=1e-3 "
    "--warmup_proportion=0.5 --replace_rate_prob=0.25 --steps_for_replacing=4 --seed=3 "
    "--class_weights=0.5,3 --label_smoothing=0.2 --train_scope=successor --do_lower_case=false "
    "--pad_to_max_length --keep_predecessor --log_steps=2 --save_checkpoints_steps=4 "
    "--keep_checkpoints=3 --select_checkpoint=last",
    "linear": "--data_dir=data_2 --bert_pretrained_model=bert --modules=1,3 --suc_layers=2 "
    "--max_seq_length=32 --train_batch_size=4 --num_train_epochs=2.5 --learning_rate=2e-3 "
    "--warmup_proportion=0 --replace_scheduler=linear --replace_rate_prob=0.1 "
    "--replace_until=0.4 --class_weights=balanced --distill_from=teacher "
    "--distill_temperature=3 --distill_weight=0.25 --log_steps=3 --metric=f1 --suc_init=last "
    "--save_checkpoints_secs=250 --keep_checkpoints=1 --do_lower_case=true",
    "rising": "--data_dir=data --init_checkpoint=out_1 --suc_layers=2 --max_seq_length=32 "
    "--train_batch_size=4 --num_train_epochs=4 --learning_rate=1e-3 --suc_learning_rate=4e-3 "
    "--warmup_proportion=0 --replace_scheduler=linear --replace_rate_prob=0.5 "
    "--replace_linear_k=0.125 --train_scope=successor_layers --ema_decay=0.75 "
    "--gradient_accumulation_steps=2 --early_stopping_patience=1 --log_steps=6",
    "plain": "--data_dir=data --bert_pretrained_model=bert --suc_layers=2 --max_seq_length=32 "
    "--init_checkpoint=other.ckpt --train_batch_size=5 --seed=4 "
    "--distill_from=teacher --distill_weight=0.5 --num_train_epochs=1 "
    "--precision=%s" % ("bfloat16" if IS_TF_2 else "float32"),
}
# Which modules the one real step replaces.
PATHS = {
    "constant": [True],
    "linear": [True, False],
    "rising": [True, True],
    "plain": [True, False],
}
ROWS = np.array([4, 0, 3, 1])

Facts = collections.namedtuple(
    "Facts",
    "data dev rates batches parts shape loss logits before after kept dtypes saved said state",
)
"""What a command's training is made of, and what it computes.

Fields:
  data, dev: EncodedExamples.
  rates: list of (learning rate, replacing rate), one for each step.
  batches: list of the rows of each step that was taken.
  parts: list of the sizes of the parts of a batch of `ROWS`; shape: that of the first one's ids.
  loss, logits: of `ROWS` on the successor's path, by the training's graph and by the evaluated one.
  before, after: the variables by name, before and after a step on `ROWS` and the path of `PATHS`.
  kept: the variables that the best checkpoint holds, after that step.
  dtypes: set of the types of the graph's tensors.
  saved: list of (which, step); said: list of str, the log; state: the folder's.
"""


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    """A folder with data, three BERTs, one of them cased, a predecessor and a stage 1."""
    root = tmp_path_factory.mktemp("flags")
    for name, counts in [("data", (20, 9, 5)), ("data_2", (23, 7, 4))]:
        (root / name).mkdir()
        for split, count in zip(("train", "dev", "test"), counts):
            write_pairs(root / name / (split + ".txt"), count, seed=count)
    values = dict(SMALL_BERT, hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0)
    write_bert(root / "bert", dict(values, initializer_range=0.2))
    write_bert(root / "other", dict(values, initializer_range=0.3))
    for path in (root / "other").glob("bert_model.ckpt.*"):
        path.rename(root / path.name.replace("bert_model", "other"))
    values = dict(values, num_hidden_layers=2, initializer_range=0.25)
    write_bert(root / "cased", values, CASED_VOCABULARY)
    write_stage(root / "teacher", "predecessor")
    write_stage(root / "out_1", "replacing", keep_predecessor=True)
    return root


@pytest.fixture(scope="module")
def trainings(root):
    """A function from a name of `LINES` to the Facts of its command, which is run once."""

    @functools.lru_cache(maxsize=None)
    def get(name):
        found = []
        with pytest.MonkeyPatch.context() as patch:
            run = trainer_lib.Trainer.run
            patch.setattr(
                trainer_lib.Trainer, "run", lambda self: look(self, PATHS[name], run, found)
            )
            line = PREPARED + LINES[name] + " --stage_1_outputdir=of_" + name
            command(line, root, patch)
        return found[0]

    return get


def look(trainer, path, run, found):
    """Appends the Facts of a Trainer that is about to run; returns what `run` does."""
    graph, session, runner = trainer.graph, trainer.session, trainer.steps.runner
    step, data = tf.train.get_global_step(), runner._data
    rates = []
    for number in range(trainer.steps.in_all):
        step.load(number, session)
        rates.append(session.run([graph.learning_rate, graph.replacing_rate]))
    step.load(2, session)
    logits = evaluation.runner(session, graph.evaluation)(data.batch(ROWS))
    feed = runner.feed(ROWS, 0, len(ROWS))
    feed[graph.mask] = [True] * len(path)
    loss = session.run(graph.loss, feed)
    parts, shapes, feed_of = [], [], runner.feed

    def on_path(rows, *others):
        feed = feed_of(rows, *others)
        parts.append(len(rows))
        shapes.append(feed[graph.inputs[0].features["input_ids"]].shape)
        feed[graph.mask] = path
        return feed

    before, runner.feed = values_of(session, graph.variables), on_path
    runner.run(ROWS)
    runner.feed = feed_of
    after, kept = (values_of(session, v) for v in (graph.variables, graph.kept))
    dtypes = {
        tensor.dtype.base_dtype for o in session.graph.get_operations() for tensor in o.outputs
    }
    step.load(0, session)
    taken, saved, said, is_done = run_idly(trainer, run)
    found.append(
        Facts(
            data, trainer.dev_data, rates, taken, parts, shapes[0], loss, logits, before,
            after, kept, dtypes, saved, said, trainer.folder.state(),
        )
    )  # fmt: skip
    return is_done


def values_of(session, variables):
    return {v.op.name: value for v, value in zip(variables, session.run(list(variables)))}


def run_idly(trainer, run):
    """Runs a Trainer whose steps and evaluations compute nothing, a step in 100 seconds.

    Returns:
      (list of the rows of each step, list of (which checkpoint was saved, after which step), list
      of the lines of the log, whether the training came to its end).
    """
    taken, saved, said = [], [], []
    values = StepValues(0.5, 1.0, np.array([True, True]), 0.0, 1.0)
    # By accuracy the second epoch is worse than the first, by F1 it is better.
    scores = iter([(0.8, 0.2), (0.6, 0.3), (0.9, 0.9), (0.5, 0.1)])

    def evaluate(task, run, encoded, batch_size):
        accuracy, f1 = next(scores)
        return dict(accuracy=accuracy, f1=f1, loss=0.0, num_examples=len(encoded)), 1.0

    def save(which, step):
        saved.append((which, step))
        return trainer.folder.new_checkpoint(which, step)

    trainer.steps.runner.run = lambda rows: taken.append(rows) or values
    trainer._checkpoints.save, trainer._saved_at = save, 0.0
    with pytest.MonkeyPatch.context() as patch:
        seconds = lambda: 100.0 * len(taken)  # noqa: E731
        clock = types.SimpleNamespace(monotonic=seconds, perf_counter=seconds)
        patch.setattr(trainer_lib, "time", clock)
        patch.setattr(evaluation, "evaluate", evaluate)
        patch.setattr(logging, "info", lambda form, *given: said.append(form % given))
        return taken, saved, said, run(trainer)


def encoded(root, path, count=None, vocab="bert", lowers=True, length=32):
    """Returns a file's examples encoded without the command line; `count`: see its test."""
    examples = reading.read_examples(str(root / path), TASK)
    examples = examples if count is None else [examples[row] for row in count]
    tokenizer = tokenization.FullTokenizer(str(root / vocab / "vocab.txt"), lowers)
    return encoding.encode_examples(examples, TASK, tokenizer, length)


SAMPLE = sorted(np.random.RandomState(0).permutation(20)[:13])


def test_examples_are_those_of_the_folder_and_of_a_sample_of_it(root, trainings):
    assert SAMPLE != list(range(13))
    for name, given, dev in [
        ("constant", dict(path="data/train.txt", count=SAMPLE), "data/dev.txt"),
        ("linear", dict(path="data_2/train.txt"), "data_2/dev.txt"),
        ("rising", dict(path="data/train.txt"), "data/dev.txt"),
    ]:
        found = trainings(name)
        more = dict(vocab="cased", lowers=False, length=12) if name == "constant" else {}
        np.testing.assert_array_equal(found.data.ids, encoded(root, **given, **more).ids)
        np.testing.assert_array_equal(found.dev.ids, encoded(root, dev, **more).ids)
        np.testing.assert_array_equal(found.dev.labels, encoded(root, dev).labels)


def test_examples_are_cut_padded_and_lowered_as_the_flags_say(root, trainings):
    constant, linear = trainings("constant"), trainings("linear")
    for lowers, is_same in [(False, True), (True, False)]:
        given = encoded(root, "data/train.txt", SAMPLE, "cased", lowers, 12).ids
        assert np.array_equal(constant.data.ids, given) == is_same
    for lowers, is_same in [(True, True), (False, False)]:
        given = encoded(root, "data_2/train.txt", lowers=lowers).ids
        assert np.array_equal(linear.data.ids, given) == is_same
    assert constant.data.lengths.max() == 12 < linear.data.lengths.max() < 32
    assert constant.shape == (4, 12) and constant.dev.padded_lengths == (12,)
    assert linear.shape == (4, linear.data.lengths[ROWS].max()) and not linear.dev.padded_lengths


def test_batches_are_those_of_size_seed_and_parts(trainings):
    for name, size, seed in [("constant", 5, 3), ("linear", 4, 42), ("plain", 5, 4)]:
        found = trainings(name)
        plan = batches.plan_epoch(found.data.lengths, size, seed, 0)
        assert sorted(map(len, plan)) == sorted(
            [len(found.data) % size or size] + [size] * (len(plan) - 1)
        )
        for rows, expected in zip(found.batches, plan):
            np.testing.assert_array_equal(rows, expected)
    assert trainings("linear").parts == [4] and trainings("rising").parts == [2, 2]


def test_rates_go_as_the_flags_say(trainings):
    """By hand: 13 examples in batches of 5 are 3 steps an epoch, 23 in batches of 4 are 6."""
    t = np.arange(6)
    expected = {"constant": (np.where(t < 3, t / 3, 1 - t / 6) * 1e-3, [0.25] * 4 + [1.0] * 2)}
    t = np.arange(15)
    expected["linear"] = (2e-3 * (1 - t / 15), np.minimum(0.1 + 0.9 * t / 6, 1))
    t = np.arange(20)
    expected["rising"] = (1e-3 * (1 - t / 20), np.minimum(0.5 + 0.125 * t, 1))
    expected["plain"] = (2e-5 * (1 - np.arange(4) / 4), [0.5] * 4)
    for name, rates in expected.items():
        assert_close(trainings(name).rates, np.transpose(rates), name=name)


def test_the_loss_is_the_one_of_the_flags(root, trainings):
    """The cross entropy of smoothed and weighted labels, and the distance from the teacher."""

    def cross_entropy(found, smoothing, of_labels):
        labels = found.data.labels[ROWS]
        assert sorted(set(labels)) == [0, 1]
        targets = np.eye(2)[labels] * (1 - smoothing) + smoothing / 2
        logs = scipy.special.log_softmax(found.logits.astype(np.float64), axis=1)
        return -(np.array(of_labels)[labels] * (targets * logs).sum(axis=1)).mean()

    def distance(found, t):
        theirs = teachers_logits(root, found.data)[ROWS] / t
        ours, theirs = (
            scipy.special.log_softmax(logits.astype(np.float64), axis=1)
            for logits in (found.logits / t, theirs)
        )
        return t**2 * (np.exp(theirs) * (theirs - ours)).sum(axis=1).mean()

    found = trainings("constant")
    assert_close(found.loss, cross_entropy(found, 0.2, [0.5, 3.0]), 1e-4)
    found = trainings("linear")
    ones = found.data.labels.sum()
    balanced = [23 / 2 / (23 - ones), 23 / 2 / ones]
    assert abs(balanced[0] - balanced[1]) > 0.5
    expected = 0.75 * cross_entropy(found, 0.0, balanced) + 0.25 * distance(found, 3.0)
    assert_close(found.loss, expected, 1e-4)
    found = trainings("plain")
    expected = 0.5 * cross_entropy(found, 0.0, [1.0, 1.0]) + 0.5 * distance(found, 1.0)
    assert_close(found.loss, expected, 0.02)


def teachers_logits(root, data):
    with trained_model.load(StageFolder(str(root / "teacher"))) as model:
        return predictions.compute_logits(evaluation.runner(model.session, model.graph), data, 7)


def test_weights_start_as_those_that_are_named(root, trainings):
    name = "bert/encoder/layer_1/output/dense/kernel"
    stage = StageFolder(str(root / "out_1")).best_checkpoint()
    for training, prefix in [
        ("constant", root / "cased" / "bert_model.ckpt"),
        ("linear", root / "bert" / "bert_model.ckpt"),
        ("plain", root / "other.ckpt"),
        ("rising", stage),
    ]:
        expected = weights.CheckpointWeights(str(prefix))[name]
        np.testing.assert_array_equal(trainings(training).before[name], expected)
    name = "bert/encoder/suc_layer_1/output/dense/kernel"
    for training, source in [
        ("rising", weights.CheckpointWeights(stage)[name]),
        ("linear", trainings("linear").before[name.replace("suc_layer_1", "layer_3")]),
        ("plain", trainings("plain").before[name.replace("suc_layer_1", "layer_1")]),
    ]:
        np.testing.assert_array_equal(trainings(training).before[name], source)


def test_what_trains_is_what_the_flags_say(trainings):
    """By the biases, which nothing but a gradient moves, after a step on a path of `PATHS`."""
    rest = {"bert/embeddings/LayerNorm/beta", "bert/pooler/dense/bias", "output_bias"}
    for name, layers, trains_rest in [
        ("constant", ["suc_layer_0"], True),
        ("linear", ["suc_layer_0", "layer_1", "layer_2", "layer_3"], True),
        ("plain", ["suc_layer_0", "layer_2", "layer_3"], True),
        ("rising", ["suc_layer_0", "suc_layer_1"], False),
    ]:
        found = trainings(name)
        ours = {"bert/encoder/%s/output/dense/bias" % layer for layer in layers}
        biases = rest | {
            n for n in found.before if n.endswith("/output/dense/bias") and "attention" not in n
        }
        moved = {n for n in biases if (found.before[n] != found.after[n]).any()}
        assert moved == ours | (rest if trains_rest else set()), name


def test_a_step_is_as_long_as_the_rates_of_its_layers(trainings):
    """BERT's AdamW goes by 0.1 / sqrt(0.001) times the rate in its first step, if by anything."""
    for name, rate, of_successor in [
        ("linear", 2e-3 * (1 - 2 / 15), 2e-3 * (1 - 2 / 15)),
        ("rising", None, 4e-3 * (1 - 2 / 20)),
    ]:
        found = trainings(name)
        for bias, expected in [
            ("bert/pooler/dense/bias", rate),
            ("bert/encoder/suc_layer_0/output/dense/bias", of_successor),
        ]:
            if expected is not None:
                step = np.abs(found.after[bias] - found.before[bias]).max()
                assert step == pytest.approx(expected * 0.1 / np.sqrt(0.001), rel=0.01), (
                    name,
                    bias,
                )


def test_what_is_kept_are_the_weights_or_their_averages(trainings):
    """The average of the third step, t = 2, began at 0: its decay is 2 / 3."""
    bias = "bert/encoder/suc_layer_0/output/dense/bias"
    found = trainings("rising")
    assert_close(found.kept[bias + "/average"], found.after[bias] / 3)
    assert bias not in found.kept
    assert not any("/layer_0/" in name for name in found.kept)
    found = trainings("constant")
    np.testing.assert_array_equal(found.kept[bias], found.after[bias])
    assert any("/layer_0/" in name for name in found.kept)


def test_values_between_layers_are_of_the_precision(trainings):
    assert (tf.bfloat16 in trainings("plain").dtypes) == IS_TF_2
    assert tf.bfloat16 not in trainings("linear").dtypes


def test_saves_logs_and_ends_are_those_of_the_flags(trainings):
    def steps(name, which):
        return [step for saved, step in trainings(name).saved if saved == which]

    def logged(name):
        lines = [line.split(", step ")[1] for line in trainings(name).said if "loss 0.5" in line]
        return [int(line.split("/")[0]) for line in lines]

    # 3 steps an epoch: every 4 steps, and where epochs end; the last one is the model.
    assert steps("constant", "last") == [3, 4, 6] and steps("constant", "best") == [3, 6]
    assert logged("constant") == [2, 4, 6]
    assert [c.global_step for c in trainings("constant").state.previous] == [4, 3]
    # 6 steps an epoch, the last of which is a half: every 250 seconds; the best by F1.
    assert steps("linear", "last") == [3, 6, 9, 12, 15] and steps("linear", "best") == [6, 12, 15]
    assert logged("linear") == [3, 6, 9, 12, 15]
    assert trainings("linear").state.previous == []
    # 5 steps an epoch, and the second is no better than the first, with which it stops.
    assert steps("rising", "last") == [5, 10] and steps("rising", "best") == [5]
    assert logged("rising") == [6]
    assert [c.global_step for c in trainings("rising").state.previous] == [5]


@needs_tensorflow_2
def test_devices_are_asked_for_as_the_flags_say(root, monkeypatch):
    asked = []

    class Peers(object):
        def __init__(self, cluster, timeout):
            asked.append(timeout)
            raise UserError("enough")

    monkeypatch.setattr(replicas, "_mirrored", lambda: Peers(None, "mirrored"))
    monkeypatch.setattr(replicas, "Peers", Peers)
    monkeypatch.setattr(replicas, "check_used_port", lambda _: None)
    task = {"type": "worker", "index": 0}
    cluster = {"worker": ["localhost:2222", "localhost:2223"]}
    monkeypatch.setenv("TF_CONFIG", json.dumps({"cluster": cluster, "task": task}))
    line = PREPARED + "--data_dir=data --bert_pretrained_model=bert --suc_layers=2 "
    line += "--stage_1_outputdir=new_1 "
    for more in ("mirrored", "multi_worker", "multi_worker --peer_timeout_s=9"):
        assert "enough" in refused(line + "--distribution=" + more, root, monkeypatch)
    assert asked == ["mirrored", 120, 9]


# --- Files ---


def context_of(line, folder, monkeypatch):
    """Returns the Context of a command line in a folder."""
    made = []
    with monkeypatch.context() as patch:
        patch.setattr(command_lib, "run", lambda config, _: made.append(config))
        command(line, folder, patch)
    monkeypatch.chdir(str(folder))
    return Context(made[0])


TSV = "--task_name=custom "
NUMBERS = TSV + "--text_a_column=1 --label_column=2 "
BOTH = "手,1\t2,0\n买,2\t1,1\n".encode("utf-8")
THREE = "q\tr\tkind\n手\t机\t0\n买\t卖\t1\n".encode("utf-8")
GRADED = "sentence1\tsentence2\tscore\n手\t机\t1\n买\t卖\t0\n".encode("utf-8")
DIVIDED = "手,1;x\n买,2;y\n".encode()
BROKEN = "手\tx\n断了\n买\ty\n".encode("utf-8")


@pytest.mark.parametrize(
    "content, line, expected, labels",
    [
        (THREE, TSV + "--text_a_column=q --label_column=kind", ["手", "买"], [0, 1]),
        (THREE, TSV + "--text_a_column=r --label_column=kind", ["机", "卖"], [0, 1]),
        (THREE, TSV + "--text_a_column=r --label_column=q", ["机", "卖"], [1, 0]),
        (
            THREE,
            TSV + "--text_a_column=r --text_b_column=q --label_column=kind",
            ["机手", "卖买"],
            [0, 1],
        ),
        (
            THREE,
            TSV + "--text_a_column=q --label_column=kind --labels=1,0",
            ["手", "买"],
            [1, 0],
        ),
        (GRADED, "--task_name=lcqmc_pair", ["手机", "买卖"], [1, 0]),
        (GRADED, "--task_name=sts-b", ["手机", "买卖"], [1.0, 0.0]),
        ("手\tx\n买\ty\n".encode(), NUMBERS + "--header=no", ["手", "买"], [0, 1]),
        ("手\tx\n买\ty\n卖\tx\n".encode(), NUMBERS + "--header=yes", ["买", "卖"], [1, 0]),
        (b"\xa4\xe2\tx\nb\ty\n", NUMBERS + "--header=no --encoding=big5", ["手", "b"], [0, 1]),
        (
            b"\xa4\xe2\tx\nb\ty\n",
            NUMBERS + "--header=no --encoding=gb18030",
            ["も", "b"],
            [0, 1],
        ),
        (BOTH, NUMBERS + "--header=no --format=tsv", ["手,1", "买,2"], [1, 0]),
        (
            BOTH,
            TSV + "--text_a_column=1 --label_column=3 --header=no --format=csv",
            ["手", "买"],
            [0, 1],
        ),
        (DIVIDED, NUMBERS + "--header=no --format=csv --delimiter=;", ["手,1", "买,2"], [0, 1]),
        (DIVIDED, NUMBERS + "--header=no --format=csv --delimiter=,", ["手", "买"], [0, 1]),
        (BROKEN, NUMBERS + "--header=no --skip_bad_lines", ["手", "买"], [0, 1]),
        (BROKEN, NUMBERS + "--header=no --noskip_bad_lines", "line 2: expected 2 columns", None),
    ],
)
def test_a_file_is_read_as_the_flags_say(tmp_path, monkeypatch, content, line, expected, labels):
    (tmp_path / "train.txt").write_bytes(content)
    line = "--do_train --data_dir=. --suc_layers=2 --bert_pretrained_model=. " + line
    if labels is None:
        with pytest.raises(UserError, match=expected):
            context_of(line, tmp_path, monkeypatch)
        return
    context = context_of(line, tmp_path, monkeypatch)
    examples = context.data.labelled("./train.txt").examples
    assert [one.text_a + (one.text_b or "") for one in examples] == expected
    found = encoding.encode_labels([one.label for one in examples], context.task)
    assert found.tolist() == labels
    assert context.task.num_outputs == (1 if "sts-b" in line else 2)


def test_so_many_processes_encode(root, monkeypatch):
    found = []
    monkeypatch.setattr(
        parallel_encoding, "encode_parts", lambda *given: found.append(given[2]) or 1 / 0
    )
    for more in ("--num_encoding_processes=1", "--num_encoding_processes=3", ""):
        line = PREPARED + "--data_dir=data --suc_layers=2 " + more
        with pytest.raises(ZeroDivisionError):
            context_of(line, root, monkeypatch).data.encode_train(None, {})
    assert found == [1, 3, None]


def test_the_version_is_all_that_is_printed(root, monkeypatch, capsys):
    monkeypatch.setattr(command_lib, "run", lambda *_: print("run"))
    line = "--do_eval --suc_layers=2 --data_dir=data "
    command(line + "--version", root, monkeypatch)
    assert capsys.readouterr().out == "bert-theseus %s\n" % theseus.__version__
    command(line + "--noversion", root, monkeypatch)
    assert capsys.readouterr().out == "run\n"


# --- Evaluation and prediction ---

USED = "--data_dir=asked --suc_layers=2 --max_seq_length=32 "


@pytest.fixture(scope="module")
def asked(root):
    """The folder with asked/, whose dev and test are of other sizes and shares of labels."""
    (root / "asked").mkdir()
    write_pairs(root / "asked" / "dev.txt", 40, seed=5)
    write_pairs(root / "asked" / "test.txt", 23, seed=6)
    return root


def logits_of(root, folder, split, **loading):
    """Returns (logits, labels) of asked/ that a stage's folder gives, computed beside commands."""
    data = encoded(root, "asked/%s.txt" % split)
    with trained_model.load(StageFolder(str(root / folder)), **loading) as model:
        run = evaluation.runner(model.session, model.graph)
        return predictions.compute_logits(run, data, 64), data.labels


def rows_of(*path):
    with open(os.path.join(*map(str, path)), encoding="utf-8") as reader:
        return list(csv.DictReader(reader, delimiter="\t"))


@pytest.fixture(scope="module")
def graded(asked):
    """Logits and labels of graded/, a dict from (folder, split): asked/ with other labels.

    Of label 1 are those of which that is the most and the least probable, so that probabilities
    are too low and too high, and that a threshold changes the calibration.
    """
    (asked / "graded").mkdir()
    found = {}
    for split in ("dev", "test"):
        ours, theirs = (logits_of(asked, folder, split)[0] for folder in ("out_1", "teacher"))
        of_second = predictions.probabilities(ours)[:, 1]
        low, high = np.quantile(of_second, [0.25, 0.8])
        labels = (of_second < low) | (of_second > high)
        texts = (asked / "asked" / (split + ".txt")).read_text(encoding="utf-8").splitlines()
        lines = ["%s\t%d\n" % (text[:-2], label) for text, label in zip(texts, labels)]
        (asked / "graded" / (split + ".txt")).write_text("".join(lines), encoding="utf-8")
        found["out_1", split], found["teacher", split] = (ours, labels), (theirs, labels)
    return found


class Expected(object):
    """What is to be said of logits at a threshold, in numpy."""

    def __init__(self, logits, labels, threshold):
        self.labels = labels
        self.of_second = scipy.special.softmax(logits.astype(np.float64), axis=1)[:, 1]
        self.predicted = (self.of_second >= threshold).astype(int)
        self.confidence = np.where(self.predicted == 1, self.of_second, 1 - self.of_second)
        self.is_right = self.predicted == labels

    def ece(self):
        """Guo et al., eq. 3, in 15 bins, of which each counts by its examples."""
        numbers, total = np.minimum((self.confidence * 15).astype(int), 14), 0.0
        for number in set(numbers):
            rows = numbers == number
            distance = abs(self.is_right[rows].mean() - self.confidence[rows].mean())
            total += rows.sum() * distance / len(rows)
        return total


@pytest.mark.parametrize("share", [0.25, 0.8])
def test_a_threshold_holds_for_all_that_is_written(asked, graded, monkeypatch, share):
    of_second = np.sort(predictions.probabilities(graded["out_1", "dev"][0])[:, 1])
    first = int(share * 40)
    threshold = float(of_second[first - 1 : first + 1].mean())
    dev = Expected(*graded["out_1", "dev"], threshold)
    surest = np.sort(dev.confidence)
    least = float(surest[first - 1 : first + 1].mean())
    line = "--do_eval --do_predict --predict_file=graded/dev.txt --compare_with=teacher "
    line += "--eval_files=graded/test.txt --threshold=%r --abstain_below=%r " % (threshold, least)
    command(line + USED.replace("asked", "graded"), asked, monkeypatch)

    results = read_json(asked, "out_1", "eval_results.json")
    others = results["eval_files"]["graded/test.txt"]
    for split, values in [("dev", results), ("test", others)]:
        one, other = (Expected(*graded[name, split], threshold) for name in ("out_1", "teacher"))
        assert 0 < one.predicted.mean() < 1 and 0 < one.is_right.mean() < 1
        assert values["num_examples"] == len(one.labels)
        assert values["accuracy"] == pytest.approx(one.is_right.mean())
        counts = [
            [int(((one.labels == t) & (one.predicted == p)).sum()) for p in (0, 1)] for t in (0, 1)
        ]
        assert values["confusion"] == counts
        for number, scores in enumerate(values["by_label"]):
            assert scores["recall"] == pytest.approx(counts[number][number] / sum(counts[number]))
        assert values["ece"] == pytest.approx(one.ece(), abs=1e-4)
        changes = abs(one.ece() - Expected(*graded["out_1", split], 0.5).ece()) > 0.01
        assert changes or split == "test"
        is_sure = one.confidence >= least
        assert values["abstaining"]["coverage"] == is_sure.mean()
        assert values["abstaining"]["accuracy"] == pytest.approx(one.is_right[is_sure].mean())
        order = np.argsort(-one.confidence)
        half = values["most_confident"][-1]
        count = int(round(half["coverage"] * len(order)))
        assert half["accuracy"] == pytest.approx(one.is_right[order[:count]].mean())
        compared = values["compared"]["teacher"]
        assert compared["accuracy"] == pytest.approx(other.is_right.mean())
        assert compared["label_loyalty"] == (one.predicted == other.predicted).mean()

    rows = rows_of(asked, "out_1", "predictions.tsv")
    assert [int(row["predicted_label"]) for row in rows] == dev.predicted.tolist()
    assert [int(row["is_uncertain"]) for row in rows] == (dev.confidence < least).astype(
        int
    ).tolist()
    assert len(rows) == 40 and 0 < sum(int(row["is_uncertain"]) for row in rows) < 40
    rows = rows_of(asked, "out_1", "errors.tsv")
    wrong = [row for row in np.argsort(-dev.confidence) if not dev.is_right[row]]
    assert [int(row["index"]) for row in rows] == wrong
    assert [int(row["predicted_label"]) for row in rows] == dev.predicted[wrong].tolist()


def test_what_is_evaluated_and_predicted_are_the_files_that_are_named(asked, monkeypatch):
    """Both splits, of which the file to be predicted is always the other one."""
    for split, other, more in [
        ("dev", "test", "--do_predict "),
        ("test", "dev", "--eval_split=test --do_predict --predict_file=asked/dev.txt "),
    ]:
        command("--do_eval " + more + USED, asked, monkeypatch)
        logits, labels = logits_of(asked, "out_1", split)
        results = read_json(asked, "out_1", "eval_results.json")
        assert (results["split"], results["num_examples"]) == (split, len(labels))
        logs = scipy.special.log_softmax(logits, axis=1)
        assert results["loss"] == pytest.approx(-logs[range(len(labels)), labels].mean(), rel=1e-4)
        logits, _ = logits_of(asked, "out_1", other)
        found = [float(row["probability_1"]) for row in rows_of(asked, "out_1", "predictions.tsv")]
        assert_close(found, predictions.probabilities(logits)[:, 1], 1e-4)


def test_paths_are_evaluated_predicted_with_and_calibrated_each_by_itself(asked, monkeypatch):
    """The successor has a temperature too, which is not its paths'."""
    found = {}
    try:
        for digits in ("11", "10", "01"):
            path = None if digits == "11" else [digit == "1" for digit in digits]
            logits, labels = logits_of(asked, "out_1", "dev", mask=path)
            line = "--do_eval --do_predict --predict_file=asked/dev.txt --calibrate "
            line += "--replaced_modules="
            command(line + digits + " " + USED, asked, monkeypatch)
            folder = asked / "out_1" / ("" if path is None else "mixture_" + digits)
            temperature = read_json(folder, "calibration.json")["temperature"]
            assert temperature == pytest.approx(
                calibration.find_temperature(logits, labels), rel=1e-3
            )
            expected = predictions.probabilities(logits / temperature)
            rows = rows_of(folder, "predictions.tsv")
            assert_close([float(row["probability_1"]) for row in rows], expected[:, 1], 1e-4)
            loss = -np.log(expected[range(40), labels]).mean()
            results = read_json(folder, "eval_results.json")
            assert results["loss"] == pytest.approx(loss, rel=1e-3)
            found[digits] = (results["loss"], temperature)
    finally:
        for path in asked.glob("out_1/**/calibration.json"):
            path.unlink()
    for number in (0, 1):
        assert len({"%.3f" % values[number] for values in found.values()}) == 3
