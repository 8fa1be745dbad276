"""The session loop: what changes, what stays, and that an interruption changes nothing."""

import collections
import contextlib
import copy
import dataclasses
import functools
import json
import os
import shutil
import signal
from unittest import mock

import numpy as np
import pytest
import scipy.special
import scipy.stats
import tensorflow.compat.v1 as tf
from absl import logging

import modeling_theseus
import tokenization
from conftest import (
    SMALL_BERT,
    assert_close,
    assert_gradients_close,
    make_config,
    needs_tensorflow_2,
    read_json,
)
from theseus.checkpoints import weights
from theseus.distribution.replicas import Replicas
from theseus.distribution.workers import Workers
from theseus.errors import UserError
from theseus.inference import evaluation, predictions
from theseus.inputs import batches, encoding, reading, sources, tasks
from theseus.runs.stage_folder import StageFolder
from theseus.stage import PREDECESSOR, REPLACING, SUCCESSOR
from theseus.training import curves, initial_weights
from theseus.training import graph as graph_lib
from theseus.training.checkpoints import Checkpoints
from theseus.training.initial_weights import InitialWeights
from theseus.training.steps import StepRunner, Steps, StepValues
from theseus.training.trainer import Trainer

TASK = tasks.TASKS["lcqmc_pair"]


def make_settings(stage=REPLACING, **changes):
    values = dict(
        learning_rate=1e-3,
        num_train_epochs=2,
        warmup_proportion=0.5,
        train_batch_size=32,
        seed=1,
        replace_until=0.8,
    )
    return make_config(stage, **dict(values, **changes))


@pytest.fixture(scope="module")
def bert(random_data):
    """(config, weights, training data, dev data) of a layer; 40 pairs are 2 steps an epoch."""
    folder = random_data / "bert"
    config = modeling_theseus.BertConfig.from_dict(dict(SMALL_BERT, num_hidden_layers=1))
    tokenizer = tokenization.FullTokenizer(str(folder / "vocab.txt"))

    def encode(split, count):
        path = sources.find_files(str(random_data), TASK, split)[0]
        examples = reading.read_examples(path, TASK)[:count]
        return encoding.encode_examples(examples, TASK, tokenizer, 64)

    start = weights.CheckpointWeights(weights.find_checkpoint(str(folder)))
    return config, start, encode("train", 40), encode("dev", 30)


@pytest.fixture(scope="module")
def two_modules(bert):
    """The same of 2 layers, where it matters that a path has several modules."""
    values = dict(bert[0].to_dict(), num_hidden_layers=2)
    return (modeling_theseus.BertConfig.from_dict(values),) + bert[1:]


def build_graph(settings, config, num_steps, task=TASK):
    """Builds the TrainingGraph of a successor that has a layer for each of its predecessor's."""
    groups = modeling_theseus.equal_groups(config.num_hidden_layers, config.num_hidden_layers)
    return graph_lib.build_graph(settings, config, task, groups, num_steps)


def as_a_graph_reads(settings):
    """Returns Settings that are equal where graphs are: those that differ in what else is read."""
    parts = min(settings.gradient_accumulation_steps, 2)
    others = make_settings()
    return dataclasses.replace(
        settings,
        gradient_accumulation_steps=parts,
        num_train_epochs=others.num_train_epochs,
        early_stopping_patience=others.early_stopping_patience,
        select_checkpoint=others.select_checkpoint,
    )


@functools.lru_cache(maxsize=None)
def built_graph(settings, config, num_steps):
    """Builds the TrainingGraph of Settings and of a config as JSON, once for all tests.

    Returns:
      (TrainingGraph, a session over it, the operation that initializes all variables).
    """
    with tf.Graph().as_default() as tf_graph:
        config = modeling_theseus.BertConfig.from_dict(json.loads(config))
        graph = build_graph(settings, config, num_steps)
        return graph, tf.Session(graph=tf_graph), tf.global_variables_initializer()


@contextlib.contextmanager
def trainer_in(path, bert, settings, **reporting):
    """A Trainer in a locked folder, initialized or resumed, in a session that knows nothing."""
    config, start, train_data, dev_data = bert
    folder = StageFolder(str(path))
    _, num_steps = settings.num_steps(len(train_data))
    graph, session, forget = built_graph(
        as_a_graph_reads(settings), config.to_json_string(), num_steps
    )
    with folder.locked(), session.graph.as_default():
        session.run(forget)
        variables = tf.trainable_variables()
        matched = initial_weights.match_weights(settings.scope, start, variables)
        chosen = dataclasses.replace(settings, **dict({"log_steps": 1}, **reporting))
        parts = settings.gradient_accumulation_steps
        steps = Steps(settings, train_data.lengths, StepRunner(session, graph, train_data, parts))
        workers = Workers(Replicas(), session)
        trainer = Trainer(chosen, graph, steps, dev_data, folder, session, workers)
        folder.claim({"seed": settings.seed}, {})
        trainer.initialize(InitialWeights(start, matched))
        yield trainer


def values_of(prefix):
    return dict(weights.CheckpointWeights(prefix))


def assert_same(found, expected):
    assert sorted(found) == sorted(expected)
    for name, value in expected.items():
        np.testing.assert_array_equal(found[name], value, err_msg=name)


@pytest.fixture(scope="module")
def uninterrupted(bert, tmp_path_factory):
    """(state, values of last, values of best, path of the folder) of a stage 1 of 4 steps."""
    path = tmp_path_factory.mktemp("uninterrupted")
    with trainer_in(path, bert, make_settings()) as trainer:
        assert trainer.run()
    folder = StageFolder(str(path))
    return (
        folder.state(),
        values_of(folder.checkpoint("last")),
        values_of(folder.best_checkpoint()),
        str(path),
    )


def assert_equals_no_interruption(path, uninterrupted):
    state, last, best, straight = uninterrupted
    folder = StageFolder(str(path))
    found = folder.state()
    for key in ("last", "best", "evaluations"):
        assert getattr(found, key) == getattr(state, key)
    assert_same(values_of(folder.checkpoint("last")), last)
    assert_same(values_of(folder.best_checkpoint()), best)
    found, expected = (curves.read_scalars(str(p)) for p in (path, straight))
    found["examples_per_second"] = expected["examples_per_second"]
    assert found == expected


def test_a_run_counts_steps_evaluates_epochs_and_keeps_last_and_best(uninterrupted):
    state, last, best, _ = uninterrupted
    assert last["global_step"] == 4
    assert [entry["global_step"] for entry in state.evaluations] == [2, 4]
    top = max(entry["accuracy"] for entry in state.evaluations)
    assert state.best_evaluation()["accuracy"] == top
    assert any("/adam_m" in name for name in last)
    names = set(best)
    assert "bert/encoder/suc_layer_0/output/dense/kernel" in names and "output_weights" in names
    assert not [n for n in names if "adam" in n or "bert/encoder/layer_" in n]


@pytest.mark.parametrize("stop_after", [1, 2])  # Within an epoch, and at its end.
def test_a_signal_at_any_step_and_a_resume_equal_no_interruption(
    bert, tmp_path, uninterrupted, stop_after
):
    with trainer_in(tmp_path, bert, make_settings()) as trainer:
        step_of = trainer.steps.train_step

        def train_step(rows, step):
            if step + 1 == stop_after:
                os.kill(os.getpid(), signal.SIGTERM)
            return step_of(rows, step)

        trainer.steps.train_step = train_step
        assert not trainer.run()
    assert StageFolder(str(tmp_path)).state().last.global_step == stop_after
    with trainer_in(tmp_path, bert, make_settings()) as trainer:
        assert trainer.run()
    assert_equals_no_interruption(tmp_path, uninterrupted)


