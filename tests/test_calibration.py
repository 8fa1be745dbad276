"""Tests of temperature, calibration, abstaining and loyalty, and of the files that store them."""

import csv
import json
import os

import numpy as np
import pytest
import scipy.spatial.distance
import scipy.special

import plot_evaluation
from conftest import (
    assert_close,
    assert_matches,
    assert_refused,
    call_script,
    command,
    needs_tensorflow_2,
    read_json,
    refused,
    write_pairs,
    write_stage,
)
from theseus import Classifier
from theseus.checkpoints.weights import CheckpointWeights
from theseus.commands import distillation, other_model
from theseus.errors import UserError
from theseus.inference import calibration, evaluation, predictions, trained_model
from theseus.inference.predictions import Predictions
from theseus.inputs import cache, encoding, reading, tasks
from theseus.runs.stage_folder import StageFolder

predict = Predictions.of
TASK = tasks.TASKS["lcqmc_pair"]
USED = "--data_dir=data --suc_layers=2 --max_seq_length=32 --finetune_suc "


def some_logits(rows=400, labels=3, scale=4.0, seed=0):
    """Logits, and labels that these predict better than chance but not always."""
    random = np.random.RandomState(seed)
    logits = random.normal(size=[rows, labels])
    drawn = scipy.special.softmax(logits * 1.5, axis=1).cumsum(axis=1)
    return logits * scale, (random.uniform(size=[rows, 1]) > drawn).sum(axis=1)


# --- The numbers ---


@pytest.mark.parametrize("scale, labels", [(0.5, 2), (4.0, 3), (20.0, 5)])
def test_at_the_temperature_the_cross_entropy_has_no_slope(scale, labels):
    """The derivative is zero: the labels' mean logit equals the mean under the probabilities."""
    logits, ids = some_logits(labels=labels, scale=scale)
    temperature = calibration.find_temperature(logits, ids)
    expected = (scipy.special.softmax(logits / temperature, axis=1) * logits).sum(axis=1).mean()
    assert logits[np.arange(400), ids].mean() == pytest.approx(expected, rel=1e-3, abs=1e-3 * scale)
    assert temperature == pytest.approx(scale / 1.5, rel=0.25)  # From which the labels were drawn.


def test_without_a_mistake_there_is_no_temperature():
    assert calibration.find_temperature(np.eye(3), np.arange(3)) is None


def test_the_expected_error_is_the_mean_distance_of_the_bins():
    """By hand: confidences of 0.92, 0.91, 0.93 and 0.6, of which the second is wrong.

    The bins' distances are 0.4 and 0.92 - 2 / 3; each counts by its examples.
    """
    logits = np.log([[0.92, 0.08], [0.09, 0.91], [0.93, 0.07], [0.6, 0.4]])
    bins = calibration.reliability(predict(TASK, logits), np.array([0, 0, 0, 0]))
    assert [one["count"] for one in bins] == [1, 3]
    np.testing.assert_allclose([one["confidence"] for one in bins], [0.6, 0.92])
    np.testing.assert_allclose([one["accuracy"] for one in bins], [1, 2 / 3])
    assert calibration.expected_error(bins) == pytest.approx((0.4 + 3 * (0.92 - 2 / 3)) / 4)


def test_a_certain_prediction_is_in_the_last_bin():
    (one,) = calibration.reliability(predict(TASK, np.array([[0.0, 800.0]])), np.array([1]))
    assert one == {"confidence": 1.0, "accuracy": 1.0, "count": 1}


def test_the_most_confident_come_first():
    probabilities = np.array([0.55, 0.95, 0.85, 0.75, 0.65, 0.6, 0.7, 0.8, 0.9, 0.99])
    logits = np.log(np.stack([probabilities, 1 - probabilities], axis=1))
    labels = (probabilities < 0.7).astype(int)  # So that the three least confident are wrong.
    found = calibration.at_coverages(predict(TASK, logits), labels)
    assert [one["coverage"] for one in found] == [1.0, 1.0, 0.9, 0.8, 0.7, 0.5]
    np.testing.assert_allclose([one["accuracy"] for one in found], [0.7, 0.7, 7 / 9, 7 / 8, 1, 1])
    expected = [0.55, 0.55, 0.6, 0.65, 0.7, 0.8]
    np.testing.assert_allclose([one["confidence"] for one in found], expected)
    kept = calibration.abstaining(predict(TASK, logits), labels, 0.65 - 1e-9)
    assert (kept["coverage"], kept["accuracy"]) == (0.8, 7 / 8)
    kept = calibration.abstaining(predict(TASK, logits), labels, 0.999)
    assert (kept["coverage"], kept["accuracy"]) == (0.0, None)


