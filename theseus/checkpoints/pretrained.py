"""Reads a pretrained BERT's folder in Google's or Hugging Face's form, or from the hub.

Google        bert_config.json, vocab.txt, bert_model.ckpt*
Hugging Face  config.json, vocab.txt or tokenizer.json, model.safetensors or pytorch_model.bin
"""

import collections
import glob
import os
import re
from typing import Any

from absl import logging

import tokenization
from theseus.checkpoints import hugging_face, weight_checks
from theseus.checkpoints.tokenizer_files import BERTS_OWN, TokenizerFiles
from theseus.errors import UserError, first_line
from theseus.model.bert_config import BertConfig

Model = collections.namedtuple("Model", "config vocab_file")
"""A BERT's shape and vocabulary: a modeling_theseus.BertConfig, and the path of vocab.txt
or of tokenizer.json."""

# owner/name, optionally with @ and a branch, a tag or a commit.
_HUB_NAME = re.compile(r"(\w[\w.-]*/\w[\w.-]*)(?:@(\w[\w./-]*))?\Z")
_CONFIGS = ("bert_config.json", "config.json")
_SMALL_FILES = ["config.json", "vocab.txt", "tokenizer.json", "tokenizer_config.json"]
_SMALL_FILES += ["added_tokens.json", "special_tokens_map.json"]
_SAFETENSORS = ["model.safetensors", "model-*.safetensors", "model.safetensors.index.json"]
_TORCH = ["pytorch_model.bin", "pytorch_model-*.bin", "pytorch_model.bin.index.json"]


def local_folder(name: str, needs_weights: bool = True, flag: str = "bert_pretrained_model") -> str:
    """Returns the folder that --bert_pretrained_model means.

    Args:
      name: a folder; or, if no such path exists, `owner/model` or `owner/model@revision`: a
        model of the Hugging Face hub, which is downloaded unless the hub's cache has it. The
        revision is a branch, a tag or a commit. Default: the default branch.
      needs_weights: bool; False: the config and the vocabulary are enough.
      flag: str, the flag that a message should name.

    Raises:
      UserError: it is neither, or the download failed.
    """
    if os.path.isdir(name):
        return name
    hub_name = _HUB_NAME.match(name)
    if os.path.exists(name) or not hub_name:
        raise UserError(
            "--%s: %s is not a folder; give a BERT's folder, or owner/name of the Hugging Face hub"
            % (flag, name)
        )
    hub_id, revision = hub_name.groups()
    folder = _download(hub_id, revision, _SMALL_FILES, flag)
    commit = hub_commit(folder)
    if commit:
        logging.info("--%s: using %s at commit %s", flag, name, commit)
    read_config(folder)  # Refuses another architecture before its weights are downloaded,
    if flag != "suc_init":  # and another tokenizer.
        TokenizerFiles(folder).check_other()
    for patterns in (_SAFETENSORS, _TORCH) if needs_weights else ():
        folder = _download(hub_id, commit or revision, patterns, flag)
        if hugging_face.find_weights(folder):
            break
    return folder


def is_hub_id(name: str) -> bool:
    """Returns whether a name has the form of a hub's model: owner/name or owner/name@revision."""
    return _HUB_NAME.match(name) is not None


def local_checkpoint(path, flag):
    """Returns the folder or the checkpoint's prefix that a flag means; see `local_folder`."""
    is_prefix = os.path.exists(path + ".index")
    return path if is_prefix else local_folder(path, flag=flag)


def folder_of_files(path, bert=None):
    """Returns the folder with the config and the vocabulary of a checkpoint.

    Args:
      path: the folder of the checkpoint, or its prefix.
      bert: a folder, or owner/name, that has them if they are not beside the checkpoint, as in
        an output folder of google-research/bert; or None.
    """
    folder = path if os.path.isdir(path) else os.path.dirname(path)
    if bert is None or _first_existing(folder, _CONFIGS):
        return folder
    return local_folder(bert, needs_weights=False)


def hub_commit(folder):
    """Returns the commit, str, of a model in the hub's cache; None for any other folder."""
    parent, name = os.path.split(os.path.abspath(folder))
    return name if os.path.basename(parent) == "snapshots" else None