def run_until_crash(trainer, crash_at):
    """Trains until a crash in the step of that number, from 0."""
    step_of = trainer.steps.train_step

    def train_step(rows, step):
        if step == crash_at:
            raise RuntimeError("crash")
        return step_of(rows, step)

    trainer.steps.train_step = train_step
    with pytest.raises(RuntimeError, match="crash"):
        trainer.run()


@pytest.mark.parametrize("crash_at, save_steps", [(0, 1), (3, 1), (1, None), (3, None)])
def test_a_crash_in_any_step_and_a_resume_equal_no_interruption(
    bert, tmp_path, uninterrupted, crash_at, save_steps
):
    with trainer_in(tmp_path, bert, make_settings(), save_checkpoints_steps=save_steps) as trainer:
        run_until_crash(trainer, crash_at)
    with trainer_in(tmp_path, bert, make_settings()) as trainer:
        assert trainer.run()
    assert_equals_no_interruption(tmp_path, uninterrupted)


def test_an_epochs_end_that_was_not_evaluated_is_evaluated_first(
    bert, tmp_path, uninterrupted, monkeypatch
):
    def crash(*_):
        raise RuntimeError("crash")

    with trainer_in(tmp_path, bert, make_settings()) as trainer:
        monkeypatch.setattr(evaluation, "evaluate", crash)
        with pytest.raises(RuntimeError, match="crash"):
            trainer.run()
        monkeypatch.undo()
    state = StageFolder(str(tmp_path)).state()
    assert state.last.global_step == 2 and not state.evaluations

    order = []
    evaluate = evaluation.evaluate
    monkeypatch.setattr(evaluation, "evaluate", lambda *a: order.append("evaluate") or evaluate(*a))
    with trainer_in(tmp_path, bert, make_settings()) as trainer:
        step_of = trainer.steps.train_step
        trainer.steps.train_step = lambda *a: order.append("step") or step_of(*a)
        assert trainer.run()
    assert order == ["evaluate", "step", "step", "evaluate"]
    assert_equals_no_interruption(tmp_path, uninterrupted)


def test_a_checkpoint_written_before_its_state_is_written_again(bert, tmp_path, uninterrupted):
    """A crash between the best checkpoint and the state that names it."""
    with trainer_in(tmp_path, bert, make_settings()) as trainer:
        commit, commits = trainer.folder.commit, []

        def crash_at_second(state):
            commits.append(state)
            if len(commits) == 2:
                raise RuntimeError("crash")
            commit(state)

        trainer.folder.commit = crash_at_second
        with pytest.raises(RuntimeError, match="crash"):
            trainer.run()
    assert os.path.exists(str(tmp_path / "best" / "model.ckpt-2.index"))
    with trainer_in(tmp_path, bert, make_settings()) as trainer:
        assert trainer.run()
    assert_equals_no_interruption(tmp_path, uninterrupted)


def test_a_finished_run_trains_nothing(bert, tmp_path, monkeypatch):
    for _ in range(2):
        with trainer_in(tmp_path, bert, make_settings()) as trainer:
            assert trainer.run()
        monkeypatch.delattr(Steps, "train_step", raising=False)


@pytest.mark.parametrize(
    "stage, scope, changing",
    [
        (PREDECESSOR, "all", "embeddings predecessor's pooler classifier"),
        (REPLACING, "all", "embeddings predecessor's successor's pooler classifier"),
        (REPLACING, "successor", "embeddings successor's pooler classifier"),
        (REPLACING, "successor_layers", "successor's"),
        (SUCCESSOR, "successor", "embeddings successor's pooler classifier"),
        (SUCCESSOR, "successor_layers", "successor's"),
    ],
)
def test_only_what_should_train_changes(bert, stage, scope, changing):
    config, start, train_data, _ = bert
    settings = make_settings(stage, train_scope=scope)
    with tf.Graph().as_default(), tf.Session() as session:
        graph = build_graph(settings, config, 6)
        variables = tf.trainable_variables()
        names = [v.op.name for v in variables]
        sources = modeling_theseus.assign_sources(names, start)
        weights.load(session, tf.global_variables(), start, sources)
        before = session.run(variables)
        paths = []
        for rows in batches.plan_epoch(train_data.lengths, 8, 1, 0):
            feed = modeling_theseus.feed_features(graph.inputs[0].features, train_data.batch(rows))
            feed[graph.inputs[0].labels] = train_data.labels[rows]
            paths.append(tuple(session.run([graph.mask, graph.train_op], feed)[0]))
        after = session.run(variables)
        assert session.run(tf.train.get_global_step()) == len(paths) == 5
        slots = {v.op.name for v in tf.global_variables() if "/adam_" in v.op.name}

    assert len(set(paths)) > 1 or stage != REPLACING
    groups = {name: modeling_theseus.variable_group(name).split(" ")[0] for name in names}
    for name, old, new in zip(names, before, after):
        changed, trains = (old != new).any(), groups[name] in changing.split()
        # A key's bias has a gradient of nothing but rounding: the softmax does not depend on it.
        assert changed == trains or (trains and name.endswith("/key/bias")), name
    training_names = [name for name in names if groups[name] in changing.split()]
    assert slots == {"%s/adam_%s" % (name, m) for name in training_names for m in "mv"}


def test_padding_to_one_length_gives_the_same_losses(bert, tmp_path):
    # Without dropout, whose masks depend on the padded shape.
    config, start, train_data, dev_data = bert
    train_data = copy.copy(train_data)
    config = modeling_theseus.BertConfig.from_dict(
        dict(config.to_dict(), hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0)
    )
    losses = {}
    for length in (None, 64):
        train_data.padded_lengths = (length,) if length else ()
        path = tmp_path / str(length)
        with trainer_in(path, (config, start, train_data, dev_data), make_settings()) as trainer:
            step_of, found = trainer.steps.train_step, losses.setdefault(length, [])

            def train_step(rows, step, step_of=step_of, found=found):
                result = step_of(rows, step)
                found.append(result[0])
                return result

            trainer.steps.train_step = train_step
            trainer.run()
    assert len(losses[64]) == 4
    assert_close(losses[None], losses[64], 1e-4)


@needs_tensorflow_2
def test_bfloat16_trains_nearly_as_float32_and_keeps_float32_weights(bert, tmp_path):
    states, kept = {}, {}
    for precision in ("float32", "bfloat16"):
        with trainer_in(tmp_path / precision, bert, make_settings(precision=precision)) as trainer:
            assert trainer.run()
            states[precision] = trainer.folder.state()
            kept[precision] = values_of(trainer.folder.checkpoint("last"))
    losses = [[row["loss"] for row in states[p].evaluations] for p in sorted(states)]
    assert losses[0] != losses[1]
    assert_close(*losses, share=0.01)
    for name, value in kept["bfloat16"].items():
        assert value.dtype == kept["float32"][name].dtype
    moments, expected = (
        {name: value for name, value in kept[p].items() if name.endswith("/adam_m")}
        for p in ("bfloat16", "float32")
    )
    assert_gradients_close(moments, expected, 0.02)
    for name in set(bert[1]) & set(kept["float32"]):
        # The largest change of 4 steps is 4e-3.
        assert_close(kept["bfloat16"][name], kept["float32"][name], 0.1, 4e-3, name)


