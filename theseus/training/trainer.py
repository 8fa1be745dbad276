"""The session loop of one stage: train, evaluate after each epoch, keep last and best."""

import contextlib
import math
import os
import signal
import time

import numpy as np
import tensorflow.compat.v1 as tf
from absl import logging

from theseus.errors import UserError
from theseus.inference import evaluation, metrics
from theseus.inputs import batches
from theseus.training import curves, initial_weights
from theseus.training.checkpoints import Checkpoints
from theseus.training.graph import describe_variables
from theseus.training.progress import Progress
from theseus.training.replaced_losses import ReplacedLosses
from theseus.training.steps import StepRunner


def is_best(task, values, state):
    """Returns whether dev metrics are better than all that a State holds."""
    best = state.best_evaluation()
    return best is None or metrics.score(task, values) > metrics.score(task, best)


class Trainer(object):
    """Trains one stage in a locked StageFolder, from wherever it stands."""

    def __init__(self, settings, reporting, graph, train_data, dev_data, folder, session):
        """Takes the parts.

        Args:
          settings: Settings.
          reporting: Reporting.
          graph: a TrainingGraph.
          train_data, dev_data: labelled encoding.EncodedExamples.
          folder: a locked stage_folder.StageFolder.
          session: a tf.Session over the graph.
        """
        self.settings = settings
        self.reporting = reporting
        self.graph = graph
        self.train_data = train_data
        self.dev_data = dev_data
        self.folder = folder
        self.session = session
        self.steps_per_epoch, self.num_steps = settings.num_steps(len(train_data))
        parts = settings.gradient_accumulation_steps or 1
        self.step_runner = StepRunner(session, graph, train_data, parts)
        self._checkpoints = Checkpoints(session, folder, graph.evaluation.variables)
        self._state = folder.state()
        self._curves = None
        self._replaced_losses = ReplacedLosses()
        self._saved_at = time.monotonic()

    def initialize(self, initial):
        """Restores the last checkpoint, or starts from InitialWeights; says which."""
        self.folder.sweep(self._state)
        self.session.run([variable.initializer for variable in tf.local_variables()])
        last = self.folder.checkpoint("last")
        if last:
            self._checkpoints.restore(last)
        else:
            initial_weights.load(initial, self.session)
        logging.info("%s", describe_variables(self.graph.trained, self.graph.variables))

    def run(self):
        """Trains to the end; evaluates, first of all, an epoch that was left unevaluated.

        Returns:
          bool: whether it came to the end without a signal to stop.

        Raises:
          UserError: the loss or a logit is no longer a finite number; a checkpoint cannot
            be read or written.
        """
        step = int(self.session.run(tf.train.get_global_step()))
        evaluated = [entry["global_step"] for entry in self._state.evaluations]
        self._curves = curves.EventWriter(self.folder.path, step, evaluated)
        with self._curves, _stop_on_signal() as stop:
            while True:
                if self._ends_epoch(step) and not self._state.is_evaluated(step):
                    self._save_last(step)
                    self._evaluate(step)
                if self._state.is_finished or stop.requested:
                    self._save_last(step)
                    return not stop.requested
                step = self._train_epoch(step, stop)

    def _ends_epoch(self, step):
        return step > 0 and (step % self.steps_per_epoch == 0 or step == self.num_steps)

    def _train_epoch(self, step, stop):
        """Trains from `step` to the epoch's end, or to a stop; returns the step reached."""
        settings, epoch = self.settings, step // self.steps_per_epoch
        size, lengths = settings.train_batch_size, self.train_data.lengths
        plan = batches.plan_epoch(lengths, size, settings.seed, epoch)
        end = min((epoch + 1) * self.steps_per_epoch, self.num_steps)
        with self._progress(epoch, step, end) as progress:
            while step < end and not stop.requested:
                rows = plan[step - epoch * self.steps_per_epoch]
                values = self._train_step(rows, step)
                step += 1
                speed = progress.update(step, values, len(rows))
                self._curves.add_step(step, values, settings.stage.replaces, speed)
                if settings.stage.replaces:
                    self._replaced_losses.add(int(values.path.sum()), float(values.loss))
                if self._is_save_due(step):
                    self._save_last(step)
        if settings.stage.replaces:
            self._replaced_losses.say_epoch()
        return step

    def _progress(self, epoch, step, end):
        name = "epoch %d/%d" % (epoch + 1, math.ceil(self.settings.num_train_epochs))
        log_steps, replaces = self.reporting.log_steps, self.settings.stage.replaces
        return Progress(name, step, end, self.num_steps, log_steps, replaces)

    def _train_step(self, rows, step):
        """Trains one step; returns its StepValues."""
        start = time.perf_counter()
        values = self.step_runner.run(rows)
        if not np.isfinite(values.loss):
            raise UserError(
                "the loss is %s in step %d; lower --learning_rate, in another folder than %s"
                % (values.loss, step + 1, self.folder.path)
            )
        self._state.train_seconds += time.perf_counter() - start
        return values

    # --- Checkpoints ---

    def _is_save_due(self, step):
        every = self.reporting.save_checkpoints_steps
        seconds = self.reporting.save_checkpoints_secs
        return bool(every and step % every == 0) or time.monotonic() - self._saved_at >= seconds

    def _save_last(self, step):
        """Saves everything that the next step needs, once a step."""
        if self._state.last and self._state.last.global_step == step:
            return
        self._state.last = self._checkpoints.save("last", step)
        self._commit()
        self._saved_at = time.monotonic()

    def _commit(self):
        self._curves.sync()
        self.folder.commit(self._state)

    # --- Evaluation ---

    def _evaluate(self, step):
        """Evaluates on dev, and keeps the weights if they are the best so far."""
        values, seconds = evaluation.evaluate(
            self.graph.task,
            evaluation.runner(self.session, self.graph.evaluation),
            self.dev_data,
            self.reporting.eval_batch_size,
        )
        state = self._state
        if is_best(self.graph.task, values, state):
            state.best = self._checkpoints.save("best", step)
        state.evaluations.append(dict(values, global_step=step))
        stale = state.stale_evaluations()
        stops_early = stale == self.settings.early_stopping_patience and step < self.num_steps
        state.is_finished = step == self.num_steps or stops_early
        floats = {name: value for name, value in values.items() if isinstance(value, float)}
        self._curves.add(step, {curves.EVALUATION + n: v for n, v in floats.items()})
        self._commit()
        place = (step / self.steps_per_epoch, self.settings.num_train_epochs, step)
        place += (metrics.headline(self.graph.task, values), seconds)
        logging.info("epoch %.4g of %g, step %d: dev %s (%.1f s)", *place)
        if stops_early:
            message = "stopping early, by --early_stopping_patience=%d: step %d is still the best"
            logging.info(message, stale, state.best.global_step)


class _Stop(object):
    requested = False


@contextlib.contextmanager
def _stop_on_signal():
    """Turns the first SIGINT or SIGTERM into a request, so that a step is not cut in two."""
    stop = _Stop()
    previous = {}

    def request(number, _):
        stop.requested = True
        signal.signal(number, previous[number])
        # print is not safe here: the signal may have come in the middle of one.
        os.write(2, b"\nstopping after this step; once more to stop at once\n")

    for number in (signal.SIGINT, signal.SIGTERM):
        previous[number] = signal.signal(number, request)
    try:
        yield stop
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
