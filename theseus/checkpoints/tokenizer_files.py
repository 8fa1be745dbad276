"""Reads a pretrained BERT's tokenizer settings from the files of Hugging Face.

They are tokenizer_config.json, tokenizer.json, added_tokens.json, special_tokens_map.json; and
config.json, which may name the tokenizer's class. In a folder of Google's all may be missing.
"""

from __future__ import annotations

import json
import os
import re
from typing import Any, Dict, Iterator, Mapping

from theseus import records
from theseus.errors import UserError
from theseus.inputs.tokenizer_settings import TokenizerSettings
from tokenization import AddedToken

_Json = Dict[str, Any]

BERTS_OWN = ("[UNK]", "[SEP]", "[PAD]", "[CLS]", "[MASK]")
"""BERT's own tokens. In a user's text these strings are plain text, whatever the files say."""

SHORTEST = 3
"""The smallest number of tokens of an input: [CLS], one token of text, [SEP]."""

_CONFIG, _TOKENIZER = "tokenizer_config.json", "tokenizer.json"
_ADDED, _MAP, _MODEL = "added_tokens.json", "special_tokens_map.json", "config.json"

# Classes of transformers that work as BertTokenizer does; and those that follow tokenizer.json.
_BERTS = re.compile(
    r"(Bert|ConvBert|DistilBert|Electra|LayoutLM|Lxmert|MobileBert|RetriBert|SqueezeBert)"
    r"Tokenizer(Fast|Legacy)?\Z"
)
_BY_FILE = ("PreTrainedTokenizerFast", "TokenizersBackend")

# The parts of tokenizer.json by type: BERT's own, and those that this program exports.
_EXPORTED = "Replace( BertNormalizer)?( Replace Lowercase)?( NFD Replace)?"
_PARTS = {
    "normalizer": ("BertNormalizer", _EXPORTED),
    "pre_tokenizer": ("BertPreTokenizer", "Split Split"),
}

_TOKEN = records.table(
    {"content": records.text()},
    {"single_word": records.boolean, "normalized": records.boolean, "special": records.boolean},
    others=True,
)
_WITH_ID = records.both(_TOKEN, records.table({"id": records.whole()}, others=True))
_BY_ID = records.mapping(_TOKEN, records.text(r"\d{1,9}", "a token's id"))


