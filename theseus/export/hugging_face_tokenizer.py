"""The program's tokenizer as transformers reads it: tokenizer.json and tokenizer_config.json.

Its parts are generic ones with the characters written out, as this program's own functions sort
them: BERT's ready-made parts there have other lists (private and unassigned characters are
dropped, a word has 100 characters at most) and another lower case of a final sigma.
"""

from __future__ import annotations

import functools
import importlib.util
import itertools
import json
import os
import sys
import unicodedata
from typing import Any, Callable, Dict, Iterable, Iterator, List, Optional, Sequence, Tuple

import tokenization
from theseus.checkpoints import token_check
from theseus.errors import UserError
from theseus.inputs import encoding
from theseus.inputs.tokenizer_settings import TokenizerSettings

_Json = Dict[str, Any]
_Pair = Tuple[str, Optional[str]]
_Ids = Tuple[List[int], List[int]]  # A pair's tokens, and their segments.
_Encode = Callable[[Sequence[_Pair]], List[_Ids]]

_SIGMA = "\u03a3"
_SPECIAL = {
    "unk_token": "[UNK]",
    "sep_token": "[SEP]",
    "pad_token": "[PAD]",
    "cls_token": "[CLS]",
    "mask_token": "[MASK]",
}


def tokenizer_json(tokenizer: tokenization.FullTokenizer) -> _Json:
    """Returns what tokenizer.json holds, a dict.

    BERT's own tokens are none of its added tokens: what reads [SEP] in a text is text, as it is in
    this program.
    """
    import tokenizers
    from tokenizers import decoders, models, normalizers, pre_tokenizers, processors

    wordpiece, vocab = tokenizer.wordpiece_tokenizer, dict(tokenizer.wordpiece_tokenizer.vocab)
    new = [token.id for token in tokenizer.added_tokens if token.content not in vocab]
    if new != list(range(len(vocab), len(vocab) + len(new))):
        # There a new token takes the next id. Any other it has from WordPiece's vocabulary alone.
        vocab = dict(tokenizer.vocab)
    longest = wordpiece.max_input_chars_per_word
    there = tokenizers.Tokenizer(
        models.WordPiece(vocab, unk_token=wordpiece.unk_token, max_input_chars_per_word=longest)
    )
    there.normalizer = normalizers.Sequence(_normalizers(tokenizer))
    there.pre_tokenizer = pre_tokenizers.Sequence(_splits(tokenizer.basic_tokenizer))
    there.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]",
        pair="[CLS] $A [SEP] $B:1 [SEP]:1",
        special_tokens=[(token, tokenizer.vocab[token]) for token in ("[CLS]", "[SEP]")],
    )
    there.decoder = decoders.WordPiece(cleanup=False)
    # Special ones would be text in a text, as BERT's own are; see split_special_tokens below.
    there.add_tokens(token_check.as_added_tokens(tokenizer))
    held: _Json = json.loads(there.to_str())
    return held


def tokenizer_config(tokenizer: tokenization.FullTokenizer, max_seq_length: int) -> _Json:
    """Returns what tokenizer_config.json holds, a dict; see `tokenizer_json`."""
    config: _Json = {name: token for name, token in _SPECIAL.items() if token in tokenizer.vocab}
    config.update(
        _settings(tokenizer.basic_tokenizer),
        # By a class of BERT's name transformers would make a tokenizer of its own parts.
        tokenizer_class="PreTrainedTokenizerFast",
        model_max_length=max_seq_length,
        model_input_names=["input_ids", "token_type_ids", "attention_mask"],
        clean_up_tokenization_spaces=False,
    )
    return config


def bert_config(settings: TokenizerSettings) -> _Json:
    """Returns what tokenizer_config.json holds beside a vocab.txt, for BertTokenizer, a dict."""
    config = dict(_settings(settings), tokenizer_class="BertTokenizer", added_tokens_decoder={})
    for token in settings.added_tokens:
        flags: _Json = dict(token._asdict(), special=False, lstrip=False, rstrip=False)
        config["added_tokens_decoder"][str(flags.pop("id"))] = flags
    return config


