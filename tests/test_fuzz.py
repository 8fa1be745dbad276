"""Tests altered files, the same ones in each run: a reader accepts one or refuses it in a line."""

import pytest

from faults import fuzz

READERS = fuzz.readers()


@pytest.mark.parametrize("reader", READERS, ids=[reader.name for reader in READERS])
def test_an_altered_file_is_read_or_refused_in_one_line(tmp_path, reader):
    if reader.name.endswith(".safetensors"):
        pytest.importorskip("safetensors")
    taken, refused = fuzz.fuzz(reader, str(tmp_path), 60)
    # A cache, and what a config of a tokenizer says beside its case, are never refused.
    assert refused or reader.name == "arrays.json"
    assert taken + refused >= 50


def test_an_altered_checkpoint_is_read_or_refused_in_one_line(tmp_path):
    for reader in fuzz.checkpoint_readers(str(tmp_path)):
        assert fuzz.fuzz(reader, str(tmp_path), 60)[1]
