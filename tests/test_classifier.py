"""Tests of the Classifier for Python, and of the precisions that the processor supports."""

import concurrent.futures
import io
import os
import pickle
import types

import numpy as np
import pytest

import forks
from conftest import EXPORTS, ROOT, assert_close, write_stage
from theseus import classifier, machine, session
from theseus.errors import UserError
from theseus.inference import evaluation, predictions, trained_model
from theseus.inputs import encoding, reading, tasks
from theseus.session import check_precision


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return write_stage(tmp_path_factory.mktemp("classifier") / "out", "successor")


@pytest.fixture(scope="module")
def pairs(random_data):
    lines = (random_data / "dev.txt").read_text(encoding="utf-8").splitlines()
    return [tuple(line.split("\t")[:2]) for line in lines]


def test_it_says_what_the_stages_graph_says(folder, pairs):
    examples = [reading.Example(text_a, text_b, None) for text_a, text_b in pairs]
    with trained_model.load(folder) as trained:
        task = tasks.TASKS["lcqmc_pair"]
        encoded = encoding.encode_examples(examples, task, trained.tokenizer, 32)
        run = evaluation.runner(trained.session, trained.graph)
        logits = predictions.compute_logits(run, encoded, 64)
    with classifier.Classifier(folder.path) as model:
        found = model.classify(pairs, batch_size=7)
        assert model.labels == ("0", "1") and model.classify([]) == []
    assert_close([p for _, p in found], predictions.probabilities(logits), 1e-4)
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
    with pytest.raises(UserError, match="bert: the precision of an export is fixed; leave out"):
        classifier.Classifier(export("bert"), precision="float32")


@pytest.mark.parametrize("name", ["stage"] + EXPORTS)
def test_several_threads_may_share_one(export, pairs, name):
    with classifier.Classifier(export.stage.path if name == "stage" else export(name)) as model:
        expected = [model.classify([pair]) for pair in pairs]
        with concurrent.futures.ThreadPoolExecutor(4) as pool:
            found = list(pool.map(lambda pair: model.classify([pair]), pairs * 4))
    assert_close([row[0][1] for row in found], [row[0][1] for row in expected * 4])
    assert [row[0][0] for row in found] == [str(np.argmax(row[0][1])) for row in found]


def test_a_fork_is_told_to_load_its_own(folder, pairs):
    """A fork lacks TensorFlow's threads, so that its answers would never come."""
    with classifier.Classifier(folder.path) as model:
        process = os.fork()
        if not process:
            status = 1
            try:
                model.classify(pairs)
            except RuntimeError as error:
                status = 0 if "forked; load one in each process" in str(error) else 2
            finally:
                os._exit(status)
        assert os.waitpid(process, 0)[1] == 0
        assert model.classify(pairs)


def test_sent_to_another_process_it_is_loaded_there(folder, pairs, monkeypatch):
    monkeypatch.chdir(os.path.dirname(folder.path))
    with classifier.Classifier(os.path.basename(folder.path)) as model:
        sent, expected = pickle.dumps(model), model.classify(pairs)
    monkeypatch.chdir("/")
    with pickle.loads(sent) as model:
        assert model.classify(pairs) == expected


def test_two_may_be_open_and_close_in_any_order(folder, pairs):
    one, other = classifier.Classifier(folder.path), classifier.Classifier(folder.path)
    expected = one.classify(pairs)
    one.close()
    assert other.classify(pairs) == expected
    other.close()


def test_it_needs_no_set_up_and_leaves_tensorflow_as_it_was(folder):
    program = "import sys; sys.path.insert(0, %r); import tensorflow as tf; import theseus; "
    program += "eager = tf.executing_eagerly(); model = theseus.Classifier(%r); "
    program += "print(model.classify([('手机', '电脑')])[0][0] in '01', "
    program += "tf.executing_eagerly() == eager)"
    status, output, errors = forks.run(["-c", program % (ROOT, folder.path)], ROOT)
    assert (status, output) == (0, "True True\n"), errors


class Series(object):
    """As pandas.Series: iterable, of one dimension, with no truth value."""

    ndim = 1

    def __init__(self, values):
        self.values = values

    def __iter__(self):
        return iter(self.values)

    def __bool__(self):
        raise ValueError("ambiguous")


class Table(Series):
    """As pandas.DataFrame, which gives the names of its columns."""

    ndim = 2


@pytest.fixture(scope="module")
def of_pairs(folder):
    with classifier.Classifier(folder.path) as model:
        yield model


