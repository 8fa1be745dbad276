"""--do_eval: the metrics of the best checkpoint on labelled files."""

import collections
import time

from absl import logging

from theseus.commands.data import warn_of_unknown
from theseus.commands.output import say
from theseus.errors import UserError
from theseus.inference import evaluation, metrics
from theseus.inputs.unknown_words import UnknownWords

MEMORY_REMEDY = "a smaller --eval_batch_size"


def prepare(context):
    """Returns the ExampleFiles: of the split, then each of --eval_files."""
    refuse_threshold(context)
    split = context.options.inference.eval_split
    named = list(zip(context.task.files(split), context.data.paths(split)))
    named += [(path, path) for path in context.options.inference.eval_files]
    logging.info("evaluating on %s", ", ".join(path for _, path in named))
    return [context.data.labelled(path, name) for name, path in named]


def refuse_threshold(context):
    """Raises UserError where there is a --threshold, and not two labels."""
    if context.options.inference.threshold is not None and len(context.task.labels) != 2:
        raise UserError("--threshold: is for two labels; this task has others")


def run(context, files):
    """Evaluates the files; prints a table and writes eval_results.json."""
    options, folder = context.options, context.folder
    trained = context.trained_model()
    results, seconds = [], 0.0
    for file in files:
        values, took = _evaluate_file(context, trained, file)
        results.append((file.name, values))
        seconds += took
    best, (split, split_metrics) = folder.state().best, results[0]
    report = collections.OrderedDict(split=split, **split_metrics)
    report.update(global_step=best.global_step, checkpoint=best.checkpoint)
    report["compute_type"] = options.model.precision or folder.trained_definition()["precision"]
    report["threshold"] = options.inference.threshold
    report["eval_files"] = dict(results[1:])
    folder.write_json(context.result("eval_results.json"), report)
    speed = sum(values["num_examples"] for _, values in results) / seconds
    timing = dict(eval_seconds=seconds, eval_examples_per_second=speed)
    folder.update_json(context.result("timing.json"), **timing)
    is_dev = options.inference.eval_split == "dev"
    say("\n".join(describe_results(context.task, results, is_dev)))


def _evaluate_file(context, trained, file):
    """Returns the metrics of an ExampleFile, and the seconds that the model took."""
    options, task = context.options.inference, context.task
    encoded = context.data.encode_file(file, trained.tokenizer)
    unknown = UnknownWords(trained.tokenizer)
    unknown.add(encoded, lambda: file.examples)
    start = time.perf_counter()
    with evaluation.progress_bar(file.name, len(encoded)) as bar:
        run = evaluation.runner(trained.session, trained.graph)
        logits = evaluation.compute_logits(run, encoded, options.eval_batch_size, bar)
    seconds = time.perf_counter() - start
    warn_of_unknown(unknown, file.path)
    labels = encoded.labels
    found = metrics.compute(task, logits, labels, options.threshold)
    if not task.is_regression:
        found["confusion"] = metrics.confusion(task, logits, labels, options.threshold)
    if len(task.labels) == 2:
        found["best_threshold"] = metrics.best_threshold(logits, labels)
    return found, seconds


def describe_results(task, results, is_dev):
    """Yields the table of all files, and what more is to be said of the first.

    Args:
      task: a tasks.Task.
      results: list of (name, metrics).
      is_dev: bool; a threshold is to be chosen on dev alone.
    """
    yield metrics.format_table(results)
    _, found = results[0]
    if "confusion" in found:
        yield "\n" + metrics.format_confusion(task, found["confusion"])
    if is_dev and found.get("best_threshold"):
        yield "\n" + metrics.format_threshold(found["best_threshold"])
