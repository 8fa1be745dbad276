"""The losses against scipy: the task's, the distance from a teacher, and their mixture."""

import types

import numpy as np
import pytest
import scipy.special
import scipy.stats
import sklearn.utils.class_weight
import tensorflow.compat.v1 as tf

from conftest import assert_close, make_config
from theseus.inputs import tasks
from theseus.stage import REPLACING
from theseus.training import losses

RANDOM = np.random.RandomState(1)
LOGITS = RANDOM.normal(size=[5, 3]).astype(np.float32)
TEACHER = 2 * RANDOM.normal(size=[5, 3]).astype(np.float32)
LABELS = [0, 2, 1, 1, 0]
THREE, NUMBER = tasks.TASKS["mnli"], tasks.TASKS["sts-b"]


def config(weight=0.5, temperature=1.0, smoothing=0.0, unlabelled_file=None):
    return make_config(
        REPLACING,
        unlabelled_file=unlabelled_file,
        distill_weight=weight,
        distill_temperature=temperature,
        label_smoothing=smoothing,
    )


def inputs(labels, teacher_logits):
    """Returns what the loss is fed, of a global batch of 8 rows."""
    return types.SimpleNamespace(labels=labels, teacher_logits=teacher_logits, batch_size=8)


def divergence(temperature, student=LOGITS, teacher=TEACHER):
    """Returns the sum over the rows of KL(teacher || student), by scipy."""
    student, teacher = (
        scipy.special.softmax(logits.astype(np.float64) / temperature, axis=1)
        for logits in (student, teacher)
    )
    return scipy.stats.entropy(teacher.T, student.T).sum()


def cross_entropy():
    """Returns the sum over the rows of the labels' cross entropy, by scipy."""
    logits = LOGITS.astype(np.float64)
    picked = logits[np.arange(5), LABELS]
    return (scipy.special.logsumexp(logits, axis=1) - picked).sum()


def of_task(session, task, logits, labels, teacher, **chosen):
    """Returns the total loss, of a global batch of 8 rows."""
    label_type = tf.float32 if task.is_regression else tf.int32
    teacher = None if teacher is None else tf.constant(teacher)
    labels = tf.constant(labels, label_type)
    return session.run(
        losses.total_loss(config(**chosen), task, tf.constant(logits), inputs(labels, teacher))
    )


def test_the_loss_is_a_sum_over_the_whole_batch(session):
    logits = tf.constant([[0.0, 0.0], [1.0, 0.0]])
    loss = losses.classification_loss(logits, tf.constant([0, 0]), 4)
    expected = (np.log(2.0) + np.log1p(np.exp(-1.0))) / 4
    assert_close(session.run(loss), expected)
    nothing = losses.classification_loss(logits[:0], tf.constant([], tf.int32), 4)
    assert session.run(nothing) == 0.0


def test_the_loss_of_a_number_is_the_squared_error_over_the_whole_batch(session):
    logits, labels = tf.constant([[1.0], [4.0]]), tf.constant([0.0, 2.5])
    loss = losses.regression_loss(logits, labels, 4)
    np.testing.assert_allclose(session.run(loss), (1.0 + 1.5**2) / 4, rtol=1e-6)


@pytest.mark.parametrize("temperature", [0.5, 1.0, 2.0, 10.0])
def test_the_distance_from_a_teacher_is_scipys_times_the_square_of_t(session, temperature):
    loss = losses.distillation_loss(tf.constant(LOGITS), tf.constant(TEACHER), 8, temperature)
    np.testing.assert_allclose(
        session.run(loss), temperature**2 * divergence(temperature) / 8, rtol=1e-4
    )


def test_the_distance_is_the_teachers_from_the_student_and_not_the_other_way(session):
    loss = losses.distillation_loss(tf.constant(TEACHER), tf.constant(LOGITS), 1, 1.0)
    found = session.run(loss)
    np.testing.assert_allclose(found, divergence(1.0, student=TEACHER, teacher=LOGITS), rtol=1e-4)
    assert abs(found - divergence(1.0)) > 0.1


