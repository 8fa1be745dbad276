"""Tests of a folder's event file: it keeps the events that count, after any interruption."""

import contextlib
import json
import os
import resource
import time

import numpy as np
import pytest
import tensorflow.compat.v1 as tf

from theseus.training import curves
from theseus.training.steps import StepValues


def event_files(path):
    return sorted(name for name in os.listdir(str(path)) if "tfevents" in name)


def raw_scalars(path):
    """Returns the scalars of all files that any reader would take for event files."""
    found = {}
    for name in event_files(path):
        for event in tf.train.summary_iterator(str(path / name)):
            for value in event.summary.value:
                found.setdefault(value.tag, []).append((event.step, value.simple_value))
    return found


def write(path, steps, begin=0, evaluated=(), evaluations=()):
    """Writes a loss of step / 2 at each step, and an accuracy at each of `evaluations`."""
    with curves.EventWriter(str(path), begin, evaluated) as writer:
        for step in steps:
            writer.add(step, {"loss": step / 2})
            if step in evaluations:
                writer.add(step, {"dev/accuracy": 0.5, "dev/f1": 0.25})


def lines(path):
    with open(str(path / "metrics.jsonl"), encoding="utf-8") as reader:
        return [json.loads(line) for line in reader]


def losses(*steps):
    return [(step, step / 2) for step in steps]


def test_each_step_can_be_read_at_once_and_by_readers_of_tensorflow(tmp_path):
    with curves.EventWriter(str(tmp_path), 0, []) as writer:
        for step in (1, 2):
            writer.add(step, {"loss": step / 2, "rate": 0.25})
            assert raw_scalars(tmp_path)["loss"] == losses(1, 2)[:step]
        (name,) = event_files(tmp_path)
        header, first, _ = tf.train.summary_iterator(str(tmp_path / name))
    assert header.file_version == "brain.Event:2"
    assert [value.tag for value in first.summary.value] == ["loss", "rate"]
    assert time.time() - 60 < first.wall_time <= time.time()
    assert curves.read_scalars(str(tmp_path)) == raw_scalars(tmp_path)


def test_a_resumed_run_drops_the_steps_that_it_takes_again(tmp_path):
    write(tmp_path, [1, 2, 3, 4])
    write(tmp_path, [3, 4, 5], begin=2)
    assert raw_scalars(tmp_path) == {"loss": losses(1, 2, 3, 4, 5)}
    write(tmp_path, [1], begin=0)
    assert raw_scalars(tmp_path) == {"loss": losses(1)}


def test_an_evaluation_that_the_state_does_not_know_is_dropped(tmp_path):
    write(tmp_path, [1, 2, 3, 4], evaluations=[2, 4])
    write(tmp_path, [], begin=4, evaluated=[2])
    found = raw_scalars(tmp_path)
    assert found["loss"] == losses(1, 2, 3, 4)
    assert found["dev/accuracy"] == [(2, 0.5)] and found["dev/f1"] == [(2, 0.25)]


def test_each_run_gives_the_file_a_later_name_even_if_the_clock_stands(tmp_path, monkeypatch):
    monkeypatch.setattr(curves.time, "time", lambda: 1.7e9)
    for number in range(3):
        write(tmp_path, [number + 1], begin=number)
        assert event_files(tmp_path) == ["events.out.tfevents.170000000%d" % number]
    assert raw_scalars(tmp_path) == {"loss": losses(1, 2, 3)}


def test_a_record_cut_off_anywhere_is_the_end_and_no_error(tmp_path):
    write(tmp_path, [1, 2])
    (name,) = event_files(tmp_path)
    two_steps = os.path.getsize(str(tmp_path / name))
    write(tmp_path, [3], begin=2)
    (name,) = event_files(tmp_path)
    content = (tmp_path / name).read_bytes()
    assert len(content) > two_steps + 16
    for size in range(two_steps, len(content)):
        (tmp_path / name).write_bytes(content[:size])
        assert curves.read_scalars(str(tmp_path)) == {"loss": losses(1, 2)}
    write(tmp_path, [3], begin=2)
    assert raw_scalars(tmp_path) == {"loss": losses(1, 2, 3)}