def test_confidence_is_that_of_the_label_that_a_threshold_predicts():
    logits = np.log([[0.6, 0.4], [0.9, 0.1]])
    np.testing.assert_allclose(predict(TASK, logits, 0.3).confidences, [0.4, 0.9])


def test_loyalty_is_the_mean_of_what_scipy_says_of_each_example():
    (one, _), (other, _) = some_logits(seed=1), some_logits(seed=2)
    rows = zip(predictions.probabilities(one), predictions.probabilities(other))
    distances = [scipy.spatial.distance.jensenshannon(p, q) for p, q in rows]
    found = calibration.loyalty(predict(TASK, one), predict(TASK, other))
    assert found["probability_loyalty"] == pytest.approx(1 - np.mean(distances))
    assert found["label_loyalty"] == np.mean(one.argmax(axis=1) == other.argmax(axis=1))
    assert calibration.loyalty(predict(TASK, one), predict(TASK, one)) == {
        "label_loyalty": 1.0,
        "probability_loyalty": 1.0,
    }


def test_loyalty_is_to_the_labels_that_a_threshold_predicts():
    (one, _), (other, _) = some_logits(labels=2, seed=1), some_logits(labels=2, seed=2)
    assert calibration.loyalty(predict(TASK, one), predict(TASK, other))["label_loyalty"] < 1
    for threshold in (0.0, 1.1):  # With these, all labels are the same.
        assert (
            calibration.loyalty(predict(TASK, one, threshold), predict(TASK, other, threshold))[
                "label_loyalty"
            ]
            == 1
        )


# --- What a command keeps and says ---


def prepare(root):
    """Fills a folder with data and a stage 2, whose random weights are often wrong; returns it."""
    (root / "data").mkdir()
    write_pairs(root / "data" / "dev.txt", 40, seed=1)
    write_pairs(root / "data" / "test.txt", 20, seed=2)
    write_stage(root / "out_2", "successor")
    return root


@pytest.fixture
def root(tmp_path):
    return prepare(tmp_path)


@pytest.fixture(scope="module")
def plain(tmp_path_factory):
    """The stage's logits on dev and the labels, before its folder has a temperature."""
    return dev_logits(prepare(tmp_path_factory.mktemp("plain")))


def dev_logits(root, **loading):
    """Returns (logits, labels) over dev of out_2, as it is loaded."""
    examples = reading.read_examples(str(root / "data" / "dev.txt"), TASK)
    with trained_model.load(StageFolder(str(root / "out_2")), **loading) as model:
        encoded = encoding.encode_examples(examples, TASK, model.tokenizer, 32)
        run = evaluation.runner(model.session, model.graph)
        return predictions.compute_logits(run, encoded, 64), encoded.labels


def test_the_temperature_is_kept_and_holds_from_then_on(root, plain, monkeypatch):
    before, labels = plain
    command(
        "--do_eval --eval_files=data/test.txt --do_predict --predict_file=data/dev.txt --calibrate "
        + USED,
        root,
        monkeypatch,
    )  # On dev, whatever else is evaluated.
    kept = read_json(root, "out_2", "calibration.json")
    temperature = kept["temperature"]
    assert temperature == pytest.approx(calibration.find_temperature(before, labels), rel=1e-4)
    assert kept["ece_before"] != kept["ece"] and temperature != 1
    results = read_json(root, "out_2", "eval_results.json")
    assert results["temperature"] == temperature
    assert results["ece"] == pytest.approx(kept["ece"], abs=1e-5)

    expected = predictions.probabilities(before / temperature)
    assert_close(dev_logits(root)[0], before / temperature)
    assert_close(dev_logits(root, is_calibrated=False)[0], before)
    with open(str(root / "out_2" / "predictions.tsv"), encoding="utf-8") as reader:
        rows = list(csv.DictReader(reader, delimiter="\t"))
    assert_close([float(row["probability_1"]) for row in rows], expected[:, 1], 1e-4)
    with Classifier(str(root / "out_2")) as model:
        pairs = [(row["text_a"], row["text_b"]) for row in rows]
        found = [probabilities for _, probabilities in model.classify(pairs)]
    assert_close(found, expected, 1e-4)

    command("--do_eval --calibrate " + USED, root, monkeypatch)  # From undivided logits.
    assert read_json(root, "out_2", "calibration.json")["temperature"] == temperature


