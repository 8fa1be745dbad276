"""Tests that a tokenizer's settings and added tokens reach every use of a stage."""

import importlib.util
import json

import numpy as np
import pytest

import tokenization
from conftest import (
    SMALL_BERT,
    VOCABULARY,
    assert_refused,
    command,
    needs_tensorflow_2,
    read_json,
    refused,
    write_bert,
    write_pairs,
)
from theseus import Classifier

TEXTS = ("Köln 手机 Ärger", "Zug 9 zug 9x 🚆我")
TOKENS = [["köln", "手", "机", "[UNK]"], ["Zug 9", "Zug 9", "[UNK]", "🚆", "我"]]
FIRST = SMALL_BERT["vocab_size"] + 2
COMMON = "--data_dir=data --bert_pretrained_model=bert --suc_layers=1 --num_train_epochs=1 "
COMMON += "--train_batch_size=32 --max_seq_length=24 "
FORMATS = ["bert", "huggingface", "saved_model"]
HAS_ONNX = all(map(importlib.util.find_spec, ["tf2onnx", "onnx", "onnxruntime"]))


def write_folder(root, **changes):
    """Writes data, and a BERT whose tokenizer keeps accents and has two added tokens."""
    (root / "data").mkdir()
    for split, seed in (("train", 1), ("dev", 2)):
        write_pairs(root / "data" / (split + ".txt"), 32, seed)
    values = dict(SMALL_BERT, num_hidden_layers=2, vocab_size=FIRST + 2, initializer_range=0.5)
    write_bert(root / "bert", dict(values, **changes))
    (root / "bert" / "vocab.txt").write_text(VOCABULARY + "köln\nkoln\n", encoding="utf-8")
    write(root, "tokenizer_config", {"do_lower_case": True, "strip_accents": False})
    write(root, "added_tokens", {"Zug 9": FIRST, "🚆": FIRST + 1})


def write(root, name, value):
    path = root / "bert" / (name + ".json")
    path.write_text(json.dumps(value), encoding="utf-8")


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    """A folder with such a BERT, and stages 0 and 1 trained from it."""
    root = tmp_path_factory.mktemp("tokenizer_runs")
    write_folder(root)
    with pytest.MonkeyPatch.context() as patch:
        command("--do_train --finetune_pre " + COMMON, root, patch)
        command("--do_train --init_checkpoint=out_0 " + COMMON, root, patch)
    return root


def tokens_of(model):
    return [model._tokenizer.tokenize(text) for text in TEXTS]


def test_every_stage_has_them_from_its_own_folder(root):
    for name in ("out_0", "out_1"):
        held = read_json(root, name, "run.json")["tokenizer"]
        assert (held["strip_accents"], held["tokenize_chinese_chars"]) == (False, True)
        assert [(t["content"], t["id"]) for t in held["added_tokens"]] == [
            ("Zug 9", FIRST),
            ("🚆", FIRST + 1),
        ]
        with Classifier(str(root / name)) as model:
            assert tokens_of(model) == TOKENS


@needs_tensorflow_2
def test_every_export_has_them(root, monkeypatch, caplog):
    pytest.importorskip("safetensors")
    formats = FORMATS + (["onnx"] if HAS_ONNX else [])
    line = "--do_export --export_format=%s " + COMMON
    command(line % ",".join(formats), root, monkeypatch)
    assert "bert: google-research/bert's tokenizer has no strip_accents, " in caplog.text
    if HAS_ONNX:
        command(line % "onnx" + "--quantize=int8", root, monkeypatch)
        formats = formats + ["onnx_int8"]
    with Classifier(str(root / "out_1")) as model:
        (_, expected), (_, plain) = model.classify([TEXTS, (TEXTS[0], "zug 我")])
    assert abs(expected[0] - plain[0]) > 1e-4  # The tokens do matter.
    for name in formats:
        with Classifier(str(root / "out_1" / "export" / name)) as model:
            assert tokens_of(model) == TOKENS, name
            found = model.classify([TEXTS])[0][1]
            np.testing.assert_allclose(found, expected, atol=0.05 if "int8" in name else 1e-5)


def exported(root, monkeypatch, name):
    """Returns the folder of stage 1's export, made once."""
    pytest.importorskip("safetensors")
    path = root / "out_1" / "export" / name
    if not path.exists():
        command("--do_export --export_format=%s " % name + COMMON, root, monkeypatch)
    return path


