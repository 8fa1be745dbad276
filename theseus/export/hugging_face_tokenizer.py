"""Writes this program's tokenizer for transformers: tokenizer.json and tokenizer_config.json.

They consist of generic parts that list the characters, sorted by this program's own functions.
The ready-made parts for BERT would give other tokens: they drop private and unassigned characters,
limit a word to 100 characters, and lower a final sigma differently.
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
_Ids = Tuple[List[int], List[int]]  # The ids and the segment ids of a pair's tokens.
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
    """Returns the content of tokenizer.json, a dict.

    BERT's own tokens are not among its added tokens, so that [SEP] in a text is plain text, as in
    this program.
    """
    import tokenizers
    from tokenizers import decoders, models, normalizers, pre_tokenizers, processors

    wordpiece, vocab = tokenizer.wordpiece_tokenizer, dict(tokenizer.wordpiece_tokenizer.vocab)
    new = [token.id for token in tokenizer.added_tokens if token.content not in vocab]
    if new != list(range(len(vocab), len(vocab) + len(new))):
        # In tokenizer.json a new token gets the next free id. Another id has to be in WordPiece's
        # vocabulary.
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
    # If they were special they would count as plain text; see split_special_tokens below.
    there.add_tokens(token_check.as_added_tokens(tokenizer))
    held: _Json = json.loads(there.to_str())
    return held


def tokenizer_config(tokenizer: tokenization.FullTokenizer, max_seq_length: int) -> _Json:
    """Returns the content of tokenizer_config.json, a dict; see `tokenizer_json`."""
    config: _Json = {name: token for name, token in _SPECIAL.items() if token in tokenizer.vocab}
    config.update(
        _settings(tokenizer.basic_tokenizer),
        # If the class were BERT's, transformers would use its own parts instead.
        tokenizer_class="PreTrainedTokenizerFast",
        model_max_length=max_seq_length,
        model_input_names=["input_ids", "token_type_ids", "attention_mask"],
        clean_up_tokenization_spaces=False,
    )
    return config


def bert_config(settings: TokenizerSettings) -> _Json:
    """Returns the tokenizer_config.json that belongs to a vocab.txt, for BertTokenizer, a dict."""
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
        # transformers adds BERT's own tokens; this keeps them from being found in texts.
        split_special_tokens=True,
    )


# --- The check ---

# Texts on which tokenizers are known to disagree; each is also tried before and after another text.
HARD_TEXTS = (
    "[CLS] [SEP] [UNK] [MASK] [PAD] [unused1]",
    "a[SEP]b [sep] ##ing",
    # Sigmas, final and not final.
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
    """Compares the tokens of an export with this program's, for `pairs` and for `HARD_TEXTS`.

    Args:
      path: a folder with tokenizer.json and, if transformers is installed, config.json.
      tokenizer: this program's tokenizer.
      pairs: pairs of the user's texts, or of a text and None.
      max_seq_length: see encoding.encode_texts.

    Returns:
      (number of compared pairs, the members of `pairs` that are truncated differently).

    Raises:
      UserError: a text has other tokens, or is truncated in a way that transformers does not.
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
    """Returns whether the export truncates a pair differently, a bool; see `check_tokens`.

    If both texts lose tokens and an odd number of tokens fits, `tokenizers` keeps one token more of
    the longer text; BERT always keeps one more of the first.

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
    """Returns the parts that change characters, in BERT's order."""
    from tokenizers import Regex, normalizers

    basic = tokenizer.basic_tokenizer
    parts: list[Any] = [normalizers.Replace(Regex(_character_class(_fates()["dropped"])), "")]
    if basic.tokenize_chinese_chars and any(token.single_word for token in tokenizer.added_tokens):
        # Put spaces around Chinese characters: next to an added token they are separate words.
        nothing_else = dict(clean_text=False, strip_accents=False, lowercase=False)
        parts.append(normalizers.BertNormalizer(handle_chinese_chars=True, **nothing_else))
    if basic.do_lower_case:
        parts += [normalizers.Replace(Regex(_final_sigma()), "\u03c2"), normalizers.Lowercase()]
    if basic.strips:
        accents = Regex(_character_class(_fates()["accent"]))
        parts += [normalizers.NFD(), normalizers.Replace(accents, "")]
    return parts


def _splits(basic: tokenization.BasicTokenizer) -> list[Any]:
    """Returns the parts that split a text into words: at white space, punctuation and CJK."""
    from tokenizers import Regex, pre_tokenizers

    alone = _fates()["punctuation"] + _fates()["chinese"] * basic.tokenize_chinese_chars
    return [
        pre_tokenizers.Split(Regex(_character_class(_fates()["space"]) + "+"), "removed"),
        pre_tokenizers.Split(Regex(_character_class(sorted(alone))), "isolated"),
    ]


@functools.lru_cache(maxsize=None)
def _characters() -> list[str]:
    """Returns the assigned characters of Unicode, a list of str.

    BERT does not change unassigned and private characters; a text in UTF-8 has no surrogates.
    """
    every = map(chr, range(sys.maxunicode + 1))
    return [char for char in every if unicodedata.category(char) not in ("Cn", "Co", "Cs")]


@functools.lru_cache(maxsize=None)
def _fates() -> dict[str, list[str]]:
    """Returns how BERT's BasicTokenizer treats each character.

    Returns:
      dict from "dropped", "space", "punctuation" and "chinese" (each a word of its own), and
      "accent" (dropped if accents are stripped) to the characters, a list of str. All other
      characters stay in their word.
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
    """Returns a pattern for the capital sigmas that Python lowers to the final form.

    These follow a cased letter and precede none. Characters that `str.lower` ignores, such as a
    full stop, may stand between.
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
    r"""Returns a pattern, str, that matches one of `characters`, an ascending list of str.

    Oniguruma (in `tokenizers`) and JavaScript (in transformers.js) both read it. Both accept
    \\uFFFF and the plain character; neither accepts the other's escape for a larger number.
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
