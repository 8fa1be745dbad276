"""Takes a test set of its own from the training data of a corpus whose test set is not at hand.

    python scripts/hold_out.py data/lcqmc data/lcqmc_held_out [--pairs=8000]

The last pairs of train are the test set, less those with a sentence that also occurs in the rest
of train or in dev; the rest is the new train, dev stays. Lines are copied as they are.
"""

import argparse
import os
import sys

from theseus.errors import UserError
from theseus.inputs import reading, tasks

TASK = tasks.TASKS["lcqmc_pair"]


def split(train, dev, count):
    """Returns (the rest of `train`, the held-out part), lists of Example.

    Args:
      train, dev: lists of reading.Example.
      count: int, the last examples of `train` that are looked at.
    """
    rest, last = train[:-count], train[-count:]
    known = {text for example in rest + dev for text in (example.text_a, example.text_b)}
    return rest, [example for example in last if not known & {example.text_a, example.text_b}]


def write(path, examples):
    """Writes examples as tab-separated lines."""
    with open(path, "w", encoding="utf-8", newline="\n") as writer:
        for example in examples:
            writer.write("\t".join([example.text_a, example.text_b, example.label]) + "\n")


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("source", help="folder with train and dev")
    parser.add_argument("target", help="folder that takes train.txt, dev.txt and test.txt")
    parser.add_argument("--pairs", type=int, default=8000, help="last pairs of train")
    arguments = parser.parse_args()
    try:
        train, dev = (
            reading.read_examples(reading.find_files(arguments.source, TASK, name)[0], TASK)
            for name in ("train", "dev")
        )
    except UserError as error:
        sys.exit("hold_out.py: %s" % error)
    if not 0 < arguments.pairs < len(train):
        sys.exit("hold_out.py: --pairs: give from 1 to %d" % (len(train) - 1))
    rest, test = split(train, dev, arguments.pairs)
    os.makedirs(arguments.target, exist_ok=True)
    for name, examples in (("train", rest), ("dev", dev), ("test", test)):
        write(os.path.join(arguments.target, name + ".txt"), examples)
        print("%s: %d pairs" % (name, len(examples)))


if __name__ == "__main__":
    main()
