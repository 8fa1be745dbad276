"""Arrays that are made once and found again, whatever became of the file that keeps them."""

import os

import numpy as np
import pytest

from conftest import CharacterTokenizer
from theseus.inputs import cache, encoding, tasks
from theseus.inputs.encoding import EncodedExamples
from theseus.inputs.reading import Example

TASK = tasks.TASKS["lcqmc_pair"]
NAMES = EncodedExamples.ARRAYS


def arrays_of(encoded):
    return {name: getattr(encoded, name) for name in NAMES}


def made(labels=(0,)):
    """The arrays of a row of two tokens, or of such a row for each label."""
    count = len(labels)
    return arrays_of(EncodedExamples([7, 8] * count, [2] * count, [1] * count, np.array(labels)))


def refuse():
    raise AssertionError("made again")


def test_what_was_encoded_is_kept_and_found_again(tmp_path):
    path = str(tmp_path / "cache" / "ab.npz")
    examples = [Example("abc", "de", "1"), Example("f", "g", None)]

    def encode():
        return arrays_of(encoding.encode_examples(examples, TASK, CharacterTokenizer(), 20))

    first = EncodedExamples.from_arrays(cache.through_cache(path, NAMES, encode))
    again = EncodedExamples.from_arrays(cache.through_cache(path, NAMES, refuse))
    assert again.labels.tolist() == first.labels.tolist() == [1, -1]
    for name, array in first.batch(np.array([1, 0])).items():
        np.testing.assert_array_equal(again.batch(np.array([1, 0]))[name], array)
    assert (tmp_path / "cache").exists() and len(list((tmp_path / "cache").iterdir())) == 1


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04 cut off", b"no archive"])
def test_a_damaged_cache_is_made_anew(tmp_path, content):
    path = tmp_path / "ab.npz"
    path.write_bytes(content)
    arrays = made()
    assert cache.through_cache(str(path), NAMES, lambda: arrays)["ids"] is arrays["ids"]
    assert cache.through_cache(str(path), NAMES, refuse)["ids"].tolist() == [7, 8]


def test_a_cache_that_cannot_be_written_is_done_without(tmp_path):
    (tmp_path / "file").write_text("")
    arrays = made()
    path = str(tmp_path / "file" / "ab.npz")
    assert cache.through_cache(path, NAMES, lambda: arrays) == arrays


def test_a_cache_takes_its_name_when_it_is_whole(tmp_path, monkeypatch):
    path = str(tmp_path / "ab.npz")
    savez = np.savez

    def watched(file, **arrays):
        assert not (tmp_path / "ab.npz").exists()
        savez(file, **arrays)
        assert not (tmp_path / "ab.npz").exists()

    monkeypatch.setattr(cache.np, "savez", watched)
    cache.through_cache(path, NAMES, made)
    assert [entry.name for entry in tmp_path.iterdir()] == ["ab.npz"]


@pytest.mark.parametrize("absent", ["ids", "labels"])
def test_a_cache_of_another_form_is_made_anew(tmp_path, absent):
    path = str(tmp_path / "ab.npz")
    arrays = dict(ids=[1], lengths=[1], lengths_a=[1], labels=[0])
    del arrays[absent]
    np.savez(path, **arrays)
    arrays = made()
    assert cache.through_cache(path, NAMES, lambda: arrays) == arrays
    assert cache.through_cache(path, NAMES, refuse)["ids"].tolist() == [7, 8]


def test_a_number_is_kept_as_it_was(tmp_path):
    path = str(tmp_path / "ab.npz")
    encoded = EncodedExamples([7, 8, 9], [2, 1], [1, 1], np.float32([0.1, np.nan]))
    cache.through_cache(path, NAMES, lambda: arrays_of(encoded))
    found = EncodedExamples.from_arrays(cache.through_cache(path, NAMES, refuse))
    for name in ("ids", "lengths", "lengths_a", "labels"):
        held, expected = getattr(found, name), getattr(encoded, name)
        assert held.dtype == expected.dtype
        np.testing.assert_array_equal(held, expected)


def test_without_a_path_nothing_is_kept(tmp_path, monkeypatch):
    monkeypatch.chdir(str(tmp_path))
    arrays, again = made(), made(labels=(1, 1))
    assert cache.through_cache(None, NAMES, lambda: arrays) is arrays
    assert cache.through_cache(None, NAMES, lambda: again) is again
    assert os.listdir(str(tmp_path)) == []


def test_what_is_returned_are_the_names_asked_for(tmp_path):
    path = str(tmp_path / "ab.npz")
    cache.through_cache(path, NAMES, made)
    assert sorted(cache.through_cache(path, ("lengths", "ids"), refuse)) == ["ids", "lengths"]


def test_two_paths_keep_their_own(tmp_path):
    paths = [str(tmp_path / name) for name in ("a.npz", "b.npz")]
    for path, label in zip(paths, (3, 4)):
        cache.through_cache(path, NAMES, lambda label=label: made(labels=(label,)))
    found = [cache.through_cache(path, NAMES, refuse)["labels"].tolist() for path in paths]
    assert found == [[3], [4]]
