"""Tests of Hugging Face's names and files: bit-identical weights, equal logits, refused files."""

import json
import os
import pickle
import struct
import sys
import types

import numpy as np
import pytest
import tensorflow.compat.v1 as tf

import modeling_theseus
from conftest import assert_close, hugging_face_arrays, hugging_face_names
from theseus.checkpoints import hugging_face, pretrained, weights
from theseus.errors import UserError

safetensors_numpy = pytest.importorskip("safetensors.numpy")

NUM_LAYERS = 4
SHAPE = dict(
    vocab_size=30,
    hidden_size=16,
    num_hidden_layers=NUM_LAYERS,
    num_attention_heads=4,
    intermediate_size=24,
    max_position_embeddings=12,
    type_vocab_size=2,
    model_type="bert",
)


@pytest.fixture
def held(reference):
    """The reference BERT's weights under TF1 BERT's names."""
    prefix = "weights/"
    return {name[len(prefix) :]: array for name, array in reference.items() if prefix in name}


@pytest.fixture
def arrays(held):
    """The reference BERT's weights under Hugging Face's names and in its layout."""
    return hugging_face_arrays(held, NUM_LAYERS)


def write(folder, arrays, hidden_act="gelu"):
    """Writes a Hugging Face folder; returns the path of its weights."""
    (folder / "config.json").write_text(json.dumps(dict(SHAPE, hidden_act=hidden_act)))
    safetensors_numpy.save_file(arrays, str(folder / "model.safetensors"))
    return str(folder / "model.safetensors")


def load(session, folder):
    """Builds the classifier of a folder, loaded; returns (features, logits, Match)."""
    config = pretrained.read_config(str(folder))
    source = weights.open_weights(weights.find_checkpoint(str(folder)))
    features = modeling_theseus.feature_placeholders()
    groups = modeling_theseus.equal_groups(NUM_LAYERS, NUM_LAYERS)
    path = [False] * len(groups)
    logits = modeling_theseus.classifier_logits(
        features, config, 2, modeling_theseus.encoder_modules(config, groups, path)
    )
    variables = tf.trainable_variables()
    names = [variable.op.name for variable in variables]
    fit = weights.match(variables, source, modeling_theseus.assign_sources(names, source))
    weights.load(session, variables, source, fit.sources)
    return features, logits, fit


def values(session):
    variables = tf.trainable_variables()
    return dict(zip([v.op.name for v in variables], session.run(variables)))


# --- Names ---


def test_every_name_of_a_classifier_goes_both_ways():
    for theirs, ours in hugging_face_names(12):
        is_transposed = ours.endswith("/kernel")
        assert hugging_face.to_hugging_face(ours) == (theirs, is_transposed)
        assert hugging_face.from_hugging_face(theirs) == (ours, is_transposed)


@pytest.mark.parametrize(
    "theirs, ours",
    [
        ("encoder.layer.3.output.LayerNorm.gamma", "bert/encoder/layer_3/output/LayerNorm/gamma"),
        ("bert.embeddings.LayerNorm.beta", "bert/embeddings/LayerNorm/beta"),
        ("embeddings.word_embeddings.weight", "bert/embeddings/word_embeddings"),
        ("pooler.dense.weight", "bert/pooler/dense/kernel"),
        ("cls.predictions.bias", "cls/predictions/output_bias"),
        ("cls.seq_relationship.weight", "cls/seq_relationship/output_weights"),
        ("cls.predictions.transform.dense.weight", "cls/predictions/transform/dense/kernel"),
        ("qa_outputs.weight", "qa_outputs/kernel"),
    ],
)
def test_old_names_bare_models_and_heads_are_known(theirs, ours):
    assert hugging_face.from_hugging_face(theirs)[0] == ours


# --- Values ---


def test_the_graph_gets_every_weight_to_the_bit(session, tmp_path, held, arrays):
    write(tmp_path, arrays)
    _, _, fit = load(session, tmp_path)
    assert not fit.missing and not fit.unused
    for name, value in values(session).items():
        np.testing.assert_array_equal(value, held[name], err_msg=name)