def test_weights_that_are_not_numbers_never_become_the_best(bert, tmp_path):
    """The last step's update diverges: its loss was still finite."""
    settings = make_settings(learning_rate=1e30, warmup_proportion=0.0, num_train_epochs=0.5)
    with trainer_in(tmp_path, bert, settings) as trainer:
        with pytest.raises(UserError, match="logits are not finite numbers"):
            trainer.run()
    state = StageFolder(str(tmp_path)).state()
    assert state.best is None and not state.is_finished


def flip(path):
    with open(path, "r+b") as file:
        middle = os.path.getsize(path) // 2
        file.seek(middle)
        byte = file.read(1)[0]
        file.seek(middle)
        file.write(bytes([byte ^ 16]))


def truncate(path):
    with open(path, "r+b") as file:
        file.truncate(os.path.getsize(path) - 1)


def empty(path):
    open(path, "wb").close()


INDEX, DATA = ".index", ".data-00000-of-00001"
DAMAGES = [(flip, DATA), (truncate, INDEX), (empty, DATA), (os.remove, INDEX)]


@pytest.mark.parametrize("damage, ending", DAMAGES)
def test_a_damaged_last_checkpoint_is_said_and_the_one_before_used(
    bert, tmp_path, uninterrupted, caplog, ending, damage
):
    """Step 3 is after the first epoch's evaluation, step 2 at its end."""
    with trainer_in(tmp_path, bert, make_settings(), save_checkpoints_steps=1) as trainer:
        run_until_crash(trainer, 3)
        assert [entry.global_step for entry in trainer.folder.state().previous] == [2]
        damage(trainer.folder.checkpoint("last") + ending)
    with trainer_in(tmp_path, bert, make_settings()) as trainer:
        assert "model.ckpt-3%s: " % ending in caplog.text
        assert "resuming from the checkpoint before" in caplog.text
        assert trainer.run()
    assert_equals_no_interruption(tmp_path, uninterrupted)


def test_a_damaged_end_is_trained_again_and_the_best_kept(bert, tmp_path, uninterrupted):
    with trainer_in(tmp_path, bert, make_settings(), save_checkpoints_steps=1) as trainer:
        assert trainer.run()
        flip(trainer.folder.checkpoint("last") + INDEX)
        best = trainer.folder.best_checkpoint()
    with trainer_in(tmp_path, bert, make_settings()) as trainer:
        assert trainer.folder.best_checkpoint() == best
        assert trainer.run()
    assert_equals_no_interruption(tmp_path, uninterrupted)


def test_where_all_that_is_kept_is_damaged_it_is_one_line(bert, tmp_path):
    with trainer_in(tmp_path, bert, make_settings(), save_checkpoints_steps=1) as trainer:
        run_until_crash(trainer, 3)
        for entry in trainer.folder.state().checkpoints():
            truncate(trainer.folder.file(entry.checkpoint + ".index"))
    with pytest.raises(
        UserError, match="ckpt-2.index: is damaged: .*; no earlier checkpoint was kept"
    ):
        with trainer_in(tmp_path, bert, make_settings()):
            pass


@pytest.mark.parametrize("num_kept", [1, 3])
def test_so_many_of_the_last_checkpoints_are_kept(bert, tmp_path, num_kept):
    with trainer_in(
        tmp_path, bert, make_settings(), save_checkpoints_steps=1, keep_checkpoints=num_kept
    ) as trainer:
        assert trainer.run()
        names = os.listdir(trainer.folder.file("last"))
        steps = sorted(int(name[11]) for name in names if name.endswith(".index"))
        assert steps == [4, 3, 2][:num_kept][::-1] and len(names) == 2 * num_kept


@pytest.mark.parametrize("damage", [flip, truncate, empty, os.remove])
@pytest.mark.parametrize("ending", [INDEX, DATA])
def test_a_damaged_best_checkpoint_is_named(uninterrupted, tmp_path, ending, damage):
    folder = StageFolder(shutil.copytree(uninterrupted[3], str(tmp_path / "copy")))
    prefix = folder.best_checkpoint()
    damage(prefix + ending)
    message = "best/%s%s: (is damaged|cannot)" % (os.path.basename(prefix), ending)
    with pytest.raises(UserError, match=message):
        folder.best_checkpoint()


def test_a_checkpoint_of_another_step_than_its_record_says_is_refused(bert, tmp_path):
    with trainer_in(tmp_path, bert, make_settings(num_train_epochs=0.5)) as trainer:
        assert trainer.run()
        state = trainer.folder.state()
        state.last = dataclasses.replace(state.last, global_step=7)
        trainer.folder.commit(state)
    with pytest.raises(
        UserError, match="state.json: says step 7, but its checkpoint is from step 1"
    ):
        with trainer_in(tmp_path, bert, make_settings(num_train_epochs=0.5)):
            pass


def test_what_an_older_version_left_without_sums_is_refused_in_one_line(bert, tmp_path):
    with trainer_in(tmp_path, bert, make_settings()) as trainer:
        run_until_crash(trainer, 3)
        trainer._save_last(3)
    path = tmp_path / "state.json"
    held = read_json(path)
    del held["last"]["files"], held["best"]["files"]
    path.write_text(json.dumps(held))
    with pytest.raises(
        UserError, match="state.json: is damaged: last: expected an object with files"
    ):
        with trainer_in(tmp_path, bert, make_settings()):
            pass


@pytest.mark.parametrize("name", ["run[1]", "a*b?{a,b}back\\slash"])
def test_a_folder_may_be_named_as_a_pattern_is(bert, tmp_path, uninterrupted, name):
    (tmp_path / "run1").mkdir()  # What the pattern would fit.
    path = tmp_path / name
    with trainer_in(path, bert, make_settings()) as trainer:
        run_until_crash(trainer, 2)
        trainer._save_last(2)
    with trainer_in(path, bert, make_settings()) as trainer:
        assert trainer.run()
    assert_equals_no_interruption(path, uninterrupted)


def test_two_runs_of_one_seed_are_equal_and_those_of_two_seeds_are_not(
    bert, tmp_path, uninterrupted
):
    for seed in (1, 2):
        with trainer_in(tmp_path / str(seed), bert, make_settings(seed=seed)) as trainer:
            assert trainer.run()
    assert_equals_no_interruption(tmp_path / "1", uninterrupted)
    other = values_of(StageFolder(str(tmp_path / "2")).checkpoint("last"))
    assert any((other[name] != value).any() for name, value in uninterrupted[1].items())


def test_the_best_are_the_weights_of_the_first_epoch_with_the_highest_accuracy(
    bert, tmp_path, monkeypatch
):
    accuracies = iter([0.5, 0.8, 0.8, 0.6])
    evaluate = evaluation.evaluate

    def evaluate_with_given_accuracy(*arguments):
        metrics, seconds = evaluate(*arguments)
        return dict(metrics, accuracy=next(accuracies)), seconds

    monkeypatch.setattr(evaluation, "evaluate", evaluate_with_given_accuracy)
    with trainer_in(tmp_path, bert, make_settings(num_train_epochs=4)) as trainer:
        kept = {}
        save_last = trainer._save_last

        def save(step):
            save_last(step)
            kept[step] = values_of(trainer.folder.checkpoint("last"))

        trainer._save_last = save
        assert trainer.run()
    folder = StageFolder(str(tmp_path))
    assert folder.state().best.global_step == 4
    best = values_of(folder.best_checkpoint())
    assert_same(best, {name: kept[4][name] for name in best})


