"""BERT's tokenization: text -> words -> WordPiece tokens -> ids.

Source: google-research/bert, tokenization.py (Apache-2.0). The tokens are the same, but the code
is faster: each of BERT's passes over the characters is one `str.translate`, whose table
remembers the result for each character.
"""

from __future__ import annotations

import collections
import copy
import functools
import io
import re
import unicodedata
from typing import Any, Callable, Dict, Iterable, Iterator, Mapping, NamedTuple, Sequence, TypeVar

from theseus import records
from theseus.errors import UserError

_TOKENIZER = records.table(
    {"model": records.table({}, {"type": records.text()}, others=True)}, others=True
)
_LARGEST_ID = (1 << 22) - 1  # A vocabulary has a line for each id up to its largest.
_VOCABULARY = records.mapping(records.whole(0, _LARGEST_ID), records.text(".*", "a token"))
_WORDPIECE = records.table(
    {"model": records.table({"vocab": _VOCABULARY}, others=True)}, others=True
)

_Item = TypeVar("_Item")
_Found = TypeVar("_Found")

# Source: google-research/bert, BasicTokenizer._is_chinese_char. Kana and Hangul are left out:
# according to the source, they are used to write words with spaces between them.
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
      init_checkpoint: path such as chinese_L-12_H-768_A-12/bert_model.ckpt; None and folders of
        other names are accepted.

    Raises:
      ValueError: that model was pretrained with the other case.
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
    kind = model.get("type", "WordPiece")  # The oldest files lack it.
    if kind != "WordPiece":
        raise ValueError("its model is %s; BERT's is WordPiece" % ascii(kind)[1:-1])
    _WORDPIECE(value, "")
    lines = [""] * (max(model["vocab"].values(), default=-1) + 1)
    for token, index in model["vocab"].items():
        line = _line(token)
        if line and lines[index]:
            both = ascii(lines[index]), ascii(line), index
            raise ValueError("its tokens %s and %s have the same id, %d" % both)
        lines[index] = line or lines[index]
    return "".join(line + "\n" for line in lines)


def _line(token: str) -> str:
    """Returns a token's line in vocab.txt; a blank line for a token that vocab.txt cannot hold.

    Such a token contains white space: its line would become two lines, or be stripped to another
    token. It never occurs in a text, since words contain no white space.
    """
    is_kept = token.strip() in (token, "", "##") and not re.search("[\r\n]", token)
    return token if is_kept else ""


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
    """Returns the number of a vocabulary's stripped lines, without blank ones at the end."""
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


class AddedToken(NamedTuple):
    """A token in addition to WordPiece's that is never split, as transformers' `add_tokens` makes.

    transformers' lstrip and rstrip have no effect here: BERT drops white space anyway.

    Attributes:
      content: str, the text of the token.
      id: int.
      single_word: bool, whether it is found only as a whole word, not within one.
      normalized: bool, whether it is searched in the cleaned and lower-cased text, in its own
        cleaned and lower-cased form; otherwise in the original text.
    """

    content: str
    id: int
    single_word: bool = False
    normalized: bool = True


