"""The loss by the number of modules replaced, and the one warning that comes of it."""

import numpy as np
import pytest
from absl import logging

from theseus.training.replaced_losses import ReplacedLosses


def collected(losses, num_replaced=0):
    """ReplacedLosses of steps with so many modules replaced."""
    found = ReplacedLosses()
    for loss in losses:
        found.add(num_replaced, loss)
    return found


def around(mean, spread=0.0):
    """Twenty losses of exactly this mean and this standard deviation."""
    return [mean - spread, mean + spread] * 10


def test_an_epochs_means_are_by_the_number_replaced():
    found = ReplacedLosses()
    for count, loss in [(2, 0.5), (0, 1.0), (2, 0.25), (10, 4.0), (0, 3.0), (2, 0.75)]:
        found.add(count, loss)
    line = found.describe_epoch()
    assert line == (
        "loss by modules replaced (steps): 0: 2.0000 (2), 2: 0.5000 (3), 10: 4.0000 (1)"
    )


def test_each_epoch_has_its_own_means():
    found = collected([1.0, 2.0])
    found.describe_epoch()
    found.add(1, 8.0)
    assert found.describe_epoch() == "loss by modules replaced (steps): 1: 8.0000 (1)"


def test_a_rise_is_said_in_numbers_and_with_what_helps():
    warning = collected(around(0.5) + around(1.5)).warning()
    assert warning.startswith("the loss without replaced modules has risen from 0.500 to 1.500: ")
    for flag in ("--learning_rate", "--suc_learning_rate", "--train_scope=successor_layers"):
        assert flag in warning


def test_a_rise_is_said_once():
    found = collected(around(0.5) + around(1.5))
    assert found.warning() and found.warning() is None
    for loss in around(9.0):
        found.add(0, loss)
    assert found.warning() is None


def test_a_run_that_goes_on_judges_by_where_it_began():
    before = collected(around(0.5) + around(1.0))
    found = ReplacedLosses(before.unreplaced())
    assert found.unreplaced() == around(0.5) + around(1.0)
    found.add(1, 4.0)
    for loss in around(1.5):
        found.add(0, loss)
    assert "from 0.500 to 1.500" in found.warning()
    line = "loss by modules replaced (steps): 0: 1.5000 (20), 1: 4.0000 (1)"
    assert found.describe_epoch() == line  # Of its own steps.


def test_a_rise_is_said_later_where_it_comes_later():
    found = collected(around(0.5) + around(0.5))
    assert found.warning() is None
    for loss in around(1.5):
        found.add(0, loss)
    assert "from 0.500 to 1.500" in found.warning()


@pytest.mark.parametrize("num_later, is_said", [(19, False), (20, True)])
def test_fewer_than_twenty_batches_after_the_first_twenty_say_nothing(num_later, is_said):
    found = collected(around(0.5) + [1.5] * num_later)
    assert (found.warning() is not None) == is_said


def test_what_counts_are_the_first_and_the_last_twenty():
    between = [100.0] * 30
    assert collected(around(0.5) + between + around(0.5)).warning() is None
    assert "from 0.500 to 1.500" in collected(around(0.5) + [0.0] * 30 + around(1.5)).warning()


@pytest.mark.parametrize("last, is_said", [(1.19, False), (1.21, True)])
def test_less_than_a_fifth_is_no_rise(last, is_said):
    assert (collected(around(1.0) + around(last)).warning() is not None) == is_said


@pytest.mark.parametrize("last, is_said", [(0.079, False), (0.099, False), (0.101, True)])
def test_a_small_loss_may_rise_a_little(last, is_said):
    """If the predecessor is its own teacher, .050 may become .079 without any damage."""
    assert (collected(around(0.05) + around(last)).warning() is not None) == is_said


@pytest.mark.parametrize("first, last", [(1.0, 1.25), (0.5, 0.75)])
def test_a_fall_is_no_rise(first, last):
    assert collected(around(last) + around(first)).warning() is None


@pytest.mark.parametrize("errors, is_said", [(2.9, False), (3.1, True)])
def test_a_rise_within_three_standard_errors_is_noise(errors, is_said):
    """The error of a difference of two means of 20, each of values that scatter by 2."""
    rise = errors * np.sqrt(2.0**2 / 20 + 2.0**2 / 20)
    losses = around(1.0, 2.0) + around(1.0 + rise, 2.0)
    assert (collected(losses).warning() is not None) == is_said


@pytest.mark.parametrize("first, last", [(4.0, 0.0), (0.0, 4.0)])
def test_the_noise_is_that_of_the_first_and_of_the_last(first, last):
    """A rise of 2.5 is above a fifth, and 2.8 standard errors where one of both scatters by 4."""
    assert collected(around(5.0, first) + around(7.5, last)).warning() is None
    assert collected(around(5.0) + around(7.5)).warning()


def test_noise_alone_is_not_warned_of():
    random = np.random.RandomState(1)
    for _ in range(50):
        assert collected(0.2 + random.exponential(0.3, size=200)).warning() is None


def test_batches_with_something_replaced_do_not_count():
    found = collected(around(0.5) + around(0.5))
    for loss in around(9.0):
        found.add(1, loss)
    assert found.warning() is None
    assert collected(around(0.5) + around(1.5), num_replaced=1).warning() is None


def test_an_epochs_end_is_one_line_and_one_warning(monkeypatch):
    lines = []
    for level in ("info", "warning"):
        monkeypatch.setattr(
            logging, level, lambda form, *v, level=level: lines.append((level, form % v))
        )
    found = collected(around(0.5) + around(1.5))
    found.log_epoch()
    found.add(0, 1.5)
    found.log_epoch()
    assert [level for level, _ in lines] == ["info", "warning", "info"]
    assert lines[0][1] == "loss by modules replaced (steps): 0: 1.0000 (40)"
    assert "has risen" in lines[1][1]
    assert lines[2][1] == "loss by modules replaced (steps): 0: 1.5000 (1)"
