"""Makes small classifiers from a BERT that is too slow, prints their costs, and chooses one.

    DATA=my_data BERT=my_bert OUT=out_compressed python -m theseus.tools.compress

If BERT is not a classifier for the labels of DATA, it is fine-tuned first. Then successors of
LAYERS layers are made from it and exported as ONNX, in float32 and int8, and the exports are scored
and timed. The smallest one that retains KEEP percent of the predecessor's score on dev and answers
within MAX_MS is copied to OUT/model; test selects nothing. After an interruption the same command
resumes. Other LAYERS are added to those in OUT; if nothing changed, nothing is trained or measured.

  DATA      folder with train, dev and perhaps test, as run_classifier.py reads them
  BERT      a Hugging Face folder, owner/name of its hub, a TensorFlow checkpoint, or a stage 0
  OUT       folder for all output (out_compressed)
  LAYERS    the successors' numbers of layers (those of 6 4 3 2 that are below BERT's)
  KEEP      percentage of the predecessor's score that must be retained (98)
  MAX_MS    milliseconds within which one example must be answered (any)
  UNLABELLED  a file of texts as in DATA without labels, such as yesterday's requests: distilled
            successors also learn from the predecessor's answers to them (none)
  SEED      42
  FLAGS     more flags of run_classifier.py for every training, such as --task_name=custom
"""

import collections
import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import time
from typing import NamedTuple

import numpy as np
from absl import logging

import run_classifier
from theseus.checkpoints import pretrained
from theseus.checkpoints import weights as weights_lib
from theseus.classifier import Classifier
from theseus.commands import estimate, initial_checkpoint
from theseus.commands.context import Context
from theseus.config import rules
from theseus.config.config import all_declarations, resolve
from theseus.errors import UserError
from theseus.inference.predictions import Predictions
from theseus.inputs import encoding, inferred_task, reading, rows, sources, tasks
from theseus.runs import files
from theseus.runs.stage_folder import StageFolder

_ENVIRONMENT = dict(os.environ)  # Copied before the import of TensorFlow adds to it.
# The learning rate of fine-tuning times the width: 5e-5 for 768, 1e-4 for 384, 3e-4 for 128.
_RATE_BY_WIDTH = 0.04
_PREDECESSOR_EPOCHS = 5
_WARM_UP, _TIMED_BATCHES = 3, 30
_EVAL_BATCH_SIZE = 64
# The least share of dev on which an int8 model must predict the float32 model's label.
_LEAST_AGREEMENT = 0.99
# Times differ by up to this factor from one run to the next.
_NO_SLOWER = 1.1


class Recipe(NamedTuple):
    """The training of a successor; docs/results.md has the gain of each part."""

    rate: float  # A multiple of the predecessor's learning rate.
    epochs: int
    is_distilled: bool  # Distilled subset with spread start; else the lowest layers, fine-tuned.


def recipe_of(num_layers):
    """Returns the Recipe for a successor with that number of layers."""
    if num_layers >= 6:
        return Recipe(rate=1.0, epochs=5, is_distilled=False)
    return Recipe(rate=2.0 if num_layers >= 3 else 3.0, epochs=10, is_distilled=True)


_DISTILLED = ["--suc_init=spread", "--distill_temperature=2", "--distill_weight=0.9"]


class Settings(NamedTuple):
    """The values of the environment's variables."""

    data: str
    bert: str
    out: str
    layers: list
    has_layers: bool  # Whether LAYERS is set; of the default, a BERT's own depth is left out.
    keep: float
    max_ms: float
    unlabelled: str
    seed: str
    flags: list


def read_settings(environment):
    """Returns the Settings in the environment's variables; UserError if one is wrong."""
    for name in ("DATA", "BERT"):
        if not environment.get(name):
            raise UserError(
                "%s is not set; run DATA=my_data BERT=my_bert OUT=out_compressed bash "
                "scripts/compress.sh" % name
            )
    layers = sorted(_numbers(environment, "LAYERS", "6 4 3 2", int), reverse=True)
    (keep,) = _numbers(environment, "KEEP", "98", float)
    (max_ms,) = _numbers(environment, "MAX_MS", "inf", float)
    unlabelled = environment.get("UNLABELLED", "")
    if unlabelled and not os.path.isfile(unlabelled):
        raise UserError("UNLABELLED=%s: there is no such file" % unlabelled)
    if layers[-1] < 1 or len(set(layers)) < len(layers):
        raise UserError("LAYERS: takes different numbers of layers, such as 6 3")
    return Settings(
        environment["DATA"],
        environment["BERT"],
        environment.get("OUT") or "out_compressed",
        layers,
        bool(environment.get("LAYERS")),
        keep,
        max_ms,
        unlabelled,
        environment.get("SEED") or "42",
        shlex.split(environment.get("FLAGS", "")),
    )


