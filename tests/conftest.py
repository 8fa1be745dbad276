"""Helpers and fixtures for all tests: TensorFlow in graph mode, and a small BERT with data."""

import dataclasses
import functools
import glob
import json
import os
import pathlib
import shutil
import stat
import subprocess
import sys
import tempfile

import numpy as np
import pytest
import tensorflow.compat.v1 as tf
from absl import flags, logging
from absl.testing import flagsaver

import forks
from theseus.inference import trained_model
from theseus.inputs.encoding import EncodedExamples
from theseus.session import new_session, set_up_tensorflow

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
GOLDEN = os.path.join(ROOT, "tests", "golden")
SCRIPT = os.path.join(ROOT, "run_classifier.py")
# The programs that tests start are this folder's, even if another version is installed.
os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, [ROOT, os.environ.get("PYTHONPATH")]))
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
set_up_tensorflow()
logging.set_verbosity(logging.INFO)  # As a command does.

# On TensorFlow 1.15.5 only the files that use TensorFlow run. The results of the others, which
# test_architecture.py checks, do not depend on its version.
WITHOUT_TENSORFLOW = (
    "architecture batches cache encoding errors hold_out hugging_face_tokenizer layout lines "
    "long_texts make_requirements make_results make_sample metrics other_formats parallel_encoding "
    "predictions quantization quickstart reading recorded records replaced_losses run_config "
    "second_text stage_folder tasks tokenization unknown_words"
).split()
collect_ignore = []
if tf.__version__.startswith("1."):
    collect_ignore = ["test_%s.py" % name for name in WITHOUT_TENSORFLOW]

needs_tensorflow_2 = pytest.mark.skipif(
    tf.__version__.startswith("1."), reason="exports and bfloat16 need TensorFlow 2"
)


@pytest.fixture(autouse=True)
def no_process_is_left():
    """Ends the forks for which a test has not waited."""
    yield
    forks.end_all()


def pytest_sessionfinish():
    """Ends the process that forks."""
    forks.close()


@pytest.fixture
def session():
    """Yields a session over a new default graph."""
    with new_session() as opened:
        yield opened


@pytest.fixture(scope="session")
def reference():
    """The arrays of golden/reference_bert.npz by name."""
    with np.load(os.path.join(GOLDEN, "reference_bert.npz")) as arrays:
        return dict(arrays)


def run(arguments, folder):
    """Runs a program in a folder; returns (exit status, output, errors)."""
    process = subprocess.Popen(
        arguments,
        cwd=str(folder),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        universal_newlines=True,
        encoding="utf-8",
    )
    output, errors = process.communicate()
    return process.returncode, output, errors


_STUB = """#!/usr/bin/env bash
echo "$@" >> "$STUB_LOG"
for word in "$@"; do
  case "$word" in --stage_*_outputdir=*) mkdir -p "${word#*=}" ;; esac
done
[ -z "${STUB_FAILS:-}" ] || [[ "$*" != *"$STUB_FAILS"* ]]
"""


def stub_project(folder):
    """Copies the bash scripts next to a virtual environment whose programs are stubs.

    A stub logs its arguments, makes the stages' output folders that these name, and fails where
    STUB_FAILS is among them.
    """
    (folder / "scripts" / "tables").mkdir(parents=True)
    (folder / "venv" / "bin").mkdir(parents=True)
    for name in os.listdir(ROOT):
        if name.startswith("requirements"):
            shutil.copy2(os.path.join(ROOT, name), str(folder))
    for place in ("scripts", os.path.join("scripts", "tables")):
        for path in glob.glob(os.path.join(ROOT, place, "*.sh")):
            shutil.copy2(path, str(folder / place))
    for name in ("python", "pip"):
        path = folder / "venv" / "bin" / name
        path.write_text(_STUB)
        path.chmod(path.stat().st_mode | stat.S_IEXEC)


