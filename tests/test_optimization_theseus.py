"""Tests schedules at their boundaries, and compares AdamW and clipping with numpy."""

import time

import numpy as np
import pytest
import tensorflow.compat.v1 as tf

import modeling_theseus
import optimization_theseus
from conftest import assert_close


def at(session, schedule, steps):
    step = tf.placeholder(tf.int64, [])
    rate = schedule(step)
    assert rate.dtype == tf.float32
    return [float(session.run(rate, {step: t})) for t in steps]


def test_learning_rate_at_its_boundaries(session):
    def schedule(step):
        return optimization_theseus.learning_rate_schedule(step, 2e-5, 1000, 100)

    found = at(session, schedule, [0, 1, 99, 100, 101, 999, 1000, 1001])
    line = [0.0, 1 / 100, 99 / 100, 1 - 100 / 1000, 1 - 101 / 1000, 1 / 1000, 0.0, 0.0]
    assert_close(found, 2e-5 * np.array(line), 1e-6)
    assert found[0] == found[6] == 0.0


def test_learning_rate_without_warmup_starts_at_its_peak(session):
    def schedule(step):
        return optimization_theseus.learning_rate_schedule(step, 0.5, 10, 0)

    assert_close(at(session, schedule, [0, 5, 9]), [0.5, 0.25, 0.05], 1e-6)


def test_constant_replacing_rate_at_its_boundaries(session):
    def schedule(step):
        return modeling_theseus.constant_replacing_rate(step, 0.5, 100)

    assert at(session, schedule, [0, 99, 100, 101]) == [0.5, 0.5, 1.0, 1.0]


def test_constant_replacing_rate_stays_where_no_end_is_given(session):
    def schedule(step):
        return modeling_theseus.constant_replacing_rate(step, 0.25)

    assert at(session, schedule, [0, 1, 10**9]) == [0.25, 0.25, 0.25]


def test_a_constant_rate_for_no_step_is_1_from_the_first(session):
    def schedule(step):
        return modeling_theseus.constant_replacing_rate(step, 0.25, 0)

    assert at(session, schedule, [0, 1]) == [1.0, 1.0]


def test_linear_replacing_rate_at_its_boundaries(session):
    def schedule(step):
        return modeling_theseus.linear_replacing_rate(step, 0.7 / 90, 0.3)

    found = at(session, schedule, [0, 1, 89, 90, 91, 10**6])
    assert_close(found[:4], [0.3, 0.3 + 0.7 / 90, 1 - 0.7 / 90, 1.0], 1e-6)
    assert max(found) == 1.0 and found[4:] == [1.0, 1.0]


def numpy_adamw(weights, moments, gradients, lr, decays, clip_norm):
    """One step of BERT's AdamW, in float64."""
    norm = np.sqrt(sum((g**2).sum() for g in gradients))
    for index, gradient in enumerate(gradients):
        gradient = gradient * min(1.0, clip_norm / norm)
        m = moments[index][0] = 0.9 * moments[index][0] + 0.1 * gradient
        v = moments[index][1] = 0.999 * moments[index][1] + 0.001 * gradient**2
        update = m / (np.sqrt(v) + 1e-6) + decays[index] * weights[index]
        weights[index] = weights[index] - lr * update


@pytest.mark.parametrize("clip_norm, use_resource", [(1.0, True), (1e9, True), (1.0, False)])
def test_adamw_and_clipping_equal_numpys(session, clip_norm, use_resource):
    """A table whose rows occur twice in a batch, a kernel, and a bias, which has no decay.

    Without resource variables too: those of other people's TensorFlow 1 scripts are such.
    """
    with tf.variable_scope("", use_resource=use_resource):
        _check_adamw(session, clip_norm)