def with_accuracies(monkeypatch, values):
    """Gives the evaluations to come these accuracies on dev."""
    accuracies, evaluate = iter(values), evaluation.evaluate

    def evaluate_with_given_accuracy(*arguments):
        metrics, seconds = evaluate(*arguments)
        return dict(metrics, accuracy=next(accuracies)), seconds

    monkeypatch.setattr(evaluation, "evaluate", evaluate_with_given_accuracy)


def test_the_last_checkpoint_is_the_model_if_it_is_selected(bert, tmp_path, monkeypatch):
    with_accuracies(monkeypatch, [0.9, 0.5, 0.7])
    settings = make_settings(num_train_epochs=3, select_checkpoint="last")
    with trainer_in(tmp_path, bert, settings) as trainer:
        assert trainer.run()
        state = trainer.folder.state()
    assert [entry["accuracy"] for entry in state.evaluations] == [0.9, 0.5, 0.7]
    assert state.best.global_step == state.last.global_step == 6
    last, best = (values_of(str(tmp_path / entry.checkpoint)) for entry in (state.last, state.best))
    assert_same(best, {name: last[name] for name in best})


@pytest.mark.parametrize("patience, epochs", [(1, 2), (2, 5), (3, 6), (None, 6)], ids=str)
def test_a_run_stops_after_so_many_evaluations_without_a_better_one(
    bert, tmp_path, monkeypatch, patience, epochs
):
    lines = []
    monkeypatch.setattr(logging, "info", lambda form, *values: lines.append(form % values))
    with_accuracies(monkeypatch, [0.5, 0.4, 0.6, 0.6, 0.5, 0.5])
    settings = make_settings(num_train_epochs=6, early_stopping_patience=patience)
    with trainer_in(tmp_path, bert, settings) as trainer:
        assert trainer.run()
    state = StageFolder(str(tmp_path)).state()
    assert [entry["global_step"] for entry in state.evaluations] == list(
        range(2, 2 * epochs + 1, 2)
    )
    assert state.is_finished and state.last.global_step == 2 * epochs
    best = 2 if epochs == 2 else 6
    message = "stopping early (--early_stopping_patience=%s): step %d is still the best"
    assert (message % (patience, best) in "\n".join(lines)) == (epochs < 6)


def test_stopping_early_leaves_the_steps_before_as_they_are(bert, tmp_path, monkeypatch):
    losses = []
    with_accuracies(monkeypatch, [0.5] * 6)
    for patience in (None, 1):
        settings = make_settings(
            num_train_epochs=4, early_stopping_patience=patience, warmup_proportion=0.0
        )
        with trainer_in(tmp_path / str(patience), bert, settings) as trainer:
            assert trainer.run()
            losses.append([e["loss"] for e in trainer.folder.state().evaluations])
    assert len(losses[0]) == 4 and losses[1] == losses[0][:2]


def test_a_crash_between_the_last_evaluation_and_the_early_stop_changes_nothing(
    bert, tmp_path, monkeypatch
):
    with_accuracies(monkeypatch, [0.5, 0.5, 0.5])
    settings = make_settings(num_train_epochs=3, early_stopping_patience=1)
    with trainer_in(tmp_path, bert, settings) as trainer:
        evaluate = trainer._evaluate

        def crash_after(step):
            evaluate(step)
            if step == 4:
                raise RuntimeError("crash")

        trainer._evaluate = crash_after
        with pytest.raises(RuntimeError, match="crash"):
            trainer.run()
    state = StageFolder(str(tmp_path)).state()
    monkeypatch.delattr(Steps, "train_step")
    with trainer_in(tmp_path, bert, settings) as trainer:
        assert trainer.run()
    assert StageFolder(str(tmp_path)).state() == state
    assert state.is_finished and len(state.evaluations) == 2


def without_dropout(bert):
    config, start, train_data, dev_data = bert
    rates = dict(hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0)
    config = modeling_theseus.BertConfig.from_dict(dict(config.to_dict(), **rates))
    return config, start, train_data, dev_data


def losses_of(trainer):
    """Returns a list that the losses of the steps to come are put into."""
    step_of, found = trainer.steps.train_step, []

    def train_step(rows, step):
        values = step_of(rows, step)
        found.append(float(values.loss))
        return values

    trainer.steps.train_step = train_step
    return found


def test_accumulated_micro_batches_train_as_the_whole_batch(bert, tmp_path):
    """On drawn paths; an epoch is a batch of 32, and a short one of 8, fewer than 12 parts."""
    losses, kept = {}, {}
    for parts in (1, 3, 12):
        settings = make_settings(
            num_train_epochs=3, gradient_accumulation_steps=parts, replace_until=None
        )
        with trainer_in(tmp_path / str(parts), without_dropout(bert), settings) as trainer:
            losses[parts] = losses_of(trainer)
            assert bool(tf.local_variables()) == (parts > 1)
            assert trainer.run()
            kept[parts] = values_of(trainer.folder.checkpoint("last"))
    for parts in (3, 12):
        assert_close(losses[parts], losses[1], 1e-4)
        assert sorted(kept[parts]) == sorted(kept[1])
        for moment in ("/adam_m", "/adam_v"):
            found, whole = (
                {name: value for name, value in kept[run].items() if name.endswith(moment)}
                for run in (parts, 1)
            )
            assert_gradients_close(found, whole)
        for name, value in kept[1].items():
            # AdamW divides a gradient by its size: what is nothing but rounding moves a weight,
            # too, by less than the rate of the 6 steps.
            assert_close(kept[parts][name], value, 0.01, 6 * 1e-3, name)


def test_accumulated_gradients_are_the_whole_batchs(bert):
    config, start, train_data, _ = without_dropout(bert)
    rows = batches.plan_epoch(train_data.lengths, 32, 1, 0)[0]
    found = []
    for parts in (1, 5):
        settings = make_settings(gradient_accumulation_steps=parts)
        with tf.Graph().as_default(), tf.Session() as session:
            graph = build_graph(settings, config, 6)
            variables = tf.trainable_variables()
            sources = initial_weights.match_weights("all", start, variables).sources
            gradients = [tf.convert_to_tensor(g) for g in tf.gradients(graph.loss, graph.trained)]
            weights.load(session, tf.global_variables(), start, sources)
            session.run(tf.local_variables_initializer())
            cut = batches.cut_batch(rows, parts)
            for number, part in enumerate(cut):
                (inputs,) = graph.inputs
                feed = modeling_theseus.feed_features(inputs.features, train_data.batch(part))
                feed[inputs.labels] = train_data.labels[part]
                if parts > 1:
                    feed[inputs.micro_batch] = number
                    feed[inputs.batch_size] = len(rows)
                    session.run(graph.accumulate_op, feed)
                else:
                    found.append(session.run(gradients, feed))
            if parts > 1:
                found.append(session.run(tf.local_variables()[1:]))  # After that of the loss.
    whole, summed = ({str(n): value for n, value in enumerate(values)} for values in found)
    assert_gradients_close(summed, whole)