@needs_tensorflow_2
def test_an_export_divides_by_it(root, monkeypatch):
    command("--do_eval --do_export --export_format=bert --calibrate " + USED, root, monkeypatch)
    export = root / "out_2" / "export" / "bert"
    temperature = read_json(root, "out_2", "calibration.json")["temperature"]
    assert read_json(export, "export.json")["temperature"] == temperature
    exported = CheckpointWeights(str(export / "bert_model.ckpt"))
    stage = CheckpointWeights(StageFolder(str(root / "out_2")).best_checkpoint())
    for name in ("output_weights", "output_bias"):
        assert_close(exported[name], stage[name] / temperature)
    name = "bert/pooler/dense/kernel"
    np.testing.assert_array_equal(exported[name], stage[name])


def test_of_another_checkpoint_it_does_not_hold(root, plain, monkeypatch, caplog):
    command("--do_eval --calibrate " + USED, root, monkeypatch)
    path = root / "out_2" / "calibration.json"
    path.write_text(json.dumps(dict(read_json(path), checkpoint="best/model.ckpt-6")))
    np.testing.assert_array_equal(dev_logits(root)[0], plain[0])
    assert (
        "calibration.json: belongs to another checkpoint and is not used; run --calibrate again"
        in caplog.text
    )


def test_a_damaged_one_is_one_line(root, monkeypatch):
    path = root / "out_2" / "calibration.json"
    path.write_text('{"temperature": 0, "checkpoint": "best/model.ckpt-7"}')
    found = refused("--do_eval " + USED, root, monkeypatch)
    assert_matches("out_2/calibration.json: is damaged: temperature: expected", found)


def test_a_teacher_teaches_as_it_was_trained(monkeypatch):
    seen = []
    monkeypatch.setattr(trained_model, "load", lambda *_, **given: seen.append(given) or 1 / 0)
    monkeypatch.setattr(cache, "through_cache", lambda path, names, compute: compute())

    class Context(object):
        data = type("Data", (), {"cache_file": staticmethod(lambda *_: None)})

    with pytest.raises(ZeroDivisionError):
        distillation.teacher_logits(Context, other_model.Teacher(None, ""), None, None)
    assert seen == [{"is_calibrated": False}]


def test_a_model_without_a_mistake_is_evaluated_and_not_calibrated(root, monkeypatch, caplog):
    monkeypatch.setattr(calibration, "find_temperature", lambda *_: None)
    with caplog.at_level("WARNING"):
        command("--do_eval --calibrate " + USED, root, monkeypatch)
    assert "--calibrate: data/dev.txt: every prediction is correct" in caplog.text
    assert "stays in use" not in caplog.text
    assert not (root / "out_2" / "calibration.json").exists()
    assert read_json(root / "out_2" / "eval_results.json")["temperature"] == 1.0


def test_a_temperature_of_before_that_goes_on_to_hold_is_said_to(root, monkeypatch, caplog):
    command("--do_eval --calibrate " + USED, root, monkeypatch)
    held = read_json(root / "out_2" / "calibration.json")["temperature"]
    monkeypatch.setattr(calibration, "find_temperature", lambda *_: None)
    with caplog.at_level("WARNING"):
        command("--do_eval --calibrate " + USED, root, monkeypatch)
    assert "found before, %.4g, stays in use" % held in caplog.text
    assert read_json(root / "out_2" / "eval_results.json")["temperature"] == held


def test_results_that_cannot_be_written_were_printed(root, monkeypatch, capsys):
    def fail(self, name, *_):
        raise UserError("%s: cannot be written: Read-only file system" % name)

    monkeypatch.setattr(StageFolder, "write_json", fail)
    found = refused("--do_eval " + USED, root, monkeypatch)
    assert "eval_results.json: cannot be written" in found
    assert "examples  accuracy" in capsys.readouterr().out


