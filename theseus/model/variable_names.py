"""Variables by their names: whose they are, which of them train, which weights fill them."""

import collections
import re

from theseus.errors import UserError

_PREDECESSOR_LAYER = re.compile(r"^bert/encoder/layer_\d+/")
_SUCCESSOR_LAYER = re.compile(r"^bert/encoder/suc_(?=layer_\d+/)")
_LAYER = re.compile(r"(?<=^bert/encoder/)(suc_)?layer_\d+(?=/)")
_LAYER_NUMBER = re.compile(r"(?<=layer_)\d+")
SUCCESSOR_STARTS = ("first", "last", "spread")
"""The choices of `successor_start_layers`."""


def variable_group(name):
    """Returns which part of the model the variable of that name belongs to, in words."""
    if _PREDECESSOR_LAYER.match(name):
        return "predecessor's encoder"
    if _SUCCESSOR_LAYER.match(name):
        return "successor's encoder"
    if name.startswith("bert/embeddings/"):
        return "embeddings"
    return "pooler" if name.startswith("bert/pooler/") else "classifier"


def is_of_successor(name):
    """Returns whether the variable of that name belongs to one of the successor's layers."""
    return bool(_SUCCESSOR_LAYER.match(name))


def trained_variables(train_scope, variables):
    """Returns those of `variables` that train.

    Args:
      train_scope: "all"; "successor": all but the predecessor's encoder (stage 2 of the
        published project); "successor_layers": the successor's encoder (the paper,
        section 3.1: embeddings, classifier and predecessor are frozen).
      variables: list of tf.Variable.
    """
    if train_scope == "all":
        return list(variables)
    if train_scope == "successor":
        return deployed_variables(variables)
    return [v for v in variables if variable_group(v.op.name) == "successor's encoder"]


def deployed_variables(variables):
    """Returns those of `variables` that the successor alone needs."""
    return [v for v in variables if variable_group(v.op.name) != "predecessor's encoder"]


def plain_name(name, layers):
    """Returns what a variable of a model is called in a BERT of its own.

    Args:
      name: str.
      layers: list of the names of the model's layers, from the lowest, see stage.layers_on;
        there they are layer_0, layer_1 and so on. Every other name stays.
    """
    return _LAYER.sub(lambda found: "layer_%d" % layers.index(found.group()), name)


def successor_start_layers(how, num_successor_layers, num_layers):
    """Returns the predecessor's layers that the successor's start as, a list of int.

    Args:
      how: "first", the lowest ones (BERT-of-Theseus, section 4.2); "last", the highest;
        "spread", evenly from the lowest to the highest, halves rounded up. Of 12 layers
        that is 0, 2, 4, 7, 9 and 11, those that DistilBERT starts from (transformers,
        research_projects/distillation/scripts/extract_distilbert.py).
      num_successor_layers: int.
      num_layers: int, the predecessor's.

    Raises:
      UserError: the successor has more layers.
    """
    if num_successor_layers > num_layers:
        raise UserError(
            "--suc_layers: a successor of %d layers cannot start as a predecessor of %d"
            % (num_successor_layers, num_layers)
        )
    if how == "first":
        return list(range(num_successor_layers))
    if how == "last":
        return list(range(num_layers - num_successor_layers, num_layers))
    gaps = max(1, num_successor_layers - 1)
    return [(2 * i * (num_layers - 1) + gaps) // (2 * gaps) for i in range(num_successor_layers)]


def assign_sources(variable_names, source_names, successor_start=None):
    """Finds for each variable the weight that fills it.

    A weight of the same name comes first. A layer of the successor that has none starts
    as one of the predecessor's layers.

    Args:
      variable_names: iterable of str.
      source_names: container of str, the names of the weights at hand.
      successor_start: list of int, the predecessor's layer for each of the successor's;
        None: that of the same number (BERT-of-Theseus, section 4.2).

    Returns:
      OrderedDict from variable name to source name; what nothing fills is not in it.
    """
    sources = collections.OrderedDict()
    for name in variable_names:
        for candidate in (name, _starting_name(name, successor_start)):
            if candidate in source_names:
                sources[name] = candidate
                break
    return sources


def _starting_name(name, successor_start):
    """Returns the name of the weight that a variable starts as, if there is none of its own."""
    of_predecessor = _SUCCESSOR_LAYER.sub("bert/encoder/", name)
    if successor_start is None or not is_of_successor(name):
        return of_predecessor
    return _LAYER_NUMBER.sub(lambda n: str(successor_start[int(n.group())]), of_predecessor)


def successor_layers_started(sources):
    """Returns the predecessor's layers that the successor's start as, by `assign_sources`.

    Returns:
      Sorted list of (layer of the successor, layer of the predecessor), both int.
    """
    names = [pair for pair in sources.items() if _SUCCESSOR_LAYER.match(pair[0])]
    names = [pair for pair in names if not _SUCCESSOR_LAYER.match(pair[1])]
    return sorted({tuple(int(_LAYER_NUMBER.search(n).group()) for n in pair) for pair in names})


def holds_successor(names):
    """Returns whether any of the names, iterable of str, is of a successor's layer, a bool."""
    return any(_SUCCESSOR_LAYER.match(name) for name in names)


def successor_depth(names):
    """Returns how many successor's layers there are by names, iterable of str, an int."""
    found = (_LAYER_NUMBER.search(name) for name in names if _SUCCESSOR_LAYER.match(name))
    return 1 + max((int(number.group()) for number in found), default=-1)