def _download(hub_id, revision, patterns, flag):
    """Downloads the files of a hub's model that match the patterns; returns their folder."""
    name = "%s@%s" % (hub_id, revision) if revision else hub_id
    absent = "--%s: there is no folder %s, and the Hugging Face hub" % (flag, name)
    hub = hugging_face.import_optional("huggingface_hub", absent)
    try:
        return hub.snapshot_download(hub_id, revision=revision, allow_patterns=patterns)
    except Exception as error:  # The exceptions differ between versions, and httpx adds its own.
        reason = first_line(error) or type(error).__name__
        page = "%s/tree/%s" % (hub_id, revision) if revision else hub_id
        raise UserError(
            "%s did not provide it: %s; to download it by hand, put config.json, vocab.txt, "
            "and model.safetensors or pytorch_model.bin of https://huggingface.co/%s into a "
            "folder, and give that folder" % (absent, reason, page)
        )


def read_config(folder: str) -> Any:
    """Reads the BertConfig of a pretrained BERT's or a stage's folder.

    Raises:
      UserError: there is none, or it is damaged, or it describes another architecture.
    """
    names = list(_CONFIGS)
    if not glob.glob(os.path.join(glob.escape(folder), "bert_model.ckpt*.index")):
        names.reverse()  # A Hugging Face folder; some also have a copy with Google's name.
    path = _first_existing(folder, names)
    if path is None:
        raise UserError(
            "%s: expected bert_config.json or config.json, found neither; give a BERT's folder"
            % folder
        )
    return BertConfig.from_json_file(path)


def holds_config(folder: str) -> bool:
    """Returns whether a folder has a BERT's config, which `read_config` reads."""
    return any(os.path.exists(os.path.join(folder, name)) for name in _CONFIGS)


def find_vocab(folder):
    """Returns the path of a folder's vocab.txt, or else of its tokenizer.json.

    Raises:
      UserError: it has neither.
    """
    path = _first_existing(folder, ["vocab.txt", "tokenizer.json"])
    if path is None:
        message = "%s: expected vocab.txt or tokenizer.json, found neither" % folder
        other = _first_existing(folder, _OTHER_VOCABULARIES)
        if other:
            name = os.path.basename(other)
            message += "; its %s belongs to another tokenizer than BERT's WordPiece" % name
        else:
            message += "; copy there the one that the model was trained with"
        raise UserError(message)
    return path


_OTHER_VOCABULARIES = ("spiece.model", "sentencepiece.bpe.model", "tokenizer.model", "vocab.json")

# The shares of words with capitals from which a vocabulary counts as cased, or as uncased. In
# Google's cased vocabularies it is a third, in the uncased and the Chinese ones below 0.001.
_CASED_SHARE, _UNCASED_SHARE = 0.05, 0.005

Case = collections.namedtuple("Case", "is_lowered reason warning")
"""Whether a BERT's texts are lower-cased.

Fields:
  is_lowered: bool.
  reason: str, what decided it.
  warning: str, evidence against it, or how this program differs from the model's own tokenizer;
    or None.
"""


def find_tokenizer(folder, do_lower_case=None):
    """Reads the tokenizer's settings from a pretrained BERT's folder.

    Args:
      folder: a pretrained BERT's folder.
      do_lower_case: bool, the user's choice; None if there is none.

    Returns:
      (TokenizerSettings, Case, TokenizerFiles).

    Raises:
      UserError: the tokenizer is not BERT's, or a file cannot be read, or vocab.txt and
        tokenizer.json hold different vocabularies.
    """
    files = TokenizerFiles(folder)
    files.check_other()
    case = find_case(folder, do_lower_case, files)
    path = find_vocab(folder)
    vocab = tokenization.load_vocab(path)
    settings = files.settings(case.is_lowered, vocab)
    if path != files.path("tokenizer.json"):
        _check_vocabularies(files, vocab, settings.added_tokens)
    return settings, case, files


