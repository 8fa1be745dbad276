"""The model of a training's cost: its operations, and what it grows with."""

import time
import types

import numpy as np
import pytest

import scale_table
from conftest import ROOT
from theseus import cost

BERT = types.SimpleNamespace(
    hidden_size=8, intermediate_size=32, num_hidden_layers=4, vocab_size=100
)
ON = cost.Machine(flops=1e9)


def test_a_layers_operations_are_those_counted_by_hand():
    """4 kernels of 8 x 8, 2 of 8 x 32; 3 + 5 tokens, which attend to 3 and 5; by 2 a product."""
    dense, attention = 2 * 8 * (4 * 64 + 2 * 256), 2 * 2 * (9 + 25) * 8
    both = [(True, True)] * 2
    assert cost.step_flops([3, 5], BERT, both) == 2 * 3 * (dense + attention)
    assert cost.step_flops([3, 5], BERT, [(False, False)]) == dense + attention


def test_a_step_is_its_products_its_values_and_its_weights():
    work = cost.Work(BERT, layers=2, length=4, batch_size=3)
    products = 3 * 2 * (2 * 12 * (4 * 64 + 2 * 256) + 4 * 3 * 16 * 8)
    values, weights = 12 * 8 * 2, 2 * (4 * 64 + 2 * 256) + 100 * 8
    operations = products + 20000 * values + 400 * weights
    assert cost.training_seconds(work, ON) == pytest.approx(operations / 1e9)
    assert cost.forward_seconds(work, ON) == pytest.approx(operations / 3e9)
    slow = cost.Machine(flops=1e15, layer_seconds=0.5)
    assert cost.training_seconds(work, slow) == 1.0


@pytest.mark.parametrize("field", ["layers", "length", "batch_size"])
def test_a_step_takes_longer_the_more_there_is(field):
    work = cost.Work(BERT, layers=2, length=4, batch_size=3)
    more = work._replace(**{field: getattr(work, field) + 1})
    assert cost.training_seconds(more, ON) > cost.training_seconds(work, ON)


@pytest.mark.parametrize("field", ["hidden_size", "intermediate_size", "vocab_size"])
def test_a_step_of_a_larger_bert_takes_longer(field):
    larger = types.SimpleNamespace(**dict(vars(BERT), **{field: 2 * getattr(BERT, field)}))
    seconds = [cost.training_seconds(cost.Work(bert, 2, 4), ON) for bert in (BERT, larger)]
    assert seconds[0] < seconds[1]


def test_bfloat16_is_faster_only_where_the_machine_has_it():
    work = cost.Work(BERT, 2, 4, precision="bfloat16")
    in_float32 = cost.training_seconds(work._replace(precision="float32"), ON)
    assert cost.training_seconds(work, ON) == in_float32
    assert cost.training_seconds(work, ON._replace(has_bfloat16=True)) < in_float32


def test_the_machines_speed_is_that_of_its_best_products(monkeypatch):
    """Each of 3 processors takes a thousandth of a second for a product, or longer."""
    clock = iter(np.cumsum([0, 0, 0.004, 0, 0, 0.001, 1.0]).tolist() * 3)
    monkeypatch.setattr(cost.machine, "num_processors", lambda: 3)
    monkeypatch.setattr(cost.futures, "ThreadPoolExecutor", lambda count: InTurns())
    monkeypatch.setattr(time, "perf_counter", lambda: next(clock))
    assert cost.here().flops == pytest.approx(3 * 16 * 2 * 64**3 / 0.001)


class InTurns(object):
    """Stands for a pool of threads, so that a clock's times come in order."""

    def __enter__(self):
        return types.SimpleNamespace(map=map)

    def __exit__(self, *exception):
        pass


def test_the_page_has_the_scripts_table():
    with open(ROOT + "/docs/scale.md", encoding="utf-8") as reader:
        assert scale_table.table() in reader.read()
