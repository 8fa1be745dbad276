"""A pretrained BERT's folder: as Google ships it, as Hugging Face saves it, or from its hub.

Google        bert_config.json, vocab.txt, bert_model.ckpt*
Hugging Face  config.json, vocab.txt or tokenizer.json, model.safetensors or pytorch_model.bin
"""

import collections
import glob
import io
import json
import os
import re

import tokenization
from modeling_theseus import BertConfig
from theseus.checkpoints import hugging_face_weights
from theseus.errors import UserError, first_line

Model = collections.namedtuple("Model", "config vocab_file")
"""A BERT's shape and vocabulary: a modeling_theseus.BertConfig, and the path of vocab.txt,
or of a tokenizer.json in its place."""

_HUB_ID = re.compile(r"^\w[\w.-]*/\w[\w.-]*$")
_SMALL_FILES = ["config.json", "vocab.txt", "tokenizer.json", "tokenizer_config.json"]
_SAFETENSORS = ["model.safetensors", "model-*.safetensors", "model.safetensors.index.json"]
_TORCH = ["pytorch_model.bin", "pytorch_model-*.bin", "pytorch_model.bin.index.json"]


def local_folder(name, needs_weights=True, flag="bert_pretrained_model"):
    """Returns the folder that --bert_pretrained_model means.

    Args:
      name: a folder; or, where no such path exists and it reads `owner/model`, a model of
        the Hugging Face hub, which is downloaded unless the hub's cache has it.
      needs_weights: bool; False: the config and the vocabulary are enough.
      flag: str, the flag that a message should name.

    Raises:
      UserError: it is neither, or the download failed.
    """
    if os.path.isdir(name):
        return name
    if os.path.exists(name) or not _HUB_ID.match(name):
        raise UserError("--%s: %s is no folder" % (flag, name))
    folder = _download(name, _SMALL_FILES, flag)
    read_config(folder)  # Another architecture is refused before its weights come.
    for patterns in (_SAFETENSORS, _TORCH) if needs_weights else ():
        folder = _download(name, patterns, flag)
        if hugging_face_weights.find_weights(folder):
            break
    return folder


def _download(hub_id, patterns, flag):
    """Fetches the files of a hub's model that match, and returns their folder."""
    absent = "--%s: there is no folder %s, and the hub" % (flag, hub_id)
    hub = hugging_face_weights.import_optional("huggingface_hub", absent)
    try:
        return hub.snapshot_download(hub_id, allow_patterns=patterns)
    except Exception as error:  # What it raises differs between versions, and httpx's come through.
        raise UserError(
            "%s gave none: %s; by hand: put config.json, vocab.txt, and model.safetensors or "
            "pytorch_model.bin, of https://huggingface.co/%s into a folder, and give that folder"
            % (absent, first_line(error) or type(error).__name__, hub_id)
        )


def read_config(folder):
    """Reads the BertConfig of a pretrained BERT's or a stage's folder.

    Raises:
      UserError: there is none, or it is damaged, or another architecture's.
    """
    names = ["bert_config.json", "config.json"]
    if not glob.glob(os.path.join(glob.escape(folder), "bert_model.ckpt*.index")):
        names.reverse()  # A Hugging Face folder; some hold a copy of it under Google's name.
    path = _first_existing(folder, names)
    if path is None:
        raise UserError("%s: holds no bert_config.json, nor Hugging Face's config.json" % folder)
    return BertConfig.from_json_file(path)


def find_vocab(folder):
    """Returns the path of a folder's vocab.txt; of its tokenizer.json where it has none.

    Raises:
      UserError: it has neither.
    """
    path = _first_existing(folder, ["vocab.txt", "tokenizer.json"])
    if path is None:
        raise UserError("%s: holds no vocab.txt, nor a tokenizer.json in its place" % folder)
    return path


def case_contradiction(folder, do_lower_case):
    """Returns a warning, str, where the folder's tokenizer lowers the case otherwise; or None."""
    path = os.path.join(folder, "tokenizer_config.json")
    try:
        with io.open(path, encoding="utf-8") as reader:
            held = json.load(reader).get("do_lower_case")
    except (OSError, ValueError, AttributeError):
        return None  # Nothing else is read from it.
    if not isinstance(held, bool) or held == do_lower_case:
        return None
    return "%s says do_lower_case = %s, this command has --do_lower_case=%s" % (
        path,
        str(held).lower(),
        str(do_lower_case).lower(),
    )


def _first_existing(folder, names):
    paths = [os.path.join(folder, name) for name in names]
    return next(filter(os.path.exists, paths), None)


def read_model(folder, max_seq_length):
    """Reads the Model that a pretrained BERT's or a stage's folder holds."""
    if not os.path.isdir(folder):
        raise UserError("--bert_pretrained_model: %s is no folder" % folder)
    config = read_config(folder)
    if max_seq_length > config.max_position_embeddings:
        raise UserError(
            "--max_seq_length=%d: %s has %d positions; give at most that"
            % (max_seq_length, folder, config.max_position_embeddings)
        )
    return Model(config, find_vocab(folder))


def read_tokenizer(vocab_file, do_lower_case):
    """Returns the FullTokenizer of a vocabulary; UserError where it is none of a BERT."""
    tokenizer = tokenization.FullTokenizer(vocab_file, do_lower_case)
    absent = [token for token in ("[CLS]", "[SEP]", "[UNK]") if token not in tokenizer.vocab]
    if absent:
        raise UserError("%s: holds no %s" % (vocab_file, ", ".join(absent)))
    return tokenizer


def make_tokenizer(model, do_lower_case):
    """Returns the FullTokenizer of a Model; UserError where the vocabulary does not fit."""
    tokenizer = read_tokenizer(model.vocab_file, do_lower_case)
    if max(tokenizer.inv_vocab) >= model.config.vocab_size:
        raise UserError(
            "%s: holds %d tokens, the BERT's config says %d"
            % (model.vocab_file, max(tokenizer.inv_vocab) + 1, model.config.vocab_size)
        )
    return tokenizer
