"""The weights of a Hugging Face folder, under the names and in the layout of a TF1 BERT.

Hugging Face keeps a dense layer's kernel as [out, in], TF1 BERT as [in, out]; tables of
embeddings and the classifier's weights are the same in both.
"""

import collections.abc
import importlib
import json
import os
import pickle
import re
import struct

import numpy as np

from theseus import records
from theseus.errors import UserError, first_line

# A folder's weights are the first of these that it holds; an index names its shards.
SAFETENSORS_FILES = ("model.safetensors", "model.safetensors.index.json")
TORCH_FILES = ("pytorch_model.bin", "pytorch_model.bin.index.json")
_INDEX = ".index.json"
_SHARD = records.text(r"[^/\0]*[^/\0.][^/\0]*", "the name of a file in the same folder")
_SHARDS = records.table({"weight_map": records.mapping(_SHARD)}, others=True)

# What is named otherwise than by `_ENDINGS`: TF1 BERT's name to Hugging Face's.
_HEADS = {
    "output_weights": "classifier.weight",
    "output_bias": "classifier.bias",
    "cls/predictions/output_bias": "cls.predictions.bias",
    "cls/seq_relationship/output_weights": "cls.seq_relationship.weight",
    "cls/seq_relationship/output_bias": "cls.seq_relationship.bias",
}
_HEADS_BACK = {theirs: ours for ours, theirs in _HEADS.items()}
_ENDINGS = {"kernel": "weight", "gamma": "weight", "beta": "bias", "bias": "bias"}
# A bare BertModel is saved without the prefix `bert.`.
_BARE = ("embeddings.", "encoder.", "pooler.")
# Saved by some versions; constants, not weights.
_BUFFERS = ("embeddings.position_ids", "embeddings.token_type_ids")

_GIT_LFS = b"version https://git-lfs"


# --- Names ---


def to_hugging_face(name):
    """Returns what Hugging Face calls a variable of TF1 BERT.

    Source: transformers, convert_bert_original_tf_checkpoint_to_pytorch.py.

    Args:
      name: str, such as bert/encoder/layer_0/output/dense/kernel or output_weights; a
        successor's layers are to be renamed to layer_0, layer_1 ... before.

    Returns:
      (name, is_transposed): str, such as bert.encoder.layer.0.output.dense.weight, and
      whether the array there is the transpose.
    """
    if name in _HEADS:
        return _HEADS[name], False
    stem, _, last = name.rpartition("/")
    path = "%s/%s" % (stem, _ENDINGS[last]) if last in _ENDINGS else name + "/weight"
    return re.sub(r"/layer_(\d+)/", r"/layer/\1/", path).replace("/", "."), last == "kernel"


def from_hugging_face(name):
    """Returns what TF1 BERT calls a parameter of Hugging Face's; `to_hugging_face`'s inverse.

    Old names, LayerNorm.gamma and LayerNorm.beta, and names without the prefix `bert.`
    are known too. A head that TF1 BERT does not have keeps its words.

    Args:
      name: str, such as bert.encoder.layer.0.output.dense.weight.

    Returns:
      (name, is_transposed): str, and whether the array there is the transpose.
    """
    if name in _HEADS_BACK:
        return _HEADS_BACK[name], False
    stem, _, last = name.rpartition(".")
    if stem.endswith("LayerNorm"):
        last = {"weight": "gamma", "bias": "beta"}.get(last, last)
    elif last == "weight":
        last = "" if stem.endswith("_embeddings") else "kernel"
    prefix = "bert." if name.startswith(_BARE) else ""
    path = ".".join(filter(None, [prefix + stem, last]))
    return re.sub(r"\.layer\.(\d+)\.", r".layer_\1.", path).replace(".", "/"), last == "kernel"


# --- Files ---


def find_weights(folder):
    """Returns the path of a folder's weights or of their index; None where it has none."""
    paths = [os.path.join(folder, name) for name in SAFETENSORS_FILES + TORCH_FILES]
    return next(filter(os.path.exists, paths), None)


def is_weights(path):
    """Returns whether `path` is named like what `find_weights` finds."""
    return os.path.basename(path) in SAFETENSORS_FILES + TORCH_FILES


def weight_files(path):
    """Returns the paths of the files that hold the weights, in a fixed order.

    Args:
      path: as from `find_weights`.

    Raises:
      UserError: an index is damaged.
    """
    if not path.endswith(_INDEX):
        return [path]
    shards = sorted(set(records.read(path, _SHARDS)["weight_map"].values()))
    return [os.path.join(os.path.dirname(path), shard) for shard in shards]