class TokenizerFiles(object):
    """The files of one folder, read once."""

    def __init__(self, folder: str) -> None:
        """Reads them; UserError if one is not a JSON object."""
        self.folder = folder
        names = (_CONFIG, _TOKENIZER, _ADDED, _MAP, _MODEL)
        self._files = {name: _read_object(self.path(name)) for name in names}
        self._class_file = next(
            (name for name in (_CONFIG, _MODEL) if self._files[name].get("tokenizer_class")),
            _CONFIG,
        )
        self._class = self._files[self._class_file].get("tokenizer_class")

    def path(self, name: str) -> str:
        """Returns the path of one of the files."""
        return os.path.join(self.folder, name)

    def held(self, name: str) -> _Json:
        """Returns the content of one of the files; {} if it does not exist."""
        return self._files[name]

    def checked(self, name: str, key: str | None, kind: records.Kind) -> Any:
        """Returns a file's value of a key, or all of it; UserError if it is not of that Kind."""
        value = self._files[name] if key is None else self._files[name].get(key)
        try:
            if value:
                kind(value, "")
        except ValueError as error:
            raise UserError(
                "%s: is damaged: %s%s" % (self.path(name), key + "." if key else "", error)
            )
        return value or {}

    @property
    def holds_whole_tokenizer(self) -> bool:
        """Whether tokenizer.json exists and holds more than a vocabulary."""
        held = self._files[_TOKENIZER]
        return bool(held.get("normalizer") and held.get("pre_tokenizer"))

    @property
    def bert_normalizer(self) -> _Json:
        """The settings of tokenizer.json's BertNormalizer; {} if it has another one, or none."""
        return _only(self._files[_TOKENIZER].get("normalizer"), "BertNormalizer")

    @property
    def are_there(self) -> bool:
        """Whether the folder has any file about its tokenizer, a bool."""
        return any(self._files[name] for name in (_CONFIG, _TOKENIZER, _ADDED, _MAP))

    @property
    def names(self) -> str:
        """The names of the existing files, without config.json, for a message."""
        names = (_CONFIG, _TOKENIZER, _ADDED, _MAP)
        return ", ".join(name for name in names if os.path.exists(self.path(name)))

    # --- What is refused ---

    def check_other(self) -> None:
        """Raises UserError if the tokenizer is not BERT's."""
        differences = list(self._differences())
        if differences:
            first = differences[0][0]
            named = ", ".join(what for name, what in differences if name == first)
            raise UserError(
                "%s: %s; this program supports only BERT's WordPiece, as in BertTokenizer; "
                "give a BERT that uses it" % (self.path(first), named)
            )

    def _differences(self) -> Iterator[tuple[str, str]]:
        """Yields the differences from BERT's tokenizer: (name of the file, the setting)."""
        is_by_file = self._class in _BY_FILE and bool(self._files[_TOKENIZER])
        if self._class and not is_by_file and not _BERTS.match(str(self._class)):
            yield self._class_file, "its tokenizer_class is %s" % _plain(self._class)
        config = self._files[_CONFIG]
        for key, values in _VALUES.items():
            if key in config and config[key] not in values:
                yield _CONFIG, "its %s is %s" % (key, _plain(config[key]))
        for name in (_CONFIG, _MAP):
            for key, token in _NAMES.items():
                content = _content(self._files[name].get(key, token))
                if content not in (None, token):
                    yield name, "its %s is %s, not %s" % (key, _plain(content), token)
        held = self._files[_TOKENIZER]
        for what in _other_parts(held, is_by_file) if held else ():
            yield _TOKENIZER, what

    # --- Settings ---

    def says(self, key: str) -> tuple[str, bool | None]:
        """Returns a setting of BertTokenizer from the files.

        For BERT's own classes tokenizer_config.json comes first; for a class that is defined by
        tokenizer.json, that file does.

        Returns:
          (path, bool): the file and its value; None if no file has the setting, or it is null.
        """
        held = self._files[_TOKENIZER]
        order = [(_CONFIG, self._files[_CONFIG]), (_TOKENIZER, _part_settings(held))]
        for name, settings in reversed(order) if self._class in _BY_FILE else order:
            value = settings.get(key)
            is_null = value is None and key in settings and key == "strip_accents"
            if isinstance(value, bool) or is_null:
                return self.path(name), value
        return self.path(_TOKENIZER), None

    def settings(self, do_lower_case: bool, vocab: Mapping[str, int]) -> TokenizerSettings:
        """Returns the TokenizerSettings.

        Args:
          do_lower_case: whether texts are lower-cased; the files alone do not decide this.
          vocab: the WordPiece vocabulary, a mapping from token to id.
        """
        strips = self.says("strip_accents")[1]
        splits = self.says("tokenize_chinese_chars")[1]
        return TokenizerSettings(
            do_lower_case,
            None if strips == do_lower_case else strips,
            True if splits is None else splits,
            self._added_tokens(vocab),
        )

    def max_length(self, num_positions: int) -> int:
        """Returns the largest number of tokens of an input: model_max_length or the positions."""
        length = self._files[_CONFIG].get("model_max_length")
        # If nobody has set it, transformers writes 1e30.
        if not isinstance(length, int) or length < SHORTEST:
            return num_positions
        return min(length, num_positions)

    def _added_tokens(self, vocab: Mapping[str, int]) -> tuple[AddedToken, ...]:
        """Returns the AddedTokens, with ids from the vocabulary, from the files, or new ones."""
        entries = _added_entries(self)
        if self._files[_CONFIG].get("split_special_tokens") is True:
            entries = {key: entry for key, entry in entries.items() if not entry["special"]}
        ids = {key: vocab.get(key, entry.get("id")) for key, entry in entries.items()}
        known = [index for index in ids.values() if index is not None]
        largest = max([-1, *vocab.values(), *known])
        tokens = []
        for content, entry in entries.items():
            index = ids[content]
            if index is None:
                index = largest = largest + 1
            single_word = entry.get("single_word", False)
            normalized = entry.get("normalized", not entry["special"])
            tokens.append(AddedToken(content, index, single_word, normalized))
        return tuple(sorted(tokens, key=lambda token: token.id))


# Settings of other tokenizers, or of parts of BERT's, with the values that change nothing.
_VALUES: dict[str, tuple[Any, ...]] = {
    "word_tokenizer_type": (None, "basic"),
    "subword_tokenizer_type": (None, "wordpiece"),
    "do_basic_tokenize": (None, True),
    "do_word_tokenize": (None, True),
    "do_subword_tokenize": (None, True),
    "wordpieces_prefix": (None, "##"),
    "auto_map": (None, {}),
}
_NORMALIZER = {
    "lowercase": "do_lower_case",
    "strip_accents": "strip_accents",
    "handle_chinese_chars": "tokenize_chinese_chars",
}
_NAMES = {"unk_token": "[UNK]", "cls_token": "[CLS]", "sep_token": "[SEP]"}


def _added_entries(files: TokenizerFiles) -> dict[str, _Json]:
    """Returns the files' entry of each added token, by its content, without `BERTS_OWN`."""
    entries: dict[str, _Json] = {}
    for content in _special_tokens(files):
        entries[content] = {"special": True}
    added = files.checked(_ADDED, None, records.mapping(records.whole(), records.text()))
    for content, index in added.items():
        entries.setdefault(content, {"special": False})["id"] = index
    listed = files.checked(_TOKENIZER, "added_tokens", records.listed(_WITH_ID))
    by_id = files.checked(_CONFIG, "added_tokens_decoder", _BY_ID)
    for token in [*listed, *(dict(by_id[key], id=int(key)) for key in by_id)]:
        entries[token["content"]] = dict({"special": False}, **token)
    return {key: entry for key, entry in entries.items() if key not in BERTS_OWN}


