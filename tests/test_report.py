"""Tests of the report about folders of trained stages: the content of its rows."""

import collections
import json
import os
import statistics
import sys

import pytest
import scipy.stats
import tensorflow.compat.v1 as tf

import modeling_theseus
import report
from conftest import SMALL_BERT, call_script, make_config, read_json
from theseus import stage as stages
from theseus.inference import evaluation
from theseus.inputs import tasks
from theseus.runs.stage_folder import StageFolder
from theseus.runs.state import State

CONFIG = SMALL_BERT
DISTILLED = dict(distill_from="ab", distill_temperature=2.0, distill_weight=0.9)


def define(stage="replacing", task_name="lcqmc_pair", suc_layers=2, **changes):
    """Returns what defines a run, with the keys that a training writes."""
    found = stages.of_name(stage)
    run_config = make_config(found, max_seq_length=64, do_lower_case=True).run_values()
    run_config.update(task_name=task_name, precision="float32", labels=None, num_texts=None)
    run_config.update(suc_init=None, distill_from=None, bert_config=CONFIG)
    run_config.update(suc_layers=suc_layers if found.has_successor else None)
    return dict(run_config, **changes)


def write_run(
    path,
    accuracies=(0.5, 0.75, 0.625),
    eval_files=None,
    seconds=100.0,
    speed=None,
    is_finished=True,
    paths=None,
    **run_config,
):
    """Writes a folder as a training of so many epochs, of 7 steps each, leaves it.

    With `speed`, examples a second, as --do_eval leaves it too.
    """
    folder = StageFolder(str(path))
    with folder.locked():
        folder.claim(define(**run_config), {}, paths=paths)
        evaluations = [
            {"accuracy": accuracy, "f1": 0.125, "auc": 0.25, "global_step": 7 * (n + 1)}
            for n, accuracy in enumerate(accuracies)
        ]
        best = max(range(len(accuracies)), key=lambda n: accuracies[n])
        state = State(evaluations=evaluations, train_seconds=seconds, is_finished=is_finished)
        state.best = folder.new_checkpoint("best", 7 * (best + 1))
        state.last = folder.new_checkpoint("last", 7 * len(accuracies))
        folder.commit(state)
        if speed:
            folder.write_json("timing.json", {"eval_examples_per_second": speed})
        if eval_files:
            results = {
                name: value if isinstance(value, dict) else {"accuracy": value}
                for name, value in eval_files.items()
            }
            folder.write_json("eval_results.json", {"accuracy": 0.75, "eval_files": results})


def called(monkeypatch, *arguments):
    return call_script(monkeypatch, report, *arguments)


def tables(folder):
    """Returns the report's tables: each a list of dicts from a column's name to its cell.

    If two columns have the same name, the second one gets a + at its end.
    """
    found, names = [], None
    for line in (folder / "report.md").read_text(encoding="utf-8").splitlines():
        cells = [cell.strip() for cell in line.strip("|").split("|")] if line[:1] == "|" else None
        if cells is None:
            names = None
        elif names is None:
            names = [c + "+" if c in cells[:n] else c for n, c in enumerate(cells)]
            found.append([])
        elif set(cells) != {"---"}:
            assert len(cells) == len(names)
            found[-1].append(dict(zip(names, cells)))
    return found


@pytest.fixture(autouse=True)
def no_plots(monkeypatch, request):
    if "plots" not in request.node.name:
        monkeypatch.setattr(report, "draw", lambda *_: None)


# --- A row ---


