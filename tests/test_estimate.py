"""The line on how long commands will take: what it counts, and how it is written."""

import types

import pytest

from theseus import cost
from theseus.commands import estimate
from theseus.config.config import Config

BERT = types.SimpleNamespace(
    hidden_size=768, intermediate_size=3072, num_hidden_layers=12, vocab_size=20000
)
SIZES = estimate.Sizes(train=64000, unlabelled=0, dev=640, test=640, length=25.0)
ON = cost.Machine(flops=1e12)


def config(**values):
    return Config(**dict(dict(finetune_suc=True, suc_layers=6, do_train=True), **values))


def seconds(sizes=SIZES, **values):
    return estimate.command_seconds(config(**values), BERT, sizes, ON)


def test_a_training_is_its_steps_its_evaluations_and_its_exports():
    step = cost.training_seconds(cost.Work(BERT, 6, 25.0), ON)
    fixed = estimate.START_SECONDS + estimate.EXPORT_SECONDS
    # 2 epochs of 1,000 steps; dev after each, and dev and test of the export.
    expected = 2000 * step + (2 * 10 + 20) * step / 3 + fixed
    assert seconds(num_train_epochs=2.0) == pytest.approx(expected)
    alone = seconds(do_train=False, do_export=True)
    assert alone == pytest.approx(20 * step / 3 + estimate.EXPORT_SECONDS)


def test_the_predecessor_has_all_layers():
    assert seconds(finetune_suc=False, finetune_pre=True) == seconds(suc_layers=12)


@pytest.mark.parametrize("field", ["train", "dev", "test", "length"])
def test_more_examples_and_longer_ones_take_longer(field):
    more = SIZES._replace(**{field: 2 * getattr(SIZES, field)})
    assert seconds(more) > seconds()


def test_texts_without_labels_count_where_they_are_used():
    more = SIZES._replace(unlabelled=64000)
    assert seconds(more) == seconds()
    assert seconds(more, unlabelled_file="x") == pytest.approx(2 * seconds(), rel=0.05)


def test_a_teacher_answers_once_for_all(monkeypatch):
    monkeypatch.setattr(cost, "here", lambda: ON)
    teacher = 1000 * cost.forward_seconds(cost.Work(BERT, 12, 25.0), ON)
    commands = [("one", config(distill_from="a")), ("other", config(distill_from="a"))]
    parts = [estimate.line([command], BERT, SIZES) for command in commands]
    assert parts[0].replace("one", "other") == parts[1]
    total = (2 * seconds() + teacher) / 3600
    line = estimate.line(commands, BERT, SIZES)
    assert line.startswith("estimate: about %g hours here" % float("%.1g" % total))


@pytest.mark.parametrize(
    "taken, about, parts",
    [
        ([40.0, 5.0], "about 0.8 minutes", "6 layers: 0.7; 2 layers: 0.08"),
        ([1800, 1200], "about 50 minutes", "6 layers: 30; 2 layers: 20"),
        ([7200, 3600], "about 3 hours", "6 layers: 2; 2 layers: 1"),
        ([864e3, 864e2], "about 10 days", "6 layers: 10; 2 layers: 1"),
    ],
)
def test_the_line_has_one_digit_and_a_unit_that_fits(monkeypatch, taken, about, parts):
    left = iter(taken)
    monkeypatch.setattr(estimate, "command_seconds", lambda *_: next(left))
    commands = [("6 layers", config()), ("2 layers", config())]
    line = "estimate: %s here without a GPU, if nothing else runs (%s)" % (about, parts)
    assert estimate.line(commands, BERT, SIZES) == line


def test_nothing_that_is_left_takes_no_time():
    assert estimate.line([], BERT, SIZES) == "estimate: nothing is left to train"


def test_a_sample_is_of_all_examples_alike():
    total, sample = estimate._sample(range(20000))
    assert total == 20000 and len(sample) == len(set(sample)) == 500
    assert 9000 < sum(sample) / 500 < 11000
    assert estimate._sample(range(3)) == (3, [0, 1, 2]) and estimate._sample([]) == (0, [])
