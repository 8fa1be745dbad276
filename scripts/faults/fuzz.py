"""Tries altered files on everything that reads a file: each must be read, or refused in one line.

Each reader has a good file. Bytes of it are changed, doubled, moved and left out. In JSON, any
value may also be replaced by one that no program would write.
"""

import collections
import copy
import json
import os
import re
import struct
import time

import numpy as np
import tensorflow.compat.v1 as tf
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

import modeling_theseus
import tokenization
from theseus import records
from theseus.checkpoints import hugging_face, pretrained, weights
from theseus.errors import UserError
from theseus.export import read_back
from theseus.inputs import cache, encoding, reading, tasks
from theseus.inputs.tokenizer_settings import TokenizerSettings
from theseus.runs.stage_folder import StageFolder

LONGEST_S = 20
LONGEST_LINE = 2000

Reader = collections.namedtuple("Reader", "name content read")
"""A function that reads a file.

Fields:
  name: str, the file's name, whose ending tells its format.
  content: bytes of a good file.
  read: function (path), which raises UserError for a bad file.
"""

_TOKENS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "我", "##们", "a", "##b", "你"]
_LABELS = ["手机坏了\t手机怎么了\t0", "怎么办\t怎么 办\t1", "你好\t你 好 吗\t1"]
_NUMBERS = (-1, 0, 0.5, 1, 1e30, 2**31, 2**70, -0.0)
_ODD = (None, True, False, "", "\ud800", "long", [], {}, [[]], [1, "a", None], {"a": {}})


# --- What is altered ---

# These have short names, because hypothesis prints the values that it draws from.
_LONG = {b"digits": b"9" * 6000, b"deep": b"[" * 100000}

_EDITS = st.lists(
    st.tuples(
        st.sampled_from(["set", "insert", "delete", "double", "cut", "swap"]),
        st.floats(0, 1, exclude_max=True),
        st.floats(0, 1, exclude_max=True),
        st.one_of(
            st.binary(min_size=1, max_size=6),
            st.sampled_from([b"\x00", b"\t", b"\n", b'"', b"\xff\xfe", b"\xef\xbb\xbf", b"NaN"]),
            st.sampled_from([b"digits", b"deep", b"\\u0000", b"1e999", b"\xe2\x80\xa8"]),
        ),
    ),
    min_size=1,
    max_size=4,
)


def alter_bytes(content, edits):
    """Returns bytes after edits: (kind, place, length, new bytes); places are shares."""
    for what, where, length, value in edits:
        value = _LONG.get(value, value)
        begin = int(where * len(content))
        end = begin + int(length * (len(content) - begin))
        if what == "set":
            content = content[:begin] + value + content[begin + len(value) :]
        elif what == "insert":
            content = content[:begin] + value + content[begin:]
        elif what == "delete":
            content = content[:begin] + content[end:]
        elif what == "double":
            content = content[:end] + content[begin:end] + content[end:]
        elif what == "cut":
            content = content[:begin]
        else:
            content = content[end:] + content[begin:end] + content[:begin]
    return content


def _places(value, place=()):
    """Yields the path of each value inside a JSON value."""
    yield place
    members = value.items() if isinstance(value, dict) else enumerate(value)
    for key, member in members:
        if isinstance(member, (dict, list)):
            for inner in _places(member, place + (key,)):
                yield inner
        else:
            yield place + (key,)


def alter_json(content, where, value, how):
    """Returns the JSON bytes after one value is replaced, left out, or copied from elsewhere."""
    value = "a" * 5000 if value == "long" else value
    record = json.loads(content.decode("utf-8"))
    places = list(_places(record))
    place = places[int(where * len(places))]
    if not place:
        return json.dumps(value).encode("utf-8")
    holder = record
    for key in place[:-1]:
        holder = holder[key]
    if how == "remove":
        del holder[place[-1]]
    elif how == "wrap":
        holder[place[-1]] = [copy.deepcopy(holder[place[-1]])]
    elif how == "rename" and isinstance(holder, dict):
        holder[str(value)[:50]] = holder.pop(place[-1])
    else:
        holder[place[-1]] = value
    return json.dumps(record).encode("utf-8")


