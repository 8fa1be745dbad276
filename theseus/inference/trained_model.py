"""A stage's best model, ready to compute: its graph with its weights, and its tokenizer."""

import collections
import contextlib
import os

import modeling_theseus
import tokenization
from theseus import stage as stages
from theseus.checkpoints import pretrained
from theseus.checkpoints import weights as weights_lib
from theseus.errors import UserError
from theseus.inference import evaluation
from theseus.inputs import tasks
from theseus.model.layers import kernels_kept_in
from theseus.runs.files import hash_text
from theseus.runs.stage_folder import StageFolder
from theseus.session import check_precision, new_session

TrainedModel = collections.namedtuple("TrainedModel", "session graph tokenizer")
"""A model that is ready to be used.

Fields:
  session: a tf.Session that holds the weights.
  graph: an evaluation.EvaluationGraph.
  tokenizer: a tokenization.FullTokenizer.
"""


@contextlib.contextmanager
def load(folder, precision=None):
    """Yields the TrainedModel of a StageFolder's best checkpoint.

    Args:
      folder: a StageFolder.
      precision: "float32" or "bfloat16"; None: that of its training.

    Raises:
      UserError: the folder holds no trained model, or a damaged one.
    """
    with new_session(rewrites=True) as session:
        yield load_into(session, folder, precision)


def load_into(session, folder, precision):
    """Builds the TrainedModel of a StageFolder in the default graph, the session's."""
    weights = weights_lib.CheckpointWeights(folder.best_checkpoint())
    recorded = folder.trained_definition()
    model = pretrained.read_model(folder.path, recorded["max_seq_length"])
    _refuse_altered(recorded, model)
    modules = evaluated_modules(folder, model.config)
    num_outputs = tasks.recorded(recorded).num_outputs
    precision = precision or recorded["precision"]
    check_precision(precision)
    with kernels_kept_in(precision):
        graph = evaluation.build_graph(model.config, num_outputs, modules, precision)
    weights_lib.load_all(session, graph.variables, weights)
    tokenizer = pretrained.make_tokenizer(model, recorded["do_lower_case"])
    return TrainedModel(session, graph, tokenizer)


def hash_vocab(model):
    """Returns the SHA-256, in hex, of the vocabulary of a pretrained.Model."""
    return hash_text(tokenization.read_vocab(model.vocab_file))


def _refuse_altered(recorded, model):
    """Raises UserError where a stage's vocabulary or config is not that of its run's definition."""
    vocab = hash_vocab(model)
    if recorded.get("vocab", vocab) != vocab:
        raise UserError("%s: is damaged: it is not what the run began with" % model.vocab_file)
    config = model.config.to_dict()
    if recorded.get("bert_config", config) != config:
        folder = os.path.dirname(model.vocab_file)
        raise UserError("%s: its bert_config.json is not what the run began with" % folder)


def evaluated_modules(folder, config):
    """Returns the modules of the encoder that a StageFolder's stage is evaluated with."""
    recorded = folder.trained_definition()
    stage = stages.of_name(recorded["stage"])
    groups = stage.groups(config.num_hidden_layers, recorded["suc_layers"], recorded.get("modules"))
    return modeling_theseus.encoder_modules(config, groups, stage.evaluated_path(groups))


def trained_folder(path, expected="a stage's output folder"):
    """Returns the StageFolder at `path`; UserError, with what is `expected`, where it is none."""
    folder = StageFolder(path)
    if not folder.definition() or not folder.state().best:
        raise UserError("%s: holds no trained model; give %s" % (path, expected))
    return folder
