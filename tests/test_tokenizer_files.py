"""Tests of the tokenizer settings in a pretrained BERT's folder, and of refused tokenizers."""

import json

import pytest

import tokenization
from modeling_theseus import BertConfig
from theseus.checkpoints import pretrained, token_check
from theseus.checkpoints.tokenizer_files import TokenizerFiles
from theseus.errors import UserError
from theseus.export import hugging_face_tokenizer
from theseus.inputs import tokenizer_settings
from theseus.inputs.tokenizer_settings import TokenizerSettings
from tokenization import AddedToken

TOKENS = (
    "[PAD] [UNK] [CLS] [SEP] [MASK] gruße grüße aus köln koln der ##n den 手 手机 stadt plan ß σας "
)
TOKENS += "A"
VOCAB = {token: number for number, token in enumerate(TOKENS.split())}
NORMALIZER = {
    "type": "BertNormalizer",
    "clean_text": True,
    "handle_chinese_chars": True,
    "strip_accents": None,
    "lowercase": True,
}
FLAGS = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": True}


def write(folder, **files):
    """Writes vocab.txt, and other files by their names without .json."""
    (folder / "vocab.txt").write_text("\n".join(VOCAB) + "\n", encoding="utf-8")
    for name, value in files.items():
        (folder / (name + ".json")).write_text(json.dumps(value), encoding="utf-8")
    return str(folder)


def tokenizer_json(added=(), normalizer=NORMALIZER, **model):
    model = dict({"type": "WordPiece", "unk_token": "[UNK]", "vocab": VOCAB}, **model)
    model.setdefault("continuing_subword_prefix", "##")
    model.setdefault("max_input_chars_per_word", 100)
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": list(added),
        "normalizer": normalizer,
        "pre_tokenizer": {"type": "BertPreTokenizer"},
        "post_processor": None,
        "decoder": None,
        "model": model,
    }


def added(content, index, special=False, **changes):
    return dict(FLAGS, id=index, content=content, special=special, **changes)


# --- Settings ---


@pytest.mark.parametrize(
    "files, expected",
    [
        ({}, TokenizerSettings()),
        ({"tokenizer_config": {"strip_accents": False}}, TokenizerSettings(True, False)),
        # Said, and yet nothing else than BERT's own.
        ({"tokenizer_config": {"strip_accents": True}}, TokenizerSettings()),
        (
            {"tokenizer_config": {"do_lower_case": False, "strip_accents": True}},
            TokenizerSettings(False, True),
        ),
        (
            {"tokenizer_config": {"tokenize_chinese_chars": False}},
            TokenizerSettings(True, None, False),
        ),
        (
            {
                "tokenizer": tokenizer_json(
                    normalizer=dict(NORMALIZER, strip_accents=False, handle_chinese_chars=False)
                )
            },
            TokenizerSettings(True, False, False),
        ),
        # A class of BERT's goes by the config, null included; others by tokenizer.json.
        (
            {
                "tokenizer_config": {"strip_accents": None, "tokenizer_class": "BertTokenizer"},
                "tokenizer": tokenizer_json(normalizer=dict(NORMALIZER, strip_accents=False)),
            },
            TokenizerSettings(),
        ),
        (
            {
                "tokenizer_config": {"strip_accents": True, "tokenizer_class": "TokenizersBackend"},
                "tokenizer": tokenizer_json(normalizer=dict(NORMALIZER, strip_accents=False)),
            },
            TokenizerSettings(True, False),
        ),
    ],
)
def test_each_file_says_accents_and_chinese_characters(tmp_path, files, expected):
    assert pretrained.find_tokenizer(write(tmp_path, **files))[0] == expected


END = len(VOCAB)