def run_bash(project, name, *arguments, **variables):
    """Runs a script of a `stub_project` from another folder.

    Returns:
      (exit status, the stubs' command lines, each a list of str, standard error).
    """
    log = project / "log"
    environment = dict(os.environ, VENV=str(project / "venv"), STUB_LOG=str(log))
    process = subprocess.Popen(
        ["bash", str(next((project / "scripts").rglob(name)))] + list(arguments),
        cwd=str(project.parent),
        env=dict(environment, **variables),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        universal_newlines=True,
    )
    _, errors = process.communicate()
    lines = log.read_text().splitlines() if log.exists() else []
    if log.exists():
        log.unlink()
    return process.returncode, [line.split() for line in lines], errors


def call_script(monkeypatch, script, *arguments):
    """Calls a script's main in this process; returns the line with which it exits, or None."""
    name = script.__name__ + ".py"
    monkeypatch.setattr(sys, "argv", [name] + [str(argument) for argument in arguments])
    try:
        script.main()
    except SystemExit as ended:
        assert "\n" not in ended.code
        return ended.code
    return None


class CharacterTokenizer(object):
    """A tokenizer with one token for each character, whose id is the code point."""

    def tokenize(self, text):
        return list(text)

    def convert_tokens_to_ids(self, tokens):
        special = {"[CLS]": 1, "[SEP]": 2}
        return [special.get(token) or ord(token) for token in tokens]


# The folders of a test's stages, for any depth; a later flag of the command line overrides them.
FOLDERS = ["--stage_1_outputdir=out_1", "--stage_2_outputdir=out_2"]


def command(arguments, folder, monkeypatch):
    """Runs a command in this process, in `folder`; its stages are in `FOLDERS`."""
    import run_classifier

    monkeypatch.chdir(str(folder))
    if not flags.FLAGS.is_parsed():
        flags.FLAGS(["run_classifier.py", "--do_eval"])
    with flagsaver.flagsaver():
        flags.FLAGS.unparse_flags()
        argv = ["run_classifier.py"] + FOLDERS + arguments.split()
        run_classifier.main(run_classifier.parse_flags(argv))


def refused(arguments, folder, monkeypatch):
    """Returns the line with which a command is refused."""
    with pytest.raises(SystemExit) as caught:
        command(arguments, folder, monkeypatch)
    assert "\n" not in caught.value.code
    return caught.value.code


def assert_refused(arguments, folder, monkeypatch, pattern):
    """Checks that a command is refused with a matching line and changes no file in the folder."""
    __tracebackhide__ = True
    before = contents(folder)
    found = refused(arguments, folder, monkeypatch)
    assert found.startswith("run_classifier.py: ")
    assert_matches(pattern, found)
    assert contents(folder) == before


def assert_matches(pattern, text):
    __tracebackhide__ = True
    with pytest.raises(ValueError, match=pattern):
        raise ValueError(text)


def assert_close(found, expected, share=1e-5, size=None, name=""):
    """Compares what two programs compute, up to the rounding of float32.

    Processors, thread counts and versions of TensorFlow sum in different orders. What that
    changes goes by the size of what is summed, not by that of the sum, so a difference is
    compared with the largest number there is, never with a fixed one.

    Args:
      found, expected: arrays, or what makes one, of the same shape.
      share: the largest difference, as a share of `size`.
      size: the largest number that went in; None: the largest one of `expected`.
      name: what to call the arrays.
    """
    __tracebackhide__ = True
    size = np.abs(expected).max() if size is None else size
    np.testing.assert_allclose(found, expected, rtol=0, atol=share * size, err_msg=name)


def assert_gradients_close(found, expected, share=1e-4):
    """Compares gradients, dicts of arrays by name, as `assert_close` does.

    A difference may be a `share` of the tensor's largest gradient, and a tenth of that of the
    largest of all: a key's bias has a gradient of nothing but what the others' rounding leaves.
    """
    __tracebackhide__ = True
    assert sorted(found) == sorted(expected)
    largest = {name: np.abs(value).max() for name, value in expected.items()}
    of_all = max(largest.values())
    for name, value in expected.items():
        assert_close(found[name], value, share, largest[name] + 0.1 * of_all, name)


def read_json(*path):
    """Returns the content of a JSON file without its checksum; its path comes in parts."""
    with open(os.path.join(*[str(part) for part in path]), encoding="utf-8") as reader:
        held = json.load(reader)
    if isinstance(held, dict):
        held.pop("sha256_of_the_rest", None)
    return held


