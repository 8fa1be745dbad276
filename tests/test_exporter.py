"""Tests of exports: another runtime than the one that wrote them must match the stage's graph."""

import concurrent.futures
import contextlib
import dataclasses
import functools
import hashlib
import importlib.util
import json
import os
import shutil
import types

import numpy as np
import pytest
import tensorflow.compat.v1 as tf

import forks
import modeling_theseus
import tokenization
from conftest import (
    SMALL_BERT,
    VOCABULARY,
    assert_close,
    assert_matches,
    command,
    contents,
    hugging_face_arrays,
    needs_tensorflow_2,
    read_json,
    refused,
    write_bert,
    write_stage,
)
from theseus import Classifier
from theseus.checkpoints.weights import CheckpointWeights
from theseus.commands import preparation
from theseus.errors import UserError
from theseus.export import exporter, formats, hugging_face_tokenizer, writers
from theseus.inference import predictions, trained_model
from theseus.inputs import encoding, reading, tasks
from theseus.runs.state import Checkpoint
from theseus.session import new_session
from theseus.stage import of_name

COMMON = "--suc_layers=2 --max_seq_length=32 --data_dir=%s --stage_%d_outputdir=%s "
STAGE_FLAGS = {"predecessor": "--finetune_pre", "replacing": "", "successor": "--finetune_suc"}


def time_little(patch):
    patch.setattr(exporter, "_TIMED_RUNS", 1)
    patch.setattr(exporter, "_TIMED_BATCHES", 1)


@pytest.fixture(autouse=True)
def few_timed_batches(monkeypatch):
    time_little(monkeypatch)


@pytest.fixture(scope="module")
def stages(tmp_path_factory):
    """A function from (stage, hidden_act) to its StageFolder, made once."""
    made = {}

    def get(stage="successor", hidden_act="gelu_tanh"):
        if (stage, hidden_act) not in made:
            root = tmp_path_factory.mktemp("_".join([stage, hidden_act]))
            made[stage, hidden_act] = write_stage(root / "out", stage, hidden_act)
        return made[stage, hidden_act]

    return get


def export_line(folder, data, formats, more=""):
    stage = folder.run_config()["stage"]
    line = COMMON % (data, of_name(stage).number, folder.path)
    return "%s --do_export --export_format=%s %s %s" % (line, formats, STAGE_FLAGS[stage], more)


def expected(folder, data):
    """Returns (arrays of a batch, logits): pairs of dev, and what the stage's graph says."""
    task = tasks.TASKS["lcqmc_pair"]
    examples = reading.read_examples(str(data / "dev.txt"), task)[:20]
    with trained_model.load(folder) as (session, graph, tokenizer, *_):
        encoded = encoding.encode_examples(examples, task, tokenizer, 32)
        rows = np.arange(len(encoded))
        arrays = encoded.batch(rows)
        feed = modeling_theseus.feed_features(graph.features, arrays)
        return arrays, session.run(graph.logits, feed)


def assert_outputs_fit(outputs, logits):
    """Compares probabilities and label, and logits within what a float32 holds."""
    assert_close(outputs["logits"], logits, 5e-5)
    assert_close(outputs["probabilities"], predictions.probabilities(logits), 1e-4)
    np.testing.assert_array_equal(outputs["label"], outputs["logits"].argmax(axis=1))


# --- bert ---


@needs_tensorflow_2
@pytest.mark.parametrize(
    "stage, hidden_act",
    [("predecessor", "gelu_tanh"), ("replacing", "gelu_tanh"), ("successor", "gelu_erf")],
)
def test_bert_is_a_plain_bert_of_the_evaluated_model(
    stages, random_data, monkeypatch, stage, hidden_act
):
    folder = stages(stage, hidden_act)
    command(export_line(folder, random_data, "bert"), random_data, monkeypatch)
    path = folder.file("export/bert")
    config = modeling_theseus.BertConfig.from_json_file(path + "/bert_config.json")
    assert config.num_hidden_layers == (4 if stage == "predecessor" else 2)
    said = {"gelu_tanh": "gelu", "gelu_erf": "gelu_erf"}[hidden_act]
    assert read_json(path, "bert_config.json")["hidden_act"] == said

    arrays, logits = expected(folder, random_data)
    with new_session() as session:
        features = {name: tf.constant(array) for name, array in arrays.items()}
        found = modeling_theseus.classifier_logits(features, config, 2)
        variables = tf.trainable_variables()
        held = {name for name, _ in tf.train.list_variables(path + "/bert_model.ckpt")}
        assert held == {v.op.name for v in variables}
        tf.train.Saver(variables).restore(session, path + "/bert_model.ckpt")
        assert_close(session.run(found), logits, 5e-5)