def _settings(settings: TokenizerSettings | tokenization.BasicTokenizer) -> _Json:
    return dict(
        do_lower_case=settings.do_lower_case,
        strip_accents=settings.strip_accents,
        tokenize_chinese_chars=settings.tokenize_chinese_chars,
        # transformers makes added tokens of BERT's own ones; this keeps them out of texts.
        split_special_tokens=True,
    )


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
) -> tuple[int, list[_Pair]]:
    """Compares the tokens of an export with the program's, on `pairs` and on `HARD_TEXTS`.

    Args:
      path: a folder with tokenizer.json, and where transformers is installed, config.json.
      tokenizer: the program's.
      pairs: of the user's texts, or of a text and None.
      max_seq_length: see encoding.encode_texts.

    Returns:
      (number of pairs, those of `pairs` that are cut at another place): an int, and a list.

    Raises:
      UserError: a text has other tokens, or is cut otherwise than transformers cuts.
    """
    hard = [text for short in HARD_TEXTS for text in (short, "a " + short + short, short + " b")]
    is_single = bool(pairs) and pairs[0][1] is None
    others = itertools.repeat(None) if is_single else reversed(hard)
    every = [*pairs, *zip(hard, others)]  # The user's first: an error shows the first.
    cut_otherwise: list[bool] = []
    for encode in _encoders(path, max_seq_length):
        cut_otherwise = [
            _is_cut_otherwise(tokenizer, pair, ids, max_seq_length)
            for pair, ids in zip(every, encode(every))
        ]
    return len(every), list(itertools.compress(pairs, cut_otherwise))


