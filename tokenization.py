"""BERT's tokenization: text -> words -> WordPiece tokens -> ids.

Source: google-research/bert, tokenization.py (Apache-2.0). The tokens are the same;
the way to them is not: each of BERT's passes over the characters is one
`str.translate`, with a table that remembers what became of a character.
"""

from __future__ import annotations

import collections
import functools
import io
import re
import unicodedata
from typing import Any, Callable, Dict, Iterable, Mapping, TypeVar

from theseus import records
from theseus.errors import UserError

_TOKENIZER = records.table(
    {"model": records.table({}, {"type": records.text()}, others=True)}, others=True
)
_VOCABULARY = records.mapping(records.whole(), records.text(r"[^\r\n]+", "a token on one line"))
_WORDPIECE = records.table(
    {"model": records.table({"vocab": _VOCABULARY}, others=True)}, others=True
)

_Item = TypeVar("_Item")
_Found = TypeVar("_Found")

# Source: google-research/bert, BasicTokenizer._is_chinese_char. Kana and Hangul are
# not in it: those languages put spaces between words.
_CJK_BLOCKS = (
    (0x4E00, 0x9FFF),
    (0x3400, 0x4DBF),
    (0x20000, 0x2A6DF),
    (0x2A700, 0x2B73F),
    (0x2B740, 0x2B81F),
    (0x2B820, 0x2CEAF),
    (0xF900, 0xFAFF),
    (0x2F800, 0x2FA1F),
)


def convert_to_unicode(text: str | bytes) -> str:
    """Returns `text` as str.

    Args:
      text: str, or bytes in UTF-8, whose invalid bytes are left out.

    Raises:
      ValueError: it is neither.
    """
    if isinstance(text, bytes):
        return text.decode("utf-8", "ignore")
    if not isinstance(text, str):
        raise ValueError("expected str or bytes, found %s" % type(text).__name__)
    return text


def printable_text(text: str | bytes) -> str:
    """Returns `text` as str, to be printed or logged; see `convert_to_unicode`."""
    return convert_to_unicode(text)


# Source: google-research/bert, tokenization.validate_case_matches_checkpoint.
_LOWER_CASED_MODELS = (
    "uncased_L-24_H-1024_A-16",
    "uncased_L-12_H-768_A-12",
    "multilingual_L-12_H-768_A-12",
    "chinese_L-12_H-768_A-12",
)
_CASED_MODELS = ("cased_L-12_H-768_A-12", "cased_L-24_H-1024_A-16", "multi_cased_L-12_H-768_A-12")


def validate_case_matches_checkpoint(do_lower_case: bool, init_checkpoint: str | None) -> None:
    """Checks `do_lower_case` against the name of a folder that Google gave out.

    Args:
      do_lower_case: bool.
      init_checkpoint: path such as chinese_L-12_H-768_A-12/bert_model.ckpt; None, or a folder
        of another name, is taken for right.

    Raises:
      ValueError: that model was pretrained the other way.
    """
    found = re.match("^.*?([A-Za-z0-9_-]+)/bert_model.ckpt", init_checkpoint or "")
    name = found.group(1) if found else None
    if name in (_CASED_MODELS if do_lower_case else _LOWER_CASED_MODELS):
        raise ValueError(
            "--do_lower_case=%s with %s, which is a %s model; give --do_lower_case=%s"
            % (
                do_lower_case,
                init_checkpoint,
                "cased" if do_lower_case else "lower-cased",
                not do_lower_case,
            )
        )


def read_vocab(vocab_file: str) -> str:
    """Reads a vocabulary as text: one token a line; its id is the line's number, from 0.

    Args:
      vocab_file: path of a vocab.txt, in UTF-8; or of a tokenizer.json, as Hugging Face
        saves a WordPiece tokenizer.

    Raises:
      UserError: the file cannot be read, is not UTF-8, or holds no WordPiece vocabulary.
    """
    try:
        with io.open(vocab_file, encoding="utf-8", newline="\n") as reader:
            text = reader.read()
        return _vocab_of_json(text) if vocab_file.endswith(".json") else text
    except (OSError, ValueError) as error:
        raise UserError("%s: cannot read the vocabulary: %s" % (vocab_file, error))


