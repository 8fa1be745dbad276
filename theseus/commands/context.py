"""The parts that a command's actions share: its config, folder, task, data and trained model."""

import contextlib
import dataclasses
import os

from absl import logging

from theseus import stage as stages
from theseus.checkpoints import head
from theseus.commands import initial_checkpoint
from theseus.commands.data import Data
from theseus.commands.run_config import check_contradiction, model_run_config
from theseus.errors import UserError, naming
from theseus.inference import model_folder
from theseus.inputs import inferred_task, sources, tasks
from theseus.runs.stage_folder import StageFolder


class Context(object):
    """One command on one stage; a context manager that closes its models at the end.

    Attributes:
      config: config.Config.
      stage: a Stage.
      folder: the StageFolder.
      task: the tasks.Task, completed from the folder, or from the training data.
      data: Data.
    """

    def __init__(self, config):
        """Finds the folder and the task."""
        form = sources.options_of(config)
        self.config, self.stage = config, config.stage
        self.folder = StageFolder(config.output_dir)
        with naming(self.stage.output_flag):
            self.task = self._find_task(form)
        self.data = Data(self.config, self.task, form)
        self._external = None
        self._models, self._open = {}, contextlib.ExitStack()

    def __enter__(self):
        return self

    def __exit__(self, *exception):
        return self._open.__exit__(*exception)

    def _find_task(self, form):
        """Returns the Task of the flags, completed from the folder, from train or from a model.

        Raises:
          UserError: --metric does not apply to the task.
        """
        config, recorded = self.config, self.folder.run_config() or {}
        task = tasks.of_flags(config.task_name, self.columns(), config.labels)
        if recorded.get("task_name") == task.name:
            task = tasks.recorded(recorded, task)
        elif task.takes_columns and "train" not in config.actions:
            task = self._task_of_external(task, form)
        else:
            if task.takes_columns:
                train_file = sources.find_files(config.data_dir, task, "train")[0]
                task = inferred_task.infer_task(task, train_file, form)
            task = head.named_as(initial_checkpoint.label_names(config), task)
        if not config.metric:
            return task
        if task.is_regression != (config.metric in tasks.METRICS_OF_NUMBERS):
            kind = "numbers" if task.is_regression else "labels"
            raise UserError("--metric: %s does not apply to predicted %s" % (config.metric, kind))
        return dataclasses.replace(task, metrics=(config.metric,))

    def _task_of_external(self, task, form):
        """Returns a Task completed from an external classifier and the files to read."""
        config = self.config
        if config.actions == ("predict",):
            if task.labels is None:
                folder = self._open_external(None)
                task = dataclasses.replace(task, labels=model_folder.task_of(folder).labels)
            path = config.predict_file
            if path in (None, sources.STANDARD_INPUT):
                path = sources.find_files(config.data_dir, task, "test")[0]
            return inferred_task.infer_task(task, path, form)
        names = initial_checkpoint.label_names(config)
        if not names:
            self._open_external(None)  # Raises UserError if there is no such model.
        path = sources.find_files(config.data_dir, task, config.eval_split)[0]
        task = inferred_task.infer_task(task, path, form)
        return head.named_as(names, task, may_lack=True)

    @property
    def pipes_predictions(self):
        """Whether standard output is reserved for predictions, a bool."""
        return self.config.predict_file == sources.STANDARD_INPUT

    def result(self, name):
        """Returns the name, in the folder, of a result of this command; see stage.result."""
        return stages.result(name, self.config.replaced_modules)

    def columns(self):
        """Returns the columns named by the command's flags, a tasks.NamedColumns."""
        config = self.config
        return tasks.NamedColumns(config.text_a_column, config.text_b_column, config.label_column)

    def trained_folder(self):
        """Returns the source of the trained model: the StageFolder, or an ExternalClassifier.

        An ExternalClassifier is given by --init_checkpoint, or lies in the output folder itself.

        Raises:
          UserError: there is no trained model.
        """
        if self.folder.run_config() or "train" in self.config.actions:
            return self.folder
        if self._external is None:
            self._external = self._open_external(self.task)
            if isinstance(self._external, model_folder.ExternalClassifier):
                self._external.log_tokenizer()
        return self._external

    def _open_external(self, task):
        """Returns the ExternalClassifier, or another stage's folder, that the command uses.

        Args:
          task: the tasks.Task whose labels the classifier must give; None: its own task.
        """
        config, path, flag = self.config, self.config.init_checkpoint, "init_checkpoint"
        if path is None:
            path, flag = self.folder.path, self.stage.output_flag
            if not os.path.isdir(path) or not os.listdir(path):
                self.folder.best_checkpoint()  # Raises UserError, since there is no model.
        with naming(flag):
            others = config.bert_pretrained_model, flag, config.max_seq_length, config.do_lower_case
            folder = model_folder.trained_folder(path, task, *others)
            if isinstance(folder, StageFolder) and task is not None:
                check_contradiction(folder, model_run_config(self))
            return folder

    def check_trained_folder(self):
        """Raises UserError if there is no trained model, or the command contradicts it."""
        self.trained_folder().best_checkpoint()
        check_contradiction(self.folder, model_run_config(self))
        if self.folder.run_config():
            initial_checkpoint.read_trained_model(self.folder, self.config)

    def trained_model(self, precision=None, is_calibrated=True):
        """Returns the TrainedModel of the folder's best checkpoint, loaded once.

        Args:
          precision: str; None: the command's precision, or else the training's.
          is_calibrated: see trained_model.load.

        Raises:
          UserError: the command contradicts the model, or the model is damaged.
        """
        from theseus.inference import trained_model  # Imports TensorFlow.

        folder = self.trained_folder()
        recorded = folder.trained_run_config()
        precision = precision or self.config.precision or recorded["precision"]
        mask = self.config.replaced_modules
        if (precision, is_calibrated) not in self._models:
            self.check_trained_folder()
            loading = trained_model.load(folder, precision, mask, is_calibrated)
            trained = self._open.enter_context(loading)
            if mask:
                logging.info("mixture %s: %s", stages.digits(mask), ", ".join(trained.layers))
            self._models[precision, is_calibrated] = trained
        return self._models[precision, is_calibrated]