@needs_tensorflow_2
def test_bert_can_be_trained_on(stages, random_data, monkeypatch, tmp_path):
    folder = stages()
    line = export_line(folder, random_data, "bert", "--export_dir=%s" % (tmp_path / "bert"))
    command(line, tmp_path, monkeypatch)
    line = "--do_train --finetune_pre --bert_pretrained_model=bert --max_train_examples=32 "
    line += "--num_train_epochs=1 --max_seq_length=32 --data_dir=%s" % random_data
    command(line, tmp_path, monkeypatch)
    assert read_json(tmp_path, "out_0", "run.json")["bert_config"]["num_hidden_layers"] == 2


# --- huggingface ---


@pytest.fixture(scope="module", params=["gelu_tanh", "gelu_erf"])
def hugging_face(request, stages, random_data):
    """A StageFolder whose export/huggingface was written."""
    pytest.importorskip("safetensors")
    folder = stages("successor", request.param)
    with pytest.MonkeyPatch.context() as patch:
        time_little(patch)
        command(export_line(folder, random_data, "huggingface"), random_data, patch)
    return folder


@needs_tensorflow_2
def test_huggingface_holds_the_weights_with_kernels_transposed(hugging_face):
    import safetensors.numpy

    found = safetensors.numpy.load_file(hugging_face.file("export/huggingface/model.safetensors"))
    reader = tf.train.load_checkpoint(hugging_face.best_checkpoint())
    names = reader.get_variable_to_shape_map()
    held = {name.replace("suc_layer", "layer"): reader.get_tensor(name) for name in names}
    expected = hugging_face_arrays(held, 2)
    assert sorted(found) == sorted(expected) and len(found) == len(names)
    for name, array in expected.items():
        np.testing.assert_array_equal(found[name], array, err_msg=name)


@needs_tensorflow_2
def test_huggingface_says_what_transformers_needs(hugging_face):
    config = read_json(hugging_face.file("export/huggingface/config.json"))
    act = hugging_face.run_config()["bert_config"]["hidden_act"]
    assert config["hidden_act"] == {"gelu_tanh": "gelu_new", "gelu_erf": "gelu"}[act]
    assert config["num_hidden_layers"] == 2 and config["layer_norm_eps"] == 1e-12
    assert config["id2label"] == {"0": "0", "1": "1"}
    tokenizer = read_json(hugging_face.file("export/huggingface/tokenizer_config.json"))
    assert tokenizer["model_max_length"] == hugging_face.run_config()["max_seq_length"] == 32
    # And it is understood here too, where "gelu" of a Hugging Face config is the erf form.
    assert modeling_theseus.BertConfig.from_dict(config).hidden_act == act


@needs_tensorflow_2
def test_huggingface_equals_the_graph_in_transformers(hugging_face, random_data):
    torch = pytest.importorskip("torch")
    transformers = pytest.importorskip("transformers")
    path = hugging_face.file("export/huggingface")
    tokenizer = transformers.AutoTokenizer.from_pretrained(path)
    model, report = transformers.AutoModelForSequenceClassification.from_pretrained(
        path, output_loading_info=True
    )
    assert not any(report.values())
    rows = [
        line.split("\t")
        for line in (random_data / "dev.txt").read_text(encoding="utf-8").splitlines()[:20]
    ]
    texts = [list(column) for column in zip(*rows)]
    tokens = tokenizer(texts[0], texts[1], padding=True, return_tensors="pt")
    arrays, logits = expected(hugging_face, random_data)
    np.testing.assert_array_equal(tokens["input_ids"].numpy(), arrays["input_ids"])
    np.testing.assert_array_equal(tokens["token_type_ids"].numpy(), arrays["segment_ids"])
    with torch.no_grad():
        found = model.eval()(**tokens).logits.numpy()
    assert_close(found, logits, 5e-5)


@needs_tensorflow_2
def test_a_step_of_the_successors_layers_leaves_the_rest_to_the_bit(
    random_data, monkeypatch, tmp_path
):
    """From a Hugging Face folder with a trained classifier to one again."""
    safetensors_numpy = pytest.importorskip("safetensors.numpy")
    write_bert(tmp_path / "bert")
    weights = dict(CheckpointWeights(str(tmp_path / "bert" / "bert_model.ckpt")))
    random = np.random.RandomState(3)
    weights["output_weights"] = random.normal(0, 0.02, [2, 16]).astype(np.float32)
    weights["output_bias"] = np.float32([0.1, -0.2])
    source = tmp_path / "source"
    source.mkdir()
    safetensors_numpy.save_file(hugging_face_arrays(weights, 4), str(source / "model.safetensors"))
    config = dict(SMALL_BERT, hidden_act="gelu_new", model_type="bert")
    (source / "config.json").write_text(json.dumps(config))
    shutil.copy(str(tmp_path / "bert" / "vocab.txt"), str(source))

    line = "--suc_layers=2 --max_seq_length=32 --data_dir=%s " % random_data
    train = "--do_train --train_scope=successor_layers --init_checkpoint=source "
    train += "--train_batch_size=16 --max_train_examples=16 --num_train_epochs=1 "
    command(line + train, tmp_path, monkeypatch)
    command(line + "--do_export --export_format=huggingface", tmp_path, monkeypatch)

    before = safetensors_numpy.load_file(str(source / "model.safetensors"))
    path = tmp_path / "out_1" / "export" / "huggingface" / "model.safetensors"
    after = safetensors_numpy.load_file(str(path))
    layers = {name for name in after if ".encoder.layer." in name}
    assert {name.split(".")[3] for name in layers} == {"0", "1"}
    untouched = set(after) - layers
    assert untouched == {name for name in before if ".encoder.layer." not in name}
    assert all(after[name].tobytes() == before[name].tobytes() for name in untouched)
    kernels = [name for name in layers if after[name].ndim == 2]
    assert len(kernels) == 12
    assert all((after[name] != before[name]).mean() > 0.9 for name in kernels)


