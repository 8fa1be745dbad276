"""Exports a stage's model, and measures each export: its logits, score, size and speed.

It is written into an export_folder.ExportFolder, which is either complete or absent.
"""

import collections
import json
import os
import shutil
import time

import numpy as np
import tensorflow.compat.v1 as tf
from tqdm import tqdm

from theseus.errors import UserError, first_line
from theseus.export import card, formats, read_back, writers
from theseus.inference import evaluation, metrics, predictions
from theseus.records import sealed
from theseus.runs.files import hash_text
from theseus.session import new_session

LARGEST_DIFFERENCE = 1e-4
"""The largest allowed difference between an export's logits and the graph's, except for int8."""

NUM_CHECKED_EXAMPLES = 64
TIMED_BATCH_SIZES = (10, 1)
# For each batch size: the least number of timed runs, and the largest number of different batches.
_TIMED_RUNS, _TIMED_BATCHES = 30, 5

Row = collections.namedtuple("Row", "name difference agreement score megabytes seconds")
"""A line of the table: an export, or the graph that the exports are compared with.

Fields:
  name: str.
  difference: float, the largest difference of a logit; None for the graph.
  megabytes: float; None for the graph.
  agreement: float, the share of dev that gets the graph's label; None for the graph or regression.
  score: float, on all of dev, see metrics.score; nan if it is undefined.
  seconds: list of float, the median for a batch of each of `TIMED_BATCH_SIZES`.
"""


class Exporter(object):
    """Exports one stage's model, and compares each export with the stage's own graph."""

    def __init__(self, folder, trained, dev_data, batch_size, dev_examples=()):
        """Computes the graph's logits of the examples on which the exports are compared.

        Args:
          folder: the StageFolder that holds the results of the model.
          trained: the trained_model.TrainedModel.
          dev_data: labelled encoding.EncodedExamples.
          batch_size: int, the batch size for the evaluation on dev.
          dev_examples: list of reading.Example of dev, whose texts check an export's own tokenizer.
        """
        self._plain = writers.plain_classifier(trained)
        self._results = card.read_results(folder, trained.mask, self._plain.task, trained.best)
        self._dev_data, self._paths = dev_data, folder.paths()
        self._graph = evaluation.runner(trained.session, trained.graph)
        self._batch_size = batch_size
        longest = sorted(dev_examples, key=_num_characters)[-NUM_CHECKED_EXAMPLES:]
        self._checked_texts = [(example.text_a, example.text_b) for example in longest]
        self._timed = [self._batches(size)[:_TIMED_BATCHES] for size in TIMED_BATCH_SIZES]
        self._checked = self._batches(TIMED_BATCH_SIZES[0])
        self._logits = _all_logits(self._graph, self._checked)
        self._dev_logits = self._all_of_dev(self._graph)
        score = self._score(self._dev_logits)
        self.graph_row = Row("the graph", None, None, score, None, self._seconds(self._graph))

    def _batches(self, batch_size):
        """Returns batches, as arrays, of examples spread over dev, with mixed lengths."""
        count = min(NUM_CHECKED_EXAMPLES, len(self._dev_data))
        rows = np.linspace(0, len(self._dev_data) - 1, count).astype(np.int64)
        parts = [rows[first : first + batch_size] for first in range(0, count, batch_size)]
        return [self._dev_data.batch(part) for part in parts]

    def export(self, name, place):
        """Writes and checks one export; it gets its name when it is complete.

        Args:
          name: str, one of `formats.FORMATS`.
          place: the export_folder.ExportFolder.

        Returns:
          A Row.

        Raises:
          UserError: the folder cannot be written; or the export differs from the graph, and is
            not kept.
        """
        known_by = identity(name, self._plain.run_config)
        with place.writing(known_by) as temporary:
            try:
                formats.function(formats.FORMATS[name].write)(self._plain, temporary)
                shutil.copyfile(self._plain.vocab_file, os.path.join(temporary, "vocab.txt"))
            except (OSError, tf.errors.OpError) as error:
                failed = "--export_dir: %s: cannot be written: %s"
                raise UserError(failed % (place.path, first_line(error)))
            row = self._check(name, place.given, temporary)
            measured = row, self.graph_row, TIMED_BATCH_SIZES
            facts = card.Facts(name, self._plain, *measured, self._results, self._paths)
            writers.write_text(temporary, read_back.CARD, card.text(facts))
            description = dict(known_by, **self._describe(row))
            description["files"] = read_back.list_files(temporary)
            writers.write_json(temporary, read_back.DESCRIPTION, sealed(description))
        return row

    def _check(self, name, path, temporary):
        """Returns the Row of an export in `temporary`; UserError if it differs too much."""
        with new_session(grappler=True) as session:
            form = formats.FORMATS[name]
            read = formats.function(form.check or form.read)
            run = _check_not_finite(read(temporary, lambda: session), path)
            difference = float(np.abs(_all_logits(run, self._checked) - self._logits).max())
            is_float = name != "onnx_int8"
            if is_float and not difference <= LARGEST_DIFFERENCE:  # True for NaN, too.
                raise UserError(
                    "%s: its logits differ from the graph's by up to %.2g, more than %g; it "
                    "was not exported" % (path, difference, LARGEST_DIFFERENCE)
                )
            if os.path.exists(os.path.join(temporary, writers.TOKENIZER)):
                writers.check_hugging_face_tokens(self._plain, temporary, self._checked_texts)
            logits = self._all_of_dev(run)
            agreement, score = self._agreement(logits), self._score(logits)
            size, seconds = _megabytes(temporary), self._seconds(run)
            return Row(path, difference, agreement, score, size, seconds)

    def _all_of_dev(self, run):
        """Returns the logits of a model, which is a function as returned by a Format's `read`."""
        with predictions.progress_bar("dev", len(self._dev_data)) as bar:
            return predictions.compute_logits(run, self._dev_data, self._batch_size, bar)

    def _score(self, logits):
        task = self._plain.task
        predicted = predictions.Predictions.of(task, logits)
        return metrics.score(task, metrics.compute(predicted, self._dev_data.labels))

    def _agreement(self, logits):
        """Returns the share of dev that gets the graph's label; None for regression."""
        if self._plain.task.is_regression:
            return None
        return float(np.mean(logits.argmax(axis=1) == self._dev_logits.argmax(axis=1)))

    def _seconds(self, run):
        return [_median_seconds(run, batches) for batches in self._timed]

    def _describe(self, row):
        """Returns the content of export.json about the model and its check, a dict."""
        plain, recorded = self._plain, self._plain.run_config
        known = ("task_name", "max_seq_length", "do_lower_case", "tokenizer", "takes_ids")
        known += ("replaced_modules",)
        return dict(
            {key: recorded[key] for key in known if recorded.get(key) is not None},
            labels=list(plain.task.labels),
            num_texts=plain.task.num_texts,
            temperature=plain.temperature,
            global_step=plain.best.global_step,
            largest_difference=row.difference,
            agreement=row.agreement,
            dev_score=metrics.or_none(row.score),
        )