def _check_adamw(session, clip_norm):
    random = np.random.RandomState(1)
    weights = [random.normal(size=s).astype(np.float32) for s in [(5, 3), (3, 2), (2,)]]
    names = ["word_embeddings", "dense/kernel", "dense/bias"]
    variables = [tf.get_variable(n, initializer=w) for n, w in zip(names, weights)]
    ids = tf.placeholder(tf.int32, [None])
    scale = tf.placeholder(tf.float32, [])
    output = tf.matmul(tf.gather(variables[0], ids), variables[1]) + variables[2]
    loss = scale * tf.reduce_sum(tf.square(output))
    train_op = optimization_theseus.create_optimizer_for_bert_theseus(
        loss, 0.1, num_train_steps=20, num_warmup_steps=3, clip_norm=clip_norm
    )
    session.run(tf.global_variables_initializer())

    weights = [w.astype(np.float64) for w in weights]
    moments = [[0.0, 0.0] for _ in weights]
    for step, rows in enumerate([[1, 1, 4], [0, 2, 2], [2, 3, 3], [1, 2, 3], [4, 4, 4]]):
        words = weights[0][rows]
        outer = 2 * 0.3 * (words @ weights[1] + weights[2])
        table = np.zeros_like(weights[0])
        np.add.at(table, rows, outer @ weights[1].T)
        gradients = [table, words.T @ outer, outer.sum(axis=0)]
        lr = 0.1 * (step / 3 if step < 3 else 1 - step / 20)
        numpy_adamw(weights, moments, gradients, lr, [0.01, 0.01, 0.0], clip_norm)
        session.run(train_op, {ids: rows, scale: 0.3})
        for variable, expected in zip(variables, weights):
            # 1 - beta_2 in float32 is off by 2e-5 of itself, and so is each update.
            assert_close(session.run(variable), expected, 1e-4)
    assert session.run(tf.train.get_global_step()) == 5
    slots = {v.op.name for v in tf.global_variables()} - set(names) - {"global_step"}
    assert slots == {name + "/adam_" + moment for name in names for moment in "mv"}


def test_an_update_gives_the_norm_before_clipping_and_the_rate_that_it_applies(session):
    """The norm is numpy's of tf.gradients; a table's row occurs twice."""
    table = tf.get_variable("table", initializer=np.arange(6, dtype=np.float32).reshape(3, 2))
    kernel = tf.get_variable("kernel", initializer=[[3.0], [4.0]])
    loss = tf.reduce_sum(tf.square(tf.matmul(tf.gather(table, [1, 1, 2]), kernel)))
    gradients = [tf.convert_to_tensor(g) for g in tf.gradients(loss, [table, kernel])]
    update = optimization_theseus.build_update(loss, 0.1, num_train_steps=10, num_warmup_steps=2)
    session.run(tf.global_variables_initializer())
    for rate in (0.0, 0.05, 0.08):
        norm = np.sqrt(sum((g.astype(np.float64) ** 2).sum() for g in session.run(gradients)))
        before = session.run(kernel)
        found = session.run(update._replace(accumulate_op=update.train_op))
        assert_close(found.gradient_norm, norm)
        assert_close(found.learning_rate, rate, 1e-6)
        assert norm > 100 and (session.run(kernel) != before).any() == (rate > 0)


def test_no_weight_decays_before_all_gradients_are_computed(session):
    """One gradient waits, and only then reads another weight."""
    slow, read_late = (tf.get_variable(n, initializer=[2.0]) for n in ("slow", "read_late"))

    def wait():
        time.sleep(0.2)
        return np.zeros([1], np.float32)

    with tf.control_dependencies([tf.py_func(wait, [], tf.float32)]):
        late = read_late.read_value()
    train_op = optimization_theseus.create_optimizer_for_bert_theseus(
        tf.reduce_sum(slow * late), 0.5, num_train_steps=10, clip_norm=1e9
    )
    session.run(tf.global_variables_initializer())
    session.run(train_op)
    moments = {v.op.name: session.run(v) for v in tf.global_variables() if "adam_m" in v.op.name}
    assert_close(moments["slow/adam_m"], [0.1 * 2.0], 1e-6)


