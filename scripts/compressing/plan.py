"""What compress.py makes of a BERT: the recipe of each depth, and the commands for it."""

import os
from typing import NamedTuple

import run_classifier
from compressing.settings import check_places
from theseus.checkpoints import pretrained
from theseus.checkpoints import weights as weights_lib
from theseus.checkpoints.tokenizer_files import has_segments
from theseus.commands import estimate, initial_checkpoint
from theseus.commands.context import Context
from theseus.config import rules
from theseus.config.config import all_declarations, resolve
from theseus.errors import UserError
from theseus.inputs import inferred_task, reading, rows, sources, tasks
from theseus.runs import files
from theseus.runs.stage_folder import StageFolder

# The learning rate of fine-tuning times the width: 5e-5 for 768, 1e-4 for 384, 3e-4 for 128.
_RATE_BY_WIDTH = 0.04
_PREDECESSOR_EPOCHS = 5
_DISTILLED = ["--suc_init=spread", "--distill_temperature=2", "--distill_weight=0.9"]


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
    except UserError as error:  # Perhaps it has no labels. Its other faults are errors.
        examples = reading.read_examples(path, data.task, False, data.form)
        if any(example.label for example in examples):
            raise UserError("%s; give each line of test a label, or none" % error)
        return None


def _content_hash(data, start, unlabelled):
    """Returns a SHA-256 of a Data's files, the unlabelled file and the starting weights."""
    paths = [data.paths(split)[0] for split in ("train", "dev", "test") if data.has(split)]
    paths += [unlabelled] if unlabelled else []
    return files.hash_files(paths + weights_lib.checkpoint_files(start.weights.prefix))


def _takes_texts(start, task):
    """Returns whether an InitialCheckpoint's classifier answers a task's texts as it is."""
    files = start.tokenizer_files
    return task.num_texts == 1 or files is None or has_segments(files)


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
        check_places(settings)
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
        if self.is_classifier and not _takes_texts(start, self.task):
            self.is_classifier = False
            self.note = "(its tokenizer gives both texts of a pair the same segment)"
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