def test_micro_batches_share_the_path_and_not_the_dropout(two_modules):
    config, start, train_data, _ = two_modules
    settings = make_settings(gradient_accumulation_steps=2)
    rows = batches.plan_epoch(train_data.lengths, 8, 1, 0)[0]
    with tf.Graph().as_default(), tf.Session() as session:
        graph = build_graph(settings, config, 6)
        variables = tf.trainable_variables()
        sources = initial_weights.match_weights("all", start, variables).sources
        weights.load(session, tf.global_variables(), start, sources)
        session.run(tf.local_variables_initializer())
        (inputs,) = graph.inputs
        feed = modeling_theseus.feed_features(inputs.features, train_data.batch(rows))
        feed.update({inputs.labels: train_data.labels[rows], inputs.batch_size: 16})
        paths, losses = [], []
        for number in (0, 1, 0):
            feed[inputs.micro_batch] = number
            path, loss = session.run([graph.mask, graph.loss], feed)
            paths.append(path.tolist())
            losses.append(loss)
    assert paths[0] == paths[1] == paths[2]
    assert losses[0] == losses[2] != losses[1]


def test_a_crash_within_a_step_of_micro_batches_and_a_resume_equal_no_interruption(bert, tmp_path):
    settings = make_settings(gradient_accumulation_steps=2)
    with trainer_in(tmp_path / "straight", bert, settings) as trainer:
        assert trainer.run()
    with trainer_in(tmp_path / "crash", bert, settings, save_checkpoints_steps=1) as trainer:
        feed_of, parts = trainer.steps.runner.feed, []

        def crash_in_third_step(*arguments):
            parts.append(arguments)
            if len(parts) == 6:
                raise RuntimeError("crash")
            return feed_of(*arguments)

        trainer.steps.runner.feed = crash_in_third_step
        with pytest.raises(RuntimeError, match="crash"):
            trainer.run()
        assert trainer.folder.state().last.global_step == 2
    with trainer_in(tmp_path / "crash", bert, settings) as trainer:
        assert trainer.run()
    straight = StageFolder(str(tmp_path / "straight"))
    state, last = straight.state(), values_of(straight.checkpoint("last"))
    best = values_of(straight.best_checkpoint())
    assert_equals_no_interruption(tmp_path / "crash", (state, last, best, tmp_path / "straight"))


def weights_after_steps(trainer):
    """Returns a list that the trained variables' values, by name, are put into after each step."""
    step_of, found = trainer.steps.train_step, []

    def train_step(rows, step):
        values = step_of(rows, step)
        names = [variable.op.name for variable in trainer.graph.trained]
        found.append(dict(zip(names, trainer.session.run(trainer.graph.trained))))
        return values

    trainer.steps.train_step = train_step
    return found


# Of a decay of a half the third step already weighs more than in a plain mean.
AVERAGED = dict(train_scope="successor", ema_decay=0.5)
Averaged = collections.namedtuple("Averaged", "state last best path steps logits")


@pytest.fixture(scope="module")
def averaged(bert, tmp_path_factory):
    """A stage 1 of 4 steps that averages, its weights after each of them, its logits over dev."""
    path = tmp_path_factory.mktemp("averaged")
    with trainer_in(path, bert, make_settings(**AVERAGED)) as trainer:
        steps = weights_after_steps(trainer)
        assert trainer.run()
        run_model = evaluation.runner(trainer.session, trainer.graph.evaluation)
        logits = predictions.compute_logits(run_model, bert[3], 64)
    folder = StageFolder(str(path))
    last, best = values_of(folder.checkpoint("last")), values_of(folder.best_checkpoint())
    return Averaged(folder.state(), last, best, str(path), steps, logits)


def test_what_is_averaged_are_the_weights_of_the_steps(averaged):
    """By numpy: the mean of the first two; then half of it and half of the next, twice."""
    assert len(averaged.steps) == 4
    for name in averaged.steps[0]:
        one, two, three, four = (step[name].astype(np.float64) for step in averaged.steps)
        expected = 0.125 * one + 0.125 * two + 0.25 * three + 0.5 * four
        assert_close(averaged.last[name + "/average"], expected, name=name)
        np.testing.assert_array_equal(averaged.last[name], averaged.steps[3][name])
    names = {name for name in averaged.last if name.endswith("/average")}
    assert names == {name + "/average" for name in averaged.steps[0]}


def test_the_best_are_the_averages_under_plain_names(averaged, uninterrupted):
    assert sorted(averaged.best) == sorted(uninterrupted[2])
    step = averaged.state.best.global_step
    shares = {2: [0.5, 0.5], 4: [0.125, 0.125, 0.25, 0.5]}[step]
    for name, value in averaged.best.items():
        steps = [found[name].astype(np.float64) for found in averaged.steps]
        expected = sum(share * weight for share, weight in zip(shares, steps))
        assert_close(value, expected, name=name)


def test_the_averages_are_what_is_evaluated(bert, averaged):
    """By a graph of its own, that knows of no average."""
    config, _, _, dev_data = bert
    found = []
    with tf.Graph().as_default(), tf.Session() as session:
        modules = modeling_theseus.encoder_modules(config, [[0]], [True])
        graph = evaluation.build_graph(config, 2, modules)
        run_model = evaluation.runner(session, graph)
        for ending in ("/average", ""):
            for variable in graph.variables:
                variable.load(averaged.last[variable.op.name + ending], session)
            found.append(predictions.compute_logits(run_model, dev_data, 64))
    assert_close(averaged.logits, found[0])
    assert np.abs(averaged.logits - found[1]).max() > 1e-2 * np.abs(found[0]).max()


@pytest.mark.parametrize("averages", [False, True])
def test_the_best_can_hold_the_predecessor_too(bert, tmp_path, averages):
    """As it was at the same step; where weights are averaged, as their average."""
    more = dict(ema_decay=0.5) if averages else {}
    settings = make_settings(keep_predecessor=True, num_train_epochs=1, **more)
    with trainer_in(tmp_path, bert, settings) as trainer:
        assert trainer.run()
    folder = StageFolder(str(tmp_path))
    last, best = values_of(folder.checkpoint("last")), values_of(folder.best_checkpoint())
    layers = {name.split("/")[2] for name in best if "/encoder/" in name}
    assert layers == {"layer_0", "suc_layer_0"}
    assert_same(best, {name: last[name + ("/average" if averages else "")] for name in best})


@pytest.mark.parametrize("crash_at", [1, 3])
def test_averages_after_a_crash_and_a_resume_equal_no_interruption(
    bert, tmp_path, averaged, crash_at
):
    settings = make_settings(**AVERAGED)
    with trainer_in(tmp_path, bert, settings, save_checkpoints_steps=1) as trainer:
        run_until_crash(trainer, crash_at)
    with trainer_in(tmp_path, bert, settings) as trainer:
        assert trainer.run()
    assert_equals_no_interruption(tmp_path, averaged[:4])


def test_what_is_frozen_is_evaluated_as_it_is_beside_the_averages(bert):
    settings = make_settings(SUCCESSOR, train_scope="successor_layers", ema_decay=0.5)
    with tf.Graph().as_default():
        graph = build_graph(settings, bert[0], 4)
    evaluated = {variable.op.name for variable in graph.evaluation.variables}
    trained = {variable.op.name for variable in graph.trained}
    frozen = {variable.op.name for variable in graph.variables} - trained
    assert trained and frozen
    assert evaluated == frozen | {name + "/average" for name in trained}


def test_the_step_that_an_average_needs_is_read_before_the_update(bert):
    """Also in a graph without dropout, of a stage that draws no path: there it alone needs it."""
    config = without_dropout(bert)[0]
    with tf.Graph().as_default() as tf_graph:
        build_graph(make_settings(SUCCESSOR, ema_decay=0.5), config, 4)
        (counted,) = [op for op in tf_graph.get_operations() if op.type.startswith("AssignAdd")]
        step = tf_graph.get_operation_by_name("step_before")
    waiting, reached = [counted], set()
    while waiting:
        operation = waiting.pop()
        if operation not in reached:
            reached.add(operation)
            waiting += operation.control_inputs + [tensor.op for tensor in operation.inputs]
    assert step in reached