@pytest.mark.parametrize("chosen_by", ["var_list", "finetune_suc"])
def test_clipping_counts_only_what_trains(session, chosen_by):
    trained = tf.get_variable("bert/encoder/suc_layer_0/kernel", initializer=[0.0])
    frozen = tf.get_variable("bert/encoder/layer_0/kernel", initializer=[0.0])
    loss = tf.reduce_sum(trained * 0.5 + frozen * 100.0)
    choice = {"var_list": [trained]} if chosen_by == "var_list" else {"finetune_suc": True}
    train_op = optimization_theseus.create_optimizer_for_bert_theseus(loss, 0.1, 10, **choice)
    session.run(tf.global_variables_initializer())
    session.run(train_op)
    moment = [v for v in tf.global_variables() if v.op.name.endswith("kernel/adam_m")]
    assert_close(session.run(moment), [[0.1 * 0.5]], 1e-6)


def test_finetune_suc_leaves_the_predecessor_alone(session):
    names = ["layer_0/kernel", "suc_layer_0/kernel", "layer_10/kernel"]
    variables = [tf.get_variable("bert/encoder/" + name, initializer=[1.0]) for name in names]
    loss = tf.reduce_sum(tf.add_n(variables) ** 2)
    train_op = optimization_theseus.create_optimizer_for_bert_theseus(
        loss, 0.1, num_train_steps=10, finetune_suc=True
    )
    session.run(tf.global_variables_initializer())
    session.run(train_op)
    first, second, third = session.run(variables)
    assert first == third == [1.0] and second < 0.9
    slots = [v.op.name for v in tf.global_variables() if "adam" in v.op.name]
    assert sorted(slots) == ["bert/encoder/suc_layer_0/kernel/adam_" + m for m in "mv"]


def test_accumulated_gradients_are_those_of_the_whole_batch_clipped_once(session):
    """Rows of a table occur twice, in one micro-batch and in two."""
    table = tf.get_variable("table", initializer=np.arange(8, dtype=np.float32).reshape(4, 2))
    bias = tf.get_variable("bias", initializer=[0.5, -0.5])
    ids, rows = tf.placeholder(tf.int32, [None]), tf.placeholder(tf.float32, [])
    loss = tf.reduce_sum(tf.square(tf.gather(table, ids) + bias)) / rows
    update = optimization_theseus.build_update(loss, 0.1, 10, accumulates=True)
    whole = [tf.convert_to_tensor(g) for g in tf.gradients(loss, [table, bias])]
    session.run([tf.global_variables_initializer(), tf.local_variables_initializer()])
    sums = tf.local_variables()
    moments = [v for v in tf.global_variables() if v.op.name.endswith("adam_m")]
    expected = [0.0, 0.0]
    for batch in ([[0, 1, 1], [1, 3]], [[2], [2], [0, 0]], [[3, 3]]):
        together = np.concatenate(batch)
        gradients = session.run(whole, {ids: together, rows: len(together)})
        for part in batch[:-1]:
            session.run(update.accumulate_op, {ids: part, rows: len(together)})
        session.run(update.train_op, {ids: batch[-1], rows: len(together)})
        norm = np.sqrt(sum((g**2).sum() for g in gradients))
        assert norm > 1.5
        expected = [0.9 * m + 0.1 * g / norm for m, g in zip(expected, gradients)]
        for found, value in zip(session.run(moments), expected):
            assert_close(found, value)
        assert not any(total.any() for total in session.run(sums))
    assert session.run(tf.train.get_global_step()) == 3


