"""Compares the graph with a reference BERT, and module replacing with layers stacked by hand."""

import itertools
import json
import re

import numpy as np
import pytest
import tensorflow.compat.v1 as tf

import modeling_theseus
from conftest import assert_close, assert_gradients_close
from modeling_theseus import BertConfig, RandomKey
from theseus.checkpoints import weights
from theseus.errors import UserError
from theseus.model import layers
from theseus.session import new_session
from theseus.training import losses

# The shape in golden/make_reference_bert.py.
GROUPS = [[0, 1], [2, 3]]
PATHS = list(itertools.product([False, True], repeat=2))
# Operations that TensorFlow adds for every resource variable, used or not.
_OF_A_VARIABLE = re.compile(r"/(Read/ReadVariableOp|IsInitialized/VarIsInitializedOp)$")


def make_config(hidden_act="gelu_erf", dropout=0.0):
    return BertConfig(
        vocab_size=30,
        hidden_size=16,
        num_hidden_layers=4,
        num_attention_heads=4,
        intermediate_size=24,
        hidden_act=hidden_act,
        hidden_dropout_prob=dropout,
        attention_probs_dropout_prob=dropout,
        max_position_embeddings=12,
        type_vocab_size=2,
    )


def constants(reference):
    """The reference's features as tensors, without the labels."""
    names = ("input_ids", "input_mask", "segment_ids")
    return {name: tf.constant(reference["features/" + name]) for name in names}


def load_reference_weights(session, reference):
    """Gives every variable its reference weight."""
    names = [v.op.name for v in tf.global_variables()]
    held = {n[len("weights/") :]: a for n, a in reference.items() if n.startswith("weights/")}
    weights.load(session, tf.global_variables(), held, {name: name for name in names})


def build_loss(reference, config, path, random_key=None):
    features = constants(reference)
    logits = modeling_theseus.classifier_logits(
        features,
        config,
        2,
        modeling_theseus.encoder_modules(config, GROUPS, path, random_key),
        random_key,
    )
    labels = tf.constant(reference["features/label_ids"])
    return logits, losses.classification_loss(logits, labels, 3)


def assert_is_the_reference(found, variables, reference, hidden_act, path):
    """Compares [logits, loss, gradients] on a path with the reference's."""
    key = "%s/%s/" % (hidden_act, "".join(str(int(replaced)) for replaced in path))
    assert_close(found[0], reference[key + "logits"], 2e-5)
    assert_close(found[1], reference[key + "loss"], 2e-5, np.abs(found[0]).max())
    gradients = {v.op.name: gradient for v, gradient in zip(variables, found[2])}
    start = key + "gradients/"
    expected = {n[len(start) :]: array for n, array in reference.items() if n.startswith(start)}
    for name in set(gradients) - set(expected):  # Not on the path: its gradient is zero.
        assert not gradients.pop(name).any(), name
    assert_gradients_close(gradients, expected)


def build_all(reference, hidden_act, path, random_key):
    """Returns ([logits, loss, gradients], variables) of a graph."""
    logits, loss = build_loss(reference, make_config(hidden_act), path, random_key)
    variables = tf.trainable_variables()
    gradients = [tf.convert_to_tensor(g) for g in tf.gradients(loss, variables)]
    return [logits, loss, gradients], variables


@pytest.mark.parametrize(
    "hidden_act, path, trains",
    [("gelu_erf", path, trains) for path in PATHS for trains in (False, True)]
    + [("gelu_tanh", (True, False), trains) for trains in (False, True)],
)
def test_logits_and_gradients_equal_the_reference(session, reference, hidden_act, path, trains):
    random_key = RandomKey(1, 2) if trains else None
    fetches, variables = build_all(reference, hidden_act, list(path), random_key)
    load_reference_weights(session, reference)
    assert_is_the_reference(session.run(fetches), variables, reference, hidden_act, path)


@pytest.mark.parametrize("hidden_act", ["gelu_erf", "gelu_tanh"])
def test_one_graph_equals_the_reference_on_every_path(session, reference, hidden_act):
    given = tf.placeholder(tf.bool, [len(GROUPS)])
    fetches, variables = build_all(reference, hidden_act, given, RandomKey(1, 2))
    load_reference_weights(session, reference)
    for path in PATHS:
        found = session.run(fetches, {given: path})
        assert_is_the_reference(found, variables, reference, hidden_act, path)


def test_the_two_gelus_differ(reference):
    assert not np.allclose(reference["gelu_erf/11/logits"], reference["gelu_tanh/11/logits"], 1e-5)


