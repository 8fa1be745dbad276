"""The classifier for use from Python, and what the processor can compute in."""

import concurrent.futures
import io
import sys

import numpy as np
import pytest

import classifier
import evaluation
import input_pipeline
import metrics
import reading
import tasks
from conftest import EXPORTS, ROOT, assert_close, run, write_stage
from errors import UserError


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return write_stage(tmp_path_factory.mktemp("classifier") / "out", "successor")


@pytest.fixture(scope="module")
def pairs(random_data):
    lines = (random_data / "dev.txt").read_text(encoding="utf-8").splitlines()
    return [tuple(line.split("\t")[:2]) for line in lines]


def test_it_says_what_the_stages_graph_says(folder, pairs):
    examples = [reading.Example(text_a, text_b, None) for text_a, text_b in pairs]
    with classifier.load(folder) as (session, graph, tokenizer):
        task = tasks.TASKS["lcqmc_pair"]
        encoded = input_pipeline.encode_examples(examples, task, tokenizer, 32)
        logits = evaluation.compute_logits(evaluation.runner(session, graph), encoded, 64)
    with classifier.Classifier(folder.path) as model:
        found = model.classify(pairs, batch_size=7)
        assert model.labels == ("0", "1") and model.classify([]) == []
    assert_close([p for _, p in found], metrics.probabilities(logits), 1e-4)
    assert [label for label, _ in found] == [str(np.argmax(p)) for _, p in found]


@pytest.mark.parametrize("name", EXPORTS)
def test_an_export_says_what_its_stage_says(export, pairs, name):
    with classifier.Classifier(export.stage.path) as model:
        expected = model.classify(pairs)
    with classifier.Classifier(export(name)) as model:
        found = model.classify(pairs, batch_size=7)
        assert model.labels == ("0", "1") and model.classify([]) == []
    is_float = name != "onnx_int8"
    difference = np.abs(np.subtract([p for _, p in found], [p for _, p in expected]))
    assert difference.max() < (1e-5 if is_float else 0.1)
    same = [label == other for (label, _), (other, _) in zip(found, expected)]
    assert np.mean(same) == 1 if is_float else np.mean(same) > 0.9


@pytest.mark.parametrize("name", EXPORTS)
def test_a_closed_one_says_so(export, pairs, name):
    model = classifier.Classifier(export(name))
    model.close()
    with pytest.raises(RuntimeError, match="the Classifier is closed"):
        model.classify(pairs[:1])


def test_an_export_takes_no_precision(export):
    with pytest.raises(UserError, match="bert: is an export, which has its own precision; give"):
        classifier.Classifier(export("bert"), precision="float32")


@pytest.mark.parametrize("name", ["stage"] + EXPORTS)
def test_several_threads_may_share_one(export, pairs, name):
    with classifier.Classifier(export.stage.path if name == "stage" else export(name)) as model:
        expected = [model.classify([pair]) for pair in pairs]
        with concurrent.futures.ThreadPoolExecutor(4) as pool:
            found = list(pool.map(lambda pair: model.classify([pair]), pairs * 4))
    assert_close([row[0][1] for row in found], [row[0][1] for row in expected * 4])
    assert [row[0][0] for row in found] == [str(np.argmax(row[0][1])) for row in found]


def test_two_may_be_open_and_close_in_any_order(folder, pairs):
    one, other = classifier.Classifier(folder.path), classifier.Classifier(folder.path)
    expected = one.classify(pairs)
    one.close()
    assert other.classify(pairs) == expected
    other.close()


def test_it_needs_no_set_up_and_leaves_tensorflow_as_it_was(folder):
    program = "import sys; sys.path.insert(0, %r); import tensorflow as tf; import classifier; "
    program += "eager = tf.executing_eagerly(); model = classifier.Classifier(%r); "
    program += "print(model.classify([('手机', '电脑')])[0][0] in '01', "
    program += "tf.executing_eagerly() == eager)"
    status, output, errors = run([sys.executable, "-c", program % (ROOT, folder.path)], ROOT)
    assert (status, output) == (0, "True True\n"), errors


def test_a_folder_without_a_model_is_refused(tmp_path):
    with pytest.raises(UserError, match="model; give a stage's output folder, or an export's"):
        classifier.Classifier(str(tmp_path))


CPU_INFO = "processor\t: 0\nflags\t\t: fpu %s avx2\npower management:\n"


@pytest.mark.parametrize("features, is_warned", [("avx512_bf16", False), ("avx512f", True)])
def test_a_processor_without_bfloat16_is_warned_of(monkeypatch, features, is_warned):
    warnings = []
    monkeypatch.setattr(classifier.logging, "warning", warnings.append)
    monkeypatch.setattr(classifier.tf, "__version__", "2.21.0")
    monkeypatch.setattr(classifier.io, "open", lambda *_, **__: io.StringIO(CPU_INFO % features))
    classifier.check_precision("float32")
    assert not warnings
    classifier.check_precision("bfloat16")
    assert bool(warnings) == is_warned


def test_what_was_trained_in_bfloat16_runs_in_float32_on_tensorflow_1(tmp_path, monkeypatch, pairs):
    folder = write_stage(tmp_path / "out", "successor")
    folder.write_json("run.json", dict(folder.definition(), precision="bfloat16"))
    monkeypatch.setattr(classifier.tf, "__version__", "1.15.5")
    with pytest.raises(UserError, match="needs TensorFlow 2, this is 1.15.5; give --precision=fl"):
        classifier.Classifier(folder.path)
    with classifier.Classifier(folder.path, "float32") as model:
        assert len(model.classify(pairs)) == len(pairs)
