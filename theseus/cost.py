"""What a training costs: the floating point operations of a step, and its seconds on a machine.

docs/scale.md says how the constants were measured, and how far the estimate is off elsewhere.
"""

from __future__ import annotations

import time
from concurrent import futures
from typing import TYPE_CHECKING, NamedTuple, Sequence

import numpy as np

from theseus import machine

if TYPE_CHECKING:
    from numpy.typing import ArrayLike

    from theseus.model.bert_config import BertConfig

# How fast a step's products run, as a multiple of `Machine.flops`; bfloat16 as with AMX.
_PRODUCTS = {"float32": 1.0, "bfloat16": 4.0}
# What else a training step does, in operations that take as long: for each value of a layer's
# output (GELU, layer norm, dropout, softmax), and for each weight (clipping, decay and Adam).
_PER_VALUE, _PER_WEIGHT = 20000, 400
# The share of a training step that its forward pass takes.
_FORWARD = 1 / 3
_PROBE_SECONDS = 0.3


class Machine(NamedTuple):
    """A machine, or a GPU, in figures.

    Attributes:
      flops: operations per second of large float32 products.
      has_bfloat16: whether it has fast bfloat16 products.
      layer_seconds: least seconds of a layer in a training step: the start of a GPU's kernels.
    """

    flops: float
    has_bfloat16: bool = False
    layer_seconds: float = 0.0


# One H200: 12 layers, 384 wide, in batches of 64 pairs of 25 tokens made 1,150 examples/s. The GPU
# was busy for 27 % of that time, so `flops` is what that step needs by this model in 15 ms.
GPU = Machine(flops=24e12, layer_seconds=64 / 1150 / 12)


def here() -> Machine:
    """Returns this computer's processors as a Machine.

    Each processor multiplies small matrices for itself. The best time counts, so that other
    programs change little.
    """
    count = machine.num_processors()
    with futures.ThreadPoolExecutor(count) as pool:
        flops = sum(pool.map(_product_flops, range(count)))
    return Machine(flops, "amx_bf16" in machine.processor_features())


def _product_flops(_: int) -> float:
    """Returns the operations per second of products so small that one thread computes them."""
    left = np.ones((16, 64, 64), np.float32)
    product = np.empty_like(left)
    times: list[float] = []
    end = time.perf_counter() + _PROBE_SECONDS
    while not times or time.perf_counter() < end:
        begin = time.perf_counter()
        np.matmul(left, left, out=product)
        times.append(time.perf_counter() - begin)
    return 2 * left.size * left.shape[-1] / min(times)


def step_flops(
    lengths: ArrayLike, config: BertConfig, layers: Sequence[tuple[bool, bool]]
) -> float:
    """Returns the floating point operations of the products in a step.

    For n tokens a layer's products with its kernels take D = 2 n (4 H^2 + 2 H I) operations,
    those of attention A = 4 n^2 H. The loss takes D + A. The kernels' gradients take D if the
    layer trains. The gradients of its input and of attention take D + 2 A if this layer or
    anything below it trains (6 n H^2 less for the lowest layer if nothing below it trains).
    Embeddings, pooler and classifier are left out.

    Args:
      lengths: int [B], the real tokens of each row.
      config: the BERT's shape.
      layers: list of (whether the layer trains, whether anything below it does), one for
        each layer on the path.
    """
    hidden, intermediate = config.hidden_size, config.intermediate_size
    tokens, squares = float(np.sum(lengths)), float(np.sum(np.square(lengths, dtype=np.float64)))
    dense = 2 * tokens * (4 * hidden**2 + 2 * hidden * intermediate)
    attention = 4 * squares * hidden
    total = 0.0
    for trains, trains_below in layers:
        total += dense + attention + dense * trains
        if trains or trains_below:
            total += dense + 2 * attention - (0 if trains_below else 6 * tokens * hidden**2)
    return total


class Work(NamedTuple):
    """A BERT and the batches that it takes.

    Attributes:
      config: the BERT's shape.
      layers: its layers, which may be fewer than the config's.
      length: mean tokens of an example.
      batch_size: examples in a batch.
      precision: "float32" or "bfloat16".
    """

    config: BertConfig
    layers: int
    length: float
    batch_size: int = 64
    precision: str = "float32"


def training_seconds(work: Work, on: Machine) -> float:
    """Returns the seconds of a training step, of which each layer trains."""
    config, hidden, layers = work.config, int(work.config.hidden_size), work.layers
    lengths = [work.length] * work.batch_size
    products = step_flops(lengths, config, [(True, True)] * layers)
    products /= _PRODUCTS[work.precision if on.has_bfloat16 else "float32"]
    values = sum(lengths) * hidden * layers
    kernels = layers * (4 * hidden + 2 * int(config.intermediate_size))
    weights = hidden * (kernels + int(config.vocab_size))
    busy = products + _PER_VALUE * values + _PER_WEIGHT * weights
    return max(busy / on.flops, layers * on.layer_seconds)


def forward_seconds(work: Work, on: Machine) -> float:
    """Returns the seconds in which a batch is answered, without training."""
    return _FORWARD * training_seconds(work, on)