def layers_on(path, modules):
    """Returns the names of the layers on a path, list of bool, through modules of the layers."""
    layers = []
    for module, is_successor in enumerate(path):
        names = ["layer_%d" % number for number in modules[module]]
        layers += ["suc_layer_%d" % module] if is_successor else names
    return layers


def test_a_forced_path_is_the_same_layers_stacked_by_hand(session, reference):
    config, key = make_config(dropout=0.3), RandomKey(5, 7)
    hidden = tf.random.stateless_normal([3 * 12, 16], seed=[1, 2])
    bias = modeling_theseus.create_attention_bias(tf.constant(reference["features/input_mask"]))
    given, by_hand = tf.placeholder(tf.bool, [len(GROUPS)]), []
    with tf.variable_scope("bert/encoder", reuse=tf.AUTO_REUSE):
        replaced = modeling_theseus.transformer_model_theseus(
            hidden, bias, modeling_theseus.encoder_modules(config, GROUPS, given, key)
        )
        for path in PATHS:
            stacked = hidden
            for name in layers_on(path, GROUPS):
                stacked = modeling_theseus.transformer_layer(stacked, bias, config, key, name)
            by_hand.append(stacked)
    load_reference_weights(session, reference)
    for path, stacked in zip(PATHS, by_hand):
        assert_close(*session.run([replaced, stacked], {given: path}), name=str(path))


@pytest.mark.parametrize("modules", [[[0], [1, 2, 3]], [[0, 1, 2], [3]]])
def test_unequal_modules_on_a_forced_path_are_a_plain_bert_of_those_layers(reference, modules):
    groups = modeling_theseus.groups_of_sizes(4, [len(numbers) for numbers in modules])
    with new_session() as session:
        given = tf.placeholder(tf.bool, [len(groups)])
        logits = modeling_theseus.classifier_logits(
            constants(reference),
            make_config(),
            2,
            modeling_theseus.encoder_modules(make_config(), groups, given),
        )
        load_reference_weights(session, reference)
        found = [session.run(logits, {given: path}) for path in PATHS]

    for path, logits_of_path in zip(PATHS, found):
        layers = layers_on(path, modules)
        config = make_config()
        config.num_hidden_layers = len(layers)
        plain = modeling_theseus.equal_groups(len(layers), len(layers))
        with new_session() as session:
            logits = modeling_theseus.classifier_logits(
                constants(reference),
                config,
                2,
                modeling_theseus.encoder_modules(config, plain, [False] * len(plain)),
            )
            held = {}
            for variable in tf.global_variables():
                name = variable.op.name
                source = re.sub(r"layer_(\d+)", lambda n, of=layers: of[int(n.group(1))], name)
                held[name] = reference["weights/" + source]
            weights.load(session, tf.global_variables(), held, {name: name for name in held})
            assert_close(logits_of_path, session.run(logits), name=str(path))


@pytest.mark.parametrize("rate", [0.0, 1.0])
def test_rate_1_is_the_successor_and_rate_0_the_predecessor(reference, rate):
    not_taken = "/layer_" if rate else "/suc_layer_"

    def run(path):
        with new_session() as session:
            if path is None:
                path = modeling_theseus.draw_replacement_mask(3, 9, tf.constant(rate), len(GROUPS))
            _, loss = build_loss(reference, make_config(dropout=0.2), path, RandomKey(3, 9))
            variables = [v for v in tf.trainable_variables() if not_taken not in v.op.name]
            gradients = [tf.convert_to_tensor(g) for g in tf.gradients(loss, variables)]
            load_reference_weights(session, reference)
            loss, gradients = session.run([loss, gradients])
            return loss, {v.op.name: gradient for v, gradient in zip(variables, gradients)}

    alone = [bool(rate)] * len(GROUPS)
    (found_loss, found), (loss, expected) = run(None), run(alone)
    assert len(found) == 5 + 16 * (2 if rate else 4) + 2 + 2
    assert_close(found_loss, loss)
    assert_gradients_close(found, expected)


@pytest.mark.parametrize("replaced", [False, True])
def test_a_failing_operation_in_the_branch_not_taken_does_not_run(session, replaced):
    def failing(hidden, _):
        return tf.debugging.check_numerics(hidden / 0.0, "this branch should not run")

    def working(hidden, _):
        return hidden + 1.0

    branches = (failing, working) if replaced else (working, failing)
    choice = tf.placeholder(tf.bool, [])
    module = modeling_theseus.replaceable(*branches, replaced=choice)
    hidden = tf.ones([2])
    output = module(hidden, None)
    outputs = [output, tf.gradients(output, hidden)[0]]
    for value in session.run(outputs, {choice: replaced}):
        assert np.isfinite(value).all()
    with pytest.raises(tf.errors.InvalidArgumentError, match="should not run"):
        session.run(outputs, {choice: not replaced})


