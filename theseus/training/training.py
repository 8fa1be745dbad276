"""The session loop of one stage: train, evaluate after each epoch, keep last and best."""

import collections
import contextlib
import dataclasses
import math
import os
import signal
import time

import numpy as np
import tensorflow.compat.v1 as tf
from absl import logging
from tqdm import tqdm

import modeling_theseus
import optimization_theseus
from theseus import stage as stages
from theseus.checkpoints import weights as weights_lib
from theseus.errors import UserError, first_line
from theseus.inference import evaluation, metrics
from theseus.inputs import input_pipeline
from theseus.model import operations, variable_names
from theseus.model.random_key import RandomKey
from theseus.training import summaries

_CLASSIFIER = ("output_weights", "output_bias")


@dataclasses.dataclass(frozen=True)
class Settings:
    """What a user chooses of a stage's training.

    A field's name is its flag's, but for `stage`, a Stage, and `padded_length`, the length of
    each batch; None: that of its longest row. `train_scope` is resolved. With
    `replace_linear_k` or `replace_until` the replacing rate is linear, else constant.
    `gradient_accumulation_steps` is at least 2; None: a step's batch is computed at once.
    """

    stage: stages.Stage
    train_scope: str
    learning_rate: float
    num_train_epochs: float
    warmup_proportion: float
    train_batch_size: int
    seed: int
    precision: str = "float32"
    padded_length: int = None
    replace_rate_prob: float = 0.5
    replace_linear_k: float = None
    replace_until: float = None
    steps_for_replacing: int = None
    early_stopping_patience: int = None
    gradient_accumulation_steps: int = None


@dataclasses.dataclass(frozen=True)
class Reporting:
    """What a user chooses beside the training: how often to report and to save."""

    eval_batch_size: int = 64
    log_steps: int = 50
    save_checkpoints_steps: int = None
    save_checkpoints_secs: float = 600


TrainingGraph = collections.namedtuple(
    "TrainingGraph",
    "task features labels loss replacing_rate path train_op learning_rate gradient_norm evaluation "
    "variables trained micro_batch batch_size accumulate_op",
)
"""The graph of one stage.

Fields:
  task: the tasks.Task that it was built for.
  features, labels: placeholders; int32 [B, T] each, by name, and int32 or float32 [B].
  loss, replacing_rate: float32 scalars.
  path: bool [M], the modules replaced in this step.
  train_op, learning_rate, gradient_norm, accumulate_op: see optimization_theseus.Update.
  evaluation: an EvaluationGraph over the same variables.
  variables: list of the model's tf.Variable.
  trained: list of the tf.Variable that train.
  micro_batch: int64 scalar, the number of the micro-batch in its step, from 0.
  batch_size: int32 scalar, the rows of the whole step. Both are placeholders where a step's
    batch is cut into micro-batches, which is where there is an accumulate_op.
"""


StepValues = collections.namedtuple(
    "StepValues", "loss replacing_rate path learning_rate gradient_norm"
)
"""What a step has computed: floats, and the modules replaced, bool [M]."""


def num_steps(settings, num_examples):
    """Returns (steps in an epoch, steps in all); a part of an epoch counts as such."""
    steps_per_epoch = int(math.ceil(num_examples / settings.train_batch_size))
    return steps_per_epoch, max(1, int(round(steps_per_epoch * settings.num_train_epochs)))


def replacing_rate(settings, step, num_train_steps):
    """Returns the replacing rate of a step, float32 scalar; see optimization_theseus."""
    base = settings.replace_rate_prob
    if settings.replace_until:
        slope = (1.0 - base) / (settings.replace_until * num_train_steps)
        return optimization_theseus.linear_replacing_rate(step, slope, base)
    if settings.replace_linear_k:
        return optimization_theseus.linear_replacing_rate(step, settings.replace_linear_k, base)
    return optimization_theseus.constant_replacing_rate(step, base, settings.steps_for_replacing)


def gains_by_rewrites(config):
    """Returns whether a training's session should let TensorFlow rewrite the graph, a bool."""
    return config.hidden_size >= operations.WIDE


