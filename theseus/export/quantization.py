"""Quantizes an ONNX model to int8, so that a text's answer depends on neither batch nor processor.

Weights have one scale for each column (a value of the output), activations one for each row (a
token). MatMulInteger multiplies them and sums in 32 bits:

  x[t, k] = row[t] * (q[t, k] - 128)      row[t]    = max over k of |x[t, k]| / 127
  w[k, n] = column[n] * v[k, n]           column[n] = max over k of |w[k, n]| / 64
  (x w)[t, n] = row[t] * column[n] * sum over k of (q[t, k] - 128) * v[k, n]

A row's scale does not depend on other rows; dynamic quantization uses one scale for a whole batch.
q is unsigned, 1 to 255, and v is signed, -64 to 64. A processor without VNNI multiplies them with
vpmaddubsw, which sums two neighbouring products in 16 signed bits and saturates at 32,767; here
the largest such sum is 2 * 255 * 64 = 32,640. docs/int8.md has the measurements.

Source: ONNX Runtime, onnxruntime/core/mlas/lib/platform.cpp and x86_64/QgemmU8X8Kernel*.S;
Intel's manual of instructions, PMADDUBSW.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Sequence

import numpy as np
from onnx import TensorProto, helper, numpy_helper

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray
    from onnx import GraphProto, ModelProto, NodeProto

ZERO = 128
"""The unsigned 8-bit number that represents an activation of 0."""

LEVELS = 127
"""The largest distance of an activation from `ZERO`, and the largest magnitude in a table."""

WEIGHT_LEVELS = 64
"""The largest magnitude of a weight: with 64, 2 * (ZERO + LEVELS) * 64 still fits into 16 bits."""

# A row with a smaller maximum counts as zeros; the reciprocal of this is still a float32.
_TINY = np.float32(1e-30)
# A product with fewer inputs is a one-hot look-up (BERT's segments), one with fewer outputs is the
# classifier. Both stay in float32, since they take little time and space.
_FEWEST_INPUTS, _FEWEST_OUTPUTS = 8, 8


def quantize_columns(
    weights: NDArray[np.float32],
) -> tuple[NDArray[np.int8], NDArray[np.float32]]:
    """Returns (int8 [K, N], float32 [N]): a quantized weight matrix and its columns' scales.

    Args:
      weights: float32 [K, N].
    """
    return _quantize(weights, WEIGHT_LEVELS)


def quantize_rows(table: NDArray[np.float32]) -> tuple[NDArray[np.int8], NDArray[np.float32]]:
    """Returns (int8 [V, H], float32 [V, 1]): a quantized table and its rows' scales.

    Args:
      table: float32 [V, H].
    """
    integers, scales = _quantize(table.T, LEVELS)
    return np.ascontiguousarray(integers.T), scales[:, np.newaxis]


def _quantize(
    values: NDArray[np.float32], levels: int
) -> tuple[NDArray[np.int8], NDArray[np.float32]]:
    """Returns (int8 [K, N], float32 [N]): columns as integers up to `levels`, and their scales."""
    scales = np.maximum(np.abs(values).max(axis=0), _TINY) / np.float32(levels)
    integers = np.clip(np.round(values / scales), -levels, levels)
    return integers.astype(np.int8), scales


def quantize(model: ModelProto) -> None:
    """Changes an ONNX model's products and table look-ups to 8 bits.

    Args:
      model: a float32 ModelProto, operator set 13 to 17; it is changed in place.

    Raises:
      ValueError: a constant is not finite; in 8 bits this could no longer be noticed.
    """
    for tensor in model.graph.initializer:
        is_float = tensor.data_type == TensorProto.FLOAT
        if is_float and not np.isfinite(numpy_helper.to_array(tensor)).all():
            raise ValueError("%s is not finite" % tensor.name)
    _Quantization(model.graph).run()


class _Quantization(object):
    """The graph's nodes and constants while they are replaced.

    A new tensor has the name of the tensor that it replaces, with an ending.
    """

    def __init__(self, graph: GraphProto) -> None:
        self._graph = graph
        self._constants = {tensor.name: tensor for tensor in graph.initializer}
        self._nodes: list[NodeProto] = []
        # From an activation's name to the names of its (uint8, scales), which q, k and v share.
        self._rows: dict[str, tuple[str, str]] = {}

    def run(self) -> None:
        self._add_constant("int8/zero", np.uint8(ZERO))
        self._add_constant("int8/zero_as_float", np.float32(ZERO))
        self._add_constant("int8/levels", np.float32(LEVELS))
        self._add_constant("int8/tiny", _TINY)
        for node in list(self._graph.node):
            if self._is_product(node):
                self._write_product(node)
            elif self._is_look_up(node):
                self._write_look_up(node)
            else:
                self._nodes.append(node)
        used = {name for node in self._nodes for name in node.input}
        del self._graph.node[:], self._graph.initializer[:]
        self._graph.node.extend(self._nodes)
        kept = [tensor for name, tensor in self._constants.items() if name in used]
        self._graph.initializer.extend(kept)

    def _is_product(self, node: NodeProto) -> bool:
        """Returns whether a node multiplies by a large enough matrix of weights."""
        shape = self._constant_shape(node.input[1]) if node.op_type == "MatMul" else ()
        return len(shape) == 2 and shape[0] >= _FEWEST_INPUTS and shape[1] >= _FEWEST_OUTPUTS

    def _is_look_up(self, node: NodeProto) -> bool:
        # Only along axis 0, the default: an attribute could set another axis.
        return (
            node.op_type == "Gather"
            and len(self._constant_shape(node.input[0])) == 2
            and not any(attribute.name == "axis" and attribute.i for attribute in node.attribute)
        )

    def _constant_shape(self, name: str) -> tuple[int, ...]:
        """Returns the shape of a float32 constant; () for any other tensor."""
        tensor = self._constants.get(name)
        if tensor is None or tensor.data_type != TensorProto.FLOAT:
            return ()
        return tuple(tensor.dims)

    def _write_product(self, node: NodeProto) -> None:
        inputs, output = node.input[0], node.output[0]
        integers, columns = quantize_columns(self._array(node.input[1]))
        rows, row_scales = self._quantize_activation(inputs)
        self._add_constant(output + "/int8_weights", integers)
        self._add_constant(output + "/int8_columns", columns)
        factors = [rows, output + "/int8_weights", "int8/zero"]
        sums = self._add("MatMulInteger", factors, output + "/int8_sums")
        sums = self._add("Cast", [sums], output + "/int8_float", to=TensorProto.FLOAT)
        sums = self._add("Mul", [sums, output + "/int8_columns"], output + "/int8_scaled")
        self._add("Mul", [sums, row_scales], output)

    def _quantize_activation(self, name: str) -> tuple[str, str]:
        """Quantizes an activation; returns the names of (uint8 [..., K], float32 [..., 1])."""
        if name not in self._rows:
            new = name + "/int8_"
            largest = self._add("Abs", [name], new + "magnitudes")
            largest = self._add("ReduceMax", [largest], new + "max", axes=[-1], keepdims=1)
            largest = self._add("Max", [largest, "int8/tiny"], new + "largest")
            steps = self._add("Div", ["int8/levels", largest], new + "steps")
            rounded = self._add("Mul", [name, steps], new + "divided")
            rounded = self._add("Round", [rounded], new + "rounded")
            rounded = self._add("Add", [rounded, "int8/zero_as_float"], new + "shifted")
            integers = self._add("Cast", [rounded], new + "integers", to=TensorProto.UINT8)
            scales = self._add("Div", [largest, "int8/levels"], new + "scales")
            self._rows[name] = integers, scales
        return self._rows[name]

    def _write_look_up(self, node: NodeProto) -> None:
        (table, rows), output = node.input, node.output[0]
        integers, scales = quantize_rows(self._array(table))
        self._add_constant(output + "/int8_table", integers)
        self._add_constant(output + "/int8_table_scales", scales)
        found = self._add("Gather", [output + "/int8_table", rows], output + "/int8_found")
        found = self._add("Cast", [found], output + "/int8_float", to=TensorProto.FLOAT)
        scale = self._add("Gather", [output + "/int8_table_scales", rows], output + "/int8_scale")
        self._add("Mul", [found, scale], output)

    def _array(self, name: str) -> NDArray[Any]:
        return numpy_helper.to_array(self._constants[name])

    def _add_constant(self, name: str, array: ArrayLike) -> None:
        self._constants[name] = numpy_helper.from_array(np.asarray(array), name)

    def _add(self, operation: str, inputs: Sequence[str], output: str, **attributes: Any) -> str:
        self._nodes.append(helper.make_node(operation, inputs, [output], name=output, **attributes))
        return output
