"""Tests of export folders: an earlier export is replaced as a whole, other files never."""

import contextlib
import os

import pytest

from conftest import assert_matches, contents, needs_tensorflow_2
from theseus.errors import UserError
from theseus.export import read_back, writers
from theseus.export.export_folder import ExportFolder

MINE = {"format": "bert", "run": "ab"}
MODEL = {"task_name": "lcqmc_pair", "max_seq_length": 9, "do_lower_case": True, "labels": []}


@contextlib.contextmanager
def written(path, text="new", identity=MINE):
    """Exports a file and one in a folder to a path, but for its commit."""
    with ExportFolder(str(path)).writing(identity) as temporary:
        os.mkdir(os.path.join(temporary, "variables"))
        for name in ("model", "variables/data"):
            with open(os.path.join(temporary, name), "w") as writer:
                writer.write(text)
        description = dict(MODEL, files=read_back.list_files(temporary), **identity)
        writers.write_json(temporary, read_back.DESCRIPTION, description)
        yield temporary


def write(path, text="new", identity=MINE):
    with written(path, text, identity):
        pass


def texts(root):
    """Returns what all files below a folder but export.json hold, by their paths below it."""
    found = contents(root)
    return {
        os.path.relpath(name, str(root)): content.decode("utf-8")
        for name, content in found.items()
        if not name.endswith(read_back.DESCRIPTION)
    }


def refuse(path, identity=MINE):
    with pytest.raises(UserError) as caught:
        ExportFolder(str(path)).check(identity)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_an_export_takes_its_place_and_leaves_nothing_beside_it(tmp_path):
    for text in ("old", "new"):
        ExportFolder(str(tmp_path / "a" / "export")).check(MINE)
        write(tmp_path / "a" / "export", text)
        assert texts(tmp_path) == {"a/export/model": text, "a/export/variables/data": text}
    assert os.listdir(str(tmp_path / "a")) == ["export"]


def test_an_empty_folder_and_a_link_to_one_are_free(tmp_path):
    (tmp_path / "empty").mkdir()
    (tmp_path / "link").symlink_to("empty")
    ExportFolder(str(tmp_path / "link")).check(MINE)
    write(tmp_path / "link")
    assert sorted(texts(tmp_path / "empty")) == ["model", "variables/data"]
    assert (tmp_path / "link").is_symlink()


@pytest.mark.parametrize(
    "way", ["{0}", "nope/../{0}", "nope/nope/../../{0}", "./{0}/", "{0}/../{0}", "link"]
)
def test_what_is_somebody_elses_is_refused_by_whatever_path(tmp_path, monkeypatch, way):
    monkeypatch.chdir(str(tmp_path))
    (tmp_path / "precious").mkdir()
    (tmp_path / "precious" / "thesis.txt").write_text("years")
    (tmp_path / "link").symlink_to("precious")
    before = texts(tmp_path)
    assert_matches("precious already exists but is not an export", refuse(way.format("precious")))
    with pytest.raises(UserError, match="precious already exists"):
        write(way.format("precious"))
    assert texts(tmp_path) == before


@pytest.mark.parametrize(
    "name", ["notes.txt", "README.md", "variables/notes.txt", "more/notes.txt"]
)
def test_a_users_file_in_an_earlier_export_is_not_lost(tmp_path, name):
    write(tmp_path / "export", "old")
    (tmp_path / "export" / name).parent.mkdir(exist_ok=True)
    (tmp_path / "export" / name).write_text("mine")
    before = texts(tmp_path)
    assert_matches("export holds %s, which is not part" % name, refuse(tmp_path / "export"))
    with pytest.raises(UserError, match="not part of the export"):
        write(tmp_path / "export")
    assert texts(tmp_path) == before


def test_a_link_in_an_earlier_export_is_somebodys(tmp_path):
    write(tmp_path / "export")
    (tmp_path / "precious").mkdir()
    (tmp_path / "export" / "linked").symlink_to(tmp_path / "precious")
    assert_matches("export holds linked", refuse(tmp_path / "export"))


def test_an_export_of_another_run_is_refused(tmp_path):
    write(tmp_path / "export", identity=dict(MINE, run="cd"))
    assert_matches("is not an export of this run as bert", refuse(tmp_path / "export"))
    ExportFolder(str(tmp_path / "export")).check()  # Which run it will be is not known yet.


@pytest.mark.parametrize(
    "listed",
    [None, {}, [], "model", {"../precious": {}}, {"/etc/passwd": {}}, {"": {}}, {"a/../b": {}}],
)
def test_an_export_that_lists_no_files_of_its_own_is_refused(tmp_path, listed):
    (tmp_path / "export").mkdir()
    writers.write_json(
        str(tmp_path / "export"), read_back.DESCRIPTION, dict(MODEL, files=listed, **MINE)
    )
    assert_matches("not an export that lists its files", refuse(tmp_path / "export"))