@pytest.mark.parametrize(
    "files, expected",
    [
        ({"added_tokens": {"Käse 2.0": END}}, [("Käse 2.0", END, False, True)]),
        (
            {"tokenizer": tokenizer_json([added("<b>", END, single_word=True, normalized=False)])},
            [("<b>", END, True, False)],
        ),
        (
            {
                "tokenizer_config": {
                    "added_tokens_decoder": {str(END + 1): added("🙈", 0), "3": added("[SEP]", 0)}
                }
            },
            [("🙈", END + 1, False, True)],
        ),
        # Special ones are looked for as they are; one without an id gets the next.
        (
            {
                "added_tokens": {"<e1>": END + 2},
                "special_tokens_map": {"additional_special_tokens": ["<e1>", "stadt", "<e2>"]},
            },
            [
                ("stadt", VOCAB["stadt"], False, False),
                ("<e1>", END + 2, False, False),
                ("<e2>", END + 3, False, False),
            ],
        ),
        ({"added_tokens": {"[MASK]": 4}, "tokenizer_config": {"cls_token": "[CLS]"}}, []),
        (
            {
                "tokenizer": tokenizer_json([added("a", END, special=True), added("b", END + 1)]),
                "tokenizer_config": {"split_special_tokens": True},
            },
            [("b", END + 1, False, True)],
        ),
    ],
)
def test_added_tokens_are_found_in_each_file(tmp_path, files, expected):
    found = pretrained.find_tokenizer(write(tmp_path, **files))[0]
    assert [tuple(token) for token in found.added_tokens] == expected


@pytest.mark.parametrize(
    "files, message",
    [
        ({"added_tokens": {"a": "b"}}, "added_tokens.json: is damaged: a: expected a whole number"),
        (
            {"tokenizer": tokenizer_json([{"content": "a"}])},
            r"tokenizer.json: is damaged: added_tokens.\[0\]: expected an object with id",
        ),
        (
            {"tokenizer_config": {"added_tokens_decoder": {"x": {"content": "a"}}}},
            "tokenizer_config.json: is damaged: added_tokens_decoder.x: expected a token's id",
        ),
    ],
)
def test_added_tokens_that_are_none_are_one_line(tmp_path, files, message):
    with pytest.raises(UserError, match=message):
        pretrained.find_tokenizer(write(tmp_path, **files))


def test_an_added_token_needs_a_row_in_the_table(tmp_path):
    folder = write(tmp_path, added_tokens={"Käse": END})
    settings, _, _ = pretrained.find_tokenizer(folder)
    path = str(tmp_path / "vocab.txt")
    fitting = pretrained.Model(BertConfig(vocab_size=END + 1), path)
    assert pretrained.make_tokenizer(fitting, settings).tokenize("xKäse") == ["[UNK]", "Käse"]
    assert pretrained.vocab_warnings(fitting, settings.added_tokens) == []
    lacking = pretrained.Model(BertConfig(vocab_size=END), path)
    message = (
        r"the added token K\\xe4se has the id %d, but the BERT's embedding table has %d rows"
        % (END, END)
    )
    with pytest.raises(UserError, match=message):
        pretrained.make_tokenizer(lacking, settings)


SWAPPED = dict(VOCAB, aus=VOCAB["plan"], plan=VOCAB["aus"])


@pytest.mark.parametrize(
    "vocab, message",
    [
        (SWAPPED, "the id of the token aus is %(plan)d, in vocab.txt %(aus)d" % VOCAB),
        (dict(VOCAB, neu=END), "the id of the token neu is %d, in vocab.txt none" % END),
        ({t: n for t, n in VOCAB.items() if t != "A"}, "the token A is none, in vocab.txt"),
    ],
)
def test_two_vocabularies_that_differ_are_refused(tmp_path, vocab, message):
    folder = write(tmp_path, tokenizer=tokenizer_json(vocab=vocab))
    with pytest.raises(UserError, match="tokenizer.json: its vocabulary differs .*" + message):
        pretrained.find_tokenizer(folder)
    (tmp_path / "vocab.txt").unlink()
    pretrained.find_tokenizer(folder)