def build_graph(settings, config, task, groups, num_train_steps):
    """Builds a TrainingGraph for a tasks.Task in the default graph, whose seed it sets."""
    tf.set_random_seed(settings.seed)
    step = tf.identity(tf.train.get_or_create_global_step())
    evaluated = settings.stage.evaluated_path(groups)
    path, rate = evaluated, tf.constant(float(all(evaluated)))
    if settings.stage.replaces:
        rate = replacing_rate(settings, step, num_train_steps)
        path = modeling_theseus.draw_path(settings.seed, step, rate, len(groups))

    features = modeling_theseus.feature_placeholders()
    label_type = tf.float32 if task.is_regression else tf.int32
    labels = tf.placeholder(label_type, [None], name="labels")
    micro_batch, batch_size = 0, tf.shape(labels)[0]
    if settings.gradient_accumulation_steps:
        micro_batch = tf.placeholder(tf.int64, [], name="micro_batch")
        batch_size = tf.placeholder(tf.int32, [], name="batch_size")
    random_key = RandomKey(settings.seed, step, micro_batch)
    compute_type = tf.as_dtype(settings.precision)
    modules = modeling_theseus.encoder_modules(config, groups, path, random_key)
    logits = modeling_theseus.classifier_logits(
        features, config, task.num_outputs, modules, random_key, compute_type
    )
    loss = _loss(task)(logits, labels, batch_size)

    variables = tf.trainable_variables()
    trained = variable_names.trained_variables(settings.train_scope, variables)
    update = optimization_theseus.build_update(
        loss,
        settings.learning_rate,
        num_train_steps,
        num_warmup_steps=int(num_train_steps * settings.warmup_proportion),
        var_list=trained,
        accumulates=bool(settings.gradient_accumulation_steps),
    )
    return TrainingGraph(
        task=task,
        features=features,
        labels=labels,
        loss=loss,
        replacing_rate=rate,
        path=tf.convert_to_tensor(path),
        evaluation=evaluation.build_graph(
            config,
            task.num_outputs,
            modeling_theseus.encoder_modules(config, groups, evaluated),
            compute_type,
        ),
        variables=variables,
        trained=trained,
        micro_batch=micro_batch,
        batch_size=batch_size,
        **update._asdict(),
    )


def _loss(task):
    """Returns the task's loss, a function of (logits, labels, global_batch_size)."""
    if task.is_regression:
        return modeling_theseus.regression_loss
    return modeling_theseus.classification_loss


def describe_variables(trained, variables):
    """Returns a line, str: how much trains, and which parts of the model are frozen."""
    names = {v.op.name for v in trained}
    groups = collections.OrderedDict()
    for variable in variables:
        group = variable_names.variable_group(variable.op.name)
        groups[group] = groups.get(group, False) or variable.op.name in names
    frozen = [group for group, trains in groups.items() if not trains]
    return "training %d of %d variables, %s of %s parameters; frozen: %s" % (
        len(trained),
        len(variables),
        "{:,}".format(count_parameters(trained)),
        "{:,}".format(count_parameters(variables)),
        ", ".join(frozen) or "nothing",
    )


def count_parameters(variables):
    """Returns how many numbers the variables hold, int."""
    return sum(int(np.prod(v.shape.as_list())) for v in variables)


def match_weights(settings, source, graph_variables, successor_start=None, takes_classifier=True):
    """Matches the starting weights with the graph.

    Args:
      settings: Settings.
      source: weights.CheckpointWeights.
      graph_variables: list of tf.Variable.
      successor_start: see variable_names.assign_sources.
      takes_classifier: bool, whether the classifier is to be that of the weights. It is a new
        one too, and a line says so, where theirs is of another number of labels.

    Returns:
      A weights.Match.

    Raises:
      UserError: see weights.match; or the weights are those of a deeper successor; or the
        classifier would stay random since only the successor's layers train.
    """
    names = [v.op.name for v in graph_variables]
    deeper = variable_names.deeper_successor_layer(names, source)
    if deeper:
        raise UserError(
            "--suc_layers: %s holds a successor with more layers: %s" % (source.prefix, deeper)
        )
    sources = variable_names.assign_sources(names, source, successor_start)
    if not (takes_classifier and _classifier_fits(sources, source, graph_variables)):
        for name in _CLASSIFIER:
            sources.pop(name, None)
    fit = weights_lib.match(graph_variables, source, sources)
    if settings.train_scope == "successor_layers" and "output_weights" in fit.missing:
        raise UserError(
            "--train_scope=successor_layers: %s holds no trained classifier, which would stay "
            "random; give --init_checkpoint a fine-tuned predecessor, such as --finetune_pre "
            "leaves" % source.prefix
        )
    return fit


