"""What a stage's folder promises: one run, one writer, and a state that is always whole."""

import os
import subprocess
import sys

import pytest

from theseus.errors import UserError
from theseus.runs.stage_folder import StageFolder, hash_files

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
RUN = {"suc_layers": 6, "learning_rate": 2e-5, "weights": "ab"}


@pytest.fixture
def folder(tmp_path):
    held = StageFolder(str(tmp_path / "out_1"), "stage_1_outputdir")
    with held.locked():
        yield held


def write_checkpoint(folder, which, step):
    entry = folder.new_checkpoint(which, step)
    for ending in (".index", ".data-00000-of-00001"):
        with open(folder.file(entry["checkpoint"] + ending), "w") as writer:
            writer.write("x")
    return entry


def files(folder, which):
    return sorted(os.listdir(folder.file(which)))


def test_a_command_that_contradicts_the_run_is_refused_with_flag_and_both_values(folder):
    folder.refuse_contradiction(RUN, {}, {})
    folder.claim(RUN, {"vocab.txt": "a\nb\n"})
    folder.refuse_contradiction(dict(RUN), {}, {})
    with pytest.raises(UserError, match="^--suc_layers: .*out_1 holds a run with 6, .* has 2;"):
        folder.refuse_contradiction(dict(RUN, suc_layers=2), {}, {})
    with pytest.raises(UserError, match="^--init_checkpoint: .* with ab, .* has cd; .*folder with"):
        folder.refuse_contradiction(dict(RUN, weights="cd"), {"weights": "--init_checkpoint"}, {})
    with pytest.raises(UserError, match="^--data_dir: .*out_1 holds a run with other weights; bri"):
        contents = {"weights": ("--data_dir", "other weights")}
        folder.refuse_contradiction(dict(RUN, weights="cd"), {}, contents)
    folder.refuse_contradiction({"suc_layers": 6}, {}, {})


def test_a_claim_keeps_the_first_run(folder):
    folder.claim(RUN, {"vocab.txt": "a\n"})
    folder.claim(dict(RUN, suc_layers=2), {"vocab.txt": "b\n"})
    assert folder.definition() == RUN
    with open(folder.file("vocab.txt")) as reader:
        assert reader.read() == "a\n"


def test_two_processes_cannot_write_to_one_folder(folder):
    code = (
        "from stage_folder import StageFolder\n"
        "from errors import UserError\n"
        "try:\n"
        "    with StageFolder(%r, 'stage_1_outputdir').locked(): print('locked')\n"
        "except UserError as error: print(error)\n" % folder.path
    )

    def other():
        return subprocess.check_output([sys.executable, "-c", code], cwd=ROOT).decode()

    assert other().startswith("--stage_1_outputdir: another run is writing to")


def test_the_lock_is_free_once_its_holder_is_gone(tmp_path):
    held = StageFolder(str(tmp_path / "out"), "stage_0_outputdir")
    for _ in range(2):
        with held.locked():
            held.write_json("run.json", RUN)


def test_a_command_that_wrote_nothing_leaves_nothing(tmp_path):
    with StageFolder(str(tmp_path / "out"), "stage_0_outputdir").locked():
        pass
    assert os.listdir(str(tmp_path)) == []


def test_a_file_in_the_folders_place_is_refused(tmp_path):
    (tmp_path / "out").write_text("")
    with pytest.raises(UserError, match="^--stage_0_outputdir: "):
        with StageFolder(str(tmp_path / "out"), "stage_0_outputdir").locked():
            pass


def test_a_commit_names_the_checkpoints_and_removes_older_ones(folder):
    folder.claim(RUN, {})
    state = folder.state()
    assert folder.checkpoint("last") is None
    for step in (10, 20):
        state["last"] = write_checkpoint(folder, "last", step)
        folder.commit(state)
    state["best"] = write_checkpoint(folder, "best", 20)
    folder.commit(state)
    assert folder.state() == state
    assert folder.best_checkpoint() == folder.file("best/model.ckpt-20")
    assert files(folder, "last") == [
        "model.ckpt-20.data-00000-of-00001",
        "model.ckpt-20.index",
    ]


def test_a_checkpoint_that_was_not_committed_is_swept_away(folder):
    folder.claim(RUN, {})
    state = folder.state()
    state["last"] = write_checkpoint(folder, "last", 1)
    folder.commit(state)
    write_checkpoint(folder, "last", 10)
    write_checkpoint(folder, "best", 10)
    os.makedirs(folder.file("last/model.ckpt-10_temp"))
    folder.sweep()
    assert files(folder, "best") == []
    assert files(folder, "last") == ["model.ckpt-1.data-00000-of-00001", "model.ckpt-1.index"]
    assert folder.checkpoint("last") == folder.file("last/model.ckpt-1")


@pytest.mark.parametrize("text", ["{}", "[]", "null", "5", "{", '{"last": null}'])
def test_a_damaged_state_is_refused_and_nothing_is_removed(folder, text):
    folder.claim(RUN, {})
    write_checkpoint(folder, "best", 1)
    with open(folder.file("state.json"), "w") as writer:
        writer.write(text)
    for read in (folder.state, folder.sweep, folder.best_checkpoint):
        with pytest.raises(UserError, match="state.json: is damaged"):
            read()
    assert len(files(folder, "best")) == 2


@pytest.mark.parametrize("name", ["best/model.ckpt-1.index", "bert_model.ckpt.index", "vocab.txt"])
def test_a_folder_with_other_files_is_not_taken_over(folder, name):
    os.makedirs(folder.file("best"))
    with open(folder.file(name), "w") as writer:
        writer.write("mine")
    with pytest.raises(UserError, match="is there, but no run of this program"):
        folder.claim(RUN, {"vocab.txt": "a\n"})
    assert folder.definition() is None
    with open(folder.file(name)) as reader:
        assert reader.read() == "mine"


def test_an_empty_folder_of_the_users_is_taken_and_kept(tmp_path):
    with StageFolder(str(tmp_path), "stage_0_outputdir").locked():
        pass
    assert os.path.isdir(str(tmp_path))


def test_a_folder_without_a_model_is_refused(folder):
    with pytest.raises(UserError, match="holds no trained model"):
        folder.best_checkpoint()


def test_a_file_that_fails_half_way_leaves_the_old_one(folder):
    folder.write_text("predictions.tsv", "old")
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
    assert folder._read_json("timing.json") == {"train_seconds": 1.0, "eval_seconds": 2.0}


def test_a_hash_is_of_what_files_hold_not_of_their_names(tmp_path):
    for name, text in [("a", "1"), ("b", "2"), ("c", "12"), ("d", "1")]:
        (tmp_path / name).write_text(text)

    def hash_of(*names):
        return hash_files([str(tmp_path / name) for name in names])

    # The SHA-256 of "12".
    assert hash_of("a", "b") == hash_of("c")
    assert hash_of("c") == "6b51d431df5d7f141cbececcf79edf3dd861c3b4069f0b11661a3eefacbba918"
    assert hash_of("a") == hash_of("d") != hash_of("b")
    with pytest.raises(UserError, match="absent: cannot be read"):
        hash_of("absent")
