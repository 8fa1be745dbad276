"""Estimates how long commands will take on this machine; theseus/cost.py is the cost model."""

from __future__ import annotations

import math
import random
from typing import TYPE_CHECKING, Iterable, Iterator, NamedTuple, Sequence

from theseus import cost
from theseus.inputs import encoding, reading

if TYPE_CHECKING:
    from theseus.commands.data import Data
    from theseus.config.config import Config
    from theseus.inputs.reading import Example
    from theseus.model.bert_config import BertConfig
    from tokenization import FullTokenizer

# This many examples give the mean length to within a few percent.
_SAMPLE = 500
# Seconds of a training apart from its steps: imports, graph, compilation, checkpoints.
START_SECONDS = 20
# Seconds to export in one number type: writing, checking, timing.
EXPORT_SECONDS = 10


class Sizes(NamedTuple):
    """How many examples of each kind there are, and the mean tokens of a training example."""

    train: int
    unlabelled: int
    dev: int
    test: int
    length: float


def count(
    data: Data, tokenizer: FullTokenizer, config: Config, unlabelled: str, num_test: int
) -> Sizes:
    """Counts the examples of a Data.

    Args:
      data: the Data.
      tokenizer: encodes a sample of train.
      config: the Config of a training.
      unlabelled: path of a file of examples without labels; "" for none.
      num_test: int, the number of examples of test that are scored.
    """

    def examples(path: str, labels_required: bool) -> Iterator[Example]:
        return reading.iterate_examples(path, data.task, labels_required, data.form)

    total, sample = _sample(examples(data.paths("train")[0], True))
    encoded = encoding.encode_examples(sample, data.task, tokenizer, config.max_seq_length)
    return Sizes(
        min(total, config.max_train_examples or total),
        sum(1 for _ in examples(unlabelled, False)) if unlabelled else 0,
        len(data.dev().examples),
        num_test,
        config.max_seq_length if config.pad_to_max_length else float(encoded.lengths.mean()),
    )


def _sample(examples: Iterable[Example]) -> tuple[int, list[Example]]:
    """Returns (the number of examples, a random sample of them), reading them once."""
    sample: list[Example] = []
    total, draw = 0, random.Random(0).random
    for total, example in enumerate(examples, 1):
        if total <= _SAMPLE:
            sample.append(example)
        elif draw() * total < _SAMPLE:
            sample[int(draw() * _SAMPLE)] = example
    return total, sample


def line(commands: Sequence[tuple[str, Config]], bert: BertConfig, sizes: Sizes) -> str:
    """Returns one line on how long commands will take on this machine.

    Args:
      commands: (title, Config) of each; the logits of a teacher are computed once for all of them.
      bert: the shape of the BERT that the commands compress.
      sizes: the Sizes of the data.
    """
    if not commands:
        return "estimate: nothing is left to train"
    on, parts, total, teachers = cost.here(), [], 0.0, set()
    for title, config in commands:
        seconds = command_seconds(config, bert, sizes, on)
        if config.distill_from and config.distill_from not in teachers:
            teachers.add(config.distill_from)
            work = _work(config, bert, sizes, bert.num_hidden_layers)
            seconds += _rows(config, sizes) * cost.forward_seconds(work, on) / work.batch_size
        total += seconds
        if config.do_train:
            parts.append((title, seconds))
    unit, name = next(pair for pair in _UNITS if total >= 1.5 * pair[0] or pair[0] == 60)
    shown = ["%s: %s" % (title, _digit(seconds / unit)) for title, seconds in parts]
    form = "estimate: about %s %s here without a GPU, if nothing else runs"
    return form % (_digit(total / unit), name) + (" (%s)" % "; ".join(shown) if shown else "")


_UNITS = ((86400, "days"), (3600, "hours"), (60, "minutes"))


def _digit(number: float) -> str:
    """Returns a number as text, rounded to one significant digit."""
    return "%g" % float("%.1g" % number)


def command_seconds(config: Config, bert: BertConfig, sizes: Sizes, on: cost.Machine) -> float:
    """Returns the seconds of a command on a Machine, without those for its teacher's logits."""
    layers = config.suc_layers if config.stage.has_successor else bert.num_hidden_layers
    work = _work(config, bert, sizes, layers)
    answer = cost.forward_seconds(work, on) / work.batch_size
    seconds = len(config.quantize) * (EXPORT_SECONDS + (sizes.dev + sizes.test) * answer)
    if config.do_train:
        _, steps = config.num_steps(_rows(config, sizes))
        seconds += START_SECONDS + steps * cost.training_seconds(work, on)
        seconds += math.ceil(config.num_train_epochs) * sizes.dev * answer
    return seconds


def _rows(config: Config, sizes: Sizes) -> int:
    return sizes.train + (sizes.unlabelled if config.unlabelled_file else 0)


def _work(config: Config, bert: BertConfig, sizes: Sizes, layers: int) -> cost.Work:
    batch_size, precision = config.train_batch_size, config.training_precision
    return cost.Work(bert, layers, sizes.length, batch_size, precision)
