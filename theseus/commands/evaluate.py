"""--do_eval: metrics of the best checkpoint on labelled files, and calibration."""

import collections
import time

import numpy as np
from absl import logging

from theseus.commands.output import say
from theseus.inference import calibration, evaluation, metrics, predictions, trained_model
from theseus.inference.predictions import Predictions
from theseus.inputs import encoding
from theseus.records import sealed

MEMORY_REMEDY = "a smaller --eval_batch_size"

_Evaluated = collections.namedtuple("_Evaluated", "file predicted labels others seconds")
"""An ExampleFile with the Predictions for it and its labels. `others` is a dict from the folder of
each model of --compare_with to that model's Predictions; `seconds` is how long the logits took."""


def run(context, prepared):
    """Evaluates the files; prints tables and writes eval_results.json and errors.tsv."""
    files, folders = prepared
    if context.config.calibrate:
        calibrate(context, files[0])
    trained = context.trained_model()
    of_others = [_predictions_of(context, folder, files) for folder in folders]
    evaluated = []
    for number, file in enumerate(files):
        others = {folder.path: each[number] for folder, each in zip(folders, of_others)}
        evaluated.append(_evaluate(context, trained, file, others))
    results = [(one.file.name, _measure(context, one)) for one in evaluated]

    say("\n\n".join(describe_results(context, results)), context.pipes_predictions)
    _write_results(context, trained, evaluated, results)


def _write_results(context, trained, evaluated, results):
    """Writes eval_results.json, errors.tsv and timing.json.

    Args:
      context: a Context.
      trained: its TrainedModel.
      evaluated: list of _Evaluated.
      results: list of (name, the dict that `_measure` returns).
    """
    config, folder = context.config, context.folder
    best, (split, of_split) = trained.best, results[0]
    report = collections.OrderedDict(split=split, **of_split)
    report.update(global_step=best.global_step, checkpoint=best.checkpoint)
    report["compute_type"] = config.precision or trained.run_config["precision"]
    report["temperature"] = trained.temperature
    report["threshold"] = config.threshold
    report["eval_files"] = dict(results[1:])
    folder.write_json(context.result("eval_results.json"), report)
    _write_errors(context, evaluated[0])
    seconds = sum(one.seconds for one in evaluated)
    speed = sum(len(one.labels) for one in evaluated) / seconds
    timing = dict(eval_seconds=seconds, eval_examples_per_second=speed)
    folder.update_json(context.result("timing.json"), **timing)


def calibrate(context, file):
    """Finds the temperature on dev, an ExampleFile; stores it, and logs the old and new error."""
    trained, task = context.trained_model(is_calibrated=False), context.task
    encoded = context.data.encode_file(file, trained.tokenizer)
    logits, labels = _predict(context, trained, file.name, encoded).logits, encoded.labels
    temperature = calibration.find_temperature(logits, labels)
    if temperature is None:
        logging.warning(
            "--calibrate: %s: every prediction is correct; calibration needs wrong "
            "predictions, so nothing was calibrated",
            file.path,
        )
        kept = context.trained_model().temperature
        if kept != 1:  # 1 is the temperature of a model that was never calibrated.
            logging.warning("the temperature found before, %.4g, stays in use", kept)
        return
    before, after = (
        calibration.reliability(Predictions.of(task, logits / np.float32(divisor)), labels)
        for divisor in (1, temperature)
    )
    record = dict(
        temperature=temperature,
        checkpoint=trained.best.checkpoint,
        ece_before=calibration.expected_error(before),
        ece=calibration.expected_error(after),
        reliability_before=before,
        num_examples=len(labels),
    )
    context.folder.write_json(context.result(trained_model.CALIBRATION), sealed(record))
    line = "temperature %.4g: expected calibration error on dev %.4f, before %.4f"
    logging.info(line, temperature, record["ece"], record["ece_before"])
    if not calibration.is_inside(temperature):
        logging.warning(
            "temperature %.4g: not reliable, since dev has too few wrong predictions", temperature
        )


