"""BERT's form of texts, and the plan of batches."""

import numpy as np
import pytest

from theseus.inputs import input_pipeline, reading, tasks
from theseus.inputs.reading import Example

TASK = tasks.TASKS["lcqmc_pair"]


class CharacterTokenizer(object):
    """One token a character; its id is its code point."""

    def tokenize(self, text):
        return list(text)

    def convert_tokens_to_ids(self, tokens):
        special = {"[CLS]": 1, "[SEP]": 2}
        return [special.get(token) or ord(token) for token in tokens]


def test_a_pair_in_berts_form():
    tokens, length_a = input_pipeline.encode_texts(list("ab"), list("c"), 10)
    assert (tokens, length_a) == (["[CLS]", "a", "b", "[SEP]", "c", "[SEP]"], 4)


def bert_truncate(tokens_a, tokens_b, max_length):
    """google-research/bert's _truncate_seq_pair in its own words: pop from the longer one."""
    tokens_a, tokens_b = list(tokens_a), list(tokens_b)
    while len(tokens_a) + len(tokens_b) > max_length:
        (tokens_a if len(tokens_a) > len(tokens_b) else tokens_b).pop()
    return tokens_a, tokens_b


@pytest.mark.parametrize(
    "length_a, length_b", [(20, 3), (3, 20), (9, 9), (10, 9), (0, 30), (30, 0)]
)
def test_a_long_pair_is_truncated_as_bert_does(length_a, length_b):
    tokens_a, tokens_b = list("a" * length_a), list("b" * length_b)
    found, first = input_pipeline.encode_texts(tokens_a, tokens_b, 13)
    kept_a, kept_b = bert_truncate(tokens_a, tokens_b, 10)
    assert found == ["[CLS]"] + kept_a + ["[SEP]"] + kept_b + ["[SEP]"]
    assert first == len(kept_a) + 2


def test_a_batch_is_padded_ids_mask_and_segments():
    examples = [Example("abc", "de", "1"), Example("f", "g", None)]
    encoded = input_pipeline.encode_examples(examples, TASK, CharacterTokenizer(), 20)
    assert encoded.lengths.tolist() == [8, 5] and encoded.labels.tolist() == [1, -1]
    arrays = encoded.batch(input_pipeline.PlannedBatch(np.array([1, 0]), 9))
    assert arrays["input_ids"].tolist() == [
        [1, ord("f"), 2, ord("g"), 2, 0, 0, 0, 0],
        [1] + [ord(c) for c in "abc"] + [2] + [ord(c) for c in "de"] + [2, 0],
    ]
    assert arrays["input_mask"].tolist() == [[1] * 5 + [0] * 4, [1] * 8 + [0]]
    assert arrays["segment_ids"].tolist() == [
        [0, 0, 0, 1, 1, 0, 0, 0, 0],
        [0, 0, 0, 0, 0, 1, 1, 1, 0],
    ]
    assert {array.dtype for array in arrays.values()} == {np.dtype(np.int32)}


LENGTHS = np.random.RandomState(3).geometric(0.05, size=20011).clip(5, 128)


def test_an_epochs_plan_holds_each_row_once_in_batches_of_one_size():
    plan = input_pipeline.plan_epoch(LENGTHS, 64, seed=1, epoch=0)
    assert len(plan) == 313
    assert sorted(np.concatenate([b.rows for b in plan])) == list(range(20011))
    assert sorted({len(b.rows) for b in plan}) == [20011 % 64, 64]
    assert all(b.length == LENGTHS[b.rows].max() for b in plan)


def test_a_plan_depends_on_seed_and_epoch():
    def rows(seed, epoch):
        plan = input_pipeline.plan_epoch(LENGTHS, 64, seed, epoch)
        return [batch.rows.tolist() for batch in plan]

    assert rows(1, 3) == rows(1, 3)
    assert rows(1, 3) != rows(1, 4) and rows(1, 3) != rows(2, 3)