def changes_of(path, bert, settings):
    """Returns how much the first step has changed each trained variable, by name."""
    with trainer_in(path, bert, settings) as trainer:
        before = trainer.session.run(trainer.graph.trained)
        steps = weights_after_steps(trainer)
        assert trainer.run()
        names = [variable.op.name for variable in trainer.graph.trained]
    return {name: steps[0][name] - value for name, value in zip(names, before)}


def test_the_successors_rate_is_of_its_layers_alone(bert, tmp_path):
    """In a step in which all modules are the successor's; the others' weights decay."""
    one, other = (
        changes_of(
            tmp_path / str(rate),
            bert,
            make_settings(
                num_train_epochs=0.5,
                warmup_proportion=0.0,
                replace_until=None,
                replace_rate_prob=1.0,
                suc_learning_rate=rate,
            ),
        )
        for rate in (None, 4e-3)
    )
    parts = collections.Counter()
    for name, change in one.items():
        part = modeling_theseus.variable_group(name)
        factor = 4.0 if part == "successor's encoder" else 1.0
        assert_close(other[name], factor * change, 1e-3, factor * 1e-3, name)
        parts[part] += bool(change.any())
    assert len(parts) == 5 and all(parts.values())


def test_a_rate_of_its_own_that_is_the_others_changes_nothing(bert, tmp_path, uninterrupted):
    with trainer_in(tmp_path, bert, make_settings(suc_learning_rate=1e-3)) as trainer:
        assert trainer.run()
    assert_equals_no_interruption(tmp_path, uninterrupted)


@pytest.mark.parametrize("parts", [1, 3])
def test_a_teachers_logits_come_with_their_rows_in_whole_and_in_parts(bert, tmp_path, parts):
    """The first step's loss, all of it the teacher's, is scipy's."""
    config, start, train_data, dev_data = without_dropout(bert)
    train_data = copy.copy(train_data)
    teacher = np.random.RandomState(1).normal(size=[40, 2]).astype(np.float32)
    train_data.teacher_logits = teacher
    settings = make_settings(
        num_train_epochs=0.5,
        replace_until=None,
        replace_rate_prob=1.0,
        distill_from="a teacher",
        distill_temperature=2.0,
        distill_weight=1.0,
        gradient_accumulation_steps=parts,
    )
    with trainer_in(tmp_path, (config, start, train_data, dev_data), settings) as trainer:
        run_model = evaluation.runner(trainer.session, trainer.graph.evaluation)
        logits = predictions.compute_logits(run_model, train_data, 64).astype(np.float64)
        losses = losses_of(trainer)
        assert trainer.run()
    rows = batches.plan_epoch(train_data.lengths, 32, 1, 0)[0]
    of_teacher, of_student = (
        scipy.special.softmax(values[rows] / 2.0, axis=1).T for values in (teacher, logits)
    )
    expected = 4.0 * scipy.stats.entropy(of_teacher, of_student).mean()
    np.testing.assert_allclose(losses, [expected], rtol=1e-4)


def test_each_epochs_losses_by_modules_replaced_are_said_where_modules_are(
    two_modules, tmp_path, monkeypatch
):
    lines = []
    monkeypatch.setattr(logging, "info", lambda form, *values: lines.append(form % values))
    for stage in (REPLACING, SUCCESSOR):
        settings = make_settings(stage, replace_until=None, replace_rate_prob=1.0)
        with trainer_in(tmp_path / stage.name, two_modules, settings) as trainer:
            losses = losses_of(trainer)
            assert trainer.run()
        said = [line for line in lines if line.startswith("loss by modules replaced")]
        means = [np.mean(losses[:2]), np.mean(losses[2:])] if stage.replaces else []
        assert said == ["loss by modules replaced (steps): 2: %.4f (2)" % mean for mean in means]
        del lines[:]


def test_a_resumed_run_knows_the_losses_with_nothing_replaced_of_before(bert, tmp_path):
    settings = make_settings(replace_until=None, replace_rate_prob=0.0)
    with trainer_in(tmp_path, bert, settings) as trainer:
        before = losses_of(trainer)
        run_until_crash(trainer, crash_at=3)
    with trainer_in(tmp_path, bert, settings) as trainer:
        after = losses_of(trainer)  # From the checkpoint of the second step on.
        assert trainer.run()
        found = trainer._replaced_losses._first
    assert len(before) >= 2 and len(after) == 2
    np.testing.assert_allclose(found, before[:2] + after, rtol=1e-6)


def test_a_damaged_end_takes_its_losses_with_it(bert, tmp_path):
    settings = make_settings(replace_until=None, replace_rate_prob=0.0, num_train_epochs=2)
    with trainer_in(tmp_path / "whole", bert, settings) as trainer:
        assert trainer.run()
    expected = StageFolder(str(tmp_path / "whole")).state().last.unreplaced_losses
    assert len(expected) == 4
    with trainer_in(tmp_path / "damaged", bert, settings) as trainer:
        assert trainer.run()
        os.remove(trainer.folder.checkpoint("last") + ".index")
    with trainer_in(tmp_path / "damaged", bert, settings) as trainer:
        assert trainer.run()
    assert StageFolder(str(tmp_path / "damaged")).state().last.unreplaced_losses == expected


def test_a_successor_of_any_number_of_layers_trains_alone():
    assert len(modeling_theseus.module_groups(SUCCESSOR, 12, 5)) == 5
    sizes = [1, 1, 2, 2, 6]
    groups = modeling_theseus.module_groups(REPLACING, 12, 5, sizes)
    assert [len(group) for group in groups] == sizes
    with pytest.raises(UserError, match="suc_layers = 5 does not divide"):
        modeling_theseus.module_groups(REPLACING, 12, 5)


def test_the_log_counts_the_modules_replaced(two_modules, tmp_path, monkeypatch):
    lines = []
    monkeypatch.setattr(logging, "info", lambda form, *values: lines.append(form % values))
    settings = make_settings(replace_until=None, replace_rate_prob=1.0)
    with trainer_in(tmp_path, two_modules, settings) as trainer:
        trainer.run()
    steps = [line for line in lines if ", step " in line and "left" in line]
    assert len(steps) == 4
    assert all("rate 1.00, replaced 2.0/2, " in line for line in steps)


def test_the_log_of_a_stage_that_replaces_nothing_does_not_speak_of_it(bert, tmp_path, monkeypatch):
    lines = []
    monkeypatch.setattr(logging, "info", lambda form, *values: lines.append(form % values))
    with trainer_in(tmp_path, bert, make_settings(SUCCESSOR)) as trainer:
        trainer.run()
    steps = [line for line in lines if "examples/s" in line]
    assert len(steps) == 4 and not any("replaced" in line for line in steps)


@pytest.fixture(scope="module")
def scalars(uninterrupted):
    """The scalars of the uninterrupted stage 1, by name."""
    return curves.read_scalars(uninterrupted[3])