def test_the_share_of_draws_is_the_rate_and_modules_are_independent(session):
    num_steps, num_modules, rate = 4000, 6, 0.3
    of_steps = tf.map_fn(
        lambda t: modeling_theseus.draw_replacement_mask(1, t, tf.constant(rate), num_modules),
        tf.range(num_steps, dtype=tf.int64),
        tf.bool,
    )
    draws = session.run(of_steps).astype(float)
    # Five standard errors of a share, and of a correlation.
    np.testing.assert_allclose(draws.mean(axis=0), rate, atol=5 * np.sqrt(0.21 / num_steps))
    correlations = np.corrcoef(draws.T) - np.eye(num_modules)
    assert np.abs(correlations).max() < 5 / np.sqrt(num_steps)
    successive = np.corrcoef(draws[1:, 0], draws[:-1, 0])[0, 1]
    assert abs(successive) < 5 / np.sqrt(num_steps)


def test_draws_depend_on_seed_and_step_only(session):
    def draw(seed, step):
        return session.run(
            modeling_theseus.draw_replacement_mask(seed, step, tf.constant(0.5), 64)
        ).tolist()

    first = draw(1, 1)
    tf.random.stateless_uniform([3], seed=[1, 1])
    assert draw(1, 1) == first
    assert draw(1, 2) != first and draw(2, 1) != first


def test_dropout_zeroes_its_share_scales_the_rest_and_differs_by_place_and_step(session):
    def mask(scope, step):
        with tf.variable_scope(scope):
            ones = tf.ones([200, 50])
            return session.run(layers.dropout(ones, 0.2, RandomKey(1, step)))

    first = mask("a", 0)
    assert_close(first[first != 0], np.full((first != 0).sum(), 1.25), 1e-6)
    assert abs((first == 0).mean() - 0.2) < 5 * np.sqrt(0.16 / first.size)
    np.testing.assert_array_equal(mask("a", 0), first)
    assert (mask("b", 0) != first).any() and (mask("a", 1) != first).any()


def test_dropout_is_off_in_evaluation(session, reference):
    logits, _ = build_loss(reference, make_config(dropout=0.5), [True, True])
    load_reference_weights(session, reference)
    assert_close(session.run(logits), reference["gelu_erf/11/logits"], 2e-5)


def test_more_padding_gives_the_same_logits(session, reference):
    config = make_config()
    short = {name: value[1:, :7] for name, value in constants(reference).items()}
    long = {name: value[1:] for name, value in constants(reference).items()}
    logits = [
        modeling_theseus.classifier_logits(
            features, config, 2, modeling_theseus.encoder_modules(config, GROUPS, [False, True])
        )
        for features in (short, long)
    ]
    load_reference_weights(session, reference)
    assert_close(*session.run(logits))


def test_initial_values_depend_on_the_seed_and_the_name_only():
    def initial_values(seed, path):
        with tf.Graph().as_default(), tf.Session() as session:
            tf.set_random_seed(seed)
            features = modeling_theseus.feature_placeholders()
            modeling_theseus.classifier_logits(
                features,
                make_config(),
                2,
                modeling_theseus.encoder_modules(make_config(), GROUPS, path),
            )
            session.run(tf.global_variables_initializer())
            variables = tf.trainable_variables()
            return {v.op.name: value for v, value in zip(variables, session.run(variables))}

    name = "bert/encoder/layer_0/intermediate/dense/kernel"
    first, other_graph = initial_values(1, [False, False]), initial_values(1, [False, True])
    np.testing.assert_array_equal(first[name], other_graph[name])
    assert (first[name] != initial_values(2, [False, False])[name]).any()
    assert (first[name] != first[name.replace("layer_0", "layer_1")]).any()
    assert 0.01 < first[name].std() < 0.03 and abs(first[name]).max() <= 0.04


@pytest.mark.parametrize(
    "scope, groups",
    [
        ("all", {"embeddings", "predecessor's", "successor's", "pooler", "classifier"}),
        ("successor", {"embeddings", "successor's", "pooler", "classifier"}),
        ("successor_layers", {"successor's"}),
    ],
)
def test_what_trains_in_each_scope(session, scope, groups):
    features = modeling_theseus.feature_placeholders()
    path = tf.placeholder(tf.bool, [2])
    modeling_theseus.classifier_logits(
        features, make_config(), 2, modeling_theseus.encoder_modules(make_config(), GROUPS, path)
    )
    variables = tf.trainable_variables()
    trained = modeling_theseus.trained_variables(scope, variables)
    words = {modeling_theseus.variable_group(v.op.name).split(" ")[0] for v in trained}
    assert words == groups
    assert len(variables) == 5 + 6 * 16 + 2 + 2


