"""The settings of a BERT's tokenizer: how, beside its vocabulary, it cuts texts into tokens."""

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
"""The Kind of the result of TokenizerSettings.to_record."""


@dataclasses.dataclass(frozen=True)
class TokenizerSettings(object):
    """The arguments of a tokenization.FullTokenizer except its vocabulary; see there."""

    do_lower_case: bool = True
    strip_accents: bool | None = None
    tokenize_chinese_chars: bool = True
    added_tokens: tuple[AddedToken, ...] = ()

    def make(self, vocab_file: str) -> FullTokenizer:
        """Returns a FullTokenizer with these settings and the vocabulary at a path."""
        return FullTokenizer(
            vocab_file,
            self.do_lower_case,
            self.strip_accents,
            self.tokenize_chinese_chars,
            self.added_tokens,
        )

    def to_record(self) -> dict[str, Any] | None:
        """Returns the settings except do_lower_case as JSON; None if they are BERT's defaults."""
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
      record: has "do_lower_case"; also "tokenizer" (`RECORD`) if that is not BERT's default.
    """
    others = dict(record.get("tokenizer") or {})
    added = tuple(AddedToken(**token) for token in others.pop("added_tokens", ()))
    return TokenizerSettings(record["do_lower_case"], added_tokens=added, **others)
