"""Tests that the tokens equal google-research/bert's (golden/make_tokens.py)."""

import io
import json
import os
import pickle

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
        ("[]", "tokenizer.json: cannot read the vocabulary: expected an object, found"),
        ("{}", "tokenizer.json: cannot read the vocabulary: expected an object with model"),
        ('{"model": []}', "the vocabulary: model: expected an object"),
        ('{"model": {"vocab": [["a", 0]]}}', "model.vocab: expected an object, found"),
        ('{"model": {"vocab": {"a": "0"}}}', "model.vocab.a: expected a whole number"),
        ('{"model": {"vocab": {"a": null}}}', "model.vocab.a: expected a whole number"),
        ('{"model": {"vocab": {"a": 0, "a": 1}}}', "the name 'a' occurs twice"),
        ('{"model": {"type": 3, "vocab": {}}}', "model.type: expected text, found 3"),
        ('{"model": {"type": "BPE", "vocab": {}}}', "its model is BPE; BERT's is WordPiece"),
        ('{"model": {"vocab": {"a": 0, "b": 0}}}', "its tokens 'a' and 'b' have the same id, 0"),
        ('{"model": {"vocab": {"a": 4194304}}}', "model.vocab.a: expected a whole number from 0"),
        ("damaged", "tokenizer.json: cannot read the vocabulary: Expecting value"),
    ],
)
def test_a_tokenizer_json_without_wordpiece_is_refused(tmp_path, content, message):
    path = tmp_path / "tokenizer.json"
    path.write_text(content)
    with pytest.raises(UserError, match=message):
        tokenization.load_vocab(str(path))


@pytest.mark.parametrize(
    "vocab, lines",
    [
        ({"a": 0, "": 1, "b": 2}, ["a", "", "b"]),
        ({"a": 0, "\u2028": 1, "##\u2028": 2, "b": 3}, ["a", "\u2028", "##\u2028", "b"]),
        # As lines they would become two lines, or be stripped to a and b.
        ({"a": 0, "a\nb": 1, "b\r": 2, "a ": 3, "b": 4}, ["a", "", "", "", "b"]),
        ({"b": 3, "new york": 1}, ["", "new york", "", "b"]),
        ({"a": 0, "": 0}, ["a"]),
        ({}, []),
    ],
)
def test_what_no_text_has_of_a_tokenizer_json_leaves_a_line_to_its_id(tmp_path, vocab, lines):
    path = tmp_path / "tokenizer.json"
    path.write_text(json.dumps({"model": {"vocab": vocab}}))
    text = tokenization.read_vocab(str(path))
    assert text.split("\n")[:-1] == lines
    for token in filter(str.strip, lines):
        if token == token.strip():
            assert tokenization.load_vocab(str(path))[token] == vocab[token]
    copy = tmp_path / "vocab.txt"
    copy.write_bytes(text.encode("utf-8"))
    assert tokenization.load_vocab(str(copy)) == tokenization.load_vocab(str(path))


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


# --- The bounds that the golden texts do not reach ---


@pytest.mark.parametrize(
    "first, last",
    [
        (0x4E00, 0x9FFF),
        (0x3400, 0x4DBF),
        (0x20000, 0x2A6DF),
        (0x2A700, 0x2B73F),
        (0x2B740, 0x2B81F),
        (0x2B820, 0x2CEAF),
        (0xF900, 0xFAFF),
        (0x2F800, 0x2FA1F),
    ],
)
def test_each_block_of_chinese_is_set_apart_from_its_first_to_its_last(first, last):
    """Source: google-research/bert, BasicTokenizer._is_chinese_char."""
    words = tokenization.BasicTokenizer(do_lower_case=False).tokenize
    for codepoint in (first, last):
        assert words("a%sb" % chr(codepoint)) == ["a", chr(codepoint), "b"]
    assert not tokenization._is_cjk(0x33FF) and not tokenization._is_cjk(0x2CEB0)
    assert not tokenization._is_cjk(0x3042) and not tokenization._is_cjk(0xAC00)


def test_a_word_may_have_200_characters_and_no_more():
    pieces = tokenization.WordpieceTokenizer({"a": 0, "##a": 1, "[UNK]": 2}).tokenize
    assert pieces("a" * 200) == ["a"] + ["##a"] * 199
    assert pieces("a" * 201) == ["[UNK]"]


