"""What the actions of one command share: its config, folder, task, data and trained model."""

import contextlib
import dataclasses

from absl import logging

from theseus import stage as stages
from theseus.commands import initial_checkpoint
from theseus.commands.data import Data
from theseus.commands.run_config import check_contradiction, model_run_config
from theseus.errors import UserError, naming
from theseus.inference import metrics, trained_model
from theseus.inputs import inferred_task, sources, tasks
from theseus.runs.stage_folder import StageFolder


class Context(object):
    """One command on one stage; a context manager, at whose end its models are closed.

    Attributes:
      config: config.Config; --do_lower_case, if it is not given, is the folder's.
      stage: a Stage.
      folder: the StageFolder.
      task: the tasks.Task; what it leaves open is the folder's, or the training data's.
      data: Data.
    """

    def __init__(self, config):
        """Finds the folder and the task."""
        form = sources.ReadOptions(
            config.header, config.encoding, config.skip_bad_lines, config.format, config.delimiter
        )
        self.stage = config.stage
        self.folder = StageFolder(config.output_dir)
        with naming(self.stage.output_flag):
            self.config = self._with_recorded_case(config)
            self.task = self._find_task(form)
        self.data = Data(self.config, self.task, form)
        self._models, self._open = {}, contextlib.ExitStack()

    def __enter__(self):
        return self

    def __exit__(self, *exception):
        return self._open.__exit__(*exception)

    def _with_recorded_case(self, config):
        """Returns a Config in which --do_lower_case, if it is not given, is the folder's."""
        recorded = self.folder.run_config()
        if config.do_lower_case is not None or not recorded:
            return config
        return dataclasses.replace(config, do_lower_case=recorded.get("do_lower_case"))

    def _find_task(self, form):
        """Returns the Task of the flags; what they leave open is the folder's, or train's.

        Raises:
          UserError: --metric is none of such a task.
        """
        config, recorded = self.config, self.folder.run_config() or {}
        task = tasks.of_flags(config.task_name, self.columns(), config.labels)
        if recorded.get("task_name") == task.name:
            task = tasks.recorded(recorded, task)
        elif task.takes_columns:
            if "train" not in config.actions:
                self.folder.best_checkpoint()  # There is none: a line says so.
            train_file = sources.find_files(config.data_dir, task, "train")[0]
            task = inferred_task.infer_task(task, train_file, form)
        if not config.metric:
            return task
        if task.is_regression != (config.metric in metrics.OF_NUMBERS):
            kind = "numbers" if task.is_regression else "labels"
            raise UserError("--metric: %s is not for a task of %s" % (config.metric, kind))
        return dataclasses.replace(task, metrics=(config.metric,))

    @property
    def pipes_predictions(self):
        """Whether standard output is for predictions alone, a bool."""
        return self.config.predict_file == sources.STANDARD_INPUT

    def result(self, name):
        """Returns the name, in the folder, of a result of this command; see stage.result."""
        return stages.result(name, self.config.replaced_modules)

    def columns(self):
        """Returns the columns that the command names, a tasks.NamedColumns."""
        config = self.config
        return tasks.NamedColumns(config.text_a_column, config.text_b_column, config.label_column)

    def trained_model(self, precision=None, is_calibrated=True):
        """Returns the TrainedModel of the folder's best checkpoint, loaded once.

        Args:
          precision: str; None: as the command says, or else that of the training.
          is_calibrated: see trained_model.load.

        Raises:
          UserError: the command contradicts it, or it is damaged.
        """
        recorded = self.folder.trained_run_config()
        precision = precision or self.config.precision or recorded["precision"]
        mask = self.config.replaced_modules
        if (precision, is_calibrated) not in self._models:
            check_contradiction(self.folder, model_run_config(self))
            initial_checkpoint.read_trained_model(self.folder, self.config)
            loading = trained_model.load(self.folder, precision, mask, is_calibrated)
            trained = self._open.enter_context(loading)
            if mask:
                logging.info("the mixture %s: %s", stages.digits(mask), ", ".join(trained.layers))
            self._models[precision, is_calibrated] = trained
        return self._models[precision, is_calibrated]
