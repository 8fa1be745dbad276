"""Pretrains data/tiny_bert on the training sentences of data/sample.

  python data/pretrain_tiny_bert.py [--output_dir=data/tiny_bert]

An input is a training pair that means the same, as a document holds sentences of one matter
beside each other. In half of the inputs one sentence is exchanged for another of the sample that
differs from it in one span; now and then that one means the same. The objectives are BERT's:

  masked language model   predicts what was there, where a span is masked, where a sentence was
                          exchanged (as MacBERT, arXiv 2004.13922, masks with similar words),
                          and at some places where nothing was done;
  next sentence           tells an exchanged sentence from the pair's own.

A BERT of 3 layers is trained first and stacked upon itself twice (Gong et al., Efficient
Training of BERT by Progressively Stacking, ICML 2019). Takes 15 minutes on two cores. Only
train.txt is read.
"""

import collections
import io
import json
import os
import random

import numpy as np
import tensorflow.compat.v1 as tf
from absl import app, flags, logging
from tqdm import tqdm

import modeling_theseus
import optimization_theseus
from theseus.checkpoints import weights as weights_lib
from theseus.inputs import batches, reading, sources, tasks
from theseus.model import layers
from theseus.session import set_up_tensorflow
from tokenization import FullTokenizer

FLAGS = flags.FLAGS

CONFIG = {
    "hidden_size": 128,
    "num_hidden_layers": 12,
    "num_attention_heads": 4,
    "intermediate_size": 256,
    "hidden_act": "gelu",
    "hidden_dropout_prob": 0.1,
    "attention_probs_dropout_prob": 0.1,
    "max_position_embeddings": 128,
    "type_vocab_size": 2,
    "initializer_range": 0.04,
}
SPECIAL_TOKENS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]

Phase = collections.namedtuple("Phase", "num_layers learning_rate epochs")
PHASES = [Phase(3, 1e-3, 40), Phase(6, 5e-4, 4), Phase(12, 5e-4, 4)]
SEED = 2020
BATCH_SIZE = 64
EXCHANGED_SHARE = 0.5  # Of the inputs; as in BERT.
MASKED_SHARE = 0.15  # Of the tokens, in spans; as in BERT.
KEPT_SHARE = 0.1  # Of the tokens: predicted though nothing was done to them.
LONGEST_SPAN = 4


def main(argv):
    del argv
    set_up_tensorflow()
    logging.set_verbosity(logging.INFO)
    logging.get_absl_handler().setFormatter(None)
    task = tasks.TASKS["lcqmc_pair"]
    path = sources.find_files(FLAGS.data_dir, task, "train")[0]
    examples = reading.read_examples(path, task)
    os.makedirs(FLAGS.output_dir, exist_ok=True)
    tokenizer = write_vocabulary(FLAGS.output_dir, examples)
    config = write_config(FLAGS.output_dir, len(tokenizer.vocab))
    corpus = Corpus(examples, tokenizer)
    weights = {}
    for phase in PHASES:
        config.num_hidden_layers = phase.num_layers
        weights = train(phase, config, corpus, stack(weights, phase.num_layers))
    save(FLAGS.output_dir, config, weights)


def write_vocabulary(folder, examples):
    """Writes vocab.txt: ASCII, the characters of the sample, and the commonest of Chinese.

    Returns:
      The FullTokenizer.
    """
    ascii_characters = [chr(code) for code in range(0x21, 0x7F)]
    # The first level of GB 2312, its rows 16 to 55, holds the 3,755 most used characters.
    cells = [bytes([0xA0 + row, 0xA0 + cell]) for row in range(16, 56) for cell in range(1, 95)]
    common = [cell.decode("gb2312", "ignore") for cell in cells]
    sample = sorted({c for example in examples for c in example.text_a + example.text_b})
    tokens = collections.OrderedDict.fromkeys(SPECIAL_TOKENS + ascii_characters + sample + common)
    tokens.pop("", None)
    path = os.path.join(folder, "vocab.txt")
    with io.open(path, "w", encoding="utf-8", newline="\n") as writer:
        writer.writelines(token + "\n" for token in tokens)
    return FullTokenizer(path)


def write_config(folder, vocab_size):
    """Writes bert_config.json; returns the BertConfig, without dropout."""
    values = dict(CONFIG, vocab_size=vocab_size)
    with io.open(os.path.join(folder, "bert_config.json"), "w") as writer:
        writer.write(json.dumps(values, indent=2, sort_keys=True) + "\n")
    values.update(hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0)
    return modeling_theseus.BertConfig.from_dict(values)


# --- Inputs ---


Input = collections.namedtuple(
    "Input", "input_ids input_mask segment_ids target_ids is_target is_exchanged"
)
"""An input, or a batch of them: BERT's features, what to predict and where, and the label.

Lists of int, and an int; padded: int32 [B, T], and [B].
"""


