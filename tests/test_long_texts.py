"""Tests of the warning about examples that are too long for the model."""

import numpy as np
import pytest

from conftest import CharacterTokenizer
from theseus.inputs import encoding, parallel_encoding, tasks
from theseus.inputs.long_texts import LongTexts
from theseus.inputs.reading import Example

PAIR, ONE = tasks.TASKS["lcqmc_pair"], tasks.TASKS["sst-2"]


def counted(task, *parts, length=10):
    """Returns the warning about a file of these parts, each a list of (length_a, length_b)."""
    texts = LongTexts(length)
    for part in parts:
        rows = [Example("a" * a, None if b is None else "b" * b, None) for a, b in part]
        texts.add(encoding.encode_examples(rows, task, CharacterTokenizer(), length))
    return texts.warning("train")


def test_what_fits_is_not_said():
    assert counted(ONE, [(8, None)] * 5) is None
    assert counted(PAIR, [(3, 4), (7, 0), (0, 0)]) is None
    assert counted(PAIR) is None


@pytest.mark.parametrize("num_long, is_said", [(1, False), (2, True)])
def test_it_is_said_from_a_hundredth_of_the_whole_file_on(num_long, is_said):
    parts = [[(9, None)] * num_long, [(1, None)] * 150, [(1, None)] * (50 - num_long)]
    assert bool(counted(ONE, *parts)) == is_said


def test_single_texts_lose_their_end():
    assert counted(ONE, [(9, None), (2, None)], [(30, None)]) == (
        "train: 2 of 3 examples are longer than --max_seq_length=10 tokens and lose their end; "
        "the longest has 32"
    )


@pytest.mark.parametrize(
    "pairs, lost",
    [
        ([(2, 9), (3, 3)], "the end of the second text; the longest has 14"),
        ([(9, 2), (3, 3)], "the end of the first text; the longest has 14"),
        ([(9, 0)], "the end of the first text; the longest has 12"),
        # One token too many, with texts of equal length: the second text loses it.
        ([(4, 4)], "the end of the second text; the longest has 11"),
        (
            [(9, 1), (9, 9), (1, 9), (1, 9)],
            "the end of a text (the first in 2, the second in 3); the longest has 21",
        ),
    ],
)
def test_of_pairs_it_is_said_which_text_loses_its_end(pairs, lost):
    assert counted(PAIR, pairs).endswith("--max_seq_length=10 tokens and lose " + lost)


def test_a_text_of_more_tokens_than_16_bits_can_count_is_counted():
    tokenizer = CharacterTokenizer()
    tokenizer.inv_vocab = {ord("a"): "a"}
    encoder = parallel_encoding.Encoder(ONE, tokenizer, 10)
    texts = LongTexts(10)
    texts.add(encoding.EncodedExamples(**encoder.encode([Example("a" * 70000, None, "1")])))
    assert texts.warning("train").endswith("the longest has 70002")


def test_what_is_lost_is_what_there_was_without_what_is_kept():
    rows = [Example("a" * a, "b" * b, "1") for a, b in [(20, 3), (2, 2), (9, 9)]]
    encoded = encoding.encode_examples(rows, PAIR, CharacterTokenizer(), 13)
    # 10 tokens of texts are kept.
    np.testing.assert_array_equal(encoded.lost, [[13, 0], [0, 0], [4, 4]])
