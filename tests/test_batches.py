"""Tests of the plan of batches: which rows form a batch, and the order of the batches."""

import itertools

import numpy as np
import pytest

from theseus.inputs import batches, reading, tasks

TASK = tasks.TASKS["lcqmc_pair"]

LENGTHS = np.random.RandomState(3).geometric(0.05, size=20011).clip(5, 128)


def test_an_epochs_plan_holds_each_row_once_in_batches_of_one_size():
    plan = batches.plan_epoch(LENGTHS, 64, seed=1, epoch=0)
    assert len(plan) == 313
    assert sorted(np.concatenate([b for b in plan])) == list(range(20011))
    assert sorted({len(b) for b in plan}) == [20011 % 64, 64]


def test_a_plan_depends_on_seed_and_epoch():
    def rows(seed, epoch):
        plan = batches.plan_epoch(LENGTHS, 64, seed, epoch)
        return [batch.tolist() for batch in plan]

    assert rows(1, 3) == rows(1, 3)
    assert rows(1, 3) != rows(1, 4) and rows(1, 3) != rows(2, 3)


def test_a_plan_wastes_little_on_padding_and_yet_is_shuffled():
    plan = batches.plan_epoch(LENGTHS, 64, seed=1, epoch=0)
    lengths = [LENGTHS[b].max() for b in plan]
    computed = sum(len(b) * length for b, length in zip(plan, lengths))
    assert LENGTHS.sum() / computed > 0.9
    assert abs(np.corrcoef(lengths, range(len(lengths)))[0, 1]) < 0.3
    order = np.concatenate([b for b in plan])
    assert abs(np.corrcoef(order, range(len(order)))[0, 1]) < 0.05


@pytest.mark.parametrize("count, sizes", [(1, [5]), (2, [3, 2]), (5, [1] * 5), (9, [1] * 5)])
def test_micro_batches_are_the_batch(count, sizes):
    parts = batches.cut_batch(np.array([4, 0, 3, 1, 2]), count)
    assert np.concatenate(parts).tolist() == [4, 0, 3, 1, 2]
    assert [len(part) for part in parts] == sizes


def test_evaluation_goes_by_length_and_holds_each_row_once():
    plan = batches.plan_in_length_order(LENGTHS, 100)
    assert sorted(np.concatenate([b for b in plan])) == list(range(20011))
    lengths = LENGTHS[np.concatenate(plan)].tolist()
    assert lengths == sorted(lengths)


def test_a_file_is_read_one_pool_after_another(tmp_path, monkeypatch):
    path = tmp_path / "pairs.tsv"
    path.write_text("".join("a%d\tb\t0\n" % number for number in range(7)), encoding="utf-8")
    monkeypatch.setattr(batches, "BATCHES_PER_POOL", 2)
    examples = reading.iterate_examples(str(path), TASK)
    pools = batches.cut_into_pools(examples, batch_size=2)
    assert [example.text_a for example in next(pools)] == ["a0", "a1", "a2", "a3"]
    # The rest is not read yet.
    assert next(examples).text_a == "a4"
    assert [example.text_a for example in next(pools)] == ["a5", "a6"]
    assert not list(pools)


SAME_LENGTHS = np.full(2000, 20)


def test_rows_are_shuffled_before_they_are_cut_into_batches():
    """If all rows have one length, neighbours in the file are not neighbours in a batch."""
    plan = batches.plan_epoch(SAME_LENGTHS, 8, seed=1, epoch=0)
    gaps = np.concatenate([np.abs(np.diff(batch)) for batch in plan])
    # Two rows drawn at random are on average a third of all rows apart.
    assert abs(gaps.mean() - 2000 / 3) < 50 and (gaps == 1).mean() < 0.02


def test_the_order_of_batches_is_shuffled_within_a_pool_too():
    """A pool's batches are made from the shortest to the longest."""
    count = 4 * batches.BATCHES_PER_POOL
    lengths = np.arange(5, 5 + count)
    order = [lengths[b].max() for b in batches.plan_epoch(lengths, 4, seed=1, epoch=0)]
    assert len(order) == batches.BATCHES_PER_POOL and order != sorted(order)
    assert abs(np.corrcoef(order, range(len(order)))[0, 1]) < 0.5


def test_each_epoch_puts_other_rows_together():
    def first_batches(epoch):
        plan = batches.plan_epoch(SAME_LENGTHS, 8, 1, epoch)
        return {frozenset(batch.tolist()) for batch in plan}

    assert not first_batches(0) & first_batches(1)


def test_rows_are_shuffled_where_all_are_of_one_length():
    plan = batches.plan_epoch(np.full(6400, 9), 8, seed=1, epoch=0)
    rows = np.concatenate([batch for batch in plan])
    assert (np.abs(np.diff(rows)) == 1).mean() < 0.01
    first = np.array([batch.min() for batch in plan])
    assert abs(np.corrcoef(first, range(len(first)))[0, 1]) < 0.2


def test_batches_are_shuffled_within_a_pool_and_the_small_one_with_them():
    lengths = np.arange(5, 5 + 395)
    places = set()
    for epoch in range(20):
        plan = batches.plan_epoch(lengths, 10, seed=1, epoch=epoch)
        found = [lengths[batch].max() for batch in plan]
        assert abs(np.corrcoef(found, range(40))[0, 1]) < 0.6
        places.add([len(batch) for batch in plan].index(5))
    assert len(places) > 8 and min(places) < 10 and max(places) > 30


def test_no_two_epochs_or_seeds_share_a_batch_but_by_chance():
    lengths = np.random.RandomState(2).permutation(np.arange(5, 5 + 3200))
    held = [
        {frozenset(batch.tolist()) for batch in batches.plan_epoch(lengths, 8, s, e)}
        for s, e in [(0, 0), (0, 1), (1, 0), (1, 1), (0, 2), (2, 0)]
    ]
    # The sum of seed and epoch does not determine the plan: (0, 1) and (1, 0) differ.
    assert all(len(held[i] & held[j]) < 8 for i in range(6) for j in range(i))


def test_evaluation_has_batches_of_the_size_asked_for():
    plan = batches.plan_in_length_order(LENGTHS, 100)
    assert [len(batch) for batch in plan] == [100] * 200 + [11]


def cost(plan, lengths):
    return sum(len(rows) * lengths[rows].max() + batches.BATCH_COST for rows in plan)


@pytest.mark.parametrize("seed", range(8))
def test_a_batch_is_cut_at_the_cheapest_of_all_places(seed):
    lengths = np.random.RandomState(seed).randint(5, 90, size=9)
    order = np.argsort(lengths, kind="stable")
    every = itertools.chain.from_iterable(
        itertools.combinations(range(1, 9), count) for count in range(9)
    )
    cheapest = min(cost(np.split(order, cuts), lengths) for cuts in every)
    plan = batches.plan_with_little_padding(lengths, 9)
    assert cost(plan, lengths) == cheapest
    assert np.concatenate(plan).tolist() == order.tolist()


def test_mixed_lengths_are_cut_and_like_ones_are_not():
    random = np.random.RandomState(0)
    mixed = random.choice(LENGTHS, 64)
    plan = batches.plan_with_little_padding(mixed, 64)
    assert 1 < len(plan) < 16 and sum(len(b) * mixed[b].max() for b in plan) < 1.25 * mixed.sum()
    assert len(batches.plan_with_little_padding(np.full(64, 20), 64)) == 1
    plan = batches.plan_with_little_padding(LENGTHS, 100)
    assert max(map(len, plan)) == 100 and len(plan) < 250
    assert sorted(np.concatenate(plan)) == list(range(20011))
