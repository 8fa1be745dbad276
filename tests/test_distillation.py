"""Tests of --distill_from: the teacher's logits, where they are stored, and refused teachers."""

import json
import os
import shutil

import numpy as np
import pytest

from conftest import (
    SMALL_BERT,
    VOCABULARY,
    assert_close,
    assert_matches,
    command,
    contents,
    read_json,
    refused,
    write_bert,
    write_pairs,
    write_stage,
)
from theseus.checkpoints import weights
from theseus.inference import evaluation, predictions, trained_model
from theseus.inputs import encoding, reading, tasks
from theseus.runs.stage_folder import StageFolder
from theseus.training.steps import StepRunner

TASK = tasks.TASKS["lcqmc_pair"]
LINE = "--data_dir=data --bert_pretrained_model=bert --suc_layers=1 --max_seq_length=32 "
LINE += "--train_batch_size=16 --num_train_epochs=1 --max_train_examples=30 --cache_dir=cache "
OF_STAGE_1 = LINE + "--do_train --stage_1_outputdir=%s "
# Stage 2, whose graph is built in a third of the time.
LINE += "--do_train --finetune_suc --init_checkpoint=bert --stage_2_outputdir=%s "


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    """A folder with data/, bert/ of 2 layers, and a predecessor of 4, teacher/."""
    root = tmp_path_factory.mktemp("distillation")
    (root / "data").mkdir()
    for seed, (split, count) in enumerate([("train", 40), ("dev", 20)]):
        write_pairs(root / "data" / (split + ".tsv"), count, seed)
    write_bert(root / "bert", dict(SMALL_BERT, num_hidden_layers=2))
    write_stage(root / "teacher", "predecessor")
    return root


@pytest.fixture
def root(prepared, tmp_path):
    """A copy of the folder."""
    shutil.copytree(str(prepared), str(tmp_path / "root"))
    return tmp_path / "root"


def teach(root, monkeypatch, folder="out_1", more="--distill_from=teacher"):
    command(LINE % folder + more, root, monkeypatch)


def redefine(root, **changes):
    """Makes the teacher one that was trained on something else."""
    path = root / "teacher" / "run.json"
    path.write_text(json.dumps(dict(read_json(path), **changes)))


@pytest.fixture
def fed(monkeypatch):
    """A list that gets (rows, the teacher's logits) of each later step."""
    found, feed_of = [], StepRunner.feed

    def feed(self, rows, *others):
        values = feed_of(self, rows, *others)
        found.append((rows, values[self._graph.inputs[0].teacher_logits]))
        return values

    monkeypatch.setattr(StepRunner, "feed", feed)
    return found


@pytest.fixture
def computed(monkeypatch):
    """A list that gets the number of rows whenever the teacher computes logits."""
    found, compute_logits = [], predictions.compute_logits

    def compute(run, encoded, *others):
        if len(encoded) == 30:  # Dev has 20.
            found.append(len(encoded))
        return compute_logits(run, encoded, *others)

    monkeypatch.setattr(predictions, "compute_logits", compute)
    return found


def logits_of_teacher(root):
    """Returns the logits of the best checkpoint over the 30 rows, by an evaluation."""
    examples = reading.read_examples(str(root / "data" / "train.tsv"), TASK)
    sample = reading.sample_examples(examples, 30)
    with trained_model.load(StageFolder(str(root / "teacher"))) as model:
        encoded = encoding.encode_examples(sample, TASK, model.tokenizer, 32)
        return predictions.compute_logits(evaluation.runner(model.session, model.graph), encoded, 7)


def test_what_is_fed_are_the_logits_of_the_teachers_best_for_the_same_rows(
    root, monkeypatch, fed, computed
):
    expected = logits_of_teacher(root)
    del computed[:]
    assert np.ptp(expected, axis=0).min() > 0.1
    teach(root, monkeypatch)
    assert sorted(np.concatenate([rows for rows, _ in fed])) == list(range(30))
    for rows, logits in fed:
        assert_close(logits, expected[rows])
    assert computed == [30]


def test_logits_are_computed_once_and_kept_beside_the_examples(root, monkeypatch, fed, computed):
    teach(root, monkeypatch)
    assert len(os.listdir(str(root / "cache"))) == 2
    first = list(fed)
    teach(root, monkeypatch, "out_again")
    assert computed == [30] and len(os.listdir(str(root / "cache"))) == 2
    for (rows, logits), (rows_again, logits_again) in zip(first, fed[len(first) :]):
        np.testing.assert_array_equal(rows, rows_again)
        np.testing.assert_array_equal(logits, logits_again)


