"""Tests of training with several devices and workers: the results are those of one process."""

import json
import os
import re
import signal
import socket
import time

import numpy as np
import pytest
import tensorflow.compat.v1 as tf

import forks
from conftest import (
    SCRIPT,
    SMALL_BERT,
    make_config,
    needs_tensorflow_2,
    refused,
    write_bert,
    write_pairs,
)
from modeling_theseus import BertConfig
from theseus.checkpoints import weights
from theseus.distribution import peers
from theseus.distribution.cluster import check_used_port, read_cluster
from theseus.distribution.replicas import Replicas
from theseus.distribution.workers import Workers
from theseus.errors import UserError
from theseus.inputs import batches
from theseus.inputs.encoding import EncodedExamples
from theseus.inputs.tasks import TASKS
from theseus.model import layers
from theseus.model.random_key import RandomKey
from theseus.runs.stage_folder import StageFolder
from theseus.stage import PREDECESSOR
from theseus.training import curves, graph
from theseus.training.steps import StepRunner

TWO = ["localhost:2222", "localhost:2223"]


# --- TF_CONFIG ---


def tf_config(cluster, role="worker", index=0):
    return {"TF_CONFIG": json.dumps({"cluster": cluster, "task": {"type": role, "index": index}})}


@pytest.mark.parametrize(
    "cluster, role, index, addresses, rank",
    [
        ({"worker": TWO}, "worker", 1, TWO, 1),
        ({"chief": TWO[:1], "worker": TWO[1:]}, "chief", 0, TWO, 0),
        ({"chief": TWO[:1], "worker": TWO[1:]}, "worker", 0, TWO, 1),
    ],
)
def test_the_chief_comes_first_then_the_workers(cluster, role, index, addresses, rank):
    found = read_cluster(tf_config(cluster, role, index))
    assert (found.addresses, found.rank) == (addresses, rank)
    assert found.port == int(addresses[rank].split(":")[1])


@pytest.mark.parametrize(
    "environment, message",
    [
        ({}, "multi_worker needs it"),
        ({"TF_CONFIG": "{"}, "is not valid JSON"),
        ({"TF_CONFIG": "[" * 100000}, "is not valid JSON"),
        ({"TF_CONFIG": "[]"}, "holds no object cluster"),
        ({"TF_CONFIG": '{"cluster": {"worker": []}}'}, "holds no object task"),
        (tf_config({"worker": TWO}, index=2), "2 of type worker.* no index 2"),
        (tf_config({"worker": TWO}, index=-1), "no index -1"),
        (tf_config({"worker": TWO}, index="0"), "the index '0' is not a whole number"),
        (tf_config({"worker": TWO}, index=True), "the index True is not a whole number"),
        (tf_config({"worker": TWO}, "chief"), "'chief' is not in the cluster"),
        (tf_config({"worker": TWO}, ["worker"]), r"\['worker'\] is not in the cluster"),
        (tf_config({"worker": TWO, "ps": TWO}), "only chief and worker, found ps"),
        (tf_config({"worker": TWO + TWO[:1]}), "an address occurs twice"),
        (tf_config({"chief": TWO}, "chief"), "one chief"),
        (tf_config({"worker": "localhost:2222"}), "worker is not a list"),
        (tf_config({"worker": ["localhost"]}), "expected an address host:port, found 'localhost'"),
        (tf_config({"worker": ["localhost:0"]}), "found 'localhost:0'"),
        (tf_config({"worker": ["localhost:65536"]}), "found 'localhost:65536'"),
        (tf_config({"worker": [2222]}), "expected an address host:port, found 2222"),
    ],
)
def test_a_wrong_tf_config_is_one_line(environment, message):
    with pytest.raises(UserError, match="^TF_CONFIG: [^\n]*" + message):
        read_cluster(environment)