@pytest.mark.parametrize("hidden_act, form", [("gelu", "gelu_erf"), ("gelu_new", "gelu_tanh")])
def test_logits_are_those_of_hugging_face(session, tmp_path, reference, arrays, hidden_act, form):
    write(tmp_path, arrays, hidden_act)
    features, logits, _ = load(session, tmp_path)
    fed = {name: reference["features/" + name] for name in features}
    found = session.run(logits, modeling_theseus.feed_features(features, fed))
    assert_close(found, reference[form + "/00/logits"], 2e-5)


def test_a_bare_model_with_old_names_fills_all_but_the_classifier(session, tmp_path, held, arrays):
    old = {"embeddings.position_ids": np.arange(12)[np.newaxis]}
    for name, array in arrays.items():
        name = name.replace("LayerNorm.weight", "LayerNorm.gamma")
        name = name.replace("LayerNorm.bias", "LayerNorm.beta")
        if name.startswith("bert."):
            old[name[len("bert.") :]] = array
    write(tmp_path, old)
    _, _, fit = load(session, tmp_path)
    assert fit.missing == ["output_weights", "output_bias"] and not fit.unused
    found = values(session)
    for name in fit.sources:
        np.testing.assert_array_equal(found[name], held[name], err_msg=name)


@pytest.mark.parametrize("prefix", ["module.", "0.auto_model.", "net._orig_mod.", "my_bert."])
@pytest.mark.parametrize("is_bare", [False, True])
def test_what_stands_before_all_names_is_left_out(session, tmp_path, held, arrays, prefix, is_bare):
    arrays = {prefix + name: array for name, array in arrays.items()}
    if is_bare:
        arrays = {name.replace(prefix + "bert.", prefix): a for name, a in arrays.items()}
    write(tmp_path, arrays)
    _, _, fit = load(session, tmp_path)
    assert not fit.missing and not fit.unused
    for name, value in values(session).items():
        np.testing.assert_array_equal(value, held[name], err_msg=name)
    source = weights.open_weights(str(tmp_path / "model.safetensors"))
    said = "\n  prefix           %s, removed from the names" % prefix
    assert weights.report(fit, source).endswith(said)


def test_a_prefix_of_shards_is_that_of_all_of_them(tmp_path, held, arrays):
    path = write_sharded(tmp_path, {"model." + name: array for name, array in arrays.items()})
    found = weights.open_weights(path)
    assert len(found) == len(arrays)
    for name in found:
        np.testing.assert_array_equal(found[name], held[name], err_msg=name)


def test_of_two_berts_none_is_taken_and_three_names_are_given(session, tmp_path, arrays):
    both = {"query." + name: array for name, array in arrays.items()}
    both.update(("title." + name, array) for name, array in arrays.items())
    write(tmp_path, both)
    message = "names such as query.bert.embeddings.LayerNorm.bias, .*, title.classifier.weight;"
    with pytest.raises(UserError, match=message):
        load(session, tmp_path)


def test_a_bert_without_a_prefix_is_taken_beside_another_with_one(session, tmp_path, held, arrays):
    arrays.update({"teacher." + name: array + 1 for name, array in arrays.items()})
    write(tmp_path, arrays)
    load(session, tmp_path)
    for name, value in values(session).items():
        np.testing.assert_array_equal(value, held[name], err_msg=name)


def test_heads_of_pretraining_are_reported_as_unused(session, tmp_path, arrays):
    for name in ("bias", "decoder.weight", "transform.dense.weight"):
        arrays["cls.predictions." + name] = np.zeros([2, 3], np.float32)
    arrays["cls.seq_relationship.weight"] = np.zeros([2, 16], np.float32)
    path = write(tmp_path, arrays)
    _, _, fit = load(session, tmp_path)
    report = weights.report(fit, weights.open_weights(path))
    assert report.startswith("weights from %s\n  filled           73 variables" % path)
    assert "cls/predictions/output_bias (1), cls/predictions/transform (1)" in report
    assert "cls/seq_relationship/output_weights (1)" in report