def test_the_curves_are_the_steps_losses_and_paths_and_what_the_state_says(two_modules, tmp_path):
    with trainer_in(tmp_path, two_modules, make_settings()) as trainer:
        step_of, values = trainer.steps.train_step, []

        def train_step(rows, step):
            values.append(step_of(rows, step))
            return values[-1]

        trainer.steps.train_step = train_step
        assert trainer.run()
    found = curves.read_scalars(str(tmp_path))
    assert found["loss"] == [(n + 1, step.loss) for n, step in enumerate(values)]
    replaced = [(n + 1, step.mask.sum()) for n, step in enumerate(values)]
    assert found["modules_replaced"] == replaced
    evaluations = StageFolder(str(tmp_path)).state().evaluations
    names = {name for name, value in evaluations[0].items() if isinstance(value, float)}
    assert names == {name[4:] for name in found if name.startswith("dev/")}
    for name in names:
        expected = [(row["global_step"], np.float32(row[name])) for row in evaluations]
        assert found["dev/" + name] == expected


def test_the_curves_of_the_rates_are_those_of_the_update_done(scalars):
    """4 steps, 2 of them warm-up: t of the formulas is the number of steps done before."""
    steps, rates = zip(*scalars["learning_rate"])
    assert steps == (1, 2, 3, 4)
    assert_close(rates, [0, 0.5e-3, 0.5e-3, 0.25e-3], 1e-6)
    steps, rates = zip(*scalars["replacing_rate"])
    slope = 0.5 / (0.8 * 4)
    assert steps == (1, 2, 3, 4)
    assert_close(rates, [0.5, 0.5 + slope, 0.5 + 2 * slope, 0.5 + 3 * slope], 1e-6)


def test_the_curve_of_the_speed_has_a_point_for_each_line_of_the_log(bert, tmp_path):
    with trainer_in(tmp_path, bert, make_settings(), log_steps=3) as trainer:
        trainer.run()
    points = curves.read_scalars(str(tmp_path))["examples_per_second"]
    assert [step for step, _ in points] == [3, 4]
    assert all(0 < speed < 1e6 for _, speed in points)


def test_a_stage_that_replaces_nothing_has_no_curves_of_it(bert, tmp_path):
    with trainer_in(tmp_path, bert, make_settings(SUCCESSOR)) as trainer:
        trainer.run()
    found = curves.read_scalars(str(tmp_path))
    assert len(found["gradient_norm"]) == 4
    assert not [name for name in found if "repla" in name]


def test_a_loss_that_is_not_a_number_stops_the_run_in_one_line(bert, tmp_path):
    settings = make_settings(learning_rate=1e30, warmup_proportion=0.0)
    with trainer_in(tmp_path, bert, settings) as trainer:
        message = "the loss is .* in step [234]; start again in another folder with a lower --learn"
        with pytest.raises(UserError, match=message):
            trainer.run()


@pytest.mark.parametrize(
    "changes, expected",
    [
        (dict(replace_until=None), [0.5, 0.5, 0.5]),
        (dict(replace_until=None, steps_for_replacing=80), [0.5, 0.5, 1.0]),
        (dict(replace_until=0.8), [0.5, 0.75, 1.0]),
        (dict(replace_until=None, replace_linear_k=0.01, replace_rate_prob=0.3), [0.3, 0.7, 1.0]),
    ],
)
def test_the_replacing_rate_of_each_scheduler(session, changes, expected):
    settings = make_settings(**changes)
    step = tf.placeholder(tf.int64, [])
    rate = modeling_theseus.replacing_rate(settings, step, 100)
    found = [session.run(rate, {step: t}) for t in (0, 40, 80)]
    assert_close(found, expected, 1e-6)


def test_steps_of_whole_and_of_broken_epochs():
    assert make_settings(num_train_epochs=3).num_steps(65) == (3, 9)
    assert make_settings(num_train_epochs=0.5).num_steps(320) == (10, 5)
    assert make_settings(num_train_epochs=0.01).num_steps(32) == (1, 1)


def test_successor_layers_from_weights_without_a_classifier_is_refused(bert):
    config, start, _, _ = bert
    settings = make_settings(train_scope="successor_layers")
    with tf.Graph().as_default():
        build_graph(settings, config, 4)
        with pytest.raises(UserError, match="successor_layers: .*bert_model.ckpt holds no trained"):
            initial_weights.match_weights(settings.scope, start, tf.trainable_variables())


def test_a_classifier_that_the_task_does_not_take_starts_at_random(bert):
    config, start, _, _ = bert
    shapes = dict(start.shapes, output_weights=[2, 16], output_bias=[2])
    source = mock.MagicMock(wraps=start, shapes=shapes, prefix="two_labels")
    source.dtypes = dict.fromkeys(shapes, "float32")
    source.__contains__.side_effect = shapes.__contains__
    source.__iter__.side_effect = lambda: iter(sorted(shapes))
    head = {"output_weights", "output_bias"}
    for takes_it in (True, False):
        with tf.Graph().as_default():
            build_graph(make_settings(), config, 4, tasks.TASKS["rte"])
            variables = tf.trainable_variables()
            matched = initial_weights.match_weights(
                "all", source, variables, takes_classifier=takes_it
            )
        assert head.intersection(matched.sources) == (head if takes_it else set())
        assert head.intersection(matched.missing) == (set() if takes_it else head)


def test_the_log_says_what_trains_and_what_is_frozen(two_modules):
    config, _, _, _ = two_modules
    settings = make_settings(train_scope="successor_layers")
    with tf.Graph().as_default():
        graph = build_graph(settings, config, 4)
        line = graph_lib.describe_variables(graph.trained, tf.trainable_variables())
    # A layer: 4 (16 * 16 + 16) + 2 (16 * 32) + 32 + 16 + 4 * 16.
    layer = 4 * 272 + 2 * 512 + 48 + 64
    assert line.startswith("training 32 of 73 variables, %s of " % "{:,}".format(2 * layer))
    assert line.endswith("frozen: embeddings, predecessor's encoder, pooler, classifier")


# --- What a stage 1's graph computes, and in which order the rows come, without training it ---

# Of which the replacing rate rises from 0 to 1 in the first half.
SCHEDULE_STEPS = 40
Probe = collections.namedtuple("Probe", "graph session step variables feed labels")


@contextlib.contextmanager
def probe_of(bert, seed, attention_dropout):
    """A stage 1's graph of one module with weights, its step variable, and five rows' feed."""
    config, start, train_data, _ = bert
    # The encoder's dropout alone, so that its masks are what a loss depends on.
    rates = dict(hidden_dropout_prob=0.0, attention_probs_dropout_prob=attention_dropout)
    config = modeling_theseus.BertConfig.from_dict(dict(config.to_dict(), **rates))
    settings = make_settings(seed=seed, replace_rate_prob=0.0, replace_until=0.5)
    rows = np.arange(5)
    with tf.Graph().as_default(), tf.Session() as session:
        graph = build_graph(settings, config, SCHEDULE_STEPS)
        matched = initial_weights.match_weights(settings.scope, start, tf.trainable_variables())
        weights.load(session, tf.global_variables(), start, matched.sources)
        feed = {graph.inputs[0].labels: train_data.labels[rows]}
        for features in (graph.inputs[0].features, graph.evaluation.features):
            feed.update(modeling_theseus.feed_features(features, train_data.batch(rows)))
        variables = {v.op.name: v for v in tf.trainable_variables()}
        step = tf.train.get_global_step()
        yield Probe(graph, session, step, variables, feed, train_data.labels[rows])


@pytest.fixture(scope="module")
def probes(bert):
    """A function from (seed, rate of the attention's dropout) to the Probe, built once."""
    with contextlib.ExitStack() as stack:
        yield functools.lru_cache(None)(lambda *a: stack.enter_context(probe_of(bert, *a)))


