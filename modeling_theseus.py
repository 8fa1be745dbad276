"""BERT-of-Theseus (arXiv 2002.02925): a BERT compressed by replacing its modules.

The layers of a fine-tuned BERT, the predecessor, are grouped into modules. While training, each
module is replaced at random by one layer of the successor. In the end the encoder consists of the
successor's layers alone. This file has the method in the paper's order:

  modules                 which layers of the predecessor form one
  replacing               which modules are replaced in a step, and the encoder that results
  the replacing rate      its schedule over the steps
  what trains             the variables of each stage
  the successor's start   which of the predecessor's layers it is copied from, and the
                          published assignment maps of checkpoints

A module is a function `(hidden, attention_bias) -> hidden`. The predecessor, the successor and
every mixture are the same loop over such functions (`transformer_model_theseus`). The *replacement
mask*, a bool for each module, says which modules are replaced. BERT itself is in
theseus/model/bert.py.

Shapes: B batch, T sequence length, H hidden size, M modules.
"""

import collections
import itertools
import re

import tensorflow.compat.v1 as tf

from theseus.errors import UserError
from theseus.model.bert import (  # noqa: F401, most of them for users of this file.
    FEATURES,
    BertModel,
    classifier_logits,
    create_attention_bias,
    feature_placeholders,
    feed_features,
    layer_module,
    transformer_layer,
)
from theseus.model.bert import transformer_model as transformer_model_theseus  # noqa: F401
from theseus.model.bert_config import BertConfig  # noqa: F401
from theseus.model.random_key import RandomKey, outside_xla
from theseus.stage import layer_numbers

_PREDECESSOR_LAYER = re.compile(r"^bert/encoder/layer_\d+/")
_SUCCESSOR_LAYER = re.compile(r"^bert/encoder/suc_(?=layer_\d+/)")
_LAYER = re.compile(r"(?<=^bert/encoder/)(suc_)?layer_\d+(?=/)")
_LAYER_NUMBER = re.compile(r"(?<=layer_)\d+")


# --- Modules ---


def module_groups(stage, depth, suc_layers, sizes=None):
    """Returns the groups of the predecessor's layers; in stage 0 each layer is a group of its own.

    Args:
      stage: a Stage.
      depth: int, the number of the predecessor's layers.
      suc_layers: int, the number of the successor's layers; not used in stage 0.
      sizes: list of int, the number of layers in each group; None: all groups are equal.

    Raises:
      UserError: the layers cannot be divided into such groups.
    """
    if not stage.has_successor:
        return equal_groups(depth, depth)
    if sizes:
        return groups_of_sizes(depth, sizes)
    if not stage.replaces:
        return [[]] * suc_layers  # Stage 2 never uses a layer of the predecessor.
    return equal_groups(depth, suc_layers)