def test_apply_gradients_leaves_the_global_step_to_who_gives_it(session):
    variable = tf.get_variable("kernel", initializer=[1.0])
    global_step = tf.train.get_or_create_global_step()
    optimizer = optimization_theseus.AdamWeightDecayOptimizer(0.1)
    gradient = tf.constant([2.0])
    without = optimizer.apply_gradients([(gradient, variable)])
    with tf.variable_scope("", reuse=tf.AUTO_REUSE):
        counted = optimizer.apply_gradients([(gradient, variable)], global_step)
    session.run(tf.global_variables_initializer())
    session.run(without)
    assert session.run(global_step) == 0
    session.run(counted)
    session.run(counted)
    assert session.run(global_step) == 2


def test_a_variable_that_the_loss_does_not_depend_on_is_named(session):
    used, unused = tf.get_variable("used", initializer=[1.0]), tf.get_variable("unused", [1])
    with pytest.raises(ValueError, match="does not depend on unused$"):
        optimization_theseus.create_optimizer_for_bert_theseus(
            tf.reduce_sum(used), 0.1, 10, var_list=[used, unused]
        )
    with pytest.raises(ValueError, match="no variable"):
        optimization_theseus.create_optimizer_for_bert_theseus(
            tf.reduce_sum(used), 0.1, 10, var_list=[]
        )


# A variable of each kind that a classifier has -> whether its weights decay, by the names of
# google-research/bert, optimization.create_optimizer: all but LayerNorm's and the biases.
DECAYS = {
    "bert/embeddings/word_embeddings": True,
    "bert/embeddings/position_embeddings": True,
    "bert/embeddings/token_type_embeddings": True,
    "bert/embeddings/LayerNorm/gamma": False,
    "bert/embeddings/LayerNorm/beta": False,
    "bert/encoder/layer_0/attention/self/query/kernel": True,
    "bert/encoder/layer_0/attention/self/query/bias": False,
    "bert/encoder/suc_layer_1/output/dense/kernel": True,
    "bert/encoder/suc_layer_1/output/dense/bias": False,
    "bert/encoder/suc_layer_1/output/LayerNorm/gamma": False,
    "bert/encoder/suc_layer_1/output/LayerNorm/beta": False,
    "bert/pooler/dense/kernel": True,
    "bert/pooler/dense/bias": False,
    "output_weights": True,
    "output_bias": False,
}


def test_what_decays_and_by_how_much(session):
    """Where gradients are zero, the decay is all that happens: lr * 0.01 of a weight."""
    variables = [tf.get_variable(name, initializer=[2.0]) for name in DECAYS]
    loss = 0.0 * tf.add_n([variable[0] for variable in variables])
    train_op = optimization_theseus.create_optimizer_for_bert_theseus(loss, 0.5, 10)
    session.run(tf.global_variables_initializer())
    session.run(train_op)
    expected = [2.0 * (1.0 - 0.5 * 0.01) if decays else 2.0 for decays in DECAYS.values()]
    found = np.concatenate(session.run(variables))
    np.testing.assert_allclose(found, expected, rtol=1e-6)


def test_the_update_of_a_tiny_gradient_knows_adams_epsilon(session):
    """1e-6 stands beside sqrt(v), and outside of the root."""
    bias = tf.get_variable("bias", initializer=[0.0])
    train_op = optimization_theseus.create_optimizer_for_bert_theseus(
        tf.reduce_sum(bias * 1e-6), 1.0, 10
    )
    session.run(tf.global_variables_initializer())
    session.run(train_op)
    m, v = 0.1 * 1e-6, 0.001 * 1e-12
    np.testing.assert_allclose(session.run(bias), [-m / (np.sqrt(v) + 1e-6)], rtol=1e-4)


def test_a_weight_decays_from_what_it_was_before_the_update(session):
    kernel = tf.get_variable("kernel", initializer=[1.0])
    optimizer = optimization_theseus.AdamWeightDecayOptimizer(0.5, weight_decay_rate=0.1)
    train_op = optimizer.apply_gradients([(tf.constant([1.0]), kernel)])
    session.run(tf.global_variables_initializer())
    session.run(train_op)
    step = 0.1 / (np.sqrt(0.001) + 1e-6)
    np.testing.assert_allclose(session.run(kernel), [1.0 - 0.5 * (step + 0.1 * 1.0)], rtol=1e-4)