def _numbers(environment, name, default, kind):
    """Returns the numbers in a variable, as a list; only LAYERS may have several."""
    text = environment.get(name) or default
    try:
        numbers = list(map(kind, text.split()))
    except ValueError:
        numbers = []
    if not numbers or (name != "LAYERS" and len(numbers) > 1):
        wanted = "whole numbers, such as 6 3" if name == "LAYERS" else "a number"
        raise UserError("%s=%s: give %s" % (name, text, wanted))
    return numbers


def _check_places(settings):
    """Raises UserError if DATA or BERT is not a folder; BERT may also be a model of the hub."""
    if not os.path.isdir(settings.data):
        raise UserError(
            "DATA=%s: there is no such folder; give one with train, dev and perhaps test"
            % settings.data
        )
    bert = settings.bert
    if not (os.path.exists(bert) or os.path.exists(bert + ".index") or pretrained.is_hub_id(bert)):
        raise UserError(
            "BERT=%s: there is no such folder; give a BERT's folder, a checkpoint's prefix, or "
            "owner/name of the Hugging Face hub" % bert
        )


# --- The commands ---


class Commands(object):
    """Commands of run_classifier.py that run only once; a file in OUT records them."""

    def __init__(self, out, content):
        """Reads the record.

        Args:
          out: the folder.
          content: str, a hash of the data and of BERT, on which all commands depend.
        """
        os.makedirs(out, exist_ok=True)
        self._out, self._content = out, content
        self._record, self._log = os.path.join(out, "compress.json"), os.path.join(out, "log.txt")
        self._done = _read_json(self._record) or {}

    def run(self, title, name, arguments):
        """Runs a command unless it is done; if it fails, UserError with its last line of output."""
        if self.is_done(name, arguments):
            return
        print("%-48s" % title, end=" ", flush=True)
        begin = time.time()
        with open(self._log, "a", encoding="utf-8") as log:
            log.write("\nrun_classifier.py %s\n" % " ".join(map(shlex.quote, arguments)))
            log.flush()
            command = [sys.executable, run_classifier.__file__] + arguments
            streams = dict(stdout=log, stderr=subprocess.STDOUT)
            status = subprocess.call(command, env=_ENVIRONMENT, **streams)
        if status:
            print("failed")
            line = _FOLDER_FLAG.sub("give another OUT", _last_line(self._log))
            raise UserError("%s; the full log is %s" % (line, self._log))
        print("%d:%02d" % divmod(round(time.time() - begin), 60), flush=True)
        self._done[name] = {"flags": arguments, "content": self._content}
        files.write_json(self._record, self._done)

    def is_done(self, name, arguments):
        """Returns whether the same command was run before and its exports exist."""
        exports = [os.path.join(self._out, name, "export", kind) for kind in _exported(name)]
        known_by = {"flags": arguments, "content": self._content}
        return self._done.get(name) == known_by and all(map(os.path.isdir, exports))

    def done(self, plan):
        """Returns the flags of a Plan's commands, all of which are done, a dict by name."""
        return {name: self._done[name] for _, name, _ in plan.commands()}


def _exported(name):
    """Returns the names of a command's exports that are measured, list of str."""
    return ["onnx"] if name == "predecessor" else ["onnx", "onnx_int8"]


_FOLDER_FLAG = re.compile(r"give another folder with --stage_\d_outputdir")


def _last_line(path):
    with open(path, encoding="utf-8", errors="replace") as reader:
        return ([""] + [line.strip() for line in reader if line.strip()])[-1]


def _read_json(path):
    if not os.path.exists(path):
        return None
    with open(path, encoding="utf-8") as reader:
        return json.load(reader)


def read_config(arguments, are_checked=True):
    """Returns the config.Config for flags of run_classifier.py; if checked, their folders exist."""
    for field, _ in all_declarations():
        run_classifier.FLAGS[field.name].unparse()  # Clears the flags of an earlier call.
    run_classifier.parse_flags(["compress"] + arguments)
    if are_checked:
        return run_classifier.read_config()
    return resolve(run_classifier.FLAGS.flag_values_dict(), frozenset())


def guessed_task(settings):
    """Returns [--task_name=custom] if FLAGS and BERT name no task but the files name columns."""
    is_given = any(flag.startswith("--task_name") for flag in settings.flags)
    if is_given or StageFolder(settings.bert).run_config():  # Its run.json names the task.
        return []
    config = read_config(["--task_name=custom", *settings.flags], are_checked=False)
    rules.check_files(config)
    train = sources.find_files(settings.data, tasks.TASKS["custom"], "train")[0]
    names = set(inferred_task.first_names(train, sources.options_of(config)))
    is_named = rows.format_of(train, "auto") != "tsv" or names & set(tasks.USUAL_LABEL_NAMES)
    return ["--task_name=custom"] if is_named else []