def test_float16_is_widened(tmp_path, arrays):
    halves = {name: array.astype(np.float16) for name, array in arrays.items()}
    found = weights.open_weights(write(tmp_path, halves))["output_weights"]
    assert found.dtype == np.float32
    np.testing.assert_array_equal(found, halves["classifier.weight"].astype(np.float32))


def test_bfloat16_is_widened(tmp_path):
    """The file is written by hand, since numpy has no bfloat16."""
    numbers = np.array([[1.0, -2.5, 3.0e38], [0.15625, 0.0, -1.0e-30]], np.float32)
    upper_halves = (numbers.view(np.uint32) >> 16).astype("<u2")
    entry = {"dtype": "BF16", "shape": [2, 3], "data_offsets": [0, 12]}
    header = json.dumps({"bert.pooler.dense.weight": entry}).encode("utf-8")
    path = tmp_path / "model.safetensors"
    path.write_bytes(struct.pack("<Q", len(header)) + header + upper_halves.tobytes())
    found = weights.open_weights(str(path))
    assert found.shapes == {"bert/pooler/dense/kernel": [3, 2]}
    expected = (upper_halves.astype(np.uint32) << 16).view(np.float32).T
    np.testing.assert_array_equal(found["bert/pooler/dense/kernel"], expected)
    np.testing.assert_allclose(expected, numbers.T, rtol=2.0**-7)


# --- Files ---


def write_sharded(folder, arrays):
    """Writes the arrays as two shards with their index; returns the index's path."""
    names = sorted(arrays)
    weight_map = {}
    for number, chosen in enumerate([names[::2], names[1::2]]):
        shard = "model-%05d-of-00002.safetensors" % (number + 1)
        safetensors_numpy.save_file({n: arrays[n] for n in chosen}, str(folder / shard))
        weight_map.update(dict.fromkeys(chosen, shard))
    path = folder / "model.safetensors.index.json"
    path.write_text(json.dumps({"weight_map": weight_map}))
    return str(path)


def test_shards_are_read_as_one(tmp_path, held, arrays):
    path = write_sharded(tmp_path, arrays)
    assert weights.find_checkpoint(str(tmp_path)) == path
    found = weights.open_weights(path)
    assert len(found) == len(arrays)
    for name in found:
        np.testing.assert_array_equal(found[name], held[name], err_msg=name)
    assert len(weights.checkpoint_files(path)) == 2


def test_a_missing_shard_and_a_damaged_index_are_refused_by_name(tmp_path, arrays):
    path = write_sharded(tmp_path, arrays)
    (tmp_path / "model-00002-of-00002.safetensors").unlink()
    with pytest.raises(UserError, match="model-00002-of-00002.safetensors: cannot be read: No"):
        weights.open_weights(path)
    for text, message in [
        ("[]", "expected an object"),
        ("{}", "expected an object with weight_map"),
        ('{"weight_map": ["a"]}', "weight_map: expected an object"),
        ('{"weight_map": {"a": 5}}', "weight_map.a: expected the name of a file in the same"),
        ('{"weight_map": {"a": "../other/b"}}', "weight_map.a: expected the name of a file in"),
        ('{"weight_map": {"a": "/etc/passwd"}}', "weight_map.a: expected the name of a file in"),
        ('{"weight_map": {"a": ".."}}', "weight_map.a: expected the name of a file in the same"),
    ]:
        (tmp_path / "model.safetensors.index.json").write_text(text)
        with pytest.raises(UserError, match="index.json: is damaged: " + message):
            weights.checkpoint_files(path)


def test_a_weight_is_looked_up_as_in_a_checkpoint(tmp_path, arrays):
    found = weights.open_weights(write(tmp_path, arrays))
    assert "output_bias" in found and "absent" not in found
    assert list(found) == sorted(found.shapes)
    with pytest.raises(KeyError):
        found["absent"]


