"""The model card of an export, as the hub's own library reads it."""

import os

import pytest

from conftest import command, needs_tensorflow_2, read_json, refused, write_stage
from theseus.export import exporter, read_back

EVALUATE = "--do_eval --data_dir=data --suc_layers=2 --max_seq_length=32 --finetune_suc "
EXPORT = EVALUATE.replace("--do_eval", "--do_export") + "--export_format=bert "

pytestmark = needs_tensorflow_2


@pytest.fixture(autouse=True)
def few_timed_batches(monkeypatch):
    monkeypatch.setattr(exporter, "_TIMED_RUNS", 1)
    monkeypatch.setattr(exporter, "_TIMED_BATCHES", 1)


@pytest.fixture
def root(random_data, tmp_path):
    """A folder with data/, out_0, and out_2, whose stages have their first weights."""
    (tmp_path / "data").symlink_to(random_data)
    write_stage(tmp_path / "out_0", "predecessor")
    write_stage(tmp_path / "out_2", "successor")
    return tmp_path


def card(root, name="bert"):
    return (root / "out_2" / "export" / name / "README.md").read_text(encoding="utf-8")


def rows(text):
    """Returns the cells of all lines of a card's tables."""
    lines = [line for line in text.splitlines() if line.startswith("|")]
    return [tuple(cell.strip() for cell in line.strip("|").split(" | ")) for line in lines]


@pytest.mark.parametrize("name", ["bert", "huggingface", "onnx"])
def test_the_hubs_library_reads_the_card(root, monkeypatch, name):
    hub = pytest.importorskip("huggingface_hub")
    pytest.importorskip("onnx")
    command(EXPORT.replace("=bert", "=" + name), root, monkeypatch)
    found = hub.ModelCard(card(root, name))
    described = read_json(root, "out_2", "export", name, "export.json")
    libraries = {"bert": None, "huggingface": "transformers", "onnx": "onnx"}
    assert found.data.library_name == libraries[name]
    assert found.data.pipeline_tag == "text-classification"
    (result,) = found.data.eval_results
    assert (result.metric_type, result.metric_value) == ("accuracy", described["dev_score"])
    assert result.dataset_type == "lcqmc_pair"
    assert "compressed from a BERT of 4 layers" in found.text


def test_the_card_has_the_scores_of_the_controls_that_were_evaluated(root, monkeypatch):
    command(
        EVALUATE + "--compare_with=out_0 --eval_files=%s " % (root / "data" / "test.txt") + EXPORT,
        root,
        monkeypatch,
    )
    results = read_json(root, "out_2", "eval_results.json")
    (test,) = results["eval_files"].values()
    other = test["compared"]["out_0"]
    loyal = "%.4f, %.4f" % (other["label_loyalty"], other["probability_loyalty"])
    found, count = rows(card(root)), str(test["num_examples"])
    assert ("data/test.txt", "%.4f" % test["accuracy"], count, "") in found
    assert ("data/test.txt, beside it: out_0", "%.4f" % other["accuracy"], count, loyal) in found
    assert "Nothing was\nevaluated beside it" not in card(root)
    assert str(root) not in card(root)  # Where it lies is its owner's own.


def test_a_score_at_a_threshold_is_said_to_be(root, monkeypatch):
    command(EVALUATE + "--threshold=0.95 " + EXPORT, root, monkeypatch)
    score = "%.4f" % read_json(root, "out_2", "eval_results.json")["accuracy"]
    assert ("dev, --threshold=0.95", score) in [row[:2] for row in rows(card(root))]


def test_the_scores_of_another_checkpoint_are_not_its_own(root, monkeypatch):
    command(EVALUATE + "--compare_with=out_0", root, monkeypatch)
    path = root / "out_2" / "eval_results.json"
    results = read_json(str(path))
    text = path.read_text().replace(results["checkpoint"], "best/model.ckpt-999")
    path.write_text(text)
    command(EXPORT, root, monkeypatch)
    assert "out_0" not in card(root).split("## Scores")[1].split("Nothing was")[0]


def test_a_damaged_result_is_named_before_anything_is_exported(root, monkeypatch):
    (root / "out_2" / "eval_results.json").write_text('{"checkpoint": 3}')
    assert "eval_results.json" in refused(EXPORT, root, monkeypatch)
    assert not (root / "out_2" / "export").exists()


def test_the_card_may_be_edited_and_is_not_replaced(root, monkeypatch):
    command(EXPORT, root, monkeypatch)
    path = str(root / "out_2" / "export" / "bert")
    command(EXPORT, root, monkeypatch)  # It is replaced as it was.
    with open(os.path.join(path, "README.md"), "a") as writer:
        writer.write("license: mine\n")
    read_back.refuse_altered(path, read_back.read_description(path))
    assert "README.md was edited; move it away" in refused(EXPORT, root, monkeypatch)
    assert card(root).endswith("license: mine\n")
    os.remove(os.path.join(path, "README.md"))
    command(EXPORT, root, monkeypatch)
    assert "license: mine" not in card(root)
