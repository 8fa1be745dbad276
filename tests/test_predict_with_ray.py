"""Tests of predictions with Ray: as --do_predict's, complete or absent, and only once."""

import io
import os
import sys

import numpy as np
import pytest

from conftest import ROOT, call_script, run, write_stage
from theseus import Classifier
from theseus.inference.predictions import Predictions, write_predictions
from theseus.inputs import reading

pytest.importorskip("ray")
pandas = pytest.importorskip("pandas")
predict_with_ray = pytest.importorskip("predict_with_ray")

PAIRS = [("我的手机", "他的手机"), ("多少钱", "天气热"), ("火山石", "水火"), ("电脑", "电脑")]


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    """A folder with a trained stage in model/, and files of pairs in pairs/."""
    root = tmp_path_factory.mktemp("ray")
    write_stage(root / "model", "successor")
    pairs = root / "pairs"
    pairs.mkdir()
    for name, rows in [("a.txt", PAIRS), ("b.txt", PAIRS[::-1])]:
        text = "".join("%s\t%s\n" % row for row in rows)
        (pairs / name).write_text(text, encoding="utf-8")
    (pairs / "bad.txt").write_text("一\t二\n三\n", encoding="utf-8")
    (pairs / "d.csv").write_text('id,text_a,text_b\n007,"手,机",电脑\n', encoding="utf-8")
    table = pandas.DataFrame(PAIRS * 50, columns=["text_a", "text_b"])
    table.insert(0, "id", range(len(table)))
    table.to_parquet(str(pairs / "c.parquet"))
    table["text_b"] = table["text_b"].where(table["id"] != 150)
    table.to_parquet(str(pairs / "none.parquet"))
    table[["text_a"]].to_parquet(str(pairs / "one.parquet"))
    return root


@pytest.fixture(scope="module")
def scored(root):
    """The result of predicting all files: (the last line, the output, the folder)."""
    script = os.path.join(ROOT, "scripts", "predict_with_ray.py")
    arguments = ["model", "pairs/*", "--num_workers=1", "--batch_size=2"]
    status, output, errors = run([sys.executable, script] + arguments, root)
    assert status == 1, errors
    return errors.splitlines()[-1], output, root / "predicted"


def test_text_is_predicted_as_do_predict_does(root, scored):
    for name, rows in [("a.txt", PAIRS), ("b.txt", PAIRS[::-1])]:
        with Classifier(str(root / "model")) as model, io.StringIO() as expected:
            examples = [reading.Example(*row, None, n) for n, row in enumerate(rows)]
            predicted = Predictions.of(model.task, model.compute_logits(examples, 2))
            write_predictions(expected, [(examples, predicted)])
            found = (scored[2] / (name + ".predictions.tsv")).read_text(encoding="utf-8")
            assert found == expected.getvalue()


def test_text_is_predicted_in_its_format_with_its_other_columns(scored):
    header, row = (scored[2] / "d.csv.predictions.csv").read_text(encoding="utf-8").splitlines()
    assert header == "index,text_a,text_b,id,predicted_label,probability_0,probability_1"
    assert row.startswith('0,"手,机",电脑,007,')


def test_columns_of_csv_may_be_separated_otherwise(root, tmp_path):
    (tmp_path / "e.csv").write_text("id;text_a;text_b\n7;手,机;电脑\n", encoding="utf-8")
    model = str(root / "model")
    scorer = predict_with_ray.Scorer(model, str(tmp_path), 2, ["text_a", "text_b"], ";")
    assert scorer({"path": [str(tmp_path / "e.csv")]})["rows"] == [1]
    found = (tmp_path / "e.csv.predictions.csv").read_text(encoding="utf-8").splitlines()[1]
    assert found.startswith("0;手,机;电脑;7;")


def test_a_table_keeps_its_columns_and_rows_beside_the_predictions(root, scored):
    found = pandas.read_parquet(str(scored[2] / "c.parquet"))
    given = pandas.read_parquet(str(root / "pairs" / "c.parquet"))
    assert list(found.columns) == list(given.columns) + [
        "predicted_label",
        "probability_0",
        "probability_1",
    ]
    pandas.testing.assert_frame_equal(found[given.columns], given)
    with Classifier(str(root / "model")) as model:
        expected = model.classify(PAIRS)
    assert found["predicted_label"].tolist() == [label for label, _ in expected] * 50
    probabilities = found[["probability_0", "probability_1"]].to_numpy()
    np.testing.assert_allclose(probabilities, [row for _, row in expected] * 50, atol=1e-5)


def test_a_bad_row_is_one_line_and_leaves_no_file(scored):
    line, output, folder = scored
    assert line == "predict_with_ray.py: 3 files could not be predicted"
    said = [text for text in output.splitlines() if "expected" in text or "no column" in text]
    assert len(said) == 3
    assert any("bad.txt, line 2: expected 2 columns" in text for text in said)
    assert any("none.parquet, row 150 (from 0): expected texts" in text for text in said)
    assert any("one.parquet: has no column text_b" in text for text in said)
    kept = ["a.txt.predictions.tsv", "b.txt.predictions.tsv", "c.parquet", "d.csv.predictions.csv"]
    kept += ["predicted_by.json"]
    assert sorted(os.listdir(str(folder))) == kept


def test_what_is_there_is_not_predicted_again(root, scored, monkeypatch, capsys):
    monkeypatch.chdir(str(root))
    (scored[2] / "b.txt.predictions.tsv").unlink()
    asked = []

    def predict(_, paths):
        asked.append(paths)
        return [(path, 1, "") for path in paths]

    monkeypatch.setattr(predict_with_ray, "predict", predict)
    assert call_script(monkeypatch, predict_with_ray, "model", "pairs/[abc].*") is None
    assert asked == [["pairs/b.txt"]]
    assert "3 files, 2 of them already predicted" in capsys.readouterr().out


@pytest.mark.parametrize(
    "arguments, message",
    [
        (["model", "pairs/a.txt", "--batch_size=0"], "--batch_size: must be at least 1"),
        (["model", "pairs/a.txt", "--delimiter=;;"], "--delimiter: takes one character"),
        (["pairs", "pairs/a.txt"], "pairs: is neither a trained stage's folder nor an export"),
        (["model", "pairs/none.txt"], "pairs/none.txt: there is no such file"),
        (
            ["model", "pairs/a.txt", "other/a.txt"],
            "the predictions of both would be a.txt.predictions",
        ),
        (["another", "pairs/a.txt"], "holds predictions of another model"),
    ],
)
def test_a_mistake_is_one_line(root, scored, monkeypatch, arguments, message):
    monkeypatch.chdir(str(root))
    if not (root / "other").exists():
        (root / "other").mkdir()
        (root / "other" / "a.txt").write_text("一\t二\n", encoding="utf-8")
        write_stage(root / "another", "predecessor")
    assert message in call_script(monkeypatch, predict_with_ray, *arguments)