def test_a_student_that_equals_its_teacher_is_at_no_distance(session):
    shifted = tf.constant(TEACHER + np.float32(3.0))  # The probabilities stay the same.
    logits = tf.constant(TEACHER)
    loss = losses.distillation_loss(logits, shifted, 5, 2.0)
    (gradient,) = tf.gradients(loss, logits)
    assert abs(session.run(loss)) < 1e-5 and np.abs(session.run(gradient)).max() < 1e-6


def test_the_gradient_is_the_difference_of_the_probabilities_times_t(session):
    """At a high temperature the loss no longer depends on it: it compares centered logits."""
    logits = tf.constant(LOGITS)
    for temperature in (1.0, 4.0):
        loss = losses.distillation_loss(logits, tf.constant(TEACHER), 8, temperature)
        student, teacher = (
            scipy.special.softmax(values.astype(np.float64) / temperature, axis=1)
            for values in (LOGITS, TEACHER)
        )
        found = session.run(tf.gradients(loss, logits)[0])
        assert_close(found, temperature * (student - teacher) / 8)
    loss = losses.distillation_loss(logits, tf.constant(TEACHER), 8, 1000.0)
    difference = LOGITS.astype(np.float64) - TEACHER
    expected = (difference - difference.mean(axis=1, keepdims=True)) / 3 / 8
    assert_close(session.run(tf.gradients(loss, logits)[0]), expected, 0.01)


def test_micro_batches_distances_add_up_to_the_batchs(session):
    logits, teacher = tf.constant(LOGITS), tf.constant(TEACHER)
    parts = [
        losses.distillation_loss(logits[rows], teacher[rows], 5, 2.0)
        for rows in (slice(0, 2), slice(2, 5))
    ]
    whole = losses.distillation_loss(logits, teacher, 5, 2.0)
    assert_close(*session.run([tf.add_n(parts), whole]))


@pytest.mark.parametrize("weight", [0.0, 0.25, 1.0])
def test_the_labels_and_the_teacher_share_the_loss(session, weight):
    found = of_task(session, THREE, LOGITS, LABELS, TEACHER, weight=weight, temperature=2.0)
    expected = (1 - weight) * cross_entropy() / 8 + weight * 4 * divergence(2.0) / 8
    np.testing.assert_allclose(found, expected, rtol=1e-4)


def test_without_a_teacher_the_loss_is_the_labels_alone(session):
    found = of_task(session, THREE, LOGITS, LABELS, None, weight=None, temperature=None)
    np.testing.assert_allclose(found, cross_entropy() / 8, rtol=1e-5)


@pytest.mark.parametrize("weight", [0.0, 0.25, 1.0])
def test_a_number_is_compared_with_the_teachers_by_its_square(session, weight):
    """The temperature has no effect on regression, which has no probabilities."""
    logits, teacher, labels = LOGITS[:, :1], TEACHER[:, :1], [0.5, 1.0, 2.0, 0.0, 3.0]
    found = of_task(session, NUMBER, logits, labels, teacher, weight=weight, temperature=3.0)
    of_labels = ((logits[:, 0] - np.array(labels)) ** 2).sum()
    of_teacher = ((logits.astype(np.float64) - teacher) ** 2).sum()
    expected = ((1 - weight) * of_labels + weight * of_teacher) / 8
    np.testing.assert_allclose(found, expected, rtol=1e-5)


def test_a_number_without_a_teacher_is_compared_with_its_label(session):
    found = of_task(session, NUMBER, LOGITS[:, :1], [0.0] * 5, None)
    np.testing.assert_allclose(found, (LOGITS[:, 0].astype(np.float64) ** 2).sum() / 8, rtol=1e-5)


