"""Tests of a pretrained BERT's folder: its files, refused folders, and the hub."""

import json
import os
import sys
import types

import pytest

from modeling_theseus import BertConfig
from theseus.checkpoints import pretrained
from theseus.errors import UserError
from theseus.inputs.tokenizer_settings import TokenizerSettings

SHAPE = {"vocab_size": 30, "hidden_size": 16, "num_attention_heads": 2}


def write_config(folder, name="config.json", **values):
    (folder / name).write_text(json.dumps(dict(SHAPE, **values)))


def test_the_oldest_config_of_hugging_face_is_known_by_its_file(tmp_path):
    write_config(tmp_path, hidden_act="gelu")
    assert pretrained.read_config(str(tmp_path)).hidden_act == "gelu_erf"


def test_each_form_of_folder_has_its_own_config(tmp_path):
    write_config(tmp_path, "bert_config.json", hidden_act="gelu")
    assert pretrained.read_config(str(tmp_path)).hidden_act == "gelu_tanh"
    write_config(tmp_path, "config.json", hidden_act="gelu", model_type="bert")
    assert pretrained.read_config(str(tmp_path)).hidden_act == "gelu_erf"
    (tmp_path / "bert_model.ckpt.index").write_bytes(b"")
    assert pretrained.read_config(str(tmp_path)).hidden_act == "gelu_tanh"


@pytest.mark.parametrize(
    "values, message",
    [
        ({"model_type": "albert"}, "config.json: .*model_type = albert"),
        ({"model_type": "roberta", "architectures": ["BertModel"]}, "model_type = roberta"),
        ({"architectures": ["AlbertForMaskedLM"]}, "architectures = AlbertForMaskedLM"),
        ({"position_embedding_type": "relative_key"}, "position_embedding_type = relative_key"),
        ({"is_decoder": True}, "is_decoder = True"),
        ({"layer_norm_eps": 1e-5}, "layer_norm_eps = 1e-05"),
    ],
)
def test_another_graph_than_berts_is_refused_by_name(tmp_path, values, message):
    write_config(tmp_path, **values)
    with pytest.raises(UserError, match=message):
        pretrained.read_config(str(tmp_path))


def test_roberta_wwm_and_macbert_are_berts(tmp_path):
    values = {"model_type": "bert", "architectures": ["BertForMaskedLM"], "is_decoder": False}
    write_config(tmp_path, layer_norm_eps=1e-12, position_embedding_type=None, **values)
    assert pretrained.read_config(str(tmp_path)).vocab_size == 30


def test_tokenizer_json_stands_in_for_vocab_txt(tmp_path):
    with pytest.raises(UserError, match="expected vocab.txt or tokenizer.json, found neither"):
        pretrained.find_vocab(str(tmp_path))
    (tmp_path / "tokenizer.json").write_text("{}")
    assert pretrained.find_vocab(str(tmp_path)).endswith("tokenizer.json")
    (tmp_path / "vocab.txt").write_text("")
    assert pretrained.find_vocab(str(tmp_path)).endswith("vocab.txt")


# --- Case ---

SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "[unused1]", "<S>", "<T>"]
UNCASED = ["the", "apple", "##ing", "caf", "a", "手", "1"]
CASED = ["the", "apple", "##ing", "Apple", "Paris", "a", "手", "1"]
RUSSIAN = ["москва", "Москва", "##ва"]
CHINESE = ["手", "机", "##手"]
# As in data/tiny_bert: capitals that stand alone, of a text that was lowered.
LETTERS = CHINESE + list("abcABC")


def write_vocab(folder, tokens):
    (folder / "vocab.txt").write_text("\n".join(SPECIAL + tokens) + "\n", encoding="utf-8")


@pytest.mark.parametrize(
    "tokens, is_lowered",
    [(UNCASED, True), (CASED, False), (RUSSIAN, False), (CHINESE, True), (LETTERS, True)],
)
def test_the_vocabulary_tells_whether_the_case_is_lowered(tmp_path, tokens, is_lowered):
    write_vocab(tmp_path, tokens)
    case = pretrained.find_case(str(tmp_path))
    assert (case.is_lowered, case.warning) == (is_lowered, None)
    assert "of the words of %s" % (tmp_path / "vocab.txt") in case.reason


@pytest.mark.parametrize(
    "normalizer, is_lowered",
    [
        ({"type": "BertNormalizer", "lowercase": True}, True),
        ({"type": "BertNormalizer", "lowercase": False}, False),
        ({"type": "Sequence", "normalizers": [{"type": "NFD"}, {"type": "Lowercase"}]}, True),
        (
            {"type": "Sequence", "normalizers": [{"type": "BertNormalizer", "lowercase": False}]},
            False,
        ),
        ({"type": "NFD"}, None),
        (None, None),
        ("damaged", None),
    ],
)
def test_a_tokenizer_json_tells_it_before_the_vocabulary(tmp_path, normalizer, is_lowered):
    for tokens, by_vocabulary in ((LETTERS, True), (CASED, False)):
        write_vocab(tmp_path, tokens)
        (tmp_path / "tokenizer.json").write_text(json.dumps({"normalizer": normalizer}))
        case = pretrained.find_case(str(tmp_path))
        assert case.is_lowered == (by_vocabulary if is_lowered is None else is_lowered)
        assert ("tokenizer.json says do_lower_case" in case.reason) == (is_lowered is not None)