@pytest.mark.parametrize("start", [None, [0, 3]])
def test_one_checkpoint_fills_predecessor_and_successor(session, tmp_path, start):
    """The published way: two assignment maps for tf.train.init_from_checkpoint."""
    features = modeling_theseus.feature_placeholders()
    modeling_theseus.classifier_logits(
        features,
        make_config(),
        2,
        modeling_theseus.encoder_modules(make_config(), GROUPS, [False, False]),
    )
    session.run(tf.global_variables_initializer())
    prefix = tf.train.Saver().save(session, str(tmp_path / "bert_model.ckpt"))
    variables = tf.trainable_variables()
    held = {v.op.name: value for v, value in zip(variables, session.run(variables))}

    with tf.Graph().as_default(), tf.Session() as other:
        features = modeling_theseus.feature_placeholders()
        path = tf.placeholder(tf.bool, [2])
        modeling_theseus.classifier_logits(
            features,
            make_config(),
            2,
            modeling_theseus.encoder_modules(make_config(), GROUPS, path),
        )
        variables = tf.trainable_variables()
        get_maps = modeling_theseus.get_assignment_map_from_checkpoint_for_theseus
        arguments = [start] if start else []
        assignment_map, suc_assignment_map, names = get_maps(variables, prefix, *arguments)
        tf.train.init_from_checkpoint(prefix, assignment_map)
        tf.train.init_from_checkpoint(prefix, suc_assignment_map)
        other.run(tf.global_variables_initializer())
        for variable, value in zip(variables, other.run(variables)):
            source = variable.op.name
            for number, layer in enumerate(start or [0, 1]):
                source = source.replace("suc_layer_%d" % number, "layer_%d" % layer)
            np.testing.assert_array_equal(value, held[source], variable.op.name)
        assert set(names) == {form for v in variables for form in (v.op.name, v.name)}

        plain, plain_names = modeling_theseus.get_assignment_map_from_checkpoint(variables, prefix)
        assert list(plain.items()) == [(n, n) for n in plain] and set(plain) == set(held)
        assert set(plain_names) == set(held) | {name + ":0" for name in held}


def test_a_trained_successor_comes_before_the_predecessors_layers():
    variables = ["bert/encoder/suc_layer_1/x", "bert/encoder/layer_1/x", "output_weights"]
    both = {"bert/encoder/suc_layer_1/x", "bert/encoder/layer_1/x"}
    sources = modeling_theseus.assign_sources(variables, both)
    assert dict(sources) == {name: name for name in both}
    sources = modeling_theseus.assign_sources(variables[:1], {"bert/encoder/layer_1/x"})
    assert dict(sources) == {variables[0]: "bert/encoder/layer_1/x"}


def test_equal_groups_refuse_a_number_that_does_not_divide_the_depth():
    assert modeling_theseus.equal_groups(4, 2) == GROUPS
    with pytest.raises(UserError, match="choose one of 1, 2, 3, 4, 6, 12, or .* with --modules"):
        modeling_theseus.equal_groups(12, 5)


def test_groups_of_sizes_are_all_layers_in_their_order():
    assert modeling_theseus.groups_of_sizes(4, [1, 2, 1]) == [[0], [1, 2], [3]]
    message = "--modules: the sizes 1,2 add up to 3, the predecessor has 4 layers; give sizes that"
    with pytest.raises(UserError, match=message):
        modeling_theseus.groups_of_sizes(4, [1, 2])


@pytest.mark.parametrize(
    "how, num_successor_layers, num_layers, expected",
    [
        ("first", 6, 12, [0, 1, 2, 3, 4, 5]),
        ("last", 6, 12, [6, 7, 8, 9, 10, 11]),
        ("spread", 6, 12, [0, 2, 4, 7, 9, 11]),  # DistilBERT's.
        ("spread", 3, 12, [0, 6, 11]),
        ("spread", 3, 10, [0, 5, 9]),
        ("spread", 4, 4, [0, 1, 2, 3]),
        ("spread", 1, 12, [0]),
        ("last", 1, 12, [11]),
    ],
)
def test_the_layers_that_a_successors_start_as(how, num_successor_layers, num_layers, expected):
    start = modeling_theseus.successor_start_layers
    assert start(how, num_successor_layers, num_layers) == expected


