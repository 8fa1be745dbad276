"""The graph against a reference BERT, and module replacing against layers stacked by hand."""

import itertools
import re

import numpy as np
import pytest
import tensorflow.compat.v1 as tf

import classifier
import modeling_theseus
import weights
from conftest import assert_close, assert_gradients_close
from errors import UserError
from modeling_theseus import BertConfig, RandomKey

# The shape in golden/make_reference_bert.py.
GROUPS = [[0, 1], [2, 3]]
PATHS = list(itertools.product([False, True], repeat=2))


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
    logits = modeling_theseus.classifier(features, config, 2, GROUPS, path, random_key)
    labels = tf.constant(reference["features/label_ids"])
    return logits, modeling_theseus.classification_loss(logits, labels, 3)


@pytest.mark.parametrize("hidden_act", ["gelu_erf", "gelu_tanh"])
@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("form", ["inference", "training", "training on a tensor as path"])
def test_logits_and_gradients_equal_the_reference(session, reference, hidden_act, path, form):
    given = tf.constant(path) if "tensor" in form else list(path)
    random_key = RandomKey(1, 2) if "training" in form else None
    logits, loss = build_loss(reference, make_config(hidden_act), given, random_key)
    variables = tf.trainable_variables()
    gradients = [tf.convert_to_tensor(g) for g in tf.gradients(loss, variables)]
    load_reference_weights(session, reference)

    found = session.run([logits, loss, gradients])
    key = "%s/%s/" % (hidden_act, "".join(str(int(replaced)) for replaced in path))
    assert_close(found[0], reference[key + "logits"], 2e-5)
    assert_close(found[1], reference[key + "loss"], 2e-5, np.abs(found[0]).max())
    gradients = {v.op.name: gradient for v, gradient in zip(variables, found[2])}
    start = key + "gradients/"
    expected = {n[len(start) :]: array for n, array in reference.items() if n.startswith(start)}
    for name in set(gradients) - set(expected):  # Not on the path: a gradient, of zero.
        assert not gradients.pop(name).any(), name
    assert_gradients_close(gradients, expected)


def test_the_two_gelus_differ(reference):
    assert not np.allclose(reference["gelu_erf/11/logits"], reference["gelu_tanh/11/logits"], 1e-5)


@pytest.mark.parametrize("path", PATHS)
def test_a_forced_path_is_the_same_layers_stacked_by_hand(session, reference, path):
    config, key = make_config(dropout=0.3), RandomKey(5, 7)
    hidden = tf.random.stateless_normal([3 * 12, 16], seed=[1, 2])
    bias = modeling_theseus.create_attention_bias(tf.constant(reference["features/input_mask"]))
    with tf.variable_scope("bert/encoder", reuse=tf.AUTO_REUSE):
        replaced = modeling_theseus.transformer_model_theseus(
            hidden, bias, config, GROUPS, tf.constant(path), key
        )
        by_hand = hidden
        for module, is_successor in enumerate(path):
            names = ["layer_%d" % number for number in GROUPS[module]]
            for name in ["suc_layer_%d" % module] if is_successor else names:
                by_hand = modeling_theseus.transformer_layer(by_hand, bias, config, key, name)
    load_reference_weights(session, reference)
    assert_close(*session.run([replaced, by_hand]))


@pytest.mark.parametrize("modules", [[[0], [1, 2, 3]], [[0, 1, 2], [3]]])
@pytest.mark.parametrize("path", PATHS)
def test_unequal_modules_on_a_forced_path_are_a_plain_bert_of_those_layers(
    reference, modules, path
):
    layers = []
    groups = modeling_theseus.groups_of_sizes(4, [len(numbers) for numbers in modules])
    for module, is_successor in enumerate(path):
        names = ["layer_%d" % number for number in modules[module]]
        layers += ["suc_layer_%d" % module] if is_successor else names
    with classifier.new_session() as session:
        logits = modeling_theseus.classifier(
            constants(reference), make_config(), 2, groups, tf.constant(path)
        )
        load_reference_weights(session, reference)
        found = session.run(logits)

    config = make_config()
    config.num_hidden_layers = len(layers)
    plain = modeling_theseus.equal_groups(len(layers), len(layers))
    with classifier.new_session() as session:
        logits = modeling_theseus.classifier(
            constants(reference), config, 2, plain, modeling_theseus.predecessor_path(plain)
        )
        held = {}
        for variable in tf.global_variables():
            source = re.sub(r"layer_(\d+)", lambda n: layers[int(n.group(1))], variable.op.name)
            held[variable.op.name] = reference["weights/" + source]
        weights.load(session, tf.global_variables(), held, {name: name for name in held})
        assert_close(found, session.run(logits))