# --- saved_model ---

LOAD_SAVED_MODEL = """
import sys
import numpy as np
import tensorflow as tf
signature = tf.saved_model.load(sys.argv[1]).signatures["serving_default"]
with np.load(sys.argv[2]) as arrays:
    outputs = signature(**{name: tf.constant(arrays[name]) for name in arrays})
np.savez(sys.argv[3], **{name: value.numpy() for name, value in outputs.items()})
"""


@needs_tensorflow_2
def test_saved_model_equals_the_graph_in_a_new_process(export, random_data, tmp_path):
    arrays, logits = expected(export.stage, random_data)
    np.savez(str(tmp_path / "in.npz"), **arrays)
    program = ["-c", LOAD_SAVED_MODEL, export("saved_model"), "in.npz", "out.npz"]
    status, _, errors = forks.run(program, tmp_path)
    assert status == 0, errors
    with np.load(str(tmp_path / "out.npz")) as outputs:
        assert sorted(outputs) == ["label", "logits", "probabilities"]
        assert outputs["label"].dtype == np.int32
        assert_outputs_fit(outputs, logits)


@needs_tensorflow_2
def test_saved_model_compiles_nothing_and_has_free_axes(export):
    with new_session() as session:
        loaded = tf.saved_model.loader.load(session, ["serve"], export("saved_model"))
    operations = {node.op for node in loaded.graph_def.node}
    assert "BatchMatMulV2" in operations
    assert not [name for name in operations if name.startswith("Xla") or "PyFunc" in name]
    assert not loaded.graph_def.library.function
    signature = loaded.signature_def["serving_default"]
    assert sorted(signature.inputs) == ["input_ids", "input_mask", "segment_ids"]
    for tensor in signature.inputs.values():
        assert tensor.dtype == tf.int32.as_datatype_enum
        assert [axis.size for axis in tensor.tensor_shape.dim] == [-1, -1]


@contextlib.contextmanager
def served(base_path, session):
    """Yields a stub of TensorFlow Serving's PredictionService, over gRPC.

    The server is not Serving: it has Serving's messages, and does with them what Serving does,
    a Session::Run of the newest version by the names in its signature.
    """
    import grpc
    from tensorflow_serving.apis import get_model_metadata_pb2, predict_pb2
    from tensorflow_serving.apis import prediction_service_pb2_grpc as service

    version = max(int(name) for name in os.listdir(base_path))
    loaded = tf.saved_model.loader.load(session, ["serve"], "%s/%d" % (base_path, version))

    class Servicer(service.PredictionServiceServicer):
        def Predict(self, request, context):
            signature = loaded.signature_def[request.model_spec.signature_name or "serving_default"]
            types = {name: tensor.dtype for name, tensor in signature.inputs.items()}
            if {name: tensor.dtype for name, tensor in request.inputs.items()} != types:
                context.abort(grpc.StatusCode.INVALID_ARGUMENT, "inputs: %s" % types)
            feed = {
                signature.inputs[name].name: tf.make_ndarray(tensor)
                for name, tensor in request.inputs.items()
            }
            fetches = {name: tensor.name for name, tensor in signature.outputs.items()}
            values = session.run(fetches, feed)
            outputs = {name: tf.make_tensor_proto(value) for name, value in values.items()}
            return predict_pb2.PredictResponse(outputs=outputs)

        def GetModelMetadata(self, request, context):
            response = get_model_metadata_pb2.GetModelMetadataResponse()
            signatures = get_model_metadata_pb2.SignatureDefMap(signature_def=loaded.signature_def)
            response.metadata["signature_def"].Pack(signatures)
            return response

    server = grpc.server(concurrent.futures.ThreadPoolExecutor(1))
    service.add_PredictionServiceServicer_to_server(Servicer(), server)
    port = server.add_insecure_port("localhost:0")
    server.start()
    try:
        options = [("grpc.enable_http_proxy", 0)]
        with grpc.insecure_channel("localhost:%d" % port, options) as channel:
            yield service.PredictionServiceStub(channel)
    finally:
        server.stop(None)


