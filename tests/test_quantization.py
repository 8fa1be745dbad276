"""Compares the int8 quantization with the same integer arithmetic in numpy."""

import numpy as np
import pytest

onnx = pytest.importorskip("onnx")
onnxruntime = pytest.importorskip("onnxruntime")
from onnx import TensorProto, helper, numpy_helper  # noqa: E402

from theseus.export import quantization  # noqa: E402


def model_of(nodes, constants, inputs, output="y"):
    """Returns an ONNX model of some nodes; inputs are (name, type, shape)."""
    graph = helper.make_graph(
        nodes,
        "graph",
        [helper.make_tensor_value_info(*each) for each in inputs],
        [helper.make_tensor_value_info(output, TensorProto.FLOAT, [None, None])],
        [numpy_helper.from_array(array, name) for name, array in constants.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def product(weights):
    """Returns the quantized model of y = x w."""
    node = helper.make_node("MatMul", ["x", "w"], ["y"])
    shape = ["rows", weights.shape[0]]
    model = model_of([node], {"w": weights}, [("x", TensorProto.FLOAT, shape)])
    quantization.quantize(model)
    onnx.checker.check_model(model, full_check=True)
    return model


def run(model, outputs=("y",), **arrays):
    session = onnxruntime.InferenceSession(
        model.SerializeToString(), providers=["CPUExecutionProvider"]
    )
    return session.run(list(outputs), arrays)


def whole_numbers(x, weights):
    """Returns x w from 8-bit whole numbers: the sums int64, the scales float64."""
    rows = np.abs(x).max(axis=1, keepdims=True).astype(np.float64) / 127
    columns = np.abs(weights).max(axis=0).astype(np.float64) / 64
    left = np.round(x / rows).astype(np.int64)
    right = np.round(weights / columns).astype(np.int64)
    return rows * columns * (left @ right)


@pytest.mark.parametrize("num_rows", [1, 2, 3, 4, 5, 6, 7, 31, 32, 33, 64, 65])
@pytest.mark.parametrize("depth", [384, 387])
def test_sums_of_the_largest_values_are_exact(num_rows, depth):
    """With weights of all 8 bits these are half as large on a processor without VNNI."""
    random = np.random.RandomState(num_rows)
    x = random.choice([-1.0, 1.0], [num_rows, depth]).astype(np.float32)
    weights = random.choice([-1.0, 1.0], [depth, 50]).astype(np.float32)
    x[0], weights[:, 0], weights[:, 1] = 1, 1, -1
    (found,) = run(product(weights), x=x)
    # The scales alone are rounded, not the sums.
    np.testing.assert_allclose(found, whole_numbers(x, weights), rtol=1e-6, atol=0)
    assert found[0, 0] == pytest.approx(depth) and found[0, 1] == pytest.approx(-depth)


def test_the_integers_of_a_product_are_those_of_numpy():
    random = np.random.RandomState(0)
    # Multiples of the scales, so that no value is near the border of two integers.
    left = random.randint(-127, 128, [37, 96])
    right = random.randint(-64, 65, [96, 24])
    left[:, 0], right[0] = 127, -64
    row = 2.0 ** random.randint(-9, 9, [37, 1])
    column = 2.0 ** random.randint(-9, 9, [24])
    model = product((right * column).astype(np.float32))
    sums = model.graph.node[-3]
    assert sums.op_type == "Cast"
    model.graph.output.append(
        helper.make_tensor_value_info(sums.input[0], TensorProto.INT32, [None, None])
    )
    found, integers = run(model, ("y", sums.input[0]), x=(left * row).astype(np.float32))
    np.testing.assert_array_equal(integers, left @ right)
    np.testing.assert_allclose(found, row * column * (left @ right), rtol=1e-6)


def vpmaddubsw(unsigned, signed):
    """Returns the sums of neighbouring products as the instruction gives them, int16.

    Source: Intel 64 and IA-32 Architectures Software Developer's Manual, PMADDUBSW.
    """
    products = unsigned.astype(np.int64) * signed.astype(np.int64)
    return np.clip(products[0::2] + products[1::2], -(2**15), 2**15 - 1)


@pytest.mark.parametrize("sign", [-1, 1])
def test_no_sum_of_two_products_is_cut_off_in_16_bits(sign):
    """What a processor without VNNI does, by numpy, with the largest that can occur."""
    weights = np.full([16, 8], 3.0 * sign, np.float32)
    model = product(weights)
    (node,) = [node for node in model.graph.node if node.op_type == "MatMulInteger"]
    constants = {i.name: numpy_helper.to_array(i) for i in model.graph.initializer}
    signed = constants[node.input[1]]
    model.graph.output.append(
        helper.make_tensor_value_info(node.input[0], TensorProto.UINT8, [None, None])
    )
    _, unsigned = run(model, ("y", node.input[0]), x=np.full([1, 16], 7.0, np.float32))
    assert signed.dtype == np.int8 and unsigned.dtype == np.uint8 and unsigned.max() == 255
    sums = vpmaddubsw(unsigned[0], signed[:, 0])
    assert sums.sum() == unsigned[0].astype(np.int64) @ signed[:, 0].astype(np.int64)
    # And one level more would be cut off: the range is used whole.
    assert abs(vpmaddubsw(unsigned[0], signed[:, 0] + sign)).max() >= 2**15 - 1


@pytest.mark.parametrize("neighbour", [0.0, 1e-3, 1e4])
def test_a_rows_product_does_not_depend_on_the_other_rows(neighbour):
    random = np.random.RandomState(0)
    model = product(random.normal(size=[64, 32]).astype(np.float32))
    row = random.normal(size=[1, 64]).astype(np.float32)
    (alone,) = run(model, x=row)
    others = np.full([9, 64], neighbour, np.float32)
    (together,) = run(model, x=np.concatenate([others, row, others]))
    np.testing.assert_array_equal(together[9:10], alone)


def test_a_row_or_a_column_of_zeros_gives_zeros():
    weights = np.ones([16, 8], np.float32)
    weights[:, 3] = 0
    x = np.ones([2, 16], np.float32)
    x[1] = 0
    (found,) = run(product(weights), x=x)
    expected = np.full([2, 8], 16.0)
    expected[1], expected[:, 3] = 0, 0
    np.testing.assert_allclose(found, expected, rtol=1e-6)


def test_products_of_the_same_rows_share_their_integers():
    constants = {name: np.eye(8, dtype=np.float32) for name in ("q", "k")}
    nodes = [helper.make_node("MatMul", ["x", name], [name + "_y"]) for name in constants]
    nodes.append(helper.make_node("Add", ["q_y", "k_y"], ["y"]))
    model = model_of(nodes, constants, [("x", TensorProto.FLOAT, ["rows", 8])])
    quantization.quantize(model)
    operations = [node.op_type for node in model.graph.node]
    assert operations.count("MatMulInteger") == 2 and operations.count("Round") == 1
    x = np.arange(1, 9, dtype=np.float32)[np.newaxis]
    (found,) = run(model, x=x)
    np.testing.assert_allclose(found, 2 * x, atol=2 * 0.5 * 8 / 127 * 1.001)


def test_small_products_and_products_of_activations_stay_in_float32():
    nodes = [
        helper.make_node("MatMul", ["x", "x"], ["square"]),
        helper.make_node("MatMul", ["square", "w"], ["y"]),
    ]
    weights = np.ones([8, 2], np.float32)
    model = model_of(nodes, {"w": weights}, [("x", TensorProto.FLOAT, [8, 8])])
    quantization.quantize(model)
    assert [node.op_type for node in model.graph.node] == ["MatMul", "MatMul"]


def test_a_table_has_a_scale_for_each_row():
    table = np.float32([[1.0, -0.3, 0.0], [1e-3, 2e-3, -4e-3], [0, 0, 0], [500, 3, -1]])
    node = helper.make_node("Gather", ["table", "ids"], ["y"])
    model = model_of([node], {"table": table}, [("ids", TensorProto.INT32, ["rows"])])
    quantization.quantize(model)
    (found,) = run(model, ids=np.int32([3, 0, 1, 2, 1]))
    expected = table[[3, 0, 1, 2, 1]]
    half_a_step = np.abs(expected).max(axis=1, keepdims=True) / 254
    assert (np.abs(found - expected) <= half_a_step * (1 + 1e-5)).all()
    held = {i.name: numpy_helper.to_array(i).dtype for i in model.graph.initializer}
    assert "table" not in held and np.dtype(np.int8) in held.values()


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("name", ["w", "bias"])
def test_a_constant_that_is_not_finite_is_refused(name, value):
    constants = {"w": np.ones([8, 8], np.float32), "bias": np.ones([8], np.float32)}
    constants[name].flat[2] = value
    nodes = [
        helper.make_node("MatMul", ["x", "w"], ["product"]),
        helper.make_node("Add", ["product", "bias"], ["y"]),
    ]
    model = model_of(nodes, constants, [("x", TensorProto.FLOAT, ["rows", 8])])
    with pytest.raises(ValueError, match="^%s is not finite" % name):
        quantization.quantize(model)
