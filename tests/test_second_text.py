"""Tests that a file of pairs that would be read as single texts is refused, by its rows."""

import json

import numpy as np
import pytest

from theseus.errors import UserError
from theseus.inputs import inferred_task, reading, tasks

TSV = tasks.TASKS["custom"]
WORDS = "the cat sat on a red mat while rain fell over old town and nobody saw it".split()


def sentence(random):
    return " ".join(random.choice(WORDS, 5))


def category(random):
    return str(random.choice(["fiction", "travel", "the telephone"]))


def identifier(random):
    return "%05dn" % random.randint(100000)


def url(random):
    return "https://example.org/page/%d" % random.randint(100000)


def number(random):
    return "%.3f" % random.rand()


def keyword(random):
    return "".join(random.choice(list("abcdefghij"), 7))


def chinese(random):
    return "".join(random.choice(list("手机电脑怎么办好不好天气热"), 6))


def document(random):
    """One of two documents of 60 words."""
    return " ".join(np.random.RandomState(random.randint(2)).choice(WORDS, 60))


def template(random):
    """Returns one of three sentences, as if each text were asked about several labels."""
    return "the film is so very %s" % random.choice(["red", "old", "long"])


def date(random):
    return "%d May %d" % (random.randint(1, 29), random.randint(1900, 2000))


def annotations(random):
    return " ".join(random.choice(["yes", "no"], 2))


def constant(random):
    return "a sentence that stands in each row of the file"


def write(path, header, second, count=40):
    """Writes rows of a first text, what `second` makes, and a label of two."""
    random = np.random.RandomState(3)
    rows = [[sentence(random), second(random), str(n % 2)] for n in range(count)]
    if path.suffix == ".jsonl":
        lines = [json.dumps(dict(zip(header, row))) for row in rows]
    else:
        lines = ["\t".join(row) for row in [header] + rows]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return str(path)


@pytest.mark.parametrize("ending", ["tsv", "jsonl"])
@pytest.mark.parametrize(
    "first, second, make",
    [
        ("premise", "hypo", sentence),
        ("query", "doc", document),
        ("Sentence1", "sentence_zwei", chinese),
        ("q1", "kw", keyword),
        ("问题1", "候选", chinese),
        ("sentence", "question", sentence),
        ("text", "content", chinese),
        ("premise", "hypothesis_de", template),
    ],
)
def test_a_second_text_is_refused_in_train_by_its_name(tmp_path, first, second, make, ending):
    path = write(tmp_path / ("train." + ending), [first, second, "label"], make)
    message = "only %s would be read, but column 2, %s, holds a second text; .*--text_b_column=%s"
    with pytest.raises(UserError, match=message % (first, second, second)):
        inferred_task.infer_task(TSV, path)
    given = tasks.with_columns(TSV, tasks.NamedColumns(None, second, None))
    task = inferred_task.infer_task(given, path)
    assert task.num_texts == 2 and reading.read_examples(path, task)[0].text_b is not None


@pytest.mark.parametrize("make", [category, identifier, url, number, constant, date, annotations])
def test_what_is_no_text_is_none(tmp_path, make):
    path = write(tmp_path / "train.tsv", ["premise", "other", "label"], make)
    assert inferred_task.infer_task(TSV, path).num_texts == 1


def test_the_label_in_words_is_no_text(tmp_path):
    path = tmp_path / "train.tsv"
    rows = ["%s\t%d\t%s" % (WORDS[n], n % 2, ["not the same", "same"][n % 2]) for n in range(4)]
    path.write_text("\n".join(["query\tlabel\tmeaning"] + rows), encoding="utf-8")
    assert inferred_task.infer_task(TSV, str(path)).num_texts == 1


def test_a_column_that_is_named_is_single_on_purpose(tmp_path):
    path = write(tmp_path / "train.tsv", ["premise", "hypo", "label"], sentence)
    given = tasks.with_columns(TSV, tasks.NamedColumns("premise", None, None))
    assert inferred_task.infer_task(given, path).num_texts == 1


def test_a_text_under_a_name_of_single_ones_may_have_another_beside(tmp_path):
    path = write(tmp_path / "train.tsv", ["review", "reply", "label"], sentence)
    assert inferred_task.infer_task(TSV, path).num_texts == 1


@pytest.mark.parametrize("name", ["custom", "custom_number"])
@pytest.mark.parametrize("labelled", [True, False])
@pytest.mark.parametrize(
    "header", [["text", "text_b", "label"], ["query", "hypo", "label"], ["text", "title", "label"]]
)
def test_a_file_with_a_second_text_is_refused_where_train_has_none(
    tmp_path, name, labelled, header
):
    train = tmp_path / "train.tsv"
    train.write_text("text\tlabel\na b\t1\nc\t0\n", encoding="utf-8")
    task = inferred_task.infer_task(tasks.TASKS[name], str(train))
    path = write(tmp_path / "dev.tsv", header, sentence)
    with pytest.raises(
        UserError, match="dev.tsv: only %s .*, %s, holds a second" % tuple(header[:2])
    ):
        reading.read_examples(path, task, labels_required=labelled)