class HuggingFaceWeights(collections.abc.Mapping):
    """The weights of a Hugging Face folder, under TF1 BERT's names and in its layout.

    A counterpart of weights.CheckpointWeights. Of safetensors each array is read when it
    is asked for; pytorch_model.bin is read as a whole.
    """

    def __init__(self, path):
        """Opens `path`, as from `find_weights`; raises UserError where that fails."""
        self.prefix = path
        self.shapes = {}
        self._places = {}
        for file_path in weight_files(path):
            file = _open(file_path)
            for theirs, shape in file.shapes.items():
                if not theirs.endswith(_BUFFERS):
                    ours, is_transposed = from_hugging_face(theirs)
                    self.shapes[ours] = list(shape)[::-1] if is_transposed else list(shape)
                    self._places[ours] = file, theirs, is_transposed

    def __getitem__(self, name):
        """Returns a float32 array."""
        file, theirs, is_transposed = self._places[name]
        array = file.read(theirs)
        return array.T if is_transposed else array

    def __iter__(self):
        return iter(sorted(self.shapes))

    def __len__(self):
        return len(self.shapes)


def _open(path):
    """Opens a file of weights; UserError where that fails."""
    try:
        with open(path, "rb") as reader:
            is_pointer = reader.read(len(_GIT_LFS)) == _GIT_LFS
    except OSError as error:
        raise UserError("%s: cannot be read: %s" % (path, error.strerror))
    if is_pointer:
        raise UserError("%s: is git-lfs's pointer to a file; fetch that by git lfs pull" % path)
    return _SafetensorsFile(path) if path.endswith(".safetensors") else _TorchFile(path)


class _SafetensorsFile(object):
    """A .safetensors file; `shapes` maps each name to its shape."""

    def __init__(self, path):
        safetensors = import_optional("safetensors", path)
        try:
            self._file = safetensors.safe_open(path, framework="numpy")
        except (safetensors.SafetensorError, OSError) as error:
            raise UserError("%s: cannot be read as safetensors: %s" % (path, first_line(error)))
        self._path = path
        self._slices = {name: self._file.get_slice(name) for name in self._file.keys()}
        self.shapes = {name: piece.get_shape() for name, piece in self._slices.items()}

    def read(self, name):
        """Returns a float32 array."""
        if self._slices[name].get_dtype() == "BF16":
            return self._read_bfloat16(name).reshape(self.shapes[name])
        return np.asarray(self._file.get_tensor(name), np.float32)

    def _read_bfloat16(self, name):
        """Widens bfloat16, which numpy lacks: it is the upper half of a float32's bits.

        Source: the safetensors format: the header's length, the header as JSON, the data.
        """
        with open(self._path, "rb") as reader:
            header_size = struct.unpack("<Q", reader.read(8))[0]
            begin, end = json.loads(reader.read(header_size).decode("utf-8"))[name]["data_offsets"]
            reader.seek(8 + header_size + begin)
            halves = np.frombuffer(reader.read(end - begin), "<u2")
        return (halves.astype(np.uint32) << 16).view(np.float32)


class _TorchFile(object):
    """A pytorch_model.bin; `shapes` maps each name to its shape."""

    def __init__(self, path):
        hint = "pip install torch, or save the model as model.safetensors"
        torch = import_optional("torch", path, hint)
        try:
            self._tensors = torch.load(path, map_location="cpu", weights_only=True)
            self.shapes = {name: list(tensor.shape) for name, tensor in self._tensors.items()}
        except (
            pickle.UnpicklingError,
            AttributeError,
            EOFError,
            KeyError,
            OSError,
            RuntimeError,
            ValueError,
        ) as error:
            raise UserError("%s: cannot be read as weights: %s" % (path, first_line(error)))

    def read(self, name):
        """Returns a float32 array."""
        return self._tensors[name].float().numpy()


def import_optional(package, purpose, hint="pip install -r requirements-hub.txt"):
    """Imports a package that only some uses need.

    Args:
      package: its name.
      purpose: str, what needs it, for the message.
      hint: str, how it is installed, for the message.

    Raises:
      UserError: it is not installed.
    """
    try:
        return importlib.import_module(package)
    except ImportError:
        raise UserError("%s: needs the package %s; %s" % (purpose, package, hint))