def _evaluate(context, trained, file, others):
    """Predicts an ExampleFile; returns the _Evaluated."""
    encoded = context.data.encode_file(file, trained.tokenizer)
    start = time.perf_counter()
    predicted = _predict(context, trained, file.name, encoded)
    seconds = time.perf_counter() - start
    evaluation.warn_of_alike(predicted, encoded.labels, file.name)
    return _Evaluated(file, predicted, encoded.labels, others, seconds)


def _predict(context, trained, name, encoded):
    """Returns the Predictions of a TrainedModel; `name` is shown beside the progress bar."""
    config = context.config
    run_model = evaluation.runner(trained.session, trained.graph)
    with predictions.progress_bar(name, len(encoded)) as bar:
        logits = predictions.compute_logits(run_model, encoded, config.eval_batch_size, bar)
    return Predictions.of(context.task, logits, config.threshold)


def _predictions_of(context, folder, files):
    """Returns the Predictions of another StageFolder's model on each of the ExampleFiles."""
    length, each = folder.trained_run_config()["max_seq_length"], []
    with trained_model.load(folder) as other:
        for file in files:
            encoded = encoding.encode_examples(file.examples, context.task, other.tokenizer, length)
            each.append(_predict(context, other, folder.path, encoded))
    return each


def _measure(context, evaluated):
    """Returns the entry of eval_results.json for an _Evaluated, a dict."""
    task, least = context.task, context.config.abstain_below
    _, predicted, labels, others, _ = evaluated
    measured = metrics.compute(predicted, labels)
    if task.is_regression:
        return measured
    bins = calibration.reliability(predicted, labels)
    measured["ece"] = calibration.expected_error(bins)
    measured["confusion"] = metrics.confusion(predicted, labels)
    measured["by_label"] = metrics.by_label(predicted, labels)
    if len(task.labels) == 2:
        measured["best_threshold"] = metrics.best_threshold(predicted, labels)
    measured["reliability"] = bins
    measured["most_confident"] = calibration.at_coverages(predicted, labels)
    if least is not None:
        measured["abstaining"] = calibration.abstaining(predicted, labels, least)
    measured["compared"] = {
        folder: dict(metrics.compute(theirs, labels), **calibration.loyalty(predicted, theirs))
        for folder, theirs in others.items()
    }
    return measured


def _write_errors(context, evaluated):
    """Writes the wrong predictions of an _Evaluated to errors.tsv, the most confident first."""
    file, predicted, labels, _, _ = evaluated
    if context.task.is_regression:
        rows = np.argsort(-np.abs(predicted.scores - labels), kind="stable")
    else:
        order = np.argsort(-predicted.confidences, kind="stable")
        rows = order[(predicted.ids != labels)[order]]
    pools = [([file.examples[row] for row in rows], predicted.take(rows))]
    with context.folder.writing(context.result("errors.tsv")) as writer:
        predictions.write_predictions(writer, pools, like=file.examples[0])


# --- In words ---


def describe_results(context, results):
    """Yields the table of all files, then the further tables and lines about the first file.

    Args:
      context: a Context.
      results: list of (name, the dict that `_measure` returns).
    """
    task, config = context.task, context.config
    yield metrics.format_table(results)
    name, measured = results[0]
    if task.is_regression:
        return
    tables = [
        metrics.format_confusion(task, measured["confusion"]),
        metrics.format_by_label(measured["by_label"]),
        calibration.format_coverages(measured["most_confident"]),
    ]
    yield from filter(None, tables)
    if config.eval_split == "dev" and measured.get(
        "best_threshold"
    ):  # A threshold is chosen only on dev.
        yield metrics.format_threshold(task, measured["best_threshold"])
    if "abstaining" in measured:
        kept = _describe_kept(measured["abstaining"])
        yield "%s, probability at least %g: %s" % (name, config.abstain_below, kept)
    for name, values in results:
        for folder, other in values["compared"].items():
            yield "%s, %s: %s %.4f; loyalty to it: labels %.4f, probabilities %.4f" % (
                name,
                folder,
                task.score_name,
                metrics.score(task, other),
                other["label_loyalty"],
                other["probability_loyalty"],
            )


def _describe_kept(kept):
    if kept["accuracy"] is None:
        return "none"
    return "%.1f%% of the examples, accuracy %.4f" % (100 * kept["coverage"], kept["accuracy"])