def altered(content, is_json):
    """Returns the hypothesis strategy for altered versions of a good file's bytes."""
    by_bytes = _EDITS.map(lambda edits: alter_bytes(content, edits))
    if not is_json:
        return by_bytes
    values = st.sampled_from(_NUMBERS + _ODD)
    hows = st.sampled_from(["set", "set", "set", "remove", "wrap", "rename"])
    where = st.floats(0, 1, exclude_max=True)
    by_value = st.tuples(where, values, hows).map(lambda t: alter_json(content, *t))
    return st.one_of(by_bytes, by_value)


# --- What reads ---


def _read_weights(path):
    held = weights.open_weights(path)
    for name in held:
        held[name]


def _read_pairs(path):
    examples = reading.read_examples(path, tasks.TASKS["lcqmc_pair"])
    vocab = os.path.join(os.path.dirname(path), "good_vocab.txt")
    tokenizer = tokenization.FullTokenizer(vocab)
    encoding.encode_examples(examples, tasks.TASKS["lcqmc_pair"], tokenizer, 16)


def _read_vocab(path):
    tokenizer = pretrained.read_tokenizer(path, TokenizerSettings())
    model = pretrained.Model(modeling_theseus.BertConfig(vocab_size=20), path)
    pretrained.vocab_warnings(model)
    tokenizer.tokenize("我们ab你好")


def _read_cache(path):
    # A cache that cannot be read is silently made again.
    cache.through_cache(os.path.dirname(path), ["ids"], lambda: [{"ids": np.zeros(2, np.int32)}])


def _safetensors(arrays):
    header, data = {}, b""
    for name, array in arrays.items():
        offsets = [len(data), len(data) + array.nbytes]
        header[name] = {"dtype": "F32", "shape": list(array.shape), "data_offsets": offsets}
        data += array.tobytes()
    text = json.dumps(header).encode("utf-8")
    return struct.pack("<Q", len(text)) + text + data


def _json(value):
    return json.dumps(value).encode("utf-8")


_FILES = {"model.ckpt-4.index": {"bytes": 3, "sha256": "0" * 64}}
_CHECKPOINT = {"checkpoint": "last/model.ckpt-4", "global_step": 4, "files": _FILES}


def readers():
    """Returns a Reader for every kind of file that comes from outside or is read back."""
    vocab = dict((token, number) for number, token in enumerate(_TOKENS))
    state = {
        "last": _CHECKPOINT,
        "best": dict(_CHECKPOINT, checkpoint="best/model.ckpt-4"),
        "previous": [dict(_CHECKPOINT, checkpoint="last/model.ckpt-2", global_step=2)],
        "evaluations": [{"global_step": 4, "accuracy": 0.5, "loss": 0.7}],
        "is_finished": True,
        "train_seconds": 1.5,
    }
    export = {
        "format": "bert",
        "run": "0" * 64,
        "labels": ["0", "1"],
        "task_name": "lcqmc_pair",
        "num_texts": 2,
        "max_seq_length": 16,
        "do_lower_case": True,
        "files": {"vocab.txt": {"bytes": 3, "sha256": "0" * 64}},
    }
    array = {"dtype": "int32", "shape": [2], "crc32": 1}
    kernel = np.linspace(0, 1, 4, dtype=np.float32).reshape(2, 2)
    config = modeling_theseus.BertConfig(vocab_size=20).to_dict()
    index = {"weight_map": {"bert.pooler.dense.weight": "model.safetensors"}}
    tokenizer = {"version": "1.0", "model": {"type": "WordPiece", "vocab": vocab}}
    tokenizer["normalizer"] = {"type": "BertNormalizer", "lowercase": True}
    return [
        Reader("pairs.txt", "\n".join(_LABELS).encode("utf-8"), _read_pairs),
        Reader("vocab.txt", "\n".join(_TOKENS).encode("utf-8"), _read_vocab),
        Reader("tokenizer.json", _json(tokenizer), _read_vocab),
        Reader("bert_config.json", _json(config), modeling_theseus.BertConfig.from_json_file),
        Reader("config.json", _json(dict(config, model_type="bert")), _read_config),
        Reader("tokenizer_config.json", _json(_TOKENIZER_CONFIG), _read_tokenizer),
        Reader("added_tokens.json", _json({"b": 40}), _read_tokenizer),
        Reader("special_tokens_map.json", _json({"extra_special_tokens": ["c"]}), _read_tokenizer),
        Reader("model.safetensors.index.json", _json(index), hugging_face.weight_files),
        Reader(
            "model.safetensors", _safetensors({"bert.pooler.dense.weight": kernel}), _read_weights
        ),
        Reader("state.json", _json(state), lambda path: _stage(path).state()),
        Reader("run.json", _json(_RUN), lambda path: _stage(path).run_config()),
        Reader("export.json", _json(export), _read_export),
        Reader("arrays.json", _json({"ids": array}), _read_cache),
        Reader("anything.json", _json({"a": [1, {"b": None}]}), _read_record),
    ]