def test_a_row_is_what_its_folder_holds(tmp_path, monkeypatch, capsys):
    write_run(tmp_path / "a" / "out_1", seconds=123.0, speed=400.0)
    assert called(monkeypatch, tmp_path) is None
    (row,), (epochs,) = tables(tmp_path)
    parameters = row.pop("parameters")
    assert row == {
        "folder": os.path.join("a", "out_1"),
        "layers": "2",
        "method": "replacing, rate 0.5",
        "epochs": "10 + 0",
        "seeds": "1",
        "dev": "0.7500",
        "dev retained": "",
        "steps": "21",
        "seconds": "123",
        "ms an example": "2.50",
    }
    assert int(parameters.replace(",", "")) == report.count_parameters(define())
    assert capsys.readouterr().out == str(tmp_path / "report.md") + "\n"
    assert epochs == {
        "folder": os.path.join("a", "out_1"),
        "seed": "42",
        "dev by epoch": ".5000 .7500 .6250",
        "best": "0.7500",
    }
    (held,) = json.loads((tmp_path / "report.json").read_text())
    assert (held["score"], held["epochs"]) == (0.75, [10.0, 0])
    assert held["evaluations"] == [[7, 0.5], [14, 0.75], [21, 0.625]]
    assert held["path"] == os.path.join("a", "out_1")


@pytest.mark.parametrize(
    "run_config, words",
    [
        (dict(stage="predecessor"), "predecessor"),
        (dict(stage="predecessor", classifier_rows=[0, 1]), "predecessor, trained on"),
        (dict(), "replacing, rate 0.5"),
        (dict(classifier_rows=None), "replacing, rate 0.5, new classifier"),
        (dict(classifier_rows=[1, 0]), "replacing, rate 0.5"),
        (dict(replace_rate_prob=0.25, replace_linear_k=1e-3), "replacing, linear rate"),
        (dict(replace_until=0.8), "replacing, linear rate"),
        (
            dict(train_scope="successor_layers"),
            "replacing, rate 0.5, train scope successor_layers",
        ),
        (dict(train_scope="successor"), "replacing, rate 0.5"),
        (dict(suc_init="spread"), "replacing, rate 0.5, spread start"),
        (dict(suc_init=64 * "a"), "replacing, rate 0.5, another BERT's layers as start"),
        (dict(suc_learning_rate=1e-4), "replacing, rate 0.5, successor's learning rate 0.0001"),
        (dict(suc_learning_rate=0.0), "replacing, rate 0.5, successor's learning rate 0"),
        (DISTILLED, "replacing, distilled, rate 0.5, temperature 2, weight 0.9"),
    ],
)
def test_a_method_in_words(run_config, words):
    assert report.describe_method(define(**run_config), {"init_checkpoint": "out_0"}) == words


@pytest.mark.parametrize(
    "paths, run_config, words",
    [
        ({"init_checkpoint": "out_0"}, {}, "fine-tuned subset"),
        (
            {"init_checkpoint": "bert"},
            dict(classifier_rows=None),
            "fine-tuned subset, new classifier",
        ),
        ({"init_checkpoint": "out_0"}, DISTILLED, "distilled subset, temperature 2, weight 0.9"),
        ({"data_dir": "data"}, {}, "replacing, then stage 2"),
        (
            {"data_dir": "data"},
            dict(DISTILLED, ema_decay=0.999),
            "replacing, then stage 2, distilled, temperature 2, weight 0.9, averaged weights",
        ),
        ({}, dict(select_checkpoint="last"), "stage 2, last checkpoint"),
        (
            {"init_checkpoint": "out_0"},
            dict(train_scope="successor_layers", unlabelled_data="ab"),
            "fine-tuned subset, train scope successor_layers, with unlabelled texts",
        ),
    ],
)
def test_a_stage_2_is_named_by_what_it_started_from(paths, run_config, words):
    assert report.describe_method(define(stage="successor", **run_config), paths) == words


def test_a_run_of_before_a_flag_was_there_is_told_as_one_without_it():
    run_config = define()
    for key in ("suc_init", "suc_learning_rate", "distill_from", "distill_weight", "ema_decay"):
        del run_config[key]
    assert report.describe_method(run_config, {}) == "replacing, rate 0.5"


@pytest.mark.parametrize(
    "stage, layers, epochs",
    [("predecessor", 4, (0, 10)), ("replacing", 2, (10, 0)), ("successor", 2, (0, 10))],
)
def test_layers_are_the_evaluated_models_and_epochs_the_stages(tmp_path, stage, layers, epochs):
    write_run(tmp_path / "out", stage=stage)
    found = report.read_run(str(tmp_path / "out"), str(tmp_path))
    assert (found.stage, found.layers, found.epochs) == (stage, layers, epochs)


