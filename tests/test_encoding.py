"""BERT's form of texts, and their padded batches."""

import numpy as np
import pytest

from conftest import CharacterTokenizer
from theseus.inputs import encoding, tasks
from theseus.inputs.reading import Example

TASK = tasks.TASKS["lcqmc_pair"]


def test_a_pair_in_berts_form():
    tokens, length_a = encoding.encode_texts(list("ab"), list("c"), 10)
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
    tokens_a, tokens_b = ["a%d" % n for n in range(length_a)], ["b%d" % n for n in range(length_b)]
    found, first = encoding.encode_texts(tokens_a, tokens_b, 13)
    kept_a, kept_b = bert_truncate(tokens_a, tokens_b, 10)
    assert found == ["[CLS]"] + kept_a + ["[SEP]"] + kept_b + ["[SEP]"]
    assert first == len(kept_a) + 2


def test_a_long_text_loses_its_end():
    tokens, length_a = encoding.encode_texts(list("abcdef"), None, 6)
    assert (tokens, length_a) == (["[CLS]", "a", "b", "c", "d", "[SEP]"], 6)


def test_a_batch_is_padded_ids_mask_and_segments():
    examples = [Example("abc", "de", "1"), Example("f", "g", None)]
    encoded = encoding.encode_examples(examples, TASK, CharacterTokenizer(), 20)
    assert encoded.lengths.tolist() == [8, 5] and encoded.labels.tolist() == [1, -1]
    encoded.padded_lengths = (9,)
    arrays = encoded.batch(np.array([1, 0]))
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


def test_a_batch_is_as_long_as_its_longest_row_or_as_all_are_padded_to():
    encoded = encoding.EncodedExamples(range(12), [3, 5, 4], [2, 3, 2], [0, 1, 0])
    assert encoded.batch(np.array([0, 2]))["input_ids"].shape == (2, 4)
    assert encoded.batch_length(np.array([1])) == 5
    encoded.padded_lengths = (9,)
    arrays = encoded.batch(np.array([0, 2]))
    assert arrays["input_ids"].shape == (2, 9) and encoded.batch_length(np.array([1])) == 9
    assert arrays["input_mask"].sum(axis=1).tolist() == [3, 4]
    encoded.padded_lengths = encoding.few_lengths(8, step=4)
    assert [encoded.batch_length(np.array([row])) for row in range(3)] == [4, 8, 4]
    assert encoded.batch_length(np.array([], np.int64)) == 4


# --- What each line is there for ---


@pytest.mark.parametrize(
    "length_a, length_b, kept", [(9, 9, (6, 5)), (20, 6, (6, 5)), (3, 9, (3, 8))]
)
def test_of_two_texts_of_one_length_the_second_is_cut_first(length_a, length_b, kept):
    found, first = encoding.encode_texts(list("a" * length_a), list("b" * length_b), 14)
    assert (found.count("a"), found.count("b")) == kept and first == kept[0] + 2
    tokens = bert_truncate("a" * length_a, "b" * length_b, 11)
    assert kept == tuple(map(len, tokens))


@pytest.mark.parametrize("length, kept", [(7, 7), (8, 8), (9, 8)])
def test_a_single_text_is_one_segment_cut_at_its_end(length, kept):
    examples = [Example("abcdefghi"[:length], None, "1")]
    encoded = encoding.encode_examples(examples, TASK, CharacterTokenizer(), 10)
    expected = [1] + [ord(c) for c in "abcdefghi"[:kept]] + [2]
    assert encoded.ids.tolist() == expected
    assert encoded.lengths.tolist() == encoded.lengths_a.tolist() == [kept + 2]
    arrays = encoded.batch(np.array([0]))
    assert not arrays["segment_ids"].any()


def test_a_number_that_is_not_known_is_nan():
    task = tasks.TASKS["sts-b"]
    found = encoding.encode_labels(["2.5", None], task)
    assert found.dtype == np.float32
    np.testing.assert_array_equal(found, np.float32([2.5, np.nan]))


def test_labels_are_their_ids_in_the_task():
    task = tasks.TASKS["mnli"]
    assert encoding.encode_labels(task.labels[::-1] + (None,), task).tolist() == [2, 1, 0, -1]
