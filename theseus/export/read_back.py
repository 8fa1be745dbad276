"""Reads an export back: its export.json, and its model with the format's own runtime.

bert, huggingface   this program's graph of a plain BERT
saved_model         tf.saved_model.loader
onnx, onnx_int8     onnxruntime

Here a model is a function from a batch's int32 [B, T] arrays, by name, to logits, float32 [B, L].
Several threads may call it at the same time.
"""

import collections
import os

import numpy as np

from theseus import machine, records
from theseus.checkpoints import hugging_face, pretrained
from theseus.checkpoints import weights as weights_lib
from theseus.errors import UserError, first_line
from theseus.export import formats
from theseus.inputs import tasks, tokenizer_settings
from theseus.quiet import import_tensorflow
from theseus.runs import files

DESCRIPTION = "export.json"
CARD = "README.md"
"""The only file of an export that the user may edit."""

_NAME = r"(?!\.\.?(/|\Z))[^/\0]+"
_INSIDE = records.text("%s(/%s)*" % (_NAME, _NAME), "a path inside the export")
_EXPORT = records.table(
    {
        "format": records.choice(formats.FORMATS),
        "task_name": records.choice(tasks.TASKS),
        "max_seq_length": records.whole(3, 1 << 20),
        "do_lower_case": records.boolean,
        "labels": records.listed(records.text()),
    },
    {
        "num_texts": records.nullable(records.whole(1, 2)),
        "run": records.text(),
        "tokenizer": tokenizer_settings.RECORD,
        "files": records.mapping(files.SUMS, _INSIDE),
    },
    others=True,
)
"""The Kind of export.json."""

Export = collections.namedtuple("Export", "task max_seq_length tokenizer vocab_file run")
"""An export that is ready to be used.

Fields:
  task: the tasks.Task that it was trained on.
  max_seq_length: int.
  tokenizer: a TokenizerSettings.
  vocab_file: a path.
  run: the model, a function as described in the module's docstring.
"""


def is_export(path):
    """Returns whether a folder has an export.json."""
    return os.path.exists(os.path.join(path, DESCRIPTION))


def read_description(path):
    """Returns the content of an export's export.json, a dict; UserError if it cannot be read."""
    return records.read(os.path.join(path, DESCRIPTION), _EXPORT)


def all_files(path):
    """Returns the paths, relative to a folder, of all files in it and its subfolders."""
    found = []
    for folder, folders, names in os.walk(path):
        links = [name for name in folders if os.path.islink(os.path.join(folder, name))]
        found += [os.path.relpath(os.path.join(folder, name), path) for name in names + links]
    return found


def list_files(path):
    """Returns the size and the SHA-256 of each file of a new export by its name, as JSON."""
    paths = {name: os.path.join(path, name) for name in sorted(all_files(path))}
    return {name: files.sums(file) for name, file in paths.items()}


def listed_files(path, recorded):
    """Returns the record of `list_files`; UserError if there is none, or it was altered."""
    if not recorded.get("files"):
        raise UserError("%s: does not list its files" % os.path.join(path, DESCRIPTION))
    return recorded["files"]


def check_altered(path, recorded):
    """Raises UserError if a file of an export is missing, or differs from what was written.

    Exports of versions before 0.8 do not list their files.
    """
    if "files" not in recorded:
        return
    for name, entry in listed_files(path, recorded).items():
        file = os.path.join(path, name)
        if name != CARD and files.hash_files([file]) != entry["sha256"]:
            raise UserError(
                "%s: is damaged: it differs from what was exported; export again" % file
            )