def test_a_score_is_the_tasks_own(tmp_path):
    """MRPC's score is the mean of accuracy and F1; F1 is 0.125 in every evaluation."""
    write_run(tmp_path / "out", task_name="mrpc")
    found = report.read_run(str(tmp_path / "out"), str(tmp_path))
    assert (found.score, found.evaluations[-1]) == ((0.75 + 0.125) / 2, [21, (0.625 + 0.125) / 2])


@pytest.mark.parametrize("task_name, outputs", [("lcqmc_pair", 2), ("mnli", 3), ("sts-b", 1)])
@pytest.mark.parametrize("stage", ["predecessor", "replacing", "successor"])
def test_the_parameters_are_those_of_the_evaluated_graph(stage, task_name, outputs):
    config = modeling_theseus.BertConfig.from_dict(dict(CONFIG, intermediate_size=24))
    found = stages.of_name(stage)
    run_config = define(stage=stage, task_name=task_name, bert_config=config.to_dict())
    with tf.Graph().as_default():
        groups = modeling_theseus.module_groups(found, 4, 2)
        path = found.evaluated_mask(groups)
        modules = modeling_theseus.encoder_modules(config, groups, path)
        assert tasks.TASKS[task_name].num_outputs == outputs
        evaluation.build_graph(config, outputs, modules)
        expected = sum(v.shape.num_elements() for v in tf.global_variables())
    assert report.count_parameters(run_config) == expected


# --- Rows together ---


def test_seeds_are_one_row_of_mean_and_interval(tmp_path, monkeypatch):
    """Against scipy: the 95 % interval of the mean of three values by Student's t."""
    scores = {1: (0.5, 0.4), 2: (0.6, 0.6), 3: (0.8, 0.7)}
    for seed, accuracies in scores.items():
        write_run(tmp_path / ("seed_%d" % seed) / "out", accuracies, seed=seed, seconds=10 * seed)
    called(monkeypatch, tmp_path)
    (row,), epochs = tables(tmp_path)
    best = [0.5, 0.6, 0.8]
    low, high = scipy.stats.t.interval(0.95, 2, statistics.mean(best), scipy.stats.sem(best))
    expected = "%.4f ± %.4f" % (statistics.mean(best), (high - low) / 2)
    assert (row["folder"], row["seeds"], row["dev"]) == ("out", "3", expected)
    assert (row["steps"], row["seconds"]) == ("14", "20")
    assert "0.6333 ± 0.3795" == expected  # 4.3027 standard errors of 0.0882.
    assert [row["dev by epoch"] for row in epochs] == [".5000 .4000", ".6000 .6000", ".8000 .7000"]


def test_what_stands_beside_a_control_is_compared_with_it_seed_by_seed(tmp_path, monkeypatch):
    controls = {1: 0.5, 2: 0.75, 3: 0.5}
    replaced = {1: 0.625, 2: 0.75, 4: 1.0}  # Of seeds 1 and 2 there are both.
    for seed, accuracy in controls.items():
        files = {"test.txt": 0.25}
        write_run(tmp_path / ("seed_%d/2/direct" % seed), [accuracy], files, seed=seed)
    for seed, accuracy in replaced.items():
        path = tmp_path / ("seed_%d/2/replacing/stage_2" % seed)
        files = {"test.txt": 0.5} if seed == 1 else None
        paths = {"data_dir": "data"}
        write_run(path, [accuracy], files, seed=seed, stage="successor", paths=paths)
    write_run(tmp_path / "seed_1" / "6" / "replacing", seed=1, suc_layers=4)
    called(monkeypatch, tmp_path)
    _, _, (row,) = tables(tmp_path)
    assert row == {
        "folder": "2/replacing/stage_2",
        "method": "replacing, then stage 2",
        "baseline's folder": "2/direct",
        "seeds": "2",
        "dev": "+0.0625 ± 0.7941",  # 12.7062 standard errors of 0.0625.
        "test.txt": "+0.2500",
    }