@pytest.mark.parametrize("smoothing", [0.0, 0.1, 0.75])
@pytest.mark.parametrize("weights", [None, [0.5, 3.0, 0.0]])
def test_labels_are_smoothed_and_weighted(session, smoothing, weights):
    """Against scipy: the cross entropy of the smoothed label, times the label's weight.

    The batch's weights are not 1 in the mean, by which nothing is divided.
    """
    logs = scipy.special.log_softmax(LOGITS.astype(np.float64), axis=1)
    targets = np.full([5, 3], smoothing / 3)
    targets[np.arange(5), LABELS] += 1 - smoothing
    rows = -(targets * logs).sum(axis=1) * (1 if weights is None else np.array(weights)[LABELS])
    labels = tf.constant(LABELS, tf.int32)
    loss = losses.classification_loss(tf.constant(LOGITS), labels, 8, weights, smoothing)
    assert_close(session.run(loss), rows.sum() / 8)


def test_weights_and_smoothing_are_of_the_labels_part_of_a_distillation(session):
    labels, weights = tf.constant(LABELS, tf.int32), [0.5, 3.0, 2.0]
    plain = losses.classification_loss(tf.constant(LOGITS), labels, 8, weights, 0.1)
    found = losses.total_loss(
        config(0.25, 2.0, 0.1), THREE, tf.constant(LOGITS), inputs(labels, TEACHER), weights
    )
    expected = 0.75 * session.run(plain) + 0.25 * 4 * divergence(2.0) / 8
    assert_close(session.run(found), expected)


def test_balanced_weights_are_scikit_learns():
    ids = np.array([0, 0, 0, 1, 2, 2, 0, 0])
    expected = sklearn.utils.class_weight.compute_class_weight(
        "balanced", classes=np.arange(3), y=ids
    )
    np.testing.assert_allclose(losses.balanced_weights(ids, 3), expected)
    found = losses.balanced_weights(ids, 4)  # One label more, that does not occur.
    np.testing.assert_allclose(found, list(expected * 3 / 4) + [1])
    unlabelled = np.append(ids, [-1, -1, -1])  # They do not count.
    np.testing.assert_allclose(losses.balanced_weights(unlabelled, 3), expected)


@pytest.mark.parametrize("is_known", [[1, 0, 1, 0, 1], [0] * 5, [1] * 5])
def test_a_row_without_a_label_has_the_distance_alone(session, is_known):
    """Compares with scipy, row by row: the distance also gets the label's part of the weight."""
    is_known = np.array(is_known, bool)
    probabilities = [
        scipy.special.softmax(x.astype(np.float64) / 2, axis=1) for x in (TEACHER, LOGITS)
    ]
    distances = 4 * scipy.stats.entropy(*[p.T for p in probabilities])
    logs = scipy.special.log_softmax(LOGITS.astype(np.float64), axis=1)
    of_labels = -logs[np.arange(5), LABELS]
    expected = 0.25 * distances + 0.75 * np.where(is_known, of_labels, distances)
    labels = np.where(is_known, LABELS, -1)
    found = of_task(
        session,
        THREE,
        LOGITS,
        labels,
        TEACHER,
        weight=0.25,
        temperature=2.0,
        unlabelled_file="more.txt",
    )
    assert_close(found, expected.sum() / 8)


def test_a_row_without_a_number_has_the_distance_alone(session):
    labels = np.array([1.0, np.nan, -3.0, np.nan, 0.0], np.float32)
    ours, theirs = LOGITS[:, :1], TEACHER[:, :1]
    distances = np.square(ours - theirs)[:, 0]
    of_labels = np.square(ours[:, 0] - labels)
    expected = 0.25 * distances + 0.75 * np.where(np.isnan(labels), distances, of_labels)
    found = of_task(session, NUMBER, ours, labels, theirs, weight=0.25, unlabelled_file="more.txt")
    assert_close(found, expected.sum() / 8)