def test_gradients_are_clipped_at_a_norm_of_1(session):
    """google-research/bert's; a shorter gradient stays as it is."""
    weights = tf.get_variable("bias", initializer=[0.0, 0.0])
    scale = tf.placeholder(tf.float32, [])
    update = optimization_theseus.build_update(scale * tf.reduce_sum(weights * [3.0, 4.0]), 0.1, 10)
    session.run(tf.global_variables_initializer())
    m = next(v for v in tf.global_variables() if v.op.name.endswith("adam_m"))
    session.run(update.train_op, {scale: 0.1})
    np.testing.assert_allclose(session.run(m), [0.03, 0.04], rtol=1e-5)
    session.run(update.train_op, {scale: 10.0})
    np.testing.assert_allclose(session.run(m), [0.9 * 0.03 + 0.06, 0.9 * 0.04 + 0.08], rtol=1e-5)


# --- A rate of its own for some variables ---


@pytest.mark.parametrize("use_resource", [True, False])
def test_adamw_with_rates_of_their_own_equals_numpys(session, use_resource):
    """Two kernels that decay, one of them five times as fast, and a bias a half as fast."""
    names = ["slow/kernel", "fast/kernel", "fast/bias"]
    factors = {"fast/kernel": 5.0, "fast/bias": 0.5}
    random = np.random.RandomState(1)
    weights = [random.normal(size=[3]).astype(np.float32) for _ in names]
    with tf.variable_scope("", use_resource=use_resource):
        variables = [tf.get_variable(n, initializer=w) for n, w in zip(names, weights)]
        given = tf.placeholder(tf.float32, [3, 3])
        loss = tf.reduce_sum(given * tf.stack(variables))
        update = optimization_theseus.build_update(
            loss, 0.1, 20, num_warmup_steps=3, rate_multipliers=factors
        )
    session.run(tf.global_variables_initializer())
    weights = [w.astype(np.float64) for w in weights]
    moments = [[0.0, 0.0] for _ in weights]
    for step in range(6):
        gradients = random.normal(size=[3, 3])
        norm = np.sqrt((gradients**2).sum())
        rate = 0.1 * (step / 3 if step < 3 else 1 - step / 20)
        for n, name in enumerate(names):
            # Each by itself at its rate, of the gradient that is clipped with all.
            own, moment = [weights[n]], [moments[n]]
            clipped, decay = gradients[n] / max(1.0, norm), 0.0 if "bias" in name else 0.01
            numpy_adamw(own, moment, [clipped], rate * factors.get(name, 1.0), [decay], 1e9)
            weights[n] = own[0]
        found = session.run([update.train_op, update.learning_rate], {given: gradients})
        assert_close(found[1], rate, 1e-6)
        for variable, expected in zip(variables, weights):
            assert_close(session.run(variable), expected, 1e-4)


def test_a_weight_decays_by_its_own_rate(session):
    """Where gradients are zero, the decay is all that happens: lr * factor * 0.01 of a weight."""
    variables = [tf.get_variable(name, initializer=[2.0]) for name in ("one", "other", "bias")]
    loss = 0.0 * tf.add_n([variable[0] for variable in variables])
    update = optimization_theseus.build_update(
        loss, 0.5, 10, rate_multipliers={"other": 4.0, "bias": 4.0}
    )
    session.run(tf.global_variables_initializer())
    session.run(update.train_op)
    expected = [2.0 * (1 - 0.5 * 0.01), 2.0 * (1 - 4 * 0.5 * 0.01), 2.0]
    np.testing.assert_allclose(np.concatenate(session.run(variables)), expected, rtol=1e-6)