def paths_of(probe):
    """Returns the path of each step, bool [steps, 1]."""
    found = []
    for step in range(SCHEDULE_STEPS):
        probe.step.load(step, probe.session)
        found.append(probe.session.run(probe.graph.mask))
    return np.array(found)


def values_on(probe, path, steps):
    """Returns (loss, norm of the gradients) of each of the steps, on a path that is forced."""
    found = []
    for step in steps:
        probe.step.load(step, probe.session)
        feed = {probe.graph.mask: path}
        feed.update(probe.feed)
        fetches = [probe.graph.loss, probe.graph.gradient_norm]
        found.append(tuple(probe.session.run(fetches, feed)))
    return found


def test_stage_1_evaluates_the_successor_alone(probes):
    probe = probes(1, 0.5)
    with probe.session.graph.as_default():
        total = tf.reduce_sum(probe.graph.evaluation.logits)
        gradients = tf.gradients(total, list(probe.variables.values()))
    used = {n for n, gradient in zip(probe.variables, gradients) if gradient is not None}
    unused = {n for n in probe.variables if n.startswith("bert/encoder/layer_")}
    assert unused and used == set(probe.variables) - unused


def test_paths_are_drawn_at_the_schedules_rate_of_their_step(probes):
    paths = paths_of(probes(1, 0.5))
    half = SCHEDULE_STEPS // 2
    assert not paths[0].any() and paths[half:].all()
    between = paths[1:half]
    # On average (1 + .. + 19) / 20 times, with a deviation of 1.8.
    assert 9.5 - 7 < between.sum() < 9.5 + 7
    # Drawn anew in each step: what was replaced may be the predecessor's again.
    assert (between[:-1] & ~between[1:]).any(axis=0).all()


def test_paths_dropout_and_initial_values_depend_on_the_seed(probes):
    one, two = probes(1, 0.5), probes(2, 0.5)
    assert (paths_of(one) != paths_of(two)).any()
    classifiers = [p.session.run(p.variables["output_weights"]) for p in (one, two)]
    assert (classifiers[0] != classifiers[1]).any()
    two.variables["output_weights"].load(classifiers[0], two.session)
    assert values_on(one, [True], [3]) != values_on(two, [True], [3])
    two.variables["output_weights"].load(classifiers[1], two.session)


@pytest.mark.parametrize("path", [[True], [False]], ids=["successor", "predecessor"])
def test_a_steps_dropout_is_its_own(probes, path):
    found = values_on(probes(1, 0.5), path, [0, 1, 2, 0, 1, 2])
    assert found[:3] == found[3:] and len(set(found)) == 3


def test_dropout_is_off_in_the_graph_that_is_evaluated(probes):
    logits = [
        probe.session.run(probe.graph.evaluation.logits, probe.feed)
        for probe in (probes(1, 0.5), probes(1, 0.0))
    ]
    np.testing.assert_allclose(logits[0], logits[1], rtol=1e-4, atol=1e-6)


def test_the_loss_is_the_mean_over_the_rows_that_a_batch_has(probes):
    """5 rows, where a whole batch has 32; the cross entropy is worked out by numpy."""
    probe = probes(1, 0.0)
    logits = probe.session.run(probe.graph.evaluation.logits, probe.feed).astype(np.float64)
    probabilities = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    expected = -np.log(probabilities[np.arange(5), probe.labels]).mean()
    loss, _ = values_on(probe, [True], [0])[0]
    np.testing.assert_allclose(loss, expected, rtol=1e-5)


Recorded = collections.namedtuple("Recorded", "trainer batches evaluated state")
STEP_VALUES = StepValues(
    loss=0.5, replacing_rate=1.0, mask=np.array([True, True]), learning_rate=0.0, gradient_norm=1.0
)


@pytest.fixture(scope="module")
def recorded(bert, tmp_path_factory):
    """A run of 3 epochs of which steps and evaluations compute nothing: what they were given."""
    trained, evaluated = [], []
    values = iter([(0.8, 0.9), (0.5, 0.3), (0.6, 0.2)])

    def run_step(rows):
        trained.append(rows)
        return STEP_VALUES

    def evaluate(task, run, encoded, *_):
        evaluated.append(encoded)
        accuracy, loss = next(values)
        return dict(accuracy=accuracy, f1=accuracy, loss=loss, num_examples=len(encoded)), 1.0

    path = tmp_path_factory.mktemp("recorded")
    with trainer_in(path, bert, make_settings(num_train_epochs=3)) as trainer:
        trainer.steps.runner.run = run_step
        trainer._checkpoints.save = trainer.folder.new_checkpoint
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(evaluation, "evaluate", evaluate)
            assert trainer.run()
        yield Recorded(trainer, trained, evaluated, trainer.folder.state())


def test_each_epoch_is_all_rows_in_an_order_of_its_own(bert, recorded):
    lengths = bert[2].lengths
    rows = [np.concatenate(recorded.batches[n : n + 2]) for n in (0, 2, 4)]
    for epoch, found in enumerate(rows):
        assert sorted(found) == list(range(40))
        plan = batches.plan_epoch(lengths, 32, 1, epoch)
        np.testing.assert_array_equal(found, np.concatenate(plan))
    assert len({tuple(found) for found in rows}) == 3


def test_what_is_fed_are_the_rows_rows_and_their_labels(bert, recorded):
    train_data, trainer = bert[2], recorded.trainer
    rows = recorded.batches[0]
    feed = trainer.steps.runner.feed(rows, 0, len(rows))
    labels = feed[trainer.graph.inputs[0].labels]
    np.testing.assert_array_equal(labels, train_data.labels[rows])
    assert (labels != train_data.labels[: len(labels)]).any()
    expected = train_data.batch(rows)
    for name, placeholder in trainer.graph.inputs[0].features.items():
        np.testing.assert_array_equal(feed[placeholder], expected[name])


def test_the_best_is_that_of_the_highest_score_on_dev_of_all_epochs(bert, recorded):
    """Neither that of the lowest loss, nor one that is better than the one before it."""
    assert all(encoded is bert[3] for encoded in recorded.evaluated)
    assert [entry["accuracy"] for entry in recorded.state.evaluations] == [0.8, 0.5, 0.6]
    assert recorded.state.best.global_step == 2
    assert recorded.state.last.global_step == 6


@pytest.mark.parametrize("loss", [np.nan, np.inf, -np.inf])
def test_a_loss_that_is_not_a_finite_number_is_refused(recorded, monkeypatch, loss):
    step_runner = recorded.trainer.steps.runner
    monkeypatch.setattr(step_runner, "run", lambda _: STEP_VALUES._replace(loss=loss))
    with pytest.raises(UserError, match="the loss is -?(nan|inf) in step 5"):
        recorded.trainer.steps.train_step(recorded.batches[0], 4)


@pytest.mark.parametrize(
    "keep, steps, epochs, last, best", [(2, 9, 1, 3, 1), (2, 1, 1, 1, 1), (1, 9, 3, 2, 2)]
)
def test_the_disk_that_a_training_needs_is_that_of_its_saves(keep, steps, epochs, last, best):
    """Any step may save, when the time has come."""
    with tf.Graph().as_default(), tf.Session() as session:
        kept = tf.get_variable("kept", [10])
        tf.get_variable("optimizers", [20])
        checkpoints = Checkpoints(session, None, [kept])
        assert checkpoints.num_bytes(keep, steps, epochs) == 4 * (30 * last + 10 * best)