@needs_tensorflow_2
def test_saved_model_answers_the_messages_of_tensorflow_serving(export, random_data, tmp_path):
    apis = "tensorflow_serving.apis."
    predict = pytest.importorskip(apis + "predict_pb2")
    metadata = pytest.importorskip(apis + "get_model_metadata_pb2")
    (tmp_path / "lcqmc").mkdir()
    (tmp_path / "lcqmc" / "1").symlink_to(export("saved_model"))
    arrays, logits = expected(export.stage, random_data)
    request = predict.PredictRequest()
    request.model_spec.name = "lcqmc"
    for name, array in arrays.items():
        request.inputs[name].CopyFrom(tf.make_tensor_proto(array, tf.int32))
    asked = metadata.GetModelMetadataRequest(metadata_field=["signature_def"])
    asked.model_spec.name = "lcqmc"
    with new_session() as session, served(str(tmp_path / "lcqmc"), session) as stub:
        response = stub.Predict(request, timeout=60)
        found = metadata.SignatureDefMap()
        stub.GetModelMetadata(asked, timeout=60).metadata["signature_def"].Unpack(found)
    outputs = {name: tf.make_ndarray(tensor) for name, tensor in response.outputs.items()}
    assert_outputs_fit(outputs, logits)

    assert list(found.signature_def) == ["serving_default"]
    signature = found.signature_def["serving_default"]
    assert signature.method_name == "tensorflow/serving/predict"

    def described(tensors):
        return {
            name: (tf.as_dtype(tensor.dtype).name, [d.size for d in tensor.tensor_shape.dim])
            for name, tensor in tensors.items()
        }

    assert described(signature.inputs) == {name: ("int32", [-1, -1]) for name in arrays}
    assert described(signature.outputs) == {
        "logits": ("float32", [-1, 2]),
        "probabilities": ("float32", [-1, 2]),
        "label": ("int32", [-1]),
    }


# --- onnx ---


@pytest.fixture
def needs_onnx():
    for package in ("tf2onnx", "onnx", "onnxruntime"):
        pytest.importorskip(package)


@needs_tensorflow_2
@pytest.mark.parametrize("hidden_act", ["gelu_tanh", "gelu_erf"])
def test_onnx_equals_the_graph(stages, random_data, monkeypatch, needs_onnx, hidden_act):
    import onnxruntime

    folder = stages("successor", hidden_act)
    command(export_line(folder, random_data, "onnx"), random_data, monkeypatch)
    arrays, logits = expected(folder, random_data)
    given = {
        "input_ids": arrays["input_ids"].astype(np.int64),
        "attention_mask": arrays["input_mask"].astype(np.int64),
        "token_type_ids": arrays["segment_ids"].astype(np.int64),
    }
    session = onnxruntime.InferenceSession(folder.file("export/onnx/model.onnx"))
    assert {i.name: (i.type, i.shape) for i in session.get_inputs()} == {
        name: ("tensor(int64)", ["batch", "length"]) for name in given
    }
    names = [output.name for output in session.get_outputs()]
    for count in (1, 20):
        some = {name: array[:count] for name, array in given.items()}
        assert_outputs_fit(dict(zip(names, session.run(names, some))), logits[:count])


@needs_tensorflow_2
def test_onnx_gets_its_weights_after_the_conversion(stages, random_data, monkeypatch, needs_onnx):
    """tf2onnx would copy them a dozen times: 20 GB for BERT-base."""
    import onnx
    import tf2onnx

    graphs, convert = [], tf2onnx.convert.from_graph_def

    def watched(graph_def, **options):
        graphs.append(graph_def)
        return convert(graph_def, **options)

    monkeypatch.setattr(tf2onnx.convert, "from_graph_def", watched)
    folder = stages()
    command(export_line(folder, random_data, "onnx"), random_data, monkeypatch)
    (graph_def,) = graphs
    constants = [node for node in graph_def.node if node.op == "Const"]
    assert max(node.attr["value"].tensor.ByteSize() for node in constants) < 16 * 16 * 4

    found = {
        tensor.name: onnx.numpy_helper.to_array(tensor)
        for tensor in onnx.load(folder.file("export/onnx/model.onnx")).graph.initializer
    }
    weights = dict(CheckpointWeights(folder.best_checkpoint()))
    for name, array in weights.items():
        np.testing.assert_array_equal(found[name.replace("suc_layer", "layer")], array)


@needs_tensorflow_2
@pytest.mark.parametrize("name", ["onnx", "onnx_int8"])
def test_onnx_brings_what_optimum_reads_beside_it(export, name):
    path = export(name)
    assert sorted(os.listdir(path)) == [
        "README.md",
        "config.json",
        "export.json",
        "model.onnx",
        "tokenizer.json",
        "tokenizer_config.json",
        "vocab.txt",
    ]
    config = read_json(path, "config.json")
    assert config["architectures"] == ["BertForSequenceClassification"]
    assert (config["model_type"], config["num_hidden_layers"]) == ("bert", 2)
    assert config["id2label"] == {"0": "0", "1": "1"}