def _labelled_test(data):
    """Returns the Examples of test in a Data; None if there is no test or it has no labels."""
    if not data.has("test"):
        return None
    path = data.paths("test")[0]
    try:
        return reading.read_examples(path, data.task, True, data.form)
    except UserError:  # Perhaps it has no labels. Its other faults are errors.
        examples = reading.read_examples(path, data.task, False, data.form)
        if any(example.label for example in examples):
            raise
        return None


def _content_hash(data, start, unlabelled):
    """Returns a SHA-256 of a Data's files, the unlabelled file and the starting weights."""
    paths = [data.paths(split)[0] for split in ("train", "dev", "test") if data.has(split)]
    paths += [unlabelled] if unlabelled else []
    return files.hash_files(paths + weights_lib.checkpoint_files(start.weights.prefix))


def _of_stage_0(flags):
    """Returns the flags that stage 0 uses."""
    others = {field.name for field, declared in all_declarations() if 0 not in declared.stages}
    others |= {"suc_init", "suc_learning_rate", "train_scope"}
    return [flag for flag in flags if flag.lstrip("-").split("=")[0] not in others]


class Plan(object):
    """The models to make from a BERT, and the commands that make them.

    Attributes:
      task: the tasks.Task of the data.
      predecessor: the teacher: BERT itself if it is a classifier, else the folder where it is
        fine-tuned.
      is_classifier: bool, whether BERT is a classifier for the task's labels.
      layers: list of int, the successors' numbers of layers, the largest first.
      bert, sizes: BERT's shape and the estimate.Sizes of DATA.
    """

    def __init__(self, settings):
        """Reads DATA and BERT; UserError if one is not usable."""
        _check_places(settings)
        self._settings = settings
        self.common = ["--data_dir=%s" % settings.data, "--seed=%s" % settings.seed]
        self.common += guessed_task(settings) + settings.flags
        pre = ["--do_train", "--finetune_pre", "--init_checkpoint=%s" % settings.bert]
        pre.append("--stage_0_outputdir=%s" % self.folder("looked_at"))
        with Context(read_config(_of_stage_0(self.common) + pre)) as context:
            self.task, data = context.task, context.data
            start = initial_checkpoint.find_initial_checkpoint(context.config, context.task)
            self.content = _content_hash(data, start, settings.unlabelled)
            self.dev, self.test = data.dev().examples, _labelled_test(data)
            tokenizer = pretrained.make_tokenizer(start.model, start.tokenizer)
            sizes = (context.config, settings.unlabelled, len(self.test or ()))
            self.sizes = estimate.count(data, tokenizer, *sizes)
        self.is_classifier = start.classifier.order is not None
        self.note = "" if start.classifier.is_sure else start.classifier.note
        self.predecessor = settings.bert if self.is_classifier else self.folder("predecessor")
        self.bert, self.num_layers = start.model.config, start.model.config.num_hidden_layers
        self._rate = _RATE_BY_WIDTH / self.bert.hidden_size
        self.layers = [layers for layers in settings.layers if layers < self.num_layers]
        if not self.layers or (settings.has_layers and self.layers != settings.layers):
            raise UserError("LAYERS: BERT has %d layers; give fewer" % self.num_layers)

    def add_done(self, commands):
        """Adds depths that an earlier call made from the same BERT, data and flags."""
        for layers in range(1, self.num_layers):
            _, name, flags = self._of_successor(layers)
            if layers not in self.layers and commands.is_done(name, flags):
                self.layers = sorted([layers, *self.layers], reverse=True)

    def folder(self, name):
        """Returns the path of a folder of OUT."""
        return os.path.join(self._settings.out, name)

    def commands(self):
        """Yields (title, name, flags of run_classifier.py) of each command."""
        begin = ["--finetune_pre", "--stage_0_outputdir=%s" % self.folder("predecessor")]
        begin.append("--init_checkpoint=%s" % self._settings.bert)
        title, train = "%d layers" % self.num_layers, []
        if not self.is_classifier:
            title += ", fine-tuned"
            train += ["--do_train", "--learning_rate=%g" % self._rate]
            train += ["--num_train_epochs=%d" % _PREDECESSOR_EPOCHS]
        yield self._exports("predecessor", title, begin, train)
        for layers in self.layers:
            yield self._of_successor(layers)

    def estimate(self, commands):
        """Returns a line on how long the remaining commands will take."""
        left = [one for one in self.commands() if not commands.is_done(*one[1:])]
        left = [(title, read_config(arguments, False)) for title, _, arguments in left]
        return estimate.line(left, self.bert, self.sizes)

    def _of_successor(self, layers):
        recipe, name = recipe_of(layers), "layers_%d" % layers
        begin = ["--finetune_suc", "--stage_2_outputdir=%s" % self.folder(name)]
        train = ["--do_train", "--suc_layers=%d" % layers]
        train += ["--init_checkpoint=%s" % self.predecessor]
        if recipe.is_distilled:
            train += ["--distill_from=%s" % self.predecessor] + _DISTILLED
        train += ["--learning_rate=%g" % (recipe.rate * self._rate)]
        if recipe.is_distilled and self._settings.unlabelled:
            train += ["--unlabelled_file=%s" % self._settings.unlabelled]
            # As many steps as without the unlabelled texts, but each example at least once.
            share = self.sizes.train / (self.sizes.train + self.sizes.unlabelled)
            train += ["--num_train_epochs=%.6g" % max(1.0, recipe.epochs * share)]
        else:
            train += ["--num_train_epochs=%d" % recipe.epochs]
        title = "%d layers, %s" % (layers, "distilled" if recipe.is_distilled else "fine-tuned")
        return self._exports(name, title, begin, train, "none,int8")

    def _exports(self, name, title, begin, train, types="none"):
        common = _of_stage_0(self.common) if "--finetune_pre" in begin else self.common
        exports = ["--do_export", "--export_format=onnx,huggingface", "--quantize=" + types]
        return title, name, begin + train + common + exports


