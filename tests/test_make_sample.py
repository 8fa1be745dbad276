"""Tests of the sample: its script writes the same files; counting characters does not solve it."""

import collections
import io
import os
import types

import numpy as np
import pytest
from sklearn.feature_extraction.text import CountVectorizer
from sklearn.linear_model import LogisticRegression

import make_sample
from conftest import ROOT

SAMPLE = os.path.join(ROOT, "data", "sample")


def read(split):
    with io.open(os.path.join(SAMPLE, split + ".txt"), encoding="utf-8", newline="\n") as reader:
        return [tuple(line.rstrip("\n").split("\t")) for line in reader]


@pytest.fixture(scope="module")
def splits():
    return {split: read(split) for split in make_sample.SIZES}


def sentences(pairs):
    return {text for pair in pairs for text in pair[:2]}


def test_the_script_draws_the_pairs_that_are_kept(splits):
    assert make_sample.make_splits() == splits


def test_each_name_occurs_in_train(splits):
    text = "\n".join(sorted(sentences(splits["train"])))
    for kind in make_sample.KINDS:
        for names in kind.intents + kind.things:
            assert len(names) > 1 and all(name in text for name in names)


def test_a_question_of_dev_is_not_in_train_with_another_opening_or_ending(splits):
    """Without these words, only the question itself is left of a sentence."""

    def cores(split):
        stripped = set()
        for text in sentences(splits[split]):
            opening = max((o for o in make_sample.OPENINGS if text.startswith(o)), key=len)
            ending = max((e for e in make_sample.ENDINGS if text.endswith(e)), key=len)
            stripped.add(text[len(opening) : len(text) - len(ending)])
        return stripped

    train, dev, test = [cores(split) for split in ("train", "dev", "test")]
    assert len(dev) > 300 and not train & dev and not train & test and not dev & test


def test_each_split_has_its_size_and_as_many_of_each_label(splits):
    for split, size in [("train", 8000), ("dev", 1000), ("test", 1000)]:
        labels = collections.Counter(label for _, _, label in splits[split])
        assert labels == {"0": size // 2, "1": size // 2}
        assert len({frozenset(pair[:2]) for pair in splits[split]}) == size


def test_no_sentence_is_in_two_splits(splits):
    train, dev, test = [sentences(splits[split]) for split in ("train", "dev", "test")]
    assert not train & dev and not train & test and not dev & test


def shared(text_a, text_b):
    """Returns the share of two texts' characters that occur in both."""
    common = collections.Counter(text_a) & collections.Counter(text_b)
    return 2.0 * sum(common.values()) / (len(text_a) + len(text_b))


def test_negatives_share_most_characters_and_paraphrases_share_few(splits):
    for pairs in splits.values():
        mean = {
            label: np.mean([shared(a, b) for a, b, other in pairs if other == label])
            for label in "01"
        }
        assert mean["0"] > 0.55 and mean["1"] < 0.45


@pytest.mark.parametrize("inverse_penalty", [0.03, pytest.param(1.0, marks=pytest.mark.long)])
def test_a_bag_of_characters_stays_under_three_quarters(splits, inverse_penalty):
    """Counts of both sentences together, of what they share and of what they do not."""
    counter = CountVectorizer(analyzer="char").fit(sorted(sentences(splits["train"])))

    def features(pairs):
        a, b = [counter.transform([pair[n] for pair in pairs]).toarray() for n in (0, 1)]
        overlap = [[shared(*pair[:2])] for pair in pairs]
        return np.hstack([a + b, np.minimum(a, b), np.abs(a - b), overlap])

    def labels(pairs):
        return [label for _, _, label in pairs]

    train, dev = splits["train"], splits["dev"]
    model = LogisticRegression(C=inverse_penalty, max_iter=500).fit(features(train), labels(train))
    assert model.score(features(train), labels(train)) > 0.6
    assert model.score(features(dev), labels(dev)) < 0.75


def test_the_files_are_written_as_they_are_kept(tmp_path, monkeypatch, splits):
    monkeypatch.setattr(make_sample, "make_splits", lambda: splits)
    monkeypatch.setattr(
        make_sample, "FLAGS", types.SimpleNamespace(output_dir=str(tmp_path / "new"))
    )
    make_sample.main([])
    for split in splits:
        with open(os.path.join(SAMPLE, split + ".txt"), "rb") as reader:
            assert (tmp_path / "new" / (split + ".txt")).read_bytes() == reader.read()