@pytest.mark.parametrize("rate", [0.0, 1.0])
def test_rate_1_is_the_successor_and_rate_0_the_predecessor(reference, rate):
    not_taken = "/layer_" if rate else "/suc_layer_"

    def run(path):
        with classifier.new_session() as session:
            if path is None:
                path = modeling_theseus.draw_path(3, 9, tf.constant(rate), len(GROUPS))
            _, loss = build_loss(reference, make_config(dropout=0.2), path, RandomKey(3, 9))
            variables = [v for v in tf.trainable_variables() if not_taken not in v.op.name]
            gradients = [tf.convert_to_tensor(g) for g in tf.gradients(loss, variables)]
            load_reference_weights(session, reference)
            loss, gradients = session.run([loss, gradients])
            return loss, {v.op.name: gradient for v, gradient in zip(variables, gradients)}

    alone = modeling_theseus.successor_path if rate else modeling_theseus.predecessor_path
    (found_loss, found), (loss, expected) = run(None), run(alone(GROUPS))
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
        lambda t: modeling_theseus.draw_path(1, t, tf.constant(rate), num_modules),
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
        return session.run(modeling_theseus.draw_path(seed, step, tf.constant(0.5), 64)).tolist()

    first = draw(1, 1)
    tf.random.stateless_uniform([3], seed=[1, 1])
    assert draw(1, 1) == first
    assert draw(1, 2) != first and draw(2, 1) != first


def test_dropout_zeroes_its_share_scales_the_rest_and_differs_by_place_and_step(session):
    def mask(scope, step):
        with tf.variable_scope(scope):
            ones = tf.ones([200, 50])
            return session.run(modeling_theseus.dropout(ones, 0.2, RandomKey(1, step)))

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
        modeling_theseus.classifier(features, config, 2, GROUPS, [False, True])
        for features in (short, long)
    ]
    load_reference_weights(session, reference)
    assert_close(*session.run(logits))


def test_initial_values_depend_on_the_seed_and_the_name_only():
    def initial_values(seed, path):
        with tf.Graph().as_default(), tf.Session() as session:
            tf.set_random_seed(seed)
            features = modeling_theseus.feature_placeholders()
            modeling_theseus.classifier(features, make_config(), 2, GROUPS, path)
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
    modeling_theseus.classifier(features, make_config(), 2, GROUPS, path)
    variables = tf.trainable_variables()
    trained = modeling_theseus.trained_variables(scope, variables)
    words = {modeling_theseus.variable_group(v.op.name).split(" ")[0] for v in trained}
    assert words == groups
    assert len(variables) == 5 + 6 * 16 + 2 + 2


@pytest.mark.parametrize("start", [None, [0, 3]])
def test_one_checkpoint_fills_predecessor_and_successor(session, tmp_path, start):
    """The published way: two assignment maps for tf.train.init_from_checkpoint."""
    features = modeling_theseus.feature_placeholders()
    modeling_theseus.classifier(features, make_config(), 2, GROUPS, [False, False])
    session.run(tf.global_variables_initializer())
    prefix = tf.train.Saver().save(session, str(tmp_path / "bert_model.ckpt"))
    variables = tf.trainable_variables()
    held = {v.op.name: value for v, value in zip(variables, session.run(variables))}

    with tf.Graph().as_default(), tf.Session() as other:
        features = modeling_theseus.feature_placeholders()
        path = tf.placeholder(tf.bool, [2])
        modeling_theseus.classifier(features, make_config(), 2, GROUPS, path)
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
    with pytest.raises(UserError, match="--suc_layers: a successor of 5 layers cannot start as"):
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


def test_a_bad_config_is_refused_by_name(tmp_path):
    path = tmp_path / "bert_config.json"
    for text, message in [
        ('{"vocab_size": 30, "hidden_act": "swish"}', "swish is none of"),
        ('{"hidden_size": 16}', "vocab_size is missing"),
        ("5", "vocab_size is missing"),
        ('{"vocab_size": "30"}', "vocab_size = '30' is no positive integer"),
        ('{"vocab_size": 30, "num_hidden_layers": 0}', "num_hidden_layers = 0 is no positive"),
        ('{"vocab_size": 30, "hidden_dropout_prob": 1.0}', "dropout probability of 1.0"),
        ('{"vocab_size": 30, "hidden_size": 10, "num_attention_heads": 4}', "no multiple"),
        ("{", "bert_config.json: cannot read"),
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


def test_the_loss_is_a_sum_over_the_whole_batch(session):
    logits = tf.constant([[0.0, 0.0], [1.0, 0.0]])
    loss = modeling_theseus.classification_loss(logits, tf.constant([0, 0]), 4)
    expected = (np.log(2.0) + np.log1p(np.exp(-1.0))) / 4
    assert_close(session.run(loss), expected)
    nothing = modeling_theseus.classification_loss(logits[:0], tf.constant([], tf.int32), 4)
    assert session.run(nothing) == 0.0
