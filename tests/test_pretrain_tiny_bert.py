"""The tiny BERT that is kept, and the inputs that its pretraining draws."""

import os
import random

import numpy as np
import pytest
import tensorflow.compat.v1 as tf
from absl import flags
from absl.testing import flagsaver

import modeling_theseus
import pretrain_tiny_bert
import run_classifier
from conftest import ROOT
from theseus.checkpoints import pretrained, weights
from theseus.inputs import reading, tasks
from theseus.model import variable_names

TINY_BERT = os.path.join(ROOT, "data", "tiny_bert")
SAMPLE = os.path.join(ROOT, "data", "sample")


def read_examples(split):
    path = reading.find_files(SAMPLE, tasks.TASKS["lcqmc_pair"], split)[0]
    return reading.read_examples(path, tasks.TASKS["lcqmc_pair"])


@pytest.fixture(scope="module")
def tokenizer():
    return pretrained.make_tokenizer(pretrained.read_model(TINY_BERT, 128), True)


@pytest.fixture(scope="module")
def corpus(tokenizer):
    return pretrain_tiny_bert.Corpus(read_examples("train")[:2000], tokenizer)


# --- What is kept ---


def test_the_tiny_bert_is_a_small_bert_of_12_layers():
    config = pretrained.read_model(TINY_BERT, 128).config
    assert config.num_hidden_layers == 12
    assert config.hidden_size <= 128 and config.vocab_size <= 4000
    assert config.hidden_act == "gelu_tanh" and config.type_vocab_size == 2
    files = [os.path.join(TINY_BERT, name) for name in os.listdir(TINY_BERT)]
    assert sum(os.path.getsize(path) for path in files) < 12e6


def test_its_checkpoint_fills_a_bert(session):
    config = pretrained.read_model(TINY_BERT, 128).config
    modeling_theseus.BertModel(config, False, tf.placeholder(tf.int32, [None, None]))
    variables = tf.trainable_variables()
    held = weights.CheckpointWeights(weights.find_checkpoint(TINY_BERT))
    sources = variable_names.assign_sources([v.op.name for v in variables], held)
    fit = weights.match(variables, held, sources)
    assert (fit.missing, fit.unused) == ([], [])


def test_its_vocabulary_knows_the_sample(tokenizer):
    for split in ("train", "dev", "test"):
        for example in read_examples(split):
            assert "[UNK]" not in tokenizer.tokenize(example.text_a + example.text_b)


def test_the_recommended_flags_are_flags():
    path = os.path.join(TINY_BERT, "recommended.flags")
    if not flags.FLAGS.is_parsed():
        flags.FLAGS(["run_classifier.py", "--do_eval"])
    with flagsaver.flagsaver():
        flags.FLAGS.unparse_flags()
        assert run_classifier.parse_flags(["x", "--do_train", "--flagfile=" + path]) == ["x"]
        assert flags.FLAGS.learning_rate != flags.FLAGS["learning_rate"].default


# --- What pretraining sees ---


def test_a_neighbour_differs_in_one_span(corpus):
    rng = random.Random(0)
    found = 0
    for sentence, _ in corpus.pairs[:200]:
        neighbour = corpus.neighbour(rng, sentence)
        assert len(neighbour) == len(sentence)
        places = [n for n, (x, y) in enumerate(zip(sentence, neighbour)) if x != y]
        if places:
            found += 1
            assert places[-1] - places[0] < pretrain_tiny_bert.LONGEST_SPAN
    assert found > 100


def test_an_input_says_what_was_done_to_a_pair(corpus):
    rng = random.Random(0)
    labels, masked, kept = [], 0, 0
    for pair in corpus.pairs[:200]:
        drawn = pretrain_tiny_bert.draw_input(corpus, rng, pair)
        assert drawn.target_ids == corpus.join(pair)
        assert len({len(column) for column in drawn[:5]}) == 1
        assert drawn.segment_ids == [0] * (len(pair[0]) + 2) + [1] * (len(pair[1]) + 1)
        for found, target, is_target in zip(drawn.input_ids, drawn.target_ids, drawn.is_target):
            assert is_target or found == target
            assert found == target or target not in corpus.separators
            assert found in (target, corpus.mask) or drawn.is_exchanged
            masked += found == corpus.mask
            kept += is_target and found == target
        labels.append(drawn.is_exchanged)
    assert 0.3 < sum(labels) / 200.0 < 0.6
    tokens = sum(len(corpus.join(pair)) for pair in corpus.pairs[:200])
    assert 0.1 < masked / tokens < 0.3 and 0.05 < kept / tokens < 0.15


def test_a_small_bert_is_pretrained_stacked_and_saved(corpus, tokenizer, tmp_path, monkeypatch):
    monkeypatch.setattr(corpus, "pairs", corpus.pairs[:70])
    config = pretrain_tiny_bert.write_config(str(tmp_path), len(tokenizer.vocab))
    held = {}
    for num_layers in (1, 2):
        config.num_hidden_layers = num_layers
        phase = pretrain_tiny_bert.Phase(num_layers, 1e-3, epochs=1)
        stacked = pretrain_tiny_bert.stack(held, num_layers)
        held = pretrain_tiny_bert.train(phase, config, corpus, stacked)
    pretrain_tiny_bert.save(str(tmp_path), config, held)
    saved = weights.CheckpointWeights(weights.find_checkpoint(str(tmp_path)))
    assert set(saved) == {name for name in held if name.startswith("bert/")}
    for name in saved:
        np.testing.assert_array_equal(saved[name], held[name])
    layer = "bert/encoder/layer_%d/attention/self/query/kernel"
    assert np.abs(stacked[layer % 0] - stacked[layer % 1]).max() == 0
    assert np.abs(held[layer % 0] - stacked[layer % 0]).max() > 0


def test_spans_hold_at_least_their_share():
    rng = random.Random(0)
    for length in (5, 27, 60):
        drawn = [len(pretrain_tiny_bert.draw_spans(rng, length)) for _ in range(50)]
        low = pretrain_tiny_bert.MASKED_SHARE * length
        assert all(low <= count < low + pretrain_tiny_bert.LONGEST_SPAN for count in drawn)


def test_a_stacked_bert_repeats_its_layers():
    held = {"bert/encoder/layer_%d/k" % n: n for n in range(3)}
    held["bert/pooler/k"] = 9
    stacked = pretrain_tiny_bert.stack(held, 6)
    layers = [stacked["bert/encoder/layer_%d/k" % n] for n in range(6)]
    assert layers == [0, 1, 2, 0, 1, 2]
    assert stacked["bert/pooler/k"] == 9 and len(stacked) == 7
    assert pretrain_tiny_bert.stack({}, 3) == {}
