"""The graph of one stage's training: what is computed on the path, the loss, and the update."""

import collections

import numpy as np
import tensorflow.compat.v1 as tf

import modeling_theseus
import optimization_theseus
from theseus.inference import evaluation
from theseus.model import operations, variable_names
from theseus.model.random_key import RandomKey
from theseus.training import losses

TrainingGraph = collections.namedtuple(
    "TrainingGraph",
    "task features labels teacher_logits loss replacing_rate path train_op learning_rate "
    "gradient_norm evaluation variables trained micro_batch batch_size accumulate_op",
)
"""The graph of one stage.

Fields:
  task: the tasks.Task that it was built for.
  features, labels: placeholders; int32 [B, T] each, by name, and int32 or float32 [B].
  teacher_logits: placeholder, float32 [B, outputs]; None where no teacher is learned from.
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


def gains_by_rewrites(config):
    """Returns whether a training's session should let TensorFlow rewrite the graph, a bool."""
    return config.hidden_size >= operations.WIDE


def build_graph(settings, config, task, groups, num_train_steps):
    """Builds a TrainingGraph in the default graph, whose seed it sets.

    Args:
      settings: Settings.
      config: a BertConfig, the predecessor's.
      task: a tasks.Task.
      groups: list of lists of the predecessor's layers, one list a module.
      num_train_steps: int.
    """
    tf.set_random_seed(settings.seed)
    step = tf.identity(tf.train.get_or_create_global_step(), name="step_before")
    evaluated = settings.stage.evaluated_path(groups)
    path, rate = _path_and_rate(settings, step, evaluated, num_train_steps)

    accumulates = bool(settings.gradient_accumulation_steps)
    features, labels, micro_batch, batch_size = _inputs(task, accumulates)
    random_key = RandomKey(settings.seed, step, micro_batch)
    modules = modeling_theseus.encoder_modules(config, groups, path, random_key)
    logits = modeling_theseus.classifier_logits(
        features, config, task.num_outputs, modules, random_key, settings.precision
    )
    teacher_logits = _teacher_logits(settings, task)
    loss = losses.total_loss(settings, task, logits, labels, teacher_logits, batch_size)

    variables = tf.trainable_variables()
    trained = variable_names.trained_variables(settings.train_scope, variables)
    update, averages = _update(settings, loss, num_train_steps, step, trained)
    modules = modeling_theseus.encoder_modules(config, groups, evaluated)
    return TrainingGraph(
        task=task,
        features=features,
        labels=labels,
        teacher_logits=teacher_logits,
        loss=loss,
        replacing_rate=rate,
        path=tf.convert_to_tensor(path),
        evaluation=evaluation.build_graph(
            config, task.num_outputs, modules, settings.precision, averages
        ),
        variables=variables,
        trained=trained,
        micro_batch=micro_batch,
        batch_size=batch_size,
        **update._asdict(),
    )


def _inputs(task, accumulates):
    """Returns the fields of TrainingGraph: features, labels, micro_batch and batch_size."""
    label_type = tf.float32 if task.is_regression else tf.int32
    labels = tf.placeholder(label_type, [None], name="labels")
    micro_batch, batch_size = 0, tf.shape(labels)[0]
    if accumulates:
        micro_batch = tf.placeholder(tf.int64, [], name="micro_batch")
        batch_size = tf.placeholder(tf.int32, [], name="batch_size")
    return modeling_theseus.feature_placeholders(), labels, micro_batch, batch_size


def _update(settings, loss, num_train_steps, step, trained):
    """Returns the optimization_theseus.Update, and the averages of `trained` by name."""
    multipliers = {}
    if settings.suc_learning_rate is not None:
        factor = settings.suc_learning_rate / settings.learning_rate
        names = [v.op.name for v in trained if variable_names.is_of_successor(v.op.name)]
        multipliers = dict.fromkeys(names, factor)
    with tf.control_dependencies([step]):  # Which an average needs as it was before the update.
        update = optimization_theseus.build_update(
            loss,
            settings.learning_rate,
            num_train_steps,
            num_warmup_steps=int(num_train_steps * settings.warmup_proportion),
            var_list=trained,
            accumulates=bool(settings.gradient_accumulation_steps),
            rate_multipliers=multipliers,
        )
    if settings.ema_decay is None:
        return update, {}
    train_op, averages = optimization_theseus.average_weights(
        update.train_op, step, trained, settings.ema_decay
    )
    return update._replace(train_op=train_op), averages


def _teacher_logits(settings, task):
    if settings.distill_weight is None:
        return None
    return tf.placeholder(tf.float32, [None, task.num_outputs], name="teacher_logits")


def _path_and_rate(settings, step, evaluated, num_train_steps):
    """Returns the path of a step, and the replacing rate that it is drawn with."""
    if not settings.stage.replaces:
        return evaluated, tf.constant(float(all(evaluated)))
    rate = replacing_rate(settings, step, num_train_steps)
    return modeling_theseus.draw_path(settings.seed, step, rate, len(evaluated)), rate


def replacing_rate(settings, step, num_train_steps):
    """Returns the replacing rate of a step, float32 scalar; see optimization_theseus."""
    base = settings.replace_rate_prob
    if settings.replace_until:
        slope = (1.0 - base) / (settings.replace_until * num_train_steps)
        return optimization_theseus.linear_replacing_rate(step, slope, base)
    if settings.replace_linear_k:
        return optimization_theseus.linear_replacing_rate(step, settings.replace_linear_k, base)
    return optimization_theseus.constant_replacing_rate(step, base, settings.steps_for_replacing)


def describe_variables(trained, variables):
    """Returns a line, str: how much trains, and which parts of the model are frozen."""
    names = {v.op.name for v in trained}
    parts = collections.OrderedDict()
    for variable in variables:
        part = variable_names.variable_group(variable.op.name)
        parts[part] = parts.get(part, False) or variable.op.name in names
    frozen = [part for part, trains in parts.items() if not trains]
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