def test_examples_without_labels_are_learned_from_the_teacher_alone(root, monkeypatch, fed, caplog):
    """The file's examples come after train's, and its labels are ignored."""
    shutil.copy(str(root / "data" / "dev.tsv"), str(root / "more.tsv"))
    examples = reading.read_examples(str(root / "more.tsv"), TASK)
    with trained_model.load(StageFolder(str(root / "teacher"))) as model:
        encoded = encoding.encode_examples(examples, TASK, model.tokenizer, 32)
        run = evaluation.runner(model.session, model.graph)
        expected = predictions.compute_logits(run, encoded, 7)
    more = "--distill_from=teacher --unlabelled_file=more.tsv "
    labels, feed_of = {}, StepRunner.feed

    def feed(self, rows, *others):
        values = feed_of(self, rows, *others)
        labels.update(zip(rows, values[self._graph.inputs[0].labels]))
        return values

    monkeypatch.setattr(StepRunner, "feed", feed)
    teach(root, monkeypatch, more=more)
    assert "4 steps on 50 examples, 20 of them without labels" in caplog.text
    assert sorted(labels) == list(range(50))
    assert [row for row, label in sorted(labels.items()) if label < 0] == list(range(30, 50))
    rows, logits = (np.concatenate(values) for values in zip(*fed))
    assert_close(logits[rows >= 30], expected[rows[rows >= 30] - 30])
    (root / "more.tsv").write_text("a\tb\n")
    found = refused(LINE % "out_1" + more, root, monkeypatch)
    assert "--unlabelled_file: the run in out_1 was started with other unlabelled examples" in found


@pytest.mark.parametrize(
    "more, message",
    [
        ("--unlabelled_file=data/dev.tsv", "--unlabelled_file needs --distill_from: its examples"),
        ("--distill_from=teacher --unlabelled_file=none.tsv", "there is no file none.tsv"),
    ],
)
def test_a_file_without_labels_needs_a_teacher_and_to_be_there(root, monkeypatch, more, message):
    assert message in refused(LINE % "out_1" + more, root, monkeypatch)


def test_a_run_that_is_finished_computes_no_logits(root, monkeypatch, computed):
    teach(root, monkeypatch, more="--distill_from=teacher --cache_dir=")
    teach(root, monkeypatch, more="--distill_from=teacher --cache_dir=")
    assert computed == [30]


def change_weights(root):
    """Gives the teacher other weights under the same names."""
    folder = StageFolder(str(root / "teacher"))
    for path in weights.checkpoint_files(folder.best_checkpoint()):
        if ".data-" in path:
            content = bytearray(open(path, "rb").read())
            content[0] ^= 1  # The lowest bit of the first number.
            open(path, "wb").write(bytes(content))


@pytest.mark.parametrize("changed", ["weights", "max_seq_length", "data", "sample", "unlabelled"])
def test_logits_of_another_teacher_or_of_other_examples_are_kept_apart(root, monkeypatch, changed):
    from theseus.commands import distillation

    paths = []

    def through_cache(path, names, make):
        assert names == ("logits",)
        paths.append(path)
        raise RuntimeError("asked")

    monkeypatch.setattr(distillation.cache, "through_cache", through_cache)
    kept = {}
    monkeypatch.setattr(
        "theseus.commands.data.Data.encode_train",
        lambda self, *_: kept.setdefault("data", encoding.EncodedExamples([], [3], [2], [0])),
    )

    def path_of(more=""):
        with pytest.raises(RuntimeError, match="asked"):
            teach(root, monkeypatch, more="--distill_from=teacher " + more)
        return paths[-1]

    first = path_of()
    assert os.path.dirname(first) == "cache"
    # What neither the teacher nor the examples know of.
    assert path_of("--seed=3 --distill_weight=0.25 --distill_temperature=4") == first
    more = {"max_seq_length": "--max_seq_length=31", "sample": "--max_train_examples=29"}
    more["unlabelled"] = "--unlabelled_file=data/dev.tsv"
    if changed == "weights":
        change_weights(root)
    if changed == "data":
        write_pairs(root / "data" / "train.tsv", 40, seed=9)
    assert path_of(more.get(changed, "")) != first


def test_a_teacher_defines_the_run(root, monkeypatch):
    teach(root, monkeypatch)
    defined = read_json(root, "out_1", "run.json")
    assert len(defined["distill_from"]) == 64
    assert (defined["distill_temperature"], defined["distill_weight"]) == (1.0, 0.5)
    message = (
        "--distill_from: the run in out_1 was started with another teacher, or none; restore the "
        "original"
    )
    before = contents(root / "out_1" / "last")
    command(LINE % "out_1", root, monkeypatch)  # What it leaves out is the run's.
    assert contents(root / "out_1" / "last") == before
    change_weights(root)
    for line in (LINE % "out_1", LINE % "out_1" + "--distill_from=teacher "):
        assert message in refused(line, root, monkeypatch)


def test_the_same_teacher_under_another_name_resumes(root, monkeypatch, fed):
    """With the same logits, to the same weights, and not from the start."""
    teach(root, monkeypatch, more="--distill_from=teacher --save_checkpoints_steps=1")
    out_1 = StageFolder(str(root / "out_1"))
    expected, trained = list(fed), dict(weights.CheckpointWeights(out_1.checkpoint("last")))
    assert len(expected) == 2
    with out_1.locked():
        out_1.commit(out_1.state().before_last())  # Now it has done the first step alone.
    os.rename(str(root / "teacher"), str(root / "moved"))
    del fed[:]
    teach(root, monkeypatch, more="--distill_from=moved")
    ((rows, logits),) = fed
    np.testing.assert_array_equal(rows, expected[1][0])
    np.testing.assert_array_equal(logits, expected[1][1])
    found = dict(weights.CheckpointWeights(out_1.checkpoint("last")))
    assert sorted(found) == sorted(trained)
    for name, value in trained.items():
        np.testing.assert_array_equal(found[name], value, err_msg=name)