def test_a_plan_wastes_little_on_padding_and_yet_is_shuffled():
    plan = input_pipeline.plan_epoch(LENGTHS, 64, seed=1, epoch=0)
    computed = sum(len(b.rows) * b.length for b in plan)
    assert LENGTHS.sum() / computed > 0.9
    lengths = [b.length for b in plan]
    assert abs(np.corrcoef(lengths, range(len(lengths)))[0, 1]) < 0.3
    order = np.concatenate([b.rows for b in plan])
    assert abs(np.corrcoef(order, range(len(order)))[0, 1]) < 0.05


def test_padding_to_one_length_keeps_the_rows():
    free = input_pipeline.plan_epoch(LENGTHS, 64, 1, 0)
    padded = input_pipeline.plan_epoch(LENGTHS, 64, 1, 0, padded_length=128)
    assert {batch.length for batch in padded} == {128}
    assert [b.rows.tolist() for b in free] == [b.rows.tolist() for b in padded]


@pytest.mark.parametrize("count, sizes", [(1, [5]), (2, [3, 2]), (5, [1] * 5), (9, [1] * 5)])
def test_micro_batches_are_the_batch_each_padded_by_itself(count, sizes):
    planned = input_pipeline.PlannedBatch(np.array([4, 0, 3, 1, 2]), 128)
    parts = input_pipeline.cut_batch(planned, count, LENGTHS)
    assert np.concatenate([part.rows for part in parts]).tolist() == [4, 0, 3, 1, 2]
    assert [len(part.rows) for part in parts] == sizes
    assert [part.length for part in parts] == [LENGTHS[part.rows].max() for part in parts]
    assert input_pipeline.cut_batch(planned, count, LENGTHS, 99)[0].length == 99


def test_evaluation_goes_by_length_and_holds_each_row_once():
    plan = input_pipeline.plan_in_length_order(LENGTHS, 100)
    assert sorted(np.concatenate([b.rows for b in plan])) == list(range(20011))
    assert [b.length for b in plan] == sorted(b.length for b in plan)


def test_what_was_encoded_is_kept_and_found_again(tmp_path):
    path = str(tmp_path / "cache" / "ab.npz")
    examples = [Example("abc", "de", "1"), Example("f", "g", None)]
    planned = input_pipeline.PlannedBatch(np.array([1, 0]), 9)

    def encode():
        return input_pipeline.encode_examples(examples, TASK, CharacterTokenizer(), 20)

    def refuse():
        raise AssertionError("encoded again")

    first = input_pipeline.through_cache(path, encode)
    again = input_pipeline.through_cache(path, refuse)
    assert again.labels.tolist() == first.labels.tolist() == [1, -1]
    for name, array in first.batch(planned).items():
        np.testing.assert_array_equal(again.batch(planned)[name], array)
    assert (tmp_path / "cache").exists() and len(list((tmp_path / "cache").iterdir())) == 1


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04 cut off", b"no archive"])
def test_a_damaged_cache_is_made_anew(tmp_path, content):
    path = tmp_path / "ab.npz"
    path.write_bytes(content)
    encoded = input_pipeline.EncodedExamples([7, 8], [2], [1], [0])
    assert input_pipeline.through_cache(str(path), lambda: encoded) is encoded
    assert input_pipeline.through_cache(str(path), None).ids.tolist() == [7, 8]


def test_a_cache_that_cannot_be_written_is_done_without(tmp_path):
    (tmp_path / "file").write_text("")
    encoded = input_pipeline.EncodedExamples([7, 8], [2], [1], [0])
    path = str(tmp_path / "file" / "ab.npz")
    assert input_pipeline.through_cache(path, lambda: encoded) is encoded