class Corpus(object):
    """The pairs that mean the same, and for each sentence those that differ in one span."""

    def __init__(self, examples, tokenizer):
        """Takes labelled examples; sentences of all of them may stand in for another."""

        def ids(text):
            return tuple(tokenizer.convert_tokens_to_ids(tokenizer.tokenize(text)))

        self.pairs = [(ids(e.text_a), ids(e.text_b)) for e in examples if e.label == "1"]
        self.separators = tokenizer.convert_tokens_to_ids(["[CLS]", "[SEP]"])
        self.mask = tokenizer.vocab["[MASK]"]
        self.num_tokens = 1 + max(max(a + b) for a, b in self.pairs)
        self._neighbours = collections.defaultdict(list)
        sentences = {ids(text) for e in examples for text in (e.text_a, e.text_b)}
        for sentence in sorted(sentences):
            for hole in _holes(sentence):
                self._neighbours[hole].append(sentence)

    def join(self, pair):
        """Returns the token ids of [CLS] a [SEP] b [SEP], a list."""
        cls, sep = self.separators
        return [cls] + list(pair[0]) + [sep] + list(pair[1]) + [sep]

    def neighbour(self, rng, sentence):
        """Returns a random sentence that differs in one span, or `sentence` if none is found."""
        holes = list(_holes(sentence))
        rng.shuffle(holes)
        for hole in holes:
            if len(self._neighbours[hole]) > 1:
                return rng.choice([s for s in self._neighbours[hole] if s != sentence])
        return sentence


def _holes(sentence):
    """Yields the sentence with each span of up to LONGEST_SPAN tokens left out."""
    for length in range(1, LONGEST_SPAN + 1):
        for start in range(len(sentence) - length + 1):
            yield start, length, sentence[:start] + sentence[start + length :]


def draw_epoch(corpus, key):
    """Returns an epoch's inputs, a list: each pair twice, once in each order."""
    rng = random.Random(key)
    pairs = corpus.pairs + [pair[::-1] for pair in corpus.pairs]
    return [draw_input(corpus, rng, pair) for pair in pairs]


def draw_input(corpus, rng, pair):
    """Returns a pair of sentences, corrupted, as an Input."""
    found = list(pair)
    if rng.random() < EXCHANGED_SHARE:
        side = rng.randrange(2)
        found[side] = corpus.neighbour(rng, pair[side])
    is_exchanged = int(tuple(found) != pair)
    target_ids, input_ids = corpus.join(pair), corpus.join(found)
    is_target = [x != y for x, y in zip(input_ids, target_ids)]
    for place in draw_spans(rng, len(input_ids)):
        if input_ids[place] not in corpus.separators:
            input_ids[place], is_target[place] = corpus.mask, True
    kept = [rng.random() < KEPT_SHARE for _ in input_ids]
    is_target = [a or b for a, b in zip(is_target, kept)]
    segment_ids = [0] * (len(pair[0]) + 2) + [1] * (len(pair[1]) + 1)
    return Input(input_ids, [1] * len(input_ids), segment_ids, target_ids, is_target, is_exchanged)


def draw_spans(rng, length):
    """Draws spans that hold MASKED_SHARE of the places; returns the set of places."""
    places = set()
    while len(places) < MASKED_SHARE * length:
        start = rng.randrange(length)
        places.update(range(start, min(length, start + rng.randint(1, LONGEST_SPAN))))
    return places


def pad(inputs, length):
    """Returns a list of inputs as one Input of arrays, padded with 0 to `length`."""

    def padded(rows):
        return np.array([list(row) + [0] * (length - len(row)) for row in rows], np.int32)

    *columns, is_exchanged = zip(*inputs)
    return Input(*[padded(column) for column in columns], np.array(is_exchanged, np.int32))


# --- The model ---


def build_graph(config, num_candidates, learning_rate, num_steps):
    """Builds the graph; `num_candidates` first tokens of the vocabulary are predicted.

    Returns:
      (placeholders, metrics, train_op): an Input; a dict from name to float32 scalar; the
      operation that trains a step.
    """
    placeholders = Input(*[tf.placeholder(tf.int32, [None] * n) for n in (2, 2, 2, 2, 2, 1)])
    model = modeling_theseus.BertModel(config, False, *placeholders[:3])
    tokens = masked_lm_metrics(model, config, num_candidates, placeholders)
    sentences = next_sentence_metrics(model, config, placeholders.is_exchanged)
    train_op = optimization_theseus.create_optimizer_for_bert_theseus(
        tokens[0] + sentences[0], learning_rate, num_steps, num_warmup_steps=num_steps // 20
    )
    names = ("token loss", "token accuracy", "sentence loss", "sentence accuracy")
    return placeholders, collections.OrderedDict(zip(names, tokens + sentences)), train_op


