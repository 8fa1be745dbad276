"""What the tests share: TensorFlow in graph mode, and a small BERT with data on disk."""

import os
import sys

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))

import numpy as np  # noqa: E402
import pytest  # noqa: E402
import tensorflow.compat.v1 as tf  # noqa: E402

GOLDEN = os.path.join(os.path.dirname(os.path.abspath(__file__)), "golden")

tf.get_logger().setLevel("ERROR")
tf.disable_v2_behavior()
tf.enable_resource_variables()


@pytest.fixture
def session():
    """A session over a new graph, which is the default one."""
    with tf.Graph().as_default(), tf.Session() as new_session:
        yield new_session


@pytest.fixture(scope="session")
def reference():
    """The arrays of golden/reference_bert.npz by name."""
    with np.load(os.path.join(GOLDEN, "reference_bert.npz")) as arrays:
        return dict(arrays)