@needs_tensorflow_2
@pytest.mark.parametrize("name", ["bert", "huggingface"])
def test_an_export_is_a_start_with_the_same_tokenizer(root, monkeypatch, name):
    exported(root, monkeypatch, name)
    line = COMMON.replace("=bert ", "=out_1/export/%s " % name)
    command(
        "--do_train --finetune_pre --stage_0_outputdir=from_%s " % name + line, root, monkeypatch
    )
    found, expected = (read_json(root, of, "run.json") for of in ("from_" + name, "out_1"))
    assert found["tokenizer"] == expected["tokenizer"] and found["do_lower_case"] is True


@needs_tensorflow_2
def test_the_huggingface_export_gives_other_programs_the_same_tokens(root, monkeypatch):
    tokenizers = pytest.importorskip("tokenizers")
    path = exported(root, monkeypatch, "huggingface") / "tokenizer.json"
    there = tokenizers.Tokenizer.from_file(str(path))
    for text, tokens in zip(TEXTS, TOKENS):
        found = there.encode(text, add_special_tokens=False)
        ids = [there.token_to_id(token) for token in tokens]
        assert found.ids == ids, text


def test_other_settings_are_another_run_and_another_cache(root, tmp_path, monkeypatch):
    write_folder(tmp_path)
    line = "--do_train --finetune_pre --cache_dir=cache " + COMMON
    command(line, tmp_path, monkeypatch)
    write(tmp_path, "tokenizer_config", {"do_lower_case": True})
    found = refused(line, tmp_path, monkeypatch)
    assert "--bert_pretrained_model: the run in out_0 was started with another tokenizer: " in found
    command(line + "--stage_0_outputdir=other", tmp_path, monkeypatch)
    assert len(list((tmp_path / "cache").iterdir())) == 2
    with Classifier(str(tmp_path / "other")) as model:
        assert model._tokenizer.tokenize("Köln Zug 9") == ["koln", "Zug 9"]
    # A teacher whose tokens are others.
    line = "--do_train --init_checkpoint=out_0 --distill_from=other " + COMMON
    assert "was trained with another vocabulary, case or tokenizer" in refused(
        line, tmp_path, monkeypatch
    )


def test_what_the_folders_own_tokenizer_cuts_otherwise_is_refused(tmp_path, monkeypatch):
    tokenizers = pytest.importorskip("tokenizers")
    write_folder(tmp_path)
    vocab = tokenization.load_vocab(str(tmp_path / "bert" / "vocab.txt"))
    there = tokenizers.Tokenizer(tokenizers.models.WordPiece(dict(vocab), unk_token="[UNK]"))
    there.normalizer = tokenizers.normalizers.BertNormalizer(clean_text=False)
    there.pre_tokenizer = tokenizers.pre_tokenizers.BertPreTokenizer()
    there.save(str(tmp_path / "bert" / "tokenizer.json"))
    line = "--do_train --finetune_pre " + COMMON
    command(line, tmp_path, monkeypatch)  # No text has a character that is cleaned away.

    dev = "我\u200b的手机\t你\t1\n你\t我\t0\n"
    (tmp_path / "data" / "dev.txt").write_text(dev, encoding="utf-8")
    pattern = "bert: its own tokenizer gives other tokens than this program: .* becomes "
    pattern += r"我 \[UNK\] 的 手 机 there, but 我 的 手 机 here; "
    line += "--stage_0_outputdir=other"
    assert_refused(line, tmp_path, monkeypatch, pattern)


def test_a_bert_of_one_segment_takes_single_texts_and_no_pairs(tmp_path, monkeypatch):
    write_folder(tmp_path, type_vocab_size=1)
    line = "--do_train --finetune_pre " + COMMON
    pattern = "bert: the BERT has type_vocab_size = 1, but the pairs of lcqmc_pair need 2"
    assert_refused(line, tmp_path, monkeypatch, pattern)
    for split in ("train", "dev"):
        lines = (tmp_path / "data" / (split + ".txt")).read_text(encoding="utf-8").splitlines()
        rows = ["text\tlabel"] + ["%s\t%s" % tuple(line.split("\t")[1:]) for line in lines]
        text = "\n".join(rows) + "\n"
        (tmp_path / "single").mkdir(exist_ok=True)
        (tmp_path / "single" / (split + ".tsv")).write_text(text, encoding="utf-8")
    command(line + "--task_name=custom --data_dir=single", tmp_path, monkeypatch)
    with Classifier(str(tmp_path / "out_0")) as model:
        assert len(model.classify(["我们", "你"])) == 2
