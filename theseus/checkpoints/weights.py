"""Opens weights as a mapping from name to array, matches them with a graph, and loads them."""

import collections
import contextlib
import glob
import io
import os
import re
import tempfile

from theseus.checkpoints import hugging_face, weight_checks
from theseus.errors import UserError, first_line
from theseus.quiet import import_tensorflow

Match = collections.namedtuple("Match", "sources missing unused")
"""How weights and a graph match.

Fields:
  sources: OrderedDict from variable name to the name of the weight that fills it.
  missing: list of the names of variables that nothing fills.
  unused: list of the names of weights that fill nothing.
"""

# A BERT must have these; the pooler and the classifier may start at random.
_REQUIRED = ("bert/embeddings/", "bert/encoder/")
# The training's own state beside the weights, which the report does not mention.
_TRAINING_STATE = ("/adam_m", "/adam_v", "/average", "global_step")
# Finds the prefix, such as `model/`, that all of the BERT's names have in a checkpoint.
_OF_BERT = re.compile(r"(|.*?/)bert/embeddings/word_embeddings$")
# The keys of a config that give the number of rows of the embedding tables.
_ROWS = {
    "bert/embeddings/word_embeddings": "vocab_size",
    "bert/embeddings/position_embeddings": "max_position_embeddings",
    "bert/embeddings/token_type_embeddings": "type_vocab_size",
}


def _read_errors():
    """Returns the exceptions that TensorFlow raises for a damaged checkpoint."""
    return (import_tensorflow().errors.OpError, ValueError, RuntimeError, IndexError)


@contextlib.contextmanager
def plain_path(prefix):
    """Yields a path to a checkpoint without [, * and such, which TensorFlow takes for a pattern."""
    folder, name = os.path.split(prefix)
    if not re.search(r"[][*?{}\\]", folder):
        yield prefix
        return
    with tempfile.TemporaryDirectory() as elsewhere:
        link = os.path.join(elsewhere, "checkpoints")
        os.symlink(os.path.abspath(folder), link)
        yield os.path.join(link, name)


class CheckpointWeights(weight_checks.Weights):
    """The weights of a TF1 checkpoint, each read when it is needed."""

    def __init__(self, prefix):
        """Opens `prefix`; raises UserError if it is not a readable checkpoint."""
        self._open = contextlib.ExitStack()  # Keeps the plain path while weights are read.
        try:
            path = self._open.enter_context(plain_path(prefix))
            self._reader = import_tensorflow().train.load_checkpoint(path)
            shapes = self._reader.get_variable_to_shape_map()
            dtypes = self._reader.get_variable_to_dtype_map()
        except _read_errors() as error:
            raise UserError("%s: cannot be read as a checkpoint: %s" % (prefix, first_line(error)))
        super(CheckpointWeights, self).__init__(prefix, shapes, _OF_BERT)
        for there in sorted(shapes):
            name, dtype = self.without_prefix(there), dtypes[there].name
            self.add(name, there, shapes[there], dtype, prefix)

    def _read(self, name):
        try:
            return self._reader.get_tensor(self.originals[name])
        except _read_errors() as error:
            raise UserError("%s: cannot read %s: %s" % (self.prefix, name, first_line(error)))


def open_weights(prefix):
    """Opens a result of `find_checkpoint` as a mapping from TF1 BERT's names to arrays.

    Returns:
      CheckpointWeights or HuggingFaceWeights.

    Raises:
      UserError: it cannot be read, or one of its files is a link that leads out of its folder.
    """
    if hugging_face.is_weights(prefix):
        weight_checks.check_link(prefix)  # An index is checked before it is read.
    for path in checkpoint_files(prefix):
        weight_checks.check_link(path)
    if hugging_face.is_weights(prefix):
        return hugging_face.HuggingFaceWeights(prefix)
    return CheckpointWeights(prefix)


def find_checkpoint(path):
    """Returns the checkpoint that `path` means: a prefix, or a Hugging Face folder's file.

    Args:
      path: a prefix; or a folder that holds one checkpoint named bert_model.ckpt*, or else Hugging
        Face's weights, or else the checkpoint that its file `checkpoint` names.

    Raises:
      UserError: there is no such checkpoint.
    """
    if os.path.isfile(path + ".index"):
        return path
    indexes = sorted(glob.glob(os.path.join(glob.escape(path), "bert_model.ckpt*.index")))
    others = hugging_face.find_weights(path) or _latest(path)
    if not indexes and others:
        return others
    if len(indexes) != 1:
        refuse_answering(path)
        raise UserError(
            "%s: expected a checkpoint's prefix, or a folder with one bert_model.ckpt*.index, "
            "model.safetensors or pytorch_model.bin, found %s"
            % (path, "%d checkpoints" % len(indexes) if indexes else "none")
        )
    return indexes[0][: -len(".index")]


def refuse_answering(folder):
    """Raises UserError if a folder is an export without weights that can be trained further."""
    for name in ("model.onnx", "saved_model.pb"):
        if os.path.exists(os.path.join(folder, name)):
            raise UserError(
                "%s: is an export that only answers (%s); give the folder that it was exported "
                "from, or its export in the format huggingface" % (folder, name)
            )


