"""Tests of a stage's folder: one run, one writer, and a state that is always complete."""

import collections
import dataclasses
import glob
import hashlib
import os
import shutil
import subprocess
import sys

import pytest

from conftest import read_json
from theseus.errors import FolderError, UserError
from theseus.runs import files
from theseus.runs.stage_folder import StageFolder
from theseus.runs.state import State

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
RUN = {"suc_layers": 6, "learning_rate": 2e-5, "weights": "ab"}


@pytest.fixture
def folder(tmp_path):
    held = StageFolder(str(tmp_path / "out_1"))
    with held.locked():
        yield held


def write_checkpoint(folder, which, step):
    entry = folder.new_checkpoint(which, step)
    for ending in (".index", ".data-00000-of-00001"):
        with open(folder.file(entry.checkpoint + ending), "w") as writer:
            writer.write("x")
    return entry


def names(folder, which):
    return sorted(os.listdir(folder.file(which)))


def test_a_claim_keeps_the_first_run(folder):
    folder.claim(RUN, {"vocab.txt": "a\n"})
    folder.claim(dict(RUN, suc_layers=2), {"vocab.txt": "b\n"})
    assert folder.run_config() == RUN
    with open(folder.file("vocab.txt")) as reader:
        assert reader.read() == "a\n"


def test_two_processes_cannot_write_to_one_folder(folder):
    code = (
        "from theseus.runs.stage_folder import StageFolder\n"
        "from theseus.errors import FolderError, UserError\n"
        "try:\n"
        "    with StageFolder(%r).locked(): print('locked')\n"
        "except UserError as error: print(error)\n" % folder.path
    )

    def other():
        return subprocess.check_output([sys.executable, "-c", code], cwd=ROOT).decode()

    assert "out_1: another run is writing to it" in other()


def test_the_lock_is_free_once_its_holder_is_gone(tmp_path):
    held = StageFolder(str(tmp_path / "out"))
    for _ in range(2):
        with held.locked():
            held.write_json("run.json", RUN)


def test_a_command_that_wrote_nothing_leaves_nothing(tmp_path):
    with StageFolder(str(tmp_path / "out")).locked():
        pass
    assert os.listdir(str(tmp_path)) == []


def test_a_file_in_the_folders_place_is_refused(tmp_path):
    (tmp_path / "out").write_text("")
    with pytest.raises(UserError, match="out: cannot be created: .*; give another folder$"):
        with StageFolder(str(tmp_path / "out")).locked():
            pass


def test_a_commit_names_the_checkpoints_and_removes_older_ones(folder):
    folder.claim(RUN, {})
    state = folder.state()
    assert folder.checkpoint("last") is None
    for step in (10, 20):
        state.last = write_checkpoint(folder, "last", step)
        folder.commit(state)
    state.best = write_checkpoint(folder, "best", 20)
    folder.commit(state)
    assert folder.state() == state
    assert folder.best_checkpoint() == folder.file("best/model.ckpt-20")
    assert names(folder, "last") == [
        "model.ckpt-20.data-00000-of-00001",
        "model.ckpt-20.index",
    ]


def test_a_checkpoint_that_was_not_committed_is_swept_away(folder):
    folder.claim(RUN, {})
    state = folder.state()
    state.last = write_checkpoint(folder, "last", 1)
    folder.commit(state)
    write_checkpoint(folder, "last", 10)
    write_checkpoint(folder, "best", 10)
    os.makedirs(folder.file("last/model.ckpt-10_temp"))
    folder.sweep(folder.state())
    assert names(folder, "best") == []
    assert names(folder, "last") == ["model.ckpt-1.data-00000-of-00001", "model.ckpt-1.index"]
    assert folder.checkpoint("last") == folder.file("last/model.ckpt-1")


@pytest.mark.parametrize("text", ["{}", "[]", "null", "5", "{", '{"last": null}'])
def test_a_damaged_state_is_refused_and_nothing_is_removed(folder, text):
    folder.claim(RUN, {})
    write_checkpoint(folder, "best", 1)
    with open(folder.file("state.json"), "w") as writer:
        writer.write(text)
    for read in (folder.state, folder.best_checkpoint):
        with pytest.raises(UserError, match="state.json: is damaged"):
            read()
    assert len(names(folder, "best")) == 2


@pytest.mark.parametrize("name", ["best/model.ckpt-1.index", "bert_model.ckpt.index", "vocab.txt"])
def test_a_folder_with_other_files_is_not_taken_over(folder, name):
    # No more than this one: it is what has to be noticed.
    os.makedirs(os.path.dirname(folder.file(name)), exist_ok=True)
    with open(folder.file(name), "w") as writer:
        writer.write("mine")
    with pytest.raises(
        FolderError, match="already exists but was not created by this program; give another f"
    ):
        folder.claim(RUN, {"vocab.txt": "a\n"})
    assert folder.run_config() is None
    with open(folder.file(name)) as reader:
        assert reader.read() == "mine"