@pytest.mark.parametrize(
    "content, tokens, is_lowered, is_warned_of",
    [
        ('{"do_lower_case": false}', CASED, False, False),
        ('{"do_lower_case": true}', UNCASED, True, False),
        ('{"do_lower_case": false}', LETTERS, False, False),
        # Each capital would be [UNK]; so google-bert/bert-base-chinese, which was lowered.
        ('{"do_lower_case": false}', UNCASED, True, True),
        ('{"do_lower_case": false}', CHINESE, False, False),
        ('{"do_lower_case": true}', CASED, True, True),
        ('{"do_lower_case": "no"}', CASED, False, False),
    ],
)
def test_a_tokenizer_config_tells_it_unless_the_vocabulary_has_no_capitals(
    tmp_path, content, tokens, is_lowered, is_warned_of
):
    write_vocab(tmp_path, tokens)
    other = {"normalizer": {"type": "BertNormalizer", "lowercase": not is_lowered}}
    if "do_lower_case" in content and '"no"' not in content:
        (tmp_path / "tokenizer.json").write_text(json.dumps(other))
    (tmp_path / "tokenizer_config.json").write_text(content)
    case = pretrained.find_case(str(tmp_path))
    assert (case.is_lowered, case.warning is not None) == (is_lowered, is_warned_of)
    assert "\n" not in case.reason + (case.warning or "")


@pytest.mark.parametrize("name", ["tokenizer_config.json", "tokenizer.json"])
@pytest.mark.parametrize("content", ["[]", "damaged", '{"a": 1, "a": 2}'])
def test_a_damaged_tokenizers_file_is_one_line(tmp_path, name, content):
    write_vocab(tmp_path, CASED)
    (tmp_path / name).write_text(content)
    with pytest.raises(UserError, match="%s: is damaged: " % name):
        pretrained.find_case(str(tmp_path))


@pytest.mark.parametrize("given", [True, False])
@pytest.mark.parametrize("content", ['{"do_lower_case": false}', '{"do_lower_case": true}', "{}"])
def test_what_is_given_is_obeyed_and_a_contradiction_warned_of(tmp_path, content, given):
    write_vocab(tmp_path, CASED)
    (tmp_path / "tokenizer_config.json").write_text(content)
    found = pretrained.find_case(str(tmp_path)).is_lowered
    case = pretrained.find_case(str(tmp_path), given)
    assert case.is_lowered == given
    if given != found:
        assert "--do_lower_case=%s" % str(given).lower() in case.warning
    assert case.warning or given == found


# --- The hub ---


@pytest.fixture
def hub(tmp_path, monkeypatch):
    """A hub that fills tmp_path/snapshot; `files` is what it has, `asked` what was asked for."""
    fake = types.SimpleNamespace(files={"config.json": json.dumps(SHAPE)}, asked=[])
    fake.revisions, fake.folder = [], "snapshot"

    def snapshot_download(hub_id, revision, allow_patterns):
        fake.asked.append((hub_id, allow_patterns[0]))
        fake.revisions.append(revision)
        folder = tmp_path / fake.folder
        folder.mkdir(exist_ok=True, parents=True)
        for name in set(allow_patterns).intersection(fake.files):
            (folder / name).write_text(fake.files[name])
        return str(folder)

    fake.snapshot_download = snapshot_download
    monkeypatch.setitem(sys.modules, "huggingface_hub", fake)
    monkeypatch.chdir(str(tmp_path))
    return fake


@pytest.mark.parametrize("name", ["model.safetensors", "pytorch_model.bin"])
def test_a_hub_id_is_downloaded_with_one_form_of_its_weights(hub, name):
    hub.files[name] = "weights"
    folder = pretrained.local_folder("owner/some-bert_1.0")
    assert sorted(os.listdir(folder)) == ["config.json", name]
    asked = ["config.json", "model.safetensors", "pytorch_model.bin"]
    expected = asked[: asked.index(name) + 1]
    assert hub.asked == [("owner/some-bert_1.0", first) for first in expected]


def test_another_architecture_is_refused_before_its_weights_are_downloaded(hub):
    hub.files["config.json"] = json.dumps(dict(SHAPE, model_type="albert"))
    with pytest.raises(UserError, match="model_type = albert"):
        pretrained.local_folder("owner/albert")
    assert len(hub.asked) == 1


def test_another_tokenizer_is_refused_before_the_weights_unless_only_layers_are_taken(hub):
    hub.files["config.json"] = json.dumps(dict(SHAPE, tokenizer_class="RoFormerTokenizer"))
    hub.files["model.safetensors"] = "weights"
    with pytest.raises(UserError, match="its tokenizer_class is RoFormerTokenizer"):
        pretrained.local_folder("owner/bert")
    assert len(hub.asked) == 1
    pretrained.local_folder("owner/bert", flag="suc_init")
    assert len(hub.asked) == 3


