"""The exports of compress.py: their scores, times and sizes, and which one is chosen."""

import collections
import os
import time
from typing import NamedTuple

import numpy as np

from compressing.commands import exported, read_json
from theseus.checkpoints import weights as weights_lib
from theseus.classifier import Classifier
from theseus.inference.predictions import Predictions
from theseus.inputs import encoding
from theseus.runs import files

HOW_MEASURED = """Each row is an ONNX export, run by onnxruntime; the first is the predecessor.
retained: the dev score as a percentage of the predecessor's.
ms: median milliseconds from text to label, for 1 and for 10 examples, where it was made."""
_WARM_UP, _TIMED_BATCHES = 3, 30
_EVAL_BATCH_SIZE = 64
# The least share of dev on which an int8 model must predict the float32 model's label.
_LEAST_AGREEMENT = 0.99
# Times differ by up to this factor from one run to the next.
_NO_SLOWER = 1.1


class Row(NamedTuple):
    """The figures of an exported model: scores are fractions, times milliseconds per answer."""

    name: str
    folder: str
    layers: int
    parameters: int
    dev: float
    test: float
    agreement: float
    ms: float
    ms_of_10: float
    megabytes: float


def measure(plan):
    """Returns the Rows of all exports, the predecessor's first; their timings take turns."""
    names = [("predecessor", plan.num_layers), *(("layers_%d" % n, n) for n in plan.layers)]
    places = []
    for name, layers in names:
        folder = os.path.join(plan.folder(name), "export")
        places += [(os.path.join(folder, kind), layers, kind) for kind in exported(name)]
    models = [Classifier(folder) for folder, _, _ in places]
    times = _times(models, plan.dev)
    measured, of_float = [], None
    for (folder, layers, format), model, ms in zip(places, models, times):
        on_dev, ids = _score(model, plan, plan.dev)
        of_float = ids if format == "onnx" else of_float
        on_test = _score(model, plan, plan.test)[0] if plan.test else None
        agreement = float(np.mean(ids == of_float))
        hugging_face = os.path.join(os.path.dirname(folder), "huggingface")
        measured.append(
            Row(
                "float32" if format == "onnx" else "int8",
                folder,
                layers,
                _count_parameters(hugging_face),
                on_dev,
                on_test,
                agreement,
                *ms,
                sum(os.path.getsize(path) for path in _model_files(folder)) / 1e6,
            )
        )
    return measured


def measured_once(plan, settings, commands):
    """Returns the Rows; reads them from OUT if the same exports were measured before."""
    path, done = os.path.join(settings.out, "table.json"), commands.done(plan)
    record = read_json(path)
    if record and record["of"] == done:
        return [Row(**row) for row in record["rows"]]
    found = measure(plan)
    files.write_json(path, {"of": done, "rows": [row._asdict() for row in found]})
    return found


def _model_files(folder):
    names = [name for name in os.listdir(folder) if name.startswith("model.onnx")]
    return [os.path.join(folder, name) for name in names]


def _count_parameters(folder):
    shapes = weights_lib.open_weights(weights_lib.find_checkpoint(folder)).shapes
    return int(sum(np.prod(shape) for shape in shapes.values()))


def _score(model, plan, examples):
    """Returns (score, predicted ids or numbers) of a Classifier on labelled Examples."""
    from theseus.inference import metrics  # This imports scikit-learn.

    logits = model.compute_logits(examples, _EVAL_BATCH_SIZE)
    labels = encoding.encode_labels([example.label for example in examples], plan.task)
    predicted = Predictions.of(plan.task, logits, None)
    score = metrics.score(plan.task, metrics.compute(predicted, labels))
    return score, logits[:, 0] if plan.task.is_regression else predicted.ids


def _times(models, examples):
    """Returns each model's median milliseconds for an answer to 1 and to 10 examples.

    The time is from text to label, on examples of dev. The models take turns, so that other work on
    the machine affects all of them.
    """
    texts = [
        example.text_a if example.text_b is None else (example.text_a, example.text_b)
        for example in examples
    ]
    found = []
    for size in (1, 10):
        seconds = np.zeros((_WARM_UP + _TIMED_BATCHES, len(models)))
        for number in range(len(seconds)):
            first = (number % max(1, len(texts) // size)) * size
            for column, model in enumerate(models):
                begin = time.perf_counter()
                model.classify(texts[first : first + size])
                seconds[number, column] = time.perf_counter() - begin
        found.append(1000 * np.median(seconds[_WARM_UP:], axis=0))
    return list(zip(*found))


def retained(row, rows):
    """Returns the percentage of the predecessor's score on dev that a Row retains."""
    return 100 * row.dev / rows[0].dev if rows[0].dev > 0 else float("nan")


def format_table(rows, task, marked=None):
    """Returns the table of Rows, str, in Markdown; `marked` is the Row of the delivered model."""
    header = "| layers | type | parameters | dev %s | test | retained | ms, 1 | ms, 10 | MB |"
    lines = [header % task.score_name, "|---:|---|---:|---:|---:|---:|---:|---:|---:|"]
    for row in rows:
        lines.append(
            "| %d | %s | %s | %.4f | %s | %.1f %% | %.2f | %.2f | %.1f |"
            % (
                row.layers,
                row.name + (", this model" if row == marked else ""),
                "{:,}".format(row.parameters),
                row.dev,
                "-" if row.test is None else "%.4f" % row.test,
                retained(row, rows),
                row.ms,
                row.ms_of_10,
                row.megabytes,
            )
        )
    return "\n".join(lines)


def choose(rows, settings):
    """Returns (Row, a line about it): the smallest model within KEEP and MAX_MS, or the nearest.

    At each depth, int8 is preferred if its labels agree with float32's and it is not slower.
    """
    successors, candidates = rows[1:], []
    for layers in sorted({row.layers for row in successors}):
        of_depth = {row.name: row for row in successors if row.layers == layers}
        float32, int8 = of_depth["float32"], of_depth.get("int8")
        if int8 and int8.agreement >= _LEAST_AGREEMENT and int8.ms <= _NO_SLOWER * float32.ms:
            candidates.append(int8)
        candidates.append(float32)
    fitting = [
        row
        for row in candidates
        if retained(row, rows) >= settings.keep and row.ms <= settings.max_ms
    ]
    wanted = "%g %% retained" % settings.keep
    if settings.max_ms < float("inf"):
        wanted += " within %g ms" % settings.max_ms
    if fitting:
        return fitting[0], "the smallest with %s" % wanted
    fast = [row for row in candidates if row.ms <= settings.max_ms]
    fast = fast or [min(candidates, key=lambda row: row.ms)]
    nearest = max(fast, key=lambda row: row.dev)
    return nearest, "no successor has %s; this one is nearest" % wanted


def warning_of(row, plan):
    """Returns a warning if a Row is no better than always predicting the commonest label; or ""."""
    if plan.task.is_regression or plan.task.metrics != ("accuracy",):
        return ""
    counts = collections.Counter(example.label for example in plan.dev)
    if row.dev > max(counts.values()) / len(plan.dev):
        return ""
    return (
        "It has learned nothing: always predicting the most frequent label scores as much. "
        "Give more layers, more training data, or more epochs (FLAGS=--num_train_epochs=20)."
    )