SIZES = {"input_ids": SMALL_BERT["vocab_size"], "token_type_ids": SMALL_BERT["type_vocab_size"]}


@needs_tensorflow_2
@pytest.mark.parametrize("name", ["onnx", "onnx_int8"])
@pytest.mark.parametrize("array, size", sorted(SIZES.items()))
def test_onnx_refuses_ids_beyond_its_tables(export, name, array, size):
    import onnxruntime

    session = onnxruntime.InferenceSession(export(name) + "/model.onnx")
    given = {one: np.ones([2, 5], np.int64) for one in ("input_ids", "attention_mask")}
    given["token_type_ids"] = np.zeros([2, 5], np.int64)
    for right in (0, size - 1):
        given[array][1, 3] = right
        session.run(["logits"], given)
    for wrong in (size, -1, -size, -size - 1, -100, 2**40):
        given[array][1, 3] = wrong
        with pytest.raises(Exception, match="indices element out of data bounds"):
            session.run(["logits"], given)


@needs_tensorflow_2
@pytest.mark.parametrize("name", ["onnx", "onnx_int8"])
def test_optimum_loads_the_folder(export, name, random_data):
    optimum = pytest.importorskip("optimum.onnxruntime")
    transformers = pytest.importorskip("transformers")
    path = export(name)
    lines = (random_data / "dev.txt").read_text(encoding="utf-8").splitlines()[:9]
    pairs = [tuple(line.split("\t")[:2]) for line in lines]
    model = optimum.ORTModelForSequenceClassification.from_pretrained(path)
    tokenizer = transformers.AutoTokenizer.from_pretrained(path)
    tokens = tokenizer(*map(list, zip(*pairs)), padding=True, truncation=True, return_tensors="pt")
    found = model(**tokens).logits.softmax(-1).numpy()
    with Classifier(path) as classifier:
        expected = [probabilities for _, probabilities in classifier.classify(pairs)]
    assert_close(found, expected, 1e-5)
    assert np.ptp(found[:, 1]) > 0.01


@needs_tensorflow_2
def test_onnx_in_8_bits_is_smaller_and_says_what_it_scores(
    stages, random_data, monkeypatch, capsys, needs_onnx
):
    folder = stages()
    line = export_line(folder, random_data, "onnx", "--quantize=none,int8")
    command(line, random_data, monkeypatch)
    graph, of_float, row = [line.split() for line in capsys.readouterr().out.splitlines()[1:]]
    assert of_float[0] == folder.file("export/onnx") and float(of_float[1]) < 1e-4
    assert row[0] == folder.file("export/onnx_int8")
    assert _num_weight_bytes(row[0]) < 0.6 * _num_weight_bytes(of_float[0])
    described = read_json(row[0], "export.json")
    assert float(row[3]) == pytest.approx(described["dev_score"], abs=5e-5)
    assert abs(described["dev_score"] - float(graph[4])) < 0.2
    assert described["largest_difference"] > 0
    assert 0.8 <= described["agreement"] <= 1
    assert float(row[2]) == pytest.approx(described["agreement"], abs=5e-5)


def _num_weight_bytes(path):
    model = pytest.importorskip("onnx").load(os.path.join(path, "model.onnx"))
    return sum(len(tensor.raw_data) for tensor in model.graph.initializer)


# --- What they share ---


@needs_tensorflow_2
def test_several_formats_are_written_with_what_a_caller_must_know(
    stages, random_data, monkeypatch, capsys
):
    folder = stages("replacing")
    command(export_line(folder, random_data, "bert,saved_model"), random_data, monkeypatch)
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines[1:]] == [
        "the",
        folder.file("export/bert"),
        folder.file("export/saved_model"),
    ]
    for name in ("bert", "saved_model"):
        path = folder.file("export/" + name)
        described = read_json(path, "export.json")
        assert described["labels"] == ["0", "1"] and described["max_seq_length"] == 32
        assert described["do_lower_case"] is True and described["format"] == name
        assert described["largest_difference"] <= 1e-4
        with open(path + "/vocab.txt", "rb") as one, open(folder.file("vocab.txt"), "rb") as other:
            assert one.read() == other.read()


@needs_tensorflow_2
def test_complete_exports_are_said_where_a_later_one_fails(
    stages, random_data, monkeypatch, capsys
):
    def fail(plain, path):
        raise OSError("no space left")

    failing = formats.FORMATS["saved_model"]._replace(write=fail)
    monkeypatch.setitem(formats.FORMATS, "saved_model", failing)
    line = export_line(stages("predecessor"), random_data, "bert,saved_model")
    found = refused(line, random_data, monkeypatch)
    assert "saved_model: cannot be written: no space left" in found
    rows = capsys.readouterr().out.splitlines()
    path = stages("predecessor").file("export/bert")
    assert [row.split()[0] for row in rows[1:]] == ["the", path]


