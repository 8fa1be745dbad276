"""The program's tokenizer as transformers reads it: tokenizer.json and tokenizer_config.json.

Its parts are generic ones with the characters written out, as this program's own functions sort
them: BERT's ready-made parts there have other lists (private and unassigned characters are
dropped, a word has 100 characters at most) and another lower case of a final sigma.
"""

from __future__ import annotations

import functools
import importlib.util
import itertools
import os
import sys
import unicodedata
from typing import Any, Callable, Dict, Iterable, List, Mapping, Optional, Sequence, Tuple

import tokenization
from theseus.errors import UserError
from theseus.inputs import encoding

_Json = Dict[str, Any]
_Pair = Tuple[str, Optional[str]]
_Ids = Tuple[List[int], List[int]]  # A pair's tokens, and their segments.
_Reader = Callable[[Sequence[_Pair]], List[_Ids]]

_UNKNOWN, _FIRST, _SEPARATOR = "[UNK]", "[CLS]", "[SEP]"
_SIGMA = "\u03a3"
_SPECIAL = {
    "unk_token": _UNKNOWN,
    "sep_token": _SEPARATOR,
    "pad_token": "[PAD]",
    "cls_token": _FIRST,
    "mask_token": "[MASK]",
}


def tokenizer_json(tokenizer: tokenization.FullTokenizer) -> _Json:
    """Returns what tokenizer.json holds, a dict.

    It has no added tokens: what reads [SEP] in a text is text, as it is in this program.
    """
    wordpiece = tokenizer.wordpiece_tokenizer
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": [],
        "normalizer": _sequence("normalizers", _normalizers(tokenizer.basic_tokenizer)),
        "pre_tokenizer": _sequence("pretokenizers", _splits()),
        "post_processor": _template(tokenizer.vocab),
        "decoder": {"type": "WordPiece", "prefix": "##", "cleanup": False},
        "model": {
            "type": "WordPiece",
            "unk_token": wordpiece.unk_token,
            "continuing_subword_prefix": "##",
            "max_input_chars_per_word": wordpiece.max_input_chars_per_word,
            "vocab": dict(tokenizer.vocab),
        },
    }


def tokenizer_config(tokenizer: tokenization.FullTokenizer, max_seq_length: int) -> _Json:
    """Returns what tokenizer_config.json holds, a dict; see `tokenizer_json`."""
    config: _Json = {name: token for name, token in _SPECIAL.items() if token in tokenizer.vocab}
    config.update(
        # By a class of BERT's name transformers would make a tokenizer of its own parts.
        tokenizer_class="PreTrainedTokenizerFast",
        do_lower_case=tokenizer.basic_tokenizer.do_lower_case,
        model_max_length=max_seq_length,
        model_input_names=["input_ids", "token_type_ids", "attention_mask"],
        # transformers makes added tokens of the ones above; this keeps them out of texts.
        split_special_tokens=True,
        clean_up_tokenization_spaces=False,
    )
    return config


# --- The check ---

# What tokenizers are known to disagree on; each is also put before and behind another text.
HARD_TEXTS = (
    "[CLS] [SEP] [UNK] [MASK] [PAD] [unused1]",
    "a[SEP]b [sep] ##ing",
    # Final sigmas, and others.
    "\u039f\u0394\u039f\u03a3 \u03a3\u0391\u03a3. \u0391.\u03a3.\u0391 \u03a3",
    "\u0130stanbul I\u0131 Stra\u00dfe \u1e9e \u01c5 \u212a caf\u00e9 cafe\u0301 \u1ec7 \ufb01",
    "a\ue000b \ue001 \U000f0000 \u0378",  # Private use, and unassigned.
    "x" * 100 + " " + "x" * 101 + " " + "x" * 200 + " " + "x" * 201,
    "a\x00b\x07c\x7fd\ufffde\u00adf\u200bg\u200dh\ufeffi\x85j\x1ck",  # Control.
    "a\tb\nc\rd\u00a0e\u2003f\u3000g\u2028h\u2029i\u1680j\u180ek",  # White space.
    "1,000.5% $x^2 `y` \u300c\u624b\u673a\u300d\uff0c\u597d\u3002\u201cz\u201d\u2014\u00a7\u00bf",
    "\u624b\u673aA\u597d\uac00\ub098 \u304c\u304b\u3099 \u30ab \uf900 \U00020000 \U0002b820 \u3007",
    "\U0001f642\U0001f469\u200d\U0001f4bb\ufe0f \u0939\u093f\u0902\u0926\u0940 \u302e\u0301",
    "",
)