def _vocab_of_json(text: str) -> str:
    """Returns the vocabulary of a tokenizer.json in vocab.txt's form."""
    value = records.parse(text, _TOKENIZER)
    model = value["model"]
    kind = model.get("type", "WordPiece")  # The oldest do not say it.
    if kind != "WordPiece":
        raise ValueError("its model is %s; BERT's is WordPiece" % ascii(kind)[1:-1])
    records.check(value, _WORDPIECE)
    ids = model["vocab"]
    tokens = sorted(ids, key=ids.__getitem__)
    if [ids[token] for token in tokens] != list(range(len(tokens))):
        raise ValueError("its ids are not 0, 1, 2 ...")
    return "".join(token + "\n" for token in tokens)


def load_vocab(vocab_file: str) -> collections.OrderedDict[str, int]:
    """Reads a vocabulary; see `read_vocab`.

    Args:
      vocab_file: path, as for `read_vocab`.

    Returns:
      OrderedDict from token to id.

    Raises:
      UserError: see `read_vocab`.
    """
    tokens = [line.strip() for line in io.StringIO(read_vocab(vocab_file))]
    return collections.OrderedDict(
        (token, index) for index, token in enumerate(tokens[: count_tokens(tokens)])
    )


def count_tokens(lines: list[str]) -> int:
    """Returns how many of a vocabulary's stripped lines are left without blank ones at the end."""
    return max((number for number, token in enumerate(lines, 1) if token), default=0)


def convert_by_vocab(vocab: Mapping[_Item, _Found], items: Iterable[_Item]) -> list[_Found]:
    """Returns the list of vocab[item]; KeyError for an item that the mapping `vocab` lacks."""
    return [vocab[item] for item in items]


def convert_tokens_to_ids(vocab: Mapping[str, int], tokens: Iterable[str]) -> list[int]:
    """Returns a list of int, for a mapping from token to id; see `convert_by_vocab`."""
    return convert_by_vocab(vocab, tokens)


def convert_ids_to_tokens(inv_vocab: Mapping[int, str], ids: Iterable[int]) -> list[str]:
    """Returns a list of str, for a mapping from id to token; see `convert_by_vocab`."""
    return convert_by_vocab(inv_vocab, ids)


def whitespace_tokenize(text: str) -> list[str]:
    """Splits `text` at white space into a list of str."""
    return text.split()


class FullTokenizer(object):
    """Text to WordPiece tokens, and tokens to ids and back."""

    def __init__(self, vocab_file: str, do_lower_case: bool = True) -> None:
        """Reads the vocabulary.

        Args:
          vocab_file: path, as for `load_vocab`.
          do_lower_case: whether to lower the case and strip accents, as the uncased
            and the Chinese checkpoints want.
        """
        self.vocab = load_vocab(vocab_file)
        self.inv_vocab = {index: token for token, index in self.vocab.items()}
        self.basic_tokenizer = BasicTokenizer(do_lower_case=do_lower_case)
        self.wordpiece_tokenizer = WordpieceTokenizer(vocab=self.vocab)

    def tokenize(self, text: str | bytes) -> list[str]:
        """Returns the WordPiece tokens of `text` as a list of str."""
        pieces = self.wordpiece_tokenizer.pieces
        return [piece for word in self.basic_tokenizer.tokenize(text) for piece in pieces(word)]

    def convert_tokens_to_ids(self, tokens: Iterable[str]) -> list[int]:
        """Returns a list of int; KeyError for a token that the vocabulary lacks."""
        return convert_by_vocab(self.vocab, tokens)

    def convert_ids_to_tokens(self, ids: Iterable[int]) -> list[str]:
        """Returns a list of str; KeyError for an id that the vocabulary lacks."""
        return convert_by_vocab(self.inv_vocab, ids)