def test_an_added_token_may_be_in_one_of_two_vocabularies(tmp_path):
    listed = [added("neu", END)]
    for held in (tokenizer_json(listed, vocab=dict(VOCAB, neu=END)), tokenizer_json(listed)):
        folder = write(tmp_path, tokenizer=held)
        for more in ("", "neu\n"):
            words = "\n".join(VOCAB) + "\n" + more
            (tmp_path / "vocab.txt").write_text(words, encoding="utf-8")
            assert pretrained.find_tokenizer(folder)[0].added_tokens[0].id == END


def test_a_repeated_line_and_berts_own_tokens_beside_the_vocabulary_are_no_difference(tmp_path):
    words = [*VOCAB, "plan"]  # The last id of a token counts, and the first becomes a gap.
    vocab = {word: index for index, word in enumerate(words) if word != "[MASK]"}
    listed = [dict(added("[MASK]", VOCAB["[MASK]"]), special=True)]
    folder = write(tmp_path, tokenizer=tokenizer_json(listed, vocab=vocab))
    (tmp_path / "vocab.txt").write_text("\n".join(words) + "\n", encoding="utf-8")
    assert pretrained.find_tokenizer(folder)[0].added_tokens == ()
    (tmp_path / "vocab.txt").unlink()
    assert pretrained.find_tokenizer(folder)[0].added_tokens == ()


def test_settings_come_back_from_their_record():
    settings = TokenizerSettings(True, False, False, (AddedToken("a b", 7, True, False),))
    record = json.loads(json.dumps({"do_lower_case": True, "tokenizer": settings.to_record()}))
    tokenizer_settings.RECORD(record["tokenizer"], "")
    assert tokenizer_settings.recorded(record) == settings
    assert TokenizerSettings(False).to_record() is None
    assert tokenizer_settings.recorded({"do_lower_case": False}) == TokenizerSettings(False)


# --- Other tokenizers ---


@pytest.mark.parametrize(
    "files, message",
    [
        (
            {"tokenizer_config": {"tokenizer_class": "CamembertTokenizer"}},
            "tokenizer_config.json: its tokenizer_class is CamembertTokenizer; ",
        ),
        (
            {"config": {"tokenizer_class": "BertJapaneseTokenizer"}},
            "config.json: its tokenizer_class is BertJapaneseTokenizer; ",
        ),
        (
            {"tokenizer_config": {"word_tokenizer_type": "sudachi"}},
            "tokenizer_config.json: its word_tokenizer_type is sudachi; ",
        ),
        ({"tokenizer_config": {"subword_tokenizer_type": "character"}}, "type is character; "),
        ({"tokenizer_config": {"do_basic_tokenize": False}}, "do_basic_tokenize is False; "),
        ({"tokenizer_config": {"auto_map": {"AutoTokenizer": ["a.B", None]}}}, "its auto_map is "),
        ({"special_tokens_map": {"cls_token": {"content": "<s>"}}}, "cls_token is <s>, not .CLS"),
        # By tokenizer.json alone, which is not there.
        ({"tokenizer_config": {"tokenizer_class": "PreTrainedTokenizerFast"}}, "TokenizerFast; "),
        ({"tokenizer": tokenizer_json(type="Unigram")}, "tokenizer.json: its model is Unigram; "),
        (
            {"tokenizer": {"model": {"vocab": VOCAB, "merges": []}}},
            "tokenizer.json: its model is BPE; ",
        ),
        ({"tokenizer": tokenizer_json(continuing_subword_prefix="@@")}, "_prefix is @@; "),
        (
            {
                "tokenizer": tokenizer_json(
                    normalizer={
                        "type": "Sequence",
                        "normalizers": [{"type": "NFKC"}, {"type": "Lowercase"}],
                    }
                )
            },
            r"its normalizer is NFKC \+ Lowercase, not BertNormalizer; ",
        ),
        (
            {"tokenizer": dict(tokenizer_json(), pre_tokenizer={"type": "Whitespace"})},
            "its pre_tokenizer is Whitespace, not BertPreTokenizer; ",
        ),
        (
            {
                "tokenizer": tokenizer_json(normalizer=None),
                "tokenizer_config": {"tokenizer_class": "TokenizersBackend"},
            },
            "its normalizer is none, not BertNormalizer; ",
        ),
    ],
)
def test_a_tokenizer_that_is_not_berts_is_refused_by_name(tmp_path, files, message):
    folder = write(tmp_path, **files)
    with pytest.raises(UserError, match=message) as caught:
        pretrained.find_tokenizer(folder)
    assert str(caught.value).startswith(folder) and "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "name", [None, "BertTokenizer", "BertTokenizerFast", "ElectraTokenizer", "DistilBertTokenizer"]
)
def test_the_same_wordpiece_under_another_name_passes(tmp_path, name):
    folder = write(tmp_path, tokenizer_config={"tokenizer_class": name, "wordpieces_prefix": "##"})
    assert pretrained.find_tokenizer(folder)[0] == TokenizerSettings()