def check_tokens(
    path: str, tokenizer: tokenization.FullTokenizer, pairs: Sequence[_Pair], max_seq_length: int
) -> tuple[int, list[_Pair]] | None:
    """Compares the tokens of an export with the program's, on `HARD_TEXTS` and on `pairs`.

    Args:
      path: a folder with tokenizer.json, and where transformers is installed, config.json.
      tokenizer: the program's.
      pairs: of texts, or of a text and None.
      max_seq_length: see encoding.encode_texts.

    Returns:
      (number of pairs, those that are cut at another place): an int, and a list of the pairs.
      None where neither transformers nor tokenizers is installed.

    Raises:
      UserError: a text has other tokens, or is cut otherwise than transformers cuts.
    """
    readers = _readers(path, max_seq_length)
    if not readers:
        return None
    hard = [text for short in HARD_TEXTS for text in (short, "a " + short + short, short + " b")]
    is_single = bool(pairs) and pairs[0][1] is None
    others = itertools.repeat(None) if is_single else reversed(hard)
    pairs = [*zip(hard, others), *pairs]
    for encode in readers:
        cut_otherwise = _cut_otherwise(tokenizer, pairs, encode(pairs), max_seq_length)
    return len(pairs), cut_otherwise


def _cut_otherwise(
    tokenizer: tokenization.FullTokenizer,
    pairs: Sequence[_Pair],
    encoded: Sequence[_Ids],
    max_seq_length: int,
) -> list[_Pair]:
    """Returns the pairs that are cut at another place; see `check_tokens`."""
    cut_otherwise: list[_Pair] = []
    for (text_a, text_b), found in zip(pairs, encoded):
        tokens_a = tokenizer.tokenize(text_a)
        tokens_b = None if text_b is None else tokenizer.tokenize(text_b)
        expected = encoding.encode_texts(tokens_a, tokens_b, max_seq_length)
        if found == _ids(tokenizer, expected):
            continue
        if found != _ids(tokenizer, _cut_there(tokens_a, tokens_b, max_seq_length)):
            raise UserError(
                "huggingface: its tokenizer gives other tokens than this program for %s; it is "
                "left out" % ascii((text_a, text_b))
            )
        cut_otherwise.append((text_a, text_b))
    return cut_otherwise


def _ids(tokenizer: tokenization.FullTokenizer, encoded: tuple[list[str], int]) -> _Ids:
    """Returns (ids, segment ids) of what encoding.encode_texts returns."""
    tokens, length_a = encoded
    ids = tokenizer.convert_tokens_to_ids(tokens)
    return ids, [0] * length_a + [1] * (len(ids) - length_a)