def test_bytes_that_are_no_record_are_the_end_and_no_error(tmp_path):
    write(tmp_path, [1, 2])
    (name,) = event_files(tmp_path)
    with open(str(tmp_path / name), "ab") as file:
        file.write(bytes(1000))
    write(tmp_path, [3], begin=2)
    assert raw_scalars(tmp_path) == {"loss": losses(1, 2, 3)}


@pytest.mark.parametrize("place", ["write", "rename", "remove"])
def test_a_cut_while_the_file_is_replaced_loses_and_doubles_nothing(tmp_path, monkeypatch, place):
    def crash(*_):
        raise RuntimeError("crash")

    write(tmp_path, [1, 2, 3])
    with monkeypatch.context() as patch, pytest.raises(RuntimeError):
        if place == "write":
            patch.setattr(curves.EventWriter, "_write", crash)
        else:
            patch.setattr(curves.os, place, crash)
        write(tmp_path, [3], begin=2)
    kept = losses(1, 2) if place == "remove" else losses(1, 2, 3)
    assert curves.read_scalars(str(tmp_path)) == {"loss": kept}
    write(tmp_path, [3, 4], begin=2)
    assert raw_scalars(tmp_path) == {"loss": losses(1, 2, 3, 4)}
    assert [line["step"] for line in lines(tmp_path)] == [1, 2, 3, 4]
    assert sorted(os.listdir(str(tmp_path))) == event_files(tmp_path) + ["metrics.jsonl"]


def test_the_lines_are_what_the_events_hold(tmp_path):
    with curves.EventWriter(str(tmp_path), 0, []) as writer:
        for step in (1, 2):
            writer.add(step, {"loss": np.float32(0.1), "rate": float("nan")})
            writer.add(step, {"dev/accuracy": 1 / 3})
            assert len(lines(tmp_path)) == 2 * step
    assert abs(time.time() - lines(tmp_path)[0].pop("time")) < 60
    expected = [{"step": 1, "loss": 0.1, "rate": None}, {"step": 1, "dev/accuracy": 0.33333334}]
    write(tmp_path, [2], begin=1, evaluated=[1])
    found = lines(tmp_path)
    for line in found:
        del line["time"]
    assert found == expected + [{"step": 2, "loss": 1.0}]


def test_event_files_of_other_programs_stay(tmp_path):
    other = tmp_path / "events.out.tfevents.1700000000.host.1.v2"
    other.write_bytes(b"other")
    write(tmp_path, [1])
    write(tmp_path, [2], begin=1)
    assert other.read_bytes() == b"other"
    assert curves.read_scalars(str(tmp_path)) == {"loss": losses(1, 2)}