def _check_vocabularies(files, vocab, added_tokens):
    """Raises UserError if tokenizer.json holds another vocabulary than vocab.txt.

    Then it is unknown which one the BERT was trained with: this program reads vocab.txt,
    transformers tokenizer.json. Added tokens may be in either.

    Args:
      files: the TokenizerFiles.
      vocab: vocab.txt's mapping from token to id.
      added_tokens: list of tokenization.AddedToken.
    """
    path, held = files.path("tokenizer.json"), files.held("tokenizer.json")
    if not isinstance(held.get("model"), dict) or "vocab" not in held["model"]:
        return
    added = {token.content: token.id for token in added_tokens}
    listed = held.get("added_tokens") or ()
    own = {token["content"]: token["id"] for token in listed if token["content"] in BERTS_OWN}
    here, there = {**added, **vocab}, {**added, **own, **tokenization.load_vocab(path)}
    differing = (token for token in {**here, **there} if here.get(token) != there.get(token))
    for token in filter(None, differing):  # A blank line is no token.
        ids = ascii(token)[1:-1], there.get(token, "none"), here.get(token, "none")
        raise UserError(
            "%s: its vocabulary differs from vocab.txt: the id of the token %s is %s, in "
            "vocab.txt %s; remove the file that the BERT was not trained with" % ((path,) + ids)
        )


def find_case(folder, given=None, files=None):
    """Finds out whether a pretrained BERT expects lower-cased texts.

    The tokenizer's files decide, and without them the vocabulary. The files do not count if they
    keep capitals that the vocabulary lacks, as those of bert-base-chinese do: each word with a
    capital would become [UNK].

    Args:
      folder: a pretrained BERT's folder.
      given: bool, the user's choice, which always counts; None if there is none.
      files: its TokenizerFiles; None: they are read.

    Returns:
      A Case.

    Raises:
      UserError: the folder has no vocabulary, or it cannot be read.
    """
    path, says = (files or TokenizerFiles(folder)).says("do_lower_case")
    vocab_file = find_vocab(folder)
    words, capitals = _capital_shares(tokenization.load_vocab(vocab_file))
    said = "%s says do_lower_case = %s" % (path, str(says).lower())
    has = "%.1f%% of the words of %s have capitals" % (100 * words, vocab_file)
    if says is None:
        case = Case(words < _CASED_SHARE, has, None)
    elif not says and capitals is not None and capitals < _UNCASED_SHARE:
        case = Case(True, has, "%s, but %s: cased words would become [UNK]" % (said, has))
    elif says and words >= _CASED_SHARE:
        case = Case(True, said, "%s, but %s, which lower-cased texts never match" % (said, has))
    else:
        case = Case(says, said, None)
    if given in (None, case.is_lowered):
        return case
    warning = "%s, but this run has --do_lower_case=%s" % (case.reason, str(given).lower())
    return Case(given, "--do_lower_case", warning)


def log_tokenizer(folder, settings, case):
    """Logs how the TokenizerSettings of a pretrained BERT's folder treat texts, and its Case."""
    logging.info("texts are %s: %s", _describe_case(settings), case.reason)
    if case.warning:
        logging.warning("%s", case.warning)
    for line in _describe_others(settings):
        logging.info("%s: %s", folder, line)


def _describe_case(settings):
    """Returns a text on how TokenizerSettings treat case and accents, str."""
    if settings.strip_accents is None and not settings.do_lower_case:
        return "not lower-cased"
    case = "lower-cased" if settings.do_lower_case else "not lower-cased"
    accents = "kept" if settings.strip_accents is False else "stripped"
    return "%s, and their accents are %s" % (case, accents)


def _describe_others(settings):
    """Returns log lines, list of str, about other TokenizerSettings that are not BERT's."""
    found = []
    if not settings.tokenize_chinese_chars:
        found.append("Chinese characters are not separated (tokenize_chinese_chars)")
    if settings.added_tokens:
        shown = ", ".join(ascii(token.content)[1:-1] for token in settings.added_tokens[:3])
        found.append(
            "%d added tokens are never split, such as %s" % (len(settings.added_tokens), shown)
        )
    return found