class FullTokenizer(object):
    """Text to WordPiece tokens, and tokens to ids and back."""

    def __init__(
        self,
        vocab_file: str,
        do_lower_case: bool = True,
        strip_accents: bool | None = None,
        tokenize_chinese_chars: bool = True,
        added_tokens: Sequence[AddedToken] = (),
    ) -> None:
        """Reads the vocabulary.

        Args:
          vocab_file: path, as for `load_vocab`.
          do_lower_case: whether to lower the case and strip accents, as the uncased
            and the Chinese checkpoints expect.
          strip_accents, tokenize_chinese_chars: see BasicTokenizer.
          added_tokens: list of AddedToken.
        """
        wordpieces = load_vocab(vocab_file)
        self.added_tokens = tuple(added_tokens)
        self.vocab = wordpieces
        if added_tokens:
            added = [(token.content, token.id) for token in added_tokens]
            self.vocab = collections.OrderedDict([*wordpieces.items(), *added])
        self.inv_vocab = {index: token for token, index in self.vocab.items()}
        self.wordpiece_tokenizer = WordpieceTokenizer(vocab=wordpieces)
        self._use(BasicTokenizer(do_lower_case, strip_accents, tokenize_chinese_chars))

    def _use(self, basic: BasicTokenizer) -> None:
        self.basic_tokenizer = basic
        as_they_are = {token.content: token for token in self.added_tokens if not token.normalized}
        self._as_they_are = _AddedTokens(as_they_are)
        normalized = [token for token in self.added_tokens if token.normalized]
        self._normalized = _AddedTokens({basic.normalize(t.content): t for t in normalized})

    def in_other_case(self) -> FullTokenizer:
        """Returns the same tokenizer with the other value of do_lower_case."""
        basic, other = self.basic_tokenizer, copy.copy(self)
        other._use(
            BasicTokenizer(
                not basic.do_lower_case, basic.strip_accents, basic.tokenize_chinese_chars
            )
        )
        return other

    def tokenize(self, text: str | bytes) -> list[str]:
        """Returns the tokens of `text`, WordPiece's and added ones, as a list of str."""
        pieces = self.wordpiece_tokenizer.pieces
        if not self.added_tokens:
            return [piece for word in self.basic_tokenizer.tokenize(text) for piece in pieces(word)]
        tokens: list[str] = []
        for word, is_added in self.words(text):
            tokens.extend((word,) if is_added else pieces(word))
        return tokens

    def words(self, text: str | bytes) -> Iterator[tuple[str, bool]]:
        """Yields the words of `text`, str, and whether each is an added token, a bool.

        Source: huggingface/tokenizers, tokenizers/src/tokenizer/added_vocabulary.rs,
        extract_and_normalize.
        """
        basic = self.basic_tokenizer
        for part, token in self._as_they_are.cut(convert_to_unicode(text)):
            if token:
                yield token.content, True
                continue
            for inner, token in self._normalized.cut(basic.normalize(part)):
                if token:
                    yield token.content, True
                else:
                    yield from ((word, False) for word in basic.split(inner))

    def convert_tokens_to_ids(self, tokens: Iterable[str]) -> list[int]:
        """Returns a list of int; KeyError for a token that the vocabulary lacks."""
        return convert_by_vocab(self.vocab, tokens)

    def convert_ids_to_tokens(self, ids: Iterable[int]) -> list[str]:
        """Returns a list of str; KeyError for an id that the vocabulary lacks."""
        return convert_by_vocab(self.inv_vocab, ids)


class _AddedTokens(object):
    """Finds added tokens in a text: the first, and if several begin there, the longest."""

    def __init__(self, tokens: Mapping[str, AddedToken]) -> None:
        """Takes a dict from the text to search for to its AddedToken."""
        self._tokens = {text: token for text, token in tokens.items() if text}
        longest_first = sorted(self._tokens, key=len, reverse=True)
        self._pattern = re.compile("|".join(map(re.escape, longest_first)))

    def cut(self, text: str) -> Iterator[tuple[str, AddedToken | None]]:
        """Yields the parts of `text`, str, in their order, each with its AddedToken or None."""
        start = 0
        for match in self._pattern.finditer(text) if self._tokens else ():
            token = self._tokens[match.group()]
            first, end = match.span()
            beside = (first and text[first - 1]) or "", text[end : end + 1]
            if token.single_word and any(map(_is_in_word, beside)):
                continue
            yield text[start:first], None
            yield match.group(), token
            start = end
        yield text[start:], None


def _is_in_word(char: str) -> bool:
    r"""Returns whether a character, or "", is matched by \w in `tokenizers`.

    Unlike Python's \w, it matches marks, and does not match numbers such as \u00b2.
    """
    category = unicodedata.category(char) if char else "Zs"
    return category[0] in "LM" or category in ("Nd", "Nl", "Pc")