@pytest.mark.parametrize("suffix", [".replaced_export", ".unfinished_export"])
def test_somebodys_folder_beside_it_is_never_touched(tmp_path, suffix):
    foreign = tmp_path / ("export" + suffix)
    foreign.mkdir()
    (foreign / "thesis.txt").write_text("years")
    if suffix == ".replaced_export":
        assert_matches("export.replaced_export already exists", refuse(tmp_path / "export"))
    else:
        write(tmp_path / "export")
        write(tmp_path / "export")
    assert (foreign / "thesis.txt").read_text() == "years"


def test_a_folder_that_comes_while_an_export_is_written_is_not_replaced(tmp_path):
    with pytest.raises(UserError, match="export already exists but is not an export"):
        with written(tmp_path / "export"):
            (tmp_path / "export").mkdir()
            (tmp_path / "export" / "thesis.txt").write_text("years")
    assert texts(tmp_path) == {"export/thesis.txt": "years"}


@pytest.mark.parametrize("failing", [1, 2])
def test_an_export_that_is_cut_off_has_not_destroyed_the_one_before(
    tmp_path, monkeypatch, caplog, failing
):
    """Between the two renames the earlier export has another name; the next command restores it."""
    write(tmp_path / "export", "old")
    rename, calls = os.rename, []

    def fail(source, target):
        calls.append(source)
        if len(calls) == failing:
            raise KeyboardInterrupt
        rename(source, target)

    monkeypatch.setattr("theseus.export.export_folder.os.rename", fail)
    with pytest.raises(KeyboardInterrupt):
        write(tmp_path / "export")
    monkeypatch.undo()
    ExportFolder(str(tmp_path / "export")).check(MINE)
    assert texts(tmp_path) == {"export/model": "old", "export/variables/data": "old"}
    assert ("previous export was restored" in caplog.text) == (failing == 2)
    write(tmp_path / "export")
    assert texts(tmp_path) == {"export/model": "new", "export/variables/data": "new"}


def test_what_a_replaced_export_has_left_goes_at_the_next_start(tmp_path):
    write(tmp_path / "export", "old")
    os.rename(str(tmp_path / "export"), str(tmp_path / "export.replaced_export"))
    write(tmp_path / "export")
    ExportFolder(str(tmp_path / "export")).check(MINE)
    assert os.listdir(str(tmp_path)) == ["export"]


@pytest.mark.parametrize("is_there", [False, True])
def test_what_a_replaced_export_has_left_and_cannot_go_is_one_line(tmp_path, monkeypatch, is_there):
    write(tmp_path / "export", "old")
    os.rename(str(tmp_path / "export"), str(tmp_path / "export.replaced_export"))
    if is_there:
        write(tmp_path / "other")
        os.rename(str(tmp_path / "other"), str(tmp_path / "export"))

    def fail(*_):
        raise OSError(30, "Read-only file system")

    monkeypatch.setattr("theseus.export.export_folder.os.rename", fail)
    monkeypatch.setattr("theseus.folder_lock.os.remove", fail)
    message = refuse(tmp_path / "export")
    assert message.endswith("replaced_export: cannot be removed or renamed: Read-only file system")


def test_a_place_that_cannot_be_written_is_one_line(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="file/export: cannot be written: "):
        write(tmp_path / "file" / "export")


@needs_tensorflow_2
@pytest.mark.parametrize("change", ["flip", "cut", "remove"])
@pytest.mark.parametrize("name", ["vocab.txt", "model.onnx"])
def test_a_file_that_was_altered_after_the_export_is_named(export, tmp_path, name, change):
    import shutil

    from theseus import Classifier

    path = str(tmp_path / "copy")
    shutil.copytree(export("onnx"), path)
    file = os.path.join(path, name)
    with open(file, "rb") as reader:
        content = bytearray(reader.read())
    content[len(content) // 2] ^= 4
    os.remove(file)
    if change != "remove":
        with open(file, "wb") as writer:
            writer.write(content if change == "flip" else content[:-1])
    with pytest.raises(UserError, match=name):
        Classifier(path)


def test_what_a_killed_export_has_left_is_removed_and_somebodys_files_are_not(tmp_path):
    def left(name, *files):
        (tmp_path / name).mkdir()
        for file in files:
            (tmp_path / name / file).write_text("x")

    left(
        "export.a1b2c3d4.unfinished_export", "bert_config.json", "bert_model.ckpt.index.tempstate1"
    )
    left("export.a1b2c3d5.unfinished_export", "vocab.txt", "mine.txt")
    left("export.unfinished_export", "vocab.txt")
    left("export.of_mine.unfinished_export.", "vocab.txt")
    left("other.a1b2c3d4.unfinished_export", "vocab.txt")
    ExportFolder(str(tmp_path / "export")).check(MINE)
    assert set(texts(tmp_path)) == {
        "export.a1b2c3d5.unfinished_export/mine.txt",
        "export.unfinished_export/vocab.txt",
        "export.of_mine.unfinished_export./vocab.txt",
        "other.a1b2c3d4.unfinished_export/vocab.txt",
    }


def test_an_export_that_is_being_written_is_not_taken_for_one_that_was_killed(tmp_path):
    with written(tmp_path / "export"):
        ExportFolder(str(tmp_path / "export")).check(MINE)
        assert len(os.listdir(str(tmp_path))) == 1
    assert set(texts(tmp_path)) == {"export/model", "export/variables/data"}