def equal_groups(num_layers, num_modules):
    """Groups layers 0 .. num_layers - 1 into modules of equal size.

    Returns:
      List of `num_modules` lists of layer numbers.

    Raises:
      UserError: the number of modules does not divide the number of layers.
    """
    if num_layers % num_modules:
        divisors = [str(n) for n in range(1, num_layers + 1) if num_layers % n == 0]
        raise UserError(
            "suc_layers = %d does not divide the predecessor's %d layers; choose one of %s, or "
            "give the size of each module with --modules"
            % (num_modules, num_layers, ", ".join(divisors))
        )
    return groups_of_sizes(num_layers, [num_layers // num_modules] * num_modules)


def groups_of_sizes(num_layers, sizes):
    """Groups layers 0 .. num_layers - 1 into modules of the sizes given.

    Args:
      num_layers: int.
      sizes: list of int, the layers of each module, at least 1.

    Returns:
      List of lists of layer numbers, one list a module.

    Raises:
      UserError: the sizes do not add up to the number of layers.
    """
    if sum(sizes) != num_layers:
        raise UserError(
            "--modules: the sizes %s add up to %d, the predecessor has %d layers; give sizes that "
            "add up to %d" % (",".join(map(str, sizes)), sum(sizes), num_layers, num_layers)
        )
    ends = list(itertools.accumulate(sizes))
    return [list(range(end - size, end)) for end, size in zip(ends, sizes)]


def layer_names(groups, mask):
    """Returns the names of a mixture's layers, from the lowest; `mask` is a list of M bools."""
    names = []
    for index, (group, is_replaced) in enumerate(zip(groups, mask)):
        names += ["suc_layer_%d" % index] if is_replaced else ["layer_%d" % n for n in group]
    return names


# --- Replacing ---


def draw_replacement_mask(seed, step, replacing_rate, num_modules):
    """Draws which modules are replaced in a step, each one independently.

    Source: BERT-of-Theseus, section 3.1, eq. 1: r_{i+1} ~ Bernoulli(p).

    Args:
      seed: int in [0, 2**31).
      step: number of updates done, int64 scalar.
      replacing_rate: float32 scalar in [0, 1], the probability p.
      num_modules: int.

    Returns:
      bool [M].
    """
    key = RandomKey(seed, step).at("path")  # Another name would change every draw.
    with outside_xla():
        return tf.random.stateless_uniform([num_modules], seed=key) < replacing_rate


def encoder_modules(config, groups, mask, random_key=None):
    """Returns the modules of an encoder, each replaced or not.

    Source: BERT-of-Theseus, section 3.1, eq. 2: y_{i+1} is r * scc_i(y_i) +
    (1 - r) * prd_i(y_i); here only the chosen one is computed.

    Args:
      config: a BertConfig.
      groups: list of lists of the predecessor's layers, one list a module.
      mask: bool tensor [M]; or a list or tuple of M Python bools: then only the chosen layers
        and their variables are built into the graph.
      random_key: a RandomKey for training; None: no dropout.

    Returns:
      List of M modules, functions (hidden, attention_bias) -> hidden.
    """

    def layer(name):
        return layer_module(name, config, random_key)

    replaced = mask if isinstance(mask, (list, tuple)) else tf.unstack(mask, num=len(groups))
    return [
        replaceable(
            predecessor=sequential([layer("layer_%d" % number) for number in group]),
            successor=layer("suc_layer_%d" % index),
            replaced=replaced[index],
        )
        for index, group in enumerate(groups)
    ]


def sequential(modules):
    """Returns the module that runs `modules` one after the other."""

    def module(hidden, attention_bias):
        for inner in modules:
            hidden = inner(hidden, attention_bias)
        return hidden

    return module


def replaceable(predecessor, successor, replaced):
    """Returns the module that is `successor` where `replaced` holds, else `predecessor`.

    Args:
      predecessor: a module.
      successor: a module.
      replaced: bool scalar tensor, or a Python bool, which chooses while the graph is built.
    """
    if isinstance(replaced, bool):
        return successor if replaced else predecessor

    def module(hidden, attention_bias):
        # Call both inside tf.cond: operations created outside of it would run in every step.
        return tf.cond(
            replaced,
            lambda: successor(hidden, attention_bias),
            lambda: predecessor(hidden, attention_bias),
        )

    return module


# --- The replacing rate ---


def replacing_rate(config, step, num_train_steps):
    """Returns the replacing rate of a step, float32 scalar, by the schedule of the flags.

    Args:
      config: config.Config, with `replace_rate_prob`, `replace_until`, `replace_linear_k` and
        `steps_for_replacing`.
      step: int64 scalar, t, the number of updates already done.
      num_train_steps: int.
    """
    base = config.replace_rate_prob
    if config.replace_until:
        slope = (1.0 - base) / (config.replace_until * num_train_steps)
        return linear_replacing_rate(step, slope, base)
    if config.replace_linear_k:
        return linear_replacing_rate(step, config.replace_linear_k, base)
    return constant_replacing_rate(step, base, config.steps_for_replacing)


def constant_replacing_rate(step, replace_rate_prob, steps_for_replacing=None):
    """p while t < steps_for_replacing, then 1.

    Source: BERT-of-Theseus, section 3.1 (the constant p); steps_for_replacing is from the
    paper's own code; None means that the rate never becomes 1.

    Args:
      step: int64 scalar, t.
      replace_rate_prob: float in [0, 1], p.
      steps_for_replacing: int, or None for no end.

    Returns:
      float32 scalar.
    """
    rate = tf.constant(replace_rate_prob, tf.float32)
    if steps_for_replacing is None:
        return rate
    return tf.where(step < steps_for_replacing, rate, tf.ones_like(rate))


def linear_replacing_rate(step, replace_linear_k, replace_rate_prob):
    """min(1, k t + b).

    Source: BERT-of-Theseus, section 3.3, eq. 6.

    Args:
      step: int64 scalar, t.
      replace_linear_k: float, k, the rise in each step.
      replace_rate_prob: float in [0, 1], b, the rate in the first step.

    Returns:
      float32 scalar.
    """
    rate = replace_linear_k * tf.cast(step, tf.float64) + replace_rate_prob
    return tf.cast(tf.minimum(rate, 1.0), tf.float32)


# --- What trains ---


def variable_group(name):
    """Returns the name, for the log, of the part of the model that a variable belongs to."""
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
    """Returns the variables that a stage trains.

    Args:
      train_scope: "all"; "successor": all but the predecessor's encoder (stage 2 of the
        published project); "successor_layers": the successor's encoder (the paper,
        section 3.1: embeddings, classifier and predecessor are frozen).
      variables: list of tf.Variable.
    """
    if train_scope == "all":
        return list(variables)
    if train_scope == "successor":
        return inference_variables(variables)
    return [v for v in variables if variable_group(v.op.name) == "successor's encoder"]


def inference_variables(variables):
    """Returns the variables that the successor needs without its predecessor."""
    return [v for v in variables if variable_group(v.op.name) != "predecessor's encoder"]


def plain_name(name, layers):
    """Returns a variable's name in the plain BERT that a model is exported as.

    Args:
      name: str.
      layers: list of the names of the model's layers, from the lowest, see `layer_names`. In the
        plain BERT they are called layer_0, layer_1 and so on; all other names stay the same.
    """
    return _LAYER.sub(lambda found: "layer_%d" % layers.index(found.group()), name)


# --- The successor's start ---


def successor_start_layers(how, num_successor_layers, num_layers):
    """Returns the predecessor's layers that the successor's are copied from, a list of int.

    Args:
      how: "first", the lowest ones (BERT-of-Theseus, section 4.2); "last", the highest;
        "spread", evenly from the lowest to the highest, halves rounded up. Of 12 layers
        that is 0, 2, 4, 7, 9 and 11, those that DistilBERT starts from (transformers,
        research_projects/distillation/scripts/extract_distilbert.py); or the layers by number
        from 0, such as "0,5,11".
      num_successor_layers: int.
      num_layers: int, the predecessor's.

    Raises:
      UserError: the successor has more layers than the predecessor, or `how` names another number
        of layers than it has.
    """
    numbers = layer_numbers(how)
    if numbers is not None:
        if len(numbers) != num_successor_layers or max(numbers) >= num_layers:
            raise UserError(
                "--suc_init=%s: expected %d layer numbers from 0 to %d, one for each of "
                "--suc_layers" % (how, num_successor_layers, num_layers - 1)
            )
        return numbers
    if num_successor_layers > num_layers:
        raise UserError(
            "--suc_layers: a successor of %d layers cannot start from a predecessor of %d; "
            "give fewer" % (num_successor_layers, num_layers)
        )
    if how == "first":
        return list(range(num_successor_layers))
    if how == "last":
        return list(range(num_layers - num_successor_layers, num_layers))
    gaps = max(1, num_successor_layers - 1)
    return [(2 * i * (num_layers - 1) + gaps) // (2 * gaps) for i in range(num_successor_layers)]


def assign_sources(variable_names, source_names, successor_start=None):
    """Finds the weight that each variable is filled with.

    A weight of the same name comes first. If there is none for a layer of the successor, that layer
    starts as a copy of one of the predecessor's.

    Args:
      variable_names: iterable of str.
      source_names: container of str, the names of the available weights.
      successor_start: list of int, the predecessor's layer for each of the successor's;
        None: that of the same number (BERT-of-Theseus, section 4.2).

    Returns:
      OrderedDict from variable name to source name, without the variables that nothing fills.
    """
    sources = collections.OrderedDict()
    for name in variable_names:
        for candidate in (name, _starting_name(name, successor_start)):
            if candidate in source_names:
                sources[name] = candidate
                break
    return sources


def _starting_name(name, successor_start):
    """Returns the name of the weight to use for a variable that has no weight of its own."""
    of_predecessor = _SUCCESSOR_LAYER.sub("bert/encoder/", name)
    if successor_start is None or not is_of_successor(name):
        return of_predecessor
    return _LAYER_NUMBER.sub(lambda n: str(successor_start[int(n.group())]), of_predecessor)


def successor_layers_started(sources):
    """Returns which layers of the successor start as copies, by the result of `assign_sources`.

    Returns:
      Sorted list of (layer of the successor, layer of the predecessor), both int.
    """
    names = [pair for pair in sources.items() if _SUCCESSOR_LAYER.match(pair[0])]
    names = [pair for pair in names if not _SUCCESSOR_LAYER.match(pair[1])]
    return sorted({tuple(int(_LAYER_NUMBER.search(n).group()) for n in pair) for pair in names})


def holds_successor(names):
    """Returns whether any of the names, iterable of str, belongs to a successor's layer, a bool."""
    return any(_SUCCESSOR_LAYER.match(name) for name in names)


def successor_depth(names):
    """Returns the number of successor layers, int, that names of variables tell of."""
    found = (_LAYER_NUMBER.search(name) for name in names if _SUCCESSOR_LAYER.match(name))
    return 1 + max((int(number.group()) for number in found), default=-1)


def get_assignment_map_from_checkpoint(tvars, init_checkpoint):
    """Maps a checkpoint's weights to the variables of the same name.

    Source: google-research/bert, modeling.get_assignment_map_from_checkpoint.

    Args:
      tvars: list of tf.Variable.
      init_checkpoint: prefix of a TF1 checkpoint.

    Returns:
      (assignment_map, initialized_variable_names): the first, for
      tf.train.init_from_checkpoint, maps names in the checkpoint to names of variables;
      the second maps each filled variable's name, with and without ":0", to 1.
    """
    in_checkpoint = {name for name, _ in tf.train.list_variables(init_checkpoint)}
    filled = [v.op.name for v in tvars if v.op.name in in_checkpoint]
    return collections.OrderedDict((name, name) for name in filled), _initialized_names(filled)


def get_assignment_map_from_checkpoint_for_theseus(tvars, init_checkpoint, successor_start=None):
    """Maps one checkpoint's weights to the predecessor and to the successor.

    Source: the published project, modeling_theseus.

    Args:
      tvars: list of tf.Variable.
      init_checkpoint: prefix of a TF1 checkpoint.
      successor_start: see assign_sources.

    Returns:
      (assignment_map, suc_assignment_map, initialized_variable_names). The maps are as in
      `get_assignment_map_from_checkpoint`: the first is for all variables but the successor's
      layers, the second for these. Call tf.train.init_from_checkpoint once with each.
    """
    in_checkpoint = {name for name, _ in tf.train.list_variables(init_checkpoint)}
    names = [v.op.name for v in tvars]
    sources = assign_sources(names, in_checkpoint, successor_start)
    assignment_map, suc_assignment_map = collections.OrderedDict(), collections.OrderedDict()
    for name, source in sources.items():
        is_successor = is_of_successor(name)
        (suc_assignment_map if is_successor else assignment_map)[source] = name
    return assignment_map, suc_assignment_map, _initialized_names(sources)


def _initialized_names(names):
    return {form: 1 for name in names for form in (name, name + ":0")}