def _capital_shares(vocab):
    """Returns the shares of a vocabulary's tokens that have capitals.

    Returns:
      (share, share): among the words, that is tokens with at least two letters that have a case,
      0 if there are none; and among all tokens with such a letter, None if there are none.
    """
    tokens = [token for token in vocab if not re.match(r"[\[<].*[\]>]$", token)]
    cased = [token for token in tokens if token.lower() != token.upper()]
    words = [token for token in cased if sum(c.lower() != c.upper() for c in token) > 1]
    shares = [
        sum(token != token.lower() for token in some) / len(some) if some else None
        for some in (words, cased)
    ]
    return shares[0] or 0.0, shares[1]


def _first_existing(folder, names):
    paths = (os.path.join(folder, name) for name in names)
    path = next(filter(os.path.exists, paths), None)
    if path:
        weight_checks.check_link(path)
    return path


def read_model(folder, max_seq_length):
    """Reads the Model that a pretrained BERT's or a stage's folder holds."""
    config = read_config(folder)
    if max_seq_length > config.max_position_embeddings:
        raise UserError(
            "--max_seq_length=%d: %s has %d positions; give at most that many"
            % (max_seq_length, folder, config.max_position_embeddings)
        )
    return Model(config, find_vocab(folder))


def vocab_warnings(model, added_tokens=()):
    """Returns warnings about a Model's vocabulary that is odd but can be used, list of str.

    Args:
      model: the Model.
      added_tokens: list of tokenization.AddedToken.
    """
    tokens = [line.strip() for line in tokenization.read_vocab(model.vocab_file).split("\n")]
    tokens = tokens[: tokenization.count_tokens(tokens)]
    counts = collections.Counter(tokens)
    blank = counts.pop("", 0)
    twice = [ascii(token)[1:-1] for token, count in counts.items() if count > 1]
    rows, warnings = model.config.vocab_size, []
    if twice:
        some = "the token %s occurs twice" % twice[0]
        if len(twice) > 1:
            some = "%d tokens occur twice, such as %s" % (len(twice), twice[0])
        warnings.append(some + "; the last id of a token counts, as in BERT")
    if blank:
        lines = "one of its lines is" if blank == 1 else "%d of its lines are" % blank
        warnings.append("%s blank; blank lines are never used as tokens" % lines)
    if tokens[:1] != ["[PAD]"]:
        warnings.append(
            "its first token is not [PAD]; padding uses id 0 nevertheless, and is masked"
        )
    count = len(tokens) + sum(token.id >= len(tokens) for token in added_tokens)
    if count < rows:
        message = "holds %d tokens, the BERT's embedding table %d rows; the extra rows are unused"
        warnings.append(message % (count, rows))
    return ["%s: %s" % (model.vocab_file, warning) for warning in warnings]


def read_tokenizer(vocab_file, settings):
    """Returns the FullTokenizer of a vocabulary; UserError if it is not a BERT's.

    Args:
      vocab_file: the vocabulary's path.
      settings: a TokenizerSettings.
    """
    tokenizer = settings.make(vocab_file)
    absent = [token for token in ("[CLS]", "[SEP]", "[UNK]") if token not in tokenizer.vocab]
    if absent:
        raise UserError("%s: holds no %s" % (vocab_file, ", ".join(absent)))
    return tokenizer


def make_tokenizer(model, settings):
    """Returns the FullTokenizer of a Model; UserError if the vocabulary does not match."""
    tokenizer, rows = read_tokenizer(model.vocab_file, settings), model.config.vocab_size
    wordpieces = max(tokenizer.wordpiece_tokenizer.vocab.values())
    if wordpieces >= rows:
        raise UserError(
            "%s: holds %d tokens, the BERT's embedding table only %d rows; give the BERT's own "
            "vocabulary" % (model.vocab_file, wordpieces + 1, rows)
        )
    for token in tokenizer.added_tokens:
        if token.id >= rows:
            folder, content = os.path.dirname(model.vocab_file), ascii(token.content)[1:-1]
            raise UserError(
                "%s: the added token %s has the id %d, but the BERT's embedding table has %d "
                "rows; save the model with rows for its added tokens (resize_token_embeddings)"
                % (folder, content, token.id, rows)
            )
    return tokenizer