def test_flags_that_cannot_be_meant_are_one_line(random_data, monkeypatch):
    monkeypatch.delenv("TF_CONFIG", raising=False)
    folders = "--data_dir=. --bert_pretrained_model=bert "
    message = refused(folders + "--do_train --distribution=multi_worker", random_data, monkeypatch)
    assert "TF_CONFIG: is not set; --distribution=multi_worker needs it" in message
    message = refused(folders + "--do_eval --distribution=mirrored", random_data, monkeypatch)
    assert "--distribution needs --do_train" in message


@pytest.mark.skipif(tf.__version__.startswith("2."), reason="of TensorFlow 1")
def test_tensorflow_1_is_refused(random_data, monkeypatch):
    flags = "--data_dir=. --bert_pretrained_model=bert --suc_layers=2 --do_train "
    flags += "--distribution=mirrored"
    assert "--distribution=mirrored: needs TensorFlow 2" in refused(flags, random_data, monkeypatch)


def free_ports(count):
    """Returns ports that nobody listens at."""
    probes = [socket.socket() for _ in range(count)]
    for probe in probes:
        probe.bind(("", 0))
    ports = [probe.getsockname()[1] for probe in probes]
    for probe in probes:
        probe.close()
    return ports


def test_a_port_in_use_is_one_line():
    with socket.socket() as other:
        other.bind(("", 0))
        other.listen(1)
        address = "localhost:%d" % other.getsockname()[1]
        with pytest.raises(UserError, match="%s, this worker's address, cannot be used" % address):
            check_used_port(read_cluster(tf_config({"worker": [address]})))
    check_used_port(read_cluster(tf_config({"worker": [address]})))


@needs_tensorflow_2
def test_a_peer_that_never_comes_is_one_line():
    addresses = ["localhost:%d" % port for port in free_ports(2)]
    cluster = read_cluster(tf_config({"worker": addresses}))
    start = time.monotonic()
    with pytest.raises(
        UserError, match=r"worker 1 \(%s\) did not answer within 2 s" % addresses[1]
    ):
        peers.Peers(cluster, 2.0).wait_for_all()
    assert time.monotonic() - start > 1.5


@needs_tensorflow_2
def test_who_listens_but_says_nothing_does_not_answer():
    with socket.socket() as silent:
        silent.bind(("", 0))
        silent.listen(5)
        assert not peers.answers("localhost:%d" % silent.getsockname()[1], 1.0)


# --- Replicas of one process ---


def test_a_batch_is_shared_in_about_equal_parts():
    shares = batches.share_batch(np.arange(7), 3)
    assert [list(share) for share in shares] == [[0, 1, 2], [3, 4], [5, 6]]
    assert [len(share) for share in batches.share_batch(np.arange(1), 3)] == [1, 0, 0]


def two_devices():
    """Returns Replicas on two devices of this machine's processor."""
    return Replicas(tf.distribute.MirroredStrategy(["/cpu:0", "/cpu:1"]), num_cpus=2)


def test_one_device_is_its_own_chief():
    replicas = Replicas()
    assert (replicas.count, list(replicas.ids), replicas.is_chief) == (1, [0], True)
    assert replicas.build(lambda number: {"number": number}) == [{"number": 0}]
    with replicas.session(False) as session:
        assert Workers(replicas, session).exchange(3.5) == [3.5]
        assert Workers(replicas, session).any(False) is False


@needs_tensorflow_2
def test_each_device_builds_its_part_under_its_own_number():
    replicas = two_devices()
    with replicas.session(False) as session:
        parts = replicas.build(lambda number: {"number": number + 0, "none": None})
        assert session.run([part["number"] for part in parts]) == [0, 1]
        devices = [part["number"].device for part in parts]
        assert [device.upper()[-5:] for device in devices] == ["CPU:0", "CPU:1"]


# --- Commands ---

FLAGS = (
    "--do_train --suc_layers=1 --data_dir=. --num_train_epochs=3 --train_batch_size=32 "
    "--learning_rate=1e-3 --max_seq_length=32 --log_steps=1 --cache_dir="
).split()

_MIRRORED = """
import sys
import tensorflow.compat.v1 as tf
cpu = tf.config.list_physical_devices("CPU")[0]
tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)
sys.path.insert(0, %r)
import run_classifier
run_classifier.run()
"""