@needs_tensorflow_2
def test_an_export_is_replaced_by_the_same_runs_and_no_other(
    stages, random_data, monkeypatch, tmp_path
):
    target = tmp_path / "target"
    line = export_line(stages(), random_data, "bert", "--export_dir=%s/" % target)
    command(line, tmp_path, monkeypatch)
    (target / "bert_config.json").write_text("{}")
    command(line, tmp_path, monkeypatch)
    assert read_json(target, "bert_config.json")["num_hidden_layers"] == 2
    assert [path.name for path in tmp_path.iterdir()] == ["target"]

    before = contents(tmp_path)
    other = export_line(stages("replacing"), random_data, "bert", "--export_dir=%s" % target)
    assert_matches(
        "--export_dir: .*target already exists but is not an export of this run as bert; "
        "give another",
        refused(other, tmp_path, monkeypatch),
    )
    other = export_line(stages(), random_data, "bert", "--export_dir=%s" % stages().path)
    assert "is not an export" in refused(other, tmp_path, monkeypatch)
    assert contents(tmp_path) == before


@needs_tensorflow_2
@pytest.mark.parametrize("form", ["bert", "saved_model"])
def test_a_folder_named_as_a_pattern_is_exported_to_and_read(
    stages, random_data, monkeypatch, tmp_path, form
):
    line = export_line(stages(), random_data, form, "--export_dir=new/run[1]*")
    command(line, tmp_path, monkeypatch)
    with Classifier(str(tmp_path / "new" / "run[1]*")) as model:
        assert len(model.classify([("手", "机")])) == 1


@needs_tensorflow_2
def test_an_export_that_differs_is_left_out(stages, random_data, monkeypatch, tmp_path):
    line = export_line(stages(), random_data, "bert", "--export_dir=target")
    command(line, tmp_path, monkeypatch)
    before = contents(tmp_path)
    write_right = formats.function(formats.FORMATS["bert"].write)

    def write_wrong(plain, path):
        bias = plain.weights["output_bias"] + np.float32([0, 2e-4])
        write_right(plain._replace(weights=dict(plain.weights, output_bias=bias)), path)

    wrong = formats.FORMATS["bert"]._replace(write=write_wrong)
    monkeypatch.setitem(formats.FORMATS, "bert", wrong)
    message = "target: its logits differ from the graph's by up to 0.0002, more than 0.0001; it was"
    assert message in refused(line, tmp_path, monkeypatch)
    assert contents(tmp_path) == before


def read_wrong(monkeypatch, name, change):
    """Makes a format's reader give other logits than the model: change(logits)."""
    form = formats.FORMATS[name]

    def read(path, open_session):
        run = formats.function(form.check or form.read)(path, open_session)
        return lambda arrays: change(run(arrays))

    monkeypatch.setitem(formats.FORMATS, name, form._replace(check=read))


@needs_tensorflow_2
def test_the_share_of_equal_labels_is_of_all_of_dev(
    stages, random_data, monkeypatch, capsys, needs_onnx
):
    folder = stages("predecessor")
    command(export_line(folder, random_data, "bert"), random_data, monkeypatch)
    assert read_json(folder.file("export/bert"), "export.json")["agreement"] == 1
    read_wrong(monkeypatch, "onnx_int8", lambda logits: logits[:, ::-1])
    line = export_line(folder, random_data, "onnx", "--quantize=int8")
    capsys.readouterr()
    command(line, random_data, monkeypatch)
    right = read_json(folder.file("export/onnx_int8"), "export.json")["agreement"]
    assert right < 0.2
    header, graph, row = capsys.readouterr().out.splitlines()
    assert "  same label  " in header and graph.split()[3] == "-"
    assert float(row.split()[2]) == pytest.approx(right, abs=5e-5)


class Clock(object):
    """A clock that advances only while a model runs, by some seconds for each row of a batch."""

    def __init__(self):
        self.now = 0.0

    def perf_counter(self):
        return self.now

    def model(self, seconds, positive, strength):
        """Returns a model, as readers do, that says label 1 of texts that begin with `positive`."""
        vocabulary = VOCABULARY.split()

        def run(arrays):
            self.now += seconds * len(arrays["input_ids"])
            first = [vocabulary[row[1]] for row in arrays["input_ids"]]
            says = np.array([character in positive for character in first])
            return np.float32(strength) * np.stack([~says, says], axis=1)

        return run


