"""The training graph of one stage: the replacement mask, the logits, the loss and the update."""

import collections

import numpy as np
import tensorflow.compat.v1 as tf

import modeling_theseus
import optimization_theseus
from theseus.distribution.replicas import Replicas
from theseus.inference import evaluation
from theseus.model import operations
from theseus.model.random_key import RandomKey
from theseus.training import losses

Inputs = collections.namedtuple("Inputs", "features labels teacher_logits micro_batch batch_size")
"""A replica's inputs in a step; all are placeholders unless stated otherwise.

Fields:
  features: int32 [B, T] each, by name.
  labels: int32 or float32 [B].
  teacher_logits: float32 [B, outputs]; None if there is no teacher.
  micro_batch: int64 scalar, the number of the micro-batch in its step; the int 0 if a step's batch
    is not cut.
  batch_size: int32 scalar, the number of rows of the whole step; a tensor computed from `labels`
    if a step's batch is not cut or shared.
"""

TrainingGraph = collections.namedtuple(
    "TrainingGraph",
    "task inputs loss replacing_rate mask train_op learning_rate gradient_norm evaluation "
    "variables trained kept accumulate_op",
)
"""The graph of one stage.

Fields:
  task: the tasks.Task that it was built for.
  inputs: list of Inputs, one for each replica of this process.
  replacing_rate: float32 scalar.
  mask: bool [M], whether each module is replaced in this step.
  loss, train_op, learning_rate, gradient_norm, accumulate_op: see optimization_theseus.Update.
  evaluation: an EvaluationGraph over the same variables.
  variables: list of the model's tf.Variable.
  trained: list of the tf.Variable that train.
  kept: list of the tf.Variable that the best checkpoint holds.
"""

_Part = collections.namedtuple("_Part", "inputs update averages")
"""The parts of the graph that are built once for each replica."""


def benefits_from_grappler(bert_config):
    """Returns whether TensorFlow's graph rewriting makes a training of this BERT faster, a bool."""
    return bert_config.hidden_size >= operations.WIDE


def build_graph(
    config, bert_config, task, groups, num_train_steps, replicas=None, class_weights=None
):
    """Builds a TrainingGraph in the default graph, and sets that graph's seed.

    Args:
      config: config.Config.
      bert_config: a BertConfig, the predecessor's.
      task: a tasks.Task.
      groups: list of lists of the predecessor's layers, one list a module.
      num_train_steps: int.
      replicas: Replicas, whose strategy's scope is entered; None: one device.
      class_weights: see losses.classification_loss.
    """
    replicas = replicas or Replicas()
    tf.set_random_seed(config.seed)
    step = tf.identity(tf.train.get_or_create_global_step(), name="step_before")
    evaluated, precision = config.stage.evaluated_mask(groups), config.training_precision
    mask, rate = _mask_and_rate(config, step, evaluated, num_train_steps)

    def build_part(replica):
        inputs = _inputs(config, task, replicas.count)
        random_key = RandomKey(config.seed, step, inputs.micro_batch, replica)
        modules = modeling_theseus.encoder_modules(bert_config, groups, mask, random_key)
        logits = modeling_theseus.classifier_logits(
            inputs.features, bert_config, task.num_outputs, modules, random_key, precision
        )
        loss = losses.total_loss(config, task, logits, inputs, class_weights)
        trained = modeling_theseus.trained_variables(config.scope, tf.trainable_variables())
        return _Part(inputs, *_update(config, loss, num_train_steps, step, trained))

    parts = replicas.build(build_part)
    variables, averages = tf.trainable_variables(), parts[0].averages
    modules = modeling_theseus.encoder_modules(bert_config, groups, evaluated)
    evaluation_graph = evaluation.build_graph(
        bert_config, task.num_outputs, modules, precision, averages
    )
    return TrainingGraph(
        task=task,
        inputs=[part.inputs for part in parts],
        replacing_rate=rate,
        mask=tf.convert_to_tensor(mask),
        evaluation=evaluation_graph,
        variables=variables,
        trained=modeling_theseus.trained_variables(config.scope, variables),
        kept=_kept(config, evaluation_graph, variables, averages),
        **_of_all(parts)._asdict(),
    )


def _kept(config, evaluation_graph, variables, averages):
    """Returns the variables that the best checkpoint holds."""
    if config.keep_predecessor:
        return [averages.get(variable.op.name, variable) for variable in variables]
    return evaluation_graph.variables


def _of_all(parts):
    """Returns one Update that runs the updates of all replicas."""
    updates = [part.update for part in parts]
    if len(updates) == 1:
        return updates[0]
    accumulate = [update.accumulate_op for update in updates]
    return updates[0]._replace(
        train_op=tf.group(*[update.train_op for update in updates]),
        accumulate_op=tf.group(*accumulate) if accumulate[0] is not None else None,
    )


def _inputs(config, task, num_replicas):
    """Returns a replica's Inputs."""
    label_type = tf.float32 if task.is_regression else tf.int32
    labels = tf.placeholder(label_type, [None], name="labels")
    teacher_logits, micro_batch, batch_size = None, 0, tf.shape(labels)[0]
    if config.distill_from:
        teacher_logits = tf.placeholder(tf.float32, [None, task.num_outputs], name="teacher_logits")
    if config.gradient_accumulation_steps > 1:
        micro_batch = tf.placeholder(tf.int64, [], name="micro_batch")
    if config.gradient_accumulation_steps > 1 or num_replicas > 1:
        batch_size = tf.placeholder(tf.int32, [], name="batch_size")
    features = modeling_theseus.feature_placeholders()
    return Inputs(features, labels, teacher_logits, micro_batch, batch_size)


def _update(config, loss, num_train_steps, step, trained):
    """Returns the optimization_theseus.Update, and the averages of `trained` by name."""
    multipliers = {}
    if config.suc_learning_rate is not None:
        factor = config.suc_learning_rate / config.learning_rate
        names = [v.op.name for v in trained if modeling_theseus.is_of_successor(v.op.name)]
        multipliers = dict.fromkeys(names, factor)
    with tf.control_dependencies([step]):  # The averages need the step before the update.
        update = optimization_theseus.build_update(
            loss,
            config.learning_rate,
            num_train_steps,
            num_warmup_steps=int(num_train_steps * config.warmup_proportion),
            var_list=trained,
            accumulates=config.gradient_accumulation_steps > 1,
            rate_multipliers=multipliers,
        )
    if config.ema_decay is None:
        return update, {}
    train_op, averages = optimization_theseus.average_weights(
        update.train_op, step, trained, config.ema_decay
    )
    return update._replace(train_op=train_op), averages


def _mask_and_rate(config, step, evaluated, num_train_steps):
    """Returns the replacement mask of a step, and the replacing rate that it is drawn with."""
    if not config.stage.replaces:
        return evaluated, tf.constant(float(all(evaluated)))
    rate = modeling_theseus.replacing_rate(config, step, num_train_steps)
    return modeling_theseus.draw_replacement_mask(config.seed, step, rate, len(evaluated)), rate


def describe_variables(trained, variables):
    """Returns a log line, str: the number of trained parameters, and the frozen parts."""
    names = {v.op.name for v in trained}
    parts = collections.OrderedDict()
    for variable in variables:
        part = modeling_theseus.variable_group(variable.op.name)
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
    """Returns the number of parameters in the variables, int."""
    return sum(int(np.prod(v.shape.as_list())) for v in variables)
