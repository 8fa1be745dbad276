"""Splits a test set off the training data, for a corpus without an available test set.

    python scripts/hold_out.py data/lcqmc data/lcqmc_held_out [--pairs=8000]

The test set is the last pairs of train, without those that share a sentence with the rest of train
or with dev. The rest is the new train; dev stays the same. Files keep their format and their texts.
"""

import argparse
import os
import sys

from theseus.errors import UserError
from theseus.folder_lock import make_folder
from theseus.inputs import reading, rows, sources, tasks
from theseus.runs import files

TASK = tasks.TASKS["lcqmc_pair"]


def split(train, dev, count):
    """Returns (the rest of `train`, the held-out part), lists of Example.

    Args:
      train, dev: lists of reading.Example.
      count: int, the number of examples at the end of `train` that may be held out.
    """
    rest, last = train[:-count], train[-count:]
    known = {text for example in rest + dev for text in (example.text_a, example.text_b)}
    return rest, [example for example in last if not known & {example.text_a, example.text_b}]


NAMES = ["text_a", "text_b", "label"]


def write(folder, name, format, examples):
    """Writes examples as a file of a split, in a format of rows.FORMATS."""
    cells = [[example.text_a, example.text_b, example.label] for example in examples]
    if format == "tsv":
        lines = ["\t".join(row) + "\n" for row in cells]
    else:
        header = [NAMES] if format == "csv" else []
        lines = [rows.write_row(NAMES, row, format) for row in header + cells]
    ending = ".txt" if format == "tsv" else "." + format
    files.write_text(os.path.join(folder, name + ending), "".join(lines))


def hold_out(source, target, pairs):
    """Reads train and dev of one folder, and writes train, dev and test of another.

    Raises:
      UserError: a folder or the number of pairs is not valid.
    """
    if os.path.realpath(source) == os.path.realpath(target):
        raise UserError("%s: is also the source; give another target folder" % target)
    for name in ("train", "dev", "test"):
        if sources.has_split(target, TASK, name):
            raise UserError("%s: holds %s already; give another folder" % (target, name))
    of_train, of_dev = (sources.find_files(source, TASK, name)[0] for name in ("train", "dev"))
    train, dev = (reading.read_examples(path, TASK) for path in (of_train, of_dev))
    if not 0 < pairs < len(train):
        raise UserError("--pairs: give a number from 1 to %d" % (len(train) - 1))
    rest, test = split(train, dev, pairs)
    if not test:
        raise UserError(
            "--pairs: each of the last %d pairs shares a sentence with the rest of train or "
            "with dev; give more" % pairs
        )
    make_folder(target)
    for name, path, examples in (
        ("train", of_train, rest),
        ("dev", of_dev, dev),
        ("test", of_train, test),
    ):
        write(target, name, rows.format_of(path), examples)
        print("%s: %d pairs" % (name, len(examples)))


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("source", help="folder with train and dev")
    parser.add_argument(
        "target", help="folder for the new train, dev and test, in which none of them exists yet"
    )
    parser.add_argument(
        "--pairs", type=int, default=8000, help="number of pairs to take from the end of train"
    )
    arguments = parser.parse_args()
    try:
        hold_out(arguments.source, arguments.target, arguments.pairs)
    except UserError as error:
        sys.exit("hold_out.py: %s" % error)


if __name__ == "__main__":
    main()
