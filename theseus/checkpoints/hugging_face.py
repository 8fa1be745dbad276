"""Reads the weights of a Hugging Face folder with the names and the layout of a TF1 BERT.

Hugging Face stores a dense layer's kernel as [out, in], TF1 BERT as [in, out]. Embedding tables
and the classifier's weights are the same in both.
"""

import collections
import collections.abc
import importlib
import json
import os
import pickle
import re
import struct

import numpy as np

from theseus import records
from theseus.checkpoints import weight_checks
from theseus.errors import UserError, first_line

# The first of these files that a folder has holds its weights; an index lists the shards.
SAFETENSORS_FILES = ("model.safetensors", "model.safetensors.index.json")
TORCH_FILES = ("pytorch_model.bin", "pytorch_model.bin.index.json")
_INDEX = ".index.json"
_SHARD = records.text(r"[^/\0]*[^/\0.][^/\0]*", "the name of a file in the same folder")
_SHARDS = records.table({"weight_map": records.mapping(_SHARD)}, others=True)

# The names that do not follow `_ENDINGS`, from TF1 BERT's to Hugging Face's.
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
# Finds the prefix, such as `module.`, that all of the BERT's names have in a file.
_OF_BERT = re.compile(r"(|.*?\.)(bert\.)?embeddings\.word_embeddings\.weight$")
# Constants that some versions save beside the weights.
_BUFFERS = ("embeddings.position_ids", "embeddings.token_type_ids")

# The dtypes of safetensors that a weight may have, by numpy's names.
_SAFETENSORS_DTYPES = {"F16": "float16", "BF16": "bfloat16", "F32": "float32", "F64": "float64"}

_GIT_LFS = b"version https://git-lfs"


# --- Names ---


def to_hugging_face(name):
    """Returns Hugging Face's name of a variable of TF1 BERT.

    Source: transformers, convert_bert_original_tf_checkpoint_to_pytorch.py.

    Args:
      name: str, such as bert/encoder/layer_0/output/dense/kernel or output_weights. A
        successor's layers must be renamed to layer_0, layer_1 ... first.

    Returns:
      (name, is_transposed): str, such as bert.encoder.layer.0.output.dense.weight, and
      whether Hugging Face stores the transposed array.
    """
    if name in _HEADS:
        return _HEADS[name], False
    stem, _, last = name.rpartition("/")
    path = "%s/%s" % (stem, _ENDINGS[last]) if last in _ENDINGS else name + "/weight"
    return re.sub(r"/layer_(\d+)/", r"/layer/\1/", path).replace("/", "."), last == "kernel"


def from_hugging_face(name):
    """Returns TF1 BERT's name of a Hugging Face parameter: the inverse of `to_hugging_face`.

    It also accepts the old names LayerNorm.gamma and LayerNorm.beta, and names without the
    prefix `bert.`. In the name of a head that TF1 BERT lacks, only the separators change.

    Args:
      name: str, such as bert.encoder.layer.0.output.dense.weight.

    Returns:
      (name, is_transposed): str, and whether Hugging Face stores the transposed array.
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
    """Returns the path of a folder's weights or of their index; None if it has neither."""
    paths = [os.path.join(folder, name) for name in SAFETENSORS_FILES + TORCH_FILES]
    return next(filter(os.path.exists, paths), None)


def is_weights(path):
    """Returns whether the path has a file name that `find_weights` looks for."""
    return os.path.basename(path) in SAFETENSORS_FILES + TORCH_FILES


def weight_files(path):
    """Returns the paths of the files that hold the weights, in a fixed order.

    Args:
      path: as from `find_weights`.

    Raises:
      UserError: an index is damaged.
    """
    return [file_path for file_path, _ in _shards(path)]


def _shards(path):
    """Returns an index's shards: a list of (path of the file, names of its arrays)."""
    if not path.endswith(_INDEX):
        return [(path, [])]
    names = collections.defaultdict(list)
    for weight, shard in records.read(path, _SHARDS)["weight_map"].items():
        names[shard].append(weight)
    return [(os.path.join(os.path.dirname(path), shard), names[shard]) for shard in sorted(names)]


class HuggingFaceWeights(weight_checks.Weights):
    """The weights of a Hugging Face folder, with TF1 BERT's names and layout.

    The counterpart of weights.CheckpointWeights. Arrays of safetensors are read one by one, when
    they are needed; pytorch_model.bin is read as a whole.
    """

    def __init__(self, path):
        """Opens `path`, as from `find_weights`; raises UserError if that fails."""
        shards = [(_open(file_path), promised) for file_path, promised in _shards(path)]
        names = [theirs for file, _ in shards for theirs in file.shapes]
        super(HuggingFaceWeights, self).__init__(path, names, _OF_BERT)
        self._places = {}
        for file, promised in shards:
            for theirs in sorted(file.shapes):
                if not theirs.endswith(_BUFFERS):
                    self._take(file, theirs)
            for theirs in promised:
                if theirs not in file.shapes:
                    lacks = "%s: holds no %s, although %s lists it"
                    raise UserError(lacks % (file.path, theirs, path))

    def _take(self, file, theirs):
        """Adds an array of a file; UserError if another array gets the same name."""
        ours, is_transposed = from_hugging_face(self.without_prefix(theirs))
        shape = list(file.shapes[theirs])[:: -1 if is_transposed else 1]
        first = self._places.get(ours, [file])[0]
        place = "%s, %s" % (first.path, file.path)
        self.add(ours, theirs, shape, file.dtypes[theirs], place)
        self._places[ours] = file, theirs, is_transposed

    def _read(self, name):
        file, theirs, is_transposed = self._places[name]
        array = file.read(theirs)
        return array.T if is_transposed else array


