"""Checks that the results pages match the JSON files in docs/results."""

import collections
import json
import os
import re
import statistics

import pytest

import make_results
from conftest import ROOT
from theseus.runs import files

PAGES = {os.path.basename(path): path for path in make_results.PAGES}


def text_of(path):
    with open(path, encoding="utf-8") as reader:
        return reader.read()


def numbers_in(value):
    """Yields every number in a JSON value."""
    if isinstance(value, (dict, list)):
        for item in value.values() if isinstance(value, dict) else value:
            for number in numbers_in(item):
                yield number
    elif isinstance(value, float):
        yield value


@pytest.mark.parametrize("name", sorted(PAGES))
def test_the_tables_are_those_of_the_files(name):
    page = text_of(PAGES[name])
    assert "<!-- table: " in page and make_results.filled(page) == page


def scores_of_files():
    """Returns all numbers of the files, and the means of the last epochs over the seeds, set."""
    found, by_folder = [], collections.defaultdict(list)
    for place in os.listdir(make_results.RESULTS):
        if place.endswith(".json"):
            held = json.loads(text_of(os.path.join(make_results.RESULTS, place)))
            found += numbers_in(held)
            for run in held if isinstance(held, list) else []:
                folder = place + re.sub("seed_[0-9]+", "", run["path"])
                by_folder[folder].append(make_results.last(run))
    found += [statistics.mean(scores) for scores in by_folder.values()]
    return {("%.4f" % abs(number)).lstrip("0") for number in found}


@pytest.mark.parametrize("name", sorted(PAGES))
def test_every_score_of_a_page_is_in_a_file(name):
    """Those with four digits; what is between the marks of a table has a test of its own."""
    prose = re.sub("<!-- table.*?<!-- end -->", "", text_of(PAGES[name]), flags=re.S)
    scores = re.findall(r"(?<![0-9])0?(\.[0-9]{4})(?![0-9])", prose)
    assert len(scores) > 4 and sorted(set(scores) - scores_of_files()) == []


def test_the_figure_is_no_older_than_its_file():
    digest = files.hash_files([os.path.join(make_results.RESULTS, make_results.MAIN)])
    with open(make_results.FIGURE, "rb") as reader:
        assert digest.encode() in reader.read()


def test_a_figure_is_drawn_with_the_hash_of_its_file(tmp_path):
    pytest.importorskip("matplotlib")
    make_results.draw(str(tmp_path / "a.png"))
    digest = files.hash_files([os.path.join(make_results.RESULTS, make_results.MAIN)])
    assert digest.encode() in (tmp_path / "a.png").read_bytes()


def test_every_file_of_results_is_named_on_a_page():
    pages = "".join(map(text_of, PAGES.values())) + text_of(os.path.join(ROOT, "docs", "method.md"))
    for name in os.listdir(make_results.RESULTS):
        assert name in pages, name


def test_a_difference_is_of_the_last_epochs_seed_by_seed(tmp_path, monkeypatch):
    runs = [
        dict(path="seed_1/2/direct", seed=1, last=0.5, score=0.9),
        dict(path="seed_2/2/direct", seed=2, evaluations=[[1, 0.9], [2, 0.625]]),
        dict(path="seed_1/2/own", seed=1, last=0.75),
        dict(path="seed_2/2/own", seed=2, last=0.5),
        dict(path="seed_3/2/own", seed=3, last=0.5),
        dict(path="seed_2/2/own", seed=2, last=0.1, is_finished=False),
    ]
    (tmp_path / "a.json").write_text(json.dumps(runs))
    monkeypatch.setattr(make_results, "RESULTS", str(tmp_path))
    assert make_results.differences("a.json", "2", "own") == [25.0, -12.5]


def test_the_steps_of_stage_1_count():
    paths = [("a/stage_1", 3), ("a/stage_2", 2), ("b", 5)]
    runs = [{"path": path, "steps": steps} for path, steps in paths]
    assert make_results.steps_of(runs) == {"a/stage_1": 3, "a/stage_2": 5, "b": 5}