def load(path, open_session):
    """Loads the Export of a folder.

    Args:
      path: the folder.
      open_session: function that returns a tf.Session whose graph is the default one; it is called
        if the format's runtime is TensorFlow.

    Raises:
      UserError: a file is missing or damaged, or a package is not installed.
    """
    recorded = read_description(path)
    task, form = tasks.recorded(recorded), formats.FORMATS[recorded["format"]]
    check_altered(path, recorded)
    vocab_file = pretrained.find_vocab(path)
    run = formats.function(form.read)(path, open_session)
    shortest = {name: np.zeros([1, 1], np.int32) for name in HUGGING_FACE_NAMES}
    num_outputs = run(shortest).shape[1]
    if num_outputs != task.num_outputs:
        raise UserError(
            "%s: its model has %d outputs, but its %s needs %d; export again"
            % (path, num_outputs, DESCRIPTION, task.num_outputs)
        )
    settings = tokenizer_settings.recorded(recorded)
    return Export(task, recorded["max_seq_length"], settings, vocab_file, run)


# --- A plain BERT ---


def read_plain(path, open_session):
    """Reads the weights as --bert_pretrained_model does, but none may be missing."""
    session = open_session()
    from theseus.inference import evaluation

    weights = weights_lib.open_weights(weights_lib.find_checkpoint(path))
    num_outputs = weights.shapes.get("output_bias", [1])[0]
    graph = evaluation.build_graph(pretrained.read_config(path), num_outputs)
    weights_lib.load_all(session, graph.variables, weights)
    return evaluation.runner(session, graph)


# --- Other runtimes ---

_SMALL_MODEL = 64 << 20  # Bytes.

HUGGING_FACE_NAMES = collections.OrderedDict(
    [
        ("input_ids", "input_ids"),
        ("input_mask", "attention_mask"),
        ("segment_ids", "token_type_ids"),
    ]
)
"""The names of a batch's arrays in transformers' tokenizers, by their names here."""


def as_hugging_face(arrays):
    """Returns a batch's arrays with the dtype (int64) and names of transformers' tokenizers."""
    return {HUGGING_FACE_NAMES[name]: array.astype(np.int64) for name, array in arrays.items()}


def read_saved_model(path, open_session):
    session, tf = open_session(), import_tensorflow()
    try:
        with weights_lib.plain_path(os.path.join(path, "saved_model.pb")) as plain:
            folder, tags = os.path.dirname(plain), [tf.saved_model.SERVING]
            loaded = tf.saved_model.loader.load(session, tags, folder)
        signature = loaded.signature_def[tf.saved_model.DEFAULT_SERVING_SIGNATURE_DEF_KEY]
        logits = signature.outputs["logits"].name
        inputs = {name: signature.inputs[name].name for name in HUGGING_FACE_NAMES}
    except (OSError, RuntimeError, ValueError, KeyError, tf.errors.OpError) as error:
        raise UserError("%s: cannot be read as a SavedModel: %s" % (path, first_line(error)))
    return lambda arrays: session.run(logits, {inputs[name]: arrays[name] for name in inputs})


def read_onnx(path, _):
    path = os.path.join(path, "model.onnx")
    onnxruntime = hugging_face.import_optional("onnxruntime", path)
    options = onnxruntime.SessionOptions()
    if os.path.exists(path) and os.path.getsize(path) < _SMALL_MODEL:
        # For a small model several threads gain little, and if they spin while they wait they lose
        # twice as much on a machine with other work: docs/performance.md.
        options.intra_op_num_threads = 1
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    elif machine.is_limited():  # By itself the runtime takes a thread for each processor it sees.
        options.intra_op_num_threads = machine.num_processors()
    try:
        session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # The runtime's exceptions have no common base class of their own.
        raise UserError("%s: cannot be read as ONNX: %s" % (path, first_line(error)))
    names = [tensor.name for tensor in session.get_inputs()]
    if sorted(names) != sorted(HUGGING_FACE_NAMES.values()):
        raise UserError(
            "%s: expected the inputs %s, found %s; export again"
            % (path, ", ".join(HUGGING_FACE_NAMES.values()), ", ".join(names))
        )
    return lambda arrays: session.run(["logits"], as_hugging_face(arrays))[0]