def test_a_temperature_at_a_bound_is_said_to_be(root, monkeypatch, caplog):
    for temperature, is_said in ((99.9, True), (0.0101, True), (3.0, False)):
        monkeypatch.setattr(calibration, "find_temperature", lambda *_, t=temperature: t)
        caplog.clear()
        with caplog.at_level("WARNING"):
            command("--do_eval --calibrate " + USED, root, monkeypatch)
        assert ("too few wrong predictions" in caplog.text) == is_said


def test_tables_stay_out_of_a_stream_of_predictions(root, monkeypatch, capfd):
    before = os.dup(0)
    with open(str(root / "data" / "dev.txt"), "rb") as reader:
        os.dup2(reader.fileno(), 0)
    try:
        command("--do_eval --do_predict --predict_file=- " + USED, root, monkeypatch)
    finally:
        os.dup2(before, 0)
        os.close(before)
    out, err = capfd.readouterr()
    assert out.startswith("index\ttext_a\ttext_b") and "examples  accuracy" in err


def test_uncertain_predictions_are_marked(root, plain, monkeypatch, capsys):
    logits, labels = plain
    least = float(np.median(predict(TASK, logits).confidences))
    line = "--do_eval --do_predict --predict_file=data/dev.txt --abstain_below=%r " % least
    command(line + USED, root, monkeypatch)
    with open(str(root / "out_2" / "predictions.tsv"), encoding="utf-8") as reader:
        rows = list(csv.DictReader(reader, delimiter="\t"))
    surest = [max(float(row["probability_0"]), float(row["probability_1"])) for row in rows]
    assert [row["is_uncertain"] for row in rows] == [str(int(p < least)) for p in surest]
    kept = read_json(root, "out_2", "eval_results.json")["abstaining"]
    sure = predict(TASK, logits).confidences >= least
    assert kept["coverage"] == sure.mean()
    assert kept["accuracy"] == (logits.argmax(axis=1) == labels)[sure].mean()
    assert "%.1f%% of the examples, accuracy" % (100 * sure.mean()) in capsys.readouterr().out


def test_loyalty_is_to_the_other_stages_predictions(root, plain, monkeypatch, capsys):
    write_stage(root / "out_0", "predecessor")
    command(
        "--do_eval --compare_with=out_0,out_2 --eval_files=data/test.txt " + USED, root, monkeypatch
    )
    ours, _ = plain
    other = StageFolder(str(root / "out_0"))
    monkeypatch.setattr(trained_model, "load", lambda _, load=trained_model.load: load(other))
    theirs, labels = dev_logits(root)
    results = read_json(root, "out_2", "eval_results.json")
    found = results["compared"]["out_0"]
    for name, value in calibration.loyalty(predict(TASK, ours), predict(TASK, theirs)).items():
        assert found[name] == pytest.approx(value, abs=1e-5)
    assert found["accuracy"] == (theirs.argmax(axis=1) == labels).mean()
    assert results["compared"]["out_2"]["label_loyalty"] == 1
    assert results["compared"]["out_2"]["accuracy"] == results["accuracy"]
    assert "label_loyalty" in results["eval_files"]["data/test.txt"]["compared"]["out_0"]
    output = capsys.readouterr().out
    assert "dev, out_0: accuracy %.4f; loyalty to it: labels " % found["accuracy"] in output
    assert "data/test.txt, out_2: accuracy" in output


def test_the_errors_are_the_wrong_ones_the_most_confident_first(root, plain, monkeypatch):
    logits, labels = plain
    command("--do_eval " + USED, root, monkeypatch)
    with open(str(root / "out_2" / "errors.tsv"), encoding="utf-8") as reader:
        rows = list(csv.DictReader(reader, delimiter="\t"))
    wrong = np.flatnonzero(logits.argmax(axis=1) != labels)
    assert sorted(int(row["index"]) for row in rows) == wrong.tolist() and len(wrong) > 3
    assert all(row["label"] != row["predicted_label"] for row in rows)
    surest = [max(float(row["probability_0"]), float(row["probability_1"])) for row in rows]
    assert surest == sorted(surest, reverse=True)