def _open(path):
    """Opens a file of weights; UserError if that fails."""
    try:
        with open(path, "rb") as reader:
            is_pointer = reader.read(len(_GIT_LFS)) == _GIT_LFS
    except OSError as error:
        raise UserError("%s: cannot be read: %s" % (path, error.strerror))
    if is_pointer:
        raise UserError(
            "%s: is a Git LFS pointer instead of the file; fetch the file with git lfs pull" % path
        )
    return _SafetensorsFile(path) if path.endswith(".safetensors") else _TorchFile(path)


class _SafetensorsFile(object):
    """A .safetensors file.

    Fields:
      path: str.
      shapes: dict from each name to its shape.
      dtypes: dict from each name to numpy's name of its dtype, or to the format's own name if it
        is not one of `_SAFETENSORS_DTYPES`.
    """

    def __init__(self, path):
        safetensors = import_optional("safetensors", path)
        try:
            self._file = safetensors.safe_open(path, framework="numpy")
        except (safetensors.SafetensorError, OSError) as error:
            raise UserError("%s: cannot be read as safetensors: %s" % (path, first_line(error)))
        self.path = path
        slices = {name: self._file.get_slice(name) for name in self._file.keys()}
        self.shapes = {name: piece.get_shape() for name, piece in slices.items()}
        dtypes = {name: str(piece.get_dtype()) for name, piece in slices.items()}
        self.dtypes = {name: _SAFETENSORS_DTYPES.get(d, d) for name, d in dtypes.items()}

    def read(self, name):
        """Returns an array; bfloat16 becomes float32."""
        if self.dtypes[name] == "bfloat16":
            return self._read_bfloat16(name).reshape(self.shapes[name])
        return self._file.get_tensor(name)

    def _read_bfloat16(self, name):
        """Returns bfloat16 as float32, whose upper half has the same bits; numpy lacks bfloat16.

        Source: the safetensors format: the header's length, the header as JSON, the data.
        """
        with open(self.path, "rb") as reader:
            header_size = struct.unpack("<Q", reader.read(8))[0]
            begin, end = json.loads(reader.read(header_size).decode("utf-8"))[name]["data_offsets"]
            reader.seek(8 + header_size + begin)
            halves = np.frombuffer(reader.read(end - begin), "<u2")
        return (halves.astype(np.uint32) << 16).view(np.float32)


class _TorchFile(object):
    """A pytorch_model.bin; its fields are those of a _SafetensorsFile."""

    def __init__(self, path):
        hint = "pip install torch, or save the model as model.safetensors"
        torch = import_optional("torch", path, hint)
        self.path = path
        try:
            self._tensors = torch.load(path, map_location="cpu", weights_only=True)
        except pickle.UnpicklingError:
            raise UserError(
                "%s: is damaged, or holds other Python objects than tensors, such as a whole "
                "model; save the weights alone, with save_pretrained or "
                "torch.save(model.state_dict(), path)" % path
            )
        except Exception as error:  # A damaged pickle can make torch raise anything.
            reason = first_line(error) or type(error).__name__
            raise UserError("%s: cannot be read as weights: %s" % (path, reason))
        self._check_other_content(torch)
        self.shapes = {name: list(tensor.shape) for name, tensor in self._tensors.items()}
        self.dtypes = {name: _torch_dtype(torch, t) for name, t in self._tensors.items()}

    def _check_other_content(self, torch):
        """Raises UserError if the file does not hold a mapping from names to tensors."""
        if not isinstance(self._tensors, collections.abc.Mapping):
            content = type(self._tensors).__name__
            raise UserError(
                "%s: expected a dict of tensors by name, found a %s" % (self.path, content)
            )
        for name, tensor in self._tensors.items():
            if not (isinstance(name, str) and isinstance(tensor, torch.Tensor)):
                raise UserError(
                    "%s: expected tensors by name, found a %s under %s"
                    % (self.path, type(tensor).__name__, ascii(name)[:40])
                )

    def read(self, name):
        """Returns an array; bfloat16 becomes float32."""
        tensor = self._tensors[name].detach()
        return (tensor.float() if self.dtypes[name] == "bfloat16" else tensor).numpy()


def _torch_dtype(torch, tensor):
    """Returns numpy's name of a tensor's dtype, such as "sparse ..." if it is not an array."""
    dtype = str(tensor.dtype).replace("torch.", "")
    is_array = tensor.layout == torch.strided and tensor.device.type == "cpu"
    return dtype if is_array else "%s %s on %s" % (tensor.layout, dtype, tensor.device.type)


def import_optional(package, purpose, hint=None):
    """Imports an optional package.

    Args:
      package: its name.
      purpose: str, what needs it, for the message.
      hint: str, the packages to install, for the message; None: the package itself.

    Raises:
      UserError: it is not installed.
    """
    try:
        return importlib.import_module(package)
    except ImportError:
        hint = hint or "pip install %s" % package
        raise UserError("%s: needs the package %s; %s" % (purpose, package, hint))
