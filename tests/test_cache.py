"""Tests of the cache: arrays are made once and reused, even if the cache folder is damaged."""

import json
import os
import shutil

import numpy as np
import pytest

from theseus import folder_lock
from theseus.errors import UserError
from theseus.inputs import cache
from theseus.inputs.encoding import EncodedExamples

NAMES = EncodedExamples.ARRAYS


def made(labels=(0,)):
    """Returns the arrays of a row of two tokens, or of one such row for each label."""
    count = len(labels)
    return {
        "ids": np.array([7, 8] * count, np.uint16),
        "lengths": np.array([2] * count, np.int32),
        "lengths_a": np.array([1] * count, np.int32),
        "lost": np.array([[3, 0]] * count, np.int32),
        "labels": np.array(labels, np.int32),
    }


def refuse():
    raise AssertionError("made again")


def assert_same(found, expected):
    assert sorted(found) == sorted(expected)
    for name, array in expected.items():
        assert found[name].dtype == array.dtype
        np.testing.assert_array_equal(found[name], array)


@pytest.fixture
def path(tmp_path):
    return str(tmp_path / "cache" / "ab")


def test_what_was_made_is_kept_and_found_again(path, tmp_path):
    first = cache.through_cache(path, NAMES, lambda: [made((1, -1))])
    again = cache.through_cache(path, NAMES, refuse)
    for found in (first, again):
        assert_same(found, made((1, -1)))
    assert os.listdir(str(tmp_path / "cache")) == ["ab"]


def test_parts_are_put_one_behind_the_other_kept_or_not(path):
    parts = [made((1, 0)), made((3,)), made((4, 5, 6))]
    for where in (path, None):
        assert_same(
            cache.through_cache(where, NAMES, lambda: iter(parts)), made((1, 0, 3, 4, 5, 6))
        )


def test_what_is_kept_is_mapped_not_read(path):
    found = cache.through_cache(path, NAMES, lambda: [made()])
    assert type(found["ids"]) is np.ndarray and isinstance(found["ids"].base, np.memmap)
    with pytest.raises(ValueError, match="read-only"):
        found["ids"][0] = 3


def test_numbers_and_rows_of_several_are_kept_as_they_were(path):
    arrays = {"logits": np.float32([[0.1, np.nan], [-0.0, np.inf]])}
    assert_same(cache.through_cache(path, ["logits"], lambda: [arrays]), arrays)
    assert_same(cache.through_cache(path, ["logits"], refuse), arrays)


def test_no_rows_are_kept_too(path):
    arrays = {"logits": np.zeros([0, 2], np.float32)}
    cache.through_cache(path, ["logits"], lambda: [arrays])
    assert_same(cache.through_cache(path, ["logits"], refuse), arrays)


def damage(change):
    """Returns a parameter: a function that alters arrays.json; `change` gets it as an object."""

    def damaged(path):
        with open(os.path.join(path, "arrays.json")) as reader:
            record = json.load(reader)
        with open(os.path.join(path, "arrays.json"), "w") as writer:
            json.dump(change(record), writer)

    return damaged


def rewrite(name, content):
    def damaged(path):
        with open(os.path.join(path, name), "wb") as writer:
            writer.write(content)

    return damaged


@pytest.mark.parametrize(
    "damaged",
    [
        rewrite("ids", b""),
        rewrite("ids", b"\x07\x00\x08"),
        rewrite("ids", b"\x07\x00\x09\x00"),
        rewrite("arrays.json", b""),
        rewrite("arrays.json", b"\xff"),
        rewrite("arrays.json", b"[" * 100000),
        lambda path: os.remove(os.path.join(path, "labels")),
        lambda path: os.remove(os.path.join(path, "arrays.json")),
        damage(lambda record: []),
        damage(lambda record: dict(record, ids=3)),
        damage(lambda record: {"ids": record["ids"]}),
        damage(lambda record: dict(record, ids=dict(record["ids"], dtype="object"))),
        damage(lambda record: dict(record, ids=dict(record["ids"], shape=[3]))),
        damage(lambda record: dict(record, ids=dict(record["ids"], shape=[]))),
    ],
)
def test_what_is_damaged_is_made_anew(path, damaged):
    cache.through_cache(path, NAMES, lambda: [made((1,))])
    damaged(path)
    assert_same(cache.through_cache(path, NAMES, lambda: [made((2,))]), made((2,)))
    assert_same(cache.through_cache(path, NAMES, refuse), made((2,)))