@pytest.mark.parametrize(
    "content, message",
    [
        (b"", "model.safetensors: cannot be read as safetensors"),
        (b"version https://git-lfs.github.com/spec/v1\nsize 9\n", "is a Git LFS pointer"),
    ],
)
def test_a_damaged_file_is_refused_by_name(tmp_path, content, message):
    path = tmp_path / "model.safetensors"
    path.write_bytes(content)
    with pytest.raises(UserError, match=message):
        weights.open_weights(str(path))


def test_a_google_checkpoint_comes_before_hugging_face_weights(tmp_path, arrays):
    write(tmp_path, arrays)
    (tmp_path / "bert_model.ckpt.index").write_bytes(b"")
    assert weights.find_checkpoint(str(tmp_path)) == str(tmp_path / "bert_model.ckpt")


class FakeTensor(object):
    """A stub with the used parts of torch.Tensor."""

    layout, device = "strided", types.SimpleNamespace(type="cpu")

    def __init__(self, array, dtype=None, **others):
        self.array, self.shape = array, array.shape
        self.dtype = "torch.%s" % (dtype or array.dtype)
        self.__dict__.update(others)

    def detach(self):
        return self

    def float(self):
        return FakeTensor(self.array.astype(np.float32))

    def numpy(self):
        return self.array


@pytest.fixture
def torch_file(tmp_path, monkeypatch):
    """Writes a pytorch_model.bin, and a stub of torch that returns or raises `content` for it."""

    def make(content):
        def fake_load(path, map_location, weights_only):
            assert (map_location, weights_only) == ("cpu", True)
            if isinstance(content, Exception):
                raise content
            return content

        torch = types.SimpleNamespace(load=fake_load, Tensor=FakeTensor, strided="strided")
        monkeypatch.setitem(sys.modules, "torch", torch)
        path = tmp_path / "pytorch_model.bin"
        path.write_bytes(b"zip")
        return str(path)

    return make


def test_pytorch_model_is_read_through_torch(torch_file, held, arrays):
    path = torch_file({n: FakeTensor(array.astype(np.float64)) for n, array in arrays.items()})
    found = weights.open_weights(weights.find_checkpoint(os.path.dirname(path)))
    for name in found:
        assert found[name].dtype == np.float32
        np.testing.assert_array_equal(found[name], held[name], err_msg=name)


@pytest.mark.parametrize(
    "name, package, hint",
    [
        ("model.safetensors", "safetensors", "pip install safetensors"),
        ("pytorch_model.bin", "torch", "pip install torch, or save"),
    ],
)
def test_a_missing_package_is_named(tmp_path, monkeypatch, name, package, hint):
    (tmp_path / name).write_bytes(b"content")
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(UserError, match="%s: needs the package %s; .*%s" % (name, package, hint)):
        weights.open_weights(str(tmp_path / name))


def test_torchs_bfloat16_is_widened(torch_file):
    held = FakeTensor(np.array([1.5], np.float32), "bfloat16")
    found = weights.open_weights(torch_file({"classifier.bias": held}))
    assert (found.dtypes["output_bias"], found["output_bias"].tolist()) == ("bfloat16", [1.5])


@pytest.mark.parametrize(
    "content, message",
    [
        (TypeError("'int' object\nis odd"), "cannot be read as weights: 'int' object$"),
        (AssertionError(), "cannot be read as weights: AssertionError$"),
        (
            pickle.UnpicklingError("Weights only load failed.\x1b[1m"),
            r"is damaged, or holds other .* than tensors, .*torch.save\(model.state_dict\(\)",
        ),
        ([1, 2], "expected a dict of tensors by name, found a list$"),
        ({3: FakeTensor(np.zeros(1))}, "expected tensors by name, found a FakeTensor under 3"),
        (
            {"classifier.bias": {"a": 1}},
            "expected tensors by name, found a dict under 'classifier.bias'",
        ),
    ],
)
def test_a_damaged_torch_file_or_one_of_something_else_is_one_line(torch_file, content, message):
    with pytest.raises(UserError, match="pytorch_model.bin: " + message):
        weights.open_weights(torch_file(content))