def test_a_successor_deeper_than_its_predecessor_is_refused():
    with pytest.raises(UserError, match="--suc_layers: a successor of 5 layers cannot start from"):
        modeling_theseus.successor_start_layers("spread", 5, 4)


def test_a_successors_layers_start_as_those_given():
    names = ["bert/encoder/%s/x" % n for n in ("suc_layer_0", "suc_layer_1", "layer_1")]
    held = {"bert/encoder/layer_%d/x" % number for number in range(12)}
    sources = modeling_theseus.assign_sources(names, held, [4, 11])
    layers = [source.split("/")[2] for source in sources.values()]
    assert list(sources) == names and layers == ["layer_4", "layer_11", "layer_1"]
    assert modeling_theseus.successor_layers_started(sources) == [(0, 4), (1, 11)]
    own = modeling_theseus.assign_sources(names, held.union(names), [4, 11])
    assert dict(own) == {name: name for name in names}
    assert modeling_theseus.successor_layers_started(own) == []


@pytest.mark.parametrize(
    "values, resolved",
    [
        ({"hidden_act": "gelu"}, "gelu_tanh"),
        ({"hidden_act": "gelu", "model_type": "bert"}, "gelu_erf"),
        ({"model_type": "bert"}, "gelu_erf"),
        ({}, "gelu_tanh"),
        ({"hidden_act": "gelu_new", "model_type": "bert"}, "gelu_tanh"),
        ({"hidden_act": "gelu_pytorch_tanh", "architectures": ["BertModel"]}, "gelu_tanh"),
        ({"hidden_act": "relu"}, "relu"),
    ],
)
def test_hidden_act_is_resolved_and_stays_so(values, resolved):
    config = BertConfig.from_dict(dict(values, vocab_size=30, directionality="bidi"))
    assert config.hidden_act == resolved
    assert BertConfig.from_dict(config.to_dict()).to_dict() == config.to_dict()


@pytest.mark.parametrize(
    "name, values, expected",
    [
        ("config.json", {}, (30522, "gelu_erf", 2, 512)),
        ("config.json", {"vocab_size": 9, "type_vocab_size": 1}, (9, "gelu_erf", 1, 512)),
        ("config.json", {"architectures": ["BertModel"]}, (30522, "gelu_erf", 2, 512)),
        ("bert_config.json", {"vocab_size": 9}, (9, "gelu_tanh", 16, 512)),
        ("bert_config.json", {"vocab_size": 9, "model_type": "bert"}, (9, "gelu_erf", 2, 512)),
    ],
)
def test_what_a_config_does_not_say_is_its_makers_default(tmp_path, name, values, expected):
    """Of transformers 4.57, BertConfig(); of google-research/bert, modeling.py's."""
    (tmp_path / name).write_text(json.dumps(values))
    config = BertConfig.from_json_file(str(tmp_path / name))
    keys = ("vocab_size", "hidden_act", "type_vocab_size", "max_position_embeddings")
    assert tuple(getattr(config, key) for key in keys) == expected
    sizes = (config.hidden_size, config.num_hidden_layers, config.intermediate_size)
    assert sizes == (768, 12, 3072) and config.num_attention_heads == 12
    assert config.hidden_dropout_prob == config.attention_probs_dropout_prob == 0.1


def test_a_bad_config_is_refused_by_name(tmp_path):
    path = tmp_path / "bert_config.json"
    for text, message in [
        ('{"vocab_size": 30, "hidden_act": "swish"}', "swish is not one of"),
        ('{"hidden_size": 16}', "vocab_size is missing"),
        ("5", "bert_config.json: is damaged: expected an object, found 5"),
        ('{"vocab_size": 1e30}', "vocab_size = 1e.30 is not a positive integer"),
        ('{"vocab_size": 30, "num_hidden_layers": 1000000}', "hidden_layers = 1e.06 is larger"),
        ('{"vocab_size": 30, "initializer_range": NaN}', "NaN is not a JSON number"),
        (
            '{"vocab_size": 30, "initializer_range": "0.1"}',
            r"initializer_range = '0.1' is not in \[0, 1e6\)",
        ),
        (
            '{"vocab_size": 30, "initializer_range": -1}',
            r"initializer_range = -1 is not in \[0, 1e6\)",
        ),
        ('{"vocab_size": 30, "hidden_dropout_prob": true}', "dropout probability of True"),
        ('{"vocab_size": 30, "architectures": 5}', "architectures = 5 is not a list of names"),
        ('{"vocab_size": 30, "architectures": [null]}', "architectures = .None. is not a list"),
        ('{"vocab_size": 30, "architectures": [["a"]]}', "architectures = ..'a'.. is not a list"),
        ('{"vocab_size": "30"}', "vocab_size = '30' is not a positive integer"),
        ('{"vocab_size": 30, "num_hidden_layers": 0}', "num_hidden_layers = 0 is not a positive"),
        ('{"vocab_size": 30, "hidden_dropout_prob": 1.0}', "dropout probability of 1.0"),
        ('{"vocab_size": 30, "hidden_size": 10, "num_attention_heads": 4}', "not a multiple"),
        ("{", "bert_config.json: is damaged: Expecting"),
    ]:
        path.write_text(text)
        with pytest.raises(UserError, match=message):
            BertConfig.from_json_file(str(path))


