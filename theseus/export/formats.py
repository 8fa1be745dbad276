"""The export formats, each one entry of a table; without TensorFlow.

The code that writes and reads a format is imported when it is used, and so are its packages. A
format whose name ends in `_int8` is what `--quantize=int8` makes of the format without that ending.
"""

from __future__ import annotations

import importlib
from typing import Any, NamedTuple

_BERT_USE = """Any TF1 BERT code can load this folder as a pretrained BERT; the classifier's weights
are `output_weights` and `output_bias`. In this program:"""

_HUGGING_FACE_USE = """```python
from transformers import pipeline

classify = pipeline("text-classification", model="this_folder")
print(classify(%(hub)s, truncation=True, top_k=None))
```

In this program:"""

_SAVED_MODEL_USE = """```python
import tensorflow as tf

signature = tf.saved_model.load("this_folder").signatures["serving_default"]
# int32 [B, T] input_ids, input_mask, segment_ids, as BERT's tokenizer gives them
```

From texts, in this program:"""

_ONNX_USE = """With onnxruntime and tokenizers (`pip install onnxruntime tokenizers`):

```python
import numpy as np
import onnxruntime
from tokenizers import Tokenizer

tokenizer = Tokenizer.from_file("this_folder/tokenizer.json")
tokenizer.enable_truncation(%(length)d)
tokenizer.enable_padding()
session = onnxruntime.InferenceSession("this_folder/model.onnx")
texts = tokenizer.encode_batch([%(texts)s])
arrays = {
    "input_ids": np.int64([text.ids for text in texts]),
    "attention_mask": np.int64([text.attention_mask for text in texts]),
    "token_type_ids": np.int64([text.type_ids for text in texts]),
}
print(session.run(["%(output)s"], arrays)[0])
```

With optimum:

```python
from optimum.onnxruntime import ORTModelForSequenceClassification
from transformers import AutoTokenizer, pipeline

model = ORTModelForSequenceClassification.from_pretrained("this_folder")
tokenizer = AutoTokenizer.from_pretrained("this_folder")
classify = pipeline("text-classification", model=model, tokenizer=tokenizer)
print(classify(%(hub)s, truncation=True, top_k=None))
```

In this program:"""


class Format(NamedTuple):
    """How a format is written, read and described.

    Attributes:
      write: function (PlainClassifier, path of a new folder), as module:name.
      read: function (folder, open_session) that returns the model, see read_back, as module:name.
      check: the same, for the check of a new export; "": `read`.
      packages: the packages that it needs, from pyproject.toml's extra `export`.
      files: patterns of the names of its own files.
      use: the card's example of its use, in Markdown; card._use fills it in.
      library: the hub's name of the library that loads it; "" for none.
    """

    write: Any
    read: Any
    use: str
    check: Any = ""
    packages: tuple[str, ...] = ()
    files: tuple[str, ...] = ()
    library: str = ""


_HERE = "theseus.export."
_ONNX = Format(
    _HERE + "writers:write_onnx",
    _HERE + "read_back:read_onnx",
    _ONNX_USE,
    packages=("tf2onnx", "onnx", "onnxruntime", "tokenizers"),
    files=("model.*", "tokenizer.json", "special_tokens_map.json"),
    library="onnx",
)
FORMATS = {
    "bert": Format(
        _HERE + "writers:write_bert",
        _HERE + "read_back:read_plain",
        _BERT_USE,
        files=("bert_model.ckpt*", ".tmp*", "part-*"),
    ),
    "huggingface": Format(
        _HERE + "writers:write_hugging_face",
        _HERE + "read_back:read_plain",
        _HUGGING_FACE_USE,
        check=_HERE + "writers:read_hugging_face",
        packages=("safetensors", "tokenizers"),
        files=("model.*", "tokenizer.json", "special_tokens_map.json"),
        library="transformers",
    ),
    "saved_model": Format(
        _HERE + "writers:write_saved_model",
        _HERE + "read_back:read_saved_model",
        _SAVED_MODEL_USE,
        files=("saved_model.pb*", "fingerprint.pb", "variables*", ".tmp*", "part-*"),
    ),
    "onnx": _ONNX,
    "onnx_int8": _ONNX._replace(write=_HERE + "writers:write_onnx_int8"),
}
"""Each Format by its name, which is also the name of its folder in export/."""

EXPORT_FORMATS = tuple(name for name in FORMATS if not name.endswith("_int8"))
"""The values of --export_format."""


def function(named: Any) -> Any:
    """Returns the function that a Format gives as module:name, or as the function itself."""
    if callable(named):
        return named
    module, _, name = named.partition(":")
    return getattr(importlib.import_module(module), name)
