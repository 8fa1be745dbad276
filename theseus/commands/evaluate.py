"""--do_eval: metrics of the best checkpoint on labelled files, and how far to trust them."""

import collections
import time

import numpy as np
from absl import logging

from theseus.commands import other_model
from theseus.commands.output import say
from theseus.errors import UserError
from theseus.inference import calibration, evaluation, metrics, trained_model
from theseus.inputs import encoding
from theseus.records import sealed

MEMORY_REMEDY = "a smaller --eval_batch_size"

_Evaluated = collections.namedtuple("_Evaluated", "file logits labels others seconds")
"""An ExampleFile with logits, float32 [rows, outputs], and labels; `others`: the logits of each
model of --compare_with by its folder, a dict; seconds: what the model took."""


def prepare(context):
    """Returns (ExampleFiles: of the split, then each of --eval_files; StageFolders to compare)."""
    check_other_tasks(context)
    config = context.config
    split = config.eval_split
    named = list(zip(context.task.files(split), context.data.paths(split)))
    named += [(path, path) for path in config.eval_files]
    logging.info("evaluating on %s", ", ".join(path for _, path in named))
    others = [other_model.find("compare_with", path, context) for path in config.compare_with]
    return [context.data.labelled(path, name) for name, path in named], others


def check_other_tasks(context):
    """Raises UserError for a flag that the task's kind of labels has no use for."""
    config, task = context.config, context.task
    if config.threshold is not None and len(task.labels) != 2:
        raise UserError("--threshold: is for two labels; this task has others")
    for name in ("calibrate", "abstain_below", "compare_with"):
        if task.is_regression and config.has(name):
            raise UserError("--%s: is for labels; this task has numbers" % name)


def run(context, prepared):
    """Evaluates the files; prints tables and writes eval_results.json and errors.tsv."""
    files, folders = prepared
    if context.config.calibrate:
        calibrate(context, files[0])
    trained = context.trained_model()
    others = {other.path: _logits_of(context, other, files) for other in folders}
    found = []
    for number, file in enumerate(files):
        of_others = {path: logits[number] for path, logits in others.items()}
        found.append(_evaluate(context, trained, file, of_others))
    results = [(one.file.name, _measure(context, one)) for one in found]

    say("\n\n".join(describe_results(context, results)), context.pipes_predictions)
    _write_results(context, trained, found, results)


def _write_results(context, trained, found, results):
    """Writes eval_results.json, errors.tsv and timing.json.

    Args:
      context: a Context.
      trained: its TrainedModel.
      found: list of _Evaluated.
      results: list of (name, what `_measure` returns of it).
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
    _write_errors(context, found[0])
    seconds = sum(one.seconds for one in found)
    speed = sum(len(one.labels) for one in found) / seconds
    timing = dict(eval_seconds=seconds, eval_examples_per_second=speed)
    folder.update_json(context.result("timing.json"), **timing)


def calibrate(context, file):
    """Finds the temperature on an ExampleFile of dev, keeps it, and says what it changes."""
    trained = context.trained_model(is_calibrated=False)
    encoded = context.data.encode_file(file, trained.tokenizer)
    logits, labels = _compute_logits(context, trained, file.name, encoded), encoded.labels
    temperature = calibration.find_temperature(logits, labels)
    if temperature is None:
        logging.warning(
            "--calibrate: %s: all labels are predicted right; how far predictions can be trusted "
            "is seen by wrong ones alone: nothing was calibrated",
            file.path,
        )
        kept = context.trained_model().temperature
        if kept != 1:  # Which is that of a model that was never calibrated.
            logging.warning("the temperature that was found before, %.4g, goes on to hold", kept)
        return
    bins = calibration.reliability(logits, labels)
    before = calibration.expected_error(bins)
    after = calibration.expected_error(
        calibration.reliability(logits / np.float32(temperature), labels)
    )
    record = dict(
        temperature=temperature,
        checkpoint=trained.best.checkpoint,
        ece_before=before,
        ece=after,
        reliability_before=[one._asdict() for one in bins],
        num_examples=len(labels),
    )
    context.folder.write_json(context.result(trained_model.CALIBRATION), sealed(record))
    line = "temperature %.4g: the expected calibration error on dev is %.4f, and was %.4f"
    logging.info(line, temperature, after, before)
    if not calibration.is_inside(temperature):
        logging.warning("temperature %.4g: dev has too few wrong labels to find one", temperature)


def _evaluate(context, trained, file, others):
    """Returns an ExampleFile as _Evaluated."""
    encoded = context.data.encode_file(file, trained.tokenizer)
    start = time.perf_counter()
    logits = _compute_logits(context, trained, file.name, encoded)
    seconds = time.perf_counter() - start
    evaluation.warn_of_alike(context.task, logits, encoded.labels, file.name)
    return _Evaluated(file, logits, encoded.labels, others, seconds)


def _compute_logits(context, trained, name, encoded):
    with evaluation.progress_bar(name, len(encoded)) as bar:
        run_model = evaluation.runner(trained.session, trained.graph)
        batch_size = context.config.eval_batch_size
        return evaluation.compute_logits(run_model, encoded, batch_size, bar)


def _logits_of(context, folder, files):
    """Returns the logits of another StageFolder's model on each of the ExampleFiles."""
    length, found = folder.trained_run_config()["max_seq_length"], []
    with trained_model.load(folder) as other:
        for file in files:
            encoded = encoding.encode_examples(file.examples, context.task, other.tokenizer, length)
            found.append(_compute_logits(context, other, folder.path, encoded))
    return found