_TOKENIZER_CONFIG = {
    "do_lower_case": True,
    "strip_accents": None,
    "tokenizer_class": "BertTokenizer",
    "additional_special_tokens": ["a", {"content": "b"}],
    "added_tokens_decoder": {"30": {"content": "c", "single_word": True, "special": False}},
}
_RUN = {"stage": "replacing", "task_name": "lcqmc_pair", "max_seq_length": 16}


def _stage(path):
    run = os.path.join(os.path.dirname(path), "run.json")
    if not os.path.exists(run):
        with open(run, "wb") as writer:
            writer.write(_json(_RUN))
    return StageFolder(os.path.dirname(path))


def _read_config(path):
    pretrained.read_config(os.path.dirname(path))


def _read_tokenizer(path):
    pretrained.find_tokenizer(os.path.dirname(path))


def _read_export(path):
    folder = os.path.dirname(path)
    read_back.listed_files(folder, read_back.read_description(folder))


def _read_record(path):
    records.read(path, records.mapping(records.anything))


def checkpoint_readers(folder):
    """Writes a TF1 checkpoint into a folder; returns the Readers of its files."""
    with tf.Graph().as_default(), tf.Session() as session:
        tf.get_variable("output_bias", [3], initializer=tf.ones_initializer())
        session.run(tf.global_variables_initializer())
        prefix = tf.train.Saver().save(session, os.path.join(folder, "ckpt"), write_state=False)
    found = []
    for path in weights.checkpoint_files(prefix):
        with open(path, "rb") as reader:
            content = reader.read()
        found.append(Reader(os.path.basename(path), content, _read_checkpoint))
    return found


def _read_checkpoint(path):
    _read_weights(re.sub(r"\.(index|data-.*)$", "", path))


# --- Trying ---


def refusal(reader, folder, content):
    """Reads altered content; returns the line that refuses it, or None if it is accepted.

    Raises:
      AssertionError: it took too long, or the message is not one line.
    """
    for name, good in (("good_vocab.txt", _TOKENS), ("vocab.txt", _TOKENS)):
        if name != reader.name:
            with open(os.path.join(folder, name), "w", encoding="utf-8") as writer:
                writer.write("\n".join(good) + "\n")
    path = os.path.join(folder, reader.name)
    with open(path, "wb") as file:
        file.write(content)
    began, line = time.monotonic(), None
    try:
        reader.read(path)
    except UserError as error:
        line = str(error)
        assert line and "\n" not in line.strip() and len(line) < LONGEST_LINE, line
    assert time.monotonic() - began < LONGEST_S, "it took too long"
    return line


def fuzz(reader, folder, count, is_fixed=True):
    """Tries altered files on a Reader; raises the error of the first that is not handled.

    Args:
      folder: path of a folder that is empty except for the other file of a checkpoint.
      count: int, the number of files.
      is_fixed: bool, whether they are the same each time.

    Returns:
      (accepted, refused): int, the numbers of files.
    """
    outcomes = collections.Counter()

    @settings(
        max_examples=count,
        derandomize=is_fixed,
        database=None,
        report_multiple_bugs=False,
        deadline=None,
        phases=[Phase.generate, Phase.shrink],
        suppress_health_check=list(HealthCheck),
    )
    @given(altered(reader.content, reader.name.endswith(".json")))
    def try_one(content):
        outcomes[refusal(reader, folder, content) is None] += 1

    assert refusal(reader, folder, reader.content) is None or reader.name in _ALONE
    try:
        try_one()
    finally:
        with open(os.path.join(folder, reader.name), "wb") as file:
            file.write(reader.content)
    return outcomes[True], outcomes[False]


# These name other files that do not exist, so that even the good file is refused in a line.
_ALONE = ("model.safetensors.index.json", "export.json", "run.json", "state.json")