@pytest.fixture(scope="module")
def of_texts(tmp_path_factory):
    """A Classifier of single texts."""
    folder = write_stage(tmp_path_factory.mktemp("of_texts") / "out", "successor")
    folder.write_json("run.json", dict(folder.run_config(), task_name="sst-2"))
    with classifier.Classifier(folder.path) as model:
        yield model


def assert_same_answers(found, expected):
    assert [label for label, _ in found] == [label for label, _ in expected]
    np.testing.assert_allclose([p for _, p in found], [p for _, p in expected], atol=1e-5)


def test_any_sequence_of_pairs_is_taken(of_pairs, pairs):
    expected = of_pairs.classify(pairs)
    objects = np.empty(len(pairs), object)
    objects[:] = pairs
    for given in (
        tuple(pairs),
        [list(pair) for pair in pairs],
        (pair for pair in pairs),
        np.array(pairs),
        objects,
        Series(pairs),
        zip(*zip(*pairs)),
    ):
        assert_same_answers(of_pairs.classify(given), expected)
    for empty in ([], (), iter([]), np.zeros([0, 2], str), Series([])):
        assert of_pairs.classify(empty) == []


@pytest.mark.parametrize(
    "given, error, message",
    [
        ("手机", TypeError, r"takes a list of \(text, text\), not str '手机'"),
        (b"ab", TypeError, "not bytes b'ab'"),
        (None, TypeError, "not NoneType None"),
        (5, TypeError, "not int 5"),
        ({"a": "b"}, TypeError, "not dict"),
        ({("a", "b")}, TypeError, "not set"),
        (("手机", "电脑"), TypeError, r"item 0 \(from 0\) is str '手机'"),
        (["ab", "cd"], TypeError, r"item 0 \(from 0\) is str 'ab'"),
        (np.array(["ab", "cd"]), TypeError, r"item 0 \(from 0\) is str_ "),
        (np.array("ab"), TypeError, "not a ndarray of 0 dimensions"),
        (np.full([1, 2, 2], "a"), TypeError, "not a ndarray of 3 dimensions"),
        (Table(["a1", "b1"]), TypeError, r"item 0 \(from 0\) is str 'a1'"),
        ([("a", "b"), None], TypeError, r"item 1 \(from 0\) is NoneType None"),
        ([("a", "b"), 5], TypeError, r"item 1 \(from 0\) is int 5"),
        ([("a", None)], TypeError, r"item 0 \(from 0\) is a pair with NoneType None"),
        ([(float("nan"), "a")], TypeError, "is a pair with float nan"),
        ([(b"a", b"b")], TypeError, "is a pair with bytes b'a'"),
        ([["a", ["b"]]], TypeError, "is a pair with list"),
        ([{"a": 1, "b": 2}], TypeError, "is dict"),
        ([{"a", "b"}], TypeError, "is set"),
        ([("a",)], ValueError, r"item 0 \(from 0\) is a tuple with 1 members"),
        ([("a", "b"), ("a", "b", "c")], ValueError, r"item 1 \(from 0\) is a tuple with 3 members"),
        ([()], ValueError, "is a tuple with 0 members"),
        (
            [("a", ""), ("", "b"), (" \u3000", "\u200b")],
            ValueError,
            r"item 2 \(from 0\) is empty",
        ),
    ],
)
def test_what_are_no_pairs_is_refused(of_pairs, given, error, message):
    with pytest.raises(error, match=message) as caught:
        of_pairs.classify(given)
    assert str(caught.value).startswith("lcqmc_pair: classify takes a list of (text, text)")


@pytest.mark.parametrize(
    "given, error, message",
    [
        ("手机坏了", TypeError, "sst-2: classify takes a list of texts, not str '手机坏了'"),
        (None, TypeError, "not NoneType"),
        ([None], TypeError, r"item 0 \(from 0\) is NoneType None"),
        (["a", b"b"], TypeError, r"item 1 \(from 0\) is bytes"),
        ([("a", "b")], TypeError, r"item 0 \(from 0\) is tuple"),
        ([["a"]], TypeError, r"item 0 \(from 0\) is list"),
        (np.array([["a"]]), TypeError, "not a ndarray of 2 dimensions"),
        (Table(["text"]), TypeError, "not a Table of 2 dimensions"),
        (np.array([1.5]), TypeError, r"item 0 \(from 0\) is float64"),
        (["a", "\n"], ValueError, r"item 1 \(from 0\) is empty"),
    ],
)
def test_what_are_no_texts_is_refused(of_texts, given, error, message):
    with pytest.raises(error, match=message):
        of_texts.classify(given)