def contents(folder):
    """Returns the bytes of every file below a folder, by name."""
    paths = [path for path in folder.rglob("*") if path.is_file()]
    return {str(path): path.read_bytes() for path in paths}


def make_config(stage, **values):
    """Returns the config.Config of a Stage, with the given values instead of defaults."""
    from theseus.config.config import Config
    from theseus.stage import PREDECESSOR, SUCCESSOR

    chosen = dict(finetune_pre=stage is PREDECESSOR, finetune_suc=stage is SUCCESSOR)
    chosen.update(stage_1_outputdir="out_1", stage_2_outputdir="out_2")
    return Config(**dict(chosen, **values))


CHARACTERS = "我你他的手机怎么办好不好呢吗电脑买卖多少钱天气热冷开关门水火山石"
LETTERS = "abAB"  # In texts, which are in both cases.
_TOKENS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"] + sorted(set(CHARACTERS))
# Two vocabularies of the same size, for lower-cased texts and for texts whose case is kept.
VOCABULARY = "\n".join(_TOKENS + "a b ab ba ##a ##b ##ab ##ba".split()) + "\n"
CASED_VOCABULARY = "\n".join(_TOKENS + "a b A B ##a ##b ##A ##B".split()) + "\n"
SMALL_BERT = {
    "vocab_size": len(VOCABULARY.split()),
    "hidden_size": 16,
    "num_hidden_layers": 4,
    "num_attention_heads": 2,
    "intermediate_size": 32,
    "hidden_act": "gelu",
    "hidden_dropout_prob": 0.1,
    "attention_probs_dropout_prob": 0.1,
    "max_position_embeddings": 128,
    "type_vocab_size": 2,
    "initializer_range": 0.02,
}


def write_pairs(path, count, seed):
    """Writes pairs of random characters; every third pair has two texts of the same characters.

    These pairs have label 1, the others label 0. The first pair has label 0, the second label 1.
    """
    random = np.random.RandomState(seed)
    characters = list(CHARACTERS + 2 * LETTERS)
    with open(str(path), "w", encoding="utf-8") as writer:
        for number in range(count):
            text = random.choice(characters, random.randint(3, 9))
            other = random.choice(characters, random.randint(3, 9))
            label = number % 3 == 1
            other = random.permutation(text) if label else other
            writer.write("%s\t%s\t%d\n" % ("".join(text), "".join(other), label))


def encoded_rows(lengths):
    """Returns rows whose tokens all are the row's number plus 1; odd rows have label 1."""
    ids = np.concatenate([np.full(length, row + 1) for row, length in enumerate(lengths)])
    return EncodedExamples(ids, lengths, lengths, np.arange(len(lengths)) % 2)


def randomize_biases(session):
    """Sets all biases and the norms' scales of the default graph to values that have an effect.

    They start as 0, and as 1, which hides what is done with them.
    """
    random = np.random.RandomState(11)
    for variable in tf.trainable_variables():
        if variable.op.name.endswith(("bias", "beta", "gamma")):
            is_scale = variable.op.name.endswith("gamma")
            variable.load(random.normal(is_scale, 0.1, variable.shape.as_list()), session)


_MADE = tempfile.TemporaryDirectory()


@functools.lru_cache(maxsize=None)
def _made_once(make, *arguments):
    """Returns a folder that `make` fills once, given its path; all tests copy it."""
    folder = pathlib.Path(tempfile.mkdtemp(dir=_MADE.name)) / "made"
    make(folder, *arguments)
    return str(folder)


def write_bert(folder, values=SMALL_BERT, vocabulary=VOCABULARY):
    """Writes a BERT with random weights in the form of google-research/bert's checkpoints."""
    made = _made_once(_make_bert, json.dumps(values, sort_keys=True), vocabulary)
    shutil.copytree(made, str(folder))


