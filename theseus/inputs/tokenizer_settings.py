"""How a BERT's texts are cut into tokens, beside its vocabulary: the settings of its tokenizer."""

from __future__ import annotations

import dataclasses
from typing import Any, Mapping

from theseus import records
from tokenization import AddedToken, FullTokenizer

_ADDED_TOKEN = records.table(
    {
        "content": records.text(),
        "id": records.whole(),
        "single_word": records.boolean,
        "normalized": records.boolean,
    }
)
RECORD = records.nullable(
    records.table(
        {
            "strip_accents": records.nullable(records.boolean),
            "tokenize_chinese_chars": records.boolean,
            "added_tokens": records.listed(_ADDED_TOKEN),
        }
    )
)
"""The Kind of what TokenizerSettings.to_record returns."""


@dataclasses.dataclass(frozen=True)
class TokenizerSettings(object):
    """What a tokenization.FullTokenizer takes beside its vocabulary; see there."""

    do_lower_case: bool = True
    strip_accents: bool | None = None
    tokenize_chinese_chars: bool = True
    added_tokens: tuple[AddedToken, ...] = ()

    def make(self, vocab_file: str) -> FullTokenizer:
        """Returns the FullTokenizer of the vocabulary at a path."""
        return FullTokenizer(
            vocab_file,
            self.do_lower_case,
            self.strip_accents,
            self.tokenize_chinese_chars,
            self.added_tokens,
        )

    def to_record(self) -> dict[str, Any] | None:
        """Returns what is recorded beside do_lower_case, as JSON; None where it is BERT's own."""
        if self == TokenizerSettings(self.do_lower_case):
            return None
        return {
            "strip_accents": self.strip_accents,
            "tokenize_chinese_chars": self.tokenize_chinese_chars,
            "added_tokens": [dict(token._asdict()) for token in self.added_tokens],
        }


def recorded(record: Mapping[str, Any]) -> TokenizerSettings:
    """Returns the settings that a run config or an export.json holds.

    Args:
      record: with "do_lower_case", and where they are not BERT's own, "tokenizer", of `RECORD`.
    """
    others = dict(record.get("tokenizer") or {})
    added = tuple(AddedToken(**token) for token in others.pop("added_tokens", ()))
    return TokenizerSettings(record["do_lower_case"], added_tokens=added, **others)