# --- What no weight is ---


def open_arrays(tmp_path, arrays, name="model.safetensors"):
    safetensors_numpy.save_file(arrays, str(tmp_path / name))
    return weights.open_weights(str(tmp_path / name))


@pytest.mark.parametrize("dtype", [np.int8, np.int64, np.bool_, np.uint16])
def test_a_dtype_that_no_weight_has_is_refused_by_name(session, tmp_path, dtype):
    found = open_arrays(tmp_path, {"classifier.bias": np.array([0, 1], dtype)})
    variables = [tf.get_variable("output_bias", [2])]
    with pytest.raises(
        UserError, match="output_bias has dtype .*, expected one of float32, float16"
    ):
        weights.match(variables, found, {"output_bias": "output_bias"})


@pytest.mark.parametrize("layout, device", [("sparse_coo", "cpu"), ("strided", "meta")])
def test_a_tensor_that_is_no_array_is_refused_by_name(session, torch_file, layout, device):
    kind = {"layout": layout, "device": types.SimpleNamespace(type=device)}
    tensor = FakeTensor(np.ones(2, np.float32), **kind)
    found = weights.open_weights(torch_file({"classifier.bias": tensor}))
    with pytest.raises(
        UserError, match="output_bias has dtype %s float32 on %s" % (layout, device)
    ):
        weights.match([tf.get_variable("output_bias", [2])], found, {"output_bias": "output_bias"})


def test_float64_is_taken_where_float32_holds_it(tmp_path):
    found = open_arrays(tmp_path, {"classifier.bias": np.array([0.5, 2.0**-20])})
    assert found["output_bias"].dtype == np.float32
    np.testing.assert_array_equal(found["output_bias"], [0.5, 2.0**-20])
    for value in (0.1, 1e300):
        found = open_arrays(tmp_path, {"classifier.bias": np.array([0.5, value])})
        with pytest.raises(UserError, match="output_bias: float64 values exceed float32 precision"):
            found["output_bias"]


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_a_weight_that_is_not_finite_is_refused_by_file_and_name(tmp_path, value, dtype):
    found = open_arrays(tmp_path, {"classifier.bias": np.array([0.5, value], dtype)})
    with pytest.raises(UserError, match="model.safetensors: output_bias: holds NaN or infinite"):
        found["output_bias"]


def test_kernels_of_whole_numbers_are_refused_and_biases_are_not(tmp_path):
    layer = "bert.encoder.layer.0.output."
    found = open_arrays(
        tmp_path,
        {
            layer + "dense.weight": np.ones([2, 2], np.float32),
            layer + "LayerNorm.weight": np.ones([2], np.float32),
            "bert.embeddings.word_embeddings.weight": np.zeros([2, 2], np.float32),
            "bert.embeddings.token_type_embeddings.weight": np.zeros([2, 2], np.float32),
        },
    )
    whole = [layer.replace(".", "/").replace("layer/0", "layer_0") + "dense/kernel"]
    whole += ["bert/embeddings/word_embeddings"]
    for name in found:
        if name in whole:
            with pytest.raises(UserError, match="%s: holds only whole numbers" % name):
                found[name]
        else:
            assert found[name] is not None
    assert set(whole) < set(found)


@pytest.mark.parametrize(
    "first, second",
    [
        ("bert.embeddings.LayerNorm.gamma", "bert.embeddings.LayerNorm.weight"),
        ("bert.pooler.dense.bias", "pooler.dense.bias"),
    ],
)
def test_two_arrays_of_one_name_are_refused_by_both(tmp_path, first, second):
    arrays = {first: np.ones([2], np.float32), second: np.zeros([2], np.float32)}
    with pytest.raises(UserError, match="%s and %s both name bert/" % (first, second)):
        open_arrays(tmp_path, arrays)