def test_what_cannot_be_written_is_done_without(tmp_path):
    (tmp_path / "file").write_text("")
    assert_same(cache.through_cache(str(tmp_path / "file" / "ab"), NAMES, lambda: [made()]), made())


def test_a_disk_that_fills_up_leaves_nothing(path, tmp_path, monkeypatch):
    def full(self, part):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(cache._Writer, "add", full)
    assert_same(cache.through_cache(path, NAMES, lambda: [made()]), made())
    assert os.listdir(str(tmp_path / "cache")) == []


def test_a_mistake_in_the_data_leaves_nothing(path, tmp_path):
    def mistaken():
        yield made()
        raise UserError("line 2")

    with pytest.raises(UserError, match="line 2"):
        cache.through_cache(path, NAMES, mistaken)
    assert os.listdir(str(tmp_path / "cache")) == []


def test_it_takes_its_name_when_it_is_whole(path):
    def watched():
        yield made()
        assert not os.path.exists(path)

    cache.through_cache(path, NAMES, watched)
    assert sorted(os.listdir(path)) == sorted(NAMES + ("arrays.json",))


def test_who_was_first_is_not_written_over(path, monkeypatch):
    """Two processes made the same arrays: the second one uses those that the first one stored."""
    rename = os.rename

    def second(temporary, place):
        shutil.copytree(temporary, place)
        rename(temporary, place)

    monkeypatch.setattr(cache.os, "rename", second)
    assert_same(cache.through_cache(path, NAMES, lambda: [made()]), made())
    monkeypatch.undo()
    assert_same(cache.through_cache(path, NAMES, refuse), made())


def test_without_a_path_nothing_is_kept(tmp_path, monkeypatch):
    monkeypatch.chdir(str(tmp_path))
    assert_same(cache.through_cache(None, NAMES, lambda: [made()]), made())
    assert_same(cache.through_cache(None, NAMES, lambda: [made((1, 1))]), made((1, 1)))
    assert os.listdir(str(tmp_path)) == []


def test_two_paths_keep_their_own(tmp_path):
    paths = [str(tmp_path / name) for name in ("a", "b")]
    for path, label in zip(paths, (3, 4)):
        cache.through_cache(path, NAMES, lambda label=label: [made((label,))])
    found = [cache.through_cache(path, NAMES, refuse)["labels"].tolist() for path in paths]
    assert found == [[3], [4]]


def test_what_a_killed_writer_has_left_goes_and_another_writers_stays(path):
    folder = os.path.dirname(path)
    left, mine = path + ".abcdefg1.tmp", path + ".abcdefg2.tmp"
    for place in (left, mine, path + ".mine", os.path.join(folder, "elsewhere")):
        os.makedirs(place)
        for name in ("ids", "arrays.json"):
            with open(os.path.join(place, name), "w") as writer:
                writer.write("x")
    with open(os.path.join(mine, "my thesis.doc"), "w") as writer:
        writer.write("x")
    os.symlink(os.path.join(folder, "elsewhere"), path + ".abcdefg3.tmp")
    with folder_lock.new(path, ".tmp") as written:
        cache.through_cache(path, NAMES, lambda: [made()])
        there = {os.path.join(folder, name) for name in os.listdir(folder)}
    links = {path + ".abcdefg3.tmp", os.path.join(folder, "elsewhere")}
    assert there == {path, written, mine, path + ".mine"} | links
    assert os.listdir(mine) == ["my thesis.doc"]
    assert len(os.listdir(os.path.join(folder, "elsewhere"))) == 2


@pytest.mark.parametrize("shape", [[1], [1, 2], [4], [2**31, 2**30], [0]])
def test_a_shape_that_is_not_the_files_is_not_taken(path, shape):
    cache.through_cache(path, NAMES, lambda: [made([1])])
    record = os.path.join(path, "arrays.json")
    with open(record) as reader:
        altered = json.load(reader)
    altered["ids"]["shape"] = shape
    with open(record, "w") as writer:
        json.dump(altered, writer)
    assert_same(cache.through_cache(path, NAMES, lambda: [made([0])]), made([0]))