def test_a_control_may_be_named_after_its_layers(tmp_path, monkeypatch):
    for name, layers, score in [("subset_2", 2, 0.5), ("subset_4", 4, 0.75), ("own_4", 4, 0.875)]:
        write_run(tmp_path / name, [score], suc_layers=layers, stage="successor")
    called(monkeypatch, tmp_path)
    _, _, (row,) = tables(tmp_path)
    assert (row["folder"], row["baseline's folder"]) == ("own_4", "subset_4")
    assert row["dev"] == "+0.1250"


@pytest.mark.parametrize(
    "changes",
    [dict(is_finished=False), dict(dev_data="other"), dict(metric="f1"), dict(seed=2)],
)
def test_what_cannot_be_compared_with_a_control_is_not(tmp_path, monkeypatch, changes):
    write_run(tmp_path / "direct", (0.5,), dev_data="one", stage="successor")
    write_run(tmp_path / "a", (0.75,), dev_data="one")
    write_run(tmp_path / "b", (0.25,), **dict(dict(dev_data="one"), **changes))
    called(monkeypatch, tmp_path)
    _, _, rows = tables(tmp_path)
    assert [(row["folder"], row["dev"]) for row in rows] == [("a", "+0.2500")]


@pytest.mark.parametrize(
    "other",
    [dict(suc_layers=1), dict(num_train_epochs=4.0), dict(replace_rate_prob=0.25)],
)
def test_runs_that_differ_in_more_than_the_seed_are_rows_of_their_own(tmp_path, monkeypatch, other):
    write_run(tmp_path / "seed_1" / "out", seed=1)
    write_run(tmp_path / "seed_2" / "out", seed=2, **other)
    called(monkeypatch, tmp_path)
    rows = tables(tmp_path)[0]
    assert [row["seeds"] for row in rows] == ["1", "1"]


def test_a_training_that_goes_on_is_said_to(tmp_path, monkeypatch):
    write_run(tmp_path / "a", is_finished=False)
    called(monkeypatch, tmp_path)
    (row,), _ = tables(tmp_path)
    assert row["method"] == "replacing, rate 0.5, not finished"


def test_runs_of_other_folders_are_rows_of_their_own(tmp_path, monkeypatch):
    for name in ("out", "other"):
        write_run(tmp_path / "seed_1" / name, seed=1)
    called(monkeypatch, tmp_path)
    assert [row["folder"] for row in tables(tmp_path)[0]] == ["other", "out"]


def kept(folder, monkeypatch):
    """Returns what each folder's row keeps, a dict."""
    called(monkeypatch, folder)
    return {row["folder"]: row["dev retained"] for row in tables(folder)[0]}


def test_what_is_kept_is_of_the_nearest_predecessor(tmp_path, monkeypatch):
    for seed, whole, score in [(1, 0.9, 0.45), (2, 0.5, 0.5)]:
        root = tmp_path / ("seed_%d" % seed)
        write_run(root / "pre", (whole,), stage="predecessor", seed=seed)
        write_run(root / "2" / "out", (score,), seed=seed)
    write_run(tmp_path / "other" / "pre", (0.8,), stage="predecessor", seed=1)
    write_run(tmp_path / "other" / "out", (0.4,), seed=3)
    expected = {
        "pre": "100.0% ± 0.0",
        "2/out": "75.0% ± 317.7",
        "other/pre": "100.0%",
        "other/out": "50.0%",
    }
    assert kept(tmp_path, monkeypatch) == expected


def test_of_several_predecessors_that_of_the_seed_counts_or_else_their_mean(tmp_path, monkeypatch):
    write_run(tmp_path / "a", (0.9,), stage="predecessor", seed=1)
    write_run(tmp_path / "b", (0.3,), stage="predecessor", seed=2)
    write_run(tmp_path / "c", (0.45,), seed=1)
    write_run(tmp_path / "d", (0.45,), seed=3)
    found = kept(tmp_path, monkeypatch)
    assert found == {"a": "100.0%", "b": "100.0%", "c": "50.0%", "d": "75.0%"}