def test_an_empty_folder_of_the_users_is_taken_and_kept(tmp_path):
    with StageFolder(str(tmp_path)).locked():
        pass
    assert os.path.isdir(str(tmp_path))


def test_a_state_of_before_0_15_is_read(folder):
    folder.claim(RUN, {})
    state = State(evaluations=[{"global_step": 7, "accuracy": 0.5}])
    state.best, state.last = (write_checkpoint(folder, which, 7) for which in ("best", "last"))
    folder.commit(state)
    values = read_json(folder.file("state.json"))
    for name in ("best", "last"):
        assert values[name].pop("unreplaced_losses") is None
    assert values.pop("previous") == []
    folder.write_json("state.json", values)
    assert "previous" not in read_json(folder.file("state.json"))
    assert folder.state() == state


def test_a_folder_without_a_model_is_refused(folder):
    with pytest.raises(UserError, match="holds no trained model"):
        folder.best_checkpoint()


def test_a_file_that_fails_half_way_leaves_the_old_one(folder):
    files.write_text(folder.file("predictions.tsv"), "old")
    with pytest.raises(RuntimeError):
        with folder.writing("predictions.tsv") as writer:
            writer.write("new")
            raise RuntimeError
    with open(folder.file("predictions.tsv")) as reader:
        assert reader.read() == "old"
    assert not os.path.exists(folder.file("predictions.tsv.tmp"))


def test_values_are_added_to_a_json_file(folder):
    folder.update_json("timing.json", train_seconds=1.0)
    folder.update_json("timing.json", eval_seconds=2.0)
    found = read_json(folder.path, "timing.json")
    assert found == {"train_seconds": 1.0, "eval_seconds": 2.0}


def test_a_hash_is_of_what_files_hold_not_of_their_names(tmp_path):
    for name, text in [("a", "1"), ("b", "2"), ("c", "12"), ("d", "1")]:
        (tmp_path / name).write_text(text)

    def hash_of(*names):
        return files.hash_files([str(tmp_path / name) for name in names])

    # The SHA-256 of "12".
    assert hash_of("a", "b") == hash_of("c")
    assert hash_of("c") == "6b51d431df5d7f141cbececcf79edf3dd861c3b4069f0b11661a3eefacbba918"
    assert hash_of("a") == hash_of("d") != hash_of("b")
    with pytest.raises(UserError, match="absent: cannot be read"):
        hash_of("absent")


# --- What is compared, and the order of what is written ---


def crash_at(monkeypatch, name):
    """Simulates a process that ends when a file would get this name."""
    replace = os.replace

    def crash(source, target):
        if os.path.basename(target) == name:
            raise RuntimeError("cut off")
        replace(source, target)

    monkeypatch.setattr("theseus.runs.files.os.replace", crash)


@pytest.mark.parametrize("name", ["bert_config.json", "vocab.txt", "run.json"])
def test_a_claim_that_is_cut_off_can_be_made_again(folder, monkeypatch, name):
    model_files = {"bert_config.json": "{}\n", "vocab.txt": "a\n"}
    with monkeypatch.context() as patch, pytest.raises(RuntimeError):
        crash_at(patch, name)
        folder.claim(RUN, model_files)
    assert folder.run_config() is None
    folder.claim(RUN, model_files)
    assert folder.run_config() == RUN
    for held, text in model_files.items():
        with open(folder.file(held)) as reader:
            assert reader.read() == text


@pytest.mark.parametrize("name", ["state.json", "last", "best", "bert_model.ckpt.index"])
def test_nothing_that_looks_like_anothers_model_is_written_over(folder, name):
    with open(folder.file(name), "w") as writer:
        writer.write("{}")
    with pytest.raises(
        UserError, match="%s: already exists but was not created by this program" % name
    ):
        folder.claim(RUN, {})


@pytest.mark.parametrize("comes_again", [False, True])
def test_a_lock_of_a_folder_that_was_removed_meanwhile_is_none(tmp_path, monkeypatch, comes_again):
    """Another run removed its new, empty folder between this run's opening and locking of it."""
    import fcntl

    path, flock = tmp_path / "out", fcntl.flock

    def remove_and_lock(*arguments):
        path.rmdir()
        if comes_again:
            path.mkdir()
        flock(*arguments)

    monkeypatch.setattr("theseus.folder_lock.fcntl.flock", remove_and_lock)
    with pytest.raises(UserError, match="another run is writing to"):
        with StageFolder(str(path)).locked():
            pass