def test_a_rate_of_nothing_leaves_a_variable_as_it_is(session):
    variables = [tf.get_variable(name, initializer=[2.0]) for name in ("one", "other")]
    loss = tf.add_n([variable[0] for variable in variables])
    update = optimization_theseus.build_update(loss, 0.5, 10, rate_multipliers={"one": 0.0})
    session.run(tf.global_variables_initializer())
    session.run(update.train_op)
    one, other = session.run(variables)
    assert one == [2.0] and other < 2.0


# --- Averages of the weights ---


def averaged(session, decay, num_steps):
    """Averages two variables that numpy sets in each step; returns (values, averages) by step."""
    variables = [tf.get_variable(name, initializer=[9.0, 9.0]) for name in ("a/kernel", "b")]
    step = tf.train.get_or_create_global_step()
    given = tf.placeholder(tf.float32, [2, 2])
    before = tf.identity(step)
    with tf.control_dependencies([before]):
        assigned = tf.group(*[v.assign(given[n]) for n, v in enumerate(variables)])
        with tf.control_dependencies([assigned]):
            train_op = tf.group(tf.assign_add(step, 1))
    both, averages = optimization_theseus.average_weights(train_op, before, variables, decay)
    assert sorted(averages) == ["a/kernel", "b"]
    session.run(tf.global_variables_initializer())
    values = np.random.RandomState(1).normal(size=[num_steps, 2, 2]).astype(np.float32)
    found = []
    for value in values:
        session.run(both, {given: value})
        found.append(session.run([averages["a/kernel"], averages["b"]]))
        np.testing.assert_array_equal(session.run(variables), value)
    assert session.run(step) == num_steps
    return values.astype(np.float64), np.array(found)


def test_the_average_of_the_first_steps_is_their_mean(session):
    """With a decay of 0.9 it is the plain mean of up to 10 steps; then a step counts a tenth."""
    values, averages = averaged(session, 0.9, 10)
    for step in range(10):
        assert_close(averages[step], values[: step + 1].mean(axis=0), size=1.0)


def test_the_average_of_more_steps_forgets_exponentially(session):
    values, averages = averaged(session, 0.9, 30)
    for step in (10, 11, 29):
        ages = step - np.arange(step + 1)
        weights = np.where(ages < step - 9, 0.1 * 0.9**ages, 0.1 * 0.9 ** (step - 9))
        assert weights.sum() == pytest.approx(1.0)
        expected = (weights[:, np.newaxis, np.newaxis] * values[: step + 1]).sum(axis=0)
        assert_close(averages[step], expected, size=1.0)


def test_an_average_that_keeps_nothing_is_the_weights(session):
    values, averages = averaged(session, 0.0, 4)
    np.testing.assert_array_equal(averages, values)


def test_averages_are_named_after_their_variables_and_do_not_train(session):
    averaged(session, 0.5, 1)
    names = {variable.op.name for variable in tf.global_variables()}
    assert {"a/kernel/average", "b/average"} <= names
    assert [v.op.name for v in tf.trainable_variables()] == ["a/kernel", "b"]


def test_an_average_is_of_the_weights_after_the_update(session):
    """Of AdamW's own: the mean of what the weights were after each of three steps."""
    kernel = tf.get_variable("kernel", initializer=[1.0, -2.0])
    step = tf.identity(tf.train.get_or_create_global_step())
    with tf.control_dependencies([step]):
        update = optimization_theseus.build_update(tf.reduce_sum(kernel**2), 0.1, 10)
    both, averages = optimization_theseus.average_weights(update.train_op, step, [kernel], 0.99)
    session.run(tf.global_variables_initializer())
    after = []
    for _ in range(3):
        session.run(both)
        after.append(session.run(kernel))
    assert len({tuple(values) for values in after}) == 3
    assert_close(session.run(averages["kernel"]), np.mean(after, axis=0))