def test_a_stage_that_replaces_learns_from_a_teacher_too(root, monkeypatch, fed):
    expected = logits_of_teacher(root)
    command(OF_STAGE_1 % "out_1" + "--distill_from=teacher", root, monkeypatch)
    for rows, logits in fed:
        assert_close(logits, expected[rows])
    assert fed


@pytest.mark.parametrize("stage", ["replacing", "successor"])
def test_a_teacher_may_be_of_any_stage(root, monkeypatch, fed, stage):
    shutil.rmtree(str(root / "teacher"))
    write_stage(root / "teacher", stage)
    expected = logits_of_teacher(root)
    teach(root, monkeypatch)
    for rows, logits in fed:
        assert_close(logits, expected[rows])


@pytest.mark.parametrize(
    "changes, message",
    [
        (dict(task_name="qqp"), "teacher was trained on qqp, this command is for lcqmc_pair; "),
        (
            dict(do_lower_case=False),
            "teacher was trained with another vocabulary, case or tokenizer; give a teacher that "
            "has the same ones$",
        ),
    ],
)
def test_a_teacher_of_another_task_or_case_is_refused(root, monkeypatch, changes, message):
    redefine(root, **changes)
    found = refused(LINE % "out_1" + "--distill_from=teacher", root, monkeypatch)
    assert_matches("^run_classifier.py: --distill_from: " + message, found)
    assert not (root / "out_1").exists()


def test_a_teacher_of_another_vocabulary_is_refused(root, monkeypatch):
    path = root / "teacher" / "vocab.txt"
    path.write_text(VOCABULARY.replace("我\n", "我们\n"), encoding="utf-8")
    found = refused(LINE % "out_1" + "--distill_from=teacher", root, monkeypatch)
    assert "--distill_from: teacher was trained with another vocabulary, case or tokenizer" in found


TSV = "--task_name=custom --text_a_column=1 --text_b_column=2 --label_column=3 --header=no "


@pytest.mark.parametrize(
    "labels, num_texts, message",
    [
        (["1", "0"], 2, "teacher was trained on the labels 1,0, this command has 0,1; give one"),
        (["0", "1", "2"], 2, "teacher was trained on the labels 0,1,2, this command has 0,1; "),
        (["0", "1"], 1, "teacher was trained on 1 text per example, this command has 2; give one "),
    ],
)
def test_a_teacher_of_other_labels_or_texts_is_refused(
    root, monkeypatch, labels, num_texts, message
):
    redefine(root, task_name="custom", labels=labels, num_texts=num_texts)
    line = LINE % "out_1" + TSV + "--labels=0,1 --distill_from=teacher"
    assert_matches("--distill_from: " + message, refused(line, root, monkeypatch))


def test_a_teacher_of_the_same_labels_and_texts_teaches(root, monkeypatch, fed):
    redefine(root, task_name="custom", labels=["0", "1"], num_texts=2)
    teach(root, monkeypatch, more=TSV + "--labels=0,1 --distill_from=teacher")
    assert fed


@pytest.mark.parametrize("folder", ["bert", "missing", "unfinished"])
def test_a_folder_that_holds_no_trained_stage_is_no_teacher(root, monkeypatch, folder):
    if folder == "unfinished":
        os.makedirs(str(root / folder))
        shutil.copy(str(root / "teacher" / "run.json"), str(root / folder))
    found = refused(LINE % "out_1" + "--distill_from=" + folder, root, monkeypatch)
    expected = "%s: holds no trained model; give the output folder of a tr" % folder
    if folder == "bert":
        expected = "bert/bert_model.ckpt: holds a BERT without a classifier; fine-tune it first"
    assert_matches(expected, found)
    assert not (root / "out_1").exists()


def test_a_damaged_teacher_is_refused_with_its_flag(root, monkeypatch):
    (root / "teacher" / "state.json").write_text("{}")
    found = refused(LINE % "out_1" + "--distill_from=teacher", root, monkeypatch)
    assert_matches("state.json: is damaged.*give another folder with --distill_from$", found)


def test_a_teacher_is_looked_for_in_trainings_alone(root, monkeypatch):
    """A model that was trained with a teacher is evaluated without it."""
    teach(root, monkeypatch)
    shutil.rmtree(str(root / "teacher"))
    line = LINE % "out_1" + "--distill_from=teacher"
    evaluation_line = line.replace("--do_train", "--do_eval")
    command(evaluation_line.replace("--init_checkpoint=bert ", ""), root, monkeypatch)
    found = read_json(root, "out_1", "eval_results.json")
    (trained,) = read_json(root, "out_1", "state.json")["evaluations"]
    assert (found["loss"], found["num_examples"]) == (pytest.approx(trained["loss"]), 20)
    assert "teacher: holds no trained model; give" in refused(line, root, monkeypatch)
