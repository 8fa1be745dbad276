"""The learning rate schedule, and BERT's AdamW.

The schedule is a function of t, the number of updates already done; t = 0 in the first step. It is
computed in float64, so that it reaches its end values exactly, and returned as float32.
"""

import collections
import re

import tensorflow.compat.v1 as tf

from modeling_theseus import inference_variables

Update = collections.namedtuple("Update", "loss train_op learning_rate gradient_norm accumulate_op")
"""The tensors and operations that train one step.

Fields:
  loss: float32 scalar, the loss of the step over all its micro-batches and replicas.
  train_op: tf.Operation that updates the variables, and adds 1 to the global step.
  learning_rate: float32 scalar, the rate that `train_op` applies.
  gradient_norm: float32 scalar, the norm of all gradients together, before clipping.
  accumulate_op: tf.Operation that adds a micro-batch's gradients to a sum; `train_op` adds the last
    micro-batch's and applies them all. None if a step's batch is not cut.
"""


def learning_rate_schedule(step, init_lr, num_train_steps, num_warmup_steps):
    """Rises linearly from 0 over the warm-up, then follows a line to 0 at the end.

    Source: google-research/bert, optimization.create_optimizer.

    Args:
      step: int64 scalar, t.
      init_lr: float, the learning rate that the line to 0 starts from at t = 0.
      num_train_steps: int, t at which the rate is 0.
      num_warmup_steps: int, t at which the warm-up is over; 0: none.

    Returns:
      float32 scalar.
    """
    t = tf.cast(step, tf.float64)
    rate = init_lr * (1.0 - tf.minimum(t, num_train_steps) / num_train_steps)
    if num_warmup_steps:
        rate = tf.where(t < num_warmup_steps, init_lr * t / num_warmup_steps, rate)
    return tf.cast(rate, tf.float32)


def create_optimizer_for_bert_theseus(
    loss,
    init_lr,
    num_train_steps,
    num_warmup_steps=0,
    clip_norm=1.0,
    var_list=None,
    finetune_suc=False,
):
    """Builds the operation that trains one step.

    Source: google-research/bert, optimization.create_optimizer; the name and
    `finetune_suc` from the published project.

    Args:
      loss: float32 scalar.
      init_lr: float, see `learning_rate_schedule`.
      num_train_steps: int.
      num_warmup_steps: int.
      clip_norm: float, the largest norm of all gradients together.
      var_list: list of tf.Variable to train; None: all trainable ones.
      finetune_suc: bool, whether the predecessor's encoder is frozen.

    Returns:
      tf.Operation that updates the variables, and adds 1 to the global step.

    Raises:
      ValueError: no variable is left to train, or the loss does not depend on one that should
        train.
    """
    return build_update(
        loss, init_lr, num_train_steps, num_warmup_steps, clip_norm, var_list, finetune_suc
    ).train_op


def build_update(
    loss,
    init_lr,
    num_train_steps,
    num_warmup_steps=0,
    clip_norm=1.0,
    var_list=None,
    finetune_suc=False,
    accumulates=False,
    **adam,
):
    """As `create_optimizer_for_bert_theseus`, but returns an Update.

    Args:
      accumulates: bool, whether a step's batch comes in micro-batches. If so, or if there are
        several replicas, `loss` is only a share of the batch's loss: the sum over the rows of
        this part, divided by the number of rows of the whole batch.
      adam: further arguments of AdamWeightDecayOptimizer.
      others: see `create_optimizer_for_bert_theseus`.

    Source: the convention, in which a step's batch keeps its size, is that of
    huggingface/pytorch-pretrained-BERT, run_classifier.py.
    """
    variables = tf.trainable_variables() if var_list is None else var_list
    if finetune_suc:
        variables = inference_variables(variables)
    if not variables:
        raise ValueError("no variable is left to train")

    global_step = tf.train.get_or_create_global_step()
    rate = learning_rate_schedule(global_step, init_lr, num_train_steps, num_warmup_steps)
    optimizer = AdamWeightDecayOptimizer(
        rate,
        weight_decay_rate=0.01,
        exclude_from_weight_decay=["LayerNorm", "layer_norm", "bias"],
        **adam,
    )
    shares = [loss] + make_dense(compute_gradients(loss, variables), variables)
    sums, accumulate_op = [], None
    if accumulates:
        sums, accumulate_op = _accumulate(shares, variables)
        shares = [total + share for total, share in zip(sums, shares)]
    shares = sum_over_replicas(shares)
    gradients, norm = tf.clip_by_global_norm(shares[1:], clip_norm)
    train_op = optimizer.apply_gradients(zip(gradients, variables), global_step=global_step)
    if accumulates:
        with tf.control_dependencies([train_op]):
            train_op = tf.group(*[total.assign(tf.zeros_like(total)) for total in sums])
    return Update(shares[0], train_op, rate, norm, accumulate_op)


