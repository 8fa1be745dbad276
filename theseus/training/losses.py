"""The losses: the task's loss, and with a teacher also the distance from the teacher's logits.

Each loss is a sum over the rows of this part of the batch, divided by the number of rows of the
whole batch. So the losses of all parts add up to the loss of the batch.
"""

import numpy as np
import tensorflow.compat.v1 as tf


def balanced_weights(label_ids, num_labels):
    """Returns weights that give all labels the same total weight, float64 [num_labels].

    Source: scikit-learn, compute_class_weight("balanced"): rows / (labels * rows of the label);
    1 for a label that does not occur. Rows without a label, -1, do not count.
    """
    counts = np.bincount(label_ids[label_ids >= 0], minlength=num_labels)
    return np.where(counts, counts.sum() / (num_labels * np.maximum(counts, 1)), 1.0)


def total_loss(config, task, logits, inputs, class_weights=None):
    """The loss of a training: (1 - w) * the task's loss + w * the distance from the teacher.

    For a row without a label, the distance from the teacher replaces the task's loss.

    Args:
      config: config.Config; `distill_weight` (w), `distill_temperature`, `label_smoothing` and
        `unlabelled_file` are read.
      task: a tasks.Task.
      logits: float32 [B, outputs].
      inputs: graph.Inputs, with `labels`, int32 or float32 [B], -1 or NaN for a row without a
        label; `teacher_logits`, float32 [B, outputs], or None if there is no teacher; and
        `batch_size`, int32 scalar, the rows of the step over all micro-batches and replicas.
      class_weights: see `classification_loss`.

    Returns:
      float32 scalar.
    """
    labels, teacher_logits, batch_size = inputs.labels, inputs.teacher_logits, inputs.batch_size

    def task_loss(logits, labels):
        if task.is_regression:
            return regression_loss(logits, labels, batch_size)
        return classification_loss(
            logits, labels, batch_size, class_weights, config.label_smoothing
        )

    def distance(logits, teacher_logits):
        if task.is_regression:
            return regression_loss(logits, teacher_logits[:, 0], batch_size)
        return distillation_loss(logits, teacher_logits, batch_size, config.distill_temperature)

    if teacher_logits is None:
        return task_loss(logits, labels)
    if config.unlabelled_file:
        unknown = tf.is_nan(labels) if task.is_regression else labels < 0
        known = tf.logical_not(unknown)
        loss = task_loss(tf.boolean_mask(logits, known), tf.boolean_mask(labels, known))
        loss += distance(tf.boolean_mask(logits, unknown), tf.boolean_mask(teacher_logits, unknown))
    else:
        loss = task_loss(logits, labels)
    weight = config.distill_weight
    return (1.0 - weight) * loss + weight * distance(logits, teacher_logits)


def classification_loss(
    logits, label_ids, global_batch_size, class_weights=None, label_smoothing=0.0
):
    """The task's loss: cross entropy, summed here and divided by the whole batch's rows.

    Source of the smoothing: Szegedy et al., arXiv 1512.00567, section 7: this share of the label's
    target probability is spread evenly over all labels.

    Args:
      logits: float32 [B, num_labels].
      label_ids: int32 [B].
      global_batch_size: int32 scalar, the rows of the step over all micro-batches and
        replicas.
      class_weights: a float for each label, a factor of the losses of its examples; None: all
        are 1.
      label_smoothing: float in [0, 1).

    Returns:
      float32 scalar.
    """
    if label_smoothing:
        num_labels = logits.shape.as_list()[1]
        targets = tf.one_hot(label_ids, num_labels) * (1.0 - label_smoothing)
        targets += label_smoothing / num_labels
        losses = tf.nn.softmax_cross_entropy_with_logits_v2(labels=targets, logits=logits)
    else:
        losses = tf.nn.sparse_softmax_cross_entropy_with_logits(labels=label_ids, logits=logits)
    if class_weights is not None:
        losses *= tf.gather(tf.constant(class_weights, tf.float32), label_ids)
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

    Source: Hinton et al., arXiv 1503.02531, section 2: the factor T^2 keeps the size of the
    gradients about the same at every temperature.

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