def _make_bert(folder, values, vocabulary):
    import modeling_theseus

    values = json.loads(values)
    folder.mkdir()
    (folder / "bert_config.json").write_text(json.dumps(values))
    (folder / "vocab.txt").write_text(vocabulary, encoding="utf-8")
    with tf.Graph().as_default(), tf.Session() as new_session:
        tf.set_random_seed(7)
        config = modeling_theseus.BertConfig.from_dict(values)
        modeling_theseus.BertModel(config, False, tf.placeholder(tf.int32, [None, None]))
        with tf.variable_scope("cls/seq_relationship"):
            tf.get_variable("output_bias", [2])
        tf.train.get_or_create_global_step()
        new_session.run(tf.global_variables_initializer())
        randomize_biases(new_session)
        tf.train.Saver().save(new_session, str(folder / "bert_model.ckpt"), write_state=False)


def hugging_face_names(num_layers):
    """Returns the names of a BertForSequenceClassification: (Hugging Face's, TF1 BERT's)."""
    layer = [
        ("attention.self.query", "attention/self/query"),
        ("attention.self.key", "attention/self/key"),
        ("attention.self.value", "attention/self/value"),
        ("attention.output.dense", "attention/output/dense"),
        ("intermediate.dense", "intermediate/dense"),
        ("output.dense", "output/dense"),
    ]
    dense = [("bert.pooler.dense", "bert/pooler/dense")]
    norms = [("bert.embeddings.LayerNorm", "bert/embeddings/LayerNorm")]
    for number in range(num_layers):
        theirs, ours = "bert.encoder.layer.%d." % number, "bert/encoder/layer_%d/" % number
        dense += [(theirs + place, ours + scope) for place, scope in layer]
        for place in ("attention.output", "output"):
            norms.append(
                (theirs + place + ".LayerNorm", ours + place.replace(".", "/") + "/LayerNorm")
            )
    names = [("classifier.weight", "output_weights"), ("classifier.bias", "output_bias")]
    for table in ("word", "position", "token_type"):
        names.append(
            (
                "bert.embeddings.%s_embeddings.weight" % table,
                "bert/embeddings/%s_embeddings" % table,
            )
        )
    for modules, weight, bias in [(dense, "kernel", "bias"), (norms, "gamma", "beta")]:
        for theirs, ours in modules:
            names += [
                (theirs + ".weight", ours + "/" + weight),
                (theirs + ".bias", ours + "/" + bias),
            ]
    return names


def hugging_face_arrays(weights, num_layers):
    """Returns arrays with TF1 BERT's names in Hugging Face's names and layout."""
    arrays = {}
    for theirs, ours in hugging_face_names(num_layers):
        if ours in weights:
            array = weights[ours].T if ours.endswith("/kernel") else weights[ours]
            arrays[theirs] = np.ascontiguousarray(array)
    return arrays


@pytest.fixture(scope="session")
def random_data(tmp_path_factory):
    """A folder with pairs of random characters in train, dev and test, and a BERT in bert/."""
    root = tmp_path_factory.mktemp("random_data")
    for split, count, seed in [("train", 300, 1), ("dev", 60, 2), ("test", 40, 3)]:
        write_pairs(root / (split + ".txt"), count, seed)
    write_bert(root / "bert")
    return root


def write_stage(root, stage, hidden_act="gelu_tanh", keep_predecessor=None, do_lower_case=True):
    """Writes a stage's folder as training leaves it, with random weights that have an effect.

    Args:
      root: path of the folder.
      stage: a Stage's name; the predecessor has 4 layers, the successor 2.
      hidden_act: "gelu_tanh" or "gelu_erf".
      keep_predecessor: True, for a stage that keeps the predecessor's layers; or None.
      do_lower_case: bool, by which its vocabulary is one of lower-cased texts, or is not.

    Returns:
      The stage_folder.StageFolder.
    """
    from theseus.runs.stage_folder import StageFolder

    made = _made_once(_make_stage, stage, hidden_act, keep_predecessor, do_lower_case)
    shutil.copytree(made, str(root))
    return StageFolder(str(root))