@pytest.mark.parametrize("name", ["PreTrainedTokenizerFast", "TokenizersBackend"])
def test_a_class_without_parts_of_its_own_passes_by_tokenizer_json(tmp_path, name):
    parts = {"type": "Sequence", "normalizers": [dict(NORMALIZER, strip_accents=False)]}
    held = dict(tokenizer_json(normalizer=parts))
    folder = write(tmp_path, tokenizer=held, tokenizer_config={"tokenizer_class": name})
    assert pretrained.find_tokenizer(folder)[0] == TokenizerSettings(True, False)


def test_a_sentencepiece_model_without_a_vocabulary_is_named(tmp_path):
    (tmp_path / "spiece.model").write_bytes(b"")
    with pytest.raises(
        UserError, match="its spiece.model belongs to another tokenizer than BERT's"
    ):
        pretrained.find_vocab(str(tmp_path))


# --- The comparison ---


def refusal(folder, texts):
    """Returns what `check_other_tokens` says of a folder's own tokenizer, or None."""
    settings, _, files = pretrained.find_tokenizer(folder)
    tokenizer = settings.make(pretrained.find_vocab(folder))
    try:
        assert token_check.check_other_tokens(files, tokenizer, texts) is None
    except UserError as error:
        assert "\n" not in str(error)
        return str(error)
    return None


GERMAN = ["Grüße aus Köln", "Der Plan der Stadt", "手机 aus Köln [SEP] Grüße"]
TEXTS = GERMAN + ["Σας ΣΑΣ", "\ue000", "aus\u0378", "aus\U0002b820", "der" + "n" * 150, "[CLS]"]


@pytest.mark.parametrize(
    "files",
    [
        {"tokenizer_config": {"strip_accents": False, "tokenize_chinese_chars": False}},
        {
            "tokenizer_config": {"strip_accents": False, "tokenizer_class": "BertTokenizer"},
            "tokenizer": tokenizer_json(
                [added("[SEP]", 3, special=True), added("Plan der", END, normalized=False)]
            ),
        },
        {"tokenizer": tokenizer_json(normalizer=dict(NORMALIZER, strip_accents=False))},
    ],
)
def test_the_folders_own_tokenizer_gives_the_same_up_to_what_is_known(tmp_path, files):
    pytest.importorskip("tokenizers")
    assert refusal(write(tmp_path, **files), TEXTS) is None


# As transformers 4 and `tokenizers`, with transformers 5, save U+2028 of the Chinese vocabulary;
# what no vocab.txt holds; and an id without a token.
ODD_TOKENS = [
    ("\u2028", "##\u2028"),
    ("", "##"),
    ("aus\n", "##n\u2028"),
    (" aus ", "new\ryork"),
    (),
]