def _num_characters(example):
    return len(example.text_a) + len(example.text_b or "")


def _check_not_finite(run, path):
    """Wraps the model `run`: logits that are not finite raise a UserError that names `path`."""

    def checked(arrays):
        logits = run(arrays)
        if not np.isfinite(logits).all():
            raise UserError("%s: its logits are not finite numbers; it was not exported" % path)
        return logits

    return checked


def _all_logits(run, batches):
    return np.concatenate([run(arrays) for arrays in batches])


def _median_seconds(run, batches):
    """Returns the median seconds per batch, after one round that may still compile."""
    for arrays in batches:
        run(arrays)
    seconds = []
    with tqdm(None, "timing", _TIMED_RUNS, leave=False, disable=None) as bar:
        while len(seconds) < _TIMED_RUNS:
            for arrays in batches:
                start = time.perf_counter()
                run(arrays)
                seconds.append(time.perf_counter() - start)
                bar.update()
    return float(np.median(seconds))


def format_rows(rows, task):
    """Returns the Rows for a tasks.Task as a table, str; the first row is the graph's."""
    width = max(len(row.name) for row in rows)
    score_name = "dev " + task.score_name
    lines = [
        "%-*s  difference  same label  %s      MB  seconds per batch of %d   of %d"
        % ((width, "", score_name) + TIMED_BATCH_SIZES)
    ]
    for row in rows:
        cells = [
            "%12s" % _cell("%.1e", row.difference),
            "%12s" % _cell("%.4f", row.agreement),
            "  %*.4f" % (len(score_name), row.score),
            "%8s" % _cell("%.1f", row.megabytes),
            "%25.4f%8.4f" % tuple(row.seconds),
        ]
        lines.append("%-*s" % (width, row.name) + "".join(cells))
    return "\n".join(lines)


def _cell(form, value):
    return "-" if value is None else form % value


def identity(name, run_config):
    """Returns the part of export.json that identifies an export's run and format, a dict."""
    return {"format": name, "run": hash_text(json.dumps(run_config, sort_keys=True))}


def _megabytes(path):
    files = [os.path.join(folder, name) for folder, _, names in os.walk(path) for name in names]
    return sum(map(os.path.getsize, files)) / 1e6