# --- Results ---


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
        places += [(os.path.join(folder, kind), layers, kind) for kind in _exported(name)]
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
    record = _read_json(path)
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


def deliver(row, rows, task, settings):
    """Copies the chosen exports to OUT/model and OUT/model_huggingface; the card gets the table."""
    hugging_face = os.path.join(os.path.dirname(row.folder), "huggingface")
    of_float = next(one for one in rows if (one.layers, one.name) == (row.layers, "float32"))
    for source, name, marked in (
        (row.folder, "model", row),
        (hugging_face, "model_huggingface", of_float),
    ):
        table = format_table(rows, task, marked)
        place = os.path.join(settings.out, name)
        unfinished = place + ".unfinished"
        shutil.rmtree(unfinished, ignore_errors=True)
        shutil.copytree(source, unfinished)
        with open(os.path.join(unfinished, "README.md"), "a", encoding="utf-8") as card:
            card.write("\n## Beside other depths\n\n%s\n\n%s\n" % (table, _HOW_MEASURED))
        shutil.rmtree(place, ignore_errors=True)
        os.rename(unfinished, place)
    return os.path.join(settings.out, "model")


_HOW_MEASURED = """Each row is an ONNX export, run by onnxruntime; the first is the predecessor.
retained: the dev score as a percentage of the predecessor's.
ms: median milliseconds from text to label, for 1 and for 10 examples, where it was made."""


def main():
    """Makes and measures models, chooses one; prints a line per step, then the table and model."""
    logging.set_verbosity(logging.WARNING)
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        settings = read_settings(os.environ)
        plan = Plan(settings)
        commands = Commands(settings.out, plan.content)
        plan.add_done(commands)
        kind = "is a" if plan.is_classifier else "begins the fine-tuning of a"
        labels = "the labels " + ", ".join(plan.task.labels) if plan.task.labels else "numbers"
        print("%s %s classifier for %s" % (settings.bert, kind, labels))
        if plan.note:
            print(plan.note)
        print(plan.estimate(commands))
        print("Minutes and seconds of each step; the full log is %s" % plan.folder("log.txt"))
        for title, name, arguments in plan.commands():
            commands.run(title, name, arguments)
        measured = measured_once(plan, settings, commands)
        row, said = choose(measured, settings)
        place = deliver(row, measured, plan.task, settings)
    except UserError as error:
        sys.exit("compress: %s" % error)
    except KeyboardInterrupt:
        sys.exit("\ncompress: interrupted; the same command resumes where it stopped")
    print("\n%s\n\n%s\n" % (format_table(measured, plan.task), _HOW_MEASURED))
    print("%d layers, %s: %s" % (row.layers, row.name, said))
    if warning_of(row, plan):
        print(warning_of(row, plan))
    example = '"text"' if plan.task.num_texts == 1 else '("text a", "text b")'
    print("\nTo use it:\n\nfrom theseus import Classifier")
    print('model = Classifier("%s")' % place)
    print("print(model.classify([%s]))" % example)


if __name__ == "__main__":
    main()
