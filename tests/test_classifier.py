"""What the processor and TensorFlow can compute in."""

import io

import pytest

import classifier

CPU_INFO = "processor\t: 0\nflags\t\t: fpu %s avx2\npower management:\n"


@pytest.mark.parametrize("features, is_warned", [("avx512_bf16", False), ("avx512f", True)])
def test_a_processor_without_bfloat16_is_warned_of(monkeypatch, features, is_warned):
    warnings = []
    monkeypatch.setattr(classifier.logging, "warning", warnings.append)
    monkeypatch.setattr(classifier.tf, "__version__", "2.21.0")
    monkeypatch.setattr(classifier.io, "open", lambda *_, **__: io.StringIO(CPU_INFO % features))
    classifier.check_precision("float32")
    assert not warnings
    classifier.check_precision("bfloat16")
    assert bool(warnings) == is_warned
