"""Tests of encoding many examples: the number of processes and parts does not change the arrays."""

import pickle

import numpy as np
import pytest

from conftest import VOCABULARY, write_pairs
from theseus.inputs import cache, encoding, parallel_encoding, reading, tasks
from tokenization import FullTokenizer

TASK = tasks.TASKS["lcqmc_pair"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    root = tmp_path_factory.mktemp("many")
    (root / "vocab.txt").write_text(VOCABULARY, encoding="utf-8")
    write_pairs(root / "train.txt", 100, 1)
    return root


@pytest.fixture(scope="module")
def tokenizer(folder):
    return FullTokenizer(str(folder / "vocab.txt"))


def examples(folder, count=None):
    return reading.iterate_sample(str(folder / "train.txt"), TASK, count)


def join(parts):
    return cache.through_cache(None, encoding.EncodedExamples.ARRAYS, lambda: parts)


@pytest.mark.parametrize("num_processes", [1, 2, 3])
def test_parts_by_any_number_of_processes_are_what_encoding_at_once_gives(
    folder, tokenizer, monkeypatch, num_processes
):
    monkeypatch.setattr(parallel_encoding, "PART", 7)
    encoder = parallel_encoding.Encoder(TASK, tokenizer, 12)
    parts = list(parallel_encoding.encode_parts(examples(folder), encoder, num_processes))
    assert [len(part["lengths"]) for part in parts] == [7] * 14 + [2]
    expected = encoding.encode_arrays(list(examples(folder)), TASK, tokenizer, 12)
    found = join(parts)
    for name, array in expected.items():
        np.testing.assert_array_equal(found[name], array)
    assert {name: array.dtype.name for name, array in found.items()} == {
        "ids": "uint16",
        "lengths": "uint16",
        "lengths_a": "uint16",
        "lost": "int32",
        "labels": "int32",
    }


def test_ids_beyond_65535_are_kept_whole(tmp_path):
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]"] + ["w%d" % n for n in range(66000)]
    (tmp_path / "vocab.txt").write_text("\n".join(words) + "\n")
    encoder = parallel_encoding.Encoder(TASK, FullTokenizer(str(tmp_path / "vocab.txt")), 12)
    found = encoder.encode([reading.Example("w65999", "w1", "1")])
    assert found["ids"].tolist() == [2, 66003, 3, 5, 3]


def test_a_mistake_in_a_line_is_found_while_processes_encode(folder, tokenizer, monkeypatch):
    def mistaken():
        yield from examples(folder)
        raise reading.UserError("line 101")

    monkeypatch.setattr(parallel_encoding, "PART", 7)
    encoder = parallel_encoding.Encoder(TASK, tokenizer, 12)
    with pytest.raises(reading.UserError, match="line 101"):
        list(parallel_encoding.encode_parts(mistaken(), encoder, 2))


@pytest.mark.parametrize("count", [None, 1, 40, 100, 1000])
def test_a_sample_of_a_file_is_that_of_a_list(folder, count):
    everything = list(examples(folder))
    assert list(examples(folder, count)) == reading.sample_examples(everything, count)


@pytest.mark.parametrize("do_lower_case", [True, False])
def test_a_tokenizer_is_the_same_in_another_process(folder, do_lower_case):
    tokenizer = FullTokenizer(str(folder / "vocab.txt"), do_lower_case)
    copy = pickle.loads(pickle.dumps(tokenizer))
    text = "我的手机 ABC, é"
    assert copy.tokenize(text) == tokenizer.tokenize(text)
    assert copy.basic_tokenizer.tokenize(text) == tokenizer.basic_tokenizer.tokenize(text)