def test_weights_are_downloaded_only_where_they_are_needed(hub):
    pretrained.local_folder("owner/bert", needs_weights=False)
    assert hub.asked == [("owner/bert", "config.json")]


def test_a_folder_comes_before_a_hub_id(hub, tmp_path):
    (tmp_path / "owner" / "bert").mkdir(parents=True)
    assert pretrained.local_folder("owner/bert") == "owner/bert"
    assert not hub.asked


@pytest.mark.parametrize(
    "name", ["bert", "/no/folder", "./owner/bert", "a/b/c", "file/bert", "a/b@", "a@b/c"]
)
def test_what_is_neither_folder_nor_hub_id_is_refused(hub, tmp_path, name):
    (tmp_path / "file").mkdir()
    (tmp_path / "file" / "bert").write_text("")
    with pytest.raises(UserError, match="--bert_pretrained_model: .* is not a folder"):
        pretrained.local_folder(name)
    assert not hub.asked


def test_a_failed_download_says_how_to_get_the_files_by_hand(hub):
    def fail(hub_id, revision, allow_patterns):
        raise RuntimeError("no network\nand more lines")

    hub.snapshot_download = fail
    message = (
        "no folder owner/bert, and the Hugging Face hub did not provide it: no network; "
        "to download it by hand, put config.json.*"
        "https://huggingface.co/owner/bert into a folder"
    )
    with pytest.raises(UserError, match=message) as caught:
        pretrained.local_folder("owner/bert")
    assert "\n" not in str(caught.value)


def test_a_revision_is_asked_for_and_its_commit_is_logged_and_kept(hub, caplog):
    hub.files["model.safetensors"] = "weights"
    hub.folder = "models--owner--bert/snapshots/0a1b2c"
    with caplog.at_level("INFO"):
        folder = pretrained.local_folder("owner/bert@refs/pr/1")
    assert hub.asked == [("owner/bert", "config.json"), ("owner/bert", "model.safetensors")]
    assert hub.revisions == ["refs/pr/1", "0a1b2c"]
    assert pretrained.hub_commit(folder) == "0a1b2c"
    assert "--bert_pretrained_model: using owner/bert@refs/pr/1 at commit 0a1b2c" in caplog.text


def test_the_default_branch_is_asked_for_once(hub):
    """Files that the hub gets between two downloads do not mix with the earlier ones."""
    hub.folder = "models--owner--bert/snapshots/0a1b2c"
    pretrained.local_folder("owner/bert")
    assert hub.revisions == [None, "0a1b2c", "0a1b2c"]


def test_a_folder_of_the_users_is_no_commit(hub, tmp_path):
    assert pretrained.hub_commit(str(tmp_path)) is None
    assert pretrained.hub_commit(pretrained.local_folder("owner/bert@v1.0")) is None
    assert hub.revisions[0] == "v1.0"


def test_a_revision_that_the_hub_lacks_is_named(hub):
    def fail(hub_id, revision, allow_patterns):
        raise RuntimeError("Revision Not Found")

    hub.snapshot_download = fail
    message = (
        "no folder owner/bert@v2, and the Hugging Face hub did not provide it: Revision.*"
        "owner/bert/tree/v2 into a"
    )
    with pytest.raises(UserError, match=message):
        pretrained.local_folder("owner/bert@v2")


def test_without_huggingface_hub_its_package_is_named(monkeypatch, tmp_path):
    monkeypatch.chdir(str(tmp_path))
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with pytest.raises(UserError, match="needs the package huggingface_hub; pip install hugg"):
        pretrained.local_folder("owner/bert")


@pytest.mark.parametrize(
    "lines, rows, warnings",
    [
        (["[PAD]", "[UNK]", "[CLS]", "[SEP]", "a"], 5, []),
        (["[PAD]", "[UNK]", "[CLS]", "[SEP]", "a", "", ""], 5, []),
        (["[PAD]", "[UNK]", "", "[CLS]", "[SEP]"], 5, ["one of its lines is blank"]),
        (["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[UNK]"], 5, ["the token [UNK] occurs twice"]),
        (
            ["[PAD]", "[UNK]", "[CLS]", "[SEP]"],
            7,
            ["holds 4 tokens, the BERT's embedding table 7 rows"],
        ),
        (["[UNK]", "[CLS]", "[SEP]"], 3, ["its first token is not [PAD]"]),
    ],
)
def test_what_is_odd_in_a_vocabulary_is_said_in_a_line_each(tmp_path, lines, rows, warnings):
    path = tmp_path / "vocab.txt"
    path.write_text("\n".join(lines) + "\n")
    model = pretrained.Model(BertConfig(vocab_size=rows), str(path))
    found = pretrained.vocab_warnings(model)
    assert len(found) == len(warnings)
    for line, part in zip(found, warnings):
        assert line.startswith("%s: %s" % (path, part)) and "\n" not in line
    assert pretrained.make_tokenizer(model, TokenizerSettings()).vocab["[SEP]"] < rows