def _is_cut_otherwise(
    tokenizer: tokenization.FullTokenizer, pair: _Pair, there: _Ids, max_seq_length: int
) -> bool:
    """Returns whether a pair is cut at another place, a bool; see `check_tokens`.

    Where both texts lose tokens and the room is odd, the longer text has there one token more than
    the other; in BERT that is always the first one.

    Source: huggingface/tokenizers, tokenizers/src/utils/truncation.rs, LongestFirst.
    """
    tokens_a = tokenizer.tokenize(pair[0])
    tokens_b = None if pair[1] is None else tokenizer.tokenize(pair[1])
    tokens, length_a = encoding.encode_texts(tokens_a, tokens_b, max_seq_length)
    ids = tokenizer.convert_tokens_to_ids(tokens)
    if there == _with_segments(ids, length_a):
        return False
    room = max_seq_length - 3
    if tokens_b is not None and room // 2 < len(tokens_a) <= len(tokens_b):
        cut = tokens_a[: room // 2], tokens_b[: room - room // 2]
        other, length_a = encoding.encode_texts(*cut, max_seq_length)
        if there == _with_segments(tokenizer.convert_tokens_to_ids(other), length_a):
            return True
    tokens_there = [tokenizer.inv_vocab.get(index, "%d?" % index) for index in there[0]]
    text = " / ".join(text for text in pair if text is not None)
    raise UserError(
        "huggingface: its tokenizer gives other tokens than this program: %s; it was not exported"
        % token_check.describe(text, tokens, ids, tokens_there, there[0])
    )


def _with_segments(ids: list[int], length_a: int) -> _Ids:
    return ids, [0] * length_a + [1] * (len(ids) - length_a)


def _encoders(path: str, max_seq_length: int) -> Iterator[_Encode]:
    """Yields functions from pairs to a list of (ids, segment ids), one for each package."""
    if importlib.util.find_spec("transformers"):
        import transformers

        of_transformers = transformers.AutoTokenizer.from_pretrained(path)

        def encode(pairs: Sequence[_Pair]) -> list[_Ids]:
            texts = [list(side) for side in zip(*pairs) if side[0] is not None]
            encoded = of_transformers(*texts, truncation=True, max_length=max_seq_length)
            return list(zip(encoded["input_ids"], encoded["token_type_ids"]))

        yield encode
    import tokenizers

    there = tokenizers.Tokenizer.from_file(os.path.join(path, "tokenizer.json"))
    there.enable_truncation(max_seq_length)

    def encode_alone(pairs: Sequence[_Pair]) -> list[_Ids]:
        inputs = [a if b is None else (a, b) for a, b in pairs]
        return [(encoded.ids, encoded.type_ids) for encoded in there.encode_batch(inputs)]

    yield encode_alone


# --- Characters ---


def _normalizers(tokenizer: tokenization.FullTokenizer) -> list[Any]:
    """Returns what changes characters, in BERT's order."""
    from tokenizers import Regex, normalizers

    basic = tokenizer.basic_tokenizer
    parts: list[Any] = [normalizers.Replace(Regex(_character_class(_fates()["dropped"])), "")]
    if basic.tokenize_chinese_chars and any(token.single_word for token in tokenizer.added_tokens):
        # Spaces around Chinese characters: one beside an added token is no part of its word.
        nothing_else = dict(clean_text=False, strip_accents=False, lowercase=False)
        parts.append(normalizers.BertNormalizer(handle_chinese_chars=True, **nothing_else))
    if basic.do_lower_case:
        parts += [normalizers.Replace(Regex(_final_sigma()), "\u03c2"), normalizers.Lowercase()]
    if basic.strips:
        accents = Regex(_character_class(_fates()["accent"]))
        parts += [normalizers.NFD(), normalizers.Replace(accents, "")]
    return parts


def _splits(basic: tokenization.BasicTokenizer) -> list[Any]:
    """Returns what cuts a text into words: at white space, which goes, punctuation and CJK."""
    from tokenizers import Regex, pre_tokenizers

    alone = _fates()["punctuation"] + _fates()["chinese"] * basic.tokenize_chinese_chars
    return [
        pre_tokenizers.Split(Regex(_character_class(_fates()["space"]) + "+"), "removed"),
        pre_tokenizers.Split(Regex(_character_class(sorted(alone))), "isolated"),
    ]


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
      dict from "dropped", "space", "punctuation" and "chinese" (each a word by itself), and
      "accent" (dropped where accents are stripped) to the characters, a list of str. All others
      are left in their word.
    """
    kinds = ("dropped", "space", "punctuation", "chinese", "accent")
    fates: dict[str, list[str]] = {kind: [] for kind in kinds}
    cased, lowered = tokenization.BasicTokenizer(False), tokenization.BasicTokenizer(True)
    alone = tokenization.BasicTokenizer(False, tokenize_chinese_chars=False)
    for char in _characters():
        text = "x%sx" % char
        words = cased.tokenize(text)
        if words == ["xx"]:
            fates["dropped"].append(char)
        elif words == ["x", "x"]:
            fates["space"].append(char)
        elif words == ["x", char, "x"]:
            fates["punctuation" if alone.tokenize(text) == words else "chinese"].append(char)
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
    return "(?<=%s%s*)%s(?!%s*%s)" % (cased, ignored, _SIGMA, ignored, cased)


def _character_class(characters: Iterable[str]) -> str:
    r"""Returns a pattern, str, of one of `characters`, an ascending list of str.

    It is read by Oniguruma, in `tokenizers`, and by JavaScript, in transformers.js. Both know
    \\uFFFF and a character as it is; neither knows the other's form of a longer number.
    """
    ranges: list[list[int]] = []
    for code in map(ord, characters):
        if ranges and ranges[-1][1] == code - 1:
            ranges[-1][1] = code
        else:
            ranges.append([code, code])
    return "[%s]" % "".join(
        _in_pattern(first) if first == last else "%s-%s" % (_in_pattern(first), _in_pattern(last))
        for first, last in ranges
    )


def _in_pattern(code: int) -> str:
    return "\\u%04X" % code if code < 0x10000 else chr(code)