def test_a_word_of_which_a_part_is_unknown_is_unknown_as_a_whole():
    pieces = tokenization.WordpieceTokenizer({"a": 0, "ab": 1, "##c": 2, "abc": 3}).tokenize
    assert pieces("abd") == ["[UNK]"]
    assert pieces("abc") == ["abc"] and pieces("abcc") == ["abc", "##c"]


def test_what_cannot_be_seen_is_dropped_or_white_space():
    words = tokenization.BasicTokenizer().tokenize
    assert words("a\u200bb\u00adc\ufffdd\x00e\x07f\ufeffg") == ["abcdefg"]
    assert words("a\u00a0b\u3000c\td\r\ne") == list("abcde")


def test_accents_go_with_the_case_alone():
    assert tokenization.BasicTokenizer(True).tokenize("É İ Σ") == ["e", "i", "σ"]
    assert tokenization.BasicTokenizer(False).tokenize("É e\u0301") == ["É", "e\u0301"]


def test_a_vocabularys_lines_are_stripped(tmp_path):
    path = tmp_path / "vocab.txt"
    path.write_bytes("[PAD]\r\na \r\n手\r\n".encode("utf-8"))
    assert list(tokenization.load_vocab(str(path)).items()) == [("[PAD]", 0), ("a", 1), ("手", 2)]


# --- Settings of transformers' BertTokenizer ---


@pytest.mark.parametrize(
    "settings, words",
    [
        ((True, None, True), ["uber", "手", "机", "e", "dont"]),
        ((True, False, True), ["über", "手", "机", "é", "dont"]),
        ((False, True, True), ["Uber", "手", "机", "E", "dont"]),
        ((False, None, True), ["Über", "手", "机", "E\u0301", "dont"]),
        ((True, None, False), ["uber", "手机", "e", "dont"]),
    ],
)
def test_accents_and_chinese_characters_are_settings_of_their_own(settings, words):
    tokenizer = tokenization.BasicTokenizer(*settings)
    found = tokenizer.tokenize("Über 手机 E\u0301 do\u00adnt")
    assert found == [word.replace("é", "e\u0301") for word in words]
    assert pickle.loads(pickle.dumps(tokenizer)).tokenize("Über 手机 E\u0301 do\u00adnt") == found


def with_added(tmp_path, *added, **settings):
    path = tmp_path / "vocab.txt"
    path.write_text("[UNK]\na\n##b\nb\nx\n.\n手\n机\nle\n")
    tokens = [tokenization.AddedToken(*token) for token in added]
    return tokenization.FullTokenizer(str(path), added_tokens=tokens, **settings)


@pytest.mark.parametrize(
    "text, tokens",
    [
        ("ab", ["a", "##b"]),
        ("a🙂b🙂🙂", ["a", "🙂", "b", "🙂", "🙂"]),
        # The longest of those that begin first.
        ("x New York City.b", ["x", "New York City", ".", "b"]),
        ("xNEW  YORK new york", ["[UNK]", "[UNK]", "New York"]),
        # As it is, and as a whole word.
        (
            "Le le LE a Le\u0301 Le. 手Le机",
            ["Le", "le", "le", "a", "le", "Le", ".", "手", "le", "机"],
        ),
        ("我手机 手 机", ["[UNK]", "手机", "手", "机"]),
        ("", []),
    ],
)
def test_added_tokens_are_found_whole_before_wordpiece(tmp_path, text, tokens):
    added = [("🙂", 9), ("New York", 10), ("New York City", 11), ("手机", 12)]
    tokenizer = with_added(tmp_path, *added, ("Le", 13, True, False))
    expected = list(tokens)
    assert tokenizer.tokenize(text) == expected
    ids = tokenizer.convert_tokens_to_ids(tokens)
    assert tokenizer.convert_ids_to_tokens(ids) == tokens
    assert pickle.loads(pickle.dumps(tokenizer)).tokenize(text) == expected


def test_an_added_token_is_no_wordpiece(tmp_path):
    tokenizer = with_added(tmp_path, ("ax", 9, True, True), do_lower_case=False)
    assert tokenizer.tokenize("ax axb Ax") == ["ax", "[UNK]", "[UNK]"]
    assert tokenizer.in_other_case().tokenize("ax axb Ax") == ["ax", "[UNK]", "ax"]