def test_the_model_offers_what_berts_does(session, reference):
    model = modeling_theseus.BertModel(
        make_config(dropout=0.1), True, tf.constant(reference["features/input_ids"])
    )
    session.run(tf.global_variables_initializer())
    shapes = [
        value.shape
        for value in session.run(
            [
                model.get_pooled_output(),
                model.get_sequence_output(),
                model.get_embedding_output(),
                model.get_embedding_table(),
            ]
        )
    ]
    assert shapes == [(3, 16), (3, 12, 16), (3, 12, 16), (30, 16)]
    assert not [v for v in tf.trainable_variables() if "suc_layer" in v.op.name]


def test_a_config_is_checked_when_a_model_is_built(session):
    config = BertConfig(vocab_size=99, hidden_size=37)  # Of 12 heads.
    assert json.loads(config.to_json_string())["hidden_size"] == 37
    with pytest.raises(ValueError, match="hidden_size = 37 is not a multiple"):
        modeling_theseus.BertModel(config, False, tf.zeros([1, 2], tf.int32))


def test_a_scope_without_a_name_is_the_next_one_free(session):
    ids = tf.zeros([1, 2], tf.int32)
    config = make_config()
    for scope in (None, None, "named", "named"):
        modeling_theseus.BertModel(config, False, ids, scope=scope)
    held = [v.op.name.split("/")[0] for v in tf.trainable_variables()]
    assert set(held) == {"bert", "bert_1", "named"}
    assert held.count("bert") == held.count("bert_1") == held.count("named")


def test_all_encoder_layers_are_what_shallower_models_put_out(session, reference):
    ids = tf.constant(reference["features/input_ids"])
    config = make_config()
    deep = modeling_theseus.BertModel(config, False, ids, scope="bert")
    config.num_hidden_layers = 3
    shallow = modeling_theseus.BertModel(config, False, ids, scope="bert")
    session.run(tf.global_variables_initializer())
    layers, expected = session.run([deep.get_all_encoder_layers(), shallow.get_sequence_output()])
    assert len(layers) == 4 and {layer.shape for layer in layers} == {(3, 12, 16)}
    np.testing.assert_allclose(layers[2], expected, rtol=1e-5, atol=1e-6)
    assert deep.all_encoder_layers[-1] is deep.get_sequence_output()


def test_one_hot_embeddings_are_the_same(session, reference):
    ids = tf.constant(reference["features/input_ids"])
    values = [
        modeling_theseus.BertModel(
            make_config(), False, ids, use_one_hot_embeddings=by_one_hot, scope="bert"
        ).get_embedding_output()
        for by_one_hot in (False, True)
    ]
    session.run(tf.global_variables_initializer())
    gathered, multiplied = session.run(values)
    np.testing.assert_allclose(gathered, multiplied, rtol=1e-5, atol=1e-6)
    assert np.abs(gathered).max() > 0.1


@pytest.mark.parametrize("is_training", [False, True])
def test_every_operation_serves_an_output(session, reference, is_training):
    """As google-research/bert's modeling_test asks of its graph."""
    model = modeling_theseus.BertModel(
        make_config(dropout=0.1), is_training, tf.constant(reference["features/input_ids"])
    )
    outputs = [model.get_pooled_output(), model.get_embedding_output()]
    graph = tf.get_default_graph()
    waiting = [tensor.op for tensor in outputs + model.get_all_encoder_layers()]
    waiting.append(tf.global_variables_initializer())
    reached = set()
    while waiting:
        operation = waiting.pop()
        if operation.name not in reached:
            reached.add(operation.name)
            waiting += operation.control_inputs + [tensor.op for tensor in operation.inputs]
    unreached = [op.name for op in graph.get_operations() if op.name not in reached]
    assert [name for name in unreached if not _OF_A_VARIABLE.search(name)] == []