def test_a_file_is_read_one_pool_after_another(tmp_path, monkeypatch):
    path = tmp_path / "pairs.tsv"
    path.write_text("".join("a%d\tb\t0\n" % number for number in range(7)), encoding="utf-8")
    monkeypatch.setattr(input_pipeline, "BATCHES_PER_POOL", 2)
    examples = reading.iterate_examples(str(path), TASK)
    pools = input_pipeline.cut_into_pools(examples, batch_size=2)
    assert [example.text_a for example in next(pools)] == ["a0", "a1", "a2", "a3"]
    # The rest is not read yet.
    assert next(examples).text_a == "a4"
    assert [example.text_a for example in next(pools)] == ["a5", "a6"]
    assert not list(pools)


SAME_LENGTHS = np.full(2000, 20)


def test_rows_are_shuffled_before_they_are_cut_into_batches():
    """Of rows of one length, neighbours in the file are not neighbours in a batch."""
    plan = input_pipeline.plan_epoch(SAME_LENGTHS, 8, seed=1, epoch=0)
    gaps = np.concatenate([np.abs(np.diff(batch.rows)) for batch in plan])
    # Those of rows drawn at random: a third of all rows on average.
    assert abs(gaps.mean() - 2000 / 3) < 50 and (gaps == 1).mean() < 0.02


def test_the_order_of_batches_is_shuffled_within_a_pool_too():
    """A pool's batches are made from the shortest to the longest."""
    count = 4 * input_pipeline.BATCHES_PER_POOL
    lengths = np.arange(5, 5 + count)
    order = [b.length for b in input_pipeline.plan_epoch(lengths, 4, seed=1, epoch=0)]
    assert len(order) == input_pipeline.BATCHES_PER_POOL and order != sorted(order)
    assert abs(np.corrcoef(order, range(len(order)))[0, 1]) < 0.5


def test_each_epoch_puts_other_rows_together():
    def first_batches(epoch):
        plan = input_pipeline.plan_epoch(SAME_LENGTHS, 8, 1, epoch)
        return {frozenset(batch.rows.tolist()) for batch in plan}

    assert not first_batches(0) & first_batches(1)


# --- What each line is there for ---


@pytest.mark.parametrize(
    "length_a, length_b, kept", [(9, 9, (6, 5)), (20, 6, (6, 5)), (3, 9, (3, 8))]
)
def test_of_two_texts_of_one_length_the_second_is_cut_first(length_a, length_b, kept):
    found, first = input_pipeline.encode_texts(list("a" * length_a), list("b" * length_b), 14)
    assert (found.count("a"), found.count("b")) == kept and first == kept[0] + 2
    tokens = bert_truncate("a" * length_a, "b" * length_b, 11)
    assert kept == tuple(map(len, tokens))


@pytest.mark.parametrize("length, kept", [(7, 7), (8, 8), (9, 8)])
def test_a_single_text_is_one_segment_cut_at_its_end(length, kept):
    examples = [Example("abcdefghi"[:length], None, "1")]
    encoded = input_pipeline.encode_examples(examples, TASK, CharacterTokenizer(), 10)
    expected = [1] + [ord(c) for c in "abcdefghi"[:kept]] + [2]
    assert encoded.ids.tolist() == expected
    assert encoded.lengths.tolist() == encoded.lengths_a.tolist() == [kept + 2]
    arrays = encoded.batch(input_pipeline.PlannedBatch(np.array([0]), 12))
    assert not arrays["segment_ids"].any()


def test_a_number_that_is_not_known_is_nan():
    task = tasks.TASKS["sts-b"]
    found = input_pipeline.encode_labels([Example("a", "b", "2.5"), Example("a", "b", None)], task)
    assert found.dtype == np.float32
    np.testing.assert_array_equal(found, np.float32([2.5, np.nan]))


def test_labels_are_their_places_in_the_task():
    task = tasks.TASKS["mnli"]
    examples = [Example("a", "b", label) for label in task.labels[::-1] + (None,)]
    assert input_pipeline.encode_labels(examples, task).tolist() == [2, 1, 0, -1]


