"""Compares the huggingface export's tokenizer.json, read by `tokenizers`, with this program."""

import json
import os
import random

import pytest

import tokenization
from conftest import ROOT
from theseus.errors import UserError
from theseus.export import hugging_face_tokenizer
from theseus.inputs import encoding
from tokenization import AddedToken

tokenizers = pytest.importorskip("tokenizers")

VOCABULARY = "[PAD] [UNK] [CLS] [SEP] [MASK] a b x ##x ##b the sep [ ] ' . σας ΣΑΣ ας Ας α σ ς ##ς "
VOCABULARY += "##σ . i ıi 手 机 \ue000 ss e cafe café 1 , cls unk mask"


# do_lower_case, strip_accents, tokenize_chinese_chars, and whether there are added tokens.
SETTINGS = {
    "lowered": (True, None, True, False),
    "cased": (False, None, True, False),
    "accents kept": (True, False, True, True),
    "accents stripped": (False, True, False, True),
}


@pytest.fixture(scope="module", params=list(SETTINGS.values()), ids=list(SETTINGS))
def tokenizer(request, tmp_path_factory):
    path = tmp_path_factory.mktemp("vocab") / "vocab.txt"
    tokens = list(dict.fromkeys(VOCABULARY.split()))
    path.write_text("\n".join(tokens) + "\n", encoding="utf-8")
    *settings, has_added = request.param
    first = len(tokens)
    added = [AddedToken("Ab 手", first), AddedToken("x\u0301", first + 1, normalized=False)]
    added.append(AddedToken("ΑΣΑ", first + 2, single_word=True))
    return tokenization.FullTokenizer(str(path), *settings, added if has_added else ())


@pytest.fixture(scope="module")
def folder(tokenizer, tmp_path_factory):
    folder = tmp_path_factory.mktemp("export")
    write(folder, tokenizer)
    return folder


def write(folder, tokenizer, **changes):
    held = dict(hugging_face_tokenizer.tokenizer_json(tokenizer), **changes)
    (folder / "tokenizer.json").write_text(json.dumps(held), encoding="utf-8")
    config = hugging_face_tokenizer.tokenizer_config(tokenizer, 16)
    (folder / "tokenizer_config.json").write_text(json.dumps(config), encoding="utf-8")
    (folder / "config.json").write_text('{"model_type": "bert"}')


def random_texts(count):
    """Returns texts of letters, marks, white space, control characters and sigmas."""
    chooser = random.Random(5)
    pool = [chr(c) for c in (*range(0x250), *range(0x300, 0x400), *range(0x2000, 0x2070))]
    pool += "手机豈\U0002b820\ufeff\ufffd\ue000\u0378\U000e0001\u1680\u3000" * 3 + "ΣσςΑ.'" * 40
    return ["".join(chooser.choices(pool, k=chooser.randint(1, 25))) for _ in range(count)]


def test_every_text_has_the_programs_tokens(folder, tokenizer):
    there = tokenizers.Tokenizer.from_file(str(folder / "tokenizer.json"))
    texts = list(hugging_face_tokenizer.HARD_TEXTS) + random_texts(3000)
    for text, found in zip(texts, there.encode_batch(texts, add_special_tokens=False)):
        assert found.tokens == tokenizer.tokenize(text), ascii(text)


@pytest.mark.parametrize(
    "settings", [(True, False, True), (False, True, False), (True, None, False)]
)
def test_each_setting_is_that_of_the_packages_own_bert(tmp_path, settings):
    """On text without what the two are known to disagree on."""
    path = tmp_path / "vocab.txt"
    path.write_text(
        "[PAD]\n[UNK]\n[CLS]\n[SEP]\nA\na\ncafé\ncafe\nCafe\n手\n手机\n##机\nß\n!\nI\ni\n"
    )
    first = 16
    added = [AddedToken("Café Noir", first), AddedToken("手a", first + 1, normalized=False)]
    ours = tokenization.FullTokenizer(str(path), *settings, added)
    there = tokenizers.Tokenizer(tokenizers.models.WordPiece(ours.wordpiece_tokenizer.vocab))
    lowercase, strip_accents, chinese = settings
    there.normalizer = tokenizers.normalizers.BertNormalizer(
        True, chinese, strip_accents, lowercase
    )
    there.pre_tokenizer = tokenizers.pre_tokenizers.BertPreTokenizer()
    there.model.unk_token = "[UNK]"
    there.add_tokens([tokenizers.AddedToken("Café Noir", normalized=True)])
    there.add_tokens([tokenizers.AddedToken("手a", normalized=False)])
    exported = tokenizers.Tokenizer.from_str(
        json.dumps(hugging_face_tokenizer.tokenizer_json(ours))
    )
    chooser = random.Random(3)
    parts = [
        "Café Noir",
        "CAFÉ NOIR",
        "cafe\u0301",
        "手机",
        "手a",
        "A",
        "ß",
        "!",
        "I",
        " ",
        "  ",
        "é",
    ]
    for _ in range(500):
        text = "".join(chooser.choices(parts, k=chooser.randint(1, 9)))
        expected = there.encode(text).ids
        assert ours.convert_tokens_to_ids(ours.tokenize(text)) == expected, ascii(text)
        assert exported.encode(text, add_special_tokens=False).ids == expected, ascii(text)