# --- Every place of dropout, read out of a graph in which it alone matters ---

DROPOUT_RATES = {"hidden": 0.5, "attention": 0.25}
# A place -> the rate that it has; those of a layer as scope:variable that gives it ones to drop.
LAYER_PLACES = {
    "attention probabilities": ("attention", "layer_0", "attention/self/value/bias"),
    "attention output": ("hidden", "layer_1", "attention/output/dense/bias"),
    "feed-forward output": ("hidden", "layer_2", "output/dense/bias"),
    "feed-forward output of the next layer": ("hidden", "layer_3", "output/dense/bias"),
}


def dropout_config(**changes):
    values = dict(vocab_size=9, hidden_size=8, num_hidden_layers=1, num_attention_heads=8)
    values.update(intermediate_size=8, max_position_embeddings=4, type_vocab_size=2)
    values.update(initializer_range=0.3)
    values["hidden_dropout_prob"] = DROPOUT_RATES["hidden"]
    values["attention_probs_dropout_prob"] = DROPOUT_RATES["attention"]
    return BertConfig(**dict(values, **changes))


def only_dropout_of_ones(config, key, scope, ones, num_rows):
    """A layer whose output shows what dropout zeroed in a row of ones, bool [rows, 8].

    All its weights are zero, but those that make the row; the layer's normalization of what
    dropout leaves is below zero where it took an element. A row of which it took all eight
    looks like one of which it took none.
    """
    rows, bias = tf.zeros([num_rows, 8]), tf.zeros([num_rows, 1, 1, 1])
    # Of a sequence of one token: its attention's probability is 1, of each of 8 heads.
    output = modeling_theseus.transformer_layer(rows, bias, config, key, scope)
    values = {v.op.name[len(scope) + 1 :]: v for v in tf.trainable_variables(scope + "/")}
    assigned = []
    for name, variable in values.items():
        value = np.zeros(variable.shape.as_list(), np.float32)
        if name == ones or name.endswith("gamma"):
            value[:] = 1.0
        if name == "attention/output/dense/kernel":
            value[:] = np.eye(8)
        assigned.append(variable.assign(value))
    return output < -0.2, assigned


@pytest.fixture(scope="module")
def dropped():
    """A function (step, micro_batch) -> what dropout takes at each place: dict of bool arrays."""
    with tf.Graph().as_default(), tf.Session() as session:
        step, micro_batch = (tf.placeholder(tf.int64, []) for _ in range(2))
        key, config = RandomKey(1, step, micro_batch), dropout_config()
        found, assigned = {}, []
        for place, (kind, scope, ones) in LAYER_PLACES.items():
            # What the attention's probabilities leave passes the attention's output.
            config.hidden_dropout_prob = DROPOUT_RATES["hidden"] if kind == "hidden" else 0.0
            found[place], values = only_dropout_of_ones(config, key, scope, ones, 600)
            assigned += values
        ids = tf.constant(np.random.RandomState(0).randint(0, 9, [200, 3]))
        embeddings = [
            modeling_theseus.BertModel(
                config, is_training, ids, random_key=key if is_training else None, scope="bert"
            ).get_embedding_output()
            for is_training in (True, False)
        ]
        session.run(tf.global_variables_initializer())
        session.run(assigned)
        found["embeddings"] = tf.equal(embeddings[0], 0.0)
        found["embeddings, scaled"] = embeddings[0] / embeddings[1]

        def get(at_step, at_micro_batch=0):
            return session.run(found, {step: at_step, micro_batch: at_micro_batch})

        yield get


@pytest.mark.parametrize("place", sorted(LAYER_PLACES) + ["embeddings"])
def test_dropout_at_each_place_takes_its_rates_share(dropped, place):
    rate = DROPOUT_RATES[LAYER_PLACES[place][0] if place in LAYER_PLACES else "hidden"]
    taken = dropped(0)[place]
    # Where all of a row is taken a layer shows nothing, see `only_dropout_of_ones`.
    share = rate - rate**8 if place in LAYER_PLACES else rate
    assert abs(taken.mean() - share) < 5 * np.sqrt(rate * (1 - rate) / taken.size)


def test_dropout_of_the_embeddings_comes_after_their_normalization(dropped):
    """What is left is the normalized embedding, divided by the share that is kept."""
    scaled = dropped(0)["embeddings, scaled"]
    np.testing.assert_allclose(scaled[scaled != 0], 2.0, rtol=1e-5)