def _accumulate(shares, variables):
    """Returns the variables that sum a step's shares, and the operation that adds to them.

    Args:
      shares: list of tensors, the loss and then the gradients.
      variables: list of tf.Variable, whose gradients they are.
    """
    names = ["loss_sum"] + [_name(variable) + "/gradient_sum" for variable in variables]
    shapes = [[]] + [variable.shape for variable in variables]
    sums = [_zeros(name, shape) for name, shape in zip(names, shapes)]
    return sums, tf.group(*[total.assign_add(share) for total, share in zip(sums, shares)])


def _name(variable):
    """Returns a variable's name; on a second replica its operation has another one."""
    return variable.name.split(":")[0]


def _zeros(name, shape):
    """Returns a local variable that sums the shares of micro-batches, one for each replica.

    Between two steps it is zero, as after its initialization, so no checkpoint needs it.
    """
    return tf.get_variable(
        name,
        shape,
        initializer=tf.zeros_initializer(),
        trainable=False,
        collections=[tf.GraphKeys.LOCAL_VARIABLES],
        synchronization=tf.VariableSynchronization.ON_READ,
        aggregation=tf.VariableAggregation.SUM,
    )


def sum_over_replicas(values):
    """Returns the sums of tensors over all replicas, a list of tensors.

    Args:
      values: list of tensors of one dtype, the same list in each replica's part of the graph.
    """
    replica = tf.distribute.get_replica_context()
    if replica.num_replicas_in_sync == 1:
        return values

    def add(strategy, *values):
        # All in one batch: every separate exchange would wait for all replicas.
        destinations = [(value, value) for value in values]
        return strategy.extended.batch_reduce_to(tf.distribute.ReduceOp.SUM, destinations)

    return replica.merge_call(add, args=values)


def _update_replicas(variable, update, *args):
    """Calls update(variable, *args) where each replica has its copy; returns an operation."""
    return tf.distribute.get_strategy().extended.update(variable, update, args)


def compute_gradients(loss, variables):
    """Returns the gradients of `loss`, as tf.gradients does, but bit-identical in every run.

    If a tensor is used several times, tf.gradients adds its gradients in one AddN, whose order
    depends on which input's memory it may overwrite at that moment. Adding them in pairs has a
    fixed order.
    """
    pairwise = tf.AggregationMethod.EXPERIMENTAL_TREE
    return tf.gradients(loss, variables, aggregation_method=pairwise)


def make_dense(gradients, variables):
    """Returns gradients, tensors or tf.IndexedSlices, as a list of float32 tensors.

    Raises:
      ValueError: the gradient of one of the variables is None; both lists have one order.
    """
    missing = [v.op.name for g, v in zip(gradients, variables) if g is None]
    if missing:
        raise ValueError("the loss does not depend on %s" % ", ".join(missing))
    # Rows of an embedding that occur twice must be added up before the norm is taken.
    return [tf.convert_to_tensor(gradient) for gradient in gradients]


AVERAGE = "/average"
"""The ending of the name of a variable's moving average."""


def average_weights(train_op, step, variables, decay):
    """Keeps moving averages of the variables' values after each step.

    a = d a + (1 - d) w with d = min(decay, t / (t + 1)), where t is the number of updates done
    before. So an average is the plain mean of the first steps, until `decay` is the smaller one.

    Source: Polyak and Juditsky, 1992, for the mean; tf.train.ExponentialMovingAverage for the
    decay, whose own start-up, (1 + t) / (10 + t), keeps the initial value for longer.

    Args:
      train_op: tf.Operation that updates the variables.
      step: int64 scalar, t, read before the update.
      variables: list of tf.Variable.
      decay: float in [0, 1).

    Returns:
      (operation that updates variables and averages, dict from a variable's name to its average).
    """
    t = tf.cast(step, tf.float32)
    kept = tf.minimum(decay, t / (t + 1.0))
    averages = [
        tf.get_variable(
            _name(variable) + AVERAGE,
            variable.shape,
            initializer=tf.zeros_initializer(),
            trainable=False,
        )
        for variable in variables
    ]

    def update(average, variable, kept):
        value = variable.read_value() if hasattr(variable, "read_value") else variable
        return average.assign(kept * average + (1.0 - kept) * value)

    def update_all(_, kept):
        return tf.group(
            *[_update_replicas(a, update, v, kept) for a, v in zip(averages, variables)]
        )

    with tf.control_dependencies([train_op]):
        updates = tf.distribute.get_replica_context().merge_call(update_all, args=(kept,))
    return updates, {_name(v): average for v, average in zip(variables, averages)}