def test_added_tokens_anywhere_in_the_table_keep_their_ids(tmp_path):
    path = tmp_path / "vocab.txt"
    path.write_text("[PAD]\n[UNK]\n[CLS]\n[SEP]\na\n##b\n")
    added = [AddedToken("a", 4), AddedToken("Z z", 9), AddedToken("y", 12)]
    ours = tokenization.FullTokenizer(str(path), added_tokens=added)
    held = json.dumps(hugging_face_tokenizer.tokenizer_json(ours))
    there = tokenizers.Tokenizer.from_str(held)
    found = there.encode("az z yab", add_special_tokens=False)
    assert found.ids == [4, 9, 12, 4, 1]
    assert ours.convert_tokens_to_ids(ours.tokenize("az z yab")) == [4, 9, 12, 4, 1]


def test_its_patterns_are_read_by_javascript_too(tokenizer):
    """JavaScript has neither of Oniguruma's forms; this was also compared in node by hand."""
    held = json.dumps(hugging_face_tokenizer.tokenizer_json(tokenizer))
    assert r"\\u" in held
    assert r"\\x" not in held and r"\\K" not in held


def test_no_text_brings_berts_own_tokens_in(folder):
    there = tokenizers.Tokenizer.from_file(str(folder / "tokenizer.json"))
    found = there.encode("a [SEP] b", "[CLS][MASK]")
    assert found.tokens[0] == "[CLS]" and found.tokens.count("[CLS]") == 1
    assert found.tokens.count("[SEP]") == 2 and "[MASK]" not in found.tokens


@pytest.mark.parametrize("length", [15, 16])
def test_pairs_are_cut_as_is_said(folder, tokenizer, length):
    """Odd lengths are truncated as in BERT; even ones differ if the first text is not longer."""
    pairs = [("a " * a, "b " * b) for a in range(1, 15) for b in range(1, 15)]
    checked = hugging_face_tokenizer.check_tokens(str(folder), tokenizer, pairs, length)
    assert checked[0] > len(pairs)
    otherwise = [(len(a) // 2, len(b) // 2) for a, b in checked[1] if set(a) == {"a", " "}]
    half = (length - 3) / 2
    expected = [(a, b) for a in range(1, 15) for b in range(a, 15) if a > half]
    assert otherwise == (expected if length == 16 else [])


def test_the_example_of_a_cut_is_one_of_the_users(folder, tokenizer):
    """The built-in texts are cut too, and are not shown."""
    check = hugging_face_tokenizer.check_tokens
    assert check(str(folder), tokenizer, [("a", "b")], 16)[1] == []
    pairs = [("a", "b"), ("a " * 9, "b " * 9)]
    assert check(str(folder), tokenizer, pairs, 16)[1] == [pairs[1]]


def test_single_texts_are_checked_too(folder, tokenizer):
    checked = hugging_face_tokenizer.check_tokens(str(folder), tokenizer, [("a " * 40, None)], 16)
    assert checked == (3 * len(hugging_face_tokenizer.HARD_TEXTS) + 1, [])


@pytest.mark.parametrize(
    "changes",
    [
        {
            "normalizer": {
                "type": "BertNormalizer",
                "clean_text": True,
                "lowercase": True,
                "strip_accents": None,
                "handle_chinese_chars": True,
            }
        },
        {"pre_tokenizer": {"type": "WhitespaceSplit"}},
        {
            "added_tokens": [
                {
                    "id": 3,
                    "content": "[SEP]",
                    "special": False,
                    "single_word": False,
                    "lstrip": False,
                    "rstrip": False,
                    "normalized": False,
                }
            ]
        },
    ],
    ids=["normalizer", "pre_tokenizer", "added_tokens"],
)
def test_other_tokens_are_an_error_that_names_the_first_text(tokenizer, tmp_path, changes):
    write(tmp_path, tokenizer, **changes)
    with pytest.raises(UserError, match="gives other tokens than this program: ") as caught:
        hugging_face_tokenizer.check_tokens(str(tmp_path), tokenizer, [("a", "b")], 128)
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 700
    assert " there, but " in str(caught.value)


@pytest.mark.parametrize("length", [15, 16])
def test_transformers_reads_the_same(folder, tokenizer, length):
    transformers = pytest.importorskip("transformers")
    there = transformers.AutoTokenizer.from_pretrained(str(folder))
    texts = list(hugging_face_tokenizer.HARD_TEXTS)
    assert [there.tokenize(text) for text in texts] == [tokenizer.tokenize(t) for t in texts]
    assert there.model_max_length == 16 and there.pad_token == "[PAD]"
    found = there(texts, texts[::-1], truncation=True, max_length=length)
    for number, (text_a, text_b) in enumerate(zip(texts, texts[::-1])):
        tokens = [tokenizer.tokenize(text) for text in (text_a, text_b)]
        ids = tokenizer.convert_tokens_to_ids(encoding.encode_texts(*tokens, length)[0])
        assert len(found["input_ids"][number]) == len(ids)
        if length == 15:
            assert found["input_ids"][number] == ids


def test_the_documents_way_cuts_a_pair_as_bert_does(folder, tokenizer):
    with open(os.path.join(ROOT, "docs", "deploying.md"), encoding="utf-8") as reader:
        programs = [part.split("```")[0] for part in reader.read().split("```python\n")]
    (program,) = [program for program in programs if "def encode(" in program]
    names = {}
    program = program.replace("export/huggingface", str(folder))
    exec(program, names)
    for length in (15, 16):
        for a in range(15):
            for b in range(15):
                texts = "a " * a, "b " * b
                tokens = [tokenizer.tokenize(text) for text in texts]
                expected, length_a = encoding.encode_texts(*tokens, length)
                found = names["encode"](*texts, length)
                assert found.tokens == expected
                assert sum(found.type_ids) == len(expected) - length_a