@needs_tensorflow_2
def test_what_is_said_of_a_model_is_its_own(stages, monkeypatch, capsys, tmp_path, needs_onnx):
    """The models have known speeds and answers: 6, 6 and 3 of 7 are right."""
    rows = "我1 你0 他0 手1 机0 火0 水1".split()
    (tmp_path / "dev.txt").write_text(
        "".join("%s\t好\t%s\n" % tuple(row) for row in rows), encoding="utf-8"
    )
    clock = Clock()
    monkeypatch.setattr(exporter, "time", clock)
    models = {
        "saved_model": clock.model(0.002, "我手", 1 + 5e-5),
        "onnx_int8": clock.model(0.003, "你", 2),
    }
    graph = clock.model(0.004, "我手", 1)
    monkeypatch.setattr(exporter.evaluation, "runner", lambda *_: graph)
    for name, model in models.items():
        read = functools.partial(lambda model, *_: model, model)
        monkeypatch.setitem(formats.FORMATS, name, formats.FORMATS[name]._replace(check=read))
    folder = stages()
    line = export_line(folder, tmp_path, "saved_model,onnx", "--quantize=int8")
    command(line, tmp_path, monkeypatch)

    lines = [line.split() for line in capsys.readouterr().out.splitlines()[1:]]
    paths = [folder.file("export/" + name) for name in models]
    sizes = [cells.pop(-3) for cells in lines]
    assert lines == [
        ["the", "graph", "-", "-", "0.8571", "0.0280", "0.0040"],
        [paths[0], "5.0e-05", "1.0000", "0.8571", "0.0140", "0.0020"],
        [paths[1], "2.0e+00", "0.5714", "0.4286", "0.0210", "0.0030"],
    ]
    described = read_json(paths[1], "export.json")
    found = [described[name] for name in ("dev_score", "agreement", "largest_difference")]
    assert found == [pytest.approx(3 / 7), pytest.approx(4 / 7), 2]
    assert read_json(paths[0], "export.json")["dev_score"] == pytest.approx(6 / 7)
    with open(paths[1] + "/README.md", encoding="utf-8") as reader:
        card = reader.read()
    for row in [
        "| dev, this export | 0.4286 |",
        "| dev, before exporting | 0.8571 |",
        "| 10 | 21.00 | 28.00 |",
        "| 1 | 3.00 | 4.00 |",
        "\n%s MB. " % sizes[2],
    ]:
        assert row in card
    assert '"value": 0.428571' in card.split("---")[1]


def test_the_size_is_that_of_all_files_in_megabytes(tmp_path):
    (tmp_path / "variables").mkdir()
    (tmp_path / "saved_model.pb").write_bytes(b"x" * 250000)
    (tmp_path / "variables" / "part").write_bytes(b"x" * 2000000)
    assert exporter._megabytes(str(tmp_path)) == 2.25


@needs_tensorflow_2
def test_an_export_lists_the_sums_of_its_files(export):
    path = export("saved_model")
    found = read_json(path, "export.json")["files"]
    there = [os.path.join(folder, name) for folder, _, names in os.walk(path) for name in names]
    there.remove(os.path.join(path, "export.json"))
    assert sorted(found) == sorted(os.path.relpath(file, path) for file in there)
    for file in there:
        with open(file, "rb") as reader:
            held = reader.read()
        expected = {"bytes": len(held), "sha256": hashlib.sha256(held).hexdigest()}
        assert found[os.path.relpath(file, path)] == expected


@needs_tensorflow_2
@pytest.mark.parametrize(
    "name, value, where",
    [
        ("bert", np.nan, "first"),
        ("bert", np.inf, "rest of dev"),
        ("onnx_int8", np.inf, "first"),
        ("onnx_int8", np.nan, "rest of dev"),
    ],
)
def test_an_export_whose_logits_are_not_finite_is_left_out(
    stages, random_data, monkeypatch, tmp_path, needs_onnx, name, value, where
):
    batches = []

    def spoil(logits):
        batches.append(len(logits))
        # The first batches are the pairs that are compared, of at most 10; dev's are larger.
        if (where == "first") == (batches[-1] <= 10):
            logits = np.array(logits)
            logits[-1, 1] = value
        return logits

    read_wrong(monkeypatch, name, spoil)
    form, more = ("bert", "") if name == "bert" else ("onnx", "--quantize=int8")
    line = export_line(stages(), random_data, form, "--export_dir=target " + more)
    assert "target: its logits are not finite numbers; it was not exported" in refused(
        line, tmp_path, monkeypatch
    )
    assert batches and not list(tmp_path.iterdir())


def test_a_missing_package_is_named(monkeypatch):
    monkeypatch.setattr(preparation, "_EXPORTS", True)
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    preparation.check_missing_packages(["bert", "saved_model"])
    with pytest.raises(UserError, match="--export_format: onnx needs the package tf2onnx and onnx"):
        preparation.check_missing_packages(["bert", "onnx"])


def test_an_older_tensorflow_is_refused(stages, random_data, monkeypatch):
    line = export_line(stages(), random_data, "bert")
    monkeypatch.setattr(writers.tf, "__version__", "1.15.5")
    monkeypatch.setattr(preparation, "_EXPORTS", False)
    assert "--do_export: needs TensorFlow 2.21, this is 1.15.5" in refused(
        line, random_data, monkeypatch
    )


