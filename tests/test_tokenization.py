"""Token for token what google-research/bert gives (golden/make_tokens.py)."""

import io
import json
import os

import pytest

import tokenization
from conftest import GOLDEN
from theseus.errors import UserError


@pytest.fixture(scope="module")
def golden():
    with io.open(os.path.join(GOLDEN, "tokens.json"), encoding="utf-8") as reader:
        return json.load(reader)


@pytest.fixture
def vocab_file(golden, tmp_path):
    path = tmp_path / "vocab.txt"
    path.write_text("\n".join(golden["vocab"]) + "\n", encoding="utf-8")
    return str(path)


@pytest.mark.parametrize("do_lower_case", [True, False])
def test_words_equal_berts(golden, do_lower_case):
    tokenizer = tokenization.BasicTokenizer(do_lower_case)
    cases = [case for case in golden["basic"] if case[0] == do_lower_case]
    assert len(cases) > 100
    for _, text, words in cases:
        assert tokenizer.tokenize(text) == words, ascii(text)


def test_pieces_and_ids_equal_berts(golden, vocab_file):
    tokenizer = tokenization.FullTokenizer(vocab_file)
    for text, tokens, ids in golden["full"]:
        assert tokenizer.tokenize(text) == tokens
        assert tokenizer.convert_tokens_to_ids(tokens) == ids
        assert tokenizer.convert_ids_to_tokens(ids) == tokens


def test_wordpiece_splits_at_white_space_and_has_its_own_unknown_token():
    tokenizer = tokenization.WordpieceTokenizer({"a", "##b"}, unk_token="?")
    assert tokenizer.tokenize("ab ba abb") == ["a", "##b", "?", "a", "##b", "##b"]


def test_bytes_are_text_in_utf8():
    assert tokenization.BasicTokenizer().tokenize("手机a\xff".encode("utf-8")) == ["手", "机", "ay"]
    assert tokenization.convert_to_unicode(b"a\xffb") == "ab"


def test_a_missing_vocabulary_is_refused_by_name(tmp_path):
    with pytest.raises(UserError, match="vocab.txt: cannot read"):
        tokenization.FullTokenizer(str(tmp_path / "vocab.txt"))


def test_tokenizer_json_holds_the_vocabulary_of_vocab_txt(golden, vocab_file, tmp_path):
    path = tmp_path / "tokenizer.json"
    ids = {token: index for index, token in enumerate(golden["vocab"])}
    shuffled = dict(sorted(ids.items()))
    path.write_text(json.dumps({"model": {"type": "WordPiece", "vocab": shuffled}}))
    assert tokenization.load_vocab(str(path)) == tokenization.load_vocab(vocab_file)
    assert tokenization.read_vocab(str(path)) == tokenization.read_vocab(vocab_file)


@pytest.mark.parametrize(
    "content, message",
    [
        ("[]", "tokenizer.json: cannot read the vocabulary: no tokenizer.json"),
        ('{"model": {"type": "BPE", "vocab": {}}}', "its model is BPE; BERT's is WordPiece"),
        ('{"model": {"type": "WordPiece", "vocab": {"a": 1}}}', "its ids are not 0, 1"),
        ("damaged", "tokenizer.json: cannot read the vocabulary: Expecting value"),
    ],
)
def test_a_tokenizer_json_without_wordpiece_is_refused(tmp_path, content, message):
    path = tmp_path / "tokenizer.json"
    path.write_text(content)
    with pytest.raises(UserError, match=message):
        tokenization.load_vocab(str(path))


def test_items_outside_the_vocabulary_are_refused():
    vocab = {"[UNK]": 0, "a": 1}
    assert tokenization.convert_tokens_to_ids(vocab, ["a", "[UNK]"]) == [1, 0]
    assert tokenization.convert_ids_to_tokens({0: "[UNK]", 1: "a"}, [1, 0]) == ["a", "[UNK]"]
    with pytest.raises(KeyError):
        tokenization.convert_by_vocab(vocab, ["b"])


def test_only_str_and_bytes_are_text():
    assert tokenization.printable_text("手机") == "手机"
    assert tokenization.printable_text("手机".encode("utf-8")) == "手机"
    for function in (tokenization.printable_text, tokenization.convert_to_unicode):
        with pytest.raises(ValueError, match="found int"):
            function(5)


def test_tab_and_line_ends_are_white_space_and_not_control():
    for char in " \t\r\n\u00a0":
        assert tokenization._is_whitespace(char) and not tokenization._is_control(char)
    for char in "\u0005\u200b\x7f":
        assert tokenization._is_control(char) and not tokenization._is_whitespace(char)
    assert not tokenization._is_control("A") and not tokenization._is_whitespace("-")
    assert [tokenization._is_punctuation(char) for char in "-$`.A "] == [True] * 4 + [False] * 2


@pytest.mark.parametrize(
    "folder, do_lower_case, is_right",
    [
        ("chinese_L-12_H-768_A-12", True, True),
        ("chinese_L-12_H-768_A-12", False, False),
        ("multi_cased_L-12_H-768_A-12", True, False),
        ("multi_cased_L-12_H-768_A-12", False, True),
        ("my_own", False, True),
    ],
)
def test_case_is_checked_against_the_names_that_google_gave(folder, do_lower_case, is_right):
    path = "data/%s/bert_model.ckpt" % folder
    if is_right:
        tokenization.validate_case_matches_checkpoint(do_lower_case, path)
    else:
        with pytest.raises(ValueError, match="--do_lower_case=%s" % (not do_lower_case)):
            tokenization.validate_case_matches_checkpoint(do_lower_case, path)
    tokenization.validate_case_matches_checkpoint(do_lower_case, None)