@contextlib.contextmanager
def largest_file(size):
    """No file can be written beyond `size` bytes, as on a full disk."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_an_error_of_writing_warns_in_one_line_and_raises_nothing(tmp_path, monkeypatch):
    warnings = []
    monkeypatch.setattr(curves.logging, "warning", lambda form, *v: warnings.append(form % v))
    with curves.EventWriter(str(tmp_path), 0, []) as writer:
        writer.add(1, {"loss": 0.5})
        with largest_file(os.path.getsize(writer._path) + 10):
            for step in (2, 3):
                writer.add(step, {"loss": step / 2})
    (line,) = warnings
    path = str(tmp_path / event_files(tmp_path)[0])
    assert line.startswith(
        path + ": the curves can no longer be written; training continues without them: "
    )
    assert "\n" not in line and "File too large" in line
    assert curves.read_scalars(str(tmp_path)) == {"loss": losses(1)}
    write(tmp_path, [2], begin=1)
    assert raw_scalars(tmp_path) == {"loss": losses(1, 2)}


def test_a_full_disk_while_the_file_is_replaced_leaves_it_as_it_was(tmp_path, monkeypatch):
    warnings = []
    monkeypatch.setattr(curves.logging, "warning", lambda form, *v: warnings.append(form % v))
    write(tmp_path, range(1, 6))
    with largest_file(100):
        write(tmp_path, [4], begin=3)
    assert len(warnings) == 1 and "events.tmp: the curves can no longer" in warnings[0]
    assert raw_scalars(tmp_path) == {"loss": losses(1, 2, 3, 4, 5)}
    assert sorted(os.listdir(str(tmp_path))) == event_files(tmp_path) + ["metrics.jsonl"]
    assert [line["step"] for line in lines(tmp_path)] == [1, 2, 3, 4, 5]


def test_a_file_that_cannot_take_its_name_is_not_left(tmp_path, monkeypatch):
    def fail(*_):
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(curves.os, "rename", fail)
    write(tmp_path, [1, 2])
    assert os.listdir(str(tmp_path)) == []


def test_a_file_that_cannot_be_begun_warns_in_one_line(tmp_path, monkeypatch):
    warnings = []
    monkeypatch.setattr(curves.logging, "warning", lambda form, *v: warnings.append(form % v))
    write(tmp_path / "missing", [1, 2])
    (line,) = warnings
    assert "missing/events.tmp: the curves can no longer be written" in line and "\n" not in line


def test_a_file_that_is_removed_meanwhile_does_not_end_the_training(tmp_path, monkeypatch):
    warnings = []
    monkeypatch.setattr(curves.logging, "warning", lambda form, *v: warnings.append(form % v))
    with curves.EventWriter(str(tmp_path), 0, []) as writer:
        writer.add(1, {"loss": 0.5})
        os.remove(writer._path)
        writer.sync()
        writer.add(2, {"loss": 1.0})
    (line,) = warnings
    assert "the curves can no longer be written; training continues without them: " in line


def test_what_was_written_is_on_disk_before_a_checkpoint_names_its_step(tmp_path, monkeypatch):
    synced = []
    with curves.EventWriter(str(tmp_path), 0, []) as writer:
        monkeypatch.setattr(curves, "sync", synced.extend)
        writer.add(1, {"loss": 0.5})
        assert not synced
        writer.sync()
    assert synced == [str(tmp_path / event_files(tmp_path)[0])]


def test_the_new_file_is_on_disk_and_named_before_the_old_one_goes(tmp_path, monkeypatch):
    write(tmp_path, [1, 2])
    (old,) = event_files(tmp_path)
    seen = []
    remove = os.remove

    def watched(path):
        assert os.path.basename(path) == old
        names = event_files(tmp_path)
        assert len(names) == 2 and seen[-1] == str(tmp_path)
        assert curves.read_scalars(str(tmp_path)) == {"loss": losses(1)}
        remove(path)

    monkeypatch.setattr(curves, "sync", seen.extend)
    monkeypatch.setattr(curves.os, "remove", watched)
    write(tmp_path, [], begin=1)
    assert os.path.basename(seen[0]) == "events.tmp"
    assert event_files(tmp_path) != [old]


@pytest.mark.parametrize("path", [[False, False, False], [True, False, True]])
def test_a_step_that_replaces_has_its_loss_by_the_number_replaced(path):
    values = StepValues(0.75, 0.5, np.array(path), 1e-3, 2.0)
    found = curves.step_scalars(values, is_replacing=True, examples_per_second=8.0)
    assert found == {
        "loss": 0.75,
        "loss_by_replaced/%d" % path.count(True): 0.75,
        "modules_replaced": path.count(True),
        "replacing_rate": 0.5,
        "learning_rate": 1e-3,
        "gradient_norm": 2.0,
        "examples_per_second": 8.0,
    }


def test_a_step_that_replaces_nothing_has_no_scalars_of_it():
    values = StepValues(0.75, 1.0, np.array([True, True]), 1e-3, 2.0)
    found = curves.step_scalars(values, is_replacing=False)
    assert found == {"loss": 0.75, "learning_rate": 1e-3, "gradient_norm": 2.0}