def test_of_a_seeds_predecessors_the_best_on_dev_counts_on_other_files_too(tmp_path, monkeypatch):
    scores = [("a", "predecessor", 0.8, 0.9), ("b", "predecessor", 0.9, 0.6)]
    for name, stage, dev, test in scores + [("c", "replacing", 0.45, 0.45)]:
        write_run(tmp_path / name, (dev,), {"x/test.txt": test, "y.txt": 0.5}, stage=stage)
    called(monkeypatch, tmp_path)
    row = tables(tmp_path)[0][2]
    assert (row["dev retained"], row["x/test.txt retained"]) == ("50.0%", "75.0%")
    assert "y.txt retained" not in row


@pytest.mark.parametrize("whole, is_finished", [(0.9, False), (0.0, True), (-0.5, True)])
def test_of_no_such_predecessor_nothing_is_said_to_be_kept(
    tmp_path, monkeypatch, whole, is_finished
):
    write_run(tmp_path / "a", (whole,), stage="predecessor", is_finished=is_finished)
    write_run(tmp_path / "b", (0.45,))
    assert kept(tmp_path, monkeypatch) == {"a": "", "b": ""}


def test_what_is_kept_is_of_the_same_score_of_the_same_data(tmp_path, monkeypatch):
    write_run(tmp_path / "a", (0.9,), stage="predecessor", dev_data="one")
    write_run(tmp_path / "b", (0.6,), stage="predecessor", dev_data="two")
    write_run(tmp_path / "c", (0.3,), dev_data="two")
    write_run(tmp_path / "d", (0.3,), dev_data="two", metric="f1", seed=2)
    called(monkeypatch, tmp_path)
    rows = tables(tmp_path)[0]
    assert [(row["metric"], row["dev retained"]) for row in rows] == [
        ("accuracy", "100.0%"),
        ("accuracy", "100.0%"),
        ("accuracy", "50.0%"),
        ("f1", ""),
    ]


def test_an_evaluated_file_is_a_column_of_those_that_have_it(tmp_path, monkeypatch):
    write_run(tmp_path / "a", eval_files={"/far/y/test.txt": 0.5, "x/test.txt": 0.25})
    write_run(tmp_path / "b")
    called(monkeypatch, tmp_path)
    rows = tables(tmp_path)[0]
    found = [(row["y/test.txt"], row["x/test.txt"]) for row in rows]
    assert found == [("0.5000", "0.2500"), ("", "")]


def test_an_evaluated_files_auc_is_a_column_and_compared_unless_it_is_the_score(
    tmp_path, monkeypatch
):
    for name, auc in [("direct", 0.75), ("other", 0.875)]:
        write_run(tmp_path / name, eval_files={"x/shop.txt": {"accuracy": 0.5, "auc": auc}})
    write_run(tmp_path / "score", eval_files={"x/shop.txt": {"auc": 0.75}}, metric="auc")
    write_run(tmp_path / "without", eval_files={"x/shop.txt": {"accuracy": 0.5, "auc": None}})
    called(monkeypatch, tmp_path)
    rows, _, differences = tables(tmp_path)
    assert [row["x/shop.txt AUC"] for row in rows] == ["0.7500", "0.8750", "", ""]
    assert [row["x/shop.txt AUC"] for row in differences] == ["+0.1250", ""]


def test_several_folders_are_one_report_in_the_first_or_where_it_is_asked_for(
    tmp_path, monkeypatch
):
    write_run(tmp_path / "one" / "a")
    write_run(tmp_path / "two" / "b")
    called(monkeypatch, tmp_path / "one", tmp_path / "two")
    names = [row["folder"] for row in tables(tmp_path / "one")[0]]
    assert names == ["one/a", "two/b"]
    assert not (tmp_path / "two" / "report.md").exists()
    called(monkeypatch, tmp_path / "two", "--output=%s" % (tmp_path / "three"))
    assert sorted(os.listdir(str(tmp_path / "three"))) == ["report.json", "report.md"]


# --- The published table ---