@pytest.fixture(scope="module")
def pairs(tmp_path_factory):
    """A folder with pairs, whose last batch is short, and a BERT without dropout and one with."""
    root = tmp_path_factory.mktemp("pairs")
    for split, count, seed in [("train", 257, 1), ("dev", 40, 2)]:
        write_pairs(root / (split + ".txt"), count, seed)
    values = dict(SMALL_BERT, num_hidden_layers=1, initializer_range=0.2)
    write_bert(
        root / "bert", dict(values, hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0)
    )
    write_bert(root / "dropping", dict(values, hidden_dropout_prob=0.3))
    return root


def begin(pairs, arguments, program=(SCRIPT,), **environment):
    """Starts a training; returns the forks.Fork."""
    return forks.Fork(list(program) + FLAGS + arguments, pairs, **environment)


class Pair(object):
    """Two workers on this machine, of which worker 0 writes into `out`."""

    def __init__(self, pairs, out, *arguments, of_worker_1=()):
        addresses = ["localhost:%d" % port for port in free_ports(2)]
        arguments = ["--distribution=multi_worker", "--peer_timeout_s=60"] + list(arguments)
        own = [["--stage_1_outputdir=" + out], ["--stage_1_outputdir=of_worker_1"]]
        own[1] += of_worker_1
        self.workers = [
            begin(pairs, arguments + own[rank], **tf_config({"worker": addresses}, index=rank))
            for rank in (0, 1)
        ]

    def said(self, rank):
        return self.workers[rank].errors()

    def wait(self):
        """Returns the exit statuses."""
        return [worker.wait() for worker in self.workers]


def values_of(folder):
    """Returns what the last checkpoint of a folder holds."""
    return dict(weights.CheckpointWeights(StageFolder(str(folder)).checkpoint("last")))


def losses_of(folder):
    return [loss for _, loss in curves.read_scalars(str(folder))["loss"]]


def assert_same_training(found, expected):
    assert losses_of(found) == losses_of(expected)
    found, expected = values_of(found), values_of(expected)
    assert sorted(found) == sorted(expected)
    for name, value in expected.items():
        np.testing.assert_array_equal(found[name], value, err_msg=name)


def assert_close_training(found, expected):
    """Compares losses and weights, which differ by the order of the sums alone."""
    np.testing.assert_allclose(losses_of(found), losses_of(expected), rtol=0, atol=1e-5)
    found, expected = values_of(found), values_of(expected)
    assert sorted(found) == sorted(expected)
    for name, value in expected.items():
        np.testing.assert_allclose(found[name], value, rtol=0, atol=1e-5, err_msg=name)


def begin_mirrored(pairs, arguments, out):
    """Starts a training on two devices of one process."""
    program = ["-c", _MIRRORED % os.path.dirname(SCRIPT)]
    arguments = arguments + ["--distribution=mirrored", "--stage_1_outputdir=" + out]
    return begin(pairs, arguments, program)


@needs_tensorflow_2
def test_two_devices_compute_what_one_does(pairs):
    """Also with micro-batches and a moving average."""
    common = ["--bert_pretrained_model=bert", "--gradient_accumulation_steps=3", "--ema_decay=0.5"]
    one = begin(pairs, common + ["--stage_1_outputdir=one_device"])
    mirrored = begin_mirrored(pairs, common, "mirrored")
    assert mirrored.wait() == 0, mirrored.errors()
    assert "mirrored on 2 devices: /CPU:0 /CPU:1" in mirrored.errors()
    assert one.wait() == 0, one.errors()
    assert_close_training(pairs / "mirrored", pairs / "one_device")