@pytest.mark.parametrize("odd", ODD_TOKENS)
def test_a_tokenizer_json_alone_gives_the_ids_of_the_packages_tokenizer(tmp_path, odd):
    tokenizers = pytest.importorskip("tokenizers")
    shifted = {token: index + (len(odd) or 1) * (index > 4) for token, index in VOCAB.items()}
    vocab = dict(shifted, **{token: index for index, token in enumerate(odd, 5)})
    held = tokenizer_json([added("Plan der", len(vocab))] if odd else (), vocab=vocab)
    folder = write(tmp_path, tokenizer=held)
    (tmp_path / "vocab.txt").unlink()
    odd_texts = ["aus\n", "a\u2028aus \u2028 köln", "##", " aus new\ryork new york", "aus##n"]
    assert refusal(folder, TEXTS + odd_texts) is None
    settings = pretrained.find_tokenizer(folder)[0]
    ours = settings.make(pretrained.find_vocab(folder))
    there = tokenizers.Tokenizer.from_file(str(tmp_path / "tokenizer.json"))
    for text in GERMAN[:2] + odd_texts:
        expected = there.encode(text, add_special_tokens=False).ids
        assert ours.convert_tokens_to_ids(ours.tokenize(text)) == expected, ascii(text)
    exported = hugging_face_tokenizer.tokenizer_json(ours)
    again = tokenizers.Tokenizer.from_str(json.dumps(exported))
    for text in GERMAN + odd_texts:
        expected = ours.convert_tokens_to_ids(ours.tokenize(text))
        assert again.encode(text, add_special_tokens=False).ids == expected, ascii(text)
    (tmp_path / "tokenizer.json").write_text(json.dumps(exported), encoding="utf-8")
    held = tokenization.load_vocab(str(tmp_path / "tokenizer.json"))
    assert {token: held[token] for token in VOCAB} == shifted


@pytest.mark.parametrize(
    "held, text, there, here",
    [
        # Of a key that this program does not know.
        (
            tokenizer_json(normalizer=dict(NORMALIZER, clean_text=False)),
            "aus\x07",
            "[UNK]",
            "aus",
        ),
    ],
)
def test_other_tokens_are_refused_with_a_text_of_the_users(tmp_path, held, text, there, here):
    pytest.importorskip("tokenizers")
    long = "der stadt " * 30 + text
    found = refusal(write(tmp_path, tokenizer=held), ["stadt", long])
    assert 'gives other tokens than this program: "der stadt ' in found
    assert "..." in found and len(found) < 600
    assert "%s there, but ... der stadt %s here" % (there, here) in found


def test_without_the_package_nothing_is_compared(tmp_path, monkeypatch):
    folder = write(tmp_path, tokenizer_config={})
    tokenizer = TokenizerSettings().make(str(tmp_path / "vocab.txt"))
    monkeypatch.setattr(token_check.importlib.util, "find_spec", lambda name: None)
    assert token_check.check_other_tokens(TokenizerFiles(folder), tokenizer, ["a"]) is None
    write(tmp_path, tokenizer_config={"do_lower_case": True})
    found = token_check.check_other_tokens(TokenizerFiles(folder), tokenizer, ["a"])
    assert found == "the package tokenizers is not installed"


def test_texts_with_new_characters_are_compared_first():
    texts = ["ab"] + ["a", "b"] * 500 + ["bé"] + ["a" * n for n in range(500)]
    found = token_check.choose_texts(texts)
    assert found[:2] == ["ab", "bé"] and len(found) == token_check.NUM_TEXTS
    assert token_check.choose_texts(["a", "a"]) == ["a", "a"]


def test_equal_tokens_of_different_ids_are_shown_with_them():
    found = token_check.describe("a b", ["a", "b"], [5, 6], ["a", "b"], [5, 7])
    assert found == '"a b" becomes a=5 b=7 there, but a=5 b=6 here'