def _special_tokens(files: TokenizerFiles) -> Iterator[str]:
    """Yields the special tokens that the files name, read as transformers reads them."""
    for name in (_MAP, _CONFIG):
        for key, value in files.held(name).items():
            if key in ("additional_special_tokens", "extra_special_tokens"):
                members = list(value.values()) if isinstance(value, dict) else value
            elif re.match("(bos|eos|cls|sep|pad|unk|mask)_token$", key):
                members = [value]
            else:
                continue
            if isinstance(members, list):
                yield from (text for text in map(_content, members) if isinstance(text, str))


def _other_parts(held: _Json, is_by_file: bool) -> Iterator[str]:
    """Yields the parts of a tokenizer.json that differ from BERT's.

    If `is_by_file`, a part that is missing is a difference too.
    """
    model = held.get("model")
    if isinstance(model, dict):
        kind = model.get("type", "BPE" if "merges" in model else "WordPiece")
        if kind != "WordPiece":
            yield "its model is %s" % _plain(kind)
        prefix = model.get("continuing_subword_prefix", "##")
        if prefix != "##":
            yield "its continuing_subword_prefix is %s" % _plain(prefix)
    for key, (berts, exported) in _PARTS.items():
        types = _types(held.get(key))
        is_known = re.match("(%s|%s)\\Z" % (berts, exported), " ".join(types))
        if not is_known and (held.get(key) is not None or is_by_file):
            yield "its %s is %s, not %s" % (key, " + ".join(types) or "none", berts)


def _members(part: Any) -> list[Any]:
    """Returns the parts of a Sequence in a tokenizer.json; any other part as a list of one."""
    if isinstance(part, dict) and part.get("type") == "Sequence":
        names = ("normalizers", "pretokenizers", "processors")
        inside = next((part[name] for name in names if name in part), None)
        return inside if isinstance(inside, list) else []
    return [] if part is None else [part]


def _types(part: Any) -> list[str]:
    return [
        _plain(member.get("type") if isinstance(member, dict) else member)
        for member in _members(part)
    ]


def _only(part: Any, kind: str) -> _Json:
    """Returns the only part of a Sequence, or the part itself, if it has that type; else {}."""
    member: _Json = _members(part)[0] if _types(part) == [kind] else {}
    return member


def _part_settings(held: _Json) -> _Json:
    """Returns BertTokenizer's settings in a tokenizer.json, by BertTokenizer's names."""
    members, types = _members(held.get("normalizer")), _types(held.get("normalizer"))
    settings: _Json = {}
    for member in members:
        for there, name in _NORMALIZER.items():
            if isinstance(member, dict) and there in member:
                settings[name] = member[there]
    if "Lowercase" in types:
        settings["do_lower_case"] = True
    if "Replace" in types:
        settings["strip_accents"] = "NFD" in types
    return settings


def has_segments(files: TokenizerFiles) -> bool:
    """Returns whether the second text of a pair has another segment than the first, a bool."""
    names = files.held(_CONFIG).get("model_input_names")
    if not isinstance(names, list):  # The class decides.
        kinds = [str(files.held(name).get("tokenizer_class")) for name in (_CONFIG, _MODEL)]
        has_none = any(kind.startswith(("DistilBert", "RetriBert")) for kind in kinds)
        names = [] if has_none else ["token_type_ids"]
    return "token_type_ids" in names and _pair_segments(files.held(_TOKENIZER)) != {"0"}


def _pair_segments(held: _Json) -> set[str]:
    """Returns the segments of a pair's parts in a tokenizer.json; none if it is silent."""
    segments: set[str] = set()
    for part in _members(held.get("post_processor")):
        kind = part.get("type") if isinstance(part, dict) else None
        if kind == "RobertaProcessing":
            segments.add("0")
        elif kind == "TemplateProcessing":
            segments.update(re.findall('"type_id": ([0-9]+)', json.dumps(part.get("pair"))))
    return segments


def _content(token: Any) -> Any:
    """Returns the text of a token, which is either a str or an object that contains it."""
    return token.get("content") if isinstance(token, dict) else token


def _plain(value: Any) -> str:
    text = ascii(value)[1:-1] if isinstance(value, str) else ascii(value)
    return text if len(text) <= 60 else text[:60] + "..."


def _read_object(path: str) -> _Json:
    """Returns the dict of a JSON file; an empty one if the file does not exist."""
    return records.read_if_there(path, records.mapping(records.anything)) or {}
