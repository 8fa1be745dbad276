"""The three stages as commands: what defines a run, and its verbs.

stage 0  predecessor  --finetune_pre  fine-tunes all layers of the pretrained BERT
stage 1  replacing                    replaces its modules at random
stage 2  successor    --finetune_suc  trains the successor alone
"""

import collections
import contextlib
import dataclasses
import io
import json
import os
import sys
import time

import numpy as np
import tensorflow.compat.v1 as tf
from absl import logging

import tokenization
from theseus import machine, stage
from theseus.checkpoints import pretrained
from theseus.checkpoints import weights as weights_lib
from theseus.commands import starting_point
from theseus.errors import UserError, first_line
from theseus.export import export_successor
from theseus.inference import evaluation, metrics, trained_model
from theseus.inputs import input_pipeline, reading, tasks, unknown_words
from theseus.runs.stage_folder import StageFolder, hash_files, hash_text
from theseus.session import check_precision, new_session
from theseus.training import training

# What a trained model cannot be used without, out of a run's definition.
_MODEL_FLAGS = ("task_name", "suc_layers", "max_seq_length", "do_lower_case")
# What encoded training data depend on, out of a run's definition, and on this program.
_ENCODING_KEYS = ("train_data", "max_train_examples", "vocab", "task_name", "max_seq_length")
_ENCODING_KEYS += ("do_lower_case", "labels", "columns", "header", "encoding", "skip_bad_lines")
_CACHE_VERSION = 3
# What a message calls a part of the definition that is not named after its flag.
_WORDS = {
    "stage": "--finetune_pre or --finetune_suc: the stage",
    "padded_length": "--pad_to_max_length: the padded length",
    "num_texts": "--text_b_column: the number of texts",
    "columns": "--text_a_column, --text_b_column, --label_column",
}
# The parts that are contents of files: the flags that lead to them, and what has changed.
_CONTENTS = {
    "train_data": ("--data_dir", "other training data"),
    "dev_data": ("--data_dir", "other dev data"),
    "weights": ("--init_checkpoint or --bert_pretrained_model", "other starting weights"),
    "bert_config": ("--bert_pretrained_model", "another bert_config.json"),
    "vocab": ("--bert_pretrained_model", "another vocab.txt"),
    "suc_init": ("--suc_init", "another start of the successor's layers"),
}
ExampleFile = collections.namedtuple("ExampleFile", "name path is_labelled num_examples")
"""A file of examples: what to call it, where it is, whether each must have a label; and how
many it holds."""


# What needs less memory in training: the step's parts, the pairs, or the evaluations' batches.
_TRAIN_MEMORY = (
    "a larger --gradient_accumulation_steps, or a smaller --train_batch_size, --max_seq_length or "
    "--eval_batch_size"
)


@contextlib.contextmanager
def _in_memory(remedy):
    """Makes a UserError, which says what to give, of an error for want of memory."""
    try:
        yield
    except (MemoryError, tf.errors.ResourceExhaustedError) as error:
        raise UserError("out of memory; give %s (%s)" % (remedy, first_line(error)))