def test_rows_are_shuffled_where_all_are_of_one_length():
    plan = input_pipeline.plan_epoch(np.full(6400, 9), 8, seed=1, epoch=0)
    rows = np.concatenate([batch.rows for batch in plan])
    assert (np.abs(np.diff(rows)) == 1).mean() < 0.01
    first = np.array([batch.rows.min() for batch in plan])
    assert abs(np.corrcoef(first, range(len(first)))[0, 1]) < 0.2


def test_batches_are_shuffled_within_a_pool_and_the_small_one_with_them():
    lengths = np.arange(5, 5 + 395)
    places = set()
    for epoch in range(20):
        plan = input_pipeline.plan_epoch(lengths, 10, seed=1, epoch=epoch)
        found = [batch.length for batch in plan]
        assert abs(np.corrcoef(found, range(40))[0, 1]) < 0.6
        places.add([len(batch.rows) for batch in plan].index(5))
    assert len(places) > 8 and min(places) < 10 and max(places) > 30


def test_no_two_epochs_or_seeds_share_a_batch_but_by_chance():
    lengths = np.random.RandomState(2).permutation(np.arange(5, 5 + 3200))
    held = [
        {frozenset(batch.rows.tolist()) for batch in input_pipeline.plan_epoch(lengths, 8, s, e)}
        for s, e in [(0, 0), (0, 1), (1, 0), (1, 1), (0, 2), (2, 0)]
    ]
    # The sum of seed and epoch says nothing: (0, 1) and (1, 0) are two plans.
    assert all(len(held[i] & held[j]) < 8 for i in range(6) for j in range(i))


def test_evaluation_has_batches_of_the_size_and_the_length_asked_for():
    plan = input_pipeline.plan_in_length_order(LENGTHS, 100)
    assert [len(batch.rows) for batch in plan] == [100] * 200 + [11]
    assert all(batch.length == LENGTHS[batch.rows].max() for batch in plan)
    padded = input_pipeline.plan_in_length_order(LENGTHS, 100, padded_length=128)
    assert {batch.length for batch in padded} == {128}
    assert [b.rows.tolist() for b in padded] == [b.rows.tolist() for b in plan]


def test_a_cache_takes_its_name_when_it_is_whole(tmp_path, monkeypatch):
    path = str(tmp_path / "ab.npz")
    encoded = input_pipeline.EncodedExamples([7, 8], [2], [1], [0])
    savez = np.savez

    def watched(file, **arrays):
        assert not (tmp_path / "ab.npz").exists()
        savez(file, **arrays)
        assert not (tmp_path / "ab.npz").exists()

    monkeypatch.setattr(input_pipeline.np, "savez", watched)
    input_pipeline.through_cache(path, lambda: encoded)
    assert [entry.name for entry in tmp_path.iterdir()] == ["ab.npz"]


@pytest.mark.parametrize("absent", ["ids", "labels"])
def test_a_cache_of_another_form_is_made_anew(tmp_path, absent):
    path = str(tmp_path / "ab.npz")
    encoded = input_pipeline.EncodedExamples([7, 8], [2], [1], [0])
    arrays = dict(ids=[1], lengths=[1], lengths_a=[1], labels=[0])
    del arrays[absent]
    np.savez(path, **arrays)
    assert input_pipeline.through_cache(path, lambda: encoded) is encoded
    assert input_pipeline.through_cache(path, None).ids.tolist() == [7, 8]


def test_a_number_is_kept_as_it_was(tmp_path):
    path = str(tmp_path / "ab.npz")
    encoded = input_pipeline.EncodedExamples([7, 8, 9], [2, 1], [1, 1], np.float32([0.1, np.nan]))
    input_pipeline.through_cache(path, lambda: encoded)
    found = input_pipeline.through_cache(path, None)
    for name in ("ids", "lengths", "lengths_a", "labels"):
        held, expected = getattr(found, name), getattr(encoded, name)
        assert held.dtype == expected.dtype
        np.testing.assert_array_equal(held, expected)