def test_without_an_error_the_columns_are_there(root, plain, monkeypatch):
    logits, labels = plain
    monkeypatch.setattr(predictions, "compute_logits", lambda *_: 9.0 * np.eye(2)[labels])
    command("--do_eval " + USED, root, monkeypatch)
    with open(str(root / "out_2" / "errors.tsv"), encoding="utf-8") as reader:
        (header,) = csv.reader(reader, delimiter="\t")
    assert header[:5] == ["index", "text_a", "text_b", "label", "predicted_label"]


def test_each_label_has_its_scores(root, plain, monkeypatch, capsys):
    logits, labels = plain
    command("--do_eval " + USED, root, monkeypatch)
    predicted = logits.argmax(axis=1)
    for number, row in enumerate(read_json(root, "out_2", "eval_results.json")["by_label"]):
        right = ((predicted == number) & (labels == number)).sum()
        assert row["label"] == str(number) and row["num_examples"] == (labels == number).sum()
        count = (predicted == number).sum()
        assert row["precision"] == (pytest.approx(right / count) if count else None)
        assert row["recall"] == pytest.approx(right / (labels == number).sum())
    assert "label  precision    recall        f1  examples" in capsys.readouterr().out


@pytest.mark.parametrize(
    "line, message",
    [
        ("--do_predict --predict_file=data/dev.txt --calibrate", "--calibrate needs --do_eval"),
        ("--do_eval --eval_split=test --calibrate", "--calibrate needs --do_eval with --eval_spl"),
        ("--do_export --export_format=bert --abstain_below=0.5", "--abstain_below needs --do_ev"),
        ("--do_eval --abstain_below=1.5", "abstain_below"),
        (
            "--do_predict --predict_file=data/dev.txt --compare_with=out_2",
            "--compare_with needs --do_eval",
        ),
        (
            "--do_eval --compare_with=out_2,out_2",
            "--compare_with: a folder is named twice, or a name is empty",
        ),
        ("--do_eval --compare_with=none", "none: holds no trained model; give the output folder"),
    ],
)
def test_a_mistake_is_one_line(root, monkeypatch, line, message):
    assert_refused(USED + line, root, monkeypatch, message)


@pytest.mark.parametrize("flag", ["calibrate", "abstain_below=0.5", "compare_with=out_2"])
def test_numbers_have_no_probabilities(root, monkeypatch, flag):
    (root / "data" / "dev.tsv").write_text("index\tsentence1\tsentence2\tscore\n0\ta\tb\t1.5\n")
    line = "--do_eval --task_name=sts-b --%s " % flag
    found = refused(line + USED, root, monkeypatch)
    assert_matches(
        "--%s: applies only to tasks with labels, this task predicts a number" % flag.split("=")[0],
        found,
    )


def test_to_compare_with_a_stage_of_other_labels_is_refused(root, monkeypatch):
    folder = write_stage(root / "other", "successor")
    run = read_json(root, "other", "run.json")
    from theseus.runs import files

    files.write_json(folder.file("run.json"), dict(run, task_name="qqp"))
    found = refused("--do_eval --compare_with=other " + USED, root, monkeypatch)
    assert_matches("--compare_with: other was trained on qqp, this command is for lcqmc_p", found)


# --- The picture ---


@pytest.mark.parametrize("is_calibrated", [False, True])
def test_a_picture_is_drawn(root, monkeypatch, capsys, is_calibrated):
    pytest.importorskip("matplotlib")
    line = "--do_eval " + ("--calibrate " if is_calibrated else "")
    command(line + USED, root, monkeypatch)
    capsys.readouterr()
    assert call_script(monkeypatch, plot_evaluation, "out_2") is None
    assert capsys.readouterr().out == "out_2/evaluation.png\n"
    assert (root / "out_2" / "evaluation.png").read_bytes().startswith(b"\x89PNG")


def test_of_numbers_a_picture_is_one_line(tmp_path, monkeypatch):
    pytest.importorskip("matplotlib")
    (tmp_path / "eval_results.json").write_text('{"split": "dev", "pearson": 0.5}')
    found = call_script(monkeypatch, plot_evaluation, tmp_path)
    assert_matches(
        "plot_evaluation.py: .*/eval_results.json: the task predicts numbers, the plots need", found
    )


def test_without_an_evaluation_a_picture_is_one_line(root, monkeypatch):
    pytest.importorskip("matplotlib")
    found = call_script(monkeypatch, plot_evaluation, root / "out_2")
    assert_matches("plot_evaluation.py: .*/eval_results.json: cannot be read: No such file", found)
