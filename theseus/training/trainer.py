"""The session loop of one stage: train, evaluate after each epoch, keep last and best."""

import dataclasses
import math
import time

from absl import logging

from theseus.errors import FolderError
from theseus.inference import evaluation, metrics
from theseus.training import curves, initial_weights
from theseus.training.checkpoints import Checkpoints
from theseus.training.graph import describe_variables
from theseus.training.progress import Progress
from theseus.training.replaced_losses import ReplacedLosses
from theseus.training.steps import steps_done
from theseus.training.stop import stop_on_signal


def is_best(task, values, state):
    """Returns whether dev metrics are better than all evaluations of a State.

    An undefined score is worse than any number. Two undefined scores count as an improvement, so
    that a training neither stops early nor keeps its first epoch only because its scores cannot be
    compared.
    """
    score = metrics.score(task, values)
    others = [metrics.score(task, entry) for entry in state.evaluations]
    return all(math.isnan(other) or score > other for other in others)


class Trainer(object):
    """Trains one stage in a locked StageFolder, from the beginning or from its last checkpoint.

    If there are several workers, only the chief has a Trainer; the others `follow` it.
    """

    def __init__(self, config, graph, steps, dev_data, folder, session, workers):
        """Keeps its arguments.

        Args:
          config: config.Config.
          graph: a TrainingGraph.
          steps: Steps.
          dev_data: labelled encoding.EncodedExamples.
          folder: a locked stage_folder.StageFolder.
          session: a tf.Session over the graph.
          workers: Workers of the session.
        """
        self.config = config
        self.graph = graph
        self.steps = steps
        self.dev_data = dev_data
        self.folder = folder
        self.session = session
        self.workers = workers
        self._checkpoints = Checkpoints(session, folder, graph.kept)
        self._state = folder.sound_state()
        keep, epochs = config.keep_checkpoints, math.ceil(steps.epochs)
        folder.check_full_disk(self._checkpoints.num_bytes(keep, steps.in_all, epochs))
        self._curves = None
        self._replaced_losses = ReplacedLosses(self._state.unreplaced_losses())
        self._saved_at = time.monotonic()

    def initialize(self, initial):
        """Restores the last checkpoint, or else loads the InitialWeights; logs which."""
        self.folder.sweep(self._state)
        last = self._state.last
        initial_weights.start(initial, self.session, self.workers, last is None)
        if last:
            self._checkpoints.restore(self.folder.file(last.checkpoint))
            self._check_same_step()
        self.workers.take_over_weights()
        logging.info("%s", describe_variables(self.graph.trained, self.graph.variables))

    def _check_same_step(self):
        """Raises FolderError if state.json and its last checkpoint do not belong together."""
        last, found = self._state.last, steps_done(self.session)
        if last.global_step != found or found > self.steps.in_all:
            raise FolderError(
                "%s: says step %d, but its checkpoint is from step %d of %d;"
                % (self.folder.file("state.json"), last.global_step, found, self.steps.in_all)
            )

    def run(self):
        """Trains to the end; first evaluates an epoch that was interrupted before its evaluation.

        Returns:
          bool: whether the training ended without a signal to stop.

        Raises:
          UserError: a loss or a logit is not finite; a checkpoint cannot be read or written.
        """
        step = steps_done(self.session)
        evaluated = [entry["global_step"] for entry in self._state.evaluations]
        self._curves = curves.EventWriter(self.folder.path, step, evaluated)
        with self._curves, stop_on_signal(self.workers) as stop:
            while True:
                if self.steps.ends_epoch(step) and not self._state.is_evaluated(step):
                    self._save_last(step)
                    self._evaluate(step)
                if stop.ends_training(self._state.is_finished):
                    self._save_last(step)
                    return not stop.requested
                with self._progress(step) as progress:
                    for rows in self.steps.rest_of_epoch(step):
                        start = time.perf_counter()
                        values = self.steps.train_step(rows, step)
                        step += 1
                        self._state.train_seconds += time.perf_counter() - start
                        self._log(progress, step, values, len(rows))
                        if self._is_save_due(step):
                            self._save_last(step)
                        if stop.is_requested():
                            break
                if self.config.stage.replaces:
                    self._replaced_losses.log_epoch()

    # --- Log ---

    def _log(self, progress, step, values, num_examples):
        """Logs a finished step, given its number, its StepValues and its number of examples."""
        replaces = self.config.stage.replaces
        speed = progress.update(step, values, num_examples)
        self._curves.add(step, curves.step_scalars(values, replaces, speed))
        if replaces:
            self._replaced_losses.add(int(values.mask.sum()), float(values.loss))

    def _progress(self, step):
        epoch, end = self.steps.epoch_of(step)
        name = "epoch %d/%d" % (epoch + 1, math.ceil(self.steps.epochs))
        log_steps, replaces = self.config.log_steps, self.config.stage.replaces
        return Progress(name, step, end, self.steps.in_all, log_steps, replaces)

    # --- Checkpoints ---

    def _is_save_due(self, step):
        every = self.config.save_checkpoints_steps
        seconds = self.config.save_checkpoints_secs
        return bool(every and step % every == 0) or time.monotonic() - self._saved_at >= seconds

    def _save_last(self, step):
        """Saves all that the next step needs, unless this step was saved already."""
        if self._state.last and self._state.last.global_step == step:
            return
        saved = self._checkpoints.save("last", step)
        saved = dataclasses.replace(saved, unreplaced_losses=self._replaced_losses.unreplaced())
        self._state.renew_last(saved, self.config.keep_checkpoints)
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
            self.config.eval_batch_size,
        )
        state = self._state
        if self.config.select_checkpoint == "last" or is_best(self.graph.task, values, state):
            state.best = self._checkpoints.save("best", step)
        state.evaluations.append(dict(values, global_step=step))
        stale = state.stale_evaluations()
        stops_early = stale == self.config.early_stopping_patience and step < self.steps.in_all
        state.is_finished = step == self.steps.in_all or stops_early
        floats = {name: value for name, value in values.items() if isinstance(value, float)}
        self._curves.add(step, {curves.EVALUATION + n: v for n, v in floats.items()})
        self._commit()
        place = (step / self.steps.per_epoch, self.steps.epochs, step)
        place += (metrics.headline(self.graph.task, values), seconds)
        logging.info("epoch %.4g of %.4g, step %d: dev %s (%.1f s)", *place)
        if stops_early:
            message = "stopping early (--early_stopping_patience=%d): step %d is still the best"
            logging.info(message, stale, state.best.global_step)


def follow(initial, steps, session, workers):
    """Trains on a worker that is not the chief, in the same steps as the chief; writes nothing.

    Args:
      initial: InitialWeights.
      steps: Steps.
      session: a tf.Session over the TrainingGraph.
      workers: Workers of the session.

    Returns:
      bool: whether the training ended without a signal to stop.

    Raises:
      UserError: the loss is no longer a finite number.
    """
    initial_weights.start(initial, session, workers)
    workers.take_over_weights()
    step = steps_done(session)
    with stop_on_signal(workers) as stop:
        while not stop.ends_training():
            for rows in steps.rest_of_epoch(step):
                steps.train_step(rows, step)
                step += 1
                if stop.is_requested():
                    break
        return not stop.requested