def _latest(folder):
    """Returns the prefix that the file `checkpoint`, which TensorFlow writes, names in a folder."""
    try:
        with io.open(os.path.join(folder, "checkpoint"), encoding="utf-8") as reader:
            named = re.search(r'^model_checkpoint_path: "(.*)"$', reader.read(), re.MULTILINE)
    except (OSError, UnicodeDecodeError):
        return None
    prefix = named and os.path.join(folder, os.path.basename(named.group(1)))
    return prefix if prefix and os.path.exists(prefix + ".index") else None


def holds_checkpoint(folder):
    """Returns whether `find_checkpoint` finds one in a folder."""
    try:
        return bool(find_checkpoint(folder))
    except UserError:
        return False


def checkpoint_files(prefix):
    """Returns the paths of the files that a checkpoint consists of, in a fixed order.

    Args:
      prefix: as from `find_checkpoint`.
    """
    if hugging_face.is_weights(prefix):
        return hugging_face.weight_files(prefix)
    names = glob.escape(prefix)
    return sorted(glob.glob(names + ".index")) + sorted(glob.glob(names + ".data-*"))


def match(variables, weights, sources, required=_REQUIRED):
    """Compares the variables of a graph with the weights that should fill them.

    It only needs names, shapes and dtypes; it does not read the arrays.

    Args:
      variables: list of tf.Variable.
      weights: CheckpointWeights or HuggingFaceWeights.
      sources: OrderedDict from variable name to weight name.
      required: tuple of str, the beginnings of the names of variables that must be filled.

    Returns:
      A Match.

    Raises:
      UserError: a required variable stays unfilled, or a shape differs, or a weight has a dtype
        that is not in weight_checks.DTYPES.
    """
    for variable in variables:
        name = variable.op.name
        if name not in sources and name.startswith(required):
            raise UserError("%s: %s" % (weights.prefix, _lack(weights, name)))
        if name in sources:
            _check_misfit(variable, weights, sources[name])
    used = set(sources.values())
    return Match(
        sources,
        missing=[v.op.name for v in variables if v.op.name not in sources],
        unused=[n for n in weights if n not in used and not n.endswith(_TRAINING_STATE)],
    )


def _lack(weights, name):
    """Returns the message about weights that lack the one of that name."""
    there = sorted(weights.originals.values())
    if not there:
        return "holds no %s, which the model needs" % name
    some = ", ".join(sorted({there[0], there[len(there) // 2], there[-1]}))
    if any(held.startswith(_REQUIRED) for held in weights):
        return "holds no %s, which the model needs; it holds names such as %s" % (name, some)
    return (
        "holds no BERT with the usual names; it holds names such as %s; a BERT's names begin "
        "with bert/, or all with one prefix before bert/" % some
    )


def _check_misfit(variable, weights, name):
    needed, shape = variable.shape.as_list(), list(weights.shapes[name])
    if needed != shape:
        message = "%s: %s has the shape %s, the model needs %s"
        if name in _ROWS and needed[1:] == shape[1:]:
            message += "; its config, or a default, has another %s" % _ROWS[name]
        raise UserError(message % (weights.prefix, name, shape, needed))
    weight_checks.check_dtype(weights, name)


def check_unfit_values(matched, weights):
    """Raises UserError if a weight of a Match has a refused value; keeps no array in memory."""
    for name in set(matched.sources.values()):
        weights[name]  # Looking it up is what checks it.


def report(matched, weights):
    """Returns a short table, str, of what was filled, what was not and what is left over."""
    # The first three parts of a name identify a layer or a head.
    parts = collections.Counter("/".join(name.split("/")[:3]) for name in matched.unused)
    unused = ", ".join("%s (%d)" % item for item in sorted(parts.items()))
    lines = [
        "weights from %s" % weights.prefix,
        "  filled           %d variables" % len(matched.sources),
        "  start at random  %s" % (", ".join(matched.missing) or "none"),
        "  not used         %s" % (unused or "none"),
    ]
    if weights.stripped:
        lines.append("  prefix           %s, removed from the names" % weights.stripped)
    return "\n".join(lines)


def load(session, variables, weights, sources=None):
    """Gives each variable its weight, or its initial value if it has no source.

    Args:
      session: a tf.Session.
      variables: list of tf.Variable; all of them are initialized.
      weights: mapping from name to array.
      sources: mapping from variable name to weight name; None: the names are the same.
    """
    if sources is None:
        sources = {variable.op.name: variable.op.name for variable in variables}
    # An initial value that is fed is not computed.
    copies = import_tensorflow().distribute.get_strategy().experimental_local_results
    feed = {
        copy.initializer.inputs[1]: weights[sources[variable.op.name]]
        for variable in variables
        if variable.op.name in sources
        for copy in copies(variable)
    }
    session.run([variable.initializer for variable in variables], feed)


def load_all(session, variables, weights):
    """Gives each variable the weight of its name; UserError if one is missing or does not fit."""
    sources = {v.op.name: v.op.name for v in variables if v.op.name in weights}
    match(variables, weights, sources, required=("",))
    load(session, variables, weights, sources)
