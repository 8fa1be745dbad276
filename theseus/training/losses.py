"""The losses: the task's, and with a teacher also its distance from the teacher's logits.

Each is a sum over the rows here, divided by the rows of the whole batch, so that micro-batches'
add up to the batch's.
"""

import tensorflow.compat.v1 as tf


def total_loss(settings, task, logits, labels, teacher_logits, global_batch_size):
    """The loss of a training: (1 - w) times the task's and w times the teacher's.

    Args:
      settings: Settings, of which w is `distill_weight`.
      task: a tasks.Task.
      logits: float32 [B, outputs].
      labels: int32 or float32 [B].
      teacher_logits: float32 [B, outputs]; None: the loss is the task's alone.
      global_batch_size: int32 scalar, the rows of the step over all micro-batches and
        replicas.

    Returns:
      float32 scalar.
    """
    loss_of = regression_loss if task.is_regression else classification_loss
    loss = loss_of(logits, labels, global_batch_size)
    if teacher_logits is None:
        return loss
    if task.is_regression:
        distance = regression_loss(logits, teacher_logits[:, 0], global_batch_size)
    else:
        temperature = settings.distill_temperature
        distance = distillation_loss(logits, teacher_logits, global_batch_size, temperature)
    return (1.0 - settings.distill_weight) * loss + settings.distill_weight * distance


def classification_loss(logits, label_ids, global_batch_size):
    """The task's loss: cross entropy, summed here and divided by the whole batch's rows.

    Args:
      logits: float32 [B, num_labels].
      label_ids: int32 [B].
      global_batch_size: int32 scalar, the rows of the step over all micro-batches and
        replicas.

    Returns:
      float32 scalar.
    """
    losses = tf.nn.sparse_softmax_cross_entropy_with_logits(labels=label_ids, logits=logits)
    return tf.reduce_sum(losses) / tf.cast(global_batch_size, tf.float32)


def regression_loss(logits, labels, global_batch_size):
    """The loss of a task whose label is a number: squared error, averaged as above.

    Source: transformers, BertForSequenceClassification with one label.

    Args:
      logits: float32 [B, 1].
      labels: float32 [B].
      global_batch_size: see `classification_loss`.

    Returns:
      float32 scalar.
    """
    losses = tf.square(logits[:, 0] - labels)
    return tf.reduce_sum(losses) / tf.cast(global_batch_size, tf.float32)


def distillation_loss(logits, teacher_logits, global_batch_size, temperature):
    """T^2 KL(teacher || student) of the probabilities at a temperature T.

    Source: Hinton et al., arXiv 1503.02531, section 2: with T^2 the gradients are as large at
    every temperature.

    Args:
      logits, teacher_logits: float32 [B, num_labels].
      global_batch_size: see `total_loss`.
      temperature: float, T, above 0.

    Returns:
      float32 scalar.
    """
    teacher = tf.nn.log_softmax(teacher_logits / temperature)
    student = tf.nn.log_softmax(logits / temperature)
    divergences = tf.reduce_sum(tf.exp(teacher) * (teacher - student), axis=1)
    return temperature**2 * tf.reduce_sum(divergences) / tf.cast(global_batch_size, tf.float32)