def _cut_there(
    tokens_a: list[str], tokens_b: list[str] | None, max_seq_length: int
) -> tuple[list[str], int]:
    """Returns a pair as transformers cuts it, as encoding.encode_texts returns it.

    Where both texts lose tokens and the room is odd, its longer text has one token more than the
    other; in BERT that is always the first one.

    Source: huggingface/tokenizers, tokenizers/src/utils/truncation.rs, LongestFirst.
    """
    room = max_seq_length - 3
    if tokens_b is not None and room // 2 < len(tokens_a) <= len(tokens_b):
        tokens_a, tokens_b = tokens_a[: room // 2], tokens_b[: room - room // 2]
    return encoding.encode_texts(tokens_a, tokens_b, max_seq_length)


def _readers(path: str, max_seq_length: int) -> list[_Reader]:
    """Returns functions from pairs to a list of (ids, segment ids), one for each package."""
    makers = [("transformers", _reader_of_transformers), ("tokenizers", _reader_of_tokenizers)]
    return [make(path, max_seq_length) for name, make in makers if importlib.util.find_spec(name)]


def _reader_of_transformers(path: str, max_seq_length: int) -> _Reader:
    import transformers

    there = transformers.AutoTokenizer.from_pretrained(path)

    def encode(pairs: Sequence[_Pair]) -> list[_Ids]:
        texts_a, texts_b = map(list, zip(*pairs))
        given = (texts_a,) if texts_b[0] is None else (texts_a, texts_b)
        found = there(*given, truncation=True, max_length=max_seq_length)
        return list(zip(found["input_ids"], found["token_type_ids"]))

    return encode


def _reader_of_tokenizers(path: str, max_seq_length: int) -> _Reader:
    import tokenizers

    there = tokenizers.Tokenizer.from_file(os.path.join(path, "tokenizer.json"))
    there.enable_truncation(max_seq_length)

    def encode(pairs: Sequence[_Pair]) -> list[_Ids]:
        given = [text_a if text_b is None else (text_a, text_b) for text_a, text_b in pairs]
        return [(found.ids, found.type_ids) for found in there.encode_batch(given)]

    return encode


# --- Its parts ---


def _sequence(kind: str, parts: list[_Json]) -> _Json:
    return {"type": "Sequence", kind: parts}


def _template(vocab: Mapping[str, int]) -> _Json:
    """Returns the post-processor: [CLS] a [SEP], or [CLS] a [SEP] b [SEP]."""

    def special(token: str, segment: int) -> _Json:
        return {"SpecialToken": {"id": token, "type_id": segment}}

    def text(name: str, segment: int) -> _Json:
        return {"Sequence": {"id": name, "type_id": segment}}

    single = [special(_FIRST, 0), text("A", 0), special(_SEPARATOR, 0)]
    return {
        "type": "TemplateProcessing",
        "single": single,
        "pair": single + [text("B", 1), special(_SEPARATOR, 1)],
        "special_tokens": {
            token: {"id": token, "ids": [vocab[token]], "tokens": [token]}
            for token in (_FIRST, _SEPARATOR)
        },
    }


# --- Characters ---


def _normalizers(basic: tokenization.BasicTokenizer) -> list[_Json]:
    """Returns what changes characters, in BERT's order."""
    parts = [_replace(_character_class(_fates()["dropped"]), "")]
    if basic.do_lower_case:
        parts += [
            _replace(_final_sigma(), "\u03c2"),
            {"type": "Lowercase"},
            {"type": "NFD"},
            _replace(_character_class(_fates()["accent"]), ""),
        ]
    return parts


def _splits() -> list[_Json]:
    """Returns what cuts a text into words: at white space, which goes, CJK and punctuation."""
    parts = [("space", "+", "Removed"), ("alone", "", "Isolated")]
    return [
        {
            "type": "Split",
            "pattern": {"Regex": _character_class(_fates()[fate]) + repeat},
            "behavior": behavior,
            "invert": False,
        }
        for fate, repeat, behavior in parts
    ]


def _replace(pattern: str, content: str) -> _Json:
    return {"type": "Replace", "pattern": {"Regex": pattern}, "content": content}


@functools.lru_cache(maxsize=None)
def _characters() -> list[str]:
    """Returns the characters of Unicode, a list of str.

    BERT leaves the others, unassigned and private, as they are; no text in UTF-8 has surrogates.
    """
    every = map(chr, range(sys.maxunicode + 1))
    return [char for char in every if unicodedata.category(char) not in ("Cn", "Co", "Cs")]


@functools.lru_cache(maxsize=None)
def _fates() -> dict[str, list[str]]:
    """Returns what BERT's BasicTokenizer does with characters.

    Returns:
      dict from "dropped", "space", "alone" (a word by itself) and "accent" (dropped where the
      case is lowered) to the characters, a list of str. All others are left in their word.
    """
    fates: dict[str, list[str]] = {"dropped": [], "space": [], "alone": [], "accent": []}
    cased, lowered = tokenization.BasicTokenizer(False), tokenization.BasicTokenizer(True)
    for char in _characters():
        text = "x%sx" % char
        words = cased.tokenize(text)
        if words == ["xx"]:
            fates["dropped"].append(char)
        elif words == ["x", "x"]:
            fates["space"].append(char)
        elif words == ["x", char, "x"]:
            fates["alone"].append(char)
        elif lowered.tokenize(text) == ["xx"]:
            fates["accent"].append(char)
    return fates


def _final_sigma() -> str:
    """Returns a pattern of the capital sigmas that Python lowers as a word's last letter.

    That is a sigma after a cased letter and before none, where what `str.lower` ignores, such as
    a full stop, may be between them.
    """
    is_cased = [char for char in _characters() if (char + _SIGMA).lower().endswith("\u03c2")]
    is_ignored = [
        char
        for char in set(_characters()).difference(is_cased)
        if ("A%s%s" % (char, _SIGMA)).lower().endswith("\u03c2")
    ]
    cased, ignored = _character_class(is_cased), _character_class(sorted(is_ignored))
    return r"%s%s*\K%s(?!%s*%s)" % (cased, ignored, _SIGMA, ignored, cased)


def _character_class(characters: Iterable[str]) -> str:
    """Returns a pattern, str, of one of `characters`, an ascending list of str."""
    ranges: list[list[int]] = []
    for code in map(ord, characters):
        if ranges and ranges[-1][1] == code - 1:
            ranges[-1][1] = code
        else:
            ranges.append([code, code])
    return "[%s]" % "".join(
        "\\x{%X}" % first if first == last else "\\x{%X}-\\x{%X}" % (first, last)
        for first, last in ranges
    )