def _classifier_fits(sources, source, graph_variables):
    """Returns whether the weights' classifier, if they have one, is of as many outputs."""
    weights = _CLASSIFIER[0]
    expected = next(v.shape.as_list()[0] for v in graph_variables if v.op.name == weights)
    found = source.shapes[sources[weights]][0] if weights in sources else expected
    if found != expected:
        logging.warning(
            "%s: its classifier has %d outputs, the task needs %d; a new one is trained",
            source.prefix,
            found,
            expected,
        )
    return found == expected


def match_successor(source, graph_variables):
    """Matches a small BERT's layers with the successor's.

    Args:
      source: the small BERT's weights, as weights.open_weights returns them.
      graph_variables: list of tf.Variable.

    Returns:
      A weights.Match of the successor's layers alone.

    Raises:
      UserError: a weight is missing, or its shape differs.
    """
    variables = variable_names.trained_variables("successor_layers", graph_variables)
    sources = variable_names.assign_sources([v.op.name for v in variables], source)
    return weights_lib.match(variables, source, sources)


class Trainer(object):
    """Trains one stage in a locked StageFolder, from wherever it stands."""

    def __init__(self, settings, reporting, graph, train_data, dev_data, folder, session):
        """Takes the parts.

        Args:
          settings: Settings.
          reporting: Reporting.
          graph: a TrainingGraph.
          train_data, dev_data: labelled input_pipeline.EncodedExamples.
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
        self.steps_per_epoch, self.num_steps = num_steps(settings, len(train_data))
        self._savers = {}
        self._summaries = None
        self._global_step = tf.train.get_global_step()
        self._state = folder.state()
        self._saved_at = time.monotonic()

    def initialize(self, source, fit, successor_source=None, successor_fit=None):
        """Restores the last checkpoint, or starts from weights; says which.

        Args:
          source: weights.CheckpointWeights.
          fit: their weights.Match with the graph.
          successor_source, successor_fit: the same of the successor's layers, where these
            start as another BERT's; else None.
        """
        self.folder.sweep()
        self.session.run([variable.initializer for variable in tf.local_variables()])
        last = self.folder.checkpoint("last")
        if last:
            logging.info("resuming from %s", last)
            self._restore(last)
        else:
            logging.info("%s", weights_lib.report(fit, source))
            started = variable_names.successor_layers_started(fit.sources)
            if started:
                pairs = ", ".join("%d as %d" % pair for pair in started)
                logging.info("the successor's layers start as the predecessor's: %s", pairs)
            weights_lib.load(self.session, tf.global_variables(), source, fit.sources)
            if successor_source is not None:
                report = weights_lib.report(successor_fit, successor_source)
                logging.info("the successor's layers: %s", report)
                variables = [v for v in tf.global_variables() if v.op.name in successor_fit.sources]
                weights_lib.load(self.session, variables, successor_source, successor_fit.sources)
        logging.info("%s", describe_variables(self.graph.trained, self.graph.variables))

    def _restore(self, prefix):
        try:
            self._saver("last").restore(self.session, prefix)
        except (tf.errors.OpError, ValueError) as error:
            raise UserError(
                "%s: cannot be read: %s; give another folder with --%s"
                % (prefix, first_line(error), self.folder.flag)
            )

    def run(self):
        """Trains to the end; evaluates, first of all, an epoch that was left unevaluated.

        Returns:
          bool: whether it came to the end without a signal to stop.

        Raises:
          UserError: the loss or a logit is no longer a finite number; a checkpoint cannot
            be read or written.
        """
        step = int(self.session.run(self._global_step))
        evaluated = [entry["global_step"] for entry in self._state["evaluations"]]
        self._summaries = summaries.EventWriter(self.folder.path, step, evaluated)
        with self._summaries, _stop_on_signal() as stop:
            while True:
                if self._ends_epoch(step) and not self.folder.is_evaluated(step):
                    self._save_last(step)
                    self._evaluate(step)
                if self._state["is_finished"] or stop.requested:
                    self._save_last(step)
                    return not stop.requested
                step = self._train_epoch(step, stop)

    def _ends_epoch(self, step):
        return step > 0 and (step % self.steps_per_epoch == 0 or step == self.num_steps)

    def _train_epoch(self, step, stop):
        """Trains from `step` to the epoch's end, or to a stop; returns the step reached."""
        epoch = step // self.steps_per_epoch
        plan = input_pipeline.plan_epoch(
            self.train_data.lengths,
            self.settings.train_batch_size,
            self.settings.seed,
            epoch,
            self.settings.padded_length,
        )
        end = min((epoch + 1) * self.steps_per_epoch, self.num_steps)
        with _Progress(self, epoch, step, end) as progress:
            while step < end and not stop.requested:
                planned = plan[step - epoch * self.steps_per_epoch]
                values = self._train_step(planned, step)
                step += 1
                speed = progress.update(step, values, len(planned.rows))
                self._summaries.add(step, self._scalars(values, speed))
                if self._is_save_due(step):
                    self._save_last(step)
        return step

    def _train_step(self, planned, step):
        """Trains one step; returns its StepValues."""
        start = time.perf_counter()
        values = self._run_step(planned)
        if not np.isfinite(values.loss):
            raise UserError(
                "the loss is %s in step %d; lower --learning_rate, in another folder than %s"
                % (values.loss, step + 1, self.folder.path)
            )
        self._state["train_seconds"] += time.perf_counter() - start
        return values

    def _run_step(self, planned):
        """Runs a PlannedBatch, part by part where it is cut; returns its StepValues."""
        graph, settings = self.graph, self.settings
        parts = input_pipeline.cut_batch(
            planned,
            settings.gradient_accumulation_steps or 1,
            self.train_data.lengths,
            settings.padded_length,
        )
        losses = []
        for number, part in enumerate(parts[:-1]):
            feed = self._feed(part, number, len(planned.rows))
            losses.append(self.session.run([graph.loss, graph.accumulate_op], feed)[0])
        feed = self._feed(parts[-1], len(parts) - 1, len(planned.rows))
        fetches = StepValues(*[getattr(graph, name) for name in StepValues._fields])
        values, _ = self.session.run([fetches, graph.train_op], feed)
        return values._replace(loss=values.loss + sum(losses))

    def _feed(self, planned, micro_batch, batch_size):
        """Returns the feed of a micro-batch, or of a whole batch as the only one."""
        graph = self.graph
        feed = modeling_theseus.feed_features(graph.features, self.train_data.batch(planned))
        feed[graph.labels] = self.train_data.labels[planned.rows]
        if graph.accumulate_op is not None:
            feed.update({graph.micro_batch: micro_batch, graph.batch_size: batch_size})
        return feed

    def _scalars(self, values, examples_per_second):
        """Returns what TensorBoard shows of a step, a dict from name to number.

        Args:
          values: StepValues.
          examples_per_second: float, see `_Progress.update`, or None.
        """
        scalars = values._asdict()
        path, rate = scalars.pop("path"), scalars.pop("replacing_rate")
        if self.settings.stage.replaces:
            scalars.update(replacing_rate=rate, modules_replaced=path.sum())
        if examples_per_second:
            scalars["examples_per_second"] = examples_per_second
        return scalars

    def _is_save_due(self, step):
        every = self.reporting.save_checkpoints_steps
        seconds = self.reporting.save_checkpoints_secs
        return bool(every and step % every == 0) or time.monotonic() - self._saved_at >= seconds

    def _save_last(self, step):
        """Saves everything that the next step needs, once a step."""
        if self._state["last"] and self._state["last"]["global_step"] == step:
            return
        self._state["last"] = self._save("last", step)
        self._commit()
        self._saved_at = time.monotonic()

    def _commit(self):
        self._summaries.sync()
        self.folder.commit(self._state)

    def _saver(self, which):
        """Returns the tf.train.Saver of last or best, built when it is first asked for.

        Its operations take most of a second to build, for which no first step should wait.
        """
        if which not in self._savers:
            is_last = which == "last"
            variables = tf.global_variables() if is_last else self.graph.evaluation.variables
            self._savers[which] = tf.train.Saver(variables, max_to_keep=None)
        return self._savers[which]

    def _save(self, which, step):
        entry = self.folder.new_checkpoint(which, step)
        path = self.folder.file(entry["checkpoint"])
        try:
            self._saver(which).save(self.session, path, write_meta_graph=False, write_state=False)
        except tf.errors.OpError as error:
            raise UserError("%s: cannot be written: %s" % (path, first_line(error)))
        return entry

    def _evaluate(self, step):
        """Evaluates on dev, and keeps the weights if they are the best so far."""
        values, seconds = evaluation.evaluate(
            self.graph.task,
            evaluation.runner(self.session, self.graph.evaluation),
            self.dev_data,
            self.reporting.eval_batch_size,
            self.settings.padded_length,
        )
        if self._is_best(values):
            self._state["best"] = self._save("best", step)
        self._state["evaluations"].append(dict(values, global_step=step))
        stale = self._evaluations_since_best()
        stops_early = stale == self.settings.early_stopping_patience and step < self.num_steps
        self._state["is_finished"] = step == self.num_steps or stops_early
        floats = {name: value for name, value in values.items() if isinstance(value, float)}
        self._summaries.add(step, {summaries.EVALUATION + n: v for n, v in floats.items()})
        self._commit()
        logging.info(
            "epoch %.4g of %g, step %d: dev %s (%.1f s)",
            step / self.steps_per_epoch,
            self.settings.num_train_epochs,
            step,
            metrics.headline(self.graph.task, values),
            seconds,
        )
        if stops_early:
            logging.info(
                "stopping early, by --early_stopping_patience=%d: step %d is still the best",
                stale,
                self._state["best"]["global_step"],
            )

    def _evaluations_since_best(self):
        """Returns how many evaluations came after the best one, int."""
        best = self._state["best"]["global_step"]
        return sum(entry["global_step"] > best for entry in self._state["evaluations"])

    def _is_best(self, values):
        task, best = self.graph.task, best_evaluation(self._state)
        return best is None or metrics.score(task, values) > metrics.score(task, best)