class AdamWeightDecayOptimizer(tf.train.Optimizer):
    """Adam without bias correction, with decoupled weight decay.

    Source: google-research/bert, optimization.AdamWeightDecayOptimizer, with its names
    of the moments, <variable>/adam_m and <variable>/adam_v:
      m = beta_1 m + (1 - beta_1) g
      v = beta_2 v + (1 - beta_2) g^2
      w = w - lr (m / (sqrt(v) + epsilon) + weight_decay_rate w)
    """

    def __init__(
        self,
        learning_rate,
        weight_decay_rate=0.0,
        beta_1=0.9,
        beta_2=0.999,
        epsilon=1e-6,
        exclude_from_weight_decay=None,
        name="AdamWeightDecayOptimizer",
        rate_multipliers=None,
    ):
        """Keeps the constants.

        Args:
          exclude_from_weight_decay: list of regular expressions of variables' names.
          rate_multipliers: dict from a variable's name to a factor of its learning rate, a float;
            variables that are not in it have the factor 1.
          others: as in google-research/bert.
        """
        super(AdamWeightDecayOptimizer, self).__init__(False, name)
        self.learning_rate = learning_rate
        self.weight_decay_rate = weight_decay_rate
        self.beta_1 = beta_1
        self.beta_2 = beta_2
        self.epsilon = epsilon
        self.exclude_from_weight_decay = exclude_from_weight_decay or []
        self.rate_multipliers = rate_multipliers or {}
        self._zeros = {}  # From a shape to a tensor of zeros, the start of moments of that shape.

    def apply_gradients(self, grads_and_vars, global_step=None, name=None):
        """Builds the update.

        Args:
          grads_and_vars: iterable of (dense float32 tensor, tf.Variable).
          global_step: a variable to add 1 to once all others are updated, or None.
          name: name of the returned operation.

        Returns:
          tf.Operation.
        """
        gradients, variables = zip(*grads_and_vars)
        # Created once for all variables. With beta powers of 0, Adam does not correct the bias.
        constants = dict(beta1_power=0.0, beta2_power=0.0, lr=self.learning_rate)
        constants.update(beta1=self.beta_1, beta2=self.beta_2, epsilon=self.epsilon)
        constants = {name: tf.convert_to_tensor(value) for name, value in constants.items()}
        rate = constants["lr"]
        rates = {f: rate * f for f in self.rate_multipliers.values()}
        rates[1.0] = rate
        decay_rates = {f: r * self.weight_decay_rate for f, r in rates.items()}
        ends = ("/adam_m", "/adam_v")
        moments = [[self._moment(_name(v) + end, v) for end in ends] for v in variables]

        def apply(_, gradients, constants, rates, decay_rates):
            updates = []
            for gradient, variable, (m, v) in zip(gradients, variables, moments):
                factor = self.rate_multipliers.get(variable.op.name, 1.0)
                own = dict(constants, lr=rates[factor])
                decay_rate = decay_rates[factor] if self._decays(variable) else None
                updates.append(_update_replicas(variable, _update, m, v, gradient, own, decay_rate))
            if global_step is None:
                return tf.group(*updates, name=name)
            with tf.control_dependencies(updates):
                return tf.group(tf.assign_add(global_step, 1), name=name)

        # No weight may decay while another weight's gradient is still being computed from it.
        with tf.control_dependencies(gradients):
            replica = tf.distribute.get_replica_context()
            return replica.merge_call(apply, args=(gradients, constants, rates, decay_rates))

    def _decays(self, variable):
        excluded = self.exclude_from_weight_decay
        return not any(re.search(pattern, variable.op.name) for pattern in excluded)

    def _moment(self, name, variable):
        def zeros(shape, dtype, partition_info=None):
            key = tuple(variable.shape.as_list())
            if key not in self._zeros:
                self._zeros[key] = tf.zeros(key, dtype)
            return self._zeros[key]

        return tf.get_variable(name, variable.shape, initializer=zeros, trainable=False)


def _update(variable, m, v, gradient, constants, decay_rate):
    """Returns the operation that decays and updates a variable.

    First the weights decay, computed from their values before the update; then follows Adam, as one
    fused operation.
    """
    decay = [] if decay_rate is None else [variable.assign_sub(decay_rate * variable)]
    with tf.control_dependencies(decay):
        if not hasattr(variable, "handle"):  # A TensorFlow 1 reference variable.
            return tf.raw_ops.ApplyAdam(var=variable, m=m, v=v, grad=gradient, **constants).op
        return tf.raw_ops.ResourceApplyAdam(
            var=variable.handle, m=m.handle, v=v.handle, grad=gradient, **constants
        )
