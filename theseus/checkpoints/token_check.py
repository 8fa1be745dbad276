"""Compares this program's tokens with those of a folder's own tokenizer (package `tokenizers`).

The comparison uses the user's own texts. It reveals settings of a tokenizer that this program does
not know; without it the program would silently train on wrong tokens.
"""

from __future__ import annotations

import importlib.util
import itertools
import json
import os
import unicodedata
from typing import Any, Iterable, Sequence

import tokenization
from theseus.checkpoints.tokenizer_files import BERTS_OWN, TokenizerFiles
from theseus.errors import UserError
from theseus.inputs.unknown_words import shown

NUM_TEXTS = 100
"""The largest number of texts that are compared."""

_SEARCHED = 2000  # The number of texts that they are chosen from.
_SHOWN_TEXT, _SHOWN_TOKENS = 60, 8


def choose_texts(texts: Iterable[str]) -> list[str]:
    """Returns up to `NUM_TEXTS` texts, first those with characters that are new so far."""
    found: list[str] = []
    others: list[str] = []
    seen: set[str] = set()
    for text in itertools.islice(texts, _SEARCHED):
        characters = set(text)
        (others if characters <= seen else found).append(text)
        seen |= characters
    return (found + others)[:NUM_TEXTS]


def check_other_tokens(
    files: TokenizerFiles, tokenizer: tokenization.FullTokenizer, texts: Sequence[str]
) -> str | None:
    """Compares a folder's own tokenizer with the program's.

    Args:
      files: the TokenizerFiles of a pretrained BERT.
      tokenizer: this program's tokenizer for the BERT.
      texts: the user's texts.

    Returns:
      Why nothing was compared, str; None if it was, or if the folder has no tokenizer files.

    Raises:
      UserError: the two tokenizers give different tokens for a text.
    """
    if not files.are_there:
        return None
    if importlib.util.find_spec("tokenizers") is None:
        return "the package tokenizers is not installed"
    there = _reference(files, tokenizer)
    if there is None:
        return "the package tokenizers cannot read its tokenizer.json"
    for text in map(_without_known_differences, texts):
        found = there.encode(text, add_special_tokens=False)
        tokens = tokenizer.tokenize(text)
        ids = tokenizer.convert_tokens_to_ids(tokens)
        if found.ids != ids:
            raise UserError(
                "%s: its own tokenizer gives other tokens than this program: %s; give a BERT "
                "that uses BertTokenizer, or remove %s if this program's tokens are right"
                % (files.folder, describe(text, tokens, ids, found.tokens, found.ids), files.names)
            )
    return None


def _reference(files: TokenizerFiles, tokenizer: tokenization.FullTokenizer) -> Any:
    """Returns the tokenizers.Tokenizer of a folder, with the user's own settings.

    It is None if this version of the package cannot read the file.
    """
    import tokenizers

    basic = tokenizer.basic_tokenizer
    settings: dict[str, Any] = dict(
        lowercase=basic.do_lower_case,
        strip_accents=basic.strip_accents,
        handle_chinese_chars=basic.tokenize_chinese_chars,
    )
    if files.holds_whole_tokenizer:
        held = files.held("tokenizer.json")
        if files.bert_normalizer:  # As transformers does by tokenizer_config.json.
            held = dict(held, normalizer=dict(files.bert_normalizer, **settings))
        try:
            there = tokenizers.Tokenizer.from_str(json.dumps(held))
        except Exception:  # The package raises a bare Exception.
            return None
    else:
        wordpieces = dict(tokenizer.wordpiece_tokenizer.vocab)
        there = tokenizers.Tokenizer(tokenizers.models.WordPiece(wordpieces, unk_token="[UNK]"))
        there.normalizer = tokenizers.normalizers.BertNormalizer(**settings)
        there.pre_tokenizer = tokenizers.pre_tokenizers.BertPreTokenizer()
        there.add_tokens(as_added_tokens(tokenizer))
    # Its default limit is 100 characters a word, longer ones are [UNK]; google-research/bert's 200.
    there.model.max_input_chars_per_word = tokenizer.wordpiece_tokenizer.max_input_chars_per_word
    there.no_truncation()
    there.no_padding()
    return there


def as_added_tokens(tokenizer: tokenization.FullTokenizer) -> list[Any]:
    """Returns the added tokens in the package's form, a list of tokenizers.AddedToken."""
    import tokenizers

    return [
        tokenizers.AddedToken(t.content, single_word=t.single_word, normalized=t.normalized)
        for t in tokenizer.added_tokens
    ]


def _without_known_differences(text: str) -> str:
    """Returns a text without the characters that BERT and `tokenizers` treat differently.

    These are BERT's own tokens, which this program reads as text; unassigned and private
    characters, which `tokenizers` drops; a sigma at the end of a word; and a block of rare Chinese
    characters.
    """
    for token in BERTS_OWN:
        text = text.replace(token, " ")
    return "".join(" " if _is_known_difference(char) else char for char in text)


def _is_known_difference(char: str) -> bool:
    if char.isascii():
        return False
    is_rare = "\U0002b820" <= char <= "\U0002b91f"
    return char == "\u03a3" or is_rare or unicodedata.category(char) in ("Cn", "Co", "Cs")


def describe(
    text: str,
    tokens: Sequence[str],
    ids: Sequence[int],
    tokens_there: Sequence[str],
    ids_there: Sequence[int],
) -> str:
    """Returns the part of a message about a text whose tokens differ; everything is shortened."""
    first = max(0, len(os.path.commonprefix([list(ids), list(ids_there)])) - 2)
    if list(tokens) == list(tokens_there):
        tokens = ["%s=%d" % pair for pair in zip(tokens, ids)]
        tokens_there = ["%s=%d" % pair for pair in zip(tokens_there, ids_there)]
    return '"%s" becomes %s there, but %s here' % (
        shown(text, _SHOWN_TEXT),
        _cut(tokens_there, first),
        _cut(tokens, first),
    )


def _cut(tokens: Sequence[str], first: int) -> str:
    """Returns a few tokens from index `first` on, as text."""
    end = first + _SHOWN_TOKENS
    some = ["..."] * (first > 0) + list(tokens[first:end]) + ["..."] * (end < len(tokens))
    return shown(" ".join(some), 30 * _SHOWN_TOKENS) or "nothing"