def test_removing_a_file_does_not_unlock(folder):
    for path in os.listdir(folder.path):
        os.remove(folder.file(path))
    with pytest.raises(UserError, match="another run is writing to it"):
        with StageFolder(folder.path).locked():
            pass


@pytest.mark.parametrize("comes_again", [False, True])
def test_a_folder_that_is_moved_away_is_not_written_to(folder, comes_again):
    folder.claim(RUN, {})
    os.rename(folder.path, folder.path + "_moved")
    if comes_again:
        os.mkdir(folder.path)
    write = [
        lambda: folder.new_checkpoint("last", 1),
        lambda: folder.commit(State()),
        lambda: folder.write_json("timing.json", {}),
    ]
    for attempt in write:
        with pytest.raises(UserError, match="out_1: was moved or removed while this run was writ"):
            attempt()
    assert os.listdir(os.path.dirname(folder.path)).count("out_1") == comes_again
    assert not comes_again or os.listdir(folder.path) == []
    assert os.listdir(folder.path + "_moved") == ["run.json"]


def test_where_folders_cannot_be_locked_a_file_is(tmp_path, monkeypatch):
    """As on NFS."""
    import fcntl
    import stat

    flock = fcntl.flock

    def lock_files_alone(file, how):
        number = file if isinstance(file, int) else file.fileno()
        if stat.S_ISDIR(os.fstat(number).st_mode):
            raise OSError(9, "Bad file descriptor")
        flock(file, how)

    monkeypatch.setattr("theseus.folder_lock.fcntl.flock", lock_files_alone)
    held = StageFolder(str(tmp_path / "out"))
    with held.locked():
        held.write_json("run.json", RUN)
        with pytest.raises(UserError, match="another run is writing to it"):
            with StageFolder(held.path).locked():
                pass
    with held.locked():
        pass


def test_a_commit_is_cut_off_before_or_after_its_state_and_never_loses_a_checkpoint(
    folder, monkeypatch
):
    folder.claim(RUN, {})
    state = folder.state()
    state.last = write_checkpoint(folder, "last", 1)
    state.best = write_checkpoint(folder, "best", 1)
    folder.commit(state)
    new = dataclasses.replace(state, last=write_checkpoint(folder, "last", 2))
    new.best = write_checkpoint(folder, "best", 2)
    with monkeypatch.context() as patch, pytest.raises(RuntimeError):
        crash_at(patch, "state.json")
        folder.commit(new)
    assert folder.state() == state
    for which in ("last", "best"):
        assert os.path.exists(folder.checkpoint(which) + ".index")
        assert len(names(folder, which)) == 4
    folder.commit(new)
    assert len(names(folder, "last")) == len(names(folder, "best")) == 2
    assert folder.checkpoint("best") == folder.file("best/model.ckpt-2")


def test_a_checkpoint_is_on_disk_before_the_state_that_names_it(folder, monkeypatch):
    folder.claim(RUN, {})
    synced = []
    fsync, replace = os.fsync, os.replace
    module = "theseus.runs.files.os."

    def record(descriptor):
        synced.append(os.path.realpath("/proc/self/fd/%d" % descriptor))
        fsync(descriptor)

    monkeypatch.setattr(module + "fsync", record)
    monkeypatch.setattr(module + "replace", lambda a, b: synced.append("now " + b) or replace(a, b))
    saved = folder.seal(write_checkpoint(folder, "last", 1))
    folder.commit(dataclasses.replace(folder.state(), last=saved))
    (place,) = [i for i, name in enumerate(synced) if name == "now " + folder.file("state.json")]
    root = os.path.realpath(folder.path)
    expected = {root + "/last/" + name for name in names(folder, "last")} | {root + "/last", root}
    assert expected <= set(synced[:place])
    # The file that takes its name is on disk itself; then the name.
    assert root + "/state.json.tmp" in synced[:place] and root in synced[place + 1 :]


def test_a_sweep_goes_by_the_whole_name_of_a_checkpoint_and_leaves_other_files(folder):
    folder.claim(RUN, {})
    state = dataclasses.replace(folder.state(), last=write_checkpoint(folder, "last", 1))
    folder.commit(dataclasses.replace(state, best=write_checkpoint(folder, "best", 1)))
    for which in ("last", "best"):
        write_checkpoint(folder, which, 10)
        with open(folder.file(which + "/notes.txt"), "w") as writer:
            writer.write("mine")
    folder.sweep(folder.state())
    for which in ("last", "best"):
        expected = ["model.ckpt-1.data-00000-of-00001", "model.ckpt-1.index", "notes.txt"]
        assert names(folder, which) == expected