def _make_stage(root, stage, hidden_act, keep_predecessor, do_lower_case):
    import modeling_theseus
    from theseus.inference import evaluation
    from theseus.runs.files import hash_text
    from theseus.runs.stage_folder import StageFolder
    from theseus.stage import of_name

    stage = of_name(stage)
    values = dict(SMALL_BERT, initializer_range=0.3, hidden_act=hidden_act)
    config = modeling_theseus.BertConfig.from_dict(values)
    suc_layers = 2 if stage.has_successor else None
    run_config = dict(stage=stage.name, suc_layers=suc_layers, bert_config=config.to_dict())
    run_config.update(
        task_name="lcqmc_pair",
        max_seq_length=32,
        do_lower_case=do_lower_case,
        precision="float32",
    )
    vocabulary = VOCABULARY if do_lower_case else CASED_VOCABULARY
    run_config.update(vocab=hash_text(vocabulary), keep_predecessor=keep_predecessor)
    folder = StageFolder(str(root))
    with folder.locked(), new_session() as opened:
        files = {"bert_config.json": config.to_json_string(), "vocab.txt": vocabulary}
        folder.claim(run_config, files)
        groups = modeling_theseus.module_groups(stage, config.num_hidden_layers, suc_layers)
        paths = [stage.evaluated_mask(groups)]
        paths += [[False] * len(groups)] if keep_predecessor else []
        for path in paths:
            modules = modeling_theseus.encoder_modules(config, groups, path)
            evaluation.build_graph(config, 2, modules)
        opened.run(tf.global_variables_initializer())
        randomize_biases(opened)
        entry = folder.new_checkpoint("best", 7)
        path = folder.file(entry.checkpoint)
        tf.train.Saver().save(opened, path, write_meta_graph=False, write_state=False)
        evaluations = [{"accuracy": 0.5, "global_step": 7}]
        folder.commit(dataclasses.replace(folder.state(), best=entry, evaluations=evaluations))


_PACKAGES = {
    "huggingface": ["safetensors", "tokenizers"],
    "onnx": ["tf2onnx", "onnx", "onnxruntime"],
}
_PACKAGES["onnx_int8"] = _PACKAGES["onnx"]
EXPORTS = ["bert", "huggingface", "saved_model", "onnx", "onnx_int8"]


@pytest.fixture(scope="session")
def export(tmp_path_factory, random_data):
    """Returns a function from a format to the export of the StageFolder `export.stage`, made once.

    The stage keeps its texts' case, in which those of `random_data` differ.
    """
    from theseus.export import exporter
    from theseus.export.export_folder import ExportFolder
    from theseus.inputs import encoding, reading, tasks

    root = tmp_path_factory.mktemp("exports")
    folder = write_stage(root / "stage", "successor", do_lower_case=False)
    task = tasks.TASKS["lcqmc_pair"]
    examples = reading.read_examples(str(random_data / "dev.txt"), task)

    @functools.lru_cache(maxsize=None)
    def get(name):
        for package in _PACKAGES.get(name, []):
            pytest.importorskip(package)
        path = str(root / name)
        with pytest.MonkeyPatch.context() as patch, trained_model.load(folder) as trained:
            patch.setattr(exporter, "_TIMED_RUNS", 1)
            encoded = encoding.encode_examples(examples, task, trained.tokenizer, 32)
            exporter.Exporter(folder, trained, encoded, 64).export(name, ExportFolder(path))
        return path

    get.stage = folder
    return get


def write_weights(prefix, arrays):
    """Writes a checkpoint of arrays by name; for a list of names, each gets a number."""
    arrays = arrays if isinstance(arrays, dict) else dict.fromkeys(arrays, np.float32([0]))
    with tf.Graph().as_default(), tf.Session() as new_session:
        for name, array in arrays.items():
            tf.get_variable(name, initializer=array)
        new_session.run(tf.global_variables_initializer())
        tf.train.Saver().save(new_session, str(prefix), write_meta_graph=False, write_state=False)


def write_start(folder, layer="layer_0"):
    """Writes a small BERT's config and vocabulary, and a checkpoint with only one weight."""
    folder.mkdir()
    (folder / "bert_config.json").write_text(json.dumps(SMALL_BERT))
    (folder / "vocab.txt").write_text(VOCABULARY, encoding="utf-8")
    name = "bert/encoder/%s/output/dense/kernel" % layer
    write_weights(folder / "bert_model.ckpt", [name])