@pytest.mark.parametrize(
    "arguments, message",
    [
        ("--do_export", "--do_export needs --export_format"),
        ("--do_eval --export_format=bert", "--export_format needs --do_export"),
        (
            "--do_export --export_format=bert,bert",
            "give one or several different values of bert, hugg",
        ),
        ("--do_export --export_format=keras", "different values of bert, huggingface, saved_model"),
        (
            "--do_export --export_format=bert,onnx --export_dir=a",
            "--export_dir needs exactly one --exp",
        ),
        (
            "--do_export --export_format=onnx --export_dir=a --quantize=none,int8",
            "--export_dir needs exactly one --export_format, and one --quantize",
        ),
        ("--do_export --export_format=bert --quantize=int8", "--quantize needs --export_format"),
    ],
)
def test_a_mistake_in_the_flags_is_one_line(tmp_path, monkeypatch, arguments, message):
    found = refused(arguments, tmp_path, monkeypatch)
    assert found.startswith("run_classifier.py: ") and message in found


# --- What is said of a model, and which one it is ---


def described_as(labels, **run_config):
    """A PlainClassifier over those labels, without weights."""
    task = dataclasses.replace(tasks.of_one_text(tasks.TASKS["custom"]), labels=labels)
    held = dict(dict(task_name="custom", max_seq_length=48, do_lower_case=False), **run_config)
    config = modeling_theseus.BertConfig.from_dict(SMALL_BERT)
    best = Checkpoint("best/model.ckpt-7", 7)
    return writers.PlainClassifier(config, {}, task, None, held, best, 1.0)


def test_labels_keep_the_order_of_their_ids():
    plain = described_as(("neutral", "bad", "good"))
    config = writers._hugging_face_config(plain)
    assert config["id2label"] == {"0": "neutral", "1": "bad", "2": "good"}
    assert config["label2id"] == {"neutral": 0, "bad": 1, "good": 2}
    row = exporter.Row("a", 0.5, 0.75, 0.25, 1.0, [])
    holder = types.SimpleNamespace(_plain=plain)
    described = exporter.Exporter._describe(holder, row)
    assert described["labels"] == ["neutral", "bad", "good"]
    assert (described["task_name"], described["num_texts"]) == ("custom", 1)
    assert (described["max_seq_length"], described["do_lower_case"]) == (48, False)
    assert described["global_step"] == 7
    assert (described["largest_difference"], described["dev_score"]) == (0.5, 0.25)


@pytest.mark.parametrize("do_lower_case", [True, False])
def test_the_tokenizer_of_huggingface_cuts_and_lowers_as_the_run_did(do_lower_case, bert_vocab):
    tokenizer = tokenization.FullTokenizer(bert_vocab, do_lower_case)
    held = hugging_face_tokenizer.tokenizer_config(tokenizer, 48)
    assert (held["do_lower_case"], held["model_max_length"]) == (do_lower_case, 48)


@pytest.fixture
def bert_vocab(tmp_path):
    path = tmp_path / "vocab.txt"
    path.write_text(VOCABULARY, encoding="utf-8")
    return str(path)


def test_an_export_is_known_by_its_format_and_the_whole_definition_of_its_run():
    identity = exporter.identity
    held = {"seed": 1, "stage": "successor"}
    assert identity("bert", held) == identity("bert", dict(reversed(list(held.items()))))
    assert identity("bert", held) != identity("onnx", held)
    assert identity("bert", held) != identity("bert", dict(held, seed=2))


@pytest.fixture
def with_last(stages):
    """A successor's StageFolder whose last checkpoint has other weights than its best."""
    folder = stages()
    best = CheckpointWeights(folder.best_checkpoint())
    with folder.locked(), new_session() as session:
        entry = folder.new_checkpoint("last", 9)
        for name in best:
            tf.get_variable(name, initializer=best[name] + np.float32(1))
        session.run(tf.global_variables_initializer())
        path = folder.file(entry.checkpoint)
        tf.train.Saver().save(session, path, write_meta_graph=False, write_state=False)
        folder.commit(dataclasses.replace(folder.state(), last=entry))
    return folder


def test_the_best_checkpoint_is_exported_under_plain_names(with_last):
    with trained_model.load(with_last) as trained:
        plain = writers.plain_classifier(trained)
    best = CheckpointWeights(with_last.best_checkpoint())
    assert len(plain.weights) == len(best) and plain.config.num_hidden_layers == 2
    for name in best:
        there = name.replace("/suc_layer_", "/layer_")
        np.testing.assert_array_equal(plain.weights[there], best[name], err_msg=name)
    assert plain.best.global_step == 7


def test_pairs_from_all_of_dev_are_compared_and_timed():
    count = 200
    data = encoding.EncodedExamples(
        np.repeat(np.arange(count), 3), [3] * count, [2] * count, [0] * count
    )
    holder = types.SimpleNamespace(_dev_data=data)
    batches = exporter.Exporter._batches(holder, 10)
    rows = np.concatenate([arrays["input_ids"][:, 0] for arrays in batches])
    assert len(set(rows)) == 64 and [len(arrays["input_ids"]) for arrays in batches] == [10] * 6 + [
        4
    ]
    assert rows[0] == 0 and rows[-1] == count - 1 and np.diff(rows).max() <= 4
