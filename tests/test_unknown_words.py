"""Tests of the warning about words that the vocabulary does not have."""

import pytest

import tokenization
from theseus.inputs import encoding, tasks, unknown_words
from theseus.inputs.reading import Example


@pytest.fixture
def tokenizer(tmp_path):
    tokens = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "the", "手", "机"]
    path = tmp_path / "vocab.txt"
    path.write_text("\n".join(tokens) + "\n", encoding="utf-8")
    return tokenization.FullTokenizer(str(path), do_lower_case=False)


def counted(tokenizer, *parts):
    unknown = unknown_words.UnknownWords(tokenizer)
    for texts in parts:
        rows = [Example(text_a, text_b, None) for text_a, text_b in texts]
        encoded = encoding.encode_examples(rows, tasks.TASKS["lcqmc_pair"], tokenizer, 64)
        unknown.add(encoded, lambda examples=rows: examples)
    return unknown.warning("a.tsv")


def test_few_unknown_words_are_no_matter(tokenizer):
    assert counted(tokenizer, [("the " * 48, "手机" * 25 + "三")]) is None
    assert counted(tokenizer, [("", "")]) is None
    assert counted(tokenizer) is None


def test_the_share_is_of_the_texts_tokens_and_the_most_frequent_come_first(tokenizer):
    warning = counted(tokenizer, [("the Apple", "Apple Paris")], [("the 手机", "the Apple")])
    assert warning.startswith(
        "a.tsv: 44.4% of its tokens are not in the vocabulary and become [UNK]"
    )
    assert "most often Apple, Paris;" in warning


@pytest.mark.parametrize("text, is_of_case", [("🙈 🙉 the", False), ("The THE 🙈", True)])
def test_the_case_is_named_only_where_the_other_has_fewer_unknown_words(
    tokenizer, text, is_of_case
):
    warning = counted(tokenizer, [(text, "the")])
    assert ("check --do_lower_case and --bert_pre" in warning) == is_of_case
    assert ("; check --bert_pre" in warning) != is_of_case


def test_an_added_token_is_known(tokenizer, tmp_path):
    added = [tokenization.AddedToken("🙈", 7)]
    knowing = tokenization.FullTokenizer(str(tmp_path / "vocab.txt"), False, added_tokens=added)
    assert "most often 🙈" in counted(tokenizer, [("🙈🙈 the", "the")] * 9)
    assert counted(knowing, [("🙈🙈 the", "the")] * 9) is None


def test_single_texts_are_counted_too(tokenizer):
    assert counted(tokenizer, [("the Apple", None)]).startswith("a.tsv: 50.0% of its tokens")


def test_a_part_with_many_counts_for_the_whole_file_alone(tokenizer):
    assert counted(tokenizer, [("Apple", "the")], [("the " * 30, "the " * 30)] * 3) is None


def test_the_warning_is_one_short_line_of_what_can_be_seen(tokenizer):
    warning = counted(tokenizer, [("x" * 90 + " \ue000 \u0378", "[SEP] y\u0301")])
    assert "\n" not in warning and "x" * 20 + "..." in warning and "x" * 21 not in warning
    assert "\\ue000" in warning and "\ue000" not in warning


def test_examples_are_not_asked_for_where_few_are_unknown(tokenizer):
    unknown = unknown_words.UnknownWords(tokenizer)
    rows = [Example("the", "手机", None)]
    encoded = encoding.encode_examples(rows, tasks.TASKS["lcqmc_pair"], tokenizer, 64)
    unknown.add(encoded, None)
    assert unknown.warning("a.tsv") is None