def _measure(context, evaluated):
    """Returns all that eval_results.json says of an _Evaluated."""
    task, config = context.task, context.config
    _, logits, labels, others, _ = evaluated
    found = metrics.compute(task, logits, labels, config.threshold)
    if task.is_regression:
        return found
    bins = calibration.reliability(logits, labels, config.threshold)
    found["ece"] = calibration.expected_error(bins)
    found["confusion"] = metrics.confusion(task, logits, labels, config.threshold)
    found["by_label"] = metrics.by_label(task, logits, labels, config.threshold)
    if len(task.labels) == 2:
        found["best_threshold"] = metrics.best_threshold(logits, labels)
    found["reliability"] = [one._asdict() for one in bins]
    covered = calibration.at_coverages(logits, labels, config.threshold)
    found["most_confident"] = [one._asdict() for one in covered]
    if config.abstain_below is not None:
        kept = calibration.abstaining(logits, labels, config.abstain_below, config.threshold)
        found["abstaining"] = kept._asdict()
    found["compared"] = {
        folder: dict(
            metrics.compute(task, theirs, labels, config.threshold),
            **calibration.loyalty(logits, theirs, config.threshold),
        )
        for folder, theirs in others.items()
    }
    return found


def _write_errors(context, evaluated):
    """Writes the wrong predictions of an _Evaluated as predictions, the most confident first."""
    task, threshold = context.task, context.config.threshold
    file, logits, labels, _, _ = evaluated
    if task.is_regression:
        rows = np.argsort(-np.abs(logits[:, 0] - labels), kind="stable")
    else:
        order = np.argsort(-calibration.confidences(logits, threshold), kind="stable")
        is_wrong = metrics.predicted_ids(logits, threshold) != labels
        rows = order[is_wrong[order]]
    pools = [([file.examples[row] for row in rows], logits[rows])]
    with context.folder.writing(context.result("errors.tsv")) as writer:
        evaluation.write_predictions(writer, task, pools, threshold, like=file.examples[0])


# --- In words ---


def describe_results(context, results):
    """Yields the table of all files, and what more is to be said of the first.

    Args:
      context: a Context.
      results: list of (name, what `_measure` returns).
    """
    task, config = context.task, context.config
    yield metrics.format_table(results)
    name, found = results[0]
    if task.is_regression:
        return
    tables = [
        metrics.format_confusion(task, found["confusion"]),
        metrics.format_by_label(task, found["by_label"]),
        calibration.format_coverages([calibration.Covered(**c) for c in found["most_confident"]]),
    ]
    yield from filter(None, tables)
    if config.eval_split == "dev" and found.get("best_threshold"):  # Chosen on dev alone.
        yield metrics.format_threshold(task, found["best_threshold"])
    if "abstaining" in found:
        yield "%s, of a probability of at least %g: %s" % (
            name,
            config.abstain_below,
            _describe_kept(found["abstaining"]),
        )
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