@pytest.mark.parametrize("place", sorted(LAYER_PLACES) + ["embeddings"])
def test_dropouts_mask_is_another_one_in_each_step_and_micro_batch_and_row(dropped, place):
    first, same, next_step, next_part = (
        dropped(*when)[place] for when in [(3, 1), (3, 1), (4, 1), (3, 2)]
    )
    np.testing.assert_array_equal(first, same)
    first = first.reshape([-1, 8])
    half = len(first) // 2
    others = {"step": next_step.reshape([-1, 8]), "micro-batch": next_part.reshape([-1, 8])}
    others.update({"row": np.roll(first, 3, axis=0), "half": np.roll(first, half, axis=0)})
    rate = DROPOUT_RATES[LAYER_PLACES[place][0] if place in LAYER_PLACES else "hidden"]
    for what, other in others.items():
        # Independent masks differ at 2 rate (1 - rate) of their elements.
        assert (first != other).mean() > rate * (1 - rate), what


def test_dropouts_mask_is_another_one_at_each_place(dropped):
    masks = dropped(0)
    for one, other in itertools.combinations([p for p in LAYER_PLACES if "feed" in p], 2):
        assert (masks[one] != masks[other]).mean() > 0.4
    assert (masks["attention output"] != masks["feed-forward output"]).mean() > 0.4


def test_dropout_of_the_pooled_output_takes_its_rates_share_in_each_step_anew(session, reference):
    """The logit is a number whose binary digits are the elements that dropout kept."""
    config, step = make_config(dropout=0.25), tf.placeholder(tf.int64, [])
    config.hidden_dropout_prob = 0.5
    logits, _ = build_loss(reference, config, [True, True], RandomKey(1, step))
    session.run(tf.global_variables_initializer())
    values = {v.op.name: v for v in tf.trainable_variables()}
    values["bert/pooler/dense/kernel"].load(np.zeros([16, 16]), session)
    values["bert/pooler/dense/bias"].load(np.full([16], 20.0), session)  # tanh(20) is 1.
    values["output_weights"].load(np.tile(2.0 ** np.arange(16), [2, 1]), session)
    found = np.stack([session.run(logits, {step: t})[:, 0] for t in range(20)])
    kept = (found[..., np.newaxis].astype(np.int64) // 2 >> np.arange(16)) & 1
    # What is left is divided by the share that is kept, so the logit is even.
    np.testing.assert_array_equal(found, 2 * (kept << np.arange(16)).sum(axis=-1))
    assert abs(kept.mean() - 0.5) < 5 * 0.5 / np.sqrt(kept.size)
    assert len(np.unique(found)) == found.size


def test_layer_normalization_of_tiny_values_knows_its_epsilon(session):
    """1e-12 (google-research/bert) vanishes beside a variance of 1e-8; 1e-5 would not."""
    row = tf.constant([[1e-4, -1e-4] * 4])
    with tf.variable_scope("x", reuse=tf.AUTO_REUSE):
        outputs = [
            layers.layer_norm(row),
            layers.add_and_norm(row, tf.zeros([1, 8]), 0.0, None),
            layers.add_and_norm(row, tf.zeros([1, 8]), 0.0, RandomKey(1, 0)),
        ]
    session.run(tf.global_variables_initializer())
    for output in session.run(outputs):
        np.testing.assert_allclose(output, [[1.0, -1.0] * 4], rtol=1e-3)


def test_layer_normalizations_epsilon_is_added_to_the_variance(session):
    """Of a variance of 1e-12 it makes the double: the values become 1 / sqrt(2)."""
    row = tf.constant([[1e-6, -1e-6] * 4])
    with tf.variable_scope("x", reuse=tf.AUTO_REUSE):
        outputs = [
            layers.layer_norm(row),
            layers.add_and_norm(row, tf.zeros([1, 8]), 0.0, RandomKey(1, 0)),
        ]
    session.run(tf.global_variables_initializer())
    for output in session.run(outputs):
        np.testing.assert_allclose(output, np.array([[1.0, -1.0] * 4]) / np.sqrt(2), rtol=1e-3)


def test_padding_has_an_attention_of_0(session):
    """However large the scores: BERT's stay far below 10,000."""
    bias = modeling_theseus.create_attention_bias(tf.constant([[1, 1, 0]]))
    scores = tf.constant([[[[0.0, 5.0, 90.0]]]])
    probabilities = session.run(tf.nn.softmax(scores + bias))[0, 0, 0]
    assert probabilities[2] == 0.0 and probabilities[1] > 0.99
