"""Tests of the tiny BERT in data/, and of the inputs that its pretraining draws."""

import os
import random
import types

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
from theseus.inputs import reading, sources, tasks
from theseus.inputs.tokenizer_settings import TokenizerSettings

TINY_BERT = os.path.join(ROOT, "data", "tiny_bert")
SAMPLE = os.path.join(ROOT, "data", "sample")


def read_examples(split):
    path = sources.find_files(SAMPLE, tasks.TASKS["lcqmc_pair"], split)[0]
    return reading.read_examples(path, tasks.TASKS["lcqmc_pair"])


@pytest.fixture(scope="module")
def tokenizer():
    return pretrained.make_tokenizer(pretrained.read_model(TINY_BERT, 128), TokenizerSettings())


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
    sources = modeling_theseus.assign_sources([v.op.name for v in variables], held)
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


def test_an_epoch_holds_each_pair_in_both_orders_and_is_drawn_anew(corpus, monkeypatch):
    monkeypatch.setattr(pretrain_tiny_bert, "EXCHANGED_SHARE", 0.0)
    drawn = pretrain_tiny_bert.draw_epoch(corpus, "a")
    pairs = corpus.pairs + [pair[::-1] for pair in corpus.pairs]
    assert [row.target_ids for row in drawn] == [corpus.join(pair) for pair in pairs]
    assert not any(row.is_exchanged for row in drawn)
    assert drawn == pretrain_tiny_bert.draw_epoch(corpus, "a")
    keys = []
    monkeypatch.setattr(
        pretrain_tiny_bert, "draw_epoch", lambda corpus, key: keys.append(key) or drawn[:9]
    )
    for layers, epoch in [(3, 0), (3, 1), (6, 1)]:
        phase = pretrain_tiny_bert.Phase(layers, 1e-3, 2)
        list(pretrain_tiny_bert.draw_batches(corpus, phase, epoch))
    assert len(set(keys)) == 3


def test_only_pairs_that_mean_the_same_are_the_corpus(corpus, tokenizer):
    examples = read_examples("train")[:2000]
    same = [example for example in examples if example.label == "1"]
    assert len(corpus.pairs) == len(same) < len(examples)
    first = tokenizer.convert_tokens_to_ids(tokenizer.tokenize(same[0].text_a))
    assert list(corpus.pairs[0][0]) == first


def test_either_sentence_is_exchanged_for_another(corpus):
    rng = random.Random(1)
    places = []
    for pair in corpus.pairs[:200]:
        drawn = pretrain_tiny_bert.draw_input(corpus, rng, pair)
        end = len(pair[0]) + 2
        changed = [
            place
            for place, (found, target) in enumerate(zip(drawn.input_ids, drawn.target_ids))
            if found not in (target, corpus.mask)
        ]
        assert not changed or drawn.is_exchanged
        places += ["first" if place < end else "second" for place in changed]
    assert places.count("first") > 20 and places.count("second") > 20


def test_a_span_has_no_more_places_than_the_longest(monkeypatch):
    asked = []

    class Random(random.Random):
        def randint(self, low, high):
            asked.append((low, high))
            return super(Random, self).randint(low, high)

    pretrain_tiny_bert.draw_spans(Random(0), 60)
    assert set(asked) == {(1, pretrain_tiny_bert.LONGEST_SPAN)}


def test_padding_is_no_token_no_target_and_not_attended_to():
    rows = [
        pretrain_tiny_bert.Input([2, 7, 3], [1, 1, 1], [0, 0, 1], [2, 8, 3], [0, 1, 0], 1),
        pretrain_tiny_bert.Input([2, 3], [1, 1], [0, 0], [2, 3], [1, 0], 0),
    ]
    found = pretrain_tiny_bert.pad(rows, 4)
    assert found.input_ids.tolist() == [[2, 7, 3, 0], [2, 3, 0, 0]]
    assert found.input_mask.tolist() == [[1, 1, 1, 0], [1, 1, 0, 0]]
    assert found.is_target.tolist() == [[0, 1, 0, 0], [1, 0, 0, 0]]
    assert found.is_exchanged.tolist() == [1, 0]


def test_each_phase_goes_on_from_the_one_before(tmp_path, monkeypatch):
    """The phases' weights, each a name and a number, in place of trainings."""
    started, saved = [], []

    def train(phase, config, corpus, weights):
        started.append((phase.num_layers, config.num_hidden_layers, dict(weights)))
        return {"bert/encoder/layer_%d/k" % n: phase.num_layers for n in range(phase.num_layers)}

    monkeypatch.setattr(pretrain_tiny_bert, "train", train)
    monkeypatch.setattr(pretrain_tiny_bert, "save", lambda *given: saved.append(given[2]))
    values = types.SimpleNamespace(data_dir=SAMPLE, output_dir=str(tmp_path))
    monkeypatch.setattr(pretrain_tiny_bert, "FLAGS", values)
    monkeypatch.setattr(pretrain_tiny_bert, "Corpus", lambda *_: None)
    monkeypatch.setattr(pretrain_tiny_bert.logging, "set_verbosity", lambda _: None)
    pretrain_tiny_bert.main([])
    names = ["bert/encoder/layer_%d/k" % n for n in range(12)]
    assert started == [
        (3, 3, {}),
        (6, 6, dict.fromkeys(names[:6], 3)),
        (12, 12, dict.fromkeys(names, 6)),
    ]
    assert saved == [dict.fromkeys(names, 12)]
    for name in ("vocab.txt", "bert_config.json"):
        with open(os.path.join(TINY_BERT, name), "rb") as reader:
            assert (tmp_path / name).read_bytes() == reader.read()


def test_pretraining_has_no_dropout_and_the_bert_that_is_kept_has(tmp_path):
    config = pretrain_tiny_bert.write_config(str(tmp_path), 100)
    assert config.hidden_dropout_prob == config.attention_probs_dropout_prob == 0.0
    kept = modeling_theseus.BertConfig.from_json_file(str(tmp_path / "bert_config.json"))
    assert kept.hidden_dropout_prob == kept.attention_probs_dropout_prob == 0.1


def test_both_losses_train_and_only_targets_are_predicted(session):
    values = dict(pretrain_tiny_bert.CONFIG, vocab_size=30, hidden_size=8, intermediate_size=8)
    values.update(num_hidden_layers=1, hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0)
    config = modeling_theseus.BertConfig.from_dict(values)
    placeholders, metrics, train_op = pretrain_tiny_bert.build_graph(config, 20, 1e-2, 9)
    session.run(tf.global_variables_initializer())
    row = pretrain_tiny_bert.Input([2, 7, 9, 3], [1] * 4, [0] * 4, [2, 8, 9, 3], [0, 1, 0, 0], 1)
    batch = pretrain_tiny_bert.pad([row, row._replace(is_exchanged=0)], 4)
    feed = dict(zip(placeholders, batch))
    names = ("cls/predictions/output_bias", "cls/seq_relationship/bias")
    held = {v.op.name: v for v in tf.trainable_variables()}
    before = session.run([metrics, {name: held[name] for name in names}], feed)
    # Other targets where nothing is to be predicted change nothing.
    other = dict(feed)
    other[placeholders.target_ids] = np.where(batch.is_target, batch.target_ids, 11)
    assert session.run(metrics, other) == before[0]
    # A pair and the same one exchanged cancel out: the bias moves with one of them alone.
    one = dict(zip(placeholders, pretrain_tiny_bert.pad([row], 4)))
    session.run(train_op, one)
    after = session.run({name: held[name] for name in names})
    for name in names:
        assert np.abs(after[name] - before[1][name]).max() > 1e-4, name