class Command(object):
    """One command on one stage."""

    def __init__(self, options):
        """Takes the command line.

        Args:
          options: object with an attribute for each flag of run_classifier.py, which
            documents them; and `bert_is_given`, whether --bert_pretrained_model was in
            the command or is the default.
        """
        self.options = options
        self.stage = stage.REPLACING
        if options.finetune_pre:
            self.stage = stage.PREDECESSOR
        if options.finetune_suc:
            self.stage = stage.SUCCESSOR
        flag = self.stage.output_flag
        self.folder = StageFolder(getattr(options, flag), flag)
        self.padded_length = options.max_seq_length if options.pad_to_max_length else None
        self.form = reading.FileForm(options.header, options.encoding, options.skip_bad_lines)
        self.task = self._find_task()
        if options.do_lower_case is None:
            options.do_lower_case = (self.folder.definition() or {}).get("do_lower_case")

    def run(self):
        """Carries out the verbs of the command line, in their order."""
        # What may be missing is looked for before a training that may take hours.
        if self.options.do_train:
            check_precision(self.options.precision)
        if self.options.do_export:
            export_successor.refuse_missing_packages(self._export_paths())
        if self.options.threshold is not None and len(self.task.labels) != 2:
            raise UserError("--threshold: is for two labels; this task has others")
        export_pairs = self._read_split("dev") if self.options.do_export else None
        eval_sets = self._find_eval_sets() if self.options.do_eval else None
        predict_set = self._find_predict_set() if self.options.do_predict else None
        start = None
        if self.options.do_train:
            start = starting_point.find_start(self.options, self.stage, self.task)
            self.options.do_lower_case = start.do_lower_case
        else:
            self.folder.best_checkpoint()
        with self.folder.locked() if self._writes() else contextlib.nullcontext():
            if self.options.do_train:
                with _in_memory(_TRAIN_MEMORY):
                    self.train(start)
            if self.options.do_eval:
                with _in_memory("a smaller --eval_batch_size"):
                    self.evaluate(eval_sets)
            if self.options.do_predict:
                with _in_memory("a smaller --predict_batch_size"):
                    self.predict(predict_set)
            if self.options.do_export:
                with _in_memory("a smaller --eval_batch_size"):
                    self.export(export_pairs)

    def _writes(self):
        """Returns whether a verb writes to the folder: all but predicting from a pipe do."""
        options = self.options
        other = options.do_train or options.do_eval or options.do_export
        return other or options.predict_file != reading.STANDARD_INPUT

    # --- The task ---

    def _find_task(self):
        """Returns the tasks.Task; what it leaves open is the folder's, or the training data's."""
        options = self.options
        task = tasks.TASKS[options.task_name]
        if not task.takes_columns:
            return task
        task = tasks.with_columns(task, self._columns())
        if options.labels:
            task = dataclasses.replace(task, labels=tuple(map(tasks.clean_label, options.labels)))
        held = self.folder.definition()
        if held and held["task_name"] == task.name:
            return tasks.recorded(held, task)
        train_file = reading.find_files(options.data_dir, task, "train")[0]
        return reading.complete_task(task, train_file, self.form)

    def _columns(self):
        options = self.options
        return tasks.Columns(options.text_a_column, options.text_b_column, options.label_column)

    # --- Training ---

    def train(self, start):
        """Trains to the end, from wherever the folder stands, and prints all evaluations."""
        settings = self._settings()
        definition = self._run_definition(settings, start)
        self.folder.refuse_contradiction(definition, _WORDS, _CONTENTS)
        tokenizer = pretrained.make_tokenizer(start.model, self.options.do_lower_case)
        train_data = self._train_data(tokenizer, definition)
        steps_per_epoch, num_steps = training.num_steps(settings, len(train_data))
        if not self.folder.state()["is_finished"]:
            place = "stage %d, %s, in %s" % (self.stage.number, self.stage.name, self.folder.path)
            logging.info("%s: %d steps on %d examples", place, num_steps, len(train_data))
            changed = machine.describe_change(self.folder.began_on(), machine.describe())
            if changed:
                message = "%s began elsewhere (here: %s); from here on its bits may be others"
                logging.info(message, self.folder.path, changed)
            if self.task.takes_columns:
                logging.info("the labels are %s", ", ".join(self.task.labels))
            dev_data = self._encode(self._read_split("dev"), tokenizer)
            self._train_on(train_data, dev_data, settings, start, definition)
        self._write_training_time(len(train_data), steps_per_epoch)
        print(training.evaluations_table(self.folder.state(), steps_per_epoch), flush=True)

    def _train_data(self, tokenizer, definition):
        """Returns the training pairs encoded, from the cache where they were encoded before."""

        def read():
            count = self.options.max_train_examples
            return reading.sample_examples(self._read_split("train"), count)

        def encode():
            return self._encode(read(), tokenizer)

        if self.options.cache_dir:
            content = [_CACHE_VERSION] + [definition[key] for key in _ENCODING_KEYS]
            path = os.path.join(self.options.cache_dir, hash_text(json.dumps(content)) + ".npz")
            encoded = input_pipeline.through_cache(path, encode)
        else:
            encoded = encode()
        unknown = unknown_words.UnknownWords(tokenizer)
        unknown.add(encoded, read)
        _warn_of(unknown, "train")
        return encoded

    def _train_on(self, train_data, dev_data, settings, start, definition):
        """Builds the graph, claims the folder once the weights fit, and trains."""
        config = start.model.config
        options = self.options
        depth = config.num_hidden_layers
        groups = self.stage.groups(depth, options.suc_layers, options.modules)
        _, num_steps = training.num_steps(settings, len(train_data))
        with new_session(training.gains_by_rewrites(config)) as session:
            graph = training.build_graph(settings, config, self.task, groups, num_steps)
            variables, successor_fit = graph.variables, None
            if start.successor_weights is not None:
                successor_fit = training.match_successor(start.successor_weights, variables)
                variables = [v for v in variables if v.op.name not in successor_fit.sources]
            fit = training.match_weights(
                settings,
                start.weights,
                variables,
                start.successor_start,
                start.takes_classifier,
            )
            self.folder.claim(definition, _model_files(start.model), machine.describe())
            trainer = training.Trainer(
                settings, self._reporting(), graph, train_data, dev_data, self.folder, session
            )
            trainer.initialize(start.weights, fit, start.successor_weights, successor_fit)
            if not trainer.run():
                raise UserError("stopped; the same command goes on from there")

    def _settings(self):
        """Returns the training.Settings; what the stage has no use for is None."""
        options, replacing = self.options, self.stage.replaces
        accumulation = options.gradient_accumulation_steps
        return training.Settings(
            stage=self.stage,
            train_scope=options.train_scope or self.stage.default_scope,
            learning_rate=options.learning_rate,
            num_train_epochs=options.num_train_epochs,
            warmup_proportion=options.warmup_proportion,
            train_batch_size=options.train_batch_size,
            seed=options.seed,
            precision=options.precision or "float32",
            padded_length=self.padded_length,
            replace_rate_prob=options.replace_rate_prob if replacing else None,
            replace_linear_k=options.replace_linear_k if replacing else None,
            replace_until=options.replace_until if replacing else None,
            steps_for_replacing=options.steps_for_replacing if replacing else None,
            early_stopping_patience=options.early_stopping_patience,
            gradient_accumulation_steps=accumulation if accumulation > 1 else None,
        )

    def _reporting(self):
        options = self.options
        return training.Reporting(
            eval_batch_size=options.eval_batch_size,
            log_steps=options.log_steps,
            save_checkpoints_steps=options.save_checkpoints_steps,
            save_checkpoints_secs=options.save_checkpoints_secs,
        )

    def _run_definition(self, settings, start):
        """Returns all that defines a run of training, as a dict of JSON values."""
        definition = dataclasses.asdict(settings)
        definition.update(modules=None, suc_init=start.suc_init)
        definition.update(self._model_definition())
        definition.update(
            max_train_examples=self.options.max_train_examples,
            columns=list(self._columns()) if self.task.takes_columns else None,
            header=None if self.options.header == "auto" else self.options.header,
            encoding=self.options.encoding,
            skip_bad_lines=self.options.skip_bad_lines or None,
            train_data=hash_files(self._files("train")),
            dev_data=hash_files(self._files("dev")[:1]),
            bert_config=start.model.config.to_dict(),
            vocab=starting_point.hash_vocab(start.model),
            weights=hash_files(weights_lib.checkpoint_files(start.weights.prefix)),
        )
        return definition

    def _write_training_time(self, num_examples, steps_per_epoch):
        state = self.folder.state()
        seconds = state["train_seconds"]
        # Of the steps taken, which may be fewer than --num_train_epochs asks for.
        speed = num_examples * state["last"]["global_step"] / steps_per_epoch / seconds
        self.folder.update_json(
            "timing.json", train_seconds=seconds, train_examples_per_second=speed
        )

    # --- Evaluation and prediction ---

    def evaluate(self, eval_sets):
        """Evaluates the best checkpoint; prints a table and writes eval_results.json.

        Args:
          eval_sets: list of ExampleFile: the split, then each of --eval_files.
        """
        results = []
        with self._trained_classifier(self.options.precision) as trained:
            start = time.perf_counter()
            for labelled in eval_sets:
                results.append((labelled.name, self._evaluate_set(trained, labelled)))
            seconds = time.perf_counter() - start
        best, (split, split_metrics) = self.folder.state()["best"], results[0]
        report = collections.OrderedDict(split=split, **split_metrics)
        report.update(global_step=best["global_step"], checkpoint=best["checkpoint"])
        report["compute_type"] = self.options.precision or self.folder.definition()["precision"]
        report["threshold"] = self.options.threshold
        report["eval_files"] = dict(results[1:])
        self.folder.write_json("eval_results.json", report)
        speed = sum(values["num_examples"] for _, values in results) / seconds
        self.folder.update_json("timing.json", eval_seconds=seconds, eval_examples_per_second=speed)
        print("\n".join(self._describe_results(results)), flush=True)

    def _evaluate_set(self, trained, labelled):
        """Returns the metrics of an ExampleFile, with the confusion table and best threshold."""
        parts = list(self._classify(trained, labelled, self.options.eval_batch_size))
        labels = np.concatenate([encoded.labels for _, encoded, _ in parts])
        logits = np.concatenate([values for _, _, values in parts])
        found = metrics.compute(self.task, logits, labels, self.options.threshold)
        if not self.task.is_regression:
            found["confusion"] = metrics.confusion(
                self.task, logits, labels, self.options.threshold
            )
        if len(self.task.labels) == 2:
            found["best_threshold"] = metrics.best_threshold(logits, labels)
        return found

    def _describe_results(self, results):
        """Yields the table of all files, and what more is to be said of the first."""
        yield metrics.format_table(results)
        _, found = results[0]
        if "confusion" in found:
            yield "\n" + metrics.format_confusion(self.task, found["confusion"])
        if self.options.eval_split == "dev" and found.get("best_threshold"):
            yield "\n" + metrics.format_threshold(found["best_threshold"])

    def predict(self, predict_set):
        """Writes the predictions for a file's examples, labelled or not, in their order.

        Those of a file go to predictions.tsv, those of standard input to standard output.
        """
        with self._trained_classifier(self.options.precision) as trained:
            start = time.perf_counter()
            pools = self._classify(trained, predict_set, self.options.predict_batch_size)
            with self._predictions_writer(predict_set) as writer:
                count = evaluation.write_predictions(
                    writer,
                    self.task,
                    ((rows, logits) for rows, _, logits in pools),
                    self.options.threshold,
                )
            seconds = time.perf_counter() - start
        if predict_set.path == reading.STANDARD_INPUT:
            return
        self.folder.update_json(
            "timing.json", predict_seconds=seconds, predict_examples_per_second=count / seconds
        )
        print("%d predictions in %s" % (count, self.folder.file("predictions.tsv")), flush=True)

    def _predictions_writer(self, predict_set):
        if predict_set.path == reading.STANDARD_INPUT:
            return io.open(sys.stdout.fileno(), "w", encoding="utf-8", newline="\n", closefd=False)
        return self.folder.writing("predictions.tsv")

    def _classify(self, trained, chosen, batch_size):
        """Yields (Examples, EncodedExamples, logits) of one pool of a file after another."""
        rows = reading.iterate_examples(chosen.path, self.task, chosen.is_labelled, self.form)
        run = evaluation.runner(trained.session, trained.graph)
        unknown = unknown_words.UnknownWords(trained.tokenizer)
        with evaluation.progress_bar(chosen.name, chosen.num_examples) as bar:
            for pool in input_pipeline.cut_into_pools(rows, batch_size):
                encoded = self._encode(pool, trained.tokenizer)
                unknown.add(encoded, lambda examples=pool: examples)
                yield (
                    pool,
                    encoded,
                    evaluation.compute_logits(run, encoded, batch_size, self.padded_length, bar),
                )
        _warn_of(unknown, chosen.path)

    # --- Export ---

    def export(self, dev_pairs):
        """Writes the best checkpoint's model in the formats of the command; prints a table.

        Args:
          dev_pairs: labelled examples, to compare each export with the graph.
        """
        paths = self._export_paths()
        export_successor.refuse_foreign(self.folder, paths)
        # An export is float32: so is what it is compared with.
        with self._trained_classifier("float32") as trained:
            dev_data = self._encode(dev_pairs, trained.tokenizer)
            batch_size = self.options.eval_batch_size
            exporter = export_successor.Exporter(
                self.folder, trained, dev_data, batch_size, dev_pairs
            )
            rows = [exporter.graph_row]
            try:
                for name, path in paths.items():
                    rows.append(exporter.export(name, path))
            finally:  # What is complete is said, even where a later one fails.
                print(export_successor.format_rows(rows, self.task), flush=True)

    def _export_paths(self):
        """Returns the folder of each export by the name of its format."""
        paths = collections.OrderedDict()
        for name in self.options.export_format:
            if name == "onnx" and self.options.quantize:
                name = "onnx_" + self.options.quantize
            paths[name] = self.options.export_dir or self.folder.file(os.path.join("export", name))
        return paths

    # --- What they share ---

    def _trained_classifier(self, precision):
        """Loads the best checkpoint as a TrainedClassifier, after the command was compared."""
        self.folder.refuse_contradiction(self._model_definition(), _WORDS, _CONTENTS)
        starting_point.read_trained_model(self.folder, self.options)
        return trained_model.load(self.folder, precision)

    def _find_eval_sets(self):
        split = self.options.eval_split
        files = list(zip(self.task.files(split), self._files(split)))
        files += [(path, path) for path in self.options.eval_files]
        logging.info("evaluating on %s", ", ".join(path for _, path in files))
        return [self._check_file(name, path, is_labelled=True) for name, path in files]

    def _find_predict_set(self):
        path = self.options.predict_file or self._files("test")[0]
        return self._check_file("predict", path, is_labelled=False)

    def _check_file(self, name, path, is_labelled):
        """Reads a file to its end; returns it as an ExampleFile."""
        rows = reading.iterate_examples(path, self.task, is_labelled, self.form)
        return ExampleFile(name, path, is_labelled, sum(1 for _ in rows))

    def _model_definition(self):
        """Returns what a trained model cannot be used without, as a dict."""
        values = collections.OrderedDict()
        if self.stage.replaces and self.options.modules:
            # Else --suc_layers says all that the trained model needs.
            values["modules"] = self.options.modules
        values.update((key, getattr(self.options, key)) for key in _MODEL_FLAGS)
        if not self.stage.has_successor:
            values["suc_layers"] = None
        is_open = self.task.takes_columns
        values["labels"] = list(self.task.labels) if is_open else None
        values["num_texts"] = self.task.num_texts if is_open else None
        return dict(values, stage=self.stage.name)

    def _files(self, split):
        return reading.find_files(self.options.data_dir, self.task, split)

    def _read_split(self, split):
        """Returns the Examples of a split; of its first file where it has several."""
        return reading.read_examples(self._files(split)[0], self.task, form=self.form)

    def _encode(self, rows, tokenizer):
        length = self.options.max_seq_length
        return input_pipeline.encode_examples(rows, self.task, tokenizer, length)


def _warn_of(unknown, name):
    """Logs what UnknownWords say of a file."""
    warning = unknown.warning(name)
    if warning:
        logging.warning("%s", warning)


def _model_files(model):
    vocab = tokenization.read_vocab(model.vocab_file)
    return {"bert_config.json": model.config.to_json_string(), "vocab.txt": vocab}