class BasicTokenizer(object):
    """Text to words: cleaned, lower-cased, split at white space, punctuation and CJK."""

    def __init__(
        self,
        do_lower_case: bool = True,
        strip_accents: bool | None = None,
        tokenize_chinese_chars: bool = True,
    ) -> None:
        """Keeps the settings.

        Args:
          do_lower_case: whether the case is lowered.
          strip_accents: whether accents are stripped; None: the same as do_lower_case.
          tokenize_chinese_chars: whether each CJK character is a word of its own.
        """
        self.do_lower_case = do_lower_case
        self.strip_accents = strip_accents
        self.strips = do_lower_case if strip_accents is None else strip_accents
        self.tokenize_chinese_chars = tokenize_chinese_chars
        self._cleaned = _CharacterTable(_clean if tokenize_chinese_chars else _clean_alone)
        self._split = _CharacterTable(_split_without_accents if self.strips else _split)

    def __reduce__(self) -> tuple[Any, ...]:
        """Returns how another process recreates it, for pickle."""
        given = self.do_lower_case, self.strip_accents, self.tokenize_chinese_chars
        return BasicTokenizer, given

    def tokenize(self, text: str | bytes) -> list[str]:
        """Returns the words of `text` (str, or bytes in UTF-8) as a list of str."""
        return self.split(self._lowered(text))

    def normalize(self, text: str | bytes) -> str:
        """Returns `text` in the form before it is split at punctuation and white space."""
        text = self._lowered(text)
        return text.translate(_WITHOUT_ACCENTS) if self.strips else text

    def split(self, text: str) -> list[str]:
        """Returns the words of a normalized text, a list of str."""
        return whitespace_tokenize(text.translate(self._split))

    def _lowered(self, text: str | bytes) -> str:
        """Returns `text` cleaned and lower-cased, with accents as separate characters."""
        text = convert_to_unicode(text).translate(self._cleaned)
        if self.do_lower_case:
            text = text.lower()
        return unicodedata.normalize("NFD", text) if self.strips else text


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
        """Returns how another process recreates it, for pickle."""
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
    """A table for `str.translate` that calls `replace` once for each new character."""

    def __init__(self, replace: Callable[[str], str]) -> None:
        super(_CharacterTable, self).__init__()
        self._replace = replace

    def __missing__(self, codepoint: int) -> str:
        self[codepoint] = replacement = self._replace(chr(codepoint))
        return replacement


def _clean(char: str) -> str:
    """Drops control characters, turns white space into a space, puts spaces around CJK."""
    return " %s " % char if _is_cjk(ord(char)) else _clean_alone(char)


def _clean_alone(char: str) -> str:
    """Drops control characters, turns white space into a space."""
    if _is_whitespace(char):
        return " "
    return "" if char in "\0\ufffd" or _is_control(char) else char


def _split(char: str) -> str:
    """Puts spaces around punctuation."""
    return " %s " % char if _is_punctuation(char) else char


def _drop_accent(char: str) -> str:
    """Drops combining marks."""
    return "" if unicodedata.category(char) == "Mn" else char


def _split_without_accents(char: str) -> str:
    """Puts spaces around punctuation and drops combining marks."""
    return _drop_accent(char) and _split(char)


_WITHOUT_ACCENTS = _CharacterTable(_drop_accent)


def _is_whitespace(char: str) -> bool:
    return char in " \t\n\r" or unicodedata.category(char) == "Zs"


def _is_control(char: str) -> bool:
    # Tabs and line ends count as white space.
    return char not in "\t\n\r" and unicodedata.category(char) in ("Cc", "Cf")


def _is_cjk(codepoint: int) -> bool:
    return any(first <= codepoint <= last for first, last in _CJK_BLOCKS)


def _is_punctuation(char: str) -> bool:
    # Every ASCII character counts that is not a letter, digit, space or control: "$" and "^", too.
    if char.isascii():
        return char.isprintable() and not char.isalnum() and char != " "
    return unicodedata.category(char).startswith("P")