def test_what_a_failed_write_left_beside_a_checkpoint_is_none_of_its_files(folder):
    folder.claim(RUN, {})
    entry = write_checkpoint(folder, "best", 4)
    left = folder.file(entry.checkpoint + ".data-00000-of-00001.tempstate7697353728186206877")
    for _ in range(2):
        with open(left, "w") as writer:
            writer.write("half")
        folder.commit(dataclasses.replace(folder.state(), best=folder.seal(entry)))
        assert names(folder, "best") == ["model.ckpt-4.data-00000-of-00001", "model.ckpt-4.index"]
        assert sorted(StageFolder(folder.path).sound_best().files) == names(folder, "best")


def test_last_and_best_are_two_checkpoints_named_after_their_steps(folder):
    folder.claim(RUN, {})
    state = dataclasses.replace(folder.state(), last=write_checkpoint(folder, "last", 20))
    folder.commit(dataclasses.replace(state, best=write_checkpoint(folder, "best", 10)))
    assert folder.checkpoint("last") == folder.file("last/model.ckpt-20")
    assert folder.checkpoint("best") == folder.best_checkpoint()
    assert folder.best_checkpoint() == folder.file("best/model.ckpt-10")


def test_an_evaluation_is_of_its_step_alone(folder):
    folder.claim(RUN, {})
    folder.commit(
        dataclasses.replace(folder.state(), evaluations=[{"global_step": 10}, {"global_step": 30}])
    )
    assert [step for step in range(40) if folder.state().is_evaluated(step)] == [10, 30]


def test_a_state_without_its_run_is_refused(folder):
    folder.claim(RUN, {})
    folder.commit(folder.state())
    os.remove(folder.file("run.json"))
    with pytest.raises(
        UserError, match="state.json: run.json is missing beside it; give another folder"
    ):
        folder.state()


def test_a_file_is_the_old_one_until_the_new_one_is_whole(folder):
    files.write_text(folder.file("predictions.tsv"), "old")
    with folder.writing("predictions.tsv") as writer:
        writer.write("new")
        writer.flush()
        with open(folder.file("predictions.tsv")) as reader:
            assert reader.read() == "old"
    with open(folder.file("predictions.tsv")) as reader:
        assert reader.read() == "new"


def test_a_later_value_of_a_json_file_counts_and_no_number_is_nan(folder):
    folder.update_json("timing.json", seconds=1.0, other=3)
    folder.update_json("timing.json", seconds=2.0)
    assert read_json(folder.path, "timing.json") == {"seconds": 2.0, "other": 3}
    with pytest.raises(ValueError):
        folder.update_json("timing.json", seconds=float("nan"))
    assert read_json(folder.path, "timing.json") == {"seconds": 2.0, "other": 3}


def test_a_hash_is_of_all_bytes_and_of_no_files_there_is_none(tmp_path):
    held = []
    for name, last in [("a", b"1"), ("b", b"2")]:
        (tmp_path / name).write_bytes(b"0" * (1 << 20) + last)
        held.append(files.hash_files([str(tmp_path / name)]))
    assert held[0] != held[1]
    assert files.hash_text("手\n") == hashlib.sha256("手\n".encode("utf-8")).hexdigest()
    with pytest.raises(UserError, match="a checkpoint was removed while it was being read"):
        files.hash_files([])


def test_a_disk_without_room_for_the_checkpoints_is_said_before_training(folder, monkeypatch):
    write_checkpoint(folder, "last", 1)
    there = sum(map(os.path.getsize, glob.glob(folder.file("last/*"))))
    usage = collections.namedtuple("usage", "total used free")(9e9, 0, 5000000)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage)
    folder.check_full_disk(5000000 + there)  # What is there gives way.
    with pytest.raises(
        FolderError, match="has 5 MB free, but the checkpoints need 2 MB more; free"
    ):
        folder.check_full_disk(7000000 + there)


def test_a_checkpoint_that_cannot_be_removed_is_one_line(folder, monkeypatch):
    folder.claim(RUN, {})
    state = dataclasses.replace(folder.state(), last=write_checkpoint(folder, "last", 1))
    write_checkpoint(folder, "last", 2)

    def fail(path):
        raise OSError(30, "Read-only file system", path)

    monkeypatch.setattr("theseus.runs.files.os.remove", fail)
    pattern = r"last/model.ckpt-2[^:]*: cannot be removed: Read-only file system$"
    with pytest.raises(UserError, match=pattern):
        folder.commit(state)