def test_an_index_that_names_what_a_shard_has_not_is_refused(tmp_path):
    safetensors_numpy.save_file(
        {"classifier.bias": np.ones([2], np.float32)}, str(tmp_path / "a.safetensors")
    )
    index = tmp_path / "model.safetensors.index.json"
    weight_map = {"classifier.bias": "a.safetensors", "classifier.weight": "a.safetensors"}
    index.write_text(json.dumps({"weight_map": weight_map}))
    with pytest.raises(
        UserError, match="a.safetensors: holds no classifier.weight, although .*index"
    ):
        weights.open_weights(str(index))


def test_a_link_leads_nowhere_but_into_the_folder_and_the_hubs_cache(tmp_path):
    folder = tmp_path / "models--a--b" / "snapshots" / "1f2e"
    blobs = tmp_path / "models--a--b" / "blobs"
    for path in (folder, blobs, tmp_path / "elsewhere"):
        path.mkdir(parents=True)
    link = folder / "model.safetensors"
    for place, is_inside in ((folder, True), (blobs, True), (tmp_path / "elsewhere", False)):
        safetensors_numpy.save_file(
            {"classifier.bias": np.ones([2], np.float32)}, str(place / "b10b")
        )
        link.symlink_to(place / "b10b")
        if is_inside:
            assert list(weights.open_weights(str(link))) == ["output_bias"]
        else:
            with pytest.raises(
                UserError, match="model.safetensors: is a link to .*, outside its folder"
            ):
                weights.open_weights(str(link))
        link.unlink()


# --- What the reference's shapes and names cannot tell ---


def test_a_square_kernel_is_transposed_and_a_table_is_not(tmp_path):
    square = np.arange(9, dtype=np.float32).reshape(3, 3) + 0.5
    theirs = {
        "bert.encoder.layer.11.attention.self.query.weight": square,
        "bert.embeddings.word_embeddings.weight": square,
        "classifier.weight": square,
        "cls.seq_relationship.weight": square,
        "bert.pooler.dense.weight": np.arange(6, dtype=np.float32).reshape(2, 3),
        "bert.embeddings.token_type_ids": np.zeros([1, 3], np.float32),
    }
    safetensors_numpy.save_file(theirs, str(tmp_path / "model.safetensors"))
    found = hugging_face.HuggingFaceWeights(str(tmp_path / "model.safetensors"))
    kernel = "bert/encoder/layer_11/attention/self/query/kernel"
    assert list(found) == [
        "bert/embeddings/word_embeddings",
        kernel,
        "bert/pooler/dense/kernel",
        "cls/seq_relationship/output_weights",
        "output_weights",
    ]
    np.testing.assert_array_equal(found[kernel], square.T)
    for name in ("bert/embeddings/word_embeddings", "output_weights"):
        np.testing.assert_array_equal(found[name], square)
    assert (
        found.shapes["bert/pooler/dense/kernel"]
        == [3, 2]
        == list(found["bert/pooler/dense/kernel"].shape)
    )


@pytest.mark.parametrize("there", [hugging_face.SAFETENSORS_FILES, hugging_face.TORCH_FILES])
def test_a_file_comes_before_its_index_and_safetensors_before_torch(tmp_path, there):
    names = hugging_face.SAFETENSORS_FILES + hugging_face.TORCH_FILES
    for name in reversed(names[names.index(there[0]) :]):
        (tmp_path / name).write_text("")
        assert hugging_face.find_weights(str(tmp_path)) == str(tmp_path / name)


def test_the_files_of_shards_are_each_once_in_a_fixed_order(tmp_path):
    path = tmp_path / "model.safetensors.index.json"
    path.write_text(json.dumps({"weight_map": {"a": "2", "b": "1", "c": "2", "d": "1"}}))
    found = hugging_face.weight_files(str(path))
    assert found == [str(tmp_path / "1"), str(tmp_path / "2")]
