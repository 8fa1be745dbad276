"""Tests of frontier.py: the scored paths, the Pareto-optimal ones, the costs of modules."""

import contextlib
import importlib.util
import io
import itertools
import types

import pytest

import frontier
from conftest import read_json, write_pairs, write_stage
from theseus.inference import evaluation, metrics, predictions, trained_model
from theseus.inference.predictions import Predictions
from theseus.inputs import encoding, reading, tasks

TASK = tasks.TASKS["lcqmc_pair"]


def make_options(patch, data_dir):
    """Returns the script's flags, of a folder with dev alone."""
    write_pairs(data_dir / "dev.txt", 30, seed=2)
    values = types.SimpleNamespace(
        data_dir=str(data_dir),
        test_file=None,
        max_dev_examples=None,
        max_paths=64,
        max_milliseconds=None,
        batch_size=2,
        num_batches=2,
        eval_batch_size=7,
        plot=False,
    )
    patch.setattr(frontier, "FLAGS", values)
    return values


@pytest.fixture(autouse=True)
def options(monkeypatch, tmp_path):
    return make_options(monkeypatch, tmp_path)


class FakeScores(object):
    """Scores that sum what each module is worth when it is replaced."""

    def __init__(self, worth):
        self.worth, self.found = worth, {}

    def __call__(self, path):
        self.found[path] = sum(worth for worth, is_replaced in zip(self.worth, path) if is_replaced)
        return self.found[path]


def test_of_few_modules_all_paths_are_scored():
    scores = FakeScores([1, 2, 4])
    frontier.search(scores, 3)
    assert sorted(scores.found.values()) == list(range(8))


def test_of_many_modules_those_that_two_greedy_searches_meet(options):
    """The search from the predecessor replaces the cheapest module first, the other the dearest."""
    options.max_paths = 7
    scores = FakeScores([-1, -4, -2])
    frontier.search(scores, 3)
    digits = {"".join(str(int(choice)) for choice in path) for path in scores.found}
    # 000; its three neighbours; of 100 two; 111, which is 101's and 110's too; back by 101.
    assert digits == {"000", "100", "010", "001", "110", "101", "111", "011"}
    options.max_paths = 15
    scores = FakeScores([-1, -4, -2, -8])
    frontier.search(scores, 4)
    digits = {"".join(str(int(choice)) for choice in path) for path in scores.found}
    unmet = {"0101", "0011"}
    assert digits == {"".join(d) for d in itertools.product("01", repeat=4)} - unmet


def test_on_the_front_none_is_faster_and_as_good():
    def point(path, milliseconds, dev):
        return frontier.Point(path, 0, milliseconds, dev, None)

    points = [point("a", 5, 0.8), point("b", 3, 0.7), point("c", 3, 0.75), point("d", 4, 0.75)]
    points += [point("e", 9, 0.8), point("f", 2, 0.1)]
    assert [found.path for found in frontier.find_front(points)] == ["f", "c", "a"]


def test_what_a_module_costs_is_taken_from_the_pairs_that_differ_in_it_alone():
    scores = {
        (False, False): 0.75,
        (True, False): 0.5,
        (False, True): 0.625,
        (True, True): 0.5,
    }
    first, second = frontier.costs(scores, 2)
    assert first == (-0.25, -0.125, -0.1875)
    assert second == (-0.125, 0.0, -0.0625)


def test_the_best_of_the_fast_ones_is_chosen(options):
    front = [frontier.Point("11", 2, 2.0, 0.5, None), frontier.Point("01", 3, 4.0, 0.75, None)]
    options.max_milliseconds = 3.9
    assert frontier.choose(front) == "within 3.9 ms: --replaced_modules=11"
    options.max_milliseconds = 4
    assert frontier.choose(front) == "within 4 ms: --replaced_modules=01"
    options.max_milliseconds = 1.5
    with pytest.raises(
        frontier.UserError, match="--max_milliseconds: the fastest mixture takes 2.00 ms"
    ):
        frontier.choose(front)


@pytest.fixture(scope="module")
def searched(tmp_path_factory):
    """(a stage 1's folder, the data's, what is printed) of a search that draws what it finds."""
    root = tmp_path_factory.mktemp("frontier")
    folder = write_stage(root / "out_1", "replacing", keep_predecessor=True)
    write_pairs(root / "test.txt", 20, seed=5)
    with pytest.MonkeyPatch.context() as patch, io.StringIO() as said:
        options = make_options(patch, root)
        options.test_file = str(root / "test.txt")
        options.plot = importlib.util.find_spec("matplotlib") is not None
        with contextlib.redirect_stdout(said):
            frontier.main(["frontier.py", folder.path])
        return folder, str(root), said.getvalue()


def test_the_scores_are_those_of_the_paths_own_models(searched):
    folder, data_dir, output = searched
    found = read_json(folder.path, "frontier.json")
    assert [point["path"] for point in found["paths"]] == ["00", "01", "10", "11"]
    assert [point["layers"] for point in found["paths"]] == [4, 3, 3, 2]
    on_test = {point["path"]: point["test"] for point in found["front"]}
    for point in found["paths"]:
        path = [digit == "1" for digit in point["path"]]
        with trained_model.load(folder, mask=path) as model:
            scores = []
            for name in ("dev.txt", "test.txt"):
                examples = reading.read_examples("%s/%s" % (data_dir, name), TASK)
                encoded = encoding.encode_examples(examples, TASK, model.tokenizer, 32)
                run = evaluation.runner(model.session, model.graph)
                logits = predictions.compute_logits(run, encoded, 64)
                scores.append(
                    metrics.compute(Predictions.of(TASK, logits), encoded.labels)["accuracy"]
                )
        assert point["dev"] == scores[0]
        assert on_test.get(point["path"], scores[1]) == scores[1]
    same = {p["milliseconds"] for p in found["paths"] if p["layers"] == 3}
    assert len(same) == 1 and min(p["milliseconds"] for p in found["paths"]) > 0
    assert "evaluated 4 of 4 mixtures" in output and "test accuracy" in output


def test_a_picture_is_drawn(searched):
    pytest.importorskip("matplotlib")
    folder, _, _ = searched
    with open(folder.file("frontier.png"), "rb") as reader:
        assert reader.read(4) == b"\x89PNG"


def test_a_stage_without_its_predecessor_is_one_line(tmp_path):
    folder = write_stage(tmp_path / "plain", "replacing")
    with pytest.raises(SystemExit) as caught:
        frontier.main(["frontier.py", folder.path])
    assert caught.value.code.startswith(
        "frontier.py: --replaced_modules: this stage did not keep the predecessor"
    )