class BasicTokenizer(object):
    """Text to words: cleaned, lower-cased, split at white space, punctuation and CJK."""

    def __init__(self, do_lower_case: bool = True) -> None:
        self.do_lower_case = do_lower_case
        self._cleaned = _CharacterTable(_clean)
        self._split = _CharacterTable(_split_without_accents if do_lower_case else _split)

    def __reduce__(self) -> tuple[Any, ...]:
        """Returns what makes the same one in another process."""
        return BasicTokenizer, (self.do_lower_case,)

    def tokenize(self, text: str | bytes) -> list[str]:
        """Returns the words of `text` (str, or bytes in UTF-8) as a list of str."""
        text = convert_to_unicode(text).translate(self._cleaned)
        if self.do_lower_case:
            text = unicodedata.normalize("NFD", text.lower())
        return whitespace_tokenize(text.translate(self._split))


class WordpieceTokenizer(object):
    """Words to pieces, by greedy longest match from the left."""

    def __init__(
        self,
        vocab: Mapping[str, int],
        unk_token: str = "[UNK]",
        max_input_chars_per_word: int = 200,
    ) -> None:
        self.vocab = vocab
        self.unk_token = unk_token
        self.max_input_chars_per_word = max_input_chars_per_word
        self.pieces = functools.lru_cache(maxsize=1 << 16)(self._pieces)

    def __reduce__(self) -> tuple[Any, ...]:
        """Returns what makes the same one in another process."""
        return WordpieceTokenizer, (self.vocab, self.unk_token, self.max_input_chars_per_word)

    def tokenize(self, text: str | bytes) -> list[str]:
        """Returns the pieces of every word in `text`, words separated by white space.

        For example "unaffable" gives ["un", "##aff", "##able"]. A word that cannot be
        covered by the vocabulary, or is too long, gives `unk_token`.
        """
        words = whitespace_tokenize(convert_to_unicode(text))
        return [piece for word in words for piece in self.pieces(word)]

    def _pieces(self, word: str) -> tuple[str, ...]:
        if len(word) > self.max_input_chars_per_word:
            return (self.unk_token,)
        pieces = []
        start = 0
        while start < len(word):
            piece, start = self._longest_match(word, start)
            if piece is None:
                return (self.unk_token,)
            pieces.append(piece)
        return tuple(pieces)

    def _longest_match(self, word: str, start: int) -> tuple[str | None, int]:
        prefix = "##" if start else ""
        for end in range(len(word), start, -1):
            piece = prefix + word[start:end]
            if piece in self.vocab:
                return piece, end
        return None, start


class _CharacterTable(Dict[int, str]):
    """A table for `str.translate` that asks `replace` once for each new character."""

    def __init__(self, replace: Callable[[str], str]) -> None:
        super(_CharacterTable, self).__init__()
        self._replace = replace

    def __missing__(self, codepoint: int) -> str:
        self[codepoint] = replacement = self._replace(chr(codepoint))
        return replacement


def _clean(char: str) -> str:
    """Drops control characters, makes white space a space, sets CJK apart."""
    if _is_whitespace(char):
        return " "
    if char in "\0\ufffd" or _is_control(char):
        return ""
    return " %s " % char if _is_cjk(ord(char)) else char


def _split(char: str) -> str:
    """Sets punctuation apart."""
    return " %s " % char if _is_punctuation(char) else char


def _split_without_accents(char: str) -> str:
    """Sets punctuation apart and drops combining marks."""
    return "" if unicodedata.category(char) == "Mn" else _split(char)


def _is_whitespace(char: str) -> bool:
    return char in " \t\n\r" or unicodedata.category(char) == "Zs"


def _is_control(char: str) -> bool:
    # Tab and line ends are white space here.
    return char not in "\t\n\r" and unicodedata.category(char) in ("Cc", "Cf")


def _is_cjk(codepoint: int) -> bool:
    return any(first <= codepoint <= last for first, last in _CJK_BLOCKS)


def _is_punctuation(char: str) -> bool:
    # All of ASCII that is not a letter, digit, space or control counts, "$" and "^" too.
    if char.isascii():
        return char.isprintable() and not char.isalnum() and char != " "
    return unicodedata.category(char).startswith("P")