@needs_tensorflow_2
def test_two_workers_compute_what_one_process_does_also_after_a_death(pairs):
    """One test, since pytest's own workers would each run what several need.

    The one process has two devices, since masks of dropout, which there are, go by replicas.
    """
    one = begin_mirrored(pairs, ["--bert_pretrained_model=dropping"], "alone")
    pair = Pair(pairs, "two_workers", "--bert_pretrained_model=dropping", "--do_eval")
    assert pair.wait() == [0, 0], pair.said(0) + pair.said(1)
    assert one.wait() == 0, one.errors()
    assert len(losses_of(pairs / "alone")) == 27  # Of 32 rows, the last one of an epoch of 1.
    assert_close_training(pairs / "two_workers", pairs / "alone")
    # The chief alone evaluates and writes.
    assert (pairs / "two_workers" / "eval_results.json").exists()
    assert not (pairs / "of_worker_1").exists()

    # Saving at every step makes it last.
    flags = ["--bert_pretrained_model=dropping", "--save_checkpoints_steps=1"]
    flags += ["--peer_timeout_s=30"]  # Both come within it on a slow machine too.
    pair = Pair(pairs, "killed", *flags)
    pair.workers[0].wait_for("step 3/")
    pair.workers[1].kill()
    assert pair.wait() == [1, -signal.SIGKILL], pair.said(0)  # It does not wait for ever.
    line = r"run_classifier.py: worker 1 \(localhost:[0-9]+\) no longer answers;"
    assert len(re.findall(line, pair.said(0))) == 1 and "Traceback" not in pair.said(0)
    assert len(losses_of(pairs / "killed")) < 27
    again = Pair(pairs, "killed", *flags)
    assert again.wait() == [0, 0], again.said(0)
    assert "resuming from" in again.said(0)
    assert_same_training(pairs / "killed", pairs / "two_workers")


@needs_tensorflow_2
def test_each_replica_draws_its_own_masks_always_the_same():
    def draw(number):
        return layers.draw_keep_mask(tf.zeros([64]), 0.5, RandomKey(1, 3, 0, number))

    found = []
    for _ in range(2):
        replicas = two_devices()
        with replicas.session(False) as session:
            found.append(session.run(replicas.build(draw)))
    np.testing.assert_array_equal(found[0], found[1])
    assert (found[0][0] != found[0][1]).any()


@needs_tensorflow_2
@pytest.mark.parametrize("rate", [0.0, 0.5])
def test_replicas_with_the_same_row_differ_by_their_masks_alone(monkeypatch, rate):
    """The loss of two is the mean of that of each replica by itself."""
    values = dict(SMALL_BERT, num_hidden_layers=1, initializer_range=0.3)
    values.update(hidden_dropout_prob=rate, attention_probs_dropout_prob=rate)
    config = BertConfig.from_dict(values)
    settings = make_config(
        PREDECESSOR,
        learning_rate=1e-3,
        num_train_epochs=1,
        warmup_proportion=0.0,
        train_batch_size=2,
        seed=1,
    )
    rows = EncodedExamples([2, 7, 3, 9, 8, 3] * 2, [6, 6], [3, 3], [1, 1])

    def loss(replicas, as_replica=None):
        if as_replica is not None:
            monkeypatch.setattr(
                graph, "RandomKey", lambda *parts: RandomKey(*parts[:3], as_replica)
            )
        with replicas.session(False) as session:
            built = graph.build_graph(settings, config, TASKS["lcqmc_pair"], [[0]], 4, replicas)
            session.run(tf.global_variables_initializer())
            runner = StepRunner(session, built, rows, 1, replicas)
            return runner.run(np.arange(replicas.count)).loss

    found = loss(two_devices())
    first, second = (loss(Replicas(), as_replica) for as_replica in (0, 1))
    np.testing.assert_allclose(found, (first + second) / 2, rtol=0, atol=1e-5)
    assert (abs(first - second) > 0.01) == (rate > 0)


def test_workers_that_train_something_else_are_refused(session, monkeypatch):
    workers = Workers(Replicas(), session)
    monkeypatch.setattr(workers, "exchange", lambda number: [number, number, number])
    workers.check_same_run("ab" * 32)
    monkeypatch.setattr(workers, "exchange", lambda number: [number, number, number + 1])
    with pytest.raises(UserError, match="^worker 2 has other data, weights or flags than"):
        workers.check_same_run("ab" * 32)