def masked_lm_metrics(model, config, num_candidates, placeholders):
    """Returns (loss, accuracy) of the predicted tokens.

    Source: google-research/bert, run_pretraining.get_masked_lm_output, with its names.
    """
    places = tf.where(tf.cast(placeholders.is_target, tf.bool))
    hidden = tf.gather_nd(model.get_sequence_output(), places)
    with tf.variable_scope("cls/predictions"):
        with tf.variable_scope("transform"):
            hidden = layers.dense(hidden, config.hidden_size, config, "dense")
            hidden = layers.get_activation(config.hidden_act)(hidden)
            hidden = layers.layer_norm(hidden)
        zeros = tf.zeros_initializer()
        bias = tf.get_variable("output_bias", [num_candidates], initializer=zeros)
    table = model.get_embedding_table()[:num_candidates]
    logits = tf.matmul(hidden, table, transpose_b=True) + bias
    return loss_and_accuracy(logits, tf.gather_nd(placeholders.target_ids, places))


def next_sentence_metrics(model, config, is_exchanged):
    """Returns (loss, accuracy) of telling an exchanged sentence from the pair's own.

    Source: google-research/bert, run_pretraining.get_next_sentence_output.
    """
    with tf.variable_scope("cls"):
        pooled = model.get_pooled_output()
        logits = layers.dense(pooled, 2, config, "seq_relationship")
    return loss_and_accuracy(logits, is_exchanged)


def loss_and_accuracy(logits, labels):
    """Returns (mean cross entropy, accuracy) for float32 [X, C] and int32 [X]."""
    losses = tf.nn.sparse_softmax_cross_entropy_with_logits(labels=labels, logits=logits)
    is_right = tf.equal(tf.argmax(logits, 1, output_type=tf.int32), labels)
    return tf.reduce_mean(losses), tf.reduce_mean(tf.cast(is_right, tf.float32))


def stack(weights, num_layers):
    """Returns weights for `num_layers`, those at hand stacked upon themselves.

    Args:
      weights: dict from name to array, of a BERT with fewer layers; may be empty.
      num_layers: int.
    """
    held = len({name.split("/")[2] for name in weights if name.startswith("bert/encoder/")})
    stacked = dict(weights)
    for number in range(held, num_layers) if held else ():
        source = "/layer_%d/" % (number % held)
        for name in weights:
            if source in name:
                stacked[name.replace(source, "/layer_%d/" % number)] = weights[name]
    return stacked


def train(phase, config, corpus, weights):
    """Trains a phase, from `weights` unless they are empty; returns all weights as a dict."""
    steps_per_epoch = -(-2 * len(corpus.pairs) // BATCH_SIZE)
    with tf.Graph().as_default(), tf.Session() as session:
        tf.set_random_seed(SEED)
        placeholders, metrics, train_op = build_graph(
            config, corpus.num_tokens, phase.learning_rate, phase.epochs * steps_per_epoch
        )
        variables = tf.trainable_variables()
        sources = {v.op.name: v.op.name for v in variables} if weights else {}
        weights_lib.load(session, tf.global_variables(), weights, sources)
        for epoch in range(phase.epochs):
            values = [
                session.run([metrics, train_op], dict(zip(placeholders, batch)))[0]
                for batch in draw_batches(corpus, phase, epoch)
            ]
            means = ["%s %.4f" % (name, np.mean([v[name] for v in values])) for name in metrics]
            place = "%d layers, epoch %d/%d" % (phase.num_layers, epoch + 1, phase.epochs)
            logging.info("%s: %s", place, ", ".join(means))
        return dict(zip([v.op.name for v in variables], session.run(variables)))


def save(folder, config, weights):
    """Writes the BERT, without the heads of its pretraining, as `folder`/bert_model.ckpt."""
    with tf.Graph().as_default(), tf.Session() as session:
        modeling_theseus.BertModel(config, False, tf.placeholder(tf.int32, [None, None]))
        variables = tf.trainable_variables()
        weights_lib.load(session, variables, weights, {v.op.name: v.op.name for v in variables})
        prefix = os.path.join(folder, "bert_model.ckpt")
        tf.train.Saver(variables).save(session, prefix, write_meta_graph=False, write_state=False)


def draw_batches(corpus, phase, epoch):
    """Returns an iterator over an epoch's batches, with a progress bar on a terminal."""
    inputs = draw_epoch(corpus, "%d %d %d" % (SEED, phase.num_layers, epoch))
    lengths = np.array([len(row.input_ids) for row in inputs])
    plan = batches.plan_epoch(lengths, BATCH_SIZE, SEED, epoch)
    for rows in tqdm(plan, disable=None):
        yield pad([inputs[row] for row in rows], int(lengths[rows].max()))


if __name__ == "__main__":
    flags.DEFINE_string("data_dir", "data/sample", "Folder with train.")
    flags.DEFINE_string("output_dir", "data/tiny_bert", "Folder to write to.")
    app.run(main)