def test_published_rows_are_matched_by_their_folders(tmp_path, monkeypatch):
    """Accuracy on dev and on business data, by the published project's README."""
    shop = collections.OrderedDict([("data/lcqmc/test.txt", 0.125), ("shop/test.tsv", 0.5)])
    root = tmp_path / "published" / "seed_42"
    write_run(root / "6_layers_10", (0.85,), suc_layers=2)
    successor = dict(stage="successor", num_train_epochs=4)
    write_run(root / "6_layers_10_4", (0.84,), eval_files=shop, **successor)
    write_run(root / "2_layers_10", (0.1,), num_train_epochs=4, suc_layers=2)
    write_run(root / "2_layers_10_3", (0.7,), eval_files={"a/test.txt": 0.9}, **successor)
    write_run(root / "out_1_3", (0.6,), num_train_epochs=4, max_train_examples=256)
    write_run(tmp_path / "paper" / "6_layers_4", (0.1,))
    called(monkeypatch, tmp_path)
    _, _, rows = tables(tmp_path)
    columns = ("layers", "stage 1", "stage 2", "published", "here", "published+", "here+")
    assert [[row[column] for column in columns] for row in rows] == [
        ["6", "10", "0", "0.8612", "0.8500", "", ""],
        ["6", "10", "4", "0.86", "0.8400", "0.53435", "0.5000"],
        ["2", "10", "0", "0.78584", "0.1000 (stage 1: 4 epochs)", "", ""],
        ["2", "10", "3", "0.82424", "0.7000 (stage 1: 4 epochs, stage 2: 4 epochs)", "0.7595", ""],
        ["2", "4", "0", "0.76512", "0.6000 (256 examples)", "", ""],
    ]
    assert {row["folder"] for row in rows} == {"."}


def test_published_rows_of_two_folders_are_not_mixed(tmp_path, monkeypatch):
    for name, score in [("small", 0.6), ("whole", 0.8)]:
        write_run(tmp_path / name / "published" / "seed_42" / "2_layers_10", (score,))
    called(monkeypatch, tmp_path / "small", tmp_path / "whole", "--output=%s" % tmp_path)
    _, _, rows = tables(tmp_path)
    assert [(row["folder"], row["here"]) for row in rows] == [
        ("small", "0.6000"),
        ("whole", "0.8000"),
    ]
    called(monkeypatch, tmp_path / "whole" / "published")
    assert tables(tmp_path / "whole" / "published")[2][0]["here"] == "0.8000"


def test_a_published_row_is_the_mean_of_its_seeds(tmp_path, monkeypatch):
    for seed, score in [(1, 0.5), (2, 0.7)]:
        folder = tmp_path / "published" / ("seed_%d" % seed) / "2_layers_10"
        write_run(folder, (score,), seed=seed, eval_files={"shop.tsv": score / 2})
    called(monkeypatch, tmp_path)
    (row,) = tables(tmp_path)[2]
    assert (row["here"], row["here+"]) == ("0.6000 ± 1.2706", "0.3000 ± 0.6353")


def test_of_a_published_stage_2_alone_nothing_is_said_of_its_stage_1(tmp_path, monkeypatch):
    folder = tmp_path / "published" / "seed_42" / "2_layers_10_2"
    write_run(folder, (0.5,), stage="successor", num_train_epochs=2)
    called(monkeypatch, tmp_path)
    (row,) = tables(tmp_path)[2]
    assert row["here"] == "0.5000"


def test_without_a_published_run_there_is_no_published_table(tmp_path, monkeypatch):
    write_run(tmp_path / "6_layers_10")
    called(monkeypatch, tmp_path)
    assert len(tables(tmp_path)) == 2
    assert "published" not in (tmp_path / "report.md").read_text(encoding="utf-8")


# --- What is no run ---


def test_folders_that_hold_no_trained_stage_are_passed_over(tmp_path, monkeypatch):
    write_run(tmp_path / "out")
    (tmp_path / "other").mkdir()
    begun = StageFolder(str(tmp_path / "begun"))
    with begun.locked():
        begun.claim(define(), {})
        begun.commit(State())
    called(monkeypatch, tmp_path)
    assert [row["folder"] for row in tables(tmp_path)[0]] == ["out"]