def best_evaluation(state):
    """Returns the dev metrics of a stage's best checkpoint, a dict; None where there is none."""
    step = state["best"] and state["best"]["global_step"]
    return next((e for e in state["evaluations"] if e["global_step"] == step), None)


def evaluations_table(state, steps_per_epoch):
    """Returns the dev metrics of each epoch as a table, str, the best one marked."""
    best = state["best"]["global_step"]
    rows = []
    for entry in state["evaluations"]:
        step = entry["global_step"]
        mark = "  best" if step == best else ""
        rows.append(("epoch %.4g, step %d%s" % (step / steps_per_epoch, step, mark), entry))
    return metrics.format_table(rows)


class _Progress(object):
    """An epoch's progress: a bar on a terminal, else a line every log_steps.

    Loss, modules replaced (in stage 1) and speed are means since the last multiple of
    log_steps.
    """

    def __init__(self, trainer, epoch, step, end):
        self._log_steps = trainer.reporting.log_steps
        self._num_steps = trainer.num_steps
        self._is_replacing = trainer.settings.stage.replaces
        self._name = "epoch %d/%d" % (epoch + 1, math.ceil(trainer.settings.num_train_epochs))
        self._bar = tqdm(
            desc=self._name,
            total=end - step,
            bar_format="{desc} {percentage:3.0f}%|{bar:10}| {n_fmt}/{total_fmt}{postfix}",
            disable=None,
        )
        self._start_window()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self._bar.close()

    def _start_window(self):
        self._values, self._examples, self._start = [], 0, time.perf_counter()

    def update(self, step, values, examples):
        """Counts a step; `step` is the number of steps done.

        Returns:
          float, the examples per second of the window that ends with this step, or None.
        """
        self._values.append(values)
        self._examples += examples
        is_line_due = step % self._log_steps == 0 or step == self._num_steps
        if not self._bar.disable:
            self._bar.set_postfix_str(self._describe(step), refresh=False)
            self._bar.update()
        elif is_line_due:
            place = "%s, step %d/%d" % (self._name, step, self._num_steps)
            logging.info("%s, %s", place, self._describe(step))
        speed = self._speed() if is_line_due else None
        if is_line_due:
            self._start_window()
        return speed

    def _speed(self):
        return self._examples / (time.perf_counter() - self._start)

    def _describe(self, step):
        seconds = time.perf_counter() - self._start
        left = (self._num_steps - step) * seconds / len(self._values)
        parts = ["loss %.4f" % np.mean([values.loss for values in self._values])]
        if self._is_replacing:
            replaced = np.mean([values.path.sum() for values in self._values])
            parts += [
                "rate %.2f" % self._values[-1].replacing_rate,
                "replaced %.1f/%d" % (replaced, len(self._values[-1].path)),
            ]
        left = tqdm.format_interval(left)
        return ", ".join(parts + ["%.1f examples/s" % self._speed(), "%s left" % left])


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
