"""TensorFlow as this program uses it: graphs, sessions and precisions."""

import contextlib
import os

import tensorflow.compat.v1 as tf
from absl import logging

from theseus.errors import UserError
from theseus.machine import processor_features
from theseus.quiet import quiet_tensorflow

# Linux's names of bfloat16 instructions on x86 and on ARM.
_BFLOAT16_FEATURES = ("avx512_bf16", "amx_bf16", "avx_ne_convert", "bf16")


def set_up_tensorflow() -> None:
    """Makes TensorFlow build graphs with resource variables, and log only errors."""
    tf.get_logger().setLevel("ERROR")
    tf.disable_v2_behavior()
    tf.enable_resource_variables()
    with quiet_tensorflow():  # TensorFlow logs much when it first looks for GPUs.
        has_gpus = bool(count_gpus())
    if has_gpus:  # On a CPU, all operations used here are deterministic anyway.
        os.environ.setdefault("TF_DETERMINISTIC_OPS", "1")


def count_gpus() -> int:
    """Returns the number of GPUs that TensorFlow finds."""
    return len(tf.config.experimental.list_physical_devices("GPU"))


def check_precision(precision):
    """Warns if the processor has no instructions for a precision.

    Raises:
      UserError: this version of TensorFlow cannot compute in that precision.
    """
    if precision == "bfloat16" and tf.__version__.startswith("1."):
        raise UserError(
            "--precision=bfloat16: needs TensorFlow 2, this is %s; give --precision=float32, "
            "which also runs models trained in bfloat16" % tf.__version__
        )
    features = processor_features()
    has_instructions = count_gpus() or not features or features.intersection(_BFLOAT16_FEATURES)
    if precision == "bfloat16" and not has_instructions:
        logging.warning(
            "--precision=bfloat16: this processor has no bfloat16 instructions; it will be slower "
            "than float32"
        )


@contextlib.contextmanager
def new_session(grappler=False, target="", config=None):
    """Yields a session over a new graph, which is the default graph in the context.

    Args:
      grappler: bool, whether grappler, TensorFlow's optimizer, may join operations before the
        graph runs. For the large graph of a training that takes seconds.
      target: str, the tf.train.Server that runs the session; empty: this process.
      config: the session's tf.ConfigProto; None: that of `session_config`.
    """
    config = config or session_config(grappler)
    with tf.Graph().as_default(), tf.Session(target, config=config) as session:
        yield session


def session_config(grappler, xla=False):
    """Returns the tf.ConfigProto of a session.

    Args:
      grappler: see `new_session`.
      xla: bool, whether XLA compiles the operations on a GPU.
    """
    config = tf.ConfigProto()
    if xla:
        config.graph_options.optimizer_options.global_jit_level = tf.OptimizerOptions.ON_1
    config.gpu_options.allow_growth = True
    config.graph_options.rewrite_options.disable_meta_optimizer = not grappler
    return config