def test_any_sequence_of_texts_is_taken(of_texts):
    texts = ["手机坏了", "电脑"]
    expected = of_texts.classify(texts)
    for given in (np.array(texts), Series(texts), iter(texts), tuple(texts)):
        assert_same_answers(of_texts.classify(given), expected)


@pytest.mark.parametrize(
    "batch_size, error", [(0, ValueError), (-3, ValueError), (2.0, TypeError), (None, TypeError)]
)
def test_a_batch_has_a_number_of_pairs(of_pairs, pairs, batch_size, error):
    with pytest.raises(error, match="batch_size must be an int of at least 1, not"):
        of_pairs.classify(pairs, batch_size=batch_size)
    assert len(of_pairs.classify(pairs, batch_size=np.int64(8))) == len(pairs)


def test_bert_s_own_tokens_in_a_text_are_text(folder):
    """Of BERT's own tokens only [UNK] can come from a text, for unknown words."""
    with trained_model.load(folder) as trained:
        task = tasks.TASKS["lcqmc_pair"]
        text = "[SEP]手[MASK][CLS]机[PAD] [sep] [ SEP ]"
        encoded = encoding.encode_examples(
            [reading.Example(text, text, None)], task, trained.tokenizer, 128
        )
        tokens = trained.tokenizer.convert_ids_to_tokens(encoded.ids)
    assert tokens.count("[CLS]") == 1 and tokens.count("[SEP]") == 2
    assert not {"[MASK]", "[PAD]"}.intersection(tokens)
    assert [token for token in tokens if token in "手机"] == ["手", "机"] * 2


def test_a_folder_without_a_model_is_refused(tmp_path):
    with pytest.raises(
        UserError,
        match="model; give the output folder of a trained stage, or a",
    ):
        classifier.Classifier(str(tmp_path))


@pytest.mark.parametrize(
    "name, old, new, message",
    [
        (
            "vocab.txt",
            "手",
            "扌",
            "vocab.txt: is damaged: it differs from the file that the run started with$",
        ),
        (
            "bert_config.json",
            "0.3",
            "0.1",
            "its bert_config.json differs from the one that the run started with$",
        ),
    ],
)
def test_a_stage_with_an_altered_file_is_refused(tmp_path, name, old, new, message):
    altered = write_stage(tmp_path / "out", "successor").file(name)
    with open(altered, encoding="utf-8") as reader:
        text = reader.read()
    assert text.count(old) == 1
    with open(altered, "w", encoding="utf-8") as writer:
        writer.write(text.replace(old, new))
    with pytest.raises(UserError, match=message):
        classifier.Classifier(str(tmp_path / "out"))


CPU_INFO = "processor\t: 0\nflags\t\t: fpu %s avx2\npower management:\n"


@pytest.mark.parametrize("features, is_warned", [("avx512_bf16", False), ("avx512f", True)])
def test_a_processor_without_bfloat16_is_warned_of(monkeypatch, features, is_warned):
    warnings = []
    monkeypatch.setattr(session.logging, "warning", warnings.append)
    monkeypatch.setattr(session.tf, "__version__", "2.21.0")
    opened = types.SimpleNamespace(open=lambda *_, **__: io.StringIO(CPU_INFO % features))
    monkeypatch.setattr(machine, "io", opened)
    check_precision("float32")
    assert not warnings
    check_precision("bfloat16")
    assert bool(warnings) == is_warned


def test_what_was_trained_in_bfloat16_runs_in_float32_on_tensorflow_1(tmp_path, monkeypatch, pairs):
    folder = write_stage(tmp_path / "out", "successor")
    folder.write_json("run.json", dict(folder.run_config(), precision="bfloat16"))
    monkeypatch.setattr(session.tf, "__version__", "1.15.5")
    with pytest.raises(UserError, match="needs TensorFlow 2, this is 1.15.5; give --precision=fl"):
        classifier.Classifier(folder.path)
    with classifier.Classifier(folder.path, "float32") as model:
        assert len(model.classify(pairs)) == len(pairs)


def test_what_needs_tensorflow_says_so_where_there_is_none(folder, monkeypatch):
    monkeypatch.setattr(classifier.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(UserError, match="needs TensorFlow .pip install tensorflow.; an"):
        classifier.Classifier(folder.path)