def test_folders_without_a_run_are_one_line(tmp_path, monkeypatch):
    (tmp_path / "empty").mkdir()
    monkeypatch.chdir(str(tmp_path))
    assert called(monkeypatch, "empty") == "report.py: empty: holds no trained stage"
    for names in (["missing"], ["empty", "missing"]):
        assert called(monkeypatch, *names) == "report.py: missing: there is no such folder"
    assert os.listdir(str(tmp_path)) == ["empty"] and os.listdir("empty") == []


def test_a_folder_that_is_given_twice_is_one_run(tmp_path, monkeypatch):
    write_run(tmp_path / "out")
    called(monkeypatch, tmp_path, tmp_path / "out")
    assert [row["seeds"] for row in tables(tmp_path)[0]] == ["1"]
    called(monkeypatch, tmp_path / "out")
    assert [row["folder"] for row in tables(tmp_path / "out")[0]] == ["out"]
    (tmp_path / "link").symlink_to(tmp_path / "out")
    called(monkeypatch, tmp_path / "link", "--output=%s" % tmp_path)
    assert [row["folder"] for row in tables(tmp_path)[0]] == ["link"]


@pytest.mark.parametrize(
    "name, content",
    [
        ("state.json", "{}"),
        ("run.json", "{}"),
        ("run.json", None),
        ("eval_results.json", '{"eval_files": null}'),
        ("eval_results.json", '{"eval_files": {"x/test.txt": {"f1": 0.5}}}'),
        ("eval_results.json", '{"eval_files": {"x/test.txt": {"accuracy": 0.5, "auc": "high"}}}'),
    ],
)
def test_a_damaged_run_is_named_and_left_out(tmp_path, monkeypatch, capsys, name, content):
    for run in ("out", "other"):
        write_run(tmp_path / run)
    path = tmp_path / "out" / name
    if content is None:
        held = json.loads(path.read_text())
        content = json.dumps({key: held[key] for key in held if key != "seed"})
    path.write_text(content)
    assert called(monkeypatch, tmp_path) is None
    line = capsys.readouterr().err.strip()
    assert line.startswith("report.py: skipped: ") and "\n" not in line and str(path) in line
    assert [row["folder"] for row in tables(tmp_path)[0]] == ["other"]
    assert called(monkeypatch, tmp_path / "out").endswith("holds no trained stage")


# --- The plots ---


def test_plots_are_written(tmp_path, monkeypatch):
    pytest.importorskip("matplotlib")
    write_run(tmp_path / "a", stage="predecessor")
    write_run(tmp_path / "b")
    assert called(monkeypatch, tmp_path) is None
    for name in ("scores.png", "curves.png"):
        assert (tmp_path / name).read_bytes().startswith(b"\x89PNG")


def test_plots_show_each_runs_score_by_depth_and_by_step(tmp_path, monkeypatch):
    pyplot = pytest.importorskip("matplotlib.pyplot")
    panels, subplots = [], pyplot.subplots

    def watched(*arguments, **options):
        figure, panel = subplots(*arguments, **options)
        panels.append(panel)
        return figure, panel

    monkeypatch.setattr(pyplot, "subplots", watched)
    write_run(tmp_path / "one" / "a", stage="predecessor", accuracies=(0.5, 0.9), speed=100.0)
    write_run(tmp_path / "two" / "b", speed=500.0)
    called(monkeypatch, tmp_path / "one", tmp_path / "two")
    scores, curves = panels
    points = [line.get_data() for line in scores.get_lines() if line.get_marker() == "o"]
    assert [(x[0], y[0]) for x, y in points] == [(4, 0.9), (2, 0.75)]
    found = [list(zip(*[v.tolist() for v in line.get_data()])) for line in curves.get_lines()]
    assert found == [[(7, 0.5), (14, 0.9)], [(7, 0.5), (14, 0.75), (21, 0.625)]]


def test_without_matplotlib_plots_are_a_line_and_the_report_is_there(tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    monkeypatch.setitem(sys.modules, "matplotlib.pyplot", None)
    write_run(tmp_path / "out")
    assert called(monkeypatch, tmp_path) is None
    assert "no plots without matplotlib" in capsys.readouterr().err
    assert len(read_json(tmp_path, "report.json")) == 1
    assert not (tmp_path / "scores.png").exists()
